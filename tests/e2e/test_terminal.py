"""latch at a terminal: what it asks and shows, and what it leaves behind."""

import os

from harness import OK, PASSPHRASE, USAGE, WRONG_PASSPHRASE


def test_init_asks_twice_and_shows_the_recovery_key_once(terminal, latch, workdir):
    t = terminal("init", "--fast-kdf", workdir / "vol")
    t.expect("New passphrase")
    t.type("typed secret")
    t.expect("again")
    t.type("typed secret")
    t.expect("recovery key ----")
    t.expect("\n")
    code, shown = t.end()
    assert code == OK and "typed secret" not in shown
    key = next(line for line in shown.splitlines() if line.count("-") == 12 and line[0] != "-")
    assert shown.count(key) == 1
    latch("slot", "test", "--passphrase-fd", "0", workdir / "vol", input="typed secret").ok()
    (workdir / "rec").write_text(key)
    latch("slot", "test", "--recovery-file", workdir / "rec", workdir / "vol").ok()


def test_two_different_passphrases_make_nothing(terminal, workdir):
    t = terminal("init", "--fast-kdf", workdir / "vol")
    t.expect("New passphrase")
    t.type("one")
    t.expect("again")
    t.type("two")
    code, shown = t.end()
    assert code == USAGE and "differ" in shown and not (workdir / "vol").exists()


def test_a_typed_passphrase_has_three_tries(terminal, volume, latch):
    t = terminal("unlock", volume.path)
    for word in ("wrong", "wrong too", PASSPHRASE):
        t.expect("Passphrase")
        t.type(word)
    code, shown = t.end()
    assert code == OK and PASSPHRASE not in shown
    latch("lock", volume.path).ok()
    t = terminal("unlock", volume.path)
    for word in ("wrong", "wrong too", "and again"):
        t.expect("Passphrase")
        t.type(word)
    assert t.end()[0] == WRONG_PASSPHRASE


def test_slot_add_asks_for_both(terminal, volume, latch):
    t = terminal("slot", "add", "--fast-kdf", volume.path)
    t.expect("Passphrase")
    t.type(PASSPHRASE)
    for _ in range(2):
        t.expect("new slot:")
        t.type("second secret")
    assert t.end()[0] == OK
    latch("slot", "test", "--passphrase-fd", "0", volume.path, input="second secret").ok()


def test_echo_comes_back_after_an_interrupt(terminal, volume):
    import termios

    t = terminal("unlock", volume.path)
    t.expect("Passphrase")
    echo = lambda: termios.tcgetattr(t.master)[3] & termios.ECHO  # noqa: E731
    assert not echo()
    os.write(t.master, b"\x03")
    t.process.wait(60)
    assert echo()
    assert t.process.returncode != OK
