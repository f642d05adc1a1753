from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest

from tests.conftest import IAC, NAWS, PROMPT, SB, SE, WILL, Peer, Server, Shells, StartServer


@pytest.fixture(scope="module")
def stock(module_server: Server) -> Iterator[Shells]:
    """The peers that wait at the main menu."""
    with contextlib.closing(Shells(module_server)) as shells:
        yield shells


@pytest.fixture
def peer(stock: Shells) -> Iterator[Peer]:
    """A peer in the menu of the variables, all of which have their defaults before and after."""
    with stock.lend() as peer:
        peer.run("variables")
        yield peer
        for line in peer.run("variables diff" if peer.at(b"callisto# ") else "diff")[:-1]:
            name = line.split()[0]
            peer.run(f"variables reset {name}" if peer.at(b"callisto# ") else f"reset {name}")
        if not peer.at(b"callisto# "):
            peer.run("0")


def last_id(peer: Peer, name: str) -> str:
    """Return the number of the variable's last change."""
    return peer.run(f"history {name}")[-2].partition(":")[0]


def test_list_has_a_line_a_variable_and_marks_the_changed(peer: Peer) -> None:
    """``list`` prints ``name = value``, with ``*`` where it differs; a pattern picks; ``diff`` prints only those."""
    peer.run("set gWebTimeout 25")
    listed = peer.run("list")
    assert len(listed) == 18
    assert all(re.fullmatch(r"g\w+ =( \S+)?( \*)?", line) for line in listed[:-1])
    assert "gWebTimeout = 25 *" in listed
    assert "gRecordVolume = 400" in listed

    assert peer.run("list gWeb")[:-1] == ["gWebServerRestart =", "gWebTimeout = 25 *"]
    assert peer.run("list g*Timeout")[:-1] == ["gWebTimeout = 25 *"]
    assert [line.split()[0] for line in peer.run("diff")[:-1]] == ["gWebTimeout"]


def test_show_tells_all_about_a_variable(peer: Peer) -> None:
    """``show`` says what it does, the values allowed and their meanings, default, now, and the last change."""
    peer.run("set gWebTimeout 30 note=ticket 4711")
    text = "\n".join(peer.run("show gWebTimeout"))

    assert re.search(r"^Now: 30 minutes$", text, re.MULTILINE)
    assert re.search(r"^Default: 20$", text, re.MULTILINE)
    assert re.search(r"^Does: .*web user.*", text, re.MULTILINE)
    assert re.search(r"^Allowed: a whole number of minutes from 0 to 1440$", text, re.MULTILINE)
    assert re.search(r"^  0: nobody is logged out automatically$", text, re.MULTILINE)
    assert re.search(
        r"^Last change: \d+: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d gWebTimeout = 30 .*admin.*127\.0\.0\.1.*ticket 4711$",
        text,
        re.MULTILINE,
    )
    assert text.endswith("\nOK gWebTimeout = 30")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("set gWebTimeout 30", "OK gWebTimeout = 30 (was 20)"),
        ("set GWEBTIMEOUT 30", "OK gWebTimeout = 30 (was 20)"),
        ("set gWebT 30", "OK gWebTimeout = 30 (was 20)"),
        ("set gWebTimeout=30", "OK gWebTimeout = 30 (was 20)"),
        ("set gWebTimeout = 30", "OK gWebTimeout = 30 (was 20)"),
        ("set gWebTimeout 30 note=it was too short", "OK gWebTimeout = 30 (was 20)"),
        ("set gWebTimeout 20", "OK gWebTimeout = 20 (unchanged)"),
        ("set gWebTimeout 0", "OK gWebTimeout = 0 (was 20)"),
        ("set gWebTimeout 1440", "OK gWebTimeout = 1440 (was 20)"),
        ("set gWebTimeout abc", "Error: gWebTimeout: 'abc' is not a whole number of minutes from 0 to 1440"),
        ("set gWebTimeout 1441", "Error: gWebTimeout: '1441' is not a whole number of minutes from 0 to 1440"),
        ("set gWebTimeout -1", "Error: gWebTimeout: '-1' is not a whole number of minutes from 0 to 1440"),
        ("set gBridgeTransfer 1", "OK gBridgeTransfer = 1 (was 0)"),
        ("set gBridgeTransfer 2", "Error: gBridgeTransfer: '2' is not 0 or 1"),
        ("set gTimeServer ntp.example.org", "OK gTimeServer = ntp.example.org (was pool.ntp.org)"),
        ("set gWebServerRestart 9,02:00", "OK gWebServerRestart = 9,02:00 (was blank)"),
        ("set gWebServerRestart sun,wed 02:00", "OK gWebServerRestart = 9,02:00 (was blank)"),
        ("set gWebServerRestart Sunday,Wednesday 2:00", "OK gWebServerRestart = 9,02:00 (was blank)"),
        ("set gWebServerRestart daily 23:59", "OK gWebServerRestart = 127,23:59 (was blank)"),
        ("set gWebServerRestart mon-fri 02:00", "OK gWebServerRestart = 62,02:00 (was blank)"),
        ('set gWebServerRestart ""', "OK gWebServerRestart = blank (unchanged)"),
    ],
)
def test_set_answers_with_the_old_and_the_new(peer: Peer, line: str, wanted: str) -> None:
    """Every form of ``set`` answers with one line; bad input says what is allowed."""
    assert peer.run(line) == [wanted]


@pytest.mark.parametrize("value", ["128,02:00", "9,24:00", "9,02:60", "9", "02:00", "sun 2", "xyz 02:00", "-1,02:00"])
def test_a_restart_plan_that_is_none_is_refused(peer: Peer, value: str) -> None:
    """A plan without sense names what is allowed, and nothing has changed."""
    answer = peer.run(f"set gWebServerRestart {value}")
    assert len(answer) == 1
    assert answer[0].startswith(f"Error: gWebServerRestart: '{value}' is not a restart plan such as 9,02:00")

    assert peer.run("diff") == peer.run("diff")[-1:]


def test_show_names_the_next_run_of_a_restart_plan(peer: Peer) -> None:
    """For a restart plan ``show`` says the days in words and the next run by the appliance's clock."""
    peer.run("0")
    peer.run("date 2026-11-23 10:15:00")
    peer.run("3")
    peer.run("set gWebServerRestart 9,02:00")
    shown = peer.run("show gWebServerRestart")

    assert "Now: 9,02:00 (Sunday and Wednesday at 02:00)" in shown
    assert "Next run: 2026-11-25 02:00:00" in shown


def test_after_an_error_nothing_has_changed(peer: Peer) -> None:
    """A refused ``set`` leaves value, history and diff as they were."""
    before = peer.run("history")
    for line in (
        "set gWebTimeout abc",
        "set gWebTimeout",
        "set nothing 1",
        "reset nothing",
        "undo 99999",
        "set gWeb 1",
    ):
        assert peer.run(line)[0].startswith("Error: ")

    assert peer.run("history") == before
    assert peer.run("list gWebTimeout")[0] == "gWebTimeout = 20"


def test_reset_gives_the_default_again(peer: Peer) -> None:
    """``reset`` answers like ``set``; a second one changes nothing."""
    peer.run("set gRecordVolume 300")

    assert peer.run("reset gRecordVolume note=as delivered") == ["OK gRecordVolume = 400 (was 300)"]
    assert peer.run("reset gRecordVolume") == ["OK gRecordVolume = 400 (unchanged)"]


def test_history_tells_who_changed_what_when_and_why(peer: Peer) -> None:
    """``history`` lists the changes of one variable or of all, the newest last; ``limit`` bounds it."""
    for value in ("10", "11", "12"):
        peer.run(f"set gStripCallerID {value} note=step {value}")
    one = peer.run("history gStripCallerID")[:-1]

    assert [re.search(r"= (\d+) \(was", line)[1] for line in one[-3:]] == ["10", "11", "12"]  # type: ignore[index]
    assert all("admin" in line and "127.0.0.1" in line and "telnet" in line for line in one[-3:])
    assert "step 12" in one[-1]
    assert peer.run("history")[-2] == one[-1]
    assert peer.run("history gStripCallerID limit=2")[:-1] == one[-2:]


def test_undo_puts_back_the_last_change_or_the_one_named(peer: Peer) -> None:
    """``undo`` takes the last change that is not undone, ``undo ID`` any; an undo can be undone."""
    peer.run("set gWebTimeout 30")
    peer.run("set gRecordVolume 300")
    first = last_id(peer, "gWebTimeout")
    assert peer.run("undo")[-1].startswith("OK gRecordVolume = 400 (was 300)")
    assert peer.run(f"undo {first}")[-1].startswith("OK gWebTimeout = 20 (was 30)")

    assert peer.run(f"undo {last_id(peer, 'gWebTimeout')}")[-1].startswith("OK gWebTimeout = 30 (was 20)")


def test_export_and_import_are_inverses(peer: Peer) -> None:
    """What ``export`` prints, pasted into ``import``, puts everything back after it was shown as a diff."""
    peer.run("set gWebTimeout 55")
    peer.run("set gWebServerRestart sun 03:00")
    exported = peer.run("export")[:-1]
    peer.run("reset gWebTimeout")
    peer.run("set gWebServerRestart mon 04:00")

    peer.send("import note=back again\r\n").expect(b"dot.\r\n")
    peer.send("".join(f"{line}\r\n" for line in exported) + ".\r\n")
    diff = peer.expect(re.compile(rb"[^\n]* \[y/N\]: $")).decode().split("\r\n")
    assert diff[:2] == ["gWebServerRestart = 1,03:00 (now 2,04:00)", "gWebTimeout = 55 (now 20)"]
    assert peer.send("yes\r\n").answer() == ["OK 2 variables imported"]
    assert [line.split()[0] for line in peer.run("diff")[:-1]] == ["gWebServerRestart", "gWebTimeout"]
    assert "back again" in peer.run("history gWebTimeout")[-2]
    assert peer.run("undo")[-1] == "OK 2 variables put back: gWebTimeout and gWebServerRestart"


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        (["gWebTimeout = 40"], "no"),
        (["gWebTimeout = 40", "gRecordVolume = loud"], None),
        (["gWebTimeout = 40", "gNothing = 1"], None),
        (["gWebTimeout = 40", "gWebTimeout = 41"], None),
        (["gWebTimeout = 40", "what is this"], None),
        (["gWebTimeout = 40"], "\x03"),
    ],
)
def test_an_import_is_all_or_nothing(peer: Peer, lines: list[str], answer: str | None) -> None:
    """A line that cannot be taken or an interrupt is an error, a no is none; nothing has changed in each case."""
    peer.send("import\r\n").expect(b"dot.\r\n")
    peer.send("".join(f"{line}\r\n" for line in [*lines, "."]))
    if answer is not None:
        peer.expect(b"[y/N]: ")
        peer.send(answer + "\r\n" if answer.isprintable() else answer)
    said = peer.answer()
    assert said == ["OK nothing was changed"] if answer == "no" else [line[:7] for line in said] == ["Error: "]
    if len(lines) > 1:
        assert "line 2" in said[0]

    assert len(peer.run("diff")) == 1


def test_a_number_picks_a_variable_and_asks_for_its_value(peer: Peer) -> None:
    """The number of the list shows the variable and asks ``New value [20]: ``; an empty answer keeps it."""
    menu = peer.run("list")[:-1]
    number = [line.split()[0] for line in menu].index("gWebTimeout") + 1
    peer.send(f"{number}\r\n")
    shown = peer.expect(b"New value [20]: ").decode()
    assert shown.startswith("\r\nName: gWebTimeout\r\n")
    assert shown.endswith("\r\nNew value [20]: ")
    assert peer.send("\r\n").answer() == ["OK gWebTimeout = 20 (unchanged)"]

    peer.send(f"{number}\r\n").expect(b"New value [20]: ")
    assert peer.send("35\r\n").answer() == ["OK gWebTimeout = 35 (was 20)"]
    peer.send(f"{number}\r\n").expect(b"New value [35]: ")
    assert peer.send("never\r\n").answer()[0].startswith("Error: gWebTimeout: 'never' is not ")
    peer.send(f"{number}\r\n").expect(b"New value [35]: ")
    assert peer.send("\x03").answer()[-1].startswith("Error: ")
    assert peer.run("show gWebTimeout")[-1] == "OK gWebTimeout = 35"


def log_in_new(appliance: Server, name: str) -> Peer:
    """Return a colleague at the main menu, with an account that was just made."""
    appliance.command("user", "add", name, "--password-stdin", text="Secret-456\n")
    return appliance.log_in(name, "Secret-456")


def test_an_answer_is_judged_by_the_value_of_now(peer: Peer, appliance: Server) -> None:
    """Where somebody has changed the variable while it was asked for, the answer says who, and asks again."""
    bob = log_in_new(appliance, "bob")
    peer.send("17\r\n").expect(b"New value [20]: ")
    bob.run("variables set gWebTimeout 44")
    (kept,) = peer.send("\r\n").answer()
    assert re.fullmatch(r"OK gWebTimeout = 44 \(kept; changed by bob \d s ago\)", kept)

    peer.send("17\r\n").expect(b"New value [44]: ")
    bob.run("variables set gWebTimeout 45")
    asked = peer.send("46\r\n").expect(b"[y/N]: ").decode().lstrip()
    wanted = r"gWebTimeout was changed to 45 by bob \d s ago; set 46 all the same \[y/N\]: "
    assert re.fullmatch(wanted, asked)
    assert peer.send("n\r\n").answer() == ["OK nothing was changed"]
    assert bob.run("variables list gWebTimeout")[0] == "gWebTimeout = 45 *"

    peer.send("17\r\n").expect(b"New value [45]: ")
    bob.run("variables set gWebTimeout 47")
    peer.send("46\r\n").expect(b"[y/N]: ")
    bob.run("variables set gWebTimeout 48")
    assert b"was changed to 48 by bob" in peer.send("y\r\n").expect(b"[y/N]: ")
    assert peer.send("y\r\n").answer() == ["OK gWebTimeout = 46 (was 48)"]


def test_undo_takes_ones_own_change_and_asks_before_anothers(peer: Peer, appliance: Server) -> None:
    """``undo`` is one's own last change; a colleague's, or one that he has built on, is named and asked for."""
    bob = log_in_new(appliance, "ben")
    peer.run("set gWebTimeout 21 note=admin wants this")
    number = last_id(peer, "gWebTimeout")
    asked = bob.send("variables undo\r\n").expect(b"[y/N]: ").decode().lstrip()
    assert re.fullmatch(rf"change {number} is admin's, \d s ago \(\"admin wants this\"\); undo it \[y/N\]: ", asked)
    assert bob.send("n\r\n").answer() == ["OK nothing was changed"]

    bob.run("variables set gRecordVolume 300")
    peer.run("set gStripCallerID 3")
    assert bob.run("variables undo")[-1].startswith("OK gRecordVolume = 400 (was 300), undoes change ")
    assert bob.run(f"variables undo {number} yes") == [f"OK gWebTimeout = 20 (was 21), undoes change {number}"]

    bob.run("variables set gStripCallerID 4")
    asked = peer.send("undo\r\n").expect(b"[y/N]: ").decode().lstrip()
    assert re.fullmatch(
        r"gStripCallerID was changed to 4 by ben \d s ago; undo change \d+ all the same \[y/N\]: ", asked
    )
    bob.run("variables set gStripCallerID 5")
    assert peer.send("y\r\n").answer() == ["Error: gStripCallerID has become '5' meanwhile; look at it again"]
    assert peer.run("undo yes")[-1].startswith("OK gStripCallerID = 0 (was 5)")


def test_what_takes_effect_later_says_so(peer: Peer) -> None:
    """The help of ``set`` names the one variable that waits for a restart."""
    assert any("gCocProxyMemory takes effect at the next start" in line for line in peer.run("help set"))


def test_the_menu_numbers_the_variables(peer: Peer) -> None:
    """The menu of the variables shows the number of each, and ``0`` as the way back; numbers beyond are refused."""
    peer.run("0")
    shown = peer.run("3")
    numbers = [int(line.split()[0]) for line in shown if re.match(r"\s*\d+  g", line)]

    assert numbers == list(range(1, 18))
    assert peer.run("18")[0].startswith("Error: ")


def test_a_number_does_for_a_name_wherever_one_stands(peer: Peer) -> None:
    """The numbers of the menu are taken by ``show``, ``set``, ``reset`` and ``history``; ``17 20`` sets."""
    assert peer.run("set 17 35") == ["OK gWebTimeout = 35 (was 20)"]
    assert peer.run("17 36") == ["OK gWebTimeout = 36 (was 35)"]
    assert peer.run("show 17")[-1] == "OK gWebTimeout = 36"
    assert "gWebTimeout = 36" in peer.run("history 17")[-2]
    assert peer.run("reset 17") == ["OK gWebTimeout = 20 (was 36)"]
    assert peer.run("set 18 1") == ["Error: number: '18' is not a whole number from 1 to 17"]


def test_other_menus_commands_are_understood_here(peer: Peer) -> None:
    """In the menu of the variables the main menu's words work, and the session stays where it is."""
    assert peer.run("user list")[-1].startswith("OK ")
    assert peer.run("date")[0].startswith("Time: ")
    assert peer.run("help audit")[-1] == "OK help for audit"
    assert peer.run("exit now") == ["Error: usage: exit"]
    assert peer.run("sett gWebTimeout 3") == ["Error: no command 'sett' in the variables menu; did you mean 'set'?"]
    assert peer.at(b"callisto(variables)# ")


def test_the_list_says_what_variables_do_where_there_is_room(appliance: Server) -> None:
    """On a terminal of 100 columns a line of the menu has what its variable does; a narrow one has the names alone."""
    peer = appliance.log_in()
    full = r" 17  gWebTimeout = 20 +How long a web user may be idle before being logged out\."
    for columns, wanted in ((100, full), (50, r" 17  gWebTimeout = 20")):
        peer.send(IAC + WILL + NAWS + IAC + SB + NAWS + bytes([0, columns, 0, 40]) + IAC + SE).sync()
        shown = peer.send_singly(b"3\r").answer()
        assert [line for line in shown if re.fullmatch(wanted, line)], shown
        assert max(map(len, shown)) <= 100
        peer.run("back")


@pytest.mark.parametrize("line", ["variables set gWebTimeout 30", "3 set gWebTimeout 30", "VAR SET gwebtimeout 30"])
def test_one_line_from_the_main_menu_does_it_too(peer: Peer, line: str) -> None:
    """What the sub-menu does step by step, one line does, and the session stays in the main menu."""
    peer.run("0")
    peer.send(line + "\r\n")

    assert peer.expect(PROMPT) == b"\r\nOK gWebTimeout = 30 (was 20)\r\ncallisto# "


def test_a_change_is_seen_by_others_at_once(peer: Peer, appliance: Server) -> None:
    """Another session and the command line beside the server see a change as soon as its OK is there."""
    peer.run("set gWebTimeout 44")

    assert appliance.log_in().run("variables show gWebTimeout")[-1] == "OK gWebTimeout = 44"
    assert "gWebTimeout = 44 *" in appliance.command("variables", "list", "gWebTimeout").stdout


def test_an_acknowledged_change_survives_a_kill(start: StartServer) -> None:
    """What was answered with OK is there after kill -9, with its history, and nothing else."""
    server = start()
    peer = server.log_in()
    assert peer.run("variables set gWebTimeout 33 note=durable") == ["OK gWebTimeout = 33 (was 20)"]
    server.kill()

    again = start(data=server.data).log_in()
    assert again.run("variables show gWebTimeout")[-1] == "OK gWebTimeout = 33"
    assert "durable" in again.run("variables history")[-2]


def test_the_edition_and_the_owner_decide_which_variables_there_are(start: StartServer) -> None:
    """The Express edition has a variable and a default of its own; the owner's variables are like all others."""
    peer = start(
        '[appliance]\nedition = "ucme"\n'
        '[variables.gGreeting]\ntype = "text"\nmaximum_length = 20\ndefault = "hello"\nhelp = "What is said first."\n'
        '[services.box]\ncommand = ["/bin/sh", "-c", "sleep 1000", "{gCocProxyMemory}"]\n'
    ).log_in()
    assert b"Callisto 1.0.0 (UCM Express)\r\n" in peer.seen
    listed = peer.run("variables list")
    assert "gSetLineName = 0" in listed
    assert "gTransferWithCallerID = 0" in listed

    assert peer.run("variables set gGreeting good morning") == ["OK gGreeting = good morning (was hello)"]
    assert peer.run("variables set gGreeting " + "x" * 21)[0].startswith("Error: gGreeting: ")
    assert any("What is said first." in line for line in peer.run("variables show gGreeting"))

    while not any(re.match(r"box +\d+ .* running", line) for line in peer.run("services list")):
        assert peer.run("services log box")[-1].startswith("OK ")
    later = "OK gCocProxyMemory = 300 (was 256); box takes it at its next start"
    assert peer.run("variables set gCocProxyMemory 300") == [later]
