"""What a repair reads: the file that was set aside, or a working copy with its journal or its log played back.

Rules:

* A rollback journal is played back where it is the file's own (``journal.py``), on a copy.
* A write-ahead log is played back where the file's header says that there may be one, and the copy is whole then;
  ours never has one, so any other is not the file's own.
"""

from __future__ import annotations

import contextlib
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from callisto_telnetd.db.copying import copy_file
from callisto_telnetd.db.journal import Verdict, judge
from callisto_telnetd.db.salvage.aside import Aside
from callisto_telnetd.db.schema import FORMAT_VERSIONS_AT, says_write_ahead

_ROLLBACK = b"\x01\x01"  # section 1.3: the format versions of a file without a write-ahead log


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be read, which nobody else opens."""

    file: Path
    journal: str = ""
    """What was done about a rollback journal; blank where there was none to judge."""
    log: str = ""
    """What was done about a write-ahead log, as a sentence; blank where there was none."""
    replaces: bool = False
    """Whether it takes the live file's place also where nothing is wrong with it: what lies beside that one must go."""


def open_source(aside: Aside, copy: Path) -> Source:
    """Return what is to be read of the files that were set aside.

    Args:
        aside: The files; nothing of them is changed.
        copy: The name of a working copy, where one is needed.

    Raises:
        OSError: the copy cannot be made.
        StoreError: the journal cannot be read.
    """
    if not aside.database.exists():  # lost: an empty appliance is what can be had without a backup
        copy.touch(mode=0o600)
        return Source(copy, replaces=aside.log is not None)
    journal = judge(aside.database)
    said = ""
    if journal.verdict not in (Verdict.NONE, Verdict.COLD):
        said = "rolled back"
        if not journal.must_be_rolled_back:
            said = f"set aside, not rolled back: {journal.reason}"
    file, log = aside.database, ""
    if journal.must_be_rolled_back:
        file = _with_journal(aside, copy)
    elif says_write_ahead(aside.database):
        file, log = _with_log(aside, copy)
    if aside.log is not None and not log:
        log = f"{aside.log.name} is another program's: set aside, not applied"
    return Source(file, said, log, replaces=bool(said) or aside.log is not None)


def _with_journal(aside: Aside, copy: Path) -> Path:
    copy_file(aside.database, copy)
    if aside.journal is not None:
        copy_file(aside.journal, Path(f"{copy}-journal"))
    # What SQLite cannot do to the copy, it leaves undone: the check says what came of it.
    with contextlib.suppress(sqlite3.Error), closing(sqlite3.connect(copy, isolation_level=None)) as connection:
        connection.execute("PRAGMA schema_version").fetchall()
    return copy


def _with_log(aside: Aside, copy: Path) -> tuple[Path, str]:
    """Return a copy whose header says nothing of a log, with the log played back where that leaves it whole."""
    copy_file(aside.database, copy)
    if aside.log is not None:
        copy_file(aside.log, Path(f"{copy}-wal"))
        if _play_back(copy):
            return copy, f"{aside.log.name} was played back"
        for suffix in ("-wal", "-shm", "-journal"):
            Path(f"{copy}{suffix}").unlink(missing_ok=True)
        copy_file(aside.database, copy)
    with copy.open("r+b") as stream:
        stream.seek(FORMAT_VERSIONS_AT)
        stream.write(_ROLLBACK)
    return copy, ""


def _play_back(copy: Path) -> bool:
    """Play the log back, and say whether the copy is whole, and without a log."""
    try:
        with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            connection.execute("PRAGMA cell_size_check=ON").fetchall()
            (mode,) = connection.execute("PRAGMA journal_mode=DELETE").fetchone()
            (fault,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error:
        return False
    return bool(mode == "delete" and fault == "ok")
