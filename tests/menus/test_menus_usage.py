from __future__ import annotations

import pytest

from callisto_telnetd.menus.usage import read_usage


@pytest.mark.parametrize(
    ("usage", "before", "open_words"),
    [
        ("", "", []),
        ("NAME", "", []),
        ("[note=TEXT] [yes]", "", ["note=", "yes"]),
        ("[note=TEXT] [yes]", "note=why", ["yes"]),
        ("[note=TEXT] [yes]", "--note why", ["yes"]),
        ("[note=TEXT] [yes]", "YES", []),
        ("NAME VALUE [note=TEXT]", "gWebTimeout", []),
        ("NAME VALUE [note=TEXT]", "gWebTimeout 30", ["note="]),
        ("[a=N [b=N]]", "", ["a=", "b="]),
        ("[a=N [b=N]]", "A=1", ["b="]),
        ("[format=text|jsonl]", "", ["format=text", "format=jsonl"]),
        ("[backup=NEWEST|NAME]", "", ["backup="]),
        ("NAME plan=PLAN target=URL [target-password | key=FILE]", "", []),
        (
            "NAME plan=PLAN target=URL [target-password | key=FILE]",
            "n",
            ["plan=", "target=", "key=", "target-password"],
        ),
        ("NAME plan=PLAN [password]", "n plan=x password", []),
        ("on|off", "", []),
        ("FILE|all", "x", []),
    ],
)
def test_which_words_may_follow(usage: str, before: str, open_words: list[str]) -> None:
    """Options and flags may follow once the words with a place are there; each once, and nothing behind ``yes``."""
    assert list(read_usage(usage).open_words(before.split())) == open_words


@pytest.mark.parametrize(
    ("usage", "before", "rest"),
    [
        ("NAME VALUE [note=TEXT]", "", "NAME VALUE [note=TEXT]"),
        ("NAME VALUE [note=TEXT]", "gWebTimeout", "VALUE [note=TEXT]"),
        ("NAME VALUE [note=TEXT]", "gWebTimeout 30 more", "[note=TEXT]"),
        ("[PROCESS,…] [rotate=10M [keep=10]]", "a", "[PROCESS,…] [rotate=10M [keep=10]]"),
        ("NAME", "x", ""),
        ("", "x", ""),
    ],
)
def test_what_is_still_to_come(usage: str, before: str, rest: str) -> None:
    """The words with a place that are there are left out; what stands in brackets is one."""
    assert read_usage(usage).rest(before.split()) == rest
