"""JSON by orjson where orjson is exact, and by Python's own `json` for the rest.

orjson takes a tenth of the time, and differs where JSON is at its edges. What it would read or write otherwise than
`json`, it does not get, or its refusal leads to `json`:

| of | orjson | here |
|---|---|---|
| integers beyond 64 bits | read as floats, without a word; refused when written | `json`: all digits stay |
| lone surrogates (``\\ud800``) | refused | `json`: written escaped |
| NaN, infinities, 1e400 | refused when read | the caller's reader decides |
| the same | written as null | null, or refused by `dumps_strictly` |
| a byte-order mark, broken UTF-8, no JSON | refused, in few words | the caller's reader decides, and says why |
| keys that are not text, depth beyond 254 | refused when written | `json` |

Duplicate keys (the last one wins), the order of keys, floats, and depth up to what Python reads are as in `json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import orjson

_DIGITS: Final = bytes(ord("0") if chr(byte) in "0123456789" else ord(" ") for byte in range(256))
_LONG: Final = b"0" * 19  # 64 bits have 19 digits or 20
_BEFORE_A_NUMBER: Final = frozenset(b":,[ \t\r\n")
#: Line ends for `str.splitlines`, by which some clients cut a text of events (httpx among them). JSON may escape them.
_LINE_ENDS: Final = (b"\xc2\x85", b"\xe2\x80\xa8", b"\xe2\x80\xa9")


def loads(data: bytes, otherwise: Callable[[bytes], Any]) -> Any:  # noqa: ANN401  JSON may be anything
    """The value, read by orjson, or by ``otherwise`` where orjson would not be exact, or refuses."""
    if not has_long_number(data):
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass
    return otherwise(data)


def dumps(value: object) -> bytes:
    """The value in UTF-8, without white space. NaN and infinities become null."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return _escaped(value)


def dumps_strictly(value: object) -> bytes:
    """The same, but raises ValueError for NaN and infinities. TypeError and RecursionError are as in `json`."""
    try:
        text = orjson.dumps(value)
    except TypeError:
        text = b"null"
    if b"null" not in text:
        return text
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii")


def dumps_line(value: object) -> bytes:
    """As :func:`dumps`, and no reader sees the end of a line in it."""
    text = dumps(value)
    if not text.isascii() and any(end in text for end in _LINE_ENDS):
        return _escaped(value)
    return text


def has_long_number(data: bytes) -> bool:
    """Whether there may be an integer beyond 64 bits. A regular expression takes ten times as long."""
    digits = data.translate(_DIGITS)
    at = digits.find(_LONG)
    while at >= 0:
        before = at - 2 if data[at - 1 : at] == b"-" else at - 1
        if before < 0 or data[before] in _BEFORE_A_NUMBER:
            return True
        at = digits.find(_LONG, at + len(_LONG))
    return False


def _escaped(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")
