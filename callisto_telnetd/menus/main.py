"""The main menu, in the order and with the titles that the appliance has always had."""

from __future__ import annotations

from callisto_telnetd.menus.backup import BACKUP_MENU
from callisto_telnetd.menus.compact import COMPACT
from callisto_telnetd.menus.date import DATE_MENU
from callisto_telnetd.menus.demo import DEMO
from callisto_telnetd.menus.everywhere import LOGOUT
from callisto_telnetd.menus.information import INFORMATION
from callisto_telnetd.menus.repair import REPAIR
from callisto_telnetd.menus.schedule import SCHEDULE_MENU
from callisto_telnetd.menus.services import SERVICES_MENU
from callisto_telnetd.menus.trace import TRACE_MENU
from callisto_telnetd.menus.tree import Menu
from callisto_telnetd.menus.users import AUDIT, USER_MENU
from callisto_telnetd.menus.variables import VARIABLES_MENU

MAIN_MENU = Menu(
    word="main",
    title="Main menu",
    help="the main menu",
    entries=(
        TRACE_MENU,
        REPAIR,
        VARIABLES_MENU,
        INFORMATION,
        DATE_MENU,
        LOGOUT,
        SERVICES_MENU,
        SCHEDULE_MENU,
        USER_MENU,
        AUDIT,
        BACKUP_MENU,
        COMPACT,
        DEMO,
    ),
)
