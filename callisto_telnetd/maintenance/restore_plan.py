"""What a restore would do, as people are shown it before they are asked: fit or not and why, and every difference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from callisto_telnetd.db.restore.outlook import Outlook
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.errors import StoreError, named
from callisto_telnetd.variables.exchange import Difference

KEEP_SETTINGS = "keep-settings"
"""The word of a restore that leaves ``callisto.toml`` as it is."""
LEFT_OUT = (
    "settings that name commands, users, files or what listens, or move the system's clock, come by the command line"
    " alone, and are left as they are here"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore would do."""

    backup: Unpacked
    refusals: tuple[StoreError, ...]
    """Why it does not fit; empty where it does."""
    outlook: Outlook | None
    """None where the backup cannot be looked into."""
    variables: tuple[Difference, ...]
    accounts_now: tuple[str, ...]
    unused: tuple[str, ...] = ()
    """What is wrong with values that no variable takes here: their defaults stand in."""

    settings_elsewhere: Path | None = None
    """The file that the owner has named in the place of ``callisto.toml``; None where that counts, or is not in it."""

    left_out: tuple[str, ...] = ()
    """The keys of ``callisto.toml`` that stay as they are, since the owner alone may bring them."""

    @property
    def fits(self) -> bool:
        """Whether it can be restored here."""
        return not self.refusals

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it cannot, each in a line."""
        return tuple(str(each) for each in self.refusals)

    @property
    def takes_accounts(self) -> bool:
        """Whether the accounts of the backup take the place of those that there are."""
        return self.backup.secrets and self.outlook is not None and bool(self.outlook.accounts)

    @property
    def accounts_then(self) -> tuple[str, ...]:
        """The accounts that there are then."""
        return self.outlook.accounts if self.outlook is not None and self.takes_accounts else self.accounts_now

    @property
    def notes(self) -> tuple[str, ...]:
        """What people should know besides, a line each."""
        unused = tuple(f"not used, its default is: {fault}" for fault in self.unused)
        file = self.settings_elsewhere
        elsewhere = (f"the settings here are {named(file)}, and stay: the backup's are not used",) if file else ()
        kept = (f"{LEFT_OUT}: {', '.join(self.left_out)}",) if self.left_out else ()
        return (*(self.outlook.notes if self.outlook else ()), *elsewhere, *kept, *unused)

    @property
    def rows(self) -> int:
        """How many rows the database has then."""
        return sum(each.then for each in self.outlook.tables) if self.outlook else 0
