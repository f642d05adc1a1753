from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.trace.names import MOST_NEW, MOST_OFTEN, Names


def heard(*names: str) -> Names:
    """Return what is known when these have been heard in this order."""
    known = Names()
    for name in names:
        known.hear(name)
    return known


def test_names_heard_once_push_out_none_that_is_heard_often() -> None:
    """However many new names come, those heard a few times stay; of the new ones, the newest."""
    known = heard(*["coc-proxy", "web-server"] * 4, *(str(number) for number in range(10_000)))

    assert known.all()[:2] == ["coc-proxy", "web-server"]
    assert known.all()[2:] == [str(number) for number in range(10_000 - MOST_NEW, 10_000)]


def test_names_heard_a_few_times_push_out_none_that_is_heard_more() -> None:
    """Where too many are heard often, the one heard least goes."""
    known = heard(*["coc-proxy"] * 5, *(str(number) for number in range(5_000) for _ in range(4)))

    assert known.all()[0] == "coc-proxy"
    assert len(known.all()) == MOST_OFTEN
    assert known.all()[-1] == "4999"


def test_a_new_program_is_known_although_all_others_are_heard_more() -> None:
    """A name that comes when all places are taken is among the new ones, and has a place once it is heard as often."""
    busy = [f"busy{number}" for number in range(MOST_OFTEN)]
    known = heard(*busy * 10, *["late"] * 9)
    assert known.all()[-1] == "late"
    for _ in range(7):
        known.hear("late")

    assert "late" in known.all()[:MOST_OFTEN]
    assert len(known.all()) == MOST_OFTEN


@given(st.lists(st.integers(0, 1200), max_size=3000))
def test_the_names_are_bounded_and_each_stands_once(numbers: list[int]) -> None:
    """Whatever is heard, a name is there once, the last one heard among them, and no more than a thousand are."""
    known = heard(*map(str, numbers)).all()

    assert len(set(known)) == len(known) <= MOST_OFTEN + MOST_NEW
    assert not numbers or str(numbers[-1]) in known
