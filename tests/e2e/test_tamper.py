"""What was changed in the ciphertext is refused, and nothing else is: through a mount. tests/tamper has every kind of
change, through the store."""

import errno
import mmap
import os

import pytest

from fsbox import PLAIN
from syscalls import errno_of, in_child, opened, pattern, read_file, write_file
from volumes import CHUNK, SIZES, fill, mounts_of

pytest_plugins = ["fsbox"]
pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")


def backing_of(volume, m, name):
    """The backing file of a plaintext name: inode numbers are the same."""
    ino = os.lstat(m / name).st_ino
    return next(p for p in volume.path.rglob("*") if os.lstat(p).st_ino == ino and not p.name.startswith("latchfs."))


def flipped(path, offset):
    data = bytearray(read_file(path))
    data[offset] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("offset", [0, 40, 300])
def test_damaged_header(volume, offset):
    """EIO for that file, and for no other."""
    with volume.mount() as m:
        fill(m.path)
        backing = backing_of(volume, m, f"random{500 * CHUNK + 17}")
        m.umount().ok()
        original = read_file(backing)
        flipped(backing, offset)
        m.mount().ok()
        assert errno_of(read_file, m / f"random{500 * CHUNK + 17}") == errno.EIO
        assert errno_of(os.truncate, m / f"random{500 * CHUNK + 17}", 5) == errno.EIO
        assert read_file(m / "random4096") == pattern(4096, 4096)
        assert len(os.listdir(m.path)) == 2 * len(SIZES) + 5
        if offset > 15:  # before that: magic, version, suite, flags
            assert mounts_of(volume)[0]["auth_failures"] > 0
        m.umount().ok()
        backing.write_bytes(original)
        m.mount().ok()
        assert read_file(m / f"random{500 * CHUNK + 17}") == pattern(500 * CHUNK + 17, 500 * CHUNK + 17)


def test_damaged_header_can_be_removed(volume):
    with volume.mount() as m:
        write_file(m / "f", pattern(1, 100000))
        backing = backing_of(volume, m, "f")
        m.umount().ok()
        flipped(backing, 20)
        m.mount().ok()
        assert errno_of(read_file, m / "f") == errno.EIO
        os.stat(m / "f")
        os.rename(m / "f", m / "g")
        os.unlink(m / "g")
        assert os.listdir(m.path) == []


@pytest.mark.parametrize("chunk", [60, 112])
def test_damaged_chunk(volume, chunk):
    """Only what lies in that chunk is lost."""
    size = 400 * CHUNK
    with volume.mount() as m:
        write_file(m / "f", pattern(1, size))
        backing = backing_of(volume, m, "f")
        m.umount().ok()
        page = 1 + chunk if chunk < 112 else 113 + (chunk - 112) // 128 * 129 + 1 + (chunk - 112) % 128
        flipped(backing, page * CHUNK + 1000)
        m.mount().ok()
        with opened(m / "f", os.O_RDONLY) as fd:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            bad = [c for c in range(400) if errno_of(os.pread, fd, CHUNK, c * CHUNK) == errno.EIO]
            assert bad == [chunk]
            for c in range(400):
                if c != chunk:
                    assert os.pread(fd, CHUNK, c * CHUNK) == pattern(1, size)[c * CHUNK:(c + 1) * CHUNK]
        with opened(m / "f", os.O_RDWR) as fd:
            os.pwrite(fd, pattern(2, CHUNK), chunk * CHUNK)
            os.fsync(fd)
            assert os.pread(fd, CHUNK, chunk * CHUNK) == pattern(2, CHUNK)


def test_files_swapped_between_directories(volume):
    """A ciphertext name is bound to its directory: moved elsewhere by hand, it does not appear there."""
    with volume.mount() as m:
        for d in ("one", "two"):
            os.mkdir(m / d)
            write_file(m / d / "same", d.encode())
        os.symlink("target", m / "one/link")
        one, two, link = (backing_of(volume, m, n) for n in ("one/same", "two/same", "one/link"))
        sub = backing_of(volume, m, "two")
        m.umount().ok()
        assert one.name != two.name
        os.rename(one, sub / one.name)
        os.rename(link, sub / link.name)
        m.mount().ok()
        assert os.listdir(m / "two") == ["same"]
        assert read_file(m / "two/same") == b"two"
        assert os.listdir(m / "one") == []
        assert mounts_of(volume)[0]["auth_failures"] > 0


def test_directory_moved_by_hand(volume):
    """Its record names its parent: found under another, it is refused."""
    with volume.mount() as m:
        os.makedirs(m / "one/sub")
        os.makedirs(m / "two/sub")
        write_file(m / "one/sub/f", b"x")
        write_file(m / "two/sub/g", b"y")
        one, two = (backing_of(volume, m, f"{d}/sub") for d in ("one", "two"))
        m.umount().ok()
        os.rename(one, one.with_name("aside"))
        os.rename(two, one)
        os.rename(one.with_name("aside"), two)
        m.mount().ok()
        for d in ("one", "two"):
            assert errno_of(os.listdir, m / d / "sub") == errno.EIO


def test_reading_a_damaged_page_by_mapping(volume):
    with volume.mount() as m:
        write_file(m / "f", pattern(1, 10 * CHUNK))
        backing = backing_of(volume, m, "f")
        m.umount().ok()
        flipped(backing, 5 * CHUNK)
        m.mount().ok()

        def touch():
            with opened(m / "f", os.O_RDONLY) as fd, mmap.mmap(fd, 10 * CHUNK, prot=mmap.PROT_READ) as mapped:
                return len(mapped[4 * CHUNK:5 * CHUNK])

        with pytest.raises(AssertionError, match="said nothing"):
            in_child(touch)
        assert m.is_mounted()
