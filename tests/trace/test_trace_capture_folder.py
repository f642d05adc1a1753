from __future__ import annotations

import os
from pathlib import Path

import pytest

from callisto_telnetd.errors import TraceError
from callisto_telnetd.trace.capture_file import CaptureFile
from callisto_telnetd.trace.capture_folder import CaptureFolder, DeletedFile
from tests.trace.conftest import file_size_limit

NAME = "20261123-101500-ada.log"


@pytest.fixture
def captures(folder: Path) -> CaptureFolder:
    """The folder of captures."""
    return CaptureFolder(folder)


def make(folder: Path, name: str, size: int = 0, changed_at: float = 1000.0) -> Path:
    """Make a file of a size that was written last at a moment."""
    path = folder / name
    path.write_bytes(b"x" * size)
    os.utime(path, (changed_at, changed_at))
    return path


def test_files_are_listed_oldest_first(captures: CaptureFolder, folder: Path) -> None:
    """Captures come by their start, and the parts of one by their number, whatever was written last."""
    names = [
        "20250101-000000-old.log",
        "20261123-101500-ada.log",
        "20261123-101500-ada+2.log",
        "20261123-101500-ada+10.log",
        "20261123-101500-bob.jsonl",
        "20261123-101501-ada.log",
    ]
    for number, name in enumerate(reversed(names)):
        make(folder, name, number, 1000.0 + number)

    assert [file.name for file in captures.files()] == names
    assert [file.size_bytes for file in captures.files()] == [5, 4, 3, 2, 1, 0]
    assert [file.stem for file in captures.files()][1:4] == ["20261123-101500-ada"] * 3
    assert captures.files()[0].started == "2025-01-01 00:00:00"


def test_only_captures_are_listed(captures: CaptureFolder, folder: Path) -> None:
    """Other files, folders and links are left alone, whatever they are called."""
    make(folder, NAME)
    make(folder, "notes.txt")
    make(folder, "20261123-101500-ada.log.gz")
    make(folder, "20261123-101500-.log")
    (folder / "20261123-101500-folder.log").mkdir()
    (folder / "20261123-101500-link.log").symlink_to(folder / NAME)

    assert [file.name for file in captures.files()] == [NAME]


def test_a_folder_that_is_gone_is_our_error(tmp_path: Path) -> None:
    """A listing of what is not there, or is no folder, says which and why."""
    with pytest.raises(TraceError, match=r"/none' cannot be read: it is gone$"):
        CaptureFolder(tmp_path / "none").files()
    (tmp_path / "file").write_text("")
    with pytest.raises(TraceError, match=r"/file' cannot be read: Not a directory$"):
        CaptureFolder(tmp_path / "file").files()


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
        "20261123-101500-gone.log",
        "20261123-101500-ada+.log",
        "20261123-101500-ada+1234567.log",
        "٢٠261123-101500-ada.log",
        "x" * 10_000,
    ],
)
@pytest.mark.parametrize("act", ["find", "delete"])
def test_nothing_but_a_capture_is_found(captures: CaptureFolder, folder: Path, name: str, act: str) -> None:
    """No name leads out of the folder, through a link or to what is no capture; the answer is one clean line."""
    secret = folder.parent / "secret"
    secret.write_text("secret")
    (folder / NAME).write_text("")
    (folder / "20261123-101500-link.log").symlink_to(secret)
    (folder / "20261123-101500-folder.log").mkdir()

    with pytest.raises(TraceError, match="no trace file named") as refused:
        getattr(captures, act)(name)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500
    assert secret.read_text() == "secret"


def test_a_file_is_found_and_deleted(captures: CaptureFolder, folder: Path) -> None:
    """A capture by its name, once."""
    path = make(folder, NAME)

    assert captures.find(NAME) == path
    captures.delete(NAME)
    assert not path.exists()


@pytest.mark.parametrize("suffix", [".log", ".jsonl"])
def test_how_files_end(captures: CaptureFolder, folder: Path, suffix: str) -> None:
    """What our own writer leaves: ended, continued in the next part, and interrupted without a trailer."""
    line = b'{"text":"x"}\n' if suffix == ".jsonl" else b"2026-11-23T10:15:00+01:00 web[1] INFO x\n"
    ended = CaptureFile(folder, "20261123-101500-a", suffix, free_bytes=0, part_bytes=100, keep=5)
    ended.open(["header"])
    ended.write(line * 9)
    ended.close('with "quotes" and é and a long reason ' * 5)
    cut = CaptureFile(folder, "20261123-101500-b", suffix, free_bytes=0)
    cut.open(["header"])
    cut.write(line)
    with file_size_limit(cut.size_bytes):
        cut.close("no room")

    states = [captures.state_of(file.name) for file in captures.files()]
    assert states == ["continued"] * (ended.part - 1) + ["ended", "interrupted"]
    assert ended.part > 1


@pytest.mark.parametrize(
    ("name", "data", "state"),
    [
        (NAME, b"", "interrupted"),
        (NAME, b"; header\n", "interrupted"),
        (NAME, b"; header\nline\n; ended: enough; 1 record\n", "ended"),
        (NAME, b"; header\nline\n; ended: enough; 1 record", "interrupted"),
        (NAME, b"; header\nline\n; ended: enough; 1 record\nhal", "interrupted"),
        (NAME, b"; header\nline\n; continued in x+2.log\n", "continued"),
        (NAME, b"; header\nx ; ended: forged\n", "interrupted"),
        (NAME, b"x" * 5000 + b"\n; ended: enough; 1 record\n", "ended"),
        (NAME, b"; header\n" + b"x" * 5000 + b"\n", "interrupted"),
        (NAME, b"\xff\xfe\n\n", "interrupted"),
        ("20261123-101500-ada.jsonl", b'{"comment":"ended: enough; 1 record"}\n', "ended"),
        ("20261123-101500-ada.jsonl", b'{"comment":"continued in x"}\n', "continued"),
        ("20261123-101500-ada.jsonl", b'{"comment":"started"}\n', "interrupted"),
        ("20261123-101500-ada.jsonl", b'{"text":"ended: x"}\n{"te', "interrupted"),
        ("20261123-101500-ada.jsonl", b"; ended: enough; 1 record\n", "interrupted"),
    ],
)
def test_the_last_whole_line_tells_how_a_file_ended(
    captures: CaptureFolder, folder: Path, name: str, data: bytes, state: str
) -> None:
    """Only a trailer in the file's own form, whole, says that it ended; all else was cut off."""
    (folder / name).write_bytes(data)

    assert captures.state_of(name) == state


def test_a_file_that_is_gone_has_no_end(captures: CaptureFolder) -> None:
    """What cannot be looked at is unreadable, and stops no listing."""
    assert captures.state_of(NAME) == "unreadable"


def test_the_longest_trailer_is_still_found(captures: CaptureFolder, folder: Path) -> None:
    """However long the reason for an end is, the state is read from the file's last kilobyte or so."""
    file = CaptureFile(folder, NAME.removesuffix(".log"), ".log", free_bytes=0)
    file.open([])
    file.write(b"x" * 9000 + b"\n")
    file.close("y" * 900)

    assert captures.state_of(NAME) == "ended"


# The budget


def test_the_files_written_longest_ago_go_first(captures: CaptureFolder, folder: Path) -> None:
    """As many as have to, by when they were written last; what remains is said to the byte."""
    for number, name in enumerate(["20261103-000000-c.log", "20261101-000000-a.log", "20261102-000000-b.jsonl"]):
        make(folder, name, 100, 1000.0 + number)

    assert captures.make_room(300, 3, ()) == (300, 3, [], False)
    assert captures.make_room(299, 3, ()) == (200, 2, [DeletedFile("20261103-000000-c.log", "")], False)
    room = captures.make_room(0, 3, ())
    assert (room.size_bytes, [file.name for file in room.deleted]) == (
        0,
        ["20261101-000000-a.log", "20261102-000000-b.jsonl"],
    )
    assert captures.files() == []


@pytest.mark.parametrize(
    ("name", "data", "who"),
    [
        (
            "20261123-101500-ada.log",
            b"; Callisto\n; started now\n; by a.b from 192.0.2.7 (telnet)\n; note: by x from y\n",
            "a.b",
        ),
        ("20261123-101500-ada.jsonl", b'{"comment":"Callisto"}\n{"comment":"by root from local (local)"}\n', "root"),
        ("20261123-101500-ada.log", b"; Callisto\n2026 web[1] INFO ; by ada from x\n", ""),
        ("20261123-101500-ada.log", b"\xff" * 9000, ""),
        ("20261123-101500-ada.log", b"; by " + b"a" * 65 + b" from x\n", ""),
    ],
)
def test_who_made_a_deleted_file_is_read_from_its_header(
    captures: CaptureFolder, folder: Path, name: str, data: bytes, who: str
) -> None:
    """Whichever form the file has; one without such a line was nobody's."""
    (folder / name).write_bytes(data)

    assert captures.make_room(0, 3, ()) == (0, 0, [DeletedFile(name, who)], False)


def test_no_file_of_a_running_capture_goes(captures: CaptureFolder, folder: Path) -> None:
    """None of its parts, however old and however large; others go in their place."""
    make(folder, "20261101-000000-run.log", 1000, 1.0)
    make(folder, "20261101-000000-run+2.log", 1000, 2.0)
    make(folder, "20261102-000000-old.log", 10, 3.0)
    make(folder, "20261103-000000-new.log", 10, 4.0)

    running = {"20261101-000000-run"}
    assert captures.make_room(2010, 9, running) == (2010, 3, [DeletedFile("20261102-000000-old.log", "")], False)
    assert captures.make_room(100, 9, running) == (2000, 2, [DeletedFile("20261103-000000-new.log", "")], False)
    assert len(captures.files()) == 2


def test_their_number_has_a_bound_beside_their_bytes(captures: CaptureFolder, folder: Path) -> None:
    """The oldest go where there are too many, none of a running capture, and no more than a thousand at one look."""
    for number in range(1203):
        make(folder, f"20261101-{number // 60:04d}{number % 60:02d}-a.log", 1, float(number))

    first = captures.make_room(1 << 30, 201, {"20261101-000001-a"})
    assert (first.size_bytes, first.files, len(first.deleted), first.unfinished) == (203, 203, 1000, True)
    assert first.deleted[:2] == [
        DeletedFile("20261101-000000-a.log", "", for_number=True),
        DeletedFile("20261101-000002-a.log", "", for_number=True),
    ]
    second = captures.make_room(1 << 30, 201, {"20261101-000001-a"})
    assert (second.files, len(second.deleted), second.unfinished) == (201, 2, False)
    assert captures.files()[0].name == "20261101-000001-a.log"


def test_what_is_no_capture_counts_for_nothing(captures: CaptureFolder, folder: Path) -> None:
    """A file of the owner's in the folder is neither counted nor deleted."""
    make(folder, "notes.txt", 10_000)
    make(folder, NAME, 10)

    assert captures.make_room(100, 1, ()) == (10, 1, [], False)
    assert (folder / "notes.txt").exists()
