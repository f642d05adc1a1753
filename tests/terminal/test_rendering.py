from __future__ import annotations

import re
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callisto_telnetd.clock import Clock
from callisto_telnetd.menus.answers import Done, Fact, Line, Move, Screen
from callisto_telnetd.terminal.half_line import width_of
from callisto_telnetd.terminal.rendering import (
    document_line,
    encode_block,
    encode_lines,
    json_of,
    line_of,
    lines_of,
    redrawn,
)
from callisto_telnetd.trace.records import LineFormatter, make_head
from callisto_telnetd.trace.sanitiser import clean
from callisto_telnetd.trace.selection import Block, Stretch

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


CLEAN_TEXT = ANY_LINE.map(clean)


def block_of(*texts: str) -> Block:
    """Return a block of records of these clean texts."""
    said = [(make_head("web-server", 1, 20), text) for text in texts]
    stretch = Stretch(range(1, len(said) + 1), 1795425300.0, 0.0, said, 100)
    return Block([stretch], LineFormatter(Clock(zone="Europe/Zurich")))


@given(st.lists(CLEAN_TEXT, min_size=1, max_size=5))
@example(["%\xa0"])
def test_a_block_looks_as_its_lines_do(texts: list[str]) -> None:
    """The short way for records, which are clean already, shows what the way of all other lines shows."""
    block = block_of(*texts)

    assert encode_block(block) == encode_lines(block.lines)


def test_a_block_is_encoded_once() -> None:
    """All viewers of a block are sent the very same bytes; a part of it has bytes of its own."""
    block = block_of("one", "two")
    sent = encode_block(block)

    assert sent is encode_block(block) is block.encoded
    assert encode_block(block.first(1)) == sent.splitlines(keepends=True)[0]
    assert sent.count(b"\r\n") == 2


@pytest.mark.parametrize("end", ["#", "$ ", "50 %", ">", "callisto# "])
def test_a_record_looks_like_no_prompt(end: str) -> None:
    """What a process says ends no line as a prompt ends; the file has it as it was said."""
    block = block_of("fine", end)

    assert encode_block(block).decode().splitlines()[1].endswith(f"INFO {end.rstrip()}.")
    assert block.lines[1].endswith(f"INFO {end}")


def test_a_redrawn_screen_takes_the_place_of_the_one_before() -> None:
    """It goes up as many lines as there were and clears from there (ECMA-48: CUU, ED); the first one goes nowhere."""
    screen = Screen(("one", "two"))

    assert redrawn(screen, 0, 80) == "one\r\ntwo"
    assert redrawn(screen, 3, 80) == "\x1b[3A\x1b[Jone\r\ntwo"


@pytest.mark.parametrize(
    ("line", "columns", "shown"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcde"),
        ("世界世界", 8, "世界世界"),
        ("世界世界", 7, "世界世"),
        ("a世界", 2, "a"),
        ("e\u0301e\u0301", 2, "e\u0301e\u0301"),
        ("\x1b[2J", 20, "\\x1b[2J"),
        ("\x1b[2J", 3, "\\x1"),
        ("root#", 20, "root#."),
        ("", 5, ""),
        ("abc", 0, ""),
    ],
)
def test_a_line_of_a_screen_fits_its_columns(line: str, columns: int, shown: str) -> None:
    """A wide character counts two columns, a mark none; what drives a terminal is shown escaped first."""
    assert redrawn(Screen((line,)), 0, columns) == shown


@given(st.lists(ANY_LINE, min_size=1, max_size=5), st.integers(0, 50), st.integers(1, 30))
def test_a_screen_drives_a_terminal_in_no_other_way(lines: list[str], before: int, columns: int) -> None:
    """Whatever its lines hold, a screen is one line each, none too wide, behind the two controls at its beginning."""
    text = redrawn(Screen(tuple(lines)), before, columns).removeprefix(f"\x1b[{before}A\x1b[J")
    shown = text.split("\r\n")

    assert len(shown) == len(lines)
    assert all(clean(line) == line for line in shown)
    assert all(sum(max(width_of(each), 0) for each in line) <= columns for line in shown)


@pytest.mark.parametrize(
    ("text", "line"),
    [("callisto#", "callisto#"), ("eth0:", "eth0:"), ("a\x1b[2J", "a\\x1b[2J"), (" x ", " x "), ("", "")],
)
def test_a_line_of_a_document_is_as_it_is_but_clean(text: str, line: str) -> None:
    """Behind a command line no script waits for a prompt: nothing is added, and nothing drives a terminal."""
    assert document_line(text) == line


def test_a_line_of_a_document_is_bounded() -> None:
    """A line that somebody made too long is cut, and ends in … ."""
    assert document_line("x" * 65_536) == "x" * 65_536
    assert document_line("x" * 70_000) == "x" * 65_536 + "…"


def test_what_people_are_shown_of_an_answer() -> None:
    """A fact shows its lines, a line itself, the end ``OK`` and what was done, a block its own, and a move none."""
    block = block_of("one", "two")
    assert lines_of(block) == tuple(block.lines)
    assert lines_of(Screen(("one", "two"))) == ("one", "two")
    assert lines_of(Fact({"a": 1}, ("one", "two"))) == ("one", "two")
    assert lines_of(Line("text")) == ("text",)
    assert lines_of(Done("saved")) == ("OK saved",)
    assert lines_of(Move.LOGOUT) == ()


def test_facts_become_one_line_of_json() -> None:
    """Any data is one line that reads back, with moments in ISO 8601."""
    line = json_of({"text": "a\nb\u2028", "at": datetime(2026, 11, 23, tzinfo=UTC), "none": None})

    assert "\n" not in line
    assert orjson.loads(line) == {"text": "a\nb\u2028", "at": "2026-11-23T00:00:00+00:00", "none": None}
