"""An archive is read as if an enemy had made it: nothing of it is used before all that can be told beforehand is right.

In order: the form of its end; whether a password fits; the seal over every byte; the directory, whose records have one
form and follow each other without a gap; the manifest, which has to list the very same members. Content comes last: it
is read up to the size that the manifest says, and is used where its SHA-256 is the manifest's.
A member's name is never a path: there are four kinds, and the caller says where each goes.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NoReturn

from callisto_telnetd.db.backup.ahead import THREADS, batches, in_order
from callisto_telnetd.db.backup.cipher import CODE_BYTES, HEAD_BYTES, SALT_BYTES, Decryption, KeyRing
from callisto_telnetd.db.backup.manifest import (
    MANIFEST,
    MOST_MANIFEST_BYTES,
    MOST_MEMBER_BYTES,
    MOST_MEMBERS,
    RECORDINGS,
    Manifest,
    Member,
    parse_manifest,
)
from callisto_telnetd.db.backup.seal import COMMENT_BYTES, SEAL_VERSION, is_same, key_of, make_seal, parse_comment
from callisto_telnetd.db.backup.zip_records import (
    AES_OVERHEAD_BYTES,
    DEFLATED,
    END_64_BYTES,
    END_BYTES,
    LOCAL_BYTES,
    STORED,
    Directory,
    Entry,
    RecordError,
    pack_local,
    parse_central,
    parse_end,
)
from callisto_telnetd.errors import BackupError, BackupPasswordError, NewerBackupError, named

_TAIL_BYTES = COMMENT_BYTES + END_BYTES + END_64_BYTES + 16
_DIRECTORY_CHUNK_BYTES = 64 << 10
_MOST_RECORD_BYTES = 256
_CHUNK_BYTES = 256 << 10
_MOST_RATIO, _RATIO_FREE_BYTES = 1040, 64 << 10
"""Deflate makes 1,032 bytes of one at most."""

Found = tuple[Member, Entry]


def _ignore(_done: int) -> None:
    """Take no notice."""


class Archive:
    """An archive whose seal, directory and manifest are right; made by :func:`open_archive`."""

    def __init__(self, descriptor: int, size_bytes: int, directory: Directory, ring: KeyRing | None) -> None:
        self.size_bytes = size_bytes
        self.protected = ring is not None
        """Whether a password protects it; without one the seal tells accidents alone."""
        self._descriptor = descriptor
        self._directory = directory
        self._ring = ring
        self.manifest = self._read_manifest()
        if not self.protected and (self.manifest.secrets or self.manifest.members.settings is not None):
            # Anybody can make such a one, and it would bring his accounts and commands along.
            _refuse("no password protects it, and yet it holds accounts or settings")
        for _ in self.members():
            pass

    def members(self) -> Iterator[Found]:
        """Yield each member of the manifest with its place; what does not fit together is refused.

        Raises:
            BackupError: directory, manifest and headers do not say the same.
        """
        entries = self._entries()
        before = next(entries)
        for member in self.manifest.members:
            entry = next(entries, None)
            if entry is None or entry.offset != before.end:
                _refuse("its directory does not fit its members")
            self._require_fit(entry, member.name, member.size, before.stamp)
            yield member, entry
            before = entry
        if next(entries, None) is not None or before.end != self._directory.offset:
            _refuse("its directory does not fit its members")

    def pieces(self, found: Found) -> Iterator[bytes]:
        """Yield the content of a member; what was yielded is the member's only once the last piece was taken.

        Raises:
            BackupError: it is not what the manifest says.
        """
        member, entry = found
        digest = hashlib.sha256()
        for piece in self._content(entry):
            digest.update(piece)
            yield piece
        if digest.hexdigest() != member.sha256:
            _refuse(f"{member.name} is not what the manifest says")

    def copy(self, found: Found, stream: BinaryIO) -> None:
        """Write the content of a member into a stream.

        Raises:
            BackupError: it is not what the manifest says.
            OSError: it cannot be written.
        """
        stream.writelines(self.pieces(found))

    def verify_members(self, told: Callable[[int, int], None]) -> None:
        """Read every member to its end; told of the bytes done, and how many there are.

        Raises:
            BackupError: one is not what the manifest says.
        """
        of = self._directory.offset
        work = batches(self.members(), lambda found: found[1].packed)
        with ThreadPoolExecutor(THREADS) as pool:
            for batch, _ in in_order(pool, work, self._read_all):
                told(batch[-1][1].end, of)

    def _read_all(self, batch: list[Found]) -> None:
        for found in batch:
            for _ in self.pieces(found):
                pass

    def _read_manifest(self) -> Manifest:
        directory = self._directory
        if not 2 <= directory.members <= MOST_MEMBERS + 1 or directory.size > directory.members * _MOST_RECORD_BYTES:
            _refuse(f"it has {directory.members} members; allowed are 2 to {MOST_MEMBERS + 1}")
        first = next(self._entries())
        if first.offset != 0 or first.size > MOST_MANIFEST_BYTES:
            _refuse("it does not begin with a manifest")
        self._require_fit(first, MANIFEST, first.size, first.stamp)
        manifest = parse_manifest(self._content(first))
        if len(manifest.members) + 1 != directory.members:
            _refuse("its manifest does not list the members that it has")
        return manifest

    def _entries(self) -> Iterator[Entry]:
        """Yield the records of the directory, all of which have our form."""
        at, end = self._directory.offset, self._directory.offset + self._directory.size
        held = b""
        for _ in range(self._directory.members):
            if len(held) < _MOST_RECORD_BYTES and at < end:
                more = os.pread(self._descriptor, min(_DIRECTORY_CHUNK_BYTES, end - at), at)
                at += len(more)
                held += more
            try:
                entry, length = parse_central(held[:_MOST_RECORD_BYTES])
            except RecordError as error:
                _refuse(str(error))
            held = held[length:]
            yield entry
        if held or at < end:
            _refuse("its directory is longer than its members")

    def _require_fit(self, entry: Entry, name: str, size: int, stamp: int) -> None:
        """Refuse a member that has not the one form which it may have, or lies anywhere but before the directory."""
        method = STORED if name.startswith(RECORDINGS) else DEFLATED
        overhead = AES_OVERHEAD_BYTES if self.protected else 0
        raw = entry.packed - overhead
        fits = (
            (entry.name, entry.size, entry.method, entry.encrypted, entry.stamp)
            == (name, size, method, self.protected, stamp)
            and raw >= 0
            and (raw == size if method == STORED else size <= raw * _MOST_RATIO + _RATIO_FREE_BYTES)
            and not (self.protected and entry.crc)
        )
        if not fits or entry.end > self._directory.offset:
            _refuse(f"{name} has another form, or another member is in its place")
        header = pack_local(entry)
        if os.pread(self._descriptor, len(header), entry.offset) != header:
            _refuse(f"the header of {name} does not say what the directory says")

    def _content(self, entry: Entry) -> Iterator[bytes]:
        """Yield the content of a member, of the size that its record says, with its codes right."""
        unpacker = zlib.decompressobj(-zlib.MAX_WBITS) if entry.method == DEFLATED else None
        left, crc = entry.size, 0
        for packed in self._decrypted(entry):
            pending = packed
            while True:
                try:
                    piece = unpacker.decompress(pending, _CHUNK_BYTES) if unpacker else pending
                except zlib.error:
                    _refuse(f"{entry.name} cannot be unpacked")
                left -= len(piece)
                if left < 0:
                    _refuse(f"{entry.name} is larger than the manifest says")
                crc = zlib.crc32(piece, crc)
                if piece:
                    yield piece
                pending = unpacker.unconsumed_tail if unpacker else b""
                if unpacker is None or (not pending and len(piece) < _CHUNK_BYTES):
                    break
        ended = unpacker is None or (unpacker.eof and not unpacker.unused_data)
        if left or not ended or (not entry.encrypted and crc != entry.crc):
            _refuse(f"{entry.name} is not whole")

    def _decrypted(self, entry: Entry) -> Iterator[bytes]:
        at, end = entry.content_at, entry.end
        decryption: Decryption | None = None
        if self._ring is not None:
            keys = self._ring.to_read(self._read(at, SALT_BYTES))
            if keys.verifier not in {b"", self._read(at + SALT_BYTES, HEAD_BYTES - SALT_BYTES)}:
                _refuse(f"{entry.name} has another password than the rest")
            decryption = Decryption(keys)
            at, end = at + HEAD_BYTES, end - CODE_BYTES
        while at < end:
            data = self._read(at, min(_CHUNK_BYTES, end - at))
            at += len(data)
            yield decryption.decrypt(data) if decryption else data
        if decryption and not decryption.is_whole(self._read(end, CODE_BYTES)):
            _refuse(f"{entry.name} is not whole")

    def _read(self, at: int, count: int) -> bytes:
        data = os.pread(self._descriptor, count, at)
        if len(data) != count:
            _refuse("it has become shorter while it was read")
        return data


@contextmanager
def open_archive(
    path: Path,
    password: str | None,
    *,
    ring: KeyRing | None = None,
    key: bytes | None = None,
    tell: Callable[[int], None] = _ignore,
) -> Iterator[Archive]:
    """Open an archive, with everything right that can be told without reading the members.

    Args:
        path: The file.
        password: Its password, None where it has none.
        ring: Keys of its members that are known already.
        key: The seal's key, where that is known already.
        tell: Told how many bytes the seal was held against.

    Raises:
        BackupPasswordError: the password is wrong, missing, or there where none is needed.
        NewerBackupError: a newer version has made it.
        BackupError: it is no backup, was changed, or is cut off.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BackupError(f"{named(path)} cannot be read: {error.strerror}") from None
    try:
        archive = _opened(descriptor, password, ring, key, tell)
        yield archive
    except BackupError as error:
        raise type(error)(str(error).replace("{file}", named(path))) from None
    except OSError as error:
        raise BackupError(f"{named(path)} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


def is_protected(path: Path) -> bool:
    """Say whether a password protects an archive, by its first bytes alone.

    Raises:
        BackupError: it is none, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return _begins_protected(descriptor)
        finally:
            os.close(descriptor)
    except BackupError as error:
        raise type(error)(str(error).replace("{file}", named(path))) from None
    except OSError as error:
        raise BackupError(f"{named(path)} cannot be read: {error.strerror}") from None


def _opened(
    descriptor: int, password: str | None, ring: KeyRing | None, key: bytes | None, tell: Callable[[int], None]
) -> Archive:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_MEMBER_BYTES:
        _refuse_foreign()
    size = found.st_size
    tail = os.pread(descriptor, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    comment = parse_comment(tail)
    if comment is None:
        _refuse_foreign()
    if comment.version > SEAL_VERSION:
        raise NewerBackupError(
            f"{{file}}: its form is {comment.version}, this version knows {SEAL_VERSION}: use a newer callisto-telnetd"
        )
    ring = _require_password(descriptor, password, ring)
    key = key_of(password, comment.salt) if key is None else key
    if not is_same(make_seal(descriptor, size, key, tell), comment.seal):
        doubt = ", or the password is wrong" if password is not None else ""
        raise BackupError(f"{{file}}: its seal is broken: it was changed, or is damaged{doubt}; nothing was changed")
    try:
        directory = parse_end(tail, size, COMMENT_BYTES)
    except RecordError as error:
        _refuse(str(error))
    return Archive(descriptor, size, directory, ring)


def _require_password(descriptor: int, password: str | None, ring: KeyRing | None) -> KeyRing | None:
    protected = _begins_protected(descriptor)
    if not protected:
        if password is not None:
            raise BackupPasswordError("{file}: no password protects it, but one was given; nothing was changed")
        return None
    if password is None:
        raise BackupPasswordError("{file}: a password protects it; give it; nothing was changed")
    head = os.pread(descriptor, LOCAL_BYTES, 0)
    at = LOCAL_BYTES + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    salt = os.pread(descriptor, SALT_BYTES, at)
    ring = ring or KeyRing(password)
    if os.pread(descriptor, HEAD_BYTES - SALT_BYTES, at + SALT_BYTES) != ring.of(salt).verifier:
        raise BackupPasswordError("{file}: the password is wrong; nothing was changed")
    return ring


def _begins_protected(descriptor: int) -> bool:
    """Say whether the first member is encrypted; it has to be the manifest."""
    head = os.pread(descriptor, LOCAL_BYTES + len(MANIFEST), 0)
    if len(head) < LOCAL_BYTES + len(MANIFEST) or head[:4] != b"PK\3\4" or not head.endswith(MANIFEST.encode()):
        _refuse_foreign()
    return bool(head[6] & 1)


def _refuse_foreign() -> NoReturn:
    raise BackupError("{file} is no backup of Callisto's, or is cut off; nothing was changed")


def _refuse(reason: str) -> NoReturn:
    raise BackupError(f"{{file}} is refused: {reason}; nothing was changed")
