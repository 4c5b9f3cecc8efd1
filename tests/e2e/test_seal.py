"""Seals on a real mount: files are sealed when they rest and at unmount, the second reader checks the seals, and
what is not the last state of a sealed file is refused."""

import errno
import os
import random
import shutil
import sys
import time
from pathlib import Path

import pytest

import harness
from syscalls import errno_of, pattern, read_file, write_file
from volumes import CHUNK, mounts_of

READER = Path(__file__).resolve().parent.parent / "reader" / "latchread.py"
GROUP = 128 * CHUNK
SIZES = {"short": 3 * GROUP, "odd": 2 * GROUP + 77, "long": 12 * GROUP}  # long: not checked at open
SEALED, GENERATION = 240, 248  # offsets in the header


def record_offset(chunk):
    if chunk < 112:
        return 512 + 32 * chunk
    group, place = divmod(chunk - 112, 128)
    return CHUNK * (113 + 129 * group) + 32 * place


def data_offset(chunk):
    return CHUNK * (1 + chunk) if chunk < 112 else CHUNK * (114 + chunk - 112 + (chunk - 112) // 128)


def is_sealed(backing):
    return read_at(backing, SEALED, 1) == b"\1"


def generation(backing):
    return int.from_bytes(read_at(backing, GENERATION, 8), "little")


def read_at(path, offset, length):
    with open(path, "rb") as f:
        f.seek(offset)
        return f.read(length)


def write_at(path, offset, data):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(data)


def backing_of(volume, m, name):
    ino = os.lstat(m / name).st_ino
    return next(p for p in volume.path.rglob("*") if os.lstat(p).st_ino == ino)


def fill(volume, m):
    """The files and their backing files by name."""
    for name, size in SIZES.items():
        write_file(m / name, pattern(size, size))
    return {name: backing_of(volume, m, name) for name in SIZES}


def read_volume(volume, out):
    return harness.run([sys.executable, READER, "--passphrase-file", volume.passfile, volume.path, out])


def random_changes(top, rng):
    for name in SIZES:
        with open(top / name, "r+b", buffering=0) as f:
            for _ in range(20):
                f.seek(rng.randrange(SIZES[name]))
                f.write(rng.randbytes(rng.randrange(1, 20000)))
            os.truncate(f.fileno(), rng.randrange(5000, SIZES[name] + GROUP))


def test_sealed_at_unmount(volume, workdir):
    """Through several mounts with changes; the reader checks every seal and reads the same."""
    rng = random.Random(4)
    with volume.mount() as m:
        backing = fill(volume, m)
        write_file(m / "inline", b"i" * 3000)
        inline = backing_of(volume, m, "inline")
        assert not any(is_sealed(b) for b in backing.values())
    for turn in range(3):
        assert all(is_sealed(b) and generation(b) == turn + 1 for b in backing.values())
        assert not is_sealed(inline)
        with volume.mount() as m:
            want = {name: read_file(m / name) for name in SIZES}
        out = workdir / f"out{turn}"
        read_volume(volume, out).ok()
        assert {name: read_file(out / name) for name in SIZES} == want
        with volume.mount() as m:
            random_changes(m.path, rng)


def test_kill_after_a_change(volume, workdir):
    """A change of a sealed file that only the journal has: no false alarm, and sealed again in the end."""
    with volume.mount() as m:
        backing = fill(volume, m)
    with volume.mount() as m:
        for name in SIZES:
            fd = os.open(m / name, os.O_WRONLY)
            os.pwrite(fd, b"changed", GROUP)
            os.pwrite(fd, pattern(9, 400000), SIZES[name])
            os.fsync(fd)
            os.close(fd)
        m.crash()
        m.mount().ok()
        for name, size in SIZES.items():
            body = read_file(m / name)
            assert body[GROUP : GROUP + 7] == b"changed" and body[size:] == pattern(9, 400000)
    assert all(is_sealed(b) for b in backing.values())
    read_volume(volume, workdir / "out").ok()


def zero_record(path, old):
    write_at(path, record_offset(200), bytes(32))


def older_chunk(path, old):
    write_at(path, record_offset(150), read_at(old, record_offset(150), 32))
    write_at(path, data_offset(150), read_at(old, data_offset(150), CHUNK))


def holes_at_the_end(path, old):
    length = os.path.getsize(path)
    os.truncate(path, data_offset(200))
    os.truncate(path, length)
    write_at(path, record_offset(200), bytes(CHUNK - record_offset(200) % CHUNK))


@pytest.mark.parametrize("tamper", [zero_record, older_chunk, holes_at_the_end])
def test_tampered(volume, workdir, tamper):
    """EIO for that file at open, said once in `latch status`, and the reader refuses the volume."""
    with volume.mount() as m:
        backing = fill(volume, m)["short"]
    old = workdir / "old"
    shutil.copy(backing, old)
    with volume.mount() as m:
        with open(m / "short", "r+b") as f:
            f.seek(150 * CHUNK)
            f.write(b"newer")
    good = workdir / "good"
    shutil.copy(backing, good)
    tamper(backing, old)
    with volume.mount() as m:
        assert errno_of(read_file, m / "short") == errno.EIO
        assert errno_of(os.truncate, m / "short", 5) == errno.EIO
        assert read_file(m / "odd") == pattern(SIZES["odd"], SIZES["odd"])
        assert mounts_of(volume)[0]["auth_failures"] > 0
    result = read_volume(volume, workdir / "out")
    assert result.returncode == 1 and "seal" in result.err
    backing.write_bytes(good.read_bytes())
    with volume.mount() as m:
        assert read_file(m / "short")[150 * CHUNK :][:5] == b"newer"


def switches(pid):
    """How often its threads have slept or been put to sleep."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        lines = (task / "status").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return total


def test_idle(volume):
    """Files are sealed while it is mounted. Then the daemon sleeps. The first change opens the seal."""
    with volume.mount(options="seal-seconds=1") as m:
        backing = fill(volume, m)
        harness.wait_until(lambda: all(is_sealed(b) for b in backing.values()), seconds=60, what="the seals")
        harness.wait_until(lambda: mounts_of(volume)[0]["journal_used"] == 0, seconds=60, what="an empty journal")

        def is_quiet():
            before = switches(m.pid)
            time.sleep(1)
            return switches(m.pid) - before < 10

        harness.wait_until(is_quiet, seconds=60, what="a daemon that sleeps")
        fd = os.open(m / "short", os.O_WRONLY)
        os.pwrite(fd, b"changed", 5)
        os.fsync(fd)
        os.close(fd)
        harness.wait_until(lambda: not is_sealed(backing["short"]), seconds=60, what="the seal to open")
        assert generation(backing["short"]) == 1 and is_sealed(backing["long"])
