"""Real client programs against the real server; each machine runs those that it has."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import DEADLINE_S, NAME, PASSWORD, Server, servers


def need(program: str) -> str:
    """Return the path of a program, or skip the test with the reason."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed; .ci/run installs it")
    return path


@pytest.fixture(scope="session")
def server_of_clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The one server of this folder's tests; ask for ``own_server``."""
    with servers(tmp_path_factory.mktemp("clients")) as start:
        yield start()


@pytest.fixture
def own_server(server_of_clients: Server) -> Iterator[Server]:
    """The server that the clients share; every variable has its default when a test begins."""
    peer = server_of_clients.log_in()
    changed = [line.split()[0] for line in peer.run("variables diff") if not line.startswith("OK ")]
    for name in changed:
        peer.run(f"variables reset {name}")
    peer.close()
    yield server_of_clients
    server_of_clients.close_peers()


class Screen:
    """A terminal of 100 columns and 45 rows with telnet in it."""

    def __init__(self, tmux: str, socket: Path, command: str) -> None:
        self._tmux = [tmux, "-S", str(socket), "-f", "/dev/null"]
        environment = {**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8"}
        environment.pop("TMUX", None)
        self._environment = environment
        self._run("new-session", "-d", "-x", "100", "-y", "45", command)
        self._run("set-option", "-g", "remain-on-exit", "on")

    def _run(self, *words: str) -> str:
        return subprocess.run(
            [*self._tmux, *words], capture_output=True, text=True, timeout=DEADLINE_S, check=True, env=self._environment
        ).stdout

    @property
    def text(self) -> str:
        """What stands on the screen, without the empty rows at its end."""
        return self._run("capture-pane", "-p", "-J").rstrip("\n")

    @property
    def last(self) -> str:
        """The row of the cursor, up to the cursor."""
        row, column = (int(each) for each in self._run("display-message", "-p", "#{cursor_y} #{cursor_x}").split())
        return self._run("capture-pane", "-p", "-S", str(row), "-E", str(row)).rstrip("\n").ljust(column)[:column]

    def type(self, *keys: str) -> None:
        """Press keys: texts, or names such as ``Enter``, ``Tab``, ``Up``, ``C-c``."""
        self._run("send-keys", *keys)

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until the screen is as it should be."""
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end, f"wanted {what!r} on:\n{self.text}"
            select.select([], [], [], 0.01)

    def shows(self, text: str) -> None:
        """Wait until the text stands on the screen."""
        self.wait(lambda: text in self.text, text)

    def stands_at(self, text: str) -> None:
        """Wait until the row of the cursor is exactly the text, with the cursor behind it."""
        self.wait(lambda: self.last == text, text)

    def run(self, line: str, answer: str, prompt: str = "callisto# ") -> None:
        """Type a line at the prompt, and wait for its answer and the next prompt."""
        self.type("-l", line)
        self.type("Enter")
        self.shows(answer)
        self.stands_at(prompt)

    def close(self) -> None:
        """End the terminal and what runs in it."""
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, check=False, env=self._environment)


@pytest.fixture
def screen(own_server: Server) -> Iterator[Screen]:
    """A terminal with telnet, logged in, at the prompt of the main menu."""
    tmux, telnet = need("tmux"), need("telnet")
    with tempfile.TemporaryDirectory(prefix="callisto-") as folder:  # a socket's path is short
        screen = Screen(tmux, Path(folder) / "s", f"{telnet} 127.0.0.1 {own_server.port}")
        try:
            screen.stands_at("callisto login: ")
            screen.type(NAME, "Enter")
            screen.stands_at("Password: ")
            screen.type("-l", PASSWORD)
            screen.type("Enter")
            screen.stands_at("callisto# ")
            yield screen
        finally:
            screen.close()
