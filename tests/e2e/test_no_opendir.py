"""Directories are opened without asking the daemon: a position in one holds without a handle of the daemon's."""

import ctypes
import os
import shutil

import pytest

from fsbox import PLAIN, check_volume
from syscalls import opened, write_file

pytest_plugins = ["fsbox"]
pytestmark = pytest.mark.skipif(PLAIN, reason="about mounts")

NAMES = 3000


class Dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("reclen", ctypes.c_uint16), ("type", ctypes.c_uint8),
                ("name", ctypes.c_char * 256)]


_libc = ctypes.CDLL(None, use_errno=True)
for _name, _result, _args in (("opendir", ctypes.c_void_p, [ctypes.c_char_p]), ("closedir", ctypes.c_int, [ctypes.c_void_p]),
                              ("readdir64", ctypes.POINTER(Dirent), [ctypes.c_void_p]),
                              ("telldir", ctypes.c_long, [ctypes.c_void_p]), ("rewinddir", None, [ctypes.c_void_p]),
                              ("seekdir", None, [ctypes.c_void_p, ctypes.c_long])):
    getattr(_libc, _name).restype, getattr(_libc, _name).argtypes = _result, _args


class Stream:
    def __init__(self, path):
        self.d = _libc.opendir(os.fsencode(path))
        assert self.d

    def next(self):
        e = _libc.readdir64(self.d)
        return os.fsdecode(e.contents.name) if e else None

    def some(self, n):
        return [name for name in (self.next() for _ in range(n)) if name is not None]

    def rest(self):
        return list(iter(self.next, None))

    def tell(self):
        return _libc.telldir(self.d)

    def seek(self, at):
        _libc.seekdir(self.d, at)

    def close(self):
        _libc.closedir(self.d)


@pytest.fixture
def full(volume):
    with volume.mount() as m:
        os.mkdir(m / "d")
        for i in range(NAMES):
            write_file(m / "d" / f"name-of-some-length-{i:06}", b"")
        m.umount()
        m.mount().ok()
        yield m
    check_volume(volume)


ALL = sorted([".", ".."] + [f"name-of-some-length-{i:06}" for i in range(NAMES)])


def test_seek_and_tell(full):
    s = Stream(full / "d")
    first = s.some(1000)
    at = s.tell()
    later = s.rest()
    assert sorted(first + later) == ALL
    s.seek(at)
    assert s.rest() == later
    _libc.rewinddir(s.d)
    assert sorted(s.rest()) == ALL
    s.close()


def test_readers_side_by_side(full):
    """More readers than streams are kept, each at its own place."""
    readers = [Stream(full / "d") for _ in range(100)]
    seen = [[] for _ in readers]
    for turn in range(4):
        for i, s in enumerate(readers):
            seen[i] += s.some(200 + 7 * i)
    for i, s in enumerate(readers):
        assert sorted(seen[i] + s.rest()) == ALL
        s.close()


def test_changes_under_a_reader(full):
    """What stood there all the time is told once, whatever comes and goes."""
    s = Stream(full / "d")
    seen = s.some(500)
    for i in range(0, NAMES, 2):
        os.unlink(full / "d" / f"name-of-some-length-{i:06}")
    for i in range(500):
        write_file(full / "d" / f"new-{i}", b"")
    seen += s.rest()
    s.close()
    stayed = [f"name-of-some-length-{i:06}" for i in range(1, NAMES, 2)]
    assert sorted(name for name in seen if name in set(stayed)) == stayed
    assert len(seen) == len(set(seen))


def test_removed_while_it_is_read(full):
    s, others = Stream(full / "d"), []
    assert len(s.some(100)) == 100
    for i in range(70):
        os.mkdir(full / f"other{i}")
        write_file(full / f"other{i}" / "f", b"")
        others.append(Stream(full / f"other{i}"))  # half-read: they push the first one's stream out
        others[i].next()
    shutil.rmtree(full / "d")
    assert not os.path.exists(full / "d")
    s.rest()
    s.close()
    with opened(full / "other1", os.O_RDONLY | os.O_DIRECTORY) as fd:
        shutil.rmtree(full / "other1")
        assert os.listdir(fd) == []
    for other in others:
        other.close()
