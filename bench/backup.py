"""How long a backup takes, how large it is, and whom it holds up, beside 7-Zip and ``cp`` on the same files."""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bench.large_database import Work, work
from bench.report import Row, percentile
from bench.servers import CALLISTO, Bench, Server
from bench.wire import PROMPT, SHOW, MeasurementError, ask, log_in, read_until
from callisto_telnetd.db.backup.deflation import deflate
from callisto_telnetd.db.backup.manifest import (
    DATABASE,
    MANIFEST,
    PACK,
    Manifest,
    Member,
    Members,
    format_manifest,
)
from callisto_telnetd.db.backup.pack import pack
from callisto_telnetd.db.backup.reader import open_archive
from callisto_telnetd.db.backup.seal import COMMENT_BYTES, comment_before_seal, key_of, make_seal
from callisto_telnetd.db.backup.tar_records import packed_bytes
from callisto_telnetd.db.backup.zip_writer import ZipWriter
from callisto_telnetd.errors import BackupError

SEVEN_ZIP, SEVEN_ZIP_TESTED, CP = "7zz, AES-256", "7zz, then 7zz t", "cp"
_OTHERS = (SEVEN_ZIP, SEVEN_ZIP_TESTED, CP)
_MESSAGES = 6800
_MIB = 1 << 20
_NICE = ("nice", "-n", "5")
"""As the worker has it, so that other work on the machine holds up all of them as much."""
_PASSWORD = "correct horse battery"
_DEMO_S = 600.0
_MEMBERS = 100_000
_PAUSE_S = 0.01


def measure_backup(bench: Bench, *, quick: bool) -> Iterator[Row]:
    """Back up an appliance of 200 MiB that runs; each time 7-Zip and cp have their turn on the same files."""
    bench = Bench(_made(bench.folder / "backup"))
    with bench.callisto() as server:
        _fill(server)
        name = f"backup of {_size(bench) / _MIB:.0f} MiB"
        rounds = 1 if quick else 5
        created: list[Work] = []
        sevens, tested, copies, opened, checks = [], [], [], [], []
        sizes: dict[str, float] = {}
        for _ in range(rounds):
            sevens.append(_seven_zip(bench, sizes))
            tested.append(sevens[-1] + _timed(["7zz", "t", f"-p{_PASSWORD}", str(bench.folder / "other.zip")]))
            copies.append(_copy(bench, sizes))
            created.append(work(server, b"backup create generated", b"OK backup "))
            sizes[CALLISTO] = _newest(bench).stat().st_size / _MIB
            password = next(
                line.split()[3] for line in created[-1].answer.splitlines() if line.startswith("The password is ")
            )
            checks.append(_verify(server, _newest(bench).name, password))
            opened.append(_create_without_password(server))
            for path in (bench.data / "backup").glob("*.zip"):
                path.unlink()
        median = statistics.median
        times = {
            CALLISTO: median(each.seconds for each in created),
            SEVEN_ZIP: median(sevens),
            SEVEN_ZIP_TESTED: median(tested),
            CP: median(copies),
        }
        yield Row(f"{name}, with a password, verified", "s", times, ratio_at_most=1, against=SEVEN_ZIP, others=_OTHERS)
        yield Row(f"{name}, without a password, verified", "s", {CALLISTO: median(opened)}, others=_OTHERS)
        yield Row(f"verify of it, with a password: {name}", "s", {CALLISTO: median(checks)}, others=_OTHERS)
        yield Row(f"{name}: its size", "MiB", sizes, ratio_at_most=1.2, against=SEVEN_ZIP, others=_OTHERS)
        most = max(each.worker_bytes + each.server_bytes for each in created) / _MIB
        yield Row(f"{name}: worker and growth of the server", "MiB", {CALLISTO: most}, at_most=64, others=_OTHERS)
        yield from _others_meanwhile(server, name, rounds)
    yield _refusal(bench.folder, listed=False)
    yield _refusal(bench.folder, listed=True)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _fill(server: Server) -> None:
    with log_in(server.port) as session:
        session.sendall(f"demo users=300 messages={_MESSAGES} yes\r\n".encode())
        if b"OK made" not in read_until(session, PROMPT, _DEMO_S):
            raise MeasurementError("the demonstration data cannot be made")


def _files(bench: Bench) -> list[Path]:
    return [bench.data / "media", bench.data / "callisto.db"]


def _size(bench: Bench) -> int:
    media, database = _files(bench)
    return database.stat().st_size + sum(each.stat().st_size for each in media.iterdir())


def _timed(words: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run([*_NICE, *words], check=True, capture_output=True)
    return time.perf_counter() - begun


def _seven_zip(bench: Bench, sizes: dict[str, float]) -> float:
    tool = shutil.which("7zz")
    if tool is None:
        raise MeasurementError("no 7zz: Debian's package is 7zip")
    made = bench.folder / "other.zip"
    made.unlink(missing_ok=True)
    words = [tool, "a", "-tzip", "-mem=AES256", "-mx=1", f"-p{_PASSWORD}", str(made), *map(str, _files(bench))]
    seconds = _timed(words)
    sizes[SEVEN_ZIP] = made.stat().st_size / _MIB
    return seconds


def _copy(bench: Bench, sizes: dict[str, float]) -> float:
    made = bench.folder / "copy"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    seconds = _timed(["cp", "-r", *map(str, _files(bench)), str(made)])
    sizes[CP] = sum(each.stat().st_size for each in made.rglob("*") if each.is_file()) / _MIB
    return seconds


def _newest(bench: Bench) -> Path:
    return max((bench.data / "backup").glob("*.zip"), key=lambda path: path.stat().st_mtime_ns)


def _verify(server: Server, name: str, password: str) -> float:
    with log_in(server.port) as session:
        session.sendall(f"backup verify {name}\r\n".encode())
        read_until(session, b".zip: ")
        begun = time.perf_counter()
        session.sendall(password.encode() + b"\r\n")
        answer = read_until(session, PROMPT, _DEMO_S)
        seconds = time.perf_counter() - begun
    if b"OK backup " not in answer:
        raise MeasurementError(f"verify has failed: {answer[-300:]!r}")
    return seconds


def _create_without_password(server: Server) -> float:
    with log_in(server.port) as session:
        session.sendall(b"backup create\r\n")
        read_until(session, b"for none: ")
        begun = time.perf_counter()
        session.sendall(b"\r\n")
        answer = read_until(session, PROMPT, _DEMO_S)
        seconds = time.perf_counter() - begun
    if b"OK backup " not in answer:
        raise MeasurementError(f"create has failed: {answer[-300:]!r}")
    return seconds


def _others_meanwhile(server: Server, name: str, rounds: int) -> Iterator[Row]:
    """Yield how long others wait for their commands and their changes while backups are made."""
    commands: list[float] = []
    changes: list[float] = []
    with _asked(server, commands, lambda _count: SHOW), _asked(server, changes, _change):
        for _ in range(rounds):
            work(server, b"backup create generated", b"OK backup ")
    figures = {CALLISTO: percentile(commands, 99) * 1e3}
    yield Row(f"{name}: p99 of other sessions' commands", "ms", figures, at_most=100, others=_OTHERS)
    longest = {CALLISTO: max(changes) * 1e3}
    yield Row(f"{name}: longest wait for a change", "ms", longest, at_most=250, others=_OTHERS)


def _change(count: int) -> bytes:
    return f"variables set gWebTimeout {20 + count % 30}".encode()


@contextmanager
def _asked(server: Server, took: list[float], command: Callable[[int], bytes]) -> Iterator[None]:
    """Ask again and again; the seconds of each answer are added to the list."""
    ended = threading.Event()

    def run() -> None:
        with log_in(server.port) as session:
            count = 0
            while not ended.wait(_PAUSE_S):
                begun = time.perf_counter()
                ask(session, command(count))
                took.append(time.perf_counter() - begun)
                count += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _refusal(folder: Path, *, listed: bool) -> Row:
    """Return how long an archive of 100,000 members is looked at.

    Args:
        folder: Where it is written.
        listed: Whether the manifest lists them, as recordings, and one is not there; else the ZIP file has them.
    """
    path = folder / "forged.zip"
    _forge(path, listed=listed)
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        try:
            with open_archive(path, None) as archive:
                archive.verify_members(lambda *_: None)
            raise MeasurementError("a forged archive was taken")
        except BackupError:
            took.append(time.perf_counter() - begun)
    name = f"{_MEMBERS:,} members are refused"
    if listed:
        name = f"{_MEMBERS:,} recordings, the last of which is not there, are refused"
    return Row(name, "ms", {CALLISTO: statistics.median(took) * 1e3}, at_most=300, others=_OTHERS)


def _forge(path: Path, *, listed: bool) -> None:
    members = Members(Member(DATABASE, 1, hashlib.sha256(b"x").hexdigest()))
    recordings = []
    for content in sorted(
        (b"%06d" % place for place in range(_MEMBERS)), key=lambda each: hashlib.sha256(each).digest()
    ):
        members.add_recording(hashlib.sha256(content).hexdigest(), len(content))
        recordings.append(content)
    manifest = Manifest("1", 2, "ucm", "", "", "2026-11-23T09:15:00Z", "", False, (), (), 0, members)
    with path.open("w+b") as stream:
        archive = ZipWriter(stream, None, datetime.now(UTC))
        archive.add(MANIFEST, 0, map(deflate, format_manifest(manifest)))
        archive.add(DATABASE, 1, [deflate(b"x")])
        if listed:
            contents = (
                (member, [content]) for member, content in zip(members.each_recording(), recordings[:-1], strict=False)
            )
            size = packed_bytes(each.size for each in list(members.each_recording())[:-1])
            archive.add(PACK, size, map(deflate, pack(manifest, contents)))
        else:
            for place in range(_MEMBERS):
                archive.add(f"{place:06}", 1, [deflate(b"x")])
        archive.finish(comment_before_seal(bytes(16)).ljust(COMMENT_BYTES, b"0"))
        stream.flush()
        size = path.stat().st_size
        seal = make_seal(stream.fileno(), size, key_of(None, bytes(16)), lambda *_: None)
        os.pwrite(stream.fileno(), seal.encode(), size - len(seal))
