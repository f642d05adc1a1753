from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.db.format.forest import survey
from callisto_telnetd.db.format.layout import OWN
from callisto_telnetd.db.format.page_file import PageFile
from callisto_telnetd.db.format.pages import TABLE_LEAF, examine, varint
from callisto_telnetd.db.format.records import decode, payload_of
from callisto_telnetd.db.tables import TABLES, table_named
from callisto_telnetd.errors import StoreError
from tests.db.filling import make

PAGE = OWN.page_bytes


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filled database of some 160 pages, with overflow and a free list."""
    return make(tmp_path_factory.mktemp("pages") / "callisto.db", deleted=True)


@pytest.mark.parametrize(
    ("data", "value"),
    [(b"\x00", 0), (b"\x7f", 127), (b"\x81\x00", 128), (b"\xff" * 9, -1), (b"\x81" + b"\x80" * 7 + b"\x00", 1 << 57)],
)
def test_a_varint_is_read(data: bytes, value: int) -> None:
    """Seven bits a byte, the ninth byte whole, and a sign."""
    assert varint(data + b"\xff", 0)[0] == value if len(data) == 9 else varint(data, 0) == (value, len(data))


def test_every_page_of_a_sound_file_is_sound(filled: Path) -> None:
    """The structural test finds no fault in a page that SQLite has written, deleted rows or not."""
    with PageFile(filled) as pages:
        looked = survey(pages)
        trees = [number for number in range(1, pages.count + 1) if looked.owner[number]]
        shapes = [pages.shape(number) for number in trees]

    assert [(shape.number, shape.faults) for shape in shapes if shape.faults] == []
    assert not any(shape.lost for shape in shapes)


def test_the_survey_finds_what_sqlite_knows(filled: Path) -> None:
    """Each page is in one tree, on the free list, or in an overflow chain; roots and counts are SQLite's own."""
    with PageFile(filled) as pages:
        looked = survey(pages)
        chained = _overflow_pages(pages)
        everything = set(range(1, pages.count + 1))
    with closing(sqlite3.connect(filled)) as connection:
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_schema WHERE rootpage > 0"))
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    hanging = {number for number in everything if looked.owner[number]}

    assert {tree.name: tree.root for tree in looked.trees[1:]} == roots
    assert len(looked.free) == free > 0
    assert hanging | looked.free | chained == everything
    assert len(hanging) + len(looked.free) + len(chained) == len(everything)
    assert (looked.schema_fault, looked.free_fault, looked.faults, looked.doubly) == ("", "", {}, set())


def _overflow_pages(pages: PageFile) -> set[int]:
    chained: set[int] = set()
    for number in range(1, pages.count + 1):
        shape = pages.shape(number)
        for cell in shape.cells:
            payload = payload_of(pages, pages.page(number), cell, table=shape.type == TABLE_LEAF)
            chained.update(payload.chain if payload and cell[3] else ())
    return chained


def test_leaves_come_in_order_with_the_range_of_their_row_ids(filled: Path) -> None:
    """The ranges of a table's leaves follow one another without a gap, and hold what is on the leaf."""
    with PageFile(filled) as pages:
        looked = survey(pages)
        message = table_named("message")
        assert message is not None
        tree = looked.tree_of(message)
        assert tree is not None
        assert len(tree.leaves) > 20
        for leaf, following in zip(tree.leaves, [*tree.leaves[1:], None], strict=True):
            keys = [cell[0] for cell in pages.shape(leaf.number).cells]
            assert leaf.low <= min(keys) <= max(keys) <= leaf.high
            assert following is None or following.low == leaf.high + 1


@pytest.mark.parametrize("part", ["page 1", "the schema"])
def test_trees_are_found_without_their_roots(tmp_path: Path, part: str) -> None:
    """With page 1 wiped, or but for the file's header, every table's tree is found by its pages."""
    file = make(tmp_path / "callisto.db")
    with PageFile(file) as pages:
        whole = survey(pages)
    content = bytearray(file.read_bytes())
    begin = 0 if part == "page 1" else 100
    content[begin:PAGE] = bytes(PAGE - begin)
    file.write_bytes(content)
    with PageFile(file) as pages:
        looked = survey(pages)

    assert looked.schema_fault
    for table in TABLES:
        before, after = whole.tree_of(table), looked.tree_of(table)
        assert before is not None
        assert after is not None
        assert (after.root, after.leaves) == (before.root, before.leaves)


@pytest.mark.parametrize(
    ("at", "value", "fault"),
    [
        (3, b"\xff\xff", "more cells"),
        (5, b"\0\x01", "begins outside"),
        (8, b"\0\x02", "cells that cannot be read"),
        (8, b"\x0f\xfe", "cells that cannot be read"),
        (1, b"\0\x03", "freeblock"),
        (7, b"\x55", "does not add up"),
    ],
)
def test_a_damaged_header_or_pointer_is_noticed(filled: Path, at: int, value: bytes, fault: str) -> None:
    """A wrong number in the header of a page, or in a pointer, makes the page unsound, and says why."""
    with PageFile(filled) as pages:
        looked = survey(pages)
        call_record = table_named("call_record")
        assert call_record is not None
        tree = looked.tree_of(call_record)
        assert tree is not None
        page = bytearray(pages.page(tree.leaves[1].number))
    sound = len(examine(bytes(page), 2, pages.count).cells)
    page[at : at + len(value)] = value
    shape = examine(bytes(page), 2, pages.count)

    assert any(fault in each for each in shape.faults), shape.faults
    assert sound - 1 <= len(shape.cells) or at == 3


def test_a_free_list_that_loops_ends(filled: Path, tmp_path: Path) -> None:
    """A trunk that leads to itself is noticed once."""
    content = bytearray(filled.read_bytes())
    (trunk,) = struct.unpack_from(">I", content, 32)
    struct.pack_into(">I", content, (trunk - 1) * PAGE, trunk)
    file = tmp_path / "callisto.db"
    file.write_bytes(content)
    with PageFile(file) as pages:
        assert "on it" in survey(pages).free_fault


def test_a_file_that_is_cut_short_has_a_last_page(filled: Path, tmp_path: Path) -> None:
    """What is missing of the last page is zeros, and the page is unsound."""
    file = tmp_path / "callisto.db"
    file.write_bytes(filled.read_bytes()[: 10 * PAGE + 100])
    with PageFile(file) as pages:
        assert pages.count == 11
        assert len(pages.page(11)) == PAGE
        assert pages.page(99) == bytes(PAGE)
        assert not pages.is_whole(11)
        assert "cut short" in pages.shape(11).faults[0]


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The system's reason is told as our error."""
    with pytest.raises(StoreError, match="No such file"):
        PageFile(tmp_path / "callisto.db")


@given(size=st.integers(0, 1 << 22), table=st.booleans())
def test_what_stays_on_a_page_fits_on_it(size: int, table: bool) -> None:
    """The local part of a payload is never larger than the payload, nor than a page."""
    assert 0 <= OWN.local_bytes(size, table=table) <= min(size, PAGE - 35)


@given(page=st.binary(max_size=200), type=st.sampled_from([2, 5, 10, 13]), head=st.binary(min_size=11, max_size=11))
def test_any_page_is_examined(page: bytes, type: int, head: bytes) -> None:
    """Whatever bytes a page has, its cells lie on it, and no exception comes."""
    whole = (bytes([type]) + head + page * 40).ljust(PAGE, b"\x05")[:PAGE]
    for number in (1, 2):
        for _, size, at, chain in examine(whole, number, 1000).cells:
            assert 0 <= at <= PAGE
            assert chain or at + size <= PAGE or size > 1000


@given(data=st.binary(max_size=200))
def test_any_record_is_decoded_or_none(data: bytes) -> None:
    """Whatever bytes a record has, there are values or none."""
    values = decode(data, 0, len(data))

    assert values is None or len(values) <= 100
