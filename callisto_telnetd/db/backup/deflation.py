"""Content deflated in sections that know nothing of each other, one behind the other, so that several threads do it.

A section ends at a byte's end and is not the last block of the stream (RFC 1951, section 3.2.3), so sections joined,
with :data:`END` behind them, are one stream that any program inflates. What does not become smaller, a recording that
is compressed already, stands in it as it is, and so does what would become so small that a reader took it for a bomb.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from isal import isal_zlib

from callisto_telnetd.db.backup.growth import MOST_RATIO, solid_bytes

END = b"\x03\x00"
"""A last block with nothing in it."""
_LEVEL = 1
_BLOCK = struct.Struct("<B2H")
_MOST_STORED_BYTES = 0xFFFF
_WORTH = 0.95


class Section(NamedTuple):
    """A piece of a content."""

    content: bytes
    packed: bytes


def deflate(content: bytes, *, wiped: bool = False) -> Section:
    """Return a piece of a content with its blocks; other threads go on meanwhile.

    Args:
        content: The piece.
        wiped: Whether zeros that fill a block are no content, as in a database.
    """
    packer = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
    packed = packer.compress(content) + packer.flush(isal_zlib.Z_FULL_FLUSH)
    most = len(packed) * MOST_RATIO
    is_thin = len(content) > most and (not wiped or solid_bytes(content) > most)
    return Section(content, _stored(content) if is_thin or len(packed) >= len(content) * _WORTH else packed)


def _stored(content: bytes) -> bytes:
    blocks = bytearray()
    for at in range(0, len(content), _MOST_STORED_BYTES):
        block = content[at : at + _MOST_STORED_BYTES]
        blocks += _BLOCK.pack(0, len(block), len(block) ^ _MOST_STORED_BYTES)
        blocks += block
    return bytes(blocks)
