"""``serve``: ready lines, where the settings come from, the first account, and every reason not to start."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pexpect
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from callisto_telnetd.cli import WORDS
from callisto_telnetd.menus.everywhere import EVERYWHERE, LOGOUT, _explanation
from callisto_telnetd.menus.main import MAIN_MENU
from callisto_telnetd.menus.tree import Entry, Menu
from tests.cli.conftest import Run, make_appliance, run_program, tree_of
from tests.conftest import DEADLINE_S, NAME, PASSWORD, ROOT, Server, StartServer

NOT_FOR_A_START = {
    "Cryptodome.Cipher.AES",
    "aioftp",
    "asyncssh",
    "callisto_telnetd.db.backup.reader",
    "callisto_telnetd.db.format.carve",
    "callisto_telnetd.db.inspection",
    "callisto_telnetd.db.restore.staging",
    "callisto_telnetd.db.salvage.repair",
    "callisto_telnetd.db.tables",
    "callisto_telnetd.listeners.metrics",
    "callisto_telnetd.maintenance.demo_rows",
    "jinja2",
    "rich",
    "starlette",
    "uvicorn",
}
"""Slow to import, and used seldom, by an option or in another process."""


def test_a_start_imports_nothing_that_it_does_not_need() -> None:
    """A server is ready without the libraries and modules that only some of its commands and processes use."""
    program = "import sys, callisto_telnetd.cli, callisto_telnetd.appliance; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True, text=True)

    assert NOT_FOR_A_START.isdisjoint(said.stdout.split())


@pytest.mark.usefixtures("fresh_starts")
def test_the_ready_line_names_the_port_that_was_given(start: StartServer) -> None:
    """With --port 0 the ready line on stdout holds the port that was taken; logs are on stderr, and stop exits 0."""
    server = start()

    assert re.fullmatch(r"callisto-telnetd: telnet listening on 127\.0\.0\.1:[1-9][0-9]*", server.ready_lines[0])
    server.log_in()
    assert "logged in" in server.wait_log("logged in")
    assert server.stop(deadline_s=3.0) == 0
    assert len(server.ready_lines) == 1


def test_the_service_manager_is_told(start: StartServer, tmp_path: Path) -> None:
    """READY=1 is sent to $NOTIFY_SOCKET once the server listens, STOPPING=1 when it stops."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(path))
        notify.settimeout(DEADLINE_S)
        server = start(environment={"NOTIFY_SOCKET": str(path)})
        assert notify.recv(100) == b"READY=1"
        server.stop()
        assert notify.recv(100) == b"STOPPING=1"


def test_later_settings_win(start: StartServer) -> None:
    """A flag stands above the environment, the environment above the file."""
    server = start(
        '[appliance]\nhostname = "from-file"\nserial = "F1"\n[limits]\nsessions = 7\n[telnet]\nport = 1\n',
        environment={"CALLISTO_LIMITS__SESSIONS": "9", "CALLISTO_TELNET__PORT": "2"},
    )

    information = json.loads(server.command("information", "--json").stdout)

    assert server.port > 2
    assert information["product"] | {"host": "from-file", "serial": "F1"} == information["product"]
    assert information["sessions"]["most_allowed"] == 9


@pytest.mark.parametrize(
    ("settings", "environment", "named"),
    [
        ("[limits]\nsession = 1\n", {}, ("callisto.toml", "'limits.session'", "sessions_per_source")),
        ("[limit]\nsessions = 1\n", {}, ("callisto.toml", "'limit'", "limits")),
        ("[limits]\nsessions = 0\n", {}, ("callisto.toml", "limits.sessions", "'0'", "1 to 100000")),
        ('[appliance]\nedition = "max"\n', {}, ("callisto.toml", "appliance.edition", "ucm, ucme or one")),
        ('[telnet]\nallow = ["10.0.0.0/99"]\n', {}, ("callisto.toml", "telnet.allow", "10.0.0.0/8")),
        ('[telnet.tls]\ncertificate = "a.pem"\n', {}, ("callisto.toml", "telnet.tls.key is missing", "PEM")),
        ("[limits\n", {}, ("callisto.toml", "not TOML")),
        ("", {"CALLISTO_LIMITS__SESSIONS": "many"}, ("environment", "limits.sessions", "'many'", "1 to 100000")),
        ("", {"CALLISTO_LIMITS__SESSION": "1"}, ("environment", "'limits.session'", "sessions_per_source")),
        ("", {"CALLISTO_SESSIONS": "1"}, ("environment", "'CALLISTO_SESSIONS'", "CALLISTO_LIMITS__…")),
    ],
)
def test_a_wrong_setting_is_named(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: str,
    environment: dict[str, str],
    named: tuple[str, ...],
) -> None:
    """An unknown key or a bad value ends with exit code 2 and one line: where it stands, the key, what is allowed."""
    (tmp_path / "callisto.toml").write_text(settings)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    outcome = run("serve", "--port", "0", data=tmp_path).require(2, err="Error: ")

    assert [word for word in named if word not in outcome.err] == []
    assert list(tmp_path.iterdir()) == [tmp_path / "callisto.toml"]


def test_a_wrong_flag_is_named(run: Run, tmp_path: Path) -> None:
    """A port out of range, an unknown flag or command, and no command at all are misuse: one line, exit code 2."""
    run("serve", "--port", "70000", data=tmp_path / "d").require(2, err="command line: telnet.port: '70000'")
    run("serve", "--ports", "1", data=tmp_path / "d").require(2, err="No such option: --ports")
    run("serve", "--port", "many", data=tmp_path / "d").require(2, err="--port")
    run("server", data=tmp_path / "d").require(2, err="Error: ")
    run().require(2, err="see 'callisto-telnetd --help'")
    run("variables", "list", "--config", str(tmp_path / "none.toml"), data=tmp_path / "d").require(2, err="none.toml")
    assert not (tmp_path / "d").exists()


def test_help_names_every_command_whole(run: Run) -> None:
    """--help has a sentence for each command, none of them cut short."""
    outcome = run("--help").require(0)
    listed = outcome.out.partition("Commands:\n")[2].splitlines()

    assert {line.split()[0] for line in listed} >= {"serve", "repair", "compact", "services", "schedule", "demo"}
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


def _paths(menu: Menu, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Entry]]:
    for entry in menu.entries:
        yield (*before, entry.word), entry
        if isinstance(entry, Menu):
            yield from _paths(entry, (*before, entry.word))


def test_help_is_the_shells_for_every_command_of_the_tree(run: Run, tmp_path: Path) -> None:
    """``help WORD…``, ``WORD… --help`` and ``-h`` print what the shell's help prints, and need no appliance."""
    nowhere = tmp_path / "none"
    for path, entry in _paths(MAIN_MENU):
        if entry is LOGOUT:
            continue
        wanted = [*_explanation(entry), f"OK help for {entry.word}"]
        assert run("help", *path, data=nowhere).require(0).lines == wanted, path
        for flag in ("--help", "-h"):
            *lines, options, last = run(*path, flag, data=nowhere).require(0).lines
            assert [*lines, last] == wanted, path
            assert "--data" in options
    assert run("help").require(0).lines[:2] == ["Main menu", "  1  Trace"]
    assert run("help", "variabels").require(2, err="did you mean 'variables'?").out == ""
    assert run("variables", "help", "set", data=make_appliance(nowhere)).lines[0].startswith("set NAME VALUE ")


def test_the_command_line_has_the_words_of_the_tree() -> None:
    """Every entry of the main menu is a command, in its order; so are the words for all menus that make sense alone."""
    everywhere = {command.word for command in EVERYWHERE}
    words = [known.word for known in WORDS]

    assert [word for word in words if word not in everywhere] == [
        entry.word for entry in MAIN_MENU.entries if entry is not LOGOUT
    ]
    assert {"sessions", "help"} <= everywhere & set(words)


def test_port_23_needs_a_capability(unprivileged: tuple[str, ...], open_folder: Path) -> None:
    """A user who may not open the default port is told of --port and of the capability; nothing is made."""
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 23:
        pytest.skip("this system lets everybody open port 23")
    open_folder.chmod(0o777)

    outcome = run_program("serve", data=open_folder / "data", before=unprivileged).require(1, err="--port")

    assert "CAP_NET_BIND_SERVICE" in outcome.err
    assert not (open_folder / "data").exists()


def test_a_port_in_use_is_named(run: Run, tmp_path: Path) -> None:
    """A port that another program has ends the start with one line, and nothing is made."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        run("serve", "--port", port, data=tmp_path / "d").require(1, err=f"127.0.0.1 port {port} is in use")
    assert not (tmp_path / "d").exists()


def test_one_folder_has_one_server(run: Run, own_server: Server) -> None:
    """A second server on a data folder is refused, and the first serves on."""
    run_program("serve", "--port", "0", data=own_server.data).require(1, err="in use by another process")

    run("sessions", data=own_server.data).require(0)
    own_server.log_in()


def test_an_unwritable_folder_is_named(unprivileged: tuple[str, ...], open_folder: Path) -> None:
    """A data folder that belongs to somebody else ends a start and a command with one line and exit code 1."""
    closed, readable = open_folder / "closed", open_folder / "readable"
    closed.mkdir(mode=0o700)
    readable.mkdir(mode=0o755)
    for folder, words in (
        (closed, ("variables", "list")),
        (readable, ("serve", "--port", "0")),
        (open_folder / "new", ("serve", "--port", "0")),
    ):
        outcome = run_program(*words, data=folder, before=unprivileged).require(1, err="ermission denied")
        assert str(folder) in outcome.err
    assert tree_of(open_folder).keys() == {"closed", "readable"}


def _newer(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA user_version=99")


def _other(file: Path) -> None:
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA application_id=1")


def _text(file: Path) -> None:
    file.write_text("These are not the pages of a database.\n" * 200)


@pytest.mark.parametrize(("spoil", "reason"), [(_newer, "has schema 99"), (_other, "is not a database of Callisto's")])
def test_a_strange_database_is_left_alone(run: Run, tmp_path: Path, spoil: Callable[[Path], None], reason: str) -> None:
    """A database of a newer version or of another program: one line, exit 1, not a byte changed."""
    make_appliance(tmp_path)
    spoil(tmp_path / "callisto.db")
    before = tree_of(tmp_path)

    run("serve", "--port", "0", data=tmp_path).require(1, err=reason)
    run("variables", "set", "gWebTimeout", "30", data=tmp_path).require(1, err=reason)

    assert tree_of(tmp_path) == before


def test_a_file_that_is_no_database_is_left_alone(run: Run, tmp_path: Path) -> None:
    """A command that needs the database says in one line what is wrong; not a byte is changed."""
    make_appliance(tmp_path)
    _text(tmp_path / "callisto.db")
    before = tree_of(tmp_path)

    for words in (("variables", "set", "gWebTimeout", "30"), ("variables", "list"), ("user", "list"), ("audit",)):
        run(*words, data=tmp_path).require(1, err="is not a SQLite database")

    assert tree_of(tmp_path) == before


def _make_certificate(certificate: Path, key: Path) -> None:
    """Write a certificate that signs itself, and its key."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "callisto")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


@pytest.mark.parametrize("wrong", ["certificate", "key", "both", "missing", "swapped"])
def test_tls_files_that_cannot_be_used_are_named(run: Run, tmp_path: Path, wrong: str) -> None:
    """A broken or missing certificate or key ends the start with one line that says which; nothing is made."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    _make_certificate(certificate, key)
    for name, file in (("certificate", certificate), ("key", key)):
        if wrong in (name, "both"):
            file.write_text("-----BEGIN NOTHING-----\n")
    if wrong == "missing":
        key.unlink()
    if wrong == "swapped":
        certificate, key = key, certificate
    config = tmp_path / "settings.toml"
    config.write_text(f'[telnet.tls]\ncertificate = "{certificate}"\nkey = "{key}"\nport = 0\n')

    outcome = run("serve", "--port", "0", "--config", str(config), data=tmp_path / "d").require(1, err="telnet.tls")

    assert "key.pem" in outcome.err
    assert wrong == "missing" or "certificate.pem" in outcome.err
    assert not (tmp_path / "d").exists()


def test_a_path_too_long_for_its_socket_is_refused(run: Run, tmp_path: Path) -> None:
    """A data folder whose socket's path the system cannot take is refused before it is made."""
    folder = tmp_path / ("x" * 100)

    run("serve", "--port", "0", data=folder).require(1, err="its path is longer than 90 bytes")

    assert not folder.exists()


def test_a_random_password_is_shown_once(start: StartServer) -> None:
    """Without $CALLISTO_ADMIN_PASSWORD the first start shows a random password that logs in; later starts show none."""
    server = start(environment={"CALLISTO_ADMIN_PASSWORD": ""})
    shown = re.findall(
        r"^callisto-telnetd: account admin made, password shown this once: (\S+)$", server.log(), re.MULTILINE
    )
    assert len(shown) == 1
    hint = b"The appliance has made this account's password; 'user passwd' changes it.\r\n"
    assert server.log_in(NAME, shown[0]).seen.count(hint) == 1
    assert hint not in server.log_in(NAME, shown[0]).seen
    server.stop()

    again = start(data=server.data, environment={"CALLISTO_ADMIN_PASSWORD": ""})

    again.log_in(NAME, shown[0])
    assert again.log().count(shown[0]) == 1


def test_the_given_password_is_used_and_not_shown(own_server: Server) -> None:
    """The password of $CALLISTO_ADMIN_PASSWORD logs in, and stands in no log."""
    own_server.log_in(NAME, PASSWORD).run("whoami")

    assert PASSWORD not in own_server.log()
    made = "callisto-telnetd: account admin made, password from CALLISTO_ADMIN_PASSWORD\n"
    assert own_server.log().count(made) == 1


@pytest.mark.usefixtures("fresh_starts")
def test_a_password_of_the_environment_is_taken_as_it_is_meant(start: StartServer, tmp_path: Path) -> None:
    """A byte order mark and a line's end are taken off a value, which /proc then shows no more; so may a file begin."""
    server = start(
        '\ufeff[appliance]\nserial = "B1"\n',
        environment={
            "CALLISTO_ADMIN_PASSWORD": "\ufeffChoose-your-0wn\r",
            "CALLISTO_APPLIANCE__HOSTNAME": "\ufefftwin\r",
        },
    )
    peer = server.connect()
    peer.expect(b"twin login: ")
    peer.send("admin\r\n").expect(b"Password: ")
    peer.send("Choose-your-0wn\r\n").expect(b"twin# ")
    peer.send("information\r\n").expect(b"Serial: B1\r\n")
    shown = Path(f"/proc/{server.process.pid}/environ").read_bytes()
    assert b"CALLISTO_ADMIN_PASSWORD=****" in shown
    assert b"Choose-your-0wn" not in shown

    environment = {"CALLISTO_ADMIN_PASSWORD": "Choose\x07your-0wn"}
    refused = run_program("serve", "--port", "0", data=tmp_path / "d", environment=environment)
    refused.require(2, err="the password holds U+0007, which is no printable character; allowed: 8 to 128 characters")


def test_a_weak_first_password_is_refused(tmp_path: Path) -> None:
    """A $CALLISTO_ADMIN_PASSWORD outside the rule ends the start with the rule, without the password or an account."""
    outcome = run_program(
        "serve", "--port", "0", data=tmp_path / "d", environment={"CALLISTO_ADMIN_PASSWORD": "weakling"}
    )

    assert outcome.code in (1, 2)
    assert "8 to 128 characters" in outcome.err
    assert "weakling" not in outcome.err + outcome.out
    assert not (tmp_path / "d").exists()


@pytest.mark.long
def test_a_locked_folder_is_left_alone(run: Run, tmp_path: Path) -> None:
    """While another process holds the lock and no server answers, a command fails with one line and changes nothing."""
    make_appliance(tmp_path)
    lock = os.open(tmp_path / "run" / "lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = tree_of(tmp_path)
        run("variables", "set", "gWebTimeout", "30", data=tmp_path).require(1, err="in use by another process")
        assert tree_of(tmp_path) == before
    finally:
        os.close(lock)
    run("variables", "set", "gWebTimeout", "30", data=tmp_path).require(0)


def test_a_ctrl_c_ends_make_run_cleanly(tmp_path: Path) -> None:
    """Ctrl-C at `make run` stops the server, and make complains of nothing: no ``*** [run] Interrupt``."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("CALLISTO_", "MAKE"))}
    words = ["-o", ".venv/.runtime", "run", "PORT=0", f"DATA={tmp_path / 'data'}", f"BIN={Path(sys.executable).parent}"]
    child = pexpect.spawn(
        "make",
        words,
        cwd=str(ROOT),
        env={**environment, "CALLISTO_SERVICES__WEB_SERVER__ENABLED": "false"},
        encoding="utf-8",
        timeout=DEADLINE_S,
    )
    child.expect_exact("telnet listening on ")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()

    assert "stopping" in child.before
    assert "***" not in child.before


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("variables", "set", "gWebTimeout", "55"), 1, "no appliance in"),
        (("variables", "get", "gWebTimeout", "x", "y"), 2, "Error: "),
        (("variables", "nosuch"), 2, "no command 'nosuch'"),
        (("trace", "list"), 1, "no appliance in"),
        (("information",), 1, "no appliance in"),
        (("repair", "yes"), 1, "no appliance in"),
        (("user", "list"), 1, "no appliance in"),
        (("backup", "create"), 1, "no appliance in"),
        (("user", "add", "1anna", "--password-stdin"), 2, "no name for an account"),
        (("user", "add", "anna", "--password-stdin"), 2, "outside the rule"),
        (("backup", "restore", "callisto-x-20260101-000000.zip", "yes"), 2, "there is no backup"),
        (("demo", "--users", "x"), 2, "users: 'x'"),
    ],
)
def test_a_mistyped_folder_stays_what_it_was(
    run: Run, tmp_path: Path, words: tuple[str, ...], code: int, reason: str
) -> None:
    """A folder without an appliance, or none at all, is refused with how to make one, and nothing is made in it."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes.txt").write_text("mine")
    before = tree_of(tmp_path)
    for name in ("there", "not/there"):
        refused = run(*words, data=tmp_path / name, text="short\n").require(code, err=reason)
        assert refused.out == ""
        assert refused.err.startswith("Error: ")
        assert "no appliance" not in reason or refused.err.rstrip().endswith(": no callisto.db; 'serve' makes one")
    assert tree_of(tmp_path) == before


def test_what_makes_an_appliance_makes_it(run: Run, tmp_path: Path) -> None:
    """``user add`` and ``demo`` make the appliance where there is none; the folder may also stand before the words."""
    run("user", "add", "anna", "--password-stdin", data=tmp_path / "a", text=f"{PASSWORD}\n").require(0)
    listed = run("--data", str(tmp_path / "a"), "--json", "user", "list").require(0).facts
    assert [each["name"] for each in listed] == ["anna"]
    run("demo", "--users", "1", "--messages", "0", "--calls", "0", data=tmp_path / "b").require(0)
    assert (tmp_path / "b" / "callisto.db").exists()
