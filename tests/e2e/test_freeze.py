"""latch freeze and thaw: a mount whose ciphertext stands still while programs go on to use it."""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time

import pytest

import harness
import keylife
from clibox import refused
from fsbox import PLAIN
from keylife import protect
from syscalls import errno_of, opened, pattern, read_file, write_file
from volumes import copied, every_file_reads, mounts_of, unlock

pytest_plugins = ["fsbox"]
pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")

FORK = multiprocessing.get_context("fork")
AMPLE = 90  # seconds that no test reaches


def freeze(volume, m, *more, seconds=AMPLE):
    return volume.latch("freeze", "--for", seconds, os.fspath(m), *more)


def thaw(volume, m):
    return volume.latch("thaw", os.fspath(m))


def frozen_until(volume):
    shown, = mounts_of(volume)
    return shown["frozen_until"]


class Apart:
    """Work in a process of its own: closing a file that was written waits for the end of a freeze, too, and every
    program that the test starts closes what the test has open."""

    def __init__(self, *calls):
        self.done, self.wrong = (FORK.Value("i", 0) for _ in range(2))
        self.stop = FORK.Event()
        self.count = FORK.Value("q", 0)
        self.process = FORK.Process(target=self._run, args=(calls,), daemon=True)
        self.process.start()

    def _run(self, calls):
        threads = [threading.Thread(target=self._call, args=(call,)) for call in calls]
        for t in threads:
            t.start()
        for t in threads:
            t.join()

    def _call(self, call):
        try:
            call(self)
        except BaseException:
            self.wrong.value = 1
            raise
        finally:
            with self.done.get_lock():
                self.done.value += 1

    def end(self):
        self.stop.set()
        self.process.join(60)
        assert self.process.exitcode == 0, "it hangs"
        assert not self.wrong.value, "see its traceback"


def synced(path, data):
    def call(_=None):
        with opened(path, os.O_WRONLY | os.O_CREAT, 0o644) as fd:
            os.pwrite(fd, data, 0)
            os.fsync(fd)

    return call


def backing(volume):
    """Every file of the volume's directory with what a copy takes of it."""
    found = {}
    for place, dirs, files in os.walk(volume.path):
        for name in dirs + files:
            path = os.path.join(place, name)
            st = os.lstat(path)
            data = read_file(path) if not os.path.islink(path) and os.path.isfile(path) else b""
            found[path] = (st.st_mode, st.st_size, st.st_mtime_ns, st.st_ctime_ns, hash(data))
    return found


def copy_of(volume, where):
    subprocess.run(["cp", "-a", volume.path, where], check=True)
    assert os.path.getsize(where / "latchfs.journal") == 2 * 4096, "not as after an unmount"
    return copied(volume, where)


def was_clean(volume):
    shown, = mounts_of(volume)
    return not shown["replay"]["unclean"]


def ledger(path):
    """Writes lines and counts those that are on the disk."""

    def call(work):
        with opened(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) as fd:
            while not work.stop.is_set():
                os.write(fd, b"%09d\n" % work.count.value)
                os.fsync(fd)
                work.count.value += 1

    return call


def load(top):
    def call(work):
        with keylife.load(top):
            work.stop.wait()

    return call


def test_copy_under_load(volume, workdir):
    """What was synced before is in the copy, nothing came after, and the copy needs no replay."""
    with volume.mount() as m:
        held = keylife.fill_tree(m / "quiet", files=40)
        kept = Apart(ledger(m / "ledger"))
        busy = Apart(load(m / "busy"))
        try:
            harness.wait_until(lambda: kept.count.value > 20, what="the ledger")
            before = kept.count.value
            freeze(volume, m).ok()
            at = kept.count.value
            picture = backing(volume)
            copy = copy_of(volume, workdir / "copy")
            keylife.check_tree(held)
            assert backing(volume) == picture
            assert kept.count.value <= at + 1, "synced while frozen"
            thaw(volume, m).ok()
            harness.wait_until(lambda: kept.count.value > at + 5, what="the ledger to go on")
        finally:
            kept.end()
            busy.end()
    with copy.mount(workdir / "copy.mnt") as c:
        assert was_clean(copy)
        lines = read_file(c / "ledger").splitlines()
        assert before <= len(lines) <= at + 1
        assert lines == [b"%09d" % i for i in range(len(lines))]
        keylife.check_tree({str(path).replace(str(m.path), str(c.path)): data for path, data in held.items()})
        every_file_reads(c.path)
        assert mounts_of(copy)[0]["auth_failures"] == 0


@pytest.mark.parametrize("options", [None, "writethrough"], ids=["writeback", "writethrough"])
def test_reads_go_on(volume, options):
    """With many more writers than the mount has threads, and than the kernel sends writes at a time."""
    with volume.mount() as m:
        held = keylife.fill_tree(m / "read", files=30)
        os.mkdir(m / "dirs")
        for i in range(20):
            os.mkdir(m / "dirs" / f"d{i}")
            write_file(m / "dirs" / f"d{i}" / "old", b"")
        for i in range(200):
            write_file(m / f"w{i}", b"before")
    with volume.mount(options=options) as m:  # nothing is in the kernel's caches
        os.listdir(m)
        freeze(volume, m).ok()
        writers = [synced(m / f"w{i}", pattern(i, 5000)) for i in range(200)]
        changes = [c for i in range(20) for d in [m / "dirs" / f"d{i}"] for c in (
            lambda _, d=d: os.mkdir(d / "new"), lambda _, d=d: os.symlink("x", d / "link"),
            lambda _, d=d: os.rename(d / "old", d / "renamed"), lambda _, d=d: os.chmod(d, 0o700),
            lambda _, d=d: os.setxattr(d, "user.x", b"1"))]
        waiting = Apart(*writers, *changes)
        time.sleep(0.5)  # as many as can are in the daemon by now
        keylife.check_tree({str(m / os.path.relpath(p, m.path)): data for p, data in held.items()})
        assert sorted(os.listdir(m / "read")) == [f"d{i}" for i in range(5)]
        assert frozen_until(volume) > time.time()
        assert waiting.done.value == 0
        thaw(volume, m).ok()
        waiting.end()
        for i in range(200):
            assert read_file(m / f"w{i}") == pattern(i, 5000)
        for i in range(20):
            assert sorted(os.listdir(m / "dirs" / f"d{i}")) == ["link", "new", "renamed"]


def test_ends_by_itself(volume):
    with volume.mount() as m:
        write_file(m / "f", b"old")
        result = freeze(volume, m, seconds=1).ok()
        assert "frozen until" in result.out
        synced(m / "f", b"new")()  # waits for nobody but the clock
        assert frozen_until(volume) == 0
        refused(thaw(volume, m), harness.FAILURE, "not frozen", "may not be consistent")
        freeze(volume, m, seconds=1).ok()
        harness.wait_until(lambda: frozen_until(volume) == 0, what="the deadline")
        freeze(volume, m).ok()
        thaw(volume, m).ok()


def test_refusals(volume, workdir):
    with volume.mount() as m:
        freeze(volume, m).ok()
        refused(freeze(volume, m), harness.BUSY, "frozen already")
        assert frozen_until(volume) > 0
        thaw(volume, m).ok()
        refused(thaw(volume, m), harness.FAILURE, "not frozen")
        refused(volume.latch("freeze", "--for", "0", m), harness.USAGE, "1 to 3600")
        refused(volume.latch("freeze", "--for", "1h", m), harness.USAGE, "1 to 3600")
        refused(volume.latch("freeze", workdir), harness.NOTVOLUME, "no mount")
        refused(volume.latch("freeze", volume.path), harness.NOTVOLUME, "no mount")
        refused(volume.latch("thaw", m / "x"), harness.NOTVOLUME, "no mount")
        volume.lock().ok()
        refused(freeze(volume, m), harness.NOKEY, "locked")
        unlock(volume)
    with volume.mount(options="ro") as m:
        refused(freeze(volume, m), harness.IO, "read-only")


def test_with_a_command(volume):
    with volume.mount() as m:
        write_file(m / "f", b"text")
        inside = freeze(volume, m, "--", "sh", "-c", f"{volume.bins.latch} status --json; exit 7")
        assert inside.returncode == 7
        assert json.loads(inside.out)["mounts"][0]["frozen_until"] > 0
        assert frozen_until(volume) == 0
        freeze(volume, m, "--", "cat", m / "f").ok()
        assert freeze(volume, m, "--", "sh", "-c", "kill -TERM $$").returncode == 128 + signal.SIGTERM
        refused(freeze(volume, m, "--", "/no/such/program"), 127, "/no/such/program")
        refused(freeze(volume, m, "--", "sleep", "1.5", seconds=1), harness.FAILURE, "ended before the command did")
        late = freeze(volume, m, "--", "sh", "-c", "sleep 1.5; exit 9", seconds=1)
        assert late.returncode == 9 and "ended before" in late.err
        assert frozen_until(volume) == 0
        taken = freeze(volume, m, "--", "sh", "-c", f"{volume.bins.latch} thaw {m.path}; {volume.bins.latch} freeze {m.path}")
        assert taken.returncode == harness.FAILURE and frozen_until(volume) > 0, "it ended another's freeze"
        thaw(volume, m).ok()


def test_terminated_command_thaws(volume):
    with volume.mount() as m:
        running = subprocess.Popen([volume.bins.latch, "freeze", "--for", "600", m.path, "--", "sleep", "600"],
                                   env=volume.keyd.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        harness.wait_until(lambda: frozen_until(volume), what="the freeze")
        time.sleep(0.2)  # the command has begun
        running.terminate()
        running.communicate(timeout=30)
        assert running.returncode == 128 + signal.SIGTERM
        assert frozen_until(volume) == 0


def blocked_write(top, how="conv=fsync"):
    """A write that waits in the daemon, of a process of its own."""
    process = subprocess.Popen(["dd", f"of={top / 'blocked'}", "if=/dev/zero", "bs=5000", "count=1", how],
                               stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    assert process.poll() is None
    return process


def test_lock_goes_before(volume):
    with volume.mount() as m:
        write_file(m / "f", b"text")
        freeze(volume, m).ok()
        process = blocked_write(m)
        volume.lock("--force").ok()
        process.wait(60)
        refused(thaw(volume, m), harness.FAILURE, "not frozen")
        assert errno_of(read_file, m / "f") == errno.ENOKEY
        unlock(volume)
        assert read_file(m / "f") == b"text"
        freeze(volume, m).ok()
        thaw(volume, m).ok()


def test_lock_of_a_directory_goes_before(volume):
    with volume.mount() as m:
        protect(volume, m / "team")
        write_file(m / "team" / "f", b"text")
        freeze(volume, m).ok()
        process = blocked_write(m / "team", "conv=notrunc")
        volume.latch("lock", "--force", m / "team").ok()
        process.wait(60)
        refused(thaw(volume, m), harness.FAILURE, "not frozen")
        assert errno_of(read_file, m / "team" / "f") == errno.ENOKEY
        volume.latch("unlock", m / "team").ok()
        assert read_file(m / "team" / "f") == b"text"


@pytest.mark.parametrize("way", ["latch", "signal", "umount"])
def test_unmount_goes_before(volume, way):
    with volume.mount() as m:
        write_file(m / "f", b"text")
        freeze(volume, m).ok()
        pid = m.pid
        if way == "latch":
            m.umount().ok()
        elif way == "signal":
            os.kill(pid, signal.SIGTERM)
        else:
            subprocess.run(["umount", m.path], check=True, timeout=60)
        harness.wait_until(lambda: not harness._is_running(pid), what="the daemon's end")
        assert not m.is_mounted()
    with volume.mount() as m:
        assert was_clean(volume)
        assert read_file(m / "f") == b"text"


@pytest.mark.parametrize("way", ["latch", "signal"])
def test_what_waits_at_unmount(volume, way):
    """It reaches the disk: the unmounting ends the freeze."""
    with volume.mount() as m:
        write_file(m / "blocked", b"old")
        freeze(volume, m).ok()
        process = blocked_write(m, "conv=notrunc")  # in close()
        if way == "latch":
            m.umount().ok()
        else:
            pid = m.pid
            os.kill(pid, signal.SIGTERM)
            harness.wait_until(lambda: not harness._is_running(pid), what="the daemon's end")
        assert process.wait(60) == 0
    with volume.mount() as m:
        assert was_clean(volume)
        assert read_file(m / "blocked") == bytes(5000)


def test_kill_while_frozen(volume):
    with volume.mount() as m:
        held = keylife.fill_tree(m / "t", files=20)
        freeze(volume, m).ok()
        process = blocked_write(m)
        m.crash()
        process.wait(60)
    with volume.mount() as m:
        assert was_clean(volume)
        keylife.check_tree({str(m / os.path.relpath(p, m.path)): data for p, data in held.items()})
        synced(m / "more", b"x")()


def test_rotation_waits(volume):
    with volume.mount() as m:
        keylife.fill_tree(m / "t", files=20)
        freeze(volume, m).ok()
        picture = {path: (version, first) for path, _, version, first, _ in keylife.headers(volume)}
        rotation = keylife.start(volume, "rotate", "data", m.path)
        time.sleep(1)
        assert rotation.poll() is None, rotation.communicate()
        assert {path: (version, first) for path, _, version, first, _ in keylife.headers(volume)} == picture
        thaw(volume, m).ok()
        out = rotation.communicate(timeout=60)
        assert rotation.returncode == 0, out
        assert {version for _, _, version, _, _ in keylife.headers(volume)} == {2}
        every_file_reads(m.path)


def git(top, *args):
    return subprocess.run(["git", "-C", str(top), "-c", "user.name=n", "-c", "user.email=e@x", "-c", "core.fsync=all", *args],
                          check=True, capture_output=True)


def use_git(top):
    def call(work):
        n = 0
        while not work.stop.is_set():
            write_file(top / f"f{n % 7}", pattern(n, 3000))
            git(top, "add", "-A")
            git(top, "commit", "-q", "-m", f"c{n}")
            n += 1

    return call


def use_sqlite(path):
    def call(work):
        db = sqlite3.connect(path, timeout=60)
        while not work.stop.is_set():
            db.execute("insert into t values (?, ?)", (work.count.value, "x" * 500))
            db.commit()
            work.count.value += 1
        db.close()

    return call


@pytest.mark.skipif(not shutil.which("git"), reason="no git here")
def test_git_and_sqlite_go_on(volume, workdir):
    """Two programs at work while copies are made; each copy has a sound database and repository."""
    counts = []
    with volume.mount() as m:
        db = sqlite3.connect(m / "db")
        db.execute("create table t (n integer primary key, x text)")
        db.commit()
        db.close()
        os.mkdir(m / "repo")
        git(m / "repo", "init", "-q")
        rows, commits = Apart(use_sqlite(m / "db")), Apart(use_git(m / "repo"))
        try:
            for i in range(2):
                harness.wait_until(lambda i=i: rows.count.value > 10 * (i + 1), what="rows")
                counts.append(rows.count.value)
                freeze(volume, m, "--", "cp", "-a", volume.path, workdir / f"copy{i}").ok()
        finally:
            rows.end()
            commits.end()
    for i, least in enumerate(counts):
        copy = copied(volume, workdir / f"copy{i}")
        with copy.mount(workdir / f"copy{i}.mnt") as c:
            assert was_clean(copy)
            db = sqlite3.connect(c / "db")
            assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
            assert db.execute("select count(*) from t").fetchone()[0] >= least
            db.close()
            git(c / "repo", "fsck", "--full")


def test_ordinary_user(keyd, workdir, user):
    home, entry = keylife.user_home(workdir)
    with harness.Keyd(keyd.bins, home / "keyd", user=entry) as own:
        volume = harness.Volume(own, home / "vol", user=entry).create()
        with volume.mount() as m:
            subprocess.run(["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "sh", "-c",
                            f"echo text > {m.path}/f; chmod 0 {m.path}/f"], check=True)
            freeze(volume, m).ok()
            picture = backing(volume)
            inside = volume.latch("freeze", m.path)
            refused(inside, harness.BUSY, "frozen")
            assert backing(volume) == picture
            thaw(volume, m).ok()
