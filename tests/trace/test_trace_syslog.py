from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callisto_telnetd.trace.cisco import is_counter
from callisto_telnetd.trace.records import LEVELS, NO_FIELDS, clean_fields
from callisto_telnetd.trace.sanitiser import MAX_TEXT, clean, decode
from callisto_telnetd.trace.syslog import MAX_DATAGRAM, MAX_FIELDS, SyslogParser

NOW = 1795418083.5
"""2026-11-23T07:14:43.5Z; the stamps of real programs' datagrams below are moved near to it."""
DEBUG, INFO, NOTICE, WARNING, ERROR, CRITICAL, ALERT, EMERGENCY = LEVELS.values()
SEVERITIES = (EMERGENCY, ALERT, CRITICAL, ERROR, WARNING, NOTICE, INFO, DEBUG)
MALFORMED = {"syslog": "malformed"}
TIME_QUALITY = {"timeQuality.tzKnown": "1", "timeQuality.isSynced": "0"}


class Message(NamedTuple):
    """What a datagram says, in its parts."""

    process: str
    pid: int | None
    level: int
    text: str
    fields: Mapping[str, str]


def said(process: str, pid: int | None, level: int, text: str, fields: Mapping[str, str]) -> Message:
    """Return a message of these parts, cleaned."""
    return Message(process, pid, level, clean(text), clean_fields(fields))


class Parser(SyslogParser):
    """A parser whose heads are taken apart."""

    def heard(self, data: bytes) -> Message:
        """Return what the datagram says in its parts."""
        [(head, text)] = self.parse([data])
        return Message(head.process, head.pid, head.level, text, head.fields)


class Now:
    def __init__(self, time: float = NOW) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time


def use_zone(name: str | None) -> None:
    """Set the process's time zone."""
    if name is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = name
    time.tzset()


@pytest.fixture(autouse=True, scope="module")
def utc() -> Iterator[None]:
    """Stamps without a zone are UTC here."""
    before = os.environ.get("TZ")
    use_zone("UTC")
    yield
    use_zone(before)


def parse(data: bytes, now: float = NOW) -> Message:
    """Return what a parser of the machine ``vm`` that has seen nothing yet makes of a datagram."""
    return Parser("vm", Now(now)).heard(data)


def message(process: str, pid: int | None, level: int, text: str, **fields: str) -> Message:
    """Return a message of these parts."""
    return said(process, pid, level, text, fields)


# What util-linux 2.38 really sent to a socket of its own, options in the comments.
LOGGER = [
    (b"<13>Nov 23 07:14:42 root: hello: w\xc3\xb6rld", message("root", None, NOTICE, "hello: wörld")),
    (b"<13>Nov 23 07:14:42 pbx: hello: w\xc3\xb6rld", message("pbx", None, NOTICE, "hello: wörld")),  # -t pbx
    (b"<13>Nov 23 07:14:42 pbx[2067]: hello: w\xc3\xb6rld", message("pbx", 2067, NOTICE, "hello: wörld")),  # -i
    (b"<13>Nov 23 07:14:42 pbx[4711]: hello: w\xc3\xb6rld", message("pbx", 4711, NOTICE, "hello: wörld")),  # --id=4711
    (  # -p local0.err -t a:b
        b"<131>Nov 23 07:14:44 a:b: hello",
        message("a:b", None, ERROR, "hello", facility="local0"),
    ),
    (b"<13>Nov 23 07:14:44 x y: hello", message("y", None, NOTICE, "hello", host="x")),  # -t "x y", as HOST and TAG
    (b"<13>Nov 23 07:14:44 : hello", message("syslog", None, NOTICE, ": hello")),  # -t ""
    (  # -p mail.crit
        b"<18>Nov 23 07:14:44 postfix/smtpd[12]: hi",
        message("postfix/smtpd", 12, CRITICAL, "hi", facility="mail"),
    ),
    (b"<13>Nov 23 07:14:44 m: a\nb", message("m", None, NOTICE, "a\nb")),  # a message of two lines
    (b"<13>Nov 23 07:14:45 m: ", message("m", None, NOTICE, "")),  # an empty line of its stdin
    (b"<13>Nov 23 07:14:43 vm pbx[2071]: hello: x", message("pbx", 2071, NOTICE, "hello: x")),  # --rfc3164 -i
    (b"<13>Nov 23 07:14:43 vm : hello", message("syslog", None, NOTICE, "vm : hello")),  # --rfc3164 -t ""
    (b"<13>1 - - pbx - - - hello: x", message("pbx", None, NOTICE, "hello: x")),  # --rfc5424=notime,nohost,notq
    (  # --rfc5424 --id=4711
        (
            b"<13>1 2026-11-23T07:14:42.998805+00:00 vm pbx 4711 - "
            b'[timeQuality tzKnown="1" isSynced="0"] hello: w\xc3\xb6rld'
        ),
        message("pbx", 4711, NOTICE, "hello: wörld")._replace(fields=TIME_QUALITY),
    ),
    (  # --rfc5424 --msgid ID47
        (
            b"<13>1 2026-11-23T07:14:43.607433+00:00 vm pbx - ID47 "
            b'[timeQuality tzKnown="1" isSynced="0"] hello: w\xc3\xb6rld'
        ),
        message("pbx", None, NOTICE, "hello: wörld")._replace(fields={"msgid": "ID47", **TIME_QUALITY}),
    ),
    (  # --rfc5424 --sd-id exa@32473 --sd-param 'a="b\"c"'
        (
            b"<13>1 2026-11-23T07:14:43.342299+00:00 vm pbx - - "
            b'[timeQuality tzKnown="1" isSynced="0"][exa@32473 a="b\\"c"] hi'
        ),
        message("pbx", None, NOTICE, "hi")._replace(fields={**TIME_QUALITY, "exa@32473.a": 'b"c'}),
    ),
    (  # --rfc5424 --sd-id two@1 --sd-param 'c="d\\e"'
        (
            b"<13>1 2026-11-23T07:14:43.546426+00:00 vm pbx - - "
            b'[timeQuality tzKnown="1" isSynced="0"][two@1 c="d\\\\e"] hi'
        ),
        message("pbx", None, NOTICE, "hi")._replace(fields={**TIME_QUALITY, "two@1.c": "d\\e"}),
    ),
    (  # --rfc5424 -t "x y": one word too many moves all that follow
        b'<13>1 2026-11-23T07:14:43.749270+00:00 vm x y - - [timeQuality tzKnown="1" isSynced="0"] hi',
        message("x", None, NOTICE, '[timeQuality tzKnown="1" isSynced="0"] hi', procid="y"),
    ),
    (  # --rfc5424 -t ""
        b'<13>1 2026-11-23T07:14:43.952634+00:00 vm  - - [timeQuality tzKnown="1" isSynced="0"] hi',
        message(
            "syslog",
            None,
            NOTICE,
            '<13>1 2026-11-23T07:14:43.952634+00:00 vm  - - [timeQuality tzKnown="1" isSynced="0"] hi',
            **MALFORMED,
        ),
    ),
]
# glibc's syslog(3), and SysLogHandler of Python, which ends a message in NUL.
LIBRARIES = [
    (b"<155>Nov 23 07:14:43 pbx[3291]: a: b", message("pbx", 3291, ERROR, "a: b", facility="local3")),
    (b"<14>Nov 23 07:14:43 -c: plain: x", message("-c", None, INFO, "plain: x")),
    (b"<15>Nov 23 07:14:43 app: two\nlines", message("app", None, DEBUG, "two\nlines")),
    (b"<14>hi there: x\x00", message("syslog", None, INFO, "hi there: x")),
    (b"<14>app: hi there: x\x00", message("app", None, INFO, "hi there: x")),
    (b"<14>app[12]: hi there: x\x00", message("app", 12, INFO, "hi there: x")),
    (
        b"<11>app: failed\nTraceback (most recent call last):\nValueError: x\x00",
        message("app", None, ERROR, "failed\nTraceback (most recent call last):\nValueError: x"),
    ),
]
EVENT = {
    "facility": "local4",
    "host": "mymachine.example.com",
    "msgid": "ID47",
    "sent": "2003-10-11T22:14:15.003Z",
    "exampleSDID@32473.iut": "3",
    "exampleSDID@32473.eventSource": "Application",
    "exampleSDID@32473.eventID": "1011",
}
RFC5424_EXAMPLES = [
    (
        (
            b"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - "
            b"\xef\xbb\xbf'su root' failed for lonvick on /dev/pts/8"
        ),
        message(
            "su",
            None,
            CRITICAL,
            "'su root' failed for lonvick on /dev/pts/8",
            host="mymachine.example.com",
            msgid="ID47",
            sent="2003-10-11T22:14:15.003Z",
            facility="auth",
        ),
    ),
    (
        b"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.",
        message(
            "myproc",
            8710,
            NOTICE,
            "%% It's time to make the do-nuts.",
            host="192.0.2.1",
            sent="2003-08-24T05:14:15.000003-07:00",
            facility="local4",
        ),
    ),
    (
        (
            b"<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 "
            b'[exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"] '
            b"\xef\xbb\xbfAn application event log entry..."
        ),
        said("evntslog", None, NOTICE, "An application event log entry...", EVENT),
    ),
    (
        (
            b"<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 "
            b'[exampleSDID@32473 iut="3" eventSource="Application" eventID="1011"][examplePriority@32473 class="high"]'
        ),
        said("evntslog", None, NOTICE, "", {**EVENT, "examplePriority@32473.class": "high"}),
    ),
]
RFC3164_EXAMPLES = [
    (
        b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8",
        message(
            "su",
            None,
            CRITICAL,
            "'su root' failed for lonvick on /dev/pts/8",
            sent="Oct 11 22:14:15",
            host="mymachine",
            facility="auth",
        ),
    ),
    (b"Use the BFG!", message("syslog", None, NOTICE, "Use the BFG!", **MALFORMED)),
    (
        b"<13>Feb  5 17:32:18 10.0.0.99 Use the BFG!",
        message("syslog", None, NOTICE, "10.0.0.99 Use the BFG!", sent="Feb  5 17:32:18"),
    ),
    (
        b"<165>Aug 24 05:34:00 CST 1987 mymachine myproc[10]: %% It's time to make the do-nuts.  %%",
        message(
            "syslog",
            None,
            NOTICE,
            "CST 1987 mymachine myproc[10]: %% It's time to make the do-nuts.  %%",
            sent="Aug 24 05:34:00",
            facility="local4",
        ),
    ),
    (
        b"<0>1990 Oct 22 10:52:01 TZ-6 scapegoat.dmz.example.org 10.1.2.3 sched[0]: That's All Folks!",
        message(
            "syslog",
            None,
            EMERGENCY,
            "1990 Oct 22 10:52:01 TZ-6 scapegoat.dmz.example.org 10.1.2.3 sched[0]: That's All Folks!",
            facility="kern",
        ),
    ),
]


@pytest.mark.parametrize(("data", "expected"), [*RFC5424_EXAMPLES, *RFC3164_EXAMPLES, *LOGGER, *LIBRARIES])
def test_known_datagrams(data: bytes, expected: Message) -> None:
    """The examples of RFC 5424 6.5 and RFC 3164 5.4, and what real programs send, twice: read, then remembered."""
    parser = Parser("vm", Now())

    assert parser.heard(data) == expected
    assert parser.heard(data) == expected


FACILITIES = {
    **dict(enumerate(("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron"))),
    10: "authpriv",
    11: "ftp",
    12: "ntp",
    13: "audit",
    14: "alert",
    15: "clock",
    **{16 + number: f"local{number}" for number in range(8)},
}


def facility_of(pri: int) -> dict[str, str]:
    """Return the field that tells the facility of a PRI."""
    return {} if pri // 8 == 1 else {"facility": FACILITIES[pri // 8]}


@pytest.mark.parametrize("pri", range(192))
def test_the_priority_gives_level_and_facility(pri: int) -> None:
    """Each of the eight severities is a level of its own; a facility other than user is a field."""
    expected = message("app", None, SEVERITIES[pri % 8], "x", **facility_of(pri))

    assert parse(b"<%d>app: x" % pri) == parse(b"<%d>1 - - app - - - x" % pri) == expected


def test_structured_data_forges_no_field_of_our_own() -> None:
    """An element named like a field that tells what was found out here has another name."""
    elements = b"[facility][stream][input][host]"

    assert parse(b"<30>1 - - app - - " + elements + b" x").fields == {
        "facility": "daemon",
        "facility.2": "",
        "stream.2": "",
        "input.2": "",
        "host.2": "",
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no PRI",
        b"<>x",
        b"<192>x",
        b"<999>x",
        b"<1000>x",
        b"<-1>x",
        b"<013>x",
        b"<00>x",
        b"<1 >x",
        "<１>x".encode(),
        b" <13>x",
        b"<192>1 - - app - - - x",
        b"<13>2 2026-11-23T07:14:43Z vm app - - - x",
        b"<13>12 - vm app - - - x",
        b"<13>1 2026-11-23 vm app - - - x",
        b"<13>1 2026-11-23T07:14:43Z vm app - -",
        b"<13>1 2026-11-23T07:14:43Z vm app - - x",
        b"<13>1 - vm app - - [a",
        b"<13>1 - vm app - - [a b]",
        b'<13>1 - vm app - - [a b="c]',
        b'<13>1 - vm app - - [a b="c\\"]',
        b'<13>1 - vm app - - [a b="c"',
        b'<13>1 - vm app - - [a b="c"]x',
        b"<13>1 - vm app - - []",
        b"<13>1 - vm app - - [" + b"a" * 33 + b"]",
        b"<13>1 - " + b"h" * 256 + b" app - - - x",
    ],
)
def test_what_is_malformed_is_kept_as_it_came(data: bytes) -> None:
    """No PRI of 0 to 191, another version, a header or structured data without an end: the whole text, and a field."""
    assert parse(data) == message("syslog", None, NOTICE, data.decode(), **MALFORMED)


@pytest.mark.parametrize(
    ("data", "level"),
    [
        (b"<8>1 2026-11-23 - app - - - x", EMERGENCY),
        (b'<12>1 - - app - - [a b="c] x', WARNING),
        (b"<13>2 2026-11-23T07:14:43Z vm app - - - x", NOTICE),
        (b"<15>1 - - app - -", DEBUG),
        (b"<011>1 - - app - - - x", NOTICE),
        (b"<192>x", NOTICE),
        (b" <11>x", NOTICE),
        (b"11>x", NOTICE),
    ],
)
def test_what_is_malformed_keeps_the_level_that_it_tells(data: bytes, level: int) -> None:
    """A sound PRI says how serious a datagram is, whatever is wrong behind it; without one it is a notice."""
    assert parse(data) == message("syslog", None, level, data.decode(), **MALFORMED)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"<14>", message("syslog", None, INFO, "")),
        (b"<14>5 calls waiting", message("syslog", None, INFO, "5 calls waiting")),
        (b"<14>1 call waiting", message("syslog", None, INFO, "1 call waiting")),
        (b"<14>http://vm/x: refused", message("syslog", None, INFO, "http://vm/x: refused")),
        (b"<14>list[int] is no list[str]: x", message("syslog", None, INFO, "list[int] is no list[str]: x")),
        (b"<14>call[3] ends", message("syslog", None, INFO, "call[3] ends")),
        (b"<14>Z\xc3\xbcrich: x", message("syslog", None, INFO, "Zürich: x")),
        (b"<14>app:x", message("syslog", None, INFO, "app:x")),
        (b"<14>app:", message("app", None, INFO, "")),
        (b"<14>app:\nx: y", message("app", None, INFO, "\nx: y")),
        (b"<14>app:  x", message("app", None, INFO, " x")),
        (b"<14>/usr/sbin/cron[7]: x", message("/usr/sbin/cron", 7, INFO, "x")),
        (b"<14>(systemd)[7]: x", message("(systemd)", 7, INFO, "x")),
        (b"<14>%SYS-5-CONFIG_I: x", message("SYS", None, INFO, "%SYS-5-CONFIG_I: x")),
        (b"<14>app[]: x", message("app", None, INFO, "x")),
        (b"<14>app[main/1]: x", message("app", None, INFO, "x", procid="main/1")),
        (b"<14>app[12345678901]: x", message("app", None, INFO, "x", procid="12345678901")),
        (b"<14>Nov 23 07:14:43", message("syslog", None, INFO, "")),
        (b"<14>Nov 23 07:14:43 only text", message("syslog", None, INFO, "only text")),
        (b"<14>Nov 23 07:14:43 app[5] no colon", message("app", 5, INFO, "no colon")),
        (b"<14>Nov 23 07:14:43 pbx2 app[5] no colon", message("app", 5, INFO, "no colon", host="pbx2")),
        (b"<14>Nov 23 07:14:43 app[x] no number", message("syslog", None, INFO, "app[x] no number")),
        (b"<14>Nov 23 07:14:43 2001:db8::7 app: x", message("app", None, INFO, "x", host="2001:db8::7")),
        (b"<14>Nov 23 07:14:43 :: app: x", message("syslog", None, INFO, ":: app: x")),
        (b"<14>Nov 23 07:14:43 VM app: x", message("app", None, INFO, "x")),
        (b"<14>Nov 23 07:14:43 vm.example.com app: x", message("app", None, INFO, "x")),
        (
            b"<14>Nov 23 07:14:43 last message repeated 3 times",
            message("syslog", None, INFO, "last message repeated 3 times"),
        ),
        (b"<14>Nov 23 07:14:43.250 app: x", message("app", None, INFO, "x")),
        (b"<14>2026-11-23T08:14:43.123456+01:00 pbx2 app[5]: x", message("app", 5, INFO, "x", host="pbx2")),
        (b"<14>2026-11-23T07:14:43Z app: x", message("app", None, INFO, "x")),
        (
            b"<14>2026-11-23 07:14:43,123 INFO app: x",
            message("syslog", None, INFO, "2026-11-23 07:14:43,123 INFO app: x"),
        ),
        (b"<14>Nov 23 app: x", message("syslog", None, INFO, "Nov 23 app: x")),
        (b"<14>app: x\r\n", message("app", None, INFO, "x")),
        (b"<14>app: x\n\0\0", message("app", None, INFO, "x")),
        (b"<14>app: \xff\xed\xa0\x80", message("app", None, INFO, "\\xff\\xed\\xa0\\x80")),
    ],
)
def test_hosts_tags_and_texts_of_rfc_3164(data: bytes, expected: Message) -> None:
    """A colon and a blank end a TAG; behind a stamp a PID does too, and one word before it is the HOST."""
    assert parse(data) == expected


@pytest.mark.parametrize(
    ("structured", "fields"),
    [
        ("-", {}),
        ("[a]", {"a": ""}),
        ("[a][b]", {"a": "", "b": ""}),
        ('[a b="c"]', {"a.b": "c"}),
        ('[a b="1" b="2" b="3"]', {"a.b": "1", "a.b.2": "2", "a.b.3": "3"}),
        ('[a b="1"][a b="2"]', {"a.b": "1", "a.b.2": "2"}),
        ('[a b="1" b.2="x" b="2"]', {"a.b": "1", "a.b.2": "x", "a.b.3": "2"}),
        (r'[a b="\"\]\\"]', {"a.b": '"]\\'}),
        (r'[a b="\\\"\\\\]\n\x"]', {"a.b": r"\"\\]\n\x"}),
        (r'[a b="\\\\"]', {"a.b": r"\\"}),
        ("[a b=\"[x] y='z': é\"]", {"a.b": "[x] y='z': é"}),
        ('[a b=""]', {"a.b": ""}),
        ("[length][more][syslog][sent]", {"length.2": "", "more.2": "", "syslog.2": "", "sent.2": ""}),
    ],
)
def test_structured_data_becomes_fields(structured: str, fields: Mapping[str, str]) -> None:
    """A param is SD-ID.PARAM, a name that comes again is numbered, and none takes the place of a field of ours."""
    for end, text in (("", ""), (" ", ""), (" text", "text"), (" [x] text", "[x] text")):
        assert parse(f"<14>1 - - app - - {structured}{end}".encode()) == said("app", None, INFO, text, fields)


def test_fields_are_bounded() -> None:
    """Beyond 32 fields the rest is counted, params and elements without any alike."""
    elements = "".join(f'[e{number} p="[x]" q="] r=1"][f{number}]' for number in range(20))
    message = parse(f"<14>1 - other app - id {elements} text".encode())

    assert len(message.fields) == MAX_FIELDS + 1
    assert message.fields["more"] == str(2 + 60 - MAX_FIELDS)
    assert message.text == "text"


def test_a_message_of_exactly_32_fields_has_no_more() -> None:
    """The bound is inclusive."""
    elements = "".join(f"[e{number}]" for number in range(MAX_FIELDS))

    assert list(parse(f"<14>1 - - app - - {elements}".encode()).fields) == [f"e{n}" for n in range(MAX_FIELDS)]


@pytest.mark.parametrize("form", ["<14>1 - - {} 7 - - x", "<14>{}[7]: x", "<14>Nov 23 07:14:43 {}[7]: x"])
def test_a_long_name_is_cut(form: str) -> None:
    """A process's name has 48 characters at most; a longer one is whole in a field."""
    assert parse(form.format("n" * 48).encode()) == message("n" * 48, 7, INFO, "x")
    assert parse(form.format("n" * 49).encode()) == message("n" * 48, 7, INFO, "x", name="n" * 49)


@pytest.mark.parametrize(
    ("own", "host", "kept"),
    [
        ("vm", "vm", False),
        ("vm", "VM", False),
        ("vm", "vm.example.com", False),
        ("VM.example.com", "vm", False),
        ("vm.example.com", "vm.Example.com", False),
        ("vm.example.com", "vm.example.org", True),
        ("vm", "vm2", True),
        ("vm", "-", False),
    ],
)
def test_a_host_is_a_field_unless_it_is_this_one(own: str, host: str, kept: bool) -> None:
    """Case does not count, and a short name stands for a long one."""
    parser = Parser(own, Now())

    assert parser.heard(f"<14>1 - {host} app - - - x".encode()).fields == ({"host": host} if kept else {})


@pytest.mark.parametrize(
    ("stamp", "far"),
    [
        ("Nov 23 07:14:43", False),
        ("Nov 23 07:14:38", False),
        ("Nov 23 07:14:37", True),
        ("Nov 23 07:14:48", False),
        ("Nov 23 07:14:49", True),
        ("Nov 23 08:14:43", True),
        ("Nov 31 07:14:43", True),
        ("Nov 23 99:99:99", True),
        ("2026-11-23T07:14:43", False),
        ("2026-11-23T07:14:49", True),
        ("2025-11-23T07:14:43", True),
        ("2026-11-23T08:14:43.999+01:00", False),
        ("2026-11-23T08:14:43.999999999+01:00", False),
        ("2026-11-23T07:14:38.000Z", False),
        ("2026-11-23T07:14:37.999Z", True),
        ("2026-11-23T07:14:48.999Z", False),
        ("2026-11-23T07:14:49.000Z", True),
        ("2026-11-23T07:14:43.000+0100", True),
        ("2026-02-30T07:14:43Z", True),
        ("2026-11-23T07:14:43+99:99", True),
        ("0001-01-01T00:00:00+14:00", True),
        ("9999-12-31T23:59:59-14:00", True),
    ],
)
def test_a_stamp_far_from_now_is_kept(stamp: str, far: bool) -> None:
    """More than 5 s from the system's clock, or no time at all, it is the field ``sent``, as it was sent."""
    fields = {"sent": stamp} if far else {}

    assert parse(f"<14>{stamp} app: x".encode()) == said("app", None, INFO, "x", fields)
    if "T" in stamp:
        assert parse(f"<14>1 {stamp} - app - - - x".encode()) == said("app", None, INFO, "x", fields)


@pytest.mark.parametrize("day", [" 5", "05", "5"])
def test_days_below_ten(day: str) -> None:
    """RFC 3164 4.1.2 has a blank before the digit; a zero and nothing are understood too."""
    now = 1793870083.0  # 2026-11-05T09:14:43Z

    assert parse(f"<14>Nov {day} 09:14:43 app: x".encode(), now) == message("app", None, INFO, "x")
    assert parse(f"<14>Nov {day} 09:15:43 app: x".encode(), now).fields == {"sent": f"Nov {day} 09:15:43"}


def test_stamps_without_a_zone_are_local_time() -> None:
    """Both hours that bear one name in autumn are near when it is one of them; New Year has no far side."""
    use_zone("Europe/Berlin")
    try:
        for hour_before in (1792888200, 1792891800):  # 2026-10-25T00:30Z and 01:30Z are both 02:30
            assert parse(b"<14>Oct 25 02:30:00 app: x", hour_before).fields == {}
            assert parse(b"<14>2026-10-25T02:30:00 app: x", hour_before).fields == {}
            assert parse(b"<14>Oct 25 03:30:00 app: x", hour_before).fields == {"sent": "Oct 25 03:30:00"}
        assert parse(b"<14>Dec 31 23:59:58 app: x", 1798758001).fields == {}  # 2027-01-01T00:00:01 there
    finally:
        use_zone("UTC")


@pytest.mark.parametrize(
    "data",
    [b"<14>Nov 23 07:14:43 app: x", b"<14>2026-11-23T07:14:43Z app: x", b"<14>1 2026-11-23T07:14:43Z - app - - - x"],
)
def test_nothing_is_remembered_beyond_its_second(data: bytes) -> None:
    """A stamp that is near now is far a while later, or when the clock has been set back."""
    now = Now()
    parser = Parser("vm", now)

    for moment, far in ((NOW, False), (NOW + 10, True), (NOW, False), (NOW - 3600, True)):
        now.time = moment
        assert ("sent" in parser.heard(data).fields) == far
        assert ("sent" in parser.heard(data).fields) == far


def test_what_is_remembered_is_bounded() -> None:
    """Heads and stamps of one second are forgotten together when there are too many; long heads are not kept."""
    parser = Parser("vm", Now())

    for number in range(3000):
        parser.heard(b"<14>app%d: x" % number)
        parser.heard(b"<14>1 %04d-01-01T00:00:00Z - app - - - x" % number)
        assert len(parser._heads) <= 512
        assert len(parser._stamps._far) <= 512
    parser._heads.clear()
    parser.heard(b"<14>Nov 23 07:14:43 " + b"h" * 100 + b" " + b"n" * 100 + b"[7]: x")
    assert not parser._heads


def test_a_head_is_remembered() -> None:
    """The second message of a head takes the short way, and shares its fields."""
    parser = Parser("vm", Now())
    first = parser.heard(b"<14>Nov 23 07:14:43 pbx2 app[5]: one: 1")
    second = parser.heard(b"<14>Nov 23 07:14:43 pbx2 app[5]: two: 2")

    assert list(parser._heads) == [b"<14>Nov 23 07:14:43 pbx2 app[5]"]
    assert (first.text, second.text) == ("one: 1", "two: 2")
    assert first.fields == second.fields
    assert second.fields is parser.heard(b"<14>Nov 23 07:14:43 pbx2 app[5]: three: 3").fields
    assert parser.heard(b"<14>app: x").fields is NO_FIELDS


def test_fields_that_are_shared_cannot_be_changed() -> None:
    """What one reader of a message does cannot reach the next message."""
    fields: Any = parse(b"<14>Nov 23 07:14:43 pbx2 app: x").fields

    with pytest.raises(TypeError):
        fields["host"] = "other"


@pytest.mark.parametrize("head", [b"<14>app: ", b"<14>1 - - app - - - ", b"<14>", b"no PRI "])
def test_a_long_text_says_how_long_it_was(head: bytes) -> None:
    """The hub cuts it; the field has the number of characters, the first time and when its head is known."""
    parser = Parser("vm", Now())
    prefix = "no PRI " if head.startswith(b"no") else ""
    long = "é" * (MAX_TEXT + 1 - len(prefix))

    for _ in range(2):
        assert "length" not in parser.heard(head + long[1:].encode()).fields
        assert parser.heard(head + long.encode()).fields["length"] == str(MAX_TEXT + 1)
        assert parser.heard(head + long.encode()).text == clean(prefix + long)


def test_bytes_that_are_no_utf_8_count_as_they_are_shown() -> None:
    """Length is that of the text: four characters for such a byte."""
    assert parse(b"<14>app: " + b"\xff" * MAX_TEXT).fields == {"length": str(4 * MAX_TEXT)}


def test_an_over_long_datagram_is_cut() -> None:
    """The reader asks for one byte more than is allowed: what comes with it was longer."""
    head = b"<14>app: "
    longest = head + b"x" * (MAX_DATAGRAM - len(head))

    assert parse(longest).fields == {"length": str(MAX_DATAGRAM - len(head))}
    assert parse(longest + b"y") == message("app", None, INFO, "x" * (MAX_DATAGRAM - len(head)), length="65536+")
    assert parse(b"\0" * (MAX_DATAGRAM + 1)).fields == {"syslog": "malformed", "length": "65536+"}


@pytest.mark.parametrize(
    "data",
    [
        b"<13>1 - - - - - " + b"[a]" * 21_000,
        b"<13>1 - - - - - " + b"[a]" * 21_000 + b"[",
        b"<13>1 - - - - - [a" + b' b=""' * 12_000,
        b"<13>1 - - - - - [a" + b' b="\\"' * 9_000 + b"]",
        b'<13>1 - - - - - [a b="' + b"\\]" * 32_000 + b'"]',
        b'<13>1 - - - - - [a b="' + b"\\x" * 32_000,
        b"<13>1 - - - - - [" + b"[" * 65_000,
        b"<13>1 " + b"a " * 32_000,
        b"<13>Nov 23 07:14:43 " + b"a" * 65_000,
        b"<13>Nov 23 07:14:43 " + b"a:" * 32_000,
        b"<13>Nov 23 07:14:43 " + (b"a" * 254 + b" ") * 250,
        b"<13>Nov 23 07:14:43 a" + b"[" * 65_000,
        b"<13>Nov 23 07:14:43 a[" + b"1" * 65_000,
        b"<13>" + b": " * 32_000,
        b"<13>" + b" " * 65_000,
        b"<" * 65_000,
        b"\xff" * 65_000,
        b"\0" * 65_000,
    ],
)
def test_no_input_is_slow(data: bytes) -> None:
    """A datagram of 64 KiB made to be hard takes milliseconds; a pattern that goes back would take minutes."""
    begin = time.process_time()
    parse(data)

    assert time.process_time() - begin < 1


PRINTABLE = st.characters(min_codepoint=33, max_codepoint=126)
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='="]'), min_size=1, max_size=32)
# No text that ends in what is taken off, and no surrogates.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200).map(lambda text: text.rstrip("\0\r\n"))
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.text('"\\]n ', max_size=10)
WORDS = st.text(PRINTABLE, min_size=1, max_size=48).filter(lambda word: word != "-")
STRUCTURED = st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, max_size=3), max_size=4)


def escape(value: str) -> str:
    """Return a value as RFC 5424 6.3.3 writes it."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def format_structured(structured: Mapping[str, Mapping[str, str]]) -> str:
    """Return structured data as RFC 5424 6.3 writes it."""
    elements = (
        name + "".join(f' {param}="{escape(value)}"' for param, value in params.items())
        for name, params in structured.items()
    )
    return "".join(f"[{element}]" for element in elements) or "-"


@given(
    st.integers(0, 191),
    st.none() | WORDS,
    st.none() | WORDS,
    st.none() | st.integers(0, 9_999_999_999) | WORDS.filter(lambda word: not word.isdecimal()),
    st.none() | st.text(PRINTABLE, min_size=1, max_size=32).filter(lambda word: word != "-"),
    STRUCTURED,
    st.booleans(),
    TEXTS,
)
def test_rfc_5424_is_parsed_to_its_parts(
    pri: int,
    host: str | None,
    name: str | None,
    procid: int | str | None,
    msgid: str | None,
    structured: Mapping[str, Mapping[str, str]],
    bom: bool,
    text: str,
) -> None:
    """Whatever the parts of a well-formed message are, they come back; values are unescaped, the BOM is taken off."""
    words = " ".join("-" if word is None else str(word) for word in (host, name, procid, msgid))
    sent = f"<{pri}>1 2026-11-23T07:14:43.5Z {words} {format_structured(structured)} " + "\ufeff" * bom + text
    level = SEVERITIES[pri % 8]
    parsed = Parser("own host", Now()).heard(sent.encode())
    own = {"host": host, "msgid": msgid, "procid": procid if isinstance(procid, str) else None}
    own |= {"facility": facility_of(pri).get("facility")}

    counts = name is not None and is_counter(name)
    own |= {"name": name if counts else None}
    assert parsed[:3] == (
        "syslog" if name is None or counts else name,
        procid if isinstance(procid, int) else None,
        level,
    )
    assert parsed.text == clean(text if bom else text.removeprefix("\ufeff"))
    assert {key: parsed.fields[key] for key, value in own.items() if value} == {k: v for k, v in own.items() if v}
    values = [clean(value) for params in structured.values() for value in (params.values() or [""])]
    assert list(parsed.fields.values())[sum(value is not None for value in own.values()) :] == values


TAGS = st.from_regex(r"[A-Za-z_/(%.][A-Za-z0-9_./@()%-]{0,47}", fullmatch=True)


@given(
    st.integers(0, 191),
    st.sampled_from(["", "Nov 23 07:14:43 ", "2026-11-23T07:14:43Z "]),
    st.none() | st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True),
    TAGS,
    st.none() | st.integers(0, 9_999_999_999),
    TEXTS,
)
def test_rfc_3164_is_parsed_to_its_parts(
    pri: int, stamp: str, host: str | None, tag: str, pid: int | None, text: str
) -> None:
    """With stamp and host, with either or none, TAG, PID and text come back."""
    host = host if stamp else None
    head = f"<{pri}>{stamp}" + (f"{host} " if host else "") + tag + ("" if pid is None else f"[{pid}]")
    level = SEVERITIES[pri % 8]
    parsed = Parser("own host", Now()).heard(f"{head}: {text}".encode())

    assert parsed == said(tag, pid, level, text, {**facility_of(pri), **({"host": host} if host else {})})


HEADS = [
    b"<14>",
    b"<0>",
    b"<192>",
    b"Nov 23 07:14:43 ",
    b"Nov 23 09:00:00 ",
    b"2026-11-23T07:14:43Z ",
    b"1 - ",
    b"2 - ",
]
HEADS += [b"1 2026-11-23T07:14:43Z - app - - - ", b"vm ", b"host ", b"app", b"app[12]", b"n" * 200, b"::1", b"a:b"]
HEADS += [b"237: ", b"*Nov 23 07:14:43.295: ", b"00:00:46: ", b"1d02h", b"UTC", b"r1 ", b"R1", b"config[7]: "]
MARKS = [
    b"%SYS-5-CONFIG_I: ",
    b"%SYS-5-CONFIG_I",
    b"[x]",
    b":",
    b": ",
    b" ",
    b"\n",
    b"\0",
    b"[a]",
    b'[a b="',
    b'"]',
    b"\\",
    b"- ",
    b"-",
    b"\xef\xbb\xbf",
    b"\xff",
]
PIECES = st.sampled_from([*HEADS, *MARKS, b"\xe4\xb8"])
STAMPS = [b"Nov 23 07:14:43 ", b"Nov 23 09:00:00 ", b"2026-11-23T07:14:43Z ", b"1 - vm app - - - ", b""]
NAMED = st.tuples(
    st.sampled_from([b"<14>", b"<0>"]),
    st.sampled_from(STAMPS),
    st.sampled_from([b"host ", b"vm ", b"::1 ", b"x: ", b""]),
    st.sampled_from([b"app", b"app[12]", b"app[x]", b"a:b", b"n" * 60, b""]),
    st.sampled_from([b": ", b" ", b":", b":\n", b""]),
    st.sampled_from([b"text", b"text: more", b"two[2]: x", b": ", b"\n", b""]),
).map(b"".join)
DATAGRAMS = NAMED | st.lists(PIECES, max_size=10).map(b"".join) | st.binary(max_size=100)


@given(DATAGRAMS)
@example(b"<14>Nov 23 07:14:43 " + b"x" * 70_000)
def test_any_bytes_give_a_message(data: bytes) -> None:
    """Nothing raises; name, level and names of fields are safe, and the hub can clean the rest."""
    process, pid, level, text, fields = parse(data)

    assert 1 <= len(process) <= 48
    assert process.isascii()
    assert process.isprintable()
    assert " " not in process
    assert pid is None or 0 <= pid <= 9_999_999_999
    assert level in SEVERITIES
    assert len(fields) <= MAX_FIELDS + 2
    for key in fields:
        assert key.isascii()
        assert key.isprintable()
        assert set(key).isdisjoint(' ="]')
    clean("".join((text, *fields.values()))).encode()


@given(st.lists(DATAGRAMS, max_size=8), st.data())
@example([b"<14>app[1]: x", b"<14>app[1]"], None)
@example([b"<14>app: x", b"<14>app: \n"], None)
@example([b"<14>Nov 23 07:14:43 app[1] one: x"], None)
@example([b"<14>app:\none: x"], None)
@example([b"<14>::: x", b"<14>::: x: y"], None)
@example([b"<14>Nov 23 07:14:43 :: a: x", b"<14>Nov 23 07:14:43 :: b: x"], None)
@example([b"<14>Nov 23 07:14:43 UTC: x", b"<14>Nov 23 07:14:43 UTC: %A-1-B: x"], None)
@example([b"<14>Nov 23 07:14:43 r1: x", b"<14>Nov 23 07:14:43 r1: %A-1-B: x"], None)
@example([b"<14>1d02h: x", b"<14>1d02h: %A-1-B: x"], None)
@example([b"<14>r1: x", b"<14>r1: 00:00:46: %A-1-B: x"], None)
@example([b"<14>Nov 23 07:14:43 r1 a[1]: x", b"<14>Nov 23 07:14:43 r1 a[1]: %A-1-B: x"], None)
def test_what_is_remembered_changes_nothing(datagrams: list[bytes], drawn: st.DataObject | None) -> None:
    """A parser that has seen other datagrams gives exactly what a new one gives, for the same heads and others."""
    parser = Parser("vm", Now())
    if drawn is not None:
        heads = [data.partition(b": ")[0] for data in datagrams]
        ends = st.lists(st.sampled_from([b": ", b":", b"", b" "]) | PIECES, max_size=4).map(b"".join)
        datagrams = [*datagrams, *(head + drawn.draw(ends) for head in heads for _ in range(2))]

    for data in [*datagrams, *reversed(datagrams)]:
        assert parser.heard(data) == parse(data)
    together = Parser("vm", Now()).parse(datagrams)
    assert [(head.prefix, text, head.suffix) for head, text in together] == [
        (head.prefix, text, head.suffix) for data in datagrams for head, text in Parser("vm", Now()).parse([data])
    ]


@given(st.binary(max_size=50) | st.lists(PIECES, max_size=5).map(b"".join))
@example("\ud800é\U0001f642".encode("utf-8", "surrogatepass"))
def test_decoding_is_backslashreplace(data: bytes) -> None:
    """Bytes that are no UTF-8 are shown as Python's error handler shows them."""
    assert decode(data) == data.decode("utf-8", "backslashreplace")
