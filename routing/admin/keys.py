"""Our API keys. A new key is shown once, on the page that answers the form, and never again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from unfold.decorators import action, display
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from accounting import keys
from accounting.admin.pages import Page
from accounting.models import ApiKey
from routing.models import ModelAlias

ALL, LISTED = "all", "listed"
SOON = timedelta(days=7)
GRACES = ((0, "ends now"), (1, "is good for 1 hour"), (24, "is good for 24 hours"), (72, "is good for 3 days"),
          (168, "is good for 7 days"), (720, "is good for 30 days"))  # fmt: skip


class TagsField(forms.CharField):
    """Tags as lines, ``name=value``."""

    widget = UnfoldAdminTextareaWidget({"rows": 4})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(f"{name}={text}" for name, text in value.items()) if isinstance(value, dict) else value

    def to_python(self, value: Any) -> Any:
        tags: dict[str, str] = {}
        for line in filter(str.strip, str(value or "").splitlines()):
            name, is_tag, text = (part.strip() for part in line.partition("="))
            if not is_tag or name in tags:
                raise forms.ValidationError("Write each tag once, on a line of its own, as name=value.")
            tags[name] = text
        return tags


class ApiKeyForm(forms.ModelForm[ApiKey]):
    which_aliases = forms.ChoiceField(
        label="May use",
        choices=((ALL, "all aliases, future ones too"), (LISTED, "only the ticked ones")),
        required=False,
        widget=UnfoldAdminRadioSelectWidget(radio_style=admin.VERTICAL),
    )
    allowed_aliases = forms.MultipleChoiceField(
        label="These", required=False, widget=UnfoldAdminCheckboxSelectMultipleWidget
    )
    tags = TagsField(
        label="Fixed tags",
        required=False,
        help_text="One a line, as team=red. Each request of the key has them, whatever its metadata says.",
    )

    class Meta:
        widgets: ClassVar = {"required_tags": UnfoldAdminTextInputWidget}
        help_texts: ClassVar = {
            "concurrent_requests": f"Empty: GATEWAY_KEY_CONCURRENCY, {settings.GATEWAY_KEY_CONCURRENCY} in each worker."
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "allowed_aliases" not in self.fields:  # a read-only page
            return
        self.initial["which_aliases"] = self._which()
        names = list(ModelAlias.objects.values_list("name", flat=True))
        # A deleted alias stays a choice. Else saving the form could leave an empty list, which allows all aliases.
        deleted = [name for name in self.instance.allowed_aliases if name not in names]
        listed = self.fields["allowed_aliases"]
        assert isinstance(listed, forms.MultipleChoiceField)
        listed.choices = [(name, name) for name in names] + [(name, f"{name} (deleted)") for name in deleted]

    def _which(self) -> str:
        return LISTED if self.instance.allowed_aliases else ALL

    def clean_expires_at(self) -> datetime | None:
        expires_at: datetime | None = self.cleaned_data["expires_at"]
        if expires_at is not None and "expires_at" in self.changed_data and expires_at <= datetime.now(UTC):
            raise forms.ValidationError("This is in the past. To stop the key, disable it.")
        return expires_at

    def clean(self) -> dict[str, Any] | None:
        """An empty list means all aliases to the database. Here somebody must have said so."""
        cleaned = super().clean() or self.cleaned_data
        ticked, which = cleaned.get("allowed_aliases"), cleaned.get("which_aliases") or self._which()
        if which == LISTED and not ticked and "allowed_aliases" not in self.errors:
            self.add_error("allowed_aliases", "Tick an alias, or choose “all aliases”.")
        elif which == ALL and ticked and "which_aliases" in self.changed_data:
            self.add_error("which_aliases", "Untick all aliases, or choose “only the ticked ones”.")
        return cleaned


class RotationForm(forms.Form):
    seen = forms.CharField(required=False, widget=forms.HiddenInput)
    grace_h = forms.TypedChoiceField(
        label="The old secret", choices=GRACES, coerce=int, initial=24, widget=UnfoldAdminSelectWidget
    )


class StateFilter(admin.SimpleListFilter):
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("active", "active"),
            ("soon", "expires within 7 days"),
            ("expired", "expired"),
            ("disabled", "disabled"),
            ("two", "old secret still good"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        now = datetime.now(UTC)
        match self.value():
            case "active":
                return queryset.filter(Q(expires_at=None) | Q(expires_at__gt=now), enabled=True)
            case "soon":
                return queryset.filter(enabled=True, expires_at__gt=now, expires_at__lte=now + SOON)
            case "expired":
                return queryset.filter(enabled=True, expires_at__lte=now)
            case "disabled":
                return queryset.filter(enabled=False)
            case "two":
                return queryset.filter(old_valid_until__gt=now)
            case _:
                return queryset


@admin.register(ApiKey)
class ApiKeyAdmin(Page):
    form = ApiKeyForm
    list_display = ("name", "owner", "shown_prefix", "state", "may_use", "expires_at", "limits", "created_at")
    list_filter = (StateFilter, "enabled")
    search_fields = ("name", "prefix", "owner")
    readonly_fields = ("state_now", "shown_prefix", "old_secret", "created_at")
    actions = ("enable", "disable")
    actions_detail = ("rotate",)
    warn_unsaved_form = True
    delete_confirmation_template = "routing/delete_confirmation.html"
    delete_selected_confirmation_template = "routing/delete_selected_confirmation.html"
    fieldsets = (
        (None, {"fields": ("name", "owner", "enabled", "expires_at")}),
        ("Aliases", {"fields": ("which_aliases", "allowed_aliases", "binds_fallbacks", "uses_wildcards")}),
        ("Whose money", {"fields": ("tags", "required_tags", "callers_name_end_users", "end_user")}),
        ("Limits", {"fields": ("requests_per_minute", "tokens_per_minute", "concurrent_requests")}),
        ("The key", {"fields": ("state_now", "shown_prefix", "old_secret", "created_at")}),
    )
    add_fieldsets = fieldsets[:-1]

    def get_fieldsets(self, request: HttpRequest, obj: ApiKey | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        return [  # a read-only page shows columns of the database alone
            (title, {**options, "fields": tuple(name for name in options["fields"] if name != "which_aliases")})
            for title, options in fieldsets
        ]

    @display(description="begins with")
    def shown_prefix(self, key: ApiKey) -> str:
        return f"{key.prefix}…"

    @display(description="secret before", empty_value="none")
    def old_secret(self, key: ApiKey) -> str | None:
        if not key.old_digest or key.old_valid_until is None:
            return None
        is_good = key.old_valid_until > datetime.now(UTC)
        return f"{key.old_prefix}… {'is good until' if is_good else 'ended'} {key.old_valid_until:%Y-%m-%d %H:%M} UTC"

    @display(
        description="state",
        label={"active": "success", "expires soon": "warning", "expired": "danger", "disabled": "info"},
    )
    def state(self, key: ApiKey) -> tuple[str, str]:
        return _state(key)

    @display(description="state")
    def state_now(self, key: ApiKey) -> str:
        _, words = _state(key)
        return words

    @display(description="may use")
    def may_use(self, key: ApiKey) -> str:
        limits = ("" if key.uses_wildcards else ", no wildcards") + (
            "; its fallbacks too" if key.binds_fallbacks else ""
        )
        return (", ".join(key.allowed_aliases) or "all aliases") + limits

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
            found = ApiKey.objects.filter(pk__in=[key.pk for key in objs]).prefetch_related("budgets")
            protected = [
                f"The budget “{budget}” is for the key “{key}”: disable the key instead, or delete the budget first."
                for key in found
                for budget in key.budgets.all()
            ]
        return deleted, counts, perms_needed, protected

    def save_model(self, request: HttpRequest, obj: ApiKey, form: Any, change: bool) -> None:
        if not change:
            secret = keys.new_secret()
            for column, value in keys.fields_for(secret).items():
                setattr(obj, column, value)
            vars(obj)["secret"] = secret  # only response_add reads it; a message or a session would be stored
        super().save_model(request, obj, form, change)

    def response_add(self, request: HttpRequest, obj: ApiKey, post_url_continue: str | None = None) -> HttpResponse:
        return self._show_once(request, obj, vars(obj)["secret"])

    def _show_once(self, request: HttpRequest, key: ApiKey, secret: str) -> HttpResponse:
        """The answer to the form, the only page that ever shows the key. No cache may keep it."""
        context = {
            **self.admin_site.each_context(request),
            "title": "Copy the key now",
            "opts": self.opts,
            "key": key,
            "old_secret": self.old_secret(key),
            "secret": secret,
            "base_url": request.build_absolute_uri("/v1"),
        }
        return TemplateResponse(request, "routing/key_created.html", context, headers={"Cache-Control": "no-store"})

    def has_rotate_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        allowed: bool = self.has_change_permission(request)
        return allowed

    @action(description="Rotate", url_path="rotate", permissions=["rotate"])
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """A new secret for the key, which keeps its name, budgets and history."""
        key = self.get_object(request, object_id)
        if key is None:
            return HttpResponseRedirect(reverse("admin:accounting_apikey_changelist"))
        page = reverse("admin:accounting_apikey_change", args=[key.pk])
        seen = "" if key.rotated_at is None else key.rotated_at.isoformat()
        form = RotationForm(request.POST or None, initial={"seen": seen})
        if form.is_valid():
            grace = timedelta(hours=form.cleaned_data["grace_h"])
            try:
                secret = keys.rotate(key.pk, _moment(form.cleaned_data["seen"]), grace)
            except keys.RotatedMeanwhile:
                messages.error(request, "The key was rotated since this form was made. Nothing was changed by it.")
                return HttpResponseRedirect(page)
            key.refresh_from_db()
            self.log_change(request, key, f"Rotated. The secret before: {self.old_secret(key)}.")
            return self._show_once(request, key, secret)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Rotate the key {key}",
            "opts": self.opts,
            "key": key,
            "has_two": key.old_valid_until is not None and key.old_valid_until > datetime.now(UTC),
            "form": form,
            "back": page,
        }
        return TemplateResponse(request, "routing/key_rotation.html", context)

    @action(description="Enable the selected keys", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        self._switch(request, queryset, enabled=True)

    @action(description="Disable the selected keys", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        self._switch(request, queryset, enabled=False)

    def _switch(self, request: HttpRequest, queryset: QuerySet[ApiKey], *, enabled: bool) -> None:
        word = "Enabled" if enabled else "Disabled"
        switched = list(queryset.exclude(enabled=enabled))
        ApiKey.objects.filter(pk__in=[key.pk for key in switched]).update(enabled=enabled)
        for key in switched:
            self.log_change(request, key, f"{word}.")
        messages.success(request, f"{word} {len(switched)} key(s); the next request knows.")


def _state(key: ApiKey) -> tuple[str, str]:
    """Whether requests with the key are taken now."""
    if not key.enabled:
        return "disabled", "disabled"
    if key.expires_at is None:
        return "active", "active"
    left = key.expires_at - datetime.now(UTC)
    if left <= timedelta(0):
        return "expired", "expired"
    if left > SOON:
        return "active", "active"
    return "expires soon", f"expires in {left.days} d" if left.days else f"expires in {left.seconds // 3600} h"


def _moment(text: str) -> datetime | None:
    """What the form says of the last rotation. A moment that never was makes the form an old one."""
    if not text:
        return None
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    return found if found is not None and found.tzinfo is not None else datetime.max.replace(tzinfo=UTC)
