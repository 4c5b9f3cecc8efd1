"""Alarms: what goes beyond policy's bounds is recorded and runs alert_command, in a helper that never holds
latch-keyd up, leaves nothing behind and ends with it."""

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest

import harness
from keydbox import home, needs_root, wait_gone  # noqa: F401


def acts(home, name):
    return [a for a in map(json.loads, (home.state / "audit.log").read_bytes().splitlines()) if a["act"] == name]


@pytest.fixture
def alarmed(home):
    """A keyd whose alert_command keeps what it gets."""
    script, got = home.dir / "alert", home.dir / "alerts"
    script.write_text(f"#!/bin/sh\ncat >> {got}\nenv >> {home.dir}/env\n")
    script.chmod(0o755)
    home.config.write_text(
        f"[keyd]\nalert_command = {script}\n[alerts]\nunlock_failures = 2\nleases = 3\nnew_peers = yes\n")
    home.alerts = lambda: [json.loads(line) for line in got.read_text().splitlines()] if got.exists() else []
    return home


def helpers_of(home):
    """Processes that run with this home's socket in their environment or are keyd's helper."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if (entry / "comm").read_text() == "keyd-alert\n" and \
                        str(home.socket).encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


def test_alarms_run_the_command(alarmed):
    client = alarmed.client(start=True)
    ini, _ = client.volume()
    for _ in range(4):
        assert client.ask("unlock", ini, "passphrase", "wrong")[0] == -5006
    harness.wait_until(lambda: alarmed.alerts(), what="the alarm")
    first = alarmed.alerts()[0]
    assert first["event"] == "unlock-failures" and first["uid"] == os.geteuid()
    assert first["pid"] == client.process.pid and first["detail"].startswith("3 wrong secrets")
    assert [a["event"] for a in acts(alarmed, "alarm")] == ["unlock-failures"], "once in a window is enough"
    assert "SOCKET" not in (alarmed.dir / "env").read_text()

    volume = client.unlock(ini)
    client.ok("lease", volume)
    harness.wait_until(lambda: len(alarmed.alerts()) == 2, what="the second alarm")
    assert alarmed.alerts()[1]["event"] == "new-peer"
    if os.geteuid() == 0:  # the client hides from others of its user, and so its program from their keyd
        assert "keydcli" in alarmed.alerts()[1]["detail"]
    for _ in range(4):
        client.ok("lease", volume)
    harness.wait_until(lambda: len(alarmed.alerts()) == 3, what="the third alarm")
    assert alarmed.alerts()[2]["event"] == "lease-rate"

    alarmed.kill_keyd()
    client = alarmed.client(start=True)  # who was seen stays known
    client.unlock(ini)
    client.ok("lease", volume)
    assert "new-peer" not in [a["event"] for a in acts(alarmed, "alarm")][3:]


def test_the_log_s_own_trouble_is_an_alarm(alarmed):
    alarmed.client(start=True)
    alarmed.kill_keyd()
    (alarmed.state / "audit.log").write_bytes(b"")
    alarmed.client(start=True)
    harness.wait_until(lambda: alarmed.alerts(), what="the alarm")
    assert alarmed.alerts()[0]["event"] == "audit" and "are missing" in alarmed.alerts()[0]["detail"]


@needs_root  # to see whose helper it is
def test_the_helper_ends_with_keyd(alarmed):
    for end in (signal.SIGTERM, signal.SIGKILL):
        keyd = alarmed.start()
        harness.wait_until(lambda: len(helpers_of(alarmed)) == 1, what="the helper")
        helper = helpers_of(alarmed)[0]
        keyd.send_signal(end)
        keyd.wait()
        wait_gone(helper)


@needs_root  # to see whose helper it is
def test_without_its_helper_keyd_goes_on(alarmed):
    client = alarmed.client(start=True)
    ini, _ = client.volume()
    os.kill(helpers_of(alarmed)[0], signal.SIGKILL)
    for _ in range(4):
        assert client.ask("unlock", ini, "passphrase", "wrong")[0] == -5006
    assert len(acts(alarmed, "alarm")) == 1
    children = Path(f"/proc/{alarmed.keyd_pid()}/task/{alarmed.keyd_pid()}/children").read_text()
    assert children.strip() == "", "a zombie is left"


@needs_root  # to see whose helper it is
def test_a_command_that_hangs_hinders_nobody(alarmed):
    (alarmed.dir / "alert").write_text(f"#!/bin/sh\nsleep 1000 &\necho $! > {alarmed.dir}/pid\nwait\n")
    client = alarmed.client(start=True)
    ini, _ = client.volume()
    for _ in range(4):
        assert client.ask("unlock", ini, "passphrase", "wrong")[0] == -5006
    pidfile = alarmed.dir / "pid"
    harness.wait_until(lambda: pidfile.exists() and pidfile.read_text().strip(), what="the command")
    client.unlock(ini)
    helper = helpers_of(alarmed)[0]
    alarmed.kill_keyd()
    wait_gone(helper)  # within its bound, and with it what it ran
    wait_gone(int(pidfile.read_text()))
