"""Places for connections and for log-ins at the web: who gets one, who waits, who gives way."""

from __future__ import annotations

import asyncio

import pytest

from callisto_telnetd.web import login_places
from callisto_telnetd.web.login_places import BusyError, LoginPlaces
from callisto_telnetd.web.places import ConnectionPlaces, place_source


class Connection:
    """A connection that waits for its client, or is being answered."""

    def __init__(self, *, waiting: bool = True) -> None:
        self.waiting = waiting
        self.ended = False

    def is_waiting(self) -> bool:
        """Whether it waits."""
        return self.waiting

    def give_way(self) -> None:
        """End."""
        self.ended = True


class Open(ConnectionPlaces):
    """Places, and the connections that have come, by source."""

    def __init__(self, most: int = 128, most_per_source: int = 32) -> None:
        self.now = 100.0
        super().__init__(most, most_per_source, lambda: self.now)
        self.came: dict[str, list[Connection]] = {}

    def come(self, source: str, *, waiting: bool = False, shared: bool = False) -> bool:
        """Have a connection come; whether it got a place."""
        connection = Connection(waiting=waiting)
        self.came.setdefault(source, []).append(connection)
        return self.take(source, connection, shared=shared)

    def ended(self, source: str) -> list[int]:
        """Return the numbers of the source's connections that had to give way."""
        return [number for number, each in enumerate(self.came[source]) if each.ended]


def test_places_are_kept_for_this_machine() -> None:
    """Others leave eight places to the machine itself, a proxy's; places that are given back can be taken again."""
    places = Open(most=12, most_per_source=2)

    assert [places.come("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert [places.come("192.0.2.2") for _ in range(3)] == [True, True, False]
    assert not places.come("192.0.2.3")
    assert [places.come("127.0.0.1") for _ in range(9)] == [True] * 8 + [False]
    places.give_back(places.came["192.0.2.1"][0])
    assert places.come("::1")


def test_a_proxy_that_is_believed_may_have_the_places_of_all_its_browsers() -> None:
    """Many browsers come from its address; what is kept for this machine it does not get."""
    places = Open(most=12, most_per_source=2)

    assert [places.come("192.0.2.1", shared=True) for _ in range(5)] == [True] * 4 + [False]
    assert places.come("127.0.0.1")


def test_many_addresses_shut_no_other_one_out() -> None:
    """500 connections of 25 addresses leave a 26th as many places as each of them has."""
    places = Open()
    for _ in range(20):
        for number in range(25):
            places.come(f"198.51.100.{number}", waiting=True)
    assert len(places) == 120

    assert all(places.come("192.0.2.7") for _ in range(4))
    assert len(places) == 120


def test_the_oldest_waiting_one_of_the_busiest_source_gives_way() -> None:
    """Connections that are being answered stay, and so does everybody of a source that is hardly busier."""
    places = Open(most=12)
    places.come("192.0.2.1", waiting=False)
    for source in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        places.come(source, waiting=True)

    assert places.come("192.0.2.3", waiting=True)
    assert places.ended("192.0.2.1") == [1]
    assert places.come("192.0.2.4", waiting=True)
    assert places.ended("192.0.2.1") == [1, 2]
    assert not places.come("192.0.2.5")
    places.now += 2
    assert places.come("192.0.2.5")
    assert places.ended("192.0.2.2") == [0]


def test_this_machine_and_believed_proxies_never_give_way() -> None:
    """However long their connections wait, nobody from outside ends them."""
    places = Open(most=12)
    for source in ("127.0.0.1", "127.0.0.1", "192.0.2.1", "192.0.2.1"):
        places.come(source, waiting=True, shared=source == "192.0.2.1")
    places.now += 60

    assert not places.come("192.0.2.2")
    assert places.come("127.0.0.1")


def test_idle_connections_of_this_machine_and_proxies_give_way_to_their_own_kind() -> None:
    """A local user keeps the health check from nothing, and slow browsers behind a proxy keep out no other ones."""
    places = Open(most=12)
    for _ in range(4):
        places.come("192.0.2.1", waiting=True, shared=True)
    places.now += 2
    assert places.come("192.0.2.1", waiting=True, shared=True)
    assert places.ended("192.0.2.1") == [0]
    for _ in range(8):
        places.come("127.0.0.1", waiting=True)
    places.now += 2

    assert not places.come("192.0.2.2")
    assert places.come("127.0.0.1")
    assert len(places) == 12


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::1", "::1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("nonsense", "nonsense"),
    ],
)
def test_one_network_is_one_source(address: str, source: str) -> None:
    """An IPv6 network of 64 bits counts as one source, as at the other doors."""
    assert place_source(address) == source


class Logins:
    """Log-ins that go on until they are ended."""

    def __init__(self) -> None:
        self.places = LoginPlaces()
        self.begun: list[str] = []
        self._ends: dict[str, list[asyncio.Event]] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self, *sources: str) -> None:
        """Have log-ins begin, one after the other."""
        for source in sources:
            self.tasks.append(asyncio.create_task(self._log_in(source)))
            await settle()

    async def _log_in(self, source: str) -> None:
        async with self.places.hold(source):
            self.begun.append(source)
            ended = asyncio.Event()
            self._ends.setdefault(source, []).append(ended)
            await ended.wait()

    async def end(self, source: str) -> None:
        """End one of the source."""
        self._ends[source].pop().set()
        await settle()

    async def end_all(self) -> list[BaseException | None]:
        """End those that have begun, leave with the others, and return how each ended."""
        for each in [each for ends in self._ends.values() for each in ends]:
            each.set()
        await settle()
        for task in self.tasks:
            task.cancel()
        return await asyncio.gather(*self.tasks, return_exceptions=True)


async def settle() -> None:
    """Let everything happen that can."""
    for _ in range(6):
        await asyncio.sleep(0)


def sources(count: int) -> list[str]:
    """Return addresses of strangers."""
    return [f"198.51.100.{number}" for number in range(count)]


async def test_a_place_for_log_ins_is_kept_for_this_machine() -> None:
    """Three log-ins of others are checked at once, two of one source; this machine has the fourth place at once."""
    logins = Logins()
    await logins.begin(*sources(1) * 3, *sources(4)[1:], "127.0.0.1")

    assert logins.begun == [*sources(1) * 2, "198.51.100.1", "127.0.0.1"]
    await logins.end_all()
    assert not logins.places._held
    assert not logins.places._waiting


async def test_log_ins_wait_their_turn_by_standing() -> None:
    """This machine's next comes first, then addresses that somebody has logged in from, then whoever came first."""
    logins = Logins()
    logins.places.remember("192.0.2.8")
    await logins.begin(*sources(3), "127.0.0.1", *sources(5)[3:], "192.0.2.8", "::1")
    assert logins.begun == [*sources(3), "127.0.0.1"]
    for source in (*sources(3), "127.0.0.1"):
        await logins.end(source)
    await logins.end("::1")

    assert logins.begun[4:] == ["::1", "192.0.2.8", *sources(5)[3:]]
    await logins.end_all()


async def test_who_waits_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log-in that finds no place in time is told to try again, and leaves nothing behind."""
    monkeypatch.setattr(login_places, "WAIT_S", 0.05)
    logins = Logins()
    await logins.begin(*sources(4))
    with pytest.raises(BusyError, match=r"^Other log-ins are being checked\. Try again in a few seconds\.$"):
        await logins.tasks[3]
    await logins.end_all()

    assert not logins.places._held
    assert not logins.places._waiting


async def test_the_queue_of_log_ins_is_bounded_and_lets_no_source_fill_it() -> None:
    """Thirty-two wait, four of a source; for this machine the last stranger goes."""
    logins = Logins()
    await logins.begin(*sources(1) * 7)
    assert isinstance(logins.tasks[-1].exception(), BusyError)
    await logins.begin(*sources(33)[1:], "127.0.0.1", "127.0.0.1", "127.0.0.1")
    assert len(logins.places._waiting) == 32

    outcomes = await logins.end_all()
    assert sum(isinstance(each, BusyError) for each in outcomes) == 1 + 3 + 2
