"""AES-256 around the members of an archive, as WinZip's AE-2 has it: 7-Zip and many others open it.

Each member has a salt of its own, and so keys of its own: its key stream begins at 1 and must never come twice.
The codes are short (80 bits) and the names are open; what an archive is worth stands on its seal (:mod:`.seal`).
"""

from __future__ import annotations

import hmac
import secrets
from typing import NamedTuple

from Cryptodome.Cipher import AES
from Cryptodome.Util import Counter

SALT_BYTES, VERIFIER_BYTES, CODE_BYTES = 16, 2, 10
HEAD_BYTES = SALT_BYTES + VERIFIER_BYTES
_ROUNDS = 1000  # PBKDF2-HMAC-SHA1, fixed by AE-2
_KEY_BYTES = 32
_MOST_REMEMBERED = 50_000


class MemberKeys(NamedTuple):
    """What one member is encrypted with."""

    cipher: bytes
    code: bytes = b""
    """Of the code behind the content; blank where that is not looked at."""
    verifier: bytes = b""
    """Two bytes that tell a wrong password, nearly always."""


class KeyRing:
    """Derives the keys of the members, and remembers those it has made: who has written an archive also verifies it."""

    def __init__(self, password: str) -> None:
        self._password = password.encode()
        self._known: dict[bytes, MemberKeys] = {}

    def of(self, salt: bytes) -> MemberKeys:
        """Return the keys for a salt; takes half a millisecond, in which other threads go on."""
        keys = self._known.get(salt)
        if keys is None:
            made = _derive(self._password, salt, 2 * _KEY_BYTES + VERIFIER_BYTES)
            keys = MemberKeys(made[:_KEY_BYTES], made[_KEY_BYTES : 2 * _KEY_BYTES], made[2 * _KEY_BYTES :])
        return keys

    def to_read(self, salt: bytes) -> MemberKeys:
        """Return what is needed to read a member for which others vouch, the seal and a SHA-256: half the work."""
        return self._known.get(salt) or MemberKeys(_derive(self._password, salt, _KEY_BYTES))

    def new(self) -> tuple[bytes, MemberKeys]:
        """Return a salt that never was before, and its keys."""
        salt = secrets.token_bytes(SALT_BYTES)
        keys = self.of(salt)
        if len(self._known) < _MOST_REMEMBERED:
            self._known[salt] = keys
        return salt, keys


class Encryption:
    """One member on its way into the archive."""

    def __init__(self, ring: KeyRing) -> None:
        salt, keys = ring.new()
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
        self._code = hmac.new(keys.code, digestmod="sha1") if keys.code else None

    def decrypt(self, data: bytes) -> bytes:
        """Return the next piece."""
        if self._code:
            self._code.update(data)
        made: bytes = self._cipher.decrypt(data)
        return made

    def is_whole(self, code: bytes) -> bool:
        """Say whether the code behind the content is that of what was read, where it is looked at."""
        return self._code is None or hmac.compare_digest(self._code.digest()[:CODE_BYTES], code)


def _derive(password: bytes, salt: bytes, length: int) -> bytes:
    # Half the time of hashlib's, which is most of what an archive of many small recordings takes. It is imported here
    # because of its memory: the seal's key is made before, and has 32 MiB meanwhile.
    from cryptography.hazmat.primitives.hashes import SHA1  # noqa: PLC0415
    from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC  # noqa: PLC0415

    return PBKDF2HMAC(SHA1(), length, salt, _ROUNDS).derive(password)  # noqa: S303 - AE-2's


def _cipher(keys: MemberKeys):  # type: ignore[no-untyped-def]  # noqa: ANN202 - the class has no public name
    return AES.new(keys.cipher, AES.MODE_CTR, counter=Counter.new(128, little_endian=True))
