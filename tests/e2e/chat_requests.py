"""Chat requests that OpenAI's schema allows, drawn at random: what any client of the gateway may send.

https://platform.openai.com/docs/api-reference/chat/create, with the fields that other providers' answers leave in a
conversation. A request may still ask for what a provider does not do. It then has a right to be told so.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]

_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_JPEG = base64.b64encode(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\xff\xd9").decode()
_PDF = base64.b64encode(b"%PDF-1.4\n%%EOF\n").decode()

_words = st.sampled_from(
    [
        "Hello",
        "",
        " ",
        "\n\n",
        "Größe: 5 µm",
        "日本語 🦊",
        "call look_up",
        'call look_up with {"city": "Paris"}',
        "x" * 999,
    ]
)
_names = st.sampled_from(["look_up", "get-weather", "1st_tool", "a" * 64, "Read", "mcp__files__read"])
_ids = st.sampled_from(
    [
        *(
            "call_abc123def456",
            "1",
            "toolu_01A09q90qw90lq917835lq9",
            "functions.look_up:0",
            "chatcmpl-tool-" + "0" * 32,
        ),
        *("call_1__thought__" + "QUJD" * 30, "D681PevKs"),
    ]
)
_arguments = st.sampled_from(['{"city": "Paris"}', "{}", "", '{"city": "Par', "[]", "null", '{"a": {"b": [1, null]}}'])


def _maybe(strategies: Mapping[str, st.SearchStrategy[Any]], at_most: int) -> st.SearchStrategy[Json]:
    """Some of the fields. With all of them in each request, one refusal would hide the others."""
    return st.lists(st.sampled_from(sorted(strategies)), unique=True, max_size=at_most).flatmap(
        lambda names: st.fixed_dictionaries({name: strategies[name] for name in names})
    )


# --- JSON Schemas ---------------------------------------------------------------------------------------------------

_leaves = st.sampled_from(
    [
        *({"type": "string"}, {"type": "integer", "minimum": 0}, {"type": ["string", "null"]}, {"type": "boolean"}),
        *({"enum": ["a", "b"]}, {"type": "string", "enum": ["a", ""]}, {"enum": [1, 2]}, {"const": "fixed"}),
        *({"type": "integer", "enum": [1, 2]}, {"enum": ["a", None]}, {"type": "null"}, {"$ref": "#/$defs/Thing"}),
        *({"type": "string", "format": "date-time"}, {"type": "string", "pattern": "^a+$", "minLength": 1}, {}),
        *({"type": "number", "exclusiveMinimum": 0, "multipleOf": 0.5}, {"type": "array"}, {"type": "object"}),
        *({"type": "string", "default": "a", "examples": ["a"]}, {"type": "string", "title": "T", "deprecated": True}),
    ]
)


def _larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.builds(lambda items: {"type": "array", "items": items, "minItems": 1}, inner),
        st.builds(lambda word, all_: {word: all_}, st.sampled_from(["anyOf", "oneOf"]), several),
        st.builds(lambda extra: {"type": "object", "additionalProperties": extra}, inner),
        st.builds(lambda places: {"type": "array", "prefixItems": places}, several),
        _objects(inner),
    )


@st.composite
def _objects(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> Json:
    keys = st.sampled_from(["city", "unit", "type", "properties", "items", "$id", "enum"])
    properties = draw(st.dictionaries(keys, inner, max_size=3))
    schema: Json = {"type": "object", "properties": properties}
    if draw(st.booleans()):
        schema |= {"required": sorted(properties), "additionalProperties": False}
    return schema


_schemas = st.recursive(_leaves, _larger, max_leaves=5)
_top_schemas = st.one_of(
    _objects(_schemas),
    st.builds(lambda one, other: {"anyOf": [one, other]}, _objects(_schemas), _objects(_schemas)),
    st.just({"$ref": "#/$defs/Thing"}),
).map(
    lambda schema: {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **schema,
        "$defs": {"Thing": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]}},
    }
)


# --- messages -------------------------------------------------------------------------------------------------------

_texts = st.builds(lambda text: {"type": "text", "text": text}, _words)
_marked = _texts.map(lambda part: {**part, "cache_control": {"type": "ephemeral"}})
_pictures = st.builds(
    lambda url, detail: {"type": "image_url", "image_url": {"url": url} | detail},
    st.sampled_from(
        [
            f"data:image/png;base64,{_PNG}",
            f"data:image/jpeg;base64,{_JPEG}",
            f"data:image/jpg;base64,{_JPEG}",
            f"data:image/png;base64,{_JPEG}",
        ]
    ),
    st.sampled_from([{}, {"detail": "low"}, {"detail": "auto"}]),
)
_attachments = st.sampled_from(
    [
        {"type": "input_audio", "input_audio": {"data": "UklGRiQAAABXQVZF", "format": "wav"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{_PDF}"}},
        {"type": "file", "file": {"file_id": "file-abc123"}},
    ]
)
_parts = st.one_of(_texts, _texts, _pictures, _pictures, _marked, _attachments)
_text_content = st.one_of(_words, st.lists(_texts, min_size=1, max_size=3))

_instructions = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer"]), "content": _text_content}, optional={"name": st.just("rules")}
)
_user = st.fixed_dictionaries(
    {"role": st.just("user"), "content": st.one_of(_words, st.lists(_parts, min_size=1, max_size=3))},
    optional={"name": st.just("ann")},
)
_left_by_others = _maybe(
    {
        "annotations": st.just([]),
        "audio": st.sampled_from([None, {"id": "audio_1"}]),
        "function_call": st.none(),
        "name": st.just("bot"),
        "provider_specific_fields": st.just({"refusal": None}),
        "reasoning": st.just("Hm."),
        "reasoning_content": st.sampled_from(["Hm.", None, ""]),
        "refusal": st.none(),
        "thinking_blocks": st.sampled_from([[], [{"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}]]),
        "tool_calls": st.none(),
    },
    at_most=3,
)
_answer = st.one_of(
    st.builds(lambda text, left: {**left, "role": "assistant", "content": text}, _text_content, _left_by_others),
    st.just({"role": "assistant", "content": None, "refusal": "I cannot say."}),
    st.just({"role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot say."}]}),
)


@st.composite
def _calls(draw: st.DrawFn) -> list[Json]:
    """A turn with tool calls, and their results in any order."""
    calls = [
        {"id": id_, "type": "function", "function": {"name": draw(_names), "arguments": draw(_arguments)}}
        for id_ in draw(st.lists(_ids, min_size=1, max_size=3, unique=True))
    ]
    said = {**draw(_left_by_others), "role": "assistant", "content": draw(st.one_of(st.none(), _text_content))}
    results = [{"role": "tool", "tool_call_id": call["id"], "content": draw(_text_content)} for call in calls]
    return [{**said, "tool_calls": calls}, *draw(st.permutations(results))]


@st.composite
def _old_call(draw: st.DrawFn) -> list[Json]:
    name = draw(_names)
    call = {"name": name, "arguments": draw(_arguments)}
    result = {"role": "function", "name": name, "content": draw(st.one_of(st.none(), _words))}
    return [{"role": "assistant", "content": None, "function_call": call}, result]


def _alone(messages: st.SearchStrategy[Json]) -> st.SearchStrategy[list[Json]]:
    return messages.map(lambda message: [message])


_turns = st.one_of(
    _alone(_user), _alone(_user), _alone(_answer), _calls(), _calls(), _alone(_instructions), _old_call()
)
_messages = st.builds(
    lambda first, turns: [message for turn in (first, *turns) for message in turn],
    st.sampled_from(
        [
            *([], [{"role": "system", "content": "Be brief."}], [{"role": "user", "content": "Hello"}]),
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        ]
    ),
    st.lists(_turns, min_size=1, max_size=4),
)


# --- parameters -----------------------------------------------------------------------------------------------------

_penalty = st.sampled_from([None, -2, 0, 0.5, 2])
_functions: st.SearchStrategy[list[Json]] = st.lists(
    st.fixed_dictionaries(
        {"name": _names}, optional={"description": _words, "parameters": _top_schemas, "strict": st.booleans()}
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda function: function["name"],
)
_custom_tool = {"type": "custom", "custom": {"name": "run", "format": {"type": "text"}}}
_answer_schemas = st.builds(
    lambda schema, strict: {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema} | strict},
    _top_schemas,
    st.sampled_from([{}, {"strict": True}, {"strict": False}]),
)
_PARAMETERS: dict[str, st.SearchStrategy[Any]] = {
    "frequency_penalty": _penalty,
    "logit_bias": st.sampled_from([None, {}, {"50256": -100}]),
    "logprobs": st.sampled_from([True, False, None]),
    "metadata": st.sampled_from([None, {}, {"team": "blue", "ticket": "7"}]),
    "modalities": st.sampled_from([None, ["text"]]),
    "n": st.sampled_from([None, 1, 2]),
    "prediction": st.sampled_from(
        [{"type": "content", "content": "Hello"}, {"type": "content", "content": [{"type": "text", "text": "Hello"}]}]
    ),
    "presence_penalty": _penalty,
    "prompt_cache_key": st.just("key"),
    "prompt_cache_retention": st.sampled_from(["in-memory", "24h"]),
    "reasoning_effort": st.sampled_from([None, "none", "minimal", "low", "medium", "high", "xhigh"]),
    "response_format": st.one_of(
        st.sampled_from([{"type": "text"}, {"type": "json_object"}]), _answer_schemas, _answer_schemas
    ),
    "safety_identifier": st.just("someone"),
    "seed": st.sampled_from([None, 0, 7, -1, 2**40]),
    "service_tier": st.sampled_from([None, "auto", "default", "flex", "priority"]),
    "stop": st.sampled_from([None, "END", "", "\n", [], ["\n\n", "END"], ["1", "2", "3", "4"], ["", "END"]]),
    "store": st.sampled_from([None, True, False]),
    "temperature": st.sampled_from([None, 0, 0.2, 1, 1.0, 1.7, 2]),
    "top_p": st.sampled_from([None, 0, 0.1, 0.97, 1]),
    "user": st.sampled_from(["someone", "ann@example.com"]),
    "verbosity": st.sampled_from([None, "low", "high"]),
    # of other providers, which the SDKs send on as extra fields
    "a_parameter_of_tomorrow": st.sampled_from([None, True, {"deep": [1]}]),
    "cached_content": st.none(),
    "chat_template_kwargs": st.just({"enable_thinking": False}),
    "reasoning": st.just({"effort": "low"}),
    "safety_settings": st.just([{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]),
    "thinking": st.sampled_from([{"type": "enabled", "budget_tokens": 2000}, {"type": "disabled"}]),
    "top_k": st.sampled_from([1, 40]),
}
_stream_options: st.SearchStrategy[Json] = st.sampled_from(
    [{}, {"stream_options": {"include_usage": True}}, {"stream_options": None}]
)
_caps: st.SearchStrategy[Json] = st.sampled_from(
    [
        *({}, {}, {"max_tokens": None}, {"max_tokens": 900}, {"max_tokens": 500_000}),
        *({"max_completion_tokens": 30}, {"max_completion_tokens": 5000}),
    ]
)


@st.composite
def _tool_parameters(draw: st.DrawFn) -> Json:
    functions = draw(_functions)
    name = draw(st.sampled_from([function["name"] for function in functions]))
    if draw(st.integers(0, 4)) == 0:
        choice = draw(st.sampled_from([None, "auto", "none", {"name": name}]))
        return {"functions": functions} | ({} if choice is None else {"function_call": choice})
    tools: list[Json] = [{"type": "function", "function": function} for function in functions]
    if draw(st.integers(0, 9)) == 0:
        tools.append(_custom_tool)
    named = {"type": "function", "function": {"name": name}}
    allowed = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": draw(st.sampled_from(["auto", "required"])), "tools": [named]},
    }
    choice = draw(st.sampled_from([None, "auto", "none", "required", named, allowed]))
    together = draw(st.sampled_from([{}, {"parallel_tool_calls": False}, {"parallel_tool_calls": True}]))
    return {"tools": tools, **together} | ({} if choice is None else {"tool_choice": choice})


@st.composite
def chat_requests(draw: st.DrawFn, alias: str) -> Json:
    parameters = draw(_maybe(_PARAMETERS, at_most=6))
    if parameters.get("logprobs") and draw(st.booleans()):
        parameters["top_logprobs"] = 2
    if draw(st.booleans()):
        parameters |= draw(_tool_parameters())
    if draw(st.booleans()):
        parameters["stream"] = True
        parameters |= draw(_stream_options)
    return {"model": alias, "messages": draw(_messages), **draw(_caps), **parameters}
