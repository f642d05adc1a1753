"""What the garbage collector is spared."""

from __future__ import annotations

import gc

import pytest

from callisto_telnetd.interpreter import uncollected


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
