from __future__ import annotations

from pathlib import Path

import pytest

from callisto_telnetd.whole_paths import with_whole_paths


@pytest.fixture
def backups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of backups, with one backup; the caller stands beside it, with a file of that name and another."""
    folder = tmp_path / "data" / "backup"
    folder.mkdir(parents=True)
    (folder / "both.zip").touch()
    for name in ("both.zip", "mine.zip"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize(
    ("words", "whole"),
    [
        ("verify mine.zip", "verify {here}/mine.zip"),
        ("plan sub/mine.zip keep-settings", "plan {here}/sub/mine.zip keep-settings"),
        ("restore both.zip yes", "restore both.zip yes"),
        ("restore ./both.zip yes", "restore {here}/both.zip yes"),
        ("restore none.zip", "restore none.zip"),
        ("restore /there/x.zip", "restore /there/x.zip"),
        ("restore sftp://a@b/c/mine.zip key=k --ca c", "restore sftp://a@b/c/mine.zip key={here}/k --ca {here}/c"),
        ("schedule add mine.zip --key k target=/t", "schedule add mine.zip --key {here}/k target=/t"),
        ("delete mine.zip", "delete mine.zip"),
        ("", ""),
    ],
)
def test_a_file_is_named_from_where_the_caller_stands(backups: Path, words: str, whole: str) -> None:
    """A name of the folder of backups stays one; a file of the caller's, and a key file, get their whole path."""
    assert with_whole_paths(words.split(), backups) == whole.format(here=Path.cwd()).split()
