"""Telnet's commands and options: telnetlib3's state machine, reduced to what a management shell needs.

* Five options are known: ECHO and SGA are offered, NAWS and TERMINAL-TYPE asked for, BINARY agreed to; the rest is
  refused. Requests are answered by RFC 1143's rules: once, no loops.
* Answers are never longer than what they answer: option 255, which would be written as two bytes, gets none, and the
  terminal's type is asked for once the client's own commands have been longer than the answers by that much.
* Of what a client sends in an option only the window's size and the terminal's type are taken, bounded.
* What telnetlib3 keeps of other options, and of sub-negotiations without end, is kept nowhere here.
"""

from __future__ import annotations

import asyncio
import collections
from typing import Any

from telnetlib3.stream_writer import Option, TelnetWriter
from telnetlib3.telopt import BINARY, DO, DONT, ECHO, IAC, IS, LOGOUT, NAWS, SB, SE, SEND, SGA, TM, TTYPE, WILL, WONT

_MAX_SUBNEGOTIATION = 64
_COLUMNS = (20, 500)
_ROWS = (5, 200)

_LOCAL = frozenset({ECHO, SGA, BINARY})
"""Options that the server may perform."""
_REMOTE = frozenset({NAWS, TTYPE, SGA, BINARY})
"""Options that the client may perform."""
_OPTION_COMMANDS = frozenset({DO, DONT, WILL, WONT})
_SEND_TYPE = IAC + SB + TTYPE + SEND + IAC + SE


class _FewOptions(Option):
    """Keeps the state of the options that are known; what a client sends of others is kept nowhere."""

    def __setitem__(self, key: bytes, value: bool) -> None:
        if key[-1:] in _LOCAL or key[-1:] in _REMOTE:
            super().__setitem__(key, value)


class _Subnegotiation(collections.deque[bytes]):
    """Holds the beginning of a sub-negotiation; one that is longer than any we know is dropped when it ends."""

    def append(self, byte: bytes) -> None:
        if len(self) < _MAX_SUBNEGOTIATION:
            super().append(byte)


class TelnetOptions(TelnetWriter):
    """telnetlib3's state machine of Telnet commands, reduced to what a management shell needs."""

    slc_simulated = False

    def __init__(self, transport: asyncio.Transport, protocol: Any, **keywords: Any) -> None:
        super().__init__(transport, protocol, **keywords)
        self.compression = False
        self.pending_option = _FewOptions("pending_option", self.log, on_change=self._check_waiters)
        self.local_option = _FewOptions("local_option", self.log, on_change=self._check_waiters)
        self.remote_option = _FewOptions("remote_option", self.log, on_change=self._check_waiters)
        self._sb_buffer = _Subnegotiation()
        self._budget = 0
        """By how many bytes the client's commands have been longer than the answers to them."""
        self._wants_type = self._asked_type = False
        self._after_255 = False

    def feed_byte(self, byte: bytes) -> bool:
        """Take one byte of a Telnet command, and return whether it is text."""
        is_text = self._take(byte)
        if not is_text:
            self._budget += 1
            if self._wants_type and self._budget >= len(_SEND_TYPE):
                self._wants_type, self._asked_type = False, True
                self.send_iac(_SEND_TYPE)
        return is_text

    def _take(self, byte: bytes) -> bool:
        """Take one byte; mend two cases that telnetlib3 takes for text or for another command."""
        after_255, self._after_255 = self._after_255, self._after_255 and byte == IAC and not self.iac_received
        if not self.iac_received and self.cmd_received in _OPTION_COMMANDS and byte == IAC:
            self.cmd_received = (IAC, IAC)  # as after any option; this one (RFC 861) nobody has
            self._after_255 = True
            return False
        if self.iac_received and not self.cmd_received and not self._is_command(byte):
            self.iac_received = False
            return after_255  # option 255 may be written as two bytes, like a 255 of text: then this one is text
        return super().feed_byte(byte)

    def send_iac(self, buf: bytes) -> None:
        """Send an answer."""
        self._budget -= len(buf)
        super().send_iac(buf)

    def _is_command(self, byte: bytes) -> bool:
        return byte in _OPTION_COMMANDS or byte in {IAC, SB} or byte in self._iac_callback

    def offer(self) -> None:
        """Send our four offers at once; nothing waits for the answers."""
        for command, option in ((WILL, ECHO), (WILL, SGA), (DO, NAWS), (DO, TTYPE)):
            self.pending_option[command + option] = True
        super().send_iac(b"".join((IAC + WILL + ECHO, IAC + WILL + SGA, IAC + DO + NAWS, IAC + DO + TTYPE)))

    @property
    def drops_until_command(self) -> bool:
        """Whether a sub-negotiation goes on that is too long already: nothing of it counts up to the next IAC."""
        return self.cmd_received == SB and not self.iac_received and len(self._sb_buffer) >= _MAX_SUBNEGOTIATION

    # RFC 1143: a request is answered where it changes something, and never where it answers ours.

    def handle_do(self, opt: bytes) -> bool:
        """Agree to perform ECHO, SGA and BINARY; answer TIMING-MARK (RFC 860) and LOGOUT (RFC 727); refuse the rest."""
        if opt == TM:
            self._protocol.flush()
            self.send_iac(IAC + WILL + TM)
            return False
        if opt == LOGOUT:
            self.send_iac(IAC + WILL + LOGOUT)
            self._protocol.end_session("")
            return False
        if opt not in _LOCAL:
            self.send_iac(IAC + WONT + opt)
            return False
        if not self.local_option.enabled(opt) and not self.pending_option.enabled(WILL + opt):
            self.send_iac(IAC + WILL + opt)
        if opt == ECHO:
            self._protocol.set_echo(agreed=True)
        return True

    def handle_dont(self, opt: bytes) -> None:
        """Stop performing an option."""
        if self.local_option.enabled(opt):
            self.send_iac(IAC + WONT + opt)
        if opt == ECHO:
            self._protocol.set_echo(agreed=False)

    def handle_will(self, opt: bytes) -> None:
        """Let the client perform NAWS, TERMINAL-TYPE, SGA and BINARY; refuse the rest."""
        if opt not in _REMOTE:
            self.send_iac(IAC + DONT + opt)
            return
        if not self.remote_option.enabled(opt) and not self.pending_option.enabled(DO + opt):
            self.send_iac(IAC + DO + opt)
        self.remote_option[opt] = True
        if opt == TTYPE:
            self._wants_type = not self._asked_type

    def handle_wont(self, opt: bytes) -> None:
        """Take note that the client does not perform an option."""
        if self.remote_option.enabled(opt):
            self.send_iac(IAC + DONT + opt)
        self.remote_option[opt] = False
        if opt == TTYPE:
            self._wants_type = False

    def handle_subnegotiation(self, buf: collections.deque[bytes]) -> None:
        """Take window size (RFC 1073) and terminal type (RFC 1091) where agreed; drop the rest unread."""
        if len(buf) >= _MAX_SUBNEGOTIATION or not self.remote_option.enabled(buf[0]):
            return
        data = b"".join(buf)
        if data[:1] == NAWS and len(data) == 5:
            columns, rows = int.from_bytes(data[1:3], "big"), int.from_bytes(data[3:5], "big")
            self._protocol.set_window(_clamp(columns, _COLUMNS), _clamp(rows, _ROWS))
        elif data[:2] == TTYPE + IS:
            self._protocol.terminal_type = "".join(chr(code) for code in data[2:] if 0x21 <= code < 0x7F)

    # RFC 854's functions

    def handle_ip(self, _cmd: bytes) -> None:
        """Interrupt Process."""
        self._protocol.console.interrupt()

    def handle_brk(self, _cmd: bytes) -> None:
        """Break."""
        self._protocol.console.interrupt()

    def handle_ao(self, _cmd: bytes) -> None:
        """Abort Output."""
        self._protocol.console.abort_output()

    def handle_ayt(self, _cmd: bytes) -> None:
        """Are You There: answer visibly, whatever goes on."""
        self._protocol.answer_there()

    def handle_ec(self, _cmd: bytes) -> None:
        """Erase Character."""
        self._protocol.console.erase_character()

    def handle_el(self, _cmd: bytes) -> None:
        """Erase Line."""
        self._protocol.console.erase_line()


def _clamp(number: int, bounds: tuple[int, int]) -> int:
    """Return the number within its bounds; 0 stays, it says that the client does not know."""
    return number and min(max(number, bounds[0]), bounds[1])
