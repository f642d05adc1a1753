"""The kinds of values: what each takes, how it writes it, and what it says about itself."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from callisto_telnetd.variables import Choice, Host, HostAddress, InternalNumber, Plan, RestartPlan, Text, Whole

SWITCH = Choice(values={0: "off", 1: "on"})
MINUTES = Whole(minimum=0, maximum=1440, unit="minutes", zero="never")
SIGNED = Whole(minimum=-10, maximum=10)
WORD = Text(maximum_length=8, pattern="[a-z]+|[0-9]+", blank=False)
LINE = Text(maximum_length=8)
NUMBER = InternalNumber(nobody="no mailbox")
NO_HOSTS = [
    "", "a b", "-a.org", "a-.org", "a..org", "a_b.org", "ü.org", "256.1.1.1", "1.2.3", "01.2.3.4", ".", "a\n",
    "a:0", "a:65536", "a:", "a:1x", "a.org:\uff11", "[::1", "[::1]x", "[a]:1", "::1]:1", "1::2::3",
    "fe80::1%", "fe80::1%a\x1b[m", "a" * 64, ".".join(["a" * 60] * 5), "a" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "text", "value", "written"),
    [
        (SWITCH, "1", 1, "1"),
        (SWITCH, " 0 ", 0, "0"),
        (MINUTES, "0030", 30, "30"),
        (MINUTES, "1440", 1440, "1440"),
        (SIGNED, "-10", -10, "-10"),
        (WORD, "abc", "abc", "abc"),
        (WORD, "12345678", "12345678", "12345678"),
        (LINE, "", "", ""),
        (LINE, "  é = ü ", "é = ü", "é = ü"),
        (Host(), "NTP.Example.org", HostAddress("ntp.example.org"), "ntp.example.org"),
        (Host(), "ntp.example.org:123", HostAddress("ntp.example.org", 123), "ntp.example.org:123"),
        (Host(), "192.0.2.1:65535", HostAddress("192.0.2.1", 65535), "192.0.2.1:65535"),
        (Host(), "2001:DB8:0::1", HostAddress("2001:db8::1"), "2001:db8::1"),
        (Host(), "[2001:db8::1]", HostAddress("2001:db8::1"), "2001:db8::1"),
        (Host(), "[fe80::1%eth0]:123", HostAddress("fe80::1%eth0", 123), "[fe80::1%eth0]:123"),
        (Host(), "localhost", HostAddress("localhost"), "localhost"),
        (Plan(), "sun,wed 2:00", RestartPlan(9, 2, 0), "9,02:00"),
        (Plan(), " ", None, ""),
        (NUMBER, "200", 200, "200"),
        (NUMBER, "999999999", 999_999_999, "999999999"),
        (NUMBER, "", None, ""),
    ],
)
def test_a_kind_takes_what_it_should_and_writes_it_one_way(kind: Any, text: str, value: object, written: str) -> None:
    """Whatever way a value is typed, it is kept and shown in one form, which means the same."""
    assert kind.parse(text) == value
    assert kind.format(value) == written
    assert kind.parse(written) == value


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (SWITCH, ["", "2", "-1", "on", "1.0", "\uff11", "0x1", "+1"]),
        (MINUTES, ["", "abc", "-1", "1441", "+5", "1_0", "\u0663", "1e2", "5 minutes", "9" * 5000]),
        (SIGNED, ["--1", "- 1", "-11", "\u22121"]),
        (WORD, ["", "abc1", "123456789", "a\nb", "abc\n", "|"]),
        (LINE, ["123456789", "a\x1bb", "a\u202eb", "a\u2028b", "a\x00", "\ud800"]),
        (
            Host(),
            NO_HOSTS,
        ),
        (Plan(), ["x", "128,02:00", "9,24:00"]),
        (NUMBER, ["0", "-1", "1000000000", "12a", "2 0"]),
    ],
)
def test_a_kind_refuses_everything_else(kind: Any, texts: list[str]) -> None:
    """A text outside the kind is a ValueError, never another exception and never a value."""
    for text in texts:
        with pytest.raises(ValueError):
            kind.parse(text)


@pytest.mark.parametrize(
    ("kind", "allowed"),
    [
        (SWITCH, "0 or 1"),
        (MINUTES, "a whole number of minutes from 0 to 1440"),
        (SIGNED, "a whole number from -10 to 10"),
        (WORD, "text of 1 to 8 printable characters that match [a-z]+|[0-9]+"),
        (LINE, "text of at most 8 printable characters"),
        (Host(), "a host name or an IP address, with or without :port"),
        (Plan(), "a restart plan such as 9,02:00 or sun,wed 02:00 (days 0 to 127, time 00:00 to 23:59), or blank"),
        (NUMBER, "the internal number of a user, from 1 to 999999999, or blank"),
    ],
)
def test_a_kind_says_what_it_allows(kind: Any, allowed: str) -> None:
    """The phrase completes ``Error: NAME: 'abc' is not …``."""
    assert kind.allowed == allowed
    assert all(text and meaning for text, meaning in kind.meanings())


@pytest.mark.parametrize(
    ("kind", "value", "phrase"),
    [
        (SWITCH, 1, "on"),
        (MINUTES, 0, "never"),
        (MINUTES, 1, "1 minute"),
        (MINUTES, 20, "20 minutes"),
        (SIGNED, -1, "-1"),
        (LINE, "", "blank"),
        (WORD, "abc", "abc"),
        (Host(), HostAddress("a.org", 123), "a.org, port 123"),
        (Host(), HostAddress("a.org"), "a.org"),
        (Plan(), None, "no restarts"),
        (Plan(), RestartPlan(9, 2, 0), "Sunday and Wednesday at 02:00"),
        (NUMBER, None, "no mailbox"),
        (NUMBER, 200, "user 200"),
    ],
)
def test_a_kind_explains_a_value(kind: Any, value: object, phrase: str) -> None:
    """A value is told in a few words."""
    assert kind.explain(value) == phrase


def test_zero_with_a_meaning_stands_apart_from_the_range() -> None:
    """Where 0 means something of its own, the meanings say so and the range begins after it."""
    assert MINUTES.meanings() == (("0", "never"), ("1 to 1440", "minutes"))
    assert SIGNED.meanings() == (("-10 to 10", "a number"),)
    assert Whole(minimum=0, maximum=0, zero="off").meanings() == (("0", "off"),)


def test_tab_offers_values_only_where_they_can_be_named() -> None:
    """A choice and the words of a plan are completed, a range of numbers is not."""
    assert SWITCH.completions() == ("0", "1")
    assert "wed" in Plan().completions()
    assert MINUTES.completions() == ()


@given(st.integers(-10, 10))
def test_every_whole_number_survives_its_text(value: int) -> None:
    """parse(format(v)) == v for whole numbers."""
    assert SIGNED.parse(SIGNED.format(value)) == value


@given(st.none() | st.integers(1, 999_999_999))
def test_every_internal_number_survives_its_text(value: int | None) -> None:
    """parse(format(v)) == v for internal numbers, blank too."""
    assert NUMBER.parse(NUMBER.format(value)) == value


@given(st.text(max_size=400) | st.from_regex(r"[\[\]:.%0-9a-f-]{0,20}"))
def test_any_text_is_a_value_that_survives_its_text_or_a_value_error(text: str) -> None:
    """Whatever is typed, each kind refuses it or keeps it in a form that means the same."""
    for kind in (SWITCH, MINUTES, SIGNED, WORD, LINE, Host(), Plan(), NUMBER):
        try:
            value: Any = kind.parse(text)
        except ValueError:
            continue
        written = kind.format(value)
        assert kind.parse(written) == value
        assert written.isprintable()
        assert written == written.strip()


@given(
    st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{1,8}){0,3}", fullmatch=True) | st.ip_addresses().map(str),
    st.none() | st.integers(1, 65535),
)
def test_every_address_survives_its_text(host: str, port: int | None) -> None:
    """parse(format(v)) == v for host names and IP addresses, with and without port."""
    address = HostAddress.parse(HostAddress(host, port).format())

    assert address.port == port
    assert HostAddress.parse(address.format()) == address


@pytest.mark.parametrize("pattern", ["(", "a)|(b", "(?=a)", r"(a)\1", "(?x)a #", "(((a{99}){99}){99})", "a\n"])
def test_a_pattern_that_is_not_safe_is_refused(pattern: str) -> None:
    """A pattern that does not compile, looks around, refers back or grows without bound is never taken."""
    with pytest.raises(ValidationError):
        Text(maximum_length=8, pattern=pattern)


def test_no_pattern_can_stall_the_server() -> None:
    """A pattern that takes a backtracking engine for ever is answered at once."""
    kind = Text(maximum_length=1000, pattern="(a+)+")
    begin = time.process_time()

    with pytest.raises(ValueError, match="no match"):
        kind.parse("a" * 999 + "b")
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: Whole(minimum=2, maximum=1),
        lambda: Whole(minimum=1, maximum=2, zero="off"),
        lambda: Whole(minimum=0, maximum=10**30),
        lambda: Choice(values={}),
        lambda: Choice(values={0: "a\nb"}),
        lambda: Text(maximum_length=0),
    ],
)
def test_a_kind_that_makes_no_sense_is_refused(make: Any) -> None:
    """Ranges are the right way round and bounded, choices have values, words are one line."""
    with pytest.raises(ValidationError):
        make()
