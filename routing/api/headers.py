"""The headers that all endpoints share: request ids, ``x-gateway-*``, ``x-ratelimit-*``."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from django.http import HttpRequest
from django.http.response import ResponseHeaders

from accounting.rates import RateStatus
from routing.exceptions import InvalidRequest
from routing.serving.attempts import Failed, Served
from routing.serving.call import CappedBy

TIMEOUT_HEADER = "x-gateway-timeout"
TIMEOUT_VARIABLE = "HTTP_X_GATEWAY_TIMEOUT"  # the same, as WSGI names it
_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
_UNSAID_CAPS = (CappedBy.CLIENT, CappedBy.NOBODY)  # that are the client's own, or that nobody has set
MIN_TIMEOUT_S, MAX_TIMEOUT_S = 0.1, 3600.0  # the range of the providers' own limits


class Headers(ResponseHeaders):
    """The headers of an answer. Their names and values are nearly always printable ASCII, which is seen at once. Django
    encodes and searches each of them, and looks each up again to list them."""

    def __init__(self, data: Mapping[str, str]) -> None:
        both = "".join([*data, *data.values()])
        if both.isascii() and both.isprintable():
            self._store = {name.lower(): (name, value) for name, value in data.items()}
        else:
            super().__init__(dict(data))

    def add_missing(self, others: Headers) -> None:
        """Each of the others that is not there yet."""
        self._store = others._store | self._store

    def __setitem__(self, key: str, value: object) -> None:
        if type(value) is str and (both := key + value).isascii() and both.isprintable():
            self._store[key.lower()] = (key, value)
        else:
            super().__setitem__(key, value)  # type: ignore[assignment]  # Django takes what `str` makes of it

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in self._store

    def items(self) -> Collection[tuple[str, str]]:  # type: ignore[override]  # it is only walked through
        return self._store.values()


def parse_timeout_s(header: str | None) -> float | None:
    """The header ``x-gateway-timeout``: how many seconds the client waits, for all attempts together.

    It narrows the providers' own limits and never widens them. Raises InvalidRequest."""
    if header is None:
        return None
    try:
        timeout_s = float(header) if len(header) <= 20 and "_" not in header else math.nan
    except ValueError:
        timeout_s = math.nan
    if not MIN_TIMEOUT_S <= timeout_s <= MAX_TIMEOUT_S:
        raise InvalidRequest(
            f"'{TIMEOUT_HEADER}' must be a number of seconds from {MIN_TIMEOUT_S:g} to {MAX_TIMEOUT_S:g}.",
            param=TIMEOUT_HEADER,
        )
    return timeout_s


def request_id(request: HttpRequest) -> str:
    """The id that GatewayMiddleware gave the request."""
    return str(request.META["gateway.request_id"])


def sane_request_id(offered: str | None) -> str:
    """The client's own request id when it is short and plain, else a new id."""
    if offered and re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", offered):
        return offered
    return f"req-{secrets.token_hex(16)}"


def headers_of(served: Served[Any]) -> dict[str, str]:
    """Who answered, after how many attempts, and what is left of the key's rate limits."""
    rate = served.admission.hold.rate
    dropped = served.answer.dropped_params
    most = served.admission.ceiling(served.step).most
    return {
        **(_rate_headers(rate.status) if rate else {}),
        "x-gateway-alias": in_ascii(served.step.alias),
        "x-gateway-provider": served.step.provider.name,
        "x-gateway-model": in_ascii(served.step.deployment.model),
        "x-gateway-attempts": str(len(served.failed) + 1),
        "x-gateway-fallback": "true" if served.is_fallback else "false",
        **({} if most.capped_by in _UNSAID_CAPS else {"x-gateway-output-cap": str(most.output_cap_tokens)}),
        **({"x-gateway-dropped-params": ", ".join(dropped)} if dropped else {}),
    }


def headers_so_far(alias: str, attempts: int, rate: RateStatus | None) -> dict[str, str]:
    """Those of an answer that begins before anybody has answered: the alias is the one that was asked for."""
    return {
        **(_rate_headers(rate) if rate else {}),
        "x-gateway-alias": in_ascii(alias),
        "x-gateway-attempts": str(attempts),
    }


@lru_cache(maxsize=4096)
def in_ascii(name: str) -> str:
    """A header's value for any name: other letters, and ``%`` itself, are percent-encoded as in RFC 8187's UTF-8."""
    return quote(name, safe=_PLAIN)


def _rate_headers(status: RateStatus) -> dict[str, str]:
    """https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers"""
    headers: dict[str, str] = {}
    for name, limit, left in (
        ("requests", status.limits.requests_per_minute, status.requests_left),
        ("tokens", status.limits.tokens_per_minute, status.tokens_left),
    ):
        if limit is not None:
            headers[f"x-ratelimit-limit-{name}"] = str(limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(left)
            headers[f"x-ratelimit-reset-{name}"] = f"{status.reset_s}s"
    return headers


def note_failure(failed: Failed) -> None:
    """Write into the error's headers what was tried."""
    headers = failed.error.headers
    headers["x-gateway-alias"] = in_ascii(failed.admission.call.alias)
    headers["x-gateway-attempts"] = str(len(failed.attempts))
    headers["x-gateway-fallback"] = "false"
    if failed.attempts:
        headers["x-gateway-provider"] = failed.attempts[-1].provider
        headers["x-gateway-model"] = in_ascii(failed.attempts[-1].model)
