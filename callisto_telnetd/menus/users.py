"""``user``: the administrators' accounts, and ``audit``: what was done."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from callisto_telnetd.accounts.accounts import Account
from callisto_telnetd.accounts.log_in import check_log_in
from callisto_telnetd.accounts.passwords import RULE, require_rule
from callisto_telnetd.errors import AccountError, UsageError
from callisto_telnetd.menus.answers import Answer, Done, Fact, Line, Move
from callisto_telnetd.menus.arguments import parse_whole, require_count, take_yes
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.tree import Command, Menu
from callisto_telnetd.quantities import counted

_MOST_AUDIT = 1000


async def list_users(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the accounts with their last access."""
    require_count(words, 0, 0, "user list")
    accounts = context.parts.accounts.all()
    for account in accounts:
        access, clock = account.last_access, context.parts.clock
        data = {
            "name": account.name,
            "created_at": clock.in_zone(account.created_at),
            "last_access": {"at": clock.in_zone(access.at), "source": access.source, "door": access.door}
            if access
            else None,
        }
        when = f"{clock.format_stamp(access.at)} from {access.source} ({access.door})" if access else "never"
        yield Fact(data, (f"{account.name}  last access {when}",))
    yield Done(counted(len(accounts), "account"))


def _rule(context: Context) -> tuple[Line, ...]:
    """Return the rule, for a person who is about to be asked; a script that brings the password reads no line more."""
    return (Line(f"A password has {RULE}."),) if context.dialogue.asks_a_person else ()


async def _require_own(context: Context, name: str) -> None:
    """Ask for the present password where somebody changes his own: an unattended terminal gives no account away.

    Whom the system vouches for, at the command line, is not asked: that is the way back after a lost password.

    Raises:
        AccountError: it is another one.
        TooManyFailuresError: too many were tried from there.
    """
    origin, parts = context.origin, context.parts
    if name != origin.who or origin.door in {"local", "system"}:
        return
    password = await context.dialogue.ask(f"Present password of {name}: ", secret=True)
    account = await check_log_in(
        name,
        password,
        door=origin.door,
        address=origin.source,
        accounts=parts.accounts,
        gatekeeper=parts.gatekeeper,
        audit=parts.audit,
    )
    if account is None:
        raise AccountError("the present password is another one; nothing was changed")


def _require_same(context: Context, account: Account) -> None:
    """Check that an account is still the one that was asked about.

    Raises:
        AccountError: it was removed meanwhile, and perhaps made anew, or has another password.
    """
    now = context.parts.accounts.require(account.name)
    if (now.created_at, now.password_hash) != (account.created_at, account.password_hash):
        raise AccountError(f"the account {account.name} has become another meanwhile; nothing was changed")


async def _ask_new_password(context: Context, name: str) -> str:
    password = await context.dialogue.ask(f"New password for {name}: ", secret=True)
    require_rule(password)
    if context.dialogue.asks_a_person and await context.dialogue.ask("The same again: ", secret=True) != password:
        raise UsageError("the two are not the same; nothing was changed")
    return password


async def add_user(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Add an administrator; the password is asked for, never given in the line."""
    require_count(words, 1, 1, "user add NAME; the password is asked for, never given in the line")
    context.parts.accounts.require_free(words[0])
    for line in _rule(context):
        yield line
    password = await _ask_new_password(context, words[0])
    await context.parts.accounts.add(words[0], password, by=context.origin)
    context.parts.log.info("account added", account=words[0], who=context.origin.who, source=context.origin.source)
    yield Fact({"name": words[0]}, ())
    yield Done(f"account {words[0]} added")


async def change_password(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Change an account's password, by default one's own, and end its other sessions."""
    require_count(words, 0, 1, "user passwd [NAME]; the password is asked for, never given in the line")
    name = words[0] if words else context.origin.who
    account = context.parts.accounts.require(name)
    await _require_own(context, name)
    for line in _rule(context):
        yield line
    password = await _ask_new_password(context, name)
    _require_same(context, account)
    ended = await context.parts.accounts.set_password(name, password, by=context.origin, session=context.session)
    context.parts.log.info("password changed", account=name, who=context.origin.who, source=context.origin.source)
    yield Fact({"name": name, "sessions_ended": ended}, ())
    yield Done(f"password of {name} changed, {counted(ended, 'other session')} ended")


async def remove_user(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Remove an account and end its sessions."""
    plain, confirmed = take_yes(words)
    require_count(plain, 1, 1, "user remove NAME [yes]")
    account = context.parts.accounts.require(plain[0])
    name = account.name
    context.parts.accounts.require_others(name)
    await context.confirm(f"Remove the account {name} and end its sessions", confirmed=confirmed)
    _require_same(context, account)
    ended = await context.parts.accounts.remove(name, by=context.origin, session=context.session)
    yield Fact({"name": name, "sessions_ended": ended}, ())
    yield Done(f"account {name} removed, {counted(ended, 'other session')} ended")
    if name == context.origin.who and context.session is not None:
        yield Move.LOGOUT


async def show_audit(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the newest entries of the audit, oldest first."""
    require_count(words, 0, 1, "audit [COUNT]")
    count = parse_whole(words[0], "COUNT", 1, _MOST_AUDIT) if words else 20
    entries = await context.parts.audit.entries(count)
    for entry in entries:
        data = {name: getattr(entry, name) for name in ("number", "at", "event", "who", "door", "source", "detail")}
        when = context.parts.clock.format_stamp(entry.at)
        line = f"{entry.number}: {when} {entry.event} by {entry.who} from {entry.source} ({entry.door}) {entry.detail}"
        yield Fact(data, (line.rstrip(),))
    yield Done(counted(len(entries), "entry"))


def _complete_name(context: Context, words: Sequence[str]) -> Sequence[str]:
    return () if words else [account.name for account in context.parts.accounts.all()]


USER_MENU = Menu(
    word="user",
    title="Accounts",
    help="add, change and remove the administrators' accounts",
    entries=(
        Command(word="list", help="list the accounts with their last access", run=list_users, facts="many"),
        Command(
            word="add",
            usage="NAME",
            help="add an account",
            run=add_user,
            facts="one",
            details=(f"The password is asked for: {RULE}.",),
            changes=True,
            private=True,
            founds=True,
        ),
        Command(
            word="passwd",
            usage="[NAME]",
            help="change the password of an account; its other sessions end",
            run=change_password,
            facts="one",
            details=(f"The password is asked for: {RULE}.",),
            complete=_complete_name,
            changes=True,
            private=True,
        ),
        Command(
            word="remove",
            usage="NAME [yes]",
            help="remove an account; its sessions end",
            run=remove_user,
            facts="one",
            complete=_complete_name,
            changes=True,
        ),
    ),
)

AUDIT = Command(
    word="audit", usage="[COUNT]", help="show the newest entries of the audit", run=show_audit, facts="many"
)
