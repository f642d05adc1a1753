"""Files that a person names and that hold whoever touches them: pipes, devices, folders, a mount that never answers."""

from __future__ import annotations

import asyncio
import ctypes
import io
import os
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from callisto_telnetd.clock import Clock
from callisto_telnetd.db.backup.folder import find
from callisto_telnetd.errors import CallistoError
from callisto_telnetd.listeners.tcp import open_tls
from callisto_telnetd.maintenance.alarm import Alarm
from callisto_telnetd.maintenance.look_up import look_up
from callisto_telnetd.maintenance.snapshots import Snapshots
from callisto_telnetd.named_file import in_time, open_regular, read_regular
from callisto_telnetd.services.child import run_check
from callisto_telnetd.services.recipe import MARKER, Recipe
from callisto_telnetd.settings import load_settings
from callisto_telnetd.standard_input import read_text
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import open_log
from callisto_telnetd.trace.reading import CaptureReader
from callisto_telnetd.transports.credentials import Credentials
from callisto_telnetd.transports.daemon import look
from callisto_telnetd.transports.target import Target
from callisto_telnetd.transports.transport import open_transport
from callisto_telnetd.work import DaemonPool
from tests.conftest import StartServer
from tests.hostile.at_once import AT_ONCE_S, END_S, await_at_once, require_at_once
from tests.hostile.tracing import wait_until
from tests.transports.authorities import make_authority

STOPPED_S = 3.0
SAID = r"is no regular file|Is a directory|is no file|may be written to by others"
SAID_OF_PIPE = re.compile(r"^Error: .*' (cannot be read: it is no regular file|is no file)$", re.MULTILINE)
_MOUNT_OPTIONS = "rootmode=40000,user_id=0,group_id=0"
_DETACH = 2


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Path]:
    """A folder whose every file hangs whoever touches it, as on a mount whose server is gone."""
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        pytest.skip("only root can mount a file system of its own")
    libc = ctypes.CDLL(None, use_errno=True)
    folder = tmp_path / "hanging"
    folder.mkdir()
    descriptor = os.open("/dev/fuse", os.O_RDWR)  # what comes here is never read
    options = f"fd={descriptor},{_MOUNT_OPTIONS}".encode()
    if libc.mount(b"hanging", os.fsencode(folder), b"fuse", 0, options):
        os.close(descriptor)
        pytest.skip(f"no mount here: {os.strerror(ctypes.get_errno())}")
    try:
        yield folder
    finally:
        libc.umount2(os.fsencode(folder), _DETACH)
        os.close(descriptor)  # whoever still hangs is told that it is over


def test_settings_on_a_read_only_mount_count_as_closed(tmp_path: Path) -> None:
    """A volume of settings, as an orchestrator mounts it, is believed once it is read-only, whatever its modes."""
    libc, folder = ctypes.CDLL(None, use_errno=True), tmp_path / "volume"
    folder.mkdir()
    if os.geteuid() != 0 or libc.mount(b"volume", os.fsencode(folder), b"tmpfs", 0, b"mode=0777"):
        pytest.skip("only root can mount a file system of its own")
    try:
        file = folder / "callisto.toml"
        file.write_text("[telnet]\nport = 2323\n")
        file.chmod(0o666)
        with pytest.raises(CallistoError, match="may be written to by others"):
            load_settings(tmp_path, file)
        assert not libc.mount(b"volume", os.fsencode(folder), b"tmpfs", 32 | 1, b"mode=0777")  # MS_REMOUNT, MS_RDONLY
        assert load_settings(tmp_path, file).telnet.port == 2323
    finally:
        libc.umount2(os.fsencode(folder), _DETACH)


def make_pipe(folder: Path) -> Path:
    """Return a pipe that nobody writes to."""
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


NAMED: dict[str, Callable[[Path], Path]] = {
    "a pipe": make_pipe,
    "a device": lambda _: Path("/dev/zero"),
    "a folder": lambda folder: folder,
    "a link to a pipe": lambda folder: _linked(make_pipe(folder)),
}


def _linked(path: Path) -> Path:
    link = path.with_name("link")
    link.symlink_to(path)
    return link


def _log_in(credentials: Credentials, scheme: str) -> None:
    async def log_in() -> None:
        target = Target("sftp" if scheme == "sftp" else "ftps", "ada", "127.0.0.1", 1, "/")
        async with open_transport(target, credentials):
            pass

    asyncio.run(log_in())


def _open_tls(path: Path) -> None:
    open_tls(make_authority(path.parent / "tls", "127.0.0.1").server_file, path)


READERS: dict[str, Callable[[Path], object]] = {
    "the key of a target": lambda path: _log_in(Credentials(key_file=path), "sftp"),
    "the CA of a target": lambda path: _log_in(Credentials(ca_file=path), "ftps"),
    "a text to import": lambda path: read_text(str(path)),
    "settings": lambda path: load_settings(path.parent, path),
    "a backup": lambda path: asyncio.run(look_up(str(path), path, lambda: find(path.parent, str(path)))),
    "the key of Telnet": _open_tls,
    "a capture": CaptureReader,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("named", NAMED)
def test_what_is_no_regular_file_is_refused_at_once(named: str, reader: str, tmp_path: Path) -> None:
    """Whoever may name a file may name anything: one clear line, and no thread that waits for it."""
    path = NAMED[named](tmp_path)

    def attempt() -> float:
        before = threading.active_count()
        begun = time.monotonic()

        with pytest.raises((CallistoError, OSError), match=SAID) as refused:
            READERS[reader](path)

        took = time.monotonic() - begun
        assert str(refused.value).isprintable()
        assert threading.active_count() <= before + 1  # asyncio's own may be on its way out
        return took

    require_at_once(attempt)


def test_a_regular_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    """What is longer than anybody needs is not taken into memory."""
    (tmp_path / "file").write_bytes(bytes(4096))

    assert read_regular(tmp_path / "file", 4096) == bytes(4096)
    with pytest.raises(OSError, match="it is longer than 3 KiB"):
        read_regular(tmp_path / "file", 3072)


async def test_a_disk_that_does_not_answer_is_given_up(hanging: Path) -> None:
    """At the deadline there is one line, on the loop and without one; whoever is cancelled leaves at once."""
    begun = time.monotonic()
    for target in (Target("sftp", "ada", "127.0.0.1", 1, "/"), Target("file", "", "", 0, str(hanging / "folder"))):
        with suppress(TimeoutError):
            async with asyncio.timeout(0.1), open_transport(target, Credentials(key_file=hanging / "key")):
                pass
    with suppress(TimeoutError):
        async with asyncio.timeout(0.1):
            await Snapshots(hanging, Clock()).newest()
    assert time.monotonic() - begun < 2 * 0.1 + END_S + AT_ONCE_S  # the third is refused, two hang: no second try
    with pytest.raises(TimeoutError, match=r"its disk does not answer within 0\.1 s"):
        await look(hanging, lambda: open_regular(hanging / "key"), 0.1)
    with pytest.raises(TimeoutError, match=r"its disk does not answer within 0\.1 s"):
        await asyncio.to_thread(in_time, hanging, lambda: open_regular(hanging / "key"), 0.1)


async def test_a_program_on_a_disk_that_does_not_answer_stops_nobody(hanging: Path) -> None:
    """Neither the command of a service's check nor the owner's for failures is begun before its disk has answered."""
    log, words = open_log(Hub(Clock()), "error", stream=io.StringIO()), (str(hanging / "program"),)
    recipe = Recipe(words, {MARKER: "x:y"}, None, None, None, {})
    begun = time.monotonic()
    works: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: run_check(recipe, 5.0),
        lambda: Alarm(words, log).raise_for("nightly", "no route"),
    )
    for begin in works:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await begin()
    assert time.monotonic() - begun < 2 * 0.1 + AT_ONCE_S  # two hang: a second try would be refused


async def test_those_that_hang_are_counted_by_mount(tmp_path: Path) -> None:
    """A dead disk refuses the third who comes to it, and nobody who comes to another; its places come back."""
    ending, ended = threading.Event(), threading.Semaphore(0)
    dead, link = Path("/proc/self/status"), tmp_path / "link"
    link.symlink_to("/proc/self")

    hung: list[Path] = []

    def hang() -> None:
        hung.append(path)
        ending.wait(10)
        ended.release()

    try:
        for path in (dead, link / "status"):
            while path not in hung:  # a busy machine may not have begun the call by then
                with pytest.raises(TimeoutError, match=r"its disk does not answer within 0\.05 s"):
                    await look(path, hang, 0.05)
        with pytest.raises(OSError, match="2 others wait for its disk, which does not answer"):
            await look(dead, lambda: None)
        assert await look(tmp_path, lambda: "healthy") == "healthy"
        assert in_time(tmp_path, lambda: "healthy") == "healthy"
    finally:
        ending.set()
    for _ in range(2):
        assert await asyncio.to_thread(ended.acquire, timeout=10)

    assert await answered(dead) == "answered"


async def test_a_slow_disk_refuses_nobody(tmp_path: Path) -> None:
    """Forty looks at once at a disk that takes its time all get their answer."""
    together = threading.Barrier(40)

    assert len(await asyncio.gather(*(look(tmp_path, lambda: together.wait(10)) for _ in range(40)))) == 40


async def answered(path: Path) -> str:
    """Return the answer of a disk whose hung calls are just giving back their places."""
    until = time.monotonic() + 10
    while True:
        try:
            return await look(path, lambda: "answered")
        except OSError:
            if time.monotonic() > until:
                raise
        await asyncio.sleep(0)


async def test_the_default_executor_keeps_nobody_from_the_end() -> None:
    """Calls run in their turn, errors come through, and one that hangs is left behind."""
    loop = asyncio.get_running_loop()

    async def attempt() -> float:
        ending, pool = threading.Event(), DaemonPool(2, grace_s=0.05)
        try:
            assert [await loop.run_in_executor(pool, abs, -number) for number in range(9)] == list(range(9))
            with pytest.raises(ZeroDivisionError):
                await loop.run_in_executor(pool, divmod, 1, 0)
            hung = loop.run_in_executor(pool, ending.wait)
            begun = time.monotonic()
            pool.shutdown()
            took = time.monotonic() - begun
            with pytest.raises(RuntimeError, match="has ended"):
                pool.submit(abs, 1)
        finally:
            ending.set()
        assert await hung
        return took

    await await_at_once(attempt)


def test_no_file_and_no_mount_keeps_a_server_from_its_work_or_its_end(start: StartServer, hanging: Path) -> None:
    """Pipes are refused, and while commands hang at a mount, others are answered; SIGTERM ends it all."""
    server = start()
    pipe, sftp, ftps = make_pipe(server.data), "sftp://ada@127.0.0.1:1/a.zip", "ftps://ada@127.0.0.1:1/a.zip"
    refused = [
        server.command("backup", "restore", sftp, f"key={pipe}", "yes"),
        server.command("backup", "restore", ftps, f"ca={pipe}", "yes"),
        server.command("backup", "verify", str(pipe)),
    ]
    assert [each.returncode for each in refused] == [1, 1, 1]
    assert [SAID_OF_PIPE.search(each.stderr) is not None for each in refused] == [True, True, True], refused
    (server.data / "backup").rename(server.data / "backup.before")
    (server.data / "backup").symlink_to(hanging)
    hung = (
        ("backup", "restore", sftp, f"key={hanging}/key", "yes"),
        ("backup", "restore", ftps, f"ca={hanging}/ca", "yes"),
        ("backup", "verify", f"{hanging}/a.zip"),
        ("trace", "show", f"{hanging}/a.log"),
        ("backup", "list"),
        ("information",),
    )
    process = psutil.Process(server.process.pid)
    before = process.num_threads()
    with ThreadPoolExecutor(len(hung)) as clients:
        waiting = [clients.submit(server.command, *words) for words in hung]
        wait_until(lambda: process.num_threads() >= before + len(waiting), "each hangs in a thread of its own")
        admin = server.log_in()

        assert admin.run("user list")[-1].startswith("OK ")
        assert admin.run("trace list")[-1].startswith("OK ")
        assert not any(each.done() for each in waiting)
        begun = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - begun < STOPPED_S
