"""How answers look at a door: clean lines for people, JSON for programs.

No line may look like a prompt to a script: none ends in ``>``, ``#``, ``$`` or ``%``, and none is a single word with a
colon or in brackets. What comes from outside and would is given a full stop at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from callisto_telnetd.menus.answers import Answer, Done, Fact, Line, Move
from callisto_telnetd.trace.sanitiser import clean

_PROMPT_ENDS = ">#$%"
_WORD_ENDS = ":]"
_SUSPECT_ENDS = frozenset(_PROMPT_ENDS + _WORD_ENDS + " ")


def line_of(text: str) -> str:
    """Return ``text`` as one clean line that no script takes for a prompt."""
    line = clean(text)
    shown = line.strip()  # blanks behind it hide no prompt: "# " is one
    last = shown[-1:]
    if last and (last in _PROMPT_ENDS or (last in _WORD_ENDS and " " not in shown)):
        return line.rstrip() + "."
    return line


def encode_lines(lines: Sequence[str]) -> bytes:
    """Return the lines as a door sends them: clean, none like a prompt, each ended by CR LF, in UTF-8."""
    together = "".join(lines)
    if not (together.isascii() and together.isprintable()) or any(line[-1:] in _SUSPECT_ENDS for line in lines):
        lines = [line_of(line) for line in lines]
    return ("\r\n".join(lines) + "\r\n").encode("utf-8", "replace")


def lines_of(answer: Answer) -> tuple[str, ...]:
    """Return the lines that tell an answer to people."""
    match answer:
        case Fact(_, lines):
            return lines
        case Done(text):
            return (f"OK {text}",)
        case Line(text):
            return (text,)
        case Move():
            return ()


def json_of(data: Any) -> str:
    """Return data as one line of JSON."""
    return orjson.dumps(data, default=str).decode()
