"""What a record costs while nobody captures: the making and holding of it, and the way of a datagram to there."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from bench.report import LOG_WRITERS, Row
from bench.servers import CALLISTO, Bench
from bench.trace_sender import make_messages, send_all
from bench.trace_session import tracing_server
from callisto_telnetd.clock import Clock
from callisto_telnetd.trace.hub import Hub

_RECORDS = 20_000
_SETTLE_S = 0.2
_LEVEL = 20


def measure_trace_idle(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Publish in this process, then send to a server that captures nothing."""
    rounds = 3 if quick else 9
    texts = [message.decode().partition("]: ")[2] for message in make_messages(_RECORDS)]
    hub = Hub(Clock())
    published = statistics.median(_publish(hub, texts) for _ in range(rounds))
    yield Row("a record that nobody captures: Hub.publish", "µs", {CALLISTO: published}, at_most=10, others=LOG_WRITERS)
    costs = []
    with tracing_server(bench) as (server, _):
        for _ in range(rounds):
            cpu = server.cpu_s()
            send_all(bench.trace_socket, _RECORDS)
            time.sleep(_SETTLE_S)  # those that still wait in the socket
            costs.append((server.cpu_s() - cpu) / _RECORDS * 1e6)
    cost = {CALLISTO: statistics.median(costs)}
    yield Row("the server's processor time of a datagram that nobody captures", "µs", cost, others=LOG_WRITERS)


def _publish(hub: Hub, texts: list[str]) -> float:
    """Return the microseconds of one call."""
    publish = hub.publish
    start = time.perf_counter()
    for text in texts:
        publish(_LEVEL, text, {}, "bench", 4711)
    return (time.perf_counter() - start) / len(texts) * 1e6
