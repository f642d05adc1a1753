"""What a terminal shows after editing keys: a small screen takes the output, a plain list says what it should show."""

import re
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wcwidth import wcwidth

from callisto_telnetd.terminal.editor import Completion, Line, LineEditor

TOKEN = re.compile(r"\x1b\[(\d*)([ABCDHJK])|([\b\r\n])|([^\x00-\x1f\x7f-\x9f])", re.DOTALL)


@dataclass
class Screen:
    """A terminal of endless height; ``waits``: after a character in its last column it waits there for the next one."""

    columns: int
    waits: bool = True
    row: int = 0
    column: int = 0
    full: bool = False
    cells: dict[tuple[int, int], str] = field(default_factory=dict)
    last: tuple[int, int] | None = None

    def show(self, output: bytes) -> None:
        text, at = output.decode(), 0
        while at < len(text):
            match = TOKEN.match(text, at)
            assert match, f"not for this terminal: {text[at:]!r}"
            at = match.end()
            count, final, control, character = match.groups()
            if character:
                self.put(character)
                continue
            self.last = None
            self.move(int(count or 1), final) if final else self.control(control)

    def put(self, character: str) -> None:
        width = wcwidth(character)
        if width == 0:
            place = self.last or (self.row, self.column - 1)
            assert place in self.cells, "a mark without a base"
            self.cells[place] += character
            return
        if self.full or self.column + width > self.columns:
            self.row, self.column, self.full = self.row + 1, 0, False
        for column in range(self.column, self.column + width):
            self.clear(self.row, column)
        self.cells[self.row, self.column] = character
        if width == 2:
            self.cells[self.row, self.column + 1] = ""
        self.last = (self.row, self.column)
        self.column += width
        if self.column == self.columns:
            self.full = True
            self.column -= 1
            if not self.waits:
                self.row, self.column, self.full = self.row + 1, 0, False

    def clear(self, row: int, column: int) -> None:
        if self.cells.get((row, column)) == "":
            self.cells[row, column - 1] = " "
        if self.cells.get((row, column + 1)) == "":
            self.cells[row, column + 1] = " "
        self.cells.pop((row, column), None)

    def control(self, control: str) -> None:
        self.full = False
        if control == "\n":
            self.row += 1
        else:
            self.column = 0 if control == "\r" else max(self.column - 1, 0)

    def move(self, count: int, final: str) -> None:
        self.full = False
        if final == "H":
            self.row = self.column = 0
            return
        if final in "JK":
            for row, column in list(self.cells):
                if (
                    (final == "J" and count == 2)
                    or (row == self.row and column >= self.column)
                    or (final == "J" and row > self.row)
                ):
                    self.clear(row, column)
            return
        self.row = max(self.row + {"A": -count, "B": count}.get(final, 0), 0)
        self.column = min(max(self.column + {"C": count, "D": -count}.get(final, 0), 0), self.columns - 1)

    def shown(self) -> dict[tuple[int, int], str]:
        return {place: cell for place, cell in self.cells.items() if cell not in {" ", ""}}

    def cursor(self) -> tuple[int, int]:
        return (self.row + 1, 0) if self.full else (self.row, self.column)


@dataclass
class Typist:
    """What the line should be: characters with their marks in a list, and a place in it."""

    history: list[str]
    left: list[str] = field(default_factory=list)
    right: list[str] = field(default_factory=list)
    index: int = 0
    draft: str = ""

    def press(self, key: str) -> None:
        if key in KEYS:
            KEYS[key](self)
        else:
            self.left.append(key)

    def erase(self) -> None:
        del self.left[-1:]

    def delete(self) -> None:
        del self.right[:1]

    def kill_word(self) -> None:
        while self.left and self.left[-1] == " ":
            self.left.pop()
        while self.left and self.left[-1] != " ":
            self.left.pop()

    def home(self) -> None:
        self.left, self.right = [], self.left + self.right

    def end(self) -> None:
        self.left, self.right = self.left + self.right, []

    def back(self) -> None:
        self.right = self.left[-1:] + self.right
        del self.left[-1:]

    def forth(self) -> None:
        self.left += self.right[:1]
        del self.right[:1]

    def up(self) -> None:
        if self.index == 0:
            self.draft = self.text
        if self.index < len(self.history):
            self.index += 1
            self.recall(self.history[-self.index])

    def down(self) -> None:
        if self.index:
            self.index -= 1
            self.recall(self.history[-self.index] if self.index else self.draft)

    def recall(self, text: str) -> None:
        self.left, self.right = re.findall(".[\u0300-\u036f]*", text), []

    @property
    def text(self) -> str:
        return "".join(self.left + self.right)


KEYS = {
    "\x7f": Typist.erase,
    "\x08": Typist.erase,
    "\x15": lambda typist: typist.left.clear(),
    "\x0b": lambda typist: typist.right.clear(),
    "\x17": Typist.kill_word,
    "\x01": Typist.home,
    "\x05": Typist.end,
    "\x02": Typist.back,
    "\x1b[C": Typist.forth,
    "\x1b[3~": Typist.delete,
    "\x1b[A": Typist.up,
    "\x0e": Typist.down,
}
HISTORY = ["short", "a line of forty ascii characters, or more", "世界e\u0301 " * 9, "x" * 50]
TEXT = ["a", "b", " ", "世", "界", "e\u0301", "é", "o\u0308\u0323"]
RUN = st.sampled_from(TEXT).flatmap(lambda text: st.integers(5, 21).map(lambda count: [text] * count))
PRESSED = st.lists(
    st.one_of(
        RUN,
        st.sampled_from(TEXT).map(lambda text: [text]),
        st.sampled_from(sorted(KEYS)).map(lambda key: [key]),
        st.sampled_from(sorted(KEYS)).flatmap(lambda key: st.integers(2, 6).map(lambda count: [key] * count)),
    ),
    max_size=14,
).map(lambda parts: [key for part in parts for key in part])


def opened(prompt: str, columns: int) -> LineEditor:
    """Return an editor that remembers ``HISTORY``."""
    editor = LineEditor()
    for line in HISTORY:
        editor.feed(line.encode() + b"\r")
        assert editor.next_event() == Line(line)
    editor.take_output()
    editor.echo = True
    editor.prompt, editor.columns = prompt, columns
    return editor


def drawn(columns: int, text: str) -> Screen:
    """Return a screen that shows ``text`` alone."""
    screen = Screen(columns)
    screen.show(text.encode())
    return screen


@example(["a", "b", "\x02", "e\u0301"], 4, "# ", True)
@example(["a", "e", "\x02", "\x05", "\u0301"], 4, "# ", True)
@given(
    PRESSED,
    st.sampled_from([0, 2, 3, 7, 20]),
    st.sampled_from(["# ", "callisto# ", "", "twenty columns wide ", "größe世: "]),
    st.booleans(),
)
def test_screen_shows_prompt_and_line(pressed: list[str], columns: int, prompt: str, waits: bool) -> None:
    """After every key the terminal shows prompt and line and nothing else, the cursor in its place."""
    editor, typist = opened(prompt, columns), Typist(HISTORY)
    width = columns or 100_000
    screen = Screen(width, waits)
    screen.show(prompt.encode())
    for key in pressed:
        typist.press(key)
        editor.feed(key.encode())
        assert editor.next_event() is None
        screen.show(editor.take_output())

        assert editor.text == typist.text
        assert screen.shown() == drawn(width, prompt + typist.text).shown()
        assert screen.cursor() == drawn(width, prompt + "".join(typist.left)).cursor()
    below(editor, screen, drawn(width, prompt + typist.text).cursor()[0])
    redrawn(editor, typist, Screen(width, waits))


def below(editor: LineEditor, screen: Screen, row: int) -> None:
    """The row below the line is free for a notice."""
    screen.show(editor.leave())
    assert screen.column == 0
    assert screen.row >= row
    assert not [place for place in screen.shown() if place[0] >= screen.row]


def redrawn(editor: LineEditor, typist: Typist, screen: Screen) -> None:
    """``redraw`` shows the same on an empty screen, and Enter goes below it."""
    screen.show(editor.redraw())
    assert screen.shown() == drawn(screen.columns, editor.prompt + typist.text).shown()
    assert screen.cursor() == drawn(screen.columns, editor.prompt + "".join(typist.left)).cursor()
    editor.feed(b"\r")
    assert editor.next_event() == Line(typist.text)
    screen.show(editor.take_output())
    assert screen.column == 0
    assert not [place for place in screen.shown() if place[0] >= screen.row]


@example(["a", "\x1b[A", "\x0e"], 0, 2)
@given(PRESSED, st.sampled_from([0, 20]), st.integers(1, 6))
def test_screen_is_right_after_a_flood(pressed: list[str], columns: int, times: int) -> None:
    """Keys whose answers were put together leave the same screen as keys that were answered one by one."""
    editor, typist = opened("# ", columns), Typist(HISTORY)
    screen = Screen(columns or 100_000)
    screen.show(b"# ")
    for _ in range(times):
        editor._output += b"\0" * 70_000  # as if a flood had come before
        for key in pressed:
            typist.press(key)
            editor.feed(key.encode())
            assert editor.next_event() is None
        screen.show(editor.take_output().strip(b"\0"))

        assert screen.shown() == drawn(screen.columns, "# " + typist.text).shown()
        assert screen.cursor() == drawn(screen.columns, "# " + "".join(typist.left)).cursor()


@pytest.mark.parametrize("columns", [20, 80])
@pytest.mark.parametrize("typed", [b"", b"s", b"x" * 18 + b"s", b"x" * 60 + b"\x01\x06", "世".encode() * 30 + b"\x02"])
def test_prompt_and_line_stand_again_below(typed: bytes, columns: int) -> None:
    """After a list of candidates prompt and line stand on a new row with the cursor in its place."""
    editor = opened("# ", columns)
    editor.complete = lambda text: Completion(len(text), ("show", "größe", "世界"))
    screen = Screen(columns)
    screen.show(b"# ")
    editor.feed(typed)
    assert editor.next_event() is None
    screen.show(editor.take_output())
    before = Screen(columns)
    before.show(editor.redraw())

    editor.feed(b"\t")
    assert editor.next_event() is None
    screen.show(editor.take_output())

    top = screen.cursor()[0] - before.cursor()[0]
    assert {(row - top, column): cell for (row, column), cell in screen.shown().items() if row >= top} == before.shown()
    assert screen.cursor() == (before.cursor()[0] + top, before.cursor()[1])


@pytest.mark.parametrize("columns", [20, 80])
@pytest.mark.parametrize("typed", [b"", b"s", b"x" * 60 + b"\x01\x06", "世".encode() * 30 + b"\x02"])
def test_ctrl_l_clears_the_screen(typed: bytes, columns: int) -> None:
    """Prompt and line stand at the top, and nothing else; the cursor is in its place."""
    editor = opened("# ", columns)
    screen = Screen(columns)
    screen.show(b"a screen full of answers\r\n" * 5 + b"# ")
    editor.feed(typed + b"\x0c")
    assert editor.next_event() is None
    screen.show(editor.take_output())
    alone = Screen(columns)
    alone.show(editor.redraw())

    assert screen.shown() == alone.shown()
    assert screen.cursor() == alone.cursor()
