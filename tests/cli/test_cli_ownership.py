"""Whose files a start believes: what names commands is its owner's alone to write, or nothing begins."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import NOBODY, Run, make_appliance

UNKNOWN = "[limits]\nsession = 1\n"
"""Settings that a start reads, and then refuses for what is in them."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with settings, all of it as it should be."""
    data = tmp_path / "data"
    for part in (data, data / "run", data / "backup"):
        part.mkdir(mode=0o700)
    (data / "callisto.toml").write_text(UNKNOWN)
    return data


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("variables", "list")])
@pytest.mark.parametrize(
    ("path", "mode", "what"),
    [
        ("", 0o777, "data folder"),
        ("", 0o1777, "data folder"),
        ("", 0o770, "data folder"),
        ("run", 0o777, "folder"),
        ("backup", 0o720, "folder"),
        ("callisto.toml", 0o666, "settings"),
        ("callisto.toml", 0o664, "settings"),
    ],
)
def test_what_others_may_write_to_is_refused_and_mended_as_told(
    run: Run, data: Path, command: tuple[str, ...], path: str, mode: int, what: str
) -> None:
    """One line names the file, what is wrong and a command; after that command the start goes on to the next fault."""
    make_appliance(data)
    (data / "callisto.toml").write_text("" if path and path != "callisto.toml" else UNKNOWN)
    (data / path).chmod(mode)
    if not path and command[0] != "serve":
        (data / "callisto.toml").write_text("")

    outcome = run(*command, data=data).require(2, err="Error: ")

    wrong = f"{what} {str(data / path)!r} may be written to by others (mode {mode:04o}); mend it with: "
    assert outcome.err.startswith(f"Error: {wrong}")
    subprocess.run(shlex.split(outcome.err.partition("mend it with: ")[2]), check=True)
    (data / "callisto.toml").write_text(UNKNOWN)
    run(*command, data=data).require(2, err="'limits.session' is no setting")


@pytest.mark.parametrize("path", ["", "run", "backup", "callisto.toml"])
def test_a_server_takes_no_orders_from_another_user(run: Run, data: Path, path: str) -> None:
    """A folder or settings of somebody else start no server of root's; a folder of root's starts one of anybody's."""
    (data / "callisto.toml").write_text(UNKNOWN if path in {"", "callisto.toml"} else "")
    os.chown(data / path, NOBODY, -1)

    outcome = run("serve", "--port", "0", data=data).require(2, err="belongs to nobody, not to root")

    assert outcome.err.endswith(f"mend it with: chown root {data / path}\n")


def test_root_works_in_the_folder_of_a_servers_user(run: Run, tmp_path: Path) -> None:
    """The command line of root goes on working there, with the settings of that user; his commands are not run."""
    data = make_appliance(tmp_path / "data")
    ran = tmp_path / "ran"
    (data / "callisto.toml").write_text(f'[appliance]\nserial = "S7"\n[backup]\non_failure = ["touch", "{ran}"]\n')
    schedule = ("backup", "schedule")
    run(*schedule, "add", "n", "plan=daily 02:00", f"target=file://{tmp_path}/gone", data=data).require(0)
    assert run(*schedule, "run", "n", data=data).code == 1
    ran.unlink()
    for each in (data, *data.rglob("*")):
        os.chown(each, NOBODY, -1)

    assert "Serial: S7" in run("information", data=data).require(0).out
    assert run(*schedule, "run", "n", data=data).code == 1
    assert not ran.exists()


@pytest.mark.parametrize(("mode", "sticky"), [(0o777, 0), (0o777, 0o1000), (0o755, 0)])
def test_settings_elsewhere_are_judged_with_their_folder(run: Run, tmp_path: Path, mode: int, sticky: int) -> None:
    """``--config`` stands in a folder in which nobody else can replace it: his own, or one with the sticky bit."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    place.chmod(mode | sticky)
    (place / "real.toml").write_text(UNKNOWN)
    link = tmp_path / "link.toml"
    link.symlink_to(place / "real.toml")
    refused = mode == 0o777 and not sticky
    told = f"the folder of settings {str(place)!r} may be written to by others" if refused else "is no setting"

    for file in (place / "real.toml", link):
        run("serve", "--port", "0", "--config", str(file), data=tmp_path / "data").require(2, err=told)
    assert not (tmp_path / "data").exists()


def test_a_key_that_others_may_replace_is_refused(run: Run, data: Path, tmp_path: Path) -> None:
    """Certificate and key of TLS are judged as the settings are, before they are read."""
    for name in ("certificate", "key"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o600)
    place = "\n".join(f"{name} = '{tmp_path / name}'" for name in ("certificate", "key"))
    (data / "callisto.toml").write_text(f"[telnet.tls]\n{place}\nport = 0\n[services.web-server]\nenabled = false\n")
    (tmp_path / "key").chmod(0o660)

    told = f"telnet.tls.key {str(tmp_path / 'key')!r} may be written to by others (mode 0660); mend it with: chmod go-w"
    run("serve", "--port", "0", data=data).require(2, err=told)
