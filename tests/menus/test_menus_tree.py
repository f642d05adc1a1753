from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from callisto_telnetd.menus.everywhere import EVERYWHERE, _explanation, _usage
from callisto_telnetd.menus.main import MAIN_MENU
from callisto_telnetd.menus.resolver import resolve
from callisto_telnetd.menus.tree import Command, Entry, Menu

PROMPT_LIKE = re.compile(r"[>#$%]\s*$|^\s*\S+:\s*$|^\s*[\[(<]\S*[\])>]\s*$")
AFTER_LOGIN = re.compile(r"login|username|password:", re.IGNORECASE)


def walk(menu: Menu, path: str = "") -> Iterator[tuple[str, Entry]]:
    """Yield every entry below a menu with the words that lead to it."""
    for entry in menu.entries:
        here = f"{path} {entry.word}".strip()
        yield here, entry
        if isinstance(entry, Menu):
            if entry.bare is not None:
                yield f"{here} (bare)", entry.bare
            if entry.pick is not None:
                yield f"{here} (pick)", entry.pick
            yield from walk(entry, here)


TREE = [*walk(MAIN_MENU), *((f"everywhere {command.word}", command) for command in EVERYWHERE)]
ENTRIES = pytest.mark.parametrize("entry", [entry for _, entry in TREE], ids=[path for path, _ in TREE])
MENUS = pytest.mark.parametrize(
    "menu", [MAIN_MENU, *(entry for _, entry in TREE if isinstance(entry, Menu))], ids=lambda menu: menu.word
)


def texts(entry: Entry) -> list[str]:
    """Return every line that help and menus make of an entry."""
    lines = [entry.help, entry.title, _usage(entry), *_explanation(entry)]
    return [line for line in lines if line]


def test_the_main_menu_is_the_appliance_s() -> None:
    """Its numbered entries have the order, the numbers, the titles and the words that scripts know."""
    numbered = [(entry.number, entry.title, entry.word) for entry in MAIN_MENU.entries if entry.number]

    assert numbered == [
        ("1", "Trace", "trace"),
        ("2", "Repair Database", "repair"),
        ("3", "System Variables", "variables"),
        ("4", "System Information", "information"),
        ("5", "Set Date/Time", "date"),
        ("0", "Logout", "logout"),
    ]


@ENTRIES
def test_every_entry_has_help(entry: Entry) -> None:
    """The help of an entry is one printable sentence without a full stop, and its explanation begins with its words."""
    assert entry.help.isprintable()
    assert " " in entry.help
    assert not entry.help.endswith(".")
    assert _explanation(entry)[0].startswith(entry.name if isinstance(entry, Menu) else entry.word)


@ENTRIES
def test_no_line_of_help_looks_like_a_prompt(entry: Entry) -> None:
    """No line ends like a prompt, and none is a single word with a colon or in brackets."""
    assert not [line for line in texts(entry) if PROMPT_LIKE.search(line)]


@ENTRIES
def test_no_line_of_help_looks_like_a_login(entry: Entry) -> None:
    """After a login no line that a script reads holds the words by which it knows a login."""
    assert not [line for line in texts(entry) if AFTER_LOGIN.search(line)]


@MENUS
def test_words_and_numbers_of_a_menu_are_its_own(menu: Menu) -> None:
    """No two entries of a menu share a word or a number, and words are typed as they are shown."""
    words = [entry.word for entry in menu.entries]
    numbers = [entry.number for entry in menu.entries if entry.number]

    assert len(set(words)) == len(words)
    assert len(set(numbers)) == len(numbers)
    assert all(re.fullmatch(r"[a-z]+", word) for word in words)
    assert all(number.isdigit() for number in numbers)


def test_words_that_work_everywhere_are_named_once() -> None:
    """No word stands twice among those that work in every menu."""
    words = [command.word for command in EVERYWHERE]

    assert len(set(words)) == len(words)


@MENUS
def test_every_menu_knows_the_way_up(menu: Menu) -> None:
    """Each menu's parent has it among its entries, up to the main menu; its path is the words that lead there."""
    here, path = menu, list[str]()
    while here.parent is not None:
        assert here in here.parent.entries
        path.insert(0, here.word)
        here = here.parent

    assert here is MAIN_MENU
    assert menu.path == tuple(path)
    assert (MAIN_MENU.path, MAIN_MENU.name) == ((), "main")
    assert menu.name == (" ".join(path) or "main")


@MENUS
def test_every_word_and_number_leads_to_its_entry(menu: Menu) -> None:
    """In its menu, each word and each number finds its own entry, also in upper case."""
    for entry in menu.entries:
        for typed in filter(None, (entry.word, entry.word.upper(), entry.number)):
            resolution = resolve(menu, EVERYWHERE, [typed])
            wanted = entry.bare if isinstance(entry, Menu) and entry.bare else entry
            assert resolution.entry is wanted, typed


def test_what_changes_something_says_so() -> None:
    """The commands that must not be interrupted half-way are marked."""
    changing = {path for path, entry in TREE if isinstance(entry, Command) and entry.changes}

    assert {"variables set", "variables import", "user add", "user remove", "date zone", "trace delete"} <= changing
    assert not {"trace (bare)", "trace tail", "variables list", "information"} & changing


def test_what_asks_for_a_password_is_private() -> None:
    """The commands that a password may be typed behind stay out of log and history."""
    private = {path for path, entry in TREE if isinstance(entry, Command) and entry.private}

    urls = {"backup schedule add", "backup plan", "backup restore"}  # of which somebody may think that they hold one
    assert private == {"user add", "user passwd", "backup create", "backup verify", "repair", *urls}
