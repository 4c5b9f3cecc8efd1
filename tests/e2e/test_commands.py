"""Command slots: the contract with the program (deadlines, bounds, trust, environment), and the examples against
the real thing: Tang servers, a software TPM, a software token, and a threshold of servers."""

import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

import harness
from clibox import refused, tree
from harness import CORRUPT, FAILURE, USAGE, WRONG_PASSPHRASE

PLAIN = 'cat\n'  # the blob is the secret itself


@pytest.fixture
def commands(keyd):
    """Puts a program into the user's directory of commands: commands("name", "shell text")."""
    place = keyd.dir / ".config" / "latchfs" / "commands"
    place.mkdir(parents=True, mode=0o755)

    def put(name, text, mode=0o755):
        path = place / name
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(mode)
        return path

    put.place = place
    return put


@pytest.fixture
def add(latch, volume):
    def call(*words, **more):
        args = [a for a in words if a != "--"]
        tail = [] if "--" not in words else words[words.index("--"):]
        args = words[:words.index("--")] if tail else words
        return latch("slot", "add", "--passphrase-file", volume.passfile, *args, volume.path, *tail, **more)

    return call


def opens(latch, volume, *source, **more):
    return latch("slot", "test", *source, volume.path, **more)


# ---- the contract ----


def test_wrap_and_unwrap(latch, volume, commands, add):
    program = commands("plain", PLAIN)
    added = add("--new-command", "plain", "--label", "machine").ok()
    assert "slot 3 added" in added.out and "--signing-key" in added.out
    assert re.search(r"^3 +command +\S+ +machine +command plain, 32 bytes$", latch("slot", "list", volume.path).out, re.M)
    assert "slot 3 opens" in opens(latch, volume, "--command", "plain").ok().out
    assert "slot 3 opens" in opens(latch, volume, "--any-command").ok().out
    assert "slot 3 opens" in opens(latch, volume, "--slot", "3").ok().out
    latch("unlock", "--command", "plain", volume.path).ok()
    latch("slot", "remove", "--command", "plain", volume.path, "1").ok()
    refused(opens(latch, volume, "--command", "other"), USAGE, "other")
    program.unlink()
    refused(opens(latch, volume, "--command", "plain"), USAGE, "no program")
    latch("slot", "remove", "--recovery-file", volume.recovery, volume.path, "3").ok()
    refused(opens(latch, volume, "--any-command"), USAGE, "command slot")


def test_arguments_reach_wrap_only(volume, commands, add, workdir):
    commands("args", f'for a; do printf "%s\\n" "$a"; done >>{workdir}/seen\nexec cat\n')
    add("--new-command", "args", "--", "one", "two words", "--three", "", "$(id)").ok()
    assert (workdir / "seen").read_text() == "wrap\none\ntwo words\n--three\n\n$(id)\nunwrap\n"
    refused(add("--new-recovery-file", workdir / "r", "--", "x"), USAGE)


def test_a_program_sees_nothing_it_need_not(bins, volume, commands, add, workdir):
    commands("nosy", f"""
env >{workdir}/env; ls -l /proc/$$/fd >{workdir}/fds; pwd >{workdir}/cwd; umask >{workdir}/umask
grep -E "^Sig(Blk|Ign)" /proc/self/status >{workdir}/signals; ps -o tty= -p $$ >{workdir}/tty
exec cat
""")
    env = dict(volume.keyd.env, LD_PRELOAD="", SECRET="hidden", IFS="x", ENV="/tmp/x", BASH_ENV="/tmp/x", LANG="C.UTF-8")
    env["PATH"] = f"{workdir}:" + env["PATH"]
    words = ["slot", "add", "--passphrase-file", volume.passfile, "--new-command", "nosy", volume.path]
    harness.run(["sh", "-c", 'exec 5</dev/null; trap "" USR1; exec "$0" "$@"', bins.latch, *words], env=env).ok()
    seen = dict(line.split("=", 1) for line in (workdir / "env").read_text().splitlines())
    assert set(seen) <= {"PATH", "HOME", "LANG", "LC_ALL", "XDG_RUNTIME_DIR", "PWD", "SHLVL", "_", "OLDPWD"}, seen
    assert str(workdir) not in seen["PATH"].split(":") and seen["LANG"] == "C.UTF-8"
    fds = re.findall(r" (\d) -> ", (workdir / "fds").read_text())  # the shell's own are 10 and above
    assert set(fds) <= {"0", "1", "2"}, fds
    assert (workdir / "cwd").read_text() == "/\n" and (workdir / "umask").read_text().strip() in ("0077", "077")
    assert re.findall(r"\t([0-9a-f]+)", (workdir / "signals").read_text()) == ["0" * 16] * 2
    assert (workdir / "tty").read_text().strip() in ("?", "")


def test_configuration_beside_the_program(volume, commands, add, workdir):
    commands("conf", f'echo "$LATCH_COMMAND_CONFIG" >>{workdir}/seen\nexec cat\n')
    add("--new-command", "conf").ok()
    assert (workdir / "seen").read_text() == "\n\n"
    config = commands.place / "conf.conf"
    config.write_text("X=1\n")
    add("--new-command", "conf").ok()
    assert (workdir / "seen").read_text().endswith(f"{config}\n" * 2)
    config.chmod(0o666)
    refused(add("--new-command", "conf"), USAGE, "conf.conf", "not trusted")


# What a program does in place of its work -> words of the one error.
BAD_WRAPS = {
    "fails": ("echo some reason >&2; exit 7", ["exit code 7", "some reason"]),
    "silent": ("exit 0", ["answered nothing"]),
    "killed": ("kill -9 $$", ["signal 9"]),
    "too-much": ("head -c 12289 /dev/zero", ["more than 12288"]),
    "endless": ("exec cat /dev/zero", ["more than 12288"]),
    "noisy": ('i=0; while [ $i -lt 2000 ]; do echo "word $i" >&2; i=$((i+1)); done; exit 1', ["exit code 1", "word"]),
    "escapes": (r"printf '\033]0;title\007\n\000' >&2; exit 1", ["exit code 1", "x1b"]),
    "hangs": ("exec sleep 600", ["1 s", "killed"]),
    "hangs-deaf": ("trap '' TERM INT HUP PIPE; while :; do sleep 600; done", ["1 s", "killed"]),
    "child-hangs": ("sleep 600 & wait", ["1 s", "killed"]),
    "other-bytes": ('if [ $1 = wrap ]; then cat; else cat >/dev/null; head -c 32 /dev/zero; fi', ["other bytes"]),
    "short-back": ('if [ $1 = wrap ]; then cat; else head -c 31; fi', ["31 bytes instead of 32"]),
    "long-back": ('if [ $1 = wrap ]; then cat; else cat; echo; fi', ["more than 32"]),
    "only-wraps": ('[ $1 = wrap ] && exec cat; exit 3', ["exit code 3"]),
}


@pytest.mark.parametrize("how", BAD_WRAPS)
def test_bad_programs_make_no_slot(volume, commands, add, how):
    script, words = BAD_WRAPS[how]
    commands("bad", script + "\n")
    before = tree(volume.path)
    result = add("--new-command", "bad", "--command-timeout", "1")
    refused(result, FAILURE, "command bad", *words)
    assert not any(ord(c) < 32 and c != "\n" for c in result.err) and len(result.err) < 2000
    assert tree(volume.path) == before


@pytest.mark.parametrize("how", ["fails", "silent", "killed", "too-much", "endless", "hangs", "child-hangs", "long-back"])
def test_bad_programs_open_nothing(latch, volume, commands, add, how):
    commands("bad", PLAIN)
    add("--new-command", "bad").ok()
    script, _ = BAD_WRAPS[how]
    commands("bad", script + "\n")
    before = tree(volume.path)
    result = latch("unlock", "--command", "bad", "--command-timeout", "1", volume.path)
    refused(result, FAILURE, "command bad")
    commands("bad", "head -c 32 /dev/zero\n")
    refused(latch("unlock", "--command", "bad", volume.path), WRONG_PASSPHRASE)
    assert tree(volume.path) == before


def test_nothing_is_left_of_a_hanging_program(volume, commands, add, workdir):
    commands("bad", f"sleep 601 & echo $! >{workdir}/child; echo $$ >{workdir}/leader; wait\n")
    refused(add("--new-command", "bad", "--command-timeout", "1"), FAILURE)
    for name in ("child", "leader"):
        pid = int((workdir / name).read_text())
        harness.wait_until(lambda: not harness._is_running(pid), 10, f"the {name} to be gone")


def test_a_program_that_leaves_one_behind(latch, volume, commands, add, workdir):
    """The answer counts when the program has ended; what it left behind is killed and holds up nothing."""
    commands("leaver", f"sleep 602 & echo $! >>{workdir}/left; exec cat\n")
    add("--new-command", "leaver", "--command-timeout", "20").ok()
    opens(latch, volume, "--command", "leaver", "--command-timeout", "20").ok()
    for pid in map(int, (workdir / "left").read_text().split()):
        harness.wait_until(lambda: not harness._is_running(pid), 10, "it to be gone")


def test_a_program_that_reads_nothing(latch, volume, commands, add, workdir):
    commands("deaf", f"""
if [ $1 = wrap ]; then cat >{workdir}/kept; head -c 12288 /dev/zero; else exec cat {workdir}/kept; fi
""")
    add("--new-command", "deaf").ok()
    assert (workdir / "kept").stat().st_size == 32
    assert "slot 3 opens" in opens(latch, volume, "--command", "deaf").ok().out
    assert "12288 bytes" in latch("slot", "list", volume.path).ok().out


def test_a_blob_of_one_byte(latch, volume, commands, add, workdir):
    commands("tiny", f"if [ $1 = wrap ]; then cat >{workdir}/kept; printf x; else exec cat {workdir}/kept; fi\n")
    add("--new-command", "tiny").ok()
    opens(latch, volume, "--command", "tiny").ok()


def test_secrets_are_in_no_argument(volume, commands, add, workdir):
    commands("spy", f"""
tr '\\0' '\\n' </proc/$$/cmdline >>{workdir}/argv; tr '\\0' '\\n' </proc/$$/environ >>{workdir}/argv
tee -a {workdir}/secret
""")
    result = add("--new-command", "spy").ok()
    secret = (workdir / "secret").read_bytes()[:32]
    for text in ((workdir / "argv").read_bytes(), (result.out + result.err).encode("utf-8", "surrogateescape")):
        assert secret not in text and secret.hex().encode() not in text


def test_several_slots_of_a_command(latch, volume, commands, add, workdir):
    """The next one is tried when a program fails: one of several machines is down."""
    commands("site", f"[ $1 = wrap ] && exec cat\nt=$(mktemp {workdir}/t.XXXXXX); cat >$t; cmp -s $t {workdir}/down && exit 5; exec cat $t\n")
    commands("site-b", PLAIN)
    add("--new-command", "site").ok()
    first = sorted(workdir.glob("t.*"))[-1]
    add("--new-command", "site").ok()
    assert "slot 3 opens" in opens(latch, volume, "--command", "site").ok().out
    shutil.copy(first, workdir / "down")
    assert "slot 4 opens" in opens(latch, volume, "--command", "site").ok().out
    refused(opens(latch, volume, "--slot", "3"), FAILURE, "exit code 5")
    add("--new-command", "site-b").ok()
    commands("site", "exit 9\n")
    assert "slot 5 opens" in opens(latch, volume, "--any-command").ok().out
    refused(opens(latch, volume, "--command", "site"), FAILURE, "exit code 9", "nor does another")


def test_usage(latch, volume, commands, add, workdir):
    commands("plain", PLAIN)
    before = tree(volume.path)
    for seconds in ("0", "-1", "3601", "x", "", "1.5"):
        refused(add("--new-command", "plain", "--command-timeout", seconds), USAGE, "--command-timeout")
    refused(add("--new-command", "plain", "--new-recovery-file", workdir / "r"), USAGE, "not several")
    for name in ("", "Plain", "../plain", "a/b", ".", "..", "plain ", "-plain", "1plain", "x" * 33, "plain.sh"):
        refused(add(f"--new-command={name}"), USAGE, "name of a command")
    refused(add("--new-command", "nothing-here"), USAGE, "no program")
    refused(add("--new-command", "plain", "--", *["x"] * 65), USAGE, "arguments")
    assert tree(volume.path) == before


def test_replacing_the_slot_of_a_command(latch, volume, commands, add):
    commands("plain", PLAIN)
    add("--new-command", "plain").ok()
    blob = re.search(r"^blob.*$", (volume.path / "latchfs.ini").read_text(), re.M).group(0)
    latch("slot", "replace", "--command", "plain", "--new-command", "plain", volume.path, "3").ok()
    assert blob not in (volume.path / "latchfs.ini").read_text()
    assert "slot 3 opens" in opens(latch, volume, "--command", "plain").ok().out


# ---- trust ----


def spoil(path, how, user):
    if how == "symlink":
        path.rename(path.with_name("real"))
        os.symlink("real", path)
    elif how == "world-writable":
        path.chmod(0o757)
    elif how == "group-writable":
        path.chmod(0o775)
    elif how == "not executable":
        path.chmod(0o644)
    elif how == "another user's":
        os.chown(path, user.pw_uid, user.pw_gid)
    elif how == "directory":
        path.unlink()
        path.mkdir()
    elif how == "fifo":
        path.unlink()
        os.mkfifo(path, 0o755)
    elif how == "writable directory":
        path.parent.chmod(0o777)
    elif how == "another user's directory":
        os.chown(path.parent, user.pw_uid, user.pw_gid)


@pytest.mark.parametrize("how", ["symlink", "world-writable", "group-writable", "not executable", "another user's",
                                 "directory", "fifo", "writable directory", "another user's directory"])
def test_untrusted_programs_are_not_run(latch, volume, commands, add, workdir, user, how):
    path = commands("plain", f"touch {workdir}/ran\n" + PLAIN)
    add("--new-command", "plain").ok()
    (workdir / "ran").unlink()
    before = tree(volume.path)
    spoil(path, how, user)
    for result in (add("--new-command", "plain"), latch("unlock", "--command", "plain", volume.path)):
        assert result.returncode in (USAGE, FAILURE) and len(result.err.splitlines()) == 1, result
        assert "not trusted" in result.err or "cannot be executed" in result.err
    assert not (workdir / "ran").exists() and tree(volume.path) == before


def test_a_program_elsewhere_is_not_run(volume, commands, add, workdir):
    """Neither PATH nor the current directory counts."""
    for place in (workdir, volume.path):
        program = place / "stray"
        program.write_text(f"#!/bin/sh\ntouch {workdir}/ran\nexec cat\n")
        program.chmod(0o755)
    env = dict(volume.keyd.env, PATH=f"{workdir}:{volume.path}:/usr/bin:/bin")
    refused(add("--new-command", "stray", env=env, cwd=str(workdir)), USAGE, "no program")
    refused(add("--new-command", "sh", env=env), USAGE, "no program")
    assert not (workdir / "ran").exists()


@pytest.mark.parametrize("name", ["../../x", "/bin/sh", "a/b", "", ".", "..", "Plain", "x" * 33, "a b", "a;id", "pl\x00ain",
                                  "plain\n", "-x"])
def test_a_volume_may_name_no_path(latch, volume, commands, add, workdir, name):
    commands("plain", PLAIN)
    add("--new-command", "plain").ok()
    ini = volume.path / "latchfs.ini"
    data = ini.read_bytes()
    line = re.search(rb"^command ?= ?plain$", data, re.M).group(0)
    ini.write_bytes(data.replace(line, line.replace(b"plain", name.encode())))
    evil = workdir / "x"
    evil.write_text(f"#!/bin/sh\ntouch {workdir}/ran\nexec cat\n")
    evil.chmod(0o755)
    for words in (["--any-command"], ["--slot", "3"]):
        refused(latch("unlock", *words, volume.path), CORRUPT)
    refused(latch("slot", "list", volume.path), CORRUPT)
    assert not (workdir / "ran").exists()


def test_the_users_directory_comes_first(latch, volume, commands, add, workdir):
    """One's own program of a name is taken before the one that is installed."""
    commands("clevis", f"touch {workdir}/mine\nexec cat\n")
    add("--new-command", "clevis").ok()
    assert (workdir / "mine").exists()
    config = workdir / "xdg"
    shutil.copytree(commands.place.parent, config / "latchfs")
    shutil.rmtree(commands.place.parent)
    (workdir / "mine").unlink()
    env = dict(volume.keyd.env, XDG_CONFIG_HOME=str(config))
    opens(latch, volume, "--command", "clevis", env=env).ok()
    assert (workdir / "mine").exists()


def test_a_first_opening_by_a_command_says_the_signing_key(bins, volume, commands, add, workdir):
    commands("plain", PLAIN)
    add("--new-command", "plain").ok()
    with harness.Keyd(bins, workdir / "keyd2") as elsewhere:
        shutil.copytree(commands.place.parent, elsewhere.dir / ".config" / "latchfs")
        unlock = [bins.latch, "unlock", "--command", "plain", volume.path]
        assert "signing key is" in harness.run(unlock, env=elsewhere.env).ok().err
        assert harness.run(unlock, env=elsewhere.env).ok().err == ""


def test_init_with_a_command(latch, workdir, commands, keyd):
    commands("plain", f'echo "$@" >>{workdir}/seen\nexec cat\n')
    vol = workdir / "vol"
    latch("init", "--command", "plain", "--no-recovery", "--environment", "staging", vol, "--", "a", "b").ok()
    assert (workdir / "seen").read_text().splitlines()[0] == "wrap a b"
    assert "staging" in (vol / "latchfs.ini").read_text()
    point = workdir / "point"
    point.mkdir()
    mount = harness.Volume(keyd, vol).mount(point)
    try:
        latch("mount", "--command", "plain", vol, point).ok()
        (point / "file").write_text("x")
    finally:
        mount.umount()
        mount.force_away()
    commands("plain", "exit 1\n")
    refused(latch("init", "--command", "plain", "--no-recovery", workdir / "vol2"), FAILURE)
    assert not (workdir / "vol2").exists()
    refused(latch("init", "--no-recovery", "--keyfile", workdir / "seen", workdir / "vol2", "--", "x"), USAGE)


# ---- the examples and the real thing ----


def need(*programs):
    missing = [p for p in programs if not shutil.which(p) and not os.access(p, os.X_OK)]
    if missing:
        pytest.skip("not installed: " + ", ".join(missing))


def free_port(count=1):
    """The first of count unused ports in a row on the loopback address."""
    for _ in range(100):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        try:
            for i in range(count):
                with socket.socket() as s:
                    s.bind(("127.0.0.1", port + i))
            return port
        except OSError:
            continue
    raise harness.HarnessError("no free ports")


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class Server:
    """A server for the length of a with block, and stopped and started in between."""

    def __init__(self, argv, port):
        self.argv, self.port, self.process = [str(a) for a in argv], port, None

    def start(self):
        self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        harness.wait_until(lambda: listens(self.port), what=self.argv[0])

    def stop(self):
        if self.process:
            os.killpg(self.process.pid, 9)
            self.process.wait()
        self.process = None


class Tang(Server):
    def __init__(self, directory):
        directory.mkdir()
        port = free_port()
        harness.run(["/usr/libexec/tangd-keygen", directory]).ok()
        super().__init__(["socat", f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork", f"EXEC:/usr/libexec/tangd {directory}"],
                         port)
        self.url = f"http://127.0.0.1:{port}"

    def thumbprint(self):
        return harness.run(["tang-show-keys", str(self.port)]).ok().out.strip()

    def config(self):
        return {"url": self.url, "thp": self.thumbprint()}


@pytest.fixture
def tangs(workdir):
    need("clevis", "socat", "jose", "/usr/libexec/tangd", "/usr/libexec/tangd-keygen", "tang-show-keys")
    servers = []

    def make(count):
        for i in range(count):
            servers.append(Tang(workdir / f"tang{i}"))
            servers[-1].start()
        return servers

    yield make
    for server in servers:
        server.stop()


def test_tang(latch, volume, add, tangs):
    [tang] = tangs(1)
    before = tree(volume.path)
    refused(add("--new-command", "clevis", "--", "tang", json.dumps({"url": tang.url, "thp": "x" * 43})), FAILURE, "clevis")
    refused(add("--new-command", "clevis", "--", "tang", json.dumps({"url": tang.url})), FAILURE, "clevis")
    refused(add("--new-command", "clevis"), FAILURE, "exit code 2", "clevis pin")
    assert tree(volume.path) == before
    add("--new-command", "clevis", "--", "tang", json.dumps(tang.config())).ok()
    assert "slot 3 opens" in opens(latch, volume, "--command", "clevis").ok().out
    with volume.mount():
        pass
    volume.lock()
    tang.stop()
    refused(latch("unlock", "--command", "clevis", volume.path), FAILURE, "clevis failed")
    tang.start()
    latch("unlock", "--any-command", volume.path).ok()


def test_two_of_three_tang_servers(latch, volume, add, tangs):
    servers = tangs(3)
    add("--new-command", "clevis", "--", "sss", json.dumps({"t": 2, "pins": {"tang": [s.config() for s in servers]}})).ok()
    latch("unlock", "--command", "clevis", volume.path).ok()
    for down in servers:
        down.stop()
        assert "slot 3 opens" in opens(latch, volume, "--command", "clevis").ok().out
        down.start()
    servers[0].stop()
    servers[2].stop()
    refused(opens(latch, volume, "--command", "clevis"), FAILURE, "clevis failed")


@pytest.fixture
def tpm(workdir):
    need("swtpm", "clevis", "clevis-encrypt-tpm2", "tpm2_createprimary")
    state = workdir / "tpm"
    state.mkdir()
    port = free_port(2)
    server = Server(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--server",
                     f"type=tcp,port={port},bindaddr=127.0.0.1,disconnect", "--ctrl",
                     f"type=tcp,port={port + 1},bindaddr=127.0.0.1", "--flags", "not-need-init,startup-clear"], port + 1)
    server.start()
    server.tcti = f"swtpm:host=127.0.0.1,port={port}"
    yield server
    server.stop()


def test_tpm2(latch, volume, add, tpm, commands, workdir):
    (commands.place / "clevis.conf").write_text(f"TPM2TOOLS_TCTI={tpm.tcti}\n")
    add("--new-command", "clevis", "--", "tpm2", '{"pcr_bank": "sha256", "pcr_ids": "16"}').ok()
    assert "slot 3 opens" in opens(latch, volume, "--command", "clevis").ok().out
    env = dict(os.environ, TPM2TOOLS_TCTI=tpm.tcti)
    measured = "16:sha256=" + "ab" * 32
    harness.run(["tpm2_pcrextend", measured], env=env).ok()
    refused(opens(latch, volume, "--command", "clevis"), FAILURE, "clevis failed")
    harness.run(["tpm2_pcrreset", "16"], env=env).ok()
    latch("unlock", "--command", "clevis", volume.path).ok()
    tpm.stop()
    refused(opens(latch, volume, "--command", "clevis"), FAILURE, "clevis failed")


MODULE = "/usr/lib/softhsm/libsofthsm2.so"


@pytest.fixture
def token(workdir, commands):
    """A software token with an RSA key 01 and an AES key 02, and the configuration for the pkcs11 command."""
    need("softhsm2-util", "pkcs11-tool", "openssl")
    if not Path(MODULE).exists():
        pytest.skip("not installed: libsofthsm2")
    store = workdir / "token"
    (store / "tokens").mkdir(parents=True)
    conf, pin = store / "softhsm2.conf", store / "pin"
    conf.write_text(f"directories.tokendir = {store}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
    pin.write_text("123456\n")
    env = dict(os.environ, SOFTHSM2_CONF=str(conf))
    harness.run(["softhsm2-util", "--init-token", "--free", "--label", "latch", "--pin", "123456", "--so-pin", "654321"],
                env=env).ok()
    tool = ["pkcs11-tool", "--module", MODULE, "--token-label", "latch", "--login", "--pin", "123456"]
    harness.run([*tool, "--keypairgen", "--key-type", "rsa:2048", "--id", "01"], env=env).ok()
    harness.run([*tool, "--keygen", "--key-type", "aes:32", "--id", "02"], env=env).ok()
    (commands.place / "pkcs11.conf").write_text(
        f"MODULE={MODULE}\nTOKEN=latch\nPIN_FILE={pin}\nSOFTHSM2_CONF={conf}\n")
    return store


@pytest.mark.parametrize("key", ["rsa 01", "aes 02"])
def test_pkcs11(latch, volume, add, token, key):
    add("--new-command", "pkcs11", "--", *key.split()).ok()
    assert "slot 3 opens" in opens(latch, volume, "--command", "pkcs11").ok().out
    latch("unlock", "--command", "pkcs11", volume.path).ok()
    ini = (volume.path / "latchfs.ini").read_text()
    assert MODULE not in ini and "123456" not in ini
    (token / "pin").write_text("000000\n")
    refused(opens(latch, volume, "--command", "pkcs11"), FAILURE, "pkcs11 failed")
    (token / "pin").write_text("123456\n")
    (token / "tokens").rename(token / "gone")
    (token / "tokens").mkdir()
    refused(opens(latch, volume, "--command", "pkcs11"), FAILURE, "pkcs11 failed")


def test_pkcs11_refusals(volume, add, token, commands):
    before = tree(volume.path)
    for words in (["rsa", "03"], ["dsa", "01"], ["rsa", "01; id"], ["rsa", ""], ["rsa"], []):
        result = add("--new-command", "pkcs11", "--", *words)
        assert result.returncode == FAILURE and len(result.err.splitlines()) == 1, result
    (commands.place / "pkcs11.conf").unlink()
    refused(add("--new-command", "pkcs11", "--", "rsa", "01"), FAILURE, "pkcs11.conf")
    assert tree(volume.path) == before
