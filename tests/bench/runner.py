"""Runs the rows in interleaved rounds and keeps every figure."""

import contextlib
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import programs
import systems

DROP = Path("/proc/sys/vm/drop_caches")
IMAGE_GIB = 20


def say(text):
    print(text, file=sys.stderr, flush=True)


def settle(cold):
    """What one system left unwritten must not be written in the next one's time."""
    os.sync()
    if cold:
        with contextlib.suppress(OSError):
            DROP.write_text("3")


def processor_time(place):
    """Seconds that the daemon and the programs run in it have used."""
    return sum(processor_parts(place))


def processor_parts(place):
    """The same as a list: the daemon's own code, the kernel in its threads, the programs."""
    used, own = resource.getrusage(resource.RUSAGE_CHILDREN), resource.getrusage(resource.RUSAGE_SELF)
    return [*place.processor_parts(), used.ru_utime + used.ru_stime + own.ru_utime + own.ru_stime]


class Results:
    """rates[backing][row key][system] is a list, one figure of each round: a rate, or seconds for rows in "s". costs is alike:
    seconds of processor time that one unit took, as processor_parts has them."""

    def __init__(self):
        self.rates = {}
        self.costs = {}
        self.failed = {}
        self.names = {}  # [backing][system] in the large directory

    def add(self, backing, row, system, amount, seconds, processor):
        value = seconds if row.unit == "s" else amount / seconds
        for kept, figure in ((self.rates, value), (self.costs, [p / max(amount, 1) for p in processor])):
            kept.setdefault(backing, {}).setdefault(row.key, {}).setdefault(system, []).append(figure)
        if row.key == "readdir_cold":
            self.names.setdefault(backing, {})[system] = amount

    def fail(self, backing, row, system, why):
        say(f"{backing}: {row.key}: {system}: {str(why).strip()[:200]}")
        self.failed[f"{backing} {row.key} {system}"] = str(why)[:200]

    def median(self, backing, row, system):
        values = self.rates.get(backing, {}).get(row.key, {}).get(system)
        return statistics.median(values) if values else None

    def cost(self, backing, row, system):
        """Seconds of processor time for each unit; None where it was not measured."""
        values = self.costs.get(backing, {}).get(row.key, {}).get(system)
        return statistics.median(map(sum, values)) if values else None

    def parts(self, backing, row, system):
        """Seconds for each unit on the clock, then as processor_parts: means, because the system counts in hundredths of a second."""
        values = self.costs.get(backing, {}).get(row.key, {}).get(system)
        if not values:
            return None
        median = self.median(backing, row, system)
        return [median if row.unit == "s" else 1 / median, *map(statistics.mean, zip(*values))]

    def spread(self, backing, row, system):
        values = self.rates[backing][row.key][system]
        return min(values), max(values)


def has_journal(directory):
    """Whether it lies on an ext4 with a journal. Without one the filesystem flushes and orders other things than people's do."""
    device = os.stat(directory).st_dev
    name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
    task = Path("/sys/fs/ext4", name, "journal_task")
    return task.exists() and task.read_text().strip() != "<none>"


def ext4_image(stack, top):
    """A new ext4 with a journal in a file of top, written to the disk without the page cache between."""
    image, there = top / "image", top / "ext4"
    there.mkdir()
    systems.run(["dd", "if=/dev/zero", f"of={image}", "bs=4M", f"count={IMAGE_GIB * 256}", "oflag=direct", "conv=fsync"])
    systems.run(["mkfs.ext4", "-q", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", image])
    loop = subprocess.run(["losetup", "--find", "--show", "--direct-io=on", image], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    stack.callback(subprocess.run, ["losetup", "--detach", loop], check=False)
    systems.run(["mount", "-t", "ext4", loop, there])
    stack.callback(systems.take_away, there)
    return there


@contextlib.contextmanager
def backings(directory, wanted):
    """Directories on the wanted backing filesystems: {"ext4": path, "tmpfs": path}. "ext4" is directory itself where that is an ext4
    with a journal, else an image in it."""
    with contextlib.ExitStack() as stack:
        found = {}
        top = Path(tempfile.mkdtemp(prefix="latchfs-bench-", dir=directory))
        stack.callback(shutil.rmtree, top, ignore_errors=True)
        if "tmpfs" in wanted:
            memory = top / "tmpfs"
            memory.mkdir()
            systems.run(["mount", "-t", "tmpfs", "-o", "size=75%", "latchfs-bench", memory])
            stack.callback(systems.take_away, memory)
            found["tmpfs"] = memory
        if "ext4" in wanted and has_journal(directory):
            found["ext4"] = top / "ext4"
            found["ext4"].mkdir()
        elif "ext4" in wanted:
            found["ext4"] = ext4_image(stack, top)
        yield {name: found[name] for name in wanted if name in found}


class Runner:
    """after is called with the runner after each round of each backing."""

    def __init__(self, args, rows, scale, after):
        self.args, self.rows, self.scale, self.after = args, rows, scale, after
        self.results = Results()
        self.spent = {}
        self.once = 0.0  # seconds for what only the first round does
        self.systems = list(args.systems)  # that took part
        self.rings = set()  # systems that talk to the kernel through io_uring
        self.rounds = 0

    def one(self, backing, row, place, first):
        """One figure of one system."""
        begun = time.perf_counter()
        try:
            if row.before and (first or not row.once):
                row.before(place, self.scale)
            if row.once:
                self.once += time.perf_counter() - begun
            settle(row.cold)
            used = processor_parts(place)
            amount, seconds = row.run(place, self.scale)
            self.results.add(backing, row, place.name, amount, seconds, [b - a for a, b in zip(used, processor_parts(place))])
        except Exception as e:  # whatever it is, the other figures are worth having
            self.results.fail(backing, row, place.name, getattr(e, "stderr", None) or e)
        key = (row.key, place.name)
        self.spent[key] = self.spent.get(key, 0) + time.perf_counter() - begun

    def round(self, backing, places, number):
        for place in places:
            place.new_dir(f"round-{number}")
        for row in self.rows:
            taking_part = [p for p in places if row.defaults or p.name != "gocryptfs_default"]
            for place in random.sample(taking_part, len(taking_part)):
                self.one(backing, row, place, number == 0)
        for place in places:
            with contextlib.suppress(OSError):
                os.unlink(place.dir / "stream")

    def mounted(self, stack, base):
        there = systems.mount_all(stack, base, self.args.systems)
        self.systems = [p.name for p in there]
        self.rings |= {p.name for p in there if p.ring}
        for name in self.args.systems:
            if name not in self.systems:
                say(f"{name}: left out, {name.removesuffix('_noring')} uses no ring")
        return there

    def run(self):
        """All rows on all backings; the backings take turns too."""
        with contextlib.ExitStack() as stack:
            bases = stack.enter_context(backings(self.args.dir, self.args.backing))
            stack.enter_context(programs.supply(bases.get("tmpfs") or next(iter(bases.values())), self.scale.tree))
            places = {b: self.mounted(stack, base) for b, base in bases.items()}
            begun, longest = time.monotonic(), 0.0
            for number in range(self.args.rounds):
                started = time.monotonic()
                if started - begun + longest > 60 * self.args.minutes:
                    say(f"no time for more than {number} rounds")
                    break
                self.rounds = number + 1
                for backing, there in places.items():
                    self.round(backing, there, number)
                    self.after(self)
                longest = max(longest, time.monotonic() - started - (self.once if number == 0 else 0))
                say(f"round {number + 1} of {self.args.rounds} after {time.monotonic() - begun:.0f} s")
        return self.results
