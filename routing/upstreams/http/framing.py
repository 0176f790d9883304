"""Where the head of an HTTP/1.1 answer ends, and where its body does. Reads bytes and knows no socket.

https://www.rfc-editor.org/rfc/rfc9112. As lenient as Python's own client where providers need it (a line without a
colon, folded values, lines that end in LF alone), and strict where two readers could see two ends: lengths that
contradict each other, transfer codings besides chunked, and whatever is not exactly a chunk are refused.

Bounds: :data:`MAX_HEAD_BYTES` for all heads of an answer, :data:`MAX_FIELDS`, and :data:`MAX_LINE_BYTES` for what
stands between two chunks and for the fields after the last one. No expression here goes back over what it has read.
"""

from __future__ import annotations

import re
import zlib
from typing import Any, Final, NamedTuple, Protocol

from urllib3.exceptions import DecodeError, InvalidHeader, ProtocolError

MAX_HEAD_BYTES: Final = 256 * 1024
MAX_FIELDS: Final = 100
MAX_LINE_BYTES: Final = 8 * 1024
_GZIP: Final = b"\x1f\x8b"
#: What a read of a compressed body unfolds to at most.
UNFOLDED_BYTES: Final = 1024 * 1024

_HEAD: Final = re.compile(
    rb"HTTP/1\.([0-9])[ \t]++([1-9][0-9][0-9])(?=[ \t\r\n])[^\n]*+\n((?:[^\r\n][^\n]*+\n)*+)\r?\n"
)
_BLANK_LINE: Final = re.compile(rb"\n\r?\n")
_FOLD: Final = re.compile(r"\r?\n[ \t]++")
_FIELD: Final = re.compile(r"^([!-9;-~]++):[ \t]*+([^\n]*+)\n", re.MULTILINE)
_FIRST_SIZE: Final = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*+(?:;[^\r\n]*+)?\r?\n")
_NEXT_SIZE: Final = re.compile(rb"\r\n" + _FIRST_SIZE.pattern)
_TRAILERS: Final = re.compile(rb"(?:[^\r\n][^\n]*+\n)*+\r?\n")

_WITHOUT_BODY: Final = (101, 204, 304)


class Head(NamedTuple):
    status: int
    headers: dict[str, str]  # by the name in lower case; values of a repeated name are joined by ", "
    is_lasting: bool  # whether the connection may carry a further request after this answer


class HeadReader:
    """Takes what comes until the head of the final answer is there. Interim answers (1xx) are skipped."""

    def __init__(self) -> None:
        self.surplus = b""  # what has come after the head
        self._begun = bytearray()
        self._skipped_bytes = 0

    def take(self, data: bytes) -> Head | None:
        """The head, or None while a part of it is missing. Raises ProtocolError."""
        searched = max(0, len(self._begun) - 2)
        if self._begun:
            self._begun += data
            data = bytes(self._begun) if _BLANK_LINE.search(self._begun, searched) else b""
        while data and (found := _HEAD.match(data)) is not None:
            version, status, block = found.groups()
            if 100 <= int(status) < 200 and int(status) != 101:
                self._skipped_bytes += found.end()
                data = data[found.end() :]
                self._begun.clear()
                continue
            headers = _fields(block)
            options = headers.get("connection", "").lower()
            is_lasting = "close" not in options and (version != b"0" or "keep-alive" in options)
            self.surplus = data[found.end() :]
            return Head(int(status), headers, is_lasting and status != b"101")
        if not self._begun:
            self._begun += data
        if self._skipped_bytes + len(self._begun) > MAX_HEAD_BYTES:
            raise ProtocolError("the answer's head is too long")
        if not b"HTTP/1.".startswith(self._begun[:7]) or (data and _BLANK_LINE.search(data)):
            raise ProtocolError("not an HTTP/1 answer")
        return None


def _fields(block: bytes) -> dict[str, str]:
    text = block.decode("latin-1")
    if "\n " in text or "\n\t" in text:
        text = _FOLD.sub(" ", text)
    found = _FIELD.findall(text)
    if len(found) > MAX_FIELDS:
        raise ProtocolError(f"got more than {MAX_FIELDS} headers")
    headers = {name.lower(): value.rstrip(" \t\r") for name, value in found}
    if len(headers) == len(found):
        return headers
    headers.clear()
    for name, value in found:
        key, plain = name.lower(), value.rstrip(" \t\r")
        headers[key] = f"{headers[key]}, {plain}" if key in headers else plain
    return headers


# --- bodies ---------------------------------------------------------------------------------------------


class Body(Protocol):
    """A body that comes in parts."""

    is_done: bool
    is_broken: bool  # what comes next is not the body's: `take` says so
    is_lasting: bool  # as in Head: whether the next answer can be told from this one

    def take(self, data: bytes) -> bytes:
        """What of the data is the body's. Raises ProtocolError, but not before all that came whole is given out."""

    def close(self) -> None:
        """The connection has ended. Raises ProtocolError when the body has not."""


def body_of(head: Head) -> Body:
    """https://www.rfc-editor.org/rfc/rfc9112#section-6.3"""
    length = head.headers.get("content-length")
    coding = head.headers.get("transfer-encoding")
    if head.status in _WITHOUT_BODY:
        empty = Sized(0)
        empty.is_lasting = coding is None and length in (None, "0")  # else the server may send a body all the same
        return empty
    if coding is not None:
        if coding.lower() != "chunked":
            raise InvalidHeader("a transfer coding besides chunked")
        return Chunked(is_lasting=length is None)
    if length is not None:
        if "," in length:
            lengths = {part.strip() for part in length.split(",")}
            if len(lengths) > 1:
                raise InvalidHeader("two lengths of one body")
            length = lengths.pop()
        if length.isascii() and length.isdecimal() and len(length) <= 15:
            return Sized(int(length))
    return Unbounded()


class Sized:
    __slots__ = ("_left", "is_broken", "is_done", "is_lasting")

    def __init__(self, length: int) -> None:
        self._left = length
        self.is_done = not length
        self.is_broken = False
        self.is_lasting = True

    def take(self, data: bytes) -> bytes:
        if len(data) > self._left:
            data = data[: self._left]
            self.is_lasting = False  # more came than was announced
        self._left -= len(data)
        self.is_done = not self._left
        return data

    def close(self) -> None:
        raise ProtocolError("the answer ended early")


class Unbounded:
    """A body whose end is that of its connection."""

    __slots__ = ("is_broken", "is_done", "is_lasting")

    def __init__(self) -> None:
        self.is_done = self.is_broken = self.is_lasting = False

    def take(self, data: bytes) -> bytes:
        return data

    def close(self) -> None:
        self.is_done = True


class Chunked:
    __slots__ = ("_begun", "_is_after_the_last", "_left", "_size", "is_broken", "is_done", "is_lasting")

    def __init__(self, *, is_lasting: bool = True) -> None:
        self._begun = b""  # what stands between two chunks, as far as it has come
        self._size = _FIRST_SIZE
        self._left = 0  # of the chunk that comes
        self._is_after_the_last = False
        self.is_done = self.is_broken = False
        self.is_lasting = is_lasting

    def take(self, data: bytes) -> bytes:
        if self._begun:
            data, self._begun = self._begun + data, b""
        parts: list[bytes] = []
        at = 0
        while not self._is_after_the_last:
            if self._left:
                part = data[at : at + self._left]
                at += len(part)
                self._left -= len(part)
                parts.append(part)
                if self._left:
                    return _joined(parts)
            size = self._size.match(data, at)
            if size is None:
                self._wait(data[at:], parts, self._may_be_a_size(data[at:]))
                return _joined(parts)
            at = size.end()
            self._size = _NEXT_SIZE
            self._left = int(size[1], 16)
            self._is_after_the_last = not self._left
        trailers = _TRAILERS.match(data, at)
        if trailers is None:
            self._wait(data[at:], parts, may_be_right=_BLANK_LINE.search(data, at) is None)
            return _joined(parts)
        self.is_done = True
        self.is_lasting = self.is_lasting and trailers.end() == len(data)
        return _joined(parts)

    def _may_be_a_size(self, begun: bytes) -> bool:
        if self._size is _NEXT_SIZE:
            if not begun.startswith(b"\r\n"[: len(begun)]):
                return False
            begun = begun[2:]
        return b"\n" not in begun  # a whole line, and it was no size

    def _wait(self, begun: bytes, parts: list[bytes], may_be_right: bool) -> None:
        """Keeps for the next time what is neither whole nor wrong yet."""
        self._begun = begun
        if may_be_right and len(begun) <= MAX_LINE_BYTES:
            return
        self.is_broken = True
        if not any(parts):
            raise ProtocolError("not a chunk")

    def close(self) -> None:
        raise ProtocolError("the answer ended early")


def _joined(parts: list[bytes]) -> bytes:
    return parts[0] if len(parts) == 1 else b"".join(parts)


# --- codings --------------------------------------------------------------------------------------------


def decoder_of(head: Head) -> Decoder | None:
    """None when the body is as it comes, which we ask for. What else a server calls a coding ("utf-8") is not one."""
    coding = head.headers.get("content-encoding", "").lower()
    if coding in ("gzip", "x-gzip"):
        return Decoder(is_gzip=True)
    return Decoder(is_gzip=False) if coding == "deflate" else None


class Decoder:
    """Unfolds a compressed body, a bounded piece at a time: a kilobyte can be a megabyte."""

    __slots__ = ("_is_gzip", "_left", "_zlib", "has_more")

    def __init__(self, *, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._zlib: Any = None  # None: the two bytes that say how to begin have not come
        self._left = b""
        self.has_more = False  # whether there is more without further data

    def take(self, data: bytes) -> bytes:
        """Raises DecodeError."""
        data = self._left + data
        if self._zlib is None:
            self._left = data
            if len(data) < 2:
                return b""
            self._zlib = zlib.decompressobj(31 if self._is_gzip else _deflate_bits(data))
        elif self._zlib.eof:
            return self._after_a_member(data)
        try:
            unfolded: bytes = self._zlib.decompress(data, UNFOLDED_BYTES)
        except zlib.error as error:
            raise DecodeError("cannot be decompressed") from error
        self._left = self._zlib.unused_data if self._zlib.eof else self._zlib.unconsumed_tail
        self.has_more = bool(self._left) or len(unfolded) == UNFOLDED_BYTES
        return unfolded

    def _after_a_member(self, data: bytes) -> bytes:
        """gzip may go on with a further member. Whatever else comes is filling."""
        self.has_more = False
        self._left = b""
        if self._is_gzip and data[:2] == _GZIP[: len(data)]:
            self._left = data
            if len(data) >= 2:
                self._zlib, self._left = None, b""
                return self.take(data)
        return b""


def _deflate_bits(begun: bytes) -> int:
    """Some servers leave out zlib's frame, whose two bytes are known by their sum (RFC 1950)."""
    return 15 if begun[0] & 0x0F == 8 and (begun[0] * 256 + begun[1]) % 31 == 0 else -15
