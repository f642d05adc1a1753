"""Lines, their echo and their limits: each table is run whole, byte by byte, in twos and with a tail."""

from collections.abc import Callable

import pytest

from callisto_telnetd.terminal.editor import (
    MAX_LINE_BYTES,
    Completion,
    EndOfInput,
    Event,
    Interrupt,
    Line,
    LineEditor,
    LineTooLong,
)
from callisto_telnetd.terminal.half_line import MAX_OUTPUT_BYTES

WORDS = ("show", "shutdown", "set", "größe", "level=")


def complete(text: str) -> Completion:
    """Complete the last word."""
    start = text.rfind(" ") + 1
    return Completion(start, tuple(word for word in WORDS if word.startswith(text[start:])))


def opened(*, echo: bool = True, columns: int = 80) -> LineEditor:
    """Return an editor at its prompt."""
    editor = LineEditor(complete)
    editor.echo = echo
    editor.columns = columns
    editor.prompt = "# "
    return editor


def fed(editor: LineEditor, typed: bytes, step: int) -> tuple[list[Event], bytes]:
    """Feed ``typed`` in pieces of ``step`` bytes; return the events and everything that was output."""
    events, output = [], b""
    for at in range(0, len(typed), step):
        editor.feed(typed[at : at + step])
        while (event := editor.next_event()) is not None:
            events.append(event)
            output += editor.take_output()
        output += editor.take_output()
    return events, output


def lines(*texts: str) -> list[Event]:
    """Return the events of plain lines."""
    return [Line(text) for text in texts]


@pytest.fixture(params=[1, 2, 3, 1 << 20], ids=["singly", "in twos", "in threes", "whole"])
def step(request: pytest.FixtureRequest) -> int:
    """Return how many bytes come at a time."""
    return int(request.param)


TYPED: list[tuple[bytes, list[Event]]] = [
    (b"show\r\n", lines("show")),
    (b"show\r\0", lines("show")),
    (b"show\r", lines("show")),
    (b"show\n", lines("show")),
    (b"\r\r\n\n\r\0", lines("", "", "", "")),
    (b"a\rb\nc\r\nd\r\0e\r", lines("a", "b", "c", "d", "e")),
    (b"\0a\0b\0\r\0\0\r", lines("ab", "")),
    (b"shox\x7fw\r", lines("show")),
    (b"shox\x08w\r", lines("show")),
    (b"\x08\x7fa\r", lines("a")),
    (b"one two  \x17x\r", lines("one x")),
    (b"gone\x15kept\r", lines("kept")),
    (b"ac\x02b\r", lines("abc")),
    (b"bc\x01a\x05d\r", lines("abcd")),
    (b"ab\x02\x02\x06x\r", lines("axb")),
    (b"abcd\x02\x02\x0b\r", lines("ab")),
    (b"abc\x01\x04\r", lines("bc")),
    (b"abc\x04\r", lines("abc")),
    (b"abc\x1b[D\x1b[D\x1b[3~\r", lines("ac")),
    (b"bc\x1b[Ha\x1b[Fd\r", lines("abcd")),
    (b"bc\x1bOHa\x1bOFd\r", lines("abcd")),
    (b"bc\x1b[1~a\x1b[4~d\r", lines("abcd")),
    (b"bc\x1b[7~a\x1b[8~d\r", lines("abcd")),
    (b"ac\x1bODb\x1bOCd\r", lines("abcd")),
    (b"a\x1b[200~\x1b[1;5P\x1b[[A\x1bO5Q\x1b[15~b\r", lines("ab")),
    (b"ab\x1bb\x1b\x1b[D>\r", lines(">ab")),
    (b"a\x1b[12\rb\r", lines("a", "b")),
    (b"a\x1b\r", lines("a")),
    (b"a\x1b[" + b"1" * 5000 + b"23xb\r", lines("ab")),
    (b"a\x1b[1;" + b"1;" * 30 + b"5Db\r", lines("ab")),
    (b"a\x02\x1b\x0e\x0f\x10\x11\x12\x13\x14\x16\x18\x19\x1a\x1c\x1d\x1e\x1fb\r", lines("ba")),
    (b"one\rtwo\r\x1b[A\x1b[A\r\x10\x10\x0e\r", lines("one", "two", "one", "one")),
    (b"one\rhalf\x1b[A\x1b[Bx\r", lines("one", "halfx")),
    (b"one\rhalf\x1b[A\x1b[Bx\x1b[A\x1b[By\r", lines("one", "halfxy")),
    (b"\x10\x0ea\r", lines("a")),
    (b"gone\x03kept\r", [Interrupt(), Line("kept")]),
    (b"\x04", [EndOfInput()]),
    (b"a\x7f\x04", [EndOfInput()]),
    (b"a\x08\x03\x03b\r", [Interrupt(), Interrupt(), Line("b")]),
    (b"se\tx\r", lines("set x")),
    (b"le\tdebug\r", lines("level=debug")),
    (b"s\th\to\t\r", lines("show ")),
    (b"nothing\t\r", lines("nothing")),
    ("gr\tß\r".encode(), lines("größe ß")),
    ("žluť 世界 e\u0301\x7f😀\r".encode(), lines("žluť 世界 😀")),
    ("\u200f\u202ea\u2028\u0085\u2066\u061c\r".encode(), lines("\ufffd\ufffda\ufffd\ufffd\ufffd\ufffd")),
    (b"\xff\xe2\x82a\xc0\x80\xed\xa0\x80\xf0\x9f\x98\r", lines("\ufffd\ufffda" + "\ufffd" * 6)),
    (b"\xe2\x82\x1b[D\r", lines("\ufffd")),
]


DROPPED = {
    "OSC to BEL": b"\x1b]0;a title\x07",
    "OSC to ST": b"\x1b]11;rgb:1e1e/1e1e/1e1e\x1b\\",
    "DCS": b"\x1bP>|xterm(388)\x1b\\",
    "APC": b"\x1b_Gi=31;OK\x1b\\",
    "PM": b"\x1b^private\x1b\\",
    "SOS": b"\x1bXany \xc3\xa9 text\x1b\\",
    "a string that is cancelled": b"\x1b]52;c;\x18",
    "a string cut by the next sequence": b"\x1b]52;c;\x1b[200~",
    "a string of 100 KB": b"\x1b]52;c;" + b"QUJD" * 25_000 + b"\x07",
    "CSI": b"\x1b[?62;22c",
    "CSI with a colon": b"\x1b[38:5:1m",
    "SS3": b"\x1bOP",
    "designation": b"\x1b(B",
    "two intermediates": b"\x1b$(C",
    "two characters": b"\x1bc",
    "Meta and a letter": b"\x1bz",
    "Meta and a wide letter": "\x1b\u00e9".encode(),
    "Meta and an emoji": "\x1b\U0001f600".encode(),
    "broken UTF-8 behind ESC": b"\x1b\x80",
    "ESC twice before a sequence": b"\x1b\x1b[15~",
}


@pytest.mark.parametrize("sequence", DROPPED.values(), ids=DROPPED)
@pytest.mark.parametrize("secret", [False, True], ids=["line", "password"])
def test_a_sequence_that_is_no_key_is_dropped_whole(sequence: bytes, secret: bool) -> None:
    """In a line and in a password nothing of it is typed in or echoed, wherever it is cut; nothing of it is kept."""
    typed = b"gWeb" + sequence + b"Timeout\r\n"
    cuts = range(1, len(typed)) if len(typed) < 100 else (5, 6, 7, 50_000, len(typed) - 11, len(typed) - 10)
    for cut in cuts:
        editor = opened()
        editor.secret = secret
        events, output = fed(editor, typed[:cut], cut)
        assert editor.pending_bytes < 32
        rest, more = fed(editor, typed[cut:], len(typed))

        assert events + rest == lines("gWebTimeout")
        assert output + more == (b"\r\n" if secret else b"gWebTimeout\r\n")


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (b"\x1bb", "one two-|three"),
        (b"\x1bB\x1bb", "one |two-three"),
        (b"\x1bb\x1bb\x1bf", "one two|-three"),
        (b"\x01\x1bf\x1bF", "one two|-three"),
        (b"\x01\x1bd", "| two-three"),
        (b"\x01\x1bd\x1bD", "|-three"),
        (b"\x1b\x7f", "one two-|"),
        (b"\x1b\x08\x1b\x7f", "one |"),
        *(
            (b"\x1b" + left, "one two-|three")
            for left in (b"[1;5D", b"[5D", b"O5D", b"O1;5D", b"Od", b"[1;3D", b"[1;9D")
        ),
        (b"\x1b\x1b[D", "one two-|three"),
        (b"\x1b\x1bOD", "one two-|three"),
        *((b"\x01\x1b" + right, "one| two-three") for right in (b"[1;5C", b"[5C", b"O5C", b"O1;5C", b"Oc", b"[1;7C")),
        (b"\x01\x1b\x1b[C", "one| two-three"),
        (b"\x01\x1b[3;5~", "| two-three"),
        (b"\x1b[1;2D", "one two-thre|e"),
        (b"\x01\x1b[3;2~", "|ne two-three"),
        (b"\x1b[1;5H", "|one two-three"),
        (b"\x01\x1b[1;5F", "one two-three|"),
        (b"\x01\x1bb\x1b[D", "|one two-three"),
        (b"\x1bf\x1b[C", "one two-three|"),
    ],
)
def test_keys_that_go_by_words(keys: bytes, line: str, step: int) -> None:
    """Alt-B, Alt-F, Alt-D, Alt-Backspace, and Ctrl or Alt with an arrow as each terminal sends it."""
    assert fed(opened(), b"one two-three" + keys + b"|\r", step)[0] == lines(line)


def test_words_have_letters_of_any_script() -> None:
    """A word is of letters and digits with their marks, and no mark is left without its letter."""
    typed = "größe. e\u0301te\u0301".encode()
    assert fed(opened(), typed + b"\x1b\x7f\r", 99)[0] == lines("größe. ")
    assert fed(opened(), typed + b"\x1bb\x1bb\x1bdx\r", 99)[0] == lines("x. e\u0301te\u0301")


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\r\0"])
def test_a_control_string_keeps_no_line_from_ending(end: bytes, step: int) -> None:
    """Alt-] begins a string that has no end: Enter ends it with the line, and the next line is whole."""
    assert fed(opened(), b"ab\x1b]gone" + end + b"next" + end, step)[0] == lines("ab", "next")
    assert fed(opened(), b"ab\x1b]gone\x03next" + end, step)[0] == [Interrupt(), Line("next")]


def test_a_lone_escape_waits_for_its_character() -> None:
    """ESC, a pause of any length and a letter are Meta, as in readline; ESC and Enter end the line."""
    editor = opened()
    assert fed(editor, b"one two\x1b", 99) == ([], b"one two")
    assert fed(editor, b"bx\r", 99)[0] == lines("one xtwo")
    assert fed(editor, b"one\x1b", 99)[0] == []
    assert fed(editor, b"\r", 99)[0] == lines("one")


def hinted(*candidates: str) -> LineEditor:
    """Return an editor at its prompt, whose completion knows these words and how the line goes on."""
    editor = opened()
    editor.complete = lambda text: Completion(
        text.rfind(" ") + 1,
        tuple(word for word in candidates if word.lower().startswith(text[text.rfind(" ") + 1 :].lower())),
        "VALUE [note=TEXT]",
    )
    return editor


def test_a_completed_list_corrects_the_case(step: int) -> None:
    """Where what was typed is all that the names share, it is written as they are, and the list follows."""
    editor = hinted("gWebTimeout", "gWebServerRestart")
    events, output = fed(editor, b"show gweb\t", step)
    assert (events, editor.text) == ([], "show gWeb")
    assert output.startswith(b"show gweb\x1b[4D\x1b[KgWeb\r\ngWebTimeout ")
    assert output.endswith(b"\r\nVALUE [note=TEXT]\r\n# show gWeb")


def test_a_hint_stands_below_the_list_or_alone(step: int) -> None:
    """A list ends with how the line may go on; where there are no candidates for a new word, that stands alone."""
    assert fed(hinted("0", "1"), b"set \t", step)[1] == b"set \r\n0  1\r\nVALUE [note=TEXT]\r\n# set "
    assert fed(hinted(), b"set \t", step)[1] == b"set \r\nVALUE [note=TEXT]\r\n# set "
    assert fed(hinted(), b"set x\t", step)[1] == b"set x"


def test_the_beginning_of_a_word_is_completed_without_a_blank(step: int) -> None:
    """Behind ``=`` and ``/`` the word goes on."""
    assert fed(hinted("target=sftp://"), b"ta\t\r", step)[0] == lines("target=sftp://")


@pytest.mark.parametrize(("typed", "events"), TYPED)
def test_events_do_not_depend_on_how_bytes_arrive(typed: bytes, events: list[Event], step: int) -> None:
    """The editor makes the same events of the same bytes, however they are cut."""
    assert fed(opened(), typed, step)[0] == events


@pytest.mark.parametrize(("typed", "events"), TYPED)
def test_what_follows_is_a_line_of_its_own(typed: bytes, events: list[Event], step: int) -> None:
    """Whatever was typed before, the next plain line is taken as it is."""
    assert fed(opened(), typed + b"plain tail\r\n", step)[0] == [*events, Line("plain tail")]


@pytest.mark.parametrize(("typed", "events"), TYPED)
def test_without_echo_the_same_lines_and_their_ends_alone(typed: bytes, events: list[Event], step: int) -> None:
    """A client that refused ECHO is sent one line end an event and nothing else, and its editing keys still edit."""
    assert fed(opened(echo=False), typed, step) == (events, b"\r\n" * len(events))


@pytest.mark.parametrize(
    ("typed", "output"),
    [
        (b"show all\r\n", b"show all\r\n"),
        (b"a\rb\nc\r\0d\r\n", b"a\r\nb\r\nc\r\nd\r\n"),
        (b"x" * 200 + b"\r", b"x" * 200 + b"\r\n"),
        ("žluť 世界\r".encode(), "žluť 世界\r\n".encode()),
        (b"ab\x7f", b"ab\b \b"),
        ("世\x7f".encode(), "世\b\b  \b\b".encode()),
        ("e\u0301\x7f".encode(), "e\u0301\b \b".encode()),
        (b"\x7f\x08\x15\x17\x0b\x01\x05\x02\x06\x1b[3~\x1b[A\x0e", b""),
        (b"\x00\x0f\x11\x1b[99~\x1bZ\x7f", b""),
        (b"abc\x15", b"abc\b\b\b\x1b[K"),
        (b"ac\x02b", b"ac\b\x1b[Kbc\b"),
        (b"abcdef\x01\x05", b"abcdef\x1b[6D\x1b[6C"),
        (b"ab\x02\r", b"ab\b\x1b[C\r\n"),
        (b"ab\x03", b"ab^C\r\n"),
        (b"\x04", b"\r\n"),
        (b"ab\x0c", b"ab\x1b[H\x1b[2J# ab"),
        (b"ab\x02\x0c", b"ab\b\x1b[H\x1b[2J# ab\b"),
        (b"sh\t", b"sh\r\nshow      shutdown\r\n# sh"),
        (b"sho\t", b"show "),
    ],
)
def test_echo_is_exact(typed: bytes, output: bytes, step: int) -> None:
    """Plain typing comes back as it was typed, then CR LF; only editing keys are answered with more."""
    assert fed(opened(), typed, step)[1] == output


def test_backspace_to_the_row_above_leaves_no_trace(step: int) -> None:
    """Where a row is full, BS goes up to it with cursor movements, for no terminal goes back over its edge."""
    assert fed(opened(columns=4), b"ab\x7f", step)[1] == b"ab \r\x1b[A\x1b[3C\x1b[J"


def test_password_shows_its_line_end_alone(step: int) -> None:
    """Of a secret line nothing is echoed, completed, moved in or remembered; erasing works."""
    editor = opened()
    assert fed(editor, b"show\r", step) == (lines("show"), b"show\r\n")

    editor.secret = True
    secret = fed(editor, b"xy\x15sh\t\x1b[A\x1b[D\x02\x01\x0c\x10i\x7f\x7f\x7fp w\x17\x04q\r", step)

    assert secret == (lines("p q"), b"\r\n")
    assert editor.redraw() == b"# "
    assert list(editor.history) == ["show"]


def test_modes_may_change_after_each_line(step: int) -> None:
    """Name, password and command typed ahead are each taken the way they are asked for."""
    editor = opened()
    editor.remember = False
    got, output, typed = [], b"", b"admin\r\nsf\x7fecret\r\nshow\r\n"
    for at in range(0, len(typed), step):
        editor.feed(typed[at : at + step])
        while (event := editor.next_event()) is not None:
            output += editor.take_output()
            got.append(event)
            editor.secret = len(got) == 1
            editor.remember = len(got) > 1
        output += editor.take_output()

    assert got == lines("admin", "secret", "show")
    assert output == b"admin\r\n\r\nshow\r\n"
    assert list(editor.history) == ["show"]


def test_bytes_after_a_line_wait() -> None:
    """Nothing behind a line end is looked at before the next event is asked for."""
    editor = opened()
    editor.feed(b"one\r\ntwo\x03three\r")

    assert (editor.next_event(), editor.pending_bytes, editor.take_output()) == (Line("one"), 10, b"one\r\n")


def test_rest_of_a_line_end_is_swallowed_across_modes() -> None:
    """The LF of a CR LF belongs to its CR, even where a password is asked for in between."""
    editor = opened()
    assert fed(editor, b"admin\r", 99)[0] == lines("admin")

    editor.secret = True

    assert fed(editor, b"\n", 99) == ([], b"")
    assert fed(editor, b"\n", 99) == (lines(""), b"\r\n")


@pytest.mark.parametrize(
    ("text", "excess"), [("x" * 4096, "y"), ("é" * 2048, "y"), ("x" * 4095, "é"), ("世" * 1365 + "a", "b" * 9000)]
)
def test_longest_line_and_one_more(text: str, excess: str, step: int) -> None:
    """A line of 4096 bytes is a line; one of more is drained to its end, and the editor goes on."""
    editor = opened()
    typed = text.encode()

    assert fed(editor, typed + b"\r\n", step) == (lines(text), typed + b"\r\n")
    events, output = fed(editor, typed + excess.encode() + b"\x7f\x1b[D\x15\0\r\nnext\r\n", step)
    assert (events, output) == ([LineTooLong(), Line("next")], typed + b"\r\nnext\r\n")
    assert list(editor.history)[-1] == "next"


def test_interrupt_ends_a_line_that_is_too_long(step: int) -> None:
    """Ctrl-C is heard while an endless line is drained."""
    events, _ = fed(opened(), b"x" * 5000 + b"\x03ok\r", step)

    assert events == [Interrupt(), Line("ok")]


def test_completion_that_does_not_fit_is_left_out() -> None:
    """Completing never makes a line longer than one may be."""
    editor = opened()
    fed(editor, b"x" * (MAX_LINE_BYTES - 3) + b" le\t", 4096)

    assert len(editor.text) == MAX_LINE_BYTES


@pytest.mark.parametrize("columns", [0, 20, 80])
def test_list_of_candidates_is_bounded(columns: int) -> None:
    """At most a hundred candidates are listed, in rows that fit, and nothing of them drives the terminal."""
    editor = opened(columns=columns)
    words = *(f"w{number}\x1b[2J" for number in range(150)), "", "w" * 500
    editor.complete = lambda text: Completion(99, words)

    output = fed(editor, b"a\t", 9)[1].decode()

    assert "\x1b" not in output
    rows = output.split("\r\n")[1:-1]
    assert rows[-1] == "and 52 more"
    assert max(map(len, rows)) <= (columns or 80) - 2
    assert len(" ".join(rows[:-1]).split()) == 100


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (LineEditor.erase_character, "ab"),
        (LineEditor.erase_line, ""),
        (LineEditor.discard, ""),
    ],
)
def test_telnet_commands_act_on_the_half_typed_line(act: Callable[[LineEditor], None], text: str) -> None:
    """IAC EC erases a character, IAC EL the line; IP and BRK drop it with everything that waits."""
    editor = opened()
    fed(editor, b"abc", 9)

    act(editor)

    assert editor.text == text


def test_erasing_commands_keep_their_place_among_what_waits() -> None:
    """IAC EC and EL that come behind type-ahead act on the line that they came in."""
    editor = opened()
    editor.feed(b"one\rtwx")
    editor.erase_character()
    editor.feed(b"o\rgone")
    editor.erase_line()

    assert fed(editor, b"three\r", 9)[0] == lines("one", "two", "three")


@pytest.mark.parametrize(("waiting", "events"), [(b"one\r", []), (b"one\rtw", lines("")), (b"", [])])
def test_discard_drops_what_waits_with_its_line_end(waiting: bytes, events: list[Event]) -> None:
    """An LF after ``discard`` belongs to the CR that was dropped or worked off last, and to no other."""
    editor = opened()
    fed(editor, b"zero\r", 9)
    editor.feed(waiting)
    editor.discard()

    assert editor.pending_bytes == 0
    assert fed(editor, b"\n", 1)[0] == events


def test_notice_goes_between_leave_and_redraw() -> None:
    """A notice finds a new row below the half-typed line, which then stands again with the cursor in its place."""
    editor = opened(columns=10)
    fed(editor, b"0123456789\x01", 99)

    assert editor.leave() == b"\x1b[B\r\n"
    assert editor.redraw() == b"# 0123456789\x1b[A"
    assert fed(editor, b"x", 1)[1] == b"\x1b[Jx0123456789\x1b[A"


def test_echo_agreed_within_a_line_shows_only_what_follows() -> None:
    """What the client has echoed by itself is not echoed again when ECHO is agreed."""
    editor = opened(echo=False)
    fed(editor, b"ab", 9)

    editor.echo = True

    assert fed(editor, b"c\x7f\x7f\r", 9)[1] == b"c\b \b\b \b\r\n"


@pytest.mark.parametrize("flood", [b"\x01x", b"\x0c", b"s\t", b"\x10", b"\x01\x06\x04"])
def test_flood_of_editing_keys_makes_bounded_output(flood: bytes) -> None:
    """Editing keys that each repaint a long line are answered together once much output waits."""
    editor = opened()
    fed(editor, b"y" * 2000 + b"\r" + b"z" * 2000, 4096)
    editor.feed(flood * 2000)
    while editor.next_event() is not None:
        pass

    assert len(editor.take_output()) < MAX_OUTPUT_BYTES + 3 * MAX_LINE_BYTES


def test_plain_flood_is_echoed_whole() -> None:
    """Plain typing is never put together: all of it comes back, however much waits."""
    editor = opened()
    typed = "ž plain line\r\n".encode() * 10_000
    editor.feed(typed)
    count = sum(1 for _ in iter(editor.next_event, None))

    assert (count, editor.take_output()) == (10_000, typed)
