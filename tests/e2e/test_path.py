"""latch path: from plaintext to ciphertext paths and back, of a mounted volume and of one that is not."""

import os
import shutil

import pytest

import harness
from clibox import refused
from fsbox import PLAIN
from keylife import admin, protect
from syscalls import read_file, write_file

pytest_plugins = ["fsbox"]
pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")

LONG = "n" * 250
PLACES = ["", "dir", "dir/file", "dir/sub/deep", f"dir/{LONG}", "link", "longlink", "nl\nname", "\udcff\udcfe", "team/secret"]


def fill(volume, top):
    os.makedirs(top / "dir" / "sub")
    protect(volume, top / "team")
    for place in ("dir/file", "dir/sub/deep", f"dir/{LONG}", "nl\nname", "\udcff\udcfe", "team/secret"):
        write_file(top / place, os.fsencode(place))
    os.symlink("dir/file", top / "link")
    os.symlink("t" * 4000, top / "longlink")


def path(volume, *args, **more):
    return volume.latch("path", *args, **more)


def zero(result):
    """Paths of -0 output, as they are."""
    assert result.returncode == 0, result.err
    assert result.out == "" or result.out.endswith("\0")
    return result.out.split("\0")[:-1]


def text(place):
    """As the harness reads what programs print."""
    return os.fsencode(place).decode(errors="surrogateescape")


def both_ways(volume, m):
    """What --cipher says is there and has the right type; --plain leads back."""
    plain = [os.path.join(m.path, place).rstrip("/") for place in PLACES]
    cipher = zero(path(volume, "--cipher", "-0", *plain))
    assert len(set(cipher)) == len(PLACES)
    for p, c in zip(plain, cipher):
        assert c.startswith(str(volume.path)) and os.path.lexists(c), (p, c)
        assert os.path.isdir(p) == os.path.isdir(c) and os.path.islink(p) == os.path.islink(c)
    assert [text(p) for p in zero(path(volume, "--plain", "-0", *cipher))] == [text(p) for p in plain]
    return dict(zip(PLACES, cipher))


def test_mounted(volume):
    with volume.mount() as m:
        fill(volume, m)
        cipher = both_ways(volume, m)
        # what stands beside an entry belongs to it, a record to its directory
        dir_ = os.path.dirname(cipher["dir/file"])
        for name, place in ((cipher["dir"] + "/latchfs.dir", "dir"), (str(volume.path / "latchfs.dir"), ""),
                            (cipher[f"dir/{LONG}"] + ".name", f"dir/{LONG}")):
            assert os.path.exists(name)
            assert path(volume, "--plain", name).ok().out == os.path.join(m.path, place).rstrip("/") + "\n"
        sidecar, = (n for n in os.listdir(volume.path) if n.startswith("latchfs.link."))
        assert path(volume, "--plain", volume.path / sidecar).ok().out == f"{m.path}/longlink\n"
        assert dir_ == cipher["dir"]
        # relative paths, from where one stands and from the volume
        relative = path(volume, "--cipher", "--relative", m / "dir" / "file").ok().out
        assert relative == os.path.relpath(cipher["dir/file"], volume.path) + "\n"
        assert path(volume, "--plain", "--volume", volume.path, relative[:-1]).ok().out == f"{m.path}/dir/file\n"
        assert path(volume, "--plain", "--relative", "--volume", m.path, relative[:-1]).ok().out == "dir/file\n"
        assert path(volume, "--cipher", "--volume", volume.path, "dir//./file", "/dir/file").ok().out == cipher["dir/file"] * 1 + \
            "\n" + cipher["dir/file"] + "\n"
        assert path(volume, "--plain", "--relative", "--volume", volume.path, ".").ok().out == ".\n"
        # standard input
        lines = f"{m.path}/dir/file\n\n{m.path}/link\n"
        assert path(volume, "--cipher", "-", input=lines).ok().out.splitlines() == [cipher["dir/file"], cipher["link"]]
        assert zero(path(volume, "--cipher", "-0", "-", input=f"{m.path}/dir\0{m.path}/nl\nname\0")) == \
            [cipher["dir"], cipher["nl\nname"]]
        # a file that is gone still has its name, as a backup of it has
        gone = cipher["dir/file"]
        os.unlink(m / "dir" / "file")
        assert path(volume, "--plain", gone).ok().out == f"{m.path}/dir/file\n"


def test_refusals(volume, workdir):
    with volume.mount() as m:
        fill(volume, m)
        cipher = both_ways(volume, m)
        refused(path(volume, "--cipher", m / "none"), harness.IO, "none")
        refused(path(volume, "--plain", volume.path / "latchfs.journal"), harness.IO, "latchfs.journal")
        refused(path(volume, "--plain", cipher["dir/file"] + "/latchfs.dir"), harness.IO)
        moved = shutil.copy(cipher["dir/file"], volume.path)
        refused(path(volume, "--plain", moved), harness.CORRUPT, "name")
        refused(path(volume, m / "dir"), harness.USAGE, "--cipher", "--plain")
        refused(path(volume, "--cipher", "--plain", m / "dir"), harness.USAGE)
        refused(path(volume, "--cipher"), harness.USAGE)
        refused(path(volume, "--cipher", workdir), harness.USAGE, "in no mount")
        refused(path(volume, "--plain", workdir), harness.USAGE, "in no volume")
        refused(path(volume, "--plain", "--volume", volume.path, "/etc/passwd"), harness.USAGE, "not in the volume")
        refused(path(volume, "--cipher", "--volume", volume.path, "../x"), harness.IO)
        # the others are translated all the same
        some = path(volume, "--cipher", m / "dir", m / "none", m / "link")
        assert some.returncode == harness.IO and some.out.splitlines() == [cipher["dir"], cipher["link"]]
        volume.latch("lock", m / "team").ok()
        refused(path(volume, "--plain", cipher["team/secret"]), harness.NOKEY, "unlock")
        assert path(volume, "--plain", cipher["team"]).ok().out == f"{m.path}/team\n" if "team" in cipher else True
        volume.lock().ok()
        refused(path(volume, "--plain", cipher["dir"]), harness.NOKEY, "unlock")
        os.unlink(moved)
        volume.unlock().ok()


def test_not_mounted(volume, workdir):
    with volume.mount() as m:
        fill(volume, m)
        cipher = both_ways(volume, m)
    offline = lambda *args, **more: admin(volume, "path", *args, **more)  # noqa: E731
    assert offline("--plain", "--volume", volume.path, cipher["dir/file"], cipher["team/secret"]).ok().out == \
        "dir/file\nteam/secret\n"
    assert offline("--plain", cipher["dir/file"], volume.path).ok().out == "dir/file\n.\n"
    assert zero(offline("--cipher", "-0", "--volume", volume.path, *PLACES[1:])) == [cipher[p] for p in PLACES[1:]]
    assert offline("--cipher", "--relative", "--volume", volume.path, "/dir/").ok().out == \
        os.path.relpath(cipher["dir"], volume.path) + "\n"
    # a backup of one file, with what it needs
    part = workdir / "part"
    for name in ("latchfs.ini", "latchfs.dir"):
        part.mkdir(exist_ok=True)
        shutil.copy(volume.path / name, part)
    sub = part / os.path.basename(cipher["dir"])
    sub.mkdir()
    shutil.copy(os.path.join(cipher["dir"], "latchfs.dir"), sub)
    copied = shutil.copy(cipher["dir/file"], sub)
    done = offline("--plain", copied)
    assert done.returncode == 0 and done.out == "dir/file\n", done.err
    refused(offline("--cipher", m / "dir"), harness.USAGE, "--volume")
    assert read_file(copied)
