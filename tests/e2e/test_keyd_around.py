"""latch-keyd: what surrounds it: the kernel's keyring, the audit log."""

import ctypes
import os
import resource
import signal
from pathlib import Path

import pytest

from keydbox import NOKEY, home  # noqa: F401 (home)


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
