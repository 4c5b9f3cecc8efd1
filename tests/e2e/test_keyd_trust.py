"""latch-keyd: which key stores it believes, and how far: another signing key, held keys that a store calls destroyed,
versions made twice."""

import pytest

from keydbox import BUSY, DENIED, KEYD, NOBODY, ROLLBACK, home, needs_root  # noqa: F401 (home)
from test_keyd_admin import held_files

USERS = f"[roles]\nuser = uid:{NOBODY.pw_uid}\n"
APPROVE = "[approvals]\nrequired = 1\nadmin.ann = " + "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a\n"


def set_policy(home, text):
    home.config.write_text(text)
    home.config.chmod(0o644)
    home.dir.chmod(0o711)


def again(home, c, policy):
    """Another keyd with the same state."""
    home.kill_keyd()
    set_policy(home, policy)
    c.ok("connect", home.socket, KEYD)


def renamed(path, vid, out):
    """The store of another volume under the id of this one: signed with another key."""
    lines = path.read_text().split("\n")
    lines[next(i for i, line in enumerate(lines) if line.startswith("id = "))] = f"id = {vid}"
    out.write_text("\n".join(lines))
    return out


def foreign_pin(home, vid):
    """As if another signing key had been pinned."""
    pin = home.state / "pins" / vid
    lines = pin.read_text().split("\n")
    pin.write_text("\n".join([*lines[:2], "signing-public = " + "cd" * 32, ""]))
    return pin


# ---- another signing key ----


@needs_root
def test_accepting_an_older_store_is_not_accepting_another_signer(home):
    set_policy(home, USERS)
    c = home.client(start=True)
    path, _ = c.volume()
    vid = c.unlock(path)
    c.ok("lock", vid)
    pin = foreign_pin(home, vid)
    before = pin.read_text()
    user = home.client(user=NOBODY)
    code, words = user.ask("unlock", path, "passphrase", "secret", "older")
    assert code == DENIED and "key-admin" in words
    assert pin.read_text() == before
    assert c.ask("unlock", path, "passphrase", "secret")[0] == ROLLBACK
    c.ok("unlock", path, "passphrase", "secret", "older")  # by a key administrator, and logged
    assert pin.read_text() != before
    acts = [a["act"] for a in home.audit() if a["result"] == "ok"]
    assert acts.index("accept-signing-key") == acts.index("unlock", acts.index("lock")) - 1


@needs_root
def test_users_still_go_back_to_an_older_store_of_the_same_signer(home):
    set_policy(home, USERS)
    c, user = home.client(start=True), home.client(user=NOBODY)
    path, _ = c.volume()
    old = home.dir / "old.ini"
    old.write_bytes(path.read_bytes())
    c.admin(path).edit(path, "slot-label", "number=1", "label=x")
    assert user.ask("unlock", old, "passphrase", "secret")[0] == ROLLBACK
    vid = user.ok("unlock", old, "passphrase", "secret", "older")[1]
    user.ok("lease", vid)
    assert "accept-signing-key" not in [a["act"] for a in home.audit()]


def test_an_unlocked_volume_is_not_replaced_by_another_signers(home):
    c = home.client(start=True)
    path, _ = c.volume()
    other, _ = c.volume("other.ini", passphrase="evil")
    vid = c.unlock(path)
    forged = renamed(other, vid, home.dir / "forged.ini")
    pin = home.state / "pins" / vid
    pin.unlink()  # even if nothing is pinned
    for ask in ("unlock", "admin"):
        code, words = c.ask(ask, forged, "passphrase", "evil", "older")
        assert code == DENIED and "lock it first" in words
    c.ok("lease", vid)


def test_held_keys_do_not_end_by_another_signers_store(home):
    """Not by the first store of a signer that was accepted over another; by the next one, which is his own line."""
    c = home.client(start=True)
    path, _ = c.volume()
    _, pd = c.admin(path).edit(path, "dir-add", "label=x", "held")
    vid = c.unlock(path)
    blob = home.state / "held" / held_files(home)[0]
    kept = blob.read_bytes()
    c.edit(path, "dir-shred", f"pd={pd}")
    c.ok("lock", vid)
    blob.write_bytes(kept)
    foreign_pin(home, vid)
    c.ok("unlock", path, "passphrase", "secret", "older")
    assert held_files(home) == [blob.name]
    c.unlock(path)
    assert held_files(home) == []


# ---- what ends held keys ----


@pytest.fixture
def shredded(home):
    """A store that says that a held directory was shredded, of which latch-keyd knows nothing: as one that somebody with
    a slot secret signed elsewhere."""
    set_policy(home, USERS)
    c = home.client(start=True)
    home.ini, _ = c.volume()
    _, home.pd = c.admin(home.ini).edit(home.ini, "dir-add", "label=x", "held")
    home.signed = home.dir / "signed.ini"
    c.ok("edit", home.signed, "dir-shred", f"pd={home.pd}")
    for note in (home.state / "ended").iterdir():
        note.unlink()
    return c


def ends(home):
    return [a["result"] for a in home.audit() if a["act"] == "held-destroy"]


def test_a_user_ends_no_held_keys(home, shredded):
    again(home, shredded, USERS)
    user = home.client(user=NOBODY)
    user.unlock(home.signed)
    assert len(held_files(home)) == 1
    assert len(ends(home)) == 1 and ends(home)[0] != "ok"
    shredded.unlock(home.signed)  # a key administrator, of whom no approvals are demanded
    assert held_files(home) == [] and ends(home)[-1] == "ok"


@pytest.mark.parametrize("by", ["unlock", "pin", "admin"])
def test_nobody_ends_held_keys_without_the_approvals(home, shredded, by):
    again(home, shredded, APPROVE)
    if by == "pin":
        shredded.ok("pin", home.signed)
    else:
        shredded.ok(by, home.signed, "passphrase", "secret")
    assert len(held_files(home)) == 1
    assert ends(home) and "ok" not in ends(home)
    # The store from before opens it as ever.
    vid = shredded.ok("unlock", home.ini, "passphrase", "secret", "older")[1]
    shredded.ok("lease", vid, home.pd)


def test_an_approved_shredding_is_finished_by_anybodys_unlock(home):
    set_policy(home, USERS)
    c = home.client(start=True)
    path, _ = c.volume()
    _, pd = c.admin(path).edit(path, "dir-add", "label=x", "held")
    c.ok("edit", path, "dir-shred", f"pd={pd}")
    again(home, c, USERS + APPROVE)  # killed before the pin
    home.client(user=NOBODY).unlock(path)
    assert held_files(home) == [] and ends(home) == ["ok"]


def test_each_end_is_logged(home, shredded):
    again(home, shredded, "")
    shredded.ok("pin", home.signed)
    acts = [a["act"] for a in home.audit()]
    assert ends(home) == ["ok"]
    assert acts.index("dir-shred") < acts.index("pin", acts.index("dir-shred")) < acts.index("held-destroy")


# ---- versions ----


def test_no_version_is_made_twice(home):
    """After an older store was accepted, a rotation leaves alone what the newer one has."""
    c = home.client(start=True)
    path, _ = c.volume()
    _, pd = c.admin(path).edit(path, "dir-add", "label=x", "held")
    old = home.dir / "old.ini"
    old.write_bytes(path.read_bytes())
    c.edit(path, "dir-rotate", f"pd={pd}")
    vid = c.unlock(path)
    keys = c.ok("lease", vid, pd)
    second = (home.state / "held" / f"{vid}.{pd}.2").read_bytes()
    c.ok("unlock", old, "passphrase", "secret", "older")
    assert c.admin(old).edit(old, "dir-rotate", f"pd={pd}")[0] == "3"
    assert (home.state / "held" / f"{vid}.{pd}.2").read_bytes() == second
    assert c.ok("lease", vid, pd)[2] == "3"
    c.ok("unlock", path, "passphrase", "secret", "older")
    assert c.ok("lease", vid, pd)[1] == keys[1]


# ---- one edit at a time ----


def test_the_next_edit_waits_for_the_pin(home):
    c = home.client(start=True)
    path, _ = c.volume()
    c.admin(path).ok("edit", path, "slot-label", "number=1", "label=a")
    code, words = c.ask("edit", "-", "slot-label", "number=1", "label=b")
    assert code == BUSY and "not pinned" in words
    c.ok("pin", path)
    c.edit(path, "slot-label", "number=1", "label=b")


@pytest.mark.parametrize("by", ["unlock", "admin"])
def test_a_directory_that_vanishes_is_revoked(home, by):
    c, mount = home.client(start=True), home.client()
    path, _ = c.volume()
    old = home.dir / "old.ini"
    old.write_bytes(path.read_bytes())
    _, pd = c.admin(path).edit(path, "dir-add", "label=x")
    vid = c.unlock(path)
    mount.ok("attach", vid)
    mount.ok("lease", vid)
    mount.ok("lease", vid, pd)
    c.ok(by, old, "passphrase", "secret", "older")
    assert mount.event("revoke")[1] == pd
