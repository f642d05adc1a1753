"""What a command line takes from standard input and from files of its user: passwords, and texts to import."""

from __future__ import annotations

import sys
from pathlib import Path

from callisto_telnetd.errors import UsageError, quoted
from callisto_telnetd.named_file import in_time, open_regular
from callisto_telnetd.secret_text import BOM

_MAX_TEXT = 64 << 10
_MAX_SECRET = 4096


def read_line() -> str:
    """Return the next line of standard input, without its end and without a byte order mark before it.

    Raises:
        UsageError: it is not UTF-8.
    """
    line = sys.stdin.buffer.readline(_MAX_SECRET).removeprefix(BOM).rstrip(b"\r\n")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError("the password on standard input is not UTF-8 text; nothing was changed") from None


def read_password(flag: str) -> str:
    """Return a password that is there: an empty file must not make a backup that nothing protects.

    Raises:
        UsageError: none is there, or it is not UTF-8.
    """
    if password := read_line():
        return password
    raise UsageError(f"--{flag}-stdin: no password on standard input; nothing was changed")


def read_text(name: str) -> str:
    """Return the text of a file, or of standard input where the name is ``-``; at most 64 KiB.

    Raises:
        UsageError: it cannot be read, is larger, or is not UTF-8.
    """
    try:
        content = (
            sys.stdin.buffer.read(_MAX_TEXT + 1) if name == "-" else in_time(Path(name), lambda: _read_file(Path(name)))
        )
        if len(content) > _MAX_TEXT:
            raise UsageError(f"{quoted(name)} is larger than {_MAX_TEXT // 1024} KiB")
        return content.removeprefix(BOM).decode("utf-8")
    except OSError as error:
        raise UsageError(f"{quoted(name)} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{quoted(name)} is not UTF-8 text") from None


def _read_file(path: Path) -> bytes:
    with open_regular(path) as stream:
        return stream.read(_MAX_TEXT + 1)
