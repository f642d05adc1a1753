from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import pytest

from callisto_telnetd.errors import NameTakenError, TargetFolderError, TransferError, UsageError
from callisto_telnetd.transports.transport import CHECKING, FETCHING, SENDING, open_transport
from callisto_telnetd.transports.wire import RemoteFile
from tests.transports.conftest import open_site
from tests.transports.sites import SHORT, Site, folder_site, nothing_told

NAME = "callisto-lab-20261123-101500.zip"
MUCH = 1 << 30


async def test_a_file_goes_there_and_comes_back(site: Site, local: Path, tmp_path: Path) -> None:
    """What was uploaded is there under its name alone, is listed with its size, and comes back the same."""
    await check_round_trip(site, local, tmp_path)


@pytest.mark.parametrize("kind", ["openssh", "vsftpd-ftps", "proftpd-ftps"])
async def test_what_most_of_the_world_runs_takes_a_file_and_gives_it_back(
    kind: str, local: Path, tmp_path: Path
) -> None:
    """So it does with the servers that most of the world runs, as they are when nobody has changed their defaults."""
    async with open_site(kind, tmp_path) as site:
        await check_round_trip(site, local, tmp_path)


async def check_round_trip(site: Site, local: Path, tmp_path: Path) -> None:
    """Upload, list and download one file, and look at all that was told."""
    told: list[tuple[str, int, int]] = []
    back = tmp_path / "back.zip"

    async with open_transport(site.target, site.credentials, SHORT) as transport:
        sent = await transport.upload(local, NAME, lambda *step: told.append(step))
        listed = await transport.list()
        got = await transport.download(NAME, back, MUCH, lambda *step: told.append(step))

    content = local.read_bytes()
    assert site.files() == {NAME: content}
    assert listed == [RemoteFile(NAME, len(content))]
    assert back.read_bytes() == content
    assert back.stat().st_mode & 0o777 == 0o600
    assert sent == got
    assert sent.sha256 == hashlib.sha256(content).hexdigest()
    for step in (SENDING, CHECKING, FETCHING):
        done = [each[1] for each in told if each[0] == step]
        assert done == sorted(done)
        assert (done[0], done[-1]) == (0, len(content))


async def test_an_empty_file_goes_too(site: Site, tmp_path: Path) -> None:
    """A file without a byte is a file."""
    empty = tmp_path / "empty"
    empty.touch()

    async with open_transport(site.target, site.credentials, SHORT) as transport:
        await transport.upload(empty, "empty.zip", nothing_told)

    assert site.files() == {"empty.zip": b""}


async def test_a_name_that_is_taken_is_not_touched(site: Site, local: Path) -> None:
    """Another file of the same name stays as it is, shorter, longer or of the same size; nothing else is left."""

    def told(_step: str, done: int, of: int) -> None:
        assert done <= of, "more is read back than there should be"

    for other in (b"", b"x" * 10, b"x" * local.stat().st_size, b"x" * (local.stat().st_size + 1)):
        (site.folder / NAME).write_bytes(other)
        async with open_transport(site.target, site.credentials, SHORT) as transport:
            with pytest.raises(NameTakenError, match=NAME):
                await transport.upload(local, NAME, told)

        assert site.files() == {NAME: other}


async def test_the_same_content_under_the_name_is_done(site: Site, local: Path) -> None:
    """Where the file is there whole already, nothing is sent: the line was cut after the renaming."""
    (site.folder / NAME).write_bytes(local.read_bytes())
    told: list[str] = []

    async with open_transport(site.target, site.credentials, SHORT) as transport:
        await transport.upload(local, NAME, lambda step, _done, _of: told.append(step))

    assert SENDING not in told
    assert list(site.files()) == [NAME]


async def test_parts_of_the_same_name_are_removed(site: Site, local: Path) -> None:
    """What earlier tries of this file have left goes; another file's parts and foreign files stay."""
    foreign = ("other.zip.part-0123456789abcdef", f"{NAME}.part-x", "note.txt")
    for name in (f"{NAME}.part-0123456789abcdef", *foreign):
        (site.folder / name).write_bytes(b"left")

    async with open_transport(site.target, site.credentials, SHORT) as transport:
        await transport.upload(local, NAME, nothing_told)

    assert set(site.files()) == {NAME, *foreign}


async def test_a_file_is_deleted(site: Site) -> None:
    """A deleted file is gone, and a second deletion is an error; no path leads out of the folder."""
    (site.folder / NAME).write_bytes(b"old")
    (site.folder.parent / "outside").write_bytes(b"")

    async with open_transport(site.target, site.credentials, SHORT) as transport:
        await transport.delete(NAME)
        with pytest.raises(TransferError):
            await transport.delete(NAME)
        for path in ("../outside", "..", "", "a/b", "a\r\nDELE b"):
            with pytest.raises(UsageError):
                await transport.delete(path)

    assert site.files() == {}
    assert (site.folder.parent / "outside").exists()


async def test_a_folder_that_is_not_there_is_one_clear_line(site: Site, local: Path) -> None:
    """No such folder: said before anything is sent, and with what to do."""
    target = site.at(site.target.folder.rstrip("/") + "/absent")

    with pytest.raises(TargetFolderError, match="make") as raised:
        async with open_transport(target, site.credentials, SHORT) as transport:
            await transport.upload(local, NAME, nothing_told)

    assert str(raised.value).isprintable()
    assert site.files() == {}


async def test_a_download_has_a_bound(site: Site, tmp_path: Path) -> None:
    """A file that is larger than asked for is refused, one that is not there too; nothing is left here."""
    (site.folder / NAME).write_bytes(b"x" * 1000)
    back = tmp_path / "back"

    async with open_transport(site.target, site.credentials, SHORT) as transport:
        with pytest.raises(TransferError, match="1,000 bytes"):
            await transport.download(NAME, back, 999, nothing_told)
        with pytest.raises(TransferError, match="no file"):
            await transport.download("absent.zip", back, MUCH, nothing_told)
        assert not back.exists()
        back.write_bytes(b"mine")
        with pytest.raises(TransferError, match="cannot be made"):
            await transport.download(NAME, back, 1000, nothing_told)

    assert back.read_bytes() == b"mine"


async def test_folders_and_links_are_not_listed(site: Site) -> None:
    """Only regular files are listed; what a link is, not every server of FTP tells."""
    (site.folder / "folder").mkdir()
    (site.folder / "file").write_bytes(b"12345")
    (site.folder / "nowhere").symlink_to("absent")
    if site.target.scheme in ("sftp", "file"):
        (site.folder / "link").symlink_to("file")

    async with open_transport(site.target, site.credentials, SHORT) as transport:
        assert await transport.list() == [RemoteFile("file", 5)]


async def test_only_plain_names_are_sent(local: Path, tmp_path: Path) -> None:
    """Names of our own have letters, digits, dots, underscores and dashes; a temporary name is none."""
    with folder_site(tmp_path) as site:
        async with open_transport(site.target, site.credentials, SHORT) as transport:
            part = f"{NAME}.part-0123456789abcdef"
            for name in ("", ".", "..", "a/b", "../a", "a b", "ä.zip", "-a", ".a", "a\n", "x" * 201, part):
                with pytest.raises(UsageError, match="cannot be sent"):
                    await transport.upload(local, name, nothing_told)

        assert site.files() == {}


@pytest.mark.parametrize("at", [0, 1, 2, 4])
async def test_an_upload_that_is_cancelled_leaves_nothing(site: Site, local: Path, at: int) -> None:
    """Whoever cancels an upload finds neither the name nor a part of it there, and the transport still works."""
    steps: list[str] = []
    enough = asyncio.Event()

    def told(step: str, _done: int, _of: int) -> None:
        steps.append(step)
        if len(steps) > at:
            enough.set()

    async with open_transport(site.target, site.credentials, SHORT) as transport:
        task = asyncio.create_task(transport.upload(local, NAME, told))
        await enough.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await transport.list() == []
        await transport.upload(local, "next.zip", nothing_told)

    assert list(site.files()) == ["next.zip"]
