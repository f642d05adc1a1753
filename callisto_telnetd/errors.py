"""What a user may be told.

Every error that is raised on purpose is a :class:`CallistoError`; ``str(error)`` is one line, safe to print, that says
what is wrong and what is allowed. Foreign exceptions are translated into these where they enter.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from callisto_telnetd.secret_text import words_without_secrets

_QUOTED_LENGTH = 64


def quoted(text: str) -> str:
    """Return ``text`` from outside in quotes: bounded, escaped where it is not printable, without what is secret."""
    [text] = words_without_secrets([text])
    return repr(text if len(text) <= _QUOTED_LENGTH else text[: _QUOTED_LENGTH - 3] + "...")


def named(path: Path) -> str:
    """Return a path of the owner's in quotes, whole: cut short it would not say which file is meant."""
    return repr(str(path))


def listed(words: Sequence[str], conjunction: str = "or") -> str:
    """Return the words as a sentence has them: ``a``, ``a or b``, ``a, b or c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {conjunction} {words[-1]}"


class CallistoError(Exception):
    """Base of every error raised on purpose; ``str(error)`` is one line for the user."""

    exit_code: ClassVar[int] = 1


class UsageError(CallistoError):
    """A line, a word or a value that cannot be taken; nothing has changed."""

    exit_code = 2


class SettingsError(UsageError):
    """A wrong key or value in the settings; names file, key and what is allowed."""


class OwnershipError(UsageError):
    """A file or a folder that names commands may be written to by somebody else; nothing of it was taken."""


class UnknownVariableError(UsageError):
    """No system variable has that name."""

    def __init__(self, name: str, near: Sequence[str] = ()) -> None:
        self.name = name
        hint = f"; did you mean {near[0]}?" if near else ""
        super().__init__(f"no variable named {quoted(name)}{hint}")


class InvalidValueError(UsageError):
    """A value that its variable does not take."""

    def __init__(self, name: str, text: str, allowed: str) -> None:
        self.name = name
        self.text = text
        super().__init__(f"{name}: {quoted(text)} is not {allowed}")


class StaleValueError(UsageError):
    """A variable has become another than the one that was looked at; nothing has changed."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name} has become {quoted(text)} meanwhile; look at it again")


class DeclinedError(CallistoError):
    """The caller was asked, and has answered no; nothing has changed, and nothing is wrong."""

    exit_code = 0


class UnknownChangeError(UsageError):
    """No change of a variable has that number, or there is none to undo."""


class AccountError(UsageError):
    """An account that does not exist, exists already, or may not be removed; a password outside the rule."""


class ClockError(CallistoError):
    """The appliance's clock cannot be read from, moved or synchronised as asked."""


class StoreError(CallistoError):
    """The database could not do what was asked; nothing has changed."""


class DiskFullError(StoreError):
    """There is no room for a change; reading, logging in and deleting still work."""


class DamagedDatabaseError(StoreError):
    """The database file is damaged, or is no database of Callisto's."""


class ForeignDatabaseError(DamagedDatabaseError):
    """The database file is another program's."""


class HeldError(StoreError):
    """The database is being repaired, compacted or checked just now."""


class UnfinishedError(StoreError):
    """A new database is complete and counts already, but is not in its place: the next opening puts it there."""


class RestoreError(StoreError):
    """A backup that cannot be restored here, or no state before to return to; nothing has changed."""


class NewerSchemaError(StoreError):
    """The database was written by a newer version."""


class BackupError(CallistoError):
    """A backup cannot be made, or a file is none that can be used; nothing has changed."""


class BackupPasswordError(BackupError):
    """A backup's password is wrong, missing, or there where none is needed."""


class UnknownBackupError(BackupError):
    """No backup has that name."""

    exit_code = 2


class NewerBackupError(BackupError):
    """A newer version has made the backup."""


class FolderError(CallistoError):
    """The data folder, or a file in it, cannot be used."""


class NoApplianceError(FolderError):
    """The data folder holds no appliance, and the command makes none; nothing was made."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"no appliance in {named(path)}: no callisto.db; 'serve' makes one")


class FolderInUseError(FolderError):
    """Another process owns the data folder."""


class BackupScheduleError(UsageError):
    """There is no such schedule of backups, or what was given makes none; nothing has changed."""


class TargetError(UsageError):
    """What was given as the target of a copy is none; its text is not repeated, for it may hold a password."""


class TransferError(CallistoError):
    """A copy cannot be taken to a target, or got from there; trying again as things are does not help."""


class TransferInterruptedError(TransferError):
    """A transfer ended early for a reason that may pass: connection lost, no answer in time, server busy."""


class LoginDeniedError(TransferError):
    """The target's server does not let this user in."""


class CertificateError(TransferError):
    """The certificate of the target's server is not to be trusted; nothing secret was sent."""


class HostKeyUnknownError(TransferError):
    """No host key of the target's server is known yet; nothing secret was sent."""

    def __init__(self, place: str, fingerprint: str, key_line: str) -> None:
        self.fingerprint = fingerprint
        """As OpenSSH prints it: ``SHA256:...``."""
        self.key_line = key_line
        """The key itself, ``ssh-ed25519 AAAA...``: what is kept once the fingerprint was compared."""
        super().__init__(
            f"the host key of {place} is not known yet: {fingerprint}; compare it with the server's, then accept it"
        )


class HostKeyChangedError(TransferError):
    """The target's server shows another host key than the one that was accepted; nothing secret was sent."""

    def __init__(self, place: str, fingerprint: str, expected: str) -> None:
        self.fingerprint = fingerprint
        self.expected = expected
        super().__init__(
            f"the host key of {place} has changed: it is {fingerprint}, and {expected} was accepted; "
            "another machine may pose as the server; nothing was sent"
        )


class TargetFolderError(TransferError):
    """The target's folder does not exist, is none, or holds too much."""


class NotPermittedError(TransferError):
    """The target's server does not permit that."""


class NoRoomError(TransferError):
    """There is no room for the copy at the target, or here for a download."""


class NameTakenError(TransferError):
    """The target has a file of that name already, with other content; it was not touched."""


class NotListedError(TransferError):
    """The target has taken a file and does not list it: it could be neither found again nor removed in time."""


class ListenError(CallistoError):
    """A listener cannot be opened: address, port, permission or TLS files."""


class PortInUseError(ListenError):
    """Another program, or another server of ours, has the port."""


class TraceError(CallistoError):
    """A trace cannot begin, or a captured file cannot be read."""


class UnknownTraceError(TraceError):
    """No trace, or no file of one, has that name."""

    exit_code = 2


class ServiceError(CallistoError):
    """A process of Callisto's cannot be started, stopped or restarted as asked."""


class UnknownServiceError(UsageError):
    """No service has that name; says which there are."""


class LoginRefusedError(CallistoError):
    """The gatekeeper lets nobody in from there now; says why and for how long."""
