"""Google's generateContent as its official client asks for it: natively, by way of chat, and when a provider fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
from google import genai
from google.genai import types
from pydantic import BaseModel

from tests.e2e.gateway import Gateway, Route, cost

WIRES = pytest.mark.parametrize("wire", ["gemini", "openai", "anthropic"])
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
WEATHER: Any = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]},
}


@pytest.fixture
def client(gateway: Gateway) -> Iterator[genai.Client]:
    with genai.Client(api_key="dummy", http_options=types.HttpOptions(base_url=gateway.url)) as made:
        yield made


def config(**parameters: Any) -> types.GenerateContentConfig:
    return types.GenerateContentConfig(**{"max_output_tokens": 200, **parameters})


def asks(text: str = "Say hello", **fields: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], **fields}


def post(gateway: Gateway, route: Route, body: Any, method: str = "generateContent", **headers: str) -> httpx.Response:
    path = f"/v1beta/models/{route.alias}:{method}"
    return gateway.post(json.dumps(body).encode(), path=path, **headers)


def sent_to(gateway: Gateway, route: Route, place: int = 0) -> dict[str, Any]:
    (request,) = gateway.sim.requests_to(route.providers[place])
    assert request.body is not None
    return dict(request.body)


@WIRES
def test_a_whole_answer_is_of_the_alias_and_is_on_the_books(gateway: Gateway, client: genai.Client, wire: str) -> None:
    route = gateway.route(wire)
    answer = client.models.generate_content(
        model=route.alias, contents="one two three", config=config(system_instruction="Be brief.")
    )
    assert answer.text == "You said: one two three"
    assert answer.model_version == route.alias
    assert answer.candidates is not None
    assert answer.candidates[0].finish_reason == types.FinishReason.STOP
    entry = gateway.entry(route.alias)
    assert (entry["endpoint"], entry["state"], entry["streamed"]) == ("gemini", "posted", False)
    counted = answer.usage_metadata
    assert counted is not None
    assert (counted.prompt_token_count, counted.candidates_token_count) == (
        entry["input_tokens"], entry["output_tokens"],
    )  # fmt: skip
    assert entry["cost_usd"] == cost(entry["input_tokens"], entry["output_tokens"])
    assert entry["hold_usd"] >= entry["cost_usd"]


@WIRES
def test_a_stream_has_the_same_words_and_ends_with_its_count_and_its_cost(
    gateway: Gateway, client: genai.Client, wire: str
) -> None:
    route = gateway.route(wire)
    chunks = list(client.models.generate_content_stream(model=route.alias, contents="one two three", config=config()))
    assert all(chunk.text is not None for chunk in chunks)
    assert "".join(chunk.text or "" for chunk in chunks) == "You said: one two three"
    assert {chunk.model_version for chunk in chunks} == {route.alias}
    assert len({chunk.response_id for chunk in chunks}) == 1
    entry = gateway.entry(route.alias)
    counted = chunks[-1].usage_metadata
    assert counted is not None
    assert (counted.prompt_token_count, counted.candidates_token_count) == (
        entry["input_tokens"], entry["output_tokens"],
    )  # fmt: skip
    raw = post(gateway, route, asks("one two three"), "streamGenerateContent?alt=sse")
    assert raw.headers["content-type"] == "text/event-stream"
    last = json.loads(raw.text.strip().rpartition("data: ")[2], parse_float=Decimal)
    assert last["usageMetadata"]["cost_usd"] == cost(
        last["usageMetadata"]["promptTokenCount"], last["usageMetadata"]["candidatesTokenCount"]
    )


@WIRES
def test_without_alt_a_stream_is_one_array_of_json(gateway: Gateway, wire: str) -> None:
    route = gateway.route(wire)
    answer = post(gateway, route, asks("one two three"), "streamGenerateContent")
    assert answer.headers["content-type"] == "application/json"
    events = answer.json()
    texts = [part["text"] for event in events for part in event["candidates"][0]["content"]["parts"]]
    assert "".join(texts) == "You said: one two three"
    assert len(events) > 1
    assert events[-1]["usageMetadata"]["totalTokenCount"] > 0


@WIRES
@STREAMED
def test_a_function_is_called_and_its_result_is_answered(
    gateway: Gateway, client: genai.Client, wire: str, stream: bool
) -> None:
    route = gateway.route(wire)
    chat = client.chats.create(model=route.alias, config=config(tools=[types.Tool(function_declarations=[WEATHER])]))

    def say(message: Any) -> list[types.GenerateContentResponse]:
        return list(chat.send_message_stream(message)) if stream else [chat.send_message(message)]

    calls = [call for answer in say('call get_weather with {"city": "Paris"}') for call in answer.function_calls or ()]
    (call,) = calls
    assert (call.name, call.args) == ("get_weather", {"city": "Paris"})
    result = types.Part.from_function_response(name="get_weather", response={"result": "18 degrees"})
    assert "".join(answer.text or "" for answer in say(result)) == "The tool answered: 18 degrees"


@WIRES
def test_the_client_calls_functions_by_itself(gateway: Gateway, client: genai.Client, wire: str) -> None:
    route = gateway.route(wire)
    asked = []

    def get_weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return f"18 degrees in {city}"

    answer = client.models.generate_content(
        model=route.alias, contents='call get_weather with {"city": "Paris"}', config=config(tools=[get_weather])
    )
    assert asked == ["Paris"]
    assert answer.text == "The tool answered: 18 degrees in Paris"


class Recipe(BaseModel):
    name: str
    minutes: int
    steps: list[str]


@WIRES
def test_an_answer_has_the_form_that_was_asked_for(gateway: Gateway, client: genai.Client, wire: str) -> None:
    route = gateway.route(wire)
    for form in ({"response_schema": Recipe}, {"response_json_schema": Recipe.model_json_schema()}):
        answer = client.models.generate_content(
            model=route.alias, contents="A cake", config=config(response_mime_type="application/json", **form)
        )
        assert answer.text is not None
        Recipe.model_validate_json(answer.text)


@WIRES
def test_the_asynchronous_client_is_answered_too(gateway: Gateway, client: genai.Client, wire: str) -> None:
    route = gateway.route(wire)

    async def ask() -> tuple[str | None, str]:
        models = client.aio.models
        whole = await models.generate_content(model=route.alias, contents="hello", config=config())
        stream = await models.generate_content_stream(model=route.alias, contents="hello", config=config())
        return whole.text, "".join([chunk.text or "" async for chunk in stream])

    assert asyncio.run(ask()) == ("You said: hello", "You said: hello")
