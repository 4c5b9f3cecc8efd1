"""Does the cost of an operation stay level as directories, files and the number of programs grow? Microseconds each."""

import os
import statistics

import rows
from runner import say, settle

DIRECTORIES = (10, 1000, 100000, 1000000)
FILES_MIB = (1, 64, 1024, 10240, 102400)
MOST_SECONDS = 200  # for filling one directory; what is made then is the size
THREADS = (1, 2, 4, 8, 16, 32, 64)


def microseconds(results):
    return 1e6 * sum(seconds for _, seconds in results) / max(sum(done for done, _ in results), 1)


def fill(place, top, names):
    """Names in a directory, untimed. What shows the directory below as it is gets them there."""
    top.mkdir()
    if not names:
        return 0
    where = place.below / top.relative_to(place.root) if place.name.startswith("passthrough") else top
    return rows.workload("names", where, amount=names, seconds=MOST_SECONDS)[0]


def directory(place, names, seconds):
    """{operation: µs} in fresh directories of so many names, and how many they are. Cold ones after the caches were dropped."""
    tops = [place.root / f"names-{names}-{i}" for i in range(max(1, 1000 // names))]  # a few operations cannot be timed
    added = min(names, 2000)
    first = [fill(place, top, names - added) for top in tops][0]
    names, costs = first + added, {}
    settle(False)
    costs["create"] = [rows.workload("create", top, amount=added, first=first, size=0) for top in tops]
    for name, what, args in (("stat, cold", "stat", {"files": names, "amount": min(names, 20000), "seconds": seconds}),
                             ("readdir, cold, each name", "list", {"amount": 1})):
        settle(True)
        costs[name] = [rows.workload(what, top, **args) for top in tops]
    costs["unlink"] = [rows.workload("unlink", top, files=names, amount=min(names, 5000), seconds=seconds) for top in tops]
    return names, {name: microseconds(results) for name, results in costs.items()}


def directories(place, sizes, seconds):
    """{operation: [(names, µs)]}"""
    lines = {}
    for size in sizes:
        names, costs = directory(place, size, seconds)
        for name, cost in costs.items():
            lines.setdefault(name, []).append((names, cost))
        say(f"{place.name}: directories of {names:,}")
    return lines


def files(place, sizes, repeat=5):
    """The same by the length of one sparse file, in MiB: 256 blocks spread over it, each once; medians."""
    lines = {}
    for mib in sizes:
        costs = {}
        for i in range(repeat):
            place.new_dir(f"sparse-{mib}-{i}")
            rows.workload("sparse", place.dir, size=mib << 20)
            for name, what, cold in (("write 4 KiB, buffered", "randwrite", False), ("write 4 KiB, fdatasync each", "randsync", False),
                                     ("read 4 KiB, cold", "randread", True)):
                settle(cold)
                costs.setdefault(name, []).append(microseconds([rows.workload(what, place.dir, amount=256, files=256)]))
            os.unlink(place.dir / "stream")
        for name, figures in costs.items():
            lines.setdefault(name, []).append((mib, statistics.median(figures)))
    say(f"{place.name}: files up to {sizes[-1]:,} MiB")
    return lines


def threads(place, counts, seconds, files_of_all=3200):
    """The same by the number of threads that ask at the same time: wall time over operations of all."""
    lines = {}
    for count in counts:
        place.new_dir(f"threads-{count}")
        each = files_of_all // count
        for name, what, args in (("create + write 2 KiB + close", "create", {"amount": each * count, "size": 2048}),
                                 ("open + read + close", "read", {"seconds": seconds, "files": each}),
                                 ("stat of a new name", "missing", {"seconds": seconds}),
                                 ("unlink", "unlink", {"files": each})):
            result = rows.workload(what, place.dir, threads=count, **args)
            lines.setdefault(name, []).append((count, microseconds([result])))
    say(f"{place.name}: up to {counts[-1]} threads")
    return lines


def growth(points):
    """The dearest of the sizes from the second on, over the cheapest of all: 1 is level."""
    costs = [cost for _, cost in points]
    return max(costs[1:], default=costs[0]) / min(costs)
