"""What a command works with: the appliance's parts, who calls it, and how to ask him something."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from callisto_telnetd.accounts.accounts import Accounts
from callisto_telnetd.accounts.audit import Audit
from callisto_telnetd.accounts.gatekeeper import Gatekeeper
from callisto_telnetd.accounts.presence import Presence
from callisto_telnetd.accounts.web_ends import WebEnds
from callisto_telnetd.clock import Clock
from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.db.store import Store
from callisto_telnetd.errors import DeclinedError
from callisto_telnetd.maintenance.backup_runs import BackupRuns
from callisto_telnetd.maintenance.backups import Backups
from callisto_telnetd.maintenance.database_lock import DatabaseLock
from callisto_telnetd.maintenance.fill import Fill
from callisto_telnetd.maintenance.mode import MaintenanceMode
from callisto_telnetd.maintenance.repair import Repairs
from callisto_telnetd.maintenance.restores import Restores
from callisto_telnetd.maintenance.self_check import SelfCheck
from callisto_telnetd.maintenance.snapshots import Snapshots
from callisto_telnetd.maintenance.workshop import Workshop
from callisto_telnetd.origin import Origin
from callisto_telnetd.record_rate import RecordRate
from callisto_telnetd.services.processes import ProcessTable
from callisto_telnetd.services.scheduler import Scheduler
from callisto_telnetd.services.supervisor import Supervisor
from callisto_telnetd.trace.captures import Captures
from callisto_telnetd.trace.datagrams import DatagramInput
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import Log
from callisto_telnetd.variables import Registry
from callisto_telnetd.work import Tasks

if TYPE_CHECKING:
    from callisto_telnetd.menus.tree import Menu

EDITION_NAMES = {"ucm": "UCM", "ucme": "UCM Express", "one": "One"}


@dataclass(frozen=True, slots=True)
class Identity:
    """What the box says of itself."""

    version: str
    edition: str
    hostname: str
    serial: str
    banner: str = ""

    @property
    def product(self) -> str:
        """Product, version and edition in one line; the first that a client sees unless the owner has his own."""
        return self.banner or f"Callisto {self.version} ({EDITION_NAMES[self.edition]})"


@dataclass(frozen=True, slots=True)
class Parts:
    """The appliance's parts, shared by all sessions."""

    identity: Identity
    folder: DataFolder
    clock: Clock
    hub: Hub
    captures: Captures
    log: Log
    strangers: RecordRate
    """Tells in the log what peers cause that are not logged in."""
    store: Store
    variables: Registry
    accounts: Accounts
    audit: Audit
    presence: Presence
    web_ends: WebEnds
    """Ends the sessions of browsers that nobody holds any more."""
    gatekeeper: Gatekeeper
    processes: ProcessTable
    schedule: Scheduler
    self_check: SelfCheck
    supervisor: Supervisor
    trace_inputs: tuple[DatagramInput, ...]
    trace_size_bytes: int
    """The bound of a capture that names none."""
    started_at: float
    """When the server started, in seconds of the monotonic clock."""
    serving: bool
    """Whether a server runs; not so where a command works on the data folder itself."""
    repairing: DatabaseLock
    """Held while the database is checked: one at a time."""
    snapshots: Snapshots
    """The verified copies of the database."""
    workshop: Workshop
    """Where work on the closed database is done."""
    repairs: Repairs
    fill: Fill
    """Where a repair is begun."""
    restores: Restores
    """Where a restore is planned and begun, and undone."""
    mode: MaintenanceMode
    """Whether the appliance works without its database, and the way back."""
    backups: Backups
    """The archives of everything."""
    backup_runs: BackupRuns
    """Backups on a schedule."""
    changes: Tasks
    """Changes of more than one part, which go on to their end where their caller is cancelled."""


class TerminalSize(NamedTuple):
    """How much a terminal shows, in characters."""

    columns: int
    rows: int


class Dialogue(Protocol):
    """How a command speaks with its caller, whatever the door."""

    @property
    def redrawable(self) -> TerminalSize | None:
        """The size of a terminal that a person looks at, so that a view may redraw itself; None for all others."""

    @property
    def stop_keys(self) -> str:
        """What ends a view that :meth:`watch` watches, as the user is told: ``Ctrl-C``."""

    @property
    def asks_a_person(self) -> bool:
        """Whether somebody types the answers: a new password is then asked for twice."""

    @property
    def brings_password(self) -> bool:
        """Whether a password has come with the command, and no question has taken it yet."""

    @property
    def wants_json(self) -> bool:
        """Whether the caller takes JSON Lines."""

    def backlog(self) -> int:
        """Return how many bytes of output the caller has not taken yet."""

    def hang_up(self, reason: str) -> None:
        """Cut off a caller who takes nothing any more; his command is cancelled."""

    async def ask(
        self, question: str, default: str | None = None, *, secret: bool = False, choices: tuple[str, ...] = ()
    ) -> str:
        """Ask one question and return the answer; an empty one is the default. ``choices`` is what Tab completes."""

    def watch(self, stop: Callable[[], None], *, until_end_of_input: bool) -> AbstractContextManager[None]:
        """Call ``stop`` at Enter, ``q`` or an interrupt while the block runs, or where the caller's input has ended."""

    def commit(self) -> None:
        """Have no interrupt stop the command from here on: what it has begun goes on to its end."""

    def history(self) -> list[str]:
        """Return the lines that were typed, oldest first."""

    def show_notices(self, *, at_once: bool) -> None:
        """Show notices at once, above the prompt, or before the next prompt."""


@dataclass(slots=True)
class Context:
    """One caller's context; a session has one, and the command line one a call."""

    parts: Parts
    origin: Origin
    dialogue: Dialogue
    menu: Menu
    """The menu whose words are understood now."""
    main: Menu = field(init=False)
    """The main menu, in which the caller begins; its words are understood everywhere."""
    session: int | None = None
    """The number of the session in the list of those present."""
    input: str | None = field(default=None)
    """Text that came with the command: the file of an import at the command line."""

    def __post_init__(self) -> None:
        """Begin in the main menu."""
        self.main = self.menu

    async def confirm(self, question: str, *, confirmed: bool) -> None:
        """Return if the caller has confirmed by the last word of his line, or does so now.

        Raises:
            DeclinedError: he has answered no; nothing has changed.
            UsageError: nobody is there to ask.
        """
        if confirmed:
            return
        answer = await self.dialogue.ask(f"{question} [y/N]: ")
        if answer.strip().lower() not in {"y", "yes"}:
            raise DeclinedError("nothing was changed")
