"""What is promised at once takes 0.3 s: the best of a few tries counts, so that a busy machine does not matter."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

AT_ONCE_S = 0.3
END_S = 0.5
"""What whoever ends waits for a target that owes an answer, or for its folder's disk."""
_TRIES = 4
"""What is slow by itself is slow each time; the first that is in time is enough, so that a test takes no longer."""


class _Tries:
    """How long each try took, in seconds."""

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._took: list[float] = []

    def __bool__(self) -> bool:
        return len(self._took) < _TRIES and not any(each < self._most_s for each in self._took)

    def add(self, took_s: float) -> None:
        """Count one."""
        self._took.append(took_s)

    def require_one(self) -> None:
        """Fail where none was in time."""
        assert min(self._took) < self._most_s


def require_at_once(attempt: Callable[[], float], waits_s: float = 0.0) -> None:
    """Try until one is in time, and fail after a few.

    Args:
        attempt: Returns how long it took, in seconds; what it asserts has to hold each time.
        waits_s: How long it waits on purpose, above what is at once.
    """
    tries = _Tries(AT_ONCE_S + waits_s)
    while tries:
        tries.add(attempt())
    tries.require_one()


async def await_at_once(attempt: Callable[[], Awaitable[float]], waits_s: float = 0.0) -> None:
    """Try as :func:`require_at_once` does, on the loop."""
    tries = _Tries(AT_ONCE_S + waits_s)
    while tries:
        tries.add(await attempt())
    tries.require_one()
