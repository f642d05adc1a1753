"""The figures of the trace: what came in, what was written, what was not shown and by whom, what waits where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from callisto_telnetd.trace.captures import Captures
from callisto_telnetd.trace.datagrams import DatagramInput
from callisto_telnetd.trace.hub import Hub


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure, or one a label's value."""

    name: str
    """In the form of Prometheus, without the prefix and without ``_total``."""
    help: str
    kind: Literal["counter", "gauge"]
    """A counter only grows while the server runs."""
    value: int = 0
    label: str = ""
    """What :attr:`values` is about; blank where there is one value."""
    values: Mapping[str, int] = field(default_factory=dict)


def read_metrics(hub: Hub, captures: Captures, inputs: Sequence[DatagramInput]) -> list[Metric]:
    """Return the figures of this moment; reads numbers alone, so any thread may."""
    running = captures.running
    viewers = list(hub.viewers)
    by_input = dict(hub.by_input)
    return [
        Metric("records", "Records that came in, by input", "counter", label="input", values=by_input),
        Metric("records_written", "Records written to files of captures", "counter", captures.written),
        Metric("records_not_shown", "Records that viewers were not shown", "counter", hub.not_shown),
        Metric("viewers_cut_off", "Viewers that took nothing any more and were cut off", "counter", hub.cut_off),
        Metric(
            "datagrams_malformed",
            "Datagrams that were no syslog and were kept as text, by input",
            "counter",
            label="input",
            values={each.name: each.malformed for each in inputs},
        ),
        Metric(
            "datagrams_dropped",
            "Datagrams that the kernel dropped because nobody took them in time, by input",
            "counter",
            label="input",
            values={each.name: each.dropped for each in inputs},
        ),
        Metric(
            "input_faults",
            "Times that an input could not be opened or failed, by input",
            "counter",
            label="input",
            values={each.name: each.faults for each in inputs},
        ),
        Metric("inputs_held_back", "Times that inputs were held back for the files", "counter", hub.held_back),
        Metric("captures", "Captures that were started", "counter", captures.started),
        Metric(
            "captures_failed",
            "Captures that their disk, their folder or its budget has ended",
            "counter",
            captures.failed,
        ),
        Metric("files_deleted", "Files that the budget of all trace files has taken", "counter", captures.deleted),
        Metric("records_held", "Records held in memory", "gauge", hub.held_count),
        Metric("held_bytes", "Memory of the records held", "gauge", hub.held_bytes),
        Metric("captures_running", "Captures that run", "gauge", len(running)),
        Metric("viewers", "Viewers that look on", "gauge", len(viewers)),
        Metric(
            "queue_bytes",
            "What waits, by queue: to be written to files, and to be shown to all viewers",
            "gauge",
            label="queue",
            values={
                "writer": captures.writer.waiting_bytes,
                "viewers": sum(viewer.waiting_bytes for viewer in viewers),
            },
        ),
        Metric("queue_records", "Records that are not handed on to files and viewers yet", "gauge", hub.pending_count),
    ]
