"""Changing system variables: set, reset, the question of a picked number, undo, import.

Whatever is answered after a wait is judged again when the answer comes: somebody else may have changed it meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from callisto_telnetd.errors import InvalidValueError, StaleValueError, UnknownChangeError, UsageError, listed
from callisto_telnetd.menus.answers import Answer, Done, Fact, Line
from callisto_telnetd.menus.arguments import parse_whole, require_count, take_options, take_yes
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.variable_facts import (
    BLANK,
    age_of,
    change_data,
    data_of,
    description,
    find_variable,
    outcome_of,
)
from callisto_telnetd.quantities import counted
from callisto_telnetd.variables import Change, Variable

_MOST_IMPORT_LINES = 2000
_MOST_NAMED = 5


async def set_variable(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Set a variable; durable before the last line."""
    plain, options = take_options(words, {"note"})
    if plain and "=" in plain[0]:
        name, _, value = plain[0].partition("=")
        plain = [name, *([value] if value else []), *plain[1:]]
    elif plain[1:2] == ["="]:
        del plain[1]
    require_count(plain, 2, 16, 'set NAME VALUE [note=TEXT]; VALUE "" is blank')
    variable = find_variable(context, plain[0])
    text = " ".join(plain[1:])
    note = options.get("note", "")
    change = await context.parts.variables.assign(variable.name, text, by=context.origin, note=note)
    for answer in _answers(context, variable, change):
        yield answer


def _answers(context: Context, variable: Variable, change: Change | None) -> tuple[Answer, Answer]:
    """Return what a command ends with that has changed a variable, or has found nothing to change."""
    variables = context.parts.variables
    now = variables.text(variable.name)
    old = now if change is None else variables.shown(change.name, change.old)
    data = {
        "name": variable.name,
        "value": data_of(variable, now),
        "old": data_of(variable, old),
        "number": change.id if change else None,
    }
    if change is None:
        return Fact(data, ()), Done(f"{variable.name} = {now or 'blank'} (unchanged)")
    return Fact(data, ()), Done(outcome_of(context, change) + _due(context, variable))


def _due(context: Context, variable: Variable) -> str:
    """Say where a change waits for the restart of a service; all others take effect at once."""
    due = [view.name for view in context.parts.supervisor.views() if variable.name in view.restart_due]
    return f"; {listed(due, 'and')} takes it at its next start" if due else ""


async def reset_variable(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Give a variable its default again."""
    plain, options = take_options(words, {"note"})
    require_count(plain, 1, 1, "reset NAME [note=TEXT]")
    variable = find_variable(context, plain[0])
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
    variable = find_variable(context, words[0])
    yield description(context, variable)
    if _takes_blank(variable):
        yield Line(f"Enter keeps the value, {BLANK} blanks it.")
    while True:
        shown = context.parts.variables.text(variable.name)
        answer = await context.dialogue.ask(
            f"New value [{shown or BLANK}]: ", default="", choices=variable.kind.completions()
        )
        try:
            outcomes_of_answer = await _take_answer(context, variable, shown, answer.strip())
        except InvalidValueError as error:
            if context.dialogue.redrawable is None:  # a script gets its one error; a person is asked again
                raise
            yield Line(f"{error}.")
            continue
        for outcome in outcomes_of_answer:
            yield outcome
        return


def _takes_blank(variable: Variable) -> bool:
    try:
        return variable.canonical("") == ""
    except InvalidValueError:
        return False


async def _take_answer(context: Context, variable: Variable, shown: str, answer: str) -> tuple[Answer, ...]:
    """Set what was answered; where the value is no longer the one that was shown, say who has changed it, and ask."""
    variables = context.parts.variables
    if not answer:
        now = variables.text(variable.name)
        told = "unchanged" if now == shown else f"kept; {_who_changed(context, variable)}"
        return (Done(f"{variable.name} = {now or 'blank'} ({told})"),)
    text = variable.canonical("" if answer in {BLANK, "''"} else answer)
    while True:
        now = variables.text(variable.name)
        if now != shown:
            changed = (
                f"{variable.name} was changed to {now or 'blank'} by {_who_changed(context, variable, short=True)}"
            )
            await context.confirm(f"{changed}; set {text or 'blank'} all the same", confirmed=False)
            shown = now
        try:
            change = await variables.assign(variable.name, text, by=context.origin, expected=shown)
        except StaleValueError:
            continue
        return _answers(context, variable, change)


def _who_changed(context: Context, variable: Variable, *, short: bool = False) -> str:
    change = context.parts.variables.last_change(variable.name)
    if change is None:  # a restore or a repair has put another value there
        return "the appliance itself"
    who = f"{change.who} {age_of(context, change)}"
    return who if short else f"changed by {who}"


async def undo_change(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Put back what one's own last change, or the change of an ID, replaced; another's is named and asked for."""
    plain, confirmed = take_yes(words)
    require_count(plain, 0, 1, "undo [ID] [yes]")
    number = parse_whole(plain[0], "ID", 1, 10**15) if plain else None
    changes = await _undo(context, number, confirmed=confirmed)
    for change in changes:
        yield Fact(change_data(context, change), (outcome_of(context, change),) if len(changes) > 1 else ())
    if not changes:
        yield Done("nothing to put back; the value is there already")
    elif len(changes) == 1:
        undone = f", undoes change {changes[0].undoes}" if changes[0].undoes is not None else ""
        yield Done(outcome_of(context, changes[0]) + undone)
    else:
        yield Done(f"{counted(len(changes), 'variable')} put back: {_names(changes)}")


async def _undo(context: Context, number: int | None, *, confirmed: bool) -> list[Change]:
    """Undo what is chosen; where somebody was faster and nobody was asked, choose again."""
    variables = context.parts.variables
    while True:
        if number is not None:
            chosen = [await variables.change(number)]
        else:
            chosen = await variables.undoable(context.origin.who) or await variables.undoable()
        if not chosen:
            raise UnknownChangeError("there is no change to undo")
        shown = {change.name: variables.stored(change.name) for change in chosen}
        if question := _doubt(context, chosen):
            await context.confirm(question, confirmed=confirmed)
        try:
            return await variables.put_back(chosen, by=context.origin, shown=shown)
        except StaleValueError:
            if question:
                raise


def _doubt(context: Context, chosen: Sequence[Change]) -> str:
    """Return what is asked before changes are undone that are another's, or that another has built on; else blank."""
    who, first = context.origin.who, chosen[0]
    if first.who != who:
        what = f"change {first.id} is" if len(chosen) == 1 else f"changes {first.id} and on ({_names(chosen)}) are"
        note = f' ("{first.note}")' if first.note else ""
        return f"{what} {first.who}'s, {age_of(context, first)}{note}; undo {'it' if len(chosen) == 1 else 'them'}"
    known = {variable.name for variable in context.parts.variables.variables}
    for change in chosen:
        last = context.parts.variables.last_change(change.name) if change.name in known else None
        if last is not None and last.id > change.id and last.who != who:
            now = context.parts.variables.text(change.name)
            return (
                f"{change.name} was changed to {now or 'blank'} by {last.who} {age_of(context, last)};"
                f" undo change {change.id} all the same"
            )
    return ""


def _names(changes: Sequence[Change]) -> str:
    names = [change.name for change in changes]
    more = [f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
    return listed(names[:_MOST_NAMED] + more, "and")


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
        variable = context.parts.variables.find(each.name)
        data = {"name": each.name, "now": data_of(variable, each.now), "then": data_of(variable, each.then)}
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
