"""What the garbage collector is spared."""

from __future__ import annotations

import gc
import importlib
import signal
import sys
from pathlib import Path

import pytest

from callisto_telnetd.interpreter import free_signals, unavailable, uncollected


def test_the_collector_never_looks_at_what_was_imported() -> None:
    """Nothing is collected within; what is there then is frozen, and the collector works on."""
    before = gc.get_freeze_count()
    try:
        with uncollected():
            assert not gc.isenabled()

        assert gc.isenabled()
        assert gc.get_freeze_count() > before
    finally:
        gc.unfreeze()


def test_the_collector_works_on_after_an_import_that_fails() -> None:
    """An error within leaves no process without its collector."""
    try:
        with pytest.raises(ImportError), uncollected():
            raise ImportError

        assert gc.isenabled()
    finally:
        gc.unfreeze()


def test_a_module_is_not_found_within(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who imports it there goes without; it is found afterwards, and one that was imported before stays what it is."""
    (tmp_path / "practice_module.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with unavailable("practice_module"), pytest.raises(ImportError):
        importlib.import_module("practice_module")
    found = importlib.import_module("practice_module")
    with unavailable("practice_module"):
        assert importlib.import_module("practice_module") is found

    assert sys.modules.pop("practice_module") is found


def test_the_signals_that_stop_a_job_stay_ignored() -> None:
    """Caught, SIGTTOU would have the system try a write to a terminal for ever; any other is caught for the others."""
    numbers = (signal.SIGTTOU, signal.SIGTTIN, signal.SIGTSTP, signal.SIGUSR1)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        free_signals()

        assert [signal.getsignal(number) is signal.SIG_IGN for number in numbers] == [True, True, True, False]
    finally:
        for number, action in before.items():
            signal.signal(number, action)
