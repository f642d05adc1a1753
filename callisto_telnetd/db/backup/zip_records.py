"""The records of a ZIP file as our archives have them (PKWARE, "APPNOTE.TXT", sections 4.3 and 4.5), written and read.

Every member is deflated; encrypted, too, where a password protects the archive.

Rule: there is one way to write an entry, and reading takes that one alone. What is read is written again and has to be
the same bytes, so that nothing which another reader might understand otherwise stands anywhere in an archive.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

_DEFLATED = 8
_AES = 99
AES_OVERHEAD_BYTES = 28
"""Salt, password verifier and authentication code around the content of an encrypted member (WinZip, "AES Encryption
Information", section IV)."""
MOST_NAME_BYTES = 14
"""``recordings.tar``."""

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_AES_EXTRA = struct.Struct("<3H2sBH")
_LOCAL_MARK, _CENTRAL_MARK, _END_MARK = b"PK\3\4", b"PK\1\2", b"PK\5\6"
_END_64_MARK, _LOCATOR_MARK = b"PK\6\6", b"PK\6\7"
_UNIX, _MODE = 3 << 8, 0o100600 << 16
_PLAIN_VERSION, _VERSION_64, _AES_VERSION = 20, 45, 51
_SEE_EXTRA_16, _SEE_EXTRA_32 = 0xFFFF, 0xFFFF_FFFF
_LARGE = 0xF000_0000
"""Bytes from which ZIP64's fields are used: below it, what deflate adds where it fails still fits 32 bits."""
_MANY = 0xF000

_LARGE_EXTRA_BYTES = 20
LOCAL_BYTES, CENTRAL_BYTES, END_BYTES = _LOCAL.size, _CENTRAL.size, _END.size
END_64_BYTES = _END_64.size + _LOCATOR_64.size


class RecordError(Exception):
    """What stands there is no record of our form."""


class Entry(NamedTuple):
    """One member, as the directory has it."""

    name: str
    encrypted: bool
    crc: int
    """Of the content; 0 where it is encrypted (AE-2)."""
    packed: int
    """Bytes in the archive, encryption included."""
    size: int
    """Bytes of the content."""
    offset: int
    """Where its local header begins."""
    stamp: int
    """The time in MS-DOS form: the date in the upper 16 bits."""

    @property
    def content_at(self) -> int:
        """Where its content begins, behind the local header."""
        extra = (_LARGE_EXTRA_BYTES if self.size >= _LARGE else 0) + (_AES_EXTRA.size if self.encrypted else 0)
        return self.offset + LOCAL_BYTES + len(self.name) + extra

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.content_at + self.packed


class Directory(NamedTuple):
    """Where the central directory is."""

    offset: int
    size: int
    members: int


def pack_local(entry: Entry) -> bytes:
    """Return the header before a member's content."""
    extra, packed, size = b"", entry.packed, entry.size
    if size >= _LARGE:
        extra = struct.pack("<2H2Q", 1, 16, size, packed)
        packed = size = _SEE_EXTRA_32
    extra += _aes_extra(entry)
    name = entry.name.encode("ascii")
    fixed = (*_common(entry, version=_version(entry, far=False)), packed, size, len(name), len(extra))
    return _LOCAL.pack(_LOCAL_MARK, *fixed) + name + extra


def pack_central(entry: Entry) -> bytes:
    """Return a member's record in the directory."""
    far, fields = entry.offset >= _LARGE, b""
    packed, size, offset = entry.packed, entry.size, entry.offset
    if size >= _LARGE:
        fields = struct.pack("<2Q", size, packed)
        packed = size = _SEE_EXTRA_32
    if far:
        fields += struct.pack("<Q", offset)
        offset = _SEE_EXTRA_32
    extra = (struct.pack("<2H", 1, len(fields)) + fields if fields else b"") + _aes_extra(entry)
    name = entry.name.encode("ascii")
    common = _common(entry, version=_version(entry, far=far))
    lengths = (packed, size, len(name), len(extra), 0, 0, 0, _MODE, offset)
    return _CENTRAL.pack(_CENTRAL_MARK, _UNIX | _VERSION_64, *common, *lengths) + name + extra


def parse_central(record: bytes) -> tuple[Entry, int]:
    """Return the member at the beginning of a piece of the directory, and the bytes that its record takes.

    Raises:
        RecordError: it is not as :func:`pack_central` writes it.
    """
    if len(record) < CENTRAL_BYTES:
        raise RecordError("the directory ends within a record")
    mark, _, _, flags, _, time, date, crc, packed, size, named, extra, *_, offset = _CENTRAL.unpack_from(record)
    length = CENTRAL_BYTES + named + extra
    if mark != _CENTRAL_MARK or named > MOST_NAME_BYTES or len(record) < length:
        raise RecordError("a record of the directory has another form")
    name, rest = record[CENTRAL_BYTES : CENTRAL_BYTES + named], record[CENTRAL_BYTES + named : length]
    try:
        size, packed, offset = _large(rest, size, packed, offset)
        entry = Entry(name.decode("ascii"), bool(flags & 1), crc, packed, size, offset, date << 16 | time)
        same = pack_central(entry) == record[:length]
    except (UnicodeDecodeError, struct.error):
        same = False
    if not same:
        raise RecordError("a record of the directory has another form")
    return entry, length


def pack_end(directory: Directory, comment: bytes) -> bytes:
    """Return the records behind the directory, with the comment that ends the file."""
    offset, size, count = directory
    large = b""
    if offset >= _LARGE or count >= _MANY:
        at = offset + size
        fields = (_END_64.size - 12, _UNIX | _VERSION_64, _VERSION_64, 0, 0, count, count, size, offset)
        large = _END_64.pack(_END_64_MARK, *fields) + _LOCATOR_64.pack(_LOCATOR_MARK, 0, at, 1)
        offset = size = _SEE_EXTRA_32
        count = _SEE_EXTRA_16
    return large + _END.pack(_END_MARK, 0, 0, count, count, size, offset, len(comment)) + comment


def parse_end(tail: bytes, file_bytes: int, comment_bytes: int) -> Directory:
    """Return where the directory is, from the end of a file.

    Args:
        tail: The last bytes of the file; at least the end record, ZIP64's before it, and the comment.
        file_bytes: How large the file is.
        comment_bytes: How long the comment has to be.

    Raises:
        RecordError: the end is not as :func:`pack_end` writes it.
    """
    at = len(tail) - comment_bytes - END_BYTES
    if at < 0 or tail[at : at + 4] != _END_MARK:
        raise RecordError("it has no end of our form")
    _, _, _, _, count, size, offset, _ = _END.unpack_from(tail, at)
    if count == _SEE_EXTRA_16 and at >= END_64_BYTES:
        *_, count, size, offset = _END_64.unpack_from(tail, at - END_64_BYTES)
    directory = Directory(offset, size, count)
    try:
        again = pack_end(directory, tail[len(tail) - comment_bytes :])
    except struct.error:
        again = b""
    if not again or not tail.endswith(again) or offset + size + len(again) != file_bytes:
        raise RecordError("its end has another form")
    return directory


def _common(entry: Entry, *, version: int) -> tuple[int, ...]:
    method = _AES if entry.encrypted else _DEFLATED
    return version, int(entry.encrypted), method, entry.stamp & 0xFFFF, entry.stamp >> 16, entry.crc


def _version(entry: Entry, *, far: bool) -> int:
    if entry.encrypted:
        return _AES_VERSION
    return _VERSION_64 if far or entry.size >= _LARGE else _PLAIN_VERSION


def _aes_extra(entry: Entry) -> bytes:
    """Return the field that says AE-2, AES-256, and how the content is packed within."""
    return _AES_EXTRA.pack(0x9901, 7, 2, b"AE", 3, _DEFLATED) if entry.encrypted else b""


def _large(extra: bytes, size: int, packed: int, offset: int) -> tuple[int, int, int]:
    """Return the three numbers with what ZIP64's field says."""
    if extra[:2] == b"\1\0":
        at = 4
        if size == _SEE_EXTRA_32:
            size, packed = struct.unpack_from("<2Q", extra, at)
            at += 16
        if offset == _SEE_EXTRA_32:
            (offset,) = struct.unpack_from("<Q", extra, at)
    return size, packed, offset
