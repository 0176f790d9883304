"""The admin's log-in form. Each try is counted first, so guessing costs neither the gateway nor an operator much."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from unfold.forms import AuthenticationForm

from accounting import facts
from routing.admin import passwords
from routing.sign_ins import tries


class SignInForm(AuthenticationForm):
    def clean(self) -> Any:
        name, password = (self.cleaned_data.get(field) or "" for field in ("username", "password"))
        if self.request is None or not name or not password:
            return super().clean()
        name, address = name[:150], tries.address_of(self.request)
        if wait_s := tries.refused_for_s(name, address):
            minutes = -(-wait_s // 60)
            raise ValidationError(
                f"Too many tries to sign in. Try again in {minutes} minute{'s' if minutes > 1 else ''}, or ask whoever "
                "runs the gateway: manage.py unlock.",
                code="too_many_tries",
            )
        if passwords.is_busy():
            raise ValidationError("Many sign in at this moment. Try again in a few seconds.", code="busy")
        try:
            cleaned = super().clean()
        except ValidationError:
            facts.sign_in_failed(name, address)
            raise
        tries.remember(name, address)
        facts.signed_in(name, address)
        return cleaned


admin.site.login_form = SignInForm
