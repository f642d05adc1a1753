"""``python -m bench.trace_file_handler SOCKET FILE``: what Python's own ``logging`` does with the same datagrams.

A reader on asyncio's loop takes up to 64 datagrams a turn and hands the text of each to a logger with a FileHandler.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from functools import partial

_AT_ONCE = 64
_DATAGRAM_BYTES = 8192


def _drain(sock: socket.socket, log: logging.Logger) -> None:
    for _ in range(_AT_ONCE):
        try:
            datagram = sock.recv(_DATAGRAM_BYTES)
        except BlockingIOError:
            return
        log.info(datagram.decode("utf-8", "replace").partition("]: ")[2])


async def _main(path: str, file: str) -> None:
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    log = logging.getLogger("bench")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(path)
        asyncio.get_running_loop().add_reader(sock, partial(_drain, sock, log))
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
