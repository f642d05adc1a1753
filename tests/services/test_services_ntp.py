from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.services.ntp import parse_answer, request, time_of, timestamp

ERA_ENDS_S = 2_085_978_496
"""7 February 2036, 06:28:16 UTC (RFC 5905, figure 4)."""


@pytest.mark.parametrize(
    ("time_s", "stamp"),
    [
        (0, 2_208_988_800 << 32),
        (0.5, 2_208_988_800 << 32 | 1 << 31),
        (ERA_ENDS_S - 1, (2**32 - 1) << 32),
        (ERA_ENDS_S, 0),
        (ERA_ENDS_S + 1.25, 1 << 32 | 1 << 30),
    ],
)
def test_timestamps(time_s: float, stamp: int) -> None:
    """The count of seconds since 1900 begins anew in 2036 (RFC 5905, figure 4), and both ways agree."""
    assert timestamp(time_s) == stamp
    assert time_of(stamp) == time_s


@given(st.floats(-61_505_152, 4_233_462_143))
def test_a_timestamp_is_of_its_time(time_s: float) -> None:
    """From 1968 to 2104 every time comes back, to a fraction of a microsecond."""
    assert time_of(timestamp(time_s)) == pytest.approx(time_s, abs=1e-6)


@given(st.binary(max_size=100))
def test_any_packet_is_an_answer_or_none(packet: bytes) -> None:
    """Nothing that a server sends raises; less than a whole head is none, what follows one is left alone."""
    answer = parse_answer(packet)

    assert (answer is None) == (len(packet) < 48)
    assert answer is None or answer == parse_answer(packet[:48])


def test_a_request_holds_its_timestamp_and_nothing_else() -> None:
    """Version 4, a client's, and when it was sent."""
    assert request(0x0123456789ABCDEF) == b"\x23" + bytes(39) + b"\x01\x23\x45\x67\x89\xab\xcd\xef"
