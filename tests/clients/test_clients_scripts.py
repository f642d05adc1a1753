"""Scripts as people write them: expect, pexpect, netmiko, Python's telnetlib, netcat, and loops over a bare socket."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import netmiko
import pexpect
import pytest

from tests.clients.conftest import need
from tests.conftest import DEADLINE_S, NAME, PASSWORD, PROMPT, Server

EXPECT = r"""
set timeout 15
proc wanted {what} {
    puts "\nwanted: $what"
    exit 3
}
proc await {pattern} {
    expect {
        -ex $pattern { return }
        timeout { wanted $pattern }
        eof { wanted $pattern }
    }
}
spawn telnet 127.0.0.1 [lindex $argv 0]
await "login: "
send "admin\r"
await "Password: "
send "[lindex $argv 1]\r"
await "# "
send "variables set gWebTimeout 31\r"
await "OK gWebTimeout = 31 (was 20)\r\n"
await "# "
send "3\r"
await "(variables)# "
send "set gWebTimeout abc\r"
expect {
    -re {\nError: [^\r]+\r\n} { }
    -re {\nOK [^\r]+\r\n} { wanted "an error" }
    timeout { wanted "an answer" }
}
await "(variables)# "
send "set gRecordVolume 401\r"
expect {
    -re {OK ([^\r]+)\r\n} { puts "\nset: $expect_out(1,string)" }
    timeout { wanted "an answer" }
}
await "(variables)# "
send "logout\r"
expect {
    eof { }
    timeout { wanted "the end" }
}
"""


def test_an_expect_script(own_server: Server, tmp_path: Path) -> None:
    """An expect(1) script with its usual prompts drives telnet from log-in to logout."""
    need("telnet")
    script = tmp_path / "script.exp"
    script.write_text(EXPECT)

    ended = subprocess.run(
        [need("expect"), str(script), str(own_server.port), PASSWORD],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "set: gRecordVolume = 401 (was 400)" in ended.stdout
    assert "OK logged out" in ended.stdout
    assert PASSWORD not in ended.stdout


def test_an_expect_script_is_refused(start: Any, tmp_path: Path) -> None:
    """Wrong passwords end in Login incorrect and, after three, in the end of the connection."""
    need("telnet")
    server: Server = start()
    script = tmp_path / "script.exp"
    script.write_text(
        "set timeout 15\nspawn telnet 127.0.0.1 [lindex $argv 0]\n"
        'for {set i 0} {$i < 3} {incr i} {\nexpect "login: "\nsend "admin\\r"\nexpect "Password: "\nsend "wrong\\r"\n'
        'expect {\n"Login incorrect" { }\ntimeout { exit 3 }\n}\n}\n'
        "expect {\neof { exit 0 }\ntimeout { exit 4 }\n}\n"
    )

    ended = subprocess.run(
        [need("expect"), str(script), str(server.port)], capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 0, ended.stdout


def _spawn_telnet(server: Server) -> Any:
    """Start telnet at a terminal of its own, logged in, before the first prompt."""
    child = pexpect.spawn(
        need("telnet"), ["127.0.0.1", str(server.port)], encoding="utf-8", timeout=DEADLINE_S, dimensions=(40, 120)
    )
    child.expect_exact("login: ")
    child.sendline(NAME)
    child.expect_exact("Password: ")
    child.sendline(PASSWORD)
    return child


def test_pexpect_drives_telnet(own_server: Server) -> None:
    """Pexpect sees plain text: the echo is what was typed, the answer follows, and no escape sequence at all."""
    child = _spawn_telnet(own_server)
    seen = child.before
    for line, answer in (
        ("variables set gWebTimeout 33", "OK gWebTimeout = 33 (was 20)"),
        ("variables show gWebTimeout", "OK gWebTimeout = 33"),
        ("variables set gWebTimeout 9999", "Error: gWebTimeout: '9999' is not"),
    ):
        child.expect_exact("callisto# ")
        child.sendline(line)
        child.expect(r"(OK|Error: ).*\r\n")
        assert child.after.startswith(answer)
        assert child.before.startswith(line + "\r\n")
        seen += child.before + child.after
    child.expect_exact("callisto# ")
    child.sendline("3")
    child.expect_exact("callisto(variables)# ")
    child.sendline("17")
    child.expect_exact("New value [33]: ")
    child.sendline("")
    child.expect_exact("OK gWebTimeout = 33 (unchanged)")
    child.expect_exact("callisto(variables)# ")
    child.sendcontrol("]")
    child.expect_exact("telnet> ")
    child.sendline("send synch")  # urgent data
    child.sendline("whoami")
    child.expect_exact("OK admin from 127.0.0.1 (telnet)")
    child.expect_exact("callisto(variables)# ")
    child.sendline("logout")
    child.expect(pexpect.EOF)
    seen += child.before
    child.close()

    assert "\x1b" not in seen
    assert PASSWORD not in seen
    assert child.exitstatus in (0, 1)  # inetutils-telnet exits 1 where the other side closes


def test_pexpect_interrupts_a_trace(own_server: Server) -> None:
    """Ctrl-C through telnet ends a live trace, which is saved; the prompt follows."""
    child = _spawn_telnet(own_server)
    child.expect_exact("callisto# ")
    child.sendline("trace note=from pexpect")
    child.expect_exact("Live records follow")
    child.sendintr()
    child.expect(r"OK trace saved to (\S+), ")
    name = child.match.group(1)
    child.expect_exact("callisto# ")
    child.sendline(f"trace show {name}")
    child.expect_exact("; note: from pexpect")
    child.expect_exact("callisto# ")
    child.close(force=True)


def _connect_netmiko(server: Server, password: str = PASSWORD) -> Any:
    """Connect with netmiko's generic Telnet driver, which leaves the log-in to the script."""
    return netmiko.ConnectHandler(
        device_type="generic_telnet",
        host="127.0.0.1",
        port=server.port,
        username=NAME,
        password=password,
        global_cmd_verify=False,
    )


def test_netmiko_sends_commands(own_server: Server) -> None:
    """Netmiko's generic Telnet driver logs in, finds the prompt, and gets each answer whole."""
    with _connect_netmiko(own_server) as device:
        device.std_login()
        device.set_base_prompt(pri_prompt_terminator="#")
        assert device.find_prompt() == "callisto#"
        assert device.send_command("variables set gWebTimeout 34").strip() == "OK gWebTimeout = 34 (was 20)"
        listed = device.send_command("variables list")
        assert "gWebTimeout = 34 *" in listed
        assert listed.splitlines()[-1] == "OK 17 variables"
        assert device.send_command("variables set gWebTimeout many").strip().startswith("Error: gWebTimeout: 'many'")
        assert device.send_command("information").splitlines()[-1] == "OK 9 sections"


@pytest.mark.long
def test_netmiko_tells_a_wrong_password(start: Any) -> None:
    """Netmiko raises its authentication error on a wrong password."""
    server: Server = start()

    with _connect_netmiko(server, "Wrong-1234") as device, pytest.raises(netmiko.NetmikoAuthenticationException):
        device.std_login()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_telnetlib_reads_until_prompts(own_server: Server, end: bytes) -> None:
    """Python's telnetlib, which refuses every option, reads until ``# `` and gets the answers with any line end."""
    if sys.version_info >= (3, 13):
        pytest.skip("Python 3.13 has no telnetlib any more")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        telnetlib: Any = importlib.import_module("telnetlib")
    with telnetlib.Telnet("127.0.0.1", own_server.port, DEADLINE_S) as client:
        client.read_until(b"login: ", DEADLINE_S)
        client.write(NAME.encode() + end)
        client.read_until(b"Password: ", DEADLINE_S)
        client.write(PASSWORD.encode() + end)
        assert client.read_until(b"# ", DEADLINE_S).endswith(b"\r\ncallisto# ")
        client.write(b"variables set gWebTimeout 35" + end)
        answer = client.read_until(b"# ", DEADLINE_S)
        client.write(b"logout" + end)
        rest = client.read_all()

    assert answer == b"\r\nOK gWebTimeout = 35 (was 20)\r\ncallisto# "
    assert rest == b"\r\nOK logged out\r\n"


NETCAT = (
    f"{NAME}\n{PASSWORD}\nvariables set gWebTimeout 36\nvariables set gWebTimeout 37\n3\nshow gWebTimeout\n"
    "set gWebTimeout 38\nset gWebTimeout abc\n"
)


@pytest.mark.parametrize(("words", "last"), [(("-N",), ""), ((), "logout\n")], ids=["half-closed", "logged out"])
def test_netcat_pipes_commands(own_server: Server, words: tuple[str, ...], last: str) -> None:
    """``printf … | nc`` answers no option: its commands all run in order, all output comes, then the server closes."""
    ended = subprocess.run(
        [need("nc"), *words, "127.0.0.1", str(own_server.port)],
        input=(NETCAT + last).encode(),
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )

    done = [line for line in ended.stdout.decode("latin-1").split("\r\n") if line.startswith(("OK ", "Error: "))]
    assert ended.returncode == 0
    assert done == [
        "OK gWebTimeout = 36 (was 20)",
        "OK gWebTimeout = 37 (was 36)",
        "OK variables menu",
        "OK gWebTimeout = 37",
        "OK gWebTimeout = 38 (was 37)",
        "Error: gWebTimeout: 'abc' is not a whole number of minutes from 0 to 1440",
        *(["OK logged out"] if last else []),
    ]
    assert b"\r\ncallisto# \r\nOK gWebTimeout" in ended.stdout
    assert PASSWORD.encode() not in ended.stdout
    assert own_server.log_in().run("variables list gWebTimeout")[0] == "gWebTimeout = 38 *"


def test_netcat_that_only_listens_sees_the_prompt(own_server: Server) -> None:
    """A netcat that sends nothing gets banner and login prompt, and the end of its input closes the connection."""
    ended = subprocess.run(
        [need("nc"), "-N", "127.0.0.1", str(own_server.port)],
        input=b"",
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
    )

    assert b"callisto login: " in ended.stdout


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n", b"\r\0"], ids=["CR", "LF", "CR LF", "CR NUL"])
@pytest.mark.parametrize("ahead", [True, False], ids=["typed ahead", "one by one"])
def test_lines_end_in_any_of_four_ways(own_server: Server, end: bytes, ahead: bool) -> None:
    """Log-in and a loop of commands work with each line end, one command at a time or all at once, each run once."""
    peer = own_server.connect()
    lines = [b"variables set gMaxForwardNumberLen %d" % number for number in range(50, 70)]
    if ahead:
        peer.send(end.join([NAME.encode(), PASSWORD.encode(), *lines, b"logout", b""]))
        text = peer.expect_closed()
    else:
        peer.expect(b"login: ")
        peer.send(NAME.encode() + end).expect(b"Password: ")
        text = peer.send(PASSWORD.encode() + end).expect(PROMPT)
        for line in (*lines, b""):
            text += peer.send(line + end).expect(PROMPT)
        text += peer.send(b"logout" + end).expect_closed()

    answers = [line for line in text.split(b"\r\n") if b"OK gMax" in line]
    was = [b"100", *(b"%d" % number for number in range(50, 69))]
    assert answers == [
        b"OK gMaxForwardNumberLen = %d (was %s)" % (number, before)
        for number, before in zip(range(50, 70), was, strict=True)
    ]
    assert b"OK logged out\r\n" in text
    assert b"Error" not in text
