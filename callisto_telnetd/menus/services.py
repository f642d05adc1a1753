"""``services``: the processes that Callisto runs, how they are, and how they are started and stopped."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import timedelta

from callisto_telnetd.clock import format_moment
from callisto_telnetd.errors import ServiceError, listed
from callisto_telnetd.menus.answers import Answer, Done, Fact, Line
from callisto_telnetd.menus.arguments import parse_whole, require_count, take_yes
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.presence import present_now
from callisto_telnetd.menus.table import Column, table
from callisto_telnetd.menus.tree import Command, Menu
from callisto_telnetd.quantities import counted, format_bytes
from callisto_telnetd.services.supervisor import ServiceView, State
from callisto_telnetd.settings.services import WEB_SERVER

_MOST_LINES = 1000


def state_text(view: ServiceView) -> str:
    """Return the state with what belongs to it: why, and when it goes on."""
    text = f"{view.state}, {view.address}" if view.address and view.state is State.RUNNING else str(view.state)
    if view.next_try_s is not None:
        text += f", next start in {view.next_try_s:.0f} s"
    if view.reason:
        text += f" ({view.reason})"
    if view.restart_due:
        text += f", restart due for {', '.join(view.restart_due)}"
    return text


_SERVICES = (
    Column("SERVICE", 16),
    Column("PID", 7, right=True, rank=3),
    Column("CPU %", 6, right=True, rank=2),
    Column("MEMORY", 10, right=True, rank=4),
    Column("RESTARTS", 8, right=True, rank=5),
    Column("SINCE", 19, rank=1),
    Column("STATE", 12, gap=2),
)


async def list_services(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the services and how they are; without a server, what is set up."""
    require_count(words, 0, 0, "services list")
    views = context.parts.supervisor.views()
    if not context.parts.serving:
        yield Line("No server runs on this data folder: nothing of this does.")
    rows = []
    for view in views:
        state = view.state if context.parts.serving or view.state is not State.STOPPED else "not running"
        moment = context.parts.clock.now() - timedelta(seconds=view.for_s)
        data = {
            "name": view.name,
            "state": state,
            "reason": view.reason or None,
            "at": moment.isoformat(timespec="seconds"),
            "for_s": round(view.for_s, 1),
            "pid": view.pid,
            "restarts": view.restarts,
            "last_exit": view.last_exit or None,
            "next_try_s": view.next_try_s,
            "cpu_percent": view.cpu_percent,
            "memory_bytes": view.memory_bytes,
            "restart_due": list(view.restart_due),
            "plan": view.plan,
            "enabled": view.enabled,
            "address": view.address or None,
        }
        figures = str(view.pid or "-"), f"{view.cpu_percent:.1f}", format_bytes(view.memory_bytes), str(view.restarts)
        since = format_moment(moment) if context.parts.serving else "-"
        text = state_text(view) if context.parts.serving else state
        last = f", last exit: {view.last_exit}" if view.last_exit and view.last_exit not in view.reason else ""
        rows.append((data, (view.name, *figures, since, text + last)))
    for answer in table(context, _SERVICES, rows):
        yield answer
    yield Done(counted(len(views), "service"))


def _require_server(context: Context, name: str) -> ServiceView:
    """Return how the service is.

    Raises:
        CallistoError: there is none of that name, or no server that could run it.
    """
    view = context.parts.supervisor.view(name)
    if not context.parts.serving:
        raise ServiceError("no server runs on this data folder; services run with 'callisto-telnetd serve'")
    return view


async def start_service(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Start a service."""
    require_count(words, 1, 1, "services start NAME")
    _require_server(context, words[0])
    await context.parts.supervisor.start(words[0])
    yield await _changed(context, words[0], "started")
    yield Done(f"{words[0]} started, pid {context.parts.supervisor.view(words[0]).pid}")


async def stop_service(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Stop a service; it stays stopped until it is started, or the server is."""
    plain, confirmed = take_yes(words)
    require_count(plain, 1, 1, "services stop NAME [yes]")
    words = plain
    _require_server(context, words[0])
    await _confirm(context, words[0], "Stop", confirmed=confirmed)
    await context.parts.supervisor.stop(words[0], f"by {context.origin.who}")
    yield await _changed(context, words[0], "stopped")
    view = context.parts.supervisor.view(words[0])
    yield Done(f"{words[0]} stopped, {view.last_exit}" if view.last_exit else f"{words[0]} stopped")


async def restart_service(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Restart a service."""
    plain, confirmed = take_yes(words)
    require_count(plain, 1, 1, "services restart NAME [yes]")
    words = plain
    _require_server(context, words[0])
    await _confirm(context, words[0], "Restart", confirmed=confirmed)
    if held := context.parts.supervisor.held(words[0]):
        raise ServiceError(f"{words[0]} is stopped for {held}; it is started again afterwards")
    await context.parts.supervisor.restart(words[0], f"by {context.origin.who}")
    yield await _changed(context, words[0], "restarted")
    yield Done(f"{words[0]} restarted, pid {context.parts.supervisor.view(words[0]).pid}")


async def _confirm(context: Context, name: str, what: str, *, confirmed: bool) -> None:
    """Ask before people are put out: whoever is on by the web has to log in again.

    Raises:
        DeclinedError: the caller has answered no.
        UsageError: nobody is there to ask.
    """
    on = sorted({entry.origin.who for entry in present_now(context) if entry.is_web}) if name == WEB_SERVER else []
    if on:
        await context.confirm(f"{what} {name} and end the web sessions of {listed(on, 'and')}", confirmed=confirmed)


async def _changed(context: Context, name: str, what: str) -> Fact:
    """Note who has done it, and return the fact."""
    view = context.parts.supervisor.view(name)
    origin = context.origin
    await context.parts.audit.note(f"service {what}", origin, name)
    context.parts.log.info("service order", order=what, service=name, who=origin.who, source=origin.source)
    return Fact({"name": name, "state": view.state, "pid": view.pid, "last_exit": view.last_exit or None}, ())


async def show_log(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the last records of a service that are held in memory, oldest first."""
    require_count(words, 1, 2, "services log NAME [LINES]")
    _require_server(context, words[0])
    count = parse_whole(words[1], "LINES", 1, _MOST_LINES) if len(words) > 1 else 20
    hub = context.parts.hub
    records = [record for record in hub.held() if record.process == words[0]][-count:]
    for record in records:
        yield Fact(hub.formatter.as_dict(record), (hub.formatter.line(record),))
    yield Done(counted(len(records), "record"))


def _complete_name(context: Context, words: Sequence[str]) -> Sequence[str]:
    return () if words else context.parts.supervisor.names()


SERVICES_MENU = Menu(
    word="services",
    title="Services",
    help="list, start, stop and restart the processes of Callisto",
    entries=(
        Command(word="list", help="list the services and how they are", run=list_services, facts="many"),
        Command(
            word="start",
            usage="NAME",
            help="start a service, also one that waits to be started again",
            run=start_service,
            complete=_complete_name,
            facts="one",
            changes=True,
        ),
        Command(
            word="stop",
            usage="NAME [yes]",
            help="stop a service until it is started by hand, or the server is",
            details=("Asks where people are on by the web, whose sessions end; 'yes' as the last word does not ask.",),
            run=stop_service,
            complete=_complete_name,
            facts="one",
            changes=True,
        ),
        Command(
            word="restart",
            usage="NAME [yes]",
            help="stop a service and start it again",
            run=restart_service,
            complete=_complete_name,
            facts="one",
            changes=True,
        ),
        Command(
            word="log",
            usage="NAME [LINES]",
            help="show what a service has said last, as far as it is held in memory",
            run=show_log,
            complete=_complete_name,
            facts="many",
        ),
    ),
)
