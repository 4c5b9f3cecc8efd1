"""latch-keyd: hostile and slow clients."""

import resource
import struct
import subprocess
import sys

import pytest

import harness
from keydbox import BUSY, HELLO, MORE, PACKET_MAX, STATUS, UNLOCK, ended, home, needs_root, packet, reply  # noqa: F401
from mutebox import FLUSH, mute_filesystem


ATTACH = 10
EDIT, WAIT_REKEYED, APPROVE, REKEYED, REPORT = 7, 14, 18, 23, 26


def unlock_body(cred=1, slot=0, flags=0):
    """Of an ini and a secret of one byte each."""
    return b"".join((struct.pack("<I", 1), b"x", struct.pack("<BI", cred, 1), b"x", struct.pack("<I", slot), bytes(32),
                     struct.pack("<I", flags)))


def edit_body(op=1, label=b"", command=b"", blob=0):
    return b"".join((struct.pack("<B", op), bytes(16), struct.pack("<IIH", 0, 0, len(label)), label,
                     struct.pack("<BI", 0, 0), bytes(32), struct.pack("<H", len(command)), command,
                     struct.pack("<I", blob), bytes(blob)))


def test_the_bodies_above_are_well_formed(home):
    """Otherwise the tests below would prove nothing."""
    good = home.client(start=True)
    for kind, body in ((UNLOCK, unlock_body()), (EDIT, edit_body()), (EDIT, edit_body(blob=12288, command=b"c" * 32))):
        with home.raw() as s:
            s.send(packet(kind, body))
            assert reply(s)[0] == 0x8000 | kind
    good.status()


BAD = {
    "empty packet body cut": b"\x01",
    "other version": packet(HELLO, version=2),
    "unknown type": packet(999),
    "a reply": packet(0x8000 | HELLO, struct.pack("<iH", 0, 0)),
    "a push": packet(0x4001, bytes(32)),
    "unknown flag": packet(HELLO, flags=2),
    "trailing bytes": packet(HELLO, b"x"),
    "cut": packet(UNLOCK, struct.pack("<I", 10) + b"[volume"),
    "length beyond": packet(UNLOCK, struct.pack("<I", 0xFFFFFFFF) + b"x" * 100),
    "unknown credential": packet(UNLOCK, unlock_body(cred=9)),
    "unknown flags": packet(UNLOCK, unlock_body(flags=0xFFFFFFFF)),
    "slot beyond": packet(UNLOCK, unlock_body(slot=10000)),
    "edit without an act": packet(EDIT, edit_body(op=0)),
    "unknown edit": packet(EDIT, edit_body(op=200)),
    "edit with too long a blob": packet(EDIT, edit_body(blob=12289)),
    "label with a NUL": packet(EDIT, edit_body(label=b"a\0b")),
    "command too long": packet(EDIT, edit_body(command=b"c" * 33)),
    "wait for more than an hour": packet(WAIT_REKEYED, bytes(36) + struct.pack("<I", 3600001)),
    "uses that are no list": packet(REPORT, struct.pack("<QI", 0, 25) + bytes(25)),
    "more uses than directories": packet(REPORT, struct.pack("<QI", 0, 257 * 24) + bytes(257 * 24)),
    "no approval's name": packet(APPROVE, struct.pack("<H", 0) + bytes(96)),
    "rekey cut": packet(REKEYED, bytes(20)),
    "small packet with a successor": packet(UNLOCK, b"x", flags=MORE),
    "oversized packet": packet(UNLOCK, bytes(PACKET_MAX + 10)),
}


@pytest.mark.parametrize("what", BAD)
def test_malformed_request_ends_the_connection(home, what):
    good = home.client(start=True)
    with home.raw() as s:
        s.send(BAD[what])
        assert ended(s)
    good.status()
    assert any(a["act"] == "protocol" for a in home.audit())


def test_oversized_message(home):
    good = home.client(start=True)
    with home.raw() as s:
        body = bytes(PACKET_MAX - 8)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            for _ in range(20):
                s.send(packet(UNLOCK, body, flags=MORE))
            s.recv(1)
            raise BrokenPipeError if ended(s) else AssertionError("still there")
    good.status()


def test_mixed_up_pieces(home):
    good = home.client(start=True)
    with home.raw() as s:
        s.send(packet(UNLOCK, bytes(PACKET_MAX - 8), flags=MORE, serial=1))
        s.send(packet(UNLOCK, b"x", serial=2))
        assert ended(s)
    good.status()


def test_slow_client_blocks_nobody(home):
    good = home.client(start=True)
    path, _ = good.volume()
    vid = good.unlock(path)
    with home.raw() as half, home.raw() as deaf:
        half.send(packet(UNLOCK, bytes(PACKET_MAX - 8), flags=MORE))
        deaf.setblocking(False)
        try:
            for i in range(100000):  # asks and never reads
                deaf.send(packet(STATUS, serial=i))
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass
        good.ok("lease", vid)
        assert ended(half)  # after its deadline
    good.status()


def test_leases_go_on_while_argon2id_runs(home):
    slow, mount = home.client(start=True), home.client()
    vid = mount.unlock(mount.volume()[0])
    slow.send("init", home.dir / "slow.ini", "slow", "no", "passphrase", "x")
    mount.ok("lease", vid)
    import select

    assert select.select([slow.process.stdout], [], [], 0)[0] == []
    assert slow.answer()[0] == 0


def test_thousand_connections(home):
    mount = home.client(start=True)
    vid = mount.unlock(mount.volume()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    served, refused, socks = 0, 0, []
    try:
        for _ in range(1000):
            s = home.raw()
            socks.append(s)
            try:
                s.send(packet(HELLO))
            except (BrokenPipeError, ConnectionResetError):
                pass
            try:
                result = reply(s)[2]
            except ConnectionResetError:  # told once that it is over; what was sent can still be read
                result = reply(s)[2]
            served += result == 0
            refused += result == BUSY
        mount.ok("lease", vid)
    finally:
        for s in socks:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (served, refused) == (127, 873)
    home.client().status()


HELD = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
if os.fork() == 0:
    sys.stdin.readline()
    s.send(bytes.fromhex(sys.argv[3]))
    os._exit(0 if s.recv(64) else 1)
fd = os.open(sys.argv[2], os.O_RDWR)
os.execv("/bin/true", ["true"])
"""


@needs_root
@pytest.mark.alone  # nor can others look into it
def test_a_peer_that_cannot_be_looked_at(home):
    """The kernel holds whoever asks for the program of a process while an exec of it closes a file of a filesystem
    that does not answer; keyd does without the name."""
    good = home.client(start=True)
    place = home.dir / "mute"
    place.mkdir()
    request = packet(ATTACH, bytes.fromhex("5a" * 16) + bytes(2)).hex()
    with mute_filesystem(place, FLUSH) as asked:
        p = subprocess.Popen([sys.executable, "-c", HELD, home.socket, place / "file", request], stdin=subprocess.PIPE)
        assert asked.wait(60)
        p.stdin.write(b"go\n")
        p.stdin.close()

        def logged():
            return [a for a in home.audit() if a["act"] == "attach"]

        harness.wait_until(logged, what="the record")
        good.status()
        [act] = logged()
        assert act["pid"] == p.pid and "exe" not in act
    assert p.wait(timeout=60) == 0
    good.ok("attach", "5a" * 16)
    assert logged()[-1]["exe"].endswith("keydcli")
