"""Whatever is opened, closed or begun by the appliance itself, cancelled at each of its awaits."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import sqlite3
import stat
from collections.abc import Callable
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from callisto_telnetd.clock import Clock
from callisto_telnetd.listeners.local import LocalListener
from callisto_telnetd.listeners.tcp import TelnetListener, bind
from callisto_telnetd.services.condition import State
from callisto_telnetd.terminal.session import SessionLimits
from callisto_telnetd.trace.capture import CaptureRequest
from callisto_telnetd.trace.captures import Captures
from callisto_telnetd.trace.datagrams import DatagramInput, bind_path
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import open_log
from callisto_telnetd.trace.viewers import Viewer
from callisto_telnetd.work import Closing
from tests.conftest import NAME, PASSWORD
from tests.lifetime.conftest import ADMIN, SETTLED_S, House, Traces, cancelled_at, every, open_house, sample

_MOST_WAITS = 5000


async def sweep(work: Callable[[], Any], folder: Path, chosen: Callable[[int], list[int]]) -> None:
    """Cancel the work at the chosen awaits, and look for what is left; at the end it works."""
    task, waits = await cancelled_at(work(), _MOST_WAITS)
    task.result()
    for wanted in chosen(waits):
        traces = Traces(folder)
        await cancelled_at(work(), wanted)
        assert await traces.settle(opened=lambda: False) == [], f"cancelled at await {wanted} of {waits}"
    task, _ = await cancelled_at(work(), _MOST_WAITS)
    task.result()


async def open_and_close(data: Path) -> None:
    """Open an appliance as a server does, and close it."""
    async with open_house(data) as house:
        await house.do("trace", "start")


async def serve_two(house: House) -> None:
    """Serve a session and a command at its socket, and close both listeners under them."""
    parts = house.parts
    async with Closing() as stack:
        sockets = bind("127.0.0.1", 0, "--port")
        for sock in sockets:
            stack.callback(sock.close)
        local = LocalListener(parts, parts.folder.control_socket)
        stack.push_async_callback(local.close)
        await local.open()
        telnet = TelnetListener(parts, SessionLimits(60.0, 900.0), always_echo=False)
        stack.push_async_callback(telnet.close)
        [address] = await telnet.open(sockets)
        async with asyncio.timeout(SETTLED_S):
            shell = stack.enter_context(socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))))
            await read_until(shell, b"login: ")
            shell.send(f"{NAME}\r\n{PASSWORD}\r\ntrace\r\n".encode())
            await read_until(shell, b"Live records follow")
            command = stack.enter_context(socket.socket(socket.AF_UNIX))
            command.connect(str(parts.folder.control_socket))
            command.send(b'{"words": ["trace", "tail"]}\n')
            parts.log.error("something to see")
            await read_until(shell, b"something to see")


async def read_until(connection: socket.socket, text: bytes) -> None:
    """Read until the text has come."""
    connection.setblocking(False)
    seen = b""
    while text not in seen:
        seen += await asyncio.get_running_loop().sock_recv(connection, 65536)


async def trace_and_close(folder: Path, hubs: list[Hub]) -> None:
    """Have a hub with an input, a capture and two viewers, and records under way when all of it is closed."""
    hub = Hub(Clock())
    hubs.append(hub)
    captures = Captures(hub, folder, free_bytes=0, budget_bytes=1 << 30)
    log = open_log(hub, stream=io.StringIO())
    async with Closing() as stack:
        stack.push_async_callback(captures.close)
        source = DatagramInput("trace.sock", hub, log, lambda: bind_path(folder / "trace.sock"))
        source.open()
        stack.callback(source.close)
        sender = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        sender.connect(str(folder / "trace.sock"))
        viewers = [Viewer(hub), Viewer(hub)]
        first = await captures.start(CaptureRequest("ada"), ["; a header"], viewers[0])
        await captures.start(CaptureRequest("bob", as_json=True, note="second"), [])
        first.show_to(viewers[1])
        async with aclosing(viewers[1].follow()) as shown:
            sender.send(b"<14>box[7]: the first record")
            async for _ in shown:
                break
        for number in range(1000):
            hub.publish(20, f"record {number}")
        sender.send(b"<14>box[7]: the last record")


async def sweep_traces(folder: Path, chosen: Callable[[int], list[int]]) -> None:
    """Cancel a trace at the chosen awaits; nobody is handed anything afterwards, and each file has its last line."""
    hubs: list[Hub] = []
    await sweep(lambda: trace_and_close(folder, hubs), folder, chosen)
    for hub in hubs:
        assert (hub.outputs, hub.pending_count, hub._inputs, hub._due) == (0, 0, [], None)
    assert not (folder / "trace.sock").exists()
    for file in folder.glob("*.log"):
        assert file.read_text().splitlines()[-1].startswith("; ended: "), file
    assert "the last record" in max(folder.glob("*-ada*.log"), key=lambda file: file.stat().st_mtime).read_text()


async def test_a_trace_that_is_cancelled_as_it_closes_leaves_whole_files(tmp_path: Path) -> None:
    """No task, thread or socket of it is left; the input is read to its end, and viewers and captures have ended."""
    await sweep_traces(tmp_path, sample("trace", 4))


@pytest.mark.long
async def test_a_trace_that_is_cancelled_at_any_await_leaves_whole_files(tmp_path: Path) -> None:
    """No task, thread or socket of it is left; the input is read to its end, and viewers and captures have ended."""
    await sweep_traces(tmp_path, every)


async def test_an_appliance_that_is_cancelled_as_it_opens_or_closes_leaves_nothing_open(tmp_path: Path) -> None:
    """No task, thread, process or descriptor of it is left, and it opens again."""
    await sweep(lambda: open_and_close(tmp_path / "data"), tmp_path, sample("open", 2))


@pytest.mark.long
async def test_an_appliance_that_is_cancelled_at_any_await_leaves_nothing_open(tmp_path: Path) -> None:
    """No task, thread, process or descriptor of it is left, and it opens again."""
    await sweep(lambda: open_and_close(tmp_path / "data"), tmp_path, every)


async def test_doors_that_are_cancelled_leave_no_session_behind(tmp_path: Path) -> None:
    """Sessions and commands end with their listeners, and captures without a viewer with them."""
    async with open_house(tmp_path / "data") as house:
        await sweep(lambda: serve_two(house), tmp_path, sample("doors", 2))


@pytest.mark.long
async def test_doors_that_are_cancelled_at_any_await_leave_no_session_behind(tmp_path: Path) -> None:
    """Sessions and commands end with their listeners, and captures without a viewer with them."""
    async with open_house(tmp_path / "data") as house:
        await sweep(lambda: serve_two(house), tmp_path, every)


@pytest.mark.long
async def test_a_repair_that_is_stopped_at_any_step_gives_all_back(tmp_path: Path) -> None:
    """The end of a server in the midst of a repair: services come back, the store is open, and a repair works again."""
    async with open_house(tmp_path / "data") as house:
        parts, steps = house.parts, 99
        for wanted in range(99):
            if wanted >= steps:
                break
            traces, count = Traces(tmp_path), 0
            run = parts.repairs.begin(ADMIN)
            async with aclosing(run.follow()) as told:
                async for _ in told:
                    count += 1
                    if count > wanted:
                        break
            steps = min(steps, count if count <= wanted else steps)
            await parts.repairs.close()
            assert await traces.settle(opened=lambda: True) == [], f"stopped at step {wanted}"
            await house.until(lambda: parts.supervisor.view("box").state is State.RUNNING)
            assert (parts.store.held, parts.store.fault) == ("", None)
        assert (await house.do("repair", "yes")).lines[-1].startswith("OK database is sound")


async def test_the_local_socket_is_the_owners_alone_and_no_umask_changes(tmp_path: Path) -> None:
    """The process's umask stays as it is while the socket is made: a file that another task makes has its own mode."""
    async with open_house(tmp_path / "data") as house:
        seen = set()
        listener = LocalListener(house.parts, house.parts.folder.control_socket)
        opening = asyncio.create_task(listener.open())
        before = os.umask(0o022)
        while not opening.done():
            await asyncio.sleep(0)
            seen.add(os.umask(0o022))
        os.umask(before)
        assert seen == {0o022}
        assert stat.S_IMODE(house.parts.folder.control_socket.stat().st_mode) == 0o600
        await listener.close()


async def test_a_system_clock_that_moves_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In mode system the audit says that the clock is about to move before it does: a kill between is no mystery."""
    async with open_house(tmp_path / "data") as house:
        seen: list[str] = []
        monkeypatch.setattr(house.parts.clock, "mode", "system")
        monkeypatch.setattr(house.parts.clock, "_write", lambda _epoch_s: seen.append(last_event(house)))
        await house.do("date", "2031-05-02", "10:00:00")
        assert (seen, last_event(house)) == (["system clock about to move"], "date and time set")


def last_event(house: House) -> str:
    """Return the newest event of the audit, as the disk has it."""
    with closing(sqlite3.connect(f"file:{house.data}/callisto.db?mode=ro", uri=True)) as connection:
        return str(connection.execute("SELECT event FROM audit ORDER BY id DESC").fetchone()[0])
