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
from google.genai import errors, types
from pydantic import BaseModel

from tests.e2e.gateway import INPUT_USD, Gateway, Route, cost, unique
from tests.simulator import Behaviour, ToolCall, faults
from tests.simulator.openai_embeddings import vector

WIRES = pytest.mark.parametrize("wire", ["gemini", "openai", "anthropic"])
STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
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


# --- what the provider is sent ---------------------------------------------------------------------------------------


def test_gemini_gets_the_body_as_it_came(gateway: Gateway) -> None:
    route = gateway.route("gemini")
    asked: Any = {
        "systemInstruction": {"parts": [{"text": "You are careful."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Look"}, {"inlineData": {"mimeType": "image/png", "data": PNG}}]},
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "c2ln"}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"a_b": 1}}}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object"}}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "generationConfig": {
            "temperature": 0.5,
            "maxOutputTokens": 300,
            "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 1024},
        },
        "serviceTier": "flex",
        "labels": {"team": "red"},
    }
    answer = post(gateway, route, asked)
    assert answer.status_code == 200, answer.text
    assert sent_to(gateway, route) == asked
    entry = gateway.entry(route.alias)
    assert (entry["tags"], entry["tier"]) == ({"team": "red"}, "flex")


def test_both_spellings_of_a_field_are_the_same_request(gateway: Gateway) -> None:
    route = gateway.route("gemini")
    asked: Any = {
        "system_instruction": {"parts": {"text": "Be brief."}},
        "contents": {"parts": {"inline_data": {"mime_type": "image/png", "data": PNG}}},
        "generation_config": {"max_output_tokens": 100, "thinking_config": {"thinking_budget": 512}},
        "tools": {"function_declarations": {"name": "f", "parameters_json_schema": {"my_field": {}}}},
    }
    assert post(gateway, route, asked).status_code == 200
    assert sent_to(gateway, route) == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": PNG}}]}],
        "generationConfig": {"maxOutputTokens": 100, "thinkingConfig": {"thinkingBudget": 512}},
        "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"my_field": {}}}]}],
    }


def test_without_a_cap_of_the_clients_gemini_gets_ours(gateway: Gateway) -> None:
    route = gateway.route("gemini", cap=77)
    answer = post(gateway, route, asks())
    assert answer.headers["x-gateway-output-cap"] == "77"
    assert sent_to(gateway, route)["generationConfig"] == {"maxOutputTokens": 77}


def test_thoughts_keep_their_signature(gateway: Gateway, client: genai.Client) -> None:
    route = gateway.route("gemini")
    raw: Any = {
        "candidates": [
            {
                "content": {
                    "role": "model",
                    "parts": [
                        {"text": "Hm.", "thought": True},
                        {"text": "Yes.", "thoughtSignature": "c2lnbmVk"},
                        {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "Y2FsbA=="},
                    ],
                },
                "finishReason": "STOP",
                "avgLogprobs": -0.25,
            }
        ],
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 3, "thoughtsTokenCount": 2,
                          "totalTokenCount": 10},
        "modelVersion": "gemini-2.5-pro",
    }  # fmt: skip
    gateway.sim.behave(route.providers[0], Behaviour(status=200, body=raw))
    answer = post(gateway, route, asks()).json()
    assert answer == {**raw, "modelVersion": route.alias}
    entry = gateway.entry(route.alias)
    assert (entry["input_tokens"], entry["output_tokens"], entry["reasoning_tokens"]) == (5, 5, 2)


def test_calls_of_other_models_are_signed_for_the_newer_models_of_gemini(gateway: Gateway) -> None:
    route = gateway.route("gemini", model="gemini-3-pro-preview")
    calls = [{"functionCall": {"name": "f", "args": {}, "id": f"call_{n}"}} for n in range(2)]
    results = [{"functionResponse": {"name": "f", "response": {}, "id": f"call_{n}"}} for n in range(2)]
    asked = {"contents": [{"parts": [{"text": "a"}]}, {"role": "model", "parts": calls}, {"parts": results}]}
    assert post(gateway, route, asked).status_code == 200
    sent = sent_to(gateway, route)["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in sent] == ["skip_thought_signature_validator", None]


def test_other_providers_get_what_they_understand(gateway: Gateway) -> None:
    route = gateway.route("openai", model="gpt-5")
    asked: Any = {
        "systemInstruction": {"parts": [{"text": "One."}, {"text": "Two."}]},
        "contents": [
            {"parts": [{"inlineData": {"mimeType": "image/png", "data": PNG}}, {"text": "What is it?"}]},
            {"role": "model", "parts": [{"text": "Hm", "thought": True}, {"text": "A dot."},
                                        {"functionCall": {"name": "f", "args": {"a": 1}}},
                                        {"functionCall": {"name": "f", "args": {"a": 2}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"result": "one"}}},
                                       {"functionResponse": {"name": "f", "response": {"two": 2}}}]},
        ],
        "tools": [{"functionDeclarations": [WEATHER, {"name": "f"}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        "generationConfig": {"maxOutputTokens": 300, "topP": 0.5, "seed": 7, "candidateCount": 1,
                             "thinkingConfig": {"thinkingLevel": "LOW"}},
    }  # fmt: skip
    assert post(gateway, route, asked).status_code == 200
    sent = sent_to(gateway, route)
    assert sent["messages"] == [
        {"role": "system", "content": "One.\nTwo."},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                                     {"type": "text", "text": "What is it?"}]},
        {"role": "assistant", "content": "A dot.", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}},
            {"id": "call_2", "type": "function", "function": {"name": "f", "arguments": '{"a": 2}'}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "one"},
        {"role": "tool", "tool_call_id": "call_2", "content": '{"two": 2}'},
    ]  # fmt: skip
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["f"]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert (sent["max_completion_tokens"], sent["reasoning_effort"], sent["seed"]) == (300, "low", 7)


@STREAMED
def test_what_another_provider_is_not_told_is_named(gateway: Gateway, stream: bool) -> None:
    route = gateway.route("openai")
    body = asks(
        tools=[{"functionDeclarations": [WEATHER]}, {"urlContext": {}}],
        safetySettings=[{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        generationConfig={"mediaResolution": "MEDIA_RESOLUTION_LOW"},
    )
    answer = post(gateway, route, body, "streamGenerateContent?alt=sse" if stream else "generateContent")
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-gateway-dropped-params"] == (
        "generationConfig.mediaResolution, safetySettings, tools[1].urlContext"
    )


# --- when a provider fails -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [("gemini", "openai"), ("openai", "anthropic"), ("anthropic", "gemini")])
@STREAMED
def test_the_next_provider_answers_when_the_first_fails(
    gateway: Gateway, client: genai.Client, order: tuple[str, str], stream: bool
) -> None:
    route = gateway.route(*order, retries=0)
    gateway.sim.behave(route.providers[0], forever=faults.overloaded())
    models = client.models
    if stream:
        chunks = models.generate_content_stream(model=route.alias, contents="hello", config=config())
        text = "".join(chunk.text or "" for chunk in chunks)
    else:
        text = models.generate_content(model=route.alias, contents="hello", config=config()).text or ""
    assert text == "You said: hello"
    entry = gateway.entry(route.alias)
    assert (entry["fallback"], entry["attempts"], entry["provider"]) == (True, 2, route.providers[1])


@pytest.mark.parametrize("second", ["openai", "gemini", "anthropic"])
@pytest.mark.parametrize("method", ["streamGenerateContent?alt=sse", "streamGenerateContent"])
def test_a_broken_stream_is_continued_inside_the_same_stream(gateway: Gateway, second: str, method: str) -> None:
    route = gateway.route("gemini", second)
    gateway.sim.behave(route.providers[0], Behaviour(text="one two three four five six", cut_after=3))
    gateway.sim.behave(route.providers[1], Behaviour(text=" four five six"))
    answer = post(gateway, route, asks(), method)
    events = (
        [json.loads(event.removeprefix("data: ")) for event in answer.text.strip().split("\r\n\r\n")]
        if "sse" in method
        else answer.json()
    )
    parts = [part for event in events for part in event["candidates"][0]["content"]["parts"]]
    assert "".join(part["text"] for part in parts) == "one two three four five six"
    assert [event["candidates"][0].get("finishReason") for event in events][-1] == "STOP"
    assert len({event["responseId"] for event in events}) == 1
    gateway.wait_settled(route.alias)
    assert [attempt["outcome"] for attempt in gateway.attempts(route.alias)] == ["interrupted", "answered"]


def test_half_a_call_is_begun_anew(gateway: Gateway, client: genai.Client) -> None:
    route = gateway.route("openai", "gemini")
    call = ToolCall("get_weather", '{"city": "a city with a very long name, to be cut"}')
    gateway.sim.behave(route.providers[0], Behaviour(tool_calls=(call,), cut_after=2, cut="reset"))
    gateway.sim.behave(route.providers[1], Behaviour(tool_calls=(ToolCall("get_weather", '{"city": "Rome"}'),)))
    stream = client.models.generate_content_stream(
        model=route.alias,
        contents="call get_weather",
        config=config(
            tools=[types.Tool(function_declarations=[WEATHER])],
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        ),
    )
    calls = [call for chunk in stream for call in chunk.function_calls or ()]
    assert [call.args for call in calls] == [{"city": "Rome"}]
    assert gateway.entry(route.alias)["fallback"] is True


def test_a_break_that_nobody_continues_is_the_dialects_error(gateway: Gateway, client: genai.Client) -> None:
    route = gateway.route("gemini")
    gateway.sim.behave(route.providers[0], faults.cut_after(3))
    with pytest.raises(errors.ServerError, match="broke off") as broken:
        list(client.models.generate_content_stream(model=route.alias, contents="a b c d e f", config=config()))
    assert (broken.value.code, broken.value.status) == (500, "INTERNAL")
    assert gateway.entry(route.alias)["error_code"] == "stream_interrupted"
    gateway.sim.behave(route.providers[0], faults.cut_after(3))
    *said, error = post(gateway, route, asks("a b c d e f"), "streamGenerateContent").json()
    assert len(said) == 3
    assert error["error"]["details"][0]["reason"] == "STREAM_INTERRUPTED"


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "contents"),
        ({"contents": []}, "contents"),
        ({"contents": ["a"]}, "contents[0]"),
        ({"contents": [{"role": "user"}]}, "contents[0].parts"),
        ({"contents": [{"role": "assistant", "parts": [{"text": "a"}]}]}, "contents[0].role"),
        (asks(systemInstruction="a"), "systemInstruction"),
        (asks(system_instruction={"parts": [{"text": "a"}]}, systemInstruction=5), "systemInstruction"),
        ({"contents": [{"parts": [{"text": 5}]}]}, "contents[0].parts[0].text"),
        ({"contents": [{"parts": [{"functionCall": {}}]}]}, "contents[0].parts[0].functionCall.name"),
        ({"contents": [{"parts": [{"inlineData": {"mimeType": "a"}}]}]}, "contents[0].parts[0].inlineData.data"),
        (asks(generationConfig={"maxOutputTokens": 0}), "generationConfig.maxOutputTokens"),
        (asks(generationConfig={"candidateCount": 9}), "generationConfig.candidateCount"),
        (asks(tools=[5]), "tools[0]"),
        (asks(tools=[{"functionDeclarations": [{}]}]), "tools[0].functionDeclarations[0]"),
        # nobody bounds these
        (asks(tools=[{"urlContext": {}}]), "tools[0].urlContext"),
        (asks(tools=[{"codeExecution": {}}]), "tools[0].codeExecution"),
        (asks(cachedContent="cachedContents/a"), "cachedContent"),
        (asks(generationConfig={"routingConfig": {}}), "generationConfig.routingConfig"),
        (asks(generationConfig={"responseModalities": ["VIDEO"]}), "generationConfig.responseModalities"),
        ({"contents": [{"parts": [{"text": "a"}, {"fileData": {"fileUri": "https://youtu.be/x"}}]}]},
         "contents[0].parts[1]"),
        ({"contents": [{"parts": [{"partOfTomorrow": {}}]}]}, "contents[0].parts[0]"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_googles_envelope(gateway: Gateway, body: dict[str, Any], param: str) -> None:
    route = gateway.route("gemini")
    with gateway.nothing_written():
        answer = post(gateway, route, body)
    assert answer.status_code == 400
    said = answer.json()["error"]
    assert (said["code"], said["status"]) == (400, "INVALID_ARGUMENT")
    by_type = {detail["@type"].rpartition(".")[2]: detail for detail in said["details"]}
    assert by_type["BadRequest"]["fieldViolations"] == [{"field": param, "description": said["message"]}]
    assert by_type["ErrorInfo"]["metadata"]["param"] == param
    assert by_type["RequestInfo"]["requestId"] == answer.headers["x-request-id"]


def test_refusals_have_the_statuses_that_the_official_client_knows(gateway: Gateway, client: genai.Client) -> None:
    with pytest.raises(errors.ClientError, match="does not exist") as missing:
        client.models.generate_content(model="nobody", contents="hello")
    assert (missing.value.code, missing.value.status) == (404, "NOT_FOUND")
    route = gateway.route("gemini")
    budget = gateway.budget(route, "0.0000001")
    with gateway.nothing_written(), pytest.raises(errors.ClientError) as refused:
        client.models.generate_content(model=route.alias, contents="hello", config=config())
    assert (refused.value.code, refused.value.status) == (429, "RESOURCE_EXHAUSTED")
    (info,) = [each for each in refused.value.details["error"]["details"] if each["@type"].endswith("ErrorInfo")]
    assert (info["reason"], info["metadata"]["code"]) == ("REQUEST_EXCEEDS_BUDGET", "request_exceeds_budget")
    assert (info["metadata"]["budget"], info["metadata"]["limit_usd"]) == (budget, "0.0000001")


def test_a_failed_chain_is_a_server_error_with_its_attempts(gateway: Gateway, client: genai.Client) -> None:
    route = gateway.route("gemini", retries=0)
    gateway.sim.behave(route.providers[0], forever=faults.overloaded())
    with pytest.raises(errors.ServerError) as failed:
        client.models.generate_content(model=route.alias, contents="hello", config=config())
    assert (failed.value.code, failed.value.status) == (502, "UNAVAILABLE")
    (info,) = [each for each in failed.value.details["error"]["details"] if each["@type"].endswith("ErrorInfo")]
    assert json.loads(info["metadata"]["attempts"])[0]["provider"] == route.providers[0]


def test_googles_own_refusal_keeps_its_words(gateway: Gateway) -> None:
    route = gateway.route("gemini")
    body = asks(generationConfig={"stopSequences": list("abcdef"), "maxOutputTokens": 10})
    answer = post(gateway, route, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "The number of stop sequences must be at most 5"


def test_a_search_of_googles_is_held_by_its_fee(gateway: Gateway) -> None:
    route = gateway.route("gemini")
    body = asks(tools=[{"googleSearch": {}}])
    with gateway.nothing_written():
        refused = post(gateway, route, body)
    assert "search" in refused.json()["error"]["message"]
    with gateway.no_hard_budget():
        assert post(gateway, route, body).status_code == 200
    assert sent_to(gateway, route)["tools"] == [{"googleSearch": {}}]


# --- keys ------------------------------------------------------------------------------------------------------------


def test_the_key_comes_in_googles_header_or_in_the_address_and_is_never_logged(guarded_gateway: Gateway) -> None:
    gateway = guarded_gateway
    route = gateway.route("gemini")
    name = unique("googles")
    secret = gateway.key(name=name)
    assert post(gateway, route, asks()).status_code == 401
    assert post(gateway, route, asks(), x_goog_api_key=secret).status_code == 200
    assert post(gateway, route, asks(), f"generateContent?key={secret}").status_code == 200
    assert post(gateway, route, asks(), f"streamGenerateContent?alt=sse&key={secret}").status_code == 200
    gateway.wait_settled(route.alias, requests=3)
    assert {entry["key"] for entry in gateway.entries(route.alias)} == {name}
    refused = post(gateway, route, asks(), "generateContent?key=sk-of-nobody-12345678")
    assert refused.status_code == 401
    assert refused.json()["error"]["status"] == "UNAUTHENTICATED"
    absent = gateway.post(b"{}", path=f"/v1beta/files?key={secret}")
    assert (absent.status_code, absent.json()["error"]["status"]) == (404, "NOT_FOUND")
    for answer in (refused, absent):
        assert secret not in answer.text
        assert "sk-of-nobody" not in answer.text
    for request in gateway.sim.requests_to(route.providers[0]):
        assert secret not in repr((request.query, request.headers))
    assert secret not in gateway.running.output
    assert "sk-of-nobody" not in gateway.running.output


def test_a_key_in_the_address_counts_on_googles_paths_alone(guarded_gateway: Gateway) -> None:
    gateway = guarded_gateway
    secret = gateway.key()
    chat = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": "a"}]}).encode()
    assert gateway.post(chat, path=f"/v1/chat/completions?key={secret}").status_code == 401


def test_a_tag_that_a_key_asks_for_is_a_label(guarded_gateway: Gateway) -> None:
    gateway = guarded_gateway
    route = gateway.route("openai")
    secret = gateway.key(required_tags=["team"])
    with gateway.nothing_written():
        answer = post(gateway, route, asks(), x_goog_api_key=secret)
    assert '"labels": {"team": "…"}' in answer.json()["error"]["message"]
    assert post(gateway, route, asks(labels={"team": "red"}), x_goog_api_key=secret).status_code == 200
    assert gateway.entry(route.alias)["tags"] == {"team": "red"}


def test_a_key_that_may_not_use_the_alias_is_denied(guarded_gateway: Gateway) -> None:
    gateway = guarded_gateway
    route = gateway.route("gemini")
    secret = gateway.key(allowed_aliases=["gpt-4o"])
    with gateway.nothing_written():
        answer = post(gateway, route, asks(), x_goog_api_key=secret)
    assert (answer.status_code, answer.json()["error"]["status"]) == (403, "PERMISSION_DENIED")


# --- what does not spend ---------------------------------------------------------------------------------------------


@WIRES
def test_tokens_are_counted_without_spending(gateway: Gateway, client: genai.Client, wire: str) -> None:
    route = gateway.route(wire)
    with gateway.nothing_written():
        counted = client.models.count_tokens(model=route.alias, contents="hello " * 100)
        whole = {"generateContentRequest": {"model": "models/x", **asks("hello " * 100), "tools": []}}
        other = post(gateway, route, whole, "countTokens").json()["totalTokens"]
    assert counted.total_tokens == other
    assert 100 <= other <= 200


def test_the_official_client_lists_the_aliases(gateway: Gateway, client: genai.Client) -> None:
    route = gateway.route("gemini")
    with gateway.nothing_written():
        listed = {model.name: model for model in client.models.list()}
        found = client.models.get(model=route.alias)
    assert found == listed[f"models/{route.alias}"]
    assert (found.display_name, found.input_token_limit, found.output_token_limit) == (route.alias, 1048576, 65536)
    with pytest.raises(errors.ClientError, match="does not exist"):
        client.models.get(model="nobody")
    assert httpx.get(f"{gateway.url}/v1beta/models").json()["models"][0]["name"].startswith("models/")


def test_what_google_has_and_the_gateway_has_not_is_said(gateway: Gateway) -> None:
    assert gateway.post(b"{}", path="/v1beta/models/gpt-4o:predict").json()["error"]["status"] == "UNIMPLEMENTED"
    for path in ("/v1beta/cachedContents", "/v1beta/files/a"):
        answer = gateway.post(b"{}", path=path)
        assert (answer.status_code, answer.json()["error"]["status"]) == (404, "NOT_FOUND")
        assert "generateContent" in answer.json()["error"]["message"]


def test_a_dry_run_says_what_is_held(gateway: Gateway) -> None:
    route = gateway.route("gemini", "openai")
    path = f"/v1beta/models/{route.alias}:generateContent"
    with gateway.nothing_written():
        said = gateway.post(json.dumps({"endpoint": path, "body": asks()}).encode(), path="/v1/dry-run").json()
        refused = gateway.post(json.dumps(asks(tools=[{"urlContext": {}}])).encode(), path=f"/v1/dry-run{path}").json()
    assert (said["admitted"], len(said["steps"])) == (True, 2)
    assert refused["refusal"]["status"] == "INVALID_ARGUMENT"
    assert post(gateway, route, asks()).status_code == 200
    assert Decimal(said["hold_usd"]) == gateway.entry(route.alias)["hold_usd"]


# --- embeddings ------------------------------------------------------------------------------------------------------

_EMBEDDING_MODELS = {"openai": "text-embedding-3-small", "gemini": "gemini-embedding-001"}


@pytest.mark.parametrize("wire", ["gemini", "openai"])
def test_the_official_client_gets_vectors_and_the_books_their_cost(
    gateway: Gateway, client: genai.Client, wire: str
) -> None:
    route = gateway.route(wire, model=_EMBEDDING_MODELS[wire])
    answer = client.models.embed_content(
        model=route.alias,
        contents="one two three",
        config=types.EmbedContentConfig(task_type="RETRIEVAL_DOCUMENT", output_dimensionality=4),
    )
    assert answer.embeddings is not None
    assert [found.values for found in answer.embeddings] == [vector("one two three", 4)]
    entry = gateway.entry(route.alias)
    assert (entry["endpoint"], entry["state"], entry["input_tokens"]) == ("gemini", "posted", 3)
    assert entry["cost_usd"] == 3 * INPUT_USD / 1_000_000
    assert entry["hold_usd"] >= entry["cost_usd"]
    sent = sent_to(gateway, route)
    if wire == "gemini":
        assert {request["taskType"] for request in sent["requests"]} == {"RETRIEVAL_DOCUMENT"}
    else:
        assert sent.keys() == {"model", "input", "dimensions"}


def test_one_content_gets_one_vector_and_what_is_not_told_is_named(gateway: Gateway) -> None:
    route = gateway.route("openai", model=_EMBEDDING_MODELS["openai"])
    body = {"content": {"parts": [{"text": "one"}, {"text": "two"}]}, "task_type": "X", "autoTruncate": True}
    answer = post(gateway, route, body, "embedContent")
    assert answer.json() == {
        "embedding": {"values": pytest.approx(vector("one\ntwo"))}, "usageMetadata": {"promptTokenCount": 2},
    }  # fmt: skip
    assert answer.headers["x-gateway-dropped-params"] == "taskType, autoTruncate"


def test_a_batch_gets_a_vector_for_each_content(gateway: Gateway) -> None:
    route = gateway.route("gemini", model=_EMBEDDING_MODELS["gemini"])
    requests = [{"content": {"parts": [{"text": text}]}, "title": "T"} for text in ("one", "two three")]
    answer = post(gateway, route, {"requests": requests}, "batchEmbedContents").json()
    assert [found["values"] for found in answer["embeddings"]] == [vector("one"), vector("two three")]
    assert gateway.entry(route.alias)["input_tokens"] == 3


@pytest.mark.parametrize(
    ("method", "body", "param"),
    [
        ("embedContent", {}, "content"),
        ("embedContent", {"content": {"parts": [{"inlineData": {}}]}}, "content.parts[0]"),
        ("embedContent", {"content": {"parts": [{"text": ""}]}}, "content"),
        ("embedContent", {"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 0}, "outputDimensionality"),
        ("batchEmbedContents", {"requests": []}, "requests"),
        ("batchEmbedContents", {"requests": [{"content": 5}]}, "requests[0].content"),
        (
            "batchEmbedContents",
            {"requests": [{"content": {"parts": [{"text": "a"}]}, "title": t} for t in ("a", "b")]},
            "requests[1].title",
        ),
    ],
)
def test_what_is_wrong_with_an_embedding_is_named(
    gateway: Gateway, method: str, body: dict[str, Any], param: str
) -> None:
    route = gateway.route("gemini", model=_EMBEDDING_MODELS["gemini"])
    with gateway.nothing_written():
        answer = post(gateway, route, body, method)
    assert answer.status_code == 400
    (info,) = [each for each in answer.json()["error"]["details"] if each["@type"].endswith("ErrorInfo")]
    assert info["metadata"]["param"] == param


def test_a_failing_provider_of_embeddings_is_followed_by_the_next(gateway: Gateway) -> None:
    route = gateway.route("gemini", "openai", model="text-embedding-3-small", retries=0)
    gateway.sim.behave(route.providers[0], forever=faults.unavailable())
    answer = post(gateway, route, {"content": {"parts": [{"text": "hello"}]}, "title": "T"}, "embedContent")
    assert answer.json()["embedding"]["values"] == pytest.approx(vector("hello"))
    assert gateway.entry(route.alias)["provider"] == route.providers[1]
