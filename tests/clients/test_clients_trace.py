"""Programs that speak to the trace, as they are found on any machine, and a person who looks at its live table."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.clients.conftest import Screen, need
from tests.conftest import DEADLINE_S, Peer, Server, servers

RECORD = re.compile(r"\S+ (\S+)\[([0-9]+|-)\] (DEBUG|INFO|NOTICE|WARNING|ERROR|CRITICAL|ALERT|EMERGENCY) (.*)")
LEVELS = ("EMERGENCY", "ALERT", "CRITICAL", "ERROR", "WARNING", "NOTICE", "INFO", "DEBUG")


@pytest.fixture(scope="module")
def udp_port() -> int:
    """A port that is free now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory, udp_port: int) -> Iterator[Server]:
    """A server that takes syslog on its socket and by UDP."""
    with servers(tmp_path_factory.mktemp("listening")) as start:
        yield start(f'[trace]\nudp = "127.0.0.1:{udp_port}"\n')


@pytest.fixture
def path(listening: Server) -> str:
    """Return where its socket is."""
    return str(listening.data / "run" / "trace.sock")


@pytest.fixture
def peer(listening: Server) -> Iterator[Peer]:
    """A session on it."""
    with closing(listening.log_in()) as peer:
        yield peer


def begin(peer: Peer, match: str, records: int) -> None:
    """Begin a trace that ends with its last record."""
    peer.send(f"trace match='{match}' records={records}\r\n").expect(b"before its bound.\r\n")


def end(peer: Peer) -> list[tuple[str, ...]]:
    """Return process, pid, level and text of each record."""
    *lines, last = peer.answer()
    assert last.startswith("OK trace saved to ")
    found = [RECORD.fullmatch(line) for line in lines]
    return [match.groups() for match in found if match]


def run(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, without a word on stderr."""
    ended = subprocess.run(command, input=text, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert ended.stderr == ""
    return ended


FORMS: list[tuple[str, ...]] = [(), ("--rfc3164",), ("--rfc5424",), ("--rfc5424=notime,nohost",)]


@pytest.mark.parametrize("form", FORMS, ids=["plain", "rfc3164", "rfc5424", "rfc5424 without time and host"])
def test_logger_sends_records(peer: Peer, path: str, form: tuple[str, ...]) -> None:
    """logger(1) gives name, pid and text; lines of its input, and a text of several, are as it sends them."""
    logger = (need("logger"), "--socket", path, "--socket-errors=on", *form)
    begin(peer, "call", 6)
    run(*logger, "-t", "dialer", "call one")
    run(*logger, "-t", "dialer", "--id=4711", "call two key=value")
    run(*logger, "-t", "dialer", "--id=4711", "-p", "local0.err", "--", "-call three: \x1b[31mred")
    run(*logger, "-t", "dialer", text="call four\ncall five\n")
    run(*logger, "-t", "dialer", "call six\nand its second line")
    records = end(peer)

    assert [record[0] for record in records] == ["dialer"] * 6
    assert [record[1] for record in records][1:3] == ["4711", "4711"]
    assert [record[2] for record in records] == ["NOTICE", "NOTICE", "ERROR", "NOTICE", "NOTICE", "NOTICE"]
    assert [re.sub(" timeQuality.*", "", record[3]) for record in records] == [
        "call one",
        "call two key=value",
        r"-call three: \x1b[31mred facility=local0",
        "call four",
        "call five",
        r"call six\x0aand its second line",
    ]


def test_the_severities_of_logger_are_levels(peer: Peer, path: str) -> None:
    """Each of the eight severities is a level of its own."""
    names = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
    begin(peer, "^severity ", len(names))
    for name in names:
        run(
            need("logger"),
            "--socket",
            path,
            "--socket-errors=on",
            "-t",
            "dialer",
            "-p",
            f"user.{name}",
            f"severity {name}",
        )

    assert [(record[2], record[3]) for record in end(peer)] == [
        (level, f"severity {name}") for level, name in zip(LEVELS, names, strict=True)
    ]


def test_structured_data_of_logger_are_fields(peer: Peer, path: str) -> None:
    """What RFC 5424 calls structured data stands behind the text as key=value."""
    sd = ("--rfc5424=notime,nohost,notq", "--sd-id", "call@32473", "--sd-param", 'id="7"', "--sd-param", 'from="a b"')
    begin(peer, "structured", 1)
    run(need("logger"), "--socket", path, "--socket-errors=on", "-t", "dialer", "--msgid", "RING", *sd, "structured")

    assert end(peer)[0][3] == 'structured msgid=RING call@32473.id=7 call@32473.from="a b"'


HANDLER = """
import logging, logging.handlers, os, sys
handler = logging.handlers.SysLogHandler(address=sys.argv[1])
handler.setFormatter(logging.Formatter("billing[%(process)d]: %(message)s"))
log = logging.getLogger("billing")
log.addHandler(handler)
log.setLevel(logging.DEBUG)
for level in ("debug", "info", "warning", "error", "critical"):
    getattr(log, level)("python %s", level)
try:
    1 / 0
except ZeroDivisionError:
    log.exception("python cannot divide")
bare = logging.getLogger("bare")
bare.addHandler(logging.handlers.SysLogHandler(address=sys.argv[1]))
bare.warning("python without a name")
print(os.getpid())
"""


def test_pythons_handler_sends_records(peer: Peer, path: str) -> None:
    """SysLogHandler gives levels, the name and pid of its format, and a traceback in one line."""
    begin(peer, "^python ", 7)
    pid = run(sys.executable, "-c", HANDLER, path).stdout.strip()
    *levels, failure, bare = end(peer)

    assert levels == [
        ("billing", pid, level, f"python {name}")
        for level, name in (
            ("DEBUG", "debug"),
            ("INFO", "info"),
            ("WARNING", "warning"),
            ("ERROR", "error"),
            ("CRITICAL", "critical"),
        )
    ]
    assert failure[:3] == ("billing", pid, "ERROR")
    assert failure[3].startswith(r"python cannot divide\x0aTraceback (most recent call last):\x0a")
    assert failure[3].endswith("ZeroDivisionError: division by zero")
    assert bare == ("syslog", "-", "WARNING", "python without a name")


SCRIPT = """\
#!/bin/sh
set -e
say() { logger --socket "$1" --socket-errors=on --tag backup.sh --id=$$ --priority "user.$2" -- "$3"; }
say "$1" info 'backup begins'
for n in 1 2 3; do
    say "$1" debug "backup of disk $n"
done
false || say "$1" warning "backup: disk 3 is full"
ls /nonexistent 2>&1 | sed 's/^/backup: /' |
    logger --socket "$1" --socket-errors=on --tag backup.sh --id=$$ --priority user.err
echo $$
"""


def test_a_shell_script_sends_records(peer: Peer, path: str, tmp_path: Path) -> None:
    """A script that uses logger has its lines in the trace in their order, with its own pid."""
    need("logger")
    script = tmp_path / "backup.sh"
    script.write_text(SCRIPT)
    begin(peer, "^backup", 6)
    pid = run("sh", str(script), path).stdout.strip()
    records = end(peer)

    assert [record[0] for record in records] == ["backup.sh"] * 6
    assert [record[1] for record in records] == [pid] * 6
    assert [record[2] for record in records] == ["INFO", "DEBUG", "DEBUG", "DEBUG", "WARNING", "ERROR"]
    assert [record[3] for record in records][:5] == [
        "backup begins",
        "backup of disk 1",
        "backup of disk 2",
        "backup of disk 3",
        "backup: disk 3 is full",
    ]
    assert "No such file or directory" in records[5][3]


def test_netcat_sends_records(peer: Peer, path: str, udp_port: int) -> None:
    """A line of netcat's is a record, by the socket and by UDP; what is no syslog is marked and kept."""
    nc = need("nc")
    begin(peer, "netcat", 4)
    run(nc, "-uU", "-q", "0", path, text="<11>gate[7]: netcat by the socket\n")
    run(nc, "-uU", "-q", "0", path, text="netcat says what it likes\n")
    run(nc, "-u", "-q", "0", "127.0.0.1", str(udp_port), text="<12>gate[7]: netcat by UDP\n")
    run(
        need("logger"),
        "--server",
        "127.0.0.1",
        "--port",
        str(udp_port),
        "--udp",
        "--rfc3164",
        "-t",
        "gate",
        "netcat no more",
    )
    records = end(peer)

    assert records[:3] == [
        ("gate", "7", "ERROR", "netcat by the socket"),
        ("syslog", "-", "NOTICE", "netcat says what it likes syslog=malformed"),
        ("gate", "7", "WARNING", "netcat by UDP"),
    ]
    assert (records[3][0], records[3][2]) == ("gate", "NOTICE")
    assert records[3][3].startswith("netcat no more")


def test_several_lines_in_a_datagram_are_one_record(peer: Peer, path: str) -> None:
    """A program that writes several lines into one datagram has one record: nobody forges a second."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(path)
        begin(peer, "several", 1)
        sender.send(b"<14>gate[7]: several\n<11>su[1]: forged\n")

    assert end(peer) == [("gate", "7", "INFO", r"several\x0a<11>su[1]: forged")]


def test_the_live_table_stays_in_its_place(screen: Screen) -> None:
    """On a terminal ``trace processes`` is one table whose figures change; q ends it, and the prompt follows."""
    for key in "trace processes":
        screen.type("-l", key)
    screen.type("Enter")
    screen.shows("Enter, q or Ctrl-C ends the table.")
    before = screen.text
    screen.wait(lambda: screen.text != before, "other figures")
    shown = screen.text
    assert shown.count("PROCESS ") == 1
    assert shown.count("callisto-telnetd  ") == 1
    assert shown.count("Enter, q or Ctrl-C ends the table.") == 1
    assert shown.splitlines()[0] == before.splitlines()[0]

    screen.type("q")
    screen.shows("OK 1 process")
    screen.stands_at("callisto# ")
    rows = screen.text.splitlines()
    assert [row.split()[0] for row in rows[-5:-1]] == ["PROCESS", "callisto-telnetd", "Enter,", "OK"]


def test_records_come_live_and_stay(screen: Screen, own_server: Server) -> None:
    """What a program sends stands on the screen of a trace, a line each, escaped; Ctrl-C ends it."""
    screen.type("-l", "trace")
    screen.type("Enter")
    screen.shows("Live records follow")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(str(own_server.data / "run" / "trace.sock"))
        sender.send(b"<14>gate[7]: ring \x1b[2J\x1b[H\x07")
        sender.send(b"<11>gate[7]: busy")
    screen.shows(r"gate[7] INFO ring \x1b[2J\x1b[H\x07")
    screen.shows("gate[7] ERROR busy")
    screen.type("C-c")
    screen.shows("OK trace saved to ")
    screen.stands_at("callisto# ")
