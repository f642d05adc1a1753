"""Strangers at the web server: bytes that a proxy may read otherwise, foreign pages, names and addresses."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from urllib.parse import urlencode

import pytest

from callisto_telnetd.web.guard import HEADERS
from tests.conftest import DEADLINE_S, NAME, PASSWORD, Server
from tests.web.conftest import Answer, Browser, Web, webs

TRUSTED = "127.0.0.53"
"""The address of the proxy that is believed."""


class _Passing(socketserver.StreamRequestHandler):
    """Passes one request on with what a proxy adds, and the answer back."""

    def handle(self) -> None:
        lines = [line for line in iter(self.rfile.readline, b"\r\n") if not line.lower().startswith(b"connection:")]
        length = next((int(line[15:]) for line in lines if line.lower().startswith(b"content-length:")), 0)
        body = self.rfile.read(length)
        added = b"X-Forwarded-For: " + self.client_address[0].encode() + b"\r\n"
        added += b"X-Forwarded-Proto: https\r\nConnection: close\r\n\r\n"
        server = self.server
        assert isinstance(server, _Proxy)
        with socket.create_connection(server.site, DEADLINE_S, source_address=(server.own_address, 0)) as site:
            site.sendall(b"".join(lines) + added + body)
            while piece := site.recv(65536):
                self.wfile.write(piece)


class _Proxy(socketserver.ThreadingTCPServer):
    """A small proxy that ends TLS, as far as its headers tell; it asks from its own address."""

    def __init__(self, site: tuple[str, int], own_address: str) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.site = site
        self.own_address = own_address


@contextlib.contextmanager
def _proxy(web: Web, own_address: str = TRUSTED) -> Iterator[int]:
    """Give the port of a proxy that asks the web server from an address."""
    with _Proxy(("127.0.0.1", web.port), own_address) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield proxy.server_address[1]
        finally:
            proxy.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def site(module_server: Server) -> Iterator[Web]:
    """One web server beside the module's server: it believes one proxy, and has a name."""
    with webs() as start:
        yield start(module_server.data, f"--proxy={TRUSTED}", "--name=pbx.example.com")


def _exchange(web: Web, data: bytes, source: str = "127.0.0.1") -> bytes:
    """Return all that comes back until the web server closes."""
    with socket.create_connection(("127.0.0.1", web.port), DEADLINE_S, source_address=(source, 0)) as peer:
        peer.sendall(data)
        answer = b""
        try:
            while piece := peer.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
        return answer


def _require_headers(answer: bytes) -> None:
    head = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head)}
    assert {name: fields.get(name.lower()) for name in HEADERS} == dict(HEADERS)


HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /login HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
AMBIGUOUS = {
    "both": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both, the other way round": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "two equal lengths": POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n",
    "lengths in one field": POST + b"Content-Length: 0, 0\r\n\r\n",
    "length with a plus": POST + b"Content-Length: +0\r\n\r\n",
    "length with a minus": POST + b"Content-Length: -1\r\n\r\n",
    "hexadecimal length": POST + b"Content-Length: 0x0\r\n\r\n",
    "octal length": POST + b"Content-Length: 00\r\n\r\n",
    "blank length": POST + b"Content-Length:\r\n\r\n",
    "length with an underscore": POST + b"Content-Length: 1_0\r\n\r\n",
    "length in other digits": POST + b"Content-Length: \xd9\xa0\r\n\r\n",
    "huge length": POST + b"Content-Length: 18446744073709551616\r\n\r\n",
    "unknown coding": POST + b"Transfer-Encoding: gzip\r\n\r\n",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "coding before chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding behind chunked": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "two codings": CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a coding and a blank one": CHUNKED + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n",
    "quoted coding": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "coding with a tab": POST + b"Transfer-Encoding: chunked\x0b\r\n\r\n0\r\n\r\n",
    "HTTP/1.0 in chunks": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n0\r\n\r\n",
    "folded": POST + b"X: a\r\n Content-Length: 0\r\n\r\n",
    "folded length": POST + b"Content-Length:\r\n 0\r\n\r\n",
    "fold at the beginning": b"GET / HTTP/1.1\r\n Host: localhost\r\n\r\n",
    "bare LF": b"GET /health HTTP/1.1\nHost: localhost\n\n",
    "bare LF in a field": HEALTH[:-2] + b"X: a\nY: b\r\n\r\n",
    "bare LF at the end": HEALTH[:-2] + b"\n",
    "bare CR in a field": HEALTH[:-2] + b"X: a\rTransfer-Encoding: chunked\r\n\r\n",
    "bare CR": b"GET /health HTTP/1.1\rHost: localhost\r\r",
    "blank before the colon": POST + b"Content-Length : 0\r\n\r\n",
    "tab before the colon": POST + b"Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
    "no colon": HEALTH[:-2] + b"X\r\n\r\n",
    "no name": HEALTH[:-2] + b": x\r\n\r\n",
    "NUL in a value": HEALTH[:-2] + b"X: a\0b\r\n\r\n",
    "control character in a value": HEALTH[:-2] + b"X: a\x7f\x01b\r\n\r\n",
    "two blanks": HEALTH.replace(b" /", b"  /"),
    "tab in the request line": HEALTH.replace(b" /", b"\t/"),
    "HTTP/0.9": b"GET /health\r\n\r\n",
    "HTTP/1.2": HEALTH.replace(b"/1.1", b"/1.2"),
    "HTTP/2.0": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "empty line first": b"\r\n" + HEALTH,
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": HEALTH[:-2] + b"Host: localhost\r\n\r\n",
    "chunk size with a prefix": CHUNKED + b"\r\n0x0\r\n\r\n",
    "chunk size with a plus": CHUNKED + b"\r\n+0\r\n\r\n",
    "chunk size with a minus": CHUNKED + b"\r\n-1\r\n\r\n",
    "chunk size with an underscore": CHUNKED + b"\r\n0_0\r\n\r\n",
    "chunk size with a blank": CHUNKED + b"\r\n0 \r\n\r\n",
    "blank chunk size": CHUNKED + b"\r\n\r\n\r\n",
    "huge chunk size": CHUNKED + b"\r\nFFFFFFFFFFFFFFFF0\r\n\r\n",
    "bare LF in a chunk's extension": CHUNKED + b"\r\n1;a\nb\r\nx\r\n0\r\n\r\n",
    "bare LF behind a chunk size": CHUNKED + b"\r\n0\n\r\n",
    "chunk that is longer": CHUNKED + b"\r\n1\r\nxy\r\n0\r\n\r\n",
    "no end of a chunk": CHUNKED + b"\r\n1\r\nx0\r\n\r\n",
    "folded trailer": CHUNKED + b"\r\n0\r\nX: a\r\n b\r\n\r\n",
    "trailer that is no field": CHUNKED + b"\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
    "long head": HEALTH[:-2] + b"X: " + b"y" * (8192 - len(HEALTH) - 4) + b"\r\n\r\n",
    "long request line": b"GET /" + b"x" * 16_000 + b" HTTP/1.1\r\n\r\n",
    "long trailer": CHUNKED + b"\r\n0\r\nX: " + b"y" * 8192 + b"\r\n\r\n",
}


@pytest.mark.parametrize("framing", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_what_a_proxy_may_read_otherwise_is_refused_and_closed(site: Web, framing: bytes) -> None:
    """Each ambiguous request gets 400 with all headers, and the request that is hidden behind it is not looked at."""
    answer = _exchange(site, HEALTH + framing + HEALTH * 2)

    assert answer.count(b"HTTP/1.1 ") == 2
    assert answer.startswith(b"HTTP/1.1 200 ")
    refused = answer[answer.rindex(b"HTTP/1.1 ") :]
    assert refused.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"\r\nConnection: close\r\n" in refused
    _require_headers(refused)


EVERY = {
    200: HEALTH,
    303: POST.replace(b"/login", b"/logout") + b"\r\n",
    404: HEALTH.replace(b"/health", b"/nothing"),
    405: HEALTH.replace(b"/health", b"/logout"),
    403: POST.replace(b"http://", b"http://not.") + b"\r\n",
    400: HEALTH.replace(b"localhost", b"local host"),
    413: POST + b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 99999999\r\n\r\n",
    415: POST + b"Content-Type: text/plain\r\n\r\n",
}


@pytest.mark.parametrize(("status", "request_"), EVERY.items(), ids=map(str, EVERY))
def test_every_answer_has_the_headers(site: Web, status: int, request_: bytes) -> None:
    """Whatever the status of a page or a refusal, frames, scripts, caches and guesses of its type are forbidden."""
    answer = _exchange(site, request_.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

    assert int(answer.split()[1]) == status
    _require_headers(answer)


def test_a_head_may_have_eight_kib(site: Web) -> None:
    """The last byte that is documented is taken."""
    head = HEALTH[:-2] + b"Connection: close\r\n"
    answer = _exchange(site, head + b"X: " + b"y" * (8192 - len(head) - 7) + b"\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 ")


PUBLIC = {"Host": "pbx.example.com", "Origin": "https://pbx.example.com"}


def _fail(browser: Browser, times: int, **headers: str) -> Answer:
    """Log in with a wrong password that often, and return the last answer."""
    answers = [browser.log_in(password="wrong", headers=PUBLIC | headers) for _ in range(times)]
    return answers[-1]


def test_behind_a_proxy_each_browser_is_its_own_source(site: Web, module_server: Server) -> None:
    """Whoever guesses through the proxy shuts out himself: no other browser, not the proxy, nobody at Telnet."""
    with _proxy(site) as port:
        guesser, visitor = Browser(port, "127.0.0.61"), Browser(port, "127.0.0.62")
        shut_out = _fail(guesser, 6)
        # A guesser cannot put another address before his own, neither to be free again nor to have that one shut out.
        still = _fail(guesser, 1, **{"X-Forwarded-For": "127.0.0.62"})
        entered = visitor.log_in(headers=PUBLIC)
        page = visitor.ask("GET", "/", headers=PUBLIC)
        left = visitor.ask("POST", "/logout", body="", headers=PUBLIC)
        refused = module_server.connect(source="127.0.0.61").expect_closed()

    assert (shut_out.status, still.status) == (429, 429)
    assert b"Too many failures. Try again in " in refused
    assert entered.status == 303
    assert all("; secure" in each.headers["Set-Cookie"].lower() for each in (entered, left))
    assert "from 127.0.0.62</p>" in page.text
    assert module_server.log_in(source=TRUSTED).run("whoami")[-1].startswith("OK")
    audit = json.loads(module_server.command("audit", "100", "--json").stdout)
    sources = {each["source"] for each in audit if each["door"] == "web"}
    assert {"127.0.0.61", "127.0.0.62"} <= sources
    assert TRUSTED not in sources


def test_only_the_named_proxy_is_believed(site: Web) -> None:
    """From any other address the same headers are nothing: failures fall on the connection, no cookie is Secure."""
    with _proxy(site, "127.0.0.63") as port:
        assert _fail(Browser(port, "127.0.0.64"), 6).status == 429
        assert _fail(Browser(port, "127.0.0.65"), 1).status == 429
    forger = site.browser("127.0.0.66")
    entered = forger.log_in(headers=PUBLIC | {"X-Forwarded-For": "127.0.0.63", "X-Forwarded-Proto": "https"})

    assert entered.status == 303, "an address that somebody writes was shut out"
    assert "secure" not in entered.headers["Set-Cookie"].lower()


def test_what_the_proxy_says_in_other_words_is_refused(site: Web) -> None:
    """A proxy whose headers are not understood gets 400, with all headers: nobody is taken for somebody else."""
    for said in (b"X-Forwarded-For: unknown", b"X-Forwarded-Proto: https, http"):
        answer = _exchange(site, HEALTH[:-2] + said + b"\r\nConnection: close\r\n\r\n", TRUSTED)
        assert answer.startswith(b"HTTP/1.1 400 ")
        _require_headers(answer)


def test_a_page_of_another_name_gets_nothing_and_locks_nobody(site: Web) -> None:
    """A page whose name was made to lead here is told no product, logs nobody in, and no failure of it counts."""
    rebound = {"Host": f"evil.example:{site.port}", "Origin": f"http://evil.example:{site.port}"}
    victim = site.browser("127.0.0.67")
    answers = [victim.ask("GET", path, headers=rebound) for path in ("/", "/health", "/static/callisto.css")]
    answers += [victim.log_in(password="wrong", headers=rebound | {"Sec-Fetch-Site": "same-origin"}) for _ in range(12)]
    answers.append(victim.log_in(headers=rebound))

    assert {each.status for each in answers} == {421}
    assert not any("allisto" in each.text or "Set-Cookie" in each.headers for each in answers)
    assert victim.log_in().status == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "none", "Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_a_foreign_origin_is_refused_whatever_else_is_said(site: Web, headers: dict[str, str]) -> None:
    """The right password from a foreign page logs nobody in."""
    assert site.browser().log_in(headers=headers).status == 403


@pytest.mark.parametrize("order", [1, -1])
def test_two_origins_are_refused(site: Web, order: int) -> None:
    """The right password is not looked at, whichever of the two is ours."""
    origins = [b"Origin: http://localhost\r\n", b"Origin: http://evil.example\r\n"][::order]
    form = urlencode({"name": NAME, "password": PASSWORD}).encode()
    head = b"POST /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + b"".join(origins)
    head += b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n" % len(form)
    answer = _exchange(site, head + form)

    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"et-cookie" not in answer.lower()
