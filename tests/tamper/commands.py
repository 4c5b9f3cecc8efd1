"""The key store as the commands take it: through latch, latch-keyd and a real mount."""

import os
import shutil
import sys

SECTION = "key store"


def setup(build):
    """The harness of the end-to-end tests, in a mount namespace of our own."""
    os.environ["LATCHFS_BUILD"] = build
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
    import harness
    return harness if harness.private_namespace() and os.path.exists("/dev/fuse") else None


class Tried:
    """A volume with two generations of its key store, and a way to see what a change of them does."""

    def __init__(self, harness, keyd, top):
        self.volume = harness.Volume(keyd, top / "vol").create()
        self.ini, self.bak = self.volume.path / "latchfs.ini", self.volume.path / "latchfs.ini.bak"
        self.other = harness.Volume(keyd, top / "other").create().path / "latchfs.ini"
        self.older = self.ini.read_bytes()
        with self.volume.mount() as m:
            (m / "file").write_text("what was there")
        self.volume.latch("slot", "add", "--passphrase-file", self.volume.passfile, "--new-recovery-file",
                          top / "recovery", self.volume.path).ok()
        self.volume.lock()
        self.kept = top / "kept"
        self.kept.mkdir()
        for path in (self.ini, self.bak):
            shutil.copy2(path, self.kept / path.name)

    def outcome(self):
        mount = self.volume.mount()
        try:
            if mount.mount().returncode:
                return "refused"
            same = (mount / "file").read_text() == "what was there"
            mount.umount()
            return "harmless" if same and self.ini.read_bytes() == (self.kept / self.ini.name).read_bytes() else "silent"
        finally:
            mount.force_away()
            self.volume.lock()
            for path in (self.ini, self.bak):
                shutil.copy2(self.kept / path.name, path)


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


def changes(t):
    now, bak = t.ini.read_bytes(), t.bak.read_bytes()
    yield "older `latchfs.ini` put back, where `latch-keyd` has seen a newer one", "", lambda: t.ini.write_bytes(t.older)
    yield "`latchfs.ini` of another volume", "", lambda: t.ini.write_bytes(t.other.read_bytes())
    yield "`latchfs.ini` removed, emptied, or another thing in its place", "removed", t.ini.unlink
    yield "`latchfs.ini` removed, emptied, or another thing in its place", "emptied", lambda: t.ini.write_bytes(b"")
    for at in (10, len(now) // 2, len(now) - 5):
        yield "`latchfs.ini.bak` changed, exchanged or removed", f"flip {at}", lambda at=at: t.bak.write_bytes(flipped(bak, at % len(bak)))
    yield "`latchfs.ini.bak` changed, exchanged or removed", "removed", t.bak.unlink
    yield "`latchfs.ini.bak` changed, exchanged or removed", "other", lambda: t.bak.write_bytes(t.other.read_bytes())


def run(build):
    """(title, label, kind) of each; nothing where nothing can be mounted."""
    harness = setup(build)
    if not harness:
        return
    work = harness.Workdir()
    try:
        with harness.Keyd(harness.binaries(), work.path / "keyd") as keyd:
            t = Tried(harness, keyd, work.path)
            if t.outcome() != "harmless":
                raise RuntimeError("the unchanged volume does not mount")
            for title, label, do in changes(t):
                do()
                yield title, label, t.outcome()
    finally:
        work.remove()
