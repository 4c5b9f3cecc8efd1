"""docs/BACKUP.md with the real programs: the ciphertext is backed up, a large file changes in a few places, and is backed up
again; whole volumes and single files are restored; copies are taken while somebody writes."""

import json
import os
import random
import re
import shutil
import struct
import subprocess
import threading
import time

import pytest

import harness
from fsbox import PLAIN
from offlinebox import Offline, cipher_path, needed, snapshot
from syscalls import opened, pattern, read_file, write_file
from volumes import CHUNK, copied

pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")

MIB = 1 << 20
LARGE = 40 * MIB
CHANGED = (3, 2500, 9000)  # chunks of the large file
LONG = "a name that stands in a sidecar " * 7


# ---- the programs ----


class Tool:
    """One backup program with a repository of its own. backup() answers the bytes that were added, as far as it says."""

    def __init__(self, workdir):
        self.repo = workdir / "repo"
        self.repo.mkdir()
        self.env = {"PATH": os.environ["PATH"], "HOME": str(workdir), "LC_ALL": "C.UTF-8", "RESTIC_PASSWORD": "x", "RESTIC_CACHE_DIR": str(workdir / "rc"),
                    "BORG_BASE_DIR": str(workdir / "borg"), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
                    "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes", "RCLONE_CONFIG": str(workdir / "rclone.conf")}
        self.count = 0
        self.init()

    def init(self):
        pass

    def run(self, *argv, **more):
        return harness.run(argv, env=self.env, timeout=200, **more).ok()


class Rsync(Tool):
    program, keeps_all = "rsync", True

    def backup(self, volume):
        shown = self.run("rsync", "-aHAX", "--delete", "--no-whole-file", "--stats", "--no-human-readable", f"{volume}/", self.repo).out
        return int(re.search(r"Literal data: (\d+)", shown)[1])

    def restore(self, target):
        self.run("rsync", "-aHAX", f"{self.repo}/", target)

    def restore_paths(self, target, paths):
        self.run("rsync", "-aHAX", "--files-from=-", f"{self.repo}/", target, input="".join(f"{p}\n" for p in paths))


class Tar(Tool):
    program, keeps_all = "tar", True

    def backup(self, volume):
        archive = self.repo / f"{self.count}.tar"
        self.count += 1
        self.run("tar", "-c", "-f", archive, "--xattrs", "--acls", "-g", self.repo / "state", "-C", volume, ".")
        return archive.stat().st_size

    def restore(self, target):
        target.mkdir()
        for i in range(self.count):
            self.run("tar", "-x", "-f", self.repo / f"{i}.tar", "--xattrs", "--acls", "-p", "-g", "/dev/null", "-C", target)

    def restore_paths(self, target, paths):
        """Each from the last archive that has it."""
        target.mkdir()
        held = [set(self.run("tar", "-t", "-f", self.repo / f"{i}.tar").out.splitlines()) for i in range(self.count)]
        for path in paths:
            i = max(n for n in range(self.count) if f"./{path}" in held[n])
            self.run("tar", "-x", "-f", self.repo / f"{i}.tar", "--xattrs", "-C", target, f"./{path}")


class Restic(Tool):
    program, keeps_all = "restic", True

    def init(self):
        self.run("restic", "-q", "-r", self.repo, "init")

    def backup(self, volume):
        self.volume = volume
        shown = self.run("restic", "-r", self.repo, "backup", "--json", volume).out
        return json.loads(shown.splitlines()[-1])["data_added"]

    def _move(self, target):
        os.rename(f"{target}.r{self.volume}", target)

    def restore(self, target):
        self.run("restic", "-q", "-r", self.repo, "restore", "latest", "--target", f"{target}.r")
        self._move(target)

    def restore_paths(self, target, paths):
        include = [word for p in paths for word in ("--include", f"{self.volume}/{p}")]
        self.run("restic", "-q", "-r", self.repo, "restore", "latest", "--target", f"{target}.r", *include)
        self._move(target)


class Borg(Tool):
    program, keeps_all = "borg", True

    def init(self):
        self.run("borg", "init", "-e", "none", self.repo)

    def backup(self, volume):
        self.count += 1
        shown = self.run("borg", "create", "--json", f"{self.repo}::{self.count}", ".", cwd=volume).out
        return json.loads(shown)["archive"]["stats"]["deduplicated_size"]

    def restore(self, target):
        target.mkdir()
        self.run("borg", "extract", f"{self.repo}::{self.count}", cwd=target)

    def restore_paths(self, target, paths):
        target.mkdir()
        self.run("borg", "extract", f"{self.repo}::{self.count}", "--", *paths, cwd=target)


class Rclone(Tool):
    program, keeps_all = "rclone", False  # hard links become copies; names of attributes become lower case, so they are lost

    def copy(self, source, target, *options, **more):
        return self.run("rclone", "sync" if not options else "copy", "-v", "--stats-one-line", "--links", "--metadata", "--create-empty-src-dirs", *options,
                        source, target, **more).err

    def init(self):
        (self.repo.parent / "rclone.conf").write_text(f"[store]\ntype = alias\nremote = {self.repo}\n")

    def backup(self, volume):
        shown = self.copy(volume, "store:")
        return sum(os.path.getsize(volume / name) for name in re.findall(r"INFO  : (\S+): Copied", shown) if os.path.lexists(volume / name))

    def restore(self, target):
        self.copy("store:", target)

    def restore_paths(self, target, paths):
        (self.repo.parent / "list").write_text("".join(f"{p}\n" for p in paths))
        self.copy("store:", target, "--files-from-raw", self.repo.parent / "list")


TOOLS = [Rsync, Tar, Restic, Borg, Rclone]


@pytest.fixture(params=TOOLS, ids=lambda t: t.program)
def tool(request, workdir):
    if not shutil.which(request.param.program):
        pytest.skip(f"{request.param.program} is not installed")
    return request.param(workdir)


# ---- a volume that is backed up twice ----


@pytest.fixture
def made(volume):
    """A filled volume that is not mounted, and what is in it by plaintext path."""
    held = {"large": pattern(1, LARGE), f"team/{LONG}/report": b"the report\n", "team/plan": pattern(2, 3 * MIB)}
    held |= {f"many/{i}": pattern(10 + i, i * 997) for i in range(60)}
    with volume.mount() as m:
        for name, data in held.items():
            os.makedirs((m / name).parent, exist_ok=True)
            write_file(m / name, data)
        os.symlink("team/plan", m / "short link")
        os.symlink("x/" * 600, m / "long link")
        os.link(m / "team/plan", m / "linked")
        os.setxattr(m / "team/plan", "user.note", b"secret")
        for place, _, files in os.walk(m.path):
            for name in files:  # rsync and rclone compare times by the second
                os.utime(os.path.join(place, name), ns=(10**18, 10**18), follow_symlinks=False)
        volume.report = cipher_path(volume, m / f"team/{LONG}/report")
        volume.large = cipher_path(volume, m / "large")
    return held


def change(volume, held):
    data = bytearray(held["large"])
    with volume.mount() as m, open(m / "large", "r+b") as f:
        for chunk in CHANGED:
            f.seek(chunk * CHUNK)
            f.write(pattern(77 + chunk, CHUNK))
            data[chunk * CHUNK:(chunk + 1) * CHUNK] = pattern(77 + chunk, CHUNK)
    held["large"] = bytes(data)


def check_plain(top, held, keeps_all=True):
    for name, data in held.items():
        assert read_file(top / name) == data, name
    assert os.readlink(top / "short link") == "team/plan" and os.readlink(top / "long link") == "x/" * 600
    assert read_file(top / "linked") == held["team/plan"]
    if keeps_all:
        assert os.getxattr(top / "team/plan", "user.note") == b"secret"
        assert os.stat(top / "linked").st_ino == os.stat(top / "team/plan").st_ino


def check_whole(tool, volume, made, workdir):
    whole = workdir / "whole"
    tool.restore(whole)
    offline = Offline(volume, workdir, whole)
    shown = offline("extract", "--to", workdir / "plain")
    if tool.keeps_all:
        assert shown.returncode == 0 and shown.err == "", shown.err
    else:
        assert shown.returncode == harness.CORRUPT and all("attribute" in line for line in shown.err.splitlines()), shown.err
    check_plain(workdir / "plain", made, tool.keeps_all)
    verified = offline("verify")
    assert verified.returncode == (0 if tool.keeps_all else harness.CORRUPT), verified.out + verified.err
    restored = copied(volume, whole)
    with restored.mount() as m:
        check_plain(m.path, made, tool.keeps_all)


def check_single(tool, volume, made, workdir):
    wanted = needed(volume.path, [volume.report, volume.large])
    assert len(wanted) == 7  # latchfs.ini; latchfs.dir of three directories; a sidecar; the two files
    part = workdir / "part"
    tool.restore_paths(part, wanted)
    got = sorted(str(p.relative_to(part)) for p in part.rglob("*") if not p.is_dir())
    assert got == wanted, "more or less was restored than was asked for"
    offline = Offline(volume, workdir, part)
    report = f"team/{LONG}/report"
    assert offline.cat(report) == made[report]
    offline("extract", "--to", workdir / "one", "--", "large").ok()
    assert read_file(workdir / "one/large") == made["large"]
    names = offline("ls", "-R").ok().out
    assert "plan" not in names and LONG in names
    os.unlink(part / volume.report)
    assert volume.report in offline("cat", "--", report).err, "who does not know the ciphertext name should be told it"


# What did not change is not stored again. Each place that did costs a few of the program's own pieces; tar and rclone
# know whole files only.
LIMIT = {"rsync": MIB // 2, "restic": 20 * MIB, "borg": 28 * MIB, "tar": LARGE + 3 * MIB, "rclone": LARGE + 3 * MIB}


@pytest.mark.heavy
def test_back_up_change_back_up_restore(tool, volume, made, workdir):
    before = snapshot(volume.path)
    first = tool.backup(volume.path)
    assert snapshot(volume.path) == before
    again = tool.backup(volume.path)
    change(volume, made)
    second = tool.backup(volume.path)
    print(f"{tool.program}: first {first}, unchanged {again}, second {second} bytes")
    assert first > LARGE and again < MIB and len(CHANGED) * CHUNK <= second < LIMIT[tool.program]
    check_whole(tool, volume, made, workdir)
    check_single(tool, volume, made, workdir)


def test_one_file_without_the_volume(volume, made, workdir):
    """The way of docs/BACKUP.md: what is small first, then what the command says it lacks."""
    if not shutil.which("restic"):
        pytest.skip("restic is not installed")
    restic = Restic(workdir)
    restic.backup(volume.path)
    part = workdir / "r"

    def restore(*patterns):
        include = [word for p in patterns for word in ("--include", p)]
        restic.run("restic", "-q", "-r", restic.repo, "restore", "latest", "--target", part, *include)

    restore("latchfs.ini", "latchfs.dir", "latchfs.long.*.name")
    report = f"team/{LONG}/report"
    offline = Offline(volume, workdir, f"{part}{volume.path}")
    said = offline("cat", "--", report).err
    lacking = re.search(rf"has {part}(/\S+)", said)
    assert lacking and lacking[1] == f"{volume.path}/{volume.report}", said
    restore(lacking[1])
    assert offline.cat(report) == made[report]
    # Where the volume is at hand it tells the name.
    told = Offline(volume, workdir).run_words("path", "--cipher", "--relative", "--volume", volume.path, report).ok()
    assert told.out.strip() == volume.report


# ---- copies of a volume in use ----

PLACES, SPAN, GROWN = 4, 150, 30  # files, their chunks from the beginning, chunks that are added and cut again


def chunk_of(file, chunk, version):
    """4096 bytes that say what they are."""
    return struct.pack("<4sIII", b"CHNK", file, chunk, version) * (CHUNK // 16)


class Writer:
    """Overwrites, appends, cuts and replaces files in top until stopped; knows what each chunk ever held."""

    def __init__(self, top):
        self.top = top
        self.version = 1
        self.stop = threading.Event()
        self.error = None
        for f in range(PLACES):
            write_file(top / f"file{f}", b"".join(chunk_of(f, c, 0) for c in range(SPAN)))
            write_file(top / f"saved{f}", self.saved(f, 0))
        os.sync()
        self.thread = threading.Thread(target=self.run)

    def saved(self, f, version):
        return b"".join(chunk_of(100 + f, c, version) for c in range(version % 9 + 1))

    def step(self, n):
        self.version = v = n + 1
        f = n % PLACES
        with open(self.top / f"file{f}", "r+b") as file:
            for c in ((n * 7) % SPAN, (n * 13) % SPAN, SPAN + n % GROWN):
                file.seek(c * CHUNK)
                file.write(chunk_of(f, c, v))
            if n % 5 == 0:
                file.truncate(SPAN * CHUNK)
            if n % 3 == 0:
                file.flush()
                os.fsync(file.fileno())
        if n % 2 == 1:
            self.settle(f)
        if n % 2 == 0:
            write_file(self.top / f"new{f}", self.saved(f, v))
            os.rename(self.top / f"new{f}", self.top / f"saved{f}")

    def settle(self, f):
        """What is in the journal of a file goes in place when the file is renamed over another."""
        write_file(self.top / f"over{f}", b"")
        os.link(self.top / f"file{f}", self.top / f"other{f}")
        os.rename(self.top / f"other{f}", self.top / f"over{f}")
        os.unlink(self.top / f"over{f}")

    def run(self):
        n = 0
        try:
            while not self.stop.is_set():
                self.step(n)
                n += 1
        except BaseException as e:  # noqa: BLE001
            self.error = e

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.stop.set()
        self.thread.join(60)
        if self.error:
            raise self.error


def check_chunks(name, data, writer, cut=False):
    """Every chunk is one that was written to that very place; only what was appended may be zeros. cut: it ends early."""
    kind, f = ("file", int(name[4:])) if name.startswith("file") else ("saved", int(name[len(name.rstrip("0123456789")):]))
    versions = set()
    for c in range(0, (len(data) + CHUNK - 1) // CHUNK):
        got = data[c * CHUNK:(c + 1) * CHUNK]
        if kind == "file" and c >= SPAN and not any(got):
            continue
        magic, file, chunk, version = struct.unpack_from("<4sIII", got) if len(got) >= 16 else (b"", 0, 0, 0)
        assert got == chunk_of(file, chunk, version)[:len(got)], f"{name}: chunk {c} is none that was ever written"
        assert (file, chunk) == (f if kind == "file" else 100 + f, c), f"{name}: chunk {c} is of another place: {file}, {chunk}"
        assert version <= writer.version
        versions.add(version)
    if cut:
        return
    if kind == "saved" and name.startswith("saved"):
        assert len(versions) == 1 and data == writer.saved(f, versions.pop()), f"{name} is mixed of several versions"
    if kind == "file":
        assert len(data) >= SPAN * CHUNK


def by_program(command):
    def copy(source, target, n):
        subprocess.run(["/bin/sh", "-c", command.format(source=source, target=target)], stderr=subprocess.DEVNULL, check=False)

    return copy


def slowly(source, target, n):
    """Page by page with pauses, the journal first, last or somewhere between, so that much happens meanwhile."""
    rng = random.Random(n)
    files = []
    for place, _, names in os.walk(source):
        os.makedirs(target / os.path.relpath(place, source), exist_ok=True)
        files += [os.path.relpath(os.path.join(place, name), source) for name in names]
    rng.shuffle(files)
    files.remove("latchfs.journal")
    files.insert([0, len(files), len(files) // 2][n % 3], "latchfs.journal")
    for name in files:
        try:
            with open(source / name, "rb", buffering=0) as old, open(target / name, "wb") as new:
                while data := old.read(CHUNK if name != "latchfs.journal" else MIB):
                    new.write(data)
                    time.sleep(rng.random() / 500)
        except FileNotFoundError:
            pass


COPIERS = [
    by_program("mkdir {target} && tar -C {source} -cf - . | tar -C {target} -xf -"),
    by_program("rsync -aX {source}/ {target}"),
    by_program("cp -a {source} {target}"),
    slowly, slowly, slowly,
]


def cut_files(offline):
    """Those of which latch verify says that something was appended that is not in the copy."""
    return set(re.findall(r"^warning: tail: (\S+) ", offline("verify").out, re.M))


def test_copies_of_a_volume_in_use(volume, workdir):
    """What a live copy catches is right or reported, whichever program takes it and whenever."""
    right = reported = 0
    with volume.mount() as m, Writer(m.path) as writer:
        for i, copier in enumerate(COPIERS * 2):
            copier(volume.path, workdir / f"copy{i}", i)
    for i in range(len(COPIERS) * 2):
        offline = Offline(volume, workdir, workdir / f"copy{i}")
        result = offline("extract", "--to", workdir / f"out{i}")
        assert result.returncode in (0, harness.CORRUPT, harness.IO), result.err
        got = sorted(n for n in os.listdir(workdir / f"out{i}") if not n.startswith("o"))
        cut = cut_files(offline)
        for name in got:
            check_chunks(name, read_file(workdir / f"out{i}" / name), writer, name in cut)
        missing = {f"{kind}{f}" for kind in ("file", "saved") for f in range(PLACES)} - set(got)
        for name in missing:  # a file may also have been replaced by another under the copier's hands
            assert f"{name}:" in result.err or name.startswith("saved"), f"copy {i}: nothing says why {name} is missing: {result.err}"
        right += len(got)
        reported += len(missing)
    print(f"{writer.version} steps, {right} files right, {reported} reported or absent")
    assert right > 8 * PLACES, "hardly anything could be read: the copies are worth nothing"


def test_a_page_older_than_the_journal(volume, workdir):
    """A slow copy took a file's first page, where nothing of it stood yet, before its journal went on without it."""
    with volume.mount() as m:
        write_file(m / "f", pattern(1, 9 * CHUNK))
        os.sync()
        cipher = cipher_path(volume, m / "f")
        old = read_file(volume.path / cipher)
        volume.latch("freeze", m.path).ok()
        volume.latch("thaw", m.path).ok()
        with opened(m / "f", os.O_WRONLY) as fd:
            os.pwrite(fd, pattern(2, CHUNK), 5 * CHUNK)
            os.fsync(fd)
        shutil.copytree(volume.path, workdir / "whole")
        shutil.copytree(volume.path, workdir / "slow")
        assert len(old) == os.path.getsize(workdir / "slow" / cipher) and not any(old[512:CHUNK])
        (workdir / "slow" / cipher).write_bytes(old)
    whole = Offline(volume, workdir, workdir / "whole")
    want = pattern(1, 5 * CHUNK) + pattern(2, CHUNK) + pattern(1, 9 * CHUNK)[6 * CHUNK:]
    assert whole("cat", "--zero-damaged", "--", "f").ok().out.encode("utf-8", "surrogateescape") == want
    assert "no damage" in whole("verify").ok().out
    slow = Offline(volume, workdir, workdir / "slow")
    result = slow("cat", "--", "f")
    assert result.returncode == harness.CORRUPT, result
    assert slow("verify").out.count("damage: bad-chunk: f ") == 2
    assert slow("recover").returncode == harness.OK
    assert slow("verify").returncode == harness.CORRUPT, "putting it in place made zeros of it"


def test_a_frozen_volume_is_copied_whole(volume, workdir):
    with volume.mount() as m, Writer(m.path) as writer:
        for i in range(3):
            time.sleep(0.2)
            volume.latch("freeze", m.path, "--", "cp", "-a", volume.path, workdir / f"copy{i}").ok()
    for i in range(3):
        offline = Offline(volume, workdir, workdir / f"copy{i}")
        assert os.stat(offline.path / "latchfs.journal").st_size < MIB or offline("recover").ok().out.count("nothing to replay")
        result = offline("extract", "--to", workdir / f"out{i}").ok()
        assert result.err == ""
        got = [n for n in os.listdir(workdir / f"out{i}") if not n.startswith("o")]
        assert {f"{kind}{f}" for kind in ("file", "saved") for f in range(PLACES)} <= set(got)
        for name in got:
            check_chunks(name, read_file(workdir / f"out{i}" / name), writer)
        offline("verify").ok()
