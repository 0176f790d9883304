"""Reads a request's body, bounded."""

from __future__ import annotations

from django.http import HttpRequest

from routing.exceptions import InvalidRequest, RequestTooLarge

_CHUNK_BYTES = 65536
_DRAIN_FACTOR = 4  # a body this many times too large is still read to its end, so that its sender hears the answer


def read_body(request: HttpRequest, most_bytes: int) -> bytes:
    """The body, whether its length is announced or it comes chunked (Django itself reads no chunked bodies).

    Raises RequestTooLarge beyond ``most_bytes``, InvalidRequest when the client stops in the middle.
    """
    chunked = "chunked" in request.META.get("HTTP_TRANSFER_ENCODING", "").lower()
    source = request.META["wsgi.input"]
    announced = None if chunked else int(request.META.get("CONTENT_LENGTH") or 0)
    if announced is not None and announced > most_bytes:
        _drain(source, min(announced, most_bytes * _DRAIN_FACTOR))
        raise _too_large(most_bytes)
    parts: list[bytes] = []
    size = 0
    try:
        while announced is None or size < announced:
            part = source.read(_CHUNK_BYTES if announced is None else min(_CHUNK_BYTES, announced - size))
            if not part:
                break
            parts.append(part)
            size += len(part)
            if size > most_bytes:
                _drain(source, most_bytes * _DRAIN_FACTOR)
                raise _too_large(most_bytes)
    except OSError:
        raise InvalidRequest("The request body ended early.") from None
    if announced is not None and size < announced:
        raise InvalidRequest("The request body ended early.")
    return b"".join(parts)


def _drain(source: object, most_bytes: int) -> None:
    left = most_bytes
    try:
        while left > 0:
            part = source.read(min(_CHUNK_BYTES, left))  # type: ignore[attr-defined]
            if not part:
                return
            left -= len(part)
    except OSError:
        return  # it stopped sending; so do we


def _too_large(most_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(f"The request body is larger than {most_bytes} bytes.")
