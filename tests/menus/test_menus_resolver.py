from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.errors import UsageError
from callisto_telnetd.menus.answers import Answer, Done
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.resolver import find_entry, resolve, split
from callisto_telnetd.menus.tree import Command, Menu


async def act(_context: Context, _words: list[str]) -> AsyncGenerator[Answer, None]:
    """Do what the line says."""
    yield Done("acted")


async def talk(_context: Context, _words: list[str]) -> AsyncGenerator[Answer, None]:
    """Ask for what the line does not say."""
    yield Done("talked")


def command(word: str, number: str = "") -> Command:
    """Return a command that acts, and talks where it is chosen by number alone."""
    return Command(word=word, number=number, help=f"do {word}", run=act, dialogue=talk if word == "date" else None)


TRACE = Menu(
    word="trace",
    number="1",
    title="Trace",
    help="trace",
    bare=command("trace"),
    entries=(command("list"), command("show")),
)
VARIABLES = Menu(
    word="variables",
    number="3",
    title="Variables",
    help="variables",
    pick=command("NUMBER"),
    entries=(command("list"), command("set"), command("show"), command("history")),
)
DATE = Menu(word="date", number="5", title="Date", help="date", bare=command("date"), entries=(command("zone"),))
USER = Menu(word="user", title="User", help="user", entries=(command("add"), command("added")))
MAIN = Menu(
    word="main",
    title="Main",
    help="main",
    entries=(TRACE, command("repair", "2"), VARIABLES, DATE, command("logout", "0"), USER),
)
EVERYWHERE = (command("help", "?"), command("history"), command("back", "0"), command("exit"), command("logout"))


@pytest.mark.parametrize(
    ("line", "path", "arguments"),
    [
        ("repair", "repair", []),
        ("REPAIR yes", "repair", ["yes"]),
        ("r", "repair", []),
        ("2", "repair", []),
        ("2 yes", "repair", ["yes"]),
        ("0", "logout", []),
        ("?", "help", []),
        ("h", None, None),
        ("he", "help", []),
        ("his", "history", []),
        ("variables", "variables", []),
        ("3", "variables", []),
        ("v set gWebTimeout 30", "variables set", ["gWebTimeout", "30"]),
        ("3 set gWebTimeout 30", "variables set", ["gWebTimeout", "30"]),
        ("VAR S", None, None),
        ("variables 7", "variables NUMBER", ["7"]),
        ("3 7 x", "variables NUMBER", ["7", "x"]),
        ("3 0", "variables NUMBER", ["0"]),
        ("variables nonsense", None, None),
        ("variables back", None, None),
        ("trace", "trace", []),
        ("trace l", "trace list", []),
        ("1 list", "trace list", []),
        ("trace web-server level=info", "trace", ["web-server", "level=info"]),
        ("trace 5", "trace", ["5"]),
        ("date 2026-11-23 10:15", "date", ["2026-11-23", "10:15"]),
        ("date z Europe/Zurich", "date zone", ["Europe/Zurich"]),
        ("user add", "user add", []),
        ("user adde", "user added", []),
        ("user", "user", []),
        ("user ad", None, None),
        ("4", None, None),
        ("repairs", None, None),
        ('""', None, None),
        ("'' x", None, None),
        ('user ""', None, None),
        ('trace ""', "trace", [""]),
        ('repair ""', "repair", [""]),
    ],
)
def test_what_a_line_means_in_the_main_menu(line: str, path: str | None, arguments: list[str] | None) -> None:
    """Numbers, words and unambiguous beginnings lead to an entry, in any case; the words behind go to it."""
    if path is None:
        with pytest.raises(UsageError):
            resolve(MAIN, EVERYWHERE, split(line))
        return
    resolution = resolve(MAIN, EVERYWHERE, split(line))

    assert (resolution.path, resolution.arguments) == (path, arguments)


@pytest.mark.parametrize(
    ("line", "path", "arguments"),
    [
        ("list", "list", []),
        ("7", "variables NUMBER", ["7"]),
        ("07 x", "variables NUMBER", ["07", "x"]),
        ("0", "back", []),
        ("history", "history", []),
        ("hist", "history", []),
        ("set a b", "set", ["a", "b"]),
        ("e", "exit", []),
        ("log", "logout", []),
    ],
)
def test_what_a_line_means_in_a_sub_menu(line: str, path: str, arguments: list[str]) -> None:
    """The menu's own words come first, numbers pick, and 0 goes up."""
    resolution = resolve(VARIABLES, EVERYWHERE, split(line))

    assert (resolution.path, resolution.arguments) == (path, arguments)
    others = VARIABLES.entries if path in {"back", "exit", "logout"} else EVERYWHERE
    assert not [other for other in others if other is resolution.entry]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nonsense", "no command 'nonsense'; 'help' lists the commands"),
        ("variables x", "no command 'x' in the variables menu; 'help' lists the commands"),
        ("variables s", "'s' is ambiguous: set or show"),
        ("h", "'h' is ambiguous: help or history"),
        ("user a", "'a' is ambiguous: add or added"),
        ('""', "no command ''; 'help' lists the commands"),
        ("\x1b[2J", "no command '\\x1b[2J'; 'help' lists the commands"),
        ("x" * 200, f"no command '{'x' * 61}...'; 'help' lists the commands"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(line: str, reason: str) -> None:
    """An unknown or ambiguous word is named, with the words that it may have meant."""
    with pytest.raises(UsageError) as refused:
        resolve(MAIN, EVERYWHERE, split(line))

    assert str(refused.value) == reason


@pytest.mark.parametrize(
    ("line", "path", "arguments"),
    [
        ("repair yes", "repair", ["yes"]),
        ("trace list", "trace list", []),
        ("date z Asia/Tokyo", "date zone", ["Asia/Tokyo"]),
        ("user added", "user added", []),
        ("set a b", "set", ["a", "b"]),
    ],
)
def test_every_command_can_be_given_in_every_menu(line: str, path: str, arguments: list[str]) -> None:
    """A word that the menu does not know is looked for in the main menu; the menu's own words come first."""
    resolution = resolve(VARIABLES, EVERYWHERE, split(line), MAIN)

    assert (resolution.path, resolution.arguments) == (path, arguments)


@pytest.mark.parametrize("line", ["2", "5", "99"])
def test_the_numbers_of_the_main_menu_are_its_own(line: str) -> None:
    """In a sub-menu a number never means an entry of the main menu."""
    with pytest.raises(UsageError):
        resolve(USER, EVERYWHERE, split(line), MAIN)


@pytest.mark.parametrize(
    ("menu", "line", "reason"),
    [
        (MAIN, "set gWebTimeout 3", "no command 'set'; did you mean 'variables set'?"),
        (MAIN, "varibles", "no command 'varibles'; did you mean 'variables'?"),
        (MAIN, "zoen x", "no command 'zoen'; did you mean 'date zone'?"),
        (MAIN, "list", "no command 'list'; did you mean 'trace list' or 'variables list'?"),
        (MAIN, "variables sow", "no command 'sow' in the variables menu; did you mean 'variables show'?"),
        (VARIABLES, "sow x", "no command 'sow' in the variables menu; did you mean 'show'?"),
        (VARIABLES, "zone x", "no command 'zone' in the variables menu; did you mean 'date zone'?"),
        (VARIABLES, "nonsense", "no command 'nonsense' in the variables menu; 'help' lists the commands"),
    ],
)
def test_what_is_near_an_unknown_word_is_named(menu: Menu, line: str, reason: str) -> None:
    """A mistyped word, or one of another menu, is answered with the words that it may have meant."""
    with pytest.raises(UsageError) as refused:
        resolve(menu, EVERYWHERE, split(line), MAIN)

    assert str(refused.value) == reason


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        ("variables help", ["variables"]),
        ("variables help set", ["variables", "set"]),
        ("variables set --help", ["variables", "set"]),
        ("variables set ?", ["variables", "set"]),
    ],
)
def test_help_stands_behind_what_it_explains_too(line: str, arguments: list[str]) -> None:
    """``MENU help WORD``, and a line that ends with ``?`` or ``--help``, are ``help MENU WORD``."""
    resolution = resolve(MAIN, EVERYWHERE, split(line))

    assert (resolution.entry, resolution.arguments) == (EVERYWHERE[0], arguments)


@pytest.mark.parametrize(
    ("line", "run"),
    [
        ("5", talk),
        ("date", act),
        ("5 2026-11-23", act),
        ("da", act),
        ("5 zone x", act),
        ("3", None),
        ("variables", None),
    ],
)
def test_a_number_alone_begins_a_dialogue(line: str, run: object) -> None:
    """Who chooses by number is asked; who types the word, or words behind the number, is not; a menu is entered."""
    assert resolve(MAIN, EVERYWHERE, split(line)).run is run


def test_every_word_finds_itself() -> None:
    """A whole word is never ambiguous, though another begins with it."""
    for entry in USER.entries:
        assert resolve(USER, EVERYWHERE, [entry.word]).entry is entry


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["variables"], VARIABLES),
        (["3", "set"], VARIABLES.entries[1]),
        (["trace", "l"], TRACE.entries[0]),
        (["?"], EVERYWHERE[0]),
    ],
)
def test_help_finds_an_entry_by_its_words(words: list[str], found: object) -> None:
    """The words of the tree lead to the entry, not to what would run."""
    assert find_entry(MAIN, EVERYWHERE, words) is found


def test_help_of_what_is_not_there_says_so() -> None:
    """A command has no commands below it."""
    with pytest.raises(UsageError, match=r"^repair has no command 'now'$"):
        find_entry(MAIN, EVERYWHERE, ["repair", "now"])
    with pytest.raises(UsageError, match=r"^no command '' in the trace menu"):
        find_entry(MAIN, EVERYWHERE, ["trace", ""])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("   ", []),
        ("set  gWebTimeout\t30 ", ["set", "gWebTimeout", "30"]),
        ('set gName "two words"', ["set", "gName", "two words"]),
        ("set gName 'two words'", ["set", "gName", "two words"]),
        ('set gName ""', ["set", "gName", ""]),
        ('set gName "it\'s"', ["set", "gName", "it's"]),
        ('note="two words" x', ["note=two words", "x"]),
        ("note='' x", ["note=", "x"]),
        ("it's fine", ["it's", "fine"]),
        ('5" disk', ['5"', "disk"]),
        ('"a"b', ["ab"]),
        ('"a""b"', ['a"b"']),
        ('"a\' b"', ["a' b"]),
    ],
)
def test_how_a_line_is_parted(line: str, words: list[str]) -> None:
    """Blanks part the words; quotes count at the start of a word and behind an equals sign."""
    assert split(line) == words


@pytest.mark.parametrize("line", ['"open', "set 'x", 'note="x', "'", '""\''])
def test_a_quote_that_is_not_closed_is_named(line: str) -> None:
    """The line is refused as a whole, and says which quote."""
    if line == '""\'':
        assert split(line) == ["'"]
        return
    with pytest.raises(UsageError, match=r"^the quote [\"'] is not closed$"):
        split(line)


@given(st.text(max_size=80) | st.text("\"' =a\t", max_size=20))
def test_any_line_is_parted_or_refused(line: str) -> None:
    """No line raises anything but a usage error, and nothing is made up: words hold only what was typed."""
    try:
        words = split(line)
    except UsageError:
        assert "'" in line or '"' in line
        return
    assert set("".join(words)) <= set(line)
    assert sum(len(word) for word in words) <= len(line)


@given(st.lists(st.text(st.characters(exclude_characters='"'), max_size=12), max_size=6))
def test_what_is_quoted_comes_back_whole(words: list[str]) -> None:
    """Any words in quotes, blanks and all, come back as they were."""
    assert split(" ".join(f'"{word}"' for word in words)) == words


@given(st.lists(st.text(max_size=8), min_size=1, max_size=4))
def test_any_words_resolve_or_are_refused(words: list[str]) -> None:
    """No words raise anything but a usage error, in any menu."""
    for menu in (MAIN, VARIABLES, TRACE, USER):
        try:
            resolution = resolve(menu, EVERYWHERE, words)
        except UsageError:
            continue
        assert resolution.arguments == words[len(words) - len(resolution.arguments) :]
