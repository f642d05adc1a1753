"""What a command yields: lines for people, facts for people and programs, and the one line it ends with.

Two more are for views: a :class:`~callisto_telnetd.trace.selection.Block` of records, formatted once for all who are
shown it, and a :class:`Screen` that takes the place of the one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, NamedTuple

from callisto_telnetd.trace.selection import Block

__all__ = ["Answer", "Block", "Done", "Fact", "Line", "Move", "Screen"]


class Line(NamedTuple):
    """A line for people; programs that asked for JSON are not shown it."""

    text: str


class Fact(NamedTuple):
    """Data for programs, and the lines that tell the same to people."""

    data: Mapping[str, Any]
    lines: tuple[str, ...]


def renamed(data: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """Return data of a worker or a file under the names that programs know: ``renamed(data, bytes="size_bytes")``."""
    return {names.get(key, key): value for key, value in data.items()}


class Screen(NamedTuple):
    """Lines that take the place of the screen shown last, on a terminal that can be redrawn."""

    lines: tuple[str, ...]


class Done(NamedTuple):
    """The end of a command that did what it was asked: shown as ``OK`` and what was done, in a few words."""

    text: str


class Move(Enum):
    """Where the session goes next, after the command's last line."""

    UP = auto()
    LOGOUT = auto()


Answer = Line | Fact | Block | Screen | Done | Move
