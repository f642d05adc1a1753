"""The schema's tables as types: what each column holds, and by what a row is known where the schema itself is lost.

Rules:

* :data:`TABLES` is what ``migrations/`` make, in an order in which parents come before their children.
* Nothing here opens a database: this is read by what must work where SQLite gives up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from callisto_telnetd.db.column_kinds import (
    Digest,
    Kind,
    Line,
    Moment,
    Name,
    PasswordHash,
    Text,
    Whole,
    Word,
    add_functions,
)
from callisto_telnetd.db.schema import MOST_STATE

__all__ = [
    "CALL_RESULTS",
    "GREETING_OCCASIONS",
    "MESSAGE_KINDS",
    "TABLES",
    "VARIABLES",
    "Column",
    "Kind",
    "Reference",
    "Table",
    "add_functions",
    "table_named",
]

MESSAGE_KINDS = ("voice", "fax")
"""``message.kind``."""
GREETING_OCCASIONS = ("standard", "busy", "no-answer", "absent", "closed")
"""``greeting.occasion``."""
CALL_RESULTS = ("answered", "busy", "no-answer", "voicemail", "failed")
"""``call_record.result``."""

HIGHEST_ID = 2**53 - 1
"""No table counts so far, and JSON takes it without loss; a damaged row id is mostly higher."""
_LONGEST_CHANGE = 4000
"""Of an audit's detail: the trigger of a changed variable writes its name and two values of up to 1,000 characters."""

_ID = Whole(1, HIGHEST_ID)
_NUMBER = Whole(1, 999_999_999)  # as high as variables take an internal number
_DURATION = Whole(0, 2**31 - 1)
_MOMENT = Moment()
_VARIABLE = Name(64)
_ACCOUNT = Name(32, rest="A-Za-z0-9._-")
_STATE_KEY = Name(64, rest="A-Za-z0-9_.:/-")
_LANGUAGE = Name(32, rest="A-Za-z0-9-")
_DOOR = Line(64)
_SOURCE = Line(300)
_WHO = Line(400)  # the audit cuts at 64 characters, each of which may then become six: \u2028
_PARTY = Line(200)  # a number or a name, as the exchange passes it on
_VALUE = Line(1000)


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, and what it holds."""

    name: str
    kind: Kind
    nullable: bool = False

    def fault(self, value: object) -> str | None:
        """Return None where the column takes ``value``, else what it should be."""
        return None if value is None and self.nullable else self.kind.fault(value)

    def sql(self, of: str = "") -> str:
        """Return the same test as an SQL expression over the column, of the table of that name: 1 or 0."""
        column = f'{of}."{self.name}"' if of else f'"{self.name}"'
        return f"({column} IS NULL OR {self.kind.sql(column)})" if self.nullable else self.kind.sql(column)


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key: ``column`` names a row of ``table`` by that one's ``key``."""

    column: str
    table: str
    key: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the schema."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    rowid: bool
    """Whether ``key`` is one INTEGER PRIMARY KEY, which is the row id and stands as NULL in its record. Otherwise the
    table is WITHOUT ROWID: an index b-tree whose records have the columns of the key first."""
    references: tuple[Reference, ...] = ()
    children: tuple[str, ...] = ()
    """The tables that refer to this one; itself where rows refer to rows."""
    usual: str = ""
    """How the first column of nearly every row begins, where other tables have rows of the same form: a pattern."""

    @property
    def stored(self) -> tuple[int, ...]:
        """The places of the columns in the order in which a record of the file holds them."""
        if self.rowid:
            return tuple(range(len(self.columns)))
        names = [column.name for column in self.columns]
        first = [names.index(name) for name in self.key]
        return (*first, *(place for place in range(len(names)) if place not in first))

    def faults(self, values: Sequence[object]) -> dict[str, str]:
        """Return what is wrong with a row, by column; empty where it is valid."""
        return {
            column.name: fault
            for column, value in zip(self.columns, values, strict=True)
            if (fault := column.fault(value)) is not None
        }

    def key_of(self, values: Sequence[object]) -> tuple[object, ...]:
        """Return the key of a row."""
        return tuple(value for column, value in zip(self.columns, values, strict=True) if column.name in self.key)


_USER = Table(
    "user",
    (Column("number", _NUMBER), Column("name", Line(200)), Column("phone", Line(100))),
    ("number",),
    rowid=True,
    children=("mailbox", "call_record"),
)
_MAILBOX = Table(
    "mailbox",
    (
        Column("number", _NUMBER),
        Column("pin_hash", PasswordHash(blank=True)),
        Column("language", _LANGUAGE),
        Column("quota_s", _DURATION),
    ),
    ("number",),
    rowid=True,
    references=(Reference("number", "user", "number"),),
    children=("message", "greeting"),
)
_MESSAGE = Table(
    "message",
    (
        Column("id", _ID),
        Column("mailbox", _NUMBER),
        Column("kind", Word(MESSAGE_KINDS)),
        Column("at", _MOMENT),
        Column("caller", _PARTY),
        Column("length_ms", _DURATION),
        Column("heard", Whole(0, 1)),
        Column("recording", Digest()),
        Column("transcript", Text(200_000)),
    ),
    ("id",),
    rowid=True,
    references=(Reference("mailbox", "mailbox", "number"),),
)
_GREETING = Table(
    "greeting",
    (
        Column("mailbox", _NUMBER),
        Column("occasion", Word(GREETING_OCCASIONS)),
        Column("at", _MOMENT),
        Column("length_ms", _DURATION),
        Column("recording", Digest()),
    ),
    ("mailbox", "occasion"),
    rowid=False,
    references=(Reference("mailbox", "mailbox", "number"),),
)
_CALL_RECORD = Table(
    "call_record",
    (
        Column("id", _ID),
        Column("at", _MOMENT),
        Column("caller", _PARTY),
        Column("called", _PARTY),
        Column("user", _NUMBER, nullable=True),
        Column("result", Word(CALL_RESULTS)),
        Column("ring_ms", _DURATION),
        Column("talk_ms", _DURATION),
    ),
    ("id",),
    rowid=True,
    references=(Reference("user", "user", "number"),),
)
_ACCOUNT_TABLE = Table(
    "account",
    (
        Column("name", _ACCOUNT),
        Column("password_hash", PasswordHash()),
        Column("created_at", _MOMENT),
        Column("last_access_at", _MOMENT, nullable=True),
        Column("last_access_source", _SOURCE, nullable=True),
        Column("last_access_door", _DOOR, nullable=True),
    ),
    ("name",),
    rowid=False,
)
_AUDIT = Table(
    "audit",
    (
        Column("id", _ID),
        Column("at", _MOMENT),
        Column("event", Line(200, shortest=1)),
        Column("who", _WHO),
        Column("door", _DOOR),
        Column("source", _SOURCE),
        Column("detail", Line(_LONGEST_CHANGE)),
    ),
    ("id",),
    rowid=True,
)
VARIABLES = Table(
    "variable",
    (Column("name", _VARIABLE), Column("value", _VALUE)),
    ("name",),
    rowid=False,
    usual="g[A-Z]",
)
_VARIABLE_CHANGE = Table(
    "variable_change",
    (
        Column("id", _ID),
        Column("batch", _ID),
        Column("at", _MOMENT),
        Column("name", _VARIABLE),
        Column("old", _VALUE, nullable=True),
        Column("new", _VALUE, nullable=True),
        Column("who", _WHO),
        Column("door", _DOOR),
        Column("source", _SOURCE),
        Column("note", _VALUE),
        Column("undoes", _ID, nullable=True),
    ),
    ("id",),
    rowid=True,
    references=(Reference("undoes", "variable_change", "id"),),
    children=("variable_change",),
)
_STATE = Table(
    "state",
    (Column("key", _STATE_KEY), Column("value", Text(MOST_STATE))),
    ("key",),
    rowid=False,
    usual="(?!g[A-Z])",
)
_QUARANTINE = Table(
    "quarantine",
    (
        Column("id", _ID),
        Column("at", _MOMENT),
        Column("origin", Line(200)),
        Column("reason", Line(1000)),
        Column("content", Text(2_000_000)),
    ),
    ("id",),
    rowid=True,
)

TABLES: tuple[Table, ...] = (
    _ACCOUNT_TABLE,
    _AUDIT,
    VARIABLES,
    _VARIABLE_CHANGE,
    _STATE,
    _USER,
    _MAILBOX,
    _MESSAGE,
    _GREETING,
    _CALL_RECORD,
    _QUARANTINE,
)
"""Every table, parents before children."""

_BY_NAME = {table.name: table for table in TABLES}


def table_named(name: str) -> Table | None:
    """Return the table of that name, None where the schema has none."""
    return _BY_NAME.get(name)
