"""What a system variable is: its name, its kind, its defaults, and where it exists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from callisto_telnetd.errors import InvalidValueError, listed
from callisto_telnetd.variables.kinds import Kind, OneLine, Value

Edition = Literal["ucm", "ucme", "one"]
EDITIONS: tuple[Edition, ...] = get_args(Edition)

Cell = Literal["name", "default", "minimum", "maximum", "meanings"]
"""A cell of a variable's row in the appliance's document."""

NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_]{0,63}$"


class Variable(BaseModel):
    """A system variable as the catalogue describes it; defaults are written as a user would type them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    kind: Kind
    default: int | str
    defaults_by_edition: Mapping[Edition, int | str] = {}
    """Where an edition's default is another one."""
    help: OneLine
    """What the variable does, in whole sentences."""
    editions: Annotated[tuple[Edition, ...], Field(min_length=1)] = EDITIONS
    reconstructed: tuple[Cell, ...] = ()
    """The cells that the appliance's document has lost: what stands there is our best guess."""

    @field_validator("default", mode="before")
    @classmethod
    def _check_default(cls, default: object, fields: ValidationInfo) -> object:
        return _checked(default, fields)

    @field_validator("defaults_by_edition", mode="before")
    @classmethod
    def _check_defaults(cls, defaults: object, fields: ValidationInfo) -> object:
        for default in defaults.values() if isinstance(defaults, Mapping) else ():
            _checked(default, fields)
        return defaults

    def __hash__(self) -> int:
        return hash(self.name)

    def default_for(self, edition: Edition) -> str:
        """Return the default there as text, in the form that the kind writes."""
        return self.canonical(str(self.defaults_by_edition.get(edition, self.default)))

    def parse(self, text: str) -> Value:
        """Return what ``text`` means.

        Raises:
            InvalidValueError: the variable does not take it; says what is allowed.
        """
        try:
            return self.kind.parse(text)
        except ValueError:
            raise InvalidValueError(self.name, text, self.kind.allowed) from None

    def format(self, value: Any) -> str:
        """Return the text of a value that :meth:`parse` gave."""
        return self.kind.format(value)

    def canonical(self, text: str) -> str:
        """Return ``text`` as the kind writes it: ``sun,wed 2:00`` becomes ``9,02:00``.

        Raises:
            InvalidValueError: the variable does not take it.
        """
        return self.format(self.parse(text))

    def explain(self, value: Any) -> str:
        """Return in a few words what a value that :meth:`parse` gave means."""
        return self.kind.explain(value)

    def edition_names(self) -> str:
        """Return the editions that have the variable, as a sentence has them."""
        return listed(self.editions, "and")


def _checked(default: object, fields: ValidationInfo) -> object:
    """Refuse what is no default of the kind; without a kind, that one's error is the one to tell."""
    if isinstance(default, bool) or not isinstance(default, int | str):
        raise ValueError("must be a whole number or text")
    if kind := fields.data.get("kind"):
        try:
            kind.parse(str(default))
        except ValueError:
            raise ValueError(f"must be {kind.allowed}") from None
    return default
