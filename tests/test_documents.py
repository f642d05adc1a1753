from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_origin

import pytest
from pydantic import BaseModel

from callisto_telnetd.accounts.penalties import MOST_TRIES, WINDOW_S
from callisto_telnetd.settings import Settings
from callisto_telnetd.variables import CATALOGUE, Variable
from callisto_telnetd.variables.kinds import Choice, Whole
from callisto_telnetd.variables.variable import EDITIONS
from callisto_telnetd.web.protocol import ANSWER_S, MAX_REQUEST_BYTES, REQUEST_S

OPERATORS = Path(__file__).parents[1] / "docs" / "operators.md"
SECURITY = OPERATORS.parents[1] / "SECURITY.md"


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


def test_the_security_page_promises_what_the_settings_hold() -> None:
    """Each setting that it names is one, and each figure beside the name is the default."""
    text = " ".join(SECURITY.read_text(encoding="utf-8").split())
    named = set(re.findall(r"`((?:limits|trace|telnet|services)\.[a-z_.-]+)`", text))
    known = {key.replace("NAME", "web-server") for key in setting_keys()} | {"telnet.tls"}
    limits, trace = Settings().limits, Settings().trace

    assert named <= known
    for promise in (
        f"{limits.sessions} sessions in all (`limits.sessions`)",
        f"{limits.sessions_per_source} an address (`limits.sessions_per_source`)",
        f"{limits.pending} not yet logged in (`limits.pending`)",
        f"{limits.login_s} s whatever the client sends (`limits.login_s`)",
        f"{limits.idle_s} s without input (`limits.idle_s`)",
        f"(`trace.held_bytes`, {trace.held_bytes >> 20} MiB)",
        f"(`trace.budget`, {trace.budget >> 20} MiB)",
        f"(`trace.files`, {trace.files:,})",
        f"(`trace.free`, {trace.free >> 20} MiB)",
        f"at most {MOST_TRIES} failures in {WINDOW_S / 60:.0f} minutes",
        f"request {MAX_REQUEST_BYTES >> 10} KiB; {REQUEST_S:.0f} s for a request, {ANSWER_S:.0f} s for an answer",
    ):
        assert promise in text


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


def variable_row(variable: Variable) -> str:
    """Return a variable's row of the table in docs/operators.md."""
    kind = variable.kind
    values = "; ".join(f"{allowed}: {meaning}" for allowed, meaning in kind.meanings())
    allowed = f"{kind.minimum} to {kind.maximum}" if isinstance(kind, Whole) else kind.allowed
    if isinstance(kind, Choice):
        allowed = values
    elif isinstance(kind, Whole) and kind.zero is not None:
        allowed = f"{allowed}; 0: {kind.zero}"
    others = [f"{edition}: {default}" for edition, default in variable.defaults_by_edition.items()]
    default = ", ".join([str(variable.default) or "blank", *others])
    editions = "all" if variable.editions == EDITIONS else ", ".join(variable.editions)
    unit = getattr(kind, "unit", "") or "none"
    return f"| `{variable.name}` | {variable.help} | {unit} | {allowed} | {default} | {editions} |"


@pytest.mark.parametrize("variable", CATALOGUE, ids=lambda variable: variable.name)
def test_the_operators_guide_has_every_variable(variable: Variable) -> None:
    """The table of the variables says of each what the catalogue says: meaning, unit, range, default, edition."""
    assert variable_row(variable) in OPERATORS.read_text(encoding="utf-8").splitlines()
