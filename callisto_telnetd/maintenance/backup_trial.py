"""The trial of a backup's target: a small file is sent, read back, listed, and removed again."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from callisto_telnetd.db.backup.folder import host_of_name
from callisto_telnetd.errors import FolderError, NotListedError, TransferError, named
from callisto_telnetd.transports.credentials import Credentials
from callisto_telnetd.transports.target import Target
from callisto_telnetd.transports.transport import open_transport
from callisto_telnetd.work import in_thread

_BYTES = 4096
_BEGINNING = ".making-trial-"


async def prove(target: Target, credentials: Credentials, folder: Path, host: str) -> None:
    """Prove a target from end to end.

    Args:
        target: What is proved.
        credentials: How to log in there.
        folder: Where the small file is made.
        host: The appliance's name, which stands in the file's.

    Raises:
        HostKeyUnknownError: an SFTP server's key was never accepted; has the fingerprint.
        TransferError: why it would not work.
        FolderError: the small file cannot be made.
    """
    once = secrets.token_hex(4)
    trial = folder / f"{_BEGINNING}{once}.txt"
    remote = f"callisto-{host_of_name(host)}-trial-{once}.txt"
    try:
        await in_thread(_write, trial)
        async with open_transport(target, credentials) as transport:
            try:
                await transport.upload(trial, remote, _ignore)
            except NotListedError:
                with suppress(TransferError):
                    await transport.delete(remote)
                raise
            await transport.delete(remote)
    finally:
        with suppress(OSError):
            await in_thread(trial.unlink, missing_ok=True)


def remove_trials(folder: Path) -> None:
    """Remove the small files of a killed server's trials."""
    with suppress(OSError):
        for path in folder.glob(f"{_BEGINNING}*.txt"):
            path.unlink(missing_ok=True)


def _write(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(b"A trial of a backup's target; it may be removed.\n" + secrets.token_bytes(_BYTES))
    except OSError as error:
        raise FolderError(f"{named(path)} cannot be written: {error.strerror}; nothing was sent") from None


def _ignore(_step: str, _done: int, _of: int) -> None:
    """Take no notice."""
