"""The assembly: opens the appliance's parts in order, each on those before it, and closes them in reverse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial

from callisto_telnetd import __version__
from callisto_telnetd.accounts.accounts import Accounts
from callisto_telnetd.accounts.audit import Audit
from callisto_telnetd.accounts.gatekeeper import Gatekeeper
from callisto_telnetd.accounts.passwords import PasswordHashes
from callisto_telnetd.accounts.presence import Presence
from callisto_telnetd.accounts.sources import source_of
from callisto_telnetd.accounts.web_ends import WebEnds
from callisto_telnetd.clock import Clock, ClockState
from callisto_telnetd.db.folder import DataFolder, FolderLock
from callisto_telnetd.db.media import Media
from callisto_telnetd.db.private_file import PrivateFile
from callisto_telnetd.db.publish import new_of, settle
from callisto_telnetd.db.restore.recordings import remove_unnamed
from callisto_telnetd.db.restore.switch import remove_unpacked, settle_restore
from callisto_telnetd.db.salvage.aside import remove_unfinished
from callisto_telnetd.db.store import Store, open_store
from callisto_telnetd.errors import ClockError, FolderError, SettingsError, StoreError
from callisto_telnetd.maintenance.alarm import Alarm
from callisto_telnetd.maintenance.backup_runs import BackupRuns
from callisto_telnetd.maintenance.backup_runs import Surroundings as BackupSurroundings
from callisto_telnetd.maintenance.backup_schedules import FILE_NAME, MAX_BYTES, ScheduleFile
from callisto_telnetd.maintenance.backups import Backups, Identified
from callisto_telnetd.maintenance.database_lock import DatabaseLock
from callisto_telnetd.maintenance.fill import Fill
from callisto_telnetd.maintenance.jobs import check_job, check_plan, restart_jobs
from callisto_telnetd.maintenance.mode import MaintenanceMode
from callisto_telnetd.maintenance.repair import Repairs, Surroundings
from callisto_telnetd.maintenance.restores import Restores
from callisto_telnetd.maintenance.self_check import SelfCheck, rows_step
from callisto_telnetd.maintenance.settings_faults import faults_of_others
from callisto_telnetd.maintenance.snapshots import Snapshots
from callisto_telnetd.maintenance.workshop import Workshop
from callisto_telnetd.menus.context import Identity, Parts
from callisto_telnetd.menus.date import CLOCK_STATE
from callisto_telnetd.menus.trace_files import tell_deleted
from callisto_telnetd.menus.web_door import WEB_TIMEOUT
from callisto_telnetd.quantities import format_bytes
from callisto_telnetd.record_rate import RecordRate
from callisto_telnetd.services.processes import ProcessTable
from callisto_telnetd.services.recipe import check_services, services_of
from callisto_telnetd.services.scheduler import Job, Scheduler
from callisto_telnetd.services.supervisor import Supervisor
from callisto_telnetd.settings import WEB_SERVER, Settings
from callisto_telnetd.trace.captures import Captures
from callisto_telnetd.trace.datagrams import DatagramInput, bind_path, bind_udp
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import Log, bridge_libraries, open_log
from callisto_telnetd.variables import CATALOGUE, Registry, Variable, own_variables
from callisto_telnetd.work import Closing, Tasks

SCHEDULE_STATE = "schedule"
"""The key under which the schedule is kept in the database."""


def require_settings(settings: Settings) -> None:
    """Refuse what the settings' own models cannot see, before anything is made.

    Raises:
        SettingsError: names the file, the key and what is allowed.
    """
    check_plan(settings)
    _catalogue(settings)


def settings_faults(settings: Settings) -> list[str]:
    """Return what :func:`require_settings` refuses, a line each."""
    try:
        require_settings(settings)
    except SettingsError as error:
        return [str(error)]
    return []


@asynccontextmanager
async def open_parts(
    settings: Settings,
    folder: DataFolder,
    lock: FolderLock,
    *,
    serving: bool = True,
    untouched: bool = False,
    faults_of: Callable[[Settings], Sequence[str]] = settings_faults,
) -> AsyncIterator[Parts]:
    """Open the appliance of a data folder.

    Args:
        settings: All settings.
        folder: The data folder, made already.
        lock: Its lock, held until everything is closed again.
        serving: Whether a server runs; for a command without one, only errors go to stderr.
        untouched: Whether the database is left closed for whoever works on the whole of it.
        faults_of: Returns what would keep a server from starting with settings that a restore brings.

    Raises:
        CallistoError: a part cannot be opened; those before it are closed again.
    """
    async with Closing() as stack:
        clock = Clock(settings.clock.mode)
        stack.push_async_callback(clock.recent_zones.close)
        hub = Hub(clock, settings.trace.held_records, settings.trace.held_bytes)
        log = open_log(hub, settings.log.level if serving else "error", settings.log.format)
        strangers = RecordRate()
        stack.callback(strangers.close)
        bridge_libraries(log, strangers)
        catalogue = _catalogue(settings)
        _finish_interrupted(folder, log)
        store = await stack.enter_async_context(_open_store(folder, untouched=untouched))
        if store.played_back:
            log.warning("a journal was rolled back into the database", reason=store.played_back)
        await asyncio.to_thread(_remove_unnamed, store, log)
        variables = _make_variables(settings, store, stack, catalogue=catalogue, clock=clock, log=log)
        presence, audit, processes = Presence(), Audit(store, clock, log, strangers), ProcessTable()
        captures = _make_captures(settings, folder, hub, stack, log=log, presence=presence)
        stack.push_async_callback(audit.close)
        accounts = _make_accounts(store, stack, audit=audit, presence=presence, clock=clock, log=log)
        mode = MaintenanceMode(store, variables, accounts, presence, log)
        mode.also.append(partial(_restore_clock, clock, store, log))
        mode.kept.append(lambda: store.set_state(CLOCK_STATE, clock.state().to_json()))
        stack.push_async_callback(mode.close)
        await mode.open()
        repairing, snapshots, workshop = DatabaseLock(), Snapshots(folder.backup, clock), Workshop(lock, log)
        self_check = SelfCheck(
            store=store,
            variables=variables,
            presence=presence,
            clock=clock,
            log=log,
            repairing=repairing,
            snapshots=snapshots,
            more=(rows_step(store, workshop),),
        )
        stack.push_async_callback(self_check.close)
        await self_check.open()
        supervisor = Supervisor(
            services_of(settings),
            variables=variables,
            hub=hub,
            log=log,
            processes=processes,
            data=folder.path,
            tell=presence.notify_all,
        )
        web_ends = _make_web_ends(stack, presence=presence, audit=audit, variables=variables, supervisor=supervisor)
        jobs = [check_job(settings, self_check), *restart_jobs(settings, variables, supervisor)]
        schedule = await _open_schedule(
            jobs, store, stack, variables=variables, clock=clock, presence=presence, log=log
        )
        mode.late.append(schedule.open)
        mode.kept.append(schedule.keep_again)
        around = Surroundings(
            folder=folder,
            store=store,
            workshop=workshop,
            variables=variables,
            accounts=accounts,
            clock=clock,
            audit=audit,
            presence=presence,
            log=log,
            one_at_a_time=repairing,
            pause=supervisor.paused_for,
            reload=mode.reload,
            note_sound=partial(self_check.note, "full", ()),
        )
        repairs, fill = Repairs(around), Fill(around)
        stack.push_async_callback(repairs.close)
        stack.push_async_callback(fill.close)
        backups = Backups(
            folder=folder,
            settings=settings.file,
            identified=_identified(settings),
            store=store,
            workshop=workshop,
            variables=variables,
            clock=clock,
            audit=audit,
            presence=presence,
            log=log,
            one_at_a_time=repairing,
        )
        stack.push_async_callback(backups.close)
        await backups.open()
        backup_runs = BackupRuns(
            BackupSurroundings(
                file=ScheduleFile(PrivateFile(folder.path / FILE_NAME, MAX_BYTES)),
                folder=folder.backup,
                host=settings.appliance.hostname,
                backups=backups,
                clock=clock,
                schedule=schedule,
                audit=audit,
                presence=presence,
                log=log,
                alarm=Alarm(settings.backup.on_failure, log),
            )
        )
        backup_runs.open(serving=serving)
        stack.push_async_callback(backup_runs.close)
        restores = Restores(
            around,
            settings.appliance.edition,
            partial(faults_of_others, settings, folder.path, faults_of),
            settings_elsewhere=settings.config,
        )
        stack.push_async_callback(restores.close)
        changes = Tasks()
        stack.push_async_callback(changes.ended)
        yield Parts(
            identity=_identity(settings),
            folder=folder,
            clock=clock,
            hub=hub,
            captures=captures,
            log=log,
            strangers=strangers,
            store=store,
            variables=variables,
            accounts=accounts,
            audit=audit,
            presence=presence,
            web_ends=web_ends,
            gatekeeper=_make_gatekeeper(settings, accounts, stack),
            processes=processes,
            supervisor=supervisor,
            schedule=schedule,
            self_check=self_check,
            trace_inputs=_trace_inputs(settings, folder, hub, log),
            trace_size_bytes=min(settings.trace.size, settings.trace.budget),
            started_at=time.monotonic(),
            serving=serving,
            repairing=repairing,
            snapshots=snapshots,
            workshop=workshop,
            repairs=repairs,
            fill=fill,
            restores=restores,
            mode=mode,
            backups=backups,
            backup_runs=backup_runs,
            changes=changes,
        )


def _make_web_ends(
    stack: AsyncExitStack, *, presence: Presence, audit: Audit, variables: Registry, supervisor: Supervisor
) -> WebEnds:
    web_ends = WebEnds(
        presence,
        audit,
        idle_minutes=lambda: int(variables.text(WEB_TIMEOUT)),
        web_server_since=lambda: supervisor.turned_at(WEB_SERVER),
    )
    stack.push_async_callback(web_ends.close)
    return web_ends


def _identity(settings: Settings) -> Identity:
    own = settings.appliance
    return Identity(__version__, own.edition, own.hostname, own.serial, own.banner)


def _identified(settings: Settings) -> Identified:
    own = settings.appliance
    return Identified(__version__, own.edition, own.hostname, own.serial)


def _make_gatekeeper(settings: Settings, accounts: Accounts, stack: AsyncExitStack) -> Gatekeeper:
    limits = settings.limits
    gate = Gatekeeper(limits.sessions, limits.sessions_per_source, limits.pending, settings.telnet.allow)
    for access in filter(None, (account.last_access for account in accounts.all())):
        gate.standings.remember(source_of(access.source, access.door))
    stack.push_async_callback(gate.tries.ended)
    return gate


def _make_variables(
    settings: Settings, store: Store, stack: AsyncExitStack, *, catalogue: tuple[Variable, ...], clock: Clock, log: Log
) -> Registry:
    """Return the variables, whose changes are logged; they are not read yet."""
    variables = Registry(catalogue, store, settings.appliance.edition, clock.now)
    stack.push_async_callback(variables.close)
    variables.observe(
        lambda change: log.info(
            "variable changed",
            name=change.name,
            value=variables.text(change.name),
            who=change.who,
            source=change.source,
        )
    )
    return variables


def _make_captures(
    settings: Settings, folder: DataFolder, hub: Hub, stack: AsyncExitStack, *, log: Log, presence: Presence
) -> Captures:
    own = settings.trace
    captures = Captures(hub, folder.trace, free_bytes=own.free, budget_bytes=own.budget, most_files=own.files)
    captures.on_deleted = partial(tell_deleted, log, presence)
    if own.size > own.budget:
        sizes = {"size": format_bytes(own.size), "budget": format_bytes(own.budget)}
        log.warning(
            "trace.size is larger than trace.budget: a trace ends at the budget, unless size= is given", **sizes
        )
    stack.push_async_callback(captures.close)
    captures.recent_names.read_again()
    return captures


def _make_accounts(
    store: Store, stack: AsyncExitStack, *, audit: Audit, presence: Presence, clock: Clock, log: Log
) -> Accounts:
    """Return the accounts; they are not read yet."""
    hashes = PasswordHashes()
    stack.callback(hashes.close)
    accounts = Accounts(store, hashes=hashes, audit=audit, presence=presence, clock=clock, log=log)
    stack.push_async_callback(accounts.close)
    return accounts


async def _open_schedule(
    jobs: list[Job],
    store: Store,
    stack: AsyncExitStack,
    *,
    variables: Registry,
    clock: Clock,
    presence: Presence,
    log: Log,
) -> Scheduler:
    """Return the schedule, read from the database; it looks at once where the clock or a variable has changed."""
    schedule = Scheduler(
        jobs,
        clock,
        log,
        load=partial(store.get_state, SCHEDULE_STATE),
        save=partial(store.set_state, SCHEDULE_STATE),
        notify=presence.notify_all,
    )
    stack.push_async_callback(schedule.close)
    await schedule.open()
    clock.observe(schedule.wake)
    variables.observe(lambda _change: schedule.wake())
    return schedule


def _finish_interrupted(folder: DataFolder, log: Log) -> None:
    """Finish what a crash has left of a repair or compacting, before the database is opened.

    A complete new database takes its place first: until then what was set aside looks like a second name of the live
    file, and it would be removed.
    """
    try:
        waited = new_of(folder.database).exists()
        refused = settle(folder.database)
        if refused is not None:
            log.error("a file in the place of a new database is none, and was set apart", file=str(refused))
        elif waited:
            log.warning("an interrupted repair or compacting was finished: the new database is in its place")
        remove_unfinished(folder.database, folder.damaged)
        restored = settle_restore(folder.database)
        if restored.refused is not None:
            log.error("a folder in the place of a new state is none, and was set apart", file=str(restored.refused))
        elif restored.finished:
            log.warning("an interrupted restore was finished: database and settings are in their places")
        remove_unpacked(folder.database)
        Media(folder.media).sweep()
    except (FolderError, StoreError) as error:
        log.warning("what an interrupted repair or restore has left is still there", reason=str(error))
    except OSError as error:
        log.warning("the database's folder cannot be looked at", reason=str(error.strerror))


def _remove_unnamed(store: Store, log: Log) -> None:
    """Remove recordings of a restore that was cut off; that needs the database, which says what is named."""
    if store.fault is None:
        try:
            remove_unnamed(store.file)
        except StoreError as error:
            log.warning("what an interrupted restore has left is still there", reason=str(error))


def _open_store(folder: DataFolder, *, untouched: bool) -> AbstractAsyncContextManager[Store]:
    """Open the database; one that is damaged, or was lost, keeps nobody from the shell."""
    return open_store(folder.database, make=not folder.had_database, tolerant=True, untouched=untouched)


def _trace_inputs(settings: Settings, folder: DataFolder, hub: Hub, log: Log) -> tuple[DatagramInput, ...]:
    """Return the sockets that syslog comes in by; a server opens them."""
    inputs = [DatagramInput("trace.sock", hub, log, partial(bind_path, folder.trace_socket))]
    if settings.trace.udp is not None:
        inputs.append(DatagramInput("udp", hub, log, partial(bind_udp, *settings.trace.udp)))
    return tuple(inputs)


def _catalogue(settings: Settings) -> tuple[Variable, ...]:
    """Return all system variables: the built-in ones and the owner's own.

    Raises:
        SettingsError: names the file, the key and what is allowed.
    """
    try:
        catalogue = (*CATALOGUE, *own_variables(settings.variables))
    except SettingsError as error:
        raise SettingsError(f"{settings.file}: {error}") from None
    check_services(settings.services, catalogue, settings.appliance.edition, settings.file)
    return catalogue


async def _restore_clock(clock: Clock, store: Store, log: Log) -> None:
    if state := await store.get_state(CLOCK_STATE):
        try:
            clock.restore(ClockState.from_json(state))
        except ClockError as error:
            log.warning("the clock's kept state is not used", reason=str(error))
