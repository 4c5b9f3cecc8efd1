"""The second reader (tests/reader/latchread.py), which knows the format from docs/FORMAT.md alone, against
what a mount wrote."""

import json
import os
import random
import re
import stat
import sys
import time
from pathlib import Path

import pytest

import harness
from keylife import admin, headers, start

READER = Path(__file__).resolve().parent.parent / "reader" / "latchread.py"
CHUNK = 4096
SIZES = [0, 1, 3583, 3584, 3585, 4095, 4096, 4097, 2 * CHUNK, 112 * CHUNK, 112 * CHUNK + 1, 113 * CHUNK - 1,
         240 * CHUNK, 241 * CHUNK + 5, 700 * CHUNK + 77]
NAMES = [b"x" * 175, b"x" * 176, b"y" * 255, b"\xff\xfe", b"latchfs.ini", b" ", "Grüße".encode()]


def write(path, data, offset=0):
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o640)
    try:
        assert os.pwrite(fd, data, offset) == len(data)
    finally:
        os.close(fd)


def fill_contents(top, rng):
    for size in SIZES:
        write(top / f"size-{size}", rng.randbytes(size))
    write(top / "hole-before", b"end", 300 * CHUNK)
    write(top / "hole-between", b"begin")
    write(top / "hole-between", b"end", 500 * CHUNK + 9)
    write(top / "cut", rng.randbytes(20 * CHUNK))
    os.truncate(top / "cut", 7 * CHUNK + 123)
    write(top / "grown", rng.randbytes(5000))
    os.truncate(top / "grown", 130 * CHUNK)
    write(top / "emptied", rng.randbytes(9000))
    os.truncate(top / "emptied", 0)
    write(top / "punched", rng.randbytes(200 * CHUNK))
    for _ in range(200):
        write(top / "punched", rng.randbytes(rng.randrange(1, 9000)), rng.randrange(200 * CHUNK))
    os.link(top / "cut", top / "second link")


def fill_names(top):
    for name in NAMES:
        os.mkdir(os.path.join(bytes(top), b"d" + name[1:]))
        write(os.path.join(bytes(top), b"d" + name[1:], name), b"in " + name)
        os.symlink(name, os.path.join(bytes(top), b"d" + name[1:], b"link"))
    os.makedirs(top / "a/b/c/d")
    os.rename(top / "a/b/c", top / "moved")
    for length in (1, 100, 3027, 3028, 4000, 4095):
        os.symlink("t" * length, top / f"link-{length}")


def fill_xattrs(top):
    """{path: {name: value}} as the reader should print it."""
    want = {}
    os.mkdir(top / "attributed")
    write(top / "attributed/file", b"content")
    for path, name, value in (("attributed", "user.a", b""), ("attributed", "user." + "n" * 160, b"1"),
                              ("attributed/file", "user.comment", bytes(range(256))), (".", "user.root", b"r")):
        os.setxattr(top / path, name, value)
        want.setdefault(path, {})[name] = value.hex()
    return want


def snapshot(top):
    """{path: what it is and holds}"""
    found = {}
    for folder, dirs, files in os.walk(bytes(top)):
        for name in dirs + files:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            if stat.S_ISLNK(st.st_mode):
                body = os.readlink(path)
            elif stat.S_ISREG(st.st_mode):
                body = (Path(os.fsdecode(path)).read_bytes(), st.st_mtime_ns, st.st_nlink)
            else:
                body = None
            found[os.path.relpath(path, bytes(top))] = (stat.S_IFMT(st.st_mode), stat.S_IMODE(st.st_mode), body)
    return found


def read_volume(volume, out, *more, secret=None):
    secret = secret or ("--passphrase-file", volume.passfile)
    return harness.run([sys.executable, READER, *secret, *more, volume.path, out])


def mount_and_fill(volume, fill):
    with volume.mount() as mounted:
        result = fill(mounted.path)
    with volume.mount() as mounted:
        return snapshot(mounted.path), result


@pytest.mark.parametrize("suite", ["aes-256-gcm", "chacha20-poly1305"])
def test_reads_what_a_mount_wrote(keyd, workdir, suite):
    volume = harness.Volume(keyd, workdir / "vol").create("--suite", suite)

    def fill(top):
        fill_contents(top, random.Random(suite))
        fill_names(top)
        return fill_xattrs(top)

    want, xattrs = mount_and_fill(volume, fill)
    result = read_volume(volume, workdir / "out", "--xattrs").ok()
    assert snapshot(workdir / "out") == want
    assert json.loads(result.out) == xattrs


def test_other_secrets(volume, workdir):
    want, _ = mount_and_fill(volume, lambda top: write(top / "f", b"x"))
    read_volume(volume, workdir / "out", secret=("--recovery-file", volume.recovery)).ok()
    assert snapshot(workdir / "out") == want
    wrong = workdir / "wrong"
    wrong.write_text("something else\n")
    result = read_volume(volume, workdir / "out2", secret=("--passphrase-file", wrong))
    assert result.returncode == 1 and "no slot" in result.err


def backing_files(volume):
    for folder, _, files in os.walk(volume.path):
        for name in files:
            if not name.startswith("latchfs.") or name in ("latchfs.dir", "latchfs.ini"):
                yield Path(folder, name)


def test_reads_the_copy_of_a_record(volume, workdir):
    """Where a power cut left no record; not where it was changed."""
    want, _ = mount_and_fill(volume, lambda top: os.makedirs(top / "a/b"))
    for record in volume.path.rglob("*/latchfs.dir"):
        os.setxattr(record.parent, "user.latchfs-record", record.read_bytes())
        os.truncate(record, 0)
    read_volume(volume, workdir / "out").ok()
    assert set(snapshot(workdir / "out")) == set(want)
    copy = bytearray(os.getxattr(record.parent, "user.latchfs-record"))
    copy[20] ^= 1
    os.setxattr(record.parent, "user.latchfs-record", copy)
    assert read_volume(volume, workdir / "again").returncode == 1


def test_refuses_changed_bytes(volume, workdir):
    """One flipped bit anywhere in what the reader needs is an error, or the file is not there."""
    def fill(top):
        write(top / "small", b"s" * 100)
        write(top / "large", b"l" * 30000)
        os.mkdir(top / "dir")

    mount_and_fill(volume, fill)
    rng = random.Random(1)
    for path in sorted(backing_files(volume)):
        good = path.read_bytes()
        for _ in range(3):
            bad = bytearray(good)
            places = [i for i, byte in enumerate(good) if byte]
            bad[rng.choice(places)] ^= 1 << rng.randrange(8)
            path.write_bytes(bad)
            out = workdir / f"out-{rng.random()}"
            assert read_volume(volume, out).returncode == 1, path
        path.write_bytes(good)
    read_volume(volume, workdir / "out").ok()


def test_refuses_a_volume_that_is_not_clean(volume, workdir):
    with volume.mount() as mounted:
        write(mounted / "f", b"x" * 5000)
        write(mounted / "f", b"y" * 5000)
        mounted.crash()
    result = read_volume(volume, workdir / "out")
    assert result.returncode == 1 and "not clean" in result.err


def fill_directory(top, word):
    """A little of everything below a protected directory, the top itself included."""
    os.makedirs(top / "inner")
    write(top / "inner" / "paged", (word * 20000).encode())
    write(top / "small", word.encode())
    os.symlink(word, top / "link")
    for path in (top, top / "inner", top / "small"):
        os.setxattr(path, "user.word", word.encode())


def protect_and_rotate(volume, top):
    """Four protected directories: held, rotated, re-encrypted, and one that is shredded afterwards."""
    write(top / "outside", b"in the root's own")
    for name, *options in (("held", "--held"), ("rotated",), ("data",), ("doomed",)):
        os.mkdir(top / name)
        admin(volume, "protect", *options, "--name", f"the {name} one", top / name).ok()
        fill_directory(top / name, name)
    admin(volume, "rotate", "directory", top / "rotated").ok()
    write(top / "rotated" / "younger", b"after the rotation")
    admin(volume, "rotate", "data", top / "data").ok()
    admin(volume, "rotate", "data", top / "held").ok()
    admin(volume, "rotate", "master", volume.path).ok()


def test_protected_directories(volume, workdir):
    want, _ = mount_and_fill(volume, lambda top: protect_and_rotate(volume, top))
    held = ("--held-dir", volume.keyd.state / "held")
    result = read_volume(volume, workdir / "out", "--names", *held).ok()
    assert snapshot(workdir / "out") == want
    names = json.loads(result.out).values()
    assert set(names) == {"", "the held one", "the rotated one", "the data one", "the doomed one"}
    result = read_volume(volume, workdir / "out1", "--xattrs", *held).ok()
    words = {f"{d}{below}": {"user.word": d.encode().hex()} for d in ("held", "rotated", "data", "doomed")
             for below in ("", "/inner", "/small")}
    assert json.loads(result.out) == words
    # without what latch-keyd keeps, everything but the held directory
    result = read_volume(volume, workdir / "out2")
    assert result.returncode == 1 and "held elsewhere" in result.err
    rest = {path: what for path, what in want.items() if path.split(b"/")[0] != b"held"}
    assert snapshot(workdir / "out2") == rest
    admin(volume, "shred", "--yes", "--dir", "the doomed one", volume.path).ok()
    result = read_volume(volume, workdir / "out3", *held)
    assert result.returncode == 1 and "its keys were destroyed" in result.err
    assert snapshot(workdir / "out3") == {p: w for p, w in want.items() if p.split(b"/")[0] != b"doomed"}


def test_recipients_and_commands(volume, latch, workdir):
    want, _ = mount_and_fill(volume, lambda top: write(top / "f", b"x" * 9000))
    identity, answer = workdir / "officer", workdir / "answer"
    latch("recipient", "new", identity).ok()
    admin(volume, "slot", "add", "--new-recipient", f"{identity}.pub", volume.path).ok()
    place = volume.keyd.dir / ".config" / "latchfs" / "commands"
    place.mkdir(parents=True, mode=0o755)
    program = place / "plain"
    program.write_text(f"#!/bin/sh\ntee {answer}\n")  # the blob is the secret, and the test sees it
    program.chmod(0o755)
    added = admin(volume, "slot", "add", "--new-command", "plain", volume.path).ok()
    signer = re.search("--signing-key ([0-9a-f]{64})", added.out)[1]
    for i, secret in enumerate((("--identity", identity), ("--command-secret-file", answer))):
        read_volume(volume, workdir / f"out{i}", "--signing-key", signer, secret=secret).ok()
        assert snapshot(workdir / f"out{i}") == want
    result = read_volume(volume, workdir / "out9", "--signing-key", "0" * 64, secret=("--identity", identity))
    assert result.returncode == 1 and "another key than expected" in result.err
    admin(volume, "slot", "remove", volume.path, "3").ok()
    result = read_volume(volume, workdir / "out9", secret=("--identity", identity))
    assert result.returncode == 1 and "no slot opens" in result.err


def test_reads_what_was_rotated(volume, workdir):
    """After each rotation, and in the middle of a re-encryption, when files have two keys."""

    def fill(top):
        fill_contents(top, random.Random("rotated"))
        return fill_xattrs(top)

    want, xattrs = mount_and_fill(volume, fill)
    with volume.mount() as mounted:
        for what in ("directory", "data"):
            admin(volume, "rotate", what, mounted.path).ok()
        slow = start(volume, "rotate", "data", "--limit-rate", "2M", mounted.path)
        time.sleep(1.5)
        slow.terminate()
        slow.communicate(timeout=60)
    assert any(first and second for *_, first, second in headers(volume)), "nothing was left half-way"
    for i in range(2):
        result = read_volume(volume, workdir / f"out{i}", "--xattrs").ok()
        assert snapshot(workdir / f"out{i}") == want
        assert json.loads(result.out) == xattrs
        with volume.mount() as mounted:
            admin(volume, "rotate", "data", mounted.path).ok()
            assert snapshot(mounted.path) == want
    assert not any(first and second for *_, first, second in headers(volume))
