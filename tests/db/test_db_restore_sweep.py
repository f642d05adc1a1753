"""A restore that is killed, or fails, at any system call that writes: the old state or the new one, whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from callisto_telnetd.db.media import Media
from callisto_telnetd.db.publish import settle
from callisto_telnetd.db.restore.recordings import remove_unnamed
from callisto_telnetd.db.restore.staging import carry_over, stage
from callisto_telnetd.db.restore.switch import SETTINGS_FILE, settle_restore, switch, undo_of
from callisto_telnetd.db.restore.unpacked import Unpacked
from tests.db.restoring import (
    AT,
    CHANGE,
    LATER,
    RECORDINGS,
    litter,
    make_backup,
    make_folder,
    make_later_backup,
    state_of,
    users_of,
)
from tests.db.sweeps import points, require_strace

ROOT = Path(__file__).resolve().parents[2]
CALLS = (
    "write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,ftruncate,link,linkat,symlink,mkdir,"
    "mkdirat,rmdir,chmod,fchmod,fchmodat,sendfile,copy_file_range,utimensat,openat,flock"
)
RESTORE = """
import json, sys
from contextlib import suppress
from pathlib import Path
from callisto_telnetd.db.memory import Change
from callisto_telnetd.db.restore.recordings import remove_unnamed
from callisto_telnetd.db.restore.staging import carry_over, stage
from callisto_telnetd.db.restore.switch import discard, switch, switch_back
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.errors import CallistoError, StoreError
live = Path(sys.argv[1])
try:
    if sys.argv[2] == "back":
        switch_back(live)
    else:
        stage(live, Unpacked.from_data(json.loads(sys.argv[2])), lambda *told: None, at="2026-11-23T10:15:00+01:00")
        change = Change("2026-11-23T10:15:00+01:00", "ada", "local", "local", "restored")
        carry_over(live, None, {"clock": "{}"}, change=change, given={})
        switch(live, b"{}")
except CallistoError as error:
    sys.exit(f"{type(error).__name__}: {error}")
finally:
    discard(live)
    with suppress(StoreError):
        remove_unnamed(live)
"""
HOW = ["signal=SIGKILL", "error=ENOSPC", "error=EIO"]


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    """A backup of the new state."""
    return make_backup(tmp_path_factory.mktemp("backup") / "unpacked")


def run(live: Path, what: str, inject: str = "") -> tuple[int, str, list[str]]:
    """Restore, or go back, under strace; return the exit code, what was said, and the calls."""
    log = live.parent.parent / "strace.log"
    words = ["strace", "-f", "-q", "-o", str(log), "-e", f"trace={CALLS}"]
    if inject:
        words += ["-e", f"inject={inject}"]
    child = subprocess.run(
        [*words, sys.executable, "-B", "-c", RESTORE, str(live), what],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    lines = [line for line in log.read_text(errors="replace").splitlines() if "(" in line]
    return child.returncode, child.stderr, lines


def restored(folder: Path, backup: Unpacked) -> Path:
    """Return the database of a folder that was restored to the new state."""
    live = make_folder(folder)
    stage(live, backup, lambda *_told: None, at=AT)
    carry_over(live, None, {}, change=CHANGE, given={})
    switch(live, b"{}")
    return live


def with_undo(folder: Path, backup: Unpacked) -> Path:
    """Return the database of a folder in the old state whose undo is the new one, with its recordings."""
    live = restored(folder, backup)
    past = replace(
        backup,
        database=undo_of(live) / live.name,
        settings=undo_of(live) / SETTINGS_FILE,
        recordings=None,
        is_past=True,
    )
    stage(live, past, lambda *_told: None, at=AT)
    carry_over(live, None, {}, change=CHANGE, given={})
    switch(live, b"{}")
    remove_unnamed(live)
    return live


def require_settled(live: Path, point: str) -> str:
    """Do what the next start does, twice; return which state is there then, ``old`` or ``new``."""
    for _ in range(2):
        settle(live)
        settle_restore(live)
        Media(live.with_name("media")).sweep()
        remove_unnamed(live)
    assert litter(live.parent) == set(), point
    assert live.stat().st_nlink == 1, point
    return state_of(live.parent)


def recordings(live: Path) -> dict[str, bytes]:
    """Return what is in ``media/``."""
    return {path.name: path.read_bytes() for path in live.with_name("media").iterdir()}


def stops(calls: list[str], live: Path) -> list[str]:
    """Return where the calls on a folder stand; Python opens files of its own before, and strace counts them, too."""
    return points(calls, lambda line: "openat(" not in line or str(live.parent) in line)


def sweep(tmp_path: Path, backup: Unpacked, how: str, step: int, *, back: bool) -> Counter[str]:
    """Stop a restore, or the way back, at every ``step``-th call; return how often each state was there then."""
    require_strace()
    what = "back" if back else json.dumps(backup.as_data())
    whole = restored(tmp_path / "whole", backup) if back else make_folder(tmp_path / "whole")
    code, said, calls = run(whole, what)
    assert code == 0, said
    outcomes: Counter[str] = Counter()
    for place, point in enumerate(stops(calls, whole)[::step]):
        live = restored(tmp_path / str(place), backup) if back else make_folder(tmp_path / str(place))
        code, said, _ = run(live, what, point.format(how))
        if how.startswith("error") and code:
            assert "Error: " in said.splitlines()[-1], (point, said)
            assert "Traceback" not in said, (point, said)
        state = require_settled(live, point)
        assert recordings(live) == (RECORDINGS if state == "new" else {}), point
        if "nothing was changed" in said:
            assert state == ("new" if back else "old"), (point, said)
        undo = undo_of(live) / "callisto.db"
        assert undo.exists() == (state == "new"), point
        assert not undo.exists() or users_of(undo) == ["old"], point
        outcomes[state] += 1
    return outcomes


@pytest.mark.parametrize("how", HOW[:2])
def test_a_restore_is_stopped_at_some_calls(tmp_path: Path, backup: Unpacked, how: str) -> None:
    """Killed, or without room, at a few of its calls, a restore leaves one state whole."""
    assert sum(sweep(tmp_path, backup, how, 23, back=False).values()) > 2


@pytest.mark.long
@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("how", HOW)
def test_a_restore_is_stopped_at_every_call(tmp_path: Path, backup: Unpacked, how: str, back: bool) -> None:
    """The same at every call, of the restore and of the way back: both states are seen."""
    outcomes = sweep(tmp_path, backup, how, 1, back=back)
    print(how, back, outcomes)

    assert outcomes["old"] > 0
    assert outcomes["new"] > 0


@pytest.mark.long
@pytest.mark.parametrize("how", HOW)
def test_a_second_restore_is_stopped_at_every_other_call(
    tmp_path: Path, backup: Unpacked, tmp_path_factory: pytest.TempPathFactory, how: str
) -> None:
    """Recordings of the undo's state stay until it has given way, and then go with it."""
    require_strace()
    later = make_later_backup(tmp_path_factory.mktemp("later") / "unpacked")
    what = json.dumps(later.as_data())
    whole = with_undo(tmp_path / "whole", backup)
    code, said, calls = run(whole, what)
    assert code == 0, said
    assert recordings(whole) == LATER
    outcomes: Counter[str] = Counter()
    for place, point in enumerate(stops(calls, whole)[::2]):
        live = with_undo(tmp_path / str(place), backup)
        assert recordings(live) == RECORDINGS
        _, said, _ = run(live, what, point.format(how))
        assert "Traceback" not in said, (point, said)
        state = require_settled(live, point)
        there, then = recordings(live), LATER if state == "new" else RECORDINGS
        assert users_of(undo_of(live) / live.name) == (["old"] if state == "new" else ["new"]), point
        if there != then:  # the state that gave way could not be read: nobody knows what it named
            outcomes["unread"] += 1
            assert (state, there) == ("new", {**RECORDINGS, **LATER}), point
            assert point.startswith("openat"), point
            assert how.startswith("error"), point
        outcomes[state] += 1
    print(how, outcomes)
    assert min(outcomes["old"], outcomes["new"]) > 0
    assert outcomes["unread"] <= 2
