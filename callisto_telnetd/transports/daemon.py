"""Calls that may hang for ever: a resolver, a mount whose server is gone.

Each runs in a daemon thread of its own: who waits leaves at the deadline, and neither the pool that other work needs
nor the exit of the process waits for that thread. Its late answer is dropped.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, cast

_T = TypeVar("_T")


async def in_daemon(call: Callable[[], _T], name: str) -> _T:
    """Run ``call`` in a thread of its own, and return or raise what it does; give the wait a deadline."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[_T] = loop.create_future()

    def settle(value: _T | None, error: Exception | None) -> None:
        if answer.done():
            return  # the deadline came first, or the caller was cancelled
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(cast("_T", value))

    def run() -> None:
        value, failure = None, None
        try:
            value = call()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised again where somebody waits
            failure = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any longer
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await answer
