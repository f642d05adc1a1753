"""Who is logged in: a browser's cookie, its session, and what the server says of its account, at every request."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from callisto_telnetd.listeners.local_client import NoServerError
from callisto_telnetd.quantities import counted
from callisto_telnetd.web.appliance import Appliance, Standing
from callisto_telnetd.web.guard import LOG
from callisto_telnetd.web.sessions import WebSession, WebSessions

COOKIE = "callisto_session"


@dataclass(frozen=True, slots=True)
class Visit:
    """One request's browser."""

    standing: Standing
    session: WebSession | None
    """None: nobody is logged in."""
    ended: str = ""
    """Why the session that it had is none any more."""


def source_of(request: Request) -> str:
    """Return the browser's address: that of its connection, or what a proxy says that is believed."""
    return request.client.host if request.client else "127.0.0.1"


def appliance_of(request: Request) -> Appliance:
    """Return the appliance that this web server belongs to."""
    appliance: Appliance = request.app.state.appliance
    return appliance


def sessions_of(request: Request) -> WebSessions:
    """Return the table of all sessions."""
    sessions: WebSessions = request.app.state.sessions
    return sessions


def session_of(request: Request) -> WebSession | None:
    """Return the session of the browser's cookie; whether it still counts, :func:`visit_of` says."""
    return sessions_of(request).find(request.cookies.get(COOKIE, ""))


async def visit_of(request: Request) -> Visit:
    """Ask the server who may be shown what: a session counts while its account stands as it stood, and is not idle.

    Raises:
        NoServerError: the server does not answer; the session is kept.
    """
    source, session = source_of(request), session_of(request)
    if session is None:
        return Visit(await appliance_of(request).visitor_standing(source), None)
    standing = await appliance_of(request).standing(session.account, session.number, source)
    if standing.ended is not None:  # at the appliance, which has noted it
        sessions_of(request).close(session)
        return Visit(standing, None, standing.ended)
    if standing.generation != session.generation:
        return Visit(standing, None, await _end(request, session, "the account was changed or removed"))
    session.number = standing.session or session.number
    if session_of(request) is None:  # ended meanwhile, by another request of the same browser
        return Visit(standing, None)
    if not sessions_of(request).use(session, standing.idle_minutes):
        return Visit(standing, None, await _end(request, session, idle_reason(standing)))
    return Visit(standing, session)


def idle_reason(standing: Standing) -> str:
    """Return why a session has ended that was idle for as long as the appliance allows."""
    return f"no use for {counted(standing.idle_minutes, 'minute')}"


async def _end(request: Request, session: WebSession, reason: str) -> str:
    sessions_of(request).close(session)
    await note_end(appliance_of(request), session, reason)
    return reason


async def note_end(appliance: Appliance, session: WebSession, reason: str = "") -> None:
    """Have the end of a session kept in the audit; where the server is not there, say it in the log."""
    try:
        await appliance.log_out(session.account, session.number, session.source, reason)
    except NoServerError as error:
        LOG.warning("a log-out of %s is not in the audit: the server %s", session.account, error)


def give_cookie(request: Request, response: Response, token: str) -> None:
    """Have the browser keep the token until it is closed, from scripts and other sites."""
    response.set_cookie(COOKIE, token, path="/", httponly=True, samesite="strict", secure=request.url.scheme == "https")


def take_cookie(request: Request, response: Response) -> None:
    """Have the browser forget its token."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=request.url.scheme == "https")
