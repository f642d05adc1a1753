"""How soon a service is started again: its pauses grow while its processes die early."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """How soon a service is started again, and what it may take to stop at the server's end; all in seconds."""

    settled_s: float = 30.0
    most_pause_s: float = 60.0
    most_early: int = 5
    slow_s: float = 600.0
    close_s: float = 1.5


class Tries:
    """The starts of a service whose processes have died early, one after the other."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self.early = 0
        """How many there were in a row."""
        self.told = False
        """Whether an administrator was told that it is given up."""

    def forget(self) -> None:
        """Begin anew: it has worked for a while, or was started by hand."""
        self.early, self.told = 0, False

    def count(self, worked_s: float) -> None:
        """Take note of a process that has ended by itself, having worked for so long."""
        if worked_s >= self._pace.settled_s:
            self.forget()
        else:
            self.early += 1

    @property
    def used_up(self) -> bool:
        """Whether it is failed, and tried again seldom."""
        return self.early >= self._pace.most_early

    def use_up(self) -> None:
        """Fail it at once."""
        self.early = max(self.early, self._pace.most_early)

    def pause_s(self, first_s: float) -> float:
        """Return the seconds until the next start: ``first_s``, doubled with each early end."""
        return max(first_s, min(first_s * 2.0 ** max(0, self.early - 1), self._pace.most_pause_s))
