"""What a command yields: lines for people, facts for people and programs, and the one line it ends with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any


@dataclass(frozen=True, slots=True)
class Line:
    """A line for people; programs that asked for JSON are not shown it."""

    text: str


@dataclass(frozen=True, slots=True)
class Fact:
    """Data for programs, and the lines that tell the same to people."""

    data: Mapping[str, Any]
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """The end of a command that did what it was asked: shown as ``OK`` and what was done, in a few words."""

    text: str


class Move(Enum):
    """Where the session goes next, after the command's last line."""

    UP = auto()
    LOGOUT = auto()


Answer = Line | Fact | Done | Move
