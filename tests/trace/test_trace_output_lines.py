from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callisto_telnetd.trace.output_lines import MAX_LINE_BYTES, OutputLines
from callisto_telnetd.trace.records import LEVELS
from callisto_telnetd.trace.sanitiser import MAX_TEXT

INFO, ERROR = LEVELS["info"], LEVELS["error"]
PIECES = [b"", b"\n", b"\r", b"\r\n", b"<3>", b"<7", b"<8>", b" text", "é世".encode(), b"\xe4\xb8", b"\xff", b"\x1b\0"]
PIECES += [b"x" * 4000, b"y" * 8192, b"\xbf" * 9000, "世".encode() * 3000]
OUTPUT = st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=12).map(b"".join)


def lines_of(output: bytes, step: int = 1 << 20) -> list[tuple[int, str]]:
    """Return the lines of an output that comes ``step`` bytes at a time."""
    lines = OutputLines()
    found = [line for at in range(0, len(output), step) for line in lines.feed(output[at : at + step])]
    return found + lines.close()


@pytest.mark.parametrize(
    ("output", "lines"),
    [
        (b"", []),
        (b"one\ntwo\n", [(INFO, "one"), (INFO, "two")]),
        (b"one\r\ntwo\r\n", [(INFO, "one"), (INFO, "two")]),
        (b"no end", [(INFO, "no end")]),
        (b"no end\r", [(INFO, "no end")]),
        (b"\n\r\n\n", []),
        (b" \n", [(INFO, " ")]),
        (b"10 %\r20 %\n", [(INFO, "10 %\r20 %")]),
        (b"cr\r\r\n", [(INFO, "cr\r")]),
        (b"\x1b[2J\0\n", [(INFO, "\x1b[2J\0")]),
        ("Zürich 世界\n".encode(), [(INFO, "Zürich 世界")]),
        (b"Z\xfcrich\n", [(INFO, "Z\\xfcrich")]),
    ],
)
def test_output_is_cut_into_lines(output: bytes, lines: list[tuple[int, str]]) -> None:
    """LF and CR LF end a line, the end of the output too; empty lines are dropped, the rest is decoded only."""
    assert lines_of(output) == lines


@pytest.mark.parametrize(
    ("output", "line"),
    [
        *((b"<%d>text\n" % severity, (level, "text")) for severity, level in enumerate(reversed(LEVELS.values()))),
        (b"<3> text\r\n", (ERROR, " text")),
        (b"<3>no end", (ERROR, "no end")),
        (b"<8>text\n", (INFO, "<8>text")),
        (b"<13>text\n", (INFO, "<13>text")),
        (b"<>text\n", (INFO, "<>text")),
        (b" <3>text\n", (INFO, " <3>text")),
        (b"<3>", None),
        (b"<3>\r\n", None),
    ],
)
def test_a_prefix_gives_the_level(output: bytes, line: tuple[int, str] | None) -> None:
    """<0> to <7> at a line's beginning are the severities of sd-daemon(3); anything else is text."""
    assert lines_of(output) == ([] if line is None else [line])


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_longest_line_is_whole(end: bytes) -> None:
    """The bound counts neither CR nor LF."""
    assert lines_of(b"x" * MAX_LINE_BYTES + end) == [(INFO, "x" * MAX_LINE_BYTES)]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("more", [1, 2, 100_000])
def test_an_over_long_line_is_cut_and_says_so(more: int, end: bytes) -> None:
    """It is one line with its level, it says how many bytes are missing, and the hub need not cut it again."""
    [(level, text)] = lines_of(b"<3>" + b"x" * (MAX_LINE_BYTES - 3 + more) + end)
    kept, _, rest = text.partition(" …(")

    assert level == ERROR
    assert set(kept) == {"x"}
    assert len(kept) + 3 + int(rest.removesuffix(" bytes more)")) == MAX_LINE_BYTES + more
    assert MAX_LINE_BYTES - 50 < len(text) <= MAX_TEXT


def test_an_over_long_line_is_not_cut_within_a_character() -> None:
    """What is kept of a line of UTF-8 ends with a whole character, whatever its place."""
    for before in range(4):
        [(_, text)] = lines_of(b"x" * before + "🙂".encode() * 3000 + b"\n")
        kept, _, rest = text.partition(" …(")

        assert set(kept) <= {"x", "🙂"}
        assert len(kept.encode()) + int(rest.removesuffix(" bytes more)")) == before + 12_000


def test_the_next_line_after_an_over_long_one_is_whole() -> None:
    """A cut ends with its line."""
    assert lines_of(b"x" * 100_000 + b"\n<7>next\n", 4096)[1:] == [(LEVELS["debug"], "next")]


def test_what_is_held_is_bounded() -> None:
    """A line that never ends costs no more than a longest one."""
    lines = OutputLines()

    for _ in range(100):
        assert lines.feed(b"x" * 65536) == []
    assert len(lines._held) <= MAX_LINE_BYTES
    assert len(lines.close()) == 1


def test_after_its_close_it_begins_anew() -> None:
    """Nothing of the last line is left, so that a process that is started again may use it."""
    lines = OutputLines()
    lines.feed(b"<3>half\r")

    assert lines.close() == [(ERROR, "half")]
    assert lines.close() == []
    assert lines.feed(b"new\n") == [(INFO, "new")]


@given(OUTPUT, st.integers(1, 10_000))
@example(b"x" * 8192 + b"\r\n", 8192)
@example(b"x" * 8193 + b"\r\n", 8193)
def test_lines_do_not_depend_on_how_bytes_arrive(output: bytes, step: int) -> None:
    """Whole, in pieces of any size or byte by byte, the lines are the same."""
    whole = lines_of(output)

    assert lines_of(output, step) == whole
    assert lines_of(output, 1) == whole


@given(st.lists(st.text(st.characters(exclude_characters="\r\n<", exclude_categories=["Cs"]), min_size=1, max_size=50)))
def test_plain_lines_come_back_as_they_were(texts: list[str]) -> None:
    """Lines of any text without a line end are what was written."""
    assert lines_of("".join(f"{text}\n" for text in texts).encode()) == [(INFO, text) for text in texts]
