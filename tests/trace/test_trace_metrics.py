from __future__ import annotations

import asyncio
import io
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from callisto_telnetd.errors import ListenError
from callisto_telnetd.listeners import metrics as page_module
from callisto_telnetd.listeners.metrics import MetricsPage
from callisto_telnetd.trace.capture import CaptureRequest
from callisto_telnetd.trace.captures import Captures
from callisto_telnetd.trace.datagrams import DatagramInput, bind_path
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import open_log
from callisto_telnetd.trace.metrics import Metric, read_metrics
from callisto_telnetd.trace.viewers import Viewer
from tests.trace.conftest import stopped, turns

DEADLINE_S = 10.0


def figures_of(metrics: list[Metric]) -> dict[str, int]:
    """Return all figures by their names, with their labels."""
    found: dict[str, int] = {}
    for metric in metrics:
        if metric.label:
            found |= {f"{metric.name}[{label}]": value for label, value in metric.values.items()}
        else:
            found[metric.name] = metric.value
    return found


async def test_the_figures_are_what_happened(hub: Hub, captures: Captures, folder: Path, tmp_path: Path) -> None:
    """Records by input, on file, not shown; captures, viewers and what waits; faults and malformed datagrams."""
    path = tmp_path / "trace.sock"
    source = DatagramInput("trace.sock", hub, open_log(hub, stream=io.StringIO()), lambda: bind_path(path))
    source.open()
    viewer = Viewer(hub)
    looking = viewer.follow()
    waiting = asyncio.ensure_future(anext(looking))
    await turns()
    capture = await captures.start(CaptureRequest("ada"), ["header"], viewer)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        for text in (b"<14>a: one", b"nonsense"):
            sender.sendto(text, str(path))
    await turns(10)
    hub.publish(20, "own")
    hub.hand_on()
    await captures.writer.flush()
    await waiting
    hub.publish(20, "pending")
    figures = figures_of(read_metrics(hub, captures, [source]))

    assert figures["records[trace.sock]"] == 2
    assert figures["records[server]"] == 2
    assert figures["records_written"] == 3
    assert figures["records_held"] == 4
    assert figures["held_bytes"] == hub.held_bytes > 800
    assert figures["datagrams_malformed[trace.sock]"] == 1
    assert figures["datagrams_dropped[trace.sock]"] == figures["input_faults[trace.sock]"] == 0
    assert (figures["captures_running"], figures["viewers"], figures["queue_records"]) == (1, 1, 1)
    assert figures["queue_bytes[writer]"] == 0
    assert figures["queue_bytes[viewers]"] == viewer.waiting_bytes
    source.close()
    hub.hold_back(full=True)
    hub.hold_back(full=False)
    await stopped(capture, folder)
    await looking.aclose()
    figures = figures_of(read_metrics(hub, captures, [source]))

    assert figures["records_written"] == 4
    assert (figures["captures_running"], figures["viewers"], figures["inputs_held_back"]) == (0, 0, 1)
    assert figures["records_not_shown"] == viewer.not_shown == hub.not_shown


async def test_every_figure_has_a_name_and_a_meaning(hub: Hub, captures: Captures) -> None:
    """Names are Prometheus's own form and stand once; help is one sentence without its full stop."""
    metrics = read_metrics(hub, captures, [])
    names = [metric.name for metric in metrics]

    assert len(set(names)) == len(names) >= 15
    for metric in metrics:
        assert metric.name.replace("_", "").isalpha()
        assert metric.help[0].isupper()
        assert not metric.help.endswith(".")
        assert not metric.name.endswith("_total")


async def test_another_thread_may_read_the_figures(hub: Hub, captures: Captures, folder: Path) -> None:
    """While captures begin and end all the time, the page's thread is given figures and no error."""
    stop, failed, counts = threading.Event(), list[RuntimeError](), list[int]()

    def read() -> None:
        while not stop.is_set():
            try:
                counts.append(figures_of(read_metrics(hub, captures, []))["records_written"])
            except RuntimeError as error:  # what was looked at has changed meanwhile
                failed.append(error)

    for number in range(20):
        await captures.start(CaptureRequest(f"u{number}"), ["header"])
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns as often as they can
    thread = threading.Thread(target=read)
    thread.start()
    try:
        for number in range(60):
            hub.by_input[f"input {number}"] += 1
            await stopped(captures.running[0], folder)
            await captures.start(CaptureRequest("ada"), ["header"])
    finally:
        stop.set()
        thread.join(DEADLINE_S)
        sys.setswitchinterval(before)

    assert failed == []
    assert counts


# The page


FIGURES = [
    Metric("records", "Records that came in, by input", "counter", label="input", values={"server": 5, 'a"b\\': 7}),
    Metric("records_written", "Records written", "counter", 12),
    Metric("viewers", "Viewers that look on", "gauge", 3),
    Metric("nothing", "By nobody", "gauge", label="input"),
]


@pytest.fixture
def open_page() -> Iterator[Callable[..., MetricsPage]]:
    """Open pages on free ports of this machine; all are closed after the test."""
    with ExitStack() as stack:

        def open_(host: str = "127.0.0.1", port: int = 0) -> MetricsPage:
            page = MetricsPage(host, port, lambda: FIGURES)
            stack.callback(page.close)
            return page

        yield open_


OpenPage = Callable[..., MetricsPage]


def fetch(page: MetricsPage, path: str = "/metrics", host: str = "127.0.0.1") -> str:
    """Return what the page says."""
    with urllib.request.urlopen(f"http://{host}:{page.port}{path}", timeout=DEADLINE_S) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return str(answer.read().decode())


def test_the_page_tells_the_figures(open_page: OpenPage) -> None:
    """Prometheus's own parser reads each figure with its kind, help and labels."""
    families = {family.name: family for family in text_string_to_metric_families(fetch(open_page()))}

    records = families["callisto_trace_records"]
    assert (records.type, records.documentation) == ("counter", "Records that came in, by input")
    assert {sample.labels["input"]: sample.value for sample in records.samples} == {"server": 5, 'a"b\\': 7}
    assert families["callisto_trace_records_written"].samples[0].name == "callisto_trace_records_written_total"
    assert families["callisto_trace_records_written"].samples[0].value == 12
    assert (families["callisto_trace_viewers"].type, families["callisto_trace_viewers"].samples[0].value) == (
        "gauge",
        3,
    )
    assert families["callisto_trace_nothing"].samples == []


def test_the_page_tells_the_figures_of_the_moment() -> None:
    """Each time it is asked for, figures are read anew."""
    asked: list[int] = []

    def read() -> list[Metric]:
        asked.append(1)
        return [Metric("asked", "How often", "counter", len(asked))]

    page = MetricsPage("127.0.0.1", 0, read)
    try:
        assert "callisto_trace_asked_total 1.0\n" in fetch(page)
        assert "callisto_trace_asked_total 2.0\n" in fetch(page)
    finally:
        page.close()


def test_an_address_that_is_taken_is_refused(open_page: OpenPage) -> None:
    """The refusal names the setting, the address and the reason."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ListenError) as refused:
            open_page(port=port)

    assert str(refused.value) == f"trace.metrics: cannot listen on 127.0.0.1:{port}: Address already in use"
    with pytest.raises(ListenError, match=r"^trace\.metrics: cannot listen on 192\.0\.2\.1:0: Cannot assign"):
        open_page("192.0.2.1")
    with pytest.raises(ListenError, match=r"^trace\.metrics: cannot listen on 127\.0\.0\.1:70000: "):
        open_page(port=70_000)


def test_an_address_of_ipv6(open_page: OpenPage) -> None:
    """An IPv6 address is served, and shown in brackets where it cannot be."""
    try:
        page = open_page("::1")
    except ListenError:
        pytest.skip("no IPv6 here")

    assert "callisto_trace_viewers 3.0" in fetch(page, host="[::1]")
    with pytest.raises(ListenError, match=rf"^trace\.metrics: cannot listen on \[::1\]:{page.port}: "):
        open_page("::1", page.port)


def test_a_request_that_the_library_fails_on_is_a_record_of_the_log(
    open_page: OpenPage, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """A header that prometheus-client cannot read is answered and logged; no traceback goes past the log to stderr."""
    page = open_page()
    wrong = urllib.request.Request(f"http://127.0.0.1:{page.port}/", headers={"Accept": "text/plain;version=1.a.0"})
    with pytest.raises(urllib.error.HTTPError) as failed:
        urllib.request.urlopen(wrong, timeout=DEADLINE_S)

    assert (failed.value.code, failed.value.read()) == (
        500,
        b"Error: the request cannot be answered; the log tells more\n",
    )
    failed.value.close()
    assert [each.getMessage() for each in caplog.records] == ["the metrics page cannot answer a request"]
    assert capfd.readouterr().err == ""
    assert "callisto_trace_viewers 3.0" in fetch(page)


def test_after_its_close_nobody_is_there() -> None:
    """A closed page answers no more, and its port is free again."""
    page = MetricsPage("127.0.0.1", 0, lambda: FIGURES)
    port = page.port
    page.close()

    with pytest.raises(urllib.error.URLError):
        fetch(page)
    again = MetricsPage("127.0.0.1", port, lambda: FIGURES)
    again.close()


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\n", b"GET /met", b"\xff" * 100])
def test_a_peer_that_sends_nothing_holds_nobody_for_long(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """After its deadline it is let go, and the next is answered."""
    assert 1 <= page_module._Handler.timeout <= 10
    monkeypatch.setattr(page_module._Handler, "timeout", 0.1)
    page = open_page()
    with socket.create_connection(("127.0.0.1", page.port), DEADLINE_S) as silent:
        silent.sendall(sent)
        began = time.monotonic()
        assert "callisto_trace_viewers 3.0" in fetch(page)
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "sent",
    [
        b"GET " + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET /metrics HTTP/9.9\r\n\r\n",
        b"\0\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"POST /metrics HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
    ],
    ids=["long", "nonsense", "version", "nul", "headers", "post"],
)
def test_a_peer_that_asks_wrongly_stops_nothing(
    open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], sent: bytes
) -> None:
    """Whatever is sent, the page goes on, and nothing is written to the server's stderr."""
    monkeypatch.setattr(page_module._Handler, "timeout", 0.1)
    page = open_page()
    with socket.create_connection(("127.0.0.1", page.port), DEADLINE_S) as peer:
        peer.sendall(sent)
        assert "callisto_trace_viewers 3.0" in fetch(page)

    assert capfd.readouterr() == ("", "")


def test_a_peer_that_does_not_wait_for_its_answer_stops_nothing(open_page: OpenPage) -> None:
    """Whoever resets the connection breaks nothing."""
    page = open_page()
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", page.port), DEADLINE_S) as peer:
            peer.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    assert "callisto_trace_viewers 3.0" in fetch(page)


def test_a_close_does_not_wait_for_a_peer_that_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's end is held up shortly only, though a peer is in the middle of its request."""
    monkeypatch.setattr(page_module._Handler, "timeout", 2.0)
    page = MetricsPage("127.0.0.1", 0, lambda: FIGURES)
    with socket.create_connection(("127.0.0.1", page.port), DEADLINE_S) as silent:
        silent.sendall(b"GET")
        began = time.monotonic()
        page.close()
        assert time.monotonic() - began < 1
    page._thread.join(DEADLINE_S)
    assert not page._thread.is_alive()


def test_a_peer_that_sends_a_byte_now_and_then_is_let_go(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request has its deadline as a whole, not each of its bytes."""
    monkeypatch.setattr(page_module._Handler, "timeout", 0.2)
    page, stop = open_page(), threading.Event()
    peer = socket.create_connection(("127.0.0.1", page.port), DEADLINE_S)

    def dribble() -> None:
        try:
            while not stop.wait(0.02):
                peer.sendall(b"x")
        except OSError:
            return

    thread = threading.Thread(target=dribble)
    thread.start()
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{page.port}/metrics", timeout=1) as answer:
            assert answer.status == 200
    finally:
        stop.set()
        thread.join(DEADLINE_S)
        peer.close()
