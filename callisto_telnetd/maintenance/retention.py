"""Retention: which of several backups nobody needs any more. Pure: it touches no file.

The day and the week of a backup are those of the appliance's clock when it was made, as its name has them; a week
begins on Monday (ISO 8601).
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

MOST_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Keep:
    """How many backups stay; where all are 0, every one does."""

    last: int = 0
    """The newest so many."""
    daily: int = 0
    """The newest of each of the last so many days that have one."""
    weekly: int = 0
    """The newest of each of the last so many weeks that have one."""

    @property
    def everything(self) -> bool:
        """Whether nothing is ever to go."""
        return not (self.last or self.daily or self.weekly)

    def describe(self) -> str:
        """Return it in words: ``the last 7, one a day for 14 days``."""
        if self.everything:
            return "all of them"
        parts = [
            f"the last {self.last}" if self.last else "",
            f"one a day for {self.daily} days" if self.daily else "",
            f"one a week for {self.weekly} weeks" if self.weekly else "",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class Dated:
    """A backup by its name."""

    name: str
    at: datetime
    """When it was made: the appliance's time, without a zone."""
    nth: int = 1
    """Which of that second."""


def surplus(backups: Iterable[Dated], keep: Keep, now: datetime, good: Collection[str]) -> list[Dated]:
    """Return the backups that may go, the oldest first.

    Args:
        backups: All that there are of one appliance, in one place.
        keep: How many stay.
        now: The appliance's time, without a zone; what claims to be later counts as older than all others, so that a
            clock that was wrong for a day does not make its backup the newest for ever.
        good: Names that never go: those of backups that were verified last.
    """
    if keep.everything:
        return []
    newest_first = sorted(backups, key=lambda each: (each.at <= now, each.at, each.nth), reverse=True)
    kept = {each.name for each in newest_first[: keep.last]} | set(good)
    kept |= _newest_of_each(newest_first, [each.at.date() for each in newest_first], keep.daily)
    kept |= _newest_of_each(newest_first, [each.at.isocalendar()[:2] for each in newest_first], keep.weekly)
    return [each for each in reversed(newest_first) if each.name not in kept]


def _newest_of_each(newest_first: Sequence[Dated], spans: Sequence[Hashable], most: int) -> set[str]:
    """Return the names of the newest backup of each of the first so many different spans."""
    first: dict[Hashable, str] = {}
    for each, span in zip(newest_first, spans, strict=True):
        if span not in first and len(first) < most:
            first[span] = each.name
    return set(first.values())
