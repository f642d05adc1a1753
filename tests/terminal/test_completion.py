from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from callisto_telnetd.assembly import open_parts
from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.menus.answers import Line
from callisto_telnetd.menus.context import Context, Parts
from callisto_telnetd.menus.everywhere import EVERYWHERE, show_help
from callisto_telnetd.menus.main import MAIN_MENU
from callisto_telnetd.menus.trace_words import header_lines, parse_request
from callisto_telnetd.menus.tree import Menu
from callisto_telnetd.menus.variables import VARIABLES_MENU
from callisto_telnetd.origin import Origin
from callisto_telnetd.settings import Settings
from callisto_telnetd.terminal.command_door import CommandDoor, Request, run_command
from callisto_telnetd.terminal.completion import complete
from callisto_telnetd.trace.capture import CaptureRequest

ADA = Origin("ada", "local", "local")
Run = Callable[..., Awaitable[tuple[int, list[str]]]]


async def _no_answer(_question: str, _secret: bool) -> str:
    raise AssertionError("nothing is to be asked")


async def _no_drain() -> None:
    pass


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    """The appliance of a new folder, without listeners; Python's logging gets back what was changed of it."""
    root, library = logging.getLogger(), logging.getLogger("telnetlib3")
    before = root.handlers[:], root.level, library.level
    folder = DataFolder(tmp_path / "data")
    folder.make()
    with folder.lock() as lock:
        async with open_parts(Settings(), folder, lock, serving=False) as parts:
            await parts.clock.recent_zones.read()
            yield parts
    root.handlers[:], root.level, library.level = before
    logging.captureWarnings(capture=False)


def door_of(request: Request, printed: list[str]) -> CommandDoor:
    """Return a command line's door that prints into a list."""
    return CommandDoor(request, lambda frame: printed.append(frame.text), _no_answer, _no_drain)


@pytest.fixture
def run(parts: Parts) -> Run:
    """Run a command line and return its exit code and what it prints."""

    async def run_(*words: str, text: str | None = None) -> tuple[int, list[str]]:
        printed: list[str] = []
        code = await run_command(parts, ADA, door_of(Request(list(words), input=text), printed))
        return code, printed

    return run_


@pytest.fixture
def context(parts: Parts) -> Context:
    """A session in the main menu."""
    return Context(parts, ADA, door_of(Request([]), []), MAIN_MENU)


def words(context: Context, text: str) -> tuple[str, ...]:
    """Return what may stand at the end of the text."""
    completion = complete(context, text)
    assert all(word.lower().startswith(text[completion.start :].lower()) for word in completion.candidates)
    assert not any(blank in text[completion.start :] for blank in " \t")
    return completion.candidates


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("variables set ", "NAME VALUE [note=TEXT]"),
        ("variables set gBridgeTransfer ", "VALUE [note=TEXT]"),
        ("variables set gBridgeTransfer 1 note=a b ", "[note=TEXT]"),
        ("user remove ", "NAME [yes]"),
        ("notices ", "on|off"),
        ("whoami ", ""),
        ("var", ""),
        ("nonsense ", ""),
    ],
)
def test_a_completion_tells_how_the_line_goes_on(context: Context, text: str, hint: str) -> None:
    """Behind a command's words stands what of its usage is still to come."""
    assert complete(context, text).hint == hint


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("tr", ("trace",)),
        ("TR", ("trace",)),
        ("no", ("notices",)),
        ("lo", ("logout",)),
        ("variables se", ("set",)),
        ("3 se", ("set",)),
        ("v  un", ("undo",)),
        ("variables set gwebt", ("gWebTimeout",)),
        ("variables set nothing ", ()),
        ("trace lis", ("list",)),
        ("trace be", ("before=",)),
        ("trace f", ("for=", "format=")),
        ("trace format=", ("format=text", "format=jsonl")),
        ("trace le", ("level=",)),
        ("trace start level=e", ("level=error", "level=emergency")),
        ("trace level=info le", ()),
        ("trace before=10s be", ()),
        ("trace records=1 si", ("size=",)),
        ("trace tail m", ("match=",)),
        ("trace callisto-telnetd n", ("note=",)),
        ("trace x,cal", ("callisto-telnetd",)),
        ("trace callisto-telnetd,cal", ()),
        ("trace x,level=", ()),
        ("trace play f.log sp", ("speed=",)),
        ("trace export f.log format=c", ("format=csv",)),
        ("trace attach f.log b", ("before=",)),
        ("variables show gweb", ("gWebServerRestart", "gWebTimeout")),
        ("variables set gTimeServer ", ("pool.ntp.org",)),
        ("variables set gWebTimeout 3", ()),
        ("variables set gWebTimeout ", ("20",)),
        ("variables set gWebTimeout 30 n", ("note=",)),
        ("variables set gBridgeTransfer ", ("0", "1")),
        ("variables reset gWebTimeout n", ("note=",)),
        ("variables history l", ("limit=",)),
        ("backup create n", ("note=",)),
        ("backup schedule add n", ()),
        ("backup schedule add night pl", ("plan=",)),
        ("backup schedule add night plan=s", ("plan=sun", "plan=sat")),
        ("backup schedule add night plan=daily 02:00 target=f", ("target=ftps://", "target=ftp://", "target=file:///")),
        ("backup schedule add night plan=daily pass", ("password",)),
        ("backup schedule add night plan=daily target=x keep-l", ("keep-last=",)),
        ("backup schedule remove night y", ("yes",)),
        ("backup schedule remove night yes ", ()),
        ("demo users=5 us", ()),
        ("trace level=w", ("level=warning",)),
        ("trace level=info callisto", ("callisto-telnetd",)),
        ("trace list ", ()),
        ("trace show ", ()),
        ("date z", ("zone",)),
        ("date zone Europe/Zur", ("Europe/Zurich",)),
        ("date zone Europe/Zurich E", ()),
        ("help vari", ("variables",)),
        ("help services re", ("restart",)),
        ("help repair ", ()),
        ("help nonsense ", ()),
        ("repair b", ("backup=NEWEST",)),
        ("repair backup=NEWEST ", ("yes",)),
        ("repair yes ", ()),
        ("comp", ("compact",)),
        ("services restart w", ("web-server",)),
        ("services restart web-server ", ("yes",)),
        ("schedule ", ("list",)),
        ("date preview z", ("zone",)),
        ("date preview zone Europe/Zur", ("Europe/Zurich",)),
        ("demo us", ("users=",)),
        ("notices o", ("on", "off")),
        ("user rem", ("remove",)),
        ("nonsense x", ()),
        ("variables s g", ()),
        ('variables set "gWeb', ()),
        ('variables set "gWebTimeout ', ()),
        ("x", ()),
    ],
)
async def test_what_may_stand_at_the_end_of_a_line(context: Context, text: str, found: tuple[str, ...]) -> None:
    """Words of menus, names, options and values complete, in any case; behind unknown words nothing does."""
    assert words(context, text) == found


def test_an_empty_line_completes_to_all_words(context: Context) -> None:
    """With nothing typed all words of the menu and those that work everywhere may stand there, each once."""
    found = words(context, "")

    assert found[:6] == ("trace", "repair", "variables", "information", "date", "logout")
    assert set(found) == {entry.word for entry in (*MAIN_MENU.entries, *EVERYWHERE)}
    assert len(set(found)) == len(found)


def test_a_sub_menu_completes_its_own_words(context: Context) -> None:
    """In a sub-menu its words come first, and lead on."""
    context.menu = VARIABLES_MENU

    assert words(context, "s") == ("show", "set", "sessions")
    assert words(context, "show gWebTi") == ("gWebTimeout",)
    assert words(context, "tra") == ("trace",)  # every command can be given everywhere
    assert words(context, "trace sta") == ("start", "status")


async def test_accounts_and_captures_complete(context: Context, parts: Parts) -> None:
    """What exists now may stand there: accounts, the files of captures, and of those that run their names alone."""
    await parts.accounts.add("bob", "Secret-123", ADA)
    ended = await parts.captures.start(CaptureRequest("ada"), [])
    ended.stop()
    await ended.closed
    running = await parts.captures.start(CaptureRequest("bob"), [])
    async with asyncio.timeout(10):
        while len(await parts.captures.recent_names.read()) < 2:
            pass

    assert words(context, "user passwd ") == ("bob",)
    for word in ("show", "delete", "export", "play"):
        assert words(context, f"trace {word} ") == (ended.name, running.name)
    for word in ("stop", "attach"):
        assert words(context, f"trace {word} ") == (running.name,)
    assert words(context, "trace attach b") == ("before=",)
    assert words(context, f"trace export {running.name} format=c") == ("format=csv",)


@pytest.mark.parametrize("last", ["yes", "YES"])
async def test_an_import_takes_yes_behind_its_note(parts: Parts, run: Run, last: str) -> None:
    """``yes`` as the last word confirms, also where a note that flows stands before it."""
    code, printed = await run("variables", "import", "note=why", "so", last, text="gWebTimeout = 30\n")

    assert (code, printed[-1]) == (0, "OK 1 variable imported")
    assert parts.variables.text("gWebTimeout") == "30"
    assert (await parts.variables.history(None, 1))[0].note == "why so"


async def test_an_import_without_yes_changes_nothing(parts: Parts, run: Run) -> None:
    """Without a terminal nobody confirms: the diff is shown, and the values stay."""
    code, printed = await run("variables", "import", text="gWebTimeout = 30\n")

    assert code == 2
    assert printed[0] == "gWebTimeout = 30 (now 20)"
    assert printed[-1].endswith("nobody to ask without a terminal; add 'yes' as the last word")
    assert parts.variables.text("gWebTimeout") == "20"


async def test_a_repair_does_not_begin_beside_other_work_on_the_database(parts: Parts, run: Run) -> None:
    """While the database is compacted or checked, a repair is refused with a line that says so."""
    async with parts.repairing.held("system", "checks the database"):
        code, printed = await run("repair", "yes")

    refusal = "Error: system checks the database, 0 s so far; nothing was changed; try again later"
    assert (code, printed) == (2, [refusal])


async def test_compact_tells_its_steps_and_keeps_its_sizes(parts: Parts, run: Run) -> None:
    """A line a step; the sizes before and after stand in the answer and in the audit."""
    code, printed = await run("compact")

    assert (code, printed[0]) == (0, "Checking …")
    assert all(line.endswith((" …", " % done")) for line in printed[:-1])
    sizes = printed[-1].removeprefix("OK database compacted, ")
    assert re.fullmatch(r"\d+\.\d KiB before, \d+\.\d KiB after", sizes)
    assert (await parts.audit.entries(1))[0].detail == sizes


async def test_a_note_of_a_trace_forges_no_line(context: Context, parts: Parts) -> None:
    """A line end in a note stays inside the header's line."""
    request = parse_request(context, ["records=1", "note=a\nforged"])
    capture = await parts.captures.start(request, header_lines(context, request))
    capture.stop()
    summary = await capture.closed

    assert "; note: a\\x0aforged\n" in parts.captures.folder.find(summary.file).read_text()


async def test_without_a_server_there_is_nothing_to_trace(run: Run, parts: Parts) -> None:
    """A command line on a folder that no server has says so, and makes no file."""
    for word in ("", "start", "status", "tail", "processes"):
        code, printed = await run("trace", *word.split())
        assert (code, len(printed)) == (1, 1)
        assert printed[0].endswith("no server runs on this data folder: there is nothing to trace")

    assert parts.captures.folder.files() == []


@pytest.mark.parametrize(
    "menu", [entry for entry in MAIN_MENU.entries if isinstance(entry, Menu)], ids=lambda e: e.word
)
async def test_help_in_a_menu_names_each_word_once(context: Context, menu: Menu) -> None:
    """Each word of the menu stands there once with what it does, in one column; longer ones stand above it."""
    context.menu = menu
    lines = [answer.text async for answer in show_help(context, []) if isinstance(answer, Line)]

    for entry in menu.entries:
        at = [place for place, line in enumerate(lines) if f"{line} ".startswith(f"  {entry.word} ")]
        assert len(at) == 1, entry.word
        line = lines[at[0]] if entry.help in lines[at[0]] else lines[at[0] + 1]
        assert line.index(entry.help) == 37


async def test_help_keeps_its_columns_where_words_are_long(context: Context) -> None:
    """Words that are longer than their column stand above what they do."""
    lines = [answer.text async for answer in show_help(context, []) if isinstance(answer, Line)]
    at = lines.index("  demo [users=N] [messages=N] [calls=N] [seed=N] [yes]")

    assert lines[at + 1] == f"{'':<37}fill the appliance with demonstration data"


async def test_every_menu_and_help_is_free_of_prompts(parts: Parts, run: Run) -> None:
    """No line of any help or plain listing looks like a prompt, or holds a word by which scripts know a log-in."""
    calls = [["help"], ["information"], ["user", "list"], ["variables", "list"], ["trace", "list"], ["sessions"]]
    calls += [["help", entry.word] for entry in (*MAIN_MENU.entries, *EVERYWHERE)] + [["variables"], ["user"]]
    calls += [["services"], ["services", "list"], ["schedule"]]
    for call in calls:
        code, printed = await run(*call)
        assert code == 0, call
        for line in printed:
            assert line.rstrip()[-1:] not in set(">#$%"), line
            assert " " in line.strip() or line.strip()[-1:] not in set(":]"), line
            own = line.replace("gPhoneLoginWithNumber", "")  # the appliance's own name, shown where it was asked for
            assert not [word for word in ("login", "username", "password:") if word in own.lower()], line
        assert [line for line in printed if line.startswith("OK")] == printed[-1:]


async def test_a_cancelled_change_of_the_clock_leaves_memory_and_disk_together(parts: Parts) -> None:
    """Whenever the caller of `date zone` goes, the zone in memory is the one in the database."""
    for turns in range(12):
        zone = ("Asia/Tokyo", "Europe/Zurich")[turns % 2]
        door = door_of(Request(["date", "zone", zone]), [])
        changing = asyncio.create_task(run_command(parts, ADA, door))
        for _ in range(turns):
            await asyncio.sleep(0)
        changing.cancel()
        await asyncio.gather(changing, return_exceptions=True)
        await parts.store.fetch("SELECT 1")  # behind the transaction, if one has begun
        kept = await parts.store.get_state("clock")
        assert parts.clock.zone_name in (kept or parts.clock.zone_name)


async def test_an_account_named_yes_is_an_account_like_any_other(run: Run, parts: Parts) -> None:
    """Only the last word confirms; the one before it is a name, whatever it says."""
    for name in ("ada", "yes"):
        await parts.accounts.add(name, "Secret-123", ADA)

    assert (await run("user", "remove", "yes"))[0] == 2
    assert await run("user", "remove", "yes", "yes") == (0, ["OK account yes removed, 0 other sessions ended"])


async def test_facts_of_the_system_are_numbers_for_programs(parts: Parts) -> None:
    """`information --json` has sizes in bytes and times in seconds, and says that no server runs."""
    printed: list[str] = []
    assert await run_command(parts, ADA, door_of(Request(["information"], as_json=True), printed)) == 0

    facts = json.loads(printed[0])
    assert facts["system"]["memory_total_bytes"] > 1 << 20
    assert facts["database"]["size_bytes"] > 4096
    assert facts["processes"] == []
    assert facts["clock"]["server_uptime_s"] is None


async def test_no_password_of_a_command_stands_in_the_trace(run: Run, parts: Parts) -> None:
    """The command is there, with the URL that it was given, but for the password in it."""
    code, _ = await run("whoami", "sftp://bob:S3cret@host.invalid/a.zip")
    said = [repr(record.fields) for record in parts.hub.held()]

    assert code != 0
    assert any("sftp://bob:…@host.invalid/a.zip" in text for text in said), said
    assert not [text for text in said if "S3cret" in text]
