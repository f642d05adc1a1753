"""Variables that an owner adds in ``callisto.toml``: a table each, as strict as the built-in ones.

[variables.gMyName]
type = "integer"
minimum = 0
maximum = 10
default = 5
unit = "seconds"
help = "…"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from callisto_telnetd.errors import SettingsError, listed, quoted
from callisto_telnetd.variables.catalogue import CATALOGUE
from callisto_telnetd.variables.kinds import Kind
from callisto_telnetd.variables.variable import NAME_PATTERN, Variable

_KINDS: dict[str, type[BaseModel]] = {kind.model_fields["type"].default: kind for kind in get_args(get_args(Kind)[0])}
_KIND = TypeAdapter[Kind](Kind)
_SHARED_KEYS = ("default", "defaults_by_edition", "help", "editions")
_NO_HELP = "A variable of this appliance's owner."
_BUILT_IN = frozenset(variable.name for variable in CATALOGUE)
_MOST_VARIABLES = 500  # each costs a line in every list and every capture's header


def own_variables(definitions: Mapping[str, Mapping[str, object]]) -> tuple[Variable, ...]:
    """Return the variables that the tables under ``[variables]`` define, in their order.

    Raises:
        SettingsError: a bad name, key or value; ``variables.NAME.KEY: what is wrong``, without the file's name.
    """
    if len(definitions) > _MOST_VARIABLES:
        raise SettingsError(f"variables: at most {_MOST_VARIABLES} can be added")
    taken = {variable.name.lower(): variable.name for variable in CATALOGUE}
    own = []
    for name, definition in definitions.items():
        if not re.fullmatch(NAME_PATTERN, name):
            raise SettingsError(f"variables: {quoted(name)} is not a letter and up to 63 letters, digits or _")
        if (twin := taken.setdefault(name.lower(), name)) != name or twin in _BUILT_IN:
            raise SettingsError(f"variables.{name}: there is a variable {twin} already")
        own.append(_variable(name, definition))
    return tuple(own)


def _variable(name: str, definition: Mapping[str, object]) -> Variable:
    where = f"variables.{name}"
    if not isinstance(definition, Mapping):
        raise SettingsError(f"{where}: must be a table")
    kind_type = definition.get("type")
    if not isinstance(kind_type, str) or kind_type not in _KINDS:
        raise SettingsError(f"{where}.type: must be {listed(list(_KINDS))}")
    known = (*_KINDS[kind_type].model_fields, *_SHARED_KEYS)
    for key in definition:
        if key not in known:
            raise SettingsError(
                f"{where}: {quoted(key)} is no key of the type {kind_type}; it has {listed(known, 'and')}"
            )
    shared: dict[str, Any] = {key: value for key, value in definition.items() if key in _SHARED_KEYS}
    special = {key: value for key, value in definition.items() if key not in _SHARED_KEYS}
    try:
        kind = _KIND.validate_python(special)
        return Variable.model_validate({"help": _NO_HELP, **shared, "name": name, "kind": kind})
    except ValidationError as error:
        raise SettingsError(_told(where, kind_type, error.errors(include_url=False)[0])) from None


def _told(where: str, kind_type: str, error: ErrorDetails) -> str:
    """Return one error of pydantic's as ``variables.NAME.KEY: what is wrong``."""
    place = [str(step) if str(step).isprintable() else quoted(str(step)) for step in error["loc"]]
    path = ".".join([where, *(place[1:] if place[:1] == [kind_type] else place)])
    if error["type"] == "missing":
        return f"{path}: is missing"
    return f"{path}: {error['msg'].removeprefix('Value error, ')}"
