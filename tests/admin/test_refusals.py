"""Refused requests in the admin: found by the request id of the error, and read-only."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from accounting.models import ApiKey, Budget, RefusedRequest
from tests.admin.conftest import Operator, grant

LIST = "accounting/refusedrequest/"


def refuse(request_id: str, **fields: Any) -> RefusedRequest:
    values = {"at": datetime.now(UTC), "code": "budget_exceeded", "alias": "gpt-4o", "key": "bot", "endpoint": "chat"}
    return RefusedRequest.objects.create(request_id=request_id, **values | fields)


@pytest.fixture
def key(operator: Operator) -> ApiKey:
    key = ApiKey.objects.create(name="bot", prefix="sk", digest="0" * 64)
    Budget.objects.create(name="of bot", scope="key", api_key=key, limit_usd=5)
    refuse(
        "req-one", key_id=key.pk, budget="of bot", limit_usd=5, spent_usd=Decimal("4.99"), held_usd=0,
        asked_usd=Decimal("0.02"), message="The budget 'of bot' of 5 USD has 0.01 USD left.", end_user="<b>ann</b>",
        tags={"team": "red"},
    )  # fmt: skip
    refuse("req-two", key="", code="invalid_api_key", alias="")
    return key


def test_a_refusal_is_found_by_the_request_id_of_its_error(operator: Operator, key: ApiKey) -> None:
    page = operator.get(f"{LIST}?q=req-one")
    assert "req-one" in page
    assert "req-two" not in page
    assert all(word in page for word in ("budget_exceeded", "gpt-4o", "$0.02", "$4.99 + $0 of $5"))


def test_a_refusal_leads_to_its_key_and_its_budget(operator: Operator, key: ApiKey) -> None:
    refused = RefusedRequest.objects.get(request_id="req-one")
    for path in (LIST, f"{LIST}{refused.pk}/change/"):
        page = operator.get(path)
        assert f'href="/admin/accounting/apikey/{key.pk}/change/"' in page.replace("'", '"')
        assert 'href="/admin/accounting/budget/?q=of+bot"' in page.replace("'", '"')
    assert "of bot" in operator.get("accounting/budget/?q=of+bot")


def test_its_page_says_what_the_client_was_told_and_no_markup_of_the_client(operator: Operator, key: ApiKey) -> None:
    refused = RefusedRequest.objects.get(request_id="req-one")
    page = operator.get(f"{LIST}{refused.pk}/change/")
    assert "has 0.01 USD left" in page
    assert "&lt;b&gt;ann&lt;/b&gt;" in page
    assert "<b>ann</b>" not in page


@pytest.mark.parametrize(("query", "shown"), [("code=invalid_api_key", {"req-two"}), ("key=bot", {"req-one"})])
def test_the_list_is_filtered(operator: Operator, key: ApiKey, query: str, shown: set[str]) -> None:
    page = operator.get(f"{LIST}?{query}")
    assert {name for name in ("req-one", "req-two") if name in page} == shown


def test_nobody_changes_a_refusal(operator: Operator, newcomer: Operator, key: ApiKey) -> None:
    refused = RefusedRequest.objects.get(request_id="req-one")
    assert newcomer.client.get(f"/admin/{LIST}").status_code == 403
    grant(newcomer, "accounting.view_refusedrequest")
    assert "req-one" in newcomer.get(LIST)
    for path in (f"{LIST}add/", f"{LIST}{refused.pk}/delete/"):
        assert operator.client.get(f"/admin/{path}").status_code == 403
    assert operator.client.post(f"/admin/{LIST}{refused.pk}/change/", {"code": "x"}).status_code == 403
    assert RefusedRequest.objects.get(pk=refused.pk).code == "budget_exceeded"
