"""Demonstration data: what is wanted, and the pieces that it comes in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

LOWEST_NUMBER, HIGHEST_NUMBER = 1000, 9999
"""Internal numbers have four digits."""
DEFAULT_SEED = 1


class Recording(NamedTuple):
    """A file of ``media/``: its name is the SHA-256 of its content."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted."""

    users: int
    messages: int
    calls: int
    seed: int = DEFAULT_SEED


@dataclass(slots=True)
class Batch:
    """Rows that are written in one transaction, by table and in order, and the recordings that they name."""

    rows: dict[str, list[tuple[object, ...]]] = field(default_factory=dict)
    recordings: list[Recording] = field(default_factory=list)

    def record(self, content: bytes) -> str:
        """Take a recording, and return its name."""
        name = hashlib.sha256(content).hexdigest()
        self.recordings.append(Recording(name, content))
        return name
