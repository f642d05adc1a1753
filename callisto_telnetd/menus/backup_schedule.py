"""``backup schedule``: backups that are made by themselves and taken to a target."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from callisto_telnetd.errors import HostKeyUnknownError, UsageError, quoted
from callisto_telnetd.maintenance.backup_password import PASSWORD_RULE, require_password
from callisto_telnetd.maintenance.backup_schedules import NAME_RULE, BackupSchedule, Outcome, make_schedule
from callisto_telnetd.maintenance.retention import MOST_KEPT
from callisto_telnetd.menus.answers import Answer, Done, Fact, Line, renamed
from callisto_telnetd.menus.arguments import parse_whole, require_count, take_options, take_yes
from callisto_telnetd.menus.backup_source import ACCEPT, confirm_host_key, require_owner_for_files
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.progress import progress
from callisto_telnetd.menus.tree import Command, Menu
from callisto_telnetd.quantities import counted
from callisto_telnetd.transports.credentials import fingerprint_of

_KEEP = ("keep-last", "keep-daily", "keep-weekly")
_OPTIONS = ("plan", "target", "key", "ca", *_KEEP)
_PLANS = tuple(f"plan={days}" for days in ("daily", "mon-fri", "sun", "mon", "tue", "wed", "thu", "fri", "sat"))
_TARGETS = ("target=sftp://", "target=ftps://", "target=ftp://", "target=file:///")
_FLAGS = ("target-password", "password", "allow-plain-ftp")
_ADD = (
    "NAME plan=PLAN target=URL [target-password | key=FILE] [ca=FILE] [password] [allow-plain-ftp]"
    " [keep-last=N] [keep-daily=N] [keep-weekly=N]"
)


async def add(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Make a schedule; passwords are asked for, never given in the line."""
    named, options, flags = _parse_add(words)
    require_owner_for_files(context, {key: options.get(key) for key in ("key", "ca")})
    make = partial(
        make_schedule,
        name=named,
        plan=options["plan"],
        target=options["target"],
        allow_plain_ftp="allow-plain-ftp" in flags,
        key_file=_path(options.get("key")),
        ca_file=_path(options.get("ca")),
        **{key.replace("-", "_"): parse_whole(options[key], key, 0, MOST_KEPT) for key in _KEEP if key in options},
    )
    # What is wrong with the line is said before anything is asked for.
    tried = make(target_password=SecretStr("?") if "target-password" in flags else None, password=None)
    context.parts.backup_runs.require_free(named)
    await context.parts.backup_runs.require_target(tried.place)
    ask = context.dialogue.ask
    target_password = await ask("Password at the target: ", secret=True) if "target-password" in flags else None
    if "password" in flags and context.dialogue.asks_a_person:
        yield Line(f"The password of the backups has {PASSWORD_RULE}.")
    password = await ask("Password for the backups: ", secret=True) if "password" in flags else None
    if password is not None:
        require_password(password)
        if context.dialogue.asks_a_person and await ask("The same again: ", secret=True) != password:
            raise UsageError("the two are not the same; nothing was changed")
    schedule = make(
        target_password=None if target_password is None else SecretStr(target_password),
        password=None if password is None else SecretStr(password),
    )
    await context.parts.backup_runs.add(schedule, context.origin)
    if schedule.place.is_clear_text:
        yield Line("Warning: plain FTP; everybody on the way can read the password and the backup")
    if schedule.password is None:
        yield Line("No password: accounts, PINs and the settings file are left out of its backups")
    yield Fact(_data_of(context, schedule), ())
    following = _next_of(context, schedule)
    yield Done(f"backup schedule {schedule.name} added, next run {following}; 'backup schedule test' proves it")


def _parse_add(words: Sequence[str]) -> tuple[str, dict[str, str], set[str]]:
    """Return the name, the options and the flags of a new schedule.

    Raises:
        UsageError: says which word is wrong, or missing.
    """
    plain, options = take_options(words, _OPTIONS, _FLAGS)
    flags = {word for each in plain if (word := each.lower().removeprefix("--")) in _FLAGS}
    names = [each for each in plain if each.lower().removeprefix("--") not in _FLAGS]
    more = "'help add' lists the words; nothing was changed"
    if len(names) > 1:
        raise UsageError(f"{quoted(names[1])} is not understood behind the name {quoted(names[0])}; {more}")
    if not names:
        raise UsageError(f"the name is missing, as in 'add nightly plan=daily 02:00 target=URL'; {more}")
    for needed, example in (("plan", "daily 02:00"), ("target", "sftp://user@host/folder")):
        if not options.get(needed):
            raise UsageError(f"{needed}= is missing, as in {needed}={example}; {more}")
    return names[0], options, flags


async def list_schedules(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the schedules, one a line."""
    require_count(words, 0, 0, "backup schedule list")
    schedules = context.parts.backup_runs.all()
    for schedule in schedules:
        plan, last = schedule.restart_plan.describe(), _last_of(context, schedule.name)
        yield Fact(_data_of(context, schedule), (f"{schedule.name}: {plan}, to {schedule.target}; {last}",))
    yield Done(counted(len(schedules), "backup schedule"))


async def show(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield all of a schedule but its secrets."""
    require_count(words, 1, 1, "backup schedule show NAME")
    schedule = context.parts.backup_runs.require(words[0])
    lines = [
        f"Name: {schedule.name}",
        f"Plan: {schedule.plan} ({schedule.restart_plan.describe()})",
        f"Next run: {_next_of(context, schedule)}",
        f"Target: {schedule.target}",
        f"Log-in: {_login_of(schedule)}",
        f"Backups: {'protected by a password' if schedule.password else 'no password, without accounts and PINs'}",
        f"Kept: {schedule.keep.describe()}",
        f"Last run: {_last_of(context, schedule.name)}",
    ]
    if schedule.place.scheme == "sftp":
        lines.insert(5, f"Host key: {_host_key_of(schedule)}")
    yield Fact(_data_of(context, schedule), tuple(lines))
    yield Done(f"backup schedule {schedule.name}")


async def test(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Send a small file to the target and remove it again; a host key that is new is shown and asked about."""
    plain = [word for word in words if word.lower().removeprefix("--") != ACCEPT]
    require_count(plain, 1, 1, f"backup schedule test NAME [{ACCEPT}]")
    runs, name = context.parts.backup_runs, plain[0]
    accepted: str | None = None
    try:
        async with progress(lambda told: runs.test(name, told)) as steps:
            async for line in steps:
                yield Line(line)
            _ = steps.result
    except HostKeyUnknownError as error:
        yield Line(f"Host key of {runs.require(name).place.place}: {error.fingerprint}")
        await confirm_host_key(context, accepted=len(plain) < len(words))
        await runs.accept(name, error.key_line, context.origin)
        accepted = error.fingerprint
        async with progress(lambda told: runs.test(name, told)) as steps:
            async for line in steps:
                yield Line(line)
            _ = steps.result
    yield Fact({"name": name, "host_key_accepted": accepted}, ())
    target = runs.require(name).target
    yield Done(f"{name}: a file was sent, read back, listed and removed at {target}, and a backup can be made")


async def run(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Run a schedule now, whatever its plan."""
    require_count(words, 1, 1, "backup schedule run NAME")
    runs, name = context.parts.backup_runs, words[0]
    runs.require(name)
    async with progress(lambda told: runs.run(name, context.origin, told)) as steps:
        async for line in steps:
            yield Line(line)
        done = steps.result
    yield Fact({"name": name, "file": done.archive or None, "text": done.text}, ())
    yield Done(done.text)


async def remove(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Forget a schedule; its backups stay."""
    plain, confirmed = take_yes(words)
    require_count(plain, 1, 1, "backup schedule remove NAME [yes]")
    runs = context.parts.backup_runs
    shown = runs.require(plain[0])
    name = shown.name
    await context.confirm(f"Remove the backup schedule {name}; its backups stay", confirmed=confirmed)
    if runs.require(name) != shown:
        raise UsageError(f"the backup schedule {name} has changed meanwhile; nothing was changed")
    await runs.remove(name, context.origin)
    yield Fact({"name": name}, ())
    yield Done(f"backup schedule {name} removed")


def _path(text: str | None) -> str | None:
    return str(Path(text).absolute()) if text else None


def _login_of(schedule: BackupSchedule) -> str:
    if schedule.key_file:
        return f"key {schedule.key_file}"
    return "a password" if schedule.target_password else "none"


def _last_of(context: Context, name: str) -> str:
    runs = context.parts.backup_runs
    if runs.is_running(name):
        return "runs now"
    outcome = runs.outcome(name)
    if outcome is None:
        return "never run"
    when = context.parts.clock.format_stamp(outcome.at)
    return f"failed {when}: {outcome.text}" if outcome.failed else f"{when}: {outcome.text}"


def _next_of(context: Context, schedule: BackupSchedule) -> str:
    now = context.parts.clock.now()
    after = schedule.restart_plan.next_run(now)
    return f"{after:%Y-%m-%d %H:%M}" if after else "never"


def _host_key_of(schedule: BackupSchedule) -> str:
    key = schedule.host_key
    return f"{key} ({fingerprint_of(key)})" if key else "not accepted yet; test asks for it"


def _data_of(context: Context, schedule: BackupSchedule) -> dict[str, Any]:
    outcome: Outcome | None = context.parts.backup_runs.outcome(schedule.name)
    following = schedule.restart_plan.next_run(context.parts.clock.now())
    return {
        "name": schedule.name,
        "plan": schedule.plan,
        "target": schedule.target,
        "log_in": "key" if schedule.key_file else "password" if schedule.target_password else None,
        "host_key": schedule.host_key,
        "host_key_fingerprint": fingerprint_of(schedule.host_key) if schedule.host_key else None,
        "protected": schedule.password is not None,
        "keep": {"last": schedule.keep_last, "daily": schedule.keep_daily, "weekly": schedule.keep_weekly},
        "next_run_at": following.isoformat(timespec="seconds") if following else None,
        "last_run": renamed(outcome.model_dump(), archive="file") if outcome else None,
        "running": context.parts.backup_runs.is_running(schedule.name),
    }


def _complete_name(context: Context, words: Sequence[str]) -> Sequence[str]:
    return () if words else [schedule.name for schedule in context.parts.backup_runs.all()]


def _complete_add(_context: Context, words: Sequence[str]) -> Sequence[str]:
    return (*_PLANS, *_TARGETS) if words else ()


BACKUP_SCHEDULE_MENU = Menu(
    word="schedule",
    title="Backup Scheduler",
    help="have backups made and taken to a target by themselves",
    entries=(
        Command(
            word="add",
            usage=_ADD,
            help="make a schedule",
            run=add,
            facts="one",
            complete=_complete_add,
            changes=True,
            private=True,
            details=(
                f"NAME is {NAME_RULE}. PLAN is a restart plan: 127,02:00, daily 02:00 or mon-fri 02:00.",
                "URL: sftp://user@host:port/folder, ftps://user@host/folder, file:///folder; ftp:// where allowed.",
                f"'target-password' and 'password' ask for the target's and the backups' ({PASSWORD_RULE}).",
                "key= and ca= name files of this machine: at the command line alone.",
                "Of keep-last, keep-daily and keep-weekly whatever is kept by one stays; without any, all stay.",
            ),
        ),
        Command(word="list", help="list the schedules", run=list_schedules, facts="many"),
        Command(word="show", usage="NAME", help="show a schedule", run=show, facts="one", complete=_complete_name),
        Command(
            word="test",
            usage=f"NAME [{ACCEPT}]",
            help="prove a target with a small file",
            run=test,
            facts="one",
            complete=_complete_name,
            details=("A host key that is not known yet is shown, and asked about.",),
        ),
        Command(word="run", usage="NAME", help="run a schedule now", run=run, facts="one", complete=_complete_name),
        Command(
            word="remove",
            usage="NAME [yes]",
            help="forget a schedule; its backups stay",
            run=remove,
            facts="one",
            complete=_complete_name,
            changes=True,
        ),
    ),
)
