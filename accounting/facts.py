"""Facts: what happened that an operator, an alert or a bill asks about.

Each fact is one plain function that is called from one place.

**What is a fact.** A line with fields is a fact, and is written here: a request ended, a hold expired, a breaker
opened, the ledger cannot be reached. A line that speaks of this process alone is not a fact: a thread stumbled, a
session was replaced, an answer could not be read. Such a line has no fields and is logged where it arises.

**How a fact is told.** A fact with more than two fields is a frozen dataclass; its fields are those of the log line.
Money stays ``Decimal`` until it is written. What an exception says comes as the exception's type, or beside the fact
when its traceback belongs into the log.

The facts of all rooms stand here, those of ``routing`` too. They take plain values, so this module imports nothing of
the rooms that call it.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, cast

from accounting.money import plain_usd
from accounting.record import record

_requests = logging.getLogger("gateway.request")

# --- requests ------------------------------------------------------------------------------------------------


@record(frozen=True)
class RequestEnded:
    """An admitted request is over. ``provider`` and ``model`` are those of the last attempt when no step answered."""

    request_id: str
    endpoint: str
    key: str
    alias: str
    served_alias: str | None
    provider: str | None
    model: str | None
    attempts: int
    fallback: bool
    streamed: bool
    status: int
    error_code: str | None
    input_tokens: int
    output_tokens: int
    usage_source: str
    hold_usd: Decimal | None
    cost_usd: Decimal | None
    first_token_ms: int | None
    duration_ms: int
    settled: bool  # durably; False: the ledger writes the settlement later, or never


def request_ended(fact: RequestEnded) -> None:
    """The one line that each request has, so its record is made at once: `Logger.log` would first look for its caller,
    whom no line names, and compare each field with the record's own."""
    level = logging.INFO if fact.settled else logging.ERROR
    if _requests.isEnabledFor(level):
        own = {"name": _requests.name, "levelno": level, "levelname": logging.getLevelName(level), "msg": "request"}
        _requests.handle(logging.makeLogRecord(own | _fields(fact)))


@dataclass(frozen=True)
class Overrun:
    """A provider billed more than the request held."""

    request_id: str
    hold_usd: Decimal
    cost_usd: Decimal


def overrun(fact: Overrun) -> None:
    _requests.error("overrun: a request cost more than its hold", extra=_fields(fact))


@dataclass(frozen=True)
class RequestRefused:
    """A request of a known key was refused before it was admitted. The fields below ``code`` are a budget's."""

    request_id: str
    key: str
    alias: str | None
    endpoint: str | None
    code: str
    budget: str | None
    limit_usd: Decimal | None
    spent_usd: Decimal | None
    held_usd: Decimal | None
    asked_usd: Decimal | None
    resets_at: datetime | None


def request_refused(fact: RequestRefused) -> None:
    level, words = logging.INFO, "request refused"
    if fact.limit_usd is not None:
        level, words = logging.WARNING, "budget refused a request"
    logging.getLogger("gateway.errors").log(level, words, extra=_fields(fact))


def request_failed(error: Exception) -> None:
    """A defect of ours. The message may quote a body, which must not be logged; the traceback's frames say enough."""
    logging.getLogger("gateway.errors").error("unexpected error", exc_info=error, extra={"error": type(error).__name__})


def request_without_database(error: Exception) -> None:
    """A request was answered 503, because it needed the database outside the ledger's writer."""
    logging.getLogger("gateway.errors").error("ledger unavailable", extra={"error": type(error).__name__})


# --- attempts ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AttemptFailed:
    request_id: str
    alias: str
    provider: str
    model: str
    kind: str
    key_reference: str | None
    status: int | None
    alert: bool  # our configuration is wrong: an operator must hear of it


def attempt_failed(fact: AttemptFailed) -> None:
    level = logging.ERROR if fact.alert else logging.WARNING
    logging.getLogger("gateway.cascade").log(level, "attempt failed", extra=_fields(fact))


def stream_interrupted(request_id: str, kind: str) -> None:
    logging.getLogger("gateway.streaming").warning("stream interrupted", extra={"request_id": request_id, "kind": kind})


@dataclass(frozen=True)
class RefusalLearnt:
    """A deployment answered once it was asked without ``words``, and is asked without them from now on."""

    provider: str
    model: str
    words: list[str]


def refusal_learnt(fact: RefusalLearnt) -> None:
    logging.getLogger("gateway.dialects").info(
        "the provider is asked without what it calls unknown", extra=_fields(fact)
    )


def usage_refused(usage: Mapping[str, str]) -> None:
    """A provider's count cannot be a count, so the attempt's usage is estimated."""
    logging.getLogger("gateway.usage").warning("usage refused", extra={"usage": dict(usage)})


def service_tier_unknown(word: str) -> None:
    """A provider names a tier that the gateway does not know, so the attempt is charged at the standard price."""
    logging.getLogger("gateway.tiers").warning("unknown service tier", extra={"word": word, "alert": True})


# --- breakers ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BreakerOpened:
    provider: str
    model: str
    kind: str
    failures: int
    open_s: float


def breaker_opened(fact: BreakerOpened) -> None:
    logging.getLogger("gateway.breaker").warning("breaker opened", extra=_fields(fact))


def breaker_closed(provider: str, model: str) -> None:
    logging.getLogger("gateway.breaker").warning("breaker closed", extra={"provider": provider, "model": model})


def breakers_not_shared(error: str) -> None:
    """This process's breakers stand alone until Postgres is back."""
    logging.getLogger("gateway.breaker").error("breakers are not shared", extra={"error": error})


def breakers_shared_again() -> None:
    logging.getLogger("gateway.breaker").warning("breakers are shared again")


# --- budgets and holds ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BudgetReached:
    """A budget's spending reached its limit. Told once for each limit of a window."""

    budget: str
    mode: str
    limit_usd: Decimal
    spent_usd: Decimal


def budget_reached(fact: BudgetReached) -> None:
    logging.getLogger("gateway.ledger").warning("budget reached its limit", extra=_fields(fact))


@dataclass(frozen=True)
class HoldExpired:
    """A hold became ``unknown``: its writer died, or its time is up. It costs the hold until it is resolved."""

    request_id: str
    entry: str
    cost_usd: Decimal | None


def hold_expired(fact: HoldExpired) -> None:
    logging.getLogger("gateway.ledger").warning("hold expired to unknown", extra=_fields(fact))


def expiry_failed(error: Exception) -> None:
    """Dead writers' holds could not be looked for. The next look comes within seconds."""
    logging.getLogger("gateway.ledger").error("expiring holds failed", extra={"error": type(error).__name__})


# --- the ledger ----------------------------------------------------------------------------------------------


def ledger_unavailable(error: Exception) -> None:
    """The ledger's writer lost Postgres. Without a traceback: at one a second they would drown the kind of error."""
    logging.getLogger("gateway.ledger").error("ledger unavailable", extra={"error": type(error).__name__})


@dataclass(frozen=True)
class Unsettled:
    """A settlement that is not on the books, and what it would have posted."""

    entry: str
    cost_usd: Decimal | None


def settlement_put_off(fact: Unsettled, error: Exception) -> None:
    """Postgres refused the settlement for the first time. It is tried again."""
    logging.getLogger("gateway.ledger").warning(
        "settlement refused, to be tried again", extra=_fields(fact), exc_info=error
    )


@dataclass(frozen=True)
class SettlementGivenUp:
    """A settlement that is not tried any more. Its hold expires to ``unknown``; who resolves it finds the cost here."""

    entry: str
    cost_usd: Decimal | None
    tries: int
    alert: bool = True


def settlement_given_up(fact: SettlementGivenUp, error: Exception) -> None:
    logging.getLogger("gateway.ledger").error("settlement given up", extra=_fields(fact), exc_info=error)


@dataclass(frozen=True)
class BooksOff:
    """Two sums of the ledger that must be equal differ."""

    where: str
    what: str
    expected_usd: Decimal
    found_usd: Decimal
    since: datetime | None


def books_off(fact: BooksOff) -> None:
    logging.getLogger("gateway.reconcile").error("the books are off", extra=_fields(fact))


def books_right(periods: int, entries: int) -> None:
    logging.getLogger("gateway.reconcile").info("the books are right", extra={"periods": periods, "entries": entries})


def reconcile_failed(error: Exception) -> None:
    """The books were not compared. Without a traceback: the ledger's own lines say why."""
    logging.getLogger("gateway.reconcile").error("reconcile failed", extra={"error": type(error).__name__})


# --- operators -----------------------------------------------------------------------------------------------


def signed_in(user_name: str, address: str) -> None:
    """To the admin."""
    logging.getLogger("gateway.admin").info("signed in", extra={"user_name": user_name, "address": address})


def sign_in_failed(user_name: str, address: str) -> None:
    """Nobody has this name and password, or whoever has them may not use the admin."""
    logging.getLogger("gateway.admin").warning("sign-in failed", extra={"user_name": user_name, "address": address})


@dataclass(frozen=True)
class SignInsRefused:
    """Too many tries. Told once a window. An empty name or address stands for all of them."""

    user_name: str
    address: str
    for_s: int


def sign_ins_refused(fact: SignInsRefused) -> None:
    logging.getLogger("gateway.admin").warning("sign-ins refused", extra=_fields(fact))


def _fields(fact: object) -> dict[str, Any]:
    """A fact's fields as the log writes them: amounts without exponent and without trailing zeros."""
    fields, shape = dict(vars(fact)), cast(Hashable, type(fact))
    for name in _amounts(shape):
        if fields[name] is not None:
            fields[name] = plain_usd(fields[name])
    return fields


@cache
def _amounts(shape: Hashable) -> tuple[str, ...]:
    return tuple(name for name in vars(shape)["__dataclass_fields__"] if name.endswith("_usd"))
