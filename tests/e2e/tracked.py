"""Writers that know what each of their files may hold after a crash at any moment."""

import errno
import os
import random
import threading

from syscalls import opened, read_file


class Tracked:
    """A file with every content that it may have: the last that is certain, and what came since."""

    def __init__(self):
        self.versions = [b""]

    def changed(self, data, certain):
        self.versions = [data] if certain else self.versions + [data]

    def fits(self, got):
        """Chunk by chunk; what was never certain may be zeros."""
        if not min(map(len, self.versions)) <= len(got) <= max(map(len, self.versions)):
            return False
        for at in range(0, len(got), 4096):
            chunk = got[at:at + 4096]
            options = [v[at:at + 4096].ljust(len(chunk), b"\0")[:len(chunk)] for v in self.versions]
            sure = self.versions[0][at:at + 4096][:len(chunk)]
            if chunk not in options and (chunk[:len(sure)] != sure or any(chunk[len(sure):])):
                return False
        return True


def pwrite_all(fd, data, at):
    """A call that a kill cuts after some of its requests returns how far it came, not an error."""
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], at + done)


class Load(threading.Thread):
    """Writes until the mount is gone, or ended is set. acknowledged: what a call has answered for counts as certain."""

    def __init__(self, top, seed, files, acknowledged):
        super().__init__(daemon=True)
        self.top, self.random, self.files, self.acknowledged = top, random.Random(seed), files, acknowledged
        self.done, self.wrong, self.ended = 0, None, False

    def run(self):
        try:
            while not self.ended:
                self.step(self.random.choice(list(self.files)))
                self.done += 1
        except OSError as e:
            if e.errno not in (errno.ENOTCONN, errno.ECONNABORTED, errno.ECANCELED, errno.EIO, errno.ENODEV):
                self.wrong = e

    def step(self, name):
        r, f, path = self.random, self.files[name], self.top / name
        data = r.randbytes(r.choice([1, 300, 3000, 5000, 20000, 60000]))
        if r.random() < 0.3:
            self.save(f, path, data)
            return
        with opened(path, os.O_RDWR | os.O_CREAT) as fd:
            old = f.versions[-1]
            if r.random() < 0.25:
                size = r.randrange(len(old) + 5000)
                f.changed(old[:size].ljust(size, b"\0"), False)
                os.ftruncate(fd, size)
            else:
                at = r.randrange(len(old) + 1)
                f.changed(old[:at] + data + old[at + len(data):], False)
                pwrite_all(fd, data, at)
            synced = r.random() < 0.5
            if synced:
                os.fsync(fd)
            if synced or self.acknowledged:
                f.changed(f.versions[-1], True)

    def save(self, f, path, data):
        """As editors do: whole or not at all."""
        new = path.with_name(path.name + ".new")
        with opened(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as fd:
            pwrite_all(fd, data, 0)
            os.fsync(fd)
        f.changed(data, False)
        os.rename(new, path)
        with opened(path.parent, os.O_RDONLY) as fd:
            os.fsync(fd)
        f.changed(data, True)


def look_after(top, files):
    for name, f in files.items():
        got = read_file(top / name) if (top / name).exists() else b""
        assert f.fits(got), f"{name}: {len(got)} bytes, may have {[len(v) for v in f.versions]}"
        f.versions = [got]
