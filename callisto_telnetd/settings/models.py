"""The settings' sections, each key with its default, range and meaning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from callisto_telnetd.settings.fields import (
    ListenAddress,
    Network,
    OneLine,
    Section,
    Size,
    require_decided,
    split_words,
)
from callisto_telnetd.settings.services import BUILT_IN_SERVICES, ServiceSettings, Words

SETTINGS_FILE = "callisto.toml"
ENVIRONMENT_PREFIX = "CALLISTO_"


class ApplianceSettings(Section):
    """``[appliance]``: what this box says of itself."""

    BY_OWNER_ALONE = frozenset({"hostname"})
    BY_ANY_DOOR = frozenset({"edition", "serial", "banner"})

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

    BY_OWNER_ALONE = frozenset({"certificate", "key", "port"})

    certificate: Path = Field(description="PEM file of the certificate chain")
    key: Path = Field(description="PEM file of the private key")
    port: int = Field(992, ge=0, le=65535, description="TCP port, 0 to 65535")


class TelnetSettings(Section):
    """``[telnet]``: the listener."""

    BY_OWNER_ALONE = frozenset({"host", "port", "allow", "tls"})
    BY_ANY_DOOR = frozenset({"echo"})

    host: OneLine = Field("127.0.0.1", min_length=1, max_length=255, description="address or host name to listen on")
    port: int = Field(23, ge=0, le=65535, description="TCP port, 0 to 65535")
    allow: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(split_words)] = Field(
        (), max_length=256, description="networks that may connect, such as 10.0.0.0/8; none named: all"
    )
    echo: Literal["negotiated", "always"] = Field("negotiated", description="negotiated or always")
    tls: TlsSettings | None = Field(None, description="certificate, key and port of Telnet over TLS")


class LimitSettings(Section):
    """``[limits]``: how many sessions, and how long they may take."""

    BY_OWNER_ALONE = frozenset({"sessions", "sessions_per_source", "pending", "login_s", "idle_s"})

    sessions: int = Field(100, ge=1, le=100_000, description="sessions in all, 1 to 100000")
    sessions_per_source: int = Field(20, ge=1, le=100_000, description="sessions from one address, 1 to 100000")
    pending: int = Field(32, ge=1, le=100_000, description="sessions not yet logged in, 1 to 100000")
    login_s: int = Field(60, ge=1, le=3600, description="seconds to finish a login, 1 to 3600")
    idle_s: int = Field(900, ge=1, le=86_400, description="seconds without input until a session ends, 1 to 86400")


class ClockSettings(Section):
    """``[clock]``: whether the appliance keeps its own offset or moves the system's clock."""

    BY_OWNER_ALONE = frozenset({"mode"})

    mode: Literal["offset", "system"] = Field("offset", description="offset or system")


class TraceSettings(Section):
    """``[trace]``: what is held in memory, and the bounds of a capture."""

    BY_OWNER_ALONE = frozenset({"udp", "metrics"})
    BY_ANY_DOOR = frozenset({"held_records", "held_bytes", "size", "free", "budget", "files"})

    held_records: int = Field(5000, ge=0, le=1_000_000, description="records held in memory, 0 to 1000000")
    held_bytes: Size = Field(2 << 20, ge=0, le=1 << 30, description="bytes of records held in memory, 0 to 1G")
    size: Size = Field(10 << 20, ge=1 << 10, le=1 << 40, description="default bound of one capture, 1k to 1024G")
    free: Size = Field(16 << 20, ge=0, le=1 << 40, description="free disk below which captures stop, 0 to 1024G")
    budget: Size = Field(256 << 20, ge=1 << 20, le=1 << 40, description="size of all trace files, 1M to 1024G")
    files: int = Field(10_000, ge=1000, le=1_000_000, description="number of all trace files, 1000 to 1000000")
    udp: ListenAddress | None = Field(
        None, description="address and port that take syslog by UDP, such as 127.0.0.1:514"
    )
    metrics: ListenAddress | None = Field(
        None, description="address and port of the Prometheus page, such as 127.0.0.1:9464"
    )


class DatabaseSettings(Section):
    """``[database]``: the care for the database."""

    BY_ANY_DOOR = frozenset({"check"})

    check: OneLine = Field(
        "1,03:30",
        max_length=200,
        description="when the whole database is checked: a restart plan such as 1,03:30 or sun 03:30; blank: never",
    )


class BackupSettings(Section):
    """``[backup]``: what belongs to backups on a schedule."""

    BY_OWNER_ALONE = frozenset({"on_failure"})

    on_failure: Annotated[Words, NoDecode] = Field(
        (), max_length=256, description="words of a command that is run when one fails; no shell reads it"
    )


class LogSettings(Section):
    """``[log]``: the log on stderr."""

    BY_ANY_DOOR = frozenset({"level", "format"})

    level: Literal["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"] = Field(
        "info", description="debug, info, notice, warning, error, critical, alert or emergency"
    )
    format: Literal["readable", "json"] = Field("readable", description="readable or json")


def merge(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return both, the values above over those below, table by table."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


class Settings(BaseSettings):
    """All settings, frozen; made by :func:`load_settings`."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__", env_ignore_empty=True
    )

    # As in a Section. The owner's own variables are words of his commands: their rules say what these may hold.
    BY_OWNER_ALONE: ClassVar[frozenset[str]] = frozenset({"variables"})
    BY_ANY_DOOR: ClassVar[frozenset[str]] = frozenset(
        {"appliance", "telnet", "limits", "clock", "trace", "log", "database", "backup", "services"}
    )

    appliance: ApplianceSettings = ApplianceSettings()
    telnet: TelnetSettings = TelnetSettings()
    limits: LimitSettings = LimitSettings()
    clock: ClockSettings = ClockSettings()
    trace: TraceSettings = TraceSettings()
    log: LogSettings = LogSettings()
    database: DatabaseSettings = DatabaseSettings()
    backup: BackupSettings = BackupSettings()
    services: dict[str, ServiceSettings] = Field(
        {}, max_length=64, description="tables of the processes to run, by name"
    )
    variables: dict[str, dict[str, Any]] = Field({}, description="the owner's own system variables")
    _file: Path = PrivateAttr(Path(SETTINGS_FILE))
    _config: Path | None = PrivateAttr(None)
    _flags: Mapping[str, Any] = PrivateAttr(default_factory=dict)

    @field_validator("services", mode="before")
    @classmethod
    def _with_built_in_services(cls, services: object) -> object:
        return merge(dict(BUILT_IN_SERVICES), services) if isinstance(services, Mapping) else services

    @property
    def file(self) -> Path:
        """Where the owner's file stands, or would stand."""
        return self._file

    @property
    def config(self) -> Path | None:
        """The file that the owner has named in the place of the data folder's; None where that counts."""
        return self._config

    @property
    def flags(self) -> Mapping[str, Any]:
        """What the command line has set, nested like the file."""
        return self._flags

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


require_decided("Settings", Settings.model_fields, Settings.BY_OWNER_ALONE, Settings.BY_ANY_DOOR)
