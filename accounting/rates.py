"""Rate limits of a key: requests a minute, tokens a minute, requests at once. Pure.

Minutes are calendar minutes of the database's clock. Each minute begins with the full limit. A request counts with its
ceiling of tokens when it is admitted, and with its true tokens when it settles within the same minute.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from accounting.refusals import RateLimited

RETRY_AT_ONCE_S = 1  # nobody knows when a running request will end


@dataclass(frozen=True, slots=True)
class RateLimits:
    """A key's limits. None means no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent_requests: int | None = None

    def __bool__(self) -> bool:
        return (self.requests_per_minute, self.tokens_per_minute, self.concurrent_requests) != (None, None, None)


@dataclass(frozen=True, slots=True)
class RateUse:
    """What a key has used in the current minute, as read under its row's lock."""

    minute: datetime
    requests: int
    tokens: int
    running: int

    def with_request(self, tokens: int) -> RateUse:
        return replace(self, requests=self.requests + 1, tokens=self.tokens + tokens, running=self.running + 1)


@dataclass(frozen=True, slots=True)
class RateStatus:
    """The limits, and what is left of them after this request, for the ``x-ratelimit-*`` headers."""

    limits: RateLimits
    requests_left: int | None
    tokens_left: int | None
    reset_s: int


def refuse_over_limit(limits: RateLimits, use: RateUse, tokens: int, now: datetime) -> RateStatus:
    """Raise RateLimited when another request of ``tokens`` is over a limit, else return what is left after it."""
    reset_s = 60 - now.second
    if limits.concurrent_requests is not None and use.running >= limits.concurrent_requests:
        raise RateLimited("requests at once", limits.concurrent_requests, use.running, RETRY_AT_ONCE_S)
    if limits.requests_per_minute is not None and use.requests >= limits.requests_per_minute:
        raise RateLimited("requests a minute", limits.requests_per_minute, use.requests, reset_s)
    if limits.tokens_per_minute is not None and use.tokens + tokens > limits.tokens_per_minute:
        raise RateLimited("tokens a minute", limits.tokens_per_minute, use.tokens, reset_s, tokens)
    return RateStatus(
        limits,
        None if limits.requests_per_minute is None else limits.requests_per_minute - use.requests - 1,
        None if limits.tokens_per_minute is None else limits.tokens_per_minute - use.tokens - tokens,
        reset_s,
    )
