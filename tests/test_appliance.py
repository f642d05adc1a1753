"""What keeps a server from starting, told before it is started."""

from __future__ import annotations

import socket
from pathlib import Path

from callisto_telnetd.appliance import start_faults
from callisto_telnetd.maintenance.settings_faults import faults_of_others
from callisto_telnetd.settings import load_settings


def faults(folder: Path, text: str) -> list[str]:
    """Return the faults of a settings file."""
    (folder / "callisto.toml").write_text(text)
    return start_faults(load_settings(folder))


def test_what_keeps_a_server_from_starting_is_told_in_a_line_each(tmp_path: Path) -> None:
    """A plan that is none, an address that is elsewhere and a certificate that is not here are told together."""
    text = "[database]\ncheck = 'x'\n[telnet]\nhost = '192.0.2.7'\nport = 2323\n"
    found = faults(tmp_path, text + f"[telnet.tls]\ncertificate = '{tmp_path}/c.pem'\nkey = '{tmp_path}/k.pem'\n")

    assert [line.replace(str(tmp_path), "DIR") for line in found] == [
        (
            "DIR/callisto.toml: database.check: 'x' is not allowed; allowed: when the whole database is checked:"
            " a restart plan such as 1,03:30 or sun 03:30; blank: never"
        ),
        "192.0.2.7 port 2323 cannot be listened on: this machine does not have that address",
        "telnet.tls.certificate: 'DIR/c.pem' cannot be read: No such file or directory",
        "192.0.2.7 port 992 cannot be listened on: this machine does not have that address",
    ]


def test_a_port_that_is_in_use_is_no_fault(tmp_path: Path) -> None:
    """The server that asks has its ports itself."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert faults(tmp_path, f"[telnet]\nport = {taken.getsockname()[1]}\n") == []


def test_what_this_server_could_not_have_either_is_no_fault_of_others(tmp_path: Path) -> None:
    """A command without a server's rights or address does not refuse a backup for it, and flags stand above files."""
    (tmp_path / "callisto.toml").write_text("[telnet]\nhost = '192.0.2.7'\nport = 2323\n")
    other = tmp_path / "other.toml"
    other.write_text("[telnet]\nhost = '192.0.2.7'\nport = 2323\n[database]\ncheck = 'x'\n")
    here, started_by_hand = load_settings(tmp_path), load_settings(tmp_path, None, {"telnet": {"host": "127.0.0.1"}})
    (plan,) = faults_of_others(here, tmp_path, start_faults, other)
    assert plan.startswith("database.check: 'x' is not allowed")

    other.write_text("[telnet]\nhost = '192.0.2.9'\nport = 2323\n")
    assert faults_of_others(started_by_hand, tmp_path, start_faults, other) == []
    assert len(faults_of_others(here, tmp_path, start_faults, other)) == 1
