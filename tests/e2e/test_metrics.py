"""The metrics file of latch-keyd, read by a parser that is not ours."""

import ctypes
import os
import shutil
import struct
import time

import pytest

import harness
from keydbox import home  # noqa: F401

libc = ctypes.CDLL(None, use_errno=True)
parser = pytest.importorskip("prometheus_client.openmetrics.parser")


@pytest.fixture
def metered(home):
    path = home.dir / "latchfs.prom"
    home.config.write_text(f"[keyd]\nmetrics = {path}\nmetrics_seconds = 1\n[alerts]\nunlock_failures = 1\n")
    home.prom = path
    return home


def read(home):
    """Families by name; what is read is whole, whenever it is read."""
    text = home.prom.read_text()
    assert text.endswith("# EOF\n")
    return {f.name: f for f in parser.text_string_to_metric_families(text)}


def value(home, name, **labels):
    family = read(home).get(name.removesuffix("_total").removesuffix("_count"))
    found = [s.value for s in family.samples if s.name == name and labels.items() <= s.labels.items()]
    assert len(found) <= 1, f"{name} {labels}: {found}"
    return found[0] if found else None


def soon(home, want, name, **labels):
    harness.wait_until(lambda: home.prom.exists() and value(home, name, **labels) == want, what=f"{name} {want}")


def volume(home):
    client = home.client(start=True)
    ini, _ = client.volume()
    return client, ini


def test_volumes_leases_and_keys(metered):
    client, ini = volume(metered)
    vid = client.unlock(ini)
    soon(metered, 1, "latchfs_volume_unlocked", volume=vid)
    assert value(metered, "latchfs_volume_leases", volume=vid) == 0
    client.ok("attach", vid)
    client.ok("lease", vid)
    soon(metered, 1, "latchfs_volume_leases", volume=vid)
    assert value(metered, "latchfs_volume_mounts", volume=vid) == 1
    assert value(metered, "latchfs_leases_total") == 1
    assert value(metered, "latchfs_unwrap_seconds_count") == 1
    assert value(metered, "latchfs_volume_generation", volume=vid) == 1
    assert value(metered, "latchfs_rotation_overdue", volume=vid) == 0
    assert 0 <= value(metered, "latchfs_key_age_seconds", kind="master", version="1", state="active") < 600

    admin = metered.client().admin(ini)
    admin.edit(ini, "master-rotate")
    harness.wait_until(lambda: value(metered, "latchfs_volume_generation", volume=vid) == 2, what="the rotation")
    assert value(metered, "latchfs_key_age_seconds", kind="master", version="2", state="active") >= 0
    assert value(metered, "latchfs_key_age_seconds", kind="master", version="1", state="decrypt-only") >= 0
    assert value(metered, "latchfs_key_store_edits_total") == 1

    client.ok("report", "3")
    soon(metered, 3, "latchfs_auth_failures_total", volume=vid)
    client.ok("report", "5")
    soon(metered, 5, "latchfs_auth_failures_total", volume=vid)
    assert value(metered, "latchfs_alarms_total", event="auth-failures") >= 1


def test_failures_alarms_and_the_log(metered):
    client, ini = volume(metered)
    vid = client.unlock(ini)
    for _ in range(3):
        client.ask("unlock", ini, "passphrase", "wrong")
    client.ask("lease", "00" * 16)
    soon(metered, 3, "latchfs_unlock_failures_total")
    assert value(metered, "latchfs_alarms_total", event="unlock-failures") == 1
    assert value(metered, "latchfs_alarms_total", event="bulk-unwrap") == 0
    soon(metered, 1, "latchfs_lease_refusals_total")
    assert value(metered, "latchfs_audit_disk_full") == 0
    records = len((metered.state / "audit.log").read_text().splitlines())
    soon(metered, records, "latchfs_audit_records_total")
    client.ok("lock", vid)
    harness.wait_until(lambda: not read(metered)["latchfs_volume_unlocked"].samples, what="the lock")


def test_histograms_add_up(metered):
    client, ini = volume(metered)
    vid = client.unlock(ini)
    for _ in range(7):
        client.ok("lease", vid)
    soon(metered, 7, "latchfs_unwrap_seconds_count")
    buckets = [s for s in read(metered)["latchfs_unwrap_seconds"].samples if s.name.endswith("_bucket")]
    counts = [s.value for s in buckets]
    assert counts == sorted(counts) and counts[-1] == 7 and buckets[-1].labels["le"] == "+Inf"


IN_MODIFY, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x2, 0x80, 0x100, 0x200


def events(directory, seconds):
    """What happens to the names in a directory meanwhile: pairs of name and kind."""
    fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    watch = libc.inotify_add_watch(fd, os.fsencode(directory), IN_MODIFY | IN_MOVED_TO | IN_CREATE | IN_DELETE)
    assert fd >= 0 and watch >= 0
    time.sleep(seconds)
    data, found = os.read(fd, 1 << 16), []
    os.close(fd)
    while data:
        _, kind, _, n = struct.unpack_from("iIII", data)
        found.append((data[16 : 16 + n].rstrip(b"\0").decode(), kind))
        data = data[16 + n :]
    return found


def test_the_file_is_replaced_whole(metered):
    client, _ = volume(metered)
    harness.wait_until(metered.prom.exists, what="the file")
    assert metered.prom.stat().st_mode & 0o777 == 0o644
    kinds = {kind for name, kind in events(metered.dir, 2.5) if name == metered.prom.name}
    assert kinds == {IN_MOVED_TO}, "only ever by a rename"
    read(metered)
    assert [p.name for p in metered.dir.iterdir() if p.name.endswith(".tmp")] == []
    assert value(metered, "latchfs_written_timestamp_seconds") == pytest.approx(time.time(), abs=60)
    client.status()


def test_a_link_in_its_place_is_not_followed(metered):
    target = metered.dir / "precious"
    target.write_text("precious")
    metered.prom.symlink_to(target)
    volume(metered)
    harness.wait_until(lambda: not metered.prom.is_symlink(), what="the file")
    assert target.read_text() == "precious"


def test_where_it_cannot_be_written_keyd_goes_on(home):
    home.config.write_text(f"[keyd]\nmetrics = {home.dir}/missing/file.prom\nmetrics_seconds = 1\n")
    (home.dir / "missing").mkdir()
    client, ini = volume(home)
    shutil.rmtree(home.dir / "missing")
    time.sleep(1.5)
    client.unlock(ini)
    assert not os.path.exists(home.dir / "missing")
