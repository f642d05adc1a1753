"""The recipes of the documents, run as they are printed, and clients that behave as other programs do."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import need
from tests.conftest import DEADLINE_S, DO, DONT, ECHO, IAC, NAME, PASSWORD, ROOT, WILL, WONT, Server

OPERATORS = ROOT / "docs" / "operators.md"


def recipes(heading: str) -> list[str]:
    """Return the blocks of code below a heading of docs/operators.md."""
    section = re.split(r"\n##+ ", OPERATORS.read_text(encoding="utf-8").partition(f"\n### {heading}\n")[2])[0]
    return re.findall(r"\n```\w*\n(.*?)```\n", section, re.DOTALL)


def run(
    server: Server, *words: str, text: str = "", password: str = PASSWORD, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a program with the password where the documents have it."""
    return subprocess.run(
        words,
        input=text.replace("127.0.0.1/2323", f"127.0.0.1/{server.port}").replace(" 2323", f" {server.port}"),
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "TERM": "xterm", "APPLIANCE_PASSWORD": password, **variables},
    )


def test_pexpect_sets_variables(own_server: Server) -> None:
    """The recipe for pexpect prints what the page says that it prints."""
    need("telnet")
    script, printed = recipes("Python with pexpect")
    ended = run(own_server, sys.executable, "-", text=script)

    assert (ended.stdout, ended.stderr, ended.returncode) == (printed, "", 0)
    refused = run(own_server, sys.executable, "-", text=script, password="Wrong-1234")
    assert (refused.returncode, refused.stderr) == (1, "the password is wrong\n")


def test_bash_alone_sets_a_variable(own_server: Server, tmp_path: Path) -> None:
    """The script over /dev/tcp has the exit codes of its first lines: done, refused, no answer, wrong password."""
    [script] = recipes("Bash alone")
    bash = need("bash")

    done = run(own_server, bash, "-s", "gWebTimeout", "31", text=script)
    assert (done.stdout, done.stderr, done.returncode) == ("OK gWebTimeout = 31 (was 20)\n", "", 0)
    refused = run(own_server, bash, "-s", "gWebTimeout", "x", text=script)
    assert refused.stderr.startswith("Error: gWebTimeout: 'x' is not a whole number of minutes")
    assert refused.returncode == 1
    wrong = run(own_server, bash, "-s", "gWebTimeout", "32", text=script, password="Wrong-1234")
    assert (wrong.stdout, wrong.stderr, wrong.returncode) == ("", "Login incorrect\n", 3)
    assert own_server.log_in().run("variables list gWebTimeout")[0] == "gWebTimeout = 31 *"
    nobody = run(own_server, bash, "-s", "gWebTimeout", "31", text=script.replace("2323", "1"))
    assert nobody.returncode == 2


def test_a_file_leaves_the_box_by_netcat(own_server: Server, tmp_path: Path) -> None:
    """What netcat brings away is the trace file, to the byte."""
    need("nc")
    [recipe] = recipes("A file leaves the box")
    peer = own_server.log_in()
    saved = peer.run("trace records=1 before=1m note=käse")[-1]
    file = saved.removeprefix("OK trace saved to ").partition(",")[0]
    copy = tmp_path / file
    ended = run(
        own_server, need("bash"), "-ec", f"cd {tmp_path}\n" + recipe.replace(" 2323", f" {own_server.port}"), FILE=file
    )

    assert (ended.stderr, ended.returncode) == ("", 0)
    assert copy.read_bytes() == (own_server.data / "trace" / file).read_bytes()


def test_a_wrong_password_in_a_pipe_runs_no_command(start: Any) -> None:
    """The lines behind it are taken for names and passwords, and the end of the input ends the connection at once."""
    server: Server = start()
    lines = f"{NAME}\nWrong-1234\nvariables set gWebTimeout 36\nwhoami\n"
    ended = run(server, need("nc"), "-N", "127.0.0.1", str(server.port), text=lines)

    assert ended.stdout.count("Login incorrect") == 2
    assert not re.search(r"^(OK|Error)", ended.stdout, re.MULTILINE)
    peer = server.log_in()
    assert peer.run("variables diff") == ["OK 0 variables not at the default"]
    denied = [line for line in peer.run("audit") if "access denied" in line]
    assert len(denied) == 2
    assert not any("gWebTimeout" in line for line in denied)


def test_a_client_as_ansible_has_it(own_server: Server) -> None:
    """Ansible's module waits for its prompts as patterns, ends lines with LF, and closes with exit by itself."""
    if sys.version_info >= (3, 13):
        pytest.skip("Python 3.13 has no telnetlib any more")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        telnetlib: Any = importlib.import_module("telnetlib")
    with telnetlib.Telnet("127.0.0.1", own_server.port, DEADLINE_S) as client:
        answers = []
        for prompt, line in (
            (b"login: ", NAME.encode()),
            (b"Password: ", PASSWORD.encode()),
            (b"# ", b"variables set gWebTimeout 33"),
            (b"# ", b"variables list gWebTimeout"),
            (b"# ", b"exit"),
        ):
            index, _, text = client.expect([prompt], DEADLINE_S)
            assert index == 0
            answers.append(text.decode())
            client.write(line + b"\n")
        rest = client.read_all().decode()

    assert answers[3].splitlines() == ["", "OK gWebTimeout = 33 (was 20)", "callisto# "]
    assert answers[4].splitlines() == ["", "gWebTimeout = 33 *", "OK 1 variable", "callisto# "]
    assert rest == "\r\nOK logged out\r\n"


def test_a_client_as_scrapli_is(own_server: Server) -> None:
    """It agrees to every offer, refuses every request, waits for the echo of its line, then for its prompt pattern."""
    prompt = re.compile(rb"^\S{0,48}[#>$~@:\]]\s*$", re.MULTILINE | re.IGNORECASE)  # scrapli's generic driver
    peer = own_server.connect()
    offers = re.findall(IAC + rb"([\xfb-\xfe])(.)", peer.expect(re.compile(rb"^.*login:\s?$", re.MULTILINE)), re.DOTALL)
    for command, option in offers:
        answer = {WILL: DO, WONT: DONT}.get(command, WONT)
        peer.send(IAC + answer + option)
    assert (WILL, ECHO) in offers
    peer.send(NAME + "\n").expect(re.compile(rb"^.*password:\s?$", re.MULTILINE | re.IGNORECASE))
    peer.send(PASSWORD + "\n").expect(prompt)
    for line, lines in (
        ("variables set gWebTimeout 34", ["OK gWebTimeout = 34 (was 20)"]),
        ("variables list gWeb*", ["gWebServerRestart =", "gWebTimeout = 34 *", "OK 2 variables"]),
    ):
        assert peer.send(line).expect(line.encode()) == line.encode()
        assert peer.send("\n").expect(prompt).decode().splitlines() == ["", *lines, "callisto# "]
