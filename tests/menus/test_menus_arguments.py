from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.errors import UsageError
from callisto_telnetd.menus.arguments import (
    parse_bytes,
    parse_duration,
    parse_whole,
    parse_words,
    require_count,
    take_options,
)


@pytest.mark.parametrize(
    ("line", "plain", "options"),
    [
        ("", [], {}),
        ("a b", ["a", "b"], {}),
        ("a level=info b", ["a", "b"], {"level": "info"}),
        ("LEVEL=Info", [], {"level": "Info"}),
        ("level=", [], {"level": ""}),
        ("level=a=b", [], {"level": "a=b"}),
        ("other=1", ["other=1"], {}),
        ("=x", ["=x"], {}),
        ("a note=why this level=info", ["a"], {"note": "why this", "level": "info"}),
        ("note=why x=1 so", [], {"note": "why x=1 so"}),
        ("note= the reason", [], {"note": "the reason"}),
        ("note=a level=info b", ["b"], {"note": "a", "level": "info"}),
        ("--level info a", ["a"], {"level": "info"}),
        ("--level=info a", ["a"], {"level": "info"}),
        ("--LEVEL Info", [], {"level": "Info"}),
        ("a --note why this --level=info", ["a"], {"note": "why this", "level": "info"}),
        ("--note=why this", [], {"note": "why this"}),
        ("--level=", [], {"level": ""}),
        ("--level", [], {"level": ""}),
        ("--level note=x", [], {"level": "note=x"}),
        ("--level --note", [], {"level": "--note"}),
        ("--other 1", ["--other", "1"], {}),
        ("--other=1", ["--other=1"], {}),
        ("-level info", ["-level", "info"], {}),
        ("level info", ["level", "info"], {}),
        ("---level=x", ["---level=x"], {}),
        ("--", ["--"], {}),
        ("note=a --other b", [], {"note": "a --other b"}),
    ],
)
def test_options_are_taken_off_the_words(line: str, plain: list[str], options: dict[str, str]) -> None:
    """Known keys are options wherever they stand, and a note goes on to the next option or the end."""
    assert take_options(line.split(), ("level", "note")) == (plain, options)


def test_an_option_stands_once() -> None:
    """A second one of the same key is refused, in any case of its letters."""
    for again in (["LEVEL=b"], ["--level=b"], ["--level", "b"]):
        with pytest.raises(UsageError, match=r"^level= stands twice$"):
            take_options(["level=a", *again], ("level",))


@given(st.sampled_from(["level", "note"]), st.text(max_size=10))
def test_the_three_forms_of_an_option_are_one(key: str, value: str) -> None:
    """``key=value``, ``--key=value`` and ``--key value`` say the same, whatever the value is."""
    plain = take_options([f"{key}={value}"], ("level", "note"))

    assert plain == ([], {key: value})
    assert take_options([f"--{key}={value}"], ("level", "note")) == plain
    assert take_options([f"--{key}", value], ("level", "note")) == plain


@given(st.lists(st.text(max_size=10), max_size=8))
def test_no_word_is_lost(words: list[str]) -> None:
    """Without options every word is a plain one, in order."""
    assert take_options(words, ()) == (words, {})


@pytest.mark.parametrize("count", [1, 2])
def test_as_many_words_as_the_usage_says(count: int) -> None:
    """The least and the most are both fine."""
    require_count(["x"] * count, 1, 2, "show NAME [MORE]")


@pytest.mark.parametrize("count", [0, 3])
def test_too_few_or_too_many_words_show_the_usage(count: int) -> None:
    """The refusal is the usage."""
    with pytest.raises(UsageError, match=r"^usage: show NAME \[MORE\]$"):
        require_count(["x"] * count, 1, 2, "show NAME [MORE]")


@pytest.mark.parametrize(("text", "number"), [("1", 1), ("100", 100), ("007", 7), ("50", 50)])
def test_a_whole_number_in_its_range(text: str, number: int) -> None:
    """Both ends of the range belong to it, and noughts before do not count."""
    assert parse_whole(text, "COUNT", 1, 100) == number


@pytest.mark.parametrize("text", ["", "0", "101", "-1", "+1", "1.0", " 1", "1_0", "x", "٣", "²", "9" * 5000])
def test_what_is_no_number_of_the_range_is_refused_in_words(text: str) -> None:
    """The refusal names the argument, what was typed and the range, in one bounded line."""
    with pytest.raises(UsageError) as refused:
        parse_whole(text, "COUNT", 1, 100)

    typed = repr(text if len(text) <= 64 else "9" * 61 + "...")
    assert str(refused.value) == f"COUNT: {typed} is not a whole number from 1 to 100"


@pytest.mark.parametrize(
    ("text", "seconds"), [("1", 1), ("30s", 30), ("5m", 300), ("1h", 3600), ("24H", 86_400), ("86400", 86_400)]
)
def test_a_duration_has_a_unit_or_is_seconds(text: str, seconds: float) -> None:
    """s, m and h are units, in any case; without one they are seconds."""
    assert parse_duration(text, "for") == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "s", "25h", "86401", "-5s", "1.5h", "5d", "5 s", "5ss", "²", "٣s", "1e3"]
)
def test_what_is_no_duration_is_refused_in_words(text: str) -> None:
    """The refusal shows how a time is written, and its range."""
    with pytest.raises(UsageError) as refused:
        parse_duration(text, "for")

    assert str(refused.value) == f"for: {text!r} is not a time such as 30s, 5m or 1h, from 1s to 24h"


@pytest.mark.parametrize(
    ("text", "size"), [("1024", 1024), ("1k", 1024), ("64K", 65_536), ("10M", 10 << 20), ("1g", 1 << 30)]
)
def test_a_size_has_a_unit_or_is_bytes(text: str, size: int) -> None:
    """k, M and G are steps of 1024, in any case; without one they are bytes."""
    assert parse_bytes(text, "size", 1024, 1 << 30) == size


@pytest.mark.parametrize("text", ["", "0", "1023", "2G", "M", "-1k", "1.5M", "1T", "1 k", "1kB", "٣k", "9" * 40])
def test_what_is_no_size_is_refused_in_words(text: str) -> None:
    """The refusal shows how a size is written, and its range."""
    with pytest.raises(UsageError) as refused:
        parse_bytes(text, "size", 1024, 1 << 30)

    allowed = "is not a size such as 64k, 10M or 1G, from 1024 to 1073741824 bytes"
    assert str(refused.value) == f"size: {text!r} {allowed}"


def test_one_of_some_words() -> None:
    """A word is taken in any case; another names those that are allowed."""
    assert parse_words("ON", "notices", ("on", "off")) == "on"
    with pytest.raises(UsageError, match=r"^notices: 'maybe' is not on or off$"):
        parse_words("maybe", "notices", ("on", "off"))


@given(st.text(max_size=20))
def test_any_text_is_a_value_or_a_usage_error(text: str) -> None:
    """No text raises anything but a usage error of one printable line, and what is taken is in its range."""
    for parse, most in ((parse_whole, 99), (parse_bytes, 1 << 40)):
        try:
            taken = parse(text, "n", 1, most)
        except UsageError as error:
            refused = str(error)
        else:
            refused = ""
            assert 1 <= taken <= most
        assert refused.isprintable()
