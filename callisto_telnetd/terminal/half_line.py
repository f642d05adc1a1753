"""The half-typed line, and what the terminal shows of it: cells, rows and the least output that mends the screen."""

from __future__ import annotations

from array import array

from wcwidth import wcwidth

MAX_OUTPUT_BYTES = 8 * 1024
"""Output that waits: past it, the answers to editing keys are put together to one when it is taken."""
_ONE_ROW = 1 << 30
_MAX_CLUSTER = 32
"""Characters that are taken for one on the screen: a base and its combining marks."""


class HalfLine:
    """The half-typed line, and what the terminal shows of it.

    - Places on the terminal are cells, counted from the end of the prompt as if the terminal had one endless row; with
      ``columns`` known, ``divmod`` makes row and column of them. A wide character leaves the last column empty rather
      than be cut in two.
    - A terminal that was sent a character into its last column waits there for the next one before it goes on; some
      do not wait. Plain typing leaves it at that. An editing key first settles it: a blank and a CR lead to the
      beginning of the next row on both.
    - Painting sends the difference between what is shown and what is to be shown, from the first change on. Where much
      output waits already it is put off, so that no flood of editing keys makes more output than the terminal takes.
    """

    __slots__ = (
        "_cells",
        "_columns",
        "_origin",
        "_prompt",
        "_same",
        "_settled",
        "_shown_at",
        "_shown_end",
        "behind",
        "cursor",
        "fresh",
        "output",
        "size",
        "text",
        "visible",
    )

    def __init__(self) -> None:
        self.output = bytearray()
        self.visible = False
        self._prompt = ""
        self._origin = self._columns = 0
        self.reset()

    def reset(self) -> None:
        """Begin an empty line: the prompt is all that is shown."""
        self.fresh = True
        self.text = ""
        self.cursor = self.size = 0
        self.behind = self._settled = False
        self._same = self._shown_at = self._shown_end = 0
        self._cells: array[int] | None = None

    def place(self, prompt: str, columns: int) -> None:
        """Say what stands before the line and how wide the terminal is; 0 for not known."""
        if prompt == self._prompt and columns == self._columns:
            return
        self._prompt, self._columns, self._cells, self._origin = prompt, columns, None, 0
        for character in prompt:
            self._origin = self._after(self._origin, character)

    def edit(self, start: int, end: int, new: str = "") -> None:
        """Put ``new`` in place of ``text[start:end]``, the cursor behind it."""
        text = self.text
        self.size += size_of(new) - size_of(text[start:end])
        self.text = text[:start] + new + text[end:]
        self.cursor = start + len(new)
        self.fresh = False
        self._same = min(self._same, start)
        if self._cells is not None:
            del self._cells[start + 1 :]
        self.paint()

    def erase(self) -> None:
        """Remove the character before the cursor."""
        self.edit(self._left_of(self.cursor), self.cursor)

    def delete(self) -> None:
        """Remove the character under the cursor."""
        self.edit(self.cursor, self._right_of(self.cursor))

    def kill_before(self) -> None:
        """Remove everything before the cursor."""
        self.edit(0, self.cursor)

    def kill_word(self) -> None:
        """Remove the word before the cursor, and the blanks between."""
        self.edit(self.text[: self.cursor].rstrip().rfind(" ") + 1, self.cursor)

    def kill_word_before(self) -> None:
        """Remove the letters and digits before the cursor, and what parts them from it."""
        self.edit(self._word_before(self.cursor), self.cursor)

    def kill_word_after(self) -> None:
        """Remove the letters and digits behind the cursor, and what parts them from it."""
        self.edit(self.cursor, self._word_after(self.cursor))

    def kill_after(self) -> None:
        """Remove everything from the cursor on."""
        self.edit(self.cursor, len(self.text))

    def home(self) -> None:
        """Go to the beginning."""
        self._move_to(0)

    def end(self) -> None:
        """Go to the end."""
        self._move_to(len(self.text))

    def left(self) -> None:
        """Go one character back."""
        self._move_to(self._left_of(self.cursor))

    def right(self) -> None:
        """Go one character on."""
        self._move_to(self._right_of(self.cursor))

    def word_left(self) -> None:
        """Go to the beginning of a word of letters and digits."""
        self._move_to(self._word_before(self.cursor))

    def word_right(self) -> None:
        """Go to the end of a word of letters and digits."""
        self._move_to(self._word_after(self.cursor))

    def paint(self, *, at_once: bool = False) -> None:
        """Bring the terminal from what it shows to what the line is."""
        length = len(self.text)
        if not self.visible:  # what a client that echoes by itself shows, as far as one can know
            self._same, self._shown_at, self._shown_end = length, self.cursor, length
            return
        self.behind = not at_once and len(self.output) > MAX_OUTPUT_BYTES
        if self.behind:
            return
        same, self._same = self._same, length
        at, end = self._shown_at, self._shown_end
        self._shown_at, self._shown_end = self._cell(self.cursor), self._cell(length)
        hanging = not self._settled and self._is_edge(at)
        marks = same < length and not width_of(self.text[same])
        if at == end == self._cell(same) and self.cursor == length and not (marks and self._settled):
            self.output += self.text[same:].encode()
            self._settled = self._settled and same == length
            return
        self._settled = True
        if hanging:
            self.output += b" \r"
        self._repaint(self._left_of(same) if marks else same, at, end)

    def to_end(self) -> bytes:
        """Return what takes the terminal's cursor behind the line; nothing where it is there."""
        return self._move(self._shown_at, self._shown_end)

    def draw(self) -> bytes:
        """Return prompt and line with the cursor in its place, for a terminal at the beginning of a row."""
        self.behind = False
        self._same = len(self.text)
        self._shown_at, self._shown_end = self._cell(self.cursor), self._cell(self._same)
        self._settled = self._shown_at != self._shown_end
        settle = b" \r" if self._settled and self._is_edge(self._shown_end) else b""
        return (self._prompt + self.text).encode() + settle + self._move(self._shown_end, self._shown_at)

    def _move_to(self, index: int) -> None:
        """Place the cursor before ``text[index]``."""
        self.cursor = index
        self.paint()

    def _left_of(self, index: int) -> int:
        """Return where the character before ``index`` begins, its combining marks included."""
        bound = max(index - _MAX_CLUSTER, 0)
        index -= 1
        while index > bound and not width_of(self.text[index]):
            index -= 1
        return max(index, 0)

    def _right_of(self, index: int) -> int:
        """Return where the character at ``index`` ends, its combining marks included."""
        bound = min(index + _MAX_CLUSTER, len(self.text))
        index += 1
        while index < bound and not width_of(self.text[index]):
            index += 1
        return min(index, bound)

    def _word_before(self, index: int) -> int:
        for within in (False, True):
            while index and self.text[left := self._left_of(index)].isalnum() is within:
                index = left
        return index

    def _word_after(self, index: int) -> int:
        for within in (False, True):
            while index < len(self.text) and self.text[index].isalnum() is within:
                index = self._right_of(index)
        return index

    def _repaint(self, same: int, at: int, end: int) -> None:
        """Paint from ``text[same]`` on, where the cursor stands at cell ``at`` and the line was shown up to ``end``."""
        start, tail = self._cell(same), self.text[same:].encode()
        gone = end - start
        one_row = self._row(start) == self._row(end)
        if not tail and at == end and self._shown_at == start and 0 < gone <= 2 and one_row:
            self.output += b"\b" * gone + b" " * gone + b"\b" * gone
            return
        if tail or gone:
            self.output += self._move(at, start)
            at = self._shown_end
        if gone:
            self.output += b"\x1b[K" if one_row else b"\x1b[J"
        self.output += tail
        if tail and self._is_edge(at):
            self.output += b" \r"
        self.output += self._move(at, self._shown_at)

    def _move(self, start: int, end: int) -> bytes:
        """Return what moves the terminal's cursor from one cell to the other."""
        columns = self._columns or _ONE_ROW
        row, column = divmod(self._origin + start, columns)
        to_row, to_column = divmod(self._origin + end, columns)
        moves = _steps(to_row - row, b"B", b"A")
        if 0 < column - to_column <= 3:
            return moves + b"\b" * (column - to_column)
        return moves + _steps(to_column - column, b"C", b"D")

    def _row(self, cell: int) -> int:
        return (self._origin + cell) // (self._columns or _ONE_ROW)

    def _is_edge(self, cell: int) -> bool:
        """Return whether a row is full before ``cell``."""
        place = self._origin + cell
        return self._columns > 0 and place > 0 and place % self._columns == 0

    def _after(self, place: int, character: str) -> int:
        """Return the place behind ``character``, counted from the beginning of the prompt."""
        width = width_of(character)
        gap = width == 2 and self._columns > 0 and place % self._columns == self._columns - 1
        return place + width + gap

    def _cell(self, index: int) -> int:
        """Return the cell before ``text[index]``; remembered, for a wide line is long to measure."""
        if self._cells is None:
            if self.text.isascii():
                return index
            self._cells = array("I", [0])
        cells = self._cells
        while len(cells) <= index:
            cells.append(self._after(self._origin + cells[-1], self.text[len(cells) - 1]) - self._origin)
        return cells[index]


def size_of(text: str) -> int:
    """Return the bytes of the text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def width_of(character: str) -> int:
    """Return the columns that a character takes: 0, 1 or 2 (Unicode TR 11)."""
    return 1 if character < "\u0300" else max(wcwidth(character), 0)


def _steps(count: int, forward: bytes, back: bytes) -> bytes:
    """Return a cursor movement (ECMA-48 CUU to CUB); nothing for none."""
    if not count:
        return b""
    return b"\x1b[%s%s" % (b"%d" % abs(count) if abs(count) > 1 else b"", forward if count > 0 else back)
