from __future__ import annotations

import asyncio
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from callisto_telnetd.errors import TransferError, TransferInterruptedError
from callisto_telnetd.transports.credentials import Credentials
from callisto_telnetd.transports.target import Scheme, Target
from callisto_telnetd.transports.transport import open_transport
from callisto_telnetd.transports.wire import Patience
from tests.transports.sites import RELAY_ADDRESS, SERVER_ADDRESS, SHORT, USER, Relay, Site, scripted_server

SCHEMES: tuple[Scheme, ...] = ("sftp", "ftps", "ftp")
LITTLE = Patience(connect_s=0.15, login_s=0.15, step_s=0.3, whole_s=0.6, tidy_s=0.1)
AT_MOST_S = 3.0
"""Far above the deadlines, far below the default ones."""


async def failure(target: Target, credentials: Credentials, patience: Patience = LITTLE) -> TransferError:
    """Return the error of listing that target, which comes within the deadlines."""
    begun = time.monotonic()
    with pytest.raises(TransferError) as raised:
        async with open_transport(target, credentials, patience) as transport:
            await transport.list()
    assert time.monotonic() - begun < AT_MOST_S
    assert str(raised.value).isprintable()
    return raised.value


async def say_nothing(reader: StreamReader, _writer: StreamWriter) -> None:
    """Take everything, and never answer."""
    while await reader.read(4096):
        pass


async def drip(_reader: StreamReader, writer: StreamWriter) -> None:
    """Send one byte after the other, for ever: each is "progress"."""
    while not writer.is_closing():
        writer.write(b"2")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("script", [say_nothing, drip])
@pytest.mark.parametrize("scheme", SCHEMES)
async def test_a_server_that_does_not_answer_is_left(
    scheme: Scheme, script: Callable[[StreamReader, StreamWriter], Awaitable[None]]
) -> None:
    """Silence and single bytes end at the deadline, as something that may pass."""
    async with scripted_server(script) as port:
        error = await failure(Target(scheme, USER, SERVER_ADDRESS, port, "/"), Credentials())

    assert isinstance(error, TransferInterruptedError)
    assert f"{SERVER_ADDRESS}:{port}" in str(error)


@pytest.mark.parametrize("greeting", [b"220 FTP\r\n", b"HTTP/1.1 400 Bad\r\n\r\n", b"\0" * 9000, b"x\r\n" * 2000])
async def test_what_is_no_ssh_is_one_clear_line(greeting: bytes) -> None:
    """Another protocol's greeting is told within the deadline, in one line."""

    async def greet(_reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(greeting)
        await writer.drain()
        await asyncio.sleep(5)

    async with scripted_server(greet) as port:
        await failure(Target("sftp", USER, SERVER_ADDRESS, port, "/"), Credentials())


async def test_nonsense_in_the_key_exchange_is_one_clear_line() -> None:
    """A server that greets as SSH and then sends noise is told in one line."""

    async def noise(_reader: StreamReader, writer: StreamWriter) -> None:
        writer.write(b"SSH-2.0-noise\r\n" + bytes(range(256)) * 40)
        await writer.drain()
        await asyncio.sleep(5)

    async with scripted_server(noise) as port:
        await failure(Target("sftp", USER, SERVER_ADDRESS, port, "/"), Credentials())


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_nobody_there_is_one_clear_line(scheme: Scheme) -> None:
    """A closed port and a name that does not resolve may both pass."""
    for host in ("127.0.0.3", "no-such-host.invalid"):
        patience = replace(LITTLE, connect_s=2.0)
        error = await failure(Target(scheme, USER, host, 1, "/"), Credentials(), patience)
        assert isinstance(error, TransferInterruptedError)
        assert host in str(error)


class StallingRelay(Relay):
    """Passes on so many bytes, and then nothing, while all connections stay open."""

    def _count(self, data: bytes) -> bytes:
        allowed = data if self._budget is None else data[: self._left]
        self._left -= len(allowed)
        self.passed += len(allowed)
        return allowed

    def _is_spent(self) -> bool:
        return False


async def test_a_line_that_goes_silent_is_left_wherever_it_does(site: Site) -> None:
    """A connection that stands still, at any of a dozen points of log-in and listing, is given up in time."""
    if site.target.scheme == "file":
        pytest.skip("there is no line")
    target = site.by_way_of(RELAY_ADDRESS)
    relay = StallingRelay([target.port, *site.data_ports])
    async with relay.running():
        relay.cut_after(None)
        async with open_transport(target, site.credentials, SHORT) as transport:
            await transport.list()
        whole = relay.passed

        for share in (0, 4, 8, 11):
            relay.cut_after(whole * share // 12)
            error = await failure(target, site.credentials, LITTLE)
            assert isinstance(error, TransferInterruptedError)
