"""Which layout a file has: its header's, where its pages agree; else that of most of its pages.

* A sound page of a tree says how large it is: its cells and its free room fill it to the byte. So it has one vote.
* Text of ours is mostly times and numbers, so its zeros tell UTF-16 from UTF-8.
* A pointer map is page 2 and full of page numbers; no page of a tree looks like it.

A few hundred pages are looked at, from all over the file: some milliseconds.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from callisto_telnetd.db.format.layout import (
    HEADER_BYTES,
    LEAST_USABLE_BYTES,
    MOST_RESERVED_BYTES,
    OWN,
    PAGE_SIZES,
    Encoding,
    Layout,
    stated_layout,
)
from callisto_telnetd.db.format.pages import DOES_NOT_ADD_UP, TABLE_LEAF, examine, type_of
from callisto_telnetd.db.format.records import decode

_SAMPLE = 64
_MOST_PAGES = 1 << 32
_MOST_MAPS = 16
_ROWS_A_PAGE = 4
_POINTER_KINDS = range(1, 6)


def detect(descriptor: int, size: int) -> Layout:
    """Return the layout of a file of ``size`` bytes; ours where nothing tells another one."""
    stated = stated_layout(_read(descriptor, HEADER_BYTES, 0))
    ballot = _Ballot(descriptor, size, stated)
    if stated is not None:
        ballot.poll(stated.page_bytes)
    if stated is None or ballot.winner() not in (None, _cut(stated)):
        for page_bytes in PAGE_SIZES:
            ballot.poll(page_bytes)
    page_bytes, reserved = ballot.winner() or _cut(stated or OWN)
    layout = Layout(page_bytes, reserved)
    return replace(
        layout,
        encoding=ballot.encoding(layout) or (stated or OWN).encoding,
        auto_vacuum=_is_auto_vacuum(descriptor, size, layout, stated=stated is not None and stated.auto_vacuum),
    )


def _cut(layout: Layout) -> tuple[int, int]:
    return layout.page_bytes, layout.reserved_bytes


def _read(descriptor: int, count: int, at: int) -> bytes:
    try:
        return os.pread(descriptor, count, at)
    except OSError:  # a bad sector is a page that says nothing
        return b""


class _Ballot:
    """The votes of pages: how large each is, and how much of that is reserved."""

    def __init__(self, descriptor: int, size: int, stated: Layout | None) -> None:
        self._descriptor = descriptor
        self._size = size
        self._stated = stated
        self._votes: dict[int, tuple[int, int]] = {}
        """By the place of the page in the file."""

    def poll(self, page_bytes: int) -> None:
        """Ask pages from all over the file that begin where those of this size do."""
        count = self._size // page_bytes
        step = max(1, count // _SAMPLE)
        # Behind the evenly spread ones the first: where much is free or damaged, those are in use.
        for number in {*range(1, count + 1, step), *range(1, min(count, _SAMPLE // 4) + 1)}:
            at = (number - 1) * page_bytes
            if at not in self._votes and (vote := self._vote(at)):
                self._votes[at] = vote

    def winner(self) -> tuple[int, int] | None:
        """Return what most pages have voted for, the header's among equals; None where none has a vote."""
        tally = Counter(self._votes.values())
        stated = _cut(self._stated) if self._stated else None
        return max(tally, key=lambda cut: (tally[cut], cut == stated), default=None)

    def _vote(self, at: int) -> tuple[int, int] | None:
        """Return the size of the page that begins there, and its reserved bytes; None where there is no sound one."""
        number = 2 if at else 1
        if not type_of(_read(self._descriptor, PAGE_SIZES[0], at).ljust(PAGE_SIZES[0], b"\0"), number):
            return None
        if self._stated is not None:
            page = _read(self._descriptor, self._stated.page_bytes, at)
            if len(page) == self._stated.page_bytes and _is_sound(page, number, self._stated):
                return _cut(self._stated)
        block = _read(self._descriptor, PAGE_SIZES[-1], at)
        for page_bytes in PAGE_SIZES:
            if at % page_bytes or page_bytes > len(block):
                break
            if (reserved := _reserved(block[:page_bytes], number)) is not None:
                return page_bytes, reserved
        return None

    def encoding(self, layout: Layout) -> Encoding | None:
        """Return the encoding of the text on the pages that voted for the layout; None where there is none."""
        tally: Counter[Encoding] = Counter()
        for at, cut in self._votes.items():
            if cut == _cut(layout):
                page = _read(self._descriptor, layout.page_bytes, at)
                tally.update(map(_encoding_of, _texts(page, 2 if at else 1, layout)))
        return max(tally, key=lambda encoding: tally[encoding], default=None)


def _is_sound(page: bytes, number: int, layout: Layout) -> bool:
    return not examine(page, number, _MOST_PAGES, layout).faults


def _reserved(page: bytes, number: int) -> int | None:
    """Return how many bytes of a page are reserved where this is one page; None where it is not."""
    shape = examine(page, number, _MOST_PAGES, Layout(len(page)))
    if not shape.faults:
        return 0
    found = len(page) - shape.filled
    if shape.faults != [DOES_NOT_ADD_UP] or not 0 < found <= MOST_RESERVED_BYTES:
        return None
    if shape.filled < LEAST_USABLE_BYTES or not _is_sound(page, number, Layout(len(page), found)):
        return None
    return found


def _texts(page: bytes, number: int, layout: Layout) -> Iterator[bytes]:
    """Yield some texts of a table's leaf as bytes."""
    if type_of(page, number) != TABLE_LEAF:
        return
    for _, size, at, chain in islice(examine(page, number, _MOST_PAGES, layout).cells, _ROWS_A_PAGE):
        record = decode(page, at, at + size) if not chain else None
        for value in record or ():
            if isinstance(value, str) and value:
                yield value.encode("utf-8", "surrogateescape")


def _encoding_of(text: bytes) -> Encoding:
    """Return what a text is most likely written in: letters of ours are mostly ASCII."""
    high, low = text[::2].count(0), text[1::2].count(0)
    if len(text) % 2 or 4 * max(high, low) < len(text):
        return "utf-8"
    return "utf-16-be" if high > low else "utf-16-le"


def _is_auto_vacuum(descriptor: int, size: int, layout: Layout, *, stated: bool) -> bool:
    """Whether the pages at the places of pointer maps are some, and none of a tree."""
    mapped, count, tally = replace(layout, auto_vacuum=True), size // layout.page_bytes, Counter[bool]()
    every = layout.usable_bytes // 5 + 1
    for number in islice(range(2, count + 1, every), _MOST_MAPS):
        place = number + (number == layout.lock_page)
        page = _read(descriptor, layout.page_bytes, (place - 1) * layout.page_bytes)
        if not mapped.is_pointer_map(place) or len(page) < layout.page_bytes:
            continue
        if _is_map(page, min(count - place, every - 1), count):
            tally[True] += 1
        elif type_of(page, place) and _is_sound(page, place, layout):
            tally[False] += 1
    return tally[True] > tally[False] if tally else stated


def _is_map(page: bytes, entries: int, count: int) -> bool:
    """Whether a page has an entry for each of the pages behind it: a kind from 1 to 5, and a page of the file."""
    return entries > 0 and all(
        page[5 * at] in _POINTER_KINDS and int.from_bytes(page[5 * at + 1 : 5 * at + 5], "big") <= count
        for at in range(entries)
    )
