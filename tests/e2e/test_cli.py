"""The command line: help, usage, mount, umount, lock, unlock, status, and their exit codes."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

import harness
from clibox import refused, tree
from harness import BUSY, IO, NOKEY, NOTVOLUME, OK, USAGE, WRONG_PASSPHRASE


COMMANDS = ["init", "mount", "umount", "status", "slot", "passwd", "header",
            "recipient", "protect", "rotate", "key", "backup", "shred", "approve", "lock", "unlock", "inspect", "fsck", "verify", "scrub", "freeze", "thaw",
            "path", "version",
            "help"]


# ---- help and usage ----


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command(latch, command):
    for call in ([command, "--help"], ["help", command]):
        result = latch(*call).ok()
        assert result.out.startswith(f"usage: latch {command}") and not result.err


def test_list_and_version(latch):
    listed = latch("help").ok().out
    assert all(f"  {c} " in listed for c in COMMANDS)
    assert latch("--help").ok().out == listed
    assert latch("version").ok().out.startswith("latch ")
    nothing = latch()
    assert nothing.returncode == USAGE and "usage" in nothing.err


@pytest.mark.parametrize("words", [
    ["frobnicate"], ["help", "frobnicate"], ["init"], ["init", "a", "b"], ["init", "--frob", "a"], ["init", "-x", "a"],
    ["init", "--suite"], ["init", "--suite", "rot13", "a"], ["init", "--label", "", "a"], ["init", "--label", "a\nb", "a"],
    ["init", "--recovery-file", "r", "--no-recovery", "a"], ["mount", "a"], ["mount", "a", "b", "c"], ["umount"],
    ["status", "x"], ["status", "--xml"], ["slot"], ["slot", "list"], ["slot", "melt", "a"], ["slot", "remove", "a"],
    ["slot", "list", "--label", "x", "a"], ["lock"], ["unlock"], ["inspect"], ["inspect", "a", "b"], ["version", "x"],
])
def test_usage(latch, words):
    refused(latch(*words), USAGE)


def test_a_full_standard_output_is_an_error(bins, keyd):
    with open("/dev/full", "wb") as full:
        p = subprocess.run([bins.latch, "help"], stdout=full, stderr=subprocess.PIPE, env=keyd.env, check=False)
    assert p.returncode == IO and b"standard output" in p.stderr


# ---- mount, umount ----


def test_mount_and_umount(volume):
    with volume.mount() as m:
        (m / "file").write_text("content")
        pid = m.pid
        assert m.umount().ok().err == ""
        assert not m.is_mounted()
        assert not Path(f"/proc/{pid}").exists() or not harness._is_running(pid)
    with volume.mount() as m:
        assert (m / "file").read_text() == "content"


def test_wrong_passphrase_mounts_nothing(volume, workdir):
    before = tree(volume.path)
    volume.passfile.write_text("wrong")
    mount = volume.mount()
    refused(mount.mount(), WRONG_PASSPHRASE)
    assert not mount.is_mounted() and tree(volume.path) == before


def test_an_unlocked_volume_mounts_without_asking(latch, volume, workdir):
    volume.unlock().ok()
    mount = volume.mount()
    mount.path.mkdir()
    try:
        latch("mount", volume.path, mount.path).ok()
        assert mount.is_mounted()
    finally:
        mount.umount()
        mount.force_away()


def test_mount_point_refusals(latch, volume, workdir):
    def mount(*words):
        return latch("mount", "--passphrase-file", volume.passfile, *words)

    full = workdir / "full"
    full.mkdir()
    (full / "x").write_text("x")
    inside = volume.path / "inside"
    refused(mount(volume.path, workdir / "nothing"), IO, "nothing")
    refused(mount(volume.path, volume.passfile), IO)
    refused(mount(volume.path, full), BUSY, "not empty")
    (workdir / "point").mkdir()
    refused(mount("-o", "frob", volume.path, workdir / "point"), USAGE, "frob")
    inside.mkdir()
    refused(mount(volume.path, inside), USAGE, "inside")
    inside.rmdir()
    refused(mount(volume.path, workdir), USAGE)
    assert not harness.daemon_pids(volume.path)


def test_second_mount_is_busy(latch, volume, workdir):
    with volume.mount() as m:
        (m / "file").write_text("x")
        refused(latch("mount", volume.path, m.path), BUSY)
        other = workdir / "other"
        other.mkdir()
        refused(latch("mount", volume.path, other), BUSY)
        assert harness.mount_device(other) is None
        assert (m / "file").read_text() == "x"


def test_foreground(bins, volume):
    volume.unlock().ok()
    mount = volume.mount()
    mount.path.mkdir()
    process = subprocess.Popen([bins.latch, "mount", "--foreground", volume.path, mount.path], env=volume.keyd.env,
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        harness.wait_until(mount.is_mounted, what="the mount")
        (mount / "file").write_text("x")
        process.terminate()
        assert process.wait(60) == OK
        assert not mount.is_mounted()
    finally:
        process.kill()
        process.wait()
        mount.force_away()


def test_umount_says_who_holds_it(volume):
    with volume.mount() as m:
        (m / "file").write_text("x")
        sleeper = subprocess.Popen(["sleep", "600"], cwd=m.path)
        try:
            refused(m.umount(), BUSY, "sleep", str(sleeper.pid))
            assert m.is_mounted() and (m / "file").read_text() == "x"
        finally:
            sleeper.kill()
            sleeper.wait()
        with open(m / "file"):
            refused(m.umount(), BUSY, str(os.getpid()))


def test_umount_of_nothing(latch, workdir):
    refused(latch("umount", workdir), NOTVOLUME)
    refused(latch("umount", "/proc"), NOTVOLUME)
    refused(latch("umount", workdir / "nothing"), NOTVOLUME)
    refused(latch("umount", ""), NOTVOLUME)


def test_umount_of_a_dead_mount(volume):
    with volume.mount() as m:
        pid = m.pid
        os.kill(pid, signal.SIGKILL)
        harness.wait_until(lambda: not harness._is_running(pid), what="latchfs to die")
        m.umount()
        assert not m.is_mounted()


def test_ordinary_user(bins, user, workdir):
    home = workdir / "home"
    home.mkdir()
    os.chown(home, user.pw_uid, user.pw_gid)
    with harness.Keyd(bins, workdir / "k", user=user) as own:
        volume = harness.Volume(own, home / "vol", user=user).create()
        with volume.mount() as m:
            harness.run(["sh", "-c", f"echo text > {m.path}/file"], user=user).ok()
            assert harness.run(["cat", m / "file"], user=user).ok().out == "text\n"
            listed = json.loads(volume.latch("status", "--json").ok().out)
            assert [x["mountpoint"] for x in listed["mounts"]] == [str(m.path)]


# ---- lock, unlock, status ----


def mounts_of(latch, volume):
    return [m for m in json.loads(latch("status", "--json").ok().out)["mounts"] if m["volume"] == str(volume.path)]


def test_status(latch, volume):
    with volume.mount() as m:
        (m / "file").write_text("x")
        [shown] = mounts_of(latch, volume)
        assert shown["mountpoint"] == str(m.path) and shown["pid"] == m.pid and not shown["locked"]
        known = json.loads(latch("status", "--json").out)["keyd"]["volumes"]
        assert [v["unlocked"] for v in known if v["id"] == shown["volume_id"]] == [True]
        table = latch("status").ok().out
        assert str(m.path) in table and "unlocked" in table
    assert mounts_of(latch, volume) == []


def test_status_without_keyd(bins, workdir):
    stopped = harness.Keyd(bins, workdir / "none")
    result = harness.run([bins.latch, "status", "--json"], env=stopped.env).ok()
    assert json.loads(result.out)["keyd"] is None
    assert "not running" in harness.run([bins.latch, "status"], env=stopped.env).ok().out
    assert not stopped.socket.exists()


def test_lock_and_unlock(latch, volume):
    with volume.mount() as m:
        (m / "file").write_text("content")
        assert "locked" in volume.lock().ok().out
        with pytest.raises(OSError) as refusal:
            (m / "file").read_text()
        assert refusal.value.errno == 126  # ENOKEY
        assert mounts_of(latch, volume)[0]["locked"]
        refused(volume.lock(), NOKEY)
        volume.unlock().ok()
        harness.wait_until(lambda: not mounts_of(latch, volume)[0]["locked"], what="the keys")
        assert (m / "file").read_text() == "content"


def test_lock_without_keyd(bins, volume):
    volume.keyd.stop()
    refused(volume.lock(), NOKEY, "not running")


def test_unlock_refusals(latch, volume):
    before = tree(volume.path)
    refused(latch("unlock", "--passphrase-fd", "0", volume.path, input="wrong"), WRONG_PASSPHRASE)
    refused(latch("unlock", "--keyfile", volume.passfile, volume.path), WRONG_PASSPHRASE)
    refused(volume.lock(), NOKEY)
    assert tree(volume.path) == before


# ---- a squatted socket ----


@pytest.fixture
def squatted(bins, workdir, user):
    """The path of keyd's socket is served by another user, who would like to have a passphrase."""
    place = workdir / "squat"
    keyd = harness.Keyd(bins, place)
    os.chown(place, 0, 0)
    place.chmod(0o755)
    listener = subprocess.Popen(
        ["/usr/bin/python3", "-c", f"""
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind({str(keyd.socket)!r}); os.chmod({str(keyd.socket)!r}, 0o666)
os.setgid({user.pw_gid}); os.setuid({user.pw_uid})
s.listen(); print("ready", flush=True)
while True:
    c, _ = s.accept()
    c.settimeout(5)
    try:
        print(len(c.recv(65536)), flush=True)
    except OSError:
        print("nothing", flush=True)
"""], stdout=subprocess.PIPE, text=True)
    assert listener.stdout.readline() == "ready\n"
    yield keyd
    listener.kill()
    heard = listener.stdout.read()
    listener.wait()
    assert not any(line.isdigit() and int(line) > 0 for line in heard.splitlines()), heard


def test_a_squatter_gets_nothing(latch, volume, workdir, squatted):
    point = workdir / "point"
    point.mkdir()
    before = tree(volume.path)
    with_pass = ["--passphrase-file", volume.passfile]
    for words in (["unlock", *with_pass, volume.path], ["lock", volume.path], ["mount", *with_pass, volume.path, point],
                  ["slot", "test", *with_pass, volume.path],
                  ["init", "--fast-kdf", *with_pass, "--no-recovery", workdir / "new"], ["status"]):
        refused(latch(*words, env=squatted.env), NOKEY, "another user")
    assert tree(volume.path) == before and not (workdir / "new").exists()
