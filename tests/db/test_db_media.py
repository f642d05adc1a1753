from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from callisto_telnetd.db.media import Media, MediaSize
from callisto_telnetd.errors import DiskFullError, FolderError, UsageError


def recording(content: bytes) -> tuple[str, bytes]:
    """Return a recording: name and content."""
    return hashlib.sha256(content).hexdigest(), content


@pytest.fixture
def media(tmp_path: Path) -> Media:
    """An empty folder of recordings."""
    (tmp_path / "media").mkdir()
    return Media(tmp_path / "media")


@pytest.fixture
def small_files() -> Iterator[None]:
    """Let no file of this process grow over 64 KiB: the system refuses as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_recordings_are_the_owners_alone_and_named_by_their_content(media: Media) -> None:
    """Each file holds its content under its hash, with mode 0600 and nothing beside it."""
    some = [recording(bytes([number]) * 100) for number in range(5)]

    assert media.write(some) == 500
    assert {path.name: path.read_bytes() for path in media.folder.iterdir()} == dict(some)
    assert {path.stat().st_mode & 0o777 for path in media.folder.iterdir()} == {0o600}
    assert media.size() == MediaSize(5, 500)


def test_what_is_there_is_not_written_again(media: Media) -> None:
    """A recording that stands there whole stays; two of one content are one; a damaged one is made anew."""
    first, second = recording(b"one"), recording(b"two")
    media.write([first])
    inode = media.path(first[0]).stat().st_ino

    assert media.write([first, second, second]) == 3
    assert media.path(first[0]).stat().st_ino == inode
    media.path(first[0]).write_bytes(b"onf")
    assert media.write([first]) == 3
    assert media.path(first[0]).read_bytes() == b"one"


@pytest.mark.usefixtures("small_files")
def test_a_full_disk_leaves_nothing_half_done(media: Media) -> None:
    """Where the disk takes no more, none of the recordings is there, not in part either."""
    with pytest.raises(DiskFullError, match="the disk is full"):
        media.write([recording(b"small"), recording(bytes(1 << 17))])

    assert list(media.folder.iterdir()) == []


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    """A folder that is not there is an error of ours; its size is nothing."""
    media = Media(tmp_path / "none")

    with pytest.raises(FolderError, match="No such file"):
        media.write([recording(b"one")])
    with pytest.raises(FolderError, match="No such file"), media.filling("demonstration data"):
        pass
    assert media.size() == MediaSize(0, 0)


def test_one_fills_the_folder_at_a_time(media: Media) -> None:
    """A second one is refused until the first is done."""
    with media.filling("demonstration data"):
        with (
            pytest.raises(UsageError, match="demonstration data is being made already"),
            media.filling("demonstration data"),
        ):
            pass
        assert media.write([recording(b"one")]) == 3
    with media.filling("demonstration data"):
        pass


def test_what_a_killed_one_left_is_removed(media: Media) -> None:
    """Files that were not whole go at the next filling; recordings and what is somebody else's stay."""
    media.write([recording(b"one")])
    (media.folder / ".making-abc").write_bytes(b"ha")
    (media.folder / "readme").write_bytes(b"mine")
    with media.filling("demonstration data"):
        pass

    assert {path.name for path in media.folder.iterdir()} == {recording(b"one")[0], "readme"}


def test_other_files_do_not_count(media: Media) -> None:
    """Links, folders and files of other names are no recordings."""
    media.write([recording(b"one")])
    (media.folder / "readme").write_bytes(b"mine")
    (media.folder / ("a" * 64)).mkdir()
    (media.folder / ("b" * 64)).symlink_to("/etc/passwd")

    assert media.size() == MediaSize(1, 3)


def test_every_file_is_synced_before_it_has_its_name(media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file reaches the disk before its name, and the folder after the last of them."""
    calls: list[str] = []
    sync, rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        calls.append("sync " + Path(f"/proc/self/fd/{descriptor}").readlink().name[:8])
        sync(descriptor)

    def renamed(self: Path, target: Path) -> Path:
        calls.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    media.write([recording(b"one"), recording(b"two")])

    assert calls == ["sync .making-", "sync .making-", "rename", "rename", "sync media"]
