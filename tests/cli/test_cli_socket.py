"""The local socket: who may use it, and what happens to whoever sends nonsense."""

from __future__ import annotations

import json
import os
import select
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from callisto_telnetd.listeners.local_client import MAX_FRAME_BYTES, call, connect
from tests.cli.conftest import Run, run_program
from tests.conftest import DEADLINE_S, NAME, PASSWORD, ROOT, Server, servers

CALLER = """
import json, socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
stream = peer.makefile()
print(stream.readline(), stream.readline())
"""


def _exchange(server: Server, *data: bytes) -> list[dict[str, object]]:
    """Send the bytes to the local socket, half-close, and return the frames that came back."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(DEADLINE_S)
        peer.connect(str(server.data / "run" / "control.sock"))
        try:
            for each in data:
                peer.sendall(each)
            peer.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server has closed already; what it said can still be read
        frames = []
        with peer.makefile("rb") as stream:
            while True:
                try:
                    line = stream.readline()
                except ConnectionResetError:
                    break
                if not line:
                    break
                frames.append(json.loads(line))
        return frames


def test_the_socket_is_the_owners_alone(own_server: Server) -> None:
    """The socket has mode 0600 in a folder of mode 0700."""
    path = own_server.data / "run" / "control.sock"

    assert stat.S_ISSOCK(path.stat().st_mode)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_an_answer_longer_than_a_frame_comes_whole(own_server: Server) -> None:
    """Nearly as many trace files as there may be are listed as JSON, in frames that everybody takes."""
    folder, text = own_server.data / "trace", own_server.data / "text"
    text.touch()
    names = [f"20250101-{at // 3600:02}{at // 60 % 60:02}{at % 60:02}-{'a' * 32}.log" for at in range(9_900)]
    try:
        for name in names:
            (folder / name).hardlink_to(text)
        asked = own_server.command("trace", "list", "--json")
        with connect(own_server.data / "run" / "control.sock") as peer, peer.makefile("rb") as stream:
            peer.sendall(b'{"words": ["trace", "list"], "json": true}\n')
            frames = list(stream)
    finally:
        for name in names:
            (folder / name).unlink(missing_ok=True)

    listed = [each["file"] for each in json.loads(asked.stdout)]  # those of other tests come last
    assert listed[: len(names)] == names
    assert max(map(len, frames)) < MAX_FRAME_BYTES
    assert len(frames) > 2
    assert json.loads(frames[-1]) == {"exit": 0}


@pytest.mark.long
def test_the_socket_goes_with_the_server(own_server: Server, tmp_path: Path) -> None:
    """A stopped server takes its socket away; what a killed one left behind is in nobody's way."""
    with servers(tmp_path) as start:
        server = start()
        path = server.data / "run" / "control.sock"
        server.kill()
        assert path.exists()
        assert server.command("variables", "set", "gWebTimeout", "32").stdout == "OK gWebTimeout = 32 (was 20)\n"
        again = start(data=server.data)
        assert "gWebTimeout = 32 *" in again.command("variables", "list").stdout
        again.stop()
        assert not path.exists()


def test_another_user_is_refused(unprivileged: tuple[str, ...], open_folder: Path) -> None:
    """A user who is neither owner nor root is refused by modes, and where these are open, by his credentials."""
    with servers(open_folder) as start:
        server = start()
        path = server.data / "run" / "control.sock"
        run_program("user", "list", data=server.data, before=unprivileged).require(1, err="ermission denied")

        for place, mode in ((server.data, 0o755), (path.parent, 0o755), (path, 0o666)):
            place.chmod(mode)
        called = subprocess.run(
            [*unprivileged, sys.executable, "-c", CALLER, str(path)],
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=True,
            cwd=ROOT,
        )
        frames = [json.loads(line) for line in called.stdout.splitlines() if line]

        assert frames == [{"err": "Error: only the owner of the data folder may use this socket"}, {"exit": 1}]
        run_program("user", "list", data=server.data, before=unprivileged).require(1, err="only the owner")
        assert server.command("user", "list").returncode == 0


@pytest.mark.parametrize(
    "request_line",
    [
        b"garbage\n",
        b"\xff\xfe\x00\n",
        b"\n",
        b"{}\n",
        b"[]\n",
        b"5\n",
        b'{"words": 5}\n',
        b'{"words": []}\n',
        b'{"words": [5]}\n',
        b'{"words": [null]}\n',
        b'{"words": [["user"]]}\n',
        b'{"words": ["user", "list"], "who": "root"}\n',
        b'{"words": ["variables", "import"], "input": 5}\n',
        b'{"words": ["user", "add", "x"], "secrets": {}}\n',
        b'{"words": ["user", "list"], "source": 5}\n',
        b'{"words": ["user", "list"], "source": "nowhere"}\n',
        b'{"words": ["web-login", "name=admin"], "secrets": ["Secret-123"]}\n',
        b'{"words": ["web-standing"], "json": true}\n',
        b'{"words": ["\\ud800"]}\n',
        json.dumps({"words": ["a"] * 100}).encode() + b"\n",
        b"[" * 100_000 + b"\n",
        b'{"words": ["' + b"x" * (2 << 20) + b'"]}\n',
        b"x" * (3 << 20),
        b'{"words": ["user", "list"]',
        b"",
    ],
    ids=range(25),
)
def test_what_is_no_request_is_refused(run: Run, own_server: Server, request_line: bytes) -> None:
    """Garbage, wrong types, huge and broken lines are answered with an error and exit 2; the server serves on."""
    frames = _exchange(own_server, request_line)

    assert frames == [] or (
        frames[-1] == {"exit": 2}
        and (str(frames[0].get("err")).startswith("Error: ") or '"error":' in str(frames[0]["out"]))
    )
    run("sessions", data=own_server.data).require(0)
    assert "unexpected error" not in own_server.log()


def test_a_stranger_at_the_web_is_few_records(own_server: Server) -> None:
    """What the web server asks for browsers that are not logged in is one record a source and second, with a count."""
    begun = time.monotonic()
    for _ in range(50):
        with connect(own_server.data / "run" / "control.sock") as connection:
            said: list[str] = []
            request = {"words": ["web-standing"], "source": "192.0.2.99"}
            assert call(connection, request, said.append, said.append, lambda *_: "") == 0
    lines: list[str] = []
    while sum(1 + int(line.partition("left_out=")[2] or "0") for line in lines) < 50:
        assert time.monotonic() < begun + DEADLINE_S, lines
        select.select([], [], [], 0.01)
        lines = [each for each in own_server.log().splitlines() if " command " in each and "192.0.2.99" in each]
    assert len(lines) <= 2 + (time.monotonic() - begun)


def test_a_browser_acts_as_the_account_of_its_session(own_server: Server) -> None:
    """Who acts in a browser is the account that has logged in there; a session that is none acts as nobody."""

    def ask(words: list[str], **rest: Any) -> tuple[int, list[str]]:
        said: list[str] = []
        with connect(own_server.data / "run" / "control.sock") as connection:
            request = {"words": words, "source": "192.0.2.7", **rest}
            return call(connection, request, said.append, said.append, lambda *_: ""), said

    code, said = ask(["web-login", f"name={NAME}"], json=True, secrets=[PASSWORD])
    entered = json.loads(said[0])
    assert code == 0
    assert ask(["variables", "set", "gWebTimeout", "33"], session=entered["session"])[0] == 0
    change = json.loads(own_server.command("variables", "history", "gWebTimeout", "--json").stdout)[-1]
    assert (change["who"], change["door"], change["source"]) == (NAME, "web", "192.0.2.7")

    refused = ask(["variables", "reset", "gWebTimeout"], session=999_999)
    assert refused == (1, ["Error: the session has ended; log in again"])
    own_server.command("variables", "reset", "gWebTimeout")
    assert ask(["web-logout", NAME, str(entered["session"])])[0] == 0
    assert ask(["variables", "reset", "gWebTimeout"], session=entered["session"]) == refused


@pytest.mark.parametrize("noise", [b"garbage\n", b"5\n", b"[]\n", b'{"answer": 5}\n', b"x" * (2 << 20) + b"\n", b""])
def test_noise_after_a_request_ends_what_is_watched(run: Run, own_server: Server, noise: bytes) -> None:
    """A caller who sends nonsense after his request, or half-closes, ends his own tail; nobody is left looking on."""
    frames = _exchange(own_server, b'{"words": ["trace", "tail"]}\n', noise)

    assert frames[-1].get("exit") == 0 or frames == []
    end = time.monotonic() + DEADLINE_S
    while run("information", "--json", data=own_server.data).facts["trace"]["viewers"]["count"]:
        assert time.monotonic() < end, "somebody is left listening"
    assert "unexpected error" not in own_server.log()


def test_a_stop_leaves_a_change_its_true_answer(run: Run, own_server: Server) -> None:
    """A stop, or a caller who goes, right behind the request: the change is told as it is; a question ends it."""
    change, stop = b'{"words": ["variables", "set", "gWebTimeout", "34"]}\n', b'{"stop": true}\n'
    stopped = _exchange(own_server, change + stop)
    again = _exchange(own_server, change)
    asked = _exchange(own_server, b'{"words": ["repair"], "terminal": true}\n' + stop)

    assert stopped == [{"out": "OK gWebTimeout = 34 (was 20)"}, {"exit": 0}]
    assert again[-1] == {"exit": 0}
    assert asked[1:] == [{"err": "Error: interrupted"}, {"exit": 1}]
    assert any("gWebTimeout = 34 *" in line for line in run("variables", "list", data=own_server.data).require(0).lines)
    run("variables", "reset", "gWebTimeout", data=own_server.data).require(0)


def test_a_caller_who_goes_takes_nothing_along(run: Run, own_server: Server) -> None:
    """Callers who connect and say nothing, or go in the middle, leave the server with as many descriptors as before."""
    run("sessions", data=own_server.data).require(0)
    count = len(os.listdir(f"/proc/{own_server.process.pid}/fd"))  # noqa: PTH208 - names are enough

    for data in (b"", b"{", b'{"words": ["information"]}\n') * 10:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(own_server.data / "run" / "control.sock"))
            peer.sendall(data)

    for _ in range(200):
        run("sessions", data=own_server.data).require(0)
        if len(os.listdir(f"/proc/{own_server.process.pid}/fd")) <= count:  # noqa: PTH208
            break
    else:
        pytest.fail("descriptors are left open")
    assert "unexpected error" not in own_server.log()


def test_too_many_callers_are_told(run: Run, own_server: Server) -> None:
    """Beyond 32 callers at once the next one is told to try again, and is served once they have gone."""
    held = []
    try:
        for _ in range(32):
            peer = socket.socket(socket.AF_UNIX)
            peer.connect(str(own_server.data / "run" / "control.sock"))
            held.append(peer)
        run("sessions", data=own_server.data).require(1, err="too many commands at once; try again")
    finally:
        for peer in held:
            peer.close()
    for _ in range(200):
        if run("sessions", data=own_server.data).code == 0:
            return
    pytest.fail("still refused")
