"""System Variables: list, show, set, reset, history, undo, export and import."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import lru_cache

from callisto_telnetd.clock import Clock, format_moment
from callisto_telnetd.errors import UsageError
from callisto_telnetd.menus.answers import Answer, Done, Fact, Line
from callisto_telnetd.menus.arguments import parse_whole, require_count, take_options, take_yes
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.tree import Command, Menu
from callisto_telnetd.quantities import counted
from callisto_telnetd.variables import Change, RestartPlan, Variable

_BLANK = '""'
"""How a blank value is typed, and shown at a question."""
_MOST_HISTORY = 1000
_MOST_IMPORT_LINES = 2000


def _find(context: Context, word: str) -> Variable:
    """Return the variable of a name, or of its number in the menu.

    Raises:
        UsageError: there is none; names one that is written much the same, or the range of numbers.
    """
    variables = context.parts.variables
    if not word.isdigit():
        return variables.find(word)
    return variables.variables[parse_whole(word, "number", 1, len(variables.variables)) - 1]


def _value_line(context: Context, variable: Variable) -> str:
    variables = context.parts.variables
    mark = "" if variables.is_default(variable.name) else " *"
    return f"{variable.name} = {variables.text(variable.name)}".rstrip() + mark


def _row(context: Context, variable: Variable) -> Fact:
    variables = context.parts.variables
    data = {
        "name": variable.name,
        "value": variables.text(variable.name),
        "default": variables.default_text(variable.name),
        "changed": not variables.is_default(variable.name),
    }
    return Fact(data, (_value_line(context, variable),))


async def list_variables(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield a row a variable, or those whose names match a pattern."""
    require_count(words, 0, 1, "list [PATTERN]")
    chosen = context.parts.variables.select(words[0]) if words else context.parts.variables.variables
    for variable in chosen:
        yield _row(context, variable)
    yield Done(counted(len(chosen), "variable"))


async def list_differing(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the variables that differ from their defaults."""
    require_count(words, 0, 0, "diff")
    differing = context.parts.variables.differing()
    for variable in differing:
        default = context.parts.variables.default_text(variable.name)
        row = _row(context, variable)
        yield Fact(row.data, (f"{row.lines[0]} (default {default or 'blank'})",))
    yield Done(f"{counted(len(differing), 'variable')} not at the default")


async def show_variable(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield all that is known of one variable."""
    require_count(words, 1, 1, "show NAME")
    variable = _find(context, words[0])
    yield _description(context, variable)
    yield Done(_value_line(context, variable).removesuffix(" *"))


def _description(context: Context, variable: Variable) -> Fact:
    variables = context.parts.variables
    text, value = variables.text(variable.name), variables.value(variable.name)
    default, meaning = variables.default_text(variable.name), variable.explain(value)
    change = variables.last_change(variable.name)
    fixed, fixed_lines = _sheet(variable)
    data: dict[str, object] = {
        "name": variable.name,
        "value": text,
        "meaning": meaning,
        "default": default,
        **fixed,
        "last_change": _change_data(change) if change else None,
    }
    lines = [
        f"Name: {variable.name}",
        f"Now: {text or 'blank'} ({meaning})",
        f"Default: {default or 'blank'}",
        *fixed_lines,
    ]
    if isinstance(value, RestartPlan):
        run = _next_run(context, variable.name, value)
        data["next_run"] = run.isoformat() if run else None
        lines.append(f"Next run: {format_moment(run) if run else 'none'}")
    lines.append(f"Last change: {_change_line(change, context.parts.clock) if change else 'none'}")
    return Fact(data, tuple(lines))


def _next_run(context: Context, name: str, plan: RestartPlan) -> datetime | None:
    """Return the next run as the schedule has it: a day that has had its run gets no second one."""
    try:
        return context.parts.schedule.next_of(name)
    except LookupError:  # an own plan that no job follows
        return plan.next_run(context.parts.clock.now())


@lru_cache(maxsize=1024)
def _sheet(variable: Variable) -> tuple[dict[str, object], tuple[str, ...]]:
    """Return what is always said of a variable, as data and as lines."""
    meanings = variable.kind.meanings()
    data: dict[str, object] = {
        "help": variable.help,
        "allowed": variable.kind.allowed,
        "values": {allowed or '""': meaning for allowed, meaning in meanings},
        "unit": getattr(variable.kind, "unit", "") or "",
        "editions": list(variable.editions),
        "reconstructed": list(variable.reconstructed),
    }
    reconstructed = [f"Reconstructed: {', '.join(variable.reconstructed)}"] if variable.reconstructed else []
    unit = [f"Unit: {data['unit']}"] if data["unit"] else []
    return data, (
        f"Does: {variable.help}",
        f"Editions: {', '.join(variable.editions)}",
        *unit,
        f"Allowed: {variable.kind.allowed}",
        *(f"  {allowed or 'blank'}: {meaning}" for allowed, meaning in meanings),
        *reconstructed,
    )


def _change_data(change: Change) -> dict[str, object]:
    return {
        "number": change.id,
        "at": change.at,
        "name": change.name,
        "old": change.old,
        "new": change.new,
        "who": change.who,
        "door": change.door,
        "source": change.source,
        "note": change.note,
        "undoes": change.undoes,
    }


def _change_line(change: Change, clock: Clock) -> str:
    old, new = ("default" if text is None else text or "blank" for text in (change.old, change.new))
    undoes = f" undoes {change.undoes}" if change.undoes is not None else ""
    note = f" note={change.note}" if change.note else ""
    when = clock.format_stamp(change.at)
    who = f"by {change.who} from {change.source} ({change.door})"
    return f"{change.id}: {when} {change.name} = {new} (was {old}) {who}{undoes}{note}"


def _outcome(context: Context, change: Change) -> str:
    variables = context.parts.variables
    old = variables.shown(change.name, change.old)
    return f"{change.name} = {variables.text(change.name) or 'blank'} (was {old or 'blank'})"


async def set_variable(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Set a variable; durable before the last line."""
    plain, options = take_options(words, {"note"})
    if plain and "=" in plain[0]:
        name, _, value = plain[0].partition("=")
        plain = [name, *([value] if value else []), *plain[1:]]
    elif plain[1:2] == ["="]:
        del plain[1]
    require_count(plain, 2, 16, 'set NAME VALUE [note=TEXT]; VALUE "" is blank')
    variable = _find(context, plain[0])
    text = " ".join(plain[1:])
    note = options.get("note", "")
    change = await context.parts.variables.assign(variable.name, text, by=context.origin, note=note)
    for answer in _answers(context, variable, change):
        yield answer


def _answers(context: Context, variable: Variable, change: Change | None) -> tuple[Answer, Answer]:
    """Return what a command ends with that has changed a variable, or has found nothing to change."""
    variables = context.parts.variables
    now = variables.text(variable.name)
    was = now if change is None else variables.shown(change.name, change.old)
    fact = Fact({"name": variable.name, "value": now, "was": was, "number": change.id if change else None}, ())
    if change is None:
        return fact, Done(f"{variable.name} = {now or 'blank'} (unchanged)")
    return fact, Done(_outcome(context, change))


async def reset_variable(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Give a variable its default again."""
    plain, options = take_options(words, {"note"})
    require_count(plain, 1, 1, "reset NAME [note=TEXT]")
    variable = _find(context, plain[0])
    change = await context.parts.variables.reset(variable.name, by=context.origin, note=options.get("note", ""))
    for answer in _answers(context, variable, change):
        yield answer


async def pick_variable(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Show the variable of a number and ask for its new value; a value behind the number is set at once."""
    if len(words) > 1:
        async with aclosing(set_variable(context, words)) as outcomes:
            async for outcome in outcomes:
                yield outcome
        return
    variable = _find(context, words[0])
    yield _description(context, variable)
    now = context.parts.variables.text(variable.name)
    answer = await context.dialogue.ask(
        f"New value [{now or _BLANK}]: ", default="", choices=variable.kind.completions()
    )
    answer = answer.strip()
    if not answer:
        yield Done(f"{variable.name} = {now or 'blank'} (unchanged)")
    else:
        text = "" if answer in {_BLANK, "''"} else answer
        change = await context.parts.variables.assign(variable.name, text, by=context.origin)
        for outcome in _answers(context, variable, change):
            yield outcome


async def show_history(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the last changes of one variable or of all, the newest last."""
    plain, options = take_options(words, {"limit"})
    require_count(plain, 0, 1, "history [NAME] [limit=NUMBER]")
    limit = parse_whole(options.get("limit", "50"), "limit", 1, _MOST_HISTORY)
    name = _find(context, plain[0]).name if plain else None
    changes = await context.parts.variables.history(name, limit)
    for change in changes:
        yield Fact(_change_data(change), (_change_line(change, context.parts.clock),))
    yield Done(counted(len(changes), "change"))


async def undo_change(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Put back what the last change, or the change of an ID, replaced."""
    require_count(words, 0, 1, "undo [ID]")
    number = parse_whole(words[0], "ID", 1, 10**15) if words else None
    changes = await context.parts.variables.undo(number, by=context.origin)
    if len(changes) == 1:
        undone = f", undoes change {changes[0].undoes}" if changes[0].undoes is not None else ""
        yield Fact(_change_data(changes[0]), ())
        yield Done(_outcome(context, changes[0]) + undone)
        return
    for change in changes:
        yield Fact(_change_data(change), (_outcome(context, change),))
    if changes:
        yield Done(f"{counted(len(changes), 'variable')} put back")
    else:
        yield Done("nothing to put back; the value is there already")


async def export_variables(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield every variable in the form that import takes."""
    require_count(words, 0, 0, "export")
    text = context.parts.variables.export()
    values = {
        variable.name: context.parts.variables.text(variable.name) for variable in context.parts.variables.variables
    }
    yield Fact(values, tuple(text.splitlines()))
    yield Done(f"{counted(len(values), 'variable')} exported")


async def import_variables(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Take an export: all or nothing, and first shown as a diff."""
    words, confirmed = take_yes(words)  # before note= takes it for its own
    plain, options = take_options(words, {"note"})
    require_count(plain, 0, 0, "import [note=TEXT] [yes]")
    if context.input is not None:
        text = context.input
    else:
        yield Line("Type or paste the lines of an export; end with a line that holds a single dot.")
        text = await _ask_lines(context)
    differences = context.parts.variables.differences(text)
    for each in differences:
        data = {"name": each.name, "now": each.now, "then": each.then}
        yield Fact(data, (f"{each.name} = {each.then or 'blank'} (now {each.now or 'blank'})",))
    if not differences:
        yield Done("nothing to change")
        return
    await context.confirm(f"Change {counted(len(differences), 'variable')}", confirmed=confirmed)
    changes = await context.parts.variables.apply_import(differences, by=context.origin, note=options.get("note", ""))
    yield Done(f"{counted(len(changes), 'variable')} imported")


async def _ask_lines(context: Context) -> str:
    lines: list[str] = []
    while (line := await context.dialogue.ask("")) != ".":
        lines.append(line)
        if len(lines) > _MOST_IMPORT_LINES:
            raise UsageError(f"an import has at most {_MOST_IMPORT_LINES} lines; nothing was changed")
    return "\n".join(lines)


def _complete_name(context: Context, words: Sequence[str]) -> Sequence[str]:
    return () if words else [variable.name for variable in context.parts.variables.variables]


def _complete_value(context: Context, words: Sequence[str]) -> Sequence[str]:
    if len(words) != 1:
        return _complete_name(context, words)
    try:
        variable = _find(context, words[0])
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
    lines = [
        f"{number:>3}  {_value_line(context, variable)}"
        for number, variable in enumerate(context.parts.variables.variables, 1)
    ]
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
            help="change a variable; it takes effect at once",
            run=set_variable,
            facts="one",
            details=(
                'VALUE "" is blank. A restart plan is 9,02:00 or sun,wed 02:00.',
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
            usage="[ID]",
            help="put back what the last change, or the change of that ID, replaced",
            run=undo_change,
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
