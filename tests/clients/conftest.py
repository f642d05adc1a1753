"""Real client programs against the real server; each machine runs those that it has."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.conftest import Server, servers


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
