"""A restore that is killed, or fails, at any system call that writes: the old state or the new one, whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from callisto_telnetd.db.media import Media
from callisto_telnetd.db.publish import settle
from callisto_telnetd.db.restore.staging import carry_over, stage
from callisto_telnetd.db.restore.switch import settle_restore, switch, undo_of
from callisto_telnetd.db.restore.unpacked import Unpacked
from tests.db.restoring import RECORDINGS, litter, make_backup, make_folder, state_of, users_of
from tests.db.sweeps import points, require_strace

ROOT = Path(__file__).resolve().parents[2]
CALLS = (
    "write,pwrite64,fsync,fdatasync,rename,unlink,unlinkat,ftruncate,link,linkat,mkdir,rmdir,chmod,sendfile,"
    "copy_file_range,utimensat"
)
RESTORE = """
import json, sys
from pathlib import Path
from callisto_telnetd.db.restore.staging import carry_over, stage
from callisto_telnetd.db.restore.switch import discard, switch, switch_back
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.errors import CallistoError
live = Path(sys.argv[1])
try:
    if sys.argv[2] == "back":
        switch_back(live)
    else:
        stage(live, Unpacked.from_data(json.loads(sys.argv[2])), lambda *told: None)
        carry_over(live, None, {"clock": "{}"})
        switch(live, b"{}")
except CallistoError as error:
    sys.exit(f"{type(error).__name__}: {error}")
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
    stage(live, backup, lambda *_told: None)
    carry_over(live, None, {})
    switch(live, b"{}")
    return live


def require_settled(live: Path, point: str) -> str:
    """Do what the next start does, twice; return which state is there then, ``old`` or ``new``."""
    for _ in range(2):
        settle(live)
        settle_restore(live)
        Media(live.with_name("media")).sweep()
    assert litter(live.parent) == set(), point
    assert live.stat().st_nlink == 1, point
    for path in live.with_name("media").iterdir():
        assert path.read_bytes() == RECORDINGS[path.name], point
    return state_of(live.parent)


def sweep(tmp_path: Path, backup: Unpacked, how: str, step: int, *, back: bool) -> Counter[str]:
    """Stop a restore, or the way back, at every ``step``-th call; return how often each state was there then."""
    require_strace()
    what = "back" if back else json.dumps(backup.as_data())
    whole = restored(tmp_path / "whole", backup) if back else make_folder(tmp_path / "whole")
    code, said, calls = run(whole, what)
    assert code == 0, said
    outcomes: Counter[str] = Counter()
    for place, point in enumerate(points(calls)[::step]):
        live = restored(tmp_path / str(place), backup) if back else make_folder(tmp_path / str(place))
        code, said, _ = run(live, what, point.format(how))
        if how.startswith("error") and code:
            assert "Error: " in said.splitlines()[-1], (point, said)
            assert "Traceback" not in said, (point, said)
        state = require_settled(live, point)
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
