"""A child that is killed, or whose system call fails, at the n-th call on a folder: strace as the hand that does it."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from callisto_telnetd.db.publish import settle

ROOT = Path(__file__).resolve().parents[2]
CALLS = "openat,open,write,pwrite64,fsync,fdatasync,rename,unlink,ftruncate,chmod,fchmod,close,lseek,newfstatat,pread64"


def require_strace() -> None:
    """Skip where strace cannot inject."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    tried = subprocess.run(
        ["strace", "-q", "-o", "/dev/null", "-e", "inject=none:error=EIO", "true"], capture_output=True, check=False
    )
    if tried.returncode:
        pytest.skip("strace may not trace, or cannot inject")


def _paths(folder: Path) -> list[str]:
    """Return strace's words for the calls on a folder and on every name that a database may have in it."""
    names = ["callisto.db" + end for end in ("", "-journal", ".making", ".making-journal", ".new", ".new-journal")]
    return [word for path in (folder, *(folder / name for name in names)) for word in ("-P", str(path))]


def run_traced(folder: Path, script: str, arguments: Sequence[str], inject: str = "") -> tuple[int, list[str]]:
    """Run a Python script under strace; return its exit code, and the calls on the folder's databases as lines.

    Args:
        folder: Whose calls are traced.
        script: Python, run in a child with the arguments.
        arguments: What the script finds in ``sys.argv``.
        inject: What is done to them, as in ``CALLS:signal=SIGKILL:when=3``; nothing where it is blank.
    """
    log = folder.parent / "strace.log"
    words = ["strace", "-f", "-q", "-o", str(log), *_paths(folder), "-e", f"trace={CALLS}"]
    if inject:
        words += ["-e", f"inject={inject}"]
    child = subprocess.run(
        [*words, sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    lines = [line for line in log.read_text(errors="replace").splitlines() if "(" in line]
    return child.returncode, lines


def run_under(words: Sequence[str], log: Path, script: str, *arguments: str) -> tuple[int, str, list[str]]:
    """Run a Python script under strace, started with these words; return its exit code, what it said, and the calls."""
    child = subprocess.run(
        [*words, sys.executable, "-B", "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return (
        child.returncode,
        child.stderr,
        [line for line in log.read_text(errors="replace").splitlines() if "(" in line],
    )


def points(lines: Sequence[str], wanted: Callable[[str], bool] = lambda _line: True) -> list[str]:
    """Return where each wanted call stands, as in ``fsync:{}:when=2``: strace counts by kind of call and thread.

    Of two threads the one that comes to the place first is met there; so a place is named once.
    """
    counts: Counter[tuple[str, str]] = Counter()
    found: dict[str, None] = {}
    for line in lines:
        if match := re.match(r"(\d+) +(\w+)\(", line):
            counts[match[1], match[2]] += 1
            if wanted(line):
                found.setdefault(f"{match[2]}:{{}}:when={counts[match[1], match[2]]}")
    return list(found)


def rows_of(file: Path) -> dict[str, int]:
    """Return how many rows each table has, of a database that is sound."""
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in names}


def settled(folder: Path) -> Path:
    """Settle the folder as the next start does, and return its one database; nothing else is left."""
    live = folder / "callisto.db"
    settle(live)
    names = {path.name for path in folder.iterdir() if path.name.startswith("callisto.db")}
    assert names - {"callisto.db-journal"} == {"callisto.db"}, names
    return live
