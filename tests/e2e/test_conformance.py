"""Every answer is what the published documents say: OpenAI's OpenAPI document, Anthropic's types."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.conformance.documents import assert_anthropic, assert_openai
from tests.e2e.gateway import Gateway, Route, http
from tests.media import wav
from tests.simulator import Behaviour, faults

WIRES = pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
SHAPES = pytest.mark.parametrize("shape", ["text", "tool", "reasoning", "cut", "filtered", "schema", "empty"])

_WEATHER = {
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
_PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}
_CALL = 'call get_weather with {"city": "Paris"}'


@WIRES
@SHAPES
def test_a_chat_completion_is_as_openai_documents_it(gateway: Gateway, wire: str, shape: str) -> None:
    route = _route(gateway, wire, shape)
    body: dict[str, Any] = {"model": route.alias, "messages": [{"role": "user", "content": _words(shape)}]}
    if shape == "tool":
        body["tools"] = [{"type": "function", "function": _WEATHER}]
    if shape == "cut":
        body["max_tokens"] = 2
    if shape == "schema":
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "person", "schema": _PERSON}}
    assert_openai("CreateChatCompletionResponse", _whole(gateway, "/v1/chat/completions", body))
    for event in _streamed(gateway, "/v1/chat/completions", body | {"stream_options": {"include_usage": True}}):
        assert_openai("CreateChatCompletionStreamResponse", event)


@WIRES
@SHAPES
def test_a_response_is_as_openai_documents_it(gateway: Gateway, wire: str, shape: str) -> None:
    route = _route(gateway, wire, shape)
    body: dict[str, Any] = {"model": route.alias, "input": _words(shape)}
    if shape == "tool":
        body["tools"] = [{"type": "function", **_WEATHER, "strict": False}]
    if shape == "cut":
        body["max_output_tokens"] = 16
    if shape == "schema":
        body["text"] = {"format": {"type": "json_schema", "name": "person", "schema": _PERSON}}
    assert_openai("Response", _whole(gateway, "/v1/responses", body))
    for event in _streamed(gateway, "/v1/responses", body):
        assert_openai("ResponseStreamEvent", event)


@WIRES
@SHAPES
def test_a_message_is_as_anthropic_types_it(gateway: Gateway, wire: str, shape: str) -> None:
    route = _route(gateway, wire, shape)
    body: dict[str, Any] = {
        "model": route.alias,
        "max_tokens": 2 if shape == "cut" else 900,
        "messages": [{"role": "user", "content": _words(shape)}],
    }
    if shape == "tool":
        body["tools"] = [{"name": _WEATHER["name"], "input_schema": _WEATHER["parameters"]}]
    if shape == "schema":
        body["output_config"] = {"format": {"type": "json_schema", "schema": _PERSON}}
    assert_anthropic("Message", _whole(gateway, "/v1/messages", body))
    for event in _streamed(gateway, "/v1/messages", body):
        if event["type"] != "ping":  # its types do not have it
            assert_anthropic("RawMessageStreamEvent", event)


def test_embeddings_are_as_openai_documents_them(gateway: Gateway) -> None:
    for wire, model in (("openai", "text-embedding-3-small"), ("gemini", "gemini-embedding-001")):
        route = gateway.route(wire, model=model)
        body = {"model": route.alias, "input": ["one", "two"], "encoding_format": "float"}
        assert_openai("CreateEmbeddingResponse", _whole(gateway, "/v1/embeddings", body))


@WIRES
@pytest.mark.parametrize("shape", ["text", "cut", "filtered"])
def test_a_completion_is_as_openai_documents_it(gateway: Gateway, wire: str, shape: str) -> None:
    body = {
        "model": _route(gateway, wire, shape).alias,
        "prompt": "Say hello",
        "max_tokens": 3 if shape == "cut" else 90,
    }
    assert_openai("CreateCompletionResponse", _whole(gateway, "/v1/completions", body))
    for event in _streamed(gateway, "/v1/completions", body):
        for choice in event[
            "choices"
        ]:  # only whole answers are documented: in streams the reason is null until the end
            choice["finish_reason"] = choice["finish_reason"] or "stop"
        assert_openai("CreateCompletionResponse", event)


def test_pictures_are_as_openai_documents_them(gateway: Gateway) -> None:
    alias = gateway.priced("gpt-image-1", input="5", image_output="40", output="10")
    body = {"model": alias, "prompt": "a cat", "size": "1024x1024", "quality": "low"}
    assert_openai("ImagesResponse", _whole(gateway, "/v1/images/generations", body))
    for event in _streamed(gateway, "/v1/images/generations", body | {"partial_images": 1}):
        assert_openai("ImageGenStreamEvent", event)


def test_moderations_are_as_openai_documents_them(gateway: Gateway) -> None:
    alias = gateway.priced("omni-moderation-latest", input="0", output="0")
    body = {"model": alias, "input": ["a kind word", "violence"]}
    assert_openai("CreateModerationResponse", _whole(gateway, "/v1/moderations", body))


def test_transcripts_are_as_openai_documents_them(gateway: Gateway) -> None:
    whisper = gateway.priced("whisper-1", input_second="0.0001")
    shapes = {"json": "CreateTranscriptionResponseJson", "verbose_json": "CreateTranscriptionResponseVerboseJson"}
    for form, name in shapes.items():
        assert_openai(name, _heard(gateway, "transcriptions", whisper, response_format=form).json())
    shapes = {"json": "CreateTranslationResponseJson", "verbose_json": "CreateTranslationResponseVerboseJson"}
    for form, name in shapes.items():
        assert_openai(name, _heard(gateway, "translations", whisper, response_format=form).json())
    by_tokens = gateway.priced("gpt-4o-transcribe", input="2.5", audio_input="6", output="10")
    for event in _events(_heard(gateway, "transcriptions", by_tokens, stream="true").text):
        assert_openai("CreateTranscriptionResponseStreamEvent", event)


def test_models_are_as_both_document_them(gateway: Gateway) -> None:
    alias = gateway.route("openai").alias
    assert_openai("ListModelsResponse", http.get(f"{gateway.url}/v1/models").json())
    assert_openai("Model", http.get(f"{gateway.url}/v1/models/{alias}").json())
    anthropics = http.get(f"{gateway.url}/v1/models", headers={"anthropic-version": "2023-06-01"}).json()
    for model in anthropics["data"]:
        assert_anthropic("ModelInfo", model)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/embeddings"])
def test_errors_are_as_openai_documents_them(gateway: Gateway, path: str) -> None:
    alias = gateway.route("openai").alias
    refused = [{"model": "no-such-alias", "messages": [], "input": "a"}, {"model": alias}, {}]
    for body in refused:
        answer = gateway.post(json.dumps(body).encode(), path=path)
        assert 400 <= answer.status_code < 500
        assert_openai("ErrorResponse", answer.json())


def test_tokens_are_counted_as_both_document_it(gateway: Gateway) -> None:
    alias = gateway.route("openai").alias
    assert_openai("TokenCountsResource", _whole(gateway, "/v1/responses/input_tokens", {"model": alias, "input": "a"}))
    asked = {"model": alias, "messages": [{"role": "user", "content": "a"}]}
    assert_anthropic("MessageTokensCount", _whole(gateway, "/v1/messages/count_tokens", asked))


def _route(gateway: Gateway, wire: str, shape: str) -> Route:
    route = gateway.route(wire)
    script = {
        "reasoning": Behaviour(reasoning="I think about it.", text="Hello."),
        "filtered": faults.stopped_by_filter(2),
        "cut": Behaviour(length=40),
        "empty": Behaviour(tokens=(), finish="length"),
    }
    if shape in script:
        gateway.sim.behave(route.providers[0], forever=script[shape])
    return route


def _words(shape: str) -> str:
    return _CALL if shape == "tool" else "Say hello"


def _whole(gateway: Gateway, path: str, body: dict[str, Any]) -> Any:
    answer = gateway.post(json.dumps(body).encode(), path=path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _streamed(gateway: Gateway, path: str, body: dict[str, Any]) -> list[Any]:
    answer = gateway.post(json.dumps(body | {"stream": True}).encode(), path=path)
    assert answer.status_code == 200, answer.text
    return _events(answer.text)


def _events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    events = [json.loads(line) for line in lines if line != "[DONE]"]
    assert events
    return events


def _heard(gateway: Gateway, endpoint: str, alias: str, **fields: str) -> httpx.Response:
    answer = http.post(
        f"{gateway.url}/v1/audio/{endpoint}",
        data={"model": alias, **fields},
        files={"file": ("speech.wav", wav(1), "audio/wav")},
    )
    assert answer.status_code == 200, answer.text
    return answer
