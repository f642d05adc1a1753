from __future__ import annotations

import pytest

from callisto_telnetd.menus.table import Column, table_lines

COLUMNS = (
    Column("NAME", 12),
    Column("PID", 7, right=True, rank=2),
    Column("SIZE", 10, right=True, rank=1),
    Column("STATE", 7, gap=2),
)
ROWS = (("web-server", "4711", "61.1 MiB", "running"), ("coc-proxy", "-", "0 B", "not set up"))


@pytest.mark.parametrize(
    ("room", "lines"),
    [
        (
            None,
            [
                "NAME             PID       SIZE  STATE",
                "web-server      4711   61.1 MiB  running",
                "coc-proxy          -        0 B  not set up",
            ],
        ),
        (
            80,
            [
                "NAME             PID       SIZE  STATE",
                "web-server      4711   61.1 MiB  running",
                "coc-proxy          -        0 B  not set up",
            ],
        ),
        (
            36,
            [
                "NAME        PID     SIZE  STATE",
                "web-server 4711 61.1 MiB  running",
                "coc-proxy     -      0 B  not set up",
            ],
        ),
        (30, ["NAME        PID  STATE", "web-server 4711  running", "coc-proxy     -  not set up"]),
        (22, ["NAME        STATE", "web-server  running", "coc-proxy   not set up"]),
        (5, ["NAME        STATE", "web-server  running", "coc-proxy   not set up"]),
    ],
)
def test_columns_give_way_to_the_room(room: int | None, lines: list[str]) -> None:
    """Where the usual widths have no room, columns shrink to what they hold, then go whole, the least wanted first."""
    assert table_lines(COLUMNS, ROWS, room) == lines


@pytest.mark.parametrize("room", range(4, 60))
def test_no_cell_is_ever_cut(room: int) -> None:
    """Whatever the room, every cell that is shown is whole."""
    for line, row in zip(table_lines(COLUMNS, ROWS, room)[1:], ROWS, strict=True):
        rest = line
        for cell in row:
            rest = rest.replace(cell, "", 1)
        assert not rest.strip()


def test_a_table_without_rows_is_its_heading() -> None:
    """Nothing to show leaves the titles."""
    assert table_lines(COLUMNS, (), 40) == ["NAME             PID       SIZE  STATE"]
