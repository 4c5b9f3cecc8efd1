"""What the tests of the offline commands share: latch with no daemon, copies and parts of volumes, ciphertext names."""

import hashlib
import os
import shutil
import stat
from pathlib import Path

import harness


class Offline:
    """latch on a volume or a copy of one, where no latch-keyd could be reached or started unnoticed."""

    def __init__(self, volume, workdir, path=None, opening=None, user=None):
        self.bins = volume.bins
        self.path = Path(path or volume.path)
        self.opening = opening or ["--passphrase-file", volume.passfile]
        self.user = user
        self.run_dir = workdir / "no-daemon"
        self.run_dir.mkdir(exist_ok=True)
        self.home = volume.keyd.dir

    def at(self, path):
        other = Offline.__new__(Offline)
        other.__dict__ = dict(self.__dict__, path=Path(path))
        return other

    @property
    def env(self):
        keep = {k: v for k, v in os.environ.items() if k.startswith(("LC_", "LANG", "ASAN_", "UBSAN_"))}
        return keep | {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.run_dir),
                       "LATCH_KEYD_SOCKET": str(self.run_dir / "sock"), "LATCH_KEYD_STATE_DIR": str(self.run_dir / "state")}

    def argv(self, command, *args):
        """Options, volume, then what is in it: those of args that do not begin with a dash and stand behind one "--"."""
        args = list(args)
        at = args.index("--") if "--" in args else len(args)
        return [self.bins.latch, command, *self.opening, *args[:at], self.path, *args[at + 1:]]

    def __call__(self, command, *args, **more):
        more.setdefault("user", self.user)
        result = harness.run(self.argv(command, *args), env=self.env, **more)
        assert not (self.run_dir / "sock").exists() and not (self.run_dir / "state").exists(), "a daemon was started"
        return result

    def run_words(self, command, *words):
        """A command whose arguments are in an order of their own."""
        return harness.run([self.bins.latch, command, *self.opening, *words], env=self.env, user=self.user)

    def cat(self, *paths):
        return self("cat", "--", *paths).ok().out.encode("utf-8", "surrogateescape")


def snapshot(top):
    """All of a tree but the times of access, to see that nothing was written."""
    found = {}
    paths = [Path(top)] + [Path(place, name) for place, dirs, files in os.walk(top) for name in dirs + files]
    for p in sorted(paths):
        st = p.lstat()
        data = hashlib.sha256(p.read_bytes()).hexdigest() if stat.S_ISREG(st.st_mode) else None
        found[str(p.relative_to(top))] = (st.st_mode, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns, st.st_ctime_ns, data)
    return found


def cipher_path(volume, path):
    """The ciphertext path, relative to the volume, of a path in its mount: they have one inode number."""
    want = os.lstat(path).st_ino
    for place, dirs, files in os.walk(volume.path):
        for name in dirs + files:
            found = os.path.join(place, name)
            if os.lstat(found).st_ino == want:
                return os.path.relpath(found, volume.path)
    raise AssertionError(f"{path} has no ciphertext")


def needed(volume, ciphers):
    """The ciphertext paths that reading these needs: latchfs.ini, latchfs.dir of every directory above, the thing itself,
    and the sidecars of long names on the way."""
    names = {"latchfs.ini", "latchfs.dir"}
    for cipher in ciphers:
        parts = Path(cipher).parts
        for depth in range(1, len(parts) + 1):
            here = Path(*parts[:depth])
            if here.name.startswith("latchfs.long."):
                names.add(f"{here}.name")
            if (Path(volume) / here).is_dir():
                names.add(str(here / "latchfs.dir"))
            elif depth == len(parts):
                names.add(str(here))
    return sorted(names)


def restore_only(volume, target, ciphers):
    """What somebody restores who wants one file."""
    volume, target = Path(volume), Path(target)
    target.mkdir()
    for name in needed(volume, ciphers):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(volume / name, target / name, follow_symlinks=False)
