"""System calls that Python has no function for, and a way to make calls as somebody else."""

import contextlib
import ctypes
import faulthandler
import fcntl
import mmap
import os
import pickle
import random
import resource
import signal
import struct
import traceback
from pathlib import Path

FALLOC_FL_KEEP_SIZE = 0x01
FALLOC_FL_PUNCH_HOLE = 0x02
FALLOC_FL_COLLAPSE_RANGE = 0x08
FALLOC_FL_ZERO_RANGE = 0x10
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4
AT_FDCWD = -100
AT_SYMLINK_FOLLOW = 0x400
F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38
DIRECT_ALIGN = 4096

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
_libc.linkat.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
_libc.syncfs.argtypes = [ctypes.c_int]
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


def _check(result):
    if result < 0:
        err = ctypes.get_errno()
        raise OSError(err, os.strerror(err))


def fallocate(fd, mode, offset, length):
    _check(_libc.fallocate(fd, mode, offset, length))


def renameat2(old, new, flags):
    _check(_libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def link_fd(fd, new):
    """Gives an open file without a name (O_TMPFILE) one."""
    _check(_libc.linkat(AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, os.fsencode(new), AT_SYMLINK_FOLLOW))


def syncfs(path):
    with opened(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
        _check(_libc.syncfs(fd))


def resident(fd):
    """The share of the file's pages that the page cache has. The kernel may take pages at any time, also where no memory
    is short and nothing in /proc/vmstat says so (DAMON's pageout of regions that look cold): only 0 can be told exactly."""
    size = os.lseek(fd, 0, os.SEEK_END)
    if size == 0:
        return 0
    pages = ctypes.create_string_buffer(-(-size // mmap.PAGESIZE))
    at = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if at == ctypes.c_void_p(-1).value:
        _check(-1)
    try:
        _check(_libc.mincore(at, size, pages))
    finally:
        _libc.munmap(at, size)
    return sum(p & 1 for p in pages.raw) / len(pages.raw)


def ofd_lock(fd, kind, start=0, length=0, command=F_OFD_SETLK):
    """kind: fcntl.F_RDLCK, F_WRLCK or F_UNLCK. Returns the struct flock's type, as F_OFD_GETLK tells it."""
    lock = struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
    return struct.unpack("hhqqi4x", fcntl.fcntl(fd, command, lock))[0]


def direct_buffer(data_or_size):
    """Memory aligned as O_DIRECT wants it."""
    size = data_or_size if isinstance(data_or_size, int) else len(data_or_size)
    buffer = mmap.mmap(-1, size)
    if not isinstance(data_or_size, int):
        buffer[:] = data_or_size
    return buffer


@contextlib.contextmanager
def opened(path, flags, mode=0o644):
    fd = os.open(path, flags | os.O_CLOEXEC, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def pattern(seed, size):
    """The same bytes for the same seed, no two alike."""
    return random.Random(seed).randbytes(size)


def write_file(path, data, flags=0):
    with opened(path, os.O_WRONLY | os.O_CREAT | flags) as fd:
        write_all(fd, data)


def write_all(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


def read_file(path):
    with open(path, "rb", buffering=0) as f:
        return f.read()


def errno_of(call, *args, **more):
    """The errno a call fails with; 0 when it does not fail."""
    try:
        call(*args, **more)
    except OSError as e:
        return e.errno
    return 0


def disk_bytes(directory):
    """What a tree of files takes on the disk."""
    return sum(os.lstat(p).st_blocks * 512 for p in Path(directory).rglob("*"))


# ---- other processes ----


class ChildFailed(AssertionError):
    pass


def in_child(call, uid=None, gid=None, groups=(), umask=None, nofile=None, timeout=120):
    """Runs call() in a child process, as another user if wished, and returns what it returns. Its exception
    comes back as ChildFailed with the trace. A SIGBUS from a mapping ends the child only."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        _run_child(call, w, r, uid, gid, groups, umask, nofile, timeout)
    os.close(w)
    with os.fdopen(r, "rb") as f:
        data = f.read()
    _, status = os.waitpid(pid, 0)
    if not data:
        raise ChildFailed(f"the child ended with {os.waitstatus_to_exitcode(status)} and said nothing")
    failed, value = pickle.loads(data)
    if failed:
        raise ChildFailed(value)
    return value


def _run_child(call, out, unused, uid, gid, groups, umask, nofile, timeout):
    code = 1
    try:
        os.close(unused)
        faulthandler.disable()  # a bus error may be what the test is after
        signal.alarm(timeout)
        _become(uid, gid, groups, umask, nofile)
        try:
            answer = (False, call())
        except BaseException:  # noqa: B036 - whatever it is, the parent raises it
            answer = (True, traceback.format_exc())
        with os.fdopen(out, "wb") as f:
            f.write(pickle.dumps(answer))
        code = 0
    finally:
        os._exit(code)


def _become(uid, gid, groups, umask, nofile):
    if nofile is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))
    if umask is not None:
        os.umask(umask)
    if uid is not None:
        os.setgroups(list(groups))
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
