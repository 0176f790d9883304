"""Requests as clients send them: everything that OpenAI's chat API has, once each, and the corners in between.

Each is `name: (request without its model, behaviour of the simulated provider or None for a plain answer)`.
"""

from __future__ import annotations

from typing import Any

from tests.simulator import Behaviour, ToolCall, Usage

Request = dict[str, Any]

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Name of the city"},
                "unit": {"type": "string", "enum": ["C", "F"]},
            },
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}
PERSON: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "person",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "age": {"type": "integer"},
                "tags": {"type": "array", "items": {"type": "string"}},
                "home": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
            "required": ["name", "age", "tags", "home"],
            "additionalProperties": False,
        },
    },
}


def user(content: Any) -> Request:
    return {"role": "user", "content": content}


def asks(content: Any = "Say hello", **parameters: Any) -> Request:
    return {"messages": [user(content)], "max_tokens": 256, **parameters}


def says(*messages: Request, **parameters: Any) -> Request:
    return {"messages": list(messages), "max_tokens": 256, **parameters}


def tool_call(call_id: str, name: str, arguments: str) -> Request:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def text(value: str, **extra: Any) -> Request:
    return {"type": "text", "text": value, **extra}


def image(url: str, **extra: Any) -> Request:
    return {"type": "image_url", "image_url": {"url": url, **extra}}


_ONE_CALL = says(
    user("Weather in Rome?"),
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [tool_call("call_a1", "get_weather", '{"city":"Rome"}')],
    },
    {"role": "tool", "tool_call_id": "call_a1", "content": '{"temp": 21}'},
    tools=[WEATHER],
)
_PARALLEL_CALLS = says(
    user("Weather in Rome and Oslo?"),
    {
        "role": "assistant",
        "content": "I look it up.",
        "tool_calls": [
            tool_call("call_a1", "get_weather", '{"city": "Rome"}'),
            tool_call("call_a2", "get_weather", '{"city": "Oslo", "unit": "C"}'),
        ],
    },
    {"role": "tool", "tool_call_id": "call_a1", "content": "21"},
    {"role": "tool", "tool_call_id": "call_a2", "content": [text("3")]},
    tools=[WEATHER],
)
_CALLS = Behaviour(tool_calls=(ToolCall("get_weather", '{"city":"Rome","unit":"C"}', "1a"),))
_TWO_CALLS = Behaviour(
    tool_calls=(
        ToolCall("get_weather", '{"city":"Rome"}', "1a"),
        ToolCall("get_weather", '{"city":"Oslo"}', "1b"),
    )
)
_THINKS = Behaviour(reasoning="First I think about it.", text="Then I answer.")

CORPUS: dict[str, tuple[Request, Behaviour | None]] = {
    # --- messages ---------------------------------------------------------------------------------------
    "plain": (asks(), None),
    "no cap": ({"messages": [user("Say hello")]}, None),
    "system": (says({"role": "system", "content": "Be brief."}, user("Hello")), None),
    "two systems": (
        says(
            {"role": "system", "content": "Be brief."},
            {"role": "system", "content": "Be kind."},
            user("Hello"),
        ),
        None,
    ),
    "system in parts": (
        says({"role": "system", "content": [text("Be"), text("brief.")]}, user("Hello")),
        None,
    ),
    "late system": (says(user("Hello"), {"role": "system", "content": "Be brief."}, user("Again")), None),
    "developer": (says({"role": "developer", "content": "Be brief."}, user("Hello")), None),
    "empty system": (says({"role": "system", "content": ""}, user("Hello")), None),
    "many turns": (
        says(
            user("One"),
            {"role": "assistant", "content": "Two"},
            user("Three"),
            {"role": "assistant", "content": "4"},
            user("5"),
        ),
        None,
    ),
    "two users in a row": (says(user("One"), user("Two")), None),
    "two assistants in a row": (
        says(user("1"), {"role": "assistant", "content": "2"}, {"role": "assistant", "content": "3"}, user("4")),
        None,
    ),
    "assistant first": (says({"role": "assistant", "content": "Hello"}, user("Hello to you")), None),
    "prefill": (says(user("Count"), {"role": "assistant", "content": "One, two,"}), None),
    "text in parts": (asks([text("Say"), text("hello")]), None),
    "named user": (says({"role": "user", "name": "ann", "content": "Hello"}), None),
    "assistant in parts": (says(user("1"), {"role": "assistant", "content": [text("2")]}, user("3")), None),
    "assistant refused": (
        says(user("1"), {"role": "assistant", "content": None, "refusal": "No."}, user("3")),
        None,
    ),
    "empty user": (asks(""), None),
    "spaces only": (asks("   "), None),
    "odd unicode": (
        asks("Zürich 東京 🧑‍🚀 \u202eabc\u0000 \ufeff é \t\n ￿"),
        Behaviour(text="ñ 🧑‍🚀 \u2028 ok"),
    ),
    "lone surrogate": (asks("broken \ud83d here"), Behaviour(text="ok")),
    "long": (asks("lorem ipsum " * 2000), Behaviour(length=300)),
    # --- tools -----------------------------------------------------------------------------------------
    "tool": (asks("Weather in Rome?", tools=[WEATHER]), _CALLS),
    "tool not used": (asks("Hello", tools=[WEATHER], tool_choice="none"), Behaviour(text="Hello")),
    "two tools": (asks("Weather in Rome?", tools=[WEATHER, CLOCK], tool_choice="auto"), _CALLS),
    "tool required": (asks("Weather in Rome?", tools=[WEATHER], tool_choice="required"), _CALLS),
    "tool by name": (
        asks(
            "Rome?",
            tools=[WEATHER, CLOCK],
            tool_choice={"type": "function", "function": {"name": "get_weather"}},
        ),
        _CALLS,
    ),
    "no parallel calls": (asks("Weather?", tools=[WEATHER], parallel_tool_calls=False), _CALLS),
    "parallel calls": (asks("Rome and Oslo?", tools=[WEATHER], parallel_tool_calls=True), _TWO_CALLS),
    "text and call": (
        asks("Rome?", tools=[WEATHER]),
        Behaviour(tokens=("I ", "look."), tool_calls=(ToolCall("get_weather", '{"city":"Rome"}', "1a"),)),
    ),
    "call without arguments": (
        asks("Time?", tools=[CLOCK]),
        Behaviour(tool_calls=(ToolCall("clock", "{}", "1a"),)),
    ),
    "tool result": (_ONE_CALL, None),
    "two tool results": (_PARALLEL_CALLS, None),
    "tool results without tools": ({k: v for k, v in _ONE_CALL.items() if k != "tools"}, None),
    "failed tool": (
        says(
            user("Rome?"),
            {"role": "assistant", "tool_calls": [tool_call("call_a1", "get_weather", "")], "content": ""},
            {"role": "tool", "tool_call_id": "call_a1", "content": ""},
            user("And?"),
            tools=[WEATHER],
        ),
        None,
    ),
    "strict tool": (
        asks("Rome?", tools=[{"type": "function", "function": {**WEATHER["function"], "strict": True}}]),
        _CALLS,
    ),
    "nested tool": (
        asks(
            "Book it",
            tools=[
                {
                    "type": "function",
                    "function": {
                        "name": "book",
                        "parameters": {
                            "type": "object",
                            "$defs": {"leg": {"type": "object", "properties": {"to": {"type": "string"}}}},
                            "properties": {
                                "legs": {"type": "array", "items": {"$ref": "#/$defs/leg"}},
                                "price": {"type": ["number", "null"]},
                            },
                        },
                    },
                }
            ],
        ),
        Behaviour(tool_calls=(ToolCall("book", '{"legs":[{"to":"Oslo"}],"price":null}', "1a"),)),
    ),
    "legacy functions": (
        asks("Rome?", functions=[WEATHER["function"]], function_call="auto"),
        Behaviour(text="No"),
    ),
    # --- pictures ----------------------------------------------------------------------------------------
    "picture": (asks([text("What is it?"), image(f"data:image/png;base64,{PIXEL}")]), None),
    "picture with detail": (asks([image(f"data:image/png;base64,{PIXEL}", detail="low"), text("?")]), None),
    "picture by URL": (asks([text("What is it?"), image("https://pictures.invalid/cat.png")]), None),
    "two pictures": (
        asks(
            [
                image(f"data:image/jpeg;base64,{PIXEL}"),
                image(f"data:image/png;base64,{PIXEL}"),
                text("Which?"),
            ]
        ),
        None,
    ),
    "picture from a tool": (
        says(
            user("Draw"),
            {"role": "assistant", "content": None, "tool_calls": [tool_call("call_a1", "clock", "{}")]},
            {
                "role": "tool",
                "tool_call_id": "call_a1",
                "content": [text("Here"), image(f"data:image/png;base64,{PIXEL}")],
            },
            tools=[CLOCK],
        ),
        None,
    ),
    "pdf": (
        asks(
            [
                text("Sum it up"),
                {
                    "type": "file",
                    "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0xLjQK"},
                },
            ]
        ),
        None,
    ),
    # --- JSON --------------------------------------------------------------------------------------------
    "json object": (
        asks("A person as JSON", response_format={"type": "json_object"}),
        Behaviour(text='{"name": "A"}'),
    ),
    "json schema": (asks("A person", response_format=PERSON), None),
    "text format": (asks("Hello", response_format={"type": "text"}), None),
    "json schema and tools": (
        asks("A person", response_format=PERSON, tools=[WEATHER]),
        Behaviour(text='{"name": "A"}'),
    ),
    # --- sampling ------------------------------------------------------------------------------------------
    "temperature": (asks(temperature=0.2), None),
    "temperature zero": (asks(temperature=0), None),
    "temperature above one": (asks(temperature=1.7), None),
    "top p": (asks(top_p=0.9), None),
    "top k": (asks(top_k=20), None),
    "stop": (asks(stop="END"), None),
    "stops": (asks(stop=["END", "STOP", "\n\n"]), None),
    "blank stop": (asks(stop=" "), None),
    "seed": (asks(seed=7), None),
    "penalties": (asks(presence_penalty=0.5, frequency_penalty=-0.5), None),
    "n one": (asks(n=1), None),
    "logprobs": (asks(logprobs=True, top_logprobs=2), None),
    "logit bias": (asks(logit_bias={"50256": -100}), None),
    "max completion tokens": ({"messages": [user("Hello")], "max_completion_tokens": 99}, None),
    "both caps": ({"messages": [user("Hello")], "max_tokens": 50, "max_completion_tokens": 99}, None),
    "cut by its cap": (asks("Hello", max_tokens=3), Behaviour(tokens=("a ", "b ", "c"), finish="length")),
    "user": (asks(user="user-123"), None),
    "user by mail": (asks(user="ann@example.com"), None),
    "service tier": (asks(service_tier="default"), None),
    "verbosity": (asks(verbosity="low"), None),
    "store": (asks(store=True), None),
    "n three": (asks(n=3), Behaviour(text="One of three")),
    "sound": (
        asks([text("What is said?"), {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}]),
        None,
    ),
    "prediction": (asks(prediction={"type": "content", "content": "Hello"}), None),
    "safety identifier": (asks(safety_identifier="abc"), None),
    "prompt cache key": (asks(prompt_cache_key="abc"), None),
    "web search": (asks("News?", web_search_options={"search_context_size": "low"}), Behaviour(text="None")),
    "metadata": (asks(metadata={"team": "blue"}), None),
    "unknown parameter": (asks(frobnicate=1), None),
    "bad role": (says({"role": "robot", "content": "Hello"}), None),
    "bad arguments": (
        says(
            user("Rome?"),
            {"role": "assistant", "content": None, "tool_calls": [tool_call("call_a1", "get_weather", '{"city": ')]},
            {"role": "tool", "tool_call_id": "call_a1", "content": "21"},
            tools=[WEATHER],
        ),
        None,
    ),
    "nulls": (asks(temperature=None, stop=None, tools=None, seed=None, user=None), None),
    # --- reasoning -----------------------------------------------------------------------------------------
    "effort low": (asks(reasoning_effort="low", max_tokens=8000), _THINKS),
    "effort medium": (asks(reasoning_effort="medium", max_tokens=8000), _THINKS),
    "effort high": (asks(reasoning_effort="high", max_tokens=8000), _THINKS),
    "effort none": (asks(reasoning_effort="none", max_tokens=8000), None),
    "effort minimal": (asks(reasoning_effort="minimal", max_tokens=8000), _THINKS),
    "thinking": (asks(thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=8000), _THINKS),
    "earlier thinking": (
        says(
            user("1"),
            {
                "role": "assistant",
                "content": "2",
                "thinking_blocks": [{"type": "thinking", "thinking": "hm", "signature": "c2lnbmF0dXJl"}],
            },
            user("3"),
        ),
        None,
    ),
    # --- caching and usage -----------------------------------------------------------------------------------
    "cache marks": (
        says(
            {
                "role": "system",
                "content": [text("A long instruction.", cache_control={"type": "ephemeral"})],
            },
            user([text("Hello", cache_control={"type": "ephemeral", "ttl": "1h"})]),
        ),
        Behaviour(
            text="Hi",
            usage=Usage(1000, 5, cached_tokens=600, cache_write_5m_tokens=200, cache_write_1h_tokens=100),
        ),
    ),
    "cached tool": (
        asks("Rome?", tools=[{**WEATHER, "cache_control": {"type": "ephemeral"}}]),
        Behaviour(text="No", usage=Usage(900, 4, cached_tokens=512)),
    ),
    "reasoning counted": (asks(), Behaviour(text="Hi", usage=Usage(50, 40, reasoning_tokens=30))),
    # --- how an answer ends ------------------------------------------------------------------------------------
    "filtered": (asks(), Behaviour(tokens=("a ", "b"), finish="content_filter")),
    "many pieces": (asks(), Behaviour(length=80)),
    "newlines": (asks(), Behaviour(tokens=("\n", "\n", "- a\n", "", "- b", " "))),
}
