"""lock_on_suspend, with a logind made by python3-dbusmock on a bus of its own."""

import os
import subprocess
import time

import pytest

from keydbox import NOKEY, home, needs_root  # noqa: F401

dbus = pytest.importorskip("dbus")
dbusmock = pytest.importorskip("dbusmock")
pytestmark = needs_root

NAME, PATH, IFACE = "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"


def until(condition, tries=3000):
    """Waits for what must come; how long it takes does not matter."""
    for _ in range(tries):
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError("it did not come")


class Logind:
    def __init__(self, home):
        conf = home.dir / "bus.conf"
        address = f"unix:path={home.dir}/bus"
        conf.write_text(
            "<!DOCTYPE busconfig PUBLIC '-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN'"
            " 'http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd'>\n"
            f"<busconfig><type>system</type><listen>{address}</listen><auth>EXTERNAL</auth>"
            "<policy context='default'><allow user='*'/><allow own='*'/><allow send_destination='*'/>"
            "<allow receive_sender='*'/></policy></busconfig>\n")
        self.env = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address}
        self.address = address
        self.conf = conf
        self.start()

    def start(self):
        self.bus_process = subprocess.Popen(
            ["dbus-daemon", f"--config-file={self.conf}", "--nofork"], env=self.env, stderr=subprocess.DEVNULL)
        self.mock = None
        self.bus = until(self.connect)
        self.start_mock()

    def connect(self):
        try:
            return dbus.bus.BusConnection(self.address)
        except dbus.exceptions.DBusException:
            return None

    def start_mock(self):
        self.mock = subprocess.Popen(
            ["/usr/bin/python3", "-m", "dbusmock", "--system", "--template", "logind"], env=self.env, stdout=subprocess.DEVNULL)
        until(lambda: self.bus.name_has_owner(NAME))
        self.object = self.bus.get_object(NAME, PATH, introspect=False)

    def inhibitors(self):
        return [tuple(map(str, i[:4])) for i in self.object.ListInhibitors(dbus_interface=IFACE)]

    def sleep(self, begins):
        self.object.EmitSignal(IFACE, "PrepareForSleep", "b", [begins], dbus_interface=dbusmock.MOCK_IFACE)

    def end(self):
        for p in (self.mock, self.bus_process):
            if p:
                p.kill()
                p.wait()


@pytest.fixture
def logind(home):
    made = Logind(home)
    home.env["DBUS_SYSTEM_BUS_ADDRESS"] = made.address
    yield made
    made.end()


OURS = [("sleep", "latch-keyd", "Locks volumes", "delay")]


def begin(home, policy):
    home.config.write_text(policy)
    c = home.client(start=True)
    path, _ = c.volume()
    vid = c.unlock(path)
    m = home.client()
    m.ok("attach", vid)
    m.ok("lease", vid)
    return c, m, vid, path


def test_locked_before_sleep(home, logind):
    c, m, vid, path = begin(home, "[volume *]\nlock_on_suspend = yes\n")
    until(lambda: logind.inhibitors() == OURS)
    logind.sleep(True)
    kind, serial, _ = m.ok("event")
    assert kind == "revoke"
    assert logind.inhibitors() == OURS  # the machine waits for the mount
    m.ok("revoked", serial, "0")
    until(lambda: not logind.inhibitors())
    assert c.ask("lease", vid)[0] == NOKEY
    logind.sleep(False)
    until(lambda: logind.inhibitors() == OURS)  # for the next time
    assert c.ask("lease", vid)[0] == NOKEY  # waking unlocks nothing
    c.unlock(path)
    c.ok("lease", vid)


def test_a_deaf_mount_does_not_keep_it_awake(home, logind):
    c, m, vid, _ = begin(home, "[lease]\nrevoke_wait_seconds = 600\n[volume *]\nlock_on_suspend = yes\n")
    until(lambda: logind.inhibitors() == OURS)
    logind.sleep(True)
    assert m.ok("event")[0] == "revoke"
    until(lambda: not logind.inhibitors())
    assert c.ask("lease", vid)[0] == NOKEY


def test_only_what_the_policy_says(home, logind):
    home.config.write_text("")
    c = home.client(start=True)
    path, _ = c.volume()
    vid = c.unlock(path)
    home.kill_keyd()
    home.config.write_text(f"[volume *]\nlock_on_suspend = yes\n[volume {vid}]\nlock_on_suspend = no\n")
    c = home.client(start=True)
    c.unlock(path)
    other = c.unlock(c.volume("b.ini")[0])
    until(lambda: logind.inhibitors() == OURS)
    logind.sleep(True)
    until(lambda: not logind.inhibitors())
    assert c.ask("lease", other)[0] == NOKEY
    c.ok("lease", vid)


def test_one_directory(home, logind):
    home.config.write_text("")
    c = home.client(start=True)
    path, _ = c.volume()
    c.admin(path)
    pd = c.edit(path, "dir-add", "label=deep")[1]
    vid = c.unlock(path)
    home.kill_keyd()
    home.config.write_text(f"[directory {vid}/deep]\nlock_on_suspend = yes\n")
    c = home.client(start=True)
    c.unlock(path)
    c.ok("lease", vid, pd)
    until(lambda: logind.inhibitors() == OURS)
    logind.sleep(True)
    until(lambda: not logind.inhibitors())
    assert c.ask("lease", vid, pd)[0] == NOKEY
    c.ok("lease", vid)


def test_without_the_policy_no_inhibitor(home, logind):
    c, _, vid, _ = begin(home, "")
    logind.sleep(True)
    c.ok("lease", vid)
    assert logind.inhibitors() == []


def test_without_a_bus(home):
    home.env["DBUS_SYSTEM_BUS_ADDRESS"] = f"unix:path={home.dir}/none"
    c, _, vid, _ = begin(home, "[volume *]\nlock_on_suspend = yes\n")
    c.ok("lease", vid)


def test_a_bus_that_ends(home, logind):
    c, m, vid, _ = begin(home, "[volume *]\nlock_on_suspend = yes\n")
    until(lambda: logind.inhibitors() == OURS)
    logind.end()
    c.ok("lease", vid)
    c.send("lock", vid)
    m.ok("revoked", m.ok("event")[1], "0")
    assert c.answer()[0] == 0


@pytest.mark.skipif(os.environ.get("LATCHFS_E2E_FULL") != "1", reason="slow: LATCHFS_E2E_FULL=1 runs it")
def test_a_bus_that_comes_back(home, logind):
    begin(home, "[volume *]\nlock_on_suspend = yes\n")
    until(lambda: logind.inhibitors() == OURS)
    logind.end()
    logind.start()
    until(lambda: logind.inhibitors() == OURS, tries=12000)  # keyd tries again every 30 seconds
