"""A server of FTP whose every answer a test writes down."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter

from callisto_telnetd.transports.credentials import Credentials
from callisto_telnetd.transports.target import Target
from callisto_telnetd.transports.transport import open_transport
from callisto_telnetd.transports.wire import RemoteFile
from tests.transports.sites import SERVER_ADDRESS, SHORT, USER, scripted_server


class Script:
    """A server of FTP that answers each command from a table, and opens data connections of its own."""

    def __init__(self, answers: dict[str, bytes], data: dict[str, bytes] | None = None) -> None:
        self.commands: list[str] = []
        self.data_connections = 0
        self._answers = answers
        self._data = data or {}

    async def __call__(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Greet, and answer until the client leaves."""
        waiting: asyncio.Queue[StreamWriter] = asyncio.Queue()

        def took(incoming: StreamReader, data: StreamWriter) -> None:
            self.data_connections += 1
            self._incoming = incoming
            waiting.put_nowait(data)

        door = await asyncio.start_server(took, SERVER_ADDRESS, 0)
        port = door.sockets[0].getsockname()[1]
        writer.write(b"220 ready\r\n")
        try:
            while line := await reader.readline():
                self.commands.append(line.decode().strip())
                verb = self.commands[-1].split()[0]
                if verb == "STOR":
                    writer.write(b"150 go on\r\n")
                    data = await waiting.get()
                    self._data["RETR"] = await self._incoming.read(-1)
                    data.close()
                    await self.settled()
                    writer.write(b"226 kept\r\n")
                    continue
                if verb in self._data:
                    writer.write(b"150 here it comes\r\n")
                    data = await waiting.get()
                    data.write(self._data[verb])
                    data.close()
                    writer.write(b"226 done\r\n")
                    continue
                if verb in ("MLSD", "NLST"):
                    (await waiting.get()).close()
                answer = self._answers.get(self.commands[-1]) or self._answers.get(verb, b"200 fine\r\n")
                writer.write(answer.replace(b"PORT", f"{port >> 8},{port & 255}".encode()))
        finally:
            door.close()

    async def settled(self) -> None:
        """Return when what was stored is on the disk."""


LOGGED_IN = {"USER": b"331 go on\r\n", "PASS": b"230 in\r\n", "CWD": b"250 there\r\n", "QUIT": b"221 bye\r\n"}
ELSEWHERE = {"EPSV": b"500 what?\r\n", "PASV": b"227 Entering (192,0,2,9,PORT)\r\n"}


async def listing(script: Script, folder: str = "/") -> list[RemoteFile]:
    """Return what a scripted server lists."""
    async with scripted_server(script) as port:
        target = Target("ftp", USER, SERVER_ADDRESS, port, folder)
        async with open_transport(target, Credentials(), SHORT) as transport:
            return await transport.list()
