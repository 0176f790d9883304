"""Breakers: which deployments requests skip, since when and why. An operator can close a breaker at once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.db.models import Case, CharField, F, QuerySet, Value, When
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.formats import localize
from django.utils.timezone import localtime
from unfold.decorators import action, display

from accounting.admin.pages import Page
from routing import catalog
from routing.admin.names import few
from routing.models import Breaker, BreakerState

#: Compares times by the database's clock, as the workers do.
PHASE = Case(
    When(state=BreakerState.CLOSED, then=Value("closed")),
    When(probe_until__gt=Now(), then=Value("probing")),
    When(open_until__gt=Now(), then=Value("open")),
    default=Value("half-open"),
    output_field=CharField(),
)


@admin.register(Breaker)
class BreakerAdmin(Page):
    list_display = ("provider", "model", "phase", "since", "until", "used_by", "last_kind", "failures", "last_reset")
    fields = ("provider", "model", "phase", "since", "until", "used_by", "last_kind", "failures", "last_reset")
    when_empty = "A deployment's breaker is listed from the first time that it opens."
    list_filter = ("state",)
    search_fields = ("provider", "model")
    actions = ("close",)
    change_form_template = "routing/breaker.html"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Breaker | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Breaker | None = None) -> bool:
        return False

    def has_close_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("routing.change_breaker")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Breaker]:
        rows: QuerySet[Breaker] = super().get_queryset(request)
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
        """When requests may call the deployment again."""
        if breaker.phase == "open":
            until: datetime = breaker.open_until
            return until
        return {"half-open": "the next request probes", "probing": "a request probes it"}.get(breaker.phase)

    @display(description="aliases", empty_value="no enabled alias")
    def used_by(self, breaker: Breaker) -> str | None:
        """Whose requests skip the deployment while its breaker is open."""
        return few(catalog.fresh().aliases_at(breaker.provider, breaker.model)) or None

    @display(description="closed by", ordering="reset_at", empty_value="")
    def last_reset(self, breaker: Breaker) -> str | None:
        """The operator who last closed the breaker, and when. Closing by a successful probe does not count."""
        if breaker.reset_at is None:
            return None
        return f"{breaker.reset_by}, {localize(localtime(breaker.reset_at))}"

    @action(description="Close the selected breakers", permissions=["close"])
    def close(self, request: HttpRequest, queryset: QuerySet[Breaker]) -> None:
        closed = 0
        for breaker in queryset:
            # A new generation, so that the result of a probe that still runs does not overrule the operator.
            is_closed_now = Breaker.objects.filter(pk=breaker.pk, state=BreakerState.OPEN).update(
                state=BreakerState.CLOSED,
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
            messages.info(request, "No selected breaker was open.")
