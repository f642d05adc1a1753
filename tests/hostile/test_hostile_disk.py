"""Captures on an unlucky machine: a disk that is full, fails, stands still, or whose folder somebody removes."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import DEADLINE_S, Server, StartServer, servers
from tests.hostile.conftest import Break, SmallDisk
from tests.hostile.tracing import (
    NUMBERED,
    Program,
    comments_of,
    flood,
    numbers_of,
    start_capture,
    states,
    wait_notice,
    wait_taken,
    wait_until,
)

SAID = b"<14>web-server[4711]: " + b"x" * 200
SLOW = ("write:delay_exit=20000", "fstatfs:error=EINTR:when=1+2")


@pytest.fixture
def on_small_disk(small_disk: SmallDisk) -> Iterator[StartServer]:
    """Start servers whose data folder is on the small disk."""
    with servers(small_disk.path.parent) as start:
        yield lambda settings: start(settings, data=small_disk.path / "data")


def require_whole_lines(server: Server) -> None:
    """Check that every file of captures ends with a line's end."""
    for path in (server.data / "trace").iterdir():
        assert path.read_bytes().endswith(b"\n"), path.name


@pytest.mark.parametrize("free", ["1M", pytest.param("0", marks=pytest.mark.long)])
def test_a_full_disk_ends_every_capture_and_nothing_else(
    on_small_disk: StartServer, small_disk: SmallDisk, free: str
) -> None:
    """Captures that run when the disk fills up end with the reason, whole to the last line; with room all is as before.

    With ``free = 0`` it is not the floor that ends them but the disk itself, in the middle of a line.
    """
    server = on_small_disk(f'[trace]\nfree = "{free}"\n')
    peer, viewer = server.log_in(), server.log_in()
    names = [start_capture(peer), start_capture(peer, "rotate=64k keep=5 level=info"), start_capture(peer, NUMBERED)]
    viewer.send("trace\r\n").expect(b"Live records follow")
    with flood(server, SAID, b"<14>bench[1]: 0000001 x", pause_every=50) as flooding:
        flooding.wait_sent(500)
        small_disk.fill()
        shown = viewer.answer()
        for name in names:
            wait_notice(peer, name)
    assert "disk" in shown[-1] or "No space left" in shown[-1] or "The trace has stopped" in shown[-2]
    assert peer.run("trace status")[-1] == "OK 0 running traces"
    require_whole_lines(server)
    [refused] = peer.run("trace start")
    assert refused.startswith("Error: ")
    if free != "0":
        assert refused == "Error: the disk is nearly full: 0 B free, a trace needs 1.0 MiB"
    assert peer.run("information")[-1].startswith("OK ")
    assert set(states(peer).values()) <= {"ended", "continued", "interrupted"}
    assert "unexpected error" not in server.log()

    small_disk.empty()
    name = start_capture(peer, NUMBERED)
    with Program(server) as program:
        program.number(1, 100)
    wait_taken(peer, name, 100)
    assert peer.run(f"trace stop {name}")[-1].startswith(f"OK trace saved to {name}, 100 records, 0 not shown")


@pytest.mark.long
def test_deleting_captures_makes_room_again(on_small_disk: StartServer, small_disk: SmallDisk) -> None:
    """Below the floor no capture starts, and says the figures; once old captures are deleted it does."""
    server = on_small_disk('[trace]\nfree = "8M"\nsize = "12M"\n')
    peer = server.log_in()
    name = start_capture(peer)
    with flood(server, SAID * 30):
        notice = wait_notice(peer, name)
    assert notice.endswith(("; ended: the disk is nearly full", "; ended: it has its size"))
    if notice.endswith("size"):
        second = start_capture(peer)
        with flood(server, SAID * 30):
            assert wait_notice(peer, second).endswith("; ended: the disk is nearly full")
    [refused] = peer.run("trace start")
    assert refused.startswith("Error: the disk is nearly full: ")
    assert refused.endswith(" free, a trace needs 8.0 MiB")

    assert peer.run(f"trace delete {name} yes") == [f"OK {name} deleted"]
    assert peer.run("trace for=1s")[-1].startswith("OK trace saved to ")


@pytest.mark.parametrize(
    "again", [False, pytest.param(True, marks=pytest.mark.long)], ids=["removed", "removed and made again"]
)
def test_a_removed_folder_ends_captures_and_is_named(start: StartServer, again: bool) -> None:
    """Whoever removes DIR/trace ends the captures that run, by a clear reason; made again, it is used again."""
    server = start()
    peer, viewer = server.log_in(), server.log_in()
    folder = server.data / "trace"
    names = [start_capture(peer), start_capture(peer, "rotate=64k"), start_capture(peer, NUMBERED)]
    viewer.send("trace\r\n").expect(b"Live records follow")
    with flood(server, SAID, pause_every=50):
        shutil.rmtree(folder)
        if again:
            folder.mkdir(0o700)
        lines = viewer.answer()
        for name in names[:2]:
            wait_notice(peer, name)
    if not again:
        wait_notice(peer, names[2])
        for words in ("trace list", "trace start", "trace show x", f"trace show {names[0]}"):
            [line] = peer.run(words)
            assert line.startswith("Error: "), words
        assert str(folder) in peer.run("trace list")[0]
        assert str(folder) in peer.run("trace start")[0]
        information = peer.run("information")
        assert information[-1].startswith("OK ")
        assert any("trace" in line and "gone" in line for line in information), information
        folder.mkdir(0o700)
    [shown] = [line for line in lines if line.startswith("Error: ")]
    assert "removed" in shown or "gone" in shown or "cannot be made" in shown
    assert peer.run("trace list") == ["OK 0 trace files"]
    assert peer.run("trace records=1 before=1h")[-1].startswith("OK trace saved to ")
    assert "unexpected error" not in server.log()


@pytest.mark.parametrize(
    "fault", ["EIO", *(pytest.param(fault, marks=pytest.mark.long) for fault in ("ENOSPC", "EDQUOT"))]
)
def test_a_write_that_fails_ends_its_capture_alone(start: StartServer, strace: Break, fault: str) -> None:
    """A capture whose file takes no more ends with the system's reason, whole so far; another one goes on."""
    server = start()
    peer = server.log_in()
    name, other = start_capture(peer, NUMBERED), start_capture(peer, NUMBERED)
    with Program(server) as program:
        program.number(1, 1000)
        wait_taken(peer, name, 1000)
        with strace(server, server.data / "trace" / name, f"write:error={fault}"):
            program.number(1001, 2000)
            notice = wait_notice(peer, name)
        program.number(2001, 3000)
    wait_taken(peer, other, 3000)
    peer.run("trace stop all")

    assert ("its file cannot be written: Input/output error" if fault == "EIO" else "the disk is full") in notice
    written = (server.data / "trace" / name).read_bytes()
    assert written.endswith(b"\n")
    assert numbers_of(written) == list(range(1, len(numbers_of(written)) + 1))
    assert states(peer) == {name: "interrupted", other: "ended"}
    assert numbers_of((server.data / "trace" / other).read_bytes()) == list(range(1, 3001))


@pytest.mark.parametrize(
    "fault",
    ["write:error=EINTR:when=1+2", *(pytest.param(fault, marks=pytest.mark.long) for fault in SLOW)],
)
def test_interrupted_writes_leave_lines_whole(start: StartServer, strace: Break, fault: str) -> None:
    """Calls that are interrupted, or slow, change nothing: every record is there once."""
    server = start()
    peer = server.log_in()
    name = start_capture(peer, NUMBERED)
    with strace(server, server.data / "trace" / name, fault), Program(server) as program:
        program.number(1, 2000)
        wait_taken(peer, name, 2000)
        peer.run(f"trace stop {name}")

    assert numbers_of((server.data / "trace" / name).read_bytes()) == list(range(1, 2001))
    assert states(peer) == {name: "ended"}


@pytest.mark.long
def test_a_close_that_fails_harms_no_other_capture(start: StartServer, strace: Break) -> None:
    """Where close(2) fails, as it may on a network's disk, the captures beside it lose nothing, and it is listed."""
    server = start()
    peer = server.log_in()
    name, other = start_capture(peer, f"{NUMBERED} rotate=64k keep=100"), start_capture(peer, NUMBERED)
    with strace(server, server.data / "trace" / name, "close:error=EIO"), Program(server) as program:
        program.number(1, 5000)
        wait_taken(peer, other, 5000)
        assert peer.run("trace stop all")[-1] == "OK 2 traces stopped"

    assert numbers_of((server.data / "trace" / other).read_bytes()) == list(range(1, 5001))
    assert set(states(peer).values()) == {"ended", "continued"}
    assert "unexpected error" not in server.log()


def test_a_short_write_is_taken_back_to_the_last_line(start: StartServer) -> None:
    """A file that may grow no more (RLIMIT_FSIZE) takes half a line: it is taken back, and the capture says why."""
    server = start()
    peer = server.log_in()
    name = start_capture(peer, NUMBERED)
    most = 200_001
    hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (most, hard))
    with flood(server, b"<14>bench[1]: 0000001 " + b"x" * 700):
        notice = wait_notice(peer, name)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard, hard))
    written = (server.data / "trace" / name).read_bytes()

    assert notice.endswith("its file cannot be written: File too large")
    assert written.endswith(b"x\n") or comments_of(written)[-1].startswith("ended: ")
    assert most - 1000 < len(written) <= most
    assert f", {len(numbers_of(written))} records," in notice


@pytest.mark.long
def test_a_disk_that_stands_still_holds_up_neither_shell_nor_stop(start: StartServer, strace: Break) -> None:
    """While a write hangs, senders wait, the shell answers, and SIGTERM ends the server: it waits for no disk."""
    server = start('[trace]\nsize = "1G"\nbudget = "2G"\n')
    peer = server.log_in()
    name = start_capture(peer)
    status = Path(f"/proc/{server.process.pid}/status")
    with strace(server, server.data / "trace" / name, "write:delay_enter=600000000"):
        with flood(server, SAID):
            for _ in range(50):
                assert peer.run("whoami") == ["OK admin from 127.0.0.1 (telnet)"]
            server.process.terminate()
        # strace holds the writer's thread; all else of the process is gone when its first thread is
        wait_until(lambda: "State:\tZ" in status.read_text(), "the server has ended")

    assert server.process.wait(DEADLINE_S) == 0
