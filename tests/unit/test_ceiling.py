"""The bound of a request's input is never too low, is fast, and copes with any JSON."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing.endpoints.chat.ceiling import (
    TOKENS_A_FILE,
    TOKENS_A_MESSAGE,
    TOKENS_A_NOTE,
    TOKENS_A_PAGE_ANTHROPIC,
    TOKENS_A_PAGE_GEMINI,
    TOKENS_A_PAGE_OF_TEXT,
    TOKENS_A_REQUEST,
    TOKENS_A_SECOND,
    TOKENS_AN_IMAGE,
    TOKENS_AN_IMAGE_MINI,
    TOKENS_WITH_TOOLS,
    image_ceiling,
    input_ceiling,
)
from tests.media import data_url, encoded, mp3, pdf, png, wav


@pytest.fixture(scope="module")
def litellm() -> Any:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    return litellm


def chat(content: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": content}], **more}


def input_tokens(body: dict[str, Any], provider: str = "openai", model: str = "gpt-4o") -> int:
    return input_ceiling(body).tokens_for(provider, model)


def image(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def file(data: str) -> dict[str, Any]:
    return {"type": "file", "file": {"filename": "a", "file_data": data}}


def more_tokens(part: dict[str, Any], provider: str = "openai", model: str = "gpt-4o") -> int:
    """What a content part adds."""
    ceiling = input_ceiling(chat([part]))
    assert ceiling.unbounded_at(provider) is None
    return ceiling.tokens_for(provider, model) - input_tokens(chat([]))


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_text_never_has_more_tokens_than_bytes(litellm: Any, text: str) -> None:
    clean = text.encode("utf-8", "replace").decode()
    for model in ("gpt-4o", "claude-sonnet-4-6"):  # models of the byte-pair encodings that litellm ships
        assert litellm.token_counter(model=model, text=clean) <= input_tokens(chat(clean)) - TOKENS_A_REQUEST


def test_a_message_counts_as_its_bytes_and_what_templates_add() -> None:
    message = '{"role":"user","content":"привет"}'
    assert input_tokens(chat("привет")) == TOKENS_A_REQUEST + TOKENS_A_MESSAGE + len(message.encode())


@pytest.mark.parametrize(("provider", "model"), [("xai", "grok-4"), ("openrouter", "x-ai/grok-code-fast-1")])
def test_a_prompt_that_the_provider_puts_before_the_clients_is_counted(provider: str, model: str) -> None:
    assert input_ceiling(chat("hi")).tokens_for(provider, model) == input_tokens(chat("hi")) + 1024


def test_tools_count_as_the_text_of_their_schema_and_the_prompt_that_comes_with_them() -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    more = input_tokens(chat("hi", tools=[tool])) - input_tokens(chat("hi"))
    schema = '{"type":"function","function":{"name":"weather","parameters":{"type":"object"}}}'
    assert more == TOKENS_WITH_TOOLS + len(f'{{"tools":[{schema}]}}')


@pytest.mark.parametrize("name", ["documents", "system", "prompt", "functions", "chat_template", "a_field_of_tomorrow"])
def test_whatever_field_a_text_is_in_it_counts(name: str) -> None:
    assert input_tokens(chat("hi", **{name: ["x" * 100_000]})) >= 100_000


def test_what_no_model_reads_does_not_count() -> None:
    plain = chat("hi")
    assert input_tokens(chat("hi", metadata={"a": "b" * 500}, user="u" * 100, temperature=1)) == input_tokens(plain)


def test_a_prediction_counts_as_output() -> None:
    ceiling = input_ceiling(chat("hi", prediction={"type": "content", "content": "x" * 60_000}))
    assert ceiling.predicted_tokens >= 60_000
    assert ceiling.tokens == input_ceiling(chat("hi")).tokens


def test_references_count_written_out_where_they_are_written_out() -> None:
    definitions: dict[str, Any] = {"d0": {"type": "string", "description": "x" * 100}}
    for level in range(1, 9):
        below = {"$ref": f"#/$defs/d{level - 1}"}
        definitions[f"d{level}"] = {"type": "object", "properties": {"a": below, "b": below}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"$ref": "#/$defs/d8", "$defs": definitions}}}
    body = chat("hi", tools=[tool])
    assert input_tokens(body, "anthropic") < 2_000 + TOKENS_WITH_TOOLS
    assert input_tokens(body, "gemini") > 2**8 * 100


@pytest.mark.parametrize("levels", [1, 40])
def test_references_without_end_are_named_where_they_are_written_out(levels: int) -> None:
    definitions: dict[str, Any] = {"d0": {"$ref": f"#/$defs/d{levels}"} if levels == 1 else {"type": "string"}}
    for level in range(1, levels + 1):
        below = {"$ref": f"#/$defs/d{level - 1}"}
        definitions[f"d{level}"] = {"properties": {"a": below, "b": below}}
    body = chat("hi", tools=[{"function": {"parameters": {"$ref": f"#/$defs/d{levels}", "$defs": definitions}}}])
    unbounded = input_ceiling(body).unbounded_at("gemini")
    assert unbounded is not None
    assert unbounded.param == "tools[0]"
    assert input_ceiling(body).unbounded_at("anthropic") is None


PICTURE = image(data_url("image/png", png(more=b"x" * 50_000)))


def test_a_picture_counts_as_the_most_that_any_provider_documents() -> None:
    assert more_tokens(PICTURE) == TOKENS_AN_IMAGE + TOKENS_A_FILE
    assert more_tokens(PICTURE, model="gpt-4o-mini-2024-07-18") == TOKENS_AN_IMAGE_MINI + TOKENS_A_FILE
    assert image_ceiling("claude-sonnet-4-6") == TOKENS_AN_IMAGE


def test_a_banner_counts_by_its_tiles() -> None:
    banner = image(data_url("image/png", png(20_000, 200)))
    assert more_tokens(banner) == 2 * 150 * 258 + TOKENS_A_FILE


def test_an_anthropic_picture_is_one_too() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": encoded(png())}
    assert more_tokens({"type": "image", "source": source}) == TOKENS_AN_IMAGE + TOKENS_A_FILE


def test_text_in_any_field_counts_as_its_bytes() -> None:
    part = file(data_url("text/plain", b"x" * 3_000))
    assert more_tokens(part) == TOKENS_A_FILE + 3_000 + len("a")
    assert more_tokens(image(data_url("text/plain", b"x" * 3_000))) == TOKENS_A_FILE + 3_000


@pytest.mark.parametrize(
    ("sound", "name", "seconds"), [(wav(10), "wav", 11), (mp3(41_700), "mp3", 42), (wav(10), "audio/wav", 11)]
)
def test_sound_counts_by_its_length(sound: bytes, name: str, seconds: int) -> None:
    part = {"type": "input_audio", "input_audio": {"data": encoded(sound), "format": name}}
    assert more_tokens(part) == TOKENS_A_FILE + seconds * TOKENS_A_SECOND


@pytest.mark.parametrize(
    ("provider", "model", "tokens_a_page"),
    [
        ("anthropic", "claude-sonnet-4-6", TOKENS_A_PAGE_ANTHROPIC),
        ("gemini", "gemini-2.5-pro", TOKENS_A_PAGE_GEMINI),
        ("openai", "gpt-4o", TOKENS_A_PAGE_OF_TEXT + TOKENS_AN_IMAGE),
        ("openai", "gpt-4o-mini", TOKENS_A_PAGE_OF_TEXT + TOKENS_AN_IMAGE_MINI),
    ],
)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_a_pdf_counts_by_its_pages(provider: str, model: str, tokens_a_page: int, *, packed: bool) -> None:
    part = file(data_url("application/pdf", pdf(7, packed=packed)))
    assert more_tokens(part, provider, model) == TOKENS_A_FILE + 7 * tokens_a_page + len("a")


HI = {"type": "text", "text": "a"}


@pytest.mark.parametrize(
    ("parts", "where"),
    [
        ([HI, {"type": "file", "file": {"file_id": "f"}}], 1),
        ([HI, {"type": "file", "file": {"file_id": "f", "file_data": data_url("image/png", png())}}], 1),
        ([file("https://x/a.pdf")], 0),
        ([file(data_url("application/zip", b"PK\x03\x04"))], 0),
        ([{"type": "video_url", "video_url": {"url": "https://x"}}], 0),
        ([image(data_url("image/png", b"text and no picture"))], 0),
        ([image(data_url("video/mp4", b"\0\0\0\x18ftypmp42"))], 0),
        ([image(data_url("image/png", png()), format="video/mp4")], 0),
        ([image("https://x/a.mp4", format="video/mp4")], 0),
        ([image("gs://bucket/a.mp4")], 0),
        ([{"type": "text", "text": "a", "image_url": {"url": data_url("image/png", png())}}], 0),
        ([{"type": "input_audio", "input_audio": {"data": encoded(b"fLaC" + b"\0" * 60), "format": "flac"}}], 0),
        ([{"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}}], 0),
        ([{"type": ["text"], "text": "a"}], 0),
    ],
)
def test_content_that_nobody_can_bound_is_named(parts: list[dict[str, Any]], where: int) -> None:
    unbounded = input_ceiling(chat(parts)).unbounded_at("openai")
    assert unbounded is not None
    assert unbounded.param == f"messages[0].content[{where}]"


def test_media_beside_the_content_are_looked_at_too() -> None:
    pictured = {"role": "assistant", "content": "a", "images": [PICTURE, image("gs://x")]}
    ceiling = input_ceiling({"messages": [pictured]})
    assert ceiling.pictures == 1
    assert ceiling.unbounded is not None
    assert ceiling.unbounded.param == "messages[0].images[1]"
    spoken = input_ceiling({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]})
    assert spoken.unbounded is not None
    assert spoken.unbounded.param == "messages[0].audio"


@pytest.mark.parametrize(
    ("provider", "url", "is_bounded"),
    [
        ("openai", "https://x/a", True),
        ("hosted_vllm", "https://x/a.mp4", True),
        ("anthropic", "https://x/a", True),
        ("gemini", "https://x/a.mp4", True),  # we fetch it, and take a picture only
        ("gemini", "https://generativelanguage.googleapis.com/v1beta/files/abc", False),
        ("vertex_ai", "https://x/a.mp4", False),
    ],
)
def test_a_picture_by_url_is_bounded_where_only_a_picture_is_read(provider: str, url: str, *, is_bounded: bool) -> None:
    assert (input_ceiling(chat([image(url)])).unbounded_at(provider) is None) is is_bounded


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
parts = st.dictionaries(st.sampled_from(["type", "text", "image_url", "input_audio"]), json_values)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(["messages", "tools", "response_format", "web_search_options", "functions"]),
        json_values | st.lists(st.dictionaries(st.sampled_from(["role", "content"]), st.lists(parts) | json_values)),
    )
)
def test_whatever_json_comes_it_is_bounded_or_named(body: dict[str, Any]) -> None:
    ceiling = input_ceiling(body)
    assert ceiling.tokens_for("openai", "gpt-4o") >= TOKENS_A_REQUEST
    assert ceiling.unbounded is None or ceiling.unbounded.param


def test_a_system_message_counts_with_the_note_that_anthropics_models_get_of_it() -> None:
    asked, noted = chat("hello"), chat("hello")
    asked["messages"].append({"role": "user", "content": "x"})
    noted["messages"].append({"role": "developer", "content": "x"})
    assert input_tokens(noted) == input_tokens(asked) + TOKENS_A_NOTE + len("developer") - len("user")
