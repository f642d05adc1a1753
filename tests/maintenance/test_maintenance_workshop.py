"""The workshop with a real worker process: what a job tells and returns, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from callisto_telnetd.clock import Clock
from callisto_telnetd.db.folder import DataFolder, FolderLock
from callisto_telnetd.errors import DiskFullError, FolderInUseError, StoreError
from callisto_telnetd.maintenance import worker
from callisto_telnetd.maintenance.worker import find_job
from callisto_telnetd.maintenance.workshop import Progress, Workshop
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import open_log
from tests.conftest import NO_SIGNALS, signals_in

ROOT = Path(__file__).resolve().parents[2]
PRACTICE = "tests.maintenance.practice_worker"


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """A data folder."""
    made = DataFolder(tmp_path / "data")
    made.make()
    return made


@pytest.fixture
def lock(folder: DataFolder) -> Iterator[FolderLock]:
    """The folder's lock, held."""
    with folder.lock() as lock:
        yield lock


@pytest.fixture
def logged() -> io.StringIO:
    """What is logged."""
    return io.StringIO()


@pytest.fixture
def workshop(lock: FolderLock, logged: io.StringIO) -> Workshop:
    """A workshop whose worker knows a few jobs to practise on."""
    return Workshop(lock, open_log(Hub(Clock()), "error", stream=logged), PRACTICE)


def test_every_job_is_there() -> None:
    """Each job of the worker's table has its function."""
    assert all(callable(find_job(place)) for place in worker.JOBS.values())


async def test_a_job_tells_and_returns(workshop: Workshop) -> None:
    """Beginning and end of each step are told in order, and the result comes back."""
    told: list[Progress] = []

    assert await workshop.run("echo", {"file": "é", "count": 3}, told.append) == {"file": "é", "count": 3}
    assert told == [("first", 1, 2), ("first", 2, 2), ("second", 0, 0)]


async def test_the_pipe_knows_no_locale(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an ASCII locale letters, and a path whose bytes are no text, go there and come back as they are."""
    for name, value in (("LC_ALL", "C"), ("PYTHONCOERCECLOCALE", "0"), ("PYTHONUTF8", "0")):
        monkeypatch.setenv(name, value)
    order = {"file": "/srv/d\udce9/callisto.db", "note": "Grüße … ✓", "\udcff": 1}

    assert await workshop.run("echo", order) == order
    assert await workshop.run("ask", {"words": ["…"]}, asked=lambda words: f"{words[0]}\udce9") == {
        "answers": ["…\udce9"]
    }


async def test_progress_that_cannot_be_shown_ends_the_worker(workshop: Workshop) -> None:
    """An error while a step is told is the caller's error, and the worker is gone when it is raised."""
    before = psutil.Process().children()

    def tell(_progress: Progress) -> None:
        raise UnicodeEncodeError("ascii", "…", 0, 1, "ordinal not in range(128)")

    with pytest.raises(UnicodeEncodeError):
        await workshop.run("wait", {}, tell)

    assert set(psutil.Process().children()) <= set(before)


@pytest.mark.usefixtures("held_signals")
async def test_a_worker_begins_with_no_signal_ignored_or_blocked(workshop: Workshop) -> None:
    """Its signals are the usual ones, whatever the server was started with; those of the terminal are not for it."""
    result = await workshop.run("signals", {})

    assert signals_in(result["lines"]) == NO_SIGNALS
    assert result["session"] not in (0, os.getsid(0))


async def test_a_job_asks_the_server(workshop: Workshop) -> None:
    """Each question is answered by the caller's function, in its turn, whatever characters are in it."""
    answers = {"one": None, "zwei\u2028\n": "wrong"}

    result = await workshop.run("ask", {"words": list(answers)}, asked=lambda words: answers[words[0]])
    assert result == {"answers": list(answers.values())}


async def test_a_question_that_nobody_answers_ends_the_job(workshop: Workshop) -> None:
    """A job that asks where there is nobody to answer is an error, and its worker is gone."""
    before = psutil.Process().children()
    with pytest.raises(StoreError, match="asks what nobody here can answer"):
        await workshop.run("ask", {"words": ["one"]})

    assert set(psutil.Process().children()) <= set(before)


async def test_an_error_keeps_its_class(workshop: Workshop) -> None:
    """An error that the job raises on purpose is raised here with its class and text."""
    with pytest.raises(DiskFullError, match=r"^no room for a copy$"):
        await workshop.run("refuse", {})


@pytest.mark.parametrize("job", ["die", "fail"])
async def test_a_worker_that_ends_without_a_result_is_an_error(
    workshop: Workshop, logged: io.StringIO, job: str
) -> None:
    """A worker that is killed or fails is one clear error; why it failed stands in the log."""
    with pytest.raises(StoreError, match="ended without a result"):
        await workshop.run(job, {})
    assert ("ZeroDivisionError" in logged.getvalue()) == (job == "fail")


async def test_who_is_cancelled_ends_the_worker(workshop: Workshop) -> None:
    """The worker of a cancelled caller is gone when the caller goes on."""
    told: asyncio.Queue[Progress] = asyncio.Queue()
    task = asyncio.create_task(workshop.run("wait", {}, told.put_nowait))
    number = int((await told.get()).step)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert not psutil.pid_exists(number)


SERVER = """
import asyncio, sys
from pathlib import Path
from callisto_telnetd.clock import Clock
from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.maintenance.workshop import Workshop
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import open_log

async def main() -> None:
    with DataFolder(Path(sys.argv[1])).lock() as lock:
        log = open_log(Hub(Clock(), 1, 1), "error", "readable")
        await Workshop(lock, log, sys.argv[2]).run("wait", {}, lambda said: print(said.step, flush=True))

asyncio.run(main())
"""


def test_a_worker_dies_with_its_server_and_holds_the_folder_until_then(folder: DataFolder) -> None:
    """While a worker lives nobody else gets the folder; a server that is killed takes its worker with it."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder.path), PRACTICE], stdout=subprocess.PIPE, cwd=ROOT
    )
    with server:
        assert server.stdout is not None
        number = int(server.stdout.readline())
        held = {str(file.readlink()) for file in Path(f"/proc/{number}/fd").iterdir()}
        assert str(folder.path / "run" / "lock") in held
        with pytest.raises(FolderInUseError):
            folder.lock()
        watch = os.pidfd_open(number)
        server.send_signal(signal.SIGKILL)
        ready, _, _ = select.select([watch], [], [], 10.0)
        os.close(watch)

    assert ready
    folder.lock().release()


async def test_a_worker_that_tells_nothing_is_ended(lock: FolderLock) -> None:
    """One that is stopped, or waits for a disk that never answers, does not hold the database for good."""
    before = psutil.Process().children()
    workshop = Workshop(lock, open_log(Hub(Clock()), "error", stream=io.StringIO()), PRACTICE, most_silent_s=0.2)
    with pytest.raises(StoreError, match=r"has told nothing for 0 s and was ended$"):
        await workshop.run("wait", {})

    assert set(psutil.Process().children()) <= set(before)
