"""The words behind a command: taking options off, and refusing what is too much or too little."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from callisto_telnetd import quantities
from callisto_telnetd.errors import UsageError, listed, quoted
from callisto_telnetd.secret_text import words_without_secrets

FLOWING_OPTIONS = ("note", "plan")
"""The options whose texts go on over the words behind them."""


def take_options(
    words: Sequence[str], allowed: Collection[str], flags: Collection[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """Part plain words from ``key=value`` options of the allowed keys.

    The text of ``note=`` and of ``plan=`` goes on to the next option, to a word of ``flags``, or to the end of the
    line, so it needs no quotes; what looks like a password in a note is left out, for many read it. ``--key value`` and
    ``--key=value``, as people write them at a command line, are the same as ``key=value``.

    Raises:
        UsageError: an option stands twice.
    """
    plain: list[str] = []
    options: dict[str, str] = {}
    flowing = ""
    notes: list[str] = []
    rest = iter(words)
    for word in rest:
        key, mark, value = word.partition("=")
        key = key.lower()
        if key.startswith("--") and key[2:] in allowed:
            key = key[2:]
            if not mark:
                mark, value = "=", next(rest, "")
        if mark and key in allowed:
            if key in options:
                raise UsageError(f"{key}= stands twice")
            options[key] = value
            flowing = key if key in FLOWING_OPTIONS else ""
            notes += [value] * (key == "note")
        elif flowing and word.lower().removeprefix("--") not in flags:
            options[flowing] = f"{options[flowing]} {word}".strip()
            notes += [word] * (flowing == "note")
        else:
            flowing = ""
            plain.append(word)
    if notes:
        kept = words_without_secrets(notes)
        options["note"] = " ".join(kept).strip() if kept[1:] else kept[0]
    return plain, options


def take_yes(words: Sequence[str]) -> tuple[list[str], bool]:
    """Take ``yes`` off the end of the words, and say whether it was there."""
    confirmed = bool(words) and words[-1].lower() == "yes"
    return (list(words[:-1]), True) if confirmed else (list(words), False)


def require_count(words: Sequence[str], least: int, most: int, usage: str) -> None:
    """Refuse too few or too many words.

    Raises:
        UsageError: shows the usage.
    """
    if not least <= len(words) <= most:
        raise UsageError(f"usage: {usage}")


def parse_whole(text: str, name: str, least: int, most: int) -> int:
    """Return a whole number.

    Raises:
        UsageError: names the range.
    """
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most:
        return int(text)
    raise UsageError(f"{name}: {quoted(text)} is not a whole number from {least} to {most}")


_SECONDS = {"s": 1, "m": 60, "h": 3600}


def parse_duration(text: str, name: str, most_s: int = 86_400) -> float:
    """Return the seconds of ``30s``, ``5m``, ``1h`` or a plain number.

    Raises:
        UsageError: names what is allowed.
    """
    number, unit = (text[:-1], text[-1:].lower()) if not text[-1:].isdigit() else (text, "s")
    if number.isascii() and number.isdigit() and len(number) <= 6 and unit in _SECONDS:
        seconds = int(number) * _SECONDS[unit]
        if 1 <= seconds <= most_s:
            return float(seconds)
    raise UsageError(f"{name}: {quoted(text)} is not a time such as 30s, 5m or 1h, from 1s to {most_s // 3600}h")


def parse_bytes(text: str, name: str, least: int, most: int) -> int:
    """Return the bytes of ``10M``, ``64k`` or a plain number.

    Raises:
        UsageError: names what is allowed.
    """
    size = quantities.parse_bytes(text)
    if size is not None and least <= size <= most:
        return size
    raise UsageError(f"{name}: {quoted(text)} is not a size such as 64k, 10M or 1G, from {least} to {most} bytes")


def parse_words(text: str, name: str, allowed: Sequence[str]) -> str:
    """Return the one of the allowed words that the text is.

    Raises:
        UsageError: names them.
    """
    if text.lower() in allowed:
        return text.lower()
    raise UsageError(f"{name}: {quoted(text)} is not {listed(list(allowed))}")
