"""Why the ledger does not admit a request.

Refusal
├── BudgetRefusal            a budget has no room: .budget .limit_usd .spent_usd .held_usd .resets_at
│   ├── BudgetExceeded       … and will not have until it resets
│   ├── BudgetInFlight       … but may once running requests settle
│   └── RequestExceedsBudget … and never could: the request alone is larger than the whole budget
├── RateLimited              a rate limit of the key: .limit .most .used .retry_after_s
├── Unpriced                 a hard budget applies and the model has no price
├── ConfigurationChanged     the request was read with an old snapshot of the configuration
├── HoldLost                 the hold was expired or resolved while the request ran: it must not spend more
└── LedgerUnavailable        Postgres cannot be written
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


class Refusal(Exception):
    """Nothing was written."""


@dataclass
class BudgetRefusal(Refusal):
    budget: str
    limit_usd: Decimal
    spent_usd: Decimal
    held_usd: Decimal
    hold_usd: Decimal  # what the request would have held; 0 under a soft budget
    resets_at: datetime | None  # None: never

    def __str__(self) -> str:
        return f"budget {self.budget}: limit {self.limit_usd}, spent {self.spent_usd}, held {self.held_usd}"


class BudgetExceeded(BudgetRefusal):
    pass


class BudgetInFlight(BudgetRefusal):
    pass


class RequestExceedsBudget(BudgetRefusal):
    pass


@dataclass
class RateLimited(Refusal):
    limit: str  # in words: "requests a minute"
    most: int
    used: int
    retry_after_s: int | None  # None: it never fits
    asked: int = 1


@dataclass
class Unpriced(Refusal):
    provider: str
    model: str
    budget: str


class ConfigurationChanged(Refusal):
    pass


class HoldLost(Refusal):
    pass


class LedgerUnavailable(Refusal):
    pass
