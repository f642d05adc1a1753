"""Seeded damages of a database file, each told in words, with the pages that it touches."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PAGE = 4096


@dataclass(slots=True)
class Damage:
    """A file that is being damaged."""

    data: bytearray
    chance: random.Random
    pages: set[int] = field(default_factory=set)
    """The pages that are not what they were."""
    words: list[str] = field(default_factory=list)
    journal: bytes | None = None
    page_bytes: int = PAGE

    @property
    def count(self) -> int:
        """How many pages the file has."""
        return len(self.data) // self.page_bytes

    def place(self, page: int) -> slice:
        """Return where a page stands in the file."""
        return slice((page - 1) * self.page_bytes, page * self.page_bytes)

    def some_page(self) -> int:
        """Return a page, never the first."""
        return self.chance.randint(2, max(2, self.count))

    def touch(self, *pages: int) -> None:
        """Note pages as damaged."""
        self.pages.update(pages)


def flip_bits(damage: Damage) -> None:
    """Flip a few bits anywhere."""
    for _ in range(damage.chance.randint(1, 12)):
        at = damage.chance.randrange(len(damage.data))
        damage.data[at] ^= 1 << damage.chance.randrange(8)
        damage.touch(at // damage.page_bytes + 1)


def zero_pages(damage: Damage) -> None:
    """Zero up to four pages that lie side by side."""
    first = damage.some_page()
    for page in range(first, min(first + damage.chance.randint(1, 4), damage.count + 1)):
        damage.data[damage.place(page)] = bytes(damage.page_bytes)
        damage.touch(page)


def fill_page(damage: Damage) -> None:
    """Put noise over a part of a page."""
    page = damage.some_page()
    size = damage.chance.randint(16, damage.page_bytes)
    at = damage.place(page).start + damage.chance.randint(0, damage.page_bytes - size)
    damage.data[at : at + size] = damage.chance.randbytes(size)
    damage.touch(page)


def swap_pages(damage: Damage) -> None:
    """Let two pages change places."""
    one, other = damage.some_page(), damage.some_page()
    first, second = damage.place(one), damage.place(other)
    damage.data[first], damage.data[second] = damage.data[second], damage.data[first]
    if one != other:
        damage.touch(one, other)


def repeat_page(damage: Damage) -> None:
    """Put a copy of one page in the place of another: a write that went astray."""
    one, other = damage.some_page(), damage.some_page()
    damage.data[damage.place(one)] = damage.data[damage.place(other)]
    if one != other:
        damage.touch(one, other)


def truncate(damage: Damage) -> None:
    """Cut the file off anywhere behind its first page."""
    before = damage.count
    size = damage.chance.randint(damage.page_bytes, len(damage.data) - 1)
    del damage.data[size:]
    damage.touch(*range(size // damage.page_bytes + 1, before + 1))


def wipe_first_page(damage: Damage) -> None:
    """Zero page 1."""
    damage.data[damage.place(1)] = bytes(damage.page_bytes)
    damage.touch(1)


def wipe_schema(damage: Damage) -> None:
    """Zero page 1 but for its header."""
    damage.data[100 : damage.page_bytes] = bytes(damage.page_bytes - 100)
    damage.touch(1)


def spoil_header(damage: Damage) -> None:
    """Put noise over a part of the header."""
    at = damage.chance.randrange(0, 96)
    damage.data[at : at + 4] = damage.chance.randbytes(4)
    damage.touch(1)


def loop_free_list(damage: Damage) -> None:
    """Let the free list lead to a page that is in use, or to itself."""
    trunk = int.from_bytes(damage.data[32:36], "big")
    target = damage.some_page()
    if 1 < trunk <= damage.count and damage.chance.random() < 0.5:
        start = damage.place(trunk).start
        damage.data[start : start + 4] = trunk.to_bytes(4, "big")
        damage.touch(trunk)
    else:
        damage.data[32:36] = target.to_bytes(4, "big")
    damage.touch(1)


def loop_overflow(damage: Damage) -> None:
    """Let an overflow page lead to itself, or to any other page."""
    chains = [
        page
        for page in range(2, damage.count + 1)
        if damage.data[(start := damage.place(page).start)] == 0 and any(damage.data[start : start + 4])
    ]
    if not chains:
        return
    page = damage.chance.choice(chains)
    target = page if damage.chance.random() < 0.5 else damage.some_page()
    start = damage.place(page).start
    damage.data[start : start + 4] = target.to_bytes(4, "big")
    damage.touch(page)


def add_foreign_journal(damage: Damage) -> None:
    """Lay the hot journal of another database beside the file."""
    damage.journal = journal_of(
        [(1, bytes(damage.page_bytes)), (2, damage.chance.randbytes(damage.page_bytes))],
        damage.count,
        damage.page_bytes,
    )


def add_stale_journal(damage: Damage) -> None:
    """Lay a hot journal of long ago beside the file: its first page has an older counter, its pages other rows."""
    first = bytearray(damage.data[damage.place(1)])
    first[24:28] = (1).to_bytes(4, "big")
    other = damage.some_page()
    images = [(1, bytes(first)), (other, damage.chance.randbytes(damage.page_bytes))]
    damage.journal = journal_of(images, damage.count, damage.page_bytes)


def journal_of(images: list[tuple[int, bytes]], count: int, page_bytes: int = PAGE) -> bytes:
    """Return a well-formed hot journal (SQLite, "Database File Format", section 3)."""
    nonce, sector = 7, 512
    magic = bytes.fromhex("d9d505f920a163d7")
    parts = [magic + b"".join(each.to_bytes(4, "big") for each in (len(images), nonce, count, sector, page_bytes))]
    parts[0] = parts[0].ljust(sector, b"\0")
    for number, image in images:
        checksum = (nonce + sum(image[at] for at in range(page_bytes - 200, 0, -200))) & 0xFFFFFFFF
        parts.append(number.to_bytes(4, "big") + image + checksum.to_bytes(4, "big"))
    return b"".join(parts)


KINDS: tuple[Callable[[Damage], None], ...] = (
    flip_bits,
    zero_pages,
    fill_page,
    swap_pages,
    repeat_page,
    truncate,
    wipe_first_page,
    wipe_schema,
    spoil_header,
    loop_free_list,
    loop_overflow,
    add_foreign_journal,
    add_stale_journal,
)
COMBINED = (
    flip_bits,
    zero_pages,
    fill_page,
    swap_pages,
    loop_overflow,
    wipe_first_page,
    wipe_schema,
    add_stale_journal,
)


def damage_file(file: Path, seed: int, page_bytes: int = PAGE) -> Damage:
    """Damage a database as the seed says: one kind in two of three, else two or three kinds together."""
    chance = random.Random(seed)
    damage = Damage(bytearray(file.read_bytes()), chance, page_bytes=page_bytes)
    kinds = [KINDS[seed % len(KINDS)]] if seed % 3 else chance.sample(COMBINED, chance.randint(2, 3))
    for kind in kinds:
        kind(damage)
        damage.words.append(kind.__name__)
    file.write_bytes(damage.data)
    if damage.journal is not None:
        file.with_name(file.name + "-journal").write_bytes(damage.journal)
    return damage
