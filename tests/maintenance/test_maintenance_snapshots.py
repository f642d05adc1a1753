from __future__ import annotations

from pathlib import Path

from callisto_telnetd.clock import Clock
from callisto_telnetd.db.store import open_store
from callisto_telnetd.maintenance.snapshots import Snapshots, age_text


async def test_a_copy_is_kept_and_grows_older(tmp_path: Path) -> None:
    """A copy of the open database is kept and found again; its age follows the appliance's clock."""
    seconds = 1_795_000_000.0
    clock = Clock(read=lambda: seconds)
    (tmp_path / "backup").mkdir()
    snapshots = Snapshots(tmp_path / "backup", clock)
    async with open_store(tmp_path / "callisto.db") as store:
        assert await snapshots.newest() is None
        kept = await snapshots.keep(store)
    assert age_text(kept) == "0 s ago"

    seconds += 93_600
    newest = await snapshots.newest()
    assert newest is not None
    assert (newest.path, age_text(newest)) == (kept.path, "1 d 2 h ago")
