"""Which certificates of a target's server are trusted, and what to do about one that is not.

The rules are RFC 5280's, whole, on every Python: what Python 3.13 made its default (strict, and a certificate in the
CA file counts though its own issuer is not there) is asked for by name. An update never changes the verdict.
"""

from __future__ import annotations

import errno
import ssl
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from callisto_telnetd.errors import CertificateError, OwnershipError, named
from callisto_telnetd.named_file import require_regular
from callisto_telnetd.ownership import require_own_file
from callisto_telnetd.transports.daemon import look

_RULES = ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT

_SIGN = "have its CA sign it anew with "
_CA = "make the certificate of its CA anew with "
_NO_CA = "name the file of its CA (ca=)"
_STRONG = "make it anew with a key of 2048 bits or more (EC: 256), signed with SHA-256"
_ADVICE: Final = {
    9: "look at the clocks, here and there",
    10: "renew it, or look at the clock here",
    18: _NO_CA,
    19: _NO_CA,
    20: _NO_CA,
    21: _NO_CA,
    24: _CA + "basicConstraints=critical,CA:TRUE",
    26: _SIGN + "extendedKeyUsage=serverAuth, or without it",
    66: _STRONG,
    67: _STRONG,
    68: _STRONG,
    79: _CA + "basicConstraints=critical,CA:TRUE",
    81: _CA + "keyUsage=critical,keyCertSign,cRLSign",
    85: _SIGN + "authorityKeyIdentifier=keyid",
    86: _CA + "subjectKeyIdentifier=hash",
    87: _SIGN + "subjectAltName",
    88: _SIGN + "subjectAltName=critical, or with a subject",
    89: _CA + "basicConstraints=critical,CA:TRUE",
    92: _CA + "keyUsage=critical,keyCertSign,cRLSign",
    93: "make it anew as version 3",
}
"""By OpenSSL's code of the verdict (x509_vfy.h, ``X509_V_ERR_…``); the extensions are written as for ``openssl``."""
_MOST_CA_BYTES = 4 << 20
"""All CAs that the world trusts are a quarter of a mebibyte."""
_OTHER_NAME = frozenset({62, 64})


async def open_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that checks certificate and name against the system's CAs, or those of the file alone.

    Raises:
        CertificateError: the file cannot be read, holds no certificates, or others may write to it.
    """
    what = "the system's CAs" if ca_file is None else f"the CA file {named(ca_file)}"
    try:
        return await look(ca_file or Path("/"), lambda: _open_context(ca_file))
    except OwnershipError as error:
        raise CertificateError(str(error)) from None
    except ssl.SSLError:
        raise CertificateError(f"{what} holds no certificates (PEM)" if ca_file else "no CAs") from None
    except OSError as error:
        raise CertificateError(f"{what} cannot be read: {error.strerror}") from None


def _open_context(ca_file: Path | None) -> ssl.SSLContext:
    if ca_file is not None:
        require_own_file(ca_file, "CA file", (ca_file.stat().st_uid,))
        if require_regular(ca_file) > _MOST_CA_BYTES:
            raise OSError(errno.EFBIG, f"it is longer than {_MOST_CA_BYTES >> 20} MiB")
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    context.verify_flags = _RULES
    return context


def refusal(place: str, host: str, error: ssl.SSLCertVerificationError) -> CertificateError:
    """Return our error for a certificate that is not to be trusted: why, and how to have one that is."""
    if error.verify_code in _OTHER_NAME:
        advice = f"{_SIGN}subjectAltName={_kind(host)}:{host}"
    else:
        advice = _ADVICE.get(error.verify_code, "docs/backup.md says how to make one")
    return CertificateError(f"the certificate of {place} is refused: {error.verify_message.rstrip('.')}; {advice}")


def _kind(host: str) -> str:
    try:
        ip_address(host)
    except ValueError:
        return "DNS"
    return "IP"
