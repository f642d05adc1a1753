from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.errors import FolderError, FolderInUseError

HOLDER = """
import sys
from pathlib import Path
from callisto_telnetd.db.folder import DataFolder
with DataFolder(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """A data folder, made."""
    folder = DataFolder(tmp_path / "data")
    folder.make()
    return folder


def mode(path: Path) -> int:
    """Return the permissions of a path."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_a_new_folder_is_for_its_owner_alone(tmp_path: Path, umask: int) -> None:
    """Whatever the process's mask, nobody else may look into the folder or its parts."""
    before = os.umask(umask)
    try:
        folder = DataFolder(tmp_path / "above" / "data")
        folder.make()
    finally:
        os.umask(before)

    assert mode(tmp_path / "above") == 0o755 & ~umask
    parts = [folder.path, folder.trace, folder.backup, folder.media, folder.control_socket.parent]
    assert [mode(part) for part in parts] == [0o700] * 5


def test_the_parts_have_their_names(tmp_path: Path) -> None:
    """The folder holds the database, captures, backups and the local socket under their names."""
    folder = DataFolder(tmp_path)

    parts = (folder.database, folder.trace, folder.backup, folder.media, folder.control_socket)
    assert [str(part.relative_to(tmp_path)) for part in parts] == [
        "callisto.db",
        "trace",
        "backup",
        "media",
        "run/control.sock",
    ]


def test_making_a_folder_again_changes_nothing(folder: DataFolder) -> None:
    """What stands in a folder that is there already stays."""
    (folder.trace / "x.log").write_text("kept")
    folder.make()

    assert (folder.trace / "x.log").read_text() == "kept"


def test_a_folder_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    """A file in the folder's place is named in one line."""
    (tmp_path / "data").write_text("a file")

    for path in (tmp_path / "data", tmp_path / "data" / "below"):
        with pytest.raises(FolderError, match=r"^data folder '.*' cannot be used: (File exists|Not a directory)$"):
            DataFolder(path).make()


def test_a_path_that_is_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    """The longest path is taken, one byte more is refused with the bound, and makes nothing."""
    room = 107 - len("/run/control.sock") - len(os.fsencode(tmp_path)) - 1
    DataFolder(tmp_path / ("x" * room)).make()

    with pytest.raises(FolderError, match=r"its path is longer than 90 bytes$"):
        DataFolder(tmp_path / ("y" * (room + 1))).make()
    assert [path.name[0] for path in tmp_path.iterdir()] == ["x"]


def test_the_lock_is_held_by_one(folder: DataFolder) -> None:
    """A second owner is refused until the first lets go; letting go twice is fine."""
    lock = folder.lock()
    with pytest.raises(FolderInUseError, match=r"^data folder '.*' is in use by another process$"):
        folder.lock()
    lock.release()
    lock.release()

    with folder.lock(), pytest.raises(FolderInUseError):
        folder.lock()
    folder.lock().release()


def test_the_lock_holds_between_processes_and_dies_with_them(folder: DataFolder) -> None:
    """While another process holds the folder it is refused; after SIGKILL it is free at once."""
    command = [sys.executable, "-c", HOLDER, str(folder.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(FolderInUseError):
            folder.lock()
        child.kill()
        child.wait()
        folder.lock().release()


def test_a_child_process_does_not_inherit_the_lock(folder: DataFolder) -> None:
    """What the server starts goes on without keeping the folder from the next server."""
    lock = folder.lock()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as child:
        lock.release()
        folder.lock().release()
        assert child.poll() is None


def test_a_lock_file_that_cannot_be_made_says_why(tmp_path: Path) -> None:
    """A folder that was never made is our error."""
    with pytest.raises(FolderError, match=r"lock' cannot be opened: No such file or directory$"):
        DataFolder(tmp_path / "none").lock()
