"""AES-256 around the members of an archive, as WinZip's AE-2 has it: 7-Zip and many others open it.

Each member has a salt of its own, and so keys of its own: its key stream begins at 1 and must never come twice.
The codes are short (80 bits) and the names are open; what an archive is worth stands on its seal (:mod:`.seal`).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import NamedTuple

from Cryptodome.Cipher import AES
from Cryptodome.Util import Counter

SALT_BYTES, VERIFIER_BYTES, CODE_BYTES = 16, 2, 10
HEAD_BYTES = SALT_BYTES + VERIFIER_BYTES
_ROUNDS = 1000  # PBKDF2-HMAC-SHA1, fixed by AE-2
_KEY_BYTES = 32


class MemberKeys(NamedTuple):
    """What one member is encrypted with."""

    cipher: bytes
    code: bytes
    """Of the code behind the content."""
    verifier: bytes
    """Two bytes that tell a wrong password, nearly always."""


def keys_of(password: str, salt: bytes) -> MemberKeys:
    """Return the keys of the member with a salt; takes one or two milliseconds."""
    length = 2 * _KEY_BYTES + VERIFIER_BYTES
    made = hashlib.pbkdf2_hmac("sha1", password.encode(), salt, _ROUNDS, length)
    return MemberKeys(made[:_KEY_BYTES], made[_KEY_BYTES : 2 * _KEY_BYTES], made[2 * _KEY_BYTES :])


class Encryption:
    """One member on its way into the archive."""

    def __init__(self, password: str) -> None:
        salt = secrets.token_bytes(SALT_BYTES)
        keys = keys_of(password, salt)
        self.head = salt + keys.verifier
        """What stands before the content."""
        self._cipher = _cipher(keys)
        self._code = hmac.new(keys.code, digestmod="sha1")

    def encrypt(self, data: bytes) -> bytes:
        """Return the next piece."""
        made: bytes = self._cipher.encrypt(data)
        self._code.update(made)
        return made

    def code(self) -> bytes:
        """Return what stands behind the content."""
        return self._code.digest()[:CODE_BYTES]


class Decryption:
    """One member on its way out of the archive."""

    def __init__(self, keys: MemberKeys) -> None:
        self._cipher = _cipher(keys)
        self._code = hmac.new(keys.code, digestmod="sha1")

    def decrypt(self, data: bytes) -> bytes:
        """Return the next piece."""
        self._code.update(data)
        made: bytes = self._cipher.decrypt(data)
        return made

    def is_whole(self, code: bytes) -> bool:
        """Say whether the code behind the content is that of what was read."""
        return hmac.compare_digest(self._code.digest()[:CODE_BYTES], code)


def _cipher(keys: MemberKeys):  # type: ignore[no-untyped-def]  # noqa: ANN202 - the class has no public name
    return AES.new(keys.cipher, AES.MODE_CTR, counter=Counter.new(128, little_endian=True))
