"""A backup that is killed, or finds the disk full or failing, at any system call: a whole archive or none, always."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from callisto_telnetd.db.backup.folder import archives, remove_unfinished
from callisto_telnetd.db.backup.reader import open_archive
from tests.db.archives import ignore, make_appliance
from tests.db.sweeps import points, require_strace, run_under

ROOT = Path(__file__).resolve().parents[2]
CALLS = "openat,write,pwrite64,pread64,read,fsync,rename,unlink,ftruncate,lseek,newfstatat,close"
CREATE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from callisto_telnetd.db.backup.writer import Order, create
from callisto_telnetd.errors import CallistoError
data = Path(sys.argv[1])
at = datetime(2026, 11, 23, 10, 15, tzinfo=UTC)
order = Order(data / "callisto.db", data / "media", data / "backup", None, None, "1", "ucm", "callisto", "", "", at)
try:
    create(order, lambda *told: None)
except CallistoError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture(scope="module")
def appliance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with little in it, so that a backup makes few calls."""
    folder = tmp_path_factory.mktemp("appliance") / "data"
    make_appliance(folder, recordings=2)
    return folder


def run(data: Path, inject: str = "") -> tuple[int, str, list[str]]:
    """Make a backup under strace; return the exit code, what was said, and the calls on the folder of backups."""
    log = data.parent / f"{data.name}.log"
    folder = data / "backup"
    names = [folder, *(folder / name for name in (".making-backup.zip", ".making-backup.db"))]
    names += [data / "callisto.db", folder / "callisto-callisto-20261123-101500.zip"]
    words = ["strace", "-f", "-q", "-o", str(log), "-e", f"trace={CALLS}"]
    words += [word for path in names for word in ("-P", str(path))]
    words += ["-e", f"inject={inject}"] if inject else []
    return run_under(words, log, CREATE, str(data))


def outcome_of(data: Path) -> str:
    """Do what the next start does; return whether there is a ``whole`` archive, or ``none``."""
    folder = data / "backup"
    remove_unfinished(folder)
    found = archives(folder)
    assert len(found) == len(list(folder.iterdir()))  # no litter
    for each in found:
        with open_archive(each.path, None) as archive:
            archive.verify_members(ignore)
    return "whole" if found else "none"


def sweep(tmp_path: Path, appliance: Path, how: str, step: int) -> Counter[str]:
    """Stop a backup at every ``step``-th call; return how often there was an archive then."""
    require_strace()
    shutil.copytree(appliance, tmp_path / "whole")
    code, said, calls = run(tmp_path / "whole")
    assert code == 0, said
    outcomes: Counter[str] = Counter()
    for place, point in enumerate(points(calls)[::step]):
        data = tmp_path / str(place)
        shutil.copytree(appliance, data)
        code, said, _ = run(data, point.format(how))
        if how.startswith("error"):
            assert "Traceback" not in said, (point, said)
            left = [path.name for path in (data / "backup").iterdir() if path.name.startswith(".")]
            assert not left or "unlink" in point, (point, left)
        outcome = outcome_of(data)
        if how.startswith("error") and code:
            assert "Error: " in said.splitlines()[-1], (point, said)
            assert outcome == "none", (point, said)  # as it says
        elif how.startswith("error"):
            assert outcome == "whole", point
        outcomes[outcome] += 1
    return outcomes


@pytest.mark.parametrize("how", ["signal=SIGKILL", pytest.param("error=ENOSPC", marks=pytest.mark.long)])
def test_a_backup_is_stopped_at_some_calls(tmp_path: Path, appliance: Path, how: str) -> None:
    """Killed, or without room, at a few of its calls, it leaves an archive that is whole, or none."""
    assert sweep(tmp_path, appliance, how, 90)["none"] > 0


@pytest.mark.long
@pytest.mark.parametrize("how", ["signal=SIGKILL", "error=ENOSPC", "error=EIO"])
def test_a_backup_is_stopped_at_every_call(tmp_path: Path, appliance: Path, how: str) -> None:
    """The same at every one of its calls: both outcomes are seen."""
    outcomes = sweep(tmp_path, appliance, how, 1)
    print(how, outcomes)

    assert outcomes["none"] > 0
    assert outcomes["whole"] > 0
