"""Server-sent events: a call whose answer is a stream, read event by event within its limits."""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Final

import urllib3

from routing.upstreams.base import FailureKind, Leash, Timeouts, UpstreamError
from routing.upstreams.http.connections import READ_BYTES, Watch, watch_of
from routing.upstreams.http.transport import (
    ANSWERING,
    MAX_BODY_BYTES,
    Limits,
    Whole,
    open_call,
    read_bounded,
)

MAX_EVENT_BYTES: Final = 8 * 1024 * 1024
_MAX_ERROR_BYTES: Final = 1024 * 1024

#: How long the end of the HTTP message may be behind the last event for its connection to be worth keeping.
_END_GRACE_S: Final = 0.01


def post_stream(
    url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts, leash: Leash | None = None
) -> EventReader | Whole:
    """One POST whose answer is to be a stream of server-sent events.

    An answer that is none (not 200, or JSON, or a page) comes back whole, at most _MAX_ERROR_BYTES of it.
    """
    limits = Limits(timeouts, streamed=True)
    response = open_call(url, headers, body, limits, leash)
    if response.connection is None:
        return Whole(response.status, response.headers, b"")
    watch = watch_of(response)
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if response.status != 200 or kind in ("application/json", "text/html"):
        content = read_bounded(response, watch, limits.first_token_at, _MAX_ERROR_BYTES)
        return Whole(response.status, response.headers, content)
    return EventReader(response, watch, limits)


class EventReader:
    """The data of one event after the other. Not for two readers at once; `close()` is for everybody.

    Lines may end in LF, CRLF or CR; data of several lines is joined; comments and events without data are
    skipped; a last event without its blank line counts.
    """

    def __init__(self, response: urllib3.HTTPResponse, watch: Watch, limits: Limits) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.limits = limits
        self.event_name = ""  # of the event returned last
        self._response = response
        self._watch = watch
        self._decode = "content-encoding" in response.headers
        self._lines: deque[bytes] = deque()
        self._rest: list[bytes] = []  # the beginning of a line whose end has not come
        self._rest_bytes = 0
        self._bytes = 0
        self._ended = False
        self._reading = False
        self._closed = False

    def next_event(self, within_s: float | None = None) -> bytes | None:
        """The next event's data, or None when the body has ended. Raises UpstreamError.

        Waits until the limit of the phase (first token, then idle), or `within_s` if that is less.
        """
        data: bytes | None = None
        size = 0
        name = ""
        lines = self._lines
        deadline = self.limits.next_event_at()
        if within_s is not None:
            deadline = min(deadline, monotonic() + within_s)
        while True:
            while lines:
                line = lines.popleft()
                if line:
                    if line.startswith(b"data:"):
                        value = line[6:] if line[5:6] == b" " else line[5:]
                        size += len(value)
                        if size > MAX_EVENT_BYTES:
                            raise self._too_long()
                        data = value if data is None else data + b"\n" + value
                    elif line.startswith(b"event:"):
                        name = line[6:].strip().decode("utf-8", "replace")
                elif data is not None:
                    self.event_name = name
                    return data
                else:
                    name = ""  # an event without data is none
            if self._ended:
                if data is not None:
                    self.event_name = name
                return data
            self._receive(deadline)

    def _receive(self, deadline: float) -> None:
        """One read from the socket, split into lines."""
        self._watch.deadline = deadline
        self._reading = True
        chunk = b""
        try:
            if not self._closed:
                with ANSWERING:
                    chunk = self._response.read1(READ_BYTES, decode_content=self._decode)
        except Exception:
            if not self._closed:  # else it is whatever a socket says that somebody has shut
                raise
        finally:
            self._reading = False
            if self._closed:
                self._response.close()
        if self._closed:
            raise UpstreamError(FailureKind.INTERRUPTED, "The call was closed")
        if not chunk:
            self._ended = True
            if self._rest:
                self._lines.extend(b"".join(self._rest).splitlines())
                self._rest.clear()
            return
        self._bytes += len(chunk)
        if self._bytes > MAX_BODY_BYTES:
            self.close()
            raise UpstreamError(FailureKind.MALFORMED, f"The provider's stream is larger than {MAX_BODY_BYTES} bytes")
        self._split(chunk)

    def _split(self, chunk: bytes) -> None:
        rest = self._rest
        if chunk[-1:] != b"\n":
            if b"\n" not in chunk and b"\r" not in chunk:
                rest.append(chunk)  # joined once, when the line's end comes: joining each time is quadratic
                self._rest_bytes += len(chunk)
                if self._rest_bytes > MAX_EVENT_BYTES:
                    raise self._too_long()
                return
            whole_lines = False
        else:
            whole_lines = True
        if rest:
            chunk = b"".join(rest) + chunk
            rest.clear()
            self._rest_bytes = 0
        lines = chunk.splitlines()
        if not whole_lines:
            last = lines.pop()
            # A CR at the very end may be half of a CRLF: it waits for what follows.
            if chunk.endswith(b"\r"):
                last += b"\r"
            rest.append(last)
            self._rest_bytes = len(last)
        self._lines.extend(lines)

    def _too_long(self) -> UpstreamError:
        self.close()
        return UpstreamError(FailureKind.MALFORMED, f"The provider sent an event larger than {MAX_EVENT_BYTES} bytes")

    def finish(self) -> None:
        """After the last event: keep the connection if its message ends here, else close it."""
        if not self._ended and not self._closed and not self._lines:
            with suppress(UpstreamError):  # the answer is complete; only its connection is lost
                self._receive(monotonic() + _END_GRACE_S)
        self.close()

    def close(self) -> None:
        """Ends the connection now, unless it has been read to its end. Wakes a reader that waits.

        A reader in another thread still uses the descriptor, so it is the one who gives it back.
        """
        if self._closed:
            return
        self._closed = True
        if self._ended:
            return  # back in the pool, perhaps in use by somebody else
        with suppress(OSError):  # the provider was faster
            self._watch.sock.shutdown(socket.SHUT_RDWR)
        if not self._reading:
            self._response.close()
