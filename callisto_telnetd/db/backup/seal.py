"""The seal of an archive: its comment, the last bytes of the file, holds a hash over every byte before.

With a password the hash is keyed by it: nobody else can make or change an archive so that it passes. Without one the
key is the salt, which everybody can read: the seal then tells accidents, not intentions.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Callable
from typing import NamedTuple

SEAL_VERSION = 1
SALT_BYTES = 16
_DIGITS = 64
_FORM = re.compile(rb"callisto-backup (\d{1,9}) salt=([0-9a-f]{32}) seal=([0-9a-f]{64})", re.ASCII)
_PERSON = b"callisto-backup1"
_CHUNK_BYTES = 1 << 20
# 32 MiB and some tens of milliseconds a try. Who guesses at the members' own codes has it cheaper (AE-2's 1,000
# rounds): the password's length is what protects.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**15, 8, 1
_SCRYPT_BYTES = 64 << 20
"""The most that OpenSSL may take for it; 32 MiB and a little is what it needs."""


class Comment(NamedTuple):
    """The comment of an archive."""

    version: int
    salt: bytes
    seal: str


def new_salt() -> bytes:
    """Return a salt for a new archive."""
    return secrets.token_bytes(SALT_BYTES)


def key_of(password: str | None, salt: bytes) -> bytes:
    """Return the key of a seal; with a password it takes some tens of milliseconds, and 32 MiB meanwhile."""
    if password is None:
        return salt
    return hashlib.scrypt(
        password.encode(), salt=salt, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P, maxmem=_SCRYPT_BYTES, dklen=32
    )


def comment_before_seal(salt: bytes) -> bytes:
    """Return the comment up to the digits of the seal, which the seal covers too."""
    return b"callisto-backup %d salt=%s seal=" % (SEAL_VERSION, salt.hex().encode())


COMMENT_BYTES = len(comment_before_seal(bytes(SALT_BYTES))) + _DIGITS


def parse_comment(comment: bytes) -> Comment | None:
    """Return what a comment says, None where it is none of ours."""
    match = _FORM.search(comment)
    if match is None or match.end() != len(comment):
        return None
    return Comment(int(match[1]), bytes.fromhex(match[2].decode()), match[3].decode())


def make_seal(descriptor: int, file_bytes: int, key: bytes, told: Callable[[int, int], None]) -> str:
    """Return the seal over all of a file but its last 64 bytes.

    Args:
        descriptor: The file, open for reading.
        file_bytes: How large it is with its seal.
        key: From :func:`key_of`.
        told: Told how many bytes are done, and how many there are.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.blake2b(digest_size=_DIGITS // 2, key=key, person=_PERSON)
    at, end = 0, file_bytes - _DIGITS
    while at < end:
        data = os.pread(descriptor, min(_CHUNK_BYTES, end - at), at)
        if not data:  # it has become shorter meanwhile: the seal of what is left is another one
            break
        digest.update(data)
        at += len(data)
        told(at, end)
    return digest.hexdigest()


def is_same(made: str, found: str) -> bool:
    """Say whether two seals are the same."""
    return hmac.compare_digest(made, found)
