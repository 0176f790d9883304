"""When a request over a rate limit will really fit. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from accounting.rates import RateLimits, RateUse, refuse_over_limit
from accounting.refusals import RateLimited
from routing import exceptions

MINUTE = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
ALL = RateLimits(requests_per_minute=10, tokens_per_minute=1000, concurrent_requests=4)


def refusal(
    limits: RateLimits, *, requests: int = 0, used: int = 0, running: int = 0, tokens: int = 100
) -> RateLimited:
    now = MINUTE.replace(second=12, microsecond=600_000)
    with pytest.raises(RateLimited) as refused:
        refuse_over_limit(limits, RateUse(MINUTE, requests, used, running), tokens, now)
    return refused.value


def test_a_full_minute_has_room_again_when_it_is_over() -> None:
    assert refusal(ALL, used=950) == RateLimited("tokens a minute", 1000, 950, 48, 100)
    assert refusal(ALL, requests=10) == RateLimited("requests a minute", 10, 10, 48, 1)
    assert MINUTE.second + 12.6 + 48 >= 60


def test_of_several_limits_the_one_that_lasts_longest_is_named() -> None:
    assert refusal(ALL, running=4).retry_after_s == 1
    assert refusal(ALL, running=4, requests=10).retry_after_s == 48
    assert refusal(ALL, running=4, requests=10, used=1000, tokens=1001).retry_after_s is None


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (RateLimits(tokens_per_minute=99), "tokens a minute"),
        (RateLimits(requests_per_minute=0), "requests a minute"),
        (RateLimits(concurrent_requests=0), "requests at once"),
    ],
)
def test_a_request_that_never_fits_is_told_so_and_not_to_come_back(limits: RateLimits, limit: str) -> None:
    refused = refusal(limits)
    assert (refused.limit, refused.retry_after_s) == (limit, None)
    error = exceptions.RateLimited(refused)
    assert "it will never fit" in error.message
    assert error.headers == {"x-should-retry": "false"}


def test_a_request_of_exactly_the_limit_fits() -> None:
    status = refuse_over_limit(ALL, RateUse(MINUTE, 9, 0, 3), 1000, MINUTE)
    assert (status.requests_left, status.tokens_left, status.reset_s) == (0, 0, 60)
