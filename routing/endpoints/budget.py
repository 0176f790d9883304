"""How much is left in each budget that a request of the caller's key would meet."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpResponse, JsonResponse
from rest_framework.request import Request
from rest_framework.views import APIView

from accounting import wildcards
from accounting.budgets import BudgetRule
from accounting.keys import Key
from accounting.models import Budget, BudgetScope
from accounting.money import plain_usd
from accounting.reports import BudgetStatus, statuses
from accounting.tags import Tags
from routing.api.authentication import KeyAuthentication, caller_now
from routing.catalog import Alias, Catalog
from routing.upstreams.base import Json

TAG = "tag."  # a parameter of the query: ?tag.team=red


class BudgetView(APIView):
    """``GET /v1/budget``: each budget that a request may count in, also those that only a fallback would meet.

    ``?model=`` asks about one alias, ``?end_user=`` and ``?tag.NAME=`` about what the request would say. What the key
    fixes comes first, as in a request.
    """

    authentication_classes = (KeyAuthentication,)

    def get(self, request: Request) -> HttpResponse:
        snapshot, key = caller_now(request)
        said = request.query_params
        model = said.get("model")
        asked = _Asked(
            key=key,
            aliases=[snapshot.alias_for(key, model)] if model else _aliases_of(snapshot, key),
            snapshot=snapshot,
            end_user=key.end_user_of(said.get("end_user", "")),
            tags=key.tags_of({name.removeprefix(TAG): said[name] for name in said if name.startswith(TAG)}),
        )
        met = [rule.id for rule in snapshot.budgets if asked.meets(rule)]
        found = statuses(Budget.objects.filter(pk__in=met).order_by("pk"))
        return JsonResponse({"object": "list", "data": [_row(status) for status in found]})


@dataclass(frozen=True, slots=True)
class _Asked:
    """All requests that the query is about."""

    key: Key
    aliases: list[Alias]
    snapshot: Catalog
    end_user: str
    tags: Tags

    def meets(self, rule: BudgetRule) -> bool:
        match rule.scope:
            case BudgetScope.ALIAS:
                return any(self._may_be_of(rule.scope_value, alias) for alias in self.aliases)
            case BudgetScope.PROVIDER:
                may_fall_back_to = self.key.may_fall_back_to
                return any(
                    rule.scope_value in self.snapshot.providers_of(alias, may_fall_back_to) for alias in self.aliases
                )
            case _:
                return rule.applies_to(
                    key_id=self.key.id, alias="", provider="", end_user=self.end_user, tags=self.tags
                )

    def _may_be_of(self, scope_value: str, alias: Alias) -> bool:
        """Whether a request for the alias, or for a name that the wildcard answers to, is for what the budget names."""
        if alias.name == scope_value or wildcards.is_of(scope_value, alias.name):
            return True
        return wildcards.is_of(alias.name, scope_value) and self.key.may_use(scope_value, alias.name)


def _aliases_of(snapshot: Catalog, key: Key) -> list[Alias]:
    """The aliases that the key may use, and the wildcards of which it may use some names."""

    def may_use(name: str) -> bool:
        if not wildcards.is_wildcard(name):
            return key.may_use(name)
        return key.may_use(name, name) or any(
            wildcards.is_of(name, allowed) and key.may_use(allowed, name) for allowed in key.allowed_aliases
        )

    return [alias for alias in snapshot.aliases.values() if alias.enabled and may_use(alias.name)]


def _row(status: BudgetStatus) -> Json:
    return {
        "budget": status.budget,
        "scope": status.scope,
        "scope_value": status.scope_value,
        "mode": status.mode,
        "period": status.period,
        "limit_usd": plain_usd(status.limit_usd),
        "posted_usd": plain_usd(status.posted_usd),
        "held_usd": plain_usd(status.held_usd),
        "available_usd": plain_usd(status.available_usd),
        "resets_at": status.resets_at.isoformat() if status.resets_at else None,
    }
