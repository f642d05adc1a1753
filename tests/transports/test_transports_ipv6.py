from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest

from callisto_telnetd.errors import CertificateError, HostKeyChangedError, HostKeyUnknownError
from callisto_telnetd.transports.target import parse_target
from callisto_telnetd.transports.transport import open_transport
from callisto_telnetd.transports.wire import RemoteFile
from tests.transports.authorities import make_authority
from tests.transports.conftest import FTP_PROGRAMS, open_site
from tests.transports.sites import SHORT, asyncssh_site, ftp_site, key_line, nothing_told

ADDRESS = "::1"
LONG = ("openssh", *(kind for kind in FTP_PROGRAMS if kind != "vsftpd-ftps"))


@pytest.fixture(autouse=True)
def ipv6() -> None:
    """Skip where the machine has no IPv6 of its own."""
    with socket.socket(socket.AF_INET6) as trial:
        try:
            trial.bind((ADDRESS, 0))
        except OSError:
            pytest.skip("there is no ::1 here")


@pytest.mark.parametrize(
    "kind",
    ["asyncssh", "ftp", "ftps", "vsftpd-ftps", *(pytest.param(kind, marks=pytest.mark.long) for kind in LONG)],
)
async def test_a_file_goes_there_and_comes_back(kind: str, tmp_path: Path, local: Path) -> None:
    """The same over IPv6, with the target as the owner writes it; FTP's data connections are EPSV's."""
    async with open_site(kind, tmp_path, ADDRESS) as site:
        target = parse_target(str(site.target), allow_plain_ftp=True)
        assert f"@[::1]:{site.target.port}/" in str(target)
        async with open_transport(target, site.credentials, SHORT) as transport:
            sent = await transport.upload(local, "a.zip", nothing_told)
            assert await transport.list() == [RemoteFile("a.zip", sent.size)]
            assert await transport.download("a.zip", tmp_path / "back", sent.size, nothing_told) == sent
            await transport.delete("a.zip")

        assert site.files() == {}


async def test_host_keys_are_judged_for_address_and_port(tmp_path: Path) -> None:
    """An unknown and a changed host key name the place in brackets; neither user nor password was sent."""
    async with asyncssh_site(tmp_path, address=ADDRESS) as site:
        other = key_line(asyncssh.generate_private_key("ssh-ed25519"))
        for pinned, error in ((None, HostKeyUnknownError), (other, HostKeyChangedError)):
            with pytest.raises(error, match=rf"\[::1\]:{site.target.port}"):
                async with open_transport(site.target, replace(site.credentials, host_key=pinned), SHORT):
                    pass

        assert (site.log_ins, site.passwords) == ([], [])


async def test_a_certificate_is_of_that_address(tmp_path: Path) -> None:
    """A certificate for another IPv6 address is refused."""
    with ftp_site(tmp_path, make_authority(tmp_path / "tls", "fd00::1"), address=ADDRESS) as site:
        with pytest.raises(CertificateError, match="mismatch"):
            async with open_transport(site.target, site.credentials, SHORT):
                pass

        assert site.offered() == 0
