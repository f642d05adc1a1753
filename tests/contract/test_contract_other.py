from __future__ import annotations

import re
import select
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from callisto_telnetd.interpreter import free_signals
from tests.conftest import DM, IAC, OFFERS, PASSWORD, PROMPT, Peer, Server, StartServer, servers
from tests.programs import run

# Information and date


def test_information_has_its_sections(shell: Peer) -> None:
    """Named sections of ``Key: value`` lines say all that the contract lists."""
    answer = shell.run("information")
    sections = [line[3:-3] for line in answer if line.startswith("-- ")]
    text = "\n".join(answer)

    assert sections == [
        "Product",
        "Time",
        "System",
        "Network",
        "Database",
        "User data",
        "Processes",
        "Sessions",
        "Trace",
    ]
    assert all(re.fullmatch(r"-- [\w ]+ --|\S[^:]*: \S.*|OK .*", line) for line in answer), answer
    for key in ("Product", "Version", "Edition", "Serial", "Host", "Time", "Zone", "Source", "Processor", "Memory"):
        assert re.search(rf"^{key}: ", text, re.MULTILINE), key
    for key in ("Disk", "Size", "Schema", "Last check", "callisto-telnetd", "Server uptime"):
        assert re.search(rf"^{key}: ", text, re.MULTILINE), key


def test_the_date_is_shown_and_set(start: StartServer) -> None:
    """A date that is set runs on, is kept over a restart with its zone, and every timestamp follows it."""
    server = start()
    peer = server.log_in()
    assert peer.run("date 2031-05-06 07:08:09")[-1].startswith("OK 2031-05-06 07:08:09 (was ")
    assert peer.run("date")[0].startswith("Time: 2031-05-06 07:08:")
    assert peer.run("date zone Asia/Tokyo")[-1].startswith("OK zone Asia/Tokyo (was ")
    shown = peer.run("date")
    assert shown[1] == "Zone: Asia/Tokyo"
    assert peer.run("variables set gWebTimeout 30")[-1].startswith("OK ")
    assert ": 2031-05-06 " in peer.run("variables history")[-2]
    server.log_in()
    assert server.stop() == 0

    again = start(data=server.data).log_in()
    assert re.search(rb"Last access 2031-05-06 \d\d:\d\d:\d\d from 127\.0\.0\.1", again.seen)
    assert again.run("date")[0].startswith("Time: 2031-05-06 ")
    assert again.run("date")[1] == "Zone: Asia/Tokyo"


@pytest.mark.parametrize(
    "words", ["2026-13-01 00:00:00", "2026-02-30 10:00:00", "tomorrow", "10.15", "zone Nowhere/Land"]
)
def test_a_date_that_is_none_changes_nothing(shell: Peer, words: str) -> None:
    """What is no date, time or zone is refused with what is allowed."""
    before = shell.run("date")[1]

    assert [line[:7] for line in shell.run(f"date {words}")] == ["Error: "]
    assert shell.run("date")[1] == before


def test_the_menu_asks_for_date_and_time(appliance: Server) -> None:
    """The number 5 shows the clock and asks; an empty answer keeps it, another one sets it after a confirmation."""
    peer = appliance.log_in()
    peer.send("5\r\n").expect(re.compile(rb"New date and time \[[^]]+\]: $"))
    assert peer.send("\r\n").answer() == ["OK date and time kept"]
    peer.send("5\r\n").expect(re.compile(rb"\]: $"))

    peer.send("2030-01-02 03:04:05\r\n").expect(b"[y/N]: ")  # the weekly check of the database would be passed over
    assert peer.send("y\r\n").answer()[-1].startswith("OK 2030-01-02 03:04:05 (was ")


# Repair


def test_repair_is_told_step_by_step(appliance: Server) -> None:
    """``repair yes`` shows each step and ends with the rows that are sound; information then knows the last check."""
    peer = appliance.log_in()
    answer = peer.run("repair yes")
    while "system checks the database" in answer[-1]:  # for the schedule, where another test has set the clock on
        answer = peer.run("repair yes")
    assert len(answer) >= 4
    assert re.match(r"OK database is sound, \d+ rows", answer[-1])

    assert any(re.match(r"Last check: \d{4}-\d\d-\d\d .*sound", line) for line in peer.run("information"))


# Stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_tells_the_sessions_and_is_quick(start: StartServer, number: signal.Signals) -> None:
    """Sessions are told, a running trace is saved whole, and the exit code is 0 within three seconds."""
    free_signals()  # where the tests themselves run under nohup
    server = start()
    waiting, tracing, pending, asked = server.log_in(), server.log_in(), server.connect(), server.log_in()
    tracing.send("trace\r\n").expect(b"ends the trace.\r\n")
    asked.send("repair\r\n").expect(b"[y/N]: ")
    pending.expect(b"login: ")
    began = time.monotonic()
    assert server.stop(number) == 0
    assert time.monotonic() - began < 3

    for peer in (waiting, tracing, pending, asked):
        assert peer.text_to_close().endswith("\r\nClosed: the server stops.\r\n")
    (file,) = (server.data / "trace").iterdir()
    assert file.read_text().endswith("\n")
    assert "Traceback" not in server.log()


def test_a_server_under_nohup_outlives_its_terminal(start: StartServer) -> None:
    """SIGHUP, ignored when it was started, ends neither the server nor a session."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        server = start()
    finally:
        signal.signal(signal.SIGHUP, before)
    peer = server.log_in()
    server.process.send_signal(signal.SIGHUP)

    assert peer.run("whoami")[-1].startswith("OK ")
    assert server.stop() == 0


def test_a_peer_that_reads_nothing_does_not_hold_up_a_stop(start: StartServer) -> None:
    """A viewer that stops reading is cut off: the server still stops within three seconds."""
    server = start()
    deaf = server.connect(receive_buffer=4096)
    deaf.log_in()
    deaf.send("variables export\r\n" * 2000)
    server.log_in().run("whoami")
    began = time.monotonic()

    assert server.stop() == 0
    assert time.monotonic() - began < 3


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    """Where the port cannot be had, the exit code is 1 and one line names ``--port``."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        command = [sys.executable, "-m", "callisto_telnetd", "serve", "--data", str(tmp_path), "--port", port]
        ended = run(command)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert len(ended.stderr.splitlines()) == 1
    assert "--port" in ended.stderr
    assert port in ended.stderr


def test_the_ready_line_names_address_and_port(server: Server) -> None:
    """One line a listener on stdout, with the port that was given for 0."""
    (line,) = server.ready_lines

    assert re.fullmatch(r"callisto-telnetd: telnet listening on 127\.0\.0\.1:[1-9]\d*", line)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cert.pem and key.pem for localhost."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(made - timedelta(days=1))
        .not_valid_after(made + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder


@pytest.fixture
def tls_client(certificate: Path) -> ssl.SSLContext:
    """A client that trusts the certificate."""
    context = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
    context.check_hostname = False
    return context


def tls_settings(certificate: Path) -> str:
    """Return the settings of a listener with TLS on a free port."""
    return f'[telnet.tls]\ncertificate = "{certificate}/cert.pem"\nkey = "{certificate}/key.pem"\nport = 0\n'


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Iterator[Server]:
    """A server with both listeners."""
    with servers(tmp_path_factory.mktemp("secured")) as start:
        yield start(tls_settings(certificate), listeners=2, environment={"CALLISTO_LOG__LEVEL": "debug"})


@pytest.fixture
def secured(tls_server: Server) -> Iterator[Server]:
    """The server with both listeners; the peers are closed after each test."""
    yield tls_server
    tls_server.close_peers()


def test_telnet_over_tls(secured: Server, tls_client: ssl.SSLContext) -> None:
    """The second listener speaks the same Telnet within TLS, and sessions there say telnets."""
    assert re.fullmatch(r"callisto-telnetd: telnets listening on 127\.0\.0\.1:[1-9]\d*", secured.ready_lines[1])
    peer = secured.connect(tls=tls_client)
    assert peer.expect(b"login: ") == OFFERS + b"Callisto 1.0.0 (UCM)\r\ncallisto login: "
    peer.send(f"admin\r\n{PASSWORD}\r\n").expect(PROMPT)

    assert peer.run("whoami") == ["OK admin from 127.0.0.1 (telnets)"]
    socket.socket.send(peer.socket, IAC, socket.MSG_OOB)  # beside TLS, which knows no urgent data
    assert peer.send(b"who" + IAC + DM + b"ami\r\n").answer() == ["OK admin from 127.0.0.1 (telnets)"]
    peer.send("logout\r\n")
    assert peer.expect_closed() == b"\r\nOK logged out\r\n"
    assert b"from 127.0.0.1 (telnets)" in secured.log_in().seen


def half_close(server: Server, context: ssl.SSLContext, sent: bytes, *, notify: bool) -> tuple[str, bool]:
    """Send all within TLS and end the input; return the text that comes, and whether the server's close_notify did."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", server.port_of("telnets")), timeout=15) as connection:

        def step(act: Callable[[], Any]) -> Any:
            while True:
                try:
                    return act()
                except ssl.SSLZeroReturnError:
                    return b""
                except ssl.SSLWantReadError:
                    if outgoing.pending:
                        connection.sendall(outgoing.read())
                    if not (data := connection.recv(65536)):
                        return None
                    incoming.write(data)

        step(tls.do_handshake)
        tls.write(sent)
        if notify:
            with suppress(ssl.SSLWantReadError):
                tls.unwrap()
            connection.sendall(outgoing.read())
        else:
            connection.sendall(outgoing.read())
            connection.shutdown(socket.SHUT_WR)
        came = b""
        while data := step(lambda: tls.read(65536)):
            came += data
        return came.replace(OFFERS, b"").decode(), data is not None


LOG_IN_AHEAD = f"admin\r\n{PASSWORD}\r\n".encode()
AHEAD = LOG_IN_AHEAD + b"whoami\r\n" * 1500 + b"whoami"


@pytest.mark.parametrize("notify", [True, False], ids=["close_notify", "TCP's end"])
def test_a_half_closed_client_in_tls_gets_all_its_answers(
    secured: Server, tls_client: ssl.SSLContext, notify: bool
) -> None:
    """Log-in and commands sent ahead are worked off and answered, then the server closes, as without TLS.

    A last line without its end is run only where the client has said that it is all: else somebody may have cut it.
    """
    text, notified = half_close(secured, tls_client, AHEAD, notify=notify)

    done = "OK admin from 127.0.0.1 (telnets)"
    assert text.count(f"\r\n{done}\r\n") == 1500 + notify
    last = done if notify else "Error: the connection's end has cut the line off; nothing was done"
    assert text.endswith(f"\r\n{last}\r\ncallisto# ")
    assert notified


def test_penalties_are_shared_by_the_doors(secured: Server, tls_client: ssl.SSLContext) -> None:
    """A source that has failed at one door has to wait at the other one, too."""
    for _ in range(2):
        peer = secured.connect(source="127.0.0.20")
        for _ in range(3):
            if b"Too many" in peer.seen:
                break
            peer.expect(b"login: ")
            peer.send("admin\r\nwrong\r\n").expect(re.compile(rb"Login incorrect\r\n(Too many[^\r]*\r\n)?"))
        peer.expect_closed()

    with pytest.raises(OSError, match=r"EOF|reset"):  # refused before the handshake, where no line can be said
        secured.connect(tls=tls_client, source="127.0.0.20")
    begun = time.monotonic()
    for number in range(100):
        port = secured.port_of(("telnet", "telnets")[number % 2])
        with (
            socket.create_connection(("127.0.0.1", port), 15, ("127.0.0.20", 0)) as refused,
            suppress(ConnectionResetError),
        ):
            refused.recv(200)
    lines: list[str] = []
    while sum(1 + int(line.partition("left_out=")[2] or "0") for line in lines) < 1 + 100:
        select.select([], [], [], 0.01)
        lines = [line for line in secured.log().splitlines() if " connection refused source=127.0.0.20 " in line]
        assert time.monotonic() - begun < 15, lines
    assert len(lines) <= 2 + (time.monotonic() - begun)  # a record a second, and those left out are counted
    assert secured.connect(tls=tls_client, source="127.0.0.2").log_in().unread == b""


def test_a_handshake_counts_for_the_log_in_clock(start: StartServer, certificate: Path) -> None:
    """A peer that connects to the TLS port and says nothing is cut off when the time to log in is over."""
    server = start("[limits]\nlogin_s = 1\n" + tls_settings(certificate), listeners=2)
    with socket.create_connection(("127.0.0.1", server.port_of("telnets"))) as silent:
        silent.settimeout(8)
        begun = time.monotonic()
        with suppress(ConnectionResetError):
            assert silent.recv(1) == b""
        assert time.monotonic() - begun < 5


def test_a_handshake_gives_way_to_this_machine(
    start: StartServer, certificate: Path, tls_client: ssl.SSLContext
) -> None:
    """Where all places before the log-in are taken, a silent handshake from elsewhere is cut off for 127.0.0.1."""
    server = start(tls_settings(certificate), listeners=2, environment={"CALLISTO_LIMITS__PENDING": "2"})
    telnets = ("127.0.0.1", server.port_of("telnets"))
    with socket.create_connection(telnets, 15, ("127.0.0.2", 0)) as silent, suppress(ConnectionResetError):
        first = server.connect()
        first.expect(b"login: ")
        with pytest.raises(OSError, match=r"EOF|reset"):  # no place is left, and no line can be said
            server.connect(tls=tls_client, source="127.0.0.3")
        assert server.connect(tls=tls_client).log_in().unread == b""
        assert silent.recv(1) == b""
    first.send(f"admin\r\n{PASSWORD}\r\n").expect(PROMPT)


def test_clear_text_at_the_tls_port_ends_and_harms_nothing(secured: Server, tls_client: ssl.SSLContext) -> None:
    """A client without TLS is sent nothing and closed; others are served on."""
    with socket.create_connection(("127.0.0.1", secured.port_of("telnets")), timeout=15) as plain:
        plain.sendall(b"admin\r\n" * 10)
        with_alert = b""
        try:
            while data := plain.recv(4096):
                with_alert += data
        except ConnectionResetError:
            pass
    assert b"login" not in with_alert

    peer = secured.connect(tls=tls_client)
    assert peer.log_in().run("whoami") == ["OK admin from 127.0.0.1 (telnets)"]


def test_a_certificate_that_cannot_be_used_is_said_in_one_line(tmp_path: Path, certificate: Path) -> None:
    """A missing or wrong certificate ends the start with exit code 1 and one line."""
    (tmp_path / "callisto.toml").write_text(tls_settings(certificate).replace("cert.pem", "none.pem"))
    command = [sys.executable, "-m", "callisto_telnetd", "serve", "--data", str(tmp_path), "--port", "0"]
    ended = run(command)

    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert "none.pem" in ended.stderr
