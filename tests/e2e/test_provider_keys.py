"""Several keys of one provider: conversations are shared out, 429 rotates, and a key that is refused is out."""

from __future__ import annotations

import time
from pathlib import Path

import openai
import pytest

from routing.models import Provider, ProviderKey
from tests.e2e.gateway import PROVIDER_KEYS, Gateway, Route, asks, http, text_of, unique
from tests.simulator import Behaviour, faults

SECOND = "sk-provider-second-88f2aa01"


@pytest.fixture
def route(gateway: Gateway, tmp_path: Path) -> Route:
    """A provider with two keys, the second of which is in a file, and a fallback."""
    route = gateway.route("openai", "anthropic")
    (tmp_path / "key").write_text(SECOND)
    with gateway.orm():
        ProviderKey.objects.create(
            provider=Provider.objects.get(name=route.providers[0]), key_reference=f"file:{tmp_path / 'key'}"
        )
    return route


def ask(gateway: Gateway, route: Route) -> str:
    """The alias that answered, in a conversation of its own."""
    return str(gateway.client().chat.completions.create(model=route.alias, **asks(unique("Hello"))).model)


def ask_anew(gateway: Gateway, route: Route) -> None:
    """Ask on a new connection, so that each worker gets requests."""
    gateway.client(http_client=http).chat.completions.create(model=route.alias, **asks(unique("Hello")))


def keys_seen(gateway: Gateway, provider: str) -> list[str]:
    names = {f"Bearer {PROVIDER_KEYS['OPENAI_API_KEY']}": "first", f"Bearer {SECOND}": "second"}
    return [names[request.headers["authorization"]] for request in gateway.sim.requests_to(provider)]


def test_conversations_are_shared_out_among_the_keys_and_each_keeps_its_own(gateway: Gateway, route: Route) -> None:
    for _ in range(24):
        ask(gateway, route)
    assert set(keys_seen(gateway, route.providers[0])) == {"first", "second"}
    gateway.sim.reset()
    for _ in range(8):
        gateway.client(http_client=http).chat.completions.create(model=route.alias, **asks("Hello again"))
    assert len(set(keys_seen(gateway, route.providers[0]))) == 1, "on both workers"


def test_a_429_goes_on_with_the_next_key_at_once(gateway: Gateway, route: Route, tmp_path: Path) -> None:
    gateway.sim.behave(route.providers[0], faults.rate_limited(retry_after_s=60))
    assert ask(gateway, route) == route.alias
    first, second = gateway.sim.requests_to(route.providers[0])
    assert {*keys_seen(gateway, route.providers[0])} == {"first", "second"}
    assert second.received_at - first.received_at < 0.2, "without waiting: it is another key"
    attempts = gateway.attempts(route.alias)
    assert [a["outcome"] for a in attempts] == ["rate_limited", "answered"]
    assert [a["next"] for a in attempts] == ["another key of the provider", None]
    references = {a["key_reference"] for a in attempts}
    assert references == {"env:OPENAI_API_KEY", f"file:{tmp_path / 'key'}"}
    assert gateway.entry(route.alias)["fallback"] is False, "the same deployment answered"


def test_when_all_keys_are_limited_the_request_waits_as_with_one(gateway: Gateway, route: Route) -> None:
    gateway.sim.behave(route.providers[0], *[faults.rate_limited(retry_after_s=60)] * 4)
    assert ask(gateway, route) == route.aliases[1]
    assert len(keys_seen(gateway, route.providers[0])) == 2, "each key once"


def test_a_refused_key_is_out_and_its_reference_alerted_but_never_the_key(
    gateway: Gateway, route: Route, tmp_path: Path
) -> None:
    gateway.sim.behave(route.providers[0], *[faults.invalid_key()] * 1)
    assert ask(gateway, route) == route.alias
    refused = keys_seen(gateway, route.providers[0])[0]
    for _ in range(8):
        assert ask(gateway, route) == route.alias
    (alert,) = gateway.log_lines(event="attempt failed", provider=route.providers[0], alert=True)
    assert alert["level"] == "error"
    assert alert["key_reference"] in ("env:OPENAI_API_KEY", f"file:{tmp_path / 'key'}")
    assert SECOND not in gateway.running.output
    assert PROVIDER_KEYS["OPENAI_API_KEY"] not in gateway.running.output
    # The worker that got the refusal does not use the key again. The other worker has not got it.
    writer = gateway.rows(
        "SELECT e.writer_id FROM accounting_attempt a JOIN accounting_ledgerentry e ON e.id = a.entry_id"
        " WHERE a.provider = %s AND a.outcome = 'authentication'",
        route.providers[0],
    )[0]["writer_id"]
    served = gateway.rows(
        "SELECT writer_id FROM accounting_ledgerentry WHERE alias = %s ORDER BY created_at", route.alias
    )
    by_that_worker = [key for key, row in zip(keys_seen(gateway, route.providers[0])[1:], served, strict=True)
                      if row["writer_id"] == writer]  # fmt: skip
    assert refused not in by_that_worker


def test_when_every_key_is_refused_the_next_step_answers(gateway: Gateway, route: Route) -> None:
    gateway.sim.behave(route.providers[0], *[faults.invalid_key()] * 2)
    assert ask(gateway, route) == route.aliases[1]
    assert [a["outcome"] for a in gateway.attempts(route.alias)] == ["authentication"] * 2 + ["answered"]


def test_a_key_that_leads_nowhere_is_passed_over(gateway: Gateway, route: Route, tmp_path: Path) -> None:
    (tmp_path / "key").unlink()
    for _ in range(4):
        assert ask(gateway, route) == route.alias
    assert set(keys_seen(gateway, route.providers[0])) == {"first"}


def test_a_provider_without_any_key_says_which_ones_are_missing(gateway: Gateway, route: Route, tmp_path: Path) -> None:
    (tmp_path / "key").unlink()
    with gateway.orm():
        Provider.objects.filter(name__in=route.providers).update(key_reference="env:NOBODY_SET_THIS")
    with pytest.raises(openai.InternalServerError) as raised:
        ask(gateway, route)
    assert [a["kind"] for a in raised.value.body["attempts"]] == ["no_key", "no_key"]  # type: ignore[index]


def test_a_key_is_live_with_the_operators_save(gateway: Gateway, tmp_path: Path) -> None:
    route = gateway.route("openai")
    for _ in range(6):  # both workers have a snapshot without it
        ask_anew(gateway, route)
    assert set(keys_seen(gateway, route.providers[0])) == {"first"}
    (tmp_path / "key").write_text(SECOND)
    with gateway.orm():
        row = Provider.objects.get(name=route.providers[0])
        added = ProviderKey.objects.create(provider=row, key_reference=f"file:{tmp_path / 'key'}")
    gateway.sim.reset()
    for _ in range(24):
        ask_anew(gateway, route)
    assert set(keys_seen(gateway, route.providers[0])) == {"first", "second"}
    with gateway.orm():
        added.enabled = False
        added.save()
    gateway.sim.reset()
    for _ in range(6):
        ask_anew(gateway, route)
    assert set(keys_seen(gateway, route.providers[0])) == {"first"}


@pytest.mark.parametrize("fault", [faults.invalid_key(), faults.rate_limited(retry_after_s=60)])
def test_while_another_key_is_well_the_breaker_counts_nothing(gateway: Gateway, route: Route, fault: Behaviour) -> None:
    with gateway.orm():
        Provider.objects.filter(name=route.providers[0]).update(breaker_failures=1)
    gateway.sim.behave(route.providers[0], fault)
    for _ in range(4):
        assert ask(gateway, route) == route.alias
    assert gateway.log_lines(event="breaker opened", provider=route.providers[0]) == []
    gateway.sim.behave(route.providers[0], fault.but(window_s=5))
    assert ask(gateway, route) == route.aliases[1], "now no key is left"
    assert len(gateway.log_lines(event="breaker opened", provider=route.providers[0])) == 1


def test_a_probe_goes_on_with_the_next_key_too(gateway: Gateway, route: Route) -> None:
    with gateway.orm():
        Provider.objects.filter(name=route.providers[0]).update(breaker_failures=1, breaker_cooldown_s=0.3, retries=0)
    gateway.sim.behave(route.providers[0], faults.unavailable(), faults.invalid_key())
    assert ask(gateway, route) == route.aliases[1]
    time.sleep(0.5)
    assert ask(gateway, route) == route.alias
    assert [a["outcome"] for a in gateway.attempts(route.alias)][-2:] == ["authentication", "answered"]


def test_a_stream_goes_on_with_the_next_key_unseen(gateway: Gateway, route: Route) -> None:
    gateway.sim.behave(route.providers[0], faults.invalid_key())
    stream = gateway.client().chat.completions.create(model=route.alias, stream=True, **asks())
    assert text_of(stream)
    gateway.wait_settled(route.alias)
    assert [a["outcome"] for a in gateway.attempts(route.alias)] == ["authentication", "answered"]
    assert [a["position"] for a in gateway.attempts(route.alias)] == [1, 2]
