"""Certificates as RFC 5280 wants them, and such as lack one thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Extension = tuple[x509.ExtensionType, bool] | None
"""And whether it is critical; None for none."""
NO_FAULTS: Final[Mapping[str, Extension]] = {}
_PEM = serialization.Encoding.PEM
_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True)
class Authority:
    """A CA of the test's own, and the certificate of a server that it has signed."""

    ca_file: Path
    server_file: Path
    """Certificate and key."""


def make_authority(
    folder: Path, *names: str, days: tuple[int, int] = (-10, 1), faults: Mapping[str, Extension] = NO_FAULTS
) -> Authority:
    """Make a CA, and a server's certificate for names and addresses.

    Args:
        folder: Where to.
        names: What the server is called.
        days: From when to when the server's is valid, counted from now.
        faults: Extensions in place of ``ca constraints``, ``ca usage``, ``ca key``, ``names``, ``issuer`` and ``use``.
    """
    folder.mkdir(exist_ok=True)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    of_ca: dict[str, Extension] = {
        "ca constraints": (x509.BasicConstraints(ca=True, path_length=0), True),
        "ca usage": (_SIGNS_CERTIFICATES, True),
        "ca key": (identifier, False),
    }
    of_server: dict[str, Extension] = {
        "names": (x509.SubjectAlternativeName([_name(name) for name in names]), True),
        "issuer": (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),
        "use": (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
    }

    def sign(
        subject: x509.Name, public: ec.EllipticCurvePublicKey, valid: tuple[int, int], have: dict[str, Extension]
    ) -> bytes:
        begin, end = (datetime.now(UTC) + timedelta(days=count) for count in valid)
        made = x509.CertificateBuilder(ca_name, subject, public, x509.random_serial_number(), begin, end)
        for name, usual in have.items():
            extension = faults.get(name, usual)
            if extension is not None:
                made = made.add_extension(extension[0], critical=extension[1])
        return made.sign(ca_key, hashes.SHA256()).public_bytes(_PEM)

    private = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ca.pem").write_bytes(sign(ca_name, ca_key.public_key(), (-20, 20), of_ca))
    (folder / "server.pem").write_bytes(sign(x509.Name([]), key.public_key(), days, of_server) + private)
    return Authority(folder / "ca.pem", folder / "server.pem")


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)
