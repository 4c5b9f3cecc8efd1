"""How the daemon waits for requests, in counts: an idle mount sleeps, and no worker spins where others compute."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fsbox import PLAIN
from syscalls import write_file

pytest_plugins = ["fsbox"]
pytestmark = pytest.mark.skipif(PLAIN, reason="about a mount")


def wakeups(pid):
    """Times that threads of a process went to sleep."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            line, = (x for x in (task / "status").read_text().splitlines() if x.startswith("voluntary_ctxt"))
            total += int(line.split()[1])
    return total


def reads(pid):
    """System calls that read, those that found nothing too."""
    line, = (x for x in Path(f"/proc/{pid}/io").read_text().splitlines() if x.startswith("syscr"))
    return int(line.split()[1])


def ask(path, times):
    """Each call is one request: attributes are not cached."""
    for _ in range(times):
        with contextlib.suppress(OSError):
            os.getxattr(path, "user.none")


@contextlib.contextmanager
def computing():
    """A program that needs all of each processor."""
    hogs = [subprocess.Popen([sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"])
            for cpu in os.sched_getaffinity(0)]
    try:
        time.sleep(0.3)
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


@pytest.fixture
def asked(volume):
    """A mount with a file to ask about, on which nothing is left to be written."""
    with volume.mount() as m:
        write_file(m / "f", b"x")
    with volume.mount() as m:
        os.stat(m / "f")
        yield m


def test_idle_sleeps(asked):
    ask(asked / "f", 3000)
    time.sleep(0.5)
    before = wakeups(asked.pid)
    time.sleep(4)
    assert wakeups(asked.pid) - before < 40


@pytest.mark.heavy  # with a sanitizer a request takes longer than the spin
def test_rare_requests(asked):
    """A request now and then is no reason to spin, nor to look at the device beside."""
    pid = asked.pid

    def now_and_then():
        for _ in range(20):
            ask(asked / "f", 1)
            time.sleep(0.1)

    ask(asked / "f", 1000)
    now_and_then()  # uses up what the thousand have earned
    before, looked = wakeups(pid), reads(pid)
    now_and_then()
    assert wakeups(pid) - before < 20 * 4 + 40
    assert reads(pid) - looked < 20 * 8 + 40


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_no_spin_beside_work(asked):
    pid, times = asked.pid, 4000
    with computing():
        ask(asked / "f", 500)
        before = reads(pid)
        ask(asked / "f", times)
        assert reads(pid) - before < times * 6
