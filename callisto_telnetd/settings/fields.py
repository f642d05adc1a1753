"""What the settings are made of: sections, and values as an owner writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from callisto_telnetd.quantities import parse_bytes

_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+)):(?P<port>[0-9]{1,5})", re.ASCII)


def _size(value: object) -> object:
    """Return the bytes of a size as people type it; anything else is left for the type to refuse."""
    size = parse_bytes(value) if isinstance(value, str) else None
    return value if size is None else size


def split_words(value: object) -> object:
    """Return the parts of a text with commas, as the environment has a list; anything else is left for the type."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _printable(value: str) -> str:
    if not value.isprintable():
        msg = "must be printable text of one line"
        raise ValueError(msg)
    return value


def _address(value: object) -> object:
    """Return host and port of ``127.0.0.1:514`` or ``[::1]:514``."""
    if value is None or isinstance(value, Address):
        return value
    match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match["port"]) > 65535:
        msg = "not an address and a port"
        raise ValueError(msg)
    return Address(str(ip_address(match["v6"] or match["v4"])), int(match["port"]))


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int


Size = Annotated[int, BeforeValidator(_size)]
ListenAddress = Annotated[Address, BeforeValidator(_address)]
OneLine = Annotated[str, AfterValidator(_printable)]
Network = IPv4Network | IPv6Network


class Section(BaseModel):
    """A table of the settings; keys that it does not name are refused.

    Each key is in one of two lists, so that a new one has to decide who may bring it. The owner's alone are those that
    name a command, its user or environment, a file or a folder, those that say whose word is believed, those that
    move the machine itself, and those that say where the server listens, to whom and to how many: brought over the
    network, they would make an administrator of the shell the system's user, or open what the owner has kept closed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    BY_OWNER_ALONE: ClassVar[frozenset[str]] = frozenset()
    """The keys that come by the file itself or the local socket alone; a restore over the network leaves them."""
    BY_ANY_DOOR: ClassVar[frozenset[str]] = frozenset()
    """The keys that a restore may bring from every door."""

    @classmethod
    def __pydantic_init_subclass__(cls, **more: Any) -> None:
        """Refuse a class in which a key is in neither list, or in both."""
        super().__pydantic_init_subclass__(**more)
        require_decided(cls.__name__, cls.model_fields, cls.BY_OWNER_ALONE, cls.BY_ANY_DOOR)


def require_decided(
    name: str, keys: Iterable[str], by_owner_alone: frozenset[str], by_any_door: frozenset[str]
) -> None:
    """Refuse keys of which nobody has said who may bring them.

    Raises:
        TypeError: names them.
    """
    if undecided := set(keys) ^ by_owner_alone ^ by_any_door:
        raise TypeError(f"{name}: put into one of BY_OWNER_ALONE and BY_ANY_DOOR: {sorted(undecided)}")
