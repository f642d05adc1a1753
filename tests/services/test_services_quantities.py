from __future__ import annotations

import re
from pathlib import Path

import pytest

import callisto_telnetd
from callisto_telnetd.quantities import counted, format_bytes, format_duration

PLURALS = (
    "records rows files sessions variables lines tables times accounts services jobs schedules messages users"
    " recordings changes entries tries copies backups checks pages"
)
FIXED_PLURAL = re.compile(rf"{{([^{{}}]+)}} (?:{'|'.join(PLURALS.split())})(?![=\w])")
NEVER_ONE = re.compile(
    r"[A-Z_]+(?::,)?|.*\.(?:parts|keep|tries)|(?:alike|unlike).*|count|initial|ahead|len\(result\.free\)"
)
"""Bounds that are constants, numbers that are only told from two on, and the pages of a damaged file."""


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (12595, "12.3 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1024**2, "1.0 MiB"),
        (1024**3 * 3 // 2, "1.5 GiB"),
        (1024**4 - 1, "1.0 TiB"),
        (5 * 1024**5, "5.0 PiB"),
        (2**64, "16.0 EiB"),
        (5000 * 1024**6, "5000.0 EiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    """A size has one decimal and the unit that keeps it below 1024."""
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "record", "0 records"),
        (1, "record", "1 record"),
        (2, "copy", "2 copies"),
        (1, "entry", "1 entry"),
        (2, "entry", "2 entries"),
        (1, "day", "1 day"),
        (2, "day", "2 days"),
        (2, "key", "2 keys"),
        (2, "convoy", "2 convoys"),
        (2, "index", "2 indexes"),
        (2, "match", "2 matches"),
        (2, "crash", "2 crashes"),
        (2, "try", "2 tries"),
        (2, "trace file", "2 trace files"),
        (3, "process", "3 processes"),
        (1234, "record", "1234 records"),
    ],
)
def test_a_count_has_its_noun(count: int, noun: str, text: str) -> None:
    """One is singular, none and many are plural."""
    assert counted(count, noun) == text


def test_a_large_count_may_be_grouped() -> None:
    """Thousands are parted by commas where that is asked for."""
    assert counted(1_234_567, "record", grouped=True) == "1,234,567 records"
    assert counted(1, "record", grouped=True) == "1 record"


def test_no_count_is_printed_with_a_fixed_plural() -> None:
    """Whatever is counted for people goes through ``counted``: nobody reads "1 records"."""
    package = Path(callisto_telnetd.__file__).parent
    found = [
        f"{file.relative_to(package)}: {match[0]}"
        for file in sorted(package.rglob("*.py"))
        for match in FIXED_PLURAL.finditer(file.read_text(encoding="utf-8"))
        if not NEVER_ONE.fullmatch(match[1])
    ]

    assert found == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (0, "0 s"),
        (0.99, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (303, "5 min 3 s"),
        (7200, "2 h"),
        (7259, "2 h"),
        (3 * 86400 + 4 * 3600 + 59 * 60, "3 d 4 h"),
        (400 * 86400, "400 d"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    """A duration shows its largest unit and the next below, the rest is cut off."""
    assert format_duration(seconds) == text
