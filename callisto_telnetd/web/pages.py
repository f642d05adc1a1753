"""How pages are made: templates that escape everything, the style sheet, and the pages that say why there is none."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from callisto_telnetd import __version__
from callisto_telnetd.listeners.local_client import NoServerError
from callisto_telnetd.trace.sanitiser import clean

_HERE = Path(__file__).parent
_RETRY_S = 5


def _clean(value: object) -> object:
    """Return what a page shows of a value: of a text, nothing that is hidden; markup of our own has none."""
    return clean(value) if type(value) is str else value


@lru_cache(maxsize=1)
def _templates() -> Environment:
    return Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        finalize=_clean,
    )


def render(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return the page that the template makes of the values; every value is escaped, and what is hidden in it shown."""
    return HTMLResponse(_templates().get_template(template).render(version=__version__, **values), status)


async def show_style(_request: Request) -> Response:
    """Send the style sheet; its address holds the version, so that a browser may keep it."""
    return Response(_style(), media_type="text/css", headers={"Cache-Control": "public, max-age=86400"})


@lru_cache(maxsize=1)
def _style() -> bytes:
    return (_HERE / "static" / "callisto.css").read_bytes()


def show_absence(_request: Request, error: Exception) -> Response:
    """Say that the server does not answer."""
    reason = str(error) if isinstance(error, NoServerError) else ""
    page = render("absent.html", 503, title="Not available", reason=reason, retry_s=_RETRY_S)
    page.headers["Retry-After"] = str(_RETRY_S)
    return page


def show_fault(_request: Request, error: Exception) -> Response:
    """Say what is wrong with a request: no such page, no such method, too large."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    detail = error.detail if isinstance(error, HTTPException) else ""
    page = render("fault.html", status, title=HTTPStatus(status).phrase, detail=detail)
    page.headers.update(headers or {})
    return page


ROUTES = (Route("/static/callisto.css", show_style, methods=["GET"]),)
