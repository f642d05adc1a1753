"""The password of an archive: what it may be, and one made by chance."""

from __future__ import annotations

import secrets
import string

from callisto_telnetd.errors import UsageError
from callisto_telnetd.secret_text import unprintable_in

SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 99
PASSWORD_RULE = f"{SHORTEST_PASSWORD} to {LONGEST_PASSWORD} printable characters, {LONGEST_PASSWORD} bytes at most"
"""7-Zip takes no more bytes, in UTF-8."""
_GENERATED_LENGTH = 24
_LETTERS = "".join(sorted(set(string.ascii_letters + string.digits) - set("0O1Il")))


def require_password(password: str) -> None:
    """Refuse a password that an archive must not have.

    Raises:
        UsageError: says the rule; never holds the password.
    """
    if letter := unprintable_in(password):
        raise UsageError(f"the password holds {letter}, which is no printable character; allowed: {PASSWORD_RULE}")
    if len(password) < SHORTEST_PASSWORD or len(password.encode()) > LONGEST_PASSWORD:
        raise UsageError(f"the password is outside the rule: {PASSWORD_RULE}; nothing was changed")


def generate_password() -> str:
    """Return a password with 140 bits of chance, without letters that look alike."""
    return "".join(secrets.choice(_LETTERS) for _ in range(_GENERATED_LENGTH))
