from __future__ import annotations

from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from callisto_telnetd.db.media import Media
from callisto_telnetd.db.store import open_store
from callisto_telnetd.errors import DiskFullError, FolderError
from callisto_telnetd.maintenance.demo import Demo
from callisto_telnetd.maintenance.demo_pieces import Order
from tests.hostile.conftest import SmallDisk, small_disk

__all__ = ["small_disk"]

NOW = datetime(2026, 11, 23, 10, 15, tzinfo=UTC)
ORDER = Order(users=2, messages=100, calls=0)


async def test_a_disk_that_fills_up_keeps_what_is_whole(small_disk: SmallDisk) -> None:
    """Where the disk is full in the middle, the error says what is there, and no recording is left in part."""
    media = Media(small_disk.path / "media")
    media.folder.mkdir()
    async with open_store(small_disk.path / "callisto.db") as store:
        demo = Demo(store, media, ORDER)
        await demo.prepare(beside=False)
        async with aclosing(demo.fill(NOW, first=())) as filling:
            await anext(filling)
            small_disk.fill()
            with pytest.raises(DiskFullError, match="what is there is whole: 2 users, 0 messages, "):
                await anext(filling)
        assert await store.fetch("SELECT count(*) FROM message") == [(0,)]
    assert len(list(media.folder.iterdir())) == demo.made.recordings


async def test_a_full_disk_at_the_beginning_changes_nothing(small_disk: SmallDisk) -> None:
    """Where the disk fills up before the first batch, there are no users."""
    media = Media(small_disk.path / "media")
    media.folder.mkdir()
    async with open_store(small_disk.path / "callisto.db") as store:
        demo = Demo(store, media, ORDER)
        await demo.prepare(beside=False)
        small_disk.fill()
        async with aclosing(demo.fill(NOW, first=())) as filling:
            with pytest.raises(DiskFullError, match="the disk is full; nothing was changed"):
                await anext(filling)
        assert await store.fetch("SELECT count(*) FROM user") == [(0,)]


async def test_a_folder_that_goes_is_told(tmp_path: Path) -> None:
    """Where the folder of recordings is taken away, the error names it and what is there."""
    media = Media(tmp_path / "media")
    media.folder.mkdir()
    async with open_store(tmp_path / "callisto.db") as store:
        demo = Demo(store, media, ORDER)
        await demo.prepare(beside=False)
        async with aclosing(demo.fill(NOW, first=())) as filling:
            await anext(filling)
            media.folder.rename(tmp_path / "elsewhere")
            with pytest.raises(FolderError, match="cannot be used: No such file or directory; what is there is whole"):
                await anext(filling)
