"""Turns LiteLLM's weights, which may be fractions, into our whole numbers with the same proportions."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from routing.models import MAX_WEIGHT


def whole_weights(weights: Sequence[Decimal | None]) -> list[int | None]:
    """The weights of one alias's deployments, in the same order.

    None means that the deployment is tried after the weighted deployments. It stands for the weight 0 and for a missing
    weight, because LiteLLM never picks such a deployment first when others have weights. Weights that
    are all whole and within our limit stay as they are, so an export loads back without a change.
    """
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
