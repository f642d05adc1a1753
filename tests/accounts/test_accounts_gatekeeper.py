from __future__ import annotations

import asyncio
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callisto_telnetd.accounts import gatekeeper
from callisto_telnetd.accounts.gatekeeper import (
    MOST_TRIES,
    PENALTIES_S,
    WINDOW_S,
    Gatekeeper,
    Penalties,
    TooManyFailuresError,
    source_address,
    source_of,
)
from callisto_telnetd.errors import LoginRefusedError

GUESSER = "192.0.2.66"


class FakeClock:
    """A monotonic clock that goes only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("local", "local"),
        ("", ""),
    ],
)
def test_what_counts_as_one_source(address: str, source: str) -> None:
    """An IPv4 address is a source in either form, an IPv6 network of 64 bits is one, and other text is itself."""
    assert source_of(address) == source


def test_a_mapped_address_is_its_ipv4_address() -> None:
    """An IPv4 address in IPv6 form is compared as IPv4, and a zone does not count."""
    assert source_address("::ffff:10.1.2.3") == "10.1.2.3"
    assert source_address("fe80::1%eth0") == "fe80::1"


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
    monkeypatch.setattr(gatekeeper, "_MOST_SOURCES", 100)
    penalties = Penalties(clock)
    for number in range(1000):
        penalties.failed(f"198.51.100.{number}")
        for _ in range(5):
            penalties.failed(GUESSER)

    assert len(penalties._sources) == 100
    assert "198.51.100.999" in penalties._sources
    assert "198.51.100.0" not in penalties._sources
    assert penalties.wait_s(GUESSER) > 0


async def test_tries_side_by_side_wait_their_turn(clock: FakeClock) -> None:
    """Two passwords of a source are checked at once; a third starts when one ends, and another source at once."""
    penalties = Penalties(clock)
    begun: list[str] = []
    may_end = asyncio.Event()

    async def attempt(source: str) -> None:
        async with penalties.attempt(source):
            begun.append(source)
            await may_end.wait()

    async with asyncio.TaskGroup() as group:
        for source in (GUESSER, GUESSER, GUESSER, "192.0.2.7"):
            group.create_task(attempt(source))
        await _settle()
        assert begun == [GUESSER, GUESSER, "192.0.2.7"]
        may_end.set()
    assert len(begun) == 4
    assert not penalties._turns
    assert not penalties._trying


async def test_a_try_that_waited_is_refused_where_those_before_it_failed(clock: FakeClock) -> None:
    """A hundred tries at once gain nothing: what waited for its turn is refused by the failures before it."""
    penalties = Penalties(clock)
    checked = 0

    async def guess() -> None:
        nonlocal checked
        async with penalties.attempt(GUESSER):
            await asyncio.sleep(0)
            checked += 1
            penalties.failed(GUESSER)

    outcomes = await asyncio.gather(*(guess() for _ in range(100)), return_exceptions=True)

    assert checked <= 6
    assert all(isinstance(each, TooManyFailuresError) for each in outcomes if each is not None)


async def test_a_cancelled_try_gives_its_turn_back(clock: FakeClock) -> None:
    """A guesser who goes away in the middle of a check, or while he waits, leaves nothing behind."""
    penalties = Penalties(clock)

    async def hang() -> None:
        async with penalties.attempt(GUESSER):
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(hang()) for _ in range(4)]
    await _settle()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert not penalties._turns
    async with penalties.attempt(GUESSER):
        pass


async def _settle() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("try"), st.integers(1, 4)),
        st.tuples(st.just("fail"), st.integers(1, 4)),
        st.tuples(st.just("succeed"), st.integers(1, 1)),
        st.tuples(st.just("leave"), st.integers(1, 1)),
        st.tuples(st.just("wait"), st.sampled_from([1, 29, 30, 61, 121, 241, 299, 301, 601])),
    ),
    max_size=60,
)


@settings(max_examples=150)
@given(STEPS)
def test_at_most_ten_failures_in_any_five_minutes(steps: list[tuple[str, int]]) -> None:
    """Whatever a source tries, one after the other or at once, with successes between: ten failures in any 300 s."""
    asyncio.run(_guess(steps))


async def _guess(steps: list[tuple[str, int]]) -> None:
    clock = FakeClock()
    penalties = Penalties(clock)
    failures: list[float] = []
    checks: list[asyncio.Future[bool]] = []

    async def guess() -> None:
        async with penalties.attempt(GUESSER):
            verdict: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            checks.append(verdict)
            if await verdict:
                penalties.succeeded(GUESSER)
            else:
                failures.append(clock.now)
                penalties.failed(GUESSER)

    tasks = []
    for kind, number in steps:
        for _ in range(1 if kind == "wait" else number):
            if kind == "try":
                tasks.append(asyncio.create_task(guess()))
            elif kind == "wait":
                clock.now += number
            elif checks and kind == "leave":
                checks.pop().cancel()
            elif checks:
                checks.pop(0).set_result(kind == "succeed")
            await _settle()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    for begin in failures:
        assert sum(begin <= each < begin + WINDOW_S for each in failures) <= MOST_TRIES
    assert not penalties._trying
    assert not penalties._checking


def test_the_law_of_ten_holds_for_two_checks_at_the_brink() -> None:
    """Nine failures, made cheap by successes, leave one try: two checks at once do not make eleven of it."""
    spread = [step for _ in range(9) for step in (("try", 1), ("fail", 1), ("try", 1), ("succeed", 1))]

    asyncio.run(_guess([*spread, ("try", 2), ("fail", 2)]))


def test_a_place_is_given_back_exactly_once() -> None:
    """Releasing twice, before or after the log-in, leaves the counts as they were."""
    gate = Gatekeeper(sessions=10, sessions_per_source=5, pending=5)
    first, second = gate.admit("192.0.2.7"), gate.admit("192.0.2.7")
    assert (gate.sessions, gate.pending) == (2, 2)

    first.logged_in()
    first.logged_in()
    assert (gate.sessions, gate.pending) == (2, 1)
    first.release()
    first.release()
    assert (gate.sessions, gate.pending) == (1, 1)
    second.release()
    second.logged_in()
    assert (gate.sessions, gate.pending) == (0, 0)
    assert not gate._per_source


def test_one_place_of_all_is_kept_for_loopback() -> None:
    """A flood from outside never takes the last session; 127.0.0.1 and ::1 may."""
    gate = Gatekeeper(sessions=3, sessions_per_source=10, pending=10)
    for number in (1, 2):
        gate.admit(f"192.0.2.{number}").logged_in()

    with pytest.raises(LoginRefusedError, match=r"^Refused: all 3 sessions are taken\. Try again later\.$"):
        gate.admit("192.0.2.3")
    gate.admit("::1")
    with pytest.raises(LoginRefusedError, match="all 3 sessions"):
        gate.admit("127.0.0.1")


def test_one_place_before_the_login_is_kept_for_loopback() -> None:
    """Connections that never log in cannot keep the administrator at the box from logging in."""
    gate = Gatekeeper(sessions=100, sessions_per_source=100, pending=3)
    for _ in range(2):
        gate.admit("192.0.2.1")

    with pytest.raises(LoginRefusedError, match=r"^Refused: 3 others are about to log in\. Try again later\.$"):
        gate.admit("192.0.2.1")
    gate.admit("127.0.0.1")
    with pytest.raises(LoginRefusedError, match="about to log in"):
        gate.admit("127.0.0.1")


def test_a_source_has_its_own_limit() -> None:
    """One source fills its own share, and leaves the others'; a refusal takes no place."""
    gate = Gatekeeper(sessions=100, sessions_per_source=2, pending=100)
    places = [gate.admit("2001:db8::1"), gate.admit("2001:db8::2")]

    with pytest.raises(LoginRefusedError, match=r"^Refused: all 2 sessions from 2001:db8::/64 are taken"):
        gate.admit("2001:db8::3")
    assert gate.sessions == 2
    gate.admit("192.0.2.7")
    places[0].release()
    gate.admit("2001:db8::3")


def test_the_only_place_is_told_in_the_singular() -> None:
    """A limit of one reads as one, for all sessions and for those of a source."""
    gate = Gatekeeper(sessions=100, sessions_per_source=1, pending=100)
    gate.admit("192.0.2.1")
    with pytest.raises(LoginRefusedError, match=r"^Refused: the only session from 192\.0\.2\.1 is taken\. Try"):
        gate.admit("192.0.2.1")
    gate = Gatekeeper(sessions=1, sessions_per_source=10, pending=100)
    gate.admit("127.0.0.1")
    with pytest.raises(LoginRefusedError, match=r"^Refused: the only session is taken\. Try again later\.$"):
        gate.admit("127.0.0.1")


def test_a_limit_of_one_lets_one_in() -> None:
    """Where the owner allows a single session, the kept place does not turn everybody away."""
    gate = Gatekeeper(sessions=1, sessions_per_source=1, pending=1)

    gate.admit("192.0.2.7")
    with pytest.raises(LoginRefusedError):
        gate.admit("192.0.2.8")


@pytest.mark.parametrize(
    ("address", "admitted"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("2001:db8::5", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("192.0.2.7", False),
        ("2001:db9::5", False),
        ("127.0.0.2", False),
        ("not an address", False),
    ],
)
def test_only_the_networks_that_are_allowed_may_connect(address: str, admitted: bool) -> None:
    """The owner's networks and loopback get in, IPv4 in IPv6 form too; others are told why not."""
    allow = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
    gate = Gatekeeper(sessions=10, sessions_per_source=10, pending=10, allow=allow)

    if admitted:
        gate.admit(address)
        return
    with pytest.raises(LoginRefusedError) as refused:
        gate.admit(address)
    assert str(refused.value) == f"Refused: {address} is not in a network that may connect."


def test_a_source_that_has_to_wait_gets_no_place(clock: FakeClock) -> None:
    """Penalties hold at the door already, and before the limits: a guesser takes no place."""
    gate = Gatekeeper(sessions=10, sessions_per_source=10, pending=10, now=clock)
    for _ in range(5):
        gate.penalties.failed(source_of("2001:db8::1"))

    with pytest.raises(TooManyFailuresError):
        gate.admit("2001:db8::ffff")
    assert gate.sessions == 0
    clock.now += 30
    gate.admit("2001:db8::ffff")
