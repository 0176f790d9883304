"""Who changed what, field by field: the view ``audit`` as a page, an object's change a row."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.paginator import InfinitePaginator

from accounting.admin.entries import DaysFilter, never
from accounting.admin.pages import Page
from accounting.models import Change
from accounting.money import plain_usd


@admin.register(Change)
class ChangeAdmin(Page):
    list_display = ("at", "actor", "how", "object", "what")
    fields = ("at", "actor", "how", "object", "what")
    list_filter = ("road", ("at", DaysFilter))
    list_filter_submit = True
    list_per_page = 50
    list_fullwidth = True
    search_fields = ("object", "actor", "command")
    search_help_text = "A part of an object's name, an operator or a command"
    show_full_result_count = False
    paginator = InfinitePaginator
    has_add_permission = has_change_permission = has_delete_permission = never

    @display(description="by", ordering="road")
    def how(self, change: Change) -> str:
        return f"{change.road} {change.command}".strip()

    @display(description="what")
    def what(self, change: Change) -> SafeString:
        is_new = all(value is None for value in change.before.values())
        is_gone = all(value is None for value in change.after.values())
        lines = []
        for field, after in sorted(change.after.items()):
            values = [after] if is_new else [change.before[field]] if is_gone else [change.before[field], after]
            lines.append((field, " → ".join(map(_words, values))))
        title = "new" if is_new else "deleted" if is_gone else ""
        return format_html("{}{}", title, format_html_join("", "<div>{}: {}</div>", lines))


def _words(value: Any) -> str:
    if isinstance(value, Decimal):
        return plain_usd(value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else "empty" if value in _EMPTY else str(value)


_EMPTY: tuple[Any, ...] = (None, "", [], {})
