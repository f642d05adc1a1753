"""The history and the walk through it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.terminal.editor import LineEditor
from callisto_telnetd.terminal.history import MAX_LINES, MAX_TEXT_BYTES, Browse, History


def held(*lines: str) -> History:
    """Return a history that was given ``lines``."""
    history = History()
    for line in lines:
        history.add(line)
    return history


def test_history_keeps_no_empty_line_and_no_repeat() -> None:
    """Empty lines and a line that repeats the one before are not kept."""
    assert list(held("a", "", "a", " ", "b", "a")) == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("backup verify sftp://bob:S3cret@host:22/a.zip", "backup verify sftp://bob:…@host:22/a.zip"),
        ("repair fill 'sftp://bob:S3/cr@t@host/a b.zip'", "repair fill 'sftp://bob:…@host/a b.zip'"),
        ("backup list ftps://host:2121/a@b", "backup list ftps://host:2121/a@b"),
        ("bakcup plan a.zip password=S3cret yes", "bakcup plan a.zip password=… yes"),
        ("x --target-password='S3 cret' yes", "x --target-password=… yes"),
        ("backup plan a.zip password", "backup plan a.zip password"),
    ],
)
def test_history_keeps_no_password(typed: str, kept: str) -> None:
    """Whatever command a line was meant for, a password in a URL or behind its word is not in it any more."""
    assert list(held(typed)) == [kept]


def test_history_forgets_the_oldest_first() -> None:
    """At most a hundred lines are kept, the newest."""
    assert list(held(*map(str, range(250)))) == [str(number) for number in range(250 - MAX_LINES, 250)]


@given(st.lists(st.text(st.sampled_from("aé世😀 "), max_size=3).map(lambda text: text * 1500), max_size=40))
def test_history_is_bounded(lines: list[str]) -> None:
    """Whatever is added, neither lines nor bytes grow past their limits."""
    history = held(*lines)

    assert len(history) <= MAX_LINES
    assert sum(len(line.encode()) for line in history) <= MAX_TEXT_BYTES


def test_browsing_begins_and_ends_at_the_half_typed_line() -> None:
    """Up and down stop at the oldest line and at the half-typed one."""
    browse = Browse(held("one", "two"))

    assert browse.next() is None
    assert [browse.previous("half"), browse.previous("two"), browse.previous("one, changed")] == ["two", "one", None]
    assert [browse.next(), browse.next(), browse.next()] == ["two", "half", None]
    assert [browse.previous("half and more"), browse.next()] == ["two", "half and more"]


def test_answers_are_not_remembered() -> None:
    """A line that answers a question is not kept where the caller says so."""
    editor = LineEditor()
    editor.feed(b"one\ranswer\rs\x7fanswer\rtwo\r")
    for remember in (True, False, False, True):
        editor.remember = remember
        assert editor.next_event() is not None

    assert list(editor.history) == ["one", "two"]


def test_newest_line_can_be_forgotten() -> None:
    """A line that holds a secret is forgotten with the room it took; an empty history stays empty."""
    history = held("one", "x" * MAX_TEXT_BYTES)
    assert len(history) == 1

    history.forget_last()
    history.forget_last()
    history.add("y" * MAX_TEXT_BYTES)

    assert list(history) == ["y" * MAX_TEXT_BYTES]
