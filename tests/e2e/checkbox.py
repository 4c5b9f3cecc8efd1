"""What the tests of fsck, verify and scrub share: volumes with one of everything, their ciphertext paths, the JSON."""

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import harness
from syscalls import pattern, write_file

CHUNK = 4096
REPAIRED = 10
LONG = "LongName" * 25
BIG = 300 * CHUNK + 100

MANUAL = Path(__file__).resolve().parents[2] / "docs/latch.1"


class Made:
    """A volume that was filled and unmounted: plaintext path -> ciphertext path below the volume."""

    def __init__(self, volume):
        self.volume = volume
        self.path = volume.path
        self.cipher = {}

    def fill(self, top):
        """top: the mount point."""
        write_file(top / "inline", b"a few bytes")
        write_file(top / "paged", pattern(1, 10 * CHUNK))
        write_file(top / "big", pattern(2, BIG))
        os.makedirs(top / "one/sub")
        os.makedirs(top / "two/sub")
        for place in ("one", "one/sub", "two", "two/sub"):
            write_file(top / place / "file", pattern(len(place), 3 * CHUNK))
        write_file(top / LONG, b"behind a long name")
        os.symlink("target", top / "link")
        os.symlink("t" * 4050, top / "longlink")
        write_file(top / "attr", b"with an attribute")
        os.setxattr(top / "attr", "user.note", b"value of it")
        os.link(top / "paged", top / "one/hard")

    def note(self, top):
        """The backing inodes have the numbers of the plaintext's."""
        by_ino = {}
        for place, dirs, files in os.walk(self.path):
            for name in dirs + [f for f in files if not f.startswith("latchfs.") or is_long(f)]:
                path = Path(place) / name
                by_ino.setdefault(path.lstat().st_ino, []).append(path.relative_to(self.path))
        places = {Path(): Path()}
        for place, dirs, files in os.walk(top):
            here = Path(place).relative_to(top)
            for name in dirs + files:
                found = [c for c in by_ino[os.lstat(Path(place) / name).st_ino] if c.parent == places[here]]
                places[here / name] = found[0]
        self.cipher = {str(k): v for k, v in places.items()}

    def copy(self, to):
        shutil.rmtree(to, ignore_errors=True)
        subprocess.run(["cp", "-a", str(self.path), str(to)], check=True)
        other = Made(harness.Volume(self.volume.keyd, to))
        other.cipher = self.cipher
        other.volume.passfile = self.volume.passfile
        other.volume.keyfile = self.volume.keyfile
        return other

    def backing(self, plain):
        return self.path / self.cipher[plain]

    def fsck(self, *options, keyed=True, **more):
        secret = ["--keyfile", self.volume.keyfile] if keyed else ["--no-key"]
        online = "--online" in options
        return self.volume.latch("fsck", *([] if online else secret), *options, **more)

    def found(self, *options, code=None, keyed=True, path=()):
        """The JSON of one check, held against the schema."""
        result = self.fsck("--json", *options, "--", self.path, *path, keyed=keyed)  # a stored name may begin with a dash
        shown = valid(result)
        assert code is None or result.returncode == code, (result.returncode, shown, result.err)
        return shown


def is_long(name):
    return name.startswith("latchfs.long.") and "." not in name[len("latchfs.long."):] and not name.startswith("latchfs.long.l.")


def add_keyfile(volume):
    volume.keyfile = volume.path.with_name(volume.path.name + ".key")
    volume.keyfile.write_bytes(os.urandom(64))
    volume.keyfile.chmod(0o600)
    for change in (["add", "--new-keyfile", volume.keyfile], ["label"]):  # the second one: the .bak has the slot too
        volume.latch("slot", *change, "--passphrase-file", volume.passfile, volume.path, *(["1", "first"] if change == ["label"] else [])).ok()
    if volume.user is not None:
        os.chown(volume.keyfile, volume.user.pw_uid, volume.user.pw_gid)
    return volume


def snapshot(top):
    """Everything of a ciphertext tree, the times of change too: whoever writes anything is seen."""
    seen = {}
    paths = [Path(top)]
    for place, dirs, files in os.walk(top):
        paths += [Path(place) / name for name in dirs + files]
    for path in paths:
        st = path.lstat()
        data = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(st.st_mode) else None
        target = os.readlink(path) if stat.S_ISLNK(st.st_mode) else None
        attrs = {a: os.getxattr(path, a, follow_symlinks=False) for a in os.listxattr(path, follow_symlinks=False)}
        seen[str(path)] = (st.st_mode, st.st_uid, st.st_gid, st.st_ino, st.st_size, st.st_mtime_ns, st.st_ctime_ns, data, target, attrs)
    return seen


# ---- the JSON ----

TEXT, NUMBER, FLAG, MAYBE = str, int, bool, (str, type(None))
DOCUMENT = {"schema": NUMBER, "command": TEXT, "volume": TEXT, "mountpoint": MAYBE, "subtree": MAYBE, "depth": TEXT,
            "repair": FLAG, "continued": FLAG, "findings": list, "summary": dict, "complete": FLAG, "error": MAYBE,
            "exit": NUMBER}
FINDING = {"severity": TEXT, "kind": TEXT, "cipher_path": TEXT, "plain_path": MAYBE, "range": (dict, type(None)),
           "error": MAYBE, "errno": NUMBER, "repair": MAYBE, "repaired": FLAG, "moved_to": MAYBE}
SUMMARY = dict.fromkeys(["entries", "files", "directories", "bytes", "sealed", "unsealed", "notes", "warnings", "damage",
                         "repaired"], NUMBER)
RANGE = {"offset": NUMBER, "length": NUMBER}


def _fits(value, schema):
    assert list(value) == list(schema), (list(value), list(schema))
    for name, kind in schema.items():
        assert isinstance(value[name], kind) and (kind is not NUMBER or not isinstance(value[name], bool)), (name, value[name])


def valid(result):
    """The document of a command, after every rule of latch(1) about it was checked."""
    shown = json.loads(result.out)
    _fits(shown, DOCUMENT)
    _fits(shown["summary"], SUMMARY)
    assert shown["schema"] == 1 and shown["depth"] in ("structure", "headers", "contents")
    assert shown["exit"] == result.returncode
    assert (shown["error"] is None) == shown["complete"]
    kinds = documented_kinds()
    for f in shown["findings"]:
        _fits(f, FINDING)
        assert f["severity"] in ("note", "warning", "damage") and f["kind"] in kinds, f
        if f["range"] is not None:
            _fits(f["range"], RANGE)
            assert f["range"]["length"] > 0
        assert f["moved_to"] is None or f["repaired"]
        assert f["repair"] is not None or not f["repaired"]
    if not shown["continued"]:
        for severity, name in (("note", "notes"), ("warning", "warnings"), ("damage", "damage")):
            assert shown["summary"][name] == sum(f["severity"] == severity for f in shown["findings"])
    return shown


def documented_kinds():
    """The table of latch(1)."""
    text = MANUAL.read_text().split("Kinds of findings:")[1].split(".TE")[0].replace("\\-", "-")
    return set(re.findall(r"^([a-z-]+)\|", text, re.M))


def documented_words():
    return set(re.findall(r"[a-z_]+", MANUAL.read_text().split(".SS fsck")[1].split(".SS verify")[0]))


def kinds(shown, severity=None):
    return {f["kind"] for f in shown["findings"] if severity in (None, f["severity"])}


def damage(shown):
    return kinds(shown, "damage")


def about(shown, kind):
    """The one finding of a kind."""
    (f,) = [f for f in shown["findings"] if f["kind"] == kind]
    return f
