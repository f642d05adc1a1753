from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.terminal.rendering import line_of, wrapped
from callisto_telnetd.terminal.wrapping import text_width, wrap
from tests.terminal.test_rendering import ANY_LINE, PROMPT_LIKE

WORDS = st.lists(st.text("abcdé世 %#:", min_size=1, max_size=9), min_size=1, max_size=30).map(" ".join)


@pytest.mark.parametrize(
    ("line", "columns", "rows"),
    [
        ("", 20, [""]),
        ("fits", 4, ["fits"]),
        ("one two three", 13, ["one two three"]),
        ("one two three", 12, ["one two", "  three"]),
        ("one two three", 7, ["one two", "  three"]),
        (
            "  services …    list, start, stop and restart",
            34,
            ["  services …    list, start, stop", "                and restart"],
        ),
        ("  services …    list, start, stop", 30, ["  services …    list, start,", "    stop"]),
        ("   7  a line that was typed before", 20, ["   7  a line that", "      was typed", "      before"]),
        ("Disk: 252.0 GiB, 75.3 GiB free", 20, ["Disk: 252.0 GiB,", "  75.3 GiB free"]),
        ("x" * 25, 10, ["x" * 10, "  " + "x" * 8, "  " + "x" * 7]),
        ("a " + "x" * 12, 10, ["a", "  " + "x" * 8, "  xxxx"]),
        ("    indented and long", 12, ["    indented", "      and", "      long"]),
        ("世界 世界 世界", 10, ["世界 世界", "  世界"]),
        ("世界世界", 5, ["世界", "  世", "  界"]),
        ("e\u0301e\u0301 e\u0301e\u0301 e\u0301", 5, ["e\u0301e\u0301 e\u0301e\u0301", "  e\u0301"]),
        ("blanks     at     the break", 12, ["blanks", "  at     the", "  break"]),
    ],
)
def test_a_long_line_is_broken_between_words(line: str, columns: int, rows: list[str]) -> None:
    """No row is wider than the terminal; what goes on below hangs under its column, or is indented."""
    assert list(wrap(line, columns)) == rows


@given(WORDS, st.integers(8, 60))
def test_no_word_is_torn_that_fits(line: str, columns: int) -> None:
    """The words stand in their order; only one that is wider than a row is cut, and no row is too wide."""
    rows = list(wrap(line, columns))

    assert all(text_width(row) <= columns for row in rows)
    assert "".join("".join(rows).split()) == "".join(line.split())
    whole = {word for row in rows for word in row.split()}
    assert all(word in whole for word in line.split() if text_width(word) <= columns // 2)


@given(ANY_LINE, st.integers(2, 40))
def test_any_line_is_shown_whole_and_clean(text: str, columns: int) -> None:
    """Whatever a line holds, its rows are clean, hold all of it, and come to an end."""
    rows = wrapped([text], columns)

    assert "".join("".join(rows).split()) == "".join(line_of(text).split())
    assert not any(set(row) & {"\x1b", "\r", "\n"} for row in rows)


def test_no_row_looks_like_a_prompt_where_a_word_less_does_not() -> None:
    """A row that would end as a prompt does is broken one word earlier."""
    assert wrapped(["the disk is 50 % full by now"], 17) == ["the disk is 50", "  % full by now"]
    assert wrapped(["variables note: the rest of it"], 16) == ["variables note:", "  the rest of it"]
    assert wrapped(["add it as the last word [yes]"], 27) == ["add it as the last", "  word [yes]"]
    assert not any(PROMPT_LIKE.search(row) for row in wrapped(["all of 100 % is > 50 % and # too"], 14))


def test_short_lines_are_as_they_were() -> None:
    """What fits is not touched, whatever blanks it holds."""
    lines = ["  a  b   c ", "", "OK done", "x" * 40]
    assert wrapped(lines, 40) == lines
    assert re.fullmatch("x{40}", wrapped(["x" * 40], 40)[0])
