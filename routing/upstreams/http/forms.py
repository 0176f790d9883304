"""Writes a body of parts (``multipart/form-data``, RFC 7578), of which the names are a client's.

A name that were written as it came could end its line and begin a part of its own, such as another ``model``. As
browsers do, what could end a line or a quotation is written as ``%0A``; so is every other control character, at which
some readers cut a name off.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from urllib3.fields import RequestField
from urllib3.filepost import encode_multipart_formdata

from routing.upstreams.base import File

_CONTROLS: Final = {code: f"%{code:02X}" for code in (*range(32), 127)}
_PLAIN_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,80}/[a-z0-9!#$&^_.+-]{1,80}", re.IGNORECASE)
_ANY_TYPE: Final = "application/octet-stream"


def written(parts: Iterable[tuple[str, str | File]]) -> tuple[bytes, str]:
    """The body, and its content type with the boundary. A value is a text, or a file with its name."""
    fields = []
    for name, value in parts:
        if isinstance(value, File):
            field = RequestField(_plain(name), value.content, filename=_plain(value.name))
            is_plain = _PLAIN_TYPE.fullmatch(value.content_type) is not None
            field.make_multipart(content_type=value.content_type if is_plain else _ANY_TYPE)
        else:
            field = RequestField(_plain(name), value.encode("utf-8", "surrogatepass"))
            field.make_multipart()
        fields.append(field)
    return encode_multipart_formdata(fields)


def _plain(name: str) -> str:
    return name.encode("utf-8", "replace").decode().translate(_CONTROLS)
