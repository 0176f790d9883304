"""The ledger, read-only: one row a request, with its attempts and adjustments.

The pages are fast for a ledger of any size: no COUNT, no DISTINCT over it, and only searches that an index answers.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter, RangeDateFilter
from unfold.decorators import action, display
from unfold.enums import ActionVariant
from unfold.paginator import InfinitePaginator

from accounting.admin.corrections import AdjustForm, Question, ResolveForm
from accounting.admin.pages import Page
from accounting.amounts import usd
from accounting.ledger.corrections import AdjustedBefore, NotCorrectable, adjust, resolve
from accounting.models import Adjustment, Attempt, Charge, EntryState, LedgerEntry
from accounting.money import dollars
from accounting.pricing import PriceList

_STATE_COLORS = {"held": "info", "posted": "success", "unknown": "danger"}
_SEEN_IN_LAST = 5000  # the latest rows, whose values the filters offer


def never(*_: Any, **__: Any) -> bool:
    """A permission that nobody has: only ``accounting.ledger`` and its ``corrections`` write these rows."""
    return False


def _usd(amount: Decimal | None) -> SafeString | None:
    return None if amount is None else usd(amount)


def _shortened(request_id: str) -> str:
    """Enough of the id to tell requests apart in a list. The entry's page shows the whole id."""
    return request_id if len(request_id) <= 16 else f"{request_id[:12]}…"


class SeenFilter(DropdownFilter):
    """Offers the values of a column in the latest rows, because the ledger keeps names that are no longer in use."""

    column: ClassVar[str]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        latest = model_admin.model.objects.order_by("-pk").values(self.column)[:_SEEN_IN_LAST]
        # Ids are ordered by time, so the primary key's index is all that this reads.
        seen = {row[self.column] for row in latest} | {request.GET.get(self.parameter_name, "")}
        return [(value, value) for value in sorted(seen - {""})]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{self.column: self.value()}) if self.value() else queryset


class AliasFilter(SeenFilter):
    title, parameter_name, column = "alias", "alias", "alias"


class KeyFilter(SeenFilter):
    title, parameter_name, column = "key", "key", "key"


class ProviderFilter(SeenFilter):
    title, parameter_name, column = "provider", "provider", "provider"


class OutcomeFilter(SeenFilter):
    title, parameter_name, column = "outcome", "outcome", "outcome"


class EndedFilter(DropdownFilter):
    """How a request ended, as the first page counts it."""

    title, parameter_name = "ended", "ended"
    conditions: ClassVar[dict[str, Q]] = {
        "failed": Q(http_status__gte=400) | Q(state=EntryState.UNKNOWN),
        "fallback": Q(fallback=True),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("failed", "failed"), ("fallback", "served by a fallback")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        condition = self.conditions.get(self.value() or "")
        return queryset if condition is None else queryset.filter(condition)


class DaysFilter(RangeDateFilter):
    """From a day to a day. Both days are included, and days are in UTC."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        first, last = (self._day(end) for end in ("from", "to"))
        if first is not None:
            queryset = queryset.filter(**{f"{self.field_path}__gte": first})
        if last is not None and last.date() < date.max:  # no day comes after that one
            queryset = queryset.filter(**{f"{self.field_path}__lt": last + timedelta(days=1)})
        return queryset

    def _day(self, end: str) -> datetime | None:
        try:
            day = date.fromisoformat(self.used_parameters.get(f"{self.parameter_name}_{end}", ""))
        except ValueError:
            return None
        return datetime.combine(day, time(), UTC)


class AttemptInline(TabularInline):
    model = Attempt
    fields = readonly_fields = (
        "position", "alias", "provider", "model", "outcome", "http_status", "error", "duration_ms", "input_tokens",
        "output_tokens", "cost",
    )  # fmt: skip
    ordering = ("position",)
    extra = 0
    hide_title = True
    has_add_permission = has_change_permission = has_delete_permission = never

    @display(description="cost", empty_value="unpriced")
    def cost(self, attempt: Attempt) -> str | None:
        return _usd(attempt.cost_usd)


class AdjustmentInline(TabularInline):
    model = Adjustment
    fields = readonly_fields = ("created_at", "amount", "reason", "author")
    extra = 0
    hide_title = True
    has_add_permission = has_change_permission = has_delete_permission = never

    @display(description="amount")
    def amount(self, adjustment: Adjustment) -> str | None:
        return _usd(adjustment.amount_usd)


class ChargeInline(TabularInline):
    model = Charge
    verbose_name_plural = "Counted in budgets"
    fields = readonly_fields = ("budget", "period_start", "held", "posted", "why")
    extra = 0
    hide_title = True
    has_add_permission = has_change_permission = has_delete_permission = never

    def get_queryset(self, request: HttpRequest) -> QuerySet[Charge]:
        rows: QuerySet[Charge] = super().get_queryset(request)
        return rows.select_related("period__budget").order_by("pk")

    @display(description="budget")
    def budget(self, charge: Charge) -> str:
        return charge.period.budget.name

    @display(description="period from")
    def period_start(self, charge: Charge) -> str:
        return f"{charge.period.period_start:%Y-%m-%d %H:%M} UTC"

    @display(description="held")
    def held(self, charge: Charge) -> str | None:
        return _usd(charge.held_usd)

    @display(description="posted")
    def posted(self, charge: Charge) -> str | None:
        return _usd(charge.posted_usd)

    @display(description="for")
    def why(self, charge: Charge) -> str:
        return "the request" if charge.adjustment_id is None else "an adjustment"


@admin.register(LedgerEntry)
class LedgerEntryAdmin(Page):
    list_display = (
        "created_at", "short_id", "state_label", "key", "alias", "served_by", "tokens", "cost", "status", "took",
    )  # fmt: skip
    list_display_links = ("created_at", "short_id")
    list_filter = (
        ("state", ChoicesDropdownFilter), EndedFilter, AliasFilter, KeyFilter, ProviderFilter,
        ("created_at", DaysFilter),
    )  # fmt: skip
    list_filter_submit = True
    list_per_page = 50
    list_fullwidth = True
    list_disable_select_all = True
    search_fields = ("request_id__exact",)
    search_help_text = "The whole request id (the answer's x-request-id)"
    when_empty = "Each request that is admitted has a row here, from its hold on."
    when_nothing_is_found = "No admitted request fits. One that was refused is under Refusals."
    ordering = ("-created_at",)
    show_full_result_count = False
    paginator = InfinitePaginator
    show_facets = admin.ShowFacets.NEVER
    inlines = (AttemptInline, AdjustmentInline, ChargeInline)
    actions = ("resolve_selected",)
    actions_detail = ("resolve", "adjust")
    has_add_permission = has_change_permission = has_delete_permission = never
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("request_id", "state_label"), ("created_at", "settled_at"), ("key", "alias"),
                    ("served_by", "model"), ("status", "provider_request_id"), ("marks",),
                )
            },
        ),
        (
            "Money",
            {"fields": (("cost", "hold"), ("total", "charged_at"), ("resolved_by", "resolution"))},
        ),
        (
            "Usage",
            {
                "fields": (
                    ("input_tokens", "output_tokens"), ("cached_input_tokens", "reasoning_tokens"),
                    ("cache_write_tokens", "cache_write_1h_tokens"), ("audio_input_tokens", "audio_output_tokens"),
                    ("usage_source", "quantities_in_words"),
                    ("endpoint", "tier"),
                )
            },
        ),
        (
            "Time and caller",
            {"fields": (("first_token_ms", "duration_ms"), ("expires_at", "writer_id"), ("end_user", "tags"))},
        ),
    )  # fmt: skip

    @display(description="state", label=_STATE_COLORS, ordering="state")
    def state_label(self, entry: LedgerEntry) -> str:
        return entry.state

    @display(description="served by")
    def served_by(self, entry: LedgerEntry) -> str | None:
        if not entry.served_alias:
            return None  # the entry's provider is the one that failed last
        if entry.fallback and entry.served_alias:
            return f"{entry.served_alias} · {entry.provider}"
        return entry.provider or None

    @display(description="request")
    def short_id(self, entry: LedgerEntry) -> str:
        return _shortened(entry.request_id)

    @display(description="tokens in / out")
    def tokens(self, entry: LedgerEntry) -> str:
        return f"{entry.input_tokens} / {entry.output_tokens}"

    @display(description="took")
    def took(self, entry: LedgerEntry) -> str | None:
        return None if entry.duration_ms is None else f"{entry.duration_ms} ms"

    @display(description="cost")
    def cost(self, entry: LedgerEntry) -> str | None:
        if entry.state == EntryState.HELD and entry.hold_usd is not None:
            return format_html("{} held", usd(entry.hold_usd))
        if entry.cost_usd is None and entry.state == EntryState.POSTED:
            return "unpriced"
        return _usd(entry.cost_usd)

    @display(description="held", empty_value="unpriced")
    def hold(self, entry: LedgerEntry) -> str | None:
        return _usd(entry.hold_usd)

    @display(description="with adjustments")
    def total(self, entry: LedgerEntry) -> str | None:
        adjusted = sum((row.amount_usd for row in entry.adjustments.all()), Decimal(0))
        return None if entry.cost_usd is None else _usd(entry.cost_usd + adjusted)

    @display(description="other quantities", empty_value="none")
    def quantities_in_words(self, entry: LedgerEntry) -> str | None:
        return ", ".join(f"{amount} {name.replace('_', ' ')}" for name, amount in entry.quantities.items()) or None

    @display(description="in USD per million tokens or characters, or each")
    def charged_at(self, entry: LedgerEntry) -> str | None:
        """The price that the entry was charged at, which the ledger has as PriceList.as_json or in the older shape."""
        if entry.price is None:
            return None
        if "base" in entry.price:
            rates = dict(entry.price["base"])
            rates |= {f"long {name}": rate for name, rate in (entry.price.get("long_context") or {}).items()}
            words = {name.removesuffix("_usd_per_mtok").replace("_", " "): rate for name, rate in rates.items()}
        else:
            words = {rate.words: f"{rate.usd_per_unit}" for rate in PriceList.of(entry.price).rates}
        return ", ".join(f"{name} {dollars(Decimal(rate))}" for name, rate in words.items())

    @display(description="marks")
    def marks(self, entry: LedgerEntry) -> str | None:
        marks = {"streamed": entry.streamed, "served by a fallback": entry.fallback, "overrun": entry.overrun}
        return ", ".join(mark for mark, is_set in marks.items() if is_set) or None

    @display(description="status", ordering="http_status")
    def status(self, entry: LedgerEntry) -> str | None:
        return f"{entry.http_status or ''} {entry.error_code}".strip() or None

    # --- corrections ----------------------------------------------------------------------------------------

    def has_resolve_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("accounting.change_ledgerentry") and _is_in(object_id, EntryState.UNKNOWN)

    def has_adjust_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        settled = (EntryState.POSTED, EntryState.VOIDED)
        return request.user.has_perm("accounting.add_adjustment") and _is_in(object_id, *settled)

    @action(description="Resolve", url_path="resolve", variant=ActionVariant.PRIMARY, permissions=["resolve"])
    def resolve(self, request: HttpRequest, object_id: str) -> HttpResponse:
        entry = LedgerEntry.objects.get(pk=object_id)
        form = ResolveForm(request.POST or None, entries=[entry], initial={"cost_usd": entry.hold_usd})
        if not form.is_valid():
            return self._ask(request, form, "Resolve an unknown entry", [entry])
        if question := form.question():
            return self._ask(request, form, "Resolve an unknown entry", [entry], question)
        self._resolve(request, form, [entry])
        return HttpResponseRedirect(_page_of(entry))

    @action(description="Adjust", url_path="adjust", permissions=["adjust"])
    def adjust(self, request: HttpRequest, object_id: str) -> HttpResponse:
        entry = LedgerEntry.objects.get(pk=object_id)
        form = AdjustForm(request.POST or None, entry=entry)
        if not form.is_valid():
            return self._ask(request, form, "Adjust a settled entry", [entry])
        if question := form.question():
            return self._ask(request, form, "Adjust a settled entry", [entry], question)
        amount, reason = form.cleaned_data["amount_usd"], form.cleaned_data["reason"]
        try:
            adjust(
                entry.pk,
                amount_usd=amount,
                author=request.user.get_username(),
                reason=reason,
                seen_total_usd=form.cleaned_data["seen_total_usd"],
                form_token=form.cleaned_data["token"],
            )
        except NotCorrectable as error:
            messages.error(request, f"{error} Nothing was written.")
        except AdjustedBefore:
            messages.info(request, "This form was sent twice. Its adjustment is on the books once.")
        else:
            self.log_change(request, entry, f"Adjusted by {dollars(amount)}: {reason}")
            messages.success(request, f"Adjusted by {dollars(amount)}.")
        return HttpResponseRedirect(_page_of(entry))

    @action(description="Resolve the selected unknown entries", permissions=["resolve"])
    def resolve_selected(self, request: HttpRequest, queryset: QuerySet[LedgerEntry]) -> HttpResponse | None:
        entries = list(queryset.filter(state=EntryState.UNKNOWN))
        if not entries:
            messages.error(request, "None of the selected entries is unknown. Nothing was changed.")
            return None
        form = ResolveForm(request.POST if "reason" in request.POST else None, entries=entries)
        if form.is_valid():
            self._resolve(request, form, entries)
            return None
        return self._ask(request, form, "Resolve unknown entries", entries)

    def _resolve(self, request: HttpRequest, form: ResolveForm, entries: list[LedgerEntry]) -> None:
        """Resolve each entry in its own transaction, so that a refused entry does not stop the others."""
        author, reason, resolved = request.user.get_username(), form.cleaned_data["reason"], 0
        for entry in entries:
            cost = form.cost_of(entry)
            try:
                resolve(entry.pk, cost_usd=cost, author=author, reason=reason)
            except NotCorrectable as error:
                messages.error(request, f"{entry.request_id}: {error}")
                continue
            how = f"posted at {dollars(cost)}" if cost else "voided"
            self.log_change(request, entry, f"Resolved, {how}: {reason}")
            resolved += 1
        if resolved:
            messages.success(request, f"Resolved {resolved} entr{'y' if resolved == 1 else 'ies'}.")

    def _ask(
        self,
        request: HttpRequest,
        form: AdjustForm | ResolveForm,
        title: str,
        entries: list[LedgerEntry],
        question: Question | None = None,
    ) -> HttpResponse:
        """The form; or, with a question, what it would do, and the same form again without its fields being shown."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "form": form,
            "entries": entries,
            "question": question,
            "confirmed_by": form.confirmed_by() if question else {},
            "selected": request.POST.getlist(helpers.ACTION_CHECKBOX_NAME),
            "checkbox_name": helpers.ACTION_CHECKBOX_NAME,
            "back": _page_of(entries[0]) if len(entries) == 1 else reverse("admin:accounting_ledgerentry_changelist"),
        }
        return TemplateResponse(request, "accounting/correction.html", context)


def _is_in(object_id: Any, *states: EntryState) -> bool:
    """Whether the entry is in one of the states. True without an entry, because the question is then about a list."""
    if object_id is None:
        return True
    try:
        return LedgerEntry.objects.filter(pk=object_id, state__in=states).exists()
    except forms.ValidationError:  # not a UUID
        return False


def _page_of(entry: LedgerEntry) -> str:
    return reverse("admin:accounting_ledgerentry_change", args=[entry.pk])


@admin.register(Attempt)
class AttemptAdmin(Page):
    list_display = (
        "started_at", "short_id", "position", "alias", "provider", "model", "outcome", "http_status", "duration_ms",
        "cost",
    )  # fmt: skip
    list_filter = (ProviderFilter, OutcomeFilter, AliasFilter)
    when_empty = "Each call of a provider has a row here, once its request is settled."
    list_filter_submit = True
    list_per_page = 50
    list_fullwidth = True
    list_select_related = ("entry",)
    ordering = ("-pk",)
    show_full_result_count = False
    paginator = InfinitePaginator
    show_facets = admin.ShowFacets.NEVER
    has_add_permission = has_change_permission = has_delete_permission = never

    @display(description="request")
    def short_id(self, attempt: Attempt) -> SafeString:
        entry = attempt.entry
        return format_html("<a href='{}'>{}</a>", _page_of(entry), _shortened(entry.request_id))

    @display(description="cost", empty_value="unpriced")
    def cost(self, attempt: Attempt) -> str | None:
        return _usd(attempt.cost_usd)


@admin.register(Adjustment)
class AdjustmentAdmin(Page):
    list_display = ("created_at", "entry", "amount", "reason", "author")
    list_select_related = ("entry",)
    list_filter = (("created_at", DaysFilter),)
    list_filter_submit = True
    search_fields = ("entry__request_id__exact", "author__exact")
    search_help_text = "A whole request id, or an operator's name"
    when_empty = "A correction of a settled entry is made on the entry's page, under Ledger, and is listed here."
    has_add_permission = has_change_permission = has_delete_permission = never

    @display(description="amount", ordering="amount_usd")
    def amount(self, adjustment: Adjustment) -> str | None:
        return _usd(adjustment.amount_usd)
