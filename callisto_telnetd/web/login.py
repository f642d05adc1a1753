"""The login window, and logging in and out."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from callisto_telnetd.errors import LoginRefusedError
from callisto_telnetd.web import information
from callisto_telnetd.web.appliance import Appliance, LoggedIn, Standing, WrongLoginError
from callisto_telnetd.web.pages import render
from callisto_telnetd.web.sessions import WebSessions
from callisto_telnetd.web.users import (
    COOKIE,
    appliance_of,
    give_cookie,
    idle_reason,
    note_end,
    session_of,
    sessions_of,
    source_of,
    take_cookie,
    visit_of,
)

MAX_FORM_BYTES = 4096
_MAX_NAME = 128
_MAX_PASSWORD = 1024
_MOST_FIELDS = 8
_FORM = "application/x-www-form-urlencoded"


async def show_root(request: Request) -> Response:
    """Show System Information to whoever is logged in, and to everybody else the login window."""
    visit = await visit_of(request)
    if visit.session is not None:
        return await information.show_information(request, visit.session, visit.standing)
    said = f"You have been logged out: {visit.ended}." if visit.ended else ""
    response = _window(visit.standing, said)
    if COOKIE in request.cookies:
        take_cookie(request, response)
    return response


def _window(standing: Standing, said: str = "", status: int = 200, name: str = "") -> Response:
    return render(
        "login.html",
        status,
        title="Login",
        product=standing.product,
        hostname=standing.hostname,
        said=said,
        name=name,
    )


async def log_in(request: Request) -> Response:
    """Log a user in, with a new token; the session that the browser had before ends."""
    name, password = await _read_form(request)
    appliance, sessions, source = appliance_of(request), sessions_of(request), source_of(request)
    standing = await appliance.visitor_standing(source)
    try:
        entered = await appliance.log_in(name, password, source)
        if (before := session_of(request)) is not None and sessions.close(before):
            await note_end(appliance, before, "another log-in")
        for idle in sessions.end_idle(standing.idle_minutes):
            await note_end(appliance, idle, idle_reason(standing))
        for oldest in sessions.make_room(entered.account):
            await note_end(appliance, oldest, "too many sessions of the account")
        token = await _open(appliance, sessions, entered, source)
    except WrongLoginError as refused:
        response = _window(standing, str(refused), 429 if refused.wait_s else 403, name)
        if refused.wait_s:
            response.headers["Retry-After"] = str(refused.wait_s)
        return response
    except LoginRefusedError as refused:
        return _window(standing, str(refused), 503, name)
    response = RedirectResponse("/", 303)
    give_cookie(request, response, token)
    return response


async def _open(appliance: Appliance, sessions: WebSessions, entered: LoggedIn, source: str) -> str:
    """Open the session that the appliance knows already; where there is no room for it, it ends there too."""
    try:
        return sessions.open(
            entered.account,
            entered.generation,
            source,
            since=entered.since,
            last_access=entered.last_access,
            number=entered.session,
        )
    except LoginRefusedError:
        await appliance.log_out(entered.account, entered.session, source, "all web sessions are taken")
        raise


async def _read_form(request: Request) -> tuple[str, str]:
    """Return name and password as they were typed.

    Raises:
        HTTPException: the body is no such form.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise HTTPException(415, f"A log-in is sent as {_FORM}.")
    try:
        pairs = parse_qsl(
            (await request.body()).decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:
        raise HTTPException(400, "This is no form.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs) or not {"name", "password"} <= set(fields):
        raise HTTPException(400, "The form needs one name and one password.")
    name, password = fields["name"].strip(), fields["password"]
    if len(name) > _MAX_NAME or len(password) > _MAX_PASSWORD:
        raise HTTPException(400, "The name or the password is too long.")
    return name, password


async def log_out(request: Request) -> Response:
    """End the browser's session, also where the server is not there to hear of it."""
    session = session_of(request)
    if session is not None and sessions_of(request).close(session):
        await note_end(appliance_of(request), session)
    response = RedirectResponse("/", 303)
    take_cookie(request, response)
    return response


ROUTES = (
    Route("/", show_root, methods=["GET"]),
    Route("/login", log_in, methods=["POST"], max_body_size=MAX_FORM_BYTES),
    Route("/logout", log_out, methods=["POST"], max_body_size=MAX_FORM_BYTES),
)
