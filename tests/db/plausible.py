"""A database of plausible rows, the same for the same seed: what a repair is tried on."""

from __future__ import annotations

import hashlib
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from callisto_telnetd.db.schema import APPLICATION_ID, migrations, statements
from callisto_telnetd.db.tables import CALL_RESULTS, GREETING_OCCASIONS, MESSAGE_KINDS
from tests.db.forms import Form

OWN = Form()
_WORDS = ("please", "call", "back", "about", "the", "invoice", "für", "Zürich", "before", "noon", "naïve", "déjà")
_STATE = ("clock", "last_check", "last_backup", "schedule", "account_file")
_VARIABLES = {"gWebTimeout": "30", "gCocProxyMemory": "256", "gWebServerRestart": "9,02:00"}


def make_schema(file: Path, form: Form = OWN) -> sqlite3.Connection:
    """Return a connection to a new and empty database of Callisto's; the caller commits and closes."""
    connection = form.begin(file)
    for version, script in sorted(migrations().items()):
        for statement in statements(script):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={version}")
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    return connection


class Plausible:
    """Rows of every table but quarantine; ``size`` 1 is a database of about 2 MiB."""

    def __init__(self, seed: int, size: float = 1) -> None:
        self.chance = random.Random(seed)
        self.users = max(3, int(150 * size**0.5))
        self.size = size

    def fill(self, file: Path, *, deleting: bool = True, form: Form = OWN) -> None:
        """Make the database; some of its rows are then deleted again."""
        connection = make_schema(file, form)
        connection.execute("BEGIN")
        numbers = range(100, 100 + self.users)
        rows = {
            "user": ((number, self._name(), f"+41 44 {number:07d}") for number in numbers),
            "mailbox": ((number, self._hash() if number % 3 else "", "de", 1800) for number in numbers),
            "message": self._messages(),
            "greeting": self._greetings(numbers),
            "call_record": self._calls(),
            "account": self._accounts(),
            "variable": iter(_VARIABLES.items()),
            "state": ((key, '{"at": "2026-11-23T10:15:00+01:00"}') for key in _STATE),
            "variable_change": self._changes(),
            "audit": self._audit(),
        }
        for table, values in rows.items():
            first = next(values)
            sql = f"INSERT INTO {table} VALUES ({', '.join('?' * len(first))})"
            connection.execute(sql, first)
            connection.executemany(sql, values)
        connection.execute("COMMIT")
        if deleting:
            self._delete_some(connection)
        connection.close()
        form.finish(file)

    def _delete_some(self, connection: sqlite3.Connection) -> None:
        """Leave free pages and holes behind, as use does."""
        count = int(700 * self.size)
        connection.execute("DELETE FROM message WHERE id BETWEEN ? AND ?", (count // 3, count // 3 + count // 20))
        connection.execute("DELETE FROM call_record WHERE id % 41 = 0")

    def _name(self) -> str:
        return (
            f"{self.chance.choice(('Anna', 'Jürg', 'Zoë', 'Marc'))} {self.chance.choice(('Müller', 'Rossi', 'Meier'))}"
        )

    def _hash(self) -> str:
        return f"$argon2id$v=19$m=19456,t=2,p=1${self.chance.randbytes(11).hex()}${self.chance.randbytes(22).hex()}"

    def _at(self) -> str:
        chance = self.chance
        return (
            f"2026-{chance.randint(1, 12):02d}-{chance.randint(1, 28):02d}"
            f"T{chance.randint(0, 23):02d}:{chance.randint(0, 59):02d}:{chance.randint(0, 59):02d}+01:00"
        )

    def _party(self) -> str:
        return f"+4179{self.chance.randint(1000000, 9999999)}"

    def _digest(self) -> str:
        return hashlib.sha256(self.chance.randbytes(8)).hexdigest()

    def _transcript(self) -> str:
        length = self.chance.choice((0, 3, 20, 80, 80, 300, 1500 if self.chance.random() < 0.3 else 40))
        return " ".join(self.chance.choices(_WORDS, k=length))

    def _messages(self) -> Iterator[tuple[object, ...]]:
        for number in range(1, int(700 * self.size) + 1):
            yield (
                number,
                100 + self.chance.randrange(self.users),
                self.chance.choice(MESSAGE_KINDS),
                self._at(),
                self._party(),
                self.chance.randint(0, 180_000),
                self.chance.randint(0, 1),
                self._digest(),
                self._transcript(),
            )

    def _greetings(self, numbers: range) -> Iterator[tuple[object, ...]]:
        for number in numbers:
            for occasion in GREETING_OCCASIONS[: self.chance.randint(1, 3)]:
                yield number, occasion, self._at(), self.chance.randint(1000, 30_000), self._digest()

    def _calls(self) -> Iterator[tuple[object, ...]]:
        for number in range(1, int(5000 * self.size) + 1):
            user = None if self.chance.random() < 0.1 else 100 + self.chance.randrange(self.users)
            result = self.chance.choice(CALL_RESULTS)
            yield (
                number,
                self._at(),
                self._party(),
                self._party(),
                user,
                result,
                self.chance.randint(0, 30_000),
                self.chance.randint(0, 900_000),
            )

    def _accounts(self) -> Iterator[tuple[object, ...]]:
        for name in ("admin", "anna", "beat"):
            yield name, self._hash(), self._at(), self._at(), "192.0.2.7", "telnet"
        yield "fresh", self._hash(), self._at(), None, None, None

    def _changes(self) -> Iterator[tuple[object, ...]]:
        for number in range(1, int(600 * self.size) + 1):
            undoes = number - 1 if number % 50 == 0 else None
            yield (
                number,
                number,
                self._at(),
                self.chance.choice(tuple(_VARIABLES)),
                str(number % 60),
                None if number % 9 == 0 else str(number % 61),
                "admin",
                "telnet",
                "192.0.2.7",
                "",
                undoes,
            )

    def _audit(self) -> Iterator[tuple[object, ...]]:
        for number in range(1_000_001, 1_000_001 + int(2500 * self.size)):
            yield number, self._at(), "logged in", "admin", "telnet", "192.0.2.7", "session " + str(number)
