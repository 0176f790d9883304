"""A wrong price is corrected by adjustments: shown first, written with an author, and only once."""

from __future__ import annotations

from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from accounting.ledger import repricing
from accounting.models import Adjustment, LedgerEntry, Price
from accounting.pricing import PriceList
from accounting.usage import Tier, Usage
from tests.ledger.conftest import Book
from tests.prices import LONG_AGO, add_price

SONNET = ("anthropic", "claude-sonnet-4-6")


def reprice(*arguments: str) -> str:
    out = StringIO()
    call_command("reprice", *SONNET, "--since", "2020-01-01", *arguments, stdout=out)
    return out.getvalue()


def price(input_usd: str, output_usd: str) -> None:
    add_price(*SONNET, input=input_usd, output=output_usd)


def serve(book: Book, cost: str | None) -> LedgerEntry:
    hold = book.hold("0.5", request_id="req-1")
    usage = Usage(input_tokens=1_000_000, output_tokens=10_000)
    assert book.writer.settle(book.settlement(hold, book.attempt(cost, usage=usage)))
    return LedgerEntry.objects.get(pk=hold.entry_id)


def test_a_dry_run_shows_the_difference_and_writes_nothing(book: Book) -> None:
    book.budget("10")
    price("3", "15")
    serve(book, "0.31")  # charged at a tenth
    shown = reprice()
    assert "req-1  0.31 -> 3.15  (+2.84)" in shown
    assert "1 entries would be adjusted (--apply writes it), +2.84 USD in all" in shown
    assert not Adjustment.objects.exists()
    assert book.balance() == (Decimal("0.31"), Decimal(0))


def test_applying_adjusts_the_entry_and_its_budget_once(book: Book) -> None:
    book.budget("10")
    price("3", "15")
    serve(book, "0.31")
    arguments = ("--apply", "--author", "ada", "--reason", "the price was a tenth")
    assert "1 entries adjusted, +2.84 USD in all" in reprice(*arguments)
    made = Adjustment.objects.get()
    assert (made.amount_usd, made.author, made.reason) == (Decimal("2.84"), "ada", "the price was a tenth")
    assert book.balance() == (Decimal("3.15"), Decimal(0))
    assert book.rows("SELECT cost_usd, posted_usd, adjusted_usd FROM ledger") == [
        (Decimal("3.15"), Decimal("0.31"), Decimal("2.84"))
    ]
    assert "nothing to do" in reprice(*arguments)
    assert Adjustment.objects.count() == 1


def test_a_repricing_that_was_overtaken_leaves_the_entry_as_it_is(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once: the second found its difference before the first wrote."""
    book.budget("10")
    price("3", "15")
    serve(book, "0.31")
    found = list(repricing.differences(*SONNET, LONG_AGO, None))
    arguments = ("--apply", "--author", "ada", "--reason", "the price was a tenth")
    reprice(*arguments)
    monkeypatch.setattr(repricing, "differences", lambda *_: found)
    shown = reprice(*arguments)
    assert "left as it is: The entry was adjusted in the meantime: it costs $3.15 now, not $0.31." in shown
    assert Adjustment.objects.count() == 1
    assert book.balance() == (Decimal("3.15"), Decimal(0))
    assert book.rows("SELECT DISTINCT road, command FROM audit WHERE object LIKE 'adjustment%%'") == [
        ("command", "reprice")
    ]


def test_an_unpriced_entry_gets_its_cost_once_a_price_is_known(book: Book) -> None:
    book.budget("10", mode="soft")
    hold = book.hold(None)
    usage = Usage(input_tokens=1_000_000, output_tokens=0)
    assert book.writer.settle(book.settlement(hold, book.attempt(None, usage=usage)))
    assert book.rows("SELECT cost_usd FROM ledger") == [(None,)]
    price("3", "15")
    assert "unpriced -> 3  (+3)" in reprice("--apply", "--author", "ada", "--reason", "priced late")
    assert book.rows("SELECT cost_usd FROM ledger") == [(Decimal(3),)]
    assert book.balance() == (Decimal(3), Decimal(0))


def test_an_attempt_is_repriced_in_its_tier_and_with_all_that_it_consumed(book: Book) -> None:
    book.budget("10")
    rates = {
        "standard": {"input": "3", "output": "15", "search": "0.01", "search:high": "0.025"},
        "flex": {"input": "1.5"},
    }
    Price.objects.add(*SONNET, LONG_AGO, PriceList.of(rates), "operator")
    usage = Usage(
        input_tokens=1_000_000, output_tokens=10_000, quantities={"search:high": Decimal(2), "search:low": Decimal(1)}
    )
    hold = book.hold("2")
    assert book.writer.settle(book.settlement(hold, book.attempt("1", usage=usage, tier=Tier.FLEX)))
    # 1.5 a million in, 15 out (flex has no rate of its own), two dear searches and one that costs as any other
    assert "1 -> 1.71  (+0.71)" in reprice("--apply", "--author", "ada", "--reason", "searches were forgotten")
    assert book.balance() == (Decimal("1.71"), Decimal(0))


def test_an_attempt_that_consumed_what_has_no_rate_is_left_alone(book: Book) -> None:
    book.budget("10")
    price("3", "15")
    usage = Usage(input_tokens=1_000_000, quantities={"search": Decimal(1)})
    assert book.writer.settle(book.settlement(book.hold("5"), book.attempt("4", usage=usage)))
    assert "nothing to do" in reprice("--apply", "--author", "ada", "--reason", "none")
    assert not Adjustment.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--apply",), "--author and --reason"),
        (("--until", "yesterday"), "not a day or time"),
    ],
)
def test_wrong_arguments_are_explained_and_nothing_is_written(
    book: Book, arguments: tuple[str, ...], says: str
) -> None:
    book.budget("10")
    price("3", "15")
    serve(book, "0.31")
    with pytest.raises(CommandError, match=says):
        reprice(*arguments)
    assert not Adjustment.objects.exists()


def test_a_model_without_a_price_is_named(book: Book) -> None:
    book.budget("10")
    serve(book, "0.31")
    with pytest.raises(CommandError, match="No price is known for claude-sonnet-4-6 at anthropic"):
        reprice()
