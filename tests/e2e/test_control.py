"""The control socket of a mount, byte by byte (latchfs/mountctl.h), and what a mount takes from its caller and tells
latch-keyd."""

import errno
import json
import os
import shutil
import signal
import socket
import struct
import threading
import time

import pytest

import harness
import keylife
from fsbox import PLAIN
from keylife import protect
from syscalls import errno_of, read_file, write_file

pytest_plugins = ["fsbox"]
pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")

STATUS, RESOLVE, PROTECT, DIRS, JOB_START, JOB_STATUS, JOB_STOP = range(1, 8)
NOKEY, UNSUPPORTED, MISUSE, BUSY = -5002, -5003, -5004, -5005
REWRAP, REENCRYPT, SCAN = 1, 2, 3


def socket_of(m):
    directory = "/run/latchfs/mounts" if os.geteuid() == 0 else os.environ["XDG_RUNTIME_DIR"] + "/latchfs/mounts"
    return next(os.path.join(directory, name) for name in os.listdir(directory) if name.endswith(f".{m.pid}.sock"))


def send(m, request):
    """The raw answer; b"" when the connection was ended."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(40)
        s.connect(socket_of(m))
        s.send(request)
        return s.recv(65536)


def path(text):
    return struct.pack("<H", len(text)) + text.encode()


def ask(m, kind, body=b""):
    """(error, body)"""
    answer = send(m, struct.pack("<HH", 1, kind) + body)
    version, answered, error = struct.unpack_from("<HHi", answer)
    assert (version, answered) == (1, kind)
    return error, answer[8:]


def resolve(m, text):
    error, body = ask(m, RESOLVE, path(text))
    return error if error else (body[:16], body[16])


def test_resolve(volume):
    with volume.mount() as m:
        protect(volume, m / "one")
        os.makedirs(m / "one" / "sub")
        os.makedirs(m / "plain" / "d")
        write_file(m / "one" / "sub" / "f", b"")
        root, flags = resolve(m, "")
        assert flags == 1
        one, flags = resolve(m, "one")
        assert flags == 1 and one != root
        assert resolve(m, "one/sub") == resolve(m, "one/sub/f") == (one, 0)
        assert resolve(m, "plain/d") == (root, 0)
        assert resolve(m, "none") == resolve(m, "plain/none/x") == -2
        assert resolve(m, "one/sub/f/x") == -20
        volume.latch("lock", m / "one").ok()
        assert resolve(m, "one") == (one, 3)
        assert resolve(m, "one/sub") == NOKEY
        volume.lock().ok()
        assert resolve(m, "one") == NOKEY


def test_dirs(volume):
    with volume.mount() as m:
        protect(volume, m / "one")
        protect(volume, m / "other")
        volume.latch("lock", m / "one").ok()
        with open(m / "other" / "f", "w"):
            error, body = ask(m, DIRS)
        assert error == 0
        count, = struct.unpack_from("<H", body)
        found = {body[i:i + 16]: struct.unpack_from("<BIIQQ", body, i + 16) for i in range(2, len(body), 41)}
        assert count == len(found) == 3
        locked = found[resolve(m, "one")[0]]
        assert locked[:3] == (1, 0, 0) and locked[4] == 0
        used = found[resolve(m, "other")[0]]
        assert used[:3] == (0, 1, 1) and used[3] > 0 and used[4] == 1


def test_protect_refuses(volume):
    with volume.mount() as m:
        protect(volume, m / "one")
        one = resolve(m, "one")[0]
        os.mkdir(m / "full")
        write_file(m / "full" / "f", b"content")
        write_file(m / "file", b"content")
        assert ask(m, PROTECT, one + path("full"))[0] == -39
        assert ask(m, PROTECT, one + path("file"))[0] == -20
        assert ask(m, PROTECT, one + path("none"))[0] == -2
        assert ask(m, PROTECT, one + path(""))[0] == MISUSE
        assert ask(m, PROTECT, one + path("one"))[0] == MISUSE
        os.mkdir(m / "empty")
        assert ask(m, PROTECT, bytes(range(16)) + path("empty"))[0] == -2, "no such key"
        assert read_file(m / "full" / "f") == b"content"
        assert resolve(m, "empty")[1] == 0


def test_malformed_requests(volume):
    head = lambda kind: struct.pack("<HH", 1, kind)  # noqa: E731
    with volume.mount() as m:
        for raw in (b"", b"\1", head(STATUS) + b"x", head(RESOLVE), head(RESOLVE) + b"\5\0abc", head(RESOLVE) + path("../x"),
                    head(RESOLVE) + path("/etc"), head(RESOLVE) + path("a//b"), head(RESOLVE) + path("a\0b"),
                    head(PROTECT) + bytes(15), head(JOB_START) + bytes([SCAN]) + bytes(24), head(DIRS) + bytes(2), b"\0" * 60000):
            try:
                assert send(m, raw) == b""
            except (ConnectionResetError, BrokenPipeError):
                pass
        assert struct.unpack_from("<HHi", send(m, head(99))) == (1, 99, UNSUPPORTED)
        assert struct.unpack_from("<HHi", send(m, struct.pack("<HH", 2, STATUS)))[2] == UNSUPPORTED
        assert ask(m, STATUS)[0] == 0


def test_jobs(volume):
    def job():
        error, body = ask(m, JOB_STATUS)
        assert error == 0
        return struct.unpack_from("<BBi", body)

    with volume.mount() as m:
        assert job() == (0, 0, 0)
        protect(volume, m / "one")
        one = resolve(m, "one")[0]
        write_file(m / "one" / "f", os.urandom(8 << 20))
        volume.latch("status").ok()
        assert ask(m, JOB_START, bytes([SCAN]) + one + bytes(12))[0] == 0
        harness.wait_until(lambda: not job()[1], what="the scan")
        assert job() == (SCAN, 0, 0)
        assert struct.unpack_from("<Q", ask(m, JOB_STATUS)[1], 22)[0] == 1, "one file"
        assert ask(m, JOB_STOP)[0] == 0


def test_job_wants_a_key_version(volume):
    """A mount with older keys, or none, can't prove that no file has an older header."""
    with volume.mount() as m:
        protect(volume, m / "one")
        one = resolve(m, "one")[0]
        start = lambda version: ask(m, JOB_START, bytes([REWRAP]) + one + struct.pack("<QI", 0, version))[0]  # noqa: E731
        assert start(2) == NOKEY and start(2**32 - 1) == NOKEY
        assert struct.unpack_from("<BB", ask(m, JOB_STATUS)[1]) == (0, 0), "it was started"
        assert start(1) == 0
        harness.wait_until(lambda: not struct.unpack_from("<xB", ask(m, JOB_STATUS)[1])[0], what="the job")
        volume.latch("lock", m / "one").ok()
        assert start(1) == NOKEY


def test_one_job_at_a_time_and_a_lock_stops_it(volume):
    """A re-encryption that would take days."""
    with volume.mount() as m:
        protect(volume, m / "one")
        one = resolve(m, "one")[0]
        write_file(m / "one" / "f", os.urandom(8 << 20))
        rotation = keylife.start(volume, "rotate", "data", "--limit-rate", "1K", m / "one")
        try:
            harness.wait_until(lambda: struct.unpack_from("<BB", ask(m, JOB_STATUS)[1]) == (REENCRYPT, 1), what="the job")
        finally:
            keylife.kill(rotation)
        assert ask(m, JOB_START, bytes([SCAN]) + one + bytes(12))[0] == BUSY
        volume.latch("lock", "--force", m / "one").ok()
        running, result = struct.unpack_from("<xBi", ask(m, JOB_STATUS)[1])
        assert not running and result < 0
        volume.latch("unlock", m / "one").ok()
        assert ask(m, JOB_START, bytes([REENCRYPT]) + one + struct.pack("<QI", 1024, 0))[0] == 0
        assert struct.unpack_from("<BB", ask(m, JOB_STATUS)[1]) == (REENCRYPT, 1)
        # and the unmount does not wait for it


def test_lock_and_unmount_at_once_during_a_job(volume):
    """The mount goes down in good order: the lock looks for the job while the unmount ends it."""
    for round_ in range(4):
        with volume.mount() as m:
            write_file(m / "f", os.urandom(4 << 20))
            root = resolve(m, "")[0]
            assert ask(m, JOB_START, bytes([REENCRYPT]) + root + struct.pack("<QI", 65536, 0))[0] == 0
            lock = threading.Thread(target=lambda: volume.lock("--force"))
            lock.start()
            time.sleep(round_ * 0.05)
            pid = m.pid
            os.kill(pid, signal.SIGTERM)
            lock.join(60)
            assert not lock.is_alive()
            harness.wait_until(lambda: not os.path.exists(f"/proc/{pid}"), what="the daemon's end")
            assert not m.is_mounted()
        volume.unlock().ok()


def test_status_while_keyd_hangs(keyd, volume):
    """One asker waits for keyd, another does not."""
    with volume.mount() as m:
        os.mkdir(m / "d")
        os.kill(keyd.process.pid, signal.SIGSTOP)
        answers = []
        waits = threading.Thread(target=lambda: answers.append(ask(m, PROTECT, bytes(range(16)) + path("d"))[0]))
        try:
            waits.start()
            for _ in range(5):
                assert ask(m, STATUS)[0] == 0
                assert errno_of(os.stat, m / "d") == 0
            waits.join(40)
            assert answers and answers[0] < 0
        finally:
            os.kill(keyd.process.pid, signal.SIGCONT)
            waits.join()


def test_descriptors_of_the_caller_are_closed(volume):
    """Whoever starts a mount from a shell script holding a lock or a pipe does not lend it to the daemon."""
    read, write = os.pipe()
    os.set_inheritable(write, True)
    m = volume.mount()
    volume.unlock().ok()
    m.path.mkdir()
    try:
        harness.run([volume.bins.latchfs, volume.path, m.path], env=volume.keyd.env, pass_fds=[write]).ok()
        os.close(write)
        os.set_blocking(read, False)
        assert os.read(read, 1) == b"", "the daemon holds the other end"
        m.umount().ok()
    finally:
        os.close(read)
        m.force_away()


@pytest.mark.parametrize("way", ["identity", "command"])
def test_unlocked_by_a_mount_option(volume, workdir, way):
    if way == "identity":
        secret = workdir / "officer"
        volume.latch("recipient", "new", secret).ok()
        keylife.admin(volume, "slot", "add", "--new-recipient", f"{secret}.pub", volume.path).ok()
    else:
        secret, place = "plain", volume.keyd.dir / ".config" / "latchfs" / "commands"
        place.mkdir(parents=True, mode=0o700)
        (place / secret).write_text("#!/bin/sh\nexec cat\n")
        (place / secret).chmod(0o700)
        keylife.admin(volume, "slot", "add", "--new-command", secret, volume.path).ok()
    together = workdir / "bin"  # latchfs looks for latch beside itself
    together.mkdir()
    latchfs = shutil.copy(volume.bins.latchfs, together)
    shutil.copy(volume.bins.latch, together)
    m = volume.mount()
    m.path.mkdir()
    try:
        harness.run([latchfs, volume.path, m.path, "-o", f"{way}={secret}"], env=volume.keyd.env).ok()
        write_file(m / "f", b"mounted")
        m.umount().ok()
        volume.lock()
        refused = harness.run([latchfs, volume.path, m.path, "-o", f"{way}={secret}x"], env=volume.keyd.env)
        assert refused.returncode != 0 and not m.is_mounted()
    finally:
        m.force_away()


def test_keyd_hears_of_damage_and_use(volume):
    """At once of damage; of use with it."""
    def told():
        shown = json.loads(volume.latch("status", "--json").ok().out)["keyd"]["volumes"][0]
        return shown["mounts"][0]["auth_failures"], [d.get("last_use", 0) for d in shown["directories"]]

    with volume.mount() as m:
        write_file(m / "f", os.urandom(9000))
    stored, = (p for p in volume.path.iterdir() if not p.name.startswith("latchfs."))
    with open(stored, "r+b") as f:
        f.seek(5000)
        byte = f.read(1)
        f.seek(5000)
        f.write(bytes([byte[0] ^ 1]))
    with volume.mount() as m:
        assert told()[0] == 0
        assert errno_of(read_file, m / "f") == errno.EIO
        harness.wait_until(lambda: told()[0] > 0, what="the report")
        assert told()[1][0] > 0
