"""What is shown of system variables and of their changes, to people as lines and to programs as data."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any

from callisto_telnetd.clock import format_moment
from callisto_telnetd.errors import UsageError
from callisto_telnetd.menus.answers import Fact
from callisto_telnetd.menus.arguments import parse_whole
from callisto_telnetd.menus.context import Context
from callisto_telnetd.quantities import format_duration
from callisto_telnetd.variables import Change, RestartPlan, Variable

BLANK = '""'
"""How a blank value is typed, and shown at a question."""


def find_variable(context: Context, word: str) -> Variable:
    """Return the variable of a name, or of its number in the menu.

    Raises:
        UsageError: there is none; names one that is written much the same, or the range of numbers.
    """
    variables = context.parts.variables
    if not word.isdigit():
        return variables.find(word)
    return variables.variables[parse_whole(word, "number", 1, len(variables.variables)) - 1]


@lru_cache(maxsize=1024)
def data_of(variable: Variable, text: str) -> int | str | None:
    """Return a value as programs have it: numbers as numbers, None for a blank; a text that is none, as it is."""
    try:
        value = variable.parse(text)
    except UsageError:
        return text
    return value if isinstance(value, int | str | None) else variable.format(value)


def value_line(context: Context, variable: Variable) -> str:
    """Return ``NAME = VALUE``, with a star where that is not the default."""
    variables = context.parts.variables
    mark = "" if variables.is_default(variable.name) else " *"
    return f"{variable.name} = {variables.text(variable.name)}".rstrip() + mark


def row(context: Context, variable: Variable) -> Fact:
    """Return a variable in one line."""
    variables = context.parts.variables
    data = {
        "name": variable.name,
        "value": data_of(variable, variables.text(variable.name)),
        "default": data_of(variable, variables.default_text(variable.name)),
        "changed": not variables.is_default(variable.name),
    }
    return Fact(data, (value_line(context, variable),))


def description(context: Context, variable: Variable) -> Fact:
    """Return all that is known of a variable."""
    variables = context.parts.variables
    value, change = variables.value(variable.name), variables.last_change(variable.name)
    sheet, lines = _sheet(variable, variables.text(variable.name), variables.default_text(variable.name))
    data = {**sheet, "last_change": change_data(context, change) if change else None}
    if isinstance(value, RestartPlan):
        run = _next_run(context, variable.name, value)
        data["next_run_at"] = run.isoformat() if run else None
        lines = (*lines, f"Next run: {format_moment(run) if run else 'none'}")
    return Fact(data, (*lines, f"Last change: {change_line(context, change) if change else 'none'}"))


def _next_run(context: Context, name: str, plan: RestartPlan) -> datetime | None:
    """Return the next run as the schedule has it: a day that has had its run gets no second one."""
    try:
        return context.parts.schedule.next_of(name)
    except LookupError:  # an own plan that no job follows
        return plan.next_run(context.parts.clock.now())


def _with_meaning(text: str, meaning: str) -> str:
    """Return a value and what it means, which is often the same with a unit: that is said once."""
    if meaning == text or meaning.startswith(f"{text} "):
        return meaning
    return f"{text or 'blank'} ({meaning})"


@lru_cache(maxsize=1024)
def _sheet(variable: Variable, text: str, default: str) -> tuple[dict[str, object], tuple[str, ...]]:
    """Return what is said of a variable that has that value whenever it has it, as data and as lines."""
    meanings, meaning = variable.kind.meanings(), variable.explain(variable.parse(text))
    data: dict[str, object] = {
        "name": variable.name,
        "value": data_of(variable, text),
        "meaning": meaning,
        "default": data_of(variable, default),
        "help": variable.help,
        "allowed": variable.kind.allowed,
        "values": [{"allowed": allowed, "meaning": meaning} for allowed, meaning in meanings],
        "unit": getattr(variable.kind, "unit", "") or None,
        "editions": list(variable.editions),
        "reconstructed": list(variable.reconstructed),
    }
    reconstructed = (
        [f"Not from the manufacturer's document: {', '.join(variable.reconstructed)}"] if variable.reconstructed else []
    )
    unit = [f"Unit: {data['unit']}"] if data["unit"] else []
    return data, (
        f"Name: {variable.name}",
        f"Now: {_with_meaning(text, meaning)}",
        f"Default: {default or 'blank'}",
        f"Does: {variable.help}",
        f"Editions: {', '.join(variable.editions)}",
        *unit,
        f"Allowed: {variable.kind.allowed}",
        *(f"  {allowed or 'blank'}: {meaning}" for allowed, meaning in meanings),
        *reconstructed,
    )


def change_data(context: Context, change: Change) -> dict[str, Any]:
    """Return a change as programs have it: its values, with the default of today where one was the default."""
    old, new = (_stored_data(context, change.name, text) for text in (change.old, change.new))
    return {
        "number": change.id,
        "at": change.at,
        "name": change.name,
        "old": old,
        "new": new,
        "who": change.who,
        "door": change.door,
        "source": change.source,
        "note": change.note,
        "undoes": change.undoes,
    }


def _stored_data(context: Context, name: str, stored: str | None) -> int | str | None:
    variables = context.parts.variables
    for variable in variables.variables:
        if variable.name == name:
            return data_of(variable, variables.shown(name, stored))
    return stored


def change_line(context: Context, change: Change) -> str:
    """Return a change in one line: what, who, from where, why."""
    old, new = (_stored_text(context, change.name, text) for text in (change.old, change.new))
    undoes = f" undoes {change.undoes}" if change.undoes is not None else ""
    note = f" note={change.note}" if change.note else ""
    when = context.parts.clock.format_stamp(change.at)
    who = f"by {change.who} from {change.source} ({change.door})"
    return f"{change.id}: {when} {change.name} = {new} (was {old}) {who}{undoes}{note}"


def _stored_text(context: Context, name: str, stored: str | None) -> str:
    variables = context.parts.variables
    if stored is not None:
        return stored or "blank"
    known = {variable.name for variable in variables.variables}
    return f"{variables.default_text(name) or 'blank'}, the default" if name in known else "the default"


def outcome_of(context: Context, change: Change) -> str:
    """Return what a change has made of its variable, and what it was before."""
    variables = context.parts.variables
    old = variables.shown(change.name, change.old)
    return f"{change.name} = {variables.text(change.name) or 'blank'} (was {old or 'blank'})"


def age_of(context: Context, change: Change) -> str:
    """Return how long ago a change was, on the appliance's clock."""
    age_s = context.parts.clock.time() - datetime.fromisoformat(change.at).timestamp()
    return f"{format_duration(age_s)} ago" if age_s >= 0 else f"at {context.parts.clock.format_stamp(change.at)}"
