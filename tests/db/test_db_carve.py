from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callisto_telnetd.db.format.carve import FoundRow, Tally, carve
from callisto_telnetd.db.format.forest import Survey, survey
from callisto_telnetd.db.format.layout import OWN
from callisto_telnetd.db.format.page_file import PageFile
from callisto_telnetd.db.format.pages import TABLE_INTERIOR, type_of
from callisto_telnetd.db.format.records import payload_of
from callisto_telnetd.db.tables import TABLES, Table, table_named
from tests.db.filling import make, rows_of

PAGE = OWN.page_bytes


Rows = dict[str, list[tuple[Any, ...]]]


def table(name: str) -> Table:
    """Return a table of the schema."""
    found = table_named(name)
    assert found is not None
    return found


def found_in(file: Path, tally: Tally | None = None) -> list[FoundRow]:
    """Return all rows that are carved from a file."""
    with PageFile(file) as pages:
        return list(carve(pages, tally=tally))


def by_table(found: list[FoundRow]) -> Rows:
    """Return the values of rows by table, in the order in which they came."""
    rows: Rows = {each.name: [] for each in TABLES}
    for row in found:
        rows[row.table.name].append(row.values)
    return rows


class Patient:
    """A database to be damaged page by page."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows = rows_of(file)
        self.content = bytearray(file.read_bytes())
        with PageFile(file) as pages:
            self.survey: Survey = survey(pages)

    def leaves(self, name: str) -> list[int]:
        """Return the pages with rows of a table."""
        tree = self.survey.tree_of(table(name))
        assert tree is not None
        return [leaf.number for leaf in tree.leaves]

    def page(self, number: int) -> bytes:
        """Return a page."""
        return bytes(self.content[(number - 1) * PAGE : number * PAGE])

    def put(self, number: int, page: bytes) -> None:
        """Overwrite a page."""
        self.content[(number - 1) * PAGE : (number - 1) * PAGE + len(page)] = page

    def carve(self, tally: Tally | None = None) -> list[FoundRow]:
        """Return what is carved of the damaged file."""
        self.file.write_bytes(self.content)
        return found_in(self.file, tally)


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    """A filled database."""
    return Patient(make(tmp_path / "callisto.db"))


@pytest.mark.parametrize("vacuumed", [False, True])
@pytest.mark.parametrize("deleted", [False, True])
def test_all_rows_are_found_and_no_other(tmp_path: Path, deleted: bool, vacuumed: bool) -> None:
    """Rows carved are the rows selected, in their order, none damaged; of deleted ones there is none."""
    file = make(tmp_path / "callisto.db", deleted=deleted, vacuumed=vacuumed)
    tally = Tally()
    found = found_in(file, tally)

    assert by_table(found) == rows_of(file)
    assert not any(row.damaged for row in found)
    assert tally == Tally()


def test_all_rows_are_found_without_page_1(patient: Patient) -> None:
    """With page 1 wiped every row is there, and none is called damaged: its page and its tree are whole."""
    patient.put(1, bytes(PAGE))
    found = patient.carve()

    assert by_table(found) == patient.rows
    assert not any(row.damaged for row in found)


def test_all_rows_are_found_without_the_schema_and_the_interior_pages(patient: Patient) -> None:
    """With every page gone that is above the leaves, the rows of tables are still there and come in order."""
    for number in range(1, len(patient.content) // PAGE + 1):
        if number == 1 or type_of(patient.page(number), number) == TABLE_INTERIOR or patient.survey.owner[number] == 1:
            patient.put(number, bytes(PAGE))

    assert by_table(patient.carve()) == patient.rows


def test_no_deleted_row_comes_back_where_page_1_is_wiped(tmp_path: Path) -> None:
    """Without the free list, what it held is zeros: only rows that were there are found."""
    patient = Patient(make(tmp_path / "callisto.db", deleted=True))
    patient.put(1, bytes(PAGE))

    assert by_table(patient.carve()) == patient.rows


@pytest.mark.parametrize(
    ("one", "other"), [("message", "message"), ("message", "call_record"), ("greeting", "account")]
)
def test_swapped_leaves_lose_nothing(patient: Patient, one: str, other: str) -> None:
    """Two leaves in each other's place: all rows are there, in order, and those of the two are marked."""
    first, second = patient.leaves(one)[1], patient.leaves(other)[-2]
    page = patient.page(first)
    patient.put(first, patient.page(second))
    patient.put(second, page)
    found = patient.carve()

    assert by_table(found) == patient.rows
    assert {row.page for row in found if row.damaged} == {first, second}


def test_a_zeroed_leaf_loses_its_own_rows_alone(patient: Patient) -> None:
    """Only what stood on the page is gone, and no other row is marked."""
    number = patient.leaves("message")[3]
    with PageFile(patient.file) as pages:
        gone = {cell[0] for cell in pages.shape(number).cells}
    patient.put(number, bytes(PAGE))
    found = patient.carve()

    assert [row for row in patient.rows["message"] if row[0] not in gone] == by_table(found)["message"]
    assert not any(row.damaged for row in found)


def test_rows_below_a_zeroed_interior_page_are_marked(patient: Patient) -> None:
    """The leaves of a root that is gone are found by themselves; where the tree is lost whole nothing else speaks."""
    tree = patient.survey.tree_of(table("call_record"))
    assert tree is not None
    patient.put(tree.root, bytes(PAGE))
    found = patient.carve()

    assert by_table(found) == patient.rows
    assert any(row.damaged for row in found if row.table.name == "call_record")


def test_a_stale_leaf_gives_way_to_the_page_in_place(patient: Patient) -> None:
    """An old copy of a leaf that hangs nowhere adds no row and replaces none."""
    number = patient.leaves("message")[2]
    stale = bytearray(patient.page(number))
    at = stale.index(b"voice")
    stale[at : at + 5] = b"stale"
    patient.content += stale
    tally = Tally()

    assert by_table(patient.carve(tally)) == patient.rows
    assert tally.twice["message"] > 3


def test_an_overflow_chain_that_loops_loses_one_row(patient: Patient) -> None:
    """A chain that leads into itself, or into another row's, stops nothing and gives no wrong text unmarked."""
    chains: dict[int, tuple[int, ...]] = {}
    with PageFile(patient.file) as pages:
        for number in patient.leaves("message"):
            for cell in pages.shape(number).cells:
                payload = payload_of(pages, pages.page(number), cell, table=True)
                if payload and len(payload.chain) > 2:
                    chains[cell[0]] = payload.chain
    (one, loop), (other, chain), (third, shared) = list(chains.items())[:3]
    patient.put(loop[1], struct.pack(">I", loop[0]))
    patient.put(chain[0], struct.pack(">I", shared[0]))
    found = {row.values[0]: row for row in patient.carve() if row.table.name == "message"}
    sound = {row[0]: row for row in patient.rows["message"]}

    assert one not in found
    assert other not in found or found[other].damaged
    assert found[third].damaged
    assert all(found[key].values == row for key, row in sound.items() if key not in (one, other))


@pytest.mark.parametrize("size", [0, 100, PAGE, 40 * PAGE + 5, 41 * PAGE - 1])
def test_a_file_that_is_cut_short_keeps_what_is_there(patient: Patient, size: int) -> None:
    """Whatever is found of a truncated file was in it, and no row of a whole leaf without overflow is missing."""
    with PageFile(patient.file) as pages:
        kept = {
            (tree.table.name, cell[0])
            for tree in patient.survey.trees
            for leaf in tree.leaves
            if tree.table and tree.table.rowid and leaf.number <= size // PAGE
            for cell in pages.shape(leaf.number).cells
            if not cell[3]
        }
    del patient.content[size:]
    found = patient.carve()

    assert {(row.table.name, row.values[0]) for row in found} >= kept
    for row in found:
        assert row.values in patient.rows[row.table.name]


def _flip(content: bytearray, chance: random.Random) -> None:
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)


def _smear(content: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(content) - 64)
    content[at : at + 64] = chance.randbytes(64)


def _copy(content: bytearray, chance: random.Random) -> None:
    source, target = (PAGE * chance.randrange(len(content) // PAGE) for _ in range(2))
    content[target : target + PAGE] = content[source : source + PAGE]


def _cut(content: bytearray, chance: random.Random) -> None:
    del content[chance.randrange(len(content) // 2, len(content)) :]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small filled database."""
    return make(tmp_path_factory.mktemp("carve") / "callisto.db", users=12, messages=120)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), damages=st.lists(st.sampled_from([_flip, _smear, _copy, _cut]), max_size=20))
def test_any_damage_is_survived(
    small: Path, tmp_path: Path, seed: int, damages: list[Callable[[bytearray, random.Random], None]]
) -> None:
    """Whatever has become of a file, carving ends without an exception, and every key comes once."""
    chance, content = random.Random(seed), bytearray(small.read_bytes())
    for damage in damages:
        damage(content, chance)
    file = tmp_path / "callisto.db"
    file.write_bytes(content)
    found = found_in(file)

    keys = [(row.table.name, row.table.key_of(row.values)) for row in found]
    assert len(keys) == len(set(keys))
    assert all(len(row.values) == len(row.table.columns) for row in found)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=3 * PAGE))
def test_any_bytes_are_a_file(tmp_path: Path, content: bytes) -> None:
    """A file of any bytes is carved to its end."""
    file = tmp_path / "callisto.db"
    file.write_bytes(content)
    found_in(file)


def test_wanted_pages_alone_are_read(patient: Patient) -> None:
    """Only the rows of the pages asked for come, those of no row are passed over."""
    number = patient.leaves("call_record")[2]
    with PageFile(patient.file) as pages:
        found = list(carve(pages, [number, 1, 0, 10**6], patient.survey))

    assert found
    assert {row.page for row in found} == {number}
