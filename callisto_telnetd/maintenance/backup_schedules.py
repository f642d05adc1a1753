"""The schedules of backups as the owner has made them, kept in a file of their own.

They are kept in ``DIR/backup-schedules.json`` (mode 0600), not in the database: so they survive a repair, a restore and
an update. The file holds passwords, because nobody is there at night to type them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_serializer,
    model_validator,
)

from callisto_telnetd.db.private_file import PrivateFile
from callisto_telnetd.errors import BackupScheduleError, FolderError, TargetError, named
from callisto_telnetd.maintenance.retention import MOST_KEPT, Keep
from callisto_telnetd.transports.target import Target, parse_target
from callisto_telnetd.variables import RestartPlan

FILE_NAME = "backup-schedules.json"
MOST_SCHEDULES = 20
MAX_BYTES = 256 << 10
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
NAME_RULE = "1 to 32 of a-z, 0-9 and -, no - at either end"
_LONGEST_SECRET, _LONGEST_PATH, _LONGEST_KEY, _LONGEST_REASON = 1024, 1000, 4000, 500


def _plan(text: str) -> str:
    try:
        plan = RestartPlan.parse(text)
    except ValueError as error:
        raise ValueError(f"{error}; allowed: days and a time, such as 127,02:00 or mon-fri 02:00") from None
    if not plan.days:
        raise ValueError("a schedule needs at least one day: 127,02:00 or mon-fri 02:00")
    return plan.format()


def _name(text: str) -> str:
    if NAME.fullmatch(text) is None:
        raise ValueError(f"a schedule's name is {NAME_RULE}")
    return text


def _secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not 1 <= len(text) <= _LONGEST_SECRET or not text.isprintable():
        raise ValueError(f"1 to {_LONGEST_SECRET} printable characters")
    return secret


_Secret = Annotated[SecretStr, AfterValidator(_secret)]
_Path = Annotated[str, Field(min_length=1, max_length=_LONGEST_PATH, pattern=r"^/[^\x00-\x1f]*$")]
_Count = Annotated[int, Field(ge=0, le=MOST_KEPT)]


class Outcome(BaseModel):
    """How a run has ended."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    at: str = Field(max_length=64)
    """When it began, ISO 8601."""
    failed: bool
    text: str = Field(max_length=_LONGEST_REASON)
    """What came of it, or why it failed, in one line."""
    archive: str = Field("", max_length=200)
    """The name of the backup that has arrived; blank where none has."""


class BackupSchedule(BaseModel):
    """One schedule: when, where to, by what keys, and how much stays there."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[str, AfterValidator(_name)]
    plan: Annotated[str, AfterValidator(_plan)]
    """In the form of a restart plan: ``127,02:00``."""
    target: str
    """A URL without secrets."""
    allow_plain_ftp: bool = False
    target_password: _Secret | None = None
    key_file: _Path | None = None
    ca_file: _Path | None = None
    host_key: str | None = Field(None, max_length=_LONGEST_KEY)
    """The key of an SFTP server that was accepted."""
    password: _Secret | None = None
    """The archive's."""
    keep_last: _Count = 0
    keep_daily: _Count = 0
    keep_weekly: _Count = 0

    @model_validator(mode="after")
    def _fit_target(self) -> BackupSchedule:
        try:
            target = self.place
        except TargetError as error:
            raise ValueError(str(error)) from None
        if self.key_file is not None and target.scheme != "sftp":
            raise ValueError("a key file is for sftp:// alone")
        if self.key_file is not None and self.target_password is not None:
            raise ValueError("give a key file or a password of the target, not both")
        if self.ca_file is not None and target.scheme != "ftps":
            raise ValueError("a CA file is for ftps:// alone")
        if target.scheme == "file" and self.target_password is not None:
            raise ValueError("a folder of this machine has no password")
        return self

    @field_serializer("target_password", "password", when_used="json-unless-none")
    def _reveal(self, secret: SecretStr) -> str:
        return secret.get_secret_value()

    @property
    def place(self) -> Target:
        """The target, parsed."""
        return parse_target(self.target, allow_plain_ftp=self.allow_plain_ftp)

    @property
    def keep(self) -> Keep:
        """What stays at the target, and here."""
        return Keep(self.keep_last, self.keep_daily, self.keep_weekly)

    @property
    def restart_plan(self) -> RestartPlan:
        """When it runs."""
        return RestartPlan.parse(self.plan)


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    format: Literal["callisto-backup-schedules-1"] = "callisto-backup-schedules-1"
    schedules: list[BackupSchedule] = Field(max_length=MOST_SCHEDULES)
    outcomes: dict[str, Outcome] = Field({}, max_length=MOST_SCHEDULES)


def make_schedule(**values: Any) -> BackupSchedule:
    """Return a schedule of what an administrator has typed.

    Raises:
        BackupScheduleError: says in one line what is wrong and what is allowed.
    """
    try:
        return BackupSchedule(**values)
    except ValidationError as error:
        raise BackupScheduleError(_told(error)) from None


def _told(error: ValidationError) -> str:
    """Return the first fault in one line; no input is repeated, for it may be a secret."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]).replace("_", "-")
    text = first["msg"].removeprefix("Value error, ")
    return f"{where}: {text}" if where else text


class ScheduleFile:
    """The file of schedules, with how each has ended last."""

    def __init__(self, file: PrivateFile) -> None:
        self._file = file

    def read(self) -> tuple[dict[str, BackupSchedule], dict[str, Outcome]]:
        """Return the schedules and the outcomes by name; none where there is no file.

        Raises:
            FolderError: it cannot be read, or holds something else.
        """
        content = self._file.read()
        if content is None:
            return {}, {}
        try:
            known = _Content.model_validate_json(content)
        except ValidationError as error:
            raise FolderError(f"{named(self._file.path)} holds no schedules of backups: {_told(error)}") from None
        schedules = {schedule.name: schedule for schedule in known.schedules}
        if len(schedules) != len(known.schedules):
            raise FolderError(f"{named(self._file.path)} holds two schedules of one name")
        return schedules, {name: each for name, each in known.outcomes.items() if name in schedules}

    def write(self, schedules: Iterable[BackupSchedule], outcomes: dict[str, Outcome]) -> None:
        """Replace the file, durably.

        Raises:
            FolderError: it could not be written; it is as it was.
        """
        known = {schedule.name: schedule for schedule in schedules}
        content = _Content(
            schedules=list(known.values()), outcomes={name: each for name, each in outcomes.items() if name in known}
        )
        self._file.write(content.model_dump_json(indent=1).encode() + b"\n")
