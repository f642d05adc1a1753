from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.clock import Clock
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.patterns import Pattern
from callisto_telnetd.trace.records import Record, make_head
from callisto_telnetd.trace.selection import Block, Filter
from tests.trace.conftest import FakeMoment, FakeTime, say, texts_of, turns

OPEN = Filter()


def texts(records: list[Record]) -> list[str]:
    """Return what the records say."""
    return [record.text for record in records]


class Source:
    """An input that notes how it is held back."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause(self) -> None:
        """Note it."""
        self.calls.append("pause")

    def resume(self) -> None:
        """Note it."""
        self.calls.append("resume")


# What comes in


def test_records_are_numbered_and_held_in_order(hub: Hub) -> None:
    """Each record has the next number, and the held ones come oldest first."""
    say(hub, "one", "two", "three")

    assert [(record.sequence, record.text) for record in hub.held()] == [(1, "one"), (2, "two"), (3, "three")]
    assert (hub.published, hub.held_count) == (3, 3)


def test_a_record_of_the_server_itself_has_its_name_and_pid(hub: Hub) -> None:
    """Unless said otherwise, a record is the server's own; a process whose pid nobody told has none."""
    own = hub.publish(20, "own")
    other = hub.publish(20, "other", {}, "web-server", 0, source="processes")
    untold = hub.publish(20, "untold", {}, "web-server", source="processes")

    assert (own.process, own.pid) == ("callisto-telnetd", os.getpid())
    assert (other.process, other.pid) == ("web-server", 0)
    assert untold.pid is None
    assert hub.by_input == {"server": 1, "processes": 2}


def test_records_are_clean(hub: Hub) -> None:
    """What comes from outside is escaped before anybody gets or holds it."""
    hub.publish(20, "a\x1b[2J\nb", {"name": "x\u2028y"})

    (record,) = hub.held()
    assert (record.text, dict(record.fields)) == ("a\\x1b[2J\\x0ab", {"name": "x\\u2028y"})


def test_the_time_is_the_appliance_s_and_the_moment_is_not(hub: Hub, time_now: FakeTime, moment: FakeMoment) -> None:
    """A record has the appliance's time, which may be set, and a moment, which goes on only."""
    first = hub.publish(20, "one")
    time_now.now -= 86_400
    moment.now += 1
    second = hub.publish(20, "two")

    assert (second.time - first.time, second.moment - first.moment) == (-86_400, 1)


def test_the_names_of_processes_are_known(hub: Hub) -> None:
    """Who said something is known in the order of the first record."""
    say(hub, "x", process="web-server")
    say(hub, "x", process="coc-proxy")
    say(hub, "x", process="web-server")
    assert hub.names == ["web-server", "coc-proxy"]


# What is held


def test_the_count_of_held_records_is_bounded(clock: Clock) -> None:
    """Of a thousand records the last ten are held."""
    hub = Hub(clock, held_records=10)
    say(hub, *map(str, range(1000)))

    assert texts(hub.held()) == [str(number) for number in range(990, 1000)]
    assert hub.published == 1000


def test_the_bytes_of_held_records_are_bounded(clock: Clock) -> None:
    """Long records push out as many short ones as they need room for, and the count of bytes stays true."""
    hub = Hub(clock, held_records=1000, held_bytes=20_000)
    for _ in range(50):
        hub.publish(20, "x" * 300, {"field": "y" * 100})
    before = hub.held_count
    hub.publish(20, "z" * 5000, {})

    held = hub.held()
    assert held[-1].text == "z" * 5000
    assert hub.held_count < before
    assert sum(record.size for record in held) == hub.held_bytes <= 20_000
    assert hub.held_bytes + held[0].size > 20_000


def test_what_comes_in_one_turn_is_one_stretch(hub: Hub, time_now: FakeTime) -> None:
    """Records that an input read together have one time and moment, numbers of their own, and count for that input."""
    heads = [make_head("web-server", 1, 20), make_head("coc-proxy", 2, 40, {"a": "b"})]
    hub.publish(20, "before")
    hub.take([(heads[0], "one"), (heads[0], "two"), (heads[1], "three")], "trace.sock")
    hub.take([], "trace.sock")

    held = hub.held()[1:]
    assert [(record.sequence, record.process, record.text) for record in held] == [
        (2, "web-server", "one"),
        (3, "web-server", "two"),
        (4, "coc-proxy", "three"),
    ]
    assert {record.time for record in held} == {time_now.now}
    assert len({record.moment for record in held}) == 1
    assert (hub.published, hub.held_count, hub.by_input["trace.sock"]) == (4, 4, 3)
    assert hub.names[-2:] == ["web-server", "coc-proxy"]


@given(st.lists(st.lists(st.integers(0, 9000), min_size=1, max_size=20), max_size=8), st.integers(0, 30), st.booleans())
def test_what_is_held_is_the_end_of_all_however_it_came(turns: list[list[int]], most: int, narrow: bool) -> None:
    """In whatever turns records come, some of the last are held, within both bounds, and none where none may be."""
    most_bytes = 20_000 if narrow else 1 << 20
    hub, head = Hub(Clock(), held_records=most, held_bytes=most_bytes), make_head("web-server", 1, 20)
    for sizes in turns:
        hub.take([(head, "x" * size) for size in sizes], "trace.sock")
        held = hub.held()
        numbers = [record.sequence for record in held]

        assert numbers == list(range(hub.published - len(held) + 1, hub.published + 1))
        assert hub.held_count == len(held) <= most
        assert hub.held_bytes == sum(record.size for record in held) <= most_bytes
        if most >= 20 and not narrow:
            assert held


@given(st.lists(st.integers(0, 9000), max_size=30), st.integers(0, 12), st.integers(0, 20_000))
def test_what_is_held_is_the_end_of_all_and_within_both_bounds(sizes: list[int], most: int, most_bytes: int) -> None:
    """Whatever comes, the last records are held, as many as both bounds let."""
    hub = Hub(Clock(), held_records=most, held_bytes=most_bytes)
    records = [hub.publish(20, "x" * size) for size in sizes]
    held = hub.held()

    assert held == records[len(records) - len(held) :]
    assert len(held) <= most
    assert hub.held_bytes == sum(record.size for record in held) <= most_bytes
    if len(held) < min(most, len(records)):
        assert hub.held_bytes + records[-len(held) - 1].size > most_bytes


async def test_a_hub_may_hold_nothing(clock: Clock) -> None:
    """With a bound of none nothing is held, and outputs get everything all the same."""
    hub = Hub(clock, held_records=0)
    blocks: list[Block] = []
    hub.attach(OPEN, blocks.append)
    say(hub, "one")
    hub.hand_on()

    assert hub.held() == []
    assert texts_of(blocks) == ["one"]


def test_what_is_held_since_a_moment(hub: Hub, moment: FakeMoment, time_now: FakeTime) -> None:
    """A moment picks the records from it on, however the appliance's clock is set meanwhile."""
    for number, jump in enumerate((0, 86_400, -200_000, 5), 1):
        moment.now = number
        time_now.now += jump
        say(hub, str(number))

    assert texts(hub.held(3.0)) == ["3", "4"]
    assert texts(hub.held(3.5)) == ["4"]
    assert hub.held(4.1) == []


def test_what_is_held_goes_through_a_filter(hub: Hub) -> None:
    """Of what is held a filter takes what it takes of the rest."""
    say(hub, "call lost", "call kept", level=30)
    say(hub, "call lost again", level=20)

    assert texts(hub.held(0.0, Filter(level=30, pattern=Pattern("lost")))) == ["call lost"]


# What goes out


async def test_every_output_gets_every_record_in_order(hub: Hub) -> None:
    """Two outputs get the same records in the same order, each from the moment on that it is attached."""
    first: list[Block] = []
    second: list[Block] = []
    say(hub, "nobody")
    hub.attach(OPEN, first.append)
    say(hub, "one")
    hub.attach(Filter(level=20), second.append)
    say(hub, "two", "three")
    hub.hand_on()

    assert texts_of(first) == ["one", "two", "three"]
    assert texts_of(second) == ["two", "three"]
    assert hub.outputs == 2


async def test_a_detached_output_gets_no_more(hub: Hub) -> None:
    """Detaching one leaves the other with its filter, and detaching what is not attached does nothing."""
    first: list[Block] = []
    second: list[Block] = []
    hub.attach(OPEN, first.append)
    hub.attach(OPEN, second.append)
    hub.detach(OPEN, first.append)
    hub.detach(OPEN, first.append)
    hub.detach(Filter(level=40), second.append)
    say(hub, "one")
    hub.hand_on()

    assert (texts_of(first), texts_of(second)) == ([], ["one"])
    hub.detach(OPEN, second.append)
    assert hub.outputs == 0


async def test_an_output_may_detach_itself_while_it_is_handed_a_block(hub: Hub) -> None:
    """Whoever stops in the middle of a block takes it from nobody else."""
    gathered: list[Block] = []

    def once(block: Block) -> None:
        gathered.append(block)
        hub.detach(OPEN, once)

    hub.attach(OPEN, once)
    hub.attach(OPEN, gathered.append)
    say(hub, "one")
    hub.hand_on()
    say(hub, "two")
    hub.hand_on()

    assert texts_of(gathered) == ["one", "one", "two"]


async def test_what_an_output_says_itself_comes_behind(hub: Hub) -> None:
    """A record that is made while a block is handed on is in the next one, for all."""
    gathered: list[Block] = []

    def speak(block: Block) -> None:
        if texts_of([block]) == ["one"]:
            hub.publish(20, "two")

    hub.attach(OPEN, speak)
    hub.attach(OPEN, gathered.append)
    say(hub, "one")
    hub.hand_on()
    assert texts_of(gathered) == ["one"]
    await turns()
    hub.hand_on()

    assert texts_of(gathered) == ["one", "two"]


async def test_an_output_gets_no_empty_block(hub: Hub) -> None:
    """Where its filter takes nothing of a block an output is not called."""
    gathered: list[Block] = []
    hub.attach(Filter(level=40), gathered.append)
    say(hub, "low")
    hub.hand_on()
    hub.hand_on()

    assert gathered == []


async def test_after_a_pause_a_record_is_handed_on_at_once(hub: Hub, moment: FakeMoment) -> None:
    """The first record after 20 ms without any waits for no timer; what follows at once comes in the same block."""
    blocks: list[Block] = []
    hub.attach(OPEN, blocks.append)
    for number in range(3):
        say(hub, f"{number}a", f"{number}b")
        assert hub.pending_count == 2
        await turns()
        assert [len(block) for block in blocks] == [2] * (number + 1)
        moment.now += 0.02

    assert hub.pending_count == 0


async def test_records_are_handed_on_at_most_every_20_ms(hub: Hub, moment: FakeMoment) -> None:
    """While records come all the time a block goes out each 20 ms, however often the loop turns."""
    blocks: list[Block] = []
    hub.attach(OPEN, blocks.append)
    for number in range(100):
        say(hub, str(number))
        await moment.go_on(0.001)

    assert 5 <= len(blocks) <= 6
    await moment.go_on(0.02)
    assert texts_of(blocks) == [str(number) for number in range(100)]


async def test_a_block_is_handed_on_no_sooner_than_20_ms_after_the_last(hub: Hub, moment: FakeMoment) -> None:
    """A record that comes 1 ms after a block waits for the other 19."""
    blocks: list[Block] = []
    hub.attach(OPEN, blocks.append)
    say(hub, "one")
    await turns()
    await moment.go_on(0.001)
    say(hub, "two")
    await moment.go_on(0.018)
    assert texts_of(blocks) == ["one"]
    await moment.go_on(0.0011)

    assert texts_of(blocks) == ["one", "two"]


async def test_a_full_block_is_handed_on_at_once(hub: Hub, moment: FakeMoment) -> None:
    """512 records, or half a mebibyte of them, wait for no turn of the loop."""
    blocks: list[Block] = []
    hub.attach(OPEN, blocks.append)
    say(hub, *map(str, range(1100)))
    assert [len(block) for block in blocks] == [512, 512]
    hub.hand_on()
    blocks.clear()
    say(hub, *("x" * 8000 for _ in range(200)))

    assert len(blocks) == 3
    assert all(60 < len(block) < 70 for block in blocks)


async def test_nothing_is_pending_without_an_output(hub: Hub) -> None:
    """Where nobody is attached records are held and cost no more than that."""
    say(hub, "one")
    assert hub.pending_count == 0
    hub.hand_on()
    blocks: list[Block] = []
    hub.attach(OPEN, blocks.append)
    hub.detach(OPEN, blocks.append)
    say(hub, "two")

    assert hub.pending_count == 0


@given(st.lists(st.sampled_from(["say", "many", "attach", "detach", "hand on"]), max_size=16))
async def test_whoever_comes_and_goes_nothing_is_lost_or_doubled(acts: list[str]) -> None:
    """An output has exactly what was said between its coming and its going, in order, once that is handed on."""
    hub, count = Hub(Clock()), 0
    gathered: list[tuple[int, int | None, list[Block]]] = []
    for act in acts:
        if act in {"say", "many"}:
            for _ in range(1 if act == "say" else 520):
                count += 1
                say(hub, str(count))
        elif act == "attach":
            gathered.append((count, None, []))
            hub.attach(OPEN if len(gathered) % 2 else Filter(level=20), gathered[-1][2].append)
        elif act == "detach" and gathered and gathered[-1][1] is None:
            hub.hand_on()
            begin, _, blocks = gathered[-1]
            gathered[-1] = begin, count, blocks
            hub.detach(OPEN if len(gathered) % 2 else Filter(level=20), blocks.append)
        else:
            hub.hand_on()
    hub.hand_on()

    for begin, end, blocks in gathered:
        last = count if end is None else end
        assert texts_of(blocks) == [str(number) for number in range(begin + 1, last + 1)]


# Holding back


def test_inputs_are_held_back_while_the_hub_is_full(hub: Hub) -> None:
    """All inputs pause, also one that comes meanwhile, and go on; those that have gone are left alone."""
    first, second, third = Source(), Source(), Source()
    hub.add_input(first)
    hub.add_input(second)
    hub.hold_back(full=True)
    hub.add_input(third)
    hub.remove_input(second)
    hub.hold_back(full=False)

    assert (first.calls, second.calls, third.calls) == (["pause", "resume"], ["pause"], ["pause", "resume"])
    assert (hub.full, hub.held_back) == (False, 1)


def test_an_input_that_fills_the_hub_again_holds_the_others_back(hub: Hub) -> None:
    """Where the first to go on fills the hub at once, none of the others goes on."""
    first, second = Source(), Source()

    class Filling(Source):
        def resume(self) -> None:
            super().resume()
            hub.hold_back(full=True)

    filling = Filling()
    for source in (first, filling, second):
        hub.add_input(source)
    hub.hold_back(full=True)
    hub.hold_back(full=False)

    assert first.calls == ["pause", "resume", "pause"]
    assert second.calls == ["pause", "pause"]
    assert (hub.full, hub.held_back) == (True, 2)


async def test_the_server_s_own_records_never_wait(hub: Hub) -> None:
    """While inputs are held back, what is published goes its way all the same."""
    blocks: list[Block] = []
    hub.attach(OPEN, blocks.append)
    hub.hold_back(full=True)
    hub.publish(40, "own")
    await turns()

    assert texts_of(blocks) == ["own"]


@pytest.mark.parametrize("outputs", [1, 2])
async def test_what_waits_is_handed_on_before_a_new_output_comes(hub: Hub, outputs: int) -> None:
    """What was said before belongs to those who were there, and to nobody who comes later."""
    blocks: list[list[Block]] = [[] for _ in range(outputs + 1)]
    for each in blocks[:-1]:
        hub.attach(OPEN, each.append)
    say(hub, "before")
    hub.attach(OPEN, blocks[-1].append)
    hub.hand_on()

    assert [texts_of(each) for each in blocks] == [["before"]] * outputs + [[]]
