"""The owner's settings: a TOML file, then the environment (``CALLISTO_…``), then flags; later wins.

Every key stands in the models below with its default, range and meaning; an unknown key or a bad value is a
:class:`~callisto_telnetd.errors.SettingsError` that names where it stands, the key and what is allowed.
"""

from __future__ import annotations

import errno
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import EnvSettingsSource
from pydantic_settings import SettingsError as SourceError

from callisto_telnetd.errors import FolderError, SettingsError, listed, named, quoted
from callisto_telnetd.named_file import in_time, open_regular
from callisto_telnetd.ownership import is_read_only, refuse, require_own_file
from callisto_telnetd.secret_text import trimmed
from callisto_telnetd.settings.models import ENVIRONMENT_PREFIX, SETTINGS_FILE, Settings, merge
from callisto_telnetd.settings.services import WEB_SERVER

_OTHER_ENVIRONMENT = frozenset({"CALLISTO_DATA", "CALLISTO_ADMIN_PASSWORD"})
_MOST_BYTES = 1 << 20
"""As a backup takes them."""
_SERVICES_PREFIX = f"{ENVIRONMENT_PREFIX}SERVICES__"
_SERVICE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)


def default_data_folder() -> Path:
    """Return ``$CALLISTO_DATA``, else the system's state folder for root, the user's for others."""
    if named := trimmed(os.environ.get("CALLISTO_DATA", "")):
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
        OwnershipError: somebody else may have written the file; says which command mends that.
        FolderError: the data folder's own settings cannot be read.
    """
    file = config or data / SETTINGS_FILE
    if config is not None:
        require_own_file(config, "settings")
    sources = [(_shown(file), _read_file(file, needed=config is not None)), ("environment", _read_environment())]
    sources.append(("command line", dict(flags or {})))
    merged: dict[str, Any] = {}
    for place, values in sources:
        _check_services(place, values.get("services"))
        merged = merge(merged, values)
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        raise SettingsError(_explain(error, sources)) from None
    settings._file, settings._config, settings._flags = file, config, dict(flags or {})  # noqa: SLF001 - frozen for all others
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
        for key in ("host", "port", "names", "proxies") if name != WEB_SERVER else ():
            if key in values:
                raise SettingsError(f"{place}: services.{name}.{key} is no setting; allowed: in services.{WEB_SERVER}")


def _shown(file: Path) -> str:
    """Return the path as the owner wrote it; one that is no printable line is quoted."""
    return str(file) if str(file).isprintable() else named(file)


def _read_file(file: Path, *, needed: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(in_time(file, lambda: _read_own(file, needed=needed)).decode("utf-8-sig"))
    except FileNotFoundError:
        if needed:
            raise SettingsError(f"{_shown(file)}: no such settings file") from None
        return {}
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits is the one, and no TOMLDecodeError
        raise SettingsError(f"{_shown(file)}: not TOML: {error}") from None
    except OSError as error:
        if needed:
            raise SettingsError(f"{_shown(file)}: {error.strerror}") from None
        raise FolderError(f"settings {named(file)} cannot be read: {error.strerror}") from None


def _read_own(file: Path, *, needed: bool) -> bytes:
    with open_regular(file) as stream:
        # A file of the data folder may be its owner's: whether he is believed is judged by the folder itself.
        owners = (file.parent.stat().st_uid,) if not needed else ()
        refuse(file, "settings", os.fstat(stream.fileno()), owners, closed=is_read_only(stream.fileno()))
        if file.is_symlink():
            require_own_file(Path(os.path.realpath(file)), "settings")
        content = stream.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise OSError(errno.EFBIG, "it is longer than 1 MiB")
    return content


def _read_environment() -> dict[str, Any]:
    source = EnvSettingsSource(Settings)
    # Names of services are the owner's, so pydantic cannot part them from keys: see _read_services
    source.env_vars = {
        key: value
        for key, given in source.env_vars.items()
        if (value := trimmed(given or "")) and not key.startswith("callisto_services")
    }
    try:
        values = source()
    except SourceError as error:
        raise SettingsError(f"environment: {quoted(str(error))}") from None
    for name in sorted(os.environ):
        if not name.startswith(ENVIRONMENT_PREFIX) or name in _OTHER_ENVIRONMENT or not os.environ[name]:
            continue
        path = name[len(ENVIRONMENT_PREFIX) :].lower().split("__")
        if path[0] not in Settings.model_fields or len(path) < 2:
            known = listed([f"{ENVIRONMENT_PREFIX}{field.upper()}__…" for field in Settings.model_fields])
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
        table[path[-1]] = trimmed(value)
    return services


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
