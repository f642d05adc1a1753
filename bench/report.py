"""What was measured: rows of numbers, as a table for people and as Markdown for the documentation."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path

import psutil

from bench.bare import LOOP
from bench.servers import BARE, CALLISTO, FILE_HANDLER, ROOT, RSYSLOGD, STREAMS

DOCUMENT = ROOT / "docs" / "benchmarks.md"
_BEGIN, _END = "<!-- bench: begin -->", "<!-- bench: end -->"
_BARE_SERVERS = (BARE, STREAMS)
LOG_WRITERS = (RSYSLOGD, FILE_HANDLER)
"""Who stands beside callisto-telnetd where the trace is measured."""


@dataclass(frozen=True)
class Row:
    """One measure of up to three; the ratio is callisto-telnetd's number to the first of the others'."""

    measure: str
    unit: str
    values: Mapping[str, float]
    ratio_at_most: float | None = None
    ratio_at_least: float | None = None
    at_most: float | None = None
    exactly: float | None = None
    against: str = ""
    """Another of the others, for the ratio."""
    others: tuple[str, ...] = _BARE_SERVERS
    """Who stands beside callisto-telnetd, in the order of the columns; rows of the same others make a table."""
    target: str = field(init=False)

    def __post_init__(self) -> None:
        other = f" of {self.against}" if self.against else ""
        targets = (
            (self.ratio_at_most, f"ratio ≤ {self.ratio_at_most}{other}"),
            (self.ratio_at_least, f"ratio ≥ {self.ratio_at_least}{other}"),
            (self.at_most, f"< {self.at_most:g} {self.unit}" if self.at_most is not None else ""),
            (self.exactly, f"{self.exactly:g}" if self.exactly is not None else ""),
        )
        object.__setattr__(self, "target", next((text for bound, text in targets if bound is not None), ""))

    @property
    def ratio(self) -> float | None:
        """Return callisto-telnetd's number divided by the other's."""
        other = self.values.get(self.against or self.others[0])
        return self.values[CALLISTO] / other if other else None

    @property
    def reached(self) -> bool | None:
        """Whether the target was reached; None where there is none."""
        ratio, value = self.ratio, self.values[CALLISTO]
        if self.ratio_at_most is not None:
            return ratio is not None and ratio <= self.ratio_at_most
        if self.ratio_at_least is not None:
            return ratio is not None and ratio >= self.ratio_at_least
        if self.exactly is not None:
            return value == self.exactly
        return value < self.at_most if self.at_most is not None else None

    def cells(self) -> tuple[str, ...]:
        """Return the row's text."""
        return (
            self.measure,
            self.unit,
            *(_number(self.values.get(name)) for name in (CALLISTO, *self.others)),
            _number(self.ratio),
            self.target,
            "" if self.reached is None else "yes" if self.reached else "NO",
        )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that ``percent`` of a hundred do not exceed."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def machine() -> str:
    """Return what the numbers depend on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory = psutil.virtual_memory().total / (1 << 30)
    return (
        f"{os.cpu_count()} cores ({model[1] if model else platform.machine()}), {memory:.0f} GiB, "
        f"{platform.system()}, Python {platform.python_version()}, loop: {LOOP}"
    )


def other_work() -> float:
    """Return how busy the machine is while nothing is measured, in percent."""
    return psutil.cpu_percent(0.5)


def load_warning(busy: Sequence[float]) -> str:
    """Return a line that says how busy other work kept the machine before each measure, blank where it did not."""
    if max(busy) < 10:
        return ""
    return (
        f"Warning: other work kept the machine {statistics.median(busy):.0f} % busy, at times {max(busy):.0f} %; "
        "the numbers are worse for it."
    )


def _tables(rows: Sequence[Row]) -> Iterator[list[tuple[str, ...]]]:
    """Yield the cells of each table, its head first."""
    for others, of_table in groupby(rows, key=attrgetter("others")):
        head = ("measure", "unit", CALLISTO, *others, "ratio", "target", "reached")
        yield [head, *(row.cells() for row in of_table)]


def table(rows: Sequence[Row]) -> str:
    """Return the rows in columns."""
    return "\n\n".join(_columns(cells) for cells in _tables(rows))


def _columns(cells: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(line[at]) for line in cells) for at in range(len(cells[0]))]
    left = {0, 1, len(cells[0]) - 2}
    return "\n".join(
        "  ".join(
            text.ljust(width) if at in left else text.rjust(width)
            for at, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def write_document(rows: Sequence[Row], warning: str) -> None:
    """Put the numbers between the document's markers."""
    lines = [f"Measured on: {machine()}.", *(["", warning] if warning else [])]
    for head, *cells in _tables(rows):
        lines += ["", f"| {' | '.join(head)} |", f"| --- | --- |{' ---: |' * (len(head) - 4)} --- | --- |"]
        lines += [f"| {' | '.join(row)} |" for row in cells]
    before, rest = DOCUMENT.read_text(encoding="utf-8").split(_BEGIN)
    after = rest.split(_END)[1]
    text = "\n".join(lines)
    DOCUMENT.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}", encoding="utf-8")
