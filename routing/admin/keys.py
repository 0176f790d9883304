"""Our API keys. A new key is shown once, on the page that answers the form, and never again."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from accounting.keys import fields_for, new_secret
from accounting.models import ApiKey
from routing.models import ModelAlias


class ApiKeyForm(forms.ModelForm[ApiKey]):
    allowed_aliases = forms.MultipleChoiceField(
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="The aliases that this key may use. Tick no alias to allow all of them, future ones too.",
    )

    class Meta:
        help_texts: ClassVar = {
            "concurrent_requests": f"Empty: GATEWAY_KEY_CONCURRENCY, {settings.GATEWAY_KEY_CONCURRENCY} in each worker."
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "allowed_aliases" not in self.fields:  # a read-only page
            return
        names = list(ModelAlias.objects.values_list("name", flat=True))
        # A deleted alias stays a choice. Else saving the form could leave an empty list, which allows all aliases.
        deleted = [name for name in self.instance.allowed_aliases if name not in names]
        self.fields["allowed_aliases"] = forms.MultipleChoiceField(
            choices=[(name, name) for name in names] + [(name, f"{name} (deleted)") for name in deleted],
            required=False,
            widget=UnfoldAdminCheckboxSelectMultipleWidget,
            help_text=self.fields["allowed_aliases"].help_text,
        )


@admin.register(ApiKey)
class ApiKeyAdmin(ModelAdmin):
    form = ApiKeyForm
    list_display = ("name", "shown_prefix", "enabled", "may_use", "expires_at", "limits", "created_at")
    list_filter = ("enabled",)
    search_fields = ("name", "prefix")
    readonly_fields = ("shown_prefix", "created_at")
    actions = ("enable", "disable")
    warn_unsaved_form = True
    delete_confirmation_template = "routing/delete_confirmation.html"
    delete_selected_confirmation_template = "routing/delete_selected_confirmation.html"
    fieldsets = (
        (None, {"fields": ("name", "enabled", "expires_at", "allowed_aliases", "uses_wildcards")}),
        ("Limits", {"fields": (("requests_per_minute", "tokens_per_minute", "concurrent_requests"),)}),
        ("The key", {"fields": ("shown_prefix", "created_at")}),
    )
    add_fieldsets = fieldsets[:2]

    @display(description="begins with")
    def shown_prefix(self, key: ApiKey) -> str:
        return f"{key.prefix}…"

    @display(description="may use")
    def may_use(self, key: ApiKey) -> str:
        return (", ".join(key.allowed_aliases) or "all aliases") + ("" if key.uses_wildcards else ", no wildcards")

    @display(description="limits", empty_value="none")
    def limits(self, key: ApiKey) -> str | None:
        limits = (
            (key.requests_per_minute, "requests/min"),
            (key.tokens_per_minute, "tokens/min"),
            (key.concurrent_requests, "at once"),
        )
        return ", ".join(f"{limit} {what}" for limit, what in limits if limit is not None) or None

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, Any, list[str]]:
        deleted, counts, perms_needed, protected = super().get_deleted_objects(objs, request)
        if protected:
            keys = ApiKey.objects.filter(pk__in=[key.pk for key in objs]).prefetch_related("budgets")
            protected = [
                f"The budget “{budget}” is for the key “{key}”: disable the key instead, or delete the budget first."
                for key in keys
                for budget in key.budgets.all()
            ]
        return deleted, counts, perms_needed, protected

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if not change:
            secret = new_secret()
            for column, value in fields_for(secret).items():
                setattr(obj, column, value)
            vars(obj)["secret"] = secret  # only response_add reads it; a message or a session would be stored
        super().save_model(request, obj, form, change)

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        """The answer to the form, the only page that ever shows the key. No cache may keep it."""
        context = {
            **self.admin_site.each_context(request),
            "title": "Copy the key now",
            "opts": self.opts,
            "key": obj,
            "secret": vars(obj)["secret"],
            "base_url": request.build_absolute_uri("/v1"),
        }
        return TemplateResponse(request, "routing/key_created.html", context)

    @action(description="Enable the selected keys", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        self._switch(request, queryset, enabled=True)

    @action(description="Disable the selected keys", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        self._switch(request, queryset, enabled=False)

    def _switch(self, request: HttpRequest, queryset: QuerySet[ApiKey], *, enabled: bool) -> None:
        word = "Enabled" if enabled else "Disabled"
        keys = list(queryset.exclude(enabled=enabled))
        ApiKey.objects.filter(pk__in=[key.pk for key in keys]).update(enabled=enabled)
        for key in keys:
            self.log_change(request, key, f"{word}.")
        messages.success(request, f"{word} {len(keys)} key(s); the next request knows.")
