"""latch fsck: every kind of damage is found, with and without keys, and nothing is changed by looking."""

import json
import os
import shutil

import pytest

import harness
from checkbox import CHUNK, DOCUMENT, FINDING, RANGE, SUMMARY, Made, about, add_keyfile, damage, documented_words, kinds, snapshot, valid
from clibox import flip, refused
from damages import CASES
from fsbox import PLAIN
from harness import BUSY, CORRUPT, IO, NOTVOLUME, OK, USAGE, WRONG_PASSPHRASE
from keylife import admin
from syscalls import pattern, write_file

pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")


@pytest.fixture(scope="module")
def made():
    work = harness.Workdir()
    try:
        with harness.Keyd(harness.binaries(), work.path / "keyd") as keyd:
            volume = add_keyfile(harness.Volume(keyd, work.path / "vol").create())
            filled = Made(volume)
            with volume.mount() as m:
                filled.fill(m.path)
                filled.note(m.path)
            volume.lock()
            yield filled
    finally:
        work.remove()


@pytest.fixture
def copy(made, workdir):
    return made.copy(workdir / "copy")


# ---- a volume that is whole ----


@pytest.mark.parametrize("options, keyed, depth", [([], False, "structure"), ([], True, "headers"), (["--contents"], True, "contents")])
def test_clean(made, options, keyed, depth):
    before = snapshot(made.path)
    shown = made.found(*options, keyed=keyed, code=OK)
    assert shown["depth"] == depth and shown["findings"] == [] and shown["complete"]
    assert shown["summary"]["directories"] == 4  # below the root
    assert shown["summary"]["files"] in (10, 11)  # one has two names
    assert snapshot(made.path) == before
    lines = made.fsck(*options, made.path, keyed=keyed).ok()
    assert "no damage" in lines.out and not lines.err
    assert ("--contents" in lines.out) == (depth == "headers") and ("need the keys" in lines.out) == (depth == "structure")


def test_a_volume_that_was_never_mounted(keyd, workdir):
    volume = harness.Volume(keyd, workdir / "new").create()
    for keys in (["--no-key"], ["--passphrase-file", volume.passfile]):
        shown = valid(volume.latch("fsck", "--json", *keys, volume.path))
        assert shown["exit"] == OK and not damage(shown), shown


def test_the_schema_is_documented():
    words = documented_words()
    for name in [*DOCUMENT, *FINDING, *SUMMARY, *RANGE]:
        assert name in words, f"latch(1) says nothing of {name}"


def test_the_passphrase_is_asked(made, terminal):
    asked = terminal("fsck", "--contents", made.path)
    asked.expect("assphrase")
    asked.type(harness.PASSPHRASE)
    code, shown = asked.end()
    assert code == OK and "no damage" in shown, shown


def test_progress_on_a_terminal_only(made, terminal):
    shown = terminal("fsck", "--contents", "--keyfile", made.volume.keyfile, made.path)
    code, text = shown.end()
    assert code == OK and "fsck [" in text and "% " in text
    assert text.rstrip().splitlines()[-1].removeprefix("\x1b[K").startswith(str(made.path)), "the bar is in the way"
    assert not made.fsck("--contents", made.path).ok().err


# ---- damage ----


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_damage(copy, case):
    case.make(copy)
    before = snapshot(copy.path)
    without = copy.found(keyed=False)
    headers = copy.found()
    whole = copy.found("--contents")
    case.hold("structure", without, copy)
    case.hold("headers", headers, copy)
    case.hold("contents", whole, copy)
    assert snapshot(copy.path) == before, "a check has changed the volume"
    lines = copy.fsck("--contents", copy.path)
    assert lines.returncode == whole["exit"]
    for f in whole["findings"]:
        assert any(f["kind"] in line and f["severity"] in line for line in lines.out.splitlines()), lines.out


def test_both_paths_and_the_range(copy):
    flip(copy.backing("one/file"), 2 * CHUNK + 7)
    shown = copy.found("--contents", code=CORRUPT)
    f = about(shown, "bad-chunk")
    assert f["plain_path"] == "one/file" and f["cipher_path"] == str(copy.cipher["one/file"])
    assert f["range"] == {"offset": CHUNK, "length": CHUNK} and f["errno"] == 5 and f["error"]
    (line,) = [x for x in copy.fsck("--contents", copy.path).out.splitlines() if "bad-chunk" in x]
    assert "one/file" in line and str(copy.cipher["one/file"]) in line and f"{CHUNK} to {2 * CHUNK - 1}" in line
    assert not damage(copy.found(code=OK)), "contents were read without --contents"


def test_neighbouring_chunks_are_one_range(copy):
    for chunk in (5, 6, 7):
        flip(copy.backing("big"), (1 + chunk) * CHUNK)
    flip(copy.backing("big"), (1 + 20) * CHUNK)
    shown = copy.found("--contents", code=CORRUPT)
    ranges = sorted((f["range"]["offset"], f["range"]["length"]) for f in shown["findings"] if f["kind"] == "bad-chunk")
    assert ranges == [(5 * CHUNK, 3 * CHUNK), (20 * CHUNK, CHUNK)]


def test_names_of_strange_bytes(copy):
    (copy.path / "bad\nname\x1b[31m\"").write_text("x")
    f = about(copy.found(keyed=False), "bad-name")
    assert f["cipher_path"] == "bad\nname\x1b[31m\""
    out = copy.fsck(copy.path, keyed=False).out
    assert "\x1b" not in out and "bad\\x0aname" in out


def test_a_shattered_volume(copy):
    """Everything at once: each is found, and none hides another."""
    flip(copy.backing("big"), 9 * CHUNK)
    flip(copy.backing("inline"), 3)
    os.unlink(copy.backing("one/sub") / "latchfs.dir")
    os.truncate(copy.backing("two/file"), 100)
    (copy.path / "latchfs.tmp.abc").write_text("x")
    shown = copy.found("--contents", code=CORRUPT)
    assert {"bad-chunk", "bad-header", "missing-record", "bad-length", "leftover"} <= kinds(shown)


# ---- what is checked ----


def test_a_subtree(copy):
    flip(copy.backing("one/file"), CHUNK)
    flip(copy.backing("two/sub/file"), CHUNK)
    for path, names in [("one", {"one/file"}), ("/two/sub/", {"two/sub/file"}), ("two", {"two/sub/file"}), ("one/sub", set()),
                        ("one/file", {"one/file"}), ("/", {"one/file", "two/sub/file"})]:
        shown = copy.found("--contents", path=[path])
        assert {f["plain_path"] for f in shown["findings"]} == names, path
        assert shown["subtree"] == path
    inside = copy.found("--contents", "--cipher", path=[copy.cipher["two"]])
    assert {f["plain_path"] for f in inside["findings"]} == {"two/sub/file"}
    flip(copy.backing("two/sub/file"), 0)
    structure = copy.found(path=[copy.cipher["two"]], keyed=False)
    assert [f["cipher_path"] for f in structure["findings"]] == [str(copy.cipher["two/sub/file"])]
    assert copy.found(path=[copy.cipher["one"]], keyed=False, code=OK)["findings"] == []


def test_workers_find_the_same(copy):
    for n in range(40):
        shutil.copy(copy.backing("one/file"), copy.backing("one") / f"x{n}")
    flip(copy.backing("big"), 30 * CHUNK)
    flip(copy.backing("paged"), 3 * CHUNK)
    results = [copy.found("--contents", "--workers", n)["findings"] for n in ("1", "2", "8")]
    ordered = [sorted(json.dumps(f) for f in r) for r in results]
    assert ordered[0] and ordered[0] == ordered[1] == ordered[2]


@pytest.mark.parametrize("words, what", [
    (["--no-key", "--contents"], "keys"), (["--no-key", "--repair"], "keys"), (["--no-key", "--keyfile", "k"], "no-key"), (["--cut-tails"], "--repair"),
    (["--lost-found"], "--repair"), (["--repair", "--cut-tails"], "--contents"), (["--online", "--repair"], "mounted"),
    (["--online", "--no-key"], "no-key"), (["--workers", "0"], "workers"), (["--workers", "9"], "workers"),
    (["--workers", "x"], "workers"), (["--frob"], "frob"),
])
def test_usage(made, words, what):
    refused(made.volume.latch("fsck", *words, made.path), USAGE, what)


def test_refusals(made, latch, workdir):
    (workdir / "empty").mkdir()
    refused(latch("fsck", "--no-key", workdir / "empty"), NOTVOLUME)
    refused(latch("fsck", "--no-key", workdir / "nothing"), NOTVOLUME)
    refused(latch("fsck", "--online", workdir / "empty"), NOTVOLUME)
    refused(made.fsck(made.path, "no such place"), IO, "no such place")
    refused(made.fsck(made.path, "no such place", keyed=False), IO)
    other = workdir / "other.key"
    other.write_bytes(os.urandom(64))
    refused(made.volume.latch("fsck", "--keyfile", other, made.path), WRONG_PASSPHRASE)
    refused(made.volume.latch("fsck", "--online", made.path), NOTVOLUME, "not mounted")


def test_a_mounted_volume_is_refused(made, workdir):
    copy = made.copy(workdir / "mounted")
    with copy.volume.mount() as m:
        for keyed in (True, False):
            refused(copy.fsck(copy.path, keyed=keyed), BUSY, str(m.path))


def test_an_ordinary_user_checks_what_he_may_read(bins, user, workdir):
    """The structure of a copy of somebody's ciphertext, and an unreadable part of it is said."""
    home = workdir / "home"
    home.mkdir()
    os.chown(home, user.pw_uid, user.pw_gid)
    with harness.Keyd(bins, workdir / "k", user=user) as own:
        volume = harness.Volume(own, home / "vol", user=user).create()
        with volume.mount() as m:
            harness.run(["sh", "-c", f"mkdir {m.path}/d; echo text > {m.path}/d/file"], user=user).ok()
        shown = valid(volume.latch("fsck", "--json", "--contents", "--passphrase-file", volume.passfile, volume.path))
        assert shown["exit"] == OK and shown["summary"]["files"] == 1
        (directory,) = [p for p in volume.path.iterdir() if p.is_dir()]
        (file,) = [p for p in directory.iterdir() if p.name != "latchfs.dir"]
        os.chown(file, 0, 0)
        file.chmod(0o600)
        shown = valid(volume.latch("fsck", "--json", "--contents", "--passphrase-file", volume.passfile, volume.path))
        assert damage(shown) == {"io"} and about(shown, "io")["plain_path"] == "d/file"
        os.chown(home, 0, 0)
        home.chmod(0o700)
        refused(volume.latch("fsck", "--no-key", volume.path), IO)


def test_protected_directories(volume, workdir):
    """Without their keys they are passed by, with a note; a file of another one is damage."""
    add_keyfile(volume)
    made = Made(volume)
    with volume.mount() as m:
        for name, options in (("open", []), ("held", ["--held"])):
            (m / name).mkdir()
            admin(volume, "protect", *options, m / name).ok()
            write_file(m / name / "file", pattern(1, 3 * CHUNK))
        write_file(m / "file", pattern(2, 3 * CHUNK))
        made.note(m.path)
    volume.lock()
    shown = made.found("--contents", code=OK)
    assert kinds(shown) == {"no-key"} and about(shown, "no-key")["plain_path"] == "held"
    assert made.found("--contents", "--held-dir", volume.keyd.state, code=OK)["findings"] == []
    shutil.copyfile(made.backing("file"), made.backing("open/file"))
    shown = made.found(code=CORRUPT)
    assert damage(shown) & {"wrong-directory"} and about(shown, "wrong-directory")["plain_path"] == "open/file"


def test_an_old_header(volume):
    """Put back after a rotation that ended its version."""
    add_keyfile(volume)
    made = Made(volume)
    with volume.mount() as m:
        write_file(m / "file", pattern(1, 3 * CHUNK))
        made.note(m.path)
        m.umount().ok()
        old = made.backing("file").read_bytes()
        m.mount().ok()
        admin(volume, "rotate", "directory", m.path).ok()
    volume.lock()
    assert made.found("--contents", code=OK)["findings"] == []
    made.backing("file").write_bytes(old)
    assert "old-version" in damage(made.found(code=CORRUPT))
