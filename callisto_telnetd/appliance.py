"""The composition root: opens every part in order, and closes them in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from callisto_telnetd import __version__
from callisto_telnetd.accounts.accounts import FIRST_NAME, Accounts
from callisto_telnetd.accounts.audit import Audit
from callisto_telnetd.accounts.gatekeeper import Gatekeeper
from callisto_telnetd.accounts.passwords import PasswordHashes, require_rule
from callisto_telnetd.accounts.presence import Presence
from callisto_telnetd.clock import Clock, ClockState
from callisto_telnetd.db.folder import DataFolder, FolderLock
from callisto_telnetd.db.store import Store, open_store
from callisto_telnetd.errors import AccountError, ClockError, ListenError, SettingsError
from callisto_telnetd.listeners.local import LocalListener
from callisto_telnetd.listeners.tcp import TelnetListener, bind, open_tls
from callisto_telnetd.maintenance.workshop import Workshop
from callisto_telnetd.menus.context import Identity, Parts
from callisto_telnetd.menus.date import CLOCK_STATE
from callisto_telnetd.origin import Origin
from callisto_telnetd.services.processes import ProcessTable
from callisto_telnetd.settings import Address, Settings
from callisto_telnetd.terminal.command_door import CommandDoor, Out, Request, run_command
from callisto_telnetd.terminal.session import SessionLimits
from callisto_telnetd.trace.captures import Captures
from callisto_telnetd.trace.datagrams import DatagramInput, bind_path, bind_udp
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import Log, bridge_libraries, open_log
from callisto_telnetd.trace.metrics import read_metrics
from callisto_telnetd.variables import CATALOGUE, Registry, Variable, own_variables

__all__ = ["Request", "run", "run_offline", "serve"]

_LOCK_S = 2.0

Ready = Callable[[str], None]
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run the work to its end on asyncio's loop."""
    return asyncio.run(work)


@asynccontextmanager
async def open_parts(
    settings: Settings, folder: DataFolder, lock: FolderLock, *, serving: bool = True
) -> AsyncIterator[Parts]:
    """Open the appliance of a data folder.

    Args:
        settings: All settings.
        folder: The data folder, made already.
        lock: Its lock, held until everything is closed again.
        serving: Whether a server runs; for a command without one, only errors go to stderr.

    Raises:
        CallistoError: a part cannot be opened; those before it are closed again.
    """
    async with AsyncExitStack() as stack:
        clock = Clock(settings.clock.mode)
        hub = Hub(clock, settings.trace.held_records, settings.trace.held_bytes)
        log = open_log(hub, settings.log.level if serving else "error", settings.log.format)
        bridge_libraries(log)
        catalogue = _catalogue(settings)
        store = await stack.enter_async_context(open_store(folder.database))
        await _restore_clock(clock, store, log)
        variables = await Registry.load(catalogue, store, settings.appliance.edition, clock.now)
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
        captures = Captures(hub, folder.trace, free_bytes=settings.trace.free, budget_bytes=settings.trace.budget)
        captures.on_deleted = lambda names: log.info("trace files deleted for the budget", files=", ".join(names))
        stack.push_async_callback(captures.close)
        hashes = PasswordHashes()
        stack.callback(hashes.close)
        presence, audit = Presence(), Audit(store, clock, log)
        accounts = Accounts(store, hashes=hashes, audit=audit, presence=presence, clock=clock, log=log)
        await accounts.load()
        limits = settings.limits
        yield Parts(
            identity=Identity(
                __version__,
                settings.appliance.edition,
                settings.appliance.hostname,
                settings.appliance.serial,
                settings.appliance.banner,
            ),
            folder=folder,
            clock=clock,
            hub=hub,
            captures=captures,
            log=log,
            store=store,
            variables=variables,
            accounts=accounts,
            audit=audit,
            presence=presence,
            gatekeeper=Gatekeeper(limits.sessions, limits.sessions_per_source, limits.pending, settings.telnet.allow),
            processes=ProcessTable(),
            trace_inputs=_trace_inputs(settings, folder, hub, log),
            trace_size_bytes=settings.trace.size,
            started_at=time.monotonic(),
            serving=serving,
            repairing=asyncio.Lock(),
            workshop=Workshop(lock, log),
        )


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
        return (*CATALOGUE, *own_variables(settings.variables))
    except SettingsError as error:
        raise SettingsError(f"{settings.file}: {error}") from None


async def _restore_clock(clock: Clock, store: Store, log: Log) -> None:
    if state := await store.get_state(CLOCK_STATE):
        try:
            clock.restore(ClockState.from_json(state))
        except ClockError as error:
            log.warning("the clock's kept state is not used", reason=str(error))


async def serve(settings: Settings, data: Path, ready: Ready) -> None:
    """Serve until SIGTERM or SIGINT, then close everything in reverse order.

    Args:
        settings: All settings.
        data: The data folder; made where it is missing.
        ready: Called with a line for each listener that is open.

    Raises:
        CallistoError: the server cannot start; nothing is left behind.
    """
    _catalogue(settings)  # a wrong key in it is found before anything is made
    first_password = os.environ.get("CALLISTO_ADMIN_PASSWORD")
    if first_password and not DataFolder(data).database.exists():
        _require_first_password(first_password)
    async with AsyncExitStack() as stack:
        doors = _take_ports(settings, stack)
        folder = DataFolder(data)
        folder.make()
        lock = stack.enter_context(await folder.wait_for_lock(_LOCK_S))  # a command may have it for a moment
        parts = await stack.enter_async_context(open_parts(settings, folder, lock))
        _install_exception_handler(parts.log)
        _raise_file_limit()
        made = await parts.accounts.make_first(first_password)
        if made is not None:
            sys.stderr.write(f"The account {FIRST_NAME} was made; its password, shown this once: {made}\n")
        stopped = _stop_signals()
        local = LocalListener(parts, folder.control_socket)
        stack.push_async_callback(local.close)
        await local.open()
        for each in parts.trace_inputs:  # before anybody is told that the server is ready
            stack.callback(each.close)
            each.open()
        limits = SessionLimits(settings.limits.login_s, settings.limits.idle_s)
        for context, sockets in doors:
            listener = TelnetListener(parts, limits, always_echo=settings.telnet.echo == "always", context=context)
            stack.push_async_callback(listener.close)
            for address in await listener.open(sockets):
                ready(f"callisto-telnetd: {listener.name} listening on {address}")
                parts.log.info("listening", door=listener.name, address=address)
        if settings.trace.metrics is not None:
            _open_metrics(settings.trace.metrics, parts, stack, ready)
        _notify("READY=1")
        await stopped.wait()
        _notify("STOPPING=1")
        parts.log.info("stopping")


def _open_metrics(address: Address, parts: Parts, stack: AsyncExitStack, ready: Ready) -> None:
    """Serve the Prometheus page; one that cannot be served keeps nobody from the shell."""
    from callisto_telnetd.listeners.metrics import MetricsPage  # noqa: PLC0415 - slow to import, and an option

    try:
        page = MetricsPage(*address, lambda: read_metrics(parts.hub, parts.captures, parts.trace_inputs))
    except ListenError as error:
        parts.log.warning("the metrics page is not served", reason=str(error))
        return
    stack.callback(page.close)
    ready(f"callisto-telnetd: metrics listening on {address.host}:{page.port}")


def _require_first_password(password: str) -> None:
    """Refuse a first password outside the rule before anything is made.

    Raises:
        SettingsError: names the variable and the rule.
    """
    try:
        require_rule(password)
    except AccountError as error:
        raise SettingsError(f"environment: CALLISTO_ADMIN_PASSWORD: {error}") from None


def _take_ports(settings: Settings, stack: AsyncExitStack) -> list[tuple[ssl.SSLContext | None, list[socket.socket]]]:
    """Take the ports before anything else: where one cannot be had, nothing has been made or changed."""
    telnet = settings.telnet
    wanted: list[tuple[ssl.SSLContext | None, int]] = [(None, telnet.port)]
    if telnet.tls:
        wanted.append((open_tls(telnet.tls.certificate, telnet.tls.key), telnet.tls.port))
    doors = []
    for context, port in wanted:
        sockets = bind(telnet.host, port, "telnet.tls.port" if context else "--port")
        for sock in sockets:
            stack.callback(sock.close)
        doors.append((context, sockets))
    return doors


async def run_offline(
    settings: Settings,
    data: Path,
    *,
    who: str,
    request: Request,
    out: Callable[[str], None],
    err: Callable[[str], None],
    ask: Callable[[str, bool], Awaitable[str]],
) -> int:
    """Run one command on the data folder itself, under its lock, where no server runs; return the exit code.

    Raises:
        CallistoError: the folder or its database cannot be opened.
    """
    folder = DataFolder(data)
    folder.make()
    with folder.lock() as lock:
        async with open_parts(settings, folder, lock, serving=False) as parts:
            door = CommandDoor(
                request, lambda frame: (out if isinstance(frame, Out) else err)(frame.text), ask, _no_drain
            )
            command = asyncio.create_task(run_command(parts, Origin(who, "local", "local"), door))
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGINT, lambda: door.stop() if door.stop else command.cancel())
            try:
                return await command
            except asyncio.CancelledError:
                if not command.cancelled():
                    raise
                err("Error: interrupted")
                return 1


async def _no_drain() -> None:
    """Wait for nobody: the frames are printed as they come."""


def _stop_signals() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set; a second one ends the process at once."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()

    def stop() -> None:
        if stopped.is_set():
            os._exit(1)
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    return stopped


def _install_exception_handler(log: Log) -> None:
    def handle(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        log.error("unexpected error", detail=context.get("message", ""), **({"exc_info": error} if error else {}))

    asyncio.get_running_loop().set_exception_handler(handle)


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _notify(state: str) -> None:
    """Tell the service manager, if there is one (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect("\0" + address[1:] if address.startswith("@") else address)
        notify.send(state.encode())
