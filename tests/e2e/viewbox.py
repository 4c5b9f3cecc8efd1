"""A plain directory and its encrypted view, for the tests of latch view."""

import contextlib
import hashlib
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import harness

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
