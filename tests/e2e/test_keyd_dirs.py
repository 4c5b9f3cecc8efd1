"""latch-keyd and single protected directories: locks, new versions, idle mounts, reports, terms of leases."""

import select
import time

import pytest

from keydbox import (  # noqa: F401 (home)
    BUSY, DENIED, ENOENT, KEYD, MISUSE, NOBODY, NOKEY, TIMEOUT, WHOLE, home, needs_root,
)


@pytest.fixture
def shelf(home):  # noqa: F811
    """An unlocked volume with a directory, and a mount that leases both."""

    class Shelf:
        pass

    s = Shelf()
    s.admin, s.mount = home.client(start=True), home.client()
    s.path, _ = s.admin.volume()
    _, s.pd = s.admin.admin(s.path).edit(s.path, "dir-add", "label=team")
    s.vid = s.admin.unlock(s.path)
    s.root = s.admin.root()
    s.mount.ok("attach", s.vid)
    s.mount.ok("lease", s.vid)
    s.mount.ok("lease", s.vid, s.pd)
    return s


def another_mount(home, s):
    m = home.client()
    m.ok("attach", s.vid)
    m.ok("lease", s.vid)
    m.ok("lease", s.vid, s.pd)
    return m


# ---- locking ----


def test_lock_dir(home, shelf):
    s = shelf
    s.admin.send("lockdir", s.vid, s.pd)
    serial, which = s.mount.event("held")
    assert which == s.pd
    s.mount.ok("held", serial, "0")
    serial, which = s.mount.event("revoke")
    assert which == s.pd
    assert s.mount.ask("lease", s.vid, s.pd)[0] == NOKEY  # not while it is being locked, either
    s.mount.ok("revoked", serial, "0")
    assert s.admin.answer() == (0, "0")
    assert s.mount.ask("lease", s.vid, s.pd)[0] == NOKEY
    assert s.mount.ask("renew", s.vid, s.pd)[0] == NOKEY
    s.mount.ok("renew", s.vid)
    s.mount.ok("lease", s.vid)
    assert s.admin.directory(s.pd)["locked"] is True
    s.admin.ok("unlockdir", s.vid, s.pd)
    assert s.mount.event("unlocked")[1] == s.pd
    s.mount.ok("lease", s.vid, s.pd)
    assert s.admin.directory(s.pd)["locked"] is False
    acts = [a["act"] for a in home.audit()]
    assert "lock-dir" in acts and "unlock-dir" in acts


def test_lock_dir_with_open_files(home, shelf):
    s = shelf
    other = another_mount(home, s)
    s.admin.send("lockdir", s.vid, s.pd)
    s.mount.ok("held", s.mount.event("held")[0], "2")
    other.ok("held", other.event("held")[0], "3")
    assert s.admin.answer() == (BUSY, "5")
    assert s.mount.ok("event", "200")[0] == "none"  # nothing was revoked
    s.mount.ok("lease", s.vid, s.pd)
    s.admin.send("lockdir", s.vid, s.pd, "force")  # does not ask
    for m, held in ((s.mount, "2"), (other, "3")):
        m.ok("revoked", m.event("revoke")[0], held)
    assert s.admin.answer() == (0, "5")
    assert s.mount.ask("lease", s.vid, s.pd)[0] == NOKEY
    refused = [a["result"] for a in home.audit() if a["act"] == "lock-dir"]
    assert refused[0] != "ok" and refused[1] == "ok"


def test_lock_dir_when_a_mount_does_not_answer(home):
    home.config.write_text("[lease]\nrevoke_wait_seconds = 1\n")
    admin, deaf = home.client(start=True), home.client()
    path, _ = admin.volume()
    _, pd = admin.admin(path).edit(path, "dir-add", "label=team")
    vid = admin.unlock(path)
    deaf.ok("attach", vid)
    deaf.ok("lease", vid, pd)
    code, words = admin.ask("lockdir", vid, pd)
    assert code == TIMEOUT and "nothing was locked" in words
    assert admin.directory(pd)["locked"] is False
    code, words = admin.ask("lockdir", vid, pd, "force")
    assert code == TIMEOUT and "1 mount did not answer" in words
    assert admin.directory(pd)["locked"] is True
    assert deaf.ask("lease", vid, pd)[0] == NOKEY


def test_lock_dir_of_a_mount_that_dies(home, shelf):
    s = shelf
    s.admin.send("lockdir", s.vid, s.pd)
    s.mount.event("held")
    s.mount.close()
    home.clients.remove(s.mount)
    assert s.admin.answer() == (0, "0")


def test_lock_dir_ends_with_who_asked_until_it_has_begun(home, shelf):
    s = shelf
    asker = home.client()
    asker.send("lockdir", s.vid, s.pd)
    serial, _ = s.mount.event("held")
    assert s.admin.ask("lockdir", s.vid, s.pd)[0] == BUSY  # one at a time
    asker.process.kill()
    asker.process.wait()
    asker.process.stdin.close()
    asker.process.stdout.close()
    home.clients.remove(asker)
    while s.admin.status()["connections"] > 2:
        time.sleep(0.01)
    s.mount.ok("held", serial, "0")
    s.mount.ok("lease", s.vid, s.pd)
    assert s.admin.directory(s.pd)["locked"] is False


def test_lock_dir_without_mounts(home):
    admin = home.client(start=True)
    path, _ = admin.volume()
    _, pd = admin.admin(path).edit(path, "dir-add", "label=team")
    vid = admin.unlock(path)
    assert admin.ok("lockdir", vid, pd) == ["0"]
    assert admin.ask("lockdir", vid, pd)[0] == NOKEY
    assert admin.ask("lockdir", vid, admin.root())[0] == MISUSE
    assert admin.ask("lockdir", vid, WHOLE)[0] == MISUSE
    assert admin.ask("lockdir", vid, "ab" * 16)[0] == ENOENT
    assert admin.ask("unlockdir", vid, "ab" * 16)[0] == ENOENT
    assert admin.ask("lease", vid, pd)[0] == NOKEY
    admin.unlock(path)  # unlocks all of it
    admin.ok("lease", vid, pd)
    admin.ok("lock", vid)
    assert admin.ask("lockdir", vid, pd)[0] == NOKEY
    assert admin.ask("unlockdir", vid, pd)[0] == NOKEY


def test_lock_dir_reaches_keys_of_an_earlier_keyd(home, shelf):
    s = shelf
    home.kill_keyd()
    s.admin.ok("connect", home.socket, KEYD)
    s.mount.ok("connect", home.socket, "-")
    s.mount.ok("attach", s.vid)
    s.admin.send("lockdir", s.vid, s.pd)
    s.mount.ok("held", s.mount.event("held")[0], "0")
    s.mount.ok("revoked", s.mount.event("revoke")[0], "0")
    assert s.admin.answer() == (0, "0")


def test_lock_dir_asks_mounts_that_lease_meanwhile(home, shelf):
    s = shelf
    s.admin.send("lockdir", s.vid, s.pd)
    serial, _ = s.mount.event("held")
    late = another_mount(home, s)
    s.mount.ok("held", serial, "0")
    late.ok("held", late.event("held")[0], "1")
    assert s.admin.answer() == (BUSY, "1")
    assert s.admin.directory(s.pd)["locked"] is False


def test_whole_lock_takes_directories_along(home, shelf):
    s = shelf
    s.admin.send("lock", s.vid)
    serial, which = s.mount.event("revoke")
    assert which == WHOLE
    s.mount.ok("revoked", serial, "0")
    assert s.admin.answer() == (0, "0")
    assert s.mount.ask("lease", s.vid, s.pd)[0] == NOKEY


def test_idle_mount(home, shelf):
    s = shelf
    other = another_mount(home, s)
    s.mount.ok("idle", s.vid, s.pd)
    assert s.mount.ask("lease", s.vid, s.pd)[0] == NOKEY
    s.mount.ok("lease", s.vid)
    other.ok("lease", s.vid, s.pd)  # it is only this mount that was idle
    assert s.admin.directory(s.pd)["locked"] is False
    s.mount.ok("connect", home.socket, "-")  # the same process: what it said went with its connection
    s.mount.ok("attach", s.vid)
    s.mount.ok("lease", s.vid, s.pd)
    s.mount.ok("idle", s.vid, s.pd)
    assert s.mount.ask("lease", s.vid, s.pd)[0] == NOKEY
    s.admin.ok("unlockdir", s.vid, s.pd)
    assert s.mount.event("unlocked")[1] == s.pd
    s.mount.ok("lease", s.vid, s.pd)
    assert s.admin.ask("idle", s.vid, s.pd)[0] == MISUSE  # no mount


# ---- new versions ----


def rotate(s, number=0):
    return s.admin.edit(s.path, "dir-rotate", f"pd={s.pd}", f"number={number}")[0]


def test_rekey(home, shelf):
    s = shelf
    assert rotate(s) == "2"
    serial, which = s.mount.event("rekey")
    assert which == s.pd
    s.admin.send("waitrekeyed", s.vid, s.pd, "2")
    lease = s.mount.ok("lease", s.vid, s.pd)
    assert lease[2:4] == ["2", "1"]  # active, least
    assert s.mount.ok("event", "200")[0] == "none"
    s.mount.ok("rekeyed", serial, s.pd, "2")
    assert s.admin.answer()[0] == 0
    s.admin.ok("waitrekeyed", s.vid, s.pd, "2")  # it has said so
    s.admin.edit(s.path, "dir-finish", f"pd={s.pd}", "number=2")
    serial, which = s.mount.event("rekey")
    assert s.mount.ok("lease", s.vid, s.pd)[2:4] == ["2", "2"]
    s.mount.ok("rekeyed", serial, s.pd, "2")


def test_rekey_while_one_is_not_answered(home, shelf):
    s = shelf
    rotate(s)
    serial, _ = s.mount.event("rekey")
    assert s.mount.ok("lease", s.vid, s.pd)[2:4] == ["2", "1"]
    s.admin.edit(s.path, "dir-finish", f"pd={s.pd}", "number=2")  # between the mount's lease and its answer
    s.mount.ok("rekeyed", serial, s.pd, "2")
    serial, which = s.mount.event("rekey")
    assert which == s.pd
    assert s.mount.ok("lease", s.vid, s.pd)[2:4] == ["2", "2"]
    s.mount.ok("rekeyed", serial, s.pd, "2")
    assert s.mount.ok("event", "200")[0] == "none"


def test_rekey_of_another_directory_bothers_nobody(home, shelf):
    s = shelf
    _, other = s.admin.edit(s.path, "dir-add", "label=other")
    s.admin.edit(s.path, "dir-rotate", f"pd={other}")
    s.admin.edit(s.path, "slot-label", "number=1", "label=x")
    s.admin.edit(s.path, "master-rotate")
    assert s.mount.ok("event", "300")[0] == "none"
    s.admin.ok("waitrekeyed", s.vid, other, "2")


def test_wait_rekeyed_waits_for_every_mount(home, shelf):
    s = shelf
    other = another_mount(home, s)
    rotate(s)
    s.admin.send("waitrekeyed", s.vid, s.pd, "2")
    for m in (s.mount, other):
        serial, _ = m.event("rekey")
        assert select.select([s.admin.process.stdout], [], [], 0.2)[0] == []
        m.ok("lease", s.vid, s.pd)
        m.ok("rekeyed", serial, s.pd, "2")
    assert s.admin.answer()[0] == 0


def test_wait_rekeyed_times_out(home, shelf):
    s = shelf
    rotate(s)
    s.admin.ok("connect", home.socket, "-", "700")
    code, words = s.admin.ask("waitrekeyed", s.vid, s.pd, "2")
    assert code == TIMEOUT and "1 mount did not answer" in words
    s.admin.status()  # the connection serves on
    s.mount.ok("rekeyed", s.mount.event("rekey")[0], s.pd, "2")  # without having leased it: that is no answer
    s.admin.send("waitrekeyed", s.vid, s.pd, "2")
    s.mount.ok("rekeyed", s.mount.event("rekey")[0], s.pd, "2")  # asked again, the same lie
    assert s.admin.answer()[0] == TIMEOUT
    assert s.admin.ask("waitrekeyed", s.vid, s.pd, "2")[0] == TIMEOUT
    serial, _ = s.mount.event("rekey")
    s.mount.ok("lease", s.vid, s.pd)
    s.mount.ok("rekeyed", serial, s.pd, "2")
    s.admin.ok("waitrekeyed", s.vid, s.pd, "2")


def test_wait_rekeyed_of_a_mount_that_dies_or_gives_up(home, shelf):
    s = shelf
    other = another_mount(home, s)
    rotate(s)
    s.admin.send("waitrekeyed", s.vid, s.pd, "2")
    other.ok("rekeyed", other.event("rekey")[0], s.pd, "0")  # it has locked the directory
    s.mount.event("rekey")
    s.mount.close()
    home.clients.remove(s.mount)
    assert s.admin.answer()[0] == 0
    assert s.admin.directory(s.pd)["leases"] == []


def test_wait_rekeyed_before_the_pin_or_while_locked(home, shelf):
    s = shelf
    assert s.admin.ask("waitrekeyed", s.vid, s.pd, "2")[0] == MISUSE
    assert s.admin.ask("waitrekeyed", s.vid, "ab" * 16, "1")[0] == ENOENT
    home.kill_keyd()
    s.admin.ok("connect", home.socket, KEYD)
    s.mount.ok("connect", home.socket, "-")
    s.mount.ok("attach", s.vid)  # it has keys that this keyd did not give
    assert s.admin.ask("waitrekeyed", s.vid, s.pd, "1")[0] == NOKEY
    s.admin.unlock(s.path)
    s.mount.event("unlocked")
    s.admin.send("waitrekeyed", s.vid, s.pd, "1")
    serial, which = s.mount.event("rekey")  # what it has is not known, so it is asked
    assert which == s.pd
    s.mount.ok("lease", s.vid, s.pd)
    s.mount.ok("rekeyed", serial, s.pd, "1")
    assert s.admin.answer()[0] == 0


def test_answers_to_nothing_are_refused(home, shelf):
    s = shelf
    for words in (("held", "7", "0"), ("revoked", "7", "0"), ("rekeyed", "7", s.pd, "1")):
        assert s.mount.ask(*words)[0] == MISUSE
    rotate(s)
    serial, _ = s.mount.event("rekey")
    assert s.mount.ask("held", serial, "0")[0] == MISUSE  # an answer of another kind
    assert s.mount.ask("rekeyed", serial, s.root, "2")[0] == MISUSE  # about another directory


# ---- reports ----


def test_reports(home, shelf):
    s = shelf
    now = int(time.time())
    s.mount.ok("report", "3", s.pd, now - 5)
    s.mount.ok("report", "4", s.pd, now - 9)  # an older use
    s.mount.ok("report", "4", "ab" * 16, now)
    assert s.admin.directory(s.pd)["last_use"] == now - 5
    volume = s.admin.status()["volumes"][0]
    assert volume["auth_failures"] == 4 and volume["mounts"][0]["auth_failures"] == 4
    s.mount.ok("report", "4", s.pd, now + 99999)  # a clock that is ahead
    assert s.admin.directory(s.pd)["last_use"] == now - 5
    assert s.admin.ask("report", "1")[0] == MISUSE  # no mount


# ---- terms ----


def test_terms_of_a_directory(home):
    admin = home.client(start=True)
    path, _ = admin.volume()
    _, pd = admin.admin(path).edit(path, "dir-add", "label=team")
    vid = admin.unlock(path)
    home.kill_keyd()
    home.config.write_text(
        f"[lease]\nlease_seconds = 3600\n[directory {vid}/team]\nlease_seconds = 60\nidle_seconds = 7\nleases_per_minute = 2\n"
    )
    admin.ok("connect", home.socket, KEYD)
    admin.unlock(path)
    assert admin.ok("lease", vid)[0] == "3600"
    lease = admin.ok("lease", vid, pd)
    assert (lease[0], lease[4]) == ("60", "7")
    assert admin.ok("renew", vid, pd)[0] == "0"
    admin.ok("lease", vid, pd)
    code, words = admin.ask("lease", vid, pd)
    assert code == DENIED and "more than 2 leases" in words
    admin.ok("lease", vid)
    lease = admin.directory(pd)["leases"][0]
    assert 0 < lease["expires_in"] <= 60 and lease["version"] == 1


def test_a_new_version_is_not_refused_by_the_rate(home):
    home.config.write_text("[volume *]\nleases_per_minute = 1\n")
    admin, mount = home.client(start=True), home.client()
    path, _ = admin.volume()
    _, pd = admin.admin(path).edit(path, "dir-add", "label=team")
    vid = admin.unlock(path)
    mount.ok("attach", vid)
    mount.ok("lease", vid, pd)
    assert mount.ask("lease", vid, pd)[0] == DENIED
    admin.edit(path, "dir-rotate", f"pd={pd}")
    serial, _ = mount.event("rekey")
    assert mount.ok("lease", vid, pd)[2] == "2"
    assert mount.ask("lease", vid, pd)[0] == DENIED  # once, not as long as it does not answer
    mount.ok("rekeyed", serial, pd, "2")
    assert mount.ask("lease", vid, pd)[0] == DENIED


@needs_root
def test_who_may_not_lease_holds_nobody_up(home):
    """He attaches and answers nothing: he cannot have keys, and nobody waits for him."""
    home.config.write_text(
        f"[lease]\nrevoke_wait_seconds = 1\n[roles]\nuser = owner uid:{NOBODY.pw_uid}\noperator = owner\n"
        "key-admin = owner\nauditor = owner\n[volume *]\nallow = owner\n"
    )
    home.config.chmod(0o644)
    home.dir.chmod(0o711)
    admin = home.client(start=True)
    path, _ = admin.volume()
    _, pd = admin.admin(path).edit(path, "dir-add", "label=team")
    vid = admin.unlock(path)
    idler = home.client(user=NOBODY)
    idler.ok("attach", vid)
    assert idler.ask("lease", vid, pd)[0] == DENIED
    admin.ok("waitrekeyed", vid, pd, "1")
    assert admin.ok("lockdir", vid, pd) == ["0"]
    assert admin.ok("lock", vid) == ["0"]


def test_environment(home):
    c = home.client(start=True)
    path = home.dir / "p.ini"
    c.ok("init", path, "fast", "no", "passphrase", "secret", "-", "production")
    c.ok("pin", path)
    vid = c.unlock(path)
    assert c.status()["volumes"][0]["environment"] == "production"
    c.ok("lock", vid)
    home.kill_keyd()
    home.config.write_text("[keyd]\nenvironment = staging\n")
    c.ok("connect", home.socket, KEYD)
    code, words = c.ask("unlock", path, "passphrase", "secret")
    assert code == DENIED and "environment" in words
    assert c.ask("admin", path, "passphrase", "secret")[0] == DENIED


@needs_root
def test_lease_for(home):
    home.config.write_text(f"[access]\nallow_uids = {NOBODY.pw_uid}\n[volume *]\nrequest_key = yes\n")
    home.config.chmod(0o644)
    home.dir.chmod(0o711)
    root, user = home.client(start=True), home.client(user=NOBODY)
    path, _ = root.volume()
    vid = root.unlock(path)
    keys = root.ok("lease", vid)
    assert root.ok("leasefor", vid, "-", "-1")[1] == keys[1]
    assert root.ok("leasefor", vid, "-", NOBODY.pw_uid)[1] == keys[1]
    assert root.ask("leasefor", vid, "-", "54321")[0] == DENIED  # a user without a role
    assert user.ok("leasefor", vid, "-", "-1")[1] == keys[1]
    assert user.ask("leasefor", vid, "-", "0")[0] == DENIED
    assert user.ask("leasefor", vid, "-", NOBODY.pw_uid)[0] == DENIED
    assert any(a.get("detail") == f"for uid {NOBODY.pw_uid}" for a in home.audit())
