from __future__ import annotations

import asyncio
import errno
import os
import stat
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest
from pydantic import SecretStr

from callisto_telnetd.errors import (
    CallistoError,
    HostKeyChangedError,
    HostKeyUnknownError,
    LoginDeniedError,
    NameTakenError,
    NoRoomError,
    NotListedError,
    NotPermittedError,
    TargetFolderError,
    TransferError,
    TransferInterruptedError,
)
from callisto_telnetd.transports.credentials import Credentials, fingerprint_of
from callisto_telnetd.transports.delivery import deliver
from callisto_telnetd.transports.target import Target
from callisto_telnetd.transports.transport import open_transport
from callisto_telnetd.transports.wire import MAX_ENTRIES, RemoteFile
from tests.transports.servers import can_run_openssh, openssh_site
from tests.transports.sites import (
    PASSWORD,
    SHORT,
    Site,
    Typeless,
    asyncssh_site,
    key_line,
    nothing_told,
    small_disk,
)


async def no_pause(_seconds: float) -> None:
    """Try again at once."""
    await asyncio.sleep(0)


async def refused(site: Site, credentials: Credentials | None = None) -> CallistoError:
    """Return the error of opening that target."""
    with pytest.raises(CallistoError) as raised:
        async with open_transport(site.target, credentials or site.credentials, SHORT):
            pass
    assert str(raised.value).isprintable()
    assert PASSWORD not in str(raised.value)
    return raised.value


async def test_an_unknown_host_key_is_shown_as_openssh_does(tmp_path: Path) -> None:
    """Without a pinned key nobody logs in; the error has the fingerprint of ssh-keygen and the line to pin."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_public_key(tmp_path / "key.pub")
    shown = subprocess.run(["ssh-keygen", "-lf", tmp_path / "key.pub"], capture_output=True, text=True, check=True)

    async with asyncssh_site(tmp_path, host_keys=[key]) as site:
        error = await refused(site, replace(site.credentials, host_key=None))

        assert isinstance(error, HostKeyUnknownError)
        assert error.fingerprint == shown.stdout.split()[1]
        assert error.fingerprint in str(error)
        assert fingerprint_of(f"{error.key_line} a comment") == error.fingerprint
        assert (site.log_ins, site.passwords) == ([], [])
        async with open_transport(site.target, replace(site.credentials, host_key=error.key_line), SHORT) as transport:
            assert await transport.list() == []


async def test_a_changed_host_key_stops_before_any_secret_is_sent(sftp: Site) -> None:
    """Where another key was pinned, the server learns neither user nor password, and both keys are named."""
    other = asyncssh.generate_private_key("ssh-ed25519")

    error = await refused(sftp, replace(sftp.credentials, host_key=key_line(other)))

    assert isinstance(error, HostKeyChangedError)
    assert error.expected == other.get_fingerprint()
    assert error.fingerprint != error.expected
    assert (sftp.log_ins, sftp.passwords) == ([], [])


async def test_a_host_key_of_another_kind_is_a_changed_one(sftp: Site) -> None:
    """A server that has no key of the pinned kind any more shows another: that is told, not that nothing fits."""
    other = asyncssh.generate_private_key("ecdsa-sha2-nistp256")

    assert isinstance(await refused(sftp, replace(sftp.credentials, host_key=key_line(other))), HostKeyChangedError)
    assert sftp.log_ins == []


@pytest.mark.parametrize("pinned", [0, 1])
async def test_of_several_host_keys_the_pinned_one_is_asked_for(pinned: int, tmp_path: Path) -> None:
    """A server with keys of two kinds is known by either."""
    keys = [asyncssh.generate_private_key(kind) for kind in ("ssh-ed25519", "ecdsa-sha2-nistp256")]

    async with asyncssh_site(tmp_path, host_keys=keys) as site:
        credentials = replace(site.credentials, host_key=key_line(keys[pinned]) + " a comment")
        async with open_transport(site.target, credentials, SHORT) as transport:
            assert await transport.list() == []


async def test_a_wrong_password_is_one_clear_line(sftp: Site) -> None:
    """A refused log-in says what to check, and not what was tried."""
    error = await refused(sftp, sftp.with_password("Wrong-1"))

    assert isinstance(error, LoginDeniedError)
    assert "Wrong-1" not in str(error)


async def test_nothing_of_the_own_account_is_used(sftp: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither known hosts nor configuration nor keys nor agent of the account that runs the server count."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    pinned = sftp.credentials.host_key
    (home / ".ssh" / "known_hosts").write_text(f"[{sftp.target.host}]:{sftp.target.port} {pinned}\n")
    (home / ".ssh" / "config").write_text("Host *\n  Ciphers no-such-cipher\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(home / "agent"))

    assert isinstance(await refused(sftp, replace(sftp.credentials, host_key=None)), HostKeyUnknownError)
    async with open_transport(sftp.target, sftp.credentials, SHORT) as transport:
        assert await transport.list() == []


async def test_a_key_file_opens_the_door(tmp_path: Path) -> None:
    """A private key logs in, with its passphrase where it has one, and the password is not offered then."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "key", passphrase="Open-1", rounds=50)

    async with asyncssh_site(tmp_path, user_key=key) as site:
        credentials = replace(site.credentials, key_file=tmp_path / "key", passphrase=SecretStr("Open-1"))
        async with open_transport(site.target, credentials, SHORT) as transport:
            assert await transport.list() == []

        assert site.passwords == []
        error = await refused(site, replace(credentials, passphrase=SecretStr("Wrong-1")))
        assert "passphrase of the private key" in str(error)


async def test_a_password_is_tried_composed_and_then_as_it_was_typed(sftp: Site) -> None:
    """A target gets the spelling that is compared everywhere first; one that it refuses is offered as it was typed."""
    await refused(sftp, replace(sftp.credentials, password=SecretStr("Scho\u0308n-1")))

    assert sftp.passwords == ["Sch\u00f6n-1", "Scho\u0308n-1"]


async def test_a_key_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    """What an editor on Windows puts before a text does no harm."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    (tmp_path / "key").write_bytes(b"\xef\xbb\xbf" + key.export_private_key())
    async with (
        asyncssh_site(tmp_path, user_key=key) as site,
        open_transport(site.target, replace(site.credentials, key_file=tmp_path / "key"), SHORT) as transport,
    ):
        assert await transport.list() == []


@pytest.mark.parametrize(
    ("content", "passphrase", "reason"),
    [
        (None, None, "cannot be read"),
        (b"nothing", None, "cannot be used without a passphrase"),
        (b"x" * 70_000, None, "longer than 64 KiB"),
        (b"encrypted", None, "without a passphrase"),
        (b"encrypted", "Wrong-1", "cannot be used with this passphrase"),
    ],
)
async def test_a_key_file_that_is_none_is_one_clear_line(
    content: bytes | None, passphrase: str | None, reason: str, sftp: Site, tmp_path: Path
) -> None:
    """A key that cannot be read or opened is told before anybody is connected to."""
    file = tmp_path / "key"
    if content == b"encrypted":
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(file, "pkcs8-pem", passphrase="Open-1")
    elif content is not None:
        file.write_bytes(content)
    secret = None if passphrase is None else SecretStr(passphrase)

    error = await refused(sftp, replace(sftp.credentials, key_file=file, passphrase=secret))

    with pytest.raises(TransferError, match=reason):
        raise error
    assert sftp.log_ins == []


@pytest.mark.parametrize("opened", ["key", ""])
async def test_a_key_file_that_others_may_replace_is_refused(opened: str, sftp: Site, tmp_path: Path) -> None:
    """One that others may write to, or whose folder is theirs, is told before anybody is connected to."""
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(keys / "key")
    (keys / "key").chmod(0o600)
    (keys / opened).chmod(0o777)

    error = await refused(sftp, replace(sftp.credentials, key_file=keys / "key"))

    assert f"private key {str(keys / opened)!r} may be written to by others (mode 0777)" in str(error).replace(
        "the folder of ", ""
    )
    assert str(error).endswith(f"chmod go-w {keys / opened}")
    assert sftp.log_ins == []


async def test_a_pinned_key_that_is_none_is_told(sftp: Site) -> None:
    """A damaged line never passes for "any key"."""
    for line in ("", "ssh-ed25519", "ssh-ed25519 AAAA", "nonsense"):
        error = await refused(sftp, replace(sftp.credentials, host_key=line))
        assert "accept it anew" in str(error)


class ReadOnlyServer(asyncssh.SFTPServer):
    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if pflags & asyncssh.FXF_WRITE:
            raise asyncssh.SFTPPermissionDenied("read only")
        return super().open(path, pflags, attrs)


class FullServer(asyncssh.SFTPServer):
    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


class ForgetfulServer(asyncssh.SFTPServer):
    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        changed = bytes([data[0] ^ 1]) + data[1:] if offset else data
        super().write(file_obj, offset, changed)
        return len(data)


class SlowDisk(asyncssh.SFTPServer):
    async def fsync(self, file_obj: object) -> None:
        await asyncio.sleep(0.8)


class RenamingServer(asyncssh.SFTPServer):
    """Renames over a name that is taken, as some servers do."""

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        Path(self.map_path(oldpath).decode()).replace(self.map_path(newpath).decode())


class HostileNames(asyncssh.SFTPServer):
    names = (b"good.zip", b"../up", b"a/b", b"", b"\x1b[2J", b"a\nb", b"\xff\xfe", "a\u202eb".encode(), b"x" * 300)

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        attrs = asyncssh.SFTPAttrs(size=5, type=asyncssh.FILEXFER_TYPE_REGULAR, permissions=0o100644)
        for name in self.names:
            yield asyncssh.SFTPName(name, b"", attrs)
        yield asyncssh.SFTPName(b"huge", b"", asyncssh.SFTPAttrs(size=1 << 63, permissions=0o100644))
        yield asyncssh.SFTPName(b"folder", b"", asyncssh.SFTPAttrs(size=5, permissions=0o040755))


class LongNames(asyncssh.SFTPServer):
    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        for _ in range(128):
            yield asyncssh.SFTPName(b"a", b"x" * 4096, asyncssh.SFTPAttrs(size=1, permissions=0o100644))


class EndlessNames(asyncssh.SFTPServer):
    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        while True:
            yield asyncssh.SFTPName(b"a", b"", asyncssh.SFTPAttrs(size=1, permissions=0o100644))


@pytest.mark.parametrize(("server", "error"), [(ReadOnlyServer, NotPermittedError), (FullServer, TransferError)])
async def test_a_server_that_refuses_is_asked_once(
    server: type[asyncssh.SFTPServer], error: type[TransferError], tmp_path: Path, local: Path
) -> None:
    """No permission and a failed write are told at once; nothing is left there."""
    async with asyncssh_site(tmp_path, server=server) as site:
        with pytest.raises(error) as raised:
            await deliver(site.target, site.credentials, local, "a.zip", nothing_told, patience=SHORT, pause=no_pause)

        assert not isinstance(raised.value, TransferInterruptedError)
        assert "tries" not in str(raised.value)
        assert site.files() == {}
        assert len(site.log_ins) == 1


async def test_a_copy_that_was_kept_wrongly_never_gets_its_name(tmp_path: Path, local: Path) -> None:
    """What is read back is compared byte by byte; a server that changes one of them gets five tries."""
    async with asyncssh_site(tmp_path, server=ForgetfulServer) as site:
        with pytest.raises(TransferInterruptedError, match=r"are not the .* given up after 5 tries"):
            await deliver(site.target, site.credentials, local, "a.zip", nothing_told, patience=SHORT, pause=no_pause)

        assert site.files() == {}


async def test_a_server_may_take_its_time_to_keep_a_copy(tmp_path: Path, local: Path) -> None:
    """Syncing a whole copy may take longer than a step: a slow disk at the server is no silence."""
    async with asyncssh_site(tmp_path, server=SlowDisk) as site:
        async with open_transport(site.target, site.credentials, replace(SHORT, step_s=0.5)) as transport:
            await transport.upload(local, "a.zip", nothing_told)

        assert site.files() == {"a.zip": local.read_bytes()}


async def test_names_from_the_server_are_cleaned(tmp_path: Path) -> None:
    """Of a listing only regular files with plain names and sizes that can be are kept."""
    async with (
        asyncssh_site(tmp_path, server=HostileNames) as site,
        open_transport(site.target, site.credentials, SHORT) as transport,
    ):
        assert await transport.list() == [RemoteFile("good.zip", 5)]


class TellsInLines(Typeless):
    """Says what a file is in the lines of a listing alone."""

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        async for entry in super().scandir(path):
            status = Path(self.map_path(path).decode(), os.fsdecode(entry.filename)).lstat()
            line = f"{stat.filemode(status.st_mode)}   1 ada      ada      {status.st_size:8d} Dec  1 10:00 name"
            yield asyncssh.SFTPName(entry.filename, line.encode(), entry.attrs)


class TellsWhenAsked(Typeless):
    """Lists bare names, and says all of a file that it is asked for."""

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        async for entry in super().scandir(path):
            yield asyncssh.SFTPName(b"./" + os.fsencode(entry.filename), b"-", asyncssh.SFTPAttrs())

    def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
        return asyncssh.SFTPAttrs.from_local(os.lstat(self.map_path(path)))


class TellsNothing(Typeless):
    """Lists bare names and sizes, and cannot be asked."""

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        for entry in Path(self.map_path(path).decode()).iterdir():
            yield asyncssh.SFTPName(entry.name.encode(), b"-", asyncssh.SFTPAttrs(size=entry.lstat().st_size))

    def lstat(self, path: bytes) -> asyncssh.SFTPAttrs:
        if b".part-" in path or not Path(self.map_path(path).decode()).exists():  # for the renaming
            raise asyncssh.SFTPNoSuchFile("no such file")
        raise asyncssh.SFTPOpUnsupported("no")


@pytest.mark.parametrize(
    ("server", "others"),
    [
        (TellsInLines, []),
        (TellsWhenAsked, []),
        (Typeless, ["folder", "link"]),
        (TellsNothing, ["folder", "link"]),
    ],
)
async def test_a_file_is_found_where_listings_tell_no_types(
    server: type[asyncssh.SFTPServer], others: list[str], tmp_path: Path, local: Path
) -> None:
    """What the server does not call something else is a file: it is listed, fetched and removed."""
    async with asyncssh_site(tmp_path, server=server) as site:
        (site.folder / "folder").mkdir()
        (site.folder / "link").symlink_to("folder")
        async with open_transport(site.target, site.credentials, SHORT) as transport:
            await transport.upload(local, "a.zip", nothing_told)
            assert [file.name for file in await transport.list()] == ["a.zip", *others]
            await transport.download("a.zip", tmp_path / "back", 1 << 20, nothing_told)
            assert (tmp_path / "back").read_bytes() == local.read_bytes()
            await transport.delete("a.zip")
            assert [file.name for file in await transport.list()] == others


class Blind(asyncssh.SFTPServer):
    """Lists nothing."""

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        for name in (b".", b".."):
            yield asyncssh.SFTPName(name, b"", asyncssh.SFTPAttrs(permissions=0o040755))


async def test_a_copy_that_is_not_listed_is_no_success(tmp_path: Path, local: Path) -> None:
    """What could neither be found again nor removed in time is told at once; it stays there whole."""
    async with asyncssh_site(tmp_path, server=Blind) as site:
        with pytest.raises(NotListedError, match=r"takes files, but does not list them: a\.zip is there unseen"):
            await deliver(site.target, site.credentials, local, "a.zip", nothing_told, patience=SHORT, pause=no_pause)

        assert site.files() == {"a.zip": local.read_bytes()}


async def test_a_listing_without_an_end_has_one(tmp_path: Path) -> None:
    """A folder of more entries than anybody's copies is refused when the bound is reached."""
    async with (
        asyncssh_site(tmp_path, server=EndlessNames) as site,
        open_transport(site.target, site.credentials, SHORT) as transport,
    ):
        with pytest.raises(TargetFolderError, match=f"{MAX_ENTRIES:,} entries"):
            await transport.list()


async def test_a_server_that_renames_over_a_name_is_not_let(tmp_path: Path) -> None:
    """Some servers rename over a name that is taken: it is looked for before."""
    async with asyncssh_site(tmp_path, server=RenamingServer) as site:
        (site.folder / "a.zip").write_bytes(b"mine")
        (site.folder / "b").write_bytes(b"other")
        async with open_transport(site.target, site.credentials, SHORT) as transport:
            with pytest.raises(NameTakenError):
                await transport._wire.rename("b", "a.zip")  # type: ignore[attr-defined]
            await transport._wire.rename("b", "b.zip")  # type: ignore[attr-defined]

        assert site.files() == {"a.zip": b"mine", "b.zip": b"other"}


async def test_a_packet_beyond_any_reason_is_refused(tmp_path: Path) -> None:
    """A listing packet of more than 256 KiB is not unpacked: its objects would take many times that."""
    async with (
        asyncssh_site(tmp_path, server=LongNames) as site,
        open_transport(site.target, site.credentials, SHORT) as transport,
    ):
        with pytest.raises(TransferError, match="longer than 256 KiB"):
            await transport.list()


async def test_a_copy_is_its_owners_alone(tmp_path: Path, local: Path) -> None:
    """Whatever the server's own way is, the file has mode 0600 from its beginning."""
    if not can_run_openssh():
        pytest.skip("no sshd here")
    with openssh_site(tmp_path) as site:
        async with open_transport(site.target, site.credentials, SHORT) as transport:
            await transport.upload(local, "a.zip", nothing_told)
        assert (site.folder / "a.zip").stat().st_mode & 0o777 == 0o600


async def test_a_folder_below_the_home_is_found(sftp: Site, local: Path) -> None:
    """``/~/folder`` is relative to where the user lands, ``/~`` is that place."""
    (sftp.folder / "below").mkdir()
    for folder, path in (("below", sftp.folder / "below"), ("", sftp.folder)):
        target = replace(sftp.target, folder=folder, in_home=True)
        async with open_transport(target, sftp.credentials, SHORT) as transport:
            await transport.upload(local, "home.zip", nothing_told)

        assert (path / "home.zip").exists()


async def test_openssh_refuses_in_one_clear_line(tmp_path: Path, local: Path) -> None:
    """A folder that may only be read at OpenSSH's server: one line, and one try."""
    if not can_run_openssh():
        pytest.skip("Debian's sshd is not here, or not as root")
    with openssh_site(tmp_path, "-R") as site, pytest.raises(NotPermittedError, match="Permission denied"):
        await deliver(site.target, site.credentials, local, "a.zip", nothing_told, patience=SHORT, pause=no_pause)


async def test_a_full_disk_at_openssh_is_one_clear_line(tmp_path: Path, local: Path) -> None:
    """Where the server tells how much room it has, too little is said before anything is sent."""
    if not can_run_openssh():
        pytest.skip("Debian's sshd is not here, or not as root")
    with small_disk(tmp_path / "files", 64 * 1024), openssh_site(tmp_path) as site:
        with pytest.raises(NoRoomError, match="room for 65,536 bytes, and 299,779 are wanted"):
            await deliver(site.target, site.credentials, local, "a.zip", nothing_told, patience=SHORT, pause=no_pause)

        assert site.files() == {}


async def test_a_server_without_sftp_is_told(sftp: Site) -> None:
    """SSH without its file transfer is one clear line."""
    listener = await asyncssh.listen(
        sftp.target.host,
        0,
        server_factory=OpenDoor,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
    )
    async with listener:
        site = replace(sftp, target=Target("sftp", "b", sftp.target.host, listener.get_port(), "/"))
        error = await refused(site, replace(sftp.credentials, host_key=None))
        assert isinstance(error, HostKeyUnknownError)
        assert "SFTP" in str(await refused(site, replace(sftp.credentials, host_key=error.key_line)))


class OpenDoor(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False
