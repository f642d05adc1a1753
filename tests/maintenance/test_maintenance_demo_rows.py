from __future__ import annotations

import hashlib
import random
import re
import struct
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.db.tables import table_named
from callisto_telnetd.maintenance.demo_people import make_person
from callisto_telnetd.maintenance.demo_pieces import Batch, Order
from callisto_telnetd.maintenance.demo_rows import batches
from callisto_telnetd.maintenance.demo_sounds import encode_mulaw, make_wav
from callisto_telnetd.maintenance.demo_texts import make_pdf

NOW = datetime(2026, 11, 23, 10, 15, tzinfo=ZoneInfo("Europe/Zurich"))  # the clocks went back in October
ORDER = Order(users=20, messages=200, calls=2000)
IDS = {"message", "call_record"}
"""Tables whose row ids are given by SQLite."""


def made(order: Order = ORDER, now: datetime = NOW, first: int = 1000) -> list[Batch]:
    """Return all batches of an order."""
    return list(batches(order, range(first, first + order.users), now))


def rows_of(some: Sequence[Batch], table: str) -> list[tuple[object, ...]]:
    """Return the rows of a table."""
    return [row for batch in some for row in batch.rows.get(table, [])]


@pytest.fixture(scope="module")
def demonstration() -> list[Batch]:
    """The batches of one order; tests only look at them."""
    return made()


def samples_of(content: bytes) -> int:
    """Parse a WAV file strictly, as RIFF and RFC 2361 have it, and return its number of mu-law samples."""
    assert content[:4] == b"RIFF"
    assert content[8:12] == b"WAVE"
    assert struct.unpack("<I", content[4:8])[0] == len(content) - 8
    chunks, at = {}, 12
    while at < len(content):
        name, size = content[at : at + 4], struct.unpack("<I", content[at + 4 : at + 8])[0]
        chunks[name] = content[at + 8 : at + 8 + size]
        assert len(chunks[name]) == size
        at += 8 + size + size % 2
    assert at == len(content)
    assert list(chunks) == [b"fmt ", b"fact", b"data"]
    assert struct.unpack("<HHIIHHH", chunks[b"fmt "]) == (7, 1, 8000, 8000, 1, 8, 0)
    assert struct.unpack("<I", chunks[b"fact"])[0] == len(chunks[b"data"])
    return len(chunks[b"data"])


def pages_of(content: bytes) -> int:
    """Parse a PDF strictly, its table and the lengths of its streams too, and return its number of pages."""
    assert content.startswith(b"%PDF-1.4\n")
    end = re.search(rb"startxref\n(\d+)\n%%EOF\n\Z", content)
    assert end is not None
    table = content[int(end[1]) :]
    head = re.match(rb"xref\n0 (\d+)\n0000000000 65535 f \n", table)
    assert head is not None
    places = re.findall(rb"(\d{10}) 00000 n \n", table)
    assert len(places) == int(head[1]) - 1
    for number, place in enumerate(places, 1):
        assert content[int(place) :].startswith(b"%d 0 obj\n" % number)
    streams = re.findall(rb"<< /Length (\d+) >>\nstream\n(.*?)\nendstream", content, re.DOTALL)
    assert all(int(length) == len(stream) for length, stream in streams)
    count = re.search(rb"/Count (\d+)", content)
    assert count is not None
    assert int(count[1]) == len(streams) == content.count(b"/Type /Page /Parent")
    return len(streams)


def test_the_order_is_made_to_the_last_row(demonstration: list[Batch]) -> None:
    """There are as many users, messages and calls as were ordered, and a mailbox with a standard greeting a user."""
    counts = {table: len(rows_of(demonstration, table)) for table in ("user", "mailbox", "message", "call_record")}

    assert counts == {"user": 20, "mailbox": 20, "message": 200, "call_record": 2000}
    standard = [row[0] for row in rows_of(demonstration, "greeting") if row[1] == "standard"]
    assert standard == list(range(1000, 1020))


@pytest.mark.parametrize("table", ["user", "mailbox", "greeting", "message", "call_record"])
def test_every_value_is_of_its_kind(demonstration: list[Batch], table: str) -> None:
    """What a repair would take for a fault is in no row."""
    types = table_named(table)
    assert types is not None
    for row in rows_of(demonstration, table):
        assert types.faults((1, *row) if table in IDS else row) == {}


def test_what_a_row_names_is_there_before_it(demonstration: list[Batch]) -> None:
    """Users come before whatever names them, and a batch has the recordings that its rows name, by their hashes."""
    users: set[object] = set()
    for batch in demonstration:
        users |= {row[0] for row in batch.rows.get("user", [])}
        recorded = {recording.name for recording in batch.recordings}
        assert recorded == {hashlib.sha256(recording.content).hexdigest() for recording in batch.recordings}
        for table, user, name in (
            ("mailbox", 0, None),
            ("greeting", 0, 4),
            ("message", 0, 6),
            ("call_record", 3, None),
        ):
            for row in batch.rows.get(table, []):
                assert row[user] in users | {None}
                assert name is None or row[name] in recorded


def test_a_batch_is_a_transaction_of_at_most_a_thousand_rows(demonstration: list[Batch]) -> None:
    """No batch holds sessions up for long: rows and recordings have a bound."""
    for batch in demonstration:
        assert sum(map(len, batch.rows.values())) <= 1000
        assert len(batch.recordings) <= 500


def test_recordings_play(demonstration: list[Batch]) -> None:
    """Each recording is a WAV file of mu-law as long as its row says and not silent, or a PDF; its name is no guess."""
    contents = {recording.name: recording.content for batch in demonstration for recording in batch.recordings}
    for row in rows_of(demonstration, "message"):
        _, kind, _, _, length_ms, _, name, _ = row
        content = contents[str(name)]
        if kind == "fax":
            assert 1 <= pages_of(content) <= 4
        else:
            assert samples_of(content) * 1000 // 8000 == length_ms
            assert len(set(content[58:])) > 50
    for row in rows_of(demonstration, "greeting"):
        assert samples_of(contents[str(row[4])]) * 1000 // 8000 == row[3]


def test_recordings_differ_and_are_small(demonstration: list[Batch]) -> None:
    """No two messages sound the same, and on average they take 3 to 5 seconds."""
    voice = [row for row in rows_of(demonstration, "message") if row[1] == "voice"]

    assert len({row[6] for row in voice}) == len(voice)
    assert 3000 <= sum(int(str(row[4])) for row in voice) / len(voice) <= 5000


def test_the_same_order_gives_the_same_data() -> None:
    """Rows and recordings are the same for the same seed, and others for another seed or other users."""
    order = Order(users=3, messages=10, calls=10)

    assert made(order) == made(order)
    assert made(Order(3, 10, 10, seed=2)) != made(order)
    names = [{each.name for batch in made(order, first=first) for each in batch.recordings} for first in (1000, 1003)]
    assert not names[0] & names[1]


@pytest.mark.parametrize(
    "now", [NOW, datetime(2026, 3, 29, 3, 0, tzinfo=NOW.tzinfo), datetime(2000, 1, 1, 0, 5, tzinfo=UTC)]
)
def test_everything_happened_in_the_last_ninety_days(now: datetime) -> None:
    """No time is in the future, none is before the clock's calendar, and ids follow time."""
    some = made(Order(users=3, messages=60, calls=400), now)
    for table, column in (("message", 2), ("call_record", 0)):
        moments = [datetime.fromisoformat(str(row[column])) for row in rows_of(some, table)]
        assert all(earlier <= later for earlier, later in pairwise(moments))
        assert moments[-1] <= now
        assert now - moments[0] <= timedelta(days=98)
        assert moments[0].year >= 2000


def test_calls_come_in_working_hours(demonstration: list[Batch]) -> None:
    """Four of five calls are made from Monday to Friday between 8 and 18, and some callers call again and again."""
    calls = rows_of(demonstration, "call_record")
    moments = [datetime.fromisoformat(str(row[0])) for row in calls]
    working = sum(moment.weekday() < 5 and 8 <= moment.hour < 18 for moment in moments)
    callers = Counter(row[1] for row in calls)

    assert working / len(calls) > 0.8
    assert callers.most_common(1)[0][1] > 20
    assert all(row[1] != row[2] for row in calls)
    assert {row[4] for row in calls} == {"answered", "busy", "no-answer", "voicemail", "failed"}


def test_some_transcripts_overflow_a_page(demonstration: list[Batch]) -> None:
    """Transcripts reach from a sentence to more than a page of the database holds."""
    lengths = [len(str(row[7]).encode()) for row in rows_of(demonstration, "message")]

    assert min(lengths) < 100
    assert max(lengths) > 4096


def test_numbers_are_those_that_ring_nobody() -> None:
    """Every number has the form of E.164, and names come in letters of several alphabets."""
    chance = random.Random(7)
    people = [make_person(chance) for _ in range(500)]

    assert all(re.fullmatch(r"\+[1-9]\d{7,14}", person.phone) for person in people)
    assert all("55501" in person.phone for person in people if person.phone.startswith("+1"))
    letters = "".join(person.name for person in people)
    assert re.search("[А-я]", letters)
    assert re.search("[α-ω]", letters)
    assert re.search("[一-龠]", letters)


def test_no_call_needs_a_user() -> None:
    """Call records can be had alone, and an order of nothing is nothing."""
    assert {row[3] for row in rows_of(made(Order(0, 0, 5)), "call_record")} == {None}
    assert made(Order(0, 0, 0)) == []


@given(st.binary(max_size=64))
def test_a_wav_file_parses_whatever_its_length(samples: bytes) -> None:
    """Odd and even numbers of samples make a sound file of just them."""
    assert samples_of(make_wav(samples)) == len(samples)


@given(st.lists(st.lists(st.text(max_size=40), max_size=5), min_size=1, max_size=4))
def test_a_pdf_parses_whatever_its_text(pages: list[list[str]]) -> None:
    """Parentheses, backslashes and letters that the font lacks break no PDF."""
    assert b"%%EOF" in make_pdf(pages)
    assert re.search(rb"/Count (\d+)", make_pdf(pages)) is not None


@pytest.mark.parametrize(
    ("sample", "code"), [(0, 0xFF), (-1, 0x7F), (32635, 0x80), (-32635, 0x00), (1000, 0xCE), (-1000, 0x4E)]
)
def test_mu_law_is_that_of_g711(sample: int, code: int) -> None:
    """Samples become the bytes that other coders make of them."""
    assert encode_mulaw(sample) == code
