"""The one function that cleans text from outside before it reaches a log, a file or a screen.

What can drive a terminal or forge a line is shown escaped: C0 and C1 controls and DEL (ECMA-48), the bidirectional
controls (Unicode TR 9, "Trojan Source"), the line and paragraph separators, and surrogates of bytes that are no UTF-8.
"""

from __future__ import annotations

import re

MAX_TEXT = 8192
"""Characters of one text that are kept; more end in ``…``."""

_UNSAFE_RANGES = (
    (0x00, 0x1F),
    (0x7F, 0x9F),
    (0x061C, 0x061C),
    (0x200E, 0x200F),
    (0x2028, 0x202E),
    (0x2066, 0x2069),
    (0xFEFF, 0xFEFF),
    (0xD800, 0xDFFF),
)
"""First and last character of each."""

_UNSAFE = re.compile(f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in _UNSAFE_RANGES)}]")


_ESCAPES = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for first, last in _UNSAFE_RANGES
    for code in range(first, last + 1)
}


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
        if plain.translate(_SHOWN_CONTROLS) == plain:
            return text
    return text.translate(_ESCAPES) if _UNSAFE.search(text) else text  # a text of nothing else is a sender's choice
