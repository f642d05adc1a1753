"""The command line's side of the local socket: one JSON object a line, both ways.

The request goes first; then frames come: ``out`` and ``err`` lines, ``ask`` (answered by ``answer``), ``exit``.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from callisto_telnetd.errors import FolderError, named

MAX_FRAME_BYTES = 1 << 20
"""Of one JSON line either way: an import is at most 64 KiB of text."""


class NoServerError(Exception):
    """No server listens on the socket."""


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
