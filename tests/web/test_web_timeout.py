"""gWebTimeout in the application itself, on a clock that the tests move, beside a real server."""

from __future__ import annotations

from http.cookies import SimpleCookie
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.types import Message

from callisto_telnetd.web.server import application
from callisto_telnetd.web.sessions import WebSessions
from tests.conftest import NAME, PASSWORD, Server


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def _ask(app: Starlette, method: str, path: str, body: str = "", cookie: str = "") -> tuple[int, str, str]:
    """Return status, text, and the cookie that was given."""
    headers = [
        (b"host", b"localhost"),
        (b"origin", b"http://localhost"),
        (b"content-type", b"application/x-www-form-urlencoded"),
    ]
    if cookie:
        headers.append((b"cookie", cookie.encode()))
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body.encode(), "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": headers,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    jar = SimpleCookie(dict(sent[0]["headers"]).get(b"set-cookie", b"").decode())
    given = "; ".join(f"{name}={morsel.value}" for name, morsel in jar.items())
    return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:]).decode(), given


async def test_the_variable_ends_idle_sessions_at_once(web_server: Server) -> None:
    """A session stands while it is used, ends after gWebTimeout, follows a change at once, and never ends at 0."""
    clock = Clock()
    app = application(web_server.data / "run" / "control.sock")
    app.state.sessions = WebSessions(clock)
    form = urlencode({"name": NAME, "password": PASSWORD})

    async def log_in() -> str:
        status, _, cookie = await _ask(app, "POST", "/login", form)
        assert status == 303
        return cookie

    cookie = await log_in()
    for _ in range(3):
        clock.now += 20 * 60 - 1
        assert "logged out after 20 min without use" in (await _ask(app, "GET", "/", cookie=cookie))[1]
    clock.now += 20 * 60
    assert "logged out: no use for 20 minutes" in (await _ask(app, "GET", "/", cookie=cookie))[1]

    cookie = await log_in()
    clock.now += 5 * 60
    assert web_server.command("variables", "set", "gWebTimeout", "5").returncode == 0
    assert "logged out: no use for 5 minutes" in (await _ask(app, "GET", "/", cookie=cookie))[1]

    cookie = await log_in()
    assert web_server.command("variables", "set", "gWebTimeout", "0").returncode == 0
    clock.now += 30 * 86400
    assert "Nobody is logged out automatically" in (await _ask(app, "GET", "/", cookie=cookie))[1]
    web_server.command("variables", "reset", "gWebTimeout")
