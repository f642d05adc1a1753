"""How many records strangers make: of each event one a source and second, and those left out are counted.

Whatever a peer can cause before he has logged in goes into the log through here. Told one by one, refused connections
would push everything else out of what the trace holds, and fill its files.

- The first record of an event from a source is told at once. More of them within a second become one record at its end:
  the last of them, with ``left_out=N`` where there were others.
- At most ``MOST_SOURCES`` events of sources are remembered, each for its second. What comes beside them is told like
  the records of one source, with ``left_out_of="many sources"``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MOST_SOURCES = 64
SECOND_S = 1.0
_MANY = "many sources"


Tell = Callable[..., object]
"""Makes the record of an event and its fields: a method of a log."""


@dataclass(slots=True)
class _Second:
    """What a source has caused within a second after a record of it was told."""

    end: asyncio.TimerHandle
    count: int = 0
    last: Callable[[], object] | None = None
    """Tells the last of them."""


class RecordRate:
    """Tells what strangers cause, at a bounded rate; it works in the loop's thread."""

    def __init__(self, second_s: float = SECOND_S) -> None:
        self._second_s = second_s
        self._seconds: dict[tuple[str, str], _Second] = {}

    def tell(self, tell: Tell, event: str, *, of: str, **fields: Any) -> None:
        """Make a record of an event, now or at the end of the second that runs.

        Args:
            tell: Makes the record: ``log.info``.
            event: Its text, one of a few; never what a peer has sent.
            of: What counts as one source: an address, or a network.
            fields: The record's fields.
        """
        key = event, of
        if key not in self._seconds and len(self._seconds) >= MOST_SOURCES:
            key = event, _MANY
        second = self._seconds.get(key)
        if second is None:
            self._begin(key)
            tell(event, **fields)
            return
        second.count += 1
        left_out: dict[str, Any] = {"left_out": second.count - 1} if second.count > 1 else {}
        if left_out and key[1] is _MANY:
            left_out["left_out_of"] = _MANY
        second.last = lambda: tell(event, **fields, **left_out)

    def close(self) -> None:
        """Tell what is left now."""
        for key in list(self._seconds):
            self._end(key, again=False)

    def _begin(self, key: tuple[str, str]) -> None:
        end = asyncio.get_running_loop().call_later(self._second_s, self._end, key)
        self._seconds[key] = _Second(end)

    def _end(self, key: tuple[str, str], *, again: bool = True) -> None:
        second = self._seconds.pop(key)
        second.end.cancel()
        if second.last is not None:
            if again:
                self._begin(key)
            second.last()
