"""The database inside an archive, judged by its first bytes before any of it is written.

Whether it is sound is SQLite's to say, of the whole file. What its header says of itself (SQLite, "Database File
Format", section 1.3) tells earlier that it is none, or not of the size that the manifest announces.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import NoReturn

from callisto_telnetd.db.backup.growth import is_nothing
from callisto_telnetd.db.backup.manifest import Manifest
from callisto_telnetd.db.backup.refusal import refuse
from callisto_telnetd.db.format.layout import HEADER_BYTES, stated_layout
from callisto_telnetd.db.schema import has_stamp, migrations
from callisto_telnetd.errors import NewerBackupError

_CHANGES_AT, _PAGES_AT, _FREE_PAGES_AT, _PAGES_VALID_AT = 24, 28, 36, 92


def require_known_schema(manifest: Manifest, name: str) -> None:
    """Refuse a backup whose schema this version does not know.

    Raises:
        NewerBackupError: names the version that has made it.
    """
    newest = max(migrations())
    if manifest.schema > newest:
        raise NewerBackupError(
            f"{name!r}: version {manifest.product_version} has made it, with schema {manifest.schema}, and this"
            f" version knows {newest}: use a newer callisto-telnetd; nothing was changed"
        )


def judged(manifest: Manifest, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the content of the database inside, nothing of it where its header is wrong.

    Raises:
        BackupError: it is no database of ours, of another size, or has more empty pages than it says.
    """
    size, head = manifest.members.database.size, b""
    while len(head) < HEADER_BYTES and (piece := next(pieces, None)) is not None:
        head += piece
    page_bytes, most_empty = _judge(head, size)
    empty = 0
    for piece in chain([head], pieces):
        if is_nothing(piece):
            empty += len(piece)
            if empty > most_empty * page_bytes:
                _refuse("it has more empty pages than its first page says")
        yield piece


def _judge(head: bytes, size: int) -> tuple[int, int]:
    """Return how large its pages are, and how many of them may be empty: free ones, and the one that holds locks."""
    layout = stated_layout(head)
    if layout is None:
        _refuse("its first page is none of a SQLite database")
    if not has_stamp(head):
        _refuse("it is not a database of Callisto's")
    pages, rest = divmod(size, layout.page_bytes)
    free = _number(head, _FREE_PAGES_AT)
    is_told = _number(head, _CHANGES_AT) == _number(head, _PAGES_VALID_AT)
    if rest or free >= pages or (is_told and _number(head, _PAGES_AT) != pages):
        _refuse("its size is not the one that its first page says")
    return layout.page_bytes, free + 1


def _number(head: bytes, at: int) -> int:
    return int.from_bytes(head[at : at + 4], "big")


def _refuse(reason: str) -> NoReturn:
    refuse(f"the database inside is not sound: {reason}")
