"""The parts of a run beside the table of rows: costs and scaling, each on mounts of their own."""

import contextlib
import statistics
import time

import costs
import scaling
import systems
from runner import backings, say


@contextlib.contextmanager
def places(args, backing, names):
    """{name: Place} of fresh mounts on one backing filesystem."""
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(backings(args.dir, [backing]))[backing]
        yield {n: stack.enter_context(systems.SYSTEMS[n](base)) for n in names if n in args.systems}


def measure_costs(args):
    """Processor time of all; the rest of latchfs alone, on tmpfs where the disk cannot blur it."""
    idle = costs.busy_seconds()
    time.sleep(2)
    found = {"gib": {}, "alone": costs.busy_seconds() - idle < 0.1}
    with places(args, "ext4", [s for s in args.systems if s not in ("plain", "gocryptfs_default")]) as there:
        costs.per_gib(list(there.values()), 128 if args.quick else 256, 1 if args.quick else 3, found["gib"])
        say("costs: processor time")
    with places(args, "tmpfs", ["latchfs", "passthrough", "gocryptfs", "plain"]) as there:
        ours = there["latchfs"]
        found["mount"] = costs.mount_seconds(ours, 5 if args.quick else 9)
        found["memory"] = costs.memory(ours, 20000 if args.quick else 100000, 512 if args.quick else 1500)
        found["memory"]["of_inodes"] = 20000 if args.quick else 100000
        say("costs: mount, memory")
        costs.until_quiet(ours)
        others = [there[n] for n in ("passthrough", "gocryptfs") if n in there]
        found["loss"] = costs.compute_loss(ours, there["plain"], others, 2 if args.quick else 5)
        say("costs: compute job")
    return found


def measure_scaling(args):
    """{system: {plot: {line: points}}} on tmpfs."""
    found = {}
    sizes = scaling.DIRECTORIES[:3] if args.quick else scaling.DIRECTORIES
    seconds = 0.1 if args.quick else 0.4
    with places(args, "tmpfs", ["latchfs", "passthrough"]) as there:
        for name, place in there.items():
            ours = name == "latchfs"
            found[name] = {"threads": scaling.threads(place, scaling.THREADS, seconds),
                           "files": scaling.files(place, scaling.FILES_MIB, 2 if args.quick else 5)}
            if ours:
                found[name]["directories"] = scaling.directories(place, sizes, seconds)
    return found


PLOTS = (("directories", "names in the directory"), ("files", "MiB of the (sparse) file"), ("threads", "threads at once"))


def least_median_most(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def gib_lines(found, kind):
    """(title, measured, wanted, met) for processor time of GiB written or read: of the whole machine, kernel threads too; of
    the daemon and the program alone where other programs kept the machine busy."""
    medians = {s: statistics.median(f[found["alone"]] for f in figures) for s, figures in found["gib"][kind].items()}
    peers = {s: m for s, m in medians.items() if s in systems.PEERS}
    if "latchfs" not in medians or not peers:
        return []
    best = min(peers, key=peers.get)
    measured = f"{medians['latchfs']:.2f} s ({best} {peers[best]:.2f} s" + \
        (f", passthrough {medians['passthrough']:.2f} s)" if "passthrough" in medians else ")")
    return [(f"processor time per GiB {kind}", measured, "not above the best peer", medians["latchfs"] <= peers[best])]


def cost_lines(found):
    """(title, measured, wanted, met) of every absolute target."""
    memory, loss = found["memory"], found["loss"]
    mount = [1000 * s for s in found["mount"]]
    lines = gib_lines(found, "written") + gib_lines(found, "read")
    lines.append(("mount with a key file", f"{least_median_most(mount, 0)} ms", "under 50 ms", statistics.median(mount) < 50))
    for key, title, most in (("idle", "idle", 16), ("inodes", f"{memory['of_inodes']:,} cached inodes", 64), ("streaming", "streaming", 96)):
        lines.append((f"resident memory, {title}", f"{memory[key]:.1f} MiB", f"{most} MiB", memory[key] <= most))
    for case, share in loss.items():
        wanted = "under 5 %" if case in ("idle", "asked, latchfs") else ""
        name = {"idle": "idle mount"}.get(case, f"a program asks each millisecond: {case.split(', ')[-1]}")
        lines.append((f"a compute job on all processors loses, {name}", f"{100 * share:.1f} %", wanted, share < 0.05 if wanted else None))
    return lines


def growth_lines(found):
    """(plot, line, smallest, largest, growth) of latchfs."""
    return [(plot, line, points[0], points[-1], scaling.growth(points))
            for plot, _ in PLOTS for line, points in found.get("latchfs", {}).get(plot, {}).items()]
