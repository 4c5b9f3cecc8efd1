"""latch inspect: what a file of a volume is, without any key."""

import os
import random
import shutil

import pytest

from clibox import refused
from harness import CORRUPT, IO, NOTVOLUME, OK, USAGE


@pytest.fixture
def shapes(volume):
    """A volume with one of every kind of file in it, unmounted. Maps a kind to a path."""
    with volume.mount() as m:
        (m / "empty").write_bytes(b"")
        (m / "inline").write_bytes(b"x" * 100)
        (m / "paged").write_bytes(b"x" * 10000)
        (m / ("n" * 255)).write_bytes(b"y")
        os.symlink("target", m / "link")
        (m / "dir").mkdir()
    found = {"dirrec": volume.path / "latchfs.dir", "ini": volume.path / "latchfs.ini",
             "journal": volume.path / "latchfs.journal"}
    for path in volume.path.iterdir():
        size = path.lstat().st_size
        if path.is_symlink():
            found["link"] = path
        elif path.is_dir():
            found["subdir"] = path / "latchfs.dir"
        elif path.name.startswith("latchfs.long."):
            found["sidecar" if path.name.endswith(".name") else "long"] = path
        elif not path.name.startswith("latchfs."):
            found["empty" if size == 0 else "inline" if size <= 4096 else "paged"] = path
    return found


def test_inspect_every_kind(latch, shapes):
    expected = {
        "empty": ["encrypted file", "never had content"], "inline": ["state", "inline", "size                 100"],
        "paged": ["paged", "size                 10000", "key version", "generation", "seal"],
        "long": ["long name"], "sidecar": ["long name", "name's length        255"], "link": ["symbolic link", "6"],
        "dirrec": ["directory record", "root of the volume"], "subdir": ["directory record", "parent id"],
        "ini": ["key store", "volume id", "argon2id", "for tests only", "master key"], "journal": ["journal", "clean"],
    }
    assert set(expected) == set(shapes)
    for kind, words in expected.items():
        out = latch("inspect", shapes[kind]).ok().out
        assert all(w in out for w in words), (kind, out)
    assert "root of the volume" not in latch("inspect", shapes["subdir"]).out


def test_inspect_a_copy_under_another_name(latch, shapes, workdir):
    for kind, word in (("paged", "encrypted file"), ("ini", "key store"), ("dirrec", "directory record"),
                       ("journal", "journal")):
        copy = workdir / f"{kind}.copy"
        shutil.copy(shapes[kind], copy)
        assert word in latch("inspect", copy).ok().out


def test_inspect_says_corrupt(latch, shapes, workdir):
    def changed(kind, change):
        copy = workdir / "copies" / kind / shapes[kind].name
        copy.parent.mkdir(parents=True, exist_ok=True)
        data = bytearray(shapes[kind].read_bytes())
        change(data)
        copy.write_bytes(data)
        return latch("inspect", copy)

    def put(at, value):
        return lambda data: data.__setitem__(at, value)

    def cut(length):
        return lambda data: data.__delitem__(slice(length, None))

    refused(changed("inline", cut(511)), CORRUPT, "corrupt")
    refused(changed("inline", put(0, 0)), CORRUPT, "corrupt")
    refused(changed("paged", put(8, 99)), CORRUPT, "unknown version")
    refused(changed("paged", put(10, 99)), CORRUPT, "unknown")
    refused(changed("paged", put(12, 1)), CORRUPT, "unknown")
    refused(changed("dirrec", cut(500)), CORRUPT)
    refused(changed("dirrec", put(8, 99)), CORRUPT, "unknown version")
    refused(changed("sidecar", put(5, ord("!"))), CORRUPT)
    refused(changed("sidecar", cut(10)), CORRUPT)
    refused(changed("sidecar", lambda d: d.__setitem__(5, ord("A") if d[5] != ord("A") else ord("B"))), CORRUPT, "hash")
    refused(changed("journal", cut(100)), CORRUPT)
    refused(changed("ini", cut(300)), CORRUPT)
    refused(changed("ini", lambda data: data.extend(b"x")), CORRUPT)
    assert "never reached the disk" in changed("paged", lambda d: d.__setitem__(slice(0, 4096), bytes(4096))).ok().out


def test_inspect_refuses_other_things(latch, volume, workdir):
    os.mkfifo(workdir / "latchfs.dir")
    refused(latch("inspect", workdir / "latchfs.dir"), USAGE)
    refused(latch("inspect", volume.path), USAGE, "directory")
    refused(latch("inspect", workdir / "nothing"), IO)
    (workdir / "notes.txt").write_text("hello")
    refused(latch("inspect", workdir / "notes.txt"), NOTVOLUME)
    os.symlink("../etc/passwd", workdir / "AAA")
    refused(latch("inspect", workdir / "AAA"), CORRUPT)


@pytest.mark.parametrize("kind", ["inline", "paged", "dirrec", "subdir", "journal", "ini", "sidecar", "long"])
def test_inspect_survives_hostile_bytes(latch, shapes, workdir, kind):
    """A fixed run of flips and cuts: an answer or exit code 5, and never a signal or a control character."""
    rng = random.Random(kind)
    copy = workdir / "hostile" / shapes[kind].name
    copy.parent.mkdir()
    original = shapes[kind].read_bytes()[:16384]
    for _ in range(60):
        data = bytearray(original)
        for _ in range(rng.choice([1, 1, 2, 8])):
            data[rng.randrange(min(len(data), 1024))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)):]
        copy.write_bytes(data)
        result = latch("inspect", copy)
        assert result.returncode in (OK, CORRUPT), (result, bytes(data))
        assert not any(ord(c) < 32 and c != "\n" for c in result.out + result.err)
