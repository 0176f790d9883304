"""Usage times price is cost. Pure: no database, no clock; Decimal throughout.

Money is exact: rates are decimal dollars per unit (a million of tokens and characters, one of everything else), and
only the sum of a request is rounded, half to even, to the twelve places that the ledger's NUMERIC(20,12) keeps.

Of several rates for one meter, that of the highest threshold below the request's input tokens counts, for the whole
request, output included: so Google, OpenAI and Anthropic bill a long context. Of two rates of one threshold, that of
the request's tier counts, and without it that of the standard tier. ``COSTS_AS`` says what a meter costs without any
rate.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from functools import cached_property

from accounting.money import MOST_COST_USD, plain_usd
from accounting.usage import Meter, Tier, Usage, quantity_name, split_quantity_name

PLACES = Decimal("0.000000000001")
MILLION = 1_000_000
_NOTHING = Decimal(0)

#: A meter without a rate of its own costs what this other one costs. Units are not here: a unit without a rate is
#: unpriced. Two more rules. A qualifier without a rate costs what its meter costs without a qualifier. Reasoning is
#: billed as output, so it costs as output where that has a rate of a higher threshold, or of the request's own tier,
#: and reasoning has not.
COSTS_AS: Mapping[Meter, Meter] = {
    Meter.CACHED_INPUT: Meter.INPUT,
    Meter.CACHED_AUDIO_INPUT: Meter.CACHED_INPUT,
    Meter.CACHED_IMAGE_INPUT: Meter.CACHED_INPUT,
    Meter.CACHE_WRITE: Meter.INPUT,
    Meter.CACHE_WRITE_1H: Meter.CACHE_WRITE,
    Meter.AUDIO_INPUT: Meter.INPUT,
    Meter.IMAGE_INPUT: Meter.INPUT,
    Meter.REASONING: Meter.OUTPUT,
    Meter.AUDIO_OUTPUT: Meter.OUTPUT,
    Meter.IMAGE_OUTPUT: Meter.OUTPUT,
}
#: The same input, sound or text, may be counted in one of these beside its tokens. It is charged once: by its tokens
#: where input tokens have a rate and were counted, else by this measure.
MEASURES_OF_INPUT = frozenset({Meter.INPUT_SECOND, Meter.INPUT_CHARACTER})
_OF_INPUT = tuple(
    meter for meter in Meter if meter.is_tokens and "output" not in meter.value and meter is not Meter.REASONING
)
_OF_OUTPUT = (Meter.OUTPUT, Meter.REASONING, Meter.AUDIO_OUTPUT, Meter.IMAGE_OUTPUT)
_BAND = re.compile(rf"({'|'.join(Tier)})(?: above ([1-9]\d*))?")


@dataclass(frozen=True, slots=True)
class Rate:
    """What a unit of a meter costs in a tier, with more than that many input tokens in the request."""

    meter: Meter
    usd_per_unit: Decimal
    qualifier: str = ""
    tier: Tier = Tier.STANDARD
    above_input_tokens: int = 0

    @property
    def band(self) -> str:
        """The rates that stand together on a price page: ``standard``, ``batch above 200000``."""
        return f"{self.tier.value} above {self.above_input_tokens}" if self.above_input_tokens else self.tier.value

    @property
    def words(self) -> str:
        """``cached input, batch, above 200000 tokens``."""
        name = self.meter.value.replace("_", " ") + (f" ({self.qualifier})" if self.qualifier else "")
        tier = "" if self.tier is Tier.STANDARD else f", {self.tier.value}"
        return name + tier + (f", above {self.above_input_tokens} tokens" if self.above_input_tokens else "")

    @property
    def place(self) -> tuple[Meter, str, Tier, int]:
        """A price has one rate a place."""
        return (self.meter, self.qualifier, self.tier, self.above_input_tokens)


@dataclass(frozen=True)
class PriceList:
    """What a model costs. Two lists of the same rates are equal, whatever their order."""

    rates: tuple[Rate, ...]

    def __post_init__(self) -> None:
        meters, tiers = list(Meter), list(Tier)
        ordered = sorted(
            self.rates, key=lambda r: (tiers.index(r.tier), r.above_input_tokens, meters.index(r.meter), r.qualifier)
        )
        object.__setattr__(self, "rates", tuple(ordered))
        if len(self._usd) != len(self.rates):
            raise ValueError("a price has one rate for a meter, qualifier, tier and threshold")

    @classmethod
    def of(cls, bands: Mapping[str, Mapping[str, str]]) -> PriceList:
        """The reverse of :meth:`as_json`: ``{"standard": {"input": "3"}, "batch above 200000": {…}}``."""
        rates = []
        for band, amounts in bands.items():
            found = _BAND.fullmatch(band)
            if found is None:
                raise ValueError(f"{band!r} is not a tier, or a tier above a number of tokens")
            for name, amount in amounts.items():
                meter, qualifier = split_quantity_name(name)
                rates.append(Rate(meter, Decimal(amount), qualifier, Tier(found[1]), int(found[2] or 0)))
        return cls(tuple(rates))

    def as_json(self, tier: Tier = Tier.STANDARD) -> dict[str, dict[str, str]]:
        """For the ledger's row: the rates of this tier, and those of the standard tier, to which it falls back.
        Amounts are text, so that they come back as they went."""
        if tier not in self._json:
            bands: dict[str, dict[str, str]] = {}
            for rate in self.rates:
                if rate.tier in (tier, Tier.STANDARD):
                    name = quantity_name(rate.meter, rate.qualifier)
                    bands.setdefault(rate.band, {})[name] = plain_usd(rate.usd_per_unit)
            self._json[tier] = bands
        return self._json[tier]

    def rounded(self) -> PriceList:
        """To the places that the database keeps: else what was written would never equal what was offered."""
        return PriceList(
            tuple(
                replace(rate, usd_per_unit=rate.usd_per_unit.quantize(PLACES, ROUND_HALF_EVEN)) for rate in self.rates
            )
        )

    def rates_of(self, tier: Tier, input_tokens: int) -> Mapping[Meter, Decimal]:
        """What each meter costs, without a qualifier, in a request with that many input tokens."""
        return self._resolved_for(tier, input_tokens)[0]

    def _resolved_for(self, tier: Tier, input_tokens: int) -> tuple[Mapping[Meter, Decimal], tuple[Decimal, Decimal]]:
        above = 0
        for above in self._thresholds:  # the highest first, 0 last
            if above < input_tokens:
                break
        found = self._resolved.get((tier, above))
        if found is None:
            rates = {meter: usd for meter in Meter if (usd := self._found(meter, tier, above)) is not None}
            found = self._resolved[(tier, above)] = (rates, (_dearest(rates, _OF_INPUT), _dearest(rates, _OF_OUTPUT)))
        return found

    def dearest_of(self, tier: Tier, input_tokens: int) -> tuple[Decimal, Decimal]:
        """The most that a token of input, and one of output, costs in a request with that many input tokens; 0 where
        there is no rate."""
        return self._resolved_for(tier, input_tokens)[1]

    def usd_per_unit(self, meter: Meter, qualifier: str, tier: Tier, input_tokens: int) -> Decimal | None:
        """What the meter costs with this qualifier; None: nobody has said.

        Of a qualifier in two parts (``hd/1024x1024``), each part may have a rate: first the size, then the quality. A
        picture of which nobody says the size costs as the dearest, where there is no rate for any size."""
        if not qualifier and meter is Meter.IMAGE:
            plain = self.rates_of(tier, input_tokens).get(meter)
            return self._dearest_of(meter, tier, input_tokens) if plain is None else plain
        for its in (qualifier, *(reversed(qualifier.split("/")) if "/" in qualifier else ())) if qualifier else ():
            own = self._own(meter, its, tier, input_tokens - 1)
            if own is not None:
                return own[1]
        return self.rates_of(tier, input_tokens).get(meter)

    def _dearest_of(self, meter: Meter, tier: Tier, input_tokens: int) -> Decimal | None:
        rates = (self._own(meter, its, tier, input_tokens - 1) for its in self.qualifiers(meter))
        return max((own[1] for own in rates if own is not None), default=None)

    def qualifiers(self, meter: Meter) -> tuple[str, ...]:
        return tuple(dict.fromkeys(("", *(rate.qualifier for rate in self.rates if rate.meter is meter))))

    def input_steps(self, up_to: int | None = None) -> list[int]:
        """A number of input tokens for each set of rates that a request with at most that many may pay."""
        if len(self._thresholds) == 1:
            return [0]
        return [0, *(above + 1 for above in self._thresholds if above and (up_to is None or above < up_to))]

    @cached_property
    def _json(self) -> dict[Tier, dict[str, dict[str, str]]]:
        return {}

    @cached_property
    def _usd(self) -> dict[tuple[Meter, str, Tier, int], Decimal]:
        return {rate.place: rate.usd_per_unit for rate in self.rates}

    @cached_property
    def _thresholds(self) -> tuple[int, ...]:
        return tuple(sorted({0, *(rate.above_input_tokens for rate in self.rates)}, reverse=True))

    @cached_property
    def _resolved(self) -> dict[tuple[Tier, int], tuple[Mapping[Meter, Decimal], tuple[Decimal, Decimal]]]:
        return {}

    def _found(self, meter: Meter, tier: Tier, above: int) -> Decimal | None:
        own = self._own(meter, "", tier, above)
        other = COSTS_AS.get(meter)
        if own is not None and meter is Meter.REASONING:
            output = self._own(Meter.OUTPUT, "", tier, above)
            return own[1] if output is None or own[0] >= output[0] else output[1]
        if own is not None:
            return own[1]
        return None if other is None else self._found(other, tier, above)

    def _own(self, meter: Meter, qualifier: str, tier: Tier, above: int) -> tuple[tuple[int, bool], Decimal] | None:
        """The meter's own rate, and how closely it fits: first its threshold, then whether it is of the very tier."""
        for threshold in self._thresholds:
            if threshold and threshold > above:
                continue
            for of in (tier, Tier.STANDARD):
                usd = self._usd.get((meter, qualifier, of, threshold))
                if usd is not None:
                    return (threshold, of is tier), usd
        return None


def cost_usd(usage: Usage, prices: PriceList, *, tier: Tier = Tier.STANDARD) -> Decimal | None:
    """What the usage costs in the tier that served it, to twelve places, half to even. None: something was consumed
    that has no rate, so nobody knows."""
    rates = prices.rates_of(tier, usage.input_tokens)
    tokens_usd = units_usd = _NOTHING
    is_measured = _is_measured(usage.quantities)
    is_by_tokens = usage.input_tokens > 0 and Meter.INPUT in rates and not (is_measured and _is_by_measure(rates))
    is_by_measure = is_measured and not is_by_tokens
    for meter, amount in _tokens(usage):
        if not amount or is_by_measure:
            continue
        if (usd := rates.get(meter)) is None:
            return None
        tokens_usd += amount * usd
    for name, amount in usage.quantities.items():
        meter, qualifier = split_quantity_name(name)
        if meter.is_tokens or not amount or (is_by_tokens and meter in MEASURES_OF_INPUT):
            continue
        usd = prices.usd_per_unit(meter, qualifier, tier, usage.input_tokens)
        if usd is None:
            return None
        units_usd += amount * usd / meter.unit_size
    return min(tokens_usd / MILLION + units_usd, MOST_COST_USD).quantize(PLACES, ROUND_HALF_EVEN)


def ceiling_usd(
    input_tokens: int,
    output_tokens: int,
    prices: PriceList,
    *,
    tiers: Collection[Tier] = (Tier.STANDARD,),
    quantities: Mapping[str, Decimal] | None = None,
) -> Decimal | None:
    """No usage within these totals and quantities costs more, whichever of the tiers serves it. Rounded up to twelve
    places. A quantity that is named without a qualifier may be of the dearest. None: something has no rate, so nobody
    knows."""
    possible = []
    is_measured = _is_measured(quantities or {})
    for tier in tiers:
        for step in prices.input_steps(input_tokens):
            rates = prices.rates_of(tier, step)
            if is_measured and Meter.INPUT not in rates:
                possible.append(_NOTHING)
                continue
            if (input_tokens and Meter.INPUT not in rates) or (output_tokens and Meter.OUTPUT not in rates):
                return None
            dearest_input, dearest_output = prices.dearest_of(tier, step)
            possible.append(dearest_input * input_tokens + dearest_output * output_tokens)
    tokens, measured, others = max(possible) / MILLION, _NOTHING, _NOTHING
    for name, amount in (quantities or {}).items():
        meter, qualifier = split_quantity_name(name)
        if meter.is_tokens:
            continue  # a part of the totals, in which each token counts as the dearest
        known = [
            usd
            for tier in tiers
            for step in prices.input_steps(input_tokens)
            for its in ((qualifier,) if qualifier else prices.qualifiers(meter))
            if (usd := prices.usd_per_unit(meter, its, tier, step)) is not None
        ]
        if not known:
            return None
        usd = max(known) * amount / meter.unit_size
        if meter in MEASURES_OF_INPUT:
            measured += usd  # in the place of the tokens
        else:
            others += usd
    return (max(tokens, measured) + others).quantize(PLACES, ROUND_CEILING)


def _is_by_measure(rates: Mapping[Meter, Decimal]) -> bool:
    """Whether tokens cost nothing because their measure costs something."""
    return any(map(rates.get, MEASURES_OF_INPUT)) and not any(map(rates.get, (*_OF_INPUT, *_OF_OUTPUT)))


def _is_measured(quantities: Mapping[str, Decimal]) -> bool:
    return any(split_quantity_name(name)[0] in MEASURES_OF_INPUT for name in quantities)


def dearest_output_usd_per_mtok(
    prices: PriceList, *, tiers: Collection[Tier] = (Tier.STANDARD,), input_tokens: int | None = None
) -> Decimal:
    """The highest rate that an output token can cost in a request with at most that many input tokens.

    0 when output has no rate."""
    return max(prices.dearest_of(tier, step)[1] for tier in tiers for step in prices.input_steps(input_tokens))


def _dearest(rates: Mapping[Meter, Decimal], meters: Iterable[Meter]) -> Decimal:
    return max((rates[meter] for meter in meters if meter in rates), default=Decimal(0))


def _tokens(usage: Usage) -> tuple[tuple[Meter, Decimal | int], ...]:
    """The usage's tokens as classes that do not overlap."""
    if usage.is_of_two_kinds:  # as most are
        return (Meter.INPUT, max(0, usage.input_tokens)), (Meter.OUTPUT, max(0, usage.output_tokens))
    cached_audio, cached_image = usage.of(Meter.CACHED_AUDIO_INPUT), usage.of(Meter.CACHED_IMAGE_INPUT)
    image_input, image_output = usage.of(Meter.IMAGE_INPUT), usage.of(Meter.IMAGE_OUTPUT)
    write_1h = min(usage.cache_write_1h_tokens, usage.cache_write_tokens)
    # Classes are parts of the totals. A provider whose parts exceed its total is believed in the parts.
    of_input = usage.cached_input_tokens + usage.cache_write_tokens + usage.audio_input_tokens
    of_output = usage.reasoning_tokens + usage.audio_output_tokens
    return (
        (Meter.INPUT, max(_NOTHING, usage.input_tokens - of_input - image_input)),
        (Meter.CACHED_INPUT, max(_NOTHING, usage.cached_input_tokens - cached_audio - cached_image)),
        (Meter.CACHED_AUDIO_INPUT, cached_audio),
        (Meter.CACHED_IMAGE_INPUT, cached_image),
        (Meter.CACHE_WRITE, usage.cache_write_tokens - write_1h),
        (Meter.CACHE_WRITE_1H, write_1h),
        (Meter.AUDIO_INPUT, usage.audio_input_tokens),
        (Meter.IMAGE_INPUT, image_input),
        (Meter.OUTPUT, max(_NOTHING, usage.output_tokens - of_output - image_output)),
        (Meter.REASONING, usage.reasoning_tokens),
        (Meter.AUDIO_OUTPUT, usage.audio_output_tokens),
        (Meter.IMAGE_OUTPUT, image_output),
    )
