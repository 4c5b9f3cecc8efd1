"""latch-keyd: what it is for, its ends and starts."""

import json
import os
import signal
import subprocess

import pytest

from keydbox import ENOTCONN, KEYD, NOKEY, PASSPHRASE, ROLLBACK, TIMEOUT, WHOLE, home, wait_gone  # noqa: F401 (home)


def test_unlock_lease_lock(home):
    c = home.client(start=True)
    path, _ = c.volume()
    assert c.ask("unlock", path, "passphrase", "wrong")[0] == PASSPHRASE
    vid = c.unlock(path)
    first, again = c.ok("lease", vid), c.ok("lease", vid)
    assert first == again and len(first[1]) == 32
    assert c.status()["volumes"][0]["unlocked"] is True
    assert c.ok("lock", vid) == ["0"]
    assert c.ask("lease", vid)[0] == NOKEY
    assert c.ask("lock", vid)[0] == NOKEY
    acts = [(a["act"], a["result"] == "ok") for a in home.audit()]
    assert ("init", True) in acts and ("unlock", False) in acts and ("lease", True) in acts and ("lock", True) in acts


def test_lock_waits_for_the_mounts(home):
    admin, mount, deaf = home.client(start=True), home.client(), home.client()
    vid = admin.unlock(admin.volume()[0])
    for m in (mount, deaf):
        m.ok("attach", vid)
        m.ok("lease", vid)
    admin.send("lock", vid)
    serial, pd = mount.event("revoke")
    assert pd == WHOLE
    assert mount.ask("lease", vid)[0] == NOKEY
    mount.ok("revoked", serial, "3")
    assert mount.ask("revoked", serial, "3")[0] != 0
    deaf.ok("revoked", deaf.event("revoke")[0], "0")
    assert admin.answer() == (0, "1")
    admin.unlock(home.dir / "a.ini")
    assert mount.event("unlocked")[1] == WHOLE
    mount.ok("lease", vid)


def test_lock_does_not_wait_for_ever(home):
    home.config.write_text("[lease]\nrevoke_wait_seconds = 1\n")
    admin, deaf = home.client(start=True), home.client()
    vid = admin.unlock(admin.volume()[0])
    deaf.ok("attach", vid)
    deaf.ok("lease", vid)
    code, words = admin.ask("lock", vid)
    assert code == TIMEOUT and "1 mount did not answer" in words
    assert deaf.ask("lease", vid)[0] == NOKEY


def test_lease_ends_and_renews(home):
    home.config.write_text("[lease]\nlease_seconds = 3600\n")
    c = home.client(start=True)
    vid = c.unlock(c.volume()[0])
    assert c.ask("renew", vid)[0] == NOKEY
    assert c.ok("lease", vid)[0] == "3600"
    c.ok("renew", vid)


def test_recovery_key(home):
    c = home.client(start=True)
    path, printed = c.volume(recovery="recovery")
    recovery = printed[0]
    assert c.ok("test", path, "recovery", recovery)[0] == "2"
    groups = recovery.split("-")
    groups[6] = groups[6][:2] + ("A" if groups[6][2] != "A" else "B") + groups[6][3:]
    code, words = c.ask("test", path, "recovery", "-".join(groups))
    assert code == PASSPHRASE and "group 7" in words


def test_older_key_store_is_refused(home):
    c = home.client(start=True)
    path, _ = c.volume()
    new = home.dir / "b.ini"
    c.admin(path).edit(new, "slot-add", "type=passphrase", "secret=second")
    assert c.ask("unlock", path, "passphrase", "secret")[0] == ROLLBACK
    assert c.ask("admin", path, "passphrase", "secret")[0] == ROLLBACK
    assert c.ask("pin", path)[0] == ROLLBACK
    c.ok("test", path, "passphrase", "secret")  # as header backups are tested
    c.ok("unlock", path, "passphrase", "secret", "older")
    c.ok("unlock", new, "passphrase", "second")


# ---- ends and starts ----


def test_kill_and_start_again(home):
    admin, mount = home.client(start=True), home.client()
    path, _ = admin.volume()
    vid = admin.unlock(path)
    mount.ok("attach", vid)
    before = mount.ok("lease", vid)
    pid = home.kill_keyd()
    assert mount.ask("event")[0] == ENOTCONN
    assert admin.ask("status")[0] == ENOTCONN
    admin.ok("connect", home.socket, KEYD)
    assert home.keyd_pid() != pid
    mount.ok("connect", home.socket, "-")
    mount.ok("attach", vid)
    assert mount.ask("lease", vid)[0] == NOKEY
    admin.unlock(path)
    assert mount.event("unlocked")[1] == WHOLE
    assert mount.ok("lease", vid) == before


def test_lock_reaches_keys_of_an_earlier_keyd(home):
    admin, mount = home.client(start=True), home.client()
    vid = admin.unlock(admin.volume()[0])
    mount.ok("attach", vid)
    mount.ok("lease", vid)
    pid = home.kill_keyd()
    admin.ok("connect", home.socket, KEYD)
    mount.ok("connect", home.socket, "-")
    mount.ok("attach", vid)
    admin.send("lock", vid)
    mount.ok("revoked", mount.ok("event")[1], "0")
    assert admin.answer() == (0, "0")
    assert admin.ask("lock", vid)[0] == NOKEY


def test_kill_at_any_request(home):
    """Whatever was under way, the next keyd serves."""
    c = home.client(start=True)
    path, _ = c.volume()
    for words in (("unlock", path, "passphrase", "secret"), ("init", home.dir / "x.ini", "fast", "no", "passphrase", "x"),
                  ("pin", path), ("admin", path, "passphrase", "secret")):
        c.send(*words)
        home.kill_keyd()
        c.answer()
        c.ok("connect", home.socket, KEYD)
        c.ok("unlock", path, "passphrase", "secret")


def test_many_start_it_at_once(home):
    clients = [home.client(connect=False) for _ in range(8)]
    for c in clients:
        c.send("connect", home.socket, KEYD)
    assert [c.answer()[0] for c in clients] == [0] * 8
    assert len({c.status()["pid"] for c in clients}) == 1


def test_ends_when_unused(home):
    home.config.write_text("[keyd]\nidle_exit_seconds = 1\n")
    c = home.client(start=True)
    pid = c.status()["pid"]
    c.unlock(c.volume()[0])
    c.close()
    home.clients.remove(c)
    other = home.client()
    vid = json.loads(other.ask("status")[1])["volumes"][0]["id"]
    other.ok("lock", vid)
    other.close()
    home.clients.remove(other)
    wait_gone(pid)
    assert not home.socket.exists()
    assert home.client(start=True).status()["pid"] != pid


def test_second_keyd_is_refused(home):
    home.start()
    with pytest.raises(RuntimeError, match="another latch-keyd"):
        home.start()


def test_bad_policy_starts_nothing(home):
    home.config.write_text("[keyd]\nidle_exit_seconds = 5\nidle_exit_second = 6\n")
    c = home.client(connect=False)
    code, words = c.ask("connect", home.socket, KEYD)
    assert code != 0 and "line 3" in words
    assert home.keyd_pid() is None
    checked = subprocess.run([KEYD, "--check-config", "--config", home.config], capture_output=True, text=True)
    assert checked.returncode == 2 and "line 3: unknown key" in checked.stderr
    home.config.write_text("[keyd]\nidle_exit_seconds = 5\n")
    assert subprocess.run([KEYD, "--check-config", "--config", home.config]).returncode == 0
    home.config.chmod(0o666)
    assert subprocess.run([KEYD, "--check-config", "--config", home.config], stderr=subprocess.DEVNULL).returncode == 2
