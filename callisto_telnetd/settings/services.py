"""``[services.NAME]``: the processes that Callisto runs, two of them built in."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from callisto_telnetd.settings.fields import Network, OneLine, Section, split_words

_VARIABLE_OF_ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_MEMORY_PART = re.compile(r"(?:[0-9]{1,15}|\{[A-Za-z][A-Za-z0-9_]{0,63}\})[kKmMgG]?", re.ASCII)
_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", re.ASCII)
WEB_SERVER, COC_PROXY = "web-server", "coc-proxy"
BUILT_IN_SERVICES: Mapping[str, Mapping[str, Any]] = {
    WEB_SERVER: {"plan": "gWebServerRestart", "repair": "stop", "host": "127.0.0.1", "port": 80},
    COC_PROXY: {"plan": "gCocProxyRestart", "memory": "{gCocProxyMemory}M+256M"},
}
"""What stands in the two services that every appliance has, unless the owner says otherwise."""


def _words(value: object) -> object:
    """Return the words of a command that is written as one string; a quote that is not closed is left to be refused."""
    if not isinstance(value, str):
        return value
    try:
        return shlex.split(value)
    except ValueError:
        return value


def _plain_words(words: tuple[str, ...]) -> tuple[str, ...]:
    if any("\0" in word or len(word) > 4096 for word in words) or words[:1] == ("",):
        raise ValueError("a word that no program takes")
    return words


def _environment(values: dict[str, str]) -> dict[str, str]:
    for name, value in values.items():
        if not _VARIABLE_OF_ENVIRONMENT.fullmatch(name) or "\0" in value or len(value) > 4096:
            raise ValueError("not a variable of an environment")
        if name in {"CALLISTO_SERVICE", "CALLISTO_DATA"}:
            raise ValueError("is set by the server")
    return values


def _signal(value: object) -> object:
    return value.upper().removeprefix("SIG") if isinstance(value, str) else value


def _memory(value: str) -> str:
    if not all(_MEMORY_PART.fullmatch(part.strip()) for part in value.split("+")):
        raise ValueError("not a size")
    return value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "http" or not parts.hostname or not value.isascii() or " " in value or parts.port == 0:
        raise ValueError("not an http address")
    return value


def _host_name(value: str) -> str:
    if _HOST_NAME.fullmatch(value):
        return value
    return str(ip_address(value.removeprefix("[").removesuffix("]")))  # an IPv6 address; raises ValueError


HostName = Annotated[str, AfterValidator(_host_name)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words), AfterValidator(_plain_words)]


class HealthSettings(Section):
    """``[services.NAME.health]``: how it is found out whether a service works."""

    BY_OWNER_ALONE = frozenset({"url", "command", "every_s", "timeout_s", "start_s", "failures"})

    url: Annotated[str, AfterValidator(_http_url)] | None = Field(
        None, max_length=2048, description="http://… that answers 2xx to GET where the service works"
    )
    command: Words = Field(
        (), max_length=256, description="words of a command that ends with exit code 0 where the service works"
    )
    every_s: float = Field(15.0, ge=0.1, le=86_400, description="seconds between checks, 0.1 to 86400")
    timeout_s: float = Field(5.0, ge=0.1, le=600, description="seconds that a check may take, 0.1 to 600")
    start_s: float = Field(30.0, ge=0.1, le=3600, description="seconds until the first check is passed, 0.1 to 3600")
    failures: int = Field(3, ge=1, le=1000, description="failed checks in a row until a restart, 1 to 1000")


class ServiceSettings(Section):
    """``[services.NAME]``: a process that Callisto runs."""

    BY_OWNER_ALONE = frozenset(
        {"command", "environment", "user", "folder", "memory", "health", "host", "port", "names", "proxies"}
    )
    BY_ANY_DOOR = frozenset({"enabled", "restart", "restart_s", "stop_signal", "stop_s", "plan", "repair"})

    enabled: bool = Field(True, description="true or false: whether it is started with the server")
    command: Words = Field((), max_length=256, description="a list of words, or one string of them; no shell reads it")
    environment: Annotated[dict[str, str], AfterValidator(_environment)] = Field(
        {}, max_length=256, description="a table of variables for its environment, such as LANG = 'C.UTF-8'"
    )
    user: OneLine | None = Field(None, min_length=1, max_length=64, description="the system user that it runs as")
    folder: Path | None = Field(None, description="the folder that it works in")
    restart: Literal["always", "on-failure", "never"] = Field("always", description="always, on-failure or never")
    restart_s: float = Field(1.0, ge=0.1, le=3600, description="seconds of the first pause, 0.1 to 3600; it doubles")
    stop_signal: Annotated[Literal["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "KILL"], BeforeValidator(_signal)] = (
        Field("TERM", description="TERM, INT, HUP, QUIT, USR1, USR2 or KILL")
    )
    stop_s: float = Field(5.0, ge=0.1, le=600, description="seconds to stop in, then SIGKILL, 0.1 to 600")
    plan: str = Field(
        "", pattern=r"^([A-Za-z][A-Za-z0-9_]{0,63})?$", description="the variable that holds its restart plan"
    )
    repair: Literal["stop", "keep"] = Field(
        "keep", description="stop or keep: what a repair of the database does to it"
    )
    memory: Annotated[str, AfterValidator(_memory)] | None = Field(
        None, max_length=200, description="a size such as 512M or {gCocProxyMemory}M+256M that its data may take"
    )
    health: HealthSettings | None = Field(None, description="a table with url or command: its health check")
    host: OneLine | None = Field(
        None, min_length=1, max_length=255, description="address that the web server listens on"
    )
    port: int | None = Field(None, ge=0, le=65535, description="TCP port of the web server, 0 to 65535")
    names: Annotated[tuple[HostName, ...], BeforeValidator(split_words)] = Field(
        (), max_length=256, description="names or addresses, without a port, by which browsers ask for the web server"
    )
    proxies: Annotated[tuple[Network, ...], BeforeValidator(split_words)] = Field(
        (), max_length=256, description="addresses or networks of proxies whose X-Forwarded headers are believed"
    )
