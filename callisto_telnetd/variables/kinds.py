"""The kinds of values that a system variable can have: a vocabulary, told apart by ``type``.

Each kind is a pair of inverses, ``parse`` and ``format``, with the words that explain it to people. ``parse`` raises
ValueError for whatever the kind does not take; ``allowed`` then completes the sentence ``'abc' is not …``.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import SchemaError

from callisto_telnetd.errors import listed
from callisto_telnetd.variables.host_address import HostAddress
from callisto_telnetd.variables.restart_plan import DAYS, RestartPlan

HIGHEST_INTERNAL_NUMBER = 999_999_999
_FARTHEST = 10**15  # far beyond every unit in use, and exact in JSON and in SQLite
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_BLANK = "(blank)"

Value = int | str | RestartPlan | HostAddress | None
"""What a variable's text means: each kind parses to one of these; None where the text is blank."""


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be one line of printable characters")
    return text


def _whole_keys(values: object) -> object:
    """Take the keys of a TOML table, which are texts, for the numbers that they are."""
    if not isinstance(values, dict):
        return values
    try:
        return {parse_whole(key) if isinstance(key, str) else key: meaning for key, meaning in values.items()}
    except ValueError:
        raise ValueError("must have whole numbers for keys") from None


@lru_cache(maxsize=128)
def _matcher(pattern: str, *, whole: bool) -> TypeAdapter[Any]:
    """Compile the pattern; alone first, so that it cannot break out of the group that makes it match the whole."""
    expression = rf"\A(?:{pattern})\z" if whole else pattern
    return TypeAdapter(Annotated[str, StringConstraints(pattern=expression)])


def _check_pattern(pattern: str) -> str:
    try:
        _matcher(pattern, whole=False)
        _matcher(pattern, whole=True)
    except SchemaError:
        raise ValueError("must be a regular expression without look-around and back-references") from None
    return pattern


OneLine = Annotated[str, Field(max_length=500), AfterValidator(_one_line)]
Bound = Annotated[int, Field(strict=True, ge=-_FARTHEST, le=_FARTHEST)]


def parse_whole(text: str) -> int:
    """Return a whole number written in at most 18 ASCII digits; ``+``, ``_`` and other scripts are refused."""
    if not _NUMBER.fullmatch(text):
        raise ValueError("no whole number")
    return int(text)


class _Kind(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def completions(self) -> tuple[str, ...]:
        """Return the values that Tab may offer, none where there are too many to name."""
        return ()


class Choice(_Kind):
    """One of a few whole numbers, each with a meaning."""

    type: Literal["choice"] = "choice"
    values: Annotated[dict[Bound, OneLine], BeforeValidator(_whole_keys), Field(min_length=1, max_length=64)]

    def parse(self, text: str) -> int:
        value = parse_whole(text.strip(" "))
        if value not in self.values:
            raise ValueError("none of the values")
        return value

    def format(self, value: int) -> str:
        return str(value)

    @property
    def allowed(self) -> str:
        return listed(self.completions())

    def meanings(self) -> tuple[tuple[str, str], ...]:
        return tuple((str(value), meaning) for value, meaning in self.values.items())

    def completions(self) -> tuple[str, ...]:
        return tuple(map(str, self.values))

    def explain(self, value: int) -> str:
        return self.values[value]


class Whole(_Kind):
    """A whole number of ``unit`` (a plural, or empty) from ``minimum`` to ``maximum``."""

    type: Literal["integer"] = "integer"
    minimum: Bound
    maximum: Bound
    unit: OneLine = ""
    zero: OneLine | None = None
    """What 0 means, where it is not merely none of the unit."""

    @field_validator("maximum")
    @classmethod
    def _check_maximum(cls, maximum: int, fields: ValidationInfo) -> int:
        if maximum < fields.data.get("minimum", maximum):
            raise ValueError(f"must not be below the minimum, {fields.data['minimum']}")
        return maximum

    @field_validator("zero")
    @classmethod
    def _check_zero(cls, zero: str | None, fields: ValidationInfo) -> str | None:
        if zero is not None and not fields.data.get("minimum", 0) <= 0 <= fields.data.get("maximum", 0):
            raise ValueError("has no use: 0 is out of range")
        return zero

    def parse(self, text: str) -> int:
        value = parse_whole(text.strip(" "))
        if not self.minimum <= value <= self.maximum:
            raise ValueError("out of range")
        return value

    def format(self, value: int) -> str:
        return str(value)

    @property
    def allowed(self) -> str:
        unit = f" of {self.unit}" if self.unit else ""
        return f"a whole number{unit} from {self.minimum} to {self.maximum}"

    def meanings(self) -> tuple[tuple[str, str], ...]:
        if self.zero is None:
            return ((f"{self.minimum} to {self.maximum}", self.unit or "a number"),)
        lowest = 1 if self.minimum == 0 else self.minimum
        if lowest > self.maximum:
            return (("0", self.zero),)
        return (("0", self.zero), (f"{lowest} to {self.maximum}", self.unit or "a number"))

    def explain(self, value: int) -> str:
        if value == 0 and self.zero is not None:
            return self.zero
        return f"{value} {self.unit.removesuffix('s') if value == 1 else self.unit}".rstrip()


class Text(_Kind):
    """One line of printable characters, without spaces at its ends."""

    type: Literal["text"] = "text"
    maximum_length: Annotated[int, Field(strict=True, ge=1, le=1000)]
    pattern: Annotated[OneLine, Field(max_length=200), AfterValidator(_check_pattern)] | None = None
    """What the whole text must match, in the syntax of pydantic's Rust engine: it knows no look-around and no
    back-reference, and takes linear time, so that no pattern and no value can stall the server."""
    blank: StrictBool = True

    def parse(self, text: str) -> str:
        value = text.strip(" ")
        if len(value) > self.maximum_length or not value.isprintable():
            raise ValueError("too long, or not printable")
        if not value:
            if not self.blank:
                raise ValueError("blank")
        elif self.pattern is not None:
            try:
                _matcher(self.pattern, whole=True).validate_python(value)
            except ValidationError:
                raise ValueError("no match") from None
        return value

    def format(self, value: str) -> str:
        return value

    @property
    def allowed(self) -> str:
        fewest = "at most" if self.blank else "1 to"
        pattern = f" that match {self.pattern}" if self.pattern is not None else ""
        return f"text of {fewest} {self.maximum_length} printable characters{pattern}"

    def meanings(self) -> tuple[tuple[str, str], ...]:
        return (("text", self.allowed.removeprefix("text of ")),)

    def explain(self, value: str) -> str:
        return value or "blank"


class Host(_Kind):
    """A host name or an IP address, with or without a port; never blank."""

    type: Literal["host"] = "host"

    def parse(self, text: str) -> HostAddress:
        return HostAddress.parse(text.strip(" "))

    def format(self, value: HostAddress) -> str:
        return value.format()

    @property
    def allowed(self) -> str:
        return "a host name or an IP address, with or without :port"

    def meanings(self) -> tuple[tuple[str, str], ...]:
        return (
            ("NAME or ADDRESS", "the server, at the port that its protocol has"),
            ("NAME:PORT or [ADDRESS]:PORT", "the server, at another port"),
        )

    def explain(self, value: HostAddress) -> str:
        return value.host if value.port is None else f"{value.host}, port {value.port}"


class Plan(_Kind):
    """A restart plan; blank is none."""

    type: Literal["plan"] = "plan"

    def parse(self, text: str) -> RestartPlan | None:
        return RestartPlan.parse(text) if text.strip(" ") else None

    def format(self, value: RestartPlan | None) -> str:
        return value.format() if value else ""

    @property
    def allowed(self) -> str:
        return "a restart plan such as 9,02:00 or sun,wed 02:00 (days 0 to 127, time 00:00 to 23:59), or blank"

    def meanings(self) -> tuple[tuple[str, str], ...]:
        days = ", ".join(f"{day} {1 << place}" for place, day in enumerate(DAYS))
        return (
            (_BLANK, "no restarts"),
            ("DAYS,HH:MM", f"restart at that time on the days whose sum DAYS is: {days}"),
            ("sun,wed 02:00", "the same by name; also mon-fri and daily"),
        )

    def completions(self) -> tuple[str, ...]:
        return ("daily", *(day[:3].lower() for day in DAYS))

    def explain(self, value: RestartPlan | None) -> str:
        return value.describe() if value else "no restarts"


class InternalNumber(_Kind):
    """The internal number of a user that exists, or blank; that the user exists is the registry's to check."""

    type: Literal["internal-number"] = "internal-number"
    nobody: OneLine = "no user"
    """What blank means."""

    def parse(self, text: str) -> int | None:
        digits = text.strip(" ")
        if not digits:
            return None
        value = parse_whole(digits)
        if not 1 <= value <= HIGHEST_INTERNAL_NUMBER:
            raise ValueError("out of range")
        return value

    def format(self, value: int | None) -> str:
        return "" if value is None else str(value)

    @property
    def allowed(self) -> str:
        return f"the internal number of a user, from 1 to {HIGHEST_INTERNAL_NUMBER}, or blank"

    def meanings(self) -> tuple[tuple[str, str], ...]:
        return ((_BLANK, self.nobody), (f"1 to {HIGHEST_INTERNAL_NUMBER}", "internal number of a user that exists"))

    def explain(self, value: int | None) -> str:
        return self.nobody if value is None else f"user {value}"


Kind = Annotated[Choice | Whole | Text | Host | Plan | InternalNumber, Field(discriminator="type")]
