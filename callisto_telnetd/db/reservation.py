"""Who alone may change the database meanwhile: a file that may yet give way again takes no change of anybody else's.

Others may keep locks of their rooms while their changes wait: the owner must need none of those.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_MINE: ContextVar[object | None] = ContextVar("_MINE", default=None)
"""What the running task, or the one that has begun it, has reserved."""


class Reservation:
    """A reservation of all changes, or of none."""

    def __init__(self) -> None:
        self._owner: object | None = None
        self._what = ""
        self.ended = asyncio.Event()
        """Set where nothing is reserved."""
        self.ended.set()

    @contextmanager
    def held(self, what: str) -> Iterator[None]:
        """Reserve while the block runs, for it and the tasks that it begins; ``what`` is done, as in ``restored``."""
        mine = object()
        token = _MINE.set(mine)
        self._owner, self._what = mine, what
        self.ended.clear()
        try:
            yield
        finally:
            self._owner = None
            self.ended.set()
            _MINE.reset(token)

    @property
    def is_mine(self) -> bool:
        """Whether the running task has it."""
        return self._owner is not None and _MINE.get() is self._owner

    @property
    def of_others(self) -> str:
        """What somebody else has it for; blank where nobody else has."""
        return "" if self._owner is None or self.is_mine else self._what
