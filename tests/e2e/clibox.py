"""What the tests of the command line share: refusals, trees that must stay as they are, a terminal."""

import os
import stat
import subprocess
import threading
from pathlib import Path


def refused(result, code, *words):
    """One line of error that names what it is about, and the code."""
    assert result.returncode == code, (result.returncode, result.out, result.err)
    lines = result.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith(("latch: ", "latchfs: ")), result.err
    for word in words:
        assert word in lines[0], (word, lines[0])


def tree(path):
    """Everything about a tree that a refused command must leave alone (latch-keyd's own directories apart)."""
    found = {}
    for p in sorted([Path(path), *Path(path).rglob("*")]):
        if any(part.startswith("keyd") for part in p.relative_to(path).parts):
            continue
        st = p.lstat()
        data = p.read_bytes() if stat.S_ISREG(st.st_mode) else None
        found[str(p)] = (st.st_mode, st.st_uid, st.st_ino, data)
    return found


def flip(path, at, bit=0):
    data = bytearray(Path(path).read_bytes())
    data[at] ^= 1 << bit
    Path(path).write_bytes(data)


class Terminal:
    """A program on a pseudo terminal of its own: what it shows, and what a person types."""

    def __init__(self, argv, env):
        self.master, slave = os.openpty()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *map(str, argv)], stdin=slave, stdout=slave, stderr=slave, env=env, cwd="/",
            start_new_session=False,
        )
        os.close(slave)
        self.shown = ""

    def _read(self):
        try:
            data = os.read(self.master, 4096)
        except OSError:
            data = b""
        self.shown += data.decode(errors="replace")
        return bool(data)

    def expect(self, text):
        guard = threading.Timer(60, self.process.kill)
        guard.start()
        try:
            while text not in self.shown:
                assert self._read(), f"no {text!r} in {self.shown!r}"
        finally:
            guard.cancel()
        self.shown = self.shown.split(text, 1)[1]

    def type(self, text):
        os.write(self.master, text.encode() + b"\n")

    def end(self):
        """The exit code and all that was shown since the last expect."""
        while self._read():
            pass
        os.close(self.master)
        return self.process.wait(60), self.shown
