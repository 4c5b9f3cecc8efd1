"""keyd.ini at work: what each role may do and nothing else, who leases what, environments, and acts that wait for
others. The users are real ones."""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import harness
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keydbox import APPROVAL, AUTH, BUSY, DENIED, ENOENT, KEYD, MISUSE, home, needs_root  # noqa: F401

pytestmark = needs_root
NO_ROLE = "the policy does not allow this to this user"
TOP = Path(__file__).resolve().parents[2]


def who(uid, gid=None):
    return SimpleNamespace(pw_uid=uid, pw_gid=gid or uid)


USER, OPERATOR, KEYADMIN, AUDITOR = who(20001), who(20002), who(20003), who(20004)
STRANGER, MEMBER = who(20005), who(20006, 30006)
ANN, BOB = who(20013), who(20014)
ROLES = {"user": USER, "operator": OPERATOR, "key-admin": KEYADMIN, "auditor": AUDITOR}


def set_policy(home, text):
    home.config.write_text(text)
    home.config.chmod(0o644)
    home.dir.chmod(0o711)


@pytest.fixture
def office(home):
    """A keyd with somebody in each role, and an unlocked volume with a protected directory."""
    set_policy(home, "[roles]\n" + "".join(f"{role} = uid:{u.pw_uid}\n" for role, u in ROLES.items()))
    return furnish(home)


def furnish(home, label="office"):
    home.root = home.client(start=True)
    home.ini = home.dir / "volume.ini"
    home.root.ok("init", home.ini, "fast", "norecovery", "passphrase", "secret", "first")
    home.root.ok("pin", home.ini)
    home.root.admin(home.ini)
    home.pd = home.root.edit(home.ini, "dir-add", f"label={label}")[1]
    home.vid = home.root.unlock(home.ini)
    home.scratch = home.dir / "scratch"
    home.scratch.mkdir()
    home.scratch.chmod(0o777)
    return home


# ---- a matrix of requests and roles ----

U, O, K, A = "user", "operator", "key-admin", "auditor"

# The request, who may ask it, and the words; what the allowed one then hears (0: it works). In an order that makes
# each of them possible. All names of enum proto_type that are requests must be here (checked below).
MATRIX = {
    "STATUS": ({U, O, K}, ["status"], 0),
    "UNLOCK": ({U}, ["unlock", "{ini}", "passphrase", "secret"], 0),
    "SLOT_TEST": ({U, K}, ["test", "{ini}", "passphrase", "secret"], 0),
    "ATTACH": ({U}, ["attach", "{vid}"], 0),
    "LEASE": ({U}, ["lease", "{vid}", "{pd}"], 0),
    "LEASE_FOR": ({U}, ["leasefor", "{vid}", "{pd}", "-1"], 0),
    "RENEW": ({U}, ["renew", "{vid}", "{pd}"], 0),
    "REVOKED": ({U}, ["revoked", "77", "0"], MISUSE),
    "REKEYED": ({U}, ["rekeyed", "77", "{pd}", "1"], MISUSE),
    "HELD": ({U}, ["held", "77", "0"], MISUSE),
    "REPORT": ({U}, ["report", "0"], 0),
    "LOCKED_IDLE": ({U}, ["idle", "{vid}", "{pd}"], 0),
    "UNLOCK_DIR": ({U}, ["unlockdir", "{vid}", "{pd}"], 0),
    "LOCK_DIR": ({U, O}, ["lockdir", "{vid}", "{pd}", "force"], 0),
    "LOCK": ({U, O}, ["lock", "{vid}"], 0),
    "INIT": ({K}, ["init", "{scratch}/{uid}", "fast", "norecovery", "passphrase", "secret"], 0),
    "PIN": ({K}, ["pin", "{ini}"], 0),
    "ADMIN": ({K}, ["admin", "{ini}", "passphrase", "secret"], 0),
    "EDIT": ({K}, ["edit", "-", "dir-add", "label=new"], 0),
    "WAIT_REKEYED": ({K}, ["waitrekeyed", "{vid}", "{pd}", "1"], 0),
    "APPROVALS": ({K}, ["approvals"], 0),
    "APPROVE": ({K}, ["approve", "0" * 24, "00" * 32, "00" * 64], ENOENT),
    "AUDIT_READ": ({A}, ["auditread"], 0),
    "AUDIT_HEAD": ({A}, ["audithead"], 0),
    "AUDIT_ENROLL": ({A}, ["auditenroll"], 0),
}


def test_the_matrix_is_whole():
    text = (TOP / "keyd/proto.h").read_text()
    body = re.search(r"enum proto_type \{(.*?)\}", text, re.S)[1]
    requests = {m for m in re.findall(r"P_(\w+) = \d+,", body)} - {"HELLO"}
    assert requests == set(MATRIX)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_its_own_and_nothing_else(office, role):
    user = ROLES[role]
    c = office.client(user=user)
    fill = {"ini": office.ini, "vid": office.vid, "pd": office.pd, "scratch": office.scratch, "uid": user.pw_uid}
    wrong = []
    for name, (roles, words, expected) in MATRIX.items():
        code, text = c.ask(*(w.format(**fill) for w in words))
        if role in roles and code != expected:
            wrong.append(f"{name}: expected {expected}, got {code} {text}")
        if role not in roles and (code, text) != (DENIED, NO_ROLE):
            wrong.append(f"{name}: not refused: {code} {text}")
    assert not wrong, wrong


def test_no_role_no_connection(office):
    c = office.client(user=STRANGER, connect=False)
    assert c.ask("connect", office.socket, "-")[0] == DENIED
    assert c.ask("status")[0] != 0
    harness.wait_until(lambda: any(a["act"] == "connect" and a["uid"] == STRANGER.pw_uid for a in office.audit()), what="the record")


def test_refusals_are_on_record(office):
    assert office.client(user=AUDITOR).ask("unlock", office.ini, "passphrase", "secret")[0] == DENIED
    assert any(a["act"] == "unlock" and a["uid"] == AUDITOR.pw_uid and a["result"] != "ok" for a in office.audit())


def test_administering_gives_no_lease(office):
    """Whoever administers keys with the volume's own passphrase still leases none."""
    c = office.client(user=KEYADMIN)
    c.admin(office.ini)
    assert c.ask("lease", office.vid, office.pd) == (DENIED, NO_ROLE)
    assert c.ask("attach", office.vid) == (DENIED, NO_ROLE)


def test_the_owner_named(home):
    """Root has only what the lists give when they name the owner; who has the rest does it."""
    set_policy(home, f"[roles]\noperator = owner\nuser = uid:{USER.pw_uid}\nkey-admin = uid:{KEYADMIN.pw_uid}\n")
    root = home.client(start=True)
    assert root.ask("init", home.dir / "x.ini", "fast", "norecovery", "passphrase", "secret") == (DENIED, NO_ROLE)
    root.status()
    scratch = home.dir / "scratch"
    scratch.mkdir()
    scratch.chmod(0o777)
    k = home.client(user=KEYADMIN)
    k.ok("init", scratch / "x.ini", "fast", "norecovery", "passphrase", "secret")
    k.ok("pin", scratch / "x.ini")
    assert root.ask("unlock", scratch / "x.ini", "passphrase", "secret") == (DENIED, NO_ROLE)
    vid = home.client(user=USER).unlock(scratch / "x.ini")
    root.ok("lock", vid)


# ---- leases ----


def restart(home, policy):
    """The same state with another keyd.ini."""
    home.kill_keyd()
    set_policy(home, policy)
    home.root = home.client(start=True)
    home.root.unlock(home.ini)


def users(home):
    return f"[roles]\nuser = uid:{USER.pw_uid} gid:{MEMBER.pw_gid}\n"


def lease(home, user, pd):
    return home.client(user=user).ask("lease", home.vid, pd)


def test_allow_lists(office):
    top = office.root.root()
    restart(office, users(office) + f"[volume {office.vid}]\nallow = owner uid:{USER.pw_uid}\n"
            f"[directory {office.vid}/office]\nallow = gid:{MEMBER.pw_gid}\n")
    assert lease(office, USER, top)[0] == 0
    assert lease(office, MEMBER, top)[0] == DENIED
    assert lease(office, MEMBER, office.pd)[0] == 0
    code, words = lease(office, USER, office.pd)
    assert code == DENIED and words == "keyd.ini, section of line 5: this user is not allowed"
    assert office.root.ask("lease", office.vid, top)[0] == 0
    assert office.root.ask("lease", office.vid, office.pd)[0] == DENIED
    assert any(a["act"] == "lease" and a["uid"] == USER.pw_uid and a["result"] != "ok" for a in office.audit())


def test_by_id_a_new_name_changes_nothing(office):
    restart(office, f"[directory {office.vid}/{office.pd}]\nallow = none\n[directory {office.vid}/new]\nallow = owner\n")
    assert office.root.ask("lease", office.vid, office.pd)[0] == DENIED
    office.root.admin(office.ini)
    office.root.edit(office.ini, "dir-name", f"pd={office.pd}", "label=new")
    assert office.root.ask("lease", office.vid, office.pd)[0] == DENIED


def clock(minutes):
    return time.strftime("%H:%M", time.localtime(time.time() + 60 * minutes))


def test_time_windows(office):
    shut = f"window = {clock(180)}-{clock(240)}\n"
    restart(office, users(office) + f"[volume *]\n{shut}[directory {office.vid}/office]\nwindow = {clock(-60)}-{clock(60)}\n")
    code, words = lease(office, USER, office.root.root())
    assert code == DENIED and "not at this time" in words
    c = office.client(user=USER)
    seconds = int(c.ok("lease", office.vid, office.pd)[0])
    assert 0 < seconds <= 61 * 60  # until the window ends
    assert office.root.ask("admin", office.ini, "passphrase", "secret")[0] == DENIED
    assert office.root.ok("lock", office.vid)  # at any time


def test_rate(office):
    restart(office, users(office) + "[volume *]\nleases_per_minute = 2\n")
    c = office.client(user=USER)
    answers = [c.ask("lease", office.vid, office.pd)[0] for _ in range(4)]
    assert answers[:3] == [0, 0, DENIED]
    assert c.ask("lease", office.vid, office.root.root())[0] == 0  # each directory has its own
    assert lease(office, MEMBER, office.pd)[0] == 0  # and each user


# ---- environments ----


def test_a_staging_keyd_refuses_production(home):
    c = home.client(start=True)
    paths = {name: home.dir / f"{name or 'none'}.ini" for name in ("production", "staging", "")}
    for name, path in paths.items():
        c.ok("init", path, "fast", "norecovery", "passphrase", "secret", "first", *([name] if name else []))
        c.ok("pin", path)
        c.unlock(path)
    home.kill_keyd()
    set_policy(home, "[keyd]\nenvironment = staging\n")
    c = home.client(start=True)
    for ask in ("unlock", "admin"):
        code, words = c.ask(ask, paths["production"], "passphrase", "secret")
        assert code == DENIED and "environment staging" in words and "production" in words
    assert not c.status()["volumes"]
    vid = c.unlock(paths["staging"])
    c.ok("lease", vid)
    assert c.ask("unlock", paths[""], "passphrase", "secret")[0] == DENIED
    c.admin(paths[""])
    c.edit(paths[""], "environment", "label=staging")
    c.ok("lease", c.unlock(paths[""]))


# ---- acts that wait for others ----


class Key:
    """An admin's signing key."""

    def __init__(self, seed):
        self.key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
        raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
        self.public = self.key.public_key().public_bytes(*raw).hex()

    def sign(self, text):
        return self.key.sign(text.encode()).hex()


ANN_KEY, BOB_KEY, EVE_KEY, REQUESTER_KEY = Key(1), Key(2), Key(3), Key(4)


def board(required=2, more=""):
    """Three key-admins; one of them asks."""
    return (f"[roles]\nkey-admin = uid:{KEYADMIN.pw_uid} uid:{ANN.pw_uid} uid:{BOB.pw_uid}\nuser = uid:{USER.pw_uid}\n"
            f"[approvals]\nrequired = {required}\nadmin.ann = {ANN_KEY.public} uid:{ANN.pw_uid}\n"
            f"admin.bob = {BOB_KEY.public}\nadmin.me = {REQUESTER_KEY.public} uid:{KEYADMIN.pw_uid}\n{more}")


@pytest.fixture
def vault(home):
    """As office; what it shreds needs two signatures."""
    set_policy(home, board())
    return furnish(home)


def asker(home):
    return home.client(user=KEYADMIN).admin(home.ini)


def pending(home, user=ANN):
    return json.loads(home.client(user=user).ask("approvals")[1])


def approve(home, user, key, text=None, request=None):
    request = request or pending(home)[0]
    return home.client(user=user).ask("approve", request["id"], key.public, key.sign(text or request["text"]))


def shred(c, home, pd=None):
    """The answer; the new key store is put beside, as the requester may not write the volume here."""
    return c.ask("edit", home.scratch / "new.ini", "dir-shred", f"pd={pd or home.pd}")


def test_two_must_sign_a_shredding(vault):
    c = asker(vault)
    code, words = shred(c, vault)
    assert code == APPROVAL and "0 of 2" in words
    [request] = pending(vault)
    assert request["id"] in words
    assert (request["act"], request["volume"], request["directory"]) == ("dir-shred", vault.vid, vault.pd)
    assert (request["uid"], request["signatures"], request["needed"]) == (KEYADMIN.pw_uid, [], 2)
    assert f"act: dir-shred\nvolume: {vault.vid}\ndirectory: {vault.pd}\n" in request["text"]
    assert approve(vault, ANN, ANN_KEY)[0] == 0
    code, words = shred(c, vault)
    assert code == APPROVAL and "1 of 2" in words and request["id"] in words
    assert lease(vault, USER, vault.pd)[0] == 0  # nothing happened yet
    assert approve(vault, BOB, BOB_KEY)[0] == 0
    assert shred(c, vault)[0] == 0
    c.ok("pin", vault.scratch / "new.ini")
    assert lease(vault, USER, vault.pd)[0] != 0
    assert lease(vault, USER, vault.root.root())[0] == 0
    assert pending(vault) == []  # used up
    acts = [(a["act"], a["result"]) for a in vault.audit()]
    assert sum(act == "approve" and result == "ok" for act, result in acts) == 2
    assert sum(act == "dir-shred" and result == "ok" for act, result in acts) == 1


def test_what_does_not_count(vault):
    c = asker(vault)
    shred(c, vault)
    assert approve(vault, ANN, ANN_KEY)[0] == 0
    code, words = approve(vault, ANN, ANN_KEY)
    assert code == DENIED and "already" in words
    assert approve(vault, BOB, ANN_KEY)[0] == DENIED  # whoever brings it
    assert approve(vault, BOB, BOB_KEY, text="anything else")[0] == AUTH
    assert approve(vault, BOB, EVE_KEY)[0] == DENIED
    assert approve(vault, KEYADMIN, REQUESTER_KEY)[0] == DENIED  # one's own
    assert approve(vault, ANN, REQUESTER_KEY)[0] == DENIED
    assert approve(vault, KEYADMIN, BOB_KEY)[0] == DENIED  # who bob is, keyd.ini does not say
    assert vault.client(user=USER).ask("approvals") == (DENIED, NO_ROLE)
    code, words = shred(c, vault)
    assert code == APPROVAL and "1 of 2" in words


def test_one_signature_is_for_one_request(vault):
    vault.root.admin(vault.ini)
    other = vault.root.edit(vault.ini, "dir-add", "label=other")[1]
    c = asker(vault)
    shred(c, vault)
    [first] = pending(vault)
    shred(c, vault, other)
    second = next(r for r in pending(vault) if r["directory"] == other)
    assert approve(vault, ANN, ANN_KEY, text=first["text"], request=second)[0] == AUTH
    for user, key in ((ANN, ANN_KEY), (BOB, BOB_KEY)):
        assert approve(vault, user, key, request=first)[0] == 0
    assert shred(c, vault, other)[0] == APPROVAL
    assert shred(c, vault)[0] == 0
    # the same act again is another request
    c.close()  # its edit was never put in place
    again = asker(vault)
    code = next(code for code in iter(lambda: shred(again, vault)[0], None) if code != BUSY)  # keyd sees the end of c
    assert code == APPROVAL
    new = next(r for r in pending(vault) if r["directory"] == vault.pd)
    assert new["id"] != first["id"]
    assert approve(vault, ANN, ANN_KEY, request=first)[0] == ENOENT
    assert approve(vault, ANN, ANN_KEY, text=first["text"], request=new)[0] == AUTH


def test_another_may_not_use_it(vault):
    c = asker(vault)
    shred(c, vault)
    for user, key in ((ANN, ANN_KEY), (BOB, BOB_KEY)):
        assert approve(vault, user, key)[0] == 0
    ann = vault.client(user=ANN).admin(vault.ini)
    assert shred(ann, vault)[0] == APPROVAL
    assert len(pending(vault)) == 2


def test_it_survives_keyd(vault):
    shred(asker(vault), vault)
    [request] = pending(vault)
    assert approve(vault, ANN, ANN_KEY)[0] == 0
    vault.kill_keyd()
    vault.root = vault.client(start=True)
    [again] = pending(vault)
    assert again["id"] == request["id"] and again["signatures"] == ["ann"]
    assert approve(vault, BOB, BOB_KEY)[0] == 0
    vault.kill_keyd()
    vault.root = vault.client(start=True)
    assert shred(asker(vault), vault)[0] == 0
    vault.kill_keyd()
    vault.root = vault.client(start=True)
    assert pending(vault) == []


def test_it_expires(vault):
    restart(vault, board(more="expire_seconds = 1\n"))
    c = asker(vault)
    shred(c, vault)
    requests = []
    for _ in range(2000):  # until a request is seen; a slow machine may need several
        requests = requests or pending(vault)
        if requests:
            break
        shred(c, vault)
    [request] = requests
    assert request["expires"] == request["created"] + 1
    for _ in range(2000):
        if not pending(vault):
            break
        time.sleep(0.01)
    assert approve(vault, ANN, ANN_KEY, request=request)[0] == ENOENT
    code, words = shred(c, vault)
    assert code == APPROVAL and request["id"] not in words and "0 of 2" in words


def test_other_acts_wait_too(vault):
    vault.root.admin(vault.ini)
    vault.root.edit(vault.ini, "master-rotate")
    vault.root.edit(vault.ini, "master-retire", "number=1")
    assert vault.root.ask("edit", "-", "master-destroy", "number=1")[0] == APPROVAL
    [request] = pending(vault)
    assert (request["act"], request["version"], request["uid"]) == ("master-destroy", 1, 0)
    restart(vault, board(more="acts = dir-shred\n"))
    vault.root.admin(vault.ini)
    assert vault.root.ask("edit", "-", "master-destroy", "number=1")[0] == 0


def test_own_signature_by_policy(vault):
    restart(vault, board(required=1, more="own_signature = yes\n"))
    c = asker(vault)
    assert shred(c, vault)[0] == APPROVAL
    assert approve(vault, KEYADMIN, REQUESTER_KEY)[0] == 0
    assert shred(c, vault)[0] == 0


# ---- the file ----


def check_config(path, **more):
    return subprocess.run([KEYD, "--check-config", "--config", path], capture_output=True, text=True, timeout=60, check=False, **more)


def test_a_bad_line_stops_it(home):
    home.config.write_text("[keyd]\n\n[roles]\nuser = nobody-of-this-name\n")
    p = check_config(home.config)
    assert p.returncode == 2 and "line 4: there is no user nobody-of-this-name" in p.stderr
    with pytest.raises(RuntimeError, match="line 4"):
        home.start()
    assert home.keyd_pid() is None


def test_a_file_that_others_write_is_refused(home):
    home.config.chmod(0o666)
    assert check_config(home.config).returncode == 2
    home.config.chmod(0o644)
    assert check_config(home.config).returncode == 0
    os.chown(home.config, STRANGER.pw_uid, -1)
    assert check_config(home.config).returncode == 2


@pytest.mark.parametrize(
    "line, words",
    [
        ("alert_command = /nonexistent/alarm", "alert_command is not a file that can be run"),
        ("alert_command = /etc/passwd", "alert_command is not a file that can be run"),
        ("alert_command = /etc", "alert_command is not a file that can be run"),
        ("metrics = /nonexistent/latchfs.prom", "the directory of the metrics file is missing"),
    ],
)
def test_an_alarm_that_cannot_come_stops_it(home, line, words):
    home.config.write_text("[keyd]\n\n" + line + "\n")
    p = check_config(home.config)
    assert p.returncode == 2 and "line 3: " + words in p.stderr
    with pytest.raises(RuntimeError, match="line 3: " + words):
        home.start()


def manual_examples():
    page = (TOP / "docs/keyd.ini.5").read_text().split(".SH EXAMPLES")[1]
    return [text.replace("\\-", "-") for text in re.findall(r"\.nf\n(.*?)\.fi\n", page, re.S)]


def test_the_examples_of_the_manual(workdir):
    examples = manual_examples()
    assert len(examples) == 3 and any("[approvals]" in e for e in examples)
    path = workdir / "keyd.ini"
    examples = [text.replace("/var/lib/prometheus/node-exporter", str(workdir)) for text in examples]
    examples = [re.sub("(?m)^alert_command = .*", "alert_command = /bin/true", text) for text in examples]
    for text in examples:
        path.write_text(text)
        p = check_config(path)
        assert (p.returncode, p.stderr) == (0, ""), text
    path.write_text(examples[1].replace("required = 1", "required = 3"))
    assert check_config(path).returncode == 2


def test_the_manual_names_every_key():
    """Those of the tables in the source, and no default is left out."""
    source = (TOP / "keyd/policy_parse.c").read_text()
    page = (TOP / "docs/keyd.ini.5").read_text().replace("\\-", "-")
    keys = re.findall(r'^    \{"\w+", "([\w-]+)", V_', source, re.M)
    assert len(keys) > 30
    described = set(re.findall(r"^\.BR? (.*)$", page, re.M))
    words = {w for line in described for w in re.split(r'[ ",]+', line)}
    assert [k for k in keys if k not in words] == []
