"""Files that are named at the command line get their whole paths: a server has a folder of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_READING = {"verify", "plan", "restore", "fill"}
_FILE_OPTIONS = {"key", "ca"}


def with_whole_paths(words: Sequence[str], backups: Path) -> list[str]:
    """Return the words of a command about backups with whole paths.

    Args:
        words: What stands behind ``backup``, or behind ``repair``.
        backups: The folder of backups: a name that a file there has means that file.
    """
    whole: list[str] = []
    wants_file = bool(words) and words[0].lower() in _READING
    is_value = False
    for place, word in enumerate(words):
        key, mark, value = word.partition("=")
        if is_value:
            whole.append(_whole(word))
        elif mark and key.lower().removeprefix("--") in _FILE_OPTIONS and value:
            whole.append(f"{key}={_whole(value)}")
        elif place and wants_file and _is_file(word, backups):
            whole.append(_whole(word))
            wants_file = False
        else:
            whole.append(word)
        is_value = not mark and not is_value and word.startswith("--") and word[2:].lower() in _FILE_OPTIONS
    return whole


def _is_file(word: str, backups: Path) -> bool:
    """Whether a word names a file from where the caller stands."""
    if "://" in word or word.startswith("-"):
        return False
    return "/" in word or (Path(word).is_file() and not (backups / word).is_file())


def _whole(path: str) -> str:
    return str(Path(path).absolute())
