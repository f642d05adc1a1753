"""The owner's command for what fails while nobody looks: a backup on a schedule, for now."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress

from callisto_telnetd.interpreter import free_signals, inherited_environment
from callisto_telnetd.services.child import require_answer
from callisto_telnetd.trace.logs import Log

_LIMIT_S = 60.0


class Alarm:
    """Runs the command, without a shell, for at most a minute; what it is about stands in its environment."""

    def __init__(self, words: Sequence[str], log: Log, limit_s: float = _LIMIT_S) -> None:
        """Make it of the command's words; without any, nothing is ever run."""
        self._words = tuple(words)
        self._log = log
        self._limit_s = limit_s

    async def raise_for(self, name: str, reason: str) -> None:
        """Run the command; that it fails is logged, and harms nothing.

        Args:
            name: What has failed, ``BACKUP_SCHEDULE`` in its environment.
            reason: Why, in one line: ``BACKUP_REASON``.
        """
        if not self._words:
            return
        environment = inherited_environment()
        free_signals()
        try:
            await require_answer(self._words[0], None, environment)
            process = await asyncio.create_subprocess_exec(
                *self._words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env={**environment, "BACKUP_SCHEDULE": name, "BACKUP_REASON": reason.replace("\0", " ")},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self._log.error("on_failure cannot be run", command=self._words[0], reason=str(error))
            return
        try:
            async with asyncio.timeout(self._limit_s):
                code = await process.wait()
        except TimeoutError:
            reason = f"not done within {self._limit_s:g} s"
            self._log.error("on_failure was ended", command=self._words[0], reason=reason)
        else:
            if code:
                self._log.error("on_failure failed", command=self._words[0], exit_code=code)
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):  # with all that it has started
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
