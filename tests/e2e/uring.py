"""FUSE over io_uring, which a parameter of the kernel's module switches for every mount of the machine at once.

A mount takes the parameter at its start and keeps to it, so it is on only while a mount of ours starts: others
are not to notice. With LATCHFS_E2E_URING=1 that is so for all mounts of the tests."""

import contextlib
import fcntl
import os
from pathlib import Path

PARAMETER = Path("/sys/module/fuse/parameters/enable_uring")
LOCK = "/tmp/latchfs-uring-parameter.lock"  # of all that switch it
BY_DEFAULT = os.environ.get("LATCHFS_E2E_URING") == "1"


def can_switch():
    return os.access(PARAMETER, os.W_OK) and Path("/proc/sys/kernel/io_uring_disabled").read_text().strip() == "0"


@contextlib.contextmanager
def switched(on):
    with open(LOCK, "a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = PARAMETER.read_text()
        PARAMETER.write_text("Y" if on else "N")
        try:
            yield
        finally:
            PARAMETER.write_text(before)


def options_as_wanted(options):
    """For latch mount: -o and these options, or nothing."""
    text = ",".join(filter(None, [options, "uring" if BY_DEFAULT else None]))
    return ["-o", text] if text else []


def as_wanted():
    return switched(True) if BY_DEFAULT else contextlib.nullcontext()
