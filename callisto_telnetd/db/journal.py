"""The rollback journal beside a database, and whether it is its own (SQLite, "Database File Format", section 3).

SQLite rolls back any well-formed hot journal that lies beside a file when it opens it, also one of another file or of
last week. So it is judged first, without SQLite:

* None, or a cold one (empty, or its header zeroed: how PERSIST ends a transaction): the usual case, one look.
* A hot one is the file's own where its first page is the file's of before one transaction (the file change counter is
  the same or one less, the stamps agree), and most other pages that it keeps are, or nearly are, those of the file: a
  transaction changes a few rows of a page.
* One that began with an empty file takes all away: it is the file's own only where that has no row yet.
* All that the header counts was synced before the file was touched, so every checksum of it must hold.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from struct import Struct

from callisto_telnetd.db.format.layout import PAGE_SIZES, Layout
from callisto_telnetd.db.format.page_file import PageFile
from callisto_telnetd.db.format.pages import INDEX_INTERIOR, examine, type_of
from callisto_telnetd.db.schema import APPLICATION_ID
from callisto_telnetd.errors import StoreError, named

_MAGIC = bytes.fromhex("d9d505f920a163d7")
_FILE_MAGIC = b"SQLite format 3\0"
_HEADER = Struct(">8sIIIII")
_RECORD_BYTES = 8  # besides the page: its number, and its checksum
_TO_THE_END = 0xFFFFFFFF
_SECTORS = frozenset(1 << power for power in range(9, 17))
_MOST_SEGMENTS = 1 << 16  # one a spill of the cache, which holds at least ten pages
_MOST_COMPARED = 128
_PIECE_BYTES = 16
# Section 1.3: places in the file's header.
_COUNTER_AT, _COUNT_AT, _VERSION_AT, _APPLICATION_ID_AT, _VALID_FOR_AT = 24, 28, 60, 68, 92


class Verdict(StrEnum):
    """What a journal is."""

    NONE = "none"
    COLD = "cold"
    OURS = "ours"
    """Hot and the file's own: the file is whole only after it has been rolled back."""
    FOREIGN = "foreign"
    """Of another file; it must not be rolled back, nor must the two that follow."""
    STALE = "stale"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Journal:
    """A journal and what it is; ``reason`` is the end of a sentence about it."""

    verdict: Verdict
    reason: str
    images: int = 0
    """Pages that it keeps."""
    initial_pages: int = 0
    """Pages that the file had before the transaction."""

    @property
    def must_be_rolled_back(self) -> bool:
        """Whether SQLite is to have it."""
        return self.verdict is Verdict.OURS

    @property
    def is_harmless(self) -> bool:
        """Whether SQLite may open the file with the journal beside it as it is."""
        return self.verdict in (Verdict.NONE, Verdict.COLD, Verdict.OURS)


class _DamagedError(Exception):
    """Ends the reading of a journal; ``str(error)`` is the reason."""


def judge(file: Path) -> Journal:
    """Judge the journal beside a database file; costs some microseconds where it is cold. Changes nothing.

    Raises:
        StoreError: the file or its journal cannot be read.
    """
    journal = file.with_name(file.name + "-journal")
    try:
        descriptor = os.open(journal, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Journal(Verdict.NONE, "there is none")
    except OSError as error:
        raise StoreError(f"{named(journal)} cannot be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StoreError(f"{named(journal)} cannot be read: it is no file")
        start = os.pread(descriptor, _HEADER.size, 0)
        if not start or start[0] == 0:  # SQLite looks at the first byte alone
            return Journal(Verdict.COLD, "it is empty, or its transaction has ended")
        return _judge_hot(file, descriptor)
    except OSError as error:
        raise StoreError(f"{named(journal)} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _judge_hot(file: Path, descriptor: int) -> Journal:
    try:
        initial, page_bytes = _first_header(descriptor)
        count, first = 0, None
        for number, image in _images(descriptor):
            count += 1
            if number == 1:
                first = first or image
    except _DamagedError as error:
        return Journal(Verdict.DAMAGED, str(error))
    try:
        pages = PageFile(file)
    except StoreError:
        if file.exists():
            raise
        return Journal(Verdict.FOREIGN, "there is no database beside it", count, initial)
    if pages.layout.page_bytes != page_bytes:  # as a VACUUM leaves it that was to make them larger or smaller
        pages.close()
        pages = PageFile(file, Layout(page_bytes))
    with pages:
        verdict, reason = _compare(pages, descriptor, first, initial, count)
    return Journal(verdict, reason, count, initial)


def _first_header(descriptor: int) -> tuple[int, int]:
    """Return how many pages the file had, and how many bytes a page has."""
    header = os.pread(descriptor, _HEADER.size, 0)
    if len(header) < _HEADER.size or not header.startswith(_MAGIC):
        raise _DamagedError("it does not begin as a journal does")
    _, _, _, initial, sector, page_bytes = _HEADER.unpack(header)
    if page_bytes not in PAGE_SIZES or sector not in _SECTORS:
        raise _DamagedError(f"its pages have {page_bytes} bytes and its sectors {sector}")
    return int(initial), int(page_bytes)


def _images(descriptor: int) -> Iterator[tuple[int, bytes]]:
    """Yield the pages that a journal keeps, with their numbers; raises :class:`_DamagedError`."""
    size, at, sector, record_bytes = os.fstat(descriptor).st_size, 0, 0, 0
    for _ in range(_MOST_SEGMENTS):
        header = os.pread(descriptor, _HEADER.size, at)
        if len(header) < _HEADER.size or not header.startswith(_MAGIC):
            return
        _, count, nonce, initial, own_sector, page_bytes = _HEADER.unpack(header)
        sector = sector or own_sector  # the first header's holds for all, and so does its page size
        record_bytes = record_bytes or page_bytes + _RECORD_BYTES
        at += sector
        open_end = count == _TO_THE_END
        if open_end:
            count = max(0, size - at) // record_bytes
        if at + count * record_bytes > size:
            raise _DamagedError("it is shorter than it says")
        for _ in range(count):
            record = os.pread(descriptor, record_bytes, at)
            number, image = int.from_bytes(record[:4], "big"), record[4:-4]
            if len(record) < record_bytes or number == 0 or _checksum(nonce, image) != record[-4:]:
                if open_end:  # written without syncing: it ends where it is wrong
                    return
                raise _DamagedError("a page in it is damaged")
            if number > initial:
                raise _DamagedError("it keeps a page that its file never had")
            at += record_bytes
            yield number, image
        at = -(-at // sector) * sector


def _checksum(nonce: int, image: bytes) -> bytes:
    """Return the checksum of a page: the nonce and every 200th byte from the end, but the first."""
    size = len(image)
    return ((nonce + sum(image[size % 200 : size - 199 : 200])) & 0xFFFFFFFF).to_bytes(4, "big")


def _compare(pages: PageFile, descriptor: int, first: bytes | None, initial: int, count: int) -> tuple[Verdict, str]:
    """Compare what a sound journal keeps with the file."""
    if not initial:
        from callisto_telnetd.db.format.carve import carve  # noqa: PLC0415 - heavy, and only after such a crash

        row = next(carve(pages), None)
        if row is None:
            return Verdict.OURS, "the first transaction was cut short"
        return Verdict.FOREIGN, f"its file was empty, this one has rows of {row.table.name}"
    if fault := _stamp_fault(first, pages.page(1), initial):
        return fault
    alike, unlike = _votes(pages, descriptor, count)
    if unlike > alike:
        return Verdict.FOREIGN, f"{unlike} of {alike + unlike} pages that it keeps are not of this file"
    if not (alike or pages.page(1).startswith(_FILE_MAGIC) or pages.count == initial):
        return Verdict.FOREIGN, "nothing in it is of this file"
    return Verdict.OURS, f"a transaction was cut short, {count} pages go back"


def _stamp_fault(first: bytes | None, present: bytes, initial: int) -> tuple[Verdict, str] | None:
    """Return what the headers of the first page that is kept, and of the file's, contradict each other in."""
    headed = present.startswith(_FILE_MAGIC)
    if first is None:
        if headed and _long(present, _COUNT_AT) != initial:
            return Verdict.FOREIGN, f"its file had {initial} pages, this one has {_long(present, _COUNT_AT)}"
        return None
    if not first.startswith(_FILE_MAGIC) or _long(first, _APPLICATION_ID_AT) != APPLICATION_ID:
        return Verdict.FOREIGN, "its first page is not of a database of Callisto's"
    if _long(first, _VALID_FOR_AT) == _long(first, _COUNTER_AT) and _long(first, _COUNT_AT) != initial:
        return Verdict.DAMAGED, "it contradicts itself on how many pages the file had"
    return _header_fault(first, present) if headed else None


def _header_fault(first: bytes, present: bytes) -> tuple[Verdict, str] | None:
    ahead = _long(present, _COUNTER_AT) - _long(first, _COUNTER_AT) & 0xFFFFFFFF
    if _long(present, _APPLICATION_ID_AT) != APPLICATION_ID:
        return Verdict.FOREIGN, "the database beside it is not one of Callisto's"
    if ahead == 0 and _long(first, _VERSION_AT) > _long(present, _VERSION_AT):
        return Verdict.FOREIGN, "its file has a newer schema"
    if ahead > 1 << 31:
        return Verdict.STALE, "the file is older than it"
    if ahead > 1:
        return Verdict.STALE, f"the file has changed {ahead} times since"
    return None


def _votes(pages: PageFile, descriptor: int, count: int) -> tuple[int, int]:
    """Return how many pages are those of the file or near them, and how many are strangers; of many, a sample."""
    alike = unlike = 0
    step = max(1, count // _MOST_COMPARED)
    for place, (number, image) in enumerate(_images(descriptor)):
        if number == 1 or place % step or number > pages.count:
            continue
        near = _is_near(image, pages.page(number), pages.layout)
        alike += near is True
        unlike += near is False
    return alike, unlike


def _is_near(image: bytes, present: bytes, layout: Layout) -> bool | None:
    """Whether a page may have become the other by one transaction; None where that cannot be told."""
    if image == present:
        return True
    if not any(image) or not any(present):
        return None  # taken from the free list, or given to it (secure_delete writes zeros)
    if not type_of(
        image, 2
    ):  # text of a long row; that such a page becomes one of a tree at once is all but unheard of
        return False if type_of(present, 2) and not examine(present, 2, 1 << 31, layout).faults else None
    if not type_of(present, 2):
        return None
    cells = examine(image, 2, 1 << 31, layout).cells
    pieces = [image[at : min(at + size, layout.usable_bytes)] for _, size, at, _ in cells if size >= _PIECE_BYTES]
    if not pieces or image[0] <= INDEX_INTERIOR:
        return None
    kept = sum(_has_part(piece, present) for piece in pieces)
    return 2 * kept >= len(pieces) if kept or len(pieces) > 1 else None


def _has_part(payload: bytes, page: bytes) -> bool:
    """Whether the beginning, the middle or the end of a row stands on the page: an update leaves one of them."""
    middle, end = (len(payload) - _PIECE_BYTES) // 2, len(payload) - _PIECE_BYTES
    return any(payload[at : at + _PIECE_BYTES] in page for at in (0, middle, end))


def _long(page: bytes, at: int) -> int:
    return int.from_bytes(page[at : at + 4], "big")
