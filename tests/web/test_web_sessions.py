"""The table of sessions, on a clock that the tests move."""

from __future__ import annotations

import pytest

from callisto_telnetd.errors import LoginRefusedError
from callisto_telnetd.web.sessions import WebSession, WebSessions


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A monotonic clock that stands still."""
    return Clock()


def _open(sessions: WebSessions, account: str = "anna") -> WebSession:
    session = sessions.find(sessions.open(account, "g1", "192.0.2.7"))
    assert session is not None
    return session


def test_a_token_is_long_random_and_not_kept(clock: Clock) -> None:
    """Tokens have 256 bits, differ, and are nowhere in the table."""
    sessions = WebSessions(clock)
    tokens = {sessions.open("anna", "g1", "192.0.2.7") for _ in range(10)}

    assert len(tokens) == 10
    assert {len(token) for token in tokens} == {43}
    kept = repr(sessions._sessions)
    assert not any(token in kept for token in tokens)


@pytest.mark.parametrize("token", ["", "x", "A" * 43, "A" * 10_000, "\udcff", "é" * 20])
def test_a_forged_token_finds_nothing(clock: Clock, token: str) -> None:
    """What no log-in has given is no session, whatever it looks like."""
    sessions = WebSessions(clock)
    _open(sessions)

    assert sessions.find(token) is None


def test_idle_minutes_end_a_session_and_use_prolongs_it(clock: Clock) -> None:
    """A session ends at the minute that the appliance allows, counted from its last use."""
    sessions = WebSessions(clock)
    session = _open(sessions)

    clock.now += 20 * 60 - 1
    assert sessions.use(session, 20)
    clock.now += 20 * 60 - 1
    assert sessions.use(session, 20)
    clock.now += 20 * 60
    assert not sessions.use(session, 20)
    assert not sessions.use(session, 0), "an ended session came back"
    assert len(sessions) == 0


def test_finding_is_no_use(clock: Clock) -> None:
    """Looking a session up does not prolong it."""
    sessions = WebSessions(clock)
    token = sessions.open("anna", "g1", "192.0.2.7")
    clock.now += 61
    session = sessions.find(token)

    assert session is not None
    assert not sessions.use(session, 1)


def test_zero_minutes_log_nobody_out(clock: Clock) -> None:
    """With 0 a session stands after a year, and end_idle leaves it."""
    sessions = WebSessions(clock)
    session = _open(sessions)
    clock.now += 365 * 86400

    assert sessions.end_idle(0) == []
    assert sessions.use(session, 0)


def test_idle_sessions_are_swept(clock: Clock) -> None:
    """Sweeping ends those that are idle, and no other."""
    sessions = WebSessions(clock)
    old = _open(sessions)
    clock.now += 60
    new = _open(sessions)

    assert sessions.end_idle(1) == [old]
    assert sessions.use(new, 1)


def test_an_accounts_next_session_takes_the_place_of_its_idlest(clock: Clock) -> None:
    """Past its share an account loses its own idlest session, and nobody else's."""
    sessions = WebSessions(clock, most=10, most_per_account=2)
    other, first, second = _open(sessions, "ben"), _open(sessions), _open(sessions)
    clock.now += 1
    sessions.use(first, 0)
    third = _open(sessions)

    assert [sessions.use(each, 0) for each in (other, first, second, third)] == [True, True, False, True]


def test_a_full_table_refuses(clock: Clock) -> None:
    """With all places taken a log-in is refused with the number, and nobody is put out."""
    sessions = WebSessions(clock, most=2, most_per_account=5)
    kept = [_open(sessions, "anna"), _open(sessions, "ben")]

    with pytest.raises(LoginRefusedError, match="All 2 web sessions are taken"):
        sessions.open("carl", "g1", "192.0.2.7")
    assert all(sessions.use(each, 0) for each in kept)
