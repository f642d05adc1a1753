"""The Telnet fence under any bytes at all: a protocol on a transport in memory, no socket, no session."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from callisto_telnetd.accounts.gatekeeper import Gatekeeper, Place
from callisto_telnetd.errors import UsageError
from callisto_telnetd.listeners.telnet import Host, TelnetProtocol
from callisto_telnetd.terminal.console import Console, EndOfInputError, InterruptedLineError, Wire
from callisto_telnetd.terminal.editor import Completion
from callisto_telnetd.terminal.flusher import Flusher
from callisto_telnetd.terminal.session import Session
from tests.conftest import AYT, DO, DONT, ECHO, IAC, NAWS, OFFERS, SB, SE, SGA, TTYPE, WILL, WONT

_COMMANDS = [IAC + bytes([code]) for code in range(236, 256)]
_REQUESTS = [IAC + verb + bytes([option]) for verb in (DO, DONT, WILL, WONT) for option in range(256)]
_BOUND = 64
"""Bytes of one sub-negotiation that are looked at."""

pieces = st.one_of(
    st.binary(max_size=80),
    st.sampled_from(_COMMANDS),
    st.sampled_from(_REQUESTS),
    st.sampled_from([IAC + SB, IAC + SE, IAC + SB + NAWS + b"\xff\xff\xff\xff\xff\xff\xff\xff" + IAC + SE]),
    st.builds(lambda body: IAC + SB + TTYPE + b"\0" + body + IAC + SE, st.binary(max_size=100)),
)
streams = st.lists(pieces, max_size=40).map(b"".join)


class Memory(asyncio.Transport):
    """A transport that keeps what is written; its peer takes everything."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.sent += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Take the limits; there is no buffer."""

    def pause_reading(self) -> None:
        """Go on: the test feeds what it wants."""

    def resume_reading(self) -> None:
        """Go on."""


class Listener:
    """Stands where a port is: it admits everybody, and its sessions only have a console."""

    context = None
    always_echo = False
    closed = False

    def __init__(self, console: type[Console], session: type[Waiting]) -> None:
        self._console, self._session = console, session
        self.gatekeeper = Gatekeeper(10, 10, 10)
        self.protocols: set[TelnetProtocol] = set()
        self.tasks: set[asyncio.Task[None]] = set()

    def open_session(self, wire: TelnetProtocol, place: Place, address: str) -> Session:
        return cast("Session", self._session(wire, self._console))

    def refuse(self, address: str, reason: str) -> None:
        raise AssertionError(reason)


class Hearing(Console):
    """A console that only notes what it is handed."""

    def __init__(self, wire: Wire, on_interrupt: Callable[[], None], flusher: Flusher) -> None:
        super().__init__(wire, on_interrupt, flusher)
        self.heard = bytearray()

    def receive(self, data: bytes) -> None:
        self.heard += data


class Waiting:
    """A session that waits without end."""

    def __init__(self, wire: TelnetProtocol, console: type[Console]) -> None:
        self.console = console(wire, lambda: None, Flusher())
        self.ended = 0

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()

    def end(self, _reason: str) -> None:
        self.ended += 1


class Answering(Waiting):
    """A session that answers each line by saying it again."""

    async def run(self) -> None:
        def complete(_text: str) -> Completion:
            return Completion(0, ("help", "history"), "a hint of some words")

        with contextlib.suppress(EndOfInputError):
            while True:
                try:
                    self.console.say(f"OK {await self.console.next_line('callisto# ', complete=complete)}")
                except (InterruptedLineError, UsageError) as error:
                    self.console.say(f"Error: {error}")
                await asyncio.sleep(0)


@contextlib.contextmanager
def swallowed() -> Iterator[list[str]]:
    """Give what telnetlib3 catches and only logs: an exception in a handler of ours would hide there."""
    lines: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, keeper = logging.getLogger("telnetlib3"), Keeper(logging.WARNING)
    before = logger.level, logger.propagate
    logger.addHandler(keeper)
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(keeper)
        logger.level, logger.propagate = before


def run(scene: Callable[[TelnetProtocol, Memory], None], console: type[Console] = Console) -> None:
    """Run a scene with a connection that has made its offers."""

    async def play() -> None:
        listener, wire = Listener(console, Waiting), Memory()
        protocol = TelnetProtocol(cast("Host", listener))
        protocol.connection_made(wire)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert wire.sent.startswith(OFFERS)
        wire.sent = b""
        scene(protocol, wire)
        protocol.connection_lost(None)
        await asyncio.gather(*listener.tasks, return_exceptions=True)
        assert (listener.gatekeeper.sessions, listener.gatekeeper.pending) == (0, 0)

    asyncio.run(play())


def feed(protocol: TelnetProtocol, data: bytes) -> None:
    """Hand the bytes over as the loop does."""
    while data:
        buffer = protocol.get_buffer(-1)
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        protocol.buffer_updated(size)
        data = data[size:]


@given(stream=streams, cuts=st.lists(st.integers(0, 400), max_size=12))
@example(stream=IAC + SB + IAC + SE + IAC + SB + b"x" * 5000 + IAC + DO + IAC + SE, cuts=[])
@example(stream=IAC + SB + TTYPE + b"\0" + b"x" * 62 + IAC, cuts=[64, 65, 66])
@example(stream=(IAC + DO + IAC + IAC + WILL + IAC) * 20, cuts=[])
@example(stream=IAC + WILL + TTYPE, cuts=[])
@example(stream=IAC + WONT + TTYPE + IAC + WILL + TTYPE, cuts=[])
@settings(max_examples=300)
def test_any_bytes_keep_state_bounded_and_answers_short(stream: bytes, cuts: list[int]) -> None:
    """Whatever comes however cut, nothing raises, little is kept, and answers are no longer than questions."""

    def scene(protocol: TelnetProtocol, wire: Memory) -> None:
        places = sorted({min(cut, len(stream)) for cut in (*cuts, 0, len(stream))})
        for start, end in itertools.pairwise(places):
            feed(protocol, stream[start:end])
        options = protocol._options
        assert len(options._sb_buffer) <= _BOUND
        for table in (options.pending_option, options.local_option, options.remote_option):
            assert len(table) <= 24
        assert len(protocol.terminal_type) <= _BOUND
        assert protocol.console.editor.columns == 0 or 20 <= protocol.console.editor.columns <= 500
        assert protocol.rows == 0 or 5 <= protocol.rows <= 200
        there = wire.sent.count(b"[callisto: yes]") * len(b"\r\n[callisto: yes]\r\n")
        assert len(wire.sent) - there <= len(stream)

    with swallowed() as lines:
        run(scene)
    assert [line for line in lines if "sub-negotiation" not in line] == []


@given(stream=streams.filter(lambda stream: IAC + AYT not in stream), cut=st.integers(0, 2000))
@settings(max_examples=150)
def test_what_remains_of_a_stream_does_not_depend_on_its_cuts(stream: bytes, cut: int) -> None:
    """The bytes that reach the editor and the answers are the same, however the stream is cut."""
    results = []
    for chunks in ((stream,), (stream[:cut], stream[cut:]), tuple(bytes([code]) for code in stream)):

        def scene(protocol: TelnetProtocol, wire: Memory, chunks: tuple[bytes, ...] = chunks) -> None:
            for chunk in chunks:
                feed(protocol, chunk)
            heard = cast("Hearing", protocol.console).heard
            results.append((bytes(heard), wire.sent, protocol.terminal_type, protocol.console.editor.columns))

        with swallowed():
            run(scene, Hearing)

    assert results[0] == results[1] == results[2]


def window(columns: int, rows: int) -> bytes:
    """Return a window's size (RFC 1073)."""
    return IAC + SB + NAWS + columns.to_bytes(2, "big") + rows.to_bytes(2, "big") + IAC + SE


def converse(chunks: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Send the chunks, each when the session has worked off the one before; return its text, and Telnet's answers."""

    async def play() -> bytes:
        listener, wire = Listener(Console, Answering), Memory()
        protocol = TelnetProtocol(cast("Host", listener))
        protocol.connection_made(wire)
        for chunk in (b"", *chunks):
            feed(protocol, chunk)
            for _ in range(30 + len(chunk)):
                await asyncio.sleep(0)
        protocol.connection_lost(None)
        await asyncio.gather(*listener.tasks, return_exceptions=True)
        return wire.sent.removeprefix(OFFERS)

    sent = asyncio.run(play())
    return ANSWER.sub(b"", sent), b"".join(ANSWER.findall(sent))


ANSWER = re.compile(b"\xff\xfa.*?\xff\xf0|\xff[\xfb-\xfe].", re.DOTALL)
SWITCHES = [IAC + verb + ECHO for verb in (DO, DONT)] + [window(20, 24), window(80, 5), window(0, 0)]
TYPED = [b"q", b"help", b"\r\n", b"\r", b"\n", b"\0", "é".encode(), b"\xc3", b"\xa9", "世".encode(), b"\xe4\xb8"]
KEYS = [
    b"\x7f",
    b"\x15",
    b"\x01",
    b"\x1b",
    b"[",
    b"D",
    b"\x1b[D",
    b"\x1b]",
    b"\t",
    b"\x10",
    b"\x03",
    IAC + IAC,
    b"y" * 30,
]
ERASING = [IAC + b"\xf7", IAC + b"\xf8"]


@given(
    pieces=st.lists(st.sampled_from([*SWITCHES * 3, *TYPED * 2, *KEYS, *ERASING]), max_size=16),
    cuts=st.lists(st.integers(0, 99), max_size=6),
)
@example(pieces=[b"q", IAC + DO + ECHO, b"help\r\n"], cuts=[1])
@example(pieces=[b"q", IAC + DO + ECHO, b"help\r\n"], cuts=[2])
@example(pieces=[b"\0", IAC + DO + ECHO, b"q"], cuts=[1])
@example(pieces=[b"\xc3", IAC + DO + ECHO, b"\xa9\r\n"], cuts=[1])
@example(pieces=[b"\r", IAC + DO + ECHO, b"\nq"], cuts=[1, 4])
@example(pieces=[IAC + DO + ECHO, b"help " * 8, window(20, 24), b"\x01x", window(80, 24), b"y\r"], cuts=[44, 60])
@example(pieces=[IAC + DO + ECHO, b"q\x01", *ERASING], cuts=[5])
@settings(max_examples=150, deadline=None)
def test_cuts_change_nothing_where_options_change_between_text(pieces: list[bytes], cuts: list[int]) -> None:
    """ECHO and the window's size change in their places: the same output comes however a stream is cut."""
    stream = IAC + WILL + NAWS + b"".join(pieces)
    places = sorted({0, len(stream), *(3 + cut % (len(stream) - 2) for cut in cuts)})

    whole = converse([stream])
    assert converse([stream[start:end] for start, end in itertools.pairwise(places)]) == whole
    assert converse([stream[:3], *pieces]) == whole


def test_text_before_an_option_s_change_is_shown_as_it_was_typed() -> None:
    """What stands before DO ECHO is not echoed, and what stands behind it is, all in one segment."""
    shown, _ = converse([b"q" + IAC + DO + ECHO + b"help\r\n" + IAC + DONT + ECHO + b"quiet\r\n"])
    assert shown == b"callisto# help\r\nOK qhelp\r\ncallisto# \r\nOK quiet\r\ncallisto# "


def test_changes_that_wait_are_bounded() -> None:
    """Options that change behind text that nobody takes yet stop the reading like any other input."""

    def scene(protocol: TelnetProtocol, wire: Memory) -> None:
        feed(protocol, (b"x" + IAC + DO + ECHO + b"x" + IAC + DONT + ECHO) * 100)
        assert protocol._hold_input

    run(scene)


def test_a_flood_of_all_requests_is_answered_once_each() -> None:
    """All 256 options asked for again and again change nothing after the first round, and keep nothing more."""

    def scene(protocol: TelnetProtocol, wire: Memory) -> None:
        sizes = []
        for _ in range(3):
            wire.sent = b""
            feed(protocol, b"".join(IAC + verb + bytes([option]) for option in range(256) for verb in (DO, WILL)))
            sizes.append((len(wire.sent), len(protocol._options.pending_option)))
        assert sizes[1] == sizes[2]
        assert sizes[1][0] <= 2 * 3 * 256

    run(scene)


@pytest.mark.parametrize("verb", [DO, DONT, WILL, WONT])
@pytest.mark.parametrize(
    ("written", "text"),
    [
        (IAC + b"a", b"a"),
        (IAC + IAC + b"a", b"a"),
        (IAC + b"a" + IAC + b"\x01b", b"ab"),
        (IAC + IAC + DO + ECHO + b"a", b"a"),
        (IAC + b"\r\n", b"\r\n"),
    ],
)
@pytest.mark.parametrize("step", [1, 99])
def test_option_255_has_no_answer_and_eats_no_letter(verb: bytes, written: bytes, text: bytes, step: int) -> None:
    """It would be answered with more bytes than it has; the text behind it is text, written with one 255 or two."""

    def scene(protocol: TelnetProtocol, wire: Memory) -> None:
        sent = IAC + verb + written
        for at in range(0, len(sent), step):
            feed(protocol, sent[at : at + step])
        assert cast("Hearing", protocol.console).heard == text
        assert wire.sent == b""

    run(scene, Hearing)


def test_the_terminal_type_is_asked_for_within_the_budget() -> None:
    """What a client has sent is at least as long as all answers, the question for its terminal's type among them."""

    def scene(protocol: TelnetProtocol, wire: Memory) -> None:
        feed(protocol, IAC + WILL + TTYPE)
        assert wire.sent == b""
        feed(protocol, IAC + DO + SGA)
        assert wire.sent == IAC + SB + TTYPE + b"\x01" + IAC + SE
        feed(protocol, IAC + WONT + TTYPE + IAC + WILL + TTYPE + IAC + DO + ECHO)
        assert wire.sent[6:] == IAC + DONT + TTYPE + IAC + DO + TTYPE

    run(scene)


def test_are_you_there_is_answered_in_proportion() -> None:
    """Two thousand AYT above a half-typed line of 3,900 characters bring a few answers, not megabytes."""

    def scene(protocol: TelnetProtocol, wire: Memory) -> None:
        console = protocol.console
        waiting = console.next_line("callisto login: ")
        with contextlib.suppress(StopIteration):
            waiting.send(None)
        console.receive(b"x" * 3900)
        console.editor.next_event()
        wire.sent = b""
        feed(protocol, (IAC + AYT) * 2000)
        waiting.close()
        assert 1 <= wire.sent.count(b"[callisto: yes]") <= 8
        assert len(wire.sent) < 64 << 10

    run(scene)


def test_the_rest_of_an_endless_subnegotiation_costs_nothing() -> None:
    """Behind its bound a sub-negotiation is skipped, not looked at byte by byte, and the text after it is text."""

    def scene(protocol: TelnetProtocol, wire: Memory) -> None:
        feed(protocol, IAC + SB + TTYPE + b"\0" + b"x" * 200)
        before = protocol._options.byte_count
        feed(protocol, b"x" * 100_000)
        assert protocol._options.byte_count - before < 100
        feed(protocol, b"xx" + IAC + SE + b"after")
        assert protocol.console.editor.pending_bytes == len(b"after")
        assert protocol.terminal_type == ""

    run(scene)


def test_erase_commands_do_not_outgrow_the_input_bound() -> None:
    """EC and EL that wait while a command runs stop the reading like any other input."""

    def scene(protocol: TelnetProtocol, wire: Memory) -> None:
        feed(protocol, b"x")
        for _ in range(10):
            feed(protocol, (IAC + b"\xf8") * 2000)
        assert protocol._hold_input

    run(scene)
