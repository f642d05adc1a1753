"""``python -m callisto_telnetd.web --data DIR``: the web server as a process, which the supervisor starts and stops."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from callisto_telnetd.errors import CallistoError
from callisto_telnetd.streams import end_streams, open_streams, stop_waiting


def main() -> int:
    """Serve, and return the exit code: 0 stopped, 1 the port cannot be had, 2 misused."""
    parser = argparse.ArgumentParser(prog="python -m callisto_telnetd.web", description="Callisto's web server.")
    parser.add_argument("--data", type=Path, required=True, help="the data folder of the server that it asks")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; default %(default)s")
    parser.add_argument(
        "--port", type=_parse_port, default=80, help="TCP port; default %(default)s, 0 takes a free one"
    )
    parser.add_argument("--name", action="append", default=[], help="a name of this web server; may be given often")
    parser.add_argument(
        "--proxy",
        action="append",
        default=[],
        type=_parse_network,
        help="an address or network whose X-Forwarded-For and X-Forwarded-Proto are believed; may be given often",
    )
    parser.add_argument("--with-parent", action="store_true", help="stop when the process that started this one ends")
    open_streams()
    options = parser.parse_args()
    stop_waiting()
    parent = os.getppid() if options.with_parent else None
    try:
        from callisto_telnetd.web.server import serve  # noqa: PLC0415 - heavy: a misuse is told before

        serve(options.data, options.host, options.port, names=options.name, proxies=options.proxy, parent=parent)
    except CallistoError as error:
        sys.stderr.write(f"<3>Error: {error}\n")
        return 1
    except Exception:  # noqa: BLE001 - told here: after this, no thread writes any more
        traceback.print_exc()
        return 1
    finally:
        end_streams()
    return 0


def _parse_port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a whole number from 0 to 65535 is")
    return int(text)


def _parse_network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no network: 127.0.0.1 or 10.0.0.0/8 is") from None


if __name__ == "__main__":
    sys.exit(main())
