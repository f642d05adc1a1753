from __future__ import annotations

import re

import pytest

from tests.conftest import DO, ECHO, IAC, PASSWORD, PROMPT, Peer, Server

MENU = ["Main menu"] + [
    f"  {number}  {title}"
    for number, title in (
        (1, "Trace"),
        (2, "Repair Database"),
        (3, "System Variables"),
        (4, "System Information"),
        (5, "Set Date/Time"),
        (0, "Logout"),
    )
]
WHOAMI = ["OK admin from 127.0.0.1 (telnet)"]
QUESTION = re.compile(rb"[^\n]*: $")


def leave(peer: Peer, line: str) -> str:
    """Type a line that ends the session, and return what comes behind it before the close."""
    return peer.send(line + "\r\n").text_to_close().removeprefix("\r\n")


# The main menu


def test_the_main_menu_has_its_order_and_titles(shell: Peer, server: Server) -> None:
    """After the log-in, and for ?, the main menu stands as it always has."""
    fresh = server.log_in()
    text = fresh.seen.partition(b"(telnet)\r\n")[2].decode()

    assert text == "\r\n".join([*MENU, "Type 'help' for all commands.", "callisto# "])
    assert shell.run("?")[: len(MENU)] == MENU
    assert shell.run("help")[: len(MENU)] == MENU


@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        (("2", "repair", "REPAIR", "rep", "r"), rb"\[y/N\]: $"),
        (("5",), rb"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]: $"),
    ],
)
def test_entries_that_ask(shell: Peer, typed: tuple[str, ...], wanted: bytes) -> None:
    """Number, word and beginning of an entry lead to its question, which ends in ``: ``."""
    for line in typed:
        shell.send(line + "\r\n").expect(re.compile(wanted))
        answer = shell.send("\r\n").answer()
        assert len(answer) == 1


@pytest.mark.parametrize("line", ["3", "variables", "Variables", "VARIABLES", "var", "V"])
def test_the_variables_menu_is_entered(shell: Peer, line: str) -> None:
    """Number, word, beginning and any case enter the menu, whose prompt names it; ``0`` goes up."""
    shell.send(line + "\r\n")
    assert shell.expect(PROMPT).endswith(b"\r\ncallisto(variables)# ")
    shell.send("0\r\n")
    assert shell.expect(PROMPT).endswith(b"\r\ncallisto# ")


@pytest.mark.parametrize("line", ["4", "information", "INFO", "i"])
def test_information_is_chosen_by_number_word_and_beginning(shell: Peer, line: str) -> None:
    """All ways of choosing an entry do the same."""
    answer = shell.run(line)
    assert answer[0] == "-- Product --"
    assert answer[-1].startswith("OK ")


@pytest.mark.parametrize("line", ["1", "trace", "Trace", "tr"])
def test_trace_is_chosen_by_number_word_and_beginning(shell: Peer, line: str) -> None:
    """Trace shows the processes, then the live records until Enter."""
    shell.send(line + "\r\n").expect(b"STATE\r\n")
    shell.expect(b"ends the trace.\r\n")
    assert shell.send("\r\n").answer()[-1].startswith("OK trace saved to ")


@pytest.mark.parametrize("line", ["date", "DATE", "da"])
def test_the_word_date_shows_the_clock(shell: Peer, line: str) -> None:
    """By its word alone, date shows time, zone and source, and asks nothing."""
    answer = shell.run(line)
    assert [each.partition(":")[0] for each in answer[:3]] == ["Time", "Zone", "Source"]
    assert answer[3].startswith("OK ")


@pytest.mark.parametrize("line", ["0", "logout", "LOGOUT", "log", "exit", "back", "EXIT"])
def test_the_main_menu_is_left_by_logging_out(server: Server, line: str) -> None:
    """``0``, ``logout``, ``back`` and ``exit`` end the session from the main menu, with one OK line."""
    assert leave(server.log_in(), line) == "OK logged out\r\n"


@pytest.mark.parametrize("line", ["0", "back", "exit", "BACK", "b"])
def test_a_sub_menu_is_left_to_the_main_menu(shell: Peer, line: str) -> None:
    """``0``, ``back`` and ``exit`` go up, with one OK line, and the main prompt follows."""
    shell.run("3")
    shell.send(line + "\r\n")

    assert re.fullmatch(rb"\r\nOK [^\r\n]+\r\ncallisto# ", shell.expect(PROMPT))


def test_a_nested_menu_is_left_one_step_at_a_time(shell: Peer) -> None:
    """The prompt names the way down, and ``back`` goes up one."""
    shell.run("backup")
    for line, prompt, done in (
        ("schedule", "callisto(backup/schedule)# ", "OK backup schedule menu"),
        ("back", "callisto(backup)# ", "OK backup menu"),
        ("sched", "callisto(backup/schedule)# ", "OK backup schedule menu"),
        ("0", "callisto(backup)# ", "OK backup menu"),
        ("quit", "callisto# ", "OK main menu"),
    ):
        assert shell.run(line)[-1] == done
        assert shell.at(prompt.encode())


@pytest.mark.parametrize("line", ["; from the other site", "# whoami", "  !", "#", ";;; logout"])
def test_a_comment_does_nothing(shell: Peer, line: str) -> None:
    """A pasted line that begins with ``;``, ``#`` or ``!`` is answered as an empty one: by the prompt alone."""
    assert shell.run(line) == []
    assert shell.run("whoami") == WHOAMI


def test_set_date_time_names_zone_and_time_server(shell: Peer) -> None:
    """By its number, the clock's screen says how to change the zone and who is asked for the time."""
    shell.send("5\r\n").expect(b"\r\nZone: ")
    shown = shell.expect(re.compile(rb"\]: $")).decode().split("\r\n")
    assert shown[0].endswith(" ('date zone NAME' changes it)")
    assert shown[1].endswith(" ('date sync' asks pool.ntp.org)")
    assert shell.send("\r\n").answer() == ["OK date and time kept"]


def test_logout_works_in_a_sub_menu(server: Server) -> None:
    """``logout`` ends the session from anywhere."""
    peer = server.log_in()
    peer.run("3")

    assert leave(peer, "logout") == "OK logged out\r\n"


@pytest.mark.parametrize("menu", ["", "3"])
def test_an_empty_line_repeats_the_prompt_alone(shell: Peer, menu: str) -> None:
    """Nothing but the prompt, on a line of its own, answers an empty line, or one of blanks."""
    prompt = b"\r\ncallisto# "
    if menu:
        shell.run(menu)
        prompt = b"\r\ncallisto(variables)# "
    assert shell.send("\r\n").expect(PROMPT) == prompt
    assert shell.send("   \r\n").expect(PROMPT) == prompt
    if menu:
        shell.run("0")


@pytest.mark.parametrize("menu", ["", "3"])
def test_the_commands_that_work_everywhere(shell: Peer, menu: str) -> None:
    """``whoami``, ``sessions``, ``history`` and ``help`` answer in every menu."""
    if menu:
        shell.run(menu)
    assert shell.run("whoami") == WHOAMI
    sessions = shell.run("sessions")
    assert "admin from 127.0.0.1 (telnet) since " in sessions[0]
    assert sessions[-1].startswith("OK ")
    assert shell.run("history")[-1].startswith("OK ")
    assert shell.run("?")[-1].startswith("OK ")
    if menu:
        shell.run("0")


def test_history_lists_what_was_typed(server: Server) -> None:
    """The lines of this session, oldest first, and no answers to questions."""
    peer = server.log_in()
    peer.run("whoami")
    peer.send("repair\r\n").expect(b"[y/N]: ")
    peer.send("no thanks\r\n").answer()

    assert [line.split(maxsplit=1)[1] for line in peer.run("history")[:-1]] == ["whoami", "repair", "history"]


def test_sessions_lists_who_is_on(server: Server) -> None:
    """Every session stands with account, address and door; one's own is marked."""
    server.log_in(source="127.0.0.6")
    lines = server.log_in(source="127.0.0.7").run("sessions")

    assert any("admin from 127.0.0.6 (telnet) since " in line for line in lines[:-1])
    assert [line for line in lines if "(this session)" in line] == [line for line in lines if "127.0.0.7" in line]


@pytest.mark.parametrize(
    "word",
    ["trace", "repair", "variables", "information", "date", "logout", "help", "history", "1", "3", "variables set"],
)
def test_help_explains_a_word(shell: Peer, word: str) -> None:
    """``help WORD`` explains one entry, and runs nothing."""
    answer = shell.run(f"help {word}")

    assert len(answer) >= 2
    assert answer[-1].startswith("OK ")


def test_a_word_that_is_ambiguous_or_unknown_does_nothing(shell: Peer) -> None:
    """An ambiguous beginning names what it may mean; an unknown word says so."""
    assert shell.run("h") == ["Error: 'h' is ambiguous: help or history"]
    assert shell.run("frobnicate")[0].startswith("Error: ")
    assert shell.run("9")[0].startswith("Error: ")


# Confirmations


@pytest.mark.parametrize("answer", ["", "n", "no", "x", "yess"])
def test_a_confirmation_takes_yes_alone(shell: Peer, answer: str) -> None:
    """Anything but y or yes is no, which is no error, and nothing is done."""
    shell.send("repair\r\n").expect(re.compile(rb"[^\n]+ \[y/N\]: $"))

    assert shell.send(answer + "\r\n").answer() == ["OK nothing was changed"]


@pytest.mark.parametrize("answer", ["y", "yes", "YES"])
def test_a_confirmation_is_given(shell: Peer, answer: str) -> None:
    """``y`` and ``yes`` confirm, upper or lower case."""
    shell.send("repair\r\n").expect(b"[y/N]: ")

    assert shell.send(answer + "\r\n").answer()[-1].startswith("OK database is sound")


# The form of what is printed

SCRIPT = (
    "trace for=1s records=1 before=10s",
    "trace list",
    "trace show nothing.log",
    "trace delete nothing.log yes",
    "trace processes",
    "trace nothing",
    "trace level=loud",
    "trace for=soon",
    "trace bogus=1",
    "repair yes",
    "repair now",
    "variables list",
    "variables list gWeb*",
    "variables diff",
    "variables show gWebTimeout",
    "variables show gWebServerRestart",
    "variables show nothing",
    "variables show",
    "variables set gWebTimeout 31 note=a longer note",
    "variables set gWebTimeout abc",
    "variables set gWebTimeout",
    "variables set gDefaultMailbox 4711",
    "variables set gTimeServer #nonsense#",
    "variables reset gWebTimeout",
    "variables reset nothing",
    "variables history",
    "variables history gWebTimeout",
    "variables undo",
    "variables undo 9999",
    "variables undo x",
    "variables export",
    "variables bogus",
    "3 set gWebTimeout 20",
    "information",
    "information please",
    "date",
    "date yesterday",
    "date zone",
    "date zone Nowhere/Land",
    "date bogus",
    "user list",
    "user add",
    "user passwd nobody",
    "user remove nobody yes",
    "audit",
    "audit 5",
    "audit many",
    "help",
    "help trace",
    "help nothing",
    "history",
    "whoami",
    "whoami now",
    "sessions",
    "notices on",
    "notices off",
    "notices maybe",
    "bogus",
    "bogus# ",
    "bogus>",
    "what's",
    '"open',
    "käse%",
    "[word]",
    "$",
    "<b>",
    "word:",
    "\x1b[31mred\x1b[0m",
    "?",
    "1 ?",
    "3 ?",
)
SUB_MENU = (
    "list",
    "diff",
    "show gWebTimeout",
    "set gWebTimeout 9999",
    "undo 9999",
    "export",
    "99",
    "x",
    "?",
    "help set",
    "h",
)


def test_every_command_ends_with_one_line_to_wait_for(appliance: Server) -> None:
    """Whatever is typed, one line begins with OK or Error: and is the last; no line looks like a prompt."""
    peer = appliance.log_in()
    for line in (*SCRIPT, "3", *SUB_MENU, "back"):
        answer = peer.run(line)
        ends = [each for each in answer if each.startswith(("OK", "Error"))]
        assert ends == answer[-1:], line
        assert ends[0].startswith(("OK ", "Error: ")), line
        for each in answer:
            assert each[-1:] not in set(">#$%"), (line, each)
            assert not re.fullmatch(r"\s*\S+:\s*|\s*[\[(<]\S*[\])>]\s*", each), (line, each)
            assert each.isprintable(), (line, each)


def test_accounts_are_managed_over_the_wire(appliance: Server) -> None:
    """An account is added, changed and removed; its password is asked for twice and never shown."""
    peer = appliance.log_in()
    peer.send(IAC + DO + ECHO)
    assert peer.run("user remove admin")[-1:] == ["Error: admin is the only account; add another before it is removed"]
    for words, done in (("user add berta", "OK account berta added"), ("user passwd berta", "OK password of berta")):
        peer.send(words + "\r\n").expect(QUESTION)
        peer.send("Berta-secret-9\r\n").expect(QUESTION)
        assert peer.send("Berta-secret-9\r\n").answer()[-1].startswith(done)
    assert appliance.log_in("berta", "Berta-secret-9").run("whoami") == ["OK berta from 127.0.0.1 (telnet)"]

    assert peer.run("user add 1anna")[-1].startswith("Error: '1anna' is no name for an account; allowed: a letter")
    assert peer.run("user add admin")[-1:] == ["Error: an account named admin exists already"]
    assert b"A password has 8 to 128 characters" in peer.send("user add carla\r\n").expect(QUESTION)
    peer.send("Carla-secret-9\r\n").expect(QUESTION)
    assert peer.send("Carla-secret-8\r\n").answer()[-1].startswith("Error: ")
    peer.send("user add carla\r\n").expect(QUESTION)
    assert peer.send("short\r\n").answer()[-1].startswith("Error: ")
    assert peer.run("user remove berta yes")[-1].startswith("OK account berta removed")
    assert [line.split()[0] for line in peer.run("user list")[:-1] if "last access" in line] == ["admin"]
    assert b"secret-" not in peer.seen
    assert "secret-" not in appliance.log()


def test_a_line_over_four_kilobytes_is_refused_whole(shell: Peer) -> None:
    """The line is read to its end, answered by one Error line, and the session goes on."""
    answer = shell.run("whoami " + "x" * 100_000)
    assert [line[:7] for line in answer] == ["Error: "]
    assert "4096" in answer[0]

    assert shell.run("whoami") == WHOAMI
    assert shell.run("y" * 4096)[0].startswith("Error: no command ")


# Notices and ended sessions


def test_a_notice_waits_for_the_next_prompt(appliance: Server) -> None:
    """What another session does is told before the next prompt, and nothing comes while a prompt waits."""
    waiting, acting = appliance.log_in(), appliance.log_in()
    assert acting.run("repair yes")[-1].startswith("OK database is sound")
    assert waiting.sync() == b""

    answer = waiting.run("whoami")
    assert answer[0] == WHOAMI[0]
    assert len(answer) > 1
    assert all(line.startswith("Notice: ") for line in answer[1:])
    assert "admin" in answer[1]
    assert waiting.run("whoami") == WHOAMI


def test_notices_on_shows_them_above_the_half_typed_line(appliance: Server) -> None:
    """With ``notices on`` a notice comes at once, and prompt and half-typed line stand below it again."""
    waiting, acting = appliance.log_in(), appliance.log_in()
    waiting.send(IAC + DO + ECHO)
    waiting.run("notices on")
    waiting.send("whoa").expect(b"whoa")
    acting.run("repair yes")

    for moment in (b"begun", b"ended"):
        shown = waiting.expect(b"# whoa")
        assert re.fullmatch(rb"\r\nNotice: [^\r]+\r\ncallisto# whoa", shown)
        assert moment in shown
    assert waiting.send("mi\r\n").answer() == ["mi", *WHOAMI]


def test_the_sessions_of_a_removed_account_end(appliance: Server) -> None:
    """Who is removed is told why, and his sessions end at once, whatever they are doing."""
    peer = appliance.log_in()
    added = appliance.command("user", "add", "dora", "--password-stdin", text="Dora-secret-9\n")
    assert added.returncode == 0, added.stderr
    dora, tracing = (appliance.log_in("dora", "Dora-secret-9") for _ in range(2))
    tracing.send("trace\r\n").expect(b"ends the trace.\r\n")
    assert peer.run("user remove dora yes")[-1] == "OK account dora removed, 2 other sessions ended"

    for each in (dora, tracing):
        assert re.search(r"\r\nClosed: [^\r]+\.\r\n$", each.text_to_close())
    assert peer.run("whoami") == WHOAMI


def test_a_removal_is_of_the_account_that_was_asked_about(appliance: Server) -> None:
    """Where somebody removes the account and makes it anew while the question stands, the new one stays."""
    peer = appliance.log_in()
    for words in (("add", "emma"), ("remove", "emma", "yes"), ("add", "emma")):
        appliance.command("user", *words, "--password-stdin", text="Emma-secret-9\n")
        if words == ("add", "emma") and b"[y/N]" not in peer.seen:
            peer.send("user remove emma\r\n").expect(b"[y/N]: ")
    assert peer.send("y\r\n").answer()[-1:] == [
        "Error: the account emma has become another meanwhile; nothing was changed"
    ]
    assert peer.run("user remove emma yes")[-1].startswith("OK account emma removed")


def test_a_changed_password_ends_the_other_sessions(appliance: Server) -> None:
    """After a new password the account's other sessions end; the one that changed it stays."""
    other, own = appliance.log_in(), appliance.log_in()
    assert own.send("user passwd\r\n").expect(QUESTION).endswith(b"Present password of admin: ")
    wrong = own.send("Not-the-one-1\r\n").answer()[-1]
    assert wrong == "Error: the present password is another one; nothing was changed"
    own.send("user passwd\r\n").expect(QUESTION)
    asked = own.send(PASSWORD + "\r\n").expect(QUESTION)
    assert b"A password has 8 to 128 characters with an upper and a lower case letter" in asked
    own.send(PASSWORD + "\r\n").expect(QUESTION)
    assert own.send(PASSWORD + "\r\n").answer()[-1] == "OK password of admin changed, 1 other session ended"

    assert re.search(r"\r\nClosed: [^\r]+\.\r\n$", other.text_to_close())
    assert own.run("whoami") == WHOAMI
