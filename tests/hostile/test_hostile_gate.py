"""Crowds before the log-in: idle, guessing, hanging up; whoever is no part of them gets in."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest

from callisto_telnetd.accounts.audit import DENIED
from tests.conftest import DEADLINE_S, Peer, Server, StartServer, servers
from tests.hostile.guessing import guessing
from tests.hostile.tracing import wait_until
from tests.web.conftest import Web, webs

LIMITS = {
    "CALLISTO_LIMITS__SESSIONS": "100",
    "CALLISTO_LIMITS__SESSIONS_PER_SOURCE": "20",
    "CALLISTO_LIMITS__PENDING": "32",
}
"""Those of a server that nobody has configured."""
LOGIN = b"callisto login: "
IDLE = ("127.0.0.2", "127.0.0.3")
HERE, THIRD, KNOWN = "127.0.0.1", "127.0.0.77", "127.0.0.88"


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the limits that are usual."""
    with servers(tmp_path_factory.mktemp("gate")) as start:
        yield start(environment=LIMITS)


@pytest.fixture
def crowded(gate: Server) -> Iterator[Server]:
    """The same; its peers are closed after each test, and their places free again."""
    yield gate
    gate.close_peers()
    wait_until(lambda: connected(gate) == 0, "all connections end")


def connected(server: Server) -> int:
    """Return how many connections of Telnet the server counts."""
    return int(json.loads(server.command("information", "--json").stdout)["sessions"]["connected"])


@pytest.fixture(scope="module")
def gate_web(gate: Server) -> Iterator[Web]:
    """Its web server."""
    with webs() as start:
        yield start(gate.data)


def log_in_s(server: Server, source: str) -> float:
    """Log in and out from an address, and return how long the log-in took, from the connection to the prompt."""
    began = time.monotonic()
    peer = server.log_in(source=source)
    took_s = time.monotonic() - began
    peer.send("logout\r\n").expect_closed()
    peer.close()
    return took_s


def sit(server: Server, source: str, count: int) -> list[Peer]:
    """Take as many connections as the server gives to an address, and say nothing on them."""
    return [server.connect(source=source) for _ in range(count)]


def percentile(times: list[float], part: float) -> float:
    """Return the time within which that part of all was done."""
    return sorted(times)[max(0, round(part * len(times)) - 1)]


def denied(server: Server, prefix: str) -> Counter[str]:
    """Return how often the audit has each source of that prefix denied."""
    with closing(sqlite3.connect(f"file:{server.data / 'callisto.db'}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT source FROM audit WHERE event = ?", (DENIED,)).fetchall()
    return Counter(source for (source,) in rows if source.startswith(prefix))


@pytest.mark.parametrize(("log_ins", "part"), [(5, 0.5), pytest.param(100, 1, marks=pytest.mark.long)])
def test_idle_connections_of_two_addresses_shut_nobody_out(crowded: Server, log_ins: int, part: float) -> None:
    """With 31 silent connections of two addresses, every log-in of a third one is done within two seconds."""
    for source, count in zip(IDLE, (20, 11), strict=True):
        sit(crowded, source, count)
    times = [log_in_s(crowded, THIRD) for _ in range(log_ins)]

    assert percentile(times, part) < 2.0, sorted(times)[-5:]


def test_the_longest_silent_of_the_busiest_is_told_and_closed(crowded: Server) -> None:
    """Where four addresses hold all places, newcomers get in, one after the other; who gives way reads why."""
    silent = [peer for number in range(4) for peer in sit(crowded, f"127.0.0.{30 + number}", 8)]
    for peer in silent[:31]:
        peer.expect(LOGIN)
    assert silent[31].expect_closed() == b"Refused: 32 others are about to log in. Try again later.\r\n"
    for number in range(3):
        log_in_s(crowded, f"127.0.0.{60 + number}")

    assert silent[0].expect_closed() == b"\r\nClosed: others wait to log in.\r\n"
    assert all(peer.sync() == b"" for peer in silent[1:31])


@pytest.mark.parametrize("way", ["read", "cut"])
def test_a_crowd_that_guesses_delays_nobody_whom_the_appliance_knows(crowded: Server, way: str) -> None:
    """While sixty connections of fifteen addresses guess, this machine and a known address log in as always."""
    log_in_s(crowded, KNOWN)
    with guessing(crowded.port, 60, 15, way):
        times = [log_in_s(crowded, source) for _ in range(2) for source in (HERE, KNOWN)]

    assert percentile(times, 0.5) < 1.5, sorted(times)


@pytest.mark.long
@pytest.mark.parametrize("way", ["read", "cut"])
def test_sixty_seconds_of_guessing(start: StartServer, way: str) -> None:
    """500 connections of 63 addresses guess: 30 of 30 log-ins of either kind, p99 in 1.5 s, and few guesses in all."""
    server = start(environment=LIMITS)
    log_in_s(server, KNOWN)
    times: dict[str, list[float]] = {HERE: [], KNOWN: []}
    began = time.monotonic()
    with guessing(server.port, 500, 63, way):
        while min(map(len, times.values())) < 30 or time.monotonic() - began < 60:
            for source, each in times.items():
                each.append(log_in_s(server, source))
        took_s = time.monotonic() - began
    tries = denied(server, "127.1.")

    for source, each in times.items():
        print(source, len(each), f"p50 {percentile(each, 0.5):.2f} p99 {percentile(each, 0.99):.2f}")
        assert percentile(each, 0.99) < 1.5, (source, sorted(each)[-5:])
    print(f"{tries.total()} tries in {took_s:.0f} s, {max(tries.values())} of one source")
    assert max(tries.values()) <= 10
    assert 20 < tries.total() <= 20 + 2 * took_s + 2


# The web


class Posting:
    """Browsers that send wrong log-ins, each from a fresh address, until the block ends."""

    def __init__(self, web: Web, browsers: int) -> None:
        self._web = web
        self._over = threading.Event()
        self._next = iter(range(10_000))
        self._threads = [threading.Thread(target=self._post) for _ in range(browsers)]

    def _post(self) -> None:
        while not self._over.is_set():
            number = next(self._next)
            self._web.browser(f"127.2.{number // 200}.{1 + number % 200}").log_in(password="Wrong-123")

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)


def test_a_crowd_at_the_web_keeps_this_machine_and_known_addresses_in(gate_web: Web) -> None:
    """While 24 browsers post wrong log-ins, each from a fresh address, the right ones of both are taken."""
    assert gate_web.browser(KNOWN).log_in().status == 303
    with Posting(gate_web, 24):
        answers = [gate_web.browser(source).log_in() for _ in range(2) for source in (HERE, KNOWN)]

    assert [each.status for each in answers] == [303] * 4, [each.text for each in answers if each.status != 303]


def test_idle_connections_of_many_addresses_leave_the_web_to_another(gate_web: Web) -> None:
    """500 idle connections of 25 addresses keep neither a 26th nor this machine from a page."""
    idle = []
    try:
        for number in range(500):
            connection = socket.socket()
            idle.append(connection)
            connection.bind((f"127.3.0.{1 + number % 25}", 0))
            connection.connect(("127.0.0.1", gate_web.port))
        answers = [gate_web.browser(source).get().status for source in (THIRD, HERE) for _ in range(5)]
    finally:
        for connection in idle:
            connection.close()

    assert answers == [200] * 10
