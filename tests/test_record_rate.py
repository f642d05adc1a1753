"""How many records strangers make."""

from __future__ import annotations

import asyncio
from typing import Any

from callisto_telnetd.record_rate import MOST_SOURCES, RecordRate


class Told:
    """A log that keeps what it is told."""

    def __init__(self) -> None:
        self.records: list[tuple[str, dict[str, Any]]] = []
        self.came = asyncio.Event()

    def tell(self, event: str, **fields: Any) -> None:
        self.records.append((event, fields))
        self.came.set()


async def test_a_flood_is_two_records_and_a_count() -> None:
    """The first is told at once, the last at the end of its second with how many were left out between them."""
    told, rate = Told(), RecordRate(second_s=0.02)
    for number in range(1000):
        rate.tell(told.tell, "refused", of="192.0.2.7", port=number)
    assert told.records == [("refused", {"port": 0})]
    told.came.clear()

    await asyncio.wait_for(told.came.wait(), 15)
    assert told.records[1:] == [("refused", {"port": 999, "left_out": 998})]
    rate.tell(told.tell, "refused", of="192.0.2.7", port=1000)
    assert len(told.records) == 2
    rate.close()
    assert told.records[2:] == [("refused", {"port": 1000})]


async def test_sources_and_events_do_not_hide_each_other() -> None:
    """Each source, and each event of one, has its own second."""
    told, rate = Told(), RecordRate()
    for event in ("refused", "denied"):
        for source in ("a", "b", "a"):
            rate.tell(told.tell, event, of=source, source=source)

    assert told.records == [(event, {"source": source}) for event in ("refused", "denied") for source in "ab"]
    rate.close()


async def test_many_sources_are_told_as_one() -> None:
    """The table is bounded: however many sources come in a second, those beyond it share one record a second."""
    told, rate = Told(), RecordRate()
    for number in range(10_000):
        rate.tell(told.tell, "refused", of=str(number), number=number)

    assert len(told.records) == MOST_SOURCES + 1
    assert len(rate._seconds) == MOST_SOURCES + 1
    rate.close()
    left_out = 10_000 - MOST_SOURCES - 2
    assert told.records[-1] == ("refused", {"number": 9999, "left_out": left_out, "left_out_of": "many sources"})
    assert rate._seconds == {}
