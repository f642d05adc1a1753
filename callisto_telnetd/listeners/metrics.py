"""The Prometheus page: figures of the trace for a monitoring system, on an address that the owner names.

It is served by threads of its own, a few at once and each within a few seconds, so that peers that are slow hold up the
page at most, and nothing else. It answers ``GET /metrics`` with ``prometheus-client``'s own application.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from socket import AF_INET6, SHUT_RDWR
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from callisto_telnetd.errors import ListenError
from callisto_telnetd.trace.metrics import Metric

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_LOG = logging.getLogger("callisto.metrics")
_PREFIX = "callisto_trace_"
_REQUEST_S = 5.0
_MOST_REQUESTS = 8
_STOP_S = 0.1

Read = Callable[[], Iterable[Metric]]


class _Collector(Collector):
    """Makes prometheus-client's families of our figures, each time the page is asked for."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def collect(self) -> Iterator[Family]:
        for metric in self._read():
            family_of = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            labels = [metric.label] if metric.label else None
            family: Any = family_of(_PREFIX + metric.name, metric.help, labels=labels)
            if metric.label:
                for label, value in metric.values.items():
                    family.add_metric([label], value)
            else:
                family.add_metric([], metric.value)
            yield family

    def describe(self) -> Iterator[Family]:
        return iter(())


def _guarded(application: WSGIApplication) -> WSGIApplication:
    """Return the application with its errors in the log, at the rate of all libraries' (``trace/logs.py``).

    prometheus-client fails on what some headers say, and wsgiref would print a traceback for each such request.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            return application(environ, start_response)
        except Exception:  # noqa: BLE001 - the door: no request may end more than itself
            _LOG.exception("the metrics page cannot answer a request")
            start_response("500 Internal Server Error", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"Error: the request cannot be answered; the log tells more\n"]

    return answer


class _Handler(WSGIRequestHandler):
    """Has a few seconds for a request and its answer together, and writes no log of its own."""

    timeout = _REQUEST_S

    def handle(self) -> None:
        deadline = threading.Timer(self.timeout, self._cut_off)  # a peer may send a byte now and then
        deadline.daemon = True
        deadline.start()
        try:
            super().handle()
        finally:
            deadline.cancel()

    def _cut_off(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: what matters of a page that is asked for every few seconds is on the page."""


class _Server(ThreadingMixIn, WSGIServer):
    """Answers a few requests at once; those beyond are closed, until one of the few has its answer or its deadline."""

    request_queue_size = 16
    daemon_threads = True
    block_on_close = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._places = threading.BoundedSemaphore(_MOST_REQUESTS)

    def server_bind(self) -> None:
        """Listen, without asking the resolver for a name as HTTPServer does: it may take its time."""
        TCPServer.server_bind(self)
        host, self.server_port = self.server_address[:2]
        self.server_name = str(host)
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, where there is a place."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and give the place back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Take note of no peer that has gone or was too slow."""


class _Server6(_Server):
    address_family = AF_INET6


class MetricsPage:
    """Serves the page until it is closed."""

    def __init__(self, host: str, port: int, read: Read) -> None:
        """Listen.

        Raises:
            ListenError: the address or the port cannot be had.
        """
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(read))
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self._server = make_server(
                host, port, _guarded(make_wsgi_app(registry)), _Server6 if ":" in host else _Server, _Handler
            )
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ListenError(f"trace.metrics: cannot listen on {shown}: {reason}") from None
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_STOP_S,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more; a request that is answered now is waited for only shortly."""
        threading.Thread(target=self._server.shutdown, daemon=True).start()
        self._thread.join(2 * _STOP_S)
        self._server.server_close()
