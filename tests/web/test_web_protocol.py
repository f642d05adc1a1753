"""The bounds of connections: deadlines, places, bytes; over real sockets, with short times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_network

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send
from uvicorn.server import ServerState

from callisto_telnetd.web import protocol
from callisto_telnetd.web.framing import MAX_HEAD_BYTES
from callisto_telnetd.web.guard import HEADERS, Guard
from callisto_telnetd.web.hosts import Hosts
from callisto_telnetd.web.places import ConnectionPlaces
from callisto_telnetd.web.protocol import BoundedProtocol
from callisto_telnetd.web.proxies import NO_PROXIES, Proxies
from tests.conftest import DEADLINE_S

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[..., Awaitable[Peer]]


async def _answer(_request: Request) -> Response:
    return PlainTextResponse("hello")


async def _read(request: Request) -> Response:
    try:
        return PlainTextResponse(f"{len(await request.body())} bytes")
    except ClientDisconnect:
        return PlainTextResponse("gone")


async def _held(request: Request) -> Response:
    await request.app.state.go.wait()
    return PlainTextResponse("hello")


async def _go(request: Request) -> Response:
    request.app.state.go.set()
    return PlainTextResponse("hello")


async def _large(_request: Request) -> Response:
    return PlainTextResponse("x" * (8 << 20))


@asynccontextmanager
async def serving(
    places: ConnectionPlaces, request_s: float = 10.0, keep_alive_s: int = 5, proxies: Proxies = NO_PROXIES
) -> AsyncIterator[Connect]:
    """Serve a few small pages, and give a function that connects to them."""
    routes = [Route("/", _answer), Route("/read", _read, methods=["POST"]), Route("/large", _large)]
    app = Starlette(routes=[*routes, Route("/held", _held), Route("/go", _go)])
    app.state.go = asyncio.Event()
    config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False)
    config.h11_max_incomplete_event_size = MAX_HEAD_BYTES
    config.timeout_keep_alive = keep_alive_s
    config.load()
    state = ServerState()
    make = partial(
        BoundedProtocol, places, proxies, request_s=request_s, config=config, server_state=state, app_state={}
    )
    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    writers: list[asyncio.StreamWriter] = []

    async def connect(source: str = "127.0.0.1") -> Peer:
        peer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
        writers.append(peer[1])
        return peer

    try:
        yield connect
    finally:
        server.close()
        for each in (*(writer.transport for writer in writers), *(each.transport for each in state.connections)):
            each.abort()
        while state.connections:
            await asyncio.sleep(0)


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the server closes."""
    async with asyncio.timeout(DEADLINE_S):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


def _missing(answer: bytes) -> list[str]:
    """Return the headers of every answer that this one lacks."""
    return [name for name, value in HEADERS.items() if f"\r\n{name}: {value}\r\n" not in answer.decode()]


@pytest.mark.parametrize(
    "begun", [b"", b"GET / HT", HEAD[:-2], b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc"]
)
async def test_a_request_that_is_late_is_told_and_closed(begun: bytes) -> None:
    """Without its head, or its body, in time, a client gets 408 and the connection ends."""
    async with serving(ConnectionPlaces(), request_s=0.1) as connect:
        reader, writer = await connect()
        writer.write(begun)
        answer = await _rest(reader)

        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        assert _missing(answer) == []


async def test_trickling_bytes_prolong_nothing() -> None:
    """A client that sends a byte now and then is closed as early as one that sends none."""
    loop = asyncio.get_running_loop()
    async with serving(ConnectionPlaces(), request_s=0.3) as connect:
        reader, writer = await connect()
        began = loop.time()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        ended = asyncio.create_task(_rest(reader))
        while not ended.done():
            writer.write(b"x")
            await asyncio.wait([ended], timeout=0.02)

        assert 0.25 < loop.time() - began < 2.0


async def test_a_connection_that_is_used_again_has_its_time_anew() -> None:
    """The time of the next request begins with its first byte, and it too is absolute."""
    async with serving(ConnectionPlaces(), request_s=0.2) as connect:
        reader, writer = await connect()
        for _ in range(3):
            writer.write(HEAD)
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 ")
        writer.write(HEAD[:-1])

        assert (await _rest(reader)).startswith(b"HTTP/1.1 408 ")


async def test_what_is_sent_ahead_is_answered_and_its_late_rest_closed() -> None:
    """Requests in one segment are answered in order; half a one behind them has its own deadline."""
    async with serving(ConnectionPlaces(), request_s=0.2) as connect:
        reader, writer = await connect()
        writer.write(HEAD * 3 + HEAD[:9])
        text = await _rest(reader)

        assert text.count(b"HTTP/1.1 200 ") == 3
        assert b"HTTP/1.1 408 " in text


async def test_an_endless_body_is_cut_off() -> None:
    """A body that nobody reads ends the connection at its bound, not at its deadline."""
    async with serving(ConnectionPlaces()) as connect:
        reader, writer = await connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n")
        for _ in range(64):
            writer.write(b"x" * 4096)

        await _rest(reader)


async def test_a_body_that_turns_out_ambiguous_is_refused_alone() -> None:
    """The page that waits for the body says nothing: one answer comes, 400, and the connection ends."""
    async with serving(ConnectionPlaces()) as connect:
        reader, writer = await connect()
        writer.write(b"POST /read HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        writer.write(b"2\nxx\r\n0\r\n\r\n")
        answer = await _rest(reader)

        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answer.count(b"HTTP/") == 1
        assert _missing(answer) == []


@pytest.mark.parametrize("behind", [b"", HEAD, b"rubbish\n\n"])
async def test_what_stands_behind_the_last_request_is_nothing(behind: bytes) -> None:
    """A request that ends its connection is answered, whatever comes after it, in its segment and while it is made."""
    async with serving(ConnectionPlaces()) as connect:
        reader, writer = await connect()
        writer.write(HEAD[:-2].replace(b"/ ", b"/held ") + b"Connection: close\r\n\r\n" + behind)
        other, other_writer = await connect()
        other_writer.write(HEAD)
        await other.readuntil(b"hello")
        writer.write(behind or HEAD)
        other_writer.write(HEAD.replace(b"/ ", b"/go "))
        answer = await _rest(reader)

        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.count(b"HTTP/") == 1


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        (HEAD, 1),
        (HEAD * 3, 3),
        (HEAD * 2 + HEAD[:9], 2),
        (b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" + HEAD, 2),
        (b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab", 0),
        (b"", 0),
    ],
)
async def test_a_client_that_has_closed_its_side_gets_its_answers(sent: bytes, answers: int) -> None:
    """Each whole request is answered, then the connection ends at once; half a one is nothing."""
    places = ConnectionPlaces()
    async with serving(places) as connect:
        reader, writer = await connect()
        writer.write(sent)
        writer.write_eof()

        assert (await _rest(reader)).count(b"HTTP/1.1 200 ") == answers
        async with asyncio.timeout(DEADLINE_S):
            while len(places):
                await asyncio.sleep(0)


async def test_a_page_that_is_cut_off_is_told_with_all_headers() -> None:
    """Where the web server ends while a page is being made, its browser gets 503, and the headers too."""
    sent: list[Message] = []

    async def wait(_scope: Scope, _receive: Receive, _send: Send) -> None:
        await asyncio.Event().wait()

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "http_version": "1.1", "method": "GET", "path": "/", "headers": [(b"host", b"localhost")]}
    page = asyncio.ensure_future(Guard(wait, Hosts(), Proxies())(scope, receive, send))
    await asyncio.sleep(0)
    page.cancel()
    await asyncio.wait([page])

    assert page.cancelled()
    assert sent[0]["status"] == 503
    assert {name.lower().encode() for name in HEADERS} <= {name.lower() for name, _ in sent[0]["headers"]}


async def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is not taken in time ends the connection and gives its place back."""
    monkeypatch.setattr(protocol, "ANSWER_S", 0.2)
    places = ConnectionPlaces(most=9, most_per_source=1)
    async with serving(places, keep_alive_s=0) as connect:
        reader, writer = await connect()
        writer.transport.pause_reading()  # type: ignore[attr-defined] # what a stream's peer has in any case
        writer.write(HEAD.replace(b"/ ", b"/large "))
        async with asyncio.timeout(DEADLINE_S):
            while len(places):
                await asyncio.sleep(0.01)
        other, other_writer = await connect()
        other_writer.write(HEAD)

        assert (await other.readuntil(b"hello")).startswith(b"HTTP/1.1 200 ")
        del reader


async def test_the_address_of_a_believed_proxy_is_shared() -> None:
    """A connection from there is none of the few of one address; from elsewhere it is."""
    for proxies, status in ((Proxies([ip_network("127.0.0.2")]), b"200"), (Proxies(), b"503")):
        async with serving(ConnectionPlaces(most=12, most_per_source=1), proxies=proxies) as connect:
            held = [await connect("127.0.0.2") for _ in range(2)]
            held[1][1].write(HEAD)
            assert (await held[1][0].readuntil(b"\r\n")).split()[1] == status


async def test_too_many_connections_are_told() -> None:
    """One past the bound gets 503 and is closed; when another has gone there is a place again."""
    async with serving(ConnectionPlaces(most=2)) as connect:
        held = [await connect() for _ in range(2)]
        for reader, writer in held:
            writer.write(HEAD)
            await reader.readuntil(b"hello")
        refused, _ = await connect()
        answer = await _rest(refused)
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert _missing(answer) == []

        held[0][1].write(HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await _rest(held[0][0])
        reader, writer = await connect()
        writer.write(HEAD)
        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 ")


async def test_an_idle_connection_of_the_busiest_source_gives_way() -> None:
    """A newcomer is answered where all places are taken: the oldest idle connection of the busiest is told, and closed.

    One that waits between two requests is closed without a word: what it is sent then it would take for an answer.
    """
    async with serving(ConnectionPlaces(most=12)) as connect:
        crowd = [await connect("127.0.0.2") for _ in range(4)]
        crowd[1][1].write(HEAD)
        await crowd[1][0].readuntil(b"hello")
        for number in (3, 4):
            reader, writer = await connect(f"127.0.0.{number}")
            writer.write(HEAD)
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200 ")

        assert (await _rest(crowd[0][0])).startswith(b"HTTP/1.1 503 ")
        assert await _rest(crowd[1][0]) == b""
        crowd[2][1].write(HEAD)
        assert (await crowd[2][0].readuntil(b"hello")).startswith(b"HTTP/1.1 200 ")
