"""Regular expressions of users: RE2's, which look at a text once and never go back, so none can run away.

What RE2 leaves out of Perl's (looking around, back references) is refused by name. The work a character may cost is
bounded too: by the size of the program that the expression becomes, and by how much of a text is looked at. That may
still be 0.1 s (``[ab]*a[ab]{900}c`` on 8 KiB of a and b, where RE2's automaton outgrows its memory): an expression that
goes on like this is given up, and whoever asked for it is told.
"""

from __future__ import annotations

import time

import re2

from callisto_telnetd.errors import TraceError, UsageError, quoted
from callisto_telnetd.secret_text import words_without_secrets

_MAX_LENGTH = 500
_MAX_PROGRAM = 2000
"""Steps of the expression's program: the most work that one character can cost."""
_MAX_MEMORY = 2 << 20
_MAX_LOOKED_AT = 8192
_SLOW_S = 0.002
"""What a search must take to be slow; it takes a hundredth of that on long texts."""
_MOST_SLOW_S = 0.1
"""Slow searches together, after which an expression is given up."""
_SHARE = 0.1
"""Of the time, that slow searches may take for ever."""
_ALLOWED = (
    f"1 to {_MAX_LENGTH} characters in RE2's syntax, such as timeout|refused or (?i)error [0-9]+; "
    "no look-around or back references"
)


class Pattern:
    """An expression that is looked for anywhere in a text; two of the same text are the same."""

    def __init__(self, text: str) -> None:
        """Take the expression in RE2's syntax; ``(?i)`` in front of it looks at no case.

        Raises:
            ValueError: it is none, or too large; says why.
        """
        if not text:
            raise ValueError("it is blank")
        if len(text) > _MAX_LENGTH:
            raise ValueError(f"it has {len(text)} characters, more than {_MAX_LENGTH}")
        self.text = text
        self._slow_s = self._slow_at = 0.0
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        options.max_mem = _MAX_MEMORY
        try:
            self._expression = re2.compile(text.encode(), options)
        except UnicodeEncodeError:
            raise ValueError("it is not UTF-8 text") from None
        except re2.error as error:
            raise ValueError(_reason(error, text)) from None
        if self._expression.programsize > _MAX_PROGRAM:
            raise ValueError("it is too large")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def found(self, text: str) -> bool:
        """Return whether it matches anywhere in the first 8,192 bytes of a clean text.

        Raises:
            TraceError: it takes too long, again and again.
        """
        data = text.encode()[:_MAX_LOOKED_AT]
        began = time.perf_counter()
        found = self._expression.search(data) is not None
        if time.perf_counter() - began > _SLOW_S:
            self._weigh(data)
        return found

    def _weigh(self, data: bytes) -> None:
        """Look again by the thread's own clock: it may have been a busy machine that took the time."""
        began = time.thread_time()
        self._expression.search(data)
        took_s, now = time.thread_time() - began, time.monotonic()
        if took_s > _SLOW_S:
            self._slow_s = max(0.0, self._slow_s - (now - self._slow_at) * _SHARE) + took_s
            self._slow_at = now
            if self._slow_s > _MOST_SLOW_S:
                raise TraceError(
                    f"the expression {quoted(self.text)} takes too long on what is said; use a simpler one"
                )


def _reason(error: re2.error, typed: str) -> str:
    reason = error.args[0] if error.args else "it cannot be read"
    text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
    if words_without_secrets([typed]) != [typed]:
        text = text.partition(":")[0]  # behind it stands a part of what was typed
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def parse_pattern(text: str, name: str) -> Pattern:
    """Return the expression of an option.

    Raises:
        UsageError: names the option, what is wrong and what is allowed.
    """
    try:
        return Pattern(text)
    except ValueError as error:
        raise UsageError(f"{name}: {quoted(text)} is no regular expression: {error}; allowed: {_ALLOWED}") from None
