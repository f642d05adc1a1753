from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from callisto_telnetd.errors import (
    NameTakenError,
    NoRoomError,
    NotPermittedError,
    TargetFolderError,
    TransferError,
    TransferInterruptedError,
)
from callisto_telnetd.transports.delivery import deliver
from callisto_telnetd.transports.transport import open_transport
from callisto_telnetd.transports.wire import Patience, RemoteFile
from tests.transports.sites import SHORT, folder_site, nothing_told, small_disk


async def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, local: Path) -> None:
    """Too little room is one clear line with both numbers."""
    with small_disk(tmp_path / "files", 64 * 1024), folder_site(tmp_path) as site:
        with pytest.raises(NoRoomError, match="room for 65,536 bytes, and the copy has 299,779"):
            await deliver(site.target, site.credentials, local, "a.zip", nothing_told, patience=SHORT)

        assert site.files() == {}


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.ENOSPC, NoRoomError),
        (errno.EDQUOT, NoRoomError),
        (errno.EROFS, NotPermittedError),
        (errno.ESTALE, TransferInterruptedError),
        (errno.EIO, TransferError),
    ],
)
async def test_a_write_that_fails_leaves_nothing(
    number: int, error: type[TransferError], tmp_path: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system says while a copy is written becomes one line of ours, and the part is removed."""

    def fail(_descriptor: int, _block: bytes) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", fail)
    with folder_site(tmp_path) as site:
        async with open_transport(site.target, site.credentials, SHORT) as transport:
            with pytest.raises(error, match=os.strerror(number)):
                await transport.upload(local, "a.zip", nothing_told)

        assert site.files() == {}


def open_descriptors() -> int:
    """Return how many descriptors this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_a_mount_that_hangs_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system call that never returns holds nobody past the deadline, and not the exit of the process."""
    released = threading.Event()
    real: Callable[..., int] = os.open

    def hang(path: object, *arguments: object, **named: object) -> int:
        if str(path).endswith("files"):
            released.wait(10)
        return real(path, *arguments, **named)

    patience = Patience(step_s=0.1, tidy_s=0.1)
    descriptors = open_descriptors()
    with folder_site(tmp_path) as site:
        monkeypatch.setattr(os, "open", hang)
        with pytest.raises(TransferInterruptedError, match=r"within 0.1 s \(opening\)"):
            async with open_transport(site.target, site.credentials, patience):
                pass
        hanging = [thread for thread in threading.enumerate() if thread.name == "target-folder"]
        released.set()

    assert [thread.daemon for thread in hanging] == [True]
    hanging[0].join()
    assert open_descriptors() == descriptors, "what it opened late is closed"


async def test_a_late_write_goes_to_its_own_file(tmp_path: Path, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that hangs past its deadline, and then goes on in pieces, touches no file that was opened meanwhile."""
    came, released = threading.Event(), threading.Event()
    real = os.write

    def hang(descriptor: int, block: bytes) -> int:
        if ".part-" not in str(Path(f"/proc/self/fd/{descriptor}").readlink()) and not came.is_set():
            return real(descriptor, block)
        came.set()
        released.wait(10)
        return real(descriptor, block[:1000])

    descriptors = open_descriptors()
    monkeypatch.setattr(os, "write", hang)
    with folder_site(tmp_path) as site:
        with pytest.raises(TransferInterruptedError, match=r"within 0.4 s \(writing\)"):
            async with open_transport(site.target, site.credentials, Patience(step_s=0.4, tidy_s=0.1)) as transport:
                await transport.upload(local, "a.zip", nothing_told)
        others = [(tmp_path / f"other-{count}").open("w+b") for count in range(10)]
        hanging = [thread for thread in threading.enumerate() if thread.name == "target-folder"]
        released.set()
        for thread in hanging:
            await asyncio.to_thread(thread.join)

        assert came.is_set()
        assert [Path(file.name).read_bytes() for file in others] == [b""] * 10
        for file in others:
            file.close()
        assert all(local.read_bytes().startswith(part) for part in site.files().values())
    assert open_descriptors() == descriptors


async def test_without_hard_links_a_name_is_still_not_written_over(
    tmp_path: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a stick without links a copy gets its name by renaming, unless there is one."""

    def refuse(*_arguments: object, **_named: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with folder_site(tmp_path) as site:
        async with open_transport(site.target, site.credentials, SHORT) as transport:
            await transport.upload(local, "a.zip", nothing_told)
            (site.folder / "b.zip").write_bytes(b"mine")
            with pytest.raises(NameTakenError):
                await transport._wire.rename("a.zip", "b.zip")  # type: ignore[attr-defined]

        assert site.files() == {"a.zip": local.read_bytes(), "b.zip": b"mine"}


async def test_links_and_pipes_are_no_files(tmp_path: Path, local: Path) -> None:
    """A link is not followed, neither listed nor read; a pipe does not hold anybody up."""
    with folder_site(tmp_path) as site:
        (site.folder / "link.zip").symlink_to(local)
        os.mkfifo(site.folder / "pipe.zip")
        (site.folder / "real.zip").write_bytes(b"123")
        async with open_transport(site.target, site.credentials, SHORT) as transport:
            assert await transport.list() == [RemoteFile("real.zip", 3)]
            with pytest.raises(TransferError):
                await transport.download("link.zip", tmp_path / "back", 10, nothing_told)
            with pytest.raises(NameTakenError):  # link(2) finds the name taken
                await transport.upload(local, "pipe.zip", nothing_told)


async def test_a_copy_here_is_the_owners_alone(tmp_path: Path, local: Path) -> None:
    """The file has mode 0600."""
    with folder_site(tmp_path) as site:
        async with open_transport(site.target, site.credentials, SHORT) as transport:
            await transport.upload(local, "a.zip", nothing_told)

        assert (site.folder / "a.zip").stat().st_mode & 0o777 == 0o600


async def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """A target that is a file is told."""
    with folder_site(tmp_path) as site:
        (site.folder / "file").touch()
        with pytest.raises(TargetFolderError, match="Not a directory"):
            async with open_transport(site.at(f"{site.folder}/file"), site.credentials, SHORT):
                pass


async def test_a_file_that_changes_while_it_is_sent_is_not_kept(tmp_path: Path, local: Path) -> None:
    """Where the local file shrinks under way, nothing of it gets the name."""
    with folder_site(tmp_path) as site:
        async with open_transport(site.target, site.credentials, SHORT) as transport:
            with pytest.raises(TransferError, match="was changed"):
                await transport.upload(local, "a.zip", lambda *_told: os.truncate(local, 100_000))

        assert site.files() == {}
