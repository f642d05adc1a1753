"""System Variables: list, show, history, export, and the menu; what changes them is in ``variable_changes.py``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from textwrap import shorten

from callisto_telnetd.errors import UsageError
from callisto_telnetd.menus.answers import Answer, Done, Fact
from callisto_telnetd.menus.arguments import parse_whole, require_count, take_options
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.table import columns_of
from callisto_telnetd.menus.tree import Command, Menu
from callisto_telnetd.menus.variable_changes import (
    import_variables,
    pick_variable,
    reset_variable,
    set_variable,
    undo_change,
)
from callisto_telnetd.menus.variable_facts import (
    change_data,
    change_line,
    data_of,
    description,
    find_variable,
    row,
    value_line,
)
from callisto_telnetd.quantities import counted

_MOST_HISTORY = 1000
_GAP = 3
_LEAST_HELP = 24
"""Columns below which what a variable does is left out of the list."""


async def list_variables(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield a row a variable, or those whose names match a pattern."""
    require_count(words, 0, 1, "list [PATTERN]")
    chosen = context.parts.variables.select(words[0]) if words else context.parts.variables.variables
    for variable in chosen:
        yield row(context, variable)
    yield Done(counted(len(chosen), "variable"))


async def list_differing(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the variables that differ from their defaults."""
    require_count(words, 0, 0, "diff")
    differing = context.parts.variables.differing()
    for variable in differing:
        default = context.parts.variables.default_text(variable.name)
        shown = row(context, variable)
        yield Fact(shown.data, (f"{shown.lines[0]} (default {default or 'blank'})",))
    yield Done(f"{counted(len(differing), 'variable')} not at the default")


async def show_variable(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield all that is known of one variable."""
    require_count(words, 1, 1, "show NAME")
    variable = find_variable(context, words[0])
    yield description(context, variable)
    yield Done(value_line(context, variable).removesuffix(" *"))


async def show_history(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the last changes of one variable or of all, the newest last."""
    plain, options = take_options(words, {"limit"})
    require_count(plain, 0, 1, "history [NAME] [limit=NUMBER]")
    limit = parse_whole(options.get("limit", "50"), "limit", 1, _MOST_HISTORY)
    name = find_variable(context, plain[0]).name if plain else None
    changes = await context.parts.variables.history(name, limit)
    for change in changes:
        yield Fact(change_data(context, change), (change_line(context, change),))
    yield Done(counted(len(changes), "change"))


async def export_variables(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield every variable in the form that import takes."""
    require_count(words, 0, 0, "export")
    text = context.parts.variables.export()
    variables = context.parts.variables
    values = {each.name: data_of(each, variables.text(each.name)) for each in variables.variables}
    yield Fact(values, tuple(text.splitlines()))
    yield Done(f"{counted(len(values), 'variable')} exported")


def _complete_name(context: Context, words: Sequence[str]) -> Sequence[str]:
    return () if words else [variable.name for variable in context.parts.variables.variables]


def _complete_value(context: Context, words: Sequence[str]) -> Sequence[str]:
    if len(words) != 1:
        return _complete_name(context, words)
    try:
        variable = find_variable(context, words[0])
    except UsageError:
        return ()
    present = context.parts.variables.text(variable.name)
    return (*variable.kind.completions(), *((_as_word(present),) if present else ()))


def _as_word(value: str) -> str:
    """Return a value as it is typed: one with blanks in quotes, which it holds only one kind of, or none."""
    if not any(mark in value for mark in " \"'"):
        return value
    return f"'{value}'" if '"' in value else f'"{value}"'


def _numbered(context: Context) -> Sequence[str]:
    """Return a line a variable; on a terminal that a person looks at, with what it does, as far as there is room."""
    variables = context.parts.variables.variables
    lines = [f"{number:>3}  {value_line(context, variable)}" for number, variable in enumerate(variables, 1)]
    width = max(map(len, lines), default=0)
    if (room := (columns_of(context) or 0) - width - _GAP) >= _LEAST_HELP:
        helps = [shorten(variable.help, room, placeholder=" …") for variable in variables]
        lines = [f"{line:<{width}}{' ' * _GAP}{text}" for line, text in zip(lines, helps, strict=True)]
    return ["System Variables", *lines, "  0  Back", "A number picks a variable; 'help' lists the commands."]


PICK = Command(
    word="NUMBER",
    help="show the variable of a number and ask for its value",
    run=pick_variable,
    facts="one",
    changes=True,
)

VARIABLES_MENU = Menu(
    word="variables",
    number="3",
    title="System Variables",
    help="show and change system variables",
    show=_numbered,
    pick=PICK,
    entries=(
        Command(
            word="list",
            usage="[PATTERN]",
            help="list the variables; * marks those that differ from the default",
            run=list_variables,
            facts="many",
            details=("PATTERN is a part of a name, or holds * and ?.",),
            complete=_complete_name,
        ),
        Command(
            word="diff", help="list the variables that differ from their defaults", run=list_differing, facts="many"
        ),
        Command(
            word="show",
            usage="NAME",
            help="explain a variable: values, default, last change",
            run=show_variable,
            complete=_complete_name,
            facts="one",
        ),
        Command(
            word="set",
            usage="NAME VALUE [note=TEXT]",
            help="change a variable; it takes effect at once, or the answer names the service to restart",
            run=set_variable,
            facts="one",
            details=(
                'VALUE "" is blank. A restart plan is 9,02:00 or sun,wed 02:00. The number of the menu does for NAME.',
                "gCocProxyMemory takes effect at the next start of coc-proxy: 'services restart coc-proxy'.",
                "Every change is kept with who, when, from where and the note; 'undo' puts it back.",
            ),
            complete=_complete_value,
            changes=True,
        ),
        Command(
            word="reset",
            usage="NAME [note=TEXT]",
            help="give a variable its default again",
            run=reset_variable,
            facts="one",
            complete=_complete_name,
            changes=True,
        ),
        Command(
            word="history",
            usage="[NAME] [limit=NUMBER]",
            help="list the changes, the newest last",
            run=show_history,
            facts="many",
            complete=_complete_name,
        ),
        Command(
            word="undo",
            usage="[ID] [yes]",
            help="put back what your last change, or the change of that ID, replaced",
            run=undo_change,
            details=("A change of somebody else's is named, and asked for; 'yes' as the last word does not ask.",),
            facts="many",
            changes=True,
        ),
        Command(
            word="export",
            help="print every variable in the form that import takes",
            run=export_variables,
            facts="one",
            document=True,
        ),
        Command(
            word="import",
            usage="[note=TEXT] [yes]",
            help="take the lines of an export: all or nothing, after a diff",
            details=("At the command line: variables import FILE|- [note=TEXT] [yes]",),
            run=import_variables,
            facts="many",
            changes=True,
        ),
    ),
)
