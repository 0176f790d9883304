"""What each run of reconcile found, read-only."""

from __future__ import annotations

from django.contrib import admin
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display

from accounting.admin.entries import never
from accounting.admin.pages import Page
from accounting.models import Reconciliation


@admin.register(Reconciliation)
class ReconciliationAdmin(Page):
    list_display = ("at", "result", "periods", "entries", "is_whole")
    list_per_page = 50
    when_empty = "Each start of the gateway compares what is new on the books, and `manage.py reconcile` all of them."
    fields = ("at", "result", "periods", ("entries", "is_whole"), "first_discrepancies")
    has_add_permission = has_change_permission = has_delete_permission = never

    @display(description="result", label={"right": "success"})
    def result(self, run: Reconciliation) -> str:
        return f"{run.discrepancies} off" if run.discrepancies else "right"

    @display(description="what was off", empty_value="nothing")
    def first_discrepancies(self, run: Reconciliation) -> SafeString | None:
        words = list(run.details)
        if run.discrepancies > len(words):
            words.append(f"and {run.discrepancies - len(words)} more: `manage.py reconcile` prints all")
        return format_html_join("", "<p>{}</p>", ((line,) for line in words)) or None
