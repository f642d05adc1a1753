"""Work on many files with two threads: a few batches ahead of whoever takes them, and no more than those in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

THREADS = 2
"""Hashing, deflating and AES let go of Python's lock; more threads would wait for it."""
_WINDOW = 2 * THREADS
BATCH_BYTES = 2 << 20
BATCH_FILES = 64

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def batches(items: Iterable[Item], size_of: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Yield the items in lists of at most :data:`BATCH_FILES`, that end with :data:`BATCH_BYTES`."""
    batch: list[Item] = []
    size = 0
    for item in items:
        batch.append(item)
        size += size_of(item)
        if size >= BATCH_BYTES or len(batch) == BATCH_FILES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def in_order(
    pool: ThreadPoolExecutor, items: Iterable[Item], work: Callable[[Item], Outcome]
) -> Iterator[tuple[Item, Outcome]]:
    """Yield each item with what became of it, in their order."""
    waiting: deque[tuple[Item, Future[Outcome]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) == _WINDOW:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        for _, future in waiting:
            future.cancel()
