"""What a target wants to see before it takes a copy, and what is wanted of it."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class Credentials:
    """Secrets and anchors of trust for one target; its ``repr`` shows no secret."""

    password: SecretStr | None = None
    """For SFTP, FTPS and FTP."""
    key_file: Path | None = None
    """For SFTP: a private key as OpenSSH or PEM have it; with it, no password is offered."""
    passphrase: SecretStr | None = None
    """Of the private key."""
    host_key: str | None = None
    """For SFTP: the server's key as it was accepted, ``ssh-ed25519 AAAA...``; a comment after it is ignored."""
    ca_file: Path | None = None
    """For FTPS: certificates (PEM) that are trusted in place of the system's."""


def fingerprint_of(host_key: str) -> str:
    """Return ``SHA256:...`` of a key's line, as OpenSSH prints it and as it was accepted; blank for what is no key."""
    try:
        key = base64.b64decode(host_key.split()[1], validate=True)
    except (IndexError, binascii.Error):
        return ""
    return f"SHA256:{base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip('=')}"
