"""Export and import: out, looked at as differences, and in again, all or nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from callisto_telnetd.errors import InvalidValueError, UsageError
from callisto_telnetd.origin import Origin
from callisto_telnetd.variables import Difference, Registry, own_variables
from tests.variables.conftest import undo

Open = Callable[..., Awaitable[Registry]]


async def test_an_export_is_comments_and_a_line_a_variable(registry: Registry, ada: Origin) -> None:
    """The text names edition and time, then every variable of the edition; blank has nothing after the sign."""
    await registry.assign("gWebServerRestart", "sun,wed 2:00", ada)
    comment, *lines = registry.export().splitlines()

    assert comment == "; Callisto system variables, edition ucm, 2026-11-23T10:15:00+01:00"
    assert [line.split(" = ")[0].removesuffix(" =") for line in lines] == [each.name for each in registry.variables]
    assert "gDefaultMailbox =" in lines
    assert "gWebServerRestart = 9,02:00" in lines


async def test_what_was_exported_makes_no_difference(registry: Registry, ada: Origin) -> None:
    """Importing an export at once changes nothing."""
    await registry.assign("gDefaultMailbox", "200", ada)
    await registry.assign("gTimeServer", "[2001:db8::1]:123", ada)

    assert registry.differences(registry.export()) == []
    assert await registry.apply_import([], ada) == []


async def test_what_is_stored_elsewhere_is_compared(registry: Registry, ada: Origin) -> None:
    """What another database stores is compared as it would count: missing and unusable values are defaults."""
    await registry.assign("gWebTimeout", "30", ada)
    await registry.assign("gRecordVolume", "5", ada)

    assert registry.differences_to({"gWebTimeout": "30", "gRecordVolume": "5", "gStranger": "1"}) == []
    assert registry.differences_to({"gWebTimeout": "abc", "gRecordVolume": "007"}) == [
        Difference("gRecordVolume", "5", "7"),
        Difference("gWebTimeout", "30", "20"),
    ]


async def test_an_import_restores_what_was_exported(registry: Registry, ada: Origin) -> None:
    """The differences are shown first, made as one batch, and undone as one."""
    await registry.assign("gWebTimeout", "30", ada)
    saved = registry.export()
    await registry.assign("gWebTimeout", "40", ada)
    await registry.assign("gRecordVolume", "5", ada)
    found = registry.differences(saved)

    assert found == [Difference("gRecordVolume", "5", "400"), Difference("gWebTimeout", "40", "30")]
    assert registry.text("gWebTimeout") == "40"

    changes = await registry.apply_import(found, ada, note="back")
    assert [(each.name, each.old, each.new, each.note) for each in changes] == [
        ("gRecordVolume", "5", None, "back"),
        ("gWebTimeout", "40", "30", "back"),
    ]
    assert {each.batch for each in changes} == {changes[0].id}
    assert registry.differences(saved) == []

    undone = await undo(registry, None, ada)
    assert {each.undoes for each in undone} == {each.id for each in changes}
    assert (registry.text("gRecordVolume"), registry.text("gWebTimeout")) == ("5", "40")


async def test_undo_takes_what_is_left_of_a_batch(registry: Registry, ada: Origin) -> None:
    """A change of a batch that was undone by its number is not undone again with the rest."""
    changes = await registry.apply_import(registry.differences("gWebTimeout=1\ngRecordVolume=2\ngStripCallerID=3"), ada)
    await undo(registry, changes[1].id, ada)
    undone = await undo(registry, None, ada)

    assert {each.name for each in undone} == {"gWebTimeout", "gStripCallerID"}
    assert registry.differing() == ()


@pytest.mark.parametrize(
    "text",
    [
        "gWebTimeout=30",
        "\ufeffgWebTimeout = 30\r\n",
        "\n\n  GWEBTIMEOUT =   030  \n# gWebTimeout = 40",
        " # x\ngWebTimeout=30",
    ],
)
async def test_an_import_is_read_as_people_write_it(registry: Registry, text: str) -> None:
    """Byte order mark, CR LF, spaces, comments and upper case are no matter; what is not named stays."""
    assert registry.differences(text) == [Difference("gWebTimeout", "20", "30")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# x\ngWebTimeout 30", "line 2: 'gWebTimeout 30' is not NAME = VALUE"),
        ("gWebTimout = 30", "line 1: no variable named 'gWebTimout'; did you mean gWebTimeout?"),
        ("gWebTime = 30", "line 1: no variable named 'gWebTime'; did you mean gWebTimeout?"),
        ("gSetLineName = 1", "line 1: gSetLineName exists only in the edition ucme, and this is ucm"),
        ("\ngWebTimeout = x", "line 2: gWebTimeout: 'x' is not a whole number of minutes from 0 to 1440"),
        ("gWebTimeout =", "line 1: gWebTimeout: '' is not a whole number of minutes from 0 to 1440"),
        ("gWebTimeout = 1\ngwebtimeout = 1", "line 2: gWebTimeout is set in line 1 already"),
        ("= 1", "line 1: no variable named ''"),
        ("x" * 65_537, "an import has at most 64 KiB"),
        ("é" * 40_000, "an import has at most 64 KiB"),
        ("\n" * 2001, "an import has at most 2000 lines"),
        ("gWebTimeout = \ud800", r"line 1: gWebTimeout: '\ud800' is not a whole number of minutes from 0 to 1440"),
    ],
)
async def test_a_wrong_line_is_told_with_its_number(registry: Registry, text: str, message: str) -> None:
    """One wrong line and nothing is imported."""
    with pytest.raises(UsageError) as caught:
        registry.differences(text)

    assert str(caught.value) == message


async def test_an_import_is_all_or_nothing(registry: Registry, ada: Origin) -> None:
    """A value that turns out wrong only when it is made stops the others too."""
    found = registry.differences("gWebTimeout = 30\ngDefaultMailbox = 999\n")

    with pytest.raises(UsageError, match="no user has the internal number 999"):
        await registry.apply_import(found, ada)
    with pytest.raises(InvalidValueError):
        await registry.apply_import([*found[:1], Difference("gRecordVolume", "400", "x")], ada)
    assert registry.differing() == ()


async def test_differences_that_are_out_of_date_are_refused(registry: Registry, ada: Origin) -> None:
    """What somebody else changed after the differences were shown is not overwritten unseen."""
    found = registry.differences("gWebTimeout = 30\ngRecordVolume = 5\n")
    await registry.assign("gWebTimeout", "40", ada)

    with pytest.raises(UsageError, match="gWebTimeout has become '40' meanwhile"):
        await registry.apply_import(found, ada)
    assert registry.text("gRecordVolume") == "400"


async def test_texts_of_any_form_survive_the_exchange(open_registry: Open, ada: Origin) -> None:
    """A text that looks like a comment or an assignment comes back as it was."""
    own = own_variables({"gMyText": {"type": "text", "maximum_length": 40, "default": "x"}})
    registry = await open_registry(catalogue=own)
    for text in ("# no comment", "a = b", "", "= é ="):
        await registry.assign("gMyText", text, ada)
        saved = registry.export()
        await registry.reset("gMyText", ada)
        await registry.apply_import(registry.differences(saved), ada)
        assert registry.text("gMyText") == text
