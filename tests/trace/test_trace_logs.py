from __future__ import annotations

import asyncio
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from callisto_telnetd.record_rate import RecordRate
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import bridge_libraries, open_log
from callisto_telnetd.trace.selection import Block, Filter

STAMP = "2026-11-23T10:15:00.123456+01:00 callisto-telnetd["


def fail(depth: int) -> None:
    """Raise from so many calls down."""
    if depth:
        fail_again(depth)
    raise ValueError("the reason\nin two lines")


def fail_again(depth: int) -> None:
    """Take turns, so that Python does not fold the traceback."""
    fail(depth - 1)


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """Python's root logger, which gets back what was changed of it."""
    root, library = logging.getLogger(), logging.getLogger("telnetlib3")
    before = root.handlers[:], root.level, library.level
    yield root
    root.handlers[:], root.level, library.level = before
    logging.captureWarnings(capture=False)


def test_an_event_is_one_readable_line(hub: Hub) -> None:
    """A line on the stream has the trace's own form."""
    stream = io.StringIO()
    open_log(hub, stream=stream).info("logged in", who="ada", source="192.0.2.7")

    line = stream.getvalue()
    assert line.startswith(STAMP)
    assert line.endswith("] INFO logged in who=ada source=192.0.2.7\n")


def test_an_event_is_one_line_of_json(hub: Hub) -> None:
    """In the form of JSON each line is an object."""
    stream = io.StringIO()
    log = open_log(hub, form="json", stream=stream)
    log.info("logged in", who="a\nb")
    log.error("failed")

    first, second = (orjson.loads(line) for line in stream.getvalue().splitlines())
    assert (first["level"], first["text"], first["fields"]) == ("info", "logged in", {"who": "a\\x0ab"})
    assert (second["level"], second["text"]) == ("error", "failed")


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]),
        ("info", ["INFO", "WARNING", "ERROR", "CRITICAL"]),
        ("warning", ["WARNING", "ERROR", "CRITICAL"]),
        ("error", ["ERROR", "CRITICAL"]),
        ("critical", ["CRITICAL"]),
        ("emergency", []),
    ],
)
def test_the_stream_shows_from_its_level_on_and_the_hub_all(hub: Hub, level: str, shown: list[str]) -> None:
    """The level bounds what the stream shows; the trace has every event."""
    stream = io.StringIO()
    log = open_log(hub, level, stream=stream)
    for say in (log.debug, log.info, log.warning, log.error, log.critical):
        say("something")

    assert [line.split()[2] for line in stream.getvalue().splitlines()] == shown
    assert [record.level for record in hub.held(0)] == [10, 20, 30, 40, 50]


def test_a_log_line_cannot_be_forged(hub: Hub) -> None:
    """Text and values from outside make no second line and drive no terminal."""
    stream = io.StringIO()
    open_log(hub, stream=stream).info("name\r\n2026 forged", who="\x1b[2J\u2028")

    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("depth", [0, 12])
def test_an_exception_is_in_the_line_with_its_reason(hub: Hub, depth: int) -> None:
    """A traceback stays in the event's one line, and however deep it is, the error at its end is told."""
    stream = io.StringIO()
    log = open_log(hub, stream=stream)
    try:
        fail(depth)
    except ValueError:
        log.exception("unexpected error", incident="1234")

    (line,) = stream.getvalue().splitlines()
    assert "ERROR unexpected error incident=1234" in line
    assert "ValueError: the reason" in line
    assert "ValueError: the reason" in hub.held(0)[-1].fields["exception"]


def test_an_endless_traceback_is_bounded_and_has_its_reason(hub: Hub) -> None:
    """A very deep traceback is cut, but not at its end."""
    stream = io.StringIO()
    log = open_log(hub, stream=stream)
    try:
        fail(150)
    except ValueError:
        log.exception("unexpected error")

    (line,) = stream.getvalue().splitlines()
    assert "ValueError: the reason" in line
    assert len(line) < 20_000


def test_a_stream_that_takes_nothing_stops_nobody(hub: Hub) -> None:
    """Where the log's file is on a full disk, or its reader has gone, the event is in the trace all the same."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        log = open_log(hub, stream=io.TextIOWrapper(full, write_through=True))
        log.info("logged in")
        log.error("failed")

    assert [record.text for record in hub.held(0)] == ["logged in", "failed"]


def test_libraries_speak_through_the_log(hub: Hub, root_logger: logging.Logger) -> None:
    """What a library says from WARNING on is an event with the name of its logger; what it says below is not."""
    stream = io.StringIO()
    bridge_libraries(open_log(hub, "debug", stream=stream), RecordRate())
    logging.getLogger("some.library").info("chatter")
    logging.getLogger("some.library").warning("slow: %d ms", 5)
    logging.getLogger("some.library").critical("gone")

    assert [(record.level_name, record.text, dict(record.fields)) for record in hub.held(0)] == [
        ("WARNING", "slow: 5 ms", {"logger": "some.library"}),
        ("CRITICAL", "gone", {"logger": "some.library"}),
    ]
    assert len(stream.getvalue().splitlines()) == 2


def test_a_library_logs_its_exceptions_in_one_line(hub: Hub, root_logger: logging.Logger) -> None:
    """A traceback that comes through Python's logging is in the event's line."""
    stream = io.StringIO()
    bridge_libraries(open_log(hub, stream=stream), RecordRate())
    try:
        fail(1)
    except ValueError:
        logging.getLogger("some.library").exception("unexpected")

    (line,) = stream.getvalue().splitlines()
    assert "ValueError: the reason" in line


def test_a_library_that_logs_wrongly_is_not_broken_by_the_log(hub: Hub, root_logger: logging.Logger) -> None:
    """A message that does not fit its arguments is logged as it stands, and raises nothing in the library."""
    bridge_libraries(open_log(hub, stream=io.StringIO()), RecordRate())
    logging.getLogger("some.library").warning("%d ms", "slow")

    assert [record.text for record in hub.held(0)] == ["%d ms"]


def test_the_telnet_library_is_heard_from_error_on(hub: Hub, root_logger: logging.Logger) -> None:
    """What telnetlib3 says below ERROR, its traces of what was typed above all, is not logged."""
    bridge_libraries(open_log(hub, "debug", stream=io.StringIO()), RecordRate())
    for name in ("telnetlib3", "telnetlib3.server"):
        logging.getLogger(name).warning("recv: password")
        logging.getLogger(name).error("broken")

    assert [record.text for record in hub.held(0)] == ["broken", "broken"]


def test_python_s_warnings_are_logged(hub: Hub, root_logger: logging.Logger) -> None:
    """A warning of Python's is an event of one line, not text on stderr."""
    bridge_libraries(open_log(hub, stream=io.StringIO()), RecordRate())
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)  # whatever an earlier test of this process has left
        logging.captureWarnings(capture=True)
        warnings.warn("old\nways", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)

    (record,) = hub.held(0)
    assert record.level_name == "WARNING"
    assert "DeprecationWarning: old\\x0aways" in record.text


async def test_asyncio_s_own_words_are_logged(hub: Hub, root_logger: logging.Logger) -> None:
    """What asyncio says of an error that nobody took is in the log."""
    bridge_libraries(open_log(hub, stream=io.StringIO()), RecordRate())
    asyncio.get_running_loop().call_exception_handler({"message": "nobody took it", "exception": ValueError("why")})

    (record,) = hub.held(0)
    assert (record.level_name, record.text.partition("\\x0a")[0]) == ("ERROR", "nobody took it")
    assert "ValueError: why" in record.fields["exception"]


async def test_a_library_that_peers_make_warn_is_few_records(hub: Hub, root_logger: logging.Logger) -> None:
    """A message of a library is told once a second with how many were left out, whatever it says of whom."""
    rate = RecordRate()
    bridge_libraries(open_log(hub, stream=io.StringIO()), rate)
    for number in range(1000):
        root_logger.warning("peer %d went", number)
    root_logger.warning("another")
    rate.close()

    texts = [(record.text, dict(record.fields).get("left_out")) for record in hub.held(0)]
    assert texts == [("peer 0 went", None), ("another", None), ("peer 999 went", "998")]


async def test_a_library_may_speak_in_any_thread(hub: Hub, root_logger: logging.Logger) -> None:
    """What is logged in a thread becomes a record in the loop, also while somebody looks on."""
    bridge_libraries(open_log(hub, stream=io.StringIO()), RecordRate())
    came = asyncio.Event()
    blocks: list[Block] = []

    def take(block: Block) -> None:
        blocks.append(block)
        came.set()

    hub.attach(Filter(), take)
    await asyncio.to_thread(root_logger.warning, "said elsewhere")
    await asyncio.wait_for(came.wait(), 15)

    assert [record.text for block in blocks for record in block.records] == ["said elsewhere"]
