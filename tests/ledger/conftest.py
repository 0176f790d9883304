"""The cast of the ledger's tests: their own writer on a real Postgres, and short ways to say what happens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from accounting.budgets import applicable, load_rules
from accounting.ledger.reconcile import reconcile
from accounting.ledger.records import AttemptRecord, Hold, HoldRequest, Settlement
from accounting.ledger.writer import Writer
from accounting.models import Budget, ConfigurationVersion
from accounting.outcomes import Outcome
from accounting.postgres import locks
from accounting.pricing import PriceList
from accounting.usage import NO_USAGE, Usage
from tests.clocks import eventually
from tests.ledger.cluster import Cluster, slow_and_various
from tests.simulator import Simulator

PRICE = PriceList.of({"standard": {"input": "3", "output": "15"}})


class Book:
    """A ledger writer, with methods that read like sentences."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer

    def lose_writer(self) -> None:
        """The writer's process dies, and Postgres notices.

        Its session ends a moment after the connection, and releases the lock.
        """
        writer_id = self.writer._writer_id
        self.writer.stop()
        lock = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND objid = %s"
        assert eventually(lambda: not self.rows(lock, locks.WRITER, writer_id))

    def budget(self, limit: str, **fields: Any) -> Budget:
        return Budget.objects.create(**{"name": "global", "limit_usd": Decimal(limit), **fields})

    def request(self, hold: str | None, **fields: Any) -> HoldRequest:
        values: dict[str, Any] = {
            "configuration_version": ConfigurationVersion.objects.get().version,
            "request_id": "req-1",
            "key": "bot",
            "key_id": None,
            "alias": "claude-sonnet",
            "provider": "anthropic",
            "model": "claude-sonnet-4-6",
            "hold_usd": None if hold is None else Decimal(hold),
            "streamed": False,
            "end_user": "",
            "tags": {},
            "expires_after_s": 600.0,
            **fields,
        }
        values.setdefault(
            "budgets",
            applicable(
                load_rules(),
                key_id=values["key_id"],
                alias=values["alias"],
                provider=values["provider"],
                end_user=values["end_user"],
                tags=values["tags"],
            ),
        )
        return HoldRequest(**values)

    def hold(self, hold: str | None, **fields: Any) -> Hold:
        return self.writer.hold(self.request(hold, **fields))

    def attempt(self, cost: str | None, **fields: Any) -> AttemptRecord:
        values: dict[str, Any] = {
            "alias": "claude-sonnet",
            "provider": "anthropic",
            "model": "claude-sonnet-4-6",
            "outcome": Outcome.ANSWERED,
            "http_status": 200,
            "error": "",
            "started_at": datetime.now(UTC),
            "duration_ms": 12,
            "first_token_ms": None,
            "usage": NO_USAGE if cost == "0" else Usage(input_tokens=10, output_tokens=20),
            "cost_usd": None if cost is None else Decimal(cost),
            "price": PRICE,
            "provider_request_id": "msg_1",
            **fields,
        }
        return AttemptRecord(**values)

    def settlement(self, hold: Hold, *attempts: AttemptRecord, **fields: Any) -> Settlement:
        served = next((a for a in attempts if a.outcome == Outcome.ANSWERED), None)
        values: dict[str, Any] = {
            "served": served,
            "fallback": False,
            "http_status": 200 if served else 502,
            "error_code": "" if served else "all_models_failed",
            "first_token_ms": None,
            "duration_ms": 15,
            **fields,
        }
        return Settlement(hold=hold, attempts=attempts, **values)

    def post(self, hold: Hold, cost: str | None) -> None:
        assert self.writer.settle(self.settlement(hold, self.attempt(cost)))

    def void(self, hold: Hold) -> None:
        failed = self.attempt("0", outcome="server_error", http_status=503)
        assert self.writer.settle(self.settlement(hold, failed))

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with connection.cursor() as cursor:
            cursor.execute(query, values)
            return list(cursor.fetchall())

    def balance(self, budget: str = "global") -> tuple[Decimal, Decimal]:
        """Posted and held of the budget, over all its periods."""
        return self.rows(
            "SELECT coalesce(sum(posted_usd), 0), coalesce(sum(held_usd), 0) FROM budget_status WHERE budget = %s",
            budget,
        )[0]

    def is_empty(self) -> bool:
        tables = ("ledgerentry", "attempt", "charge", "adjustment")
        return all(self.rows(f"SELECT count(*) FROM accounting_{table}") == [(0,)] for table in tables)

    def assert_reconciles(self) -> None:
        """Balances are the sums of their charges, and charges are what the entries cost."""
        assert reconcile().discrepancies == ()


@pytest.fixture
def book(transactional_db: None) -> Iterator[Book]:
    writer = Writer()
    yield Book(writer)
    writer.stop()
    # After every test the books must be right.
    Book(writer).assert_reconciles()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two gateways with two workers each, on their own Postgres, with one simulated provider."""
    with Simulator(default=slow_and_various()) as sim:
        running = Cluster(tmp_path_factory.mktemp("cluster"), sim)
        yield running
        running.close()
