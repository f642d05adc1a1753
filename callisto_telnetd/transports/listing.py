"""The lines of a listing as a server sends them, cut to bounds while they come.

What is held is the line that has not ended yet, and nothing else: a bound on the number of lines alone says nothing of
memory, for a line may be as long as its server likes, and four bytes a character once it is text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from callisto_telnetd.errors import TargetFolderError
from callisto_telnetd.transports.wire import MAX_ENTRIES, MAX_LISTING_BYTES

MAX_LINE_BYTES = 4096
"""Of a line: a name has 255 bytes at most, and the facts before it some hundred."""


class ListingLines:
    """Takes the bytes of a listing, and gives its lines one by one."""

    def __init__(self, place: str) -> None:
        """Begin; ``place`` is the target, as messages name it."""
        self._place = place
        self._rest = b""
        self._bytes = 0
        self._count = 0

    def feed(self, piece: bytes) -> Iterator[str]:
        """Yield the lines that have ended, without their ends; those that are not UTF-8 are left out.

        Raises:
            TargetFolderError: the listing, or one of its lines, is longer than any that we could use.
        """
        self._bytes += len(piece)
        if self._bytes > MAX_LISTING_BYTES:
            raise self._refusal()
        piece, at = self._rest + piece, 0
        while (end := piece.find(b"\n", at, at + MAX_LINE_BYTES + 1)) >= 0:
            yield from self._line(piece[at:end])
            at = end + 1
        self._rest = piece[at : at + MAX_LINE_BYTES + 1]
        if len(self._rest) > MAX_LINE_BYTES:
            raise self._refusal()

    def end(self) -> Iterator[str]:
        """Yield the last line, where its end was missing; raises as :meth:`feed`."""
        if self._rest:
            yield from self._line(self._rest)

    def _line(self, line: bytes) -> Iterator[str]:
        self._count += 1
        if self._count > MAX_ENTRIES:
            raise self._refusal()
        with suppress(UnicodeDecodeError):
            yield line.decode().removesuffix("\r")

    def _refusal(self) -> TargetFolderError:
        return too_much(self._place)


def too_much(place: str) -> TargetFolderError:
    """Return our error for a folder whose listing goes beyond the bounds."""
    return TargetFolderError(
        f"the folder at {place} has more than {MAX_ENTRIES:,} entries, or endless names: take one for copies"
    )
