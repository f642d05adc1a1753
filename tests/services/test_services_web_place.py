from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from callisto_telnetd.errors import ServiceError
from callisto_telnetd.services.web_place import WebPlace, reserve_port
from callisto_telnetd.settings import ServiceSettings
from callisto_telnetd.web.server import bind


async def test_a_reserved_port_is_the_web_servers_alone() -> None:
    """Who binds with SO_REUSEADDR, as the web server does, listens on it again and again; nobody else can."""
    reserved = await reserve_port("127.0.0.1")
    for _ in range(2):
        for sock in bind("127.0.0.1", reserved.port):
            assert sock.getsockname()[1] == reserved.port
            socket.create_connection(("127.0.0.1", reserved.port), timeout=5).close()
            sock.close()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", reserved.port))
    reserved.close()
    with socket.socket() as other:
        other.bind(("127.0.0.1", reserved.port))


async def test_a_free_port_is_one_at_every_address_of_the_host() -> None:
    """A name with two addresses has the same port at both."""
    reserved = await reserve_port("localhost")
    sockets = bind("localhost", reserved.port)

    assert {sock.getsockname()[1] for sock in sockets} == {reserved.port}
    for sock in sockets:
        sock.close()
    reserved.close()


async def test_a_host_of_no_machine_has_no_port() -> None:
    """What cannot be listened on is named."""
    with pytest.raises(
        ServiceError, match=r"no free port can be had at '192\.0\.2\.1': Cannot assign requested address"
    ):
        await reserve_port("192.0.2.1")


@pytest.mark.parametrize(
    ("name", "settings", "address"),
    [
        ("web-server", {"host": "127.0.0.1", "port": 8080}, "http://127.0.0.1:8080/"),
        ("web-server", {"host": "::1", "port": 80}, "http://[::1]:80/"),
        ("web-server", {"host": "127.0.0.1", "port": 0, "command": "other"}, ""),
        ("coc-proxy", {"command": "proxy"}, ""),
    ],
)
async def test_the_address_is_told_once(name: str, settings: dict[str, object], address: str) -> None:
    """That of the package's own web server; another program has none that is known."""
    place, told = WebPlace(name), list[str]()
    place.on_listening = told.append
    for _ in range(2):
        await place.settle(ServiceSettings.model_validate(settings))
        place.tell()

    assert place.address == address
    assert told == ([address] if address else [])
    place.close()


async def test_a_host_whose_name_takes_time_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop goes on while a resolver is asked."""
    go_on, true = threading.Event(), socket.getaddrinfo
    waited: list[bool] = []

    def look_up(*arguments: Any, **options: Any) -> Any:
        waited.append(go_on.wait(3))
        return true(*arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    asyncio.get_running_loop().call_soon(go_on.set)
    place = WebPlace("web-server")
    settled = await place.settle(ServiceSettings.model_validate({"host": "127.0.0.1", "port": 0}))
    place.close()

    assert waited == [True]
    assert settled.port
