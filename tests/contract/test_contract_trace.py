"""The live trace: what it shows, how it ends, its filters and bounds, and the file that it leaves."""

from __future__ import annotations

import json
import re
import time
from contextlib import closing
from datetime import datetime, timedelta

import pytest

from tests.conftest import BRK, IAC, IP, PROMPT, Peer, Server, StartServer
from tests.contract.conftest import (
    OFFSET,
    RECORD,
    ROTATED,
    SAVED,
    STAMP,
    VIEW,
    Saved,
    Sender,
    begin,
    lines_of,
    said,
    started,
)

# What it shows, and how it ends


def test_a_trace_shows_the_processes_and_ends_by_itself(shell: Peer, server: Server) -> None:
    """The table of processes, then records, until the time is over; then the line that names file and counts."""
    began = time.monotonic()
    shell.send("trace for=1s\r\n")
    table = shell.expect(VIEW).decode().lstrip().split("\r\n")
    with closing(Sender(server, "web")) as sender:
        sender.say("a record")
    answer = shell.answer()
    saved = Saved.parse(answer[-1])

    assert 0.9 < time.monotonic() - began < 4
    assert table[0].split() == ["PROCESS", "PID", "CPU", "%", "MEMORY", "UPTIME", "STATE"]
    assert re.fullmatch(r"callisto-telnetd +[0-9]+ +[0-9]+\.[0-9] +[0-9.]+ MiB +.+ +running", table[1])
    shown = answer[:-1]
    assert all(RECORD.fullmatch(line) for line in shown)
    assert len(shown) == saved.records >= 1
    assert saved.not_shown == 0
    assert any(line.endswith(" INFO a record") for line in shown)
    assert [line for line in shell.run(f"trace show {saved.file}") if RECORD.fullmatch(line)] == shown


@pytest.mark.parametrize(
    "key",
    [b"\r\n", b"\n", b"\r", b"\r\0", b"q", b"\x03", IAC + IP, IAC + BRK],
    ids=["CR LF", "LF", "CR", "CR NUL", "q", "Ctrl-C", "IP", "BRK"],
)
def test_a_key_or_an_interrupt_ends_a_trace(peer: Peer, web: Sender, tracing: Server, key: bytes) -> None:
    """Enter, q, Ctrl-C, IAC IP and IAC BRK end it: what was shown is on file, and the next line is a command again."""
    begin(peer, f"trace {web.name}")
    web.say("one")
    web.say("two")
    shown = peer.expect(b"two\r\n")
    saved = Saved.parse(peer.send(key).answer()[-1])
    assert (saved.records, saved.not_shown) == (2, 0)

    assert said(shown.decode().split("\r\n")) == [web.line("one"), web.line("two")]
    assert said(lines_of(tracing, saved.file)) == [web.line("one"), web.line("two")]
    assert peer.run("whoami") == ["OK admin from 127.0.0.1 (telnet)"]


def test_a_trace_ends_at_once_while_much_comes(peer: Peer, web: Sender, tracing: Server) -> None:
    """At thousands of records a second q ends it within a second, with at most a screen's worth behind it."""
    begin(peer, f"trace {web.name} size=100M")
    web.say("begin")
    peer.expect(b"begin\r\n")
    for number in range(10_000):
        web.say(f"number {number:05} {'x' * 150}")
        if number == 5_000:
            peer.send("q")
            began = time.monotonic()
    lines = peer.answer()

    assert time.monotonic() - began < 2
    saved = Saved.parse(lines[-1])
    shown, on_file = said(lines), said(lines_of(tracing, saved.file))
    missed = sum(
        int(match[1].replace(",", ""))
        for line in lines
        if (match := re.fullmatch("-- ([0-9,]+) records? not shown --", line))
    )
    assert len(on_file) == saved.records
    assert missed == saved.not_shown
    assert len(shown) + missed + 1 == saved.records
    assert on_file == [web.line("begin"), *on_file[1:]]
    assert [line.split()[3] for line in on_file[1:]] == [f"{number:05}" for number in range(saved.records - 1)]


def test_the_end_of_input_ends_a_trace_that_has_no_bound(tracing: Server, web: Sender) -> None:
    """A script that half-closes gets the end of its trace, and what it typed behind it; a bound is waited for."""
    endless = tracing.log_in()
    endless.send("trace\r\n").finish_input()
    lines = endless.text_to_close().split("\r\n")
    assert any(SAVED.fullmatch(line) for line in lines)

    bounded = tracing.log_in()
    bounded.send(f"trace {web.name} records=1\r\nwhoami\r\n").finish_input().expect(VIEW)
    web.say("the one")
    *_, record, saved, prompt, answer, _ = bounded.text_to_close().split("\r\n")
    assert record.endswith(web.line("the one"))
    assert Saved.parse(saved).records == 1
    assert prompt == "callisto# "
    assert answer == "OK admin from 127.0.0.1 (telnet)"


def test_a_record_has_the_one_form(peer: Peer, web: Sender, tracing: Server) -> None:
    """Time with microseconds and the appliance's offset, process, pid, level, text, fields; on screen and on file."""
    begin(peer, f"trace {web.name} records=4")
    web.say("text key=value")
    web.send(f'<11>1 - - {web.name} 4711 - [call id="7" from="a b"] refused'.encode())
    web.send(f"<12>{web.name}: no pid".encode())
    web.say("quiet", severity=7)
    *lines, last = peer.answer()

    assert all(re.fullmatch(rf"{STAMP} .*", line) and line[26:32] == OFFSET for line in lines)
    assert said(lines) == [
        web.line("text key=value"),
        web.line('refused call.id=7 call.from="a b"', "ERROR"),
        f"{web.name}[-] WARNING no pid",
        web.line("quiet", "DEBUG"),
    ]
    now = datetime.fromisoformat(lines[0].split()[0])
    assert abs(now - datetime.now(now.tzinfo)) < timedelta(seconds=60)
    assert lines_of(tracing, Saved.parse(last).file)[-5:-1] == lines


def test_the_last_line_counts_records_and_bytes(peer: Peer, web: Sender, tracing: Server) -> None:
    """``OK trace saved to FILE, N records, N not shown, SIZE``: the size is the file's own."""
    for count, text in ((1, "short"), (3, "x" * 1000)):
        begin(peer, f"trace {web.name} records={count}")
        for _ in range(count):
            web.say(text)
        saved = Saved.parse(peer.answer()[-1])
        size = (tracing.data / "trace" / saved.file).stat().st_size

        assert (saved.records, saved.not_shown) == (count, 0)
        assert saved.size == (f"{size} B" if size < 1024 else f"{size / 1024:.1f} KiB")


def test_a_trace_does_not_count_its_own_start(peer: Peer, other: Peer, tracing: Server) -> None:
    """Its first record is the first thing that happens behind its start; the log has its start and its end."""
    begin(peer, "trace records=1 note=the first thing")
    other.run("whoami")
    record, last = peer.answer()
    saved = Saved.parse(last)

    assert "DEBUG command line=whoami who=admin source=127.0.0.1" in record
    log = tracing.wait_log(f"trace ended file={saved.file} records=1 ")
    assert 'trace starts filter="records=1" note="the first thing" who=admin source=127.0.0.1' in log


def test_the_file_has_header_and_trailer(appliance: Server) -> None:
    """Version, edition, host, clock, who, filter, note and each variable that differs, then why it ended."""
    peer = appliance.log_in()
    peer.run("variables set gWebTimeout 31")
    peer.run("variables set gRecordVolume 123")
    saved = Saved.parse(peer.run("trace records=3 before=1h level=info note=a note, of mine")[-1])
    lines = lines_of(appliance, saved.file)
    records = [line for line in lines if RECORD.fullmatch(line)]
    begun = lines.index(records[0])
    header, trailer = lines[:begun], lines[begun + len(records) :]

    assert header[0] == "; Callisto 1.0.0, edition ucm, host callisto"
    assert re.fullmatch(rf"; started {STAMP}, zone \S+, clock: .+", header[1])
    assert header[2] == "; by admin from 127.0.0.1 (telnet)"
    assert header[3] == "; filter: records=3 before=1h level=info"
    assert header[4] == "; note: a note, of mine"
    assert header[5:] == [
        "; differs from its default: gRecordVolume = 123",
        "; differs from its default: gWebTimeout = 31",
    ]
    assert len(records) == saved.records == 3
    assert trailer == ["; ended: it has its number of records; 3 records"]
    at = datetime.fromisoformat(header[1].split()[2].rstrip(","))
    assert saved.file.startswith(f"{at:%Y%m%d-%H%M%S}-admin")


# What comes from outside

NASTY = {
    "escape": (b"\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
    "C0 and DEL": (b"a\x00b\x08c\x7f\td", r"a\x00b\x08c\x7f\x09d"),
    "C1": ("a\x85b\x9b31mc".encode(), r"a\x85b\x9b31mc"),
    "no UTF-8": (b"a\xff\xc3(b\x9b", r"a\xff\xc3(b\x9b"),
    "bidi": ("a\u202egnp\u2066b\u200fc".encode(), r"a\u202egnp\u2066b\u200fc"),
    "separators": ("a\u2028b\u2029c".encode(), r"a\u2028b\u2029c"),
    "forged line": (
        b"a\r\n2026-01-01T00:00:00.000000+01:00 web[1] INFO forged\nOK trace saved",
        r"a\x0d\x0a2026-01-01T00:00:00.000000+01:00 web[1] INFO forged\x0aOK trace saved",
    ),
    "telnet": (b"\xff\xfd\x06\xff\xf4", r"\xff\xfd\x06\xff\xf4"),
}


def test_nothing_from_outside_drives_a_terminal_or_forges_a_line(peer: Peer, web: Sender, tracing: Server) -> None:
    """Controls, bidirectional marks, line ends and broken bytes stand escaped, in file and on screen alike."""
    begin(peer, f"trace {web.name} records={len(NASTY)}")
    for sent, _ in NASTY.values():
        web.say(sent)
    raw = peer.expect(PROMPT)
    *lines, last, _ = raw.decode().split("\r\n")

    assert said(lines) == [web.line(shown) for _, shown in NASTY.values()]
    assert all(line.isprintable() for line in lines)
    assert b"\xff" not in raw
    file = lines_of(tracing, Saved.parse(last).file)
    assert [line for line in file if RECORD.fullmatch(line)] == lines
    assert all(line.isprintable() for line in file)


def test_what_a_caller_types_is_clean(shell: Peer, server: Server) -> None:
    """Marks that turn the direction of writing in another session's command are not in its record."""
    begin(shell, "trace match=red records=1")
    server.log_in(source="127.0.0.9").run("variables show a\u202ered\u2066c")
    *lines, last = shell.answer()

    assert re.search(r"variables show a(\\u202e|\ufffd)red(\\u2066|\ufffd)c", lines[0])
    assert lines[0].isprintable()
    Saved.parse(last)


def test_a_datagram_of_any_length_is_one_bounded_line(peer: Peer, web: Sender, tracing: Server) -> None:
    """64 KiB and more come as one line that is cut and says how long it was; the next record is whole."""
    begin(peer, f"trace {web.name} records=4")
    web.say("x" * 8192)
    web.say("y" * 60_000)
    web.say("z" * 150_000)
    web.say("next")
    *lines, last = peer.answer()

    assert said(lines)[0] == web.line("x" * 8192)
    assert said(lines)[1] == web.line("y" * 8192 + "… length=60000")
    assert said(lines)[2] == web.line("z" * 8192 + "… length=65536+")
    assert said(lines)[3] == web.line("next")
    assert lines_of(tracing, Saved.parse(last).file)[-5:-1] == lines


def test_no_record_looks_like_a_prompt(peer: Peer, web: Sender, tracing: Server) -> None:
    """A line that would end as a prompt does gets a full stop on the screen; the file has it as it is."""
    begin(peer, f"trace {web.name} records=3")
    for text in ("callisto# ", "100 %", "done >"):
        web.say(text)
    *lines, last = peer.answer()

    assert said(lines) == [web.line("callisto#."), web.line("100 %."), web.line("done >.")]
    assert said(lines_of(tracing, Saved.parse(last).file)) == [
        web.line("callisto# "),
        web.line("100 %"),
        web.line("done >"),
    ]


# Filters and bounds


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ("{web}", ["call lost", "Call 7 refused", "disk fine", "gone"]),
        ("{web},{phone}", ["call lost", "ring", "Call 7 refused", "disk fine", "gone"]),
        ("{web} {phone}", ["call lost", "ring", "Call 7 refused", "disk fine", "gone"]),
        ("{web} level=warning", ["call lost", "Call 7 refused", "gone"]),
        ("{web} level=ERROR", ["Call 7 refused", "gone"]),
        ("{web} level=critical", ["gone"]),
        ("{web} match=call", ["call lost"]),
        ("{web} match=(?i)call.*(lost|refused)", ["call lost", "Call 7 refused"]),
        ("{web},{phone} match='^r.ng$'", ["ring"]),
        ("{web},{phone} level=warning match=refused", ["Call 7 refused"]),
        ("{web} match=call[.]id=7", ["Call 7 refused"]),
    ],
)
def test_a_filter_takes_what_it_says(
    peer: Peer, web: Sender, phone: Sender, tracing: Server, words: str, texts: list[str]
) -> None:
    """Processes, a level and what is after it, an expression found in text or fields; screen and file have the same."""
    count = len(texts)
    begin(peer, f"trace {words.format(web=web.name, phone=phone.name)} records={count}")
    web.say("call lost", severity=4)
    phone.say("ring")
    web.send(f'<11>1 - - {web.name} 4711 - [call id="7"] Call 7 refused'.encode())
    web.say("disk fine", severity=5)
    web.say("gone", severity=1)
    *lines, last = peer.answer()

    def text(line: str) -> str:
        return line.split(" ", 2)[2].removesuffix(" call.id=7")

    assert [text(line) for line in said(lines)] == texts
    assert [text(line) for line in said(lines_of(tracing, Saved.parse(last).file))] == texts


def test_a_runaway_expression_stalls_nobody(peer: Peer, other: Peer, web: Sender) -> None:
    """An expression that goes back and back elsewhere costs this server nothing."""
    begin(peer, f"trace {web.name} match=(a*)*(a|aa)+$b? records=1")
    web.say("a" * 8000 + "!")
    began = time.monotonic()
    other.run("whoami")
    web.say("a" * 5000)

    assert peer.answer()[0].endswith("aaa")
    assert time.monotonic() - began < 2


def test_records_and_size_bound_a_capture_exactly(peer: Peer, web: Sender, tracing: Server) -> None:
    """The bound by number is met to the record; the file never passes the bound by size but for its trailer."""
    begin(peer, f"trace {web.name} records=3")
    for number in range(10):
        web.say(f"number {number}")
    assert said(peer.answer()[:-1]) == [web.line(f"number {number}") for number in range(3)]

    begin(peer, f"trace {web.name} size=2k")
    for number in range(40):
        web.say(f"number {number} {'x' * 60}")
    *lines, last = peer.answer()
    saved = Saved.parse(last)
    file = lines_of(tracing, saved.file)
    whole = "".join(f"{line}\n" for line in file[:-1]).encode()
    assert 1900 < len(whole) <= 2048
    assert file[-1] == f"; ended: it has its size; {saved.records} records"
    assert said(lines) == said(file)
    assert len(said(file)) == saved.records < 40


def test_the_default_size_bounds_a_trace(start: StartServer) -> None:
    """Without size= a capture ends at the size of the settings."""
    server = start('[trace]\nsize = "2k"\n')
    peer, other = server.log_in(), server.log_in()
    begin(peer, "trace")
    for _ in range(40):
        other.run("whoami")

    saved = Saved.parse(peer.answer()[-1])
    assert "; ended: it has its size; " in lines_of(server, saved.file)[-1]


def test_before_begins_in_the_past_whatever_the_clock_does(start: StartServer) -> None:
    """``before`` counts the time that has passed: neither a jump ahead nor one back changes what it means."""
    server = start()
    peer = server.log_in()
    with closing(Sender(server, "web").introduce(peer)) as web:
        web.say("long ago")
        peer.run("trace web for=1s")
        web.say("young")
        for moment in ("2037-01-02 03:04:05", "2020-02-03 04:05:06"):
            assert peer.run(f"date {moment}")[-1].startswith("OK ")
            lines = peer.run("trace web before=1h records=3")
            assert said(lines) == [web.line("hello of web."), web.line("long ago"), web.line("young")]
            assert Saved.parse(lines[-1]).file.startswith(moment[:10].replace("-", ""))
        begin(peer, "trace web before=1s for=1s")
        web.say("youngest")
        lines = peer.answer()

    assert web.line("long ago") not in said(lines)
    assert web.line("youngest") in said(lines)
    assert [line[:4] for line in lines if RECORD.fullmatch(line)][-1] == "2020"


def test_before_begins_with_what_is_held(peer: Peer, web: Sender, tracing: Server) -> None:
    """What was said before is first, filtered, then what comes; none is missing or there twice."""
    for number in range(5):
        web.say(f"before {number}", severity=4)
    web.say("before, but quiet")
    begin(peer, f"trace {web.name} level=warning before=1m records=6")
    web.say("now", severity=4)
    *lines, last = peer.answer()

    assert said(lines) == [
        *(web.line(f"before {number}", "WARNING") for number in range(5)),
        web.line("now", "WARNING"),
    ]
    assert said(lines_of(tracing, Saved.parse(last).file)) == said(lines)


@pytest.mark.parametrize("before", ["", " before=1m"])
def test_a_trigger_begins_with_what_is_held(peer: Peer, other: Peer, web: Sender, tracing: Server, before: str) -> None:
    """Until the expression is found nothing is written; then the held records come first, and all that follows."""
    file = started(peer, f"{web.name} on=bo+m{before} note=waiting for it")
    web.say("one")
    web.say("two")
    other.send(f"trace tail {web.name} before=1m\r\n").expect(b"two\r\n")
    other.send("q").answer()
    (waiting,) = [line for line in other.run("trace status") if line.startswith(file)]
    assert waiting.split()[1:3] == ["waiting", "0"]
    assert said(lines_of(tracing, file)) == []

    begin(other, f"trace attach {file}")
    web.say("boom 1")
    web.say("three")
    shown = other.expect(b"three\r\n").decode().split("\r\n")
    other.send("q").answer()
    assert peer.run("") == [f"Notice: the trigger of trace {file} has fired"]
    (running,) = [line for line in other.run("trace status") if line.startswith(file)]
    assert running.split()[1] == "running"
    peer.run(f"trace stop {file}")

    wanted = [web.line(text) for text in (f"hello of {web.name}.", "one", "two", "boom 1", "three")]
    assert said(lines_of(tracing, file)) == wanted
    assert said(shown) == wanted


def test_a_trigger_takes_no_notice_of_what_is_typed(peer: Peer, other: Peer, web: Sender) -> None:
    """An administrator who types the words of a trigger does not fire it; a program that says them does."""
    file = started(peer, "on=boom-of-mine")
    other.run(f"variables show boom-of-mine match={web.name}")
    assert "waiting" in next(line for line in other.run("trace status") if line.startswith(file))
    begin(other, f"trace attach {file}")
    web.say("boom-of-mine")
    other.expect(web.line("boom-of-mine\r\n").encode())
    peer.run(f"trace stop {file}")
    other.answer()


def test_the_time_of_a_trigger_begins_when_it_fires(peer: Peer, web: Sender, tracing: Server) -> None:
    """``for=`` counts from the trigger on; until then the capture waits for as long as it takes."""
    begin(peer, f"trace {web.name} on=boom before=1s for=1s")
    web.say("boom")
    peer.expect(b"boom\r\n")
    began = time.monotonic()
    saved = Saved.parse(peer.answer()[-1])

    assert 0.8 < time.monotonic() - began < 4
    assert lines_of(tracing, saved.file)[-1] == f"; ended: its time is over; {saved.records} records"


def test_a_capture_rotates_without_a_gap(peer: Peer, web: Sender, tracing: Server) -> None:
    """Each part names the next one, has the header, and goes on with the next record; all of them are listed."""
    begin(peer, f"trace {web.name} rotate=64k records=60")
    for number in range(60):
        web.say(f"{number:02} {'x' * 5000}")
    rotated = ROTATED.fullmatch(peer.answer()[-1])
    assert rotated
    stem = rotated[1]
    listed = [line.split() for line in peer.run("trace list") if line.startswith(stem)]

    names = [f"{stem}.log", *(f"{stem}+{part}.log" for part in range(2, len(listed) + 1))]
    assert len(names) >= 5
    assert [words[0] for words in listed] == names
    assert [words[-1] for words in listed] == ["continued"] * (len(names) - 1) + ["ended"]
    numbers: list[str] = []
    for place, name in enumerate(names):
        lines = lines_of(tracing, name)
        assert (tracing.data / "trace" / name).stat().st_size <= (64 << 10) + 100
        assert lines[0].startswith("; Callisto 1.0.0")
        assert (f"; part {place + 1}" in lines) is (place > 0)
        last = (
            f"; continued in {names[place + 1]}"
            if place + 1 < len(names)
            else "; ended: it has its number of records; 60 records"
        )
        assert lines[-1] == last
        numbers += [line.split()[2] for line in said(lines)]
    assert numbers == [f"{number:02}" for number in range(60)]
    assert [int(each) for each in rotated.groups()[1:]] == [len(names), 60, len(names)]


def test_the_last_parts_are_kept(peer: Peer, web: Sender, tracing: Server) -> None:
    """With keep=2 the last two parts are there and the others are not; the records before them are counted."""
    begin(peer, f"trace {web.name} rotate=64k keep=2 records=60")
    for number in range(60):
        web.say(f"{number:02} {'x' * 5000}")
    rotated = ROTATED.fullmatch(peer.answer()[-1])
    assert rotated
    stem = rotated[1]
    names = sorted(path.name for path in (tracing.data / "trace").glob(f"{stem}*"))

    assert rotated.groups()[2:] == ("60", "2")
    assert names == [f"{stem}+{part}.log" for part in (int(rotated[2]) - 1, int(rotated[2]))]
    assert [line.split()[0] for line in peer.run("trace list") if line.startswith(stem)] == names
    numbers = [line.split()[2] for name in names for line in said(lines_of(tracing, name))]
    assert numbers == [f"{number:02}" for number in range(60 - len(numbers), 60)]


def test_a_capture_may_be_json_lines(peer: Peer, web: Sender, tracing: Server) -> None:
    """With format=jsonl the file has a JSON object a line, header and trailer too; the screen shows text."""
    begin(peer, f"trace {web.name} format=jsonl records=2 note=for programs")
    web.say("one \x1b", severity=4)
    web.send(f'<14>1 - - {web.name} 4711 - [call id="7"] two'.encode())
    *shown, last = peer.answer()
    saved = Saved.parse(last)
    lines = [json.loads(line) for line in lines_of(tracing, saved.file)]

    assert saved.file.endswith(".jsonl")
    assert said(shown) == [web.line(r"one \x1b", "WARNING"), web.line("two call.id=7")]
    assert lines[0] == {"comment": "Callisto 1.0.0, edition ucm, host callisto"}
    assert {"comment": "note: for programs"} in lines
    assert lines[-1] == {"comment": "ended: it has its number of records; 2 records"}
    first, second = lines[-3:-1]
    assert first["at"] == shown[0].split()[0]
    assert second["sequence"] > first["sequence"]
    assert (first["process"], first["pid"], first["level"], first["text"]) == (web.name, 4711, "warning", r"one \x1b")
    assert second["fields"] == {"call.id": "7"}


def test_several_captures_have_their_own_filters(peer: Peer, other: Peer, web: Sender, tracing: Server) -> None:
    """Three at once, each with its filter and its bound, have their own records and names."""
    loud, all_of_it = started(peer, f"{web.name} level=error"), started(peer, f"{web.name}")
    begin(other, f"trace {web.name} match=o records=2")
    web.say("one", severity=3)
    web.say("three")
    web.say("two")
    *lines, last = other.answer()
    peer.run("trace stop all")

    assert len({loud, all_of_it, Saved.parse(last).file}) == 3
    assert said(lines) == [web.line("one", "ERROR"), web.line("two")]
    assert said(lines_of(tracing, loud)) == [web.line("one", "ERROR")]
    assert said(lines_of(tracing, all_of_it)) == [web.line("one", "ERROR"), web.line("three"), web.line("two")]


# What cannot be taken

BAD = {
    "trace match=(": "match: '(' is no regular expression",
    "trace match=": "match: '' is no regular expression",
    "trace match=(?=x)": "no look-around",
    r"trace match=(a)\1": "no look-around or back references",
    f"trace match={'a' * 501}": "1 to 500 characters",
    "trace match=((a{1,100}){1,100}){1,100}": "is no regular expression",
    "trace start on=[": "on: '[' is no regular expression",
    "trace level=high": "level: 'high' is not debug, info, notice, warning, error, critical, alert or emergency",
    "trace for=1x": "for: '1x' is not a time such as 30s, 5m or 1h",
    "trace for=0": "for: '0' is not a time",
    "trace for=25h": "from 1s to 24h",
    "trace before=-1s": "before: '-1s' is not a time",
    "trace records=0": "records: '0' is not a whole number from 1 to 10000000",
    "trace records=many": "records: 'many' is not a whole number",
    "trace size=1": "size: '1' is not a size such as 64k, 10M or 1G",
    "trace size=1G": "is more than all trace files may have together, 256.0 MiB",
    "trace start rotate=200M keep=2": "is more than all trace files may have together, 256.0 MiB",
    "trace start rotate=1k": "rotate: '1k' is not a size",
    "trace start rotate=64k keep=1": "keep: '1' is not a whole number from 2 to 1000",
    "trace start keep=3": "keep: it needs rotate=",
    "trace format=xml": "format: 'xml' is not text or jsonl",
    "trace nosuch": "trace: 'nosuch' is neither a command nor a process; processes: callisto-telnetd, ",
    "trace callisto-telnetd,nosuch": "'nosuch' is neither a command nor a process",
    "trace start nosuch": "'nosuch' is neither a command nor a process",
    "trace colour=red": "'colour=red' is no option of trace; allowed: level=, match=, on=, for=",
    "trace --colour red": "'--colour' is no option of trace",
    "trace for=1s for=2s": "for= stands twice",
    "trace for='1s": "the quote ' is not closed",
    f"trace start note={'n' * 201}": "note: 201 characters are more than 200",
    "trace tail level=loud": "level: 'loud' is not debug, info, notice, warning, error, critical, alert or emergency",
    "trace tail records=3": "'records=3' is no option of trace tail; allowed: level=, match= or before=",
    "trace tail nosuch": "'nosuch' is neither a command nor a process",
    "trace show {ended} {ended}": "usage: trace show [FILE]",
    "trace show 20200101-000000-admin.log": "no trace file named '20200101-000000-admin.log'; see 'trace list'",
    "trace export {ended} format=xml": "format: 'xml' is not text, jsonl or csv",
    "trace export {ended} --format xml": "format: 'xml' is not text, jsonl or csv",
    "trace export {ended} --colour": "'--colour' is no option of trace export",
    "trace export {ended} level=loud": "level: 'loud' is not",
    "trace export nosuch.log": "no trace file named 'nosuch.log'",
    "trace play {ended} speed=fast": "speed: 'fast' is not a number from 0.1 to 1000",
    "trace play {ended} speed=0": "speed: '0' is not a number",
    "trace play {ended} speed=1001": "speed: '1001' is not a number",
    "trace play {ended} for=1s": "'for=1s' is no option of trace play",
    "trace play nosuch.log": "no trace file named 'nosuch.log'",
    "trace attach {ended} {ended}": "usage: trace attach [FILE]",
    "trace attach {ended}": "no running trace named '{ended}'; see 'trace status'",
    "trace attach {running} before=long": "before: 'long' is not a time",
    "trace stop {ended} {ended}": "usage: trace stop [FILE|all]",
    "trace stop {ended}": "no running trace named '{ended}'; see 'trace status'",
    "trace stop nosuch.log": "no running trace named 'nosuch.log'",
    "trace delete {running} yes": "{running} is running; stop it first",
    "trace delete nosuch.log yes": "no trace file named 'nosuch.log'",
    "trace list all": "usage: trace list",
    "trace status all": "usage: trace status",
    "trace processes all": "usage: trace processes",
}


def test_bad_input_is_one_line_that_says_what_is_allowed(peer: Peer, web: Sender, tracing: Server) -> None:
    """Each mistake is one ``Error: `` line that names the word and what is allowed, and nothing has changed."""
    ended, running = started(peer, web.name), started(peer, web.name)
    peer.run(f"trace stop {ended}")

    def state() -> tuple[list[str], list[str]]:
        status = [line.split(" left")[0][:60] for line in peer.run("trace status")]
        return peer.run("trace list"), status

    before = state()
    for words, answer in BAD.items():
        lines = peer.run(
            words.format(ended=ended, running=running) if "{ended}" in words or "{running}" in words else words
        )
        assert len(lines) == 1, (words, lines)
        assert lines[0].startswith("Error: "), words
        assert answer.replace("{ended}", ended).replace("{running}", running) in lines[0], (words, lines)
    assert state() == before


@pytest.mark.parametrize(
    "name", ["../callisto.db", "/etc/passwd", "..", "x\\y.log", "''", "20200101-000000-a/../x.log"]
)
@pytest.mark.parametrize("words", ["show {}", "export {}", "play {}", "delete {} yes", "attach {}", "stop {}"])
def test_only_trace_files_are_reached(peer: Peer, words: str, name: str) -> None:
    """No other file of the machine is reached through the commands of the trace files."""
    assert [line[:7] for line in peer.run(f"trace {words.format(name)}")] == ["Error: "]
