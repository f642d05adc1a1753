"""A server on asyncio's streams, the least that Python does: no Telnet, no editing, fixed answers, no hashing."""

from __future__ import annotations

import asyncio
from functools import partial

from bench.bare import announce, read_answers


async def _serve(answers: dict[bytes, bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        for question in (b"callisto login: ", b"Password: ", b"\r\ncallisto# "):
            writer.write(question)
            if not question.startswith(b"\r\n"):
                await reader.readline()
        while line := await reader.readline():
            writer.write(answers[line.rstrip(b"\r\n")])
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def _main() -> None:
    await announce(await asyncio.start_server(partial(_serve, read_answers()), "127.0.0.1", 0, backlog=256))


if __name__ == "__main__":
    asyncio.run(_main())
