"""``python -m callisto_telnetd``, and the program that is installed."""

from callisto_telnetd.interpreter import uncollected
from callisto_telnetd.shown_arguments import hide_secrets
from callisto_telnetd.streams import open_streams


def main() -> None:
    """Run the command line and exit with its code."""
    hide_secrets()
    open_streams()
    with uncollected():
        from callisto_telnetd import cli  # noqa: PLC0415 - it is the import that the collector is kept from

    cli.main()


if __name__ == "__main__":
    main()
