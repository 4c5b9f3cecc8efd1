"""The command line: every command, every exit code, and that a refusal changes nothing on disk."""

import json
import os
import random
import resource
import shutil
import signal
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest

import harness
from harness import BUSY, CORRUPT, IO, NOKEY, NOTVOLUME, OK, PASSPHRASE, USAGE, WRONG_PASSPHRASE

COMMANDS = ["init", "mount", "umount", "status", "slot", "lock", "unlock", "inspect", "version", "help"]


def refused(result, code, *words):
    """One line of error that names what it is about, and the code."""
    assert result.returncode == code, (result.returncode, result.out, result.err)
    lines = result.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith(("latch: ", "latchfs: ")), result.err
    for word in words:
        assert word in lines[0], (word, lines[0])


def tree(path):
    """Everything about a tree that a refused command must leave alone (latch-keyd's own directories apart)."""
    found = {}
    for p in sorted([Path(path), *Path(path).rglob("*")]):
        if any(part.startswith("keyd") for part in p.relative_to(path).parts):
            continue
        st = p.lstat()
        data = p.read_bytes() if stat.S_ISREG(st.st_mode) else None
        found[str(p)] = (st.st_mode, st.st_uid, st.st_ino, data)
    return found


def flip(path, at, bit=0):
    data = bytearray(Path(path).read_bytes())
    data[at] ^= 1 << bit
    Path(path).write_bytes(data)


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


# ---- init ----


@pytest.fixture
def passfile(workdir):
    path = workdir / "pass"
    path.write_text(PASSPHRASE + "\n")
    path.chmod(0o600)
    return path


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


# ---- where passphrases come from ----


def test_every_source_opens(latch, volume, workdir):
    def opens(*source, **more):
        return latch("slot", "test", *source, volume.path, **more)

    for content in (PASSPHRASE, PASSPHRASE + "\n"):
        volume.passfile.write_text(content)
        opens("--passphrase-file", volume.passfile).ok()
        opens("--passphrase-fd", "0", input=content).ok()
        opens("--passphrase-command", f"cat {volume.passfile}").ok()
    volume.passfile.write_text(PASSPHRASE + "\n\n")
    refused(opens("--passphrase-file", volume.passfile), WRONG_PASSPHRASE)
    refused(opens("--passphrase-fd", "0", input=""), WRONG_PASSPHRASE)
    refused(opens("--passphrase-command", "echo; exit 1"), 1, "command failed")
    refused(opens(), USAGE, "--passphrase-file")
    refused(opens("--recovery"), USAGE, "--recovery-file")


def test_recovery_key_with_a_typing_error(latch, volume, workdir):
    key = volume.recovery.read_text()
    wrong = workdir / "wrong"
    wrong.write_text(("0" if key[0] != "0" else "1") + key[1:])
    refused(latch("slot", "test", "--recovery-file", wrong, volume.path), WRONG_PASSPHRASE)
    wrong.write_text("  ".join([key.lower().replace("-", " ").strip(), "\n\n"]))
    latch("slot", "test", "--recovery-file", wrong, volume.path).ok()


def test_secrets_stay_out_of_messages(latch, volume):
    for result in (latch("unlock", "--passphrase-fd", "0", volume.path, input="a wrong secret"),
                   latch("slot", "test", "--passphrase-fd", "0", volume.path, input="a wrong secret")):
        refused(result, WRONG_PASSPHRASE)
        assert "wrong secret" not in result.err + result.out


# ---- slots ----


def test_slots(latch, volume, workdir):
    key = workdir / "key"
    key.write_bytes(os.urandom(64))
    assert "slot 3 added" in latch("slot", "add", "--passphrase-file", volume.passfile, "--new-keyfile", key, "--label",
                                   "stick", volume.path).ok().out
    assert "slot 3 opens" in latch("slot", "test", "--keyfile", key, volume.path).ok().out
    assert "stick" in latch("slot", "list", volume.path).ok().out
    again = latch("slot", "add", "--keyfile", key, "--new-recovery-file", workdir / "rec2", volume.path).ok()
    assert "slot 4 added" in again.out
    latch("slot", "test", "--recovery-file", workdir / "rec2", volume.path).ok()
    latch("slot", "add", "--fast-kdf", "--keyfile", key, "--new-passphrase-fd", "0", volume.path, input="another").ok()
    assert "slot 5 opens" in latch("slot", "test", "--passphrase-fd", "0", volume.path, input="another").ok().out
    latch("slot", "remove", "--keyfile", key, volume.path, "1").ok()
    refused(latch("slot", "test", "--passphrase-file", volume.passfile, volume.path), WRONG_PASSPHRASE)
    assert latch("slot", "list", volume.path).ok().out.count("\n") == 5


def test_slot_refusals(latch, volume, workdir):
    before = tree(volume.path)
    with_pass = ["--passphrase-file", volume.passfile]
    refused(latch("slot", "add", "--passphrase-fd", "0", "--new-recovery-file", workdir / "r", volume.path, input="no"),
            WRONG_PASSPHRASE)
    assert not (workdir / "r").exists()
    refused(latch("slot", "add", *with_pass, "--new-recovery", volume.path), USAGE, "terminal")
    refused(latch("slot", "add", *with_pass, "--new-recovery", "--new-keyfile", volume.passfile, volume.path), USAGE)
    refused(latch("slot", "add", *with_pass, "--new-recovery-file", volume.passfile, volume.path), IO)
    refused(latch("slot", "remove", *with_pass, volume.path, "9"), USAGE, "9")
    refused(latch("slot", "remove", *with_pass, volume.path, "first"), USAGE)
    refused(latch("slot", "list", workdir), NOTVOLUME)
    assert tree(volume.path) == before


def test_the_last_slot_stays(latch, volume):
    with_pass = ["--passphrase-file", volume.passfile]
    latch("slot", "remove", *with_pass, volume.path, "2").ok()
    before = tree(volume.path)
    refused(latch("slot", "remove", *with_pass, volume.path, "1"), NOKEY)
    assert tree(volume.path) == before


def test_a_change_keeps_the_previous_copy_and_the_owner(latch, volume, workdir):
    ini = volume.path / "latchfs.ini"
    ini.chmod(0o640)
    os.chown(ini, 65534, 65534)
    before = ini.read_bytes()
    latch("slot", "add", "--passphrase-file", volume.passfile, "--new-recovery-file", workdir / "r", volume.path).ok()
    assert (volume.path / "latchfs.ini.bak").read_bytes() == before != ini.read_bytes()
    st = ini.stat()
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o640, 65534, 65534)


def test_an_older_key_store_needs_an_override(latch, volume, workdir):
    ini = volume.path / "latchfs.ini"
    old = ini.read_bytes()
    latch("slot", "add", "--passphrase-file", volume.passfile, "--new-recovery-file", workdir / "r", volume.path).ok()
    ini.write_bytes(old)
    refused(volume.unlock(), CORRUPT)
    latch("unlock", "--accept-older", "--passphrase-file", volume.passfile, volume.path).ok()


# ---- volumes that are none, or damaged ----


def every_command_on(latch, volume, workdir):
    """The commands that read a volume, each with a secret at hand."""
    point = workdir / "point"
    point.mkdir(exist_ok=True)
    with_pass = ["--passphrase-file", volume.passfile]
    yield latch("mount", *with_pass, volume.path, point)
    yield latch("unlock", *with_pass, volume.path)
    yield latch("lock", volume.path)
    yield latch("slot", "list", volume.path)
    yield latch("slot", "test", *with_pass, volume.path)
    yield latch("slot", "add", *with_pass, "--new-recovery-file", workdir / "r", volume.path)
    yield latch("slot", "remove", *with_pass, volume.path, "2")
    assert not os.path.ismount(point)


def break_volume(volume, how):
    ini = volume.path / "latchfs.ini"
    text = ini.read_text()
    if how == "missing":
        ini.unlink()
    elif how == "empty":
        ini.write_text("")
    elif how == "cut":
        ini.write_text(text[: len(text) // 2])
    elif how == "flipped":
        flip(ini, text.index("sealed") + 20)
    elif how == "binary":
        ini.write_bytes(os.urandom(4096))
    elif how == "huge":
        ini.write_text(text + "#" * (1 << 20))
    elif how == "version":
        ini.write_text(text.replace("format = 1", "format = 99").replace("format=1", "format=99"))
    elif how == "suite":
        ini.write_text(text.replace("aes-256-gcm", "rot13").replace("chacha20-poly1305", "rot13"))
    elif how == "flag":
        ini.write_text(text.replace("[slot 1]\n", "[slot 1]\nflag = 1\n"))
    elif how == "directory":
        ini.unlink()
        ini.mkdir()
    assert how == "missing" or how == "directory" or ini.read_bytes() != text.encode()


@pytest.mark.parametrize("how", ["missing", "empty", "cut", "flipped", "binary", "huge", "version", "suite", "flag",
                                 "directory"])
def test_damaged_key_store(latch, volume, workdir, how):
    latch("slot", "add", "--passphrase-file", volume.passfile, "--new-recovery-file", workdir / "r0", volume.path).ok()
    break_volume(volume, how)
    before = tree(volume.path)
    for result in every_command_on(latch, volume, workdir):
        refused(result, CORRUPT, "latchfs.ini.bak")
    assert tree(volume.path) == before and not (workdir / "r").exists()


def test_damaged_key_store_without_a_copy(latch, volume, workdir):
    break_volume(volume, "missing")
    for result in every_command_on(latch, volume, workdir):
        refused(result, CORRUPT, "latchfs.ini: missing", "backup")


def test_not_a_volume(latch, volume, workdir):
    for path in (workdir / "nothing", volume.passfile, workdir / "empty"):
        (workdir / "empty").mkdir(exist_ok=True)
        volume.path = path
        for result in every_command_on(latch, volume, workdir):
            refused(result, NOTVOLUME, path.name)


@pytest.mark.parametrize("how", ["missing", "cut", "magic", "id", "mac"])
def test_a_damaged_root_record_is_never_believed(volume, how):
    """Refused at mount, or nothing in it can be read or changed."""
    with volume.mount() as m:
        (m / "file").write_text("x")
    record = volume.path / "latchfs.dir"
    kept = record.read_bytes()
    if how == "missing":
        record.unlink()
    elif how == "cut":
        record.write_bytes(kept[:511])
    else:
        flip(record, {"magic": 0, "id": 20, "mac": 500}[how])
    mount = volume.mount()
    try:
        result = mount.mount()
        if result.returncode != OK:
            refused(result, CORRUPT)
        else:
            for act in (lambda: os.listdir(mount.path), lambda: (mount / "file").read_text(),
                        lambda: (mount / "new").write_text("x")):
                with pytest.raises(OSError):
                    act()
    finally:
        mount.umount()
        mount.force_away()
    if how == "missing":
        assert not record.exists()
    record.write_bytes(kept)
    with volume.mount() as m:
        assert os.listdir(m.path) == ["file"] and (m / "file").read_text() == "x"


def test_mount_without_journal(volume):
    with volume.mount() as m:
        (m / "file").write_text("x")
    journal = volume.path / "latchfs.journal"
    kept = journal.read_bytes()
    journal.unlink()
    mount = volume.mount()
    try:
        refused(mount.mount(), CORRUPT, "journal")
    finally:
        mount.force_away()
    assert not journal.exists()
    journal.write_bytes(kept)
    with volume.mount() as m:
        assert (m / "file").read_text() == "x"


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


# ---- inspect ----


@pytest.fixture
def shapes(volume):
    """A volume with one of every kind of file in it, unmounted. Maps a kind to a path."""
    with volume.mount() as m:
        (m / "empty").write_bytes(b"")
        (m / "inline").write_bytes(b"x" * 100)
        (m / "paged").write_bytes(b"x" * 10000)
        (m / ("n" * 255)).write_bytes(b"y")
        os.symlink("target", m / "link")
        (m / "dir").mkdir()
    found = {"dirrec": volume.path / "latchfs.dir", "ini": volume.path / "latchfs.ini",
             "journal": volume.path / "latchfs.journal"}
    for path in volume.path.iterdir():
        size = path.lstat().st_size
        if path.is_symlink():
            found["link"] = path
        elif path.is_dir():
            found["subdir"] = path / "latchfs.dir"
        elif path.name.startswith("latchfs.long."):
            found["sidecar" if path.name.endswith(".name") else "long"] = path
        elif not path.name.startswith("latchfs."):
            found["empty" if size == 0 else "inline" if size <= 4096 else "paged"] = path
    return found


def test_inspect_every_kind(latch, shapes):
    expected = {
        "empty": ["encrypted file", "never had content"], "inline": ["state", "inline", "size                 100"],
        "paged": ["paged", "size                 10000", "key version", "generation", "seal"],
        "long": ["long name"], "sidecar": ["long name", "name's length        255"], "link": ["symbolic link", "6"],
        "dirrec": ["directory record", "root of the volume"], "subdir": ["directory record", "parent id"],
        "ini": ["key store", "volume id", "argon2id", "for tests only", "master key"], "journal": ["journal", "clean"],
    }
    assert set(expected) == set(shapes)
    for kind, words in expected.items():
        out = latch("inspect", shapes[kind]).ok().out
        assert all(w in out for w in words), (kind, out)
    assert "root of the volume" not in latch("inspect", shapes["subdir"]).out


def test_inspect_a_copy_under_another_name(latch, shapes, workdir):
    for kind, word in (("paged", "encrypted file"), ("ini", "key store"), ("dirrec", "directory record"),
                       ("journal", "journal")):
        copy = workdir / f"{kind}.copy"
        shutil.copy(shapes[kind], copy)
        assert word in latch("inspect", copy).ok().out


def test_inspect_says_corrupt(latch, shapes, workdir):
    def changed(kind, change):
        copy = workdir / "copies" / kind / shapes[kind].name
        copy.parent.mkdir(parents=True, exist_ok=True)
        data = bytearray(shapes[kind].read_bytes())
        change(data)
        copy.write_bytes(data)
        return latch("inspect", copy)

    def put(at, value):
        return lambda data: data.__setitem__(at, value)

    def cut(length):
        return lambda data: data.__delitem__(slice(length, None))

    refused(changed("inline", cut(511)), CORRUPT, "corrupt")
    refused(changed("inline", put(0, 0)), CORRUPT, "corrupt")
    refused(changed("paged", put(8, 99)), CORRUPT, "unknown version")
    refused(changed("paged", put(10, 99)), CORRUPT, "unknown")
    refused(changed("paged", put(12, 1)), CORRUPT, "unknown")
    refused(changed("dirrec", cut(500)), CORRUPT)
    refused(changed("dirrec", put(8, 99)), CORRUPT, "unknown version")
    refused(changed("sidecar", put(5, ord("!"))), CORRUPT)
    refused(changed("sidecar", cut(10)), CORRUPT)
    refused(changed("sidecar", lambda d: d.__setitem__(5, ord("A") if d[5] != ord("A") else ord("B"))), CORRUPT, "hash")
    refused(changed("journal", cut(100)), CORRUPT)
    refused(changed("ini", cut(300)), CORRUPT)
    refused(changed("ini", lambda data: data.extend(b"x")), CORRUPT)
    assert "never reached the disk" in changed("paged", lambda d: d.__setitem__(slice(0, 4096), bytes(4096))).ok().out


def test_inspect_refuses_other_things(latch, volume, workdir):
    os.mkfifo(workdir / "latchfs.dir")
    refused(latch("inspect", workdir / "latchfs.dir"), USAGE)
    refused(latch("inspect", volume.path), USAGE, "directory")
    refused(latch("inspect", workdir / "nothing"), IO)
    (workdir / "notes.txt").write_text("hello")
    refused(latch("inspect", workdir / "notes.txt"), NOTVOLUME)
    os.symlink("../etc/passwd", workdir / "AAA")
    refused(latch("inspect", workdir / "AAA"), CORRUPT)


@pytest.mark.parametrize("kind", ["inline", "paged", "dirrec", "subdir", "journal", "ini", "sidecar", "long"])
def test_inspect_survives_hostile_bytes(latch, shapes, workdir, kind):
    """A fixed run of flips and cuts: an answer or exit code 5, and never a signal or a control character."""
    rng = random.Random(kind)
    copy = workdir / "hostile" / shapes[kind].name
    copy.parent.mkdir()
    original = shapes[kind].read_bytes()[:16384]
    for _ in range(60):
        data = bytearray(original)
        for _ in range(rng.choice([1, 1, 2, 8])):
            data[rng.randrange(min(len(data), 1024))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)):]
        copy.write_bytes(data)
        result = latch("inspect", copy)
        assert result.returncode in (OK, CORRUPT), (result, bytes(data))
        assert not any(ord(c) < 32 and c != "\n" for c in result.out + result.err)


# ---- the terminal ----


class Terminal:
    """A program on a pseudo terminal of its own: what it shows, and what a person types."""

    def __init__(self, argv, env):
        self.master, slave = os.openpty()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *map(str, argv)], stdin=slave, stdout=slave, stderr=slave, env=env, cwd="/",
            start_new_session=False,
        )
        os.close(slave)
        self.shown = ""

    def _read(self):
        try:
            data = os.read(self.master, 4096)
        except OSError:
            data = b""
        self.shown += data.decode(errors="replace")
        return bool(data)

    def expect(self, text):
        guard = threading.Timer(60, self.process.kill)
        guard.start()
        try:
            while text not in self.shown:
                assert self._read(), f"no {text!r} in {self.shown!r}"
        finally:
            guard.cancel()
        self.shown = self.shown.split(text, 1)[1]

    def type(self, text):
        os.write(self.master, text.encode() + b"\n")

    def end(self):
        """The exit code and all that was shown since the last expect."""
        while self._read():
            pass
        os.close(self.master)
        return self.process.wait(60), self.shown


@pytest.fixture
def terminal(bins, keyd):
    opened = []

    def start(*words):
        opened.append(Terminal([bins.latch, *words], keyd.env))
        return opened[-1]

    yield start
    for t in opened:
        t.process.kill()
        t.process.wait()


def test_init_asks_twice_and_shows_the_recovery_key_once(terminal, latch, workdir):
    t = terminal("init", "--fast-kdf", workdir / "vol")
    t.expect("New passphrase")
    t.type("typed secret")
    t.expect("again")
    t.type("typed secret")
    t.expect("recovery key ----")
    t.expect("\n")
    code, shown = t.end()
    assert code == OK and "typed secret" not in shown
    key = next(line for line in shown.splitlines() if line.count("-") == 12 and line[0] != "-")
    assert shown.count(key) == 1
    latch("slot", "test", "--passphrase-fd", "0", workdir / "vol", input="typed secret").ok()
    (workdir / "rec").write_text(key)
    latch("slot", "test", "--recovery-file", workdir / "rec", workdir / "vol").ok()


def test_two_different_passphrases_make_nothing(terminal, workdir):
    t = terminal("init", "--fast-kdf", workdir / "vol")
    t.expect("New passphrase")
    t.type("one")
    t.expect("again")
    t.type("two")
    code, shown = t.end()
    assert code == USAGE and "differ" in shown and not (workdir / "vol").exists()


def test_a_typed_passphrase_has_three_tries(terminal, volume, latch):
    t = terminal("unlock", volume.path)
    for word in ("wrong", "wrong too", PASSPHRASE):
        t.expect("Passphrase")
        t.type(word)
    code, shown = t.end()
    assert code == OK and PASSPHRASE not in shown
    latch("lock", volume.path).ok()
    t = terminal("unlock", volume.path)
    for word in ("wrong", "wrong too", "and again"):
        t.expect("Passphrase")
        t.type(word)
    assert t.end()[0] == WRONG_PASSPHRASE


def test_slot_add_asks_for_both(terminal, volume, latch):
    t = terminal("slot", "add", "--fast-kdf", volume.path)
    t.expect("Passphrase")
    t.type(PASSPHRASE)
    for _ in range(2):
        t.expect("new slot:")
        t.type("second secret")
    assert t.end()[0] == OK
    latch("slot", "test", "--passphrase-fd", "0", volume.path, input="second secret").ok()


def test_echo_comes_back_after_an_interrupt(terminal, volume):
    import termios

    t = terminal("unlock", volume.path)
    t.expect("Passphrase")
    echo = lambda: termios.tcgetattr(t.master)[3] & termios.ECHO  # noqa: E731
    assert not echo()
    os.write(t.master, b"\x03")
    t.process.wait(60)
    assert echo()
    assert t.process.returncode != OK
