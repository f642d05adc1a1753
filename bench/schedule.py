"""How long the schedule takes for ten years of clocks that are set, switched off and moved to other zones."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from bench.report import Row
from bench.servers import CALLISTO, Bench
from tests.services.calendar_years import YEARS, legs, live


def measure_schedule(_bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Simulate ten years of one job, looked at whenever it asks to be, and yield the median of several lives."""
    seconds, looks = [], []
    for seed in range(3 if quick else 15):
        life = list(legs(seed))
        begun = time.perf_counter()
        journal = live(life)
        seconds.append(time.perf_counter() - begun)
        looks.append(seconds[-1] / journal.looks * 1e6)
    yield Row(f"schedule: {YEARS} years with every jump", "s", {CALLISTO: statistics.median(seconds)}, at_most=10)
    yield Row("schedule: one look at the clock", "µs", {CALLISTO: statistics.median(looks)})
