from __future__ import annotations

import sys
import tracemalloc

import psutil
import pytest

from callisto_telnetd.accounts import penalties as table
from callisto_telnetd.accounts.penalties import (
    MOST_TRIES,
    PENALTIES_S,
    WINDOW_S,
    Penalties,
    TooManyFailuresError,
)
from tests.accounts.monotonic import FakeClock

GUESSER = "192.0.2.66"
MOST_SOURCES = 65_536
MOST_BYTES = 24 << 20


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


def test_penalties_grow_with_each_failure(clock: FakeClock) -> None:
    """Four failures are free; then the source waits 30, 60, 120 and 240 seconds, and never less again."""
    penalties = Penalties(clock)
    waited = []
    for _ in range(12):
        penalties.failed(GUESSER)
        waited.append(penalties.wait_s(GUESSER))
        clock.now += penalties.wait_s(GUESSER)

    assert waited[:9] == list(PENALTIES_S)
    assert min(waited[8:]) == PENALTIES_S[-1]


def test_a_refusal_says_how_long_to_the_second(clock: FakeClock) -> None:
    """The line has the seconds that are left, rounded up, and the source is free exactly when they are over."""
    penalties = Penalties(clock)
    for _ in range(5):
        penalties.failed(GUESSER)

    clock.now += 0.5
    with pytest.raises(TooManyFailuresError, match=r"^Too many failures\. Try again in 30 s\.$"):
        penalties.require_free(GUESSER)
    clock.now += 28.6
    with pytest.raises(TooManyFailuresError, match=r"Try again in 1 s\."):
        penalties.require_free(GUESSER)
    clock.now += 0.9
    penalties.require_free(GUESSER)


def test_a_penalty_falls_on_its_source_alone(clock: FakeClock) -> None:
    """A guesser shuts out himself; an administrator elsewhere may try at once."""
    penalties = Penalties(clock)
    for _ in range(9):
        penalties.failed(GUESSER)

    penalties.require_free("192.0.2.7")
    assert penalties.wait_s(GUESSER) == 300


def test_a_success_ends_the_growth_but_not_the_count(clock: FakeClock) -> None:
    """Who knows one password cannot use it to guess another: the tenth failure in five minutes still ends it."""
    penalties = Penalties(clock)
    for number in range(MOST_TRIES):
        assert penalties.wait_s(GUESSER) == 0, number
        penalties.failed(GUESSER)
        penalties.succeeded(GUESSER)
        clock.now += 10

    assert penalties.wait_s(GUESSER) == WINDOW_S - 100


def test_old_failures_are_forgiven(clock: FakeClock) -> None:
    """After ten quiet minutes the growth begins anew."""
    penalties = Penalties(clock)
    for _ in range(4):
        penalties.failed(GUESSER)
    clock.now += 601
    penalties.failed(GUESSER)

    assert penalties.wait_s(GUESSER) == 0


def test_the_table_of_sources_is_bounded(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of sources pushes out those that failed longest ago, never the one that failed last."""
    monkeypatch.setattr(table, "_MOST_SOURCES", 100)
    penalties = Penalties(clock)
    for number in range(1000):
        penalties.failed(f"198.51.100.{number}")
        for _ in range(5):
            penalties.failed(GUESSER)

    assert len(penalties._sources) == 100
    assert "198.51.100.999" in penalties._sources
    assert "198.51.100.0" not in penalties._sources
    assert penalties.wait_s(GUESSER) > 0


def _sources() -> list[str]:
    """Return more sources than the table holds, with names as long as they come."""
    return [f"2001:db8:{0x1000 + each // 0x1000:x}:{0x1000 + each % 0x1000:x}::/64" for each in range(MOST_SOURCES + 9)]


def test_the_full_table_keeps_its_promise_in_bytes() -> None:
    """The table at its fullest, ten failures a source, takes at most 24 MiB, while it grows too."""
    penalties, sources = Penalties(), _sources()
    for _ in range(MOST_TRIES):
        penalties.failed(GUESSER)
    ten = penalties._of(GUESSER)
    tracemalloc.start()
    try:
        for source in sources:
            penalties._keep(source, ten)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    names = sum(sys.getsizeof(each) for each in penalties._sources)

    assert len(penalties._sources) == MOST_SOURCES
    assert most + names <= MOST_BYTES


@pytest.mark.long
def test_a_flood_of_failures_grows_no_further() -> None:
    """65,536 sources that fail ten times each, and some more, grow this process by at most 24 MiB."""
    penalties, sources = Penalties(), _sources()
    process = psutil.Process()
    before = process.memory_full_info().uss
    for source in sources:
        for _ in range(MOST_TRIES):
            penalties.failed(source)

    names = sum(sys.getsizeof(each) for each in penalties._sources)
    assert process.memory_full_info().uss - before + names <= MOST_BYTES
