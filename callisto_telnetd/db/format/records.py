"""Records: what the payload of a cell holds, and the overflow chains that long ones go on in (sections 1.5, 2.1).

Rules: as :mod:`callisto_telnetd.db.format.pages` has them; a chain is followed no further than the payload's size goes.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING

from callisto_telnetd.db.format.layout import Encoding
from callisto_telnetd.db.format.pages import Cell, varint

if TYPE_CHECKING:
    from callisto_telnetd.db.format.page_file import PageFile

_MOST_HEADER_BYTES = 100  # 11 columns, whose types take at most 9 bytes each
_DOUBLE = Struct(">d")
_CONSTANTS = {0: None, 8: 0, 9: 1}
_INTEGER_BYTES = (0, 1, 2, 3, 4, 6, 8)
_LONG = Struct(">I")
_HALF_LETTERS = "callisto-half-letters"  # as "surrogateescape", which does not know UTF-16


@dataclass(frozen=True, slots=True)
class Payload:
    """The payload of a cell with all that its overflow chain holds."""

    data: bytes
    chain: tuple[int, ...]
    fault: str = ""
    """Why the chain is not as it should be, although it was long enough."""


def payload_of(pages: PageFile, page: bytes, cell: Cell, *, table: bool) -> Payload | None:
    """Return the payload of a cell; None where its chain ends too soon, leads outside, or into itself."""
    _, size, at, following = cell
    layout = pages.layout
    local = layout.local_bytes(size, table=table)
    parts, chain, missing = [page[at : at + local]], [], size - local
    while missing > 0:
        if not 1 < following <= pages.count or following in chain:
            return None
        if layout.is_set_apart(following):
            return None
        if not pages.is_whole(following) and (following - 1) * layout.page_bytes + 4 + missing > pages.size:
            return None
        chain.append(following)
        overflow = pages.page(following)
        if following in pages.unreadable:
            return None
        following = _LONG.unpack_from(overflow)[0]
        part = overflow[4 : min(4 + missing, layout.usable_bytes)]
        parts.append(part)
        missing -= len(part)
    fault = "an overflow chain goes on behind its end" if chain and following else ""
    return Payload(b"".join(parts), tuple(chain), fault)


def decode(  # noqa: PLR0912 - a call a value doubles its time
    data: bytes, at: int, end: int, encoding: Encoding = "utf-8"
) -> list[object] | None:
    """Return the values of the record that fills ``data[at:end]``; None where it is no record, or does not fill that.

    Text that is no text in its encoding has a lone surrogate for each wrong byte.
    """
    errors = "surrogateescape" if encoding == "utf-8" else _HALF_LETTERS
    try:
        body, head = data[at], at + 1
        if body > 127:
            body, head = varint(data, at)
        body = header_end = body + at
        if not head <= header_end <= min(end, head + _MOST_HEADER_BYTES):
            return None
        values: list[object] = []
        while head < header_end:
            serial = data[head]
            head += 1
            if serial > 127:
                if (second := data[head]) < 128:
                    serial, head = (serial & 127) << 7 | second, head + 1
                else:
                    serial, head = varint(data, head - 1)
            if serial > 12:
                after = body + (serial - 12 >> 1)
                if after > end:
                    return None
                content = data[body:after]
                values.append(content.decode(encoding, errors) if serial & 1 else content)
                body = after
            elif serial in _CONSTANTS:
                values.append(_CONSTANTS[serial])
            elif 0 < serial < 7:
                after = body + _INTEGER_BYTES[serial]
                values.append(int.from_bytes(data[body:after], "big", signed=True))
                body = after
            elif serial == 7:
                values.append(_DOUBLE.unpack_from(data, body)[0])
                body += 8
            else:  # 10, 11 are never in a file
                return None
    except (IndexError, ValueError, ArithmeticError):
        return None
    return values if body == end and head == header_end else None


def _keep_wrong_bytes(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for bytes that are no UTF-16, and where reading goes on."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(_HALF_LETTERS, _keep_wrong_bytes)
