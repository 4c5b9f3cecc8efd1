"""Fixtures of the end-to-end tests; harness.py has what they are made of.

    bins       paths of the programs: bins.latch, bins.keyd, bins.latchfs
    workdir    an empty directory (0755, unlike tmp_path), removed afterwards
    keyd       a running latch-keyd of the test's own; keyd.env is the environment for its clients
    volume     a fresh volume (fast KDF): volume.path, volume.passfile, volume.recovery
    mnt        that volume mounted; mnt.path, mnt / "name"; unmounted afterwards whatever happens
    latch      latch("status", "--json", user=..., input=...) -> Result(returncode, out, err)
    passfile   a file with the passphrase
    terminal   terminal("unlock", ...) -> clibox.Terminal: latch at a pseudo terminal of its own
    user       an ordinary user (a pwd entry); skips where there is no way to mount as one

A test that wants options or several mounts: with volume.mount(options="ro") as m: ...
"""

import os

import pytest

import harness
from clibox import Terminal


def pytest_configure(config):
    config.latchfs_private = harness.private_namespace()


def pytest_report_header(config):
    private = "private" if config.latchfs_private else "the caller's"
    return f"latchfs: build {os.environ.get('LATCHFS_BUILD')}, {private} mount namespace"


@pytest.fixture(scope="session")
def bins():
    return harness.binaries()


@pytest.fixture
def workdir():
    work = harness.Workdir()
    yield work.path
    work.remove()


@pytest.fixture
def keyd(bins, workdir):
    with harness.Keyd(bins, workdir / "keyd") as running:
        yield running


@pytest.fixture
def latch(bins, keyd):
    def call(*args, **more):
        more.setdefault("env", keyd.env)
        return harness.run([bins.latch, *args], **more)

    return call


@pytest.fixture
def volume(keyd, workdir):
    return harness.Volume(keyd, workdir / "vol").create()


@pytest.fixture
def mnt(volume):
    with volume.mount() as mounted:
        yield mounted


@pytest.fixture
def user(request):
    if os.geteuid() != 0:
        pytest.skip("needs root to run programs as another user")
    if os.stat("/dev/fuse").st_mode & 0o006 != 0o006:
        pytest.skip("ordinary users may not open /dev/fuse here")
    return harness.ordinary_user()


@pytest.fixture
def passfile(workdir):
    path = workdir / "pass"
    path.write_text(harness.PASSPHRASE + "\n")
    path.chmod(0o600)
    return path


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
