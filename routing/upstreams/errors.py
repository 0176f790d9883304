"""A provider's refusal, in whichever of the formats → one UpstreamError.

Statuses: 400/413/422 and other 4xx are the request's fault; 401/402/403 our account's; 404/405/410 and
redirects our address's; 408 a TIMEOUT (the provider gave up waiting, so a second try at once helps little); 409 and
425 are treated like a 500 (a conflict in the provider's own state, which OpenAI's client retries too); 429 rate
limits; 5xx, Anthropic's 529 and Cloudflare's 52x overload. Three wordings overrule the status of a 400: a key that
Gemini calls invalid and an Anthropic account without credit are AUTHENTICATION, a prompt that is too long
CONTEXT_WINDOW, one that a policy refuses CONTENT_POLICY.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final

from routing.upstreams.answers import loads
from routing.upstreams.base import FailureKind, UpstreamError

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
#: Errors inside a stream have no status of their own; their type has.
_STATUS_BY_TYPE: Final = {
    "invalid_request_error": 400,
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
_CONTEXT_CODES: Final = frozenset({"context_length_exceeded", "string_above_max_length_context"})
_CONTEXT_WORDS: Final = (
    "maximum context length",
    "context length exceeded",
    "context window",
    "exceed context limit",
    "prompt is too long",
    "exceeds the maximum number of tokens allowed",
    "maximum context limit",
    "longer than the model's context length",
    "input tokens exceed the configured limit",
    "exceeds the available context size",
    "too large for model with",
    "reduce the length of the messages",
)
_POLICY_CODES: Final = frozenset(
    {
        "content_policy_violation",
        "content_filter",
        "moderation_blocked",
        "invalid_prompt",
        "ResponsibleAIPolicyViolation",
    }
)
_POLICY_WORDS: Final = (
    "violating our usage policy",
    "content management policy",
    "content filtering policy",
    "rejected as a result of our safety system",
    "content policy",
    "content exists risk",
)
_ACCOUNT_WORDS: Final = (
    "api key not valid",
    "api_key_invalid",
    "api key expired",
    "credit balance is too low",
)

_REQUEST_ID_HEADERS: Final = ("x-request-id", "request-id", "x-goog-request-id", "x-amzn-requestid", "cf-ray")

_SECRETS: Final = re.compile(
    r"(?i:bearer\s+)[\w.~+/=-]{6,}"
    r"|\bsk-[\w*-]{6,}|\bAIza[\w*-]{10,}|\b(?:gsk|xai|pplx|hf|r8|fw|tgp)[_-][\w*-]{10,}"
    r"|(?i:(?<=key=))[\w*%.-]+"
)
_URLS: Final = re.compile(r"\bhttps?://[^\s\"'<>)\]}]+")
#: Links to a provider's documentation help the reader, and are no secret: only these hosts are left in place.
_PUBLIC_LINKS: Final = re.compile(
    r"^https?://(?:[\w-]+\.)*(?:openai\.com|anthropic\.com|claude\.com|google\.com|google\.dev|mistral\.ai|groq\.com)"
    r"/(?!v1(?:beta)?/)"
)
_MAX_MESSAGE: Final = 2000


@dataclass(frozen=True, slots=True)
class _Words:
    """What a provider says is wrong."""

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
        provider_request_id=request_id(headers),
        secret=secret,
    )


def from_event(payload: object, *, provider_request_id: str | None = None, secret: str = "") -> UpstreamError | None:
    """The error that a stream event (or a 200's body) is, in any of the formats; None when it is none."""
    words = _words(payload)
    if words is None:
        return None
    status = words.status or _STATUS_BY_TYPE.get(words.type or "") or _STATUS_BY_TYPE.get(words.code or "") or 500
    return _error(
        status,
        words,
        retry_after_s=words.retry_delay_s,
        provider_request_id=provider_request_id,
        secret=secret,
    )


def said(text: str) -> str:
    """The provider's sentence out of a text that may be its whole error body, or a page."""
    start = text.find("{")
    if start >= 0:
        words = _read(text[start : text.rfind("}") + 1].encode("utf-8", "replace"))
        if words is not None:
            return words.message
    return "" if "<html" in text.lower() else text


def kind_of(status: int, message: str = "", code: str | None = None, error_type: str | None = None) -> FailureKind:
    """The failure's kind from a status and the provider's words."""
    if status in _KIND_BY_STATUS:
        return _KIND_BY_STATUS[status]
    if 300 <= status < 400:
        return FailureKind.NOT_FOUND  # "ask elsewhere": our base URL is wrong
    if status >= 500:
        return FailureKind.OVERLOADED
    if status < 300:
        return FailureKind.MALFORMED
    lowered = message.lower()
    if any(word in lowered for word in _ACCOUNT_WORDS) or code == "invalid_api_key":
        return FailureKind.AUTHENTICATION
    if code in _CONTEXT_CODES or error_type in _CONTEXT_CODES or any(w in lowered for w in _CONTEXT_WORDS):
        return FailureKind.CONTEXT_WINDOW
    if code in _POLICY_CODES or error_type in _POLICY_CODES or any(w in lowered for w in _POLICY_WORDS):
        return FailureKind.CONTENT_POLICY
    return FailureKind.BAD_REQUEST


def _error(
    status: int,
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
    elif kind is FailureKind.CONTENT_POLICY and code not in _POLICY_CODES:
        code = "content_policy_violation"
    if kind in (FailureKind.BAD_REQUEST, FailureKind.CONTEXT_WINDOW, FailureKind.CONTENT_POLICY):
        error_type = error_type or "invalid_request_error"
    return UpstreamError(
        kind,
        scrubbed(words.message, secret),
        http_status=status,
        retry_after_s=retry_after_s,
        error_type=error_type,
        code=code,
        param=words.param,
        provider_request_id=provider_request_id,
    )


def _read(body: bytes) -> _Words | None:
    try:
        payload = loads(body)
    except ValueError:
        return None  # a page of the proxy in front: nothing in it is meant for a client
    if isinstance(payload, list) and payload:  # Gemini wraps it when it was to stream
        payload = payload[0]
    return _words(payload) or _bare_words(payload)


def _words(payload: object) -> _Words | None:
    """`{"error": …}` of OpenAI, Anthropic and Gemini, and `{"error": "text"}` of Ollama."""
    if not isinstance(payload, dict) or not payload.get("error"):
        return None
    error = payload["error"]
    if not isinstance(error, dict):
        return _Words(str(error))
    message = error.get("message")
    if not isinstance(message, str) or not message:
        message = "The provider reported an error without a message"
    code, status = error.get("code"), None
    error_type = _text(error.get("type"))
    if type(code) is int:  # Gemini's (and OpenRouter's, vLLM's) code is the HTTP status
        status, code = code if 400 <= code < 600 else None, None
    if error_type is None and isinstance(error.get("status"), str):
        code = error["status"]  # Gemini's INVALID_ARGUMENT
    return _Words(
        message,
        error_type,
        _text(code),
        _text(error.get("param")),
        status,
        _retry_delay_s(error.get("details")),
    )


def _bare_words(payload: object) -> _Words | None:
    """What is said without an `error` object: `message` (Mistral, Cohere, older vLLM) or `detail` (FastAPI)."""
    if not isinstance(payload, dict):
        return None
    for name in ("message", "detail"):
        value = payload.get(name)
        if isinstance(value, dict | list):
            value = str(value)
        if isinstance(value, str) and value:
            return _Words(value, _text(payload.get("type")), _text(payload.get("code")), _text(payload.get("param")))
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _retry_delay_s(details: object) -> float | None:
    """Gemini's `google.rpc.RetryInfo`: `{"retryDelay": "37.5s"}`."""
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


def request_id(headers: Mapping[str, str]) -> str | None:
    """The provider's own id of the request, for its support."""
    for name in _REQUEST_ID_HEADERS:
        if value := headers.get(name):
            return value[:200]
    return None


def scrubbed(message: str, secret: str = "") -> str:
    """The message without keys and without addresses other than those of public documentation."""
    if len(secret) >= 4:
        message = message.replace(secret, "***")
    message = _URLS.sub(lambda url: url[0] if _PUBLIC_LINKS.match(url[0]) else "[url]", message)
    return _SECRETS.sub("***", message)[:_MAX_MESSAGE]


def authorization(api_key: str) -> str:
    """The key as it may stand in a header. Raises UpstreamError AUTHENTICATION for one that cannot."""
    if not api_key.isascii() or not api_key.isprintable():
        raise UpstreamError(FailureKind.AUTHENTICATION, "The provider's key has characters that no key can have")
    return api_key


def malformed(status: int, headers: Mapping[str, Any]) -> UpstreamError:
    """For a 200 whose body is not what was asked for."""
    return UpstreamError(
        FailureKind.MALFORMED,
        "The provider's answer is not JSON",
        http_status=status,
        provider_request_id=request_id(headers),
    )
