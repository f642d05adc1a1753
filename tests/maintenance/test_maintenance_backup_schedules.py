from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from callisto_telnetd.db.private_file import PrivateFile
from callisto_telnetd.errors import BackupScheduleError, FolderError
from callisto_telnetd.maintenance.backup_schedules import MAX_BYTES, Outcome, ScheduleFile, make_schedule

PLAIN: dict[str, Any] = {"name": "nightly", "plan": "127,02:00", "target": "sftp://ada@backup.example/callisto"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is."""
    return tmp_path / "backup-schedules.json"


def test_schedules_come_back_with_their_secrets(path: Path) -> None:
    """What is written is read again, passwords too; the file is its owner's alone, and no repr shows a secret."""
    schedule = make_schedule(
        **PLAIN, target_password=SecretStr("Other-456"), password=SecretStr("A-long-password"), keep_last=3
    )
    outcome = Outcome(at="2026-11-23T02:00:00+01:00", failed=True, text="no route", archive="callisto-a-1.zip")
    file = ScheduleFile(PrivateFile(path, MAX_BYTES))
    file.write([schedule], {"nightly": outcome, "gone": outcome})

    assert file.read() == ({"nightly": schedule}, {"nightly": outcome})
    assert path.stat().st_mode & 0o777 == 0o600
    assert "Other-456" not in repr(schedule)


def test_without_a_file_there_is_none(path: Path) -> None:
    """An appliance without schedules has no file."""
    assert ScheduleFile(PrivateFile(path, MAX_BYTES)).read() == ({}, {})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "Nightly"}, "name: a schedule's name is 1 to 32 of a-z, 0-9 and -"),
        ({"name": "-"}, "name: a schedule's name is"),
        ({"plan": "0,02:00"}, "plan: a schedule needs at least one day"),
        ({"plan": "daily"}, "plan: no days, or no time of day"),
        ({"target": "ftp://ada@h/x"}, "ftp:// sends password and copy in clear text"),
        ({"target": "sftp://ada:pw@h/x"}, "a target holds no password"),
        ({"target": "/folder", "target_password": SecretStr("x")}, "a folder of this machine has no password"),
        ({"target": "/folder", "key_file": "/key"}, "a key file is for sftp:// alone"),
        ({"ca_file": "/ca.pem"}, "a CA file is for ftps:// alone"),
        ({"key_file": "/key", "target_password": SecretStr("x")}, "give a key file or a password of the target"),
        ({"key_file": "key"}, "key-file: "),
        ({"keep_last": 1001}, "keep-last: "),
        ({"password": SecretStr("")}, "password: 1 to 1024 printable characters"),
    ],
)
def test_what_is_no_schedule_is_one_line(change: dict[str, Any], said: str) -> None:
    """The first thing that is wrong is said in one line, and nothing of a secret."""
    with pytest.raises(BackupScheduleError) as raised:
        make_schedule(**{**PLAIN, **change})

    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format": "callisto-backup-schedules-2", "schedules": []}',
        b'{"schedules": [{"name": "a"}]}',
        b'{"schedules": [{"name": "a", "plan": "127,02:00", "target": "/x", "more": 1}]}',
        b'{"schedules": [' + b",".join([b'{"name": "a", "plan": "1,02:00", "target": "/x"}'] * 2) + b"]}",
        b" " * (MAX_BYTES + 1),
    ],
)
def test_another_file_is_refused(path: Path, content: bytes) -> None:
    """What holds something else, or too much, is an error, and is left as it is."""
    path.write_bytes(content)
    with pytest.raises(FolderError):
        ScheduleFile(PrivateFile(path, MAX_BYTES)).read()

    assert path.read_bytes() == content


@given(st.binary(max_size=300))
def test_any_bytes_are_schedules_or_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Nothing but a FolderError comes of a file, whatever is in it."""
    path = tmp_path_factory.mktemp("schedules") / "file.json"
    path.write_bytes(content)
    with suppress(FolderError):
        ScheduleFile(PrivateFile(path, MAX_BYTES)).read()
