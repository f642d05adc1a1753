"""System variables: their kinds, the catalogue, and the registry that keeps their values and every change of them."""

from callisto_telnetd.variables.catalogue import CATALOGUE
from callisto_telnetd.variables.exchange import Difference
from callisto_telnetd.variables.host_address import HostAddress
from callisto_telnetd.variables.kinds import Choice, Host, InternalNumber, Kind, Plan, Text, Value, Whole
from callisto_telnetd.variables.ledger import Change, Database
from callisto_telnetd.variables.own_variables import own_variables
from callisto_telnetd.variables.registry import Registry
from callisto_telnetd.variables.restart_plan import RestartPlan
from callisto_telnetd.variables.variable import EDITIONS, Edition, Variable

__all__ = [
    "CATALOGUE",
    "EDITIONS",
    "Change",
    "Choice",
    "Database",
    "Difference",
    "Edition",
    "Host",
    "HostAddress",
    "InternalNumber",
    "Kind",
    "Plan",
    "Registry",
    "RestartPlan",
    "Text",
    "Value",
    "Variable",
    "Whole",
    "own_variables",
]
