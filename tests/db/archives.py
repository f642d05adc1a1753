"""Archives for tests: an appliance to back up, and a forger who writes whatever is asked and seals it."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from callisto_telnetd.db.backup.manifest import (
    DATABASE,
    FORMAT_VERSION,
    MANIFEST,
    PACK,
    RECORDINGS,
    Manifest,
    Member,
    Members,
    format_manifest,
)
from callisto_telnetd.db.backup.pack import pack
from callisto_telnetd.db.backup.reader import open_archive
from callisto_telnetd.db.backup.seal import COMMENT_BYTES, comment_before_seal, make_seal
from callisto_telnetd.db.backup.writer import Created, Order, create
from callisto_telnetd.db.backup.zip_records import (
    Directory,
    Entry,
    pack_central,
    pack_end,
    pack_local,
)
from tests.db.plausible import Plausible

PASSWORD = "correct horse battery"
AT = datetime(2026, 11, 23, 10, 15, 0, tzinfo=UTC)
SALT = bytes(range(16))
STAMP = (46 << 9 | 11 << 5 | 23) << 16
HASH = "$argon2id$v=19$m=8192,t=1,p=1$c29tZXNhbHRzYWx0$c29tZWhhc2hzb21laGFzaHNvbWVoYXNo"


def ignore(*_told: object) -> None:
    """Take no notice."""


def make_appliance(folder: Path, recordings: int = 12) -> Order:
    """Fill a data folder with a database, recordings and settings, and return the order for its backup."""
    for part in ("media", "backup"):
        (folder / part).mkdir(parents=True)
    live = folder / "callisto.db"
    Plausible(5, 0.05).fill(live)
    with closing(sqlite3.connect(live)) as connection:
        messages = [row[0] for row in connection.execute("SELECT id FROM message ORDER BY id")]
        connection.execute("DELETE FROM account")
        connection.execute(
            "INSERT INTO account VALUES ('ada', ?, '2026-11-23T10:00:00+00:00', NULL, NULL, NULL)", (HASH,)
        )
        connection.execute("UPDATE mailbox SET pin_hash = ?", (HASH,))
        connection.execute("DELETE FROM greeting")
        contents = [bytes([place]) * (100 + 997 * place) + os.urandom(64) for place in range(recordings)]
        names = [hashlib.sha256(content).hexdigest() for content in contents]
        for place, message in enumerate(messages):
            name = names[place % recordings] if recordings else "0" * 64
            connection.execute("UPDATE message SET recording = ? WHERE id = ?", (name, message))
        connection.commit()
    for name, content in zip(names, contents, strict=True):
        (folder / "media" / name).write_bytes(content)
    settings = folder / "callisto.toml"
    settings.write_text('[services.mail]\nenvironment = { TOKEN = "a secret" }\n')
    return Order(
        live=live,
        media=folder / "media",
        folder=folder / "backup",
        settings=settings,
        password=None,
        product_version="1.0.0",
        edition="ucm",
        host="callisto",
        serial="4711",
        note="before the change",
        at=AT,
    )


def make_archive(order: Order, password: str | None = None) -> Created:
    """Make an archive of an appliance."""
    return create(replace(order, password=password), ignore)


def read_archive(path: Path, password: str | None = None) -> dict[str, bytes]:
    """Return the members of an archive that is right, by name."""
    with open_archive(path, password) as archive:
        return {member.name: b"".join(pieces) for member, pieces in archive.contents()}


def recording_of(content: bytes) -> Member:
    """Return what the manifest says of a recording."""
    name = hashlib.sha256(content).hexdigest()
    return Member(RECORDINGS + name, len(content), name)


def manifest_of(members: Sequence[Member]) -> Manifest:
    """Return a manifest that lists what can be listed."""
    listed = Members(members[0])
    for member in members[1:]:
        listed.add_recording(member.sha256, member.size)
    return Manifest(
        product_version="1.0.0",
        schema=2,
        edition="ucm",
        host="callisto",
        serial="",
        created="2026-11-23T09:15:00Z",
        note="",
        secrets=False,
        left_out=(),
        missing=(),
        missing_count=0,
        members=listed,
    )


def deflated(content: bytes) -> bytes:
    """Return what our archives store of a member that is deflated."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


class Forger:
    """Writes an archive without a password."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.central = bytearray()
        self.count = 0
        self.entries: list[Entry] = []
        self.contents: dict[str, bytes] = {}

    def add(
        self,
        name: str,
        content: bytes,
        *,
        packed: bytes | None = None,
        entry: Callable[[Entry], Entry] = lambda entry: entry,
        local: Callable[[Entry], bytes] = pack_local,
        central: Callable[[Entry], bytes] = pack_central,
    ) -> Forger:
        """Add a member; what is not said is as our archives have it."""
        packed = deflated(content) if packed is None else packed
        right = Entry(name, False, zlib.crc32(content), len(packed), len(content), len(self.body), STAMP)
        made = entry(right)
        self.entries.append(made)
        self.contents[name] = content
        self.body += local(made) + packed
        self.central += central(made)
        self.count += 1
        return self

    def add_manifest(
        self,
        *contents: bytes,
        text: Callable[[bytes], bytes] = lambda text: text,
        format_version: int = FORMAT_VERSION,
    ) -> Forger:
        """Add the manifest of a database, the first of the contents, and recordings, the others."""
        members = [Member(DATABASE, len(contents[0]), hashlib.sha256(contents[0]).hexdigest())]
        members += sorted(map(recording_of, contents[1:]))
        manifest = replace(manifest_of(members), format_version=format_version)
        return self.add(MANIFEST, text(b"".join(format_manifest(manifest))))

    def add_pack(self, *contents: bytes, made: Callable[[bytes], bytes] = lambda packed: packed) -> Forger:
        """Add the pack of these recordings, in this order."""
        pieces = ((recording_of(each), [each]) for each in contents)
        return self.add(PACK, made(b"".join(pack(manifest_of([recording_of(b"")]), pieces))))

    def end(self, directory: Callable[[Directory], Directory] = lambda right: right) -> bytes:
        """Return the whole file without a right seal."""
        right = Directory(len(self.body), len(self.central), self.count)
        comment = comment_before_seal(SALT).ljust(COMMENT_BYTES, b"0")
        return bytes(self.body + self.central) + pack_end(directory(right), comment)

    def write(self, path: Path, directory: Callable[[Directory], Directory] = lambda right: right) -> None:
        """Write the file with its seal."""
        write_sealed(path, self.end(directory))


def salt_of(whole: bytes) -> bytes:
    """Return the salt of an archive's seal."""
    return bytes.fromhex(whole[-64 - len(" seal=") - 32 : -64 - len(" seal=")].decode())


def write_sealed(path: Path, whole: bytes, key: bytes | None = None) -> None:
    """Write a file whose last 64 bytes are its right seal; without a password its key is the salt: anybody can."""
    path.write_bytes(whole)
    with path.open("r+b", buffering=0) as stream:
        seal = make_seal(stream.fileno(), len(whole), key or salt_of(whole), ignore)
        stream.seek(-64, os.SEEK_END)
        stream.write(seal.encode())
