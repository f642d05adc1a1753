from __future__ import annotations

import asyncio
import resource
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from callisto_telnetd.clock import Clock
from callisto_telnetd.errors import TraceError
from callisto_telnetd.trace.captures import Capture, CaptureRequest, Captures
from callisto_telnetd.trace.hub import Hub

HEADER = ["Callisto 1.0.0", "by ada"]
NAME = "20261123-101500-ada.log"
SMALL = 40_000


def say(hub: Hub, *texts: str, process: str = "web-server", level: int = 20) -> None:
    """Publish records of a process."""
    for text in texts:
        hub.publish(level, text, {}, process, 4711)


def said(file: Path) -> list[str]:
    """Return what the records of a file say; its comments are left out."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("; ")]
    return [line.partition("] ")[2].partition(" ")[2] for line in lines]


async def batches_of(capture: Capture) -> AsyncIterator[list[str]]:
    """Yield the lines that a viewer is shown, batch by batch; a number of records not shown is a line, too."""
    async for missed, batch in capture.follow():
        yield [*([f"-- {missed:,} records not shown --"] if missed else []), *(line for _, line in batch)]


async def follow(capture: Capture) -> list[str]:
    """Return the lines that a viewer is shown until the capture has stopped."""
    return [line async for batch in batches_of(capture) for line in batch]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``size`` bytes: a write fails in its middle, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_capture_has_header_records_and_trailer(hub: Hub, captures: Captures) -> None:
    """The file begins with its header as comments, has each record's line, and says why it ended."""
    capture = captures.start(CaptureRequest("ada"), HEADER)
    say(hub, "one", "two")
    capture.stop("enough")

    line = "2026-11-23T10:15:00.123456+01:00 web-server[4711] INFO"
    assert capture.file.read_text() == (
        f"; Callisto 1.0.0\n; by ada\n{line} one\n{line} two\n; ended: enough; 2 records\n"
    )


async def test_the_summary_tells_the_truth(hub: Hub, captures: Captures) -> None:
    """The summary has the file's name, its records and its size on disk."""
    capture = captures.start(CaptureRequest("ada"), HEADER)
    say(hub, *(f"record {number}" for number in range(150)))
    capture.stop()

    size = capture.file.stat().st_size
    summary = capture.summary()
    assert (summary.file, summary.records, summary.not_shown, summary.size_bytes) == (NAME, 150, 0, size)
    assert str(summary) == f"trace saved to {NAME}, 150 records, 0 not shown, {size / 1024:.1f} KiB"


async def test_a_capture_is_for_its_owner_alone(captures: Captures) -> None:
    """Nobody else on the machine may read it."""
    capture = captures.start(CaptureRequest("ada"), HEADER)

    assert stat.S_IMODE(capture.file.stat().st_mode) == 0o600


async def test_only_what_the_filter_takes_is_captured(hub: Hub, captures: Captures) -> None:
    """Records of other processes, and those below the level, are left out and not counted."""
    request = CaptureRequest("ada", processes=frozenset({"web-server", "coc-proxy"}), level=30)
    capture = captures.start(request, HEADER)
    say(hub, "too low", level=20)
    say(hub, "taken", level=30)
    say(hub, "another's", process="callisto-telnetd", level=40)
    say(hub, "taken too", process="coc-proxy", level=40)
    capture.stop()

    assert said(capture.file) == ["taken", "taken too"]
    assert capture.records == 2


async def test_the_number_of_records_is_exact(hub: Hub, captures: Captures) -> None:
    """A capture of three records has three, however many come."""
    capture = captures.start(CaptureRequest("ada", records=3), HEADER)
    say(hub, *"abcde")

    assert not capture.running
    assert said(capture.file) == ["a", "b", "c"]
    assert "; ended: it has its number of records; 3 records\n" in capture.file.read_text()
    assert await follow(capture) == [line for line in capture.file.read_text().splitlines() if line[0] != ";"]


async def test_a_capture_ends_at_its_size(hub: Hub, captures: Captures) -> None:
    """A line that would pass the bound is left out: but for its trailer the file is never longer."""
    capture = captures.start(CaptureRequest("ada", size_bytes=2000), HEADER)
    while capture.running:
        say(hub, "x" * 100)
        await asyncio.sleep(0)

    trailer = capture.file.read_bytes().splitlines(keepends=True)[-1]
    assert trailer.startswith(b"; ended: it has its size")
    assert 2000 - 200 < capture.file.stat().st_size - len(trailer) <= 2000
    assert capture.reason == "it has its size"
    assert len(said(capture.file)) == capture.records


async def test_a_capture_ends_when_its_time_is_over(captures: Captures) -> None:
    """A viewer of a timed capture is let go without a record."""
    capture = captures.start(CaptureRequest("ada", duration_s=0.001), HEADER)

    assert await asyncio.wait_for(follow(capture), 10) == []
    assert capture.reason == "its time is over"
    assert capture.file.read_text().endswith("; ended: its time is over; 0 records\n")


async def test_a_capture_begins_in_the_past(folder: Path) -> None:
    """With ``before`` the held records since then come first, filtered and in order, none twice."""
    times = [100.0]
    hub = Hub(Clock(read=lambda: times[0]))
    captures = Captures(hub, folder, free_bytes=0)
    for moment, text in ((100.0, "old"), (105.0, "edge"), (110.0, "new"), (110.0, "debug")):
        times[0] = moment
        say(hub, text, level=10 if text == "debug" else 20)
    times[0] = 115.0

    capture = captures.start(CaptureRequest("ada", before_s=10, level=20), HEADER)
    say(hub, "live")
    capture.stop()

    assert said(capture.file) == ["edge", "new", "live"]


async def test_the_past_counts_for_the_number_of_records(hub: Hub, captures: Captures) -> None:
    """Where the past fills the capture it ends at once, and listens to nothing."""
    say(hub, *"abc")
    capture = captures.start(CaptureRequest("ada", before_s=60, records=2), HEADER)

    assert not capture.running
    assert said(capture.file) == ["a", "b"]
    assert hub.listeners == 0


async def test_a_viewer_is_shown_what_comes_as_it_comes(hub: Hub, captures: Captures) -> None:
    """What is said between two readings comes in one batch, in order, and the end of the capture ends the view."""
    capture = captures.start(CaptureRequest("ada"), HEADER)
    batches = batches_of(capture)
    say(hub, "one", "two")
    first = await anext(batches)
    waiting = asyncio.ensure_future(anext(batches))
    await asyncio.sleep(0)
    say(hub, "three")
    second = await waiting
    capture.stop()

    assert [[line.rpartition(" ")[2] for line in batch] for batch in (first, second)] == [["one", "two"], ["three"]]
    with pytest.raises(StopAsyncIteration):
        await anext(batches)


async def test_a_slow_viewer_is_told_what_he_was_not_shown(hub: Hub, captures: Captures) -> None:
    """The file is complete; of 3500 records a viewer who did not look sees a count, then the last that fit 32 KiB."""
    capture = captures.start(CaptureRequest("ada"), HEADER)
    say(hub, *(str(number) for number in range(3500)))
    capture.stop()

    shown = await follow(capture)
    not_shown = 3500 - len(shown[1:])
    assert 100 < len(shown[1:]) <= (32 << 10) // 128
    assert shown[0] == f"-- {not_shown:,} records not shown --"
    assert [line.rpartition(" ")[2] for line in shown[1:]] == [str(number) for number in range(not_shown, 3500)]
    assert capture.summary().not_shown == not_shown
    assert said(capture.file) == [str(number) for number in range(3500)]


async def test_every_record_is_shown_or_counted(hub: Hub, captures: Captures) -> None:
    """A viewer who looks now and then sees each record once, or counted in the line where it would have been."""
    capture = captures.start(CaptureRequest("ada"), HEADER)
    batches = batches_of(capture)
    seen = counted = 0
    bursts = (10, 1500, 100, 1001, 1)
    for burst in bursts:
        say(hub, *(str(number) for number in range(burst)))
        for line in await anext(batches):
            if line.startswith("-- "):
                counted += int(line.split()[1].replace(",", ""))
            else:
                seen += 1
    capture.stop()

    assert seen + counted == sum(bursts)
    assert counted > 1000
    assert capture.summary().not_shown == counted
    assert len(said(capture.file)) == seen + counted


async def test_captures_do_not_disturb_one_another(hub: Hub, captures: Captures) -> None:
    """Two captures at once have their own files and ends."""
    first = captures.start(CaptureRequest("ada", records=1), HEADER)
    second = captures.start(CaptureRequest("bob"), HEADER)
    say(hub, "one", "two")
    second.stop()

    assert (said(first.file), said(second.file)) == (["one"], ["one", "two"])
    assert hub.listeners == 0


async def test_a_stopped_capture_stays_stopped(hub: Hub, captures: Captures) -> None:
    """Stopping again changes neither the reason nor the file, and later records are not taken."""
    capture = captures.start(CaptureRequest("ada"), HEADER)
    capture.stop("first")
    before = capture.file.read_text()
    capture.stop("second")
    say(hub, "late")
    await asyncio.sleep(0)

    assert capture.reason == "first"
    assert capture.file.read_text() == before


async def test_a_stopped_capture_leaves_nothing_open(hub: Hub, captures: Captures) -> None:
    """Fifty captures later there are as many open files and listeners as before."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        capture = captures.start(CaptureRequest("ada", duration_s=60), HEADER)
        say(hub, "one")
        capture.stop()

    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert hub.listeners == 0


async def test_records_are_in_the_file_after_a_turn_of_the_loop(hub: Hub, captures: Captures) -> None:
    """Who looks into the file of a running capture finds what was said."""
    capture = captures.start(CaptureRequest("ada"), HEADER)
    say(hub, "one")
    await asyncio.sleep(0)

    assert said(capture.file) == ["one"]


async def test_a_full_disk_ends_a_capture_at_its_last_whole_line(hub: Hub, captures: Captures) -> None:
    """Where the file can grow no more the capture ends with its reason; what stands in the file is whole."""
    capture = captures.start(CaptureRequest("ada"), HEADER)
    with file_size_limit(SMALL):
        while capture.running:
            say(hub, *("x" * 90 for _ in range(7)))
            await asyncio.sleep(0)

    text = capture.file.read_text()
    assert capture.reason == "its file cannot be written: File too large"
    assert SMALL - 1500 < len(text) <= SMALL
    assert text.endswith("x\n")
    assert capture.size_bytes == capture.file.stat().st_size == len(text)
    assert capture.summary().records == len(said(capture.file))
    assert hub.listeners == 0
    assert (await follow(capture))[-1].endswith("x")


async def test_a_trailer_that_does_not_fit_is_told(hub: Hub, captures: Captures) -> None:
    """Where not even the trailer can be written, the file ends with its last whole line and the reason says so."""
    capture = captures.start(CaptureRequest("ada"), HEADER)
    say(hub, "one")
    await asyncio.sleep(0)
    with file_size_limit(capture.file.stat().st_size):
        capture.stop("enough")

    assert capture.reason == "its file cannot be written: File too large"
    assert capture.file.read_text().endswith("INFO one\n")
    assert capture.summary().records == 1


async def test_a_header_that_cannot_be_written_ends_the_capture(hub: Hub, captures: Captures) -> None:
    """A capture whose file takes nothing ends at once, and listens to nothing."""
    with file_size_limit(0):
        capture = captures.start(CaptureRequest("ada", duration_s=60, before_s=60), HEADER)

    assert not capture.running
    assert "cannot be written" in capture.reason
    assert capture.file.read_text() == ""
    assert hub.listeners == 0


async def test_a_capture_ends_when_the_disk_runs_low(hub: Hub, folder: Path) -> None:
    """A running capture looks at the disk, and ends before it is full."""
    captures = Captures(hub, folder, free_bytes=0)
    capture = captures.start(CaptureRequest("ada"), HEADER)
    capture._free_bytes = 1 << 62
    say(hub, "one")
    await asyncio.sleep(0)

    assert capture.reason == "the disk is nearly full"
    assert said(capture.file) == ["one"]
    assert capture.file.read_text().endswith("; ended: the disk is nearly full; 1 records\n")


async def test_no_capture_begins_on_a_full_disk(hub: Hub, folder: Path) -> None:
    """The refusal says how much is free and how much is needed, and no file is made."""
    captures = Captures(hub, folder, free_bytes=1 << 62)

    with pytest.raises(TraceError, match=r"^the disk is nearly full: .* free, a trace needs 4\.0 EiB$"):
        captures.start(CaptureRequest("ada"), HEADER)
    assert captures.files() == []


async def test_a_missing_folder_is_our_error(hub: Hub, tmp_path: Path) -> None:
    """Neither a start nor a listing in a folder that is not there raises anything else."""
    captures = Captures(hub, tmp_path / "none", free_bytes=0)

    with pytest.raises(TraceError, match="No such file or directory"):
        captures.start(CaptureRequest("ada"), HEADER)
    with pytest.raises(TraceError, match="No such file or directory"):
        captures.files()


async def test_files_of_one_second_have_names_of_their_own(captures: Captures) -> None:
    """Captures of one user in one second are numbered; none is overwritten."""
    names = [captures.start(CaptureRequest("ada"), HEADER).file.name for _ in range(3)]

    assert names == [NAME, "20261123-101500-ada-2.log", "20261123-101500-ada-3.log"]
    assert sorted(names) == sorted(file.name for file in captures.files())


@pytest.mark.parametrize("who", ["../../etc/passwd", "a b\n", "Ada Lovelace", "x" * 200, "\x1b", "ä", "."])
async def test_a_name_of_any_user_makes_a_file_that_is_found(captures: Captures, folder: Path, who: str) -> None:
    """Whatever the user is called, the file stands in the folder, is listed and can be shown and deleted."""
    capture = captures.start(CaptureRequest(who), HEADER)
    capture.stop()

    (file,) = captures.files()
    assert capture.file.parent == folder
    assert captures.find(file.name) == capture.file
    captures.delete(file.name)
    assert captures.files() == []


async def test_the_list_tells_what_runs(captures: Captures) -> None:
    """Files are listed by name, those before this start too; what runs is marked."""
    (captures._folder / "20250101-000000-old.log").write_text("# x\n")
    (captures._folder / "notes.txt").write_text("not a capture")
    capture = captures.start(CaptureRequest("ada"), HEADER)
    listed = [(file.name, file.size_bytes, file.running) for file in captures.files()]
    capture.stop()

    assert listed == [("20250101-000000-old.log", 4, False), (NAME, len("; Callisto 1.0.0\n; by ada\n"), True)]
    assert not any(file.running for file in captures.files())


async def test_a_running_capture_is_not_deleted(captures: Captures) -> None:
    """It has to be stopped first; then it goes, and a second deletion finds nothing."""
    capture = captures.start(CaptureRequest("ada"), HEADER)
    with pytest.raises(TraceError, match=rf"^{NAME} is running; stop it first$"):
        captures.delete(NAME)
    assert capture.file.exists()
    capture.stop()
    captures.delete(NAME)

    with pytest.raises(TraceError, match=f"^no trace file named '{NAME}'; see 'trace list'$"):
        captures.delete(NAME)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../secret",
        "../trace/" + NAME,
        "/etc/passwd",
        "callisto.db",
        NAME + "\n",
        NAME + "\0",
        "20261123-101500-/../../secret.log",
        "\x1b[2J.log",
        "20261123-101500-link.log",
        "20261123-101500-folder.log",
        "٢٠261123-101500-ada.log",
        "x" * 10_000,
    ],
)
@pytest.mark.parametrize("act", ["find", "delete"])
async def test_nothing_but_a_capture_is_found(captures: Captures, folder: Path, name: str, act: str) -> None:
    """No name leads out of the folder, through a link or to what is no capture; the answer is one clean line."""
    secret = folder.parent / "secret"
    secret.write_text("secret")
    (folder / NAME).write_text("")
    (folder / "20261123-101500-link.log").symlink_to(secret)
    (folder / "20261123-101500-folder.log").mkdir()
    call: Callable[[str], object] = getattr(captures, act)

    with pytest.raises(TraceError, match="no trace file named") as refused:
        call(name)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500
    assert secret.read_text() == "secret"


async def test_closing_stops_all(hub: Hub, captures: Captures) -> None:
    """At the server's end every capture that runs gets its trailer."""
    running = [captures.start(CaptureRequest(who), HEADER) for who in ("ada", "bob")]
    say(hub, "one")
    captures.close()

    for capture in running:
        assert said(capture.file) == ["one"]
        assert capture.file.read_text().endswith("; ended: the server stops; 1 records\n")


async def test_text_from_outside_makes_no_line_of_its_own(hub: Hub, captures: Captures) -> None:
    """What a process says, and what a header holds, cannot forge a line of the file."""
    capture = captures.start(CaptureRequest("ada"), ["note: x\n2026-11-23T10:15:00 forged", "\x1b[2J"])
    say(hub, "a\nb\u2028c\x85d\udcff")
    capture.stop()

    assert said(capture.file) == ["a\\x0ab\\u2028c\\x85d\\udcff"]
    assert capture.file.read_text().splitlines()[:2] == ["; note: x\\x0a2026-11-23T10:15:00 forged", "; \\x1b[2J"]


def test_the_file_outlives_a_killed_server(folder: Path) -> None:
    """After SIGKILL the file of a running capture has every whole line that was written."""
    script = f"""
import asyncio, os, signal
from pathlib import Path
from callisto_telnetd.clock import Clock
from callisto_telnetd.trace.captures import CaptureRequest, Captures
from callisto_telnetd.trace.hub import Hub

async def main():
    hub = Hub(Clock())
    Captures(hub, Path({str(folder)!r}), 0).start(CaptureRequest("ada"), ["header"])
    for number in range(10):
        hub.publish(20, str(number), {{}})
        await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9

    (file,) = folder.iterdir()
    assert said(file) == [str(number) for number in range(10)]
