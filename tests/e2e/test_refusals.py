"""What the gateway refuses is on the books and in the log, by the request id that its client was told."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import httpx

from tests.clocks import eventually
from tests.e2e.gateway import Gateway, asks, unique


def refuse(gateway: Gateway, alias: str, key: str | None = None, **parameters: Any) -> tuple[httpx.Response, str]:
    request_id = unique("refused")
    headers = {"x-request-id": request_id} | ({"authorization": f"Bearer {key}"} if key else {})
    answer = httpx.post(
        f"{gateway.url}/v1/chat/completions", json={"model": alias, **asks(), **parameters}, headers=headers, timeout=10
    )
    assert answer.headers["x-request-id"] == request_id
    return answer, request_id


def row_of(gateway: Gateway, request_id: str) -> dict[str, Any]:
    query = "SELECT * FROM refusals WHERE request_id = %s"
    assert eventually(lambda: gateway.rows(query, request_id))
    (row,) = gateway.rows(query, request_id)
    return row


def test_each_refusal_has_a_row_and_a_line_with_its_key_and_its_alias(guarded_gateway: Gateway) -> None:
    gateway, name = guarded_gateway, unique("key")
    route, unpriced = gateway.route("openai"), gateway.route("openai", priced=False)
    secret = gateway.key(name=name, allowed_aliases=[route.alias, unpriced.alias])
    limited = gateway.key(requests_per_minute=0)
    cases: dict[str, tuple[httpx.Response, str]] = {
        "model_not_allowed": refuse(gateway, "gpt-4o", secret),
        "model_unpriced": refuse(gateway, unpriced.alias, secret),
        "unbounded_cost": refuse(gateway, route.alias, secret, parameter_that_nobody_knows=1),
        "rate_limit_exceeded": refuse(gateway, route.alias, limited),
        "model_not_found": refuse(gateway, "nobody", gateway.key()),
        "invalid_value": refuse(gateway, route.alias, secret, max_tokens="many"),
    }
    budget = gateway.budget(route, "0.000001")
    cases["request_exceeds_budget"] = refuse(gateway, route.alias, secret, user="ann", metadata={"team": "red"})
    for code, (answer, request_id) in cases.items():
        assert answer.json()["error"]["code"] == code
        row = row_of(gateway, request_id)
        assert (row["code"], row["count"], row["message"]) == (code, 1, answer.json()["error"]["message"]), code
        (line,) = gateway.log_lines(request_id=request_id)
        assert (line["code"], line["key"]) == (code, row["key"])
        if code != "invalid_value":  # which is refused before it is known what is asked
            assert line["alias"] == row["alias"]
            assert row["endpoint"] == "chat"
    row = row_of(gateway, cases["request_exceeds_budget"][1])
    assert (row["key"], row["alias"], row["end_user"], row["tags"]) == (name, route.alias, "ann", {"team": "red"})
    assert (row["budget"], row["limit_usd"], row["spent_usd"], row["held_usd"]) == (budget, Decimal("0.000001"), 0, 0)
    assert row["asked_usd"] > row["limit_usd"]


def test_who_has_no_valid_key_is_counted(guarded_gateway: Gateway) -> None:
    gateway, name = guarded_gateway, unique("key")
    disabled = gateway.key(name=name, enabled=False)
    count = (
        "SELECT coalesce(sum(count), 0) AS n FROM refusals"
        " WHERE code = 'invalid_api_key' AND key IS NOT DISTINCT FROM %s"
    )
    before = gateway.rows(count, None)[0]["n"]
    for _ in range(3):
        assert refuse(gateway, "gpt-4o", "sk-gw-nobody")[0].status_code == 401
        assert refuse(gateway, "gpt-4o", disabled)[0].status_code == 401
    assert eventually(lambda: gateway.rows(count, None)[0]["n"] >= before + 3)
    assert eventually(lambda: gateway.rows(count, name)[0]["n"] == 3)
    assert gateway.rows("SELECT 1 FROM refusals WHERE code = 'invalid_api_key' AND request_id IS NOT NULL") == []


def test_strangers_of_an_open_gateway_have_a_row(gateway: Gateway) -> None:
    request_id = unique("refused")
    answer = gateway.post(b"{}", x_request_id=request_id, x_forwarded_for="1.2.3.4")
    assert answer.json()["error"]["code"] == "open_mode_is_local"
    row = row_of(gateway, request_id)
    assert (row["code"], row["key"]) == ("open_mode_is_local", "anonymous")
