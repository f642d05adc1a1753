"""A backup as a restore sees it: its parts as files, taken out of the archive and held against its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The files of a backup, which nobody else writes to, and what its manifest says of it."""

    name: str
    """What people know it by: the archive's file name."""
    database: Path
    """On the disk of the live database, so that it is no longer a matter of the archive's room."""
    settings: Path | None
    """The owner's ``callisto.toml``; None where the archive has none."""
    recordings: Path | None
    """A folder whose files are named by the SHA-256 of their content; None where the archive has none."""
    schema: int
    version: str
    """The product's version that made it."""
    edition: str
    secrets: bool
    """Whether accounts and mailbox PINs are in it."""
    without_settings: bool = False
    """Whether there was no ``callisto.toml`` on purpose: one that is there goes."""
    is_past: bool = False
    """Whether it is a past state of this very appliance, which was in use as it is."""

    def as_data(self) -> dict[str, Any]:
        """Return it as a worker's order holds it."""
        return {
            "name": self.name,
            "database": str(self.database),
            "settings": str(self.settings) if self.settings else None,
            "recordings": str(self.recordings) if self.recordings else None,
            "schema": self.schema,
            "version": self.version,
            "edition": self.edition,
            "secrets": self.secrets,
            "without_settings": self.without_settings,
            "is_past": self.is_past,
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Self:
        """Return what :meth:`as_data` wrote."""
        return cls(
            name=data["name"],
            database=Path(data["database"]),
            settings=Path(data["settings"]) if data["settings"] else None,
            recordings=Path(data["recordings"]) if data["recordings"] else None,
            schema=data["schema"],
            version=data["version"],
            edition=data["edition"],
            secrets=data["secrets"],
            without_settings=data["without_settings"],
            is_past=data["is_past"],
        )
