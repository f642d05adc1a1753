"""The manifest of an archive: what it is, of which appliance, and every member with its size and SHA-256.

It is one JSON object, written in one way: the head in its first line, then a member a line. Reading takes that form
alone, byte for byte, and works piece by piece: a list of 200,000 members needs no more memory than their hashes.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, islice
from operator import ge
from typing import Any, NamedTuple, NoReturn

from callisto_telnetd.db.backup.tar_records import MOST_BYTES as MOST_RECORDING_BYTES
from callisto_telnetd.db.backup.tar_records import packed_bytes
from callisto_telnetd.errors import BackupError, NewerBackupError, quoted

FORMAT, FORMAT_VERSION = "callisto-backup", 2
_FIRST_BOUNDED_VERSION = 2
"""From this one on the writer stores as it is what would grow by much (``growth.py``)."""
MANIFEST, DATABASE, SETTINGS, PACK = "manifest.json", "database.db", "callisto.toml", "recordings.tar"
"""The members of the ZIP file, in its order; the last one holds the recordings."""
RECORDINGS = "recordings/"
MOST_MEMBERS = 200_000
MOST_MANIFEST_BYTES = 40 << 20
MOST_NAMED_MISSING = 1000
LONGEST_NOTE = 1000
MOST_MEMBER_BYTES = 1 << 44
MOST_SETTINGS_BYTES = 1 << 20

_HEAD_END = b',"members":[\n'
_BETWEEN, _END = b",\n", b"\n]}\n"
_RECORD_END = b'"}'
_MOST_HEAD_BYTES = 256 << 10
_MOST_RECORD_BYTES = 256
_FILE = re.compile(
    rb',\n\{"name":"(database\.db|callisto\.toml)","size":(0|[1-9]\d{0,14}),"sha256":"([0-9a-f]{64})"\}', re.ASCII
)
_RECORDING = re.compile(r',\n\{"name":"recordings/([0-9a-f]{64})","size":(0|[1-9]\d{0,9}),"sha256":"\1"\}', re.ASCII)
_RECORDING_BYTES = len(',\n{"name":"recordings/","size":,"sha256":""}') + 2 * 64
"""Of what the second pattern takes, without the digits of the size."""
_MEMBERS_A_PIECE = 512
_HASH = re.compile(r"[0-9a-f]{64}")
_FIRST_YEAR, _LAST_YEAR = 1970, 2199
_CREATED = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)
_TEXTS = {"product_version": 64, "edition": 32, "host": 300, "serial": 300, "created": 20, "note": LONGEST_NOTE}
_HEAD = (
    "product_version",
    "schema",
    "edition",
    "host",
    "serial",
    "created",
    "note",
    "secrets",
    "left_out",
    "missing",
    "missing_count",
)
"""The fields of the head in their order, behind the format and its version."""
_LEFT_OUT = frozenset({SETTINGS})


class Member(NamedTuple):
    """One file of the archive: of the ZIP file itself, or a recording in its pack."""

    name: str
    size: int
    sha256: str


@dataclass(slots=True)
class Members:
    """The files of an archive in its order: the database, the settings where they are in it, the recordings."""

    database: Member
    settings: Member | None = None
    _digests: bytearray = field(default_factory=bytearray)
    _sizes: array[int] = field(default_factory=lambda: array("Q"))

    def add_recording(self, name: str, size: int) -> None:
        """Add one by its SHA-256, 64 digits; they come in the order of these, each once.

        Raises:
            ValueError: it does not come after those before.
        """
        self.add_recordings([name], [size])

    def add_recordings(self, names: Sequence[str], sizes: Sequence[int]) -> None:
        """Add some, as :meth:`add_recording` does."""
        last = self._digests[-32:].hex()
        if last >= names[0] or any(map(ge, names, names[1:])):
            raise ValueError("recordings are not in their order")
        self._digests += bytes.fromhex("".join(names))
        self._sizes.extend(sizes)

    @property
    def recordings(self) -> int:
        """How many there are."""
        return len(self._sizes)

    def each_recording(self) -> Iterator[Member]:
        """Yield each, in the order of their hashes."""
        for place, size in enumerate(self._sizes):
            name = self._digests[32 * place : 32 * place + 32].hex()
            yield Member(RECORDINGS + name, size, name)

    @property
    def zipped(self) -> dict[str, int]:
        """The members of the ZIP file behind the manifest, in its order, with their sizes."""
        sizes = {DATABASE: self.database.size}
        if self.settings is not None:
            sizes[SETTINGS] = self.settings.size
        if self._sizes:
            sizes[PACK] = packed_bytes(self._sizes)
        return sizes

    @property
    def size_bytes(self) -> int:
        """All of it, unpacked."""
        return self.database.size + (self.settings.size if self.settings else 0) + sum(self._sizes)

    def __len__(self) -> int:
        return 1 + (self.settings is not None) + len(self._sizes)

    def __iter__(self) -> Iterator[Member]:
        yield self.database
        if self.settings is not None:
            yield self.settings
        yield from self.each_recording()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive says of itself; every text is printable and bounded."""

    product_version: str
    schema: int
    """The version of the database's schema."""
    edition: str
    host: str
    serial: str
    created: str
    """UTC, as in ``2026-11-23T09:15:00Z``."""
    note: str
    secrets: bool
    """Whether accounts and PINs are in the database."""
    left_out: tuple[str, ...]
    """Members that were left out because no password protects them."""
    missing: tuple[str, ...]
    """Recordings that rows name and that were not there, or not whole; a thousand of them at most."""
    missing_count: int
    members: Members
    format_version: int = FORMAT_VERSION

    @property
    def is_bounded(self) -> bool:
        """Whether no member grows to more than ``growth.py`` allows; those of before may hold a minute of silence."""
        return self.format_version >= _FIRST_BOUNDED_VERSION

    @property
    def moment(self) -> int:
        """When it was made, in seconds since 1970."""
        return int(datetime.fromisoformat(self.created).timestamp())

    def head(self) -> dict[str, Any]:
        """Return all but the members, as the JSON has it."""
        values = {name: getattr(self, name) for name in _HEAD}
        return _full_head(self.format_version, values)


def format_manifest(manifest: Manifest) -> Iterator[bytes]:
    """Yield the JSON in pieces."""
    yield _format_head(manifest.head()) + _HEAD_END
    records = (
        f'{{"name":"{member.name}","size":{member.size},"sha256":"{member.sha256}"}}' for member in manifest.members
    )
    between = b""
    while piece := list(islice(records, _MEMBERS_A_PIECE)):
        yield between + _BETWEEN.join(record.encode() for record in piece)
        between = _BETWEEN
    yield _END


def parse_manifest(pieces: Iterable[bytes]) -> Manifest:
    """Return what :func:`format_manifest` has written, piece by piece.

    Raises:
        NewerBackupError: a newer version has written it.
        BackupError: it has another form.
    """
    rest = iter(pieces)
    text, pending = _read_head(rest)
    values = _parse_head(text)
    return Manifest(members=_read_members(_BETWEEN + pending, rest), **values)


def _full_head(version: int, values: dict[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, "format_version": version, **values}


def _format_head(head: dict[str, Any]) -> bytes:
    return json.dumps(head, ensure_ascii=True, separators=(",", ":")).removesuffix("}").encode()


def _read_head(pieces: Iterator[bytes]) -> tuple[bytes, bytes]:
    """Return the head, and what was read of the members behind it."""
    pending = b""
    while _HEAD_END not in pending:
        piece = next(pieces, None)
        if piece is None or len(pending) > _MOST_HEAD_BYTES:
            _refuse()
        pending += piece
    text, _, pending = pending.partition(_HEAD_END)
    return text, pending


def _parse_head(text: bytes) -> dict[str, Any]:
    """Return what the head says, by the names of :class:`Manifest`; the version is looked at before all the rest."""
    try:
        head = json.loads(text + b"}")
    except (ValueError, RecursionError):
        _refuse()
    if not isinstance(head, dict) or head.pop("format", None) != FORMAT:
        _refuse()
    version = head.pop("format_version", None)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        _refuse()
    if version > FORMAT_VERSION:
        raise NewerBackupError(
            f"the backup has format {str(version)[:20]}, this version knows {FORMAT_VERSION}:"
            " use a newer callisto-telnetd"
        )
    return {**_checked(version, head, text), "format_version": version}


def _checked(version: int, values: dict[str, Any], text: bytes) -> dict[str, Any]:
    fits = (
        tuple(values) == _HEAD
        and all(_is_text(values[name], longest) for name, longest in _TEXTS.items())
        and _is_moment(values["created"])
        and _is_count(values["schema"])
        and _is_count(values["missing_count"])
        and isinstance(values["secrets"], bool)
        and _is_list(values["left_out"], len(_LEFT_OUT))
        and set(values["left_out"]) <= _LEFT_OUT
        and _is_list(values["missing"], MOST_NAMED_MISSING)
        and all(_HASH.fullmatch(name) for name in values["missing"])
        # No other spelling or encoding, and no key twice.
        and _format_head(_full_head(version, values)) == text
    )
    if not fits:
        _refuse()
    return {**values, "left_out": tuple(values["left_out"]), "missing": tuple(values["missing"])}


def _is_text(value: object, longest: int) -> bool:
    return isinstance(value, str) and len(value) <= longest and value.isprintable()


def _is_moment(text: str) -> bool:
    try:
        return _CREATED.fullmatch(text) is not None and _FIRST_YEAR <= datetime.fromisoformat(text).year <= _LAST_YEAR
    except ValueError:
        return False


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_MEMBER_BYTES


def _is_list(value: object, most: int) -> bool:
    return isinstance(value, list) and len(value) <= most and all(isinstance(each, str) for each in value)


def _read_members(pending: bytes, pieces: Iterator[bytes]) -> Members:
    members: Members | None = None
    for piece in chain([b""], pieces):
        text = pending + piece
        end = text.rfind(_RECORD_END) + len(_RECORD_END) if _RECORD_END in text else 0
        pending, at = text[end:], 0
        if len(pending) > _MOST_RECORD_BYTES:
            _refuse()
        while match := _FILE.match(text, at, end):
            members, at = _add_file(members, match), match.end()
        if at < end:
            _add_recordings(members, text[at:end])
    if pending != _END or members is None:
        _refuse()
    return members


def _add_file(members: Members | None, match: re.Match[bytes]) -> Members:
    member = Member(match[1].decode(), int(match[2]), match[3].decode())
    if member.size > MOST_MEMBER_BYTES:
        _refuse()
    if members is None:
        if member.name != DATABASE:
            _refuse()
        return Members(member)
    if member.name != SETTINGS or members.settings is not None or members.recordings:
        _refuse()
    if member.size > MOST_SETTINGS_BYTES:
        _refuse()
    members.settings = member
    return members


def _add_recordings(members: Members | None, records: bytes) -> None:
    """Add recordings; the records are refused where anything else stands before, between or behind them."""
    found = _RECORDING.findall(records.decode("ascii", "replace"))
    names, digits = [name for name, _ in found], [size for _, size in found]
    taken = len(found) * _RECORDING_BYTES + sum(map(len, digits))
    if members is None or taken != len(records) or len(members) + len(found) > MOST_MEMBERS:
        _refuse()
    sizes = list(map(int, digits))
    if max(sizes) > MOST_RECORDING_BYTES:
        _refuse()
    try:
        members.add_recordings(names, sizes)
    except ValueError:
        _refuse()


def _refuse() -> NoReturn:
    raise BackupError(f"the backup's {quoted(MANIFEST)} has another form than Callisto writes; it is not used")
