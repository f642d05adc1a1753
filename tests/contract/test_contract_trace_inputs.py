"""What comes in: syslog on the socket and by UDP, what is no syslog, and what is said of it all."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import stat
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import DEADLINE_S, Peer, Server, StartServer
from tests.contract.conftest import RECORD, Saved, Sender, begin, said


@contextlib.contextmanager
def bound(path: Path) -> Iterator[socket.socket]:
    """Take a path with a datagram socket, as another program does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as taken:
        taken.settimeout(DEADLINE_S)
        taken.bind(str(path))
        yield taken


def information(peer: Peer) -> dict[str, str]:
    """Return the section Trace of System Information."""
    lines = peer.run("information")
    section = lines[lines.index("-- Trace --") + 1 : -1]
    return dict(line.split(": ", 1) for line in section)


DATAGRAMS = {
    # RFC 5424, section 6.5, with names of our own
    "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com {web} - ID47 - \ufeff'su root' failed for lonvick": (
        "{web}[-] CRITICAL 'su root' failed for lonvick facility=auth host=mymachine.example.com msgid=ID47 "
        "sent=2003-10-11T22:14:15.003Z"
    ),
    "<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 {web} 8710 - - %% It's time to make the do-nuts.": (
        "{web}[8710] NOTICE %% It's time to make the do-nuts. facility=local4 host=192.0.2.1 "
        "sent=2003-08-24T05:14:15.000003-07:00"
    ),
    '<165>1 - - {web} 7 - [exampleSDID@32473 iut="3" eventSource="Application"] An event': (
        "{web}[7] NOTICE An event facility=local4 exampleSDID@32473.iut=3 exampleSDID@32473.eventSource=Application"
    ),
    # RFC 3164, section 5.4 and 4.1.3
    "<34>Oct 11 22:14:15 mymachine {web}: 'su root' failed": (
        """{web}[-] CRITICAL 'su root' failed facility=auth sent="Oct 11 22:14:15" host=mymachine"""
    ),
    "<12>{web}[4711]: plain": "{web}[4711] WARNING plain",
    "<15>{web}[4711]: several\nlines\n": r"{web}[4711] DEBUG several\x0alines",
    "<14>{web}[4711]: Grüße ☎ ünïcode": "{web}[4711] INFO Grüße ☎ ünïcode",
    # No syslog at all: kept as text
    "{web} says this": "syslog[-] NOTICE {web} says this syslog=malformed",
    "<999>{web}: too high": "syslog[-] NOTICE <999>{web}: too high syslog=malformed",
    "<11>2 - - {web} 7 - - version 2": "syslog[-] ERROR <11>2 - - {web} 7 - - version 2 syslog=malformed",
}


def test_syslog_of_both_rfcs_becomes_records(peer: Peer, web: Sender) -> None:
    """The RFCs' own examples, lines, text and what is no syslog at all: each is one record, none is lost or fatal."""
    begin(
        peer, f"trace match='{web.name}|su root|An event|plain|several|Gr|time to' level=debug records={len(DATAGRAMS)}"
    )
    for sent in DATAGRAMS:
        web.send(sent.format(web=web.name).encode())
    *lines, _ = peer.answer()

    assert said(lines) == [shown.format(web=web.name) for shown in DATAGRAMS.values()]


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"<", b"<14>", b"<14>1", b"\xff" * 65_000, b"<14>1 - - - - - [", b"\n" * 5000]
)
def test_no_datagram_harms(peer: Peer, web: Sender, tracing: Server, data: bytes) -> None:
    """An empty one, a torn one and one of noise leave the input open; what comes behind it is a record as ever."""
    begin(peer, f"trace {web.name} records=1")
    web.send(data)
    web.say("behind it")

    assert said(peer.answer()) == [web.line("behind it")]
    assert "unexpected error" not in tracing.log()


def test_udp_is_an_input_where_it_is_named(peer: Peer, web: Sender, tracing: Server, free_udp_port: int) -> None:
    """A line on stdout says where it is, and what comes by UDP is a record like all others."""
    syslog = tracing.wait_ready(3).ready_lines[2]
    assert syslog == f"callisto-telnetd: syslog listening on 127.0.0.1:{free_udp_port} (UDP)"
    before = information(peer)
    begin(peer, f"trace {web.name} records=2")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", free_udp_port))
        sender.send(f"<12>{web.head}: by UDP \x1b[2J".encode())
        sender.send(f'<14>1 - - {web.name} 7 - [x y="z"] again'.encode())
    lines = peer.answer()

    assert said(lines) == [web.line(r"by UDP \x1b[2J", "WARNING"), f"{web.name}[7] INFO again x.y=z"]
    after = information(peer)
    counts = [int(re.search(r"udp (\d+)", each["By input"] + ", udp 0")[1]) for each in (before, after)]  # type: ignore[index]
    assert counts[1] - counts[0] == 2
    assert after["Input udp"] == "open, 0 malformed, 0 dropped"


def test_a_udp_port_that_is_taken_keeps_nobody_from_the_shell(start: StartServer) -> None:
    """It is said on stderr and in information, and log-in and the other input work."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        server = start(f'[trace]\nudp = "127.0.0.1:{port}"\n')
        peer = server.log_in()
        server.wait_log(f"udp 127.0.0.1:{port} cannot be had: Address already in use")
        shown = information(peer)

    assert shown["Input udp"] == f"udp 127.0.0.1:{port} cannot be had: Address already in use, 0 malformed, 0 dropped"
    assert shown["Input trace.sock"] == "open, 0 malformed, 0 dropped"


def test_a_path_that_is_taken_keeps_nobody_from_the_shell(start: StartServer, tmp_path: Path) -> None:
    """Another program's socket at the path is left alone: said on stderr, counted in information, and no more."""
    data = tmp_path / "taken"
    path = data / "run" / "trace.sock"
    path.parent.mkdir(parents=True, mode=0o700)
    with bound(path) as other:
        server = start(data=data)
        peer = server.log_in()
        log = server.wait_log("trace input failed")
        shown = information(peer)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"for the other", str(path))
        assert other.recv(100) == b"for the other"

    assert re.search(
        rf"ERROR trace input failed input=trace.sock reason=\"'{path}' is in use by another program\"", log
    )
    assert shown["Input trace.sock"] == f"'{path}' is in use by another program, 0 malformed, 0 dropped"
    assert Saved.parse(peer.run("trace before=1m records=1")[-1]).records == 1
    facts = json.loads(server.command("information", "--json").stdout)["trace"]["inputs"][0]
    assert facts["faults"] >= 1
    assert server.stop() == 0
    assert stat.S_ISSOCK(path.stat().st_mode)


def test_a_file_at_the_path_is_left_alone(start: StartServer, tmp_path: Path) -> None:
    """What is no socket is not removed: it is said, and the shell goes on."""
    data = tmp_path / "taken"
    path = data / "run" / "trace.sock"
    path.parent.mkdir(parents=True, mode=0o700)
    path.write_text("somebody's own")
    server = start(data=data)
    server.wait_log("is in the way: it is no socket")

    assert information(server.log_in())["Input trace.sock"].startswith(f"'{path}' is in the way: it is no socket")
    assert path.read_text() == "somebody's own"


@pytest.mark.long
def test_the_socket_comes_back(start: StartServer, tmp_path: Path) -> None:
    """A socket file that somebody removes is made again; so is one whose place another program had, once it goes."""
    data = tmp_path / "taken"
    path = data / "run" / "trace.sock"
    path.parent.mkdir(parents=True, mode=0o700)
    with bound(path):
        server = start(data=data)
        peer = server.log_in()
    server.wait_log("trace input is open again")
    with contextlib.closing(Sender(server, "web").introduce(peer)):
        path.unlink()
        server.wait_log("its socket was removed")
        while not path.exists():
            peer.run("whoami")
    with contextlib.closing(Sender(server, "web").introduce(peer)) as web:
        begin(peer, "trace web records=1")
        web.say("back again")
        assert said(peer.answer()) == [web.line("back again")]


def test_what_a_killed_server_left_is_replaced(start: StartServer) -> None:
    """The socket that nobody has any more is in nobody's way; a server that stops takes its own away."""
    server = start()
    path = server.data / "run" / "trace.sock"
    server.log_in()
    server.kill()
    assert path.exists()
    again = start(data=server.data)
    peer = again.log_in()
    with contextlib.closing(Sender(again, "web").introduce(peer)):
        assert information(peer)["Input trace.sock"] == "open, 0 malformed, 0 dropped"
        assert path.stat().st_mode & 0o777 == 0o666
        assert path.parent.stat().st_mode & 0o777 == 0o700
    assert again.stop() == 0
    assert not path.exists()


# Figures


def page(server: Server) -> dict[str, float]:
    """Return the figures of the Prometheus page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port_of('metrics')}/metrics", timeout=DEADLINE_S) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        lines = answer.read().decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] not in {"#", ""})
    }


def test_the_figures_are_in_information_and_on_the_page(peer: Peer, other: Peer, web: Sender, tracing: Server) -> None:
    """What came in, was written, runs and looks on stands in System Information and on the page alike."""
    assert re.fullmatch(r"callisto-telnetd: metrics listening on 127\.0\.0\.1:[1-9][0-9]*", tracing.ready_lines[1])
    before, shown_before = page(tracing), information(peer)
    begin(other, f"trace {web.name}")
    for number in range(5):
        web.say(f"number {number}")
    web.send(b"no syslog")
    other.expect(b"number 4\r\n")
    shown = information(peer)
    after = page(tracing)
    facts = json.loads(tracing.command("information", "--json").stdout)["trace"]

    def risen(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert risen('callisto_trace_records_total{input="trace.sock"}') == 6
    assert risen('callisto_trace_datagrams_malformed_total{input="trace.sock"}') == 1
    assert risen("callisto_trace_records_written_total") == 5
    assert after["callisto_trace_captures_running"] == after["callisto_trace_viewers"] == 1
    assert after['callisto_trace_queue_bytes{queue="writer"}'] == 0
    assert after['callisto_trace_datagrams_dropped_total{input="udp"}'] == 0
    assert [each["Traces"].split(",")[0] for each in (shown_before, shown)] == ["0 running", "1 running"]
    assert shown["Viewers"] == "1, 0 B wait to be shown"
    assert int(shown["Written"]) - int(shown_before["Written"]) == 5
    assert shown["Not shown"] == str(int(after["callisto_trace_records_not_shown_total"]))
    assert facts["traces"]["running"] == facts["viewers"]["count"] == 1
    assert {each["name"]: each["records"] for each in facts["by_input"]}["trace.sock"] == after[
        'callisto_trace_records_total{input="trace.sock"}'
    ]
    assert facts["written"] == int(shown["Written"])
    assert facts["files"]["budget_bytes"] == 256 << 20
    other.send("q").answer()
    assert page(tracing)["callisto_trace_captures_running"] == 0


def test_the_page_keeps_nobody_from_the_shell(start: StartServer) -> None:
    """Where its port is taken, the page is not served, which stderr says; the shell is."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = start(f'[trace]\nmetrics = "127.0.0.1:{port}"\n')
        server.log_in()

    reason = f"trace.metrics: cannot listen on 127.0.0.1:{port}: "
    server.wait_log(f'WARNING the metrics page is not served reason="{reason}')


def test_the_servers_own_records_are_in_the_trace(peer: Peer, tracing: Server) -> None:
    """Log-ins and commands are records of the server's own process; whoever says that he is it is shown not to be."""
    begin(peer, "trace callisto-telnetd match='source=127.0.0.33|forged' records=3")
    tracing.log_in(source="127.0.0.33").run("whoami")
    with contextlib.closing(Sender(tracing, "callisto-telnetd", tracing.process.pid)) as forger:
        forger.say("forged logged in who=admin")
    *lines, _ = peer.answer()

    own = f"callisto-telnetd[{tracing.process.pid}]"
    assert said(lines) == [
        f"{own} INFO logged in who=admin source=127.0.0.33 door=telnet",
        f"{own} DEBUG command line=whoami who=admin source=127.0.0.33",
        f"{own} INFO forged logged in who=admin input=trace.sock",
    ]
    assert all(RECORD.fullmatch(line) for line in lines)
