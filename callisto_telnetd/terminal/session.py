"""A session: an administrator logs in, is shown the main menu, and works until he leaves.

Rules:
* One task a session. What ends it from outside (idle clock, changed account, server stop) gives a line that says why.
* Two clocks, both monotonic: the log-in has to be finished in time whatever is sent; afterwards, a session without
  input is closed. A running action counts as use.
* Nothing comes up by itself while a prompt waits, unless the user has turned notices on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from callisto_telnetd.accounts.accounts import Access, Account
from callisto_telnetd.accounts.gatekeeper import Place
from callisto_telnetd.accounts.log_in import check_log_in
from callisto_telnetd.accounts.penalties import TooManyFailuresError
from callisto_telnetd.accounts.places import Progress
from callisto_telnetd.accounts.presence import Present
from callisto_telnetd.accounts.sources import source_of
from callisto_telnetd.errors import CallistoError, UsageError
from callisto_telnetd.menus.answers import Answer, Block, Done, Move, Screen
from callisto_telnetd.menus.context import Context, Parts, TerminalSize
from callisto_telnetd.menus.everywhere import EVERYWHERE, menu_lines
from callisto_telnetd.menus.main import MAIN_MENU
from callisto_telnetd.menus.mistyped import is_mistyped
from callisto_telnetd.menus.resolver import Resolution, resolve, says_nothing, split
from callisto_telnetd.menus.tree import Command, Menu
from callisto_telnetd.origin import Origin
from callisto_telnetd.terminal.completion import complete
from callisto_telnetd.terminal.console import Console, EndOfInputError, InterruptedLineError, Wire
from callisto_telnetd.terminal.execution import failure_of, perform, reason_to_log, show_menu
from callisto_telnetd.terminal.flusher import Flusher
from callisto_telnetd.terminal.notices import Notices
from callisto_telnetd.terminal.rendering import encode_block, lines_of, redrawn, wrapped

_TRIES = 3


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How long a log-in and an idle session may take, in seconds."""

    login_s: float
    idle_s: float


class SessionClosedError(Exception):
    """The session ends now; its text is the last line that the peer sees."""


class Session:
    """One administrator's session on one wire; :meth:`run` is its task."""

    __slots__ = (
        "_clock",
        "_document",
        "_door_name",
        "_end_reason",
        "_interrupted",
        "_interruptible",
        "_limits",
        "_login_deadline",
        "_loop",
        "_notices",
        "_parts",
        "_place",
        "_present",
        "_screen_lines",
        "_source",
        "_task",
        "console",
    )

    def __init__(
        self,
        parts: Parts,
        wire: Wire,
        *,
        place: Place,
        source: str,
        door: str,
        limits: SessionLimits,
        login_deadline: float,
        flusher: Flusher,
    ) -> None:
        self._parts = parts
        self._place = place
        self._source = source
        self._door_name = door
        self._limits = limits
        self._login_deadline = login_deadline
        self._loop = asyncio.get_running_loop()
        self.console = Console(wire, self._interrupt, flusher)
        self._present: Present | None = None
        self._task: asyncio.Task[None] | None = None
        self._end_reason: str | None = None
        self._interruptible = False
        self._interrupted = False
        self._document = False
        """Whether what runs prints a document."""
        self._screen_lines = 0
        """Of the screen that stands above the cursor, and that the next one takes the place of."""
        self._notices = Notices()

    # Its life

    async def run(self) -> None:
        """Serve the administrator until the session ends; the wire is left open for the door to close."""
        self._task = asyncio.current_task()
        late = f"not logged in within {self._limits.login_s:.0f} s"
        self._clock = self._loop.call_at(self._login_deadline, self.end, late)
        try:
            account, password = await self._log_in()
            await self._serve(await self._enter(account, password))
        except EndOfInputError:
            pass
        except SessionClosedError as closed:
            self._say_goodbye(str(closed))
        except asyncio.CancelledError:
            if self._end_reason is None:
                raise
            self._say_goodbye(self._end_reason)
        except ConnectionError:
            pass
        finally:
            self._clock.cancel()
            self.console.flush()
            await self._leave()

    def end(self, reason: str) -> None:
        """End the session with a line that says why."""
        if self._end_reason is None and (self._task is None or not self._task.done()):
            self._end_reason = reason
            if self._task is not None:
                self._task.cancel()

    def _say_goodbye(self, reason: str) -> None:
        if reason:
            self.console.say("")
            self.console.say(f"Closed: {reason}.")

    async def _enter(self, account: Account, password: str) -> Context:
        """Make the log-in known, and show what an administrator sees first."""
        last = account.last_access
        origin = Origin(account.name, self._door_name, self._source)
        self._place.logged_in()
        self._present = self._parts.presence.enter(origin, self._parts.clock.now(), self.notify, self.end)
        context = Context(self._parts, origin, self, MAIN_MENU, session=self._present.number)
        self._clock.cancel()
        self._clock = self._loop.call_later(self._limits.idle_s, self._look_at_idle_clock)
        await self._parts.accounts.note_access(account, origin, password)
        self.console.say(f"Last access {self._access_text(last)}")
        if last is None and await self._parts.accounts.has_generated_password(account.name):
            self.console.say("The appliance has made this account's password; 'user passwd' changes it.")
        self.console.say(*menu_lines(context, MAIN_MENU))
        return context

    def _access_text(self, access: Access | None) -> str:
        if access is None:
            return "never"
        return f"{self._parts.clock.format_stamp(access.at)} from {access.source} ({access.door})"

    async def _leave(self) -> None:
        if self._present is not None:
            self._parts.presence.leave(self._present)
            await self._parts.audit.note("logged out", self._present.origin, self._end_reason or "")

    def _look_at_idle_clock(self) -> None:
        idle_s = 0.0 if self.console.in_use else self._loop.time() - self.console.input_at
        if idle_s >= self._limits.idle_s:
            self.end(f"idle for {_minutes(self._limits.idle_s)}")
        else:
            self._clock = self._loop.call_later(self._limits.idle_s - idle_s, self._look_at_idle_clock)

    # Log-in

    async def _log_in(self) -> tuple[Account, str]:
        if self._end_reason is not None:  # ended before it began
            raise SessionClosedError(self._end_reason)
        self.console.say(self._parts.identity.product)
        if self._parts.mode.active:
            self.console.say("Maintenance mode: the database cannot be used.")
        for _ in range(_TRIES):
            name, password = await self._ask_credentials()
            try:
                account = await self._check(name, password)
            except TooManyFailuresError as refused:
                self.console.say(str(refused))
                raise SessionClosedError from None
            if account is not None:
                return account, password
            self.console.say("Login incorrect")
            if wait_s := self._parts.gatekeeper.penalties.wait_s(source_of(self._source)):
                self.console.say(str(TooManyFailuresError(wait_s)))
                break
        raise SessionClosedError

    async def _ask_credentials(self) -> tuple[str, str]:
        prompt = f"{self._parts.identity.hostname} login: "
        while True:
            try:
                name = (await self.console.next_line(prompt, remember=False)).strip()
                if name:
                    self._place.note(Progress.NAMED)
                    return name, await self.console.next_line("Password: ", secret=True, remember=False)
            except InterruptedLineError:
                continue
            except UsageError as error:
                self.console.say(f"Error: {error}")

    async def _check(self, name: str, password: str) -> Account | None:
        self._place.note(Progress.CHECKED)
        account = await check_log_in(
            name,
            password,
            door=self._door_name,
            address=self._source,
            accounts=self._parts.accounts,
            gatekeeper=self._parts.gatekeeper,
            audit=self._parts.audit,
        )
        self._place.note(Progress.NAMED)
        return account

    # Commands

    async def _serve(self, context: Context) -> None:
        console = self.console
        hostname = self._parts.identity.hostname
        completer = partial(complete, context)
        while True:
            for text in self._notices.take():
                self._say(f"Notice: {text}")
            path = context.menu.path
            prompt = f"{hostname}({'/'.join(path)})# " if path else f"{hostname}# "
            try:
                line = await console.next_line(prompt, complete=completer)
            except InterruptedLineError:
                continue
            except UsageError as error:
                console.say(f"Error: {error}")
                continue
            if not says_nothing(line):
                await self._run_line(context, line)
                console.input_at = self._loop.time()  # what ran was use until now

    async def _run_line(self, context: Context, line: str) -> None:
        resolution = None
        try:
            resolution = resolve(context.menu, EVERYWHERE, split(line), MAIN_MENU)
            entry = resolution.entry
            if isinstance(entry, Command) and entry.private and resolution.arguments:
                self.console.editor.history.forget_last()
            self._interruptible = not (isinstance(entry, Command) and entry.changes)
            self._screen_lines = 0
            self._document = entry.document
            move = await perform(context, resolution, self)
        except CallistoError as error:
            if resolution is None and not is_mistyped(context.menu, EVERYWHERE, line, MAIN_MENU):
                self.console.editor.history.forget_last()
            self._fail(error, context, resolution)
            return
        except asyncio.CancelledError:
            if not self._interrupted or self._end_reason is not None:
                raise
            self._interrupted = False
            if self._task is not None and self._task.uncancel():
                raise  # besides the interrupt, the peer has gone
            self.console.say("Error: interrupted")
            return
        except (EndOfInputError, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - the door: nothing that a command does may end the session
            self._fail(error, context, resolution)
            return
        finally:
            self._interruptible = False
        self._drop_late_interrupt()
        if isinstance(move, Menu):
            context.menu = move
            show_menu(context, move, self)
        elif move is Move.UP:
            context.menu = context.menu.parent or MAIN_MENU
        elif move is Move.LOGOUT:
            raise SessionClosedError

    def _fail(self, error: Exception, context: Context, resolution: Resolution | None) -> None:
        self._drop_late_interrupt()
        failed = failure_of(error, context, resolution.arguments if resolution else ())
        self._say(f"Error: {failed.text}")
        if not isinstance(error, UsageError):
            self._parts.log.warning("command failed", reason=reason_to_log(failed, resolution), who=context.origin.who)

    def _drop_late_interrupt(self) -> None:
        """Take an interrupt back that met an action at its very end, which took no notice of it."""
        if self._interrupted:
            self._interrupted = False
            if self._task is not None:
                self._task.uncancel()

    def _interrupt(self) -> None:
        """Stop the action that runs; one that changes something runs to its end, which is near."""
        if self._interruptible and self._task is not None and not self._interrupted:
            self._interrupted = True
            self._task.cancel()

    # The door that commands show their answers at, and their dialogue

    @property
    def congested(self) -> bool:
        """Whether the peer is slower than the command."""
        return self.console.congested

    def show(self, answer: Answer) -> None:
        """Print an answer's lines."""
        if isinstance(answer, Block):
            self.console.say_encoded(encode_block(answer))
        elif isinstance(answer, Screen):
            self._redraw(answer)
        elif self._document and not isinstance(answer, Done):
            self.console.say(*lines_of(answer))  # it may be copied off the screen and read back
        else:
            self._say(*lines_of(answer))

    def _say(self, *lines: str) -> None:
        """Print the lines, wrapped for a person whose terminal's width is known; a script gets each as one."""
        console = self.console
        console.say(*(self._fitted(*lines) if console.by_hand else lines))

    def _fitted(self, *lines: str) -> Sequence[str]:
        columns = self.console.editor.columns if self.console.by_hand else 0
        return wrapped(lines, columns) if columns else lines

    def _redraw(self, screen: Screen) -> None:
        if (size := self.redrawable) is None:
            self.console.say(*screen.lines)
            return
        self.console.say_encoded((redrawn(screen, self._screen_lines, size.columns) + "\r\n").encode())
        self._screen_lines = len(screen.lines)

    @property
    def redrawable(self) -> TerminalSize | None:
        """The size of the terminal, where a person has typed the command key by key: a script sees plain text."""
        columns, rows = self.console.size
        return TerminalSize(columns, rows) if columns and rows and self.console.by_hand else None

    @property
    def stop_keys(self) -> str:
        """What ends a view."""
        return "Enter, q or Ctrl-C"

    @property
    def asks_a_person(self) -> bool:
        """A password may also come from a script, which then types it twice."""
        return True

    @property
    def brings_password(self) -> bool:
        """Nobody gives a password before he is asked."""
        return False

    @property
    def wants_json(self) -> bool:
        """People read lines."""
        return False

    def backlog(self) -> int:
        """Return how many bytes the peer has not taken yet."""
        return self.console.backlog

    def hang_up(self, reason: str) -> None:
        """End the session of a peer who takes nothing any more."""
        self.end(reason)

    async def drain(self) -> None:
        """Wait for the peer."""
        await self.console.drain()

    async def ask(
        self, question: str, default: str | None = None, *, secret: bool = False, choices: tuple[str, ...] = ()
    ) -> str:
        """Ask the user one question."""
        return await self.console.ask(question, default, secret=secret, choices=choices)

    def watch(self, stop: Callable[[], None], *, until_end_of_input: bool) -> AbstractContextManager[None]:
        """Call ``stop`` at Enter, ``q`` or an interrupt."""
        return self.console.watch(stop, until_end_of_input=until_end_of_input)

    def commit(self) -> None:
        """Have no interrupt stop the action from here on."""
        self._interruptible = False

    def history(self) -> list[str]:
        """Return what was typed."""
        return self.console.history()

    def show_notices(self, *, at_once: bool) -> None:
        """Show notices at once, or before the next prompt."""
        self._notices.at_once = at_once

    # Notices

    def notify(self, text: str) -> None:
        """Show a notice before the next prompt, or at once where the user wants that."""
        if self._notices.at_once and self.console.at_prompt:
            self.console.show_above(*self._fitted(f"Notice: {text}"))
        else:
            self._notices.add(text)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} s"
