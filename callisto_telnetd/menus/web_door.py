"""What the web server asks of the server for its users; understood at the local socket alone, with a browser's address.

The web server keeps no account and no variable. Each page asks here whether its user still stands as he stood.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from typing import Any

from callisto_telnetd.accounts.accounts import Account
from callisto_telnetd.accounts.log_in import check_log_in
from callisto_telnetd.accounts.penalties import TooManyFailuresError
from callisto_telnetd.accounts.sources import source_of
from callisto_telnetd.errors import LoginRefusedError
from callisto_telnetd.menus.answers import Answer, Done, Fact
from callisto_telnetd.menus.arguments import parse_whole, require_count, take_options
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.information import read_sections
from callisto_telnetd.menus.tree import Command
from callisto_telnetd.origin import Origin

WEB_TIMEOUT = "gWebTimeout"
_LOGGED_REASON = 100
MOST_SESSIONS = 10**15
"""The highest ticket of a session that is understood."""


async def log_in(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Check a name with the password that came with the request, as every door does, and note the log-in."""
    plain, options = take_options(words, ("name",))  # behind its key, for a browser may send any name: "?" is one
    require_count([*options, *plain], 1, 1, "web-login name=NAME")
    parts, address = context.parts, context.origin.source
    password = await context.dialogue.ask("Password: ", secret=True)
    try:
        account = await check_log_in(
            options.get("name", ""),
            password,
            door="web",
            address=address,
            accounts=parts.accounts,
            gatekeeper=parts.gatekeeper,
            audit=parts.audit,
        )
    except TooManyFailuresError as refused:
        yield Fact({"accepted": False, "wait_s": refused.wait_s}, ())
        raise
    if account is None:
        wait_s = parts.gatekeeper.penalties.wait_s(source_of(address, "web"))
        yield Fact({"accepted": False, "wait_s": TooManyFailuresError(wait_s).wait_s}, ())
        raise LoginRefusedError(f"Login incorrect. {TooManyFailuresError(wait_s)}" if wait_s else "Login incorrect")
    access = account.last_access
    last = f"{parts.clock.format_stamp(access.at)} from {access.source} ({access.door})" if access else "never"
    now = parts.clock.now()
    since = now.isoformat(timespec="seconds")
    origin = Origin(account.name, "web", address)
    await parts.accounts.note_access(account, origin, password)
    account = _find(context, account.name)
    if account is None:  # removed just now
        raise LoginRefusedError("Login incorrect")
    yield Fact(
        {
            "accepted": True,
            "account": account.name,
            "session": parts.presence.enter_web(origin, now).ticket,
            "generation": _generation(account),
            "since": parts.clock.format_stamp(since),
            "last_access": last,
        },
        (),
    )
    yield Done(f"{account.name} logged in")


async def log_out(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Note in the audit that a web session has ended, and why where its user did not ask for it."""
    require_count(words, 2, 3, "web-logout NAME SESSION [REASON]")
    origin = Origin(words[0], "web", context.origin.source)
    ticket = parse_whole(words[1], "SESSION", 1, MOST_SESSIONS)
    entry = context.parts.presence.find_web(ticket)
    if entry is not None and entry.origin.who == origin.who:
        context.parts.presence.leave(entry)
    elif context.parts.presence.ended_web(ticket) is not None:
        yield Done("logged out already")
        return
    await context.parts.audit.note("logged out", origin, words[2][:_LOGGED_REASON] if len(words) > 2 else "")
    yield Done("logged out")


async def show_standing(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield what every page needs: who the appliance is, how long a user may be idle, how his account stands."""
    require_count(words, 0, 2, "web-standing [NAME SESSION]")
    parts = context.parts
    facts: dict[str, Any] = {
        "product": parts.identity.product,
        "hostname": parts.identity.hostname,
        "idle_minutes": int(parts.variables.text(WEB_TIMEOUT)),
    }
    if words:
        account = _find(context, words[0])
        facts["generation"] = _generation(account) if account else None
        if account is not None and len(words) > 1:
            parts.web_ends.sweep()
            ticket = parse_whole(words[1], "SESSION", 1, MOST_SESSIONS)
            origin = Origin(account.name, "web", context.origin.source)
            used = parts.presence.use_web(ticket, origin, parts.clock.now())
            facts["ended"] = used if isinstance(used, str) else None
            facts["session"] = None if isinstance(used, str) else used.ticket
    yield Fact(facts, ())
    yield Done("standing")


async def show_information(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield System Information as a page has it: each section with its title, its keys and what they say."""
    require_count(words, 0, 0, "web-information")
    sections = await read_sections(context)
    shown = [{"title": each.title, "rows": [[row.key, row.text] for row in each.rows]} for each in sections]
    yield Fact({"sections": shown}, ())
    yield Done("information")


def _find(context: Context, name: str) -> Account | None:
    return next((each for each in context.parts.accounts.all() if each.name == name), None)


def _generation(account: Account) -> str:
    """Return a mark that changes with the account's password, and with the account if one of its name is made anew.

    It is a hash over the salted hash of the password: it tells nothing of either.
    """
    text = f"{account.name}\0{account.created_at}\0{account.password_hash}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


WEB_DOOR: tuple[Command, ...] = (
    Command(
        word="web-login",
        usage="name=NAME",
        help="check a password, and note the log-in",
        run=log_in,
        facts="one",
        changes=True,
        private=True,
    ),
    Command(word="web-logout", usage="NAME SESSION [REASON]", help="note that a web session has ended", run=log_out),
    Command(word="web-information", help="show what its page shows", run=show_information, facts="one"),
    Command(
        word="web-standing",
        usage="[NAME SESSION]",
        help="show what every page needs",
        run=show_standing,
        facts="one",
    ),
)
