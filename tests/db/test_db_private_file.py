from __future__ import annotations

import threading
from pathlib import Path

from callisto_telnetd.db.private_file import PrivateFile

_SIZE = 200_000


def test_two_writers_at_once_both_write_and_leave_one_whole_file(tmp_path: Path) -> None:
    """Whoever writes last has his content in the file, whole; nobody fails, and nothing else is left in the folder."""
    file = PrivateFile(tmp_path / "schedules.json", 2 * _SIZE)
    failed: list[BaseException] = []

    def write(letter: bytes) -> None:
        try:
            for _ in range(20):
                file.write(letter * _SIZE)
        except BaseException as error:  # noqa: BLE001 - the thread's end is looked at below
            failed.append(error)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert file.read() in [letter * _SIZE for letter in (b"a", b"b", b"c")]
    assert [path.name for path in tmp_path.iterdir()] == ["schedules.json"]
