from __future__ import annotations

import asyncio

import pytest

from callisto_telnetd.accounts.accounts import Accounts
from callisto_telnetd.accounts.audit import Audit
from callisto_telnetd.accounts.gatekeeper import Gatekeeper
from callisto_telnetd.accounts.log_in import check_log_in
from callisto_telnetd.accounts.penalties import TooManyFailuresError
from callisto_telnetd.origin import Origin

ADDRESS, PASSWORD = "192.0.2.7", "Secret-123"


class Door:
    """A door of an appliance with one account, ``ada``."""

    def __init__(self, accounts: Accounts, audit: Audit) -> None:
        self.accounts = accounts
        self.audit = audit
        self.gate = Gatekeeper(100, 100, 100)

    def try_password(self, password: str, name: str = "ada") -> asyncio.Task[bool]:
        """Return a try that says whether the password was right."""
        return asyncio.create_task(self._try(name, password))

    async def _try(self, name: str, password: str) -> bool:
        found = await check_log_in(
            name,
            password,
            door="telnet",
            address=ADDRESS,
            accounts=self.accounts,
            gatekeeper=self.gate,
            audit=self.audit,
        )
        return found is not None

    async def cut(self, password: str, name: str = "ada") -> None:
        """Have a password tried, and cut the connection as its check begins; return when that has ended."""
        trying = self.try_password(password, name)
        while not self.gate.turns._checking[ADDRESS]:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying
        await self.gate.tries.ended()

    async def kept(self) -> list[tuple[str, str]]:
        """Return who the audit names for what, once every check has ended."""
        await self.gate.tries.ended()
        return [(each.event, each.who) for each in await self.audit.entries(50) if each.source == ADDRESS]


@pytest.fixture
async def door(accounts: Accounts, audit: Audit, ada: Origin) -> Door:
    """Nobody has tried yet."""
    await accounts.add("ada", PASSWORD, Origin("root", "local", "local"))
    return Door(accounts, audit)


async def test_a_try_that_is_cut_off_counts_and_is_kept(door: Door) -> None:
    """Who hangs up while his password is checked has tried it: it counts, waits and stands in the audit like any."""
    for name in ("ada", "ada", "nobody", "ada", "ada"):
        await door.cut("Wrong-123", name)

    assert door.gate.penalties.wait_s(ADDRESS) == pytest.approx(30, abs=1)
    with pytest.raises(TooManyFailuresError):
        await door.try_password(PASSWORD)
    assert await door.kept() == [("access denied", who) for who in ("ada", "ada", "unknown", "ada", "ada")]


async def test_a_try_that_is_cut_off_holds_its_thread(door: Door) -> None:
    """While two passwords of peers who hung up are checked, the next one waits: cutting off gains no guess."""
    cut = [door.try_password("Wrong-123") for _ in range(2)]
    while door.gate.turns._checking[ADDRESS] < 2:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    for trying in cut:
        trying.cancel()
    await asyncio.wait(cut)
    waiting = door.try_password(PASSWORD)
    await asyncio.sleep(0)

    assert len(door.gate.turns._waiting) == 1
    assert await waiting
    assert await door.kept() == [("access denied", "ada")] * 2


async def test_a_right_password_that_is_cut_off_takes_its_count_back(door: Door) -> None:
    """A right password costs nothing, though nobody was there to be let in; the audit says what happened."""
    await door.cut("Wrong-123")
    await door.cut(PASSWORD)

    assert await door.kept() == [("access denied", "ada"), ("log-in cut off", "ada")]
    assert door.gate.penalties.streak(ADDRESS) == 0


async def test_a_log_in_that_is_cut_off_while_it_is_noted_is_in_the_audit(
    door: Door, accounts: Accounts, ada: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who hangs up while his old hash is renewed was logged in, and the audit has it."""
    assert await door.try_password(PASSWORD)
    monkeypatch.setattr(door.accounts._hashes, "outdated", lambda _known: True)
    noting = asyncio.create_task(accounts.note_access(accounts.require("ada"), ada, PASSWORD))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    noting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await noting
    await accounts.close()

    assert ("logged in", "ada") in await door.kept()
