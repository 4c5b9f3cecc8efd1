"""latch-keyd end to end, through keydcli (the C client, one command a line) and raw sockets."""

import ctypes
import json
import os
import pwd
import resource
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
HELLO, UNLOCK, STATUS = 1, 3, 9
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

    def volume(self, name="a.ini", passphrase="secret", recovery="norecovery"):
        """A new key store, pinned; returns its path and what init printed."""
        path = self.home.dir / name
        printed = self.ok("init", path, "fast", recovery, "passphrase", passphrase)
        self.ok("pin", path)
        return path, printed

    def unlock(self, path, passphrase="secret"):
        return self.ok("unlock", path, "passphrase", passphrase)[1]

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=20)
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

    def audit(self):
        return [json.loads(line) for line in (self.state / "audit.log").read_text().splitlines()]

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


# ---- what it is for ----


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
    kind, serial = mount.ok("event")
    assert kind == "revoke"
    assert mount.ask("lease", vid)[0] == NOKEY
    mount.ok("revoked", serial, "3")
    assert mount.ask("revoked", serial, "3")[0] != 0
    deaf.ok("revoked", deaf.ok("event")[1], "0")
    assert admin.answer() == (0, "1")
    admin.unlock(home.dir / "a.ini")
    assert mount.ok("event")[0] == "unlocked"
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


def test_slots(home):
    c = home.client(start=True)
    path, printed = c.volume(recovery="recovery")
    recovery = printed[0]
    assert c.ok("test", path, "recovery", recovery)[0] == "2"
    groups = recovery.split("-")
    groups[6] = groups[6][:2] + ("A" if groups[6][2] != "A" else "B") + groups[6][3:]
    code, words = c.ask("test", path, "recovery", "-".join(groups))
    assert code == PASSPHRASE and "group 7" in words
    new = home.dir / "b.ini"
    assert c.ok("add", path, new, "recovery", recovery, "passphrase", "second")[0] == "3"
    c.ok("pin", new)
    assert c.ok("test", new, "passphrase", "second")[0] == "3"
    last = home.dir / "c.ini"
    c.ok("remove", new, last, "passphrase", "second", "1")
    c.ok("pin", last)
    assert c.ask("test", last, "passphrase", "secret")[0] == PASSPHRASE
    assert c.ok("unlock", last, "passphrase", "second")[0] == "3"
    only = home.dir / "d.ini"
    c.ok("remove", last, only, "passphrase", "second", "2")
    assert c.ask("remove", only, home.dir / "e.ini", "passphrase", "second", "3")[0] == DENIED


def test_older_key_store_is_refused(home):
    c = home.client(start=True)
    path, _ = c.volume()
    c.ok("add", path, home.dir / "b.ini", "passphrase", "secret", "passphrase", "second")
    c.ok("pin", home.dir / "b.ini")
    assert c.ask("unlock", path, "passphrase", "secret")[0] == ROLLBACK
    assert c.ask("add", path, home.dir / "c.ini", "passphrase", "secret", "passphrase", "third")[0] == ROLLBACK
    c.ok("unlock", path, "passphrase", "secret", "older")
    other = home.client()
    stranger, _ = other.volume("stranger.ini")
    text = stranger.read_text().replace("generation = 1\n", "generation = 2\n")
    stranger.write_text(text)
    assert other.ask("pin", stranger)[0] != 0


# ---- ends and starts ----


def test_kill_and_start_again(home):
    admin, mount = home.client(start=True), home.client()
    path, _ = admin.volume()
    vid = admin.unlock(path)
    mount.ok("attach", vid)
    before = mount.ok("lease", vid)
    pid = home.keyd_pid()
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)
    assert mount.ask("event")[0] == -107  # ENOTCONN
    assert admin.ask("status")[0] == -107
    admin.ok("connect", home.socket, KEYD)
    assert home.keyd_pid() != pid
    mount.ok("connect", home.socket, "-")
    mount.ok("attach", vid)
    assert mount.ask("lease", vid)[0] == NOKEY
    admin.unlock(path)
    assert mount.ok("event")[0] == "unlocked"
    assert mount.ok("lease", vid) == before


def test_lock_reaches_keys_of_an_earlier_keyd(home):
    admin, mount = home.client(start=True), home.client()
    vid = admin.unlock(admin.volume()[0])
    mount.ok("attach", vid)
    mount.ok("lease", vid)
    pid = home.keyd_pid()
    os.kill(pid, signal.SIGKILL)
    wait_gone(pid)
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
                  ("pin", path), ("add", path, home.dir / "y.ini", "passphrase", "secret", "passphrase", "z")):
        c.send(*words)
        pid = home.keyd_pid()
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid)
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


# ---- who may ----


@needs_root
def test_other_user_is_refused(home):
    home.config.write_text("[access]\nallow_uids = 54321\n")  # opens the socket's modes
    home.dir.chmod(0o711)
    c = home.client(start=True)
    home.config.chmod(0o644)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY.pw_gid)
            os.setuid(NOBODY.pw_uid)
            with home.raw() as s:
                kind, _, result, _ = reply(s)
                code = 0 if (result, kind) == (DENIED, 0x8000 | HELLO) and ended(s) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    c.status()
    refused = [a for a in home.audit() if a["act"] == "connect"]
    assert refused and refused[0]["uid"] == NOBODY.pw_uid


@needs_root
def test_allowed_user_may_use_but_not_administer(home):
    home.config.write_text(f"[access]\nallow_uids = {NOBODY.pw_uid}\n")
    home.config.chmod(0o644)
    home.dir.chmod(0o711)
    admin = home.client(start=True)
    path, _ = admin.volume()
    vid = admin.unlock(path)
    c = home.client(user=NOBODY)
    assert c.ok("lease", vid)[0] == "0"
    assert c.ask("init", "/nowhere", "fast", "no", "passphrase", "x")[0] == DENIED
    assert c.ask("pin", path)[0] == DENIED


@needs_root
def test_same_user_cannot_trace(user_home):
    pid = user_home.start().pid
    libc = ctypes.CDLL(None, use_errno=True)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY.pw_gid)
            os.setuid(NOBODY.pw_uid)
            attached = libc.ptrace(16, pid, 0, 0) == 0
            readable = False
            try:
                open(f"/proc/{pid}/mem", "rb").close()
                readable = True
            except PermissionError:
                pass
            code = 2 if attached or readable else 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    core = [line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if "core file" in line]
    assert core[0].split()[4:6] == ["0", "0"]


def test_cannot_run_programs(home):
    pid = home.start().pid
    status = Path(f"/proc/{pid}/status").read_text()
    assert "\nSeccomp:\t2\n" in status and "\nNoNewPrivs:\t1\n" in status


@needs_root
def test_ordinary_user(user_home):
    c = user_home.client(start=True)
    path, _ = c.volume()
    c.ok("lease", c.unlock(path))
    assert c.status()["uid"] == NOBODY.pw_uid


@needs_root
def test_squatted_socket(home):
    """A socket that another user listens on, in a directory that is ours."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.bind(str(home.socket))
    home.socket.chmod(0o777)
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setuid(NOBODY.pw_uid)
        server.listen()
        os.write(w, b"x")
        server.settimeout(20)
        try:
            s, _ = server.accept()
            os._exit(1 if s.recv(PACKET_MAX) else 0)  # 1: it was told something
        finally:
            os._exit(2)
    os.read(r, 1)
    c = home.client(connect=False)
    code, words = c.ask("connect", home.socket, KEYD)
    assert code == DENIED and "another user" in words
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    server.close()
    home.socket.unlink()


@needs_root
def test_foreign_directory(home):
    c = home.client(connect=False)
    os.chown(home.run, NOBODY.pw_uid, NOBODY.pw_gid)
    assert c.ask("connect", home.socket, KEYD)[0] == DENIED
    os.chown(home.run, 0, 0)
    home.run.chmod(0o777)
    assert c.ask("connect", home.socket, KEYD)[0] == DENIED
    home.run.chmod(0o700)


# ---- hostile clients ----


BAD = {
    "empty packet body cut": b"\x01",
    "other version": packet(HELLO, version=2),
    "unknown type": packet(999),
    "a reply": packet(0x8000 | HELLO, struct.pack("<iH", 0, 0)),
    "a push": packet(0x4001, bytes(32)),
    "unknown flag": packet(HELLO, flags=2),
    "trailing bytes": packet(HELLO, b"x"),
    "cut": packet(UNLOCK, struct.pack("<I", 10) + b"[volume"),
    "length beyond": packet(UNLOCK, struct.pack("<I", 0xFFFFFFFF) + b"x" * 100),
    "unknown credential": packet(UNLOCK, struct.pack("<I", 1) + b"x" + b"\x09" + struct.pack("<I", 1) + b"x" + bytes(4)),
    "unknown flags": packet(UNLOCK, struct.pack("<I", 1) + b"x" + b"\x01" + struct.pack("<I", 1) + b"x" + b"\xff" * 4),
    "small packet with a successor": packet(UNLOCK, b"x", flags=MORE),
    "oversized packet": packet(UNLOCK, bytes(PACKET_MAX + 10)),
}


@pytest.mark.parametrize("what", BAD)
def test_malformed_request_ends_the_connection(home, what):
    good = home.client(start=True)
    with home.raw() as s:
        s.send(BAD[what])
        assert ended(s)
    good.status()
    assert any(a["act"] == "protocol" for a in home.audit())


def test_oversized_message(home):
    good = home.client(start=True)
    with home.raw() as s:
        body = bytes(PACKET_MAX - 8)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(20):
                s.send(packet(UNLOCK, body, flags=MORE))
            s.recv(1)
            raise BrokenPipeError if ended(s) else AssertionError("still there")
    good.status()


def test_mixed_up_pieces(home):
    good = home.client(start=True)
    with home.raw() as s:
        s.send(packet(UNLOCK, bytes(PACKET_MAX - 8), flags=MORE, serial=1))
        s.send(packet(UNLOCK, b"x", serial=2))
        assert ended(s)
    good.status()


def test_slow_client_blocks_nobody(home):
    good = home.client(start=True)
    path, _ = good.volume()
    vid = good.unlock(path)
    with home.raw() as half, home.raw() as deaf:
        half.send(packet(UNLOCK, bytes(PACKET_MAX - 8), flags=MORE))
        deaf.setblocking(False)
        try:
            for i in range(100000):  # asks and never reads
                deaf.send(packet(STATUS, serial=i))
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass
        good.ok("lease", vid)
        assert ended(half)  # after its deadline
    good.status()


def test_leases_go_on_while_argon2id_runs(home):
    slow, mount = home.client(start=True), home.client()
    vid = mount.unlock(mount.volume()[0])
    slow.send("init", home.dir / "slow.ini", "slow", "no", "passphrase", "x")
    mount.ok("lease", vid)
    import select

    assert select.select([slow.process.stdout], [], [], 0)[0] == []
    assert slow.answer()[0] == 0


def test_thousand_connections(home):
    mount = home.client(start=True)
    vid = mount.unlock(mount.volume()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    served, refused, socks = 0, 0, []
    try:
        for _ in range(1000):
            s = home.raw()
            socks.append(s)
            try:
                s.send(packet(HELLO))
            except (BrokenPipeError, ConnectionResetError):
                pass
            try:
                result = reply(s)[2]
            except ConnectionResetError:  # told once that it is over; what was sent can still be read
                result = reply(s)[2]
            served += result == 0
            refused += result == BUSY
        mount.ok("lease", vid)
    finally:
        for s in socks:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (served, refused) == (127, 873)
    home.client().status()


# ---- surroundings ----


def refuse_syscalls(names, error):
    """A preexec_fn: these system calls fail, as in a container."""
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    numbers = [lib.seccomp_syscall_resolve_name(n.encode()) for n in names]

    def load():
        context = ctypes.c_void_p(lib.seccomp_init(0x7FFF0000))
        for n in numbers:
            if lib.seccomp_rule_add(context, 0x00050000 | error, n, 0):
                os._exit(99)
        if lib.seccomp_load(context):
            os._exit(99)

    return load


@pytest.mark.parametrize("names", [["add_key", "keyctl"], ["add_key"]])
@pytest.mark.parametrize("error", [1, 13, 38, 122])
def test_without_keyring_memory_serves(home, names, error):
    home.start(preexec=refuse_syscalls(names, error))
    c = home.client()
    path, _ = c.volume()
    vid = c.unlock(path)
    assert c.status()["keys"] == "memory" and c.status()["volumes"][0]["keys"] == "memory"
    before = c.ok("lease", vid)
    c.ok("lock", vid)
    assert c.ask("lease", vid)[0] == NOKEY
    c.unlock(path)
    assert c.ok("lease", vid) == before


def test_keys_are_not_in_the_callers_keyring(home):
    c = home.client(start=True)
    vid = c.unlock(c.volume()[0])
    if c.status()["keys"] != "keyring":
        pytest.skip("no keyring here")
    mine = [line for line in Path("/proc/keys").read_text().splitlines() if vid in line]
    assert len(mine) == 0 or all(line.split()[4].startswith("0b") and line.split()[4][2:] == "000000" for line in mine)
    c.ok("lock", vid)


def test_what_cannot_be_logged_is_not_done(home):
    def small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))

    home.start(preexec=small_files)
    c = home.client()
    results = [c.ask("init", home.dir / f"{i}.ini", "fast", "no", "passphrase", "x") for i in range(20)]
    assert results[0][0] == 0 and results[-1][0] in (-27, -28)  # EFBIG, or half a line taken back
    assert "audit log" in results[-1][1]
    done = [a for a in home.audit() if a["act"] == "init"]
    assert len(done) == sum(code == 0 for code, _ in results)


def test_no_secret_in_the_log(home):
    c = home.client(start=True)
    path, printed = c.volume(passphrase="very-secret-word", recovery="recovery")
    c.unlock(path, "very-secret-word")
    c.ask("unlock", path, "passphrase", "nearly-secret-word")
    text = (home.state / "audit.log").read_text()
    assert "secret-word" not in text and printed[0] not in text
