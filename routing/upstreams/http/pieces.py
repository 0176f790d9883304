"""An answer that is bytes and no events, read as it comes within its limits."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Final

from routing.upstreams.base import FailureKind, Leash, Timeouts, UpstreamError
from routing.upstreams.http.events import SILENCE, EventReader
from routing.upstreams.http.transport import (
    ANSWERING,
    MAX_BODY_BYTES,
    Limits,
    OpenAnswer,
    Whole,
    open_call,
    read_bounded,
)

_MAX_BYTES: Final = 4 * MAX_BODY_BYTES
#: Answers of these types are read whole, whatever their status: an error, or sound that is packed into JSON.
_WHOLE: Final = ("application/json", "text/html", "application/problem+json")


def post_for_pieces(
    url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts, leash: Leash | None = None
) -> PieceReader | EventReader | Whole:
    """One POST whose answer is bytes, or events where the provider packs the bytes into some."""
    limits = Limits(timeouts, streamed=True)
    answer = open_call(url, headers, body, limits, leash)
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if answer.status != 200 or kind in _WHOLE or answer.ended:
        return read_bounded(answer, limits.total_at, MAX_BODY_BYTES)
    limits.heard()
    return EventReader(answer, limits) if kind == "text/event-stream" else PieceReader(answer, limits)


class PieceReader:
    """Reads one piece after the other. Only one thread may read; any thread may `close()`."""

    def __init__(self, answer: OpenAnswer, limits: Limits) -> None:
        self.status = answer.status
        self.headers: Mapping[str, str] = answer.headers
        self.limits = limits
        self.beat_s: float | None = None  # a piece that does not come for so long is SILENCE; None: it is waited for
        self._answer = answer
        self._bytes = 0
        self._ended = False
        self._reading = False
        self._closed = False

    def next_piece(self) -> bytes | None:
        """What has come, SILENCE, or None when the body has ended. Raises UpstreamError."""
        self.limits.asked()
        deadline = self.limits.next_byte_at()
        if self.beat_s is not None:
            beats_at = min(monotonic() + self.beat_s, deadline)
            if not self._answer.has_bytes(beats_at - monotonic()) and monotonic() < deadline:
                return SILENCE
        self._answer.deadline = deadline
        self._reading = True
        piece = b""
        try:
            if not self._closed:
                with ANSWERING:
                    piece = self._answer.read_some()
        except Exception:
            if not self._closed:  # after `close()` any error of the socket is expected
                raise
        finally:
            self._reading = False
            if self._closed:
                self._answer.close()
        if self._closed:
            raise UpstreamError(FailureKind.INTERRUPTED, "The call was closed")
        if not piece:
            self._ended = True
            return None
        self.limits.heard()
        self._bytes += len(piece)
        if self._bytes > _MAX_BYTES:
            self.close()
            raise UpstreamError(FailureKind.MALFORMED, f"The provider's answer is larger than {_MAX_BYTES} bytes")
        return piece

    def close(self) -> None:
        """Ends the connection now, unless it has been read to its end. Wakes a reader that waits."""
        if self._closed:
            return
        self._closed = True
        if self._ended:
            return
        self._answer.shut()
        if not self._reading:
            self._answer.close()
