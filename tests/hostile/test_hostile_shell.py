"""A shell is not the system: what an administrator restores over the network brings no command, user or file."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callisto_telnetd.db.folder import DataFolder
from callisto_telnetd.db.restore.unpacked import Unpacked
from callisto_telnetd.maintenance.restores import RestoreRun
from callisto_telnetd.menus.context import Parts
from callisto_telnetd.origin import Origin
from callisto_telnetd.settings import Section, Settings
from callisto_telnetd.settings.brought import brought_by_any_door
from callisto_telnetd.settings.toml_text import format_toml
from tests.conftest import StartServer
from tests.db.restoring import make_backup, make_folder
from tests.maintenance.test_maintenance_mode import appliance

OWNER = Origin("root", "local", "local")
NETWORK = [Origin("eve", door, "192.0.2.66") for door in ("telnet", "telnets", "web")]
HERE = """\
[appliance]
serial = "here"
[backup]
on_failure = ["tell", "me"]
[services.own]
command = ["/usr/bin/own"]
user = "callisto"
restart = "never"
"""
HOSTILE = """\
[appliance]
serial = "S9"
[limits]
sessions = 7
[clock]
mode = "system"
[backup]
on_failure = ["/bin/sh", "-c", "id"]
[services.evil]
command = ["/bin/sh", "-c", "id"]
[services.own]
command = ["/bin/sh", "-c", "id"]
environment = { LD_PRELOAD = "/tmp/x.so" }
user = "root"
folder = "/tmp"
memory = "1G"
stop_s = 2.5
health = { command = ["id"] }
[services.web-server]
command = ["nc"]
port = 8081
[variables.gOwn]
type = "text"
[telnet]
echo = "always"
"""
LEFT_OUT = [
    "backup.on_failure",
    "clock.mode",
    "limits.sessions",
    "services.evil.command",
    "services.own.command",
    "services.own.environment.LD_PRELOAD",
    "services.own.folder",
    "services.own.health.command",
    "services.own.memory",
    "services.own.user",
    "services.web-server.command",
    "services.web-server.port",
    "variables.gOwn.type",
]
BROUGHT = {
    "appliance": {"serial": "S9"},
    "backup": {"on_failure": ["tell", "me"]},
    "services": {"own": {"stop_s": 2.5, "command": ["/usr/bin/own"], "user": "callisto"}},
    "telnet": {"echo": "always"},
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with the owner's settings."""
    data = make_folder(tmp_path / "data").parent
    (data / "callisto.toml").write_text(HERE)
    return data


@pytest.fixture
def backup(tmp_path: Path) -> Unpacked:
    """A backup whose settings would run commands."""
    backup = make_backup(tmp_path / "unpacked")
    assert backup.settings is not None
    backup.settings.write_text(HOSTILE)
    return backup


@pytest.fixture
async def parts(data: Path) -> AsyncIterator[Parts]:
    """The appliance of the folder."""
    async with appliance(DataFolder(data)) as parts:
        yield parts


def settings_of(data: Path) -> dict[str, Any]:
    """Return what stands in the settings."""
    return tomllib.loads((data / "callisto.toml").read_text())


async def finish(run: RestoreRun) -> tuple[str, ...]:
    """Wait for the end of a restore, and return what people are told of it."""
    assert run.task is not None
    return (await run.task).notes


@pytest.mark.parametrize("origin", NETWORK, ids=lambda origin: origin.door)
async def test_a_restore_over_the_network_brings_no_command(
    parts: Parts, data: Path, backup: Unpacked, origin: Origin
) -> None:
    """The plan names what is left out, and why; what is the owner's stays, and the rest of the settings comes."""
    plan = await parts.restores.plan(backup, origin)
    notes = await finish(parts.restores.begin(backup, origin))

    assert (plan.fits, list(plan.left_out)) == (True, LEFT_OUT)
    why = "settings that name commands, users, files or what listens, or move the system's clock, come by the command"
    assert [note for note in notes if note.startswith(why) and note.endswith(": " + ", ".join(LEFT_OUT))]
    assert plan.outlook is not None
    assert plan.outlook.settings == (
        "appliance.serial",
        "services.own.restart",
        "services.own.stop_s",
        "telnet.echo",
    )
    assert settings_of(data) == BROUGHT
    assert (data / "callisto.toml").stat().st_mode & 0o7777 == 0o600
    assert not (data / "restore.unpacked").exists()


async def test_the_owner_brings_all_at_the_local_socket(parts: Parts, data: Path, backup: Unpacked) -> None:
    """At the command line a restore puts the settings in place as they are, to the letter."""
    assert backup.settings is not None
    backup.settings.write_text("# mine\n" + HERE.replace("own", "mine").replace("tell", "call"))
    wanted = backup.settings.read_text()
    plan = await parts.restores.plan(backup, OWNER)
    await finish(parts.restores.begin(backup, OWNER))

    assert (plan.left_out, (data / "callisto.toml").read_text()) == ((), wanted)


async def test_an_undo_over_the_network_brings_no_command_back(parts: Parts, data: Path, backup: Unpacked) -> None:
    """What the owner has taken out since a restore stays out, and what he has put in stays in."""
    assert backup.settings is not None
    backup.settings.write_text("[appliance]\nserial = 'then'\n")
    await finish(parts.restores.begin(backup, OWNER))
    await finish(parts.restores.begin_undo(NETWORK[0]))
    assert settings_of(data) == {"appliance": {"serial": "here"}}

    (data / "callisto.toml").write_text("[backup]\non_failure = ['new']\n")
    await finish(parts.restores.begin_undo(NETWORK[0]))
    assert settings_of(data) == {"appliance": {"serial": "then"}, "backup": {"on_failure": ["new"]}}


async def test_a_state_without_settings_takes_none_of_the_owners(parts: Parts, data: Path, backup: Unpacked) -> None:
    """An undo to a state that had no settings leaves the commands of now; without any, the file goes."""
    (data / "callisto.toml").unlink()
    assert backup.settings is not None
    backup.settings.write_text(HERE)
    await finish(parts.restores.begin(backup, OWNER))
    await finish(parts.restores.begin_undo(NETWORK[1]))
    kept = {"command": ["/usr/bin/own"], "user": "callisto", "restart": "never"}
    assert settings_of(data) == {"backup": {"on_failure": ["tell", "me"]}, "services": {"own": kept}}


async def test_settings_of_which_the_owners_are_not_known_are_left_alone(
    parts: Parts, data: Path, backup: Unpacked
) -> None:
    """Where the present file is no TOML, a restore over the network is refused, and changes nothing."""
    (data / "callisto.toml").write_text("[backup\n")
    plan = await parts.restores.plan(backup, NETWORK[0])

    assert not plan.fits
    assert plan.reasons[0].startswith("callisto.toml here is not TOML, and which of its settings are the owner's alone")
    assert (data / "callisto.toml").read_text() == "[backup\n"


@pytest.mark.parametrize("text", ["services = 'x'", "services = { own = 3 }", "backup = 3", "telnet = [1]", "x.y = 1"])
async def test_strange_settings_are_refused_as_ever(parts: Parts, data: Path, backup: Unpacked, text: str) -> None:
    """What is no table where one belongs, and a key that is no setting, is told by the plan, and nothing is changed."""
    assert backup.settings is not None
    backup.settings.write_text(text)
    plan = await parts.restores.plan(backup, NETWORK[0])

    assert not plan.fits
    assert plan.reasons[0].startswith("no server would start with callisto.toml of the backup: ")
    assert settings_of(data) == tomllib.loads(HERE)


def test_a_restored_archive_starts_nothing(start: StartServer, tmp_path: Path) -> None:
    """An archive with a password of the attacker's own, restored over Telnet: the next start runs nothing of it."""
    server, pwned, password = start(), tmp_path / "pwned", "correct horse battery"
    settings = server.data / "callisto.toml"
    settings.write_text(
        f'[appliance]\nserial = "E1"\n[services.helper]\ncommand = ["touch", "{pwned}"]\n'
        f'[services.web-server]\ncommand = ["touch", "{pwned}"]\n[backup]\non_failure = ["touch", "{pwned}"]\n'
    )
    made = server.command("backup", "create", "--password-stdin", text=f"{password}\n")
    assert made.returncode == 0, made.stderr
    (archive,) = (server.data / "backup").glob("callisto-*.zip")
    archive = archive.rename(tmp_path / archive.name)
    settings.unlink()
    peer = server.log_in()
    for line in ("schedule add n plan=daily 02:00 target=sftp://a@b/c key=/k", "plan ftps://a@b/c/d.zip ca=/k"):
        reason = "= names a file that the server's user reads: give it at the command line; nothing was changed"
        assert peer.run(f"backup {line}")[-1].endswith(reason)
    peer.send(f"backup restore {archive} yes\r\n").expect(b"Password of ")
    said = peer.send(f"{password}\r\n").answer()

    assert said[-1].startswith("OK ")
    left_out = next(line for line in said if "come by the command line alone" in line)
    assert left_out.endswith(": backup.on_failure, services.helper.command, services.web-server.command")
    assert settings_of(server.data) == {"appliance": {"serial": "E1"}}
    server.stop()
    again = start(data=server.data)
    assert "helper" not in again.command("services", "list").stdout
    again.stop()
    assert not pwned.exists()


def test_every_setting_has_decided_who_may_bring_it() -> None:
    """A key that is in neither list, or in both, is an error of the program at its start; these are the owner's."""
    for marks in ({}, {"BY_OWNER_ALONE": frozenset({"key"}), "BY_ANY_DOOR": frozenset({"key"})}):
        with pytest.raises(TypeError, match=r"put into one of BY_OWNER_ALONE and BY_ANY_DOOR: \['key'\]"):
            type("New", (Section,), {"__annotations__": {"key": str}, **marks})

    assert set(owners_keys(Settings)) >= {
        "appliance.hostname",
        "backup.on_failure",
        "clock.mode",
        "limits.idle_s",
        "limits.login_s",
        "limits.pending",
        "limits.sessions",
        "limits.sessions_per_source",
        "services.command",
        "services.environment",
        "services.folder",
        "services.health",
        "services.host",
        "services.memory",
        "services.port",
        "services.user",
        "telnet.allow",
        "telnet.host",
        "telnet.port",
        "telnet.tls",
        "trace.metrics",
        "trace.udp",
        "variables",
    }


def test_no_settings_open_what_the_owner_has_kept_closed() -> None:
    """Addresses, ports, networks, limits and the name stay as they are here, whatever an archive says."""
    here = {"telnet": {"allow": ["192.0.2.0/24"]}, "limits": {"pending": 8}}
    then = {
        "appliance": {"hostname": "evil.example", "serial": "E1"},
        "telnet": {"host": "0.0.0.0", "port": 2323, "allow": [], "echo": "always"},
        "limits": {"pending": 100_000, "idle_s": 86_400},
        "trace": {"udp": "0.0.0.0:514", "metrics": "0.0.0.0:9100", "files": 2000},
        "services": {"web-server": {"host": "0.0.0.0", "port": 8080, "enabled": True}},
    }

    assert brought_by_any_door(here, then) == {
        "appliance": {"serial": "E1"},
        "telnet": {"allow": ["192.0.2.0/24"], "echo": "always"},
        "limits": {"pending": 8},
        "trace": {"files": 2000},
        "services": {"web-server": {"enabled": True}},
    }


def owners_keys(model: type[Settings | Section], before: str = "") -> list[str]:
    """Return the keys that are the owner's alone, tables by name under the name of all."""
    found = [f"{before}{key}" for key in model.BY_OWNER_ALONE]
    for key in model.BY_ANY_DOOR:
        kinds = str(model.model_fields[key].annotation)
        for section in Section.__subclasses__():
            if f".{section.__name__}" in kinds:
                found += owners_keys(section, f"{before}{key}.")
    return found


TABLES = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.datetimes() | st.dates() | st.times(),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=8), each, max_size=3),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["services", "own", "evil", "web-server", "command", "user", "port", "backup", "on_failure", "x"]
)
TREES = st.recursive(st.integers(0, 3), lambda each: st.dictionaries(KEYS, each, max_size=4), max_leaves=20)


@given(st.dictionaries(st.text(max_size=8), TABLES, max_size=4))
def test_what_is_written_as_toml_is_read_as_it_was(values: dict[str, Any]) -> None:
    """Whatever a settings file holds, writing it loses nothing of it."""
    assert tomllib.loads(format_toml(values)) == values


@given(st.dictionaries(KEYS, TREES, max_size=4), st.dictionaries(KEYS, TREES, max_size=4))
def test_no_settings_bring_a_key_of_the_owners(now: dict[str, Any], then: dict[str, Any]) -> None:
    """Whatever stands here and there, commands and users are afterwards those of before, and no service is new."""
    after = brought_by_any_door(now, then)

    def table(values: Any, *path: str) -> dict[str, Any]:
        for key in path:
            values = values.get(key, {}) if isinstance(values, dict) else {}
        return values if isinstance(values, dict) else {}

    for path, keys in ((("backup",), ["on_failure"]), (("services", "own"), ["command", "user"])):
        there = isinstance(after.get(path[0]), dict)
        for key in keys if there and isinstance(after[path[0]].get(path[-1], {}), dict) else ():
            assert table(after, *path).get(key) == table(now, *path).get(key)
    if isinstance(after.get("services"), dict):
        new = set(table(after, "services")) - set(table(now, "services"))
        assert all(name == "web-server" or not isinstance(after["services"][name], dict) for name in new)
