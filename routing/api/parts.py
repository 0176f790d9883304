"""Reads a body of parts (``multipart/form-data``, RFC 7578): fields, and files, which stay in memory.

The body is bounded as all bodies are (`routing.api.body`), and so is the number of its parts, before it is parsed.
Django's parser does that: it reads a kilobyte of headers a part, and a megabyte of fields in all
(``DATA_UPLOAD_MAX_MEMORY_SIZE``).
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from django.utils.http import parse_header_parameters

from routing.api.body import is_form, read_body
from routing.exceptions import InvalidRequest, RequestTooLarge
from routing.upstreams.base import File

MOST_PARTS: Final = 100
_MOST_BOUNDARY: Final = 200  # characters; RFC 2046 allows 70
_READ_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class Form:
    """What was sent under each name, in its order. A name such as ``image[]`` is without its brackets."""

    fields: Mapping[str, tuple[str, ...]]
    files: Mapping[str, tuple[File, ...]]


def read_form(request: HttpRequest) -> Form:
    """The request's body, read as parts. Raises RequestTooLarge, InvalidRequest."""
    content_type = request.META.get("CONTENT_TYPE", "")
    if not is_form(request):
        raise InvalidRequest("This endpoint takes a form with a file: send it as multipart/form-data.")
    return parse_form(read_body(request, settings.GATEWAY_MAX_UPLOAD_BYTES), content_type)


def parse_form(raw: bytes, content_type: str) -> Form:
    """A body, read as parts. Raises InvalidRequest, RequestTooLarge."""
    boundary = _boundary(content_type)
    if not raw.rstrip(b"\r\n\t ").endswith(b"--" + boundary + b"--"):
        raise InvalidRequest("The form ends early: its last boundary is missing.")
    if raw.count(b"--" + boundary) > MOST_PARTS + 1:
        raise InvalidRequest(f"The form has more than {MOST_PARTS} parts.")
    handler = _Files()
    meta = {"CONTENT_TYPE": content_type, "CONTENT_LENGTH": len(raw)}
    try:
        fields, _ = MultiPartParser(meta, io.BytesIO(raw), [handler], "utf-8").parse()
    except RequestDataTooBig:
        most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        raise RequestTooLarge(f"The form's fields are larger than {most} bytes, its files aside.") from None
    except (MultiPartParserError, SuspiciousOperation) as error:
        raise InvalidRequest(f"The form cannot be read: {error}") from None
    except TypeError:  # of Python's `email`, which cannot sort the pieces of a name when not all of them are numbered
        raise InvalidRequest("The form cannot be read: the head of a part contradicts itself.") from None
    return Form(
        fields=_by_name([(name, value) for name, values in fields.lists() for value in values]),
        files=_by_name(handler.files),
    )


def _by_name(pairs: list[tuple[str, Any]]) -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {}
    for name, value in pairs:
        plain = name.removesuffix("[]")
        found[plain] = (*found.get(plain, ()), value)
    return found


def _boundary(content_type: str) -> bytes:
    try:
        _, parameters = parse_header_parameters(content_type)
        boundary = parameters.get("boundary", "").encode("ascii")
    except (TypeError, ValueError):
        boundary = b""
    if not 0 < len(boundary) <= _MOST_BOUNDARY:
        raise InvalidRequest("The form has no boundary: its Content-Type must be multipart/form-data; boundary=….")
    return boundary


class _Files(FileUploadHandler):
    """Keeps what Django's parser finds."""

    chunk_size = _READ_BYTES

    def __init__(self) -> None:
        super().__init__()
        self.files: list[tuple[str, File]] = []
        self._chunks: list[bytes] = []

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        # Django ends a header at CRLF alone. A provider may end it at LF, and would find a header there that nobody has
        # looked at: another name of the part, such as `model`.
        kind = self.content_type or ""
        if not (kind.isascii() and kind.isprintable()):
            raise InvalidRequest("The Content-Type of a file has a character that no header may have.")
        self._chunks = []

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self._chunks.append(raw_data)

    def file_complete(self, file_size: int) -> None:
        file = File(self.file_name or "", self.content_type or "", b"".join(self._chunks))
        self.files.append((self.field_name or "", file))
        self._chunks = []
