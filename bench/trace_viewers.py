"""100 viewers of 5,000 records a second: whether each is shown all, and what it costs."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.report import LOG_WRITERS, Row, percentile
from bench.servers import CALLISTO, Bench
from bench.trace_audience import Audience, Viewer
from bench.trace_records import count_records
from bench.trace_sender import PROCESS, Sender
from bench.trace_session import end_live, follow_live, parse_saved, started_capture, tracing_server
from bench.wire import ask, close_all, log_in, log_in_many

_VIEWERS = 100
_RATE = 5_000
_EVERY = 33
"""One viewer in so many keeps every byte, and its file is read from end to end."""
_LATE_S = 30.0
_End = Callable[[], int]


def measure_trace_viewers(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Let 100 sessions run a trace of their own each, then 100 attach to one capture."""
    count = _RATE * (3 if quick else 10)
    for name, begin in (("of own captures", _begin_own), ("of one capture", _begin_attached)):
        with ExitStack() as stack:
            server, session = stack.enter_context(tracing_server(bench))
            other = stack.enter_context(log_in(server.port))
            sessions = log_in_many(server.port, _VIEWERS)
            stack.callback(close_all, sessions)
            viewers = [Viewer(each, keep=at % _EVERY == 0) for at, each in enumerate(sessions)]
            end = begin(stack, bench, session, viewers, count)
            sender = stack.enter_context(Sender(bench.trace_socket, count, _RATE))
            audience = Audience(viewers, other)
            began, cpu = time.monotonic(), server.cpu_s()
            audience.watch(sender, partial(_finished, audience, viewers, count), count / _RATE + _LATE_S)
            cores = (server.cpu_s() - cpu) / (audience.last_at - began)
            sender.result()
            not_shown, not_on_file = _not_shown(viewers, count), end()
        label = f"{_VIEWERS} viewers {name}, {_RATE:,} records/s"
        shown = {CALLISTO: float(not_shown)}
        yield Row(f"{label}: not shown of {_VIEWERS * count:,}", "records", shown, exactly=0, others=LOG_WRITERS)
        on_file = {CALLISTO: float(not_on_file)}
        yield Row(f"{label}: not on file", "records", on_file, exactly=0, others=LOG_WRITERS)
        yield Row(f"{label}: the server", "core", {CALLISTO: cores}, at_most=1, others=LOG_WRITERS)
        late = {CALLISTO: percentile(audience.took, 99) * 1e3}
        yield Row(f"{label}: others' commands, 99 of 100", "ms", late, at_most=50, others=LOG_WRITERS)


def _finished(audience: Audience, viewers: Sequence[Viewer], count: int) -> bool:
    return all(viewer.lines >= count for viewer in viewers) or audience.quiet()


def _begin_own(_stack: ExitStack, bench: Bench, session: socket.socket, viewers: Sequence[Viewer], count: int) -> _End:
    """Begin a capture in each session; the end returns how many records the files lack, all taken together."""
    for viewer in viewers:
        follow_live(viewer.session, f"trace {PROCESS} size=1G")

    def end() -> int:
        lacking = 0
        for viewer in viewers:
            saved = parse_saved(end_live(viewer.session))
            file = bench.captures / saved.file
            held = saved.records if viewer.kept is None else _held(file, count)
            lacking += max(0, count - held)
            ask(session, f"trace delete {saved.file} yes".encode())
        return lacking

    return end


def _begin_attached(
    stack: ExitStack, bench: Bench, session: socket.socket, viewers: Sequence[Viewer], count: int
) -> _End:
    """Begin one capture that every session watches; the end returns how many records its file lacks."""
    file = stack.enter_context(started_capture(bench, session, f"{PROCESS} size=1G", keep=False))
    for viewer in viewers:
        follow_live(viewer.session, f"trace attach {file.name}")

    def end() -> int:
        for viewer in viewers:
            end_live(viewer.session)
        return count - _held(file, count)

    return end


def _held(file: Path, count: int) -> int:
    return count - count_records(file.read_bytes(), count).lost


def _not_shown(viewers: Sequence[Viewer], count: int) -> int:
    """Return how many records the viewers were not shown, all taken together.

    All lines of these records are of one length, which a viewer whose bytes were kept tells; any other line, such as
    one that says what was not shown, shows in the number of bytes.
    """
    whole = [viewer for viewer in viewers if viewer.kept and not count_records(bytes(viewer.kept), count).lost]
    length = whole[0].bytes // count if whole else 0
    complete = sum(viewer.lines == count and viewer.bytes == count * length for viewer in viewers)
    if complete == len(viewers):
        return 0
    missing = (max(1, count - viewer.lines) for viewer in viewers if viewer.bytes != count * length)
    return max(1, sum(missing))
