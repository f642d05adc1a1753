"""A repair that is killed, or finds the disk full, at any system call: the old database or the new one, always."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from callisto_telnetd.db.inspection import inspect
from callisto_telnetd.db.salvage.aside import remove_unfinished
from tests.db.plausible import Plausible
from tests.db.sweeps import points, require_strace, rows_of, run_under, settled
from tests.db.test_db_repair_corpus import AT

ROOT = Path(__file__).resolve().parents[2]
CALLS = "write,pwrite64,fsync,fdatasync,rename,unlink,ftruncate,link,mkdir,rmdir,chmod,sendfile,copy_file_range"
REPAIR = """
import sys
from pathlib import Path
from callisto_telnetd.db.salvage.repair import Order, repair
from callisto_telnetd.errors import StoreError
live = Path(sys.argv[1])
try:
    repair(Order(live, live.parent / "damaged", "x", sys.argv[2], lambda name, text: None), lambda *told: None)
except StoreError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small database that has lost a page."""
    file = tmp_path_factory.mktemp("damaged") / "callisto.db"
    Plausible(7, 0.08).fill(file)
    data = bytearray(file.read_bytes())
    data[29 * 4096 : 30 * 4096] = bytes(4096)
    return bytes(data)


def prepared(folder: Path, damaged: bytes) -> Path:
    """Return a data folder with the damaged database."""
    folder.mkdir()
    live = folder / "callisto.db"
    live.write_bytes(damaged)
    live.with_name("callisto.db-journal").write_bytes(b"")
    return live


def run(live: Path, inject: str = "") -> tuple[int, str, list[str]]:
    """Repair under strace; return the exit code, what was said, and the calls."""
    log = live.parent.parent / "strace.log"
    words = [
        "strace",
        "-f",
        "-q",
        "-o",
        str(log),
        "-e",
        f"trace={CALLS}",
        *(("-e", f"inject={inject}") if inject else ()),
    ]
    return run_under(words, log, REPAIR, str(live), AT)


def require_old_or_new(live: Path, damaged: bytes, point: str) -> str:
    """Do what the next start does; return which database is there then, ``old`` or ``new``."""
    settled(live.parent)
    remove_unfinished(live, live.parent / "damaged")
    kept = list((live.parent / "damaged").glob("*/callisto.db"))
    if live.read_bytes() == damaged:
        assert not kept, (point, kept)  # no second name of the live file
        assert live.stat().st_nlink == 1, point
        return "old"
    assert [path.read_bytes() for path in kept] == [damaged], point
    found = inspect(live, lambda _name, _text: None, lambda _step, _done, _of: None, closed=True)
    assert not any(found.values()), (point, found)
    assert rows_of(live)["user"] > 0
    return "new"


def sweep(tmp_path: Path, damaged: bytes, how: str, step: int) -> Counter[str]:
    """Stop a repair at every ``step``-th call; return how often the old and the new database were there."""
    require_strace()
    code, said, calls = run(prepared(tmp_path / "whole", damaged))
    assert code == 0, said
    outcomes: Counter[str] = Counter()
    for place, point in enumerate(points(calls)[::step]):
        live = prepared(tmp_path / str(place), damaged)
        code, said, _ = run(live, point.format(how))
        if how.startswith("error") and code:
            assert "Error: " in said.splitlines()[-1], (point, said)
            assert "Traceback" not in said, (point, said)
        outcomes[require_old_or_new(live, damaged, point)] += 1
    return outcomes


@pytest.mark.parametrize("how", ["signal=SIGKILL", pytest.param("error=ENOSPC", marks=pytest.mark.long)])
def test_a_repair_is_stopped_at_some_calls(tmp_path: Path, damaged: bytes, how: str) -> None:
    """Killed, or without room, at a few of its calls, a repair leaves the old database or the new one."""
    outcomes = sweep(tmp_path, damaged, how, 20)

    assert outcomes["old"] > 0


@pytest.mark.long
@pytest.mark.parametrize("how", ["signal=SIGKILL", "error=ENOSPC"])
def test_a_repair_is_stopped_at_every_call(tmp_path: Path, damaged: bytes, how: str) -> None:
    """The same at every one of its calls: both databases are seen."""
    outcomes = sweep(tmp_path, damaged, how, 1)
    print(how, outcomes)

    assert outcomes["old"] > 0
    assert outcomes["new"] > 0
