"""Rules of the house that no linter has: what a slip against them does shows only when somebody is cancelled."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.conftest import ROOT


def slips(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield what a module does against the rules, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFor) and isinstance(node.iter, ast.Call):
            yield node.lineno, "'async for' over a generator that no 'aclosing' closes"
        if isinstance(node, ast.comprehension) and node.is_async and isinstance(node.iter, ast.Call):
            yield node.iter.lineno, "'async for' over a generator that no 'aclosing' closes"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "shield":
            kept = isinstance(node.args[0], ast.Name | ast.Attribute | ast.Subscript)
            if not kept:  # asyncio keeps a weak reference alone: a change may be collected in its midst
                yield node.lineno, "a shield around a task that nobody keeps"


def test_no_module_leaves_work_without_an_owner() -> None:
    """Generators are closed by the block that opened them, and what is shielded is kept."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in sorted((ROOT / "callisto_telnetd").rglob("*.py"))
        if any(word in (source := path.read_text()) for word in ("async for", "shield"))
        for line, text in slips(ast.parse(source))
    ]
    assert found == []
