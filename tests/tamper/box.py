"""A volume that is changed from below and put back again, and the driver that looks at it.

Offsets are those of docs/FORMAT.md, worked out here anew: nothing of the store's own code decides where a case strikes.
"""

import os
import select
import shutil
import subprocess

PAGE = 4096
HEADER = 512
RECORD = 32
FIRST = 112
GROUP = 128

HEADER_FIELDS = [
    ("magic", 0, 8), ("version", 8, 2), ("suite", 10, 1), ("state", 11, 1), ("flags", 12, 2), ("reserved", 14, 2),
    ("file id", 16, 16), ("protected directory", 32, 16), ("key version", 48, 4), ("reserved", 52, 4),
    ("place 0 epoch", 56, 2), ("reserved", 58, 6), ("place 0 key", 64, 72), ("place 1 epoch", 136, 2),
    ("reserved", 138, 6), ("place 1 key", 144, 72), ("size", 216, 8), ("messages", 224, 8), ("generation", 232, 8),
    ("seal state", 240, 1), ("reserved", 241, 7), ("seal generation", 248, 8), ("seal root", 256, 32),
    ("inline record", 288, 32), ("directories", 320, 128), ("reserved", 448, 32), ("MAC", 480, 32),
]
RECORD_FIELDS = [("nonce", 0, 12), ("tag", 12, 16), ("length", 28, 2), ("epoch", 30, 2)]


def data_page(chunk):
    """Offset of a chunk's ciphertext."""
    if chunk < FIRST:
        return PAGE * (1 + chunk)
    group, r = divmod(chunk - FIRST, GROUP)
    return PAGE * (114 + 129 * group + r)


def record_at(chunk):
    """Offset of a chunk's record."""
    if chunk < FIRST:
        return HEADER + RECORD * chunk
    group, r = divmod(chunk - FIRST, GROUP)
    return PAGE * (113 + 129 * group) + RECORD * r


def tag_pages(length):
    """Offsets of the tag pages of a backing length, page 0 too."""
    return [0] + list(range(113 * PAGE, length, 129 * PAGE))


class Broken(Exception):
    """The driver died or hangs: no verdict at all."""


class Driver:
    """tamper_driver serve."""

    def __init__(self, path, seconds=60):
        self.path, self.seconds, self.process = path, seconds, None

    def _start(self):
        self.process = subprocess.Popen([self.path, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, bufsize=0)

    def ask(self, *words):
        """The lines of the answer, each split into its fields."""
        if not self.process:
            self._start()
        self.process.stdin.write(("\t".join(words) + "\n").encode())
        data = b""
        while not data.endswith(b"\n.\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], self.seconds)
            more = os.read(self.process.stdout.fileno(), 1 << 20) if ready else b""
            if not more:
                self.close()
                raise Broken("the store hangs" if not ready else "the store died")
            data += more
        return [line.split("\t") for line in data.decode().split("\n")[:-2]]

    def look(self, volume, read_only=True, inodes=False, verify=False):
        return self.ask("look", volume, "ro" if read_only else "rw", str(int(inodes)), str(int(verify)))

    def close(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
        self.process = None


class Box:
    """One copy of a volume. Every change is noted and undone by undo()."""

    def __init__(self, top, aside):
        self.top, self.aside, self._undo, self._count = top, aside, [], 0
        os.makedirs(aside, exist_ok=True)

    def path(self, name):
        return os.path.join(self.top, name)

    def undo(self):
        while self._undo:
            self._undo.pop()()

    def read(self, name, offset=0, size=-1):
        with open(self.path(name), "rb") as f:
            f.seek(offset)
            return f.read(size)

    def length(self, name):
        return os.lstat(self.path(name)).st_size

    def _write(self, path, offset, data):
        with open(path, "r+b") as f:
            f.seek(offset)
            f.write(data)

    # ---- bytes ----

    def patch(self, name, offset, data):
        """Overwrites; grows the file where it must."""
        path, before, length = self.path(name), self.read(name, offset, len(data)), self.length(name)
        self._undo.append(lambda: (self._write(path, offset, before), os.truncate(path, length)))
        self._write(path, offset, data)

    def flip(self, name, offset, bit=None):
        byte = self.read(name, offset, 1)[0]
        self.patch(name, offset, bytes([byte ^ 1 << (offset % 8 if bit is None else bit)]))

    def zero(self, name, offset, size):
        self.patch(name, offset, bytes(size))

    def swap(self, name, offset, other, at, size):
        """Exchanges two pieces of files."""
        a, b = self.read(name, offset, size), self.read(other, at, size)
        self.patch(name, offset, b)
        self.patch(other, at, a)

    def cut(self, name, length):
        path, tail = self.path(name), self.read(name, length)
        self._undo.append(lambda: self._write(path, length, tail))
        os.truncate(path, length)

    def extend(self, name, data):
        self.patch(name, self.length(name), data)

    # ---- names ----

    def move(self, name, to):
        a, b = self.path(name), self.path(to)
        if os.path.lexists(b):
            self.remove(to)
        self._undo.append(lambda: os.rename(b, a))
        os.rename(a, b)

    def exchange(self, name, other):
        """Each stands under the other's name."""
        tmp = os.path.join(os.path.dirname(name), "exchanged")
        self.move(name, tmp)
        self.move(other, name)
        self.move(tmp, other)

    def remove(self, name):
        self._count += 1
        path, kept = self.path(name), os.path.join(self.aside, str(self._count))
        self._undo.append(lambda: os.rename(kept, path))
        os.rename(path, kept)

    def _discard(self, path):
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)

    def copy_in(self, source, name):
        """Puts a copy of anything from elsewhere under a name."""
        path = self.path(name)
        if os.path.lexists(path):
            self.remove(name)
        self._undo.append(lambda: self._discard(path))
        copy(source, path)

    def symlink(self, name, target):
        path = self.path(name)
        if os.path.lexists(path):
            self.remove(name)
        self._undo.append(lambda: self._discard(path))
        os.symlink(target, path)

    def make(self, name, data=b""):
        path = self.path(name)
        if os.path.lexists(path):
            self.remove(name)
        self._undo.append(lambda: self._discard(path))
        with open(path, "wb") as f:
            f.write(data)

    def mkdir(self, name):
        path = self.path(name)
        if os.path.lexists(path):
            self.remove(name)
        self._undo.append(lambda: self._discard(path))
        os.mkdir(path)

    # ---- attributes ----

    def attributes(self, name):
        path = self.path(name)
        return {n: os.getxattr(path, n, follow_symlinks=False) for n in sorted(os.listxattr(path, follow_symlinks=False))
                if n.startswith("user.latchfs.")}

    def set_attribute(self, name, attribute, value):
        """None removes it."""
        path, before = self.path(name), self.attributes(name).get(attribute)
        if before is None and value is None:
            return
        if before is None:
            self._undo.append(lambda: os.removexattr(path, attribute, follow_symlinks=False))
        else:
            self._undo.append(lambda: os.setxattr(path, attribute, before, follow_symlinks=False))
        if value is None:
            os.removexattr(path, attribute, follow_symlinks=False)
        else:
            os.setxattr(path, attribute, value, follow_symlinks=False)


def copy(source, path):
    subprocess.run(["cp", "-a", "--sparse=always", source, path], check=True)
