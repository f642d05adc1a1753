from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.trace.sanitiser import MAX_TEXT, clean

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
ANY_TEXT = st.text(st.characters(), max_size=300) | st.text(
    st.sampled_from("a \x00\x07\x1b[\r\n\x7f\x85\x9b\u2028\u2029\ufeff\ud800\udfff" + BIDI)
)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        ("plain text: 100 %", "plain text: 100 %"),
        ("Zürich 世界 🙂 e\u0301", "Zürich 世界 🙂 e\u0301"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\r\nb\tc", "a\\x0d\\x0ab\\x09c"),
        ("\x00\x7f", "\\x00\\x7f"),
        ("\x9b31m\x85", "\\x9b31m\\x85"),
        ("safe\u202etxt.exe", "safe\\u202etxt.exe"),
        ("one\u2028two\u2029", "one\\u2028two\\u2029"),
        ("\ufeffbom", "\\ufeffbom"),
        ("byte \udcff", "byte \\udcff"),
        ("C:\\new", "C:\\new"),
    ],
)
def test_what_drives_a_terminal_is_shown_escaped(text: str, cleaned: str) -> None:
    """Controls, bidirectional marks, separators and broken bytes become their code; all the rest stays."""
    assert clean(text) == cleaned


@pytest.mark.parametrize("mark", BIDI)
def test_no_bidirectional_control_gets_through(mark: str) -> None:
    """Every control of Unicode's TR 9 is escaped."""
    assert clean(f"a{mark}b") == f"a\\u{ord(mark):04x}b"


@given(ANY_TEXT)
def test_clean_text_is_one_harmless_line(text: str) -> None:
    """No text leaves a control, a surrogate, a separator of lines or a bidirectional mark behind."""
    cleaned = clean(text)

    assert {unicodedata.category(letter) for letter in cleaned}.isdisjoint({"Cc", "Cs", "Zl", "Zp"})
    assert not set(cleaned) & set(BIDI)
    assert len(cleaned.splitlines()) <= 1
    cleaned.encode("utf-8")


@given(ANY_TEXT)
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    """What is clean stays as it is."""
    assert clean(clean(text)) == clean(text)


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=300))
def test_plain_text_is_unchanged(text: str) -> None:
    """Letters, digits, signs and blanks of any script are kept as they are."""
    assert clean(text) == text


@given(ANY_TEXT, st.integers(0, 50))
def test_clean_text_is_bounded(text: str, limit: int) -> None:
    """At most the limit's characters of the text are kept, an escape is six at most, and a cut text ends in … ."""
    cleaned = clean(text, limit)

    assert len(cleaned) <= 6 * limit + 1
    assert cleaned.endswith("…") or len(text) <= limit


def test_the_usual_bound() -> None:
    """A text of 8192 characters is whole, one of more is cut."""
    assert clean("x" * MAX_TEXT) == "x" * MAX_TEXT
    assert clean("x" * (MAX_TEXT + 1)) == "x" * MAX_TEXT + "…"
