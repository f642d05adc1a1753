from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callisto_telnetd.trace.capture_file import CaptureFile, comment_line, part_name
from tests.trace.conftest import file_size_limit, fill, open_files

STEM = "20261123-101500-ada"
HEADER = ["Callisto 1.0.0", "by ada"]
HEAD = b"; Callisto 1.0.0\n; by ada\n"


def capture_file(folder: Path, *, part_bytes: int | None = None, keep: int = 1, suffix: str = ".log") -> CaptureFile:
    """Return an open file."""
    file = CaptureFile(folder, STEM, suffix, free_bytes=0, part_bytes=part_bytes, keep=keep)
    file.open(HEADER)
    return file


def parts_of(folder: Path) -> dict[int, bytes]:
    """Return the parts that there are, by their numbers."""
    found = {}
    for path in folder.iterdir():
        _, _, number = path.stem.partition("+")
        found[int(number or 1)] = path.read_bytes()
    return dict(sorted(found.items()))


def records_of(data: bytes) -> bytes:
    """Return the lines that are no comments."""
    return b"".join(line for line in data.splitlines(keepends=True) if not line.startswith(b"; "))


@pytest.fixture(autouse=True)
def _nothing_stays_open(folder: Path) -> Iterator[None]:
    """Every file of a test is closed at its end."""
    yield
    assert open_files(folder) == []


def test_a_file_has_header_records_and_trailer(folder: Path) -> None:
    """It is for its owner alone, counts its records and bytes, and closing it again does nothing."""
    file = capture_file(folder)
    assert (file.name, file.size_bytes, file.records) == (f"{STEM}.log", len(HEAD), 0)
    file.write(b"one\ntwo\n")
    file.write(b"")
    file.close("enough")
    file.close("again")

    path = folder / file.name
    assert path.read_bytes() == HEAD + b"one\ntwo\n; ended: enough; 2 records\n"
    assert (file.records, file.size_bytes, file.fault) == (2, path.stat().st_size, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_header_and_trailer_of_json_lines_are_objects(folder: Path) -> None:
    """Every line of a file of JSON Lines is an object; those that are no records have a comment."""
    file = capture_file(folder, suffix=".jsonl")
    file.write(b'{"text":"one"}\n')
    file.close('"quoted"\n')

    lines = [orjson.loads(line) for line in (folder / f"{STEM}.jsonl").read_bytes().splitlines()]
    assert [line.get("comment") for line in lines] == [*HEADER, None, 'ended: "quoted"\\x0a; 1 record']


@pytest.mark.parametrize(("part", "name"), [(1, "x.log"), (2, "x+2.log"), (10, "x+10.log"), (999_999, "x+999999.log")])
def test_the_names_of_parts(part: int, name: str) -> None:
    """The first part has the capture's own name, the others have numbers."""
    assert part_name("x", ".log", part) == name


def test_a_comment_forges_no_line() -> None:
    """What stands in a header is cleaned, in both forms."""
    assert comment_line("a\n2026 forged\x1b", as_json=False) == b"; a\\x0a2026 forged\\x1b\n"
    assert orjson.loads(comment_line("a\n\x1b", as_json=True)) == {"comment": "a\\x0a\\x1b"}


def test_a_file_that_is_there_is_not_overwritten(folder: Path) -> None:
    """The name of another file is refused, and that file stays as it was."""
    (folder / f"{STEM}.log").write_text("mine")
    with pytest.raises(FileExistsError):
        capture_file(folder)

    assert (folder / f"{STEM}.log").read_text() == "mine"


def test_a_header_that_cannot_be_written_leaves_no_file(folder: Path) -> None:
    """Where the disk does not even take the header, nothing is left of it."""
    with file_size_limit(10), pytest.raises(OSError, match="File too large"):
        capture_file(folder)

    assert list(folder.iterdir()) == []


# Rotation


def test_parts_follow_one_another(folder: Path) -> None:
    """A part ends at its size with the name of the next, which begins with the same header and its own number."""
    file = capture_file(folder, part_bytes=60, keep=9)
    for number in range(7):
        file.write(b"record %04d\n" % number)
    assert file.name == f"{STEM}+4.log"
    file.close("enough")

    assert parts_of(folder) == {
        1: HEAD + b"record 0000\nrecord 0001\n; continued in 20261123-101500-ada+2.log\n",
        2: HEAD + b"; part 2\nrecord 0002\nrecord 0003\n; continued in 20261123-101500-ada+3.log\n",
        3: HEAD + b"; part 3\nrecord 0004\nrecord 0005\n; continued in 20261123-101500-ada+4.log\n",
        4: HEAD + b"; part 4\nrecord 0006\n; ended: enough; 7 records\n",
    }
    assert file.size_bytes == sum(map(len, parts_of(folder).values()))


def test_only_the_last_parts_are_kept(folder: Path) -> None:
    """Of many parts as many stay as are to be kept; records that have gone count all the same."""
    file = capture_file(folder, part_bytes=60, keep=3)
    file.write(b"".join(b"record %04d\n" % number for number in range(20)))
    file.close("enough")

    parts = parts_of(folder)
    assert list(parts) == [8, 9, 10]
    assert records_of(b"".join(parts.values())).split()[1::2] == [b"%04d" % number for number in range(14, 20)]
    assert file.records == 20
    assert parts[10].endswith(b"; ended: enough; 20 records\n")


def test_a_line_larger_than_a_part_stands_whole(folder: Path) -> None:
    """It is a part of its own, as what is smaller than a part's header makes every line one."""
    file = capture_file(folder, part_bytes=60, keep=9)
    file.write(b"small\n" + b"x" * 200 + b"\nsmall\n")
    file.close("enough")
    parts = [records_of(part) for part in parts_of(folder).values()]
    assert parts == [b"small\n", b"x" * 200 + b"\n", b"small\n"]

    for path in folder.iterdir():
        path.unlink()
    file = capture_file(folder, part_bytes=5, keep=9)
    file.write(b"a\nb\nc\n")
    file.close("enough")
    assert [records_of(part) for part in parts_of(folder).values()] == [b"a\n", b"b\n", b"c\n"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(st.integers(0, 90), min_size=1, max_size=6), max_size=8),
    st.integers(1, 300),
    st.booleans(),
)
def test_parts_hold_every_record_exactly_once(
    tmp_path: Path, batches: list[list[int]], part_bytes: int, as_json: bool
) -> None:
    """Whatever the sizes of records, batches and parts, the parts one behind the other are what was written."""
    folder = tmp_path / "hypothesis"
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    file = capture_file(folder, part_bytes=part_bytes, keep=1000, suffix=".jsonl" if as_json else ".log")
    written, number = b"", 0
    for sizes in batches:
        data = b""
        for size in sizes:
            number += 1
            data += b"%d " % number + b"x" * size + b"\n"
        file.write(data)
        written += data
    file.close("enough")

    parts = list(parts_of(folder).values())
    comment = b'{"comment"' if as_json else b"; "
    records = [
        b"".join(line for line in part.splitlines(keepends=True) if not line.startswith(comment)) for part in parts
    ]
    assert b"".join(records) == written
    assert file.records == number
    assert file.size_bytes == sum(map(len, parts))
    head = b"".join(comment_line(line, as_json=as_json) for line in HEADER)
    for place, (part, held) in enumerate(zip(parts, records, strict=True), 1):
        assert part.startswith(head)
        own = len(head) + (len(comment_line(f"part {place}", as_json=as_json)) if place > 1 else 0)
        assert own + len(held) <= part_bytes or held.count(b"\n") <= 1
        assert part.splitlines()[-1].startswith(comment_line("", as_json=as_json).rstrip(b'\n"}'))


def test_a_next_part_that_cannot_be_made_ends_the_file(folder: Path) -> None:
    """What is in the way of the next part ends the capture with the reason; the last part has its trailer."""
    file = capture_file(folder, part_bytes=60, keep=9)
    (folder / f"{STEM}+2.log").mkdir()
    file.write(b"record 0000\nrecord 0001\nrecord 0002\n")
    file.write(b"record 0003\n")
    file.close("enough")

    assert file.fault == "its next part cannot be made: File exists"
    assert (folder / f"{STEM}.log").read_bytes() == (
        HEAD + b"record 0000\nrecord 0001\n; ended: its next part cannot be made: File exists; 2 records\n"
    )


# Faults


@pytest.mark.parametrize("room", [0, 1, 9, 10, 11, 25, 30, 31])
def test_a_write_that_fails_is_taken_back_to_the_last_whole_line(folder: Path, room: int) -> None:
    """Wherever in the data the disk takes no more, only whole lines stay, and they are what is counted."""
    file = capture_file(folder)
    with file_size_limit(len(HEAD) + 10 + room):
        file.write(b"record 00\n")
        file.write(b"record 01\nrecord 02\nrecord 03\n")
        file.write(b"never\n")
        if room < 30:
            file.close("enough")
    file.close("enough")

    path = folder / f"{STEM}.log"
    whole = room // 10 + 1
    records = b"".join(b"record %02d\n" % number for number in range(whole))
    assert file.records == whole + (room == 31) * 0
    if room < 30:
        assert file.fault == "its file cannot be written: File too large"
        assert path.read_bytes() == HEAD + records
    else:
        assert path.read_bytes().startswith(HEAD + records)
    assert file.size_bytes == path.stat().st_size


def test_a_full_disk_leaves_whole_lines(small_disk: Path) -> None:
    """On a disk that is really full the file ends with a whole line, all that it counts is there, and it is said."""
    file = CaptureFile(small_disk, STEM, ".log", free_bytes=0)
    file.open(HEADER)
    filler = fill(small_disk)
    line = b"x" * 99 + b"\n"
    written = 0
    while not file.fault:
        file.write(line * 7)
        written += 7
        assert written < 20_000
    file.close("enough")

    data = (small_disk / f"{STEM}.log").read_bytes()
    assert file.fault == "the disk is full"
    assert file.low_on_disk
    assert records_of(data) == line * file.records
    assert 0 < file.records < written
    assert file.size_bytes == len(data)
    filler.unlink()


def test_a_trailer_that_does_not_fit_is_left_out(folder: Path) -> None:
    """Where only the trailer cannot be written the file ends with its last record: it reads as interrupted."""
    file = capture_file(folder)
    file.write(b"one\n")
    with file_size_limit(len(HEAD) + 4 + 5):
        file.close("enough")

    assert (folder / f"{STEM}.log").read_bytes() == HEAD + b"one\n"
    assert file.size_bytes == len(HEAD) + 4


def test_a_file_that_somebody_removes_ends(folder: Path) -> None:
    """A capture that nobody could find any more says so instead of going on."""
    file = capture_file(folder)
    file.write(b"one\n")
    assert file.fault == ""
    (folder / f"{STEM}.log").unlink()
    file.write(b"two\n")
    file.close("enough")

    assert (file.fault, file.low_on_disk) == ("its file was removed", False)


def test_a_disk_that_runs_low_ends_the_file(folder: Path) -> None:
    """Below the floor of free disk the file ends; what was written is whole, and the trailer says why."""
    file = CaptureFile(folder, STEM, ".log", free_bytes=1 << 62)
    file.open(HEADER)
    file.write(b"one\n")
    file.write(b"two\n")
    file.close("enough")

    assert (file.fault, file.low_on_disk) == ("the disk is nearly full", True)
    assert (folder / f"{STEM}.log").read_bytes() == HEAD + b"one\n; ended: the disk is nearly full; 1 record\n"
