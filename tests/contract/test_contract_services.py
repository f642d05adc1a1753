from __future__ import annotations

import json
import re
import select
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from callisto_telnetd.assembly import require_settings
from callisto_telnetd.errors import SettingsError
from callisto_telnetd.services.recipe import services_of, web_server_words
from callisto_telnetd.services.strays import start_ticks
from callisto_telnetd.settings import load_settings
from tests.conftest import DEADLINE_S, DO, ECHO, IAC, NAME, PASSWORD, Server, StartServer, servers

SETTINGS = """
[services.ticker]
command = ["sh", "-c", "echo ticking; exec sleep 1000"]
[services.broken]
command = "/no/such/program"
"""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a service that runs and one that cannot."""
    with servers(tmp_path_factory.mktemp("services")) as start:
        server = start(SETTINGS)
        wait_for(server, "broken", "failed")
        wait_for(server, "ticker", "running")
        yield server


def listing(server: Server) -> dict[str, dict[str, object]]:
    """Return what ``services list --json`` says, by name."""
    outcome = server.command("services", "list", "--json")
    assert outcome.returncode == 0, outcome.stderr
    return {each["name"]: each for each in json.loads(outcome.stdout)}


def wait_for(server: Server, name: str, state: str) -> dict[str, object]:
    """Wait until the service is in the state."""
    end = time.monotonic() + DEADLINE_S
    while (found := listing(server)[name])["state"] != state:
        assert time.monotonic() < end, found
    return found


def wait_gone(pids: list[int]) -> None:
    """Wait until none of the processes runs."""
    end = time.monotonic() + DEADLINE_S
    while any(start_ticks(pid) is not None for pid in pids):
        assert time.monotonic() < end, pids
        select.select([], [], [], 0.01)


def test_the_list_by_telnet(box: Server) -> None:
    """Built-in services and the owner's are listed with their state and its reason."""
    lines = box.log_in().run("services list")
    box.close_peers()

    assert lines[-1] == "OK 4 services"
    assert [line.split()[0] for line in lines[-5:-1]] == ["web-server", "coc-proxy", "ticker", "broken"]
    assert lines[-5].endswith("  off")
    assert lines[-4].endswith("  not set up")
    assert re.search(r"  running(, last exit: .+)?$", lines[-3])
    failed = "(its command '/no/such/program' cannot be run: No such file or directory)"
    assert re.search(r"  failed, next start in \d+ s " + re.escape(failed), lines[-2])


def test_stop_start_restart_and_log(box: Server) -> None:
    """Each is answered with one line that says what is so now, and the log shows what the service has said."""
    peer = box.log_in()
    assert peer.run("services stop ticker")[-1] == "OK ticker stopped, killed by SIGTERM (Terminated)"
    assert peer.run("services stop ticker")[-1] == "Error: ticker does not run: it is stopped"
    started = peer.run("services start ticker")[-1]
    assert re.fullmatch(r"OK ticker started, pid \d+", started)
    assert peer.run("services start ticker")[-1] == f"Error: ticker runs already, {started.rpartition(', ')[2]}"
    restarted = box.command("services", "restart", "ticker")
    assert re.fullmatch(r"OK ticker restarted, pid \d+\n", restarted.stdout)
    end = time.monotonic() + DEADLINE_S
    while len(lines := peer.run("services log ticker 2")) < 3:
        assert time.monotonic() < end, lines
    orders = [line.partition("service ")[2] for line in peer.run("audit 10") if " service " in line]
    box.close_peers()

    assert [order.split()[0] for order in orders[-3:]] == ["stopped", "started", "restarted"]
    assert all("ticker" in order for order in orders[-3:])
    assert lines[-1] == "OK 2 records"
    assert all(line.endswith(" INFO ticking") for line in lines[-3:-1])


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        ("start nobody", "no service named 'nobody'; there are web-server, coc-proxy, ticker and broken", 2),
        ("log nobody", "no service named 'nobody'; there are web-server, coc-proxy, ticker and broken", 2),
        ("start broken", "broken cannot be started: its command '/no/such/program' cannot be run: No such file", 1),
        ("start coc-proxy", "coc-proxy is not set up: services.coc-proxy.command names its program", 1),
        ("restart web-server", "web-server does not run: it is off", 1),
        ("start", "usage: services start NAME", 2),
        ("log ticker 0", "LINES: '0' is not a whole number from 1 to 1000", 2),
    ],
)
def test_what_is_refused(box: Server, words: str, said: str, code: int) -> None:
    """One line says what is wrong, and what there is."""
    outcome = box.command("services", *words.split())

    assert outcome.returncode == code
    assert said in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


def test_names_are_completed(box: Server) -> None:
    """Tab completes the name of a service."""
    peer = box.log_in()
    peer.send(IAC + DO + ECHO + b"services restart ti\t").expect(b"cker ")
    box.close_peers()


def test_information_shows_the_services(box: Server) -> None:
    """System Information's processes have the services with their states."""
    lines = box.command("information").stdout.splitlines()

    assert "web-server: off" in lines
    assert any(re.fullmatch(r"ticker: pid \d+, running, .+, up \d+ s", line) for line in lines)


def _status(address: str, host: str) -> int:
    """Return the status of the style sheet where it is asked for by that name."""
    asked = urllib.request.Request(f"{address}static/callisto.css", headers={"Host": host})
    try:
        with urllib.request.urlopen(asked, timeout=DEADLINE_S) as page:
            return int(page.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def test_the_web_server_may_take_a_free_port(start: StartServer) -> None:
    """A line on stdout and the lists say which one; a restart keeps it, and asks where people are on by the web.

    Its names and proxies are those of the settings, and the appliance's own name.
    """
    own = {
        "CALLISTO_SERVICES__WEB_SERVER__ENABLED": "true",
        "CALLISTO_SERVICES__WEB_SERVER__PORT": "0",
        "CALLISTO_SERVICES__WEB_SERVER__NAMES": "pbx.example.com, [2001:db8::1]",
        "CALLISTO_SERVICES__WEB_SERVER__PROXIES": "192.0.2.0/24,127.0.0.1",
    }
    server = start(environment=own, listeners=2)
    match = re.fullmatch(
        r"callisto-telnetd: web listening on (http://127\.0\.0\.1:[1-9][0-9]*/)", server.ready_lines[1]
    )
    assert match, server.ready_lines
    address = match[1]
    peer = server.log_in()
    form = urllib.parse.urlencode({"name": NAME, "password": PASSWORD}).encode()
    said = {"Origin": address.rstrip("/"), "X-Forwarded-For": "6.6.6.6, 2001:db8::7, 192.0.2.1"}
    log_in = urllib.request.Request(f"{address}login", form, said)
    with urllib.request.urlopen(log_in, timeout=DEADLINE_S) as page:
        assert page.status == 200
    listed = peer.run("sessions")
    assert listed[-1] == "OK 2 sessions"
    assert any(f"{NAME} from 2001:db8::7 (web) since " in line for line in listed)
    assert [_status(address, name) for name in ("callisto", "PBX.example.com:80", "[2001:db8::1]")] == [200] * 3
    assert _status(address, "evil.example") == 421
    peer.send("services stop web-server\r\n").expect(b"Stop web-server and end the web sessions of admin [y/N]: ")
    assert peer.send("n\r\n").answer() == ["OK nothing was changed"]
    unasked = server.command("services", "restart", "web-server")
    assert (unasked.returncode, "add 'yes' as the last word" in unasked.stderr) == (2, True)
    assert peer.run("services restart web-server yes")[-1].startswith("OK web-server restarted")
    assert peer.run("sessions")[-1] == "OK 1 session"
    audit = json.loads(server.command("audit", "20", "--json").stdout)
    ends = [(each["event"], each["detail"]) for each in audit if each["source"] == "2001:db8::7"]
    assert ends == [("logged in", ""), ("logged out", "the web server was stopped")]
    wait_for(server, "web-server", "running")
    with urllib.request.urlopen(f"{address}health", timeout=DEADLINE_S) as page:
        assert page.status == 200
    facts = json.loads(server.command("services", "list", "--json").stdout)
    assert (facts[0]["restarts"], facts[0]["address"]) == (1, address)
    assert any(line.endswith(f"  running, {address}, last exit: exit code 0") for line in peer.run("services list"))
    assert any(
        re.match(rf"web-server: pid \d+, running, {re.escape(address)}, ", line) for line in peer.run("information")
    )


def test_the_web_server_has_the_names_of_the_appliance_and_of_its_health_check(tmp_path: Path) -> None:
    """What the owner has named elsewhere need not be named again."""
    file = tmp_path / "callisto.toml"
    file.write_text(
        '[appliance]\nhostname = "pbx"\n[services.web-server]\nnames = ["www.example.com"]\n'
        '[services.web-server.health]\nurl = "http://check.example.com:8080/health"\n'
    )
    words = web_server_words(services_of(load_settings(tmp_path, file))["web-server"], tmp_path)

    names = ["--name=www.example.com", "--name=pbx", "--name=check.example.com"]
    assert [word for word in words if word.startswith("--name")] == names


def test_without_a_server(start: StartServer) -> None:
    """The list shows what is set up, and what needs a server says so."""
    server = start(SETTINGS)
    server.stop()
    listed = server.command("services", "list")
    started = server.command("services", "start", "ticker")

    assert re.search(r"^ticker .*  not running$", listed.stdout, re.MULTILINE)
    assert started.returncode == 1
    assert started.stderr == ("Error: no server runs on this data folder; services run with 'callisto-telnetd serve'\n")


def test_no_orphan_survives_the_next_start(start: StartServer, tmp_path: Path) -> None:
    """After kill -9 of the server its service, a grandchild, and one that left the session end with the next start."""
    pids_file = tmp_path / "pids"
    script = f"setsid sleep 1000 & echo $! >>{pids_file}; sleep 1000 & echo $! >>{pids_file}; echo up; wait"
    first = start(f"[services.box]\ncommand = ['sh', '-c', '{script}']\n")
    pid = wait_for(first, "box", "running")["pid"]
    assert isinstance(pid, int)
    first.wait_log("service started")
    while len(old := pids_file.read_text().split() if pids_file.exists() else []) < 2:
        select.select([], [], [], 0.01)
    first.kill()
    assert all(start_ticks(each) is not None for each in (pid, *map(int, old)))
    second = start(data=first.data)
    second.wait_log("orphans of an earlier server ended")
    wait_gone([pid, *map(int, old)])

    assert wait_for(second, "box", "running")["pid"] != pid
    now = [int(each) for each in pids_file.read_text().split()[2:]]
    began = time.monotonic()
    assert second.stop() == 0
    assert time.monotonic() - began < 3
    wait_gone(now)


@pytest.mark.long
def test_a_server_with_stubborn_services_stops_in_time(start: StartServer) -> None:
    """Services that ignore their signal hold up the end no longer than the contract gives it."""
    script = 'trap "" TERM; echo up; while :; do sleep 1; done'
    server = start("".join(f"[services.s{n}]\ncommand = ['sh', '-c', '{script}']\n" for n in range(3)))
    for n in range(3):
        wait_for(server, f"s{n}", "running")
    began = time.monotonic()

    assert server.stop() == 0
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[services.Web]", "'services.Web' is no name of a service; allowed: 1 to 32 of a-z, 0-9 and -"),
        ("[services.x]\ncommand = 'a {gNone}'", "services.x.command: no variable named 'gNone'; allowed: names of"),
        ("[services.x]\ncommand = 'a'\nplan = 'gWebTimeout'", "services.x.plan: 'gWebTimeout' holds no restart plan"),
        ("[services.x]\ncommand = 'a'\nport = 1", "services.x.port is no setting; allowed: in services.web-server"),
        (
            "[services.x]\ncommand = 'a'\nproxies = []",
            "services.x.proxies is no setting; allowed: in services.web",
        ),
        (
            "[services.web-server]\nproxies = ['proxy']",
            "services.web-server.proxies: 'proxy' is not allowed; allowed",
        ),
        (
            "[services.web-server]\nproxies = ['10.0.0.1/8']",
            "services.web-server.proxies: '10.0.0.1/8' is not allowed",
        ),
        (
            "[services.web-server]\nnames = ['a:80']",
            "services.web-server.names: 'a:80' is not allowed; allowed: names",
        ),
        ("[services.x]\ncommand = 'a'\nmemory = 'much'", "services.x.memory: 'much' is not allowed; allowed: a size"),
        ("[services.x]", "services.x.command is missing: the words of its program, or enabled = false"),
        ('[services.x]\ncommand = "a \'b"', 'services.x.command: "a \'b" is not allowed; allowed: a list of words'),
        ("[services.x]\ncommands = 'a'", "'services.x.commands' is no setting; allowed: enabled, command"),
        (
            "[services.x]\ncommand = 'a'\n[services.x.health]\nevery_s = 1",
            "services.x.health: url and command; allowed",
        ),
        ("[services.x.health]\nurl = 'ftp://a'", "services.x.health.url: 'ftp://a' is not allowed; allowed: http://"),
        (
            "[services.x]\nstop_signal = 'X'",
            "services.x.stop_signal: 'X' is not allowed; allowed: TERM, INT, HUP, QUIT",
        ),
    ],
)
def test_wrong_settings_end_the_start(tmp_path: Path, toml: str, said: str) -> None:
    """One line names the file, the key and what is allowed, and nothing was made."""
    file = tmp_path / "wrong.toml"
    file.write_text(toml)
    with pytest.raises(SettingsError) as refused:
        require_settings(load_settings(tmp_path, file))

    assert str(refused.value).startswith(f"{file}: {said}")
    assert str(refused.value).isprintable()
