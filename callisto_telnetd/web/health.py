"""The health page: whether this process serves and the server answers it. It needs no log-in and tells no more."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from callisto_telnetd.listeners.local_client import NoServerError
from callisto_telnetd.web.users import appliance_of, source_of


async def show_health(request: Request) -> Response:
    """Answer 200 where all is well, else 503 with the reason."""
    try:
        await appliance_of(request).visitor_standing(source_of(request))
    except NoServerError as error:
        return JSONResponse({"status": "unavailable", "reason": f"the management server {error}"}, 503)
    return JSONResponse({"status": "ok"})


ROUTES = (Route("/health", show_health, methods=["GET"]),)
