"""A ZIP file as it grows: each member once, one behind the other, the directory and the seal's place at its end."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from datetime import datetime
from typing import BinaryIO

from callisto_telnetd.db.backup.cipher import Encryption
from callisto_telnetd.db.backup.deflation import END, Section
from callisto_telnetd.db.backup.zip_records import (
    Directory,
    Entry,
    pack_central,
    pack_end,
    pack_local,
)

_FIRST_YEAR, _LAST_YEAR = 1980, 2107


class ZipWriter:
    """Writes members into a stream that can be sought in; the caller flushes and closes it."""

    def __init__(self, stream: BinaryIO, password: str | None, at: datetime) -> None:
        """Begin.

        Args:
            stream: An empty file.
            password: Encrypts the members; None where there is none.
            at: The time that every member has.
        """
        self._stream = stream
        self._password = password
        self._stamp = dos_stamp(at)
        self._central = bytearray()
        self._members = 0
        self.written = 0
        """Bytes up to now."""

    def add(self, name: str, size: int, sections: Iterable[Section]) -> None:
        """Add a member section by section; its header is written once more when all is known.

        Args:
            name: Its name.
            size: Its size; any that needs no ZIP64 either, where it is not known yet.
            sections: Its content.
        """
        begin = self.written
        self._put(pack_local(self._entry(name, 0, 0, size)))
        content_at, done, crc = self.written, 0, 0
        encryption = Encryption(self._password) if self._password is not None else None
        if encryption:
            self._put(encryption.head)
        for content, packed in sections:
            done += len(content)
            crc = crc if encryption else zlib.crc32(content, crc)
            self._put(encryption.encrypt(packed) if encryption else packed)
        self._put(encryption.encrypt(END) + encryption.code() if encryption else END)
        entry = self._entry(name, crc, self.written - content_at, done)._replace(offset=begin)
        self._stream.seek(begin)
        self._stream.write(pack_local(entry))
        self._stream.seek(self.written)
        self._central += pack_central(entry)
        self._members += 1

    def finish(self, comment: bytes) -> None:
        """Write the directory, and what ends the file."""
        directory = Directory(self.written, len(self._central), self._members)
        self._put(bytes(self._central))
        self._put(pack_end(directory, comment))

    def _entry(self, name: str, crc: int, packed: int, size: int) -> Entry:
        return Entry(name, self._password is not None, crc, packed, size, self.written, self._stamp)

    def _put(self, data: bytes) -> None:
        self._stream.write(data)
        self.written += len(data)


def dos_stamp(at: datetime) -> int:
    """Return a time in MS-DOS form, the date in the upper 16 bits; its years are 1980 to 2107."""
    year = min(max(at.year, _FIRST_YEAR), _LAST_YEAR)
    date = (year - _FIRST_YEAR) << 9 | at.month << 5 | at.day
    return date << 16 | at.hour << 11 | at.minute << 5 | at.second // 2
