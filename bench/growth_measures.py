"""What ``bench.growth`` runs in a process of its own for each database."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client

from accounting.ledger import proof, rollup
from accounting.ledger.writer import Writer
from accounting.models import Budget
from accounting.postgres.session import connect
from accounting.reports import spend
from bench.growth import REQUESTS, timed_ms
from tests.ledger.conftest import Book
from tests.ledger.history import fill
from tests.ledger.test_scale import request_ms

VIEWS = ("hour", "day", "alias", "provider", "key", "tag")


def write_history(rows: int) -> None:
    call_command("migrate", verbosity=0)
    User.objects.create_superuser("ada", password="not a secret")
    budget = Budget.objects.create(name="everything", limit_usd=10_000_000)
    with connect("bench", statement_timeout_s=7200) as session:
        if rows:
            fill(session, rows, budget.pk)
        session.autocommit = True
        while rollup.roll_up(session, most=10_000).has_more:
            pass
        session.execute("VACUUM ANALYZE")
    for _ in proof.walk():
        pass


def measure() -> dict[str, float]:
    measures: dict[str, Callable[[], object]] = {}
    for view in VIEWS:
        measures[f"`SELECT * FROM spend_by_{view}`"] = lambda view=view: _rows(f"SELECT * FROM spend_by_{view}")
    since = datetime.now(UTC) - timedelta(days=30)
    for by in ("day", "key", "user", "tag:team"):
        measures[f"`spend_report --by {by} --since 30d`"] = lambda by=by: spend(by, since, None, "UTC")
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.get())
    for words, path in {
        "the first page": "/admin/",
        "the ledger's list": "/admin/accounting/ledgerentry/",
        "the budget's page": f"/admin/accounting/budget/{Budget.objects.get().pk}/change/",
    }.items():
        measures[words] = lambda path=path: _page(client, path)
    figures = {}
    writer = Writer()
    book = Book(writer)
    request_ms(book, 20)
    figures["a request: hold and settle"] = request_ms(book, REQUESTS)
    writer.stop()
    figures |= {name: timed_ms(work) for name, work in measures.items()}
    figures["a start: prove what is new"] = timed_ms(lambda: list(proof.walk(proof.known())))
    return figures


def _rows(query: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchall()


def _page(client: Client, path: str) -> None:
    status = client.get(path).status_code
    if status != 200:
        raise SystemExit(f"{path} answers {status}")


def main(rows: str | None = None) -> None:
    """Write a history of so many entries, or measure and print JSON."""
    if rows is not None:
        write_history(int(rows))
    else:
        print(json.dumps(measure()))
