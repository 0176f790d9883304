"""Prices in the admin: the past is read, the future is written."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User

from accounting.models import Price
from accounting.pricing import PriceList
from accounting.usage import Meter
from routing import catalog, defaults
from routing.upstreams.fees import with_documented_fees
from tests.admin.conftest import Operator, grant, version
from tests.ledger.conftest import Book
from tests.prices import add_price, rate

LIST = "accounting/price/"


def current() -> Price:
    return Price.objects.get(provider="openai", model="gpt-4o")


def row(fields: dict[str, Any], **wanted: object) -> str:
    """The prefix of the first row of rates that has these values."""
    rows = (name.removesuffix("-meter") for name in fields if re.fullmatch(r"rates-\d+-meter", name))
    return next(
        prefix for prefix in rows if all(str(fields.get(f"{prefix}-{name}")) == value for name, value in wanted.items())
    )


def another(fields: dict[str, Any], **values: str) -> dict[str, Any]:
    """The fields with one more row of rates, as the browser's “Add another” makes it."""
    number = int(fields["rates-TOTAL_FORMS"])
    row = {"tier": "standard", "above_input_tokens": "0", "qualifier": "", **values}
    return {
        **fields,
        "rates-TOTAL_FORMS": str(number + 1),
        **{f"rates-{number}-{name}": value for name, value in row.items()},
    }


def filled(operator: Operator, **amounts: str) -> dict[str, Any]:
    """The form of a new price of gpt-5, with amounts in the rows that it offers."""
    fields = operator.form(f"{LIST}add/") | {"provider": "openai", "model": "gpt-5"}
    return fields | {f"{row(fields, meter=meter)}-usd_per_unit": usd for meter, usd in amounts.items()}


def test_a_new_price_counts_from_now_and_the_old_one_stays(operator: Operator) -> None:
    old = current()
    path = operator.client.get(f"/admin/{LIST}{old.pk}/replace/")["Location"].removeprefix("/admin/")
    fields = operator.form(path)
    assert (fields["provider"], fields["model"]) == ("openai", "gpt-4o")
    assert fields[f"{row(fields, meter='cached_input', tier='priority')}-usd_per_unit"] == Decimal("2.125")
    output = row(fields, meter="output", tier="standard")
    operator.post(path, fields | {f"{output}-usd_per_unit": "12.5"}, source="invoice of November")
    new = Price.objects.filter(provider="openai").latest("effective_from")
    before, after = old.price_list().rates, new.price_list().rates
    changed = [(a.words, a.usd_per_unit, b.usd_per_unit) for a, b in zip(before, after, strict=True) if a != b]
    assert changed == [("output", Decimal(10), Decimal("12.5"))]
    assert timedelta(0) <= datetime.now(UTC) - new.effective_from < timedelta(minutes=1)
    snapshot = catalog.fresh()
    for at, price in ((datetime.now(UTC), new), (new.effective_from - timedelta(seconds=1), old)):
        assert snapshot.price("openai", "gpt-4o", at) == with_documented_fees(price.price_list(), "gpt-4o")


def test_a_price_that_has_been_in_force_is_read_only_and_the_page_says_what_to_do(operator: Operator) -> None:
    price, before = current(), version()
    page = operator.get(f"{LIST}{price.pk}/change/")
    assert "This price has been in force, so it stays as it is." in page
    assert not [name for name in re.findall(r'name="([^"]*)"', page) if name.endswith("usd_per_unit")]
    assert re.search(r">\s*2\.125\s*<", page)
    answer = operator.send(f"{LIST}{price.pk}/change/", {"rates-TOTAL_FORMS": "0", "rates-INITIAL_FORMS": "0"})
    assert answer.status_code == 403
    assert current().price_list() == price.price_list()
    assert version() == before


def test_the_rates_of_a_future_price_can_be_changed_added_and_removed(operator: Operator) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    price = add_price("openai", "gpt-4o", tomorrow, input="1", output="2", cached_input="0.1")
    before = version()
    path = f"{LIST}{price.pk}/change/"
    fields = another(operator.form(path), meter="input", usd_per_unit="0.5", tier="flex", above_input_tokens="200000")
    output, cached = row(fields, meter="output"), row(fields, meter="cached_input")
    operator.post(path, fields | {f"{output}-usd_per_unit": "3", f"{cached}-DELETE": "on"})
    price = Price.objects.get(pk=price.pk)
    assert price.price_list() == PriceList.of(
        {"standard": {"input": "1", "output": "3"}, "flex above 200000": {"input": "0.5"}}
    )
    assert version() != before  # workers learn of it
    assert "future" in operator.get(LIST)


def test_offered_rows_without_an_amount_are_ignored(operator: Operator) -> None:
    fields = filled(operator, input="1", output="2")
    operator.post(f"{LIST}add/", fields)
    price = Price.objects.get(model="gpt-5")
    assert price.price_list() == PriceList.of({"standard": {"input": "1", "output": "2"}})


SECOND = "There is a rate for this meter, tier, threshold and kind already"


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"meter": "input", "usd_per_unit": "3"}, SECOND),
        ({"meter": "reasoning", "usd_per_unit": "-1"}, "greater than or equal to 0"),
        ({"meter": "smell", "usd_per_unit": "1"}, "Select a valid choice. smell is not one of the available choices."),
        ({"meter": "reasoning", "usd_per_unit": "1", "tier": "night"}, "Select a valid choice. night is not one"),
        ({"meter": "reasoning", "usd_per_unit": "1", "qualifier": "deep"}, "Tokens are of one kind: leave this empty."),
        ({"meter": "image", "usd_per_unit": ""}, "Say the amount, or remove this row."),
        ({"meter": "input", "usd_per_unit": "", "tier": "batch"}, "Say the amount, or remove this row."),
        ({"meter": "image", "usd_per_unit": "1", "above_input_tokens": "-5"}, "greater than or equal to 0"),
    ],
)
def test_a_wrong_rate_is_refused_in_its_row(operator: Operator, values: dict[str, str], says: str) -> None:
    before = version()
    page = operator.post(f"{LIST}add/", another(filled(operator, input="1", output="2"), **values))
    assert says in page
    assert version() == before


def test_a_price_without_any_rate_is_refused(operator: Operator) -> None:
    before = version()
    page = operator.post(f"{LIST}add/", filled(operator))
    assert "A price needs at least one rate." in page
    assert version() == before


def test_a_price_without_output_for_a_model_that_chats_is_refused(operator: Operator) -> None:
    before = version()
    page = operator.post(f"{LIST}add/", filled(operator, input="1"), model="gpt-4o")
    assert "The alias “gpt-4o” chats with this model, so its price needs a rate for input and for output" in page
    assert version() == before


def test_a_model_that_nobody_chats_with_may_have_a_price_of_units_alone(operator: Operator) -> None:
    operator.post(f"{LIST}add/", another(filled(operator), meter="input_character", usd_per_unit="15"), model="tts-1")
    assert rate(Price.objects.get(model="tts-1"), Meter.INPUT_CHARACTER) == 15
    assert "tts-1" in operator.get(LIST)


def test_an_operator_who_may_only_view_prices_sees_rates_and_cannot_change_them(newcomer: Operator) -> None:
    grant(newcomer, "accounting.view_price")
    price = add_price("openai", "gpt-4o", datetime.now(UTC) + timedelta(days=1), input="7.25", output="2")
    before, path = version(), f"{LIST}{price.pk}/change/"
    page = newcomer.get(path)
    assert "7.25" in page
    assert 'name="rates-0-usd_per_unit"' not in page
    assert newcomer.send(path, {"rates-0-usd_per_unit": "9"}).status_code == 403
    assert version() == before


def test_a_price_for_a_provider_that_is_not_there_is_refused(operator: Operator) -> None:
    before = version()
    page = operator.post(f"{LIST}add/", filled(operator, input="1", output="2"), provider="openia")
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
    """The ticks of the page, one for each price that differs."""
    return re.findall(r'name="change" value="([0-9a-f]{64})"', page)


def outdate(model: str = "gpt-4o", input_usd: str = "3") -> None:
    add_price("openai", model, datetime.now(UTC) - timedelta(minutes=1), input=input_usd, output="10")


def test_the_import_shows_the_difference_and_writes_nothing(operator: Operator) -> None:
    assert "Compare with litellm" in operator.get(LIST)
    Price.objects.filter(provider="google", model="gemini-2.5-pro").delete()
    outdate()
    before = version()
    page = operator.get(f"{LIST}import/")
    assert "input 3 → 2.5" in page
    assert "input, batch none → 1.25" in page
    assert "gemini-2.5-pro (unpriced so far)" in page
    assert len(offered(page)) == 2
    assert version() == before


def test_ticked_prices_are_written_from_now_with_the_operator_s_name(operator: Operator) -> None:
    outdate()
    (tick,) = offered(operator.get(f"{LIST}import/"))
    page = operator.post(f"{LIST}import/", {"change": [tick]})
    assert "1 price(s) written" in page
    new = Price.objects.filter(provider="openai", model="gpt-4o").latest("effective_from")
    assert (rate(new), new.source) == (Decimal("2.5"), "litellm price map")
    (entry,) = LogEntry.objects.filter(object_id=str(new.pk), user=operator.user)
    assert "litellm" in entry.get_change_message()
    again = operator.get(f"{LIST}import/")
    assert offered(again) == []
    assert "There is nothing to do." in again


def test_a_tick_is_for_the_rates_that_were_shown(operator: Operator) -> None:
    outdate()
    (tick,) = offered(operator.get(f"{LIST}import/"))
    outdate(input_usd="4")  # another operator changes it meanwhile
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
