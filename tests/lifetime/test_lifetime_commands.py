"""Every command that changes something, cancelled at each of its awaits."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from callisto_telnetd.db.salvage.report import LOST_STATE
from callisto_telnetd.services.condition import State
from tests.lifetime.conftest import House, Traces, cancelled_at, every, open_house, sample
from tests.maintenance.test_maintenance_fill import wipe_leaves_with
from tests.services.test_services_time_server import packet, responding
from tests.transports.sites import PASSWORD as SFTP_PASSWORD
from tests.transports.sites import asyncssh_site

_MOST_WAITS = 2000
NEW = "Another-Secret-1"

Probe = Callable[[House], Any]


def rows(house: House, sql: str) -> list[Any]:
    """Return rows of the database's file, read as another program does."""
    with closing(sqlite3.connect(f"file:{house.data}/callisto.db?mode=ro", uri=True, timeout=10)) as connection:
        return connection.execute(sql).fetchall()


def web_timeout(house: House) -> Any:
    """Return the variable, which memory and disk must agree on, and whether its history knows."""
    memory = house.parts.variables.text("gWebTimeout")
    disk = rows(house, "SELECT value FROM variable WHERE name = 'gWebTimeout'")
    assert memory == (disk[0][0] if disk else "20")
    return memory


def accounts(house: House) -> Any:
    """Return the accounts, the same in memory, in the database and in the file for emergencies."""
    memory = [(each.name, each.password_hash) for each in house.parts.accounts.all()]
    assert memory == rows(house, "SELECT name, password_hash FROM account ORDER BY name")
    filed = json.loads((house.data / "accounts.json").read_text())["accounts"]
    assert memory == [(each["name"], each["password_hash"]) for each in filed]
    return [name for name, _ in memory]


def clock(house: House) -> Any:
    """Return zone and offset, the same in memory and on the disk."""
    memory = house.parts.clock.state()
    disk = rows(house, "SELECT value FROM state WHERE key = 'clock'")
    assert not disk or json.loads(disk[0][0]) == json.loads(memory.to_json())
    return memory.zone, round(memory.offset_s, -4)


def box(house: House) -> Any:
    """Return whether the service runs, as its state says and as it does."""
    view = house.parts.supervisor.view("box")
    assert (view.pid is not None) == (view.state is State.RUNNING), view
    return view.state


def archives(house: House) -> Any:
    """Return how many backups there are."""
    return len(list((house.data / "backup").glob("*.zip")))


def schedules(house: House) -> Any:
    """Return the backups on a schedule: the same in memory, in the schedule and in the file."""
    memory = [each.name for each in house.parts.backup_runs.all()]
    file = house.data / "backup-schedules.json"
    disk = sorted(each["name"] for each in json.loads(file.read_text())["schedules"]) if file.exists() else []
    assert sorted(memory) == disk
    assert {f"backup {name}" for name in memory} == {
        each.name for each in house.parts.schedule.view() if each.name.startswith("backup ")
    }
    return memory


def captures(house: House) -> Any:
    """Return how many captures run, and whether the old one is there."""
    return len(house.parts.captures.running), (house.data / "trace" / CAPTURE).exists()


def nothing(_house: House) -> Any:
    """Return nothing: what the command does can be had again at any time, and takes nothing away."""
    return None


@dataclass(frozen=True)
class Case:
    """A command, what comes before it each time, and what tells whether it was done."""

    words: tuple[str, ...]
    probe: Probe
    before: tuple[tuple[str, ...], ...] = ()
    text: str | None = None
    secrets: tuple[str, ...] = ()
    starts_services: bool = False
    opens: bool = False
    """Whether the change itself is something open: a capture, and its file."""
    prepare: Callable[[House], Awaitable[None]] | None = None
    beside: Callable[[House], AbstractAsyncContextManager[None]] = lambda _house: nullcontext()
    """What it needs that is no part of the appliance: a time server, a target."""


async def without_bob(house: House) -> None:
    """Have no second account."""
    if "bob" in [each.name for each in house.parts.accounts.all()]:
        await house.do("user", "remove", "bob", "yes")


async def with_bob(house: House) -> None:
    """Have a second account."""
    if "bob" not in [each.name for each in house.parts.accounts.all()]:
        await house.do("user", "add", "bob", secrets=(NEW,))


async def box_runs(house: House) -> None:
    """Have the service run."""
    if house.parts.supervisor.view("box").state is not State.RUNNING:
        await house.do("services", "start", "box")
    await house.until(lambda: house.parts.supervisor.view("box").state is State.RUNNING)


async def box_rests(house: House) -> None:
    """Have the service stopped."""
    if house.parts.supervisor.view("box").state is not State.STOPPED:
        await house.do("services", "stop", "box")


async def without_nightly(house: House) -> None:
    """Have no backup on a schedule."""
    if house.parts.backup_runs.all():
        await house.do("backup", "schedule", "remove", "nightly", "yes")


async def with_nightly(house: House) -> None:
    """Have a backup on a schedule, into a folder."""
    if not house.parts.backup_runs.all():
        target = house.data.parent / "target"
        target.mkdir(exist_ok=True)
        await house.do("backup", "schedule", "add", "nightly", "plan=daily 02:00", f"target=file://{target}")


@asynccontextmanager
async def time_server(house: House) -> AsyncIterator[None]:
    """Have a time server that is a day ahead."""
    async with responding(lambda request: packet(request, ahead_s=86_400)) as (address, _):
        await house.do("variables", "set", "gTimeServer", address)
        yield


@asynccontextmanager
async def sftp_target(house: House) -> AsyncIterator[None]:
    """Have a backup on a schedule, to an SFTP server."""
    root = house.data.parent / "sftp"
    root.mkdir()
    await without_nightly(house)
    async with asyncssh_site(root) as site:
        words = ("plan=daily 02:00", f"target={site.target}", "target-password")
        await house.do("backup", "schedule", "add", "nightly", *words, secrets=(SFTP_PASSWORD,))
        yield
    await without_nightly(house)


async def no_host_key(house: House) -> None:
    """Have accepted no key of the SFTP server."""
    runs = house.parts.backup_runs
    runs._schedules["nightly"] = runs.require("nightly").model_copy(update={"host_key": None})
    await runs._keep(runs._schedules, runs._outcomes)


def host_key(house: House) -> Any:
    """Return whether the server's key was accepted, the same in memory and in the file; no file of a test is left."""
    assert [path.name for path in (house.data.parent / "sftp" / "files").iterdir()] == []
    [disk] = json.loads((house.data / "backup-schedules.json").read_text())["schedules"]
    memory = house.parts.backup_runs.require("nightly").host_key
    assert memory == disk["host_key"]
    return memory is not None


async def no_archive(house: House) -> None:
    """Have no backup."""
    for name in house.parts.backups.names():
        await house.do("backup", "delete", name, "yes")


async def no_capture(house: House) -> None:
    """Have no capture run."""
    await house.do("trace", "stop", "all")


async def one_capture(house: House) -> None:
    """Have a capture that has ended."""
    (house.data / "trace" / CAPTURE).write_text("# a capture\n")


CAPTURE = "20261201-101500-admin.log"
SET = ("variables", "set", "gWebTimeout", "30")
RESET = ("variables", "reset", "gWebTimeout")
QUICK = {
    "variables set": Case(SET, web_timeout, (RESET,)),
    "variables reset": Case(RESET, web_timeout, (SET,)),
    "variables undo": Case(("variables", "undo"), web_timeout, (RESET, SET)),
    "variables import": Case(("variables", "import", "yes"), web_timeout, (RESET,), text="gWebTimeout = 30\n"),
    "user add": Case(("user", "add", "bob"), accounts, prepare=without_bob, secrets=(NEW,)),
    "user passwd": Case(("user", "passwd", "bob"), accounts, prepare=with_bob, secrets=(NEW,)),
    "user remove": Case(("user", "remove", "bob", "yes"), accounts, prepare=with_bob),
    "date": Case(("date", "2031-05-02", "10:00:00"), clock, (("date", "2030-01-01", "10:00:00"),)),
    "date zone": Case(("date", "zone", "Europe/Zurich"), clock, (("date", "zone", "UTC"),)),
    "services stop": Case(("services", "stop", "box"), box, prepare=box_runs, starts_services=True),
    "services start": Case(("services", "start", "box"), box, prepare=box_rests, starts_services=True),
    "services restart": Case(("services", "restart", "box"), box, prepare=box_runs, starts_services=True),
    "trace start": Case(("trace", "start"), captures, prepare=no_capture, opens=True),
    "trace stop": Case(("trace", "stop", "all"), captures, (("trace", "stop", "all"), ("trace", "start"))),
    "trace delete": Case(("trace", "delete", CAPTURE, "yes"), captures, prepare=one_capture),
    "schedule add": Case(
        ("backup", "schedule", "add", "nightly", "plan=daily 02:00", "target=file:///tmp"),
        schedules,
        prepare=without_nightly,
    ),
    "schedule remove": Case(("backup", "schedule", "remove", "nightly", "yes"), schedules, prepare=with_nightly),
    "date sync": Case(("date", "sync"), clock, (("date", "2030-01-01", "10:00:00"),), beside=time_server),
    "demo": Case(("demo", "users=1", "messages=1", "calls=1", "yes"), nothing),
}


async def one_archive(house: House) -> None:
    """Have one backup without a password, of one name."""
    backups = house.data / "backup"
    kept = house.data.parent / "kept.zip"
    if not kept.exists():
        await no_archive(house)
        await house.do("backup", "create", secrets=("",))
        next(backups.glob("*.zip")).rename(kept)
    await no_archive(house)
    shutil.copyfile(kept, backups / ARCHIVE)


async def changed_since(house: House) -> None:
    """Have a backup, and another value than in it."""
    await one_archive(house)
    await house.do(*SET)


async def restored(house: House) -> None:
    """Have a state to go back to."""
    await changed_since(house)
    await house.do("backup", "restore", ARCHIVE, "yes")


async def lost_rows(house: House) -> None:
    """Have a database whose repair has lost rows that a backup has."""
    kept, database = house.data.parent / "lost.db", house.data / "callisto.db"
    store, mode = house.parts.store, house.parts.mode
    if not kept.exists():
        await store.apply(
            [
                ("INSERT INTO user VALUES (?, ?, '')", (number, f"user {number} {'x' * 100}"))
                for number in range(100, 200)
            ]
        )
        await one_archive(house)
        async with store.hold("damaged"):
            wipe_leaves_with(database, b"user 150 ")
        await house.do("repair", "yes")
        shutil.copyfile(database, kept)
    async with store.hold("put back"):
        shutil.copyfile(kept, database)
    await mode.reload()


def users(house: House) -> Any:
    """Return how many users there are, and whether a repair has lost some."""
    [(count,)] = rows(house, "SELECT count(*) FROM user")
    return count, rows(house, f"SELECT value FROM state WHERE key = '{LOST_STATE}'") != []


ARCHIVE = "callisto-callisto-20261201-101500.zip"
SLOW = {
    "backup create": Case(("backup", "create"), archives, prepare=no_archive, secrets=("",)),
    "backup verify": Case(("backup", "verify", ARCHIVE), archives, prepare=one_archive),
    "backup delete": Case(("backup", "delete", ARCHIVE, "yes"), archives, prepare=one_archive),
    "backup plan": Case(("backup", "plan", ARCHIVE), archives, prepare=one_archive),
    "backup restore": Case(
        ("backup", "restore", ARCHIVE, "yes"), web_timeout, prepare=changed_since, starts_services=True
    ),
    "backup undo": Case(("backup", "undo", "yes"), web_timeout, prepare=restored, starts_services=True),
    "schedule run": Case(("backup", "schedule", "run", "nightly"), nothing, prepare=with_nightly),
    "schedule test": Case(("backup", "schedule", "test", "nightly"), nothing, prepare=with_nightly),
    "accept a host key": Case(
        ("backup", "schedule", "test", "nightly", "accept-host-key"), host_key, prepare=no_host_key, beside=sftp_target
    ),
    "compact": Case(("compact",), nothing),
    "repair fill": Case(("repair", "fill", ARCHIVE, "yes"), users, prepare=lost_rows, secrets=("",)),
    "repair": Case(("repair", "yes"), nothing, starts_services=True),
}


AT = {"backup create": 7, "backup plan": 9, "compact": 6, "accept a host key": 5, "repair fill": 11}
"""An await of each of those of them that take a second at most, in the midst of their work."""


async def prepare(house: House, case: Case) -> None:
    """Make what a case begins from."""
    if case.prepare is not None:
        await case.prepare(house)
    for words in case.before:
        await house.do(*words)


async def cancel(house: House, case: Case, wanted: int, after: Any) -> Any:
    """Cancel the command at an await, look for what is left of it, and return what the probe says then."""
    await prepare(house, case)
    traces = Traces(house.data)
    await cancelled_at(house.run(*case.words, text=case.text, secrets=case.secrets), wanted)
    left = await traces.settle(opened=lambda: case.starts_services or (case.opens and case.probe(house) == after))
    assert left == [], f"cancelled at await {wanted}"
    if case.starts_services:
        await house.until(lambda: house.parts.supervisor.view("box").state in (State.RUNNING, State.STOPPED))
    return case.probe(house)


async def run_whole(house: House, case: Case) -> tuple[Any, Any, int]:
    """Run the command to its end; return what the probe says before and after, and how often it has waited."""
    await prepare(house, case)
    before = case.probe(house)
    task, waits = await cancelled_at(house.run(*case.words, text=case.text, secrets=case.secrets), _MOST_WAITS)
    assert task.result().code == 0, task.result()
    return before, case.probe(house), waits


async def sweep(house: House, case: Case, chosen: Callable[[int], list[int]]) -> int:
    """Cancel the command at the chosen awaits; return how many it has."""
    async with case.beside(house):
        before, after, waits = await run_whole(house, case)
        for wanted in chosen(waits):
            assert await cancel(house, case, wanted, after) in (before, after), f"cancelled at await {wanted}"
        await run_whole(house, case)
    await without_nightly(house)  # the clock of a case that follows may reach its time
    return waits


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """One appliance for all quick changes: each case makes what it begins from."""
    async with open_house(tmp_path_factory.mktemp("house") / "data") as house:
        yield house


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", QUICK)
async def test_a_change_that_is_cancelled_is_whole_or_not_there(name: str, house: House) -> None:
    """Memory and disk agree, nothing is left running, held or half-made, and the same command works again."""
    await sweep(house, QUICK[name], sample(name, 1))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("name", "wanted"), AT.items())
async def test_work_that_is_cancelled_is_whole_or_not_there(name: str, wanted: int, house: House) -> None:
    """A worker has ended before the command has, its lock is free then, and the same command works again."""
    case = SLOW[name]
    async with case.beside(house):
        seen = await cancel(house, case, wanted, None)
        before, after, waits = await run_whole(house, case)
    assert waits > wanted
    assert seen in (before, after)


@pytest.mark.long
@pytest.mark.parametrize("name", SLOW)
async def test_work_that_is_cancelled_at_any_await_is_whole_or_not_there(name: str, tmp_path: Path) -> None:
    """A worker has ended before the command has, its lock is free then, and the same command works again."""
    async with open_house(tmp_path / "data") as house:
        assert await sweep(house, SLOW[name], every) > 0


@pytest.mark.long
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", QUICK)
async def test_a_change_that_is_cancelled_at_any_await_is_whole_or_not_there(name: str, house: House) -> None:
    """Memory and disk agree, nothing is left running, held or half-made, and the same command works again."""
    assert await sweep(house, QUICK[name], every) > 0
