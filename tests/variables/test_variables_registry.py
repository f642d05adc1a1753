"""The registry over a real database: finding, setting, undoing, and what survives a restart."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Mapping

import pytest

from callisto_telnetd.errors import InvalidValueError, UnknownChangeError, UnknownVariableError, UsageError
from callisto_telnetd.origin import SYSTEM, Origin
from callisto_telnetd.variables import CATALOGUE, Change, HostAddress, Registry, RestartPlan, own_variables
from tests.variables.conftest import undo

Open = Callable[..., Awaitable[Registry]]


def rows(connection: sqlite3.Connection) -> dict[str, str]:
    """Return what is on disk."""
    return dict(connection.execute("SELECT name, value FROM variable").fetchall())


async def test_a_new_database_has_the_defaults(registry: Registry) -> None:
    """Nothing set means every default, and nothing differs."""
    assert len(registry.variables) == 17
    assert registry.value("gWebTimeout") == 20
    assert registry.value("gDefaultMailbox") is None
    assert registry.value("gTimeServer") == HostAddress("pool.ntp.org")
    assert registry.text("gWebServerRestart") == ""
    assert registry.differing() == ()
    assert registry.last_change("gWebTimeout") is None
    assert registry.faults == {}


async def test_defaults_follow_the_edition(open_registry: Open) -> None:
    """Express has its own default and its own variable."""
    express = await open_registry("ucme")

    assert express.text("gTransferWithCallerID") == "0"
    assert express.text("gSetLineName") == "0"
    assert len(express.variables) == 18


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("gWebTimeout", "gWebTimeout"),
        ("GWEBTIMEOUT", "gWebTimeout"),
        ("gWebT", "gWebTimeout"),
        ("gmw", "gMwiWebControls"),
        ("gtime", "gTimeServer"),
    ],
)
async def test_a_variable_is_found_by_name_case_and_beginning(registry: Registry, typed: str, name: str) -> None:
    """Exact, else any case, else an unambiguous beginning."""
    assert registry.find(typed).name == name
    assert registry.text(typed) == registry.text(name)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("gWebTimout", "no variable named 'gWebTimout'; did you mean gWebTimeout?"),
        ("webtimeout", "no variable named 'webtimeout'; did you mean gWebTimeout?"),
        ("", "no variable named ''"),
        ("xyzzy\x1b", r"no variable named 'xyzzy\x1b'"),
        ("gWeb", "'gWeb' may be gWebServerRestart or gWebTimeout"),
        ("gSetLineName", "gSetLineName exists only in the edition ucme, and this is ucm"),
        ("gsetline", "gSetLineName exists only in the edition ucme, and this is ucm"),
        ("gP", "'gP' may be gPhoneLoginWithNumber or gPhonePrivateDirPIN"),
    ],
)
async def test_what_is_not_found_is_told_with_a_way_on(registry: Registry, typed: str, message: str) -> None:
    """An unknown name gets a near one, an ambiguous one its candidates, another edition's the edition."""
    with pytest.raises(UsageError) as caught:
        registry.find(typed)

    assert str(caught.value) == message


async def test_few_of_many_candidates_are_named(registry: Registry) -> None:
    """A beginning that most names have is answered with the first of them."""
    with pytest.raises(UsageError, match=r"^'g' may be gBridgeTransfer, .*, gInboxNotifyRefresh or others$"):
        registry.find("g")


async def test_a_very_long_name_is_answered_at_once(registry: Registry) -> None:
    """Nothing is compared with a name longer than any."""
    with pytest.raises(UnknownVariableError):
        registry.find("g" * 100_000)
    assert registry.select("*a" * 1000) == ()


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("WEB", ["gMwiWebControls", "gWebServerRestart", "gWebTimeout"]),
        ("gweb*", ["gWebServerRestart", "gWebTimeout"]),
        ("*i?", ["gPhonePrivateDirPIN", "gStripCallerID", "gTransferWithCallerID"]),
        ("nothing", []),
    ],
)
async def test_variables_are_selected_by_part_or_pattern(registry: Registry, pattern: str, names: list[str]) -> None:
    """A word is a part of the name; ``*`` and ``?`` make it a pattern; case is ignored."""
    assert [variable.name for variable in registry.select(pattern)] == names


async def test_a_change_is_durable_and_recorded(
    registry: Registry, connection: sqlite3.Connection, ada: Origin, open_registry: Open
) -> None:
    """What was set is on disk with who, when, from where, old and new, and is there after a restart."""
    change = await registry.assign("gwebt", " 030 ", ada, note="for the workshop")

    assert change == Change(
        id=1, batch=1, at="2026-11-23T10:15:00+01:00", name="gWebTimeout", old=None, new="30",
        who="ada", door="telnet", source="192.0.2.7", note="for the workshop", undoes=None,
    )  # fmt: skip
    assert rows(connection) == {"gWebTimeout": "30"}
    for each in (registry, await open_registry()):
        assert each.value("gWebTimeout") == 30
        assert each.last_change("gWebTimeout") == change
        assert not each.is_default("gWebTimeout")
        assert [variable.name for variable in each.differing()] == ["gWebTimeout"]
        assert await each.history() == [change]
    assert registry.shown("gWebTimeout", change.old) == registry.default_text("gWebTimeout") == "20"
    assert registry.find("gWebTimeout").explain(registry.value("gWebTimeout")) == "30 minutes"


async def test_bad_input_changes_nothing(registry: Registry, connection: sqlite3.Connection, ada: Origin) -> None:
    """The error names the variable, the text and what is allowed."""
    with pytest.raises(InvalidValueError) as caught:
        await registry.assign("gWebTimeout", "abc", ada)

    assert str(caught.value) == "gWebTimeout: 'abc' is not a whole number of minutes from 0 to 1440"
    assert rows(connection) == {}
    assert await registry.history() == []


async def test_the_same_value_again_is_no_change(registry: Registry, ada: Origin) -> None:
    """Setting what is set, or the default where nothing is set, writes nothing."""
    assert await registry.assign("gWebTimeout", "20", ada) is None
    assert await registry.assign("gWebServerRestart", "sun,wed 2:00", ada) is not None
    assert await registry.assign("gWebServerRestart", "9,02:00", ada) is None
    assert await registry.reset("gWebTimeout", ada) is None
    assert registry.value("gWebServerRestart") == RestartPlan(9, 2, 0)
    assert len(await registry.history()) == 1


async def test_a_value_equal_to_the_default_is_the_default(
    registry: Registry, connection: sqlite3.Connection, ada: Origin
) -> None:
    """Going back to the default, by value or by reset, leaves no row behind."""
    await registry.assign("gWebTimeout", "7", ada)
    await registry.assign("gRecordVolume", "7", ada)
    for change in (await registry.assign("gWebTimeout", "20", ada), await registry.reset("gRecordVolume", ada)):
        assert change is not None
        assert (change.old, change.new) == ("7", None)
        assert registry.is_default(change.name)
    assert rows(connection) == {}


async def test_the_default_mailbox_must_be_somebodys(registry: Registry, ada: Origin) -> None:
    """A number that no user has is refused; blank and a user's number are taken."""
    with pytest.raises(UsageError, match=r"^gDefaultMailbox: no user has the internal number 999$"):
        await registry.assign("gDefaultMailbox", "999", ada)
    assert await registry.assign("gDefaultMailbox", "200", ada)
    assert registry.value("gDefaultMailbox") == 200
    assert await registry.assign("gDefaultMailbox", "", ada)
    assert registry.value("gDefaultMailbox") is None


async def test_undo_does_not_bring_back_a_user_who_is_gone(
    registry: Registry, connection: sqlite3.Connection, ada: Origin
) -> None:
    """Undo checks what it puts back like any change."""
    await registry.assign("gDefaultMailbox", "200", ada)
    await registry.assign("gDefaultMailbox", "201", ada)
    connection.execute("DELETE FROM user WHERE number = 200")

    with pytest.raises(UsageError, match="no user has the internal number 200"):
        await undo(registry, None, ada)
    assert registry.value("gDefaultMailbox") == 201


@pytest.mark.parametrize("note", ["a\nb", "\x1b[2J", "x" * 201, "a\u202eb"])
async def test_a_note_is_one_short_line(registry: Registry, ada: Origin, note: str) -> None:
    """A note that could forge a line is refused, and nothing changes."""
    with pytest.raises(UsageError, match="note"):
        await registry.assign("gWebTimeout", "30", ada, note=note)
    assert registry.is_default("gWebTimeout")


async def test_history_is_bounded_and_newest_last(registry: Registry, ada: Origin) -> None:
    """The last changes, of all variables or of one."""
    for minutes in (1, 2, 3):
        await registry.assign("gWebTimeout", str(minutes), ada)
    await registry.assign("gRecordVolume", "5", ada)

    assert [change.new for change in await registry.history(limit=2)] == ["3", "5"]
    assert [change.new for change in await registry.history("gwebtimeout")] == ["1", "2", "3"]
    assert len(await registry.history(limit=0)) == 1


async def test_undo_goes_back_change_by_change(registry: Registry, ada: Origin) -> None:
    """Each undo takes the latest change that is not undone, until none is left; undos are never taken themselves."""
    for minutes in ("30", "40", "50"):
        await registry.assign("gWebTimeout", minutes, ada)
    seen = []
    for _ in range(3):
        (change,) = await undo(registry, None, SYSTEM)
        seen.append((change.undoes, registry.text("gWebTimeout"), change.who))

    assert seen == [(3, "40", "system"), (2, "30", "system"), (1, "20", "system")]
    with pytest.raises(UnknownChangeError, match="no change to undo"):
        await undo(registry, None, ada)


async def test_undo_of_an_undo_is_a_redo(registry: Registry, ada: Origin) -> None:
    """An undo has a number like any change; undone, its change counts again and can be undone again."""
    await registry.assign("gRecordVolume", "5", ada)
    await registry.assign("gWebTimeout", "30", ada)
    (taken,) = await undo(registry, None, ada)
    (redo,) = await undo(registry, taken.id, ada)

    assert (redo.old, redo.new, redo.undoes) == (None, "30", taken.id)
    assert registry.text("gWebTimeout") == "30"
    (again,) = await undo(registry, None, ada)
    assert (again.name, again.undoes) == ("gWebTimeout", 2)
    (earlier,) = await undo(registry, None, ada)
    assert (earlier.name, earlier.undoes) == ("gRecordVolume", 1)


async def test_undo_by_number_puts_back_what_that_change_replaced(registry: Registry, ada: Origin) -> None:
    """Any change can be named, also one that later ones have covered."""
    for minutes in ("30", "40"):
        await registry.assign("gWebTimeout", minutes, ada)
    (change,) = await undo(registry, 1, ada)

    assert (change.old, change.new) == ("40", None)
    assert await undo(registry, 1, ada) == []  # that value is there already
    (change,) = await undo(registry, None, ada)
    assert (change.undoes, registry.text("gWebTimeout")) == (2, "30")


@pytest.mark.parametrize("number", [0, -1, 99, 2**63, 10**30])
async def test_undo_of_a_number_that_is_none(registry: Registry, ada: Origin, number: int) -> None:
    """A number that no change has is told, however large."""
    with pytest.raises(UnknownChangeError, match=f"no change {number}"):
        await undo(registry, number, ada)


async def test_undo_passes_over_what_this_edition_does_not_have(open_registry: Open, ada: Origin) -> None:
    """A change of a variable that is not there any more does not stand in the way."""
    express = await open_registry("ucme")
    await express.assign("gWebTimeout", "30", ada)
    await express.assign("gSetLineName", "1", ada)
    ucm = await open_registry("ucm")

    (change,) = await undo(ucm, None, ada)
    assert change.name == "gWebTimeout"
    with pytest.raises(UsageError, match="only in the edition ucme"):
        await undo(ucm, 2, ada)


async def test_undo_finds_its_change_in_a_long_history(registry: Registry, ada: Origin) -> None:
    """The search goes page by page through what is undone already."""
    for number in range(230):
        await registry.assign("gWebTimeout", str(100 + number), ada)
    for number in range(229, 0, -1):
        await undo(registry, None, ada)
        assert registry.text("gWebTimeout") == str(99 + number)
    await undo(registry, None, ada)
    assert registry.is_default("gWebTimeout")


async def test_values_that_cannot_be_used_are_left_alone(
    connection: sqlite3.Connection, open_registry: Open, ada: Origin
) -> None:
    """A stored text that fails its kind, or has no variable, is a fault; the default is used, the text kept."""
    spoilt = {"gWebTimeout": "abc\x1b", "gSetLineName": "1", "gGone": "x", "gRecordVolume": "0500"}
    connection.executemany("INSERT INTO variable VALUES (?, ?)", spoilt.items())
    registry = await open_registry()

    assert registry.value("gWebTimeout") == 20
    assert registry.value("gRecordVolume") == 500
    assert registry.faults == {
        "gWebTimeout": r"gWebTimeout: 'abc\x1b' is not a whole number of minutes from 0 to 1440; the default is used",
        "gSetLineName": "gSetLineName exists only in the edition ucme, and this is ucm; its value is kept",
        "gGone": "no variable is named 'gGone'; its value is kept",
    }
    assert rows(connection) == spoilt

    change = await registry.reset("gWebTimeout", ada)
    assert change is not None
    assert (change.old, change.new) == ("abc\x1b", None)
    assert "gWebTimeout" not in registry.faults
    assert "gWebTimeout" not in rows(connection)
    with pytest.raises(InvalidValueError):
        await undo(registry, change.id, ada)


async def test_own_variables_work_like_built_in_ones(open_registry: Open, ada: Origin) -> None:
    """They are found, set, exported and undone, after the built-in ones."""
    own = own_variables({"gMyDelay": {"type": "integer", "minimum": 0, "maximum": 9, "default": 5}})
    registry = await open_registry(catalogue=(*CATALOGUE, *own))

    await registry.assign("gMyD", "7", ada)
    assert registry.variables[-1].name == "gMyDelay"
    assert registry.export().endswith("gMyDelay = 7\n")
    await undo(registry, None, ada)
    assert registry.text("gMyDelay") == "5"


async def test_a_name_stands_once_in_a_catalogue(open_registry: Open) -> None:
    """Two variables of one name are a mistake of ours, found at the start."""
    with pytest.raises(ValueError, match="one name"):
        await open_registry(catalogue=(*CATALOGUE, CATALOGUE[0]))


async def test_observers_hear_of_durable_changes(
    registry: Registry, connection: sqlite3.Connection, ada: Origin
) -> None:
    """An observer is told once the value is on disk and in memory, and no more once it has gone."""
    heard: list[tuple[str, object, Mapping[str, str]]] = []
    leave = registry.observe(lambda change: heard.append((change.name, registry.value(change.name), rows(connection))))
    await registry.assign("gWebTimeout", "30", ada)
    assert heard == [("gWebTimeout", 30, {"gWebTimeout": "30"})]

    leave()
    await registry.assign("gWebTimeout", "40", ada)
    assert len(heard) == 1


async def test_a_failing_observer_stops_nobody(registry: Registry, ada: Origin) -> None:
    """Its exception goes to the loop's handler; the change and the other observers go on."""
    told: list[str] = []
    heard: list[str | None] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(str(context["exception"])))

    def fail(change: Change) -> None:
        raise RuntimeError(change.name)

    registry.observe(fail)
    registry.observe(lambda change: heard.append(change.new))
    assert await registry.assign("gWebTimeout", "30", ada)
    assert (told, heard) == (["gWebTimeout"], ["30"])


async def test_values_are_read_again_after_a_restore(
    registry: Registry, connection: sqlite3.Connection, ada: Origin
) -> None:
    """After the database was replaced, memory follows it, and changes go on from its history."""
    await registry.assign("gWebTimeout", "30", ada)
    connection.execute("DELETE FROM variable")
    connection.execute("DELETE FROM variable_change")
    connection.execute("INSERT INTO variable VALUES ('gRecordVolume', '7')")
    await registry.reload()

    assert (registry.text("gWebTimeout"), registry.text("gRecordVolume")) == ("20", "7")
    assert registry.last_change("gWebTimeout") is None
    change = await registry.assign("gWebTimeout", "40", ada)
    assert change is not None
    assert (change.id, change.old) == (1, None)


async def test_no_more_values_are_stored_than_a_restore_takes(
    connection: sqlite3.Connection, open_registry: Callable[..., Awaitable[Registry]], ada: Origin
) -> None:
    """Those of variables that are defined no more count, too; what is set already can be changed and reset."""
    rows = [(f"gOld{number}", "1") for number in range(999)]
    connection.executemany("INSERT INTO variable VALUES (?, ?)", rows)
    registry = await open_registry()
    await registry.assign("gWebTimeout", "30", ada)

    with pytest.raises(UsageError, match=r"^1,000 values of variables are stored, allowed are 1,000, with those of"):
        await registry.assign("gInboxNotifyRefresh", "33", ada)

    assert await registry.assign("gWebTimeout", "31", ada)
    assert await registry.reset("gWebTimeout", ada)
    assert await registry.assign("gInboxNotifyRefresh", "33", ada)
    assert connection.execute("SELECT count(*) FROM variable").fetchone() == (1000,)
