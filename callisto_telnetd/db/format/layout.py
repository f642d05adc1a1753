"""The layout of a database file: what its header says once and every page is read by (section 1.3).

Ours are always :data:`OWN`. Other programs (``VACUUM`` with another page size, a reload by another sqlite3) make
others, and every one that SQLite reads is read here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Encoding = Literal["utf-8", "utf-16-le", "utf-16-be"]
ENCODINGS: tuple[Encoding, ...] = ("utf-8", "utf-16-le", "utf-16-be")
"""In the order of the header's numbers, which begin with 1."""
PAGE_SIZES = tuple(1 << power for power in range(9, 17))
LEAST_USABLE_BYTES = 480
MOST_RESERVED_BYTES = 255
HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\0"
# Section 1.3: places in the file's header.
_PAGE_SIZE_AT, _RESERVED_AT, _LARGEST_ROOT_AT, _ENCODING_AT = 16, 20, 52, 56
_FRACTIONS = bytes((64, 32, 32))  # which have never been others
_LOCK_BYTE = 1 << 30  # section 1.4: the page that holds it is never used


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is cut into pages, and what stands where on them."""

    page_bytes: int = 4096
    reserved_bytes: int = 0
    """At the end of each page, for extensions of SQLite; nothing of ours is there."""
    encoding: Encoding = "utf-8"
    auto_vacuum: bool = False
    """Whether some pages are pointer maps (section 1.8): page 2, and others at even distances."""
    usable_bytes: int = field(init=False)
    """Of each page: where its content ends."""
    most_table: int = field(init=False)
    most_index: int = field(init=False)
    """How many bytes of a payload stay on a page of a table or an index at most (section 1.6)."""
    least: int = field(init=False)
    """How many bytes of a longer payload stay there at least."""
    most_free: int = field(init=False)
    """How many page numbers a trunk of the free list has room for."""
    lock_page: int = field(init=False)
    """The number of the page that is never used; files of more than 1 GiB have it."""

    def __post_init__(self) -> None:
        """Work out what follows from the sizes."""
        usable = self.page_bytes - self.reserved_bytes
        derived = {
            "usable_bytes": usable,
            "most_table": usable - 35,
            "most_index": (usable - 12) * 64 // 255 - 23,
            "least": (usable - 12) * 32 // 255 - 23,
            "most_free": usable // 4 - 2,
            "lock_page": _LOCK_BYTE // self.page_bytes + 1,
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def local_bytes(self, size: int, *, table: bool) -> int:
        """Return how many bytes of a payload of ``size`` stay on the page."""
        most = self.most_table if table else self.most_index
        if size <= most:
            return size
        kept = self.least + (size - self.least) % (self.usable_bytes - 4)
        return kept if kept <= most else self.least

    def is_pointer_map(self, number: int) -> bool:
        """Whether a page says of those behind it where they hang, and holds nothing itself."""
        if not self.auto_vacuum or number < 2:
            return False
        every = self.usable_bytes // 5 + 1
        place = (number - 2) // every * every + 2
        return number == (place + 1 if place == self.lock_page else place)

    def is_set_apart(self, number: int) -> bool:
        """Whether neither a tree, nor a chain, nor the free list ever has the page."""
        return number == self.lock_page or self.is_pointer_map(number)


OWN = Layout()
"""What our migrations make: 4,096 bytes, none reserved, UTF-8, no auto-vacuum."""


def stated_layout(header: bytes) -> Layout | None:
    """Return what the header of a file says, its first 100 bytes; None where it says nothing that can be."""
    if len(header) < HEADER_BYTES or not header.startswith(_MAGIC):
        return None
    page_bytes = int.from_bytes(header[_PAGE_SIZE_AT : _PAGE_SIZE_AT + 2], "big")
    page_bytes = 1 << 16 if page_bytes == 1 else page_bytes
    reserved, encoding = header[_RESERVED_AT], int.from_bytes(header[_ENCODING_AT : _ENCODING_AT + 4], "big")
    if page_bytes not in PAGE_SIZES or page_bytes - reserved < LEAST_USABLE_BYTES:
        return None
    if header[_RESERVED_AT + 1 : _RESERVED_AT + 4] != _FRACTIONS:
        return None
    named = ENCODINGS[encoding - 1] if 1 <= encoding <= len(ENCODINGS) else OWN.encoding
    return Layout(page_bytes, reserved, named, any(header[_LARGEST_ROOT_AT : _LARGEST_ROOT_AT + 4]))
