"""Keys that end a live view, and Ctrl-C while a command runs."""

import pytest

from callisto_telnetd.terminal.editor import Event, Interrupt, Line, LineEditor
from callisto_telnetd.terminal.keys import Key


def watched(typed: bytes, step: int) -> tuple[int, list[str]]:
    """View until STOP, then read lines; return how many bytes were fed at STOP (-1 for none) and the lines."""
    editor = LineEditor()
    stopped, events = -1, list[Event]()
    for at in range(0, len(typed), step):
        editor.feed(typed[at : at + step])
        if stopped < 0 and editor.next_key() is Key.STOP:
            stopped = min(at + step, len(typed))
        if stopped >= 0:
            events += iter(editor.next_event, None)
    if stopped < 0:
        events += iter(editor.next_event, None)
    return stopped, [event.text if isinstance(event, Line) else type(event).__name__ for event in events]


@pytest.mark.parametrize("step", [1, 2, 99])
@pytest.mark.parametrize(
    ("typed", "stop", "left"),
    [
        (b"\r\n", 1, []),
        (b"\r\0", 1, []),
        (b"\n", 1, []),
        (b"q", 1, []),
        (b"Q\r\n", 1, []),
        (b"q\r\0", 1, []),
        (b"q\n\n", 1, [""]),
        (b"q\r\r", 1, [""]),
        (b"q\r\n\r\n", 1, [""]),
        (b"quit\r", 1, ["uit"]),
        (b"\x03", 1, []),
        (b"abc", -1, []),
        (b"show\r\n", -1, ["show"]),
        (b"aq\r\nshow q\n", -1, ["aq", "show q"]),
        (b"show\r\n\r\n", 7, ["show"]),
        (b"show\r\r", 6, ["show"]),
        (b"show\r\n\r\nlist\r\n", 7, ["show", "list"]),
        (b"show\r\r\nlist\r", 6, ["show", "list"]),
        (b"show\r\r\n\n", 6, ["show", ""]),
        (b"show\rq\nlist\r", 6, ["show", "list"]),
        (b"show\rq\r\n\r\n", 6, ["show", ""]),
        (b"show\n\n\n", 6, ["show", ""]),
        (b"show\r\n\x03list\r", 7, ["list"]),
        (b"sho\x03w\r", 4, ["w"]),
        (b"\0\0\x1b[A\x1b[1;5D\x0c\r\nshow\r", 13, ["show"]),
        (b"\x1b[A\x1bOBq\r\nshow\r", 7, ["show"]),
        (b"\x1b]0;quit\x07\x1bq\x1b(qq\rshow\r", 15, ["show"]),
        (b"\x1bPq\r\nshow\r", 4, ["show"]),
        (b"\x04\rshow\r", 2, ["EndOfInput", "show"]),
        ("é\r\r".encode(), 4, ["é"]),
        (b"x" * 5000 + b"\r\r", 5002, ["LineTooLong"]),
    ],
)
def test_what_stops_a_view(typed: bytes, stop: int, left: list[str], step: int) -> None:
    """Enter or ``q`` on an empty line and Ctrl-C stop a view; other lines are left for the prompt, in order."""
    stopped, lines = watched(typed, step)

    assert lines == left
    assert stopped == (stop if stop < 0 else min(-(-stop // step) * step, len(typed)))


def test_half_typed_line_is_continued_in_a_view() -> None:
    """What was half-typed before a view began belongs to its line: its end is no empty line."""
    editor = LineEditor()
    editor.feed(b"sho")
    assert editor.next_event() is None
    editor.feed(b"\r")

    assert editor.next_key() is None
    assert editor.next_event() == Line("sho")


def test_interrupt_in_a_view_drops_the_half_typed_line() -> None:
    """Ctrl-C takes everything before it, also what the editor holds already."""
    editor = LineEditor()
    editor.feed(b"sho")
    assert editor.next_event() is None
    editor.feed(b"w\r\x03")

    assert editor.next_key() is Key.STOP
    assert (editor.text, editor.pending_bytes) == ("", 0)


def test_interrupt_is_seen_behind_type_ahead() -> None:
    """While a command runs, Ctrl-C is found and taken with all that stands before it, and what follows stays."""
    editor = LineEditor()
    editor.feed(b"one\r\ntwo")
    assert editor.interrupt_pending() is False
    assert editor.take_interrupt() is False

    editor.feed(b"\x03three\x03four\r")

    assert editor.interrupt_pending() is True
    assert editor.take_interrupt() is True
    assert editor.interrupt_pending() is False
    assert list(iter(editor.next_event, None)) == [Line("four")]


def test_interrupt_in_order_at_a_prompt() -> None:
    """At a prompt a Ctrl-C is an event in its place, and lines typed before it are taken first."""
    editor = LineEditor()
    editor.feed(b"one\rtwo\x03three\r")

    assert list(iter(editor.next_event, None)) == [Line("one"), Interrupt(), Line("three")]


def test_lines_between_views_stay_whole() -> None:
    """A view that ends by itself leaves what was typed meanwhile to the prompt, however much was scanned."""
    editor = LineEditor()
    editor.feed(b"x\r" * 4000)
    assert editor.next_event() == Line("x")
    assert editor.next_key() is None
    editor.feed(b"y\r" * 4000)
    assert editor.next_key() is None
    for _ in range(6000):
        assert isinstance(editor.next_event(), Line)
    editor.feed(b"\r")

    assert editor.next_key() is Key.STOP
    assert list(iter(editor.next_event, None)) == [Line("y")] * 1999
