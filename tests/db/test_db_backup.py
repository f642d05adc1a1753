from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import threading
import time
import zipfile
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
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
    find_here,
    free_name,
    host_of_name,
    is_archive_name,
    remove_unfinished,
)
from callisto_telnetd.db.backup.manifest import DATABASE, MANIFEST, PACK, RECORDINGS, SETTINGS
from callisto_telnetd.db.backup.reader import is_protected, open_archive
from callisto_telnetd.db.backup.unpacking import RECORDINGS_FOLDER, unpack
from callisto_telnetd.db.backup.verification import INSIDE, MEMBERS, SEAL, verify
from callisto_telnetd.db.backup.writer import COPYING, READING, VERIFYING, WRITING, Order, create
from callisto_telnetd.errors import BackupError, BackupPasswordError, DamagedDatabaseError, UnknownBackupError
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


def add_recording(order: Order, content: bytes) -> str:
    """Have a message of its own name a recording; return its name."""
    name = hashlib.sha256(content).hexdigest()
    (order.media / name).write_bytes(content)
    with closing(sqlite3.connect(order.live)) as connection:
        (identity,) = connection.execute("SELECT id FROM message GROUP BY recording HAVING count(*) > 1").fetchone()
        connection.execute("UPDATE message SET recording = ? WHERE id = ?", (name, identity))
        connection.commit()
    return name


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


def test_a_password_opens_an_archive_however_it_is_spelt(order: Order) -> None:
    """A password that looks the same opens it; an archive that was made with a password as typed is opened by that."""
    typed, composed = "Scho\u0308nes-Passwort-1", "Sch\u00f6nes-Passwort-1"
    for made_with, given in ((composed, typed), (composed, composed), (typed, typed)):
        made = make_archive(order, made_with)
        with open_archive(made.path, given) as archive:
            assert archive.protected


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


@pytest.mark.parametrize(
    "name", ["x'ff' || recording", "x'" + "ff" * 64 + "'", "recording || char(10)", "upper(recording)"]
)
def test_a_row_whose_recording_has_no_name_is_no_reason_to_fail(tmp_path: Path, name: str) -> None:
    """A damaged name, also one that is no text, names nothing; the others are in it."""
    order = make_appliance(tmp_path / "data")
    damaged = add_recording(order, b"whose name will be damaged")
    with closing(sqlite3.connect(order.live)) as connection:
        connection.execute(f"UPDATE message SET recording = CAST({name} AS TEXT) WHERE recording = ?", (damaged,))
        connection.commit()
    made = make_archive(order)

    assert {each.sha256 for each in made.manifest.members.each_recording()} == {
        path.name for path in order.media.iterdir()
    } - {damaged}


@pytest.mark.parametrize("password", [PASSWORD, None])
def test_recordings_of_all_sizes_come_out_as_they_went_in(tmp_path: Path, password: str | None) -> None:
    """Nothing, what is just one piece, a byte more, and what is not held in memory as a whole."""
    order = make_appliance(tmp_path / "data", recordings=1)
    contents = [b"", bytes(1 << 20), bytes((1 << 20) + 1), os.urandom(512), bytes(range(256)) * 20_000]
    names = [add_recording(order, content) for content in contents]
    found = read_archive(make_archive(order, password).path, password)

    assert [found[RECORDINGS + name] for name in names] == contents


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


def test_nothing_of_the_content_stands_in_a_protected_archive(tmp_path: Path) -> None:
    """What cannot be deflated stands in an open one as it is, in a protected one not; names of recordings neither."""
    order = make_appliance(tmp_path / "data")
    content = os.urandom(60_000)
    name = add_recording(order, content)
    open_one, protected = (make_archive(order, word).path.read_bytes() for word in (None, PASSWORD))

    assert content[1000:2000] in open_one
    assert content[1000:1016] not in protected
    assert name.encode() not in protected


def test_each_member_has_keys_of_its_own(order: Order) -> None:
    """No salt comes twice, not in one archive and not in two of the same: the key stream always begins at 1."""
    salts = set()
    for path in (make_archive(order, PASSWORD).path for _ in range(2)):
        whole = path.read_bytes()
        for info in zipfile.ZipFile(path).infolist():
            at = info.header_offset + 30 + len(info.filename) + len(info.extra)
            salts.add(whole[at : at + 16])
        salts.add(bytes.fromhex(whole[-64 - len(" seal=") - 32 :][:32].decode()))

    assert len(salts) == 2 * (4 + 1)


def test_7_zip_refuses_another_password(order: Order) -> None:
    """The members are encrypted, the manifest too."""
    made = make_archive(order, PASSWORD)
    tried = subprocess.run(
        ["7zz", "t", "-pwrong-password", str(made.path)], check=False, capture_output=True, text=True
    )

    assert tried.returncode != 0
    assert "Wrong password" in tried.stdout + tried.stderr


def test_verify_says_what_an_archive_is(order: Order) -> None:
    """Seal, members and the database inside are looked at; nothing is left of the look."""
    made = make_archive(order, PASSWORD)
    found = verify(made.path, PASSWORD, order.folder, lambda _name, _text: None, ignore)

    assert (found.rows, found.protected, found.size_bytes) == (made.rows, True, made.path.stat().st_size)
    assert found.manifest == made.manifest
    assert not [path for path in order.folder.iterdir() if path.name.startswith(".")]


def test_verify_tells_of_values_that_no_variable_takes(order: Order) -> None:
    """A value that no system variable takes is told, and is no reason to refuse the archive: its default stands in."""
    made = make_archive(order)
    found = verify(made.path, None, order.folder, lambda name, _text: f"{name}: nonsense", ignore)
    with closing(sqlite3.connect(order.live)) as connection:
        count = connection.execute("SELECT count(*) FROM variable").fetchone()[0]

    assert len(found.unused) == min(count, 20) > 0
    assert not found.doubtful


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


def test_recordings_that_cannot_be_looked_for_are_said(tmp_path: Path) -> None:
    """No folder of recordings, no archive: it would hold none of them."""
    order = make_appliance(tmp_path / "data")
    order.media.rename(tmp_path / "elsewhere")

    with pytest.raises(BackupError, match=r"media' is no folder: is its disk mounted\?; nothing was changed"):
        create(order, ignore)
    assert list(order.folder.iterdir()) == []


def test_settings_that_are_too_large_are_said(tmp_path: Path) -> None:
    """No start takes them, and no restore would."""
    order = make_appliance(tmp_path / "data")
    assert order.settings is not None
    order.settings.write_bytes(b"#" * ((1 << 20) + 1))

    with pytest.raises(BackupError, match=r"callisto\.toml' has more than 1\.0 MiB; nothing was changed"):
        make_archive(order, PASSWORD)
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


def test_a_damaged_recording_that_is_there_is_taken_from_the_archive(order: Order, tmp_path: Path) -> None:
    """Its name and size are right, its content is not; those that are whole are not written again."""
    made = make_archive(order)
    media = shutil.copytree(order.media, tmp_path / "media")
    linked, damaged, *_ = sorted(media.iterdir(), key=lambda path: path.stat().st_size)
    right = damaged.read_bytes()
    damaged.write_bytes(right[::-1])
    linked.rename(tmp_path / "elsewhere")
    linked.symlink_to("x" * (order.media / linked.name).stat().st_size)
    (tmp_path / "parts").mkdir()
    unpack(made.path, None, tmp_path / "parts", media, ignore)

    assert (tmp_path / "parts" / RECORDINGS_FOLDER / damaged.name).read_bytes() == right
    assert {path.name for path in (tmp_path / "parts" / RECORDINGS_FOLDER).iterdir()} == {damaged.name, linked.name}


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
    ) as refused:
        create(order, tell)
    assert refused.type is BackupError
    assert list(order.folder.iterdir()) == []


def test_recordings_that_go_away_meanwhile_are_missing(tmp_path: Path) -> None:
    """One goes when all were looked at, another when they were looked at again: the archive has the rest."""
    order = make_appliance(tmp_path / "data")
    gone, gone_then, *others = sorted(order.media.iterdir())
    going = iter([gone, gone_then])

    def tell(step: str, done: int, _of: int) -> None:
        if step == WRITING and done == 0 and (path := next(going, None)):
            path.unlink()

    made = create(order, tell)

    assert made.manifest.missing == (gone.name, gone_then.name)
    assert read_archive(made.path).keys() - {DATABASE} == {RECORDINGS + path.name for path in others}


def test_settings_that_change_meanwhile_are_taken_as_they_are_then(order: Order) -> None:
    """An editor that saves while the archive is written costs a second try, and no backup."""
    assert order.settings is not None
    before = order.settings.read_bytes()

    def tell(step: str, done: int, _of: int) -> None:
        if step == WRITING and done == 0 and order.settings:
            order.settings.write_bytes(before.upper())

    try:
        made = create(replace(order, password=PASSWORD), tell)
    finally:
        order.settings.write_bytes(before)

    assert read_archive(made.path, PASSWORD)[SETTINGS] == before.upper()


@pytest.mark.parametrize("password", [PASSWORD, None])
def test_progress_rises_to_its_end(tmp_path: Path, password: str | None) -> None:
    """Each step counts up to what it has said there is, neither beyond nor early, and in steps of some mebibytes."""
    order = make_appliance(tmp_path / "data", recordings=9)
    add_recording(order, bytes(12 << 20))
    told: dict[str, list[tuple[int, int]]] = {}

    def tell(step: str, done: int, of: int) -> None:
        told.setdefault(step, []).append((done, of))

    made = create(replace(order, password=password), tell)
    verify(made.path, password, order.folder, lambda _name, _text: None, tell)
    unpack(made.path, password, tmp_path, tmp_path / "nowhere", tell)

    assert list(told) == [COPYING, READING, WRITING, VERIFYING, SEAL, MEMBERS, INSIDE]
    for step in (WRITING, VERIFYING, MEMBERS):
        done, of = [each[0] for each in told[step]], {each[1] for each in told[step] if each[1]}
        assert len(of) == 1
        assert set(done[: done.index(max(of))]).isdisjoint(of)
        assert max(after - before for before, after in pairwise(done)) <= 4 << 20
        assert done[-1] == max(of) == max(done)
    assert told[SEAL][-1][0] == told[SEAL][-1][1]


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


def test_an_archive_that_is_deleted_meanwhile_is_not_listed(tmp_path: Path) -> None:
    """Others come and go while the folder is read: that is no error."""
    kept = tmp_path / "callisto-box-20261123-101500.zip"
    kept.touch()
    going = [tmp_path / f"callisto-box-20261123-1016{second:02}.zip" for second in range(60)]
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            for path in going:
                path.touch()
            for path in going:
                path.unlink()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        assert all(archives(tmp_path)[-1].path == kept for _ in range(300))
    finally:
        stop.set()
        thread.join()


def test_a_file_is_found_by_any_name_and_path(tmp_path: Path) -> None:
    """An archive that was renamed or lies elsewhere is found; what is no file is refused, and not waited for."""
    order = make_appliance(tmp_path / "data", recordings=1)
    folder, made = order.folder, make_archive(order).path
    renamed = made.rename(folder / "before the trunk")
    (folder / "notes.txt").write_text("callisto-backup notes")
    assert [each.path for each in archives(folder)] == [renamed]
    assert find(folder, "before the trunk") == find_here(folder, "before the trunk") == renamed
    link = tmp_path / "link.zip"
    link.symlink_to(renamed)
    assert find(folder, str(link)) == renamed

    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    for name, said in (
        (str(tmp_path / "pipe"), "is no file"),
        ("/dev/zero", "is no file"),
        (str(tmp_path), "is no file"),
        (str(tmp_path / "circle"), "cannot be read"),
        (str(tmp_path / "none"), "there is no file"),
        ("a/b.zip", "is no whole path"),
        ("a\0b", "there is no backup"),
        ("/a\0b", "cannot be read"),
        (".making-backup.zip", "there is no backup"),
    ):
        with pytest.raises(BackupError, match=said):
            find(folder, name)
    delete(folder, renamed.name)
    assert archives(folder) == []


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
        with pytest.raises(UnknownBackupError, match="there is no backup"):
            find_here(tmp_path, name)
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
    assert [each.path for each in archives(tmp_path)] == [second, first]


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

    assert next(found.manifest.members.each_recording()).size == (4 << 30) + 5
    assert made.size_bytes < 1 << 30
