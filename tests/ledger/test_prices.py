"""A price of plain tokens is written in one line, as a script does it, and read in one word."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError

from accounting.models import Price, PriceRate
from accounting.pricing import PriceList
from routing import catalog
from tests.prices import LONG_AGO

PLAIN: dict[str, Any] = {
    "provider": "openai",
    "model": "gpt-5",
    "effective_from": LONG_AGO,
    "input_usd_per_mtok": Decimal("1.25"),
    "output_usd_per_mtok": Decimal(10),
}
#: The plugin for mypy knows the columns of a model alone.
create: Callable[..., Price] = Price.objects.create
pytestmark = pytest.mark.django_db(transaction=True)


def test_a_price_is_made_with_its_rates_and_counts_at_once() -> None:
    price = create(**PLAIN)
    assert price.source == "operator"
    assert price.price_list() == PriceList.of({"standard": {"input": "1.25", "output": "10"}})
    assert catalog.fresh().price("openai", "gpt-5", LONG_AGO) == price.price_list()


def test_its_plain_rates_are_read_by_name_and_no_other_stands_in_for_them() -> None:
    price = create(**PLAIN)
    assert (price.input_usd_per_mtok, price.output_usd_per_mtok) == (Decimal("1.25"), Decimal(10))
    others = {"standard": {"cached_input": "1"}, "standard above 9": {"input": "2"}, "priority": {"output": "3"}}
    odd = Price.objects.add("openai", "odd", LONG_AGO, PriceList.of(others), "operator")
    assert (odd.input_usd_per_mtok, odd.output_usd_per_mtok) == (None, None)


def test_a_free_model_has_rates_of_nothing_and_a_rate_that_is_not_named_is_not_there() -> None:
    free = create(**PLAIN | {"input_usd_per_mtok": Decimal(0), "output_usd_per_mtok": Decimal(0)})
    assert (free.input_usd_per_mtok, free.output_usd_per_mtok) == (Decimal(0), Decimal(0))
    half = create(provider="openai", model="half", effective_from=LONG_AGO, input_usd_per_mtok=Decimal(1))
    assert (half.input_usd_per_mtok, half.output_usd_per_mtok) == (Decimal(1), None)


def test_a_rate_that_cannot_be_leaves_no_price() -> None:
    prices, rates = Price.objects.count(), PriceRate.objects.count()
    with pytest.raises(IntegrityError):
        create(**PLAIN | {"output_usd_per_mtok": Decimal(-1)})
    assert (Price.objects.count(), PriceRate.objects.count()) == (prices, rates)


def test_any_meter_of_tokens_may_be_named_and_no_other() -> None:
    price = create(**PLAIN, cached_input_usd_per_mtok=Decimal("0.125"), reasoning_usd_per_mtok=None)
    assert price.price_list() == PriceList.of({"standard": {"input": "1.25", "output": "10", "cached_input": "0.125"}})
    before = Price.objects.count()
    for name in ("image_usd_per_mtok", "inputs_usd_per_mtok"):
        with pytest.raises(ValueError, match=name.removesuffix("_usd_per_mtok")):
            create(provider="openai", model="odd", effective_from=LONG_AGO, **{name: Decimal(1)})
    assert Price.objects.count() == before
