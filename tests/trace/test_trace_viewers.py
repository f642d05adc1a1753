from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callisto_telnetd.clock import Clock
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.records import make_head
from callisto_telnetd.trace.selection import Block, Stretch
from callisto_telnetd.trace.viewers import Missed, Viewer
from tests.trace.conftest import FakeMoment, say, turns

HEAD = make_head("web-server", 1, 20)
MOST_BYTES = 512 << 10
SCREEN = 16 << 10


class Source:
    """Makes blocks of numbered records, as the hub does."""

    def __init__(self) -> None:
        self.hub = Hub(Clock())
        self.count = 0

    def block(self, records: int, size: int = 10) -> Block:
        """Return a block of the next records, whose texts have about so many bytes."""
        said = [(HEAD, f"{self.count + number + 1} ".ljust(size, "x")) for number in range(records)]
        numbers = range(self.count + 1, self.count + records + 1)
        self.count += records
        return Block([Stretch(numbers, 1795425300.0, 0.0, said, size * records)], self.hub.formatter)


def shown_of(items: list[Missed | Block]) -> list[int | str]:
    """Return what a viewer was shown: numbers of records, and ``-5`` where five were missed."""
    shown: list[int | str] = []
    for item in items:
        shown += [f"-{item.records}"] if isinstance(item, Missed) else [record.sequence for record in item.records]
    return shown


async def rest(viewer: Viewer) -> list[int | str]:
    """Return all that a viewer that has ended is still shown."""
    return shown_of([item async for item in viewer.follow()])


async def test_a_viewer_is_shown_all_in_order() -> None:
    """Blocks come as they were offered, the very same ones, and the end ends the view."""
    source = Source()
    viewer = Viewer(source.hub)
    blocks = [source.block(3) for _ in range(4)]
    for block in blocks:
        viewer.offer(block)
    viewer.finish()

    items = [item async for item in viewer.follow()]
    assert all(item is block for item, block in zip(items, blocks, strict=True))
    assert (viewer.shown, viewer.not_shown, source.hub.not_shown, viewer.waiting_bytes) == (12, 0, 0, 0)


async def test_a_viewer_waits_for_what_comes() -> None:
    """With nothing to show it waits, counted by the hub, and wakes for each block and for the end."""
    source = Source()
    viewer = Viewer(source.hub)
    looking = asyncio.create_task(rest(viewer))
    await turns()
    assert source.hub.viewers == {viewer}
    for count in (1, 2):
        viewer.offer(source.block(1))
        await turns()
        assert viewer.shown == count
    viewer.finish()
    assert await looking == [1, 2]
    assert source.hub.viewers == set()


async def test_what_does_not_fit_makes_the_oldest_go() -> None:
    """Of more than 512 KiB that wait the oldest blocks go, counted exactly, and the count comes where they were."""
    source = Source()
    viewer = Viewer(source.hub)
    size = len(source.block(1, 1000).data)
    source.count = 0
    for _ in range(1000):
        viewer.offer(source.block(1, 1000))
        assert viewer.waiting_bytes <= MOST_BYTES
    viewer.finish()

    kept = MOST_BYTES // size
    assert viewer.waiting_bytes == pytest.approx(kept * size, abs=3 * kept)
    shown = await rest(viewer)
    assert abs(len(shown) - 1 - kept) <= 3
    missed = 1000 - (len(shown) - 1)
    assert shown == [f"-{missed}", *range(missed + 1, 1001)]
    assert (viewer.shown, viewer.not_shown, source.hub.not_shown) == (1000 - missed, missed, missed)


async def test_the_newest_block_is_shown_however_large() -> None:
    """A block that is larger than all that may wait makes all others go, and is shown to who reads."""
    source = Source()
    viewer = Viewer(source.hub)
    viewer.offer(source.block(3))
    viewer.offer(source.block(100, 8000))
    viewer.finish()

    assert await rest(viewer) == ["-3", *range(4, 104)]


async def test_the_past_is_shown_first_and_whole() -> None:
    """What is held from before comes in order before all that is live, and makes nothing go."""
    source = Source()
    past = [record for _ in range(20) for record in source.block(100, 3000).records]
    viewer = Viewer(source.hub, past[:500])
    viewer.offer(source.block(5))
    viewer.add_past(past[500:])
    viewer.finish()

    assert await rest(viewer) == list(range(1, 2006))
    assert (viewer.shown, viewer.not_shown) == (2005, 0)


async def test_a_closed_viewer_shows_at_most_a_screen() -> None:
    """Ended by its user it shows the last 16 KiB of what waits, no past, and counts the rest."""
    source = Source()
    viewer = Viewer(source.hub, source.block(100).records)
    for _ in range(300):
        viewer.offer(source.block(1, 1000))
    viewer.close()
    assert viewer.waiting_bytes <= SCREEN
    viewer.offer(source.block(1))
    viewer.add_past(source.block(1).records)

    shown = await rest(viewer)
    assert 12 <= len(shown) - 1 <= 16
    assert shown == [f"-{401 - len(shown)}", *range(402 - len(shown), 401)]
    assert viewer.shown + viewer.not_shown == 400


async def test_a_finished_viewer_takes_no_more_and_shows_the_rest() -> None:
    """What waited when its capture ended is shown whole; what is offered then is nobody's."""
    source = Source()
    viewer = Viewer(source.hub)
    for _ in range(300):
        viewer.offer(source.block(1, 1000))
    viewer.finish()
    viewer.offer(source.block(1))
    viewer.add_past(source.block(1).records)

    assert await rest(viewer) == list(range(1, 301))
    assert (viewer.shown, viewer.not_shown) == (300, 0)


async def test_a_viewer_that_goes_in_the_middle_counts_what_it_was_not_shown() -> None:
    """Whoever looks no more was not shown what waits, past and live."""
    source = Source()
    viewer = Viewer(source.hub, source.block(200).records)
    viewer.offer(source.block(7))
    async with aclosing(viewer.follow()) as items:
        first = await anext(items)

    assert isinstance(first, Block)
    assert (viewer.shown, viewer.not_shown, source.hub.not_shown) == (len(first), 207 - len(first), 207 - len(first))
    assert viewer.ended
    assert source.hub.viewers == set()


ACTS = st.lists(
    st.tuples(st.just("offer"), st.integers(1, 40), st.sampled_from([10, 1000, 8000]))
    | st.tuples(st.just("past"), st.integers(1, 100), st.just(10))
    | st.tuples(st.just("read"), st.integers(1, 5), st.just(0)),
    max_size=25,
)


@given(ACTS, st.sampled_from(["finish", "close", "go"]), st.booleans())
@example([("offer", 40, 8000)] * 5, "finish", False)
@example([("past", 100, 10), ("offer", 40, 8000), ("read", 1, 0), ("offer", 40, 8000)], "close", True)
async def test_every_record_is_shown_or_counted(acts: list[tuple[str, int, int]], end: str, more: bool) -> None:
    """Whatever is offered and read, and however it ends: shown and counted are what was offered, in order, once."""
    source = Source()
    viewer, offered = Viewer(source.hub, source.block(1).records), 0
    looking: AsyncGenerator[Missed | Block, None] = viewer.follow()
    items = [await anext(looking)]
    for act, count, size in acts:
        if act == "offer":
            viewer.offer(source.block(count, size))
            offered += count
        elif act == "past" and not offered:  # the past comes before all that is live
            viewer.add_past(source.block(count, size).records)
        else:
            while count and (viewer._past or viewer._missed or viewer._waiting):
                items += [await anext(looking)]
                count -= 1  # noqa: PLW2901 - how many are still to be read
        assert viewer.waiting_bytes <= MOST_BYTES
    total = source.count
    if end == "finish":
        viewer.finish()
    elif end == "close":
        viewer.close()
    if more and end != "go":
        viewer.offer(source.block(3))
    if end != "go":
        items += [item async for item in looking]
    await looking.aclose()

    assert viewer.shown + viewer.not_shown == total
    assert source.hub.not_shown == viewer.not_shown
    shown = shown_of(items)
    numbers = [each for each in shown if isinstance(each, int)]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == viewer.shown
    if end != "go":
        counted = sum(-int(each) for each in shown if isinstance(each, str))
        assert counted == viewer.not_shown


# Viewers whose peers take nothing


async def look_at_one(viewer: Viewer) -> AsyncGenerator[Missed | Block, None]:
    """Return a view that has been given its first block and has asked for no more."""
    looking = viewer.follow()
    await anext(looking)
    return looking


async def test_a_viewer_that_takes_nothing_is_cut_off(moment: FakeMoment) -> None:
    """Given a block, and with a peer that reads nothing for 10 s, it is ended and counted, and that is told once."""
    source, told = Source(), []
    viewer = Viewer(source.hub, backlog=lambda: 1000, on_stalled=lambda: told.append(viewer.not_shown))
    viewer.offer(source.block(3))
    viewer.offer(source.block(4))
    looking = await look_at_one(viewer)
    for _ in range(9):
        await moment.go_on(1)
    assert not viewer.cut_off
    for _ in range(5):
        await moment.go_on(1)

    assert (viewer.cut_off, viewer.ended, source.hub.cut_off) == (True, True, 1)
    assert told == [4]
    assert (viewer.shown, viewer.not_shown, viewer.waiting_bytes) == (3, 4, 0)
    viewer.offer(source.block(1))
    await looking.aclose()
    await moment.go_on(60)
    assert (viewer.not_shown, source.hub.cut_off) == (4, 1)


async def test_what_is_cut_off_of_the_past_is_counted(moment: FakeMoment) -> None:
    """A peer that does not even take what is held from before was not shown the rest of it."""
    source = Source()
    viewer = Viewer(source.hub, source.block(500).records, backlog=lambda: 1000, stalled_s=1.0)
    looking = await look_at_one(viewer)
    for _ in range(12):
        await moment.go_on(0.1)

    assert viewer.cut_off
    assert viewer.shown + viewer.not_shown == 500
    await looking.aclose()
    assert viewer.shown + viewer.not_shown == 500


async def test_a_peer_that_reads_slowly_is_not_cut_off(moment: FakeMoment) -> None:
    """As long as its backlog becomes fewer now and then, nobody is cut off; when it does no more, he is."""
    source, backlog = Source(), [100_000]
    viewer = Viewer(source.hub, backlog=lambda: backlog[0], stalled_s=1.0)
    viewer.offer(source.block(3))
    looking = await look_at_one(viewer)
    for _ in range(12):
        for _ in range(8):
            await moment.go_on(0.1)
        backlog[0] -= 1
    assert not viewer.cut_off
    for _ in range(12):
        await moment.go_on(0.1)

    assert viewer.cut_off
    await looking.aclose()


async def test_a_viewer_with_nothing_to_show_is_not_cut_off(moment: FakeMoment) -> None:
    """However long nothing is said, who has taken all he was given is no stalled viewer."""
    source, told = Source(), []
    viewer = Viewer(source.hub, backlog=lambda: 1000, on_stalled=lambda: told.append(True), stalled_s=1.0)
    looking = viewer.follow()
    viewer.offer(source.block(1))
    await anext(looking)
    waiting = asyncio.ensure_future(anext(looking))
    for _ in range(50):
        await moment.go_on(0.1)
    assert not viewer.cut_off
    viewer.offer(source.block(1))
    await turns()

    assert waiting.done()
    await looking.aclose()
    assert told == []


async def test_a_viewer_leaves_no_timer_behind(moment: FakeMoment) -> None:
    """Once nobody looks any more, nobody is looked at."""
    source, looks = Source(), []

    def backlog() -> int:
        looks.append(True)
        return 0

    viewer = Viewer(source.hub, backlog=backlog, stalled_s=1.0)
    viewer.offer(source.block(1))
    looking = await look_at_one(viewer)
    await moment.go_on(0.15)
    assert looks
    await looking.aclose()
    looks.clear()
    await moment.go_on(5)

    assert looks == []


async def test_viewers_count_what_they_missed_together() -> None:
    """The hub has the sum of what all its viewers were not shown."""
    source = Source()
    first, second = Viewer(source.hub), Viewer(source.hub)
    for _ in range(200):
        block = source.block(1, 8000)
        first.offer(block)
        second.offer(block)
    say(source.hub, "no viewer's")

    assert first.not_shown == second.not_shown > 100
    assert source.hub.not_shown == first.not_shown + second.not_shown
