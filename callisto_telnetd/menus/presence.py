"""Who is on now, by every door."""

from __future__ import annotations

from callisto_telnetd.accounts.presence import Present
from callisto_telnetd.menus.context import Context


def present_now(context: Context) -> list[Present]:
    """Return who is on; browsers that were idle too long, or whose web server has ended meanwhile, are no longer."""
    context.parts.web_ends.sweep()
    return context.parts.presence.all()
