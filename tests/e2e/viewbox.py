"""A plain directory and its encrypted view, for the tests of latch view."""

import contextlib
import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import harness
from syscalls import opened, pattern, write_file

READER = Path(__file__).resolve().parent.parent / "reader"
sys.path.insert(0, str(READER))
CHUNK = 4096


class View:
    """dir/plain with a key store, and mount points dir/NAME. user: who runs everything."""

    def __init__(self, keyd, directory, user=None):
        self.keyd, self.dir, self.user = keyd, Path(directory), user
        self.plain = self.dir / "plain"
        self.passfile = self.dir / "view.pass"
        self.recovery = self.dir / "view.recovery"
        self.opened = {}  # key stores, since opening one takes a while
        self.make(self.plain)
        self.passfile.write_text(harness.PASSPHRASE + "\n")
        self.own(self.passfile)

    def own(self, path):
        if self.user is not None:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def make(self, path):
        path.mkdir(exist_ok=True)
        self.own(path)
        return path

    def latch(self, *args, **more):
        more.setdefault("user", self.user)
        return harness.run([self.keyd.bins.latch, *args], env=self.keyd.env, **more)

    def init(self, *options):
        self.latch("view", "--init", "--fast-kdf", "--passphrase-file", self.passfile, "--recovery-file", self.recovery,
                   *options, self.plain).ok()
        return self

    @property
    def config(self):
        return self.plain / ".latchfs-view.ini"

    def try_mount(self, name="view", *options):
        return self.latch("view", "--passphrase-file", self.passfile, *options, self.plain, self.make(self.dir / name))

    @contextlib.contextmanager
    def mounted(self, name="view", *options):
        """The mount point, mounted meanwhile. What hangs or stays is taken away by force (harness.Workdir)."""
        self.try_mount(name, *options).ok()
        place = self.dir / name
        yield place
        self.latch("umount", place).ok()
        assert harness.mount_device(place) is None

    def read_by_reader(self, source, out, *more):
        return harness.run([sys.executable, READER / "latchread.py", "--passphrase-file", self.passfile, *more, source, out])

    def keys(self, source):
        """The keys of the view, as the second reader opens them."""
        import latchread

        ini = (Path(source) / "latchfs.ini").read_bytes()
        if ini not in self.opened:
            self.opened[ini] = latchread.Keys(ini, "passphrase", harness.PASSPHRASE.encode())
        return self.opened[ini]

    def decrypt(self, source, data, scratch):
        """The plaintext of a file of the root, of which data was read; raises latchread.Bad."""
        import latchread

        keys = self.keys(source)
        directory = latchread.Directory(os.fsencode(source), keys, None)
        Path(scratch).write_bytes(data)
        fd = os.open(scratch, os.O_RDONLY)
        try:
            f = latchread.File(fd, keys, directory.protected, directory.id)
            out = bytearray(f.size)
            for at, piece in f.pieces():
                out[at : at + len(piece)] = piece
            return bytes(out)
        finally:
            os.close(fd)

    def stored(self, source, name):
        """The path of a plain name of the root in the view (short names)."""
        import latchread

        directory = latchread.Directory(os.fsencode(source), self.keys(source), None)
        for found in os.listdir(os.fsencode(source)):
            with contextlib.suppress(latchread.Bad):
                if directory.decrypt_name(found) == os.fsencode(name):
                    return Path(source) / os.fsdecode(found)
        raise AssertionError(f"{name} is not in the view")


@contextlib.contextmanager
def foreground(view, name, *options):
    """latchfs-view itself in the foreground, with the volume unlocked: its process, and what it logs at the end."""
    place = view.make(view.dir / name)
    program = harness.build_dir() / "fs/view/latchfs-view"
    p = subprocess.Popen([program, "-f", *options, view.plain, place], env=view.keyd.env, stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/")
    try:
        harness.wait_until(lambda: harness.mount_device(place) is not None, what="the view to be mounted")
        yield place, p
    finally:
        if p.poll() is None:
            p.send_signal(signal.SIGTERM)
            p.wait(60)


def xattrs_of(path):
    names = sorted(n for n in os.listxattr(path, follow_symlinks=False) if n.startswith("user."))
    return {n: os.getxattr(path, n, follow_symlinks=False) for n in names}


def look(path, content=hashlib.sha256):
    """Everything about one thing in a tree but its inode number and change time."""
    st = os.lstat(path)
    body = None
    if stat.S_ISREG(st.st_mode):
        body = content(Path(os.fsdecode(path)).read_bytes())
        body = body.hexdigest() if content is hashlib.sha256 else body
    elif stat.S_ISLNK(st.st_mode):
        body = os.readlink(path)
    attrs = xattrs_of(path) if not stat.S_ISLNK(st.st_mode) else {}
    times = st.st_mtime_ns if stat.S_ISREG(st.st_mode) else None
    size = st.st_size if stat.S_ISREG(st.st_mode) else 0
    return (st.st_mode, st.st_uid, st.st_gid, size, times, st.st_rdev, body, attrs)


def tree(top, inodes=False, skip=()):
    """{path: look} of all below top; inodes: with inode numbers."""
    found = {}
    for place, dirs, files in os.walk(os.fsencode(top)):
        dirs[:] = [d for d in dirs if d not in skip]
        for name in dirs + files:
            path = os.path.join(place, name)
            rel = os.path.relpath(path, os.fsencode(top))
            if name not in skip:
                found[rel] = (look(path), os.lstat(path).st_ino if inodes else 0)
    return found


# ---- a tree with one of everything ----

SIZES = [0, 1, 3583, 3584, 3585, 4095, 4096, 4097, 2 * CHUNK, 112 * CHUNK - 1, 112 * CHUNK, 112 * CHUNK + 1, 240 * CHUNK,
         240 * CHUNK + 7, 400 * CHUNK + 33]
CONFIG = b".latchfs-view.ini"
ODD_NAMES = [b"x" * 175, b"x" * 176, b"y" * 255, b"\xff\xfe", b"latchfs.ini", b"latchfs.dir", b"latchfs.long.x", b" ",
             b"new\nline", "Grüße".encode(), b"-rf", b".hidden"]


def backing_length(size):
    """By docs/FORMAT.md."""
    if size <= 3584:
        return 512 + size
    last = (size - 1) // CHUNK
    page = 1 + last if last < 112 else 114 + 129 * ((last - 112) // 128) + (last - 112) % 128
    return page * CHUNK + size - last * CHUNK


def fill(top):
    for size in SIZES:
        write_file(top / f"size{size}", pattern(size, size))
    os.makedirs(top / "dir/inner/most")
    for i, name in enumerate(ODD_NAMES):
        write_file(os.path.join(os.fsencode(top / "dir"), name), pattern(i, 100 * i))
        os.mkdir(os.path.join(os.fsencode(top / "dir/inner"), name))
        os.symlink(name, os.path.join(os.fsencode(top / "dir/inner/most"), name))
    for length in (1, 100, 720, 721, 722, 3027, 4000, 4095):
        os.symlink("t" * length, top / f"link{length}")
    write_file(top / "hole", b"begin")
    os.truncate(top / "hole", 300 * CHUNK)
    with opened(top / "hole", os.O_WRONLY) as fd:
        os.pwrite(fd, b"middle", 150 * CHUNK + 5)
    os.mkfifo(top / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as s:
        os.chdir(top)
        s.bind("socket")
        os.chdir("/")
    for path in ("size1", "size0", "dir"):
        os.setxattr(top / path, "user.comment", b"value " * 20)
        os.setxattr(top / path, "user.empty", b"")
    os.chmod(top / "size4096", 0o4711)
    os.utime(top / "size4097", ns=(10**18, 10**18 + 7))


def fill_as_root(top):
    os.mknod(top / "device", 0o20600, os.makedev(1, 3))
    os.chown(top / "size1", 1111, 2222)


@pytest.fixture
def view(keyd, workdir):
    return View(keyd, workdir).init()


@pytest.fixture
def filled(view):
    fill(view.plain)
    if os.geteuid() == 0:
        fill_as_root(view.plain)
    return view


def plain_tree(view):
    return tree(view.plain, skip=(CONFIG,))


def new_pass(view):
    path = view.dir / "new.pass"
    path.write_text("another one\n")
    path.chmod(0o600)
    return path


def names(view, m, place=""):
    import latchread

    keys = view.keys(m)
    directory = latchread.Directory(os.fsencode(m), keys, None)
    return {os.fsdecode(n) for n in map(directory.decrypt_name, map(os.fsencode, os.listdir(m))) if n is not None}


def refused_here(result, code, *words):
    """One line; it may be latchfs-view's."""
    assert result.returncode == code, (result.returncode, result.err)
    assert len(result.err.splitlines()) == 1, result.err
    for word in words:
        assert word in result.err
