"""The reporting views: their documentation is true, and the reader's role can read nothing else."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import ProgrammingError, connection, transaction

from accounting import sql
from accounting.pricing import PriceList
from accounting.usage import Tier, Usage
from tests.ledger.conftest import Book

DOCUMENT = (Path(__file__).parents[2] / "docs" / "sql-views.md").read_text(encoding="utf-8")
VIEWS = (
    "ledger", "attempts", "spend_by_hour", "spend_by_day", "spend_by_alias", "spend_by_provider", "spend_by_key",
    "spend_by_tag", "budget_status", "open_holds", "refusals", "audit",
)  # fmt: skip


def section(view: str) -> str:
    """The part of the document that describes a view."""
    found = [part for part in re.split(r"^#+ ", DOCUMENT, flags=re.MULTILINE)[1:] if f"`{view}`" in part.split("\n")[0]]
    assert len(found) == 1, view
    return found[0]


@pytest.mark.django_db
@pytest.mark.parametrize("view", VIEWS)
def test_every_column_is_documented(view: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = %s",
            [view],
        )
        columns = {row[0] for row in cursor.fetchall()}
    assert columns
    dimension = view.removeprefix("spend_by_")
    missing = {name for name in columns if f"`{name}`" not in section(view)} - {dimension}
    assert not missing


def test_every_question_of_the_document_has_an_answer(book: Book) -> None:
    book.budget("10")
    book.post(book.hold("0.5", end_user="user-42", tags={"team": "a"}), "0.25")
    questions = re.findall(r"```sql\n(.+?)```", DOCUMENT, flags=re.DOTALL)
    assert len(questions) == 12
    answers = {question: book.rows(question.replace("%", "%%")) for question in questions}
    assert [len(rows) for question, rows in answers.items() if "user-42" in question] == [1]
    (budget,) = next(rows for question, rows in answers.items() if "budget_status" in question)
    assert budget[:5] == ("global", Decimal(10), Decimal("0.25"), Decimal(0), Decimal("9.75"))


def test_spend_is_summed_by_the_hour_and_by_each_tag(book: Book) -> None:
    book.budget("10")
    both, one = book.hold("0.5", tags={"team": "a", "env": "x=1"}), book.hold("0.5", tags={"team": "a"})
    for hold in (both, one, book.hold("0.5")):
        book.post(hold, "0.25")
    (row,) = book.rows(
        "SELECT hour = date_trunc('hour', now()), requests, failed, cost_usd, unpriced FROM spend_by_hour"
    )
    assert row == (True, 3, 0, Decimal("0.75"), 0)
    assert book.rows("SELECT tag, name, value, requests, cost_usd FROM spend_by_tag") == [
        ("env=x=1", "env", "x=1", 1, Decimal("0.25")),
        ("team=a", "team", "a", 2, Decimal("0.50")),
    ]


def test_the_views_say_what_was_asked_and_consumed_and_in_which_tier(book: Book) -> None:
    book.budget("10")
    rates = PriceList.of(
        {"standard": {"input": "3", "search": "0.01"}, "flex": {"input": "1.5"}, "batch": {"input": "1"}}
    )
    failed = book.attempt(
        "0", outcome="server_error", http_status=503, endpoint="responses", key_reference="env:OPENAI_API_KEY_2",
        next="the provider failed", at_most_usd=Decimal("0.4"),
    )  # fmt: skip
    searched = Usage(input_tokens=10, quantities={"search:high": Decimal(3), "input_second": Decimal("1.50")})
    served = book.attempt("0.1", usage=searched, endpoint="responses", tier=Tier.FLEX, price=rates)
    hold = book.hold("1", endpoint="responses")
    assert book.rows("SELECT endpoint, tier, quantities FROM ledger") == [("responses", "standard", "{}")]
    assert book.writer.settle(book.settlement(hold, failed, served))
    ((endpoint, tier, quantities, price),) = book.rows("SELECT endpoint, tier, quantities, price FROM ledger")
    assert (endpoint, tier) == ("responses", "flex")
    assert json.loads(quantities) == {"search:high": "3", "input_second": "1.5"}
    assert json.loads(price) == {"standard": {"input": "3", "search": "0.01"}, "flex": {"input": "1.5"}}
    assert book.rows(
        "SELECT endpoint, tier, quantities, key_reference, at_most_usd, next FROM attempts ORDER BY position"
    ) == [
        ("responses", "standard", "{}", "env:OPENAI_API_KEY_2", Decimal("0.4"), "the provider failed"),
        ("responses", "flex", quantities, None, None, None),
    ]


@pytest.mark.django_db
def test_the_readers_role_reads_the_views_and_nothing_else() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL ROLE gateway_reader")
        for view in VIEWS:
            cursor.execute(f"SELECT * FROM {view}")
        for statement in (
            "SELECT * FROM accounting_apikey",
            "SELECT * FROM accounting_ledgerentry",
            "SELECT * FROM auth_user",
            "SELECT * FROM routing_provider",
            "DELETE FROM open_holds",
            "CREATE TABLE mine (one int)",
        ):
            with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
                cursor.execute(statement)


@pytest.mark.django_db
def test_the_readers_role_cannot_stop_the_ledger_or_fill_its_disk() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL ROLE gateway_reader")
        for statement in (
            "SELECT pg_advisory_lock(7234, 0)",
            "SELECT pg_try_advisory_xact_lock(7234, 0)",
            "SELECT pg_advisory_lock_shared(7233)",
            "CREATE TEMPORARY TABLE mine (one int)",
            "SELECT lo_create(0)",
            "SELECT lo_from_bytea(0, 'x')",
        ):
            with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
                cursor.execute(statement)


@pytest.mark.django_db
def test_whoever_writes_the_ledger_keeps_its_locks() -> None:
    """The gateway's user need not be the one that migrates."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE gateway_writer_of_tests")
        cursor.execute("GRANT INSERT ON accounting_ledgerentry TO gateway_writer_of_tests")
        cursor.execute(sql.load("reader_limits"))
        cursor.execute("SET LOCAL ROLE gateway_writer_of_tests")
        cursor.execute("SELECT pg_advisory_xact_lock_shared(7234, 0)")
        cursor.execute("CREATE TEMPORARY TABLE gateway_health (one int) ON COMMIT DROP")


@pytest.mark.django_db
def test_a_database_user_that_may_not_limit_readers_migrates_all_the_same() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE gateway_user_of_tests")
        cursor.execute("SET LOCAL ROLE gateway_user_of_tests")
        cursor.execute(sql.load("reader_limits"))
        cursor.execute("RESET ROLE")
        cursor.execute("SELECT has_function_privilege('gateway_user_of_tests', 'pg_advisory_lock(bigint)', 'EXECUTE')")
        assert cursor.fetchone() == (False,)  # it has changed nothing


def test_a_request_that_paid_two_providers_is_split_between_them(book: Book) -> None:
    hold = book.hold("1")
    attempts = (
        book.attempt("0.1", outcome="interrupted"),
        book.attempt("0.3", provider="openai", model="gpt-4o", alias="gpt-4o"),
    )
    assert book.writer.settle(book.settlement(hold, *attempts, fallback=True))
    assert book.rows("SELECT provider, requests, failed, cost_usd FROM spend_by_provider") == [
        ("anthropic", 1, 1, Decimal("0.1")),
        ("openai", 1, 0, Decimal("0.3")),
    ]
    assert book.rows("SELECT alias, requests, cost_usd FROM spend_by_alias") == [("claude-sonnet", 1, Decimal("0.4"))]


def test_an_unpriced_request_is_counted_as_such_and_never_as_free(book: Book) -> None:
    book.post(book.hold(None), None)
    assert book.rows("SELECT cost_usd FROM ledger") == [(None,)]
    assert book.rows("SELECT requests, cost_usd, unpriced FROM spend_by_key") == [(1, Decimal(0), 1)]


def test_a_running_request_is_an_open_hold(book: Book) -> None:
    book.hold("0.5", request_id="req-9")
    assert book.rows("SELECT request_id, alias, hold_usd, expires_at > now() FROM open_holds") == [
        ("req-9", "claude-sonnet", Decimal("0.5"), True)
    ]
    assert book.rows("SELECT state, cost_usd FROM ledger") == [("held", None)]
