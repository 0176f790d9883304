"""Prices in the admin: the past is read, the future is written."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User

from accounting.models import Price
from routing import catalog, defaults
from tests.admin.conftest import Operator, grant, version
from tests.ledger.conftest import Book

LIST = "accounting/price/"


def current() -> Price:
    return Price.objects.get(provider="openai", model="gpt-4o")


def test_a_new_price_counts_from_now_and_the_old_one_stays(operator: Operator) -> None:
    old = current()
    filled = operator.client.get(f"/admin/{LIST}{old.pk}/replace/")
    path = filled["Location"].removeprefix("/admin/")
    fields = operator.form(path)
    assert (fields["provider"], fields["model"], fields["cached_input_usd_per_mtok"]) == (
        "openai", "gpt-4o", "1.250000000000",
    )  # fmt: skip
    operator.post(path, fields, output_usd_per_mtok="12.5", source="invoice of November")
    new = Price.objects.filter(provider="openai").latest("effective_from")
    assert (new.input_usd_per_mtok, new.output_usd_per_mtok) == (Decimal("2.5"), Decimal("12.5"))
    assert timedelta(0) <= datetime.now(UTC) - new.effective_from < timedelta(minutes=1)
    now = catalog.fresh().price("openai", "gpt-4o", datetime.now(UTC))
    before = catalog.fresh().price("openai", "gpt-4o", new.effective_from - timedelta(seconds=1))
    assert now is not None
    assert before is not None
    assert (now.base.output_usd_per_mtok, before.base.output_usd_per_mtok) == (Decimal("12.5"), Decimal(10))


def test_a_price_that_has_been_in_force_is_read_only_and_the_page_says_what_to_do(operator: Operator) -> None:
    price, before = current(), version()
    page = operator.get(f"{LIST}{price.pk}/change/")
    assert "This price has been in force, so it stays as it is." in page
    assert 'name="output_usd_per_mtok"' not in page
    answer = operator.send(f"{LIST}{price.pk}/change/", {"output_usd_per_mtok": "99"})
    assert answer.status_code == 403
    assert current().output_usd_per_mtok == Decimal(10)
    assert version() == before


def test_a_future_price_can_be_changed(operator: Operator) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    price = Price.objects.create(
        provider="openai", model="gpt-4o", effective_from=tomorrow, input_usd_per_mtok=1, output_usd_per_mtok=2
    )
    page = f"{LIST}{price.pk}/change/"
    operator.post(page, operator.form(page), output_usd_per_mtok="3")
    price.refresh_from_db()
    assert price.output_usd_per_mtok == Decimal(3)
    assert "future" in operator.get(LIST)


def test_half_a_long_context_price_is_refused(operator: Operator) -> None:
    before = version()
    page = operator.post(
        f"{LIST}add/", operator.form(f"{LIST}add/"), provider="openai", model="gpt-5", input_usd_per_mtok="1",
        output_usd_per_mtok="2", long_input_usd_per_mtok="2",
    )  # fmt: skip
    assert "Long context needs its threshold, its input and its output rate." in page
    assert version() == before


def test_a_price_for_a_provider_that_is_not_there_is_refused(operator: Operator) -> None:
    before = version()
    page = operator.post(
        f"{LIST}add/", operator.form(f"{LIST}add/"), provider="openia", model="gpt-5", input_usd_per_mtok="1",
        output_usd_per_mtok="2",
    )  # fmt: skip
    assert "Select a valid choice. openia is not one of the available choices." in page
    assert version() == before


def test_a_price_that_was_charged_is_not_deleted(book: Book) -> None:
    defaults.ensure()
    book.post(book.hold("0.5"), "0.25")
    operator, before = Operator(User.objects.create_superuser("olga")), version()
    price = Price.objects.get(model="claude-sonnet-4-6")
    page = operator.post(f"{LIST}{price.pk}/delete/", {"post": "yes"})
    assert "has been charged: the ledger has requests of this model. Add a new price instead." in page
    page = operator.post(LIST, {"action": "delete_selected", "_selected_action": [price.pk], "post": "yes"})
    assert "has been charged" in page
    assert Price.objects.filter(pk=price.pk).exists()
    assert version() == before


def test_a_price_that_nobody_paid_is_deleted(operator: Operator) -> None:
    operator.post(f"{LIST}{current().pk}/delete/", {"post": "yes"})
    assert not Price.objects.filter(model="gpt-4o").exists()


# --- litellm's price map -------------------------------------------------------------------------------------


def offered(page: str) -> list[str]:
    """The ticks of the page, one a price that differs."""
    return re.findall(r'name="change" value="([0-9a-f]{64})"', page)


def outdate(model: str = "gpt-4o", rate: str = "3") -> None:
    Price.objects.create(
        provider="openai", model=model, effective_from=datetime.now(UTC) - timedelta(minutes=1),
        input_usd_per_mtok=rate, output_usd_per_mtok=10,
    )  # fmt: skip


def test_the_import_shows_the_difference_and_writes_nothing(operator: Operator) -> None:
    assert "Compare with litellm" in operator.get(LIST)
    Price.objects.filter(provider="google", model="gemini-2.5-pro").delete()
    outdate()
    before = version()
    page = operator.get(f"{LIST}import/")
    assert "input 3 → 2.5" in page
    assert "gemini-2.5-pro (unpriced so far)" in page
    assert len(offered(page)) == 2
    assert version() == before


def test_what_is_ticked_is_taken_over_from_now_and_it_is_known_who_did_it(operator: Operator) -> None:
    outdate()
    (tick,) = offered(operator.get(f"{LIST}import/"))
    page = operator.post(f"{LIST}import/", {"change": [tick]})
    assert "1 price(s) written" in page
    new = Price.objects.filter(provider="openai", model="gpt-4o").latest("effective_from")
    assert (new.input_usd_per_mtok, new.source) == (Decimal("2.5"), "litellm price map")
    (entry,) = LogEntry.objects.filter(object_id=str(new.pk), user=operator.user)
    assert "litellm" in entry.get_change_message()
    again = operator.get(f"{LIST}import/")
    assert offered(again) == []
    assert "There is nothing to do." in again


def test_a_tick_is_for_the_rates_that_were_shown(operator: Operator) -> None:
    outdate()
    (tick,) = offered(operator.get(f"{LIST}import/"))
    outdate(rate="4")  # by somebody else, meanwhile
    before = version()
    assert "Prices changed since" in operator.post(f"{LIST}import/", {"change": [tick]})
    assert "nothing was written" in operator.post(f"{LIST}import/", {})
    assert version() == before


def test_without_the_right_to_add_prices_there_is_no_import(newcomer: Operator) -> None:
    grant(newcomer, "accounting.view_price")
    before = version()
    assert "Compare with litellm" not in newcomer.get(LIST)
    assert newcomer.client.get(f"/admin/{LIST}import/").status_code == 403
    assert newcomer.client.post(f"/admin/{LIST}import/", {"change": ["x"]}).status_code == 403
    assert version() == before
