"""latch-keyd end to end: one keyd with its clients (keydcli, the C client with one command a line, and raw
sockets). The tests are in test_keyd*.py."""

import json
import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

BUILD = Path(os.environ.get("LATCHFS_BUILD", ".")).resolve()
KEYD = str(BUILD / "keyd/latch-keyd")
CLI = os.environ.get("LATCHFS_KEYDCLI", str(BUILD / "tests/e2e/keydcli"))
NOBODY = pwd.getpwnam("nobody")

NOKEY, PASSPHRASE, ROLLBACK, DENIED, TIMEOUT, BUSY = -5002, -5006, -5008, -5010, -5011, -5005
AUTH, MISUSE, APPROVAL, ENOENT, ENOTCONN = -5001, -5004, -5013, -2, -107
HELLO, UNLOCK, STATUS = 1, 3, 9
WHOLE = "0" * 32  # a directory's id in a push that is about the whole volume
MORE = 1
PACKET_MAX = 65536

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")


class Client:
    """One keydcli process, one connection."""

    def __init__(self, home, start=False, user=None, connect=True):
        self.home = home
        more = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        self.process = subprocess.Popen(
            [CLI], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=home.env, cwd="/", **more
        )
        if connect:
            self.ok("connect", home.socket, KEYD if start else "-")

    def send(self, *words):
        print(*words, file=self.process.stdin, flush=True)

    def answer(self):
        line = self.process.stdout.readline()
        assert line, "keydcli died"
        code, _, rest = line.strip().partition(" ")
        return int(code), rest

    def ask(self, *words):
        self.send(*words)
        return self.answer()

    def ok(self, *words):
        code, rest = self.ask(*words)
        assert code == 0, f"{words}: {code} {rest}"
        return rest.split()

    def status(self):
        code, rest = self.ask("status")
        assert code == 0
        return json.loads(rest)

    def volume(self, name="a.ini", passphrase="secret", recovery="norecovery", kind="passphrase"):
        """A new key store, pinned; returns its path and what init printed."""
        path = self.home.dir / name
        printed = self.ok("init", path, "fast", recovery, kind, passphrase)
        self.ok("pin", path)
        return path, printed

    def unlock(self, path, passphrase="secret", kind="passphrase"):
        return self.ok("unlock", path, kind, passphrase)[1]

    def admin(self, path, passphrase="secret", kind="passphrase"):
        """A session of administration."""
        self.ok("admin", path, kind, passphrase)
        return self

    def edit(self, path, act, *words):
        """An edit put in place and pinned; returns its number (slot, version) and its directory."""
        number, pd, *_ = self.ok("edit", path, act, *words)
        self.ok("pin", path)
        return number, pd

    def event(self, kind):
        """The next push, which must be of this kind; its serial and directory."""
        got, serial, pd = self.ok("event")
        assert got == kind
        return serial, pd

    def directory(self, pd, volume=0):
        """What status says of a protected directory."""
        return next(d for d in self.status()["volumes"][volume]["directories"] if d["id"] == pd)

    def root(self):
        return next(d["id"] for d in self.status()["volumes"][0]["directories"] if d["root"])

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:  # still waiting for an answer: the test has failed
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Home:
    """A directory with socket, policy and state of one keyd, and the clients and keyds made there."""

    def __init__(self, base, user=None):
        self.dir = Path(base)
        self.user = user
        self.run = self.dir / "run"
        self.run.mkdir(mode=0o700)
        self.socket = self.run / "keyd.sock"
        self.state = self.dir / "state"
        self.config = self.dir / "keyd.ini"
        self.config.write_text("")
        self.env = {
            "PATH": "/usr/bin:/bin", "HOME": str(self.dir), "LATCH_KEYD_STATE_DIR": str(self.state),
            "LATCH_KEYD_CONFIG": str(self.config), "LATCH_KEYD_SOCKET": str(self.socket),
        }
        self.env.update({k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")})
        if user:
            for path in (self.dir, self.run, self.config):
                os.chown(path, user.pw_uid, user.pw_gid)
        self.clients = []

    def client(self, **more):
        more.setdefault("user", self.user)
        c = Client(self, **more)
        self.clients.append(c)
        return c

    def start(self, preexec=None):
        """keyd as a child, ready."""
        r, w = os.pipe()
        more = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if self.user else {}
        p = subprocess.Popen(
            [KEYD, "--ready-fd", str(w)], env=self.env, pass_fds=[w], preexec_fn=preexec, cwd="/", **more
        )
        os.close(w)
        with os.fdopen(r) as ready:
            line = ready.readline().strip()
        if line != "ok":
            p.wait()
            raise RuntimeError(line)
        return p

    def raw(self):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.settimeout(20)
        s.connect(str(self.socket))
        return s

    def keyd_pid(self):
        try:
            with self.raw() as s:
                return struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        except OSError:
            return None

    def kill_keyd(self):
        pid = self.keyd_pid()
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
        return pid

    def audit(self):
        """The acts in the log."""
        lines = [json.loads(line) for line in (self.state / "audit.log").read_text().splitlines()]
        return [a for a in lines if "result" in a]

    def close(self):
        for c in self.clients:
            c.close()
        pid = self.keyd_pid()
        if pid:
            os.kill(pid, signal.SIGTERM)
            wait_gone(pid)


def wait_gone(pid):
    """Until the process has ended (a zombie of ours counts, too)."""
    for _ in range(2000):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.01)
    raise AssertionError("the process did not end")


def packet(kind, body=b"", serial=1, flags=0, version=1):
    return struct.pack("<BBHI", version, flags, kind, serial) + body


def reply(s):
    data = s.recv(PACKET_MAX)
    _, _, kind, serial = struct.unpack_from("<BBHI", data)
    result, n = struct.unpack_from("<iH", data, 8)
    return kind, serial, result, data[14 : 14 + n].decode()


def ended(s):
    try:
        return s.recv(PACKET_MAX) == b""
    except ConnectionResetError:
        return True


@pytest.fixture
def home():
    with tempfile.TemporaryDirectory(prefix="keyd-test-") as base:
        h = Home(base)
        yield h
        h.close()


@pytest.fixture
def user_home():
    """Of an ordinary user."""
    base = tempfile.mkdtemp(prefix="keyd-test-")
    h = Home(base, NOBODY)
    yield h
    h.close()
    shutil.rmtree(base)
