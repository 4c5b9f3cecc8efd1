"""latch init: what it makes, and that a refusal or a failure leaves nothing."""

import os
import resource
import shutil
import signal
import stat

import pytest

import harness
from clibox import refused, tree
from harness import IO, NOKEY, OK, USAGE


def test_init(latch, workdir, passfile):
    vol = workdir / "vol"
    latch("init", "--fast-kdf", "--passphrase-file", passfile, "--recovery-file", workdir / "rec", "--label", "first one",
          "--suite", "chacha20-poly1305", vol).ok()
    assert sorted(os.listdir(vol))[0].startswith("latchfs.")
    assert {"latchfs.ini", "latchfs.dir"} <= set(os.listdir(vol))
    assert not [n for n in os.listdir(vol) if n.startswith("latchfs.tmp")]
    assert stat.S_IMODE((workdir / "rec").stat().st_mode) == 0o600
    shown = latch("inspect", vol / "latchfs.ini").ok().out
    assert "chacha20-poly1305" in shown and "for tests only" in shown and "first one" in shown
    assert "for tests only" in latch("slot", "list", vol).ok().out
    assert "slot 1 opens" in latch("slot", "test", "--passphrase-file", passfile, vol).ok().out
    assert "slot 2 opens" in latch("slot", "test", "--recovery-file", workdir / "rec", vol).ok().out


def test_init_keeps_an_empty_directory(latch, workdir, passfile):
    vol = workdir / "vol"
    vol.mkdir(mode=0o750)
    latch("init", "--fast-kdf", "--passphrase-file", passfile, "--no-recovery", vol).ok()
    assert stat.S_IMODE(vol.stat().st_mode) == 0o750
    assert latch("slot", "list", vol).ok().out.count("\n") == 2


def test_a_new_volume_is_locked(volume):
    refused(volume.lock(), NOKEY)


def test_slow_kdf_is_the_default(latch, workdir, passfile):
    latch("init", "--passphrase-file", passfile, "--no-recovery", workdir / "vol").ok()
    assert "tests only" not in latch("slot", "list", workdir / "vol").ok().out


def init(latch, workdir, passfile, *more, **how):
    return latch("init", "--fast-kdf", "--passphrase-file", passfile, "--recovery-file", workdir / "rec", *more,
                 workdir / "vol", **how)


def test_init_refuses_a_directory_in_use(latch, workdir, passfile):
    (workdir / "vol").mkdir()
    (workdir / "vol" / "precious").write_text("x")
    before = tree(workdir)
    refused(init(latch, workdir, passfile), USAGE, "not empty")
    assert tree(workdir) == before


def test_init_refuses_a_volume(latch, volume, workdir, passfile):
    before = tree(workdir)
    refused(latch("init", "--fast-kdf", "--passphrase-file", passfile, "--no-recovery", volume.path), USAGE, "already")
    assert tree(workdir) == before


def test_init_refuses_a_file(latch, workdir, passfile):
    (workdir / "vol").write_text("x")
    refused(init(latch, workdir, passfile), IO)
    assert (workdir / "vol").read_text() == "x"


def test_init_needs_the_parent(latch, workdir, passfile):
    before = tree(workdir)
    refused(latch("init", "--fast-kdf", "--passphrase-file", passfile, "--recovery-file", workdir / "rec",
                  workdir / "no" / "vol"), IO)
    assert tree(workdir) == before


def test_init_does_not_overwrite_a_recovery_file(latch, workdir, passfile):
    (workdir / "rec").write_text("older")
    before = tree(workdir)
    refused(init(latch, workdir, passfile), IO, "rec")
    assert tree(workdir) == before


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 1025], ids=["empty", "newline", "long"])
def test_init_refuses_unfit_passphrases(latch, workdir, passfile, content):
    passfile.write_bytes(content)
    before = tree(workdir)
    refused(init(latch, workdir, passfile), USAGE)
    assert tree(workdir) == before


@pytest.mark.parametrize("source", [
    ["--passphrase-file", "/nonexistent"], ["--passphrase-fd", "77"], ["--passphrase-fd", "x"],
    ["--passphrase-command", "exit 3"], ["--keyfile", "/nonexistent"],
    ["--passphrase-fd", "0", "--passphrase-command", "echo x"], [],
])
def test_init_refuses_unfit_sources(latch, workdir, source):
    before = tree(workdir)
    result = latch("init", "--fast-kdf", "--no-recovery", *source, workdir / "vol")
    refused(result, IO if "/nonexistent" in source else 1 if source[1:] == ["exit 3"] else USAGE)
    assert tree(workdir) == before


def test_init_by_short_key_file(latch, workdir):
    (workdir / "key").write_bytes(b"short")
    before = tree(workdir)
    result = latch("init", "--no-recovery", "--keyfile", workdir / "key", workdir / "vol")
    assert result.returncode != OK and result.err.count("\n") == 1
    assert tree(workdir) == before


def test_init_with_no_room_leaves_nothing(latch, workdir, passfile):
    """Every write fails: of the recovery file, of the directory record, of the key store."""

    def no_room():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    before = tree(workdir)
    refused(init(latch, workdir, passfile, preexec_fn=no_room), IO)
    assert tree(workdir) == before


def test_init_without_permission(latch, workdir, passfile, user, bins):
    with harness.Keyd(bins, workdir / "keyd-user", user=user) as own:
        os.chown(passfile, user.pw_uid, user.pw_gid)
        before = tree(workdir)
        refused(init(latch, workdir, passfile, "--no-recovery", env=own.env, user=user), USAGE)
        refused(latch("init", "--fast-kdf", "--passphrase-file", passfile, "--no-recovery", workdir / "vol",
                      env=own.env, user=user), IO, "Permission")
        assert tree(workdir) == before


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize("call", ["renameat", "fsync", "fchmod"])
def test_init_with_a_failing_disk_leaves_nothing(bins, keyd, workdir, passfile, call):
    """The n-th of these calls fails, until none does any more."""
    before = tree(workdir)
    for when in range(1, 20):
        result = harness.run(["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                              f"inject={call}:error=EIO:when={when}", bins.latch, "init", "--fast-kdf",
                              "--passphrase-file", passfile, "--recovery-file", workdir / "rec", workdir / "vol"],
                             env={**keyd.env, "ASAN_OPTIONS": "detect_leaks=0"})
        if result.returncode == OK:
            break
        refused(result, IO)
        assert tree(workdir) == before
    assert when > 1, f"init has no {call} that could fail"
    harness.run([bins.latch, "slot", "list", workdir / "vol"], env=keyd.env).ok()


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize("call,when", [("openat", 25), ("renameat", 1), ("renameat", 2), ("fsync", 1), ("fsync", 2)])
def test_a_killed_init_leaves_no_half_volume(bins, keyd, latch, workdir, passfile, call, when):
    trace = ["strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e",
             f"inject={call}:signal=KILL:when={when}"]
    result = harness.run([*trace, bins.latch, "init", "--fast-kdf", "--passphrase-file", passfile, "--no-recovery",
                          workdir / "vol"], env={**keyd.env, "ASAN_OPTIONS": "detect_leaks=0"})
    killed = result.returncode != 0
    ini = workdir / "vol" / "latchfs.ini"
    if ini.exists():  # whole, if it is there at all
        latch("slot", "test", "--passphrase-file", passfile, workdir / "vol").ok()
        return
    assert killed
    again = latch("init", "--fast-kdf", "--passphrase-file", passfile, "--no-recovery", workdir / "vol")
    if again.returncode != OK:
        refused(again, USAGE, "cut")
