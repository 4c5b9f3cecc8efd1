"""Every kind of damage that fsck knows, as a test makes it in a copy of a volume, and what each depth finds."""

import os
import shutil
from dataclasses import dataclass, field
from typing import Callable

from checkbox import CHUNK, LONG, damage, kinds
from clibox import flip
from harness import CORRUPT, OK


@dataclass
class Case:
    name: str
    make: Callable
    kind: str
    plain: str = None     # of the finding, with keys
    since: str = "structure"  # the least depth that finds it
    severity: str = "damage"
    others: set = field(default_factory=set)  # kinds that may come with it
    repaired: bool = False  # --repair mends it without losing anything
    depths: tuple = ("structure", "headers", "contents")

    def hold(self, depth, shown, made):
        seen = self.depths.index(depth) >= self.depths.index(self.since)
        expected = {self.kind} if seen else set()
        assert expected <= kinds(shown) <= expected | self.others, (self.name, depth, shown["findings"])
        bad = seen and self.severity == "damage" or bool(damage(shown))
        assert shown["exit"] == (CORRUPT if bad else OK)
        for f in shown["findings"]:
            if f["kind"] == self.kind:
                assert f["severity"] == self.severity, f
                if depth != "structure" and self.plain is not None:
                    assert f["plain_path"] == self.plain, f
                if self.severity == "damage" and self.kind not in ("journal-missing", "bad-keystore"):
                    assert f["errno"] in (0, 2, 5, 20, 21), f


def sidecar(made, plain=LONG):
    path = made.backing(plain)
    return path.with_name(path.name + ".name")


def link_sidecar(made):
    return made.path / os.readlink(made.backing("longlink"))


def cut(path, length):
    os.truncate(path, length)


def zero(path, start, end):
    with open(path, "r+b") as f:
        f.seek(start)
        f.write(bytes(end - start))


def append(path, data):
    with open(path, "ab") as f:
        f.write(data)


def relink(path, target):
    os.unlink(path)
    os.symlink(target, path)


def swap(a, b):
    os.rename(a, str(a) + ".x")
    os.rename(b, a)
    os.rename(str(a) + ".x", b)


def bad_xattr(made):
    path = made.backing("attr")
    (name,) = [a for a in os.listxattr(path) if a.startswith("user.latchfs.")]
    value = bytearray(os.getxattr(path, name))
    value[-1] ^= 1
    os.setxattr(path, name, bytes(value))


def to_copy(made):
    """As a power cut may leave a new directory."""
    record = made.backing("one") / "latchfs.dir"
    os.setxattr(made.backing("one"), "user.latchfs-record", record.read_bytes())
    os.truncate(record, 0)


def to_directory(path):
    os.unlink(path)
    os.mkdir(path)


CASES = [
    Case("strange entry", lambda m: (m.path / "not a name").write_text("x"), "bad-name", severity="warning"),
    Case("leftover file", lambda m: (m.path / "latchfs.tmp.abcdef").write_text("x"), "leftover", severity="note", repaired=True),
    Case("leftover directory", lambda m: (m.backing("one") / "latchfs.tmp.abcdef").mkdir(), "leftover", severity="note", repaired=True),
    Case("sidecar without entry", lambda m: os.unlink(m.backing(LONG)), "orphan-sidecar", severity="warning", repaired=True),
    Case("link sidecar without link", lambda m: os.unlink(m.backing("longlink")), "orphan-sidecar", severity="warning", repaired=True),
    Case("entry without sidecar", lambda m: os.unlink(sidecar(m)), "missing-sidecar"),
    Case("link without its sidecar", lambda m: os.unlink(link_sidecar(m)), "missing-sidecar", plain="longlink"),
    Case("changed sidecar", lambda m: flip(sidecar(m), 5), "bad-sidecar"),
    Case("directory without record", lambda m: os.unlink(m.backing("one") / "latchfs.dir"), "missing-record", plain="one",
         others={"undecryptable-name"}),
    Case("record of the root is gone", lambda m: os.unlink(m.path / "latchfs.dir"), "missing-record", plain="",
         others={"undecryptable-name", "bad-record", "wrong-directory"}),
    Case("record of the root is rubbish", lambda m: flip(m.path / "latchfs.dir", 0), "bad-record", plain="",
         others={"undecryptable-name", "wrong-directory"}),
    Case("record of the root asks for other keys", lambda m: flip(m.path / "latchfs.dir", 64), "bad-record", plain="", since="headers",
         others={"undecryptable-name", "wrong-directory"}),
    Case("record of rubbish", lambda m: flip(m.backing("one") / "latchfs.dir", 0), "bad-record", plain="one"),
    Case("forged record", lambda m: flip(m.backing("one") / "latchfs.dir", 500), "bad-record", plain="one", since="headers"),
    Case("record in its copy", to_copy, "unsettled-record", plain="one", severity="note", repaired=True),
    Case("record twice", lambda m: shutil.copy(m.backing("one") / "latchfs.dir", m.backing("two") / "latchfs.dir"), "duplicate-id",
         others={"bad-record", "undecryptable-name", "wrong-directory"}),
    Case("magic of a header", lambda m: flip(m.backing("inline"), 0), "bad-header", plain="inline"),
    Case("header's MAC", lambda m: flip(m.backing("inline"), 500), "bad-header", plain="inline", since="headers"),
    Case("wrapped key", lambda m: flip(m.backing("big"), 100), "bad-header", plain="big", since="headers"),
    Case("cut below the header", lambda m: cut(m.backing("paged"), 300), "bad-length"),
    Case("cut at a chunk", lambda m: cut(m.backing("big"), 20 * CHUNK), "bad-length", plain="big", others={"bad-seal"}),
    Case("longer than its header says", lambda m: append(m.backing("big"), os.urandom(5 * CHUNK)), "tail", plain="big", severity="warning",
         repaired=True, others={"bad-chunk", "bad-seal"}),
    Case("page of zeros", lambda m: m.backing("big").write_bytes(bytes(CHUNK)), "zero-page", plain="big", severity="warning", repaired=True),
    Case("header of zeros", lambda m: zero(m.backing("big"), 0, CHUNK), "zero-page", plain="big"),
    Case("link of rubbish", lambda m: relink(m.backing("link"), "rubbish!"), "bad-link", plain="link"),
    Case("forged link", lambda m: relink(m.backing("link"), os.readlink(m.backing("link"))[:-2] + "AA"), "bad-link", plain="link",
         since="headers"),
    Case("key store", lambda m: flip(m.path / "latchfs.ini", 100), "bad-keystore"),
    Case("copy of the key store", lambda m: flip(m.path / "latchfs.ini.bak", 100), "bad-keystore", severity="warning"),
    Case("journal is gone", lambda m: os.unlink(m.path / "latchfs.journal"), "journal-missing"),
    Case("record is a directory", lambda m: to_directory(m.backing("one") / "latchfs.dir"), "foreign-type"),
    Case("name of elsewhere", lambda m: os.rename(m.backing("one/sub/file"), m.backing("two") / m.backing("one/sub/file").name),
         "wrong-directory", others={"undecryptable-name"}),
    Case("directory of elsewhere", lambda m: swap(m.backing("one/sub"), m.backing("two/sub")), "bad-record"),
    Case("inline content", lambda m: flip(m.backing("inline"), 515), "bad-chunk", plain="inline", since="contents"),
    Case("chunk", lambda m: flip(m.backing("paged"), 4 * CHUNK + 9), "bad-chunk", since="contents"),
    Case("late chunk", lambda m: flip(m.backing("big"), 200 * CHUNK), "bad-chunk", plain="big", since="contents"),
    Case("record of a chunk", lambda m: flip(m.backing("big"), 600), "bad-chunk", plain="big", since="contents", others={"bad-seal"}),
    Case("chunk made a hole", lambda m: zero(m.backing("big"), 512, 544), "bad-seal", plain="big", since="contents"),
    Case("attribute", bad_xattr, "bad-xattr", plain="attr", since="contents"),
]
