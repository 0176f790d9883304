"""The documented fees of a provider's own tools count where a price does not say them, and nowhere else."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from accounting.pricing import PriceList
from accounting.usage import Meter, Tier
from routing.catalog import Alias, Catalog, Provider, Step
from routing.upstreams import price_map
from routing.upstreams.base import Deployment, Timeouts
from routing.upstreams.fees import is_documented, search_of, with_documented_fees

TOKENS_ALONE = PriceList.of({"standard": {"input": "3", "output": "9"}})


def search_usd(price: PriceList, qualifier: str = "") -> Decimal | None:
    return price.usd_per_unit(Meter.SEARCH, qualifier, Tier.STANDARD, 0)


@pytest.mark.parametrize(("model", "preview"), [("gpt-5", "0.01"), ("gpt-4o", "0.025")])
def test_a_search_at_openai_costs_its_documented_fee(model: str, preview: str) -> None:
    price = with_documented_fees(TOKENS_ALONE, model)
    assert search_usd(price) == search_usd(price, "medium") == Decimal("0.01")
    assert search_usd(price, search_of({"type": "web_search_preview", "search_context_size": "low"})) == Decimal(
        preview
    )


def test_a_price_that_says_a_fee_is_left_alone() -> None:
    said = PriceList.of({"standard": {"input": "3", "output": "9", "search": "0.5"}})
    assert with_documented_fees(said, "gpt-5") is said


@pytest.mark.parametrize(
    ("provider", "address", "documented"),
    [
        ("openai", "", True),
        ("openai", "https://api.openai.com/v1/", True),
        ("openai", "http://127.0.0.1:8000/v1", False),
        ("azure", "", False),
    ],
)
def test_the_fees_are_those_of_openais_own_address(provider: str, address: str, documented: bool) -> None:
    assert is_documented(provider, address) is documented


@pytest.mark.parametrize(
    ("tool", "qualifier"),
    [({"type": "web_search"}, ""), ({"type": "web_search", "search_context_size": "high"}, "high"), ("web_search", "")],
)
def test_a_search_is_named_by_its_tool(tool: object, qualifier: str) -> None:
    assert search_of(tool) == qualifier


@pytest.mark.parametrize(("model", "usd"), [("gpt-4o-search-preview", "0.025"), ("gpt-5-search-api", "0.01")])
def test_a_model_that_searches_by_itself_has_its_own_fee(model: str, usd: str) -> None:
    assert search_usd(with_documented_fees(TOKENS_ALONE, model)) == Decimal(usd)


def catalog_of_wildcard(base_url: str | None, price: PriceList | None) -> Catalog:
    provider = Provider("p", "openai", True, (), 0, 5, 1.0, 1.0)
    step = Step("*", None, provider, Deployment("p", "openai", "*", base_url, Timeouts()))
    prices = {} if price is None else {("p", "*"): ((datetime.min.replace(tzinfo=UTC), price),)}
    return Catalog(1, {"*": Alias("*", True, None, False, (step,), {})}, {}, (), prices)


@pytest.mark.parametrize(("model", "preview"), [("gpt-5", "0.01"), ("gpt-4o", "0.025")])
@pytest.mark.parametrize("written", [TOKENS_ALONE, None], ids=["the wildcard's", "litellm's"])
def test_a_wildcard_has_the_fees_of_the_model_that_it_stands_for(
    model: str, preview: str, written: PriceList | None
) -> None:
    price = catalog_of_wildcard(None, written).price("p", model, datetime.now(UTC))
    assert price is not None
    assert search_usd(price) == Decimal("0.01")
    if written is not None:
        assert search_usd(price, "preview") == Decimal(preview)


def test_a_wildcard_at_another_server_has_no_documented_fees() -> None:
    price = catalog_of_wildcard("http://127.0.0.1:8000/v1", TOKENS_ALONE).price("p", "gpt-5", datetime.now(UTC))
    assert price == TOKENS_ALONE


@pytest.mark.parametrize(
    ("model", "bands"),
    [
        ("text-embedding-3-small", {"standard": {"input": "0.02", "output": "0"}}),
        ("omni-moderation-latest", {"standard": {"input": "0", "output": "0"}}),
        ("dall-e-3", {"standard": {"image": "0.04"}}),
    ],
)
def test_a_model_that_does_not_answer_in_words_has_no_fee(model: str, bands: dict[str, dict[str, str]]) -> None:
    assert with_documented_fees(PriceList.of(bands), model) == PriceList.of(bands)


@pytest.mark.parametrize("model", ["gpt-5", "gpt-4o"])
def test_the_fee_is_told_to_clients_as_one_of_searches(model: str) -> None:
    said, _ = price_map.write(with_documented_fees(TOKENS_ALONE, model), "openai")
    assert set(said[price_map.SEARCHES].values()) == {Decimal("0.01")}
    assert "input_cost_per_query" not in said
