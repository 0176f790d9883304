"""The prices of litellm's price map for the models in use. The command and the admin's page compare with them."""

from __future__ import annotations

from dataclasses import dataclass

from accounting import price_import, wildcards
from accounting.price_import import PriceChange
from routing.models import FurtherDeployment, ModelAlias
from routing.upstreams.price_map import price_of


@dataclass(frozen=True, slots=True)
class Offer:
    """``changes`` are the prices that differ from those in force.

    ``same`` and ``unknown`` name provider and model: of prices that do not differ, and of models that the map lacks.
    """

    changes: list[PriceChange]
    same: list[tuple[str, str]]
    unknown: list[tuple[str, str]]


def offer(models: list[tuple[str, str, str]]) -> Offer:
    """Compare these models (`configured`) with the map. Nothing is written."""
    offered, unknown = [], []
    for provider, litellm_provider, model in models:
        prices = price_of(litellm_provider, model)
        if prices is None:
            unknown.append((provider, model))
        else:
            offered.append((provider, model, prices))
    changes = price_import.changes(offered)
    changing = {(change.provider, change.model) for change in changes}
    same = [(provider, model) for provider, model, _ in offered if (provider, model) not in changing]
    return Offer(changes, same, unknown)


def configured() -> list[tuple[str, str, str]]:
    """Every model in use: provider, its wire format, model. Models of wildcards have litellm's price as it is."""
    rows = {
        *ModelAlias.objects.values_list("provider__name", "provider__litellm_provider", "upstream_model"),
        *FurtherDeployment.objects.values_list("provider__name", "provider__litellm_provider", "upstream_model"),
    }
    return sorted(row for row in rows if not wildcards.is_wildcard(row[2]))
