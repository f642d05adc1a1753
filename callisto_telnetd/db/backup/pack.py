"""The recordings of an archive, written into its pack and taken out of it again, as a stream that is read once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain

from callisto_telnetd.db.backup.manifest import Manifest, Member
from callisto_telnetd.db.backup.refusal import refuse
from callisto_telnetd.db.backup.tar_records import END, pack_header, padding

_USUAL_BYTES = 1 << 20


def pack(manifest: Manifest, recordings: Iterable[tuple[Member, Iterable[bytes]]]) -> Iterator[bytes]:
    """Yield the pack of recordings, which come in the manifest's order and with the sizes that it says.

    A recording of a usual size is one piece.
    """
    moment = manifest.moment
    for member, content in recordings:
        pieces = chain([pack_header(member.name, member.size, moment)], content, [padding(member.size)])
        if member.size <= _USUAL_BYTES:
            yield b"".join(pieces)
        else:
            yield from pieces
    yield END


def recordings(manifest: Manifest, pieces: Iterator[bytes]) -> Iterator[tuple[Member, Iterator[bytes]]]:
    """Yield each recording with its content; what the caller leaves of it is read before the next one comes.

    Args:
        manifest: Lists them.
        pieces: The pack, of the right size.

    Raises:
        BackupError: the pack is not the one that follows from the manifest.
    """
    stream, moment = _Stream(pieces), manifest.moment
    for member in manifest.members.each_recording():
        stream.expect(pack_header(member.name, member.size, moment))
        content = checked(member, stream.take(member.size))
        yield member, content
        drain(content)
        stream.expect(padding(member.size))
    stream.expect(END)
    drain(pieces)


def checked(member: Member, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the content of a member.

    Raises:
        BackupError: it was not what the manifest says; after the last piece.
    """
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
        yield piece
    if digest.hexdigest() != member.sha256:
        refuse(f"{member.name} is not what the manifest says")


def drain(pieces: Iterator[bytes]) -> None:
    """Read what is left."""
    for _ in pieces:
        pass


class _Stream:
    """Bytes that come in pieces, taken in others."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = memoryview(b"")

    def take(self, count: int) -> Iterator[bytes]:
        """Yield the next bytes, of which there have to be so many."""
        while count:
            if not self._held:
                self._held = memoryview(next(self._pieces, b""))
                if not self._held:
                    refuse("its recordings are cut off")
            piece, self._held = self._held[:count], self._held[count:]
            count -= len(piece)
            yield bytes(piece)

    def expect(self, right: bytes) -> None:
        """Take what has to be there, a block or two."""
        if b"".join(self.take(len(right))) != right:
            refuse("its recordings are not packed as the manifest says")
