"""A full backing file system: the writer is told, nothing that stood is lost, and space that returns is used.

ext4 allocates ahead what the journal will put in place. ext2 can't (its fallocate is missing), so that a ballast
file stands in.
"""

import contextlib
import errno
import os
import random

import pytest

import harness
from diskbox import make_image, mounted_image

IMAGE_BYTES = 220 << 20
CHUNK = 4096


def chunk(number, version):
    return random.Random(number * 1000003 + version).randbytes(CHUNK)


def write_until_full(path):
    """Appends chunks, each synced with some others, until one is refused; returns how many are durable."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    durable = number = 0
    try:
        while True:
            os.write(fd, b"".join(chunk(number + i, 0) for i in range(256)))
            number += 256
            os.fsync(fd)
            durable = number
    except OSError as e:
        assert e.errno == errno.ENOSPC
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)
    return durable


def overwrite(path, count, version):
    """Overwrites some chunks in place; a refused write leaves the old or the new content. Returns what is
    known: number -> versions it may have."""
    known = {}
    fd = os.open(path, os.O_RDWR)
    try:
        for number in random.Random(version).sample(range(count), 400):
            try:
                os.pwrite(fd, chunk(number, version), number * CHUNK)
                known[number] = (0, version)
            except OSError as e:
                assert e.errno == errno.ENOSPC
                known[number] = (0, version)
        with contextlib.suppress(OSError):
            os.fsync(fd)
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)
    return known


def check(path, count, known):
    with open(path, "rb") as f:
        for number in range(count):
            data = f.read(CHUNK)
            assert data in [chunk(number, v) for v in known.get(number, (0,))], f"chunk {number}"


@pytest.mark.parametrize("kind", ["ext4", "ext2"])
def test_full_disk(keyd, workdir, kind):
    image = workdir / f"{kind}.img"
    make_image(image, kind, IMAGE_BYTES)
    with mounted_image(image, workdir / "disk") as disk:
        volume = harness.Volume(keyd, disk / "vol")
        volume.passfile = workdir / "pass"
        volume.recovery = workdir / "recovery"
        volume.create()
        with volume.mount(workdir / "mnt", options="writethrough") as m:
            ballast = (volume.path / "latchfs.tmp.ballast").exists()
            assert ballast == (kind == "ext2")
            (m / "other").write_bytes(b"stands" * 1000)
            os.sync()
            durable = write_until_full(m / "big")
            assert durable > 1000
            known = overwrite(m / "big", durable, 7)
            check(m / "big", durable, known)
            assert (m / "other").read_bytes() == b"stands" * 1000
        with volume.mount(workdir / "mnt2", options="writethrough") as m:
            check(m / "big", durable, known)
            assert (m / "other").read_bytes() == b"stands" * 1000
            os.unlink(m / "big")
            os.sync()
            harness.wait_until(lambda: try_write(m / "after"), what="space to return")
            assert (m / "after").read_bytes() == b"again" * 20000
        assert not (volume.path / "latchfs.tmp.ballast").exists()


def try_write(path):
    try:
        path.write_bytes(b"again" * 20000)
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        return True
    except OSError as e:
        assert e.errno == errno.ENOSPC
        return False
