from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.clock import Clock
from callisto_telnetd.errors import UsageError
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.records import (
    LEVELS,
    NO_FIELDS,
    LineFormatter,
    Record,
    clean_fields,
    format_body,
    format_value,
    make_head,
    parse_level,
)
from callisto_telnetd.trace.sanitiser import clean

CLOCK = Clock(zone="Europe/Zurich", read=lambda: 1795425300.123456)
FIELD = re.compile(r' (?P<key>[a-z_]+)=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^ "=]+))')
HOSTILE = st.text(st.characters(exclude_categories=()), max_size=40) | st.text(' "=\\\n\x1bab', max_size=12)


def record(text: str = "started", **fields: str) -> Record:
    """Return a record of the web server."""
    return Record(7, CLOCK.time(), 0.0, make_head("web-server", 4711, 20, fields), text)


def at(seconds: float) -> Record:
    """Return a record of that time."""
    return record("x")._replace(time=seconds)


def line_of(made: Record) -> str:
    """Return the line of a record, by a formatter that has seen nothing yet."""
    return LineFormatter(CLOCK).line(made)


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (record(), "started"),
        (record("listening", port="8080"), "listening port=8080"),
        (record("request", path="/a b", code="200"), 'request path="/a b" code=200'),
        (record(blank=""), 'started blank=""'),
        (record(query="a=b"), 'started query="a=b"'),
        (record(said='he said "no"'), 'started said="he said \\"no\\""'),
        (record(path="C:\\new folder"), 'started path="C:\\\\new folder"'),
        (record(path="C:\\new"), "started path=C:\\new"),
    ],
)
def test_the_line_of_a_record(made: Record, line: str) -> None:
    """Time with microseconds and offset, process, pid, level, text, then fields, quoted where they need it."""
    assert line_of(made) == f"2026-11-23T10:15:00.123456+01:00 web-server[4711] INFO {line}"


def test_a_process_whose_number_nobody_told() -> None:
    """Where nobody told the pid, a hyphen stands for it; 0 is a number like any other."""
    assert line_of(record()._replace(head=make_head("web-server", None, 20))).split()[1] == "web-server[-]"
    assert line_of(record()._replace(head=make_head("web-server", 0, 20))).split()[1] == "web-server[0]"


@pytest.mark.parametrize(
    ("seconds", "stamp"),
    [
        (1795425300.0, "2026-11-23T10:15:00.000000+01:00"),
        (1795425300.000001, "2026-11-23T10:15:00.000001+01:00"),
        (1795425300.999999, "2026-11-23T10:15:00.999999+01:00"),
        (1792889999.5, "2026-10-25T02:59:59.500000+02:00"),
        (1792890000.5, "2026-10-25T02:00:00.500000+01:00"),
        (1774745999.0, "2026-03-29T01:59:59.000000+01:00"),
        (1774746000.0, "2026-03-29T03:00:00.000000+02:00"),
        (0.5, "1970-01-01T01:00:00.500000+01:00"),
    ],
)
def test_the_stamp_of_a_record(seconds: float, stamp: str) -> None:
    """The microseconds are always six digits, and the offset is the one of that hour, summer or winter."""
    assert line_of(at(seconds)) == f"{stamp} web-server[4711] INFO x"
    assert LineFormatter(CLOCK).stamp(seconds) == stamp


@given(st.lists(st.floats(946_684_800, 4_102_444_799) | st.floats(1795425300, 1795425302), min_size=1, max_size=6))
def test_a_stamp_does_not_depend_on_what_was_formatted_before(times: list[float]) -> None:
    """Whatever seconds come in whatever order, each has its own stamp, to the microsecond, and in every form."""
    formatter = LineFormatter(CLOCK)
    lines = [formatter.line(at(seconds)) for seconds in times]

    for line, seconds in zip(lines, times, strict=True):
        stamp = LineFormatter(CLOCK).stamp(seconds)
        assert line.split()[0] == stamp == formatter.stamp(seconds) == formatter.as_dict(at(seconds))["at"]
        assert abs(datetime.fromisoformat(stamp).timestamp() - seconds) < 2e-6


def test_another_zone_counts_from_the_next_record_on() -> None:
    """Where the zone is changed within a second, the next line and the next stamp have the new one."""
    clock = Clock(zone="Europe/Zurich")
    formatter = LineFormatter(clock)
    assert formatter.line(at(1795425300.25)).split()[0] == "2026-11-23T10:15:00.250000+01:00"
    clock.use_zone("Asia/Tokyo")
    assert formatter.stamp(1795425300.25) == "2026-11-23T18:15:00.250000+09:00"
    clock.use_zone("America/New_York")

    assert formatter.line(at(1795425300.25)).split()[0] == "2026-11-23T04:15:00.250000-05:00"


def test_a_head_tells_all_but_text_time_and_number() -> None:
    """Its parts are those of each record of it, its values are clean, and nobody can change them for others."""
    head = make_head("web-server", None, 30, {"who": "a\nb", "n": 5})
    made = Record(1, 2.0, 3.0, head, "x")

    assert (made.process, made.pid, made.level, made.level_name) == ("web-server", None, 30, "WARNING")
    assert dict(made.fields) == {"who": "a\\x0ab", "n": "5"}
    assert (head.prefix, head.suffix) == (" web-server[-] WARNING ", " who=a\\x0ab n=5")
    with pytest.raises(TypeError):
        made.fields["n"] = "6"  # type: ignore[index]


def parse_fields(line: str) -> dict[str, str]:
    """Read the fields back, as a script would."""
    return {
        match["key"]: re.sub(r"\\(.)", r"\1", match["quoted"]) if match["plain"] is None else match["plain"]
        for match in FIELD.finditer(line)
    }


@given(st.dictionaries(st.sampled_from(["who", "path", "note", "a_b"]), HOSTILE))
def test_fields_read_back_are_the_cleaned_fields(fields: dict[str, str]) -> None:
    """Whatever a value holds, the record stays one line and its fields can be read back from it."""
    made = Hub(CLOCK).publish(20, "text", fields)
    line = line_of(made)

    assert len(line.splitlines()) == 1
    assert parse_fields(line.partition(" text")[2]) == {key: clean(value, 1024) for key, value in fields.items()}


@given(HOSTILE)
def test_a_text_forges_no_second_record(text: str) -> None:
    """Whatever a text holds, the record is one line of printable characters."""
    line = line_of(Hub(CLOCK).publish(20, text, {}))

    assert len(line.splitlines()) == 1
    assert "\x1b" not in line


def test_values_are_bounded_and_become_text() -> None:
    """A value of any type is text, of at most 1024 characters."""
    values: dict[str, Any] = {"number": 5, "none": None, "long": "x" * 5000, "list": ["a\n"], "bytes": b"\xff"}
    cleaned = clean_fields(values)

    assert cleaned["number"] == "5"
    assert cleaned["none"] == "None"
    assert cleaned["long"] == "x" * 1024 + "…"
    assert cleaned["list"] == r"['a\n']"
    assert cleaned["bytes"] == r"b'\xff'"


def test_a_traceback_may_be_longer_than_other_values() -> None:
    """Field ``exception`` has as much room as a text."""
    cleaned = clean_fields({"exception": "x" * 9000, "other": "x" * 9000})

    assert (len(cleaned["exception"]), len(cleaned["other"])) == (8193, 1025)


@pytest.mark.parametrize(("count", "kept", "more"), [(0, 0, None), (40, 40, None), (41, 41, "1"), (500, 41, "460")])
def test_the_number_of_fields_is_bounded(count: int, kept: int, more: str | None) -> None:
    """The first forty are kept, and ``more`` counts the rest."""
    cleaned = clean_fields({f"f{number}": number for number in range(count)})

    assert (len(cleaned), cleaned.get("more")) == (kept, more)
    assert all(cleaned[f"f{number}"] == str(number) for number in range(min(count, 40)))


def test_records_without_fields_share_one_mapping() -> None:
    """No fields cost no memory, and nobody can add one to all records."""
    assert make_head("web-server", 1, 20, {}).fields is NO_FIELDS
    with pytest.raises(TypeError):
        NO_FIELDS["a"] = "b"  # type: ignore[index]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ('a"b', '"a\\"b"'),
        ("a\\b", "a\\b"),
        ("a\\ b", '"a\\\\ b"'),
        ("世界", "世界"),
    ],
)
def test_a_value_is_quoted_where_it_has_to(value: str, written: str) -> None:
    """Blanks, quotes, equal signs and nothing at all are quoted; quotes and backslashes are escaped in quotes alone."""
    assert format_value(value) == written
    assert format_body("text", {"key": value}) == f"text key={written}"


def test_the_size_of_a_record_counts_all_its_text() -> None:
    """Text and values count, and each field has its own cost."""
    plain, blank, full = record("x"), record("x", a=""), record("x", a="y" * 100)

    assert record("x" * 101).size == plain.size + 100 > 200
    assert full.size >= blank.size + 98 > plain.size + 98


@given(st.dictionaries(st.sampled_from(["who", "path"]), HOSTILE), HOSTILE)
def test_a_record_becomes_a_line_of_json(fields: dict[str, str], text: str) -> None:
    """A record's data can be written as JSON, and reads back the same."""
    made = Hub(CLOCK).publish(30, text, fields)
    data = LineFormatter(CLOCK).as_dict(made)

    assert orjson.loads(orjson.dumps(data)) == data
    assert data["level"] == "warning"
    assert data.get("fields", {}) == dict(made.fields)


def test_the_json_of_a_record_without_fields() -> None:
    """Fields are left out where there are none."""
    assert LineFormatter(CLOCK).as_dict(record()) == {
        "sequence": 7,
        "at": "2026-11-23T10:15:00.123456+01:00",
        "process": "web-server",
        "pid": 4711,
        "level": "info",
        "text": "started",
    }


ALLOWED = "debug, info, notice, warning, error, critical, alert or emergency"


@pytest.mark.parametrize("name", [*LEVELS, "WARNING", "Info"])
def test_a_level_is_named_in_any_case(name: str) -> None:
    """The eight names are levels, in upper and lower case."""
    assert parse_level(name) == LEVELS[name.lower()]


@pytest.mark.parametrize("name", ["", "warn", "crit", "10", "debug "])
def test_an_unknown_level_is_refused_by_name(name: str) -> None:
    """The refusal names the eight levels."""
    with pytest.raises(UsageError) as refused:
        parse_level(name)

    assert str(refused.value) == f"level: {name!r} is not {ALLOWED}"
