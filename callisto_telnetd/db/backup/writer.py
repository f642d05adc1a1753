"""An archive is made: copied, written under a temporary name, sealed, verified, and only then given its own name.

The manifest comes first in the file and names the recordings by their content, which is read once, when it is packed:
until then a recording is taken for what its name says. Where one is something else, all of them are looked at, and the
archive is written again without those; and once more, where one changes or goes away meanwhile.

The temporary names stand in :mod:`.folder`. They go when the work ends, whatever its end; what a kill leaves goes at
the next start of the appliance, and before the next archive is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from callisto_telnetd.db.backup.ahead import THREADS, batches, in_order
from callisto_telnetd.db.backup.content import (
    OtherContentError,
    hash_of,
    pieces_of,
    recordings_of,
    size_if_whole,
    size_of,
    take_database,
    told_as,
)
from callisto_telnetd.db.backup.deflation import Section, deflate
from callisto_telnetd.db.backup.folder import (
    MAKING,
    MAKING_DATABASE,
    free_name,
    host_of_name,
    remove_unfinished,
)
from callisto_telnetd.db.backup.manifest import (
    DATABASE,
    MANIFEST,
    MOST_MEMBERS,
    MOST_NAMED_MISSING,
    MOST_SETTINGS_BYTES,
    PACK,
    SETTINGS,
    Manifest,
    Member,
    Members,
    format_manifest,
)
from callisto_telnetd.db.backup.pack import pack
from callisto_telnetd.db.backup.reader import open_archive
from callisto_telnetd.db.backup.seal import COMMENT_BYTES, comment_before_seal, key_of, make_seal, new_salt
from callisto_telnetd.db.backup.tar_records import BLOCK_BYTES
from callisto_telnetd.db.backup.zip_writer import ZipWriter
from callisto_telnetd.db.doubtful import Doubtful
from callisto_telnetd.db.durable import sync
from callisto_telnetd.db.media import Media
from callisto_telnetd.errors import BackupError, DiskFullError, named
from callisto_telnetd.quantities import format_bytes

Tell = Callable[[str, int, int], None]

COPYING, READING, WRITING, VERIFYING = (
    "Copying the database",
    "Reading recordings",
    "Writing the backup",
    "Verifying the backup",
)
_RESERVE_BYTES = 16 << 20
_MOST_ADDED_BYTES = 3 * BLOCK_BYTES
"""To a recording: its header, what fills its last block, its line in the manifest."""
_CHUNK_BYTES = 1 << 20
_LOOKS = (size_of, size_if_whole, size_if_whole)
"""How recordings are looked at before the archive is written: the first time closely enough, nearly always."""


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
    doubtful: Doubtful
    """Rows in it that a restore sets apart."""


def create(order: Order, tell: Tell) -> Created:
    """Make an archive; waits for the disk.

    Raises:
        DiskFullError: there is no room; says how much is needed.
        DamagedDatabaseError: the database is not sound.
        FolderError: the folder of recordings cannot be read.
        BackupError: it cannot be made. In every case nothing has changed.
    """
    with told_as("the backup cannot be made"):
        remove_unfinished(order.folder)
        _require_room(order)
        try:
            return _Creation(order, tell).run()
        finally:
            with suppress(OSError):  # what stays goes at the next start
                remove_unfinished(order.folder)


def prove(order: Order) -> Doubtful:
    """Do all of an archive's making that may be refused, leave nothing, and return the rows that a restore sets apart.

    Raises:
        DiskFullError, DamagedDatabaseError, BackupError: as :func:`create`.
    """
    with told_as("the backup cannot be made"):
        remove_unfinished(order.folder)
        _require_room(order)
        try:
            verdict = take_database(order.live, order.folder / MAKING_DATABASE, secrets=order.password is not None)
        finally:
            with suppress(OSError):  # what stays goes at the next start
                remove_unfinished(order.folder)
    return verdict.doubtful


def _require_room(order: Order) -> None:
    """Refuse where the database's copy and the archive, neither of which is known yet, may find no room."""
    if not order.media.is_dir():
        raise BackupError(f"{named(order.media)} is no folder: is its disk mounted?; nothing was changed")
    media = Media(order.media).size()
    need = 2 * order.live.stat().st_size + media.size_bytes + media.files * _MOST_ADDED_BYTES + _RESERVE_BYTES
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

    def run(self) -> Created:
        """Make it."""
        order, tell = self._order, self._tell
        tell(COPYING, 0, 0)
        verdict = take_database(order.live, self._copy, secrets=order.password is not None)
        manifest = self._write_what_is_whole(verdict.schema)
        self._put_seal()
        tell(VERIFYING, 0, 0)
        self._verify(manifest)
        created = Created(
            free_name(order.folder, host_of_name(order.host), order.at),
            self._making.stat().st_size,
            manifest,
            verdict.rows,
            verdict.doubtful,
        )
        self._making.rename(created.path)
        try:
            sync(order.folder)
        except OSError:
            created.path.unlink()
            raise
        return created

    def _write_what_is_whole(self, schema: int) -> Manifest:
        """Write the archive and return its manifest; what goes away or changes meanwhile is looked for once more."""
        with ThreadPoolExecutor(THREADS) as pool:
            for look in _LOOKS:
                manifest = self._survey(schema, pool, look)
                try:
                    self._write(manifest, pool)
                except OtherContentError as error:
                    changed = str(error)
                    self._making.unlink()
                else:
                    return manifest
        raise BackupError(f"{changed} has changed while it was read; nothing was changed; try again")

    def _survey(self, schema: int, pool: ThreadPoolExecutor, look: Callable[[Path], int | None]) -> Manifest:
        """Return the manifest: what there is, how large, with which hashes.

        Args:
            schema: The version of the database's schema.
            pool: Looks at some recordings at a time.
            look: Returns a recording's size, None where it is not to be in the archive.
        """
        order = self._order
        members, left_out = self._files()
        missing: list[str] = []
        missed = done = 0

        def look_at(names: list[str]) -> list[int | None]:
            return [look(order.media / name) for name in names]

        self._tell(READING, 0, 0)
        for names, sizes in in_order(pool, batches(recordings_of(self._copy), lambda _: 0), look_at):
            for name, size in zip(names, sizes, strict=True):
                if size is not None:
                    members.add_recording(name, size)
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
        members = Members(Member(DATABASE, *hash_of(self._copy)))
        if settings is None:
            return members, ()
        if self._order.password is None:
            return members, (SETTINGS,)
        members.settings = Member(SETTINGS, *hash_of(settings))
        if members.settings.size > MOST_SETTINGS_BYTES:
            raise BackupError(
                f"{named(settings)} has more than {format_bytes(MOST_SETTINGS_BYTES)}; nothing was changed"
            )
        return members, ()

    def _write(self, manifest: Manifest, pool: ThreadPoolExecutor) -> None:
        order, sizes = self._order, manifest.members.zipped
        done, of = 0, sum(sizes.values())

        def told(count: int) -> None:
            nonlocal done
            done += count
            self._tell(WRITING, done, of)

        told(0)
        with open(self._making, "xb", buffering=_CHUNK_BYTES, opener=_open_new) as stream:
            archive = ZipWriter(stream, order.password, order.at)
            archive.add(MANIFEST, 0, map(deflate, format_manifest(manifest)))
            for name, pieces in self._contents(manifest):
                archive.add(name, sizes[name], _deflated(pieces, pool, told, wiped=name == DATABASE))
            archive.finish(comment_before_seal(self._salt).ljust(COMMENT_BYTES, b"0"))

    def _contents(self, manifest: Manifest) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Yield each member behind the manifest with its content.

        Raises:
            OtherContentError: one is not what the manifest says.
        """
        order, members = self._order, manifest.members
        yield DATABASE, _pieces(self._copy, members.database)
        if members.settings is not None and order.settings is not None:
            yield SETTINGS, _pieces(order.settings, members.settings)
        if members.recordings:
            recordings = ((each, _pieces(order.media / each.sha256, each)) for each in members.each_recording())
            yield PACK, pack(manifest, recordings)

    def _put_seal(self) -> None:
        descriptor = os.open(self._making, os.O_RDWR | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            seal = make_seal(descriptor, size, self._key, lambda *_: None).encode()
            os.pwrite(descriptor, seal, size - len(seal))
        finally:
            os.close(descriptor)

    def _verify(self, manifest: Manifest) -> None:
        """Read the archive as anybody's, while it is on its way from memory to the disk; return once it is there."""
        with ThreadPoolExecutor(1) as disk:
            synced = disk.submit(sync, self._making)
            with open_archive(self._making, self._order.password, key=self._key) as archive:
                if archive.manifest != manifest:
                    raise BackupError("the backup that was made does not say what was meant; it was removed")
                archive.verify_members(partial(self._tell, VERIFYING))
            synced.result()


def _pieces(path: Path, member: Member) -> Iterator[bytes]:
    return pieces_of(path, member.size, member.sha256)


def _deflated(
    pieces: Iterable[bytes], pool: ThreadPoolExecutor, told: Callable[[int], None], *, wiped: bool
) -> Iterator[Section]:
    """Yield the sections of a content, deflated some pieces ahead; told of each batch's bytes."""

    def deflate_all(batch: list[bytes]) -> list[Section]:
        return [deflate(piece, wiped=wiped) for piece in batch]

    for batch, sections in in_order(pool, batches(pieces, len), deflate_all):
        yield from sections
        told(sum(map(len, batch)))


def _open_new(name: str, _flags: int) -> int:
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
