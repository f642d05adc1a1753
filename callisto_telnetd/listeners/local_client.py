"""The side of the local socket that asks, for the command line and the web server: one JSON object a line, both ways.

The request goes first; then frames come: ``out`` and ``err`` lines, ``ask`` (answered by ``answer``), ``exit``.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from callisto_telnetd.errors import FolderError, named

MAX_FRAME_BYTES = 1 << 20
"""Of one JSON line either way: an import is at most 64 KiB of text."""


class NoServerError(Exception):
    """No server listens on the socket; the text, where there is one, goes on from "the server"."""


@contextmanager
def connect(path: Path) -> Iterator[socket.socket]:
    """Connect to the server of a data folder.

    Raises:
        NoServerError: there is none.
        FolderError: there is one, but not for this user.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            raise NoServerError from None
        except OSError as error:
            raise FolderError(f"{named(path)} cannot be used: {error.strerror or error}") from None
        yield connection


def call(
    connection: socket.socket,
    request: Mapping[str, Any],
    out: Callable[[str], None],
    err: Callable[[str], None],
    ask: Callable[[str, bool], str],
) -> int:
    """Send a request, hand its frames on, and return the exit code; an interrupt ends the command."""
    stream = connection.makefile("rb")
    with suppress(ConnectionError):  # a server that refuses a caller closes before it listens; why, can still be read
        _send(connection, request)
    while True:
        try:
            line = _read(stream)
            if not line:
                err("Error: the server ended the connection")
                return 1
            frame = json.loads(line)
            if "out" in frame:
                out(frame["out"])
            elif "err" in frame:
                err(frame["err"])
            elif "ask" in frame:
                _send(connection, {"answer": ask(frame["ask"], bool(frame.get("secret")))})
            elif "exit" in frame:
                return int(frame["exit"])
        except KeyboardInterrupt:
            _send(connection, {"stop": True})


def _read(stream: BinaryIO) -> bytes:
    try:
        return stream.readline(MAX_FRAME_BYTES)
    except ConnectionResetError:
        return b""


def _send(connection: socket.socket, frame: Mapping[str, Any]) -> None:
    connection.sendall(json.dumps(frame).encode() + b"\n")


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one request."""

    exit_code: int
    lines: list[str]
    """Of the answer; with ``"json": True`` it is one line of JSON."""
    error: str
    """The line that says what is wrong, without ``Error: ``; empty where nothing is."""


async def request(path: Path, request: Mapping[str, Any], deadline_s: float) -> Reply:
    """Send a request that asks nothing back, and return its reply; for programs that run an asyncio loop.

    Raises:
        NoServerError: there is no server, it may not be used, or its reply is broken, too long or too late.
    """
    try:
        async with asyncio.timeout(deadline_s):
            reader, writer = await asyncio.open_unix_connection(path, limit=MAX_FRAME_BYTES)
            try:
                with suppress(ConnectionError):  # see call()
                    writer.write(json.dumps(request).encode() + b"\n")
                    await writer.drain()
                return await _read_reply(reader)
            finally:
                writer.close()
    except TimeoutError:
        raise NoServerError("does not answer") from None
    except OSError as error:
        raise NoServerError(f"is not there: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NoServerError("sends what is no answer") from None


async def _read_reply(reader: asyncio.StreamReader) -> Reply:
    lines: list[str] = []
    error, size = "", 0
    while line := await reader.readline():
        size += len(line)
        if size > MAX_FRAME_BYTES:
            raise ValueError(size)
        frame = json.loads(line)
        if "out" in frame:
            lines += str(frame["out"]).split("\n")
        elif "err" in frame:
            error = str(frame["err"]).removeprefix("Error: ")
        elif "exit" in frame:
            return Reply(int(frame["exit"]), lines, error)
    raise NoServerError("ended the connection")
