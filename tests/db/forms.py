"""The forms that a database of ours can be given by other programs, and files of each: SQLite itself writes them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

PAGE_SIZES = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
ENCODINGS = ("UTF-8", "UTF-16le", "UTF-16be")


@dataclass(frozen=True, slots=True)
class Form:
    """How a file is made; every one that SQLite reads."""

    page_bytes: int = 4096
    reserved_bytes: int = 0
    encoding: str = "UTF-8"
    auto_vacuum: int = 0
    """0: none, 1: full, 2: incremental."""
    secure_delete: bool = True
    schema_format: int = 4
    write_ahead: bool = False
    """Whether the header says that there may be a log; none is left."""

    def begin(self, file: Path) -> sqlite3.Connection:
        """Return a connection to a new and empty database of that form."""
        with closing(self._connect(file)) as connection:
            connection.execute("PRAGMA user_version=1")  # now there is a page
        header = bytearray(file.read_bytes())
        header[20] = self.reserved_bytes
        header[105:107] = (self.page_bytes - self.reserved_bytes & 0xFFFF).to_bytes(2, "big")
        header[44:48] = self.schema_format.to_bytes(4, "big")
        header[56:60] = (ENCODINGS.index(self.encoding) + 1).to_bytes(4, "big")
        file.write_bytes(header)
        return self._connect(file)

    def _connect(self, file: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(file, isolation_level=None)
        for pragma in (
            f"page_size={self.page_bytes}",
            f"encoding='{self.encoding}'",
            f"auto_vacuum={self.auto_vacuum}",
            f"secure_delete={int(self.secure_delete)}",
            "synchronous=OFF",
            "journal_mode=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        return connection

    def finish(self, file: Path) -> None:
        """Give a closed file what no connection can."""
        if self.write_ahead:
            with file.open("r+b") as opened:
                opened.seek(18)
                opened.write(b"\x02\x02")


SIZES = {str(page_bytes): Form(page_bytes) for page_bytes in PAGE_SIZES}
OTHERS = {
    "reserved": Form(4096, reserved_bytes=32),
    "reserved-512": Form(512, reserved_bytes=32),
    "reserved-65536": Form(65536, reserved_bytes=255),
    "utf-16le": Form(encoding="UTF-16le"),
    "utf-16be-1024": Form(1024, encoding="UTF-16be"),
    "auto-vacuum": Form(auto_vacuum=1),
    "incremental-512": Form(512, auto_vacuum=2),
    "not-wiped": Form(secure_delete=False),
    "not-wiped-512": Form(512, secure_delete=False, auto_vacuum=2),
    "format-1": Form(schema_format=1),
    "write-ahead": Form(8192, write_ahead=True),
}
FORMS = SIZES | OTHERS
