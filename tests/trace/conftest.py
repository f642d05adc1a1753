"""A hub on a clock that goes only when it is told to, and captures in a folder of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from callisto_telnetd.clock import Clock
from callisto_telnetd.trace.captures import Captures
from callisto_telnetd.trace.hub import Hub


class FakeTime:
    """The system's time, as the test has it."""

    def __init__(self) -> None:
        self.now = 1795425300.123456
        """2026-11-23 10:15:00.123456 in Zurich."""

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time_now() -> FakeTime:
    """The system's time, which stands still until a test moves it."""
    return FakeTime()


@pytest.fixture
def clock(time_now: FakeTime) -> Clock:
    """The appliance's clock, in Zurich."""
    return Clock(zone="Europe/Zurich", read=time_now)


@pytest.fixture
def hub(clock: Clock) -> Hub:
    """A hub with the usual bounds."""
    return Hub(clock)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of captures."""
    folder = tmp_path / "trace"
    folder.mkdir()
    return folder


@pytest.fixture
async def captures(hub: Hub, folder: Path) -> AsyncIterator[Captures]:
    """Captures that begin however full the disk is; what runs is stopped after the test."""
    captures = Captures(hub, folder, free_bytes=0)
    yield captures
    captures.close()
