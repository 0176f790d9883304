"""Prices: a row from a moment on. What has been charged with is history, and history is not rewritten."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import urlencode
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget

from accounting import price_import
from accounting.models import Attempt, LedgerEntry, Price
from accounting.money import dollars
from accounting.price_import import PriceChange
from routing.models import Provider
from routing.price_offers import configured, offer
from routing.upstreams.price_map import SOURCE

_RATES = (
    "input_usd_per_mtok",
    "output_usd_per_mtok",
    "cached_input_usd_per_mtok",
    "cache_write_usd_per_mtok",
    "cache_write_1h_usd_per_mtok",
    "reasoning_usd_per_mtok",
    "audio_input_usd_per_mtok",
    "audio_output_usd_per_mtok",
)
_LONG = (
    "long_context_above_tokens",
    "long_input_usd_per_mtok",
    "long_output_usd_per_mtok",
    "long_cached_input_usd_per_mtok",
    "long_cache_write_usd_per_mtok",
    "long_cache_write_1h_usd_per_mtok",
)


class PriceForm(forms.ModelForm[Price]):
    class Meta:
        labels = {name: name.removesuffix("_usd_per_mtok").replace("_", " ").capitalize() for name in _RATES + _LONG}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "provider" not in self.fields:  # a read-only page
            return
        names = list(Provider.objects.values_list("name", flat=True))
        if self.instance.provider and self.instance.provider not in names:
            names.append(self.instance.provider)
        self.fields["provider"] = forms.ChoiceField(
            choices=[("", "Select value"), *((name, name) for name in names)], widget=UnfoldAdminSelectWidget
        )


@admin.register(Price)
class PriceAdmin(ModelAdmin):
    form = PriceForm
    list_display = ("model", "provider", "when", "effective_from", "input_usd", "output_usd", "cached_usd", "source")
    list_filter = ("provider",)
    search_fields = ("provider", "model")
    actions_list = ("import_list",)
    actions_detail = ("replace",)
    warn_unsaved_form = True
    delete_confirmation_template = "routing/delete_confirmation.html"
    delete_selected_confirmation_template = "routing/delete_selected_confirmation.html"
    fieldsets = (
        (None, {"fields": ("provider", "model", "effective_from", "source")}),
        (
            "USD per million tokens",
            {"fields": (_RATES[:2], _RATES[2:3], _RATES[3:5], _RATES[5:6], _RATES[6:])},
        ),
        (
            "Long context",
            {
                "fields": (_LONG[:1], _LONG[1:3], _LONG[3:4], _LONG[4:]),
                "description": "For models that cost more once a prompt is long. All empty: they do not.",
            },
        ),
    )

    @display(description="", label={"in force": "success", "future": "info"})
    def when(self, price: Price) -> str:
        now = datetime.now(UTC)
        if price.effective_from > now:
            return "future"
        later = Price.objects.filter(
            provider=price.provider, model=price.model, effective_from__gt=price.effective_from, effective_from__lte=now
        )
        return "replaced" if later.exists() else "in force"

    @display(description="input", ordering="input_usd_per_mtok")
    def input_usd(self, price: Price) -> str:
        return dollars(price.input_usd_per_mtok)

    @display(description="output", ordering="output_usd_per_mtok")
    def output_usd(self, price: Price) -> str:
        return dollars(price.output_usd_per_mtok)

    @display(description="cached input", empty_value="as input")
    def cached_usd(self, price: Price) -> str | None:
        rate = price.cached_input_usd_per_mtok
        return None if rate is None else dollars(rate)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"effective_from": datetime.now(UTC), **super().get_changeform_initial_data(request)}

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A price in force is history already: some request may be paying it this moment."""
        allowed: bool = super().has_change_permission(request, obj)
        return allowed and not (isinstance(obj, Price) and obj.effective_from <= datetime.now(UTC))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        price = self.get_object(request, object_id)
        shown = price is not None and request.method == "GET" and self.has_view_permission(request, price)
        if shown and price.effective_from <= datetime.now(UTC):
            messages.info(
                request,
                "This price has been in force, so it stays as it is. To change what is charged, add a new price "
                "that is effective from now: “New price from this one”.",
            )
        answer: HttpResponse = super().change_view(request, object_id, form_url, extra_context)
        return answer

    def has_replace_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        allowed: bool = self.has_add_permission(request)
        return allowed

    @action(
        description="New price from this one",
        url_path="replace",
        permissions=["replace"],
        variant=ActionVariant.PRIMARY,
    )
    def replace(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The form of a new price, filled in with this one's rates."""
        price = self.get_object(request, object_id)
        filled = (
            {}
            if price is None
            else {
                name: value
                for name in ("provider", "model", *_RATES, *_LONG)
                if (value := getattr(price, name)) is not None
            }
        )
        return HttpResponseRedirect(f"{reverse('admin:accounting_price_add')}?{urlencode(filled)}")

    @action(
        description="Compare with litellm's price map",
        url_path="import",
        permissions=["replace"],
    )
    def import_list(self, request: HttpRequest) -> HttpResponse:
        """The difference between the prices in force and litellm's; those ticked are written, effective from now."""
        found = offer(configured())
        if request.method == "POST":
            # What was looked at, and nothing else: another operator, or an upgrade, may have been faster.
            ticked = set(request.POST.getlist("change"))
            wanted = [change for change in found.changes if _fingerprint(change) in ticked]
            if not ticked:
                messages.warning(request, "No price was ticked, so nothing was written.")
            elif len(wanted) != len(ticked):
                messages.error(request, "Prices changed since this page was made. Nothing was written; look again.")
            else:
                for price in price_import.apply(wanted, SOURCE):
                    self.log_addition(request, price, "Taken over from litellm's price map.")
                messages.success(request, f"{len(wanted)} price(s) written, effective from now.")
                return HttpResponseRedirect(reverse("admin:accounting_price_changelist"))
            return HttpResponseRedirect(request.get_full_path())
        context = {
            **self.admin_site.each_context(request),
            "title": "litellm's prices",
            "opts": self.opts,
            "changes": [(_fingerprint(change), change, price_import.differences(change)) for change in found.changes],
            "same": found.same,
            "unknown": found.unknown,
        }
        return TemplateResponse(request, "routing/price_import.html", context)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, Any, list[str]]:
        deleted, counts, perms_needed, protected = super().get_deleted_objects(objs, request)
        protected = [
            *protected,
            *(
                f"“{price}” has been charged: the ledger has requests of this model. Add a new price instead."
                for price in objs
                if _was_charged(price)
            ),
        ]
        return deleted, counts, perms_needed, protected


def _fingerprint(change: PriceChange) -> str:
    """The change as it is shown: a tick is for these rates, not for whatever the map says later."""
    shown = (change.provider, change.model, *price_import.differences(change))
    return hashlib.sha256("\n".join(shown).encode()).hexdigest()


def _was_charged(price: Price) -> bool:
    if price.effective_from > datetime.now(UTC):
        return False
    of_this_model = {"provider": price.provider, "model": price.model}
    return LedgerEntry.objects.filter(**of_this_model).exists() or Attempt.objects.filter(**of_this_model).exists()
