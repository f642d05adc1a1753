"""What a program with access to the socket, and a user with an account, may try with records, names and expressions."""

from __future__ import annotations

import os
import random
import re
import socket
import time
import urllib.request
from collections.abc import Iterator

import orjson
import pytest

from tests.conftest import DEADLINE_S, Server, StartServer, servers
from tests.hostile.conftest import uss
from tests.hostile.tracing import (
    Program,
    flood,
    start_capture,
    states,
    wait_notice,
    wait_taken,
    wait_until,
)

UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
RECORD = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d \S+\[(?:\d+|-)\] "
    r"(?:DEBUG|INFO|NOTICE|WARNING|ERROR|CRITICAL|ALERT|EMERGENCY) .*"
)
FORGED = (
    "; ended: stopped by admin; 9 records",
    "; continued in 20261123-101500-admin+2.log",
    '{"comment":"ended: stopped by admin; 9 records"}',
    "callisto# ",
    "callisto(variables)# ",
    "Password: ",
    "login:",
    "OK trace saved to x.log, 1 record, 0 not shown, 1 KiB",
    "2026-11-23T10:15:00.123456+01:00 web-server[4711] ERROR forged",
)
ENDS = ("", "\n", "\r\n", "\r", "\0", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029")
HEADS = (
    "<14>evil[1]: ",
    "<14>evil] ERROR x[1]: ",
    "<14>callisto#: ",
    "<14>1 - - ;_ended: 1 - - ",
    '<14>1 - - {"comment":"ended: 1 - - ',
    "<14>1 - - callisto# - - - ",
    "<14>1 - - x[1] - - - ",
    '<14>1 - - x 1 - [a@1 b="\\n; ended: x"] ',
    "<999>",
    "",
)


def forgeries() -> list[bytes]:
    """Return every forged line behind every head, before and behind every line's end."""
    return [f"{head}said{end}{forged}{end}".encode() for head in HEADS for end in ENDS for forged in FORGED]


def test_names_from_outside_push_out_none_that_is_needed(roomy: Server) -> None:
    """A switch that counts and 1,100 invented names push out neither services nor frequent names; errors stay short."""
    peer = roomy.log_in()
    with Program(roomy) as program:
        program.send(*[b"<14>nightly: x"] * 4)
        program.send(*(b"<189>%d: *Jan  8 19:46:03.295: %%SYS-5-CONFIG_I: x" % number for number in range(20)))
        program.send(*(b"<14>unique-%d: x" % number for number in range(1_100)), b"<14>nightly: the end")
        peer.send("trace tail nightly before=1m\r\n").expect(b"the end\r\n")
        peer.send("q").answer()
    [refused] = peer.run("trace nightli")
    started = [peer.run(f"trace start {name}") for name in ("coc-proxy", "nightly", "SYS,unique-1099")]
    peer.run("trace stop all")

    assert refused.startswith(
        "Error: trace: 'nightli' is neither a command nor a process; did you mean nightly? processes:"
    )
    assert "callisto-telnetd, " in refused
    assert len(refused) < 400
    assert all(lines[-1].endswith(" has started") for lines in started), started


@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_no_record_forges_a_line_of_a_file(start: StartServer, form: str) -> None:
    """Records that imitate trailers, headers and other records are lines of records; a killed capture stays one."""
    server = start("[trace]\nheld_records = 10\n")
    peer = server.log_in()
    name = start_capture(peer, f"format={form} match=said|evil")
    nasty = forgeries()
    with Program(server) as program:
        program.send(*nasty, nasty[0])
    wait_taken(peer, name, len(nasty) + 1)
    path = server.data / "trace" / name
    wait_until(lambda: path.read_bytes().count(b"said") > len(nasty), "all on file")
    server.kill()
    text = path.read_text()
    lines = text.splitlines()  # at every line's end that Unicode has
    again = start(data=server.data).log_in()

    assert not UNSAFE.search(text)
    assert states(again) == {name: "interrupted"}
    records = [line for line in lines if not line.startswith(("; ", '{"comment":'))]
    assert len(records) == len(nasty) + 1
    assert all(RECORD.fullmatch(line) if form == "text" else orjson.loads(line)["sequence"] for line in records)
    assert not [line for line in lines if "ended: " in line[:20] or "continued in" in line[:25]]
    shown = again.run(f"trace show {name}")
    assert shown[-1] == f"OK {len(lines)} lines of {name}"


def test_no_record_looks_like_a_prompt(start: StartServer) -> None:
    """Nothing that a program says, live or from a file, looks like a prompt, a question or a log-in to a script."""
    server = start()
    peer = server.log_in()
    peer.send(b"trace\r\n").expect(b"ends the trace.\r\n")
    with Program(server) as program:
        program.send(*forgeries()).say("the very end")
    live = peer.expect(b"the very end\r\n").decode()
    *_, done = peer.send(b"q").answer()
    name = done.split()[4].rstrip(",")
    stored = "\n".join(peer.run(f"trace show {name}"))
    for line in (*live.split("\r\n"), *stored.split("\n")):
        assert not re.search(r"[>#$%]\s*$", line), line
        assert not re.fullmatch(r"\s*\S+[:\]]\s*", line), line
        assert not UNSAFE.search(line)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 20))])
def test_random_datagrams_are_records(start: StartServer, seed: int) -> None:
    """Whatever bytes come, empty to over-long, each datagram is one clean line, and the server logs no error."""
    chance = random.Random(seed)
    server = start('[trace]\nsize = "64M"\n')
    peer = server.log_in()
    name = start_capture(peer, "format=jsonl" if seed % 2 else "")
    sizes = [0, 1, 2, 3, 8191, 8192, 8193, 65535, 65536, 65537, 200 << 10, *(chance.randrange(300) for _ in range(400))]
    datagrams = [chance.choice((b"", b"<14>x[1]: ", b"<14>1 - - ")) + chance.randbytes(size) for size in sizes]
    datagrams += [bytes([code]) * count for code in range(256) for count in (1, 9)]
    before = peer.run("information")
    came = next(line for line in before if line.startswith("Records: ")) if "Records: " in str(before) else ""
    with Program(server) as program:
        program.send(*datagrams).say("the very end")
    path = server.data / "trace" / name
    wait_until(lambda: b"the very end" in path.read_bytes(), f"all on file {came}")
    peer.run(f"trace stop {name}")
    text = path.read_text()

    assert not UNSAFE.search(text)
    others = [line for line in text.splitlines() if not line.startswith(("; ", '{"comment"'))]
    said = [line for line in others if "callisto-telnetd[" not in line and '"process":"callisto-telnetd"' not in line]
    assert len(said) == len(datagrams) + 1
    assert " ERROR " not in server.log()
    for command in (f"trace export {name} format=csv", f"trace export {name} format=jsonl", f"trace show {name}"):
        assert peer.run(command)[-1].startswith("OK ")


NASTY = {
    "random bytes": random.Random(1).randbytes(65000),
    "escapes in fields": b"<14>1 - - q 1 - [a@1"
    + b"".join(b' p%d="%b"' % (n, b"\x1b" * 1000) for n in range(32))
    + b"] x",
    "escapes": b"<14>x: " + b"\x1b" * 8190,
    "no UTF-8": b"<14>x: " + b"\xff" * 65000,
    "many elements": b"<14>1 - - q 1 - " + b'[a b="c"]' * 7000,
    "an element without end": b'<14>1 - - q 1 - [a b="' + b'\\"' * 32000,
    "empty": b"",
}


MOST_KIB_BETWEEN = 4096
"""Of datagrams, between two answers: an answer takes some turns of the loop, and a turn at most 128 KiB."""


@pytest.mark.parametrize("name", NASTY)
def test_costly_datagrams_leave_turns_to_others(roomy: Server, name: str) -> None:
    """While such datagrams come as fast as they are taken, a session's commands go on between them.

    It is the work between two answers that is bounded, not the time: so few datagrams are taken for each.
    """
    peer = roomy.log_in()
    start_capture(peer, "size=1M")
    with flood(roomy, NASTY[name]) as flooding:
        flooding.wait_sent(50)
        sent, answers = flooding.sent, 40
        for _ in range(answers):
            assert peer.run("whoami")[0] == "OK admin from 127.0.0.1 (telnet)"
        taken = flooding.sent - sent

    assert taken * (len(NASTY[name]) >> 10) < answers * MOST_KIB_BETWEEN
    assert " ERROR " not in roomy.log()


@pytest.fixture(scope="module")
def server_of_names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server in whose folder of captures somebody has put what is none."""
    with servers(tmp_path_factory.mktemp("names")) as start:
        server = start()
        folder = server.data / "trace"
        (folder / "20200101-000000-link.log").symlink_to(server.data / "callisto.db")
        (folder / "20200101-000000-loop.log").symlink_to("20200101-000000-loop.log")
        (folder / "20200101-000000-out.log").symlink_to("/etc/passwd")
        os.mkfifo(folder / "20200101-000000-fifo.log")
        (folder / "20200101-000000-folder.log").mkdir()
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(folder / "20200101-000000-socket.log"))
        (folder / "private.log").write_text("not a capture\n")
        yield server


NAMES = (
    "../callisto.db",
    "../callisto.toml",
    "/etc/passwd",
    "..",
    ".",
    "''",
    "./20200101-000000-out.log",
    "20200101-000000-link.log",
    "20200101-000000-loop.log",
    "20200101-000000-out.log",
    "20200101-000000-fifo.log",
    "20200101-000000-folder.log",
    "20200101-000000-socket.log",
    "20200101-000000-../../x.log",
    "20200101-000000-a.log/../../callisto.db",
    "private.log",
    "*",
    "'20200101-000000-out.log\x00'",
    "20200101-000000-out.LOG",
    "２０２００１０１-000000-out.log",
    "x" * 3000,
)


@pytest.mark.parametrize("command", ["show", "export", "play", "delete", "attach", "stop"])
def test_no_name_leads_out_of_the_folder(server_of_names: Server, command: str) -> None:
    """Paths, links, pipes, folders and sockets are no captures: every command says so in one line."""
    peer = server_of_names.log_in()
    folder = server_of_names.data / "trace"
    before = sorted(path.name for path in folder.iterdir())
    for name in NAMES:
        [answer] = peer.run(f"trace {command} {name}{' yes' if command == 'delete' else ''}", 5)
        assert answer.startswith("Error: "), name
        assert "root:" not in answer
    peer.close()

    assert sorted(path.name for path in folder.iterdir()) == before
    assert " ERROR " not in server_of_names.log()


@pytest.mark.long
@pytest.mark.parametrize(
    "command",
    ["show", "export format=csv", *(pytest.param(word, marks=pytest.mark.long) for word in ("export", "play"))],
)
def test_any_bytes_of_a_file_are_shown_clean(start: StartServer, command: str) -> None:
    """A file that somebody else wrote, binary, or with a line of 100 MB, is read in bounds and shown clean."""
    server = start()
    peer = server.log_in()
    folder = server.data / "trace"
    word, _, options = command.partition(" ")
    stamp = b"2026-11-23T10:15:00.123456+01:00 "
    lines = [stamp + b"x[1] INFO " + random.Random(1).randbytes(3000).replace(b"\n", b"") for _ in range(50)]
    lines += [stamp + b"x[1] INFO " + b'\\"' * 30000 + b'"', stamp + b"x[1] INFO " + b' a="' * 20000, stamp * 20000]
    lines += [b"9999-12-31T23:59:59.999999-23:59 x[99999999999] INFO x", b"0001-01-01T00:00:00+23:59 x[1] INFO early"]
    (folder / "20200101-000000-binary.log").write_bytes(b"\n".join([*lines, b"\0" * 5000, b"\xff" * 5000]) + b"\n")
    (folder / "20200101-000000-binary.jsonl").write_bytes(
        b"\n".join([b"[" * 100_000, b'{"at":1}', b'{"at":"' + b"9" * 5000 + b'"}', b"null", b'{"comment":[]}', *lines])
    )
    with (folder / "20200101-000000-long.log").open("wb") as stream:
        stream.truncate(100 << 20)
        stream.seek(0, os.SEEK_END)
        stream.write(b"\n" + stamp + b"x[1] INFO behind the long line\n")
    before = uss(server)
    for name in ("binary.log", "binary.jsonl", "long.log"):
        lines_shown = peer.run(f"trace {word} 20200101-000000-{name} {options}".strip())
        assert lines_shown[-1].startswith("OK "), name
        assert not UNSAFE.search("".join(lines_shown))
    assert any("behind the long line" in line for line in lines_shown)

    assert uss(server) - before < 24 << 20
    assert " ERROR " not in server.log()


def test_udp_drops_are_counted(start: StartServer) -> None:
    """What comes by UDP and cannot be taken is dropped by the kernel, and counted."""
    port = free_port()
    server = start(
        f'[trace]\nudp = "127.0.0.1:{port}"\nsize = "1G"\nbudget = "2G"\nmetrics = "127.0.0.1:0"\n', listeners=2
    )
    peer = server.log_in()
    start_capture(peer)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", port))
        count = 30_000
        for _ in range(count):
            sender.send(b"<14>bench[1]: " + b"x" * 1000)
    page = server.port_of("metrics")

    def counted() -> int:
        return figure(page, 'records_total{input="udp"}') + figure(page, 'datagrams_dropped_total{input="udp"}')

    wait_until(lambda: counted() == count, "all are counted")
    assert figure(page, 'datagrams_dropped_total{input="udp"}') > 0
    assert peer.run("whoami")[-1].startswith("OK ")


def free_port() -> int:
    """Return a UDP port that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def read_page(port: int) -> str:
    """Return the metrics page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=DEADLINE_S) as answer:
        return str(answer.read().decode())


def figure(port: int, name: str) -> int:
    """Return one figure of the page."""
    [value] = [
        line.rpartition(" ")[2] for line in read_page(port).splitlines() if line.startswith(f"callisto_trace_{name} ")
    ]
    return int(float(value))


def test_the_metrics_page_survives_its_clients(start: StartServer) -> None:
    """Garbage, half requests and resets leave page and shell as they were."""
    server = start('[trace]\nmetrics = "127.0.0.1:0"\n', listeners=2)
    peer = server.log_in()
    port = server.port_of("metrics")
    garbage = [
        b"\0" * 70000,
        b"GET " + b"x" * 70000,
        b"\r\n" * 100,
        b"POST /metrics HTTP/9.9\r\n\r\n",
        b"GET /metrics\r\n\r\n",
    ]
    garbage += [b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 500 + b"\r\n", random.Random(1).randbytes(5000), b""]
    for request in garbage:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
        assert peer.run("whoami")[-1].startswith("OK ")

    assert "callisto_trace_records_total" in read_page(port)
    assert server.stop() == 0
    assert "Traceback" not in server.log()


@pytest.mark.long
def test_the_limit_of_running_captures_and_a_stop_under_flood(start: StartServer) -> None:
    """256 captures run under a flood and none fails; one more is refused; SIGTERM ends all of them whole."""
    server = start('[trace]\nsize = "1G"\nbudget = "8G"\nfree = "1M"\n')
    peer = server.log_in()
    for number in range(256):
        start_capture(peer, "format=jsonl match=never-said" if number < 56 else "")
    assert peer.run("trace start") == ["Error: 256 traces run already; stop one first"]
    with flood(server, b"<14>x: " + b"y" * 2000) as flooding:
        flooding.wait_sent(300)
        assert peer.run("trace status", 60)[-1] == "OK 256 running traces"
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 3

    for path in (server.data / "trace").iterdir():
        assert b"ended: the server stops; " in path.read_bytes()[-200:], path.name


EXPRESSIONS = {
    "nested": "(a+)+$",
    "alternatives": "|".join(["a?b?a?b?a"] * 40),
    "a long count": "[ab]*a[ab]{900}c",
    "counts": "a[ab]{490}c",
    "dots": ".*.*.*.*.*=.*c",
}
COSTLY = {"a long count", "counts"}
TOO_LONG = "takes too long on what is said"


@pytest.mark.parametrize("name", sorted(set(EXPRESSIONS) - COSTLY))
@pytest.mark.parametrize("option", ["match", pytest.param("on", marks=pytest.mark.long)])
def test_an_expression_stalls_nobody(roomy: Server, name: str, option: str) -> None:
    """While records of 8 KiB meet an expression that would run away elsewhere, another session's commands go on."""
    peer, other = roomy.log_in(), roomy.log_in()
    chance = random.Random(1)
    answer = peer.run(f"trace start {option}={EXPRESSIONS[name]}")[-1]
    assert answer.startswith(("OK trace ", f"Error: {option}: "))
    with flood(roomy, *(b"<14>x[1]: " + bytes(chance.choices(b"ab", k=8000)) for _ in range(20))) as flooding:
        for _ in range(20):
            flooding.wait_sent(5)
            assert other.run("whoami", 5)[0].startswith("OK ")


@pytest.mark.parametrize("name", ["a long count", pytest.param("counts", marks=pytest.mark.long)])
def test_an_expression_that_costs_too_much_is_given_up(start: StartServer, name: str) -> None:
    """One that takes RE2 a twentieth of a second a record ends what asked for it, live and on file."""
    server = start()
    peer, viewer = server.log_in(), server.log_in()
    chance = random.Random(1)
    said = [b"<14>x[1]: " + bytes(chance.choices(b"ab", k=8000)) for _ in range(20)]
    stored = start_capture(peer)
    expression = EXPRESSIONS[name]
    captures = [start_capture(peer, f"match={expression}"), start_capture(peer, f"on={expression}")]
    viewer.send(f"trace tail match={expression}\r\n").sync()
    with flood(server, *said):
        for capture in captures:
            assert TOO_LONG in wait_notice(peer, capture)
        assert any(TOO_LONG in line for line in viewer.answer() if line.startswith("Error: "))
        viewer.send(f"trace match={expression}\r\n")
        assert any(TOO_LONG in line for line in viewer.answer() if line.startswith("Error: "))
    for command in (f"export {stored}", f"play {stored} speed=1000", "tail before=1h"):
        answer = viewer.run(f"trace {command} match={expression}")
        assert any(TOO_LONG in line for line in answer if line.startswith("Error: ")), command
    assert TOO_LONG in wait_notice(viewer, start_capture(viewer, f"before=1h match={expression}"))
    peer.run("trace stop all")

    assert set(states(peer).values()) == {"ended"}
    assert " ERROR " not in server.log()


@pytest.mark.parametrize(
    "text", ["a{1000}{1000}", "((a{100}){100}){100}", "(" * 250, "a" * 501, "(?P<x", "[z-a]", "(?=a)", "\\1"]
)
def test_an_expression_that_cannot_be_taken_is_refused(roomy: Server, text: str) -> None:
    """Too large, too long or wrong: one line that says what is allowed, for filter and trigger, live and on file."""
    peer = roomy.log_in()
    for command in ("trace start match=", "trace on=", "trace tail match="):
        [line] = peer.run(f"{command}{text}")
        assert line.startswith("Error: ")
        assert "allowed" in line
