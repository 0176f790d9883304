"""Server-sent events: a call whose answer is a stream, read event by event within its limits."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Final

from routing.upstreams.base import FailureKind, Leash, Timeouts, UpstreamError
from routing.upstreams.http.transport import (
    ANSWERING,
    MAX_BODY_BYTES,
    Limits,
    OpenAnswer,
    Whole,
    open_call,
    read_bounded,
)

MAX_EVENT_BYTES: Final = MAX_BODY_BYTES  # a picture comes in one event, as big as in a whole answer
MAX_STREAM_BYTES: Final = 4 * MAX_EVENT_BYTES
_MAX_ERROR_BYTES: Final = 1024 * 1024

#: What :meth:`EventReader.next_event` returns when there was no event for `beat_s`.
SILENCE: Final = b": silence"

#: How long to wait, after the last event, for the end of the HTTP message, so that the connection can be kept.
_END_GRACE_S: Final = 0.01


def post_stream(
    url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts, leash: Leash | None = None
) -> EventReader | Whole:
    """One POST that asks for a stream of server-sent events.

    An answer that is not a stream comes back whole: a status other than 200, an HTML page, or the JSON that some
    servers send although a stream was asked for.
    """
    limits = Limits(timeouts, streamed=True)
    answer = open_call(url, headers, body, limits, leash)
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if answer.status == 200 and kind == "application/json":
        return read_bounded(answer, limits.total_at, MAX_BODY_BYTES)
    if answer.status != 200 or kind == "text/html" or answer.ended:
        return read_bounded(answer, limits.first_token_at, _MAX_ERROR_BYTES)
    limits.heard()
    return EventReader(answer, limits)


def is_stream(answer: Whole) -> bool:
    """Whether a whole body is a stream of events, although no stream was asked for."""
    begins = answer.body[:100].removeprefix(codecs.BOM_UTF8).lstrip()
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    return begins.startswith((b"data:", b"event:")) or (kind == "text/event-stream" and not begins.startswith(b"{"))


def replayed(answer: Whole) -> EventReader:
    """A reader of a body that is here already: of its events, or of JSON as the only event."""
    body = answer.body
    if not is_stream(answer):
        # A line's end in JSON is white space, wherever it stands.
        body = b"data: " + b" ".join(body.removeprefix(codecs.BOM_UTF8).splitlines())
    return EventReader(_Replayed(answer.status, answer.headers, body), Limits(Timeouts(), streamed=True))


class _Replayed:
    """A body that has been read before, as an open answer."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.deadline = 0.0
        self.ended = False
        self._body = body

    def read_some(self) -> bytes:
        body, self._body = self._body, b""
        self.ended = not body
        return body

    def has_bytes(self, within_s: float) -> bool:
        return True

    def shut(self) -> None:
        pass

    def close(self) -> None:
        self.ended = True


class EventReader:
    """Reads the data of one event after the other. Only one thread may read; any thread may `close()`.

    Lines may end in LF, CRLF or CR. Data of several lines is joined. Comments and events without data are skipped. A
    last event without its blank line counts.

    Beyond the standard: a byte-order mark at the beginning is skipped. A line that is a JSON object without `data:` is
    an event, because servers write errors so. When a server leaves out the blank lines, each data line is an event. We
    notice that when a data line begins an object after another object has ended.
    """

    def __init__(self, answer: OpenAnswer, limits: Limits) -> None:
        self.status = answer.status
        self.headers: Mapping[str, str] = answer.headers
        self.limits = limits
        self._name = b""  # the line with the name of the event that was returned last
        self.beat_s: float | None = None  # an event that does not come for so long is SILENCE; None: it is waited for
        self._is_silent = False
        self._answer = answer
        self._lines: deque[bytes] = deque()
        self._rest: list[bytes] = []  # the beginning of a line whose end has not arrived
        self._rest_bytes = 0
        self._after_cr = False  # a CR was the last byte: an LF that follows belongs to it
        self._unseparated = False  # this server ends its events with the line
        self._bytes = 0
        self._ended = False
        self._reading = False
        self._closed = False

    def next_event(self, within_s: float | None = None) -> bytes | None:  # noqa: C901, PLR0912 - runs for every line
        """The next event's data, or None when the body has ended. Raises UpstreamError.

        Waits until the limit of the phase (first token, then idle), which every byte moves, or `within_s` if that is
        less.
        """
        data: bytes | None = None
        size = 0
        name = b""
        lines = self._lines
        was_silent, self._is_silent = self._is_silent, False
        is_waiting = False
        ends_at = beats_at = None
        while True:
            while lines:
                line = lines.popleft()
                if line:
                    if line.startswith(b"data:"):
                        value = line[6:] if line[5:6] == b" " else line[5:]
                        size += len(value)
                        if size > MAX_EVENT_BYTES:
                            raise self._too_long()
                        if data is None:
                            data = value
                        elif data.endswith(b"}") and value.startswith((b"{", b"[DONE]")):
                            self._unseparated = True
                            lines.appendleft(line)
                        else:
                            data += b"\n" + value
                        if self._unseparated:
                            self._name = name
                            return data
                    elif line.startswith(b"event:"):
                        name = line
                    elif line.startswith(b"{") and data is None:
                        data = line
                elif data is not None:
                    self._name = name
                    return data
                else:
                    name = b""  # an event without data is not dispatched, and its name is dropped
            if self._ended:
                if data is not None:
                    self._name = name
                return data
            if not is_waiting:  # nearly all events of a fast stream are here already, and their time is nobody's
                is_waiting = True
                now = monotonic()
                ends_at = None if within_s is None else now + within_s
                beats_at = None if self.beat_s is None or within_s is not None else now + self.beat_s
                if not was_silent:
                    self.limits.asked()
            deadline = self.limits.next_byte_at()
            if beats_at is not None and data is None and not name and self._beats(beats_at, deadline):
                self._is_silent = True
                return SILENCE
            self._receive(deadline if ends_at is None else min(deadline, ends_at))

    @property
    def event_name(self) -> str:
        """Of the event that was returned last."""
        return self._name[len(b"event:") :].strip().decode("utf-8", "replace")

    def _beats(self, at: float, deadline: float) -> bool:
        """Whether nothing is there to read until that moment, or it has passed over pings."""
        is_ready = self.is_ready(min(at, deadline) - monotonic())
        now = monotonic()
        return now < deadline and (not is_ready or now >= at)

    @property
    def has_event(self) -> bool:
        """Whether a whole event is here already, so that asking for it waits for nobody."""
        has_data = False
        for line in self._lines:
            if line.startswith(b"data:"):
                if self._unseparated:
                    return True
                has_data = True
            elif has_data and not line:
                return True
        return False

    def is_ready(self, within_s: float) -> bool:
        """Whether the next bytes, or the end, come in that time. Nothing is read, and nothing is lost by asking."""
        return bool(self._lines) or self._ended or self._closed or self._answer.has_bytes(within_s)

    def _receive(self, deadline: float) -> None:
        """One read from the socket, split into lines."""
        self._answer.deadline = deadline
        self._reading = True
        chunk = b""
        try:
            if not self._closed:
                with ANSWERING:
                    chunk = self._answer.read_some()
        except Exception:
            if not self._closed:  # after `close()` any error of the socket is expected
                raise
        finally:
            self._reading = False
            if self._closed:
                self._answer.close()
        if self._closed:
            raise UpstreamError(FailureKind.INTERRUPTED, "The call was closed")
        if not chunk:
            self._ended = True
            if self._rest:
                self._lines.extend(b"".join(self._rest).splitlines())
                self._rest.clear()
            return
        self.limits.heard()
        if self._bytes < len(codecs.BOM_UTF8):
            chunk = self._without_mark(chunk)
        self._bytes += len(chunk)
        if self._bytes > MAX_STREAM_BYTES:
            self.close()
            raise UpstreamError(FailureKind.MALFORMED, f"The provider's stream is larger than {MAX_STREAM_BYTES} bytes")
        self._split(chunk)

    def _without_mark(self, chunk: bytes) -> bytes:
        """The first bytes of the body without a byte-order mark, which may come in pieces."""
        begun = b"".join(self._rest) + chunk
        self._rest.clear()
        self._rest_bytes = self._bytes = 0
        return begun.removeprefix(codecs.BOM_UTF8)

    def _split(self, chunk: bytes) -> None:
        rest = self._rest
        if self._after_cr:
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if not chunk.endswith((b"\n", b"\r")):
            if b"\n" not in chunk and b"\r" not in chunk:
                rest.append(chunk)  # joined when the line ends; joining each time would be quadratic
                self._rest_bytes += len(chunk)
                if self._rest_bytes > MAX_EVENT_BYTES:
                    raise self._too_long()
                return
            whole_lines = False
        else:
            whole_lines = True
            self._after_cr = chunk.endswith(b"\r")
        if rest:
            chunk = b"".join(rest) + chunk
            rest.clear()
            self._rest_bytes = 0
        lines = chunk.splitlines()
        if not whole_lines:
            begun = lines.pop()
            rest.append(begun)
            self._rest_bytes = len(begun)
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

        A reader in another thread still uses the descriptor, so that reader closes it.
        """
        if self._closed:
            return
        self._closed = True
        self._answer.shut()
        if not self._reading:
            self._answer.close()
