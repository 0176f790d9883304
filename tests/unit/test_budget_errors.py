"""What a client hears of a budget: above all, when its request will really fit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from accounting.refusals import BudgetExceeded, BudgetInFlight, RequestExceedsBudget
from routing.exceptions import BudgetRefused


def refused(
    kind: type = BudgetExceeded, limit: str = "1", hold: str = "0.5", resets_in_s: float | None = 90.5
) -> dict[str, str]:
    resets_at = None if resets_in_s is None else datetime.now(UTC) + timedelta(seconds=resets_in_s)
    return BudgetRefused(kind("b", Decimal(limit), Decimal(1), Decimal(0), Decimal(hold), resets_at)).headers


def test_a_spent_budget_says_when_it_resets() -> None:
    headers = refused()
    assert headers["x-should-retry"] == "false"
    assert headers["Retry-After"] in {"90", "91"}
    assert refused(resets_in_s=-3)["Retry-After"] == "1"  # our clock is ahead of the database's


@pytest.mark.parametrize(
    "never",
    [
        refused(resets_in_s=None),
        refused(limit="0"),
        refused(limit="0", hold="0"),
        refused(hold="1.5"),
        refused(RequestExceedsBudget, hold="1.5"),
    ],
)
def test_what_will_not_fit_after_a_reset_either_says_no_time(never: dict[str, str]) -> None:
    assert never == {"x-should-retry": "false"}


def test_what_fits_once_running_requests_settle_may_be_tried_at_once() -> None:
    assert refused(BudgetInFlight) == {"Retry-After": "1"}
