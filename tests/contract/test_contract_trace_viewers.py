"""Those who look on: all see the same, one who is slow sees how much is missing, and the table of processes."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time

import pytest

from tests.conftest import DEADLINE_S, DO, ECHO, IAC, PROMPT, ROOT, Peer, Server
from tests.contract.conftest import RECORD, Saved, Sender, begin, lines_of, said
from tests.contract.test_contract_wire import window
from tests.programs import ProductProcess

MISSED = re.compile("-- ([0-9]{1,3}(?:,[0-9]{3})*) records? not shown --")


def read_to_prompt(peer: Peer) -> list[str]:
    """Return the lines up to the prompt of the main menu; ``answer`` looks at all of them with each segment."""
    end = time.monotonic() + DEADLINE_S
    while not peer.at(b"callisto# "):
        assert peer._receive(end), "closed or late"
    lines = peer.unread.decode().split("\r\n")[:-1]
    peer.forget()
    return lines


def test_all_viewers_and_the_file_have_the_same(
    peer: Peer, other: Peer, web: Sender, phone: Sender, tracing: Server
) -> None:
    """A trace, an attached view, a tail, a view at the command line and the file: the same lines in the same order."""
    third = tracing.log_in()
    begin(peer, f"trace {web.name},{phone.name}")
    [file] = [line.split()[0] for line in other.run("trace status") if web.name in line]
    begin(other, f"trace attach {file}")
    third.send(f"trace tail {web.name},{phone.name} before=1h\r\n").expect(f"hello of {phone.name}.\r\n".encode())
    command = [sys.executable, "-m", "callisto_telnetd", "trace", "attach", file, "--data", str(tracing.data)]
    with ProductProcess(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=tracing.environment, text=True, cwd=ROOT
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline().startswith("Live records follow")
        for number in range(300):
            (web, phone)[number % 3 == 0].say(f"number {number} key=value", severity=number % 8)
        web.say("the last")
        third_lines = third.expect(b"the last\r\n").decode().split("\r\n")
        other.expect(b"the last\r\n")
        other_lines = other.seen.decode().split("\r\n")
        saved = Saved.parse(peer.send("q").answer()[-1])
        printed, _ = program.communicate(timeout=DEADLINE_S)
    lines = [line for line in lines_of(tracing, saved.file) if RECORD.fullmatch(line)]

    assert len(lines) == saved.records == 301
    assert [line.split()[4] for line in lines[:-1]] == [str(number) for number in range(300)]
    for seen in (peer.seen.decode().split("\r\n"), other_lines, third_lines, printed.splitlines()):
        assert [line for line in seen if RECORD.fullmatch(line)] == lines
    assert Saved.parse(printed.splitlines()[-1]) == saved


def test_a_slow_viewer_sees_how_much_is_missing(tracing: Server, peer: Peer, other: Peer, web: Sender) -> None:
    """What a viewer does not take in time is counted where it would have stood; its file and others miss nothing."""
    total = 12_000
    slow = tracing.connect(receive_buffer=1 << 17).log_in()
    begin(slow, f"trace {web.name} records={total}")
    [file] = [line.split()[0] for line in peer.run("trace status") if web.name in line]
    begin(other, f"trace attach {file}")
    reading = threading.Thread(target=read_to_prompt, args=[other])
    reading.start()
    for number in range(total):
        web.say(f"number {number:05} {'x' * 180}")
    reading.join(DEADLINE_S)
    *lines, last = read_to_prompt(slow)
    saved = Saved.parse(last)
    on_file = [line for line in lines_of(tracing, saved.file) if RECORD.fullmatch(line)]

    assert [line.split()[3] for line in said(on_file)] == [f"{number:05}" for number in range(total)]
    expected = iter(on_file)
    missed = 0
    for line in lines:
        if match := MISSED.fullmatch(line):
            count = int(match[1].replace(",", ""))
            missed += count
            for _ in range(count):
                next(expected)
        else:
            assert line == next(expected)
    assert next(expected, None) is None
    assert saved.not_shown == missed > 1_000
    assert len(lines) < total
    assert (saved.file, saved.records) == (file, total)


# The table of processes


def test_the_table_is_plain_and_once_for_a_script(peer: Peer, tracing: Server) -> None:
    """A line sent whole gets the table once and no escape sequence, also where the client has a size and echoes."""
    for negotiation in (b"", window(80, 24), window(80, 24) + IAC + DO + ECHO):
        client = tracing.log_in()
        client.send(negotiation).sync()
        client.forget()
        lines = [line for line in client.run("trace processes") if line != "trace processes"]
        assert lines[0].split() == ["PROCESS", "PID", "CPU", "%", "MEMORY", "UPTIME", "STATE"]
        assert re.fullmatch(
            rf"callisto-telnetd +{tracing.process.pid} +[0-9.]+ +[0-9.]+ MiB +[0-9].*  running", lines[1]
        )
        assert lines[2:] == ["OK 1 process"]
        assert b"\x1b" not in client.seen


@pytest.mark.parametrize(
    "key",
    [b"q", pytest.param(b"\r", marks=pytest.mark.long), pytest.param(b"\x03", marks=pytest.mark.long)],
    ids=["q", "Enter", "Ctrl-C"],
)
def test_the_table_redraws_itself_for_a_person(tracing: Server, key: bytes) -> None:
    """Typed key by key on a terminal with a size it comes again each second, in its place, until a key ends it."""
    client = tracing.log_in()
    client.send(window(60, 24) + IAC + DO + ECHO).sync()
    client.type(b"trace", b" processes", b"\r")
    first = client.expect(b"Enter, q or Ctrl-C ends the table.\r\n").decode()
    again = client.expect(b"Enter, q or Ctrl-C ends the table.\r\n").decode()
    answer = client.send(key).expect(PROMPT)

    assert "PROCESS" in first
    assert "\x1b" not in first
    assert again.startswith("\x1b[3A\x1b[J")
    for screen in (first.partition("\r\n")[2], again.removeprefix("\x1b[3A\x1b[J")):
        lines = screen.split("\r\n")
        assert len(lines) == 4
        assert lines[1].startswith("callisto-telnetd ")
        assert all(len(line) <= 60 for line in lines)
    assert answer == b"OK 1 process\r\ncallisto# "


def test_a_table_of_a_window_that_changes_fits_it(tracing: Server) -> None:
    """A new size counts from the next second on."""
    client = tracing.log_in()
    client.send(window(100, 24)).sync()
    client.type(b"trace", b" processes", b"\r")
    client.expect(b"ends the table.\r\n")
    client.send(window(30, 24))
    again = client.expect(re.compile(rb"Enter, q or Ctrl-C ends the t[^\r]*\r\n")).decode()

    assert all(len(line) <= 30 for line in again.replace("\x1b[3A\x1b[J", "").split("\r\n"))
    client.send("q").answer()


def test_a_table_ends_with_the_input(tracing: Server) -> None:
    """A peer that half-closes in the middle of the table gets its end and the rest of what it typed."""
    client = tracing.log_in()
    client.send(window(80, 24)).sync()
    client.type(b"trace", b" processes", b"\r")
    client.expect(b"ends the table.\r\n")
    client.finish_input()
    assert client.text_to_close().endswith("OK 1 process\r\ncallisto# ")


def test_processes_that_have_spoken_can_be_asked_for(peer: Peer, web: Sender) -> None:
    """The refusal of an unknown name tells the nearest that there is, then all, and what it said before can be had."""
    [refused] = peer.run(f"trace {web.name}x")
    assert f"; did you mean {web.name}? processes: callisto-telnetd, " in refused
    assert said(peer.run(f"trace {web.name} before=1m records=1")) == [web.line(f"hello of {web.name}.")]
