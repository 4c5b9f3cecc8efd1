"""What latchfs costs beside time: processor time, memory, the time to mount, what a compute job beside it loses."""

import contextlib
import os
import signal
import statistics
import subprocess
import time
from pathlib import Path

import harness
import host
import programs
import rows
import systems
from runner import processor_time, settle

GIB = 1024  # MiB


def resident_mib(place, field="VmRSS:"):
    """Of all daemons that serve it; VmHWM: is the most since forget_peak."""
    total = 0
    for pid in place.pids():
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(field):
                    total += int(line.split()[1])
    return total / 1024


def forget_peak(place):
    for pid in place.pids():
        with contextlib.suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def busy_seconds():
    """Processor time of the whole machine, kernel threads too."""
    fields = [int(f) for f in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / systems.TICK


def until_quiet(place, seconds=8.0):
    """Waits until the daemon has done what it put off."""
    os.sync()
    end, last = time.monotonic() + seconds, -1.0
    while time.monotonic() < end and place.processor() != last:
        last = place.processor()
        time.sleep(0.5)


class Meter:
    """Processor seconds of a block: of the daemon and the programs, and of the machine."""

    def __init__(self, place):
        self.place = place

    def __enter__(self):
        self.used, self.busy = processor_time(self.place), busy_seconds()
        return self

    def __exit__(self, *exc):
        self.used, self.busy = processor_time(self.place) - self.used, busy_seconds() - self.busy


def per_gib(places, mib, rounds, results):
    """results["written"|"read"][system]: [(daemon and program, machine) seconds per GiB] of each round. Written means in place:
    the daemon has nothing left to do."""
    for _ in range(rounds):
        for place in places:
            place.new_dir(f"gib-{time.monotonic_ns()}")
            until_quiet(place)
            with Meter(place) as write:
                rows.workload("seqwrite", place.dir, amount=mib)
                until_quiet(place)
            settle(cold=True)
            with Meter(place) as read:
                rows.workload("seqread", place.dir)
            os.unlink(place.dir / "stream")
            for kind, meter in (("written", write), ("read", read)):
                figure = (meter.used * GIB / mib, meter.busy * GIB / mib)
                results.setdefault(kind, {}).setdefault(place.name, []).append(figure)


def inodes_mib(place, inodes):
    """The most while so many inodes are made and looked at."""
    place.new_dir(f"memory-{time.monotonic_ns()}")
    forget_peak(place)
    for i in range(0, inodes, 1000):
        rows.workload("create", place.dir / f"part{i}", amount=min(1000, inodes - i), size=0)
    for entry in os.scandir(place.dir):
        rows.workload("walk", entry.path, amount=1)
    return resident_mib(place, "VmHWM:")


def memory(place, inodes, mib, remount):
    """MiB resident: idle after mounting; the most with so many inodes; mounted anew, the most while streaming, and then with as many
    inodes again."""
    figures = {"idle": resident_mib(place), "inodes": inodes_mib(place, inodes)}
    remount()
    place.new_dir("memory")
    forget_peak(place)
    rows.workload("seqwrite", place.dir, amount=mib)
    rows.workload("seqread", place.dir)
    figures["streaming"] = resident_mib(place, "VmHWM:")
    os.unlink(place.dir / "stream")
    time.sleep(2)  # what the stream took is given back
    figures["inodes_after"] = inodes_mib(place, inodes)
    return figures


def mount_seconds(place, rounds, ring):
    """Of `latch mount` with a key file on a volume that is locked; keyd runs. The place is mounted again afterwards. ring: whether
    the host offers it."""
    volume, seconds = place.volume, []
    key = volume.path.with_name("key")
    if not key.exists():
        key.write_bytes(os.urandom(64))
        key.chmod(0o600)
        volume.latch("slot", "add", "--new-keyfile", key, "--passphrase-file", volume.passfile, volume.path).ok()
    for _ in range(rounds):
        volume.latch("umount", place.root).ok()
        volume.latch("lock", volume.path).ok()
        argv = [volume.bins.latch, "mount", "--keyfile", str(key), *(["-o", "uring"] if ring else []), str(volume.path), str(place.root)]
        with host.ring(ring):
            begun = time.perf_counter()
            subprocess.run(argv, env=volume.keyd.env, **programs.QUIET)
            seconds.append(time.perf_counter() - begun)
    place.found = []  # another daemon than before
    return seconds


@contextlib.contextmanager
def stopped(place):
    """The daemon held: what the machine does without it."""
    for pid in place.pids():
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in place.pids():
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def asked_now_and_then(place, seconds):
    """A program that looks for a name that is not there, each millisecond."""
    place.new_dir(f"paced-{time.monotonic_ns()}")
    argv = [harness.build_dir() / "tests" / "bench" / "workload", "paced", place.dir, f"seconds={seconds}"]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.wait(timeout=60)


def compute(seconds):
    done, took = rows.workload("compute", "/", threads=os.cpu_count(), seconds=seconds)
    return done / took


def compute_loss(ours, plain, others, rounds, seconds=0.8):
    """{case: share of a compute job on all processors that is lost}, medians of rounds in which the cases take turns. Idle is
    against the daemon stopped; asked is against the same program asking a plain directory."""
    rates = {}
    for _ in range(rounds):
        with stopped(ours):
            rates.setdefault("without", []).append(compute(seconds))
        rates.setdefault("idle", []).append(compute(seconds))
        for place in [plain, ours, *others]:
            with asked_now_and_then(place, seconds):
                rates.setdefault(place.name, []).append(compute(seconds))
    medians = {case: statistics.median(r) for case, r in rates.items()}
    loss = {"idle": 1 - medians["idle"] / medians["without"]}
    return loss | {f"asked, {p.name}": 1 - medians[p.name] / medians[plain.name] for p in [ours, *others]}
