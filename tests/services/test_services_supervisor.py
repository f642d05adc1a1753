"""Real children under a real supervisor: how they are started, watched, stopped, and what is left of them."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest

from callisto_telnetd.accounts.web_ends import WebEnds
from callisto_telnetd.assembly import open_parts
from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.errors import ServiceError, UnknownServiceError
from callisto_telnetd.menus.context import Parts
from callisto_telnetd.origin import SYSTEM, Origin
from callisto_telnetd.services.strays import Ledger, boot_id, start_ticks
from callisto_telnetd.services.supervisor import Pace, ServiceView, State, Supervisor
from callisto_telnetd.settings import ServiceSettings, load_settings
from tests.conftest import NO_SIGNALS, SIGNALS_OF, signals_in

DEADLINE_S = 10.0
QUICK = Pace(settled_s=5.0, most_pause_s=0.2, most_early=3, slow_s=60.0, close_s=1.0)
SLEEP = ["sleep", "1000"]
PYTHON = shutil.which("python3", path="/usr/bin") or sys.executable
"""One that any user may run."""


@dataclass
class House:
    """A supervisor at work, and what it tells."""

    parts: Parts
    supervisor: Supervisor
    notices: list[str] = field(default_factory=list)

    async def until(self, name: str, test: Callable[[ServiceView], bool]) -> ServiceView:
        """Wait until the service is as the test wants it."""
        end = time.monotonic() + DEADLINE_S
        while not test(view := self.supervisor.view(name)):
            assert time.monotonic() < end, view
            await asyncio.sleep(0.005)
        return view

    async def at(self, name: str, state: State) -> ServiceView:
        """Wait until the service is in the state."""
        return await self.until(name, lambda view: view.state is state)

    async def said(self, name: str, text: str) -> None:
        """Wait until the service has said a line that holds the text."""
        end = time.monotonic() + DEADLINE_S
        while not any(record.process == name and text in record.text for record in self.parts.hub.held()):
            assert time.monotonic() < end, [record.text for record in self.parts.hub.held()]
            await asyncio.sleep(0.005)

    def texts(self, name: str) -> list[str]:
        """Return what the service has said."""
        return [record.text for record in self.parts.hub.held() if record.process == name]


OpenHouse = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenHouse:
    """Give a function that opens a supervisor of services: ``house(web={"command": …})``; ``_`` stands for ``-``."""
    for name in [name for name in os.environ if name.startswith("CALLISTO_")]:
        monkeypatch.delenv(name)

    @asynccontextmanager
    async def open_house(data: Path = tmp_path / "data", **services: dict[str, Any]) -> AsyncIterator[House]:
        folder = DataFolder(data)
        folder.make()
        async with AsyncExitStack() as stack:
            lock = stack.enter_context(folder.lock())
            parts = await stack.enter_async_context(open_parts(load_settings(data), folder, lock))
            notices: list[str] = []

            def tell(text: str) -> None:
                notices.append(text)
                parts.presence.notify_all(text)

            supervisor = Supervisor(
                {name.replace("_", "-"): ServiceSettings(**values) for name, values in services.items()},
                variables=parts.variables,
                hub=parts.hub,
                log=parts.log,
                processes=parts.processes,
                data=data,
                tell=tell,
                pace=QUICK,
            )
            await supervisor.open()
            try:
                yield House(parts, supervisor, notices)
            finally:
                await supervisor.close()

    return open_house


def python(code: str) -> list[str]:
    """Return a command that runs some Python."""
    return [sys.executable, "-c", code]


def alive(pid: int) -> bool:
    """Return whether a process runs, other than as one that is only not collected yet."""
    return start_ticks(pid) is not None


async def test_a_service_runs_is_traced_and_is_stopped(house: OpenHouse, tmp_path: Path) -> None:
    """It gets its environment, what it says is in the trace with its pid, and a stop leaves nothing."""
    script = 'echo "hello $GREETING $CALLISTO_DATA"; echo oh >&2; exec sleep 1000'
    async with house(box={"command": ["sh", "-c", script], "environment": {"GREETING": "you"}}) as home:
        view = await home.at("box", State.RUNNING)
        await home.said("box", f"hello you {tmp_path / 'data'}")
        await home.said("box", "oh")
        record = next(record for record in home.parts.hub.held() if record.process == "box")
        assert view.pid is not None
        assert (record.pid, view.restarts, view.last_exit) == (view.pid, 0, "")
        assert [row.name for row in home.parts.processes.rows()] == ["callisto-telnetd", "box"]
        await home.supervisor.stop("box", "by anna")
        stopped = home.supervisor.view("box")

        assert (stopped.state, stopped.reason, stopped.pid) == (State.STOPPED, "by anna", None)
        assert stopped.last_exit == "killed by SIGTERM (Terminated)"
        assert not alive(view.pid)
        assert len(home.parts.processes.rows()) == 1
        await home.supervisor.start("box")
        assert (await home.at("box", State.RUNNING)).pid != view.pid


async def test_a_child_inherits_nothing_of_the_server(house: OpenHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither descriptors nor secrets nor settings, and its signals and umask are the usual ones."""
    monkeypatch.setenv("CALLISTO_ADMIN_PASSWORD", "Secret-123")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere")
    code = """
import os, signal, sys
print("fds", sorted(os.listdir("/proc/self/fd"))[:4], len(os.listdir("/proc/self/fd")))
print("env", sorted(name for name in os.environ if name.startswith(("CALLISTO", "NOTIFY"))))
print("umask", oct(os.umask(0)), signal.getsignal(signal.SIGHUP) == signal.SIG_DFL, os.getsid(0) == os.getpid())
"""
    async with house(box={"command": python(code), "restart": "never"}) as home:
        await home.at("box", State.STOPPED)

        assert home.texts("box") == [
            "fds ['0', '1', '2', '3'] 4",
            "env ['CALLISTO_DATA', 'CALLISTO_SERVICE']",
            "umask 0o22 True True",
        ]


@pytest.mark.usefixtures("held_signals")
@pytest.mark.parametrize("limit", [{}, {"memory": "64M"}])
async def test_a_child_begins_with_no_signal_ignored_or_blocked(house: OpenHouse, limit: dict[str, str]) -> None:
    """Whatever the server was started with, nohup for one; and its exit code is known all the same."""
    command = ["sh", "-c", f"{' '.join(SIGNALS_OF)}; exit 7"]
    async with house(box={"command": command, "restart": "never", **limit}) as home:
        view = await home.until("box", lambda now: now.last_exit != "")

        assert view.last_exit == "exit code 7"
        assert signals_in(home.texts("box")) == NO_SIGNALS


async def test_one_that_dies_at_once_does_not_spin(house: OpenHouse) -> None:
    """It is started again after pauses, then it is failed with its reason, told to all, until somebody starts it."""
    script = "echo no such port >&2; exit 3"
    async with house(box={"command": ["sh", "-c", script], "restart_s": 0.1}) as home:
        view = await home.at("box", State.FAILED)

        assert view.restarts == QUICK.most_early - 1
        assert view.reason == (
            "ended by itself with exit code 3; its last words: no such port; that was the 3. early end in a row"
        )
        assert view.next_try_s is not None
        assert view.next_try_s > 50
        assert len(home.notices) == 2
        await home.supervisor.start("box")
        await home.until("box", lambda now: now.restarts == QUICK.most_early)


@pytest.mark.parametrize(
    ("restart", "code", "state"),
    [("never", 0, State.STOPPED), ("never", 1, State.FAILED), ("on-failure", 0, State.STOPPED)],
)
async def test_what_is_not_started_again(house: OpenHouse, restart: str, code: int, state: State) -> None:
    """An end that its setting lets be is told with its code, and no further start follows."""
    async with house(box={"command": f"sh -c 'exit {code}'", "restart": restart}) as home:
        view = await home.at("box", state)

        assert (view.last_exit, view.next_try_s) == (f"exit code {code}", None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"command": ["/no/such/program"]}, "its command '/no/such/program' cannot be run: No such file or directory"),
        ({"command": ["no-such-program"], "memory": "64M"}, "its command 'no-such-program' cannot be run: No such"),
        ({"command": ["/etc/passwd"], "memory": "64M"}, "its command '/etc/passwd' cannot be run: Permission denied"),
        ({"command": ["/etc/passwd"]}, "its command '/etc/passwd' cannot be run: Permission denied"),
        ({"command": SLEEP, "folder": "/no/such/folder"}, "its folder '/no/such/folder' is not there"),
        ({"command": SLEEP, "folder": f"/{'x' * 60}" * 80}, "its folder '/xxx"),
        (
            {"command": SLEEP, "user": "nobody-of-that-name"},
            "its user 'nobody-of-that-name' is not known on this machine",
        ),
    ],
)
async def test_what_cannot_be_started_is_failed(house: OpenHouse, settings: dict[str, Any], said: str) -> None:
    """One clear line says why; it is tried again slowly, and by hand it says the same."""
    async with house(box=settings) as home:
        view = await home.at("box", State.FAILED)

        assert view.reason.startswith(said)
        with pytest.raises(ServiceError, match="box cannot be started: its "):
            await home.supervisor.start("box")


async def test_one_that_ignores_its_signal_is_killed_with_all_it_started(house: OpenHouse) -> None:
    """At the deadline the group is killed; what has left the group and the session is found by its marker."""
    script = """
trap '' TERM
setsid sh -c 'trap "" TERM; echo away $$; while :; do sleep 1; done' &
sh -c 'trap "" TERM; echo near $$; while :; do sleep 1; done' &
wait; while :; do sleep 1; done
"""
    async with house(box={"command": ["sh", "-c", script], "stop_s": 0.2}) as home:
        view = await home.at("box", State.RUNNING)
        await home.said("box", "away")
        await home.said("box", "near")
        pids = [int(text.split()[1]) for text in home.texts("box")]
        assert view.pid is not None
        assert all(alive(pid) for pid in (*pids, view.pid))
        await home.supervisor.stop("box")

        assert not [pid for pid in (*pids, view.pid) if alive(pid)]
        assert home.supervisor.view("box").last_exit == "killed by SIGKILL (Killed)"


async def test_one_that_forks_away_leaves_nothing(house: OpenHouse) -> None:
    """Where the leader ends, what it has sent into the background ends too, before the next start."""
    script = "setsid sleep 1000 & echo away $!; exit 1"
    async with house(box={"command": ["sh", "-c", script], "restart_s": 0.1}) as home:
        await home.at("box", State.FAILED)
        pids = [int(text.split()[1]) for text in home.texts("box")]

        assert len(pids) == QUICK.most_early
        assert not [pid for pid in pids if alive(pid)]


async def test_a_flood_and_an_early_close_hold_up_nobody(house: OpenHouse) -> None:
    """One that writes without end is stopped in time; one that has closed its output runs on."""
    flood = {"command": ["sh", "-c", "yes flood"], "stop_s": 1.0}
    async with house(flood=flood, silent={"command": ["sh", "-c", "exec >&- 2>&-; exec sleep 1000"]}) as home:
        await home.said("flood", "flood")
        await home.at("silent", State.RUNNING)
        began = time.monotonic()
        await home.supervisor.stop("flood")

        assert time.monotonic() - began < 3
        assert home.supervisor.view("silent").state is State.RUNNING


async def test_a_page_says_whether_it_is_healthy(house: OpenHouse) -> None:
    """It starts until its page answers; where the page is gone it is unhealthy, and is restarted."""
    healthy = True

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n" if healthy else b"HTTP/1.1 503 Gone\r\n\r\n")
        writer.close()

    page = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{page.sockets[0].getsockname()[1]}/health"
    health = {"url": url, "every_s": 0.1, "failures": 2, "start_s": 0.3}
    async with page, house(box={"command": SLEEP, "health": health, "restart_s": 0.1}) as home:
        assert home.supervisor.view("box").state is not State.RUNNING
        await home.at("box", State.RUNNING)
        healthy = False
        view = await home.at("box", State.UNHEALTHY)
        assert view.reason == f"{url} answered '503'"
        view = await home.at("box", State.FAILED)

        assert "not healthy within 0.3 s" in view.reason


async def test_a_failed_check_logs_no_browser_out(house: OpenHouse, tmp_path: Path) -> None:
    """A browser's session outlives checks that fail and pass again, and ends with the process that had it."""
    well = tmp_path / "well"
    well.touch()
    health = {"command": ["test", "-e", str(well)], "every_s": 0.1, "start_s": 60}
    async with house(box={"command": SLEEP, "health": health, "restart": "never"}) as home:
        presence, supervisor = home.parts.presence, home.supervisor
        ends = WebEnds(presence, home.parts.audit, lambda: 0, lambda: supervisor.turned_at("box"))
        await home.until("box", lambda view: view.state is State.STARTING and view.pid is not None)
        entry = presence.enter_web(Origin("ada", "web", "192.0.2.1"), datetime.now(UTC))
        for state in (State.RUNNING, State.UNHEALTHY, State.RUNNING):
            well.touch() if state is State.RUNNING else well.unlink()
            await home.at("box", state)
            ends.sweep()
            assert presence.all() == [entry], state
        await supervisor.restart("box", "a test")
        ends.sweep()
        await ends.close()

        assert presence.ended_web(entry.ticket) == "the web server was stopped"


async def test_a_page_of_a_host_that_is_none_is_not_healthy(house: OpenHouse) -> None:
    """A name that no host can have is told as what it is."""
    health = {"url": "http://a..b/", "every_s": 0.1, "start_s": 0.1}
    async with house(box={"command": SLEEP, "health": health, "restart_s": 0.1}) as home:
        view = await home.at("box", State.FAILED)

        assert "not healthy within 0.1 s: http://a..b/ cannot be reached: " in view.reason


async def test_a_stop_and_a_start_at_the_same_moment_are_both_answered(house: OpenHouse) -> None:
    """Two administrators at once: it stops, it starts, and nobody waits for ever."""
    async with house(box={"command": SLEEP}) as home:
        before = await home.at("box", State.RUNNING)
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(home.supervisor.stop("box"), home.supervisor.start("box"))

        assert home.supervisor.view("box").pid != before.pid


async def test_a_restart_while_it_starts_is_answered_by_the_start_after_it(house: OpenHouse) -> None:
    """Who restarts a service that is just being started is answered once that process has made way for another."""
    async with house(box={"command": SLEEP}) as home:
        await home.at("box", State.RUNNING)
        await home.supervisor.stop("box")
        start = asyncio.create_task(home.supervisor.start("box"))
        async with asyncio.timeout(DEADLINE_S):
            while home.supervisor.view("box").state is not State.STARTING:
                await asyncio.sleep(0)  # no longer: it may be over at the next look
        await home.supervisor.restart("box", "by anna")
        view = home.supervisor.view("box")
        await start

        assert sum(record.text == "service ended" for record in home.parts.hub.held()) == 2
        assert view.state is State.RUNNING
        assert view.pid == home.supervisor.view("box").pid


async def test_a_limit_of_memory_that_cannot_be_set_is_told(house: OpenHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server's own limit is lower, the process does not run with that."""
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1 << 20, 1 << 20))
    before = psutil.Process().children()
    async with house(box={"command": SLEEP, "memory": "64M"}) as home:
        view = await home.at("box", State.FAILED)

        assert view.reason == "its memory cannot be limited to 67108864 bytes: the server's own limit is 1048576"
        assert psutil.Process().children() == before


async def test_a_stop_goes_before_a_restart_and_a_hold(house: OpenHouse) -> None:
    """Who stops it while it is restarted, or held, finds it stopped by himself; who restarts it is told so."""
    stubborn = {"command": ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"], "stop_s": 0.3}
    async with house(box={**stubborn, "repair": "stop"}) as home:
        await home.said("box", "up")
        restart = asyncio.create_task(home.supervisor.restart("box", "by anna"))
        await home.at("box", State.STOPPING)
        await home.supervisor.stop("box", "by bert")
        with pytest.raises(ServiceError, match=r"^box cannot be started: it was stopped \(by .+\)$"):
            await restart
        await home.supervisor.start("box")
        async with home.supervisor.paused_for("the repair"):
            await home.supervisor.stop("box", "by carl")

        assert home.supervisor.view("box").reason == "by carl"


async def test_a_plan_leaves_alone_what_is_stopped(house: OpenHouse) -> None:
    """A service that runs is restarted on its plan; one that was stopped stays so, and one that is held comes later."""
    async with house(box={"command": SLEEP, "repair": "stop"}) as home:
        supervisor, before = home.supervisor, await home.at("box", State.RUNNING)
        assert await supervisor.restart_as_planned("box", "the plan") == "restarted"
        assert supervisor.view("box").pid != before.pid
        async with supervisor.paused_for("the repair"):
            said = await supervisor.restart_as_planned("box", "the plan")
            assert said == "stopped for the repair; it is started afterwards"
        await home.at("box", State.RUNNING)
        await supervisor.stop("box")
        assert await supervisor.restart_as_planned("box", "the plan") == "not restarted: it is stopped"

        assert supervisor.view("box").pid is None


async def test_a_command_says_whether_it_is_healthy(house: OpenHouse) -> None:
    """Its exit code counts, and one that takes too long is ended and counts as failed."""
    health = {"command": ["sh", "-c", "sleep 1000"], "every_s": 0.1, "timeout_s": 0.1, "start_s": 0.1}
    async with house(
        slow={"command": SLEEP, "health": health, "restart_s": 0.1},
        fine={"command": SLEEP, "health": {"command": "true", "every_s": 0.1}},
    ) as home:
        await home.at("fine", State.RUNNING)
        view = await home.at("slow", State.FAILED)

        assert "its health check took over 0.1 s" in view.reason


async def test_memory_is_limited_in_a_real_process(house: OpenHouse) -> None:
    """The variable's megabytes and the headroom are the process's limit: below it lives, past it gets no memory."""
    take = (
        "import sys, time; size = sys.argv[1]; held = bytearray(int(size) << 20);"
        " print('has', size, flush=True); time.sleep(999)"
    )
    memory = "{gCocProxyMemory}M+64M"
    async with house(
        small={"command": [*python(take), "{gCocProxyMemory}"], "memory": memory},
        large={"command": [*python(take), "400"], "memory": memory, "restart": "never"},
    ) as home:
        small = await home.at("small", State.RUNNING)
        await home.said("small", "has 256")
        large = await home.at("large", State.FAILED)
        assert small.pid is not None
        limits = Path(f"/proc/{small.pid}/limits").read_text()
        row = next(line for line in limits.splitlines() if line.startswith("Max data size"))

        assert row.split()[3:5] == [str(320 << 20)] * 2
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY
        assert "MemoryError" in large.reason

        await home.parts.variables.assign("gCocProxyMemory", "64", SYSTEM)
        assert home.supervisor.view("small").restart_due == ("gCocProxyMemory",)
        await home.supervisor.restart("small", "test")
        await home.said("small", "has 64")  # the limit is set before the program begins
        view = await home.at("small", State.RUNNING)
        assert view.restart_due == ()
        assert view.pid is not None
        assert psutil.Process(view.pid).rlimit(psutil.RLIMIT_DATA) == (128 << 20, 128 << 20)


async def test_an_error_that_nobody_foresaw_is_told_and_keeps_no_repair_waiting(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that cannot be followed is ended; its service is failed, with an incident, and starts again."""
    loop = asyncio.get_running_loop()
    connect = loop.connect_read_pipe

    async def fail(*_arguments: object) -> None:
        raise RuntimeError("a bug")

    async with house(web={"command": SLEEP, "repair": "stop"}) as home:
        await home.at("web", State.RUNNING)
        monkeypatch.setattr(loop, "connect_read_pipe", fail)
        with pytest.raises(ServiceError, match=r"^web cannot be started: internal error, incident [0-9a-f]{8}$"):
            await home.supervisor.restart("web", "test")

        view = home.supervisor.view("web")
        assert (view.state, view.pid) == (State.FAILED, None)
        incident = view.reason.rpartition(" ")[2]
        assert any(record.fields.get("incident") == incident for record in home.parts.hub.held())
        assert not [each for each in psutil.Process().children() if each.cmdline() == SLEEP]
        async with asyncio.timeout(DEADLINE_S), home.supervisor.paused_for("the repair"):
            monkeypatch.setattr(loop, "connect_read_pipe", connect)
        await home.at("web", State.RUNNING)


async def test_output_that_cannot_be_traced_is_told(house: OpenHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no more descriptors for the pipes, the start fails with its reason."""

    async def fail(*_arguments: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(asyncio.get_running_loop(), "connect_read_pipe", fail)
    async with house(web={"command": SLEEP}) as home:
        view = await home.at("web", State.FAILED)
        assert view.reason == "its output cannot be traced: Too many open files"
        assert not [each for each in psutil.Process().children() if each.cmdline() == SLEEP]


async def test_an_error_while_an_error_is_told_leaves_a_service_that_can_be_started(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that cannot be told of a failed service is in the log, and the service starts again when asked."""

    async def fail(*_arguments: object) -> None:
        raise RuntimeError("a bug")

    def fail_to_tell(_text: str) -> None:
        raise RuntimeError("another bug")

    async with house(web={"command": SLEEP}) as home, asyncio.timeout(20):
        await home.at("web", State.RUNNING)
        present = home.parts.presence.enter(SYSTEM, home.parts.clock.now(), fail_to_tell, fail_to_tell)
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "connect_read_pipe", fail)
            with pytest.raises(ServiceError, match="internal error"):
                await home.supervisor.restart("web", "test")
        home.parts.presence.leave(present)
        await home.supervisor.restart("web", "test")

        assert home.supervisor.view("web").state is State.RUNNING


async def test_services_start_though_orphans_cannot_be_looked_for(
    house: OpenHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody foresaw in the look for what an earlier server has left is told, and the services start."""
    true, asked = os.geteuid, list[str]()

    def fail_once() -> int:
        if not asked and sys._getframe(1).f_code.co_name == "_end_orphans":
            asked.append("once")
            raise RuntimeError("a bug")
        return true()

    monkeypatch.setattr(os, "geteuid", fail_once)
    async with house(web={"command": SLEEP}) as home:
        await home.at("web", State.RUNNING)
        assert asked == ["once"]
        assert any("incident" in record.fields for record in home.parts.hub.held())


async def test_a_pause_stops_what_a_repair_must_stop(house: OpenHouse) -> None:
    """Those that ran come back whatever happens, those that did not stay away, and nobody starts one meanwhile."""
    async with house(
        web={"command": SLEEP, "repair": "stop"},
        idle={"command": SLEEP, "repair": "stop", "enabled": False},
        other={"command": SLEEP},
    ) as home:
        first, other = await home.at("web", State.RUNNING), await home.at("other", State.RUNNING)

        async def repair() -> None:
            async with home.supervisor.paused_for("the repair"):
                assert home.supervisor.view("web").state is State.STOPPED
                assert home.supervisor.view("web").reason == "the repair"
                assert not alive(first.pid or 0)
                await home.supervisor.restart("web", "its plan")
                with pytest.raises(ServiceError, match="web is stopped for the repair; start it afterwards"):
                    await home.supervisor.start("web")
                inside.set()
                await asyncio.Event().wait()

        inside = asyncio.Event()
        task = asyncio.create_task(repair())
        await asyncio.wait_for(inside.wait(), DEADLINE_S)
        task.cancel()
        await asyncio.wait([task])

        assert task.cancelled()
        assert (await home.at("web", State.RUNNING)).pid != first.pid
        assert home.supervisor.view("other").pid == other.pid
        assert home.supervisor.view("idle").state is State.OFF


async def test_a_pause_that_is_cancelled_while_it_stops_starts_again(house: OpenHouse) -> None:
    """Also a pause that never came to its block leaves the service running."""
    command = ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]
    async with house(web={"command": command, "repair": "stop", "stop_s": 0.5}) as home:
        first = await home.at("web", State.RUNNING)

        async def repair() -> None:
            async with home.supervisor.paused_for("the repair"):
                raise AssertionError

        task = asyncio.create_task(repair())
        await home.at("web", State.STOPPING)
        task.cancel()
        await asyncio.wait([task])

        view = await home.until("web", lambda view: view.state is State.RUNNING and view.pid != first.pid)
        assert view.restarts == 1


async def test_orphans_are_ended_and_nobody_else(house: OpenHouse, tmp_path: Path) -> None:
    """What an earlier server has left is ended by marker or record; another folder's, and reused numbers, are left."""
    data = tmp_path / "data"
    (data / "run").mkdir(parents=True)
    plain = {name: value for name, value in os.environ.items() if name != "CALLISTO_SERVICE"}

    def leave(marker: str | None) -> subprocess.Popen[bytes]:
        environment = plain if marker is None else {**plain, "CALLISTO_SERVICE": marker}
        return subprocess.Popen(SLEEP, env=environment, start_new_session=True)

    marked, written = leave(f"{data}:gone"), leave(None)
    foreign, reused, plain_one = leave(f"{data}2:box"), leave(None), leave(None)
    inner, odd = leave(f"{data}:b:box"), leave(f"{data}:BOX")  # a folder may hold a colon, a service's name may not
    left = [marked, written, foreign, reused, plain_one, inner, odd]
    try:
        ledger = (
            f'{{"boot":"{boot_id()}","services":[{{"name":"a","pid":{written.pid},"ticks":{start_ticks(written.pid)}}},'
        )
        ledger += f'{{"name":"b","pid":{reused.pid},"ticks":1}},{{"name":"c","pid":-1,"ticks":1}},7]}}'
        (data / "run" / "services.json").write_text(ledger)
        async with house(box={"command": SLEEP}) as home:
            await home.at("box", State.RUNNING)

            assert [marked.wait(5), written.wait(5)] == [-15, -15]
            assert all(each.poll() is None for each in (foreign, reused, plain_one, inner, odd))
    finally:
        for each in left:
            each.kill()
            each.wait()


@pytest.mark.parametrize("spoilt", ["mode", "owner", "link"])
async def test_a_record_that_others_could_have_written_ends_nothing(
    house: OpenHouse, tmp_path: Path, spoilt: str
) -> None:
    """It would have the server end processes of somebody else's choice; a warning says why it is not used."""
    run = tmp_path / "data" / "run"
    run.mkdir(parents=True)
    plain = {name: value for name, value in os.environ.items() if name != "CALLISTO_SERVICE"}
    chosen = subprocess.Popen(SLEEP, env=plain, start_new_session=True)
    try:
        entry = f'{{"name":"a","pid":{chosen.pid},"ticks":{start_ticks(chosen.pid)}}}'
        file = run / "services.json"
        file.write_text(f'{{"boot":"{boot_id()}","services":[{entry}]}}')
        if spoilt == "mode":
            file.chmod(0o666)
        elif spoilt == "owner":
            os.chown(file, 65_534, -1)
        else:
            file.symlink_to(file.rename(tmp_path / "elsewhere"))
        async with house(box={"command": SLEEP}) as home:
            await home.at("box", State.RUNNING)

            assert chosen.poll() is None
            said = [record.text for record in home.parts.hub.held() if "services.json" in record.text]
            assert len(said) == (spoilt != "link")
            assert (file.lstat().st_mode & 0o7777, file.lstat().st_uid) == (0o600, os.geteuid())
    finally:
        chosen.kill()
        chosen.wait()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"boot": 1}', '{"boot":"x","services":[]}', "\0" * 100])
def test_a_broken_record_holds_no_process(tmp_path: Path, text: str) -> None:
    """A record that cannot be understood, or is of another boot, names nobody."""
    (tmp_path / "services.json").write_text(text)

    assert Ledger(tmp_path / "services.json").read() == []


async def test_an_unknown_service_names_those_there_are(house: OpenHouse) -> None:
    """A wrong name is told with the right ones."""
    async with house(web={"command": SLEEP}, coc_proxy={"enabled": True}) as home:
        calls: list[Callable[[], Awaitable[None]]] = [
            lambda: home.supervisor.start("x"),
            lambda: home.supervisor.stop("x"),
            lambda: home.supervisor.restart("x", "test"),
        ]
        for call in calls:
            with pytest.raises(UnknownServiceError, match="no service named 'x'; there are web and coc-proxy"):
                await call()
        assert home.supervisor.view("coc-proxy").state is State.NOT_SET_UP
        with pytest.raises(ServiceError, match="coc-proxy is not set up"):
            await home.supervisor.start("coc-proxy")


async def test_all_are_stopped_side_by_side(house: OpenHouse) -> None:
    """Closing takes as long as the slowest, and no longer than its bound, whatever ``stop_s`` says."""
    stubborn = {"command": ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"], "stop_s": 60}
    async with house(a=stubborn, b=stubborn, c=stubborn) as home:
        for name in home.supervisor.names():
            await home.said(name, "up")
        began = time.monotonic()
        await home.supervisor.close()

        assert time.monotonic() - began < 2
        assert {view.state for view in home.supervisor.views()} == {State.STOPPED}


async def test_a_service_runs_as_its_user(house: OpenHouse) -> None:
    """It has that user's number and groups, and nothing of root's; its stop works all the same."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    code = "import os, time; print(os.getuid(), os.getgid(), os.environ['USER'], flush=True); time.sleep(1000)"
    async with house(box={"command": [PYTHON, "-c", code], "user": "nobody", "folder": "/"}) as home:
        await home.said("box", "65534 65534 nobody")
        await home.supervisor.stop("box")

        assert home.supervisor.view("box").last_exit == "killed by SIGTERM (Terminated)"


async def test_one_that_holds_an_emptied_output_open_is_not_waited_for(house: OpenHouse) -> None:
    """A process that has left the session and emptied its environment keeps the pipe; the stop ends all the same."""
    script = "setsid env -i /bin/sh -c 'echo mine $$; exec sleep 1000' & exec sleep 1000"
    async with house(box={"command": ["sh", "-c", script]}) as home:
        await home.said("box", "mine")
        pid = int(home.texts("box")[0].split()[1])
        try:
            await asyncio.wait_for(home.supervisor.stop("box"), DEADLINE_S)

            assert home.supervisor.view("box").state is State.STOPPED
            assert alive(pid)
        finally:
            os.kill(pid, signal.SIGKILL)
