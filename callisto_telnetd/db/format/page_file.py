"""A database file as pages, read without SQLite; rules as :mod:`.pages` has them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from callisto_telnetd.db.format.detection import detect
from callisto_telnetd.db.format.layout import Layout
from callisto_telnetd.db.format.pages import Shape, examine
from callisto_telnetd.errors import StoreError, named


class PageFile:
    """A database file that nobody writes to, page by page."""

    def __init__(self, file: Path, layout: Layout | None = None) -> None:
        """Open the file.

        Args:
            file: The database.
            layout: How it is cut into pages; found where it is not given.

        Raises:
            StoreError: it cannot be read.
        """
        try:
            self._descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            self.size = os.fstat(self._descriptor).st_size
        except OSError as error:
            raise StoreError(f"database {named(file)} cannot be read: {error.strerror}") from None
        self.layout = layout or detect(self._descriptor, self.size)
        self._page_bytes = self.layout.page_bytes
        self._nothing = bytes(self._page_bytes)
        self.count = -(-self.size // self._page_bytes)
        """Pages, the last one perhaps cut short."""
        self.unreadable: set[int] = set()
        """Pages that the disk did not give."""

    def page(self, number: int) -> bytes:
        """Return a page, from 1 on.

        What is not in the file, cannot be read from the disk, or is set apart by the format, is zeros.
        """
        if number <= 0 or self.layout.is_set_apart(number):
            return self._nothing
        try:
            page = os.pread(self._descriptor, self._page_bytes, (number - 1) * self._page_bytes)
        except OSError:
            self.unreadable.add(number)
            return self._nothing
        return page if len(page) == self._page_bytes else page.ljust(self._page_bytes, b"\0")

    def is_whole(self, number: int) -> bool:
        """Whether the file holds the whole of the page."""
        return 0 < number <= self.size // self._page_bytes and number not in self.unreadable

    def shape(self, number: int) -> Shape:
        """Return the structural test of a page."""
        page = self.page(number)
        shape = examine(page, number, self.count, self.layout)
        if not self.is_whole(number):
            shape.faults.insert(0, "the page is cut short, or the disk does not give it")
        return shape

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
