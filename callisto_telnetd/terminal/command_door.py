"""One command without a terminal: words in, frames out; the command line's door, with a server or without.

A frame is what the command line does next: print a line or JSON, say an error, ask, end with an exit code.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from callisto_telnetd.errors import UsageError
from callisto_telnetd.menus.answers import Answer, Done, Fact
from callisto_telnetd.menus.arguments import require_count
from callisto_telnetd.menus.context import Context, Parts
from callisto_telnetd.menus.everywhere import EVERYWHERE
from callisto_telnetd.menus.main import MAIN_MENU
from callisto_telnetd.menus.resolver import resolve
from callisto_telnetd.menus.tree import Facts, Menu
from callisto_telnetd.origin import Origin
from callisto_telnetd.terminal.execution import failure_of, perform, show_menu
from callisto_telnetd.terminal.rendering import json_of, line_of, lines_of

MAX_WORDS = 64


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    words: list[str]
    as_json: bool = False
    input: str | None = None
    """The text of a file that goes with the command."""
    secret: str | None = None
    """A password read from standard input."""
    terminal: bool = False
    """Whether somebody is there to answer questions."""


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
    _collected: list[Any] = field(default_factory=list)
    stop: Callable[[], None] | None = None

    def show(self, answer: Answer) -> None:
        """Turn an answer into frames."""
        if not self.request.as_json:
            stream = Err if self.document and isinstance(answer, Done) else Out
            for line in lines_of(answer):
                self.emit(stream(line_of(line)))
        elif isinstance(answer, Fact):
            if self.facts == "stream":
                self.emit(Out(json_of(answer.data)))
            else:
                self._collected.append(answer.data)

    @property
    def has_facts(self) -> bool:
        """Whether facts wait for :meth:`finish`: what a check found is told although it failed."""
        return bool(self._collected)

    def finish(self) -> None:
        """Print the collected facts as one JSON document."""
        if self.request.as_json and self.facts == "one":
            self.emit(Out(json_of({key: value for each in self._collected for key, value in each.items()})))
        elif self.request.as_json and self.facts == "many":
            self.emit(Out(json_of(self._collected)))

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
        if secret and self.request.secret is not None:
            return self.request.secret
        if not self.request.terminal:
            hint = "give it with --password-stdin" if secret else "add 'yes' as the last word"
            raise UsageError(
                f"{question.removesuffix(' [y/N]: ').rstrip(': ')}: nobody to ask without a terminal; {hint}"
            )
        answer = await self.asking(question, secret)
        return answer if answer or default is None else default

    @contextmanager
    def watch(self, stop: Callable[[], None], *, until_end_of_input: bool) -> Iterator[None]:
        """Call ``stop`` when the command line is interrupted."""
        self.stop = stop
        try:
            yield
        finally:
            self.stop = None

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
        resolution = resolve(MAIN_MENU, EVERYWHERE, door.request.words)
        door.facts, door.document = resolution.entry.facts, resolution.entry.document
        move = await perform(context, resolution, door)
        if isinstance(move, Menu):
            show_menu(context, move, door)
        door.finish()
    except ConnectionError:
        raise  # nobody is left to be told: the caller, or the reader of a pipe, is gone
    except Exception as error:  # noqa: BLE001 - the door: the caller is told, the log has the rest
        failed = failure_of(error, context)
        if door.has_facts:
            door.finish()
        door.emit(Err(f"Error: {failed.text}"))
        return failed.exit_code
    return 0
