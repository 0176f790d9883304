"""Turns a provider's refusal, in any of the formats, into one UpstreamError.

What a provider *says* decides first (wordings.py), then its codes, then its status:

- 400, 413, 422 and all 4xx that are not named below: the request is wrong.
- 401, 402, 403: our account is at fault.
- 404, 405, 410 and redirects: our address or model is wrong.
- 408: TIMEOUT. The provider gave up waiting, so a second try at once helps little.
- 409, 425: like a 500. The conflict is in the provider's own state, and OpenAI's client retries it too.
- 429: RATE_LIMITED.
- 5xx, Anthropic's 529 and Cloudflare's 52x: OVERLOADED. Of what such a provider says, only words about the request
  itself are believed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, Final

from accounting.usage import Usage
from routing.upstreams.base import FailureKind, UpstreamError
from routing.upstreams.provider_json import dumps, loads
from routing.upstreams.scrubbing import identifier
from routing.upstreams.wordings import CODES, kind_by_words

_KIND_BY_STATUS: Final = {
    401: FailureKind.AUTHENTICATION,
    402: FailureKind.AUTHENTICATION,
    403: FailureKind.AUTHENTICATION,
    404: FailureKind.NOT_FOUND,
    405: FailureKind.NOT_FOUND,
    408: FailureKind.TIMEOUT,
    409: FailureKind.OVERLOADED,
    410: FailureKind.NOT_FOUND,
    425: FailureKind.OVERLOADED,
    429: FailureKind.RATE_LIMITED,
    499: FailureKind.OVERLOADED,  # Gemini's CANCELLED
}
#: With these statuses a provider speaks of our key or of its pace, even when its words name something of the request.
_NOT_OF_A_RESOURCE: Final = frozenset({401, 402, 429})
REFUSALS: Final = frozenset(
    {FailureKind.BAD_REQUEST, FailureKind.CONTEXT_WINDOW, FailureKind.CONTENT_POLICY, FailureKind.CAPABILITY}
)
#: An error inside a stream has no status of its own. Its type tells the status.
_STATUS_BY_TYPE: Final = {
    "invalid_request_error": 400,
    "BadRequestError": 400,  # vLLM and SGLang send the names of Python's exceptions
    "NotFoundError": 404,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "requests": 429,
    "tokens": 429,
    "api_error": 500,
    "server_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_REQUEST_ID_HEADERS: Final = ("x-request-id", "request-id", "x-goog-request-id", "x-amzn-requestid", "cf-ray")

#: Where an object says its sentence.
_SENTENCES: Final = ("msg", "message", "detail", "error", "reason")
_MOST_SAID: Final = 20  # things that are wrong, and parts of the place of one
_MOST_PLACE: Final = 100  # characters of such a part

#: OpenRouter's message when the provider behind it has said what is wrong.
_PROVIDERS_WORDS: Final = "Provider returned error"


@dataclass(frozen=True, slots=True)
class _Words:
    """What is wrong, in the provider's words."""

    message: str
    type: str | None = None
    code: str | None = None
    param: str | None = None
    status: int | None = None
    retry_delay_s: float | None = None


def from_response(status: int, headers: Mapping[str, str], body: bytes, *, secret: str = "") -> UpstreamError:
    """The error for an answer that is not 200. `secret`: our key, which must not come back in the message."""
    words = _read(body) or _Words(f"The provider answered with status {status}")
    return _error(
        status,
        words,
        retry_after_s=retry_after_s(headers) if words.retry_delay_s is None else words.retry_delay_s,
        provider_request_id=request_id(headers, secret),
        secret=secret,
    )


def from_event(payload: object, *, provider_request_id: str | None = None, secret: str = "") -> UpstreamError | None:
    """The error of a stream event, or of a 200's body, in any of the formats; None when it is not an error."""
    words = _words(payload)
    if words is None:
        return None
    status = words.status or _STATUS_BY_TYPE.get(words.type or "") or _STATUS_BY_TYPE.get(words.code or "")
    return _error(
        status,
        words,
        retry_after_s=words.retry_delay_s,
        provider_request_id=provider_request_id,
        secret=secret,
    )


def said(text: str) -> str:
    """The provider's sentence, from a text that may be a whole error body or an HTML page."""
    start = text.find("{")
    if start >= 0:
        words = _read(text[start : text.rfind("}") + 1].encode("utf-8", "replace"))
        if words is not None:
            return words.message
    return "" if "<html" in text.lower() else text


def kind_of(
    status: int | None, message: str = "", code: str | None = None, error_type: str | None = None
) -> FailureKind:
    """The failure's kind, from the provider's words, codes and status. `status` is None when it is not known."""
    if status is not None and status < 400:
        # A redirect means that our base URL is wrong.
        return FailureKind.NOT_FOUND if status >= 300 else FailureKind.MALFORMED
    said = kind_by_words(message, code, error_type, failing=status is not None and status >= 500)
    if said is not None and not (said is FailureKind.BAD_REQUEST and status in _NOT_OF_A_RESOURCE):
        return said
    if status is None or status >= 500:
        return FailureKind.OVERLOADED
    return _KIND_BY_STATUS.get(status, FailureKind.BAD_REQUEST)


def _error(
    status: int | None,
    words: _Words,
    *,
    retry_after_s: float | None,
    provider_request_id: str | None,
    secret: str,
) -> UpstreamError:
    kind = kind_of(status, words.message, words.code, words.type)
    code, error_type = words.code, words.type
    if kind is FailureKind.CONTEXT_WINDOW:
        code = "context_length_exceeded"
    elif kind is FailureKind.CONTENT_POLICY and CODES.get(code or "") is not FailureKind.CONTENT_POLICY:
        code = "content_policy_violation"
    if kind in REFUSALS and _STATUS_BY_TYPE.get(error_type or "") not in (400, 413):
        error_type = "invalid_request_error"  # the type must fit the status that the client gets
    return UpstreamError(
        kind,
        words.message,
        http_status=status or (400 if kind in REFUSALS else 500),
        retry_after_s=retry_after_s,
        error_type=error_type,
        code=code,
        param=words.param,
        provider_request_id=provider_request_id,
        secret=secret,
    )


def _read(body: bytes) -> _Words | None:
    try:
        payload = loads(body)
    except ValueError:
        return None  # a page of a proxy in front of the provider: not meant for a client
    if isinstance(payload, list) and payload:  # Gemini wraps the error in a list when a stream was asked for
        payload = payload[0]
    return _words(payload) or _bare_words(payload)


def _words(payload: object) -> _Words | None:
    """The words of an error body; None when the payload is not an error.

    Reads `{"error": …}` (OpenAI, Anthropic, Gemini), `{"error": "text"}` (Ollama, xAI), `object: "error"` (vLLM) and
    `base_resp` (MiniMax)."""
    if not isinstance(payload, dict):
        return None
    error = payload.get("error")
    if not error:
        if payload.get("object") == "error" and not payload.get("choices"):
            return _bare_words(payload)
        base = payload.get("base_resp")
        if isinstance(base, dict) and base.get("status_code") and isinstance(base.get("status_msg"), str):
            return _Words(base["status_msg"])
        return None
    if isinstance(error, list):
        error = error[0]
    if not isinstance(error, dict):
        return _Words(_readable(error))
    message = _readable(error.get("message")) or "The provider reported an error without a message"
    code, status = error.get("code"), _status(error.get("code"))
    error_type = _text(error.get("type"))
    if status is not None or type(code) is int:  # Gemini, OpenRouter and vLLM send the HTTP status as the code
        code = None
    if error_type is None and isinstance(error.get("status"), str):
        code = error["status"]  # Gemini sends its code here: INVALID_ARGUMENT
    words = _Words(
        message,
        error_type,
        _text(code),
        _text(error.get("param")),
        status,
        _retry_delay_s(error.get("details")),
    )
    return _of_the_provider_behind(error, words) if message == _PROVIDERS_WORDS else words


def _of_the_provider_behind(error: Mapping[str, Any], words: _Words) -> _Words:
    """The words of the provider behind OpenRouter, which hands them on as text in `metadata.raw`."""
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if not isinstance(raw, str) or not raw:
        return words
    behind = _read(raw.encode("utf-8", "replace")) or _Words(raw)
    return replace(behind, status=words.status or behind.status)


def _bare_words(payload: object) -> _Words | None:
    """The words of an error body without an `error` object.

    Reads `message` (Mistral, Cohere, older vLLM), `detail` (FastAPI) and the list `errors` (Cloudflare)."""
    if not isinstance(payload, dict):
        return None
    several = payload.get("errors")
    if isinstance(several, list) and several and isinstance(several[0], dict):
        payload = several[0]
    for name in ("message", "detail"):
        if message := _readable(payload.get(name)):
            return _Words(
                message,
                _text(payload.get("type")),
                _text(payload.get("code")),
                _text(payload.get("param")),
                _status(payload.get("code")),
            )
    return None


def _readable(value: object, levels: int = 4) -> str:
    """What a field for a sentence says, as text; empty when it says nothing.

    FastAPI's `detail` is a list of what is wrong, each with the place and a sentence, or any object."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        each = (_readable(one, levels - 1) for one in value[:_MOST_SAID] if levels)
        return "; ".join(filter(None, each))
    if isinstance(value, dict):
        said = next(filter(None, (_readable(value.get(name), levels - 1) for name in _SENTENCES if levels)), "")
        place = value.get("loc")
        if said and isinstance(place, list) and place:
            return f"{'.'.join(str(part)[:_MOST_PLACE] for part in place[:_MOST_SAID])}: {said}"
        return said or dumps(value).decode()
    return "" if value is None or isinstance(value, bool) else str(value)


def _status(code: object) -> int | None:
    """The code as an HTTP status, from a number or from text; None when it is not a status."""
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3:
        code = int(code)
    return code if type(code) is int and 400 <= code < 600 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _retry_delay_s(details: object) -> float | None:
    """The delay that Gemini asks for in its `google.rpc.RetryInfo`: `{"retryDelay": "37.5s"}`."""
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and delay.endswith("s"):
            return _seconds(delay[:-1])
    return None


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """`retry-after-ms`, else `retry-after` in seconds or as an HTTP date; None when absent or unreadable."""
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value is None:
        return None
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _seconds(value: str | None) -> float | None:
    try:
        seconds = float(value) if value is not None else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 <= seconds < 1e9 else None


def request_id(headers: Mapping[str, str], secret: str) -> str | None:
    """The provider's own id of the request, for its support. `secret`: our key, which no id may have in it."""
    for name in _REQUEST_ID_HEADERS:
        if value := identifier(headers.get(name), secret):
            return value
    return None


def authorization(api_key: str) -> str:
    """The key, when it may stand in a header. Raises UpstreamError AUTHENTICATION when it may not."""
    if not api_key.isascii() or not api_key.isprintable():
        raise UpstreamError(FailureKind.AUTHENTICATION, "The provider's key has characters that no key can have")
    return api_key


def malformed(status: int, headers: Mapping[str, Any], secret: str, usage: Usage | None = None) -> UpstreamError:
    """The error for a 200 whose body is not an answer in the provider's format."""
    return UpstreamError(
        FailureKind.MALFORMED,
        "The provider's answer is not in its format",
        http_status=status,
        provider_request_id=request_id(headers, secret),
        usage=usage,
        consumed=status == 200,
    )
