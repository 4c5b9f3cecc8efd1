"""Fixtures for tests of the mounted filesystem. A test module names it in pytest_plugins.

    box     a volume mounted for all tests of a module, once with the writeback cache and once without
    fs      an empty directory in it for one test: fs.dir, fs / "name", fs.remount()

With LATCHFS_E2E_PLAIN=1 the same tests run on a plain directory (below LATCHFS_TEST_DIR or TMPDIR). That is the
control: a test that fails there is wrong. LATCHFS_E2E_SLOWNESS (default 1) stretches all deadlines.
"""

import os
import re
import subprocess
import sys

import pytest

import harness
import syscalls

PLAIN = os.environ.get("LATCHFS_E2E_PLAIN") == "1"
SLOWNESS = float(os.environ.get("LATCHFS_E2E_SLOWNESS", "1"))
TEST_SECONDS = 120
HEAVY_SECONDS = 400


def pytest_collection_modifyitems(items):
    if os.environ.get("LATCHFS_E2E_FULL") != "1":
        skip = pytest.mark.skip(reason="slow: LATCHFS_E2E_FULL=1 runs it")
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(skip)


# ---- a mount that hangs ----

_WATCHDOG = """
import os, select, sys
from pathlib import Path
limit = None
while True:
    ready, _, _ = select.select([0], [], [], limit)
    if ready:
        line = sys.stdin.readline()
        if not line:
            break
        limit = float(line) or None
        continue
    limit = 5.0
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields = line.split(" ")
        if "/latchfs-e2e-" in fields[4] and " fuse" in line:
            minor = fields[2].split(":")[1]
            print("watchdog: aborting", fields[4], file=sys.stderr, flush=True)
            try:
                Path(f"/sys/fs/fuse/connections/{minor}/abort").write_text("1")
            except OSError:
                pass
"""


@pytest.fixture(scope="session")
def _watchdog():
    """A process of its own: a page fault on a hung mount stops every thread of ours."""
    p = subprocess.Popen([sys.executable, "-c", _WATCHDOG], stdin=subprocess.PIPE, text=True, cwd="/")
    yield p.stdin
    p.stdin.close()
    p.wait(timeout=10)


@pytest.fixture(autouse=True)
def _deadline(request, _watchdog):
    """Aborts the FUSE connections of a test that takes too long, so that its calls return."""
    heavy = request.node.get_closest_marker("heavy") or request.node.get_closest_marker("slow")
    _watchdog.write(f"{(HEAVY_SECONDS if heavy else TEST_SECONDS) * SLOWNESS}\n")
    _watchdog.flush()
    yield
    _watchdog.write("0\n")
    _watchdog.flush()


# ---- boxes ----


class PlainBox:
    """A plain directory that behaves as a mount would."""

    plain = True
    writeback = True
    volume = None

    def __init__(self, work):
        self.root = work / "plain"
        self.root.mkdir()
        self.backing = self.root

    def remount(self):
        syscalls.syncfs(self.root)

    def heal(self):
        pass

    def check(self):
        pass

    def close(self):
        pass


class MountBox:
    plain = False

    def __init__(self, work, options=None):
        self.writeback = "writethrough" not in (options or "")
        self.keyd = harness.Keyd(harness.binaries(), work / "keyd").start()
        try:
            self.volume = harness.Volume(self.keyd, work / "vol").create()
            self.backing = self.volume.path
            self.mount = self.volume.mount(options=options)
            self.root = self.mount.path
            self.heal()
            self.root.chmod(0o755)  # latch init makes a directory for its owner alone
        except BaseException:
            self.keyd.stop()
            raise

    def heal(self):
        """Mounts, also after a test that left the mount dead."""
        if not self.is_alive():
            self.mount.force_away()
            self.mount.mount().ok()

    def is_alive(self):
        return self.mount.is_mounted() and syscalls.errno_of(os.stat, self.root) == 0

    def remount(self):
        self.mount.umount().ok()
        self.mount.mount().ok()

    def check(self):
        assert self.is_alive(), "the mount died during the test"

    def close(self):
        """Unmounts, and checks what all tests of the module left behind."""
        try:
            if self.mount.is_mounted():
                self.mount.umount().ok()
            check_volume(self.volume)
        finally:
            self.mount.force_away()
            self.keyd.stop()


def check_volume(volume):
    """latch fsck finds nothing in an unmounted volume."""
    if "fsck" not in volume.latch("help").out:
        return
    # As whoever runs the tests: a user may have files that he can't read himself.
    result = volume.latch("fsck", "--contents", "--passphrase-file", volume.passfile, volume.path, timeout=300, user=None)
    assert result.returncode == 0, f"fsck: exit {result.returncode}\n{result.out}\n{result.err}"


@pytest.fixture(scope="module", params=["plain"] if PLAIN else ["writeback", "writethrough"])
def box(request, _watchdog):
    work = harness.Workdir()
    try:
        options = "writethrough" if request.param == "writethrough" else None
        made = PlainBox(work.path) if PLAIN else MountBox(work.path, options)
        yield made
        made.close()
    finally:
        work.remove()


class Place:
    """The directory of one test in a box."""

    def __init__(self, box, name):
        self.box = box
        self.dir = box.root / name
        self.dir.mkdir()

    def __truediv__(self, name):
        return self.dir / name if isinstance(name, str) else os.fsencode(self.dir) + b"/" + name

    def remount(self):
        self.box.remount()


@pytest.fixture
def fs(box, request):
    box.heal()
    yield Place(box, re.sub(r"\W", "_", request.node.name)[:60] + f"_{len(os.listdir(box.root))}")
    box.check()
