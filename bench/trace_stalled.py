"""One viewer that never reads beside three that do: files complete, every record counted, nobody else delayed."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.report import LOG_WRITERS, Row, percentile
from bench.servers import CALLISTO, Bench, Server
from bench.trace_audience import Audience, Viewer
from bench.trace_records import await_record, count_records
from bench.trace_sender import PROCESS, TAG, Sender
from bench.trace_session import end_live, follow_live, parse_saved, started_capture, tracing_server
from bench.wire import DEADLINE_S, MeasurementError, ask, log_in

_READERS = 3
_RATE = 10_000
_SMALL_BUFFER = 4096
_CUT_OFF_TEXT = b"trace viewer cut off"
_CUT_OFF = re.compile(_CUT_OFF_TEXT + rb".*")
_SHOWN, _NOT_SHOWN = re.compile(rb"\bshown=([0-9]+)"), re.compile(rb"\bnot_shown=([0-9]+)")
_OMITTED = re.compile(rb"-- ([0-9,]+) records? not shown --")
_LEAST_S = 8
"""A viewer that stops reading is given 10 s by the server; some of them may be counted from before the first record."""
_LATE_S = 40.0


@dataclass(frozen=True)
class _CutOff:
    """What the server said of the viewer that it cut off."""

    at: float
    """When its line was seen (monotonic)."""
    shown: int
    not_shown: int


class _Look:
    """What is looked at four times a second meanwhile: the server's memory, and its line about the viewer."""

    def __init__(self, server: Server, errors: Path, audience: Audience) -> None:
        self.cut_off: _CutOff | None = None
        self._server, self._errors, self._audience = server, errors, audience
        self._from = errors.stat().st_size
        self._before = self._most = server.memory()

    @property
    def growth_mib(self) -> float:
        """Return by how much the server's memory has grown at the most."""
        return (self._most - self._before) / (1 << 20)

    def finished(self) -> bool:
        """Look, and say whether the viewer is cut off and the others have been shown what they will be shown."""
        self._most = max(self._most, self._server.memory())
        if self.cut_off is None:
            with self._errors.open("rb") as stream:
                stream.seek(self._from)
                line = _CUT_OFF.search(stream.read())
            if line:
                shown, not_shown = _SHOWN.search(line[0]), _NOT_SHOWN.search(line[0])
                if not shown or not not_shown:
                    raise MeasurementError(f"no figures: {line[0]!r}")
                self.cut_off = _CutOff(time.monotonic(), int(shown[1]), int(not_shown[1]))
        return self._audience.quiet() and self.cut_off is not None


def measure_trace_stalled(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Let four sessions run a trace of their own; one of them never reads."""
    seconds = 5 if quick else 20
    count = _RATE * seconds
    with ExitStack() as stack:
        server, session = stack.enter_context(tracing_server(bench))
        other = stack.enter_context(log_in(server.port))
        everything = stack.enter_context(started_capture(bench, session, "size=8G", keep=False))
        known = set(bench.captures.glob("*.log"))
        stalled = stack.enter_context(log_in(server.port, _SMALL_BUFFER))
        readers = [Viewer(stack.enter_context(log_in(server.port)), keep=True) for _ in range(_READERS)]
        for each in (stalled, *(reader.session for reader in readers)):
            follow_live(each, f"trace {PROCESS} size=1G")
        files = set(bench.captures.glob("*.log")) - known
        sender = stack.enter_context(Sender(bench.trace_socket, count, _RATE))
        audience = Audience(readers, other)
        look = _Look(server, bench.errors, audience)
        audience.watch(sender, look.finished, seconds + _LATE_S)
        cut_off, began = look.cut_off, sender.result().began
        assert cut_off is not None
        drained = _drained(stalled)
        _check(cut_off, drained, count)
        uncounted, ended = _end_readers(readers, count)
        for file in files:
            if file.name not in ended:  # the capture of the viewer that was cut off goes on
                await_record(file, count)
                ask(session, f"trace stop {file.name}".encode())
        lost = sum(count_records(file.read_bytes(), count).lost for file in files)
        taken = _taken_before_cut_off(everything, count)
        for file in files:
            ask(session, f"trace delete {file.name} yes".encode())
    inexact = abs(cut_off.shown + cut_off.not_shown - taken)
    label = f"one viewer of four never reads, {_RATE:,} records/s"
    yield _row(f"{label}: not on file of {len(files) * count:,}", "records", lost, exactly=0)
    yield _row(f"{label}: neither shown to a reader nor counted to it", "records", uncounted, exactly=0)
    yield _row(f"{label}: its shown + not shown, off those taken by then", "records", inexact, exactly=0)
    yield _row(f"{label}: not shown to it when it was cut off", "records", cut_off.not_shown)
    yield _row(f"{label}: cut off after", "s", cut_off.at - began)
    yield _row(f"{label}: others' commands, 99 of 100", "ms", percentile(audience.took, 99) * 1e3, at_most=50)
    yield _row(f"{label}: growth of the server's memory (USS)", "MiB", look.growth_mib, at_most=8)


def _row(measure: str, unit: str, value: float, *, at_most: float | None = None, exactly: float | None = None) -> Row:
    return Row(measure, unit, {CALLISTO: value}, at_most=at_most, exactly=exactly, others=LOG_WRITERS)


def _drained(stalled: socket.socket) -> int:
    """Return how many whole records the kernel still held for the viewer; its connection has to be closed.

    Raises:
        MeasurementError: it is open.
    """
    stalled.settimeout(DEADLINE_S / 10)
    came = bytearray()
    try:
        while part := stalled.recv(1 << 16):
            came += part
    except ConnectionError:
        pass
    except TimeoutError:
        raise MeasurementError("the viewer that was cut off still has its connection") from None
    return came.count(f" {TAG} ".encode())


def _check(cut_off: _CutOff, drained: int, count: int) -> None:
    """See that the server's figures fit what is known from outside.

    Raises:
        MeasurementError: they do not.
    """
    taken = cut_off.shown + cut_off.not_shown
    least = min(count, _RATE * _LEAST_S)
    if not least <= taken <= count:
        raise MeasurementError(f"{taken:,} records were shown and not shown; {least:,} to {count:,} are possible")
    if drained > cut_off.shown:
        raise MeasurementError(f"{drained:,} records reached the viewer, {cut_off.shown:,} are said to be shown")


def _end_readers(readers: Sequence[Viewer], count: int) -> tuple[int, set[str]]:
    """End the captures of those that read; return the records that no line accounts for, and the files' names.

    Raises:
        MeasurementError: the last line counts otherwise than the lines before it.
    """
    uncounted, files = 0, set()
    for reader in readers:
        answer = end_live(reader.session)
        shown = bytes(reader.kept or b"") + answer
        omitted = sum(int(number.replace(b",", b"")) for number in _OMITTED.findall(shown))
        saved = parse_saved(answer)
        if saved.not_shown != omitted or saved.records != count:
            raise MeasurementError(f"{saved} after {omitted:,} of {count:,} records said to be not shown")
        uncounted += abs(count_records(shown, count).lost - omitted)
        files.add(saved.file)
    return uncounted, files


def _taken_before_cut_off(everything: Path, count: int) -> int:
    """Return how many records stand before the server's line about the viewer in a capture without a filter."""
    before, line, _ = everything.read_bytes().partition(_CUT_OFF_TEXT)
    if not line:
        raise MeasurementError("the server's line about the viewer is not in the trace")
    return count_records(before, count).records
