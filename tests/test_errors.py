from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import callisto_telnetd
from callisto_telnetd.accounts.penalties import TooManyFailuresError
from callisto_telnetd.errors import (
    CallistoError,
    DeclinedError,
    HostKeyChangedError,
    HostKeyUnknownError,
    InvalidValueError,
    StaleValueError,
    UnknownVariableError,
    UsageError,
    listed,
    named,
    quoted,
)
from callisto_telnetd.web.appliance import WrongLoginError

HOSTILE = st.text(st.characters(exclude_categories=()), max_size=300) | st.just("\x1b[2J\r\n\u202e\u2028\udcff'\"\\")


def all_errors() -> list[type[CallistoError]]:
    """Return every error of the package; all modules are imported first."""
    for module in pkgutil.walk_packages(callisto_telnetd.__path__, "callisto_telnetd."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: list[type[CallistoError]] = [CallistoError]
    for error in found:
        found += [each for each in error.__subclasses__() if each not in found]
    return found


def make(error: type[CallistoError], text: str) -> CallistoError:
    """Make an error as the code does: what comes from outside is quoted, or given to the parts that quote it."""
    if error is UnknownVariableError:
        return UnknownVariableError(text, ("gWebTimeout",))
    if error is InvalidValueError:
        return InvalidValueError("gWebTimeout", text, "a whole number of minutes from 0 to 1440")
    if error is TooManyFailuresError:
        return TooManyFailuresError(12.5)
    if error is StaleValueError:
        return StaleValueError("gWebTimeout", text)
    if error is HostKeyUnknownError:
        return HostKeyUnknownError("nas:22", f"SHA256:{quoted(text)}", "ssh-ed25519 AAAA")
    if error is HostKeyChangedError:
        return HostKeyChangedError("nas:22", f"SHA256:{quoted(text)}", "SHA256:other")
    if error is WrongLoginError:
        return WrongLoginError(f"{quoted(text)} is not allowed", 30)
    return error(f"{quoted(text)} is not allowed")


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.__name__)
@given(text=HOSTILE)
def test_every_error_is_one_printable_line(error: type[CallistoError], text: str) -> None:
    """Whatever comes from outside, an error is one bounded line that drives no terminal."""
    line = str(make(error, text))

    assert line
    assert line.isprintable()
    assert len(line) < 1000


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.__name__)
def test_every_error_has_an_exit_code_and_a_meaning(error: type[CallistoError]) -> None:
    """A misuse exits with 2, a no with 0, all else with 1, and each error says what it stands for."""
    is_misuse = issubclass(error, UsageError) or error.__name__.startswith("Unknown")
    assert error.exit_code == (0 if error is DeclinedError else 2 if is_misuse else 1)
    assert error.__doc__


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            UnknownVariableError("gWebTimout", ["gWebTimeout"]),
            "no variable named 'gWebTimout'; did you mean gWebTimeout?",
        ),
        (UnknownVariableError("x"), "no variable named 'x'"),
        (
            InvalidValueError("gWebTimeout", "abc", "a whole number of minutes from 0 to 1440"),
            "gWebTimeout: 'abc' is not a whole number of minutes from 0 to 1440",
        ),
    ],
)
def test_what_an_error_says(error: CallistoError, line: str) -> None:
    """The line names what is wrong and what is allowed."""
    assert str(error) == line


@given(HOSTILE)
def test_quoted_text_is_bounded_and_printable(text: str) -> None:
    """At most 64 characters of a text are shown, and all of them are printable."""
    assert quoted(text).isprintable()
    assert len(quoted(text)) <= 64 * 10 + 2


def test_what_is_too_long_is_cut_and_says_so() -> None:
    """A text of 64 characters is whole, one of more ends in dots."""
    assert quoted("x" * 64) == f"'{'x' * 64}'"
    assert quoted("x" * 65) == f"'{'x' * 61}...'"


def test_a_path_is_named_whole() -> None:
    """A path is never cut, and a hostile one is one line."""
    assert named(Path("/" + "x" * 300)) == f"'/{'x' * 300}'"
    assert named(Path("/a\nb")) == r"'/a\nb'"


@pytest.mark.parametrize(
    ("words", "sentence"), [([], ""), (["a"], "a"), (["a", "b"], "a or b"), (["a", "b", "c"], "a, b or c")]
)
def test_words_are_listed_as_a_sentence_has_them(words: list[str], sentence: str) -> None:
    """A comma between all but the last two."""
    assert listed(words) == sentence
    assert listed(["a", "b"], "and") == "a and b"
