"""The cast of the admin's tests: the first start's configuration, and operators with and without rights."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.forms import BaseFormSet, ModelForm
from django.http import HttpResponse
from django.test import Client

from accounting.ledger.expiry import expire_dead
from accounting.ledger.writer import Writer
from accounting.models import ConfigurationVersion
from routing import defaults
from routing.models import ModelAlias, Provider
from tests.ledger.conftest import Book


class Operator:
    """A signed-in browser. ``form`` reads a page's fields as the browser would send them; ``post`` sends them back."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.client = Client()
        self.client.force_login(user)

    def get(self, path: str) -> str:
        answer = self.client.get(f"/admin/{path}")
        assert answer.status_code == 200, (path, answer.status_code)
        return answer.content.decode()

    def form(self, path: str) -> dict[str, Any]:
        context: Any = self.client.get(f"/admin/{path}").context
        fields = _values(context["adminform"].form) | {"seen": context.get("seen", "")}
        for inline in context["inline_admin_formsets"]:
            fields |= _formset_values(inline.formset)
        return fields

    def list_form(self, path: str) -> dict[str, Any]:
        """The form of a list whose columns can be edited, without its rows."""
        context: Any = self.client.get(f"/admin/{path}").context
        return _values(context["cl"].formset.management_form) | {"seen": context["seen"], "_save": "Save"}

    def post(self, path: str, fields: dict[str, Any], **changes: Any) -> str:
        """The page after the form is sent, with redirects followed."""
        content: bytes = self.send(path, fields, **changes).content
        return content.decode()

    def send(self, path: str, fields: dict[str, Any], **changes: Any) -> Any:
        answer: HttpResponse = self.client.post(f"/admin/{path}", fields | changes, follow=True)  # type: ignore[assignment]
        return answer


def _values(form: ModelForm[Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for bound in form:
        name, value = bound.html_name, bound.value()
        if isinstance(value, datetime):
            moment = value.astimezone(UTC)
            values |= {f"{name}_0": f"{moment:%Y-%m-%d}", f"{name}_1": f"{moment:%H:%M:%S}"}
        elif value is not None and value is not False:
            values[name] = "on" if value is True else value
    return values


def _formset_values(formset: BaseFormSet[Any]) -> dict[str, Any]:
    values = _values(formset.management_form)  # type: ignore[arg-type]
    for form in formset.forms:
        values |= _values(form)
    return values


@pytest.fixture
def configuration(db: None) -> None:
    defaults.ensure()


@pytest.fixture
def operator(configuration: None) -> Operator:
    return Operator(User.objects.create_superuser("olga"))


@pytest.fixture
def newcomer(configuration: None) -> Operator:
    """An operator without any rights."""
    return Operator(User.objects.create_user("nils", is_staff=True))


@pytest.fixture
def book(transactional_db: None) -> Iterator[Book]:
    writer = Writer()
    book = Book(writer)
    yield book
    writer.stop()
    book.assert_reconciles()


def text(page: str, element: str) -> str:
    """The words of the element with this id, without markup."""
    found = re.search(rf'<(\w+)[^>]* id="{element}".*?</\1>', page, re.DOTALL)
    assert found is not None, element
    rest = page[found.start() :]
    tag, depth = found.group(1), 0
    for mark in re.finditer(rf"<(/?){tag}\b[^>]*>", rest):
        depth += -1 if mark.group(1) else 1
        if not depth:
            return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", rest[: mark.end()])).split())
    raise AssertionError(f"{element} does not end")


def grant(operator: Operator, *rights: str) -> None:
    for right in rights:
        app, _, codename = right.partition(".")
        operator.user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))


def alias(name: str) -> ModelAlias:
    return ModelAlias.objects.get(name=name)


def provider(name: str) -> Provider:
    return Provider.objects.get(name=name)


def chain(name: str) -> list[str]:
    return [step.target.name for step in alias(name).fallbacks.select_related("target")]


def version() -> int:
    """The configuration's version. Every write to its tables changes it, so it proves that nothing was written."""
    return ConfigurationVersion.objects.get().version


def lose_worker(book: Book) -> None:
    """The worker that held money dies, and another worker notices."""
    book.lose_writer()
    with psycopg.connect(**connection.get_connection_params()) as session:
        expire_dead(session)
