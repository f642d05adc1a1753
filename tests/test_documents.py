from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_origin

import pytest
from pydantic import BaseModel

from callisto_telnetd.settings import Settings

OPERATORS = Path(__file__).parents[1] / "docs" / "operators.md"


def setting_keys(model: type[BaseModel] = Settings, path: str = "") -> Iterator[str]:
    """Yield every key of the settings with its tables: ``telnet.tls.port``."""
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        tables = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if tables:
            named = "NAME." if get_origin(field.annotation) is dict else ""
            yield from setting_keys(tables[0], f"{path}{name}.{named}")
        else:
            yield f"{path}{name}"


def test_the_keys_are_found() -> None:
    """The list that the next test asks for is whole: plain keys, nested tables, the owner's variables."""
    assert {"telnet.port", "telnet.tls.certificate", "limits.idle_s", "variables"} <= set(setting_keys())


@pytest.mark.parametrize("key", list(setting_keys()))
def test_the_operators_guide_names_every_setting(key: str) -> None:
    """No setting is left out of docs/operators.md: neither its table nor its key."""
    if not OPERATORS.exists():
        pytest.skip("docs/operators.md is not written yet")
    text = OPERATORS.read_text(encoding="utf-8")
    table, _, name = key.rpartition(".")

    assert name in text
    assert f"`{key}`" in text if table else f"[{name}" in text


def headings(text: str) -> Iterator[tuple[int, str]]:
    """Yield level and title of each heading below the page's own, code left out."""
    for line in re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE).splitlines():
        if match := re.fullmatch(r"(##+) (.+)", line):
            yield len(match[1]), match[2]


def test_the_operators_guide_has_a_table_of_contents() -> None:
    """Every heading stands in the list at the top, in its place, and leads to where it is."""
    text = OPERATORS.read_text(encoding="utf-8")
    listed = re.findall(r"^( *)- \[(.+)\]\(#(.+)\)$", text.partition("\n## ")[0], re.MULTILINE)

    assert [(2 + len(indent) // 2, title) for indent, title, _ in listed] == list(headings(text))
    for _, title, anchor in listed:
        assert anchor == re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
