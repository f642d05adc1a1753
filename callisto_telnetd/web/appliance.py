"""The appliance as the web server sees it: questions through the local socket, a few at once, each with a deadline."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from callisto_telnetd.errors import LoginRefusedError
from callisto_telnetd.listeners.local_client import NoServerError, Reply, request
from callisto_telnetd.web.login_places import LoginPlaces
from callisto_telnetd.web.places import place_source

ASK_S = 5.0
LOGIN_S = 15.0
"""A password is checked in 0.1 s; others may be before it."""
_MOST_ASKS = 8
"""At once; the local socket serves 32 callers, and administrators at the command line are among them."""
_FRESH_S = 0.5
"""How old an answer to somebody who is not logged in may be, so that a flood of visitors is no flood of questions."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What every page needs."""

    product: str
    hostname: str
    idle_minutes: int
    """Of gWebTimeout; 0 where nobody is logged out automatically."""
    generation: str | None
    """Of the account that was asked for; None where there is none."""
    ended: str | None = None
    """Why the session was ended at the appliance; None where it was not."""
    session: int | None = None
    """The ticket of the session at the appliance; another one after the server was started anew."""


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A log-in that the server has accepted."""

    account: str
    generation: str
    since: str
    last_access: str
    session: int
    """Its ticket at the appliance: a number that no other session has."""


class WrongLoginError(LoginRefusedError):
    """Wrong name or password, or too many of them: ``wait_s`` says how long to wait, 0 for not at all."""

    def __init__(self, text: str, wait_s: int) -> None:
        self.wait_s = wait_s
        super().__init__(text)


class Appliance:
    """Asks the server; :class:`NoServerError` from every method where it does not answer."""

    def __init__(self, control_socket: Path) -> None:
        self._path = control_socket
        self._asks = asyncio.Semaphore(_MOST_ASKS)
        self._logins = LoginPlaces()
        self._visitor: tuple[float, asyncio.Task[Standing]] | None = None

    async def _ask(
        self,
        words: list[str],
        source: str,
        deadline_s: float = ASK_S,
        *,
        secret: str | None = None,
        session: int | None = None,
    ) -> Reply:
        asked: dict[str, Any] = {"words": words, "json": True, "source": source, "session": session}
        if secret is not None:
            asked["secrets"] = [secret]
        try:
            async with asyncio.timeout(deadline_s), self._asks:
                return await request(self._path, asked, deadline_s)
        except TimeoutError:
            raise NoServerError("is busy") from None

    async def standing(self, account: str, session: int, source: str) -> Standing:
        """Return how the account and its session stand now, and how long its user may be idle."""
        return _parse_standing(await self._ask(["web-standing", account, str(session)], source))

    async def visitor_standing(self, source: str) -> Standing:
        """Return the same for somebody who is not logged in; those who ask at the same time get the same answer."""
        if self._visitor is None or time.monotonic() - self._visitor[0] > _FRESH_S:
            task = asyncio.create_task(self._ask_visitor_standing(source))
            task.add_done_callback(_take_note)
            self._visitor = (time.monotonic(), task)
        return await asyncio.shield(self._visitor[1])

    async def _ask_visitor_standing(self, source: str) -> Standing:
        return _parse_standing(await self._ask(["web-standing"], source))

    async def log_in(self, name: str, password: str, source: str) -> LoggedIn:
        """Have a password checked, under the penalties of the browser's address.

        Raises:
            WrongLoginError: it is wrong, or the address has to wait.
            BusyError: others are being checked.
        """
        place = place_source(source)
        async with self._logins.hold(place):
            reply = await self._ask(["web-login", f"name={name}"], source, LOGIN_S, secret=password)
        facts = _parse_facts(reply)
        if facts.get("accepted") is not True:
            raise WrongLoginError(_text(facts, "error"), int(facts.get("wait_s", 0)))
        self._logins.remember(place)
        return LoggedIn(
            account=_text(facts, "account"),
            generation=_text(facts, "generation"),
            since=_text(facts, "since"),
            last_access=_text(facts, "last_access"),
            session=_number(facts, "session"),
        )

    async def log_out(self, account: str, session: int, source: str, reason: str = "") -> None:
        """Have the end of a session kept in the audit, and the session off the list."""
        await self._ask(["web-logout", account, str(session), *([reason] if reason else [])], source)

    async def information(self, session: int, source: str) -> list[tuple[str, list[tuple[str, str]]]]:
        """Return System Information: sections with their keys and values, as facts."""
        facts = _parse_facts(await self._ask(["web-information"], source, session=session))
        sections = facts.get("sections")
        if not isinstance(sections, list):
            raise NoServerError(f"answers: {facts.get('error', 'nothing')}")
        return [(each["title"], [(key, value) for key, value in each["rows"]]) for each in sections]


def _take_note(task: asyncio.Task[Standing]) -> None:
    """Look at the outcome of a question whose askers may all have gone."""
    if not task.cancelled():
        task.exception()


def _parse_facts(reply: Reply) -> Mapping[str, Any]:
    """Return the facts of a reply; they come with a refusal too."""
    try:
        facts = json.loads(reply.lines[0]) if reply.lines else None
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise NoServerError(f"answers: {reply.error}" if reply.error else "sends what is no answer")
    if facts.keys() <= {"error", "exit"}:
        raise NoServerError(f"answers: {facts.get('error')}")
    return facts


def _text(facts: Mapping[str, Any], key: str) -> str:
    value = facts.get(key)
    if not isinstance(value, str):
        raise NoServerError("sends what is no answer")
    return value


def _number(facts: Mapping[str, Any], key: str) -> int:
    value = facts.get(key)
    if not isinstance(value, int):
        raise NoServerError("sends what is no answer")
    return value


def _parse_standing(reply: Reply) -> Standing:
    facts = _parse_facts(reply)
    minutes, generation, ended = facts.get("idle_minutes"), facts.get("generation"), facts.get("ended")
    session = facts.get("session")
    texts = isinstance(generation, str | None) and isinstance(ended, str | None)
    if not isinstance(minutes, int) or not isinstance(session, int | None) or not texts:
        raise NoServerError("sends what is no answer")
    return Standing(_text(facts, "product"), _text(facts, "hostname"), minutes, generation, ended, session)
