"""Who is on now, by every door."""

from __future__ import annotations

import time

from callisto_telnetd.accounts.presence import Present
from callisto_telnetd.menus.context import Context
from callisto_telnetd.settings.services import WEB_SERVER


def present_now(context: Context) -> list[Present]:
    """Return who is on; browsers that were idle too long, or whose web server has ended meanwhile, are no longer."""
    presence, now = context.parts.presence, time.monotonic()
    idle_s = int(context.parts.variables.text("gWebTimeout")) * 60
    for entry in presence.all():
        if entry.is_web and ((idle_s and now - entry.used_at >= idle_s) or _is_left_behind(context, entry, now)):
            presence.leave(entry)
    return presence.all()


def _is_left_behind(context: Context, entry: Present, now: float) -> bool:
    """Whether the web server was started or stopped since the browser last asked: it keeps sessions in memory."""
    return any(
        view.name == WEB_SERVER and entry.used_at < now - view.for_s for view in context.parts.supervisor.views()
    )
