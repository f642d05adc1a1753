r"""What a syslog datagram says: RFC 5424, RFC 3164, and what glibc and Python send to a local socket.

Rules:
* Nothing is fatal: what is no syslog becomes the text of a record of process ``syslog`` with ``syslog=malformed``.
* The record's time is its arrival's, because every stamp of the trace follows the appliance's clock. A sender's own
  stamp is dropped; where it is more than 5 whole seconds from the system's clock, field ``sent`` keeps it.
* The severity is the level. Field ``facility`` keeps the facility where it is another than ``user``, which is what
  programs send that choose none.
* After a stamp, a word is the TAG where a colon and a blank, or ``[PID]``, end it; RFC 3164 4.1.3 would let a blank end
  it too, but then the first word of every text without a TAG would name a process. The one word before a TAG is the
  HOST. Without a stamp a TAG must end in a colon, and no HOST stands before it.
* A TAG that counts (a number, an uptime) names no process. What Cisco's devices send is understood: see ``cisco``.
* Text and values are decoded (a byte that is no UTF-8 becomes ``\xff``) and cleaned.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from callisto_telnetd.trace.cisco import CiscoHead, is_counter, parse_cisco, parse_stamp
from callisto_telnetd.trace.hub import OWN_PROCESS
from callisto_telnetd.trace.records import LEVELS, NO_FIELDS, Head, Said, make_head
from callisto_telnetd.trace.sanitiser import MAX_TEXT, clean, clean_bytes, decode
from callisto_telnetd.trace.stamps import BSD, ISO, Stamps

MAX_DATAGRAM = 65536
"""Bytes of a datagram that are read; the reader asks for one more to see that it was longer."""
MAX_FIELDS = 32
"""Fields of a message; field ``more`` counts the rest, ``length`` may follow."""
MAX_PROCESS = 48
"""Characters of a process's name, as RFC 5424 6.2.5 has them; field ``name`` keeps a longer one."""
NO_NAME = "syslog"
"""The process of a message that names none."""

SEVERITY_LEVELS = tuple(sorted(LEVELS.values(), reverse=True))
"""The level of each severity of RFC 5424 6.2.1, 0 (emergency) to 7 (debug)."""
_USER = "user"
FACILITIES = (
    *("kern", _USER, "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("ntp", "audit", "alert", "clock"),
    *(f"local{number}" for number in range(8)),
)
"""The name of each facility of RFC 5424 6.2.1, as syslog.conf(5) has it; 12 to 15 as rsyslog has them."""
# Without leading zeros, RFC 5424 6.2.1: <013> is malformed.
_PRIORITIES = {str(pri): (SEVERITY_LEVELS[pri & 7], FACILITIES[pri >> 3]) for pri in range(192)}
_NO_PRIORITY = LEVELS["notice"], _USER
"""Of a datagram that tells none, RFC 3164 4.3.3."""
_OWN_FIELDS = frozenset(
    {"facility", "host", "input", "length", "more", "msgid", "name", "procid", "sent", "seq", "stream", "syslog"}
)
"""Names of fields that tell what was found out here: structured data has none of them."""
_MALFORMED = MappingProxyType({"syslog": "malformed"})
_ENDS = b"\0\r\n"
_MAX_KNOWN = 512
"""Heads that are remembered within a second."""
_MAX_HEAD = 200
_SURELY_SHORT = MAX_TEXT // 4
"""Bytes whose text is not cut, even where each is shown as ``\\xff``."""

# What repeats without a bound is possessive, and what is bounded goes back over its own bound only: no input is slow.
_PRI = "<([0-9]{1,3})>"
_STAMP_END = "([.,][0-9]{1,9})?(Z|[+-][0-9]{2}:?[0-9]{2})?"
_WORD = "([!-~]{1,255}+)"
_SD_NAME = r"[!#-<>-\\^-~]{1,32}+"
_VALUE = r'(?:[^"\\]|\\.)*+'
_RFC5424 = re.compile(
    rf"{_PRI}1 (?:-|({ISO}){_STAMP_END}) {_WORD} {_WORD} {_WORD} {_WORD} "
    rf'(-|(?:\[{_SD_NAME}(?: {_SD_NAME}="{_VALUE}")*+\])++)(?: |\Z)',
    re.DOTALL,
)
_BARE_PRI = re.compile(_PRI)
_SD_PART = re.compile(rf'\[({_SD_NAME})(\])?| ({_SD_NAME})="({_VALUE})"', re.DOTALL)
_SD_FIELD = re.compile(rf'\[{_SD_NAME}\]| {_SD_NAME}="{_VALUE}"', re.DOTALL)
# What begins like RFC 5424, with version and date, is not taken for RFC 3164.
_RFC3164 = re.compile(
    rf"{_PRI}(?![1-9][0-9]{{0,2}} (?:- |[0-9]{{4}}-[0-9]{{2}}-))(?:({BSD}|{ISO}){_STAMP_END}(?: |\Z))?"
)
_TAG = re.compile(
    r"(?:([A-Za-z0-9:][A-Za-z0-9_.:%-]{0,254}+)(?<!:) )?"
    r"([A-Za-z0-9_./@%(-][A-Za-z0-9_./@%()+~#*$&:-]{0,254})"
    r"(?:(?:\[([!-\\^-~]{0,128}+)\])?:|\[([0-9]{1,10})\])(?: |(?=\n)|\Z)"
)


class _Message(NamedTuple):
    """What one datagram says, before it is cleaned."""

    process: str
    """Printable ASCII without blanks, 1 to 48 characters."""
    pid: int | None
    level: int
    """One of ``LEVELS``."""
    text: str
    """Without the NULs and line ends behind it."""
    fields: Mapping[str, str]
    """Their names are printable ASCII without blank, ``=``, ``"`` and ``]``."""


class SyslogParser:
    """Parses datagrams; for a second it remembers the heads of RFC 3164 that it has seen.

    Args:
        own_host: This machine's name; messages that carry it get no field ``host``.
        now: The system's clock in seconds since the epoch, to which senders' stamps are compared.
        source: What the input is called: field ``input`` of whoever says that he is the server.
    """

    def __init__(self, own_host: str, now: Callable[[], float] = time.time, source: str = "") -> None:
        own = own_host.lower()
        self._own_host = own
        self._own_names = frozenset({"-", own, own.partition(".")[0]})
        self._now = now
        self._input = source
        self.malformed = 0
        """Datagrams that were no syslog."""
        self._second = self._next_second = 0
        self._heads: dict[bytes, Head] = {}
        self._stamps = Stamps()

    def parse(self, datagrams: Iterable[bytes]) -> list[Said]:
        """Return what datagrams that came together say, whatever their bytes are: heads of records and clean texts."""
        if not self._second <= (now := self._now()) < self._next_second:
            self._begin_second(int(now))
        said: list[Said] = []
        known = self._heads
        for data in datagrams:
            # All up to the first ": " repeats for a whole second from a busy sender. A known head has its TAG's end
            # there, and nothing behind it can change what it means: no HOST, TAG or PID reaches over a blank that
            # follows a colon.
            beginning, mark, rest = data.partition(b": ")
            head = known.get(beginning)
            if head is not None and mark and len(rest) <= _SURELY_SHORT:
                said.append((head, clean_bytes(rest.rstrip(_ENDS))))
            else:
                process, pid, level, text, fields = self._parse_whole(data, beginning)
                said.append((self._make_head(process, pid, level, fields), clean(text)))
        return said

    def _make_head(self, process: str, pid: int | None, level: int, fields: Mapping[str, str]) -> Head:
        """Return the head; whoever says that he is the server is shown to have come in here."""
        if process == OWN_PROCESS:
            fields = {**fields, "input": self._input}
        return make_head(process, pid, level, fields)

    def _begin_second(self, second: int) -> None:
        self._second, self._next_second = second, second + 1
        self._heads.clear()
        self._stamps.begin_second(second)

    def _parse_whole(self, data: bytes, head: bytes) -> _Message:
        text = decode(data[:MAX_DATAGRAM].rstrip(_ENDS))
        message = self._parse_rfc5424(text) or self._parse_rfc3164(text, head)
        if message is None:
            pri = _BARE_PRI.match(text)  # what is left of it may still say how serious
            level, facility = _PRIORITIES.get(pri[1], _NO_PRIORITY) if pri else _NO_PRIORITY
            message = _Message(NO_NAME, None, level, text, {**_begin_fields(facility), **_MALFORMED})
            self.malformed += 1
        if len(data) > MAX_DATAGRAM:
            length = f"{MAX_DATAGRAM}+"
        elif len(message.text) > MAX_TEXT:
            length = str(len(message.text))
        else:
            return message
        return message._replace(fields={**message.fields, "length": length})

    def _parse_rfc5424(self, text: str) -> _Message | None:
        match = _RFC5424.match(text)
        if match is None:
            return None
        pri, moment, fraction, zone, host, name, procid, msgid, structured = match.groups("")
        priority = _PRIORITIES.get(pri)
        if priority is None:
            return None
        level, facility = priority
        fields = _begin_fields(facility)
        if host not in self._own_names:
            self._note_host(host, fields)
        if msgid != "-":
            fields["msgid"] = msgid
        pid = None if procid == "-" else _parse_pid(procid, fields)
        if moment and self._stamps.is_far(moment, zone):
            fields["sent"] = moment + fraction + zone
        if counter := is_counter(name):
            fields["name"] = name
        process = NO_NAME if counter or name == "-" else _bounded(name, fields)
        if structured != "-":
            _add_structured(structured, fields)
        at = match.end()
        if text.startswith("\ufeff", at):  # RFC 5424 6.4: a BOM says that UTF-8 follows
            at += 1
        return _Message(process, pid, level, text[at:], fields or NO_FIELDS)

    def _parse_rfc3164(self, text: str, head: bytes) -> _Message | None:
        match = _RFC3164.match(text)
        if match is None:
            return None
        pri, moment, fraction, zone = match.groups("")
        priority = _PRIORITIES.get(pri)
        if priority is None:
            return None
        level, facility = priority
        fields = _begin_fields(facility)
        sent = moment + fraction + zone if moment and self._stamps.is_far(moment, zone) else ""
        if "%" in text and (cisco := _find_cisco(text, match)):
            return self._heed_cisco(cisco, level, text, fields, sent)
        if sent:
            fields["sent"] = sent
        tag = _TAG.match(text, match.end())
        if tag is None or is_counter(tag[2]) or not (moment or _is_plain(tag)):
            return _Message(NO_NAME, None, level, text[match.end() :], fields or NO_FIELDS)
        host, name, bracketed, number = tag.groups("")
        if host:
            self._note_host(host, fields)
        pid = _parse_pid(bracketed or number, fields) if bracketed or number else None
        process = _bounded(name, fields)
        kept = MappingProxyType(fields) if fields else NO_FIELDS
        if tag.end() == len(head) + len(": ") and len(head) <= _MAX_HEAD and not _may_be_zone(tag):
            if len(self._heads) >= _MAX_KNOWN:
                self._heads.clear()
            self._heads[head] = self._make_head(process, pid, level, kept)
        return _Message(process, pid, level, text[tag.end() :], kept)

    def _heed_cisco(self, cisco: CiscoHead, level: int, text: str, fields: dict[str, str], sent: str) -> _Message:
        """Return the message; ``sent`` is the stamp of a relay, where that is far from now."""
        if cisco.stamp:
            year, moment, zone = parse_stamp(cisco.stamp) or ("", "", "")
            this_year = not year or year == str(time.localtime(self._second).tm_year)
            near = moment and this_year and not self._stamps.is_far(moment, zone)
            sent = "" if near else cisco.stamp
        if sent:
            fields["sent"] = sent
        if cisco.host:
            self._note_host(cisco.host, fields)
        if cisco.number:
            fields["seq"] = cisco.number
        pid = int(cisco.pid) if cisco.pid else None
        return _Message(_bounded(cisco.process, fields), pid, level, text[cisco.end :], fields or NO_FIELDS)

    def _note_host(self, host: str, fields: dict[str, str]) -> None:
        """Keep a host that is not this one; of two names one may be short."""
        name = host.lower()
        if name not in self._own_names and name.partition(".")[0] != self._own_host:
            fields["host"] = host


def _begin_fields(facility: str) -> dict[str, str]:
    """Return the fields of a message of that facility, to which others are added."""
    return {} if facility == _USER else {"facility": facility}


def _find_cisco(text: str, match: re.Match[str]) -> CiscoHead | None:
    """Return what a Cisco device says behind its PRI, or behind the stamp that a relay has put before it."""
    percent = text.find("%")
    if not text[percent + 1 : percent + 2].isupper():  # per cent of something, as a rule
        return None
    found = parse_cisco(text, match.end(1) + len(">"))
    return found or (parse_cisco(text, match.end(), relayed=True) if match[2] else None)


def _may_be_zone(tag: re.Match[str]) -> bool:
    """Return whether a TAG may be the zone of a Cisco device's stamp: what follows decides, so it is not remembered."""
    return tag[1] is None and tag[3] is None and 3 <= len(tag[2]) <= 5 and tag[2].isupper()


def _is_plain(tag: re.Match[str]) -> bool:
    """Return whether this can be a TAG without a stamp before it: ``http://host: refused`` and ``a b: c`` are text."""
    return tag[1] is None and tag[4] is None and ":" not in tag[2]


def _parse_pid(procid: str, fields: dict[str, str]) -> int | None:
    if procid.isdecimal() and len(procid) <= 10:
        return int(procid)
    fields["procid"] = procid
    return None


def _bounded(name: str, fields: dict[str, str]) -> str:
    if len(name) > MAX_PROCESS:
        fields["name"] = name
    return name[:MAX_PROCESS]


def _add_structured(structured: str, fields: dict[str, str]) -> None:
    """Add the elements of RFC 5424 6.3: ``SD-ID.PARAM``, or ``SD-ID`` alone where it has none."""
    element = ""
    for part in _SD_PART.finditer(structured):
        name, closed, param, value = part.groups()
        if name is not None:
            element = name
            if closed is None:
                continue
            param, value = "", ""
        if len(fields) >= MAX_FIELDS:
            fields["more"] = str(len(_SD_FIELD.findall(structured, part.start())))
            return
        key = name = f"{element}.{param}" if param else element
        again = 1
        while key in fields or key in _OWN_FIELDS:
            again += 1
            key = f"{name}.{again}"
        fields[key] = _unescape(value) if "\\" in value else value


def _unescape(value: str) -> str:
    """Undo RFC 5424 6.3.3: a backslash before any other character is a backslash."""
    parts = value.split("\\\\")
    return "\\".join(part.replace('\\"', '"').replace("\\]", "]") for part in parts)
