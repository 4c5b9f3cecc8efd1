"""latch-keyd killed between an edit, putting its answer in place, and the pin: whatever was cut, the volume opens,
its keys are the same, and the same change can be made again."""

import pytest

from keydbox import KEYD, NOKEY, ROLLBACK, home  # noqa: F401 (home)

FIRST, SPARE, SECOND, THIRD = ("first" * 8, "spare" * 8, "second" * 8, "third" * 8)  # key files: no Argon2id
ACTS = {
    "slot-add": ("type=keyfile", f"secret={SECOND}"),
    "slot-remove": ("number=1",),
    "slot-replace": ("number=2", "type=keyfile", f"secret={THIRD}"),
    "slot-label": ("number=1", "label=x"),
    "master-rotate": (),
    "dir-add": ("label=fresh", "held"),
    "dir-name": ("label=other",),
    "dir-rotate": (),
    "dir-shred": (),
    "backup-add": ("label=monday",),
    "environment": ("label=production",),
}
CUTS = ["before the edit", "before it is in place", "before the pin", "after the pin"]


class Volume:
    """With a held directory and a slot besides the first; what its leases were."""

    def __init__(self, home):
        self.home = home
        self.c = home.client(start=True)
        self.path, _ = self.c.volume(passphrase=FIRST, kind="keyfile")
        self.c.admin(self.path, FIRST, "keyfile").edit(self.path, "slot-add", "type=keyfile", f"secret={SPARE}")
        _, self.pd = self.c.edit(self.path, "dir-add", "label=team", "held")
        self.vid = self.c.unlock(self.path, SPARE, "keyfile")
        self.root_keys = self.c.ok("lease", self.vid)[1]
        self.pd_keys = self.c.ok("lease", self.vid, self.pd)[1]

    def restart(self):
        self.home.kill_keyd()
        self.c.ok("connect", self.home.socket, KEYD)

    def opens(self):
        """The slot that no act takes away opens it; -> a client's answer to a lease of the directory."""
        secret = SPARE if self.c.ask("unlock", self.path, "keyfile", SPARE)[0] == 0 else THIRD
        self.c.unlock(self.path, secret, "keyfile")
        assert self.c.ok("lease", self.vid)[1] == self.root_keys
        return self.c.ask("lease", self.vid, self.pd)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("cut", CUTS)
def test_kill(home, act, cut):
    v = Volume(home)
    words = [*ACTS[act], *([f"pd={v.pd}"] if act in ("dir-name", "dir-rotate", "dir-shred") else [])]
    new = home.dir / "new.ini"
    v.c.admin(v.path, SPARE, "keyfile")
    if cut == CUTS[0]:
        v.restart()
        assert v.c.ask("edit", new, act, *words)[0] != 0  # the session went with its keyd
    else:
        v.c.ok("edit", new, act, *words)
        if cut == CUTS[1]:
            v.restart()
        else:
            new.rename(v.path)
            if cut == CUTS[2]:
                v.restart()
            else:
                v.c.ok("pin", v.path)
                v.restart()
    made = cut in CUTS[2:]
    code, rest = v.opens()
    if made and act == "dir-shred":
        assert code == NOKEY
    else:
        assert code == 0
        assert (rest.split()[1] == v.pd_keys) is not (made and act == "dir-rotate")
    if not made:
        v.c.admin(v.path, SPARE, "keyfile").edit(v.path, act, *words)
        code, _ = v.opens()
        assert (code == NOKEY) is (act == "dir-shred")


def test_put_but_never_pinned_is_newer_not_older(home):
    """What was put in place before the kill counts once it is opened; what it replaced is refused from then on."""
    v = Volume(home)
    old = home.dir / "old.ini"
    old.write_bytes(v.path.read_bytes())
    v.c.admin(v.path, SPARE, "keyfile").ok("edit", v.path, "master-rotate")
    v.restart()
    v.opens()
    assert v.c.ask("unlock", old, "keyfile", SPARE)[0] == ROLLBACK


@pytest.mark.parametrize("act", ["slot-add", "slot-replace"])
def test_kill_while_a_slot_is_made(home, act):
    """Argon2id runs meanwhile."""
    v = Volume(home)
    v.c.admin(v.path, SPARE, "keyfile")
    v.c.send("edit", home.dir / "new.ini", act, "number=2", "type=passphrase", "secret=slow")
    home.kill_keyd()
    assert v.c.answer()[0] != 0 or (home.dir / "new.ini").exists()
    v.c.ok("connect", home.socket, KEYD)
    v.opens()
