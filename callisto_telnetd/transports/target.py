"""Where copies go: a target as the owner writes it, parsed strictly.

::

    sftp://user@host:port/folder    SSH's file transfer
    ftps://user@host:port/folder    FTP with TLS, begun by AUTH TLS
    ftp://user@host:port/folder     FTP in clear text, only where that is allowed by name
    file:///folder  or  /folder     a folder of this machine

``/~/folder`` is a folder below the user's home. What is not plain is percent-encoded (RFC 3986). A password in the
URL is refused: it would stand in lists, logs and histories. For the same reason no error repeats what was typed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final, Literal, cast
from urllib.parse import quote, unquote

from callisto_telnetd.errors import TargetError

Scheme = Literal["sftp", "ftps", "ftp", "file"]

_PORTS: Final = {"sftp": 22, "ftps": 21, "ftp": 21}
_MAX_LENGTH = 1000
_MAX_USER_BYTES = 255
_MAX_HOST_LENGTH = 253
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/]*)(?P<path>/.*)?", re.DOTALL)
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_BROKEN_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOME = "~"
_FORMS = "write it as sftp://user@host:port/folder, ftps://user@host:port/folder or an absolute path"


@dataclass(frozen=True, slots=True)
class Target:
    """A folder that takes copies; ``str(target)`` is its URL, without any secret, and parses to an equal one."""

    scheme: Scheme
    user: str
    """Blank for ``file``."""
    host: str
    """A name or an address, IPv6 without its brackets; blank for ``file``."""
    port: int
    """0 for ``file``."""
    folder: str
    """With ``/`` at its start, or below the user's home where ``in_home``; blank for the home itself."""
    in_home: bool = False

    @property
    def place(self) -> str:
        """Host and port as messages name them, or the folder of this machine."""
        if self.scheme == "file":
            return self.folder
        return f"{self._host_text}:{self.port}"

    @property
    def is_clear_text(self) -> bool:
        """Whether everybody on the way can read the password and the copy."""
        return self.scheme == "ftp"

    @property
    def _host_text(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        folder = quote(self.folder, safe="/~" if self.in_home else "/")
        if self.scheme == "file":
            return f"file://{folder}"
        path = f"/~/{folder}" if self.in_home else folder.replace("/~", "/%7E", 1) if _is_tilde(folder) else folder
        return f"{self.scheme}://{quote(self.user, safe='')}@{self._host_text}:{self.port}{path}"


def parse_target(text: str, *, allow_plain_ftp: bool = False) -> Target:
    """Return the target that ``text`` names; nothing is looked up or connected to.

    Args:
        text: a URL or an absolute path, as the head of this module has them.
        allow_plain_ftp: whether ``ftp://``, which anybody on the way can read, is taken.

    Raises:
        TargetError: it is none, holds a password, or is plain FTP without leave.
    """
    if not text or len(text) > _MAX_LENGTH or not text.isprintable():
        raise TargetError(f"the target is blank, longer than {_MAX_LENGTH} characters or not printable; {_FORMS}")
    if text.startswith("/"):
        return Target("file", "", "", 0, _joined(text.split("/")[1:]))
    match = _URL.fullmatch(text)
    if match is None:
        raise TargetError(f"this is no target; {_FORMS}")
    scheme = match["scheme"].lower()
    if scheme == "file":
        return _parse_file(match["authority"], match["path"] or "")
    if scheme not in _PORTS:
        raise TargetError("a target begins with sftp://, ftps://, ftp://, file:/// or /")
    user, host, port = _parse_authority(match["authority"], _PORTS[scheme])
    if scheme == "ftp" and not allow_plain_ftp:
        reason = "ftp:// sends password and copy in clear text"
        raise TargetError(f"{reason}; take ftps:// or sftp://, or allow plain FTP by --allow-plain-ftp")
    folder, in_home = _parse_folder(match["path"])
    return Target(cast("Scheme", scheme), user, host, port, folder, in_home)


def parse_remote_file(text: str, *, allow_plain_ftp: bool = False) -> tuple[Target, str]:
    """Return the folder and the name of one file there, from a URL like a target's whose last part is the name.

    Raises:
        TargetError: as for :func:`parse_target`, or there is no name at its end.
    """
    head, slash, name = text.rpartition("/")
    name = _decoded(name) if "://" in head else name
    if not slash or not name or name in (".", "..", _HOME) or "/" in name or not name.isprintable():
        raise TargetError("a file at a target is written as its folder, / and its name, which must be printable")
    return parse_target(f"{head}/", allow_plain_ftp=allow_plain_ftp), name


def _parse_file(authority: str, path: str) -> Target:
    if authority.lower() not in ("", "localhost") or not path:
        raise TargetError("a folder of this machine is written as file:///folder or /folder")
    _refuse_query(path)
    return Target("file", "", "", 0, _joined([_decoded(part) for part in path.split("/")[1:]]))


def _parse_authority(authority: str, default_port: int) -> tuple[str, str, int]:
    """Return user, host and port; no message repeats a part, for a password with an odd character may be in any."""
    userinfo, at, address = authority.rpartition("@")
    if ":" in userinfo:
        raise TargetError("a target holds no password: it would be seen in lists and logs; give it by itself")
    user = _decoded(userinfo)
    if not at or not user or len(user.encode()) > _MAX_USER_BYTES:
        raise TargetError("a target names the user to log in as: user@host, with @ in the name itself as %40")
    if address.startswith("["):
        host, bracket, port_text = address[1:].partition("]")
        sound = bool(bracket) and _is_ipv6(host) and (not port_text or port_text.startswith(":"))
        port_text = port_text[1:] if port_text else str(default_port)
    else:
        host, colon, port_text = address.partition(":")
        sound = _is_host(host)
        port_text = port_text if colon else str(default_port)
    if not sound:
        raise TargetError("the target's host is neither a name nor an address; IPv6 stands in brackets: [2001:db8::7]")
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5 and 1 <= int(port_text) <= 65535):
        raise TargetError("the target's port is not a whole number from 1 to 65535")
    return user, host.lower(), int(port_text)


def _parse_folder(path: str | None) -> tuple[str, bool]:
    if path is None:
        raise TargetError("the target names no folder: add /folder, or /~/folder for one below the user's home")
    _refuse_query(path)
    parts = path.split("/")[1:]
    if parts[0] == _HOME:
        return _joined([_decoded(part) for part in parts[1:]]).removeprefix("/"), True
    return _joined([_decoded(part) for part in parts]), False


def _joined(parts: list[str]) -> str:
    """Return the decoded parts as an absolute path; one slash at the end is no part."""
    if parts and not parts[-1]:
        parts = parts[:-1]
    if any(not part or part in (".", "..") for part in parts):
        raise TargetError("the target's folder holds an empty part, . or ..: write it plainly")
    return "/" + "/".join(parts)


def _refuse_query(path: str) -> None:
    if "?" in path or "#" in path:
        raise TargetError("a target has no query and no fragment; ? and # in a folder's name are written %3F and %23")


def _decoded(text: str) -> str:
    """Return a part without its percent-encoding; never a slash, never a control character."""
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        decoded = ""
    if _BROKEN_PERCENT.search(text) or (text and not decoded):
        raise TargetError("the target's percent-encoding is not UTF-8 in %XX")
    if "/" in decoded or not decoded.isprintable():
        raise TargetError("the target's percent-encoding holds a slash or a control character")
    return decoded


def _is_host(host: str) -> bool:
    if len(host) > _MAX_HOST_LENGTH or _HOST_NAME.fullmatch(host) is None:
        return False
    last = host.rpartition(".")[2]
    if not (last.isdigit() or last.lower().startswith("0x")):
        return True
    try:  # what ends in a number is an address to the resolver, in old forms too (0x7f.1)
        IPv4Address(host)
    except AddressValueError:
        return False
    return True


def _is_ipv6(host: str) -> bool:
    try:
        return IPv6Address(host).scope_id is None
    except AddressValueError:
        return False


def _is_tilde(folder: str) -> bool:
    return folder == "/~" or folder.startswith("/~/")
