from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callisto_telnetd.trace.sanitiser import MAX_TEXT, clean, clean_bytes, decode

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
BLANKS = (
    "\u00a0\u00ad\u034f\u1160\u17b4\u180b\u2003\u200b\u200c\u2060\u2800\u3000\u3164\uffa0\ufff9\U000e0041\U000e0100"
)
"""Some of what is not seen: kinds of space, fillers, format characters, selectors, tags."""
ANY_TEXT = st.text(st.characters(), max_size=300) | st.text(
    st.sampled_from("a \x00\x07\x1b[\r\n\x7f\x85\x9b\u2028\u2029\ufeff\ud800\udfff\ufe0f\u200d☎🙂" + BIDI + BLANKS)
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
        ("a\u200bb\xadc", "a\\u200bb\\xadc"),
        ("\U000e0041\U000e0100", "\\U000e0041\\U000e0100"),
        ("10\u00a0%\u2800\u3164", "10\\xa0%\\u2800\\u3164"),
        ("a\ufe0fb\u200dc", "a\\ufe0fb\\u200dc"),
        ("❤\ufe0f 1\ufe0f\u20e3", "❤\ufe0f 1\ufe0f\u20e3"),
        ("\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f468\u200d\U0001f469\u200d\U0001f467"),
        ("\U0001f468\u200d", "\U0001f468\\u200d"),
    ],
)
def test_what_drives_a_terminal_or_is_not_seen_is_shown_escaped(text: str, cleaned: str) -> None:
    """Controls, what is not seen, separators and broken bytes become their code; letters and emoji stay."""
    assert clean(text) == cleaned


@pytest.mark.parametrize("mark", BIDI)
def test_no_bidirectional_control_gets_through(mark: str) -> None:
    """Every control of Unicode's TR 9 is escaped."""
    assert clean(f"a{mark}b") == f"a\\u{ord(mark):04x}b"


@given(ANY_TEXT)
def test_clean_text_is_one_harmless_line(text: str) -> None:
    """No text leaves anything behind that is not printable or not seen, but for the joints of an emoji."""
    cleaned = clean(text)

    assert all(letter.isprintable() for letter in cleaned.replace("\u200d", ""))
    assert not set(cleaned) & set(BIDI + BLANKS)
    assert len(cleaned.splitlines()) <= 1
    cleaned.encode("utf-8")


@given(ANY_TEXT)
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    """What is clean stays as it is."""
    assert clean(clean(text)) == clean(text)


PLAIN = st.characters(
    categories=["L", "N", "P", "S"],
    include_characters=" ",
    exclude_characters="\u115f\u1160\u2800\u3164\uffa0\U0001d159",
)


@given(st.text(PLAIN, max_size=300))
def test_plain_text_is_unchanged(text: str) -> None:
    """Letters, digits and signs of any script are kept as they are."""
    assert clean(text) == text


@given(ANY_TEXT, st.integers(0, 50))
def test_clean_text_is_bounded(text: str, limit: int) -> None:
    """At most the limit's characters of the text are kept, an escape is ten at most, and a cut text ends in … ."""
    cleaned = clean(text, limit)

    assert len(cleaned) <= 10 * limit + 1
    assert cleaned.endswith("…") or len(text) <= limit


def cleaned_slowly(text: str, limit: int = MAX_TEXT) -> str:
    """Return the clean text as the module's first paragraph says it, a character at a time."""
    kept = text[:limit] + ("…" if len(text) > limit else "")
    unsafe = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
    return "".join(
        (each.encode("ascii", "backslashreplace").decode() if each >= "\x80" else f"\\x{ord(each):02x}")
        if (each != " " and unicodedata.category(each) in unsafe) or each in BLANKS
        else each
        for each in kept
    )


@given(
    st.text("a \x00\x1f\x7f\x85é漢🙂\u2028\ud800" + BIDI + BLANKS)
    | st.text(st.characters(max_codepoint=127))
    | st.text(st.characters(max_codepoint=255))
)
@example("plain ASCII\x1f")
@example("plain ASCII\x7f")
@example("plain ASCII~ ")
def test_the_fast_way_cleans_as_the_slow_one(text: str) -> None:
    """Text of ASCII alone, which is looked at in a faster way, is cleaned like all other."""
    assert clean(text) == cleaned_slowly(text)
    assert clean(text, 5) == cleaned_slowly(text, 5)
    assert clean(text + "é") == cleaned_slowly(text + "é")


@given(st.binary(max_size=60) | ANY_TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b"x" * MAX_TEXT)
@example(b"x" * (MAX_TEXT + 1))
@example(b"plain\x7f")
def test_bytes_are_cleaned_as_their_text_is(data: bytes) -> None:
    """The short way for bytes of plain ASCII gives what decoding and cleaning do."""
    assert clean_bytes(data) == clean(decode(data))
    assert clean_bytes(data, 4) == clean(decode(data), 4)


@pytest.mark.parametrize("code", [*range(0x20), 0x7F, *range(0x80, 0xA0), 0x2028, 0x2029, 0xD800, 0xDFFF])
def test_every_control_is_escaped_alone_and_among_others(code: int) -> None:
    """C0, DEL, C1, both separators and surrogates show as their code, in ASCII text and in other."""
    shown = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

    assert clean(chr(code)) == shown
    assert clean(f"a{chr(code)}é") == f"a{shown}é"


def test_the_usual_bound() -> None:
    """A text of 8192 characters is whole, one of more is cut."""
    assert clean("x" * MAX_TEXT) == "x" * MAX_TEXT
    assert clean("x" * (MAX_TEXT + 1)) == "x" * MAX_TEXT + "…"
