from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from callisto_telnetd.db.check import check_foreign_keys, check_integrity, count_rows
from callisto_telnetd.db.store import Store, open_store
from callisto_telnetd.errors import DamagedDatabaseError

PAGE = 4096
Look = Callable[..., list[tuple[Any, ...]]]
CHANGE = (
    "INSERT INTO variable_change (id, batch, at, name, new, who, door, source, undoes)"
    " VALUES (?, 1, 'now', ?, '30', 'ada', 'telnet', '192.0.2.7', ?)"
)


@pytest.fixture
async def grown(file: Path) -> Path:
    """A database of many pages, closed."""
    async with open_store(file) as store:
        await store.apply([(CHANGE, (number, f"gVariable{number:04}" * 5, None)) for number in range(1, 801)])
    return file


def root_page(look: Look, name: str) -> int:
    """Return the number of the first page of a table or an index."""
    ((page,),) = look(f"SELECT rootpage FROM sqlite_schema WHERE name = '{name}'")
    return int(page)


async def test_a_sound_database_has_no_faults(grown: Path) -> None:
    """A database that nobody damaged is sound in every respect."""
    async with open_store(grown) as store:
        assert await check_integrity(store) == []
        assert await check_foreign_keys(store) == []


async def test_flipped_bytes_of_an_index_are_found(grown: Path) -> None:
    """Keys of an index that were changed behind the database's back are reported, though every page can be read."""
    text = b"gVariable0400" * 5
    data = bytearray(grown.read_bytes())
    while True:  # the leaf of the index: the page that has the key and belongs to no row
        at = data.find(text)
        assert at >= 0
        if data[at // PAGE * PAGE] in {0x0A, 0x02}:
            break
        data[at : at + 1] = b"\0"
    damaged = bytearray(grown.read_bytes())
    damaged[at : at + 4] = b"zzzz"
    grown.write_bytes(damaged)

    async with open_store(grown) as store:
        faults = await check_integrity(store)
        assert await check_foreign_keys(store) == []
    assert any("variable_change_name" in fault for fault in faults), faults


@pytest.mark.parametrize("table", ["variable_change", "audit", "variable_change_name"])
async def test_a_damaged_page_is_found(grown: Path, look: Look, table: str) -> None:
    """A page in the middle of a table or an index whose bytes were flipped is reported."""
    damaged = bytearray(grown.read_bytes())
    begin = (root_page(look, table) - 1) * PAGE
    damaged[begin + 8 : begin + 200] = bytes(byte ^ 0xFF for byte in damaged[begin + 8 : begin + 200])
    grown.write_bytes(damaged)

    async with open_store(grown) as store:
        faults = await check_integrity(store)
    assert 0 < len(faults) <= 20
    assert faults != ["ok"]


async def test_a_file_that_was_cut_off_is_found(grown: Path) -> None:
    """A database whose end is missing is told to be damaged, when it is opened or when it is read."""
    data = grown.read_bytes()
    grown.write_bytes(data[: len(data) // 2 // PAGE * PAGE])

    with pytest.raises(DamagedDatabaseError):
        async with open_store(grown) as store:
            await count_rows(store)


async def test_a_reference_to_a_missing_row_is_found(grown: Path, look: Look) -> None:
    """What integrity_check does not see, a change that undoes one that is not there, is named."""
    look("PRAGMA foreign_keys = OFF", CHANGE.replace("?", "900", 1).replace("?", "'g'", 1).replace("?", "12345", 1))

    async with open_store(grown) as store:
        assert await check_integrity(store) == []
        assert await check_foreign_keys(store) == ["variable_change row 900 names a missing row of variable_change"]


async def test_the_faults_named_are_bounded(grown: Path, look: Look) -> None:
    """Of hundreds of broken references twenty are named."""
    look("PRAGMA foreign_keys = OFF", "UPDATE variable_change SET undoes = 99999")

    async with open_store(grown) as store:
        assert len(await check_foreign_keys(store)) == 20


async def test_a_file_of_broken_references_costs_no_memory(store: Store, look: Look) -> None:
    """Of 20,000 broken references no more are fetched than are told."""
    look(
        "PRAGMA foreign_keys = OFF",
        "INSERT INTO variable_change WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
        " SELECT i, 1, 'now', 'g', NULL, '30', 'ada', 'telnet', '192.0.2.7', '', 99999 FROM n",
    )
    tracemalloc.start()
    try:
        faults = await check_foreign_keys(store)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(faults) == 20
    assert peak_bytes < 256 << 10


async def test_rows_are_counted_by_table(store: Store) -> None:
    """Every table of the schema is counted, the database's own left out."""
    await store.apply([("INSERT INTO user (name) VALUES ('a'), ('b')", ()), (CHANGE, (1, "g", None))])

    assert {each.table: each.rows for each in await count_rows(store)} == {
        "account": 0,
        "audit": 1,
        "call_record": 0,
        "greeting": 0,
        "mailbox": 0,
        "message": 0,
        "quarantine": 0,
        "state": 0,
        "user": 2,
        "variable": 0,
        "variable_change": 1,
    }
