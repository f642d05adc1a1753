"""Which refused lines may be called back: a command's with a slip in it, but no password typed at the wrong moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import lru_cache

from callisto_telnetd.errors import UsageError
from callisto_telnetd.menus.resolver import UnknownWordError, resolve
from callisto_telnetd.menus.tree import Command, Menu

_LONGEST_WORD = 32
"""Characters of a word that may be a mistyped one of the tree."""
_LIKE = 0.7
"""How alike two words are for one to be taken for the other, mistyped: 1 is the same (difflib)."""


def is_mistyped(menu: Menu, everywhere: Sequence[Command], line: str, main: Menu) -> bool:
    """Return whether a line that was refused is a command's with a slip in it, to be called back and mended.

    Any other may be a password, and so may be the words behind those of a command that is given passwords.
    """
    words = line.split()
    try:
        entry = resolve(menu, everywhere, words, main).entry  # what was refused is the quotes
    except UnknownWordError as error:
        return bool(error.near) and not _names_private(words, main)
    except UsageError:  # more than one begins like that
        return not _names_private(words, main)
    return not (isinstance(entry, Command) and entry.private)


def _names_private(words: Sequence[str], main: Menu) -> bool:
    """Return whether a word may stand for that of a command whose arguments are kept nowhere."""
    private = _private_words(main)
    short = {word.lower() for word in words if len(word) <= _LONGEST_WORD}
    return any(
        get_close_matches(word, private, 1, _LIKE) or any(each.startswith(word) for each in private) for word in short
    )


@lru_cache(maxsize=4)
def _private_words(menu: Menu) -> tuple[str, ...]:
    return tuple(_walk(menu))


def _walk(menu: Menu) -> Iterator[str]:
    for entry in menu.entries:
        if isinstance(entry, Menu):
            yield from _walk(entry)
        elif entry.private:
            yield entry.word
