"""What may hang on a disk stays off the loop: paths of the data folder are for other threads."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest

from callisto_telnetd.menus.context import Context, Dialogue
from callisto_telnetd.menus.main import MAIN_MENU
from callisto_telnetd.terminal.completion import complete
from tests.lifetime.conftest import ADMIN, House, open_house
from tests.lifetime.test_lifetime_commands import ARCHIVE, QUICK, SLOW, Case, nothing

READS = (
    ("information",),
    ("trace", "list"),
    ("trace", "status"),
    ("backup", "list"),
    ("backup", "schedule", "list"),
    ("schedule", "list"),
    ("audit",),
    ("variables", "history"),
    ("repair", "quarantine"),
    ("user", "list"),
    ("sessions",),
    ("services", "list"),
)


TABS = ("trace show ", "backup restore ", "variables set gWeb", "date zone Europe/Z")


HEARD = ("scandir", "listdir", "mkdir", "rmdir", "remove", "rename", "link", "symlink", "chmod", "utime")
"""Calls whose first word is a path, and that Python tells audit hooks of, beside ``open``."""
UNHEARD = ("stat", "lstat", "statvfs", "access", "readlink")
"""Those that it does not tell of."""
EVENTS = {"open", *(f"os.{call}" for call in HEARD + UNHEARD)}


class Watcher:
    """Notes each call on a path under a folder that the loop's thread makes: it may hang as long as the disk does."""

    def __init__(self) -> None:
        self._folder: str | None = None
        self._seen: set[str] = set()
        sys.addaudithook(self._hear)  # there is no way to take it back

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._folder is None or threading.current_thread() is not threading.main_thread():
            return
        if event in EVENTS and str(arguments[0]).startswith(self._folder):
            frame: FrameType | None = sys._getframe(1)
            while frame is not None and "/callisto_telnetd/" not in frame.f_code.co_filename:
                frame = frame.f_back
            where = f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}" if frame else "?"
            self._seen.add(f"{where} {event} {str(arguments[0]).removeprefix(self._folder)}")

    def _told(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def tell(*arguments: Any, **options: Any) -> Any:
            self._hear(f"os.{name}", arguments)
            return call(*arguments, **options)

        return tell

    @contextmanager
    def watching(self, folder: Path) -> Iterator[set[str]]:
        """Note what happens within the block."""
        self._folder, self._seen = str(folder), set()
        calls = {name: getattr(os, name) for name in UNHEARD}
        try:
            for name, call in calls.items():
                setattr(os, name, self._told(name, call))
            yield self._seen
        finally:
            self._folder = None
            for name, call in calls.items():
                setattr(os, name, call)


@pytest.fixture(scope="module")
def watcher() -> Watcher:
    """The one watcher of this process."""
    return Watcher()


async def touched_by(house: House, watcher: Watcher, cases: Iterable[Case]) -> list[str]:
    """Return what of the data folder the cases touch in the loop's thread, with the line of ours that does."""
    found = []
    for case in cases:
        async with case.beside(house):
            if case.prepare is not None:
                await case.prepare(house)
            for words in case.before:
                await house.do(*words)
            with watcher.watching(house.data) as seen:
                assert (await house.run(*case.words, text=case.text, secrets=case.secrets)).code == 0, case.words
        found += [f"{' '.join(case.words)}: {each}" for each in sorted(seen)]
    return found


async def test_no_command_touches_the_disk_in_the_loop(tmp_path: Path, watcher: Watcher) -> None:
    """Whatever an administrator asks or changes, a disk that stands still stops him alone; Tab waits for no disk."""
    async with open_house(tmp_path / "data") as house:
        reads = [Case(words, nothing) for words in READS]
        assert await touched_by(house, watcher, [*reads, *QUICK.values()]) == []

        (house.data / "backup" / ARCHIVE).touch()
        await house.parts.backups.recent_names.read()
        await house.parts.clock.recent_zones.read()
        context = Context(house.parts, ADMIN, cast("Dialogue", None), MAIN_MENU)
        with watcher.watching(house.data) as seen:
            assert [line for line in TABS if not complete(context, line).candidates] == []
        assert seen == set()


@pytest.mark.long
async def test_no_long_work_touches_the_disk_in_the_loop(tmp_path: Path, watcher: Watcher) -> None:
    """Nor do a backup, a restore, a repair or a compact."""
    async with open_house(tmp_path / "data") as house:
        assert await touched_by(house, watcher, SLOW.values()) == []
