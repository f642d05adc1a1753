from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from callisto_telnetd.services.processes import ProcessTable

WAITS_FOR_INPUT = "import sys; print('ready', flush=True); sys.stdin.read()"


@pytest.fixture
def child() -> Iterator[subprocess.Popen[str]]:
    """Give a process that runs until its input ends."""
    command = [sys.executable, "-c", WAITS_FOR_INPUT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_the_server_is_the_first_row() -> None:
    """A new table holds the server itself, with what it uses."""
    (row,) = ProcessTable().rows()

    assert (row.name, row.pid, row.state) == ("callisto-telnetd", os.getpid(), "running")
    assert row.memory_bytes > 1_000_000
    assert 0 < row.uptime_s < time.clock_gettime(time.CLOCK_BOOTTIME)


def test_processor_time_is_measured_between_readings() -> None:
    """CPU % is what the process used since the row was read last."""
    table = ProcessTable()
    until = time.process_time() + 0.15
    while time.process_time() < until:
        pass

    assert table.rows()[0].cpu_percent > 0


def test_processes_come_and_go(child: subprocess.Popen[str]) -> None:
    """A process is in the table from add to remove, after those added before it."""
    table = ProcessTable()
    table.add("web-server", child.pid)
    table.add("coc-proxy", os.getppid())

    rows = table.rows()
    assert [(row.name, row.pid) for row in rows[1:]] == [("web-server", child.pid), ("coc-proxy", os.getppid())]
    assert rows[1].memory_bytes > 0
    assert 0 <= rows[1].uptime_s < rows[0].uptime_s + 1

    table.remove("web-server")
    table.remove("never-added")
    assert [row.name for row in table.rows()] == ["callisto-telnetd", "coc-proxy"]


def test_a_restarted_process_takes_the_place_of_its_former_self(child: subprocess.Popen[str]) -> None:
    """A name that is added again shows the new process only."""
    table = ProcessTable()
    table.add("web-server", os.getppid())
    table.add("web-server", child.pid)

    assert [row.pid for row in table.rows()] == [os.getpid(), child.pid]


def test_a_stopped_process(child: subprocess.Popen[str]) -> None:
    """A process that was halted by a signal is shown as stopped."""
    table = ProcessTable()
    table.add("web-server", child.pid)

    child.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)

    assert table.rows()[1].state == "stopped"


def test_an_ended_process(child: subprocess.Popen[str]) -> None:
    """A process that ended is shown as ended until its parent collects it, and as gone from then on."""
    table = ProcessTable()
    table.add("web-server", child.pid)

    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert table.rows()[1].state == "ended"

    child.wait()
    row = table.rows()[1]
    assert (row.pid, row.state, row.cpu_percent, row.memory_bytes, row.uptime_s) == (child.pid, "gone", 0, 0, 0)


def test_a_process_that_ended_before_it_was_added(child: subprocess.Popen[str]) -> None:
    """A number that no process has any more is shown as gone."""
    child.kill()
    child.wait()
    table = ProcessTable()

    table.add("web-server", child.pid)

    assert table.rows()[1].state == "gone"
