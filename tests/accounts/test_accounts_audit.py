from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from callisto_telnetd.accounts import audit as audit_module
from callisto_telnetd.accounts.audit import Audit, AuditEntry
from callisto_telnetd.clock import Clock
from callisto_telnetd.db.store import Store
from callisto_telnetd.errors import StoreError
from callisto_telnetd.origin import Origin
from callisto_telnetd.record_rate import RecordRate
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import Log

HOSTILE = "\x1b[2J\r\nforged\u202e\u2028\udcff"

Rows = Callable[..., list[tuple[Any, ...]]]


async def test_an_event_is_kept_with_all_that_is_known(audit: Audit, ada: Origin) -> None:
    """An entry has number, time of the appliance, event, who, door, source and detail."""
    await audit.note("logged in", ada, "by key")

    assert await audit.entries(10) == [
        AuditEntry(1, "2026-11-23T10:15:00+01:00", "logged in", "ada", "telnet", "192.0.2.7", "by key")
    ]


async def test_the_newest_entries_come_oldest_first(audit: Audit, ada: Origin) -> None:
    """Of ten entries the last three are read, in the order in which they were made."""
    for number in range(10):
        await audit.note(f"event {number}", ada)

    assert [entry.event for entry in await audit.entries(3)] == ["event 7", "event 8", "event 9"]


async def test_the_table_is_bounded(audit: Audit, ada: Origin, monkeypatch: pytest.MonkeyPatch, rows: Rows) -> None:
    """The oldest rows go when the newest come; numbers are not given again."""
    monkeypatch.setattr(audit_module, "_MOST_ROWS", 5)
    monkeypatch.setattr(audit_module, "_TRIM_EVERY", 1)
    for number in range(12):
        await audit.note(f"event {number}", ada)

    assert rows("SELECT id, event FROM audit ORDER BY id") == [(id_, f"event {id_ - 1}") for id_ in range(8, 13)]


async def test_what_comes_from_outside_is_cleaned_and_bounded(audit: Audit, rows: Rows) -> None:
    """Neither a name nor a detail brings control characters or endless text into the database."""
    await audit.note("access denied", Origin(HOSTILE + "x" * 500, "telnet", "192.0.2.7"), HOSTILE + "y" * 5000)

    ((who, detail),) = rows("SELECT who, detail FROM audit")
    for text in (who, detail):
        assert text.isprintable()
        assert text.startswith("\\x1b[2J\\x0d\\x0aforged\\u202e\\u2028\\udcff")
        assert text.endswith("…")
    assert len(who) < 64 + 40
    assert len(detail) < 200 + 40


async def test_an_event_is_in_the_trace_too(audit: Audit, ada: Origin, hub: Hub) -> None:
    """What is audited is logged with the same facts; a detail only where there is one."""
    await audit.note("logged in", ada)
    await audit.note("access denied", ada, "locked")

    assert [(record.text, dict(record.fields)) for record in hub.held(0)] == [
        ("logged in", {"who": "ada", "source": "192.0.2.7", "door": "telnet"}),
        ("access denied", {"who": "ada", "source": "192.0.2.7", "door": "telnet", "detail": "locked"}),
    ]


async def test_guesses_of_a_source_are_few_records_and_whole_in_the_audit(
    store: Store, clock: Clock, log: Log, hub: Hub, rows: Rows
) -> None:
    """Every failed log-in is kept; the log has one a source and second, with how many it leaves out."""
    strangers = RecordRate()
    audit = Audit(store, clock, log, strangers)
    for number in range(5):
        await audit.note("access denied", Origin("unknown", "telnet", f"2001:db8::{number}"))  # one /64 is one source
    await audit.note("access denied", Origin("unknown", "telnet", "192.0.2.7"))
    strangers.close()

    assert [(dict(each.fields)["source"], dict(each.fields).get("left_out")) for each in hub.held(0)] == [
        ("2001:db8::0", None),
        ("192.0.2.7", None),
        ("2001:db8::4", "3"),
    ]
    assert rows("SELECT count(*) FROM audit") == [(6,)]


async def test_a_store_that_fails_is_told_to_the_log_alone(audit: Audit, ada: Origin, store: Store, hub: Hub) -> None:
    """What cannot be kept is no error of the session's: the log says what is missing and why."""
    await store.apply([("DROP TABLE audit", ())])

    await audit.note("logged in", ada)

    last = hub.held(0)[-1]
    assert (last.level_name, last.text) == ("WARNING", "not kept in the audit")
    assert last.fields["event_kind"] == "logged in"
    assert "nothing was changed" in last.fields["reason"]


async def test_an_entry_and_what_goes_with_it_are_kept_together(audit: Audit, ada: Origin, store: Store) -> None:
    """Where the audit takes nothing, the statements that go with the event leave nothing either."""
    await store.apply([("CREATE TRIGGER t BEFORE INSERT ON audit BEGIN SELECT raise(ABORT, 'no'); END", ())])

    await audit.note("logged in", ada, also=(("INSERT INTO state VALUES ('a', 'b')", ()),))

    assert await store.get_state("a") is None


async def test_reading_fails_with_our_error(audit: Audit, store: Store) -> None:
    """Where the table cannot be read, the reader is told so."""
    await store.apply([("DROP TABLE audit", ())])

    with pytest.raises(StoreError):
        await audit.entries(1)
