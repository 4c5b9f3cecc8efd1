"""Commands on volumes that are none, or damaged: every refusal names what to do and changes nothing."""

import os

import pytest

from clibox import flip, refused, tree
from harness import CORRUPT, NOTVOLUME, OK


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
