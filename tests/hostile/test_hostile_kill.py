"""Captures that are killed at any moment, and rotate meanwhile: every record once, and at most one torn line a kill."""

from __future__ import annotations

import random
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Server, StartServer
from tests.hostile.tracing import (
    NUMBERED,
    Program,
    comments_of,
    numbers_of,
    parts_of,
    start_capture,
    states,
    wait_taken,
    wait_until,
)

ROOMY = '[trace]\nbudget = "2G"\nfree = "1M"\n'
KILLS = 3


class Sender:
    """A program that sends numbered records until it has sent them all, or the server is gone."""

    def __init__(self, server: Server, first: int, last: int) -> None:
        self.sent = first - 1
        self.last = last
        self._program = Program(server)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def wait_sent(self, number: int) -> None:
        """Wait until it has come to that number."""
        wait_until(lambda: self.sent >= number, f"record {number}", 120)

    def _run(self) -> None:
        with suppress(ConnectionError), self._program:
            while self.sent < self.last:
                upto = min(self.sent + 50, self.last)
                self._program.number(self.sent + 1, upto)
                self.sent = upto


def whole_records(folder: Path, names: list[str]) -> list[int]:
    """Return the numbers of all whole records, capture by capture and part by part."""
    return [number for name in names for part in parts_of(folder, name) for number in numbers_of(part.read_bytes())]


def require_whole_parts(folder: Path, name: str, *, killed: bool) -> int:
    """Check that every part but those a kill can meet is whole and names the next; return how many lines are torn."""
    parts = parts_of(folder, name)
    torn = 0
    for place, part in enumerate(parts):
        data = part.read_bytes()
        is_torn = bool(data) and not data.endswith(b"\n")
        torn += is_torn
        if place < len(parts) - 1:
            next_name = parts[place + 1].name
            is_continued = data.endswith(f"; continued in {next_name}\n".encode())
            # the next part is made before this one is ended: between the two the newest two parts have no trailer
            between = killed and place == len(parts) - 2 and not numbers_of(parts[-1].read_bytes())
            assert is_continued or between, (part.name, data[-200:])
            assert not is_torn or between
        header = [line for line in comments_of(data) if line.startswith("Callisto ")]
        assert header or (killed and part is parts[-1]), part.name
    return torn


def send_with_kills(start: StartServer, total: int, rotate: str, seed: int) -> None:
    """Send numbered records through rotating captures, kill the server meanwhile, and look at what is on file."""
    chance = random.Random(seed)
    server = start(ROOMY)
    folder = server.data / "trace"
    names: list[str] = []
    last = 0
    for attempt in range(KILLS + 1):
        peer = server.log_in()
        names.append(start_capture(peer, f"{NUMBERED} rotate={rotate} keep=1000"))
        sender = Sender(server, last + 1, total)
        if attempt < KILLS:
            room = total - last
            at = last + chance.randrange(room // 10, room // 3)
            sender.wait_sent(at)
            server.kill()
            sender.thread.join()
            on_file = whole_records(folder, names)
            assert on_file == list(range(1, len(on_file) + 1)), f"seed {seed}"
            assert len(on_file) > last, f"seed {seed}: nothing came on file before kill {attempt + 1}"
            last = len(on_file)
            server = start(data=server.data)
            continue
        sender.thread.join()
        wait_taken(peer, names[-1], total - last)
        assert peer.run(f"trace stop {names[-1]}")[-1].startswith("OK trace saved to ")

    listed = states(peer)
    assert whole_records(folder, names) == list(range(1, total + 1)), f"seed {seed}"
    for name in names:
        is_killed = name != names[-1]
        parts = [part.name for part in parts_of(folder, name)]
        assert require_whole_parts(folder, name, killed=is_killed) <= 1
        assert listed[parts[-1]] == ("interrupted" if is_killed else "ended")
        assert set(map(listed.get, parts[:-2])) <= {"continued"}
        assert all(listed[part] in {"continued", "interrupted"} for part in parts[-2:-1])
        for part in parts[-2:]:
            assert peer.run(f"trace show {part}")[-1].startswith("OK ")
    assert sum(len(parts_of(folder, name)) for name in names) > 2 * len(names), "nothing rotated"


@pytest.mark.long
def test_three_kills_tear_at_most_a_line_each(start: StartServer) -> None:
    """30,000 numbered records through rotation with three SIGKILLs: no gap, no double, each cut capture is named so."""
    send_with_kills(start, 30_000, "64k", seed=random.randrange(1 << 30))


@pytest.mark.long
def test_three_kills_in_a_million_records(start: StartServer) -> None:
    """The same with 1,000,000 records."""
    send_with_kills(start, 1_000_000, "1M", seed=random.randrange(1 << 30))


def test_rotation_under_load_takes_every_record_once(start: StartServer) -> None:
    """Two captures rotate while a program sends as fast as it can: every record is in each, once and in order."""
    server = start(ROOMY)
    peer = server.log_in()
    count = 20_000
    names = [
        start_capture(peer, f"{words} keep=1000") for words in (f"{NUMBERED} rotate=64k", "match=quick rotate=100k")
    ]
    with Program(server) as program:
        program.number(1, count)
    for name in names:
        wait_taken(peer, name, count)
        assert peer.run(f"trace stop {name}")[-1].startswith("OK ")

        assert whole_records(server.data / "trace", [name]) == list(range(1, count + 1))
        assert require_whole_parts(server.data / "trace", name, killed=False) == 0
