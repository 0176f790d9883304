"""Whose money a request spends, which the key says and not its client, and what a key is told of its budgets."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from accounting import keys
from accounting.models import ApiKey, Budget
from routing.models import ModelAlias, Provider
from tests.clocks import eventually
from tests.e2e.gateway import Gateway, asks, http, unique
from tests.simulator import faults


def ask(gateway: Gateway, alias: str, secret: str, **body: Any) -> httpx.Response:
    return gateway.post(json.dumps({"model": alias, **asks(), **body}).encode(), api_key=secret)


def error(answer: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = answer.json()["error"]
    return found


def budget(gateway: Gateway, scope: str, value: str = "", limit_usd: str = "50", **fields: Any) -> str:
    with gateway.orm():
        return Budget.objects.create(
            name=unique("budget"), scope=scope, scope_value=value, limit_usd=Decimal(limit_usd), **fields
        ).name


def told(gateway: Gateway, secret: str, query: str = "") -> dict[str, dict[str, Any]]:
    """What ``/v1/budget`` tells, less the budgets of the other tests, by name."""
    answer = http.get(f"{gateway.url}/v1/budget{query}", headers={"api-key": secret})
    assert answer.status_code == 200, answer.text
    return {row["budget"]: row for row in answer.json()["data"]}


# --- tags and end users ----------------------------------------------------------------------------------------


def test_fixed_tags_the_owner_and_the_keys_end_user_are_on_the_books_whatever_the_client_says(gateway: Gateway) -> None:
    route = gateway.route("openai")
    team = unique("team")
    spent = budget(gateway, "tag", f"team={team}", limit_usd="0")
    secret = gateway.key(
        owner="Growth", tags={"team": team}, callers_name_end_users=False, end_user="crm", allowed_aliases=[route.alias]
    )
    with gateway.nothing_written():  # naming another team's tag is no way out of this team's budget
        refused = ask(gateway, route.alias, secret, metadata={"team": "other"}, user="ada")
        assert (refused.status_code, error(refused)["budget"]) == (429, spent)
    with gateway.orm():
        Budget.objects.filter(name=spent).update(limit_usd=1)
    said = {"metadata": {"team": "other", "ticket": "7"}, "user": "ada", "safety_identifier": "ada-2"}
    assert ask(gateway, route.alias, secret, **said).status_code == 200
    entry = gateway.entry(route.alias)
    assert (entry["owner"], entry["end_user"], entry["tags"]) == ("Growth", "crm", {"team": team, "ticket": "7"})
    (status,) = gateway.rows("SELECT posted_usd FROM budget_status WHERE budget = %s", spent)
    assert status["posted_usd"] == entry["cost_usd"] > 0
    (by_key,) = gateway.rows("SELECT owner FROM spend_by_key WHERE key = %s", entry["key"])
    assert by_key["owner"] == "Growth"


def test_a_request_without_a_required_tag_is_a_400_that_names_the_tag_and_its_place(gateway: Gateway) -> None:
    route = gateway.route("openai")
    secret = gateway.key(required_tags=["project"], allowed_aliases=[route.alias])
    with gateway.nothing_written():
        for metadata in (None, {}, {"team": "red"}, {"project": ""}):
            refused = ask(gateway, route.alias, secret, metadata=metadata)
            said = error(refused)
            assert (refused.status_code, said["code"]) == (400, "missing_required_parameter")
            assert said["param"] == "metadata.project"
            assert '"metadata": {"project": "…"}' in said["message"]
    assert ask(gateway, route.alias, secret, metadata={"project": "x"}).status_code == 200
    fixed = gateway.key(required_tags=["project"], tags={"project": "x"})
    assert ask(gateway, route.alias, fixed).status_code == 200


def test_safety_identifier_counts_as_the_end_user_and_user_comes_first(gateway: Gateway) -> None:
    route, user = gateway.route("openai"), unique("user")
    spent = budget(gateway, "user", user, limit_usd="0")
    secret = gateway.key()
    with gateway.nothing_written():
        for said in ({"safety_identifier": user}, {"user": user}, {"user": user, "safety_identifier": "other"}):
            refused = ask(gateway, route.alias, secret, **said)
            assert (refused.status_code, error(refused)["budget"]) == (429, spent)
        wrong = ask(gateway, route.alias, secret, safety_identifier=7)
        assert (wrong.status_code, error(wrong)["param"]) == (400, "safety_identifier")
    assert ask(gateway, route.alias, secret, user="other", safety_identifier=user).status_code == 200
    assert gateway.entry(route.alias)["end_user"] == "other"


def test_each_text_of_a_list_of_tags_meets_its_budget(gateway: Gateway) -> None:
    route, red = gateway.route("openai"), unique("red")
    secret = gateway.key()
    assert ask(gateway, route.alias, secret, metadata={"tags": ["blue", red]}).status_code == 200
    entry = gateway.entry(route.alias)
    assert entry["tags"] == {"tags": ["blue", red]}
    late = budget(gateway, "tag", f"tags={red}", limit_usd="0.00001")
    ask(gateway, route.alias, secret, metadata={"tags": [red]})  # fills the window with what was spent before
    with gateway.nothing_written():
        for tags in ([red], ["green", red], red):
            refused = ask(gateway, route.alias, secret, metadata={"tags": tags})
            assert (refused.status_code, error(refused)["budget"]) == (429, late)
        many = ask(gateway, route.alias, secret, metadata={"tags": ["x"] * 65})
        assert (many.status_code, error(many)["param"]) == (400, "metadata.tags")
    (status,) = gateway.rows("SELECT posted_usd FROM budget_status WHERE budget = %s", late)
    assert status["posted_usd"] == entry["cost_usd"]
    query = "SELECT 1 AS found FROM refusals WHERE budget = %s AND tags = %s::jsonb"
    assert eventually(lambda: gateway.rows(query, late, json.dumps({"tags": ["green", red]})))
    assert ask(gateway, route.alias, secret, metadata={"tags": ["green"]}).status_code == 200


# --- what a key may use ----------------------------------------------------------------------------------------


def test_a_keys_aliases_bind_its_fallbacks_when_it_says_so(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai", "openai")
    first, second, third = route.aliases
    gateway.sim.behave(route.providers[0], forever=faults.model_not_found())
    free = gateway.key(allowed_aliases=[first, third])
    bound = gateway.key(allowed_aliases=[first, third], binds_fallbacks=True)
    alone = gateway.key(allowed_aliases=[first], binds_fallbacks=True)
    assert ask(gateway, first, free).headers["x-gateway-alias"] == second
    assert ask(gateway, first, bound).headers["x-gateway-alias"] == third
    refused = ask(gateway, first, alone)
    assert {attempt["alias"] for attempt in error(refused)["attempts"]} == {first}
    assert not any(request for request in gateway.sim.requests_to(route.providers[1])[1:])


def test_a_key_with_a_list_is_told_of_no_other_alias(gateway: Gateway) -> None:
    route, other = gateway.route("openai"), gateway.route("openai")
    secret = gateway.key(allowed_aliases=[route.alias])
    with gateway.nothing_written():
        exists, is_not = (ask(gateway, name, secret) for name in (other.alias, "no-such-model"))
        assert exists.status_code == is_not.status_code == 403
        assert error(exists)["code"] == error(is_not)["code"] == "model_not_allowed"
        assert error(exists)["message"].replace(other.alias, "no-such-model") == error(is_not)["message"]
        assert error(is_not)["message"].endswith(f"It may use: {route.alias}.")
        with gateway.orm():
            Provider.objects.filter(name=route.providers[0]).update(enabled=False)
        off = ask(gateway, route.alias, secret)
        assert (off.status_code, error(off)["code"]) == (404, "model_not_found")
        assert other.alias not in off.text
        assert "gpt-4o" not in off.text
        unknown = ask(gateway, "no-such-model", gateway.key())
        assert (unknown.status_code, error(unknown)["code"]) == (404, "model_not_found")
        assert other.alias in unknown.text


def test_a_rotated_key_is_taken_with_both_secrets_until_the_grace_is_over(gateway: Gateway) -> None:
    route, name = gateway.route("openai"), unique("key")
    old = gateway.key(name=name, requests_per_minute=1000)
    with gateway.orm():
        new = keys.rotate(ApiKey.objects.get(name=name).pk, None, timedelta(hours=1))
    assert [ask(gateway, route.alias, secret).status_code for secret in (old, new, old, new)] == [200] * 4
    gateway.wait_settled(route.alias, 4)
    assert {entry["key"] for entry in gateway.entries(route.alias)} == {name}
    with gateway.orm():
        ApiKey.objects.filter(name=name).update(old_valid_until=datetime.now(UTC) - timedelta(seconds=1))
    with gateway.nothing_written():
        ended = ask(gateway, route.alias, old)
        assert (ended.status_code, error(ended)["code"]) == (401, "invalid_api_key")
        assert "was rotated" in error(ended)["message"]
    assert ask(gateway, route.alias, new).status_code == 200


def test_a_request_over_the_keys_own_tokens_a_minute_is_told_that_it_never_fits(gateway: Gateway) -> None:
    route = gateway.route("openai")
    client = gateway.client(api_key=gateway.key(tokens_per_minute=500), max_retries=5)
    with gateway.nothing_written(), pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model=route.alias, max_tokens=1000, **asks())
    assert raised.value.code == "rate_limit_exceeded"
    found = re.search(r"it will never fit. Set max_tokens to (\d+) or less", raised.value.message)
    assert found is not None
    assert "retry-after" not in raised.value.response.headers
    assert raised.value.response.headers["x-should-retry"] == "false"
    client.chat.completions.create(model=route.alias, max_tokens=int(found.group(1)), **asks())


# --- /v1/budget ------------------------------------------------------------------------------------------------


def test_v1_budget_shows_every_budget_that_a_request_of_the_key_would_meet(gateway: Gateway) -> None:
    route, other = gateway.route("openai", "openai"), gateway.route("openai")
    red, ada = unique("red"), unique("ada")
    name = unique("key")
    secret = gateway.key(
        name=name, allowed_aliases=[route.alias], tags={"team": red}, end_user=ada, callers_name_end_users=False
    )
    met = {
        "global": "global",
        gateway.budget_of_key(name, "0.5"): "key",
        budget(gateway, "alias", route.alias, period="month"): "alias",
        budget(gateway, "alias", route.aliases[1]): "alias",
        budget(gateway, "alias", f"{route.alias[:-2]}*", mode="soft"): "alias",
        budget(gateway, "provider", route.providers[0]): "provider",
        budget(gateway, "provider", route.providers[1], period="total"): "provider",
        budget(gateway, "tag", f"team={red}"): "tag",
        budget(gateway, "user", ada): "user",
    }
    asked = budget(gateway, "tag", f"project={red}")
    unmet = {
        budget(gateway, "alias", other.alias), budget(gateway, "provider", other.providers[0]),
        budget(gateway, "tag", "team=other"), budget(gateway, "user", "bob"),
        budget(gateway, "user", f"{ada}-2"),
    }  # fmt: skip
    found = told(gateway, secret)
    assert {budget: row["scope"] for budget, row in found.items()} == met
    for row in found.values():
        assert row.keys() == {
            "budget", "scope", "scope_value", "mode", "period", "limit_usd", "posted_usd", "held_usd", "available_usd",
            "resets_at",
        }  # fmt: skip
        if row["scope"] != "global":  # its window is not open yet, so all of it is there
            assert (row["posted_usd"], row["held_usd"], row["available_usd"]) == ("0", "0", row["limit_usd"])
        assert (row["resets_at"] is None) == (row["period"] == "total")

    assert told(gateway, secret, f"?tag.project={red}&tag.team=other&end_user=bob").keys() == {*met, asked}
    assert told(gateway, secret, f"?model={route.alias}").keys() == met.keys()
    assert not unmet & told(gateway, secret, f"?model={route.alias}&end_user=bob").keys()
    for model, status in ((other.alias, 403), ("no-such-model", 403)):
        answer = http.get(f"{gateway.url}/v1/budget?model={model}", headers={"api-key": secret})
        assert (answer.status_code, error(answer)["code"]) == (status, "model_not_allowed")


def test_v1_budget_knows_what_bound_fallbacks_a_key_cannot_meet(gateway: Gateway) -> None:
    route = gateway.route("openai", "openai")
    second = {budget(gateway, "provider", route.providers[1]), budget(gateway, "alias", route.aliases[1])}
    free = gateway.key(allowed_aliases=[route.alias])
    bound = gateway.key(allowed_aliases=[route.alias], binds_fallbacks=True)
    assert second <= told(gateway, free).keys()
    assert not second & told(gateway, bound).keys()


def test_v1_budget_knows_the_budgets_of_wildcards(gateway: Gateway) -> None:
    with gateway.orm():
        house = unique("house")
        provider = Provider.objects.get(name="openai")
        row = ModelAlias.objects.create(name=f"{house}/*", provider=provider, upstream_model="*", position=1000)
    whole, one = budget(gateway, "alias", f"{house}/*"), budget(gateway, "alias", f"{house}/gpt-4o-mini")
    of_openai = budget(gateway, "provider", "openai")
    try:
        assert {whole, one, of_openai} <= told(gateway, gateway.key(allowed_aliases=[f"{house}/*"])).keys()
        mini = gateway.key(allowed_aliases=[f"{house}/gpt-4o-mini"])
        assert {whole, one} <= told(gateway, mini).keys()
        assert {whole, one} <= told(gateway, mini, f"?model={house}/gpt-4o-mini").keys()
        only_another = told(gateway, gateway.key(allowed_aliases=[f"{house}/gpt-4o"]))
        assert whole in only_another
        assert one not in only_another
        none = gateway.key(uses_wildcards=False)
        assert not {whole, one} & told(gateway, none).keys()
    finally:
        with gateway.orm():
            Budget.objects.filter(name__in=[whole, one, of_openai]).delete()
            row.delete()
