"""``DIR/accounts.json``: the accounts once more, so that administrators can log in where the database cannot be opened.

It holds password hashes: for its owner alone, written whole or not at all. What is read is not trusted: a size, a
number of accounts and the cost of a hash are bounded, and a file that others may write to is not read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from callisto_telnetd.db.private_file import PrivateFile
from callisto_telnetd.errors import FolderError, named
from callisto_telnetd.quantities import MOST_ACCOUNTS

_MAX_BYTES = 1 << 20
_HASH = re.compile(r"\$argon2id\$v=19\$m=(\d{1,6}),t=(\d{1,2}),p=(\d)\$[A-Za-z0-9+/]{11,64}\$[A-Za-z0-9+/]{16,128}")
_MOST_KIB, _MOST_ROUNDS, _MOST_LANES = 128 << 10, 10, 4


def _bounded(known: str) -> str:
    """Take a hash whose check costs no more memory and time than a log-in may."""
    match = _HASH.fullmatch(known)
    if match is None:
        raise ValueError("no Argon2id hash")
    kib, rounds, lanes = (int(part) for part in match.groups())
    if kib > _MOST_KIB or not 1 <= rounds <= _MOST_ROUNDS or not 1 <= lanes <= _MOST_LANES:
        raise ValueError("an Argon2id hash of parameters that cost too much")
    return known


class FiledAccount(BaseModel):
    """An account as the file has it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,31}$")
    password_hash: Annotated[str, AfterValidator(_bounded)]
    created_at: str = Field(max_length=40)


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal["callisto-accounts-1"] = "callisto-accounts-1"
    accounts: list[FiledAccount] = Field(max_length=MOST_ACCOUNTS)


class AccountFile:
    """The file of accounts beside the database."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = PrivateFile(path, _MAX_BYTES)

    def read(self) -> list[FiledAccount]:
        """Return the accounts; none where there is no file.

        Raises:
            FolderError: the file cannot be read, is not only the owner's to write, or holds something else.
        """
        content = self._file.read()
        if content is None:
            return []
        try:
            return _Content.model_validate_json(content).accounts
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise FolderError(f"{named(self.path)} is no file of accounts: {where}: {first['msg']}") from None

    def holds(self, accounts: Sequence[FiledAccount]) -> bool:
        """Whether the file says just that."""
        try:
            return self.read() == list(accounts)
        except FolderError:
            return False

    def keep(self, accounts: Sequence[FiledAccount]) -> None:
        """Have the file say just that; without accounts no file is made.

        Raises:
            FolderError: it could not be written; there is none now.
        """
        if (accounts or self.path.exists()) and not self.holds(accounts):
            self.write(accounts)

    def write(self, accounts: Sequence[FiledAccount]) -> None:
        """Replace the file, durably; where that fails it is removed: an outdated one would open the door to old hashes.

        Raises:
            FolderError: it could not be written; there is none now.
        """
        try:
            self._file.write(self._formatted(accounts))
        except FolderError:
            with suppress(OSError):
                self.path.unlink()
            raise

    def _formatted(self, accounts: Sequence[FiledAccount]) -> bytes:
        if len(accounts) > MOST_ACCOUNTS:
            raise FolderError(f"{named(self.path)} holds at most {MOST_ACCOUNTS:,} accounts, not {len(accounts):,}")
        return _Content(accounts=list(accounts)).model_dump_json(indent=1).encode() + b"\n"
