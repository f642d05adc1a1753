"""The pages of the real web server beside a real server, as a browser meets them."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.conftest import DEADLINE_S, NAME, PASSWORD, ROOT, Server, StartServer
from tests.web.conftest import Browser, StartWeb, Web


def test_the_root_shows_the_login_window(web: Web) -> None:
    """Who is not logged in finds product, host and a form that works without scripts."""
    answer = web.browser().get()

    assert answer.status == 200
    assert "<h1>Callisto 1.0.0 (UCM)</h1>" in answer.text
    assert '<p class="host">callisto</p>' in answer.text
    assert '<form method="post" action="/login">' in answer.text
    assert set(re.findall(r'<label for="(\w+)">', answer.text)) == {"name", "password"}
    assert "<script" not in answer.text
    assert not re.findall(r'(?:src|href|action)="(?!/)', answer.text), "a foreign address"


def test_a_log_in_shows_the_appliance_and_a_log_out_ends_it(web: Web, web_server: Server) -> None:
    """The right password leads to System Information; the button out of it; the old cookie is worth nothing then."""
    browser = web.browser("127.0.0.11")
    entered = browser.log_in()
    cookie = browser.cookie
    page = browser.get()

    assert (entered.status, entered.headers["Location"]) == (303, "/")
    given = entered.headers["Set-Cookie"].lower()
    assert all(word in given for word in ("; httponly", "; path=/", "; samesite=strict"))
    assert "<h1>System Information</h1>" in page.text
    assert f"<p>{NAME}, logged in " in page.text
    assert " from 127.0.0.11</p>" in page.text
    assert "<dt>Schema</dt>" in page.text

    assert browser.log_out().headers["Location"] == "/"
    assert 'action="/login"' in Browser(web.port, cookie=cookie).get().text
    events = [
        (entry["event"], entry["who"], entry["door"])
        for entry in json.loads(web_server.command("audit", "50", "--json").stdout)
        if entry["source"] == "127.0.0.11"
    ]
    assert events == [("logged in", NAME, "web"), ("logged out", NAME, "web")]


def test_a_browser_is_on_the_list_and_can_be_ended(start: StartServer, start_web: StartWeb) -> None:
    """``sessions`` lists a browser by its account, address and door; ended there, its cookie is worth nothing."""
    server = start('[appliance]\nserial = "X1#"\n')
    web = start_web(server.data)
    browser, other = web.browser("127.0.0.12"), web.browser("127.0.0.13")
    browser.log_in()
    other.log_in()
    page = browser.get().text
    assert "<dt>Serial</dt><dd>X1#</dd>" in page.replace("\n", ""), "a value is shown as it is"
    assert "<dt>On</dt><dd>2</dd>" in page.replace("\n", "")

    peer = server.log_in()
    listed = peer.run("sessions")
    [number] = [line.split()[0] for line in listed if f"{NAME} from 127.0.0.12 (web) since " in line]
    assert listed[-1] == "OK 3 sessions"
    assert peer.run(f"sessions end {number}") == [f"OK session {number} ended, {NAME} from 127.0.0.12 (web)"]
    assert "You have been logged out: ended by admin." in browser.get().text
    assert 'action="/login"' in browser.get().text
    assert "<h1>System Information</h1>" in other.get().text
    assert peer.run("sessions")[-1] == "OK 2 sessions"
    assert peer.run(f"sessions end {number}")[-1].startswith(f"Error: no session has the number {number}")
    assert peer.run("sessions end 3")[-1] == "Error: that is this session; 'logout' ends it"
    other.log_out()
    assert peer.run("sessions")[-1] == "OK 1 session"

    browser.log_in()
    facts = json.loads(server.command("sessions", "--json").stdout)
    assert [(each["who"], each["source"], each["door"]) for each in facts] == [
        (NAME, "127.0.0.1", "telnet"),
        (NAME, "127.0.0.12", "web"),
    ]
    log = server.command("audit", "3", "--json")
    assert [entry["event"] for entry in json.loads(log.stdout)] == ["session ended", "logged out", "logged in"]
    ended = server.command("sessions", "end", str(facts[0]["number"]))
    assert ended.returncode == 0
    assert b"Closed: ended by " in peer.expect_closed()


def test_a_new_log_in_gives_a_new_token(web: Web) -> None:
    """A browser that logs in again gets another token, and its earlier one ends."""
    browser = web.browser()
    browser.log_in()
    before = browser.cookie
    browser.log_in()

    assert browser.cookie != before
    assert 'action="/login"' in Browser(web.port, cookie=before).get().text
    assert "System Information" in browser.get().text


@pytest.mark.parametrize("cookie", ["", "x", "A" * 43, "A" * 4000, '""', "%00"])
def test_a_forged_cookie_is_nobody(web: Web, cookie: str) -> None:
    """A made-up token shows the login window."""
    answer = Browser(web.port, cookie=f"callisto_session={cookie}").get()

    assert answer.status == 200
    assert 'action="/login"' in answer.text


@pytest.mark.parametrize(
    ("name", "password"),
    [
        (NAME, "wrong"),
        ("nobody", PASSWORD),
        ("?", PASSWORD),
        ("help", PASSWORD),
        ("<script>alert(1)</script>", "x"),
        ('"><b>', "x"),
        ("\x00\r\n", "x"),
        ("", ""),
    ],
)
def test_wrong_names_and_passwords_say_the_same(start_name: str, web: Web, name: str, password: str) -> None:
    """Whatever is wrong, the answer is the same line; what was typed comes back escaped."""
    answer = web.browser(start_name).log_in(name, password)

    assert answer.status == 403
    assert '<p class="said" role="alert">Login incorrect</p>' in answer.text
    assert "Set-Cookie" not in answer.headers
    assert "<script" not in answer.text
    assert "<b>" not in answer.text


_addresses = iter(range(20, 120))


@pytest.fixture
def start_name() -> str:
    """An address of this machine that no other test has failed from."""
    return f"127.0.0.{next(_addresses)}"


def test_penalties_are_shared_with_telnet(web: Web, web_server: Server, start_name: str) -> None:
    """Failures at both doors count together; the source waits at both, another one at none."""
    browser = web.browser(start_name)
    for _ in range(3):
        assert browser.log_in(password="wrong").status == 403
    peer = web_server.connect(source=start_name)
    peer.expect(b" login: ")
    peer.send("admin\r\n").expect(b"Password: ")
    peer.send("wrong\r\n").expect(b"Login incorrect")
    fifth = browser.log_in(password="wrong")
    sixth = browser.log_in()
    refused = web_server.connect(source=start_name)

    assert fifth.status == sixth.status == 429
    assert "Login incorrect. Too many failures. Try again in 30 s." in fifth.text
    assert re.search(r">Too many failures\. Try again in (29|30) s\.<", sixth.text)
    assert int(sixth.headers["Retry-After"]) in {29, 30}
    assert re.search(rb"Too many failures. Try again in \d+ s.", refused.expect_closed())
    assert web.browser("127.0.0.12").log_in().status == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_foreign_forms_are_refused(web: Web, headers: dict[str, str]) -> None:
    """A right password sent by another site's page logs nobody in, and a log-out from there logs nobody out."""
    browser = web.browser()
    browser.log_in()

    assert web.browser().log_in(headers=headers).status == 403
    assert browser.ask("POST", "/logout", body="", headers=headers).status == 403
    assert "System Information" in browser.get().text


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ("name=admin", None, 400),
        ("password=x", None, 400),
        ("name=a&name=b&password=x", None, 400),
        ("name=%ff&password=x", None, 400),
        ("nonsense", None, 400),
        ("&".join(f"a{number}=b" for number in range(50)), None, 400),
        (f"name={'x' * 200}&password=x", None, 400),
        ("name=a&password=b", "text/plain", 415),
        ('{"name": "a"}', "application/json", 415),
        (f"name=a&password={'x' * 5000}", None, 413),
        ("x" * 60_000, None, 413),
    ],
)
def test_broken_forms_are_told(web: Web, body: str, kind: str | None, status: int) -> None:
    """What is no form, or too much of one, has its own status; no password is looked at."""
    answer = web.browser().ask("POST", "/login", body=body, headers={"Content-Type": kind} if kind else {})

    assert answer.status == status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/login", 405),
        ("GET", "/login/", 404),
        ("GET", "/static/../server.py", 404),
        ("GET", "/static/%2e%2e/server.py", 404),
        ("GET", "//evil.example/", 404),
        ("POST", "/", 405),
        ("DELETE", "/health", 403),
        ("HEAD", "/", 200),
        ("GET", "/static/callisto.css?v=1", 200),
    ],
)
def test_addresses_and_methods(web: Web, method: str, path: str, status: int) -> None:
    """What is not there is told as a page, with the headers that every answer has; nothing is redirected elsewhere."""
    answer = web.browser().ask(method, path, body="" if method == "POST" else None)

    assert answer.status == status
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'; form-action")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert ("no-store" in answer.headers["Cache-Control"]) is (".css" not in path)
    assert "Server" not in answer.headers


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
    ],
)
def test_broken_heads_are_refused(web: Web, head: bytes) -> None:
    """A head without a right host, that is none, or that is huge, is answered with 400."""
    with socket.create_connection(("127.0.0.1", web.port), DEADLINE_S) as peer:
        peer.sendall(head)
        assert b" 400 " in peer.recv(4096)


def test_http_1_0_without_a_host_is_answered(web: Web) -> None:
    """As monitors ask (HAProxy, keepalived, Nagios): every page is there without Host, and closes after its answer."""
    said = {}
    for path in ("/health", "/", "/static/callisto.css", "/nowhere"):
        with socket.create_connection(("127.0.0.1", web.port), DEADLINE_S) as peer:
            peer.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            said[path] = b"".join(iter(lambda: peer.recv(4096), b"")).decode()

    assert [answer.split()[1] for answer in said.values()] == ["200", "200", "200", "404"]
    assert said["/health"].endswith('\r\n\r\n{"status":"ok"}')


@pytest.mark.long
def test_a_changed_or_removed_account_loses_its_web_sessions(start: StartServer, start_web: StartWeb) -> None:
    """A new password, or the account's end, ends what was begun before it; the page says why."""
    server = start()
    web = start_web(server.data)
    for name in ("anna", "ben"):
        server.command("user", "add", name, "--password-stdin", text=f"{PASSWORD}\n")
    anna, ben, admin = web.browser(), web.browser(), web.browser()
    anna.log_in("anna")
    ben.log_in("ben")
    admin.log_in()

    server.command("user", "passwd", "anna", "--password-stdin", text="Secret-456\n")
    server.command("user", "remove", "ben", "yes")
    server.command("user", "add", "ben", "--password-stdin", text=f"{PASSWORD}\n")

    for browser, reason in ((anna, "the password of this account was changed"), (ben, "this account was removed")):
        assert f"You have been logged out: {reason}." in browser.get().text
        assert "logged out:" not in browser.get().text
    assert "System Information" in admin.get().text


@pytest.mark.long
def test_the_server_may_go_and_come_back(start: StartServer, start_web: StartWeb) -> None:
    """Without a server every page is a clear 503; when it is back, who was logged in still is."""
    server = start()
    web = start_web(server.data)
    browser = web.browser()
    browser.log_in()
    assert web.browser().get("/health").facts == {"status": "ok"}

    server.stop()
    away = web.wait_status(503)
    assert away.facts["status"] == "unavailable"
    assert away.facts["reason"].startswith("the management server is not there")
    for answer in (browser.get(), web.browser().get(), web.browser().log_in()):
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert "Callisto is not available now" in answer.text
        assert "Whoever is logged in stays so." in answer.text

    start(data=server.data)
    web.wait_status(200)
    assert "System Information" in browser.get().text
    assert "Traceback" not in web.log()


def test_without_a_server_it_starts_and_a_user_can_still_log_out(start_web: StartWeb, start: StartServer) -> None:
    """A data folder where no server runs is no reason not to serve; a log-out needs no server."""
    server = start()
    web = start_web(server.data)
    browser = web.browser()
    browser.log_in()
    server.kill()

    assert browser.log_out().status == 303
    web.wait_log("a log-out of admin is not in the audit")
    other = start_web(server.data.parent / "no such folder")
    assert other.browser().get("/health").status == 503


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_a_signal_ends_it_within_two_seconds(web_server: Server, start_web: StartWeb, number: signal.Signals) -> None:
    """It ends with exit code 0 while clients hold connections, whole and half."""
    web = start_web(web_server.data)
    with (
        socket.create_connection(("127.0.0.1", web.port)) as idle,
        socket.create_connection(("127.0.0.1", web.port)) as half,
        socket.create_connection(("127.0.0.1", web.port)) as body,
    ):
        half.sendall(b"GET / HT")
        head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nContent-Length: 9\r\n"
        body.sendall(head + b"Content-Type: application/x-www-form-urlencoded\r\n\r\nname")
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(100)

        assert web.stop(number, deadline_s=2.0) == 0


def test_it_ends_at_once_where_nothing_is_on_its_way(web_server: Server, start_web: StartWeb) -> None:
    """A repair waits for its end: no tick, and no client that only holds a connection, takes it a tenth of a second."""
    least_s = 1.0
    for _ in range(20):  # a busy machine holds some of them up
        web = start_web(web_server.data)
        assert web.process.stdout is not None
        with socket.create_connection(("127.0.0.1", web.port)) as idle:
            idle.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert idle.recv(4096)
            begun = time.monotonic()
            web.process.send_signal(signal.SIGTERM)
            web.process.stdout.read()
            least_s = min(least_s, time.monotonic() - begun)
        assert web.stop() == 0
        if least_s < 0.1:
            break

    assert least_s < 0.1


def test_a_port_that_cannot_be_had(web: Web, web_server: Server) -> None:
    """A taken port is exit code 1 and one line that names it and what to do."""
    ended = subprocess.run(
        [sys.executable, "-m", "callisto_telnetd.web", "--data", str(web_server.data), "--port", str(web.port)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        cwd=ROOT,
    )

    where = f"127.0.0.1 port {web.port}"
    assert (ended.returncode, ended.stdout) == (1, "")
    assert (
        ended.stderr == f"<3>Error: {where} is in use by another program; stop it, or name another port:"
        " services.web-server.port, or --port\n"
    )


def test_it_ends_with_its_parent(web_server: Server) -> None:
    """With --with-parent it stops when the process that started it is gone."""
    words = [sys.executable, "-m", "callisto_telnetd.web", "--data", str(web_server.data), "--port", "0"]
    script = "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()"
    with subprocess.Popen(
        [sys.executable, "-c", script, *words, "--with-parent"], stdout=subprocess.PIPE, cwd=ROOT
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().startswith(b"web-server: listening on ")
        parent.kill()
        assert parent.stdout.read() == b"", "the pipe is closed when the web server has ended"


@pytest.mark.long
def test_the_pages_are_in_the_wheel(tmp_path: Path) -> None:
    """Templates and style sheet are found where the wheel alone is installed."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, check=True, capture_output=True, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    script = """
from callisto_telnetd.web import pages
print(pages.__file__)
print(pages.render("absent.html", 503, title="x", reason="y", retry_s=5).status_code, len(pages._style()) > 100)
"""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "installed"), "PATH": ""},
    )

    place, outcome = ran.stdout.splitlines()
    assert place.startswith(str(tmp_path))
    assert outcome == "503 True"
