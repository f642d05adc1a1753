"""What is typed: wire bytes become keys and text, one at a time.

- Bytes wait as they came; nothing behind the key that is asked for is looked at, so that the reader may change how it
  takes them after each line.
- CR LF, CR NUL, CR and LF are one line end each. A CR ends the line at once; the LF or NUL that belongs to it is
  swallowed with it, or from the next feed.
- A sequence (UTF-8, or behind an ESC) that is not whole yet waits for its rest, without a clock: ESC, a pause and ``b``
  are Meta-b, as in readline. An escape sequence of any kind is a key or is dropped whole.
- A change of how the reader takes what is typed has its place between the bytes, and is made when those before it are
  worked off. A key that begins before the place is taken before the change; a character is not, unless it is whole.
- Whatever the bytes are: nothing raises, and nothing is scanned twice.
"""

from __future__ import annotations

import codecs
import re
import sys
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, TypeVar

from callisto_telnetd.terminal.escapes import LONGEST_KEY_BYTES, escape_size

T = TypeVar("T")

_RUN_BYTES = 4096
"""Text taken at a time: the longest line, so that a flood makes no long copies."""
_COMPACT_BYTES = 4096
"""Bytes worked off that may lie before those that wait."""
_LONGEST_CHARACTER = 4
"""In UTF-8."""

_CR, _LF, _NUL, _ESC, _DEL, _ETX, _EOT = 0x0D, 0x0A, 0x00, 0x1B, 0x7F, 0x03, 0x04
_BS = 0x08

_LINE_END = re.compile(rb"\r[\n\0]?|\n")
_PLAIN_LINE = re.compile(rb"([ -~]*+)(?:\r[\n\0]?|\n)")
_LINE_STOP = re.compile(rb"[\r\n\x03]")
_TEXT = re.compile(rb"[ -~\x80-\xff]+")
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What may not reach a screen as it came: C0, DEL, C1, bidi controls and the Unicode line ends."""


class Key(Enum):
    """A key that does something; text comes as ``str``."""

    ENTER = auto()
    INTERRUPT = auto()
    END_OR_DELETE = auto()
    ERASE = auto()
    DELETE = auto()
    KILL_BEFORE = auto()
    KILL_WORD = auto()
    KILL_WORD_BEFORE = auto()
    KILL_WORD_AFTER = auto()
    KILL_AFTER = auto()
    HOME = auto()
    END = auto()
    LEFT = auto()
    RIGHT = auto()
    WORD_LEFT = auto()
    WORD_RIGHT = auto()
    PREVIOUS = auto()
    NEXT = auto()
    COMPLETE = auto()
    CLEAR = auto()
    STOP = auto()
    """Ends a live view; only :meth:`LineEditor.next_key` gives it."""


_CONTROLS = {
    0x01: Key.HOME,
    0x02: Key.LEFT,
    _ETX: Key.INTERRUPT,
    _EOT: Key.END_OR_DELETE,
    0x05: Key.END,
    0x06: Key.RIGHT,
    _BS: Key.ERASE,
    0x09: Key.COMPLETE,
    _LF: Key.ENTER,
    0x0B: Key.KILL_AFTER,
    0x0C: Key.CLEAR,
    _CR: Key.ENTER,
    0x0E: Key.NEXT,
    0x10: Key.PREVIOUS,
    0x15: Key.KILL_BEFORE,
    0x17: Key.KILL_WORD,
    _DEL: Key.ERASE,
}
_ARROWS = {
    b"A": Key.PREVIOUS,
    b"B": Key.NEXT,
    b"C": Key.RIGHT,
    b"D": Key.LEFT,
    b"H": Key.HOME,
    b"F": Key.END,
}
_BY_WORD = {Key.LEFT: Key.WORD_LEFT, Key.RIGHT: Key.WORD_RIGHT, Key.DELETE: Key.KILL_WORD_AFTER}
"""What a key does with Ctrl or Alt."""
_MODIFIED = {b"%d" % number: (number - 1) & 0b1110 > 0 for number in range(2, 17)}
"""xterm's number of a combination: 1 and the sum of Shift 1, Alt 2, Ctrl 4, Meta 8; whether it is more than Shift."""


def _sequences() -> dict[bytes, Key]:
    """Return the keys by what follows their ESC, as xterm, VTE, PuTTY, rxvt and the Linux console send them."""
    plain = {introducer + final: key for introducer in (b"[", b"O") for final, key in _ARROWS.items()}
    plain |= {b"[1~": Key.HOME, b"[7~": Key.HOME, b"[4~": Key.END, b"[8~": Key.END, b"[3~": Key.DELETE}
    keys = dict(plain)
    for number, by_word in _MODIFIED.items():
        for final, key in _ARROWS.items():
            for form in (b"[1;%b%b", b"[%b%b", b"O1;%b%b", b"O%b%b"):
                keys[form % (number, final)] = _BY_WORD.get(key, key) if by_word else key
        keys[b"[3;%b~" % number] = Key.KILL_WORD_AFTER if by_word else Key.DELETE
    keys |= {b"\x1b" + sequence: _BY_WORD.get(key, key) for sequence, key in plain.items()}  # Alt as an ESC before it
    keys |= {b"Od": Key.WORD_LEFT, b"Oc": Key.WORD_RIGHT, b"[3^": Key.KILL_WORD_AFTER}  # rxvt's Ctrl
    for letters, key in ((b"bB", Key.WORD_LEFT), (b"fF", Key.WORD_RIGHT), (b"dD", Key.KILL_WORD_AFTER)):
        keys |= {bytes([letter]): key for letter in letters}
    return keys | {bytes([erase]): Key.KILL_WORD_BEFORE for erase in (_DEL, _BS)}


_SEQUENCES = _sequences()


class _Swallow(Enum):
    """What the next feed loses if it begins with it."""

    NOTHING = auto()
    REST_OF_CR = auto()
    LINE_END = auto()


class Keyboard:
    """The bytes that wait, and the keys they make."""

    __slots__ = ("_bytes", "_changes", "_start", "_swallow", "_view")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._start = 0
        self._swallow = _Swallow.NOTHING
        self._view: tuple[int, int, bool] | None = None
        self._changes: deque[tuple[int, Callable[[Any], None], Any]] = deque()
        """Changes that wait, each with its place in the bytes."""

    def __len__(self) -> int:
        return len(self._bytes) - self._start

    @property
    def pending_changes(self) -> int:
        """How many changes wait."""
        return len(self._changes)

    def feed(self, data: bytes) -> None:
        """Append what came from the wire."""
        if self._swallow is not _Swallow.NOTHING and data:
            data = data[self._swallowed(data) :]
        if self._start > _COMPACT_BYTES:
            del self._bytes[: self._start]
            self._move_changes(0, self._start)
            self._start, self._view = 0, None
        self._bytes += data

    def clear(self) -> None:
        """Forget what waits; changes between it are due."""
        if self:
            self._advance(len(self._bytes))

    def change(self, change: Callable[[T], None], value: T) -> None:
        """Call ``change(value)`` once the bytes that wait now are worked off: at once where none do."""
        if self or self._changes:
            self._changes.append((len(self._bytes), change, value))
        else:
            change(value)

    def make_changes(self) -> bool:
        """Make the changes whose turn has come, and return whether there were any."""
        made = False
        while self._changes and self._is_due(self._changes[0][0]):
            _, change, value = self._changes.popleft()
            change(value)
            made = True
        return made

    def _is_due(self, place: int) -> bool:
        """Return whether nothing stands before the place, or only the beginning of a character."""
        if place <= self._start or place - self._start >= _LONGEST_CHARACTER:
            return place <= self._start
        before = self._bytes[self._start : place]
        return before[0] >= 0x80 and not codecs.utf_8_decode(before, "replace")[1]

    def _move_changes(self, start: int, end: int) -> None:
        """Keep the changes in their places where the bytes from ``start`` to ``end`` are taken out."""
        for at, (place, change, value) in enumerate(self._changes):
            if place > start:
                self._changes[at] = (max(start, place - (end - start)) if place > end else start, change, value)

    def plain_line(self) -> bytes | None:
        """Take the next line if it is whole and plain ASCII without any editing; None says nothing about what waits."""
        if self._changes:
            return None
        match = _PLAIN_LINE.match(self._bytes, self._start, self._start + _RUN_BYTES + 2)
        if match is None:
            return None
        line: bytes = match[1]
        if len(line) > _RUN_BYTES:
            return None
        self._advance(match.end())
        return line

    def next(self) -> str | Key | None:
        """Take the next key or run of text; None needs more bytes, or :meth:`make_changes`."""
        while self and not (self._changes and self._is_due(self._changes[0][0])):
            byte = self._bytes[self._start]
            if byte == _ESC:
                size = self._escape_size(self._start)
                if not size:
                    return None
                key = None
                if size <= LONGEST_KEY_BYTES:
                    key = _SEQUENCES.get(bytes(self._bytes[self._start + 1 : self._start + size]))
                self._advance(self._start + size)
            elif byte >= 0x20 and byte != _DEL:
                return self._run()
            else:
                key = _CONTROLS.get(byte)
                self._advance(self._line_end(self._start) or self._start + 1)
            if key is not None:
                return key
        return None

    def skip_line(self) -> bool:
        """Drop what stands before the next line end or Ctrl-C; False drops all, for none has come yet."""
        stop = _LINE_STOP.search(self._bytes, self._start)
        if stop is None:
            self.clear()
        elif stop.start() > self._start:
            self._advance(stop.start())
        return stop is not None

    def has_interrupt(self) -> bool:
        """Return whether a Ctrl-C waits, whatever stands before it."""
        return self._bytes.find(_ETX, self._start) >= 0

    def drop_interrupt(self) -> bool:
        """Drop everything up to the last Ctrl-C; False where none waits."""
        at = self._bytes.rfind(_ETX, self._start)
        if at >= 0:
            self._advance(at + 1)
        return at >= 0

    def take_stop(self, *, in_line: bool) -> Key | None:
        """Take what ends a live view: STOP for Enter or ``q`` on an empty line, INTERRUPT for Ctrl-C and all before it.

        Every other line stays for the prompt. ``in_line``: the first byte that waits continues a line.
        """
        waiting = self._bytes
        line, at, typed = self._view or (self._start, self._start, in_line)
        while at < len(waiting):
            if typed:
                stop = _LINE_STOP.search(waiting, at)
                at = stop.start() if stop else len(waiting)
                if not stop:
                    break
            byte, end = waiting[at], self._line_end(at)
            if byte == _ETX:
                self._advance(at + 1)
                return Key.INTERRUPT
            if end and (typed or (at == line and byte == _LF and self._ends_in_cr(at))):
                line, at, typed = end, end, False
            elif end or byte in b"qQ":
                self._take_out(line, end or self._line_end(at + 1) or at + 1)
                return Key.STOP
            else:  # keys that are no text leave the line empty
                size = self._escape_size(at) if byte == _ESC else 1
                if not size:
                    break
                typed = 0x20 <= byte != _DEL
                at += size
                line = at if byte == _EOT else line
        self._view = (line, at, typed)
        return None

    def _take_out(self, line: int, end: int) -> None:
        """Remove one line of those that wait; what directly follows its last byte on the wire still belongs to it."""
        if end == len(self._bytes):
            last = self._bytes[-1]
            self._swallow = (
                _Swallow.LINE_END if last in b"qQ" else _Swallow.REST_OF_CR if last == _CR else _Swallow.NOTHING
            )
        if self._ends_in_cr(line):
            self._bytes[line - 1] = _LF  # nothing that comes now is the rest of that CR
        del self._bytes[line:end]
        self._move_changes(line, end)
        self._view = None

    def _ends_in_cr(self, at: int) -> bool:
        return at > self._start and self._bytes[at - 1] == _CR

    def _swallowed(self, data: bytes) -> int:
        """Return how many bytes at the beginning of ``data`` belong to what was taken already."""
        if self._swallow is _Swallow.REST_OF_CR:
            self._swallow = _Swallow.NOTHING
            return 1 if data[0] in b"\n\0" else 0
        size = _reach(_LINE_END, data)
        self._swallow = _Swallow.REST_OF_CR if data[:2] == b"\r" else _Swallow.NOTHING
        return size

    def _advance(self, end: int) -> None:
        """Leave behind what stands before ``end``."""
        self._view = None
        waiting = self._bytes
        if end < len(waiting):
            self._start = end
            return
        if waiting[-1] == _CR:
            self._swallow = _Swallow.REST_OF_CR
        if self._changes:
            self._move_changes(0, end)
        waiting.clear()
        self._start = 0

    def _escape_size(self, at: int) -> int:
        """Return how many bytes the escape sequence at ``at`` takes; 0 where its rest has not come."""
        before = len(self._bytes)
        size = escape_size(self._bytes, at)
        if len(self._bytes) < before:
            self._move_changes(len(self._bytes), before)
        return size

    def _line_end(self, at: int) -> int:
        """Return where the line end at ``at`` ends; 0 where none stands there."""
        return _reach(_LINE_END, self._bytes, at)

    def _run(self) -> str | None:
        """Take the text up to the next control character; None where only the beginning of a character waits."""
        bound = min(self._start + _RUN_BYTES, self._changes[0][0] if self._changes else len(self._bytes))
        end = _reach(_TEXT, self._bytes, self._start, bound)
        text, used = codecs.utf_8_decode(self._bytes[self._start : end], "replace", end < bound)
        if not used:
            return None
        self._advance(self._start + used)
        return text if text.isascii() else UNSAFE.sub("\ufffd", text)


def _reach(pattern: re.Pattern[bytes], data: bytes | bytearray, at: int = 0, bound: int = sys.maxsize) -> int:
    """Return where the match of ``pattern`` at ``at`` ends; 0 without one."""
    match = pattern.match(data, at, bound)
    return match.end() if match else 0
