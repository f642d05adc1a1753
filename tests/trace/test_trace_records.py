from __future__ import annotations

import re
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
    Record,
    clean_fields,
    format_record,
    parse_level,
    record_as_dict,
    size_of,
)
from callisto_telnetd.trace.sanitiser import clean

CLOCK = Clock(zone="Europe/Zurich", read=lambda: 1795425300.123456)
FIELD = re.compile(r' (?P<key>[a-z_]+)=(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^ "=]+))')
HOSTILE = st.text(st.characters(exclude_categories=()), max_size=40) | st.text(' "=\\\n\x1bab', max_size=12)


def record(text: str = "started", **fields: str) -> Record:
    """Return a record of the web server."""
    return Record(1, CLOCK.time(), "web-server", 4711, 20, text, fields, size_of(text, fields))


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
    assert format_record(made, CLOCK.local) == f"2026-11-23T10:15:00.123456+01:00 web-server[4711] INFO {line}"


def test_the_microseconds_are_always_there() -> None:
    """A whole second has six noughts, so that columns stand under one another."""
    made = Record(1, 1795425300.0, "web-server", 1, 40, "x", {}, 65)

    assert format_record(made, CLOCK.local) == "2026-11-23T10:15:00.000000+01:00 web-server[1] ERROR x"


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
    line = format_record(made, CLOCK.local)

    assert len(line.splitlines()) == 1
    assert parse_fields(line.partition(" text")[2]) == {key: clean(value, 1024) for key, value in fields.items()}


@given(HOSTILE)
def test_a_text_forges_no_second_record(text: str) -> None:
    """Whatever a text holds, the record is one line of printable characters."""
    line = format_record(Hub(CLOCK).publish(20, text, {}), CLOCK.local)

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


@given(st.dictionaries(st.sampled_from(["who", "path"]), HOSTILE), HOSTILE)
def test_a_record_becomes_a_line_of_json(fields: dict[str, str], text: str) -> None:
    """A record's data can be written as JSON, and reads back the same."""
    made = Hub(CLOCK).publish(30, text, fields)
    data = record_as_dict(made, CLOCK.local)

    assert orjson.loads(orjson.dumps(data)) == data
    assert data["level"] == "warning"
    assert data.get("fields", {}) == dict(made.fields)


def test_the_json_of_a_record_without_fields() -> None:
    """Fields are left out where there are none."""
    assert record_as_dict(record(), CLOCK.local) == {
        "time": "2026-11-23T10:15:00.123456+01:00",
        "process": "web-server",
        "pid": 4711,
        "level": "info",
        "text": "started",
    }


@pytest.mark.parametrize("name", [*LEVELS, "WARNING", "Info"])
def test_a_level_is_named_in_any_case(name: str) -> None:
    """The four names are levels, in upper and lower case."""
    assert parse_level(name) == LEVELS[name.lower()]


@pytest.mark.parametrize("name", ["", "warn", "critical", "10", "debug "])
def test_an_unknown_level_is_refused_by_name(name: str) -> None:
    """The refusal names the four levels."""
    with pytest.raises(UsageError) as refused:
        parse_level(name)

    assert str(refused.value) == f"level: {name!r} is not debug, info, warning or error"
