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
    """Raise RateLimited when another request of ``tokens`` is over a limit, else return what is left after it.

    Of several limits the one that lasts longest is named: first those that the request can never keep, then those of
    the minute, then the requests that run now."""
    reset_s = 60 - now.second
    requests, all_tokens, running = limits.requests_per_minute, limits.tokens_per_minute, limits.concurrent_requests
    named = (
        ("requests a minute", requests, use.requests, 1, reset_s),
        ("tokens a minute", all_tokens, use.tokens, tokens, reset_s),
        ("requests at once", running, use.running, 1, RETRY_AT_ONCE_S),
    )
    for limit, most, used, asked, _ in named:
        if most is not None and asked > most:
            raise RateLimited(limit, most, used, None, asked)
    for limit, most, used, asked, retry_after_s in named:
        if most is not None and used + asked > most:
            raise RateLimited(limit, most, used, retry_after_s, asked)
    return RateStatus(
        limits,
        None if requests is None else requests - use.requests - 1,
        None if all_tokens is None else all_tokens - use.tokens - tokens,
        reset_s,
    )
