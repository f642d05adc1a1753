from __future__ import annotations

import asyncio
import io
import logging.handlers
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import pytest

from callisto_telnetd.errors import TraceError
from callisto_telnetd.trace.datagrams import DatagramInput, bind_path, bind_udp
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import Log, open_log
from tests.trace.conftest import FakeMoment, turns

DEADLINE_S = 10.0


@pytest.fixture
def log(hub: Hub) -> Log:
    """The server's log, whose lines nobody reads; the hub has its records."""
    return open_log(hub, stream=io.StringIO())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the socket stands."""
    return tmp_path / "trace.sock"


@pytest.fixture
def make(hub: Hub, log: Log) -> Iterator[Callable[..., DatagramInput]]:
    """Make inputs that are closed after the test."""
    made: list[DatagramInput] = []

    def make_(bind: Callable[[], socket.socket], name: str = "trace.sock") -> DatagramInput:
        made.append(DatagramInput(name, hub, log, bind))
        return made[-1]

    yield make_
    for each in made:
        assert each._socket is None, "the test has not closed it"


Make = Callable[..., DatagramInput]


async def look(source: DatagramInput, moment: FakeMoment) -> None:
    """Let the time pass until the input looks at its socket, and wait for what it does then."""
    await moment.go_on(5.01)
    await source._looking.ended()


class Sender:
    """A program that sends to the socket, and never waits."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect(str(path))

    def send(self, *texts: str) -> int:
        """Send as many as go, and return how many did."""
        for count, text in enumerate(texts):
            try:
                self.socket.send(text.encode())
            except BlockingIOError:
                return count
        return len(texts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.socket.close()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something is so."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0)


def heard(hub: Hub) -> list[tuple[str, int | None, int, str]]:
    """Return what others than the server have said."""
    return [(each.process, each.pid, each.level, each.text) for each in hub.held() if "logger" not in each.fields]


def log_of(hub: Hub) -> list[tuple[str, str]]:
    """Return what the server said itself, with its reason."""
    return [(each.text, each.fields.get("reason", "")) for each in hub.held() if each.process == "callisto-telnetd"]


async def test_datagrams_become_records(hub: Hub, make: Make, path: Path) -> None:
    """What is sent to the socket is in the hub, in order, clean and counted; anybody may send who comes so far."""
    source = make(lambda: bind_path(path))
    source.open()
    assert source.fault == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    with Sender(path) as sender:
        sender.send("<11>web-server[7]: call lost", "<15>coc-proxy: a\x1b[2J\nb", "nonsense")
        await until(lambda: hub.published == 3)
    source.close()

    assert heard(hub) == [
        ("web-server", 7, 40, "call lost"),
        ("coc-proxy", None, 10, "a\\x1b[2J\\x0ab"),
        ("syslog", None, 25, "nonsense"),
    ]
    assert (hub.by_input["trace.sock"], source.malformed, source.faults, source.dropped) == (3, 1, 0, 0)
    assert hub.names == ["web-server", "coc-proxy", "syslog"]
    assert not path.exists()


async def test_real_programs_are_heard(hub: Hub, make: Make, path: Path) -> None:
    """Python's ``SysLogHandler`` and ``logger`` of util-linux are understood as they come, facility and level too."""
    source = make(lambda: bind_path(path))
    source.open()
    handler = logging.handlers.SysLogHandler(str(path), facility=logging.handlers.SysLogHandler.LOG_LOCAL3)
    handler.ident = "pbx: "
    handler.emit(logging.LogRecord("x", logging.CRITICAL, "", 0, "from python: %d", (1,), None))
    handler.close()
    count = 1
    if shutil.which("logger"):
        command = ["logger", "--socket", str(path), "-t", "script", "-p", "daemon.emerg", "from", "logger"]
        process = await asyncio.create_subprocess_exec(*command)
        assert await process.wait() == 0
        count = 2
    await until(lambda: hub.published == count)
    source.close()

    assert heard(hub) == [("pbx", None, 50, "from python: 1"), ("script", None, 70, "from logger")][:count]
    assert [record.fields["facility"] for record in hub.held()] == ["local3", "daemon"][:count]


async def test_who_says_that_he_is_the_server_is_shown_not_to_be(hub: Hub, make: Make, path: Path) -> None:
    """A record that was sent under the server's own name tells by which input it came."""
    source = make(lambda: bind_path(path))
    source.open()
    with Sender(path) as sender:
        sender.send(
            "<14>callisto-telnetd[1]: logged in", "<14>Nov 23 10:15:00 elsewhere callisto-telnetd: x", "<14>a: x"
        )
        await until(lambda: hub.published == 3)
    source.close()

    fields = [dict(record.fields) for record in hub.held()]
    assert fields[0] == {"input": "trace.sock"}
    assert (fields[1]["input"], fields[1]["host"]) == ("trace.sock", "elsewhere")
    assert fields[2] == {}


async def test_a_turn_reads_a_bounded_number(hub: Hub, make: Make) -> None:
    """However much waits, others have their turns of the loop: at most 64 datagrams are read in between."""
    bound = bind_udp("127.0.0.1", 0)
    source = make(lambda: bound, "udp")
    source.open()
    others: list[int] = []

    def other() -> None:
        others.append(hub.published)
        if hub.published < 300:
            asyncio.get_running_loop().call_soon(other)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(300):
            sender.sendto(b"<14>a: x", bound.getsockname())
    other()
    await until(lambda: hub.published == 300)
    source.close()

    steps = [after - before for before, after in pairwise(others) if after > before]
    assert max(steps) == 64
    assert (sum(steps), len(steps)) == (300, 5)
    assert source.dropped == 0


async def test_a_full_hub_makes_a_sender_wait(hub: Hub, make: Make, path: Path) -> None:
    """While the hub is full nothing is read, a sender's kernel says EAGAIN, and then all that was taken comes."""
    source = make(lambda: bind_path(path))
    source.open()
    hub.hold_back(full=True)
    with Sender(path) as sender:
        taken = sender.send(*(f"<14>a: {number}" for number in range(100_000)))
        await turns(20)
        assert 0 < taken < 100_000
        assert hub.published == 0
        assert sender.send("<14>a: more") == 0
        hub.hold_back(full=False)
        await until(lambda: hub.published == taken)
        assert sender.send("<14>a: more") == 1
        await until(lambda: hub.published == taken + 1)
    source.close()

    assert [text for _, _, _, text in heard(hub)] == [*map(str, range(taken)), "more"]
    assert source.dropped == 0


async def test_a_sender_that_waits_is_let_go_on(hub: Hub, make: Make, path: Path) -> None:
    """A real blocking sender is slowed and loses nothing, however often the hub is full."""
    source = make(lambda: bind_path(path))
    source.open()

    def send() -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(str(path))
            for number in range(1000):
                sender.send(b"<14>a: %d" % number)

    sending = asyncio.get_running_loop().run_in_executor(None, send)
    for _ in range(5):
        hub.hold_back(full=True)
        before = hub.published
        await turns(5)
        assert hub.published == before
        hub.hold_back(full=False)
        await until(lambda before=before: hub.published > before or hub.published == 1000)  # type: ignore[misc]
    await sending
    await until(lambda: hub.published == 1000)
    source.close()

    assert [text for _, _, _, text in heard(hub)] == [*map(str, range(1000))]


async def test_what_has_come_is_read_before_the_close(hub: Hub, make: Make, path: Path) -> None:
    """Datagrams that wait when the server ends are in the trace; whoever sends then is told that nobody is there."""
    source = make(lambda: bind_path(path))
    source.open()
    with Sender(path) as sender:
        sent = sender.send(*("<14>a: x" for _ in range(1000)))
        source.close()
        assert hub.published == sent
        with pytest.raises(ConnectionRefusedError):
            sender.send("<14>a: late")


async def test_an_input_that_opens_while_the_hub_is_full_waits(hub: Hub, make: Make, path: Path) -> None:
    """It reads nothing until the hub goes on."""
    hub.hold_back(full=True)
    source = make(lambda: bind_path(path))
    source.open()
    assert not source._reading  # the loop is not woken for nothing either
    with Sender(path) as sender:
        sender.send("<14>a: x")
        await turns(10)
        assert hub.published == 0
        hub.hold_back(full=False)
        await until(lambda: hub.published == 1)
    source.close()


# Sockets that cannot be had


async def test_a_socket_that_another_program_has_is_left_to_it(
    hub: Hub, make: Make, path: Path, moment: FakeMoment
) -> None:
    """It is said once and counted at each try; when the other has gone, the input opens by itself and says so."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        source = make(lambda: bind_path(path))
        source.open()
        for _ in range(3):
            await look(source, moment)
        reason = f"'{path}' is in use by another program"
        assert (source.fault, source.faults) == (reason, 4)
        assert log_of(hub) == [("trace input failed", reason)]
        with Sender(path) as sender:
            sender.send("still his")
        assert other.recv(100) == b"still his"
    await look(source, moment)

    assert source.fault == ""
    assert log_of(hub)[1:] == [("trace input is open again", "")]
    source.close()


@pytest.mark.parametrize("thing", ["file", "folder", "link"])
async def test_what_is_no_socket_is_not_removed(hub: Hub, make: Make, path: Path, thing: str) -> None:
    """A file, folder or link in the way stays, and the input says so."""
    if thing == "file":
        path.write_text("mine")
    elif thing == "folder":
        path.mkdir()
    else:
        path.symlink_to(path.parent / "nowhere")
    source = make(lambda: bind_path(path))
    source.open()

    assert source.fault == f"'{path}' is in the way: it is no socket"
    assert path.is_symlink() or path.exists()
    source.close()
    assert path.is_symlink() or path.exists()


async def test_a_socket_that_nobody_has_any_more_is_replaced(hub: Hub, make: Make, path: Path) -> None:
    """What a server that was killed left behind is no obstacle."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stale:
        stale.bind(str(path))
    source = make(lambda: bind_path(path))
    source.open()
    with Sender(path) as sender:
        sender.send("<14>a: x")
        await until(lambda: hub.published == 1)
    source.close()

    assert source.faults == 0


async def test_a_removed_socket_is_made_anew(hub: Hub, make: Make, path: Path, moment: FakeMoment) -> None:
    """Whoever removes it is heard of, the input opens again, and senders find it."""
    source = make(lambda: bind_path(path))
    source.open()
    await look(source, moment)
    assert source.faults == 0
    path.unlink()
    await look(source, moment)
    assert (source.fault, source.faults) == ("", 1)
    with Sender(path) as sender:
        sender.send("<14>a: x")
        await turns()
    source.close()

    assert log_of(hub) == [("trace input failed", "its socket was removed"), ("trace input is open again", "")]
    assert hub.by_input["trace.sock"] == 1


async def test_a_socket_that_another_put_in_its_place_is_not_removed(
    hub: Hub, make: Make, path: Path, moment: FakeMoment
) -> None:
    """At its end the input removes its own socket only."""
    source = make(lambda: bind_path(path))
    source.open()
    path.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        await look(source, moment)
        assert source.fault == f"'{path}' is in use by another program"
        source.close()
        assert path.exists()


async def test_no_folder_for_the_socket_is_a_fault(hub: Hub, make: Make, tmp_path: Path) -> None:
    """Where no socket can be made the reason is told, and closing does nothing wrong."""
    for place, reason in (
        (tmp_path / "none" / "trace.sock", "No such file or directory"),
        (tmp_path / ("x" * 150), "AF_UNIX path too long"),
    ):
        source = make(lambda place=place: bind_path(place))
        source.open()
        assert source.fault == f"'{place}' cannot be made: {reason}"
        source.close()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("logger"), reason="needs logger, and root to be another user")
async def test_any_user_may_send(hub: Hub, make: Make) -> None:
    """Whoever may enter the folder may send, whatever the server's umask."""
    with TemporaryDirectory(prefix="callisto-") as folder:
        Path(folder).chmod(0o711)
        path, before = Path(folder) / "trace.sock", os.umask(0o077)
        try:
            source = make(lambda: bind_path(path))
            source.open()
        finally:
            os.umask(before)
        command = ["logger", "--socket", str(path), "x"]
        done = subprocess.run(command, capture_output=True, check=False, user=65534, group=65534, extra_groups=[])
        await turns()
        source.close()

    assert (done.returncode, done.stderr) == (0, b"")
    assert hub.published == 1


# UDP


async def test_udp_is_an_input_like_the_socket(hub: Hub, make: Make) -> None:
    """Datagrams on a UDP port are records; what the kernel dropped while the hub was full is counted, also later."""
    bound = bind_udp("127.0.0.1", 0)
    address = bound.getsockname()
    source = make(lambda: bound, "udp")
    source.open()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"<11>pbx[5]: lost", address)
        await until(lambda: hub.published == 1)
        assert source.dropped == 0
        hub.hold_back(full=True)
        for _ in range(300):
            sender.sendto(b"x" * 60_000, address)
        dropped = source.dropped
        assert dropped > 0
        hub.hold_back(full=False)
        await until(lambda: hub.published == 301 - dropped)
    source.close()

    assert heard(hub)[0] == ("pbx", 5, 40, "lost") or hub.held_count < hub.published
    assert source.dropped == dropped
    assert hub.by_input["udp"] == 301 - dropped


async def test_udp_over_ipv6(hub: Hub, make: Make) -> None:
    """An address of IPv6 is an address, too."""
    try:
        bound = bind_udp("::1", 0)
    except TraceError:
        pytest.skip("no IPv6 here")
    source = make(lambda: bound, "udp")
    source.open()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"<14>a: x", bound.getsockname())
        await until(lambda: hub.published == 1)
    source.close()


async def test_a_udp_port_that_is_taken_is_a_fault(hub: Hub, make: Make, moment: FakeMoment) -> None:
    """The refusal names the address and the reason, and the input tries again until it can have it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        source = make(lambda: bind_udp("127.0.0.1", port), "udp")
        source.open()
        assert source.fault == f"udp 127.0.0.1:{port} cannot be had: Address already in use"
    await look(source, moment)

    assert source.fault == ""
    source.close()


def test_an_address_that_is_not_this_machine_s_is_refused() -> None:
    """An address that cannot be had is our error."""
    with pytest.raises(TraceError, match=r"^udp 192\.0\.2\.1:5514 cannot be had: Cannot assign requested address$"):
        bind_udp("192.0.2.1", 5514)
