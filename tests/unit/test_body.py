"""What a body may consist of, before anybody parses it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.api.body import MAX_COMMAS, MAX_CONTAINERS, MAX_NAMES, _has_too_many, _without_strings, parse_json
from routing.endpoints.chat.request import parse_chat
from routing.endpoints.fields import MAX_CALLS_A_MESSAGE, MAX_MESSAGES, MAX_PARTS, MAX_TOOLS
from routing.endpoints.messages.request import parse_messages
from routing.exceptions import InvalidRequest
from tests.clocks import within

TEXT_OF_CODE = 'if (a[0] == {"b": [1, 2]}) { say("\\\\", \'"\'); }\n'
VALUES = st.recursive(
    st.none() | st.integers() | st.text(alphabet='{}[],:"\\ a\n'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='{}[],:"\\ a\n'), inner),
)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" + b",".join([b"{}"] * 6_600_000) + b"]",
        b"[" + b",".join([b"1"] * 9_000_000) + b"]",
        b'["a"' + b',"a"' * 4_000_000 + b"]",
        b'"a"' * 6_000_000,
        b"{" + b",".join(b'"%d":1' % number for number in range(1_500_000)) + b"}",
        b'["' + rb"\"" * 9_000_000 + b'"' + b",{}" * 200_000 + b"]",
    ],
    ids=["objects", "numbers", "texts", "no json", "names", "behind a text"],
)
def test_a_body_of_many_small_values_is_refused_before_it_is_parsed(raw: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidRequest, match=f"at most {MAX_CONTAINERS} objects and arrays") as refusal:
        parse_json(raw)
    assert (refusal.value.status, refusal.value.code) == (400, "invalid_value")
    assert within(time.monotonic() - began, 1)


@pytest.mark.parametrize("text", [TEXT_OF_CODE * 100_000, json.dumps([{"a": 1}] * 300_000), "{[,:" * 2_000_000])
def test_a_text_that_is_full_of_braces_is_one_text(text: str) -> None:
    raw = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    assert parse_json(raw)["messages"][0]["content"] == text


@given(VALUES)
def test_what_is_in_texts_does_not_count(value: Any) -> None:
    """Of any JSON, what is left has its structure and nothing of its texts."""
    left = _without_strings(json.dumps(value).encode())
    plain = json.dumps(_with_empty_texts(value)).encode()
    for sign in b"{[,:":
        assert left.count(sign) == plain.count(sign)


def _with_empty_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(at): _with_empty_texts(inner) for at, inner in enumerate(value.values())}
    if isinstance(value, list):
        return [_with_empty_texts(inner) for inner in value]
    return "" if isinstance(value, str) else value


def test_what_a_large_agent_sends_is_not_too_much() -> None:
    conversation = [{"role": "user", "content": [{"type": "text", "text": "a, b: {c}"}] * 2}] * 4_900
    tools = [
        {"type": "function", "function": {"name": f"f{number}", "parameters": {"type": "object", "properties": {
            f"p{field}": {"type": "string", "description": "what it is"} for field in range(50)}}}}
        for number in range(600)
    ]  # fmt: skip
    raw = json.dumps({"model": "m", "messages": conversation, "tools": tools}).encode()
    assert not _has_too_many(raw)
    assert not _has_too_many(b"[" + b"1," * (MAX_COMMAS - 1) + b"1]")
    assert MAX_NAMES > 100_000
    parse_chat(parse_json(raw))


USER = {"role": "user", "content": "Hello"}
PART = {"type": "text", "text": ""}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("body", "param", "cure"),
    [
        ({"messages": [USER] * (MAX_MESSAGES + 1)}, "messages", "10000 messages at the most, and there are 10001"),
        ({"messages": [{"role": "user", "content": [PART] * (MAX_PARTS + 1)}]}, "messages", "10000 content parts"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": [CALL] * (MAX_CALLS_A_MESSAGE + 1)}]},
         "messages[1].tool_calls", "128 tool calls in a message"),
        ({"messages": [{"role": "assistant", "tool_calls": [CALL] * 100}] * 51}, "messages", "5000 tool calls in all"),
        ({"messages": [USER], "tools": [{}] * (MAX_TOOLS + 1)}, "tools", "1000 tools at the most"),
        ({"messages": [USER], "functions": [{}] * (MAX_TOOLS + 1)}, "functions", "1000 functions"),
    ],
    ids=["messages", "parts", "calls of a message", "calls", "tools", "functions"],
)  # fmt: skip
def test_a_conversation_has_bounds_that_are_named(body: dict[str, Any], param: str, cure: str) -> None:
    with pytest.raises(InvalidRequest, match=cure) as refusal:
        parse_chat({"model": "m", **body})
    assert (refusal.value.param, refusal.value.status) == (param, 400)


def test_a_conversation_in_anthropics_words_has_the_same_bounds() -> None:
    calls = [{"type": "tool_use", "id": f"toolu_{number}", "name": "f", "input": {}} for number in range(129)]
    for body in (
        {"messages": [USER] * (MAX_MESSAGES + 1)},
        {"messages": [USER], "tools": [{}] * (MAX_TOOLS + 1)},
        {"messages": [USER, {"role": "assistant", "content": calls}]},
        {"messages": [{"role": "user", "content": [PART] * (MAX_PARTS + 1)}]},
    ):
        with pytest.raises(InvalidRequest, match="at the most"):
            parse_messages({"model": "m", "max_tokens": 5, **body})
