"""Providers: their addresses and wire formats, and whether their keys are present. The keys are never shown."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from unfold.admin import TabularInline
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from accounting.admin.pages import Page
from accounting.models import Budget, BudgetScope, Price
from routing.models import ModelAlias, Provider, ProviderKey, validate_base_url
from routing.secrets import references
from routing.secrets.references import validate_key_reference, validate_readable
from routing.upstreams.providers import PROVIDERS, is_known_provider, needs_base_url


class KeyReferenceInput(UnfoldAdminTextInputWidget):
    """Shows references only. Any other text may be a pasted key, which the page that refuses it must not repeat."""

    def format_value(self, value: Any) -> str | None:
        return _only_if_valid(value, validate_key_reference)


class BaseUrlInput(UnfoldAdminTextInputWidget):
    """Shows valid addresses only. People paste addresses that contain a password."""

    def format_value(self, value: Any) -> str | None:
        return _only_if_valid(value, validate_base_url)


def _only_if_valid(value: Any, validate: Any) -> str | None:
    try:
        validate(value or "")
    except ValidationError:
        return None
    return str(value)


def _clean_key_reference(form: forms.ModelForm[Any]) -> str:
    """An older reference that may not be read any more does not keep the row from being saved."""
    reference: str = form.cleaned_data["key_reference"]
    if reference and "key_reference" in form.changed_data:
        validate_key_reference(reference)
        validate_readable(reference)
    return reference


class ProviderForm(forms.ModelForm[Provider]):
    clean_key_reference = _clean_key_reference
    may_send_keys_anywhere = False  # set for each request

    class Meta:
        widgets = {
            "key_reference": KeyReferenceInput({"autocomplete": "off", "placeholder": "env:OPENAI_API_KEY"}),
            "base_url": BaseUrlInput({"placeholder": "https://…"}),
        }
        labels = {
            "litellm_provider": "Wire format",
            "api_version": "API version",
            "connect_timeout_s": "Connect",
            "first_token_timeout_s": "First token",
            "idle_timeout_s": "Idle",
            "total_timeout_s": "Total",
            "breaker_failures": "Failures in a row",
            "breaker_failure_rate": "Failure rate",
            "breaker_cooldown_s": "Cool-down in seconds",
        }

    def clean_litellm_provider(self) -> str:
        name: str = self.cleaned_data["litellm_provider"].strip()
        if not is_known_provider(name):
            close = get_close_matches(name.lower(), PROVIDERS, n=3)
            hint = f"Did you mean {' or '.join(close)}?" if close else "openai fits every OpenAI-compatible server."
            raise ValidationError("litellm knows no provider “%(name)s”. %(hint)s", params={"name": name, "hint": hint})
        return name

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        wire = cleaned.get("litellm_provider", "")
        if needs_base_url(wire) and "base_url" in cleaned and not cleaned["base_url"]:
            self.add_error("base_url", f"“{wire}” has no address of its own: say where the server is.")
        if not self.may_send_keys_anywhere and self._sends_a_key_elsewhere(cleaned):
            self.add_error("base_url", _ASK_A_SUPERUSER)
        name, before = cleaned.get("name"), self.initial.get("name")
        if before and name and name != before and _prices_collide(before, name):
            self.add_error(
                "name",
                f"There are prices for “{name}” already, at the same moments as for “{before}”: delete or "
                "change one of the two first.",
            )
        return cleaned

    def _sends_a_key_elsewhere(self, cleaned: dict[str, Any]) -> bool:
        """Whether a key goes to an address of somebody's own to which it did not go before."""
        addresses = _addresses(cleaned.get("base_url", ""), cleaned.get("parameters"))
        named = {cleaned.get("key_reference", ""), *_names_in(cleaned.get("parameters"))} - {""}
        if self.instance._state.adding:
            return bool(addresses and named)
        before = Provider.objects.get(pk=self.instance.pk)
        known = _references_of(before.pk)
        if addresses <= _addresses(before.base_url, before.parameters):
            return bool(addresses) and not named <= known
        return bool(named | _further_references_of(before.pk))


_ASK_A_SUPERUSER = (
    "Only a superuser may send a key to an address of your own, because its server reads the key: ask one, or leave "
    "out the key."
)
#: Names of parameters that litellm takes an address from.
_ADDRESS = re.compile(r"(^|_)(endpoint|url|uri|base|host|domain)(_|$)")


def _addresses(base_url: str, parameters: Any) -> set[str]:
    """The addresses that are not the provider's own."""
    given = parameters if isinstance(parameters, dict) else {}
    named = {str(value) for name, value in given.items() if _ADDRESS.search(name) or "://" in str(value)}
    return (named | {base_url}) - {""}


def _names_in(parameters: Any) -> set[str]:
    """The parameters' values that name a secret of the server."""
    given = parameters if isinstance(parameters, dict) else {}
    return {str(value) for value in given.values() if str(value).startswith(("os.environ/", "oidc/"))}


def _references_of(provider_id: int) -> set[str]:
    """What the provider is sent now, as the database has it."""
    rows = Provider.objects.filter(pk=provider_id).values_list("key_reference", "parameters")
    own = {name for reference, parameters in rows for name in (reference, *_names_in(parameters))}
    return own | _further_references_of(provider_id)


def _further_references_of(provider_id: int) -> set[str]:
    return set(ProviderKey.objects.filter(provider=provider_id).values_list("key_reference", flat=True))


def _prices_collide(before: str, name: str) -> bool:
    """Whether the prices that follow a rename collide with prices that the new name has already."""
    moments = set(Price.objects.filter(provider=before).values_list("model", "effective_from"))
    return not moments.isdisjoint(Price.objects.filter(provider=name).values_list("model", "effective_from"))


class FurtherKeyForm(forms.ModelForm[ProviderKey]):
    clean_key_reference = _clean_key_reference

    class Meta:
        widgets = {"key_reference": KeyReferenceInput({"autocomplete": "off", "placeholder": "env:OPENAI_API_KEY_2"})}


class FurtherKeys(forms.BaseInlineFormSet[ProviderKey, Provider, FurtherKeyForm]):
    may_send_keys_anywhere = False  # set for each request

    def clean(self) -> None:
        super().clean()
        provider = self.instance
        if self.may_send_keys_anywhere or not _addresses(provider.base_url, provider.parameters):
            return
        known = set() if provider._state.adding else _references_of(provider.pk)
        for form in self.forms:
            if form.cleaned_data.get("key_reference", "") not in {"", *known}:
                form.add_error("key_reference", _ASK_A_SUPERUSER)


class FurtherKeyInline(TabularInline):
    model = ProviderKey
    form = FurtherKeyForm
    formset = FurtherKeys
    extra = 0
    fields = ("key_reference", "status", "enabled")
    readonly_fields = ("status",)
    hide_title = True
    verbose_name_plural = "Further keys"
    template_before = "routing/further_keys_help.html"

    @display(description="key now", label={"present": "success", "missing": "danger", "not allowed": "danger"})
    def status(self, key: ProviderKey) -> str:
        if references.refused(key.key_reference):
            return "not allowed"
        return "present" if references.find(key.key_reference) else "missing"

    def get_formset(self, request: HttpRequest, obj: Provider | None = None, **kwargs: Any) -> Any:
        made = super().get_formset(request, obj, **kwargs)
        made.may_send_keys_anywhere = request.user.is_superuser
        return made


@admin.register(Provider)
class ProviderAdmin(Page):
    form = ProviderForm
    list_display = ("name", "wire_format", "address", "key_reference", "key_status", "enabled", "alias_count")
    list_filter = ("enabled",)
    search_fields = ("name", "litellm_provider", "base_url")
    readonly_fields = ("key_status",)
    inlines = (FurtherKeyInline,)
    warn_unsaved_form = True
    delete_confirmation_template = "routing/delete_confirmation.html"
    delete_selected_confirmation_template = "routing/delete_selected_confirmation.html"
    fieldsets = (
        (None, {"fields": ("name", "litellm_provider", "base_url", "api_version", "parameters", "enabled")}),
        (
            "Key",
            {
                "fields": ("key_reference", "key_status"),
                "description": "The gateway stores where the key is, never the key. It is read at each use, so a "
                "rotated key needs no restart.",
            },
        ),
        (
            "Timeouts",
            {
                "fields": (
                    ("connect_timeout_s", "first_token_timeout_s"),
                    ("idle_timeout_s", "total_timeout_s"),
                ),
                "description": "In seconds. When a provider is silent for longer, the request goes on to the next "
                "step of its chain.",
            },
        ),
        (
            "Retries and breaker",
            {
                "fields": (("retries",), ("breaker_failures", "breaker_failure_rate"), ("breaker_cooldown_s",)),
                "description": "After that many failures in a row, or at that rate of failures, the breaker of a "
                "model opens. Requests skip the model until the cool-down is over. Then one request probes it.",
            },
        ),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Provider | None = None) -> Any:
        if obj is not None:
            return self.fieldsets
        first, key, *others = self.fieldsets
        return (first, (key[0], {**key[1], "fields": ("key_reference",)}), *others)  # a new provider has no key yet

    def get_form(self, request: HttpRequest, obj: Provider | None = None, change: bool = False, **kwargs: Any) -> Any:
        made = super().get_form(request, obj, change, **kwargs)
        made.may_send_keys_anywhere = request.user.is_superuser
        return made

    def get_queryset(self, request: HttpRequest) -> QuerySet[Provider]:
        rows: QuerySet[Provider] = super().get_queryset(request)
        return rows.annotate(
            alias_total=Count("aliases", distinct=True), deployment_total=Count("deployments", distinct=True)
        )

    @display(description="wire format", ordering="litellm_provider")
    def wire_format(self, provider: Provider) -> str:
        return provider.litellm_provider

    @display(description="base URL", empty_value="the provider's own", ordering="base_url")
    def address(self, provider: Provider) -> str | None:
        return provider.base_url or None

    @display(
        description="key now",
        label={"present": "success", "missing": "danger", "not allowed": "danger", "needs none": "info"},
    )
    def key_status(self, provider: Provider) -> str:
        if references.refused(provider.key_reference):
            return "not allowed"
        key = references.find(provider.key_reference)
        if key is None:
            return "missing"
        return "present" if key else "needs none"

    @display(description="aliases", ordering="alias_total")
    def alias_count(self, provider: Provider) -> int:
        row: Any = provider  # annotated by get_queryset
        return int(row.alias_total + row.deployment_total)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, Any, list[str]]:
        deleted, counts, perms_needed, protected = super().get_deleted_objects(objs, request)
        if protected:
            users = ModelAlias.objects.filter(Q(provider__in=objs) | Q(deployments__provider__in=objs)).distinct()
            protected = [f"The alias “{alias}” uses it." for alias in users]
        return deleted, counts, perms_needed, protected

    def save_model(self, request: HttpRequest, obj: Provider, form: Any, change: bool) -> None:
        """A rename also changes the prices and budgets that name the provider in text, in the same transaction."""
        before = Provider.objects.select_for_update().get(pk=obj.pk).name if change else obj.name
        super().save_model(request, obj, form, change)
        if before == obj.name:
            return
        prices = Price.objects.filter(provider=before).update(provider=obj.name)
        budgets = Budget.objects.filter(scope=BudgetScope.PROVIDER, scope_value=before).update(scope_value=obj.name)
        messages.info(
            request,
            f"Renamed “{before}” to “{obj.name}”: {prices} price(s) and {budgets} budget(s) follow. Past requests "
            "keep the old name in the ledger.",
        )
