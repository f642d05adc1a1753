"""System Information, as the shell shows it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from callisto_telnetd.web.appliance import Standing
from callisto_telnetd.web.pages import render
from callisto_telnetd.web.sessions import WebSession
from callisto_telnetd.web.users import appliance_of, source_of


async def show_information(request: Request, session: WebSession, standing: Standing) -> Response:
    """Show the facts, a section each."""
    sections = await appliance_of(request).information(session.number, source_of(request))
    return render(
        "information.html",
        title="System Information",
        product=standing.product,
        hostname=standing.hostname,
        session=session,
        idle_minutes=standing.idle_minutes,
        sections=sections,
    )
