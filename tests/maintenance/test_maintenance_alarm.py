from __future__ import annotations

import io
import os
from pathlib import Path

import psutil
import pytest

from callisto_telnetd.clock import Clock
from callisto_telnetd.maintenance.alarm import Alarm
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import Log, open_log
from tests.conftest import NO_SIGNALS, SIGNALS_OF, signals_in


@pytest.fixture
def logged() -> io.StringIO:
    """What is logged."""
    return io.StringIO()


@pytest.fixture
def log(logged: io.StringIO) -> Log:
    """A log."""
    return open_log(Hub(Clock()), "error", stream=logged)


async def test_the_command_is_told_what_has_failed(
    log: Log, logged: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name and reason stand in its environment, and no setting of the server's."""
    monkeypatch.setenv("CALLISTO_ADMIN_PASSWORD", "Secret-123")
    script = 'env | grep -E "^(BACKUP|CALLISTO)" | sort > "$0"'
    await Alarm(("sh", "-c", script, str(tmp_path / "told")), log).raise_for("nightly", "no route; $(false)")

    assert (tmp_path / "told").read_text() == "BACKUP_REASON=no route; $(false)\nBACKUP_SCHEDULE=nightly\n"
    assert logged.getvalue() == ""


@pytest.mark.usefixtures("held_signals")
async def test_the_command_begins_with_no_signal_ignored_or_blocked(log: Log, tmp_path: Path) -> None:
    """Its signals are the usual ones, whatever the server was started with."""
    script = f'{" ".join(SIGNALS_OF)} > "$0"'
    await Alarm(("sh", "-c", script, str(tmp_path / "told")), log).raise_for("nightly", "no route")

    assert signals_in((tmp_path / "told").read_text().splitlines()) == NO_SIGNALS


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("/no/such/program",), "on_failure cannot be run"),
        (("sh", "-c", "exit 3"), "on_failure failed"),
        (("sh", "-c", "sleep 1000 & sleep 1000"), "on_failure was ended"),
    ],
)
async def test_a_command_that_fails_harms_nothing(
    log: Log, logged: io.StringIO, words: tuple[str, ...], said: str
) -> None:
    """One that is not there, fails or never ends is logged, and nothing of it is left."""
    before = set(psutil.Process().children(recursive=True))
    await Alarm(words, log, limit_s=0.2).raise_for("nightly", "no route")

    assert said in logged.getvalue()
    assert set(psutil.Process().children(recursive=True)) <= before


async def test_without_a_command_nothing_is_run(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has set none has none."""
    monkeypatch.setattr(os, "posix_spawn", None)
    monkeypatch.setattr("asyncio.create_subprocess_exec", None)
    await Alarm((), log).raise_for("nightly", "no route")
