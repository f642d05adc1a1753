"""What ``ps`` shows of this process: a password that somebody has typed at the command line is taken out of it.

The words of a process lie in its memory, where every user of the machine may read them (proc(5), ``cmdline``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from callisto_telnetd.secret_text import words_without_secrets

_ARG_START = 45
"""The place of ``arg_start`` in ``/proc/self/stat`` behind the program's name: field 48, from the third on."""
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
    place = int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[_ARG_START])
    head = before[: len(before) - len(words)]
    after = [*head, *(word.encode("utf-8", "surrogateescape") for word in words)]
    size = sum(len(word) + 1 for word in before)
    data = b"\0".join(after) + b"\0"
    if len(data) > size:
        raise ValueError("the words have become longer")
    with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
        memory.seek(place)
        memory.write(data.ljust(size, b"\0"))
