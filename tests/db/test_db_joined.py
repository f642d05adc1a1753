from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callisto_telnetd.db.column_kinds import Digest, Kind, Line, Moment, Text
from callisto_telnetd.db.joined import JOINABLE, all_fit
from tests.db.filling import digest, moment

KINDS: tuple[Kind, ...] = (Line(40), Line(30, shortest=1), Text(70), Moment(), Digest())
VALID = (
    "",
    "a caller",
    "Jörg",
    "x\ty\r\n",
    digest(1),
    digest(2),
    moment(0),
    moment(1),
    "2026-11-23T10:15:00+01:00",
    "2026-11-23T10:15:01-11:30",
    "2026-11-23T10:15:00.123456+01:00",
    "2026-11-23T10:15:00.123456-00:36:45",
    "2026-11-23T10:15:00-00:36:45",
    "2026-02-30T10:15:00+01:00",
    "2024-02-29T00:00:00-05:00",
    "1969-12-31T19:00:00-05:00",
)
CHARACTERS = st.sampled_from("\0\t\n\r\x1f~\x7f\x85ü\u2028a09:+-T")


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a valid text, or one with a byte or a character put in place of another, put in, or taken out."""
    text = draw(st.sampled_from(VALID)).encode()
    at = draw(st.integers(0, len(text)))
    put = draw(st.one_of(st.just(b""), st.binary(max_size=1), CHARACTERS.map(str.encode)))
    return draw(st.sampled_from((text, text[:at] + put + text[at + draw(st.integers(0, 2)) :])))


@settings(max_examples=400)
@given(kind=st.sampled_from(KINDS), values=st.lists(mutated(), min_size=1, max_size=4))
def test_many_that_fit_fit_one_by_one(kind: Kind, values: list[bytes]) -> None:
    """What is said to fit as a whole has no fault in any of its values."""
    if all_fit(kind, b"\n".join(values), len(values)):
        assert [kind.fault(value.decode("utf-8", "surrogateescape")) for value in values] == [None] * len(values)


@settings(max_examples=300)
@given(
    place=st.integers(0, 24),
    digits=st.text("0123456789", min_size=2, max_size=2),
    base=st.sampled_from(("2026-01-29T10:15:00+01:00", "2123-04-30T23:59:59-12:59", "2000-12-11T00:00:00+00:00")),
)
def test_times_are_told_to_the_last_digit(place: int, digits: str, base: str) -> None:
    """A time with two other digits fits as one of many just where it has no fault, but for rare years and days."""
    text = base[:place] + digits[: 25 - place] + base[place + 2 :]
    said = all_fit(Moment(), f"{base}\n{text}".encode(), 2)

    assert said == (Moment().fault(text) is None) or (not said and (text.startswith("19") or text[5:10] == "02-29"))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Line(20), ["", "caller", "+41 61 123 45 67", "Jörg Müller"]),
        (Line(20, shortest=1), ["repair begun", "x"]),
        (Line(5), [""]),
        (Text(10), ["", "two\r\nlines", "a\ttab", "żółć"]),
        (Moment(), ["2026-11-23T10:15:00+01:00", "2026-01-31T23:59:59-11:30"]),
        (
            Moment(),
            ["2026-11-23T10:15:00.123456+01:00", "2026-11-23T10:15:01+01:00", "2000-04-30T00:00:00.000001+00:00"],
        ),
        (Digest(), [digest(number) for number in range(5)]),
    ],
)
def test_what_is_usual_is_taken_as_a_whole(kind: Kind, values: list[str]) -> None:
    """The values that the product writes need no second look."""
    assert all_fit(kind, "\n".join(values).encode(), len(values))


def test_what_is_cut_within_a_character_is_not_mended_by_its_neighbour() -> None:
    """Two values that only together are UTF-8 do not fit."""
    whole = "é".encode()

    assert not any(all_fit(kind, whole[:1] + b"\n" + whole[1:], 2) for kind in (Line(9), Text(9)))


def test_each_kind_of_text_that_is_long_can_be_looked_at_as_one() -> None:
    """The columns that take the room of the large tables are of these kinds."""
    assert set(JOINABLE) == {Line, Text, Moment, Digest}
