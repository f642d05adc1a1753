"""The appliance's eighteen system variables, in the order of its document, ``Maintenance and service``.

Names, defaults and meanings are facts of that document; the sentences are ours. Where the document has lost a cell,
``reconstructed`` names it, and what stands there is a guess that the owner may correct.
"""

from __future__ import annotations

from callisto_telnetd.variables.kinds import Choice, Host, InternalNumber, Plan, Whole
from callisto_telnetd.variables.variable import Variable

CATALOGUE: tuple[Variable, ...] = (
    Variable(
        name="gBridgeTransfer",
        kind=Choice(values={0: "the PBX transfers the call", 1: "no transfer: Callisto stays in the call as a bridge"}),
        default=0,
        help="How a call is handed on. With 1 it runs through Callisto to its end, for a PBX that cannot transfer.",
    ),
    Variable(
        name="gCocProxyMemory",
        kind=Whole(minimum=64, maximum=4096, unit="megabytes"),
        default=256,
        help="Heap memory that the COC proxy may use.",
        reconstructed=("default", "minimum", "maximum"),
    ),
    Variable(
        name="gCocProxyRestart",
        kind=Plan(),
        default="",
        help="When the COC proxy is restarted: on which days of the week, and at what time.",
        reconstructed=("default",),
    ),
    Variable(
        name="gDefaultMailbox",
        kind=InternalNumber(nobody="no default mailbox"),
        default="",
        help="The user whose box takes forwarded voice messages that belong to nobody.",
    ),
    Variable(
        name="gDisablePersHistory",
        kind=Choice(values={0: "everybody sees their own calls", 1: "only users with the right to reports see calls"}),
        default=0,
        help="Hides Reporting in the web menu from users without the right to detailed reports, their own calls too.",
    ),
    Variable(
        name="gInboxNotifyRefresh",
        kind=Whole(minimum=1, maximum=86_400, unit="seconds"),
        default=60,
        help="How often the number of new messages that is shown is brought up to date.",
        reconstructed=("minimum", "maximum"),
    ),
    Variable(
        name="gMCSpeakNumber",
        kind=Choice(values={0: "the number is not said", 1: "the number is said"}),
        default=1,
        help="Whether MobileConnect says the caller's number aloud.",
    ),
    Variable(
        name="gMwiWebControls",
        kind=Choice(values={0: "no buttons", 1: "buttons to switch the lamp on and off"}),
        default=0,
        help="Whether the voice mail settings on the web have buttons for the message lamp (MWI).",
    ),
    Variable(
        name="gMaxForwardNumberLen",
        kind=Whole(minimum=0, maximum=100, unit="digits", zero="no number is short enough: calls cannot be diverted"),
        default=100,
        help="The longest number that calls may be diverted to. A small value keeps diversions inside the house.",
        reconstructed=("minimum",),
    ),
    Variable(
        name="gPhoneLoginWithNumber",
        kind=Choice(values={0: "the phone's own box is dialled", 1: "the caller is asked for the box number"}),
        default=0,
        help="Whether a log-in by phone asks for the box number, so that other boxes can be reached too.",
    ),
    Variable(
        name="gPhonePrivateDirPIN",
        kind=Choice(values={0: "no PIN", 1: "a PIN, where 'PIN always prompt' is set"}),
        default=0,
        help="Whether the private directory on Cisco phones asks for a PIN. Needs 'PIN always prompt' to be set.",
    ),
    Variable(
        name="gRecordVolume",
        kind=Whole(minimum=0, maximum=1000, unit="percent"),
        default=400,
        help="How loud recordings are made, measured against the volume of the system.",
        reconstructed=("minimum", "maximum"),
    ),
    Variable(
        name="gStripCallerID",
        kind=Whole(minimum=0, maximum=32, unit="digits", zero="the number is left as it is"),
        default=0,
        help="How many digits are taken off the front of a caller's number, leading zeros for example.",
        reconstructed=("minimum", "maximum"),
    ),
    Variable(
        name="gSetLineName",
        kind=Choice(values={0: "the line keeps its name", 1: "the line gets the name of its user"}),
        default=0,
        help="Whether a phone's line is named after the user who has it.",
        editions=("ucme",),
        reconstructed=("name", "meanings"),
    ),
    Variable(
        name="gTimeServer",
        kind=Host(),
        default="pool.ntp.org",
        help="The server that the appliance asks for the time.",
        reconstructed=("default",),
    ),
    Variable(
        name="gTransferWithCallerID",
        kind=Choice(values={0: "the voice mail's number", 1: "the caller's number"}),
        default=1,
        defaults_by_edition={"ucme": 0},
        help="Which number the called party sees when Callisto dials out.",
    ),
    Variable(
        name="gWebServerRestart",
        kind=Plan(),
        default="",
        help="When the web server is restarted: on which days of the week, and at what time.",
        reconstructed=("name", "default"),
    ),
    Variable(
        name="gWebTimeout",
        kind=Whole(minimum=0, maximum=1440, unit="minutes", zero="nobody is logged out automatically"),
        default=20,
        help="How long a web user may be idle before being logged out.",
        reconstructed=("maximum",),
    ),
)
