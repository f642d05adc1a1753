"""SSH connections through asyncssh: trust in the server, log-in, and what goes wrong with either.

Rules:

* Nothing of the account that the server runs as is used: no agent, no ``~/.ssh``, no known hosts, no default keys.
* The host key is judged while keys are exchanged, before any log-in begins: an unknown or a changed key has seen
  neither user name nor password. The pinned key's kind is asked for first, so that a server with several keys shows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncssh
from asyncssh.constants import (
    DISC_BY_APPLICATION,
    DISC_CONNECTION_LOST,
    DISC_SERVICE_NOT_AVAILABLE,
    DISC_TOO_MANY_CONNECTIONS,
    OPEN_CONNECT_FAILED,
    OPEN_RESOURCE_SHORTAGE,
)
from asyncssh.public_key import get_default_public_key_algs
from pydantic import SecretStr

from callisto_telnetd.errors import (
    HostKeyChangedError,
    HostKeyUnknownError,
    LoginDeniedError,
    NoRoomError,
    NotPermittedError,
    OwnershipError,
    TargetFolderError,
    TransferError,
    TransferInterruptedError,
    named,
    quoted,
)
from callisto_telnetd.named_file import read_regular
from callisto_telnetd.ownership import require_own_file
from callisto_telnetd.secret_text import BOM
from callisto_telnetd.transports.credentials import Credentials
from callisto_telnetd.transports.daemon import look
from callisto_telnetd.transports.dialling import dial
from callisto_telnetd.transports.target import Target
from callisto_telnetd.transports.wire import Patience, within

_MAX_KEY_FILE_BYTES = 64 * 1024
_BUSY = frozenset({DISC_BY_APPLICATION, DISC_CONNECTION_LOST, DISC_SERVICE_NOT_AVAILABLE, DISC_TOO_MANY_CONNECTIONS})


@asynccontextmanager
async def open_ssh(
    target: Target, credentials: Credentials, patience: Patience
) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Connect, judge the host key, and log in.

    Raises:
        HostKeyUnknownError, HostKeyChangedError: as the head of this module has it.
        LoginDeniedError: user, password or key are refused.
        TransferError: anything else.
    """
    pinned = _parse_pinned(credentials.host_key)
    key = None if credentials.key_file is None else await _load_key(credentials.key_file, credentials.passphrase)
    connection = await _connect(target, credentials, patience, _HostKeyGuard(target.place, pinned), key)
    try:
        yield connection
    finally:
        connection.abort()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience.tidy_s):
                await connection.wait_closed()


class _HostKeyGuard(asyncssh.SSHClient):
    """Judges the server's key while keys are exchanged."""

    def __init__(self, place: str, pinned: asyncssh.SSHKey | None) -> None:
        self._place = place
        self._pinned = pinned
        self.refusal: TransferError | None = None
        self.has_begun = False
        """Whether the socket is asyncssh's to close."""

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """Note that the connection is in use."""
        self.has_begun = True

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        """Take the pinned key, and nothing else."""
        if self._pinned is None:
            line = key.export_public_key("openssh").decode("ascii").strip()
            self.refusal = HostKeyUnknownError(self._place, key.get_fingerprint(), line)
        elif key != self._pinned:
            self.refusal = HostKeyChangedError(self._place, key.get_fingerprint(), self._pinned.get_fingerprint())
        return self.refusal is None

    def algorithms(self) -> list[str]:
        """Return the kinds of host keys to ask for, the pinned key's first; certificates are not among them."""
        first = [] if self._pinned is None else list(self._pinned.sig_algorithms)
        kinds = dict.fromkeys([*first, *get_default_public_key_algs()])
        return [kind.decode("ascii") for kind in kinds]


async def _connect(
    target: Target,
    credentials: Credentials,
    patience: Patience,
    guard: _HostKeyGuard,
    key: asyncssh.SSHKeyPair | asyncssh.SSHKey | None,
) -> asyncssh.SSHClientConnection:
    password = None if key is not None or credentials.password is None else credentials.password.get_secret_value()
    connection = await dial(target.host, target.port, patience.connect_s, target.place)
    try:
        async with (
            within(patience.login_s, target.place, "logging in"),
            translated(target.place, "logging in", greeting=True),
        ):
            return await asyncssh.connect(
                target.host,
                target.port,
                sock=connection,
                config=None,
                client_factory=lambda: guard,
                # Empty, and yet true: None would switch the check off, and a false value read the user's file.
                known_hosts=([], [], []),
                server_host_key_algs=guard.algorithms(),
                x509_trusted_certs=None,
                username=target.user,
                client_username=target.user,
                password=password,
                client_keys=None if key is None else [key],
                agent_path=None,
                agent_forwarding=False,
                gss_host=None,
                gss_kex=False,
                gss_auth=False,
                host_based_auth=False,
                compression_algs=None,
                login_timeout=patience.login_s,
            )
    except TransferError:
        if guard.refusal is not None:
            raise guard.refusal from None
        raise
    finally:
        if not guard.has_begun:
            connection.close()


def _parse_pinned(line: str | None) -> asyncssh.SSHKey | None:
    if line is None:
        return None
    try:
        return asyncssh.import_public_key(line)
    except asyncssh.KeyImportError:
        raise TransferError("the host key that was accepted is no public key; accept it anew") from None


async def _load_key(path: Path, secret: SecretStr | None) -> asyncssh.SSHKey:
    """Return the private key of a file, as OpenSSH or PEM have it.

    Raises:
        TransferError: there is none, or none that this passphrase opens.
    """
    passphrase = None if secret is None else secret.get_secret_value()
    try:
        text = await look(path, lambda: _read_own(path))
    except OwnershipError as error:
        raise TransferError(str(error)) from None
    except OSError as error:
        raise TransferError(f"the private key {named(path)} cannot be read: {error.strerror}") from None
    try:
        return await asyncio.to_thread(asyncssh.import_private_key, text.removeprefix(BOM), passphrase)
    except asyncssh.KeyEncryptionError:
        raise TransferError(f"the passphrase of the private key {named(path)} is wrong") from None
    except (asyncssh.KeyImportError, ValueError):
        how = "without a passphrase" if passphrase is None else "with this passphrase"
        advice = "give a private key as ssh-keygen makes it"
        raise TransferError(f"{named(path)} cannot be used {how}: {advice}") from None


def _read_own(path: Path) -> bytes:
    """Read a key that nobody but its owner may replace: root works with the keys of a server's user, too."""
    require_own_file(path, "private key", (path.stat().st_uid,))
    return read_regular(path, _MAX_KEY_FILE_BYTES)


@asynccontextmanager
async def translated(place: str, doing: str, *, folder: bool = False, greeting: bool = False) -> AsyncIterator[None]:
    """Raise our errors for asyncssh's and the system's.

    Args:
        place: where, as messages name it.
        doing: what was going on.
        folder: whether it is about the target's folder.
        greeting: whether no session stands yet.
    """
    try:
        yield
    except asyncssh.SFTPError as error:
        raise _of_sftp(error, place, doing, folder=folder) from None
    except asyncssh.PermissionDenied:
        raise LoginDeniedError(
            f"{place} does not let this user in: check user, password or key, there and here"
        ) from None
    except asyncssh.DisconnectError as error:
        reason = f"{place}: {quoted(error.reason)} ({doing})"
        if error.code in _BUSY or not greeting:
            raise TransferInterruptedError(reason) from None
        raise TransferError(f"{reason}; is that an SSH server of today?") from None
    except asyncssh.ChannelOpenError as error:
        reason = f"{place} opens no SFTP session: {quoted(error.reason)}"
        if error.code in (OPEN_CONNECT_FAILED, OPEN_RESOURCE_SHORTAGE):  # the connection has ended, or it is busy
            raise TransferInterruptedError(reason) from None
        raise TransferError(f"{reason}; has it SFTP for this user?") from None
    except (OSError, EOFError) as error:  # socket.gaierror and asyncio's incomplete reads are among them
        reason = getattr(error, "strerror", None) or "the connection was lost"
        raise TransferInterruptedError(f"{place}: {reason} ({doing})") from None
    except (ValueError, asyncssh.Error) as error:  # what cannot be decoded
        raise TransferError(f"{place} answers what is no SSH: {quoted(str(error))} ({doing})") from None


def _of_sftp(error: asyncssh.SFTPError, place: str, doing: str, *, folder: bool) -> TransferError:
    reason = f"{place}: {quoted(error.reason)} ({doing})"
    match error:
        case asyncssh.SFTPConnectionLost() | asyncssh.SFTPNoConnection():
            return TransferInterruptedError(reason)
        case asyncssh.SFTPNoSuchFile() | asyncssh.SFTPNoSuchPath() | asyncssh.SFTPNotADirectory():
            what = "the target's folder is not there: make it, or name another" if folder else "it is not there"
            return TargetFolderError(f"{reason}; {what}")
        case asyncssh.SFTPPermissionDenied() | asyncssh.SFTPWriteProtect():
            return NotPermittedError(f"{reason}; give the user leave to write there")
        case asyncssh.SFTPNoSpaceOnFilesystem() | asyncssh.SFTPQuotaExceeded():
            return NoRoomError(f"{reason}; make room there")
        case _:
            return TransferError(reason)
