from __future__ import annotations

import json
import subprocess
import sys
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.clock import Clock, ClockState, format_moment, system_zone_name
from callisto_telnetd.errors import ClockError

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp()


def clock_at_noon(zone: str = "Europe/Zurich", offset_s: float = 0.0) -> Clock:
    """Return a clock whose system stands still at noon (UTC)."""
    return Clock(zone=zone, offset_s=offset_s, read=lambda: NOON)


def test_time_is_the_systems_plus_the_offset() -> None:
    """The appliance's time is the system's clock plus the own offset, shown in the zone."""
    clock = clock_at_noon(offset_s=3600.0)

    assert clock.time() == NOON + 3600
    assert format_moment(clock.now()) == "2026-11-23 14:00:00"
    assert clock.now().utcoffset() == timedelta(hours=1)


def test_the_real_clock_is_read_by_default() -> None:
    """Without an offset the clock agrees with the system's."""
    before = datetime.now(UTC)

    assert before <= Clock(zone="Europe/Zurich").now() <= datetime.now(UTC)


def test_moving_changes_only_the_offset() -> None:
    """A clock in mode offset is set without a call to the system."""
    clock = clock_at_noon()

    clock.move_to(clock.parse_moment("2030-01-01 00:00:00"))
    assert format_moment(clock.now()) == "2030-01-01 00:00:00"

    clock.move_by(-1.5)
    assert clock.time() == datetime(2029, 12, 31, 22, 59, 58, 500000, tzinfo=UTC).timestamp()
    assert clock.offset_s == clock.time() - NOON


def test_mode_system_sets_the_systems_clock() -> None:
    """A clock in mode system writes the new time and has no offset of its own."""
    system = [NOON]
    clock = Clock("system", "UTC", 99.0, read=lambda: system[0], write=lambda epoch_s: system.__setitem__(0, epoch_s))

    clock.move_by(60)

    assert system == [NOON + 60]
    assert clock.time() == NOON + 60
    assert clock.state() == ClockState(zone="UTC", offset_s=0.0)
    assert clock.source == "system clock"


SET_WITHOUT_RIGHTS = """
import os
from callisto_telnetd.clock import Clock
from callisto_telnetd.errors import ClockError
clock = Clock("system", "UTC")
if os.getuid() == 0:
    os.setuid(65534)
try:
    clock.move_to(clock.now())
except ClockError as error:
    print(error)
"""


def test_mode_system_without_the_capability() -> None:
    """Where the system refuses to have its clock set, the error names the capability and the other mode."""
    done = subprocess.run([sys.executable, "-c", SET_WITHOUT_RIGHTS], capture_output=True, text=True, check=True)

    assert done.stdout == (
        "the system's clock may be set only with the capability CAP_SYS_TIME; "
        'use [clock] mode = "offset" or grant it\n'
    )


@pytest.mark.parametrize("seconds", [-27 * 365.25 * 86400, 75 * 365.25 * 86400, 1e300, float("inf"), float("nan")])
def test_years_out_of_range_are_refused(seconds: float) -> None:
    """A move out of the years 2000 to 2099 changes nothing and names the range."""
    clock = clock_at_noon()

    with pytest.raises(ClockError, match="2000 to 2099"):
        clock.move_by(seconds)
    assert clock.time() == NOON


def test_a_moment_needs_a_zone() -> None:
    """A moment without a zone is a fault of the caller, never guessed at."""
    with pytest.raises(ValueError, match="without a zone"):
        clock_at_noon().move_to(datetime(2026, 11, 23))


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-23 10:15:00", "2026-11-23 09:15:00"),
        ("2026-11-23 10:15", "2026-11-23 09:15:00"),
        ("2026-11-23T10:15:07", "2026-11-23 09:15:07"),
        ("  2026-07-01  10:15 ", "2026-07-01 08:15:00"),
        ("2026-10-25 02:30:00", "2026-10-25 00:30:00"),  # twice that night: the first
        ("2000-01-01 00:00:00", "1999-12-31 23:00:00"),
        ("2099-12-31 23:59:59", "2099-12-31 22:59:59"),
        ("10:15", "2026-11-23 09:15:00"),  # of today
        (" 10:15:07 ", "2026-11-23 09:15:07"),
        ("2026-12-01", "2026-12-01 12:00:00"),  # at the time of day that it is
        ("2026-07-01", "2026-07-01 11:00:00"),
    ],
)
def test_moments_are_read_in_the_zone(text: str, utc: str) -> None:
    """Date and time are taken in the appliance's zone, of a doubled hour the first."""
    assert format_moment(clock_at_noon().parse_moment(text).astimezone(UTC)) == utc


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a date and time like 2026-11-23 10:15:00"),
        ("tomorrow", "is not a date and time like 2026-11-23 10:15:00"),
        ("10:15 2026-11-23", "is not a date and time like"),
        ("10", "is not a date and time like"),
        ("24:00", "00:00:00 to 23:59:59"),
        ("2100-01-01", "2000 to 2099"),
        ("23.11.2026 10:15", "is not a date and time like"),
        ("2026-11-23 10:15:00\x1b[2J", r"\\x1b"),
        ("٢٠٢٦-11-23 10:15", "is not a date and time like"),
        ("9" * 10000, r"'9{61}\.\.\.' is not"),
        ("2026-02-29 10:15", "is not in the calendar"),
        ("2026-11-23 24:00", "00:00:00 to 23:59:59"),
        ("1999-12-31 23:59", "2000 to 2099"),
        ("2100-01-01 00:00", "2000 to 2099"),
        ("2026-03-29 02:30", "2026-03-29 02:30:00 does not exist in Europe/Zurich"),
    ],
)
def test_what_is_no_moment_is_refused(text: str, reason: str) -> None:
    """A moment that cannot be is refused in one printable line that says why and what is allowed."""
    with pytest.raises(ClockError, match=reason) as refusal:
        clock_at_noon().parse_moment(text)

    assert str(refusal.value).isprintable()
    assert refusal.value.exit_code == 2


@given(st.datetimes(datetime(2000, 1, 2), datetime(2099, 12, 30)), st.sampled_from(["UTC", "Asia/Kathmandu"]))
def test_a_moment_is_read_as_it_is_written(naive: datetime, zone: str) -> None:
    """What format_moment writes parse_moment reads, to the second."""
    clock = clock_at_noon(zone)
    moment = clock.local(naive.replace(microsecond=0, tzinfo=UTC).timestamp())

    assert clock.parse_moment(format_moment(moment)) == moment


@given(st.text())
def test_any_text_is_a_moment_or_refused(text: str) -> None:
    """No text makes anything but a moment or a ClockError."""
    try:
        moment = clock_at_noon().parse_moment(text)
    except ClockError:
        return
    assert moment.tzinfo is not None


def test_local_refuses_what_no_calendar_has() -> None:
    """A time beyond every calendar is an error of the clock."""
    with pytest.raises(ClockError):
        clock_at_noon().local(1e20)


def test_another_zone_shows_the_same_moment() -> None:
    """A change of the zone changes what is shown, not the time."""
    clock = clock_at_noon()

    clock.use_zone("America/New_York")

    assert (clock.zone_name, clock.time()) == ("America/New_York", NOON)
    assert format_moment(clock.now()) == "2026-11-23 07:00:00"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Europe/Zürich", "; did you mean Europe/Zurich?"),
        ("europe/zurich", "; did you mean Europe/Zurich?"),
        ("Rome", "; did you mean Europe/Rome?"),
        ("new york", "; did you mean America/New_York?"),
        ("qqqqqqq", ""),
    ],
)
def test_unknown_zones_are_refused_with_a_near_name(name: str, hint: str) -> None:
    """An unknown zone is refused with the nearest known name, if one is near."""
    with pytest.raises(ClockError) as refusal:
        clock_at_noon().use_zone(name)

    assert str(refusal.value) == f"no time zone named {name!r}{hint}"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "..",
            "../../etc/passwd",
            "/etc/localtime",
            "Europe",
            "Europe/",
            "a\0b",
            "tzdata.zi",
            "zone.tab",
            "x" * 65,
        ),
        *("right/UTC", "posix/UTC", "localtime", "Europe/../Europe/Zurich", "Europe//Zurich", "\x1b[2J", "\ud800"),
    ],
)
def test_what_is_no_zone_is_refused(name: str) -> None:
    """Paths, other files beside the zones and hostile names are no zones, and nothing changes."""
    clock = clock_at_noon()

    with pytest.raises(ClockError, match="no time zone named") as refusal:
        clock.use_zone(name)

    assert str(refusal.value).isprintable()
    assert clock.zone_name == "Europe/Zurich"


def test_zones_for_completion() -> None:
    """All zones are listed in order, each once, and each can be used."""
    zones = clock_at_noon().zones()

    assert list(zones) == sorted(set(zones))
    assert {"UTC", "Europe/Zurich"} <= set(zones)
    for zone in zones:
        clock_at_noon().use_zone(zone)


def test_a_system_without_zones_still_has_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no zone is installed, the clock runs in UTC."""
    monkeypatch.setenv("TZ", "Europe/Zurich")
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(to=())
    zoneinfo.ZoneInfo.clear_cache()
    try:
        clock = Clock(read=lambda: NOON)
        clock.use_zone("UTC")
    finally:
        zoneinfo.reset_tzpath(to=before)
        zoneinfo.ZoneInfo.clear_cache()

    assert (clock.zone_name, format_moment(clock.now())) == ("UTC", "2026-11-23 12:00:00")


@pytest.mark.parametrize(
    ("variable", "link", "file", "name"),
    [
        (None, None, None, "UTC"),
        (":Asia/Tokyo", "/usr/share/zoneinfo/Europe/Rome", "Europe/Zurich", "Asia/Tokyo"),
        ("/usr/share/zoneinfo/Asia/Tokyo", None, None, "Asia/Tokyo"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "../usr/share/zoneinfo/Europe/Rome", "Europe/Zurich", "Europe/Rome"),
        (None, "/etc/elsewhere", "Europe/Zurich\n", "Europe/Zurich"),
        ("", None, "no such zone", "UTC"),
        (None, None, "\N{SNOWMAN}", "UTC"),
    ],
)
def test_the_systems_zone(variable: str | None, link: str | None, file: str | None, name: str, tmp_path: Path) -> None:
    """The system's zone is that of TZ, of the link /etc/localtime, or of /etc/timezone, the first that is known."""
    (tmp_path / "etc").mkdir()
    if link is not None:
        (tmp_path / "etc/localtime").symlink_to(link)
    if file is not None:
        (tmp_path / "etc/timezone").write_text(file, encoding="utf-8")

    assert system_zone_name({} if variable is None else {"TZ": variable}, tmp_path) == name


def test_a_blank_zone_is_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a zone of its own the clock follows the system's, and does not store its name."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    clock = Clock()

    assert (clock.zone_name, clock.state().zone) == ("Asia/Tokyo", "")


def test_the_source_in_words() -> None:
    """The source is the system's clock, an own offset, or the server of a synchronisation that still holds."""
    clock = clock_at_noon()
    assert clock.source == "system clock"

    clock.move_by(3600)
    assert clock.source == "own offset of +3600.000 s to the system clock"

    clock.note_sync("pool.ntp.org")
    assert clock.source == "pool.ntp.org, synchronised 2026-11-23 14:00:00"

    clock.move_by(-3600.25)
    assert clock.source == "own offset of -0.250 s to the system clock"


@pytest.mark.parametrize("server", ["", "a\nb", "x" * 262])
def test_what_is_no_server_is_not_noted(server: str) -> None:
    """A name that could not be stored or shown is refused."""
    with pytest.raises(ClockError):
        clock_at_noon().note_sync(server)


def test_a_clock_survives_a_restart() -> None:
    """Zone, offset and last synchronisation are the same after the state was stored and restored."""
    clock = clock_at_noon("Asia/Tokyo", 12.5)
    clock.note_sync("[2001:db8::1]:123")

    again = clock_at_noon("Europe/Zurich")
    again.restore(ClockState.from_json(clock.state().to_json()))

    assert (again.zone_name, again.time(), again.source) == ("Asia/Tokyo", clock.time(), clock.source)


def test_a_state_without_a_zone_keeps_the_one_in_use() -> None:
    """A state that never had a zone chosen leaves the zone of the settings."""
    clock = clock_at_noon("Asia/Tokyo")

    clock.restore(ClockState(offset_s=1.0))

    assert (clock.zone_name, clock.offset_s) == ("Asia/Tokyo", 1.0)


def test_a_state_with_a_zone_that_is_gone_changes_nothing() -> None:
    """A zone that this system does not know is an error, and the clock stays as it is."""
    clock = clock_at_noon()

    with pytest.raises(ClockError, match="no time zone named 'Atlantis/Capital'"):
        clock.restore(ClockState(zone="Atlantis/Capital", offset_s=5.0))
    assert clock.state() == ClockState(zone="Europe/Zurich")


@given(
    st.builds(
        ClockState,
        zone=st.sampled_from(["", "UTC", "America/Argentina/Buenos_Aires", "Etc/GMT+5"]),
        offset_s=st.floats(-(2**32), 2**32),
    )
)
def test_a_state_is_read_as_it_is_written(state: ClockState) -> None:
    """Every state comes back from its JSON as it was."""
    assert ClockState.from_json(state.to_json()) == state


SOUND = {"zone": "UTC", "offset_s": 0, "synced_with": "pool.ntp.org", "synced_at": NOON}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "7", '"x"', "[" * 1000, "[" * 100_000, "\0", "\ud800"]
    + [
        json.dumps({**SOUND, **change})
        for change in (
            {"zone": "../../etc/passwd"},
            {"zone": "x" * 65},
            {"zone": None},
            {"offset_s": "1"},
            {"offset_s": True},
            {"offset_s": float("nan")},
            {"offset_s": float("-inf")},
            {"offset_s": 10**300},
            {"offset_s": None},
            {"synced_with": None},
            {"synced_with": "a\x1b[2Jb"},
            {"synced_with": ""},
            {"synced_with": ["a"]},
            {"synced_at": None},
            {"synced_at": "now"},
            {"synced_at": 1e18},
            {"more": 1},
        )
    ],
)
def test_damaged_states_are_refused(text: str) -> None:
    """A stored state that is damaged, or was forged, is an error in one plain line."""
    with pytest.raises(ClockError, match=r"^the clock's stored state is damaged: "):
        ClockState.from_json(text)


def test_a_sound_state_with_a_synchronisation() -> None:
    """The form that the damaged ones depart from is itself sound."""
    assert ClockState.from_json(json.dumps(SOUND)).synced_with == "pool.ntp.org"


def test_who_observes_is_told_of_every_change() -> None:
    """Setting the clock, another zone, and what is put back are told; reading is not."""
    clock, told = clock_at_noon(), list[str]()
    clock.observe(lambda: told.append(f"{format_moment(clock.now())} {clock.zone_name}"))
    state = clock.state()
    clock.now_in("Asia/Tokyo")
    assert told == []
    clock.move_by(3600)
    clock.use_zone("UTC")

    assert told == ["2026-11-23 14:00:00 Europe/Zurich", "2026-11-23 13:00:00 UTC"]
    clock.put_back(state)
    assert told[-1] == "2026-11-23 13:00:00 Europe/Zurich"


def test_the_time_in_another_zone_is_told_without_a_change() -> None:
    """Asking for another zone's time leaves the zone; an unknown one is refused as in setting it."""
    clock = clock_at_noon()

    assert clock.now_in("Asia/Tokyo").isoformat() == "2026-11-23T21:00:00+09:00"
    assert clock.zone_name == "Europe/Zurich"
    with pytest.raises(ClockError, match="did you mean Asia/Tokyo"):
        clock.now_in("Tokyo")
