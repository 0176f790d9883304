"""What holds for every page of the admin, whatever it shows: ``Page`` is the only ModelAdmin that pages are made from.

**Nobody's change is undone unseen.** A form carries, signed, the values that it was made from. When it comes back, the
rows are locked and compared with it, in the transaction that would save. If they differ, nothing is saved, and the
operator sees what he wanted and what is there now. This holds for the rows of inlines and of lists too.

**An address asks for what the page offers.** A list is filtered by its own filters and by nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.contrib import messages
from django.contrib.admin.exceptions import DisallowedModelAdminToField
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import TO_FIELD_VAR
from django.contrib.admin.utils import unquote
from django.contrib.postgres.fields import ArrayField
from django.core import signing
from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction
from django.forms.models import _get_foreign_key  # as the admin's own inlines do
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.text import capfirst
from unfold.admin import ModelAdmin

from accounting.money import plain_usd

SEEN = "seen"  # the hidden field
NOT_THERE = "not there"
Texts = dict[str, str]  # a row: its fields' values as text
State = dict[str, Texts]  # rows by model and primary key


@dataclass(frozen=True)
class Difference:
    """A value when the form was made, now, and as the operator wanted it. ``is_theirs``: somebody else changed it."""

    what: str
    then: str
    now: str
    yours: str

    @property
    def is_theirs(self) -> bool:
        return self.then != self.now


class Page(ModelAdmin):
    change_form_before_template = "accounting/seen.html"
    change_list_template: Any = "accounting/change_list.html"

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Any other field could be asked for how a key's digest begins, or by an expression that runs for hours."""
        offered: set[str] = set()
        for entry in self.get_list_filter(request):
            name = entry if isinstance(entry, str) else entry[0] if isinstance(entry, tuple) else entry.parameter_name
            offered |= {name, *(f"{name}{how}" for how in ("__exact", "__id__exact", "__isnull", "_from", "_to"))}
        return lookup in offered

    # --- forms ----------------------------------------------------------------------------------------------

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        context = dict(extra_context or {})
        try:
            with transaction.atomic():
                row = None if object_id is None else self._row(request, object_id)
                if row is not None and self.has_change_permission(request, row):
                    # Before the form reads the row: what changes between the two is then refused, and never lost.
                    now = self._state(request, row, lock=request.method == "POST")
                    if request.method == "POST" and (then := self._seen(request, row)) != now:
                        return self._refused(request, self._form_differences(request, row, then, now))
                    context[SEEN] = signing.dumps(now, salt=_salt(row), compress=True)
                answer: HttpResponse = super().changeform_view(request, object_id, form_url, context)
                return answer
        except IntegrityError as error:
            messages.error(request, _in_words(error))
            return HttpResponseRedirect(request.get_full_path())

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            with transaction.atomic():
                answer: HttpResponse = super().delete_view(request, object_id, extra_context)
                return answer
        except IntegrityError as error:
            messages.error(request, _in_words(error))
            return HttpResponseRedirect(request.get_full_path())

    def _row(self, request: HttpRequest, object_id: str) -> Any:
        to_field = request.POST.get(TO_FIELD_VAR, request.GET.get(TO_FIELD_VAR))
        if to_field and not self.to_field_allowed(request, to_field):  # as Django, which looks only after us
            raise DisallowedModelAdminToField(f"The field {to_field} cannot be referenced.")
        return self.get_object(request, unquote(object_id), to_field)

    def _state(self, request: HttpRequest, row: models.Model, *, lock: bool) -> State:
        """The row and those of its inlines, locked against other forms until the transaction ends."""
        state = _read(type(row)._base_manager.filter(pk=row.pk), self._fields(request, row), lock=lock)
        for inline in self.get_inline_instances(request, row):
            fields = _inline_fields(request, inline, row)
            state |= _read(_inline_rows(inline, row), fields, lock=lock)
        return state

    def _fields(self, request: HttpRequest, row: models.Model | None) -> list[Any]:
        return _editable(self.model, {"password", *self.get_readonly_fields(request, row)})

    def _seen(self, request: HttpRequest, row: models.Model) -> State:
        return _unsigned(request, _salt(row))

    def _form_differences(self, request: HttpRequest, row: models.Model, then: State, now: State) -> list[Difference]:
        form = self.get_form(request, row, change=True)(request.POST, instance=self._row(request, str(row.pk)))
        form.is_valid()  # so that its instance has the values, as far as they are valid
        key = _key(row)
        found = []
        for field in self._fields(request, row):
            texts = (then.get(key, {}).get(field.name, ""), now.get(key, {}).get(field.name, ""), _wanted(field, form))
            label = field.name in form.fields and form.fields[field.name].label
            found.append(
                Difference(capfirst(str(label or field.verbose_name)), *(_words(field, text) for text in texts))
            )
        for formset, inline in zip(*self._create_formsets(request, row, change=True), strict=True):
            found += _inline_differences(formset, inline, _inline_fields(request, inline, row), then, now)
        return found

    def _refused(self, request: HttpRequest, differences: Iterable[Difference]) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": "Somebody changed this in the meantime",
            "opts": self.opts,
            "differences": [found for found in differences if found.is_theirs or found.yours != found.then],
            "anew": request.get_full_path(),
        }
        return TemplateResponse(request, "accounting/stale.html", context, status=409)

    # --- lists ----------------------------------------------------------------------------------------------

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        is_edit = request.method == "POST" and "_save" in request.POST and self.has_change_permission(request)
        try:
            if is_edit:
                with transaction.atomic():
                    if differences := self._list_differences(request):
                        return self._refused(request, differences)
                    answer: HttpResponse = super().changelist_view(request, extra_context)
            else:  # an action chooses its own transactions
                answer = super().changelist_view(request, extra_context)
        except IntegrityError as error:
            messages.error(request, _in_words(error))
            return HttpResponseRedirect(request.get_full_path())
        page = getattr(answer, "context_data", None) or {}
        if (shown := page.get("cl")) is not None and shown.formset is not None:
            state = {_key(row): _texts(row, self._listed_fields()) for row in shown.result_list}
            page[SEEN] = signing.dumps(state, salt=_salt(self.model), compress=True)
        return answer

    def response_action(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> HttpResponse | None:
        """What is selected comes from the page. Anything else is refused here: Django would ask Postgres for it."""
        field = self.opts.pk
        try:
            for text in request.POST.getlist(ACTION_CHECKBOX_NAME):
                field.run_validators(field.to_python(text))
        except ValidationError:
            messages.error(request, "What was selected is in no such list. Nothing was changed.")
            return HttpResponseRedirect(request.get_full_path())
        answer: HttpResponse | None = super().response_action(request, queryset)
        return answer

    def _listed_fields(self) -> list[Any]:
        return [self.opts.get_field(name) for name in self.list_editable]

    def _list_differences(self, request: HttpRequest) -> list[Difference]:
        """Empty when each row of the list is as it was shown. Locks the rows."""
        then, fields = _unsigned(request, _salt(self.model)), self._listed_fields()
        posted = {
            request.POST[name]: name.removesuffix(f"-{self.opts.pk.name}")
            for name in request.POST
            if name.startswith("form-") and name.endswith(f"-{self.opts.pk.name}") and request.POST[name].isdecimal()
        }
        now = _read(self.model._base_manager.filter(pk__in=posted), fields, lock=True)
        keys = {_key(self.model, pk): prefix for pk, prefix in posted.items()}
        if {key: then.get(key) for key in keys} == {key: now.get(key) for key in keys}:
            return []
        names = {_key(row): str(row) for row in self.model._base_manager.filter(pk__in=posted)}
        return [
            Difference(
                f"{names.get(key, 'a row that is gone')}: {field.verbose_name}",
                _words(field, then.get(key, {}).get(field.name, "")),
                _words(field, now[key][field.name]) if key in now else NOT_THERE,
                _words(field, _posted(field, request.POST.get(f"{prefix}-{field.name}"))),
            )
            for key, prefix in keys.items()
            for field in fields
        ]


def _salt(of: Any) -> str:
    return f"seen {_key(of) if isinstance(of, models.Model) else of._meta.label_lower}"


def _unsigned(request: HttpRequest, salt: str) -> State:
    """Empty when the form carries no values, or others than we gave it: then it is refused, as everything differs."""
    try:
        state: State = signing.loads(request.POST.get(SEEN, ""), salt=salt)
    except signing.BadSignature:
        return {}
    return state


def _key(of: Any, pk: object = None) -> str:
    return f"{of._meta.label_lower} {of.pk if isinstance(of, models.Model) else pk}"


def _editable(model: type[models.Model], but: Iterable[str]) -> list[Any]:
    fields = (*model._meta.concrete_fields, *model._meta.many_to_many)
    return [field for field in fields if field.editable and not field.primary_key and field.name not in set(but)]


def _inline_key(inline: Any, row: models.Model) -> str:
    """The inline's column that leads to the row."""
    found: Any = _get_foreign_key(type(row), inline.model, fk_name=inline.fk_name)
    return str(found.name)


def _inline_fields(request: HttpRequest, inline: Any, row: models.Model) -> list[Any]:
    return _editable(inline.model, {_inline_key(inline, row), *inline.get_readonly_fields(request, row)})


def _inline_rows(inline: Any, row: models.Model) -> models.QuerySet[Any]:
    rows: models.QuerySet[Any] = inline.model._base_manager.filter(**{_inline_key(inline, row): row.pk})
    return rows


def _read(rows: models.QuerySet[Any], fields: Iterable[Any], *, lock: bool) -> State:
    rows = rows.order_by("pk")  # the same order for all who lock several
    if lock:
        rows = rows.select_for_update(no_key=True)  # rows of others may go on referring to these
    return {_key(row): _texts(row, fields) for row in rows}


def _texts(row: models.Model, fields: Iterable[Any]) -> Texts:
    return {field.name: _text(field, row) for field in fields}


def _text(field: Any, row: models.Model) -> str:
    if field.many_to_many:
        return json.dumps(
            sorted(field.value_from_object(row), key=lambda other: other.pk), default=lambda other: other.pk
        )
    value = field.value_to_string(row)
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _wanted(field: Any, form: Any) -> str:
    """What the operator asks for. What is not valid may be a pasted key, and is not repeated."""
    if field.name in form.errors:
        return "not valid"
    if field.many_to_many:
        chosen = form.cleaned_data.get(field.name)
        return _text(field, form.instance) if chosen is None else json.dumps(sorted(other.pk for other in chosen))
    return _text(field, form.instance)


def _posted(field: Any, text: str | None) -> str:
    if isinstance(field, models.BooleanField):
        return str(text is not None)
    return text or ""


def _words(field: Any, text: str) -> str:
    """A value as people read it. The text may be what somebody wrote, so it may be anything."""
    if text in ("", "None", "[]", "{}"):
        return ""
    try:
        if field.is_relation:
            pks = json.loads(text) if field.many_to_many else [text]
            found = field.remote_field.model._base_manager.filter(pk__in=pks)
            return ", ".join(str(other) for other in found) or "(gone)"
        if isinstance(field, models.DecimalField):
            return plain_usd(Decimal(text))
        if isinstance(field, ArrayField):
            return ", ".join(json.loads(text))
    except (ValueError, ArithmeticError, TypeError):
        return text
    if isinstance(field, models.BooleanField):
        return {"True": "yes", "False": "no"}.get(text, text)
    return str(dict(field.flatchoices).get(text, text))


def _sentence(fields: Iterable[Any], texts: Mapping[str, str] | None) -> str:
    if texts is None:
        return NOT_THERE
    words = ((field.verbose_name, _words(field, texts[field.name])) for field in fields if field.name in texts)
    return ", ".join(f"{name} {value}" for name, value in words if value)


def _inline_differences(formset: Any, inline: Any, fields: list[Any], then: State, now: State) -> Iterable[Difference]:
    """A line a row: an inline's row is short, and what matters is which rows there are."""
    wanted: dict[str, str] = {}
    for form in formset.forms:
        form.is_valid()
        pk = form.data.get(form.add_prefix(inline.model._meta.pk.name))  # the instance of a row that is gone has none
        if pk or form.has_changed():
            key = _key(inline.model, pk) if pk else f"new {form.prefix}"
            texts = None if form in formset.deleted_forms else {field.name: _wanted(field, form) for field in fields}
            wanted[key] = _sentence(fields, texts)
    prefix = f"{inline.model._meta.label_lower} "
    for key in dict.fromkeys((*then, *now, *wanted)):
        if key.startswith(prefix) or key in wanted:
            yield Difference(
                capfirst(str(inline.model._meta.verbose_name)),
                _sentence(fields, then.get(key)),
                _sentence(fields, now.get(key)),
                wanted.get(key, NOT_THERE),
            )


def _in_words(error: IntegrityError) -> str:
    """A trigger of ours says what is wrong. A constraint that no form could check says that others were faster."""
    diagnosis = getattr(error.__cause__, "diag", None)
    if diagnosis is not None and diagnosis.sqlstate == "23514" and diagnosis.constraint_name is None:
        return f"{diagnosis.message_primary} Nothing was saved."
    return "Somebody else changed this at the same time. Your changes were not saved."
