"""latch-keyd: sessions of administration, edits, pins, held keys."""

import os
import shutil
import time

from keydbox import AUTH, BUSY, DENIED, ENOENT, KEYD, MISUSE, NOKEY, PASSPHRASE, ROLLBACK, home  # noqa: F401 (home)


def held_files(home):
    directory = home.state / "held"
    return sorted(p.name for p in directory.iterdir()) if directory.exists() else []


def flipped(path, out, key):
    """A copy with one digit of a value changed."""
    lines = path.read_text().split("\n")
    at = next(i for i, line in enumerate(lines) if line.startswith(key))
    last = lines[at][-1]
    lines[at] = lines[at][:-1] + ("1" if last == "0" else "0")
    out.write_text("\n".join(lines))


# ---- sessions ----


def test_edits_need_a_session(home):
    c = home.client(start=True)
    path, _ = c.volume()
    c.unlock(path)  # unlocking is not administering
    code, words = c.ask("edit", "-", "slot-add", "type=passphrase", "secret=x")
    assert code == MISUSE and "session" in words
    assert c.ask("admin", path, "passphrase", "wrong")[0] == PASSPHRASE
    assert c.ask("edit", "-", "slot-label", "number=1", "label=x")[0] == MISUSE
    c.admin(path).edit(path, "slot-label", "number=1", "label=x")
    assert "label = x" in path.read_text()


def test_a_session_belongs_to_its_connection(home):
    c, other = home.client(start=True), home.client()
    path, _ = c.volume()
    c.admin(path)
    assert other.ask("edit", "-", "slot-label", "number=1", "label=x")[0] == MISUSE
    c.ok("connect", home.socket, "-")
    assert c.ask("edit", "-", "slot-label", "number=1", "label=x")[0] == MISUSE


def test_a_session_unlocks_nothing(home):
    c = home.client(start=True)
    path, _ = c.volume()
    vid = c.unlock(path)
    c.ok("lock", vid)
    c.admin(path)
    assert c.ask("lease", vid)[0] == NOKEY
    assert c.status()["volumes"] == []


def test_a_session_ends_when_idle(home):
    home.config.write_text("[keyd]\nadmin_seconds = 10\n")
    c = home.client(start=True)
    path, _ = c.volume()
    c.admin(path).edit(path, "slot-label", "number=1", "label=x")
    time.sleep(11)
    assert c.ask("edit", "-", "slot-label", "number=1", "label=y")[0] == MISUSE


def test_a_session_is_kept_up_by_edits_only(home):
    home.config.write_text("[keyd]\nadmin_seconds = 10\n")
    c = home.client(start=True)
    path, _ = c.volume()
    c.admin(path)
    for _ in range(11):
        c.status()
        time.sleep(1)
    assert c.ask("edit", "-", "slot-label", "number=1", "label=y")[0] == MISUSE


def test_a_lock_ends_sessions_of_the_volume(home):
    c, other = home.client(start=True), home.client()
    path, _ = c.volume()
    second, _ = other.volume("b.ini")
    vid = c.unlock(path)
    c.admin(path)
    other.admin(second)
    other.ok("lock", vid)
    assert c.ask("edit", "-", "slot-label", "number=1", "label=x")[0] == MISUSE
    other.edit(second, "slot-label", "number=1", "label=x")


def test_a_lock_ends_unlocks_under_way(home):
    """The key store's only slot is tried for a while, and the lock comes meanwhile."""
    c, other = home.client(start=True), home.client()
    path = home.dir / "slow.ini"
    c.ok("init", path, "slow", "norecovery", "passphrase", "secret")
    c.ok("pin", path)
    vid = c.unlock(path)
    other.ok("lock", vid)
    c.send("unlock", path, "passphrase", "secret")
    while other.ask("lock", vid)[0] == NOKEY:
        time.sleep(0.01)  # it is not queued yet
    assert c.answer()[0] == NOKEY
    assert other.status()["volumes"] == []


def test_a_pin_is_refused_when_the_state_cannot_be_read(home):
    c = home.client(start=True)
    path, _ = c.volume()
    older = home.dir / "older.ini"
    shutil.copy(path, older)
    c.admin(path).edit(path, "slot-label", "number=1", "label=x")
    for pin in (home.state / "pins").iterdir():
        pin.write_bytes(b"?")
    assert c.ask("pin", older)[0] != 0


def test_a_refused_edit_leaves_the_session_as_it_was(home):
    c = home.client(start=True)
    path, _ = c.volume()
    c.admin(path)
    assert c.ask("edit", "-", "slot-remove", "number=1")[0] == DENIED  # the last one
    assert c.ask("edit", "-", "slot-remove", "number=7")[0] == ENOENT
    assert c.ask("edit", "-", "slot-add", "type=keyfile", "secret=short")[0] != 0
    assert c.edit(path, "slot-add", "type=passphrase", "secret=second")[0] == "2"
    assert c.edit(path, "slot-remove", "number=1")[0] == "1"
    assert c.ask("test", path, "passphrase", "secret")[0] == PASSPHRASE
    c.ok("unlock", path, "passphrase", "second")


def test_edits_follow_one_another(home):
    c = home.client(start=True)
    path, _ = c.volume()
    c.admin(path)
    c.edit(path, "slot-add", "type=passphrase", "secret=second")
    c.edit(path, "master-rotate")
    c.edit(path, "slot-remove", "number=1")
    vid = c.unlock(path, "second")
    c.ok("lease", vid)
    assert c.status()["volumes"][0]["generation"] == 4


def test_recovery_slot_by_edit(home):
    c = home.client(start=True)
    path, _ = c.volume()
    *_, recovery = c.admin(path).ok("edit", path, "slot-add", "type=recovery")
    c.ok("pin", path)
    assert c.ok("test", path, "recovery", recovery)[0] == "2"


def test_recipient_slot(home):
    """Made from the public key alone, opened with the private key."""
    from ctypes import CDLL, create_string_buffer

    sodium = CDLL("libsodium.so.23")
    public, private = create_string_buffer(32), create_string_buffer(32)
    sodium.crypto_box_keypair(public, private)
    c = home.client(start=True)
    path, _ = c.volume()
    c.admin(path).edit(path, "slot-add", "type=recipient", "public=0x" + public.raw.hex())
    assert c.ok("unlock", path, "recipient", "0x" + private.raw.hex())[0] == "2"
    assert c.ask("unlock", path, "recipient", "0x" + os.urandom(32).hex())[0] == PASSPHRASE


def test_two_sessions_do_not_undo_each_other(home):
    a, b = home.client(start=True), home.client()
    path, _ = a.volume()
    a.admin(path)
    b.admin(path)
    a.ok("edit", path, "slot-label", "number=1", "label=a")
    code, words = b.ask("edit", "-", "slot-label", "number=1", "label=b")
    assert code == BUSY and "another session" in words
    a.ok("pin", path)
    code, words = b.ask("edit", "-", "slot-label", "number=1", "label=b")
    assert code == ROLLBACK and "meanwhile" in words
    b.admin(path).edit(path, "slot-label", "number=1", "label=b")


def test_an_edit_never_pinned_holds_nobody_up_for_ever(home):
    a, b = home.client(start=True), home.client()
    path, _ = a.volume()
    a.admin(path).ok("edit", "-", "slot-label", "number=1", "label=a")
    b.admin(path)
    assert b.ask("edit", "-", "slot-label", "number=1", "label=b")[0] == BUSY
    a.close()
    home.clients.remove(a)
    b.edit(path, "slot-label", "number=1", "label=b")


# ---- what may be pinned ----


def test_unpinned_edits_change_nothing_for_mounts(home):
    admin, mount = home.client(start=True), home.client()
    path, _ = admin.volume()
    _, pd = admin.admin(path).edit(path, "dir-add", "label=team")
    vid = mount.unlock(path)
    mount.ok("attach", vid)
    mount.ok("event", "0")
    before = mount.ok("lease", vid, pd)
    new = home.dir / "new.ini"
    admin.ok("edit", new, "dir-rotate", f"pd={pd}")
    assert mount.ok("event", "200")[0] == "none"
    assert mount.ok("lease", vid, pd) == before
    assert mount.status()["volumes"][0]["generation"] == 2
    admin.ok("pin", new)
    assert mount.event("rekey")[1] == pd
    after = mount.ok("lease", vid, pd)
    assert (before[2], after[2]) == ("1", "2")


def test_new_master_keys_come_with_the_pin(home):
    c = home.client(start=True)
    path, _ = c.volume()
    vid = c.unlock(path)
    before = c.ok("lease", vid)
    c.admin(path).edit(path, "master-rotate")
    assert c.ok("lease", vid) == before  # the same directory keys, wrapped by the new master
    states = [m["state"] for m in c.status()["volumes"][0]["masters"]]
    assert states == ["decrypt-only", "active"]
    c.edit(path, "master-retire", "number=1")
    c.edit(path, "master-destroy", "number=1")
    assert c.ok("lease", vid) == before


def test_a_new_master_key_needs_a_session_with_it(home):
    """The store was put in place, but the session that made it is gone."""
    c, late = home.client(start=True), home.client()
    path, _ = c.volume()
    vid = late.unlock(path)
    before = late.ok("lease", vid)
    c.admin(path).ok("edit", path, "master-rotate")
    c.close()
    home.clients.remove(c)
    code, words = late.ask("pin", path)
    assert code == NOKEY and "session" in words
    assert late.ok("lease", vid) == before
    late.admin(path).ok("pin", path)
    assert late.ok("lease", vid) == before
    assert late.status()["volumes"][0]["generation"] == 2


def test_a_session_with_a_newer_store_makes_it_count(home):
    c = home.client(start=True)
    path, _ = c.volume()
    old = home.dir / "old.ini"
    old.write_bytes(path.read_bytes())
    vid = c.unlock(path)
    c.admin(path).ok("edit", path, "master-rotate")
    c.ok("connect", home.socket, "-")
    c.admin(path)
    c.ok("lease", vid)
    assert c.status()["volumes"][0]["generation"] == 2
    assert c.ask("unlock", old, "passphrase", "secret")[0] == ROLLBACK


def test_pin_refuses_what_is_older_other_or_foreign(home):
    c = home.client(start=True)
    path, _ = c.volume()
    old = home.dir / "old.ini"
    old.write_bytes(path.read_bytes())
    c.admin(path).edit(path, "slot-add", "type=passphrase", "secret=second")
    assert c.ask("pin", old)[0] == ROLLBACK
    stranger, _ = c.volume("stranger.ini")
    bent = home.dir / "bent.ini"
    volume_id = next(line for line in path.read_text().split("\n") if line.startswith("id = "))
    text = stranger.read_text().split("\n")
    text[next(i for i, line in enumerate(text) if line.startswith("id = "))] = volume_id
    bent.write_text("\n".join(text))  # another volume's store under this volume's name
    assert c.ask("pin", bent)[0] == AUTH
    flipped(path, bent, "created = ")
    assert c.ask("pin", bent)[0] == AUTH
    c.ok("unlock", path, "passphrase", "second")


def test_a_store_that_was_never_seen_is_not_pinned(home, tmp_path):
    c = home.client(start=True)
    path, _ = c.volume()
    pins = list((home.state / "pins").iterdir())
    assert len(pins) == 1
    home.kill_keyd()
    pins[0].unlink()  # another machine
    c.ok("connect", home.socket, KEYD)
    code, words = c.ask("pin", path)
    assert code == DENIED and "unlock it instead" in words
    c.unlock(path)
    c.ok("pin", path)


def test_older_store_by_admin_only_with_the_override(home):
    c = home.client(start=True)
    path, _ = c.volume()
    old = home.dir / "old.ini"
    old.write_bytes(path.read_bytes())
    c.admin(path).edit(path, "slot-label", "number=1", "label=x")
    assert c.ask("admin", old, "passphrase", "secret")[0] == ROLLBACK
    c.ok("admin", old, "passphrase", "secret", "older")
    c.edit(old, "slot-label", "number=1", "label=y")
    assert c.ask("admin", path, "passphrase", "secret")[0] == ROLLBACK  # of one generation, but not the same
    assert any("older key store accepted" in a.get("detail", "") for a in home.audit())


def test_all_slots_are_not_tried_where_that_takes_minutes(home):
    """A hostile key store with many costly slots is refused before Argon2id runs."""
    c = home.client(start=True)
    path, _ = c.volume()
    c.admin(path)
    for i in range(7):
        c.edit(path, "slot-add", "type=passphrase", f"secret=s{i}")
    text = path.read_text().replace("passes = 3\n", "passes = 8\n").replace("memory-kib = 65536\n", "memory-kib = 1048576\n")
    text = text.replace("fast = yes\n", "")
    text = text.replace("id = ", "id = f", 1)
    lines = text.split("\n")
    lines[2] = lines[2][: len("id = ") + 32]  # of a volume that no pin is known of
    path.write_text("\n".join(lines))
    began = time.monotonic()
    code, words = c.ask("unlock", path, "passphrase", "x")
    assert code == DENIED and "name the slot" in words, words
    assert time.monotonic() - began < 5


def test_a_forged_store_of_a_known_volume_costs_no_argon2id(home):
    """Signed by its forger, under the id of a volume that was used here: nobody's queue fills with it."""
    c = home.client(start=True)
    path, _ = c.volume()
    vid = c.unlock(path)
    pin = home.state / "pins" / vid
    other, _ = c.volume("other.ini", passphrase="evil")
    oid = c.unlock(other, "evil")
    pin.rename(home.state / "pins" / "x")
    (home.state / "pins" / oid).write_text((home.state / "pins" / "x").read_text())
    code, words = c.ask("unlock", other, "passphrase", "wrong")
    assert code == ROLLBACK and "another key" in words  # not: wrong passphrase
    (home.state / "pins" / "x").rename(pin)


def test_jobs_of_one_user_are_bounded(home):
    first = home.client(start=True)
    path, _ = first.volume()
    clients = [home.client() for _ in range(24)]
    for c in clients:
        c.send("test", path, "passphrase", "secret")
    codes = [c.answer()[0] for c in clients]
    assert set(codes) == {0, BUSY} and 16 <= codes.count(0) < 24
    first.ok("test", path, "passphrase", "secret")


def test_jobs_of_the_gone_are_dropped(home):
    c = home.client(start=True)
    path, _ = c.volume()
    for _ in range(12):
        gone = home.client()
        gone.send("init", home.dir / "x.ini", "slow", "no", "passphrase", "x")
        gone.process.kill()
        gone.process.wait()
        gone.process.stdin.close()
        gone.process.stdout.close()
        home.clients.remove(gone)
    c.ok("test", path, "passphrase", "secret")
    inits = [a for a in home.audit() if a["act"] == "init" and a.get("detail") == "the client had gone"]
    assert len([a for a in inits if a["result"] == "ok"]) <= 3  # at most what was under way
    assert all(a["uid"] == os.geteuid() and a["pid"] for a in inits)  # whoever it was


# ---- held keys ----


def test_held_directory(home):
    c = home.client(start=True)
    path, _ = c.volume()
    _, pd = c.admin(path).edit(path, "dir-add", "label=vault", "held")
    vid = c.unlock(path)
    assert held_files(home) == [f"{vid}.{pd}.1"]
    assert os.stat(home.state / "held" / held_files(home)[0]).st_mode & 0o777 == 0o600
    first = c.ok("lease", vid, pd)
    c.edit(path, "dir-rotate", f"pd={pd}")
    assert len(held_files(home)) == 2
    assert c.ok("lease", vid, pd)[2] == "2"
    assert c.directory(pd)["held"] is True and c.directory(pd)["name"] == "vault"
    home.kill_keyd()
    c.ok("connect", home.socket, KEYD)
    c.unlock(path)
    assert c.ok("lease", vid, pd)[2] == "2" != first[2]


def test_shredding(home):
    c, mount = home.client(start=True), home.client()
    path, _ = c.volume()
    _, pd = c.admin(path).edit(path, "dir-add", "label=vault", "held")
    c.edit(path, "dir-rotate", f"pd={pd}")
    backup = home.dir / "backup.ini"
    backup.write_bytes(path.read_bytes())
    vid = mount.unlock(path)
    mount.ok("attach", vid)
    mount.ok("lease", vid)
    mount.ok("lease", vid, pd)
    c.ok("edit", path, "dir-shred", f"pd={pd}")
    assert len(held_files(home)) == 2  # until the store is in place, nothing is lost
    mount.ok("lease", vid, pd)
    c.ok("pin", path)
    assert held_files(home) == []
    serial, which = mount.event("revoke")
    assert which == pd
    mount.ok("revoked", serial, "0")
    assert mount.ask("lease", vid, pd)[0] == NOKEY
    mount.ok("lease", vid)
    assert c.directory(pd)["shredded"] is True
    # An old copy of the key store brings nothing back.
    c.ok("unlock", backup, "passphrase", "secret", "older")
    mount.ok("lease", vid)
    assert mount.ask("lease", vid, pd)[0] == NOKEY


def test_shredding_goes_on_after_a_kill(home):
    """Pinned, and killed before the held keys were destroyed: the next unlock does it."""
    c = home.client(start=True)
    path, _ = c.volume()
    _, pd = c.admin(path).edit(path, "dir-add", "label=x", "held")
    blob = home.state / "held" / held_files(home)[0]
    kept = blob.read_bytes()
    c.edit(path, "dir-shred", f"pd={pd}")
    home.kill_keyd()
    blob.write_bytes(kept)
    c.ok("connect", home.socket, KEYD)
    c.unlock(path)
    assert held_files(home) == []


def test_held_keys_of_other_volumes_stay(home):
    c = home.client(start=True)
    one, _ = c.volume()
    two, _ = c.volume("b.ini")
    _, pd = c.admin(one).edit(one, "dir-add", "label=x", "held")
    _, other = c.admin(two).edit(two, "dir-add", "label=x", "held")
    c.edit(two, "dir-shred", f"pd={other}")
    assert [name.split(".")[1] for name in held_files(home)] == [pd]


def test_no_held_key_here(home):
    """The volume came without this keyd's state."""
    c = home.client(start=True)
    path, _ = c.volume()
    _, pd = c.admin(path).edit(path, "dir-add", "label=x", "held")
    vid = c.unlock(path)
    (home.state / "held" / held_files(home)[0]).unlink()
    assert c.ask("lease", vid, pd)[0] == NOKEY
    c.ok("lease", vid)
    assert c.directory(pd)["name"] == ""


def test_state_that_cannot_be_written_stops_the_edit(home):
    c = home.client(start=True)
    path, _ = c.volume()
    c.admin(path)
    shutil.rmtree(home.state / "held", ignore_errors=True)
    (home.state / "held").write_text("in the way")
    code, _ = c.ask("edit", "-", "dir-add", "label=x", "held")
    assert code != 0
    (home.state / "held").unlink()
    assert c.edit(path, "dir-add", "label=x", "held")[0] == "1"


# ---- the log ----


def test_every_edit_is_logged_by_its_name(home):
    c = home.client(start=True)
    path, _ = c.volume()
    c.admin(path).edit(path, "slot-add", "type=passphrase", "secret=very-secret")
    c.edit(path, "master-rotate")
    c.ask("edit", "-", "slot-remove", "number=9")
    acts = [(a["act"], a["result"]) for a in home.audit()]
    assert ("slot-add", "ok") in acts and ("master-rotate", "ok") in acts and ("pin", "ok") in acts
    assert any(act == "slot-remove" and result != "ok" for act, result in acts)
    assert "very-secret" not in (home.state / "audit.log").read_text()
