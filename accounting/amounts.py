"""Amounts on the operators' pages: rounded for reading, exact on hover."""

from __future__ import annotations

from decimal import Decimal

from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounting.money import dollars, rounded_dollars


def usd(amount: Decimal) -> SafeString:
    """Says in its title what the rounding leaves out."""
    shown, exact = rounded_dollars(amount), dollars(amount)
    if shown.replace(",", "") == exact:
        return format_html("{}", shown)
    return format_html('<span class="gateway-usd" title="{}">{}</span>', exact, shown)
