from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice, repeat

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.clock import Clock
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.patterns import Pattern
from callisto_telnetd.trace.reading import parse_line
from callisto_telnetd.trace.records import LineFormatter, Record, make_head
from callisto_telnetd.trace.selection import Block, Filter, Stretch
from tests.trace.conftest import say

CLOCK = Clock(zone="Europe/Zurich", read=lambda: 1795425300.123456)


class CountingFormatter(LineFormatter):
    """Counts the stamps that it makes for lines, and the records that it makes data of."""

    def __init__(self) -> None:
        super().__init__(CLOCK)
        self.stamps_made = 0
        self.data_made = 0

    def stamp(self, time: float) -> str:
        """Return the stamp."""
        self.stamps_made += 1
        return super().stamp(time)

    def as_dict(self, record: Record) -> dict[str, object]:
        """Return the data."""
        self.data_made += 1
        return super().as_dict(record)


def record(text: str = "text", process: str = "web-server", level: int = 20, **fields: str) -> Record:
    """Return a record."""
    return Record(1, CLOCK.time(), 0.0, make_head(process, 1, level, fields), text)


def records(*levels: int) -> list[Record]:
    """Return records of these levels, numbered by their texts."""
    return [record(str(number), level=level) for number, level in enumerate(levels)]


def stretches(levels: Sequence[int], sizes: Sequence[int]) -> list[Stretch]:
    """Return the records of these levels as stretches of these sizes, with a last one of what is left."""
    made, found, at = records(*levels), [], 0
    for size in (*sizes, len(levels)):
        said = [(each.head, each.text) for each in made[at : at + size]]
        if said:
            numbers = range(at + 1, at + len(said) + 1)
            found.append(
                Stretch(numbers, 1795425300 + at, float(at), said, sum(each.size for each in made[at:][:size]))
            )
        at += size
    return found


@pytest.mark.parametrize(
    ("wanted", "made", "taken"),
    [
        (Filter(), record(), True),
        (Filter(), record(level=10), True),
        (Filter(level=30), record(level=20), False),
        (Filter(level=30), record(level=30), True),
        (Filter(level=30), record(level=40), True),
        (Filter(frozenset({"web-server"})), record(), True),
        (Filter(frozenset({"web-server", "coc-proxy"})), record(process="coc-proxy"), True),
        (Filter(frozenset({"web"})), record(), False),
        (Filter(frozenset({"Web-Server"})), record(), False),
        (Filter(pattern=Pattern("lost")), record("call lost"), True),
        (Filter(pattern=Pattern("lost")), record("call kept"), False),
        (Filter(pattern=Pattern("code=5[0-9]{2}$")), record("failed", code="500"), True),
        (Filter(pattern=Pattern('said="a b"')), record("x", said="a b"), True),
        (Filter(pattern=Pattern("^call$")), record("call", code="1"), False),
        (Filter(pattern=Pattern("web-server")), record(), False),
        (Filter(frozenset({"web-server"}), 30, Pattern("lost")), record("lost", level=30), True),
        (Filter(frozenset({"web-server"}), 30, Pattern("lost")), record("lost", level=20), False),
        (Filter(frozenset({"web-server"}), 30, Pattern("lost")), record("kept", level=30), False),
        (Filter(frozenset({"coc-proxy"}), 30, Pattern("lost")), record("lost", level=30), False),
    ],
)
def test_which_records_a_filter_takes(wanted: Filter, made: Record, taken: bool) -> None:
    """Process, level and expression must all agree; the expression sees text and fields as they are shown."""
    assert wanted.takes(made) is taken
    entry = parse_line(LineFormatter(CLOCK).line(made))
    assert entry is not None
    assert wanted.takes(entry) is taken


def test_filters_of_the_same_words_are_one() -> None:
    """They are equal and have one hash, so that they share their blocks; a filter of nothing is open."""
    one, two = (Filter(frozenset({"a", "b"}), 30, Pattern("x|y")) for _ in range(2))

    assert one == two
    assert len({one, two, Filter(frozenset({"b", "a"}), 30, Pattern("x|y"))}) == 1
    assert Filter().open
    assert not any(
        each.open for each in (one, Filter(level=20), Filter(frozenset({"a"})), Filter(pattern=Pattern(".")))
    )


def test_a_block_is_formatted_once() -> None:
    """However often its lines, bytes and JSON are asked for, each record is formatted once for each form."""
    formatter = CountingFormatter()
    block = Block.of(records(20, 30, 40), formatter)
    for _ in range(3):
        assert block.data == ("\n".join(block.lines) + "\n").encode()
        assert [orjson.loads(line)["text"] for line in block.json] == ["0", "1", "2"]

    assert block.data is block.data
    assert (formatter.stamps_made, formatter.data_made) == (6, 3)


def test_parts_and_choices_share_the_lines_of_their_block() -> None:
    """Whatever is taken from a formatted block is not formatted again."""
    formatter = CountingFormatter()
    block = Block.of(records(20, 30, 40, 20), formatter)
    lines = block.lines
    parts = block.first(2), block.after(1), block.chosen(Filter(level=30))

    assert [part.lines for part in parts] == [lines[:2], lines[1:], lines[1:3]]
    assert all(part.lines[0] is line for part, line in zip(parts, (lines[0], lines[1], lines[1]), strict=True))
    assert formatter.stamps_made == 4


def test_a_block_that_is_wanted_whole_is_the_same_block() -> None:
    """Where a filter takes all records, or as many are asked for as there are, nothing is made anew."""
    block = Block.of(records(30, 40), CountingFormatter())

    assert block.chosen(Filter()) is block
    assert block.chosen(Filter(level=30)) is block
    assert block.first(2) is block
    assert block.first(99) is block


def test_an_empty_block_has_no_bytes() -> None:
    """A block of no records writes no empty line."""
    block = Block([], LineFormatter(CLOCK))

    assert (len(block), block.lines, block.data, block.json) == (0, [], b"", [])


LEVELS = st.sampled_from([10, 20, 30, 40])


@given(st.lists(LEVELS), st.lists(st.integers(0, 5), max_size=5), st.integers(0, 12), LEVELS, st.booleans())
def test_a_block_can_be_cut_and_chosen_from_anyhow(
    levels: list[int], sizes: list[int], count: int, level: int, early: bool
) -> None:
    """The first and what is after them are the block; a choice is what the filter takes, formatted before or after."""
    block = Block(stretches(levels, sizes), LineFormatter(CLOCK))
    whole = [LineFormatter(CLOCK).line(each) for each in block.records]
    assert [(each.sequence, each.text) for each in block.records] == [
        (number + 1, str(number)) for number in range(len(levels))
    ]
    if early:
        assert block.lines == whole

    assert [*block.first(count).records, *block.after(count).records] == list(block.records)
    assert [*block.first(count).lines, *block.after(count).lines] == whole
    chosen = block.chosen(Filter(level=level))
    assert chosen.records == [each for each in block.records if each.level >= level]
    assert len(chosen) == len(chosen.records)
    assert chosen.lines == [line for line, each in zip(whole, levels, strict=True) if each >= level]


async def test_outputs_with_equal_filters_get_the_very_same_block(hub: Hub) -> None:
    """One block is made for each filter, however many want it; an open filter's is the whole."""
    gathered: list[list[Block]] = [[] for _ in range(5)]
    level = (Filter(level=30) for _ in range(2))
    for blocks, wanted in zip(gathered, chain(level, repeat(Filter(), 2), [Filter(level=10)]), strict=True):
        hub.attach(wanted, blocks.append)
    say(hub, "low")
    say(hub, "high", level=40)
    hub.hand_on()

    (first,), (second,), (third,), (fourth,), (fifth,) = gathered
    assert first is second
    assert third is fourth is fifth
    assert (len(first), len(third)) == (1, 2)
    assert first.lines[0] is third.lines[1]


async def test_a_record_is_formatted_once_for_all_outputs() -> None:
    """Ten outputs with five filters cost one line a record."""
    hub = Hub(CLOCK)
    formatter = hub.formatter = CountingFormatter()
    gathered: list[Block] = []
    for number in range(10):
        hub.attach(Filter(level=(10, 20, 30, 40, 40)[number % 5]), gathered.append)
    for level in islice(chain.from_iterable(repeat((10, 20, 30, 40))), 100):
        say(hub, "x", level=level)
    hub.hand_on()

    assert sum(len(block.data) for block in gathered) > 0
    assert formatter.stamps_made == 100


@given(st.lists(LEVELS, min_size=1), LEVELS, st.integers(0, 10), st.integers(0, 10))
def test_a_stretch_can_be_cut_and_chosen_from(levels: list[int], level: int, begin: int, end: int) -> None:
    """Parts and choices are the records that stand there, with their own numbers and sizes."""
    [stretch] = stretches(levels, [])
    made = stretch.records()
    chosen, part = stretch.chosen(Filter(level=level)), stretch.part(slice(begin, end))

    assert stretch.chosen(Filter()) is stretch
    assert chosen.records() == [each for each in made if each.level >= level]
    assert part.records() == made[begin:end]
    for each in (chosen, part):
        assert len(each) == len(each.records())
        assert each.size == sum(record.size for record in each.records())
