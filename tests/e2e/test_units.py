"""The systemd units, as far as they can be checked without a running systemd; and an installation of everything."""

import os
import shutil
import subprocess

import pytest

import harness


@pytest.fixture
def installed(workdir):
    dest = workdir / "dest"
    env = dict(os.environ, DESTDIR=str(dest))
    subprocess.run(["meson", "install", "-C", str(harness.build_dir()), "--no-rebuild", "--quiet"], env=env, check=True, timeout=120)
    (prefix,) = [p.parent.parent for p in dest.glob("**/bin/latch")]
    return dest, prefix


@pytest.mark.parametrize("name, kind", [("latch-keyd", "system"), ("latch-keyd-user", "user")])
def test_unit(installed, workdir, name, kind):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    _, prefix = installed
    text = (prefix / f"lib/systemd/{kind}/{name}.service").read_text()
    # verify looks for the programs where the unit names them; here they are below DESTDIR.
    unit = workdir / f"{name}.service"
    unit.write_text(text.replace("=/usr/local/bin/", f"={prefix}/bin/").replace("=/usr/bin/", f"={prefix}/bin/"))
    result = harness.run(["systemd-analyze", "verify", "--man=no", f"--{kind}", unit], timeout=60, env=dict(os.environ, XDG_RUNTIME_DIR=str(workdir)))
    said = [x for x in result.err.splitlines() if name in x]
    assert result.returncode == 0 and not said, result.err


@pytest.mark.parametrize("kind", ["system", "user"])
def test_scrub_units(installed, workdir, kind):
    """Templates: verified as the instance of a mount point with a strange name."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    _, prefix = installed
    instance = harness.run(["systemd-escape", "-p", "/srv/my plain-files"]).ok().out.strip()
    units = []
    for end in ("service", "timer"):
        text = (prefix / f"lib/systemd/{kind}/latch-scrub@.{end}").read_text()
        assert "@bindir@" not in text
        units.append(workdir / f"latch-scrub@{instance}.{end}")
        units[-1].write_text(text.replace("=/usr/local/bin/", f"={prefix}/bin/").replace("=/usr/bin/", f"={prefix}/bin/"))
    result = harness.run(["systemd-analyze", "verify", "--man=no", f"--{kind}", *units], timeout=60, env=dict(os.environ, XDG_RUNTIME_DIR=str(workdir)))
    said = [x for x in result.err.splitlines() if "latch-scrub" in x]
    assert result.returncode == 0 and not said, result.err


def test_installed_files(installed):
    dest, prefix = installed
    for path in ("bin/latch", "bin/latchfs", "bin/latch-keyd", "libexec/latchfs/latch-request-key"):
        assert os.access(prefix / path, os.X_OK), path
    assert list(dest.glob("**/request-key.d/latchfs.conf"))
    assert list(prefix.glob("libexec/latchfs/commands/*"))
    pages = {p.name for p in prefix.glob("share/man/*/*")}
    assert {"latch.1", "latchfs.8", "latch-keyd.8", "keyd.ini.5"} <= {p.removesuffix(".gz") for p in pages}
