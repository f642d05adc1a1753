from __future__ import annotations

import csv
import io
import re
import time
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.trace.reading import (
    CSV_HEAD,
    CaptureReader,
    Entry,
    as_dict,
    comment_of,
    csv_line,
    format_csv,
    format_json,
    format_line,
    line_of,
    parse_json,
    parse_line,
)
from callisto_telnetd.trace.records import LEVELS
from callisto_telnetd.trace.sanitiser import clean

STAMP = "2026-11-23T10:15:00.123456+01:00"
KEYS = st.text("abc.@-_1", min_size=1, max_size=6)
TEXT = st.text(st.characters(exclude_categories=()), max_size=30).map(clean) | st.text(' "=\\ab1', max_size=20)
WORDS = st.text(' "\\:ab1[]', max_size=20)
"""Texts that hold no equal sign, so that nothing in them reads as a field."""


def entries(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Entry]:
    """Return any record whose text is one of those."""
    return st.builds(
        Entry,
        st.just(STAMP) | st.datetimes().map(lambda moment: moment.isoformat()),
        st.text("abc-/.:[]1", min_size=1, max_size=12),
        st.none() | st.integers(0, 4_194_304),
        st.sampled_from([10, 20, 30, 40]),
        texts,
        st.dictionaries(KEYS, TEXT, max_size=5),
        st.none(),
    )


def entry(text: str = "started", **fields: str) -> Entry:
    """Return a record of the web server."""
    return Entry(STAMP, "web-server", 4711, 20, text, fields)


@pytest.mark.parametrize(
    ("body", "text", "fields"),
    [
        ("started", "started", {}),
        ("", "", {}),
        ("started port=8080", "started", {"port": "8080"}),
        ("a b=1 c=2", "a", {"b": "1", "c": "2"}),
        ('a b="x y" c=2', "a", {"b": "x y", "c": "2"}),
        ('a b="say \\"no\\"" c=""', "a", {"b": 'say "no"', "c": ""}),
        ('a b="C:\\\\new folder"', "a", {"b": "C:\\new folder"}),
        ("a b=C:\\new", "a", {"b": "C:\\new"}),
        ("retry=3", "retry=3", {}),
        (" retry=3", "", {"retry": "3"}),
        ("a b= c", "a b= c", {}),
        ("a b=1 c", "a b=1 c", {}),
        ('a b="c', 'a b="c', {}),
        ('a b=c"', 'a b=c"', {}),
        ('a b="c"', 'a b="c"', {}),
        ('a "b c"', 'a "b c"', {}),
        ("a b=1 b=2", "a b=1", {"b": "2"}),
        ('a b="x" c"', 'a b="x" c"', {}),
        ('a \\"', 'a \\"', {}),
        ("a =1", "a =1", {}),
        ("a b==", "a b==", {}),
        ("[1] INFO x", "[1] INFO x", {}),
    ],
)
def test_what_stands_behind_the_level(body: str, text: str, fields: dict[str, str]) -> None:
    """Fields are taken off the end as far as they stand there just as they are written; the rest is text."""
    read = parse_line(f"{STAMP} web-server[4711] INFO {body}")

    assert read is not None
    assert (read.text, dict(read.fields)) == (text, fields)
    assert list(read.fields) == list(fields)
    assert format_line(read) == f"{STAMP} web-server[4711] INFO {body}"


@pytest.mark.parametrize(
    ("line", "process", "pid", "level"),
    [
        (f"{STAMP} web-server[-] DEBUG x", "web-server", None, 10),
        (f"{STAMP} a:b/c[0] WARNING x", "a:b/c", 0, 30),
        (f"{STAMP} a[1][2] ERROR x", "a[1]", 2, 40),
        *((f"{STAMP} a[1] {name.upper()} x", "a", 1, level) for name, level in LEVELS.items()),
    ],
)
def test_the_head_of_a_line(line: str, process: str, pid: int | None, level: int) -> None:
    """A process may hold brackets itself, and may have no number."""
    read = parse_line(line)

    assert read is not None
    assert (read.process, read.pid, read.level) == (process, pid, level)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "; Callisto 1.0.0",
        "; ended: enough; 1 record",
        "free text",
        f"{STAMP} web-server INFO x",
        f"{STAMP} web[x] INFO x",
        f"{STAMP} web[1] FATAL x",
        f"{STAMP}  web[1] INFO x",
        f"{STAMP} web[1] INFO",
    ],
)
def test_a_line_that_is_no_record_holds_none(line: str) -> None:
    """Comments and what somebody else wrote are no records."""
    assert parse_line(line) is None


@given(entries(TEXT))
def test_a_line_that_is_read_and_written_is_the_same(made: Entry) -> None:
    """Whatever a record holds, its line is a record, and written again it is the very same line."""
    line = format_line(made)
    read = parse_line(line)

    assert read is not None
    assert format_line(read) == line
    assert (read.stamp, read.pid, read.level) == (made.stamp, made.pid, made.level)


@given(entries(WORDS))
def test_a_record_that_is_written_and_read_is_the_same(made: Entry) -> None:
    """Where its text has nothing that reads as a field, a record comes back as it was."""
    assert parse_line(format_line(made)) == made


@given(entries(TEXT), st.none() | st.integers(1, 2**53))
def test_json_lines_hold_all_of_a_record(made: Entry, sequence: int | None) -> None:
    """Any record comes back from its line of JSON, its number with it."""
    made = made._replace(sequence=sequence)

    assert parse_json(format_json(made)) == made
    assert "\n" not in format_json(made)
    assert orjson.loads(format_json(made)) == as_dict(made)


GOOD = {"at": STAMP, "process": "web", "pid": 1, "level": "info", "text": "x"}
BAD: dict[str, list[object]] = {
    "at": [None, 5],
    "process": [None],
    "pid": ["1", 1.5, []],
    "level": ["loud", None, 20, []],
    "text": [None, ["x"]],
    "fields": [[1], ["a"], "x", 5, {"a": 1}, {"a": None}],
    "sequence": ["1"],
}


@pytest.mark.parametrize(
    "line",
    [
        *("", "{", "[]", "1", "null", '"text"', "{}", "x" * 100, '{"comment":"ended: x"}'),
        *(orjson.dumps({**GOOD, key: value}).decode() for key, values in BAD.items() for value in values),
        *(orjson.dumps({key: value for key, value in GOOD.items() if key != left}).decode() for left in GOOD),
    ],
)
def test_json_that_is_no_record_holds_none(line: str) -> None:
    """What has not every part in its own type is no record, and breaks nothing."""
    assert parse_json(line) is None


@given(st.text(max_size=60) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(repr))
def test_any_line_is_a_record_or_none(line: str) -> None:
    """No line of a file that anybody may have written raises anything."""
    for parse in (parse_line, parse_json):
        assert parse(line) is None or isinstance(parse(line), Entry)
    assert isinstance(comment_of(line), str)


@pytest.mark.parametrize(
    "body",
    [
        '"' * 8192,
        '\\"' * 4096,
        ' a="' * 2048,
        "a=b " * 2048,
        '="' * 4096,
        "\\" * 8191 + '"',
        " " * 8192,
        '\\"' * 400_000,
    ],
    ids=lambda body: f"{body[:4]}*{len(body)}",
)
def test_no_line_takes_long_to_read(body: str) -> None:
    """A text that looks like fields from end to end is read as fast as any other."""
    began = time.thread_time()
    read = parse_line(f"{STAMP} web[1] INFO {body}")

    assert read is not None
    assert format_line(read).endswith(body)
    assert time.thread_time() - began < 5


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [(STAMP, 1795425300.123456), ("1970-01-01T00:00:01Z", 1.0), ("yesterday", None), ("", None), ("0001-01-01", None)],
)
def test_when_a_record_was_made(stamp: str, seconds: float | None) -> None:
    """A stamp is a moment, and what is none has none."""
    assert entry()._replace(stamp=stamp).epoch_s == (pytest.approx(seconds) if seconds is not None else None)


# Other forms


@given(entries(TEXT))
def test_a_line_of_csv_is_read_by_any_program(made: Entry) -> None:
    """RFC 4180: one line a record, six cells, and each as it was but for what a spreadsheet takes for a formula."""
    line = format_csv(made)
    [cells] = csv.reader(io.StringIO(line, newline=""), strict=True)

    assert len(cells) == len(CSV_HEAD) == 6
    undone = [re.sub(r"(^|;)'", r"\1", cell) for cell in cells]
    assert undone[0] == made.stamp
    assert undone[4] == made.text
    assert cells[2] == ("" if made.pid is None else str(made.pid))
    assert not any(re.search(r"(?:^|;)[\s\u200b]*[-=+@＝＋－＠]", cell) for cell in cells)


@pytest.mark.parametrize("formula", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "-- 5 records --"])
def test_a_formula_is_defused(formula: str) -> None:
    """What a caller sends runs in nobody's spreadsheet."""
    assert next(csv.reader([csv_line("a", formula)])) == ["a", f"'{formula}"]
    assert next(csv.reader([csv_line("a=b", f"'{formula}")])) == ["a=b", f"''{formula}"]


@pytest.mark.parametrize("before", [" ", "\u00a0", "\u200b", "\u3164", "\t"])
@pytest.mark.parametrize("formula", ["=1+1", "＝1+1", "＋1", "－1", "＠SUM(A1)"])
def test_a_formula_behind_what_is_not_seen_is_defused(before: str, formula: str) -> None:
    """Blanks and invisible characters hide no formula, and wide signs are taken for the plain ones."""
    assert next(csv.reader([csv_line(before + formula, formula)])) == [f"'{before}{formula}", f"'{formula}"]


def test_a_formula_behind_a_semicolon_is_defused() -> None:
    """Where a comma is the decimal sign, cells are parted by ``;``: the cell is in quotes, and the formula marked."""
    assert csv_line("x;=1+1;y", "a;b") == '"x;\'=1+1;y","a;b"'


def test_the_three_forms_of_a_record() -> None:
    """A record as text, as JSON and as CSV."""
    made = entry("started", path="/a b", code="200")

    assert line_of(made, "text") == f'{STAMP} web-server[4711] INFO started path="/a b" code=200'
    assert orjson.loads(line_of(made, "jsonl"))["fields"] == {"path": "/a b", "code": "200"}
    assert line_of(made, "csv") == f'{STAMP},web-server,4711,info,started,"path=""/a b"" code=200"'


@pytest.mark.parametrize(
    ("line", "comment"),
    [
        ("; ended: enough", "ended: enough"),
        ('{"comment":"ended: enough"}', "ended: enough"),
        ('{"comment":5}', '{"comment":5}'),
        ('{"text":"x"}', '{"text":"x"}'),
        ("anything", "anything"),
        ("[]", "[]"),
        ("", ""),
    ],
)
def test_the_text_of_a_comment(line: str, comment: str) -> None:
    """Header and trailer say the same in both forms; any other line is itself."""
    assert comment_of(line) == comment


# Files


def read_all(path: Path) -> list[str]:
    """Return all lines of a capture."""
    reader = CaptureReader(path)
    lines = []
    while chunk := reader.lines():
        assert len(chunk) <= 200
        lines += chunk
    reader.close()
    return lines


def test_a_capture_is_read_in_chunks(tmp_path: Path) -> None:
    """However long it is, some lines at a time are read, in order, and then none."""
    path = tmp_path / "x.log"
    path.write_text("".join(f"{number}\n" for number in range(1001)))

    assert read_all(path) == [str(number) for number in range(1001)]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"torn", []),
        (b"one\ntor", ["one"]),
        (b"one\n", ["one"]),
        (b"one\n\ntwo\n", ["one", "", "two"]),
        (b"one\r\n", ["one\r"]),
        (b"\xff\xc3\xa9\n", ["\ufffdé"]),
        (b"x" * (1 << 20) + b"\n", []),
        (b"x" * ((1 << 20) - 1) + b"\nnext\n", ["x" * ((1 << 20) - 1), "next"]),
        (b"a\n" + b"x" * (3 << 20) + b"\nnext\n", ["a", "next"]),
        (b"a\n" + b"x" * (3 << 20), ["a"]),
    ],
    ids=lambda value: f"{len(value)}" if len(value) > 20 else None,
)
def test_only_whole_lines_of_a_sound_length_are_shown(tmp_path: Path, data: bytes, lines: list[str]) -> None:
    """What has no end is no line, and a line beyond all bounds is left out; what follows it is not."""
    path = tmp_path / "x.log"
    path.write_bytes(data)

    assert read_all(path) == lines


def test_a_capture_that_is_still_written_shows_no_half_line(tmp_path: Path) -> None:
    """A line that was not whole when it was read first comes whole the next time, or not at all."""
    path = tmp_path / "x.log"
    path.write_bytes(b"one\ntw")
    reader = CaptureReader(path)
    assert reader.lines() == ["one"]
    with path.open("ab") as stream:
        stream.write(b"o\nthree")

    assert reader.lines() == ["two"]
    assert reader.lines() == []
    reader.close()
    reader.close()


@pytest.mark.parametrize("name", ["x.log", "x.jsonl"])
def test_records_and_other_lines_of_a_capture(tmp_path: Path, name: str) -> None:
    """By the file's name its lines are read as text or JSON; what is no record comes as it is."""
    made, path = entry("hello", a="b"), tmp_path / name
    line = format_json(made) if name.endswith("l") else format_line(made)
    path.write_text(f"; header\n{line}\n{{}}\n\n")
    reader = CaptureReader(path)

    assert reader.entries() == ["; header", made, "{}", ""]
    assert reader.entries() == []
    assert reader.as_json is name.endswith("l")
    reader.close()


def test_a_capture_that_cannot_be_opened(tmp_path: Path) -> None:
    """What is not there is the caller's error to tell."""
    with pytest.raises(FileNotFoundError):
        CaptureReader(tmp_path / "none.log")
