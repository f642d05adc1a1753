"""Running the command that a line means, the same way at every door.

Errors become answers here and nowhere else: one of ours is its one line; any other is logged once with an incident
number, and the caller is told the number.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from callisto_telnetd.accounts.sources import source_of
from callisto_telnetd.errors import CallistoError, DeclinedError
from callisto_telnetd.menus.answers import Answer, Done, Line, Move
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.everywhere import menu_lines
from callisto_telnetd.menus.resolver import Resolution
from callisto_telnetd.menus.tree import Command, Menu
from callisto_telnetd.origin import WEB_SERVER
from callisto_telnetd.secret_text import without_secrets_of, words_without_secrets
from callisto_telnetd.trace.logs import log_incident

_LOGGED_LINE = 200
_TURN_S = 0.005
"""How long a command may show answers until others have their turn: a listing may have thousands."""
_QUOTED = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\"""")
"""What :func:`~callisto_telnetd.errors.quoted` makes of a word."""


class Door(Protocol):
    """Where answers are shown."""

    @property
    def congested(self) -> bool:
        """Whether to wait before the next answer is shown."""

    def show(self, answer: Answer) -> None:
        """Show one answer."""

    async def drain(self) -> None:
        """Wait until more can be shown."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A command that did not do what it was asked; nothing has changed."""

    text: str
    exit_code: int


def log_command(context: Context, resolution: Resolution) -> None:
    """Put the command into the trace; private arguments, and secrets in others, stay out of it."""
    private = isinstance(resolution.entry, Menu) or resolution.entry.private
    words = () if private else words_without_secrets(resolution.arguments)
    line = " ".join((resolution.path, *words))[:_LOGGED_LINE]
    parts, who, source = context.parts, context.origin.who, context.origin.source
    if who == WEB_SERVER:
        parts.strangers.tell(parts.log.debug, "command", of=source_of(source), line=line, who=who, source=source)
    else:
        parts.log.debug("command", line=line, who=who, source=source)


async def perform(context: Context, resolution: Resolution, door: Door) -> Move | Menu | None:
    """Run a command, showing each answer as it comes; return where the session goes next.

    Raises:
        CallistoError: the command did not do what it was asked.
    """
    log_command(context, resolution)
    if resolution.run is None:
        return resolution.entry if isinstance(resolution.entry, Menu) else None
    move: Move | None = None
    answers = resolution.run(context, resolution.arguments)
    loop = asyncio.get_running_loop()
    turn_ends = loop.time() + _TURN_S
    try:
        async for answer in answers:
            if isinstance(answer, Move):
                move = answer
                continue
            door.show(answer)
            if door.congested:
                await door.drain()
            if loop.time() > turn_ends:
                await asyncio.sleep(0)
                turn_ends = loop.time() + _TURN_S
    except DeclinedError as declined:
        door.show(Done(str(declined)))
    except BaseException:
        await answers.aclose()  # where the door failed, the command still tidies up
        raise
    return move


def reason_to_log(failed: Failed, resolution: Resolution | None) -> str:
    """Return why a command failed, as the log may have it: without what it quotes where its arguments are private."""
    private = resolution is not None and isinstance(resolution.entry, Command) and resolution.entry.private
    return _QUOTED.sub("'…'", failed.text) if private else failed.text


def show_menu(context: Context, menu: Menu, door: Door) -> None:
    """Show the menu that was entered, and end it like any command."""
    for line in menu_lines(context, menu):
        door.show(Line(line))
    door.show(Done(f"{menu.name} menu"))


def failure_of(error: Exception, context: Context, words: Sequence[str] = ()) -> Failed:
    """Return what the caller is told of an error of his words; log it where it was not raised on purpose."""
    if isinstance(error, CallistoError):
        return Failed(without_secrets_of(words, str(error)), error.exit_code)
    incident = log_incident(context.parts.log, error, who=context.origin.who)
    return Failed(f"internal error, incident {incident}; the log tells more", 1)
