"""Whose word counts for a browser's address, and by which names the web server may be asked."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from callisto_telnetd.web.hosts import Hosts
from callisto_telnetd.web.proxies import ForwardedError, Proxies

PROXIES = Proxies([ip_network("127.0.0.1"), ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")])


def _settled(peer: str | None, *headers: tuple[str, str]) -> tuple[object, str]:
    """Return client and scheme of a request from that peer, once the proxies are settled."""
    scope = {
        "type": "http",
        "scheme": "http",
        "client": None if peer is None else (peer, 50_000),
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }
    PROXIES.settle(scope)
    client = scope["client"]
    return client[0] if isinstance(client, tuple) else client, str(scope["scheme"])


FOR, PROTO = "x-forwarded-for", "x-forwarded-proto"


@pytest.mark.parametrize(
    ("peer", "headers", "browser"),
    [
        ("127.0.0.1", [(FOR, "192.0.2.7")], "192.0.2.7"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", [(FOR, "")], "127.0.0.1"),
        ("127.0.0.1", [(FOR, "6.6.6.6, 192.0.2.7")], "192.0.2.7"),
        ("127.0.0.1", [(FOR, "6.6.6.6"), (FOR, "192.0.2.7")], "192.0.2.7"),
        ("127.0.0.1", [(FOR, "rubbish, 192.0.2.7")], "192.0.2.7"),
        ("10.1.2.3", [(FOR, "192.0.2.7, 10.9.9.9,127.0.0.1")], "192.0.2.7"),
        ("10.1.2.3", [(FOR, "10.0.0.1, 10.0.0.2")], "10.0.0.1"),
        ("::ffff:10.1.2.3", [(FOR, "::ffff:192.0.2.7")], "192.0.2.7"),
        ("2001:db8::1", [(FOR, "2001:DB9:0::7")], "2001:db9::7"),
        ("127.0.0.2", [(FOR, "192.0.2.7"), (PROTO, "https")], "127.0.0.2"),
        ("192.0.2.9", [(FOR, "127.0.0.1"), (PROTO, "nonsense")], "192.0.2.9"),
        ("::1", [(FOR, "192.0.2.7")], "::1"),
        ("10.1.2.3", [(FOR, "::1")], "10.1.2.3"),
        ("10.1.2.3", [(FOR, "192.0.2.7, 127.0.0.5")], "10.1.2.3"),
        ("127.0.0.1", [(FOR, "127.0.0.5, 10.1.2.3")], "10.1.2.3"),
        ("10.1.2.3", [(FOR, "127.0.0.1")], "10.1.2.3"),
        ("127.0.0.1", [(FOR, "127.0.0.5")], "127.0.0.5"),
        ("127.0.0.1", [("forwarded", "for=192.0.2.7"), ("x-real-ip", "192.0.2.8")], "127.0.0.1"),
    ],
)
def test_the_browser_is_the_last_that_is_no_proxy(peer: str, headers: list[tuple[str, str]], browser: str) -> None:
    """What a browser writes itself stands before what the proxies have added, and nobody else is believed."""
    assert _settled(peer, *headers) == (browser, "http")


def test_a_proxy_says_whether_the_browser_came_by_tls() -> None:
    """X-Forwarded-Proto of a proxy is the scheme; without a peer nothing is settled."""
    assert _settled("127.0.0.1", (FOR, "192.0.2.7"), (PROTO, " HTTPS ")) == ("192.0.2.7", "https")
    assert _settled("127.0.0.1", (PROTO, "http")) == ("127.0.0.1", "http")
    assert _settled(None, (FOR, "192.0.2.7"), (PROTO, "https")) == (None, "http")


@pytest.mark.parametrize(
    "headers",
    [
        [(FOR, "unknown")],
        [(FOR, "192.0.2.7,")],
        [(FOR, "192.0.2.7:4711")],
        [(FOR, "6.6.6.6, _hidden")],
        [(PROTO, "wss")],
        [(PROTO, "https, http")],
        [(PROTO, "https"), (PROTO, "https")],
    ],
)
def test_what_a_proxy_says_is_understood_or_refused(headers: list[tuple[str, str]]) -> None:
    """No page is served for a source that is guessed at."""
    with pytest.raises(ForwardedError):
        _settled("127.0.0.1", *headers)


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True),
        ("LOCALHOST:8080", True),
        ("127.0.0.1:8080", True),
        ("127.9.9.9", True),
        ("[::1]:8080", True),
        ("pbx.example.com", True),
        ("PBX.example.com.:443", True),
        ("192.0.2.80", True),
        ("[2001:db8::80]", True),
        ("[2001:DB8:0::80]:80", True),
        ("192.0.2.7", True),
        ("192.0.2.8", True),
        ("[2001:db8::81]", True),
        ("0.0.0.0:8080", False),
        ("[::]", False),
        ("evil.example", False),
        ("pbx.example.com.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("0x7f000001", False),
        ("2130706433", False),
    ],
)
def test_a_host_is_a_name_of_this_machine(host: str, known: bool) -> None:
    """Names of the setting, localhost and all addresses are; a name that only leads here is not."""
    assert Hosts(("Pbx.Example.com", "192.0.2.80", "[2001:db8::80]", "0.0.0.0", "::")).have(host) is known
