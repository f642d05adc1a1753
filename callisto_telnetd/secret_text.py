"""Texts that people and editors spell in more than one way: passwords, and files with a byte order mark.

What looks the same counts as the same (RFC 8265, section 4.2.2, OpaqueString): a password is compared in Unicode's
composed form (NFC), with every kind of space as the plain one. One that was kept as somebody has typed it is tried like
that, too. A password that stands where it does not belong, in a line, is kept nowhere (:func:`without_secrets`): not in
history, log, trace, audit, note or error.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

BOM = b"\xef\xbb\xbf"
"""The byte order mark in UTF-8: editors and shells on Windows put it before a text; it belongs to no text."""

_KEY = r"(?:p(?:ass(?:word|wd|phrase|code)|(?<![^\W_]p)(?:ass|wd|w|in))|secret|token)"
"""How the names end of what nobody else may read; ``pin``, and the other short ones, as whole words. Each begins with a
letter of three, so that a search looks at no other place of a text."""
_NAME = re.compile(rf".*{_KEY}", re.IGNORECASE | re.DOTALL)
_VALUE = r"""(?:"[^"]*"?|'[^']*'?|\S+)"""
_ASSIGNED = re.compile(rf"(?:{_KEY}\s*=\s*|--(?:target-)?{_KEY}\s+)(?=\S)", re.IGNORECASE)
"""``password=``, behind which all of a word is secret, and the same within what quotes have kept together."""
_ASKS_FOR_NEXT = re.compile(rf"--(?:target-)?{_KEY}$", re.IGNORECASE)
_NAMED = re.compile(rf"""{_KEY}["']?\s*[=:]|--(?:target-)?{_KEY}|authorization""", re.IGNORECASE)
"""What has to be somewhere in a line that holds a secret by its name."""
_APART = re.compile(rf"((?:(?<=--)|(?<=--target-)){_KEY}\s+|{_KEY}\s+=\s+){_VALUE}", re.IGNORECASE)
"""``--password VALUE`` and ``password = VALUE``."""
_IN_DATA = re.compile(rf"""({_KEY}["']\s*:\s*)("(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|[^\s,}}\]]+)""", re.IGNORECASE)
"""``"password": "VALUE"``, as JSON and Python have it."""
_HEADER = re.compile(r"""(authorization["']?\s*[:=]\s*["']?(?:basic|bearer|digest)\s+)[^\s"']+""", re.IGNORECASE)
_USER = re.compile(r"//(?!\[[0-9A-Fa-f:.]*\][:/])[^/:]*:(?!\d*/)")
"""In a URL, up to where a password begins; a port, or an address of IPv6, is none."""
_SHORTEST_PIECE = 4
"""Characters of a part of a word that is looked for: shorter ones are in many texts."""
_LONGEST_QUOTED = 61
"""Characters of a longer word that an error quotes."""
_QUOTES = "\"'"
_WORD = re.compile(r"""(?:(?<![^\s=])(?:"[^"]*"?|'[^']*'?)|\S)+""")
"""A word as the shell's: quotes at its start, or behind ``=``, keep it together."""


def without_secrets(line: str) -> str:
    """Return a line as it may be kept or shown: with ``…`` for what looks like a password.

    That is one in a URL (``//user:…@``), behind a name such as ``password=``, ``--password`` or ``"token":``, and in an
    ``Authorization`` header.
    """
    if "@" not in line and "=" not in line and "-" not in line and ":" not in line:
        return line
    if _names_a_secret(line):
        for pattern in (_IN_DATA, _HEADER, _APART):
            line = pattern.sub(r"\1…", line)
    elif "@" not in line or "//" not in line:
        return line
    return _WORD.sub(lambda match: _word_without_secret(match[0]), line)


def words_without_secrets(words: Sequence[str]) -> list[str]:
    """Return the words of a line, their quotes taken off, as they may be kept: :func:`without_secrets`, for each."""
    line = "".join(words)
    if "@" not in line and "=" not in line and "-" not in line and ":" not in line:
        return list(words)
    kept: list[str] = []
    for word in words:
        if kept and _ASKS_FOR_NEXT.search(kept[-1]):
            kept.append("…")
        else:
            kept.append(without_secrets(_word_without_secret(word)))
    return kept


def without_secrets_of(words: Sequence[str], text: str) -> str:
    """Return a text about a line, blackened, and without what it repeats of the line's secrets.

    A text may name one that only its place in the line makes secret, or a part of it: some words are parted by commas.
    """
    for word, kept in zip(words, words_without_secrets(words), strict=True):
        if kept == word:
            continue
        for piece in (word, *word.split(",")):
            if piece in kept or len(piece) < _SHORTEST_PIECE:
                continue
            for form in (piece, piece[:_LONGEST_QUOTED]):
                text = text.replace(repr(form)[1:-1], "…").replace(form, "…")
    return without_secrets(text)


def fields_without_secrets(fields: dict[str, str]) -> dict[str, str]:
    """Return the fields of a record with ``…`` for what their names, or their values, make a secret."""
    together = "\n".join([*fields, *fields.values()])
    if not _mentions_a_secret(together) and not may_hold_secrets(together):
        return fields
    return {name: "…" if _NAME.fullmatch(name) else without_secrets(value) for name, value in fields.items()}


def may_hold_secrets(text: str) -> bool:
    """Return whether :func:`without_secrets` may change any line of a text; quick, for it is asked of all records."""
    return ("@" in text and "//" in text) or _names_a_secret(text)


def _names_a_secret(line: str) -> bool:
    """Return whether a name of a secret may be in the line."""
    return _mentions_a_secret(line) and _NAMED.search(line) is not None


def _mentions_a_secret(text: str) -> bool:
    """Return whether the letters of such a name are in a text, be it in ``mapping``."""
    low = text.lower()
    return "pass" in low or "secret" in low or "token" in low or "pw" in low or "pin" in low or "authoriz" in low


def _word_without_secret(word: str) -> str:
    """Blacken a word, with all that quotes have kept together in it."""
    if "@" in word and "//" in word:
        before, mark, host = word.rpartition("@")  # the last one: a password may have one itself
        if found := _USER.search(before):
            word = f"{before[: found.end()]}…{mark}{host}"
    if ("=" in word or "--" in word) and (found := _ASSIGNED.search(word)):
        before, last = word[: found.end()], word[-1]
        return f"{before}…{last if last in _QUOTES and last in before else ''}"
    return word


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
