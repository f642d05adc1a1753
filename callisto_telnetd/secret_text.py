"""Texts that people and editors spell in more than one way: passwords, and files with a byte order mark.

What looks the same counts as the same (RFC 8265, section 4.2.2, OpaqueString): a password is compared in Unicode's
composed form (NFC), with every kind of space as the plain one. One that was kept as somebody has typed it is tried like
that, too. A password that stands in a command line is kept nowhere (:func:`without_secrets`).
"""

from __future__ import annotations

import re
import unicodedata

BOM = b"\xef\xbb\xbf"
"""The byte order mark in UTF-8: editors and shells on Windows put it before a text; it belongs to no text."""

_USER = re.compile(r"//[^/:@]*:(?!\d*/)")
"""In a URL, up to where a password begins; a port is none."""
_OPTION = re.compile(r"""((?:password|passphrase|secret)=)("[^"]*"?|'[^']*'?|\S+)""", re.IGNORECASE)
_WORD = re.compile(r"\S+")


def without_secrets(line: str) -> str:
    """Return a command line as it may be kept: with ``…`` for a password in a URL or behind ``password=``."""
    if "@" in line:
        line = _WORD.sub(_without_url_secret, line)
    return _OPTION.sub(r"\1…", line) if "=" in line else line


def _without_url_secret(word: re.Match[str]) -> str:
    before, mark, host = word[0].rpartition("@")  # the last one: a password may have one itself
    found = _USER.search(before)
    return f"{before[: found.end()]}…{mark}{host}" if found else word[0]


def composed(password: str) -> str:
    """Return a password in the one spelling that is hashed, and that keys are made of."""
    spaced = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in password)
    return unicodedata.normalize("NFC", spaced)


def spellings(password: str) -> tuple[str, ...]:
    """Return what a password is tried as: composed, then as it was typed, where that is another text."""
    return tuple(dict.fromkeys((composed(password), password)))


def unprintable_in(password: str) -> str:
    """Name the first letter that no password may have, such as ``U+000D``; blank where all can be printed."""
    return next((f"U+{ord(letter):04X}" for letter in password if not letter.isprintable()), "")


def trimmed(text: str) -> str:
    """Return a value as it was meant: without the mark that an editor has put before it, and its line's end."""
    return text.removeprefix(BOM.decode()).rstrip("\r\n")
