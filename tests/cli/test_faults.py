"""Real faults: the process is killed at any moment, and the disk is full."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import tree_of
from tests.conftest import PASSWORD, Peer, Server, StartServer, servers

_BATCH = 10


class _Writer:
    """Sets variables over Telnet as fast as it can, and keeps what was acknowledged."""

    def __init__(self, peer: Peer, first: int) -> None:
        self._peer = peer
        self._next = first
        self.sent: list[int] = []
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with contextlib.suppress(AssertionError, OSError):  # the server is gone, as it should be
            while True:
                batch = range(self._next, self._next + _BATCH)
                self.sent += batch
                self._next = batch.stop
                self._peer.send(b"".join(b"variables set gWebTimeout %d note=n%d\r\n" % (n % 1440, n) for n in batch))
                self._peer.expect(b"OK gWebTimeout = %d " % ((batch.stop - 1) % 1440))

    @property
    def acknowledged(self) -> int:
        """How many changes had their OK."""
        return len(re.findall(rb"\r\nOK gWebTimeout = \d+ \(was ", b"\r\n" + self._peer.seen.replace(b"# ", b"# \r\n")))


def _kill_and_compare(start: StartServer, seed: int, rounds: int) -> None:
    """Kill the server at random moments while changes come; each acknowledged one is there after the next start."""
    chance = random.Random(seed)
    server, number, total = start(), 1, 0
    for _ in range(rounds):
        writer = _Writer(server.log_in(), number)
        writer.thread.start()
        writer.thread.join(chance.uniform(0.02, 0.4))
        server.kill()
        writer.thread.join()
        count = writer.acknowledged
        total += count

        server = start(data=server.data)
        peer = server.log_in()
        lines = peer.run("variables history gWebTimeout limit=1000")
        notes = [int(note) for note in re.findall(r" note=n(\d+)$", "\n".join(lines), re.MULTILINE)]
        of_round = [note for note in notes if note >= number]
        [now] = re.findall(r"= (\d+)", peer.run("variables list gWebTimeout")[0])

        assert of_round == writer.sent[: len(of_round)], f"seed {seed}: a change is missing or stands twice"
        assert len(of_round) >= min(count, 1000), f"seed {seed}: {count} acknowledged, {len(of_round)} kept"
        assert not of_round or int(now) == of_round[-1] % 1440
        assert peer.run("repair yes")[-1].startswith("OK database is sound")
        number = max([number, *writer.sent]) + 1
    assert total > 0, "nothing was acknowledged: the test tells nothing"


@pytest.mark.long
def test_a_kill_loses_no_acknowledged_change(start: StartServer) -> None:
    """After kill -9 at random moments every change that had its OK is there, in order, and the database is sound."""
    _kill_and_compare(start, seed=23, rounds=3)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_many_kills_lose_no_acknowledged_change(start: StartServer, seed: int) -> None:
    """The same, forty times."""
    _kill_and_compare(start, seed, rounds=8)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 12 MiB."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    folder = Path(tempfile.mkdtemp(prefix="callisto-"))
    mounted = folder / "disk"
    mounted.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(mounted)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        folder_reason = done.stderr.strip()
        shutil.rmtree(folder)
        pytest.skip(f"no tmpfs can be mounted here: {folder_reason}")
    try:
        yield mounted
    finally:
        subprocess.run(["umount", "-l", str(mounted)], check=True)
        shutil.rmtree(folder)


def _fill(disk: Path) -> Path:
    """Fill the disk to its last byte, and return the file that does."""
    file = disk / "filler"
    size = 1 << 16
    with file.open("wb", buffering=0) as stream:
        while size:
            try:
                if stream.write(bytes(size)) < size:
                    size //= 2
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2
    assert os.statvfs(disk).f_bavail == 0
    return file


@pytest.fixture
def on_small_disk(small_disk: Path) -> Iterator[tuple[Server, Path]]:
    """A server whose data folder is on the small disk, with a second account and a capture, and the disk."""
    with servers(small_disk.parent) as start:
        data = small_disk / "data"
        server = start('[trace]\nfree = "1M"\n', data=data)
        assert server.command("user", "add", "bob", "--password-stdin", text=PASSWORD).returncode == 0
        peer = server.log_in()
        assert peer.run("variables set gWebTimeout 25")[-1] == "OK gWebTimeout = 25 (was 20)"
        assert peer.run("trace before=1h records=1")[-1].startswith("OK trace saved to ")
        yield server, small_disk


def test_a_full_disk_stops_changes_and_nothing_else(on_small_disk: tuple[Server, Path]) -> None:
    """On a full disk changes are refused with the reason; log-in, reading and deleting work; changes again after."""
    server, disk = on_small_disk
    peer = server.log_in()
    zone = peer.run("date")[1]
    filler = _fill(disk)
    before = {name: part for name, part in tree_of(server.data).items() if name.endswith(".db")}

    for line in (
        "variables set gWebTimeout 26",
        "variables reset gWebTimeout",
        "variables undo",
        "date zone Europe/Zurich",
    ):
        assert peer.run(line)[-1].startswith("Error: the disk is full: 0 KiB free, a change needs 1024 KiB"), line
    assert peer.run("trace for=1s")[-1].startswith("Error: the disk is nearly full: ")
    added = server.command("user", "add", "carol", "--password-stdin", text=PASSWORD)
    assert (added.returncode, added.stdout) == (1, "")
    assert added.stderr.startswith("Error: the disk is full")

    second = server.log_in()
    assert second.run("variables list gWebTimeout")[0] == "gWebTimeout = 25 *"
    assert second.run("information")[-1].startswith("OK ")
    assert second.run("date")[1] == zone
    assert {name: part for name, part in tree_of(server.data).items() if name.endswith(".db")} == before

    [name] = re.findall(r"^(\S+\.log) ", "\n".join(second.run("trace list")), re.MULTILINE)
    assert second.run(f"trace show {name}")[-1].startswith("OK ")
    assert second.run(f"trace delete {name} yes")[-1] == f"OK {name} deleted"
    _fill(disk)
    assert second.run("user remove bob yes")[-1].startswith("OK account bob removed")
    assert [line.split()[0] for line in second.run("user list")] == ["admin", "OK"]
    assert "unexpected error" not in server.log()

    filler.unlink()
    assert second.run("variables set gWebTimeout 26")[-1] == "OK gWebTimeout = 26 (was 25)"
    assert second.run("repair yes")[-1].startswith("OK database is sound")


def test_a_full_disk_does_not_stop_a_start(on_small_disk: tuple[Server, Path]) -> None:
    """A server on a full disk starts, lets in, reads, deletes and stops whole; what it was told before is there."""
    server, disk = on_small_disk
    server.stop()
    filler = _fill(disk)
    with servers(disk.parent) as start:
        again = start(data=server.data)
        peer = again.log_in()
        assert peer.run("variables list gWebTimeout")[0] == "gWebTimeout = 25 *"
        assert peer.run("variables set gWebTimeout 26")[-1].startswith("Error: the disk is full")
        assert peer.run("user remove bob yes")[-1].startswith("OK account bob removed")
        assert again.stop() == 0
    filler.unlink()
    with servers(disk.parent) as start:
        peer = start(data=server.data).log_in()
        assert [line.split()[0] for line in peer.run("user list")] == ["admin", "OK"]


def test_a_running_trace_ends_when_the_disk_is_full(on_small_disk: tuple[Server, Path]) -> None:
    """A capture that meets a full disk ends by itself, its file whole, and says why; its session goes on."""
    server, disk = on_small_disk
    peer, other = server.log_in(), server.log_in()
    peer.send("trace\r\n").expect(b"Live records follow")
    _fill(disk)

    other.run("whoami")
    lines = peer.answer()

    # Which comes first depends on how much fits behind the file's last page.
    assert lines[-2] in {"The trace has stopped: the disk is nearly full.", "The trace has stopped: the disk is full."}
    [name] = re.findall(r"trace saved to (\S+), ", lines[-1])
    assert lines[-1].startswith("OK trace saved to ")
    file = (server.data / "trace" / name).read_bytes()
    assert file.startswith(b"; Callisto ")
    assert file.endswith(b"\n")
    assert peer.run("trace status") == ["OK 0 running traces"]
    assert peer.run("trace")[-1].startswith("Error: the disk is nearly full: ")
    assert peer.run("whoami")[-1].startswith("OK admin")
