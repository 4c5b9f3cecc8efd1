"""Holes and space: fallocate, SEEK_DATA and SEEK_HOLE, sparse files, sync, statfs."""

import errno
import os
import subprocess

import pytest

from syscalls import (FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_ZERO_RANGE,
                      disk_bytes, errno_of, fallocate, opened, pattern, read_file, syncfs, write_file)

pytest_plugins = ["fsbox"]

CHUNK = 4096
PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE


def test_allocate_grows(fs):
    for before in (0, 1, 3584, 4097):
        for offset, length in ((0, 1), (0, 5000), (3000, 3000), (1 << 20, 1)):
            path = fs / f"{before}-{offset}-{length}"
            write_file(path, pattern(before, before))
            with opened(path, os.O_RDWR) as fd:
                fallocate(fd, 0, offset, length)
                size = max(before, offset + length)
                assert os.fstat(fd).st_size == size
    fs.remount()
    for name in os.listdir(fs.dir):
        before, offset, length = map(int, name.split("-"))
        size = max(before, offset + length)
        assert read_file(fs / name) == pattern(before, before) + bytes(size - before), name


def test_allocate_keep_size(fs):
    for before in (0, 100, 5000):
        write_file(fs / f"{before}", pattern(before, before))
        with opened(fs / f"{before}", os.O_RDWR) as fd:
            fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1 << 20)
            assert os.fstat(fd).st_size == before
    fs.remount()
    for before in (0, 100, 5000):
        assert read_file(fs / f"{before}") == pattern(before, before)
        with opened(fs / f"{before}", os.O_RDWR | os.O_APPEND) as fd:
            os.write(fd, b"then more")
        assert read_file(fs / f"{before}") == pattern(before, before) + b"then more"


def test_posix_fallocate_then_write(fs):
    with opened(fs / "a", os.O_RDWR | os.O_CREAT) as fd:
        os.posix_fallocate(fd, 0, 3 << 20)
        os.pwrite(fd, b"x" * 5000, 2 << 20)
    fs.remount()
    want = bytearray(3 << 20)
    want[2 << 20:(2 << 20) + 5000] = b"x" * 5000
    assert read_file(fs / "a") == want


RANGES = [(0, 1), (0, 3584), (0, CHUNK), (1, CHUNK), (100, 100), (CHUNK - 1, 2), (CHUNK, CHUNK),
          (5000, 20000), (111 * CHUNK, 2 * CHUNK), (112 * CHUNK - 7, 14), (100 * CHUNK, 200 * CHUNK),
          (0, 400 * CHUNK), (299 * CHUNK, 2 * CHUNK), (300 * CHUNK, 5)]


@pytest.mark.parametrize("mode", [PUNCH, FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE])
@pytest.mark.parametrize("size", [2000, 300 * CHUNK - 100])
def test_punch_and_zero(fs, mode, size):
    def expected(offset, length):
        want = bytearray(pattern(size, size))
        if mode == FALLOC_FL_ZERO_RANGE and offset + length > size:
            want += bytes(offset + length - size)
        end = min(offset + length, len(want))
        if end > offset:
            want[offset:end] = bytes(end - offset)
        return want

    for offset, length in RANGES:
        path = fs / f"{offset}-{length}"
        write_file(path, pattern(size, size))
        with opened(path, os.O_RDWR) as fd:
            fallocate(fd, mode, offset, length)
        assert read_file(path) == expected(offset, length), (offset, length)
    fs.remount()
    for offset, length in RANGES:
        assert read_file(fs / f"{offset}-{length}") == expected(offset, length), (offset, length)
        with opened(fs / f"{offset}-{length}", os.O_RDWR) as fd:
            os.pwrite(fd, b"again", offset)
            assert os.pread(fd, 5, offset) == b"again"


def test_fallocate_errors(fs):
    write_file(fs / "a", b"x")
    with opened(fs / "a", os.O_RDWR) as fd:
        assert errno_of(fallocate, fd, 0, 0, 0) == errno.EINVAL
        assert errno_of(fallocate, fd, 0, -1, 5) == errno.EINVAL
        assert errno_of(fallocate, fd, FALLOC_FL_PUNCH_HOLE, 0, 5) == errno.EOPNOTSUPP
        # No filesystem but ext4 and XFS collapses; a plain control may.
        assert errno_of(fallocate, fd, FALLOC_FL_COLLAPSE_RANGE, 0, 5) in (errno.EOPNOTSUPP, errno.EINVAL)
    with opened(fs / "a", os.O_RDONLY) as fd:
        assert errno_of(fallocate, fd, 0, 0, 5) == errno.EBADF
    assert read_file(fs / "a") == b"x"


def test_holes_are_holes_on_disk(fs):
    box = fs.box
    syncfs(fs.dir)
    before = disk_bytes(box.backing)
    with opened(fs / "far", os.O_RDWR | os.O_CREAT) as fd:
        os.pwrite(fd, b"x", 1 << 30)
    with opened(fs / "grown", os.O_RDWR | os.O_CREAT) as fd:
        os.ftruncate(fd, 1 << 32)
    write_file(fs / "punched", pattern(1, 8 << 20))
    fs.remount()
    full = disk_bytes(box.backing) - before
    assert 8 << 20 <= full < 10 << 20
    with opened(fs / "punched", os.O_RDWR) as fd:
        fallocate(fd, PUNCH, 1 << 20, 6 << 20)
    fs.remount()
    assert disk_bytes(box.backing) - before < 4 << 20
    assert os.stat(fs / "punched").st_size == 8 << 20


def test_zeros_cut_off_are_freed(fs):
    syncfs(fs.dir)
    before = disk_bytes(fs.box.backing)
    write_file(fs / "a", pattern(1, 8 << 20))
    fs.remount()
    os.truncate(fs / "a", 10)
    fs.remount()
    assert disk_bytes(fs.box.backing) - before < 1 << 20
    assert read_file(fs / "a") == pattern(1, 8 << 20)[:10]


def test_blocks_follow_what_is_written(fs):
    write_file(fs / "a", pattern(1, 1 << 20))
    with opened(fs / "b", os.O_RDWR | os.O_CREAT) as fd:
        os.ftruncate(fd, 1 << 20)
    fs.remount()
    assert 1 << 20 <= os.stat(fs / "a").st_blocks * 512 <= (1 << 20) + 65536
    assert os.stat(fs / "b").st_blocks * 512 <= 65536


def seek_map(path):
    """(kind, start) of each stretch as lseek tells it."""
    out, at = [], 0
    with opened(path, os.O_RDONLY) as fd:
        size = os.fstat(fd).st_size
        while at < size:
            try:
                data = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as e:
                assert e.errno == errno.ENXIO
                break
            hole = os.lseek(fd, data, os.SEEK_HOLE)
            assert data < hole <= size
            out.append((data, hole))
            at = hole
        assert errno_of(os.lseek, fd, size, os.SEEK_DATA) == errno.ENXIO
        assert errno_of(os.lseek, fd, size, os.SEEK_HOLE) == errno.ENXIO
    return out


def test_seek_data_and_hole(fs):
    """Every byte that is not zero lies in a data stretch. Under the writeback cache all is data (the daemon
    does not know the dirty pages); without it, holes of whole chunks are seen."""
    with opened(fs / "a", os.O_RDWR | os.O_CREAT) as fd:
        os.pwrite(fd, b"A" * CHUNK, 0)
        os.pwrite(fd, b"B" * CHUNK, 200 * CHUNK)
        os.ftruncate(fd, 400 * CHUNK)
    write_file(fs / "full", pattern(1, 10 * CHUNK + 3))
    write_file(fs / "small", b"tiny")
    write_file(fs / "none", b"")
    for fresh in (False, True):
        if fresh:
            fs.remount()
        stretches = seek_map(fs / "a")
        for at in (0, 200 * CHUNK, 200 * CHUNK + 4095):
            assert any(s <= at < e for s, e in stretches), (fresh, stretches)
        assert seek_map(fs / "full") == [(0, 10 * CHUNK + 3)]
        assert seek_map(fs / "small") == [(0, 4)]
        assert seek_map(fs / "none") == []
        if fs.box.plain or not fs.box.writeback:
            assert stretches == [(0, CHUNK), (200 * CHUNK, 201 * CHUNK)]


def test_cp_sparse_keeps_holes(fs):
    with opened(fs / "a", os.O_RDWR | os.O_CREAT) as fd:
        os.pwrite(fd, b"x" * 10000, 64 << 20)
        os.ftruncate(fd, 256 << 20)
    syncfs(fs.dir)
    before = disk_bytes(fs.box.backing)
    subprocess.run(["cp", "--sparse=always", fs / "a", fs / "b"], check=True, timeout=100)
    subprocess.run(["cmp", fs / "a", fs / "b"], check=True, timeout=100)
    fs.remount()
    assert disk_bytes(fs.box.backing) - before < 4 << 20


# ---- sync, statfs ----


def test_syncs(fs):
    with opened(fs / "a", os.O_RDWR | os.O_CREAT) as fd:
        os.fsync(fd)
        os.write(fd, b"data")
        os.fdatasync(fd)
        os.fsync(fd)
    with opened(fs / "a", os.O_RDONLY) as fd:
        os.fsync(fd)
    os.mkdir(fs / "d")
    with opened(fs / "d", os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.fsync(fd)
        os.fdatasync(fd)
    syncfs(fs.dir)
    os.sync()
    assert read_file(fs / "a") == b"data"


def test_fsync_of_removed_things(fs):
    os.mkdir(fs / "d")
    with opened(fs / "d", os.O_RDONLY | os.O_DIRECTORY) as d, opened(fs / "d/f", os.O_RDWR | os.O_CREAT) as f:
        os.write(f, b"x" * 9000)
        os.unlink(fs / "d/f")
        os.rmdir(fs / "d")
        os.fsync(f)
        os.fsync(d)
        assert os.listdir(d) == []
        assert errno_of(os.open, "new", os.O_CREAT | os.O_RDWR, dir_fd=d) == errno.ENOENT


def test_statfs(fs):
    st, below = os.statvfs(fs.dir), os.statvfs(fs.box.backing)
    assert st.f_namemax == 255
    assert st.f_bsize == below.f_bsize
    assert st.f_blocks * st.f_frsize == below.f_blocks * below.f_frsize
    assert st.f_files == below.f_files
    assert abs(st.f_bavail * st.f_frsize - below.f_bavail * below.f_frsize) < 4 << 30


def test_no_space_reaches_the_writer(fs):
    """More than the disk has: refused, and the file is none the worse."""
    write_file(fs / "a", b"small")
    room = os.statvfs(fs.dir)
    with opened(fs / "a", os.O_RDWR) as fd:
        err = errno_of(fallocate, fd, 0, 0, room.f_blocks * room.f_frsize * 2)
        assert err in (errno.ENOSPC, errno.EFBIG)
    os.truncate(fs / "a", 5)
    fs.remount()
    assert read_file(fs / "a") == b"small"
