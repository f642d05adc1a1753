"""A command's usage line as data: the words that have their place, options, flags; pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

_CHUNK = re.compile(r"\[(?:[^\[\]]|\[[^\[\]]*\])*\]|[^\s\[\]]+")
"""A word, or what stands in brackets; brackets may stand in brackets once."""
_TOKEN = re.compile(r"[^\s\[\]]+")
_OPTION = re.compile(r"(?P<key>[a-z][a-z-]*)=(?P<value>\S*)")
_FLAG = re.compile(r"[a-z][a-z-]*")
_CHOICES = re.compile(r"[a-z]+(?:\|[a-z]+)+")
_NAME = re.compile(r"\[?[A-Z]+(?:\|[a-z]+)?\]?")
_LAST = "yes"
"""The word that no other may follow."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What ``NAME plan=PLAN [format=text|jsonl] [yes]`` says."""

    chunks: tuple[str, ...]
    """Its words, and what stands in brackets as one."""
    places: int
    """How many of its first words have to be there, in their order: 1, the NAME."""
    options: dict[str, tuple[str, ...]]
    """The words ``key=``, and the values that are named, in ``|``: ``{"plan": (), "format": ("text", "jsonl")}``."""
    flags: tuple[str, ...]
    """Words that stand for themselves: ``("yes",)``."""

    @property
    def begins_with_name(self) -> bool:
        """Whether one name stands first, be it optional: ``[FILE]``, ``NAME``."""
        return bool(self.chunks) and _NAME.fullmatch(self.chunks[0]) is not None

    def open_words(self, before: Sequence[str]) -> Iterator[str]:
        """Yield the options and flags that may follow the words before; none until those with a place are there."""
        given = set(keys_of(before)) | {word.lower() for word in before if word.lower() in self.flags}
        plain = sum("=" not in word and word.lower().removeprefix("--") not in given for word in before)
        if plain < self.places or _LAST in given:
            return
        for key, values in self.options.items():
            if key not in given:
                yield from (f"{key}={value}" for value in values) if values else (f"{key}=",)
        yield from (flag for flag in self.flags if flag not in given)

    def rest(self, before: Sequence[str]) -> str:
        """Return what of the usage is still to come behind the words before: ``VALUE [note=TEXT]``."""
        plain = sum("=" not in word for word in before)
        return " ".join(self.chunks[min(plain, self.places) :])


def keys_of(words: Sequence[str]) -> list[str]:
    """Return the keys of the options among the words: ``note`` of ``note=why``, ``--note=why`` and ``--note``."""
    named = [word.lower().partition("=") for word in words if "=" in word or word.startswith("--")]
    return [key.removeprefix("--") for key, _, _ in named]


@lru_cache(maxsize=256)
def read_usage(text: str) -> Usage:
    """Return a usage line as data."""
    chunks = tuple(_CHUNK.findall(text))
    options: dict[str, tuple[str, ...]] = {}
    flags: list[str] = []
    places = 0
    for chunk in chunks:
        optional = chunk.startswith("[")
        for token in _TOKEN.findall(chunk):
            if option := _OPTION.fullmatch(token):
                value = option["value"]
                options[option["key"]] = tuple(value.split("|")) if _CHOICES.fullmatch(value) else ()
            elif optional and _FLAG.fullmatch(token):
                flags.append(token)
            elif not optional and not options:
                places += 1
    return Usage(chunks, places, options, tuple(flags))
