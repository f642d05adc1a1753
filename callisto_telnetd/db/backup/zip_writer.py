"""A ZIP file as it grows: each member once, one behind the other, the directory and the seal's place at its end."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from datetime import datetime
from typing import BinaryIO

from callisto_telnetd.db.backup.cipher import Encryption, KeyRing
from callisto_telnetd.db.backup.zip_records import (
    DEFLATED,
    STORED,
    Directory,
    Entry,
    pack_central,
    pack_end,
    pack_local,
)

_LEVEL = 1
_FIRST_YEAR, _LAST_YEAR = 1980, 2107


class ZipWriter:
    """Writes members into a stream that can be sought in; the caller flushes and closes it."""

    def __init__(self, stream: BinaryIO, ring: KeyRing | None, at: datetime) -> None:
        """Begin.

        Args:
            stream: An empty file.
            ring: Gives the members their keys; None where there is no password.
            at: The time that every member has.
        """
        self._stream = stream
        self._ring = ring
        self._stamp = dos_stamp(at)
        self._central = bytearray()
        self._members = 0
        self.written = 0
        """Bytes up to now."""

    def add_stored(self, name: str, size: int, crc: int, payload: bytes) -> None:
        """Add a member that is packed already: as :func:`pack_recording` returns it, for example."""
        entry = self._entry(name, STORED, crc, len(payload), size)
        self._put(pack_local(entry))
        self._put(payload)
        self._close(entry)

    def add(self, name: str, size: int, pieces: Iterable[bytes], *, deflate: bool) -> int:
        """Add a member piece by piece; its header is written once more when all is known.

        Args:
            name: Its name.
            size: Its size; of a deflated member whose size is not known a bound that is not too low.
            pieces: Its content.
            deflate: Whether it is deflated; else it is stored.

        Returns:
            Its size.
        """
        method = DEFLATED if deflate else STORED
        begin = self.written
        self._put(pack_local(self._entry(name, method, 0, 0, size)))
        content_at, done, crc = self.written, 0, 0
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS) if deflate else None
        encryption = Encryption(self._ring) if self._ring else None
        if encryption:
            self._put(encryption.head)
        for piece in pieces:
            done += len(piece)
            crc = zlib.crc32(piece, crc)
            self._put_content(packer.compress(piece) if packer else piece, encryption)
        self._put_content(packer.flush() if packer else b"", encryption)
        if encryption:
            self._put(encryption.code())
        entry = self._entry(name, method, crc, self.written - content_at, done)._replace(offset=begin)
        self._stream.seek(begin)
        self._stream.write(pack_local(entry))
        self._stream.seek(self.written)
        self._close(entry)
        return done

    def finish(self, comment: bytes) -> None:
        """Write the directory, and what ends the file."""
        directory = Directory(self.written, len(self._central), self._members)
        self._put(bytes(self._central))
        self._put(pack_end(directory, comment))

    def _entry(self, name: str, method: int, crc: int, packed: int, size: int) -> Entry:
        encrypted = self._ring is not None
        return Entry(name, method, encrypted, 0 if encrypted else crc, packed, size, self.written, self._stamp)

    def _put_content(self, data: bytes, encryption: Encryption | None) -> None:
        if data:
            self._put(encryption.encrypt(data) if encryption else data)

    def _put(self, data: bytes) -> None:
        self._stream.write(data)
        self.written += len(data)

    def _close(self, entry: Entry) -> None:
        self._central += pack_central(entry)
        self._members += 1


def pack_recording(content: bytes, ring: KeyRing | None) -> tuple[int, bytes]:
    """Return the CRC of a small member and what is stored of it; most of the work is done without Python's lock."""
    if ring is None:
        return zlib.crc32(content), content
    encryption = Encryption(ring)
    return 0, b"".join((encryption.head, encryption.encrypt(content), encryption.code()))


def dos_stamp(at: datetime) -> int:
    """Return a time in MS-DOS form, the date in the upper 16 bits; its years are 1980 to 2107."""
    year = min(max(at.year, _FIRST_YEAR), _LAST_YEAR)
    date = (year - _FIRST_YEAR) << 9 | at.month << 5 | at.day
    return date << 16 | at.hour << 11 | at.minute << 5 | at.second // 2
