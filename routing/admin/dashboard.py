"""The first page: what an operator must see within five seconds.

It takes a few dozen indexed queries, however large the ledger is. `routing.admin.problems` says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.db import Error, connection
from django.db.models import Count, Q, Sum
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from accounting.amounts import usd
from accounting.models import Adjustment, Budget, EntryState, LedgerEntry, Reconciliation, RefusedRequest
from accounting.reports import statuses
from routing import catalog
from routing.admin import problems
from routing.admin.budgets import progress_bar, scope_of, that_limit_nothing

admin.site.index_template = "routing/dashboard.html"
admin.site.index_title = "Overview"

_RECENT = 12  # entries
_FAILURES = 6
_BUDGETS = 8
_LOCK_WAIT_MS = 250


@dataclass(frozen=True, slots=True)
class BudgetLine:
    name: str
    page: str
    mode: str
    gone: str  # the scope whose alias or provider was deleted; empty as a rule
    spent: SafeString
    held: SafeString | None
    limit: SafeString
    period: str
    resets_at: datetime | None
    bar: SafeString


@dataclass(frozen=True, slots=True)
class Number:
    """A number of the last day, and the page that lists what it counts."""

    amount: object
    words: str
    link: str


def context(request: HttpRequest, page: dict[str, Any]) -> dict[str, Any]:
    """unfold's DASHBOARD_CALLBACK. An operator gets only the parts whose rows the operator may see."""
    user = request.user
    page["now"] = datetime.now(UTC)
    with _impatient():
        page["verdict"] = problems.judge(user)
        for right, part in (
            ("accounting.view_reconciliation", _reconciled),
            ("accounting.view_budget", _budgets),
            ("accounting.view_ledgerentry", _ledger),
            ("accounting.view_refusedrequest", _refused),
        ):
            if user.has_perm(right):
                try:
                    page |= part()
                except Error:  # the verdict says what is wrong with Postgres
                    page["is_incomplete"] = True
    page["base_url"] = request.build_absolute_uri("/v1")
    page["sees_anything"] = bool(page["verdict"].passed or page["verdict"].found)
    page["has_rights"] = bool(user.get_all_permissions())
    return page


@contextmanager
def _impatient() -> Iterator[None]:
    """Reading waits for a lock only while somebody changes or locks a whole table. The page must say so, not wait."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, false)", [f"{_LOCK_WAIT_MS}ms"])
    try:
        yield
    finally:
        with suppress(Error), connection.cursor() as cursor:
            cursor.execute("RESET lock_timeout")


def _reconciled() -> dict[str, Any]:
    return {"reconciled": Reconciliation.objects.that_counts()}


def _budgets() -> dict[str, Any]:
    """The enabled budgets, those first that are nearest to their limits."""
    enabled = statuses(Budget.objects.filter(enabled=True))
    nothing = that_limit_nothing(enabled)
    urgent = sorted(enabled, key=lambda status: (scope_of(status) not in nothing, problems.used(status)), reverse=True)
    lines = [
        BudgetLine(
            name=status.budget,
            page=reverse("admin:accounting_budget_change", args=[status.budget_id]),
            mode=status.mode,
            gone=status.scope if scope_of(status) in nothing else "",
            spent=usd(status.posted_usd),
            held=usd(status.held_usd) if status.held_usd else None,
            limit=usd(status.limit_usd),
            period=problems.period_in_words(status),
            resets_at=status.resets_at,
            bar=progress_bar(status, in_force=scope_of(status) not in nothing),
        )
        for status in urgent[:_BUDGETS]
    ]
    return {"budgets": lines, "more_budgets": len(urgent) - len(lines)}


def _ledger() -> dict[str, Any]:
    return {
        "day": _day(),
        "failures": _failures(),
        "recent": list(LedgerEntry.objects.order_by("-created_at")[:_RECENT]),
        "first_alias": next(iter(catalog.fresh().enabled_aliases), "gpt-4o"),
    }


def _day() -> list[Number]:
    """The last 24 hours, and what runs now."""
    since = _since()
    found = LedgerEntry.objects.filter(created_at__gte=since).aggregate(
        requests=Count("pk"),
        failed=Count("pk", filter=Q(http_status__gte=400) | Q(state=EntryState.UNKNOWN)),
        fallbacks=Count("pk", filter=Q(fallback=True)),
        cost_usd=Sum("cost_usd", default=Decimal(0)),
    )
    adjusted = Adjustment.objects.filter(entry__created_at__gte=since).aggregate(
        usd=Sum("amount_usd", default=Decimal(0))
    )
    held = LedgerEntry.objects.filter(state=EntryState.HELD).aggregate(
        requests=Count("pk"), usd=Sum("hold_usd", default=Decimal(0))
    )
    days = {"created_at_from": f"{since:%Y-%m-%d}"}
    return [
        Number(usd(found["cost_usd"] + adjusted["usd"]), "spent", _listed(**days)),
        Number(f"{found['requests']:,}", "requests", _listed(**days)),
        Number(f"{found['failed']:,}", "failed", _listed(ended="failed", **days)),
        Number(f"{found['fallbacks']:,}", "served by a fallback", _listed(ended="fallback", **days)),
        Number(f"{held['requests']:,}", "running now", _listed(state__exact="held")),
        Number(usd(held["usd"]), "held by them", _listed(state__exact="held")),
    ]


def _failures() -> list[LedgerEntry]:
    failed = Q(http_status__gte=400) | Q(state=EntryState.UNKNOWN)
    return list(LedgerEntry.objects.filter(failed, created_at__gte=_since()).order_by("-created_at")[:_FAILURES])


def _refused() -> dict[str, Any]:
    since = _since()
    count = RefusedRequest.objects.filter(at__gte=since).aggregate(requests=Sum("count", default=0))["requests"]
    page = f"{reverse('admin:accounting_refusedrequest_changelist')}?{urlencode({'at_from': f'{since:%Y-%m-%d}'})}"
    return {"refused": Number(f"{count:,}", "refused", page)}


def _since() -> datetime:
    return datetime.now(UTC) - timedelta(hours=24)


def _listed(**filters: str) -> str:
    return f"{reverse('admin:accounting_ledgerentry_changelist')}?{urlencode(filters)}"
