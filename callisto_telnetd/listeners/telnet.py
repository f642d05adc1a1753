"""Telnet, on telnetlib3 with a fence around it; with ``options.py`` the only module that imports it.

What the fence is for (telnetlib3 5.0.1, each seen by running it):

* Its shell waits for the client's answers to options: ours starts at once, and the offers are our own.
* It takes every option's data, inflates, and keeps what it is sent: ours (``options.py``) takes two, bounded.
* Its reader is not used: bytes go straight to the session's editor, read into one buffer of 4 KiB, and reading pauses
  while they are not worked off, while Telnet commands come faster than a person or program needs, and while the peer
  does not take the answers.
* ``drain()`` returns when the peer has gone, the end of the input does not close the output, and the session's task
  has an owner.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import ssl
import struct
import termios
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, cast

from telnetlib3.server_base import BaseServer
from telnetlib3.telopt import IAC

from callisto_telnetd.accounts.gatekeeper import Gatekeeper, Place
from callisto_telnetd.errors import LoginRefusedError
from callisto_telnetd.listeners.options import TelnetOptions
from callisto_telnetd.listeners.tls import TlsTransport
from callisto_telnetd.terminal.session import Session

_READ_BYTES = 4096
_HIGH_WATER_BYTES = 8 << 10
_LOW_WATER_BYTES = 2 << 10
_MAX_OWED_BYTES = 2 * _HIGH_WATER_BYTES
_COMMANDS_BURST = 256
_COMMANDS_PER_S = 1000.0
_BYTES_A_COMMAND = 64
"""Bytes that cost as much as one command: those looked at one by one, and those of an answer."""
_KERNEL_BYTES = 64 << 10
"""Asked of the kernel for what a peer has not taken yet; by itself it grows to megabytes."""
_LINGER_S = 2.0
_HANDSHAKE_S = 10.0

_C_INT = struct.Struct("i")
_IAC = IAC[0]


class _Inbox:
    """Stands where telnetlib3 has its reader: what is not a Telnet command goes straight to the session."""

    def __init__(self, **_: Any) -> None:
        self.feed_data: Callable[[bytes], None] = _ignore

    def feed_eof(self) -> None:
        """Take the end of the input; the protocol has seen it."""

    def set_exception(self, exc: Exception) -> None:
        """Take the loss of the connection; the protocol has seen it."""

    def exception(self) -> None:
        """Have none: the protocol's drain tells of a lost connection."""


def _ignore(_data: bytes) -> None:
    """Take nothing."""


class Host(Protocol):
    """The listener, as its connections see it."""

    gatekeeper: Gatekeeper
    context: ssl.SSLContext | None
    always_echo: bool
    login_s: float
    closed: bool
    protocols: set[TelnetProtocol]
    tasks: set[asyncio.Task[None]]

    def open_session(self, wire: TelnetProtocol, place: Place, address: str) -> Session:
        """Return the session that runs on a connection."""

    def refuse(self, address: str, reason: str) -> None:
        """Take note of a connection that was refused."""


class TelnetProtocol(BaseServer, asyncio.BufferedProtocol):
    """One connection: bytes from the wire to the session's console, and back.

    As a buffered protocol it reads into one small buffer, where telnetlib3's own is handed up to 256 KiB at once. The
    buffer serves every connection: the loop fills it and hands it over in one step, and nothing of it is kept.
    """

    _buffer = memoryview(bytearray(_READ_BYTES))

    def __init__(self, listener: Host) -> None:
        super().__init__(encoding=False, reader_factory=_Inbox, writer_factory=TelnetOptions)
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._place: Place | None = None
        self._session: Session | None = None
        self.task: asyncio.Task[None] | None = None
        self.connected_at = self._loop.time()
        """When the connection was made, on the loop's clock: the log-in's deadline counts from here, TLS or not."""
        self._reading = True
        self._hold_input = False
        self._throttle: asyncio.TimerHandle | None = None
        self._tokens = float(_COMMANDS_BURST)
        self._tokens_at = self._loop.time()
        self._linger: asyncio.TimerHandle | None = None
        self.writable = True
        self.terminal_type = ""
        self.rows = 0
        """With the editor's columns: the size of the window, for views that redraw themselves; 0 is not known."""

    # The connection's life

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give the peer a session, or one line that says why not."""
        transport = cast("asyncio.Transport", transport)
        address = (transport.get_extra_info("peername") or ("local",))[0]
        self._transport = transport
        if self._listener.closed:
            self._closing = True
            transport.abort()
            return
        context = self._listener.context
        try:
            place = self._place = self._listener.gatekeeper.admit(address, self.give_way)
        except LoginRefusedError as refused:
            self._listener.refuse(address, str(refused))
            if context is None:
                transport.write(f"{refused}\r\n".encode())
            self.close()
            return
        self._listener.protocols.add(self)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES)
        transport.set_write_buffer_limits(_HIGH_WATER_BYTES, _LOW_WATER_BYTES)
        if context is None:
            self._open(transport, place, address)
        else:
            transport.pause_reading()  # until TLS reads
            self._start(self._shake_hands(transport, context, place, address))

    async def _shake_hands(
        self, transport: asyncio.Transport, context: ssl.SSLContext, place: Place, address: str
    ) -> None:
        """Begin TLS on a connection that has its place: handshakes count within the limits, too."""
        try:
            secured = TlsTransport(transport, self, context)
            await secured.shake_hands(min(_HANDSHAKE_S, self._listener.login_s))
        except (OSError, TimeoutError) as error:
            self._listener.refuse(address, f"no TLS: {type(error).__name__}")
            transport.abort()
            return
        if self._closing or transport.is_closing():
            return
        self._open(secured, place, address)
        secured.resume_reading()

    def _open(self, transport: asyncio.Transport, place: Place, address: str) -> None:
        """Set the session up; it starts in the next turn of the loop."""
        transport.set_write_buffer_limits(_HIGH_WATER_BYTES, _LOW_WATER_BYTES)
        super().connection_made(transport)
        self._session = self._listener.open_session(self, place, address)
        self.console = self._session.console
        self.console.editor.echo = self._listener.always_echo
        self._options = cast("TelnetOptions", self.writer)
        cast("_Inbox", self.reader).feed_data = self.console.receive
        self._waiter_connected.set_result(None)

    def begin_negotiation(self) -> None:
        """Send nothing here: the offers went out with the session's start."""

    def check_negotiation(self, final: bool = False) -> bool:
        """Wait for no answer."""
        return True

    def begin_shell(self, future: asyncio.Future[None]) -> None:
        """Send the offers and start the session, in one step."""
        if future.cancelled() or self._session is None or self._transport is None:
            return
        self._options.offer()
        self._start(self._serve(self._session))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task that the listener owns to its end, even where the connection is lost before."""
        self.task = self._loop.create_task(work)
        self._listener.tasks.add(self.task)
        self.task.add_done_callback(self._listener.tasks.discard)

    async def _serve(self, session: Session) -> None:
        try:
            await session.run()
        finally:
            self.close()

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's protocols may; telnetlib3's closes instead
        """Let the session work off what has come, and send its output, before the connection closes."""
        self.end_of_input(cut=False)
        return True

    def end_of_input(self, *, cut: bool) -> None:
        """Take note that the peer sends no more; ``cut`` where another may have ended it, in the middle of a line."""
        if self._session is not None:
            self._session.console.end_of_input(cut=cut)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the session of a peer that has gone."""
        if self._closing:
            return
        for timer in (self._linger, self._throttle):
            if timer is not None:
                timer.cancel()
        self._listener.protocols.discard(self)
        if self._place is not None:
            self._place.release()
        if self.task is not None:
            self.task.cancel()
        if self.writer is None:
            self._closing = True
            return
        asyncio.streams.FlowControlMixin.connection_lost(self, exc)
        super().connection_lost(exc)
        self.writer.close()

    def close(self) -> None:
        """Close once all is sent; a peer that does not take it within two seconds is cut off."""
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.close()
            self._linger = self._loop.call_later(_LINGER_S, transport.abort)

    # Input

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the buffer to the loop for one read."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read: plain bytes by the short way, Telnet commands through telnetlib3."""
        if self._session is None:
            return
        data = bytes(self._buffer[:nbytes])
        if _IAC not in data and not self._options.is_oob:
            self.console.receive(data)
            return
        if self._options.drops_until_command:
            data = data[data.find(_IAC) :] if _IAC in data else b""
        super().data_received(data)
        if self._transport is not None:
            self._spend(data.count(_IAC) + len(data) // _BYTES_A_COMMAND)
            if self._transport.get_write_buffer_size() > _MAX_OWED_BYTES:
                self._set_reading()

    def _spend(self, commands: int) -> None:
        """Read no more for a while where commands come faster than 1,000 a second."""
        now = self._loop.time()
        self._tokens = min(_COMMANDS_BURST, self._tokens + (now - self._tokens_at) * _COMMANDS_PER_S) - commands
        self._tokens_at = now
        if self._tokens < 0 and self._throttle is None:
            self._throttle = self._loop.call_later(-self._tokens / _COMMANDS_PER_S, self._end_throttle)
            self._set_reading()

    def _end_throttle(self) -> None:
        self._throttle = None
        sock = self.get_extra_info("socket")
        if sock is not None and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.abort()  # reset: what the peer has left behind would be read a little at a time before that shows
            return
        self._set_reading()

    def pause_reading(self) -> None:
        """Read no more until the console has worked off what waits."""
        self._hold_input = True
        self._set_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._hold_input = False
        self._set_reading()

    def _set_reading(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        owed = not self.writable and transport.get_write_buffer_size() > _MAX_OWED_BYTES
        wanted = not (self._hold_input or self._throttle is not None or owed)
        if wanted != self._reading:
            self._reading = wanted
            (transport.resume_reading if wanted else transport.pause_reading)()

    # Output

    def write(self, data: bytes) -> None:
        """Send bytes of UTF-8 text, which never hold IAC."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the peer has taken enough; raises ConnectionResetError where it has gone."""
        await self._drain_helper()  # type: ignore[attr-defined]  # of asyncio's FlowControlMixin, untyped

    def pause_writing(self) -> None:
        """Take note that the peer is slower than the session."""
        super().pause_writing()
        self.writable = False

    def resume_writing(self) -> None:
        """Take note that the peer has caught up."""
        super().resume_writing()
        self.writable = True
        self._set_reading()

    @property
    def backlog(self) -> int:
        """How many bytes the peer has not taken yet: those that wait here, and those that the kernel has."""
        transport, sock = self._transport, self.get_extra_info("socket")
        if transport is None or sock is None or sock.fileno() < 0:
            return 0
        unsent = _C_INT.unpack(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_C_INT.size)))[0]
        return int(transport.get_write_buffer_size() + unsent)

    # What the options change

    def flush(self) -> None:
        """Send what the console has joined."""
        self.console.flush()

    def set_echo(self, *, agreed: bool) -> None:
        """Echo what is typed from here on while the client has agreed, or always where the owner wants that."""
        self.console.change(self._take_echo, agreed or self._listener.always_echo)

    def set_window(self, columns: int, rows: int) -> None:
        """Note the size of the client's window, in characters, for what is typed from here on; 0 is not known."""
        self.console.change(self._take_window, (columns, rows))

    def _take_echo(self, echo: bool) -> None:
        self.console.editor.echo = echo

    def _take_window(self, window: tuple[int, int]) -> None:
        self.console.editor.columns, self.rows = window

    def answer_there(self) -> None:
        """Say that the server is there; where much waits to be sent that is the answer, and a flood gets no more."""
        if self._tokens >= 0 and not self.console.congested:
            self._tokens -= 1 + len(self.console.editor.text) // _BYTES_A_COMMAND  # the half-typed line comes with it
            self.console.show_above("[callisto: yes]")

    def end_session(self, reason: str) -> None:
        """End the session; the peer has asked for it."""
        if self._session is not None:
            self._session.end(reason)

    def give_way(self) -> None:
        """End a log-in that is not finished: somebody else has its place."""
        if self._session is not None:
            self._session.end("others wait to log in")
        else:  # in the handshake of TLS
            self.abort()

    def abort(self) -> None:
        """Cut the connection off."""
        if self._transport is not None:
            self._transport.abort()
