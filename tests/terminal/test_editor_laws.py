"""Laws that hold for any bytes."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.terminal.editor import (
    MAX_LINE_BYTES,
    Completion,
    Event,
    Line,
    LineEditor,
)
from callisto_telnetd.terminal.escapes import LONGEST_KEY_BYTES
from callisto_telnetd.terminal.half_line import MAX_OUTPUT_BYTES
from callisto_telnetd.terminal.keys import Key

KEYS = [bytes([byte]) for byte in range(0x20)] + [
    b"\x7f",
    b"\r\n",
    b"\x1b[A",
    b"\x1b[B",
    b"\x1b[C",
    b"\x1b[D",
    b"\x1bOH",
    b"\x1b[F",
    b"\x1b[3~",
    b"\x1b[1;5",
    b"\x1b[1;5D",
    b"\x1b\x7f",
    b"\x1bd",
    b"\x1b]0;title",
    b"\x1bP",
    b"\x1b\\",
    b"\x1b(",
    b"\x1b",
    b"show ",
    b"x" * 23,
    "世".encode(),
    "e\u0301".encode(),
    b"\xe2\x82",
    b"\xf0\x9f",
    b"y" * 2100,
]
TYPED = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(KEYS), max_size=40).map(b"".join))


def complete(text: str) -> Completion:
    """Return one to three candidates, by the text alone."""
    return Completion(len(text) // 2, ("show", "shutdown", "set")[: 1 + len(text) % 3])


def opened(columns: int, *, echo: bool = True) -> LineEditor:
    """Return an editor with everything on."""
    editor = LineEditor(complete)
    editor.echo = echo
    editor.columns = columns
    editor.prompt = "callisto# "
    return editor


def fed(editor: LineEditor, chunks: list[bytes]) -> tuple[list[Event], bytes]:
    """Feed the chunks; return the events and everything that was output."""
    events, output = list[Event](), b""
    for chunk in chunks:
        editor.feed(chunk)
        while (event := editor.next_event()) is not None:
            events.append(event)
            output += editor.take_output()
        output += editor.take_output()
    return events, output


def cut(typed: bytes, cuts: list[int]) -> list[bytes]:
    """Return ``typed`` in pieces."""
    places = [0, *sorted(place % (len(typed) + 1) for place in cuts), len(typed)]
    return [typed[start:end] for start, end in pairwise(places)]


@given(TYPED, st.lists(st.integers(0, 9999), max_size=12), st.sampled_from([0, 1, 2, 20, 80]), st.booleans())
def test_cuts_change_nothing(typed: bytes, cuts: list[int], columns: int, echo: bool) -> None:
    """The same events and the same output come of the same bytes, however they are cut.

    Past the bound of what waits to be taken, repaints are put together: the events are the same even then.
    """
    whole, pieces = opened(columns, echo=echo), opened(columns, echo=echo)

    events, output = fed(whole, [typed])
    events_of_pieces, output_of_pieces = fed(pieces, cut(typed, cuts))
    assert events == events_of_pieces
    assert output == output_of_pieces or max(len(output), len(output_of_pieces)) > MAX_OUTPUT_BYTES
    assert (whole.text, list(whole.history)) == (pieces.text, list(pieces.history))


@given(st.lists(TYPED, max_size=8), st.sampled_from([0, 20]))
def test_state_is_bounded(chunks: list[bytes], columns: int) -> None:
    """Whatever comes, the editor holds one line, a bounded history and the beginning of one sequence."""
    editor = opened(columns)
    for chunk in chunks:
        fed(editor, [chunk * 5])

        assert editor.pending_bytes <= LONGEST_KEY_BYTES + 1
        assert len(editor.text.encode()) <= MAX_LINE_BYTES
        assert "\n" not in editor.text
        assert len(editor.history) <= 100


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])), max_size=5))
def test_plain_text_comes_back_as_it_was_typed(texts: list[str]) -> None:
    """Plain lines are taken as they are, and their echo is their bytes and CR LF."""
    typed = "".join(f"{text}\r\n" for text in texts).encode()

    assert fed(opened(20), [typed]) == ([Line(text) for text in texts], typed)


@given(st.lists(TYPED, max_size=6), st.lists(st.integers(0, 4), max_size=20))
def test_any_order_of_calls_is_safe(chunks: list[bytes], calls: list[int]) -> None:
    """Views, interrupts and Telnet's commands may come between any bytes; nothing raises, and bytes are never made."""
    editor = opened(20)
    acts = [editor.next_key, editor.take_interrupt, editor.erase_line, editor.erase_character, editor.next_event]
    for chunk in chunks:
        editor.feed(chunk)
        for call in calls:
            acts[call]()
        assert editor.pending_bytes <= sum(map(len, chunks)) + 2 * len(calls) * len(chunks)
        editor.leave()
        editor.redraw()
    editor.discard()
    assert (editor.text, editor.pending_bytes) == ("", 0)


LINES = st.lists(
    st.sampled_from(["a", "bc", "", "é", "sq", "q", "\x03", "\x1b[A", "\0", "\x1b]q", "\x1bq"]), max_size=6
)


@given(LINES, st.sampled_from(["\r\n", "\r", "\n", "\r\0"]), st.lists(st.integers(0, 99), max_size=8))
def test_cuts_change_nothing_in_a_view(lines: list[str], end: str, cuts: list[int]) -> None:
    """However type-ahead is cut while a view is watched, the same number of stops comes and the same lines are left."""
    typed = "".join(line + end for line in lines).encode()
    results = []
    for chunks in ([typed], cut(typed, cuts), [bytes([byte]) for byte in typed]):
        editor = opened(0)
        stops = 0
        for chunk in chunks:
            editor.feed(chunk)
            while editor.next_key() is Key.STOP:
                stops += 1
        results.append((stops, fed(editor, [b"tail\r"])[0]))

    assert results[0] == results[1] == results[2]
