"""Reports equal the ledger to the last digit, in the asked days, and answer the document's questions rightly."""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from accounting.ledger import corrections
from accounting.models import LedgerEntry
from accounting.reports import SpendRow, spend
from tests.ledger.conftest import Book

DOCUMENT = (Path(__file__).parents[2] / "docs" / "sql-views.md").read_text(encoding="utf-8")


def move(book: Book, *times: str) -> None:
    """Set when the ledger's entries were admitted, oldest first, which only a test may do."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE accounting_ledgerentry DISABLE TRIGGER USER")
        ids = list(LedgerEntry.objects.order_by("id").values_list("id", flat=True))
        for entry_id, time in zip(ids, times, strict=True):
            cursor.execute("UPDATE accounting_ledgerentry SET created_at = %s WHERE id = %s", [time, entry_id])
        cursor.execute("ALTER TABLE accounting_ledgerentry ENABLE TRIGGER USER")


def by(dimension: str, zone: str = "UTC", since: datetime | None = None, until: datetime | None = None) -> list[Any]:
    return [(row.group, row.requests, row.cost_usd) for row in spend(dimension, since, until, zone)]


# --- days ------------------------------------------------------------------------------------------------------


def test_days_and_months_are_those_of_the_zone_across_a_change_of_its_clocks(book: Book) -> None:
    """Berlin goes back from UTC+2 to UTC+1 on 25 October 2026 at 01:00 UTC: that day has 25 hours."""
    for cost in ("1", "2", "4", "8"):
        book.post(book.hold("10"), cost)
    move(
        book,
        "2026-10-24T21:59:59.999999Z",
        "2026-10-24T22:00:00Z",
        "2026-10-25T22:59:59.999999Z",
        "2026-10-25T23:00:00Z",
    )
    assert by("day", "Europe/Berlin") == [
        ("2026-10-24", 1, Decimal(1)),
        ("2026-10-25", 2, Decimal(6)),
        ("2026-10-26", 1, Decimal(8)),
    ]
    assert by("day") == [("2026-10-24", 2, Decimal(3)), ("2026-10-25", 2, Decimal(12))]
    assert by("hour", "Asia/Kolkata")[0] == ("2026-10-25 03:00", 2, Decimal(3))  # half an hour off the hour


def test_a_month_begins_where_its_zone_says(book: Book) -> None:
    for cost in ("1", "2"):
        book.post(book.hold("10"), cost)
    move(book, "2026-10-31T23:30:00Z", "2026-11-01T00:30:00Z")
    assert by("month", "Europe/Berlin") == [("2026-11", 2, Decimal(3))]
    assert by("month") == [("2026-10", 1, Decimal(1)), ("2026-11", 1, Decimal(2))]
    assert by("month", "America/New_York") == [("2026-10", 2, Decimal(3))]


def test_since_is_within_and_until_is_not(book: Book) -> None:
    for cost in ("1", "2"):
        book.post(book.hold("10"), cost)
    move(book, "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z")
    first, second = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
    assert by("day", since=first, until=second) == [("2026-11-01", 1, Decimal(1))]
    assert by("day", since=second) == [("2026-11-02", 1, Decimal(2))]
    assert by("day", since=second + timedelta(microseconds=1)) == []


# --- agreement ---------------------------------------------------------------------------------------------------


def some_traffic(book: Book, seed: int) -> None:
    """Every kind of entry, with costs down to the last place: posted, voided, running, unpriced, adjusted."""
    chance = random.Random(seed)
    for _ in range(25):
        fields = {
            "key": chance.choice(["bot", "crawler"]),
            "alias": chance.choice(["gpt-4o", "claude-sonnet"]),
            "end_user": chance.choice(["", "user-1", "user-2"]),
            "tags": chance.choice([{}, {"team": "a"}, {"team": "b", "cost_usd": "odd"}]),
        }
        cost = Decimal(chance.randrange(1, 10**13)) / 10**12
        match chance.choice(["posted", "posted", "adjusted", "voided", "held", "unpriced", "priced later"]):
            case "voided":
                book.void(book.hold("20", **fields))
            case "held":
                book.hold("20", **fields)
            case "unpriced" | "priced later" as kind:
                hold = book.hold(None, **fields)
                book.post(hold, None)
                if kind == "priced later":
                    corrections.adjust(hold.entry_id, amount_usd=cost, author="ann", reason="its price was missing")
            case "posted" | "adjusted" as kind:
                hold = book.hold("20", **fields)
                book.post(hold, str(cost))
                if kind == "adjusted":
                    for amount in ("0.000000000003", "-0.000000000001"):
                        corrections.adjust(hold.entry_id, amount_usd=Decimal(amount), author="ann", reason="digits")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_reports_views_and_ledger_agree_to_the_last_digit(book: Book, seed: int) -> None:
    some_traffic(book, seed)
    columns = "requests, failed, input_tokens, output_tokens, cost_usd, unpriced"
    for dimension in ("day", "alias", "key"):
        reported = [
            (row.group, row.requests, row.failed, row.input_tokens, row.output_tokens, row.cost_usd, row.unpriced)
            for row in spend(dimension, None, None, "UTC")
        ]
        assert reported == book.rows(f"SELECT {dimension}::text, {columns} FROM spend_by_{dimension} ORDER BY 1")
    whole = book.rows(
        "SELECT count(*), sum(cost_usd), sum(cost_usd) = sum(coalesce(posted_usd, 0) + adjusted_usd),"
        " count(*) FILTER (WHERE cost_usd IS NULL AND state = 'posted') FROM ledger"
    )
    for dimension in ("hour", "month", "served_alias", "provider", "model", "user", "tag:team"):
        rows = spend(dimension, None, None, "UTC")
        assert [
            (sum(r.requests for r in rows), sum(r.cost_usd for r in rows), True, sum(r.unpriced for r in rows))
        ] == whole
    charged = book.rows("SELECT sum(cost_usd), sum(unpriced) FROM spend_by_provider")
    assert charged[0][0] == whole[0][1]


def test_a_user_a_tag_or_an_alias_that_is_not_there_is_a_group_of_its_own(book: Book) -> None:
    book.post(book.hold("1", end_user="ann"), "0.1")
    book.post(book.hold("1"), "0.2")
    assert by("user") == [("ann", 1, Decimal("0.1")), (None, 1, Decimal("0.2"))]
    assert by("tag:team") == [(None, 2, Decimal("0.3"))]
    book.void(book.hold("1"))
    assert by("served_alias") == [("claude-sonnet", 2, Decimal("0.3")), (None, 1, Decimal(0))]


def test_an_empty_ledger_has_no_rows(book: Book) -> None:
    for dimension in ("day", "alias", "provider", "key", "tag:team"):
        assert spend(dimension, None, None, "UTC") == []


def test_an_unknown_dimension_is_an_error_and_never_sql() -> None:
    with pytest.raises(KeyError):
        spend("key; DROP TABLE accounting_attempt", None, None, "UTC")


def test_a_tag_with_any_name_is_only_a_name(book: Book) -> None:
    book.post(book.hold("1", tags={"it's %s": "a"}), "0.1")
    assert spend("tag:it's %s", None, None, "UTC") == [SpendRow("a", 1, 0, 10, 20, Decimal("0.1"), 0)]


def test_a_tag_that_is_called_like_a_column_keeps_apart_from_it(book: Book, capsys: pytest.CaptureFixture[str]) -> None:
    book.post(book.hold("1", tags={"cost_usd": "odd"}), "0.1")
    call_command("spend_report", "--by", "tag:cost_usd", "--format", "csv")
    assert capsys.readouterr().out.splitlines() == [
        "tag:cost_usd,requests,failed,input_tokens,output_tokens,cost_usd,unpriced",
        "odd,1,0,10,20,0.1,0",
    ]


def test_what_a_client_sent_does_not_act_on_the_readers_terminal(
    book: Book, capsys: pytest.CaptureFixture[str]
) -> None:
    book.post(book.hold("1", end_user="\x1b[2Jann\nbob"), "0.1")
    call_command("spend_report", "--by", "user")
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert said.splitlines()[2].startswith(r"\x1b[2Jann\nbob  ")


# --- the document's questions ----------------------------------------------------------------------------------


def answer(book: Book, question: str) -> list[tuple[Any, ...]]:
    """What the query under this heading of docs/sql-views.md finds."""
    found = re.findall(rf"\*\*{re.escape(question)}\*\*\n```sql\n(.+?)```", DOCUMENT, flags=re.DOTALL)
    assert len(found) == 1, question
    return book.rows(found[0].replace("%", "%%"))


def test_the_questions_are_answered_rightly(book: Book) -> None:
    now = datetime.now(UTC)
    book.budget("10")
    book.post(book.hold("1", key="bot", end_user="user-42", tags={"team": "a"}, request_id="req-1"), "0.25")
    book.post(book.hold("1", key="crawler", tags={"team": "b"}, request_id="req-2"), "0.5")
    hold = book.hold("1", key="bot", end_user="user-42", request_id="req-3")
    cut = book.attempt("0.1", outcome="interrupted")
    served = book.attempt("0.3", provider="openai", model="gpt-4o", alias="gpt-4o")
    assert book.writer.settle(book.settlement(hold, cut, served, fallback=True))
    book.hold("2", request_id="req-4")

    today = now.date()
    (day,) = answer(book, "What did we spend this month, by day?")
    assert day == (today, 4, Decimal("1.15"))
    (berlin,) = answer(book, "… in Berlin's days?")
    assert berlin[1:] == (4, Decimal("1.15"))
    keys = answer(book, "Which key spent the most in the last 30 days?")
    assert keys == [("bot", Decimal("0.65")), ("crawler", Decimal("0.5"))]
    assert answer(book, 'What does each team cost (clients send `metadata: {"team": …}`)?') == [
        ("b", 1, Decimal("0.5")), ("none", 2, Decimal("0.4")), ("a", 1, Decimal("0.25")),
    ]  # fmt: skip
    (left,) = answer(book, "How much of today's budgets is left?")
    assert left[:5] == ("global", Decimal(10), Decimal("1.15"), Decimal(2), Decimal("6.85"))
    assert answer(book, "What did falling back cost us, and how often did we?") == [
        ("claude-sonnet", "gpt-4o", 1, Decimal("0.4"))
    ]
    assert answer(book, "Which share of the input came from caches?") == [
        ("anthropic", "claude-sonnet-4-6", Decimal("0.0")), ("openai", "gpt-4o", Decimal("0.0")),
    ]  # fmt: skip
    assert answer(book, "What is on the books by estimate, at the hold, or without a price?") == [(0, 0, 0)]
    dearest = answer(book, "What did one end user ask for most dearly?")
    assert [(row[1], row[5]) for row in dearest] == [("req-3", Decimal("0.4")), ("req-1", Decimal("0.25"))]


def test_the_provider_s_bill_of_a_month_is_answered_rightly(book: Book) -> None:
    hold = book.hold("1")
    late = book.attempt("0.1", outcome="interrupted", started_at=datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC))
    after = book.attempt(
        "0.3", provider="openai", model="gpt-4o", alias="gpt-4o", started_at=datetime(2026, 11, 1, tzinfo=UTC)
    )
    assert book.writer.settle(book.settlement(hold, late, after, fallback=True))
    assert answer(book, "What do we owe each provider for October 2026?") == [("anthropic", Decimal("0.1"), 10, 20)]
