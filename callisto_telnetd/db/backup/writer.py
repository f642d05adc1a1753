"""An archive is made: copied, written under a temporary name, sealed, verified, and only then given its own name.

The temporary names stand in :mod:`.folder`. They go when the work ends, whatever its end; what a kill leaves goes at
the next start of the appliance, and before the next archive is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from callisto_telnetd.db.backup.ahead import THREADS, batches, in_order
from callisto_telnetd.db.backup.cipher import KeyRing
from callisto_telnetd.db.backup.content import (
    hash_of,
    open_recording,
    recordings_of,
    size_if_whole,
    take_database,
    told_as,
)
from callisto_telnetd.db.backup.folder import (
    MAKING,
    MAKING_DATABASE,
    free_name,
    host_of_name,
    remove_unfinished,
    sync,
)
from callisto_telnetd.db.backup.manifest import (
    DATABASE,
    MANIFEST,
    MOST_MEMBERS,
    MOST_NAMED_MISSING,
    SETTINGS,
    Manifest,
    Member,
    Members,
    format_manifest,
)
from callisto_telnetd.db.backup.reader import open_archive
from callisto_telnetd.db.backup.seal import COMMENT_BYTES, comment_before_seal, key_of, make_seal, new_salt
from callisto_telnetd.db.backup.zip_writer import ZipWriter, pack_recording
from callisto_telnetd.db.media import Media
from callisto_telnetd.errors import BackupError, DiskFullError
from callisto_telnetd.quantities import format_bytes

Tell = Callable[[str, int, int], None]

COPYING, READING, WRITING, VERIFYING = (
    "Copying the database",
    "Reading recordings",
    "Writing the backup",
    "Verifying the backup",
)
_RESERVE_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
_AT_ONCE_BYTES = 2 << 20
"""A recording that is larger is not held in memory as a whole."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made."""

    live: Path
    """The database, which may be in use; nobody may put another in its place meanwhile."""
    media: Path
    folder: Path
    """Where the archive is to be; nobody else makes one there meanwhile."""
    settings: Path | None
    """The owner's settings, where there are any."""
    password: str | None
    product_version: str
    edition: str
    host: str
    serial: str
    note: str
    at: datetime
    """The appliance's time, with its zone."""


@dataclass(frozen=True, slots=True)
class Created:
    """An archive that is whole, verified, and on the disk."""

    path: Path
    size_bytes: int
    manifest: Manifest
    rows: int


def create(order: Order, tell: Tell) -> Created:
    """Make an archive; waits for the disk.

    Raises:
        DiskFullError: there is no room; says how much is needed.
        DamagedDatabaseError: the database is not sound.
        BackupError: it cannot be made. In every case nothing has changed.
    """
    with told_as("the backup cannot be made"):
        remove_unfinished(order.folder)
        _require_room(order)
        try:
            return _Creation(order, tell).run()
        finally:
            remove_unfinished(order.folder)


def _require_room(order: Order) -> None:
    """Refuse where the database's copy and the archive, neither of which is known yet, may find no room."""
    need = 2 * order.live.stat().st_size + Media(order.media).size().size_bytes + _RESERVE_BYTES
    disk = os.statvfs(order.folder)
    free = disk.f_bavail * disk.f_frsize
    if free < need:
        raise DiskFullError(
            f"the disk has no room for a backup: {format_bytes(free)} free, about {format_bytes(need)} needed;"
            " nothing was changed"
        )


class _Creation:
    """One archive in the making."""

    def __init__(self, order: Order, tell: Tell) -> None:
        self._order = order
        self._tell = tell
        self._copy = order.folder / MAKING_DATABASE
        self._making = order.folder / MAKING
        self._salt = new_salt()
        # First of all, while the memory that it takes is all that is taken.
        self._key = key_of(order.password, self._salt)
        self._ring = KeyRing(order.password) if order.password is not None else None

    def run(self) -> Created:
        """Make it."""
        order, tell = self._order, self._tell
        tell(COPYING, 0, 0)
        verdict = take_database(order.live, self._copy, secrets=self._ring is not None)
        with ThreadPoolExecutor(THREADS) as pool:
            manifest = self._survey(verdict.schema, pool)
            self._write(manifest, pool)
        self._put_seal()
        tell(VERIFYING, 0, 0)
        with ThreadPoolExecutor(1) as disk:  # it is read again from memory while it is on its way to the disk
            synced = disk.submit(sync, self._making)
            with open_archive(self._making, order.password, ring=self._ring, key=self._key) as archive:
                if archive.manifest != manifest:
                    raise BackupError("the backup that was made does not say what was meant; it was removed")
                archive.verify_members(lambda done, of: tell(VERIFYING, done, of))
            synced.result()
        path = free_name(order.folder, host_of_name(order.host), order.at)
        self._making.rename(path)
        sync(order.folder)
        return Created(path, path.stat().st_size, manifest, verdict.rows)

    def _survey(self, schema: int, pool: ThreadPoolExecutor) -> Manifest:
        """Return the manifest: what there is, how large, with which hashes."""
        order = self._order
        members, left_out = self._files()
        missing: list[str] = []
        missed = done = 0
        self._tell(READING, 0, 0)
        for names, sizes in in_order(pool, batches(recordings_of(self._copy), lambda _: 0), self._sizes):
            for name, size in zip(names, sizes, strict=True):
                if size is not None:
                    members.add_recording(bytes.fromhex(name), size)
                elif (missed := missed + 1) <= MOST_NAMED_MISSING:
                    missing.append(name)
            done += len(names)
            self._tell(READING, done, 0)
        if len(members) > MOST_MEMBERS:
            raise BackupError(f"a backup holds at most {MOST_MEMBERS} files; here are {len(members)}")
        return Manifest(
            product_version=order.product_version,
            schema=schema,
            edition=order.edition,
            host=order.host,
            serial=order.serial,
            created=order.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            note=order.note,
            secrets=order.password is not None,
            left_out=left_out,
            missing=tuple(missing),
            missing_count=missed,
            members=members,
        )

    def _files(self) -> tuple[Members, tuple[str, ...]]:
        """Return the members without recordings, and the names of those that are left out."""
        settings = self._order.settings
        members = Members(_member(DATABASE, self._copy))
        if settings is None:
            return members, ()
        if self._ring is None:
            return members, (SETTINGS,)
        members.settings = _member(SETTINGS, settings)
        return members, ()

    def _sizes(self, names: list[str]) -> list[int | None]:
        return [size_if_whole(self._order.media / name) for name in names]

    def _write(self, manifest: Manifest, pool: ThreadPoolExecutor) -> None:
        order, members = self._order, manifest.members
        with open(self._making, "xb", buffering=_CHUNK_BYTES, opener=_open_new) as stream:
            archive = ZipWriter(stream, self._ring, order.at)
            told = partial(self._told, archive, members.size_bytes)
            archive.add(MANIFEST, 0, format_manifest(manifest), deflate=True)
            archive.add(DATABASE, members.database.size, _pieces(self._copy, members.database, told), deflate=True)
            if members.settings is not None and order.settings is not None:
                content = _pieces(order.settings, members.settings, told)
                archive.add(SETTINGS, members.settings.size, content, deflate=True)
            recordings = map(members.recording, range(members.recordings))
            for batch, packed in in_order(pool, batches(recordings, lambda member: member.size), self._pack):
                for member, recording in zip(batch, packed, strict=True):
                    if recording is not None:
                        archive.add_stored(member.name, member.size, *recording)
                    else:
                        content = _pieces(order.media / member.sha256, member, told)
                        archive.add(member.name, member.size, content, deflate=False)
                told()
            archive.finish(comment_before_seal(self._salt).ljust(COMMENT_BYTES, b"0"))

    def _told(self, archive: ZipWriter, of: int) -> None:
        self._tell(WRITING, min(archive.written, of), of)

    def _pack(self, batch: list[Member]) -> list[tuple[int, bytes] | None]:
        """Return what is stored of each; None for one that is too large for that."""
        media, ring = self._order.media, self._ring
        return [
            pack_recording(_content(media / each.sha256, each.size), ring) if each.size <= _AT_ONCE_BYTES else None
            for each in batch
        ]

    def _put_seal(self) -> None:
        descriptor = os.open(self._making, os.O_RDWR | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            seal = make_seal(descriptor, size, self._key, lambda _done: None).encode()
            os.pwrite(descriptor, seal, size - len(seal))
        finally:
            os.close(descriptor)


def _member(name: str, path: Path) -> Member:
    descriptor = open_recording(path)
    try:
        return Member(name, *hash_of(descriptor))
    finally:
        os.close(descriptor)


def _pieces(path: Path, member: Member, told: Callable[[], None]) -> Iterator[bytes]:
    """Yield a file's content.

    Raises:
        BackupError: it has not the size that it had before.
    """
    left = member.size
    with os.fdopen(open_recording(path), "rb", buffering=0) as stream:
        while (data := stream.read(_CHUNK_BYTES)) and left >= 0:
            left -= len(data)
            yield data
            told()
    if left:
        raise BackupError(f"{path.name} has changed while it was read; nothing was changed; try again")


def _content(path: Path, size: int) -> bytes:
    descriptor = open_recording(path)
    try:
        content = os.read(descriptor, size + 1)
    finally:
        os.close(descriptor)
    if len(content) != size:
        raise BackupError(f"{path.name} has changed while it was read; nothing was changed; try again")
    return content


def _open_new(name: str, _flags: int) -> int:
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
