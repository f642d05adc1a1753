from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from callisto_telnetd.errors import (
    CertificateError,
    LoginDeniedError,
    NameTakenError,
    NotPermittedError,
    TransferError,
    TransferInterruptedError,
)
from callisto_telnetd.transports.delivery import deliver
from callisto_telnetd.transports.transport import open_transport
from tests.transports.servers import FtpServer
from tests.transports.sites import (
    SHORT,
    Site,
    no_pause,
    nothing_told,
    refused,
    small_disk,
)


async def test_a_ca_file_that_is_none_is_told(ftps: Site, tmp_path: Path) -> None:
    """A CA file that is missing or holds no certificate is told before anybody is connected to."""
    (tmp_path / "empty.pem").write_text("nothing")
    (tmp_path / "open.pem").touch()
    (tmp_path / "open.pem").chmod(0o666)
    for name, reason in (
        ("absent.pem", "cannot be read"),
        ("empty.pem", "no certificates"),
        ("open.pem", "may be written to by others (mode 0666); mend it with: chmod go-w"),
    ):
        error = await refused(ftps.target, replace(ftps.credentials, ca_file=tmp_path / name))
        assert isinstance(error, CertificateError)
        assert reason in str(error)


async def test_without_tls_at_the_server_nothing_secret_is_sent(ftp: Site) -> None:
    """``ftps`` never falls back to clear text."""
    error = await refused(replace(ftp.target, scheme="ftps"), ftp.credentials)

    assert "offers no TLS" in str(error)
    assert not isinstance(error, TransferInterruptedError)
    assert ftp.offered() == 0


async def test_a_server_that_wants_tls_is_not_spoken_to_in_clear_text(ftps: Site) -> None:
    """Where plain FTP is refused, that is told, and no password was sent."""
    error = await refused(replace(ftps.target, scheme="ftp"), ftps.credentials)

    assert isinstance(error, LoginDeniedError | TransferError)
    assert ftps.offered() == 0


async def test_a_wrong_password_is_offered_once(ftps: Site, local: Path) -> None:
    """A refused log-in is one clear line, and is not tried again."""
    with pytest.raises(LoginDeniedError, match="530"):
        await deliver(
            ftps.target, ftps.with_password("Wrong-1"), local, "a.zip", nothing_told, patience=SHORT, pause=no_pause
        )

    assert ftps.offered() == 1


async def test_a_password_cannot_smuggle_a_command(ftp: Site) -> None:
    """A password with a line's end is refused before anybody is connected to."""
    error = await refused(ftp.target, ftp.with_password("a\r\nDELE b"))

    assert isinstance(error, LoginDeniedError)
    assert ftp.offered() == 0


async def test_a_folder_that_may_only_be_read_is_one_clear_line(
    tmp_path: Path, local: Path, ftp_server: FtpServer
) -> None:
    """No permission is told at once."""
    with ftp_server(tmp_path, writable=False) as site:
        with pytest.raises(NotPermittedError, match="may the user do that"):
            await deliver(site.target, site.credentials, local, "a.zip", nothing_told, patience=SHORT, pause=no_pause)

        assert site.files() == {}


async def test_a_full_disk_at_the_server_is_one_clear_line(tmp_path: Path, local: Path, ftp_server: FtpServer) -> None:
    """Whatever a server says then, its words are in the error, the name is free and no part is left."""
    with small_disk(tmp_path / "files", 64 * 1024), ftp_server(tmp_path) as site:
        with pytest.raises(TransferError, match=r" (426|451) .* given up after 5 tries") as raised:
            await deliver(site.target, site.credentials, local, "a.zip", nothing_told, patience=SHORT, pause=no_pause)

        assert str(raised.value).isprintable()
        assert site.files() == {}


async def test_a_session_that_servers_take_for_too_old_is_not_continued(ftps: Site, local: Path) -> None:
    """After so long the next data connection has a log-in of its own: ProFTPD refuses others after half an hour."""
    async with open_transport(ftps.target, ftps.credentials, replace(SHORT, session_s=0)) as transport:
        await transport.upload(local, "a.zip", nothing_told)

    assert ftps.files() == {"a.zip": local.read_bytes()}
    assert ftps.offered() == 5, "to begin with, for each listing, for the copy, for reading it back"


async def test_plain_ftp_has_no_session_that_could_be_too_old(ftp: Site) -> None:
    """Without TLS one log-in does for all of it."""
    async with open_transport(ftp.target, ftp.credentials, replace(SHORT, session_s=0)) as transport:
        await transport.list()

    assert ftp.offered() == 1


async def test_a_name_that_is_taken_is_looked_for_before_the_renaming(ftp: Site) -> None:
    """FTP renames over a name that is taken, so it never comes to that."""
    (ftp.folder / "a.zip").write_bytes(b"mine")
    (ftp.folder / "b").write_bytes(b"other")
    async with open_transport(ftp.target, ftp.credentials, SHORT) as transport:
        with pytest.raises(NameTakenError):
            await transport._wire.rename("b", "a.zip")  # type: ignore[attr-defined]
        await transport._wire.rename("b", "b.zip")  # type: ignore[attr-defined]

    assert ftp.files() == {"a.zip": b"mine", "b.zip": b"other"}


async def test_a_folder_below_the_home_is_found(ftp: Site, local: Path) -> None:
    """``/~/folder`` is relative to where the user lands, ``/~`` is that place."""
    (ftp.folder / "below").mkdir()
    (ftp.folder / "below").chmod(0o777)
    home = ftp.target.folder.removeprefix("/")
    for folder, path in ((f"{home}/below".lstrip("/"), ftp.folder / "below"), (home, ftp.folder)):
        target = replace(ftp.target, folder=folder, in_home=True)
        async with open_transport(target, ftp.credentials, SHORT) as transport:
            await transport.upload(local, "home.zip", nothing_told)

        assert (path / "home.zip").exists()
