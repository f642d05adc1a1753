"""Tab: the words that may stand where the cursor is, taken from the command tree and the commands themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from callisto_telnetd.errors import CallistoError
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.everywhere import EVERYWHERE
from callisto_telnetd.menus.resolver import resolve, split
from callisto_telnetd.menus.tree import Command, Menu
from callisto_telnetd.menus.usage import keys_of, read_usage
from callisto_telnetd.terminal.editor import Completion


def complete(context: Context, text: str) -> Completion:
    """Return what may stand in place of the word at the end of ``text``; nothing where those before it are unknown."""
    start = len(text) if not text or text[-1].isspace() else text.rfind(" ") + 1
    try:
        before = split(text[:start])
        resolution = resolve(context.menu, EVERYWHERE, before, context.main) if before else None
    except CallistoError:
        return Completion(start, ())
    if resolution is None:
        return Completion(start, _first_words(context, text[start:]))
    if isinstance(resolution.entry, Menu):
        return Completion(start, _matching([entry.word for entry in resolution.entry.entries], text[start:]))
    command, arguments = resolution.entry, resolution.arguments
    comma = text.rfind(",", start) + 1
    if command.joins_words and comma and "=" not in text[start:]:
        taken = text[start:comma].lower().split(",")
        names = [word for word in _own_words(context, command, arguments) if "=" not in word]
        return Completion(comma, _matching([name for name in names if name.lower() not in taken], text[comma:]))
    usage = read_usage(command.usage)
    own = _own_words(context, command, arguments)
    keys = {word.partition("=")[0] for word in own if "=" in word}
    named = [word for word in usage.open_words(arguments) if word.partition("=")[0] not in keys]
    words = [*_words_of_menu(context, command, before), *own, *named]
    if not text[start:] and not arguments and usage.begins_with_name and own:
        words = [word for word in own if "=" not in word]  # the hint names the options
    return Completion(start, _matching(words, text[start:]), usage.rest(arguments))


def _first_words(context: Context, typed: str) -> tuple[str, ...]:
    """Return the menu's words and those that work everywhere; the main menu's where none of these fits."""
    own = _matching([entry.word for entry in (*context.menu.entries, *EVERYWHERE)], typed)
    return own or _matching([entry.word for entry in context.main.entries], typed)


def _own_words(context: Context, command: Command, arguments: Sequence[str]) -> Sequence[str]:
    """Return the words that the command knows, but no option a second time; none where they cannot be told."""
    given = keys_of(arguments)
    try:
        words = command.complete(context, arguments)
    except CallistoError:
        return ()
    return [word for word in words if "=" not in word or word.partition("=")[0] not in given]


def _matching(words: Sequence[str], typed: str) -> tuple[str, ...]:
    """Return the words that begin as it was typed, in any case; values of one option count as one up to its ``=``."""
    lower = typed.lower()
    found = [word for word in dict.fromkeys(words) if word.lower().startswith(lower)]
    if "=" not in typed:
        keys = Counter(word.partition("=")[0] for word in found if "=" in word)
        found = [word if keys[key] < 2 else f"{key}=" for word in found for key in (word.partition("=")[0],)]
    return tuple(dict.fromkeys(found))


def _words_of_menu(context: Context, command: Command, before: list[str]) -> list[str]:
    """Where a menu's bare command may go on with an entry's word, that word completes too."""
    if len(before) != 1:
        return []
    places = (*context.menu.entries, *context.main.entries)
    menus = [entry for entry in places if isinstance(entry, Menu) and entry.bare is command]
    return [entry.word for menu in menus for entry in menu.entries]
