"""From a typed line to the command it means: pure, no I/O.

An entry is chosen by its number, its word or any unambiguous beginning of it, in upper or lower case. A word that the
menu does not know is looked for in the main menu, so that every command can be given everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

from callisto_telnetd.errors import UsageError, listed, quoted
from callisto_telnetd.menus.tree import Command, Entry, Menu, Run

_QUOTES = frozenset("\"'")
_COMMENT_MARKS = frozenset(";#!")
_HELP = "help"
_ASKS_FOR_HELP = frozenset({"?", "--help"})
"""The last words of a line that ask for the help of the words before."""
_MOST_HINTS = 3
_LONGEST_WORD = 32
"""Characters of a mistyped word that are compared: no word of the tree has more."""
_LIKE = 0.7
"""How alike two words are for one to be taken for the other, mistyped: 1 is the same (difflib)."""


class UnknownWordError(UsageError):
    """No command has that word."""

    def __init__(self, text: str, near: Sequence[str] = ()) -> None:
        self.near = near
        """What was perhaps meant."""
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a line means."""

    path: str
    """The words of the tree that lead there: ``variables set``."""
    entry: Entry
    run: Run | None
    """None: the entry is a menu, to be entered."""
    arguments: list[str]


def says_nothing(line: str) -> bool:
    """Return whether a line is empty, or a comment such as a pasted list of commands has."""
    text = line.lstrip()
    return not text or text[0] in _COMMENT_MARKS


def split(line: str) -> list[str]:
    """Return the words of a line; blanks part them, quotes ``"…"`` or ``'…'`` at a word's start keep them together.

    Raises:
        UsageError: a quote is not closed.
    """
    if not _QUOTES.intersection(line):
        return line.split()
    words: list[str] = []
    at, end = 0, len(line)
    while at < end:
        if line[at].isspace():
            at += 1
            continue
        word, at = _quoted_word(line, at)
        words.append(word)
    return words


def _quoted_word(line: str, at: int) -> tuple[str, int]:
    """Read one word; a quote counts where the word starts or right behind ``=``."""
    start = at
    word = ""
    while at < len(line) and not line[at].isspace():
        mark = line[at]
        if mark in _QUOTES and (at == start or line[at - 1] == "="):
            close = line.find(mark, at + 1)
            if close < 0:
                raise UsageError(f"the quote {mark} is not closed")
            word += line[at + 1 : close]
            at = close + 1
        else:
            word += mark
            at += 1
    return word, at


class _Tree:
    """Where words are looked for: in the menu first, then everywhere, then in the main menu."""

    __slots__ = ("by_name", "everywhere", "main", "menu", "own")

    def __init__(self, menu: Menu, everywhere: tuple[Command, ...], main: Menu) -> None:
        self.menu = menu
        self.everywhere = everywhere
        self.main = main
        self.own: tuple[Entry, ...] = (*menu.entries, *everywhere)
        self.by_name = _by_word_and_number(self.own)

    def choose(self, word: str) -> Entry:
        """Return what the first word of a line means."""
        if entry := self.by_name.get(word):  # most words are typed whole
            return entry
        own = self.own
        if self.main is not self.menu and not word.isdigit() and not _matches(word, own):
            if found := _matches(word, self.main.entries):
                return _only(word, found)
            own = (*own, *self.main.entries)
        return _choose(word, own, self.menu, self.main)


@lru_cache(maxsize=64)
def _tree(menu: Menu, everywhere: tuple[Command, ...], main: Menu) -> _Tree:
    """Return the tree as it is seen from a menu."""
    return _Tree(menu, everywhere, main)


def resolve(menu: Menu, everywhere: Sequence[Command], words: Sequence[str], main: Menu | None = None) -> Resolution:
    """Return what the words mean in ``menu``.

    Args:
        menu: The menu whose prompt was shown.
        everywhere: The commands that work in every menu; the menu's own words come first.
        words: At least one.
        main: The main menu, where a word that ``menu`` does not know is looked for; ``menu`` itself where it is None.

    Raises:
        UsageError: no such word, or more than one begins with it; names what is near.
    """
    if len(words) > 1 and words[-1] in _ASKS_FOR_HELP:
        words = [_HELP, *words[:-1]]
    first, rest = words[0], list(words[1:])
    if first.isdigit() and menu.pick is not None and first != "0":
        return Resolution(f"{menu.word} {menu.pick.word}", menu.pick, menu.pick.run, [first, *rest])
    tree = _tree(menu, tuple(everywhere), main or menu)
    return _descend(tree, tree.choose(first), rest, "", by_number=first.isdigit())


def _descend(tree: _Tree, entry: Entry, rest: list[str], path: str, *, by_number: bool) -> Resolution:
    path = f"{path} {entry.word}".strip()
    if isinstance(entry, Command):
        return _run(entry, rest, path, by_number=by_number)
    if rest:
        if rest[0].isdigit() and entry.pick is not None:
            return Resolution(f"{path} {entry.pick.word}", entry.pick, entry.pick.run, rest)
        if rest[0].lower() == _HELP and (own := _help_of(tree, path, rest[1:])):
            return own
        if entry.bare is None or _matches(rest[0], entry.entries):
            chosen = _choose(rest[0], entry.entries, entry, tree.main, path)
            return _descend(tree, chosen, rest[1:], path, by_number=rest[0].isdigit())
    if entry.bare is not None:
        return _run(entry.bare, rest, path, by_number=by_number)
    return Resolution(path, entry, None, rest)


def _help_of(tree: _Tree, path: str, rest: list[str]) -> Resolution | None:
    """Return ``help MENU WORD`` for ``MENU help WORD``; None where there is no such command."""
    for command in tree.everywhere:
        if command.word == _HELP:
            return Resolution(_HELP, command, command.run, [*path.split(), *rest])
    return None


def _run(command: Command, rest: list[str], path: str, *, by_number: bool) -> Resolution:
    run = command.dialogue if by_number and not rest and command.dialogue else command.run
    return Resolution(path, command, run, rest)


def _matches(word: str, entries: tuple[Entry, ...]) -> list[Entry]:
    lower = word.lower()  # the tree's own words are in lower case
    if not lower:  # a pair of quotes names nothing
        return []
    whole = _by_word_and_number(entries).get(lower)
    if whole is not None:
        return [whole]
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.word.startswith(lower):
            found.setdefault(entry.word, entry)
    return list(found.values())


@lru_cache(maxsize=64)
def _by_word_and_number(entries: tuple[Entry, ...]) -> dict[str, Entry]:
    """Return what each whole word and number means; of two that are alike the first counts."""
    table: dict[str, Entry] = {}
    for entry in entries:
        for name in (entry.word, entry.number):
            if name:
                table.setdefault(name, entry)
    return table


def _choose(word: str, entries: tuple[Entry, ...], place: Menu, main: Menu, before: str = "") -> Entry:
    """Return the one entry that a word means.

    Args:
        word: As it was typed.
        entries: Those of the place.
        place: The menu that they are in.
        main: The main menu, below which everything is: for a hint.
        before: The words that were typed before, for a hint.
    """
    if found := _matches(word, entries):
        return _only(word, found)
    where = "" if place.name == "main" else f" in the {place.name} menu"
    hints = _near(word, [f"{before} {entry.word}".strip() for entry in entries], _paths(main))
    told = f"did you mean {listed(hints)}?" if hints else "'help' lists the commands"
    raise UnknownWordError(f"no command {quoted(word)}{where}; {told}", hints)


def _only(word: str, found: Sequence[Entry]) -> Entry:
    if len(found) == 1:
        return found[0]
    raise UsageError(f"{quoted(word)} is ambiguous: {listed([entry.word for entry in found])}")


def _near(word: str, own: Sequence[str], paths: Sequence[str]) -> list[str]:
    """Return what was meant, in quotes: a word of the place that is nearly the same, else the word at other places."""
    lower = word.lower()
    if not lower or len(lower) > _LONGEST_WORD:
        return []
    found = _alike(lower, own) or [path for path in paths if _last_word(path) == lower] or _alike(lower, paths)
    return [repr(path) for path in found[:_MOST_HINTS]]


def _alike(word: str, paths: Sequence[str]) -> list[str]:
    best = get_close_matches(word, {_last_word(path) for path in paths}, 1, _LIKE)
    return [path for path in dict.fromkeys(paths) if _last_word(path) in best]


def _last_word(path: str) -> str:
    return path.rpartition(" ")[2]


@lru_cache(maxsize=64)
def _paths(menu: Menu) -> tuple[str, ...]:
    """Return the words that lead to each entry of the tree below ``menu``: ``backup schedule add``."""
    return tuple(_walk(menu, ""))


def _walk(menu: Menu, before: str) -> Iterator[str]:
    for entry in menu.entries:
        path = f"{before} {entry.word}".strip()
        yield path
        if isinstance(entry, Menu):
            yield from _walk(entry, path)


def _find_anywhere(tree: _Tree, word: str) -> Entry:
    """Return the menu's own entry, or the one that only a single menu below it has, or the main menu's."""
    own = (*tree.menu.entries, *tree.everywhere)
    below = [each for entry in tree.menu.entries if isinstance(entry, Menu) for each in entry.entries]
    found = [each for each in below if each.word == word.lower()]
    if not _matches(word, own) and len(found) == 1:
        return found[0]
    return tree.choose(word)


def find_entry(menu: Menu, everywhere: Sequence[Command], words: Sequence[str], main: Menu | None = None) -> Entry:
    """Return the entry that the words name, for its help; looked for as :func:`resolve` does.

    Raises:
        UsageError: there is none.
    """
    tree = _tree(menu, tuple(everywhere), main or menu)
    entry, path = _find_anywhere(tree, words[0]), words[0]
    for word in words[1:]:
        if isinstance(entry, Command):
            raise UsageError(f"{entry.word} has no command {quoted(word)}")
        entry = _choose(word, entry.entries, entry, tree.main, path)
        path = f"{path} {word}"
    return entry
