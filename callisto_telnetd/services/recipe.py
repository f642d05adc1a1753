"""What a service is started with: its words, environment, user and memory, with the variables of this moment in them.

``{gVariable}`` in a word, in a value of the environment or in ``memory`` is the variable's text at each start;
``{{gVariable}}`` is that text itself, in single braces. Every other brace is left alone.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from callisto_telnetd.errors import ServiceError, SettingsError, quoted
from callisto_telnetd.interpreter import inherited_environment, module_command, module_environment
from callisto_telnetd.quantities import parse_bytes
from callisto_telnetd.settings import COC_PROXY, WEB_SERVER, HealthSettings, ServiceSettings, Settings
from callisto_telnetd.variables.kinds import Plan
from callisto_telnetd.variables.variable import Variable

MARKER = "CALLISTO_SERVICE"
"""The variable of a child's environment by which it, and all that it starts, is known as this appliance's."""
_PLACEHOLDER = re.compile(r"\{(\{[A-Za-z][A-Za-z0-9_]{0,63}\})\}|\{([A-Za-z][A-Za-z0-9_]{0,63})\}", re.ASCII)
_LEAST_MEMORY = 1 << 20
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a check asks where the page listens everywhere

Text = Callable[[str], str]
"""Returns the text of a variable."""


@dataclass(frozen=True, slots=True)
class Account:
    """The system user that a process runs as, where that is not the server's own."""

    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that a process is started with."""

    words: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path | None
    account: Account | None
    memory_bytes: int | None
    used: Mapping[str, str]
    """The variables that stand in it, with their text at this moment."""


def placeholders(text: str) -> Iterator[str]:
    """Yield the names of the variables that a text asks for."""
    for match in _PLACEHOLDER.finditer(text):
        if match[2]:
            yield match[2]


def fill(text: str, variable: Text) -> str:
    """Return the text with the variables in it."""
    return _PLACEHOLDER.sub(lambda match: match[1] or variable(match[2]), text)


def services_of(settings: Settings) -> dict[str, ServiceSettings]:
    """Return the services; the web server is asked for by the names of the appliance and of its health check too."""
    web_server = settings.services[WEB_SERVER]
    asked = urlsplit((web_server.health and web_server.health.url) or "").hostname
    names = (*web_server.names, settings.appliance.hostname, *([asked] if asked else ()))
    return {**settings.services, WEB_SERVER: web_server.model_copy(update={"names": names})}


def is_set_up(name: str, settings: ServiceSettings) -> bool:
    """Return whether there is a program to run: the web server brings its own."""
    return bool(settings.command) or name == WEB_SERVER


def variables_of(settings: ServiceSettings) -> list[str]:
    """Return the names of the variables that a service's start depends on."""
    health = settings.health.command if settings.health else ()
    texts = [*settings.command, *settings.environment.values(), settings.memory or "", *health]
    return list(dict.fromkeys(name for text in texts for name in placeholders(text)))


def health_of(name: str, settings: ServiceSettings) -> HealthSettings | None:
    """Return how it a service is checked; the web server's own page is asked unless told otherwise."""
    health = settings.health
    if name != WEB_SERVER or settings.command or (health and (health.url or health.command)):
        return health
    host = _ANYWHERE.get(settings.host or "", settings.host or "127.0.0.1")
    url = f"http://{_host_port(host, settings.port)}/health"
    return (health or HealthSettings()).model_copy(update={"url": url})


def address_of(name: str, settings: ServiceSettings) -> str:
    """Return where browsers find it: ``http://127.0.0.1:8080/``; blank for all but the web server of the package."""
    if name != WEB_SERVER or settings.command:
        return ""
    return f"http://{_host_port(settings.host or '127.0.0.1', settings.port)}/"


def _host_port(host: str, port: int | None) -> str:
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def make_recipe(name: str, settings: ServiceSettings, variable: Text, data: Path) -> Recipe:
    """Return what the service is started with now.

    Raises:
        ServiceError: the user is unknown or cannot be taken, the folder is missing, or the memory is too small.
    """
    words = settings.command or web_server_words(settings, data)
    account, own = _account(settings.user)
    if settings.folder is not None and not os.path.isdir(settings.folder):  # noqa: PTH112 - a Path's raises on one that may not be looked at
        raise ServiceError(f"its folder {quoted(str(settings.folder))} is not there")
    environment = inherited_environment() | own
    if name == WEB_SERVER and not settings.command:
        environment = module_environment(environment)
    environment |= {key: fill(value, variable) for key, value in settings.environment.items()}
    environment |= {"CALLISTO_DATA": str(data), MARKER: f"{data}:{name}"}
    return Recipe(
        words=tuple(fill(word, variable) for word in words),
        environment=environment,
        folder=settings.folder,
        account=account,
        memory_bytes=None if settings.memory is None else _memory(fill(settings.memory, variable)),
        used={each: variable(each) for each in variables_of(settings)},
    )


def web_server_words(settings: ServiceSettings, data: Path) -> tuple[str, ...]:
    """Return the command of the web server that comes with the package; it stops by itself when the server is gone."""
    place = ("--data", str(data), "--host", str(settings.host), "--port", str(settings.port))
    names = (f"--name={name}" for name in settings.names)
    proxies = (f"--proxy={network}" for network in settings.proxies)
    return (*module_command("callisto_telnetd.web", *place, *names, *proxies, "--with-parent"),)


def _account(user: str | None) -> tuple[Account | None, dict[str, str]]:
    """Return the user to become, None for the server's own, and what its environment says of it."""
    if user is None:
        return None, {}
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ServiceError(f"its user {quoted(user)} is not known on this machine") from None
    own = {"HOME": entry.pw_dir, "USER": user, "LOGNAME": user}
    if entry.pw_uid == os.geteuid():
        return None, own
    if os.geteuid() != 0:
        raise ServiceError(f"its user {quoted(user)} can only be taken by a server that runs as root")
    return Account(entry.pw_uid, entry.pw_gid, tuple(os.getgrouplist(user, entry.pw_gid))), own


def _memory(text: str) -> int:
    sizes = [parse_bytes(part.strip()) for part in text.split("+")]
    total = sum(size for size in sizes if size is not None)
    if None in sizes or total < _LEAST_MEMORY:
        raise ServiceError(f"its memory {quoted(text)} is no size from 1M on")
    return total


def check_services(
    services: Mapping[str, ServiceSettings], catalogue: Sequence[Variable], edition: str, file: Path
) -> None:
    """Refuse settings of services that only the variables can judge, before anything is started.

    Raises:
        SettingsError: names the file, the key and what is allowed.
    """
    known = {variable.name: variable for variable in catalogue if edition in variable.editions}
    for name, settings in services.items():
        where = f"{file}: services.{name}"
        for key, text in _texts(settings):
            for asked in placeholders(text):
                if asked not in known:
                    raise SettingsError(
                        f"{where}.{key}: no variable named {quoted(asked)}; allowed: names of variables"
                    )
        if settings.plan and not isinstance(getattr(known.get(settings.plan), "kind", None), Plan):
            plans = ", ".join(each.name for each in known.values() if isinstance(each.kind, Plan))
            raise SettingsError(f"{where}.plan: {quoted(settings.plan)} holds no restart plan; allowed: {plans}")
        health = health_of(name, settings)
        if health is not None and bool(health.url) == bool(health.command):
            raise SettingsError(f"{where}.health: url and command; allowed: one of them, no more and no less")
        if settings.enabled and name not in {WEB_SERVER, COC_PROXY} and not settings.command:
            raise SettingsError(f"{where}.command is missing: the words of its program, or enabled = false")


def _texts(settings: ServiceSettings) -> Iterator[tuple[str, str]]:
    for word in settings.command:
        yield "command", word
    for value in settings.environment.values():
        yield "environment", value
    yield "memory", settings.memory or ""
    for word in settings.health.command if settings.health else ():
        yield "health.command", word
