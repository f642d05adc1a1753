# ruff: noqa: RUF001 - these names are written with letters that look like others
"""Names and telephone numbers for demonstration.

No number rings anybody: all are of the ranges that numbering authorities keep for films and examples (NANPA 555-01XX,
Ofcom's "telephone numbers for drama use", Arcep, Bundesnetzagentur, PTS, ACMA, ComReg).
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class People:
    """Names of one language; those that have the family's name first say so."""

    language: str
    given: tuple[str, ...]
    family: tuple[str, ...]
    family_first: bool = False


PEOPLE = (
    People("en", ("Amelia", "Oliver", "Niamh", "George", "Siobhán", "Zoë"), ("Smith", "O’Neill", "Taylor", "Hughes")),
    People("de", ("Jürg", "Anna", "Käthe", "Sönke", "Björn", "Ursina"), ("Müller", "Zürcher", "Weiß", "Großmann")),
    People("fr", ("Chloé", "Benoît", "Zélie", "François", "Maëlle"), ("Lefèvre", "Dubois", "Châtelain", "Noël")),
    People("sv", ("Åsa", "Örjan", "Linnéa", "Gösta", "Märta"), ("Ström", "Sjöberg", "Åkesson", "Lindqvist")),
    People("pl", ("Łukasz", "Małgorzata", "Zbigniew", "Jadwiga"), ("Wiśniewski", "Wójcik", "Dąbrowska", "Żak")),
    People("cs", ("Jiří", "Věra", "Ondřej", "Zdeňka"), ("Dvořák", "Růžička", "Šťastná", "Černý")),
    People("tr", ("Çağla", "İbrahim", "Şule", "Uğur"), ("Yılmaz", "Öztürk", "Çelik", "Kılıç")),
    People("el", ("Ελένη", "Γιώργος", "Δήμητρα", "Νίκος"), ("Παπαδοπούλου", "Γεωργίου", "Νικολάου")),
    People("uk", ("Олена", "Тарас", "Юлія", "Богдан"), ("Шевченко", "Коваль", "Бондаренко")),
    People("es", ("Íñigo", "Begoña", "José", "Lucía"), ("Muñoz", "García", "Ibáñez", "Núñez")),
    People("hu", ("Zsófia", "Győző", "Ágnes", "László"), ("Szőke", "Kovács", "Németh"), family_first=True),
    People("vi", ("Thị Hương", "Văn Đức", "Quốc Việt"), ("Nguyễn", "Trần", "Phạm"), family_first=True),
    People("ja", ("陽菜", "蓮", "さくら", "健一"), ("佐藤", "鈴木", "高橋"), family_first=True),
)

_RANGES = (
    *((f"+1{area}55501", 2) for area in (202, 212, 312, 415, 617)),
    ("+442079460", 3),
    ("+441614960", 3),
    ("+3319900", 4),
    ("+3363998", 4),
    ("+493023125", 3),
    ("+494066969", 3),
    ("+496990009", 3),
    ("+498999998", 3),
    ("+468465004", 2),
    ("+463139006", 2),
    ("+6125550", 4),
    ("+6135550", 4),
    ("+3532091", 5),
)
"""A beginning in the form of E.164, and how many digits follow it."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody: name, language and number in the form of E.164."""

    name: str
    language: str
    phone: str


def make_person(chance: random.Random) -> Person:
    """Return somebody."""
    people = chance.choice(PEOPLE)
    names = (chance.choice(people.given), chance.choice(people.family))
    begin, digits = chance.choice(_RANGES)
    return Person(
        " ".join(reversed(names) if people.family_first else names),
        people.language,
        f"{begin}{chance.randrange(10**digits):0{digits}}",
    )
