"""Targets that are the appliance's own folder: a copy there would be gone with what it is a copy of."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.errors import TargetError
from callisto_telnetd.maintenance.backup_schedules import BackupSchedule, make_schedule
from callisto_telnetd.menus.context import Parts
from callisto_telnetd.origin import SYSTEM
from tests.maintenance.test_maintenance_mode import appliance

Place = Callable[[Path, Path], Path]
"""Returns a target for a data folder, made in a folder of the test's."""


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    """An appliance."""
    folder = DataFolder(tmp_path / "data")
    folder.make()
    async with appliance(folder) as parts:
        yield parts


def linked(place: Path, to: Path) -> Path:
    """Return a link."""
    (place / "link").symlink_to(to)
    return place / "link"


@contextmanager
def mounted(folder: Path, place: Path) -> Iterator[Path]:
    """Mount a folder a second time; skipped where that may not be."""
    at = place / "mounted"
    at.mkdir()
    done = subprocess.run(["mount", "--bind", str(folder), str(at)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def nightly(target: Path) -> BackupSchedule:
    """Return a schedule."""
    return make_schedule(name="nightly", plan="127,02:00", target=f"file://{target}")


@pytest.mark.parametrize(
    "place",
    [
        lambda data, _: data,
        lambda data, _: data / "backup",
        lambda data, _: data / "not" / "there",
        lambda data, here: linked(here, data),
        lambda data, here: linked(here, data) / "backup",
        lambda data, here: linked(here, data / "media"),
    ],
)
async def test_a_target_within_the_data_folder_is_refused(parts: Parts, tmp_path: Path, place: Place) -> None:
    """The folder itself, what is in it, and links to either: nothing is kept of the schedule."""
    with pytest.raises(TargetError, match="is within the data folder"):
        await parts.backup_runs.add(nightly(place(tmp_path / "data", tmp_path)), SYSTEM)

    assert parts.backup_runs.all() == []


@pytest.mark.parametrize(("part", "below"), [("", "backup"), ("", ""), ("backup", ""), ("", "new")])
async def test_a_second_mount_of_the_data_folder_is_refused(
    parts: Parts, tmp_path: Path, part: str, below: str
) -> None:
    """It has another path, and the same folder's numbers of device and file."""
    with mounted(tmp_path / "data" / part, tmp_path) as at, pytest.raises(TargetError, match="is within the data"):
        await parts.backup_runs.add(nightly(at / below), SYSTEM)


async def test_a_link_that_leads_home_later_delivers_nothing(parts: Parts, tmp_path: Path) -> None:
    """A target was elsewhere when it was added: the run fails, its backup stays here, and nothing else does."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = linked(tmp_path, elsewhere)
    await parts.backup_runs.add(nightly(link), SYSTEM)
    link.unlink()
    link.symlink_to(parts.folder.backup)

    with pytest.raises(TargetError, match="is within the data folder"):
        await parts.backup_runs.test("nightly")
    with pytest.raises(TargetError, match="is within the data folder"):
        await parts.backup_runs.run("nightly", SYSTEM)

    (archive,) = parts.folder.backup.iterdir()
    outcome = parts.backup_runs.outcome("nightly")
    assert outcome is not None
    assert (outcome.failed, archive.name.startswith("callisto-")) == (True, True)


async def test_a_folder_beside_the_data_folder_is_a_target(parts: Parts, tmp_path: Path) -> None:
    """One whose name begins like the data folder's is another."""
    (tmp_path / "data-copies").mkdir()
    await parts.backup_runs.add(nightly(tmp_path / "data-copies"), SYSTEM)

    assert not (await parts.backup_runs.run("nightly", SYSTEM)).failed
