"""Characters that are not seen, or look like others: what somebody hides in a text is shown as its code."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.terminal.rendering import json_of, line_of
from callisto_telnetd.trace.reading import Entry, format_json
from callisto_telnetd.trace.sanitiser import clean
from callisto_telnetd.web.pages import render
from tests.conftest import Server
from tests.lifetime.conftest import open_house

HIDDEN = (
    "\x7f\x9b\u00a0\u00ad\u034f\u061c\u115f\u1160\u180b\u2003\u200b\u200e\u202e\u2060"
    "\u2800\u3164\ufe0f\ufeff\uffa0\U000e0041\U000e0100"
)
PLAIN = "Zürich é 漢 🙂 ❤\ufe0f"
PROMPTS = (
    "callisto#",
    "callisto>",
    "Password:",
    "login:",
    "[yes]",
    "root$",
    "50%",
    "callisto＃",
    "callisto＞",
    "login：",
)


def hidden_in(text: str) -> Iterator[str]:
    """Yield every character of a text that is not seen, the joints of an emoji excepted."""
    for letter in text.replace("❤\ufe0f", ""):
        if letter != "\n" and (not letter.isprintable() or letter in HIDDEN):
            yield f"U+{ord(letter):04X} {unicodedata.name(letter, '')}"


@pytest.mark.parametrize("letter", HIDDEN)
def test_what_is_not_seen_is_shown_at_every_door(letter: str) -> None:
    """On a screen, in JSON, in a file read back and on a page it is its code; what is seen stays as it is."""
    text = f"a{letter}b {PLAIN}"
    record = Entry("2026-11-23T10:15:00.123456+01:00", "web-server", 1, 20, text, {"name": text})
    page = bytes(render("fault.html", 404, title="Not Found", detail=text).body).decode()

    for shown in (line_of(text), json_of({"note": text}), format_json(record), page):
        assert not list(hidden_in(shown))
        assert PLAIN in shown
    assert clean(f"a{letter}b") in page


@given(st.text())
def test_json_keeps_every_value_and_hides_nothing(text: str) -> None:
    """Whatever a value holds, its JSON shows all of it, and a program reads it as it is kept."""
    document = json_of([text])

    assert json.loads(document) == [text]
    assert not [letter for letter in document if not letter.isprintable() and letter != "\u200d"]


def test_a_name_that_is_no_utf8_makes_json_too() -> None:
    """A surrogate, as a file's name may have, is no internal error."""
    assert json.loads(json_of({"name": "a\udcff"})) == {"name": "a\udcff"}


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("behind", ["", " ", *HIDDEN])
def test_no_line_looks_like_a_prompt_because_of_what_is_not_seen(prompt: str, behind: str) -> None:
    """A prompt with something invisible behind it, or in wide characters, does not end like one."""
    line = line_of(f"{prompt}{behind}")

    assert not re.search(r"[>#$%＞＃＄％]\s*$|^\S+[:\]：］]\s*$", line)
    assert not list(hidden_in(line))


async def test_notes_are_shown_as_their_codes(tmp_path: Path) -> None:
    """A note of a capture, its file and its JSON: nothing is hidden, and the letters stay."""
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(open_house(tmp_path / "data"))
        await house.do("trace", "start", f"note=a{HIDDEN}b", PLAIN)
        listed = await house.do("trace", "status")
        await house.do("trace", "stop")
        [file] = (tmp_path / "data" / "trace").glob("*.log")
        header = file.read_text()

    assert PLAIN in header
    assert not list(hidden_in(header + "\n".join(listed.lines)))


def test_a_session_shows_what_is_not_seen(module_server: Server) -> None:
    """Words that come back in an error, a list or a question are shown as their codes."""
    peer = module_server.log_in()
    for line in ("\u200bfoo\u3164", "help \u2800", "variables show g\u00adWeb", "user remove a\u115fb"):
        answer = "\n".join(peer.run(line))
        assert "Error: " in answer
        assert not list(hidden_in(answer.replace(line, "")))


def test_facts_for_programs_hide_nothing(module_server: Server) -> None:
    """An error as JSON has the code of what is not seen."""
    done = module_server.command("variables", "show", "g\u3164Web", "--json")

    assert not list(hidden_in(done.stdout))
    assert "\\u3164" in done.stdout
    assert orjson.loads(done.stdout)["exit"] == 2
