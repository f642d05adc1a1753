"""The one function that cleans text from outside before it reaches a log, a file or a screen.

What can drive a terminal or forge a line is shown escaped: C0 and C1 controls and DEL (ECMA-48), the bidirectional
controls (Unicode TR 9, "Trojan Source"), the line and paragraph separators, and surrogates of bytes that are no UTF-8.
"""

from __future__ import annotations

import re

MAX_TEXT = 8192
"""Characters of one text that are kept; more end in ``…``."""

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def clean(text: str, limit: int = MAX_TEXT) -> str:
    r"""Return ``text`` as one line that drives no terminal, ``\x1b`` for ESC; ``…`` follows ``limit`` characters."""
    if len(text) > limit:
        text = text[:limit] + "…"
    return text if text.isascii() and text.isprintable() else _UNSAFE.sub(_escape, text)
