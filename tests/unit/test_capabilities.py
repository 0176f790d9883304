"""What is remembered of litellm's answers is what litellm answers, for every model that it knows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.upstreams import capabilities
from routing.upstreams.litellm_import import load

CLAUDES = ("claude-sonnet-4-6", "claude-opus-4-5", "claude-opus-4-7", "claude-3-5-haiku-20241022", "claude-of-tomorrow")
MODELS = (
    *(("anthropic", model) for model in CLAUDES),
    ("gemini", "gemini-2.5-pro"),
    ("gemini", "gemini-3-pro-preview"),
)
PLAIN = st.fixed_dictionaries(
    {},
    optional={
        "max_tokens": st.integers(1, 9000),
        "temperature": st.sampled_from([0, 0.0, 0.5, 1, 1.0, True]),
        "top_p": st.sampled_from([0.1, 1, 1.0]),
        "top_k": st.integers(1, 40),
        "n": st.sampled_from([1, 2]),
        "stop": st.sampled_from(["end", "\n\n"]),
        "reasoning_effort": st.sampled_from(["low", "medium", "high"]),
        "parallel_tool_calls": st.booleans(),
        "user": st.sampled_from(["alice", "bob"]),
        "seed": st.integers(0, 9),
        "stream": st.just(True),
        "tool_choice": st.sampled_from(["auto", "none"]),
    },
)


def asked(provider: str, model: str, parameters: dict[str, Any]) -> Any:
    """litellm's answer, or the type of its error."""
    try:
        return load().utils.get_optional_params(
            model=model, custom_llm_provider=provider, messages=[{"role": "user", "content": "Hi"}], **parameters
        )
    except Exception as error:  # noqa: BLE001  compared below
        return type(error)


def remembered(provider: str, model: str, parameters: dict[str, Any]) -> Any:
    try:
        return capabilities.optional_params(provider, model, parameters, [{"role": "user", "content": "Ho"}])
    except Exception as error:  # noqa: BLE001  compared below
        return type(error)


@settings(max_examples=150, deadline=None)
@given(place=st.sampled_from(MODELS), parameters=PLAIN)
def test_remembered_parameters_are_litellms(place: tuple[str, str], parameters: dict[str, Any]) -> None:
    expected = asked(*place, dict(parameters))
    for _ in range(2):  # mapped, then remembered
        found = remembered(*place, dict(parameters))
        assert found == expected
        assert repr(found) == repr(expected)  # 1, 1.0 and True are equal


def test_what_is_done_to_remembered_parameters_is_not_remembered() -> None:
    first = capabilities.optional_params("anthropic", "claude-sonnet-4-6", {"reasoning_effort": "low"}, [])
    expected = repr(first)
    for value in first.values():
        if isinstance(value, dict):
            value.clear()
    first.clear()
    again = capabilities.optional_params("anthropic", "claude-sonnet-4-6", {"reasoning_effort": "low"}, [])
    assert repr(again) == expected


@pytest.mark.parametrize("name", ["user", "seed", "safety_identifier"])
def test_what_hardly_comes_twice_is_not_remembered(name: str) -> None:
    before = capabilities._mapped_plain.cache_info().currsize
    capabilities.optional_params("anthropic", "claude-sonnet-4-6", {"max_tokens": 77_777, name: "1"}, [])
    assert capabilities._mapped_plain.cache_info().currsize == before


@pytest.mark.parametrize("model", CLAUDES)
def test_how_a_claude_thinks_is_what_litellm_says(model: str) -> None:
    config = load().AnthropicConfig
    thinking = capabilities.thinking_of_claude(model)
    assert thinking.is_adaptive == config.is_adaptive_thinking_model(model, "anthropic")
    assert thinking.is_always_on == config._is_always_on_thinking_model(model, "anthropic")
    assert thinking.knows_xhigh == (config.validate_effort_for_model(model, "xhigh", "anthropic") is None)


@pytest.mark.parametrize("model", CLAUDES)
@pytest.mark.parametrize("optional", [{}, {"output_config": {"effort": "low"}}, {"reasoning_effort": "high"}])
def test_a_claudes_headers_are_litellms(model: str, optional: dict[str, Any]) -> None:
    request: dict[str, Any] = {
        "api_key": "sk-ant-1",
        "headers": {},
        "model": model,
        "messages": [{"role": "user", "content": "Hi"}],
        "litellm_params": {},
        "api_base": "https://api.anthropic.com/v1/messages",
    }
    ours = capabilities.anthropic_config().validate_environment(optional_params=dict(optional), **request)
    assert ours == load().AnthropicConfig().validate_environment(optional_params=dict(optional), **request)
