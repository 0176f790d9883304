"""Moving over from LiteLLM with its own file, on a real database; and the errors of a wrong file."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
import yaml
from django.core.management import CommandError, call_command

from accounting import keys
from accounting.models import ApiKey, Budget, Price, PriceRate
from accounting.pricing import PriceList
from accounting.usage import Meter, Tier
from routing import defaults
from routing.models import Fallback, FurtherDeployment, ModelAlias, Provider, ProviderKey
from tests.prices import add_price, rate, set_rate

EXAMPLE = Path(__file__).parents[1] / "unit" / "litellm-config.yaml"
ENVIRONMENT = {
    "ANTHROPIC_API_KEY": "sk-ant-x",
    "OPENAI_API_KEY": "sk-x",
    "AZURE_API_BASE": "https://my.openai.azure.com",
    "AZURE_API_KEY": "az-x",
    "LITELLM_MASTER_KEY": "sk-master-1234",
}


@pytest.fixture(autouse=True)
def _first_start(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    defaults.ensure()
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GROQ_API_KEY", raising=False)


def load(path: Path = EXAMPLE, *options: str) -> str:
    out = StringIO()
    call_command("load_config", str(path), *options, stdout=out)
    return out.getvalue()


def export() -> str:
    out = StringIO()
    call_command("export_config", stdout=out)
    return out.getvalue()


CONFIGURATION = (
    Provider, ProviderKey, ModelAlias, FurtherDeployment, Fallback, Price, PriceRate, Budget, ApiKey,
)  # fmt: skip


def snapshot() -> list[object]:
    """Everything that a configuration consists of."""
    return [list(model.objects.order_by("pk").values()) for model in CONFIGURATION]


def chain(alias: str, kind: str = "general") -> list[str]:
    steps = Fallback.objects.filter(alias__name=alias, kind=kind).order_by("position")
    return list(steps.values_list("target__name", flat=True))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_litellm_file_moves_over_whole() -> None:
    load()
    sonnet = ModelAlias.objects.get(name="claude-sonnet")
    assert (sonnet.provider.name, sonnet.output_cap_tokens) == ("anthropic", 2048)
    fast = ModelAlias.objects.get(name="fast")
    assert (fast.provider.name, fast.upstream_model) == ("groq", "llama-3.3-70b-versatile")
    assert (fast.provider.total_timeout_s, fast.provider.first_token_timeout_s) == (60, 5)
    assert fast.provider.key_reference == "env:GROQ_API_KEY"
    assert [(d.provider.name, d.upstream_model) for d in fast.deployments.all()] == [("openai", "gpt-4o-mini")]
    house = ModelAlias.objects.get(name="house").provider
    assert (house.litellm_provider, house.base_url, house.key_reference) == (
        "hosted_vllm", "http://127.0.0.1:8001/v1", "",
    )  # fmt: skip
    azure = ModelAlias.objects.get(name="azure-gpt").provider
    assert (azure.base_url, azure.api_version) == ("https://my.openai.azure.com", "2024-10-21")
    # The router's num_retries wins over litellm's; the default provider is reused, not doubled.
    openai = Provider.objects.get(litellm_provider="openai")
    assert (openai.name, openai.retries, openai.total_timeout_s) == ("openai", 3, 300)
    assert (openai.breaker_failures, openai.breaker_cooldown_s) == (3, 45)
    assert chain("claude-sonnet") == ["fast", "gpt-4o"]
    assert chain("fast") == chain("house") == ["claude-sonnet"]
    assert chain("fast", "context_window") == ["claude-sonnet"]
    assert chain("gpt-4o") == ["gemini-pro"]  # not in the file: left
    budget = Budget.objects.get()
    assert (budget.name, budget.limit_usd, budget.period, budget.mode) == ("global", Decimal(25), "month", "hard")
    assert ApiKey.objects.get().digest == keys.digest("sk-master-1234")
    price = Price.objects.get(provider="groq")
    assert (rate(price), rate(price, Meter.OUTPUT)) == (Decimal("0.59"), Decimal("0.79"))
    assert Price.objects.get(model="gpt-4o-mini").source == "litellm price map"


def test_it_says_what_it_did_and_what_it_does_not_support_by_name() -> None:
    said = load()
    for line in (
        "  alias fast (groq llama-3.3-70b-versatile)",
        "  alias claude-sonnet: output_cap_tokens None → 2048",
        "  alias claude-sonnet: fallbacks gpt-4o → gemini-pro becomes fast → gpt-4o",
        "  budget global: limit_usd 10.000000000000 → 25",
        "  alias gpt-4o",
        "  hosted_vllm qwen-3",
        "  GROQ_API_KEY: is not set in this environment; the provider has no key until it is",
    ):
        assert line in said.splitlines(), said
    unsupported = said.split("not supported:\n")[1].splitlines()
    assert [line.strip() for line in unsupported] == [
        "litellm_settings.drop_params, line 37",
        "litellm_settings.success_callback, line 38",
        "router_settings.routing_strategy, line 46",
        "general_settings.database_url, line 54",
        "model_list[1].litellm_params.rpm, line 14",
    ]
    for secret in ENVIRONMENT.values():
        assert secret == ENVIRONMENT["AZURE_API_BASE"] or secret not in said


def test_loading_twice_changes_nothing() -> None:
    load()
    before = snapshot()
    assert load().splitlines()[-1] == "nothing changed"
    assert snapshot() == before


def test_a_dry_run_says_the_same_and_writes_nothing() -> None:
    before = snapshot()
    said = load(EXAMPLE, "--dry-run")
    assert said.splitlines()[-1] == "dry run: nothing was written"
    assert "alias fast (groq llama-3.3-70b-versatile)" in said
    assert snapshot() == before
    assert said.replace("dry run: nothing was written\n", "") == load()


@pytest.mark.parametrize("loaded_before", [False, True])
def test_what_is_exported_loads_back_without_a_change(loaded_before: bool, tmp_path: Path) -> None:
    if loaded_before:
        load()
    before, exported = snapshot(), export()
    assert load(write(tmp_path, exported)).splitlines()[-1] == "nothing changed"
    assert snapshot() == before


def test_an_export_has_references_instead_of_secrets() -> None:
    load()
    exported = export()
    document = yaml.safe_load(exported)
    assert document["model_list"][0]["litellm_params"]["api_key"] == "os.environ/ANTHROPIC_API_KEY"
    assert document["litellm_settings"]["max_budget"] == 25
    assert document["litellm_settings"]["budget_duration"] == "30d"
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "AZURE_API_KEY", "LITELLM_MASTER_KEY"):
        assert ENVIRONMENT[name] not in exported


def test_a_key_in_clear_is_neither_stored_nor_echoed(tmp_path: Path) -> None:
    path = write(
        tmp_path, "model_list: [{model_name: m, litellm_params: {model: openai/gpt-4o, api_key: sk-in-clear-123}}]"
    )
    said = load(path)
    assert "model_list[0].litellm_params.api_key, line 1: a key in clear, which is not stored" in said
    assert "sk-in-clear-123" not in said + repr(snapshot())
    assert ModelAlias.objects.get(name="m").provider.key_reference == "env:OPENAI_API_KEY"


def test_a_short_master_key_is_not_kept_in_what_people_see_of_it(tmp_path: Path) -> None:
    load(write(tmp_path, "general_settings: {master_key: sk-1234}"))
    key = ApiKey.objects.get()
    assert (key.name, key.prefix, key.digest) == ("master", "sk", keys.digest("sk-1234"))
    assert "sk-1234" not in repr(snapshot())


def test_a_master_key_that_is_a_client_s_key_already_is_reported(tmp_path: Path) -> None:
    ApiKey.objects.create(name="bot", **keys.fields_for("sk-of-the-bot"))
    said = load(write(tmp_path, "general_settings: {master_key: sk-of-the-bot}"))
    assert "  general_settings.master_key: is the API key bot already" in said.splitlines()
    assert ApiKey.objects.count() == 1


def test_a_changed_master_key_replaces_the_old_one(tmp_path: Path) -> None:
    load(write(tmp_path, "general_settings: {master_key: sk-first-of-all}"))
    said = load(write(tmp_path, "general_settings: {master_key: sk-second-of-all}"))
    assert "  API key master: the key itself" in said.splitlines()
    assert ApiKey.objects.get().digest == keys.digest("sk-second-of-all")


KEY_SETTINGS = """
general_settings:
  master_key: sk-first-of-all
  enforced_params: [user, metadata.project, metadata.ticket]
  enforce_fallback_model_access: true
"""


def test_what_litellm_asks_of_every_request_is_asked_of_those_with_the_master_key(tmp_path: Path) -> None:
    said = load(write(tmp_path, KEY_SETTINGS)).splitlines()
    key = ApiKey.objects.get()
    assert (key.required_tags, key.binds_fallbacks) == (["project", "ticket"], True)
    assert any(
        "general_settings.enforced_params[0], line 4: only tags (metadata.NAME) can be required here" in line
        for line in said
    )
    before = snapshot()
    load(write(tmp_path, KEY_SETTINGS))
    out = export()
    assert "- metadata.project" in out
    assert "enforce_fallback_model_access: true" in out
    load(write(tmp_path, out))
    assert snapshot() == before
    load(write(tmp_path, "general_settings: {enforced_params: [], enforce_fallback_model_access: false}"))
    key.refresh_from_db()
    assert (key.required_tags, key.binds_fallbacks) == ([], False)


def test_without_a_master_key_no_key_asks_for_tags_and_the_output_says_so(tmp_path: Path) -> None:
    ApiKey.objects.create(name="bot", **keys.fields_for("sk-of-the-bot"))
    model = "model_list: [{model_name: gpt-4o, litellm_params: {model: openai/gpt-4o}}]\n"
    said = load(write(tmp_path, model + "general_settings: {enforced_params: [metadata.project]}"))
    assert "general_settings.enforced_params: each key has this for itself here; no key was changed" in said
    assert ApiKey.objects.get().required_tags == []


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("enforced_params: metadata.project", "general_settings.enforced_params, line 1: must be a list"),
        ("enforced_params: [metadata.a=b]", "no “=”"),
        ("enforce_fallback_model_access: maybe", "line 1: must be true or false"),
    ],
)
def test_a_wrong_setting_of_keys_is_left_out(tmp_path: Path, settings: str, problem: str) -> None:
    said = load(write(tmp_path, f"general_settings: {{master_key: sk-first-of-all, {settings}}}"))
    assert problem in said
    assert (ApiKey.objects.get().required_tags, ApiKey.objects.get().binds_fallbacks) == ([], False)


def test_disabled_rows_stay_disabled_and_are_reported(tmp_path: Path) -> None:
    Provider.objects.filter(name="openai").update(enabled=False)
    ModelAlias.objects.filter(name="gpt-4o").update(enabled=False)
    said = load(write(tmp_path, "model_list: [{model_name: gpt-4o, litellm_params: {model: openai/gpt-4o}}]"))
    assert "  the provider openai: is disabled, and stays so" in said.splitlines()
    assert "  the alias gpt-4o: is disabled, and stays so" in said.splitlines()
    assert not ModelAlias.objects.get(name="gpt-4o").enabled


def test_an_azure_deployment_is_priced_as_its_base_model(tmp_path: Path) -> None:
    load(write(tmp_path, """
model_list:
  - model_name: house-gpt
    litellm_params: {model: azure/my-deployment, api_base: "https://my.openai.azure.com", api_version: "2024-10-21"}
    model_info: {base_model: azure/gpt-4o}
"""))  # fmt: skip
    price = Price.objects.get(provider="azure", model="my-deployment")
    assert (rate(price), rate(price, Meter.OUTPUT)) == (Decimal("2.5"), Decimal(10))


@pytest.mark.parametrize("section", ["model_info", "litellm_params"])
def test_a_base_model_wins_over_the_deployments_own_name_as_at_litellm(tmp_path: Path, section: str) -> None:
    entry: dict[str, dict[str, str]] = {
        "litellm_params": {"model": "azure/gpt-4o", "api_base": "https://my.openai.azure.com"},
        "model_info": {},
    }
    entry[section]["base_model"] = "azure/gpt-4o-mini"
    load(write(tmp_path, yaml.safe_dump({"model_list": [{"model_name": "house-gpt", **entry}]})))
    price = Price.objects.get(provider="azure", model="gpt-4o")
    assert (rate(price), rate(price, Meter.OUTPUT)) == (Decimal("0.15"), Decimal("0.6"))


def test_budgets_of_tags_move_over_as_those_of_litellms_list_of_tags(tmp_path: Path) -> None:
    said = load(write(tmp_path, f"""
model_list: [{{model_name: m, litellm_params: {{model: openai/gpt-4o}}}}]
litellm_settings:
  tag_budget_config:
    product:chat: {{max_budget: 1.5, budget_duration: 24h}}
    free: {{budget_limit: 2, time_period: 12d}}
    {"x" * 196}: {{max_budget: 1}}
"""))  # fmt: skip
    budget = Budget.objects.get(name="tag product:chat")
    assert (budget.scope, budget.scope_value, budget.limit_usd, budget.period, budget.mode) == (
        "tag", "tags=product:chat", Decimal("1.5"), "day", "hard",
    )  # fmt: skip
    assert set(Budget.objects.values_list("name", flat=True)) == {"global", "tag product:chat"}
    assert "tag_budget_config.free.time_period, line 6: must be one of" in said
    assert ", line 7: must have at most 195 characters" in said


def test_costs_said_twice_are_taken_once_and_stay(tmp_path: Path) -> None:
    path = write(tmp_path, """
model_list:
  - {model_name: a, litellm_params: {model: openai/own, input_cost_per_token: 1e-6, output_cost_per_token: 2e-6}}
  - {model_name: b, litellm_params: {model: openai/own, input_cost_per_token: 3e-6, output_cost_per_token: 4e-6}}
""")  # fmt: skip
    assert "  openai own: has two different prices in the file; the first is taken" in load(path).splitlines()
    assert rate(Price.objects.get(model="own")) == 1
    assert load(path).splitlines()[-1] == "nothing changed"


def test_a_cost_with_more_digits_than_a_price_keeps_is_written_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "model_list: [{model_name: m, litellm_params: {model: openai/own, "
        "input_cost_per_token: 3.3333333333333335e-07, output_cost_per_token: 1.0e-6}}]",
    )
    load(path)
    assert rate(Price.objects.get(model="own")) == Decimal("0.333333333333")
    assert load(path).splitlines()[-1] == "nothing changed"
    assert Price.objects.filter(model="own").count() == 1


ALL_COSTS = """
model_list:
  - model_name: m
    litellm_params:
      model: openai/own
      input_cost_per_token: 1.0e-6
      output_cost_per_token: "2e-06"
      input_cost_per_token_above_128k_tokens: 3.0e-6
      input_cost_per_token_above_256k_tokens: 6.0e-6
      input_cost_per_token_flex: 5.0e-7
      output_cost_per_token_above_256k_tokens_priority: 2.0e-5
      output_cost_per_token_batches: 1.0e-6
      output_cost_per_image: 0.04
      output_cost_per_image_token: 4.0e-5
      input_cost_per_audio_token: 1.0e-5
      input_cost_per_second: 1.0e-4
      input_cost_per_character: 1.5e-5
      search_context_cost_per_query:
        {search_context_size_low: 0.01, search_context_size_medium: 0.02, search_context_size_high: 0.03}
      annotation_cost_per_page: 0.005
      cache_read_input_token_cost_ultrafast: 1.0e-6
      cache_read_input_token_cost_balanced: 1.0e-6
"""


def test_costs_of_every_tier_threshold_and_unit_move_over(tmp_path: Path) -> None:
    said = load(write(tmp_path, ALL_COSTS))
    price = Price.objects.get(model="own")
    assert price.price_list() == PriceList.of(
        {
            "standard": {
                "input": "1", "output": "2", "image": "0.04", "image_output": "40", "audio_input": "10",
                "input_second": "0.0001", "input_character": "15", "search": "0.02", "search:low": "0.01",
                "search:medium": "0.02", "search:high": "0.03", "page:annotated": "0.005",
            },
            "standard above 128000": {"input": "3"},
            "standard above 256000": {"input": "6"},
            "flex": {"input": "0.5"},
            "priority above 256000": {"output": "20"},
            "ultra": {"cached_input": "1"},
            "batch": {"output": "1"},
        }
    )  # fmt: skip
    # What no price here has room for is named, as every key that is not supported.
    assert (
        "  model_list[0].litellm_params.cache_read_input_token_cost_balanced, line 22: a price that is not carried"
    ) in said.splitlines()
    assert load(write(tmp_path, ALL_COSTS)).splitlines()[-1] == "nothing changed"
    before = snapshot()
    assert load(write(tmp_path, export())).splitlines()[-1] == "nothing changed"
    assert snapshot() == before


KINDS = """
model_list:
  - {model_name: old, litellm_params: {model: text-completion-openai/davinci-002}}
  - {model_name: painter, litellm_params: {model: openai/gpt-image-1-mini}}
  - {model_name: imagen, litellm_params: {model: gemini/imagen-3.0-generate-001}}
  - {model_name: own-painter, litellm_params: {model: openai/dall-e-3, output_cost_per_image: 0.04}, model_info: {mode: image_generation}}
  - {model_name: moderator, litellm_params: {model: openai/omni-moderation-latest}}
  - {model_name: ranker, litellm_params: {model: cohere/rerank-v3.5}}
  - {model_name: token-ranker, litellm_params: {model: voyage/rerank-2.5}}
"""  # noqa: E501


def test_models_of_every_kind_move_over_with_their_prices(tmp_path: Path) -> None:
    load(write(tmp_path, KINDS))
    assert {"old", "painter", "imagen", "own-painter", "moderator", "ranker", "token-ranker"} <= set(
        ModelAlias.objects.values_list("name", flat=True)
    )

    def usd(model: str, meter: Meter, qualifier: str = "") -> Decimal | None:
        return rate(Price.objects.get(model=model), meter, qualifier=qualifier)

    assert usd("davinci-002", Meter.INPUT) == usd("davinci-002", Meter.OUTPUT) == Decimal(2)
    assert (usd("gpt-image-1-mini", Meter.IMAGE_OUTPUT), usd("gpt-image-1-mini", Meter.INPUT)) == (
        Decimal(8),
        Decimal(2),
    )
    assert usd("gpt-image-1-mini", Meter.IMAGE, "low/1024x1024") == Decimal("0.005")
    assert usd("imagen-3.0-generate-001", Meter.IMAGE) == Decimal("0.04")
    assert usd("dall-e-3", Meter.IMAGE) == Decimal("0.04")
    assert usd("omni-moderation-latest", Meter.INPUT) == Decimal(0)
    assert usd("rerank-v3.5", Meter.SEARCH) == Decimal("0.002")
    assert usd("rerank-2.5", Meter.INPUT) == Decimal("0.05")
    changed = load(write(tmp_path, KINDS))
    assert changed.endswith("nothing changed\n")


def test_a_cost_of_searches_is_checked_size_by_size(tmp_path: Path) -> None:
    before = snapshot()
    with pytest.raises(CommandError, match=r"cost_per_query\.search_context_size_low, line 19: must be a number"):
        load(write(tmp_path, ALL_COSTS.replace("size_low: 0.01", "size_low: cheap")), "--strict")
    assert snapshot() == before


def test_a_rate_for_which_litellm_has_no_name_is_named_in_the_export() -> None:
    price = Price.objects.get(model="gpt-4o")
    price.rates.create(meter=Meter.IMAGE, qualifier="high/1024x1024", usd_per_unit=Decimal("0.17"))
    exported = export()
    assert "# This schema cannot say: the price of openai gpt-4o has a rate of image (high/1024x1024)\n" in exported
    assert "0.17" not in exported


def test_providers_that_differ_in_their_timeouts_alone_keep_apart_in_any_order(tmp_path: Path) -> None:
    slow = "{model_name: slow, litellm_params: {model: openai/gpt-4o, timeout: 300}}"
    quick = "{model_name: quick, litellm_params: {model: openai/gpt-4o}}"
    load(write(tmp_path, f"model_list: [{slow}, {quick}]"))
    before = snapshot()
    assert ModelAlias.objects.get(name="slow").provider.total_timeout_s == 300
    assert ModelAlias.objects.get(name="quick").provider.total_timeout_s == 600
    assert load(write(tmp_path, f"model_list: [{quick}, {slow}]")).splitlines()[-1] == "nothing changed"
    assert snapshot() == before


def test_a_budget_of_another_scope_that_has_the_name_is_not_overwritten(tmp_path: Path) -> None:
    Budget.objects.update(scope="alias", scope_value="gpt-4o")
    before = snapshot()
    with pytest.raises(CommandError, match="nothing could be taken over"):
        load(write(tmp_path, "litellm_settings: {max_budget: 5}"))
    assert snapshot() == before


def test_a_fallback_for_any_model_is_that_of_the_files_models(tmp_path: Path) -> None:
    load(write(tmp_path, """
model_list:
  - {model_name: a, litellm_params: {model: openai/gpt-4o}}
  - {model_name: b, litellm_params: {model: openai/gpt-4o-mini}}
litellm_settings: {fallbacks: [{"*": [b, gemini-flash]}, {a: [gemini-pro]}]}
"""))  # fmt: skip
    assert (chain("a"), chain("b")) == (["gemini-pro"], ["gemini-flash"])
    assert chain("claude-sonnet") == ["gpt-4o", "gemini-pro"]  # not in the file: left


def test_weights_share_an_aliass_requests_out(tmp_path: Path) -> None:
    path = write(tmp_path, """
model_list:
  - {model_name: shared, litellm_params: {model: openai/gpt-4o, weight: 0.9}}
  - {model_name: shared, litellm_params: {model: anthropic/claude-sonnet-4-6, weight: 0.1}}
  - {model_name: shared, litellm_params: {model: gemini/gemini-2.5-pro, weight: 0}}
""")  # fmt: skip
    said = load(path).splitlines()
    alias = ModelAlias.objects.get(name="shared")
    assert (alias.upstream_model, alias.weight) == ("gpt-4o", 9)
    assert list(alias.deployments.values_list("upstream_model", "weight")) == [
        ("claude-sonnet-4-6", 1), ("gemini-2.5-pro", None),
    ]  # fmt: skip
    assert "  shared: the weights 0.9, 0.1, 0 are taken as 9, 1, none" in said
    assert load(path).splitlines()[-1] == "nothing changed"
    in_export = [m for m in yaml.safe_load(export())["model_list"] if m["model_name"] == "shared"]
    assert [m["litellm_params"].get("weight") for m in in_export] == [9, 1, None]
    before = snapshot()
    assert load(write(tmp_path, export())).splitlines()[-1] == "nothing changed"
    assert snapshot() == before


def test_changed_weights_are_reported(tmp_path: Path) -> None:
    text = """
model_list:
  - {model_name: shared, litellm_params: {model: openai/gpt-4o, weight: 1}}
  - {model_name: shared, litellm_params: {model: anthropic/claude-sonnet-4-6, weight: 1}}
"""
    load(write(tmp_path, text))
    said = load(write(tmp_path, text.replace("weight: 1", "weight: 3", 1))).splitlines()
    assert "  alias shared: weight 1 → 3" in said
    said = load(write(tmp_path, text.replace("weight: 1", "weight: 3"))).splitlines()
    assert (
        "  alias shared: further deployments anthropic claude-sonnet-4-6 (weight 1) → "
        "anthropic claude-sonnet-4-6 (weight 3)"
    ) in said


def test_entries_that_differ_in_their_key_alone_are_deployments_in_order(tmp_path: Path) -> None:
    load(write(tmp_path, """
model_list:
  - {model_name: two-keys, litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY}}
  - {model_name: two-keys, litellm_params: {model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY_2}}
"""))  # fmt: skip
    alias = ModelAlias.objects.get(name="two-keys")
    (further,) = alias.deployments.all()
    assert (alias.provider.key_reference, further.provider.key_reference) == (
        "env:OPENAI_API_KEY", "env:OPENAI_API_KEY_2",
    )  # fmt: skip
    assert ProviderKey.objects.count() == 0


def a_soft_budget() -> None:
    Budget.objects.update(mode="soft")


def a_disabled_budget() -> None:
    Budget.objects.update(enabled=False)


def a_budget_of_every_last_digit() -> None:
    Budget.objects.update(limit_usd=Decimal("12345678.123456789012"), period="total")


def a_budget_of_nothing() -> None:
    Budget.objects.update(limit_usd=0)


def a_price_with_fewer_classes_than_litellm_s() -> None:
    Price.objects.get(model="gpt-4o").rates.filter(meter=Meter.CACHED_INPUT).delete()


def a_price_of_every_last_digit() -> None:
    set_rate(Price.objects.get(model="gpt-4o"), "12345678.123456789012")


def a_price_above_an_odd_threshold() -> None:
    price = Price.objects.get(model="gpt-4o")
    price.rates.create(meter=Meter.INPUT, tier=Tier.BATCH, above_input_tokens=199_999, usd_per_unit=9)


def a_provider_s_twin() -> None:
    twin = Provider.objects.create(
        name="a-second-openai", litellm_provider="openai", key_reference="env:OPENAI_API_KEY"
    )
    alias = ModelAlias.objects.create(name="twin", provider=twin, upstream_model="gpt-4o", position=9)
    twin.deployments.create(alias=alias, upstream_model="gpt-4o-mini")
    for model in ("gpt-4o", "gpt-4o-mini"):
        add_price(twin.name, model, input="1", output="2")


def a_key_in_a_file() -> None:
    Provider.objects.filter(name="google").update(key_reference="file:/run/secrets/google", connect_timeout_s=1.5)


def further_keys_and_weights() -> None:
    Provider.objects.get(name="openai").further_keys.create(key_reference="env:OPENAI_API_KEY_2")
    alias = ModelAlias.objects.get(name="gpt-4o")
    alias.weight = 3
    alias.save()
    alias.deployments.create(provider=Provider.objects.get(name="anthropic"), upstream_model="claude-sonnet-4-6",
                             weight=7)  # fmt: skip


def providers_that_differ() -> None:
    Provider.objects.filter(name="google").update(retries=4, breaker_cooldown_s=7.25, total_timeout_s=0.1)


@pytest.mark.parametrize(
    "change",
    [a_soft_budget, a_disabled_budget, a_budget_of_every_last_digit, a_budget_of_nothing,
     a_price_with_fewer_classes_than_litellm_s, a_price_of_every_last_digit, a_provider_s_twin, a_key_in_a_file,
     a_price_above_an_odd_threshold,
     further_keys_and_weights, providers_that_differ],
)  # fmt: skip
def test_an_odd_configuration_loads_back_without_a_change_too(change: Callable[[], None], tmp_path: Path) -> None:
    change()
    before, exported = snapshot(), export()
    assert load(write(tmp_path, exported)).splitlines()[-1] == "nothing changed"
    assert snapshot() == before


def test_an_export_names_what_the_schema_cannot_say() -> None:
    a_soft_budget()
    ModelAlias.objects.filter(name="gemini-flash").update(enabled=False)
    Provider.objects.get(name="openai").further_keys.create(key_reference="env:OPENAI_API_KEY_2")
    Price.objects.filter(model="gpt-4o").delete()
    assert [line for line in export().splitlines() if line.startswith("# This")] == [
        "# This schema cannot say: alias gemini-flash is disabled",
        "# This schema cannot say: provider openai has further keys",
        "# This schema cannot say: budget global is not a hard one that is enabled and above 0",
        "# This schema cannot say: openai/gpt-4o has no price here; loading takes litellm's, if it has one",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model_list: [", "the file: is not YAML"),
        ("- a\n- b", "the file: must be a mapping"),
        ("model_list: {}", "model_list, line 1: must be a list"),
        ("model_list: [{model_name: m}]", r"model_list\[0\].litellm_params \(m\), line 1: must be a mapping"),
        ("model_list: [{litellm_params: {model: openai/x}}]", r"model_list\[0\].model_name, line 1: must be text"),
        ("model_list: [{model_name: m, litellm_params: {model: nobody/x}}]", "no provider is known for 'nobody/x'"),
        ("model_list: [{model_name: '...', litellm_params: {model: openai/x}}]", "Use at least one letter or digit"),
        (
            "model_list: [{model_name: m, litellm_params: {model: openai/x, timeout: soon}}]",
            "timeout, line 1: must be a number",
        ),
        ("model_list: [{model_name: m, litellm_params: {model: hosted_vllm/x}}]", "needs an api_base"),
        (
            "model_list: [{model_name: m, litellm_params: {model: openai/x, api_base: os.environ/NOWHERE}}]",
            "NOWHERE is not set",
        ),
        (
            "model_list: [{model_name: m, litellm_params: {model: openai/x, input_cost_per_token: 100}}]",
            r"model_list\[0\].litellm_params.input_cost_per_token, line 1: must be a price a token, at most 99 USD",
        ),
        (
            "model_list: [{model_name: m, litellm_params: {model: openai/x}}, "
            f"{{model_name: m, litellm_params: {{model: openai/{'x' * 201}}}}}]",
            r"model_list\[1\].litellm_params.model \(m\), line 1: must have at most 200 characters",
        ),
        (
            r'model_list: [{model_name: m, litellm_params: {model: "openai/a\0b"}}]',
            r"model_list\[0\].litellm_params.model \(m\), line 1: must not have control characters",
        ),
        (
            r'model_list: [{model_name: m, litellm_params: {model: "openai/\ud800"}}]',
            "is not YAML at line 1, column 64",
        ),
        (
            "model_list: [{model_name: m, litellm_params: {model: openai/x, api_key: os.environ/a-b}}]",
            r"model_list\[0\].litellm_params.api_key \(m\), line 1: what follows os.environ/ is not the name",
        ),
        ("litellm_settings: {max_budget: lots}", "litellm_settings.max_budget, line 1: must be a number"),
        ("litellm_settings: {max_budget: 1, budget_duration: 3d}", "budget_duration, line 1: must be one of 1h, 1d"),
        ("litellm_settings: {fallbacks: [{claude-sonnet: [gone]}]}", "'gone' is in no model_list entry"),
        ("litellm_settings: {fallbacks: [{gpt-4o: [gpt-4o]}]}", "cannot fall back to itself"),
        ("router_settings: {num_retries: 1.5}", "router_settings.num_retries, line 1: must be a whole number"),
        ("general_settings: {master_key: 1234}", "general_settings.master_key, line 1: must be text"),
        ("litellm_settings: {fallbacks: [gpt-4o]}", r"litellm_settings.fallbacks\[0\], line 1: must be a mapping"),
        ("litellm_settings: {fallbacks: [{gpt-4o: gemini-pro}]}", r"fallbacks\[0\].gpt-4o, line 1: must be a list"),
        (
            "model_list: [{model_name: m, litellm_params: {model: openai/x, api_base: 'http://user:pass@host/v1'}}]",
            "without user, password",
        ),
    ],
)
def test_a_wrong_file_is_told_where_and_strictly_changes_nothing(tmp_path: Path, text: str, says: str) -> None:
    good = "model_list: [{model_name: good, litellm_params: {model: openai/gpt-4o}}]"
    before = snapshot()
    with pytest.raises(CommandError, match=says) as refused:
        load(write(tmp_path, text if "model_list" in text or text.startswith("-") else f"{text}\n{good}"), "--strict")
    assert str(refused.value).endswith("Nothing was changed.")
    assert snapshot() == before


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read: No such file or directory"):
        load(tmp_path / "gone.yaml")


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    before = snapshot()
    assert load(write(tmp_path, "")).splitlines()[-1] == "nothing changed"
    assert snapshot() == before


TWO_FOLD = """
model_list:
  - {model_name: dear, litellm_params: {model: openai/gpt-4o, input_cost_per_token: 2.5, output_cost_per_token: 10}}
  - {model_name: own, litellm_params: {model: openai/own, input_cost_per_token: 0.15, output_cost_per_token: 0.6}}
"""


def test_a_price_a_million_that_stands_as_a_price_a_token_is_asked_about(tmp_path: Path) -> None:
    Price.objects.all().delete()
    said = load(write(tmp_path, TWO_FOLD)).splitlines()
    place, asked = "  model_list[0].litellm_params.input_cost_per_token", "It is taken with --accept-prices alone"
    assert any(line.startswith(f"{place} (dear), line 3: 1,000,000 times litellm's price") for line in said)
    assert sum(line.endswith(asked) for line in said) == 4
    dear = Price.objects.get(provider="openai", model="gpt-4o")
    assert (dear.source, rate(dear), rate(dear, Meter.OUTPUT)) == ("litellm price map", Decimal("2.5"), Decimal(10))
    assert "  openai own" in said
    assert not Price.objects.filter(model="own").exists()
    load(write(tmp_path, TWO_FOLD), "--accept-prices")
    assert rate(Price.objects.get(model="own")) == 150_000


@pytest.mark.parametrize(
    "other",
    ["input_cost_per_second: 0.001", "input_cost_per_request: 0.01", "model_info_cost: 1, output_cost_per_image: 0.04"],
)
def test_tokens_for_nothing_beside_another_cost_are_unpriced_and_not_free(tmp_path: Path, other: str) -> None:
    free = "model: openai/own, input_cost_per_token: 0, output_cost_per_token: 0"
    said = load(write(tmp_path, f"model_list: [{{model_name: m, litellm_params: {{{free}, {other}}}}}]"))
    assert "  openai own" in said.splitlines()
    assert not Price.objects.filter(model="own").exists()
    load(write(tmp_path, f"model_list: [{{model_name: m, litellm_params: {{{free}}}}}]"))
    assert rate(Price.objects.get(model="own")) == 0


def test_models_of_sound_are_taken_with_their_prices(tmp_path: Path) -> None:
    text = """model_list:
- {model_name: hear, litellm_params: {model: whisper-1}, model_info: {mode: audio_transcription}}
- {model_name: hear-fast, litellm_params: {model: groq/whisper-large-v3-turbo}, model_info: {mode: audio_transcription}}
- {model_name: say, litellm_params: {model: openai/tts-1}, model_info: {mode: audio_speech}}
- {model_name: say-well, litellm_params: {model: openai/gpt-4o-mini-tts}}
- {model_name: own, litellm_params: {model: openai/our-voice, input_cost_per_character: 0.00002}}
"""
    said = load(write(tmp_path, text))
    assert "no endpoint" not in said
    assert "no price" not in said
    whisper, groq = Price.objects.get(model="whisper-1"), Price.objects.get(model="whisper-large-v3-turbo")
    assert rate(whisper, Meter.INPUT_SECOND) == Decimal("0.0001")
    assert rate(whisper, Meter.OUTPUT_SECOND) is None  # the map has both, and a second is billed once
    assert rate(groq, Meter.INPUT_SECOND) == Decimal("0.00001111")
    assert rate(Price.objects.get(model="tts-1"), Meter.INPUT_CHARACTER) == 15
    assert rate(Price.objects.get(model="gpt-4o-mini-tts"), Meter.AUDIO_OUTPUT) == 12
    assert rate(Price.objects.get(model="our-voice"), Meter.INPUT_CHARACTER) == 20


def test_nothing_that_could_be_taken_over_is_an_error_that_says_why(tmp_path: Path) -> None:
    before, out = snapshot(), StringIO()
    text = "model_list: [{model_name: m, litellm_params: {model: nobody/x}}]"
    with pytest.raises(CommandError, match=r"nothing could be taken over\. Nothing was changed"):
        call_command("load_config", str(write(tmp_path, text)), stdout=out)
    assert "  model_list[0].litellm_params.model (m), line 1: no provider is known for 'nobody/x'" in out.getvalue()
    assert snapshot() == before


def test_what_is_said_of_many_entries_is_said_once_with_their_number_and_names(tmp_path: Path) -> None:
    lines = ["model_list:"]
    lines += [f"  - {{model_name: a{n}, litellm_params: {{model: openai/gpt-4o, rpm: {n}}}}}" for n in range(30)]
    lines += [f"  - {{model_name: b{n}, litellm_params: {{model: nobody/x}}}}" for n in range(2)]
    said = load(write(tmp_path, "\n".join(lines))).splitlines()
    assert "  model_list[].litellm_params.rpm (30 times, first in line 2)" in said
    assert (
        "  model_list[].litellm_params.model (2 times: b0 in line 32, b1 in line 33): "
        "no provider is known for 'nobody/x'; write provider/model"
    ) in said


def test_a_wildcard_of_all_providers_is_one_for_each_whose_key_is_here(tmp_path: Path) -> None:
    load(write(tmp_path, 'model_list: [{model_name: "*", litellm_params: {model: "*"}}]'))
    made = set(ModelAlias.objects.filter(name__contains="*").values_list("name", "provider__litellm_provider"))
    assert {
        ("openai/*", "openai"),
        ("anthropic/*", "anthropic"),
        ("gpt-*", "openai"),
        ("claude-*", "anthropic"),
    } <= made
    assert not any(provider == "groq" for _, provider in made)
    assert ModelAlias.objects.get(name="gpt-*").upstream_model == "gpt-*"


@pytest.mark.parametrize(
    "setting",
    ["max_budget: 1, budget_duration: [1d]", "num_retries: 1e9999999", "num_retries: {a: 1}", "request_timeout: [1]",
     "max_budget: 1e-9999999", "allowed_fails: .nan", "fallbacks: [[a]]", "max_budget: {}", "cooldown_time: 2026-01-01",
     "fallbacks: {m: {m: m}}", "default_fallbacks: m", "budget_duration: 3"],
)  # fmt: skip
def test_an_odd_setting_is_left_out_in_a_line_and_the_models_are_taken(tmp_path: Path, setting: str) -> None:
    text = f"model_list: [{{model_name: m, litellm_params: {{model: openai/gpt-4o}}}}]\nlitellm_settings: {{{setting}}}"
    said = load(write(tmp_path, text))
    assert "  alias m (openai gpt-4o)" in said.splitlines()
    assert "left out:\n  litellm_settings." in said or "not supported:\n  litellm_settings." in said
    assert Budget.objects.get().limit_usd == 10
