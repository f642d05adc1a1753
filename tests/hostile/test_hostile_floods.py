"""Floods against the real server: it hardly grows, and everybody else works on.

Memory is what the server has for itself (USS), seen after one attacker has warmed the allocator up, and divided by the
attackers that stall side by side; the allocator's own grain (arenas of 256 KiB) is in the bound. Each source is another
address, so that penalties stay where they belong; all that guess have a server of their own.
"""

from __future__ import annotations

import random
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator

import psutil
import pytest

from tests.conftest import AYT, DO, ECHO, IAC, NAWS, SB, SE, TIMING_MARK, TTYPE, WILL, Peer, Server, servers

ATTACKERS = 6
MOST_BYTES = 64 << 10
GRAIN_BYTES = (1 << 20) // ATTACKERS
"""One arena of Python's allocator, which is taken from the system whole."""
PROMPT_S = 0.5
"""Far above what it takes (30 ms here): the machine may be busy with other tests."""
EC, EL, IP = IAC + b"\xf7", IAC + b"\xf8", IAC + b"\xf4"
LONG = b"x" * 3900
TYPED = IAC + DO + ECHO

ANYWHERE = {
    "empty lines": b"\r\n" * 4000,
    "an endless line": b"a" * 65536,
    "IAC IAC": IAC * 16000,
    "AYT": (IAC + AYT) * 8000,
    "AYT above a line": TYPED + LONG + (IAC + AYT) * 20000,
    "all options": b"".join(IAC + bytes([verb, option]) for verb in range(251, 255) for option in range(256)) * 8,
    "an endless sub-negotiation": IAC + SB + TTYPE + b"\0" + b"A" * 1_000_000,
    "terminal types": (IAC + SB + TTYPE + b"\0" + b"x" * 70 + IAC + SE) * 1000,
    "MCCP3": (IAC + SB + b"\x57" + IAC + SE) * 8000,
    "NEW-ENVIRON": (IAC + SB + b"\x27\0\0USER\x01root" + IAC + SE) * 3000,
    "windows": IAC + WILL + NAWS + (IAC + SB + NAWS + IAC * 8 + IAC + SE) * 4000,
    "interrupts": IP * 10000,
    "Ctrl-C": b"\x03" * 60000,
    "erasing": (EC + EL) * 5000,
    "timing marks": (IAC + DO + TIMING_MARK) * 10000,
    "Ctrl-U on a long line": TYPED + (LONG + b"\x15") * 20,
    "arrows in a long line": TYPED + LONG + b"\x1b[D" * 20000,
    "typing before a long line": TYPED + LONG + b"\x01z" * 30000,
}
LOGGED_IN = {
    "lines": b"hello\r\n" * 4000,
    "random bytes": random.Random(1).randbytes(65536),
    "help": b"help\r\n" * 5000,
    "export": b"variables export\r\n" * 3000,
    "completion": TYPED + b"\t" * 60000,
    "costly completion": TYPED + b"date zone \t" + b"\t" * 60000,
    "history": TYPED + (LONG + b"\r") * 4 + b"\x10\x0e" * 30000,
    "wide history": b"".join(b"%b\xf0\x9f\x98\x80%d\r\n" % (LONG, number) for number in range(20)),
    "traces": b"trace records=20 before=10s\r\n" * 30,
}
FAST = {"empty lines", "an endless sub-negotiation", "costly completion", "random bytes"}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that holds few records, so that its ring of the last records is full before anything is measured."""
    with servers(tmp_path_factory.mktemp("target")) as start:
        yield start(environment={"CALLISTO_TRACE__HELD_RECORDS": "50", "CALLISTO_LIMITS__SESSIONS": "100"})


def uss(server: Server) -> int:
    """Return the bytes that the server's process has for itself."""
    return int(psutil.Process(server.process.pid).memory_full_info().uss)


def flood(peer: Peer, data: bytes, seconds: float) -> None:
    """Send the bytes again and again as fast as the server takes them, and read nothing."""
    end, sent, wire = time.monotonic() + seconds, 0, memoryview(data)
    peer.socket.setblocking(False)
    while time.monotonic() < end:
        if select.select([], [peer.socket], [], 0.02)[1]:
            try:
                sent += peer.socket.send(wire[sent % len(data) :][:65536])
            except BlockingIOError:
                continue
            except OSError:
                return


def reset(connection: socket.socket) -> None:
    """Cut the connection with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def wait_connected(admin: Peer, count: int) -> None:
    """Wait until the server knows that so many are connected: the others have given their places back."""
    end = time.monotonic() + 15
    while f"Connected: {count}" not in (lines := admin.run("information")):
        assert time.monotonic() < end, [line for line in lines if "onnected" in line]
        select.select([], [], [], 0.1)


def attack(server: Server, data: bytes, *, logged_in: bool, seconds: float) -> tuple[float, float]:
    """Attack from several addresses at once; return bytes grown for each, and the slowest answer to another session."""
    admin = server.log_in()
    descriptors = psutil.Process(server.process.pid).num_fds()

    def peers(network: int, count: int) -> list[Peer]:
        made = [server.connect(source=f"127.{network}.0.{number + 1}", receive_buffer=4096) for number in range(count)]
        for peer in made:
            if logged_in:
                peer.log_in()
            else:
                peer.expect(b" login: ")
        return made

    for warm in peers(2, 1):
        flood(warm, data, seconds / 2)
        reset(warm.socket)
    attackers = peers(3, ATTACKERS)
    before = uss(server)
    threads = [threading.Thread(target=flood, args=(peer, data, seconds)) for peer in attackers]
    for thread in threads:
        thread.start()
    slowest = 0.0
    while any(thread.is_alive() for thread in threads):
        asked = time.monotonic()
        admin.run("whoami")
        slowest = max(slowest, time.monotonic() - asked)
        select.select([], [], [], 0.02)
    grown = (uss(server) - before) / ATTACKERS
    for peer in attackers:
        reset(peer.socket)
    wait_connected(admin, 1)
    assert psutil.Process(server.process.pid).num_fds() <= descriptors + 1
    server.close_peers()
    return grown, slowest


def cases(attacks: dict[str, bytes]) -> list[object]:
    """Return the attacks' names; those that are not quick to tell are for the long run."""
    return [pytest.param(name, id=name, marks=[] if name in FAST else [pytest.mark.long]) for name in attacks]


@pytest.mark.parametrize("name", cases(ANYWHERE))
def test_a_flood_before_log_in_harms_nobody(target: Server, name: str) -> None:
    """Whoever floods before log-in grows the server by at most 64 KiB, delays nobody, and leaves nothing behind."""
    grown, slowest = attack(target, ANYWHERE[name], logged_in=False, seconds=0.8)

    assert grown <= MOST_BYTES + GRAIN_BYTES
    assert slowest <= PROMPT_S
    assert " ERROR " not in target.log()


@pytest.mark.parametrize("name", cases(LOGGED_IN))
def test_a_flood_after_log_in_harms_nobody(target: Server, name: str) -> None:
    """Whoever floods after log-in grows the server by at most 64 KiB, delays nobody, and leaves nothing behind."""
    grown, slowest = attack(target, LOGGED_IN[name], logged_in=True, seconds=0.8)

    assert grown <= MOST_BYTES + GRAIN_BYTES
    assert slowest <= PROMPT_S
    assert " ERROR " not in target.log()


@pytest.mark.long
@pytest.mark.parametrize("name", ANYWHERE)
def test_floods_of_options_and_keys_do_no_more_after_log_in(target: Server, name: str) -> None:
    """What may be sent before log-in harms as little after it."""
    grown, slowest = attack(target, ANYWHERE[name], logged_in=True, seconds=0.8)

    assert grown <= MOST_BYTES + GRAIN_BYTES
    assert slowest <= PROMPT_S


def test_one_flood_of_completions_leaves_the_loop_free(target: Server) -> None:
    """Twelve thousand Tabs in one go are worked off in turns: another session is answered in between."""
    admin, greedy = target.log_in(), target.log_in(source="127.4.0.1")
    greedy.sync()
    greedy.send(TYPED + b"date zone \t" + b"\t" * 12000)
    slowest, end = 0.0, time.monotonic() + 0.6
    while time.monotonic() < end:
        asked = time.monotonic()
        admin.run("whoami")
        slowest = max(slowest, time.monotonic() - asked)
    target.close_peers()

    assert slowest < PROMPT_S
