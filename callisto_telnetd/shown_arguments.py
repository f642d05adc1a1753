"""What ``ps`` shows of this process: a password that somebody has typed at the command line is taken out of it.

The words of a process lie in its memory, where every user of the machine may read them (proc(5), ``cmdline``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from callisto_telnetd.secret_text import words_without_secrets

_ARG_START, _ENV_START, _ENV_END = 45, 47, 48
"""The places in ``/proc/self/stat`` behind the program's name: fields 48, 50 and 51, from the third on."""
_TAKE_NO_MORE = (("user", "add"), ("user", "passwd"))
"""Behind these and a name, a word can only be a password."""


def hide_secrets() -> None:
    """Blacken the secrets among this process's words, as early as it can; what the system does not allow stays."""
    words = sys.argv[1:]
    kept = [word.replace("…", "*") for word in words_without_secrets(words)]
    for at in range(len(words)):
        if tuple(words[at : at + 2]) in _TAKE_NO_MORE:
            kept[at + 3 :] = [word if word.startswith("-") else "*" for word in kept[at + 3 :]]
    if kept != words:
        with suppress(OSError, ValueError, IndexError):
            _overwrite(kept)


def _overwrite(words: Sequence[str]) -> None:
    """Put the words in the place of this process's last ones, none of which is shorter."""
    before = Path("/proc/self/cmdline").read_bytes().split(b"\0")[:-1]
    place = _addresses()[_ARG_START]
    head = before[: len(before) - len(words)]
    after = [*head, *(word.encode("utf-8", "surrogateescape") for word in words)]
    size = sum(len(word) + 1 for word in before)
    data = b"\0".join(after) + b"\0"
    if len(data) > size or not place:
        raise ValueError("the words have become longer, or nobody tells where they are")
    import ctypes  # noqa: PLC0415 - few commands bring a password

    # Not through /proc/self/mem, which a Python with capabilities of its file may not open.
    ctypes.memmove(place, data.ljust(size, b"\0"), size)


def take_variable(name: str) -> str:
    """Return a variable of the environment, blank where there is none; no child inherits it, nor does /proc show it."""
    value = os.environ.pop(name, "")
    with suppress(OSError, ValueError, IndexError):
        if value:
            _wipe(f"\0{name}=".encode())
    return value


def _wipe(beginning: bytes) -> None:
    """Put stars in the place of a variable's value in the memory that this process was started with."""
    import ctypes  # noqa: PLC0415 - few starts are given a password

    addresses = _addresses()
    start, end = addresses[_ENV_START], addresses[_ENV_END]
    block = b"\0" + ctypes.string_at(start, end - start) if start else b""
    if (found := block.find(beginning)) >= 0:
        at = found + len(beginning)
        ctypes.memset(start + at - 1, ord("*"), block.index(b"\0", at) - at)


def _addresses() -> list[int]:
    """Return what the kernel says of this process behind its name and its state, as numbers; the state is 0."""
    return [0, *map(int, Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[1:])]
