"""Repair Database beside a real web server: it goes, and comes back whatever happens."""

from __future__ import annotations

import http.client
import json
import select
import socket
import time
from contextlib import closing

import pytest

from callisto_telnetd.services.strays import start_ticks
from tests.conftest import DEADLINE_S, Server, StartServer


@pytest.fixture
def web_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def box(start: StartServer, web_port: int) -> Server:
    """An appliance whose web server runs, as it does unless it is switched off."""
    environment = {
        "CALLISTO_SERVICES__WEB_SERVER__ENABLED": "true",
        "CALLISTO_SERVICES__WEB_SERVER__PORT": str(web_port),
    }
    server = start(environment=environment)
    wait_for(server, "running")
    return server


def web_server(server: Server) -> dict[str, object]:
    """Return what ``services list --json`` says of it."""
    found: list[dict[str, object]] = json.loads(server.command("services", "list", "--json").stdout)
    return next(each for each in found if each["name"] == "web-server")


def wait_for(server: Server, state: str) -> int:
    """Wait until the web server is in the state, and return its pid; 0 where it has none."""
    end = time.monotonic() + DEADLINE_S
    while (found := web_server(server))["state"] != state:
        assert time.monotonic() < end, found
    return int(str(found["pid"] or 0))


def answers(port: int) -> bool:
    """Return whether the health page says that all is well."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    with closing(connection):
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except ConnectionError:
            return False


def wait_gone(pid: int) -> None:
    """Wait until the process does not run."""
    end = time.monotonic() + DEADLINE_S
    while start_ticks(pid) is not None:
        assert time.monotonic() < end, pid
        select.select([], [], [], 0.01)


@pytest.mark.long
def test_it_goes_for_a_repair_and_comes_back(box: Server, web_port: int) -> None:
    """Another process serves the pages afterwards, also where the session that began the repair is gone."""
    pids = [wait_for(box, "running")]
    assert answers(web_port)
    assert box.log_in().run("repair yes")[-1].startswith("OK database is sound")
    pids.append(wait_for(box, "running"))
    assert answers(web_port)
    peer = box.log_in()
    peer.send("repair yes\r\n").expect(b"Stopping services")
    peer.close()
    wait_gone(pids[-1])
    pids.append(wait_for(box, "running"))

    assert answers(web_port)
    assert len(set(pids)) == 3


@pytest.mark.long
@pytest.mark.parametrize("step", [b"Checking", b"Stopping services"])
def test_it_comes_back_after_a_kill_in_the_middle(box: Server, start: StartServer, web_port: int, step: bytes) -> None:
    """Kill -9 of the server: what it left of the web server ends, and the next start serves the pages again."""
    before = wait_for(box, "running")
    box.log_in().send("repair yes\r\n").expect(step)
    box.kill()
    again = start(data=box.data, environment=box.environment)
    wait_gone(before)

    assert wait_for(again, "running") != before
    assert answers(web_port)


@pytest.mark.long
def test_one_that_was_stopped_stays_so(box: Server, web_port: int) -> None:
    """Who has stopped it by hand finds it stopped after a repair."""
    peer = box.log_in()
    assert peer.run("services stop web-server")[-1].startswith("OK web-server stopped")
    assert peer.run("repair yes")[-1].startswith("OK database is sound")

    assert web_server(box)["state"] == "stopped"
    assert not answers(web_port)
    assert peer.run("services start web-server")[-1].startswith("OK web-server started")
    wait_for(box, "running")
