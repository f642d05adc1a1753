from __future__ import annotations

import os

from callisto_telnetd.clock import Clock
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.records import Record


def texts(records: list[Record]) -> list[str]:
    """Return what the records say."""
    return [record.text for record in records]


def test_records_are_numbered_and_held_in_order(hub: Hub) -> None:
    """Each record has the next number, and the held ones come oldest first."""
    for text in ("one", "two", "three"):
        hub.publish(20, text, {})

    assert [(record.sequence, record.text) for record in hub.held(0)] == [(1, "one"), (2, "two"), (3, "three")]
    assert (hub.published, hub.held_count) == (3, 3)


def test_a_record_of_the_server_itself_has_its_name_and_pid(hub: Hub) -> None:
    """Unless said otherwise, a record is the server's own."""
    own = hub.publish(20, "own", {})
    other = hub.publish(20, "other", {}, "web-server", 0)

    assert (own.process, own.pid) == ("callisto-telnetd", os.getpid())
    assert (other.process, other.pid) == ("web-server", 0)


def test_the_count_of_held_records_is_bounded(clock: Clock) -> None:
    """Of a thousand records the last ten are held."""
    hub = Hub(clock, held_records=10)
    for number in range(1000):
        hub.publish(20, str(number), {})

    assert texts(hub.held(0)) == [str(number) for number in range(990, 1000)]
    assert hub.published == 1000


def test_the_bytes_of_held_records_are_bounded(clock: Clock) -> None:
    """Long records push out as many short ones as they need room for, and the count of bytes stays true."""
    hub = Hub(clock, held_records=1000, held_bytes=10_000)
    for _ in range(20):
        hub.publish(20, "x" * 300, {"field": "y" * 100})
    hub.publish(20, "z" * 5000, {})

    held = hub.held(0)
    assert held[-1].text == "z" * 5000
    assert sum(record.size for record in held) == hub._held_size <= 10_000
    assert hub._held_size + held[0].size > 10_000


def test_a_hub_may_hold_nothing(clock: Clock) -> None:
    """With a bound of none nothing is held, and listeners hear everything all the same."""
    hub = Hub(clock, held_records=0)
    heard: list[Record] = []
    hub.attach(heard.append)
    hub.publish(20, "one", {})

    assert hub.held(0) == []
    assert texts(heard) == ["one"]


def test_what_is_held_since_a_moment(clock: Clock) -> None:
    """A moment picks the records from it on."""
    moments = iter([1.0, 2.0, 3.0, 4.0])
    hub = Hub(Clock(read=lambda: next(moments)))
    for text in ("one", "two", "three", "four"):
        hub.publish(20, text, {})

    assert texts(hub.held(3.0)) == ["three", "four"]
    assert hub.held(4.1) == []


def test_every_listener_hears_every_record_in_order(hub: Hub) -> None:
    """Two listeners hear the same records in the same order, from the moment they are attached."""
    first: list[Record] = []
    second: list[Record] = []
    hub.attach(first.append)
    hub.publish(20, "one", {})
    hub.attach(second.append)
    hub.publish(20, "two", {})
    hub.publish(20, "three", {})

    assert texts(first) == ["one", "two", "three"]
    assert texts(second) == ["two", "three"]
    assert hub.listeners == 2


def test_a_detached_listener_hears_no_more(hub: Hub) -> None:
    """Detaching one leaves the other, and detaching what is not attached does nothing."""
    first: list[Record] = []
    second: list[Record] = []
    hub.attach(first.append)
    hub.attach(second.append)
    hub.detach(first.append)
    hub.detach(print)
    hub.publish(20, "one", {})

    assert (texts(first), texts(second)) == ([], ["one"])


def test_a_listener_may_detach_itself_while_it_listens(hub: Hub) -> None:
    """Whoever stops in the middle of a record takes it from nobody else."""
    heard: list[str] = []

    def once(record: Record) -> None:
        heard.append(f"once {record.text}")
        hub.detach(once)

    hub.attach(once)
    hub.attach(lambda record: heard.append(record.text))
    hub.publish(20, "one", {})
    hub.publish(20, "two", {})

    assert heard == ["once one", "one", "two"]


def test_records_are_clean(hub: Hub) -> None:
    """What comes from outside is escaped before anybody hears or holds it."""
    hub.publish(20, "a\x1b[2J\nb", {"name": "x\u2028y"})

    (record,) = hub.held(0)
    assert (record.text, dict(record.fields)) == ("a\\x1b[2J\\x0ab", {"name": "x\\u2028y"})
