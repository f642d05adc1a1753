"""Where requests begin and end, whole, one byte at a time, and with a request behind them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.web.framing import MAX_HEAD_BYTES, Framing

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
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
    assert _follow(Framing(), data + b"GET\r\n", 1 << 20) == (data, "this is no request of HTTP/1.0 or HTTP/1.1")


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
