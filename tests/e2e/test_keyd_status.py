"""latch-keyd: its state as JSON."""

import resource
import struct

from keydbox import home, packet, reply  # noqa: F401 (home)


def test_status_of_a_volume(home):
    c, mount = home.client(start=True), home.client()
    path, _ = c.volume()
    _, pd = c.admin(path).edit(path, "dir-add", "label=team-one")
    c.edit(path, "dir-rotate", f"pd={pd}")
    c.edit(path, "master-rotate")
    vid = c.unlock(path)
    mount.ok("attach", vid)
    mount.ok("lease", vid, pd)
    volume = c.status()["volumes"][0]
    assert volume["id"] == vid and volume["generation"] == 4 and volume["rotation_overdue"] == 0
    assert [(m["version"], m["state"]) for m in volume["masters"]] == [(1, "decrypt-only"), (2, "active")]
    root, team = volume["directories"]
    assert root["root"] and not team["root"] and team["name"] == "team-one"
    assert [(k["version"], k["state"]) for k in team["versions"]] == [(1, "decrypt-only"), (2, "active")]
    assert (team["active"], team["least"]) == (2, 1)
    assert team["leases"] == [
        {"pid": mount.process.pid, "uid": 0, "mountpoint": "/mnt/test", "version": 2}
    ]
    assert team["last_lease"] >= team["created"]
    assert volume["mounts"][0]["leases"] == 1
    c.edit(path, "dir-name", f"pd={pd}", "label=team-two")
    assert c.directory(pd)["name"] == "team-two"


def test_largest_key_store_and_many_mounts(home):
    """256 protected directories, more mounts than are shown for each, two such volumes: still whole JSON."""
    c = home.client(start=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    vids, mounts = [], []
    for name in ("a.ini", "b.ini"):
        path, _ = c.volume(name, "keyfile" * 5, kind="keyfile")
        c.admin(path, "keyfile" * 5, "keyfile")
        for i in range(255):
            code, words = c.ask("edit", path, "dir-add", f"label={'n' * 60}{i}")
            if code:  # the key store is full before the list is
                break
            c.ok("pin", path)
        vids.append(c.unlock(path, "keyfile" * 5, "keyfile"))
    dirs = next(v["directories"] for v in c.status()["volumes"] if v["id"] == vids[0])
    assert len(dirs) >= 128
    for _ in range(60):
        m = home.client()
        mounts.append(m)
        m.ok("attach", vids[0])
        for d in dirs if len(mounts) < 10 else dirs[:1]:
            m.ok("lease", vids[0], d["id"])
    status = c.status()
    first = next(v for v in status["volumes"] if v["id"] == vids[0])
    assert len(first["mounts"]) == 60 and "mounts_more" not in first
    assert len(first["directories"][0]["leases"]) == 16 and first["directories"][0]["leases_more"] == 44
    for v in status["volumes"]:
        assert len(v["directories"]) + v.get("directories_more", 0) == len(dirs)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_mount_points_of_hostile_names(home):
    """Four kilobytes of quotes each, from a hundred mounts: truncated, not broken."""
    c = home.client(start=True)
    path, _ = c.volume()
    vid = bytes.fromhex(c.unlock(path))
    socks = []
    for _ in range(100):
        s = home.raw()
        socks.append(s)
        s.send(packet(10, vid + struct.pack("<H", 4096) + b'"' * 4096))
        assert reply(s)[2] == 0
    volume = c.status()["volumes"][0]
    assert len(volume["mounts"]) < 100 and len(volume["mounts"]) + volume["mounts_more"] == 100
    assert volume["mounts"][0]["mountpoint"] == '"' * 4096
    for s in socks:
        s.close()
