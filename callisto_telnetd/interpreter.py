"""This interpreter: how a process of our own is started with it, and what its garbage collector is spared.

A process of our own has this interpreter, this package, and nothing from the folder it is started in.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

_PACKAGE_PARENT = str(Path(__file__).resolve().parent.parent)


def module_command(module: str, *arguments: str) -> Sequence[str]:
    """Return the words that run a module of ours; :func:`module_environment` has to go with them."""
    return (sys.executable, "-P", "-m", module, *arguments)  # -P: the working folder is no place to import from


def module_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment with the place of this very package first, however the server has found it."""
    before = environment.get("PYTHONPATH")
    return {**environment, "PYTHONPATH": os.pathsep.join((_PACKAGE_PARENT, before) if before else (_PACKAGE_PARENT,))}


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector from what is made within, for good: for imports, which leave no garbage.

    Looking for it would take a tenth of a server's start, and at each full collection keep its loop for some 50 ms.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
