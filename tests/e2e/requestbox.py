"""Counts what operations cost: requests of the kernel to one mount, and system calls of the daemon's workers."""

import collections
import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

import harness

TRACING = Path("/sys/kernel/tracing")
SENT = re.compile(r"connection (\d+) req \d+ opcode \d+ \(FUSE_(\w+)\)")
CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(\(| resumed)(.*)")

# Nobody waits for these; when the kernel sends them is its own affair.
ASYNCHRONOUS = {"FORGET", "BATCH_FORGET", "INTERRUPT"}

# How a worker waits, and how the allocator grows.
BESIDE = {"epoll_wait", "epoll_ctl", "io_uring_enter", "sched_yield", "clock_gettime", "restart_syscall", "futex",
          "mprotect", "mmap", "munmap", "brk", "madvise"}

# What a worker receives requests from and answers to, is woken by, and asks whether to spin: how often it does is
# a matter of time, not of operations.
WAITED_ON = ("/fuse", "/proc/loadavg", "[eventfd]")
ON_THEM = {"read", "readv", "pread64", "preadv", "write", "writev"}

# Newer than strace may be.
NUMBERED = {"syscall_0x1c4": "fchmodat2"}


class Requests:
    """An instance of the kernel's tracing of our own, with the requests of every mount."""

    def __init__(self):
        if not os.access(TRACING / "events/fuse/fuse_request_send/enable", os.W_OK):
            with contextlib.suppress(OSError):
                harness._mount("tracefs", str(TRACING), "tracefs", 0)
        if not os.access(TRACING / "events/fuse/fuse_request_send/enable", os.W_OK):
            pytest.skip("no tracepoints of FUSE here")
        self.place = Path(tempfile.mkdtemp(prefix="latchfs-", dir=TRACING / "instances"))
        self.event("fuse/fuse_request_send", True)

    def event(self, name, on):
        (self.place / "events" / name / "enable").write_text("1" if on else "0")

    def start(self):
        (self.place / "trace").write_text("")

    def stop(self, minor):
        """Requests to one mount since start, by name."""
        found = SENT.findall((self.place / "trace").read_text())
        return collections.Counter(name for device, name in found if int(device) == minor and name not in ASYNCHRONOUS)

    def close(self):
        self.event("fuse/fuse_request_send", False)
        self.place.rmdir()


def workers(pid):
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(t.name) for t in tasks if (t / "comm").read_text().strip() == "worker"}


def waiting_descriptors(pid):
    """The numbers of a process's descriptors of what workers wait on."""
    found = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(fd).endswith(WAITED_ON):
                found.add(int(fd.name))
    return found


class Calls:
    """strace on a daemon. What its other threads do, on their own time, does not count."""

    def __init__(self, pid):
        self.workers, self.waiting = workers(pid), waiting_descriptors(pid)
        assert self.workers and self.waiting
        self.file = Path(tempfile.mktemp(prefix="latchfs-strace-"))
        self.process = subprocess.Popen([shutil.which("strace"), "-f", "-q", "-s", "0", "-o", self.file, "-p", str(pid)],
                                        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        harness.wait_until(lambda: all(self.traced(w, pid) for w in self.workers), what="strace")

    @staticmethod
    def traced(tid, pid):
        status = Path(f"/proc/{pid}/task/{tid}/status").read_text()
        return "\nTracerPid:\t0\n" not in status

    def start(self):
        time.sleep(0.1)  # what went before is written
        self.from_byte = self.file.stat().st_size

    def stop(self):
        """System calls since start, by name; not those that receive, answer and wait."""
        time.sleep(0.1)
        with open(self.file, encoding="utf-8", errors="replace") as f:
            f.seek(self.from_byte)
            lines = f.read().splitlines()
        found = collections.Counter()
        for line in lines:
            m = CALL.match(line)
            if m and m[3] == "(" and int(m[1]) in self.workers and self.counts(m[2], m[4]):
                found[NUMBERED.get(m[2], m[2])] += 1
        return found

    def counts(self, name, arguments):
        if name in BESIDE:
            return False
        first = arguments.split(",")[0].split(")")[0].split(" ")[0]
        return not (name in ON_THEM and first.isdigit() and int(first) in self.waiting)

    def close(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=20)
        self.file.unlink(missing_ok=True)
