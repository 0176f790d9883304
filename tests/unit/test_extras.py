"""What of a request costs more than its tokens is counted, or named."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from accounting.usage import Meter, Usage
from routing.upstreams.base import Deployment, Timeouts
from routing.upstreams.extras import NOTHING, Extras, asked_search, extras, suspects, with_fees
from routing.upstreams.providers import COMMON_PARAMETERS, PROVIDERS

FUNCTION = {"name": "f", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}


def deployment(provider: str, model: str = "some-model") -> Deployment:
    return Deployment(provider, provider, model, "http://x/v1", Timeouts())


def judged(body: dict[str, Any], provider: str = "openai", model: str = "gpt-4o") -> Extras:
    return extras(body, suspects(body), deployment(provider, model))


def named(body: dict[str, Any], provider: str = "openai", model: str = "gpt-4o") -> str | None:
    unbounded = judged(body, provider, model).unbounded
    return None if unbounded is None else unbounded.param


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_what_openai_documents_costs_nothing_more_anywhere(provider: str) -> None:
    body = dict.fromkeys(COMMON_PARAMETERS, 1) | {
        "model": "m", "messages": [], "stream": True, "stream_options": {}, "max_tokens": 1, "tools": [TOOL],
        "tool_choice": "auto", "functions": [FUNCTION], "response_format": {"type": "json_object"}, "metadata": {},
        "modalities": ["text"], "prediction": {}, "service_tier": "auto", "store": True, "verbosity": "low",
        "safety_identifier": "u", "prompt_cache_key": "k",
    }  # fmt: skip
    assert judged(body, provider) == NOTHING


@pytest.mark.parametrize("provider", ["hosted_vllm", "ollama", "openai_like", "openrouter", "anthropic", "gemini"])
def test_what_other_servers_sample_with_costs_nothing_more(provider: str) -> None:
    names = (
        "top_k min_p repetition_penalty guided_json chat_template_kwargs stop_token_ids ignore_eos thinking "
        "structured_outputs mirostat keep_alive repeat_penalty grammar safe_prompt enable_thinking reasoning"
    )
    body: dict[str, Any] = {**dict.fromkeys(names.split(), 1), "options": {"num_ctx": 8192}}
    assert judged(body, provider) == NOTHING


@pytest.mark.parametrize(
    ("provider", "body", "param"),
    [
        ("openrouter", {"models": ["dear/model"]}, "models"),
        ("openrouter", {"plugins": [{"id": "web"}]}, "plugins"),
        ("openrouter", {"provider": {"order": ["dear"]}}, "provider"),
        ("xai", {"search_parameters": {"mode": "on"}}, "search_parameters"),
        ("custom_openai", {"n_predict": 100_000}, "n_predict"),
        ("hosted_vllm", {"best_of": 20}, "best_of"),
        ("hosted_vllm", {"chat_template": "{% for i in range(9999999) %}x{% endfor %}"}, "chat_template"),
        ("ollama", {"options": {"num_predict": -1}}, "options"),
        ("litellm_proxy", {"fallbacks": ["dear"]}, "fallbacks"),
        ("openai", {"a_parameter_of_tomorrow": True}, "a_parameter_of_tomorrow"),
        ("openai", {"modalities": ["text", "video"]}, "modalities"),
        ("openai", {"web_search_options": {}}, "web_search_options"),
        ("gemini", {"cached_content": "cachedContents/1"}, "cached_content"),
        ("anthropic", {"mcp_servers": [{"type": "url"}]}, "mcp_servers"),
        ("anthropic", {"container": {"skills": []}}, "container"),
        ("anthropic", {"speed": "warp"}, "speed"),
        ("anthropic", {"context_management": {"edits": [{"type": "compact_20260112"}]}}, "context_management"),
        ("anthropic", {"web_search_options": {"search_context_size": "huge"}}, "web_search_options"),
    ],
)
def test_what_changes_the_price_is_named(provider: str, body: dict[str, Any], param: str) -> None:
    assert named(body, provider) == param


@pytest.mark.parametrize(
    ("provider", "body"),
    [
        ("gemini", {"mcp_servers": [1], "speed": "fast", "n_predict": 5}),  # nothing of it is sent to Google
        ("anthropic", {"cached_content": "x", "search_parameters": {}, "inference_geo": "us"}),
        ("deepseek", {"models": ["x"], "plugins": [1], "search_parameters": {}}),
        ("anthropic", {"speed": "standard", "context_management": {"edits": [{"type": "clear_thinking_20251015"}]}}),
        ("openai", {"search_parameters": None}),
    ],
)
def test_what_is_not_sent_costs_nothing(provider: str, body: dict[str, Any]) -> None:
    assert judged(body, provider) == NOTHING


@pytest.mark.parametrize(
    "tool",
    [
        {"googleSearch": {}}, {"google_search": {}}, {"googleSearchRetrieval": {}}, {"enterpriseWebSearch": {}},
        {"codeExecution": {}}, {"code_execution": {}}, {"urlContext": {}}, {"url_context": {}}, {"googleMaps": {}},
        {"computerUse": {}}, {"type": "web_search"}, {"type": "web_search_20250305", "name": "web_search"},
        {"type": "code_interpreter"}, {"type": "mcp", "server_url": "https://x"}, {"type": "namespace", "tools": []},
        {"type": "function", "googleSearch": {}}, {**TOOL, "googleSearch": {}}, {"function": {"googleSearch": {}}},
        {"type": "function", "function": {**FUNCTION, "googleSearch": {}}}, {"type": "function"}, "googleSearch",
        {"type": ["function"]},
    ],
)  # fmt: skip
@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini", "hosted_vllm"])
def test_a_tool_that_the_provider_runs_is_named(provider: str, tool: Any) -> None:
    assert named({"tools": [TOOL, tool]}, provider) == "tools[1]"


def test_a_paid_tool_among_the_old_functions_is_named() -> None:
    assert named({"functions": [FUNCTION, {"googleSearch": {}}]}, "gemini") == "functions[1]"


@pytest.mark.parametrize(
    "tool",
    [
        TOOL,
        {"function": FUNCTION},
        {"name": "f", "description": "d", "input_schema": {}},
        {"type": "custom", "custom": {"name": "f", "format": {"type": "text"}}},
        {"type": "function", "name": "f", "parameters": {}, "strict": True},
        {**TOOL, "cache_control": {"type": "ephemeral"}},
    ],
)
def test_a_tool_that_the_client_runs_costs_its_text_alone(tool: dict[str, Any]) -> None:
    assert judged({"tools": [tool]}) == NOTHING


@pytest.mark.parametrize(
    ("modalities", "meter"), [(["text", "audio"], Meter.AUDIO_OUTPUT), (["TEXT", "IMAGE"], Meter.IMAGE_OUTPUT)]
)
def test_sound_and_pictures_made_need_a_price_of_their_own(modalities: list[str], meter: Meter) -> None:
    assert judged({"modalities": modalities}).needs == {"modalities": meter}


@pytest.mark.parametrize(
    ("provider", "model", "body", "searches", "readings", "tokens"),
    [
        ("openai", "gpt-4o-search-preview", {}, 1, 1, 0),
        ("perplexity", "sonar-pro", {}, 1, 1, 0),
        ("gemini", "gemini-2.5-pro", {"web_search_options": {}}, 1, 1, 0),
        ("anthropic", "claude-sonnet-4-6", {"web_search_options": {}}, 5, 6, 375_000),
        ("anthropic", "claude-sonnet-4-6", {"web_search_options": {"search_context_size": "low"}}, 1, 2, 25_000),
    ],
)
def test_a_search_is_its_fee_times_a_cap(  # noqa: PLR0917  a table
    provider: str, model: str, body: dict[str, Any], searches: int, readings: int, tokens: int
) -> None:
    found = judged(body, provider, model)
    assert found.unbounded is None
    assert found.units == {"search": Decimal(searches)}
    assert (found.readings, found.further_input_tokens) == (readings, tokens)


def test_a_model_that_searches_without_bound_is_named() -> None:
    assert named({"web_search_options": {}}, "gemini", "gemini-3-pro-preview") == "web_search_options"


def test_what_openais_newer_search_model_reads_is_not_bounded() -> None:
    found = judged({}, "openai", "gpt-5-search-api")
    assert found.units == {"search": Decimal(1)}
    assert found.needs == {"model": Meter.SEARCH}
    assert named({}, "openai", "gpt-5-search-api") == "model"


def test_a_deep_research_is_bounded_by_more_than_has_been_seen_of_it() -> None:
    found = judged({}, "perplexity", "sonar-deep-research")
    assert found.unbounded is None
    assert found.units == {"search": Decimal(200)}
    assert (found.readings, found.further_input_tokens, found.further_output_tokens) == (1, 250_000, 500_000)
    assert found.needs == {"model": Meter.SEARCH}


def test_the_cap_on_searches_is_sent_where_the_provider_has_one() -> None:
    assert asked_search({}, deployment("anthropic")) == {"search_context_size": "medium"}
    assert asked_search({"search_context_size": "low"}, deployment("anthropic")) == {"search_context_size": "low"}
    assert asked_search({}, deployment("openai")) == {}


@pytest.mark.parametrize(
    ("provider", "model", "counted", "billed"),
    [
        ("openai", "gpt-4o-search-preview", {}, {"search": Decimal(1)}),
        ("openai", "gpt-5-search-api", {}, {"search": Decimal(1)}),
        ("perplexity", "sonar-pro", {"search:low": Decimal(1)}, {"search:low": Decimal(1)}),
        ("perplexity", "sonar-pro", {"search": Decimal(3)}, {"search": Decimal(1)}),
        ("perplexity", "sonar-deep-research", {"search": Decimal(30)}, {"search": Decimal(30)}),
        ("gemini", "gemini-2.5-pro", {"search": Decimal(4)}, {"search": Decimal(1)}),
        ("gemini", "gemini-3-pro-preview", {"search": Decimal(4)}, {"search": Decimal(4)}),
        ("anthropic", "claude-sonnet-4-6", {"search": Decimal(3)}, {"search": Decimal(3)}),
        ("openai", "gpt-4o", {}, {}),
    ],
)
def test_searches_are_billed_as_the_provider_bills_them(
    provider: str, model: str, counted: dict[str, Decimal], billed: dict[str, Decimal]
) -> None:
    assert with_fees(Usage(10, quantities=counted), deployment(provider, model), {}).quantities == billed


@pytest.mark.parametrize(
    ("options", "unit"),
    [
        ({"search_context_size": "high"}, "search:high"),
        ({"search_context_size": "low"}, "search:low"),
        ({"search_context_size": ["high"]}, "search"),
        ({}, "search"),
        (None, "search"),
    ],
)
def test_the_search_of_a_model_that_searches_by_itself_has_the_size_that_was_asked_for(options: Any, unit: str) -> None:
    body = {"messages": [], "web_search_options": options}
    searching = deployment("openai", "gpt-4o-search-preview")
    held = extras(body, suspects(body), searching).units
    assert held == {unit: Decimal(1)}
    assert with_fees(Usage(10), searching, held).quantities == {unit: Decimal(1)}
    assert with_fees(Usage(10, quantities={"search:medium": Decimal(2)}), searching, held).quantities == {
        "search:medium": Decimal(1)
    }


@pytest.mark.parametrize(
    ("tool", "name"),
    [
        ({"type": "image_generation", "output_format": "png"}, " ('image_generation')"),
        ({"type": "x" * 500}, f" ('{'x' * 64}')"),
        ({"type": "function", "function": {}, "field_of_tomorrow": 1}, ""),
        ({"type": ["a"]}, ""),
        (5, ""),
    ],
)
def test_a_user_whose_agent_offers_a_tool_of_the_providers_is_told_which_tool_it_is(tool: Any, name: str) -> None:
    said = f"a tool that the provider runs itself{name} is billed by its use"
    assert judged({"tools": [TOOL, tool]}).unbounded == ("tools[1]", said)
