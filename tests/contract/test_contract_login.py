from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from tests.conftest import DO, ECHO, IAC, NOP, OFFERS, PASSWORD, PROMPT, Peer, Server, StartServer, servers

LOGIN = b"callisto login: "


def fail(peer: Peer, name: str = "admin", password: str = "wrong") -> bytes:
    """Fail to log in, and return what is said up to the next login prompt or the close."""
    peer.expect(LOGIN)
    peer.send(name + "\r\n").expect(b"Password: ")
    return peer.send(password + "\r\n").expect(re.compile(rb"Login incorrect\r\n"))


# What is shown


def test_the_banner_names_product_version_and_edition(start: StartServer) -> None:
    """The first line is product, version and edition; the login prompt begins with the hostname."""
    peer = start('[appliance]\nedition = "one"\nhostname = "box-7.example"\n').connect()

    assert peer.expect(b"login: ") == OFFERS + b"Callisto 1.0.0 (One)\r\nbox-7.example login: "


def test_the_banner_is_the_owner_s_to_choose(start: StartServer) -> None:
    """A banner of the settings takes the first line's place; the prompts carry the hostname of the environment."""
    server = start('[appliance]\nbanner = "Keep out"\n', environment={"CALLISTO_APPLIANCE__HOSTNAME": "east"})
    peer = server.connect()
    assert peer.expect(b"east login: ") == OFFERS + b"Keep out\r\neast login: "

    peer.send(f"admin\r\n{PASSWORD}\r\n")
    assert peer.expect(b"east# ")
    assert peer.send("3\r\n").expect(b"east(variables)# ")


def test_an_empty_line_repeats_the_login_prompt(server: Server) -> None:
    """Empty lines at the login prompt count as nothing, however many come."""
    peer = server.connect()
    peer.expect(LOGIN)
    for _ in range(12):
        assert peer.send("\r\n").expect(LOGIN) == b"\r\n" + LOGIN
    peer.send("admin\r\n").expect(b"Password: ")

    assert peer.send(PASSWORD + "\r\n").expect(PROMPT)


def test_the_password_is_asked_for_and_the_last_access_shown(appliance: Server) -> None:
    """A log-in says when and from where the last one was, in its line before the main menu."""
    first = appliance.connect(source="127.0.0.3")
    first.expect(LOGIN)
    assert first.send("admin\r\n").expect(b"Password: ") == b"\r\nPassword: "
    shown = first.send(PASSWORD + "\r\n").expect(re.compile(rb"Last access [^\r]+\r\n"))
    assert shown.startswith(b"\r\nLast access ")
    first.expect(PROMPT)
    first.send("logout\r\n").expect_closed()

    second = appliance.log_in()
    assert re.search(
        rb"Password: \r\nLast access \d{4}-\d\d-\d\d \d\d:\d\d:\d\d from 127\.0\.0\.3 \(telnet\)\r\nMain menu\r\n",
        second.seen,
    )


def test_after_the_login_nothing_reads_like_a_login(server: Server) -> None:
    """What comes by itself after the password holds neither login nor username nor password, and ends in the prompt."""
    peer = server.connect()
    peer.log_in()
    after = peer.seen.partition(b"Password: ")[2].lower()

    assert after.startswith(b"\r\nlast access ")
    for word in (b"login", b"username", b"password:"):
        assert word not in after


def test_the_first_prompt_comes_soon(server: Server) -> None:
    """Between the log-in and the first prompt passes less than half a second."""
    peer = server.connect()
    peer.expect(LOGIN)
    peer.send("admin\r\n").expect(b"Password: ")
    peer.send(PASSWORD + "\r\n").expect(b"Last access")
    began = time.monotonic()
    peer.expect(PROMPT)

    assert time.monotonic() - began < 0.5


# Failures


def test_three_failures_end_the_connection(appliance: Server) -> None:
    """Login incorrect, the login prompt again, and after the third failure the connection is closed."""
    peer = appliance.connect(source="127.0.0.11")
    for _ in range(3):
        assert fail(peer) == b"\r\nLogin incorrect\r\n"

    assert peer.expect_closed() == b""


def test_penalties_fall_on_the_source_alone(appliance: Server) -> None:
    """The fifth failure names the wait; the source is then refused with one line, and others log in to the account."""
    for _ in range(2):
        peer = appliance.connect(source="127.0.0.12")
        fail(peer)
        fail(peer, "nobody")
        peer.close()
    peer = appliance.connect(source="127.0.0.12")
    fail(peer)
    assert peer.expect_closed() == b"Too many failures. Try again in 30 s.\r\n"

    refused = appliance.connect(source="127.0.0.12").expect_closed()
    assert re.fullmatch(rb"Too many failures\. Try again in (30|29|28|27|26) s\.\r\n", refused.replace(OFFERS, b""))
    assert appliance.log_in(source="127.0.0.22").run("whoami") == ["OK admin from 127.0.0.22 (telnet)"]


def test_tries_side_by_side_gain_nothing(appliance: Server) -> None:
    """Of twelve passwords that are sent at once, no more are looked at than a source may try before it has to wait."""
    peers = [appliance.connect(source="127.0.0.13") for _ in range(12)]
    for peer in peers:
        peer.expect(LOGIN)
        peer.send("admin\r\nwrong\r\n")
    for peer in peers:
        peer.expect(re.compile(rb"Login incorrect|Too many failures"))
        peer.finish_input()
    said = b"".join(peer.expect_closed() and peer.seen for peer in peers)

    assert said.count(b"Login incorrect") <= 6
    assert said.count(b"Too many failures") >= 6


def test_an_unknown_name_says_and_takes_the_same(appliance: Server) -> None:
    """Unknown names and wrong passwords get the same words, and an unknown name costs the same work."""
    worked: dict[str, float] = {}
    said: dict[str, bytes] = {}
    server = psutil.Process(appliance.process.pid)
    for name, source in (("admin", "127.0.0.14"), ("nobody", "127.0.0.15")):
        peer = appliance.connect(source=source)
        before = server.cpu_times()
        for _ in range(3):
            peer.expect(LOGIN)
            peer.send(name + "\r\n").expect(b"Password: ")
            peer.send("wrong\r\n").expect(b"Login incorrect\r\n")
        after = server.cpu_times()
        worked[name] = after.user + after.system - before.user - before.system
        said[name] = peer.expect_closed() + peer.seen

    assert said["admin"] == said["nobody"]
    assert 0.5 < worked["nobody"] / worked["admin"] < 2


def test_a_wrong_name_is_not_kept(appliance: Server) -> None:
    """What was typed as an unknown name may be a password: neither the log nor the audit holds it."""
    fail(appliance.connect(source="127.0.0.16"), "Typed-too-early-1")
    peer = appliance.log_in()

    assert any("access denied by unknown" in line for line in peer.run("audit"))
    assert b"Typed-too-early-1" not in peer.seen
    assert "Typed-too-early-1" not in appliance.log()


# Clocks


def test_a_login_has_to_be_finished_in_time(start: StartServer) -> None:
    """A log-in is closed at its limit, however much the client sends, with a line that says why."""
    server = start("[limits]\nlogin_s = 1\n")
    silent, busy, half = server.connect(), server.connect(), server.connect()
    half.expect(LOGIN)
    half.send("admin\r\n").expect(b"Password: ")
    busy.expect(LOGIN)
    began = time.monotonic()
    while b"Closed" not in busy.seen and time.monotonic() < began + 5:
        try:
            busy.send(IAC + NOP + b"\r\n").expect(LOGIN, 0.2)
        except (AssertionError, ConnectionError):
            break

    for peer in (silent, busy, half):
        peer.expect_closed(5)
        assert peer.seen.endswith(b"Closed: not logged in within 1 s.\r\n")
    assert time.monotonic() - began < 3


def test_an_idle_session_is_closed(start: StartServer) -> None:
    """Without input a session ends with a line that says why; only keys and text are input, whatever else comes."""
    server = start("[limits]\nidle_s = 1\n")
    idle = server.log_in()
    sent = [
        IAC + NOP + IAC + DO + ECHO,
        b"\0",
        b"\x1b",
        b"\x13",
        b"\x1b[99z\x1b]title\x07",
        IAC + IAC,
        b"\xc3",
        b"y\x7f",
    ]
    peers: list[tuple[Peer, bytes]] = []
    end = time.monotonic() + 10
    while len(peers) < len(sent) or not all(b"Closed" in peer.seen for peer, _ in peers[:-1]):
        assert time.monotonic() < end, [data for peer, data in peers if b"Closed" not in peer.seen]
        if len(peers) < len(sent):
            peers.append((server.log_in(), sent[len(peers)]))
        for peer, data in peers:
            with suppress(AssertionError, OSError):
                peer.send(data).expect(b"Closed", 0.01)
    typing = peers[-1][0]

    assert idle.expect_closed(5) == b"\r\nClosed: idle for 1 s.\r\n"
    assert [peer.expect_closed(5) for peer, _ in peers[:-1]] == [b": idle for 1 s.\r\n"] * (len(sent) - 1)
    assert typing.run("whoami") == ["OK admin from 127.0.0.1 (telnet)"]


@pytest.mark.long
def test_a_running_trace_counts_as_use(start: StartServer) -> None:
    """A session is not idle while a trace runs, and its idle time begins when the trace ends."""
    peer = start("[limits]\nidle_s = 1\n").log_in()
    with pytest.raises(AssertionError):
        peer.expect(b"Closed", 0.5)
    peer.send("trace for=1s\r\n")
    assert peer.answer()[-1].startswith("OK trace saved to ")
    began = time.monotonic()

    assert peer.text_to_close() == "\r\nClosed: idle for 1 s.\r\n"
    assert time.monotonic() - began > 0.8


# Limits


def test_the_number_of_sessions_is_limited_but_for_one_place(start: StartServer) -> None:
    """The sessions in all are limited; one place is kept for this machine, and a place that is free is given again."""
    server = start(environment={"CALLISTO_LIMITS__SESSIONS": "2"})
    first = server.connect(source="127.0.0.2")
    first.expect(LOGIN)
    refused = server.connect(source="127.0.0.3").expect_closed()
    assert refused == b"Refused: all 2 sessions are taken. Try again later.\r\n"
    kept = server.log_in()
    assert server.connect().expect_closed() == b"Refused: all 2 sessions are taken. Try again later.\r\n"

    kept.send("logout\r\n").expect_closed()
    assert server.log_in().run("whoami")[-1].startswith("OK ")


@pytest.fixture(scope="module")
def narrow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that lets few sessions in, and only from the first addresses of this machine."""
    environment = {"CALLISTO_LIMITS__SESSIONS_PER_SOURCE": "2", "CALLISTO_LIMITS__PENDING": "2"}
    with servers(tmp_path_factory.mktemp("narrow")) as start:
        yield start('[telnet]\nallow = ["10.0.0.0/8", "127.0.0.0/28"]\n', environment=environment)


@pytest.fixture
def narrow(narrow_server: Server) -> Iterator[Server]:
    """The narrow server, with all places free again after each test."""
    yield narrow_server
    for peer in narrow_server.peers:
        peer.finish_input().expect_closed()
    narrow_server.close_peers()


def test_the_sessions_of_a_source_are_limited(narrow: Server) -> None:
    """One source takes no more than its share; another one is let in."""
    for _ in range(2):
        narrow.log_in(source="127.0.0.2")

    refused = narrow.connect(source="127.0.0.2").expect_closed()
    assert refused == b"Refused: all 2 sessions from 127.0.0.2 are taken. Try again later.\r\n"
    assert narrow.connect(source="127.0.0.3").expect(LOGIN)


def test_the_sessions_not_yet_logged_in_are_limited(narrow: Server) -> None:
    """Who has logged in no longer counts as pending; one pending place is kept for this machine."""
    narrow.log_in(source="127.0.0.2")
    narrow.connect(source="127.0.0.2").expect(LOGIN)

    refused = narrow.connect(source="127.0.0.3").expect_closed()
    assert refused == b"Refused: 2 others are about to log in. Try again later.\r\n"
    assert narrow.log_in().run("whoami")[-1].startswith("OK ")


def test_only_the_networks_named_may_connect(narrow: Server) -> None:
    """With allow, a source outside is refused with one line."""
    refused = narrow.connect(source="127.0.0.16").expect_closed()
    assert refused == b"Refused: 127.0.0.16 is not in a network that may connect.\r\n"

    assert narrow.connect(source="127.0.0.15").expect(LOGIN)
