"""The forms of the two corrections that an operator may make. ``accounting.ledger.corrections`` carries them out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminTextInputWidget,
)

from accounting.models import LedgerEntry
from accounting.money import dollars


def _reason() -> forms.CharField:
    return forms.CharField(
        max_length=500,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Stays on the books with your name, and cannot be changed later.",
    )


def _usd(**options: Any) -> forms.DecimalField:
    # 12 decimal places and 8 digits before them: what the ledger's columns hold.
    return forms.DecimalField(
        max_digits=20, decimal_places=12, widget=UnfoldAdminDecimalFieldWidget({"step": "any"}), **options
    )


class ResolveForm(forms.Form):
    """For one or more unknown entries: post what the provider billed, or void them."""

    POST, HOLD, VOID = "post", "hold", "void"

    decision = forms.ChoiceField(
        label="What became of it", widget=UnfoldAdminRadioSelectWidget(radio_style=1), initial=POST
    )
    cost_usd = _usd(
        label="Cost in USD", required=False, min_value=Decimal(0), help_text="What the provider's bill says."
    )
    reason = _reason()

    def __init__(self, *args: Any, entries: list[LedgerEntry], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        decision = self.fields["decision"]
        assert isinstance(decision, forms.ChoiceField)
        if len(entries) == 1:
            hold = entries[0].hold_usd
            decision.choices = [(self.POST, "The provider billed it"), (self.VOID, "The provider did not bill it")]
            if hold is not None:
                self.fields["cost_usd"].help_text = f"What the provider's bill says. Held were {dollars(hold)}."
        else:
            decision.choices = [
                (self.HOLD, "The provider billed them: post each at what was held"),
                (self.VOID, "The provider did not bill them"),
            ]
            decision.initial = self.HOLD
            del self.fields["cost_usd"]

    def clean(self) -> dict[str, Any] | None:
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("decision") == self.POST and "cost_usd" not in self.errors and not cleaned.get("cost_usd"):
            self.add_error("cost_usd", "Say what it cost; what cost nothing was not billed.")
        return cleaned

    def cost_of(self, entry: LedgerEntry) -> Decimal:
        """The cost that the operator decided for an entry. Zero voids the entry."""
        decision: str = self.cleaned_data["decision"]
        if decision == self.VOID:
            return Decimal(0)
        return (entry.hold_usd or Decimal(0)) if decision == self.HOLD else Decimal(self.cleaned_data["cost_usd"])


class AdjustForm(forms.Form):
    amount_usd = _usd(
        label="Amount in USD",
        help_text="Added to the cost; negative gives money back. Every budget that the entry was charged to follows.",
    )
    reason = _reason()

    def clean_amount_usd(self) -> Decimal:
        amount: Decimal = self.cleaned_data["amount_usd"]
        if not amount:
            raise forms.ValidationError("An adjustment of nothing changes nothing.")
        return amount
