"""``python -m callisto_telnetd``."""

from callisto_telnetd.cli import main

main()
