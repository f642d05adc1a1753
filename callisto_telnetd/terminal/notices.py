"""The notices of one session: shown before its next prompt, or at once where the user wants that."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

_MOST_NOTICES = 20
"""Of those that wait, the newest are kept."""


class Notices:
    """Notices that wait for the next prompt."""

    __slots__ = ("_waiting", "at_once")

    def __init__(self) -> None:
        self.at_once = False
        """Whether the user wants them above the prompt that he is at."""
        self._waiting: deque[str] | None = None

    def add(self, text: str) -> None:
        """Have a notice shown before the next prompt."""
        if self._waiting is None:  # most sessions never have one
            self._waiting = deque(maxlen=_MOST_NOTICES)
        self._waiting.append(text)

    def take(self) -> Iterator[str]:
        """Yield the notices that wait, oldest first; they wait no more."""
        while self._waiting:
            yield self._waiting.popleft()
