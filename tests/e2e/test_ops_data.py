"""Reading, writing and mapping files: every way in, at sizes around every boundary of the format."""

import errno
import mmap
import os
import shutil
import socket
import subprocess

import pytest

from syscalls import (direct_buffer, errno_of, in_child, link_fd, opened, pattern, read_file, write_all,
                      write_file)

pytest_plugins = ["fsbox"]

CHUNK = 4096
INLINE = 3584
SIZES = sorted({0, 1, INLINE - 1, INLINE, INLINE + 1, 2 * CHUNK, 2 * CHUNK + 1, 3 * CHUNK - 1, 3 * CHUNK} | {
    base + d for base in (CHUNK, 112 * CHUNK, 240 * CHUNK, 368 * CHUNK, 1 << 20) for d in (-1, 0, 1)})


# ---- open ----


def test_open_missing(fs):
    assert errno_of(os.open, fs / "no", os.O_RDONLY) == errno.ENOENT
    assert errno_of(os.open, fs / "no", os.O_RDWR | os.O_TRUNC) == errno.ENOENT
    assert errno_of(os.open, fs / "no/file", os.O_RDWR | os.O_CREAT) == errno.ENOENT


def test_create_then_seen_at_once(fs):
    assert not os.path.exists(fs / "a")
    write_file(fs / "a", b"x")
    assert os.listdir(fs.dir) == ["a"]
    os.unlink(fs / "a")
    assert errno_of(os.stat, fs / "a") == errno.ENOENT
    assert os.listdir(fs.dir) == []


def test_open_excl(fs):
    write_file(fs / "a", b"kept", os.O_EXCL)
    assert errno_of(os.open, fs / "a", os.O_CREAT | os.O_EXCL | os.O_RDWR) == errno.EEXIST
    os.symlink("nowhere", fs / "l")
    assert errno_of(os.open, fs / "l", os.O_CREAT | os.O_EXCL | os.O_RDWR) == errno.EEXIST
    assert read_file(fs / "a") == b"kept"


def test_open_trunc(fs):
    for size in (1, INLINE, CHUNK, 300 * CHUNK + 7):
        write_file(fs / "a", pattern(size, size))
        write_file(fs / "a", b"new", os.O_TRUNC)
        assert read_file(fs / "a") == b"new"
    write_file(fs / "a", b"", os.O_TRUNC)
    assert os.stat(fs / "a").st_size == 0
    fs.remount()
    assert read_file(fs / "a") == b""


def test_open_directory_and_links(fs):
    os.mkdir(fs / "d")
    os.symlink("d", fs / "l")
    write_file(fs / "f", b"x")
    assert errno_of(os.open, fs / "d", os.O_RDWR) == errno.EISDIR
    assert errno_of(os.open, fs / "d", os.O_CREAT | os.O_RDWR) == errno.EISDIR
    assert errno_of(os.open, fs / "f", os.O_RDONLY | os.O_DIRECTORY) == errno.ENOTDIR
    assert errno_of(os.open, fs / "f/x", os.O_RDONLY) == errno.ENOTDIR
    assert errno_of(os.open, fs / "l", os.O_RDONLY | os.O_NOFOLLOW) == errno.ELOOP
    with opened(fs / "l", os.O_PATH | os.O_NOFOLLOW) as fd:
        assert os.readlink("", dir_fd=fd) == "d"


def test_open_modes_are_kept(fs):
    write_file(fs / "a", b"data")
    with opened(fs / "a", os.O_RDONLY) as fd:
        assert errno_of(os.write, fd, b"x") == errno.EBADF
        assert errno_of(os.ftruncate, fd, 0) in (errno.EINVAL, errno.EBADF)
    with opened(fs / "a", os.O_WRONLY) as fd:
        assert errno_of(os.read, fd, 1) == errno.EBADF
        os.pwrite(fd, b"D", 0)
    assert read_file(fs / "a") == b"Data"


def test_write_only_handle_fills_a_chunk(fs):
    """The daemon and the kernel read on behalf of a handle that may not read."""
    write_file(fs / "a", pattern(1, 10000))
    with opened(fs / "a", os.O_WRONLY) as fd:
        os.pwrite(fd, b"#", 5000)
    want = bytearray(pattern(1, 10000))
    want[5000:5001] = b"#"
    assert read_file(fs / "a") == want
    fs.remount()
    assert read_file(fs / "a") == want


@pytest.mark.parametrize("flag", ["O_SYNC", "O_DSYNC", "O_NOATIME", "O_NONBLOCK", "O_LARGEFILE", "O_CLOEXEC"])
def test_open_flag(fs, flag):
    with opened(fs / "a", os.O_RDWR | os.O_CREAT | getattr(os, flag)) as fd:
        write_all(fd, pattern(2, 9000))
        assert os.pread(fd, 9000, 0) == pattern(2, 9000)
    fs.remount()
    assert read_file(fs / "a") == pattern(2, 9000)


def test_append(fs):
    write_file(fs / "a", b"one ")
    with opened(fs / "a", os.O_WRONLY | os.O_APPEND) as fd:
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, b"two ")
        with opened(fs / "a", os.O_WRONLY | os.O_APPEND) as other:
            os.write(other, b"three ")
        os.truncate(fs / "a", 4)
        os.write(fd, b"four")
    assert read_file(fs / "a") == b"one four"


def test_append_from_several_processes(fs):
    """No record is lost or torn."""
    with opened(fs / "log", os.O_WRONLY | os.O_CREAT):
        pass
    script = ("import os, sys\nfd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)\n"
              "for i in range(400): os.write(fd, (sys.argv[2] * 60 + '%04d\\n' % i).encode())\n")
    writers = [subprocess.Popen(["/usr/bin/python3", "-c", script, str(fs / "log"), c]) for c in "abc"]
    assert [w.wait(timeout=100) for w in writers] == [0, 0, 0]
    want = sorted(c * 60 + "%04d" % i for c in "abc" for i in range(400))
    assert sorted(read_file(fs / "log").decode().splitlines()) == want
    fs.remount()
    assert sorted(read_file(fs / "log").decode().splitlines()) == want


def test_tmpfile(fs):
    """libfuse before 3.17 does not know the request (opcode 51), so the kernel answers EOPNOTSUPP. Programs
    fall back to a name."""
    try:
        fd = os.open(fs.dir, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as e:
        assert e.errno == errno.EOPNOTSUPP
        return
    try:
        write_all(fd, b"no name")
        assert os.listdir(fs.dir) == []
        link_fd(fd, fs / "named")
    finally:
        os.close(fd)
    assert read_file(fs / "named") == b"no name"


# ---- sizes ----


def written_whole(path, data):
    write_file(path, data)


def written_in_pieces(path, data):
    with opened(path, os.O_WRONLY | os.O_CREAT) as fd:
        for at in range(0, len(data), 7777):
            os.write(fd, data[at:at + 7777])


def written_backwards(path, data):
    with opened(path, os.O_WRONLY | os.O_CREAT) as fd:
        for at in reversed(range(0, len(data), 60001)):
            os.pwrite(fd, data[at:at + 60001], at)


def written_over_longer(path, data):
    write_file(path, b"\xff" * (len(data) + 5000))
    with opened(path, os.O_WRONLY) as fd:
        os.pwrite(fd, data, 0)
        os.ftruncate(fd, len(data))


def written_after_growing(path, data):
    with opened(path, os.O_RDWR | os.O_CREAT) as fd:
        os.ftruncate(fd, len(data))
        os.fsync(fd)
        half = len(data) // 2
        os.pwrite(fd, data[half:], half)
        os.fdatasync(fd)
        os.pwrite(fd, data[:half], 0)


def written_byte_by_byte_at_the_end(path, data):
    with opened(path, os.O_WRONLY | os.O_CREAT) as fd:
        head = max(0, len(data) - 20)
        write_all(fd, data[:head])
        for at in range(head, len(data)):
            os.write(fd, data[at:at + 1])


@pytest.mark.parametrize("way", [written_whole, written_in_pieces, written_backwards, written_over_longer,
                                 written_after_growing, written_byte_by_byte_at_the_end])
def test_sizes(fs, way):
    def check():
        for size in SIZES:
            path = fs / f"f{size}"
            assert os.stat(path).st_size == size
            assert read_file(path) == pattern(size, size), f"size {size}"

    for size in SIZES:
        way(fs / f"f{size}", pattern(size, size))
    check()
    fs.remount()
    check()


def test_truncate_between_sizes(fs):
    """From every boundary to every other: what is cut is gone, what grows is zeros."""
    sizes = [0, 1, INLINE, INLINE + 1, CHUNK, CHUNK + 1, 112 * CHUNK, 112 * CHUNK + 1, 240 * CHUNK + 1]
    pairs = [(a, b) for a in sizes for b in sizes]
    for a, b in pairs:
        write_file(fs / f"{a}-{b}", pattern(a, a))
    fs.remount()
    for a, b in pairs:
        os.truncate(fs / f"{a}-{b}", b)
        top = max(a, b) + 100
        os.truncate(fs / f"{a}-{b}", top)
    for fresh in (False, True):
        if fresh:
            fs.remount()
        for a, b in pairs:
            keep = min(a, b)
            want = pattern(a, a)[:keep] + bytes(max(a, b) + 100 - keep)
            assert read_file(fs / f"{a}-{b}") == want, f"{a} cut to {b}, then grown"


def test_truncate_errors(fs):
    write_file(fs / "a", b"x")
    os.mkdir(fs / "d")
    assert errno_of(os.truncate, fs / "d", 0) == errno.EISDIR
    assert errno_of(os.truncate, fs / "no", 0) == errno.ENOENT
    assert errno_of(os.truncate, fs / "a", -1) == errno.EINVAL
    assert errno_of(os.truncate, fs / "a", 1 << 62) == errno.EFBIG
    assert read_file(fs / "a") == b"x"


# ---- offsets ----


def test_pread_pwrite_at_any_offset(fs):
    size = 130 * CHUNK
    want = bytearray(pattern(3, size))
    write_file(fs / "a", want)
    with opened(fs / "a", os.O_RDWR) as fd:
        for i, at in enumerate([0, 1, 511, 512, 3583, 3584, 4095, 4096, 4097, 111 * CHUNK, 112 * CHUNK - 1,
                                112 * CHUNK, 112 * CHUNK + 1, 129 * CHUNK + 4095]):
            for length in (1, 2, 4095, 4096, 4097, 12289):
                data = pattern(i * 10 + length, min(length, size - at))
                assert os.pwrite(fd, data, at) == len(data)
                want[at:at + len(data)] = data
                assert os.pread(fd, len(data) + 50, max(0, at - 25)) == \
                    want[max(0, at - 25):max(0, at - 25) + len(data) + 50]
    assert read_file(fs / "a") == want
    fs.remount()
    assert read_file(fs / "a") == want


def test_read_at_end(fs):
    write_file(fs / "a", pattern(4, 5000))
    with opened(fs / "a", os.O_RDONLY) as fd:
        assert os.pread(fd, 100, 4950) == pattern(4, 5000)[4950:]
        assert os.pread(fd, 100, 5000) == b""
        assert os.pread(fd, 100, 1 << 40) == b""
        assert errno_of(os.pread, fd, 1, -1) == errno.EINVAL


def test_write_beyond_end_leaves_zeros(fs):
    for gap in (1, 5000, 112 * CHUNK, 5 << 20):
        path = fs / f"gap{gap}"
        write_file(path, b"head")
        with opened(path, os.O_RDWR) as fd:
            os.pwrite(fd, b"tail", gap + 4)
            assert os.fstat(fd).st_size == gap + 8
    for fresh in (False, True):
        if fresh:
            fs.remount()
        for gap in (1, 5000, 112 * CHUNK, 5 << 20):
            assert read_file(fs / f"gap{gap}") == b"head" + bytes(gap) + b"tail"


def test_vectors(fs):
    with opened(fs / "a", os.O_RDWR | os.O_CREAT) as fd:
        assert os.writev(fd, [b"a" * 4000, b"b" * 200, b"c" * 9000]) == 13200
        parts = [bytearray(4100), bytearray(9100)]
        assert os.preadv(fd, parts, 0) == 13200
    assert b"".join(parts) == b"a" * 4000 + b"b" * 200 + b"c" * 9000


def test_large_offset(fs):
    """1 TiB: sparse, and the offset does not wrap."""
    with opened(fs / "a", os.O_RDWR | os.O_CREAT) as fd:
        os.pwrite(fd, b"far", 1 << 40)
        os.pwrite(fd, b"near", 0)
    fs.remount()
    with opened(fs / "a", os.O_RDONLY) as fd:
        assert os.fstat(fd).st_size == (1 << 40) + 3
        assert os.pread(fd, 10, 1 << 40) == b"far"
        assert os.pread(fd, 10, 0) == b"near" + bytes(6)
        assert os.pread(fd, 4096, 1 << 39) == bytes(4096)


def test_two_handles_see_each_other(fs):
    with opened(fs / "a", os.O_RDWR | os.O_CREAT) as one, opened(fs / "a", os.O_RDWR) as two:
        os.pwrite(one, b"A" * 6000, 0)
        assert os.pread(two, 6000, 0) == b"A" * 6000
        os.pwrite(two, b"B", 5999)
        assert os.pread(one, 2, 5998) == b"AB"
        os.ftruncate(two, 10)
        assert os.pread(one, 100, 0) == b"A" * 10
        assert os.fstat(one).st_size == 10


def test_unlink_while_open(fs):
    with opened(fs / "a", os.O_RDWR | os.O_CREAT) as fd:
        write_all(fd, pattern(5, 20000))
        os.unlink(fs / "a")
        assert os.fstat(fd).st_nlink == 0
        os.pwrite(fd, b"more", 20000)
        os.fsync(fd)
        os.ftruncate(fd, 20002)
        os.fchmod(fd, 0o600)
        os.utime(fd, ns=(1, 2))
        assert os.pread(fd, 30000, 0) == pattern(5, 20000) + b"mo"
        write_file(fs / "a", b"another")
        assert os.fstat(fd).st_size == 20002
    assert read_file(fs / "a") == b"another"
    fs.remount()
    assert os.listdir(fs.dir) == ["a"]


def test_rename_while_open(fs):
    write_file(fs / "b", b"old")
    with opened(fs / "a", os.O_RDWR | os.O_CREAT) as fd, opened(fs / "b", os.O_RDONLY) as replaced:
        write_all(fd, b"one")
        os.rename(fs / "a", fs / "b")
        write_all(fd, b" two")
        assert os.read(replaced, 10) == b"old"
    assert read_file(fs / "b") == b"one two"
    fs.remount()
    assert read_file(fs / "b") == b"one two"


# ---- mappings ----


def test_mmap_shared(fs):
    size = 120 * CHUNK + 77
    want = bytearray(pattern(6, size))
    write_file(fs / "a", want)

    def change():
        with opened(fs / "a", os.O_RDWR) as fd, mmap.mmap(fd, size) as m:
            assert m[:] == pattern(6, size)
            for at in (0, 3583, 4095, 112 * CHUNK - 1, 112 * CHUNK, size - 3):
                m[at:at + 3] = b"MAP"
            assert os.pread(fd, 3, 4095) == b"MAP"
            os.pwrite(fd, b"PWR", 9000)
            assert m[9000:9003] == b"PWR"
            m.flush()

    in_child(change)
    for at in (0, 3583, 4095, 112 * CHUNK - 1, 112 * CHUNK, size - 3):
        want[at:at + 3] = b"MAP"
    want[9000:9003] = b"PWR"
    assert read_file(fs / "a") == want
    fs.remount()
    assert read_file(fs / "a") == want


def test_mmap_private(fs):
    write_file(fs / "a", pattern(7, 9000))

    def change():
        with opened(fs / "a", os.O_RDONLY) as fd, mmap.mmap(fd, 9000, flags=mmap.MAP_PRIVATE,
                                                            prot=mmap.PROT_READ | mmap.PROT_WRITE) as m:
            m[0:4] = b"mine"
            assert m[0:4] == b"mine"

    in_child(change)
    assert read_file(fs / "a") == pattern(7, 9000)


def test_mmap_outlives_descriptor_and_name(fs):
    write_file(fs / "a", pattern(8, 9000))
    os.link(fs / "a", fs / "b")

    def change():
        with opened(fs / "a", os.O_RDWR) as fd:
            m = mmap.mmap(fd, 9000)
        os.unlink(fs / "a")
        m[8000:8004] = b"late"
        m.close()

    in_child(change)
    want = bytearray(pattern(8, 9000))
    want[8000:8004] = b"late"
    assert read_file(fs / "b") == want
    fs.remount()
    assert read_file(fs / "b") == want


def test_mmap_of_a_hole_and_past_truncation(fs):
    with opened(fs / "a", os.O_RDWR | os.O_CREAT) as fd:
        os.ftruncate(fd, 64 * CHUNK)

    def change():
        with opened(fs / "a", os.O_RDWR) as fd, mmap.mmap(fd, 64 * CHUNK) as m:
            assert m[:] == bytes(64 * CHUNK)
            m[40 * CHUNK] = 1
            os.ftruncate(fd, 8 * CHUNK)
            os.ftruncate(fd, 64 * CHUNK)
            assert m[40 * CHUNK] == 0
            m[63 * CHUNK] = 2

    in_child(change)
    fs.remount()
    want = bytearray(64 * CHUNK)
    want[63 * CHUNK] = 2
    assert read_file(fs / "a") == want


def test_execute_from_the_mount(fs):
    shutil.copy("/bin/true", fs / "true")
    os.chmod(fs / "true", 0o755)
    assert subprocess.run([fs / "true"], timeout=30, check=False).returncode == 0
    fs.remount()
    assert subprocess.run([fs / "true"], timeout=30, check=False).returncode == 0


# ---- other ways to move bytes ----


def test_direct_io(fs):
    data = pattern(9, 256 * CHUNK)
    with opened(fs / "a", os.O_RDWR | os.O_CREAT | os.O_DIRECT) as fd:
        assert os.pwritev(fd, [direct_buffer(data)], 0) == len(data)
        assert os.pwritev(fd, [direct_buffer(b"Q" * 8192)], 111 * CHUNK) == 8192
        into = direct_buffer(4 * CHUNK)
        assert os.preadv(fd, [into], 110 * CHUNK) == 4 * CHUNK
        want = bytearray(data)
        want[111 * CHUNK:113 * CHUNK] = b"Q" * 8192
        assert into[:] == want[110 * CHUNK:114 * CHUNK]
    assert read_file(fs / "a") == want
    fs.remount()
    assert read_file(fs / "a") == want


def test_direct_and_cached_io_together(fs):
    """What is in the page cache and dirty is seen by O_DIRECT reads, and the other way round."""
    with opened(fs / "a", os.O_RDWR | os.O_CREAT) as cached, opened(fs / "a", os.O_RDWR | os.O_DIRECT) as direct:
        os.pwrite(cached, b"c" * 32768, 0)
        into = direct_buffer(32768)
        assert os.preadv(direct, [into], 0) == 32768
        assert into[:] == b"c" * 32768
        os.pwritev(direct, [direct_buffer(b"d" * 8192)], 8192)
        assert os.pread(cached, 32768, 0) == b"c" * 8192 + b"d" * 8192 + b"c" * 16384


def test_copy_file_range(fs):
    data = pattern(10, 300 * CHUNK + 5)
    write_file(fs / "a", data)
    with opened(fs / "a", os.O_RDONLY) as src, opened(fs / "b", os.O_RDWR | os.O_CREAT) as dst:
        done = 0
        while done < len(data):
            n = os.copy_file_range(src, dst, len(data) - done)
            assert n > 0
            done += n
        assert os.copy_file_range(src, dst, 100) == 0
        assert os.pread(dst, len(data), 0) == data
        assert os.copy_file_range(src, dst, 5000, 1, 4095) > 0
    fs.remount()
    assert os.stat(fs / "b").st_size == len(data)
    got = read_file(fs / "b")
    assert got[:4095] == data[:4095]
    assert got[4095:9095] == data[1:5001]
    assert got[9095:] == data[9095:]


def test_copy_file_range_of_unwritten_pages(fs):
    """The source is still dirty in the page cache."""
    with opened(fs / "a", os.O_RDWR | os.O_CREAT) as src, opened(fs / "b", os.O_RDWR | os.O_CREAT) as dst:
        os.write(src, b"dirty" * 3000)
        os.pwrite(dst, b"under" * 3000, 0)
        done = 0
        while done < 15000:
            done += os.copy_file_range(src, dst, 15000 - done, done, done)
    assert read_file(fs / "b") == b"dirty" * 3000


def test_cp_of_a_file_being_written(fs):
    """cp looks for holes; dirty pages that the daemon has not seen are not holes."""
    with opened(fs / "a", os.O_RDWR | os.O_CREAT) as fd:
        os.ftruncate(fd, 1 << 20)
        os.pwrite(fd, b"here" * 5000, 300000)
        for how in ("auto", "always", "never"):
            subprocess.run(["cp", f"--sparse={how}", fs / "a", fs / how], check=True, timeout=60)
            assert read_file(fs / how) == bytes(300000) + b"here" * 5000 + bytes((1 << 20) - 320000), how


def test_sendfile(fs):
    data = pattern(11, 100000)
    write_file(fs / "a", data)
    a, b = socket.socketpair()
    with a, b, opened(fs / "a", os.O_RDONLY) as fd:
        a.settimeout(30)
        b.settimeout(30)
        got, sent = b"", 0
        while sent < len(data):
            n = os.sendfile(a.fileno(), fd, sent, 20000)
            sent += n
            while len(got) < sent:
                got += b.recv(65536)
    assert got == data


def test_splice_into_the_mount(fs):
    r, w = os.pipe()
    try:
        with opened(fs / "a", os.O_RDWR | os.O_CREAT) as fd:
            for i in range(10):
                os.write(w, bytes([i]) * 5000)
                assert os.splice(r, fd, 5000, offset_dst=i * 5000) == 5000
    finally:
        os.close(r)
        os.close(w)
    assert read_file(fs / "a") == b"".join(bytes([i]) * 5000 for i in range(10))


def test_parallel_writers_of_one_file(fs):
    """Each child owns every fourth block of 1000 bytes: neighbours share chunks."""
    script = ("import os, sys\nme = int(sys.argv[2]); fd = os.open(sys.argv[1], os.O_RDWR)\n"
              "for r in range(3):\n"
              "  for i in range(me, 800, 4): os.pwrite(fd, bytes([me + 1 + 10 * r]) * 1000, i * 1000)\n")
    write_file(fs / "a", b"")
    writers = [subprocess.Popen(["/usr/bin/python3", "-c", script, str(fs / "a"), str(i)]) for i in range(4)]
    assert [w.wait(timeout=100) for w in writers] == [0] * 4
    want = b"".join(bytes([i % 4 + 21]) * 1000 for i in range(800))
    assert read_file(fs / "a") == want
    fs.remount()
    assert read_file(fs / "a") == want
