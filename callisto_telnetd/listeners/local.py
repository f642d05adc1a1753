"""The local socket: the command line's door, for the owner alone (and root), told by the peer's credentials.

A caller has no password here; the system vouches for him (unix(7), SO_PEERCRED). For the same reason his word is taken
for the address of a browser that he asks for (``source``): the web server does, and whoever else may use this socket
could read and change everything anyway. Who acts in that browser is looked up here, by its session's ticket.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import socket
import struct
from pathlib import Path

import orjson

from callisto_telnetd.accounts.sources import source_address
from callisto_telnetd.errors import CallistoError, ListenError, UsageError, named
from callisto_telnetd.listeners.local_client import MAX_FRAME_BYTES, MAX_PART_CHARACTERS
from callisto_telnetd.listeners.tcp import stop_serving
from callisto_telnetd.menus.context import Parts, TerminalSize
from callisto_telnetd.origin import WEB_SERVER, Origin
from callisto_telnetd.terminal.command_door import CommandDoor, Err, Frame, Out, Request, run_command
from callisto_telnetd.work import end

_MOST_CALLERS = 32
_REQUEST_S = 10.0
_ANSWER_S = 300.0
_CREDENTIALS = struct.Struct("3i")
_KEYS = {"words", "json", "input", "secrets", "terminal", "size", "source", "session"}


class LocalListener:
    """Serves commands on ``run/control.sock``."""

    def __init__(self, parts: Parts, path: Path) -> None:
        self._parts = parts
        self._path = path
        self._server: asyncio.Server | None = None
        self._callers: set[asyncio.Task[None]] = set()
        self._closed = False
        self._names: dict[int, str] = {}
        """Those who may call, by their user id."""

    async def open(self) -> None:
        """Listen; a socket that a killed server left behind is replaced (the folder's lock says it is nobody's).

        Raises:
            ListenError: the socket cannot be made.
        """
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.unlink(missing_ok=True)
            listening.bind(str(self._path))
            self._path.chmod(0o600)  # before it listens: nobody is let in meanwhile, and no umask of a process changes
            self._names = {uid: _name_of(uid) for uid in (0, os.geteuid())}  # now: a call must not wait for a disk
            self._server = await asyncio.start_unix_server(
                self._serve, sock=listening, limit=MAX_FRAME_BYTES, start_serving=False
            )
            await self._server.start_serving()
        except OSError as error:
            listening.close()
            raise ListenError(f"{named(self._path)} cannot be made: {error.strerror}") from None

    async def close(self) -> None:
        """Take no more callers, end those there are, and take the socket away."""
        self._closed = True
        if self._server is not None:
            await stop_serving([self._server])
        for caller in self._callers:
            caller.cancel()
        if self._callers:
            await asyncio.wait(self._callers, timeout=1.0)
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or self._closed:  # it was in the queue as the server closed
            writer.transport.abort()
            return
        self._callers.add(task)
        try:
            if len(self._callers) > _MOST_CALLERS:
                writer.write(_frame({"err": "Error: too many commands at once; try again"}, {"exit": 1}))
            elif (who := self._names.get(_user_of(writer))) is None:
                writer.write(
                    _frame({"err": "Error: only the owner of the data folder may use this socket"}, {"exit": 1})
                )
            else:
                await _Call(self._parts, Origin(who, "local", "local"), reader, writer).run()
        except (ConnectionError, TimeoutError):
            pass
        finally:
            self._callers.discard(task)
            writer.close()


def _user_of(writer: asyncio.StreamWriter) -> int:
    """Return the id of the system's user at the other end."""
    connection: socket.socket = writer.get_extra_info("socket")
    _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _frame(*frames: dict[str, object]) -> bytes:
    return b"".join(orjson.dumps(frame) + b"\n" for frame in frames)


class _Call:
    """One command of one caller."""

    def __init__(
        self, parts: Parts, origin: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._parts = parts
        self._origin = origin
        self._reader = reader
        self._writer = writer
        self._answer: asyncio.Future[str] | None = None
        self._stopped = False
        self._door: CommandDoor | None = None

    async def run(self) -> None:
        try:
            request = _parse_request(await asyncio.wait_for(self._reader.readline(), _REQUEST_S))
        except (CallistoError, ValueError) as error:
            self._writer.write(_frame({"err": f"Error: {error}"}, {"exit": 2}))
            return
        self._door = CommandDoor(
            request, self._emit, self._ask, self._writer.drain, waiting=self._waiting_bytes, cut=self._cut
        )
        origin = self._origin if request.source is None else self._origin_of_web(request.source, request.session)
        if origin is None:
            self._door.fail("the session has ended; log in again", 1)
            self._writer.write(_frame({"exit": 1}))
            return
        command = asyncio.create_task(run_command(self._parts, origin, self._door))
        listening = asyncio.create_task(self._listen(command))
        try:
            self._writer.write(_frame({"exit": await command}))
            await self._writer.drain()
        except asyncio.CancelledError:
            if not command.cancelled():
                raise
            with contextlib.suppress(ConnectionError):
                self._door.fail("interrupted", 1)
                self._writer.write(_frame({"exit": 1}))
        finally:
            await end(command, listening)

    async def _listen(self, command: asyncio.Task[int]) -> None:
        """Take answers; a caller who stops, goes or sends what is no frame ends what he watches, else his command.

        A command that changes something is ended at its questions alone: else its answer would not be the true one.
        """
        with contextlib.suppress(ValueError, ConnectionError):
            while (line := await self._reader.readline()) and isinstance(frame := orjson.loads(line), dict):
                if "answer" in frame and self._answer is not None and not self._answer.done():
                    self._answer.set_result(str(frame["answer"]))
                elif "stop" in frame:
                    break
        self._stopped = True
        if self._door is None or self._door.stop is None:
            asked = self._answer is not None and not self._answer.done()
            if asked or self._door is None or not self._door.changes:
                command.cancel()
        else:
            self._door.stop()

    def _origin_of_web(self, source: str, session: int | None) -> Origin | None:
        """Return who acts in a browser: the account of its session; None where that has ended."""
        if session is None:
            return Origin(WEB_SERVER, "web", source)
        entry = self._parts.presence.find_web(session)
        return Origin(entry.origin.who, "web", source) if entry is not None else None

    def _waiting_bytes(self) -> int:
        return self._writer.transport.get_write_buffer_size()

    def _cut(self) -> None:
        """End the command of a caller who reads no more: the connection's end does."""
        self._writer.transport.abort()

    def _emit(self, frame: Frame) -> None:
        match frame:
            case Out(text):
                while len(text) > MAX_PART_CHARACTERS:
                    self._writer.write(_frame({"part": text[:MAX_PART_CHARACTERS]}))
                    text = text[MAX_PART_CHARACTERS:]
                self._writer.write(_frame({"out": text}))
            case Err(text):
                self._writer.write(_frame({"err": text}))

    async def _ask(self, question: str, secret: bool) -> str:
        if self._stopped:  # nobody listens for an answer any more
            raise asyncio.CancelledError
        self._answer = asyncio.get_running_loop().create_future()
        self._writer.write(_frame({"ask": question, "secret": secret}))
        await self._writer.drain()
        try:
            return await asyncio.wait_for(self._answer, _ANSWER_S)
        except TimeoutError:
            raise UsageError("no answer; nothing was changed") from None


def _parse_request(line: bytes) -> Request:
    frame = orjson.loads(line)
    if not isinstance(frame, dict) or not set(frame) <= _KEYS or not isinstance(frame.get("words"), list):
        raise UsageError("not a request")
    text, secrets = frame.get("input"), frame.get("secrets")
    if not (
        all(isinstance(word, str) for word in frame["words"])
        and isinstance(text, str | None)
        and (secrets is None or (isinstance(secrets, list) and all(isinstance(each, str) for each in secrets)))
    ):
        raise UsageError("not a request")
    return Request(
        frame["words"],
        bool(frame.get("json")),
        text,
        None if secrets is None else tuple(secrets),
        bool(frame.get("terminal")),
        _parse_size(frame.get("size")),
        _parse_source(frame.get("source")),
        _parse_session(frame.get("session")),
    )


def _parse_size(size: object) -> TerminalSize | None:
    if size is None:
        return None
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(each, int) and each > 0 for each in size):
        raise UsageError("not a request")
    return TerminalSize(*size)


def _parse_session(session: object) -> int | None:
    if not isinstance(session, int | None) or isinstance(session, bool):
        raise UsageError("not a request")
    return session


def _parse_source(source: object) -> str | None:
    """Return the address as the system would write it, so that one browser is one source however it is spelt."""
    if source is None:
        return None
    if not isinstance(source, str):
        raise UsageError("not a request")
    try:
        return source_address(source)
    except ValueError:
        raise UsageError("not a request") from None
