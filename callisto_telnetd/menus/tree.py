"""The tree's vocabulary: commands and menus, as data."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from callisto_telnetd.menus.answers import Answer
from callisto_telnetd.menus.context import Context

Facts = Literal["none", "one", "many", "stream"]
Run = Callable[[Context, list[str]], AsyncGenerator[Answer, None]]
Complete = Callable[[Context, Sequence[str]], Sequence[str]]
"""Given the words before the one that is typed, returns all words that may stand there."""


def no_completion(_context: Context, _words: Sequence[str]) -> Sequence[str]:
    """Know no words."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Command:
    """Something to do, chosen by its word."""

    word: str
    help: str
    """One line: what it does."""
    run: Run
    usage: str = ""
    """The words that may follow, as in ``NAME VALUE [note=TEXT]``."""
    details: tuple[str, ...] = ()
    number: str = ""
    """Its number in the menu; without one it is chosen by word alone."""
    title: str = ""
    dialogue: Run | None = None
    """Runs instead where a menu user has chosen the bare number."""
    complete: Complete = no_completion
    joins_words: bool = False
    """Whether several of its plain words may be joined by commas: ``web-server,coc-proxy``."""
    facts: Facts = "none"
    """How its facts become JSON: one object, a list of them, or a line each as they come."""
    document: bool = False
    """Whether its lines are a document: at the command line its last line is told apart, on standard error."""
    changes: bool = False
    """Whether it changes something: it is then not interrupted half-way."""
    founds: bool = False
    """Whether it makes an appliance in a data folder that holds none."""
    reads_file: bool = False
    """Whether it only reads the file that its first word names: where that is a path, no appliance is needed."""
    private: bool = False
    """Whether its arguments stay out of log and history."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Menu:
    """A place with commands of its own."""

    word: str
    title: str
    help: str
    entries: tuple[Command | Menu, ...]
    number: str = ""
    bare: Command | None = None
    """Runs for the menu's word where no entry's word follows; without one, the menu is entered."""
    show: Callable[[Context], Sequence[str]] | None = None
    """The lines shown when the menu is entered, in place of its numbered entries."""
    pick: Command | None = None
    """Runs with a number that is typed in the menu."""
    parent: Menu | None = field(default=None, init=False)
    """The menu that this one is an entry of, set by it; None for the main menu."""

    def __post_init__(self) -> None:
        """Make the menus among the entries know where ``back`` leads."""
        for entry in self.entries:
            if isinstance(entry, Menu):
                object.__setattr__(entry, "parent", self)

    @property
    def path(self) -> tuple[str, ...]:
        """The words that lead here from the main menu, such as ``("backup", "schedule")``; none for the main menu."""
        return (*self.parent.path, self.word) if self.parent else ()

    @property
    def name(self) -> str:
        """What messages call it, such as ``backup schedule``."""
        return " ".join(self.path) or self.word

    @property
    def facts(self) -> Facts:
        """Menus show text alone."""
        return "none"

    @property
    def founds(self) -> bool:
        """Menus make nothing."""
        return False

    @property
    def reads_file(self) -> bool:
        """Menus read nothing."""
        return False

    @property
    def document(self) -> bool:
        """Menus are no documents."""
        return False


Entry = Command | Menu
