"""``backup``: archives of the whole appliance, made while it runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

from callisto_telnetd.db.doubtful import Doubtful
from callisto_telnetd.errors import UsageError
from callisto_telnetd.maintenance.archives_here import Listed
from callisto_telnetd.maintenance.backup_password import PASSWORD_RULE, generate_password, require_password
from callisto_telnetd.maintenance.backups import require_no_doubtful
from callisto_telnetd.maintenance.restore_plan import KEEP_SETTINGS
from callisto_telnetd.menus.answers import Answer, Done, Fact, Line, renamed
from callisto_telnetd.menus.arguments import require_count, take_options, take_yes
from callisto_telnetd.menus.backup_restore import PLAN, RESTORE, UNDO
from callisto_telnetd.menus.backup_schedule import BACKUP_SCHEDULE_MENU
from callisto_telnetd.menus.backup_source import ask_password
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.progress import progress
from callisto_telnetd.menus.tree import Command, Menu
from callisto_telnetd.quantities import counted, format_bytes, format_duration

_GENERATED = "generated"
_UNPROTECTED = "No password: accounts, PINs and the settings file are left out; a restore keeps those that are there"


async def create(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Make an archive, and show how far it has come."""
    plain, options = take_options(words, ("note",))
    require_count(plain, 0, 1, f"backup create [{_GENERATED}] [note=TEXT]; the password is asked for")
    if plain and plain[0].lower() != _GENERATED:
        raise UsageError(f"usage: backup create [{_GENERATED}] [note=TEXT]; the password is asked for")
    if not plain and context.dialogue.asks_a_person:
        yield Line(f"A backup's password has {PASSWORD_RULE}.")
    password = generate_password() if plain else await _ask_new_password(context)
    if password is None:
        yield Line(_UNPROTECTED)
    backups, note = context.parts.backups, options.get("note", "")
    async with progress(lambda told: backups.create(context.origin, password=password, note=note, told=told)) as steps:
        async for line in steps:
            yield Line(line)
        made = steps.result
    lines = [f"{counted(made['missing'], 'recording')} missing or damaged, not in it"] if made["missing"] else []
    faults = await context.parts.restores.faults_of_present_settings() if password is not None else ()
    lines += [f"Note: a restore leaves these settings out, with {KEEP_SETTINGS!r}: {fault}" for fault in faults]
    if plain:
        lines.append(f"The password is {password} and is shown this once; without it nobody can read the backup")
    facts = {
        **renamed(made, bytes="size_bytes"),
        "protected": password is not None,
        "verified": not made["doubtful"]["tables"],
        "settings_faults": list(faults),
    }
    yield Fact({**facts, "password": password} if plain else facts, tuple(lines))
    content = f"{counted(made['rows'], 'row')} and {counted(made['recordings'], 'recording')}"
    require_no_doubtful(Doubtful.from_data(made["doubtful"]), f"backup {made['file']} was made")
    yield Done(f"backup {made['file']} made and verified, {format_bytes(made['bytes'])}, {content}")


async def list_backups(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the archives, the newest first."""
    require_count(words, 0, 0, "backup list")
    listed = await context.parts.backups.list()
    for each in listed:
        yield Fact(_data_of(each), (_line_of(context, each),))
    yield Done(f"{counted(len(listed), 'backup')} in {context.parts.folder.backup}")


async def verify(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Look at all of an archive without restoring it."""
    require_count(words, 0, 1, "backup verify [FILE]; a password is asked for where one is needed")
    backups = context.parts.backups
    place = words[0] if words else await backups.newest()
    name, password = Path(place).name, await ask_password(context, place)
    async with progress(lambda told: backups.verify(context.origin, place, password=password, told=told)) as steps:
        async for line in steps:
            yield Line(line)
        found = steps.result
    data = renamed(found, bytes="size_bytes", created="at", product_version="version")
    yield Fact({"file": place, **data}, tuple(_lines_of(found)))
    sealed = "its seal is the password's" if found["protected"] else "no password: its seal tells accidents alone"
    content = f"{counted(found['rows'], 'row')} and {counted(found['recordings'], 'recording')}"
    require_no_doubtful(Doubtful.from_data(found["doubtful"]), f"backup {name} is whole", "'backup plan' shows more")
    yield Done(f"backup {name} is whole, {content}; {sealed}")


async def delete(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Remove an archive for good."""
    plain, confirmed = take_yes(words)
    require_count(plain, 1, 1, "backup delete FILE [yes]")
    backups = context.parts.backups
    await backups.require_here(plain[0])
    await context.confirm(f"Delete the backup {plain[0]} for good", confirmed=confirmed)
    await backups.delete(context.origin, plain[0])
    yield Fact({"file": plain[0]}, ())
    yield Done(f"backup {plain[0]} deleted")


async def _ask_new_password(context: Context) -> str | None:
    """Return the new password, asked for twice; None where the answer is empty."""
    ask = context.dialogue.ask
    password = await ask("Password for the backup, empty for none: ", secret=True)
    if password:
        require_password(password)
        if context.dialogue.asks_a_person and await ask("The same again: ", secret=True) != password:
            raise UsageError("the two are not the same; nothing was changed")
    return password or None


def _lines_of(found: dict[str, Any]) -> list[str]:
    lines = [
        f"Made: {found['created']} by version {found['product_version']}, edition {found['edition']}",
        f"Host: {found['host']}, serial {found['serial'] or 'not set'}",
        f"Content: {format_bytes(found['content_bytes'])} unpacked, schema {found['schema']}",
        f"Accounts and PINs: {'in it' if found['secrets'] else 'not in it'}",
    ]
    lines += [f"Note: {found['note']}"] if found["note"] else []
    lines += [f"Left out: {', '.join(found['left_out'])}"] if found["left_out"] else []
    lines += [f"Missing: {counted(found['missing'], 'recording')}"] if found["missing"] else []
    lines += [f"Doubtful value: {fault}" for fault in found["doubtful"]["faults"]]
    return lines + [f"Not used, its default would be: {fault}" for fault in found["unused"]]


def _data_of(each: Listed) -> dict[str, Any]:
    return {
        "file": each.path.name,
        "at": each.at.isoformat(timespec="seconds"),
        "age_s": round(each.age_s),
        "size_bytes": each.size_bytes,
        "protected": each.protected,
        "version": each.known.version or None,
        "verified_at": each.known.verified or None,
        "note": each.known.note,
        "doubtful_rows": int(each.known.doubtful or 0),
        "folder": str(each.path.parent),
        "target": each.known.target or None,
    }


def _line_of(context: Context, each: Listed) -> str:
    known = each.known
    kind = {True: "protected", False: "no password", None: "not a backup inside"}[each.protected]
    verified = f"verified {context.parts.clock.format_stamp(known.verified)}" if known.verified else "not verified here"
    version = f"version {known.version}" if known.version else "version unknown"
    age = f"{format_duration(each.age_s)} ago"
    line = f"{each.path.name}  {age}, {format_bytes(each.size_bytes)}, {kind}, {version}, {verified}"
    line += f", {counted(int(known.doubtful), 'doubtful row')}" if known.doubtful else ""
    line += f", also at {known.target}" if known.target else ""
    return f"{line}  {known.note}".rstrip()


def _complete_name(context: Context, words: Sequence[str]) -> Sequence[str]:
    return () if words else context.parts.backups.recent_names.value


BACKUP_MENU = Menu(
    word="backup",
    title="Backup",
    help="make, verify and restore backups, by hand or by schedule",
    entries=(
        Command(
            word="create",
            usage=f"[{_GENERATED}] [note=TEXT]",
            help="make a backup of everything, while everything runs",
            run=create,
            private=True,
            complete=lambda _context, words: () if words else (_GENERATED, "note="),
            facts="one",
            details=(
                f"The password is asked for: {PASSWORD_RULE}, or empty for none; '{_GENERATED}' makes one.",
                "Without a password the backup holds no accounts, no PINs and no settings file.",
                "It is a ZIP file with AES-256 that 7-Zip opens; Windows Explorer and Info-ZIP do not.",
            ),
        ),
        Command(word="list", help="list the backups, the newest first", run=list_backups, facts="many"),
        Command(
            word="verify",
            usage="[FILE]",
            help="read all of a backup and check the database inside, without restoring it",
            run=verify,
            private=True,
            complete=_complete_name,
            facts="one",
            details=(
                "FILE is a name in the folder of backups, or any path, under any name; without it, the newest.",
                "The password is asked for where one protects the backup.",
            ),
        ),
        Command(
            word="delete",
            usage="FILE [yes]",
            help="delete a backup for good",
            run=delete,
            complete=_complete_name,
            facts="one",
            changes=True,
        ),
        PLAN,
        RESTORE,
        UNDO,
        BACKUP_SCHEDULE_MENU,
    ),
)
