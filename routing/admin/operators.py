"""The operators: Django's users and groups. Nobody gives, or takes over, rights that he does not have himself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from accounting.admin.pages import Page
from accounting.models import Change

admin.site.unregister(User)
admin.site.unregister(Group)


class UserForm(UserChangeForm):
    """``operator`` is who fills it in; the page sets it."""

    operator: User

    def clean(self) -> dict[str, Any] | None:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.operator.is_superuser:
            self._refuse_more("user_permissions", self._added("user_permissions"))
            for group in self._added("groups"):
                self._refuse_more("groups", group.permissions.select_related("content_type"))
        was = User.objects.filter(pk=self.instance.pk).first()
        remains = cleaned.get("is_superuser", True) and cleaned.get("is_active", True)
        if was is not None and _is_last_superuser(was) and not remains:
            # The table refuses this too (last_superuser.sql), whoever tries; here it has a place in the form.
            self.add_error(None, f"“{was}” is the last active superuser, and somebody must be one.")
        return cleaned

    def _added(self, field: str) -> list[Any]:
        before = set(getattr(self.instance, field).values_list("pk", flat=True))
        return [chosen for chosen in self.cleaned_data.get(field) or () if chosen.pk not in before]

    def _refuse_more(self, field: str, permissions: Iterable[Permission]) -> None:
        if lacking := _lacking(self.operator, permissions):
            self.add_error(field, f"You do not have these rights yourself: {', '.join(lacking)}.")


class GroupForm(forms.ModelForm[Group]):
    operator: User

    def clean_permissions(self) -> Any:
        chosen = self.cleaned_data["permissions"]
        before = set(self.instance.permissions.values_list("pk", flat=True)) if self.instance.pk else set()
        lacking = _lacking(self.operator, [permission for permission in chosen if permission.pk not in before])
        if lacking:
            raise forms.ValidationError(f"You do not have these rights yourself: {', '.join(lacking)}.")
        return chosen


@admin.register(User)
class UserAdmin(DjangoUserAdmin[User], Page):
    form = UserForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    readonly_fields = ("last_login", "date_joined")

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        fields = tuple(super().get_readonly_fields(request, obj))
        return fields if request.user.is_superuser else (*fields, "is_superuser")

    def get_form(self, request: HttpRequest, obj: User | None = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.operator = request.user  # the class is made anew for each request
        return form

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_change_permission(request, obj) and _may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and _may_touch(request, obj)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002
        """Whoever sets a password can sign in with it, and has the other's rights then."""
        user = self.get_object(request, id)
        rights = set() if user is None or user == request.user else user.get_all_permissions()
        if not request.user.is_superuser and rights - request.user.get_all_permissions():
            raise PermissionDenied("This user has rights that you do not have.")
        return super().user_change_password(request, id, form_url)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, Any, list[str]]:
        deleted, counts, perms_needed, protected = super().get_deleted_objects(objs, request)
        users = list(objs)
        protected = [
            *protected,
            *(f"“{user}” is the last active superuser." for user in users if _is_last_superuser(user)),
            *(
                f"“{user}” has changed things, and the history says by whom: untick Active instead."
                for user in users
                if LogEntry.objects.filter(user=user).exists() or Change.objects.filter(actor=user.username).exists()
            ),
            *(f"Only a superuser deletes “{user}”." for user in users if not _may_touch(request, user)),
        ]
        others = User.objects.filter(is_superuser=True, is_active=True).exclude(pk__in=[user.pk for user in users])
        if len(users) > 1 and any(user.is_superuser for user in users) and not others.exists():
            protected.append("No active superuser would be left.")
        return deleted, counts, perms_needed, protected


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, Page):
    form = GroupForm

    def get_form(self, request: HttpRequest, obj: Group | None = None, change: bool = False, **kwargs: Any) -> Any:
        form: Any = super().get_form(request, obj, change=change, **kwargs)
        form.operator = request.user  # the class is made anew for each request
        return form


def _may_touch(request: HttpRequest, user: User | None) -> bool:
    """A superuser's account is for superusers: its e-mail, its password and its groups are its rights."""
    return request.user.is_superuser or user is None or not user.is_superuser


def _is_last_superuser(user: User) -> bool:
    active = User.objects.filter(is_superuser=True, is_active=True)
    return user.is_superuser and user.is_active and not active.exclude(pk=user.pk).exists()


def _lacking(operator: User, permissions: Iterable[Permission]) -> list[str]:
    named = (f"{permission.content_type.app_label}.{permission.codename}" for permission in permissions)
    return sorted(name for name in named if not operator.has_perm(name))
