"""Aliases and their fallback chains. Operators change them most often, and while requests are running."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import F, Func, OuterRef, QuerySet, Subquery, Value
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from unfold.admin import TabularInline
from unfold.decorators import display
from unfold.forms import PaginationInlineFormSet

from accounting import wildcards
from accounting.admin.pages import Page
from accounting.models import ApiKey, Budget, BudgetScope, Price
from accounting.money import plain_usd
from routing.models import ChainKind, Fallback, FurtherDeployment, ModelAlias, Provider
from routing.upstreams.base import thinking_limit_s
from routing.upstreams.thinking import reasons, reasons_unasked

_KIND_WORDS = {ChainKind.CONTEXT_WINDOW: "prompt too long", ChainKind.CONTENT_POLICY: "content refused"}


class OrderedForm(forms.ModelForm[Fallback | FurtherDeployment]):
    """A row of an ordered list, in which an operator may move rows."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance._state.adding:
            self.initial["position"] = None
        if "position" in self.fields:  # not when the page is read-only
            self.fields["position"].required = False


class StepForm(OrderedForm):
    def clean_target(self) -> ModelAlias:
        # The table has this constraint too, but the form of an inline does not check it: the page supplies the alias.
        target: ModelAlias = self.cleaned_data["target"]
        if target.pk == self.instance.alias_id:
            raise forms.ValidationError("An alias cannot fall back to itself.")
        if wildcards.is_wildcard(target.name):
            raise forms.ValidationError("A wildcard is no model: make an alias for the one that is meant.")
        return target


class OrderedFormSet(PaginationInlineFormSet):
    """Compares the rows with one another, not with the table, so that two rows may swap their positions or targets.

    The table's constraints are deferred to the commit. A row with an empty position goes to the end.
    """

    def clean(self) -> None:
        rows = [
            form
            for form in self.forms
            if form not in self.deleted_forms and form.is_valid() and (form.instance.pk or form.has_changed())
        ]
        last = max((form.cleaned_data["position"] or 0 for form in rows), default=0)
        for form in rows:
            if form.cleaned_data["position"] is None:
                last += 1
                form.cleaned_data["position"] = form.instance.position = last
        super().clean()

    def get_unique_error_message(self, unique_check: Sequence[str]) -> str:
        return f"Two rows have the same {' and '.join(name for name in unique_check if name != 'alias')}."


class FallbackInline(TabularInline):
    model = Fallback
    fk_name = "alias"
    form = StepForm
    formset = OrderedFormSet
    extra = 0
    fields = ("position", "kind", "target")
    ordering = ("kind", "position")
    ordering_field = "position"
    hide_title = True
    verbose_name_plural = "Fallback chain"
    template_before = "routing/chain_help.html"


class DeploymentInline(TabularInline):
    model = FurtherDeployment
    form = OrderedForm
    formset = OrderedFormSet
    extra = 0
    fields = ("position", "provider", "upstream_model", "weight")
    ordering = ("position",)
    ordering_field = "position"
    hide_title = True
    verbose_name_plural = "Further deployments"
    template_before = "routing/deployments_help.html"


@admin.register(ModelAlias)
class ModelAliasAdmin(Page):
    list_display = ("name", "deployment", "chain", "price", "output_cap_tokens", "enabled", "position")
    list_editable = ("enabled", "position")
    ordering_field = "position"
    ordering = ("position", "name")
    list_filter = ("enabled",)
    search_fields = ("name", "upstream_model")
    list_per_page = 100
    fields = (
        "name",
        "provider",
        "upstream_model",
        "weight",
        "output_cap_tokens",
        "first_token_timeout_s",
        "first_token_limits",
        "rescues_streams",
        "enabled",
        "position",
    )
    readonly_fields = ("first_token_limits",)
    inlines = (FallbackInline, DeploymentInline)
    warn_unsaved_form = True
    delete_confirmation_template = "routing/delete_confirmation.html"
    delete_selected_confirmation_template = "routing/delete_selected_confirmation.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelAlias]:
        current: Any = (  # annotated
            Price.objects.filter(provider=OuterRef("provider__name"), model=OuterRef("upstream_model"))
            .in_force(datetime.now(UTC))
            .with_token_rates()
        )
        rows: QuerySet[ModelAlias] = super().get_queryset(request)
        return (
            rows.select_related("provider")
            .prefetch_related("fallbacks__target", "deployments__provider")
            .annotate(
                input_usd=Subquery(current.values("input_usd")[:1]),
                output_usd=Subquery(current.values("output_usd")[:1]),
            )
        )

    @display(description="answered by", ordering="provider__name")
    def deployment(self, alias: ModelAlias) -> str:
        off = "" if alias.provider.enabled else " (off)"
        further = len(alias.deployments.all())  # prefetched
        more = f" + {further} more" if further else ""
        return f"{alias.provider.name}{off} · {alias.upstream_model}{more}"

    @display(description="First-token limits in force", empty_value="shown once the alias is saved")
    def first_token_limits(self, alias: ModelAlias) -> str | None:
        """Of each deployment, as requests meet it."""
        if alias._state.adding:
            return None
        own = [(alias.provider, alias.upstream_model)]
        own += [(further.provider, further.upstream_model) for further in alias.deployments.all()]
        return "; ".join(f"{p.name} · {model}: {_first_token_limit(alias, p, model)}" for p, model in own)

    @display(description="fallback chain", empty_value="none")
    def chain(self, alias: ModelAlias) -> str | None:
        chains: dict[str, list[str]] = {}
        for step in alias.fallbacks.all():
            chains.setdefault(step.kind, []).append(step.target.name + ("" if step.target.enabled else " (off)"))
        texts = [" → ".join(chains.pop(ChainKind.GENERAL, []))]
        texts += [f"{_KIND_WORDS[ChainKind(kind)]}: {' → '.join(names)}" for kind, names in chains.items()]
        return "; ".join(text for text in texts if text) or None

    @display(description="USD per million in / out", label={"unpriced": "warning"})
    def price(self, alias: ModelAlias) -> Any:
        row: Any = alias  # annotated by get_queryset
        if wildcards.is_wildcard(alias.upstream_model) and row.input_usd is None:
            return "each model's"
        if row.input_usd is None or row.output_usd is None:
            return "unpriced"
        return f"{plain_usd(row.input_usd)} / {plain_usd(row.output_usd)}"

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, Any, list[str]]:
        deleted, counts, perms_needed, protected = super().get_deleted_objects(objs, request)
        if protected:
            steps = Fallback.objects.filter(target__in=objs).select_related("alias", "target")
            protected = [f"The alias “{step.alias}” falls back to “{step.target}”." for step in steps]
        return deleted, counts, perms_needed, protected

    def save_model(self, request: HttpRequest, obj: ModelAlias, form: Any, change: bool) -> None:
        """A rename also changes the keys and budgets that name the alias in text, in the same transaction."""
        before = ModelAlias.objects.select_for_update().get(pk=obj.pk).name if change else obj.name
        super().save_model(request, obj, form, change)
        if before != obj.name:
            _follow_rename(request, before, obj.name)
        _warn_when_unpriced(request, obj)


def _first_token_limit(alias: ModelAlias, provider: Provider, model: str) -> str:
    if alias.first_token_timeout_s is not None:
        return f"{alias.first_token_timeout_s:g} s"
    usual_s = provider.first_token_timeout_s
    thinking_s = thinking_limit_s(usual_s)
    if reasons_unasked(provider.litellm_provider, model):
        return f"{thinking_s:g} s, as it thinks in silence"
    if reasons(provider.litellm_provider, model):
        return f"{usual_s:g} s, or {thinking_s:g} s when it is asked to think"
    return f"{usual_s:g} s"


def _follow_rename(request: HttpRequest, before: str, name: str) -> None:
    keys = ApiKey.objects.filter(allowed_aliases__contains=[before]).update(
        allowed_aliases=Func(F("allowed_aliases"), Value(before), Value(name), function="array_replace")
    )
    budgets = Budget.objects.filter(scope=BudgetScope.ALIAS, scope_value=before).update(scope_value=name)
    messages.info(
        request,
        f"Renamed “{before}” to “{name}”: {keys} API key(s) and {budgets} budget(s) follow. Clients must send the new "
        "name from now on; past requests keep the old name in the ledger.",
    )


def _warn_when_unpriced(request: HttpRequest, alias: ModelAlias) -> None:
    if wildcards.is_wildcard(alias.upstream_model):
        return  # each model has its own price, and only those that have one are asked
    deployment = {"provider": alias.provider.name, "model": alias.upstream_model}
    if Price.objects.filter(**deployment).in_force(datetime.now(UTC)).exists():
        return
    messages.warning(
        request,
        format_html(
            "{} at {} has no price, so hard budgets refuse it. <a href='{}'><u>Add its price</u></a>.",
            alias.upstream_model,
            alias.provider.name,
            f"{reverse('admin:accounting_price_add')}?{urlencode(deployment)}",
        ),
    )
