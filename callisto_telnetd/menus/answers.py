"""What a command yields: lines for people, facts for people and programs, and the one line it ends with."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, NamedTuple


class Line(NamedTuple):
    """A line for people; programs that asked for JSON are not shown it."""

    text: str


class Fact(NamedTuple):
    """Data for programs, and the lines that tell the same to people."""

    data: Mapping[str, Any]
    lines: tuple[str, ...]


class Done(NamedTuple):
    """The end of a command that did what it was asked: shown as ``OK`` and what was done, in a few words."""

    text: str


class Move(Enum):
    """Where the session goes next, after the command's last line."""

    UP = auto()
    LOGOUT = auto()


Answer = Line | Fact | Done | Move
