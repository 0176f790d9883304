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
        aliases = [snapshot.alias_for(key, model)] if model else _aliases_of(snapshot, key)
        steps = [found for alias in aliases for found in snapshot.answering(alias, key.may_fall_back_to)]
        asked = _Asked(
            key=key,
            aliases=frozenset(alias.name for alias in steps),
            wildcards=[alias.name for alias in aliases if wildcards.is_wildcard(alias.name)],
            providers=frozenset(step.provider.name for alias in steps for step in alias.own if step.provider.enabled),
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
    aliases: frozenset[str]  # that may answer; wildcards too
    wildcards: list[str]
    providers: frozenset[str]
    end_user: str
    tags: Tags

    def meets(self, rule: BudgetRule) -> bool:
        match rule.scope:
            case BudgetScope.ALIAS:
                return self._may_be_for(rule.scope_value)
            case BudgetScope.PROVIDER:
                return rule.scope_value in self.providers
            case _:
                return rule.applies_to(
                    key_id=self.key.id, alias="", provider="", end_user=self.end_user, tags=self.tags
                )

    def _may_be_for(self, name: str) -> bool:
        """Whether this alias may answer a request, or one that this wildcard answers to."""
        if name in self.aliases:
            return True
        if wildcards.is_wildcard(name) and any(wildcards.is_of(name, alias) for alias in self.aliases):
            return True
        return any(wildcards.is_of(known, name) and self.key.may_use(name, known) for known in self.wildcards)


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
