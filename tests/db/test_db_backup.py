from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import pyzipper

from callisto_telnetd.db.backup.content import SECRET_STATE
from callisto_telnetd.db.backup.folder import (
    MAKING,
    MAKING_DATABASE,
    archives,
    delete,
    find,
    free_name,
    host_of_name,
    is_archive_name,
    remove_unfinished,
)
from callisto_telnetd.db.backup.manifest import DATABASE, MANIFEST, PACK, RECORDINGS, SETTINGS
from callisto_telnetd.db.backup.reader import is_protected, open_archive
from callisto_telnetd.db.backup.unpacking import unpack
from callisto_telnetd.db.backup.verification import verify
from callisto_telnetd.db.backup.writer import READING, Order, create
from callisto_telnetd.errors import BackupError, BackupPasswordError, DamagedDatabaseError
from tests.db.archives import AT, HASH, PASSWORD, ignore, make_appliance, make_archive, read_archive

WRITES_A_SECOND = 50


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> Order:
    """A small appliance; its archives are removed by nobody."""
    return make_appliance(tmp_path_factory.mktemp("appliance") / "data")


def rows(database: bytes, path: Path, sql: str) -> list[tuple[object, ...]]:
    """Return what a database says that came out of an archive."""
    path.write_bytes(database)
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.parametrize("password", [PASSWORD, None])
def test_an_archive_holds_what_the_manifest_lists(order: Order, password: str | None) -> None:
    """Every recording comes out as it was, in the manifest's order; the name, the mode and the folder are right."""
    made = make_archive(order, password)
    members = read_archive(made.path, password)

    assert made.path.name.startswith("callisto-callisto-20261123-101500")
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert [member.name for member in made.manifest.members] == list(members)
    recordings = {name.removeprefix(RECORDINGS): content for name, content in members.items() if RECORDINGS in name}
    assert recordings == {path.name: path.read_bytes() for path in order.media.iterdir()}
    assert list(recordings) == sorted(recordings)
    assert is_protected(made.path) is (password is not None)
    assert not [path for path in order.folder.iterdir() if path.name.startswith(".")]


def test_the_manifest_says_what_it_is_of(order: Order) -> None:
    """Product, schema, edition, host, serial, UTC, note: as ordered, also read back."""
    made = make_archive(order, PASSWORD)
    with open_archive(made.path, PASSWORD) as archive:
        head = archive.manifest.head()

    assert head == made.manifest.head()
    assert {
        key: head[key] for key in ("product_version", "schema", "edition", "host", "serial", "created", "note")
    } == {
        "product_version": "1.0.0",
        "schema": 2,
        "edition": "ucm",
        "host": "callisto",
        "serial": "4711",
        "created": "2026-11-23T10:15:00Z",
        "note": "before the change",
    }


def test_secrets_are_in_it_only_with_a_password(order: Order, tmp_path: Path) -> None:
    """Accounts, PINs, transfer passwords and the settings file: with a password all, without one not a byte of them."""
    with closing(sqlite3.connect(order.live)) as connection:
        state = (f"{SECRET_STATE}target/office", "transfer-password")
        connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", state)
        quarantined = ("2026-11-23T10:00:00+00:00", "account", "damaged", f'["eve", "{HASH}"]')
        connection.execute("INSERT INTO quarantine (at, origin, reason, content) VALUES (?, ?, ?, ?)", quarantined)
        connection.commit()
    protected, open_one = make_archive(order, PASSWORD), make_archive(order)
    inside = read_archive(protected.path, PASSWORD)
    outside = read_archive(open_one.path)

    assert rows(inside[DATABASE], tmp_path / "in.db", "SELECT name, password_hash FROM account") == [("ada", HASH)]
    assert inside[SETTINGS] == order.settings.read_bytes() if order.settings else False
    assert b"transfer-password" in inside[DATABASE]
    assert b"$argon2id" not in outside[DATABASE]
    assert b"transfer-password" not in outside[DATABASE]
    assert SETTINGS not in outside
    assert open_one.manifest.left_out == (SETTINGS,)
    assert (protected.manifest.secrets, open_one.manifest.secrets) == (True, False)
    users = "SELECT count(*) FROM user"
    assert rows(inside[DATABASE], tmp_path / "a.db", users) == rows(outside[DATABASE], tmp_path / "b.db", users)


def test_recordings_that_are_not_there_are_no_reason_to_fail(tmp_path: Path) -> None:
    """One that is gone, one whose content is another, and a link are listed as missing; the rest is in it."""
    order = make_appliance(tmp_path / "data")
    gone, changed, linked, *others = sorted(order.media.iterdir())
    gone.unlink()
    changed.write_bytes(changed.read_bytes() + b"x")
    kept = linked.rename(tmp_path / "elsewhere")
    linked.symlink_to(kept)
    made = make_archive(order)

    assert made.manifest.missing == tuple(sorted((gone.name, changed.name, linked.name)))
    assert made.manifest.missing_count == 3
    assert {name.removeprefix(RECORDINGS) for name in read_archive(made.path)} - {DATABASE} == {
        path.name for path in others
    }


@pytest.mark.parametrize("password", [PASSWORD, None])
def test_a_large_recording_is_stored_piece_by_piece(tmp_path: Path, password: str | None) -> None:
    """One that is not held in memory as a whole comes out as it went in."""
    order = make_appliance(tmp_path / "data", recordings=1)
    (old,) = order.media.iterdir()
    content = bytes(range(256)) * 20_000
    name = hashlib.sha256(content).hexdigest()
    old.unlink()
    (order.media / name).write_bytes(content)
    with closing(sqlite3.connect(order.live)) as connection:
        connection.execute("UPDATE message SET recording = ?", (name,))
        connection.commit()
    made = make_archive(order, password)

    assert read_archive(made.path, password)[RECORDINGS + name] == content


@pytest.mark.parametrize("password", [PASSWORD, None])
def test_7_zip_tar_and_pyzipper_read_it(order: Order, tmp_path: Path, password: str | None) -> None:
    """Readers that are not ours find every member whole, and the same content; recordings are for their owner alone."""
    made = make_archive(order, password)
    word = [f"-p{password}"] if password else ["-p-"]
    out = tmp_path / "out"
    subprocess.run(["7zz", "x", *word, f"-o{out}", str(made.path)], check=True, capture_output=True)
    told = subprocess.run(["tar", "-xvf", out / PACK, "-C", out], check=True, capture_output=True, text=True)
    members = read_archive(made.path, password)
    recordings = [name for name in members if name.startswith(RECORDINGS)]
    with pyzipper.AESZipFile(made.path) as other:
        other.setpassword(password.encode() if password else None)
        assert other.testzip() is None
        assert other.namelist() == [MANIFEST, *(name for name in members if name not in recordings), PACK]

    assert {name: (out / name).read_bytes() for name in members} == members
    assert (told.stdout.splitlines(), told.stderr) == (recordings, "")
    assert {path.stat().st_mode & 0o777 for path in (out / RECORDINGS).iterdir()} == {0o600}
    assert {path.stat().st_mtime for path in (out / RECORDINGS).iterdir()} == {AT.timestamp()}


def test_7_zip_refuses_another_password(order: Order) -> None:
    """The members are encrypted, the manifest too."""
    made = make_archive(order, PASSWORD)
    tried = subprocess.run(
        ["7zz", "t", "-pwrong-password", str(made.path)], check=False, capture_output=True, text=True
    )

    assert tried.returncode != 0
    assert "Wrong password" in tried.stdout + tried.stderr
    assert b"before the change" not in made.path.read_bytes()


def test_verify_says_what_an_archive_is(order: Order) -> None:
    """Seal, members and the database inside are looked at; nothing is left of the look."""
    made = make_archive(order, PASSWORD)
    found = verify(made.path, PASSWORD, order.folder, lambda _name, _text: None, ignore)

    assert (found.rows, found.protected, found.size_bytes) == (made.rows, True, made.path.stat().st_size)
    assert found.manifest == made.manifest
    assert not [path for path in order.folder.iterdir() if path.name.startswith(".")]


def test_verify_tells_of_values_that_are_nonsense(order: Order) -> None:
    """A value that the appliance would not take is told, and is no reason to refuse the archive."""
    made = make_archive(order)
    found = verify(made.path, None, order.folder, lambda name, _text: f"{name}: nonsense", ignore)
    with closing(sqlite3.connect(order.live)) as connection:
        count = connection.execute("SELECT count(*) FROM variable").fetchone()[0]

    assert len(found.faults) == min(count, 20) > 0


@pytest.mark.parametrize(
    ("right", "given", "reason"),
    [
        (PASSWORD, "another password", "the password is wrong"),
        (PASSWORD, None, "a password protects it"),
        (None, PASSWORD, "no password protects it"),
    ],
)
def test_the_password_has_to_fit(order: Order, right: str | None, given: str | None, reason: str) -> None:
    """Wrong, missing, or not needed: each is said in one line."""
    made = make_archive(order, right)
    with pytest.raises(BackupPasswordError, match=reason), open_archive(made.path, given):
        pass


def test_a_damaged_database_gives_no_archive(tmp_path: Path) -> None:
    """The copy is looked at before anything is written of it; nothing is left."""
    order = make_appliance(tmp_path / "data")
    with order.live.open("r+b") as stream:
        stream.seek(20 * 4096)
        stream.write(b"\xff" * 4096)

    with pytest.raises(DamagedDatabaseError, match="the database is not sound: "):
        create(order, ignore)
    assert list(order.folder.iterdir()) == []


def test_a_folder_that_is_not_there_is_said(order: Order, tmp_path: Path) -> None:
    """No folder, no archive: one line of ours."""
    with pytest.raises(BackupError, match="the backup cannot be made: No such file or directory; nothing was changed"):
        create(replace(order, folder=tmp_path / "nowhere"), ignore)


def test_what_keeps_a_part_from_being_written_is_said(order: Order, tmp_path: Path) -> None:
    """It is not the archive that cannot be read."""
    made = make_archive(order)
    (tmp_path / "callisto.db").touch()

    with pytest.raises(BackupError, match="the backup cannot be taken apart: File exists; nothing was changed"):
        unpack(made.path, None, tmp_path, order.media, ignore)


def test_a_recording_that_changes_while_it_is_read_is_said(tmp_path: Path) -> None:
    """All recordings were looked at once more, and still one is another when it is packed: no archive, one line."""
    order = make_appliance(tmp_path / "data")
    spoiled = sorted(order.media.iterdir())[3]
    right = spoiled.read_bytes()

    def tell(step: str, done: int, _of: int) -> None:
        if step == READING:
            spoiled.write_bytes(right[::-1] if done else right)

    with pytest.raises(
        BackupError, match=f"{spoiled.name} has changed while it was read; nothing was changed; try again"
    ):
        create(order, tell)
    assert list(order.folder.iterdir()) == []


def test_the_copy_is_consistent_while_others_write(tmp_path: Path) -> None:
    """Amounts move between rows 50 times a second; in each archive their sum is what it always was."""
    order = make_appliance(tmp_path / "data", recordings=3)
    with closing(sqlite3.connect(order.live)) as connection:
        connection.execute("UPDATE mailbox SET quota_s = 1000")
        connection.commit()
        numbers = [row[0] for row in connection.execute("SELECT number FROM mailbox")]
    stop = threading.Event()
    moved = 0

    def move() -> None:
        nonlocal moved
        with closing(sqlite3.connect(order.live, isolation_level=None, timeout=10)) as connection:
            while not stop.wait(1 / WRITES_A_SECOND):
                one, other = numbers[moved % len(numbers)], numbers[(moved * 7 + 1) % len(numbers)]
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("UPDATE mailbox SET quota_s = quota_s - 7 WHERE number = ?", (one,))
                connection.execute("UPDATE mailbox SET quota_s = quota_s + 7 WHERE number = ?", (other,))
                connection.execute("COMMIT")
                moved += 1

    thread = threading.Thread(target=move)
    thread.start()
    try:
        while moved < 2:
            time.sleep(0)
        made = [make_archive(order) for _ in range(5)]
    finally:
        stop.set()
        thread.join()
    sums = [
        rows(read_archive(each.path)[DATABASE], tmp_path / "one.db", "SELECT sum(quota_s) FROM mailbox")
        for each in made
    ]

    assert sums == [[(1000 * len(numbers),)]] * 5


def test_names_and_what_is_left_over(tmp_path: Path) -> None:
    """Only files of our own pattern are listed, found and deleted; what is unfinished goes."""
    names = ["callisto-box-1-20261123-101500.zip", "callisto-box-1-20261124-101500-2.zip"]
    others = [
        "notes.zip",
        "callisto-box-20261399-101500.zip",
        "callisto-box-20261123-101500-0.zip",
        MAKING,
        MAKING_DATABASE,
    ]
    for name in names + others:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "callisto-dir-20261123-101500.zip").mkdir()
    (tmp_path / "callisto-link-20261123-101500.zip").symlink_to(tmp_path / names[0])

    assert [each.path.name for each in archives(tmp_path)] == names[::-1]
    assert not any(is_archive_name(name) for name in others)
    for name in (*others, "../" + names[0], str(tmp_path / names[0]), "callisto-link-20261123-101500.zip", ""):
        with pytest.raises(BackupError, match="there is no backup"):
            find(tmp_path, name)
    delete(tmp_path, names[0])
    remove_unfinished(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        names[1],
        *others[:3],
        "callisto-dir-20261123-101500.zip",
        "callisto-link-20261123-101500.zip",
    }


@pytest.mark.parametrize(
    ("hostname", "part"),
    [("box", "box"), ("a b/../c", "a-b-c"), ("--", "callisto"), ("ä" * 9, "callisto"), ("x" * 99, "x" * 63)],
)
def test_a_host_gives_a_name_that_is_found_again(tmp_path: Path, hostname: str, part: str) -> None:
    """Whatever the host is called, its archives have names of the pattern; a name taken gets a number."""
    assert host_of_name(hostname) == part
    first = free_name(tmp_path, host_of_name(hostname), AT)
    first.touch()
    second = free_name(tmp_path, host_of_name(hostname), AT)
    second.touch()

    assert second.name == first.name.replace(".zip", "-2.zip")
    assert [each.path for each in archives(tmp_path)] == sorted(
        (first, second), key=lambda path: path.name, reverse=True
    )


@pytest.mark.long
def test_more_than_four_gibibytes(tmp_path: Path) -> None:
    """ZIP64's fields hold what 32 bits do not; 7-Zip reads it, and it is taken apart again."""
    order = make_appliance(tmp_path / "data", recordings=1)
    (old,) = order.media.iterdir()
    with old.open("r+b") as stream:
        stream.truncate((4 << 30) + 5)
    with old.open("rb") as stream:
        name = hashlib.file_digest(stream, "sha256").hexdigest()
    old.rename(order.media / name)
    with closing(sqlite3.connect(order.live)) as connection:
        connection.execute("UPDATE message SET recording = ?", (name,))
        connection.commit()
    made = make_archive(order)
    subprocess.run(["7zz", "t", str(made.path)], check=True, capture_output=True)
    (tmp_path / "out").mkdir()
    found = unpack(made.path, None, tmp_path / "out", order.media, ignore)

    assert found.manifest.members.recording_sizes[0] == (4 << 30) + 5
    assert made.size_bytes < 1 << 30
