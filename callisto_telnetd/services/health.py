"""Whether a service works: a page that it serves is asked for, or a command of the owner's is run."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

from callisto_telnetd.errors import ServiceError, quoted
from callisto_telnetd.secret_text import without_secrets
from callisto_telnetd.services.child import describe_exit, run_check
from callisto_telnetd.services.recipe import Recipe
from callisto_telnetd.settings import HealthSettings

_MOST_LINE = 1024


async def check(health: HealthSettings, recipe: Recipe) -> str:
    """Return what is wrong, blank where the service works; takes little more than ``timeout_s`` at most.

    Args:
        health: What is asked, and how long that may take.
        recipe: What a command is run with.
    """
    if health.command:
        try:
            code = await run_check(recipe, health.timeout_s)
        except ServiceError as error:
            return f"its health check cannot be made: {error}"
        if code is None:
            return f"its health check took over {health.timeout_s:g} s"
        return "" if code == 0 else f"its health check ended with {describe_exit(code)}"
    try:
        async with asyncio.timeout(health.timeout_s):
            return without_secrets(await _ask(health.url or ""))
    except TimeoutError:
        return without_secrets(f"{health.url} did not answer within {health.timeout_s:g} s")


async def _ask(url: str) -> str:
    """Ask for the page; its status line says all, so no more is read."""
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80, limit=_MOST_LINE)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host, such as one with an empty part
        return f"{url} cannot be reached: {getattr(error, 'strerror', None) or error}"
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        line = await reader.readline()
    except (OSError, ValueError):  # ValueError: a line longer than the limit
        return f"{url} did not answer with HTTP"
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            writer.transport.abort()
    words = line.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        return f"{url} did not answer with HTTP"
    return "" if words[1].startswith(b"2") else f"{url} answered {quoted(words[1].decode())}"
