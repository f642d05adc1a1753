from __future__ import annotations

import re
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.menus.answers import Done, Fact, Line, Move
from callisto_telnetd.terminal.rendering import encode_lines, json_of, line_of, lines_of

PROMPT_LIKE = re.compile(r"[>#$%]\s*$|^\s*\S+[:\]]\s*$")
ANY_LINE = st.text(st.characters(exclude_categories=()), max_size=40) | st.text("ab >#$%:][)(\n\x1b", max_size=8)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("OK done", "OK done"),
        ("gWebTimeout = 30 *", "gWebTimeout = 30 *"),
        ("Key: value", "Key: value"),
        ("two words:", "two words:"),
        ("with [brackets]", "with [brackets]"),
        ("callisto#", "callisto#."),
        ("callisto# ", "callisto#."),
        ("root$", "root$."),
        ("disk 50 %", "disk 50 %."),
        ("<html>", "<html>."),
        ("eth0:", "eth0:."),
        ("  eth0: ", "  eth0:."),
        ("[eth0]", "[eth0]."),
        ("#", "#."),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("> \t", "> \\x09"),
    ],
)
def test_a_line_that_looks_like_a_prompt_gets_a_full_stop(text: str, line: str) -> None:
    """What ends like a prompt, with or without blanks behind it, no longer does; every other line is unchanged."""
    assert line_of(text) == line
    assert encode_lines([text]) == f"{line}\r\n".encode()


@given(ANY_LINE)
def test_no_line_looks_like_a_prompt(text: str) -> None:
    """Whatever a line holds, no script takes it for a prompt, and it is one line of no control characters."""
    line = line_of(text)

    assert not PROMPT_LIKE.search(line)
    assert len(line.splitlines()) <= 1
    assert "\x1b" not in line


@given(st.lists(ANY_LINE, min_size=1, max_size=5))
def test_lines_together_are_the_lines_singly(texts: list[str]) -> None:
    """Joining lines is a matter of speed alone: each is rendered as it would be by itself, ended by CR LF."""
    assert encode_lines(texts) == "".join(f"{line_of(text)}\r\n" for text in texts).encode()


def test_what_people_are_shown_of_an_answer() -> None:
    """A fact shows its lines, a line itself, the end ``OK`` and what was done, and a move nothing."""
    assert lines_of(Fact({"a": 1}, ("one", "two"))) == ("one", "two")
    assert lines_of(Line("text")) == ("text",)
    assert lines_of(Done("saved")) == ("OK saved",)
    assert lines_of(Move.LOGOUT) == ()


def test_facts_become_one_line_of_json() -> None:
    """Any data is one line that reads back, with moments in ISO 8601."""
    line = json_of({"text": "a\nb\u2028", "at": datetime(2026, 11, 23, tzinfo=UTC), "none": None})

    assert "\n" not in line
    assert orjson.loads(line) == {"text": "a\nb\u2028", "at": "2026-11-23T00:00:00+00:00", "none": None}
