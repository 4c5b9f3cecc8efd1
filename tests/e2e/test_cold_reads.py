"""Reads of what no page cache has: many at a time, beside changes, over a lock and over an unmount."""

import contextlib
import errno
import itertools
import os
import random
import threading

import harness
from syscalls import opened, pattern, read_file, resident

CHUNK = 4096
SIZE = 16 << 20
READERS = 16


def backing_files(volume):
    return [p for p in volume.path.rglob("*") if p.is_file() and p.stat().st_size > SIZE // 2 and "." not in p.name]


def forget(mount, name):
    """Neither the mount's pages nor those of the backing file stay in memory."""
    for path in [mount / name, *backing_files(mount.volume)]:
        with opened(path, os.O_RDONLY) as fd:
            os.fdatasync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def make(mount, name="file"):
    data = pattern(3, SIZE)
    with opened(mount / name, os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, data)
        os.fsync(fd)
    forget(mount, name)
    return data


def kept(path):
    """Bytes of the file in the page cache, about."""
    with opened(path, os.O_RDONLY) as fd:
        return os.fstat(fd).st_size * resident(fd)


class Readers:
    """Threads that read random places and compare them, until all are read or an error is met. each: how many, None for no
    end but an error. within: where in a chunk they begin; a read of two pages may end before one that cannot be had."""

    def __init__(self, path, data, each, length=CHUNK, within=(0, 0, 700)):
        self.path, self.data, self.length, self.within = path, data, length, within
        self.wrong, self.errors, self.right = [], [], 0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.work, args=(i, each)) for i in range(READERS)]

    def work(self, seed, each):
        rng = random.Random(seed)
        with opened(self.path, os.O_RDONLY) as fd:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
            for _ in itertools.count() if each is None else range(each):
                at = rng.randrange(SIZE // CHUNK) * CHUNK + rng.choice(self.within)
                try:
                    got = os.pread(fd, self.length, at)
                except OSError as e:
                    self.errors.append(e.errno)
                    return
                with self.lock:
                    self.right += 1
                    if got != self.data[at:at + self.length]:
                        self.wrong.append(at)

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *_):
        for t in self.threads:
            t.join(60)
        assert not any(t.is_alive() for t in self.threads), "a read was never answered"


def test_many_at_a_time(mnt):
    data = make(mnt)
    for length in (CHUNK, 5 * CHUNK, 200_000):
        forget(mnt, "file")
        with Readers(mnt / "file", data, 60, length) as r:
            pass
        assert (r.wrong, r.errors, r.right) == ([], [], 60 * READERS)


def test_beside_changes(mnt):
    """Chunks are rewritten with what they hold, so that their records and ciphertext change under the readers."""
    data = make(mnt)
    rng = random.Random(5)
    with Readers(mnt / "file", data, 150) as r, opened(mnt / "file", os.O_RDWR) as fd:
        while any(t.is_alive() for t in r.threads):
            at = rng.randrange(SIZE // CHUNK) * CHUNK
            os.pwrite(fd, data[at:at + CHUNK], at)
            if rng.randrange(20) == 0:
                os.fsync(fd)
                forget(mnt, "file")
    assert (r.wrong, r.errors) == ([], [])


def test_a_stream_is_not_in_memory_twice(mnt):
    """Reading 96 MiB leaves its plaintext in memory, and of its ciphertext the end alone."""
    data = pattern(4, 96 << 20)
    with opened(mnt / "file", os.O_CREAT | os.O_WRONLY) as fd:
        os.write(fd, data)
        os.fsync(fd)
    forget(mnt, "file")
    assert read_file(mnt / "file") == data
    assert kept(mnt / "file") > len(data) * 0.75
    assert sum(kept(p) for p in backing_files(mnt.volume)) < len(data) / 2
    with opened(mnt / "file", os.O_RDONLY) as fd:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert read_file(mnt / "file") == data


@contextlib.contextmanager
def busy_readers(mount, data):
    """They have read for a while, and go on until an error stops them."""
    with Readers(mount / "file", data, None, within=[0]) as r:
        harness.wait_until(lambda: r.right >= 200, what="the readers")
        yield r


def test_over_a_lock(volume):
    with volume.mount() as m:
        data = make(m)
        with busy_readers(m, data) as r:
            volume.lock("--force").ok()
        assert r.wrong == [] and set(r.errors) == {errno.ENOKEY} and len(r.errors) == READERS
        volume.unlock().ok()
        forget(m, "file")
        with Readers(m / "file", data, 20) as r:
            pass
        assert (r.wrong, r.errors) == ([], [])


def test_the_daemon_dies(volume):
    with volume.mount() as m:
        data = make(m)
        with busy_readers(m, data) as r:
            m.crash()
        assert r.wrong == [] and len(r.errors) == READERS
