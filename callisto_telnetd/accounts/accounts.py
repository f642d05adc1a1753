"""The administrators' accounts: held in memory, every change durable first.

A changed or removed account ends its sessions. There is always one account left. Every change goes to the account file
too, before it is answered: it is what administrators log in by where the database cannot be opened.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from callisto_telnetd.accounts.account_file import AccountFile, FiledAccount
from callisto_telnetd.accounts.audit import Audit
from callisto_telnetd.accounts.passwords import PasswordHashes, random_password, require_rule
from callisto_telnetd.accounts.presence import Presence
from callisto_telnetd.clock import Clock
from callisto_telnetd.db.store import Statement, Store
from callisto_telnetd.errors import AccountError, DiskFullError, FolderError, StoreError, quoted
from callisto_telnetd.origin import SYSTEM, Origin
from callisto_telnetd.quantities import MOST_ACCOUNTS, counted
from callisto_telnetd.trace.logs import Log
from callisto_telnetd.work import Tasks, in_thread

FIRST_NAME = "admin"
GENERATED_STATE = "generated-password"
"""The key under which the database keeps the account whose password was made, until that is changed."""
NAME_RULE = "a letter, then at most 31 letters, digits, '.', '_' or '-'"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,31}")


@dataclass(frozen=True, slots=True)
class Access:
    """When, from where and through which door an account was used."""

    at: str
    source: str
    door: str


@dataclass(frozen=True, slots=True)
class FirstAccount:
    """The account that was made because there was none."""

    password: str | None
    """A random one, to be shown once; None where the owner has given his own."""


@dataclass(frozen=True, slots=True)
class Account:
    """An administrator."""

    name: str
    password_hash: str
    created_at: str
    last_access: Access | None = None


def _is_same(one: Account, other: Account) -> bool:
    return (one.password_hash, one.created_at) == (other.password_hash, other.created_at)


class Accounts:
    """All administrators of the appliance; made by :meth:`load`."""

    def __init__(
        self, store: Store, *, hashes: PasswordHashes, audit: Audit, presence: Presence, clock: Clock, log: Log
    ) -> None:
        self._log = log
        self._store = store
        self._hashes = hashes
        self._audit = audit
        self._presence = presence
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self._adding = asyncio.Lock()
        self._removing = asyncio.Lock()
        self._file = AccountFile(store.file.with_name("accounts.json"))
        self._writing = asyncio.Lock()
        self._filing = Tasks()
        self._changing = Tasks()
        self.mended: list[str] = []
        """What readings have put right in the database, a line each; a repair clears it before, and tells it after."""
        self.replaced = False
        """Whether the accounts that the next reading finds are the true ones: a restore has put them there."""

    async def load(self) -> None:
        """Read the accounts from the database, and bring the account file up to date.

        Accounts that are in memory already are the true ones: the database has been repaired meanwhile, or is an older
        one, and is put right by them (:attr:`mended`). At the start a database without any, beside a file that has
        some, has lost them: they are taken from there. Only where they were :attr:`replaced` on purpose, those that
        are read are the true ones, if there are any.

        Raises:
            StoreError: they cannot be read; those in memory are as they were.
        """
        rows = await self._store.fetch(
            "SELECT name, password_hash, created_at, last_access_at, last_access_source, last_access_door"
            " FROM account ORDER BY name"
        )
        read = {
            row[0]: Account(row[0], row[1], row[2], Access(row[3], row[4], row[5]) if row[3] else None) for row in rows
        }
        known = {} if self.replaced and read else self._accounts
        true = known or ({} if read else await self._filed_accounts())
        self._accounts = await self._put_right(read, true) if true else read
        self.replaced = False
        self._file_changes()
        await self._filed()

    def return_to(self, accounts: Sequence[Account]) -> None:
        """Take these for the true ones again: what had replaced them was taken back. :meth:`load` then keeps them."""
        self.replaced = False
        self._accounts = {each.name: each for each in accounts}
        self._file_changes()

    async def load_file(self) -> None:
        """Take the accounts from the account file, where the database cannot be read; none where that is no help."""
        self._accounts = await self._filed_accounts()

    async def _filed_accounts(self) -> dict[str, Account]:
        try:
            filed = await in_thread(self._file.read)
        except FolderError as error:
            self._log.error("account file not used", reason=str(error))
            return {}
        return {each.name: Account(each.name, each.password_hash, each.created_at) for each in filed}

    async def _put_right(self, read: dict[str, Account], true: dict[str, Account]) -> dict[str, Account]:
        """Bring the database in line with the true accounts, as far as it can be, and return them.

        Nobody is locked out by what a damage has taken, and no removed account or old password comes back.
        """
        back = [each for each in true.values() if each.name not in read]
        changed = [each for each in true.values() if each.name in read and not _is_same(each, read[each.name])]
        removed = [name for name in read if name not in true]
        delete, insert = "DELETE FROM account WHERE name = ?", "INSERT INTO account VALUES (?, ?, ?, ?, ?, ?)"
        statements: list[Statement] = [(delete, (name,)) for name in (*removed, *(each.name for each in changed))]
        for each in (*back, *changed):
            access = each.last_access or Access("", "", "")
            last = (access.at or None, access.source or None, access.door or None)
            statements.append((insert, (each.name, each.password_hash, each.created_at, *last)))
        for what, names in (
            ("accounts restored", [each.name for each in back]),
            ("passwords restored", [each.name for each in changed]),
            ("accounts removed again", removed),
        ):
            if names:
                statements += self._audit.statements(what, SYSTEM, ", ".join(names))
                self.mended.append(f"{what.capitalize()}: {', '.join(names)}")
                self._log.warning(what, names=", ".join(names))
                self._presence.notify_all(f"{what}: {', '.join(names)}")
        if statements:
            try:
                await self._store.apply(statements)
            except StoreError as error:  # the shell is worth more: those in memory are the true ones all the same
                self._log.error("accounts not kept in the database", reason=str(error))
        return {
            name: replace(each, last_access=each.last_access or (read[name].last_access if name in read else None))
            for name, each in true.items()
        }

    def _file_changes(self) -> None:
        """Begin to write the account file: a caller who is cancelled cannot leave it behind."""
        self._filing.begin(self._write_file())

    async def _filed(self) -> None:
        """Wait until the account file is up to date."""
        await self._filing.ended()

    async def _write_file(self) -> None:
        async with self._writing:
            accounts = [filed for each in self.all() if (filed := self._filed_form(each))]
            try:
                await asyncio.to_thread(self._file.keep, accounts)
            except (FolderError, OSError) as error:
                self._log.error("account file not written", reason=str(error))

    def _filed_form(self, account: Account) -> FiledAccount | None:
        """Return what the file says of an account; nothing where a damage has made it one that nobody can log in by."""
        try:
            return FiledAccount(name=account.name, password_hash=account.password_hash, created_at=account.created_at)
        except ValidationError:
            self._log.warning("account not in the account file", account=account.name)
            return None

    async def close(self) -> None:
        """Return once the account file is written."""
        await self._changing.ended()
        await self._filed()

    def all(self) -> list[Account]:
        """Return the accounts by name."""
        return sorted(self._accounts.values(), key=lambda account: account.name)

    async def check(self, name: str, password: str, *, first: bool = False) -> Account | None:
        """Return the account if the password is its own, before others where it is to be ``first``.

        An unknown name takes the same time.
        """
        account = self._accounts.get(name)
        right = await self._hashes.check(account.password_hash if account else None, password, first=first)
        # Looked up again: the account may have been changed or removed while the hash was made.
        return account if right and account and self.stands(account) else None

    def stands(self, account: Account) -> bool:
        """Whether the account still has that password."""
        return self._hash_of(account.name) == account.password_hash

    def _hash_of(self, name: str) -> str | None:
        account = self._accounts.get(name)
        return account.password_hash if account else None

    async def note_access(self, account: Account, origin: Origin, password: str) -> None:
        """Keep the access, as far as the database can; renew a hash of older parameters.

        A caller who is cancelled meanwhile has been let in all the same: the audit says so.
        """
        await self._changing.finish(self._note_access(account, origin, password))

    async def _note_access(self, account: Account, origin: Origin, password: str) -> None:
        access = Access(self._clock.now().isoformat(timespec="seconds"), origin.source, origin.door)
        known = account.password_hash
        if self._store.usable and self._hashes.outdated(known):
            known = await self._hashes.make(password)
        statement: Statement = (
            (
                "UPDATE account SET last_access_at = ?, last_access_source = ?, last_access_door = ?, password_hash = ?"
                " WHERE name = ? AND password_hash = ?"
            ),
            (access.at, access.source, access.door, known, account.name, account.password_hash),
        )
        if self._accounts.get(account.name) == account:
            self._accounts[account.name] = replace(account, last_access=access, password_hash=known)
            if known != account.password_hash:
                self._file_changes()
        await self._audit.note("logged in", origin, also=(statement,))

    async def has_generated_password(self, name: str) -> bool:
        """Tell whether the account still has the password that was made for it."""
        if not self._store.usable:
            return False
        return await self._store.get_state(GENERATED_STATE) == name

    async def add(self, name: str, password: str, by: Origin) -> None:
        """Add an administrator.

        Raises:
            AccountError: the name or the password is outside its rule, the name is taken, or there are too many.
            StoreError: it could not be kept.
        """
        self.require_free(name)
        require_rule(password)
        account = Account(name, await self._hashes.make(password), self._clock.now().isoformat(timespec="seconds"))
        await self._changing.finish(self._add(account, by))

    async def _add(self, account: Account, by: Origin) -> None:
        async with self._adding:  # of two that come at once, the second finds what the first has made
            self.require_free(account.name)
            await self._store.apply(
                [
                    (
                        "INSERT INTO account (name, password_hash, created_at) VALUES (?, ?, ?)",
                        (account.name, account.password_hash, account.created_at),
                    ),
                    *self._audit.statements("account added", by, account.name),
                ],
                then=lambda _: self._keep(account),
            )
        await self._filed()

    def require_free(self, name: str) -> None:
        """Check that an account of that name may be added.

        Raises:
            AccountError: the name is outside its rule, or taken; or there are as many accounts as there may be.
        """
        if not _NAME.fullmatch(name):
            raise AccountError(f"{quoted(name)} is no name for an account; allowed: {NAME_RULE}")
        if name in self._accounts:
            raise AccountError(f"an account named {name} exists already")
        if len(self._accounts) >= MOST_ACCOUNTS:
            there = counted(len(self._accounts), "account", grouped=True)
            raise AccountError(f"there are {there}, allowed are {MOST_ACCOUNTS:,}; remove one")

    def _keep(self, account: Account) -> None:
        self._accounts[account.name] = account
        self._file_changes()

    async def set_password(self, name: str, password: str, by: Origin, session: int | None = None) -> int:
        """Change an account's password and end its sessions, but the one of that number; return how many ended.

        Raises:
            AccountError: no such account, or the password is outside the rule.
            StoreError: it could not be kept.
        """
        self.require(name)
        require_rule(password)
        known = await self._hashes.make(password)
        self.require(name)
        ended: list[int] = []
        await self._store.apply(
            [
                ("UPDATE account SET password_hash = ? WHERE name = ?", (known, name)),
                ("DELETE FROM state WHERE key = ? AND value = ?", (GENERATED_STATE, name)),
                *self._audit.statements("password changed", by, name),
            ],
            then=lambda _: ended.append(self._renew(name, known, session)),
        )
        await self._filed()
        self.require(name)
        return sum(ended)

    def _renew(self, name: str, known: str, session: int | None) -> int:
        """Take the new password, and end the sessions at once: the caller may be cancelled by now."""
        # Looked up again: an account that was removed meanwhile is not brought back.
        if account := self._accounts.get(name):
            self._keep(replace(account, password_hash=known))
        return self._presence.end_sessions_of(name, "the password of this account was changed", but=session)

    async def remove(self, name: str, by: Origin, session: int | None = None) -> int:
        """Remove an account and end its sessions, but the one of that number; return how many ended.

        Raises:
            AccountError: no such account, or the only one.
            StoreError: it could not be kept.
        """
        return await self._changing.finish(self._remove(name, by, session))  # a cancelled caller lets nobody else in

    async def _remove(self, name: str, by: Origin, session: int | None) -> int:
        async with self._removing:  # of two that remove one another, the second finds the last account
            self.require_others(name)
            delete: Statement = ("DELETE FROM account WHERE name = ?", (name,))
            ended: list[int] = []

            def forget(_: object) -> None:
                ended.append(self._forget(name, by, session))

            try:
                audit = self._audit.statements("account removed", by, name)
                await self._store.apply([delete, *audit], then=forget, grows=False)
            except DiskFullError:  # an account must go even where its audit finds no room
                await self._store.apply([delete], then=forget, grows=False)
            await self._filed()
        return sum(ended)

    def _forget(self, name: str, by: Origin, session: int | None) -> int:
        """Forget the account, and end its sessions at once: the caller may be cancelled by now."""
        self._accounts.pop(name, None)
        self._file_changes()
        self._log.info("account removed", account=name, who=by.who, source=by.source)
        return self._presence.end_sessions_of(name, "this account was removed", but=session)

    def require(self, name: str) -> Account:
        """Return the account of that name.

        Raises:
            AccountError: there is none.
        """
        if name not in self._accounts:
            known: Sequence[str] = [account.name for account in self.all()]
            raise AccountError(f"no account named {quoted(name)}; there are: {', '.join(known[:20]) or 'none'}")
        return self._accounts[name]

    def require_others(self, name: str) -> None:
        """Check that an account may be removed.

        Raises:
            AccountError: there is none of that name, or no other.
        """
        self.require(name)
        if len(self._accounts) == 1:
            raise AccountError(f"{name} is the only account; add another before it is removed")

    async def make_first(self, password: str | None) -> FirstAccount | None:
        """Make ``admin`` where there is no account at all, and the database can say so.

        Args:
            password: The password to give it; without one a random one is made.

        Returns:
            What was made; None where nothing was.

        Raises:
            AccountError: the given password is outside the rule.
        """
        if self._accounts or self._store.fault is not None:
            return None
        made = None if password else random_password()
        await self.add(FIRST_NAME, password or made or "", SYSTEM)
        if made:
            await self._store.set_state(GENERATED_STATE, FIRST_NAME)
        return FirstAccount(made)
