"""LiteLLM's weights, which may be any number of 0 or more, as the whole ones of the same proportions that we keep."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from routing.models import MAX_WEIGHT


def whole_weights(weights: Sequence[Decimal | None]) -> list[int | None]:
    """Of the deployments of one alias, in their order. None: tried after the weighted ones. So is what has the weight
    0, or none beside others that have one: LiteLLM never picks these first.

    A number that is taken once is taken for itself, so that an export loads back without a change."""
    given = [weight for weight in weights if weight]
    if any(weight != int(weight) for weight in given):
        places = max(_places(weight) for weight in given)
        given = [weight.scaleb(places) for weight in given]
        weights = [weight and weight.scaleb(places) for weight in weights]
    largest = max(given, default=Decimal(1))
    part = min(Decimal(1), MAX_WEIGHT / largest)
    return [max(1, round(weight * part)) if weight else None for weight in weights]


def _places(number: Decimal) -> int:
    exponent = number.normalize().as_tuple().exponent
    assert isinstance(exponent, int)  # finite, as the file's numbers are
    return max(0, -exponent)
