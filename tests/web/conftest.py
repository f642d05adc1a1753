"""The real web server as a process of its own beside a real server, and a browser of few words."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.conftest import DEADLINE_S, NAME, PASSWORD, ROOT, Server, servers
from tests.programs import ProductProcess


@dataclass(frozen=True)
class Answer:
    """What came back for a request."""

    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def facts(self) -> Any:
        """The text as JSON."""
        return json.loads(self.text)


@dataclass
class Browser:
    """Asks from an address of this machine, and keeps its cookie."""

    port: int
    source: str = "127.0.0.1"
    cookie: str = ""
    own: Mapping[str, str] = field(default_factory=dict)

    def ask(
        self, method: str, path: str, *, body: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request on a connection of its own; forms say where they come from, as browsers do."""
        host = f"127.0.0.1:{self.port}"
        sent = {"Host": host}
        if method == "POST":
            sent |= {"Origin": f"http://{host}", "Content-Type": "application/x-www-form-urlencoded"}
        if self.cookie:
            sent["Cookie"] = self.cookie
        sent |= headers or {}
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=DEADLINE_S, source_address=(self.source, 0)
        )
        with contextlib.closing(connection):
            connection.request(method, path, body, {name: value for name, value in sent.items() if value})
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read().decode())
        if given := answer.headers.get("Set-Cookie"):
            self.cookie = given.partition(";")[0]
        return answer

    def get(self, path: str = "/") -> Answer:
        """Ask for a page."""
        return self.ask("GET", path)

    def log_in(self, name: str = NAME, password: str = PASSWORD, **rest: Any) -> Answer:
        """Send the login window's form."""
        return self.ask("POST", "/login", body=urlencode({"name": name, "password": password}), **rest)

    def log_out(self) -> Answer:
        """Press the button."""
        return self.ask("POST", "/logout", body="")


class Web:
    """``python -m callisto_telnetd.web`` in a process of its own, on a free port."""

    def __init__(self, data: Path, *arguments: str) -> None:
        self._log = data.parent / f"{data.name}.web.log"
        with self._log.open("ab") as log:
            self.process = ProductProcess(
                [sys.executable, "-m", "callisto_telnetd.web", "--data", str(data), "--port", "0", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
            )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE_S)
        line = self.process.stdout.readline().decode() if ready else ""
        assert line.startswith("web-server: listening on 127.0.0.1:"), f"{line!r} {self.log()}"
        self.port = int(line.rpartition(":")[2])

    def browser(self, source: str = "127.0.0.1") -> Browser:
        """Return a browser without a cookie."""
        return Browser(self.port, source)

    def wait_status(self, status: int, path: str = "/health") -> Answer:
        """Ask until the answer has that status."""
        end = time.monotonic() + DEADLINE_S
        while (answer := self.browser().get(path)).status != status:
            assert time.monotonic() < end, answer
        return answer

    def log(self) -> str:
        """Return what was written to stderr."""
        return self._log.read_text()

    def wait_log(self, text: str) -> str:
        """Wait until the log holds the text, and return the log."""
        end = time.monotonic() + DEADLINE_S
        while text not in (log := self.log()):
            assert time.monotonic() < end, f"the log has no {text!r}: {log}"
            select.select([], [], [], 0.01)
        return log

    def stop(self, number: signal.Signals = signal.SIGTERM, deadline_s: float = DEADLINE_S) -> int:
        """Stop by a signal and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(deadline_s)
        finally:
            if self.process.poll() is not None and self.process.stdout is not None:
                self.process.stdout.close()


StartWeb = Callable[..., Web]


@contextlib.contextmanager
def webs() -> Iterator[StartWeb]:
    """Give a function that starts web servers; all of them are ended with the block."""
    started: list[Web] = []

    def start(data: Path, *arguments: str) -> Web:
        web = Web(data, *arguments)
        started.append(web)
        return web

    try:
        yield start
    finally:
        for web in started:
            web.stop(signal.SIGKILL)


@pytest.fixture
def start_web() -> Iterator[StartWeb]:
    """Start web servers of one's own: ``start_web(data, *arguments)``."""
    with webs() as start:
        yield start


@pytest.fixture(scope="session")
def web_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that the shared web server asks."""
    with servers(tmp_path_factory.mktemp("web")) as start:
        yield start()


@pytest.fixture(scope="session")
def web(web_server: Server) -> Iterator[Web]:
    """One web server that cheap tests share; failures belong on an address of the test's own (127.0.0.x)."""
    with webs() as start:
        yield start(web_server.data)


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - names are enough
