"""Callisto's management server: a Telnet shell, its system variables, trace, database and processes."""

__version__ = "1.0.0"
