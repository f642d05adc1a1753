"""Files of captures read back: shown, exported in three forms, played at their own pace, deleted."""

from __future__ import annotations

import csv
import io
import json
import os
import time

import pytest

from tests.conftest import NAME, Peer, Server, StartServer
from tests.contract.conftest import RECORD, Saved, Sender, begin, lines_of, said, started
from tests.hostile.tracing import wait_shown

NONE_RUNS = "Error: no trace runs; 'trace start' begins one"
SPREAD = """\
; Callisto 1.0.0, edition ucm, host callisto
; started 2025-01-02T03:04:05.000000+01:00, zone Africa/Lagos, clock: system clock
2025-01-02T03:04:05.000000+01:00 web[7] INFO one who="a b"
2025-01-02T03:04:05.400000+01:00 phone[-] WARNING two
2025-01-02T03:04:05.300000+01:00 web[7] ERROR three, before two
2025-01-02T03:04:05.700000+01:00 web[7] DEBUG =four
2025-01-02T05:04:05.700000+01:00 web[7] INFO five, two hours later
; ended: its time is over; 5 records
"""


@pytest.fixture
def spread(tracing: Server) -> str:
    """A file whose records are 0.4 s apart, and then two hours."""
    name = "20250102-030405-admin.log"
    (tracing.data / "trace" / name).write_text(SPREAD)
    return name


@pytest.fixture
def taken(peer: Peer, web: Sender) -> Saved:
    """A capture of three records, just taken."""
    begin(peer, f"trace {web.name} records=3 note=three of them")
    web.say("one key=value")
    web.send(f'<11>1 - - {web.name} 4711 - [call from="a \\"b\\", c"] two, "quoted"'.encode())
    web.say("three \x1b[2J 100 %", severity=7)
    return Saved.parse(peer.answer()[-1])


def test_a_file_is_listed_shown_and_deleted(peer: Peer, tracing: Server, taken: Saved) -> None:
    """The list has name, size, start and state; show has each line; delete asks, and deletes after a yes."""
    [listed] = [line for line in peer.run("trace list") if line.startswith(taken.file)]
    size = (tracing.data / "trace" / taken.file).stat().st_size
    stamp = f"{taken.file[:4]}-{taken.file[4:6]}-{taken.file[6:8]}"
    assert listed.split()[1:4] == [str(size), "B", stamp]
    assert listed.split()[-1] == "ended"
    shown = peer.run(f"trace show {taken.file}")
    file = lines_of(tracing, taken.file)
    assert shown == [
        *(f"{line}." if line.endswith("%") else line for line in file),
        f"OK {len(file)} lines of {taken.file}",
    ]

    peer.send(f"trace delete {taken.file}\r\n").expect(b"[y/N]: ")
    assert peer.send("n\r\n").answer()[-1] == "OK nothing was changed"
    assert (tracing.data / "trace" / taken.file).exists()
    assert peer.run(f"trace delete {taken.file} yes") == [f"OK {taken.file} deleted"]
    assert not (tracing.data / "trace" / taken.file).exists()
    assert peer.run(f"trace show {taken.file}")[-1].startswith("Error: no trace file named ")


def test_a_small_budget_and_files_that_are_not_named(start: StartServer) -> None:
    """A budget below ``trace.size`` bounds every trace; without FILE it is the newest, or the only one that runs.

    A file that has reached the budget stays; the one that goes for the next is told to whoever made it.
    """
    server = start('[trace]\nbudget = "1M"\nfiles = 1000\n')
    peer = server.log_in()
    assert "WARNING trace.size is larger than trace.budget: a trace ends at the budget" in server.log()
    nothing = [peer.run(f"trace {words}")[-1] for words in ("show", "export", "play", "stop", "attach")]
    assert nothing == [*["Error: there is no trace file yet; 'trace' makes one"] * 3, *[NONE_RUNS] * 2]
    sender = Sender(server, "web")
    files = []
    for _ in range(2):
        files.append(started(peer, "match=^packet"))
        assert ", 1.0 MiB, match=^packet" in peer.run("trace status")[1]
        for number in range(1_500):
            sender.say(f"packet {number:04} {'x' * 700}")
        wait_shown(peer, "trace list", f"Notice: trace saved to {files[-1]}, ")
    told = f"Notice: 1 trace file deleted, because trace.budget is used up: {files[0]}"
    assert told in "\n".join(peer.run("whoami")) or wait_shown(peer, "whoami", told)
    listed = [line.split()[0] for line in peer.run("trace list")[:-1]]
    assert listed == [files[1]]
    assert peer.run("trace show")[-1].endswith(f" lines of {files[1]}")
    assert peer.run("trace export level=debug")[-1].endswith(f" records of {files[1]} as jsonl")
    assert peer.run("trace play level=error")[-1] == f"OK 0 records of {files[1]} shown"
    rotating = started(peer, "rotate=200k")
    assert ", the last 5 files of 200.0 KiB, rotate=200k" in peer.run("trace status")[1]
    peer.run(f"trace stop {rotating}")
    only = started(peer)
    begin(peer, "trace attach")
    assert peer.send("q").answer()[-1].endswith(f" not shown; {only} goes on")
    second = started(peer)
    assert peer.run("trace stop") == [f"Error: 2 traces run, {only} and {second}: name one"]
    peer.run(f"trace stop {only}")
    assert Saved.parse(peer.run("trace stop")[-1]).file == second
    sender.close()

    assert peer.run(f"trace delete {files[1]} yes")[-1] == f"OK {files[1]} deleted"  # it fills the budget
    for number in range(1010):
        (server.data / "trace" / f"20200101-{number:06}-bob.log").write_text(f"; by {NAME} from x (telnet)\n")
        os.utime(server.data / "trace" / f"20200101-{number:06}-bob.log", (number, number))
    gone = len(list((server.data / "trace").iterdir())) + 1 - 1000
    started(peer, "note=x")
    # Their names need not be times of a clock: whoever has put them there is no reason to list none.
    told = f"Notice: {gone} trace files deleted, because there were more than trace.files: 20200101-000000-bob.log, "
    wait_shown(peer, "whoami", told)
    assert len(peer.run("trace list")) == 1000 + 1
    assert "trace files deleted for their number files=20200101-000000-bob.log," in server.log().replace('"', "")


def test_export_in_three_forms(peer: Peer, web: Sender, tracing: Server, taken: Saved) -> None:
    """JSON Lines (also without being asked for), text and CSV have the same records, each in one line."""
    records = [line for line in lines_of(tracing, taken.file) if RECORD.fullmatch(line)]
    stamps = [line.split()[0] for line in records]
    *lines, last = peer.run(f"trace export {taken.file} format=jsonl")
    as_data = [json.loads(line) for line in lines]
    assert last == f"OK 3 records of {taken.file} as jsonl"
    assert [each["at"] for each in as_data] == stamps
    assert [(each["process"], each["pid"], each["level"]) for each in as_data] == [
        (web.name, 4711, "info"),
        (web.name, 4711, "error"),
        (web.name, 4711, "debug"),
    ]
    assert [each["text"] for each in as_data] == ["one", 'two, "quoted"', r"three \x1b[2J 100 %"]
    assert [each.get("fields") for each in as_data] == [{"key": "value"}, {"call.from": 'a "b", c'}, None]
    assert peer.run(f"trace export {taken.file}") == [*lines, last]

    *lines, last = peer.run(f"trace export {taken.file} format=text")
    assert lines == [*records[:2], f"{records[2]}."]
    assert last == f"OK 3 records of {taken.file} as text"

    *lines, last = peer.run(f"trace export {taken.file} --format csv")
    rows = list(csv.reader(io.StringIO("\n".join(lines))))
    assert rows[0] == ["at", "process", "pid", "level", "text", "fields"]
    assert [row[0] for row in rows[1:]] == stamps
    assert [row[1:4] for row in rows[1:]] == [[web.name, "4711", level] for level in ("info", "error", "debug")]
    assert [row[4] for row in rows[1:]] == ["one", 'two, "quoted"', r"three \x1b[2J 100 %"]
    assert [row[5] for row in rows[1:]] == ["key=value", r'call.from="a \"b\", c"', ""]
    assert last == f"OK 3 records of {taken.file} as csv"


def test_both_ways_of_an_option_are_the_same(peer: Peer, taken: Saved) -> None:
    """``--format csv``, ``--format=csv`` and ``format=csv`` give the same, wherever they stand."""
    answers = [
        peer.run(f"trace export {words}")
        for words in (
            f"{taken.file} format=csv",
            f"{taken.file} --format csv",
            f"{taken.file} --format=csv",
            f"--format csv {taken.file}",
            f"{taken.file} FORMAT=CSV",
        )
    ]
    assert answers == [answers[0]] * 5
    assert answers[0][-1] == f"OK 3 records of {taken.file} as csv"


def test_export_takes_filters(peer: Peer, spread: str) -> None:
    """Process, level and expression choose among the records of a file, too; one that nobody has gives none."""
    for words, count in (("web", 4), ("web,phone", 5), ("level=warning", 2), ("match=three|five", 2), ("nosuch", 0)):
        assert (
            peer.run(f"trace export {spread} {words}")[-1]
            == f"OK {count} record{'' if count == 1 else 's'} of {spread} as jsonl"
        )


def test_no_cell_of_a_csv_file_is_a_formula(peer: Peer, spread: str) -> None:
    """What a spreadsheet would work out is text in it."""
    assert peer.run(f"trace export {spread} format=csv level=debug match==four")[1].endswith(",debug,'=four,")


def test_json_lines_are_exported_like_text(peer: Peer, web: Sender) -> None:
    """A capture in JSON Lines is shown as it is, and exported, filtered and played like one in text."""
    begin(peer, f"trace {web.name} format=jsonl records=2")
    web.say("one")
    web.say("two", severity=3)
    saved = Saved.parse(peer.answer()[-1])

    assert all(json.loads(line) for line in peer.run(f"trace show {saved.file}")[:-1])
    assert said(peer.run(f"trace export {saved.file} format=text level=error")) == [web.line("two", "ERROR")]
    assert said(peer.run(f"trace play {saved.file} speed=1000")) == [web.line("one"), web.line("two", "ERROR")]
    first, second = (json.loads(line)["sequence"] for line in peer.run(f"trace export {saved.file}")[:-1])
    assert first < second


def test_play_has_the_pace_of_the_records(peer: Peer, spread: str) -> None:
    """Records come as far apart as they were, a clock that was set back makes no pause; filters choose among them."""
    began = time.monotonic()
    answer = peer.run(f"trace play {spread} match='^(one|two$|three|=four)'")
    took_s = time.monotonic() - began
    assert said(answer) == [
        'web[7] INFO one who="a b"',
        "phone[-] WARNING two",
        "web[7] ERROR three, before two",
        "web[7] DEBUG =four",
    ]
    assert answer[-1] == f"OK 4 records of {spread} shown"
    assert 0.7 < took_s < 3

    began = time.monotonic()
    assert len(said(peer.run(f"trace play {spread} web speed=1000 match='one|three|four'"))) == 3
    assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("key", [b"\r\n", b"q", b"\x03", b"\xff\xf4"], ids=["Enter", "q", "Ctrl-C", "IP"])
def test_a_key_ends_a_play(peer: Peer, spread: str, key: bytes) -> None:
    """Enter, q and an interrupt end it, also where the next record is hours away."""
    peer.send(f"trace play {spread} level=info match='four|one|five' speed=1\r\n").expect(b'one who="a b"\r\n')

    assert peer.send(key).answer() == ["-- 2 h in which nothing was said --", f"OK 1 record of {spread} shown"]
    assert peer.run("whoami") == ["OK admin from 127.0.0.1 (telnet)"]


def test_a_running_capture_can_be_read(peer: Peer, other: Peer, web: Sender) -> None:
    """Show, export and play of a file that is written give what it has until then; the capture goes on."""
    file = started(peer, web.name)
    begin(other, f"trace attach {file}")
    web.say("one")
    other.expect(b"one\r\n")
    other.send("q").answer()

    assert said(peer.run(f"trace show {file}")) == [web.line("one")]
    assert said(peer.run(f"trace export {file} format=text")) == [web.line("one")]
    assert said(peer.run(f"trace play {file} speed=1000")) == [web.line("one")]
    assert Saved.parse(peer.run(f"trace stop {file}")[-1]).records == 1


def test_a_file_of_anything_is_shown_clean(peer: Peer, tracing: Server) -> None:
    """What somebody else has put into a file drives no terminal, and what is no record is left out of an export."""
    name = "20250101-000000-admin.log"
    path = tracing.data / "trace" / name
    path.write_bytes(
        b"\x1b[2J\r\n\xff\xfe\n; ok\n{}\n2025-01-02T03:04:05+01:00 a[1] INFO \x9b \xe2\x80\xae x\n" + b"y" * 3_000_000
    )
    try:
        shown = peer.run(f"trace show {name}")
        assert all(line.isprintable() for line in shown)
        assert shown[-1].startswith("OK ")
        assert peer.run(f"trace export {name}")[-1] == f"OK 1 record of {name} as jsonl"
        assert peer.run(f"trace play {name} speed=1000")[-1] == f"OK 1 record of {name} shown"
    finally:
        path.unlink()
