"""The lines that were typed before: bounded, and browsed without losing the line being typed."""

from __future__ import annotations

from collections.abc import Iterator

from callisto_telnetd.secret_text import without_secrets

MAX_LINES = 100
MAX_TEXT_BYTES = 16 * 1024
"""In all lines together: a session's memory does not grow with what is typed into it."""


class History:
    """The last lines, oldest first: none is empty, and none repeats the one before it."""

    __slots__ = ("_lines", "_size")

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._size = 0

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int) -> str:
        return self._lines[index]

    def add(self, line: str) -> None:
        """Keep ``line`` as the newest, without secrets; the oldest lines give way to it."""
        lines, line = self._lines, without_secrets(line)
        if not line or (lines and lines[-1] == line) or line.isspace():
            return
        size = _size(line)
        if size > MAX_TEXT_BYTES:
            return
        lines.append(line)
        self._size += size
        while len(lines) > MAX_LINES or self._size > MAX_TEXT_BYTES:
            self._size -= _size(lines.pop(0))

    def forget_last(self) -> None:
        """Forget the newest line: it may hold what nobody should read again."""
        if self._lines:
            self._size -= _size(self._lines.pop())


class Browse:
    """A walk through a history that begins and ends at the half-typed line; valid until a line is added."""

    __slots__ = ("_draft", "_history", "_index")

    def __init__(self, history: History) -> None:
        self._history = history
        self._draft = ""
        self._index = len(history)

    def previous(self, typed: str) -> str | None:
        """Return the line before, or None at the oldest; ``typed`` is kept if it is the half-typed line."""
        if self._index == 0:
            return None
        if self._index == len(self._history):
            self._draft = typed
        self._index -= 1
        return self._history[self._index]

    def next(self) -> str | None:
        """Return the line after, the half-typed one last, or None where that is shown already."""
        if self._index == len(self._history):
            return None
        self._index += 1
        return self._draft if self._index == len(self._history) else self._history[self._index]


def _size(line: str) -> int:
    """Return the most bytes that the line takes in memory: one wide character makes all of them wide (PEP 393)."""
    return len(line) if line.isascii() else 4 * len(line)
