"""latch fsck --repair: what can be mended is mended once, what can't be is named or moved, nothing else is touched."""

import errno
import os
import re

import pytest

from checkbox import BIG, CHUNK, LONG, REPAIRED, Made, about, add_keyfile, snapshot
from clibox import flip, refused
from damages import CASES
from fsbox import PLAIN
from harness import BUSY, CORRUPT, OK, USAGE
from syscalls import errno_of, pattern, read_file, write_file
from test_fsck import copy, made  # noqa: F401

pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")


def whole(top, without=()):
    """Every file that was not damaged reads as it was written."""
    held = {"inline": b"a few bytes", "paged": pattern(1, 10 * CHUNK), "big": pattern(2, BIG), LONG: b"behind a long name",
            "attr": b"with an attribute"}
    held |= {f"{p}/file": pattern(len(p), 3 * CHUNK) for p in ("one", "one/sub", "two", "two/sub")}
    for name, data in held.items():
        if not any(name == w or name.startswith(w + "/") for w in without):
            assert read_file(top / name) == data, name
    if "link" not in without:
        assert os.readlink(top / "link") == "target"


@pytest.mark.parametrize("case", [c for c in CASES if c.repaired], ids=lambda c: c.name)
def test_mended(copy, case):
    case.make(copy)
    shown = copy.found("--repair")
    assert shown["exit"] == (REPAIRED if case.severity == "damage" else OK), shown["findings"]
    assert about(shown, case.kind)["repaired"]
    after = snapshot(copy.path)
    again = copy.found("--contents", code=OK)
    assert again["findings"] == [], "repairing left something"
    assert snapshot(copy.path) == after
    assert copy.found("--repair", code=OK)["findings"] == []
    with copy.volume.mount() as m:
        whole(m.path, without={"big"} if case.kind == "zero-page" else {LONG})


ALL = ["--repair", "--contents", "--cut-tails", "--lost-found", "--yes"]
PLACES = re.compile(r"(lost\+found/|latchfs\.lost/\d+-|(.*/)?lost-name-)")


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_lost_and_found(copy, case):
    """Whatever it was: what could be moved is told with its new place, the rest of the volume reads, and a second run has
    nothing more to do."""
    case.make(copy)
    options = [*ALL, "--ignore-journal"] if case.kind == "journal-missing" else ALL
    before = [f["cipher_path"] for f in copy.found("--contents")["findings"] if f["severity"] == "damage"]
    shown = copy.found(*options)
    left = [f for f in shown["findings"] if f["severity"] == "damage" and not f["repaired"]]
    mended = [f for f in shown["findings"] if f["severity"] == "damage" and f["repaired"]]
    assert shown["exit"] == (CORRUPT if left else REPAIRED if mended else OK)
    told = {f["cipher_path"] for f in shown["findings"]} | {"latchfs.journal"}
    assert all(any(p == t or p.startswith(t + "/") for t in told) for p in before), (before, told)
    for f in shown["findings"]:
        assert f["moved_to"] is None or PLACES.match(f["moved_to"]), f
        if f["moved_to"] and not f["moved_to"].startswith("latchfs.lost"):
            assert not os.path.lexists(copy.path / f["cipher_path"]) or f["kind"] in ("missing-sidecar", "bad-sidecar")
    again = copy.found(*ALL)
    assert not [f for f in again["findings"] if f["repaired"]], "a second run had something to repair"
    assert len([f for f in again["findings"] if f["severity"] == "damage"]) <= len(left)
    lost = {f["plain_path"] for f in shown["findings"] if f["plain_path"]}
    lost |= {"paged", "one/hard"} if lost & {"paged", "one/hard"} else set()
    lost |= {LONG} if "sidecar" in case.name else {"one/sub/file"} if case.name == "name of elsewhere" else set()
    lost |= {str(p) for p, c in copy.cipher.items() if str(c) in {f["cipher_path"] for f in shown["findings"]}}
    if case.name == "key store":
        bak = copy.path / "latchfs.ini.bak"
        copy.volume.latch("lock", re.search(r"^id = (\w+)$", bak.read_text(), re.M).group(1))
        copy.volume.latch("header", "restore", copy.path, bak).ok()
        copy.volume.latch("unlock", "--accept-older", "--keyfile", copy.volume.keyfile, copy.path).ok()
    with copy.volume.mount() as m:
        whole(m.path, without=lost)
        for f in mended:
            if f["moved_to"] and not f["moved_to"].startswith("latchfs.lost"):
                assert os.path.lexists(m / f["moved_to"])


def test_the_journal_is_put_in_place(volume):
    add_keyfile(volume)
    made = Made(volume)
    with volume.mount() as m:
        write_file(m / "file", pattern(1, 30 * CHUNK))
        m.umount().ok()
        m.mount().ok()
        with open(m / "file", "r+b") as f:
            for at in (3, 9, 20):
                f.seek(at * CHUNK + 100)
                f.write(b"new words")
            f.flush()
            os.fsync(f.fileno())
        m.crash()
        before = snapshot(volume.path)
        for keyed in (True, False):
            assert about(made.found(keyed=keyed, code=OK), "journal-unclean")["severity"] == "note"
        assert made.found("--contents", code=OK)["summary"]["damage"] == 0
        assert snapshot(volume.path) == before
        assert made.found("--repair", code=OK)["summary"]["damage"] == 0
        assert made.found("--contents", code=OK)["findings"] == []
        m.mount().ok()
        data = read_file(m / "file")
        assert [data[at * CHUNK + 100:][:9] for at in (3, 9, 20)] == [b"new words"] * 3
        assert data[:3 * CHUNK] == pattern(1, 30 * CHUNK)[:3 * CHUNK]


def test_a_tail_is_cut_only_on_request(copy):
    for chunk in (290, 299):
        page = 1 + chunk if chunk < 112 else 113 + (chunk - 112) // 128 * 129 + 1 + (chunk - 112) % 128
        flip(copy.backing("big"), page * CHUNK)
    flip(copy.backing("big"), (1 + 50) * CHUNK)
    assert copy.found("--repair", "--contents", code=CORRUPT)["summary"]["repaired"] == 0
    with copy.volume.mount() as m:
        assert os.stat(m / "big").st_size == BIG
    shown = copy.found("--repair", "--contents", "--cut-tails", "--yes")
    assert shown["summary"]["damage"] >= 1, shown
    with copy.volume.mount() as m:
        size = os.stat(m / "big").st_size
        assert size <= BIG and size % CHUNK in (0, BIG % CHUNK)
        with open(m / "big", "rb") as f:
            assert f.read(50 * CHUNK) == pattern(2, BIG)[:50 * CHUNK]
        assert read_file(m / "paged") == pattern(1, 10 * CHUNK)


def test_a_cut_file_keeps_its_beginning(copy):
    """The end alone is damaged: it is cut there, and the exit code says that all damage was repaired."""
    os.truncate(copy.backing("big"), 100 * CHUNK + 200)
    shown = copy.found("--repair", "--contents", "--cut-tails", "--yes", code=REPAIRED)
    assert any(f["repaired"] and f["plain_path"] == "big" for f in shown["findings"])
    assert copy.found("--contents", code=OK)["findings"] == []
    with copy.volume.mount() as m:
        data = read_file(m / "big")
        assert data and pattern(2, BIG).startswith(data)
        whole(m.path, without=("big",))


def test_lost_found_names_both_paths(copy):
    flip(copy.backing("one/file"), 20)
    shown = copy.found("--repair", "--lost-found", "--yes", code=REPAIRED)
    f = about(shown, "bad-header")
    assert f["plain_path"] == "one/file" and f["cipher_path"] == str(copy.cipher["one/file"])
    with copy.volume.mount() as m:
        assert f["moved_to"].startswith("lost+found/") and os.path.lexists(m / f["moved_to"])
        assert not os.path.lexists(m / "one/file")
        assert errno_of(read_file, m / f["moved_to"]) == errno.EIO
        whole(m.path, without=("one/file",))
        os.unlink(m / f["moved_to"])
        os.rmdir(m / "lost+found")
    assert copy.found("--contents", code=OK)["findings"] == []


# ---- asking ----


def test_it_asks(copy, terminal):
    flip(copy.backing("one/file"), 20)
    before = snapshot(copy.path)
    asked = terminal("fsck", "--repair", "--lost-found", "--keyfile", copy.volume.keyfile, copy.path)
    asked.expect("Type 'yes'")
    asked.type("no")
    code, shown = asked.end()
    assert code == USAGE and "nothing was done" in shown and snapshot(copy.path) == before
    refused_without = copy.fsck("--repair", "--lost-found", copy.path)
    assert refused_without.returncode == USAGE and "--yes" in refused_without.err and "moved" in refused_without.err
    assert snapshot(copy.path) == before
    asked = terminal("fsck", "--repair", "--lost-found", "--keyfile", copy.volume.keyfile, copy.path)
    asked.expect("Type 'yes'")
    asked.type("yes")
    code, shown = asked.end()
    assert code == REPAIRED and "repaired" in shown, shown


def test_not_while_mounted(copy):
    with copy.volume.mount() as m:
        before = snapshot(copy.path)
        refused(copy.fsck("--repair", copy.path), BUSY, str(m.path))
        assert snapshot(copy.path) == before
