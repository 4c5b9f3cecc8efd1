"""latch-keyd: who may ask what."""

import ctypes
import os
import socket
from pathlib import Path

from keydbox import DENIED, HELLO, KEYD, NOBODY, PACKET_MAX, ended, home, needs_root, reply, user_home  # noqa: F401


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
