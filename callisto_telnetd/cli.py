"""The command line: ``serve``, and every command of the shell without a terminal.

Exit codes: 0 done, 1 failed, 2 misused. A command goes down the local socket of a running server; where none runs, it
works on the data folder itself, under the folder's lock.
"""

from __future__ import annotations

import asyncio
import getpass
import os
import pwd
import signal
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from callisto_telnetd import __version__
from callisto_telnetd.errors import CallistoError, FolderInUseError, UsageError, quoted
from callisto_telnetd.interpreter import uncollected
from callisto_telnetd.listeners.local_client import NoServerError, call, connect
from callisto_telnetd.settings import Settings, default_data_folder, load_settings

_MAX_INPUT = 64 << 10
_LOCK_S = 3.0
_LOCK_LOOK_S = 0.05
_MAX_SECRET = 4096

app = typer.Typer(
    name="callisto-telnetd",
    help="Callisto's management server, and its commands without a terminal.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
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
Json = Annotated[bool, typer.Option("--json", help="Print facts as JSON.")]
Words = Annotated[
    list[str] | None,
    typer.Argument(help="The words of the shell's command; its 'help' explains them.", show_default=False),
]
Secret = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input, one line.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        _print(f"callisto-telnetd {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Callisto's management server, and its commands without a terminal."""


@app.command()
def serve(
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

    folder = data or default_data_folder()
    _finish_restore(folder)
    telnet = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    settings = load_settings(folder, config, {"telnet": telnet} if telnet else {})
    appliance.run(appliance.serve(settings, folder, _print))


@app.command()
def user(
    words: Words = None, data: Data = None, config: Config = None, as_json: Json = False, password_stdin: Secret = False
) -> None:
    """Show and change the administrators.

    list, add NAME, passwd NAME, remove NAME [yes]
    """
    secrets = [_read_line()] if password_stdin else None
    _command(["user", *(words or ["list"])], data, config, as_json=as_json, secrets=secrets)


@app.command()
def variables(words: Words = None, data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """Show and change system variables.

    list [PATTERN], diff, show NAME, set NAME VALUE, reset NAME, history [NAME], undo [ID], export,
    import FILE|- [yes]
    """
    words = words or ["list"]
    text = None
    if words[0] == "import":
        if len(words) < 2:
            raise UsageError("usage: variables import FILE|- [note=TEXT] [yes]")
        text = _read_text(words.pop(1))
    _command(["variables", *words], data, config, as_json=as_json, text=text)


@app.command(context_settings={"ignore_unknown_options": True})  # --format csv is one of the shell's own words
def trace(words: Words = None, data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """Show the processes and the live records.

    A capture, with words such as for=30s; or start, status, attach, stop, list, show, delete, export, play,
    processes, tail
    """
    _command(["trace", *(words or [])], data, config, as_json=as_json)


@app.command()
def information(data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """Show what the appliance is and how it fares."""
    _command(["information"], data, config, as_json=as_json)


@app.command()
def repair(words: Words = None, data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """Check the database, and repair it where it is damaged.

    [backup=NEWEST|NAME] [yes]
    """
    _command(["repair", *(words or [])], data, config, as_json=as_json)


@app.command()
def compact(data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """Write the database anew without its free pages."""
    _command(["compact"], data, config, as_json=as_json)


@app.command(context_settings={"ignore_unknown_options": True})  # --note TEXT is one of the shell's own words
def backup(
    words: Words = None,
    data: Data = None,
    config: Config = None,
    *,
    as_json: Json = False,
    target_password_stdin: Annotated[
        bool, typer.Option("--target-password-stdin", help="Read the target's password from standard input, one line.")
    ] = False,
    password_stdin: Secret = False,
) -> None:
    """Make, verify and restore backups, also on a schedule.

    create [generated] [--note TEXT], list, verify FILE, delete FILE [yes], plan FILE|URL, restore FILE|URL [yes],
    undo [yes],
    schedule add NAME --plan PLAN --target URL ..., schedule list|show|test|run|remove NAME
    """
    words = list(words or ["list"])
    flags = [
        name for name, wanted in (("target-password", target_password_stdin), ("password", password_stdin)) if wanted
    ]
    secrets = [_read_password(name) for name in flags]
    if words[:2] == ["schedule", "add"]:
        words += flags  # which passwords there are is said in the line
    elif target_password_stdin:
        words.insert(1, "target-password")
    elif not secrets and not sys.stdin.isatty():
        secrets = [""]  # nobody can be asked: no password
    _command(["backup", *words], data, config, as_json=as_json, secrets=secrets or None)


@app.command()
def date(words: Words = None, data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """Show or set the appliance's clock.

    YYYY-MM-DD HH:MM:SS, zone NAME, sync, preview YYYY-MM-DD HH:MM:SS|zone NAME|sync
    """
    _command(["date", *(words or [])], data, config, as_json=as_json)


@app.command()
def schedule(words: Words = None, data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """Show what runs when.

    list
    """
    _command(["schedule", *(words or ["list"])], data, config, as_json=as_json)


@app.command()
def services(words: Words = None, data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """Show, start and stop Callisto's processes.

    list, start NAME, stop NAME, restart NAME, log NAME [LINES]
    """
    _command(["services", *(words or ["list"])], data, config, as_json=as_json)


@app.command()
def sessions(data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """Show who is on."""
    _command(["sessions"], data, config, as_json=as_json)


@app.command()
def audit(words: Words = None, data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """Show the newest entries of the audit.

    [COUNT]
    """
    _command(["audit", *(words or [])], data, config, as_json=as_json)


@app.command(context_settings={"ignore_unknown_options": True})  # --users 200 is one of the shell's own words
def demo(words: Words = None, data: Data = None, config: Config = None, as_json: Json = False) -> None:
    """Fill the appliance with demonstration data.

    --users N, --messages N, --calls N, --seed N, yes
    """
    _command(["demo", *(words or [])], data, config, as_json=as_json)


def _command(
    words: list[str],
    data: Path | None,
    config: Path | None,
    *,
    as_json: bool,
    secrets: list[str] | None = None,
    text: str | None = None,
) -> None:
    folder = data or default_data_folder()
    _finish_restore(folder)
    settings = load_settings(folder, config)
    terminal = sys.stdin.isatty() and text is None and secrets is None
    request = {
        "words": words,
        "json": as_json,
        "input": text,
        "secrets": secrets,
        "terminal": terminal,
        "size": _terminal_size(),
    }
    code = _call_or_run(settings, folder, request)
    if code:
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
    while True:
        try:
            with connect(folder / "run" / "control.sock") as connection:
                return call(connection, request, _print, _print_error, _ask)
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer goes nowhere, at the exit too
        raise CallistoError(f"standard output cannot be written: {error.strerror}") from None


def _print_error(line: str) -> None:
    sys.stderr.write(line + "\n")


def _ask(question: str, secret: bool) -> str:
    try:
        if not secret:
            return input(question)
        return getpass.getpass(question)
    except EOFError:
        raise UsageError("no answer; nothing was changed") from None


def _read_line() -> str:
    line = sys.stdin.buffer.readline(_MAX_SECRET).rstrip(b"\r\n")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError("the password on standard input is not UTF-8 text; nothing was changed") from None


def _read_password(flag: str) -> str:
    """Return a password that is there: an empty file must not make a backup that nothing protects."""
    if password := _read_line():
        return password
    raise UsageError(f"--{flag}-stdin: no password on standard input; nothing was changed")


def _read_text(name: str) -> str:
    try:
        with nullcontext(sys.stdin.buffer) if name == "-" else Path(name).open("rb") as stream:
            data = stream.read(_MAX_INPUT + 1)
        if len(data) > _MAX_INPUT:
            raise UsageError(f"{quoted(name)} is larger than {_MAX_INPUT // 1024} KiB")
        return data.decode("utf-8")
    except OSError as error:
        raise UsageError(f"{quoted(name)} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{quoted(name)} is not UTF-8 text") from None


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        _print_error(f"callisto-telnetd: {error.format_message().rstrip('.')}; see 'callisto-telnetd --help'")
        code = 2
    except CallistoError as error:
        _print_error(f"callisto-telnetd: {error}")
        code = error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 1
    except (KeyboardInterrupt, typer.Abort, EOFError):
        code = 1
    sys.exit(code or 0)
