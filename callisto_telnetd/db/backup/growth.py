"""How much a member of an archive may grow when it is inflated, held against what was read of it while that goes on.

A database and recordings shrink to a half or a tenth. What shrinks to a thousandth is no content of theirs but a way to
fill a disk, and it is known as that long before its hash is wrong. That is said of archives whose writer keeps to the
bound (format 2 and later): those of format 1 hold silence as it shrinks, and are held to the announced sizes alone, for
which there has to be room. What a member announces counts first: one that is
not thin needs no closer look.

Pages of nothing but zeros are a database's own (free ones are wiped): they cost no disk, because they become holes.
"""

from __future__ import annotations

from collections.abc import Iterator

MOST_RATIO = 32
"""Bytes of a content that one byte of an archive may make; the writer stores as it is what would make more."""
FREE_BYTES = 8 << 20
"""May be made of nothing."""
_BLOCK_BYTES = 4096
_ZEROS = bytes(_BLOCK_BYTES)


def is_thin(size: int, packed: int) -> bool:
    """Whether so many bytes that become so many are too few to be taken as they come."""
    return size > FREE_BYTES + packed * MOST_RATIO


def is_nothing(piece: bytes) -> bool:
    """Whether a piece is zeros alone; what is not is mostly known by its first byte."""
    return piece[:1] == b"\0" and piece == bytes(len(piece))


def solid_bytes(piece: bytes) -> int:
    """Return how many bytes of a piece are more than blocks of zeros."""
    return sum(
        len(block)
        for at in range(0, len(piece), _BLOCK_BYTES)
        if (block := piece[at : at + _BLOCK_BYTES]) != _ZEROS[: len(block)]
    )


def in_runs(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the same content in pieces that are zeros alone, or have none that fill a block of the disk."""
    held = b""
    for piece in pieces:
        held += piece
        whole = len(held) // _BLOCK_BYTES * _BLOCK_BYTES
        begin, before = 0, False
        for at in range(0, whole, _BLOCK_BYTES):
            zeros = held[at : at + _BLOCK_BYTES] == _ZEROS
            if at > begin and zeros != before:
                yield held[begin:at]
                begin = at
            before = zeros
        if whole > begin:
            yield held[begin:whole]
        held = held[whole:]
    if held:
        yield held
