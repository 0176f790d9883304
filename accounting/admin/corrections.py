"""The forms of the two corrections that an operator may make. ``accounting.ledger.corrections`` carries them out."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import uuid4

from django import forms
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminTextInputWidget,
)

from accounting.ledger.corrections import Effect, effect_of_adjusting, effect_of_resolving, total_usd
from accounting.models import LedgerEntry
from accounting.money import dollars

FAR_ABOVE_HOLD = 10  # times: a cost above that is more often a slip than a bill, so the form asks again


@dataclass(frozen=True)
class Question:
    """What the operator sees before he confirms: what the correction makes of the entry, and of each budget."""

    total_usd: Decimal | None  # what the entry costs now
    after_usd: Decimal
    effects: list[Effect]
    warning: str = ""


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
    confirmed = forms.DecimalField(required=False, widget=forms.HiddenInput)  # the cost that was asked about

    def __init__(self, *args: Any, entries: list[LedgerEntry], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._entries = entries
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

    def question(self) -> Question | None:
        """What to ask before a valid form is carried out; None when the hold makes it likely, or it was confirmed."""
        if self.cleaned_data["decision"] != self.POST:
            return None
        (entry,), cost = self._entries, Decimal(self.cleaned_data["cost_usd"])
        hold = entry.hold_usd
        if hold is None or cost <= hold * FAR_ABOVE_HOLD or self.cleaned_data.get("confirmed") == cost:
            return None
        times = f"{cost / hold:,.0f} times what was held ({dollars(hold)})" if hold else "and nothing was held"
        return Question(
            entry.cost_usd, cost, effect_of_resolving(entry.pk, cost), f"{dollars(cost)} is {times}. Is it the bill's?"
        )

    def confirmed_by(self) -> dict[str, str]:
        return {"confirmed": str(self.cleaned_data["cost_usd"])}


class AdjustForm(forms.Form):
    amount_usd = _usd(
        label="Amount in USD",
        help_text="Added to the cost; negative gives money back. Every budget that the entry was charged to follows.",
    )
    reason = _reason()
    token = forms.UUIDField(widget=forms.HiddenInput)  # one a form: it adjusts once, however often it is sent
    seen_total_usd = forms.DecimalField(required=False, widget=forms.HiddenInput)  # set by the confirmation

    def __init__(self, *args: Any, entry: LedgerEntry, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["token"] = uuid4()
        self._entry = entry
        self._total_usd = total_usd(entry.pk)

    def clean_amount_usd(self) -> Decimal:
        amount: Decimal = self.cleaned_data["amount_usd"]
        if not amount:
            raise forms.ValidationError("An adjustment of nothing changes nothing.")
        is_confirmed = bool(self.data.get("seen_total_usd"))  # then `adjust` decides, under the entry's lock
        if not is_confirmed and amount < 0 and self._total_usd + amount < 0:
            raise forms.ValidationError(
                f"The entry costs {dollars(self._total_usd)}, adjustments included, and no more than that is given "
                "back."
            )
        return amount

    def question(self) -> Question | None:
        """What to ask before a valid form is carried out; None when it was confirmed."""
        if self.cleaned_data.get("seen_total_usd") is not None:
            return None
        amount: Decimal = self.cleaned_data["amount_usd"]
        hold = self._entry.hold_usd or Decimal(0)
        is_far = amount > max(hold, self._total_usd) * FAR_ABOVE_HOLD
        return Question(
            self._total_usd,
            self._total_usd + amount,
            effect_of_adjusting(self._entry.pk, amount),
            f"That is more than {FAR_ABOVE_HOLD} times what the entry cost and held." if is_far else "",
        )

    def confirmed_by(self) -> dict[str, str]:
        return {"seen_total_usd": str(self._total_usd)}
