from __future__ import annotations

import asyncio
import hashlib
import os
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from callisto_telnetd.errors import LoginDeniedError, TransferInterruptedError
from callisto_telnetd.transports.delivery import MOST_TRIES, PAUSES_S, Delivery, deliver
from callisto_telnetd.transports.transport import open_transport
from callisto_telnetd.transports.wire import Patience
from tests.transports.conftest import FTP_PROGRAMS, open_site
from tests.transports.sites import RELAY_ADDRESS, Relay, Site, nothing_told

POINTS = 64
SAMPLE = (0, 11, 23, 37, 50, 63)
NETWORKED = ("openssh", "proftpd-sftp", "asyncssh", "ftp", "ftps", *FTP_PROGRAMS)
SAMPLED = (
    "asyncssh",
    "ftp",
    "ftps",
    *(pytest.param(kind, marks=pytest.mark.long) for kind in ("openssh", "proftpd-sftp", *FTP_PROGRAMS)),
)
QUICK = Patience(connect_s=3, login_s=5, step_s=3, whole_s=60, tidy_s=0.5)


async def no_pause(_seconds: float) -> None:
    """Try again at once."""
    await asyncio.sleep(0)


@asynccontextmanager
async def cut_site(kind: str, root: Path) -> AsyncIterator[tuple[Site, Relay]]:
    """Run a server behind a relay that can cut all its connections."""
    async with open_site(kind, root) as site, Relay([site.target.port, *site.data_ports]).running() as relay:
        yield site, relay


async def bring(site: Site, local: Path, name: str) -> Delivery:
    """Deliver through the relay, without pauses."""
    target = site.by_way_of(RELAY_ADDRESS)
    return await deliver(target, site.credentials, local, name, nothing_told, patience=QUICK, pause=no_pause)


async def check_cuts(kind: str, root: Path, local: Path, points: range | tuple[int, ...]) -> None:
    """Cut one upload a point, at equal shares of the bytes that an uncut one takes; look at the folder at each cut."""
    content = local.read_bytes()
    async with cut_site(kind, root) as (site, relay):
        relay.cut_after(None)
        assert (await bring(site, local, "uncut.zip")).tries == 1
        whole = relay.passed
        (site.folder / "uncut.zip").unlink()

        for point in points:
            name = f"cut-{point}.zip"
            seen: list[bytes | None] = []

            def look(path: Path = site.folder / name, seen: list[bytes | None] = seen) -> None:
                seen.append(path.read_bytes() if path.exists() else None)

            relay.cut_after(whole * (2 * point + 1) // (2 * POINTS), look=look)
            delivery = await bring(site, local, name)

            assert relay.cuts == 1, "nothing was cut"
            assert seen in ([None], [content])
            assert delivery.tries == 2 or (delivery.tries == 1 and seen == [content])
            assert delivery.sha256 == hashlib.sha256(content).hexdigest()
            assert site.files() == {name: content}, "something else is left"
            (site.folder / name).unlink()


@pytest.mark.parametrize("kind", SAMPLED)
async def test_a_cut_upload_leaves_no_partial_file(kind: str, tmp_path: Path, local: Path) -> None:
    """Wherever the network is cut, the name is free or the file whole, and the next try brings it: a sample."""
    await check_cuts(kind, tmp_path, local, SAMPLE[::2] if kind == "openssh" else SAMPLE)


@pytest.mark.long
@pytest.mark.parametrize("kind", NETWORKED)
async def test_a_cut_upload_leaves_no_partial_file_at_64_points(kind: str, tmp_path: Path, local: Path) -> None:
    """Wherever the network is cut, the name is free or the file whole, and the next try brings it: every point."""
    await check_cuts(kind, tmp_path, local, range(POINTS))


@pytest.mark.parametrize("kind", SAMPLED)
async def test_four_cuts_are_survived_and_five_are_not(kind: str, tmp_path: Path, local: Path) -> None:
    """The fifth try may still bring the file; where it is cut too, that is said, and the name is free."""
    async with cut_site(kind, tmp_path) as (site, relay):
        relay.cut_after(200_000, times=4)
        assert (await bring(site, local, "four.zip")).tries == MOST_TRIES == 5

        relay.cut_after(200_000, times=5)
        with pytest.raises(TransferInterruptedError, match="given up after 5 tries"):
            await bring(site, local, "five.zip")

        assert [name for name in site.files() if ".part-" not in name] == ["four.zip"]


async def test_pauses_grow_and_are_told(tmp_path: Path, local: Path) -> None:
    """Where nobody answers there are five tries with four growing pauses, and each is told of."""
    paused: list[float] = []
    told: list[tuple[str, int, int]] = []

    async def pause(seconds: float) -> None:
        paused.append(seconds)

    async with open_site("asyncssh", tmp_path) as site:
        gone = site.by_way_of("127.0.0.3")
        with pytest.raises(TransferInterruptedError, match="given up after 5 tries"):
            await deliver(
                gone,
                site.credentials,
                local,
                "a.zip",
                lambda *step: told.append(step),
                patience=QUICK,
                pause=pause,
            )

    assert tuple(paused) == PAUSES_S
    assert paused == sorted(set(paused))
    refused = f"127.0.0.3:{gone.port} cannot be connected to: Connection refused"
    assert told == [
        (f"{refused}; try 2 of 5 in 2 s", 0, 0),
        (f"{refused}; try 3 of 5 in 10 s", 0, 0),
        (f"{refused}; try 4 of 5 in 45 s", 0, 0),
        (f"{refused}; try 5 of 5 in 180 s", 0, 0),
    ]


async def test_a_refusal_is_not_tried_again(sftp: Site, local: Path) -> None:
    """A wrong password is offered once: more tries would lock the account out."""
    wrong = sftp.with_password("wrong")

    with pytest.raises(LoginDeniedError, match="check user, password or key"):
        await deliver(sftp.target, wrong, local, "a.zip", nothing_told, patience=QUICK, pause=no_pause)

    assert sftp.passwords == ["wrong"]


@pytest.mark.long
@pytest.mark.parametrize("kind", [*NETWORKED, "folder"])
async def test_64_mib_go_through_little_memory(kind: str, tmp_path: Path) -> None:
    """Neither the upload nor the download of a large file is held in memory: 12 MiB at most, servers included."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        for _ in range(64):
            file.write(os.urandom(1 << 20))
    async with (
        open_site(kind, tmp_path) as site,
        open_transport(site.target, site.credentials, Patience()) as transport,
    ):
        tracemalloc.start()
        try:
            sent = await transport.upload(large, "large.zip", nothing_told)
            got = await transport.download("large.zip", tmp_path / "back", 1 << 30, nothing_told)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert sent == got
    assert peak < 12 << 20
