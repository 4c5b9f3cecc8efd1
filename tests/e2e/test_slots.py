"""latch slot, latch passwd: what opens a volume, and the changes of it."""

import fcntl
import os
import shutil
import stat
import subprocess

import pytest

import harness
from clibox import refused, tree
from harness import BUSY, CORRUPT, IO, NOTVOLUME, OK, PASSPHRASE, USAGE, WRONG_PASSPHRASE


# ---- where passphrases come from ----


def test_every_source_opens(latch, volume, workdir):
    def opens(*source, **more):
        return latch("slot", "test", *source, volume.path, **more)

    for content in (PASSPHRASE, PASSPHRASE + "\n"):
        volume.passfile.write_text(content)
        opens("--passphrase-file", volume.passfile).ok()
        opens("--passphrase-fd", "0", input=content).ok()
        opens("--passphrase-command", f"cat {volume.passfile}").ok()
    volume.passfile.write_text(PASSPHRASE + "\n\n")
    refused(opens("--passphrase-file", volume.passfile), WRONG_PASSPHRASE)
    refused(opens("--passphrase-fd", "0", input=""), WRONG_PASSPHRASE)
    refused(opens("--passphrase-command", "echo; exit 1"), 1, "command failed")
    refused(opens(), USAGE, "--passphrase-file")
    refused(opens("--recovery"), USAGE, "--recovery-file")


def test_recovery_key_with_a_typing_error(latch, volume, workdir):
    key = volume.recovery.read_text()
    wrong = workdir / "wrong"
    wrong.write_text(("0" if key[0] != "0" else "1") + key[1:])
    refused(latch("slot", "test", "--recovery-file", wrong, volume.path), WRONG_PASSPHRASE)
    wrong.write_text("  ".join([key.lower().replace("-", " ").strip(), "\n\n"]))
    latch("slot", "test", "--recovery-file", wrong, volume.path).ok()


def test_secrets_stay_out_of_messages(latch, volume):
    for result in (latch("unlock", "--passphrase-fd", "0", volume.path, input="a wrong secret"),
                   latch("slot", "test", "--passphrase-fd", "0", volume.path, input="a wrong secret")):
        refused(result, WRONG_PASSPHRASE)
        assert "wrong secret" not in result.err + result.out


# ---- slots ----


def test_slots(latch, volume, workdir):
    key = workdir / "key"
    key.write_bytes(os.urandom(64))
    assert "slot 3 added" in latch("slot", "add", "--passphrase-file", volume.passfile, "--new-keyfile", key, "--label",
                                   "stick", volume.path).ok().out
    assert "slot 3 opens" in latch("slot", "test", "--keyfile", key, volume.path).ok().out
    assert "stick" in latch("slot", "list", volume.path).ok().out
    again = latch("slot", "add", "--keyfile", key, "--new-recovery-file", workdir / "rec2", volume.path).ok()
    assert "slot 4 added" in again.out
    latch("slot", "test", "--recovery-file", workdir / "rec2", volume.path).ok()
    latch("slot", "add", "--fast-kdf", "--keyfile", key, "--new-passphrase-fd", "0", volume.path, input="another").ok()
    assert "slot 5 opens" in latch("slot", "test", "--passphrase-fd", "0", volume.path, input="another").ok().out
    latch("slot", "remove", "--keyfile", key, volume.path, "1").ok()
    refused(latch("slot", "test", "--passphrase-file", volume.passfile, volume.path), WRONG_PASSPHRASE)
    assert latch("slot", "list", volume.path).ok().out.count("\n") == 5


def test_slot_refusals(latch, volume, workdir):
    before = tree(volume.path)
    with_pass = ["--passphrase-file", volume.passfile]
    refused(latch("slot", "add", "--passphrase-fd", "0", "--new-recovery-file", workdir / "r", volume.path, input="no"),
            WRONG_PASSPHRASE)
    assert not (workdir / "r").exists()
    refused(latch("slot", "add", *with_pass, "--new-recovery", volume.path), USAGE, "terminal")
    refused(latch("slot", "add", *with_pass, "--new-recovery", "--new-keyfile", volume.passfile, volume.path), USAGE)
    refused(latch("slot", "add", *with_pass, "--new-recovery-file", volume.passfile, volume.path), IO)
    refused(latch("slot", "remove", *with_pass, volume.path, "9"), USAGE, "9")
    refused(latch("slot", "remove", *with_pass, volume.path, "first"), USAGE)
    refused(latch("slot", "list", workdir), NOTVOLUME)
    assert tree(volume.path) == before


def test_the_last_slot_stays(latch, volume):
    with_pass = ["--passphrase-file", volume.passfile]
    latch("slot", "remove", *with_pass, volume.path, "2").ok()
    before = tree(volume.path)
    refused(latch("slot", "remove", *with_pass, volume.path, "1"), USAGE, "last slot", "--force")
    assert tree(volume.path) == before


def test_the_last_slot_goes_only_on_yes(terminal, volume, latch):
    latch("slot", "remove", "--passphrase-file", volume.passfile, volume.path, "2").ok()
    before = tree(volume.path)
    for answer in ("no", "", "y", "yes please"):
        t = terminal("slot", "remove", "--passphrase-file", volume.passfile, volume.path, "1")
        t.expect("Type yes")
        t.type(answer)
        code, shown = t.end()
        assert code == USAGE and "stays" in shown and tree(volume.path) == before


def test_a_change_keeps_the_previous_copy_and_the_owner(latch, volume, workdir):
    ini = volume.path / "latchfs.ini"
    ini.chmod(0o640)
    os.chown(ini, 65534, 65534)
    before = ini.read_bytes()
    latch("slot", "add", "--passphrase-file", volume.passfile, "--new-recovery-file", workdir / "r", volume.path).ok()
    assert (volume.path / "latchfs.ini.bak").read_bytes() == before != ini.read_bytes()
    st = ini.stat()
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o640, 65534, 65534)


def test_an_older_key_store_needs_an_override(latch, volume, workdir):
    ini = volume.path / "latchfs.ini"
    old = ini.read_bytes()
    latch("slot", "add", "--passphrase-file", volume.passfile, "--new-recovery-file", workdir / "r", volume.path).ok()
    ini.write_bytes(old)
    refused(volume.unlock(), CORRUPT)
    latch("unlock", "--accept-older", "--passphrase-file", volume.passfile, volume.path).ok()


def test_the_last_slot_goes_by_force(latch, volume):
    with_pass = ["--passphrase-file", volume.passfile]
    refused(latch("slot", "label", "--force", *with_pass, volume.path, "1", "x"), USAGE, "--force")
    latch("slot", "remove", *with_pass, volume.path, "2").ok()
    latch("header", "backup", volume.path, f"{volume.path}.copy").ok()
    latch("slot", "remove", "--force", *with_pass, volume.path, "1").ok()
    assert latch("slot", "list", volume.path).ok().out.count("\n") == 1
    refused(volume.unlock(), WRONG_PASSPHRASE)
    latch("header", "restore", volume.path, f"{volume.path}.copy").ok()
    latch("unlock", "--accept-older", *with_pass, volume.path).ok()


# ---- replacing ----


def slots_of(latch, volume):
    """The lines of slot list, by number: [type, label]."""
    lines = latch("slot", "list", volume.path).ok().out.splitlines()[1:]
    return {int(line[:5]): [line[6:17].strip(), line[30:50].strip()] for line in lines}


def opens(latch, volume, *source, **more):
    return latch("slot", "test", *source, volume.path, **more)


def test_replace_keeps_number_and_label(latch, volume, workdir):
    with_pass = ["--passphrase-file", volume.passfile]
    key = workdir / "key"
    key.write_bytes(os.urandom(32))
    latch("slot", "label", *with_pass, volume.path, "1", "Alice at work").ok()
    latch("slot", "replace", *with_pass, "--new-keyfile", key, volume.path, "1").ok()
    assert slots_of(latch, volume) == {1: ["keyfile", "Alice at work"], 2: ["recovery", "-"]}
    refused(opens(latch, volume, *with_pass), WRONG_PASSPHRASE)
    assert "slot 1 opens" in opens(latch, volume, "--keyfile", key).ok().out
    latch("slot", "replace", "--keyfile", key, "--new-recovery-file", workdir / "r2", volume.path, "2").ok()
    refused(opens(latch, volume, "--recovery-file", volume.recovery), WRONG_PASSPHRASE)
    assert "slot 2 opens" in opens(latch, volume, "--recovery-file", workdir / "r2").ok().out


def test_a_lost_passphrase_is_replaced_by_the_recovery_key(latch, volume):
    latch("slot", "replace", "--recovery-file", volume.recovery, "--fast-kdf", "--new-passphrase-fd", "0", volume.path, "1",
          input="a new one").ok()
    assert "slot 1 opens" in opens(latch, volume, "--passphrase-fd", "0", input="a new one").ok().out


def test_passwd(latch, volume, workdir):
    new = workdir / "new"
    new.write_text("another secret\n")
    latch("slot", "label", "--passphrase-file", volume.passfile, volume.path, "1", "owner").ok()
    before = tree(volume.path)
    refused(latch("passwd", "--passphrase-fd", "0", "--new-passphrase-file", new, volume.path, input="wrong"),
            WRONG_PASSPHRASE)
    refused(latch("passwd", "--keyfile", new, volume.path), USAGE)
    refused(latch("passwd", "--passphrase-file", new, volume.path, "extra"), USAGE)
    refused(latch("passwd", "--passphrase-file", volume.passfile, volume.path), USAGE, "terminal")
    assert tree(volume.path) == before
    latch("passwd", "--fast-kdf", "--passphrase-file", volume.passfile, "--new-passphrase-file", new, volume.path).ok()
    assert slots_of(latch, volume)[1] == ["passphrase", "owner"]
    refused(volume.unlock(), WRONG_PASSPHRASE)
    latch("unlock", "--passphrase-file", new, volume.path).ok()
    opens(latch, volume, "--recovery-file", volume.recovery).ok()


def test_passwd_replaces_the_slot_that_the_old_one_opens(latch, volume):
    for word in ("second", "third"):
        latch("slot", "add", "--fast-kdf", "--passphrase-file", volume.passfile, "--new-passphrase-fd", "0", volume.path,
              input=word).ok()
    latch("passwd", "--fast-kdf", "--passphrase-fd", "0", "--new-passphrase-file", volume.passfile, volume.path,
          input="third").ok()
    assert "slot 3 opens" in opens(latch, volume, "--passphrase-fd", "0", input="second").ok().out
    refused(opens(latch, volume, "--passphrase-fd", "0", input="third"), WRONG_PASSPHRASE)


def test_passwd_at_a_terminal(terminal, volume, latch):
    t = terminal("passwd", "--fast-kdf", volume.path)
    for word in ("wrong", PASSPHRASE):
        t.expect("Passphrase")
        t.type(word)
    for _ in range(2):
        t.expect("new slot:")
        t.type("typed secret")
    code, shown = t.end()
    assert code == OK and "typed secret" not in shown
    assert "slot 1 opens" in opens(latch, volume, "--passphrase-fd", "0", input="typed secret").ok().out


# ---- what a removed passphrase still opens ----


def test_a_removed_passphrase_opens_only_the_old_copy(latch, volume, workdir):
    latch("header", "backup", volume.path, workdir / "copy").ok()
    latch("slot", "add", "--fast-kdf", "--passphrase-file", volume.passfile, "--new-passphrase-fd", "0", volume.path,
          input="staying").ok()
    latch("slot", "remove", "--passphrase-fd", "0", volume.path, "1", input="staying").ok()
    latch("rotate", "master", "--passphrase-fd", "0", volume.path, input="staying").ok()
    refused(opens(latch, volume, "--passphrase-file", volume.passfile), WRONG_PASSPHRASE)
    refused(volume.unlock(), WRONG_PASSPHRASE)
    old = workdir / "old"
    old.mkdir()
    (old / "latchfs.ini").write_bytes((workdir / "copy").read_bytes())
    assert "slot 1 opens" in latch("slot", "test", "--passphrase-file", volume.passfile, old).ok().out
    refused(latch("unlock", "--passphrase-file", volume.passfile, old), CORRUPT)


# ---- labels ----


def test_labels(latch, volume):
    with_pass = ["--passphrase-file", volume.passfile]
    for text in ("Alice", "a-Z 0.9_@+", "x" * 64):
        latch("slot", "label", *with_pass, volume.path, "2", text).ok()
        assert slots_of(latch, volume)[2][1] == text[:20].strip()
    latch("slot", "label", *with_pass, volume.path, "2", "").ok()
    assert slots_of(latch, volume)[2][1] == "-"
    opens(latch, volume, "--recovery-file", volume.recovery).ok()


@pytest.mark.parametrize("text", [" x", "x ", "x" * 65, "a\nb", "[slot 9]", "a = b", "\x1b[31m", "é", "a;b", "#"])
def test_hostile_labels_are_refused(latch, volume, workdir, text):
    before = tree(volume.path)
    with_pass = ["--passphrase-file", volume.passfile]
    refused(latch("slot", "label", *with_pass, volume.path, "1", text), USAGE, "label")
    refused(latch("slot", "add", *with_pass, "--label", text, "--new-recovery-file", workdir / "r", volume.path), USAGE)
    assert tree(volume.path) == before and not (workdir / "r").exists()


@pytest.mark.parametrize("text", [b"a\x1b[31m", b"a\nlabel = b", b"x" * 65, b"\xff\xfe", b"a]"])
def test_hostile_labels_in_the_file_are_corruption(latch, volume, text):
    latch("slot", "label", "--passphrase-file", volume.passfile, volume.path, "1", "Alice").ok()
    ini = volume.path / "latchfs.ini"
    data = ini.read_bytes()
    assert data.count(b"Alice") == 1
    ini.write_bytes(data.replace(b"Alice", text))
    result = latch("slot", "list", volume.path)
    refused(result, CORRUPT)
    assert "\x1b" not in result.err + result.out


# ---- which slot ----


def test_one_slot_only(latch, volume, workdir):
    latch("slot", "add", "--fast-kdf", "--passphrase-file", volume.passfile, "--new-passphrase-fd", "0", volume.path,
          input="other").ok()
    opens(latch, volume, "--slot", "3", "--passphrase-fd", "0", input="other").ok()
    refused(opens(latch, volume, "--slot", "1", "--passphrase-fd", "0", input="other"), WRONG_PASSPHRASE)
    refused(opens(latch, volume, "--slot", "2", "--passphrase-fd", "0", input="other"), USAGE, "recovery")
    for bad in ("0", "-1", "x", "9", "99999999999999999999", ""):
        refused(opens(latch, volume, "--slot", bad, "--passphrase-fd", "0", input="other"), USAGE)


def test_sixteen_slots_are_enough(latch, volume, workdir):
    with_pass = ["--passphrase-file", volume.passfile]
    for i in range(14):
        latch("slot", "add", *with_pass, "--new-recovery-file", workdir / f"r{i}", volume.path).ok()
    before = tree(volume.path)
    result = latch("slot", "add", *with_pass, "--new-recovery-file", workdir / "r14", volume.path)
    assert result.returncode != OK and len(result.err.splitlines()) == 1
    assert tree(volume.path) == before and not (workdir / "r14").exists()
    opens(latch, volume, "--recovery-file", workdir / "r13").ok()


# ---- one change at a time, and changes that are cut ----


def test_two_changes_at_once(latch, volume, workdir):
    with_pass = ["--passphrase-file", volume.passfile]
    fd = os.open(volume.path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        refused(latch("slot", "label", *with_pass, volume.path, "1", "x"), BUSY, "another command")
    finally:
        os.close(fd)
    both = [subprocess.Popen([volume.bins.latch, "slot", "add", *map(str, with_pass), "--new-recovery-file",
                              str(workdir / f"r{i}"), str(volume.path)], env=volume.keyd.env,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for i in range(4)]
    codes = [p.wait(60) for p in both]
    assert OK in codes and set(codes) <= {OK, BUSY}
    for i, code in enumerate(codes):
        assert (workdir / f"r{i}").exists() == (code == OK)
        if code == OK:
            opens(latch, volume, "--recovery-file", workdir / f"r{i}").ok()


def test_a_change_that_could_not_be_pinned_heals(latch, volume, workdir):
    volume.unlock().ok()
    volume.lock().ok()
    pins = volume.keyd.state / "pins"
    harness.run(["mount", "--bind", pins, pins]).ok()
    try:
        harness.run(["mount", "-o", "remount,ro,bind", pins]).ok()
        result = latch("slot", "label", "--passphrase-file", volume.passfile, volume.path, "1", "kept")
        assert result.returncode != OK and "has the change" in result.err and "latch unlock" in result.err
        assert slots_of(latch, volume)[1][1] == "kept"
    finally:
        harness.run(["umount", pins]).ok()
    latch("slot", "label", "--passphrase-file", volume.passfile, volume.path, "2", "next").ok()
    volume.unlock().ok()
    assert slots_of(latch, volume)[1][1] == "kept"


def test_a_change_with_a_full_disk_changes_nothing(latch, volume, workdir):
    small = workdir / "small"
    small.mkdir()
    harness.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small]).ok()
    try:
        for name in ("latchfs.ini", "latchfs.dir"):
            shutil.copy(volume.path / name, small)
        with pytest.raises(OSError), open(small / "filler", "wb", buffering=0) as f:
            while True:
                f.write(b"x" * 4096)
        before = (small / "latchfs.ini").read_bytes()
        refused(latch("slot", "add", "--passphrase-file", volume.passfile, "--new-recovery-file", workdir / "r", small), IO)
        assert (small / "latchfs.ini").read_bytes() == before and not (workdir / "r").exists()
        assert sorted(os.listdir(small)) == ["filler", "latchfs.dir", "latchfs.ini"]
    finally:
        harness.run(["umount", small]).ok()
