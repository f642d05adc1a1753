"""A monotonic clock in the hand of a test."""

from __future__ import annotations


class FakeClock:
    """A monotonic clock that goes only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
