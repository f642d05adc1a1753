"""What ``--json`` prints, of every command: one name for one thing, ISO 8601, numbers, no prose in a value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from callisto_telnetd.menus.everywhere import EVERYWHERE
from callisto_telnetd.menus.main import MAIN_MENU
from callisto_telnetd.menus.tree import Command, Menu
from tests.cli.conftest import Run
from tests.conftest import PASSWORD, Server, servers

_OTHER_NAMES = {
    **dict.fromkeys(("id", "change"), "number"),
    **dict.fromkeys(("time", "started", "created", "since", "begun", "stamp"), "at"),
    **dict.fromkeys(("account", "user", "by"), "who or name"),
    **dict.fromkeys(("bytes", "size"), "size_bytes"),
    **dict.fromkeys(("seconds", "s", "duration"), "took_s"),
    **dict.fromkeys(("archive", "path"), "file"),
    "product_version": "version",
}
"""Names that were used for a thing, and the one that counts."""
_TEXTS = {
    *(
        "allowed",
        "comment",
        "detail",
        "error",
        "event",
        "help",
        "last_exit",
        "line",
        "meaning",
        "note",
        "reason",
        "result",
    ),
    *(
        "text",
        "operating_system",
        "processor",
        "faults",
        "notes",
        "reasons",
        "left_out",
        "reconstructed",
        "journal",
        "password",
        "state",
    ),
}
"""What is there for people to read, and is said to be so."""
OPERATORS = Path(__file__).parents[2] / "docs" / "operators.md"
_KEY = re.compile(r"[a-z][a-z0-9_]*")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[ T]")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_PROSE = re.compile(r"\d (B|[KMGT]iB|s|min|h|d|rows?)\b| ago\b|^(never|none|not set|unknown|blank|default|yes|no)$")


def commands() -> dict[str, Command]:
    """Return every command that has facts, by the words that lead to it."""

    def walk(menu: Menu, before: str) -> Iterator[tuple[str, Command]]:
        for entry in menu.entries:
            path = f"{before} {entry.word}".strip()
            if isinstance(entry, Command):
                yield path, entry
            else:
                yield from walk(entry, path)

    found = dict(walk(MAIN_MENU, "")) | {command.word: command for command in EVERYWHERE}
    return {path: command for path, command in found.items() if command.facts != "none"}


def documented_fields() -> dict[str, set[str]]:
    """Return the fields of each command that docs/operators.md names in its table."""
    text = OPERATORS.read_text(encoding="utf-8").partition("### Fields of `--json`")[2].partition("\n## ")[0]
    told: dict[str, set[str]] = {}
    for line in text.splitlines():
        if line.startswith("| `"):
            head, rest = line.split(" | ", 1)
            for path in re.findall(r"`([a-z ]+)`", head):
                told[path] = set(re.findall(r"`([A-Za-z_]+)`", rest))
    return told


def faults_of(value: Any, key: str = "", *, names: bool = False) -> Iterator[str]:
    """Yield what breaks the rules in an answer."""
    if isinstance(value, dict):
        for name, each in value.items():
            if not names and (not _KEY.fullmatch(name) or name in _OTHER_NAMES):
                yield f"{name!r} is no name here; rather {_OTHER_NAMES.get(name, 'a_name')!r}"
            yield from faults_of(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from faults_of(each, key)
    elif isinstance(value, str) and key not in _TEXTS:
        is_time = key == "at" or key.endswith("_at")
        if is_time and (not _MOMENT.match(value) or datetime.fromisoformat(value).tzinfo is None or "T" not in value):
            yield f"{key}: {value!r} is no time with its zone"
        if _MOMENT.match(value) and not is_time:
            yield f"{key}: {value!r} is a time under a name of something else"
        if _NUMBER.fullmatch(value):
            yield f"{key}: {value!r} is a number as text"
        if _PROSE.search(value):
            yield f"{key}: {value!r} is prose"
    elif value is not None and (key == "at" or key.endswith("_at")):
        yield f"{key}: {value!r} is no text"


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ({"at": "2026-01-02 03:04:05"}, "at: '2026-01-02 03:04:05' is no time with its zone"),
        ({"name": "2026-01-02T03:04:05+00:00"}, "is a time under a name of something else"),
        ({"value": "20"}, "value: '20' is a number as text"),
        ({"size": 20}, "'size' is no name here; rather 'size_bytes'"),
        ({"Last check": None}, "'Last check' is no name here"),
        ([{"last": [{"copy": "12.3 KiB, 3 rows"}]}], "is prose"),
        ({"serial": "not set"}, "is prose"),
    ],
)
def test_the_rules_find_what_breaks_them(answer: Any, fault: str) -> None:
    """The mechanical rules of the next test see each of the faults that they are for."""
    assert fault in " ".join(faults_of(answer))


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Server]:
    """A server with a service of its own; its appliance is empty."""
    with servers(tmp_path) as start:
        yield start('[services.sleeper]\ncommand = ["/bin/sleep", "1000"]\n')


def test_every_answer_keeps_the_rules(run: Run, filled: Server, tmp_path: Path) -> None:
    """Each command of the tree is run with --json beside a server, and no fact breaks a rule."""
    asked: set[str] = set()
    found: list[str] = []
    fields: dict[str, set[str]] = {}
    target = tmp_path / "target"
    target.mkdir()

    def ask(path: str, *words: str, code: int = 0, text: str = "") -> Any:
        asked.add(path)
        outcome = run(*path.split(), *words, "--json", data=filled.data, text=text).require(code)
        stream = commands()[path].facts == "stream" if path in commands() else path == "trace"
        facts = [json.loads(line) for line in outcome.lines] if stream else outcome.facts
        found.extend(f"{path}: {fault}" for fault in faults_of(facts, names=path == "variables export"))
        for each in facts if isinstance(facts, list) else [facts]:
            fields.setdefault(path, set()).update(each if path != "variables export" else ())
        return facts

    ask("demo", "users=3", "messages=4", "calls=5")
    for path, words in (
        ("variables set", ("gWebTimeout", "30", "note=tried")),
        ("variables set", ("gWebServerRestart", "sun,wed 02:00")),
        ("variables set", ("gDefaultMailbox", "1000")),
        ("variables show", ("gWebTimeout",)),
        ("variables show", ("gWebServerRestart",)),
        ("variables show", ("gTimeServer",)),
        ("variables list", ()),
        ("variables diff", ()),
        ("variables reset", ("gDefaultMailbox",)),
        ("variables history", ()),
        ("variables undo", ()),
        ("variables export", ()),
        ("date", ()),
        ("date zone", ("Europe/Zurich",)),
        ("date preview", ("2031-01-02", "10:00:00")),
        ("repair", ("yes",)),
        ("repair", ("quarantine",)),
        ("compact", ()),
        ("services list", ()),
        ("services stop", ("sleeper",)),
        ("services start", ("sleeper",)),
        ("services restart", ("sleeper",)),
        ("services log", ("sleeper",)),
        ("schedule list", ()),
        ("user list", ()),
        ("audit", ("100",)),
        ("whoami", ()),
        ("backup list", ()),
        ("trace processes", ()),
        ("trace list", ()),
        ("trace", ("records=1", "before=1h")),
        ("trace tail", ("before=1h", "match=nothing-of-this", "level=emergency")),
    ):
        if path != "trace tail":  # a view without an end; the records are those of 'trace'
            ask(path, *words)
        asked.add(path)
    ask("variables import", "-", "yes", text="gRecordVolume = 300\n")
    ask("user add", "bob", "--password-stdin", text=PASSWORD)
    ask("user passwd", "bob", "--password-stdin", text=PASSWORD)
    bob = filled.log_in("bob")
    listed = ask("sessions")
    assert {"number", "who", "source", "door", "at"} == set(listed[0])
    ask("sessions", "end", str(listed[0]["number"]))
    bob.expect_closed()
    ask("user remove", "bob", "yes")
    _ask_traces(ask)
    _ask_backups(ask, target)
    ask("information")

    assert not found, "\n".join(found)
    told = documented_fields()
    assert {
        path: sorted(names - told.get(path, set())) for path, names in fields.items() if names - told.get(path, set())
    } == {}
    assert set(commands()) - asked == {"date sync", "history", "trace attach"}, "commands that no example runs"


def _ask_traces(ask: Any) -> None:
    file = ask("trace start", "note=x")["file"]
    assert ask("trace status")[0]["who"]
    ask("trace stop", file)
    ask("trace list")
    ask("trace show", file)
    ask("trace export", file)
    ask("trace play", file, "speed=1000")
    ask("trace delete", file, "yes")


def _ask_backups(ask: Any, target: Path) -> None:
    file = ask("backup create", "note=x")["file"]
    ask("backup list")
    ask("backup verify", file)
    ask("backup plan", file)
    ask("backup restore", file, "yes")
    ask("backup undo", "yes")
    ask("backup schedule add", "far", "--plan", "127,02:00", "--target", f"file://{target}", "--keep-last", "2")
    for command in ("list", "show", "test", "run"):
        ask(f"backup schedule {command}", *(() if command == "list" else ("far",)))
    ask("backup schedule list")
    ask("backup schedule remove", "far", "yes")
    ask("schedule list")
    ask("backup delete", file, "yes")
