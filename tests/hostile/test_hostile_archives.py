"""Archives made by an enemy: all refused before anything of them is used, in little memory.

Those that no password protects can be sealed by anybody, so most of these are: the seal alone keeps nobody out.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import struct
import time
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from callisto_telnetd.db.backup.manifest import DATABASE, MANIFEST, PACK, SETTINGS
from callisto_telnetd.db.backup.reader import open_archive
from callisto_telnetd.db.backup.seal import COMMENT_BYTES, key_of
from callisto_telnetd.db.backup.tar_records import pack_header, packed_bytes
from callisto_telnetd.db.backup.unpacking import unpack
from callisto_telnetd.db.backup.verification import verify
from callisto_telnetd.db.backup.zip_records import (
    CENTRAL_BYTES,
    Directory,
    Entry,
    pack_central,
    pack_local,
)
from callisto_telnetd.db.restore.plan import look_ahead
from callisto_telnetd.errors import BackupError, BackupPasswordError, DamagedDatabaseError, NewerBackupError
from tests.db.archives import (
    HASH,
    PASSWORD,
    Forger,
    deflated,
    ignore,
    make_appliance,
    make_archive,
    manifest_of,
    recording_of,
    salt_of,
    write_sealed,
)
from tests.db.restoring import make_backup, make_folder
from tests.hostile.at_once import require_at_once

MOST_BYTES = 16 << 20
DATA = b"a database, it says" * 20
ONE, TWO = b"one recording", b"another recording"
FIRST, SECOND = sorted((ONE, TWO), key=lambda each: hashlib.sha256(each).hexdigest())
PACKED = Forger().add_pack(FIRST, SECOND).contents[PACK]
Forge = Callable[[Path], None]

FORGERIES: dict[str, Forge] = {}


def forgery(make: Forge) -> Forge:
    """Take it into the list."""
    FORGERIES[make.__name__.removeprefix("_")] = make
    return make


def good() -> Forger:
    """Return an archive without fault, up to its end."""
    return before_pack().add_pack(FIRST, SECOND)


def before_pack() -> Forger:
    """Return one whose last member, the recordings, is missing yet."""
    return Forger().add_manifest(DATA, ONE, TWO).add(DATABASE, DATA)


def patched(pack: Callable[[Entry], bytes], at: int, form: str, value: int) -> Callable[[Entry], bytes]:
    """Return a way to write a record with another value somewhere."""

    def pack_otherwise(entry: Entry) -> bytes:
        record = bytearray(pack(entry))
        struct.pack_into(form, record, at, value)
        return bytes(record)

    return pack_otherwise


def add_otherwise(forger: Forger, name: str, content: bytes, method: int, packed: bytes | None = None) -> Forger:
    """Add a member whose records say that it is not deflated."""
    local, central = patched(pack_local, 8, "<H", method), patched(pack_central, 10, "<H", method)
    return forger.add(name, content, packed=packed, local=local, central=central)


def stored(content: bytes, *, last: bool = False) -> bytes:
    """Return a block of a deflated stream that stands there as it is."""
    return struct.pack("<B2H", last, len(content), len(content) ^ 0xFFFF) + content


@forgery
def _random_bytes(path: Path) -> None:
    path.write_bytes(os.urandom(100_000))


@forgery
def _an_empty_file(path: Path) -> None:
    path.write_bytes(b"")


@forgery
def _a_folder(path: Path) -> None:
    path.mkdir()


@forgery
def _a_pipe(path: Path) -> None:
    os.mkfifo(path)


@forgery
def _a_link_to_an_archive(path: Path) -> None:
    good().write(path.with_name("other.zip"))
    path.symlink_to("other.zip")


@forgery
def _another_products_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as other:
        other.writestr("manifest.json", '{"product": "another"}')
        other.writestr("../../etc/passwd", "root")


@forgery
def _another_products_zip_with_our_comment(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as other:
        other.writestr("manifest.json", '{"product": "another"}')
        other.comment = b"callisto-backup 1 salt=" + b"0" * 32 + b" seal=" + b"0" * 64


@forgery
def _unsealed(path: Path) -> None:
    path.write_bytes(good().end())


@forgery
def _sealed_and_then_longer(path: Path) -> None:
    good().write(path)
    path.write_bytes(path.read_bytes() + b"\0")


@forgery
def _a_newer_seal(path: Path) -> None:
    path.write_bytes(good().end().replace(b"callisto-backup 1 ", b"callisto-backup 2 "))


@forgery
def _a_seal_of_no_version(path: Path) -> None:
    write_sealed(path, good().end().replace(b"callisto-backup 1 ", b"callisto-backup 0 "))


@forgery
def _accounts_that_no_password_protects(path: Path) -> None:
    forger = Forger().add_manifest(DATA, text=lambda text: text.replace(b'"secrets":false', b'"secrets":true'))
    forger.add(DATABASE, DATA).write(path)


@forgery
def _a_newer_manifest(path: Path) -> None:
    forger = Forger().add_manifest(DATA, text=lambda text: text.replace(b'"format_version":2', b'"format_version":3'))
    forger.add(DATABASE, DATA).write(path)


@forgery
def _a_name_that_climbs(path: Path) -> None:
    before_pack().add("../../../etc/cron.d/x", PACKED).write(path)


@forgery
def _an_absolute_name(path: Path) -> None:
    before_pack().add("/etc/passwd", PACKED).write(path)


@forgery
def _a_name_in_a_manifest_that_climbs(path: Path) -> None:
    forger = Forger().add_manifest(DATA, text=lambda text: text.replace(b'"database.db"', b'"../database.db"'))
    forger.add("../database.db", DATA).write(path)


@forgery
def _a_link(path: Path) -> None:
    before_pack().add(PACK, PACKED, central=patched(pack_central, CENTRAL_BYTES - 8, "<L", 0o120777 << 16)).write(path)


@forgery
def _a_device(path: Path) -> None:
    before_pack().add(PACK, PACKED, central=patched(pack_central, CENTRAL_BYTES - 8, "<L", 0o060666 << 16)).write(path)


@forgery
def _the_same_member_twice(path: Path) -> None:
    good().add_pack(FIRST, SECOND).write(path)


@forgery
def _the_same_recording_twice_in_the_manifest(path: Path) -> None:
    one, other = (hashlib.sha256(each).hexdigest().encode() for each in (FIRST, SECOND))
    forger = Forger().add_manifest(DATA, ONE, TWO, text=lambda text: text.replace(other, one))
    forger.add(DATABASE, DATA).add_pack(FIRST, FIRST).write(path)


@forgery
def _members_that_overlap(path: Path) -> None:
    forger = before_pack()
    place = forger.entries[-1].offset
    forger.add_pack(FIRST, SECOND)
    forger.central = forger.central[: -len(pack_central(forger.entries[-1]))]
    forger.central += pack_central(forger.entries[-1]._replace(offset=place))
    forger.write(path)


@forgery
def _a_member_behind_the_end(path: Path) -> None:
    before_pack().add(PACK, PACKED, entry=lambda entry: entry._replace(offset=1 << 40)).write(path)


@forgery
def _a_gap_between_members(path: Path) -> None:
    forger = before_pack()
    forger.body += b"something that another reader may find"
    forger.add_pack(FIRST, SECOND).write(path)


@forgery
def _something_before_the_first_member(path: Path) -> None:
    forger = Forger()
    forger.body += b"#!/bin/sh\n"
    forger.add_manifest(DATA).add(DATABASE, DATA).write(path)


@forgery
def _a_manifest_that_inflates_without_end(path: Path) -> None:
    bomb = deflated(bytes(200 << 20))
    Forger().add(MANIFEST, b"", packed=bomb, entry=lambda entry: entry._replace(size=30 << 20)).add(
        DATABASE, DATA
    ).write(path)


@forgery
def _a_head_of_the_manifest_without_end(path: Path) -> None:
    Forger().add(MANIFEST, b'{"format":"' + b" " * (30 << 20)).add(DATABASE, DATA).write(path)


@forgery
def _a_database_that_inflates_beyond_its_size(path: Path) -> None:
    bomb = deflated(bytes(100 << 20))
    Forger().add_manifest(DATA).add(DATABASE, DATA, packed=bomb).write(path)


@forgery
def _a_manifest_with_much_behind_its_end(path: Path) -> None:
    text = Forger().add_manifest(DATA).contents[MANIFEST]
    Forger().add(MANIFEST, text, packed=deflated(text) + bytes(20 << 20)).add(DATABASE, DATA).write(path)


@forgery
def _a_manifest_of_many_blocks_with_nothing_in_them(path: Path) -> None:
    text = Forger().add_manifest(DATA).contents[MANIFEST]
    Forger().add(MANIFEST, text, packed=stored(b"") * 10_000 + deflated(text)).add(DATABASE, DATA).write(path)


@forgery
def _a_database_of_many_blocks_with_nothing_in_them(path: Path) -> None:
    Forger().add_manifest(DATA).add(DATABASE, DATA, packed=stored(b"") * 10_000 + deflated(DATA)).write(path)


@forgery
def _something_behind_the_end_of_a_stream(path: Path) -> None:
    Forger().add_manifest(DATA).add(DATABASE, DATA, packed=deflated(DATA) + b"x").write(path)


@forgery
def _something_behind_a_stream_that_ends_where_a_read_ends(path: Path) -> None:
    data = bytes(3 * 0xFFFF + 0xFFEF)
    packed = stored(data[:0xFFFF]) * 3 + stored(data[3 * 0xFFFF :], last=True)
    assert len(packed) == 256 << 10
    Forger().add_manifest(data).add(DATABASE, data, packed=packed + b"x").write(path)


@forgery
def _a_size_that_nothing_can_inflate_to(path: Path) -> None:
    text = f'"database.db","size":{len(DATA)}'.encode()
    Forger().add_manifest(DATA, text=lambda made: made.replace(text, b'"database.db","size":99999999999')).add(
        DATABASE, DATA, entry=lambda entry: entry._replace(size=99_999_999_999)
    ).write(path)


@forgery
def _a_header_that_says_another_size(path: Path) -> None:
    Forger().add_manifest(DATA).add(DATABASE, DATA, local=patched(pack_local, 22, "<L", 7)).write(path)


@forgery
def _a_header_that_says_another_name(path: Path) -> None:
    def pack(entry: Entry) -> bytes:
        return pack_local(entry._replace(name="../database"))

    Forger().add_manifest(DATA).add(DATABASE, DATA, local=pack).write(path)


@forgery
def _a_directory_that_says_another_size(path: Path) -> None:
    Forger().add_manifest(DATA).add(DATABASE, DATA, central=patched(pack_central, 24, "<L", 7)).write(path)


@forgery
def _one_that_says_it_packs_less(path: Path) -> None:
    Forger().add_manifest(DATA).add(DATABASE, DATA, entry=lambda entry: entry._replace(packed=entry.packed - 1)).write(
        path
    )


@forgery
def _more_members_than_the_manifest_lists(path: Path) -> None:
    Forger().add_manifest(DATA).add(DATABASE, DATA).add_pack(FIRST).write(path)


@forgery
def _fewer_members_than_the_manifest_lists(path: Path) -> None:
    before_pack().write(path)


@forgery
def _a_manifest_that_comes_last(path: Path) -> None:
    Forger().add(DATABASE, DATA).add_manifest(DATA).write(path)


@forgery
def _no_manifest(path: Path) -> None:
    Forger().add(DATABASE, DATA).add_pack(FIRST).write(path)


@forgery
def _a_manifest_of_many_brackets(path: Path) -> None:
    text = b'{"format":' + b"[" * 100_000 + b',"members":[\n]}\n'
    Forger().add(MANIFEST, text).add(DATABASE, DATA).write(path)


@forgery
def _a_manifest_with_a_number_without_end(path: Path) -> None:
    def longer(text: bytes) -> bytes:
        return text.replace(b'"schema":2', b'"schema":' + b"9" * 100_000)

    Forger().add_manifest(DATA, text=longer).add(DATABASE, DATA).write(path)


@forgery
def _a_manifest_that_forges_a_line(path: Path) -> None:
    def worse(text: bytes) -> bytes:
        return text.replace(b'"host":"callisto"', b'"host":"x\\u001b[2J\\r\\nOK"')

    Forger().add_manifest(DATA, text=worse).add(DATABASE, DATA).write(path)


def with_head(change: Callable[[bytes], bytes]) -> Forge:
    """Return a forgery whose manifest says the same in another way, up to its members."""

    def change_head(text: bytes) -> bytes:
        head, between, members = text.partition(b',"members":[')
        return change(head) + between + members

    return lambda path: Forger().add_manifest(DATA, text=change_head).add(DATABASE, DATA).write(path)


def with_text(old: bytes, new: bytes) -> Forge:
    """Return a forgery that has something else somewhere in its manifest."""

    def change(text: bytes) -> bytes:
        assert text.count(old) == 1
        return text.replace(old, new)

    return lambda path: Forger().add_manifest(DATA, text=change).add(DATABASE, DATA).write(path)


SIZE = b'"size":%d,' % len(DATA)
FORGERIES |= {
    "a manifest in UTF-16": with_head(lambda head: head.decode().encode("utf-16-be") + b"\0"),
    "a manifest with a mark before it": with_head(lambda head: b"\xef\xbb\xbf" + head),
    "a manifest with spaces": with_text(b'"note":', b'"note": '),
    "a manifest with a key twice": with_text(b'"note":', b'"note":"","note":'),
    "a manifest with a key that only others know": with_text(b'"note":', b'"path":"/","note":'),
    "a manifest in another order": with_text(b'"host":"callisto","serial":""', b'"serial":"","host":"callisto"'),
    "a manifest with a letter written otherwise": with_text(b'"host":"callisto"', b'"host":"c\\u0061llisto"'),
    "a manifest whose version is no number": with_text(b'"format_version":2', b'"format_version":true'),
    "a manifest of a day that never was": with_text(b"2026-11-23", b"2026-02-30"),
    "a manifest of digits that are not ours": with_text(b"2026-11", b"2026-1\\u0661"),
    "a size with zeros before it": with_text(SIZE, SIZE.replace(b":", b":00")),
    "a size below nothing": with_text(SIZE, b'"size":-1,'),
    "a size that is no whole number": with_text(SIZE, SIZE.replace(b",", b".0,")),
    "a size of digits that are not ours": with_text(SIZE, '"size":\u0663\u0668\u0660,'.encode()),
    "a size of many terabytes": with_text(SIZE, b'"size":17592186044417,'),
    "a manifest with something behind it": with_text(b"\n]}\n", b"\n]}\n{}"),
    "a manifest without its last line": with_text(b"\n]}\n", b"\n]"),
    "a database that stands twice in a manifest": with_text(
        b"\n]}\n", b',\n{"name":"database.db","size":1,"sha256":"' + b"0" * 64 + b'"}\n]}\n'
    ),
}


@forgery
def _settings_without_a_password_that_the_manifest_does_not_list(path: Path) -> None:
    Forger().add_manifest(DATA).add(DATABASE, DATA).add(SETTINGS, b"[telnet]\nport = 1\n").write(path)


@forgery
def _a_database_that_is_stored(path: Path) -> None:
    add_otherwise(Forger().add_manifest(DATA), DATABASE, DATA, 0, DATA).write(path)


@forgery
def _a_method_that_we_do_not_have(path: Path) -> None:
    add_otherwise(Forger().add_manifest(DATA), DATABASE, DATA, 14).write(path)


@forgery
def _encryption_of_the_old_kind(path: Path) -> None:
    Forger().add_manifest(DATA).add(
        DATABASE, DATA, local=patched(pack_local, 6, "<H", 1), central=patched(pack_central, 8, "<H", 1)
    ).write(path)


@forgery
def _a_wrong_checksum(path: Path) -> None:
    Forger().add_manifest(DATA).add(DATABASE, DATA, entry=lambda entry: entry._replace(crc=zlib.crc32(b"other"))).write(
        path
    )


@forgery
def _an_end_that_counts_too_many(path: Path) -> None:
    good().write(path, lambda right: right._replace(members=right.members + 1))


@forgery
def _an_end_that_counts_too_few(path: Path) -> None:
    good().write(path, lambda right: right._replace(members=right.members - 1))


@forgery
def _an_end_that_counts_millions(path: Path) -> None:
    good().write(path, lambda right: right._replace(members=1 << 40))


@forgery
def _a_directory_somewhere_else(path: Path) -> None:
    good().write(path, lambda right: Directory(right.offset - 10, right.size + 10, right.members))


@forgery
def _a_hundred_thousand_members(path: Path) -> None:
    forger = good()
    for place in range(100_000):
        forger.add(f"{place:05}.tar", b"x")
    forger.write(path)


@forgery
def _a_hundred_thousand_recordings_that_are_not_packed(path: Path) -> None:
    before = Forger().add(MANIFEST, many(100_000)).add(DATABASE, DATA)
    before.add_pack(FIRST, SECOND).write(path)


@forgery
def _more_recordings_than_there_may_be(path: Path) -> None:
    Forger().add(MANIFEST, many(200_001)).add(DATABASE, DATA).add_pack(FIRST).write(path)


def many(count: int) -> bytes:
    """Return a manifest of many recordings of a byte each, in its form."""
    lines = (b'{"name":"recordings/%064x","size":1,"sha256":"%064x"}' % (place, place) for place in range(count))
    empty = Forger().add_manifest(DATA).contents[MANIFEST]
    return empty.replace(b"}\n]}", b"},\n" + b",\n".join(lines) + b"\n]}")


@forgery
def _members_in_another_order(path: Path) -> None:
    Forger().add_manifest(DATA, ONE, TWO).add_pack(FIRST, SECOND).add(DATABASE, DATA).write(path)


@forgery
def _recordings_that_are_stored(path: Path) -> None:
    add_otherwise(before_pack(), PACK, PACKED, 0, PACKED).write(path)


@forgery
def _a_pack_that_has_another_size(path: Path) -> None:
    before_pack().add_pack(FIRST, SECOND, made=lambda packed: packed + bytes(512)).write(path)


@forgery
def _a_recording_of_ten_gibibytes(path: Path) -> None:
    size = f'"size":{len(FIRST)},'.encode()
    forger = Forger().add_manifest(DATA, FIRST, text=lambda text: text.replace(size, b'"size":10737418240,'))
    forger.add(DATABASE, DATA).add_pack(FIRST).write(path)


def in_pack(at: int, data: bytes, *, summed: bool = True) -> Forge:
    """Return a forgery with other bytes somewhere in its pack, and the right sum in its first header."""

    def change(packed: bytes) -> bytes:
        changed = bytearray(packed)
        changed[at : at + len(data)] = data
        if summed:
            changed[148:156] = b" " * 8
            changed[148:156] = b"%06o\0 " % sum(changed[:512])
        return bytes(changed)

    return lambda path: before_pack().add_pack(FIRST, SECOND, made=change).write(path)


FORGERIES |= {
    "a recording that is another": in_pack(512, b"Another"),
    "a recording whose name climbs": in_pack(0, b"../../../../etc/cron.d/x\0"),
    "a recording whose name is absolute": in_pack(0, b"/etc/passwd\0"),
    "a recording that is a link": in_pack(156, b"2/etc/passwd\0"),
    "a recording that is a hard link": in_pack(156, b"1/etc/passwd\0"),
    "a recording that is a device": in_pack(156, b"3"),
    "a recording that is a folder": in_pack(156, b"5"),
    "a recording with a long name of GNU's": in_pack(156, b"L"),
    "a recording with an extended header": in_pack(156, b"x"),
    "a recording that anybody may run": in_pack(100, b"0004777\0"),
    "a recording that says it is smaller": in_pack(124, b"00000000001\0"),
    "a recording that says it is larger": in_pack(124, b"77777777777\0"),
    "a recording with a size of base 256": in_pack(124, b"\xff" * 12),
    "a recording with a prefix of its name": in_pack(345, b"../.."),
    "a recording with an owner": in_pack(265, b"root\0"),
    "a wrong sum of a header": in_pack(148, b"000000\0 ", summed=False),
    "something behind a recording": in_pack(512 + len(FIRST), b"x"),
    "something behind the last recording": in_pack(2048, b"recordings/x"),
    "recordings in another order": lambda path: before_pack().add_pack(SECOND, FIRST).write(path),
    "one recording twice": lambda path: before_pack().add_pack(FIRST, FIRST).write(path),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_is_refused(tmp_path: Path, name: str) -> None:
    """Ours is the error, it names the file or the manifest in one line, and 16 MiB are enough to find out."""
    path = tmp_path / "forged.zip"
    FORGERIES[name](path)
    refused = require_refused_in_little(path)

    assert str(refused).isprintable()
    assert type(refused) is (NewerBackupError if "newer" in name else BackupError)


def require_refused_in_little(path: Path) -> BackupError:
    """Return the error with which an archive is refused; the memory that it took is bounded."""
    tracemalloc.start()
    try:
        with pytest.raises(BackupError) as refused, open_archive(path, None) as archive:
            archive.verify_members(ignore)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < MOST_BYTES
    return refused.value


def test_the_forger_can_also_write_a_right_one(tmp_path: Path) -> None:
    """What all the forgeries are made of is taken: they are refused for their one fault."""
    good().write(tmp_path / "good.zip")
    with open_archive(tmp_path / "good.zip", None) as archive:
        archive.verify_members(ignore)
        assert len(archive.manifest.members) == 3


def spoil(path: Path, script: str) -> None:
    """Change a database as an enemy may."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "CREATE TRIGGER bad AFTER INSERT ON audit BEGIN DELETE FROM account; END;",
            "its schema is not Callisto's",
        ),
        ("CREATE VIEW bad AS SELECT load_extension('x');", "its schema is not Callisto's"),
        ("PRAGMA user_version=1;", "its schema is not Callisto's"),
        ("PRAGMA application_id=7;", "is not a database of Callisto's"),
        ("PRAGMA foreign_keys=OFF; UPDATE message SET mailbox = 77777777;", "a row names a row that is not there"),
    ],
)
def test_a_database_inside_that_is_not_ours_is_refused(tmp_path: Path, script: str, reason: str) -> None:
    """A schema that runs something, another version's, broken references: seen, and nothing of it has run."""
    order = make_appliance(tmp_path / "data")
    spoil(order.live, script)
    database = order.live.read_bytes()
    Forger().add_manifest(database).add(DATABASE, database).write(tmp_path / "forged.zip")

    with pytest.raises(BackupError, match=reason):
        verify(tmp_path / "forged.zip", None, order.folder, lambda _name, _text: None, ignore)
    assert list(order.folder.iterdir()) == []


def test_a_database_of_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    """What the manifest says of the schema is enough."""
    order = make_appliance(tmp_path / "data")
    database = order.live.read_bytes()
    newer = Forger().add_manifest(database, text=lambda text: text.replace(b'"schema":2', b'"schema":77'))
    newer.add(DATABASE, database).write(tmp_path / "forged.zip")

    with pytest.raises(NewerBackupError, match=r"version 1\.0\.0 has made it, with schema 77, and this version knows"):
        verify(tmp_path / "forged.zip", None, order.folder, lambda _name, _text: None, ignore)


BOMB_BYTES = 256 << 20


def header(folder: Path, size: int, *, free: int = 0) -> bytes:
    """Return the first page of a database of Callisto's that says it has such a size, and so many free pages."""
    page = bytearray(make_appliance(folder, recordings=0).live.read_bytes()[:4096])
    page[28:32], page[36:40] = (number.to_bytes(4, "big") for number in (size // 4096, free))
    return bytes(page)


def sections(content: bytes, count: int) -> bytes:
    """Return what is left of a content deflated, so many times."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return (packer.compress(content) + packer.flush(zlib.Z_FULL_FLUSH)) * count


def larger(content: bytes) -> Callable[[bytes], bytes]:
    """Return how to say of a content in a manifest that it has the size of a bomb."""
    digest = hashlib.sha256(content).hexdigest()
    said = '"size":%d,"sha256":"%s"'
    old, new = (said % (size, digest) for size in (len(content), BOMB_BYTES))
    return lambda text: text.replace(old.encode(), new.encode())


def add_bomb(forger: Forger, name: str, size: int, first: bytes, piece: bytes) -> Forger:
    """Add a member that begins so, and goes on for long; all that can be told fits."""
    times, rest = divmod(size - len(first), len(piece))
    packed = sections(first, 1) + sections(piece, times) + deflated(piece[:rest])
    return forger.add(name, b"", packed=packed, entry=lambda entry: entry._replace(size=size))


def empty_leaves(count: int) -> bytes:
    """Return pages of a tree in which nothing is."""
    return (b"\x0d\0\0\0\0\x10\0\0" + bytes(4088)) * count


BOMBS: dict[str, tuple[Callable[[Path], bytes], bytes, str]] = {
    "zeros": (lambda _: b"", bytes(1 << 20), "its first page is none of a SQLite database"),
    "another size": (lambda it: header(it, 4096), bytes(1 << 20), "its size is not the one that its first page says"),
    "empty pages": (lambda it: header(it, BOMB_BYTES), bytes(1 << 20), "it has more empty pages than its first page"),
    "empty leaves": (lambda it: header(it, BOMB_BYTES), empty_leaves(256), "database.db grows to more than its kind"),
    "the same text": (lambda it: header(it, BOMB_BYTES), b"x" * (1 << 20), "database.db grows to more than its kind"),
}


def seconds_to_refuse(work: Callable[[], object], folder: Path, reason: str) -> float:
    """Return how long the refusal takes; what has been taken apart goes, so that the next try finds nothing."""
    begun = time.monotonic()
    with pytest.raises(BackupError, match=reason):
        work()
    took = time.monotonic() - begun
    for each in folder.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    return took


def require_bomb_refused(path: Path, folder: Path, reason: str) -> None:
    """Look at an archive, and take it apart: both refuse it at once, and neither takes much of the disk or memory."""
    taken: list[int] = []

    def look(*_told: object) -> None:
        taken.append(sum(each.stat().st_blocks * 512 for each in folder.rglob("*") if each.is_file()))

    def take_apart() -> None:
        try:
            unpack(path, None, folder, folder / "nowhere", look)
        finally:
            look()

    for work in (lambda: verify(path, None, folder, lambda _name, _text: None, look), take_apart):
        require_at_once(partial(seconds_to_refuse, work, folder, reason))
    assert max(taken) < MOST_BYTES


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_small_archive_that_would_fill_the_disk_is_refused_at_once(tmp_path: Path, bomb: str) -> None:
    """What a database says of itself, and how it grows, is held against the manifest before more is written."""
    first, piece, reason = BOMBS[bomb]
    forger = Forger().add_manifest(DATA, text=larger(DATA))
    add_bomb(forger, DATABASE, BOMB_BYTES, first(tmp_path / "data"), piece).write(tmp_path / "bomb.zip")
    (tmp_path / "here").mkdir()

    require_bomb_refused(tmp_path / "bomb.zip", tmp_path / "here", reason)


def test_recordings_that_grow_as_none_does_are_refused(tmp_path: Path) -> None:
    """A recording is no way round the bounds of a database."""
    database = make_appliance(tmp_path / "data", recordings=0).live.read_bytes()
    forger = Forger().add_manifest(database, ONE, text=larger(ONE)).add(DATABASE, database)
    moment = manifest_of([recording_of(ONE)]).moment
    first = pack_header(recording_of(ONE).name, BOMB_BYTES, moment)
    add_bomb(forger, PACK, packed_bytes([BOMB_BYTES]), first, b"\xff" * (1 << 20)).write(tmp_path / "bomb.zip")
    (tmp_path / "here").mkdir()

    require_bomb_refused(tmp_path / "bomb.zip", tmp_path / "here", "recordings.tar grows to more than its kind")


def test_silence_in_an_archive_of_the_first_format_comes_back(tmp_path: Path) -> None:
    """Its writer deflated twelve mebibytes of one byte to a thousandth: what was verified then can be restored now."""
    database = make_appliance(tmp_path / "data", recordings=0).live.read_bytes()
    silence = b"RIFF" + bytes(12 << 20)
    forger = Forger().add_manifest(database, silence, format_version=1)
    forger.add(DATABASE, database).add_pack(silence).write(tmp_path / "old.zip")
    here = tmp_path / "here"
    here.mkdir()

    verified = verify(tmp_path / "old.zip", None, here, lambda _name, _text: None, ignore)
    parts = unpack(tmp_path / "old.zip", None, here, tmp_path / "nowhere", ignore)

    assert verified.rows == parts.rows > 0
    assert (here / "recordings" / recording_of(silence).sha256).read_bytes() == silence


OLD_BYTES = 24 << 20


@pytest.mark.parametrize("name", [DATABASE, PACK])
def test_a_forged_archive_of_the_first_format_writes_no_more_than_it_announces(tmp_path: Path, name: str) -> None:
    """Whoever says that his archive is an old one is held to its sizes: 64 MiB that say to be 24 are not written."""
    database = make_appliance(tmp_path / "data", recordings=0).live.read_bytes()
    here = tmp_path / "here"
    here.mkdir()
    if name == DATABASE:
        announced = header(tmp_path / "other", OLD_BYTES) + b"x" * (OLD_BYTES - 4096)
        forger, first = Forger().add_manifest(announced, format_version=1), announced[:4096]
    else:
        announced = b"\xff" * OLD_BYTES
        forger = Forger().add_manifest(database, announced, format_version=1).add(DATABASE, database)
        first = pack_header(recording_of(announced).name, OLD_BYTES, manifest_of([recording_of(ONE)]).moment)
    packed = sections(first, 1) + sections(b"x" * (1 << 20), 64)
    size = OLD_BYTES if name == DATABASE else packed_bytes([OLD_BYTES])
    forger.add(name, b"", packed=packed, entry=lambda entry: entry._replace(size=size)).write(tmp_path / "bomb.zip")

    with pytest.raises(BackupError, match=rf"{name} is larger than the manifest says"):
        unpack(tmp_path / "bomb.zip", None, here, tmp_path / "nowhere", ignore)

    taken = sum(each.stat().st_size for each in here.rglob("*") if each.is_file())
    assert taken <= OLD_BYTES + len(database)


def test_what_grows_much_and_is_right_comes_back(tmp_path: Path) -> None:
    """Wiped pages of a database and a recording of one tone are no bombs: they are kept, and holes take no disk."""
    order = make_appliance(tmp_path / "data", recordings=1)
    tone = b"\xff" * (10 << 20)
    name = hashlib.sha256(tone).hexdigest()
    (order.media / name).write_bytes(tone)
    with closing(sqlite3.connect(order.live)) as connection:
        connection.execute("PRAGMA secure_delete=ON").fetchall()
        connection.execute("UPDATE message SET recording = ? WHERE id = (SELECT min(id) FROM message)", (name,))
        connection.execute("INSERT INTO state VALUES ('long', hex(zeroblob(16000000)))")
        connection.commit()
        connection.execute("DELETE FROM state WHERE key = 'long'")
        connection.commit()
    here = tmp_path / "here"
    here.mkdir()

    made = make_archive(order, PASSWORD)
    unpack(made.path, PASSWORD, here, tmp_path / "nowhere", ignore)

    database = (here / "callisto.db").stat()
    assert database.st_size == made.manifest.members.database.size > 32_000_000
    assert database.st_blocks * 512 < MOST_BYTES
    assert (here / "recordings" / name).read_bytes() == tone


@pytest.mark.parametrize(
    ("row", "table"),
    [
        ("INSERT INTO variable VALUES ('g%d', 'x')", "variable"),
        (f"INSERT INTO account VALUES ('ada%d', '{HASH}', '2026-11-23T10:00:00+00:00', NULL, NULL, NULL)", "account"),
    ],
)
def test_more_of_it_than_a_server_holds_is_refused(tmp_path: Path, row: str, table: str) -> None:
    """What a server has in memory, variables and accounts, comes out of no archive in any number."""
    live, backup = make_folder(tmp_path / "live"), make_backup(tmp_path / "backup")
    spoil(
        backup.database,
        "".join(["BEGIN;", *(row.replace("%d", str(number)) + ";" for number in range(1001)), "COMMIT;"]),
    )

    with pytest.raises(DamagedDatabaseError, match=rf"{table} has 1,\d\d\d rows, at most 1,000 are taken"):
        look_ahead(live, backup)


@pytest.mark.parametrize(
    ("row", "table"),
    [
        ("INSERT INTO variable VALUES ('g%d', 'x')", "variable"),
        (f"INSERT INTO account VALUES ('bob%d', '{HASH}', '2026-11-23T10:00:00+00:00', NULL, NULL, NULL)", "account"),
    ],
)
def test_no_backup_is_called_good_that_a_restore_refuses_for_its_numbers(tmp_path: Path, row: str, table: str) -> None:
    """Making one and verifying one keep to the restore's bound on accounts and variables."""
    order = make_appliance(tmp_path / "data", recordings=0)
    spoil(order.live, "".join(["BEGIN;", *(row.replace("%d", str(each)) + ";" for each in range(1001)), "COMMIT;"]))
    database = order.live.read_bytes()
    Forger().add_manifest(database).add(DATABASE, database).write(tmp_path / "made.zip")

    with pytest.raises(BackupError, match=rf"{table} has 1,\d\d\d rows, at most 1,000 are taken; no backup was made"):
        make_archive(order, PASSWORD)
    with pytest.raises(BackupError, match=rf"{table} has 1,\d\d\d rows, at most 1,000 are taken"):
        verify(tmp_path / "made.zip", None, order.folder, lambda _name, _text: None, ignore)
    assert list(order.folder.iterdir()) == []


def test_an_open_archive_in_the_place_of_a_protected_one_is_refused(tmp_path: Path) -> None:
    """Who gives a password wants what the password vouches for: one that anybody can seal is not taken."""
    good().write(tmp_path / "forged.zip")

    with (
        pytest.raises(BackupPasswordError, match="no password protects it"),
        open_archive(tmp_path / "forged.zip", PASSWORD),
    ):
        pass


def test_members_of_two_archives_are_not_mixed(tmp_path: Path) -> None:
    """A recording from another archive with the same password, in the same place and of the same length: seen."""
    order = make_appliance(tmp_path / "data")
    one, other = (make_archive(order, PASSWORD).path for _ in range(2))
    mixed = bytearray(one.read_bytes())
    place, again = (zipfile.ZipFile(path).infolist()[-1] for path in (one, other))
    length = 30 + len(PACK) + 11 + again.compress_size
    mixed[place.header_offset : place.header_offset + length] = other.read_bytes()[again.header_offset :][:length]
    one.write_bytes(mixed)

    with pytest.raises(BackupError, match="its seal is broken"), open_archive(one, PASSWORD):
        pass


def changed_at(whole: bytes, place: int) -> bytes:
    """Return the bytes with one of them changed, always to another."""
    made = bytearray(whole)
    made[place] ^= 1 + place % 255
    return bytes(made)


def require_refused(path: Path, whole: bytes, password: str | None) -> None:
    """Hold a file against the reader."""
    path.write_bytes(whole)
    with pytest.raises(BackupError), open_archive(path, password):
        pass


@pytest.mark.parametrize("password", [PASSWORD, None])
def test_some_changes_and_truncations_are_refused(tmp_path: Path, password: str | None) -> None:
    """A changed byte in every part of the file, and a file cut off anywhere: refused before a member is read."""
    whole = make_archive(make_appliance(tmp_path / "data"), password).path.read_bytes()
    count = 12 if password else 100
    for step in range(count):
        require_refused(tmp_path / "x.zip", changed_at(whole, step * (len(whole) - 1) // (count - 1)), password)
        require_refused(tmp_path / "x.zip", whole[: step * len(whole) // count], password)


@pytest.mark.long
@pytest.mark.parametrize("password", [PASSWORD, None])
def test_1000_changes_and_200_truncations_are_refused(tmp_path: Path, password: str | None) -> None:
    """All of them: in headers, content, directory, end and seal."""
    whole = make_archive(make_appliance(tmp_path / "data"), password).path.read_bytes()
    tail = [len(whole) - 1 - back for back in range(250)]
    for place in tail + [step * (len(whole) - 251) // 749 for step in range(750)]:
        require_refused(tmp_path / "x.zip", changed_at(whole, place), password)
    for step in range(200):
        require_refused(tmp_path / "x.zip", whole[: step * len(whole) // 200], password)


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.long)])
@pytest.mark.parametrize("password", [PASSWORD, None])
def test_changes_under_a_new_seal_are_seen_or_say_the_same(tmp_path: Path, count: int, password: str | None) -> None:
    """Who changes a byte and seals anew, the password known: refused, or the manifest and every member are the same."""
    path = make_archive(make_appliance(tmp_path / "data", recordings=4), password).path
    whole = path.read_bytes()
    key = key_of(password, salt_of(whole))
    with open_archive(path, password, key=key) as archive:
        before = archive.manifest
    end = len(whole) - COMMENT_BYTES
    refused = 0
    for step in range(count):
        changed = changed_at(whole[:end], step * (end - 1) // (count - 1)) + whole[end:]
        write_sealed(tmp_path / "x.zip", changed, key)
        try:
            with open_archive(tmp_path / "x.zip", password, key=key) as archive:
                archive.verify_members(ignore)
                assert archive.manifest == before
        except BackupError:
            refused += 1
    assert refused > count * 0.9
