"""What an address of the admin asks for is answered or refused, and is no server error, whatever it is."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.test import RequestFactory

from accounting.keys import fields_for
from accounting.models import ApiKey
from tests.admin.conftest import Operator

ODD = (
    "created_at__year=99999999999", "request_id__regex=(", "key=%00", "%00=1", "q=%00", "q=(", "o=99", "e=1", "all=",
    "p=99999999999999999", "state__exact=%F0%9F%92%A9", "created_at_from=9999-12-31&created_at_to=9999-12-31",
    "created_at_to=0001-01-01", "enabled__exact=perhaps", "enabled__isnull=2", "id__in=,", "name__startswith=a",
    "pk=99999999999999999999", "mode__exact=%27", "_to_field=password", "_popup=1", "provider=%EF%BF%BF",
    "groups__id__exact=x", "groups__id__exact=99999999999999999999", "is_staff__exact=2",
)  # fmt: skip
LISTS = sorted(f"{model._meta.app_label}/{model._meta.model_name}/" for model in admin.site._registry)


@pytest.mark.parametrize("path", LISTS)
def test_an_odd_address_of_a_list_is_no_server_error(operator: Operator, path: str) -> None:
    operator.client.raise_request_exception = False
    found = {query: operator.client.get(f"/admin/{path}?{query}").status_code for query in ODD}
    assert {query: status for query, status in found.items() if status not in (200, 302, 400)} == {}
    assert found["created_at__year=99999999999"] == found["request_id__regex=("] == found["key=%00"] == 400


@pytest.mark.parametrize("number", ["%00", "0", "-1", "99999999999999999999999", "a", "_2F", "%F0%9F%92%A9"])
def test_the_page_of_an_odd_number_is_no_server_error(operator: Operator, number: str) -> None:
    operator.client.raise_request_exception = False
    for path in LISTS:
        for page in ("change", "delete", "history"):
            assert operator.client.get(f"/admin/{path}{number}/{page}/").status_code in (302, 400, 403, 404), (
                path,
                page,
            )


@pytest.mark.parametrize("chosen", ["a", "%00", "99999999999999999999999", "", "1,2"])
def test_an_action_on_an_odd_selection_changes_nothing_and_is_no_server_error(operator: Operator, chosen: str) -> None:
    operator.client.raise_request_exception = False
    ApiKey.objects.create(name="bot", **fields_for("sk-1234"))
    request = RequestFactory().get("/admin/")
    request.user = operator.user
    before, done = list(ApiKey.objects.values()), set()
    for model, page in admin.site._registry.items():
        path = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        for action in page.get_actions(request):
            data = {"action": action, "_selected_action": [chosen.replace("%00", "\0")], "index": "0"}
            assert operator.client.post(path, data).status_code in (200, 302, 400), (path, action)
            done.add((path, action))
    assert {("/admin/accounting/ledgerentry/", "resolve_selected"), ("/admin/accounting/apikey/", "disable")} <= done
    assert list(ApiKey.objects.values()) == before


@pytest.mark.parametrize("field", ["password", "digest", "nothing", "%00"])
def test_nobody_asks_for_a_row_by_another_field(operator: Operator, field: str) -> None:
    operator.client.raise_request_exception = False
    key = ApiKey.objects.create(name="bot", **fields_for("sk-1234"))
    before = ApiKey.objects.values().get()
    for number in (key.pk, key.digest):
        path = f"/admin/accounting/apikey/{number}/change/"
        assert operator.client.get(f"{path}?_to_field={field}").status_code == 400
        assert operator.client.post(path, {"_to_field": field.replace("%00", "\0"), "name": "x"}).status_code == 400
    assert ApiKey.objects.values().get() == before


@pytest.mark.parametrize("lookup", ["digest__startswith", "digest", "digest__regex", "digest__lt"])
def test_nobody_asks_a_list_for_a_keys_digest(operator: Operator, lookup: str) -> None:
    ApiKey.objects.create(name="bot", **fields_for("sk-1234"))
    digest = fields_for("sk-1234")["digest"]
    for value in (digest, digest[:4], "f" * 64):
        assert operator.client.get(f"/admin/accounting/apikey/?{lookup}={value}").status_code == 400


def test_pages_take_scripts_from_the_gateway_alone(operator: Operator) -> None:
    for path in ("", "routing/modelalias/", "accounting/budget/add/"):
        answer = operator.client.get(f"/admin/{path}")
        policy = answer["Content-Security-Policy"]
        assert "script-src 'self' 'unsafe-eval';" in policy
        assert "frame-ancestors 'none'" in policy
        assert "form-action 'self'" in policy
        assert b"<script>" not in answer.content
        assert b" onclick=" not in answer.content


def test_a_method_that_health_does_not_have_is_said_to_be_so(operator: Operator) -> None:
    for path in ("/health", "/health/live", "/health/ready"):
        answer = operator.client.put(path, headers={"x-request-id": "a"})
        assert answer.status_code == 405
        assert answer.json()["error"]["message"] == "This method is not allowed here."
