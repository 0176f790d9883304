"""A ledger with a long history is as fast as an empty one, and its reports answer at once."""

from __future__ import annotations

import json
import re
import statistics
import time
from typing import Any, LiteralString

import psycopg
import pytest
from django.db import connection

from accounting import sql
from accounting.budgets import load_rules
from accounting.ledger import rollup, rows
from accounting.ledger.records import Hold, HoldRequest
from accounting.postgres import pipeline
from accounting.postgres.session import connect
from tests.clocks import within
from tests.ledger.conftest import Book
from tests.ledger.history import fill

ROWS = 50_000
REPORTS: tuple[LiteralString, ...] = (
    "SELECT * FROM spend_by_hour",
    "SELECT * FROM spend_by_day",
    "SELECT * FROM spend_by_alias",
    "SELECT * FROM spend_by_provider",
    "SELECT * FROM spend_by_key",
    "SELECT * FROM spend_by_tag",
    "SELECT * FROM budget_status",
    "SELECT * FROM open_holds",
    "SELECT * FROM ledger ORDER BY created_at DESC LIMIT 100",
    "SELECT * FROM ledger WHERE request_id = 'req-777'",
    "SELECT * FROM attempts WHERE request_id = 'req-777'",
    "SELECT key, sum(cost_usd) FROM ledger WHERE created_at >= now() - interval '30 days' GROUP BY key",
)
BIG_TABLES = re.compile(r"Seq Scan on (accounting_(?:ledgerentry|attempt|charge))")
#: What a ledger writer prepares, of what reads the large tables: the names of the files.
WRITERS = (
    *("lock_entries", "charge_other_steps", "entry_charges", "running_requests"),
    *("settle_charges", "settle_entries", "insert_attempts", "insert_entries", "top_up_entries", "hold_charges"),
)
#: A scan of a large table without a condition on its index. Partial indexes have running and unknown requests alone.
WHOLE_INDEX = re.compile(
    r"Scan (?!using entry_held|using entry_unknown)[^\n]*on accounting_(?:ledgerentry|attempt|charge)\b[^\n]*\n"
    r"(?! *(?:Index|Recheck) Cond)"
)


def request_ms(book: Book, requests: int) -> float:
    """The median time of one hold and one settlement, one after the other, in milliseconds."""
    template = book.request("0.05")
    times = []
    for _ in range(requests):
        began = time.perf_counter()
        book.post(
            book.hold("0.05", configuration_version=template.configuration_version, budgets=template.budgets), "0.01"
        )
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def session() -> psycopg.Connection[Any]:
    parameters = connection.get_connection_params()
    parameters.pop("cursor_factory", None)
    parameters.pop("context", None)
    return psycopg.connect(**parameters)


def hot_statements(book: Book) -> dict[str, dict[str, Any]]:
    """Every statement of an ordinary request in the ledger, with the values of twenty requests at once."""
    holds: list[Hold] = [book.hold("0.05") for _ in range(20)]
    entry_ids = [hold.entry_id for hold in holds]
    settlements = [book.settlement(hold, book.attempt("0.01")) for hold in holds]
    period_ids = sorted({charge.period_id for hold in holds for charge in hold.charges})
    charge_ids = [row[0] for row in book.rows("SELECT id FROM accounting_charge WHERE entry_id = ANY(%s)", entry_ids)]
    new: list[HoldRequest] = [book.request("0.05") for _ in range(20)]
    entries = [rows.entry_row(request, 1) for request in new]
    return {
        "read_clock": {},
        "lock_entries": {"entry_ids": entry_ids},
        "entry_charges": {"entry_ids": entry_ids},
        "lock_periods": {"period_ids": period_ids},
        "settle_charges": {
            "rows": json.dumps([{"id": charge_id, "posted_usd": "0.01"} for charge_id in charge_ids]),
            "charge_ids": charge_ids,
        },
        "settle_entries": {"rows": json.dumps([rows.settlement_row(s) for s in settlements]), "entry_ids": entry_ids},
        "insert_attempts": {"rows": json.dumps([row for s in settlements for row in rows.attempt_rows(s)])},
        "insert_entries": {"rows": json.dumps(entries)},
        "hold_charges": {
            "rows": json.dumps(
                [{"entry_id": e["id"], "period_id": p, "held_usd": "0.05"} for e in entries for p in period_ids]
            )
        },
        "move_balances": {
            "rows": json.dumps([{"id": p, "held_usd": "0.05", "posted_usd": "0.01"} for p in period_ids]),
            "period_ids": period_ids,
        },
        "top_up_entries": {
            "rows": json.dumps([{"id": str(h.entry_id), "more_usd": "0.01"} for h in holds]),
            "entry_ids": entry_ids,
        },
        "held_writers": {},
        "lock_held": {"writer_id": 1, "writer_dead": True},
        "expire_entries": {"entry_ids": entry_ids},
    }


def explain(session: psycopg.Connection[Any], statement: str, values: dict[str, Any]) -> str:
    """The plan of a statement. The statement really runs, and its effects are undone."""
    with session.transaction(force_rollback=True):
        plan = session.execute("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) " + statement, values)
        return "\n".join(row[0] for row in plan.fetchall())


def plan_of_a_writer(session: psycopg.Connection[Any], name: str) -> str:
    """The plan that a writer's session keeps of a statement, whatever its values are."""
    text, parameters = pipeline._compiled(name)
    session.execute(b"PREPARE planned AS " + text)
    nothing = f"({', '.join('NULL' for _ in parameters)})" if parameters else ""
    plan = session.execute(f"EXPLAIN (COSTS OFF) EXECUTE planned{nothing}".encode()).fetchall()
    session.execute("DEALLOCATE planned")
    return "\n".join(row[0] for row in plan)


def test_a_writers_plans_find_entries_by_key_however_young_the_ledger_was_when_they_were_made(book: Book) -> None:
    budget = book.budget("1000")
    with session() as counting, connect("test of the plans", statement_timeout_s=5) as planning:
        for made in ("none", "a few", "hundreds"):
            if made == "a few":
                for _ in range(3):
                    book.post(book.hold("0.05"), "0.01")
            elif made == "hundreds":
                fill(counting, 300, budget.pk)
            if made != "none":  # and Postgres has counted them: the next time is a hundred thousand entries later
                counting.execute("ANALYZE accounting_ledgerentry, accounting_charge, accounting_attempt")
                counting.commit()
            for name in WRITERS:
                plan = plan_of_a_writer(planning, name)
                assert not WHOLE_INDEX.search(plan), f"{name} reads a whole index with {made} of them:\n{plan}"


@pytest.fixture
def history(book: Book) -> float:
    """A ledger of ROWS entries; the milliseconds that a request took while it was empty."""
    budget = book.budget("1000000")
    request_ms(book, 20)
    empty_ms = request_ms(book, 100)
    with session() as filling:
        fill(filling, ROWS, budget.pk)
        while rollup.roll_up(filling, most=5000).has_more:
            pass
        filling.execute("ANALYZE accounting_spendsum, accounting_unrolledentry")
        filling.commit()
    return empty_ms


def test_a_long_history_costs_a_request_nothing(book: Book, history: float) -> None:
    assert book.rows("SELECT count(*) FROM ledger")[0][0] > ROWS
    book.assert_reconciles()
    request_ms(book, 20)
    ratio = request_ms(book, 100) / history
    assert ratio < 2, "the same, but for the noise of a busy machine"
    with session() as explaining:
        for name, values in hot_statements(book).items():
            plan = explain(explaining, sql.load(name), values)
            assert not BIG_TABLES.search(plan), f"{name} reads a whole table:\n{plan}"
    # Opening a window is rare, and reads its own window only.
    budget = load_rules()[0]
    before = book.rows("SELECT date_trunc('day', now()), date_trunc('day', now()) + interval '1 day'")[0]
    window = {"budget_id": budget.id, "period_start": before[0], "period_end": before[1], "period_id": 0}
    window |= {"period": budget.period, "time_zone": budget.time_zone}
    with session() as explaining:
        for name in ("lock_entries_in_window", "backfill_period"):
            plan = explain(explaining, sql.load(name), window)
            assert "Seq Scan on accounting_ledgerentry" not in plan, f"{name}:\n{plan}"
    # Nor does what the operators' pages read.
    with session() as explaining:
        (period_id,) = book.rows("SELECT id FROM accounting_budgetperiod ORDER BY period_start LIMIT 1 OFFSET 100")[0]
        for name, values in {
            "window_spenders": {"period_id": period_id, "most": 10},
            "refused_keys": {},
        }.items():
            plan = explain(explaining, sql.load(name), values)
            assert not BIG_TABLES.search(plan), f"{name} reads a whole table:\n{plan}"
    # Nor does what rolls entries up, nor a report of what is rolled up.
    entry_ids = [row[0] for row in book.rows("SELECT id FROM accounting_ledgerentry ORDER BY id LIMIT 100")]
    at = book.rows("SELECT min(created_at), max(created_at) FROM accounting_ledgerentry")[0]
    with session() as explaining:
        for name, values in {
            "waiting_entries": {"from_at": at[0], "until_at": at[1], "most": 100},
            "next_entries": {"first_at": at[0], "most": 100},
            "stretch_entries": {"from_at": at[1], "next_at": at[1]},
            "roll_up": {"entry_ids": entry_ids, "staying_ids": [], "from_at": at[0]},
            "last_charge": {},
            "weigh_charges": {"first_id": 0, "last_id": 0, "open_ids": [1, 2]},
            "suspect_balances": {"period_ids": [1], "posted_usd": [0], "last_id": 10**9, "open_ids": [1]},
        }.items():
            plan = explain(explaining, sql.load(name), values)
            assert not BIG_TABLES.search(plan), f"{name} reads a whole table:\n{plan}"
        for report in REPORTS[:6]:
            plan = explain(explaining, report, {})
            assert not BIG_TABLES.search(plan), f"{report} reads a whole table:\n{plan}"
    for report in REPORTS:
        began = time.perf_counter()
        book.rows(report)
        assert within(time.perf_counter() - began, 1), report
