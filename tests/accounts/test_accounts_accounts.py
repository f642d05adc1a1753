from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

import argon2
import pytest

from callisto_telnetd.accounts.account_file import AccountFile
from callisto_telnetd.accounts.accounts import Access, Accounts, FirstAccount
from callisto_telnetd.accounts.audit import Audit
from callisto_telnetd.accounts.passwords import PasswordHashes, require_rule
from callisto_telnetd.accounts.presence import Presence
from callisto_telnetd.clock import Clock
from callisto_telnetd.db.store import Store
from callisto_telnetd.errors import AccountError, StoreError
from callisto_telnetd.origin import SYSTEM, Origin
from callisto_telnetd.trace.hub import Hub

GOOD, BETTER = "Secret-123", "Better-456"
AUDITED = "SELECT event, who, door, source, detail FROM audit ORDER BY id"
BREAK_AUDIT = "CREATE TRIGGER broken BEFORE INSERT ON audit BEGIN SELECT raise(ABORT, 'no'); END"

Rows = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
async def two(accounts: Accounts, store: Store, good_hash: str) -> Accounts:
    """Two accounts, ada and bob, of the same good password."""
    made = [(name, good_hash, "2026-11-23T10:00:00+01:00") for name in ("ada", "bob")]
    await store.apply([("INSERT INTO account (name, password_hash, created_at) VALUES (?, ?, ?)", row) for row in made])
    await accounts.load()
    return accounts


async def test_an_added_account_may_come_in_also_after_a_restart(
    accounts: Accounts, ada: Origin, store: Store, hashes: PasswordHashes, audit: Audit, clock: Clock
) -> None:
    """The account is in memory and in the database, its password is its own, and no other lets it in."""
    await accounts.add("ada", GOOD, ada)
    again = Accounts(store, hashes=hashes, audit=audit, presence=Presence(), clock=clock, log=audit._log)
    await again.load()

    for each in (accounts, again):
        account = await each.check("ada", GOOD)
        assert account is not None
        assert (account.name, account.created_at, account.last_access) == ("ada", "2026-11-23T10:15:00+01:00", None)
    assert await accounts.check("ada", BETTER) is None
    assert await accounts.check("bob", GOOD) is None
    assert await accounts.check("Ada", GOOD) is None


async def test_no_more_accounts_are_made_than_a_restore_takes(
    accounts: Accounts, store: Store, ada: Origin, good_hash: str
) -> None:
    """Of two that come at once for the last place one is refused in one line; the account file has all the others."""
    made = [(f"ada{number}", good_hash, "2026-11-23T10:00:00+01:00") for number in range(999)]
    await store.apply([("INSERT INTO account (name, password_hash, created_at) VALUES (?, ?, ?)", row) for row in made])
    await accounts.load()

    outcomes = await asyncio.gather(*(accounts.add(name, GOOD, ada) for name in ("x", "y")), return_exceptions=True)

    assert sorted(map(str, outcomes)) == ["None", "there are 1,000 accounts, allowed are 1,000; remove one"]
    with pytest.raises(AccountError, match="allowed are 1,000"):
        accounts.require_free("z")
    assert len(AccountFile(store.file.with_name("accounts.json")).read()) == len(accounts.all()) == 1000


async def test_an_account_file_that_cannot_hold_all_is_said_and_goes(
    accounts: Accounts, store: Store, hub: Hub, good_hash: str
) -> None:
    """A database that an earlier version has filled with more: a line in the log, and no outdated file stays."""
    file = store.file.with_name("accounts.json")
    insert = "INSERT INTO account (name, password_hash, created_at) VALUES (?, ?, '2026-11-23T10:00:00+01:00')"
    await store.apply([(insert, (f"ada{number}", good_hash)) for number in range(1001)])
    file.write_text('{"format": "callisto-accounts-1", "accounts": []}')

    await accounts.load()

    assert len(accounts.all()) == 1001
    assert not file.exists()
    said = [record for record in hub.held(0) if record.text == "account file not written"]
    assert len(said) == 1


async def test_no_password_stands_in_the_database(accounts: Accounts, ada: Origin, store: Store) -> None:
    """Neither a password that was set nor one that was tried is in the file."""
    await accounts.add("ada", GOOD, ada)
    await accounts.set_password("ada", BETTER, ada)
    await accounts.check("ada", "Tried-789")

    kept = store.file.read_bytes()
    assert not [each for each in (GOOD, BETTER, "Tried-789") if each.encode() in kept]


@pytest.mark.parametrize("name", ["", "1st", "-x", "a b", "ada\n", "Äda", "a" * 33, "a;b", "ada\x1b", "../ada"])
async def test_a_name_outside_the_rule_is_refused(accounts: Accounts, ada: Origin, name: str) -> None:
    """The refusal is one printable line that says what a name is, and nothing is kept."""
    with pytest.raises(AccountError, match="is no name for an account; allowed: a letter, then at most 31") as refused:
        await accounts.add(name, GOOD, ada)

    assert str(refused.value).isprintable()
    assert accounts.all() == []


@pytest.mark.parametrize("name", ["a", "Ada.Lovelace-1_x", "a" * 32])
async def test_a_name_within_the_rule_is_taken(accounts: Accounts, ada: Origin, name: str) -> None:
    """One letter is enough, and 32 characters are not too many."""
    await accounts.add(name, GOOD, ada)

    assert [account.name for account in accounts.all()] == [name]


async def test_a_name_is_given_once(accounts: Accounts, ada: Origin, rows: Rows) -> None:
    """A second account of the name is refused, also where both are made at the same time."""
    outcomes = await asyncio.gather(*(accounts.add("ada", GOOD, ada) for _ in range(3)), return_exceptions=True)
    with pytest.raises(AccountError, match=r"^an account named ada exists already$"):
        await accounts.add("ada", GOOD, ada)

    assert outcomes.count(None) == 1
    assert all(isinstance(each, AccountError | StoreError) for each in outcomes if each is not None)
    assert rows("SELECT count(*) FROM account") == [(1,)]
    assert rows("SELECT count(*) FROM audit") == [(1,)]


async def test_a_password_outside_the_rule_changes_nothing(two: Accounts, ada: Origin) -> None:
    """Neither a new account nor a change takes a weak password."""
    with pytest.raises(AccountError, match="outside the rule"):
        await two.add("eve", "weak", ada)
    with pytest.raises(AccountError, match="outside the rule"):
        await two.set_password("ada", "weak", ada)

    assert [account.name for account in two.all()] == ["ada", "bob"]
    assert await two.check("ada", GOOD)


async def test_a_changed_password_replaces_the_old_one(two: Accounts, ada: Origin) -> None:
    """The new password is right at once, and the old one wrong."""
    await two.set_password("ada", BETTER, ada)

    assert await two.check("ada", BETTER)
    assert await two.check("ada", GOOD) is None
    assert await two.check("bob", GOOD)


async def test_a_password_that_is_changed_during_the_check_is_wrong(two: Accounts, ada: Origin) -> None:
    """Who gives the old password while it is being replaced does not come in with it."""
    checked, _ = await asyncio.gather(two.check("ada", GOOD), two.set_password("ada", BETTER, ada))
    late = await two.check("ada", GOOD)

    assert late is None
    assert checked is None or checked.password_hash != two.require("ada").password_hash


async def test_an_account_that_is_removed_during_the_check_does_not_come_in(two: Accounts, ada: Origin) -> None:
    """The right password of an account that is removed meanwhile is of no use."""
    checking = asyncio.create_task(two.check("ada", GOOD))
    await asyncio.sleep(0)
    await two.remove("ada", ada)

    assert await checking is None


async def test_a_removed_account_stays_removed(two: Accounts, ada: Origin, rows: Rows) -> None:
    """It is gone from memory and from the database."""
    await two.remove("ada", ada)

    assert await two.check("ada", GOOD) is None
    assert rows("SELECT name FROM account") == [("bob",)]
    with pytest.raises(AccountError, match=r"^no account named 'ada'; there are: bob$"):
        two.require("ada")


async def test_the_last_account_stays(two: Accounts, ada: Origin) -> None:
    """The only account cannot be removed."""
    await two.remove("ada", ada)

    with pytest.raises(AccountError, match=r"^bob is the only account; add another before it is removed$"):
        await two.remove("bob", ada)
    assert await two.check("bob", GOOD)


async def test_of_two_removals_at_once_one_is_refused(two: Accounts, ada: Origin, rows: Rows) -> None:
    """Two administrators who remove one another leave one account, and the other is told that it stayed."""
    outcomes = await asyncio.gather(two.remove("ada", ada), two.remove("bob", ada), return_exceptions=True)

    assert [account.name for account in two.all()] == [name for (name,) in rows("SELECT name FROM account")] == ["bob"]
    assert outcomes[0] == 0
    assert isinstance(outcomes[1], AccountError)
    assert ("account removed", "ada", "telnet", "192.0.2.7", "bob") not in rows(AUDITED)


async def test_a_removed_account_is_not_brought_back_by_a_new_password(two: Accounts, ada: Origin, rows: Rows) -> None:
    """A password that was being changed while its account is removed lets nobody in."""
    waiting = asyncio.Event()

    async def slow_disk() -> None:
        async with two._store._lock:
            await waiting.wait()

    disk = asyncio.create_task(slow_disk())
    await asyncio.sleep(0)
    removing = asyncio.create_task(two.remove("ada", ada))
    await asyncio.sleep(0)
    changing = asyncio.create_task(two.set_password("ada", BETTER, ada))
    while not two._store._lock._waiters or len(two._store._lock._waiters) < 2:  # both wait for the disk
        await asyncio.sleep(0)
    waiting.set()
    await disk
    await removing
    (changed,) = await asyncio.gather(changing, return_exceptions=True)

    assert isinstance(changed, AccountError)
    assert [account.name for account in two.all()] == [name for (name,) in rows("SELECT name FROM account")] == ["bob"]
    assert await two.check("ada", BETTER) is None


@pytest.mark.parametrize("event", ["add", "passwd"])
async def test_a_change_without_its_audit_does_not_happen(two: Accounts, ada: Origin, store: Store, event: str) -> None:
    """A change and its line in the audit are one transaction: neither is kept alone."""
    await store.apply([(BREAK_AUDIT, ())])

    with pytest.raises(StoreError):
        await (two.add("eve", BETTER, ada) if event == "add" else two.set_password("ada", BETTER, ada))

    assert [account.name for account in two.all()] == ["ada", "bob"]
    assert await store.fetch("SELECT count(*) FROM account") == [(2,)]
    assert await two.check("ada", GOOD)


async def test_every_change_is_audited(accounts: Accounts, ada: Origin, rows: Rows) -> None:
    """The audit says what was done to which account, by whom, through which door, from where."""
    await accounts.add("ada", GOOD, ada)
    await accounts.add("bob", GOOD, ada)
    await accounts.set_password("bob", BETTER, ada)
    await accounts.remove("bob", ada)

    by = ("ada", "telnet", "192.0.2.7")
    assert rows(AUDITED) == [
        ("account added", *by, "ada"),
        ("account added", *by, "bob"),
        ("password changed", *by, "bob"),
        ("account removed", *by, "bob"),
    ]


class Session:
    """A session that is on, and what it was told."""

    def __init__(self, presence: Presence, who: str, door: str = "telnet") -> None:
        self.ended: list[str] = []
        self.notices: list[str] = []
        origin = Origin(who, door, "192.0.2.7")
        self.number = presence.enter(origin, datetime(2026, 11, 23), self.notices.append, self.ended.append).number


async def test_a_changed_password_ends_the_other_sessions(two: Accounts, ada: Origin, presence: Presence) -> None:
    """Every session of the account ends with its reason, but the one that made the change, and nobody else's."""
    own, other, bob = Session(presence, "ada"), Session(presence, "ada", "telnets"), Session(presence, "bob")

    assert await two.set_password("ada", BETTER, ada, session=own.number) == 1
    assert (own.ended, other.ended, bob.ended) == ([], ["the password of this account was changed"], [])


async def test_a_removed_account_ends_its_sessions(two: Accounts, ada: Origin, presence: Presence) -> None:
    """The sessions of a removed account end; a system user of the same name at the local socket stays."""
    first, second, local = Session(presence, "bob"), Session(presence, "bob"), Session(presence, "bob", "local")

    assert await two.remove("bob", ada) == 2
    assert (first.ended, second.ended, local.ended) == (["this account was removed"], ["this account was removed"], [])


async def test_a_failed_change_ends_no_session(two: Accounts, ada: Origin, presence: Presence, store: Store) -> None:
    """Where the change could not be kept, everybody stays on."""
    session = Session(presence, "bob")
    await store.apply([("CREATE TRIGGER t BEFORE UPDATE ON account BEGIN SELECT raise(ABORT, 'no'); END", ())])
    await store.apply([("CREATE TRIGGER u BEFORE DELETE ON account BEGIN SELECT raise(ABORT, 'no'); END", ())])

    with pytest.raises(StoreError):
        await two.set_password("bob", BETTER, ada)
    with pytest.raises(StoreError):
        await two.remove("bob", ada)
    assert session.ended == []


async def test_an_access_is_kept(two: Accounts, ada: Origin, rows: Rows) -> None:
    """The last access has its time, source and door, in memory and in the database, and is audited."""
    await two.note_access(two.require("ada"), ada, GOOD)

    assert two.require("ada").last_access == Access("2026-11-23T10:15:00+01:00", "192.0.2.7", "telnet")
    assert rows("SELECT last_access_at, last_access_source FROM account WHERE name = 'ada'") == [
        ("2026-11-23T10:15:00+01:00", "192.0.2.7")
    ]
    assert rows(AUDITED)[-1] == ("logged in", "ada", "telnet", "192.0.2.7", "")


async def test_an_old_hash_is_renewed_at_the_access(
    accounts: Accounts, ada: Origin, store: Store, hashes: PasswordHashes, rows: Rows
) -> None:
    """A hash of weaker parameters is replaced by one of today's, and the same password goes on working."""
    old = argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(GOOD)
    await store.apply([("INSERT INTO account (name, password_hash, created_at) VALUES ('ada', ?, '')", (old,))])
    await accounts.load()

    account = await accounts.check("ada", GOOD)
    assert account is not None
    await accounts.note_access(account, ada, GOOD)

    renewed = accounts.require("ada").password_hash
    assert renewed != old
    assert not hashes.outdated(renewed)
    assert rows("SELECT password_hash FROM account") == [(renewed,)]
    assert await accounts.check("ada", GOOD)


async def test_an_access_never_brings_an_old_password_back(two: Accounts, ada: Origin, rows: Rows) -> None:
    """An access that is kept late does not undo the change of the password that came before it."""
    before = two.require("ada")
    await two.set_password("ada", BETTER, ada)
    changed = two.require("ada").password_hash
    await two.note_access(before, ada, GOOD)

    assert two.require("ada").password_hash == changed
    assert rows("SELECT password_hash FROM account WHERE name = 'ada'") == [(changed,)]


async def test_an_access_is_no_error_where_it_cannot_be_kept(two: Accounts, ada: Origin, store: Store) -> None:
    """Logging in works on a database that takes nothing."""
    await store.apply([(BREAK_AUDIT, ())])

    await two.note_access(two.require("ada"), ada, GOOD)

    assert two.require("ada").last_access is not None


async def test_the_first_account_has_a_random_password(accounts: Accounts) -> None:
    """Where there is no account, admin is made with a password of chance, which is returned once."""
    made = await accounts.make_first(None)

    assert made is not None
    assert made.password is not None
    require_rule(made.password)
    assert await accounts.check("admin", made.password)
    assert await accounts.has_generated_password("admin")
    await accounts.set_password("admin", GOOD, SYSTEM)
    assert not await accounts.has_generated_password("admin")
    assert await accounts.make_first(None) is None


async def test_the_first_account_takes_the_password_that_is_given(accounts: Accounts) -> None:
    """The owner's password is taken and not repeated; one outside the rule makes no account."""
    with pytest.raises(AccountError, match="outside the rule"):
        await accounts.make_first("weak")
    assert accounts.all() == []

    assert await accounts.make_first(GOOD) == FirstAccount(None)
    assert await accounts.check("admin", GOOD)
    assert not await accounts.has_generated_password("admin")


async def test_no_first_account_beside_others(two: Accounts) -> None:
    """Where somebody is an administrator already, the environment's password changes nothing."""
    assert await two.make_first(BETTER) is None
    assert [account.name for account in two.all()] == ["ada", "bob"]


@pytest.mark.parametrize("change", ["remove", "set_password"])
async def test_sessions_end_though_the_caller_is_cancelled(
    two: Accounts, presence: Presence, ada: Origin, change: str, good_hash: str
) -> None:
    """An account that is removed or has another password has no session, also where its caller goes at the commit."""
    told: list[str] = []
    presence.enter(Origin("bob", "telnet", "192.0.2.9"), datetime(2026, 11, 23), lambda _: None, told.append)
    task = asyncio.create_task(two.remove("bob", ada) if change == "remove" else two.set_password("bob", BETTER, ada))
    async with asyncio.timeout(20):
        while [each.password_hash for each in two.all()] == [good_hash, good_hash]:
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await two.close()

    assert len(told) == 1


async def test_an_account_stays_where_one_of_two_removers_is_cancelled(two: Accounts, ada: Origin) -> None:
    """A removal that goes on without its caller still keeps the other one from taking the last account."""
    first = asyncio.create_task(two.remove("bob", ada))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    with pytest.raises(AccountError, match="ada is the only account"):
        await two.remove("ada", ada)

    assert [each.name for each in two.all()] == ["ada"]
