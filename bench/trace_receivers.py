"""What takes datagrams and writes them to a file: callisto-telnetd, rsyslogd, and Python's ``logging.FileHandler``."""

from __future__ import annotations

import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.servers import CALLISTO, FILE_HANDLER, ROOT, RSYSLOGD, Bench, Server
from bench.trace_session import started_capture
from bench.wire import DEADLINE_S, MeasurementError

_CONFIGURATION = """\
module(load="imuxsock" SysSock.Use="off")
template(name="plain" type="string" string="%timereported:::date-rfc3339% %syslogtag%%msg%\\n")
input(type="imuxsock" Socket="{socket}" CreatePath="on" RateLimit.Interval="0")
action(type="omfile" file="{file}" template="plain")
"""


@dataclass(frozen=True)
class Receiver:
    """A process that reads a datagram socket of its own."""

    name: str
    socket: Path
    process: psutil.Process
    fresh_file: Callable[[], AbstractContextManager[Path]]
    """Gives an empty file that takes the records from now on."""

    def cpu_s(self) -> float:
        """Return the seconds of processor time used so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)


def callisto_receiver(bench: Bench, server: Server, session: socket.socket) -> Receiver:
    """Return callisto-telnetd, whose captures are started and stopped by ``session``, with no viewer."""
    return Receiver(
        CALLISTO, bench.trace_socket, server.process, lambda: started_capture(bench, session, "size=8G", keep=False)
    )


@contextmanager
def rsyslogd(folder: Path) -> Iterator[Receiver]:
    """Run Debian's rsyslogd with its own queues, one socket, no rate limit and one file.

    Raises:
        MeasurementError: it is not installed, or it does not start.
    """
    program = shutil.which("rsyslogd", path="/usr/sbin:/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        raise MeasurementError("rsyslogd is not installed: apt-get install rsyslog")
    path, file, configuration = folder / "rsyslogd.sock", folder / "rsyslogd.log", folder / "rsyslogd.conf"
    configuration.write_text(_CONFIGURATION.format(socket=path, file=file), encoding="utf-8")
    words = [program, "-n", "-f", str(configuration), "-i", str(folder / "rsyslogd.pid")]
    with _receiver(RSYSLOGD, words, path, file) as receiver:
        yield receiver


@contextmanager
def file_handler(folder: Path) -> Iterator[Receiver]:
    """Run a reader on asyncio that hands each text to a logger."""
    path, file = folder / "logging.sock", folder / "logging.log"
    words = [sys.executable, "-m", "bench.trace_file_handler", str(path), str(file)]
    with _receiver(FILE_HANDLER, words, path, file) as receiver:
        yield receiver


@contextmanager
def _receiver(name: str, words: Sequence[str], path: Path, file: Path) -> Iterator[Receiver]:
    @contextmanager
    def truncated() -> Iterator[Path]:
        file.touch()
        with file.open("r+b") as stream:  # both open it for appending
            stream.truncate()
        yield file

    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        try:
            _await_socket(name, process, path)
            yield Receiver(name, path, psutil.Process(process.pid), truncated)
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(DEADLINE_S)
            process.kill()


def _await_socket(name: str, process: subprocess.Popen[bytes], path: Path) -> None:
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            if stat.S_ISSOCK(path.stat().st_mode):
                sock.connect(str(path))
                return
        time.sleep(0.01)
    raise MeasurementError(f"{name} opened no socket")
