"""Checks in a mount, by its control socket (latchfs/mountctl.h): start, state, findings, stop."""

import os
import struct
import threading
from pathlib import Path

import pytest

import harness
from fsbox import PLAIN
from keylife import fill_tree, protect
from syscalls import write_file
from test_control import BUSY, NOKEY, ask, path
from volumes import unlock

pytest_plugins = ["fsbox"]
pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")

CHECK_START, CHECK_STATUS, CHECK_FINDINGS, CHECK_STOP = range(12, 16)
CONTENTS, EINTR, ENOENT, BAD_CHUNK, DAMAGE = 1, -4, -2, 19, 2


def start(m, flags=CONTENTS, rate=0, subtree="", resume="", workers=2):
    return ask(m, CHECK_START, struct.pack("<BIQ", flags, workers, rate) + path(subtree) + path(resume))[0]


def state(m):
    """(serial, running, result, progress, position)"""
    error, body = ask(m, CHECK_STATUS)
    assert error == 0
    serial, running, result, *progress = struct.unpack_from("<QBi12Q", body)
    length, = struct.unpack_from("<H", body, 109)
    assert len(body) == 111 + length
    return serial, running, result, progress, body[111:].decode()


def over(m):
    harness.wait_until(lambda: not state(m)[1], what="the check")
    return state(m)


def strings(body, at, count):
    found = []
    for i in range(count):
        if i and not body[at]:
            found.append(None)
            at += 1
            continue
        at += 1 if i else 0
        length, = struct.unpack_from("<H", body, at)
        found.append(body[at + 2:at + 2 + length].decode(errors="surrogateescape"))
        at += 2 + length
    return found, at


def findings(m, after=0):
    """(serial, dropped, first, [(kind, severity, err, offset, length, cipher, plain, repair)])"""
    error, body = ask(m, CHECK_FINDINGS, struct.pack("<Q", after))
    assert error == 0
    serial, dropped, first, count = struct.unpack_from("<QQQH", body)
    found, at = [], 26
    for _ in range(count):
        head = struct.unpack_from("<BBiQQ", body, at)
        texts, at = strings(body, at + 22, 3)
        found.append((*head, *texts))
    assert at == len(body)
    return serial, dropped, first, found


def all_findings(m):
    found, after = [], 0
    while True:
        _, dropped, first, some = findings(m, after)
        assert dropped == 0 and first == after + 1
        if not some:
            return found
        found += some
        after = first + len(some) - 1


def backing(volume, places):
    return [Path(line) for line in volume.latch("path", "--cipher", *places).ok().out.splitlines()]


def flip(file, at):
    with open(file, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 1]))


def test_sound_volume(volume):
    with volume.mount() as m:
        assert state(m) == (0, 0, 0, [0] * 12, "")
        assert findings(m) == (0, 0, 1, [])
        fill_tree(m / "a", 20)
        fill_tree(m / "b", 10)
        assert start(m) == 0
        serial, _, result, progress, _ = over(m)
        assert (serial, result) == (1, 0) and progress[1] == 30 and progress[8] == 0
        assert start(m, subtree="b") == 0
        serial, _, result, progress, _ = over(m)
        assert (serial, result) == (2, 0) and progress[1] == 10
        assert start(m, subtree="none") == ENOENT
        assert start(m, flags=0) == 0
        assert over(m)[:3] == (3, 0, 0)
        with pytest.raises((ConnectionError, struct.error)):
            start(m, flags=2)  # repair: the connection ends


def test_findings(volume):
    """More than one answer holds; asked for piece by piece none is missing."""
    with volume.mount() as m:
        for i in range(150):
            write_file(m / f"file{i:03}", os.urandom(9000))
        files = backing(volume, [m / f"file{i:03}" for i in range(150)])
    for file in files:
        flip(file, 5000)
    with volume.mount() as m:
        assert start(m) == 0
        _, _, result, progress, _ = over(m)
        assert result == 0 and progress[8] >= 150
        found = [f for f in all_findings(m) if f[0] == BAD_CHUNK]
        assert sorted(f[6] for f in found) == [f"file{i:03}" for i in range(150)]
        assert {f[1] for f in found} == {DAMAGE}
        by_name = {f[6]: f for f in found}
        assert by_name["file007"][5] == files[7].name
        assert by_name["file007"][3] == 0 and by_name["file007"][4] >= 4096
        assert findings(m, 10**9)[3] == []
        # a second check begins its own list
        assert start(m, subtree="file001") == 0
        over(m)
        assert {f[6] for f in all_findings(m)} == {"file001"}


def test_stop_and_go_on(volume):
    with volume.mount() as m:
        for i in range(8):
            write_file(m / f"f{i}", os.urandom(1 << 20))
        assert start(m, rate=2 << 20) == 0
        assert start(m) == BUSY
        harness.wait_until(lambda: state(m)[4], what="a position")
        assert ask(m, CHECK_STOP)[0] == 0
        _, _, result, progress, position = over(m)
        assert result == EINTR and 0 < progress[3] < 8 << 20 and position
        assert start(m, resume=position) == 0
        _, _, result, rest, _ = over(m)
        assert result == 0 and 0 < rest[3] < 8 << 20
        assert ask(m, CHECK_STOP)[0] == 0  # of none


@pytest.mark.parametrize("what", ["volume", "directory"])
def test_lock_stops_it(volume, what):
    with volume.mount() as m:
        protect(volume, m / "team")
        write_file(m / "team" / "f", os.urandom(8 << 20))
        write_file(m / "f", os.urandom(8 << 20))
        assert start(m, rate=1 << 20) == 0
        volume.latch("lock", "--force", m / "team" if what == "directory" else volume.path).ok()
        _, running, result, _, _ = state(m)
        assert not running and result == NOKEY
        if what == "volume":
            assert start(m) == NOKEY
            unlock(volume)
        else:
            volume.latch("unlock", m / "team").ok()
        assert start(m) == 0
        assert over(m)[2] == 0


def test_unmount_stops_it(volume):
    with volume.mount() as m:
        write_file(m / "f", os.urandom(8 << 20))
        assert start(m, rate=1024) == 0
        m.umount().ok()


def test_beside_a_freeze(volume):
    """A check only reads."""
    with volume.mount() as m:
        fill_tree(m / "a", 30)
        volume.latch("freeze", m.path).ok()
        assert start(m) == 0
        assert over(m)[2] == 0
        threads = [threading.Thread(target=start, args=(m,)) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(30)
        over(m)
        volume.latch("thaw", m.path).ok()
