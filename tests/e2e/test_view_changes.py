"""latch view of files that change under their readers."""

import errno
import os
import stat
import time

import harness
from syscalls import errno_of, opened, pattern, read_file, write_file
from viewbox import CHUNK, backing_length

pytest_plugins = ["viewbox"]


def start_reading(path, first=2 * CHUNK):
    fd = os.open(path, os.O_RDONLY)
    return fd, os.read(fd, first)


def read_on(fd, data):
    while piece := os.read(fd, 1 << 17):
        data += piece
    os.close(fd)
    return data


def settle(path):
    """The time stamp is old enough to tell the next change."""
    old = time.time() - 100
    os.utime(path, (old, old))
    time.sleep(0.15)


def test_change_behind_a_reader(view, workdir):
    """A chunk changed after its record was given out: the reader gets what fits the record."""
    data = pattern(1, 500 * CHUNK)
    write_file(view.plain / "f", data)
    settle(view.plain / "f")
    with view.mounted() as m:
        fd, read = start_reading(view.stored(m, "f"))
        with opened(view.plain / "f", os.O_WRONLY) as out:
            os.pwrite(out, b"NEW", 50 * CHUNK)
            os.pwrite(out, b"NEW", 400 * CHUNK)
        plain = view.decrypt(m, read_on(fd, read), workdir / "scratch")
        assert plain[: 112 * CHUNK] == data[: 112 * CHUNK]
        assert plain[400 * CHUNK : 400 * CHUNK + 3] == b"NEW"
        again = view.decrypt(m, read_file(view.stored(m, "f")), workdir / "scratch")
        assert again == read_file(view.plain / "f")


def test_change_that_cannot_fit_any_more_is_an_error(view):
    """The records of a group were given out and are forgotten since; after a change its chunks are refused, never
    given out to fail when the backup is restored. A new opening works."""
    write_file(view.plain / "f", pattern(1, 60 * 128 * CHUNK))
    settle(view.plain / "f")
    with view.mounted() as m:
        path = view.stored(m, "f")
        fd, _ = start_reading(path)
        for group in range(1, 59):  # more than are kept
            os.pread(fd, CHUNK, (113 + 129 * (group - 1)) * CHUNK)
        with opened(view.plain / "f", os.O_WRONLY) as out:
            os.pwrite(out, b"NEW", 50 * CHUNK)
        assert errno_of(os.pread, fd, CHUNK, 51 * CHUNK) == errno.EIO
        assert errno_of(os.pread, fd, CHUNK, 0) == errno.EIO
        os.close(fd)
        assert len(read_file(path)) == os.stat(path).st_size


def test_single_chunks_of_a_changed_file(view):
    """The same for a reader that jumps: a chunk, then a change, then the record of its group."""
    write_file(view.plain / "f", pattern(1, 300 * CHUNK))
    settle(view.plain / "f")
    with view.mounted() as m, opened(view.stored(m, "f"), os.O_RDONLY) as fd:
        assert len(os.pread(fd, CHUNK, 200 * CHUNK)) == CHUNK
        with opened(view.plain / "f", os.O_WRONLY) as out:
            os.pwrite(out, b"NEW", 150 * CHUNK)
        assert errno_of(os.pread, fd, CHUNK, 113 * CHUNK) == errno.EIO
        assert len(os.pread(fd, CHUNK, 0)) == CHUNK  # of another group nothing was given out


def test_growth_while_open(view, workdir):
    """A log that grows is backed up as it was when it was opened, and fstat says so."""
    sizes = (100, 3584, 10000, 200 * CHUNK + 5)
    for size in sizes:
        write_file(view.plain / f"log{size}", pattern(size, size))
        settle(view.plain / f"log{size}")
    with view.mounted() as m:
        for size in sizes:
            path = view.stored(m, f"log{size}")
            fd, read = start_reading(path, 100)
            with opened(view.plain / f"log{size}", os.O_WRONLY | os.O_APPEND) as out:
                os.write(out, b"more" * 30000)
            assert os.fstat(fd).st_size == os.stat(path).st_size == backing_length(size)
            read = read_on(fd, read)
            assert len(read) == backing_length(size)
            assert view.decrypt(m, read, workdir / "scratch") == pattern(size, size)
            harness.wait_until(lambda: os.stat(path).st_size == backing_length(size + 120000), what="the new size to show")
            assert len(read_file(path)) == backing_length(size + 120000)


def test_many_changes_within_one_tick(view):
    """Each opening shows the content of its time, also where time stamps are too coarse to tell."""
    write_file(view.plain / "f", bytes(5 * CHUNK))
    with view.mounted() as m:
        path, seen = view.stored(m, "f"), set()
        with opened(view.plain / "f", os.O_WRONLY) as out:
            for i in range(100):
                os.pwrite(out, b"%d" % i, 2 * CHUNK)
                seen.add(read_file(path))
        assert len(seen) == 100


def test_another_file_takes_the_name(view, workdir):
    """Saved by rename between the look at its size and the opening: the reader gets the whole new file."""
    write_file(view.plain / "f", pattern(1, 5000))
    with view.mounted() as m:
        path = view.stored(m, "f")
        assert os.stat(path).st_size == backing_length(5000)
        write_file(view.plain / "new", pattern(2, 90000))
        os.rename(view.plain / "new", view.plain / "f")
        with opened(path, os.O_RDONLY) as fd:
            assert os.fstat(fd).st_size == backing_length(90000)
            assert view.decrypt(m, os.pread(fd, 1 << 20, 0), workdir / "scratch") == pattern(2, 90000)


def test_cut_while_open(view):
    write_file(view.plain / "f", pattern(1, 600 * CHUNK))
    settle(view.plain / "f")
    with view.mounted() as m:
        fd, _ = start_reading(view.stored(m, "f"))
        os.truncate(view.plain / "f", 300 * CHUNK)
        assert len(os.pread(fd, CHUNK, 100 * CHUNK)) == CHUNK  # made before
        assert errno_of(os.pread, fd, CHUNK, 500 * CHUNK) == errno.EIO
        os.close(fd)


def test_files_come_and_go(view):
    write_file(view.plain / "a", b"1")
    with view.mounted() as m:
        a = view.stored(m, "a")
        os.unlink(view.plain / "a")
        time.sleep(1.1)
        assert errno_of(os.stat, a) == errno.ENOENT
        os.mkdir(view.plain / "a")
        write_file(view.plain / "a/b", b"2")
        assert stat.S_ISDIR(os.stat(a).st_mode) and len(os.listdir(a)) == 2
        os.rename(view.plain / "a", view.plain / "moved")
        time.sleep(1.1)
        assert errno_of(os.listdir, a) == errno.ENOENT
