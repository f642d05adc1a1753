"""Whatever runs, the loop's thread asks nothing of a disk: the system calls of that thread say so.

strace looks on at the server's main thread alone. A disk that stands still, or a folder of thousands of files, then
holds up the one who has asked. What the process reads of /proc, /sys and /dev is no disk's.
"""

from __future__ import annotations

import asyncio
import gc
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest

from callisto_telnetd.menus.context import Context, Dialogue
from callisto_telnetd.menus.everywhere import EVERYWHERE
from callisto_telnetd.menus.main import MAIN_MENU
from callisto_telnetd.menus.resolver import resolve, split
from callisto_telnetd.menus.tree import Command
from callisto_telnetd.terminal.completion import complete
from tests.conftest import DEADLINE_S, PASSWORD, Peer, Server, StartServer
from tests.hostile.conftest import Break
from tests.hostile.tracing import wait_until
from tests.lifetime.conftest import ADMIN, open_house
from tests.menus.test_menus_tree import walk

CALLS = "%file,fsync,fdatasync,getdents64,read,pread64,write,pwrite64,ftruncate,fallocate,fstatfs,fchmod,flock,recvfrom"
NO_DISK = re.compile(r'(?:AT_FDCWD<[^>]*>, )?"/(?:proc|sys|dev)\b|\d+<(?:/proc|/sys|/dev|[^/])')
"""The beginning of a call's words that no disk answers: paths of the kernel's, sockets, pipes, ``anon_inode``."""
TYPED = re.compile(r'\d+<[^>]*>, "([a-z][^"]{2,})(?:\\r\\n|\\t)"')
"""The words of the call that reads a typed line."""
FEW, MANY = 300, 8000
"""Files in the folders of traces and backups."""
SLOW_S = 0.02 if sys.gettrace() else 0.01
"""What no turn of the loop may take of the processor, twice as much where lines are counted; 20 ms are felt."""
TRIES = 4
"""The best of them counts: what else the machine does takes time of the processor, too."""
ARCHIVE_PASSWORD = "Archive-Secret-1"
NONE_HERE = "callisto-callisto-20250101-000001.zip"

FAILING = {
    "date zone Europe/Zurick",
    "date sync",
    "backup verify none",
    "backup plan none",
    "backup schedule show none",
    "backup schedule test there",
    "repair fill yes",
}
"""Lines whose answer is an error: these ask the disk no less."""

Script = Sequence[tuple[str, ...]]
"""Lines, each with the answers to the questions that it asks; ``<Tab>`` at the end of one presses that key."""

QUICK: Script = (
    ("trace show <Tab>",),
    ("backup verify <Tab>",),
    ("date zone <Tab>",),
    ("variables set gW<Tab>",),
    ("help trace",),
    ("whoami",),
    ("history",),
    ("sessions",),
    ("notices on",),
    ("trace start note=x",),
    ("trace status",),
    ("trace attach", ""),
    ("trace stop all",),
    ("trace for=60s", ""),
    ("trace tail", ""),
    ("trace processes",),
    ("trace list",),
    ("trace show",),
    ("trace export",),
    ("trace play",),
    ("trace delete 20250101-000000-admin.log yes",),
    ("variables list",),
    ("variables diff",),
    ("variables show gWebTimeout",),
    ("variables set gWebTimeout 30",),
    ("variables history",),
    ("variables undo yes",),
    ("variables reset gWebTimeout",),
    ("variables export",),
    ("variables import yes", "gWebTimeout = 40", "."),
    ("information",),
    ("date",),
    ("date preview 10:00",),
    ("date zone Europe/Zurich",),
    ("date zone Europe/Zurick",),
    ("date 2026-11-23 10:15:00",),
    ("variables set gTimeServer 127.0.0.1",),
    ("date sync",),
    ("services list",),
    ("services log web-server",),
    ("services stop sleeper yes",),
    ("services start sleeper",),
    ("services restart sleeper yes",),
    ("schedule list",),
    ("user list",),
    ("user add eve", PASSWORD, PASSWORD),
    ("user passwd eve", PASSWORD, PASSWORD),
    ("user remove eve yes",),
    ("audit 5",),
    ("repair quarantine",),
    ("backup list",),
    ("backup schedule list",),
    ("backup schedule show none",),
    ("backup verify none",),
    ("backup plan none",),
    (f"backup delete {NONE_HERE} yes",),
)
"""What is answered at once: no line of it may wait for what another asks of the disk."""


class Watched:
    """A server whose main thread is looked on at, and what that thread has asked of a disk."""

    def __init__(self, server: Server, calls: Path) -> None:
        self.server = server
        self.calls = calls

    def disk_calls(self) -> list[str]:
        """Return the calls on a disk, each behind the line that was typed last."""
        typed, found = "", []
        for line in self.calls.read_text("utf-8", "replace").splitlines():
            call, _, words = line.partition("(")
            if call == "recvfrom":
                typed = match[1] if (match := TYPED.match(words)) else typed
            elif re.fullmatch("[a-z_0-9]+", call) and not NO_DISK.match(words):
                found.append(f"{typed}: {line}")
        return found


@contextmanager
def watched(server: Server, calls: Path) -> Iterator[Watched]:
    """Look on at the server's main thread while the block runs."""
    words = ["strace", "-q", "-y", "-s", "120", "-o", str(calls), "-e", f"trace={CALLS}", "-p"]
    with subprocess.Popen([*words, str(server.process.pid)], stdin=subprocess.DEVNULL) as strace:
        try:
            status = Path(f"/proc/{server.process.pid}/status")
            wait_until(lambda: f"TracerPid:\t{strace.pid}\n" in status.read_text(), "strace is there")
            yield Watched(server, calls)
        finally:
            strace.send_signal(signal.SIGINT)  # it writes what it has, and lets go


def play(peer: Peer, script: Script) -> set[str]:
    """Type the lines of a script, and the answers that each needs; return the lines that were answered by an error."""
    failed = set()
    for line, *answers in script:
        if line.endswith("<Tab>"):
            peer.send(line.removesuffix("<Tab>") + "\t").sync()
            peer.send(b"\x15").sync()
            continue
        peer.send(line + "\r\n")
        for answer in answers:
            peer.sync()
            peer.send(f"{answer}\r\n")
        if not peer.answer()[-1].startswith("OK "):
            failed.add(line)
    return failed


def fill(data: Path, count: int) -> None:
    """Put files into the folders of traces and backups."""
    text, archive = data / "trace" / "text", data / "backup" / "archive"
    text.write_text("; Callisto\n; by admin from x (telnet)\n; ended: x; 0 records\n")
    archive.touch()
    for number in range(count):
        at = f"20250101-{number // 3600:02}{number // 60 % 60:02}{number % 60:02}"
        (data / "trace" / f"{at}-admin.log").hardlink_to(text)
        (data / "backup" / f"callisto-callisto-{at}.zip").hardlink_to(archive)
    text.unlink()
    archive.unlink()


LONG: Script = (
    ("demo users=2 messages=3 calls=4",),
    ("backup create", ARCHIVE_PASSWORD, ARCHIVE_PASSWORD),
    ("backup list",),
    ("backup verify", ARCHIVE_PASSWORD),
    ("backup plan", ARCHIVE_PASSWORD),
    ("backup restore", ARCHIVE_PASSWORD, "y"),
    ("backup undo yes",),
    ("backup schedule add here plan=daily 02:00 target=file://{elsewhere} keep-last=1",),
    ("backup schedule test here",),
    ("backup schedule run here",),
    ("backup schedule run here",),
    ("backup schedule show here",),
    ("backup schedule remove here yes",),
    ("backup schedule add there plan=daily 02:00 target=sftp://x@127.0.0.1:1/z target-password", "secret"),
    ("backup schedule test there",),
    ("compact",),
    ("repair yes",),
    ("repair fill yes",),
)
"""What takes its time."""


def run_watched(server: Server, script: Script, calls: Path) -> list[str]:
    """Play the script to a server that then stops; return what its loop has asked of a disk, its end left out."""
    with watched(server, calls) as seen:
        peer = server.log_in()
        assert play(peer, script) <= FAILING
        peer.send("logout\r\n").expect_closed()
        assert server.command("information").returncode == 0
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE_S) == 0
    found = seen.disk_calls()
    ending = [call for call in found if str(server.data / "run") in call]
    assert any("unlink(" in call for call in ending), "strace has seen nothing at all"
    return [call for call in found if call not in ending]


def test_no_command_asks_anything_of_a_disk_in_the_loop(strace: Break, start: StartServer, tmp_path: Path) -> None:
    """Nor does a key, a log-in, or a command line: a disk that stands still stops the one who asks."""
    server = start('[services.sleeper]\ncommand = ["/bin/sleep", "1000"]\n')
    fill(server.data, FEW)

    assert run_watched(server, QUICK, tmp_path / "calls") == []


@pytest.mark.long
def test_nor_does_any_work_among_thousands_of_files(strace: Break, start: StartServer, tmp_path: Path) -> None:
    """Nor does a backup, its delivery, a restore, a repair or a compact."""
    server = start('[services.sleeper]\ncommand = ["/bin/sleep", "1000"]\n')
    fill(server.data, MANY)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = [(line.format(elsewhere=elsewhere), *answers) for line, *answers in LONG]

    assert run_watched(server, [*QUICK, *script], tmp_path / "calls") == []


@contextmanager
def turns_measured() -> Iterator[list[float]]:
    """Note how long each turn of a loop keeps its thread's processor: a busy machine, or a collection, is no fault."""
    run = asyncio.events.Handle._run
    turns: list[float] = []

    def measured(handle: asyncio.Handle) -> None:
        begun = time.thread_time()
        run(handle)
        turns.append(time.thread_time() - begun)

    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio.events.Handle, "_run", measured)
            yield turns
    finally:
        gc.enable()


async def test_thousands_of_files_make_no_turn_of_the_loop_long(tmp_path: Path) -> None:
    """Whatever lists them shares its work out: no turn is long, and Tab knows their names at once."""
    async with open_house(tmp_path / "data") as house:
        fill(house.data, MANY)
        for line in ("trace list", "backup list", "information", "trace show", "backup delete none yes"):
            longest: list[float] = []
            while min(longest, default=SLOW_S) >= SLOW_S and len(longest) < TRIES:
                with turns_measured() as turns:
                    answered = await house.run(*line.split())
                longest.append(max(turns))
            assert min(longest) < SLOW_S, line
            assert len(answered.lines) > MANY or not line.endswith("list")
        await house.parts.captures.recent_names.read()
        await house.parts.backups.recent_names.read()
        context = Context(house.parts, ADMIN, cast("Dialogue", None), MAIN_MENU)
        for line in ("trace show ", "backup verify "):
            longest = []
            while min(longest, default=SLOW_S) >= SLOW_S and len(longest) < TRIES:
                with turns_measured() as turns:
                    await asyncio.sleep(0)
                    found = complete(context, line)
                    await asyncio.sleep(0)
                longest.append(max(turns))
            assert min(longest) < SLOW_S, line
            assert len(found.candidates) == MANY


def test_every_command_is_typed_in_a_script() -> None:
    """Whoever adds a command adds its line, so that the loop is looked on at while it runs."""
    lines = ["logout", *(line for line, *_ in (*QUICK, *LONG) if not line.endswith("<Tab>"))]
    typed = {resolve(MAIN_MENU, EVERYWHERE, split(line), MAIN_MENU).path for line in lines}
    commands = {path for path, entry in walk(MAIN_MENU) if isinstance(entry, Command) and "(" not in path}

    assert commands - typed == set()
