"""The owner's settings: a TOML file, then the environment (``CALLISTO_…``), then flags; later wins.

Every key stands in the models below with its default, range and meaning; an unknown key or a bad value is a
:class:`~callisto_telnetd.errors.SettingsError` that names where it stands, the key and what is allowed.
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from callisto_telnetd.errors import FolderError, SettingsError, listed, named, quoted
from callisto_telnetd.quantities import parse_bytes

SETTINGS_FILE = "callisto.toml"
_PREFIX = "CALLISTO_"
_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+)):(?P<port>[0-9]{1,5})", re.ASCII)
_OTHER_ENVIRONMENT = frozenset({"CALLISTO_DATA", "CALLISTO_ADMIN_PASSWORD"})
_SERVICES_PREFIX = f"{_PREFIX}SERVICES__"
_SERVICE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)
_VARIABLE_OF_ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
_MEMORY_PART = re.compile(r"(?:[0-9]{1,15}|\{[A-Za-z][A-Za-z0-9_]{0,63}\})[kKmMgG]?", re.ASCII)
WEB_SERVER, COC_PROXY = "web-server", "coc-proxy"
BUILT_IN_SERVICES: Mapping[str, Mapping[str, Any]] = {
    WEB_SERVER: {"plan": "gWebServerRestart", "repair": "stop", "host": "127.0.0.1", "port": 80},
    COC_PROXY: {"plan": "gCocProxyRestart", "memory": "{gCocProxyMemory}M+256M"},
}
"""What stands in the two services that every appliance has, unless the owner says otherwise."""


def _size(value: object) -> object:
    """Return the bytes of a size as people type it; anything else is left for the type to refuse."""
    size = parse_bytes(value) if isinstance(value, str) else None
    return value if size is None else size


def _split(value: object) -> object:
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


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int


Size = Annotated[int, BeforeValidator(_size)]
ListenAddress = Annotated[Address, BeforeValidator(_address)]
OneLine = Annotated[str, AfterValidator(_printable)]
Network = IPv4Network | IPv6Network


class Section(BaseModel):
    """A table of the settings; keys that it does not name are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ApplianceSettings(Section):
    """``[appliance]``: what this box says of itself."""

    edition: Literal["ucm", "ucme", "one"] = Field("ucm", description="edition: ucm, ucme (Express) or one")
    hostname: str = Field(
        "callisto",
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$",
        description="1 to 63 letters, digits, . and -",
    )
    serial: OneLine = Field("", max_length=64, description="serial number, at most 64 characters")
    banner: OneLine = Field("", max_length=200, description="first line that a client sees; blank: product and version")


class TlsSettings(Section):
    """``[telnet.tls]``: Telnet over TLS (telnets), on a port beside the clear-text one."""

    certificate: Path = Field(description="PEM file of the certificate chain")
    key: Path = Field(description="PEM file of the private key")
    port: int = Field(992, ge=0, le=65535, description="TCP port, 0 to 65535")


class TelnetSettings(Section):
    """``[telnet]``: the listener."""

    host: OneLine = Field("127.0.0.1", min_length=1, max_length=255, description="address or host name to listen on")
    port: int = Field(23, ge=0, le=65535, description="TCP port, 0 to 65535")
    allow: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_split)] = Field(
        (), max_length=256, description="networks that may connect, such as 10.0.0.0/8; none named: all"
    )
    echo: Literal["negotiated", "always"] = Field("negotiated", description="negotiated or always")
    tls: TlsSettings | None = Field(None, description="certificate, key and port of Telnet over TLS")


class LimitSettings(Section):
    """``[limits]``: how many sessions, and how long they may take."""

    sessions: int = Field(100, ge=1, le=100_000, description="sessions in all, 1 to 100000")
    sessions_per_source: int = Field(20, ge=1, le=100_000, description="sessions from one address, 1 to 100000")
    pending: int = Field(32, ge=1, le=100_000, description="sessions not yet logged in, 1 to 100000")
    login_s: int = Field(60, ge=1, le=3600, description="seconds to finish a login, 1 to 3600")
    idle_s: int = Field(900, ge=1, le=86_400, description="seconds without input until a session ends, 1 to 86400")


class ClockSettings(Section):
    """``[clock]``: whether the appliance keeps its own offset or moves the system's clock."""

    mode: Literal["offset", "system"] = Field("offset", description="offset or system")


class TraceSettings(Section):
    """``[trace]``: what is held in memory, and the bounds of a capture."""

    held_records: int = Field(5000, ge=0, le=1_000_000, description="records held in memory, 0 to 1000000")
    held_bytes: Size = Field(2 << 20, ge=0, le=1 << 30, description="bytes of records held in memory, 0 to 1G")
    size: Size = Field(10 << 20, ge=1 << 10, le=1 << 40, description="default bound of one capture, 1k to 1024G")
    free: Size = Field(16 << 20, ge=0, le=1 << 40, description="free disk below which captures stop, 0 to 1024G")
    budget: Size = Field(256 << 20, ge=1 << 20, le=1 << 40, description="size of all trace files, 1M to 1024G")
    udp: ListenAddress | None = Field(
        None, description="address and port that take syslog by UDP, such as 127.0.0.1:514"
    )
    metrics: ListenAddress | None = Field(
        None, description="address and port of the Prometheus page, such as 127.0.0.1:9464"
    )


class DatabaseSettings(Section):
    """``[database]``: the care for the database."""

    check: OneLine = Field(
        "1,03:30",
        max_length=200,
        description="when the whole database is checked: a restart plan such as 1,03:30 or sun 03:30; blank: never",
    )


class LogSettings(Section):
    """``[log]``: the log on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug, info, warning or error")
    format: Literal["readable", "json"] = Field("readable", description="readable or json")


Words = Annotated[tuple[str, ...], BeforeValidator(_words), AfterValidator(_plain_words)]


class HealthSettings(Section):
    """``[services.NAME.health]``: how it is found out whether a service works."""

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
    port: int | None = Field(None, ge=1, le=65535, description="TCP port of the web server, 1 to 65535")


class Settings(BaseSettings):
    """All settings, frozen; made by :func:`load_settings`."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=_PREFIX, env_nested_delimiter="__", env_ignore_empty=True
    )

    appliance: ApplianceSettings = ApplianceSettings()
    telnet: TelnetSettings = TelnetSettings()
    limits: LimitSettings = LimitSettings()
    clock: ClockSettings = ClockSettings()
    trace: TraceSettings = TraceSettings()
    log: LogSettings = LogSettings()
    database: DatabaseSettings = DatabaseSettings()
    services: dict[str, ServiceSettings] = Field(
        {}, max_length=64, description="tables of the processes to run, by name"
    )
    variables: dict[str, dict[str, Any]] = Field({}, description="the owner's own system variables")
    _file: Path = PrivateAttr(Path(SETTINGS_FILE))

    @field_validator("services", mode="before")
    @classmethod
    def _with_built_in_services(cls, services: object) -> object:
        return _merged(dict(BUILT_IN_SERVICES), services) if isinstance(services, Mapping) else services

    @property
    def file(self) -> Path:
        """Where the owner's file stands, or would stand."""
        return self._file

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only what :func:`load_settings` has merged: it knows where each key came from."""
        return (init_settings,)


def default_data_folder() -> Path:
    """Return ``$CALLISTO_DATA``, else the system's state folder for root, the user's for others."""
    if named := os.environ.get("CALLISTO_DATA"):
        return Path(named)
    if os.geteuid() == 0:
        return Path("/var/lib/callisto")
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "callisto"


def load_settings(data: Path, config: Path | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Merge file, environment and flags into one frozen model.

    Args:
        data: The data folder; its ``callisto.toml`` is read if there is one.
        config: A settings file named by the owner; it must exist.
        flags: What the command line sets, nested like the file.

    Raises:
        SettingsError: names the place, the key and what is allowed.
        FolderError: the data folder's own settings cannot be read.
    """
    file = config or data / SETTINGS_FILE
    sources = [(_shown(file), _read_file(file, needed=config is not None)), ("environment", _read_environment())]
    sources.append(("command line", dict(flags or {})))
    merged: dict[str, Any] = {}
    for place, values in sources:
        _check_services(place, values.get("services"))
        merged = _merged(merged, values)
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise SettingsError(_explain(error, sources)) from None
    settings._file = file  # noqa: SLF001 - frozen for all others
    return settings


def _check_services(place: str, services: object) -> None:
    """Refuse what the models cannot see: a wrong name of a service, and keys that only one of them has.

    Raises:
        SettingsError: names the place, the key and what is allowed.
    """
    for name, values in services.items() if isinstance(services, Mapping) else ():
        if not _SERVICE_NAME.fullmatch(name):
            raise SettingsError(
                f"{place}: {quoted(f'services.{name}')} is no name of a service; allowed: 1 to 32 of a-z, 0-9 and -"
            )
        if not isinstance(values, Mapping):
            continue
        for key in ("host", "port") if name != WEB_SERVER else ():
            if key in values:
                raise SettingsError(f"{place}: services.{name}.{key} is no setting; allowed: in services.{WEB_SERVER}")


def _shown(file: Path) -> str:
    """Return the path as the owner wrote it; one that is no printable line is quoted."""
    return str(file) if str(file).isprintable() else named(file)


def _read_file(file: Path, *, needed: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if needed:
            raise SettingsError(f"{_shown(file)}: no such settings file") from None
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{_shown(file)}: not TOML: {error}") from None
    except OSError as error:
        if needed:
            raise SettingsError(f"{_shown(file)}: {error.strerror}") from None
        raise FolderError(f"settings {named(file)} cannot be read: {error.strerror}") from None


def _read_environment() -> dict[str, Any]:
    source = EnvSettingsSource(Settings)
    # Names of services are the owner's, so pydantic cannot part them from keys: see _read_services
    source.env_vars = {key: value for key, value in source.env_vars.items() if not key.startswith("callisto_services")}
    try:
        values = source()
    except SourceError as error:
        raise SettingsError(f"environment: {quoted(str(error))}") from None
    for name in sorted(os.environ):
        if not name.startswith(_PREFIX) or name in _OTHER_ENVIRONMENT or not os.environ[name]:
            continue
        path = name[len(_PREFIX) :].lower().split("__")
        if path[0] not in Settings.model_fields or len(path) < 2:
            known = listed([f"{_PREFIX}{field.upper()}__…" for field in Settings.model_fields])
            raise SettingsError(f"environment: {quoted(name)} is no setting; allowed: {known}")
    services = _read_services()
    return {**values, "services": services} if services else values


def _read_services() -> dict[str, Any]:
    """Return the tables of ``CALLISTO_SERVICES__NAME__KEY``; ``_`` in a name stands for ``-``.

    Raises:
        SettingsError: a key that only the file can hold.
    """
    services: dict[str, Any] = {}
    for variable, value in sorted(os.environ.items()):
        if not variable.startswith(_SERVICES_PREFIX) or not value:
            continue
        name, *path = variable[len(_SERVICES_PREFIX) :].lower().split("__")
        if not path or path[0] == "environment":
            allowed = "CALLISTO_SERVICES__NAME__KEY; an environment is set in the file alone"
            raise SettingsError(f"environment: {quoted(variable)} is no setting; allowed: {allowed}")
        table = services.setdefault(name.replace("_", "-"), {})
        for key in path[:-1]:
            table = table.setdefault(key, {})
        table[path[-1]] = value
    return services


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def _explain(error: ValidationError, sources: list[tuple[str, dict[str, Any]]]) -> str:
    first = error.errors(include_url=False)[0]
    path = _path_of_key(first["loc"])
    held = path[:-1] if first["type"] == "missing" else path
    where = next((name for name, values in reversed(sources) if _holds(values, held)), sources[0][0])
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        return f"{where}: {quoted(key)} is no setting; allowed: {listed(_siblings(path))}"
    if first["type"] == "missing":
        return f"{where}: {key} is missing: {_allowed(path)}"
    return f"{where}: {key}: {quoted(str(first['input']))} is not allowed; allowed: {_allowed(path)}"


def _holds(values: object, path: tuple[str, ...]) -> bool:
    for part in path:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True


def _path_of_key(location: tuple[int | str, ...]) -> tuple[str, ...]:
    """Return the location as far as it names keys: what follows a plain value is pydantic's own."""
    path: tuple[str, ...] = ()
    for part in location:
        path += (str(part),)
        if _model_at(path) is None:
            break
    return path


def _model_at(path: tuple[str, ...]) -> type[BaseModel] | None:
    model: type[BaseModel] = Settings
    named = False
    for part in path:
        if named:  # the part is a name of the owner's: the model is that of each of them
            named = False
            continue
        field = model.model_fields.get(part)
        named = field is not None and get_origin(field.annotation) is dict
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not models:
            return None
        model = models[0]
    return model


def _section(path: tuple[str, ...]) -> Mapping[str, FieldInfo]:
    model = _model_at(path)
    return model.model_fields if model else {}


def _siblings(path: tuple[str, ...]) -> list[str]:
    return list(_section(path[:-1]))


def _allowed(path: tuple[str, ...]) -> str:
    """Say what the key takes, from the model itself: its words, else its meaning, type and range."""
    field = _section(path[:-1]).get(path[-1])
    if field is None:
        return f"a table with {listed(list(_section(path)))}"
    if get_origin(field.annotation) is Literal:
        return listed([str(value) for value in get_args(field.annotation)])
    if field.description:
        return field.description
    return f"a table with {listed(list(_section(path)))}"
