"""A server with a database of 200 MiB, and what SQLite's own tools take for the like work on a copy of it."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.repair_data import make_database
from bench.servers import ROOT, Bench, Server
from bench.wire import DEADLINE_S, PROMPT, MeasurementError, log_in, read_until
from callisto_telnetd.db.format.forest import survey
from callisto_telnetd.db.format.layout import OWN
from callisto_telnetd.db.format.page_file import PageFile
from callisto_telnetd.db.format.pages import type_of

MEBIBYTES = 200
_NICE = 5
"""The worker's, so that other work on the machine holds up SQLite's tools as much as the worker."""
_WORKER = "callisto_telnetd.maintenance.worker"
_LOOK_S = 0.005
_LOOK_AT_MEMORY_S = 0.02
_REPAIR_S = 600.0
_DAMAGED_OF_EACH_TYPE = {0x0D: 20, 0x0A: 10, 0x05: 4, 0x02: 4}
"""How many pages: leaves of tables and of indexes, and the pages above those."""
_LARGE = {"message", "call_record", "message_mailbox", "call_record_user"}
_RUN_SQL = f"""
import os, sqlite3, sys, time
os.nice({_NICE})
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
begun = time.perf_counter()
connection.execute(sys.argv[2])
print(time.perf_counter() - begun)
"""


class LargeDatabase:
    """A data folder whose database has 200 MiB, and a copy of it."""

    def __init__(self, folder: Path) -> None:
        """Make it, with the administrator of the measurements."""
        folder.mkdir()
        self.bench = Bench(folder)
        self.live = self.bench.data / "callisto.db"
        self.sound = folder / "sound.db"
        make_database(self.live, MEBIBYTES)
        self.live.with_name("callisto.db-journal").unlink(missing_ok=True)
        with self.bench.callisto() as server, log_in(server.port):
            pass
        shutil.copyfile(self.live, self.sound)

    @contextmanager
    def server(self, web_port: int = 0) -> Iterator[Server]:
        """Run a server on the sound database, with its web server where a port is given for that."""
        shutil.copyfile(self.sound, self.live)
        shutil.rmtree(self.bench.data / "damaged", ignore_errors=True)
        web = {
            "CALLISTO_SERVICES__WEB_SERVER__ENABLED": "true" if web_port else "false",
            "CALLISTO_SERVICES__WEB_SERVER__PORT": str(web_port or 80),
        }
        with self.bench.callisto(web) as server:
            yield server

    def sql(self, statement: str) -> float:
        """Return the seconds that SQLite takes for a statement on a copy; ``{new}`` becomes a new file's name."""
        with tempfile.TemporaryDirectory(dir=self.bench.folder) as folder:
            copy = Path(folder) / "copy.db"
            shutil.copyfile(self.sound, copy)
            words = [sys.executable, "-c", _RUN_SQL, str(copy), statement.format(new=Path(folder) / "new.db")]
            return float(subprocess.run(words, check=True, capture_output=True, timeout=_REPAIR_S).stdout)


@dataclass(frozen=True)
class Work:
    """What one command did."""

    seconds: float
    answer: str
    worker_bytes: int
    """The most memory that the worker had (VmHWM), shared libraries included."""
    server_bytes: int
    """By how much the server's memory grew to its highest."""


def work(server: Server, command: bytes, expected: bytes) -> Work:
    """Give a command that works on the whole database, and wait for its answer.

    Raises:
        MeasurementError: the answer has no ``expected``.
    """
    with log_in(server.port) as session, _watched(server) as most:
        before = int(server.process.memory_info().rss)
        begun = time.perf_counter()
        session.sendall(command + b"\r\n")
        answer = read_until(session, PROMPT, _REPAIR_S)
        seconds = time.perf_counter() - begun
    if expected not in answer:
        raise MeasurementError(f"{command!r} has failed: {answer[-300:]!r}")
    return Work(seconds, answer.decode(), most["worker"], max(0, most["server"] - before))


@contextmanager
def _watched(server: Server) -> Iterator[dict[str, int]]:
    """Follow the memory of a server and of its worker."""
    most = {"worker": 0, "server": 0}
    ended = threading.Event()
    own = Path(f"/proc/{server.process.pid}")

    def look() -> None:
        # Read from /proc: psutil would read the whole table of processes for the children, and take a core for that.
        while not ended.wait(_LOOK_AT_MEMORY_S):
            most["server"] = max(most["server"], int(server.process.memory_info().rss))
            for child in (own / "task" / own.name / "children").read_text(encoding="ascii").split():
                with suppress(OSError):
                    if _WORKER in Path(f"/proc/{child}/cmdline").read_text(encoding="utf-8"):
                        status = Path(f"/proc/{child}/status").read_text(encoding="utf-8")
                        peak = next((line for line in status.splitlines() if line.startswith("VmHWM")), "VmHWM 0")
                        most["worker"] = max(most["worker"], int(peak.split()[1]) << 10)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


@contextmanager
def watched_port(port: int) -> Iterator[list[float]]:
    """Follow whether somebody listens; the seconds for which nobody did are added to the list at the end."""
    silent: list[float] = []
    ended = threading.Event()

    def look() -> None:
        since: float | None = None
        while not ended.wait(_LOOK_S) or since is not None:
            now = time.perf_counter()
            if _listens(port):
                if since is not None:
                    silent.append(now - since)
                since = None
            else:
                since = since or now
                if now - since > DEADLINE_S:
                    return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield silent
    finally:
        ended.set()
        thread.join()


def await_port(port: int) -> None:
    """Return once somebody listens.

    Raises:
        MeasurementError: nobody does in time.
    """
    until = time.monotonic() + DEADLINE_S
    while not _listens(port):
        if time.monotonic() > until:
            raise MeasurementError("the web server does not listen")
        time.sleep(_LOOK_S)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port that nobody has now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def pages_to_damage(file: Path, seed: int = 1) -> Sequence[int]:
    """Return pages of the large tables and their indexes, of every type."""
    chance = random.Random(seed)
    by_type: dict[int, list[int]] = {type: [] for type in _DAMAGED_OF_EACH_TYPE}
    with PageFile(file) as pages:
        forest = survey(pages)
        for number in range(2, pages.count + 1):
            tree = forest.tree_of_page(number)
            if tree is not None and tree.name in _LARGE and number != tree.root:
                by_type[type_of(pages.page(number), number)].append(number)
    return [page for type, count in _DAMAGED_OF_EACH_TYPE.items() for page in chance.sample(by_type[type], count)]


def damage(file: Path, numbers: Sequence[int], seed: int = 1) -> None:
    """Zero every other of the pages, and overwrite the beginning of the rest."""
    chance = random.Random(seed)
    with file.open("r+b") as opened:
        for place, number in enumerate(numbers):
            opened.seek((number - 1) * OWN.page_bytes)
            opened.write(chance.randbytes(512) if place % 2 else bytes(OWN.page_bytes))


@contextmanager
def recover_tool() -> Iterator[str]:
    """Give a sqlite3 whose .recover works: ``$SQLITE3_RECOVER``, else one that is built from Debian's source.

    Raises:
        MeasurementError: there is none, and it cannot be built; says why.
    """
    if tool := os.environ.get("SQLITE3_RECOVER"):
        yield tool
        return
    with tempfile.TemporaryDirectory(prefix="callisto-recover-") as folder:
        built = subprocess.run(
            ["sh", str(ROOT / "bench" / "build_recover.sh"), folder], capture_output=True, text=True, check=False
        )
        if built.returncode:
            raise MeasurementError(
                "no sqlite3 with a .recover that works: none in $SQLITE3_RECOVER, and bench/build_recover.sh failed: "
                + (built.stderr.strip().splitlines() or ["without a word"])[-1]
            )
        yield str(Path(folder) / "sqlite3")


def recover(tool: str, damaged: Path, folder: Path) -> float:
    """Return the seconds that ``.recover`` takes into a new database."""
    new = folder / "recovered.db"
    new.unlink(missing_ok=True)
    os_nice = ["nice", "-n", str(_NICE)]
    begun = time.perf_counter()
    with (
        subprocess.Popen([*os_nice, tool, str(damaged), ".recover"], stdout=subprocess.PIPE) as reader,
        subprocess.Popen([*os_nice, tool, str(new)], stdin=reader.stdout) as writer,
    ):
        assert reader.stdout is not None
        reader.stdout.close()
        failed = writer.wait(_REPAIR_S) or reader.wait(_REPAIR_S)
    seconds = time.perf_counter() - begun
    if failed or not new.exists():
        raise MeasurementError(f".recover has failed: exit code {failed}")
    return seconds
