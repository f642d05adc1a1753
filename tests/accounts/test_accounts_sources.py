from __future__ import annotations

import pytest

from callisto_telnetd.accounts.sources import is_loopback, source_address, source_of


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("0:0:0:0:0:0:0:1", "::1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("local", "local"),
        ("", ""),
    ],
)
def test_what_counts_as_one_source(address: str, source: str) -> None:
    """An IPv4 address is a source in either form, an IPv6 network of 64 bits is one, and other text is itself."""
    assert source_of(address) == source


def test_a_mapped_address_is_its_ipv4_address() -> None:
    """An IPv4 address in IPv6 form is compared as IPv4, and a zone does not count."""
    assert source_address("::ffff:10.1.2.3") == "10.1.2.3"
    assert source_address("fe80::1%eth0") == "fe80::1"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_this_machine_at_the_web_is_a_source_of_its_own(address: str) -> None:
    """Whom a proxy brings to the web is counted apart from the administrator at the box; it is this machine still."""
    by_web = source_of(address, "web")

    assert by_web not in {source_of(address), source_of(address, "telnet")}
    assert by_web in {"127.0.0.1 (web)", "::1 (web)"}
    assert is_loopback(by_web)
    assert source_of("192.0.2.7", "web") == source_of("192.0.2.7", "telnet") == "192.0.2.7"
