"""The parts of a run beside the table of rows: costs and scaling, each on mounts of their own."""

import contextlib
import statistics
import time

import asked
import costs
import host
import rows
import scaling
import systems
from runner import backings, say


@contextlib.contextmanager
def places(args, backing, names):
    """{name: Place} of fresh mounts on one backing filesystem."""
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(backings(args.dir, [backing]))[backing]
        yield {p.name: p for p in systems.mount_all(stack, base, [n for n in names if n in args.systems])}


def ring_settings(ours):
    """The systems of latchfs by what the host is set to: with the ring and without, where that makes a difference."""
    return {"latchfs": True} | ({"latchfs_noring": False} if ours.ring else {})


def measure_costs(args, keep):
    """Processor time of all; the rest of latchfs alone, on tmpfs where the disk cannot blur it. keep takes what is known so far."""
    idle = costs.busy_seconds()
    time.sleep(2)
    found = {"gib": {}, "alone": costs.busy_seconds() - idle < 0.1}
    with places(args, "ext4", [s for s in args.systems if s not in ("plain", "gocryptfs_default")]) as there:
        costs.per_gib(list(there.values()), 128 if args.quick else 256, 1 if args.quick else 3, found["gib"])
        say("costs: processor time")
    with places(args, "tmpfs", ["latchfs", "passthrough", "gocryptfs", "plain"]) as there:
        ours = there["latchfs"]
        found["mount"] = {}
        for name, on in reversed(ring_settings(ours).items()):  # it stays mounted as at first
            found["mount"][name] = costs.mount_seconds(ours, 5 if args.quick else 9, on)
        found["ring"] = host.has_ring(ours.pids())
        found["memory"] = costs.memory(ours, 20000 if args.quick else 100000, 512 if args.quick else 1500,
                                       lambda: costs.mount_seconds(ours, 1, ours.ring))
        found["memory"]["of_inodes"] = 20000 if args.quick else 100000
        say("costs: mount, memory")
        costs.until_quiet(ours)
        others = [there[n] for n in ("passthrough", "gocryptfs") if n in there]
        found["loss"] = costs.compute_loss(ours, there["plain"], others, 2 if args.quick else 5)
        say("costs: compute job")
    keep(found)


def measure_growth(args, keep):
    """{system: {plot: {line: points}}} on tmpfs. keep takes what is known so far."""
    found = {}
    sizes = (10, 1000, 20000) if args.quick else scaling.DIRECTORIES
    seconds = 0.1 if args.quick else 0.4
    counts = scaling.THREADS[::3] if args.quick else scaling.THREADS
    with places(args, "tmpfs", ["latchfs", "passthrough"]) as there:
        for name, place in there.items():
            found[name] = {"ring": place.ring,
                           "threads": scaling.threads(place, counts, seconds),
                           "files": scaling.files(place, scaling.FILES_MIB, 1 if args.quick else 5)}
            keep({"lines": found})
            found[name]["directories"] = scaling.directories(place, sizes, seconds)
            keep({"lines": found})


def measure_requests(args, keep):
    """{row key: {system: requests of the kernel per unit}}"""
    keep({"figures": asked.measure(args, rows.ROWS)})


def measure_host(args, keep):
    """{backing: {"write" | "read": {settings: MiB/s of each round}}}"""
    found = {}
    for backing in args.backing:
        with places(args, backing, ["latchfs"]) as there:
            found[backing] = host.measure(there["latchfs"], args.rounds if args.quick else max(25, args.rounds), 128, 80)
            keep({"figures": found, "ring": there["latchfs"].ring})
            say(f"host settings: {backing}")


PLOTS = (("directories", "names in the directory"), ("files", "size of the (sparse) file"), ("threads", "threads at once"))


def least_median_most(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def gib_lines(found, kind):
    """(title, measured, wanted, met) for processor time of GiB written or read: of the whole machine, kernel threads too; of
    the daemon and the program alone where other programs kept the machine busy."""
    medians = {s: statistics.median(f[found["alone"]] for f in figures) for s, figures in found["gib"][kind].items()}
    peers = {s: m for s, m in medians.items() if s in systems.PEERS}
    if not peers:
        return []
    best = min(peers, key=peers.get)
    beside = [f"{best} {peers[best]:.2f} s"]
    beside += [f"{s} {medians[s]:.2f} s" for s in ("passthrough",) if s in medians]
    return [(f"processor time per GiB {kind}{NORING_TITLE[ours]}", f"{medians[ours]:.2f} s ({', '.join(beside)})", "not above the best peer",
             medians[ours] <= peers[best]) for ours in ("latchfs", "latchfs_noring") if ours in medians]


NORING_TITLE = {"latchfs": "", "latchfs_noring": ", no ring"}


def mount_lines(found):
    for system, seconds in found["mount"].items():
        took = [1000 * s for s in seconds]
        yield (f"mount with a key file{NORING_TITLE[system]}", f"{least_median_most(took, 0)} ms", "under 50 ms", statistics.median(took) < 50)


def cost_lines(found):
    """(title, measured, wanted, met) of every absolute target."""
    memory, loss = found["memory"], found["loss"]
    lines = [*gib_lines(found, "written"), *gib_lines(found, "read"), *mount_lines(found)]
    for key, title, most in (("idle", "idle", 16), ("inodes", f"{memory['of_inodes']:,} cached inodes", 64), ("streaming", "streaming", 96)):
        lines.append((f"resident memory, {title}", f"{memory[key]:.1f} MiB", f"{most} MiB", memory[key] <= most))
    lines.append(("resident memory, as many inodes after the stream", f"{memory['inodes_after']:.1f} MiB", "", None))
    for case, share in loss.items():
        wanted = "under 5 %" if case in ("idle", "asked, latchfs") else ""
        name = {"idle": "idle mount"}.get(case, f"a program asks each millisecond: {case.split(', ')[-1]}")
        lines.append((f"a compute job on all processors loses, {name}", f"{100 * share:.1f} %", wanted, share < 0.05 if wanted else None))
    return lines


def growth_lines(found):
    """(system, plot, line, smallest, largest, growth)"""
    return [(system, plot, line, points[0], points[-1], scaling.growth(points)) for plot, _ in PLOTS for system, plots in found["lines"].items()
            for line, points in plots.get(plot, {}).items()]
