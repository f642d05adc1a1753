"""Syslog datagrams as an input of the trace: ``DIR/run/trace.sock`` for any program, and a UDP port as an option.

Rules:
* An input that cannot be opened, or whose socket somebody removes, is said once, counted, tried again every 5 s, and
  keeps nobody from the shell.
* A turn of the loop reads at most 64 datagrams, so that sessions have theirs. While the hub is full nothing is read:
  the kernel then makes a sender on this machine wait (unix(7)), and drops what comes by UDP, which is counted.
"""

from __future__ import annotations

import asyncio
import socket
import stat
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from callisto_telnetd.errors import TraceError, named
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import Log
from callisto_telnetd.trace.syslog import MAX_DATAGRAM, SyslogParser
from callisto_telnetd.work import Tasks, in_thread

_AT_ONCE = 64
_SMALL_BYTES = 1 << 10
"""A datagram takes the time of one for each of these that it has: the worst has 64 KiB to be escaped."""
_LAST_TURNS = 16
"""At the end: more than any kernel lets wait in a Unix socket by default."""
_LOOK_S = 5.0
_RECEIVE_BUFFER = 1 << 20
_SO_MEMINFO = 55
"""socket(7), Linux 4.12: nine numbers of a socket's memory, the last of them the datagrams that it has dropped."""
_MEMINFO = struct.Struct("9I")


class DatagramInput:
    """One socket that syslog datagrams come in by; kept open until :meth:`close`."""

    def __init__(self, name: str, hub: Hub, log: Log, bind: Callable[[], socket.socket]) -> None:
        """Prepare the input.

        Args:
            name: What it is called in counts and errors.
            hub: Takes the records.
            log: Is told when the input fails and when it is there again.
            bind: Makes the bound socket, and raises TraceError where it cannot be made.
        """
        self.name = name
        self._hub = hub
        self._log = log
        self._bind = bind
        self._parser = SyslogParser(socket.gethostname(), time.time, name)
        self._socket: socket.socket | None = None
        self._place: tuple[int, int] | None = None
        """Device and inode of a Unix socket: what stands at its path may be another program's by now."""
        self._timer: asyncio.TimerHandle | None = None
        self._looking = Tasks()
        self._closed = False
        self._reading = False
        self.fault = "not open"
        """Why nothing comes in; blank where it is open."""
        self.faults = 0
        """How often it could not be opened, or failed."""
        self._dropped = 0

    @property
    def address(self) -> str:
        """``127.0.0.1:514`` where it takes datagrams by UDP; blank for a Unix socket, or while it is not open."""
        if self._socket is None or self._socket.family == socket.AF_UNIX:
            return ""
        host, port = self._socket.getsockname()[:2]
        return f"{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def malformed(self) -> int:
        """Datagrams that were no syslog; they are kept as text."""
        return self._parser.malformed

    @property
    def dropped(self) -> int:
        """Datagrams that the kernel has dropped because nobody took them in time; 0 on a Unix socket."""
        return self._dropped + self._dropped_now()

    def _dropped_now(self) -> int:
        if self._socket is None or self._socket.family == socket.AF_UNIX:
            return 0
        try:
            numbers = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
            return int(_MEMINFO.unpack(numbers)[-1])
        except (OSError, struct.error):
            return 0

    def open(self) -> None:
        """Open the socket now or, where that cannot be, as soon as it can."""
        self._hub.add_input(self)
        self._plan_look()
        try:
            bound = self._bind()
        except TraceError as error:
            self._note_fault(str(error))
        else:
            self._take(bound, _place_of(bound))

    def close(self) -> None:
        """Read what has come already, and close the socket."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._hub.remove_input(self)
        for _ in range(_LAST_TURNS):
            if not self._drain(_AT_ONCE):
                break
        self._drop_socket(remove=True)

    def _plan_look(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_LOOK_S, lambda: self._looking.begin(self._look()))

    async def _look(self) -> None:
        """Find out in a thread whether the socket still stands at its path, and make it anew where it does not."""
        try:
            if (opened := self._socket) is not None:
                is_there = await in_thread(_place_of, opened) == self._place
                if is_there or self._closed:
                    return
                if self._socket is opened:
                    self._drop_socket(remove=False)
                    self._note_fault("its socket was removed")
            bound, place = await in_thread(self._bind_again)
            if self._closed:
                bound.close()
            else:
                self._take(bound, place)
        except TraceError as error:
            self._note_fault(str(error))
        finally:
            if not self._closed:
                self._plan_look()

    def _bind_again(self) -> tuple[socket.socket, tuple[int, int] | None]:
        bound = self._bind()
        return bound, _place_of(bound)

    def _take(self, bound: socket.socket, place: tuple[int, int] | None) -> None:
        self._socket, self._place = bound, place
        if self.faults:
            self._log.info("trace input is open again", input=self.name)
        self.fault = ""
        if not self._hub.full:
            self.resume()

    def _note_fault(self, reason: str) -> None:
        self.faults += 1
        if reason != self.fault:
            self.fault = reason
            self._log.error("trace input failed", input=self.name, reason=reason)

    def _drop_socket(self, *, remove: bool) -> None:
        if self._socket is None:
            return
        self.pause()
        self._dropped += self._dropped_now()
        if remove and self._place is not None and _place_of(self._socket) == self._place:
            with suppress(OSError):
                Path(self._socket.getsockname()).unlink()
        self._socket.close()
        self._socket = None

    def pause(self) -> None:
        """Read no more: whoever sends waits."""
        if self._reading and self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._reading = False

    def resume(self) -> None:
        """Read again."""
        if not self._reading and self._socket is not None:
            asyncio.get_running_loop().add_reader(self._socket, self._read)
            self._reading = True

    def _read(self) -> int:
        """Take a turn's datagrams, and return how many there were, each KiB of a large one counted.

        While those that came are worked off, a sender that waited goes on: so it is looked again before the loop is
        asked, which would put the server to sleep only to wake it at once.
        """
        count = 0
        while count < _AT_ONCE and not self._hub.full and (came := self._drain(_AT_ONCE - count)):
            count += came
        return count

    def _drain(self, most: int) -> int:
        """Take what waits, and return how many datagrams it was, each KiB of a large one counted."""
        if self._socket is None:
            return 0
        receive, came = self._socket.recv, list[bytes]()
        more = 0
        failed = False
        try:
            for _ in range(most):
                came.append(data := receive(MAX_DATAGRAM + 1))
                if len(data) >= _SMALL_BYTES:
                    more += len(data) // _SMALL_BYTES
                    if len(came) + more >= most:
                        break
        except BlockingIOError:
            pass
        except OSError as error:
            self._note_fault(f"it cannot be read: {error.strerror}")
            failed = True
        if came:
            self._hub.take(self._parser.parse(came), self.name)
        if failed:
            self._drop_socket(remove=True)  # it is opened anew within 5 s
        return len(came) + more


def _place_of(bound: socket.socket) -> tuple[int, int] | None:
    """Return device and inode of what stands at a Unix socket's path; None where nothing does, or it has no path."""
    if bound.family != socket.AF_UNIX:
        return None
    try:
        status = Path(bound.getsockname()).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def bind_path(path: Path) -> socket.socket:
    """Return a socket at the path, for whoever may enter its folder; one that nobody has any more is replaced.

    Raises:
        TraceError: another program has it, or it cannot be made.
    """
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        bound.setblocking(False)
        _remove_stale(path)
        bound.bind(str(path))
        path.chmod(0o666)  # whatever the umask: its folder says who may come this far
    except OSError as error:
        bound.close()
        raise TraceError(f"{named(path)} cannot be made: {error.strerror or error}") from None  # too long has no number
    except TraceError:
        bound.close()
        raise
    return bound


def _remove_stale(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise TraceError(f"{named(path)} is in the way: it is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except FileNotFoundError:
            pass
        else:
            raise TraceError(f"{named(path)} is in use by another program")


def bind_udp(host: str, port: int) -> socket.socket:
    """Return a UDP socket at an address.

    Raises:
        TraceError: it cannot be had.
    """
    shown = f"udp {host}:{port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        bound = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        raise TraceError(f"{shown} cannot be had: {error.strerror}") from None
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise TraceError(f"{shown} cannot be had: {error.strerror}") from None
    return bound
