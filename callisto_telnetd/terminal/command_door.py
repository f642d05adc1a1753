"""One command without a terminal: words in, frames out; the command line's door, with a server or without.

A frame is what the command line does next: print a line or JSON, say an error, ask, end with an exit code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from callisto_telnetd.errors import UsageError
from callisto_telnetd.menus.answers import Answer, Block, Done, Fact, Screen
from callisto_telnetd.menus.arguments import require_count
from callisto_telnetd.menus.context import Context, Parts, TerminalSize
from callisto_telnetd.menus.everywhere import EVERYWHERE
from callisto_telnetd.menus.main import MAIN_MENU
from callisto_telnetd.menus.resolver import resolve
from callisto_telnetd.menus.tree import Command, Facts, Menu
from callisto_telnetd.menus.web_door import WEB_DOOR
from callisto_telnetd.origin import Origin
from callisto_telnetd.terminal.execution import failure_of, perform, show_menu
from callisto_telnetd.terminal.rendering import document_line, json_of, line_of, lines_of, redrawn
from callisto_telnetd.trace.sanitiser import clean

MAX_WORDS = 64
_JOINED = 64 << 10
"""Characters of lines that go into one frame; a frame of the local socket may have 1 MiB."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    words: list[str]
    as_json: bool = False
    input: str | None = None
    """The text of a file that goes with the command."""
    secrets: tuple[str, ...] | None = None
    """Passwords read from standard input: the answers to the questions for them, in their order."""
    terminal: bool = False
    """Whether somebody is there to answer questions."""
    size: TerminalSize | None = None
    """Of the terminal that the answers are shown on, where they are."""
    source: str | None = None
    """The address of the browser that the web server asks for; the door is then ``web``."""
    session: int | None = None
    """The ticket of that browser's session; its account is the one who acts."""


@dataclass(frozen=True, slots=True)
class Out:
    """A line for standard output."""

    text: str


@dataclass(frozen=True, slots=True)
class Err:
    """A line for standard error."""

    text: str


Frame = Out | Err
Emit = Callable[[Frame], None]
Ask = Callable[[str, bool], Awaitable[str]]


@dataclass(slots=True)
class CommandDoor:
    """Shows answers as frames, and asks through the command line."""

    request: Request
    emit: Emit
    asking: Ask
    draining: Callable[[], Awaitable[None]]
    facts: Facts = "none"
    document: bool = False
    congested: bool = True
    """Every answer is drained: whoever reads slowly slows the command."""
    waiting: Callable[[], int] = lambda: 0
    """Says how many bytes of the frames are not taken yet."""
    cut: Callable[[], None] = lambda: None
    """Cuts the caller off."""
    _collected: list[Any] = field(default_factory=list)
    _secrets_given: int = 0
    _screen_lines: int = 0
    stop: Callable[[], None] | None = None
    changes: bool = False
    """Whether the command changes something: an interrupt then leaves it alone, but at a question."""
    committed: bool = False
    """Whether an interrupt leaves the command alone where it runs in the caller's own process."""

    def show(self, answer: Answer) -> None:
        """Turn an answer into frames."""
        if self.request.as_json:
            self._show_data(answer)
        elif isinstance(answer, Block):
            self._emit_joined(answer.lines)  # clean already
        elif isinstance(answer, Screen) and self.request.size is not None:
            self.emit(Out(redrawn(answer, self._screen_lines, self.request.size.columns)))
            self._screen_lines = len(answer.lines)
        else:
            is_content = not isinstance(answer, Done) and (self.document or self.facts == "stream")
            for line in lines_of(answer):
                text = document_line(line) if is_content else line_of(line)
                self.emit(Err(text) if self.document and not is_content else Out(text))

    def _show_data(self, answer: Answer) -> None:
        if isinstance(answer, Block):
            self._emit_joined([line.decode() for line in answer.json])
        elif isinstance(answer, Fact) and self.facts == "stream":
            self.emit(Out(json_of(answer.data)))
        elif isinstance(answer, Fact):
            self._collected.append(answer.data)

    def _emit_joined(self, lines: Sequence[str]) -> None:
        """Put as many lines into a frame as it may hold, whatever they are escaped to."""
        joined: list[str] = []
        size = 0
        for line in lines:
            if joined and size + len(line) > _JOINED:
                self.emit(Out("\n".join(joined)))
                joined, size = [], 0
            joined.append(line)
            size += len(line)
        if joined:
            self.emit(Out("\n".join(joined)))

    @property
    def redrawable(self) -> TerminalSize | None:
        """The size of the terminal that the answers are shown on; a pipe has none."""
        return None if self.request.as_json else self.request.size

    @property
    def stop_keys(self) -> str:
        """What ends a view: a command line reads no keys."""
        return "Ctrl-C"

    @property
    def asks_a_person(self) -> bool:
        """Whether the command line has a terminal, and no answers came with the request."""
        return self.request.terminal

    @property
    def brings_password(self) -> bool:
        """Whether a password of the request is left; an empty one is none."""
        return any((self.request.secrets or ())[self._secrets_given :])

    @property
    def wants_json(self) -> bool:
        """Whether ``--json`` was given."""
        return self.request.as_json

    def backlog(self) -> int:
        """Return how many bytes the caller has not taken yet."""
        return self.waiting()

    def hang_up(self, reason: str) -> None:
        """Cut off a caller who takes nothing any more."""
        self.cut()

    def finish(self) -> None:
        """Print the collected facts as one JSON document."""
        if self.request.as_json and self.facts == "one":
            self.emit(Out(json_of({key: value for each in self._collected for key, value in each.items()})))
        elif self.request.as_json and self.facts == "many":
            self.emit(Out(json_of(self._collected)))

    def fail(self, text: str, exit_code: int) -> None:
        """Say what is wrong; to programs as one JSON document, together with the facts that there are already."""
        error = {"error": text, "exit": exit_code}
        if not self.request.as_json:
            self.emit(Err(f"Error: {text}"))
        elif self.facts == "many" and self._collected:
            self.emit(Out(json_of([*self._collected, error])))
        elif self.facts == "one":
            self._collected.append(error)
            self.finish()
        else:
            self.emit(Out(json_of(error)))

    async def drain(self) -> None:
        """Wait until the frames are taken."""
        await self.draining()

    async def ask(
        self, question: str, default: str | None = None, *, secret: bool = False, choices: tuple[str, ...] = ()
    ) -> str:
        """Answer from what came with the request, or ask at the terminal.

        Raises:
            UsageError: nobody is there to answer.
        """
        if secret and self.request.secrets is not None and self._secrets_given < len(self.request.secrets):
            self._secrets_given += 1
            return self.request.secrets[self._secrets_given - 1]
        if not self.request.terminal:
            hint = "give it with --password-stdin" if secret else "add 'yes' as the last word"
            raise UsageError(
                f"{question.removesuffix(' [y/N]: ').rstrip(': ')}: nobody to ask without a terminal; {hint}"
            )
        answer = await self.asking(clean(question), secret)
        return answer if answer or default is None else default

    @contextmanager
    def watch(self, stop: Callable[[], None], *, until_end_of_input: bool) -> Iterator[None]:
        """Call ``stop`` when the command line is interrupted."""
        self.stop = stop
        try:
            yield
        finally:
            self.stop = None

    def commit(self) -> None:
        """Have no interrupt end the command where it runs in the caller's own process; elsewhere it ends the call."""
        self.committed = True

    def history(self) -> list[str]:
        """Return nothing: a command line has its own."""
        return []

    def show_notices(self, *, at_once: bool) -> None:
        """Refuse: there is no prompt to show a notice at."""
        raise UsageError("notices are for sessions with a prompt")


async def run_command(parts: Parts, origin: Origin, door: CommandDoor) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 misused."""
    context = Context(parts, origin, door, MAIN_MENU, input=door.request.input)
    try:
        require_count(door.request.words, 1, MAX_WORDS, f"1 to {MAX_WORDS} words")
        everywhere = EVERYWHERE if door.request.source is None else (*EVERYWHERE, *WEB_DOOR)
        resolution = resolve(MAIN_MENU, everywhere, door.request.words)
        door.facts, door.document = resolution.entry.facts, resolution.entry.document
        door.changes = isinstance(resolution.entry, Command) and resolution.entry.changes
        move = await perform(context, resolution, door)
        if isinstance(move, Menu):
            show_menu(context, move, door)
        door.finish()
    except ConnectionError:
        raise  # nobody is left to be told: the caller, or the reader of a pipe, is gone
    except Exception as error:  # noqa: BLE001 - the door: the caller is told, the log has the rest
        failed = failure_of(error, context, door.request.words)
        door.fail(failed.text, failed.exit_code)
        return failed.exit_code
    return 0
