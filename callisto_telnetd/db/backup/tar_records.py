"""The recordings of an archive, one behind the other in one member: a tar file, which many programs unpack.

One member, because each member of the archive has keys of its own, and making those of some thousand small recordings
takes longer than encrypting them. All that is in it besides the recordings follows from the manifest
(POSIX.1-2017, pax, "ustar Interchange Format"), so it is read by being written again: it has to be the same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

BLOCK_BYTES = 512
MOST_BYTES = (8 << 30) - 1
"""Of one recording: 11 octal digits."""
END = bytes(2 * BLOCK_BYTES)
"""What stands behind the last one."""

_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s6s2s32s32s8s8s155s12x")
_NO_SUM = b" " * 8


def pack_header(name: str, size: int, moment: int) -> bytes:
    """Return what stands before a recording.

    Args:
        name: Its name, of at most 100 characters.
        size: Bytes of its content, at most :data:`MOST_BYTES`.
        moment: Its time, seconds since 1970.
    """
    header = _header(name, size, moment, _NO_SUM)
    return _header(name, size, moment, b"%06o\0 " % sum(header))


def padding(size: int) -> bytes:
    """Return what stands behind a recording of a size."""
    return bytes(-size % BLOCK_BYTES)


def packed_bytes(sizes: Iterable[int]) -> int:
    """Return how large the file with recordings of these sizes is."""
    return sum(BLOCK_BYTES + size + -size % BLOCK_BYTES for size in sizes) + len(END)


def _header(name: str, size: int, moment: int, checksum: bytes) -> bytes:
    number, nobody = b"%011o\0", b"0000000\0"
    owner = (b"0000600\0", nobody, nobody)
    kind = (b"0", b"", b"ustar\0", b"00", b"", b"", nobody, nobody, b"")
    return _HEADER.pack(name.encode("ascii"), *owner, number % size, number % moment, checksum, *kind)
