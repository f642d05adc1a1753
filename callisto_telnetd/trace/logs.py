"""The server's own log: a structlog pipeline that feeds the trace first, then writes one line an event to stderr.

``log.info("logged in", who="admin")`` becomes a :class:`~callisto_telnetd.trace.records.Record` in the hub whatever
its level; the line on stderr appears from the level of ``[log] level`` on, as readable text (the trace's own form) or
as JSON. What Python's ``logging`` says from WARNING on (asyncio, libraries) goes the same way.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Literal, TextIO

import orjson

from callisto_telnetd.interpreter import unavailable
from callisto_telnetd.record_rate import RecordRate
from callisto_telnetd.streams import LineWriter
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.records import LEVELS, Record

with unavailable("rich"):  # a tenth of a start; structlog would print tracebacks with it, and ours go into records
    import structlog
    from structlog.typing import EventDict, WrappedLogger

Log = structlog.typing.FilteringBoundLogger
_METHOD_LEVELS = {**LEVELS, "warn": 30, "exception": 40, "fatal": 50}
_MAX_TRACEBACK = 6000
"""Characters of a traceback that are kept: some fifty calls, less than a record's value may have."""


class _Printer:
    """Prints the lines; what the stream does not take (full disk, no reader) stops nobody: the trace has it."""

    def __init__(self, stream: TextIO | LineWriter) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):  # ValueError: the stream has been closed
            self._stream.write(f"{line}\n")
            self._stream.flush()

    log = debug = info = warn = warning = err = error = critical = exception = fatal = msg


def _keep_end(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Cut a long traceback at its beginning: the error itself stands at its end."""
    if len(text := event.get("exception", "")) > _MAX_TRACEBACK:
        event["exception"] = "…" + text[-_MAX_TRACEBACK:]
    return event


class _Publish:
    """Makes the event a record of the hub and hands the record down the pipeline."""

    def __init__(self, hub: Hub, least: int) -> None:
        self._hub = hub
        self._least = least

    def __call__(self, _logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        text = str(event.pop("event", ""))
        level = _METHOD_LEVELS.get(method, 20)
        record = self._hub.publish(level, text, event)
        if level < self._least:
            raise structlog.DropEvent
        return {"record": record}


def _renderer(hub: Hub, form: Literal["readable", "json"]) -> Callable[[WrappedLogger, str, EventDict], str]:
    def render(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
        record: Record = event["record"]
        if form == "json":
            return orjson.dumps(hub.formatter.as_dict(record)).decode()
        return hub.formatter.line(record)

    return render


_AllLevels = structlog.make_filtering_bound_logger(logging.DEBUG)


def _straight_to(hub: Hub) -> type[Log]:
    """Return a logger whose debug events, which no line on stderr tells, take the short way into the hub."""

    class _Straight(_AllLevels):  # type: ignore[misc, valid-type]  # structlog makes the class when it runs
        def debug(self, event: str, *_args: object, **fields: object) -> None:
            hub.publish(LEVELS["debug"], event, fields)

    return _Straight


def open_log(
    hub: Hub,
    level: str = "info",
    form: Literal["readable", "json"] = "readable",
    stream: TextIO | LineWriter | None = None,
) -> Log:
    """Return the server's logger: into ``hub`` always, onto ``stream`` (stderr) from ``level`` on."""
    least = LEVELS[level]
    stream = stream or sys.stderr
    log: Log = structlog.wrap_logger(
        _Printer(stream),
        processors=[
            structlog.processors.format_exc_info,
            _keep_end,
            _Publish(hub, least),
            _renderer(hub, form),
        ],
        wrapper_class=_straight_to(hub) if least > LEVELS["debug"] else _AllLevels,
    ).bind()
    loop = _running_loop()
    if isinstance(stream, LineWriter) and loop is not None:
        stream.on_flow = partial(_log_lost, log, loop)
    return log


def _log_lost(log: Log, loop: asyncio.AbstractEventLoop, lost: int) -> None:
    """Log, from the stream's thread, that lines found no room: it has some again."""
    text = "log lines not written: nobody read standard error"
    with suppress(RuntimeError):  # the loop has ended, and the trace with it
        loop.call_soon_threadsafe(partial(log.warning, text, count=lost))


def log_incident(log: Log, error: BaseException, **fields: object) -> str:
    """Log an error that nobody foresaw, with its traceback, and return the number that it is told by."""
    incident = secrets.token_hex(4)
    log.error("unexpected error", incident=incident, exc_info=error, **fields)
    return incident


class _Bridge(logging.Handler):
    """Hands what libraries say through ``logging`` to the server's log, in the loop's thread whatever theirs is."""

    def __init__(self, log: Log, rate: RecordRate) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._rate = rate
        self._loop, self._thread = _running_loop(), threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record with the name of its logger."""
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            fields["exc_info"] = record.exc_info
        level = min(max(record.levelno // 10 * 10, logging.WARNING), logging.CRITICAL)
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):  # the message does not fit its arguments
            text = str(record.msg)

        def tell(_message: str, **fields: Any) -> None:
            self._log.log(level, text, **fields)

        if self._loop is None:
            tell(text, **fields)
            return
        told = partial(self._rate.tell, tell, str(record.msg), of=record.name, **fields)
        if threading.get_ident() == self._thread:
            told()
            return
        with suppress(RuntimeError):  # the loop has ended, and the trace with it
            self._loop.call_soon_threadsafe(told)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def bridge_libraries(log: Log, rate: RecordRate) -> None:
    """Send the libraries' warnings to ``log``; telnetlib3 only from ERROR on, its TRACE level prints passwords.

    A peer may be what a library warns of, again and again: each message of a library is told at that rate.
    """
    root = logging.getLogger()
    root.handlers[:] = [_Bridge(log, rate)]
    root.setLevel(logging.WARNING)
    logging.getLogger("telnetlib3").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)
