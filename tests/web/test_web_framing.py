"""Where requests begin and end, whole, one byte at a time, and with a request behind them."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.web.framing import MAX_HEAD_BYTES, Framing

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
NONE = "this is no request of HTTP/1.0 or HTTP/1.1"
SOUND = [
    GET,
    b"GET / HTTP/1.0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\t 0 \t\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nX:\r\nY: a b\tc \xe9\r\ncontent-length:5\r\n\r\n\r\n\nGE",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n\r\n\r\n\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * (MAX_HEAD_BYTES - 32) + b"\r\n\r\n",
]


def _follow(framing: Framing, data: bytes, step: int) -> tuple[bytes, str]:
    """Return what is handed on, and what is wrong."""
    handed = b""
    for start in range(0, len(data), step):
        piece = data[start : start + step]
        sound, unsound = framing.follow(piece)
        handed += piece[:sound]
        if unsound:
            return handed, unsound
    return handed, ""


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize("request_", SOUND)
def test_sound_requests_are_handed_on_however_they_arrive(request_: bytes, step: int) -> None:
    """A request ends where it says, so that the next one is seen as one, and what is none behind it is refused."""
    data = request_ + GET + request_

    assert _follow(Framing(), data, step) == (data, "")
    assert _follow(Framing(), data + b"GET\r\n", 1 << 20) == (data, NONE)


@given(st.lists(st.sampled_from(SOUND), max_size=4), st.binary(max_size=40), st.integers(1, 50))
def test_the_verdict_does_not_depend_on_how_bytes_arrive(requests: list[bytes], tail: bytes, step: int) -> None:
    """Whatever comes behind sound requests is judged alike in one piece and in many."""
    data = b"".join(requests) + tail
    whole, piecewise = _follow(Framing(), data, 1 << 20), _follow(Framing(), data, step)

    assert whole[1] == piecewise[1]
    assert piecewise[0].startswith(whole[0])
    assert data.startswith(piecewise[0])


def test_a_long_body_costs_no_head() -> None:
    """Sizes of chunks count for themselves: a body in pieces of one byte may be as long as any."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = head + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n" + GET

    assert _follow(Framing(), data, 4096) == (data, "")


def _is_between_requests(data: bytes) -> bool | None:
    """Return whether the bytes are whole requests to the parser behind; None where it takes them for none, or ends."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None
        if event is h11.NEED_DATA:
            return connection.their_state is h11.IDLE and not connection.trailing_data[0]
        if isinstance(event, h11.EndOfMessage):
            if connection.their_state is h11.MUST_CLOSE:
                return None
            connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            connection.send(h11.EndOfMessage())
            connection.start_next_cycle()


ODD = [
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b"0",
    b"5",
    b":",
    b"\0",
    b"\x0b",
    b"\x85",
    b";",
    b"abc",
    b"Content-Length: 3\r\n",
]


@given(st.sampled_from(SOUND[:-1]), st.integers(0, 200), st.integers(0, 6), st.sampled_from(ODD))
def test_the_parser_behind_reads_what_is_sound_alike(request_: bytes, at: int, removed: int, odd: bytes) -> None:
    """Whatever is put into a request, what passes ends at one place for both readers: nothing hides in a body."""
    data = request_[:at] + odd + request_[at + removed :] + GET
    framing = Framing()
    if framing.follow(data)[1] or (theirs := _is_between_requests(data)) is None:
        return

    assert theirs is (framing.follow(b"\r\n")[1] == NONE)


def test_the_law_has_something_to_say() -> None:
    """Both verdicts of both readers occur: whole requests, and one that goes on."""
    for data, between in ((GET * 2, True), (GET + GET[:-1], False), (SOUND[2][:-1], False), (SOUND[5], True)):
        framing = Framing()
        assert framing.follow(data)[1] == ""
        assert _is_between_requests(data) is between
        assert (framing.follow(b"\r\n")[1] == NONE) is between
