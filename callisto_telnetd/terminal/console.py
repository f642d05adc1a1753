"""The console: one line editor joined to one wire; what a session reads lines from and writes lines to.

Rules:
* Input waits in the editor, bounded: past ``_MAX_PENDING`` bytes the wire is read no more until they are worked off.
* Output is joined and sent when the session waits for input, or after 10 ms; past ``_MAX_UNSENT`` bytes whoever
  writes waits for the peer.
* While an action runs, only an interrupt is looked for in the input; a watch looks for the keys that end it.
* A peer that types ahead for a long time gets a slice of the loop's time, then others have their turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from callisto_telnetd.errors import CallistoError, UsageError
from callisto_telnetd.terminal.editor import (
    MAX_LINE_BYTES,
    Completion,
    Event,
    Interrupt,
    Line,
    LineEditor,
    LineTooLong,
)
from callisto_telnetd.terminal.flusher import Flusher
from callisto_telnetd.terminal.rendering import encode_lines
from callisto_telnetd.trace.sanitiser import clean

_MAX_PENDING = 8 << 10
_CHANGE_BYTES = 64
"""What a change that waits counts for among the bytes that wait."""
_MAX_UNSENT = 16 << 10
_SLICE_S = 0.0005
_KEYS_A_TURN = 128
_CHUNKS_BY_HAND = 3
"""A line in two segments may be a program's that was cut on its way; of one character, a program's comes in one."""
_KEYS_BY_HAND = (b"\x1b", b"\x10", b"\x0e")
"""What a segment begins with that brings an arrow key, or Ctrl-P or Ctrl-N: no program browses."""


T = TypeVar("T")
Completer = Callable[[str], Completion]


class Wire(Protocol):
    """A door's connection, as a console needs it."""

    @property
    def writable(self) -> bool:
        """Whether the peer takes what it is sent."""

    @property
    def backlog(self) -> int:
        """How many bytes the peer has not taken yet, as far as the system tells."""

    @property
    def rows(self) -> int:
        """Of the terminal, 0 where not known."""

    def write(self, data: bytes) -> None:
        """Send bytes; what the peer does not take yet is kept."""

    async def drain(self) -> None:
        """Wait until the peer has taken enough; raises ConnectionError if it never will."""

    def pause_reading(self) -> None:
        """Read no more."""

    def resume_reading(self) -> None:
        """Read again."""


class EndOfInputError(Exception):
    """The peer's input has ended: half-closed, or Ctrl-D on an empty line."""


class InterruptedLineError(CallistoError):
    """An interrupt at a prompt or a question."""


def _line_of(event: Event) -> str:
    if isinstance(event, Line):
        return event.text
    if isinstance(event, LineTooLong):
        raise UsageError(f"the line is longer than {MAX_LINE_BYTES} bytes; nothing was done")
    if isinstance(event, Interrupt):
        raise InterruptedLineError("interrupted")
    raise EndOfInputError


class Console:
    """Lines in, lines out, and the keys that matter while something runs."""

    __slots__ = (
        "_browsed",
        "_chunks",
        "_cut",
        "_ended",
        "_flusher",
        "_interrupted",
        "_loop",
        "_muted",
        "_on_interrupt",
        "_paused",
        "_prompt",
        "_slice_end",
        "_unsent",
        "_waiter",
        "_watch",
        "_watch_to_end",
        "_wire",
        "by_hand",
        "editor",
        "input_at",
    )

    def __init__(self, wire: Wire, on_interrupt: Callable[[], None], flusher: Flusher) -> None:
        self._wire = wire
        self._loop = asyncio.get_running_loop()
        self.editor = LineEditor()
        self.editor.most_work = _KEYS_A_TURN
        self._on_interrupt = on_interrupt
        self._unsent = bytearray()
        self._flusher = flusher
        self._waiter: asyncio.Future[None] | None = None
        self._watch: Callable[[], None] | None = None
        self._watch_to_end = False
        self._prompt: str | None = None
        self._interrupted = False
        self._muted = False
        self._paused = False
        self._ended = self._cut = False
        self._slice_end = 0.0
        self._chunks = 0
        self._browsed = False
        self.by_hand = False
        """Whether the last line came key by key, as a person types it: a program sends a line in one go."""
        self.input_at = self._loop.time()
        """When the editor last took a key or text, on the loop's clock; other bytes are no use of a session."""

    # What the door hands in

    def receive(self, data: bytes) -> None:
        """Take input: the bytes that are left when Telnet commands are taken out."""
        self.editor.feed(data)
        if self._waiter is not None:
            self._chunks += 1
            self._browsed = self._browsed or data.startswith(_KEYS_BY_HAND)
            self._wake()
        elif self._watch is not None:
            self._look_for_stop()
        elif self.editor.interrupt_pending() and self.editor.take_interrupt():
            self._on_interrupt()
        self._bound_input()

    def _bound_input(self) -> None:
        waiting = self.editor.pending_bytes + _CHANGE_BYTES * self.editor.pending_changes
        if waiting > _MAX_PENDING and not self._paused:
            self._paused = True
            self._wire.pause_reading()
            if self._watch is not None:  # nobody could end the view any more: the keys would not be read
                self._watch()

    def end_of_input(self, *, cut: bool = False) -> None:
        """Note that the peer sends no more; what it has sent is worked off, a half-typed line only if not ``cut``."""
        self._ended = True
        self._cut = cut
        self._wake()
        if self._watch is not None and self._watch_to_end:
            self._watch()

    def interrupt(self) -> None:
        """IAC IP or BRK: drop what is typed and stop what runs (RFC 854)."""
        self.input_at = self._loop.time()
        if self._waiter is not None:
            self._put(self.editor.take_output() + self.editor.leave())
            self.editor.discard()
            self._interrupted = True
            self._wake()
            return
        self.editor.discard()
        if self._watch is not None:
            self._watch()
        else:
            self._on_interrupt()

    def change(self, change: Callable[[T], None], value: T) -> None:
        """Call ``change(value)``, which changes the terminal, in its place among the input that waits."""
        self.editor.change(change, value)
        self._bound_input()

    def erase_character(self) -> None:
        """IAC EC: drop the last character of the half-typed line (RFC 854)."""
        self.editor.erase_character()
        self._follow_erasing()

    def erase_line(self) -> None:
        """IAC EL: drop the half-typed line (RFC 854)."""
        self.editor.erase_line()
        self._follow_erasing()

    def abort_output(self) -> None:
        """IAC AO: let what runs go on, but show nothing more of it (RFC 854)."""
        self._unsent.clear()
        self._muted = self._waiter is None

    def show_above(self, *lines: str) -> None:
        """Print lines at once; where a prompt waits, above it, with the half-typed line shown again."""
        at_prompt = self._waiter is not None and self._prompt is not None
        data = encode_lines(lines)
        if at_prompt:
            data = self.editor.take_output() + self.editor.leave() + data + self.editor.redraw()
        self._put(data)
        self.flush()

    # What a session reads

    @property
    def at_prompt(self) -> bool:
        """Whether a line is waited for."""
        return self._waiter is not None

    async def next_line(
        self, prompt: str, *, secret: bool = False, remember: bool = True, complete: Completer | None = None
    ) -> str:
        """Print the prompt and return the next line.

        Raises:
            InterruptedLineError: an interrupt; the half-typed line is gone.
            EndOfInputError: the peer sends no more.
            UsageError: the line was too long; nothing of it is left.
        """
        editor = self.editor
        editor.prompt, editor.secret, editor.remember, editor.complete = prompt, secret, remember, complete
        self._muted = self._browsed = False
        self._chunks = 0
        self._prompt = prompt
        self._put(prompt.encode())
        try:
            if self.congested:
                await self.drain()
            while True:
                event = editor.next_event()
                if output := editor.take_output():
                    self._put(output)
                if event is not None or editor.taken:
                    editor.taken = False
                    self.input_at = self._loop.time()
                if event is not None:
                    if self.input_at > self._slice_end:
                        await asyncio.sleep(0)
                        self._slice_end = self._loop.time() + _SLICE_S
                    line = _line_of(event)
                    chunks = self._chunks
                    self.by_hand = self._browsed or (chunks > 1 and chunks >= min(_CHUNKS_BY_HAND, len(line) + 1))
                    return line
                if editor.stopped_short:
                    await (self.drain() if self.congested else asyncio.sleep(0))
                    continue
                if self._ended:
                    self._end_half_line()
                    continue
                self._get_ready_to_wait()
                waiter = self._waiter = self._loop.create_future()
                try:
                    await waiter
                finally:
                    self._waiter = None
                self._slice_end = self._loop.time() + _SLICE_S
                if self._interrupted:
                    self._interrupted = False
                    raise InterruptedLineError("interrupted")
        finally:
            self._prompt = None
            editor.secret = False

    def _end_half_line(self) -> None:
        """End the half-typed line of a peer who sends no more, unless somebody else may have cut it off."""
        if not self.editor.text:
            raise EndOfInputError
        if self._cut:
            self._put(self.editor.leave())
            self.editor.discard()
            raise UsageError("the connection's end has cut the line off; nothing was done")
        self.editor.feed(b"\r")

    def _get_ready_to_wait(self) -> None:
        if self._paused:
            self._paused = False
            self._wire.resume_reading()
        self.flush()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What a command asks (the dialogue of its context)

    async def ask(
        self, question: str, default: str | None = None, *, secret: bool = False, choices: tuple[str, ...] = ()
    ) -> str:
        """Ask one question; an empty answer is the default, and Tab completes the choices."""

        def complete(text: str) -> Completion:
            return Completion(0, tuple(choice for choice in choices if choice.startswith(text)))

        try:
            answer = await self.next_line(
                clean(question), secret=secret, remember=False, complete=complete if choices else None
            )
        except EndOfInputError:
            if self._ended:  # a key, Ctrl-D, has ended the row of the question already
                self._put(b"\r\n")
            raise InterruptedLineError("the input ended at a question; nothing was changed") from None
        except InterruptedLineError:
            raise InterruptedLineError("interrupted; nothing was changed") from None
        return answer if answer or default is None else default

    @contextmanager
    def watch(self, stop: Callable[[], None], *, until_end_of_input: bool) -> Iterator[None]:
        """Call ``stop`` at Enter, ``q`` or an interrupt while the block runs, or once the input has ended."""
        self._watch = stop
        self._watch_to_end = until_end_of_input
        try:
            self._look_for_stop()
            if self._ended and until_end_of_input:
                stop()
            yield
        finally:
            self._watch = None

    def _look_for_stop(self) -> None:
        while self.editor.next_key() is not None:
            if self._watch is not None:
                self._watch()

    def history(self) -> list[str]:
        """Return the lines that were typed, oldest first."""
        return list(self.editor.history)

    # What a session writes

    @property
    def congested(self) -> bool:
        """Whether so much waits to be sent that the writer should wait too."""
        return len(self._unsent) > _MAX_UNSENT or not self._wire.writable

    @property
    def in_use(self) -> bool:
        """Whether something runs whose output the peer takes: use of the session without input."""
        return self._waiter is None and self._wire.writable

    def say(self, *lines: str) -> None:
        """Print lines; they are sent when the session waits, at the latest in 10 ms."""
        if lines and not self._muted:
            self._put(encode_lines(lines))
            self._flusher.add(self)

    def say_encoded(self, data: bytes) -> None:
        """Print lines that were encoded already, by this door's own rules."""
        if not self._muted:
            self._put(data)
            self._flusher.add(self)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows of the terminal, 0 where not known."""
        return self.editor.columns, self._wire.rows

    @property
    def backlog(self) -> int:
        """How many bytes of output the peer has not taken yet."""
        return len(self._unsent) + self._wire.backlog

    async def drain(self) -> None:
        """Send all, and wait until the peer has taken enough."""
        self.flush()
        await self._wire.drain()

    def _follow_erasing(self) -> None:
        self._wake()  # what waits may be whole by now
        self._bound_input()
        if output := self.editor.take_output():
            self._put(output)
            self.flush()

    def _put(self, data: bytes) -> None:
        self._unsent += data

    def flush(self) -> None:
        self._flusher.discard(self)
        if self._unsent:
            data = bytes(self._unsent)
            self._unsent.clear()
            self._wire.write(data)
