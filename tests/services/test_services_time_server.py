from __future__ import annotations

import asyncio
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from callisto_telnetd.errors import ClockError
from callisto_telnetd.services.time_server import measure_offset, parse_server

NTP_EPOCH_S = 2_208_988_800
Answer = Callable[[bytes], bytes]


def packet(
    request: bytes,
    *,
    ahead_s: float = 0.0,
    leap: int = 0,
    mode: int = 4,
    stratum: int = 2,
    ref_id: bytes = b"\x7f\0\0\1",
    stamped: bool = True,
    originate: bytes | None = None,
) -> bytes:
    """Return the answer of a real server (RFC 5905, figure 8) to a client's request."""
    now = int((time.time() + NTP_EPOCH_S + ahead_s) * 2**32) % 2**64 if stamped else 0
    head = struct.pack("!BBbb2I4s", leap << 6 | 4 << 3 | mode, stratum, 6, -20, 0, 0, ref_id)
    return head + struct.pack("!Q8sQQ", now, request[40:48] if originate is None else originate, now, now)


class Responder(asyncio.DatagramProtocol):
    """A time server that answers each request with what ``answer`` makes of it; blank is no answer."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.requests: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.requests.append(data)
        if answer := self._answer(data):
            self._transport.sendto(answer, addr)


@asynccontextmanager
async def responding(answer: Answer) -> AsyncIterator[tuple[str, Responder]]:
    """Serve on a free port of 127.0.0.1; gives ``host:port`` and the responder."""
    loop = asyncio.get_running_loop()
    transport, responder = await loop.create_datagram_endpoint(lambda: Responder(answer), ("127.0.0.1", 0))
    try:
        yield f"127.0.0.1:{transport.get_extra_info('sockname')[1]}", responder
    finally:
        transport.close()


@pytest.mark.parametrize("ahead_s", [0.0, 3600.0, -86400.0 * 365])
async def test_the_offset_of_the_systems_clock(ahead_s: float) -> None:
    """A server's answer gives the offset of the system's clock, the delay and the stratum."""
    async with responding(lambda request: packet(request, ahead_s=ahead_s)) as (server, responder):
        measurement = await measure_offset(server)

    assert measurement.server == server
    assert measurement.offset_s == pytest.approx(ahead_s, abs=1.0)
    assert -0.001 < measurement.delay_s < 2
    assert measurement.stratum == 2
    assert [(request[0], len(request)) for request in responder.requests] == [(4 << 3 | 3, 48)]  # version 4, client


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda _: b"rubbish", "its answer is not NTP"),
        (lambda _: b"\xff" * 200, "its answer belongs to no request of ours"),
        (lambda request: request, "its answer belongs to no request of ours"),
        (lambda request: packet(request, originate=bytes(8)), "its answer belongs to no request of ours"),
        (lambda request: packet(request, mode=5), "its answer is no time server's"),
        (lambda request: packet(request, stratum=0, ref_id=b"RATE"), "it refuses to answer (RATE)"),
        (lambda request: packet(request, stratum=0, ref_id=b"\x1b[2J"), "it refuses to answer"),
        (lambda request: packet(request, stratum=16), "its own clock is not synchronised"),
        (lambda request: packet(request, stratum=255), "its own clock is not synchronised"),
        (lambda request: packet(request, leap=3), "its own clock is not synchronised"),
        (lambda request: packet(request, stamped=False), "its answer holds no time"),
    ],
)
async def test_answers_that_are_not_to_be_trusted(answer: Answer, reason: str) -> None:
    """An answer that is no answer, or comes from a server that is not in step, is refused by server and reason."""
    async with responding(answer) as (server, _):
        with pytest.raises(ClockError) as refusal:
            await measure_offset(server)

    assert str(refusal.value) == f"time server '{server}': {reason}"


FAKED = """
import asyncio, sys, time
from callisto_telnetd.services.time_server import measure_offset
for server in sys.argv[1:]:
    measured = asyncio.run(measure_offset(server))
    print(time.time(), time.time() + measured.offset_s, measured.delay_s)
"""


@pytest.mark.parametrize("stands", ["1970-01-02", "2037-03-01", "2099-12-31"])
async def test_a_clock_that_stands_in_any_year_is_set(stands: str) -> None:
    """Neither the year of the clock here nor that of the server's matters: NTP's count begins anew in 2036."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        pytest.skip("faketime is not here")
    right_s = [datetime(year, 2, 7, 6, 28, 15, tzinfo=UTC).timestamp() for year in (2026, 2036, 2098)]
    async with AsyncExitStack() as stack:
        servers = []
        for ahead_s in (each - time.time() for each in right_s):
            answer = partial(packet, ahead_s=ahead_s)
            servers.append((await stack.enter_async_context(responding(answer)))[0])
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", FAKED, *servers),
            stdout=asyncio.subprocess.PIPE,
            env={
                **os.environ,
                "LD_PRELOAD": str(library),
                "FAKETIME": f"@{stands} 12:00:00",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            },
        )
        output, _ = await process.communicate()
    before_s, set_s, delay_s = zip(*(map(float, line.split()) for line in output.splitlines()), strict=True)

    assert {datetime.fromtimestamp(each, UTC).year for each in before_s} == {int(stands[:4])}
    assert list(set_s) == pytest.approx(right_s, abs=10)
    assert all(-0.001 < each < 2 for each in delay_s)


async def test_an_answer_across_the_end_of_an_era_is_exact() -> None:
    """A request that comes in the last second of NTP's first era and is answered in the next one is measured right."""
    ends_s = 2**32 - NTP_EPOCH_S

    def answer(request: bytes) -> bytes:
        head = struct.pack("!BBbb2I4s", 4 << 3 | 4, 2, 6, -20, 0, 0, b"\x7f\0\0\1")
        return head + struct.pack("!Q8sQQ", 1, request[40:48], 2**64 - 2**30, 2**30)

    async with responding(answer) as (server, _):
        begun_s = time.time()
        measured = await measure_offset(server)

    assert measured.offset_s == pytest.approx(ends_s - begun_s, abs=1.0)
    assert measured.delay_s == pytest.approx(-0.5, abs=0.4)


async def test_a_server_that_never_answers() -> None:
    """Silence ends at the deadline."""
    async with responding(lambda _: b"") as (server, responder):
        with pytest.raises(ClockError) as refusal:
            await measure_offset(server, deadline_s=0.2)

    assert str(refusal.value) == f"time server '{server}': no answer within 0.2 s"
    assert len(responder.requests) == 1


async def test_a_name_of_several_addresses_is_asked_at_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first address cannot be reached, the next one is asked."""
    resolve = socket.getaddrinfo

    def two_addresses(host: str, port: int, *rest: Any, **options: Any) -> list[Any]:
        if host != "time.test":
            return resolve(host, port, *rest, **options)
        return [*resolve("127.255.255.255", port, **options), *resolve("127.0.0.1", port, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", two_addresses)  # 127.255.255.255 is a broadcast: refused at once
    async with responding(packet) as (server, _):
        measurement = await measure_offset(server.replace("127.0.0.1", "time.test"))

    assert measurement.stratum == 2


@pytest.mark.parametrize("server", ["nowhere.invalid", "a..b", "x" * 64 + ".test"])
async def test_names_that_cannot_be_resolved(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that no resolver knows is refused."""
    resolve = socket.getaddrinfo

    def without_network(host: str, *rest: Any, **options: Any) -> list[Any]:
        if host == "nowhere.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", without_network)
    with pytest.raises(ClockError, match=r"^time server '.*': its name cannot be resolved"):
        await measure_offset(server)


def test_a_late_answer_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that comes after the deadline, or after the loop was closed, disturbs nobody."""
    released = threading.Event()

    def hanging(*_: Any, **__: Any) -> list[Any]:
        released.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    with pytest.raises(ClockError, match=r"no answer within 0\.05 s"):
        asyncio.run(measure_offset("time.test", deadline_s=0.05))
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "time-server")
    released.set()
    thread.join()


async def test_a_cancelled_caller_leaves_at_once() -> None:
    """Cancelling the measurement passes through, and the answer that comes later is dropped."""
    async with responding(lambda _: b"") as (server, _):
        task = asyncio.create_task(measure_offset(server, deadline_s=0.3))
        await asyncio.sleep(0)
        (thread,) = (thread for thread in threading.enumerate() if thread.name == "time-server")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(thread.join)


HANGING_RESOLVER = """
import asyncio, socket, threading
from callisto_telnetd.errors import ClockError
from callisto_telnetd.services.time_server import measure_offset
socket.getaddrinfo = lambda *_, **__: threading.Event().wait()
try:
    asyncio.run(measure_offset("time.test", deadline_s=0.05))
except ClockError as error:
    print(error)
"""


def test_a_hanging_resolver_does_not_hold_up_the_exit() -> None:
    """The process ends although its resolver never returns."""
    done = subprocess.run(
        [sys.executable, "-c", HANGING_RESOLVER], capture_output=True, text=True, check=True, timeout=30
    )

    assert (done.stdout, done.stderr) == ("time server 'time.test': no answer within 0.05 s\n", "")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("pool.ntp.org", "pool.ntp.org", 123),
        ("pool.ntp.org:1123", "pool.ntp.org", 1123),
        ("192.0.2.7:65535", "192.0.2.7", 65535),
        ("[2001:db8::1]:1123", "2001:db8::1", 1123),
        ("[2001:db8::1]", "2001:db8::1", 123),
        ("2001:db8::1", "2001:db8::1", 123),
        ("fe80::1%eth0", "fe80::1%eth0", 123),
    ],
)
def test_servers(text: str, host: str, port: int) -> None:
    """A server is a name or an address, with or without a port."""
    assert parse_server(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "a b", "host:", "host:0", "host:65536", "host:ntp", "host:١", "[::1", "::1]:123", "[host]:123"),
        *("ntp://host", "a:b:c", "x" * 262, "host\n", "fe80::1%\x1b[2J", "[fe80::1%\x1b]:123"),
    ],
)
async def test_what_is_no_server_is_refused(text: str) -> None:
    """What cannot name a server is refused before anybody is asked, with the forms allowed."""
    with pytest.raises(ClockError, match=r"write it as host, host:port or \[IPv6\]:port") as refusal:
        await measure_offset(text)

    assert str(refusal.value).isprintable()
