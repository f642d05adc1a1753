"""An archive is read as if an enemy had made it: nothing of it is used before all that can be told beforehand is right.

In order: the form of its end; whether a password fits; the seal over every byte; the directory, whose records have one
form and follow each other without a gap; the manifest, of which all that the directory says has to follow. Content
comes last: it is read up to the size that the manifest says, and is used where its SHA-256 is the manifest's.
A member's name is never a path: there are four kinds, and the caller says where each goes.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from callisto_telnetd.db.backup.cipher import CODE_BYTES, HEAD_BYTES, SALT_BYTES, Decryption, keys_of
from callisto_telnetd.db.backup.folder import HEAD_BYTES as ARCHIVE_HEAD_BYTES
from callisto_telnetd.db.backup.folder import begins_as_archive
from callisto_telnetd.db.backup.growth import in_runs, is_nothing, is_thin
from callisto_telnetd.db.backup.manifest import (
    DATABASE,
    MANIFEST,
    MOST_MANIFEST_BYTES,
    MOST_MEMBER_BYTES,
    PACK,
    Manifest,
    Member,
    parse_manifest,
)
from callisto_telnetd.db.backup.pack import checked, drain, recordings
from callisto_telnetd.db.backup.refusal import FILE, naming, reading, refuse, refuse_foreign
from callisto_telnetd.db.backup.seal import COMMENT_BYTES, SEAL_VERSION, is_same, key_of, make_seal, parse_comment
from callisto_telnetd.db.backup.zip_records import (
    AES_OVERHEAD_BYTES,
    END_64_BYTES,
    END_BYTES,
    LOCAL_BYTES,
    Directory,
    Entry,
    RecordError,
    pack_local,
    parse_central,
    parse_end,
)
from callisto_telnetd.errors import BackupError, BackupPasswordError, NewerBackupError
from callisto_telnetd.secret_text import spellings

_TAIL_BYTES = END_64_BYTES + END_BYTES + COMMENT_BYTES
_FEWEST_MEMBERS, _MOST_MEMBERS = 2, 4
_MOST_RECORD_BYTES = 256
_CHUNK_BYTES = 256 << 10
_MOST_RATIO, _RATIO_FREE_BYTES = 1040, 64 << 10
"""Deflate makes 1,032 bytes of one at most."""
_MOST_ADDED_RATIO, _MOST_ADDED_BYTES = 64, 1 << 10
"""What cannot be deflated grows by five bytes for a section of 512 bytes and more. Of blocks with nothing in them there
could else be any number."""

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Content = tuple[Member, Iterator[bytes]]


Told = Callable[[int, int], None]
"""Told how many bytes are done, and how many there are."""


def _ignore(_done: int, _of: int) -> None:
    """Take no notice."""


@dataclass(slots=True)
class _Read:
    """How much of a member's stored bytes was inflated."""

    bytes: int = 0


class Archive:
    """An archive whose seal, directory and manifest are right; made by :func:`open_archive`."""

    def __init__(self, descriptor: int, size_bytes: int, directory: Directory, password: str | None) -> None:
        self.size_bytes = size_bytes
        self.protected = password is not None
        """Whether a password protects it; without one the seal tells accidents alone."""
        self._descriptor = descriptor
        self._directory = directory
        self._password = password
        entries = self._entries()
        self.manifest = self._read_manifest(entries[0])
        if not self.protected and (self.manifest.secrets or self.manifest.members.settings is not None):
            # Anybody can make such a one, and it would bring his accounts and commands along.
            refuse("no password protects it, and yet it holds accounts or settings")
        self._entry = self._fitting(entries)

    def contents(self, told: Told = _ignore) -> Iterator[Content]:
        """Yield each member of the manifest, in its order, with its content piece by piece.

        What was yielded of a member is its content only once the last piece was taken. What the caller leaves of it
        is read before the next one comes, so that whoever comes to the end has found the whole archive right.

        Raises:
            BackupError: a content is not what the manifest says.
        """
        members, done, of = self.manifest.members, 0, sum(self.manifest.members.zipped.values())

        def content(name: str) -> Iterator[bytes]:
            nonlocal done
            for piece in self._content(self._entry[name]):
                done += len(piece)
                told(done, of)
                yield piece

        for member in filter(None, (members.database, members.settings)):
            pieces = checked(member, content(member.name))
            yield member, pieces
            drain(pieces)
        if members.recordings:
            yield from recordings(self.manifest, content(PACK))

    def verify_members(self, told: Told) -> None:
        """Read every member to its end.

        Raises:
            BackupError: one is not what the manifest says.
        """
        for _ in self.contents(told):
            pass

    def _entries(self) -> list[Entry]:
        """Return the records of the directory, all of which have our form."""
        directory = self._directory
        if not _FEWEST_MEMBERS <= directory.members <= _MOST_MEMBERS:
            refuse(f"it has {directory.members} members; allowed are {_FEWEST_MEMBERS} to {_MOST_MEMBERS}")
        if directory.size > directory.members * _MOST_RECORD_BYTES:
            refuse("its directory is longer than its members")
        held, entries = self._read(directory.offset, directory.size), []
        try:
            for _ in range(directory.members):
                entry, length = parse_central(held)
                entries.append(entry)
                held = held[length:]
        except RecordError as error:
            refuse(str(error))
        if held:
            refuse("its directory is longer than its members")
        return entries

    def _read_manifest(self, entry: Entry) -> Manifest:
        if entry.offset != 0 or entry.size > MOST_MANIFEST_BYTES:
            refuse("it does not begin with a manifest")
        self._require_fit(entry, MANIFEST, entry.size, entry.stamp)
        return parse_manifest(self._content(entry))

    def _fitting(self, entries: list[Entry]) -> dict[str, Entry]:
        """Return the places of the members behind the manifest; what does not follow from it is refused."""
        sizes = self.manifest.members.zipped
        manifest, *others = entries
        if len(others) != len(sizes):
            refuse("its manifest does not list the members that it has")
        end = manifest.end
        for entry, (name, size) in zip(others, sizes.items(), strict=True):
            if entry.offset != end:
                refuse("its directory does not fit its members")
            self._require_fit(entry, name, size, manifest.stamp)
            end = entry.end
        if end != self._directory.offset:
            refuse("its directory does not fit its members")
        return dict(zip(sizes, others, strict=True))

    def _require_fit(self, entry: Entry, name: str, size: int, stamp: int) -> None:
        """Refuse a member that has not the one form which it may have, or lies anywhere but before the directory."""
        raw = self._raw(entry)
        fits = (
            (entry.name, entry.size, entry.encrypted, entry.stamp) == (name, size, self.protected, stamp)
            and raw >= 0
            and size <= raw * _MOST_RATIO + _RATIO_FREE_BYTES
            and raw <= size + size // _MOST_ADDED_RATIO + _MOST_ADDED_BYTES
            and not (self.protected and entry.crc)
        )
        if not fits or entry.end > self._directory.offset:
            refuse(f"{name} has another form, or another member is in its place")
        header = pack_local(entry)
        if self._read(entry.offset, len(header)) != header:
            refuse(f"the header of {name} does not say what the directory says")

    def _content(self, entry: Entry) -> Iterator[bytes]:
        """Yield the content of a member, of the size that its record says, with its codes right.

        What grows as no content of its kind does is refused once that is seen (``growth.py``), but where the archive is
        of before that bound: its members are as large as the manifest says, and the caller looks for so much room.
        """
        read = _Read()
        pieces = self._inflated(entry, read)
        if not is_thin(entry.size, self._raw(entry)):
            yield from pieces
            return
        made, is_bounded = 0, entry.name == MANIFEST or self.manifest.is_bounded
        for piece in in_runs(pieces) if entry.name == DATABASE else pieces:
            made += 0 if entry.name == DATABASE and is_nothing(piece) else len(piece)
            if is_bounded and is_thin(made, read.bytes):
                refuse(f"{entry.name} grows to more than its kind does")
            yield piece

    def _inflated(self, entry: Entry, read: _Read) -> Iterator[bytes]:
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
        left, crc = entry.size, 0
        for packed in self._decrypted(entry):
            if unpacker.eof:  # it would gather in memory what stands behind the end
                refuse(f"{entry.name} goes on behind its end")
            pending, before = packed, read.bytes
            while True:
                try:
                    piece = unpacker.decompress(pending, _CHUNK_BYTES)
                except zlib.error:
                    refuse(f"{entry.name} cannot be unpacked")
                left -= len(piece)
                if left < 0:
                    refuse(f"{entry.name} is larger than the manifest says")
                crc = zlib.crc32(piece, crc)
                pending = unpacker.unconsumed_tail
                read.bytes = before + len(packed) - len(pending)
                if piece:
                    yield piece
                if not pending and len(piece) < _CHUNK_BYTES:
                    break
        ended = unpacker.eof and not unpacker.unused_data
        if left or not ended or (not entry.encrypted and crc != entry.crc):
            refuse(f"{entry.name} is not whole")

    def _raw(self, entry: Entry) -> int:
        """Return how many bytes of a member's deflated content are stored."""
        return entry.packed - (AES_OVERHEAD_BYTES if self.protected else 0)

    def _decrypted(self, entry: Entry) -> Iterator[bytes]:
        at, end = entry.content_at, entry.end
        decryption: Decryption | None = None
        if self._password is not None:
            keys = keys_of(self._password, self._read(at, SALT_BYTES))
            if keys.verifier != self._read(at + SALT_BYTES, HEAD_BYTES - SALT_BYTES):
                refuse(f"{entry.name} has another password than the rest")
            decryption = Decryption(keys)
            at, end = at + HEAD_BYTES, end - CODE_BYTES
        while at < end:
            data = self._read(at, min(_CHUNK_BYTES, end - at))
            at += len(data)
            yield decryption.decrypt(data) if decryption else data
        if decryption and not decryption.is_whole(self._read(end, CODE_BYTES)):
            refuse(f"{entry.name} is not whole")

    def _read(self, at: int, count: int) -> bytes:
        with reading():
            data = os.pread(self._descriptor, count, at)
        if len(data) != count:
            refuse("it has become shorter while it was read")
        return data


@contextmanager
def open_archive(
    path: Path,
    password: str | None,
    *,
    key: bytes | None = None,
    told: Told = _ignore,
) -> Iterator[Archive]:
    """Open an archive, with everything right that can be told without reading the members.

    Args:
        path: The file.
        password: Its password, None where it has none.
        key: The seal's key, where that is known already.
        told: Told how far the seal was held against the file.

    Raises:
        BackupPasswordError: the password is wrong, missing, or there where none is needed.
        NewerBackupError: a newer version has made it.
        BackupError: it is no backup, was changed, or is cut off.
    """
    with naming(path):
        with reading():
            descriptor = os.open(path, _FLAGS)
        try:
            with reading():
                archive = _opened(descriptor, password, key, told)
            yield archive
        finally:
            os.close(descriptor)


def is_protected(path: Path) -> bool:
    """Say whether a password protects an archive, by its first bytes alone.

    Raises:
        BackupError: it is none, or cannot be read.
    """
    with naming(path), reading():
        descriptor = os.open(path, _FLAGS)
        try:
            return _begins_protected(descriptor)
        finally:
            os.close(descriptor)


def _opened(descriptor: int, password: str | None, key: bytes | None, told: Told) -> Archive:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_MEMBER_BYTES:
        refuse_foreign()
    size = found.st_size
    tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    comment = parse_comment(tail)
    if comment is None or comment.version < 1:
        refuse_foreign()
    if comment.version > SEAL_VERSION:
        raise NewerBackupError(
            f"{FILE}: its form is {comment.version}, this version knows {SEAL_VERSION}: use a newer callisto-telnetd"
        )
    password = _fitting(descriptor, password)
    key = key_of(password, comment.salt) if key is None else key
    if not is_same(make_seal(descriptor, size, key, told), comment.seal):
        doubt = ", or the password is wrong" if password is not None else ""
        raise BackupError(f"{FILE}: its seal is broken: it was changed, or is damaged{doubt}; nothing was changed")
    try:
        directory = parse_end(tail, size, COMMENT_BYTES)
    except RecordError as error:
        refuse(str(error))
    return Archive(descriptor, size, directory, password)


def _fitting(descriptor: int, password: str | None) -> str | None:
    """Return the spelling of the password that fits; None where none protects the archive.

    Raises:
        BackupPasswordError: it is wrong, missing, or there where none is needed.
    """
    protected = _begins_protected(descriptor)
    if not protected:
        if password is not None:
            raise BackupPasswordError(f"{FILE}: no password protects it, but one was given; nothing was changed")
        return None
    if password is None:
        raise BackupPasswordError(f"{FILE}: a password protects it; give it; nothing was changed")
    head = os.pread(descriptor, LOCAL_BYTES, 0)
    at = LOCAL_BYTES + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    salt = os.pread(descriptor, SALT_BYTES, at)
    verifier = os.pread(descriptor, HEAD_BYTES - SALT_BYTES, at + SALT_BYTES)
    for spelling in spellings(password):
        if keys_of(spelling, salt).verifier == verifier:
            return spelling
    raise BackupPasswordError(f"{FILE}: the password is wrong; nothing was changed")


def _begins_protected(descriptor: int) -> bool:
    """Say whether the first member is encrypted; it has to be the manifest."""
    head = os.pread(descriptor, ARCHIVE_HEAD_BYTES, 0)
    if not begins_as_archive(head):
        refuse_foreign()
    return bool(head[6] & 1)
