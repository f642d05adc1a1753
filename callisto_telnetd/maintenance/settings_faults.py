"""Why no server would start with the settings of a backup: judged as a start here would judge them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from callisto_telnetd.errors import FolderError, SettingsError
from callisto_telnetd.settings import Settings, load_settings


def faults_of_others(
    settings: Settings, data: Path, faults_of: Callable[[Settings], Sequence[str]], file: Path
) -> list[str]:
    """Return what would keep a server from starting with another settings file, a line each.

    It is started as the one of ``settings`` was, with the same environment and flags. What would keep that one from
    starting as well, here and now, is left out: this process may not have the right to its ports.
    """
    try:
        then = load_settings(data, file, settings.flags)
    except (SettingsError, FolderError) as error:
        return [str(error).removeprefix(f"{file}: ")]
    faults = [fault.removeprefix(f"{file}: ") for fault in faults_of(then)]
    if then.appliance.edition != settings.appliance.edition:
        faults.insert(0, f"appliance.edition is {then.appliance.edition}, here it is {settings.appliance.edition}")
    now = {fault.removeprefix(f"{settings.file}: ") for fault in faults_of(settings)}
    return [fault for fault in faults if fault not in now]
