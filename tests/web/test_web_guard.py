"""What is refused before any page sees it."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from callisto_telnetd.web.guard import is_host, refusal_of


@pytest.mark.parametrize(
    "host", ["callisto", "callisto:80", "192.0.2.7", "192.0.2.7:8080", "[::1]", "[fe80::1]:80", "a.example."]
)
def test_hosts_are_taken(host: str) -> None:
    """Names and addresses with or without port are hosts."""
    assert is_host(host)


@pytest.mark.parametrize(
    "host",
    ["", " ", "a b", "a/b", "a@b", "a:b", "a:123456", "[::1", "::1", "http://a", "a\n", "-a", "a,b", "x" * 300, "é"],
)
def test_what_is_no_host_is_refused(host: str) -> None:
    """Anything else is refused with 400."""
    assert refusal_of("GET", Headers({"host": host})).startswith("400 ")


def test_exactly_one_host_is_needed() -> None:
    """A request without a host, or with two, is refused."""
    assert refusal_of("GET", Headers({})).startswith("400 ")
    for version in ("1.0", "1.1"):
        two = Headers(raw=[(b"host", b"a"), (b"host", b"b")])
        assert refusal_of("GET", two, version).startswith("400 ")
        assert refusal_of("GET", Headers({"host": ""}), version).startswith("400 ")


@pytest.mark.parametrize("origin", [{}, {"origin": "http://callisto"}, {"origin": "null"}, {"origin": "http://"}])
def test_http_1_0_may_be_without_a_host(origin: dict[str, str]) -> None:
    """It may look at everything (RFC 9112, section 3.2); what changes something still comes from an own page."""
    for method in ("GET", "HEAD", "OPTIONS"):
        assert refusal_of(method, Headers(origin), "1.0") == ""
    assert refusal_of("POST", Headers(origin), "1.0").startswith("403 ")
    refused = refusal_of("POST", Headers({**origin, "sec-fetch-site": "same-origin"}), "1.0")
    assert refused.startswith("403 ") if origin else refused == ""


@pytest.mark.parametrize(
    ("headers", "taken"),
    [
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "none", "origin": "http://callisto"}, True),
        ({"sec-fetch-site": "none", "origin": "http://evil.example"}, False),
        ({"sec-fetch-site": "none", "origin": "null"}, False),
        ({"sec-fetch-site": "same-origin", "origin": "https://callisto"}, True),
        ({"sec-fetch-site": "same-origin", "origin": "http://evil.example"}, False),
        ({"sec-fetch-site": "same-site", "origin": "http://callisto"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "http://callisto"}, False),
        ({"sec-fetch-site": "", "origin": "http://callisto"}, False),
        ({"origin": "http://callisto"}, True),
        ({"origin": "https://callisto"}, True),
        ({"origin": "http://callisto:8080"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "http://callisto.evil.example"}, False),
        ({"origin": "http://evil.example/callisto"}, False),
        ({"origin": "http://[callisto"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"referer": "http://callisto/"}, False),
        ({}, False),
    ],
)
def test_only_own_pages_may_change_something(headers: dict[str, str], taken: bool) -> None:
    """A form counts where the browser says that it comes from this server; looking is free to all."""
    sent = Headers({"host": "callisto", **headers})

    assert (refusal_of("POST", sent) == "") is taken
    assert refusal_of("GET", sent) == ""
    assert refusal_of("HEAD", sent) == ""


@pytest.mark.parametrize("first", ["origin", "sec-fetch-site"])
@pytest.mark.parametrize("order", [1, -1])
def test_what_is_said_twice_is_refused(first: str, order: int) -> None:
    """Of two Origin headers, or two of Sec-Fetch-Site, the right one does not count, wherever it stands."""
    own = {"origin": b"http://callisto", "sec-fetch-site": b"same-origin"}
    for other in (b"http://evil.example", b"cross-site", own[first]):
        said = [(first.encode(), own[first]), (first.encode(), other)][::order]
        assert refusal_of("POST", Headers(raw=[(b"host", b"callisto"), *said])).startswith("403 ")


@pytest.mark.parametrize(
    ("host", "origin", "taken"),
    [
        ("callisto:443", "https://callisto", True),
        ("callisto:80", "http://callisto", True),
        ("callisto:80", "https://callisto", False),
        ("callisto:8080", "http://callisto:8080", True),
    ],
)
def test_a_default_port_may_be_written(host: str, origin: str, taken: bool) -> None:
    """A proxy that writes the default port into Host means the same server."""
    assert (refusal_of("POST", Headers({"host": host, "origin": origin})) == "") is taken
