"""Reads a request's body, bounded in size, in time, in depth and in how many values it has.

What a refused sender still sends is gunicorn's worker's matter (gateway_project/worker.py), and so is the time for a
whole body.
"""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Callable
from typing import Any, Protocol

from django.conf import settings
from django.http import HttpRequest

from accounting import json_text
from routing.api.places import place_of
from routing.exceptions import CompressedBody, InvalidJson, InvalidRequest, RequestTimeout, RequestTooLarge

MAX_DEPTH = 100  # levels of nested JSON: no schema is deeper, and recursive code must not fail on a deeper body
#: How many objects and arrays, names, and commas a body may have. Parsing small things takes up to a hundred times as
#: long as parsing as many bytes of text, and nobody else is served meanwhile. 10,000 messages of text parts need 30,000
#: containers; 1,000 tools of fifty fields 55,000; a request for embeddings 300,000 numbers.
MAX_CONTAINERS = 100_000
MAX_NAMES = 300_000
MAX_COMMAS = 500_000
#: Read once: Django's settings are an object that looks for itself with each question.
_MOST_BYTES: int = settings.GATEWAY_MAX_BODY_BYTES
_MOST_UPLOAD_BYTES: int = settings.GATEWAY_MAX_UPLOAD_BYTES
_HEAD_BYTES = 2**21
_CHUNK_BYTES = 65536
_SILENCE_S = 30.0  # a sender that is silent this long in the middle of its body is gone


class _Source(Protocol):
    def read(self, size: int) -> bytes: ...


def read_body(request: HttpRequest, most_bytes: int) -> bytes:
    """The body. Its length may be announced, or it may come in chunks, which Django itself does not read.

    Raises CompressedBody, RequestTooLarge beyond ``most_bytes``, GatewayBusy when there are too many large bodies at
    once, RequestTimeout when the client is too slow, InvalidRequest when it stops in the middle.
    """
    refuse_announced(request, most_bytes)
    coding = request.META.get("HTTP_CONTENT_ENCODING", "").strip().lower()
    if coding not in ("", "identity"):
        raise CompressedBody(coding)
    client: socket.socket | None = request.META.get("gunicorn.socket")
    if client is None or isinstance(request.META["wsgi.input"], io.BytesIO):
        return _read(request, most_bytes)  # all of it is here already, or nobody knows where it comes from
    before = client.gettimeout()
    client.settimeout(_SILENCE_S)
    try:
        return _read(request, most_bytes)
    finally:
        client.settimeout(before)


def read_json(request: HttpRequest) -> Any:
    """The request's body, read as JSON. Raises CompressedBody, RequestTooLarge, InvalidRequest, InvalidJson."""
    place = place_of(request)
    return parse_json(read_body(request, _MOST_BYTES), _no_rest if place is None else place.rest)


def _no_rest() -> None:
    pass


def parse_json(raw: bytes, rest: Callable[[], None] = _no_rest) -> Any:
    """A body, read as JSON, with rests between the pieces of work. Raises InvalidJson, InvalidRequest."""
    rest()
    if not raw.strip():
        raise InvalidJson("The request body is empty; send a JSON object.")
    is_too_much = _is_too_much(raw)
    rest()
    if is_too_much:
        raise InvalidRequest(
            f"The request body has too many values: at most {MAX_CONTAINERS} objects and arrays, {MAX_NAMES} names and "
            f"{MAX_COMMAS} commas. Send less of the conversation, or fewer tools, at once."
        )
    try:
        value = json_text.loads(raw, _read_by_python)
    except RecursionError:
        raise InvalidJson(f"The request body is nested deeper than {MAX_DEPTH} levels.") from None
    except UnicodeDecodeError:
        raise InvalidJson("The request body is not valid UTF-8.") from None
    except ValueError as error:
        raise InvalidJson(f"The request body is not valid JSON: {error}.") from None
    rest()
    # Counting brackets is cheap, and shows of nearly every body that it need not be walked.
    brackets = raw.count(b"[") + raw.count(b"{")
    if brackets > MAX_DEPTH and _is_deeper_than(value, MAX_DEPTH, brackets):
        raise InvalidJson(f"The request body is nested deeper than {MAX_DEPTH} levels.")
    rest()
    return value


def _is_too_much(raw: bytes) -> bool:
    """What is far too much, its beginning shows: counting all of it takes a tenth of a second. A body of no more bytes
    than it may have containers has too many of nothing."""
    if len(raw) <= MAX_CONTAINERS:
        return False
    head = raw[:_HEAD_BYTES]
    if _has_too_many(head) and _has_too_many(_without_strings(head)):
        return True
    return len(raw) > len(head) and _has_too_many(raw) and _has_too_many(_without_strings(raw))


def _has_too_many(raw: bytes) -> bool:
    return (
        raw.count(b"{") + raw.count(b"[") > MAX_CONTAINERS
        or raw.count(b":") > MAX_NAMES
        or raw.count(b",") > MAX_COMMAS
        or raw.count(b'"') > 2 * (MAX_NAMES + MAX_COMMAS)
    )


def _without_strings(raw: bytes) -> bytes:
    """The body without what is in its strings, which may be a text full of braces.

    Each step is one pass in C. What is not JSON may come out wrong after its first fault, where parsing ends too."""
    unescaped = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    if unescaped.count(b'"') > 2 * (MAX_NAMES + MAX_COMMAS):
        return raw  # it has too many strings, and splitting it there would take long
    return b'""'.join(unescaped.split(b'"')[::2])


def _read_by_python(raw: bytes) -> Any:
    # JSON between machines is UTF-8 (RFC 8259, 8.1). From bytes, Python would also read UTF-16 and broken UTF-8.
    return json.loads(raw.decode("utf-8-sig"), parse_constant=_refuse_constant)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _is_deeper_than(value: Any, limit: int, most_containers: int) -> bool:
    """``most_containers``: with so many found there are no more, and what is in the last ones need not be looked at."""
    level, found = [value], 1
    for _ in range(limit):
        if found >= most_containers:
            return False
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, dict | list)
        ]
        found += len(level)
        if not level:
            return False
    return True


def is_form(request: HttpRequest) -> bool:
    """Whether the body says that it is a form with files, which may be larger than JSON."""
    kind: str = request.META.get("CONTENT_TYPE", "")
    return kind[:20].lower().startswith("multipart/form-data")


def most_bytes(request: HttpRequest) -> int:
    """The most that the body may have, whatever is asked."""
    return _MOST_UPLOAD_BYTES if is_form(request) else _MOST_BYTES


def refuse_announced(request: HttpRequest, most_bytes: int) -> None:
    """Raises RequestTooLarge when the headers alone say so: before anybody looks for a key."""
    announced = announced_bytes(request)
    if announced is not None and announced > most_bytes:
        raise _too_large(most_bytes)


def announced_bytes(request: HttpRequest) -> int | None:
    """None: the body comes in chunks, and nobody knows how many."""
    if "chunked" in request.META.get("HTTP_TRANSFER_ENCODING", "").lower():
        return None
    return int(request.META.get("CONTENT_LENGTH") or 0)


def _read(request: HttpRequest, most_bytes: int) -> bytes:
    source: _Source = request.META["wsgi.input"]
    announced = announced_bytes(request)
    place = place_of(request)
    parts: list[bytes] = []
    size = 0
    while announced is None or size < announced:
        part = _next(source, _CHUNK_BYTES if announced is None else min(_CHUNK_BYTES, announced - size))
        if not part:
            break
        parts.append(part)
        size += len(part)
        if size > most_bytes:
            raise _too_large(most_bytes)
        if place is not None:
            place.add_bytes(len(part))  # of what has come: what is only announced takes nobody's room
    if announced is not None and size < announced:
        raise InvalidRequest("The request body ended early.")
    return b"".join(parts)


def _next(source: _Source, size: int) -> bytes:
    try:
        return source.read(size)
    except TimeoutError:
        raise RequestTimeout("The request body took too long to come.") from None
    except Exception:  # noqa: BLE001  gunicorn has a class of its own for each way in which a chunk can be wrong
        raise InvalidRequest("The request body ended early, or its chunks are not HTTP's.") from None


def _too_large(most_bytes: int) -> RequestTooLarge:
    return RequestTooLarge(f"The request body is larger than {most_bytes} bytes.")
