"""What the ways to a target have in common: their few operations, their deadlines, and the rules for names.

Everything that a server says is hostile. Names that it sends are kept only where they are plain (no slash, nothing
that a terminal would act on); listings, lines and blocks have bounds; every wait has a deadline, and a whole try too,
so that a server that drips bytes holds nobody for ever.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Container
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from callisto_telnetd.errors import TransferInterruptedError

BLOCK_BYTES = 256 * 1024
"""What is read and handed on at a time. One block within ``step_s``, so slower than 4 KiB/s counts as no progress."""
MAX_ENTRIES = 10_000
"""Of a folder: copies of 27 years, a day each. Beyond, it is somebody else's folder, and listing it is no use."""
MAX_LISTING_BYTES = 3 << 20
"""Of a whole listing: so many entries of 300 bytes, as the wordiest of servers have them."""
MAX_FILE_BYTES = 1 << 50
MAX_NAME_BYTES = 255

Tell = Callable[[str, int, int], None]
"""Is told of a step, how much is done and of how much, in bytes."""
Source = Callable[[], Awaitable[bytes]]
"""Gives the next block, of at most ``BLOCK_BYTES``; an empty one at the end."""
Sink = Callable[[bytes], Awaitable[None]]

_OWN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_PART = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,199})\.part-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a target is waited for, in seconds."""

    connect_s: float = 20.0
    """Resolving the name, and TCP."""
    login_s: float = 45.0
    """From there to where files can be asked for: TLS or SSH, and the log-in."""
    step_s: float = 60.0
    """For an answer, and for one block on its way."""
    settle_s: float = 900.0
    """For the server to bring a whole copy to its disk: seconds for most, minutes for a stick behind a router."""
    whole_s: float = 6 * 3600.0
    """For one upload, download or listing."""
    session_s: float = 600.0
    """For one log-in of FTPS: servers refuse data connections once its TLS session is too old (ProFTPD: 30 minutes)."""
    tidy_s: float = 5.0
    """For taking away what a try that failed has left, and for good manners in closing."""
    leave_s: float = 0.5
    """The same, where whoever wanted it is gone, or the whole server ends."""
    brief_s: float = 0.1
    """For good manners where the server has shown that it has none."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at a target; the name is plain, and of any pattern."""

    name: str
    size: int
    """In bytes."""


def tidying_s(patience: Patience, error: BaseException) -> float:
    """Return how long what a try has left is tidied up, after it has ended so."""
    return patience.tidy_s if isinstance(error, Exception) else patience.leave_s


class Wire(Protocol):
    """An open way to a folder. Errors are a :class:`TransferError`'s; every wait has its deadline."""

    async def files(self) -> list[RemoteFile]:
        """Return the regular files with plain names.

        Raises:
            TargetFolderError: no such folder, or more than ``MAX_ENTRIES`` in it.
        """
        ...

    async def write(self, name: str, source: Source, size: int) -> None:
        """Make a new file of what ``source`` gives, ``size`` bytes in all, as durable as the server can."""
        ...

    async def read(self, name: str, sink: Sink) -> None:
        """Hand all of a file to ``sink``, block by block."""
        ...

    async def rename(self, old: str, new: str) -> None:
        """Give a file its name.

        Raises:
            NameTakenError: there is one of that name.
        """
        ...

    async def delete(self, name: str) -> None:
        """Remove a file; one that is not there is an error."""
        ...


def is_own_name(name: str) -> bool:
    """Whether we would send a file under that name: letters, digits, ``.``, ``_``, ``-``, at most 200."""
    return _OWN_NAME.fullmatch(name) is not None and _PART.fullmatch(name) is None


def is_plain(name: str) -> bool:
    """Whether a name that a server sends is one that may be shown and asked for."""
    if not name or name in (".", "..") or "/" in name or "\\" in name or not name.isprintable():
        return False
    return len(name.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES


def name_within(path: str, folders: Container[str]) -> str | None:
    """Return the plain name that a listing means by a path, None for any other.

    Listings are of names, but some servers put before each one the path that they were asked for, or ``./``.
    """
    before, slash, name = path.rpartition("/")
    if slash and before != "." and before not in folders:
        return None
    return name if is_plain(name) else None


def part_name(name: str, token: str) -> str:
    """Return the temporary name under which a file travels; ``token`` is 16 hexadecimal digits."""
    return f"{name}.part-{token}"


def parted_name(name: str) -> str | None:
    """Return which file a temporary name of ours is a part of, None for any other name."""
    match = _PART.fullmatch(name)
    return match["name"] if match else None


@asynccontextmanager
async def within(seconds: float, place: str, doing: str) -> AsyncIterator[None]:
    """Give up what takes longer.

    Raises:
        TransferInterruptedError: it did; says who was waited for, and for what.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise TransferInterruptedError(f"{place} has not answered within {seconds:g} s ({doing})") from None
