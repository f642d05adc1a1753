"""The command line, run two ways: inside this process (quick), and as a program of its own (signals, pipes, users)."""

from __future__ import annotations

import asyncio
import functools
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from callisto_telnetd import cli
from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.db.store import open_store
from tests import programs
from tests.conftest import DEADLINE_S, ROOT, Server, servers

NOBODY = 65_534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of standard output."""
        return self.out.splitlines()

    @property
    def facts(self) -> Any:
        """Standard output as one JSON document."""
        return json.loads(self.out)

    def require(self, code: int, *, err: str = "") -> Outcome:
        """Check the exit code, and that standard error is at most one line that holds ``err``, and no traceback."""
        assert self.code == code, self
        assert len(self.err.splitlines()) <= (1 if err else 0), self.err
        assert err in self.err
        return self


Run = Callable[..., Outcome]
made_once = functools.cache(get_command)
"""The commands as typer makes them at each call of the program, which takes 10 ms."""


def run_program(
    *words: str,
    data: Path | None = None,
    text: str = "",
    environment: Mapping[str, str] | None = None,
    before: tuple[str, ...] = (),
) -> Outcome:
    """Run the command line as a program of its own; ``before`` is the program that starts it."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("CALLISTO_")}
    own |= {"PYTHONDONTWRITEBYTECODE": "1", **(environment or {})}
    place = () if data is None else ("--data", str(data))
    command = [*before, sys.executable, "-m", "callisto_telnetd", *words, *place]
    ended = programs.run(command, given=text, environment=own, deadline_s=DEADLINE_S)
    return Outcome(ended.returncode, ended.stdout, ended.stderr)


def make_appliance(path: Path) -> Path:
    """Make an appliance without an account, as ``serve`` would, and return its folder."""

    async def make() -> None:
        async with open_store(folder.database):
            pass

    folder = DataFolder(path)
    folder.make()
    with folder.lock():
        asyncio.run(make())
    return path


def tree_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Return every part of a folder with its mode and, of files, the bytes."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run the command line in this process: ``run("variables", "list", data=…, text=…)``."""
    for name in [name for name in os.environ if name.startswith("CALLISTO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("typer.main.get_command", made_once)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run_here(*words: str, data: Path | None = None, text: str | bytes = "") -> Outcome:
        place = [] if data is None else ["--data", str(data)]
        given = text if isinstance(text, bytes) else text.encode()
        monkeypatch.setattr(sys, "argv", ["callisto-telnetd", *words, *place])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), encoding="utf-8"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), out, err)

    yield run_here
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.fixture(scope="session")
def server_of_commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The one server of this folder's tests; ask for ``own_server``."""
    with servers(tmp_path_factory.mktemp("beside")) as start:
        yield start(environment={"CALLISTO_LOG__LEVEL": "debug"})


@pytest.fixture
def own_server(server_of_commands: Server) -> Iterator[Server]:
    """The server that the tests of the command line share; they may change its variables and accounts."""
    yield server_of_commands
    server_of_commands.close_peers()


@pytest.fixture(params=["beside", "without"])
def appliance(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A data folder beside whose running server commands work, and one that no server runs on."""
    if request.param == "beside":
        server: Server = request.getfixturevalue("own_server")
        return server.data
    return make_appliance(tmp_path / "data")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that users other than root can reach; pytest's own are closed to them."""
    folder = Path(tempfile.mkdtemp(prefix="callisto-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def unprivileged() -> tuple[str, ...]:
    """The words before a command that run it as ``nobody``; skips where that cannot be done."""
    if os.geteuid() != 0:
        pytest.skip("only root can run a command as another user")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv (util-linux) is not installed")
    tried = subprocess.run(
        [*AS_NOBODY, sys.executable, "-c", "import callisto_telnetd.cli"], cwd=ROOT, capture_output=True, check=False
    )
    if tried.returncode:
        pytest.skip("nobody cannot read this Python or this checkout")
    return AS_NOBODY
