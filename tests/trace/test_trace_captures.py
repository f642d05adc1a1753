from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callisto_telnetd.clock import Clock
from callisto_telnetd.errors import TraceError
from callisto_telnetd.trace import captures as captures_module
from callisto_telnetd.trace.capture import CaptureRequest, Ending
from callisto_telnetd.trace.capture_folder import DeletedFile
from callisto_telnetd.trace.captures import Captures
from callisto_telnetd.trace.hub import OWN_PROCESS, Hub
from callisto_telnetd.trace.patterns import Pattern
from callisto_telnetd.trace.selection import Block, Filter
from callisto_telnetd.trace.viewers import Missed, Viewer
from tests.trace.conftest import (
    FakeMoment,
    FakeTime,
    file_size_limit,
    fill,
    open_files,
    said,
    say,
    stopped,
    turns,
)

HEADER = ["Callisto 1.0.0", "by ada"]
NAME = "20261123-101500-ada.log"
LINE = "2026-11-23T10:15:00.123456+01:00 web-server[4711] INFO"


async def shown_to(viewer: Viewer) -> list[int | str]:
    """Return what a viewer is shown until it has ended: texts of records, and numbers of those it missed."""
    shown: list[int | str] = []
    async for item in viewer.follow():
        shown += [item.records] if isinstance(item, Missed) else [record.text for record in item.records]
    return shown


# Header, records, trailer


async def test_a_capture_has_header_records_and_trailer(hub: Hub, captures: Captures, folder: Path) -> None:
    """The file begins with its header as comments, has each record's line, and says why it ended."""
    capture = await captures.start(CaptureRequest("ada"), HEADER)
    say(hub, "one", "two")
    capture.stop("enough")
    await capture.closed

    assert capture.name == NAME
    assert (folder / NAME).read_text() == (
        f"; Callisto 1.0.0\n; by ada\n{LINE} one\n{LINE} two\n; ended: enough; 2 records\n"
    )


async def test_a_capture_may_be_json_lines(hub: Hub, captures: Captures, folder: Path) -> None:
    """Asked for, every line of the file is an object: header, records with their numbers, trailer."""
    say(hub, "before")
    capture = await captures.start(CaptureRequest("ada", as_json=True, before_s=60, size_bytes=2000), HEADER)
    hub.publish(40, "two", {"code": 500}, "coc-proxy")
    file = await stopped(capture, folder)

    assert file.name == "20261123-101500-ada.jsonl"
    lines = [orjson.loads(line) for line in file.read_bytes().splitlines()]
    assert [line.get("comment") for line in lines] == [*HEADER, None, None, "ended: stopped; 2 records"]
    assert [line["sequence"] for line in lines[2:4]] == [1, 2]
    assert lines[3]["fields"] == {"code": "500"}
    assert lines[3]["level"] == "error"


async def test_the_summary_tells_the_truth(hub: Hub, captures: Captures, folder: Path) -> None:
    """The summary has the file's name, its records and its size on disk."""
    capture = await captures.start(CaptureRequest("ada"), HEADER)
    say(hub, *(f"record {number}" for number in range(150)))
    capture.stop()
    summary = await capture.closed

    size = (folder / NAME).stat().st_size
    assert (summary.file, summary.records, summary.not_shown, summary.size_bytes) == (NAME, 150, 0, size)
    assert (summary.reason, summary.ending) == ("stopped", Ending.ASKED)
    assert str(summary) == f"trace saved to {NAME}, 150 records, 0 not shown, {size / 1024:.1f} KiB"
    assert (captures.started, captures.failed, captures.written, captures.running) == (1, 0, 150, [])


async def test_only_what_the_filter_takes_is_captured(hub: Hub, captures: Captures, folder: Path) -> None:
    """Records of other processes, below the level and without a match are left out and not counted."""
    wanted = Filter(frozenset({"web-server", "coc-proxy"}), 30, Pattern("taken"))
    capture = await captures.start(CaptureRequest("ada", wanted), HEADER)
    say(hub, "taken, but too low", level=20)
    say(hub, "taken", "left out", level=30)
    say(hub, "taken, but another's", process="callisto-telnetd", level=40)
    say(hub, "taken too", process="coc-proxy", level=40)
    file = await stopped(capture, folder)

    assert said(file) == ["taken", "taken too"]
    assert capture.taken == capture.written == 2


async def test_captures_do_not_disturb_one_another(hub: Hub, captures: Captures, folder: Path) -> None:
    """Captures at once have their own filters, files and ends."""
    requests = [
        CaptureRequest("all"),
        CaptureRequest("one", records=1),
        CaptureRequest("high", Filter(level=30)),
        CaptureRequest("web", Filter(frozenset({"web-server"}))),
    ]
    started = [await captures.start(request, HEADER) for request in requests]
    say(hub, "a", "b")
    say(hub, "c", process="coc-proxy", level=40)
    hub.hand_on()
    assert [capture.running for capture in captures.running] == [True, False, True, True]
    files = [await stopped(capture, folder) for capture in started]

    assert [said(file) for file in files] == [["a", "b", "c"], ["a"], ["c"], ["a", "b"]]
    assert hub.outputs == 0
    assert captures.written == 3 + 1 + 1 + 2


async def test_text_from_outside_makes_no_line_of_its_own(hub: Hub, captures: Captures, folder: Path) -> None:
    """What a process says, and what a header holds, cannot forge a line of the file."""
    header = ["note: x\n2026-11-23T10:15:00 forged", "\x1b[2J"]
    capture = await captures.start(CaptureRequest("ada"), header)
    say(hub, "a\nb\u2028c\x85d\udcff")
    file = await stopped(capture, folder)

    assert said(file) == ["a\\x0ab\\u2028c\\x85d\\udcff"]
    assert file.read_text().splitlines()[:2] == ["; note: x\\x0a2026-11-23T10:15:00 forged", "; \\x1b[2J"]


async def test_what_was_said_until_the_stop_belongs_to_the_capture(hub: Hub, captures: Captures, folder: Path) -> None:
    """A record that was made just before the stop is in the file, one just after it is not."""
    capture = await captures.start(CaptureRequest("ada"), HEADER)
    say(hub, "before")
    capture.stop()
    say(hub, "behind")
    await capture.closed

    assert said(folder / NAME) == ["before"]


# Bounds


@pytest.mark.parametrize("turns_between", [0, 1])
async def test_the_number_of_records_is_exact(
    hub: Hub, captures: Captures, folder: Path, moment: FakeMoment, turns_between: int
) -> None:
    """A capture of three records has three, however many come and in how many blocks."""
    capture = await captures.start(CaptureRequest("ada", records=3), HEADER)
    for text in "abcde":
        say(hub, text)
        if turns_between:
            await moment.go_on(1)
    hub.hand_on()

    assert not capture.running
    summary = await capture.closed
    assert said(folder / NAME) == ["a", "b", "c"]
    assert (folder / NAME).read_text().endswith("; ended: it has its number of records; 3 records\n")
    assert (summary.records, summary.ending) == (3, Ending.BOUND)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=5), min_size=1, max_size=8),
    st.integers(1, 3000),
    st.booleans(),
)
async def test_the_size_is_exact(tmp_path: Path, blocks: list[list[int]], size: int, as_json: bool) -> None:
    """Header and records together never pass the bound, and the first record left out would have passed it."""
    folder = tmp_path / "hypothesis"
    folder.mkdir(exist_ok=True)
    hub = Hub(Clock(read=lambda: 1795425300.123456))
    captures = Captures(hub, folder, free_bytes=0, budget_bytes=1 << 30)
    capture = await captures.start(CaptureRequest("ada", size_bytes=size, as_json=as_json), HEADER)
    sizes = [each for block in blocks for each in block]
    for block in blocks:
        say(hub, *("x" * each for each in block))
        hub.hand_on()
    ended = not capture.running
    capture.stop()
    await capture.closed
    await captures.close()

    file = folder / f"{capture.stem}{'.jsonl' if as_json else '.log'}"
    lines = file.read_bytes().splitlines(keepends=True)
    header, trailer = sum(map(len, lines[:2])), lines[-1]
    assert file.stat().st_size - len(trailer) <= max(size, header)
    assert capture.taken == len(lines) - 3
    assert (capture.reason == "it has its size") == ended
    if ended:
        place = capture.taken
        one = len(block_line(hub, sizes[place], place + 1, as_json))
        assert file.stat().st_size - len(trailer) + one > size
    file.unlink()


def block_line(hub: Hub, size: int, number: int, as_json: bool) -> bytes:
    """Return the line that a record of a text of so many bytes has in a file."""
    [record] = [each for each in hub.held() if each.sequence == number] or hub.held()[:1]
    block = Block.of([record._replace(text="x" * size, sequence=number)], hub.formatter)
    return block.json[0] + b"\n" if as_json else block.data


async def test_a_capture_ends_when_its_time_is_over(
    hub: Hub, captures: Captures, folder: Path, moment: FakeMoment
) -> None:
    """It takes what is said until the very end of its time, and lets its viewers go."""
    viewer = Viewer(hub)
    capture = await captures.start(CaptureRequest("ada", duration_s=30), HEADER, viewer)
    assert capture.ends_at == moment.now + 30
    shown = asyncio.ensure_future(shown_to(viewer))
    await moment.go_on(29.99)
    assert capture.running
    say(hub, "late")
    await moment.go_on(0.005)
    say(hub, "not handed on yet")
    assert hub.pending_count == 1
    await moment.go_on(0.005)

    assert not capture.running
    summary = await capture.closed
    assert (summary.reason, summary.ending) == ("its time is over", Ending.BOUND)
    assert said(folder / NAME) == await shown == ["late", "not handed on yet"]
    assert (folder / NAME).read_text().endswith("; ended: its time is over; 2 records\n")


async def test_a_stop_before_its_time_forgets_the_time(hub: Hub, captures: Captures, moment: FakeMoment) -> None:
    """What was stopped by hand does not end a second time."""
    capture = await captures.start(CaptureRequest("ada", duration_s=30), HEADER)
    capture.stop()
    summary = await capture.closed
    await moment.go_on(31)

    assert summary.reason == capture.reason == "stopped"


# The past, and triggers


async def test_a_capture_begins_in_the_past(
    hub: Hub, captures: Captures, folder: Path, moment: FakeMoment, time_now: FakeTime
) -> None:
    """With ``before`` the held records since then come first, filtered, in order, once, whatever the clock did."""
    for now, jump, text in ((100, 0, "old"), (105, 90_000, "edge"), (110, -99_000, "new"), (110, 0, "debug")):
        moment.now = now
        time_now.now += jump
        say(hub, text, level=10 if text == "debug" else 20)
    moment.now = 115

    capture = await captures.start(CaptureRequest("ada", Filter(level=20), before_s=10), HEADER)
    say(hub, "live")
    file = await stopped(capture, folder)

    assert said(file) == ["edge", "new", "live"]


async def test_what_is_pending_when_a_capture_begins_in_the_past_comes_once(
    hub: Hub, captures: Captures, folder: Path
) -> None:
    """Records that were not handed on to others yet are part of the past, and do not come again."""
    first = await captures.start(CaptureRequest("ada"), HEADER)
    say(hub, "one", "two")
    second = await captures.start(CaptureRequest("bob", before_s=60), HEADER)
    say(hub, "three")
    files = [await stopped(capture, folder) for capture in (first, second)]

    assert [said(file) for file in files] == [["one", "two", "three"]] * 2


async def test_the_past_counts_for_the_bounds(hub: Hub, captures: Captures, folder: Path) -> None:
    """Where the past fills the capture it ends at once, takes nothing more, and its viewer is shown what is on file."""
    say(hub, *map(str, range(600)))
    viewer = Viewer(hub)
    capture = await captures.start(CaptureRequest("ada", before_s=60, records=300), HEADER, viewer)
    assert not capture.running
    assert hub.outputs == 0
    await capture.closed

    assert said(folder / NAME) == [str(number) for number in range(300)] == await shown_to(viewer)
    sized = await captures.start(CaptureRequest("bob", before_s=60, size_bytes=1024), HEADER)
    assert not sized.running
    summary = await sized.closed
    assert summary.reason == "it has its size"
    assert 10 < summary.records < 20


async def test_a_trigger_brings_what_is_held_from_before(hub: Hub, captures: Captures, folder: Path) -> None:
    """Until it fires nothing is taken; then come the held records, the one that fires it, and all that follow, once."""
    told: list[str] = []
    say(hub, "before the start")
    viewer = Viewer(hub)
    request = CaptureRequest("ada", trigger=Pattern("lost"))
    capture = await captures.start(request, HEADER, viewer)
    capture.on_trigger = lambda: told.append("fired")
    say(hub, "one")
    hub.hand_on()
    assert (capture.waiting, capture.taken, told) == (True, 0, [])
    say(hub, "two", "call lost", "three")
    hub.hand_on()
    assert (capture.waiting, capture.taken, told) == (False, 5, ["fired"])
    say(hub, "lost again")
    file = await stopped(capture, folder)

    assert (
        said(file) == ["before the start", "one", "two", "call lost", "three", "lost again"] == await shown_to(viewer)
    )
    assert told == ["fired"]


@pytest.mark.parametrize(("processes", "fires"), [(frozenset(), False), (frozenset({OWN_PROCESS}), True)])
async def test_what_administrators_type_fires_no_trigger(
    hub: Hub, captures: Captures, processes: frozenset[str], fires: bool
) -> None:
    """The server's own records fire a trigger only where the filter names the server."""
    request = CaptureRequest("ada", Filter(processes=processes), trigger=Pattern("refused"))
    capture = await captures.start(request, HEADER)
    hub.publish(10, "command", {"line": "trace start on=refused"})
    hub.hand_on()

    assert capture.waiting is not fires


async def test_records_are_counted_from_the_trigger_on(hub: Hub, captures: Captures, folder: Path) -> None:
    """However much is held from before, the record that fires and those behind it are in the file."""
    request = CaptureRequest("ada", trigger=Pattern("lost"), records=2)
    say(hub, "one", "two", "three")
    capture = await captures.start(request, HEADER)
    say(hub, "call lost", "four", "five")
    hub.hand_on()
    summary = await capture.closed

    assert said(folder / summary.file) == ["one", "two", "three", "call lost", "four"]
    assert (summary.records, summary.reason) == (5, "it has its number of records")


async def test_the_budget_leaves_what_it_has_ended(hub: Hub, folder: Path) -> None:
    """A capture that had to end for the budget is not the next that goes."""
    captures = Captures(hub, folder, free_bytes=0, budget_bytes=1 << 20)
    try:
        request = CaptureRequest("ada", size_bytes=1 << 20)
        first, second = [await captures.start(request, HEADER) for _ in range(2)]
        for _ in range(90):
            say(hub, "x" * 8000)
        hub.hand_on()
        ended = await asyncio.wait_for(
            asyncio.wait([first.closed, second.closed], return_when=asyncio.FIRST_COMPLETED), 15
        )
        summary = ended[0].pop().result()
        await captures._keep_budget()

        assert "budget" in summary.reason
        assert (folder / summary.file).exists()
    finally:
        await captures.close()


async def test_a_trigger_sees_what_the_filter_takes_alone(hub: Hub, captures: Captures, folder: Path) -> None:
    """No record that is left out fires it or is in the file; fields count as they are shown."""
    request = CaptureRequest("ada", Filter(level=30), trigger=Pattern("code=5"))
    capture = await captures.start(request, HEADER)
    hub.publish(20, "low", {"code": 500}, "web")
    hub.publish(30, "high", {"code": 404}, "web")
    hub.hand_on()
    assert capture.waiting
    hub.publish(40, "failed", {"code": 503}, "web")
    file = await stopped(capture, folder)

    assert said(file) == ["high code=404", "failed code=503"]


async def test_before_bounds_the_past_of_a_trigger(
    hub: Hub, captures: Captures, folder: Path, moment: FakeMoment
) -> None:
    """With ``before`` the past reaches so far back from the record that fires, not from the start."""
    capture = await captures.start(CaptureRequest("ada", trigger=Pattern("lost"), before_s=10), HEADER)
    for text in ("old", "edge", "new"):
        say(hub, text)
        await moment.go_on(5)
    say(hub, "lost")
    file = await stopped(capture, folder)

    assert said(file) == ["edge", "new", "lost"]


async def test_the_time_of_a_capture_with_a_trigger_begins_when_it_fires(
    hub: Hub, captures: Captures, folder: Path, moment: FakeMoment
) -> None:
    """However long it waits, it has all of its time from then on."""
    capture = await captures.start(CaptureRequest("ada", trigger=Pattern("lost"), duration_s=30), HEADER)
    await moment.go_on(1000)
    assert capture.running
    assert capture.ends_at is None
    say(hub, "lost")
    await moment.go_on(0.05)
    await moment.go_on(29)
    assert capture.running
    await moment.go_on(2)

    assert not capture.running
    assert (await capture.closed).reason == "its time is over"
    assert said(folder / NAME) == ["lost"]


async def test_a_trigger_that_never_fires_leaves_an_empty_capture(hub: Hub, captures: Captures, folder: Path) -> None:
    """Stopped before it fired, a capture has its header and trailer alone."""
    capture = await captures.start(CaptureRequest("ada", trigger=Pattern("lost")), HEADER)
    say(hub, "one")
    file = await stopped(capture, folder)

    assert file.read_text() == "; Callisto 1.0.0\n; by ada\n; ended: stopped; 0 records\n"


async def test_the_last_record_may_fire_the_trigger(hub: Hub, captures: Captures, folder: Path) -> None:
    """What was said just before the stop still fires it."""
    capture = await captures.start(CaptureRequest("ada", trigger=Pattern("lost")), HEADER)
    say(hub, "one", "lost")
    file = await stopped(capture, folder)

    assert said(file) == ["one", "lost"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(0, 30), st.integers(0, 8))
async def test_wherever_it_fires_nothing_is_lost_or_doubled(
    tmp_path: Path, sizes: list[int], fires: int, starts: int
) -> None:
    """In whatever blocks records come and whichever of them fires, the file has all from the first one on, once."""
    folder = tmp_path / "hypothesis"
    folder.mkdir(exist_ok=True)
    hub = Hub(Clock(read=lambda: 1795425300.0))
    captures = Captures(hub, folder, free_bytes=0, budget_bytes=1 << 30)
    number, capture = 0, None
    for place, size in enumerate(sizes):
        if place == starts:
            capture = await captures.start(CaptureRequest("ada", trigger=Pattern("^fires$")), HEADER)
        for _ in range(size):
            say(hub, "fires" if number == fires else str(number))
            number += 1
        hub.hand_on()
    if capture is not None:
        file = await stopped(capture, folder)
        fired = sum(sizes[:starts]) <= fires < number
        texts = ["fires" if each == fires else str(each) for each in range(number)]
        assert said(file) == (texts if fired else [])
        file.unlink()
    await captures.close()


# Viewers


async def test_a_viewer_gets_the_bytes_of_the_file(hub: Hub, captures: Captures, folder: Path) -> None:
    """Two viewers of one capture get the very same blocks, and their bytes one behind the other are the file's."""
    viewers = [Viewer(hub), Viewer(hub)]
    capture = await captures.start(CaptureRequest("ada", Filter(level=20)), HEADER, viewers[0])
    capture.show_to(viewers[1])
    for text in ("one", "two", "three"):
        say(hub, text, text, level=20)
        say(hub, "low", level=10)
        hub.hand_on()
    file = await stopped(capture, folder)

    blocks = [[item async for item in viewer.follow()] for viewer in viewers]
    assert all(first is second for first, second in zip(*blocks, strict=True))
    data = b"".join(item.data for item in blocks[0] if isinstance(item, Block))
    assert file.read_bytes() == b"; Callisto 1.0.0\n; by ada\n" + data + b"; ended: stopped; 6 records\n"


async def test_viewers_come_and_go_and_the_capture_goes_on(hub: Hub, captures: Captures, folder: Path) -> None:
    """Each is shown what comes while it looks; the file has all."""
    first, second = Viewer(hub), Viewer(hub)
    capture = await captures.start(CaptureRequest("ada"), HEADER, first)
    say(hub, "one")
    capture.show_to(second)
    assert capture.viewers == 2
    say(hub, "two")
    hub.hand_on()
    capture.hide_from(first)
    capture.hide_from(first)
    say(hub, "three")
    hub.hand_on()
    assert capture.viewers == 1
    first.finish()
    file = await stopped(capture, folder)

    assert await shown_to(first) == ["one", "two"]
    assert await shown_to(second) == ["two", "three"]
    assert said(file) == ["one", "two", "three"]


async def test_a_viewer_may_begin_in_the_past(hub: Hub, captures: Captures, folder: Path) -> None:
    """Who comes later is shown what is held and the capture's filter takes, and nothing twice."""
    say(hub, "one", "low", level=30)
    capture = await captures.start(CaptureRequest("ada", Filter(level=30)), HEADER)
    say(hub, "too low", level=20)
    say(hub, "two", level=30)
    viewer = Viewer(hub)
    capture.show_to(viewer, 60)
    say(hub, "three", level=30)
    file = await stopped(capture, folder)

    assert await shown_to(viewer) == ["one", "low", "two", "three"]
    assert said(file) == ["two", "three"]


async def test_a_slow_viewer_is_told_what_he_was_not_shown(hub: Hub, captures: Captures, folder: Path) -> None:
    """The file is complete; a viewer who did not look is shown a count, then the last that fit; both make all."""
    viewer = Viewer(hub)
    capture = await captures.start(CaptureRequest("ada"), HEADER, viewer)
    say(hub, *(f"{number} ".ljust(500, "x") for number in range(3500)))
    file = await stopped(capture, folder)

    missed, *shown = await shown_to(viewer)
    assert isinstance(missed, int)
    assert missed > 1000
    assert [str(text).split()[0] for text in shown] == [str(number) for number in range(missed, 3500)]
    assert [text.split()[0] for text in said(file)] == [str(number) for number in range(3500)]
    capture.hide_from(viewer)
    assert (capture.not_shown, hub.not_shown) == (missed, missed)


async def test_a_bound_is_shown_to_the_record(hub: Hub, captures: Captures, folder: Path) -> None:
    """A viewer is shown just what is on file, also where a block is cut at a bound."""
    viewer = Viewer(hub)
    await captures.start(CaptureRequest("ada", records=3), HEADER, viewer)
    say(hub, *"abcdef")
    hub.hand_on()

    assert await shown_to(viewer) == ["a", "b", "c"]


# Stopping


async def test_a_stopped_capture_stays_stopped(hub: Hub, captures: Captures, folder: Path) -> None:
    """Stopping again changes neither the reason nor the file, and later records are not taken."""
    capture = await captures.start(CaptureRequest("ada"), HEADER)
    capture.stop("first")
    capture.stop("second", Ending.FAILED)
    summary = await capture.closed
    before = (folder / NAME).read_text()
    capture.stop("third")
    say(hub, "late")
    hub.hand_on()
    await captures.writer.flush()

    assert (capture.reason, capture.ending, summary.reason) == ("first", Ending.ASKED, "first")
    assert (folder / NAME).read_text() == before
    with pytest.raises(TraceError, match=f"^no running trace named '{NAME}'; see 'trace status'$"):
        captures.capture(NAME)


async def test_a_stopped_capture_leaves_nothing_open(hub: Hub, captures: Captures, folder: Path) -> None:
    """Fifty captures later there are no open files, outputs and timers."""
    for _ in range(50):
        capture = await captures.start(CaptureRequest("ada", duration_s=60), HEADER)
        say(hub, "one")
        await stopped(capture, folder)

    assert open_files(folder) == []
    assert (hub.outputs, captures.running) == (0, [])


async def test_closing_stops_all(hub: Hub, captures: Captures, folder: Path) -> None:
    """At the server's end every capture that runs gets its trailer, also one that waits for its trigger."""
    for who in ("ada", "bob"):
        await captures.start(CaptureRequest(who), HEADER)
    await captures.start(CaptureRequest("eve", trigger=Pattern("never")), HEADER)
    say(hub, "one")
    await captures.close()

    ends = {file.name.split("-")[2]: (folder / file.name).read_text() for file in captures.folder.files()}
    assert [said(folder / f"20261123-101500-{who}.log") for who in ("ada", "bob", "eve")] == [["one"], ["one"], []]
    assert all("; ended: the server stops; " in text.splitlines()[-1] for text in ends.values())
    assert open_files(folder) == []


async def test_a_disk_that_stands_still_holds_the_end_up_only_shortly(
    hub: Hub, captures: Captures, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's end waits for a disk no longer than it has to."""
    monkeypatch.setattr(captures_module, "_CLOSE_S", 0.02)
    await captures.start(CaptureRequest("ada"), HEADER)
    gate = threading.Event()
    standing = asyncio.ensure_future(captures.writer.call(gate.wait))
    say(hub, "one")
    async with asyncio.timeout(5):
        await captures.close()
    gate.set()
    assert await standing


# Names


async def test_files_of_one_second_have_names_of_their_own(captures: Captures) -> None:
    """Captures of one user in one second are numbered; none is overwritten, also in another form."""
    requests = [CaptureRequest("ada"), CaptureRequest("ada"), CaptureRequest("ada", as_json=True)]
    names = [(await captures.start(request, HEADER)).name for request in requests]

    assert names == [NAME, "20261123-101500-ada-2.log", "20261123-101500-ada-3.jsonl"]
    assert sorted(names) == sorted(file.name for file in captures.folder.files())
    at_once = await asyncio.gather(*(captures.start(CaptureRequest("bob"), HEADER) for _ in range(5)))
    assert len({capture.name for capture in at_once}) == 5


@pytest.mark.parametrize("who", ["../../etc/passwd", "a b\n", "Ada Lovelace", "x" * 200, "\x1b", "ä", ".", "a+2"])
async def test_a_name_of_any_user_makes_a_file_that_is_found(captures: Captures, folder: Path, who: str) -> None:
    """Whatever the user is called, the file stands in the folder, is listed and can be shown and deleted."""
    file = await stopped(await captures.start(CaptureRequest(who), HEADER), folder)

    (found,) = captures.folder.files()
    assert file.parent == folder
    assert captures.folder.find(found.name) == file
    await captures.delete(found.name)
    assert captures.folder.files() == []


async def test_a_running_capture_is_known_by_any_of_its_files(hub: Hub, captures: Captures, folder: Path) -> None:
    """It has to be stopped before any of its parts can be deleted; then they go, and a second time nothing is found."""
    capture = await captures.start(CaptureRequest("ada", size_bytes=None, part_bytes=200, keep=3), HEADER)
    say(hub, *("x" * 150 for _ in range(4)))
    hub.hand_on()
    await captures.writer.flush()
    parts = [file.name for file in captures.folder.files()]
    assert parts == ["20261123-101500-ada+2.log", "20261123-101500-ada+3.log", "20261123-101500-ada+4.log"]
    for name in parts:
        assert captures.capture(name) is capture
        with pytest.raises(TraceError, match=r"is running; stop it first$"):
            await captures.delete(name)
    assert all(captures.runs(file) for file in captures.folder.files())
    capture.stop()
    await capture.closed
    assert not any(captures.runs(file) for file in captures.folder.files())
    for name in parts:
        await captures.delete(name)

    with pytest.raises(TraceError, match=r"^no trace file named "):
        await captures.delete(parts[0])


@pytest.mark.parametrize("name", ["", "all", "x" * 999, "../" + NAME, NAME + "\n", "20261123-101500-bob.log"])
async def test_no_other_name_is_a_running_capture(captures: Captures, name: str) -> None:
    """The answer to any other name is one clean line."""
    await captures.start(CaptureRequest("ada"), HEADER)
    with pytest.raises(TraceError, match=r"^no running trace named ") as refused:
        captures.capture(name)

    assert str(refused.value).isprintable()


# Rotation


async def test_a_rotating_capture_has_every_record_once(hub: Hub, captures: Captures, folder: Path) -> None:
    """The parts one behind the other are what was said; only the last is ended, all begin with the header."""
    capture = await captures.start(CaptureRequest("ada", size_bytes=None, part_bytes=5000, keep=1000), HEADER)
    for number in range(0, 2000, 40):
        say(hub, *(f"record {each}" for each in range(number, number + 40)))
        await turns(1)
    capture.stop()
    summary = await capture.closed

    files = captures.folder.files()
    assert len(files) > 20
    assert [text for file in files for text in said(folder / file.name)] == [f"record {each}" for each in range(2000)]
    states = [captures.folder.state_of(file.name) for file in files]
    assert states == ["continued"] * (len(files) - 1) + ["ended"]
    assert all((folder / file.name).read_text().startswith("; Callisto 1.0.0\n; by ada\n") for file in files)
    assert summary.size_bytes == sum(file.size_bytes for file in files)
    assert all(file.size_bytes <= 5000 + 60 for file in files)


# Refusals and faults


async def test_no_capture_begins_on_a_full_disk(hub: Hub, folder: Path) -> None:
    """The refusal says how much is free and how much is needed, and no file is made."""
    captures = Captures(hub, folder, free_bytes=1 << 62, budget_bytes=1 << 30)

    with pytest.raises(TraceError, match=r"^the disk is nearly full: .* free, a trace needs 4\.0 EiB$"):
        await captures.start(CaptureRequest("ada"), HEADER)
    assert captures.folder.files() == []
    await captures.close()


async def test_a_missing_folder_is_our_error(hub: Hub, tmp_path: Path) -> None:
    """Neither a start nor a listing in a folder that is not there raises anything else."""
    captures = Captures(hub, tmp_path / "none", free_bytes=0, budget_bytes=1 << 30)

    with pytest.raises(TraceError, match=r"^no trace file can be made in '.*none': No such file or directory$"):
        await captures.start(CaptureRequest("ada"), HEADER)
    with pytest.raises(TraceError, match="it is gone"):
        captures.folder.files()
    await captures.close()


async def test_a_header_that_cannot_be_written_refuses_the_capture(hub: Hub, captures: Captures, folder: Path) -> None:
    """Where the disk takes no header nothing begins, and nothing is left."""
    with file_size_limit(0), pytest.raises(TraceError, match=r"no trace file can be made in .*: File too large"):
        await captures.start(CaptureRequest("ada", before_s=60), HEADER)

    assert (captures.folder.files(), captures.running, hub.outputs, open_files(folder)) == ([], [], 0, [])


@pytest.mark.parametrize(
    "request_",
    [
        CaptureRequest("ada", size_bytes=1001),
        CaptureRequest("ada", size_bytes=None, part_bytes=501, keep=2),
    ],
)
async def test_what_the_budget_could_never_hold_is_refused(hub: Hub, folder: Path, request_: CaptureRequest) -> None:
    """A capture that may become larger than all files together may be does not begin."""
    captures = Captures(hub, folder, free_bytes=0, budget_bytes=1000)
    with pytest.raises(TraceError, match=r"^1001 B|1002 B is more than all trace files may have together, 1000 B$"):
        await captures.start(request_, HEADER)

    assert captures.folder.files() == []
    await captures.close()


async def test_only_so_many_captures_run(captures: Captures, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than may run is refused, and begins once another has ended."""
    monkeypatch.setattr(captures_module, "MOST_RUNNING", 2)
    first = await captures.start(CaptureRequest("ada"), HEADER)
    await captures.start(CaptureRequest("bob"), HEADER)
    with pytest.raises(TraceError, match=r"^2 traces run already; stop one first$"):
        await captures.start(CaptureRequest("eve"), HEADER)
    first.stop()
    await first.closed
    await turns()
    at_once = [captures.start(CaptureRequest("eve"), HEADER) for _ in range(3)]
    begun = await asyncio.gather(*at_once, return_exceptions=True)

    assert [isinstance(each, TraceError) for each in begun] == [False, True, True]
    assert len(captures.running) == 2


async def test_a_start_that_is_cancelled_leaves_no_file_open(hub: Hub, captures: Captures, folder: Path) -> None:
    """Whoever goes while his file is made leaves it closed, with a trailer, and no capture runs."""
    for waits in range(4):
        starting = asyncio.create_task(captures.start(CaptureRequest("ada"), HEADER))
        await turns(waits)
        starting.cancel()
        await asyncio.wait([starting])
        if not starting.cancelled():
            starting.result().stop()
        await captures.writer.call(lambda: None)
        await turns()
        await captures.writer.flush()

    assert open_files(folder) == []
    assert (captures.running, hub.outputs) == ([], 0)
    assert {captures.folder.state_of(file.name) for file in captures.folder.files()} == {"ended"}


async def test_a_full_disk_ends_a_capture_at_its_last_whole_line(hub: Hub, captures: Captures, folder: Path) -> None:
    """Where the file can grow no more the capture ends with its reason; what is on file is whole and counted."""
    viewer = Viewer(hub)
    capture = await captures.start(CaptureRequest("ada"), HEADER, viewer)
    with file_size_limit(40_000):
        while capture.running:
            say(hub, *("x" * 90 for _ in range(7)))
            hub.hand_on()
            await captures.writer.flush()
        summary = await capture.closed

    text = (folder / NAME).read_text()
    assert summary.reason == "its file cannot be written: File too large"
    assert summary.ending is Ending.FAILED
    assert set(text.splitlines()[2:-1]) == {f"{LINE} {'x' * 90}"}
    assert text.endswith("\n")
    assert 40_000 - 200 < len(text) <= 40_000
    assert summary.size_bytes == len(text)
    assert summary.records == len(said(folder / NAME))
    assert hub.outputs == 0
    assert (await shown_to(viewer))[-1] == "x" * 90


async def test_a_really_full_disk_is_told(hub: Hub, small_disk: Path) -> None:
    """On a disk without a free byte a running capture ends, and no new one begins; both say so."""
    captures = Captures(hub, small_disk, free_bytes=0, budget_bytes=1 << 30)
    capture = await captures.start(CaptureRequest("ada"), HEADER)
    filler = fill(small_disk)
    while capture.running:
        say(hub, *("x" * 90 for _ in range(20)))
        hub.hand_on()
        await captures.writer.flush()
    summary = await capture.closed

    assert summary.reason == "the disk is full"
    assert summary.records == len(said(small_disk / NAME))
    with pytest.raises(TraceError, match="No space left on device"):
        await captures.start(CaptureRequest("ada"), HEADER)
    filler.unlink()
    assert (await captures.start(CaptureRequest("ada"), HEADER)).running
    await captures.close()


async def test_a_last_write_that_fails_is_no_success(hub: Hub, small_disk: Path) -> None:
    """Where the disk takes nothing of what came just before the end, the capture has failed, and says why."""
    captures = Captures(hub, small_disk, free_bytes=0, budget_bytes=1 << 30)
    capture = await captures.start(CaptureRequest("ada", records=200), HEADER)
    fill(small_disk)
    say(hub, *("x" * 90 for _ in range(200)))
    hub.hand_on()
    summary = await capture.closed

    assert (summary.reason, summary.ending) == ("the disk is full", Ending.FAILED)
    assert summary.records < 200
    assert captures.failed == 1
    await captures.close()


async def test_a_capture_that_waits_looks_at_its_disk_too(hub: Hub, captures: Captures, folder: Path) -> None:
    """One that takes nothing notices that its file was removed."""
    capture = await captures.start(CaptureRequest("ada", trigger=Pattern("never")), HEADER)
    (folder / capture.name).unlink()
    capture.look_at_disk()
    summary = await asyncio.wait_for(capture.closed, 15)

    assert (summary.reason, summary.ending) == ("its file was removed", Ending.FAILED)


async def test_a_capture_ends_before_the_disk_is_full(hub: Hub, small_disk: Path) -> None:
    """Below the floor of free disk a running capture ends whole, with its trailer, and says why."""
    captures = Captures(hub, small_disk, free_bytes=300_000, budget_bytes=1 << 30)
    capture = await captures.start(CaptureRequest("ada"), HEADER)
    (small_disk / "other").write_bytes(b"x" * 600_000)
    while capture.running:
        say(hub, *("x" * 900 for _ in range(50)))
        hub.hand_on()
        await captures.writer.flush()
    summary = await capture.closed

    await turns()
    assert captures.failed == 1
    assert (summary.reason, summary.ending) == ("the disk is nearly full", Ending.DISK)
    assert (small_disk / NAME).read_text().endswith(f"; ended: the disk is nearly full; {summary.records} records\n")
    with pytest.raises(TraceError, match=r"^the disk is nearly full: .* free, a trace needs 293\.0 KiB$"):
        await captures.start(CaptureRequest("ada"), HEADER)
    await captures.close()


async def test_a_file_that_somebody_removes_ends_its_capture(hub: Hub, captures: Captures, folder: Path) -> None:
    """The next records end it with the reason; other captures go on."""
    first = await captures.start(CaptureRequest("ada"), HEADER)
    second = await captures.start(CaptureRequest("bob"), HEADER)
    (folder / first.name).unlink()
    say(hub, "one")
    hub.hand_on()

    summary = await first.closed
    assert (summary.reason, summary.ending) == ("its file was removed", Ending.FAILED)
    assert second.running


async def test_a_disk_that_does_not_keep_up_ends_the_capture(
    hub: Hub, captures: Captures, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where more waits than may, the capture ends instead of the server; what was taken is on file."""
    monkeypatch.setattr("callisto_telnetd.trace.writer._MOST_BYTES", 50_000)
    capture = await captures.start(CaptureRequest("ada"), HEADER)
    gate = threading.Event()
    standing = asyncio.ensure_future(captures.writer.call(gate.wait))
    say(hub, *("x" * 900 for _ in range(100)))
    hub.hand_on()
    gate.set()
    await standing
    summary = await capture.closed

    assert (summary.reason, summary.ending) == ("its disk does not keep up", Ending.FAILED)
    assert summary.records == capture.taken == len(said(folder / NAME))


async def test_inputs_are_held_back_while_the_files_cannot_keep_up(
    hub: Hub, captures: Captures, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is full while much waits for the disk, and goes on when it is written; nothing is lost."""
    monkeypatch.setattr("callisto_telnetd.trace.writer._FULL_BYTES", 20_000)
    capture = await captures.start(CaptureRequest("ada"), HEADER)
    gate = threading.Event()
    standing = asyncio.ensure_future(captures.writer.call(gate.wait))
    say(hub, *("x" * 900 for _ in range(40)))
    hub.hand_on()
    assert hub.full
    gate.set()
    await standing
    await captures.writer.flush()

    assert (hub.full, hub.held_back) == (False, 1)
    assert len(said(await stopped(capture, folder))) == 40


# The budget


async def look_at_budget(captures: Captures, moment: FakeMoment) -> None:
    """Let a second pass, and the budget be looked at."""
    await turns(10)  # it may be looked at now
    await captures.writer.call(lambda: None)
    await moment.go_on(1)
    await turns(10)
    await captures.writer.call(lambda: None)
    await turns(10)


async def test_the_oldest_files_go_for_what_is_new(hub: Hub, folder: Path, moment: FakeMoment) -> None:
    """While a capture runs, finished ones go until all are within the budget, and who asked for it is told."""
    captures = Captures(hub, folder, free_bytes=0, budget_bytes=10_000)
    told: list[list[DeletedFile]] = []
    captures.on_deleted = told.append
    for number in range(4):
        (folder / f"2025010{number}-000000-old.log").write_bytes(b"; by bob from ::1 (telnet)\n" + b"x" * 2974)
    capture = await captures.start(CaptureRequest("ada", size_bytes=9000), HEADER)
    await look_at_budget(captures, moment)
    assert [file for files in told for file in files] == [DeletedFile("20250100-000000-old.log", "bob")]
    say(hub, "x" * 5000)
    hub.hand_on()
    await captures.writer.flush()
    await look_at_budget(captures, moment)

    assert [file.name for file in captures.folder.files()] == ["20250103-000000-old.log", NAME]
    assert captures.deleted == 3
    assert capture.running
    await captures.close()


async def test_the_oldest_files_go_where_there_are_too_many(hub: Hub, folder: Path, moment: FakeMoment) -> None:
    """The number of files has a bound of its own, kept and told as that of their bytes."""
    captures = Captures(hub, folder, free_bytes=0, budget_bytes=1 << 30, most_files=3)
    told: list[list[DeletedFile]] = []
    captures.on_deleted = told.append
    for number in range(5):
        (folder / f"2025010{number}-000000-old.log").write_bytes(b"; by bob from ::1 (telnet)\n")
        os.utime(folder / f"2025010{number}-000000-old.log", (number, number))
    capture = await captures.start(CaptureRequest("ada"), HEADER)
    await look_at_budget(captures, moment)

    assert [file for files in told for file in files] == [
        DeletedFile(f"2025010{number}-000000-old.log", "bob", for_number=True) for number in range(3)
    ]
    assert [file.name for file in captures.folder.files()][2:] == [NAME]
    assert (captures.deleted, capture.running) == (3, True)
    await captures.close()


async def test_the_running_capture_of_most_files_ends_where_nothing_else_is_left(
    hub: Hub, folder: Path, moment: FakeMoment
) -> None:
    """Where those that run have more files than there may be, the one with the most of them ends, and says why."""
    captures = Captures(hub, folder, free_bytes=0, budget_bytes=1 << 30, most_files=3)
    few = await captures.start(CaptureRequest("bob"), HEADER)
    many = await captures.start(CaptureRequest("ada", part_bytes=1000, keep=10), HEADER)
    for _ in range(4):
        say(hub, "x" * 800)
    hub.hand_on()
    await captures.writer.flush()
    await look_at_budget(captures, moment)

    summary = await many.closed
    assert summary.reason == "there are as many trace files as there may be, 3"
    assert few.running
    await captures.close()


async def test_a_file_as_large_as_the_budget_stays(hub: Hub, folder: Path, moment: FakeMoment) -> None:
    """A capture whose records fill the budget to the byte is not deleted for its last line."""
    captures = Captures(hub, folder, free_bytes=0, budget_bytes=10_000)
    capture = await captures.start(CaptureRequest("ada", size_bytes=10_000), HEADER)
    say(hub, "x" * 5000)
    hub.hand_on()
    say(hub, "x" * (10_000 - capture.size_bytes - (capture.size_bytes - 5000 - sum(len(line) + 3 for line in HEADER))))
    hub.hand_on()
    assert capture.size_bytes == 10_000
    await stopped(capture, folder)
    await look_at_budget(captures, moment)

    assert [file.size_bytes > 10_000 for file in captures.folder.files()] == [True]
    assert captures.deleted == 0
    await captures.close()


async def test_the_largest_running_capture_ends_where_nothing_else_is_left(
    hub: Hub, folder: Path, moment: FakeMoment
) -> None:
    """No file of a running capture is deleted: where they alone pass the budget, the largest is stopped whole."""
    captures = Captures(hub, folder, free_bytes=0, budget_bytes=10_000)
    small = await captures.start(CaptureRequest("ada", Filter(level=30), size_bytes=9000), HEADER)
    large = await captures.start(CaptureRequest("bob", size_bytes=9000), HEADER)
    say(hub, "x" * 3000, level=30)
    say(hub, "x" * 4500, level=20)
    hub.hand_on()
    await captures.writer.flush()
    await look_at_budget(captures, moment)
    summary = await large.closed

    assert summary.reason == "the budget of all trace files, 9.8 KiB, is used up"
    assert summary.ending is Ending.DISK
    assert summary.records == 2
    assert small.running
    await captures.close()


async def test_a_rotating_capture_counts_for_what_it_keeps(hub: Hub, folder: Path, moment: FakeMoment) -> None:
    """What has gone with its old parts does not make it the largest: the one that holds more ends."""
    captures = Captures(hub, folder, free_bytes=0, budget_bytes=20_000)
    request = CaptureRequest("ada", Filter(level=30), size_bytes=None, part_bytes=2000, keep=2)
    rotating = await captures.start(request, HEADER)
    for _ in range(100):
        say(hub, "x" * 900, level=30)
    hub.hand_on()
    large = await captures.start(CaptureRequest("bob", Filter(frozenset({"b"})), size_bytes=18_000), HEADER)
    say(hub, *("y" * 7500, "y" * 7500), process="b")
    hub.hand_on()
    await captures.writer.flush()
    (folder / "20261123-101500-eve.log").write_bytes(b"")
    captures.budget_bytes = 15_000
    await look_at_budget(captures, moment)
    stopped_ = [capture.request.who for capture in (rotating, large) if not capture.running]

    assert stopped_ == ["bob"]
    await captures.close()


async def test_what_the_last_capture_wrote_is_looked_at_too(hub: Hub, folder: Path, moment: FakeMoment) -> None:
    """When no capture runs any more the folder is within its budget."""
    captures = Captures(hub, folder, free_bytes=0, budget_bytes=10_000)
    (folder / "20250101-000000-old.log").write_bytes(b"x" * 5000)
    capture = await captures.start(CaptureRequest("ada", size_bytes=9000), HEADER)
    await look_at_budget(captures, moment)
    say(hub, "x" * 7000)
    await stopped(capture, folder)
    await look_at_budget(captures, moment)

    assert [file.name for file in captures.folder.files()] == [NAME]
    await captures.close()


async def test_a_capture_that_just_begins_is_never_deleted(hub: Hub, folder: Path, moment: FakeMoment) -> None:
    """The budget, looked at while a file is made, leaves that file alone."""
    captures = Captures(hub, folder, free_bytes=0, budget_bytes=5000)
    first = await captures.start(CaptureRequest("ada", size_bytes=4000), HEADER)
    gate = threading.Event()
    await look_at_budget(captures, moment)
    (folder / "20250101-000000-old.log").write_bytes(b"")
    say(hub, "x" * 3000)
    hub.hand_on()
    await captures.writer.flush()
    captures.budget_bytes = 1000
    standing = asyncio.ensure_future(captures.writer.call(gate.wait))
    await turns(1)
    starting = asyncio.create_task(captures.start(CaptureRequest("bob", size_bytes=500), HEADER))
    await turns(2)
    await moment.go_on(1)  # the budget is looked at behind the making of the file
    await turns(10)
    gate.set()
    second = await starting
    await standing
    await captures.writer.call(lambda: None)

    assert (folder / second.name).exists()
    assert not first.running or second.running
    await captures.close()


async def test_a_folder_that_is_gone_ends_all_captures(hub: Hub, folder: Path, moment: FakeMoment) -> None:
    """Who removes the folder ends what runs in it, with the reason, and nothing else."""
    captures = Captures(hub, folder, free_bytes=0, budget_bytes=1 << 30)
    capture = await captures.start(CaptureRequest("ada"), HEADER)
    await look_at_budget(captures, moment)
    (folder / NAME).unlink()
    folder.rmdir()
    await look_at_budget(captures, moment)
    summary = await capture.closed

    assert summary.reason.endswith(("cannot be read: it is gone", "its file was removed"))
    assert summary.ending is Ending.FAILED
    await captures.close()


def test_the_file_outlives_a_killed_server(folder: Path) -> None:
    """After SIGKILL the file of a running capture has every whole line that was written, and reads as interrupted."""
    script = f"""
import asyncio, os, signal
from pathlib import Path
from callisto_telnetd.clock import Clock
from callisto_telnetd.trace.capture import CaptureRequest
from callisto_telnetd.trace.captures import Captures
from callisto_telnetd.trace.hub import OWN_PROCESS, Hub

async def main():
    hub = Hub(Clock())
    captures = Captures(hub, Path({str(folder)!r}), free_bytes=0, budget_bytes=1 << 30)
    await captures.start(CaptureRequest("ada"), ["header"])
    for number in range(10):
        hub.publish(20, str(number), {{}})
        hub.hand_on()
    await captures.writer.flush()
    hub.publish(20, "not written")
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9

    (file,) = folder.iterdir()
    assert said(file) == [str(number) for number in range(10)]
    assert Captures(Hub(Clock()), folder, free_bytes=0, budget_bytes=1).folder.state_of(file.name) == "interrupted"
