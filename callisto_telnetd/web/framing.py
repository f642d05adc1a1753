"""Where each request of a connection begins and ends, by the letter of RFC 9112: pure, it reads no socket.

A proxy before the web server has read every request as well. Where two readers may part the same bytes differently, the
second of them takes for a request what the first has passed on as a body. So nothing is guessed at:

Rules:
* A line ends with CR LF. A CR or LF that stands alone, and a control character other than a tab, is refused (2.2, 5.5).
* A field is a name, a colon right behind it, and a value, in one line: no blank before the colon, no fold (5.1, 5.2).
* The length of a body is told once: by one Content-Length in plain digits, or by ``Transfer-Encoding: chunked``, which
  HTTP/1.0 does not know; never by both, by two of one, or by another coding (6.1 to 6.3).
* A chunk's size is hexadecimal digits, and its content ends where it says (7.1).
* A head, and what stands behind the last chunk, have at most ``MAX_HEAD_BYTES`` together.
"""

from __future__ import annotations

import re
from collections.abc import Callable

MAX_HEAD_BYTES = 8 << 10
_MAX_CHUNK_LINE = 256
_BAD_CHUNK = "a chunk has no right size, or does not end where it says"
_REQUEST_LINE = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ [\x21-\x7e]+ HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[\t\x20-\x7e]*)?")


class FramingError(Exception):
    """The bytes are no request, or could be read as more than one thing; the text says why, for the client."""


class Framing:
    """Follows the bytes that a client sends."""

    def __init__(self) -> None:
        self._line = bytearray()
        """What has come of the line that is not at its end."""
        self._take: Callable[[bytes], None] = self._take_request_line
        """Takes the next line."""
        self._content = 0
        """Bytes of a body that come before the next line."""
        self._head_bytes = 0
        self._version = b""
        self._lengths: list[bytes] = []
        self._codings: list[bytes] = []

    def follow(self, data: bytes) -> tuple[int, str]:
        """Go on with what has come.

        Returns:
            How many of its bytes are sound and belong to what may be read, and what is wrong behind them; blank where
            nothing is.
        """
        position = sound = 0
        try:
            while position < len(data):
                if self._content:
                    step = min(self._content, len(data) - position)
                    self._content -= step
                    position += step
                else:
                    end = data.find(b"\n", position) + 1 or len(data)
                    self._collect(data[position:end])
                    position = end
                if self._take != self._take_field:  # a head is sound or not as a whole
                    sound = position
        except FramingError as error:
            return sound, str(error)
        return len(data), ""

    def _collect(self, piece: bytes) -> None:
        self._line += piece
        in_chunks = self._take in {self._take_chunk_size, self._take_chunk_end}
        if in_chunks and len(self._line) > _MAX_CHUNK_LINE:
            raise FramingError(_BAD_CHUNK)
        if not in_chunks and self._head_bytes + len(self._line) > MAX_HEAD_BYTES:
            raise FramingError(f"the head of the request is longer than {MAX_HEAD_BYTES} bytes")
        bare = self._line.find(b"\r", 0, len(self._line) - 1)
        if bare >= 0 and self._line[bare:] != b"\r\n":
            raise FramingError("a CR stands alone")
        if self._line.endswith(b"\n"):
            if bare < 0:
                raise FramingError("a LF stands alone")
            line = bytes(self._line[:-2])
            self._head_bytes += 0 if in_chunks else len(self._line)
            self._line.clear()
            self._take(line)

    def _take_request_line(self, line: bytes) -> None:
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            raise FramingError("this is no request of HTTP/1.0 or HTTP/1.1")
        self._version = match[1]
        self._lengths, self._codings = [], []
        self._take = self._take_field

    def _take_field(self, line: bytes) -> None:
        if not line:
            self._end_head()
            return
        match = _FIELD.fullmatch(line)
        if match is None:
            raise FramingError("a line of the head is no field: a name, a colon and a value")
        match match[1].lower():
            case b"content-length":
                self._lengths.append(match[2].strip(b" \t"))
            case b"transfer-encoding":
                self._codings.append(match[2].strip(b" \t").lower())

    def _end_head(self) -> None:
        if self._codings:
            if self._lengths:
                raise FramingError("Content-Length and Transfer-Encoding are both there")
            if self._codings != [b"chunked"] or self._version == b"0":
                raise FramingError("Transfer-Encoding is not once, and 'chunked', in a request of HTTP/1.1")
            self._take = self._take_chunk_size
            return
        if len(self._lengths) > 1 or not all(_LENGTH.fullmatch(each) for each in self._lengths):
            raise FramingError("Content-Length is not once, and a whole number")
        self._content = int(self._lengths[0]) if self._lengths else 0
        self._end_request()

    def _take_chunk_size(self, line: bytes) -> None:
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise FramingError(_BAD_CHUNK)
        self._content = int(match[1], 16)
        self._take = self._take_chunk_end if self._content else self._take_trailer

    def _take_chunk_end(self, line: bytes) -> None:
        if line:
            raise FramingError(_BAD_CHUNK)
        self._take = self._take_chunk_size

    def _take_trailer(self, line: bytes) -> None:
        if not line:
            self._end_request()
        elif _FIELD.fullmatch(line) is None:
            raise FramingError("a line behind the last chunk is no field")

    def _end_request(self) -> None:
        self._head_bytes = 0
        self._take = self._take_request_line
