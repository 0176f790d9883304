"""Refused requests, read-only: what a client asks about is found by the request id of its error."""

from __future__ import annotations

from decimal import Decimal

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from accounting.admin.entries import AliasFilter, DaysFilter, KeyFilter, SeenFilter, never
from accounting.admin.pages import Page
from accounting.amounts import usd
from accounting.models import ApiKey, Budget, RefusedRequest


class CodeFilter(SeenFilter):
    title, parameter_name, column = "code", "code", "code"


class BudgetFilter(SeenFilter):
    title, parameter_name, column = "budget", "budget", "budget"


@admin.register(RefusedRequest)
class RefusedRequestAdmin(Page):
    list_display = ("at", "request_of", "code", "key_link", "alias", "budget_link", "asked", "room", "count")
    list_display_links = ("at", "request_of")
    list_filter = (CodeFilter, KeyFilter, AliasFilter, BudgetFilter, ("at", DaysFilter))
    list_filter_submit = True
    list_per_page = 50
    when_empty = "A request that is refused before it is admitted has a row here, for 30 days."
    when_nothing_is_found = "No refused request fits. A request that was admitted is under Ledger."
    list_fullwidth = True
    list_disable_select_all = True
    search_fields = ("request_id__exact", "key__exact", "alias__exact", "budget__exact", "end_user__exact")
    search_help_text = "A whole request id (the error's x-request-id), key, alias, budget or end user"
    ordering = ("-at", "-pk")
    show_full_result_count = False
    paginator = InfinitePaginator
    show_facets = admin.ShowFacets.NEVER
    has_add_permission = has_change_permission = has_delete_permission = never
    fieldsets = (
        (None, {"fields": (("request_of", "at"), ("code", "count"), ("message",))}),
        ("Caller", {"fields": (("key_link", "alias"), ("endpoint", "end_user"), ("tags",))}),
        ("Budget", {"fields": (("budget_link", "limit"), ("spent", "held"), ("asked",))}),
    )

    @display(description="request", empty_value="a count")
    def request_of(self, refused: RefusedRequest) -> str | None:
        return refused.request_id or None

    @display(description="key", ordering="key", empty_value="none")
    def key_link(self, refused: RefusedRequest) -> str | None:
        return _link(ApiKey, refused.key_id, refused.key) if refused.key_id else refused.key or None

    @display(description="budget", ordering="budget")
    def budget_link(self, refused: RefusedRequest) -> str | None:
        return _link(Budget, None, refused.budget) if refused.budget else None

    @display(description="asked")
    def asked(self, refused: RefusedRequest) -> str | None:
        return _usd(refused.asked_usd)

    @display(description="spent + held of limit")
    def room(self, refused: RefusedRequest) -> str | None:
        if refused.limit_usd is None:
            return None
        return format_html("{} + {} of {}", *map(_usd, (refused.spent_usd, refused.held_usd, refused.limit_usd)))

    @display(description="limit")
    def limit(self, refused: RefusedRequest) -> str | None:
        return _usd(refused.limit_usd)

    @display(description="spent")
    def spent(self, refused: RefusedRequest) -> str | None:
        return _usd(refused.spent_usd)

    @display(description="held")
    def held(self, refused: RefusedRequest) -> str | None:
        return _usd(refused.held_usd)


def _usd(amount: Decimal | None) -> SafeString | None:
    return None if amount is None else usd(amount)


def _link(model: type[ApiKey] | type[Budget], pk: int | None, name: str) -> str:
    """To the key or budget itself; by its name to where it is listed, as a name may have changed since."""
    page = f"admin:accounting_{model._meta.model_name}"
    if pk is not None:
        return format_html("<a href='{}'>{}</a>", reverse(f"{page}_change", args=[pk]), name)
    return format_html("<a href='{}?{}'>{}</a>", reverse(f"{page}_changelist"), urlencode({"q": name}), name)
