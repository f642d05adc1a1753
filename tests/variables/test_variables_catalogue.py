"""The catalogue: the facts of the appliance's document, and the variables that owners add."""

from __future__ import annotations

from typing import Any

import pytest

from callisto_telnetd.errors import SettingsError
from callisto_telnetd.variables import CATALOGUE, EDITIONS, Whole, own_variables

EVERYWHERE = {"ucm", "ucme", "one"}
# name, type, default on ucm, the cells that the document has lost
FACTS: list[tuple[str, str, str, set[str]]] = [
    ("gBridgeTransfer", "choice", "0", set()),
    ("gCocProxyMemory", "integer", "256", {"default", "minimum", "maximum"}),
    ("gCocProxyRestart", "plan", "", {"default"}),
    ("gDefaultMailbox", "internal-number", "", set()),
    ("gDisablePersHistory", "choice", "0", set()),
    ("gInboxNotifyRefresh", "integer", "60", {"minimum", "maximum"}),
    ("gMCSpeakNumber", "choice", "1", set()),
    ("gMwiWebControls", "choice", "0", set()),
    ("gMaxForwardNumberLen", "integer", "100", {"minimum"}),
    ("gPhoneLoginWithNumber", "choice", "0", set()),
    ("gPhonePrivateDirPIN", "choice", "0", set()),
    ("gRecordVolume", "integer", "400", {"minimum", "maximum"}),
    ("gStripCallerID", "integer", "0", {"minimum", "maximum"}),
    ("gSetLineName", "choice", "0", {"name", "meanings"}),
    ("gTimeServer", "host", "pool.ntp.org", {"default"}),
    ("gTransferWithCallerID", "choice", "1", set()),
    ("gWebServerRestart", "plan", "", {"name", "default"}),
    ("gWebTimeout", "integer", "20", {"maximum"}),
]


def test_the_catalogue_is_the_documents_table() -> None:
    """All eighteen variables, in the document's order, with kind, default and the marks of what was lost."""
    rows = [(v.name, v.kind.type, v.default_for("ucm"), set(v.reconstructed)) for v in CATALOGUE]

    assert rows == FACTS


def test_defaults_are_valid_in_every_edition() -> None:
    """Each default is a value of its kind, in the form that the kind writes."""
    for variable in CATALOGUE:
        for edition in EDITIONS:
            text = variable.default_for(edition)
            assert variable.canonical(text) == text


def test_what_differs_between_editions() -> None:
    """One variable has another default on Express, and one exists only there."""
    by_name = {variable.name: variable for variable in CATALOGUE}
    transfer = by_name["gTransferWithCallerID"]

    assert [transfer.default_for(edition) for edition in EDITIONS] == ["1", "0", "1"]
    assert {v.name: set(v.editions) for v in CATALOGUE if set(v.editions) != EVERYWHERE} == {"gSetLineName": {"ucme"}}


@pytest.mark.parametrize(
    ("name", "minimum", "maximum"),
    [
        ("gCocProxyMemory", 64, 4096),
        ("gInboxNotifyRefresh", 1, 86_400),
        ("gMaxForwardNumberLen", 0, 100),
        ("gRecordVolume", 0, 1000),
        ("gStripCallerID", 0, 32),
        ("gWebTimeout", 0, 1440),
    ],
)
def test_ranges(name: str, minimum: int, maximum: int) -> None:
    """Numbers have the ranges of the document, or our guess where it has lost them."""
    kind = next(variable.kind for variable in CATALOGUE if variable.name == name)

    assert isinstance(kind, Whole)
    assert (kind.minimum, kind.maximum) == (minimum, maximum)


def test_every_variable_is_explained() -> None:
    """Help is whole sentences, and every value allowed has a meaning."""
    for variable in CATALOGUE:
        assert variable.help.endswith(".")
        assert all(meaning for _, meaning in variable.kind.meanings())


def test_an_owner_adds_variables_of_every_kind() -> None:
    """A table in callisto.toml becomes a variable like the built-in ones."""
    definitions: dict[str, dict[str, object]] = {
        "gMyNumber": {
            "type": "integer", "minimum": 0, "maximum": 10, "default": 5, "unit": "seconds", "help": "Waits."
        },
        "gMyChoice": {"type": "choice", "values": {"0": "off", "1": "on"}, "default": 1, "editions": ["ucm", "one"]},
        "gMyText": {"type": "text", "maximum_length": 20, "pattern": "[a-z]*", "default": ""},
        "gMyHost": {"type": "host", "default": "example.org:25", "defaults_by_edition": {"one": "localhost"}},
        "gMyPlan": {"type": "plan", "default": "mon-fri 2:00"},
        "gMyUser": {"type": "internal-number", "default": ""},
    }  # fmt: skip
    own = own_variables(definitions)

    assert [variable.name for variable in own] == list(definitions)
    assert [variable.default_for("one") for variable in own] == ["5", "1", "", "localhost", "62,02:00", ""]
    assert own[0].kind.allowed == "a whole number of seconds from 0 to 10"
    assert own[0].help == "Waits."
    assert own[1].editions == ("ucm", "one")
    assert all(variable.help for variable in own)


NUMBER = {"type": "integer", "minimum": 0, "maximum": 10, "default": 5}


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ({}, "variables.gMy.type: must be choice, integer, text, host, plan or internal-number"),
        ({**NUMBER, "type": "int"}, "variables.gMy.type: must be choice"),
        ({**NUMBER, "type": ["integer"]}, "variables.gMy.type: must be choice"),
        ({**NUMBER, "colour": 1}, "variables.gMy: 'colour' is no key of the type integer; it has type, minimum"),
        ({**NUMBER, "name": "x"}, "variables.gMy: 'name' is no key"),
        ({**NUMBER, "values": {"0": "a"}}, "variables.gMy: 'values' is no key of the type integer"),
        ({**NUMBER, "minimum": "0"}, "variables.gMy.minimum: Input should be a valid integer"),
        ({**NUMBER, "minimum": True}, "variables.gMy.minimum: Input should be a valid integer"),
        ({**NUMBER, "minimum": 11}, "variables.gMy.maximum: must not be below the minimum, 11"),
        ({"type": "integer", "minimum": 0, "default": 5}, "variables.gMy.maximum: is missing"),
        ({"type": "integer", "minimum": 0, "maximum": 9}, "variables.gMy.default: is missing"),
        ({**NUMBER, "default": 11}, "variables.gMy.default: must be a whole number from 0 to 10"),
        ({**NUMBER, "default": True}, "variables.gMy.default: must be a whole number or text"),
        ({**NUMBER, "default": 1.5}, "variables.gMy.default: must be a whole number or text"),
        ({**NUMBER, "defaults_by_edition": {"one": 11}}, "variables.gMy.defaults_by_edition: must be a whole number"),
        ({**NUMBER, "defaults_by_edition": {"two": 1}}, "variables.gMy.defaults_by_edition.two"),
        ({**NUMBER, "defaults_by_edition": {"a\nb": 1}}, r"variables.gMy.defaults_by_edition.'a\nb'"),
        ({**NUMBER, "defaults_by_edition": 1}, "variables.gMy.defaults_by_edition: "),
        ({**NUMBER, "editions": ["two"]}, "variables.gMy.editions.0: Input should be 'ucm', 'ucme' or 'one'"),
        ({**NUMBER, "editions": []}, "variables.gMy.editions: "),
        ({**NUMBER, "help": "a\nb"}, "variables.gMy.help: must be one line of printable characters"),
        ({**NUMBER, "minimum": 1, "zero": "off"}, "variables.gMy.zero: has no use: 0 is out of range"),
        ({"type": "text", "maximum_length": 9, "pattern": "(", "default": ""}, "variables.gMy.pattern: must be a reg"),
        (
            {"type": "choice", "values": {"a": "b"}, "default": 1},
            "variables.gMy.values: must have whole numbers for keys",
        ),
        ({"type": "choice", "values": 1, "default": 1}, "variables.gMy.values: "),
        ("5", "variables.gMy: must be a table"),
    ],
)
def test_a_wrong_table_says_which_key_and_what_is_allowed(definition: Any, message: str) -> None:
    """Every mistake is one line that begins with the place in the file."""
    with pytest.raises(SettingsError) as caught:
        own_variables({"gMy": definition})

    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "1abc", "g-x", "gÄ", "g x", "g" * 65, "gX\n", "g.x"])
def test_a_name_is_a_letter_and_letters_digits_and_underscores(name: str) -> None:
    """Names stay typable, and safe to print."""
    with pytest.raises(SettingsError, match=r"^variables: '"):
        own_variables({name: NUMBER})


@pytest.mark.parametrize("name", ["gWebTimeout", "GWEBTIMEOUT", "gsetlinename"])
def test_an_own_variable_does_not_hide_a_built_in_one(name: str) -> None:
    """Names differ from the built-in ones in more than upper and lower case, whatever the edition."""
    with pytest.raises(SettingsError, match=r"there is a variable g\w+ already"):
        own_variables({name: NUMBER})


def test_own_variables_do_not_hide_each_other() -> None:
    """Two own names that differ in case alone are refused."""
    with pytest.raises(SettingsError, match=r"variables\.GMY: there is a variable gMy already"):
        own_variables({"gMy": NUMBER, "GMY": NUMBER})


def test_their_number_is_bounded() -> None:
    """A settings file cannot fill every list with thousands of variables."""
    with pytest.raises(SettingsError, match="at most 500"):
        own_variables({f"gMy{number}": NUMBER for number in range(501)})
