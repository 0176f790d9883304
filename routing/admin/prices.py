"""Prices: each is in force from a moment on. A price that was charged with is history and cannot be changed."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Case, OuterRef, Q, QuerySet, Subquery, When
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import urlencode
from unfold.admin import TabularInline
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.forms import PaginationInlineFormSet
from unfold.widgets import UnfoldAdminSelectWidget

from accounting import price_import
from accounting.admin.pages import Page
from accounting.models import Attempt, LedgerEntry, Price, PriceRate
from accounting.money import dollars, plain_usd
from accounting.price_import import PriceChange
from accounting.usage import Meter, Tier
from routing.models import ModelAlias, Provider
from routing.price_offers import configured, offer
from routing.upstreams.price_map import SOURCE, mode_of

_STARTERS = (
    Meter.INPUT,
    Meter.OUTPUT,
    Meter.CACHED_INPUT,
    Meter.CACHE_WRITE,
)  # the rows of a new price
_CHAT_MODES = frozenset({"chat", "responses", "completion"})


class PriceForm(forms.ModelForm[Price]):
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


class RateForm(forms.ModelForm[PriceRate]):
    class Meta:
        labels = {"usd_per_unit": "USD", "above_input_tokens": "above input tokens", "qualifier": "kind"}
        help_texts = {"qualifier": "", "above_input_tokens": ""}
        error_messages = {"usd_per_unit": {"required": "Say the amount, or remove this row."}}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if (usd := self.initial.get("usd_per_unit")) is not None:
            self.initial["usd_per_unit"] = Decimal(plain_usd(Decimal(usd)))  # 3, not 3.000000000000

    def has_changed(self) -> bool:
        """An offered row without an amount counts as empty."""
        offered = self.data.get(self.add_prefix("meter")) in _STARTERS
        has_amount = str(self.data.get(self.add_prefix("usd_per_unit")) or "").strip()
        if self.instance._state.adding and offered and not has_amount and set(self.changed_data) <= {"meter"}:
            return False
        return super().has_changed()

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        meter = cleaned.get("meter")
        if meter and Meter(meter).is_tokens and cleaned.get("qualifier"):
            self.add_error("qualifier", "Tokens are of one kind: leave this empty.")
        return cleaned


class RateFormSet(PaginationInlineFormSet):
    def validate_unique(self) -> None:
        """Left to ``clean``, whose message is in words."""

    def clean(self) -> None:
        seen = set()
        rows = [form for form in self.forms if form not in self.deleted_forms and self._is_filled(form)]
        for form in rows:
            if not form.is_valid():
                continue
            rate = form.cleaned_data
            place = (rate["meter"], rate["qualifier"], rate["tier"], rate["above_input_tokens"])
            if place in seen:
                form.add_error(
                    None, "There is a rate for this meter, tier, threshold and kind already: change that one."
                )
            seen.add(place)
        if not rows:
            raise forms.ValidationError("A price needs at least one rate. What costs nothing has the rate 0.")
        missing = {Meter.INPUT.value, Meter.OUTPUT.value} - {
            meter for meter, qualifier, tier, above in seen if tier == Tier.STANDARD and not qualifier and not above
        }
        alias = self._chats_as(any(Meter(meter).is_tokens for meter, *_ in seen)) if missing else None
        if alias is not None and all(form.is_valid() for form in rows):
            raise forms.ValidationError(
                f"The alias “{alias}” chats with this model, so its price needs a rate for input and for output, in "
                "the tier standard and above 0 input tokens. A hard budget lets no request pass without them."
            )

    def _is_filled(self, form: Any) -> bool:
        return bool(form.instance.pk or form.has_changed())

    def _chats_as(self, has_tokens: bool) -> str | None:
        """An alias that uses the model for chat. litellm's map knows what most models are for. Another model chats when
        its price has tokens."""
        price = self.instance
        of_model = Q(provider__name=price.provider, upstream_model=price.model) | Q(
            deployments__provider__name=price.provider, deployments__upstream_model=price.model
        )
        alias = ModelAlias.objects.filter(of_model).first()
        provider = Provider.objects.filter(name=price.provider).first()
        if alias is None or provider is None:
            return None
        mode = mode_of(provider.litellm_provider, price.model)
        return alias.name if mode in _CHAT_MODES or (not mode and has_tokens) else None


class RateInline(TabularInline):
    model = PriceRate
    form = RateForm
    formset = RateFormSet
    extra = 0
    readonly_fields = ("usd",)
    verbose_name_plural = "Rates"
    hide_title = True
    template_before = "routing/rates_help.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[PriceRate]:
        """Rates in the order of a provider's price page: by tier, then threshold, then meter."""
        rows: QuerySet[PriceRate] = super().get_queryset(request)
        tier = Case(*(When(tier=tier, then=place) for place, tier in enumerate(Tier)))
        meter = Case(*(When(meter=meter, then=place) for place, meter in enumerate(Meter)))
        return rows.order_by(tier, "above_input_tokens", meter, "qualifier")

    @display(description="USD")
    def usd(self, rate: PriceRate) -> str:
        return plain_usd(rate.usd_per_unit)

    def get_fields(self, request: HttpRequest, obj: Price | None = None) -> tuple[str, ...]:
        usd = "usd" if obj is not None and not self.has_change_permission(request, obj) else "usd_per_unit"
        return ("meter", usd, "tier", "above_input_tokens", "qualifier")

    def get_extra(self, request: HttpRequest, obj: Price | None = None, **kwargs: Any) -> int:
        return len(_offered_rates(request)) if obj is None else 0

    # The rates are part of the price, so an operator's rights on the price apply to its rates.
    def has_add_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return self._may(request, obj, "add" if obj is None else "change")

    def has_change_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return self._may(request, obj, "change")

    def has_delete_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return self._may(request, obj, "change")

    def has_view_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        return any(request.user.has_perm(f"accounting.{right}_price") for right in ("view", "add", "change"))

    def _may(self, request: HttpRequest, price: Price | None, right: str) -> bool:
        is_history = price is not None and price.effective_from <= datetime.now(UTC)
        return request.user.has_perm(f"accounting.{right}_price") and not is_history


def _offered_rates(request: HttpRequest) -> list[dict[str, Any]]:
    """The rows of a new price: the rates of the price that it is made from, or the usual meters."""
    source = request.GET.get("from", "")
    price = Price.objects.filter(pk=source).first() if source.isdecimal() else None
    if price is None:
        return [{"meter": meter.value} for meter in _STARTERS]
    return [
        {
            "meter": rate.meter.value,
            "usd_per_unit": rate.usd_per_unit,
            "tier": rate.tier.value,
            "above_input_tokens": rate.above_input_tokens,
            "qualifier": rate.qualifier,
        }
        for rate in price.price_list().rates
    ]


@admin.register(Price)
class PriceAdmin(Page):
    form = PriceForm
    list_display = (
        "model", "provider", "when", "effective_from", "input_usd", "output_usd", "cached_usd", "tiers", "source",
    )  # fmt: skip
    inlines = (RateInline,)
    list_filter = ("provider",)
    search_fields = ("provider", "model")
    list_per_page = 50
    when_empty = "Without a price, a model costs nobody knows what, and hard budgets refuse it."
    actions_list = ("import_list",)
    actions_detail = ("replace",)
    warn_unsaved_form = True
    delete_confirmation_template = "routing/delete_confirmation.html"
    delete_selected_confirmation_template = "routing/delete_selected_confirmation.html"
    fieldsets = ((None, {"fields": (("provider", "model"), ("effective_from",), ("source",))}),)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Price]:
        rows: Any = super().get_queryset(request)
        same_model = Price.objects.filter(provider=OuterRef("provider"), model=OuterRef("model"))
        in_force = same_model.filter(effective_from__lte=datetime.now(UTC)).order_by("-effective_from").values("pk")
        priced: QuerySet[Price] = (
            rows.with_token_rates().annotate(in_force_id=Subquery(in_force[:1])).prefetch_related("rates")
        )
        return priced

    @display(description="", label={"in force": "success", "future": "info"})
    def when(self, price: Any) -> str:  # annotated by get_queryset
        if price.effective_from > datetime.now(UTC):
            return "future"
        return "in force" if price.in_force_id == price.pk else "replaced"

    @display(description="input", ordering="input_usd", empty_value="none")
    def input_usd(self, price: Any) -> str | None:
        return None if price.input_usd is None else dollars(price.input_usd)

    @display(description="output", ordering="output_usd", empty_value="none")
    def output_usd(self, price: Any) -> str | None:
        return None if price.output_usd is None else dollars(price.output_usd)

    @display(description="cached input", ordering="cached_input_usd", empty_value="as input")
    def cached_usd(self, price: Any) -> str | None:
        return None if price.cached_input_usd is None else dollars(price.cached_input_usd)

    @display(description="other tiers", empty_value="none")
    def tiers(self, price: Price) -> str | None:
        there = {rate.tier for rate in price.rates.all()}
        return ", ".join(tier for tier in Tier if tier in there and tier is not Tier.STANDARD) or None

    def get_formset_kwargs(self, request: HttpRequest, obj: Any, inline: Any, prefix: str) -> dict[str, Any]:
        kwargs: dict[str, Any] = super().get_formset_kwargs(request, obj, inline, prefix)
        if request.method == "GET" and obj.pk is None:
            kwargs["initial"] = _offered_rates(request)
        return kwargs

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"effective_from": datetime.now(UTC), **super().get_changeform_initial_data(request)}

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A price in force is history already, because a request may be paying it at this moment."""
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
        """The form of a new price, filled in with the rates of this price."""
        price = self.get_object(request, object_id)
        filled = {} if price is None else {"provider": price.provider, "model": price.model, "from": price.pk}
        return HttpResponseRedirect(f"{reverse('admin:accounting_price_add')}?{urlencode(filled)}")

    @action(
        description="Compare with litellm's price map",
        url_path="import",
        permissions=["replace"],
    )
    def import_list(self, request: HttpRequest) -> HttpResponse:
        """Shows where litellm's prices differ from those in force. Ticked prices are written, effective from now."""
        found = offer(configured())
        if request.method == "POST":
            # Write only changes that the operator saw. Another operator or an upgrade may have changed prices since.
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
        priced = set(Price.objects.in_force(datetime.now(UTC)).values_list("provider", "model"))
        context = {
            **self.admin_site.each_context(request),
            "title": "litellm's prices",
            "opts": self.opts,
            "changes": [(_fingerprint(change), change, price_import.differences(change)) for change in found.changes],
            "same": found.same,
            "unknown": [(*place, "" if place in priced else _new_price(*place)) for place in found.unknown],
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


def _new_price(provider: str, model: str) -> str:
    return f"{reverse('admin:accounting_price_add')}?{urlencode({'provider': provider, 'model': model})}"


def _fingerprint(change: PriceChange) -> str:
    """Identifies the change as it is shown. A tick is for these rates, not for rates that the map has later."""
    shown = (change.provider, change.model, *price_import.differences(change))
    return hashlib.sha256("\n".join(shown).encode()).hexdigest()


def _was_charged(price: Price) -> bool:
    if price.effective_from > datetime.now(UTC):
        return False
    of_this_model = {"provider": price.provider, "model": price.model}
    return LedgerEntry.objects.filter(**of_this_model).exists() or Attempt.objects.filter(**of_this_model).exists()
