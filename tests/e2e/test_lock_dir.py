"""One protected directory is locked and unlocked while the rest of the mount goes on."""

import ctypes
import errno
import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager

import pytest

import harness
import keylife
from fsbox import PLAIN, check_volume
from keylife import protect
from syscalls import errno_of, opened, pattern, read_file, resident, write_file
from volumes import check, fill, mounts_of

pytest_plugins = ["fsbox"]
pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")
PYTHON = "/usr/bin/python3"


@pytest.fixture
def m(volume):
    """A mount with the protected directories one and other."""
    with volume.mount() as mounted:
        protect(volume, mounted / "one")
        protect(volume, mounted / "other")
        yield mounted
    check_volume(volume)


def lock(m, name="one", *options):
    return m.volume.latch("lock", *options, m / name)


def unlock(m, name="one"):
    return m.volume.latch("unlock", m / name)


def is_locked(m, name="one"):
    return errno_of(os.listdir, m / name) == errno.ENOKEY


def assert_refused(top):
    """Nothing below top can be named, listed, read, changed or made; its own name stays."""
    for call in (lambda: os.listdir(top), lambda: read_file(top / "random4096"), lambda: os.stat(top / "random1"),
                 lambda: os.readlink(top / "link"), lambda: write_file(top / "new", b""), lambda: os.stat(top / "no"),
                 lambda: os.unlink(top / "random4096"), lambda: os.mkdir(top / "d"), lambda: os.access(top / "no", os.F_OK)
                 or os.stat(top / "no"), lambda: os.rename(top / "link", top / "l"), lambda: os.symlink("x", top / "s")):
        assert errno_of(call) == errno.ENOKEY
    assert os.path.isdir(top)


# ---- what is refused, and what goes on ----


def test_the_other_goes_on(m):
    fill(m / "one")
    with keylife.load(str(m / "other" / "load")):
        for _ in range(3):
            lock(m).ok()
            assert_refused(m / "one")
            assert sorted(os.listdir(m)) == ["one", "other"]
            write_file(m / "outside", b"works")
            os.unlink(m / "outside")
            unlock(m).ok()
            check(m / "one")


def test_both_then_the_volume(m):
    for name in ("one", "other"):
        fill(m / name)
        lock(m, name).ok()
    assert_refused(m / "one")
    assert_refused(m / "other")
    m.volume.lock().ok()
    assert errno_of(os.listdir, m.path) == errno.ENOKEY
    m.volume.unlock().ok()
    harness.wait_until(lambda: not is_locked(m) and not is_locked(m, "other"), what="the unlock of all")
    check(m / "one")
    check(m / "other")


def test_what_was_written_is_saved(volume):
    """kill -9 right after the lock loses nothing of the directory."""
    mount = volume.mount()
    with mount as m:
        protect(volume, m / "one")
        for i in range(50):
            write_file(m / "one" / f"f{i}", pattern(i, 5000 * i))
        lock(m).ok()
        m.crash()
        m.mount().ok()
        unlock(m)
        for i in range(50):
            assert read_file(m / "one" / f"f{i}") == pattern(i, 5000 * i)


def test_cached_names_are_gone(m):
    """Names that the kernel knew, that it knew not to be there, and those that programs work in."""
    top = m / "one"
    os.makedirs(top / "sub" / "deep")
    write_file(top / "sub" / "deep" / "file", b"x")
    assert errno_of(os.stat, top / "missing") == errno.ENOENT
    with opened(top, os.O_RDONLY | os.O_DIRECTORY) as one, opened(top / "sub", os.O_RDONLY | os.O_DIRECTORY) as sub, \
            opened(top / "sub" / "deep", os.O_RDONLY | os.O_DIRECTORY) as deep:
        os.listdir(one), os.listdir(sub)
        lock(m, "one", "--force").ok()
        for fd, name in ((one, "sub"), (one, "missing"), (sub, "deep"), (deep, "file"), (deep, "missing")):
            assert errno_of(os.stat, name, dir_fd=fd) == errno.ENOKEY
        for fd in (one, sub, deep):
            assert errno_of(os.listdir, fd) == errno.ENOKEY
        unlock(m).ok()
        assert os.listdir(deep) == ["file"] and os.listdir(one) == ["sub"]
        assert errno_of(os.stat, "missing", dir_fd=one) == errno.ENOENT
        assert os.stat("file", dir_fd=deep).st_size == 1


def test_working_directories_stay(m):
    """A program that stands in a locked directory finds itself there after the unlock, and others never notice."""
    script = ("import os, sys\nos.chdir(sys.argv[1])\nprint('ready', flush=True)\n"
              "for line in sys.stdin:\n"
              "  try:\n    print(os.getcwd() if line == 'cwd\\n' else sorted(os.listdir('.')), flush=True)\n"
              "  except OSError as e:\n    print(e.errno, flush=True)\n")
    os.makedirs(m / "one" / "sub" / "a")
    os.makedirs(m / "other" / "sub" / "a")

    def ask(p, what):
        p.stdin.write(what + "\n")
        p.stdin.flush()
        return p.stdout.readline().strip()

    programs = [subprocess.Popen([PYTHON, "-c", script, m / name / "sub"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 text=True) for name in ("one", "other")]
    try:
        for p in programs:
            assert p.stdout.readline() == "ready\n"
        inside, outside = programs
        lock(m, "one", "--force").ok()
        assert ask(inside, "ls") == str(errno.ENOKEY)
        assert ask(outside, "cwd") == str(m / "other" / "sub") and ask(outside, "ls") == "['a']"
        unlock(m).ok()
        assert ask(inside, "ls") == "['a']"
        os.stat(m / "one" / "sub")
        assert ask(inside, "cwd") == str(m / "one" / "sub")
    finally:
        for p in programs:
            p.kill()
            p.communicate()


# ---- pages ----


def test_pages_are_gone(m):
    size = 4 << 20
    for name in ("one", "other"):
        write_file(m / name / "f", pattern(1, size))
        read_file(m / name / "f")
    with opened(m / "one" / "f", os.O_RDONLY) as fd, opened(m / "other" / "f", os.O_RDONLY) as other:
        assert resident(fd) > 0.5 and resident(other) > 0.5
        lock(m, "one", "--force").ok()
        assert resident(fd) == 0
        assert resident(other) > 0.5
        assert errno_of(os.pread, fd, 100, 0) == errno.ENOKEY
        unlock(m).ok()
        assert os.pread(fd, size, 0) == pattern(1, size)


def test_mapped_pages_are_gone(m):
    write_file(m / "one" / "f", pattern(1, 100000))
    ready = m.volume.path.with_name("ready")
    script = ("import mmap, os, sys, time\nfd = os.open(sys.argv[1], os.O_RDONLY)\n"
              "m = mmap.mmap(fd, 100000, prot=mmap.PROT_READ); m[:]\nos.close(fd)\nopen(sys.argv[2], 'w').close()\n"
              "while os.path.exists(sys.argv[2]): time.sleep(0.01)\n"
              "print(m[50000:50010].hex())\n")
    p = subprocess.Popen([PYTHON, "-c", script, m / "one" / "f", ready], stdout=subprocess.PIPE)
    try:
        harness.wait_until(ready.exists, what="the mapping")
        assert lock(m).returncode == harness.BUSY, "a mapping holds a file as well"
        lock(m, "one", "--force").ok()
        ready.unlink()
        out, _ = p.communicate(timeout=60)
    finally:
        p.kill()
        p.wait()
    assert out == b"" and p.returncode == -signal.SIGBUS


def test_open_files_work_on(m):
    with opened(m / "one" / "f", os.O_RDWR | os.O_CREAT) as fd:
        os.write(fd, pattern(1, 200000))
        lock(m, "one", "--force").ok()
        assert errno_of(os.pread, fd, 100, 150000) == errno.ENOKEY
        assert errno_of(os.pwrite, fd, pattern(2, 8192), 0) or errno_of(os.fsync, fd) == errno.ENOKEY
        assert errno_of(os.fstat, fd) == errno.ENOKEY
        unlock(m).ok()
        assert os.pread(fd, 200000, 0) == pattern(1, 200000)
        os.pwrite(fd, b"after", 0)
        os.fsync(fd)
    assert read_file(m / "one" / "f") == b"after" + pattern(1, 200000)[5:]


def test_under_load(m):
    """Writers in the locked directory get ENOKEY, nothing worse; what they had synced reads back."""
    script = ("import os, sys, errno\nn = 0\nwhile True:\n"
              "  try:\n"
              "    fd = os.open(sys.argv[1] + '/f%d' % n, os.O_CREAT | os.O_RDWR)\n"
              "    os.write(fd, b'%d' % n * 3000); os.fsync(fd); os.close(fd)\n"
              "  except OSError as e:\n"
              "    print(n); sys.exit(0 if e.errno == errno.ENOKEY else 1)\n"
              "  n += 1\n")
    for turn in range(3):
        top = m / "one" / f"t{turn}"
        os.mkdir(top)
        p = subprocess.Popen([PYTHON, "-c", script, top], stdout=subprocess.PIPE, text=True)
        try:
            harness.wait_until(lambda: len(os.listdir(top)) > 20, what="the writer")
            lock(m, "one", "--force").ok()
            out, _ = p.communicate(timeout=60)
        finally:
            p.kill()
            p.wait()
        assert p.returncode == 0, "another error than ENOKEY"
        unlock(m).ok()
        for n in range(int(out)):
            assert read_file(top / f"f{n}") == b"%d" % n * 3000


# ---- who holds it ----


def test_held_files_are_listed(m):
    p = subprocess.Popen(["/bin/sleep", "1000"], stdin=open(m / "one" / "f", "w"))
    try:
        result = lock(m)
        assert result.returncode == harness.BUSY
        assert str(p.pid) in result.err and "sleep" in result.err and "--force" in result.err
        assert not is_locked(m)
        assert lock(m, "other").returncode == 0, "nothing is open there"
        result = lock(m, "one", "--force").ok()
        assert "1 file was open" in result.out
        assert is_locked(m)
    finally:
        p.kill()
        p.wait()
    unlock(m).ok()
    lock(m).ok()


# ---- across ----


def test_moving_across_is_copying(m):
    fill(m / "one")
    assert errno_of(os.rename, m / "one" / "random4097", m / "other" / "r") == errno.EXDEV
    assert errno_of(os.link, m / "one" / "random4097", m / "other" / "r") == errno.EXDEV
    assert errno_of(os.rename, m / "one" / "random4097", m / "r") == errno.EXDEV
    harness.run(["mv", m / "one" / "random4097", m / "other" / "moved"]).ok()
    harness.run(["cp", "-a", m / "one", m / "other" / "copy"]).ok()
    assert read_file(m / "other" / "moved") == pattern(4097, 4097)
    os.rename(m / "other" / "moved", m / "other" / "copy" / "random4097")
    lock(m).ok()
    assert errno_of(os.rename, m / "other" / "copy" / "random1", m / "one" / "r") in (errno.EXDEV, errno.ENOKEY)
    assert read_file(m / "other" / "copy" / "random1") == pattern(1, 1)


def test_a_locked_top_keeps_its_name(m):
    """Its record names its place, and only its own keys can write that."""
    write_file(m / "one" / "f", b"content")
    lock(m).ok()
    assert errno_of(os.rename, m / "one", m / "moved") == errno.ENOKEY
    assert is_locked(m, "one")
    unlock(m, "one").ok()
    os.rename(m / "one", m / "moved")
    assert read_file(m / "moved" / "f") == b"content"


# ---- without being told: leases, grace, idleness ----


def with_policy(keyd, volume, text):
    """keyd anew with a policy; VOLUME in it stands for the volume's id."""
    ini = (volume.path / "latchfs.ini").read_text()
    volume_id = next(line.split(" = ")[1] for line in ini.splitlines() if line.startswith("id = "))
    keyd.stop()
    keyd.config.write_text("[keyd]\nidle_exit_seconds = 0\n" + text.replace("VOLUME", volume_id))
    keyd.start()


def test_lease_ends(keyd, volume):
    """When keyd is gone each directory stays for its own lease."""
    with_policy(keyd, volume, "[directory VOLUME/one]\nlease_seconds = 4\n")
    with volume.mount() as m:
        protect(volume, m / "one")
        protect(volume, m / "other")
        write_file(m / "one" / "f", b"one")
        time.sleep(5)
        assert read_file(m / "one" / "f") == b"one", "the lease was not renewed"
        keyd.kill()
        harness.wait_until(lambda: is_locked(m), what="the end of the lease")
        write_file(m / "other" / "f", b"other")
        keyd.start()
        volume.unlock().ok()
        harness.wait_until(lambda: not is_locked(m), what="the new keyd")
        assert read_file(m / "one" / "f") == b"one"


def test_grace_ends(keyd, volume):
    with_policy(keyd, volume, "[lease]\ngrace_seconds = 1\n")
    with volume.mount() as m:
        protect(volume, m / "one")
        write_file(m / "one" / "f", b"one")
        keyd.kill()
        harness.wait_until(lambda: mounts_of(volume)[0]["locked"], what="the end of the grace")
        assert errno_of(os.listdir, m.path) == errno.ENOKEY
        keyd.start()
        volume.unlock().ok()
        harness.wait_until(lambda: errno_of(os.listdir, m.path) == 0 and not is_locked(m), what="the new keyd")
        assert read_file(m / "one" / "f") == b"one"


def has_mount(volume):
    """A mount is connected to latch-keyd; the other connection is the asker's."""
    return json.loads(volume.latch("status", "--json").ok().out)["keyd"]["connections"] > 1


def has_lease(volume):
    """The present latch-keyd has given keys of the volume's own directory."""
    keyd = json.loads(volume.latch("status", "--json").ok().out)["keyd"]
    return any(d["leases"] for v in keyd["volumes"] for d in v["directories"] if d["root"])


def test_grace_goes_on_under_a_keyd_without_keys(keyd, volume):
    """A keyd that was restarted and has nothing unlocked neither locks mounts at once nor stops the clock."""
    with_policy(keyd, volume, "[lease]\ngrace_seconds = 12\n")
    with volume.mount() as m:
        write_file(m / "f", b"one")
        keyd.kill()
        keyd.start()
        harness.wait_until(lambda: has_mount(volume), what="the mount to find the new keyd")
        assert read_file(m / "f") == b"one", "locked before the grace was over"
        harness.wait_until(lambda: errno_of(os.listdir, m.path) == errno.ENOKEY, what="the end of the grace")
        volume.unlock().ok()
        harness.wait_until(lambda: errno_of(os.listdir, m.path) == 0, what="the unlock")
        assert read_file(m / "f") == b"one"


def test_grace_ends_with_a_lease(keyd, volume):
    with_policy(keyd, volume, "[lease]\ngrace_seconds = 3\n")
    with volume.mount() as m:
        write_file(m / "f", b"one")
        keyd.kill()
        keyd.start()
        volume.unlock().ok()
        harness.wait_until(lambda: has_lease(volume), what="the mount to lease anew")
        time.sleep(4)
        assert read_file(m / "f") == b"one"


def hold_under_policy(keyd, volume, m, text):
    """A file is open while a policy with an idle time of 2 seconds comes, and for longer than that; then it is
    closed."""
    with opened(m / "one" / "f", os.O_RDWR | os.O_CREAT) as fd:
        with_policy(keyd, volume, text + "idle_seconds = 2\n")
        volume.unlock().ok()
        time.sleep(5)
        os.write(fd, b"held")
        os.fsync(fd)


def test_idle(keyd, volume):
    """An idle directory is locked, and stays so until somebody unlocks it; open files keep it."""
    with volume.mount() as m:
        protect(volume, m / "one")
        protect(volume, m / "other")
        hold_under_policy(keyd, volume, m, "[directory VOLUME/one]\n")

        def locked():
            return [d["locked"] for d in mounts_of(volume)[0]["directories"]]

        harness.wait_until(lambda: sum(locked()) == 1, what="the idle lock")
        assert is_locked(m) and not is_locked(m, "other")
        unlock(m).ok()
        assert read_file(m / "one" / "f") == b"held"


def test_a_file_opened_at_the_idle_lock_is_not_cut_off(keyd, volume):
    """While keyd hangs the lock of an idle directory takes long. Who opens a file then may be refused, but who is not
    keeps the file."""
    with volume.mount() as m:
        protect(volume, m / "one")
        write_file(m / "one" / "f", b"held")
        with_policy(keyd, volume, "[directory VOLUME/one]\nidle_seconds = 3\n")
        volume.unlock().ok()
        harness.wait_until(lambda: has_lease(volume), what="the mount to lease anew")
        os.kill(keyd.process.pid, signal.SIGSTOP)
        try:
            time.sleep(5)
            try:
                fd = os.open(m / "one" / "f", os.O_RDWR)
            except OSError as e:
                assert e.errno == errno.ENOKEY
                fd = -1
        finally:
            os.kill(keyd.process.pid, signal.SIGCONT)
        time.sleep(3)
        if fd >= 0:
            try:
                assert os.pwrite(fd, b"HELD", 0) == 4
                os.fsync(fd)
                assert os.pread(fd, 4, 0) == b"HELD"
            finally:
                os.close(fd)


def test_idle_volume(keyd, volume):
    """The root's idle time is about everything in the volume."""
    with volume.mount() as m:
        protect(volume, m / "one")
        hold_under_policy(keyd, volume, m, "[directory VOLUME//]\n")
        harness.wait_until(lambda: mounts_of(volume)[0]["locked"], what="the idle lock")
        assert errno_of(os.listdir, m.path) == errno.ENOKEY
        volume.unlock().ok()
        harness.wait_until(lambda: errno_of(os.listdir, m.path) == 0, what="the unlock")
        assert read_file(m / "one" / "f") == b"held"


# ---- a lock that leaves something ----

EPOLL_WAITS = ("232", "281", "22")  # epoll_wait, epoll_pwait of x86-64; epoll_pwait of arm64
PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207


@contextmanager
def stopped_worker(pid):
    """One thread of the mount that waits for requests does nothing any more; all others go on."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

    def ptrace(what, tid):
        if libc.ptrace(what, tid, None, None) < 0:
            raise OSError(ctypes.get_errno(), "ptrace")

    def waits_for_requests(tid):
        with open(f"/proc/{pid}/task/{tid}/syscall") as f:
            return f.read().split()[0] in EPOLL_WAITS

    tid = next(int(t) for t in os.listdir(f"/proc/{pid}/task") if waits_for_requests(t))
    ptrace(PTRACE_SEIZE, tid)
    ptrace(PTRACE_INTERRUPT, tid)
    os.waitpid(tid, 0x40000000)  # __WALL
    try:
        yield
    finally:
        ptrace(PTRACE_DETACH, tid)


@pytest.mark.skipif(os.geteuid() != 0, reason="stops a thread")
@pytest.mark.parametrize("what", ["directory", "volume"])
def test_a_lock_that_leaves_something_says_so(keyd, volume, what):
    """A worker that does not wipe its buffers may have plaintext: that is no lock without a rest."""
    with volume.mount() as m:
        protect(volume, m / "one")
        with_policy(keyd, volume, "[lease]\nrevoke_wait_seconds = 60\n")
        volume.unlock().ok()
        harness.wait_until(lambda: has_lease(volume), what="the mount to lease anew")
        with stopped_worker(m.pid):
            result = lock(m, "one", "--force") if what == "directory" else volume.lock()
        assert "whose programs keep what they read" in result.out, result.out + result.err
        volume.unlock().ok()
        if what == "directory":
            unlock(m).ok()
        harness.wait_until(lambda: not is_locked(m), what="the unlock")


# ---- keyd dies, mounts come back ----


def test_keyd_is_killed(keyd, m):
    """A new keyd knows nothing: the mount goes on, leases anew after the unlock, and obeys."""
    write_file(m / "one" / "f", b"one")
    keyd.kill()
    assert read_file(m / "one" / "f") == b"one"
    keyd.start()
    assert read_file(m / "one" / "f") == b"one"
    m.volume.unlock().ok()
    lock(m).ok()
    harness.wait_until(lambda: is_locked(m), what="the mount to find the new keyd")
    assert errno_of(read_file, m / "one" / "f") == errno.ENOKEY
    unlock(m).ok()
    assert read_file(m / "one" / "f") == b"one"


def test_keyd_hangs(keyd, m):
    """Nothing in the mount waits for keyd, nor does the control socket."""
    write_file(m / "one" / "f", b"one")
    os.kill(keyd.process.pid, signal.SIGSTOP)
    try:
        with keylife.load(str(m / "one" / "load")):
            assert mounts_of_without_keyd(m)
            time.sleep(1)
        assert read_file(m / "one" / "f") == b"one"
    finally:
        os.kill(keyd.process.pid, signal.SIGCONT)


def mounts_of_without_keyd(m):
    import test_control
    return test_control.ask(m, test_control.STATUS)[0] == 0


def test_a_lock_outlives_the_mount(m):
    """What was locked by order is not given to the next mount."""
    write_file(m / "one" / "f", b"one")
    lock(m).ok()
    m.umount().ok()
    m.mount().ok()
    assert_refused(m / "one")
    assert not is_locked(m, "other")
    unlock(m).ok()
    assert read_file(m / "one" / "f") == b"one"


def test_read_only_mount(volume):
    with volume.mount() as m:
        protect(volume, m / "one")
        write_file(m / "one" / "f", b"one")
    with volume.mount(options="ro") as m:
        assert read_file(m / "one" / "f") == b"one"
        lock(m).ok()
        assert is_locked(m)
        unlock(m).ok()
        assert read_file(m / "one" / "f") == b"one"


def test_lock_right_after_keyd_was_replaced(volume):
    """The mount has its keys from a keyd that is gone and may not have found the new one: locked means locked."""
    with volume.mount() as m:
        protect(volume, m / "team")
        write_file(m / "team/f", b"x")
        volume.keyd.kill()
        volume.keyd.start()
        volume.unlock().ok()
        result = volume.latch("lock", m / "team")
        assert result.returncode == harness.OK, result.err
        assert errno_of(os.listdir, m / "team") == errno.ENOKEY
        volume.latch("unlock", m / "team").ok()
        assert read_file(m / "team/f") == b"x"


def test_lock_while_the_mount_looks_for_keyd(volume):
    """A lock that only latch-keyd knows of reaches the mount as soon as it is back, long before any grace ends."""
    with volume.mount() as m:
        write_file(m / "f", b"x")
        vid = keylife.keys(volume)["volume"]
        volume.keyd.kill()
        volume.keyd.start()
        volume.unlock().ok()
        cli = harness.build_dir() / "tests/e2e/keydcli"
        said = harness.run([cli], env=volume.keyd.env, input=f"connect {volume.keyd.socket} -\nlock {vid}\n").ok().out
        assert [line.split()[0] for line in said.splitlines()] == ["0", "0"]
        harness.wait_until(lambda: mounts_of(volume)[0]["locked"], 60, "the mount to lock")
        assert errno_of(os.listdir, m.path) == errno.ENOKEY
        volume.unlock().ok()
        harness.wait_until(lambda: not mounts_of(volume)[0]["locked"], 60, "the mount to unlock")
        assert read_file(m / "f") == b"x"
