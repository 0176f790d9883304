"""The JSON that providers send and get. Which of two readers reads it: `accounting.json_text`."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

from accounting import json_text
from routing.upstreams.base import FailureKind, UpstreamError


def _finite(text: str) -> float | None:
    number = float(text)
    return number if isfinite(number) else None


#: JSON has no NaN and no infinities, but Python reads and writes them. Providers say -Infinity where OpenAI has -9999.0
#: for the log probability of a token that is all but impossible.
UNLIKELY: Final = -9999.0
_decode = json.JSONDecoder(
    parse_constant=lambda name: UNLIKELY if name == "-Infinity" else None, parse_float=_finite
).decode


def _text(data: bytes) -> str:
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()  # with an error handler this would be ten times slower
    except UnicodeDecodeError:
        return data.decode("utf-8", "surrogatepass")


def _read_by_python(data: bytes) -> Any:
    return _decode(_text(data))


def loads(data: bytes) -> Any:
    """Reads a provider's JSON. Raises ValueError, also when the nesting is too deep."""
    try:
        return json_text.loads(data, _read_by_python)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def dumps(body: Mapping[str, Any]) -> bytes:
    """Writes a request's body. JSON has no NaN and no infinities, so a request with one of them cannot be written."""
    try:
        return json_text.dumps_strictly(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise UpstreamError(
            FailureKind.BAD_REQUEST,
            "The request cannot be written as JSON",
            http_status=400,
            error_type="invalid_request_error",
            code="invalid_value",
        ) from error
