"""What of a request in Google's format a chat model is told, and what is left out by name."""

from __future__ import annotations

from typing import Any

import pytest

from routing.endpoints.gemini.as_chat import as_chat, json_schema, left_out
from routing.endpoints.gemini.request import parse_gemini
from routing.endpoints.gemini.spelling import GENERATE, in_camel_case
from routing.exceptions import InvalidRequest


def told(*parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    body = {"contents": [{"role": "user", "parts": list(parts) or [{"text": "Answer in JSON"}]}], **fields}
    chat: dict[str, Any] = dict(parse_gemini(body, "a").chat.body)
    return chat


def configured(**config: Any) -> dict[str, Any]:
    chat = told(generationConfig=config)
    return {name: value for name, value in chat.items() if name not in ("model", "messages")}


@pytest.mark.parametrize(
    ("config", "chat"),
    [
        ({"temperature": 0, "topP": 0.5, "topK": 5}, {"temperature": 0, "top_p": 0.5, "top_k": 5}),
        ({"maxOutputTokens": 9, "candidateCount": 2, "seed": 1}, {"max_tokens": 9, "n": 2, "seed": 1}),
        ({"presencePenalty": 0.1, "frequencyPenalty": 0.2}, {"presence_penalty": 0.1, "frequency_penalty": 0.2}),
        ({"stopSequences": ["END"]}, {"stop": ["END"]}),
        ({"stopSequences": []}, {}),
        ({"responseLogprobs": True, "logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"thinkingConfig": {"thinkingBudget": 0}}, {"reasoning_effort": "none"}),
        ({"thinkingConfig": {"thinkingBudget": -1}}, {}),
        ({"thinkingConfig": {"thinkingBudget": 1000}}, {"reasoning_effort": "low"}),
        ({"thinkingConfig": {"thinkingBudget": 20_000}}, {"reasoning_effort": "high"}),
        ({"thinkingConfig": {"thinkingLevel": "THINKING_LEVEL_MEDIUM"}}, {"reasoning_effort": "medium"}),
        ({"thinkingConfig": {"includeThoughts": True}}, {}),
        ({"responseModalities": ["TEXT"]}, {}),
        ({"responseModalities": ["TEXT", "IMAGE"]}, {"modalities": ["text", "image"]}),
        ({"responseMimeType": "text/plain"}, {}),
        ({"responseMimeType": "application/json"}, {"response_format": {"type": "json_object"}}),
    ],
)
def test_each_parameter_has_its_word_in_chat(config: dict[str, Any], chat: dict[str, Any]) -> None:
    assert configured(**config) == chat


def test_who_asks_for_json_without_the_word_gets_a_sentence_with_it() -> None:
    chat = told({"text": "A cake"}, generationConfig={"responseMimeType": "application/json"})
    assert [message["role"] for message in chat["messages"]] == ["system", "user"]
    assert "JSON" in chat["messages"][0]["content"]


def test_a_schema_of_googles_becomes_json_schema() -> None:
    googles = {
        "type": "OBJECT",
        "properties": {
            "type": {"type": "STRING", "format": "enum", "enum": ["a", "b"], "nullable": True},
            "items": {"type": "ARRAY", "items": {"type": "INTEGER", "format": "int32"}, "minItems": "2"},
            "either": {"any_of": [{"type": "STRING"}, {"type": "NUMBER"}], "nullable": True},
        },
        "propertyOrdering": ["type", "items"],
        "required": ["type"],
    }
    assert json_schema(googles) == {
        "type": "object",
        "properties": {
            "type": {"type": ["string", "null"], "enum": ["a", "b", None]},
            "items": {"type": "array", "items": {"type": "integer", "format": "int32"}, "minItems": 2},
            "either": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]},
        },
        "required": ["type"],
    }


@pytest.mark.parametrize(
    ("schema", "is_strict"),
    [
        ({"type": "OBJECT", "properties": {"a": {"type": "STRING"}}, "required": ["a"]}, True),
        ({"type": "ARRAY", "items": {"type": "OBJECT", "properties": {}, "required": []}}, True),
        ({"type": "OBJECT", "properties": {"a": {"type": "STRING"}}}, False),  # OpenAI has no field that may lack
        ({"type": "OBJECT"}, False),
        ({"type": "OBJECT", "properties": {"a": {"type": "OBJECT"}}, "required": ["a"]}, False),
    ],
)
def test_a_schema_is_strict_where_it_leaves_nothing_open(schema: dict[str, Any], is_strict: bool) -> None:
    form = configured(responseMimeType="application/json", responseSchema=schema)["response_format"]["json_schema"]
    assert form.get("strict", False) is is_strict
    assert ("additionalProperties" in str(form["schema"])) is is_strict


DECLARED: list[dict[str, Any]] = [
    {"functionDeclarations": [{"name": "f"}, {"name": "g", "parametersJsonSchema": {"type": "object", "x-own": 1}}]}
]


@pytest.mark.parametrize(
    ("calling", "names", "choice"),
    [
        (None, ["f", "g"], None),
        ({"mode": "AUTO"}, ["f", "g"], "auto"),
        ({"mode": "VALIDATED"}, ["f", "g"], "auto"),
        ({"mode": "NONE"}, ["f", "g"], "none"),
        ({"mode": "ANY"}, ["f", "g"], "required"),
        ({"mode": "ANY", "allowedFunctionNames": ["g"]}, ["g"], {"type": "function", "function": {"name": "g"}}),
    ],
)
def test_functions_are_tools_and_their_choice_is_kept(calling: Any, names: list[str], choice: Any) -> None:
    chat = told(tools=DECLARED, **({"toolConfig": {"functionCallingConfig": calling}} if calling else {}))
    assert [tool["function"]["name"] for tool in chat["tools"]] == names
    assert chat.get("tool_choice") == choice
    assert chat["tools"][-1]["function"]["parameters"] == {"type": "object", "x-own": 1}


def test_files_become_parts_and_the_alphabet_of_base64_is_the_plain_one() -> None:
    chat = told(
        {"inlineData": {"mimeType": "image/png", "data": "a-_b"}},
        {"inlineData": {"mimeType": "audio/mpeg", "data": "YQ=="}},
        {"inlineData": {"mimeType": "application/pdf", "data": "YQ==", "displayName": "a.pdf"}},
        {"fileData": {"mimeType": "image/png", "fileUri": "https://x/a.png"}},
        {"fileData": {"fileUri": "files/a"}},
    )
    assert chat["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,a+/b"}},
        {"type": "input_audio", "input_audio": {"data": "YQ==", "format": "mp3"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,YQ=="}},
        {"type": "image_url", "image_url": {"url": "https://x/a.png"}},
        {"type": "file", "file": {"file_id": "files/a"}},
    ]


def test_results_find_their_calls_by_id_else_by_name_in_order() -> None:
    calls = [
        {"functionCall": {"name": "f"}},
        {"functionCall": {"name": "f"}},
        {"functionCall": {"name": "g", "id": "x"}},
    ]
    results: list[Any] = [
        {"functionResponse": {"name": "g", "id": "x", "response": {"output": "third"}}},
        {"functionResponse": {"name": "f", "response": {"result": "first"}}},
        {"functionResponse": {"name": "f", "response": {"error": "no"},
                              "parts": [{"inlineData": {"mimeType": "image/png", "data": "YQ=="}}]}},
    ]  # fmt: skip
    body = {"contents": [{"role": "user", "parts": [{"text": "a"}]}, {"role": "model", "parts": calls},
                         {"role": "user", "parts": results}]}  # fmt: skip
    messages = as_chat("a", body, streamed=False)["messages"]
    assert [call["id"] for call in messages[1]["tool_calls"]] == ["call_1", "call_2", "x"]
    assert [(each.get("tool_call_id"), each["content"]) for each in messages[2:5]] == [
        ("x", "third"), ("call_1", "first"), ("call_2", '{"error": "no"}'),
    ]  # fmt: skip
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,YQ=="}}
    assert messages[5] == {"role": "user", "content": [picture]}


def test_what_chat_has_no_word_for_is_named() -> None:
    body = {
        "contents": [],
        "labels": {"a": "b"},
        "safetySettings": [],
        "tools": [{"functionDeclarations": [], "googleSearch": {}}, {"codeExecution": {}}],
        "generationConfig": {"topK": 1, "imageConfig": {}, "responseMimeType": "text/x.enum"},
        "fieldOfTomorrow": 1,
    }
    assert left_out(body) == (
        "fieldOfTomorrow", "generationConfig.imageConfig", "generationConfig.responseMimeType", "safetySettings",
        "tools[0].googleSearch", "tools[1].codeExecution",
    )  # fmt: skip


def test_what_is_the_clients_own_keeps_its_spelling() -> None:
    own = {"snake_case": {"inner_name": None}}
    body = {
        "contents": [
            {"parts": [{"function_call": {"name": "f", "args": own}, "thought_signature": "s"}]},
            {"parts": [{"function_response": {"name": "f", "response": own}}]},
        ],
        "tools": [{"function_declarations": [{"name": "f", "parameters_json_schema": own, "parameters": own}]}],
        "labels": own,
        "cached_content": None,
    }
    assert in_camel_case(body, GENERATE) == {
        "contents": [
            {"parts": [{"functionCall": {"name": "f", "args": own}, "thoughtSignature": "s"}]},
            {"parts": [{"functionResponse": {"name": "f", "response": own}}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": own, "parameters": own}]}],
        "labels": own,
    }


def test_a_field_under_both_of_its_names_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        in_camel_case({"generationConfig": {"topK": 1, "top_k": 2}}, GENERATE)
    assert refused.value.param == "generationConfig.topK"
