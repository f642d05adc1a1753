"""TLS on a connection, with two ends: asyncio's own transport ends both directions as soon as the peer ends one.

- A peer that sends no more (close_notify, or TCP's end alone) is told to the protocol when all that came before is
  taken. What the protocol writes still goes out, until it closes (RFC 8446, section 6.1).
- TCP's end without close_notify may be another's doing (RFC 8446, section 6.1): the protocol is told that, too.
- Bytes are read into one buffer for all connections, at most a record of TLS at a time. Reading stops while the
  protocol wants no more, and while far too much waits to be sent.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any, Protocol, cast

_READ_BYTES = 16 << 10
"""As large as a record (RFC 8446, section 5.1)."""
_MAX_OWED_BYTES = 64 << 10
"""Past it a peer is not read that takes nothing: answers of TLS itself (KeyUpdate) are none of the protocol's."""


class Secured(Protocol):
    """A connection's protocol, as TLS needs it."""

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend a buffer for one read."""

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read into it."""

    def end_of_input(self, *, cut: bool) -> None:
        """Take note that no more comes; ``cut`` where the peer has not said so."""

    def pause_writing(self) -> None:
        """Take note that the peer is slow."""

    def resume_writing(self) -> None:
        """Take note that the peer has caught up."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note of the connection's end."""


class TlsTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """The server's side of TLS: a transport to the protocol above, and the protocol of the connection below."""

    _buffer = memoryview(bytearray(_READ_BYTES))

    def __init__(self, below: asyncio.Transport, above: Secured, context: ssl.SSLContext) -> None:
        super().__init__()
        self._below = below
        self._above = above
        self._loop = asyncio.get_running_loop()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._paused = True
        """Whether the protocol wants no more, as before it is there at all."""
        self._eof = False
        """Whether TCP's end has come."""
        self._ended = False
        """Whether the protocol knows that no more comes."""
        self._closing = False

    async def shake_hands(self, seconds: float) -> None:
        """Return once TLS is agreed; then :meth:`resume_reading` hands on what has come.

        Raises:
            OSError: the peer speaks no TLS, or is gone.
            TimeoutError: it took longer.
        """
        self._below.set_protocol(self)
        self._below.resume_reading()
        async with asyncio.timeout(seconds):
            await self._ready

    # The protocol of the connection below

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the buffer to the loop for one read."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take records; those behind our own end, or the peer's, are dropped."""
        if self._closing or self._ended:
            return
        self._incoming.write(self._buffer[:nbytes])
        if not self._ready.done():
            self._go_on_shaking()
        else:
            self._read()

    def eof_received(self) -> bool:
        """Hand on what has come, and keep the other direction open."""
        self._eof = True
        if not self._ready.done():
            self._ready.set_exception(ConnectionResetError("the peer has gone"))
        elif not self._closing:
            self._read()
            return True
        return False

    def pause_writing(self) -> None:
        """Tell the protocol."""
        self._above.pause_writing()

    def resume_writing(self) -> None:
        """Tell the protocol, and read on where that had to wait."""
        self._above.resume_writing()
        if not self._paused:
            self._below.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the protocol; first whoever waits for the handshake."""
        if not self._ready.done():
            self._ready.set_exception(exc or ConnectionResetError("the peer has gone"))
        self._ended = True
        self._loop.call_soon(self._above.connection_lost, exc)

    # The transport of the protocol above

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of TLS, or of the connection."""
        return self._tls if name == "ssl_object" else self._below.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Return whether nothing is sent any more."""
        return self._closing or self._below.is_closing()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send the bytes; what the peer does not take yet is kept below."""
        if data and not self.is_closing():
            try:
                self._tls.write(data)
            except ssl.SSLError:
                self._below.abort()
            self._flush()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait to be sent."""
        return self._below.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Say from how many bytes on the protocol is to wait."""
        self._below.set_write_buffer_limits(high, low)

    def pause_reading(self) -> None:
        """Hand on no more."""
        self._paused = True
        self._below.pause_reading()

    def resume_reading(self) -> None:
        """Hand on what has come and what comes."""
        self._paused = False
        if not self._eof:
            self._below.resume_reading()
        self._loop.call_soon(self._read)

    def close(self) -> None:
        """Send what waits and close_notify, then close; a peer that still sends is waited for: its owner has a clock.

        A connection that is closed while bytes come is reset, and what was sent last may be lost on its way.
        """
        if self.is_closing():
            return
        self._closing = True
        with suppress(ssl.SSLError):  # the peer's own end has not come
            self._tls.unwrap()
        self._flush()
        if self._ended:
            self._below.close()
        else:
            self._below.write_eof()
            self._below.resume_reading()

    def abort(self) -> None:
        """Cut the connection off."""
        self._below.abort()

    # Between the two

    def _go_on_shaking(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._ready.set_exception(error)
        else:
            self._below.pause_reading()  # until the protocol is there
            self._ready.set_result(None)
        self._flush()

    def _read(self) -> None:
        """Hand on what has come, as much as the protocol wants, and after all of it the end."""
        try:
            while not (self._paused or self._ended or self._closing):
                buffer = self._above.get_buffer(-1)
                count = cast("int", self._tls.read(len(buffer), buffer))
                if not count:
                    self._end_input(cut=False)
                    break
                self._above.buffer_updated(count)
        except ssl.SSLWantReadError:
            if self._eof:
                self._end_input(cut=True)
        except ssl.SSLZeroReturnError:
            self._end_input(cut=False)
        except ssl.SSLError:
            self._flush()  # an alert says why
            self._below.abort()
        self._flush()

    def _end_input(self, *, cut: bool) -> None:
        self._ended = True
        self._above.end_of_input(cut=cut)

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data and not self._below.is_closing():
            self._below.write(data)
            if self._below.get_write_buffer_size() > _MAX_OWED_BYTES:
                self._below.pause_reading()
