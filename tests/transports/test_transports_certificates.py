"""The verdict on a server's certificate: the same on each Python, and what to do is said with it."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from callisto_telnetd.errors import CertificateError
from callisto_telnetd.transports.transport import open_transport
from tests.conftest import ROOT
from tests.transports.authorities import Authority, Extension, make_authority
from tests.transports.servers import FtpServer
from tests.transports.sites import RELAY_ADDRESS, SERVER_ADDRESS, SHORT, Site, ftp_site, refused, server_authority

SIGN, CA = "have its CA sign it anew with", "make the certificate of its CA anew with"


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"issuer": None}, f"Missing Authority Key Identifier; {SIGN} authorityKeyIdentifier=keyid"),
        ({"ca key": None}, f"Missing Subject Key Identifier; {CA} subjectKeyIdentifier=hash"),
        (
            {"ca usage": None},
            f"Path length given without key usage keyCertSign; {CA} keyUsage=critical,keyCertSign,cRLSign",
        ),
        (
            {"ca usage": None, "ca constraints": (x509.BasicConstraints(ca=True, path_length=None), True)},
            f"CA cert does not include key usage extension; {CA} keyUsage=critical,keyCertSign,cRLSign",
        ),
        (
            {"ca constraints": (x509.BasicConstraints(ca=True, path_length=0), False)},
            f"Basic Constraints of CA cert not marked critical; {CA} basicConstraints=critical,CA:TRUE",
        ),
        (
            {"ca constraints": (x509.BasicConstraints(ca=False, path_length=None), True)},
            f"invalid CA certificate; {CA} basicConstraints=critical,CA:TRUE",
        ),
        (
            {"use": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)},
            f"unsuitable certificate purpose; {SIGN} extendedKeyUsage=serverAuth, or without it",
        ),
    ],
)
async def test_what_a_certificate_lacks_is_told_with_the_remedy(
    fault: dict[str, Extension], says: str, tmp_path: Path
) -> None:
    """RFC 5280 is asked for whole, whatever this Python would ask for by itself; nobody logs in."""
    authority = make_authority(tmp_path / "tls", SERVER_ADDRESS, faults=fault)
    with ftp_site(tmp_path, authority) as site:
        error = await refused(site.target, site.credentials)

        assert isinstance(error, CertificateError)
        assert str(error) == f"the certificate of {site.target.place} is refused: {says}"
        assert site.offered() == 0


@pytest.mark.parametrize(
    ("names", "days", "says"),
    [
        ((SERVER_ADDRESS,), (-9, -1), "certificate has expired; renew it, or look at the clock here"),
        ((SERVER_ADDRESS,), (1, 9), "certificate is not yet valid; look at the clocks, here and there"),
        (("nas.example.org",), (-9, 9), f"{SIGN} subjectAltName=IP:127."),
        (("127.0.0.9",), (-9, 9), f"{SIGN} subjectAltName=IP:127."),
    ],
)
async def test_a_certificate_that_is_not_right_is_one_clear_line(
    names: tuple[str, ...], days: tuple[int, int], says: str, tmp_path: Path
) -> None:
    """Out of its time, or of another machine: nobody logs in."""
    with ftp_site(tmp_path, make_authority(tmp_path / "tls", *names, days=days)) as site:
        error = await refused(site.target, site.credentials)

        assert isinstance(error, CertificateError)
        assert says in str(error)
        assert site.offered() == 0


async def test_a_certificate_of_another_machine_is_refused(tmp_path: Path, ftp_server: FtpServer) -> None:
    """Whatever program the server is; the name that it should have is told."""
    with ftp_server(tmp_path, make_authority(tmp_path / "tls", "nas.example.org")) as site:
        error = await refused(site.target, site.credentials)
        assert isinstance(error, CertificateError)
        assert str(error).endswith(f"{SIGN} subjectAltName=IP:{site.target.host}")


async def test_a_certificate_of_nobody_known_is_refused(ftps: Site, tmp_path: Path) -> None:
    """Without the CA's file the system's CAs count, with another CA's file that one: neither knows this server."""
    other = server_authority(tmp_path / "other")
    for ca_file in (None, other.ca_file):
        error = await refused(ftps.target, replace(ftps.credentials, ca_file=ca_file))
        assert isinstance(error, CertificateError)
        assert str(error).endswith("; name the file of its CA (ca=)")

    assert ftps.offered() == 0


async def test_the_servers_own_certificate_is_trusted_where_it_is_named(tmp_path: Path) -> None:
    """What stands in the CA file counts, though it is no CA's: as with an issuer, whose own file is not needed."""
    authority = make_authority(tmp_path / "tls", SERVER_ADDRESS)
    with ftp_site(tmp_path, Authority(authority.server_file, authority.server_file)) as site:
        async with open_transport(site.target, site.credentials, SHORT) as transport:
            assert await transport.list() == []


def recipes(page: str) -> list[str]:
    """Return the blocks of a page that make certificates."""
    text = (ROOT / "docs" / page).read_text()
    return [block for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) if block.startswith("openssl req -x509")]


@pytest.mark.parametrize(("page", "ca"), [("backup.md", "ca.pem"), ("operators.md", "certificate.pem")])
async def test_certificates_made_as_the_documents_say_are_right(page: str, ca: str, tmp_path: Path) -> None:
    """The page's own commands make one that this and every newer Python takes."""
    (recipe,) = recipes(page)
    (tmp_path / "data").mkdir()
    recipe = re.sub(r"DNS:[a-z.]+", f"IP:{SERVER_ADDRESS},IP:{RELAY_ADDRESS}", recipe)
    subprocess.run(["sh", "-ec", recipe], cwd=tmp_path, check=True, capture_output=True)
    if page == "operators.md":
        own, key = tmp_path / "data" / ca, tmp_path / "data" / "key.pem"
    else:
        own, key = tmp_path / "server.pem", tmp_path / "server.key"
    (tmp_path / "both.pem").write_bytes(own.read_bytes() + key.read_bytes())
    authority = Authority(own.parent / ca, tmp_path / "both.pem")

    with ftp_site(tmp_path, authority) as site:
        async with open_transport(site.target, site.credentials, SHORT) as transport:
            assert await transport.list() == []
