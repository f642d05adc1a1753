"""The composition root: a server from its ports to its end, and one command without a server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import socket
import ssl
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from callisto_telnetd.accounts.accounts import FIRST_NAME, FirstAccount
from callisto_telnetd.accounts.passwords import require_rule
from callisto_telnetd.assembly import open_parts, require_settings
from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.db.restore.switch import settle_restore
from callisto_telnetd.errors import (
    AccountError,
    FolderError,
    ListenError,
    NoApplianceError,
    OwnershipError,
    PortInUseError,
    SettingsError,
    StoreError,
)
from callisto_telnetd.listeners.local import LocalListener
from callisto_telnetd.listeners.tcp import TelnetListener, bind, open_tls
from callisto_telnetd.menus.context import Parts
from callisto_telnetd.menus.everywhere import EVERYWHERE
from callisto_telnetd.menus.main import MAIN_MENU
from callisto_telnetd.menus.resolver import Resolution, resolve
from callisto_telnetd.origin import Origin
from callisto_telnetd.record_rate import RecordRate
from callisto_telnetd.secret_text import trimmed
from callisto_telnetd.settings import Address, BackupSettings, Settings
from callisto_telnetd.shown_arguments import take_variable
from callisto_telnetd.streams import discard_stalled, error_lines_written
from callisto_telnetd.terminal.command_door import CommandDoor, Out, Request, run_command
from callisto_telnetd.terminal.session import SessionLimits
from callisto_telnetd.trace.logs import Log
from callisto_telnetd.trace.metrics import read_metrics
from callisto_telnetd.work import Closing, DaemonPool

__all__ = ["Request", "finish_restore", "run", "run_offline", "serve"]

_LOCK_S = 2.0
_HANGUP_IGNORED = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
"""As the process was started, by nohup for one: later every ignored signal is caught for the processes it starts."""
_THREADS = 8
"""For what waits for a disk; what may wait for ever has threads of its own."""
_WITHOUT_DATABASE = {"repair", "information", "trace"}
"""The commands that work on a folder whose database cannot be used."""

Ready = Callable[[str], None]
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run the work to its end on asyncio's loop; a thread that hangs at a disk keeps nobody from that end."""
    with asyncio.Runner() as runner:
        runner.get_loop().set_default_executor(DaemonPool(_THREADS))
        return runner.run(work)


def require_own(data: Path) -> None:
    """Refuse a data folder that somebody else may write to: a server believes the commands that are named there.

    Raises:
        OwnershipError: names the folder, what is wrong and the command that mends it.
    """
    DataFolder(data).require_own(serving=True)


async def finish_restore(data: Path) -> None:
    """Finish a restore that a crash interrupted, before the settings are read: they are a part of it.

    Where another process has the folder, it does so; what cannot be done is told by whoever opens the database.
    """
    folder = DataFolder(data)
    with contextlib.suppress(FolderError, StoreError):
        folder.make()
        with await folder.wait_for_lock(_LOCK_S):
            if settle_restore(folder.database).finished:
                sys.stderr.write("callisto-telnetd: an interrupted restore was finished\n")


def start_faults(settings: Settings) -> list[str]:
    """Return what would keep a server from starting with these settings, a line each; a port that is in use is none."""
    telnet = settings.telnet
    wanted: list[Callable[[], object]] = [partial(require_settings, settings)]
    wanted.append(partial(_require_port, telnet.host, telnet.port, "telnet.port"))
    if telnet.tls:
        wanted.append(partial(open_tls, telnet.tls.certificate, telnet.tls.key))
        wanted.append(partial(_require_port, telnet.host, telnet.tls.port, "telnet.tls.port"))
    faults = []
    for require in wanted:
        try:
            require()
        except (SettingsError, OwnershipError, ListenError) as error:
            faults.append(str(error))
    return list(dict.fromkeys(faults))


def _require_port(host: str, port: int, setting: str) -> None:
    with contextlib.suppress(PortInUseError):  # by this very server, as a rule
        for sock in bind(host, port, setting):
            sock.close()


async def serve(settings: Settings, data: Path, ready: Ready) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP, then close everything in reverse order.

    Args:
        settings: All settings.
        data: The data folder; made where it is missing.
        ready: Called with a line for each listener that is open.

    Raises:
        CallistoError: the server cannot start; nothing is left behind.
    """
    require_settings(settings)
    first_password = trimmed(take_variable("CALLISTO_ADMIN_PASSWORD"))
    if first_password and not DataFolder(data).database.exists():
        _require_first_password(first_password)
    async with Closing() as stack:
        doors = _take_ports(settings, stack)
        folder = DataFolder(data)
        folder.make()
        lock = stack.enter_context(await folder.wait_for_lock(_LOCK_S))  # a command may have it for a moment
        parts = await stack.enter_async_context(open_parts(settings, folder, lock, faults_of=start_faults))
        _install_exception_handler(parts.log, parts.strangers)
        _raise_file_limit()
        if made := await parts.accounts.make_first(first_password or None):
            _tell_first(made)
            await error_lines_written()  # before anybody is told that the server is ready
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
        for each in parts.trace_inputs:
            if each.address:
                ready(f"callisto-telnetd: syslog listening on {each.address} (UDP)")
        stack.push_async_callback(parts.supervisor.close)
        await parts.supervisor.open(partial(_tell_web, parts.log, ready))
        parts.web_ends.start()
        stack.push_async_callback(parts.repairs.close)  # before the services: it would start them again
        stack.push_async_callback(parts.restores.close)
        _notify("READY=1")
        parts.clock.recent_zones.read_again()
        if parts.store.fault is None:  # else everybody is told already
            parts.self_check.start()
        parts.schedule.start()
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
    host = f"[{address.host}]" if ":" in address.host else address.host
    ready(f"callisto-telnetd: metrics listening on {host}:{page.port}")


def _tell_web(log: Log, ready: Ready, address: str) -> None:
    ready(f"callisto-telnetd: web listening on {address}")
    log.info("listening", door="web", address=address)


def _tell_first(made: FirstAccount) -> None:
    """Say on stderr which account was made, and where its password comes from."""
    source = f"shown this once: {made.password}" if made.password else "from CALLISTO_ADMIN_PASSWORD"
    sys.stderr.write(f"callisto-telnetd: account {FIRST_NAME} made, password {source}\n")


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
        NoApplianceError: there is none in the folder, and the command makes none; nothing was made.
        UsageError: there is no such command; nothing was made.
        CallistoError: the folder or its database cannot be opened.
    """
    folder = DataFolder(data)
    door = CommandDoor(request, lambda frame: (out if isinstance(frame, Out) else err)(frame.text), ask, _no_drain)
    if folder.is_appliance:
        return await _run_on(folder, settings, who, door)
    command = resolve(MAIN_MENU, EVERYWHERE, request.words)
    if _reads_elsewhere(command):
        with tempfile.TemporaryDirectory(prefix="callisto-") as empty:
            return await _run_on(DataFolder(Path(empty)), settings, who, door)
    if not command.entry.founds:
        raise NoApplianceError(folder.path)
    missing = [each for each in (folder.path, *folder.path.parents) if not each.exists()]
    return await _run_on(folder, settings, who, door, missing)


async def _run_on(
    folder: DataFolder, settings: Settings, who: str, door: CommandDoor, missing: Sequence[Path] | None = None
) -> int:
    """Run the command on a folder; where the appliance is new, and the command refused, take it away again.

    Args:
        folder: The data folder.
        settings: All settings.
        who: Who has called, by the system's name.
        door: Where the answers go.
        missing: For a new appliance: the folders that are not there yet, the innermost first.
    """
    folder.require_own(serving=False)
    folder.make()
    if folder.is_of_other:  # root does his work there, and none of that user's
        settings = settings.model_copy(update={"backup": BackupSettings()})
    kept = missing is None
    try:
        with folder.lock() as lock:
            untouched = _repairs(door.request)
            async with open_parts(
                settings, folder, lock, serving=False, untouched=untouched, faults_of=start_faults
            ) as parts:
                if parts.mode.active and not _works_without_database(door.request):
                    raise StoreError(f"the database cannot be used: {parts.mode.reason}")
                kept = True
                code = await _run_one(parts, who, door)
                kept = missing is None or code == 0 or bool(await parts.audit.entries(1))
                return code
    finally:
        if not kept:
            folder.unmake(missing or ())


async def _run_one(parts: Parts, who: str, door: CommandDoor) -> int:
    """Run the command, which Ctrl-C stops."""
    command = asyncio.create_task(run_command(parts, Origin(who, "local", "local"), door))
    interrupt = _Interrupt(asyncio.get_running_loop(), door, command)
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        code = await command
        if not interrupt.gave_up:
            return code
    except asyncio.CancelledError:
        if not command.cancelled():
            raise
    finally:
        signal.signal(signal.SIGINT, before)
    door.fail("interrupted", 1)
    return 1


def _reads_elsewhere(command: Resolution) -> bool:
    """Whether the command only reads a file that is named by its path: what it then needs of an appliance is empty."""
    return command.entry.reads_file and "/" in "".join(command.arguments[:1])


class _Interrupt:
    """Ctrl-C for a command in this process: ends what it shows, else the command, unless it must not be interrupted."""

    def __init__(self, loop: asyncio.AbstractEventLoop, door: CommandDoor, command: asyncio.Task[int]) -> None:
        self.gave_up = False
        """Whether the output was found waiting for a reader who stands still; the rest of it is lost."""
        self._loop, self._door, self._command = loop, door, command

    def __call__(self, _number: int, _frame: object) -> None:
        """Take the signal, in the midst of whatever runs: the loop may be the one that waits for a reader."""
        if not self._door.committed:
            self.gave_up |= discard_stalled()
        self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        if self._door.stop is not None:
            self._door.stop()
        elif not (self._door.committed or self._door.changes):
            self._command.cancel()


def _repairs(request: Request) -> bool:
    """Whether the command sets the database aside before anything else: SQLite may change a file that it opens."""
    return request.words[:1] == ["repair"] and "quarantine" not in request.words


def _works_without_database(request: Request) -> bool:
    return bool(request.words) and request.words[0] in _WITHOUT_DATABASE


async def _no_drain() -> None:
    """Wait for nobody: the frames are printed as they come."""


def _stop_signals() -> asyncio.Event:
    """Return an event that SIGTERM, SIGINT and SIGHUP set; a second SIGTERM or SIGINT ends the process at once.

    A terminal that is closed may send SIGHUP twice, by its shell and by the kernel. Under nohup it stays ignored.
    """
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()

    def stop() -> None:
        if stopped.is_set():
            os._exit(1)
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    if not _HANGUP_IGNORED:
        loop.add_signal_handler(signal.SIGHUP, stopped.set)
    return stopped


def _install_exception_handler(log: Log, rate: RecordRate) -> None:
    def handle(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        fields = {"detail": context.get("message", ""), **({"exc_info": error} if error else {})}
        rate.tell(log.error, "unexpected error", of=type(error).__name__, **fields)

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
