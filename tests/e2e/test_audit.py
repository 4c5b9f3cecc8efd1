"""The audit log of a real latch-keyd: nothing is lost when it is killed, whatever is done to the file is found
and named, a full disk stops acts that must be logged and no others, and only auditors read it."""

import contextlib
import json
import os
import pwd
import random
import subprocess
import time
from types import SimpleNamespace

import pytest

import auditlog
import harness
from keydbox import BUILD, CLI, DENIED, KEYD, home, needs_root  # noqa: F401

LATCH = str(BUILD / "tools/latch")
CORRUPT, USAGE = harness.CORRUPT, harness.USAGE
NO_VOLUME = "00" * 16
SOME_VOLUME = "5a" * 16  # to attach to: logged each time, unlike refusals, which are counted beyond a bound
ENOSPC = -28


def latch(home, *args, **more):
    return harness.run([LATCH, *args], env=home.env, **more)


def log_of(home):
    return (home.state / "audit.log").read_bytes()


def enroll(home):
    path = home.dir / "first.key"
    latch(home, "audit", "enroll", "--out", path).ok()
    return path


def acts(home, name):
    return [a for a in map(json.loads, log_of(home).splitlines()) if a["act"] == name]


def is_whole(home, key):
    """By the program and by the independent reader."""
    assert auditlog.problems(log_of(home), auditlog.read_key(key)) == []
    result = latch(home, "audit", "verify", "--key", key, "--log", home.state / "audit.log").ok()
    assert "is whole" in result.out


# ---- an end at any point ----


def load(home, lines):
    """Clients that make keyd log as fast as it can; they end when keyd does."""
    script = home.dir / "script"
    script.write_text(f"connect {home.socket} -\n" + f"attach {SOME_VOLUME}\n" * lines)
    clients = []
    for _ in range(2):
        with open(script) as words:
            clients.append(subprocess.Popen([CLI], stdin=words, stdout=subprocess.PIPE, env=home.env))
    return clients


def answered(client):
    """How many requests keyd answered before it was gone (the first line is that of connect)."""
    out = client.stdout.read().decode().splitlines()
    client.stdout.close()
    client.wait(timeout=20)
    return sum(line.split()[0] == "0" for line in out[1:])


def test_kill_in_the_middle_of_logging(home):
    rng = random.Random(5)
    home.client(start=True)
    key = enroll(home)
    home.kill_keyd()
    answers = 0
    rounds = 60
    for _ in range(rounds):
        keyd = home.start()
        clients = load(home, 3000)
        time.sleep(rng.uniform(0, 0.05))
        keyd.kill()
        keyd.wait()
        answers += sum(answered(c) for c in clients)
    home.start().terminate()
    home.client(start=True)  # waits for the one that ends
    is_whole(home, key)
    assert answers > rounds, "the load did not get going"
    assert len(acts(home, "attach")) >= answers, "an answered request is not in the log"
    assert len(acts(home, "start")) == rounds + 3
    assert acts(home, "alarm") == []
    latch(home, "audit", "verify", "--key", key).ok()


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_half_a_record_is_cut_off(home, cut):
    home.client(start=True).ask("lock", NO_VOLUME)
    key = enroll(home)
    state = (home.state / "audit.state").read_bytes()
    client = home.client()
    before = log_of(home)
    client.ask("lock", NO_VOLUME)
    home.kill_keyd()
    (home.state / "audit.state").write_bytes(state)  # as if the end had come within the append
    whole = log_of(home)
    assert len(whole) - len(before) > cut
    (home.state / "audit.log").write_bytes(whole[:-cut])
    home.client(start=True)
    is_whole(home, key)
    assert "half a record" in acts(home, "audit-repair")[0]["detail"]


def test_refusals_do_not_fill_the_log(home):
    """What anybody can have refused at will is counted beyond sixty a minute; what must be logged still is."""
    client = home.client(start=True)
    for _ in range(300):
        assert client.ask("lock", NO_VOLUME)[0] == -5002
    assert 0 < len(acts(home, "lock")) <= 60
    client.volume()
    assert acts(home, "init")[-1]["result"] == "ok"


# ---- what is done to the file ----


def cut_off(lines):
    return lines[:-2]


def changed(lines):
    lines[4] = lines[4].replace(b'"act":"lock"', b'"act":"lick"')
    return lines


def reordered(lines):
    lines[3], lines[6] = lines[6], lines[3]
    return lines


def missing(lines):
    return lines[:4] + lines[6:]


def inserted(lines):
    return lines[:4] + [lines[4].replace(b'"seq":5', b'"seq":99')] + lines[4:]


def copied(lines):
    return lines + [lines[2]]


DAMAGE = [
    (changed, 5, "changed: record 5 is not what was written", True),
    (missing, 5, "missing: records 5 to 6 are missing", True),
    (inserted, 5, "inserted: this line claims to be record 99 and is not", True),
    (reordered, 4, "reordered: record 7 stands in the wrong place", True),
    (copied, None, "inserted: a copy of record 3", True),
    (cut_off, None, "missing at the end", False),
]


@pytest.fixture
def eight(home):
    """A log of some records, its key and head."""
    client = home.client(start=True)
    key, head = enroll(home), home.dir / "head.json"
    for _ in range(6):
        client.ask("lock", NO_VOLUME)
    latch(home, "audit", "export", "--out", head).ok()
    return home, key, head


@pytest.mark.parametrize("damage, line, words, without_head", DAMAGE, ids=lambda d: getattr(d, "__name__", None))
@pytest.mark.parametrize("keyed", [True, False], ids=["key", "hashes"])
def test_tampering_is_named(eight, damage, line, words, without_head, keyed):
    home, key, head = eight
    copy = home.dir / "copy.log"
    copy.write_bytes(b"\n".join(damage(log_of(home).splitlines())) + b"\n")
    args = ["audit", "verify", "--log", copy, *(["--key", key] if keyed else [])]
    for more in [["--head", head], []] if without_head else [["--head", head]]:
        result = latch(home, *args, *more)
        assert result.returncode == CORRUPT
        assert words in result.out
        if line:
            assert f"line {line}: {words}" in result.out
    if not without_head:
        latch(home, *args).ok()  # which is why heads are exported
    found = json.loads(latch(home, *args, "--json", "--head", head).out)
    assert found["good"] is False and found["key"] is keyed and found["findings"]
    latch(home, "audit", "verify", "--log", home.state / "audit.log", "--key", key, "--head", head).ok()


def test_another_key_and_another_head(eight):
    home, key, head = eight
    copy = json.loads(head.read_text())
    log = ["--log", home.state / "audit.log"]
    other = home.dir / "other.json"
    other.write_text(json.dumps({**copy, "hash": "00" * 32}))
    result = latch(home, "audit", "verify", *log, "--head", other, "--key", key)
    assert result.returncode == CORRUPT and f"record {copy['seq']} is not the one" in result.out
    assert latch(home, "audit", "verify", *log, "--head", other).returncode == CORRUPT
    other.write_text(json.dumps({**copy, "chain": "00" * 16}))
    assert latch(home, "audit", "verify", *log, "--head", other).returncode == CORRUPT
    other.write_text("{}")
    assert latch(home, "audit", "verify", *log, "--head", other).returncode == USAGE
    text = key.read_text()
    key.write_text(text.replace(text[0], "1" if text[0] == "0" else "0", 1))
    result = latch(home, "audit", "verify", *log, "--key", key)
    assert result.returncode == USAGE and "typing error" in result.err


def test_a_log_made_anew_has_another_key(eight):
    home, key, head = eight
    home.kill_keyd()
    for name in ("audit.log", "audit.state", "audit.first"):
        (home.state / name).unlink(missing_ok=True)
    home.client(start=True)
    log = ["--log", home.state / "audit.log"]
    latch(home, "audit", "verify", *log).ok()
    result = latch(home, "audit", "verify", *log, "--key", key)
    assert result.returncode == CORRUPT and "wrong key" in result.out
    assert latch(home, "audit", "verify", *log, "--head", head).returncode == CORRUPT


@pytest.mark.parametrize("damage", [cut_off, changed, missing])
def test_keyd_notices_at_its_start(eight, damage):
    home, key, _ = eight
    home.kill_keyd()
    count = len(log_of(home).splitlines())
    (home.state / "audit.log").write_bytes(b"\n".join(damage(log_of(home).splitlines())) + b"\n")
    home.client(start=True)
    alarms = acts(home, "alarm")
    if damage is cut_off:
        assert [(a["from"], a["to"]) for a in alarms] == [(count - 1, count)]
    elif damage is missing:
        assert len(alarms) == 1 and "were changed or are missing" in alarms[0]["detail"]
    else:  # before the last record: the state does not show it, the check does
        assert alarms == []
    result = latch(home, "audit", "verify", "--key", key)
    assert result.returncode == CORRUPT
    if damage is cut_off:
        assert "latch-keyd noticed it" in result.out


def test_while_it_runs(eight):
    home, key, _ = eight
    client = home.clients[0]
    before = len(log_of(home).splitlines())
    with open(home.state / "audit.log", "ab") as log:
        log.write(b"not mine\n")
    client.ask("lock", NO_VOLUME)
    os.truncate(home.state / "audit.log", len(log_of(home).split(b"\n")[0]) + 1)
    client.ask("lock", NO_VOLUME)
    (home.state / "audit.log").rename(home.state / "elsewhere")
    client.ask("lock", NO_VOLUME)
    assert [(a["from"], a["to"]) for a in acts(home, "alarm")] == [(1, before + 4)]
    assert "records 2 to" in (home.state / "elsewhere").read_text()
    result = latch(home, "audit", "verify", "--key", key, "--log", home.state / "elsewhere",
                   "--log", home.state / "audit.log")
    assert result.returncode == CORRUPT
    assert f"missing: records 2 to {before + 2} are missing; latch-keyd noticed it" in result.out


def test_a_new_file_goes_on(eight):
    home, key, head = eight
    home.kill_keyd()
    old = home.dir / "2025.log"
    (home.state / "audit.log").rename(old)
    home.client(start=True).ask("lock", NO_VOLUME)
    both = ["--log", old, "--log", home.state / "audit.log"]
    latch(home, "audit", "verify", "--key", key, "--head", head, *both).ok()
    assert latch(home, "audit", "verify", "--key", key, *both[2:]).returncode == CORRUPT
    assert latch(home, "audit", "verify", "--key", key, *both[2:], *both[:2]).returncode == CORRUPT


# ---- a full disk ----


@contextlib.contextmanager
def small_disk(path, size):
    harness._mount("tmpfs", str(path), "tmpfs", 0)
    try:
        harness.run(["mount", "-o", f"remount,size={size}", path]).ok()
        path.chmod(0o700)
        yield
    finally:
        harness._libc.umount2(os.fsencode(str(path)), 2)


def fill(path):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while os.write(fd, b"x" * 4096):
            pass
    os.close(fd)


@needs_root
def test_full_disk(home):
    home.state.mkdir(mode=0o700)
    with small_disk(home.state, "1m"):
        client = home.client(start=True)
        key = enroll(home)
        ini, _ = client.volume()
        fill(home.state / "filler")
        busy = home.client()
        for _ in range(80):  # what is allocated ahead of the reserve
            busy.ok("attach", SOME_VOLUME)

        code, why = client.ask("init", home.dir / "b.ini", "fast", "norecovery", "passphrase", "secret", "first")
        assert code == ENOSPC and "audit log" in why
        assert acts(home, "init")[-1]["result"] == "No space left on device"
        assert not (home.dir / "b.ini").exists()
        is_whole(home, key)
        client.unlock(ini)  # not for administrators only: goes on, and is still logged
        assert acts(home, "unlock")[-1]["result"] == "ok"
        is_whole(home, key)

        before = len(acts(home, "attach"))
        for _ in range(400):  # beyond the reserve
            busy.ok("attach", SOME_VOLUME)
        is_whole(home, key)
        logged = len(acts(home, "attach"))
        assert before < logged < before + 400
        home.kill_keyd()
        client = home.client(start=True)
        client.ask("init", home.dir / "b.ini", "fast", "norecovery", "passphrase", "secret", "first")
        assert client.ask("pin", ini)[0] == ENOSPC
        is_whole(home, key)

        (home.state / "filler").unlink()
        client.ask("lock", NO_VOLUME)
        client.volume("b.ini")
        assert "while the log could not be written" in acts(home, "not-logged")[-1]["detail"]
        is_whole(home, key)
        for c in home.clients:
            c.close()
        home.clients.clear()
        home.kill_keyd()


# ---- who reads it ----


@needs_root
def test_only_auditors_read(home):
    auditor, user = 20004, 20001
    home.config.write_text(f"[roles]\nauditor = uid:{auditor}\nuser = uid:{user}\n")
    home.dir.chmod(0o711)
    home.config.chmod(0o644)
    client = home.client(start=True)
    ini, _ = client.volume()
    client.unlock(ini)

    def as_uid(uid, *args):
        return subprocess.run([LATCH, *map(str, args)], env=home.env, user=uid, group=uid, extra_groups=[],
                              cwd="/", capture_output=True, text=True, timeout=60, check=False)

    shown = as_uid(auditor, "audit", "show", "--json", "--act", "unlock")
    assert shown.returncode == 0, shown.stderr
    assert [json.loads(line)["act"] for line in shown.stdout.splitlines()] == ["unlock"]
    assert as_uid(auditor, "audit", "verify").returncode == 0
    assert json.loads(as_uid(auditor, "audit", "export").stdout)["enrolled"] is False
    for verb in ("show", "verify", "export"):
        refused = as_uid(user, "audit", verb)
        assert refused.returncode == harness.NOKEY and not refused.stdout, verb
    for request in ("auditread", "audithead", "auditenroll"):
        assert home.client(user=SimpleNamespace(pw_uid=user, pw_gid=user)).ask(request)[0] == DENIED, request
    assert as_uid(auditor, "status").returncode != 0


# ---- showing ----


def test_filters(home):
    client = home.client(start=True)
    ini, _ = client.volume()
    volume = client.unlock(ini)
    client.ask("unlock", ini, "passphrase", "wrong")
    client.ask("lock", NO_VOLUME)

    def shown(*args):
        return [json.loads(line) for line in latch(home, "audit", "show", "--json", *args).ok().out.splitlines()]

    everything = shown()
    assert [a["seq"] for a in everything] == list(range(1, len(everything) + 1))
    assert {a["act"] for a in shown("--act", "unlock")} == {"unlock"} and len(shown("--act", "unlock")) == 2
    assert all(a["result"] != "ok" for a in shown("--failed")) and len(shown("--failed")) == 2
    assert {a["volume"] for a in shown("--volume", volume)} == {volume}
    uid = os.geteuid()
    name = pwd.getpwuid(uid).pw_name
    assert shown("--user", name) == shown("--user", uid) == [a for a in everything if a.get("uid") == uid]
    assert shown("--user", "12345") == []
    assert shown("--since", "1h") == everything and shown("--until", "1h") == []
    assert shown("--since", "2100-01-01") == [] and shown("--until", "2100-01-01 08:00") == everything
    assert shown("--since", "2000-01-01T00:00:00Z") == everything
    assert shown("--last", "2") == everything[-2:]
    assert shown("--act", "unlock", "--last", "1") == shown("--act", "unlock")[1:]
    text = latch(home, "audit", "show").ok().out
    assert len(text.splitlines()) == len(everything) and "unlock: no slot opens" in text
    for wrong in (["--since", "soon"], ["--last", "0"], ["--user", "no such user"], ["--frobnicate"], ["more"]):
        assert latch(home, "audit", "show", *wrong).returncode == USAGE


def test_a_hostile_line_reaches_no_terminal(home):
    home.client(start=True)
    copy = home.dir / "copy.log"
    copy.write_bytes(log_of(home) + b'{"seq":9,"act":"\x1b[2J"}\n{"act":"x\\u001b[2Jy"}\n')
    result = latch(home, "audit", "show", "--log", copy)
    assert result.returncode == CORRUPT and "1 lines that are no records" in result.err
    assert "\x1b" not in result.out and r"x\x1b[2Jy" in result.out


def test_the_key_is_given_once(home):
    home.client(start=True)
    assert (home.state / "audit.first").stat().st_size == 32
    key = enroll(home)
    assert key.stat().st_mode & 0o777 == 0o600
    assert not (home.state / "audit.first").exists()
    again = latch(home, "audit", "enroll", "--out", home.dir / "second")
    assert again.returncode != 0 and "handed out already" in again.err
    assert not (home.dir / "second").exists()
    raw = auditlog.read_key(key)
    for path in home.state.iterdir():
        if path.is_file():
            assert raw not in path.read_bytes(), path


def test_a_log_of_before_is_put_aside(home):
    home.state.mkdir(mode=0o700)
    old = '{"time":"2026-01-01T00:00:00.000Z","act":"start","result":"ok"}\n'
    (home.state / "audit.log").write_text(old)
    home.client(start=True)
    assert (home.state / "audit.log.old").read_text() == old
    latch(home, "audit", "verify").ok()
    shown = latch(home, "audit", "show", "--log", home.state / "audit.log.old").ok().out
    assert "start: ok" in shown


def test_one_state_directory_one_keyd(home):
    home.client(start=True)
    env = {**home.env, "LATCH_KEYD_SOCKET": str(home.run / "second.sock")}
    second = subprocess.run([KEYD], env=env, cwd="/", capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == harness.BUSY
    latch(home, "audit", "verify").ok()
