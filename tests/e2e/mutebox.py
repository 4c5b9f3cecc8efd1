"""A filesystem of /dev/fuse that leaves one kind of request unanswered, and processes that this holds up."""

import contextlib
import ctypes
import errno
import os
import select
import stat
import struct
import threading

LOOKUP, GETATTR, OPEN, FLUSH, INIT, POLL = 1, 3, 14, 25, 26, 40
FORGETS = 2, 42


def answer_of(opcode, node):
    """Directory 1 with the file 2 in it."""
    mode = stat.S_IFDIR | 0o755 if node == 1 else stat.S_IFREG | 0o644
    attr = struct.pack("<6Q10I", node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 0, 0)
    if opcode == INIT:
        return struct.pack("<4I2HI32x", 7, 31, 4096, 0, 1, 1, 4096).ljust(64, b"\0")
    if opcode == LOOKUP:
        return struct.pack("<4Q2I", 2, 0, 1000, 1000, 0, 0) + attr
    if opcode == GETATTR:
        return struct.pack("<Q2I", 1000, 0, 0) + attr
    return struct.pack("<Q2I", 1, 0, 0) if opcode == OPEN else None


@contextlib.contextmanager
def mute_filesystem(place, mute):
    """A filesystem that answers everything but this opcode; yields an event for when that has come."""
    asked, end = threading.Event(), threading.Event()
    dev = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK)

    def serve():
        while not end.is_set():
            if not select.select([dev], [], [], 0.1)[0]:
                continue
            with contextlib.suppress(BlockingIOError):
                request = os.read(dev, 1 << 17)
                opcode, unique, node = struct.unpack_from("<IQQ", request, 4)
                body = answer_of(opcode, 2 if opcode == LOOKUP else node)
                if opcode == mute:
                    asked.set()
                elif opcode not in FORGETS:
                    os.write(dev, struct.pack("<IiQ", 16 + len(body or b""), 0 if body else -errno.ENOSYS, unique)
                             + (body or b""))

    libc = ctypes.CDLL(None, use_errno=True)
    data = f"fd={dev},rootmode=40000,user_id=0,group_id=0".encode()
    assert libc.mount(b"mute", os.fsencode(place), b"fuse", ctypes.c_ulong(0), data) == 0
    server = threading.Thread(target=serve)
    server.start()
    try:
        yield asked
    finally:
        end.set()
        server.join()
        os.close(dev)  # ends the connection, and every wait for an answer
        libc.umount2(os.fsencode(place), 2)
