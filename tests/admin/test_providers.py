"""Providers in the admin: validation, keys that never show, and renames that prices and budgets follow."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from pytest_django import Settings

from accounting.models import Budget, Price
from routing import catalog
from routing.models import FurtherDeployment, Provider, ProviderKey
from tests.admin.conftest import Operator, alias, grant, provider, version
from tests.prices import add_price

RAW_KEY = "sk-proj-8fJ2mQ0aVn3xZ7"
LIST = "routing/provider/"


def page_of(name: str) -> str:
    return f"{LIST}{provider(name).pk}/change/"


def test_a_provider_is_added_and_the_catalog_version_changes(operator: Operator) -> None:
    before = version()
    fields = operator.form(f"{LIST}add/")
    page = operator.post(f"{LIST}add/", fields, name="groq", litellm_provider="groq", key_reference="env:GROQ_API_KEY")
    assert "groq" in page
    added = provider("groq")
    assert (added.litellm_provider, added.key_reference, added.base_url) == ("groq", "env:GROQ_API_KEY", "")
    assert (added.first_token_timeout_s, added.retries, added.enabled) == (12.0, 1, True)
    assert version() != before
    assert LogEntry.objects.get().user == operator.user


def test_a_pasted_key_is_refused_and_never_shown_again(operator: Operator) -> None:
    before = version()
    page = operator.post(page_of("openai"), operator.form(page_of("openai")), key_reference=RAW_KEY)
    assert "The key itself does not belong here" in page
    assert RAW_KEY not in page
    assert provider("openai").key_reference == "env:OPENAI_API_KEY"
    assert version() == before
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("reference", [f"env:{RAW_KEY}", f"file:{RAW_KEY}", f" {RAW_KEY} ", f"{RAW_KEY}" * 20])
def test_a_key_dressed_up_as_a_reference_is_refused_and_not_shown_either(operator: Operator, reference: str) -> None:
    before = version()
    page = operator.post(page_of("openai"), operator.form(page_of("openai")), key_reference=reference)
    assert "errornote" in page or "Please correct" in page
    assert RAW_KEY not in page
    assert version() == before


@pytest.mark.parametrize(
    ("name", "hint"),
    [("openia", "Did you mean openai?"), ("§§§", "openai fits every OpenAI-compatible server.")],
)
def test_a_wire_format_that_litellm_does_not_know_is_refused_with_a_hint(
    operator: Operator, name: str, hint: str
) -> None:
    before = version()
    page = operator.post(page_of("openai"), operator.form(page_of("openai")), litellm_provider=name)
    assert f"litellm knows no provider “{name}”. {hint}" in page
    assert provider("openai").litellm_provider == "openai"
    assert version() == before


@pytest.mark.parametrize("url", ["ftp://models.example/v1", "models.example", "file:///etc/passwd", "https://", "//x"])
def test_a_base_url_is_http_or_https(operator: Operator, url: str) -> None:
    before = version()
    page = operator.post(page_of("openai"), operator.form(page_of("openai")), base_url=url)
    assert "Write a URL that begins with http:// or https://" in page
    assert version() == before


@pytest.mark.parametrize("url", [f"https://me:{RAW_KEY}@models.example/v1", f"https://models.example/v1?key={RAW_KEY}"])
def test_a_base_url_with_a_secret_in_it_is_refused_and_not_shown(operator: Operator, url: str) -> None:
    before = version()
    page = operator.post(page_of("openai"), operator.form(page_of("openai")), base_url=url)
    assert "what is secret goes into the key reference" in page
    assert RAW_KEY not in page
    assert version() == before


def test_a_base_url_may_name_a_host_of_the_local_network(operator: Operator) -> None:
    operator.post(page_of("openai"), operator.form(page_of("openai")), base_url="http://ollama:11434/v1")
    assert provider("openai").base_url == "http://ollama:11434/v1"


def test_a_provider_without_an_address_of_its_own_needs_a_base_url(operator: Operator) -> None:
    page = operator.post(
        f"{LIST}add/", operator.form(f"{LIST}add/"), name="local", litellm_provider="hosted_vllm", base_url=""
    )
    assert "has no address of its own" in page
    assert not Provider.objects.filter(name="local").exists()


def test_the_list_says_whether_a_key_is_there_and_never_what_it_is(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Settings
) -> None:
    settings.GATEWAY_KEY_DIR = str(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", RAW_KEY)
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    (tmp_path / "key").write_text(f"{RAW_KEY}\n")
    Provider.objects.filter(name="google").update(key_reference=f"file:{tmp_path}/key")
    Provider.objects.create(name="local", litellm_provider="openai", base_url="http://ollama/v1")
    page = operator.get(LIST)
    assert page.count("present") == 2
    assert page.count("missing") == 1
    assert page.count("needs none") == 1
    assert RAW_KEY not in page
    assert RAW_KEY not in operator.get(page_of("openai"))


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ("env:DJANGO_SUPERUSER_PASSWORD", "DJANGO_SUPERUSER_PASSWORD is the gateway&#x27;s own secret"),
        ("env:DATABASE_URL", "DATABASE_URL is the gateway&#x27;s own secret"),
        ("env:HOME", "call it …_API_KEY, or add it to GATEWAY_KEY_NAMES"),
        ("file:/etc/passwd", "is not below /run/secrets"),
        ("file:/run/secrets/../../etc/passwd", "is not below /run/secrets"),
    ],
)
def test_a_reference_reads_only_what_was_put_there_for_providers(operator: Operator, reference: str, why: str) -> None:
    before = version()
    page = operator.post(page_of("openai"), operator.form(page_of("openai")), key_reference=reference)
    assert why in page
    assert version() == before


def test_a_key_that_may_not_be_read_is_shown_as_such(operator: Operator) -> None:
    Provider.objects.filter(name="openai").update(key_reference="env:HOME")
    assert operator.get(LIST).count("not allowed") == 1


KEEPS_AN_ADDRESS: list[tuple[dict[str, str], bool]] = [
    ({"retries": "2"}, True),
    ({"key_reference": "env:ANTHROPIC_API_KEY"}, True),  # at the provider's own address
    ({"base_url": "https://mine.example/v1"}, False),
    ({"base_url": "https://mine.example/v1", "key_reference": "env:ANTHROPIC_API_KEY"}, False),
    ({"base_url": "https://mine.example/v1", "key_reference": ""}, True),
    ({"parameters": '{"aws_sts_endpoint": "https://mine.example"}'}, False),
    ({"parameters": '{"organization": "os.environ/OPENAI_ORG_ID"}'}, True),
]


@pytest.mark.parametrize(("changes", "is_saved"), KEEPS_AN_ADDRESS)
def test_only_a_superuser_sends_a_key_to_an_address_of_his_own(
    operator: Operator, newcomer: Operator, changes: dict[str, str], is_saved: bool
) -> None:
    grant(newcomer, "routing.view_provider", "routing.change_provider")
    before = version()
    page = newcomer.post(page_of("openai"), newcomer.form(page_of("openai")), **changes)
    assert ("Only a superuser may send a key" in page) is not is_saved
    assert (version() != before) is is_saved
    assert "Only a superuser" not in operator.post(page_of("openai"), operator.form(page_of("openai")), **changes)


def test_no_key_is_added_to_an_address_that_is_not_the_providers_own(newcomer: Operator) -> None:
    grant(newcomer, "routing.view_provider", "routing.change_provider", "routing.add_provider")
    grant(newcomer, "routing.view_providerkey", "routing.change_providerkey", "routing.add_providerkey")
    local = Provider.objects.create(
        name="local", litellm_provider="openai", base_url="http://local/v1", key_reference="env:LOCAL_API_KEY"
    )
    page, before = page_of("local"), version()
    fields = newcomer.form(page)
    assert "Only a superuser" in newcomer.post(page, fields, key_reference="env:OPENAI_API_KEY")
    further = {"further_keys-TOTAL_FORMS": "1", "further_keys-0-key_reference": "env:OPENAI_API_KEY"}
    assert "Only a superuser" in newcomer.post(page, fields, **further)
    new = {"name": "mine", "litellm_provider": "openai", "base_url": "https://mine.example/v1"}
    add = f"{LIST}add/"
    assert "Only a superuser" in newcomer.post(add, newcomer.form(add), **new, key_reference="env:OPENAI_API_KEY")
    assert version() == before
    newcomer.post(page, fields, retries="3")
    newcomer.post(add, newcomer.form(add), **new)
    local.refresh_from_db()
    assert (local.retries, provider("mine").key_reference) == (3, "")
    assert not ProviderKey.objects.exists()


def test_further_keys_stay_where_they_are_when_the_address_changes(newcomer: Operator) -> None:
    grant(newcomer, "routing.view_provider", "routing.change_provider")
    ProviderKey.objects.create(provider=provider("openai"), key_reference="env:OPENAI_API_KEY_2")
    before = version()
    fields = newcomer.form(page_of("openai"))
    assert "Only a superuser" in newcomer.post(
        page_of("openai"), fields, base_url="https://a.example", key_reference=""
    )
    assert version() == before


def test_a_provider_in_use_is_not_deleted_and_the_page_names_its_aliases(operator: Operator) -> None:
    FurtherDeployment.objects.create(alias=alias("claude-sonnet"), provider=provider("openai"), upstream_model="gpt-4o")
    before = version()
    page = operator.post(f"{LIST}{provider('openai').pk}/delete/", {"post": "yes"})
    assert "openai cannot be deleted:" in page
    assert "The alias “gpt-4o” uses it." in page
    assert "The alias “claude-sonnet” uses it." in page
    assert "gemini" not in page
    assert Provider.objects.count() == 3
    assert version() == before


def test_providers_in_use_are_not_deleted_from_the_list_either(operator: Operator) -> None:
    before = version()
    page = operator.post(
        LIST, {"action": "delete_selected", "_selected_action": [provider("openai").pk], "post": "yes"}
    )
    assert "The alias “gpt-4o” uses it." in page
    assert version() == before


def test_an_unused_provider_is_deleted(operator: Operator) -> None:
    unused = Provider.objects.create(name="unused", litellm_provider="openai")
    operator.post(f"{LIST}{unused.pk}/delete/", {"post": "yes"})
    assert not Provider.objects.filter(name="unused").exists()


def test_prices_and_budgets_follow_a_rename(operator: Operator) -> None:
    of_openai = Price.objects.filter(provider="openai").count()
    budget = Budget.objects.create(name="of openai", scope="provider", scope_value="openai", limit_usd=5)
    same_word = Budget.objects.create(name="of a user", scope="user", scope_value="openai", limit_usd=5)
    page = operator.post(page_of("openai"), operator.form(page_of("openai")), name="openai-eu")
    assert "Renamed “openai” to “openai-eu”: 1 price(s) and 1 budget(s) follow." in page
    assert Price.objects.filter(provider="openai-eu").count() == of_openai == 1
    assert not Price.objects.filter(provider="openai").exists()
    budget.refresh_from_db()
    same_word.refresh_from_db()
    assert (budget.scope_value, same_word.scope_value) == ("openai-eu", "openai")
    assert alias("gpt-4o").provider.name == "openai-eu"


def test_a_rename_onto_anothers_prices_is_refused(operator: Operator) -> None:
    at = Price.objects.get(provider="openai", model="gpt-4o").effective_from
    add_price("azure-eu", "gpt-4o", at, input="1", output="1")
    before = version()
    page = operator.post(page_of("openai"), operator.form(page_of("openai")), name="azure-eu")
    assert "There are prices for “azure-eu” already" in page
    assert provider("openai").name == "openai"
    assert version() == before


def test_a_rename_leaves_other_prices_of_the_new_name_alone(operator: Operator) -> None:
    add_price("openai-eu", "gpt-4o", datetime(2020, 1, 1, tzinfo=UTC), input="1", output="1")
    operator.post(page_of("openai"), operator.form(page_of("openai")), name="openai-eu")
    assert Price.objects.filter(provider="openai-eu").count() == 2


def new_key(fields: dict[str, Any], reference: str) -> dict[str, Any]:
    """The fields with one more key, as the browser's “Add another” makes it."""
    row = int(fields["further_keys-TOTAL_FORMS"])
    return fields | {
        "further_keys-TOTAL_FORMS": row + 1,
        f"further_keys-{row}-key_reference": reference,
        f"further_keys-{row}-enabled": "on",
    }


def references(name: str) -> tuple[str, ...]:
    """The keys that requests take in turn."""
    (step,) = [step for step in catalog.fresh().aliases["gpt-4o"].own if step.provider.name == name]
    return step.provider.key_references


@pytest.mark.django_db(transaction=True)
def test_a_provider_gets_a_further_key_which_is_live_at_once(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY_2", RAW_KEY)
    assert references("openai") == ("env:OPENAI_API_KEY",)
    before = version()
    operator.post(page_of("openai"), new_key(operator.form(page_of("openai")), "env:OPENAI_API_KEY_2"))
    assert references("openai") == ("env:OPENAI_API_KEY", "env:OPENAI_API_KEY_2")
    assert version() != before
    page = operator.get(page_of("openai"))
    assert "Requests take the keys in turn." in page
    assert "present" in page
    assert RAW_KEY not in page


@pytest.mark.django_db(transaction=True)
def test_a_further_key_is_switched_off_and_removed(operator: Operator) -> None:
    operator.post(page_of("openai"), new_key(operator.form(page_of("openai")), "env:OPENAI_API_KEY_2"))
    fields = operator.form(page_of("openai"))
    del fields["further_keys-0-enabled"]
    operator.post(page_of("openai"), fields)
    assert references("openai") == ("env:OPENAI_API_KEY",)
    assert ProviderKey.objects.count() == 1
    operator.post(page_of("openai"), operator.form(page_of("openai")) | {"further_keys-0-DELETE": "on"})
    assert not ProviderKey.objects.exists()


@pytest.mark.parametrize("reference", [RAW_KEY, f"env:{RAW_KEY}"])
def test_a_key_pasted_among_the_further_ones_is_refused_and_not_shown(operator: Operator, reference: str) -> None:
    before = version()
    page = operator.post(page_of("openai"), new_key(operator.form(page_of("openai")), reference))
    assert "Please correct" in page
    assert RAW_KEY not in page
    assert not ProviderKey.objects.exists()
    assert version() == before


def test_the_same_further_key_twice_is_refused(operator: Operator) -> None:
    before = version()
    fields = new_key(operator.form(page_of("openai")), "env:OPENAI_API_KEY_2")
    page = operator.post(page_of("openai"), new_key(fields, "env:OPENAI_API_KEY_2"))
    assert "Please correct" in page
    assert not ProviderKey.objects.exists()
    assert version() == before


def test_a_provider_without_models_takes_its_further_keys_along(operator: Operator) -> None:
    unused = Provider.objects.create(name="unused", litellm_provider="openai")
    unused.further_keys.create(key_reference="env:OPENAI_API_KEY_2")
    operator.post(f"{LIST}{unused.pk}/delete/", {"post": "yes"})
    assert not ProviderKey.objects.exists()
