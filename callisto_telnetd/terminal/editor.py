"""The line editor: wire bytes go in, lines and what the terminal is to be shown come out; no I/O.

- ``feed`` only appends. ``next_event`` works off what waits up to the next event and no further, so that the caller may
  change ``secret``, ``echo`` or ``prompt`` in between: type-ahead is taken in order, each line the way it is asked for.
- Plain typing is echoed as it was typed, then CR LF; escape sequences are only the answer to an editing key.
- After every event the line is empty and the terminal stands at the beginning of a row. Where nothing is echoed,
  the end of the prompt's row is sent alone: an answer begins on a line of its own, also in what a script reads.
- Whatever is fed, the editor holds one line of at most ``MAX_LINE_BYTES``, a bounded history, and what waits. The
  caller bounds what waits (``pending_bytes``, ``pending_changes``) by reading no more, and takes the output before it
  feeds again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from callisto_telnetd.terminal.half_line import MAX_OUTPUT_BYTES, HalfLine, size_of
from callisto_telnetd.terminal.history import Browse, History
from callisto_telnetd.terminal.keys import UNSAFE, Key, Keyboard
from callisto_telnetd.terminal.wrapping import text_width, wrap
from callisto_telnetd.trace.sanitiser import clean

MAX_LINE_BYTES = 4096
"""In UTF-8: what a terminal's own line discipline takes (N_TTY), far more than any command."""
MAX_CANDIDATES = 100
"""Shown at a time: what still fits a screen in columns."""
_DEFAULT_COLUMNS = 80
_GO_ON = ("=", "/")
"""Ends of what is only the beginning of a word: an option, the first part of a URL."""
_UNREADABLE = "\ufffd"
"""Stands for bytes that are no text."""
_COMPLETION_WORK = 64
"""Keys that take about as long as one completion: it looks through the command tree, and in some places the disk."""


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Line:
    """A line was ended; it may be empty."""

    text: str


@dataclass(frozen=True, slots=True)
class LineTooLong:
    """A line of more than ``MAX_LINE_BYTES`` was ended; nothing of it is left."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Ctrl-C: the half-typed line is gone."""


@dataclass(frozen=True, slots=True)
class EndOfInput:
    """Ctrl-D on an empty line."""


Event = Line | LineTooLong | Interrupt | EndOfInput


@dataclass(frozen=True, slots=True)
class Completion:
    """What may stand in place of ``text[start:]``, for the text that was asked about."""

    start: int
    candidates: tuple[str, ...]
    hint: str = ""
    """How the line may go on, shown below the candidates, or alone where there are none."""


_EDITS: dict[Key, Callable[[HalfLine], None]] = {
    Key.ERASE: HalfLine.erase,
    Key.DELETE: HalfLine.delete,
    Key.KILL_BEFORE: HalfLine.kill_before,
    Key.KILL_WORD: HalfLine.kill_word,
    Key.KILL_WORD_BEFORE: HalfLine.kill_word_before,
    Key.KILL_WORD_AFTER: HalfLine.kill_word_after,
    Key.KILL_AFTER: HalfLine.kill_after,
    Key.HOME: HalfLine.home,
    Key.END: HalfLine.end,
    Key.LEFT: HalfLine.left,
    Key.RIGHT: HalfLine.right,
    Key.WORD_LEFT: HalfLine.word_left,
    Key.WORD_RIGHT: HalfLine.word_right,
}
_SECRET_KEYS = frozenset({Key.ERASE, Key.KILL_BEFORE, Key.KILL_WORD, Key.KILL_WORD_BEFORE})


class LineEditor:
    """Turns the bytes of one session into its lines.

    ``echo``: the server echoes, because ECHO was agreed; without it nothing but line ends is output. ``secret``: a
    password is asked for, of which only the line end is echoed. ``remember``: lines go into the history. ``prompt``:
    one line, shown by the caller. ``columns``: of the terminal, 0 where not known. ``complete``: what may stand at the
    end of a text. ``taken``: whether a key, or text that can be read, was taken since the caller has set it to False.
    ``most_work``: keys that one call of ``next_event`` works off, 0 for all; ``stopped_short`` says that
    it is to be called again, once others have had their turn.
    """

    __slots__ = (
        "_browse",
        "_history",
        "_keys",
        "_line",
        "_output",
        "_overlong",
        "columns",
        "complete",
        "echo",
        "most_work",
        "prompt",
        "remember",
        "secret",
        "stopped_short",
        "taken",
    )

    def __init__(self, complete: Callable[[str], Completion] | None = None) -> None:
        self.echo = False
        self.secret = False
        self.remember = True
        self.prompt = ""
        self.columns = 0
        self.most_work = 0
        self.stopped_short = False
        self.taken = False
        self.complete = complete
        self._keys = Keyboard()
        self._line = HalfLine()
        self._output = self._line.output
        self._overlong = False
        self._history: History | None = None
        self._browse: Browse | None = None

    @property
    def pending_bytes(self) -> int:
        """Bytes that were fed and not looked at yet."""
        return len(self._keys)

    @property
    def pending_changes(self) -> int:
        """Changes that wait between them."""
        return self._keys.pending_changes

    @property
    def text(self) -> str:
        """The half-typed line."""
        return self._line.text

    @property
    def history(self) -> History:
        """The lines that were typed, oldest first."""
        if self._history is None:
            self._history = History()
        return self._history

    def feed(self, data: bytes) -> None:
        """Append what came from the wire, Telnet's commands taken out."""
        self._keys.feed(data)

    def change(self, change: Callable[[T], None], value: T) -> None:
        """Call ``change(value)``, which may set ``echo`` or ``columns``, in its place among what waits."""
        self._keys.change(change, value)

    def next_event(self) -> Event | None:
        """Work off what waits up to the next event; None needs more bytes, or has ``stopped_short``."""
        self.stopped_short = False
        if self._line.fresh and not self.secret:
            plain = self._keys.plain_line()
            if plain is not None:
                self._output += plain + b"\r\n" if self.echo else self._silent_end
                return self._ended(str(plain, "ascii"))
        self._sync()
        work = 0
        while not self._overlong or self._keys.skip_line():
            key = self._keys.next()
            if key is None:
                if not self._keys.make_changes():
                    break
                self._sync()
                continue
            if isinstance(key, str):
                self._type(key)
            elif event := self._press(key):
                return event
            work += _COMPLETION_WORK if key is Key.COMPLETE else 1
            if 0 < self.most_work <= work:
                self.stopped_short = True
                break
        return None

    def next_key(self) -> Key | None:
        """Return ``Key.STOP`` where a live view is to end: Enter or ``q`` on an empty line, or Ctrl-C; else None.

        Lines of other text stay, in order, for the prompt; a Ctrl-C drops those before it.
        """
        key = self._keys.take_stop(in_line=self._overlong or bool(self._line.text))
        if key is Key.INTERRUPT:
            self._forget_line()
        return key and Key.STOP

    def take_output(self) -> bytes:
        """Return what the terminal is to be sent by now."""
        if self._line.behind:
            self._line.paint(at_once=True)
        output = bytes(self._output)
        self._output.clear()
        return output

    def interrupt_pending(self) -> bool:
        """Return whether a Ctrl-C waits, whatever stands before it."""
        return self._keys.has_interrupt()

    def take_interrupt(self) -> bool:
        """Drop everything up to the last Ctrl-C that waits; False where none does."""
        found = self._keys.drop_interrupt()
        if found:
            self._forget_line()
        return found

    def discard(self) -> None:
        """Drop the half-typed line and what waits (IAC IP, IAC BRK); the terminal is sent nothing."""
        self._keys.clear()
        self._forget_line()

    def erase_character(self) -> None:
        """Do what BS does, in its place among what waits (IAC EC, RFC 854)."""
        self._keys.change(self._erase, Key.ERASE)

    def erase_line(self) -> None:
        """Empty the half-typed line, in its place among what waits (IAC EL, RFC 854)."""
        self._keys.change(self._erase, None)

    def _erase(self, key: Key | None) -> None:
        """Press a key of erasing, or erase all; of a line that is too long nothing can be taken back."""
        if self._overlong:
            return
        self._sync()
        if key is not None:
            self._press(key)
        else:
            self.taken = True
            self._line.edit(0, len(self._line.text))

    def leave(self) -> bytes:
        """Return what takes the terminal to a new row below the half-typed line, so that a notice finds room.

        Send what ``take_output`` holds first; ``redraw`` brings prompt and line back.
        """
        return (self._line.to_end() if self._line.visible else b"") + b"\r\n"

    def redraw(self) -> bytes:
        """Return prompt and half-typed line with the cursor in its place, for a terminal at the beginning of a row."""
        self._sync()
        return self.prompt.encode() if self.secret else self._line.draw()

    def _sync(self) -> None:
        self._line.visible = self.echo and not self.secret
        self._line.place(self.prompt, self.columns)

    def _type(self, run: str) -> None:
        """Insert text at the cursor, as much as the line takes."""
        line = self._line
        room = MAX_LINE_BYTES - line.size
        if len(run) * 4 > room and len(encoded := run.encode()) > room:
            self._overlong = True
            run = encoded[:room].decode(errors="ignore")
        self.taken = self.taken or bool(run.strip(_UNREADABLE))
        # Within a line each character moves the rest: one at a time, so that the output does not tell how they came.
        for part in run if line.cursor < len(line.text) else [run]:
            line.edit(line.cursor, line.cursor, part)

    def _press(self, key: Key) -> Event | None:
        if key is Key.ENTER:
            return self._end_line()
        if key is Key.INTERRUPT:
            self._end_row(b"" if self.secret else b"^C")
            return Interrupt()
        if key is Key.END_OR_DELETE:
            if not self._line.text:
                self._end_row()
                return EndOfInput()
            key = Key.DELETE
        if key in _SECRET_KEYS or not self.secret:
            self.taken = True
            self._edit(key)
        return None

    def _edit(self, key: Key) -> None:
        if key is Key.COMPLETE:
            self._complete()
        elif key is Key.CLEAR:
            self._clear()
        elif key is Key.PREVIOUS:
            self._browse = self._browse or Browse(self.history)
            self._recall(self._browse.previous(self._line.text))
        elif key is Key.NEXT:
            self._recall(self._browse.next() if self._browse else None)
        else:
            _EDITS[key](self._line)

    def _end_line(self) -> Event:
        overlong, text = self._overlong, self._line.text
        self._end_row()
        return LineTooLong() if overlong else self._ended(text)

    def _end_row(self, mark: bytes = b"") -> None:
        if self._line.behind:
            self._line.paint(at_once=True)
        self._output += self._line.to_end() + mark + b"\r\n" if self.echo else self._silent_end
        self._forget_line()

    @property
    def _silent_end(self) -> bytes:
        """What ends the row of a line that was not echoed: the prompt alone stands in it."""
        return b"\r\n" if self.prompt else b""

    def _ended(self, text: str) -> Line:
        self._browse = None
        if text and self.remember and not self.secret:
            self.history.add(text)
        return Line(text)

    def _forget_line(self) -> None:
        self._line.reset()
        self._overlong = False
        self._browse = None

    def _recall(self, text: str | None) -> None:
        if text is not None:
            self._line.edit(0, len(self._line.text), text)

    def _complete(self) -> None:
        if self.complete is None:
            return
        line = self._line
        found = self.complete(line.text[: line.cursor])
        words = list(dict.fromkeys(found.candidates))
        start = max(0, min(found.start, line.cursor))
        typed = line.text[start : line.cursor]
        columns = self.columns or _DEFAULT_COLUMNS
        hint = list(wrap(found.hint, columns)) if found.hint else []
        if not words:
            if hint and not typed:
                self._show(hint)
            return
        new = UNSAFE.sub(_UNREADABLE, _common(words))
        if len(words) == 1:
            new += "" if new.endswith(_GO_ON) else " "
        elif len(new) <= len(typed):
            if new.lower() == typed.lower() and new != typed:  # as the names are written
                line.edit(start, line.cursor, new)
            self._show([*_table(words, columns), *hint])
            return
        if new.startswith(typed):  # the rest alone is echoed, like typing
            start, new = line.cursor, new.removeprefix(typed)
        if line.size - size_of(line.text[start : line.cursor]) + size_of(new) <= MAX_LINE_BYTES:
            line.edit(start, line.cursor, new)

    def _clear(self) -> None:
        """Clear the screen (ECMA-48: CUP, ED), and show prompt and line at its top."""
        if self._line.visible and len(self._output) <= MAX_OUTPUT_BYTES:
            self._output += b"\x1b[H\x1b[2J" + self._line.draw()

    def _show(self, rows: Sequence[str]) -> None:
        """Put ``rows`` below the line, and prompt and line below them."""
        if self._line.visible and len(self._output) <= MAX_OUTPUT_BYTES:
            self._output += self.leave() + "".join(f"{row}\r\n" for row in rows).encode() + self._line.draw()


def _common(words: Sequence[str]) -> str:
    """Return the longest beginning that all the words have."""
    low, high = min(words), max(words)
    size = next((at for at, character in enumerate(low) if high[at] != character), len(low))
    return low[:size]


def _table(words: Sequence[str], columns: int) -> list[str]:
    """Return the words in columns, row by row, and a last row that counts those left out."""
    cells = [clean(word, columns - 2) for word in words[:MAX_CANDIDATES]]
    width = max(map(text_width, cells)) + 2
    per_row = max(1, columns // width)
    padded = [cell + " " * (width - text_width(cell)) for cell in cells]
    rows = ["".join(padded[at : at + per_row]).rstrip() for at in range(0, len(padded), per_row)]
    more = len(words) - len(cells)
    return [*rows, f"and {more} more"] if more else rows
