"""The servers that are measured, each a process of its own on a free port of the loopback address."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.wire import PASSWORD, SHOW, WHOAMI, MeasurementError, ask, log_in

ROOT = Path(__file__).parent.parent
CALLISTO, BARE, STREAMS = "callisto-telnetd", "bare telnetlib3", "asyncio streams"
RSYSLOGD, FILE_HANDLER = "rsyslogd", "logging.FileHandler"
_START_S = 20.0
_NOT_INHERITED = ("CALLISTO_", "PYTHONDONTWRITEBYTECODE")
"""Settings of whoever measures; and what has every start compile all modules anew, as no installed program does."""
_LIMITS = {
    "CALLISTO_ADMIN_PASSWORD": PASSWORD,
    "CALLISTO_LIMITS__SESSIONS": "10000",
    "CALLISTO_LIMITS__SESSIONS_PER_SOURCE": "10000",
    "CALLISTO_LIMITS__PENDING": "10000",
    "CALLISTO_LIMITS__IDLE_S": "86400",
    "CALLISTO_SERVICES__WEB_SERVER__ENABLED": "false",
}


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    name: str
    port: int
    ready_s: float
    """From the start of the process to its line that says it listens."""
    process: psutil.Process
    start_cpu_s: float
    """Processor time until then; other work on the machine does not show in it."""

    def cpu_s(self) -> float:
        """Return the seconds of processor time used so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def memory(self) -> int:
        """Return the bytes that would be free if the process ended (USS)."""
        return int(self.process.memory_full_info().uss)


class Bench:
    """The folder of one run: callisto-telnetd's data, and the answers that the bare servers give."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.captures = self.data / "trace"
        self.trace_socket = self.data / "run" / "trace.sock"
        self.errors = folder / "stderr"
        """What the servers write on stderr, one after the other."""
        self._answers = folder / "answers.json"
        # The first start makes the data folder and the account; every later one finds them.
        with self.callisto() as server, log_in(server.port) as sock:
            answers = {line.decode(): ask(sock, line).decode() for line in (SHOW, WHOAMI, b"")}
        self._answers.write_text(json.dumps(answers), encoding="utf-8")

    @contextmanager
    def callisto(self, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
        """Run callisto-telnetd as it is shipped, with room for more sessions, and with ``settings`` (environment)."""
        words = ["-m", "callisto_telnetd", "serve", "--port", "0", "--data", str(self.data)]
        with _process(CALLISTO, words, self.folder, settings) as server:
            yield server

    @contextmanager
    def all(self) -> Iterator[Sequence[Server]]:
        """Run the three of them."""
        with ExitStack() as stack:
            yield (
                stack.enter_context(self.callisto()),
                stack.enter_context(_process(BARE, ["-m", "bench.bare_telnetlib3", str(self._answers)], self.folder)),
                stack.enter_context(
                    _process(STREAMS, ["-m", "bench.asyncio_streams", str(self._answers)], self.folder)
                ),
            )


@contextmanager
def open_bench() -> Iterator[Bench]:
    """Make the folder of a run, and remove it at the end."""
    with tempfile.TemporaryDirectory(prefix="callisto-bench-") as folder:
        yield Bench(Path(folder))


@contextmanager
def _process(
    name: str, words: Sequence[str], folder: Path, settings: Mapping[str, str] | None = None
) -> Iterator[Server]:
    start = time.perf_counter()
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(_NOT_INHERITED)}
    with (
        (folder / "stderr").open("ab") as errors,
        subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            env={**inherited, **_LIMITS, **(settings or {})},
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        try:
            port = _port_of(process, folder)
            ready_s = time.perf_counter() - start
            system = psutil.Process(process.pid)
            times = system.cpu_times()
            yield Server(name, port, ready_s, system, times.user + times.system)
        finally:
            process.terminate()
            try:
                process.wait(_START_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _port_of(process: subprocess.Popen[bytes], folder: Path) -> int:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        line = process.stdout.readline() if selector.select(_START_S) else b""
    if b"listening on" not in line:
        raise MeasurementError(f"the server did not start: {(folder / 'stderr').read_text()[-2000:]}")
    return int(line.rsplit(b":", 1)[1])
