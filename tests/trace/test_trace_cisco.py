from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from callisto_telnetd.trace.syslog import SyslogParser

NOW = datetime(2026, 1, 8, 19, 46, 4, tzinfo=UTC).timestamp()

# The examples of the manuals ("System Message Format" of IOS, IOS XR, NX-OS and ASA; "Cisco Unified Serviceability"),
# with a clock that is right; what is behind the level of the record.
MESSAGES = {
    "<189>237: Jan  8 19:46:03.295: %SYS-5-CONFIG_I: Configured": "SYS[-] NOTICE %SYS-5-CONFIG_I: Configured seq=237",
    "<189>237: Jan  8 19:46:03.295 UTC: %SYS-5-CONFIG_I: Configured": (
        "SYS[-] NOTICE %SYS-5-CONFIG_I: Configured seq=237"
    ),
    "<189>237: *Jan  8 15:46:03.295: %SYS-5-CONFIG_I: Configured": (
        'SYS[-] NOTICE %SYS-5-CONFIG_I: Configured sent="*Jan  8 15:46:03.295" seq=237'
    ),
    "<189>237: Jan  8 19:46:03.295 PST: %SYS-5-CONFIG_I: Configured": (
        'SYS[-] NOTICE %SYS-5-CONFIG_I: Configured sent="Jan  8 19:46:03.295 PST" seq=237'
    ),
    "<189>45: 000019: .Jan  8 19:46:03.111: %LINK-3-UPDOWN: up": "LINK[-] NOTICE %LINK-3-UPDOWN: up seq=000019",
    "<189>45: R1: 000019: Jan  8 19:46:03: %LINK-3-UPDOWN: up": "LINK[-] NOTICE %LINK-3-UPDOWN: up host=R1 seq=000019",
    "<187>30: 00:00:46: %LINK-3-UPDOWN: up": "LINK[-] ERROR %LINK-3-UPDOWN: up sent=00:00:46 seq=30",
    "<187>30: 1d02h: %LINK-3-UPDOWN: up": "LINK[-] ERROR %LINK-3-UPDOWN: up sent=1d02h seq=30",
    "<189>Jan  8 19:46:03.295 UTC: %SYS-5-CONFIG_I: x": "SYS[-] NOTICE %SYS-5-CONFIG_I: x",
    # behind the stamp and the HOST of a relay
    "<189>Jan  8 19:46:03 r1 237: *Jan  8 19:46:03.295: %SYS-5-CONFIG_I: x": (
        "SYS[-] NOTICE %SYS-5-CONFIG_I: x host=r1 seq=237"
    ),
    "<166>Jan  8 15:00:00 fw %ASA-6-302013: Built": ('ASA[-] INFO %ASA-6-302013: Built sent="Jan  8 15:00:00" host=fw'),
    # ASA
    "<166>Jan 08 2026 19:46:03: %ASA-6-302013: Built": "ASA[-] INFO %ASA-6-302013: Built",
    "<166>Jan 08 2025 19:46:03: %ASA-6-302013: Built": ('ASA[-] INFO %ASA-6-302013: Built sent="Jan 08 2025 19:46:03"'),
    "<166>Jan 08 2026 19:46:03 fw1 : %ASA-6-302013: Built": "ASA[-] INFO %ASA-6-302013: Built host=fw1",
    "<166>:Jan 08 19:46:03 UTC: %ASA-6-302013: Built": "ASA[-] INFO %ASA-6-302013: Built",
    "<166>%ASA-6-302013: Built": "ASA[-] INFO %ASA-6-302013: Built",
    # NX-OS, IOS XR, CUCM
    "<189>: 2026 Jan  8 19:46:03 UTC: %ETHPORT-5-IF_UP: up": "ETHPORT[-] NOTICE %ETHPORT-5-IF_UP: up",
    "<189>237: RP/0/RSP0/CPU0:Jan  8 19:46:03.295 : config[65845]: %MGBL-CONFIG-6-DB_COMMIT : x": (
        "config[65845] NOTICE %MGBL-CONFIG-6-DB_COMMIT : x host=RP/0/RSP0/CPU0 seq=237"
    ),
    "<187>11: cucm1.example.com: Jan 08 2026 19:46:03.295 UTC :  %UC_CALLMANAGER-3-Gone: %[Name=SEP1]: gone": (
        "UC_CALLMANAGER[-] ERROR %UC_CALLMANAGER-3-Gone: %[Name=SEP1]: gone host=cucm1.example.com seq=11"
    ),
    "<187>12: cucm1: Jan 08 2026 07:46:03 PM.295 UTC :  %CCM-CALLMANAGER-2-ALERT: x": (
        'CCM-CALLMANAGER[-] ERROR %CCM-CALLMANAGER-2-ALERT: x sent="Jan 08 2026 07:46:03 PM.295 UTC" host=cucm1 seq=12'
    ),
    # a counter without the rest names no process either
    "<189>237: hello": "syslog[-] NOTICE 237: hello",
    "<189>1d02h: hello": "syslog[-] NOTICE 1d02h: hello",
    "<189>Jan  8 19:46:03 r1 237[5]: hello": "syslog[-] NOTICE r1 237[5]: hello",
    "<189>1 - - 237 - - - hello": "syslog[-] NOTICE hello name=237",
    # and what only looks like it means what it meant
    "<189>app: %SYS-5-CONFIG_I: x": "app[-] NOTICE %SYS-5-CONFIG_I: x",
    "<189>app: 100 % of %SYS-5-X: y": "app[-] NOTICE 100 % of %SYS-5-X: y",
    "<189>Jan  8 19:46:03 r1 3com: %SYS-9-X: y": "3com[-] NOTICE %SYS-9-X: y host=r1",
}


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stamps without a zone are UTC here."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize("sent", MESSAGES)
def test_a_ciscos_message_names_its_part_and_keeps_its_number(sent: str) -> None:
    """FACILITY names the process, the text begins with its ``%``; number, host and a stamp that is far are fields."""
    [(head, text)] = SyslogParser("vm", lambda: NOW).parse([sent.encode()])

    shown = f"{head.prefix.strip()} {text}{head.suffix}".replace(" facility=local7", "").replace(" facility=local4", "")
    assert shown == MESSAGES[sent]


@pytest.mark.parametrize(
    "piece", ["237: ", "Jan  8 19:46:03 ", "00:00:46: ", "r1 ", "a" * 300 + ": ", "%A-1", "1d02h "]
)
def test_no_message_is_slow(piece: str) -> None:
    """Whatever is said again and again before a ``%``, a datagram of 64 KiB takes no longer than others."""
    parser, data = SyslogParser("vm", lambda: NOW), ("<189>" + piece * (65_000 // len(piece)) + "%").encode()
    [(head, text)] = parser.parse([data])

    assert (head.process, len(text)) == ("syslog", 8193)
