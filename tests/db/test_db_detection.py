"""How a file is cut into pages: by its header where the pages agree, else by most of its pages."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.db.copying import copy_file
from callisto_telnetd.db.format.detection import detect
from callisto_telnetd.db.format.layout import ENCODINGS, PAGE_SIZES, Layout
from callisto_telnetd.db.format.page_file import PageFile
from callisto_telnetd.db.format.pages import examine
from callisto_telnetd.db.salvage.stitch import stitch
from callisto_telnetd.db.salvage.survey import Leaf
from tests.db.forms import FORMS, Form
from tests.db.plausible import Plausible, make_schema

NAMES = dict(zip(("UTF-8", "UTF-16le", "UTF-16be"), ENCODINGS, strict=True))


def expected(form: Form) -> Layout:
    """Return the layout of a form."""
    return Layout(form.page_bytes, form.reserved_bytes, NAMES[form.encoding], bool(form.auto_vacuum))


def layout_of(file: Path) -> Layout:
    """Return the layout that is found."""
    with PageFile(file) as pages:
        return pages.layout


@pytest.mark.parametrize("name", FORMS)
def test_the_layout_is_found_with_and_without_a_header(tmp_path: Path, name: str) -> None:
    """Each form is told by its header; by its pages where that is wiped; and by them where it says another size."""
    file, form = tmp_path / "callisto.db", FORMS[name]
    Plausible(3, 0.2).fill(file, form=form)
    sound = file.read_bytes()
    wiped = bytes(100) + sound[100:]
    other = 1024 if form.page_bytes == 4096 else 4096
    lying = sound[:16] + other.to_bytes(2, "big") + b"\1\1\7" + sound[21:52] + bytes(4) + b"\0\0\0\1" + sound[60:]
    found = []
    for content in (sound, wiped, lying):
        file.write_bytes(content)
        found.append(layout_of(file))

    assert found == [expected(form)] * 3


@pytest.mark.parametrize("content", [b"", b"x" * 99, bytes(100_000), b"SQLite format 3\0" * 4000])
def test_what_has_no_pages_is_taken_for_ours(tmp_path: Path, content: bytes) -> None:
    """Where nothing tells, the pages are as ours are, and nothing is raised."""
    file = tmp_path / "callisto.db"
    file.write_bytes(content)

    assert layout_of(file) == Layout()


def test_pages_that_are_set_apart() -> None:
    """The page of byte 2^30, and pointer maps, at each page size (SQLite's own arithmetic); they read as zeros."""
    for page_bytes in PAGE_SIZES:
        layout = Layout(page_bytes, auto_vacuum=True)
        every = page_bytes // 5 + 1
        maps = [number for number in range(1, 4 * every + 3) if layout.is_pointer_map(number)]
        assert layout.lock_page == (1 << 30) // page_bytes + 1
        assert layout.is_set_apart(layout.lock_page)
        assert maps == [2, 2 + every, 2 + 2 * every, 2 + 3 * every, 2 + 4 * every]
    moved = Layout(512, reserved_bytes=17, auto_vacuum=True)  # a map that would be the lock page is the next one
    every = moved.usable_bytes // 5 + 1
    assert (moved.lock_page - 2) % every or moved.is_pointer_map(moved.lock_page + 1)


def test_trees_go_on_behind_the_lock_page(tmp_path: Path) -> None:
    """Pages that are put behind 1 GiB pass the lock page over, so that SQLite reads them; holes stay holes."""
    source, target = tmp_path / "callisto.db", tmp_path / "old.db"
    form = Form(65536)
    with closing(make_schema(source, form)) as connection:
        connection.execute("INSERT INTO user VALUES (5, 'x', '')")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'user'").fetchone()
    layout = layout_of(source)
    with source.open("r+b") as opened:
        opened.truncate((layout.lock_page - 1) * layout.page_bytes)
    stitch(source, target, {"user": [Leaf(5, 5, root, 1)]}, layout)
    with closing(sqlite3.connect(f"{target.as_uri()}?immutable=1", uri=True)) as connection:
        assert connection.execute("SELECT * FROM user").fetchall() == [(5, "x", "")]
        assert connection.execute("SELECT * FROM audit").fetchall() == []
        (last,) = connection.execute("SELECT max(rootpage) FROM sqlite_schema").fetchone()

    assert last > layout.lock_page
    assert target.stat().st_blocks * 512 < 64 << 20


def test_a_copy_is_the_same_to_the_byte(tmp_path: Path) -> None:
    """Content, holes and the length of a file are copied; what was in the target is gone."""
    source, target = tmp_path / "a", tmp_path / "b"
    with source.open("wb") as opened:
        opened.write(b"begin")
        opened.seek(3 << 20)
        opened.write(b"middle")
        opened.truncate((5 << 20) + 7)
    target.write_bytes(b"z" * (6 << 20))
    copy_file(source, target)

    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode & 0o777 in {0o600, 0o644}
    assert target.stat().st_blocks < source.stat().st_size // 512


PIECES = st.sampled_from([b"SQLite format 3\0", b"\x0d\0\0\0\0", b"\x05\0\0\0\x01", bytes(64), b"\xff" * 9])


@given(pieces=st.lists(PIECES | st.binary(max_size=600), max_size=20))
def test_any_bytes_have_a_layout(pieces: list[bytes]) -> None:
    """Whatever a file holds, some layout is found, its numbers are those of the format, and nothing is raised."""
    content = b"".join(pieces)
    descriptor = os.memfd_create("pages")
    try:
        os.write(descriptor, content)
        layout = detect(descriptor, len(content))
    finally:
        os.close(descriptor)

    assert layout.page_bytes in PAGE_SIZES
    assert layout.usable_bytes >= 480
    assert layout.encoding in ENCODINGS


@given(
    data=st.data(),
    layout=st.builds(Layout, st.sampled_from(PAGE_SIZES), st.integers(0, 32)),
    type=st.sampled_from([2, 5, 10, 13]),
)
def test_any_page_of_any_size_is_examined(data: st.DataObject, layout: Layout, type: int) -> None:
    """Whatever bytes a page has, its cells lie on it, and no exception comes."""
    page = bytes([type]) + data.draw(st.binary(min_size=11, max_size=300)) * 300
    whole = page.ljust(layout.page_bytes, b"\x05")[: layout.page_bytes]
    for number in (1, 2):
        for _, size, at, chain in examine(whole, number, 1000, layout).cells:
            assert 0 <= at <= layout.usable_bytes
            assert chain or at + size <= layout.usable_bytes or size > layout.most_index
