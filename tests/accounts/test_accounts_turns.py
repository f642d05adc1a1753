from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callisto_telnetd.accounts.gatekeeper import Gatekeeper
from callisto_telnetd.accounts.penalties import MOST_TRIES, WINDOW_S, TooManyFailuresError
from callisto_telnetd.accounts.sources import source_of
from callisto_telnetd.accounts.turns import Turn
from tests.accounts.monotonic import FakeClock

GUESSER, OTHER, KNOWN, MACHINE = "192.0.2.66", "192.0.2.7", "192.0.2.8", "127.0.0.1"


class Gate(Gatekeeper):
    """A gatekeeper on a clock that the test moves, with wide limits."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        super().__init__(1000, 1000, 1000, now=self.clock)
        self.begun: list[str] = []
        """Whose passwords were looked at, in their order."""
        self.tries_at: list[float] = []

    async def check(self, source: str, right: asyncio.Future[bool] | bool = False) -> None:
        """Have a password checked; it is right or wrong at once, or when the future says."""
        turn = await self.turns.take(source)
        self.begun.append(source)
        self.tries_at.append(self.clock.now)
        verdict = False
        try:
            verdict = right if isinstance(right, bool) else await right
        finally:
            turn.end(right=verdict)

    def spend(self) -> None:
        """Have other sources use up what all may guess together."""
        for _ in range(20):
            self.turns._bucket.take()


@pytest.fixture
async def gate() -> Gate:
    """Nobody has come yet."""
    return Gate()


async def settle() -> None:
    """Let everything happen that can."""
    for _ in range(8):
        await asyncio.sleep(0)


def verdict() -> asyncio.Future[bool]:
    """Return what a check waits for."""
    return asyncio.get_running_loop().create_future()


async def test_tries_side_by_side_wait_their_turn(gate: Gate) -> None:
    """Two passwords of strangers are checked at once, and one of a source that has failed; the others wait."""
    gate.penalties.failed(GUESSER)
    verdicts = [verdict() for _ in range(4)]
    async with asyncio.TaskGroup() as group:
        for source, each in zip((GUESSER, GUESSER, OTHER, OTHER), verdicts, strict=True):
            group.create_task(gate.check(source, each))
        await settle()
        assert gate.begun == [GUESSER, OTHER]
        verdicts[2].set_result(True)
        await settle()
        assert gate.begun == [GUESSER, OTHER, OTHER]
        for each in (verdicts[0], verdicts[1], verdicts[3]):
            each.set_result(True)

    assert gate.begun == [GUESSER, OTHER, OTHER, GUESSER]
    assert not gate.turns._waiting
    assert not gate.turns._checking


async def test_this_machine_and_known_sources_come_before_all_others(gate: Gate) -> None:
    """Whoever waits is served by standing: this machine, who has logged in before, strangers, who has failed."""
    gate.penalties.failed(GUESSER)
    gate.standings.remember(KNOWN)
    held = [verdict() for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        for source, each in zip(("198.51.100.1", "198.51.100.2", "::1"), held, strict=True):
            group.create_task(gate.check(source, each))
        await settle()
        for source in (GUESSER, OTHER, KNOWN, MACHINE):
            group.create_task(gate.check(source, right=True))
        await settle()
        assert gate.begun == ["198.51.100.1", "198.51.100.2", "::1"]
        held[2].set_result(True)
        await settle()
        assert gate.begun[3:] == [MACHINE, KNOWN]
        held[0].set_result(True)
        await settle()
        held[1].set_result(True)

    assert gate.begun[5:] == [OTHER, GUESSER]


async def test_a_source_that_guesses_is_known_no_more(gate: Gate) -> None:
    """Who has logged in before may mistype as often as costs nothing; from the fifth failure on it is a guesser."""
    gate.standings.remember(KNOWN)
    gate.spend()
    for _ in range(5):
        await gate.check(KNOWN)
    gate.clock.now += 29.9
    with pytest.raises(TooManyFailuresError):
        await gate.check(KNOWN)

    assert len(gate.begun) == 5
    assert gate.standings.of(KNOWN) == gate.standings.of(GUESSER) + 1


async def test_all_who_have_failed_guess_twice_a_second_together(gate: Gate) -> None:
    """Sixty-four guessers in sixty seconds: twenty at once, then two a second; no source has more than ten."""
    sources = [f"198.51.100.{number}" for number in range(64)]
    guessing = []
    for _ in range(120):
        guessing += [asyncio.create_task(gate.check(source)) for source in sources]
        while len(gate.begun) < min(64, len(guessing)):
            await asyncio.sleep(0)
        await settle()
        gate.clock.now += 0.5
    for task in guessing:
        task.cancel()
    await asyncio.gather(*guessing, return_exceptions=True)

    assert len(gate.begun) <= 20 + 2 * 60
    assert len(gate.begun) > 100
    assert max(gate.begun.count(source) for source in sources) <= MOST_TRIES


async def test_whoever_has_not_failed_is_free_of_the_bucket(gate: Gate) -> None:
    """With no guess left, this machine, known and unknown sources are checked at once; who has failed is told."""
    gate.penalties.failed(GUESSER)
    gate.standings.remember(KNOWN)
    for source in (MACHINE, KNOWN):
        gate.penalties.failed(source)
    for _ in range(100):
        gate.turns._bucket.take()
    for source in (MACHINE, KNOWN, OTHER):
        await gate.check(source, right=True)
    with pytest.raises(TooManyFailuresError, match=r"^Too many failures\. Try again in 31 s\.$"):
        await gate.check(GUESSER)

    assert gate.begun == [MACHINE, KNOWN, OTHER]
    assert gate.penalties.wait_s(GUESSER) == 30.5


async def test_fresh_addresses_shut_nobody_out_who_mistyped_twice(gate: Gate) -> None:
    """While fresh addresses fail three times a second, each next try of another comes within half a minute."""
    for number in range(120):
        await gate.check(f"2001:db8:0:{number:x}::/64")
    waits: list[int] = []
    await gate.check(OTHER)
    for _ in range(2):
        with pytest.raises(TooManyFailuresError) as refused:
            await gate.check(OTHER)
        for second in range(refused.value.wait_s):
            for number in range(3):
                await gate.check(f"2001:db8:{len(waits) + 1}:{3 * second + number:x}::/64")
            gate.clock.now += 1
        waits.append(refused.value.wait_s)
        await gate.check(OTHER)

    assert waits == [31, 30]
    assert not gate.turns._booked


async def test_many_failures_book_no_guess(gate: Gate) -> None:
    """A source that has failed three times is told how long it waits, and has no guess booked."""
    for _ in range(3):
        gate.penalties.failed(GUESSER)
    for _ in range(80):
        gate.turns._bucket.take()
    for _ in range(3):
        with pytest.raises(TooManyFailuresError):
            await gate.check(GUESSER)
        gate.clock.now += 20
        for _ in range(40):
            gate.turns._bucket.take()

    assert gate.begun == []
    assert not gate.turns._booked


async def test_a_guess_that_is_due_soon_is_waited_for(gate: Gate) -> None:
    """Within a second of the next free guess a source waits for it, and no longer."""
    gate.penalties.failed(GUESSER)
    gate.spend()
    async with asyncio.timeout(5):
        guessing = asyncio.create_task(gate.check(GUESSER))
        await settle()
        assert gate.begun == []
        gate.clock.now += 0.5
        await guessing

    assert gate.begun == [GUESSER]


async def test_a_right_password_costs_nothing(gate: Gate) -> None:
    """A success gives its guess back, so that log-ins of one who mistyped once do not wait for each other."""
    gate.penalties.failed(OTHER)
    for _ in range(100):
        await gate.check(OTHER, right=True)

    assert len(gate.begun) == 100


async def test_a_try_that_waited_is_refused_where_those_before_it_failed(gate: Gate) -> None:
    """A hundred tries at once gain nothing: what waited for its turn is refused by the failures before it."""
    outcomes = await asyncio.gather(*(gate.check(GUESSER) for _ in range(100)), return_exceptions=True)

    assert len(gate.begun) == 5
    assert all(isinstance(each, TooManyFailuresError) for each in outcomes if each is not None)


async def test_who_leaves_the_queue_leaves_nothing_behind(gate: Gate) -> None:
    """A guesser who goes while he waits has no try counted; his turn, given that very moment, is somebody else's."""
    held = [verdict() for _ in range(2)]
    holding = [asyncio.create_task(gate.check(OTHER, each)) for each in held]
    await settle()
    waiting = [asyncio.create_task(gate.check(GUESSER)) for _ in range(4)]
    await settle()
    held[0].set_result(True)
    while not gate.turns._checking[GUESSER]:
        await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    held[1].set_result(True)
    await asyncio.gather(*holding)

    assert all(isinstance(each, asyncio.CancelledError) for each in outcomes)
    assert gate.begun == [OTHER, OTHER]
    assert not gate.penalties.has_failed(GUESSER)
    assert not gate.turns._waiting
    assert not gate.turns._checking
    assert gate.turns._timer is None


async def test_what_fails_at_the_web_from_this_machine_does_not_count_at_the_shell(gate: Gate) -> None:
    """Ten wrong log-ins through a proxy shut the web's visitors from there out, and nobody out of the shell."""
    for _ in range(5):
        await gate.check(source_of("127.0.0.1", "web"))
    with pytest.raises(TooManyFailuresError, match=r"Try again in 30 s\."):
        await gate.check(source_of("127.0.0.1", "web"))

    gate.admit("127.0.0.1")
    await gate.check(source_of("127.0.0.1", "telnet"), right=True)
    assert gate.begun[5:] == ["127.0.0.1"]


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
    gate = Gate()
    failures: list[float] = []
    checks: list[Turn] = []

    async def guess() -> None:
        checks.append(await gate.turns.take(GUESSER))

    tasks = []
    for kind, number in steps:
        for _ in range(1 if kind == "wait" else number):
            if kind == "try":
                tasks.append(asyncio.create_task(guess()))
            elif kind == "wait":
                gate.clock.now += number
            elif kind == "leave":
                tasks = [each for each in tasks if not each.done() and not each.cancel()]
            elif checks:
                failures += [gate.clock.now] * (kind == "fail")
                checks.pop(0).end(right=kind == "succeed")
            await settle()
    for turn in checks:
        turn.end(right=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    for begin in failures:
        assert sum(begin <= each < begin + WINDOW_S for each in failures) <= MOST_TRIES
    assert not gate.turns._waiting


def test_the_law_of_ten_holds_for_two_checks_at_the_brink() -> None:
    """Nine failures, made cheap by successes, leave one try: two checks at once do not make eleven of it."""
    spread = [step for _ in range(9) for step in (("try", 1), ("fail", 1), ("try", 1), ("succeed", 1))]

    asyncio.run(_guess([*spread, ("try", 2), ("fail", 2)]))
