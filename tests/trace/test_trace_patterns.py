from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.errors import UsageError
from callisto_telnetd.trace.patterns import Pattern, parse_pattern
from callisto_telnetd.trace.sanitiser import clean

MOST_S = 0.5
"""An expression that goes back takes longer than the age of the universe for these texts."""


@pytest.mark.parametrize(
    ("expression", "text", "found"),
    [
        ("timeout", "call timeout", True),
        ("timeout", "call Timeout", False),
        ("(?i)TIMEOUT", "call timeout", True),
        ("timeout|refused", "was refused", True),
        ("^call", "call lost", True),
        ("^lost", "call lost", False),
        ("lost$", "call lost", True),
        ("a.c", "abc", True),
        ("[0-9]{3}", "room 42", False),
        ("z.rich", "zürich", True),
        ("ü", "zürich", True),
        ("[ä-ü]", "zürich", True),
        (r"\d+ ms", "took 15 ms", True),
        (r"code=500\b", "failed code=500", True),
        ("", "", None),
    ],
)
def test_an_expression_is_looked_for_anywhere(expression: str, text: str, found: bool | None) -> None:
    """It is found anywhere in the text unless it is anchored, and a character of UTF-8 is one character."""
    if found is None:
        with pytest.raises(ValueError, match=r"is blank|more than 500"):
            Pattern(expression)
    else:
        assert Pattern(expression).found(text) is found


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("", "it is blank"),
        ("x" * 501, "it has 501 characters, more than 500"),
        ("(", "missing ): ("),
        (")", "unexpected ): )"),
        ("[", "missing ]: ["),
        ("a**", "bad repetition operator: **"),
        ("*", "no argument for repetition operator: *"),
        ("a{1001}", "invalid repetition size: {1001}"),
        ("\\", "trailing \\"),
        (r"\1", r"invalid escape sequence: \1"),
        (r"(a)\1", r"invalid escape sequence: \1"),
        ("(?=a)", "invalid perl operator: (?="),
        ("(?!a)", "invalid perl operator: (?!"),
        ("(?<=a)b", "invalid perl operator: (?<="),
        ("(?<!a)b", "invalid perl operator: (?<!"),
        ("((a{100}){100}){100}", "invalid repetition size"),
        ("(a{50}){50}", "invalid repetition size"),
        (r"\pL{900}", "pattern too large"),
        ("[a-zé-ÿ]{900}", "it is too large"),
        ("\ud800", "it is not UTF-8 text"),
    ],
)
def test_what_is_refused_says_why_and_what_is_allowed(expression: str, reason: str) -> None:
    """The refusal names the option, the expression, the reason and the syntax, in one printable, bounded line."""
    with pytest.raises(UsageError) as refused:
        parse_pattern(expression, "match")

    line = str(refused.value)
    assert line.startswith("match: ")
    assert f"is no regular expression: {reason}" in line
    assert line.endswith(
        "allowed: 1 to 500 characters in RE2's syntax, such as timeout|refused or (?i)error [0-9]+; "
        "no look-around or back references"
    )
    assert line.isprintable()
    assert len(line) < 400


def test_expressions_of_one_text_are_equal() -> None:
    """Two of the same text are the same key, so that outputs with equal filters share their blocks."""
    assert Pattern("a|b") == Pattern("a|b")
    assert hash(Pattern("a|b")) == hash(Pattern("a|b"))
    assert Pattern("a|b") != Pattern("b|a")
    assert Pattern("a") != "a"


@pytest.mark.parametrize(
    "expression",
    ["(a*)*b", "(a|aa)+$", "(a|a)*b", "(a+a+)+y", "(.*)(.*)(.*)(.*)[xyz]", "(a?){200}a{200}b", "(.*a){30}b"],
)
@pytest.mark.parametrize("text", ["a" * 8192, "a" * 8191 + "!", "aab" * 2730], ids=["a", "a!", "aab"])
def test_no_expression_runs_away(expression: str, text: str) -> None:
    """What makes an expression that goes back try every way comes to its end within moments."""
    pattern = Pattern(expression)
    began = time.thread_time()
    pattern.found(text)

    assert time.thread_time() - began < MOST_S


def test_only_the_beginning_of_a_text_is_looked_at() -> None:
    """Of a text the first 8,192 bytes count, also where they end within a character."""
    assert Pattern("needle").found("x" * 8186 + "needle")
    assert not Pattern("needle").found("x" * 8187 + "needle")
    assert Pattern("^é+").found("é" * 9000)
    assert Pattern("é").found("x" + "é" * 9000)


def test_an_expression_may_be_used_from_several_threads() -> None:
    """A capture is exported in a thread of its own while the live trace goes on."""
    pattern, found = Pattern("(x+x+)+y"), []
    threads = [threading.Thread(target=lambda: found.append(pattern.found("x" * 8000 + "y"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [True] * 4


@given(st.text(st.characters(exclude_categories=()), max_size=40) | st.text("()[]{}*+?|^$\\.a1,-:=<!", max_size=30))
def test_any_text_is_an_expression_or_is_refused(expression: str) -> None:
    """Whatever is typed, it is taken, and then finds or does not find, or is refused in one printable line."""
    refused = ""
    try:
        assert parse_pattern(expression, "on").found("some text") in {True, False}
    except UsageError as error:
        refused = str(error)

    assert refused.isprintable()


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=70))
def test_an_escaped_text_finds_itself(text: str) -> None:
    """A clean text with all signs of the syntax escaped is found in itself."""
    cleaned = clean(text)
    escaped = "".join(f"\\{each}" if each in r"\.+*?()|[]{}^$" else each for each in cleaned)

    assert Pattern(escaped).found(f"before {cleaned} behind")
