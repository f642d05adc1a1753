"""The servers that the world runs, OpenSSH, vsftpd and ProFTPD, each as a test's own process.

Debian lets nobody install the latter two side by side, so ``.ci/run`` unpacks them into ``.servers`` of the checkout.
Nothing of /etc counts: users are a file of the test's (vsftpd, which knows PAM alone, lets its anonymous user in with
one of a list of passwords). All want to be root; the latter two then become ``daemon``, closed in with its folder.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final, Protocol

import asyncssh
import pytest
from pydantic import SecretStr

from callisto_telnetd.transports.credentials import Credentials
from callisto_telnetd.transports.target import Scheme, Target
from tests.transports.authorities import Authority
from tests.transports.sites import (
    PASSWORD,
    RELAY_ADDRESS,
    SERVER_ADDRESS,
    USER,
    Site,
    family_of,
    free_ports,
    ftp_site,
    key_line,
)

_SSHD = Path("/usr/sbin/sshd")
_SFTP_SERVER = Path("/usr/lib/openssh/sftp-server")
_UNPACKED = Path(__file__).resolve().parents[2] / ".servers"
_DAEMON = 1
"""The one user but root that every Debian has, with a home that is there: vsftpd goes there first."""
_ANONYMOUS = "ftp"
_PASSWORD_HASH = "$6$callisto$2nZdNSKz676Py/W2EktUyoSKAi6/UbreuYPNoJ5ilyaIoFF.L0Bkiejmktpr2W1ZXPeJEMRAfC3H5y2mZ0dfg0"
"""Of ``PASSWORD``, by ``openssl passwd -6``."""
_DATA_PORTS = 16


@contextmanager
def openssh_site(root: Path, options: str = "", *, address: str = SERVER_ADDRESS) -> Iterator[Site]:
    """Run Debian's sshd with its sftp-server; its user is the one that runs the test, and logs in with a key."""
    folder = root / "files"
    folder.mkdir(exist_ok=True)
    for name in ("host", "user"):
        key = asyncssh.generate_private_key("ssh-ed25519")
        key.write_private_key(root / name)
        (root / name).chmod(0o600)
        key.write_public_key(root / f"{name}.pub")
    (port,) = free_ports(address, 1)
    config = root / "sshd_config"
    config.write_text(
        f"ListenAddress [{address}]:{port}\nHostKey {root / 'host'}\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {root / 'user.pub'}\nPermitRootLogin yes\nPasswordAuthentication no\n"
        f"MaxStartups 100\nSubsystem sftp {_SFTP_SERVER} {options}\n"
    )
    process = subprocess.Popen([_SSHD, "-D", "-e", "-f", config], stderr=subprocess.PIPE)
    try:
        wait_open(address, port)
        host_key = (root / "host.pub").read_text().strip()
        target = Target("sftp", "root", address, port, str(folder))
        yield Site(target, Credentials(key_file=root / "user", host_key=host_key), folder)
    finally:
        process.terminate()
        process.communicate()


def can_run_openssh() -> bool:
    """Whether Debian's sshd can be run here: it is there, and wants to be root."""
    if not (_SSHD.exists() and _SFTP_SERVER.exists() and os.geteuid() == 0):
        return False
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    return True


@contextmanager
def vsftpd_site(
    root: Path, authority: Authority | None = None, *, writable: bool = True, address: str = SERVER_ADDRESS
) -> Iterator[Site]:
    """Run vsftpd; with an authority it wants TLS on both connections, and ``require_ssl_reuse`` is its default, YES."""
    program = _program("vsftpd")
    folder, ports = _prepare(root, address)
    (root / "passwords").write_text(PASSWORD + "\n")
    (root / "nothing").mkdir(exist_ok=True)
    listening = "listen_ipv6=YES\nlisten_address6" if ":" in address else "listen=YES\nlisten_address"
    config = root / "vsftpd.conf"
    config.write_text(
        f"background=NO\n{listening}={address}\nlisten_port={ports[0]}\n"
        f"pasv_min_port={ports[1]}\npasv_max_port={ports[-1]}\n"
        "anonymous_enable=YES\nlocal_enable=NO\nftp_username=daemon\nnopriv_user=daemon\n"
        f"anon_root={root}\nsecure_chroot_dir={root / 'nothing'}\nanon_world_readable_only=NO\nanon_umask=077\n"
        f"secure_email_list_enable=YES\nemail_password_file={root / 'passwords'}\ndelay_failed_login=0\n"
        f"write_enable={_yes(writable)}\nanon_upload_enable=YES\nanon_other_write_enable=YES\n"
        f"xferlog_enable=YES\nxferlog_std_format=NO\nlog_ftp_protocol=YES\nvsftpd_log_file={root / 'log'}\n"
        f"ssl_enable={_yes(authority is not None)}\n"
    )
    if authority is not None:
        with config.open("a") as file:
            file.write(
                "allow_anon_ssl=YES\nforce_anon_logins_ssl=YES\nforce_anon_data_ssl=YES\n"
                f"ssl_ciphers=HIGH\nrsa_cert_file={authority.server_file}\n"
            )
    with _running([program, config], address, ports[0]):
        yield _site(_ANONYMOUS, root, folder, address, ports, authority)


@contextmanager
def proftpd_site(
    root: Path, authority: Authority | None = None, *, writable: bool = True, address: str = SERVER_ADDRESS
) -> Iterator[Site]:
    """Run ProFTPD; with an authority it wants TLS on both connections, and continued sessions, as is its default."""
    folder, ports = _prepare(root, address)
    settings = "" if writable else "<Limit WRITE>\n  DenyAll\n</Limit>\n"
    if authority is not None:
        settings += (
            "LoadModule mod_tls.c\nTLSEngine on\nTLSRequired on\nTLSProtocol TLSv1.2 TLSv1.3\n"
            f"TLSECCertificateFile {authority.server_file}\nTLSECCertificateKeyFile {authority.server_file}\n"
        )
    with _proftpd(root, address, ports, settings):
        yield _site(USER, root, folder, address, ports, authority)


@contextmanager
def proftpd_sftp_site(root: Path, *, address: str = SERVER_ADDRESS) -> Iterator[Site]:
    """Run ProFTPD as a server of SFTP, bare: without syncing, room to look at, and renaming as POSIX has it."""
    folder, ports = _prepare(root, address)
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(root / "host")
    (root / "host").chmod(0o600)
    settings = (
        f"LoadModule mod_sftp.c\nSFTPEngine on\nSFTPHostKey {root / 'host'}\nSFTPAuthMethods password\n"
        "SFTPExtensions -fsync -statvfs -posixRename -hardlink -versionSelect -vendorID -checkFile -copyFile\n"
    )
    with _proftpd(root, address, ports, settings):
        target = Target("sftp", USER, address, ports[0], "/files")
        yield Site(target, Credentials(password=SecretStr(PASSWORD), host_key=key_line(key)), folder)


@contextmanager
def _proftpd(root: Path, address: str, ports: list[int], settings: str) -> Iterator[None]:
    program = _program("proftpd")
    (root / "passwd").write_text(f"{USER}:{_PASSWORD_HASH}:{_DAEMON}:{_DAEMON}::{root}:/bin/sh\n")
    (root / "group").write_text(f"daemon:x:{_DAEMON}:\n")
    for name in ("passwd", "group"):
        (root / name).chmod(0o600)
    config = root / "proftpd.conf"
    config.write_text(
        f"ServerType standalone\nUseIPv6 {'on' if ':' in address else 'off'}\nUseReverseDNS off\nSocketBindTight on\n"
        f"DefaultAddress {address}\nPort {ports[0]}\nPassivePorts {ports[1]} {ports[-1]}\n"
        f"ModulePath {program.parents[1] / 'lib' / 'proftpd'}\n"
        "User daemon\nGroup daemon\nRequireValidShell off\nUseFtpUsers off\nWtmpLog off\nControlsEngine off\n"
        "AuthOrder mod_auth_file.c\nAuthPAM off\nDelayEngine off\n"
        f"AuthUserFile {root / 'passwd'}\nAuthGroupFile {root / 'group'}\n"
        f"PidFile {root / 'pid'}\nScoreboardFile {root / 'scoreboard'}\nTransferLog none\n"
        f'LogFormat command "\\"%r\\""\nExtendedLog {root / "log"} ALL command\n'
        f"DefaultRoot {root}\nAllowOverwrite on\n{settings}"
    )
    with _running([program, "-n", "-S", address, "-c", config], address, ports[0]):
        yield


class FtpServer(Protocol):
    """Runs a server of FTP."""

    def __call__(
        self, root: Path, authority: Authority | None = None, *, writable: bool = True, address: str = SERVER_ADDRESS
    ) -> AbstractContextManager[Site]:
        """Serve ``root/files`` at that address; with an authority, by TLS alone."""
        ...


FTP_SERVERS: Final[dict[str, FtpServer]] = {"pyftpdlib": ftp_site, "vsftpd": vsftpd_site, "proftpd": proftpd_site}


def free_range(address: str, count: int) -> list[int]:
    """Return ports in a row, free at that address and at the relay's, below those that the system gives out."""
    while True:
        first = random.randrange(20_000, 32_000)
        ports = list(range(first, first + count))
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for port in ports:
                for each in {address, RELAY_ADDRESS}:
                    stack.enter_context(socket.socket(family_of(each))).bind((each, port))
            return ports


def wait_open(address: str, port: int) -> None:
    """Wait until somebody listens there."""
    end = time.monotonic() + 10
    while True:
        try:
            socket.create_connection((address, port), 1).close()
        except OSError:
            assert time.monotonic() < end, "the server does not listen"
            threading.Event().wait(0.01)
        else:
            return


def _program(name: str) -> Path:
    """Return where the program is; skips the test where it cannot be run."""
    unpacked = _UNPACKED / "usr" / "sbin" / name
    found = unpacked if unpacked.exists() else shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{name} is not here; .ci/run unpacks it")
    if os.geteuid() != 0:
        pytest.skip(f"{name} wants to be root")
    return Path(found)


def _prepare(root: Path, address: str) -> tuple[Path, list[int]]:
    """Return the folder, which is daemon's, and ports in a row: the control connections', and those for data."""
    root.chmod(0o711)  # it is the server's / then
    folder = root / "files"
    folder.mkdir(exist_ok=True)
    os.chown(folder, _DAEMON, _DAEMON)
    return folder, free_range(address, 1 + _DATA_PORTS)


@contextmanager
def _running(command: list[str | Path], address: str, port: int) -> Iterator[None]:
    libraries = ":".join(str(path) for path in _UNPACKED.glob("usr/lib/*-linux-gnu*"))
    process = subprocess.Popen(
        command,
        env={"LD_LIBRARY_PATH": libraries, "TZ": "UTC"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_open(address, port)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its sessions' processes too
        process.wait()


def _site(user: str, root: Path, folder: Path, address: str, ports: list[int], authority: Authority | None) -> Site:
    scheme: Scheme = "ftp" if authority is None else "ftps"
    ca_file = None if authority is None else authority.ca_file
    credentials = Credentials(password=SecretStr(PASSWORD), ca_file=ca_file)
    target = Target(scheme, user, address, ports[0], "/files")
    return Site(target, credentials, folder, data_ports=tuple(ports[1:]), log=root / "log")


def _yes(value: bool) -> str:
    return "YES" if value else "NO"
