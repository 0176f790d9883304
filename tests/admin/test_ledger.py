"""The ledger in the admin: read by everybody who may, corrected with a name and a reason, never edited."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounting.models import Adjustment, LedgerEntry
from accounting.pricing import PriceList
from accounting.usage import Tier, Usage
from tests.admin.conftest import Operator, grant, lose_worker
from tests.ledger.conftest import Book

LIST = "accounting/ledgerentry/"


@pytest.fixture
def olga(book: Book) -> Operator:
    book.budget("10")
    return Operator(User.objects.create_superuser("olga"))


def entry() -> LedgerEntry:
    return LedgerEntry.objects.get()


def test_the_list_shows_the_exact_cost_and_finds_a_request_by_its_id(olga: Operator, book: Book) -> None:
    book.post(book.hold("0.5", request_id="req-one"), "0.000123456789")
    book.void(book.hold("0.5", request_id="req-two", alias="gpt-4o"))
    page = olga.get(LIST)
    assert "$0.000123456789" in page
    assert "req-one" in page
    found = olga.get(f"{LIST}?q=req-two")
    assert "req-two" in found
    assert "req-one" not in found


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("alias=gpt-4o", {"req-b"}),
        ("key=bot", {"req-a", "req-b"}),
        ("key=nobody", set()),
        ("provider=openai", {"req-b"}),
        ("state__exact=held", {"req-b"}),
        ("state__exact=posted", {"req-a"}),
        ("created_at_from=2020-01-01&created_at_to=2020-01-02", set()),
        ("created_at_from=2020-01-01&created_at_to=2999-01-01", {"req-a", "req-b"}),
        ("created_at_to=2020-01-01", set()),
    ],
)
def test_a_filter_shows_only_the_entries_that_match(olga: Operator, book: Book, query: str, shown: set[str]) -> None:
    book.post(book.hold("0.5", request_id="req-a"), "0.1")
    book.hold("0.5", request_id="req-b", alias="gpt-4o", provider="openai")
    page = olga.get(f"{LIST}?{query}")
    assert {name for name in ("req-a", "req-b") if name in page} == shown


def test_the_lists_never_count_the_ledger(olga: Operator, book: Book) -> None:
    for _ in range(3):
        book.post(book.hold("0.5"), "0.1")
    for path in (LIST, f"{LIST}?alias=claude-sonnet", "accounting/attempt/"):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            olga.get(path)
        statements = [query["sql"] for query in queries.captured_queries]
        assert not [text for text in statements if "COUNT(" in text.upper() and "accounting_" in text]
        assert len(statements) < 12


def test_a_day_is_whole_when_filtering(olga: Operator, book: Book) -> None:
    book.post(book.hold("0.5", request_id="req-a"), "0.1")
    day = entry().created_at
    assert "req-a" in olga.get(f"{LIST}?created_at_from={day:%Y-%m-%d}&created_at_to={day:%Y-%m-%d}")
    yesterday = day - timedelta(days=1)
    assert "req-a" not in olga.get(f"{LIST}?created_at_to={yesterday:%Y-%m-%d}")


def test_an_entry_shows_its_attempts_its_price_and_the_budgets_it_counts_in(olga: Operator, book: Book) -> None:
    hold = book.hold("0.5", tags={"team": "support"})
    failed = book.attempt("0", outcome="server_error", http_status=503, error="upstream said no")
    assert book.writer.settle(book.settlement(hold, failed, book.attempt("0.000123456789", provider="openai")))
    page = olga.get(f"{LIST}{hold.entry_id}/change/")
    for text in (
        "$0.000123456789",
        "server_error",
        "upstream said no",
        "answered",
        "support",
        "global",
        "$0.5",
        "input $3, output $15",
    ):
        assert text in page
    assert 'name="_save"' not in page


def test_an_entrys_page_reads_the_price_of_any_time_and_what_has_no_column(olga: Operator, book: Book) -> None:
    rates = PriceList.of({"standard": {"input": "3", "search:high": "0.025"}, "flex above 200000": {"input": "1.5"}})
    usage = Usage(input_tokens=1, quantities={"search:high": Decimal(2)})
    attempt = book.attempt("0.1", usage=usage, price=rates, tier=Tier.FLEX)
    assert book.writer.settle(book.settlement(book.hold("0.5", request_id="req-new"), attempt))
    page = olga.get(f"{LIST}{LedgerEntry.objects.get(request_id='req-new').pk}/change/")
    assert "input $3, search (high) $0.025, input, flex, above 200000 tokens $1.5" in page
    assert "2 search:high" in page

    old = book.hold("0.5", request_id="req-old").entry_id
    first_version = {
        "base": {"input_usd_per_mtok": "3", "output_usd_per_mtok": "15"},
        "long_context_above_tokens": 200000,
        "long_context": {"input_usd_per_mtok": "6", "output_usd_per_mtok": "22.5"},
    }
    LedgerEntry.objects.filter(pk=old).update(price=first_version)
    assert "input $3, output $15, long input $6, long output $22.5" in olga.get(f"{LIST}{old}/change/")


def test_ledger_rows_cannot_be_added_changed_or_deleted(olga: Operator, book: Book) -> None:
    book.post(book.hold("0.5"), "0.1")
    before = list(LedgerEntry.objects.values())
    path = f"{LIST}{entry().pk}"
    for target in (f"{LIST}add/", f"{path}/change/", f"{path}/delete/"):
        assert olga.send(target, {"cost_usd": "9", "post": "yes"}).status_code == 403
    answer = olga.send(LIST, {"action": "delete_selected", "_selected_action": [entry().pk], "post": "yes"})
    assert answer.status_code == 200
    attempt = entry().attempts.get()
    for target in ("add/", f"{attempt.pk}/change/", f"{attempt.pk}/delete/"):
        assert olga.send(f"accounting/attempt/{target}", {"post": "yes"}).status_code == 403
    assert list(LedgerEntry.objects.values()) == before
    assert entry().attempts.count() == 1


def test_an_unknown_entry_is_posted_at_what_the_bill_says(olga: Operator, book: Book) -> None:
    book.hold("0.5")
    lose_worker(book)
    path = f"{LIST}{entry().pk}"
    assert "/resolve/" in olga.get(f"{path}/change/")
    assert "Held were $0.5." in olga.get(f"{path}/resolve/")
    page = olga.post(f"{path}/resolve/", {"decision": "post", "cost_usd": "0.123", "reason": "Invoice 7"})
    assert "Resolved 1 entry." in page
    assert (entry().state, entry().cost_usd) == ("posted", Decimal("0.123"))
    assert (entry().resolved_by, entry().resolution) == ("olga", "Invoice 7")
    assert book.balance() == (Decimal("0.123"), Decimal(0))
    log = LogEntry.objects.get()
    assert (log.user, log.change_message) == (olga.user, "Resolved, posted at $0.123: Invoice 7")


def test_an_unknown_entry_is_voided(olga: Operator, book: Book) -> None:
    book.hold("0.5")
    lose_worker(book)
    olga.post(f"{LIST}{entry().pk}/resolve/", {"decision": "void", "reason": "Not on the bill"})
    assert (entry().state, entry().cost_usd) == ("voided", Decimal(0))
    assert book.balance() == (Decimal(0), Decimal(0))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"decision": "post", "cost_usd": "0.1", "reason": ""}, "This field is required."),
        ({"decision": "post", "cost_usd": "0.1", "reason": "   "}, "This field is required."),
        ({"decision": "post", "cost_usd": "", "reason": "why"}, "Say what it cost"),
        ({"decision": "post", "cost_usd": "0", "reason": "why"}, "Say what it cost"),
        ({"decision": "post", "cost_usd": "-1", "reason": "why"}, "greater than or equal to 0"),
        ({"decision": "post", "cost_usd": "NaN", "reason": "why"}, "Enter a number."),
        ({"decision": "hold", "reason": "why"}, "Select a valid choice."),
        ({"reason": "why"}, "This field is required."),
    ],
)
def test_a_resolution_without_amount_or_reason_is_refused(
    olga: Operator, book: Book, fields: dict[str, str], reason: str
) -> None:
    book.hold("0.5")
    lose_worker(book)
    assert reason in olga.post(f"{LIST}{entry().pk}/resolve/", fields)
    assert (entry().state, entry().resolved_by) == ("unknown", "")
    assert book.balance() == (Decimal("0.5"), Decimal(0))
    assert not LogEntry.objects.exists()


def test_only_unknown_entries_are_resolved(olga: Operator, book: Book) -> None:
    book.post(book.hold("0.5"), "0.1")
    path = f"{LIST}{entry().pk}"
    assert "/resolve/" not in olga.get(f"{path}/change/")
    answer = olga.send(f"{path}/resolve/", {"decision": "void", "reason": "why"})
    assert answer.status_code == 403
    assert (entry().state, entry().cost_usd) == ("posted", Decimal("0.1"))


def test_selected_unknown_entries_are_posted_at_their_holds_and_the_others_stay(olga: Operator, book: Book) -> None:
    book.post(book.hold("0.5", request_id="settled"), "0.1")
    book.hold("0.25", request_id="lost-1")
    book.hold("0.5", request_id="lost-2")
    lose_worker(book)
    selected = [str(row.pk) for row in LedgerEntry.objects.all()]
    asked = olga.post(LIST, {"action": "resolve_selected", "_selected_action": selected})
    assert "lost-1" in asked
    assert "lost-2" in asked
    assert "settled" not in asked.split('id="content-main"')[1]
    page = olga.post(
        LIST, {"action": "resolve_selected", "_selected_action": selected, "decision": "hold", "reason": "Bill of May"}
    )
    assert "Resolved 2 entries." in page
    assert dict(LedgerEntry.objects.values_list("request_id", "cost_usd")) == {
        "settled": Decimal("0.1"), "lost-1": Decimal("0.25"), "lost-2": Decimal("0.5"),
    }  # fmt: skip
    assert set(LedgerEntry.objects.values_list("state", flat=True)) == {"posted"}
    assert LogEntry.objects.count() == 2


def adjustment_form(operator: Operator, path: str, **fields: str) -> dict[str, str]:
    """The adjustment's form as it comes back: with the token that it was shown with."""
    shown: Any = operator.client.get(f"/admin/{path}/adjust/").context
    return {"token": str(shown["form"]["token"].value()), **fields}


def confirmed(operator: Operator, path: str, fields: dict[str, str]) -> dict[str, str]:
    """The confirmation's form, as the page that answers the first one has it."""
    asked: Any = operator.client.post(f"/admin/{path}", fields).context
    assert asked["question"] is not None
    return {**fields, **asked["confirmed_by"]}


def test_a_settled_entry_is_adjusted_with_author_and_reason_once_its_effect_is_confirmed(
    olga: Operator, book: Book
) -> None:
    book.post(book.hold("0.5"), "0.1")
    path = f"{LIST}{entry().pk}"
    fields = adjustment_form(olga, path, amount_usd="-0.000000000001", reason="Credit note 3")
    page = olga.post(f"{path}/adjust/", fields)
    assert "Spent of the budget “global”" in page
    for amount in ("$0.1", "$0.099999999999", "$10"):  # now, after, the limit
        assert f">{amount}</td>" in page
    assert not Adjustment.objects.exists()
    page = olga.post(f"{path}/adjust/", confirmed(olga, f"{path}/adjust/", fields))
    assert "Adjusted by -$0.000000000001." in page
    assert "$0.099999999999" in page  # the total
    made = Adjustment.objects.get()
    assert (made.amount_usd, made.reason, made.author) == (Decimal("-0.000000000001"), "Credit note 3", "olga")
    assert book.balance() == (Decimal("0.099999999999"), Decimal(0))
    assert LogEntry.objects.get().change_message == "Adjusted by -$0.000000000001: Credit note 3"
    assert "Credit note 3" in olga.get("accounting/adjustment/")


def test_an_adjustments_form_that_is_sent_twice_books_once(olga: Operator, book: Book) -> None:
    book.post(book.hold("0.5"), "0.1")
    path = f"{LIST}{entry().pk}"
    fields = confirmed(olga, f"{path}/adjust/", adjustment_form(olga, path, amount_usd="-0.1", reason="Credit note 3"))
    olga.post(f"{path}/adjust/", fields)
    assert "This form was sent twice. Its adjustment is on the books once." in olga.post(f"{path}/adjust/", fields)
    assert Adjustment.objects.count() == LogEntry.objects.count() == 1
    assert book.balance() == (Decimal(0), Decimal(0))


def test_more_than_the_entry_costs_is_not_given_back(olga: Operator, book: Book) -> None:
    book.post(book.hold("0.5"), "0.1")
    path = f"{LIST}{entry().pk}"
    fields = adjustment_form(olga, path, amount_usd="-99999999", reason="why")
    assert "The entry costs $0.1, adjustments included, and no more than that is given back." in olga.post(
        f"{path}/adjust/", fields
    )
    olga.post(f"{path}/adjust/", {**fields, "seen_total_usd": "0.1"})  # as if it had been confirmed
    assert not Adjustment.objects.exists()
    assert book.balance() == (Decimal("0.1"), Decimal(0))


def test_an_adjustment_that_was_confirmed_by_an_older_total_is_refused(olga: Operator, book: Book) -> None:
    book.post(book.hold("0.5"), "0.1")
    path = f"{LIST}{entry().pk}"
    mine, theirs = (
        confirmed(olga, f"{path}/adjust/", adjustment_form(olga, path, amount_usd="-0.05", reason="Credit note 3"))
        for _ in range(2)
    )
    olga.post(f"{path}/adjust/", theirs)
    page = olga.post(f"{path}/adjust/", mine)
    assert "it costs $0.05 now, not $0.1. Nothing was written." in page
    assert Adjustment.objects.count() == 1


def test_an_adjustment_far_above_what_was_held_is_said_to_be_so(olga: Operator, book: Book) -> None:
    book.post(book.hold("0.5"), "0.1")
    path = f"{LIST}{entry().pk}"
    for amount, is_far in (("5", False), ("5.01", True)):
        page = olga.post(f"{path}/adjust/", adjustment_form(olga, path, amount_usd=amount, reason="why"))
        assert ("more than 10 times what the entry cost and held" in page) is is_far
    assert not Adjustment.objects.exists()


def test_a_cost_far_above_the_hold_is_asked_about_before_it_resolves(olga: Operator, book: Book) -> None:
    book.hold("0.5")
    lose_worker(book)
    path, before = f"{LIST}{entry().pk}/resolve/", book.balance()
    fields = {"decision": "post", "cost_usd": "50", "reason": "Invoice 7"}
    page = olga.post(path, fields)
    assert "$50 is 100 times what was held ($0.5)." in page
    assert ">$50</td>" in page  # of the budget, after
    assert (entry().state, book.balance()) == ("unknown", before)
    olga.post(path, confirmed(olga, path, fields) | {"cost_usd": "51"})  # other than what was confirmed
    assert entry().state == "unknown"
    olga.post(path, confirmed(olga, path, fields))
    assert (entry().state, entry().cost_usd) == ("posted", Decimal(50))


@pytest.mark.parametrize(
    "fields",
    [{"amount_usd": "0", "reason": "why"}, {"amount_usd": "1", "reason": ""}, {"amount_usd": "", "reason": "why"}],
)
def test_an_adjustment_of_nothing_or_without_a_reason_is_refused(
    olga: Operator, book: Book, fields: dict[str, str]
) -> None:
    book.post(book.hold("0.5"), "0.1")
    olga.post(f"{LIST}{entry().pk}/adjust/", fields)
    assert not Adjustment.objects.exists()
    assert book.balance() == (Decimal("0.1"), Decimal(0))


def test_unsettled_entries_are_not_adjusted(olga: Operator, book: Book) -> None:
    book.hold("0.5")
    answer = olga.send(f"{LIST}{entry().pk}/adjust/", {"amount_usd": "1", "reason": "why"})
    assert answer.status_code == 403
    assert not Adjustment.objects.exists()


def test_an_operator_who_may_only_view_cannot_correct(olga: Operator, book: Book) -> None:
    book.hold("0.5", request_id="lost")
    lose_worker(book)
    viewer = Operator(User.objects.create_user("vera", is_staff=True))
    grant(viewer, "accounting.view_ledgerentry")
    path = f"{LIST}{entry().pk}"
    page = viewer.get(f"{path}/change/")
    assert "lost" in page
    assert "/resolve/" not in page
    assert viewer.send(f"{path}/resolve/", {"decision": "void", "reason": "why"}).status_code == 403
    viewer.send(
        LIST, {"action": "resolve_selected", "_selected_action": [entry().pk], "decision": "void", "reason": "x"}
    )
    assert entry().state == "unknown"


def test_an_operator_who_may_only_resolve_cannot_adjust(olga: Operator, book: Book) -> None:
    book.post(book.hold("0.5"), "0.1")
    clerk = Operator(User.objects.create_user("carl", is_staff=True))
    grant(clerk, "accounting.view_ledgerentry", "accounting.change_ledgerentry")
    answer = clerk.send(f"{LIST}{entry().pk}/adjust/", {"amount_usd": "1", "reason": "why"})
    assert answer.status_code == 403
    assert not Adjustment.objects.exists()


@pytest.mark.parametrize("path", ["no-such-id/change/", "no-such-id/resolve/", "no-such-id/adjust/"])
def test_the_page_of_an_unknown_entry_is_not_a_server_error(olga: Operator, path: str) -> None:
    assert olga.client.get(f"/admin/{LIST}{path}").status_code in (302, 403)
