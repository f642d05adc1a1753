from __future__ import annotations

import pytest

from callisto_telnetd.quantities import format_bytes, format_duration


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
