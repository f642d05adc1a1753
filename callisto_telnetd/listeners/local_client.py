"""The side of the local socket that asks, for the command line and the web server: one JSON object a line, both ways.

The request goes first; then frames come: ``out`` and ``err`` lines, ``ask`` (answered by ``answer``), ``exit``. A line
longer than a frame may be comes as ``part`` frames, its end as ``out``.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callisto_telnetd.errors import FolderError, UsageError, named, quoted
from callisto_telnetd.streams import discard_stalled

MAX_FRAME_BYTES = 1 << 20
"""Of one JSON line either way: an import is at most 64 KiB of text."""
MAX_PART_CHARACTERS = 128 << 10
"""Of a line in one frame: in JSON each of its characters takes at most six bytes."""

_RECEIVED_BYTES = 64 << 10


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
    """Send a request, hand its frames on, and return the exit code; for the main thread.

    An interrupt asks the server to stop the command, whose end is then told like any other; a second one, from a server
    that does not answer, raises KeyboardInterrupt.

    Raises:
        UsageError: a word holds bytes that are no text; nothing was asked.
    """
    for word in request["words"]:
        if not word.isascii() and not _is_text(word):
            raise UsageError(f"{quoted(word)} is no text in the encoding of this locale; nothing was changed")
    caller = _Caller(connection)
    before = signal.signal(signal.SIGINT, caller.interrupt)
    try:
        return _converse(caller, request, out, err, ask)
    except KeyboardInterrupt:
        if not caller.gave_up:
            raise
        err("Error: interrupted")
        return 1
    finally:
        signal.signal(signal.SIGINT, before)


def _converse(
    caller: _Caller,
    request: Mapping[str, Any],
    out: Callable[[str], None],
    err: Callable[[str], None],
    ask: Callable[[str, bool], str],
) -> int:
    with suppress(ConnectionError):  # a server that refuses a caller closes before it listens; why, can still be read
        caller.send(request)
    parts: list[str] = []
    while (frame := caller.next_frame()) is not None:
        if "part" in frame:
            parts.append(frame["part"])
        elif "out" in frame:
            out("".join([*parts, frame["out"]]))
            parts.clear()
        elif "err" in frame:
            err(frame["err"])
        elif "ask" in frame:
            caller.answer(ask, frame["ask"], secret=bool(frame.get("secret")))
        elif "exit" in frame:
            return int(frame["exit"])
    err("Error: the server ended the connection")
    return 1


def _is_text(word: str) -> bool:
    """Whether the word can be told: bytes that the locale's encoding does not have came as surrogates (PEP 383)."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Caller:
    """The connection: frames whole, whatever interrupts."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = bytearray()
        self._sending = False
        self._asking = False
        self._stops = 0
        self._stops_sent = 0
        self.gave_up = False
        """Whether an interrupt has found the output waiting for a reader who stands still."""

    def interrupt(self, _number: int, _frame: object) -> None:
        """Have the server stop the command; only a wait for the user, or for a reader, is left at once."""
        self.gave_up = discard_stalled()
        self._stops += 1
        if self._asking or self.gave_up or self._stops > 1:
            raise KeyboardInterrupt
        self._send_stops()

    def send(self, frame: Mapping[str, Any]) -> None:
        """Send a frame; an interrupt meanwhile is sent behind it."""
        self._sending = True
        try:
            self._connection.sendall(json.dumps(frame).encode() + b"\n")
        finally:
            self._sending = False
        self._send_stops()

    def _send_stops(self) -> None:
        if not self._sending and self._stops_sent < self._stops:
            self._stops_sent = self._stops
            with suppress(ConnectionError):  # what the server has said before it closed is still read
                self.send({"stop": True})

    def answer(self, ask: Callable[[str, bool], str], question: str, *, secret: bool) -> None:
        """Ask the user and send the answer; an interrupt instead of it stops the command."""
        self._asking = True
        try:
            answer = ask(question, secret)
            self._asking = False  # in here: an interrupt just before it is still one instead of the answer
        except KeyboardInterrupt:
            self._asking = False
            self._send_stops()
        else:
            self.send({"answer": answer})

    def next_frame(self) -> dict[str, Any] | None:
        """Return the next frame; None where the connection has ended, in the midst of one too."""
        while (end := self._received.find(b"\n")) < 0:
            try:
                data = self._connection.recv(_RECEIVED_BYTES)
            except ConnectionResetError:
                return None
            if not data or len(self._received) > MAX_FRAME_BYTES:
                return None
            self._received += data
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        frame: dict[str, Any] = json.loads(line)
        return frame


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
    error, size, begun = "", 0, ""
    while line := await reader.readline():
        size += len(line)
        if size > MAX_FRAME_BYTES:
            raise ValueError(size)
        frame = json.loads(line)
        if "part" in frame:
            begun += str(frame["part"])
        elif "out" in frame:
            lines += (begun + str(frame["out"])).split("\n")
            begun = ""
        elif "err" in frame:
            error = str(frame["err"]).removeprefix("Error: ")
        elif "exit" in frame:
            return Reply(int(frame["exit"]), lines, error)
    raise NoServerError("ended the connection")
