"""uvicorn's protocol with what it lacks: bounds on connections, and deadlines whatever a client sends or reads.

Rules:
* A request has ``REQUEST_S`` from the opening of its connection, or from its first byte on a connection that is used
  again, until its head and body are there. Bytes that trickle in re-arm nothing. It is told so (408) and closed.
* An answer has ``ANSWER_S`` until it is made, and as long again until it is taken; then its connection is cut off.
* A head has at most ``MAX_HEAD_BYTES``, a request in all ``MAX_REQUEST_BYTES``, read at most ``_READ_BYTES`` at a time.
* What is no request, or could be read as two (``framing.py``), is told so (400) and closed; the parser never sees it.
* What is answered here has the headers that every answer has.
* A client that has closed its side gets the answers to all that it has asked for whole.
* One connection too many (``places.py``) is told so (503) and closed, and so is one that gives way to another.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from callisto_telnetd.web.framing import Framing
from callisto_telnetd.web.guard import HEADERS
from callisto_telnetd.web.places import ConnectionPlaces, place_source
from callisto_telnetd.web.proxies import NO_PROXIES, Proxies

REQUEST_S = 10.0
ANSWER_S = 30.0
KEEP_ALIVE_S = 5
MAX_REQUEST_BYTES = 64 << 10
"""Past it a client is cut off; what is too large for its page was answered long before."""
_READ_BYTES = 8 << 10
_CLOSE_S = 2.0
_TOO_MANY = "too many connections; try again later"


class BoundedProtocol(H11Protocol):
    """One connection of a browser."""

    def __init__(
        self, places: ConnectionPlaces, proxies: Proxies = NO_PROXIES, *, request_s: float = REQUEST_S, **rest: Any
    ) -> None:
        super().__init__(**rest)
        self._places = places
        self._proxies = proxies
        self._request_s = request_s
        self._deadline: asyncio.TimerHandle | None = None
        self._received = False
        """Whether the deadline that runs is that of the answer: the request is there."""
        self._request_bytes = 0
        self._framing = Framing()
        self._unsound = ""
        """What is wrong with what has come behind the last sound byte; nothing more is read then."""
        self._half_closed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place, or refuse."""
        super().connection_made(transport)
        source = place_source(self.client[0]) if self.client else "127.0.0.1"
        if not self._places.take(source, self, shared=self.client is not None and self._proxies.have(self.client[0])):
            self._refuse(503, _TOO_MANY)
            return
        transport.max_size = _READ_BYTES  # type: ignore[attr-defined] # asyncio reads 256 KiB at once otherwise
        self._arm(self._request_s, self._expire_request)

    def connection_lost(self, exc: Exception | None) -> None:
        """Give the place back."""
        self._disarm()
        self._places.give_back(self)
        super().connection_lost(exc)

    def is_waiting(self) -> bool:
        """Whether no request is there whole, of those that have no whole answer yet."""
        return not self._is_answering()

    def give_way(self) -> None:
        """Close, for a newcomer; a client whose request has begun, or was still to come, is told why."""
        if self.transport.is_closing():
            self.transport.abort()
        elif self._deadline is not None and self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self._refuse(503, _TOO_MANY)
        else:
            self.transport.close()
            self._arm_end()

    def data_received(self, data: bytes) -> None:
        """Count the bytes of the request, and begin its time with the first."""
        if self.transport.is_closing():
            return
        self._request_bytes += len(data)
        if self._request_bytes > MAX_REQUEST_BYTES:
            self.transport.abort()
            return
        if self._unsound or self.conn.their_state in {h11.MUST_CLOSE, h11.CLOSED}:
            return  # the connection ends with the answer that is on its way
        if self._deadline is None:
            self._arm(self._request_s, self._expire_request)
        sound, self._unsound = self._framing.follow(data)
        if sound:
            super().data_received(data[:sound])
        if self._unsound:
            self._tell_unsound()
        self._look()

    def eof_received(self) -> bool:  # type: ignore[override] # asyncio looks at it; uvicorn's own returns nothing
        """Keep the connection of a client that sends no more, until all that it has asked for is answered."""
        self._half_closed = True
        return self._is_answering()

    def _is_answering(self) -> bool:
        """Whether a whole request is there that has no whole answer yet."""
        return self.conn.our_state in {h11.SEND_RESPONSE, h11.SEND_BODY} and self.conn.their_state is not h11.SEND_BODY

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser does not take."""
        self._unsound = self._unsound or "this is no request, or its Host is not there exactly once"
        self._tell_unsound()

    def _tell_unsound(self) -> None:
        """Refuse, once the requests before are answered, and close."""
        ours, theirs = self.conn.our_state, self.conn.their_state
        if self.transport.is_closing() or theirs in {h11.MUST_CLOSE, h11.CLOSED}:
            return  # it closes with its answer, and what comes behind is none of it
        if theirs is h11.DONE and ours is not h11.DONE:
            return  # told by on_response_complete
        if ours in {h11.IDLE, h11.SEND_RESPONSE}:
            self._refuse(400, self._unsound)
        elif ours is h11.DONE:  # its answer is sent already
            self.transport.close()
        else:
            self.transport.abort()

    def on_response_complete(self) -> None:
        """Begin anew; where the client has sent ahead, the next request is begun already."""
        if self.conn.their_state is h11.DONE:  # else its body still comes, in the time that it has
            self._disarm()
            self._request_bytes = 0
        super().on_response_complete()
        if self._unsound:
            self._tell_unsound()
        if self._half_closed and not self._is_answering():
            self.transport.close()
        if self.transport.is_closing():
            self._arm_end()
        elif self._deadline is None and (self.conn.trailing_data[0] or self.conn.their_state is not h11.IDLE):
            self._request_bytes = len(self.conn.trailing_data[0])
            self._arm(self._request_s, self._expire_request)
            self._look()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that nothing comes from, and cut it off where it takes nothing either."""
        super().timeout_keep_alive_handler()
        self._arm_end()

    def shutdown(self) -> None:
        """Close; a request that is being answered gets its answer."""
        super().shutdown()
        if self.transport.is_closing():
            self._arm_end()

    def _look(self) -> None:
        """Go over to the answer's deadline where the request is there."""
        if self.transport.is_closing():
            self._arm_end()
        elif not self._received and self.conn.their_state in {h11.DONE, h11.MUST_CLOSE, h11.CLOSED}:
            self._arm(ANSWER_S, self.transport.abort)
            self._received = True

    def _arm(self, seconds: float, action: Any) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, action)

    def _arm_end(self) -> None:
        """Cut a closed connection off that does not take the rest of its answer."""
        self._arm(ANSWER_S if self.transport.get_write_buffer_size() else _CLOSE_S, self.transport.abort)

    def _disarm(self) -> None:
        self._received = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire_request(self) -> None:
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self._refuse(408, f"the request was not there within {self._request_s:.0f} s")
        else:
            self.transport.abort()

    def _refuse(self, status: int, reason: str) -> None:
        """Say why, and close; a client that does not read is cut off, and a page that is being made is not sent."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        text = f"Error: {reason}\n"
        fields = {"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(text)), **HEADERS}
        head = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            *(f"{name}: {value}" for name, value in fields.items()),
        ]
        self.transport.write("\r\n".join([*head, "Connection: close", "", text]).encode())
        self.transport.close()
        self._arm_end()
