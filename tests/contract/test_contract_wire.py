from __future__ import annotations

import itertools
import re
import socket

import pytest

from tests.conftest import (
    AO,
    AYT,
    BINARY,
    BRK,
    DM,
    DO,
    DONT,
    EC,
    ECHO,
    EL,
    GA,
    IAC,
    IP,
    LOGOUT,
    MARK,
    NAWS,
    NOP,
    OFFERS,
    PASSWORD,
    PROMPT,
    SB,
    SE,
    SGA,
    STATUS,
    TIMING_MARK,
    TTYPE,
    WILL,
    WONT,
    Peer,
    Server,
    StartServer,
)

LINEMODE, NEW_ENVIRON, CHARSET, AUTHENTICATION, ENCRYPT = (bytes([code]) for code in (34, 39, 42, 37, 38))
EOF, SUSP, ABORT, EOR = (bytes([code]) for code in (236, 237, 238, 239))
MCCP2, MCCP3, OLD_ENVIRON, XDISPLOC, TSPEED, LFLOW, COM_PORT, START_TLS, MSSP, GMCP = (
    bytes([code]) for code in (86, 87, 36, 35, 32, 33, 44, 46, 70, 201)
)
REFUSED = (
    LINEMODE,
    NEW_ENVIRON,
    CHARSET,
    AUTHENTICATION,
    ENCRYPT,
    MCCP2,
    MCCP3,
    STATUS,
    OLD_ENVIRON,
    XDISPLOC,
    TSPEED,
    LFLOW,
    COM_PORT,
    START_TLS,
    MSSP,
    GMCP,
)
SEND_TYPE = IAC + SB + TTYPE + b"\x01" + IAC + SE


def window(columns: int, rows: int) -> bytes:
    """Return the answer to DO NAWS and the size (RFC 1073)."""
    size = columns.to_bytes(2, "big") + rows.to_bytes(2, "big")
    return IAC + WILL + NAWS + IAC + SB + NAWS + size.replace(IAC, IAC + IAC) + IAC + SE


def echoing(server: Server) -> Peer:
    """Return a peer at the main menu that has agreed to ECHO."""
    return echo_on(server.log_in())


def echo_on(peer: Peer) -> Peer:
    """Agree to ECHO."""
    assert peer.send(IAC + DO + ECHO).sync() in {b"", IAC + WILL + ECHO}
    return peer


def test_the_login_prompt_comes_at_once(server: Server) -> None:
    """Offers, banner and login prompt are the first bytes, and wait for no answer."""
    peer = server.connect()

    assert peer.expect(b"login: ") == OFFERS + b"Callisto 1.0.0 (UCM)\r\ncallisto login: "
    assert peer.sync() == b""


def test_the_server_echoes_only_while_the_client_agrees(server: Server) -> None:
    """Without DO ECHO nothing is echoed, with it what is typed, and after DONT ECHO nothing again."""
    peer = server.log_in()
    assert peer.send("whoami\r\n").expect(PROMPT) == b"\r\nOK admin from 127.0.0.1 (telnet)\r\ncallisto# "

    peer.send(IAC + DO + ECHO + b"whoami\r\n")
    assert peer.expect(PROMPT) == b"whoami\r\nOK admin from 127.0.0.1 (telnet)\r\ncallisto# "

    peer.send(IAC + DONT + ECHO + b"whoami\r\n")
    assert peer.expect(PROMPT) == IAC + WONT + ECHO + b"\r\nOK admin from 127.0.0.1 (telnet)\r\ncallisto# "


def test_a_client_that_refuses_echo_is_not_asked_again(server: Server) -> None:
    """DONT ECHO as the answer to the offer is answered by nothing, and nothing is echoed."""
    peer = server.connect()
    peer.expect(b"login: ")
    assert peer.send(IAC + DONT + ECHO + IAC + DONT + ECHO).sync() == b""
    assert peer.send("admin\r\n").expect(b"Password: ") == b"\r\nPassword: "


def test_echo_always_echoes_even_where_it_was_refused(start: StartServer) -> None:
    """With echo = "always" a client that refuses ECHO is echoed all the same, but never its password."""
    peer = start('[telnet]\necho = "always"\n').connect()
    peer.expect(b"login: ")
    assert peer.send(IAC + DONT + ECHO).sync() == b""

    assert peer.send("admin\r\n").expect(b"Password: ") == b"admin\r\nPassword: "
    assert peer.send(PASSWORD + "\r\n").expect(PROMPT).startswith(b"\r\nLast access never\r\n")
    assert peer.send("whoami\r\n").expect(PROMPT).startswith(b"whoami\r\nOK admin from ")


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (IAC + DO + ECHO, [b"", b""]),
        (IAC + DO + SGA, [b"", b""]),
        (IAC + DONT + SGA, [b"", b""]),
        (IAC + DO + BINARY, [IAC + WILL + BINARY, b""]),
        (IAC + DONT + BINARY, [b"", b""]),
        (IAC + WILL + BINARY, [IAC + DO + BINARY, b""]),
        (IAC + WONT + BINARY, [b"", b""]),
        (IAC + WILL + SGA, [IAC + DO + SGA, b""]),
        (IAC + WILL + NAWS, [b"", b""]),
        (IAC + WONT + NAWS, [b"", b""]),
        (IAC + WILL + TTYPE, [b"", SEND_TYPE, b""]),  # once that is no longer than what was sent
        (IAC + WONT + TTYPE, [b"", b""]),
        (IAC + WILL + ECHO, [IAC + DONT + ECHO] * 2),
        (IAC + DO + NAWS, [IAC + WONT + NAWS] * 2),
        (IAC + DO + TTYPE, [IAC + WONT + TTYPE] * 2),
    ],
)
def test_each_request_of_a_known_option_is_answered_once(server: Server, sent: bytes, answers: list[bytes]) -> None:
    """A request that changes something is answered once; one that answers an offer, or changes nothing, never."""
    peer = server.connect()
    peer.expect(b"login: ")

    assert [peer.send(sent).sync() for _ in answers] == answers


@pytest.mark.parametrize(
    ("on", "off", "answer"),
    [
        (IAC + DO + BINARY, IAC + DONT + BINARY, IAC + WONT + BINARY),
        (IAC + WILL + BINARY, IAC + WONT + BINARY, IAC + DONT + BINARY),
        (IAC + DO + ECHO, IAC + DONT + ECHO, IAC + WONT + ECHO),
        (IAC + DO + SGA, IAC + DONT + SGA, IAC + WONT + SGA),
        (IAC + WILL + NAWS, IAC + WONT + NAWS, IAC + DONT + NAWS),
        (IAC + WILL + TTYPE, IAC + WONT + TTYPE, IAC + DONT + TTYPE),
    ],
)
def test_an_option_can_be_ended_and_agreed_again(server: Server, on: bytes, off: bytes, answer: bytes) -> None:
    """Ending an option is answered once; asking for it again is a new request, answered once."""
    peer = server.connect()
    peer.expect(b"login: ")
    peer.send(on).sync()

    assert peer.send(off).sync() == answer
    assert peer.send(off).sync() == b""
    agreed = IAC + (WILL if on[1:2] == DO else DO) + on[2:]
    assert peer.send(on).sync().removesuffix(SEND_TYPE) == agreed
    assert peer.send(on).sync() == b""


def test_unknown_options_are_refused_each_time_and_never_asked_for(server: Server) -> None:
    """DO is answered by WONT and WILL by DONT, once a request; WONT and DONT are answered by nothing."""
    peer = server.connect()
    peer.expect(b"login: ")
    for _ in range(2):
        for option in REFUSED:
            assert peer.send(IAC + DO + option).sync() == IAC + WONT + option
            assert peer.send(IAC + WILL + option).sync() == IAC + DONT + option
            assert peer.send(IAC + DONT + option + IAC + WONT + option).sync() == b""


def test_no_option_gets_an_answer_longer_than_the_request(server: Server) -> None:
    """Whatever of the options is asked for, the answer is one refusal or one agreement of the same option."""
    peer = server.connect()
    peer.expect(b"login: ")
    for command, code in itertools.product((WILL, WONT, DO, DONT), range(256)):
        option = bytes([code])
        if option in {TIMING_MARK, LOGOUT} or (command, option) == (WILL, TTYPE):
            continue
        peer.send(IAC + command + option)
    answers = peer.sync()

    assert len(answers) <= 2 * 256 * 3
    parted = [answers[at : at + 3] for at in range(0, len(answers), 3)]
    assert all(each[:1] == IAC and each[1:2] in {WILL, WONT, DO, DONT} for each in parted)
    assert len(set(parted)) == len(parted), "no request is answered twice"
    assert peer.send("\r\n").expect(b"callisto login: ")


@pytest.mark.parametrize(
    "data",
    [
        NEW_ENVIRON + b"\x00\x00USER\x01-f root",
        CHARSET + b"\x01;UTF-8",
        STATUS + b"\x01",
        LINEMODE + b"\x03" + b"\x01\x02\x03" * 40,
        AUTHENTICATION + b"\x00\x02\x00",
        ENCRYPT + b"\x00\x01",
        MCCP2,
        MCCP3,
        TTYPE + b"\x01",
        NAWS + b"\x00",
        NAWS + b"\x00" * 9,
        b"\x63" + b"x" * 20_000,
        b"",
    ],
    ids=lambda data: str(data[:8]),
)
def test_subnegotiations_are_answered_by_nothing_and_kept_nowhere(server: Server, data: bytes) -> None:
    """What a client says in an option gets no answer, and the log-in goes on."""
    peer = server.connect()
    peer.expect(b"login: ")
    assert peer.send(IAC + SB + data + IAC + SE).sync() == b""

    assert peer.send("admin\r\n").expect(b"Password: ") == b"\r\nPassword: "


def test_the_answers_of_two_sides_that_agree_end(server: Server) -> None:
    """A client that answers each request, as RFC 854 wants it, comes to rest: no loop."""
    peer = server.connect()
    peer.expect(b"login: ")
    peer.send(IAC + DO + ECHO + IAC + DO + SGA + window(80, 24) + IAC + WILL + TTYPE)
    assert peer.sync() == SEND_TYPE
    peer.send(IAC + SB + TTYPE + b"\x00XTERM-256COLOR" + IAC + SE)
    peer.send(IAC + WILL + BINARY + IAC + DO + BINARY)
    assert peer.sync() == IAC + DO + BINARY + IAC + WILL + BINARY
    assert peer.send(IAC + WILL + BINARY + IAC + DO + BINARY).sync() == b""


@pytest.mark.parametrize(("columns", "widest"), [(1, 20), (20, 20), (60, 60), (255, 255), (65_535, 500)])
def test_the_window_size_is_taken_within_its_bounds(server: Server, columns: int, widest: int) -> None:
    """The table of Tab is as wide as the window, from 20 to 500 columns."""
    peer = echoing(server)
    peer.send(window(columns, 24)).sync()
    peer.send("variables show g\t")
    rows = peer.expect(b"callisto# variables show g").split(b"\r\n")[1:-1]

    names = [row for row in rows if row.lstrip().startswith(b"g")]
    assert sum(len(row.split()) for row in names) >= 17
    width = max(len(row.decode()) for row in names)
    assert width <= widest
    if widest >= 60:
        assert width > 23, "more than one name a row"


# Bytes and lines


@pytest.mark.parametrize("binary", [False, True])
def test_utf8_is_taken_with_binary_agreed_or_not(server: Server, binary: bool) -> None:
    """Characters beyond ASCII come through whole, cut anywhere."""
    peer = server.log_in()
    if binary:
        peer.send(IAC + WILL + BINARY + IAC + DO + BINARY).sync()
    peer.send_singly("zürich-東京-😀\r\n".encode())

    assert "zürich-東京-😀" in peer.answer()[0]


@pytest.mark.parametrize(
    "data", [b"\xc3(", b"\xff\xff\xfe", b"\xed\xa0\x80", b"\x80\x81", b"\xf4\x90\x80\x80", b"\xc3"]
)
def test_bytes_that_are_no_utf8_never_end_a_session(shell: Peer, data: bytes) -> None:
    """Invalid bytes make a line that is no command, and the next line is taken as ever."""
    peer = shell
    peer.send(data.replace(IAC, IAC + IAC) + b"\r\n")

    assert peer.answer()[-1].startswith("Error: ")
    assert peer.run("whoami") == ["OK admin from 127.0.0.1 (telnet)"]


@pytest.mark.parametrize("end", [b"\r\n", b"\r\0", b"\r", b"\n"], ids=["CR LF", "CR NUL", "CR", "LF"])
@pytest.mark.parametrize("singly", [False, True], ids=["whole", "singly"])
def test_each_end_of_line_is_one(server: Server, end: bytes, singly: bool) -> None:
    """CR LF, CR NUL, CR and LF end a line once each, however they arrive; an empty line repeats the prompt alone."""
    peer = server.connect()
    script = b"".join(line + end for line in (b"admin", PASSWORD.encode(), b"whoami", b"", b"whoami"))
    (peer.send_singly if singly else peer.send)(script)
    answer = b"callisto# \r\nOK admin from 127.0.0.1 (telnet)\r\n"
    assert peer.expect(answer + b"callisto# \r\n" + answer)

    peer.expect(PROMPT)
    assert peer.sync() == b""


def test_the_server_ends_its_lines_with_cr_lf(shell: Peer) -> None:
    """Every LF of the server stands behind a CR, and every CR before an LF."""
    peer = shell
    for line in ("?", "information", "3", "export", "nonsense"):
        peer.run(line)
    text = peer.seen

    assert text.count(b"\r\n") == text.count(b"\n") == text.count(b"\r") > 60


def test_type_ahead_is_worked_off_in_order(server: Server) -> None:
    """A whole session in one segment runs as if it were typed at its prompts."""
    peer = server.connect()
    peer.send(f"admin\r\n{PASSWORD}\r\n3\r\nlist gWeb\r\n17\r\n\r\nback\r\nwhoami\r\nlogout\r\n")
    text = peer.text_to_close()

    wanted = [
        "OK variables menu",
        "OK 2 variables",
        "New value [20]: ",
        "(unchanged)",
        "OK main menu",
        "OK admin",
        "OK log",
    ]
    assert [text.index(each) for each in wanted] == sorted(text.index(each) for each in wanted)
    assert [line for line in text.split("\r\n") if "OK " in line or "Error: " in line] == [
        line for line in text.split("\r\n") if line.startswith(("OK ", "Error: "))
    ]


def test_a_client_that_half_closes_gets_all_the_output(server: Server) -> None:
    """All commands sent before the half-close run and their output comes whole; then the server closes."""
    peer = server.connect()
    commands = ["variables export"] * 60 + ["whoami"]
    peer.send("\n".join(["admin", PASSWORD, *commands, ""])).finish_input()
    text = peer.text_to_close()

    assert text.count("OK 17 variables exported") == 60
    assert text.count("OK admin from") == 1
    assert text.index("OK admin from") > text.rindex("variables exported")


def test_a_last_line_without_its_end_runs_too(server: Server) -> None:
    """A half-close ends the line that is typed, as a shell reading a file takes it."""
    peer = server.connect()
    peer.send(f"admin\n{PASSWORD}\nwhoami").finish_input()

    assert b"OK admin from 127.0.0.1" in peer.expect_closed()


def test_a_half_close_at_a_question_is_an_error_on_a_line_of_its_own(server: Server) -> None:
    """Nobody is left to answer: nothing is changed, and the script that half-closed finds its ``Error: `` line."""
    peer = server.log_in()
    text = peer.send("repair\r\n").finish_input().text_to_close()

    assert re.fullmatch(r"\r\n[^\r]+ \[y/N\]: \r\nError: the input ended at a question; [^\r]+\r\ncallisto# ", text)


def test_a_half_close_at_the_login_prompt_closes(server: Server) -> None:
    """A client that connects and sends nothing more is not kept."""
    peer = server.connect()
    peer.expect(b"login: ")

    assert peer.finish_input().expect_closed() == b""


# Editing


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        (b"whoami\r", b"whoami\r\n"),
        (b"whoamx\x7fi\r", b"whoamx\b \bi\r\n"),
        (b"whoamx\x08i\r", b"whoamx\b \bi\r\n"),
        (b"\x7f\x7fwhoami\r", b"whoami\r\n"),
        (b"xyz\x15whoami\r", b"xyz\b\b\b\x1b[Kwhoami\r\n"),
        (b"xx yy\x17\x17whoami\r", b"xx yy\b\b  \b\b\b\b\b\x1b[Kwhoami\r\n"),
        (b"hoami\x01w\x05\r", b"hoami\x1b[5D\x1b[Kwhoami\x1b[5D\x1b[5C\r\n"),
        (b"whami\x1b[D\x1b[D\x1b[Do\r", b"whami\b\b\b\x1b[Koami\b\b\b\x1b[3C\r\n"),
        (b"whami\x1bOD\x1bOD\x1bODo\r", b"whami\b\b\b\x1b[Koami\b\b\b\x1b[3C\r\n"),
        (b"who\t\r", b"whoami \r\n"),
    ],
)
def test_editing_keys_over_the_wire(shell: Peer, typed: bytes, shown: bytes) -> None:
    """Plain typing is echoed as it was typed, an editing key by what mends the screen, and the line runs."""
    peer = echo_on(shell)
    answer = peer.send(typed).expect(PROMPT)
    assert answer.endswith(b"OK admin from 127.0.0.1 (telnet)\r\ncallisto# ")
    assert answer.startswith(shown)


def test_history_with_up_and_down(server: Server) -> None:
    """Up brings the lines back, the newest first, and down goes on to the newer ones."""
    peer = echoing(server)
    peer.run("whoami")
    peer.run("sessions")
    peer.send(b"\x1b[A\x1b[A\x1b[A\x1b[B\x1b[A\r")

    assert peer.answer()[-1] == "OK admin from 127.0.0.1 (telnet)"


def test_tab_completes_menu_words_names_and_values(shell: Peer) -> None:
    """Tab completes what is unambiguous, and lists what is not below the line."""
    peer = echo_on(shell)
    assert peer.send("va\t").expect(b"variables ") == b"variables "
    assert peer.send("sh\t").expect(b"show ") == b"show "
    assert peer.send("gwebt\t").expect(b"out ")
    peer.send("\x15")
    peer.expect(b"\x1b[K")
    assert peer.send("variables set gBridgeTransfer \t").expect(
        b"callisto# variables set gBridgeTransfer "
    ).split() >= [b"0"]
    peer.send("\x03").expect(PROMPT)


def test_tab_completes_values_at_a_question_and_no_words(shell: Peer) -> None:
    """Where the new value of a variable is asked for, Tab knows its values, not the menu's words."""
    peer = echo_on(shell)
    peer.send("variables 1\r").expect(b"New value [0]: ")
    assert peer.send("\t").expect(b"New value [0]: ").split()[:2] == [b"0", b"1"]
    peer.send("\x03").expect(PROMPT)


def typed(peer: Peer, line: str) -> list[str]:
    """Type a line by hand, and return the rows of the answer."""
    peer.type(*(key.encode() for key in line), b"\r")
    return peer.expect(PROMPT).decode().split("\r\n")[1:-1]


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_a_person_is_answered_in_the_width_of_the_terminal(server: Server, columns: int) -> None:
    """No row is wider than the terminal and no word is torn; a script gets whole lines of the same words."""
    peer = server.log_in()
    peer.send(window(columns, 24)).sync()
    for line in ("help variables set", "variables show gWebServerRestart", "date yesterday", "trace level=loud x=1"):
        rows, lines = typed(peer, line), peer.run(line)
        assert max(map(len, rows)) <= columns < max(map(len, lines)), line
        assert [word for row in rows for word in row.split()] == [word for each in lines for word in each.split()]
        [end] = [at for at, row in enumerate(rows) if row.startswith(("OK ", "Error: "))]
        assert all(row.startswith("  ") for row in rows[end + 1 :])
    rows = typed(peer, "4")
    assert max(map(len, rows)) <= columns
    assert rows[-1] == "OK 9 sections"
    assert typed(peer, "variables export") == peer.run("variables export"), "a document may be copied off the screen"


def test_the_help_of_a_person_fits_on_a_screen(server: Server) -> None:
    """On 80 columns and 24 rows it is there whole: an entry a row, behind its number; ``help WORD`` tells the rest."""
    peer = server.log_in()
    peer.send(window(80, 24)).sync()
    rows = typed(peer, "?")
    assert [row.split()[:2] for row in rows[1:8] if row[2:3] != " "] == [
        ["1", "trace"],
        ["2", "repair"],
        ["3", "variables"],
        ["4", "information"],
        ["5", "date"],
        ["0", "logout"],
    ]
    for menu in ("variables", "backup", "user"):
        peer.run(menu)
        assert len(typed(peer, "help")) + len(["the line itself", "the prompt"]) <= 24, menu
        peer.run("back")
    assert len(rows) + 2 <= 24


def test_a_script_sees_plain_text_whatever_terminal_it_claims(server: Server) -> None:
    """A client that agrees to all, claims xterm and sends plain lines is never sent an escape or a lone backspace."""
    peer = server.connect()
    peer.send(IAC + DO + ECHO + IAC + DO + SGA + window(80, 24) + IAC + WILL + TTYPE)
    peer.send(IAC + SB + TTYPE + b"\x00xterm-256color" + IAC + SE)
    peer.log_in()
    for line in (
        "?",
        "information",
        "3",
        "list",
        "show gWebTimeout",
        "0",
        "trace list",
        "date",
        "repair yes",
        "x" * 200,
    ):
        peer.run(line)
    text = peer.seen.replace(OFFERS, b"").replace(SEND_TYPE, b"").decode()

    assert {character for character in text if not character.isprintable()} == {"\r", "\n"}


# Interrupts, and what RFC 854 wants


@pytest.mark.parametrize("key", [b"\x03", IAC + IP, IAC + BRK], ids=["Ctrl-C", "IP", "BRK"])
@pytest.mark.parametrize("echo", [False, True])
def test_an_interrupt_at_a_prompt_drops_the_line(shell: Peer, key: bytes, echo: bool) -> None:
    """The half-typed line is gone and the prompt comes again; the next line is taken whole."""
    peer = echo_on(shell) if echo else shell
    peer.send(b"logo" + key)
    shown = peer.expect(PROMPT)

    assert b"OK" not in shown
    assert shown.endswith(b"callisto# ")
    assert peer.run("whoami")[-1] == "OK admin from 127.0.0.1 (telnet)"


@pytest.mark.parametrize("key", [b"\x03", IAC + IP, IAC + BRK], ids=["Ctrl-C", "IP", "BRK"])
def test_an_interrupt_at_a_question_changes_nothing(shell: Peer, key: bytes) -> None:
    """A question that is interrupted ends in an Error line and the prompt."""
    peer = shell
    peer.send("repair\r\n").expect(b"[y/N]: ")

    answer = peer.send(key).answer()
    assert len(answer) == 1
    assert answer[0].startswith("Error: ")


@pytest.mark.parametrize("key", [b"\x03", IAC + IP, IAC + BRK], ids=["Ctrl-C", "IP", "BRK"])
def test_an_interrupt_ends_a_trace(shell: Peer, key: bytes) -> None:
    """A running trace is ended, its file saved, and the prompt comes."""
    peer = shell
    peer.send("trace\r\n").expect(b"ends the trace.\r\n")

    assert peer.send(key).answer()[-1].startswith("OK trace saved to ")


@pytest.mark.parametrize("key", [b"\x03", IAC + IP, IAC + BRK], ids=["Ctrl-C", "IP", "BRK"])
def test_an_interrupt_during_the_login_asks_for_the_name_again(server: Server, key: bytes) -> None:
    """At the login prompt and at the password an interrupt leads to the login prompt, and counts as no failure."""
    peer = server.connect()
    peer.expect(b"login: ")
    for _ in range(4):
        peer.send(b"adm" + key).expect(b"callisto login: ")
        peer.send("admin\r\n").expect(b"Password: ")
        peer.send(b"wrong" + key).expect(b"callisto login: ")
    peer.send("admin\r\n").expect(b"Password: ")

    assert b"Last access" in peer.send(PASSWORD + "\r\n").expect(PROMPT)


@pytest.mark.parametrize("menu", ["0", "3"])
def test_ctrl_d_on_an_empty_line_logs_out(server: Server, menu: str) -> None:
    """Ctrl-D on an empty line ends the session; on a line with text it does not."""
    peer = server.log_in()
    if menu != "0":
        peer.run(menu)
    peer.send(b"whoami\x04\r\n")
    assert peer.answer()[-1].startswith("OK admin")

    peer.send(b"\x04")
    peer.expect_closed()


@pytest.mark.parametrize("where", ["login", "prompt", "question", "trace"])
def test_are_you_there_is_answered_everywhere(server: Server, where: str) -> None:
    """AYT is answered by a line that holds [callisto: yes], at once, and nothing else is disturbed."""
    peer = server.connect() if where == "login" else server.log_in()
    wanted = {"login": b"login: ", "question": b"[y/N]: ", "trace": b"ends the trace.\r\n"}
    peer.send({"login": "", "prompt": "who", "question": "repair\r\n", "trace": "trace\r\n"}[where])
    if where in wanted:
        peer.expect(wanted[where])
    peer.send(IAC + AYT).expect(b"[callisto: yes]\r\n")
    if where == "login":
        peer.send(f"admin\r\n{PASSWORD}\r\n").expect(PROMPT)
    elif where == "prompt":
        assert peer.send("ami\r\n").expect(b"OK admin from ")
    else:
        assert peer.send("\r\n").expect(b"OK nothing was changed" if where == "question" else b"OK trace saved")


def test_are_you_there_shows_the_half_typed_line_again(shell: Peer) -> None:
    """Where the server echoes, prompt and half-typed line stand below the answer."""
    peer = echo_on(shell)
    peer.send("whoa").expect(b"whoa")

    assert peer.send(IAC + AYT).sync() == b"\r\n[callisto: yes]\r\ncallisto# whoa"
    assert peer.send("mi\r\n").expect(PROMPT).startswith(b"mi\r\nOK admin")


@pytest.mark.parametrize("echo", [False, True])
def test_erase_character_and_erase_line(shell: Peer, echo: bool) -> None:
    """EC drops the last character and EL the line, as typed keys would."""
    peer = echo_on(shell) if echo else shell
    peer.send(b"whoamx" + IAC + EC + b"i\r\n")
    assert peer.answer()[-1].startswith("OK admin from")
    peer.send(b"logout" + IAC + EL + b"whoami\r\n")
    assert peer.answer()[-1].startswith("OK admin from")


def test_abort_output_lets_the_action_end_unseen(shell: Peer) -> None:
    """After AO what runs goes on to its end, nothing more of it is shown, and the prompt comes (RFC 854)."""
    peer = shell
    peer.send("trace for=1s note=unseen\r\n").expect(b"STATE\r\n")
    shown = peer.send(IAC + AO).expect(PROMPT)

    assert b"OK " not in shown
    assert peer.run("whoami")[-1].startswith("OK admin")
    assert peer.run("trace list")[-1].startswith("OK ")


@pytest.mark.parametrize("command", [NOP, DM, GA, AO, EOF, SUSP, ABORT, EOR], ids=str)
def test_commands_without_an_effect_have_none(shell: Peer, command: bytes) -> None:
    """In the middle of a line NOP and its like change nothing and are answered by nothing."""
    peer = shell
    peer.send(b"who" + IAC + command + b"ami")
    assert peer.sync() == b""
    assert peer.send(b"\r\n").answer() == ["OK admin from 127.0.0.1 (telnet)"]


@pytest.mark.parametrize("urgent", ["IAC", "DM", "both"])
@pytest.mark.parametrize("before", [b"", b"who"], ids=["empty", "half-typed"])
def test_synch_loses_nothing_and_spoils_nothing(server: Server, urgent: str, before: bytes) -> None:
    """Urgent data stays in its place: DM has no effect there, whichever of its two bytes is the urgent one."""
    peer = server.log_in()
    peer.send(before)
    if urgent == "both":
        peer.socket.send(IAC + DM, socket.MSG_OOB)
    else:
        peer.socket.send(IAC, socket.MSG_OOB if urgent == "IAC" else 0)
        peer.socket.send(DM, socket.MSG_OOB if urgent == "DM" else 0)
    assert peer.sync() == b""

    assert peer.run("whoami"[len(before) :]) == ["OK admin from 127.0.0.1 (telnet)"]


def test_a_timing_mark_comes_after_what_stands_before_it(server: Server) -> None:
    """Every DO TIMING-MARK is answered by WILL, in its place behind the output of earlier input (RFC 860)."""
    peer = server.connect()
    peer.expect(b"login: ")
    peer.send((IAC + DO + TIMING_MARK) * 3)
    assert peer.expect(MARK * 3) == MARK * 3


def test_do_logout_ends_the_session(server: Server) -> None:
    """DO LOGOUT is agreed to, then the server closes (RFC 727)."""
    peer = server.log_in()

    assert peer.send(IAC + DO + LOGOUT).expect_closed().startswith(IAC + WILL + LOGOUT)


# Secrets


def test_a_password_is_never_shown_kept_or_logged(server: Server) -> None:
    """Where the server echoes, a password is not; it is in no history, no log and no audit, typed early or late."""
    peer = server.connect()
    peer.send(IAC + DO + ECHO).expect(b"login: ")
    peer.send("admin\r\n").expect(b"Password: ")
    assert peer.send(PASSWORD[:6]).sync() == b""
    assert peer.send(b"\x1b]0;a title\x1b").sync() == b""
    peer.send(b"\\\x1bz" + PASSWORD[6:].encode() + b"\x1b(B\r\n")  # sequences are no part of a password
    assert peer.expect(PROMPT).startswith(b"\r\nLast access")
    assert peer.run("history")[1:-1] == ["   1  history"]
    peer.run("audit 100")
    peer.send(b"\x1b[A\x1b[A\x1b[A\x1b[A\x1b[A").sync()

    assert PASSWORD.encode() not in peer.seen
    assert PASSWORD not in server.log()
