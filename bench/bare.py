"""What the bare servers share: the loop that callisto-telnetd runs on (asyncio's own), the answers, the first line."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

LOOP = "asyncio"


def read_answers() -> dict[bytes, bytes]:
    """Return the answers, by command, of the file that the command line names: what callisto-telnetd answered."""
    answers: dict[str, str] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    return {command.encode(): answer.encode() for command, answer in answers.items()}


async def announce(server: asyncio.Server) -> None:
    """Say the port, as callisto-telnetd does, and serve for ever."""
    sys.stdout.write(f"listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()
