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
* Text and values are decoded (a byte that is no UTF-8 becomes ``\xff``) and cleaned.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

from callisto_telnetd.trace.hub import OWN_PROCESS
from callisto_telnetd.trace.records import LEVELS, NO_FIELDS, Head, Said, make_head
from callisto_telnetd.trace.sanitiser import MAX_TEXT, clean, clean_bytes, decode

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
    {"facility", "host", "input", "length", "more", "msgid", "name", "procid", "sent", "stream", "syslog"}
)
"""Names of fields that tell what was found out here: structured data has none of them."""
_MALFORMED = MappingProxyType({"syslog": "malformed"})
_ENDS = b"\0\r\n"
_FAR_S = 5
_MAX_KNOWN = 512
"""Heads, and stamps, that are remembered within a second."""
_MAX_HEAD = 200
_SURELY_SHORT = MAX_TEXT // 4
"""Bytes whose text is not cut, even where each is shown as ``\\xff``."""

# What repeats without a bound is possessive, and what is bounded goes back over its own bound only: no input is slow.
_PRI = "<([0-9]{1,3})>"
_ISO = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_BSD = f"(?:{'|'.join(_MONTHS)}) [ 0-3]?[0-9] [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}"
_STAMP_END = "([.,][0-9]{1,9})?(Z|[+-][0-9]{2}:?[0-9]{2})?"
_WORD = "([!-~]{1,255}+)"
_SD_NAME = r"[!#-<>-\\^-~]{1,32}+"
_VALUE = r'(?:[^"\\]|\\.)*+'
_RFC5424 = re.compile(
    rf"{_PRI}1 (?:-|({_ISO}){_STAMP_END}) {_WORD} {_WORD} {_WORD} {_WORD} "
    rf'(-|(?:\[{_SD_NAME}(?: {_SD_NAME}="{_VALUE}")*+\])++)(?: |\Z)',
    re.DOTALL,
)
_BARE_PRI = re.compile(_PRI)
_SD_PART = re.compile(rf'\[({_SD_NAME})(\])?| ({_SD_NAME})="({_VALUE})"', re.DOTALL)
_SD_FIELD = re.compile(rf'\[{_SD_NAME}\]| {_SD_NAME}="{_VALUE}"', re.DOTALL)
# What begins like RFC 5424, with version and date, is not taken for RFC 3164.
_RFC3164 = re.compile(
    rf"{_PRI}(?![1-9][0-9]{{0,2}} (?:- |[0-9]{{4}}-[0-9]{{2}}-))(?:({_BSD}|{_ISO}){_STAMP_END}(?: |\Z))?"
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
        self._far: dict[str, bool] = {}
        self._near: frozenset[str] | None = None

    def parse(self, data: bytes) -> Said:
        """Return what the datagram says, whatever its bytes are: the record's head and its clean text."""
        if not self._second <= (now := self._now()) < self._next_second:
            self._begin_second(int(now))
        # All up to the first ": " repeats for a whole second from a busy sender. A known head has its TAG's end there,
        # and nothing behind it can change what it means: no HOST, TAG or PID reaches over a blank that follows a colon.
        beginning, mark, rest = data.partition(b": ")
        head = self._heads.get(beginning)
        if head is not None and mark and len(rest) <= _SURELY_SHORT:
            return head, clean_bytes(rest.rstrip(_ENDS))
        process, pid, level, text, fields = self._parse_whole(data, beginning)
        return self._make_head(process, pid, level, fields), clean(text)

    def _make_head(self, process: str, pid: int | None, level: int, fields: Mapping[str, str]) -> Head:
        """Return the head; whoever says that he is the server is shown to have come in here."""
        if process == OWN_PROCESS:
            fields = {**fields, "input": self._input}
        return make_head(process, pid, level, fields)

    def _begin_second(self, second: int) -> None:
        self._second, self._next_second = second, second + 1
        self._heads.clear()
        self._far.clear()
        self._near = None

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
        if moment and self._is_far(moment, zone):
            fields["sent"] = moment + fraction + zone
        process = NO_NAME if name == "-" else _bounded(name, fields)
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
        if moment and self._is_far(moment, zone):
            fields["sent"] = moment + fraction + zone
        tag = _TAG.match(text, match.end())
        if tag is None or not (moment or _is_plain(tag)):
            return _Message(NO_NAME, None, level, text[match.end() :], fields or NO_FIELDS)
        host, name, bracketed, number = tag.groups("")
        if host:
            self._note_host(host, fields)
        pid = _parse_pid(bracketed or number, fields) if bracketed or number else None
        process = _bounded(name, fields)
        kept = MappingProxyType(fields) if fields else NO_FIELDS
        if tag.end() == len(head) + len(": ") and len(head) <= _MAX_HEAD:
            if len(self._heads) >= _MAX_KNOWN:
                self._heads.clear()
            self._heads[head] = self._make_head(process, pid, level, kept)
        return _Message(process, pid, level, text[tag.end() :], kept)

    def _note_host(self, host: str, fields: dict[str, str]) -> None:
        """Keep a host that is not this one; of two names one may be short."""
        name = host.lower()
        if name not in self._own_names and name.partition(".")[0] != self._own_host:
            fields["host"] = host

    def _is_far(self, moment: str, zone: str) -> bool:
        """Return whether a stamp up to its second is far from now, or no time at all."""
        key = moment + zone
        far = self._far.get(key)
        if far is None:
            if len(self._far) >= _MAX_KNOWN:
                self._far.clear()
            if zone:
                far = _is_far_from(self._second, key)
            else:
                if self._near is None:
                    self._near = _local_stamps(self._second)
                far = moment not in self._near
            self._far[key] = far
        return far


def _begin_fields(facility: str) -> dict[str, str]:
    """Return the fields of a message of that facility, to which others are added."""
    return {} if facility == _USER else {"facility": facility}


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


def _is_far_from(second: int, stamp: str) -> bool:
    try:
        return abs(int(datetime.fromisoformat(stamp).timestamp()) - second) > _FAR_S
    except ValueError:
        return True


def _local_stamps(second: int) -> frozenset[str]:
    """Return all stamps without a zone that are near: the 3164 ones have no year either, and hours repeat in autumn."""
    stamps = set()
    for moment in range(second - _FAR_S, second + _FAR_S + 1):
        local = time.localtime(moment)
        clock = time.strftime("%H:%M:%S", local)
        month, day = _MONTHS[local.tm_mon - 1], local.tm_mday
        stamps |= {f"{month} {shown} {clock}" for shown in (f"{day:2}", f"{day:02}", f"{day}")}
        stamps.add(f"{local.tm_year:04}-{local.tm_mon:02}-{day:02}T{clock}")
    return frozenset(stamps)
