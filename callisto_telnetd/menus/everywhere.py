"""The commands that work in every menu: help, who is on, what was typed, notices, the way up and out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing

from callisto_telnetd.clock import format_moment
from callisto_telnetd.errors import UsageError
from callisto_telnetd.menus.answers import Answer, Done, Fact, Line, Move
from callisto_telnetd.menus.arguments import parse_whole, parse_words, require_count
from callisto_telnetd.menus.context import Context
from callisto_telnetd.menus.presence import present_now
from callisto_telnetd.menus.resolver import find_entry
from callisto_telnetd.menus.table import columns_of
from callisto_telnetd.menus.tree import Command, Entry, Menu, Run
from callisto_telnetd.quantities import counted

_USAGE_WIDTH = 34
_HIGHEST_NUMBER = 10**15
_SHORT_USAGE = 16
"""On a screen of 80 columns that leaves most of a line to what a command does."""


def menu_lines(context: Context, menu: Menu) -> list[str]:
    """Return what is shown where a menu is entered: its own lines, or its numbered entries and where the others are."""
    if menu.show is not None:
        return list(menu.show(context))
    if numbered := _numbered(menu):
        return [menu.title, *numbered, "Type 'help' for all commands."]
    return [menu.title, *_worded(menu.entries)]


def _numbered(menu: Menu) -> list[str]:
    return [f"  {entry.number}  {entry.title}" for entry in menu.entries if entry.number]


def _worded(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield each entry's words and what they do, in columns; long words have a line of their own."""
    for entry in entries:
        usage = _usage(entry)
        if len(usage) > _USAGE_WIDTH:
            yield f"  {usage}"
            usage = ""
        yield f"  {usage:<{_USAGE_WIDTH}} {entry.help}"


async def show_help(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Show the menu and its words, or explain one word."""
    menu = context.menu
    if columns_of(context) is not None:
        lines, done = _help_on_screen(context, words)
    else:
        lines, done = help_lines(menu, context.main, words, menu.show(context) if menu.show else None)
    for line in lines:
        yield Line(line)
    yield Done(done)


def help_lines(
    menu: Menu, main: Menu, words: Sequence[str], shown: Sequence[str] | None = None
) -> tuple[list[str], str]:
    """Return the lines of ``help`` in a menu, and what the last one says is done.

    Args:
        menu: Whose words are understood.
        main: The main menu.
        words: What is to be explained; none of them: the menu.
        shown: The menu's own lines, where it has such.

    Raises:
        UsageError: there is no such word.
    """
    if words:
        entry = find_entry(menu, EVERYWHERE, words, main)
        return _explanation(entry), f"help for {entry.word}"
    words_of_all = _worded((*menu.entries, *_others(menu)))
    head = list(shown) if shown is not None else [menu.title, *_numbered(menu)]
    return [*head, "Commands (any unambiguous beginning will do):", *words_of_all], "help"


def _help_on_screen(context: Context, words: Sequence[str]) -> tuple[list[str], str]:
    """Return the help in as few lines as it takes: of what has a help of its own, the word alone."""
    if words:
        entry = find_entry(context.menu, EVERYWHERE, words, context.main)
        if isinstance(entry, Command):
            return _explanation(entry), f"help for {entry.word}"
        below = [(f"{entry.name} {_short_usage(each)}", each.help) for each in entry.entries]
        return [*_explanation_of_word(entry), *_in_columns(below)], f"help for {entry.word}"
    menu = context.menu
    shown = [(f"{entry.number or ' '} {_short_usage(entry)}", entry.help) for entry in menu.entries]
    if menu.pick is not None:
        shown.insert(0, ("1 …", menu.pick.help))
    head = f"{menu.title} (any unambiguous beginning of a word will do; 'help WORD' tells more)"
    others = ", ".join(_usage(command) for command in _others(menu))
    return [head, *_in_columns(shown), f"Everywhere: {others}"], "help"


def _in_columns(rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    width = max(len(words) for words, _ in rows)
    yield from (f"  {words:<{width}}  {text}" for words, text in rows)


def _others(menu: Menu) -> list[Command]:
    """Return the commands that work everywhere, less those whose words mean something else in the menu."""
    own = {entry.word for entry in menu.entries}
    return [command for command in EVERYWHERE if command.word not in own]


def _short_usage(entry: Entry) -> str:
    """Return an entry's words, cut to its own one where they are long."""
    usage = _usage(entry)
    return usage if len(usage) <= _SHORT_USAGE else f"{entry.word} …"


def _usage(entry: Entry) -> str:
    return f"{entry.word} {entry.usage}".strip() if isinstance(entry, Command) else f"{entry.word} …"


def _explanation(entry: Entry) -> list[str]:
    if isinstance(entry, Command):
        return [f"{_usage(entry)}: {entry.help}", *(f"  {line}" for line in entry.details)]
    return _explanation_of_word(entry) + [f"  {entry.name} {_usage(each)}: {each.help}" for each in entry.entries]


def _explanation_of_word(menu: Menu) -> list[str]:
    """Return what the menu's word does by itself."""
    lines = [f"{menu.name}: {menu.help}"]
    if menu.bare is not None:
        lines += [f"  {menu.word} {menu.bare.usage}".rstrip(), *(f"    {line}" for line in menu.bare.details)]
    return lines


async def show_typed(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield the lines that were typed in this session."""
    require_count(words, 0, 0, "history")
    lines = context.dialogue.history()
    for number, line in enumerate(lines, 1):
        yield Fact({"number": number, "line": line}, (f"{number:>4}  {line}",))
    yield Done(counted(len(lines), "line"))


async def show_self(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield who is on in this session."""
    require_count(words, 0, 0, "whoami")
    origin = context.origin
    yield Fact({"who": origin.who, "source": origin.source, "door": origin.door}, ())
    yield Done(str(origin))


async def list_sessions(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Yield every session that is on, by whatever door; or end one."""
    if words and words[0].lower() == "end":
        require_count(words, 2, 2, "sessions end NUMBER")
        async with aclosing(_end_session(context, words[1])) as answers:
            async for answer in answers:
                yield answer
        return
    require_count(words, 0, 0, "sessions [end NUMBER]")
    present = present_now(context)
    for entry in present:
        since = format_moment(entry.since)
        own = " (this session)" if entry.number == context.session else ""
        data = {
            "number": entry.number,
            "who": entry.origin.who,
            "source": entry.origin.source,
            "door": entry.origin.door,
            "at": entry.since.isoformat(timespec="seconds"),
        }
        yield Fact(data, (f"{entry.number:>4}  {entry.origin} since {since}{own}",))
    yield Done(counted(len(present), "session"))


async def _end_session(context: Context, word: str) -> AsyncGenerator[Answer, None]:
    number = parse_whole(word, "NUMBER", 1, _HIGHEST_NUMBER)
    if number == context.session:
        raise UsageError("that is this session; 'logout' ends it")
    entry = next((each for each in present_now(context) if each.number == number), None)
    if entry is None:
        raise UsageError(f"no session has the number {number}; 'sessions' lists them")
    entry.end(f"ended by {context.origin.who}")
    await context.parts.audit.note("session ended", context.origin, f"{number}: {entry.origin}")
    yield Fact({"number": number, "who": entry.origin.who, "door": entry.origin.door}, ())
    yield Done(f"session {number} ended, {entry.origin}")


async def switch_notices(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """Show notices at once, or before the next prompt."""
    require_count(words, 1, 1, "notices on|off")
    chosen = parse_words(words[0], "notices", ("on", "off"))
    context.dialogue.show_notices(at_once=chosen == "on")
    yield Done("notices are shown at once" if chosen == "on" else "notices are shown before the next prompt")


def _leave_by(word: str) -> Run:
    """Return what leaves the menu by that word; from the main menu, it logs out."""

    async def leave(context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
        require_count(words, 0, 0, word)
        parent = context.menu.parent
        if parent is None:
            yield Done("logged out")
            yield Move.LOGOUT
        else:
            yield Done(f"{parent.name} menu")
            yield Move.UP

    return leave


async def log_out(_context: Context, words: list[str]) -> AsyncGenerator[Answer, None]:
    """End the session."""
    require_count(words, 0, 0, "logout")
    yield Done("logged out")
    yield Move.LOGOUT


def _complete_help(context: Context, words: Sequence[str]) -> Sequence[str]:
    if not words:
        return [entry.word for entry in (*context.menu.entries, *EVERYWHERE)]
    entry = find_entry(context.menu, EVERYWHERE, words, context.main)
    return [each.word for each in entry.entries] if isinstance(entry, Menu) else ()


def _complete_sessions(context: Context, words: Sequence[str]) -> Sequence[str]:
    if [word.lower() for word in words] == ["end"]:
        return [str(entry.number) for entry in context.parts.presence.all() if entry.number != context.session]
    return () if words else ("end",)


def _complete_switch(_context: Context, words: Sequence[str]) -> Sequence[str]:
    return () if words else ("on", "off")


LOGOUT = Command(word="logout", number="0", title="Logout", help="end the session", run=log_out)

EVERYWHERE: tuple[Command, ...] = (
    Command(
        word="help",
        usage="[WORD]",
        number="?",
        help="show this menu, or explain a word",
        run=show_help,
        complete=_complete_help,
    ),
    Command(word="history", help="list the lines that were typed", run=show_typed, facts="many"),
    Command(word="whoami", help="show who is on in this session", run=show_self, facts="one"),
    Command(
        word="sessions",
        usage="[end NUMBER]",
        help="show who is on, by every door; end a session",
        run=list_sessions,
        facts="many",
        complete=_complete_sessions,
    ),
    Command(
        word="notices",
        usage="on|off",
        help="show notices at once, or before the next prompt",
        run=switch_notices,
        complete=_complete_switch,
    ),
    Command(word="back", number="0", help="leave the menu; from the main menu, log out", run=_leave_by("back")),
    Command(word="exit", help="leave the menu; from the main menu, log out", run=_leave_by("exit")),
    Command(word="quit", help="the same as exit", run=_leave_by("quit")),
    Command(word="logout", help="end the session", run=log_out),
)
