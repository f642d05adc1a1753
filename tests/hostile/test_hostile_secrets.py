"""Passwords in lines where they do not belong: whatever word they stand in, they are kept and shown nowhere."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from callisto_telnetd.interpreter import inherited_environment
from callisto_telnetd.menus.everywhere import EVERYWHERE
from callisto_telnetd.menus.main import MAIN_MENU
from callisto_telnetd.menus.tree import Command, Menu
from callisto_telnetd.secret_text import without_secrets, words_without_secrets
from tests.conftest import DEADLINE_S, PASSWORD, PROMPT, Peer, Server, servers

FORMS = (
    '"sftp://backup:{}@nas/folder"',
    'target="ftps://me@corp:{}@nas:21/x"',
    '"password={}"',
    'password="{}"',
    '--password "{}"',
    '--target-password="{}"',
    '"it says secret={}"',
)
"""How people write a password into a line; the quotes are the shell's."""
LEAVING = {"logout", "back", "exit", "quit"}
FIRST, LAST = "Zq7#x9Jw4kVb", "Vx9"
"""Between these, a secret may hold anything that can be typed; each is looked for by itself, and the first is like no
command's word."""
SECRETS = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S"], exclude_characters='"'), max_size=20
).map(lambda text: f"{FIRST}{text} {text}{LAST}")


def tree(menu: Menu = MAIN_MENU) -> Iterator[tuple[str, Command]]:
    """Yield every command of the tree with its words, those of menus by themselves included."""
    if menu.bare is not None:
        yield menu.name, menu.bare
    for entry in menu.entries:
        if isinstance(entry, Menu):
            yield from tree(entry)
        else:
            yield f"{'' if menu is MAIN_MENU else menu.name} {entry.word}".strip(), entry


COMMANDS = [*tree(), *((each.word, each) for each in EVERYWHERE if each.word not in LEAVING)]


def lines_with(secret: str) -> Iterator[str]:
    """Yield every command with the secret in each of its words and options, in every form."""
    for number, (path, command) in enumerate(COMMANDS):
        if path in LEAVING:
            continue
        forms = [form.format(secret) for form in FORMS]
        options = re.findall(r"[\[ |]([a-z-]+)=", f" {command.usage}")
        for place in range(3):
            form = forms[(number + place) % len(forms)]
            yield " ".join([path, *["admin"] * place, form])
        for place, option in enumerate(options):
            yield f"{path} {option}={forms[(number + place) % len(forms)]}"


def bare_lines(secret: str) -> Iterator[str]:
    """Yield the commands that take passwords with the secret by itself, where somebody may think that it goes."""
    for path, command in COMMANDS:
        if command.private:
            yield from (f'{path} {before} "{secret}"' for before in ("", "admin", "admin yes"))


def stray_lines(secret: str) -> Iterator[str]:
    """Yield lines that are no command's: a password at a prompt, and words that were meant for a private one."""
    yield f'"{secret}"'
    yield secret
    yield f'usr passwd admin "{secret}"'
    yield f'user paswd admin "{secret}"'
    yield f'user passwd admin "{secret}'
    yield f'user "{secret}"'
    yield f'bakup create "{secret}"'


def type_all(peer: Peer, lines: Iterable[str]) -> tuple[str, str]:
    """Type the lines, with Enter at every question and view, and return the answers and the history."""
    answers, history = "", ""
    for number, line in enumerate(lines, 1):
        peer.send(f"{line}\r\n\r\n.\r\n\r\nwhoami\r\n")  # a dot ends what is pasted
        answers += (peer.expect(b"OK admin from") + peer.expect(PROMPT)).decode()
        if not number % 25:
            history += "\n".join(peer.run("history"))
    return answers, history + "\n".join(peer.run("history"))


def found_in(text: str | bytes) -> list[str]:
    """Return the ends of secrets that a text holds, with what stands around them."""
    shown = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return [shown[max(0, at.start() - 60) : at.end() + 20] for at in re.finditer(f"{FIRST[:3]}|{LAST}", shown)]


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that logs everything, with a capture of everything."""
    data = tmp_path_factory.mktemp("secrets") / "data"
    data.mkdir(0o700)
    (data / "callisto.toml").write_text('log.level = "debug"\n[services.probe]\ncommand = ["sleep", "1000"]\n')
    with servers(data.parent) as start:
        server = start(data=data)
        server.log_in().run("trace start level=debug size=50M")
        yield server


@settings(
    max_examples=2,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(secret=SECRETS)
@example(secret=f"{FIRST}a/b@c:d {LAST}")
@example(secret=f"{FIRST},a) [b,{LAST}")
def test_a_secret_in_any_word_of_any_command_stands_nowhere(talkative: Server, secret: str) -> None:
    """History, answers, log, trace, audit and every file of the data folder hold no part of it."""
    peer = talkative.log_in()
    answers, history = type_all(peer, lines_with(secret))
    # These are answered on the very screen that they were typed on.
    _, second = type_all(peer, (*bare_lines(secret), *stray_lines(secret)))
    audit = "\n".join(peer.run("audit 1000"))
    peer.close()
    kept = [path.read_bytes() for path in talkative.data.rglob("*") if path.is_file()]

    assert "variables set" in history
    assert any(b"command line=" in each for each in kept)
    texts: list[str | bytes] = [answers, history, second, audit, talkative.log(), *kept]
    for text in texts:
        assert not found_in(text)


def test_a_password_at_the_prompt_for_the_name_stands_nowhere(talkative: Server) -> None:
    """Typed too early, it is in neither audit nor log, and no answer repeats it."""
    peer = talkative.connect()
    peer.expect(b" login: ").endswith(b"login: ")
    peer.send(f"{FIRST}secret{LAST}\r\n").expect(b"Password: ")
    peer.send("\r\n").expect(b"Login incorrect")

    assert not found_in(peer.seen)
    assert not found_in("\n".join(talkative.log_in().run("audit 20")) + talkative.log())


def test_a_slip_in_a_command_can_be_called_back(talkative: Server) -> None:
    """A mistyped command stays in the history; what is none, and the words of one that takes passwords, do not."""
    peer = talkative.log_in()
    for line in (
        "varaibles set gWebTimeout 30",
        "hunter2",
        "usr passwd admin hunter2",
        'variables show "gWeb',
        "user passwd x y",
    ):
        peer.run(line)
    history = [line.split(None, 1)[1] for line in peer.run("history")[:-1]]

    assert history == ["varaibles set gWebTimeout 30", 'variables show "gWeb', "history"]


def test_what_services_and_programs_say_is_kept_without_secrets(talkative: Server) -> None:
    """Records from outside lose what looks like a password; the rest of them is whole."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as program:
        program.connect(str(talkative.data / "run" / "trace.sock"))
        said = f'<14>web[1]: to sftp://u:{FIRST}@nas/x password={FIRST} {{"token": "{LAST}"}} sip:100@nas retry=3'
        program.send(said.encode())
        program.send(f'<14>1 - - pin={FIRST} - - [a@1 db.password="{FIRST}" x="y"] hello'.encode())
    peer = talkative.log_in()
    shown = "\n".join(peer.run("trace start before=10s") + peer.run("trace show"))
    peer.run("trace stop")

    assert 'to sftp://u:…@nas/x password=… {"token": …} sip:100@nas retry=3' in shown
    assert "pin=…[-] INFO hello a@1.db.password=… a@1.x=y" in shown
    assert not found_in(shown)


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("variables set gWebTimeout 30", "variables set gWebTimeout 30"),
        ("sftp://me@corp:pw@nas/x", "sftp://me@corp:…@nas/x"),
        ("http://h:8080/a@b http://[::1]:80/a@b", "http://h:8080/a@b http://[::1]:80/a@b"),
        ('password="a b" c', "password=… c"),
        ('"password=a b" c', '"password=…" c'),
        ('password="a"b c', "password=… c"),
        ("--password a --password-stdin b", "--password … --password-stdin b"),
        ("bypass=1 spin=2 pin=3", "bypass=1 spin=2 pin=…"),
        ("Authorization: Basic abc= x", "Authorization: Basic … x"),
        ('{"user": "u", "password": "p \\" q", "n": 1}', '{"user": "u", "password": …, "n": 1}'),
    ],
)
def test_what_counts_as_a_secret(line: str, kept: str) -> None:
    """A password in a URL or behind its name is blackened, once and for all; the rest of the line stays."""
    assert without_secrets(line) == kept
    assert without_secrets(kept) == kept


def test_words_are_blackened_whole() -> None:
    """Of words that the shell's quotes have kept together, nothing behind the name is left."""
    words = ["set", "password=a b", "--password", "-c d", "sftp://u:e f@nas", "x"]

    assert words_without_secrets(words) == ["set", "password=…", "--password", "…", "sftp://u:…@nas", "x"]


@pytest.mark.parametrize("text", ["password " * 1000, "--a-" * 2000, "//" * 4000 + "@", '"' * 8000 + "pin=@//"])
def test_no_line_takes_long(text: str) -> None:
    """Whatever a sender makes of a record, it is looked through at once."""
    began = time.perf_counter()
    without_secrets(text)

    assert time.perf_counter() - began < 0.1


WORDS = ("backup", "create", f"password={FIRST}{LAST}", "--password", f"{FIRST} {LAST}", f"sftp://u:{FIRST}@nas/x", "é")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (WORDS, ["backup", "create", "password=*", "--password", "*", "sftp://u:*@nas/x", "é"]),
        (("user", "passwd", "admin", f"{FIRST}{LAST}"), ["user", "passwd", "admin", "*"]),
    ],
)
def test_a_secret_among_the_words_of_a_process_is_not_seen_by_ps(
    tmp_path: Path, words: tuple[str, ...], shown: list[str]
) -> None:
    """A command line that waits for the server shows its words without them, and the server gets them all the same."""
    (tmp_path / "callisto.db").touch()
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "run" / "control.sock"))
        door.listen()
        door.settimeout(DEADLINE_S)
        command = [sys.executable, "-m", "callisto_telnetd", "--data", str(tmp_path), *words]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            try:
                connection, _ = door.accept()
                connection.settimeout(DEADLINE_S)
                with connection:
                    asked = connection.recv(65536).decode()
                    line = Path(f"/proc/{process.pid}/cmdline").read_bytes().rstrip(b"\0").decode()
            finally:
                process.kill()

    assert line.split("\0")[-len(shown) :] == shown
    assert FIRST in asked


def test_children_inherit_no_password(talkative: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither services nor workers get the server's settings or its first password."""
    monkeypatch.setenv("CALLISTO_ADMIN_PASSWORD", "secret")
    monkeypatch.setenv("callisto_x", "secret")
    [service] = psutil.Process(talkative.process.pid).children()
    environment = service.environ()

    assert {"CALLISTO_DATA", "CALLISTO_SERVICE"} == {name for name in environment if name.startswith("CALLISTO_")}
    assert PASSWORD not in environment.values()
    assert "secret" not in inherited_environment().values()  # what workers get, too
