"""Breakers: which deployments are left alone, since when and why; and a way to call one again at once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.db.models import Case, CharField, F, QuerySet, Value, When
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.formats import localize
from django.utils.timezone import localtime
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from routing.models import Breaker, BreakerState

#: By the database's clock, as the workers decide.
PHASE = Case(
    When(state=Breaker.CLOSED, then=Value("closed")),
    When(probe_until__gt=Now(), then=Value("probing")),
    When(open_until__gt=Now(), then=Value("open")),
    default=Value("half-open"),
    output_field=CharField(),
)


@admin.register(BreakerState)
class BreakerStateAdmin(ModelAdmin):
    list_display = ("provider", "model", "phase", "since", "until", "last_kind", "failures", "last_reset")
    fields = ("provider", "model", "phase", "since", "until", "last_kind", "failures", "last_reset")
    list_filter = ("state",)
    search_fields = ("provider", "model")
    actions = ("close",)
    change_form_template = "routing/breaker.html"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: BreakerState | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: BreakerState | None = None) -> bool:
        return False

    def has_close_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("routing.change_breakerstate")

    def get_queryset(self, request: HttpRequest) -> QuerySet[BreakerState]:
        rows: QuerySet[BreakerState] = super().get_queryset(request)
        return rows.annotate(phase=PHASE)

    @display(
        description="state",
        ordering="state",
        label={"closed": "success", "open": "danger", "half-open": "warning", "probing": "info"},
    )
    def phase(self, breaker: Any) -> str:  # annotated by get_queryset
        phase: str = breaker.phase
        return phase

    @display(description="until", ordering="open_until", empty_value="")
    def until(self, breaker: Any) -> datetime | str | None:
        """When requests may call it again."""
        if breaker.phase == "open":
            until: datetime = breaker.open_until
            return until
        return {"half-open": "the next request probes", "probing": "a request probes it"}.get(breaker.phase)

    @display(description="closed by", ordering="reset_at", empty_value="")
    def last_reset(self, breaker: BreakerState) -> str | None:
        """The operator who did it last; a successful probe needs none."""
        if breaker.reset_at is None:
            return None
        return f"{breaker.reset_by}, {localize(localtime(breaker.reset_at))}"

    @action(description="Close the selected breakers", permissions=["close"])
    def close(self, request: HttpRequest, queryset: QuerySet[BreakerState]) -> None:
        closed = 0
        for breaker in queryset:
            # A new generation: the result of a probe that still runs says nothing about this decision.
            is_closed_now = BreakerState.objects.filter(pk=breaker.pk, state=Breaker.OPEN).update(
                state=Breaker.CLOSED,
                since=Now(),
                probe_until=None,
                generation=F("generation") + 1,
                reset_by=request.user.get_username(),
                reset_at=Now(),
            )
            if is_closed_now:
                self.log_change(request, breaker, "Closed.")
                closed += 1
        if closed:
            messages.success(request, f"Closed {closed} breaker(s); every worker knows within a second.")
        else:
            messages.info(request, "None of them was open.")
