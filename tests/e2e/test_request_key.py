"""keyctl request2 through the kernel's upcall: root and another user, allowed and refused."""

import json
import os
import subprocess
from pathlib import Path

import pytest

import harness
from fsbox import PLAIN
from keylife import admin, directory, protect

pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")

CONF = Path("/etc/request-key.d/latchfs.conf")
SOCKET = Path("/run/latchfs/keyd.sock")


def upcalls_work():
    """The upcall runs in the first namespaces: not where a container has other files."""
    try:
        p = subprocess.run(["keyctl", "request2", "user", "debug:latchfs-test", "x", "@s"], capture_output=True, timeout=20,
                           check=False)
        return p.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.fixture
def adapter(bins):
    helper = harness.build_dir() / "keyd/latch-request-key"
    assert helper.exists()
    if CONF.exists() or SOCKET.exists():
        pytest.skip("this machine has a latch-keyd of its own")
    if not upcalls_work():
        pytest.skip("the kernel's request-key upcall does not reach this machine's files")
    CONF.parent.mkdir(exist_ok=True)
    shipped = (harness.build_dir() / "keyd/latchfs.conf").read_text().splitlines()
    (line,) = [x for x in shipped if x.startswith("create")]
    CONF.write_text(line.replace(line.split()[4], str(helper)) + "\n")
    made = not SOCKET.parent.exists()
    SOCKET.parent.mkdir(mode=0o755, exist_ok=True)
    yield
    CONF.unlink()
    if made and SOCKET.parent.exists() and not os.listdir(SOCKET.parent):
        SOCKET.parent.rmdir()


class SystemKeyd(harness.Keyd):
    """Where the upcall looks for it."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.socket = SOCKET


def request(description, user=None):
    """A new session keyring, the request, and the payload in hex."""
    script = f'k=$(keyctl request2 user "{description}" "" @s) && keyctl print $k'
    return harness.run(["keyctl", "session", "-", "sh", "-c", script], user=user, timeout=30)


def test_request2(adapter, bins, workdir):
    user = harness.ordinary_user()
    config = ("[keyd]\nidle_exit_seconds = 0\n[roles]\n" f"user = uid:{user.pw_uid}\n"
              "[volume *]\nrequest_key = yes\n" f"allow = uid:0 uid:{user.pw_uid}\n")
    with SystemKeyd(bins, workdir / "keyd", config=config) as keyd:
        volume = harness.Volume(keyd, workdir / "vol").create()
        with volume.mount() as m:
            protect(volume, m / "team")
            shown = volume.latch("key", "list", "--json", volume.path).ok().out
            vid = json.loads(shown)["volume"]
            team = directory(volume, "team")["id"]
            whole = request(f"latchfs:{vid}").ok().out
            part = request(f"latchfs:{vid}:{team}").ok().out
            assert vid in part and team in part and team not in whole
            assert team in request(f"latchfs:{vid}:{team}", user=user).ok().out
            for bad in (f"latchfs:{vid}:{'0' * 31}1", f"latchfs:{'1' * 32}", "latchfs:", "latchfs:$(id)", f"latchfs:{vid}:{team}x"):
                assert request(bad).returncode != 0
            stranger = harness.ordinary_user("games")
            assert request(f"latchfs:{vid}:{team}", user=stranger).returncode != 0
            volume.latch("lock", "--force", volume.path).ok()
            assert request(f"latchfs:{vid}:{team}").returncode != 0
        log = (keyd.state / "audit.log").read_text()
        assert f'"uid":{stranger.pw_uid}' in log or f"{stranger.pw_uid}" in log


def test_policy_refuses_request_key(adapter, bins, workdir):
    with SystemKeyd(bins, workdir / "keyd") as keyd:
        volume = harness.Volume(keyd, workdir / "vol").create()
        volume.unlock().ok()
        vid = json.loads(volume.latch("key", "list", "--json", volume.path).ok().out)["volume"]
        assert request(f"latchfs:{vid}", user=harness.ordinary_user()).returncode != 0


def test_no_keyd(adapter):
    assert request("latchfs:" + "1" * 32).returncode != 0
