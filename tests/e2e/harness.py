"""What the end-to-end tests stand on: the programs under test, a keyd of their own, volumes and mounts.

Nothing here needs pytest, so that other drivers (crash tests, benchmarks) can use it. The build directory is
named by the environment variable LATCHFS_BUILD.
"""

import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import uring

PASSPHRASE = "correct horse battery staple"
CLONE_NEWNS = 0x00020000
CONTROL_DIR = Path("/run/latchfs/mounts")  # root's
MS_REC, MS_SLAVE, MS_BIND = 0x4000, 0x80000, 0x1000

# Exit codes of all programs (enum lfs_exit).
OK, FAILURE, USAGE, WRONG_PASSPHRASE, NOKEY, CORRUPT, IO, BUSY, NOTVOLUME = range(9)


class HarnessError(Exception):
    """The surroundings of a test failed, not what it tests."""


def build_dir():
    path = os.environ.get("LATCHFS_BUILD")
    if not path:
        raise HarnessError("set LATCHFS_BUILD to the Meson build directory")
    return Path(path).resolve()


@dataclass
class Binaries:
    latch: str
    keyd: str
    latchfs: str


def binaries():
    build = build_dir()
    found = Binaries(*(str(build / p) for p in ("tools/latch", "keyd/latch-keyd", "fs/mount/latchfs")))
    for path in (found.latch, found.keyd, found.latchfs):
        if not os.access(path, os.X_OK):
            raise HarnessError(f"{path} is not there: build first")
    return found


# ---- surroundings ----

_libc = ctypes.CDLL(None, use_errno=True)


def _mount(source, target, fstype, flags):
    args = [os.fsencode(a) if a is not None else None for a in (source, target, fstype)]
    if _libc.mount(*args, ctypes.c_ulong(flags), None) != 0:
        err = ctypes.get_errno()
        raise OSError(err, os.strerror(err), target)


def private_namespace():
    """Gives this process a mount namespace of its own: no mount of a test is seen outside, and none is left
    when the last process ends. In it /dev/fuse is open to everybody, as udev has it on an ordinary system,
    and /sys/fs/fuse/connections is there. Returns False for whoever may not do this."""
    if os.geteuid() != 0:
        return False
    if _libc.unshare(CLONE_NEWNS) != 0:
        return False
    _mount(None, "/", None, MS_REC | MS_SLAVE)
    if not os.path.exists("/sys/fs/fuse/connections/1") and not _is_fusectl_mounted():
        with contextlib.suppress(OSError):
            _mount("fusectl", "/sys/fs/fuse/connections", "fusectl", 0)
    _open_dev_fuse()
    # Root's control sockets: other processes of the same test run have mounts too. Not what lies around them: the
    # kernel's upcall for keys runs in the first namespace and looks for keyd's socket there.
    os.makedirs(CONTROL_DIR.parent, mode=0o711, exist_ok=True)
    CONTROL_DIR.mkdir(mode=0o700, exist_ok=True)
    _mount("latchfs-e2e", str(CONTROL_DIR), "tmpfs", 0)
    CONTROL_DIR.chmod(0o700)
    return True


def _is_fusectl_mounted():
    return " fusectl " in Path("/proc/self/mountinfo").read_text()


def _open_dev_fuse():
    """Binds a copy of the device with mode 0666 over /dev/fuse; the mode of the real one stays."""
    st = os.stat("/dev/fuse")
    if st.st_mode & 0o666 == 0o666:
        return
    place = tempfile.mkdtemp(prefix="latchfs-dev-")
    try:
        _mount("tmpfs", place, "tmpfs", 0)
        node = os.path.join(place, "fuse")
        os.mknod(node, 0o020666, st.st_rdev)
        os.chmod(node, 0o666)
        _mount(node, "/dev/fuse", None, MS_BIND)
        _libc.umount2(os.fsencode(place), 2)
    finally:
        os.rmdir(place)


def ordinary_user(name="nobody"):
    return pwd.getpwnam(name)


# ---- running programs ----


@dataclass
class Result:
    returncode: int
    out: str
    err: str

    def ok(self):
        assert self.returncode == 0, f"exit {self.returncode}\nstdout: {self.out}\nstderr: {self.err}"
        return self


def _identity(user):
    """Arguments of subprocess for a user (a name, a pwd entry or None: stay who we are)."""
    if user is None:
        return {}
    entry = ordinary_user(user) if isinstance(user, str) else user
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def run(argv, *, env=None, user=None, input=None, timeout=120, cwd="/", **more):
    """Runs a program to its end without a terminal, so that nothing can wait for a person."""
    if input is None:
        more.setdefault("stdin", subprocess.DEVNULL)
    else:
        more["input"] = input.encode() if isinstance(input, str) else input
    p = subprocess.run(
        [str(a) for a in argv], env=env, cwd=cwd, timeout=timeout, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True, check=False, **_identity(user), **more,
    )
    decode = lambda b: b.decode("utf-8", "surrogateescape")  # noqa: E731
    return Result(p.returncode, decode(p.stdout), decode(p.stderr))


def wait_until(condition, seconds=30.0, what="a condition"):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise HarnessError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.01)


# ---- the key helper ----


class Keyd:
    """A latch-keyd with a socket, configuration and state directory of its own. It runs as user, or as
    whoever runs the tests. env is what a program needs to talk to it."""

    def __init__(self, bins, directory, user=None, config=None):
        self.bins = bins
        self.user = ordinary_user(user) if isinstance(user, str) else user
        self.dir = Path(directory)
        self.dir.mkdir(mode=0o700, exist_ok=True)
        self.socket = self.dir / "keyd.sock"
        self.state = self.dir / "state"
        self.state.mkdir(mode=0o700, exist_ok=True)
        self.config = self.dir / "keyd.ini"
        self.config.write_text(config or "[keyd]\nidle_exit_seconds = 0\n")
        self.log = self.dir / "keyd.log"
        self.process = None
        if self.user is not None:
            for path in (self.dir, self.state, self.config):
                os.chown(path, self.user.pw_uid, self.user.pw_gid)

    @property
    def env(self):
        keep = {k: v for k, v in os.environ.items() if k.startswith(("LC_", "LANG", "ASAN_", "UBSAN_", "TSAN_"))}
        keep.update(
            PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", HOME=str(self.dir),
            LATCH_KEYD_SOCKET=str(self.socket), LATCH_KEYD_STATE_DIR=str(self.state),
            LATCH_KEYD_CONFIG=str(self.config), XDG_RUNTIME_DIR=str(self.dir),
        )
        return keep

    def argv(self):
        return [self.bins.keyd, "--socket", str(self.socket), "--state-dir", str(self.state), "--config", str(self.config)]

    def answers(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            try:
                s.connect(str(self.socket))
                return True
            except OSError:
                return False

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.argv(), env=self.env, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, **_identity(self.user),
            )

        def up():
            if self.process.poll() is not None:
                raise HarnessError(f"latch-keyd ended with {self.process.returncode}:\n{self.log.read_text()}")
            return self.answers()

        wait_until(up, what="latch-keyd to listen")
        return self

    def stop(self):
        """Ends it in good order; returns its exit code."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.terminate()
        try:
            return process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise HarnessError("latch-keyd did not end on SIGTERM") from None

    def kill(self):
        """kill -9, as a crash."""
        process, self.process = self.process, None
        process.kill()
        process.wait()

    def __enter__(self):
        return self.start()

    def __exit__(self, *exc):
        self.stop()


# ---- volumes ----


class Volume:
    """A volume directory with the files that open it. Made by create(); nothing is mounted by itself."""

    def __init__(self, keyd, directory, user=None, passphrase=PASSPHRASE):
        self.keyd = keyd
        self.bins = keyd.bins
        self.user = ordinary_user(user) if isinstance(user, str) else user
        self.path = Path(directory)
        self.passphrase = passphrase
        self.passfile = self.path.with_name(self.path.name + ".pass")
        self.recovery = self.path.with_name(self.path.name + ".recovery")

    def latch(self, *args, **more):
        more.setdefault("env", self.keyd.env)
        more.setdefault("user", self.user)
        return run([self.bins.latch, *args], **more)

    def write_passfile(self):
        self.passfile.write_text(self.passphrase + "\n")
        self.passfile.chmod(0o600)
        if self.user is not None:
            os.chown(self.passfile, self.user.pw_uid, self.user.pw_gid)

    def create(self, *options):
        self.write_passfile()
        self.latch("init", "--fast-kdf", "--passphrase-file", self.passfile, "--recovery-file", self.recovery,
                   *options, self.path).ok()
        return self

    def unlock(self):
        return self.latch("unlock", "--passphrase-file", self.passfile, self.path)

    def lock(self, *options):
        return self.latch("lock", *options, self.path)

    def mount(self, mountpoint=None, options=None, **more):
        return Mount(self, mountpoint or self.path.with_name(self.path.name + ".mnt"), options, **more)


def mount_device(mountpoint):
    """The minor number of what is mounted there (the FUSE connection's), or None; never touches the mount."""
    want = os.path.abspath(mountpoint)
    found = None
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields = line.split(" ")
        if fields[4].encode().decode("unicode_escape") == want:
            found = int(fields[2].split(":")[1])
    return found


def abort_connection(minor):
    with contextlib.suppress(OSError):
        Path(f"/sys/fs/fuse/connections/{minor}/abort").write_text("1")


def daemon_pids(mountpoint):
    """Processes that serve the mount point, by their command line (their other files are not readable)."""
    pids = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if os.path.basename(words[0]) == b"latchfs" and os.fsencode(str(mountpoint)) in words:
                pids.append(int(entry.name))
    return pids


def _is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Mount:
    """A mount for the length of a with block. It is gone afterwards whatever happened inside: a hung daemon's
    connection is aborted. Path(m) or m.path is the mount point, m / "name" a path in it."""

    def __init__(self, volume, mountpoint, options=None, user=None, check_umount=True):
        self.volume = volume
        self.path = Path(mountpoint)
        self.options = options
        self.user = user if user is not None else volume.user
        self.check_umount = check_umount

    def __truediv__(self, name):
        return self.path / name

    def __fspath__(self):
        return str(self.path)

    @property
    def pid(self):
        pids = daemon_pids(self.path)
        assert len(pids) == 1, f"{len(pids)} daemons serve {self.path}"
        return pids[0]

    def mount(self):
        """latch mount; returns its Result, whatever it is."""
        if not self.path.exists():
            self.path.mkdir()
            if self.user is not None:
                entry = ordinary_user(self.user) if isinstance(self.user, str) else self.user
                os.chown(self.path, entry.pw_uid, entry.pw_gid)
        options = uring.options_as_wanted(self.options)
        with uring.as_wanted():
            return self.volume.latch("mount", "--passphrase-file", self.volume.passfile, *options, self.volume.path,
                                     self.path, user=self.user)

    def umount(self):
        return self.volume.latch("umount", self.path, user=self.user)

    def is_mounted(self):
        return mount_device(self.path) is not None

    def crash(self):
        """kill -9 of the daemon, then the dead mount is taken away."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not _is_running(pid), what="latchfs to die")
        self.force_away()

    def force_away(self):
        pids = daemon_pids(self.path)
        minor = mount_device(self.path)
        while minor is not None:
            abort_connection(minor)
            if _libc.umount2(os.fsencode(str(self.path)), 2) != 0:
                run(["fusermount3", "-u", "-z", self.path], user=self.user)
            before, minor = minor, mount_device(self.path)
            if minor == before:
                raise HarnessError(f"cannot unmount {self.path}")
        for pid in pids:
            end = time.monotonic() + 10
            while _is_running(pid) and time.monotonic() < end:
                time.sleep(0.02)
            if _is_running(pid):
                os.kill(pid, signal.SIGKILL)

    def __enter__(self):
        try:
            self.mount().ok()
            assert self.is_mounted(), "latch mount said yes, but nothing is mounted"
        except BaseException:
            self.force_away()
            raise
        return self

    def __exit__(self, kind, value, trace):
        if not self.is_mounted():
            self.force_away()
            return
        try:
            result = self.umount()
        except subprocess.TimeoutExpired:
            result = Result(-1, "", "latch umount hangs")
        self.force_away()
        if kind is None and self.check_umount:
            result.ok()


class Workdir:
    """A temporary directory that ordinary users may enter. LATCHFS_TEST_DIR says where (default: TMPDIR)."""

    def __init__(self):
        self.path = Path(tempfile.mkdtemp(prefix="latchfs-e2e-", dir=os.environ.get("LATCHFS_TEST_DIR")))
        self.path.chmod(0o755)

    def remove(self):
        for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
            target = line.split(" ")[4].encode().decode("unicode_escape")
            if target.startswith(str(self.path) + "/"):
                abort_connection(int(line.split(" ")[2].split(":")[1]))
                _libc.umount2(os.fsencode(target), 2)
        shutil.rmtree(self.path, ignore_errors=True)
