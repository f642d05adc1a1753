"""The one function that cleans text from outside before it reaches a log, a file, a page or a screen.

What can drive a terminal, forge a line or hide in one is shown as its code:

* what is not printable (Unicode's C and Z categories, but for the blank): C0 and C1 controls and DEL (ECMA-48), format
  characters such as the bidirectional controls (TR 9, "Trojan Source"), the soft hyphen, U+200B and the tags from
  U+E0000 on, separators of lines, other kinds of space, surrogates of bytes that are no UTF-8;
* what is printable and shows nothing: fillers (U+3164), the blank of Braille (U+2800), variation selectors.

Letters of every script, combining marks and emoji stay, with what joins an emoji (U+FE0F, U+200D) between its parts.
"""

from __future__ import annotations

import re
from functools import lru_cache

MAX_TEXT = 8192
"""Characters of one text that are kept; more end in ``…``."""

_SHOWS_NOTHING = (
    r"\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
    r"\U00016fe4\U0001d159\U000e0100-\U000e01ef"
)
"""Printable for Python, and blank (Unicode's Default_Ignorable_Code_Point, and blank symbols)."""
_HIDDEN = re.compile(f"[{_SHOWS_NOTHING}]")
_PICTURE = (
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2190-\u21ff\u2300-\u27bf\u2900-\u297f\u2b00-\u2bff"
    "\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
_JOINT = re.compile(
    f"((?<={_PICTURE})[\ufe0e\ufe0f]"
    "|(?<=[0-9#*])\ufe0f(?=\u20e3)"
    f"|(?:(?<={_PICTURE})|(?<={_PICTURE}\ufe0f))\u200d(?={_PICTURE}))"
)
"""What makes one emoji of several characters (TR 51): it hides nothing where it stands between their pictures."""
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F)}
_MOST_REMEMBERED = 4096


_SHOWN_CONTROLS = bytes(0x3F if code < 0x20 or code == 0x7F else code for code in range(256))
"""A table that changes every control character of ASCII, and nothing else."""


_NO_UTF8 = {0xDC00 + byte: f"\\x{byte:02x}" for byte in range(0x80, 0x100)}


def decode(data: bytes) -> str:
    r"""Return the bytes as text, ``\xff`` for a byte that is no UTF-8: error handler "backslashreplace", but faster."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogateescape").translate(_NO_UTF8)


def clean_bytes(data: bytes, limit: int = MAX_TEXT) -> str:
    """Return bytes from outside as :func:`clean` text."""
    if len(data) <= limit and data.isascii() and data.translate(_SHOWN_CONTROLS) == data:
        return data.decode("ascii")
    return clean(decode(data), limit)


def clean(text: str, limit: int = MAX_TEXT) -> str:
    r"""Return ``text`` as one line that drives no terminal, ``\x1b`` for ESC; ``…`` follows ``limit`` characters."""
    if len(text) > limit:
        text = text[:limit] + "…"
    if text.isascii():
        plain = text.encode("ascii")  # comparing with a translation looks at a character in under a nanosecond
        return text if plain.translate(_SHOWN_CONTROLS) == plain else text.translate(_ESCAPES)
    if text.isprintable() and _HIDDEN.search(text) is None:
        return text
    parts = _JOINT.split(text)  # every second one is a joint
    return "".join([part if at % 2 else "".join(map(_shown, part)) for at, part in enumerate(parts)])


def clean_json(document: str) -> str:
    r"""Return a line of JSON that says the same with nothing hidden in it: ``\u200b`` in its strings (RFC 8259, 7)."""
    if document.isprintable() and (document.isascii() or _HIDDEN.search(document) is None):
        return document
    parts = _JOINT.split(document)
    return "".join([part if at % 2 else "".join(map(_shown_in_json, part)) for at, part in enumerate(parts)])


def is_hidden(letter: str) -> bool:
    """Return whether a character is shown as its code: it is not printable, or nothing is seen of it."""
    return not letter.isprintable() or _HIDDEN.match(letter) is not None


@lru_cache(_MOST_REMEMBERED)
def _shown(letter: str) -> str:
    code = ord(letter)
    if not is_hidden(letter):
        return letter
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


@lru_cache(_MOST_REMEMBERED)
def _shown_in_json(letter: str) -> str:
    if not is_hidden(letter):
        return letter
    code = ord(letter)
    if code < 0x10000:
        return f"\\u{code:04x}"
    return f"\\u{0xD7C0 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
