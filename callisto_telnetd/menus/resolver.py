"""From a typed line to the command it means: pure, no I/O.

An entry is chosen by its number, its word or any unambiguous beginning of it, in upper or lower case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from callisto_telnetd.errors import UsageError, listed, quoted
from callisto_telnetd.menus.tree import Command, Entry, Menu, Run

_QUOTES = frozenset("\"'")


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a line means."""

    path: str
    """The words of the tree that lead there: ``variables set``."""
    entry: Entry
    run: Run | None
    """None: the entry is a menu, to be entered."""
    arguments: list[str]


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


def resolve(menu: Menu, everywhere: Sequence[Command], words: Sequence[str]) -> Resolution:
    """Return what the words mean in ``menu``.

    Args:
        menu: The menu whose prompt was shown.
        everywhere: The commands that work in every menu; the menu's own words come first.
        words: At least one.

    Raises:
        UsageError: no such word, or more than one begins with it.
    """
    if len(words) > 1 and words[-1] == "?":
        words = ["help", *words[:-1]]
    first, rest = words[0], list(words[1:])
    if first.isdigit() and menu.pick is not None and first != "0":
        return Resolution(f"{menu.word} {menu.pick.word}", menu.pick, menu.pick.run, [first, *rest])
    entry = _choose(first, (*menu.entries, *everywhere), menu.word)
    return _descend(entry, rest, "", by_number=first.isdigit())


def _descend(entry: Entry, rest: list[str], path: str, *, by_number: bool) -> Resolution:
    path = f"{path} {entry.word}".strip()
    if isinstance(entry, Command):
        return _run(entry, rest, path, by_number=by_number)
    if rest:
        if rest[0].isdigit() and entry.pick is not None:
            return Resolution(f"{path} {entry.pick.word}", entry.pick, entry.pick.run, rest)
        if entry.bare is None or _matches(rest[0], entry.entries):
            chosen = _choose(rest[0], entry.entries, entry.word)
            return _descend(chosen, rest[1:], path, by_number=rest[0].isdigit())
    if entry.bare is not None:
        return _run(entry.bare, rest, path, by_number=by_number)
    return Resolution(path, entry, None, rest)


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


def _choose(word: str, entries: tuple[Entry, ...], place: str) -> Entry:
    found = _matches(word, entries)
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{quoted(word)} is ambiguous: {listed([entry.word for entry in found])}")
    where = "" if place == "main" else f" in the {place} menu"
    raise UsageError(f"no command {quoted(word)}{where}; 'help' lists the commands")


def _find_anywhere(menu: Menu, everywhere: Sequence[Command], word: str) -> Entry:
    """Return the menu's own entry, or the one that only a single menu below it has."""
    entries = (*menu.entries, *everywhere)
    below = [each for entry in menu.entries if isinstance(entry, Menu) for each in entry.entries]
    found = [each for each in below if each.word == word.lower()]
    if not _matches(word, entries) and len(found) == 1:
        return found[0]
    return _choose(word, entries, menu.word)


def find_entry(menu: Menu, everywhere: Sequence[Command], words: Sequence[str]) -> Entry:
    """Return the entry that the words name, for its help.

    Raises:
        UsageError: there is none.
    """
    entry = _find_anywhere(menu, everywhere, words[0])
    for word in words[1:]:
        if isinstance(entry, Command):
            raise UsageError(f"{entry.word} has no command {quoted(word)}")
        entry = _choose(word, entry.entries, entry.word)
    return entry
