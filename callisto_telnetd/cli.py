"""The command line: ``serve``, and every command of the shell without a terminal.

Exit codes: 0 done, 1 failed, 2 misused. A command goes down the local socket of a running server; where none runs, it
works on the data folder itself, under the folder's lock. Words, and their help, are the shell's, from the one tree.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import pwd
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from callisto_telnetd import __version__
from callisto_telnetd.errors import CallistoError, FolderInUseError, UsageError
from callisto_telnetd.interpreter import uncollected
from callisto_telnetd.listeners.local_client import NoServerError, call, connect
from callisto_telnetd.secret_text import without_secrets
from callisto_telnetd.settings import Settings, default_data_folder, load_settings
from callisto_telnetd.standard_input import read_line, read_password, read_text
from callisto_telnetd.streams import discard, end_streams, stop_waiting
from callisto_telnetd.trace.sanitiser import clean, clean_json
from callisto_telnetd.whole_paths import with_whole_paths

_LOCK_S = 3.0
_LOCK_LOOK_S = 0.05
_ABOUT = "Callisto's management server, and its commands without a terminal."
_OPTIONS = "At the command line also: --data DIR, --config FILE, --json, -h"

app = typer.Typer(
    name="callisto-telnetd",
    help=_ABOUT,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[
    Path | None,
    typer.Option(
        # Whether it can be read is found out by whoever reads it: exit 1, in our own words.
        "--data",
        readable=False,
        help="The data folder; else $CALLISTO_DATA.",
        show_default=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", readable=False, help="The settings; else callisto.toml in the data folder."),
]
Json = Annotated[bool, typer.Option("--json", help="Print facts, and errors, as JSON.")]
Words = Annotated[
    list[str] | None, typer.Argument(help="The words of the shell's command; --help explains them.", show_default=False)
]
Secret = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input, one line.")]
TargetSecret = Annotated[
    bool, typer.Option("--target-password-stdin", help="Read the target's password, a line before the other.")
]
Help = Annotated[bool, typer.Option("--help", "-h", help="Print the shell's help for these words.")]


@dataclass(slots=True)
class Call:
    """What the command line was given beside its words."""

    data: Path | None = None
    config: Path | None = None
    as_json: bool = False
    flags: tuple[str, ...] = ()
    """The passwords that come by standard input, in their order: ``target-password``, ``password``."""
    secrets: list[str] | None = None
    text: str | None = field(default=None)
    """Of the file that goes with the command."""


def _show_version(wanted: bool) -> None:
    if wanted:
        _print(f"callisto-telnetd {__version__}")
        raise typer.Exit


@app.callback(help=_ABOUT)
def options(
    context: typer.Context,
    data: Data = None,
    config: Config = None,
    *,
    as_json: Json = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take what may stand before the words as well as behind them."""
    context.obj = Call(data, config, as_json)


@app.command()
def serve(
    context: typer.Context,
    data: Data = None,
    config: Config = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; default 127.0.0.1.", show_default=False)
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="TCP port; default 23, 0 takes a free one.", show_default=False)
    ] = None,
) -> None:
    """Serve until SIGTERM or SIGINT."""
    with uncollected():
        from callisto_telnetd import appliance  # noqa: PLC0415 - heavy, and only needed here

    stop_waiting()
    folder = data or context.obj.data or default_data_folder()
    appliance.require_own(folder)
    _finish_restore(folder)
    telnet = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    settings = load_settings(folder, config or context.obj.config, {"telnet": telnet} if telnet else {})
    appliance.run(appliance.serve(settings, folder, _print))


def _with_text(call: Call, words: list[str]) -> list[str]:
    """Read the file of ``variables import FILE``: the words of the shell have none."""
    if words[:1] == ["import"]:
        if len(words) < 2:
            raise UsageError("usage: variables import FILE|- [note=TEXT] [yes]")
        call.text = read_text(words[1])
        words = [words[0], *words[2:]]
    return words


def _with_passwords(call: Call, words: list[str]) -> list[str]:
    """Say in the words which passwords there are; without a terminal, nobody can be asked: there is none."""
    call.secrets = [read_password(flag) for flag in call.flags] or None
    if words[:2] == ["schedule", "add"]:
        return [*words, *call.flags]
    if "target-password" in call.flags:
        return [*words[:1], "target-password", *words[1:]]
    if call.secrets is None and not sys.stdin.isatty():
        call.secrets = [""]
    return words


def _with_backup(call: Call, words: list[str]) -> list[str]:
    folder = call.data or default_data_folder()
    return _with_passwords(call, with_whole_paths(words, folder / "backup"))


def _with_repair(call: Call, words: list[str]) -> list[str]:
    if words[:1] != ["fill"]:
        return words
    folder = call.data or default_data_folder()
    return _with_passwords(call, with_whole_paths(words, folder / "backup"))


def _with_file(_call: Call, words: list[str]) -> list[str]:
    """Give the file of ``trace show FILE`` its whole path, where it has one: a server has a folder of its own."""
    if len(words) > 1 and words[0] in {"show", "export", "play"} and ("/" in words[1] or Path(words[1]).is_file()):
        words[1] = str(Path(words[1]).absolute())
    return words


def _with_secret(call: Call, words: list[str]) -> list[str]:
    call.secrets = [read_line()] if "password" in call.flags else None
    return words


def _as_they_are(_call: Call, words: list[str]) -> list[str]:
    return words


@dataclass(frozen=True, slots=True)
class _Word:
    """A first word of the shell that the command line takes."""

    word: str
    help: str
    default: tuple[str, ...] = ()
    """The words that are meant where none follow."""
    prepare: Callable[[Call, list[str]], list[str]] = _as_they_are


WORDS = (
    _Word("trace", "Show processes and live records; start, list, show traces.", prepare=_with_file),
    _Word("repair", "Check the database, and repair it where it is damaged.", prepare=_with_repair),
    _Word("variables", "Show and change system variables.", ("list",), _with_text),
    _Word("information", "Show what the appliance is and how it fares."),
    _Word("date", "Show or set the appliance's clock."),
    _Word("services", "Show, start and stop Callisto's processes.", ("list",)),
    _Word("schedule", "Show what runs when.", ("list",)),
    _Word("user", "Show and change the administrators.", ("list",), _with_secret),
    _Word("audit", "Show the newest entries of the audit."),
    _Word("backup", "Make, verify and restore backups, also on a schedule.", ("list",), _with_backup),
    _Word("compact", "Write the database anew without its free pages."),
    _Word("demo", "Fill the appliance with demonstration data."),
    _Word("sessions", "Show who is on, and end a session."),
    _Word("whoami", "Show who you are for the appliance."),
    _Word("help", "Print the shell's help: help [WORD]."),
)
"""The main menu's words, and those of the words for every menu that make sense without one; a test compares them."""


def _command_of(known: _Word) -> Callable[..., None]:
    """Return what the command line runs for a first word."""

    def run(
        context: typer.Context,
        words: Words = None,
        data: Data = None,
        config: Config = None,
        *,
        as_json: Json = False,
        password_stdin: Secret = False,
        target_password_stdin: TargetSecret = False,
        wants_help: Help = False,
    ) -> None:
        given = list(words or [])
        if wants_help or known.word == "help":
            _show_help(given if known.word == "help" else [known.word, *given], with_options=wants_help)
            return
        before: Call = context.obj
        flags = (("target-password", target_password_stdin), ("password", password_stdin))
        call = Call(
            data or before.data,
            config or before.config,
            as_json or before.as_json,
            tuple(name for name, wanted in flags if wanted),
        )
        _command([known.word, *known.prepare(call, given or list(known.default))], call)

    return run


for _known in WORDS:
    # --note TEXT, --users 200 and -1 are words of the shell's own
    _settings = {"ignore_unknown_options": True}
    app.command(_known.word, help=_known.help, add_help_option=False, context_settings=_settings)(_command_of(_known))


def _show_help(words: Sequence[str], *, with_options: bool) -> None:
    """Print what the shell's ``help`` prints; no appliance is needed for that."""
    from callisto_telnetd.menus.everywhere import help_lines  # noqa: PLC0415 - heavy, and only needed here
    from callisto_telnetd.menus.main import MAIN_MENU  # noqa: PLC0415

    known = [word for word in words if not word.startswith("-")]
    lines, done = help_lines(MAIN_MENU, MAIN_MENU, known)
    for line in (*lines, *([_OPTIONS] if with_options else []), f"OK {done}"):
        _print(line)


def _command(words: list[str], call: Call) -> None:
    folder = call.data or default_data_folder()
    _finish_restore(folder)
    settings = load_settings(folder, call.config)
    terminal = sys.stdin.isatty() and call.text is None and call.secrets is None
    request = {
        "words": words,
        "json": call.as_json,
        "input": call.text,
        "secrets": call.secrets,
        "terminal": terminal,
        "size": _terminal_size(),
    }
    if code := _call_or_run(settings, folder, request):
        raise typer.Exit(code)


def _terminal_size() -> list[int] | None:
    """Return columns and rows of the terminal that the answers go to; None without one, or where it does not say."""
    size = list(os.get_terminal_size(1)) if sys.stdout.isatty() else [0]
    return size if all(size) else None


def _finish_restore(folder: Path) -> None:
    """Finish a restore that a crash interrupted: the settings are a part of it, and are read next."""
    if os.path.lexists(folder / "restore.new"):
        from callisto_telnetd import appliance  # noqa: PLC0415 - heavy, and seldom needed

        appliance.run(appliance.finish_restore(folder))


def _call_or_run(settings: Settings, folder: Path, request: dict[str, Any]) -> int:
    """Ask the server; without one, work on the folder itself, and ask again where another has just taken it."""
    deadline = time.monotonic() + _LOCK_S
    refused: list[str] = []  # by the server before it had read what form the answer is to have
    while True:
        try:
            with connect(folder / "run" / "control.sock") as connection:
                code = call(connection, request, _print, refused.append if request["json"] else _print_error, _ask)
            for line in refused:
                _print(_error_as_json(line.removeprefix("Error: "), code))
            return code
        except NoServerError:
            pass
        try:
            return _offline(settings, folder, request)
        except FolderInUseError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_LOCK_LOOK_S)


def _offline(settings: Settings, folder: Path, request: dict[str, Any]) -> int:
    with uncollected():
        from callisto_telnetd.appliance import Request, run, run_offline  # noqa: PLC0415 - heavy, and seldom needed

    async def ask(question: str, secret: bool) -> str:
        # Nobody else is served here, so the loop may stand still; Ctrl-C ends the question and the command with it.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return _ask(question, secret)
        except KeyboardInterrupt:
            raise asyncio.CancelledError from None
        finally:
            signal.signal(signal.SIGINT, before)

    who = pwd.getpwuid(os.geteuid()).pw_name
    secrets = None if request["secrets"] is None else tuple(request["secrets"])
    asked = Request(request["words"], request["json"], request["input"], secrets, request["terminal"])
    return run(run_offline(settings, folder, who=who, request=asked, out=_print, err=_print_error, ask=ask))


def _print(line: str) -> None:
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard(1)
        raise CallistoError(f"standard output cannot be written: {error.strerror}") from None


def _print_error(line: str) -> None:
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except OSError:  # nobody is left to be told; the exit code says the same
        discard(2)


def _error_as_json(text: str, code: int) -> str:
    return clean_json(json.dumps({"error": text, "exit": code}, ensure_ascii=False, separators=(",", ":")))


def _fail(text: str, code: int) -> int:
    """Say what is wrong, in the form that was asked for and without secrets; return the exit code."""
    text = without_secrets(text)
    if "--json" not in sys.argv[1:]:
        _print_error(f"Error: {clean(text)}")
        return code
    try:
        _print(_error_as_json(text, code))
    except (BrokenPipeError, CallistoError):  # nobody is left to be told; the exit code says the same
        discard(1)
    return code


def _ask(question: str, secret: bool) -> str:
    try:
        if not secret:
            return input(question)
        return getpass.getpass(question)
    except EOFError:
        raise UsageError("no answer; nothing was changed") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"the answer is no {error.encoding} text; nothing was changed") from None


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        code = _fail(f"{error.format_message().rstrip('.')}; see 'callisto-telnetd --help'", 2)
    except CallistoError as error:
        code = _fail(str(error), error.exit_code)
    except BrokenPipeError:
        discard(1)
        code = 1
    except (KeyboardInterrupt, typer.Abort, EOFError):
        code = 1
    except Exception:  # noqa: BLE001 - told here: after this, no thread writes any more
        traceback.print_exc()
        code = 1
    end_streams()
    sys.exit(code or 0)
