"""How answers look at a door: clean lines for people, JSON for programs.

No line may look like a prompt to a script: none ends in ``>``, ``#``, ``$`` or ``%``, and none is a single word with a
colon or in brackets. What comes from outside and would is given a full stop at its end.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import orjson

from callisto_telnetd.menus.answers import Answer, Done, Fact, Line, Move, Screen
from callisto_telnetd.terminal.half_line import width_of
from callisto_telnetd.terminal.wrapping import wrap
from callisto_telnetd.trace.sanitiser import clean, clean_json
from callisto_telnetd.trace.selection import Block

_PROMPT_ENDS = ">#$%＞＃＄％﹥﹟﹩﹪"  # noqa: RUF001 - wide and small ones look like a prompt's to a person
_WORD_ENDS = ":]：］"  # noqa: RUF001
_SUSPECT_ENDS = frozenset(_PROMPT_ENDS + _WORD_ENDS + " ")
"""How a line ends that may look like a prompt; blanks may hide one."""
_MAX_LINE = 64 << 10
"""Characters of a line that are shown: a record with its fields has at most about 50,000."""


def line_of(text: str) -> str:
    """Return ``text`` as one clean line that no script takes for a prompt."""
    line = clean(text, _MAX_LINE)
    return line.rstrip() + "." if _looks_like_prompt(line) else line


def _looks_like_prompt(line: str) -> bool:
    shown = line.strip()  # blanks behind it hide no prompt: "# " is one
    last = shown[-1:]
    return bool(last) and (last in _PROMPT_ENDS or (last in _WORD_ENDS and " " not in shown))


def wrapped(lines: Sequence[str], columns: int) -> list[str]:
    """Return the lines as a person sees them on a terminal of so many columns, broken between words."""
    return [row for line in lines for row in wrap(line_of(line), columns, _looks_like_prompt)]


def document_line(text: str) -> str:
    """Return a line of a document as it is, but clean: behind a command line no script waits for a prompt."""
    return clean(text, _MAX_LINE)


def encode_lines(lines: Sequence[str]) -> bytes:
    """Return the lines as a door sends them: clean, none like a prompt, each ended by CR LF, in UTF-8."""
    together = "".join(lines)
    plain = together.isascii() and together.isprintable()
    if not plain or not _SUSPECT_ENDS.isdisjoint([line[-1:] for line in lines]):
        lines = [line_of(line) for line in lines]
    return ("\r\n".join(lines) + "\r\n").encode("utf-8", "replace")


def encode_block(block: Block) -> bytes:
    """Return a block's lines as a door sends them; made once for all viewers, for its lines are clean already."""
    if block.encoded is None:
        lines = block.lines
        if any(map(_is_suspect, lines)):
            lines = [line_of(line) for line in lines]
        block.encoded = ("\r\n".join(lines) + "\r\n").encode()
    return block.encoded


def _is_suspect(line: str) -> bool:
    """Whether a line may look like a prompt, by its end; blanks are of any kind here (U+00A0)."""
    return (last := line[-1:]) in _SUSPECT_ENDS or last.isspace()


def redrawn(screen: Screen, before: int, columns: int) -> str:
    """Return a screen in place of one of ``before`` lines (ECMA-48: CUU, ED); no line is wider than the terminal."""
    up = f"\x1b[{before}A\x1b[J" if before else ""
    return up + "\r\n".join(_fitting(line_of(line), columns) for line in screen.lines)


def _fitting(line: str, columns: int) -> str:
    """Return as much of a line as the columns show."""
    if len(line) * 2 <= columns:
        return line
    room, end = columns, 0
    while end < len(line) and (room := room - width_of(line[end])) >= 0:
        end += 1
    return line[:end]


def lines_of(answer: Answer) -> tuple[str, ...]:
    """Return the lines that tell an answer to people."""
    match answer:
        case Fact(_, lines):
            return lines
        case Done(text):
            return (f"OK {text}",)
        case Line(text):
            return (text,)
        case Block():
            return tuple(answer.lines)
        case Screen(lines):
            return lines
        case Move():
            return ()


def json_of(data: Any) -> str:
    """Return data as one line of JSON, in which nothing is hidden; its values are as they are kept."""
    try:
        document = orjson.dumps(data, default=str).decode()
    except TypeError:  # a name whose bytes are no UTF-8
        document = json.dumps(data, default=str, ensure_ascii=True, separators=(",", ":"))
    return clean_json(document)
