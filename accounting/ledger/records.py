"""The shapes of the ledger: what a request hands in at its door (``accounting.ledger``), and what it gets back."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from accounting.budgets import STEP_SCOPES, BudgetRule, counts_step
from accounting.models import EntryState
from accounting.pricing import PriceList
from accounting.rates import RateLimits, RateStatus
from accounting.record import record
from accounting.tags import Tags
from accounting.usage import NO_USAGE, Tier, Usage


@record(frozen=True, slots=True)
class HoldRequest:
    """Everything the ledger needs to admit a request. ``hold_usd`` None: unpriced."""

    configuration_version: int
    request_id: str
    key: str
    key_id: int | None
    alias: str
    provider: str
    model: str
    hold_usd: Decimal | None
    budgets: tuple[BudgetRule, ...]
    streamed: bool
    end_user: str
    tags: Tags
    expires_after_s: float
    limits: RateLimits = field(default_factory=RateLimits)
    ceiling_tokens: int = 0  # input and output together, for the limit of tokens a minute
    endpoint: str = "chat"
    owner: str = ""  # of the key
    step_alias: str = ""  # of the step that it is admitted for; empty: the alias asked for
    entry_id: UUID = field(default_factory=lambda: new_entry_id())  # noqa: PLW0108  defined below


@record(frozen=True, slots=True)
class HeldCharge:
    """What an entry weighs in one budget period, and by which rule."""

    period_id: int
    rule: BudgetRule
    held_usd: Decimal


@record(frozen=True, slots=True)
class HeldRate:
    """How an entry counts in its key's minute, to be corrected when it settles."""

    key_id: int
    minute: datetime
    tokens: int
    status: RateStatus


@record(frozen=True, slots=True)
class Hold:
    """The receipt of an admitted request; immutable, so that a top-up returns a new one."""

    entry_id: UUID
    created_at: datetime
    alias: str  # of the step that it was admitted for, as is the provider
    provider: str
    hold_usd: Decimal | None
    charges: tuple[HeldCharge, ...]
    rate: HeldRate | None = None


@dataclass(frozen=True, slots=True)
class TopUpRequest:
    """More money for a running request, before a further attempt: ``more_usd`` in every budget that counts the whole
    request. The budgets of the attempt's own step hold ``step_usd`` then, and those of other steps hold no more than
    they do. ``budgets`` are those that apply only now."""

    hold: Hold
    more_usd: Decimal
    budgets: tuple[BudgetRule, ...]
    alias: str = ""  # of the step, as is the provider; empty: the step that the request was admitted for
    provider: str = ""
    step_usd: Decimal | None = None  # None: the whole new hold

    @property
    def entry_id(self) -> UUID:
        return self.hold.entry_id


@record(frozen=True, slots=True)
class AttemptRecord:
    """One call of a provider, for the books. Times in UTC; durations in milliseconds."""

    alias: str
    provider: str
    model: str
    outcome: str
    http_status: int | None
    error: str
    started_at: datetime
    duration_ms: int
    first_token_ms: int | None
    usage: Usage
    cost_usd: Decimal | None
    price: PriceList | None
    provider_request_id: str | None
    endpoint: str = "chat"
    tier: Tier = Tier.STANDARD  # that the provider says it served
    key_reference: str = ""  # where the provider's key came from, never the key
    at_most_usd: Decimal | None = None  # what it may have cost, where the cost is an estimate
    next: str = ""  # why the cascade went on


@record(frozen=True, slots=True)
class Settlement:
    """The end of a request. ``served`` is the attempt that answered, None when every attempt failed."""

    hold: Hold
    served: AttemptRecord | None
    attempts: tuple[AttemptRecord, ...]
    fallback: bool
    http_status: int
    error_code: str
    first_token_ms: int | None
    duration_ms: int

    @property
    def entry_id(self) -> UUID:
        return self.hold.entry_id

    @property
    def cost_usd(self) -> Decimal | None:
        """The sum over all attempts; None when an attempt consumed something that has no price."""
        total = Decimal(0)
        for attempt in self.attempts:
            if attempt.cost_usd is None:
                if not attempt.usage.is_nothing:
                    return None
                continue
            total += attempt.cost_usd
        return total

    @property
    def state(self) -> EntryState:
        consumed = any(not attempt.usage.is_nothing for attempt in self.attempts)
        return EntryState.POSTED if consumed or self.served is not None else EntryState.VOIDED

    @property
    def usage(self) -> Usage:
        """The tokens of all attempts together, with the least certain of their sources."""
        consumed = [attempt.usage for attempt in self.attempts if not attempt.usage.is_nothing]
        if not consumed:
            return NO_USAGE
        total = consumed[0]
        for usage in consumed[1:]:
            total = total + usage
        return total

    def posted_usd(self, scope: str, scope_value: str) -> Decimal:
        """What the request weighs in a budget of this scope: all, or what that alias's or provider's steps did."""
        if scope not in STEP_SCOPES:
            return self.cost_usd or Decimal(0)
        return sum(
            (
                a.cost_usd
                for a in self.attempts
                if a.cost_usd is not None and counts_step(scope, scope_value, alias=a.alias, provider=a.provider)
            ),
            Decimal(0),
        )


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A hold whose request stopped waiting for it: to be voided, if it was written after all."""

    entry_id: UUID


@dataclass(frozen=True, slots=True)
class Expired:
    """A hold that has become ``unknown``. Its cost is the hold until an operator resolves it."""

    entry_id: UUID
    request_id: str
    hold_usd: Decimal | None


def new_entry_id() -> UUID:
    """A UUID version 7 (RFC 9562): ordered by time, so that new rows go to the end of the index."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(secrets.token_bytes(10))
    value = value & ~(0xF << 76) | 7 << 76
    return UUID(int=value & ~(0x3 << 62) | 2 << 62)
