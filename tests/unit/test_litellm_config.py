"""Reads LiteLLM files of every shape that real files have into plain values, without the database."""

from __future__ import annotations

from decimal import Decimal

import pytest

from routing.litellm_config.entries import ModelEntry
from routing.litellm_config.reading import Config, read
from routing.litellm_config.remarks import said_once
from routing.litellm_config.values import InvalidConfig
from routing.litellm_config.weights import whole_weights
from routing.models import ChainKind

ALL_SET = {"OPENAI_API_KEY": "sk-o", "ANTHROPIC_API_KEY": "sk-a", "MINE": "sk-m", "BASE": "http://base:1/v1"}


def config(text: str, **environment: str) -> Config:
    return read(text, {**ALL_SET, **environment})


def entry(params: str, info: str = "{}") -> ModelEntry:
    (only,) = config(f"model_list: [{{model_name: m, litellm_params: {{{params}}}, model_info: {info}}}]").models
    return only


def chains(found: Config) -> dict[tuple[str, ChainKind], tuple[str, ...]]:
    return {place: chain.targets for place, chain in found.chains.items()}


def not_served(params: str, info: str = "{}") -> str:
    text = f"model_list: [{{model_name: m, litellm_params: {{{params}}}, model_info: {info}}}]"
    found = config(text)
    assert found.models == ()
    assert found.left_out == ()
    (named,) = said_once(found.unsupported)
    return named


def test_a_model_is_its_provider_and_its_name_there() -> None:
    found = entry("model: groq/meta-llama/llama-4, api_key: os.environ/MINE")
    assert (found.litellm_provider, found.model, found.key_reference) == ("groq", "meta-llama/llama-4", "env:MINE")


@pytest.mark.parametrize(
    ("params", "provider", "model"),
    [
        ("model: gpt-4o", "openai", "gpt-4o"),
        ("model: claude-sonnet-4-6", "anthropic", "claude-sonnet-4-6"),
        ("model: gemini-2.5-pro", "gemini", "gemini-2.5-pro"),
        ("model: o3-mini", "openai", "o3-mini"),
        ("model: my/own, custom_llm_provider: hosted_vllm, api_base: 'http://h:1'", "hosted_vllm", "my/own"),
        ("model: groq/x, custom_llm_provider: groq", "groq", "x"),
        ("model: text-completion-openai/gpt-3.5-turbo-instruct", "openai", "gpt-3.5-turbo-instruct"),
        ("model: dall-e-3", "openai", "dall-e-3"),
        ("model: davinci-002", "openai", "davinci-002"),
        ("model: os.environ/BASE, custom_llm_provider: openai", "openai", "http://base:1/v1"),
    ],
)
def test_a_provider_is_read_from_the_name_or_beside_it(params: str, provider: str, model: str) -> None:
    found = entry(params)
    assert (found.litellm_provider, found.model) == (provider, model)


@pytest.mark.parametrize(
    ("params", "info"),
    [
        ("model: openai/whisper-1", "{}"),
        ("model: whisper-1", "{mode: audio_transcription}"),
        ("model: groq/whisper-large-v3", "{mode: audio_transcription}"),
        ("model: tts-1-hd", "{mode: audio_speech}"),
        ("model: azure/speech-of-ours", "{mode: audio_speech}"),
    ],
)
def test_models_of_sound_are_read(params: str, info: str) -> None:
    assert entry(params, info).alias == "m"


@pytest.mark.parametrize(
    ("params", "info", "says"),
    [
        ("model: openai/whatever", "{mode: video_generation}", "there is no endpoint for video_generation"),
        ("model: azure/", "{}", "no model is named after azure/"),
    ],
)
def test_what_cannot_be_served_is_named_and_the_rest_is_read(params: str, info: str, says: str) -> None:
    assert not_served(params, info) == f"model_list[0] (m), line 1: {says}"


@pytest.mark.parametrize(
    ("params", "reference"),
    [
        ("model: openai/x", "env:OPENAI_API_KEY"),
        ("model: openai/x, api_key: os.environ/MINE", "env:MINE"),
        ("model: openai/x, api_key: 'file:/run/secrets/openai'", "file:/run/secrets/openai"),
        ("model: openai/x, api_key: none", ""),
        ("model: together_ai/x", "env:TOGETHERAI_API_KEY"),
        ("model: nano-gpt/x", "env:NANOGPT_API_KEY"),
        ("model: fireworks_ai/x", "env:FIREWORKS_AI_API_KEY"),
        ("model: bedrock/anthropic.claude-3-5-sonnet-20240620-v1:0", ""),  # the cloud's own credentials
        ("model: ollama/llama3", ""),
        ("model: openai/x, api_key: EMPTY, api_base: 'http://vllm:8000/v1'", ""),
    ],
)
def test_a_key_is_a_reference(params: str, reference: str) -> None:
    assert entry(params).key_reference == reference


def test_a_key_in_clear_of_a_server_of_its_own_never_becomes_the_providers_key() -> None:
    """Otherwise OPENAI_API_KEY would be sent to the operator of that server."""
    found = config("""
model_list:
  - {model_name: a, litellm_params: {model: openai/x, api_key: sk-first, api_base: "https://llm.example.com/v1"}}
  - {model_name: b, litellm_params: {model: openai/y, api_key: sk-first, api_base: "https://llm.example.com/v1"}}
  - {model_name: c, litellm_params: {model: openai/x, api_key: sk-second, api_base: "https://llm.example.com/v1"}}
  - {model_name: d, litellm_params: {model: openai/x, api_key: sk-third, api_base: "http://10.0.0.7:8000/v1"}}
  - {model_name: e, litellm_params: {model: openai/x, api_key: sk-fourth}}
  - {model_name: f, litellm_params: {model: openai/x, api_key: sk-fifth}}
""")
    assert [model.key_reference for model in found.models] == [
        "env:LLM_EXAMPLE_COM_API_KEY",
        "env:LLM_EXAMPLE_COM_API_KEY",
        "env:LLM_EXAMPLE_COM_API_KEY_2",
        "env:HOST_10_0_0_7_API_KEY",
        "env:OPENAI_API_KEY",
        "env:OPENAI_API_KEY_2",
    ]
    assert said_once(found.notes)[:2] == [
        "model_list[].litellm_params.api_key (2 times, first in line 3): a key in clear, which is not stored: put it "
        "into the environment variable LLM_EXAMPLE_COM_API_KEY, or write os.environ/NAME or file:/path",
        "LLM_EXAMPLE_COM_API_KEY: is not set in this environment; the provider has no key until it is",
    ]
    assert not any(f"sk-{which}" in repr(found) for which in ("first", "second", "third", "fourth", "fifth"))


def test_an_address_may_come_from_the_environment() -> None:
    assert entry("model: openai/x, api_base: os.environ/BASE").base_url == "http://base:1/v1"


def test_a_broken_file_is_told_its_line_and_not_what_stands_in_it() -> None:
    with pytest.raises(InvalidConfig) as refused:
        config("model_list:\n  - {api_key: sk-secret, model: x\n   b: ]")
    assert str(refused.value) == "the file: is not YAML at line 3, column 5"


@pytest.mark.parametrize("text", ["a: \x00", "a: 2026-13-45", "[" * 5000])
def test_a_file_that_yaml_cannot_read_is_one_clear_error(text: str) -> None:
    with pytest.raises(InvalidConfig, match="the file: is not YAML"):
        config(text)


def test_costs_are_taken_in_every_way_that_yaml_writes_them() -> None:
    found = entry("model: openai/x, input_cost_per_token: 3e-6, output_cost_per_token: 0.000015",
                  "{cache_read_input_token_cost: 3.0e-07, input_cost_per_token: 9}")  # fmt: skip
    assert {name: Decimal(str(cost)) for name, cost in found.costs.items()} == {
        "cache_read_input_token_cost": Decimal("0.0000003"),
        "input_cost_per_token": Decimal("0.000003"),  # litellm_params win over model_info
        "output_cost_per_token": Decimal("0.000015"),
    }


def test_what_is_out_of_bounds_is_brought_into_them_and_said() -> None:
    found = config(
        "model_list: [{model_name: m, litellm_params: {model: openai/x, stream_timeout: 0.001}}]\n"
        "litellm_settings: {request_timeout: 6000, num_retries: 12, cooldown_time: 0.01}"
    )
    (model,) = found.models
    assert (model.total_timeout_s, model.first_token_timeout_s) == (3600, 0.1)
    assert (found.retries, found.breaker_cooldown_s) == (10, 0.1)
    assert said_once(found.notes) == [
        "litellm_settings.request_timeout, line 2: may be 0.1 to 3600 here: taken as 3600",
        "model_list[0].litellm_params.stream_timeout, line 1: may be 0.1 to 3600 here: taken as 0.1",
        "litellm_settings.num_retries, line 2: may be 0 to 10 here: taken as 10",
        "litellm_settings.cooldown_time, line 2: may be 0.1 to 3600 here: taken as 0.1",
    ]


def test_a_time_of_0_is_none_to_litellm_and_ends_no_request_here() -> None:
    found = config(
        "model_list: [{model_name: m, litellm_params: {model: openai/x, timeout: 0, stream_timeout: 0}}]\n"
        "router_settings: {timeout: 0, cooldown_time: 0}\n"
        "litellm_settings: {request_timeout: 90}"
    )
    (model,) = found.models
    assert (model.total_timeout_s, model.first_token_timeout_s, found.breaker_cooldown_s) == (90, None, None)
    assert said_once(found.notes) == [
        f"{place}: 0 means its default to LiteLLM: nothing was changed"
        for place in (
            "router_settings.timeout, line 2",
            "model_list[0].litellm_params.timeout, line 1",
            "model_list[0].litellm_params.stream_timeout, line 1",
            "router_settings.cooldown_time, line 2",
        )
    ]


def test_what_a_file_says_twice_is_named_because_yaml_loses_the_first() -> None:
    found = config("""
model_list:
  - {model_name: lost, litellm_params: {model: openai/x}}
litellm_settings: {num_retries: 1}
model_list:
  - model_name: m
    litellm_params:
      model: openai/x
      model: openai/y
""")
    assert [(model.alias, model.model) for model in found.models] == [("m", "y")]
    assert said_once(found.left_out) == [
        "model_list, line 2: is there again in line 5: YAML takes the last, and this is lost",
        "model, line 8: is there again in line 9: YAML takes the last, and this is lost",
    ]


def test_a_merge_whose_values_are_there_again_says_nothing_twice() -> None:
    found = config("""
model_list:
  - {model_name: a, litellm_params: &base {model: openai/x, timeout: 10}}
  - {model_name: b, litellm_params: &both {<<: *base, model: openai/y}}
  - {model_name: c, litellm_params: {<<: [*both, *base], timeout: 20}}
""")
    assert [(model.model, model.total_timeout_s) for model in found.models] == [("x", 10), ("y", 10), ("y", 20)]
    assert found.left_out == ()


def test_a_yaml_tag_that_nobody_knows_costs_its_entry_alone() -> None:
    found = config("""
model_list:
  - {model_name: a, litellm_params: {model: openai/x, api_key: !secret openai}}
  - {model_name: b, litellm_params: {model: openai/y, timeout: !!python/tuple [1]}}
""")
    assert [model.alias for model in found.models] == ["b"]
    assert said_once(found.left_out) == [
        "model_list[0].litellm_params.api_key (a), line 3: "
        "nobody here knows the YAML tag !secret; write os.environ/NAME",
        "model_list[1].litellm_params.timeout, line 4: "
        "nobody here knows the YAML tag !!python/tuple; write os.environ/NAME",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model_list: []\n---\nmodel_list: []", "has a second document (---) at line 2, column 1: LiteLLM reads one"),
        ("model_list: [{model_name: *}]", "column 28: a value that begins with * needs quotes"),
        ("model_list: [{model_name: *mini}]", "column 27: a value that begins with * needs quotes"),
        ("model_list:\n\t- {}", "is not YAML at line 2, column 1: YAML is indented by spaces, not by tabs"),
        ("data: {config.yaml: 'model_list: []'}", "has none of LiteLLM's sections at its top (model_list, "),
        ("proxy_config: {model_list: []}", "has none of LiteLLM's sections at its top (model_list, "),
    ],
)
def test_a_file_that_cannot_be_read_is_told_what_people_mostly_get_wrong(text: str, says: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        config(text)
    assert says in str(refused.value)


@pytest.mark.parametrize("key", ["${OPENAI_API_KEY}", "$OPENAI_API_KEY"])
def test_a_variable_that_no_shell_filled_in_is_the_variable(key: str) -> None:
    text = f"model_list: [{{model_name: m, litellm_params: {{model: openai/x, api_key: '{key}'}}}}]"
    found = config(text)
    assert [model.key_reference for model in found.models] == ["env:OPENAI_API_KEY"]
    assert said_once(found.notes) == [
        f"model_list[0].litellm_params.api_key, line 1: {key} is taken as os.environ/OPENAI_API_KEY",
    ]


TAGGED = """
model_list:
  - {model_name: gpt, litellm_params: {model: openai/dear, tags: [paid]}}
  - {model_name: gpt, litellm_params: {model: openai/cheap, tags: [free, default]}}
  - {model_name: gpt, litellm_params: {model: openai/other}}
  - {model_name: all, litellm_params: {model: openai/a, tags: [paid]}}
  - {model_name: all, litellm_params: {model: openai/b, tags: [free]}}
"""


def test_where_tags_choose_an_alias_keeps_who_answers_a_request_without_tags() -> None:
    found = config(f"{TAGGED}\nrouter_settings: {{enable_tag_filtering: true}}")
    assert [(model.alias, model.model) for model in found.models] == [("gpt", "cheap"), ("all", "a"), ("all", "b")]
    assert said_once(found.left_out) == [
        "model_list[0] (gpt), line 3: only for requests with the tags paid: deployments are not chosen by tags here",
        "model_list[2] (gpt), line 5: not tagged default, as others of its name are: "
        "deployments are not chosen by tags here",
    ]
    assert "router_settings.enable_tag_filtering, line 9: deployments are not chosen by tags here" in said_once(
        found.unsupported
    )


def test_where_tags_only_count_every_deployment_is_taken() -> None:
    for setting in ("", "router_settings: {enable_tag_filtering: false}"):
        found = config(TAGGED + setting)
        assert len(found.models) == 5
        assert found.left_out == ()


def test_a_deployment_that_litellm_keeps_blocked_is_left_out() -> None:
    found = config(
        "model_list:\n"
        "  - {model_name: gpt, litellm_params: {model: openai/paused}, model_info: {blocked: true}}\n"
        "  - {model_name: gpt, litellm_params: {model: openai/b}, model_info: {blocked: false}}\n"
    )
    assert [model.model for model in found.models] == ["b"]
    assert said_once(found.unsupported) == [
        "model_list[0] (gpt), line 2: it is blocked, so LiteLLM sends nobody there",
        "model_list[1].model_info.blocked, line 3",
    ]


def test_the_cap_of_newer_models_is_the_alias_s_too() -> None:
    assert entry("model: openai/x, max_completion_tokens: 300").output_cap_tokens == 300
    assert entry("model: openai/x, max_tokens: 200, max_completion_tokens: 300").output_cap_tokens == 200


def test_the_profile_that_aws_asks_in_the_models_place_goes_along() -> None:
    arn = "arn:aws:bedrock:eu-central-1:1:application-inference-profile/a"
    found = entry(f"model: bedrock/anthropic.claude, model_id: '{arn}'")
    assert found.parameters == {"model_id": arn}
    assert entry("model: openai/x, model_id: mine").parameters == {}


def test_the_routers_settings_win() -> None:
    found = config(
        "litellm_settings: {num_retries: 2, allowed_fails: 3, fallbacks: [{a: [b]}]}\n"
        "router_settings: {num_retries: 0, timeout: 30, fallbacks: [{a: [c]}]}"
    )
    assert (found.retries, found.breaker_failures) == (0, 4)
    assert chains(found) == {("a", ChainKind.GENERAL): ("c",)}


def test_an_entrys_timeouts_win_over_the_files() -> None:
    first, second = config(
        "model_list:\n"
        "  - {model_name: a, litellm_params: {model: openai/x, timeout: 5, stream_timeout: 2}}\n"
        "  - {model_name: b, litellm_params: {model: openai/x}}\n"
        "router_settings: {timeout: 30, stream_timeout: 20}"
    ).models
    assert (first.total_timeout_s, first.first_token_timeout_s) == (5, 2)
    assert (second.total_timeout_s, second.first_token_timeout_s) == (30, 20)


MODELS = """
model_list:
  - {model_name: a, litellm_params: {model: openai/gpt-4o}}
  - {model_name: b, litellm_params: {model: openai/gpt-4o}}
  - {model_name: picture, litellm_params: {model: openai/sora-2}, model_info: {mode: video_generation}}
"""


def test_fallbacks_of_any_model_are_those_of_every_model_without_its_own() -> None:
    found = config(MODELS + 'litellm_settings: {fallbacks: [{"*": [b]}, {b: [a]}], '
                   'context_window_fallbacks: [{"*": [b]}]}')  # fmt: skip
    assert chains(found) == {
        ("a", ChainKind.GENERAL): ("b",),
        ("b", ChainKind.GENERAL): ("a",),
        ("a", ChainKind.CONTEXT_WINDOW): ("b",),
    }


def test_default_fallbacks_leave_a_model_that_would_fall_back_to_itself_alone() -> None:
    assert chains(config(MODELS + "litellm_settings: {default_fallbacks: [b]}")) == {("a", ChainKind.GENERAL): ("b",)}


def test_of_two_chains_of_one_model_the_first_is_taken_as_litellm_does() -> None:
    assert chains(config("litellm_settings: {fallbacks: [{a: [b]}, {a: [c]}]}")) == {("a", ChainKind.GENERAL): ("b",)}


def test_a_chain_is_taken_over_without_the_models_that_are_not() -> None:
    found = config(MODELS + "litellm_settings: {fallbacks: [{a: [picture, b]}, {picture: [a]}, {b: [picture]}]}")
    assert chains(found) == {("a", ChainKind.GENERAL): ("b",)}
    assert said_once(found.unsupported) == [
        "model_list[2] (picture), line 5: there is no endpoint for video_generation",
        "litellm_settings.fallbacks[0].a, line 6: picture (the model itself is not taken over)",
        "litellm_settings.fallbacks[1].picture, line 6: the model itself is not taken over",
        "litellm_settings.fallbacks[2].b, line 6: picture (the model itself is not taken over)",
    ]


@pytest.mark.parametrize(
    ("settings", "budget"),
    [
        ("max_budget: 10, budget_duration: 1d", (Decimal(10), "day")),
        ("max_budget: 0.1, budget_duration: 7d", (Decimal("0.1"), "week")),
        ("max_budget: 10, budget_duration: 30d", (Decimal(10), "month")),
        ("max_budget: 10, budget_duration: 1mo", (Decimal(10), "month")),
        ("max_budget: 10, budget_duration: 60m", (Decimal(10), "hour")),
        ("max_budget: 10, budget_duration: 86400s", (Decimal(10), "day")),
        ("max_budget: 10, budget_duration: 168h", (Decimal(10), "week")),
        ("max_budget: 10, budget_duration: 2d", None),
        ("max_budget: 10, budget_duration: 30", None),
        ("max_budget: '12345678.123456789012'", (Decimal("12345678.123456789012"), "total")),
        ("max_budget: 0", None),
    ],
)
def test_a_budget_is_exact_and_of_a_calendar_period(settings: str, budget: tuple[Decimal, str] | None) -> None:
    found = config(f"litellm_settings: {{{settings}}}").budget
    assert (found and (found.limit_usd, found.period)) == budget


def test_a_budget_of_0_is_no_budget_to_litellm_and_said_so() -> None:
    assert said_once(config("litellm_settings: {max_budget: 0}").notes) == [
        "litellm_settings.max_budget, line 1: 0 means no budget to LiteLLM: no budget was changed",
    ]


def test_a_master_key_may_come_from_the_environment_and_is_missed_when_it_does_not() -> None:
    assert config("general_settings: {master_key: os.environ/MINE}").master_key == "sk-m"
    missing = config("general_settings: {master_key: os.environ/GONE}")
    assert missing.master_key is None
    assert said_once(missing.notes) == [
        "general_settings.master_key, line 1: GONE is not set in this environment; no key was made"
    ]


def test_every_unknown_key_is_named_by_its_place() -> None:
    found = config("""
model_list:
  - model_name: m
    litellm_params: {model: openai/x, rpm: 3, drop_params: true}
    model_info: {id: "1", mode: chat}
    tags: []
litellm_settings: {success_callback: [langfuse]}
router_settings: {redis_password: hunter2}
own_section: {A: b}
files_settings: []
""")
    assert said_once(found.unsupported) == [
        "own_section, line 9",
        "files_settings, line 10",
        "litellm_settings.success_callback, line 7",
        "router_settings.redis_password, line 8",
        "model_list[0].tags, line 6",
        "model_list[0].litellm_params.rpm, line 4",
        "model_list[0].litellm_params.drop_params, line 4",
        "model_list[0].model_info.id, line 5",
    ]


@pytest.mark.parametrize("weight", ["-1", "many", "nan", "true", "0.0000001", "1000001", "1e400"])
def test_a_weight_is_a_number_within_reason(weight: str) -> None:
    found = config(f"model_list: [{{model_name: m, litellm_params: {{model: gpt-4o, weight: {weight}}}}}]")
    (wrong,) = found.left_out
    assert wrong.place == "model_list[0].litellm_params.weight"
    assert wrong.why.startswith("must be")
    assert found.models[0].weight is None


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ([None, None], [None, None]),
        (["1", "2"], [1, 2]),
        (["10", "20"], [10, 20]),
        (["0.9", "0.1"], [9, 1]),
        (["0.25", "1", "0.50"], [25, 100, 50]),
        (["1000000", "1"], [1_000_000, 1]),
        (["0.333333333", "0.666666666"], [500_000, 1_000_000]),
        (["1000000", "0.000001"], [1_000_000, 1]),
        (["1", "0"], [1, None]),
        (["1", None], [1, None]),
        (["0", "0"], [None, None]),
    ],
)
def test_weights_are_whole_numbers_of_the_same_proportions(said: list[str | None], taken: list[int | None]) -> None:
    assert whole_weights([None if weight is None else Decimal(weight) for weight in said]) == taken
    again = [None if weight is None else Decimal(weight) for weight in taken]
    assert whole_weights(again) == taken, "an export loads back without a change"
