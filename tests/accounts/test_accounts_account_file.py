from __future__ import annotations

import json
import os
import stat
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from callisto_telnetd.accounts.account_file import AccountFile, FiledAccount
from callisto_telnetd.accounts.accounts import Accounts
from callisto_telnetd.accounts.presence import Presence
from callisto_telnetd.db.store import Store
from callisto_telnetd.errors import AccountError, FolderError, StoreError
from callisto_telnetd.origin import Origin
from callisto_telnetd.trace.hub import Hub

HASH = "$argon2id$v=19$m=47104,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43


@pytest.fixture
def file(tmp_path: Path) -> AccountFile:
    """A file that is not there yet, where the accounts of this folder's tests have theirs."""
    return AccountFile(tmp_path / "accounts.json")


def entry(name: str = "ada", **changes: Any) -> dict[str, Any]:
    """Return an account as the file has it."""
    return {"name": name, "password_hash": HASH, "created_at": "2026-11-23T10:15:00+01:00", **changes}


def names_in(file: AccountFile) -> list[str]:
    """Return the names in the file."""
    return [each.name for each in file.read()]


def test_what_was_written_is_read(file: AccountFile) -> None:
    """The accounts come back as they were, from a file for its owner alone; nothing else is left in the folder."""
    accounts = [FiledAccount(**entry(name)) for name in ("ada", "bob")]
    assert file.read() == []
    file.write(accounts)

    assert file.read() == accounts
    assert file.holds(accounts)
    assert not file.holds(accounts[:1])
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert [path.name for path in file.path.parent.iterdir()] == ["accounts.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"[" * 100_000,
        b"x" * (2 << 20),
        json.dumps({"format": "callisto-accounts-1", "accounts": [entry()] * 1001}).encode(),
        *(
            json.dumps({"format": "callisto-accounts-1", "accounts": [entry(**change)]}).encode()
            for change in (
                {"name": "../root"},
                {"name": "a\n"},
                {"name": 5},
                {"password_hash": ""},
                {"password_hash": HASH.replace("m=47104", "m=999999")},
                {"password_hash": HASH.replace("t=2", "t=99")},
                {"password_hash": HASH.replace("argon2id", "argon2i")},
                {"password_hash": HASH + "\n"},
                {"created_at": "x" * 41},
                {"rights": "all"},
            )
        ),
        json.dumps({"format": "other", "accounts": []}).encode(),
    ],
)
def test_a_hostile_file_is_refused_in_one_line(file: AccountFile, content: bytes) -> None:
    """Whatever stands in the file, it is accounts within their bounds or one line that says what is wrong."""
    file.path.write_bytes(content)
    file.path.chmod(0o600)

    with pytest.raises(FolderError) as refused:
        file.read()
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 500


def test_what_is_no_file_of_the_owners_is_not_read(file: AccountFile, tmp_path: Path) -> None:
    """A pipe does not hold up the reader, a link is not followed, and what others may write to is not trusted."""
    os.mkfifo(file.path)
    with pytest.raises(FolderError):
        file.read()
    file.path.unlink()
    other = tmp_path / "other"
    other.write_text(json.dumps({"format": "callisto-accounts-1", "accounts": [entry()]}))
    file.path.symlink_to(other)
    with pytest.raises(FolderError):
        file.read()
    file.path.unlink()
    other.rename(file.path)
    file.path.chmod(0o620)
    with pytest.raises(FolderError, match="its owner alone may write"):
        file.read()


def test_a_file_that_cannot_be_written_is_removed(file: AccountFile) -> None:
    """An outdated file would open the door to passwords that were changed: none at all is better."""
    file.write([FiledAccount(**entry())])
    (file.path.parent / "accounts.json.making").mkdir()

    with pytest.raises(FolderError, match="cannot be written"):
        file.write([FiledAccount(**entry("bob"))])
    assert not file.path.exists()


async def test_every_change_is_filed_before_it_is_answered(accounts: Accounts, ada: Origin, file: AccountFile) -> None:
    """A new account, a new password and a removal are in the file as soon as the change is durable."""
    await accounts.add("ada", "Secret-123", ada)
    await accounts.add("bob", "Secret-123", ada)
    assert names_in(file) == ["ada", "bob"]
    before = file.read()[1].password_hash
    await accounts.set_password("bob", "Other-456", ada)
    assert file.read()[1].password_hash != before
    await accounts.remove("ada", ada)
    assert names_in(file) == ["bob"]


async def test_without_a_database_the_file_lets_administrators_in(
    accounts: Accounts, ada: Origin, store: Store
) -> None:
    """The accounts of the file can log in, cannot be changed, and no first account is made beside them."""
    await accounts.add("ada", "Secret-123", ada)
    store.give_up(StoreError("the database is damaged"))
    await accounts.load_file()

    known = await accounts.check("ada", "Secret-123")
    assert known is not None
    await accounts.note_access(known, ada, "Secret-123")
    assert await accounts.make_first(None) is None
    for work in (accounts.add("bob", "Secret-123", ada), accounts.set_password("ada", "Other-456", ada)):
        with pytest.raises(StoreError, match="the database is damaged"):
            await work
    with pytest.raises(AccountError):
        await accounts.remove("ada", ada)


async def test_a_database_that_lost_its_accounts_gets_them_back(
    accounts: Accounts, ada: Origin, store: Store, hub: Hub, presence: Presence
) -> None:
    """Where no account is left beside a file that has some, they are restored; log and sessions are told."""
    told: list[str] = []
    presence.enter(ada, datetime(2026, 11, 23), told.append, lambda _why: None)
    await accounts.add("ada", "Secret-123", ada)
    await store.apply([("DELETE FROM account", ())])
    await accounts.load()

    assert await store.fetch("SELECT name FROM account") == [("ada",)]
    assert await accounts.check("ada", "Secret-123") is not None
    assert "accounts restored" in [record.text for record in hub.held(0)]
    assert told == ["accounts restored: ada"]


async def test_after_a_repair_the_accounts_are_those_in_memory(accounts: Accounts, ada: Origin, store: Store) -> None:
    """Who was lost comes back, who was removed does not, an older password neither; the audit and a line say so."""
    for name in ("ada", "bob", "cid", "dan"):
        await accounts.add(name, "Secret-123", ada)
    old = await store.fetch("SELECT * FROM account WHERE name IN ('bob', 'cid')")
    await accounts.set_password("bob", "Other-456", ada)
    await accounts.remove("cid", ada)
    await store.apply([("DELETE FROM account WHERE name IN ('ada', 'bob')", ())])
    await store.apply([("INSERT INTO account VALUES (?, ?, ?, ?, ?, ?)", row) for row in old])
    await accounts.load()

    assert [each.name for each in accounts.all()] == ["ada", "bob", "dan"]
    assert await accounts.check("ada", "Secret-123") is not None
    assert await accounts.check("bob", "Other-456") is not None
    assert await accounts.check("bob", "Secret-123") is None
    assert await store.fetch("SELECT name FROM account ORDER BY name") == [("ada",), ("bob",), ("dan",)]
    assert accounts.mended == ["Accounts restored: ada", "Passwords restored: bob", "Accounts removed again: cid"]
    assert await store.fetch("SELECT event, detail FROM audit ORDER BY id DESC LIMIT 3") == [
        ("accounts removed again", "cid"),
        ("passwords restored", "bob"),
        ("accounts restored", "ada"),
    ]
    accounts.mended.clear()
    await accounts.load()
    assert accounts.mended == []


async def test_accounts_that_find_no_room_stay_in_memory(
    accounts: Accounts, ada: Origin, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the database cannot keep what was lost, log-ins work all the same."""
    await accounts.add("ada", "Secret-123", ada)
    await store.apply([("DELETE FROM account", ())])
    with monkeypatch.context() as disk:
        full = tuple(os.statvfs(store.file.parent))
        disk.setattr(os, "statvfs", lambda _path: os.statvfs_result((*full[:3], 1, 1, *full[5:])))
        await accounts.load()

    assert await accounts.check("ada", "Secret-123") is not None
    assert await store.fetch("SELECT count(*) FROM account") == [(0,)]
    await accounts.load()
    assert await store.fetch("SELECT count(*) FROM account") == [(1,)]
