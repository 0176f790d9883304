"""Budgets: their scopes and limits, and their current balances."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import psycopg
from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse_lazy
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from unfold.decorators import display

from accounting import wildcards
from accounting.admin.pages import Page
from accounting.amounts import usd
from accounting.ledger import limits
from accounting.models import NAMED_SCOPES, Budget, BudgetMode, BudgetPeriod, BudgetScope
from accounting.money import dollars, plain_usd
from accounting.reports import BudgetStatus, spenders, statuses
from routing import catalog
from routing.admin.names import few
from routing.models import ModelAlias, Provider

_WINDOWS = 12  # those before the present one
_DIMENSIONS = (("key", "Key", True), ("alias", "Alias", True), ("end_user", "End user", False))  # filters of the ledger
_LEDGER = reverse_lazy("admin:accounting_ledgerentry_changelist")


class BudgetForm(forms.ModelForm[Budget]):
    class Meta:
        labels = {"limit_usd": "Limit in USD", "scope_value": "Which one", "api_key": "API key"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if (limit := self.initial.get("limit_usd")) is not None:
            self.initial["limit_usd"] = Decimal(plain_usd(Decimal(limit)))  # 10, not 10.000000000000
        if "api_key" in self.fields:  # a pop-up could not show the secret of a new key
            for right in ("can_add_related", "can_change_related", "can_delete_related", "can_view_related"):
                setattr(self.fields["api_key"].widget, right, False)

    def clean(self) -> dict[str, Any] | None:
        """Empties the fields that the scope does not use. Requires those that it needs; what they name must exist."""
        cleaned = super().clean() or self.cleaned_data
        scope, value = cleaned.get("scope"), (cleaned.get("scope_value") or "").strip()
        if scope != BudgetScope.KEY:
            cleaned["api_key"] = None
        elif cleaned.get("api_key") is None and "api_key" not in self.errors:
            self.add_error("api_key", "Choose the key that this budget is for.")
        cleaned["scope_value"] = value if scope in NAMED_SCOPES else ""
        if scope in NAMED_SCOPES and "scope_value" not in self.errors:
            error = _wrong(scope, value, unchanged=value == self.initial.get("scope_value"))
            if error:
                self.add_error("scope_value", error)
        return cleaned


def _say_where_it_stands(request: HttpRequest, budget: Budget) -> None:
    """Its window may have begun long ago, so what is spent in it already may be more than the new limit."""
    try:
        balance = limits.look(budget)
    except psycopg.Error:
        return  # the budget is saved, and the next request looks
    if balance is None or not 0 < balance.posted_usd >= balance.limit_usd:
        return
    follows = "nothing is refused" if budget.mode == BudgetMode.ALERT else "requests are refused"
    until = f" until {balance.resets_at:%Y-%m-%d %H:%M} UTC" if balance.resets_at else ""
    messages.warning(
        request,
        f"The budget “{budget.name}” has reached its limit: {dollars(balance.posted_usd)} of "
        f"{dollars(balance.limit_usd)} is spent in its present period{until}; {follows}.",
    )


def _wrong(scope: str, value: str, *, unchanged: bool) -> str | None:
    if not value:
        return f"Say which {scope} this budget is for."
    if scope == BudgetScope.TAG and not all(part.strip() for part in (value + " ").partition("=")[:2]):
        return "Write a tag as name=value."
    known: Any = {BudgetScope.ALIAS: ModelAlias, BudgetScope.PROVIDER: Provider}.get(BudgetScope(scope))
    if known is None or unchanged or known.objects.filter(name=value).exists():
        return None  # an unchanged name may belong to an alias or provider that was deleted since
    if scope == BudgetScope.ALIAS and catalog.fresh().alias(value):
        return None  # a wildcard answers to it
    names = few(known.objects.values_list("name", flat=True)) or "none yet"
    return f"There is no {scope} “{value}”. There are: {names}."


@admin.register(Budget)
class BudgetAdmin(Page):
    form = BudgetForm
    list_display = (
        "name",
        "what_for",
        "short_mode",
        "limit",
        "spent",
        "held",
        "available",
        "bar",
        "resets_at",
        "enabled",
    )
    list_filter = ("enabled", "mode", "scope")
    search_fields = ("name", "scope_value")
    list_select_related = ("api_key",)
    list_per_page = 50
    warn_unsaved_form = True
    when_empty = "Without a budget, spending is not limited."
    readonly_fields = ("limit_for_reading",)
    change_form_template = "routing/budget.html"
    conditional_fields = {
        "api_key": "scope == 'key'",
        "scope_value": f"{[str(scope) for scope in NAMED_SCOPES]}.includes(scope)",
    }
    delete_confirmation_template = "routing/delete_confirmation.html"
    delete_selected_confirmation_template = "routing/delete_selected_confirmation.html"
    fieldsets = (
        (None, {"fields": ("name", "enabled")}),
        (
            "What it is for",
            {
                "fields": ("scope", "api_key", "scope_value"),
                "description": "A request counts against every enabled budget that applies to it, all or nothing. A "
                "budget of an alias or a provider decides for its own deployments: without room there, a request goes "
                "on along its chain.",
            },
        ),
        (
            "Limit",
            {
                "fields": ("limit_usd", "mode", ("period", "time_zone")),
                "description": "In US dollars, for each calendar period of the time zone. A change takes effect on the "
                "next request; what has been spent stays spent.",
            },
        ),
    )

    def save_model(self, request: HttpRequest, obj: Budget, form: Any, change: Any) -> None:
        super().save_model(request, obj, form, change)
        if obj.enabled:
            transaction.on_commit(lambda: _say_where_it_stands(request, obj))

    def get_fieldsets(self, request: HttpRequest, obj: Budget | None = None) -> Any:
        if obj is None or self.has_change_permission(request, obj):
            return self.fieldsets
        *others, (title, limit) = self.fieldsets
        return (*others, (title, {**limit, "fields": ("limit_for_reading", *limit["fields"][1:])}))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Budget | None = None, **kwargs: Any
    ) -> HttpResponse:
        """Beside the form: the balance, who spent it, and the windows before."""
        if obj is not None:
            context |= _standing(request, obj)
        answer: HttpResponse = super().render_change_form(request, context, *args, obj=obj, **kwargs)
        return answer

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        page: Any = super().get_changelist_instance(request)
        for budget, status in zip(page.result_list, statuses(page.result_list), strict=True):
            budget.status = status
        nothing = that_limit_nothing(page.result_list)
        for budget in page.result_list:
            budget.is_gone = scope_of(budget) in nothing
        return page  # type: ignore[no-any-return]

    @display(description="for", ordering="scope")
    def what_for(self, budget: Any) -> str:
        if budget.scope == BudgetScope.GLOBAL:
            return "everything"
        gone = " (gone)" if budget.is_gone else ""
        return f"{budget.scope} {budget.api_key or budget.scope_value}{gone}"

    @display(description="mode", label={"hard": "success", "soft": "warning", "alert": "info"}, ordering="mode")
    def short_mode(self, budget: Budget) -> str:
        return budget.mode

    @display(description="limit", ordering="limit_usd")
    def limit(self, budget: Budget) -> SafeString:
        return format_html("{} / {}", usd(budget.limit_usd), budget.period if budget.period != "total" else "ever")

    @display(description="Limit in USD")
    def limit_for_reading(self, budget: Budget) -> SafeString:
        return usd(budget.limit_usd)

    @display(description="spent")
    def spent(self, budget: Budget) -> SafeString:
        return usd(_status(budget).posted_usd)

    @display(description="held")
    def held(self, budget: Budget) -> SafeString:
        return usd(_status(budget).held_usd)

    @display(description="available")
    def available(self, budget: Budget) -> SafeString:
        return usd(_status(budget).available_usd)

    @display(description="used")
    def bar(self, budget: Any) -> SafeString:
        return progress_bar(_status(budget), in_force=budget.enabled and not budget.is_gone)

    @display(description="resets at", empty_value="never")
    def resets_at(self, budget: Budget) -> Any:
        return _status(budget).resets_at

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, Any, list[str]]:
        deleted, counts, perms_needed, protected = super().get_deleted_objects(objs, request)
        if protected:
            used = Budget.objects.filter(pk__in=[budget.pk for budget in objs], periods__isnull=False).distinct()
            protected = [
                f"“{budget}” has requests on the books that count against it: disable it instead." for budget in used
            ]
        return deleted, counts, perms_needed, protected


def _standing(request: HttpRequest, budget: Budget) -> dict[str, Any]:
    """What the budget's page shows of the ledger."""
    (status,) = statuses([budget])
    is_gone = scope_of(budget) in that_limit_nothing([budget])
    bar = progress_bar(status, in_force=budget.enabled and not is_gone)
    context: dict[str, Any] = {"status": status, "bar": bar, "is_gone": is_gone, "may_see_spenders": False}
    context["windows"] = BudgetPeriod.objects.filter(budget=budget).exclude(
        period_start=status.starts_at, period_end=status.resets_at
    )[:_WINDOWS]
    if request.user.has_perm("accounting.view_ledgerentry"):
        found = [] if status.period_id is None else spenders(status.period_id)
        context |= {"may_see_spenders": True, "has_too_many": found is None}
        since = {"created_at_from": f"{status.starts_at:%Y-%m-%d}"}
        context["spenders"] = [
            (
                title,
                [
                    (spender, f"{_LEDGER}?{urlencode({dimension: spender.name} | since)}" if is_filter else "")
                    for spender in found or []
                    if spender.dimension == dimension
                ],
            )
            for dimension, title, is_filter in _DIMENSIONS
        ]
    return context


def _status(budget: Any) -> BudgetStatus:
    status: BudgetStatus = budget.status  # get_changelist_instance sets it for all rows of a page at once
    return status


def scope_of(budget: Budget | BudgetStatus) -> tuple[str, str]:
    return budget.scope, budget.scope_value


def that_limit_nothing(budgets: Iterable[Budget | BudgetStatus]) -> set[tuple[str, str]]:
    """The scopes of those whose alias or provider was deleted since, so that no request counts against them."""
    snapshot = catalog.fresh()
    providers = set(Provider.objects.values_list("name", flat=True))
    return {
        (scope, name)
        for scope, name in map(scope_of, budgets)
        if (scope == BudgetScope.PROVIDER and name not in providers)
        or (scope == BudgetScope.ALIAS and not wildcards.is_wildcard(name) and snapshot.alias(name) is None)
    }


def progress_bar(status: BudgetStatus, *, in_force: bool) -> SafeString:
    """Shows spent and held as parts of the limit. A budget of 0 is used up, unless it refuses nothing."""
    spent = 100 if in_force and not status.limit_usd else _percent(status.posted_usd, status.limit_usd)
    held = min(_percent(status.held_usd, status.limit_usd), 100 - spent)
    full = in_force and status.mode != BudgetMode.ALERT and status.available_usd == 0
    return render_to_string("routing/progress_bar.html", {"spent": spent, "held": held, "full": full})


def _percent(part: Decimal, whole: Decimal) -> int:
    if part <= 0:
        return 0
    return 100 if part >= whole else max(1, int(part * 100 / whole))
