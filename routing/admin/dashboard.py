"""The first page: what an operator must see within five seconds.

It takes a handful of indexed queries, however large the ledger is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.db.models import Count, Q, Sum
from django.http import HttpRequest
from django.utils.safestring import SafeString

from accounting import wildcards
from accounting.models import Adjustment, Budget, EntryState, LedgerEntry
from accounting.money import dollars
from accounting.reports import statuses
from routing import catalog
from routing.admin.budgets import progress_bar
from routing.secrets import references

admin.site.index_template = "routing/dashboard.html"
admin.site.index_title = "Overview"

_RECENT = 12  # entries


@dataclass(frozen=True, slots=True)
class BudgetLine:
    name: str
    mode: str
    spent: str
    held: str
    limit: str
    period: str
    resets_at: datetime | None
    bar: SafeString


@dataclass(frozen=True, slots=True)
class Problem:
    """Something to act on. ``where`` names the admin page on which to do it."""

    text: str
    where: str
    query: str = ""


def context(request: HttpRequest, page: dict[str, Any]) -> dict[str, Any]:
    """unfold's DASHBOARD_CALLBACK. An operator gets only the parts whose rows the operator may see."""
    may_see = {
        model: request.user.has_perm(f"{app}.view_{model}")
        for app, model in (
            ("accounting", "budget"), ("accounting", "ledgerentry"), ("accounting", "price"), ("routing", "provider"),
            ("routing", "modelalias"),
        )
    }  # fmt: skip
    page["problems"] = [
        *(_unknown_entries() if may_see["ledgerentry"] else ()),
        *(_missing_keys() if may_see["provider"] else ()),
        *(_unpriced() if may_see["modelalias"] and may_see["price"] else ()),
    ]
    if may_see["budget"]:
        page["budgets"] = _budgets()
    if may_see["ledgerentry"]:
        page["day"] = _day()
        page["holds"] = _holds()
        page["recent"] = LedgerEntry.objects.order_by("-created_at")[:_RECENT]
    page["sees_anything"] = any(may_see.values())
    return page


def _budgets() -> list[BudgetLine]:
    return [
        BudgetLine(
            name=status.budget,
            mode=status.mode,
            spent=dollars(status.posted_usd),
            held=dollars(status.held_usd) if status.held_usd else "",
            limit=dollars(status.limit_usd),
            period="for ever" if status.period == "total" else f"a {status.period}",
            resets_at=status.resets_at,
            bar=progress_bar(status),
        )
        for status in statuses(Budget.objects.filter(enabled=True)[:20])
    ]


def _day() -> dict[str, Any]:
    """The last 24 hours."""
    since = datetime.now(UTC) - timedelta(hours=24)
    found = LedgerEntry.objects.filter(created_at__gte=since).aggregate(
        requests=Count("pk"),
        failed=Count("pk", filter=Q(http_status__gte=400) | Q(state=EntryState.UNKNOWN)),
        fallbacks=Count("pk", filter=Q(fallback=True)),
        cost_usd=Sum("cost_usd", default=Decimal(0)),
    )
    adjusted = Adjustment.objects.filter(entry__created_at__gte=since).aggregate(
        usd=Sum("amount_usd", default=Decimal(0))
    )
    return {**found, "cost_usd": dollars(found["cost_usd"] + adjusted["usd"])}


def _holds() -> dict[str, Any]:
    found = LedgerEntry.objects.filter(state=EntryState.HELD).aggregate(
        requests=Count("pk"), held_usd=Sum("hold_usd", default=Decimal(0))
    )
    return {**found, "held_usd": dollars(found["held_usd"])}


def _unknown_entries() -> list[Problem]:
    unknown = LedgerEntry.objects.filter(state=EntryState.UNKNOWN).aggregate(
        entries=Count("pk"), usd=Sum("hold_usd", default=Decimal(0))
    )
    if not unknown["entries"]:
        return []
    return [
        Problem(
            f"{unknown['entries']} unknown ledger entries, charged at their holds ({dollars(unknown['usd'])}): "
            "their worker died, so find them on the provider's bill and resolve them.",
            "admin:accounting_ledgerentry_changelist",
            "?state__exact=unknown",
        )
    ]


def _steps() -> list[catalog.Step]:
    """Every deployment that a request may reach now."""
    aliases = catalog.fresh().aliases.values()
    return [step for alias in aliases if alias.enabled for step in alias.own if step.provider.enabled]


def _missing_keys() -> list[Problem]:
    problems = []
    for provider in {step.provider.name: step.provider for step in _steps()}.values():
        missing = [reference for reference in provider.key_references if references.find(reference) is None]
        if not missing:
            continue
        lead = f"{' and '.join(missing)} {'leads' if len(missing) == 1 else 'lead'} to nothing."
        if len(missing) == len(provider.key_references):
            text = f"The provider {provider.name} has no key: {lead} Its steps are skipped."
        else:
            text = f"The provider {provider.name} has fewer keys than it is given: {lead}"
        problems.append(Problem(text, "admin:routing_provider_changelist"))
    return problems


def _unpriced() -> list[Problem]:
    snapshot, now = catalog.fresh(), datetime.now(UTC)
    unpriced = {
        (step.alias, step.provider.name, step.deployment.model): None
        for step in _steps()
        if not wildcards.is_wildcard(step.deployment.model)
        and snapshot.price(step.provider.name, step.deployment.model, now) is None
    }
    return [
        Problem(
            f"The alias {alias} is unpriced: nobody has said what {model} costs at {provider}. Hard budgets refuse it.",
            "admin:accounting_price_add",
            f"?provider={provider}&model={model}",
        )
        for alias, provider, model in unpriced
    ]
