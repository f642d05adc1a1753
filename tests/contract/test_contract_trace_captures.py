"""Captures without a viewer: started, looked at, attached to, stopped; what becomes of them when something ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import struct
import subprocess
import sys
from contextlib import closing

import pytest

from tests.conftest import DEADLINE_S, ROOT, Peer, Server, StartServer
from tests.contract.conftest import (
    RECORD,
    VIEW,
    Saved,
    Sender,
    begin,
    lines_of,
    said,
    started,
)
from tests.programs import ProductProcess

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: a close is a reset."""


def status_of(peer: Peer, file: str) -> list[str]:
    """Return the words of a capture in the list of those that run; none where it does not."""
    return next((line.split() for line in peer.run("trace status") if line.startswith(file)), [])


def state_of(peer: Peer, file: str) -> str:
    """Return the state of a file in the list of all."""
    [line] = [line for line in peer.run("trace list") if line.startswith(f"{file} ")]
    return line.split()[-1]


def test_a_capture_goes_on_after_logout(tracing: Server, other: Peer, web: Sender) -> None:
    """What is said after its user has logged out is on file, and another session may stop it."""
    owner = tracing.log_in()
    file = started(owner, f"{web.name} note=over night")
    web.say("before")
    assert owner.send("logout\r\n").expect_closed().endswith(b"OK logged out\r\n")
    assert status_of(other, file)[1] == "running"

    begin(other, f"trace attach {file}")
    web.say("after")
    other.expect(b"after\r\n")
    other.send("q").answer()
    saved = Saved.parse(other.run(f"trace stop {file}")[-1])

    assert (saved.file, saved.records, saved.not_shown) == (file, 2, 0)
    assert said(lines_of(tracing, file)) == [web.line("before"), web.line("after")]
    assert lines_of(tracing, file)[-1] == "; ended: stopped by admin; 2 records"


def test_a_capture_outlives_a_lost_connection(tracing: Server, other: Peer, web: Sender) -> None:
    """A reset ends the session: a capture without a viewer goes on, one that was watched ends whole and says so."""
    owner = tracing.log_in()
    file = started(owner, web.name)
    begin(owner, f"trace {web.name} note=watched")
    web.say("before")
    owner.expect(b"before\r\n")
    [watched] = [
        line.split()[0] for line in other.run("trace status") if web.name in line and not line.startswith(file)
    ]
    begin(other, f"trace attach {watched}")
    owner.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    owner.close()
    assert Saved.parse(other.answer()[-1]).file == watched
    assert lines_of(tracing, watched)[-1] == "; ended: its viewer has gone; 1 record"
    assert status_of(other, file)[1] == "running"

    begin(other, f"trace attach {file}")
    web.say("after")
    other.expect(b"after\r\n")
    other.send("q").answer()
    other.run(f"trace stop {file}")
    assert said(lines_of(tracing, file)) == [web.line("before"), web.line("after")]


def test_attaching_shows_what_a_capture_takes(peer: Peer, other: Peer, web: Sender, tracing: Server) -> None:
    """An attached viewer sees what comes, and with before= what came; the view ends and the capture goes on."""
    file = started(peer, f"{web.name} level=warning")
    web.say("one", severity=4)
    begin(other, f"trace attach {file} before=1m")
    web.say("not this")
    web.say("two", severity=4)
    lines = other.expect(b"two\r\n").decode().split("\r\n")
    assert status_of(peer, file)[5] == "1"
    assert other.send("\r\n").answer()[-1] == f"OK 2 records shown, 0 not shown; {file} goes on"
    assert said(lines) == [web.line("one", "WARNING"), web.line("two", "WARNING")]

    assert status_of(peer, file)[1:6:4] == ["running", "0"]
    begin(other, f"trace attach {file}")
    web.say("three", severity=4)
    other.expect(b"three\r\n")
    saved = Saved.parse(peer.run(f"trace stop {file}")[-1])
    assert saved.records == 3
    assert Saved.parse(other.answer()[-1]) == saved
    assert len(said(lines_of(tracing, file))) == 3


def test_a_capture_that_ends_ends_its_views(peer: Peer, other: Peer, web: Sender) -> None:
    """A bound ends the view too, with the capture's own last line; its user finds a notice before the next prompt."""
    file = started(peer, f"{web.name} records=2")
    begin(other, f"trace attach {file}")
    web.say("one")
    web.say("two")
    *lines, last, told = other.answer()

    assert said(lines) == [web.line("one"), web.line("two")]
    assert Saved.parse(last).file == file
    assert told == f"Notice: {last.removeprefix('OK ')}; ended: it has its number of records"
    assert peer.sync() == b""  # nothing comes up by itself while a prompt waits
    assert peer.run("") == [told]
    assert peer.run("") == []


def test_notices_come_at_once_where_they_are_wanted(tracing: Server, web: Sender) -> None:
    """After ``notices on`` the trigger and the end are told above the prompt; records= counts from the trigger on."""
    owner = tracing.log_in()
    owner.run("notices on")
    file = started(owner, f"{web.name} on=boom records=2")
    owner.send("who")
    web.say("boom")
    owner.expect(f"\r\nNotice: the trigger of trace {file} has fired\r\n".encode())
    web.say("over")
    web.say("over")
    owner.expect(re.compile(rb"Notice: trace saved to \S+, 3 records, [^\r]*; ended: it has its number of records\r\n"))
    owner.expect(b"callisto# who")
    assert owner.run("ami")[-1] == "OK admin from 127.0.0.1 (telnet)"


def test_a_stop_by_hand_is_no_notice(peer: Peer, other: Peer, web: Sender) -> None:
    """Who is told by the answer that a capture has stopped is not told again."""
    file = started(peer, web.name)
    other.run(f"trace stop {file}")

    assert peer.run("") == []


def test_stop_all_ends_them_all(peer: Peer, other: Peer, web: Sender, tracing: Server) -> None:
    """Each capture that runs is saved whole, those of other sessions and those that wait for a trigger too."""
    files = [started(peer, web.name), started(other, f"{web.name} on=never"), started(peer, f"{web.name} rotate=64k")]
    web.say("one")
    begin(other, f"trace attach {files[0]} before=1m")
    other.expect(b"one\r\n")
    *lines, last = peer.run("trace stop all")
    other.answer()

    assert last == "OK 3 traces stopped"
    assert [line.split()[3].rstrip(",") for line in lines] == files
    assert [re.findall(", ([0-9]+) records?, ", line) for line in lines] == [["1"], ["0"], ["1"]]
    assert peer.run("trace status") == ["OK 0 running traces"]
    assert [state_of(peer, file) for file in files] == ["ended"] * 3
    assert lines_of(tracing, files[1])[-1] == "; ended: stopped by admin; 0 records"
    assert peer.run("trace stop all") == ["OK 0 traces stopped"]


def test_the_status_says_what_runs(peer: Peer, web: Sender) -> None:
    """File, state, records, size, viewers, then who, what is left of its bounds, and its filter."""
    file = started(peer, f"{web.name} level=info for=1h records=100 size=1M note=why not")
    rotating = started(peer, f"{web.name} rotate=1M keep=3")
    heading, *lines, last = peer.run("trace status")

    assert heading.split() == ["FILE", "STATE", "RECORDS", "SIZE", "VIEWERS", "BY,", "UNTIL,", "FILTER"]
    assert re.fullmatch(
        rf"{file} +running +0 +[0-9]+ B +0  admin, 59 min 59 s left or 100 records or 1.0 MiB, "
        rf"{web.name} level=info for=1h records=100 size=1M",
        lines[0],
    ), lines[0]
    assert lines[1].startswith(rotating)
    assert lines[1].endswith(f"admin, the last 3 files of 1.0 MiB, {web.name} rotate=1M keep=3")
    assert last == "OK 2 running traces"


def test_the_list_says_how_each_ended(start: StartServer) -> None:
    """Running, ended, continued, and after SIGKILL interrupted: what is whole of it can be shown, exported, played."""
    server = start()
    peer = server.log_in()
    with closing(Sender(server, "web", 7).introduce(peer)) as web:
        ended, cut, rotated = started(peer, "web"), started(peer, "web note=cut"), started(peer, "web rotate=64k")
        as_json = started(peer, "web format=jsonl")
        peer.run(f"trace stop {ended}")
        begin(peer, f"trace attach {rotated}")
        for number in range(10):
            web.say(f"{number} {'x' * 8000}")
        web.say("last")
        peer.expect(b"last\r\n")
        peer.send("q").answer()
        part = rotated.replace(".log", "+2.log")
        assert [state_of(peer, file) for file in (ended, cut, rotated, part, as_json)] == [
            "ended",
            "running",
            "running",
            "running",
            "running",
        ]
        server.kill()
    for file in (cut, as_json):
        with (server.data / "trace" / file).open("ab") as stream:
            stream.write(b'2026-01-01T00:00:00.000000+01:00 web[7] INFO torn {"at": "2026')
    again = start(data=server.data).log_in()

    assert [state_of(again, file) for file in (ended, cut, rotated, part, as_json)] == [
        "ended",
        "interrupted",
        "continued",
        "interrupted",
        "interrupted",
    ]
    assert again.run("trace status") == ["OK 0 running traces"]
    for file in (cut, as_json):
        exported = [json.loads(line) for line in again.run(f"trace export {file}")[:-1]]
        assert [each["text"][:4] for each in exported] == [*(f"{number} xx" for number in range(10)), "last"]
        shown = again.run(f"trace show {file}")
        assert "last" in shown[-2]
        assert not any("torn" in line for line in shown)
        played = again.run(f"trace play {file} speed=1000 match=last")
        assert [line for line in said(played) if line == "web[7] INFO last"]
        assert played[-1] == f"OK 1 record of {file} shown"
        assert again.run(f"trace delete {file} yes") == [f"OK {file} deleted"]


def test_a_stop_of_the_server_ends_captures_whole(start: StartServer) -> None:
    """At SIGTERM each capture gets its trailer, with all that was said."""
    server = start()
    peer, other = server.log_in(), server.log_in()
    with closing(Sender(server, "web", 7).introduce(peer)) as web:
        files = [started(peer, "web"), started(peer, "web format=jsonl"), started(peer, "web on=never")]
        begin(other, "trace web")
        web.say("one")
        other.expect(b"one\r\n")
        assert server.stop(signal.SIGTERM, 3.0) == 0
    names = sorted(path.name for path in (server.data / "trace").iterdir())

    assert len(names) == 4
    assert "; ended: the server stops; 1 record" in lines_of(server, files[0])[-1]
    assert json.loads(lines_of(server, files[1])[-1]) == {"comment": "ended: the server stops; 1 record"}
    assert lines_of(server, files[2])[-1] == "; ended: the server stops; 0 records"
    assert all(" record" in lines_of(server, name)[-1] for name in names)


def test_a_view_at_the_command_line_ends_and_the_capture_goes_on(peer: Peer, web: Sender, tracing: Server) -> None:
    """``trace attach FILE`` shows the records; Ctrl-C ends the view, and only the view, with exit 0."""
    file = started(peer, f"{web.name}")
    command = [sys.executable, "-m", "callisto_telnetd", "trace", "attach", file, "--data", str(tracing.data)]
    with ProductProcess(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=tracing.environment, text=True, cwd=ROOT
    ) as view:
        assert view.stdout is not None
        assert VIEW.fullmatch(view.stdout.readline().encode().replace(b"\n", b"\r\n"))
        web.say("one % #")
        assert said([view.stdout.readline().rstrip("\n")]) == [web.line("one % #")]
        view.send_signal(signal.SIGINT)
        rest, _ = view.communicate(timeout=DEADLINE_S)

    assert (view.returncode, rest) == (0, f"OK 1 record shown, 0 not shown; {file} goes on\n")
    assert status_of(peer, file)[1:3] == ["running", "1"]


@pytest.mark.long
def test_a_deaf_viewer_is_cut_off_and_its_capture_goes_on(start: StartServer) -> None:
    """A viewer who takes nothing for 10 s loses the session; the capture goes on, complete, and is said at the next."""
    server = start()
    peer = server.log_in()
    deaf = server.connect(receive_buffer=4096).log_in()
    with closing(Sender(server, "web", 7).introduce(peer)) as web:
        begin(deaf, "trace web")
        [file] = [line.split()[0] for line in peer.run("trace status") if " web" in line]
        for number in range(5_000):
            web.say(f"{number:06} {'x' * 200}")
        begin(peer, f"trace attach {file}")
        server.wait_log("trace viewer cut off")
        web.say("still there")
        peer.expect(b"still there\r\n")
        peer.send("q").answer()
        saved = Saved.parse(peer.run(f"trace stop {file}")[-1])

    assert saved.records == 5_001
    lines = [line for line in lines_of(server, file) if RECORD.fullmatch(line)]
    assert [line.split()[3] for line in lines[:-1]] == [f"{number:06}" for number in range(5_000)]
    assert b"Closed: the trace was not read." in deaf.expect_closed()
