"""mount(8) and a line of fstab: the programs as installed, side by side in a directory of the system."""

import os
import shutil

import pytest

import harness


SYSTEM = "/usr/local/sbin"  # mount(8) sets PATH itself


@pytest.fixture
def installed(request, bins, keyd, workdir):
    """Copies of the programs where mount(8) looks, seen by this process and its children only."""
    if not request.config.latchfs_private or not os.path.isdir(SYSTEM):
        pytest.skip("wants root, a mount namespace of its own and " + SYSTEM)
    place = workdir / "bin"
    place.mkdir()
    for program in (bins.latch, bins.latchfs, bins.keyd):
        shutil.copy(program, place)
    harness.run(["mount", "--bind", place, SYSTEM]).ok()
    yield keyd.env
    harness.run(["umount", "-l", SYSTEM]).ok()  # umount(8) does not wait for the daemon to end


@pytest.fixture
def mountpoint(workdir, volume):
    """An empty directory; whatever is mounted there is gone afterwards."""
    if os.geteuid() != 0 or not shutil.which("mount.fuse3"):
        pytest.skip("mount(8) wants root and mount.fuse3")
    mount = volume.mount(workdir / "here")
    mount.path.mkdir()
    yield mount
    mount.force_away()


def check_and_umount(mount, installed):
    (mount / "file").write_text("through mount(8)")
    assert (mount / "file").read_text() == "through mount(8)"
    assert harness.run(["umount", mount.path], env=installed).ok()
    assert not (mount / "file").exists()


def test_unlocked_before(volume, mountpoint, installed):
    volume.unlock().ok()
    harness.run(["mount", "-t", "fuse.latchfs", volume.path, mountpoint.path], env=installed).ok()
    check_and_umount(mountpoint, installed)


def test_locked_is_a_clear_refusal(volume, mountpoint, installed):
    result = harness.run(["mount", "-t", "fuse.latchfs", volume.path, mountpoint.path], env=installed)
    assert result.returncode != 0 and "locked" in result.err
    assert not mountpoint.is_mounted()


def test_fstab(volume, mountpoint, installed, workdir):
    fstab = workdir / "fstab"
    fstab.write_text(f"{volume.path} {mountpoint.path} fuse.latchfs "
                     f"passphrase-file={volume.passfile},nofail,noauto,x-test 0 0\n")
    harness.run(["mount", "--fstab", fstab, mountpoint.path], env=installed).ok()
    check_and_umount(mountpoint, installed)


def test_no_volume_there(bins, keyd, workdir):
    (workdir / "here").mkdir()
    result = harness.run([bins.latchfs, workdir / "nothing", workdir / "here"], env=keyd.env)
    assert result.returncode == harness.NOTVOLUME and result.err.count("\n") == 1
