"""The read side: what has been spent, and what is left. It agrees with the reporting views (``sql/views.sql``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from django.db import OperationalError, connection, models, transaction
from django.db.backends.utils import CursorWrapper

from accounting import sql
from accounting.models import Budget, BudgetPeriod, BudgetScope
from accounting.periods import Period, Window, window

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # where a quarter of an hour and a day of UTC begin


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """A budget in its current window, also when the window is not open yet because nothing was spent."""

    budget: str
    scope: str
    scope_value: str
    mode: str
    period: str
    limit_usd: Decimal
    posted_usd: Decimal
    held_usd: Decimal
    starts_at: datetime
    resets_at: datetime | None
    budget_id: int
    period_id: int | None  # None: the window is not open yet
    has_gap: bool  # it may lack what was spent before the budget was made or changed; the next request adds that

    @property
    def available_usd(self) -> Decimal:
        return max(Decimal(0), self.limit_usd - self.posted_usd - self.held_usd)


def statuses(budgets: Iterable[Budget]) -> list[BudgetStatus]:
    """Where budgets stand now, by the database's clock."""
    asked = list(budgets)
    with connection.cursor() as cursor:
        cursor.execute("SELECT now()")
        now: datetime = cursor.fetchone()[0]
    open_now = BudgetPeriod.objects.filter(budget__in=asked, period_start__lte=now)
    balances = {
        (row.budget_id, row.period_start, row.period_end): row
        for row in open_now.filter(models.Q(period_end=None) | models.Q(period_end__gt=now))
    }
    return [_status(budget, window(Period(budget.period), now, budget.time_zone), balances) for budget in asked]


def _status(
    budget: Budget, current: Window, balances: Mapping[tuple[int, datetime, datetime | None], BudgetPeriod]
) -> BudgetStatus:
    balance = balances.get((budget.pk, current.start, current.end))
    return BudgetStatus(
        budget=budget.name,
        scope=budget.scope,
        scope_value=budget.scope_value,
        mode=budget.mode,
        period=budget.period,
        limit_usd=budget.limit_usd,
        posted_usd=balance.posted_usd if balance else Decimal(0),
        held_usd=balance.held_usd if balance else Decimal(0),
        starts_at=current.start,
        resets_at=current.end,
        budget_id=budget.pk,
        period_id=balance.pk if balance else None,
        has_gap=balance.has_gap if balance else budget.created_at > current.start,
    )


@dataclass(frozen=True, slots=True)
class Spender:
    """What one key, alias or end user has spent and holds in a budget's window."""

    dimension: str  # key, alias or end_user
    name: str
    requests: int
    posted_usd: Decimal
    held_usd: Decimal


def spenders(period_id: int, *, most: int = 10, within_s: float = 2.0) -> list[Spender] | None:
    """Who spent most in a window, at most ``most`` of a dimension. None: it has too many requests to add up in time.

    Of a budget of everything, the sums of spend say so at any size. Other budgets' charges are added up."""
    period = BudgetPeriod.objects.select_related("budget").get(pk=period_id)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{within_s * 1000:.0f}ms"])
            if period.budget.scope == BudgetScope.GLOBAL and not period.has_gap:
                return [spender for by in ("key", "alias", "user") for spender in _of_all(cursor, period, by, most)]
            cursor.execute(sql.load("window_spenders"), {"period_id": period_id, "most": most})
            return [Spender(*row) for row in cursor.fetchall()]
    except OperationalError as error:
        if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
            return None
        raise


def _of_all(cursor: CursorWrapper, period: BudgetPeriod, by: str, most: int) -> list[Spender]:
    """Every request is charged to the window of a budget of everything. Only running ones hold in it."""
    column = "end_user" if by == "user" else by
    query, values = _spend_query(by, period.period_start, period.period_end, "UTC")
    cursor.execute(
        f"SELECT s.grouped, s.requests, s.cost_usd, coalesce(h.held_usd, 0) FROM ({query}) s LEFT JOIN ("  # noqa: S608
        f"   SELECT e.{column} AS grouped, sum(c.held_usd) AS held_usd"
        "   FROM accounting_ledgerentry e JOIN accounting_charge c ON c.entry_id = e.id AND c.period_id = %(period_id)s"
        "   WHERE e.state = 'held' GROUP BY 1) h ON h.grouped = s.grouped"
        " WHERE s.grouped <> '' ORDER BY s.cost_usd + coalesce(h.held_usd, 0) DESC, s.requests DESC, s.grouped"
        " LIMIT %(most)s",
        {**values, "period_id": period.pk, "most": most},
    )
    return [Spender(column, *row) for row in cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class RefusedKey:
    """A provider's key that its provider refused last, and has not taken since."""

    provider: str
    key_reference: str
    at: datetime
    http_status: int | None
    error: str


def refused_keys() -> list[RefusedKey]:
    """Of all workers and replicas, in the last day: each attempt is on the books with its key's reference."""
    with connection.cursor() as cursor:
        cursor.execute(sql.load("refused_keys"))
        return [RefusedKey(*row) for row in cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class SpendRow:
    """One line of a spend report. ``unpriced`` counts requests that were served without a price."""

    group: str | None
    requests: int
    failed: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal
    unpriced: int


#: What spend can be reported by: its dimension among the sums of spend, and the group as an expression over them.
DIMENSIONS = {
    "day": ("time", "to_char(bucket AT TIME ZONE %(zone)s, 'YYYY-MM-DD')"),
    "hour": ("time", "to_char(bucket AT TIME ZONE %(zone)s, 'YYYY-MM-DD HH24:00')"),
    "month": ("time", "to_char(bucket AT TIME ZONE %(zone)s, 'YYYY-MM')"),
    "alias": ("alias", "name"),
    "served_alias": ("served_alias", "nullif(name, '')"),
    "provider": ("entry_provider", "name"),
    "model": ("model", "name"),
    "key": ("key", "name"),
    "owner": ("owner", "nullif(name, '')"),
    "user": ("user", "nullif(name, '')"),
}
_COLUMNS = "requests, failed, input_tokens, output_tokens, cost_usd, unpriced"
#: Sums cover whole buckets. Of those that a report begins or ends in, it reads the entries.
_PARTS = f"""
    SELECT dimension, name, value, bucket, {_COLUMNS} FROM accounting_spend
    WHERE %(is_wide)s AND (%(first)s::timestamptz IS NULL OR bucket >= %(first)s::timestamptz)
      AND (%(last)s::timestamptz IS NULL OR bucket < %(last)s::timestamptz)
    UNION ALL
    SELECT dimension, name, value, bucket, {_COLUMNS} FROM accounting_entryspend
    WHERE created_at >= %(since)s::timestamptz AND created_at < %(since_end)s::timestamptz
    UNION ALL
    SELECT dimension, name, value, bucket, {_COLUMNS} FROM accounting_entryspend
    WHERE created_at >= %(until_begin)s::timestamptz AND created_at < %(until)s::timestamptz
"""  # noqa: S608
_SUMS = ", ".join(
    f"sum({column} * sign){'' if column == 'cost_usd' else '::bigint'} AS {column}" for column in _COLUMNS.split(", ")
)


def spend(by: str, since: datetime | None, until: datetime | None, time_zone: str) -> list[SpendRow]:
    """Spend of the entries admitted in ``[since, until)``, grouped by a name of DIMENSIONS or by ``tag:NAME``.

    ``provider`` and ``model`` are those that served, or failed last. The view ``spend_by_provider`` splits a request
    that paid two providers. Raises KeyError for an unknown dimension.
    """
    query, values = _spend_query(by, since, until, time_zone)
    with connection.cursor() as cursor:
        cursor.execute(query + " ORDER BY grouped NULLS LAST", values)
        return [SpendRow(*row) for row in cursor.fetchall()]


def _spend_query(by: str, since: datetime | None, until: datetime | None, time_zone: str) -> tuple[str, dict[str, Any]]:
    tag = by.removeprefix("tag:") if by.startswith("tag:") else None
    if tag is None:
        dimension, group = DIMENSIONS[by]
        parts = f"SELECT *, {group} AS grouped, 1 AS sign FROM ({_PARTS}) p WHERE dimension = '{dimension}'"  # noqa: S608
    else:
        # Requests without the tag are all requests but those with it.
        parts = (
            f"SELECT p.*, g.grouped, g.sign FROM ({_PARTS}) p"  # noqa: S608
            " CROSS JOIN LATERAL (SELECT value AS grouped, 1 AS sign WHERE dimension <> 'time'"
            "   UNION ALL SELECT NULL, CASE dimension WHEN 'time' THEN 1 ELSE -1 END) g"
            " WHERE dimension = 'time' OR dimension IN ('tag', 'tag_list') AND name = %(tag)s"
        )
    bucket_s = 900 if tag is None and DIMENSIONS[by][0] == "time" else 86400
    query = f"SELECT grouped, {_SUMS} FROM ({parts}) parts GROUP BY grouped HAVING sum(requests * sign) > 0"  # noqa: S608
    return query, {"zone": time_zone, "tag": tag, **_ends(since, until, timedelta(seconds=bucket_s))}


def _ends(since: datetime | None, until: datetime | None, bucket: timedelta) -> dict[str, object]:
    """The whole buckets of ``[since, until)``, and the rest before and after them."""
    first = None if since is None else since + (_EPOCH - since) % bucket
    last = None if until is None else until - (until - _EPOCH) % bucket
    is_wide = first is None or last is None or first < last
    if not is_wide:  # all of it is before the first whole bucket, or after the last
        first, last = until, until
    return {
        "is_wide": is_wide, "first": first, "last": last,
        "since": since, "since_end": first, "until_begin": last, "until": until,
    }  # fmt: skip
