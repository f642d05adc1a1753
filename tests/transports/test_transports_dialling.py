from __future__ import annotations

import asyncio
import socket
from asyncio import StreamReader, StreamWriter

import pytest

from callisto_telnetd.errors import TransferInterruptedError
from callisto_telnetd.transports.dialling import dial
from tests.transports.sites import SERVER_ADDRESS, scripted_server


async def greet(reader: StreamReader, writer: StreamWriter) -> None:
    """Say something, and take everything."""
    writer.write(b"2")
    await reader.read()


async def test_a_silent_connection_is_kept_alive() -> None:
    """Routers forget connections that are silent, as FTP's control connection is while a copy is on its way."""
    async with scripted_server(greet) as port:
        connection = await dial(SERVER_ADDRESS, port, 5, "there")
        with connection:
            assert await asyncio.get_running_loop().sock_recv(connection, 1) == b"2"
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 60
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_a_refused_connection_is_told_as_the_system_does() -> None:
    """The line names the place once, and the reason in plain words."""
    with pytest.raises(TransferInterruptedError) as refused:
        await dial(SERVER_ADDRESS, 1, 5, "nas.example:22")

    assert str(refused.value) == "nas.example:22 cannot be connected to: Connection refused"
