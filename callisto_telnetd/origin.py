"""Where an action comes from: kept with every change, log-in and record of the audit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """Who acts, through which door, from where."""

    who: str
    """The account's name, or the system user's at the local socket."""
    door: str
    """``telnet``, ``telnets``, ``web``, ``local`` or ``system``."""
    source: str
    """The peer's address without port, or ``local``."""

    @property
    def is_owner(self) -> bool:
        """Whether it is the data folder's owner, or root: the system has vouched for him at the local socket."""
        return self.door == "local"

    def __str__(self) -> str:
        return f"{self.who} from {self.source} ({self.door})"


WEB_SERVER = "web-server"
"""Who asks for a browser that is not logged in."""
SYSTEM = Origin(who="system", door="system", source="local")
