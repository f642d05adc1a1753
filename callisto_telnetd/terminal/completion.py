"""Tab: the words that may stand where the cursor is, taken from the command tree and the commands themselves."""

from __future__ import annotations

from collections.abc import Sequence

from callisto_telnetd.errors import CallistoError
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.everywhere import EVERYWHERE
from callisto_telnetd.menus.resolver import resolve, split
from callisto_telnetd.menus.tree import Command, Menu
from callisto_telnetd.terminal.editor import Completion


def complete(context: Context, text: str) -> Completion:
    """Return what may stand in place of the word at the end of ``text``; nothing where those before it are unknown."""
    start = len(text) if not text or text[-1].isspace() else text.rfind(" ") + 1
    typed = text[start:].lower()
    try:
        words = _words_at(context, split(text[:start]))
    except CallistoError:
        words = ()
    return Completion(start, tuple(dict.fromkeys(word for word in words if word.lower().startswith(typed))))


def _words_at(context: Context, before: list[str]) -> Sequence[str]:
    if not before:
        own = [entry.word for entry in context.menu.entries]
        return own + [command.word for command in EVERYWHERE]
    resolution = resolve(context.menu, EVERYWHERE, before, context.main)
    if isinstance(resolution.entry, Menu):
        return [entry.word for entry in resolution.entry.entries]
    return [
        *_words_of_menu(context, resolution.entry, before),
        *resolution.entry.complete(context, resolution.arguments),
    ]


def _words_of_menu(context: Context, command: Command, before: list[str]) -> list[str]:
    """Where a menu's bare command may go on with an entry's word, that word completes too."""
    if len(before) != 1:
        return []
    menus = [entry for entry in context.menu.entries if isinstance(entry, Menu) and entry.bare is command]
    return [entry.word for menu in menus for entry in menu.entries]
