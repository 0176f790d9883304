"""Who spent a budget's window, and which keys providers refuse: read from the books, whoever wrote them."""

from __future__ import annotations

from decimal import Decimal

from django.db import connection, transaction

from accounting.ledger.corrections import adjust
from accounting.models import Budget, BudgetPeriod
from accounting.reports import refused_keys, spenders, statuses
from tests.ledger.conftest import Book


def test_spenders_add_up_to_the_windows_balance(book: Book) -> None:
    book.budget("10")
    book.budget("10", name="anthropic", scope="provider", scope_value="anthropic")
    hold = book.hold("0.5", key="bot", end_user="ada")
    book.post(hold, "0.25")
    adjust(hold.entry_id, amount_usd=Decimal("-0.05"), author="ann", reason="a discount")
    book.hold("0.5", key="cron")
    for period in BudgetPeriod.objects.all():
        found = spenders(period.pk)
        assert found is not None
        for dimension, requests in (("key", 2), ("alias", 2)):
            rows = [row for row in found if row.dimension == dimension]
            assert sum(row.posted_usd for row in rows) == period.posted_usd == Decimal("0.2")
            assert sum(row.held_usd for row in rows) == period.held_usd == Decimal("0.5")
            assert sum(row.requests for row in rows) == requests, "an adjustment is no request"
        (ada,) = [row for row in found if row.dimension == "end_user"]
        assert (ada.name, ada.posted_usd, ada.requests) == ("ada", Decimal("0.2"), 1)


def test_a_window_that_takes_too_long_to_add_up_is_left_out_unless_it_counts_everything(book: Book) -> None:
    everything = book.budget("10")
    anthropic = book.budget("10", name="anthropic", scope="provider", scope_value="anthropic")
    book.post(book.hold("0.5"), "0.25")
    with transaction.atomic(), connection.cursor() as cursor:
        # A sum that sleeps stands for millions of requests.
        cursor.execute("ALTER TABLE accounting_charge RENAME TO charge")
        cursor.execute("CREATE VIEW accounting_charge AS SELECT * FROM charge WHERE pg_sleep(0.3)::text IS NOT NULL")
        assert spenders(BudgetPeriod.objects.get(budget=anthropic).pk, within_s=0.1) is None
        found = spenders(BudgetPeriod.objects.get(budget=everything).pk, within_s=0.25) or []
        assert [(row.name, row.requests, row.posted_usd) for row in found] == [
            ("bot", 1, Decimal("0.25")),
            ("claude-sonnet", 1, Decimal("0.25")),
        ]
        transaction.set_rollback(True)
    assert spenders(BudgetPeriod.objects.get(budget=anthropic).pk)


def test_the_statuses_of_many_budgets_are_those_of_each(book: Book) -> None:
    for name, period, zone in (("a", "day", "UTC"), ("b", "month", "Europe/Berlin"), ("c", "total", "UTC")):
        book.budget("10", name=name, period=period, time_zone=zone)
    book.post(book.hold("0.5"), "0.25")
    book.budget("10", name="d", period="hour")
    together = {status.budget: (status.posted_usd, status.has_gap) for status in statuses(Budget.objects.all())}
    spent = (Decimal("0.25"), False)
    assert together == {"a": spent, "b": spent, "c": spent, "d": (Decimal(0), True)}
    assert statuses([]) == []


def test_a_key_is_refused_until_it_answers_at_that_provider(book: Book) -> None:
    book.budget("10")

    def call(provider: str, key: str, outcome: str) -> None:
        attempt = book.attempt("0", provider=provider, key_reference=key, outcome=outcome)
        assert book.writer.settle(book.settlement(book.hold("0.1"), attempt))

    def refused() -> list[tuple[str, str]]:
        return [(key.provider, key.key_reference) for key in refused_keys()]

    call("openai", "env:A", "authentication")
    call("openai", "env:A", "authentication")
    call("openai", "env:B", "answered")
    call("groq", "env:A", "answered")
    assert refused() == [("openai", "env:A")]
    call("openai", "env:A", "rate_limited")
    assert refused() == [("openai", "env:A")]
    call("openai", "env:A", "answered")
    assert refused() == []
    call("openai", "env:A", "authentication")
    assert refused() == [("openai", "env:A")]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")  # past the trigger that refuses changes
        cursor.execute("UPDATE accounting_attempt SET started_at = started_at - interval '25 hours'")
        assert refused() == [], "yesterday's news"
        transaction.set_rollback(True)
