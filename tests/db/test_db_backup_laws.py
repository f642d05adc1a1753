"""Laws of archives, held against whatever Hypothesis thinks of."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callisto_telnetd.db.backup.deflation import END, deflate
from callisto_telnetd.db.backup.manifest import (
    DATABASE,
    MANIFEST,
    MOST_SETTINGS_BYTES,
    PACK,
    SETTINGS,
    Manifest,
    Member,
    Members,
    format_manifest,
    parse_manifest,
)
from callisto_telnetd.db.backup.pack import pack
from callisto_telnetd.db.backup.pack import recordings as unpack
from callisto_telnetd.db.backup.reader import open_archive
from callisto_telnetd.db.backup.seal import COMMENT_BYTES, comment_before_seal, key_of, make_seal, parse_comment
from callisto_telnetd.db.backup.tar_records import MOST_BYTES, packed_bytes
from callisto_telnetd.db.backup.zip_records import (
    Directory,
    Entry,
    RecordError,
    pack_central,
    pack_end,
    parse_central,
    parse_end,
)
from callisto_telnetd.db.backup.zip_writer import ZipWriter
from callisto_telnetd.errors import BackupError
from tests.db.archives import AT, ignore, recording_of

_TEXT = st.text(max_size=60).filter(lambda text: text.isprintable() or not text)
_SIZE = st.integers(0, 1 << 44)
_RECORDING_SIZE = st.integers(0, MOST_BYTES)
_DIGEST = st.binary(min_size=32, max_size=32)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Manifests of every kind."""
    digest = _DIGEST.map(bytes.hex)
    members = Members(Member(DATABASE, draw(_SIZE), draw(digest)))
    if draw(st.booleans()):
        members.settings = Member(SETTINGS, draw(st.integers(0, MOST_SETTINGS_BYTES)), draw(digest))
    for each in sorted(draw(st.sets(_DIGEST, max_size=20))):
        members.add_recording(each.hex(), draw(_RECORDING_SIZE))
    missing = tuple(draw(st.lists(digest, max_size=5)))
    return Manifest(
        product_version=draw(_TEXT),
        schema=draw(st.integers(0, 99)),
        edition="ucm",
        host=draw(_TEXT),
        serial=draw(_TEXT),
        created=draw(st.datetimes()).strftime("2026-%m-%dT%H:%M:%SZ"),
        note=draw(_TEXT),
        secrets=draw(st.booleans()),
        left_out=(SETTINGS,) if draw(st.booleans()) else (),
        missing=missing,
        missing_count=len(missing) + draw(st.integers(0, 9)),
        members=members,
    )


def cut(whole: bytes, step: int) -> Iterator[bytes]:
    """Yield the bytes in pieces."""
    return (whole[at : at + step] for at in range(0, len(whole), step))


@settings(max_examples=50)
@given(manifest=manifests(), step=st.integers(1, 4000))
def test_a_manifest_is_read_as_it_was_written(manifest: Manifest, step: int) -> None:
    """The same manifest comes back, however its bytes are cut; it is one JSON object of ASCII."""
    whole = b"".join(format_manifest(manifest))
    import json

    assert parse_manifest(cut(whole, step)) == manifest
    assert whole.isascii()
    data = json.loads(whole)
    assert [tuple(each.values()) for each in data["members"]] == [tuple(each) for each in manifest.members]


@settings(max_examples=40)
@given(manifest=manifests(), at=st.integers(0, 10_000), code=st.integers(0, 255), step=st.integers(1, 500))
def test_a_manifest_with_a_changed_byte_is_another_or_refused(
    manifest: Manifest, at: int, code: int, step: int
) -> None:
    """No byte makes the reader fail in any other way than with our error; what is taken is written so again."""
    whole = bytearray(b"".join(format_manifest(manifest)))
    whole[at % len(whole)] = code
    try:
        again = parse_manifest(cut(bytes(whole), step))
    except BackupError:
        return
    assert b"".join(format_manifest(again)) == whole


@settings(max_examples=60)
@given(manifest=manifests(), at=st.integers(0, 10_000), step=st.integers(1, 400))
def test_a_manifest_that_is_cut_off_is_refused(manifest: Manifest, at: int, step: int) -> None:
    """Wherever it ends, and however its bytes are cut."""
    whole = b"".join(format_manifest(manifest))
    with pytest.raises(BackupError):
        parse_manifest(cut(whole[: at % len(whole)], step))


@given(data=st.binary(max_size=2000))
def test_bytes_that_are_no_manifest_are_refused(data: bytes) -> None:
    """Whatever the bytes are: our error, and no other."""
    try:
        parse_manifest(cut(data, 100))
    except BackupError:
        return
    raise AssertionError("taken")


ENTRIES = st.builds(
    Entry,
    name=st.sampled_from([MANIFEST, DATABASE, SETTINGS, PACK]),
    encrypted=st.booleans(),
    crc=st.integers(0, 0xFFFF_FFFF),
    packed=_SIZE,
    size=_SIZE,
    offset=_SIZE,
    stamp=st.integers(0, 0xFFFF_FFFF),
).filter(lambda entry: entry.size >= 0xF000_0000 or entry.packed < 0xFFFF_FFFF)


@given(entry=ENTRIES, more=st.binary(max_size=50))
def test_a_record_of_the_directory_is_read_as_it_was_written(entry: Entry, more: bytes) -> None:
    """Also where sizes and places need ZIP64, and whatever follows."""
    record = pack_central(entry)

    assert parse_central(record + more) == (entry, len(record))


@given(entry=ENTRIES, at=st.integers(0, 200), code=st.integers(0, 255))
def test_a_record_with_a_changed_byte_is_another_or_refused(entry: Entry, at: int, code: int) -> None:
    """What is taken is written as the very same bytes again: there is one form."""
    record = bytearray(pack_central(entry))
    record[at % len(record)] = code
    try:
        again, length = parse_central(bytes(record))
    except RecordError:
        return
    assert pack_central(again) == bytes(record[:length])


@given(offset=st.integers(0, 1 << 44), size=st.integers(0, 1 << 31), count=st.integers(0, 200_001))
def test_the_end_is_read_as_it_was_written(offset: int, size: int, count: int) -> None:
    """Also where places and counts need ZIP64."""
    comment = comment_before_seal(bytes(16)).ljust(COMMENT_BYTES, b"0")
    end = pack_end(Directory(offset, size, count), comment)

    assert parse_end(end, offset + size + len(end), COMMENT_BYTES) == Directory(offset, size, count)
    assert parse_comment(comment) is not None


@settings(max_examples=12)
@given(
    database=st.binary(max_size=5000),
    recordings=st.sets(st.binary(max_size=300), max_size=6),
    password=st.one_of(st.none(), st.text(st.characters(categories=["L", "N", "P"]), min_size=12, max_size=99)),
)
def test_an_archive_gives_back_what_went_in(database: bytes, recordings: set[bytes], password: str | None) -> None:
    """Any content, any password, any number of recordings, none among it."""
    manifest, contents = listed(database, recordings)
    stream = io.BytesIO()
    archive = ZipWriter(stream, password, AT)
    archive.add(MANIFEST, 0, map(deflate, format_manifest(manifest)))
    archive.add(DATABASE, len(database), map(deflate, cut(database, 700)))
    if contents:
        size = manifest.members.zipped[PACK]
        archive.add(PACK, size, map(deflate, pack(manifest, contents)))
    archive.finish(comment_before_seal(bytes(16)).ljust(COMMENT_BYTES, b"0"))
    key = key_of(password, bytes(16))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "archive.zip"
        path.write_bytes(stream.getvalue())
        with path.open("r+b", buffering=0) as opened:
            seal = make_seal(opened.fileno(), path.stat().st_size, key, ignore)
            opened.seek(-64, io.SEEK_END)
            opened.write(seal.encode())
        with open_archive(path, password, key=key) as reader:
            found = {member.name: b"".join(pieces) for member, pieces in reader.contents()}

    assert found == {DATABASE: database, **{member.name: b"".join(content) for member, content in contents}}


def listed(database: bytes, recordings: set[bytes]) -> tuple[Manifest, list[tuple[Member, list[bytes]]]]:
    """Return the manifest of these, and the recordings in its order, each in two pieces."""
    members = Members(Member(DATABASE, len(database), hashlib.sha256(database).hexdigest()))
    contents = sorted((recording_of(each), [each[:100], each[100:]]) for each in recordings)
    for member, _ in contents:
        members.add_recording(member.sha256, member.size)
    return Manifest("1", 2, "ucm", "", "", "2026-11-23T09:15:00Z", "", False, (), (), 0, members), contents


@given(contents=st.lists(st.tuples(st.binary(max_size=300), st.integers(1, 900)), max_size=6))
def test_sections_are_one_stream(contents: list[tuple[bytes, int]]) -> None:
    """Joined, they inflate to the whole content in one go; what nothing makes smaller stands in it as it is."""
    pieces = [content * times for content, times in contents] + [os.urandom(70_000)]
    sections = [deflate(piece) for piece in pieces]
    whole = b"".join(section.packed for section in sections) + END
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)

    assert [section.content for section in sections] == pieces
    assert unpacker.decompress(whole) == b"".join(pieces)
    assert (unpacker.eof, unpacker.unused_data) == (True, b"")
    assert pieces[-1][:60_000] in whole


@given(recordings=st.sets(st.binary(max_size=2000), max_size=6), step=st.integers(1, 3000))
def test_a_pack_is_read_as_it_was_written(recordings: set[bytes], step: int) -> None:
    """However its bytes are cut, also where contents are left unread; its size was known before, and tar reads it."""
    manifest, contents = listed(b"", recordings)
    whole = b"".join(pack(manifest, contents))

    assert len(whole) == packed_bytes(member.size for member, _ in contents)
    found = [(member, b"".join(pieces)) for member, pieces in unpack(manifest, cut(whole, step))]
    assert found == [(member, b"".join(content)) for member, content in contents]
    assert [member for member, _ in unpack(manifest, cut(whole, step))] == [member for member, _ in contents]
    with tarfile.open(fileobj=io.BytesIO(whole)) as other:
        assert [(each.name, each.size, each.mtime, each.mode) for each in other] == [
            (member.name, member.size, manifest.moment, 0o600) for member, _ in contents
        ]


@given(
    recordings=st.sets(st.binary(max_size=600), min_size=1, max_size=4),
    at=st.integers(0, 10_000),
    change=st.integers(1, 255),
    short=st.booleans(),
)
def test_a_pack_with_a_changed_byte_or_too_few_is_refused(
    recordings: set[bytes], at: int, change: int, short: bool
) -> None:
    """Each byte of it follows from the manifest, or is a content that the manifest knows."""
    manifest, contents = listed(b"", recordings)
    whole = bytearray(b"".join(pack(manifest, contents)))
    at %= len(whole)
    whole[at] ^= change
    with pytest.raises(BackupError):
        for _ in unpack(manifest, iter([bytes(whole[:at] if short else whole)])):
            pass
