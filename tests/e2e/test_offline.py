"""latch ls, cat, extract, tar: a volume, a copy of it, a part of it, read with no mount and no daemon."""

import io
import os
import shutil
import stat
import subprocess
import tarfile

import pytest

import harness
import volumes
from clibox import Terminal, flip, refused
from harness import BUSY, CORRUPT, FAILURE, IO, NOKEY, NOTVOLUME, USAGE, WRONG_PASSPHRASE
from keylife import admin
from offlinebox import Offline, cipher_path, restore_only, snapshot
from syscalls import pattern, read_file, write_file
from volumes import CHUNK

LONG = "a name that is long enough to stand in a sidecar " * 5
BYTES = os.fsdecode(b"not\xffUTF-8 \xc3\x28")
BIG = 700 * CHUNK + 99


@pytest.fixture
def offline(volume, workdir):
    return Offline(volume, workdir)


@pytest.fixture
def out(workdir):
    return workdir / "out"


def fill(top):
    volumes.fill(top)
    os.makedirs(top / "docs/deep")
    write_file(top / "docs/report", b"the report\n")
    write_file(top / "docs/deep" / LONG, pattern(1, 9000))
    write_file(top / BYTES, b"bytes")
    write_file(top / "docs/big", pattern(7, BIG))
    with open(top / "docs/sparse", "wb") as f:
        f.seek(3 << 20)
        f.write(b"in the middle")
        f.truncate(9 << 20)
    with open(top / "docs/hole", "wb") as f:
        f.truncate(5 << 20)
    os.setxattr(top / "docs", "user.of", b"a directory")
    subprocess.run(["setfacl", "-m", "u:1234:rx", top / "docs/report"], check=True)
    subprocess.run(["setfacl", "-d", "-m", "u:4321:rwx", top / "docs/deep"], check=True)
    os.mknod(top / "docs/null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.chmod(top / "docs/deep", 0o2751)
    os.chown(top / "docs/deep", 77, 88)
    os.utime(top / "docs/deep", ns=(10**18, 10**18 + 5))


def acl(path):
    return subprocess.run(["getfacl", "-n", "-c", "-p", path], check=True, stdout=subprocess.PIPE).stdout


def look(top):
    """Everything that an extracted tree should have as the mounted one has it."""
    found = {}
    for place, dirs, files in os.walk(os.fsencode(top)):
        for name in sorted(dirs + files):
            path = os.path.join(place, name)
            st = os.lstat(path)
            is_link, is_file = stat.S_ISLNK(st.st_mode), stat.S_ISREG(st.st_mode)
            found[os.path.relpath(path, os.fsencode(top))] = (
                st.st_mode, st.st_uid, st.st_gid, 0 if stat.S_ISDIR(st.st_mode) else st.st_nlink, st.st_rdev, st.st_mtime_ns,
                os.readlink(path) if is_link else read_file(path) if is_file else None,
                () if is_link else sorted((x, os.getxattr(path, x)) for x in os.listxattr(path) if not x.startswith("system.")),
                None if is_link else acl(path))
    return found


def check_sparse(top, least=1 << 20):
    for name in ("sparse", "hole"):
        st = os.stat(top / "docs" / name)
        assert st.st_blocks * 512 <= st.st_size - least, (name, st.st_blocks)


# ---- whole volumes ----


@pytest.fixture
def filled(volume):
    """A volume whose mount was killed with changes in the journal, and what was in it."""
    with volume.mount() as m:
        fill(m.path)
        os.sync()
        write_file(m / "docs/late", pattern(3, 50000))
        with open(m / "docs/big", "r+b") as f:
            f.seek(5 * CHUNK)
            f.write(pattern(9, 3 * CHUNK))
            os.fsync(f.fileno())
        with open(m / "docs/late", "r+b") as f:
            os.fsync(f.fileno())
        for place, _, files in os.walk(m.path):
            for name in files: # a time that is set is durable sooner than one of a write
                os.utime(os.path.join(place, name), ns=(10**18 + 1, 10**18 + 7), follow_symlinks=False)
        held = look(m.path)
        m.crash()
    return held


def test_an_unclean_volume_is_read_and_not_written(volume, offline, filled, out):
    assert os.stat(volume.path / "latchfs.journal").st_size > 8192, "the journal should not be clean"
    before = snapshot(volume.path)
    names = offline("ls", "-a").ok().out.splitlines()
    assert "docs" in names and len(names) == len({n for n in filled if b"/" not in n})
    assert offline.cat("docs/late") == pattern(3, 50000)
    assert offline.cat("/docs//./big")[5 * CHUNK:8 * CHUNK] == pattern(9, 3 * CHUNK)
    offline("extract", "--to", out).ok()
    assert look(out) == filled
    check_sparse(out)
    assert os.stat(out / "docs/report").st_mode & 0o777 == filled[b"docs/report"][0] & 0o777
    assert snapshot(volume.path) == before, "a command that reads has written"
    volumes.check_without_count(out)


def test_tar_of_an_unclean_volume(volume, offline, filled, out, workdir):
    before = snapshot(volume.path)
    with open(workdir / "all.tar", "wb") as f:
        subprocess.run([str(a) for a in offline.argv("tar")], env=offline.env, stdout=f, check=True, stdin=subprocess.DEVNULL)
    assert snapshot(volume.path) == before
    assert os.stat(workdir / "all.tar").st_size < 12 << 20, "holes should not be in the archive"
    out.mkdir()
    done = subprocess.run(["tar", "-x", "-f", workdir / "all.tar", "-C", out, "-p", "--acls", "--xattrs", "--xattrs-include=*", "--sparse",
                           "--numeric-owner", "--warning=no-unknown-keyword"], stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
    assert look(out) == filled
    check_sparse(out)
    with tarfile.open(workdir / "all.tar", encoding="utf-8", errors="surrogateescape") as t:
        members = {os.fsencode(m.name): m for m in t.getmembers()}
        assert set(members) == set(filled)
        assert t.extractfile(members[b"docs/late"]).read() == pattern(3, 50000)
        assert members[b"docs/sparse"].size == 9 << 20
        assert sum(m.islnk() for m in members.values()) == 1


def test_tar_of_paths(offline, filled):
    data = offline("tar", "--", "docs/report", "docs/deep").ok().out.encode("utf-8", "surrogateescape")
    with tarfile.open(fileobj=io.BytesIO(data)) as t:
        assert t.getnames() == ["docs/report", "docs/deep", f"docs/deep/{LONG}"]
        assert t.extractfile("docs/report").read() == b"the report\n"


def test_ls(offline, filled):
    text = offline("ls", "-l", "--", "docs").ok().out
    assert "drwxr-s--x" in text and " 77 " in text.replace("    ", " ") and "1,3 " in text
    assert offline("ls", "--", "docs/report").ok().out == "docs/report\n"
    assert offline("ls", "-l").ok().out.count(" -> ") == 2
    tree = offline("ls", "-R").ok().out
    assert tree.startswith("/:\n") and f"\ndocs/deep:\n{LONG}\n" in tree
    refused(offline("ls", "--", "docs/nothing"), IO, "docs/nothing", "not there")
    refused(offline("ls", "--", "docs/report/x"), IO, "no directory")
    refused(offline("ls", "--", "../x"), USAGE, "..")


def test_hidden_names(volume, offline, mnt):
    write_file(mnt / ".hidden", b"x")
    os.mkdir(mnt / ".dir")
    write_file(mnt / ".dir/inside", b"y")
    mnt.umount().ok()
    assert offline("ls").ok().out == ""
    assert "inside" not in offline("ls", "-R").ok().out
    assert offline("ls", "-a").ok().out == ".dir\n.hidden\n"
    assert "inside" in offline("ls", "-aR").ok().out


def test_extract_of_paths_makes_the_directories_above(offline, filled, out):
    offline("extract", "--to", out, "--", "docs/deep/" + LONG, "docs/report").ok()
    assert sorted(os.listdir(out)) == ["docs"] and sorted(os.listdir(out / "docs")) == ["deep", "report"]
    assert look(out)[b"docs/deep"][:3] == filled[b"docs/deep"][:3]
    assert look(out)[b"docs/deep"][5:] == filled[b"docs/deep"][5:]
    assert read_file(out / "docs/report") == b"the report\n"


# ---- in use ----


def test_a_mounted_volume_is_busy(volume, offline, mnt, out):
    for command in (["ls"], ["cat", "--", "x"], ["extract", "--to", out], ["tar"], ["recover"]):
        refused(offline(*command), BUSY, str(mnt.path), "mounted")
    assert not out.exists()


def test_a_mount_that_only_reads_is_not_in_the_way(volume, offline):
    with volume.mount() as m:
        write_file(m / "file", b"x")
    with volume.mount(options="ro"):
        assert offline.cat("file") == b"x"
        refused(offline("recover"), BUSY, "mounted")


# ---- what opens ----


def test_every_slot_opens(volume, offline, workdir, latch):
    with volume.mount() as m:
        write_file(m / "file", b"content")
    key = workdir / "key"
    key.write_bytes(os.urandom(64))
    place = volume.keyd.dir / ".config/latchfs/commands"
    place.mkdir(parents=True, mode=0o755)
    (place / "plain").write_text("#!/bin/sh\ncat\n")
    (place / "plain").chmod(0o755)
    latch("recipient", "new", workdir / "officer").ok()
    admin(volume, "slot", "add", "--new-keyfile", key, volume.path).ok()
    admin(volume, "slot", "add", "--new-recipient", workdir / "officer.pub", volume.path).ok()
    admin(volume, "slot", "add", "--new-command", "plain", volume.path).ok()
    number = {line.split()[1]: line.split()[0] for line in latch("slot", "list", volume.path).ok().out.splitlines()[1:]}
    signer = next(w for w in latch("inspect", volume.path / "latchfs.ini").ok().out.split() if len(w) == 64)
    for opening in (["--passphrase-file", volume.passfile], ["--passphrase-command", f"cat {volume.passfile}"], ["--keyfile", key],
                    ["--recovery-file", volume.recovery], ["--identity", workdir / "officer"], ["--command", "plain"],
                    ["--any-command"], ["--slot", number["command"]], ["--keyfile", key, "--slot", number["keyfile"]],
                    ["--identity", workdir / "officer", "--signing-key", signer]):
        offline.opening = opening
        shown = offline("cat", "--", "file").ok()
        assert shown.out == "content"
        outside = {"--identity", "--command", "--any-command"} & set(opening) or opening[-1] == number["command"]
        assert (signer in shown.err) == bool(outside and "--signing-key" not in opening), opening
    offline.opening = ["--keyfile", volume.passfile]
    refused(offline("cat", "--", "file"), WRONG_PASSPHRASE)
    offline.opening = ["--identity", workdir / "officer", "--signing-key", "0" * 64]
    refused(offline("cat", "--", "file"), CORRUPT, "another key")


def test_the_passphrase_is_asked_again(volume, offline, mnt):
    write_file(mnt / "file", b"content\n")
    mnt.umount().ok()
    t = Terminal([volume.bins.latch, "cat", volume.path, "file"], offline.env)
    t.expect("Passphrase,")
    t.type("wrong")
    t.expect("Passphrase,")
    t.type(volume.passphrase)
    code, shown = t.end()
    assert code == 0 and "content" in shown


def test_directories_of_their_own_key(volume, offline, mnt, out, workdir):
    os.mkdir(mnt / "own")
    os.mkdir(mnt / "held")
    admin(volume, "protect", mnt / "own").ok()
    admin(volume, "protect", "--held", mnt / "held").ok()
    for name in ("own", "held"):
        write_file(mnt / name / "file", pattern(5, 9999))
    write_file(mnt / "file", b"x")
    mnt.umount().ok()
    assert offline.cat("own/file") == pattern(5, 9999)
    refused(offline("cat", "--", "held/file"), NOKEY, "--held-dir")
    refused(offline("extract", "--to", out), NOKEY, "held", "--held-dir")
    assert read_file(out / "own/file") == pattern(5, 9999) and read_file(out / "file") == b"x"
    copy = workdir / "state-copy"
    shutil.copytree(volume.keyd.state, copy)
    before = snapshot(copy)
    assert offline("cat", "--held-dir", copy, "--", "held/file").ok().out.encode("utf-8", "surrogateescape") == pattern(5, 9999)
    assert snapshot(copy) == before
    refused(offline("ls", "--held-dir", workdir), IO, "--held-dir")


# ---- copies and parts ----


def test_part_of_a_volume(volume, offline, mnt, workdir):
    fill(mnt.path)
    file = cipher_path(volume, mnt / "docs/deep" / LONG)
    link = cipher_path(volume, mnt / f"{volumes.NAME}LongLink")
    docs, deep = cipher_path(volume, mnt / "docs"), cipher_path(volume, mnt / "docs/deep")
    report = cipher_path(volume, mnt / "docs/report")
    mnt.umount().ok()
    part = offline.at(workdir / "part")
    restore_only(volume.path, part.path, [file, link])
    said = part("cat", "--", f"docs/deep/{LONG}").ok()
    assert said.out.encode("utf-8", "surrogateescape") == pattern(1, 9000) and "latchfs.journal: missing" in said.err
    # Whatever lacks is named, so that somebody with a backup program can go and fetch it.
    missing = part("cat", "--", "docs/report")
    assert missing.returncode == IO and report in missing.err
    assert f"{link}" not in missing.err
    sidecar = os.readlink(volume.path / link)
    broken = part("ls", "-l", "--", f"{volumes.NAME}LongLink")
    assert broken.returncode == CORRUPT and sidecar in broken.err and "restore it too" in broken.err
    shutil.copy(volume.path / sidecar, part.path / sidecar)
    assert volumes.MARKER.decode() * 270 in part("ls", "-l").ok().out

    for name, words in ((f"{deep}/latchfs.dir", ("docs/deep", f"{deep}/latchfs.dir")), (f"{file}.name", (f"{file}.name",)),
                        (f"{docs}/latchfs.dir", (f"{docs}/latchfs.dir",)), ("latchfs.dir", ("latchfs.dir",)),
                        ("latchfs.ini", ("latchfs.ini", "backup"))):
        os.rename(part.path / name, workdir / "away")
        result = part("cat", "--", f"docs/deep/{LONG}")
        assert result.returncode == CORRUPT, (name, result.err)
        for word in words:
            assert word in result.err and ("missing" in result.err or "restore" in result.err), (name, result.err)
        os.rename(workdir / "away", part.path / name)
    os.unlink(part.path / file)
    result = part("cat", "--", f"docs/deep/{LONG}")
    assert result.returncode == IO and file in result.err and ".name" in result.err


def test_a_part_with_an_unclean_journal(volume, offline, filled, workdir):
    """The journal speaks of files that were not restored: they are passed by, what is there is read through it."""
    with volume.mount() as m:
        late = cipher_path(volume, m / "docs/late")
        big = cipher_path(volume, m / "docs/big")
        with open(m / "docs/big", "r+b") as f:
            f.seek(5 * CHUNK)
            f.write(pattern(11, 3 * CHUNK))
            os.fsync(f.fileno())
        with open(m / "docs/late", "r+b") as f:
            f.write(b"changed")
            os.fsync(f.fileno())
        m.crash()
    part = offline.at(workdir / "part")
    restore_only(volume.path, part.path, [big])
    shutil.copy(volume.path / "latchfs.journal", part.path)
    before = snapshot(part.path)
    shown = part("cat", "--", "docs/big").ok()
    data = shown.out.encode("utf-8", "surrogateescape")
    assert data[5 * CHUNK:8 * CHUNK] == pattern(11, 3 * CHUNK) and data[:5 * CHUNK] == pattern(7, BIG)[:5 * CHUNK]
    assert "not here" in shown.err
    assert snapshot(part.path) == before
    assert part("cat", "--", "docs/late").returncode == IO and late


def test_key_store_from_elsewhere(volume, offline, mnt, workdir, latch):
    write_file(mnt / "file", b"content")
    mnt.umount().ok()
    latch("header", "backup", volume.path, workdir / "header").ok()
    admin(volume, "slot", "add", "--new-recovery-file", workdir / "r", volume.path).ok()  # makes latchfs.ini.bak
    os.unlink(volume.path / "latchfs.ini")
    assert offline("cat", "--header", workdir / "header", "--", "file").ok().out == "content"
    shown = offline("cat", "--", "file").ok()
    assert shown.out == "content" and "latchfs.ini.bak" in shown.err
    (volume.path / "latchfs.ini").write_text("garbage")
    shown = offline("cat", "--", "file").ok()
    assert shown.out == "content" and "latchfs.ini.bak" in shown.err
    os.unlink(volume.path / "latchfs.ini.bak")
    refused(offline("cat", "--", "file"), CORRUPT, "latchfs.ini")
    refused(offline("cat", "--header", volume.passfile, "--", "file"), CORRUPT, str(volume.passfile))
    refused(offline("cat", "--header", workdir / "none", "--", "file"), IO, str(workdir / "none"))
    refused(offline.at(workdir)("ls"), NOTVOLUME)


def test_broken_and_missing_journal(volume, offline, filled):
    journal = volume.path / "latchfs.journal"
    whole = journal.read_bytes()
    journal.write_bytes(b"\0" * len(whole))
    refused(offline("ls"), CORRUPT, "latchfs.journal", "--ignore-journal")
    assert offline.at(volume.path)("ls", "--ignore-journal").ok().out
    before = snapshot(volume.path)
    old = offline("cat", "--ignore-journal", "--", "docs/big")
    assert old.returncode in (0, CORRUPT) and snapshot(volume.path) == before
    journal.unlink()
    assert "latchfs.journal: missing" in offline("ls").ok().err
    assert "missing" not in offline("ls", "--ignore-journal").ok().err
    assert not journal.exists()
    journal.write_bytes(whole)
    assert offline.cat("docs/late") == pattern(3, 50000)


def test_read_only_media(volume, offline, filled, workdir, out):
    point = workdir / "media"
    point.mkdir()
    subprocess.run(["mount", "--bind", volume.path, point], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", point], check=True)
        offline.at(point)("extract", "--to", out).ok()
        assert look(out) == filled
        assert offline.at(point)("recover").returncode == IO
    finally:
        subprocess.run(["umount", point], check=True)


def test_an_ordinary_user_reads_a_copy(volume, offline, filled, workdir, user, out):
    copy = workdir / "copy"
    subprocess.run(["cp", "-a", volume.path, copy], check=True)
    subprocess.run(["chown", "-Rh", f"{user.pw_uid}:{user.pw_gid}", copy, volume.passfile], check=True)
    os.chown(volume.keyd.dir, user.pw_uid, user.pw_gid)
    out.mkdir()
    os.chown(out, user.pw_uid, user.pw_gid)
    before = snapshot(copy)
    mine = offline.at(copy)
    mine.user = user
    result = mine("extract", "--to", out / "x")
    assert snapshot(copy) == before, "an ordinary user's read has written"
    assert "docs/null" in result.err and result.returncode == IO  # a device is not his to make
    assert len(result.err.splitlines()) == 1, result.err
    got = look(out / "x")
    assert set(got) == set(filled) - {b"docs/null"}
    for name, seen in got.items():
        assert seen[6] == filled[name][6] and seen[1] == user.pw_uid
    assert got[b"random1"][0] & 0o7777 == 0o710  # not set-id: that would be another user's


def test_files_that_may_not_be_opened(volume, offline, mnt, workdir, user):
    """Nothing is granted for the moment, as a mount would: the copy stays as it is."""
    write_file(mnt / "closed", b"x")
    write_file(mnt / "open", b"y")
    mnt.umount().ok()
    copy = workdir / "copy"
    subprocess.run(["cp", "-a", volume.path, copy], check=True)
    subprocess.run(["chown", "-Rh", f"{user.pw_uid}:{user.pw_gid}", copy, volume.passfile], check=True)
    with volume.mount() as m:
        closed = cipher_path(volume, m / "closed")
    os.chmod(copy / closed, 0)
    mine = offline.at(copy)
    mine.user = user
    before = snapshot(copy)
    assert mine.cat("open") == b"y"
    refused(mine("cat", "--", "closed"), IO, "closed", "ermission")
    assert snapshot(copy) == before


# ---- damage ----


@pytest.fixture
def hurt(volume, mnt, offline):
    """Chunks 3, 4 and 200 of big are damaged, and all of small."""
    write_file(mnt / "big", pattern(7, BIG))
    write_file(mnt / "small", b"small")
    write_file(mnt / "well", pattern(8, 5 * CHUNK))
    os.mkdir(mnt / "z")
    write_file(mnt / "z/last", b"last")
    big, small = (volume.path / cipher_path(volume, mnt / n) for n in ("big", "small"))
    mnt.umount().ok()
    for chunk in (3, 4):
        flip(big, CHUNK * (1 + chunk) + 77)
    flip(big, CHUNK * (114 + 129 * 0 + (200 - 112)) + 1)
    flip(small, 513)
    expected = bytearray(pattern(7, BIG))
    for chunk in (3, 4, 200):
        expected[chunk * CHUNK:(chunk + 1) * CHUNK] = bytes(CHUNK)
    return bytes(expected)


RANGES = (f"bytes {3 * CHUNK} to {5 * CHUNK - 1}", f"bytes {200 * CHUNK} to {201 * CHUNK - 1}", "bytes 0 to 4")


def ranges(result, of=RANGES):
    assert result.returncode == CORRUPT, result.err
    for words in of:
        assert words in result.err, (words, result.err)


def test_cat_of_damage(hurt, offline):
    result = offline("cat", "--", "big", "well")
    ranges(result, RANGES[:2])
    assert result.out.encode("utf-8", "surrogateescape") == pattern(7, BIG)[:3 * CHUNK] + pattern(8, 5 * CHUNK)
    result = offline("cat", "--zero-damaged", "--", "big", "well")
    ranges(result, RANGES[:2])
    assert result.out.encode("utf-8", "surrogateescape") == hurt + pattern(8, 5 * CHUNK)


def test_extract_goes_on_after_damage(hurt, offline, out, workdir):
    result = offline("extract", "--to", out)
    ranges(result)
    assert "left out" in result.err
    assert sorted(os.listdir(out)) == ["well", "z"]
    assert read_file(out / "well") == pattern(8, 5 * CHUNK) and read_file(out / "z/last") == b"last"
    result = offline("extract", "--zero-damaged", "--to", workdir / "out2")
    ranges(result)
    assert read_file(workdir / "out2/big") == hurt and read_file(workdir / "out2/small") == bytes(5)
    assert read_file(workdir / "out2/z/last") == b"last"


def test_tar_of_damage(hurt, offline):
    result = offline("tar")
    ranges(result)
    with tarfile.open(fileobj=io.BytesIO(result.out.encode("utf-8", "surrogateescape"))) as t:
        assert t.extractfile("big").read() == hurt
        assert t.extractfile("z/last").read() == b"last"


def test_damaged_header_name_record_and_attribute(volume, offline, mnt, out):
    for name in ("header", "name", "attribute", "well"):
        write_file(mnt / name, pattern(2, 20000))
    os.mkdir(mnt / "record")
    write_file(mnt / "record/in", b"x")
    os.setxattr(mnt / "attribute", "user.a", b"value")
    os.symlink("somewhere", mnt / "link")
    where = {n: volume.path / cipher_path(volume, mnt / n) for n in ("header", "name", "attribute", "record", "link")}
    mnt.umount().ok()
    flip(where["header"], 100)
    os.rename(where["name"], where["name"].with_name("A" * 30))
    stored = next(x for x in os.listxattr(where["attribute"]) if x.startswith("user.latchfs."))
    value = bytearray(os.getxattr(where["attribute"], stored))
    value[15] ^= 1
    os.setxattr(where["attribute"], stored, bytes(value))
    flip(where["record"] / "latchfs.dir", 20)
    target = os.readlink(where["link"])
    os.unlink(where["link"])
    os.symlink(target[:-2] + ("AA" if target[-2:] != "AA" else "BA"), where["link"])
    result = offline("extract", "--to", out)
    assert result.returncode == CORRUPT
    for word in ("header", "1 entry left out", "attribute", "record", "link"):
        assert word in result.err, (word, result.err)
    assert sorted(os.listdir(out)) == ["attribute", "record", "well"] and os.listdir(out / "record") == []
    assert read_file(out / "attribute") == pattern(2, 20000)
    result = offline("ls")
    assert result.returncode == CORRUPT and "left out" in result.err and "well" in result.out


def test_lengths_that_the_header_does_not_know(volume, offline, mnt, out):
    """What was never committed behind a file is ignored; content that never arrived is empty, and that is said."""
    for name in ("tail", "zeros"):
        write_file(mnt / name, pattern(4, 3 * CHUNK + 5))
    tail, zeros = (volume.path / cipher_path(volume, mnt / n) for n in ("tail", "zeros"))
    mnt.umount().ok()
    with open(tail, "ab") as f:
        f.write(os.urandom(5 * CHUNK))
    zeros.write_bytes(bytes(zeros.stat().st_size))
    shown = offline("extract", "--to", out).ok()
    assert len(shown.err.splitlines()) == 1 and "zeros: " in shown.err and "never reached the disk" in shown.err
    assert read_file(out / "tail") == pattern(4, 3 * CHUNK + 5) and read_file(out / "zeros") == b""
    assert offline.cat("tail") == pattern(4, 3 * CHUNK + 5)
    assert "never reached" in offline("cat", "--", "zeros").ok().err
    with tarfile.open(fileobj=io.BytesIO(offline("tar").ok().out.encode("utf-8", "surrogateescape"))) as t:
        assert t.extractfile("tail").read() == pattern(4, 3 * CHUNK + 5) and t.extractfile("zeros").read() == b""


@pytest.mark.parametrize("chunks", [60, 1500], ids=["checked at open", "checked by readers"])
@pytest.mark.parametrize("how", ["record", "older"])
def test_a_seal_that_does_not_fit(volume, offline, workdir, how, chunks):
    """Some of a file is damaged where its seal sees it, or older: no command gives it out unasked, and each can."""
    new, old = pattern(1, chunks * CHUNK), pattern(2, CHUNK)
    with volume.mount() as m:
        write_file(m / "file", old + new[CHUNK:])
        cipher = volume.path / cipher_path(volume, m / "file")
    image = cipher.read_bytes()
    with volume.mount() as m, open(m / "file", "r+b") as f:
        f.write(new[:CHUNK])
    if how == "older":  # record and page of chunk 0
        with open(cipher, "r+b") as f:
            for at, length in ((512, 32), (CHUNK, CHUNK)):
                f.seek(at)
                f.write(image[at:at + length])
    else:
        flip(cipher, 512 + 3)
    expected = (old if how == "older" else bytes(CHUNK)) + new[CHUNK:]
    for command in (["cat", "--", "file"], ["extract", "--to", workdir / "out"]):
        result = offline(*command)
        assert result.returncode == CORRUPT and "file" in result.err and result.out == "", result.err
    assert os.listdir(workdir / "out") == []
    result = offline("extract", "--zero-damaged", "--to", workdir / "out")
    assert result.returncode == CORRUPT and "seal does not fit" in result.err
    assert read_file(workdir / "out/file") == expected
    result = offline("cat", "--zero-damaged", "--", "file")
    assert result.returncode == CORRUPT and result.out.encode("utf-8", "surrogateescape") == expected
    result = offline("tar")
    assert result.returncode == CORRUPT and "seal does not fit" in result.err
    with tarfile.open(fileobj=io.BytesIO(result.out.encode("utf-8", "surrogateescape"))) as t:
        assert t.extractfile("file").read() == expected


# ---- where extract writes ----


def test_extract_overwrites_nothing(offline, filled, out):
    offline("extract", "--to", out, "--", "docs/report").ok()
    write_file(out / "docs/report", b"mine")
    os.unlink(out / "docs/report")
    write_file(out / "docs/report", b"mine")
    result = offline("extract", "--to", out, "--", "docs/report", "docs/late")
    refused(result, FAILURE, "docs/report", "--force")
    assert read_file(out / "docs/report") == b"mine" and read_file(out / "docs/late") == pattern(3, 50000)
    offline("extract", "--force", "--to", out, "--", "docs/report").ok()
    assert read_file(out / "docs/report") == b"the report\n"
    offline("extract", "--force", "--to", out).ok()
    assert look(out) == filled
    assert not [n for n in os.listdir(out) if n.startswith(".latch-extract")]


def test_extract_stays_below_its_directory(volume, offline, mnt, out, workdir):
    os.makedirs(mnt / "dir/sub")
    write_file(mnt / "dir/sub/file", b"evil")
    write_file(mnt / "file", b"evil")
    os.symlink(workdir / "outside", mnt / "way")
    mnt.umount().ok()
    outside = workdir / "outside"
    outside.mkdir()
    write_file(outside / "file", b"precious")
    # Links that are there already lead nowhere, with --force they are replaced.
    out.mkdir()
    os.symlink(outside, out / "dir")
    os.symlink(outside / "file", out / "file")
    result = offline("extract", "--to", out)
    assert result.returncode == FAILURE and "--force" in result.err
    offline("extract", "--force", "--to", out).ok()
    assert os.listdir(outside) == ["file"] and read_file(outside / "file") == b"precious"
    assert read_file(out / "dir/sub/file") == b"evil" and not os.path.islink(out / "dir") and not os.path.islink(out / "file")
    assert os.readlink(out / "way") == str(outside)
    # Nor does a path through one.
    refused(offline("extract", "--to", workdir / "o2", "--", "way/file"), IO, "no directory")
    refused(offline("extract", "--to", volume.path / "sub"), USAGE, "--to")
    refused(offline("extract"), USAGE, "--to")


def test_a_full_disk_ends_it(volume, offline, filled, workdir):
    point = workdir / "small"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", point], check=True)
    try:
        result = offline("extract", "--to", point / "x")
        assert result.returncode == IO and "space" in result.err.lower()
        assert not [n for n in os.listdir(point / "x") if n.startswith(".latch-extract")]
    finally:
        subprocess.run(["umount", point], check=True)


# ---- terminals and pipes ----


@pytest.mark.parametrize("command", [["cat", "--", "docs/big"], ["tar"], ["ls", "-R"]], ids=lambda c: c[0])
@pytest.mark.parametrize("ignored", [False, True], ids=["signal", "error"])
def test_a_closed_pipe(offline, filled, command, ignored):
    script = ("trap '' PIPE; " if ignored else "") + 'exec "$@"'
    p = subprocess.Popen(["/bin/sh", "-c", script, "sh", *map(str, offline.argv(*command))], env=offline.env, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdout.close()
    said = p.stderr.read().decode()
    code = p.wait(60)
    assert code in ((IO,) if ignored else (-13, IO)), (code, said)
    assert len(said.splitlines()) <= 1, said


def test_names_on_a_terminal(volume, offline, mnt):
    names = {"steer\033[31m": r"steer\x1b[31m", "two\nlines": r"two\x0alines", "c1\x9b31m": r"c1\xc2\x9b31m", "back\\slash": r"back\x5cslash",
             "grün": "grün", os.fsdecode(b"raw\xff"): r"raw\xff", "turn\u202ename": r"turn\xe2\x80\xaename"}
    for name in names:
        write_file(mnt / name, b"")
    os.symlink("to\033[0m", mnt / "zlink")
    mnt.umount().ok()
    t = Terminal([volume.bins.latch, "ls", "-l", *map(str, offline.opening), volume.path], offline.env)
    code, shown = t.end()
    assert code == 0
    for raw, escaped in names.items():
        assert escaped in shown, (escaped, shown)
    assert r"-> to\x1b[0m" in shown and "\033" not in shown
    assert "steer\033[31m" in offline("ls").ok().out
    t = Terminal([volume.bins.latch, "tar", *map(str, offline.opening), volume.path], offline.env)
    code, shown = t.end()
    assert code == USAGE and "terminal" in shown
