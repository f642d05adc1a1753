"""An FTP control connection (RFC 959, 2428, 4217) on aioftp's client, with what it leaves open closed.

* aioftp reads answers of any number of lines, and takes lines without a code for more of them: here an answer has at
  most 64 lines of 4 KiB, and begins with a code.
* aioftp begins TLS on a data connection before it has sent the command; servers that begin theirs with the answer to it
  (vsftpd, ProFTPD) would wait for ever. Here the order is RFC 4217's: connect, command, answer, TLS.
* Bytes that came in clear text behind the answer to AUTH TLS would be taken for answers from within TLS: they end it.
* An end of TLS waits for nobody: behind our close_notify comes the end of TCP, at once (RFC 5246, section 7.2.1; RFC
  8446, section 6.1). asyncio keeps TCP open for half a minute, for an answer that IIS sends only after TCP's end.
* A data connection goes to the very address of the control connection, whatever the server names; its TLS session is
  the control connection's, which servers ask for as a proof that both ends are the same.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aioftp
from aioftp.common import Code, SSLSessionBoundContext

from callisto_telnetd.errors import TransferInterruptedError
from callisto_telnetd.transports.dialling import dial
from callisto_telnetd.transports.wire import Patience

_MAX_LINE_BYTES = 4096
_MAX_LINES = 64
_MAX_INTERIM = 1000
"""Answers 1xx without another one between: some servers say one now and then while they work."""
_BUFFER_BYTES = 64 * 1024


class GarbageError(Exception):
    """What came is no answer of an FTP server."""


class PassiveRefusedError(Exception):
    """The server opens no data connection; ``answer`` is its refusal."""

    def __init__(self, answer: aioftp.StatusCodeError) -> None:
        super().__init__(str(answer))
        self.answer = answer


class FtpClient(aioftp.Client):
    """aioftp's commands and log-in; connections, answers and transfers are our own."""

    def __init__(self, place: str, patience: Patience) -> None:
        super().__init__(encoding="utf-8")
        self._place = place
        self._patience = patience
        self._context: ssl.SSLContext | None = None
        self._clear: asyncio.WriteTransport | None = None
        """What TLS of the control connection goes through."""
        self._extended = True
        """Whether EPSV is of use here; once it is not, it is not asked for again."""
        self._answer_s = patience.step_s
        self._interim = 0
        self._owed = 0
        """Answers to commands that are still to come: whoever was cancelled or late has left them."""

    async def _open_connection(self, host: str, port: int) -> tuple[StreamReader, StreamWriter]:
        connection = await dial(host, port, self._patience.connect_s, self._place)
        return await asyncio.open_connection(sock=connection, limit=_BUFFER_BYTES)

    async def parse_line(self) -> tuple[Code, str]:
        """Return code and rest of one line; bytes that are not UTF-8 are replaced."""
        try:
            line = await self.stream.readline()
        except ValueError:
            raise GarbageError("a line without an end") from None
        if not line.endswith(b"\n"):
            raise ConnectionResetError
        if len(line) > _MAX_LINE_BYTES:
            raise GarbageError("a line of more than 4 KiB")
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        return Code(text[:3]), text[3:]

    async def command(
        self,
        command: str | None = None,
        expected_codes: str | tuple[str, ...] = (),
        wait_codes: str | tuple[str, ...] = (),
        censor_after: int | None = None,
    ) -> Any:
        """Send a command, and wait for its answer; what is still owed for earlier ones is read first."""
        if command is not None:
            while self._owed:
                await self.parse_response()
            self._owed += 1
        return await super().command(command, expected_codes, wait_codes, censor_after)

    async def parse_response(self) -> tuple[Code, list[str]]:
        """Return code and texts of one answer (RFC 959, section 4.2), within ``step_s``."""
        async with asyncio.timeout(self._answer_s):
            code, texts = await self._answer()
        if code.matches("1xx"):
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise GarbageError(f"more than {_MAX_INTERIM:,} answers that say to wait")
        else:
            self._interim = 0
            self._owed = max(0, self._owed - 1)
        return code, texts

    async def _answer(self) -> tuple[Code, list[str]]:
        code, rest = await self.parse_line()
        if not (len(code) == 3 and code.isascii() and code.isdigit()) or rest[:1] not in ("", " ", "-"):
            raise GarbageError(f"{code}{rest}")
        texts, line = [rest[1:]], rest
        while line.startswith("-") if len(texts) == 1 else not self._is_last(code, texts):
            if len(texts) >= _MAX_LINES:
                raise GarbageError("an answer of more than 64 lines")
            begin, line = await self.parse_line()
            texts.append(begin + line)
        return code, [*texts[:-1], texts[-1].removeprefix(f"{code} ")]

    @staticmethod
    def _is_last(code: Code, texts: list[str]) -> bool:
        return texts[-1] == code or texts[-1].startswith(f"{code} ")

    async def protect(self, context: ssl.SSLContext) -> None:
        """Begin TLS on the control connection, and have data connections protected too (AUTH TLS, PBSZ, PROT P)."""
        await self.command("AUTH TLS", "234")
        self._clear = self.stream.writer.transport
        await self.stream.writer.start_tls(
            context, server_hostname=self.server_host, ssl_handshake_timeout=self._patience.login_s
        )
        await self._refuse_early_bytes()
        self._context = context
        await self.command("PBSZ 0", "200")
        await self.command("PROT P", "200")

    async def _refuse_early_bytes(self) -> None:
        """Nothing may be there to read: within TLS the server speaks only when asked (as CVE-2021-33515 shows)."""
        early = asyncio.create_task(self.stream.reader.read(1))
        await asyncio.sleep(0)  # the task runs once: with bytes there, that is to its end
        if early.done():
            raise GarbageError("clear text behind the answer to AUTH TLS")
        early.cancel()
        await asyncio.wait([early])

    @asynccontextmanager
    async def transfer(self, command: str) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
        """Send a command that opens a data connection, and wait for the answer that ends it.

        Where the body fails, the data connection is cut. Where it was the network's or the server's doing, an answer
        that tells why is raised in place of the cut itself.
        """
        reader, writer = await self._open_data()
        try:
            await self.command(command, "1xx")
            clear = writer.transport
            if self._context is not None:
                await self._protect_data(writer, self._context)
            yield reader, writer
        except (ConnectionError, ssl.SSLError):
            _cut(writer)
            async with asyncio.timeout(self._patience.tidy_s):
                await self.command(None, "2xx", "1xx")
            raise
        except BaseException:
            _cut(writer)
            raise
        _end(writer, clear)
        self._answer_s = self._patience.settle_s
        try:
            await self.command(None, "2xx", "1xx")
        finally:
            self._answer_s = self._patience.step_s
            _cut(writer)

    async def _open_data(self) -> tuple[StreamReader, StreamWriter]:
        """Connect for data: by EPSV (RFC 2428), and by PASV where that is refused, or leads nowhere."""
        host = self.stream.writer.get_extra_info("peername")[0]
        if not self._extended:
            return await self._open_connection(host, await self._pasv())
        refusal: aioftp.StatusCodeError | TransferInterruptedError | None = None
        try:
            if (port := await self._epsv()) is not None:
                return await self._open_connection(host, port)
        except aioftp.StatusCodeError as error:
            if error.received_codes[-1] == "421":
                raise
            refusal = error
        except TransferInterruptedError as error:
            refusal = error
        opened = await self._open_connection(host, await self._pasv(refusal))
        self._extended = False
        return opened

    async def _epsv(self) -> int | None:
        """Return the port that EPSV names, by PASV's answer too; None for an answer that names none."""
        answered, answer = await self.command("EPSV", "2xx")
        try:
            return _pasv_port(answer[-1]) if answered == "227" else _epsv_port(answer[-1])
        except GarbageError:
            return None

    async def _pasv(self, refusal: aioftp.StatusCodeError | TransferInterruptedError | None = None) -> int:
        """Return the port that PASV names; where PASV is refused too, the refusal before it counts, if it says more."""
        try:
            _, answer = await self.command("PASV", "227")
        except aioftp.StatusCodeError as error:
            if isinstance(refusal, TransferInterruptedError):
                raise refusal from None
            told = refusal is not None and not refusal.received_codes[-1].matches("50x")
            raise PassiveRefusedError(refusal if told and refusal else error) from None
        return _pasv_port(answer[-1])

    async def _protect_data(self, writer: StreamWriter, own: ssl.SSLContext) -> None:
        control = self.stream.writer.get_extra_info("ssl_object")
        context = SSLSessionBoundContext(ssl.PROTOCOL_TLS_CLIENT, own, control.session)
        await writer.start_tls(context, server_hostname=self.server_host, ssl_handshake_timeout=self._patience.login_s)

    def cut(self) -> None:
        """End the control connection: what is on its way is sent, and nothing is waited for."""
        if self._stream is not None:
            _end(self._stream.writer, self._clear or self._stream.writer.transport)
            _cut(self._stream.writer)


def _epsv_port(text: str) -> int:
    """Return the port of ``(|||6446|)`` (RFC 2428, section 3)."""
    try:
        _, port = aioftp.Client.parse_epsv_response(text)
    except (IndexError, ValueError):
        raise GarbageError(text) from None
    return _sound_port(port, text)


def _pasv_port(text: str) -> int:
    """Return the port of ``(h1,h2,h3,h4,p1,p2)`` (RFC 959); the address is not looked at."""
    try:
        _, port = aioftp.Client.parse_pasv_response(text)
    except (IndexError, ValueError):
        raise GarbageError(text) from None
    return _sound_port(port, text)


def _sound_port(port: int, text: str) -> int:
    if not 1 <= port <= 65535:
        raise GarbageError(text)
    return port


def _end(writer: StreamWriter, clear: asyncio.WriteTransport) -> None:
    """Send the end of TLS, and that of TCP behind it, without waiting for an answer."""
    writer.close()
    if clear is not writer.transport and not clear.is_closing():
        with suppress(OSError):  # the server has ended it already
            clear.write_eof()


def _cut(writer: StreamWriter) -> None:
    writer.transport.abort()
