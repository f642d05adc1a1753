"""The numbered records that a file or a viewer holds: all of them, or which are missing."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from bench.trace_sender import make_messages
from bench.wire import DEADLINE_S, MeasurementError

_TEXT = make_messages(1)[0].partition(b"]: ")[2]
_NUMBERED = re.compile(rb" ([0-9]{7}) %b\r?\n" % _TEXT[8:])
_POLL_S = 0.002
_TAIL_BYTES = 64 << 10


@dataclass(frozen=True)
class Count:
    """What became of the records 1 to ``sent``; a record counts only with the whole of its text."""

    records: int
    lost: int
    in_order: bool
    """Whether their numbers rise from each to the next: none came twice."""


def count_records(held: bytes, sent: int) -> Count:
    """Count the numbered records in the content of a file, or in what a viewer was shown."""
    numbers = [int(number) for number in _NUMBERED.findall(held)]
    in_order = all(first < second for first, second in pairwise(numbers))
    return Count(len(numbers), sent - len(set(numbers)), in_order)


def await_record(file: Path, number: int, deadline_s: float = DEADLINE_S) -> float:
    """Return the moment (monotonic) at which the file is seen to hold the record, within 2 ms.

    Raises:
        MeasurementError: it did not come in time.
    """
    text = b" %07d %b" % (number, _TEXT[8:])
    until = time.monotonic() + deadline_s
    with file.open("rb", buffering=0) as stream:
        while (now := time.monotonic()) < until:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - _TAIL_BYTES))
            if text in stream.read(_TAIL_BYTES):
                return now
            time.sleep(_POLL_S)
    raise MeasurementError(f"{file.name} does not hold record {number:,}")
