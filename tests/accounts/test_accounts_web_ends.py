"""Sessions of browsers that end without being asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime

import pytest

from callisto_telnetd.accounts import web_ends
from callisto_telnetd.accounts.audit import Audit
from callisto_telnetd.accounts.presence import Presence, Present
from callisto_telnetd.accounts.web_ends import WebEnds
from callisto_telnetd.origin import Origin
from tests.accounts.conftest import Rows
from tests.conftest import DEADLINE_S

SINCE = datetime(2026, 11, 23, 10, 15)
ENDS = "SELECT event, who, door, source, detail FROM audit ORDER BY id"


@dataclass
class Around:
    """What the ends follow from."""

    presence: Presence
    minutes: int = 20
    web_server_since: float = 0.0
    asked: int = 0
    number: int = field(default=0)

    def enter(self, idle_s: float = 0.0, who: str = "ada") -> Present:
        """Enter a browser of an address of its own that has not asked for so long."""
        self.number += 1
        entry = self.presence.enter_web(Origin(who, "web", f"192.0.2.{self.number}"), SINCE)
        entry.used_at -= idle_s
        return entry

    def since(self) -> float:
        """Return when the web server began, and count who asks."""
        self.asked += 1
        return self.web_server_since


@pytest.fixture
def around(presence: Presence) -> Around:
    """Twenty minutes, and a web server that has run for long."""
    return Around(presence)


@pytest.fixture
async def ends(around: Around, audit: Audit) -> AsyncIterator[WebEnds]:
    """What looks for the ends; nobody has started it."""
    ends = WebEnds(around.presence, audit, lambda: around.minutes, around.since)
    yield ends
    await ends.close()


async def test_an_idle_session_is_in_the_audit_though_its_browser_never_asks(
    around: Around, ends: WebEnds, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends by itself, once, with the reason; those that are used, and those of other doors, go on."""
    monkeypatch.setattr(web_ends, "_EVERY_S", 0.001)
    shell = around.presence.enter(Origin("ada", "telnet", "192.0.2.99"), SINCE, print, print)
    shell.used_at -= 1e6
    used, idle = around.enter(19 * 60), around.enter(20 * 60)
    ends.start()
    async with asyncio.timeout(DEADLINE_S):
        while not rows(ENDS):
            await asyncio.sleep(0.001)
    await ends.close()

    assert rows(ENDS) == [("logged out", "ada", "web", "192.0.2.2", "no use for 20 minutes")]
    assert around.presence.all() == [shell, used]
    assert around.presence.use_web(idle.ticket, idle.origin, SINCE) == "no use for 20 minutes"


async def test_another_time_counts_at_once(around: Around, ends: WebEnds, rows: Rows) -> None:
    """A shorter gWebTimeout ends what is idle for longer, and 0 nobody."""
    around.enter(61)
    ends.sweep()
    around.minutes = 0
    ends.sweep()
    assert len(around.presence.all()) == 1
    around.minutes = 1
    ends.sweep()
    ends.sweep()
    await ends.close()

    assert around.presence.all() == []
    assert rows(ENDS) == [("logged out", "ada", "web", "192.0.2.1", "no use for 1 minute")]


async def test_sessions_end_with_their_web_server(around: Around, ends: WebEnds, rows: Rows) -> None:
    """What a web server had in memory is over when it is, where nobody is logged out automatically too."""
    around.minutes, around.web_server_since = 0, time.monotonic() - 10
    before, after = around.enter(11, "ben"), around.enter(9)
    ends.sweep()
    await ends.close()

    assert around.presence.all() == [after]
    assert around.presence.use_web(before.ticket, before.origin, SINCE) == "the web server was stopped"
    assert rows(ENDS) == [("logged out", "ben", "web", "192.0.2.1", "the web server was stopped")]


async def test_a_sweep_asks_once_for_the_web_server(around: Around, ends: WebEnds) -> None:
    """However many browsers are on, one look at the web server does for all of them."""
    for _ in range(50):
        around.enter(1)
    ends.sweep()

    assert (around.asked, len(around.presence.all())) == (1, 50)
