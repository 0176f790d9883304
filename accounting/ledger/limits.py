"""Limits that spending has reached: told once for each limit of a window, by whoever sees it first.

As a rule that is the settlement that reaches it. A budget that is made, lowered or moved to another period below what
is spent has reached its limit at once. The admin looks when it saves the budget (`look`); after a change by another
road the next request tells. The window's row says which limit was told of last.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import closing

from accounting import facts, sql
from accounting.budgets import Balance, rule_of
from accounting.ledger.rows import JsonRow, balance_of
from accounting.ledger.windows import Windows
from accounting.models import Budget
from accounting.postgres.session import connect

MAX_TURNS = 5  # the configuration changes faster than this: the next request looks


def newly_reached(balances: Iterable[Balance]) -> list[Balance]:
    """Those whose reaching is to be told. Nothing is spent of a limit of 0 before the first cent."""
    return [
        balance
        for balance in balances
        if 0 < balance.posted_usd >= balance.limit_usd and balance.told_limit_usd != balance.limit_usd
    ]


def told_row(balance: Balance) -> JsonRow:
    """For tell_limits.sql."""
    return {"id": balance.period_id, "limit_usd": str(balance.limit_usd)}


def tell(reached: Iterable[Balance]) -> None:
    """When it is committed that they are told of."""
    for balance in reached:
        facts.budget_reached(facts.BudgetReached(balance.budget, balance.mode, balance.limit_usd, balance.posted_usd))


def look(budget: Budget) -> Balance | None:
    """Open the budget's present window, filled with what is spent in it, and tell when the limit is reached.

    After the commit of the budget's change, and not within a transaction. None: the configuration keeps changing.
    Raises psycopg.Error when Postgres cannot be reached."""
    rule, windows = rule_of(budget), Windows()
    with closing(connect("gateway budgets", statement_timeout_s=5)) as session:
        for _ in range(MAX_TURNS):
            version: int = session.execute(sql.load("read_clock")).fetchall()[0][0]
            session.commit()
            windows.at(version)
            windows.open(session, rule)
            period_id = windows.last_known(rule)
            if period_id is None:
                continue
            (row,) = session.execute(sql.load("lock_periods"), {"period_ids": [period_id]}).fetchall()
            balance = balance_of(row)
            reached = newly_reached([balance])
            if reached:
                session.execute(sql.load("tell_limits"), {"rows": json.dumps([told_row(balance)])})
            session.commit()
            tell(reached)
            return balance
    return None
