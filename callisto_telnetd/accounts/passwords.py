"""Passwords: the appliance's rule, and Argon2id hashes made off the event loop.

Two threads hash, and two more those that are to be first; each hash takes 46 MiB and a core for some 80 ms, so
``turns.py`` has at most three log-ins be checked at once. All run at a lower priority than the loop's thread, so that
typing stays fluent while many log in, and those of strangers at a lower one still: on a busy machine a log-in at the
priority of guesses takes seconds. Parameters are above OWASP's second choice (46 MiB, t=1).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import string
import threading
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from callisto_telnetd.errors import AccountError
from callisto_telnetd.secret_text import composed, spellings, unprintable_in

MIN_LENGTH = 8
MAX_LENGTH = 128
RULE = f"{MIN_LENGTH} to {MAX_LENGTH} characters with an upper and a lower case letter, a digit and a special character"
_HASHES_AT_ONCE = 2
_NICENESS, _NICENESS_OF_FIRST = 10, 2
_RANDOM_LENGTH = 16
_KINDS = (string.ascii_uppercase, string.ascii_lowercase, string.digits, "!#%+-=?@")


def require_rule(password: str) -> None:
    """Check the appliance's rule for a new password, in its one spelling.

    Raises:
        AccountError: says the rule; never holds the password.
    """
    password = composed(password)
    if letter := unprintable_in(password):
        raise AccountError(f"the password holds {letter}, which is no printable character; allowed: {RULE}")
    kinds = (
        any(letter.isupper() for letter in password),
        any(letter.islower() for letter in password),
        any(letter.isdigit() for letter in password),
        any(not letter.isalnum() for letter in password),
    )
    if not (MIN_LENGTH <= len(password) <= MAX_LENGTH and all(kinds)):
        raise AccountError(f"the password is outside the rule: {RULE}")


def random_password() -> str:
    """Return a new password within the rule, with over 90 bits of chance."""
    letters = [secrets.choice(kind) for kind in _KINDS]
    letters += [secrets.choice("".join(_KINDS)) for _ in range(_RANDOM_LENGTH - len(letters))]
    secrets.SystemRandom().shuffle(letters)
    return "".join(letters)


def _yield_to_loop(niceness: int) -> None:
    """Put this thread behind the loop's, however nice the server was started itself."""
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + niceness)


def _threads(name: str, niceness: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_HASHES_AT_ONCE, name, initializer=_yield_to_loop, initargs=(niceness,))


class PasswordHashes:
    """Makes and checks Argon2id hashes in threads of its own."""

    def __init__(self) -> None:
        self._argon2 = PasswordHasher(time_cost=2, memory_cost=46 << 10, parallelism=1)
        self._threads = _threads("password-hash", _NICENESS)
        self._first = _threads("password-hash_first", _NICENESS_OF_FIRST)
        self._dummy: str | None = None

    async def make(self, password: str) -> str:
        """Return the hash of a password, in its one spelling."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._argon2.hash, composed(password))

    async def check(self, known: str | None, password: str, *, first: bool = False) -> bool:
        """Tell whether the password belongs to the hash; without one (no such account) say no, as late."""
        threads = self._first if first else self._threads
        return await asyncio.get_running_loop().run_in_executor(threads, self._check, known, password)

    def _check(self, known: str | None, password: str) -> bool:
        if self._dummy is None:
            self._dummy = self._argon2.hash(secrets.token_hex())
        # How many spellings are tried follows from the password alone: the time does not tell whether a name is known.
        return any(self._is_of(known, spelling) for spelling in spellings(password))

    def _is_of(self, known: str | None, password: str) -> bool:
        # An overlong password is not hashed: the time it takes would tell known names from unknown ones.
        fits = len(password) <= MAX_LENGTH
        try:
            self._argon2.verify(known if known and fits else self._dummy or "", password if fits else "")
        except (VerificationError, InvalidHashError):
            return False
        return known is not None and fits

    def outdated(self, known: str) -> bool:
        """Whether the hash was made with other parameters than today's."""
        return self._argon2.check_needs_rehash(known)

    def close(self) -> None:
        """Let the threads end; what waits for them is cancelled."""
        for threads in (self._threads, self._first):
            threads.shutdown(wait=False, cancel_futures=True)
