"""The bound of a request's input is never too low, is fast, and copes with any JSON."""

from __future__ import annotations

import base64
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.endpoints.chat.ceiling import (
    TOKENS_A_MESSAGE,
    TOKENS_A_REQUEST,
    TOKENS_AN_IMAGE,
    TOKENS_AN_IMAGE_MINI,
    TOKENS_WITH_TOOLS,
    image_ceiling,
    input_ceiling,
)
from routing.serving.call import Unbounded


@pytest.fixture(scope="module")
def litellm() -> Any:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    return litellm


def chat(content: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **more}


def input_tokens(body: dict[str, Any]) -> int:
    return input_ceiling(body).tokens_for("gpt-4o")


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_text_never_has_more_tokens_than_bytes(litellm: Any, text: str) -> None:
    clean = text.encode("utf-8", "replace").decode()
    for model in ("gpt-4o", "claude-sonnet-4-6"):  # models of the byte-pair encodings that litellm ships
        assert litellm.token_counter(model=model, text=clean) <= input_tokens(chat(clean)) - TOKENS_A_REQUEST


def test_a_message_counts_as_its_bytes_and_what_templates_add() -> None:
    message = '{"role":"user","content":"привет"}'
    assert input_tokens(chat("привет")) == TOKENS_A_REQUEST + TOKENS_A_MESSAGE + len(message.encode())


def test_tools_count_as_the_text_of_their_schema_and_the_prompt_that_comes_with_them() -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    more = input_tokens(chat("hi", tools=[tool])) - input_tokens(chat("hi"))
    assert more == TOKENS_WITH_TOOLS + len(
        '[{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}}]'
    )


def test_an_image_counts_as_the_most_that_any_provider_documents() -> None:
    data = "data:image/png;base64," + base64.b64encode(b"x" * 50_000).decode()
    text, image = {"type": "text", "text": "what is it"}, {"type": "image_url", "image_url": {"url": data}}
    assert input_tokens(chat([text, image])) - input_tokens(chat([text])) == TOKENS_AN_IMAGE
    assert image_ceiling("gpt-4o-mini-2024-07-18") == TOKENS_AN_IMAGE_MINI
    assert image_ceiling("claude-sonnet-4-6") == TOKENS_AN_IMAGE


def test_audio_counts_by_its_length() -> None:
    part = {"type": "input_audio", "input_audio": {"data": "A" * 100_000, "format": "mp3"}}
    assert input_tokens(chat([part])) - input_tokens(chat([])) == TOKENS_A_MESSAGE + 3200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (chat([{"type": "text", "text": "a"}, {"type": "file", "file": {"file_id": "f"}}]), "messages[0].content[1]"),
        (chat([{"type": "video_url", "video_url": {"url": "https://x"}}]), "messages[0].content[0]"),
        (chat("a", web_search_options={}), "web_search_options"),
        (chat("a", tools=[{"type": "web_search"}]), "tools[0]"),
    ],
)
def test_what_nobody_can_bound_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(Unbounded) as refused:
        input_tokens(body)
    assert refused.value.param == param


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
parts = st.dictionaries(st.sampled_from(["type", "text", "image_url", "input_audio"]), json_values)


@given(
    st.dictionaries(
        st.sampled_from(["messages", "tools", "response_format", "web_search_options", "functions"]),
        json_values | st.lists(st.dictionaries(st.sampled_from(["role", "content"]), st.lists(parts) | json_values)),
    )
)
def test_whatever_json_comes_it_is_bounded_or_named(body: dict[str, Any]) -> None:
    bound, named = 0, ""
    try:
        bound = input_tokens(body)
    except Unbounded as refused:
        named = refused.param
    assert bound >= TOKENS_A_REQUEST or named
