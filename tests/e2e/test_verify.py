"""latch verify and latch scrub: everything is read, the place is kept through every kind of end."""

import json
import os
import re
import signal
import subprocess
import time

import pytest

import harness
from checkbox import CHUNK, Made, add_keyfile, damage, snapshot, valid
from clibox import flip, refused
from fsbox import PLAIN
from harness import CORRUPT, FAILURE, NOKEY, NOTVOLUME, OK, USAGE
from syscalls import pattern, write_file

pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")

FILES = 24
SIZE = 64 * CHUNK
RATE = "2M"  # all of it lasts three seconds at least


@pytest.fixture(scope="module")
def many():
    work = harness.Workdir()
    try:
        with harness.Keyd(harness.binaries(), work.path / "keyd") as keyd:
            volume = add_keyfile(harness.Volume(keyd, work.path / "vol").create())
            made = Made(volume)
            with volume.mount() as m:
                for n in range(FILES):
                    os.makedirs(m / f"d{n % 3}", exist_ok=True)
                    write_file(m / f"d{n % 3}/file{n}", pattern(n, SIZE))
                made.note(m.path)
            volume.lock()
            yield made
    finally:
        work.remove()


@pytest.fixture
def copy(many, workdir):
    return many.copy(workdir / "copy")


def verify(made, *options, target=None, command="verify", json_too=True):
    secret = ["--keyfile", made.volume.keyfile] if target is None else []
    shown = ["--json"] if json_too and command == "verify" else []
    return made.volume.latch(command, *shown, *secret, *options, target or made.path)


def begin(made, *options, target=None, command="verify"):
    secret = ["--keyfile", str(made.volume.keyfile)] if target is None else []
    shown = ["--json"] if command == "verify" else []
    return subprocess.Popen([made.volume.bins.latch, command, *shown, *secret, *map(str, options), str(target or made.path)],
                            env=made.volume.keyd.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            cwd="/", text=True)


def ordered(made):
    """The files in the order of the walk: by the bytes of their ciphertext names."""
    files = [(str(c).split("/"), p) for p, c in made.cipher.items() if "file" in p]
    return [p for _, p in sorted(files)]


def place_of(made):
    """The usual file of a place: one for each volume, in the user's state directory."""
    id = re.search(r"^id = (\w+)$", (made.path / "latchfs.ini").read_text(), re.M).group(1)
    return made.volume.keyd.dir / ".local/state/latchfs/verify" / id


def where(state):
    """The ciphertext path in a file of a place; "" while there is none."""
    try:
        text = state.read_text()
    except FileNotFoundError:
        return ""
    return bytes.fromhex(re.search(r"^where ([0-9a-f]*)$", text, re.M).group(1)).decode()


def is_past(state, made, plain):
    return where(state).split("/") > str(made.cipher[plain]).split("/")


# ---- verify ----


def test_all_of_it(copy):
    before = snapshot(copy.path)
    shown = valid(verify(copy))
    assert shown["exit"] == OK and shown["command"] == "verify" and shown["depth"] == "contents" and not shown["continued"]
    assert shown["summary"]["files"] == FILES and shown["summary"]["bytes"] >= FILES * SIZE
    assert shown["summary"]["sealed"] == FILES and shown["summary"]["unsealed"] == 0
    assert snapshot(copy.path) == before
    text = verify(copy, json_too=False).ok().out
    assert f"{FILES} files" in text and f"{FILES} sealed, 0 not" in text
    assert not list((copy.volume.keyd.dir / ".local/state/latchfs/verify").iterdir())


def test_damage(copy):
    flip(copy.backing("d1/file4"), 30 * CHUNK)
    shown = valid(verify(copy))
    assert shown["exit"] == CORRUPT and damage(shown) == {"bad-chunk"}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=["INT", "TERM", "KILL"])
def test_it_goes_on_where_it_was(copy, workdir, how):
    """Damage at the beginning is found by the first run alone, and still counts at the end."""
    state = workdir / "place"
    order = ordered(copy)
    flip(copy.backing(order[0]), 5 * CHUNK)
    flip(copy.backing(order[-1]), 5 * CHUNK)
    first = begin(copy, "--rate", RATE, "--state", state)
    try:
        harness.wait_until(lambda: is_past(state, copy, order[1]), what="the first files")
        first.send_signal(how)
        out, err = first.communicate(timeout=60)
    finally:
        first.kill()
    if how == signal.SIGKILL:
        assert first.returncode == -signal.SIGKILL
    else:
        assert first.returncode == CORRUPT and "goes on from here" in err
        shown = json.loads(out)
        assert not shown["complete"] and shown["error"] and [f["plain_path"] for f in shown["findings"]] == [order[0]]
        assert shown["summary"]["files"] < FILES
    assert state.stat().st_mode & 0o777 == 0o600 and "file" not in state.read_text()
    second = valid(verify(copy, "--state", state))
    assert second["continued"] and second["complete"] and second["exit"] == CORRUPT
    assert [f["plain_path"] for f in second["findings"]] == [order[-1]]
    assert second["summary"]["damage"] == 2 and second["summary"]["files"] == FILES
    assert not state.exists()
    third = valid(verify(copy, "--state", state))
    assert not third["continued"] and len(third["findings"]) == 2


def test_stopped_without_damage(copy, workdir):
    state = workdir / "place"
    first = begin(copy, "--rate", RATE, "--state", state)
    harness.wait_until(lambda: where(state), what="a place")
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    assert first.returncode == FAILURE
    shown = valid(verify(copy, "--state", state, "--restart"))
    assert not shown["continued"] and shown["exit"] == OK and shown["summary"]["files"] == FILES


def test_the_usual_place(copy):
    usual = place_of(copy)
    first = begin(copy, "--rate", RATE)
    harness.wait_until(lambda: where(usual), what="a place")
    first.kill()
    first.communicate()
    assert usual.parent.stat().st_mode & 0o777 == 0o700
    assert valid(verify(copy))["continued"]
    assert not usual.exists()


def test_a_foreign_file_is_no_place(copy, volume, workdir):
    state = workdir / "place"
    state.write_text("somebody's notes\n")
    for options in ([], ["--restart"]):
        refused(verify(copy, "--state", state, *options), USAGE, "place")
    assert state.read_text() == "somebody's notes\n"
    first = begin(copy, "--rate", RATE, "--state", state.with_name("other"))
    harness.wait_until(lambda: where(state.with_name("other")), what="a place")
    first.kill()
    first.communicate()
    other = Made(add_keyfile(volume))
    kept = state.with_name("other").read_bytes()
    refused(verify(other, "--state", state.with_name("other")), USAGE, "not the place")
    for cut in range(0, len(kept), 7):
        state.with_name("other").write_bytes(kept[:cut])
        assert verify(copy, "--state", state.with_name("other")).returncode == USAGE


def test_the_rate_is_kept(copy):
    """A lower bound only: a busy machine is slower still."""
    began = time.monotonic()
    assert valid(verify(copy, "--rate", "3M"))["exit"] == OK
    assert time.monotonic() - began > FILES * SIZE / (3 << 20) / 2


def test_a_header_backup_serves(copy, workdir):
    """A copy that has lost its key store is verified with a backup of it, and the loss is told."""
    backup = workdir / "backup.ini"
    os.rename(copy.path / "latchfs.ini", backup)
    os.unlink(copy.path / "latchfs.ini.bak")
    refused(verify(copy), CORRUPT, "latchfs.ini")
    shown = valid(verify(copy, "--header", backup))
    assert damage(shown) == {"bad-keystore"} and shown["summary"]["files"] == FILES


@pytest.mark.parametrize("words", [["--rate", "fast"], ["--rate", "0"], ["--workers", "0"], ["--frob"], ["--state"]])
def test_usage(copy, words):
    refused(verify(copy, *words, json_too=False), USAGE)


def test_refusals(latch, workdir):
    (workdir / "empty").mkdir()
    for command in ("verify", "scrub"):
        refused(latch(command, workdir / "empty"), NOTVOLUME)
        refused(latch(command), USAGE)


# ---- in a mount ----


def test_in_a_mount(copy):
    with copy.volume.mount() as m:
        write_file(m / "open", pattern(1, 100))
        for target in (m.path, copy.path, m / "d1"):
            shown = valid(verify(copy, target=target))
            assert shown["exit"] == OK and shown["mountpoint"] == str(m.path) and shown["summary"]["files"] == (FILES // 3 if target == m / "d1" else FILES + 1)


def test_killed_while_a_mount_works_for_it(copy, workdir):
    """The check goes on in the mount; the same command takes it up, and nothing is told twice."""
    state = workdir / "place"
    order = ordered(copy)
    flip(copy.backing(order[0]), 5 * CHUNK)
    flip(copy.backing(order[-1]), 5 * CHUNK)
    with copy.volume.mount() as m:
        first = begin(copy, "--rate", RATE, "--state", state, target=m.path)
        harness.wait_until(lambda: is_past(state, copy, order[1]), what="the first files")
        first.kill()
        first.communicate()
        second = valid(verify(copy, "--rate", RATE, "--state", state, target=m.path))
        assert second["continued"] and second["exit"] == CORRUPT
        assert [f["plain_path"] for f in second["findings"]] == [order[-1]]
        assert not state.exists()


def test_stopped_in_a_mount(copy, workdir):
    """SIGINT ends the mount's work too; after a new mount it goes on from the place."""
    state = workdir / "place"
    with copy.volume.mount() as m:
        first = begin(copy, "--rate", RATE, "--state", state, target=m.path)
        harness.wait_until(lambda: where(state), what="a place")
        first.send_signal(signal.SIGINT)
        out, _ = first.communicate(timeout=60)
        assert first.returncode == FAILURE and not json.loads(out)["complete"]
        assert valid(copy.volume.latch("fsck", "--online", "--json", m.path))["exit"] == OK, "the mount still works for it"
        m.umount().ok()
        m.mount().ok()
        second = valid(verify(copy, "--state", state, target=m.path))
        assert second["continued"] and second["exit"] == OK


# ---- scrub ----


def priority_lines(text):
    lines = text.splitlines()
    assert all(re.match(r"<[3-6]>latch scrub: ", line) for line in lines), text
    return lines


def test_scrub(copy):
    (last,) = priority_lines(verify(copy, command="scrub").ok().err)
    assert last.startswith("<6>") and "no damage" in last and f"{FILES} files" in last
    flip(copy.backing("d1/file4"), 30 * CHUNK)
    result = verify(copy, command="scrub")
    assert result.returncode == CORRUPT and not result.out
    found, last = priority_lines(result.err)
    assert found.startswith("<3>") and "bad-chunk" in found and str(copy.cipher["d1/file4"]) in found
    assert last.startswith("<3>") and "1 damaged" in last
    assert "file4" not in result.err, "a plaintext name in a log"


def test_scrub_asks_nothing(copy):
    refused(copy.volume.latch("scrub", copy.path), NOKEY, "--keyfile")
    with copy.volume.mount() as m:
        (last,) = priority_lines(copy.volume.latch("scrub", m.path).ok().err)
        assert f"{FILES} files" in last
        copy.volume.lock().ok()
        result = copy.volume.latch("scrub", m.path)
        assert result.returncode == NOKEY and "locked" in result.err


def test_scrub_stays_behind_and_stops(copy, workdir):
    state = workdir / "state"
    scrub = begin(copy, "--rate", RATE, "--state", state, command="scrub")
    try:
        harness.wait_until(lambda: where(state), what="a place")
        for thread in os.listdir(f"/proc/{scrub.pid}/task"):
            fields = open(f"/proc/{scrub.pid}/task/{thread}/stat").read().rsplit(")", 1)[1].split()
            assert fields[16] == "19", "the nice value"
            shown = harness.run(["ionice", "-p", thread]).ok().out
            assert shown.strip() == "idle"
        scrub.send_signal(signal.SIGTERM)
        _, err = scrub.communicate(timeout=60)
    finally:
        scrub.kill()
    assert scrub.returncode == OK, "a unit that was stopped has not failed"
    (last,) = priority_lines(err)
    assert "not finished: stopped" in last and state.exists()
    (last,) = priority_lines(verify(copy, "--state", state, command="scrub").ok().err)
    assert f"{FILES} files" in last and not state.exists()


def test_two_users(bins, user, workdir, many):
    """A user verifies his own mount; that of another is not his."""
    home = workdir / "home"
    home.mkdir()
    os.chown(home, user.pw_uid, user.pw_gid)
    with harness.Keyd(bins, workdir / "k", user=user) as own:
        volume = harness.Volume(own, home / "vol", user=user).create()
        with volume.mount() as m, many.copy(workdir / "roots").volume.mount() as roots:
            harness.run(["sh", "-c", f"echo text > {m.path}/file"], user=user).ok()
            shown = valid(volume.latch("verify", "--json", m.path))
            assert shown["exit"] == OK and shown["summary"]["files"] == 1
            state = own.dir / ".local/state/latchfs/verify"
            assert state.stat().st_uid == user.pw_uid
            refused(volume.latch("verify", roots.path), NOTVOLUME)
            refused(volume.latch("fsck", "--online", roots.path), NOTVOLUME)
