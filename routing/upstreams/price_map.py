"""litellm's price map. It comes with the package, so nothing is downloaded. Only this module uses the map's names.

The map's prices are floats for a token, an image or a second. ``tests/unit/test_price_map.py`` lists what the map has
and our prices do not, with reasons.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from typing import Any

from accounting.pricing import MEASURES_OF_INPUT, PriceList, Rate
from accounting.usage import Meter, Tier
from routing.upstreams import litellm_import
from routing.upstreams.providers import PROVIDERS

SOURCE = "litellm price map"

_NAMES: Mapping[str, tuple[Meter, str]] = {
    "input_cost_per_token": (Meter.INPUT, ""),
    "cache_read_input_token_cost": (Meter.CACHED_INPUT, ""),
    "cache_read_input_audio_token_cost": (Meter.CACHED_AUDIO_INPUT, ""),
    "cache_read_input_image_token_cost": (Meter.CACHED_IMAGE_INPUT, ""),
    "cache_creation_input_token_cost": (Meter.CACHE_WRITE, ""),
    # OpenAI's long lifetime is twelve hours. It comes first, so that a price is written under the name of an hour.
    "cache_creation_input_token_cost_above_12hr": (Meter.CACHE_WRITE_1H, ""),
    "cache_creation_input_token_cost_above_1hr": (Meter.CACHE_WRITE_1H, ""),
    "input_cost_per_audio_token": (Meter.AUDIO_INPUT, ""),
    "input_cost_per_image_token": (Meter.IMAGE_INPUT, ""),
    "output_cost_per_token": (Meter.OUTPUT, ""),
    "output_cost_per_reasoning_token": (Meter.REASONING, ""),
    "output_cost_per_audio_token": (Meter.AUDIO_OUTPUT, ""),
    "output_cost_per_image_token": (Meter.IMAGE_OUTPUT, ""),
    "output_cost_per_image": (Meter.IMAGE, ""),
    "input_cost_per_image": (Meter.INPUT_IMAGE, ""),
    "input_cost_per_second": (Meter.INPUT_SECOND, ""),
    "input_cost_per_audio_per_second": (Meter.INPUT_SECOND, "audio"),
    "input_cost_per_video_per_second": (Meter.INPUT_SECOND, "video"),
    "output_cost_per_second": (Meter.OUTPUT_SECOND, ""),
    "output_cost_per_video_per_second": (Meter.OUTPUT_SECOND, "video"),
    "input_cost_per_character": (Meter.INPUT_CHARACTER, ""),
    "output_cost_per_character": (Meter.OUTPUT_CHARACTER, ""),
    "input_cost_per_query": (Meter.SEARCH, ""),
    "ocr_cost_per_page": (Meter.PAGE, ""),
    "annotation_cost_per_page": (Meter.PAGE, "annotated"),
    "google_maps_grounding_cost_per_query": (Meter.TOOL_CALL, "google_maps"),
    "code_interpreter_cost_per_session": (Meter.TOOL_CALL, "code_interpreter"),
}
#: Names that end in a size. The size is the qualifier: ``output_cost_per_image_4K``, ``output_cost_per_second_1080p``.
_SIZED = {"output_cost_per_image": r"0\.5K|[124]K|\d{3,4}", "output_cost_per_second": r"\d{3,4}p|[24]k"}
_TIERS = {
    "": Tier.STANDARD,
    "_flex": Tier.FLEX,
    "_priority": Tier.PRIORITY,
    "_ultrafast": Tier.ULTRA,
    "_batches": Tier.BATCH,
}
_NAME = re.compile(
    rf"(?P<name>{'|'.join(_NAMES)}|{'|'.join(f'{name}_(?:{sizes})' for name, sizes in _SIZED.items())})"
    rf"(?:_above_(?P<above>\d+)(?P<thousands>k?)_tokens)?(?P<tier>{'|'.join(filter(None, _TIERS))})?"
)
#: An object with prices for three sizes of a search's context. litellm takes medium when a request names no size.
SEARCHES = "search_context_cost_per_query"
_SEARCH_SIZES = ("low", "medium", "high")
#: An entry for a size of a model's images: ``high/1024-x-1536/gpt-image-1``. The provider may come before or after it.
_SIZED_MODEL = re.compile(r"(?:(?P<quality>[a-z]+)/)?(?P<width>\d+)-x-(?P<height>\d+)/(?P<model>.+)")
#: Providers whose higher rates begin *at* the threshold. litellm has the list in its code, not in the map
#: (``_INCLUSIVE_THRESHOLD_PROVIDERS``).
_INCLUSIVE = frozenset({"xai"})
#: The share of an input token's price that a cached token costs, at providers whose map entries may leave it out.
#: litellm has these in its code, too (``cache_pricing``).
_CACHED_SHARE = {"fireworks_ai": Decimal("0.5")}


#: Modes whose models are not billed as a chat is, by input and output.
_OF_THEIR_OWN = frozenset({"image_generation", "image_edit", "moderation", "rerank"})

#: What litellm lets stand between a provider and its model: by which of its APIs the model is asked, and where it is.
_ROUTE = re.compile(
    r"(?:converse|converse_like|invoke|responses|global|global-standard|eu|us|[a-z]{2}(?:-gov)?-[a-z]+-\d)/"
)
#: Before the name of a model of Bedrock: in which regions it may be answered.
_REGIONS = re.compile(r"(?:us|us-gov|eu|apac|au|ca|jp|global)\.")


def costs_of(litellm_provider: str, model: str) -> Mapping[str, Any]:
    """The map's entry for a provider's model; empty when the model is not in the map.

    The map names a model with its provider (``gemini/gemini-2.5-pro``) or, for the oldest providers, without it.
    litellm takes off a route (``converse/…``) and a region for which the map has no entry of its own, and so do we.
    """
    prices = litellm_import.load().model_cost
    for name in _names_of(litellm_provider, model):
        entry: Mapping[str, Any] | None = prices.get(f"{litellm_provider}/{name}") or prices.get(name)
        if entry is not None and _provider_of(entry).startswith(litellm_provider):
            return entry
    return {}


def _provider_of(entry: Mapping[str, Any]) -> str:
    """litellm has a name of its own for OpenAI's models that only complete a text."""
    return str(entry.get("litellm_provider", "")).removeprefix("text-completion-")


def _names_of(litellm_provider: str, model: str) -> Iterator[str]:
    yield model
    while found := _ROUTE.match(model):
        model = model[found.end() :]
        yield model
    if litellm_provider.startswith("bedrock") and (found := _REGIONS.match(model)):
        yield model[found.end() :]


@lru_cache(maxsize=4096)
def limits_of(litellm_provider: str, model: str) -> tuple[int | None, int | None]:
    """The most tokens that the model says, and the most that it reads; None: the map does not know."""
    entry = costs_of(litellm_provider, model)
    most_output, most_input = entry.get("max_output_tokens"), entry.get("max_input_tokens")
    return (
        most_output if isinstance(most_output, int) and most_output > 0 else None,
        most_input if isinstance(most_input, int) and most_input > 0 else None,
    )


def mode_of(litellm_provider: str, model: str) -> str:
    """What the model is for, in litellm's words: ``chat``, ``embedding``, …; empty when the map does not know it."""
    return str(costs_of(litellm_provider, model).get("mode") or "")


def chats_too(litellm_provider: str, model: str) -> bool:
    """Whether a model that makes pictures is asked for them in a chat, too."""
    return "/v1/chat/completions" in (costs_of(litellm_provider, model).get("supported_endpoints") or ())


def abilities_of(litellm_provider: str, model: str) -> Mapping[str, bool]:
    """What the map says that the model can or cannot do: ``supports_vision`` and the like."""
    entry = costs_of(litellm_provider, model)
    return {name: value for name, value in entry.items() if name.startswith("supports_") and isinstance(value, bool)}


def provider_of(model: str) -> str:
    """litellm's provider of a model that is named without a provider; empty when the map does not know the model."""
    return _provider_of(litellm_import.load().model_cost.get(model, {}))


def is_litellm_provider(name: str) -> bool:
    """Whether litellm has a provider of this name, for chat or for anything else."""
    return name in {str(getattr(known, "value", known)) for known in litellm_import.load().provider_list}


def price_of(litellm_provider: str, model: str) -> PriceList | None:
    """The list price of a provider's model, its images of all sizes included; None when the map does not have it, and
    when the model chats and is billed by something else than its tokens (:func:`chat_price`)."""
    entry = costs_of(litellm_provider, model)
    listed = read(entry, litellm_provider)
    if listed is not None and entry.get("mode") == "chat" and _is_billed_otherwise(entry, listed):
        return None
    return _with_sizes(listed, litellm_provider, model)


def _with_sizes(listed: PriceList | None, litellm_provider: str, model: str) -> PriceList | None:
    rates = {rate.place: rate for rate in _image_sizes(litellm_provider, model)}
    rates |= {} if listed is None else {rate.place: rate for rate in listed.rates}
    return PriceList(tuple(rates.values())) if rates else None


@lru_cache(maxsize=4096)
def chat_price_of(litellm_provider: str, model: str) -> PriceList | None:
    """The list price of a provider's model in a chat; the same object each time. None when the map does not know it."""
    return chat_price(costs_of(litellm_provider, model), litellm_provider)


def chat_models_of(litellm_provider: str) -> Iterator[str]:
    """The models of a provider that chat and whose price is known, by their names at the provider."""
    prefix = f"{litellm_provider}/"
    for name, entry in litellm_import.load().model_cost.items():
        model = name.removeprefix(prefix)
        is_its = str(entry.get("litellm_provider", "")).startswith(litellm_provider)
        is_chat = str(entry.get("mode") or "chat") in ("chat", "responses")
        if is_its and is_chat and costs_of(litellm_provider, model) is entry and chat_price_of(litellm_provider, model):
            yield model


def continues_prefill(litellm_provider: str, model: str) -> bool:
    """Whether the model continues an assistant message at the end of the request, as far as litellm knows.

    Only for providers where the message alone means that. OpenAI's models take it for an earlier turn. Mistral,
    DeepSeek and Moonshot require a special field or address.
    """
    row = PROVIDERS.get(litellm_provider)
    if row is None or row.prefill != "message":
        return False
    return bool(costs_of(litellm_provider, model).get("supports_assistant_prefill"))


# --- the names of prices --------------------------------------------------------------------------------------------


def is_price(name: str) -> bool:
    """Whether a name in the map, or in ``litellm_params``, is a price that we take over."""
    return name == SEARCHES or _NAME.fullmatch(name) is not None


def unit_size(name: str) -> int:
    """How many of litellm's units make one of our units."""
    return 1 if name == SEARCHES else _meter(name)[0].unit_size


def read(entry: Mapping[str, Any], litellm_provider: str) -> PriceList | None:
    """The price in an entry of the map, or in the costs of a ``config.yaml``; None when it has no price at all."""
    rates = {rate.place: rate for rate in (*_ranges(entry), *_named(entry, litellm_provider), *_searches(entry))}
    _discount_cached(rates, litellm_provider)
    _bill_text_as_images(rates)
    _count_images_made(rates, str(entry.get("mode") or ""))
    _bill_seconds_heard(rates, str(entry.get("mode") or ""))
    _add_fast_mode(rates, entry)
    return PriceList(tuple(rates.values())) if rates else None


def chat_price(entry: Mapping[str, Any], litellm_provider: str) -> PriceList | None:
    """As :func:`read`; None when the entry says neither what the tokens of a chat cost, nor what the seconds or
    characters of a model of sound do. Tokens for nothing beside any other cost mean that the model is billed by
    something else: that is unpriced, and not free."""
    prices = read(entry, litellm_provider)
    rates = {} if prices is None else prices.rates_of(Tier.STANDARD, 0)
    if prices is not None and Meter.INPUT not in rates and any(rates.get(meter) for meter in MEASURES_OF_INPUT):
        return prices
    if prices is None or Meter.INPUT not in rates or Meter.OUTPUT not in rates:
        return None
    return None if _is_billed_otherwise(entry, prices) else prices


def price_in(entry: Mapping[str, Any], litellm_provider: str, model: str) -> PriceList | None:
    """The price in an entry, whatever the model is for; None when it does not say what all of it costs."""
    if str(entry.get("mode") or "") not in _OF_THEIR_OWN:
        return chat_price(entry, litellm_provider)
    return _with_sizes(read(entry, litellm_provider), litellm_provider, model)


def _is_billed_otherwise(entry: Mapping[str, Any], prices: PriceList) -> bool:
    """Whether tokens cost nothing because a clip, a picture or a request does. A fee for a search is beside that."""
    usd = {rate.place: rate.usd_per_unit for rate in prices.rates if rate.meter not in (Meter.SEARCH, Meter.TOOL_CALL)}
    if any(rate.usd_per_unit for rate in prices.rates if rate.meter in (Meter.INPUT, Meter.OUTPUT)):
        return False
    return any(usd.values()) or any(
        "cost" in name and not is_price(name) and isinstance(value, int | float | Decimal) and value > 0
        for name, value in entry.items()
    )


def write(prices: PriceList, litellm_provider: str) -> tuple[dict[str, Any], list[Rate]]:
    """The price under litellm's names, in USD per litellm's unit; and the rates for which it has no name."""
    said: dict[str, Any] = {}
    unsaid = []
    searches = _search_sizes(prices)
    if searches:
        said[SEARCHES] = searches
    for rate in prices.rates:
        if searches and _is_of_search_context(rate):
            continue
        name = _name_of(rate, litellm_provider)
        if name is None:
            unsaid.append(rate)
        else:
            said[name] = rate.usd_per_unit / rate.meter.unit_size
    return said, unsaid


def _named(entry: Mapping[str, Any], litellm_provider: str) -> Iterator[Rate]:
    for name, value in entry.items():
        found = _NAME.fullmatch(name)
        if found is None or value is None:
            continue
        meter, qualifier = _meter(name)
        above = int(found["above"] or 0) * (1000 if found["thousands"] else 1)
        if above and litellm_provider in _INCLUSIVE:
            above -= 1
        yield Rate(meter, _exact(value) * meter.unit_size, qualifier, _TIERS[found["tier"] or ""], above)


def _ranges(entry: Mapping[str, Any]) -> Iterator[Rate]:
    """``tiered_pricing``: a list of prices, each for a range of input tokens.

    A meter that a range does not name costs as that range's input or output. So when one range names a meter, every
    range gets a rate for it.
    """
    ranges = [
        found for found in entry.get("tiered_pricing") or () if "range" in found and "input_cost_per_token" in found
    ]
    names = dict.fromkeys(name for found in ranges for name in found if name in _NAMES)
    for found in ranges:
        for name in names:
            meter, qualifier = _NAMES[name]
            total = "output_cost_per_token" if name.startswith("output") else "input_cost_per_token"
            value = found.get(name, found.get(total))
            if value is not None:
                yield Rate(meter, _exact(value) * meter.unit_size, qualifier, above_input_tokens=int(found["range"][0]))


def _searches(entry: Mapping[str, Any]) -> Iterator[Rate]:
    costs = entry.get(SEARCHES)
    if not isinstance(costs, Mapping):
        return
    sizes = {size: costs.get(f"search_context_size_{size}") for size in _SEARCH_SIZES}
    usd = {size: _exact(value) for size, value in sizes.items() if value is not None}
    if "medium" in usd:
        yield Rate(Meter.SEARCH, usd["medium"])
    if len(set(usd.values())) > 1 or "medium" not in usd:
        yield from (Rate(Meter.SEARCH, amount, size) for size, amount in usd.items())


def _discount_cached(rates: dict[Any, Rate], litellm_provider: str) -> None:
    plain, cached = Rate(Meter.INPUT, Decimal(0)).place, Rate(Meter.CACHED_INPUT, Decimal(0)).place
    if litellm_provider in _CACHED_SHARE and plain in rates and cached not in rates:
        rates[cached] = Rate(Meter.CACHED_INPUT, rates[plain].usd_per_unit * _CACHED_SHARE[litellm_provider])


def _add_fast_mode(rates: dict[Any, Rate], entry: Mapping[str, Any]) -> None:
    """Anthropic's fast mode: the map says how many times the standard rates of its tokens it costs."""
    times = (entry.get("provider_specific_entry") or {}).get("fast")
    if times is None:
        return
    for rate in list(rates.values()):
        if rate.meter.is_tokens and rate.tier is Tier.STANDARD:
            fast = replace(rate, usd_per_unit=rate.usd_per_unit * _exact(times), tier=Tier.ULTRA)
            rates.setdefault(fast.place, fast)


def _bill_text_as_images(rates: dict[Any, Rate]) -> None:
    """A model that makes images may have only one output price, for image tokens. litellm bills its text with it."""
    image, text = Rate(Meter.IMAGE_OUTPUT, Decimal(0)).place, Rate(Meter.OUTPUT, Decimal(0)).place
    if image in rates and (text not in rates or not rates[text].usd_per_unit):
        rates[text] = Rate(Meter.OUTPUT, rates[image].usd_per_unit)


def _count_images_made(rates: dict[Any, Rate], mode: str) -> None:
    """When a model has only ``input`` prices for images, they are prices of images made, as litellm takes them."""
    made = mode in ("image_generation", "image_edit")
    if made and all(rate.meter is Meter.INPUT_IMAGE for rate in rates.values()):
        for place, rate in list(rates.items()):
            del rates[place]
            counted = Rate(Meter.IMAGE, rate.usd_per_unit, rate.qualifier, rate.tier, rate.above_input_tokens)
            rates[counted.place] = counted


def _bill_seconds_heard(rates: dict[Any, Rate], mode: str) -> None:
    """A model that writes sound down bills the sound's seconds once, whichever of its two prices the map has for them;
    when it has both, litellm takes that of the output."""
    heard, written = Rate(Meter.INPUT_SECOND, Decimal(0)).place, Rate(Meter.OUTPUT_SECOND, Decimal(0)).place
    if mode == "audio_transcription" and written in rates and rates[written].usd_per_unit:
        rates[heard] = Rate(Meter.INPUT_SECOND, rates.pop(written).usd_per_unit)


def _image_sizes(litellm_provider: str, model: str) -> Iterator[Rate]:
    """The rates of the map's separate entries for sizes of images, per image or per pixel."""
    for key, entry in litellm_import.load().model_cost.items():
        found = _SIZED_MODEL.fullmatch(key.removeprefix(f"{litellm_provider}/"))
        if found is None or found["model"].removeprefix(f"{litellm_provider}/") != model:
            continue
        if not str(entry.get("litellm_provider", "")).startswith(litellm_provider):
            continue
        width, height = int(found["width"]), int(found["height"])
        qualifier = "/".join(filter(None, (found["quality"], f"{width}x{height}")))
        for name, count in (
            ("input_cost_per_image", 1),
            ("output_cost_per_image", 1),
            ("input_cost_per_pixel", width * height),
        ):
            if entry.get(name) is not None:
                yield Rate(Meter.IMAGE, _exact(entry[name]) * count, qualifier)
                break


def _name_of(rate: Rate, litellm_provider: str) -> str | None:
    names = {place: name for name, place in _NAMES.items()}
    name = names.get((rate.meter, rate.qualifier))
    if name is None:
        plain = names.get((rate.meter, ""))
        name = f"{plain}_{rate.qualifier}"
        if plain not in _SIZED or not re.fullmatch(_SIZED[plain], rate.qualifier):
            return None
    suffix = next(suffix for suffix, tier in _TIERS.items() if tier is rate.tier)
    above = rate.above_input_tokens + (1 if rate.above_input_tokens and litellm_provider in _INCLUSIVE else 0)
    threshold = f"{above // 1000}k" if above % 1000 == 0 else f"{above}"
    return f"{name}_above_{threshold}_tokens{suffix}" if above else name + suffix


def _search_sizes(prices: PriceList) -> dict[str, Decimal]:
    """A model's search prices for all three sizes, if it answers in words. A reranker has ``input_cost_per_query``."""
    usd = {rate.qualifier: rate.usd_per_unit for rate in prices.rates if _is_of_search_context(rate)}
    in_words = any(rate.meter is Meter.OUTPUT and rate.usd_per_unit for rate in prices.rates)
    plain = usd.get("", usd.get("medium"))
    found = {f"search_context_size_{size}": usd.get(size, plain) for size in _SEARCH_SIZES}
    sizes = {name: amount for name, amount in found.items() if amount is not None}
    is_sayable = len(sizes) == 3 and plain == sizes["search_context_size_medium"]
    return sizes if in_words and is_sayable else {}


def _is_of_search_context(rate: Rate) -> bool:
    return (
        rate.meter is Meter.SEARCH
        and rate.qualifier in ("", *_SEARCH_SIZES)
        and rate.tier is Tier.STANDARD
        and not rate.above_input_tokens
    )


def _meter(name: str) -> tuple[Meter, str]:
    found = _NAME.fullmatch(name)
    assert found is not None, name
    if found["name"] in _NAMES:
        return _NAMES[found["name"]]
    plain, _, size = found["name"].rpartition("_")
    return _NAMES[plain][0], size


def _exact(price: Any) -> Decimal:
    """The price as its author wrote it, which is the shortest text of the float: 3e-06 a token is 3 a million."""
    return Decimal(str(price))
