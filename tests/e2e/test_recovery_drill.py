"""docs/RECOVERY.md with real programs: the passphrase is lost, the machine is gone, a restic backup of the ciphertext
and the printed recovery key are left."""

import os
import shutil

import pytest

import harness
from fsbox import PLAIN, check_volume
from keylife import admin, check_tree, directory, fill_tree, headers, keys, protect, states
from syscalls import errno_of, write_file

pytestmark = pytest.mark.skipif(PLAIN, reason="about volumes")


def restic(workdir, *args):
    env = {"PATH": os.environ["PATH"], "HOME": str(workdir), "RESTIC_PASSWORD": "backup", "RESTIC_CACHE_DIR": str(workdir / "cache")}
    return harness.run(["restic", "-q", "-r", workdir / "repo", *args], env=env, timeout=300).ok()


def relocate(held, old, new):
    return {os.path.join(new, os.path.relpath(p, old)): data for p, data in held.items()}


@pytest.mark.parametrize("while_mounted", [False, True], ids=["unmounted", "mounted"])
def test_drill(bins, workdir, while_mounted):
    if not shutil.which("restic"):
        pytest.skip("restic is not installed")
    # The old machine.
    with harness.Keyd(bins, workdir / "old-keyd") as keyd:
        volume = harness.Volume(keyd, workdir / "old/vol")
        volume.path.parent.mkdir()
        volume.create()
        restic(workdir, "init")
        with volume.mount() as m:
            protect(volume, m / "payroll")
            held = fill_tree(m / "payroll", 10) | fill_tree(m / "docs", 10, 100)
            old_top = str(m.path)
            if while_mounted:
                harness.run(["sync", "-f", m.path]).ok()
                restic(workdir, "backup", volume.path)
        if not while_mounted:
            restic(workdir, "backup", volume.path)
        printed = volume.recovery.read_text()
    shutil.rmtree(workdir / "old")
    shutil.rmtree(workdir / "old-keyd")

    # The new one.
    restic(workdir, "restore", "latest", "--target", workdir / "new")
    with harness.Keyd(bins, workdir / "new-keyd") as keyd:
        volume = harness.Volume(keyd, str(workdir / "new") + str(workdir / "old/vol"))
        volume.write_passfile()
        paper = workdir / "paper"
        paper.write_text(printed)
        paper.chmod(0o600)
        typo = workdir / "typo"
        typo.write_text(printed.replace(printed.strip()[0], "2" if printed.strip()[0] != "2" else "3", 1))
        typo.chmod(0o600)
        wrong = volume.latch("unlock", "--recovery-file", typo, volume.path)
        assert wrong.returncode != 0 and "group" in wrong.err
        volume.latch("unlock", "--recovery-file", paper, volume.path).ok()
        with volume.mount() as m:
            moved = relocate(held, old_top, str(m.path))
            check_tree(moved)
            old_slots = [line.split()[0] for line in volume.latch("slot", "list", volume.path).ok().out.splitlines()[1:]]
            assert len(old_slots) == 2

            # All slots and all keys are replaced.
            fresh = workdir / "fresh-recovery"
            volume.passfile.write_text("a new passphrase of the new machine\n")
            opened = ["--recovery-file", paper]
            volume.latch("slot", "add", *opened, "--new-recovery-file", fresh, volume.path).ok()
            volume.latch("slot", "add", "--recovery-file", fresh, "--new-passphrase-file", volume.passfile, "--fast-kdf",
                         volume.path).ok()
            for slot in old_slots:
                admin(volume, "slot", "remove", volume.path, slot).ok()
            admin(volume, "rotate", "master", volume.path).ok()
            admin(volume, "rotate", "all", m.path).ok()
            check_tree(moved)
        volume.lock()
        assert volume.latch("unlock", "--recovery-file", paper, volume.path).returncode == harness.WRONG_PASSPHRASE
        volume.latch("unlock", "--recovery-file", fresh, volume.path).ok()
        with volume.mount():
            check_tree(moved)
        shown = keys(volume)
        assert states(shown["masters"])[1] == "decrypt-only" and len(shown["masters"]) == 3
        assert all(d["least"] > 1 for d in shown["directories"])
        assert min(v for _, _, v, _, _ in headers(volume)) > 1
        check_volume(volume)
