"""A person at a terminal: the real telnet inside tmux, judged by what stands on the screen."""

from __future__ import annotations

import pytest

from tests.clients.conftest import Screen
from tests.conftest import NAME, PASSWORD


def test_the_log_in_shows_the_menu(screen: Screen) -> None:
    """After log-in the screen shows banner, last access and the menu in its order, and no password."""
    rows = [row.rstrip() for row in screen.text.splitlines()]
    at = rows.index("Main menu")

    assert "Callisto 1.0.0 (UCM)" in rows
    assert f"callisto login: {NAME}" in rows
    assert rows[at - 1].startswith("Last access ")
    assert rows[at : at + 9] == [
        "Main menu",
        "  1  Trace",
        "  2  Repair Database",
        "  3  System Variables",
        "  4  System Information",
        "  5  Set Date/Time",
        "  0  Logout",
        "Type 'help' for all commands.",
        "callisto#",
    ]
    assert PASSWORD not in screen.text


def test_a_variable_is_changed_in_three_ways(screen: Screen) -> None:
    """By number with a question, by word in the sub-menu, and by one line from the main menu."""
    screen.type("3", "Enter")
    screen.stands_at("callisto(variables)# ")
    assert " 17  gWebTimeout = 20" in screen.text
    screen.type("17", "Enter")
    screen.stands_at("New value [20]: ")
    screen.type("41", "Enter")
    screen.shows("OK gWebTimeout = 41 (was 20)")
    screen.stands_at("callisto(variables)# ")

    screen.run("SET gWebTimeout 42", "OK gWebTimeout = 42 (was 41)", "callisto(variables)# ")
    screen.run("0", "OK main menu")
    screen.run("var se gWebTimeout 43", "OK gWebTimeout = 43 (was 42)")
    screen.run("3 set gWebTimeout abc", "Error: gWebTimeout: 'abc' is not a whole number of minutes from 0 to 1440")
    screen.run("variables list gWebTimeout", "gWebTimeout = 43 *")


def test_tab_completes_words_names_and_values(screen: Screen) -> None:
    """Tab completes a menu's word, a command, a variable's name and a value; an ambiguous one is listed."""
    screen.type("var", "Tab")
    screen.stands_at("callisto# variables ")
    screen.type("sh", "Tab")
    screen.stands_at("callisto# variables show ")
    screen.type("gwebt", "Tab")
    screen.stands_at("callisto# variables show gWebTimeout ")
    screen.type("Enter")
    screen.shows("OK gWebTimeout = 20")
    screen.stands_at("callisto# ")

    screen.type("variables show gWeb", "Tab", "Tab")
    screen.shows("gWebServerRestart")
    screen.stands_at("callisto# variables show gWeb")
    screen.type("C-u")
    screen.stands_at("callisto# ")


def test_keys_edit_the_line(screen: Screen) -> None:
    """Arrows, Ctrl-A, Ctrl-E, Backspace and Ctrl-W move and mend; what stands on the screen is what is run."""
    screen.type("-l", "riables list gWebTimeouX")
    screen.type("BSpace")
    screen.type("-l", "t")
    screen.type("C-a")
    screen.type("-l", "va")
    screen.type("Right", "Left", "C-e", "Left", "Right")
    screen.stands_at("callisto# variables list gWebTimeout")
    screen.type("Space")
    screen.type("-l", "more")
    screen.type("C-w")
    screen.type("Enter")
    screen.shows("gWebTimeout = 20\n")
    screen.stands_at("callisto# ")
    assert "Error" not in screen.text

    screen.type("-l", "set gWebTimeout 30")
    screen.type("M-b", "C-Left", "C-Left")
    screen.type("-l", "variables ")
    screen.type("M-f", "C-Right", "M-d", "C-e")
    screen.type("-l", " 20")
    screen.stands_at("callisto# variables set gWebTimeout 20")
    screen.type("C-l")
    screen.wait(lambda: screen.text == "callisto# variables set gWebTimeout 20", "the line alone, at the top")
    screen.run("", "OK gWebTimeout = 20 (unchanged)")


def test_history_brings_lines_back(screen: Screen) -> None:
    """Up and Down walk through what was typed, and the line being typed comes back; history lists it."""
    screen.run("whoami", "OK admin")
    screen.run("variables list gWebTimeout", "gWebTimeout = 20")
    screen.type("-l", "half")
    screen.type("Up")
    screen.stands_at("callisto# variables list gWebTimeout")
    screen.type("Up")
    screen.stands_at("callisto# whoami")
    screen.type("Down", "Down")
    screen.stands_at("callisto# half")
    screen.type("C-c")
    screen.stands_at("callisto# ")
    screen.run("history", "OK 3 lines")
    assert "half" not in screen.text.rpartition("callisto# history")[2]


def test_ctrl_c_leaves_line_question_and_trace(screen: Screen) -> None:
    """Ctrl-C drops a half-typed line, leaves a question with nothing changed, and ends a trace."""
    screen.type("-l", "variables set gWebTimeout 9")
    screen.stands_at("callisto# variables set gWebTimeout 9")
    screen.type("C-c")
    screen.stands_at("callisto# ")

    screen.type("3", "Enter")
    screen.stands_at("callisto(variables)# ")
    screen.type("17", "Enter")
    screen.stands_at("New value [20]: ")
    screen.type("5", "C-c")
    screen.shows("Error: interrupted; nothing was changed")
    screen.stands_at("callisto(variables)# ")

    screen.type("back", "Enter")
    screen.stands_at("callisto# ")
    screen.type("trace", "Enter")
    screen.shows("Live records follow")
    screen.type("C-c")
    screen.shows("OK trace saved to ")
    screen.stands_at("callisto# ")
    screen.run("variables list gWebTimeout", "gWebTimeout = 20\n")


def test_enter_and_q_end_a_trace(screen: Screen) -> None:
    """Enter ends a live trace, and so does q, without a trace of the key at the next prompt."""
    for key in ("Enter", "q"):
        screen.type("1", "Enter")
        screen.shows("Live records follow")
        screen.type(key)
        screen.shows("OK trace saved to ")
        screen.stands_at("callisto# ")
        screen.type(*["Enter"] * 45)
        screen.wait(lambda: "OK trace saved" not in screen.text, "a screen of prompts")


def test_a_confirmation_is_asked(screen: Screen) -> None:
    """Repair asks; anything but y leaves everything as it is, y shows the steps and their result."""
    screen.type("2", "Enter")
    screen.stands_at("Check the database now, and repair it where it is damaged [y/N]: ")
    screen.type("Enter")
    screen.shows("OK nothing was changed")
    screen.stands_at("callisto# ")
    screen.type("repair", "Enter")
    screen.stands_at("Check the database now, and repair it where it is damaged [y/N]: ")
    screen.type("y", "Enter")
    screen.shows("OK database is sound")
    screen.stands_at("callisto# ")


@pytest.mark.parametrize("keys", [("0", "Enter"), ("C-d",)])
def test_logging_out_ends_telnet(screen: Screen, keys: tuple[str, ...]) -> None:
    """0 and Ctrl-D on an empty line end the session, and telnet with it."""
    screen.type(*keys)

    screen.shows("Connection closed by foreign host.")
