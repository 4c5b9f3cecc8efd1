"""latch recipient, and slots that open with a private key file; whose signature their owners trust."""

import os
import random
import re
import stat

import pytest

import harness
from clibox import refused, tree
from harness import CORRUPT, IO, OK, USAGE, WRONG_PASSPHRASE


def public_of(path):
    return path.with_name(path.name + ".pub").read_text().strip()


@pytest.fixture
def officer(latch, workdir):
    """An identity file; officer.pub is beside it."""
    path = workdir / "officer"
    latch("recipient", "new", path).ok()
    return path


@pytest.fixture
def escrow(latch, volume, officer):
    """The volume with slot 3 for the officer."""
    latch("slot", "add", "--passphrase-file", volume.passfile, "--new-recipient", f"{officer}.pub", "--label", "officer",
          volume.path).ok()
    return volume


def test_new_and_show(latch, workdir, officer):
    shown = public_of(officer)
    assert re.fullmatch("latch-recipient-([0-9a-f]{5}-){15}[0-9a-f]{5}", shown)
    assert stat.S_IMODE(officer.stat().st_mode) == 0o600
    for what in (officer, f"{officer}.pub", shown, shown.upper().replace("LATCH-RECIPIENT-", "latch-recipient-")):
        assert latch("recipient", "show", what).ok().out.strip() == shown
    private = [line for line in officer.read_text().splitlines() if line.startswith("latch-identity-")]
    assert len(private) == 1 and private[0][15:] not in latch("recipient", "show", officer).out


def test_new_overwrites_nothing(latch, workdir, officer):
    before = tree(workdir)
    refused(latch("recipient", "new", officer), IO, "exists")
    refused(latch("recipient", "new", workdir / "missing" / "file"), IO)
    os.unlink(officer)
    before = tree(workdir)
    refused(latch("recipient", "new", officer), IO, "officer.pub")
    assert tree(workdir) == before
    os.symlink(workdir / "elsewhere", officer)
    os.unlink(f"{officer}.pub")
    before = tree(workdir)
    refused(latch("recipient", "new", officer), IO)
    assert tree(workdir) == before


def test_every_typing_error_is_named(latch, officer):
    text = public_of(officer)
    groups = text[len("latch-recipient-"):].split("-")
    rng = random.Random(1)
    for _ in range(40):
        at, digit = rng.randrange(16), rng.randrange(5)
        wrong = list(groups)
        other = rng.choice([c for c in "0123456789abcdefz" if c != wrong[at][digit]])
        wrong[at] = wrong[at][:digit] + other + wrong[at][digit + 1:]
        refused(latch("recipient", "show", "latch-recipient-" + "-".join(wrong)), USAGE, f"group {at + 1} ")
    for at in range(16):
        for a in range(5):
            for b in range(a):
                if groups[at][a] != groups[at][b]:
                    swapped = list(groups[at])
                    swapped[a], swapped[b] = swapped[b], swapped[a]
                    wrong = groups[:at] + ["".join(swapped)] + groups[at + 1:]
                    refused(latch("recipient", "show", "latch-recipient-" + "-".join(wrong)), USAGE, f"group {at + 1} ")
                    break
    for wrong in (groups[:15], groups + ["00000"], groups[1:2] + groups[:1] + groups[2:], []):
        refused(latch("recipient", "show", "latch-recipient-" + "-".join(wrong)), USAGE)


def test_a_typing_error_in_the_private_key(latch, escrow, officer):
    text = officer.read_text()
    at = text.index("latch-identity-") + len("latch-identity-") + 6
    officer.write_text(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1:])
    result = latch("unlock", "--identity", officer, escrow.path)
    refused(result, WRONG_PASSPHRASE, "group 2 ", str(officer))
    assert text[at - 6:at + 20] not in result.err


def test_escrow(latch, escrow, officer, workdir):
    listed = latch("slot", "list", escrow.path).ok().out
    assert re.search(rf"^3 +recipient +\S+ +officer +{public_of(officer)}$", listed, re.M)
    assert "slot 3 opens" in latch("slot", "test", "--identity", officer, escrow.path).ok().out
    point = workdir / "point"
    point.mkdir()
    mount = escrow.mount(point)
    try:
        latch("mount", "--identity", officer, escrow.path, point).ok()
        (point / "file").write_text("x")
    finally:
        mount.umount()
        mount.force_away()
    latch("slot", "remove", "--identity", officer, escrow.path, "1").ok()
    refused(escrow.unlock(), WRONG_PASSPHRASE)
    latch("slot", "remove", "--recovery-file", escrow.recovery, escrow.path, "3").ok()
    refused(latch("slot", "test", "--identity", officer, escrow.path), WRONG_PASSPHRASE)


def test_a_public_key_opens_nothing(latch, escrow, officer, workdir):
    before = tree(escrow.path)
    refused(latch("unlock", "--identity", f"{officer}.pub", escrow.path), WRONG_PASSPHRASE, "public")
    latch("recipient", "new", workdir / "other").ok()
    refused(latch("unlock", "--identity", workdir / "other", escrow.path), WRONG_PASSPHRASE)
    refused(latch("unlock", "--identity", escrow.passfile, escrow.path), WRONG_PASSPHRASE, "no private key")
    refused(latch("unlock", "--identity", workdir / "nothing", escrow.path), IO)
    refused(latch("unlock", "--identity", workdir, escrow.path), IO)
    refused(latch("unlock", "--identity", officer, "--passphrase-file", escrow.passfile, escrow.path), USAGE, "not several")
    assert tree(escrow.path) == before


def test_a_slot_for_a_key_given_as_text(latch, volume, officer):
    latch("slot", "add", "--passphrase-file", volume.passfile, "--new-recipient", public_of(officer), volume.path).ok()
    latch("slot", "test", "--identity", officer, volume.path).ok()
    refused(latch("slot", "add", "--passphrase-file", volume.passfile, "--new-recipient", "latch-recipient-0", volume.path),
            USAGE)
    refused(latch("slot", "add", "--passphrase-file", volume.passfile, "--new-recipient", volume.recovery, volume.path),
            WRONG_PASSPHRASE)


# ---- whose volume is it ----


def signing_key_said(text):
    return re.search(r"signing key is ([0-9a-f]{64})", text).group(1)


def test_a_first_opening_says_the_signing_key_once(bins, escrow, officer, workdir):
    with harness.Keyd(bins, workdir / "keyd2") as elsewhere:
        first = harness.run([bins.latch, "unlock", "--identity", officer, escrow.path], env=elsewhere.env).ok()
        key = signing_key_said(first.err)
        assert key in (escrow.path / "latchfs.ini").read_text()
        again = harness.run([bins.latch, "unlock", "--identity", officer, escrow.path], env=elsewhere.env).ok()
        assert again.err == ""


def test_a_signing_key_that_is_demanded(bins, latch, escrow, officer, workdir):
    other = harness.Volume(escrow.keyd, workdir / "other").create()
    added = latch("slot", "add", "--passphrase-file", other.passfile, "--new-recipient", f"{officer}.pub", other.path).ok()
    key = re.search("--signing-key ([0-9a-f]{64})", added.out).group(1)
    assert re.search(rf"^signing key +{key}$", latch("inspect", other.path / "latchfs.ini").ok().out, re.M)
    with harness.Keyd(bins, workdir / "keyd2") as elsewhere:
        def unlock(hexes, volume, *more):
            return harness.run([bins.latch, "unlock", "--identity", officer, "--signing-key", hexes, *more, volume.path],
                               env=elsewhere.env)

        refused(unlock(key, escrow), CORRUPT, "another key")
        assert unlock(key, other).ok().err == ""
        for bad in ("", "00", key[:-1], key + "00", "x" * 64):
            refused(unlock(bad, other), USAGE, "64 hex")


# ---- as the first slot ----


def test_init_for_a_recipient(latch, workdir, officer, keyd):
    vol = workdir / "vol"
    refused(latch("init", "--recipient", f"{officer}.pub", "--no-recovery", vol), USAGE, "--identity")
    refused(latch("init", "--recipient", f"{officer}.pub", "--identity", officer, "--no-recovery", vol), USAGE)
    assert not vol.exists()
    latch("init", "--recipient", f"{officer}.pub", "--recovery-file", workdir / "rec", vol).ok()
    assert "slot 1 opens" in latch("slot", "test", "--identity", officer, vol).ok().out
    assert "slot 2 opens" in latch("slot", "test", "--recovery-file", workdir / "rec", vol).ok().out
    latch("init", "--identity", officer, "--no-recovery", workdir / "vol2").ok()
    point = workdir / "point"
    point.mkdir()
    mount = harness.Volume(keyd, workdir / "vol2").mount(point)
    try:
        assert latch("mount", "--identity", officer, workdir / "vol2", point).returncode == OK
    finally:
        mount.umount()
        mount.force_away()
