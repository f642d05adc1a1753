"""From the socket to the file with no viewer: records a second, and whether one is lost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.report import LOG_WRITERS, Row
from bench.servers import CALLISTO, Bench
from bench.trace_receivers import Receiver, callisto_receiver, file_handler, rsyslogd
from bench.trace_records import await_record, count_records
from bench.trace_sender import Sender
from bench.trace_session import tracing_server
from bench.wire import MeasurementError

_QUEUE = Path("/proc/sys/net/unix/max_dgram_qlen")
_SETTLE_S = 1.0


@dataclass
class _Rounds:
    """What one receiver did in its rounds."""

    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    lost: int = 0
    refused: int = 0


def measure_trace_file(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Send as fast as each receiver takes, one after the other, in several rounds."""
    rounds, count = (2, 50_000) if quick else (5, 300_000)
    done: dict[str, _Rounds] = {}
    with ExitStack() as stack:
        others = [stack.enter_context(run(bench.folder)) for run in (rsyslogd, file_handler)]
        server, session = stack.enter_context(tracing_server(bench))
        receivers = [callisto_receiver(bench, server, session), *others]
        for _ in range(rounds):
            for receiver in receivers:
                _round(receiver, count, done.setdefault(receiver.name, _Rounds()))
            receivers.append(receivers.pop(0))  # each is the first in turn
    queue = _QUEUE.read_text(encoding="ascii").strip()
    label = f"socket to file, no viewer, records of 200 bytes, {queue} datagrams may wait"
    yield Row(
        label, "/s", {n: statistics.median(d.rates) for n, d in done.items()}, ratio_at_least=1, others=LOG_WRITERS
    )
    lost = {name: float(each.lost) for name, each in done.items()}
    yield Row(f"the same: lost of {rounds * count:,}", "records", lost, exactly=0, others=LOG_WRITERS)
    refused = {name: float(each.refused) for name, each in done.items()}
    yield Row("the same: sends that the kernel refused", "records", refused, others=LOG_WRITERS)
    costs = {name: statistics.median(each.costs) for name, each in done.items()}
    yield Row("the same: processor time of one record", "µs", costs, others=LOG_WRITERS)


def _round(receiver: Receiver, count: int, done: _Rounds) -> None:
    """Send all, and count what the file holds in the end."""
    with receiver.fresh_file() as file, Sender(receiver.socket, count) as sender:
        cpu = receiver.cpu_s()
        sender.go()
        sent = sender.result()
        try:
            written = await_record(file, count)
        except MeasurementError:  # it is lost, and counted below
            written = time.monotonic()
        done.rates.append(count / (written - sent.began))
        done.costs.append((receiver.cpu_s() - cpu) / count * 1e6)
        held = count_records(file.read_bytes(), count)
        if held.lost:  # those behind the last one, where a receiver writes with more than one thread
            time.sleep(_SETTLE_S)
            held = count_records(file.read_bytes(), count)
        if receiver.name == CALLISTO and not held.in_order:
            raise MeasurementError("the capture's records are not in order")
    done.lost += held.lost
    done.refused += sent.refused
