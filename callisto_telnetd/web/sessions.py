"""The sessions of browsers, in memory: a table without I/O.

Rules:
* A token has 256 bits of chance and is told once, to its browser; the table keeps its hash alone.
* A session ends where its user logs out, where he was idle for as long as the appliance allows, and with the process.
  Time is monotonic. Where nobody is logged out automatically (0 minutes), time ends no session at all.
* An account has at most ``most_per_account`` sessions: its next one takes the place of the one that was idle longest,
  so that browsers which were closed without a log-out shut nobody out. In all there are at most ``most``; past them,
  a log-in is refused.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from callisto_telnetd.errors import LoginRefusedError

MOST_SESSIONS = 256
MOST_PER_ACCOUNT = 16
_TOKEN_BYTES = 32
_MAX_TOKEN = 64
"""Characters of a cookie's value that are looked at: a token has 43."""


@dataclass(slots=True)
class WebSession:
    """One browser of one account."""

    account: str
    generation: str
    """How the account stood at the log-in; another one has other rights."""
    source: str
    since: str
    """When the log-in was, on the appliance's clock, as people read it."""
    last_access: str
    """When and from where the account was used before."""
    used_at: float
    """When the browser last asked for a page, in seconds of the monotonic clock."""
    key: bytes
    """The hash of the token."""
    number: int = 0
    """Its ticket at the appliance."""


class WebSessions:
    """All sessions of browsers."""

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        most: int = MOST_SESSIONS,
        most_per_account: int = MOST_PER_ACCOUNT,
    ) -> None:
        self._now = now
        self._most = most
        self._most_per_account = most_per_account
        self._sessions: dict[bytes, WebSession] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def make_room(self, account: str) -> list[WebSession]:
        """End the sessions of an account that its next one takes the place of, and return them."""
        own = [each for each in self._sessions.values() if each.account == account]
        own.sort(key=lambda each: each.used_at)
        surplus = own[: max(0, len(own) - self._most_per_account + 1)]
        for session in surplus:
            self.close(session)
        return surplus

    def open(
        self, account: str, generation: str, source: str, *, since: str = "", last_access: str = "", number: int = 0
    ) -> str:
        """Add a session and return its token.

        Raises:
            LoginRefusedError: there are too many already; says how many.
        """
        self.make_room(account)
        if len(self._sessions) >= self._most:
            raise LoginRefusedError(f"All {self._most} web sessions are taken. Try again later.")
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        key = _key_of(token)
        self._sessions[key] = WebSession(account, generation, source, since, last_access, self._now(), key, number)
        return token

    def find(self, token: str) -> WebSession | None:
        """Return the session of a token that a browser has sent; that alone is no use of it."""
        return self._sessions.get(_key_of(token)) if 0 < len(token) <= _MAX_TOKEN else None

    def use(self, session: WebSession, idle_minutes: int) -> bool:
        """Take note that the session is used now; False where it has ended, or ends now because it was idle."""
        if session.key not in self._sessions:
            return False
        if self._is_idle(session, idle_minutes):
            self.close(session)
            return False
        session.used_at = self._now()
        return True

    def close(self, session: WebSession) -> bool:
        """End a session; False where it had ended before."""
        return self._sessions.pop(session.key, None) is not None

    def end_idle(self, idle_minutes: int) -> list[WebSession]:
        """End every session that was idle for that long, and return them; 0 ends none."""
        idle = [each for each in self._sessions.values() if self._is_idle(each, idle_minutes)]
        for session in idle:
            self.close(session)
        return idle

    def _is_idle(self, session: WebSession, idle_minutes: int) -> bool:
        return idle_minutes > 0 and self._now() - session.used_at >= idle_minutes * 60


def _key_of(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
