"""The filesystems that are timed side by side: each is a context manager that gives a Place.

Peers get the options that their own manual offers for speed: the kernel's cache of file contents and large requests where
they are off by default. securefs warns against passing options of FUSE, so it gets none.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import harness
import host

PEERS = ("gocryptfs", "securefs", "encfs", "cryfs")
UNSYNCED = ("cryfs",)  # its fsync and fdatasync make no call that syncs anything (strace): no peer where data must be on disk
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Place:
    """One system on one backing filesystem. dir is where the present round works; below is its ciphertext."""

    name: str
    root: Path
    below: Path
    dir: Path = None
    made: dict = field(default_factory=dict)
    found: list = field(default_factory=list)
    ring: bool = False  # its daemon talks to the kernel through io_uring

    def new_dir(self, name):
        self.dir = self.root / name
        self.dir.mkdir()
        self.made = {}

    def pids(self):
        """Daemons that serve it, by their command lines."""
        if not self.found and self.root != self.below:
            self.found = serving(self.root)
        return self.found

    def processor_parts(self):
        """Seconds of processor time that the daemons have used so far, in their own code and in the kernel."""
        own, kernel = zip((0.0, 0.0), *(process_seconds(pid) for pid in self.pids()))
        return sum(own), sum(kernel)

    def processor(self):
        return sum(self.processor_parts())


def serving(mountpoint):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if os.fsencode(mountpoint) in words:
                    found.append(int(entry.name))
    return found


def process_seconds(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0, 0.0
    return int(fields[11]) / TICK, int(fields[12]) / TICK


def run(argv, **more):
    more = {"check": True, "timeout": 120, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE} | more
    return subprocess.run([str(a) for a in argv], **more)


@contextlib.contextmanager
def mounted(base, name, start):
    """start(cipher, mnt) mounts; afterwards nothing of it is left, whatever happened."""
    cipher, mnt = base / name / "cipher", base / name / "mnt"
    cipher.mkdir(parents=True)
    mnt.mkdir()
    spread_directories(cipher)
    try:
        start(cipher, mnt)
        harness.wait_until(lambda: os.path.ismount(mnt), what=f"{name} to be mounted")
        place = Place(name, mnt, cipher)
        place.ring = host.has_ring(place.pids())
        yield place
    finally:
        take_away(mnt)


def take_away(mnt):
    for _ in range(20):
        if not os.path.ismount(mnt):
            return
        if subprocess.run(["umount", mnt], stderr=subprocess.DEVNULL, timeout=60, check=False).returncode:
            time.sleep(0.5)
    minor = harness.mount_device(mnt)
    if minor is not None:
        harness.abort_connection(minor)
        subprocess.run(["umount", "-l", mnt], check=False)


def spread_directories(directory):
    """Lets ext4 put each directory made in it into a block group of its own, so that none of them meets the inodes that
    another freed: ext4 does not use those again for some time and searches past them."""
    subprocess.run(["chattr", "+T", directory], stderr=subprocess.DEVNULL, check=False)


@contextlib.contextmanager
def plain(base):
    (base / "plain").mkdir()
    spread_directories(base / "plain")
    yield Place("plain", base / "plain", base / "plain")


@contextlib.contextmanager
def latchfs(base, name="latchfs", ring=True):
    (base / name).mkdir()
    with harness.Keyd(harness.binaries(), base / name / "keyd") as keyd, contextlib.ExitStack() as stack:
        volume = harness.Volume(keyd, base / name / "cipher").create()
        spread_directories(volume.path)
        volume.unlock().ok()
        with host.ring(ring):
            mount = stack.enter_context(volume.mount(options="uring" if ring else None))
        place = Place(name, mount.path, volume.path)
        place.volume, place.ring = volume, host.has_ring(place.pids())
        yield place


def passthrough_program():
    return harness.build_dir() / "tests" / "bench" / "passthrough"


def passthrough(base, name="passthrough", ring=True):
    def start(cipher, mnt):
        with host.ring(ring):
            run([passthrough_program(), cipher, mnt])
            harness.wait_until(lambda: os.path.ismount(mnt), what=f"{name} to be mounted")

    return mounted(base, name, start)


def without_ring(system):
    """The same without the host's setting for FUSE over io_uring."""
    return lambda base: system(base, f"{system.__name__}_noring", ring=False)


def gocryptfs(base, name="gocryptfs", options=("-kernel_cache",)):
    def start(cipher, mnt):
        password = base / name / "password"
        password.write_text("bench\n")
        run(["gocryptfs", "-init", "-q", "-scryptn", "10", "-passfile", password, cipher])
        run(["gocryptfs", "-q", *options, "-passfile", password, cipher, mnt])

    return mounted(base, name, start)


def gocryptfs_default(base):
    """As it comes, for the rows where the kernel's cache makes the difference; not among the peers."""
    return gocryptfs(base, "gocryptfs_default", ())


def securefs(base):
    def start(cipher, mnt):
        run(["securefs", "create", "--pass", "bench", "-r", "1", "--format", "4", cipher])
        run(["securefs", "mount", "--pass", "bench", "-b", "--attr-timeout", "3600", "--log", "/dev/null", cipher, mnt])

    return mounted(base, "securefs", start)


def encfs(base):
    def start(cipher, mnt):
        run(["encfs", "--standard", "-S", cipher, mnt, "--", "-o", "kernel_cache,big_writes"], input=b"bench\n")

    return mounted(base, "encfs", start)


def cryfs(base):
    def start(cipher, mnt):
        env = os.environ | {"CRYFS_FRONTEND": "noninteractive", "CRYFS_NO_UPDATE_CHECK": "true", "HOME": str(base / "cryfs")}
        run(["cryfs", "-o", "noatime", "-o", "kernel_cache", "-o", "big_writes", cipher, mnt], input=b"bench\n", env=env)

    return mounted(base, "cryfs", start)


SYSTEMS = {f.__name__: f for f in (latchfs, passthrough, plain, gocryptfs, securefs, encfs, cryfs, gocryptfs_default)}
NORING = {f"{f.__name__}_noring": without_ring(f) for f in (latchfs, passthrough)}
SYSTEMS |= NORING
TITLES = {"latchfs_noring": "latchfs, no ring", "passthrough_noring": "passthrough, no ring"}


def is_there(name):
    """Whether its program is installed or built, and the kernel has what sets it apart."""
    if name.endswith("_noring") and not host.ring_available():
        return False
    program = name.removesuffix("_noring").removesuffix("_default")
    if program == "passthrough":
        return passthrough_program().exists()
    return program in ("latchfs", "plain") or shutil.which(program) is not None


def available():
    return [s for s in SYSTEMS if is_there(s)]


def mount_all(stack, base, names):
    """The Places of one backing. Where the daemons make nothing of the ring that the host offers, there is nothing to compare
    with."""
    there = []
    for name in names:
        if name in NORING and not any(p.ring for p in there if name == f"{p.name}_noring"):
            continue
        try:
            there.append(stack.enter_context(SYSTEMS[name](base)))
        except Exception as e:  # without us there is nothing to compare, else the others are worth having
            if name == "latchfs":
                raise
            print(f"{name}: {getattr(e, 'stderr', None) or e}", file=sys.stderr)
    return there


def versions():
    """What was compared, for the report."""
    found = {}
    for peer in PEERS:
        p = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", peer], stdout=subprocess.PIPE, text=True,
                           stderr=subprocess.DEVNULL, check=False)
        if p.returncode == 0:
            found[peer] = p.stdout
    return found
