"""A text that is put into the other format without litellm is there as litellm puts it: all kinds of conversations and
of events, both ways."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from routing.upstreams import frames
from routing.upstreams.base import Json, UpstreamError
from routing.upstreams.formats.anthropic import Anthropic
from routing.upstreams.formats.gemini import Gemini
from routing.upstreams.formats.wire import Prepared, WireFormat
from routing.upstreams.frames import _frame, by_litellm, prepare
from routing.upstreams.http.events import replayed
from routing.upstreams.http.transport import Whole
from routing.upstreams.plain_conversations import MAX_PARAMETERS_BYTES, conversation_of, parameters_of
from routing.upstreams.provider_json import dumps
from routing.upstreams.streams import LiveStream
from routing.upstreams.translate import _read_whole
from routing.upstreams.translated import Translated
from tests.wire.upstream_calls import HELLO, call

TEXTS = st.sampled_from(["Hello", " ", "\n", "", "{", "ü\u2028", "\ud800", "data:audio/wav;base64,UklG", None, 7])


class ByLitellm:
    """The same format, every event of which litellm reads."""

    def plain_text(self, event: Json) -> str | None:
        return None

    def plain_rest(self, event: Json) -> None:
        return None

    def plain_usage(self, counts: Sequence[Json]) -> None:
        return None

    def plain_answer(self, answer: Json, prepared: Prepared, model: str, tier: str | None) -> Json | None:
        return None


class AnthropicByLitellm(ByLitellm, Anthropic):
    pass


class GeminiByLitellm(ByLitellm, Gemini):
    pass


def played(wire: WireFormat, prepared: Prepared, events: list[Json], provider: str) -> tuple[list[Json], Any, Any]:
    body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
    source = Translated(replayed(Whole(200, {}, body)), wire, prepared, call("http://x", provider=provider))
    stream, chunks, failure = LiveStream(source), [], None
    try:
        for chunk in stream:
            chunks.append({**chunk, "id": "", "created": 0})  # noqa: PERF401  what came before it fails counts
    except UpstreamError as error:
        failure = (error.kind, error.message, error.consumed)
    return chunks, failure, (stream.usage, stream.service_tier)


class Kinds:
    """Values as ordinary answers have them, or odd ones among them."""

    def __init__(self, *, odd: bool) -> None:
        self.are_odd = odd
        self.counts = self.of(0, 1, 7, 20, odd=[100_000_001, -1, None, "7", 7.0, True])
        self.said = self.of("Hello", " ", "ü\u2028", odd=["", "data:audio/wav;base64,UklGRg==", "\ud800", None, 7])

    def of(self, *plain: Any, odd: list[Any]) -> st.SearchStrategy[Any]:
        return st.sampled_from([*plain, *odd] if self.are_odd else plain)

    def fields(self, wanted: dict[str, Any], optional: dict[str, Any], odd: dict[str, Any]) -> st.SearchStrategy[Json]:
        """Objects with these fields in any order; odd ones may lack any, and have others."""
        of = (
            st.fixed_dictionaries({}, optional={**wanted, **optional, **odd, "more": st.just([1])})
            if self.are_odd
            else st.fixed_dictionaries(wanted, optional=optional)
        )
        return of.flatmap(lambda value: st.permutations(list(value.items())).map(dict))


def anthropic_events(begin: Json, blocks: list[tuple[Json, list[Json]]], end: Json, length: int) -> list[Json]:
    events: list[Json] = [{"type": "message_start", "message": begin}, {"type": "ping"}]
    for index, (block, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    return [*events, {"type": "message_delta", **end}, {"type": "message_stop"}][:length]


A_DELTAS = st.one_of(
    st.builds(lambda text: {"type": "text_delta", "text": text}, TEXTS),
    st.builds(lambda text: {"type": "text_delta", "text": text, "more": 1}, TEXTS),
    st.just({"type": "thinking_delta", "thinking": "hm"}),
    st.just({"type": "signature_delta", "signature": "abc"}),
    st.just({"type": "input_json_delta", "partial_json": '{"a'}),
    st.just({"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "x"}}),
)
A_BLOCKS = [
    {"type": "text", "text": ""},
    {"type": "text", "text": "Well, "},
    {"type": "thinking", "thinking": ""},
    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
]


def claudes_streams(kinds: Kinds) -> st.SearchStrategy[list[Json]]:
    counts, of, fields = kinds.counts, kinds.of, kinds.fields
    usage = {"cache_read_input_tokens": st.one_of(st.none(), counts), "service_tier": of("standard", None, odd=[7])}
    begin = fields(
        {
            "content": of([], odd=[None]),
            "usage": fields({"input_tokens": counts, "output_tokens": counts}, usage, {}),
            "model": st.just("claude"),
        },
        {"stop_reason": st.none(), "stop_details": st.none(), "id": st.just("msg_1")},
        {"input_transformations": st.just([]), "usage": st.none()},
    )
    end = fields(
        {
            "delta": fields(
                {"stop_reason": of("end_turn", "max_tokens", odd=["tool_use", "refusal", "pause_turn", None])},
                {"stop_sequence": st.sampled_from([None, "END"]), "stop_details": of(None, odd=[{"type": "refusal"}])},
                {"container": st.just({"id": "c_1"})},
            ),
            "usage": fields({"output_tokens": counts}, {**usage, "input_tokens": counts}, {"usage": st.none()}),
        },
        {},
        {"context_management": st.just({"applied_edits": []})},
    )
    mixed = st.lists(st.tuples(st.sampled_from(A_BLOCKS), st.lists(A_DELTAS, max_size=4)), max_size=3)
    delta = st.builds(lambda text: {"type": "text_delta", "text": text}, kinds.said)
    texts = st.lists(st.tuples(st.just(A_BLOCKS[0]), st.lists(delta, max_size=4)), max_size=2)
    blocks = st.one_of(mixed, texts)
    return st.builds(anthropic_events, begin, blocks, end, st.one_of(st.just(99), st.integers(0, 9)))


PARTS = st.one_of(
    st.builds(lambda text: {"text": text}, TEXTS),
    st.builds(lambda text: {"text": text, "thought": True}, TEXTS),
    st.builds(lambda text: {"text": text, "thoughtSignature": "abc"}, TEXTS),
    st.just({"functionCall": {"name": "weather", "args": {"city": "Rome"}}}),
    st.just({"inlineData": {"mimeType": "image/png", "data": "AA=="}}),
)
CANDIDATES = st.fixed_dictionaries(
    {
        "content": st.fixed_dictionaries(
            {"parts": st.lists(PARTS, min_size=1, max_size=2)}, optional={"role": st.just("model")}
        )
    },
    optional={
        "index": st.sampled_from([0, 0, 1]),
        "finishReason": st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY"]),
        "safetyRatings": st.just([{"category": "HARM_CATEGORY_HARASSMENT", "probability": "LOW"}]),
        "avgLogprobs": st.just(-0.1),
        "groundingMetadata": st.just({"webSearchQueries": ["x"]}),
    },
)
USAGES = [
    {
        "promptTokenCount": 4,
        "candidatesTokenCount": 2,
        "totalTokenCount": 6,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 4}],
    },
    {"promptTokenCount": 4, "totalTokenCount": 4, "serviceTier": "priority"},
    {
        "promptTokenCount": 9,
        "candidatesTokenCount": 2,
        "totalTokenCount": 14,
        "thoughtsTokenCount": 3,
        "cachedContentTokenCount": 5,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 9}],
    },
]
FRAME = {
    "usageMetadata": st.sampled_from(USAGES),
    "modelVersion": st.just("gemini-2.5-pro"),
    "responseId": st.sampled_from(["r-1", "r-1", None]),
    "createTime": st.just("2026-01-01T00:00:00Z"),
}
G_EVENTS = st.fixed_dictionaries({"candidates": st.lists(CANDIDATES, min_size=1, max_size=2)}, optional=FRAME)
G_ENDS = st.builds(
    lambda candidate, frame: {"candidates": [{**candidate, "index": 0}], **frame},
    st.fixed_dictionaries(
        {"finishReason": st.sampled_from(["STOP", "STOP", "MAX_TOKENS", "SAFETY", "MALFORMED_FUNCTION_CALL", ""])},
        optional={
            "content": st.sampled_from(
                [{"parts": [{"text": text}], "role": "model"} for text in ("", "Bye", "data:audio/wav;base64,UklG")]
                + [{"role": "model"}, {}, {"parts": []}, {"parts": [{"text": None}]}]
            ),
            "safetyRatings": st.just([]),
        },
    ),
    st.fixed_dictionaries({}, optional=FRAME),
)
G_TEXTS = st.builds(
    lambda text, frame: {
        "candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}],
        **frame,
    },
    st.sampled_from(["Hello", " ", "ü", "data:audio/wav;base64,UklG"]),
    st.fixed_dictionaries({}, optional={name: FRAME[name] for name in ("usageMetadata", "responseId")}),
)
G_STREAMS = st.builds(
    lambda events, ends: [*events, *ends],
    st.one_of(st.lists(G_EVENTS, max_size=4), st.lists(G_TEXTS, max_size=4)),
    st.lists(G_ENDS, max_size=1),
)
FORMATS: dict[str, tuple[WireFormat, WireFormat]] = {
    "anthropic": (Anthropic(), AnthropicByLitellm()),
    "gemini": (Gemini(), GeminiByLitellm()),
}
BODIES: dict[str, Json] = {
    "plain": {**HELLO},
    "schema": {**HELLO, "response_format": {"type": "json_object"}},
    "functions": {**HELLO, "functions": [{"name": "weather", "parameters": {"type": "object", "properties": {}}}]},
}


@pytest.mark.parametrize("body", BODIES)
@settings(max_examples=60, deadline=None)
@given(events=st.one_of(claudes_streams(Kinds(odd=False)), claudes_streams(Kinds(odd=True))))
def test_claudes_text_is_read_as_litellm_reads_it(body: str, events: list[Json]) -> None:
    _same("anthropic", BODIES[body], events)


@pytest.mark.parametrize("body", BODIES)
@settings(max_examples=60, deadline=None)
@given(events=G_STREAMS)
@example(
    events=[
        {
            "candidates": [
                {"content": {"parts": [{"text": "data:audio/wav;base64,UklG"}]}, "finishReason": "STOP", "index": 0}
            ],
            "responseId": "r-1",
            "usageMetadata": USAGES[0],
        }
    ]
)
def test_geminis_text_is_read_as_litellm_reads_it(body: str, events: list[Json]) -> None:
    _same("gemini", BODIES[body], events)


def _same(provider: str, body: Json, events: list[Json]) -> None:
    ours, litellms = FORMATS[provider]
    prepared = prepare(ours, call("http://x", body, provider=provider), streamed=True)
    found = [played(wire, prepared, json.loads(json.dumps(events)), provider) for wire in (ours, litellms)]
    for chunks, _, _ in found:
        for chunk in chunks:
            for choice in chunk["choices"]:
                for named in choice["delta"].get("tool_calls") or ():
                    named.pop("id", None)  # litellm draws one for Gemini's calls
    assert json.dumps(found[0][0]) == json.dumps(found[1][0])
    assert found[0][1:] == found[1][1:]


def test_most_of_an_ordinary_answer_is_plain_text() -> None:
    text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}
    assert Anthropic().plain_text(text) == "Hello"
    event = {
        "candidates": [{"content": {"parts": [{"text": "Hello"}], "role": "model"}, "index": 0}],
        "usageMetadata": {"promptTokenCount": 4},
        "modelVersion": "gemini-2.5-pro",
        "responseId": "r-1",
    }
    assert Gemini().plain_text(event) == "Hello"


# --- whole answers -------------------------------------------------------------------------------------------------


def claudes_answers(kinds: Kinds) -> st.SearchStrategy[Json]:
    counts, of, fields = kinds.counts, kinds.of, kinds.fields
    lifetimes = {"ephemeral_5m_input_tokens": counts, "ephemeral_1h_input_tokens": counts}
    usage = fields(
        {"input_tokens": counts, "output_tokens": counts},
        {
            "cache_creation_input_tokens": st.one_of(st.none(), counts),
            "cache_read_input_tokens": st.one_of(st.none(), counts),
            "cache_creation": st.one_of(st.none(), fields(lifetimes, {}, {})),
            "output_tokens_details": st.one_of(st.none(), fields({"thinking_tokens": counts}, {}, {})),
            "server_tool_use": of(None, odd=[{"web_search_requests": 2}]),
            "service_tier": of("standard", "priority", None, odd=["", 7]),
            "inference_geo": of("us", "not_available", None, odd=["", 7]),
        },
        {"speed": st.just("fast"), "iterations": st.just([{"input_tokens": 3, "output_tokens": 4}])},
    )
    text = fields({"type": st.just("text"), "text": kinds.said}, {}, {"citations": st.sampled_from([None, []])})
    others = st.sampled_from(
        [
            {"type": "thinking", "thinking": "hm", "signature": "abc"},
            {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
        ]
    )
    return fields(
        {
            "type": st.just("message"),
            "model": of("claude", odd=[None]),
            "content": st.lists(text, min_size=1, max_size=1),
            "stop_reason": of("end_turn", "stop_sequence", "max_tokens", odd=["tool_use", "refusal", "odd", None, []]),
            "usage": usage,
        },
        {
            "id": of("msg_1", odd=[None]),
            "role": st.just("assistant"),
            "stop_sequence": st.sampled_from([None, "END"]),
            "container": of(None, odd=[{"id": "c_1"}]),
            "context_management": of(None, odd=[{"applied_edits": []}]),
            "stop_details": of(None, odd=[{"type": "refusal"}]),
        },
        {
            "error": st.just({"type": "overloaded_error", "message": "Overloaded"}),
            "content": st.lists(st.one_of(text, others), max_size=2),
        },
    )


def geminis_answers(kinds: Kinds) -> st.SearchStrategy[Json]:
    counts, of, fields = kinds.counts, kinds.of, kinds.fields
    detail = fields({"modality": of("TEXT", odd=["AUDIO", "IMAGE"]), "tokenCount": counts}, {}, {})
    details = st.lists(detail, min_size=1, max_size=1)
    usage = fields(
        {
            "promptTokenCount": counts,
            "candidatesTokenCount": counts,
            "totalTokenCount": st.one_of(counts, st.sampled_from([8, 14, 27, 40])),
            "promptTokensDetails": details,
        },
        {
            "thoughtsTokenCount": counts,
            "cachedContentTokenCount": counts,
            "candidatesTokensDetails": details,
            "cacheTokensDetails": details,
            "serviceTier": of("standard", "priority", odd=[None]),
        },
        {"toolUsePromptTokenCount": counts, "promptTokensDetails": st.lists(detail, max_size=2)},
    )
    parts = st.lists(st.builds(lambda text: {"text": text}, kinds.said), min_size=1, max_size=1)
    candidate = fields(
        {
            "content": fields(
                {"parts": parts}, {"role": st.just("model")}, {"parts": st.one_of(st.none(), st.lists(PARTS))}
            ),
            "finishReason": of("STOP", "MAX_TOKENS", odd=["SAFETY", "ODD", None]),
        },
        {"index": of(0, odd=[1, None]), "avgLogprobs": st.just(-0.1)},
        {"safetyRatings": st.just([])},
    )
    return fields(
        {
            "candidates": st.lists(candidate, min_size=1, max_size=1),
            "usageMetadata": usage,
            "modelVersion": of("gemini-2.5-pro", odd=["", None]),
            "responseId": of("r-1", odd=["", None]),
        },
        {},
        {"createTime": st.just("2026-01-01T00:00:00Z"), "candidates": st.lists(candidate, max_size=2)},
    )


PLAIN, ODD = Kinds(odd=False), Kinds(odd=True)
CLAUDES_ANSWERS = st.one_of(claudes_answers(PLAIN), claudes_answers(ODD))
GEMINIS_ANSWERS = st.one_of(geminis_answers(PLAIN), geminis_answers(ODD))
ASKED: dict[str, Json] = {
    **BODIES,
    "begun": {**HELLO, "messages": [*HELLO["messages"], {"role": "assistant", "content": "I say", "prefix": True}]},
    "fast": {**HELLO, "model": "alias", "speed": "fast"},
}


def read_by(wire: WireFormat, provider: str, body: Json, answer: Json, headers: dict[str, str]) -> Any:
    # The newest Claudes go on with no answer that was begun.
    request = call("http://x", body, provider=provider, model="claude-sonnet-4-5" if body is ASKED["begun"] else None)
    prepared = prepare(wire, request, streamed=False)
    try:
        whole = _read_whole(wire, prepared, Whole(200, headers, json.dumps(answer).encode()), request)
    except UpstreamError as error:
        return error.kind, error.message, error.usage, error.consumed
    told = json.dumps({**whole.body, "created": 0})
    told = re.sub(r'"id": "((chatcmpl|call)[-_])?[0-9a-f-]{24,}"|"expires_at": \d+', "", told)  # drawn for each
    return told, whole.usage, whole.service_tier, whole.http_status, whole.dropped_params


@pytest.mark.parametrize("body", ASKED)
@settings(max_examples=150, deadline=None)
@given(answer=CLAUDES_ANSWERS)
def test_claudes_whole_answer_is_read_as_litellm_reads_it(body: str, answer: Json) -> None:
    found = [read_by(wire, "anthropic", ASKED[body], answer, {}) for wire in FORMATS["anthropic"]]
    assert found[0] == found[1]


@pytest.mark.parametrize("body", BODIES)
@settings(max_examples=150, deadline=None)
@given(
    answer=GEMINIS_ANSWERS,
    headers=st.sampled_from([{}, {"x-gemini-service-tier": "standard"}, {"x-gemini-service-tier": "PRIORITY"}]),
)
def test_geminis_whole_answer_is_read_as_litellm_reads_it(body: str, answer: Json, headers: dict[str, str]) -> None:
    found = [read_by(wire, "gemini", BODIES[body], answer, headers) for wire in FORMATS["gemini"]]
    assert found[0] == found[1]


CLAUDES = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-6",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "stop_details": None,
    "container": None,
    "usage": {
        "input_tokens": 3,
        "cache_creation_input_tokens": 34,
        "cache_read_input_tokens": 9,
        "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 4},
        "output_tokens": 3,
        "output_tokens_details": {"thinking_tokens": 0},
        "service_tier": "standard",
        "inference_geo": "not_available",
    },
}
GEMINIS = {
    "candidates": [
        {
            "content": {"parts": [{"text": "Hello"}], "role": "model"},
            "finishReason": "STOP",
            "index": 0,
            "avgLogprobs": -0.1,
        }
    ],
    "usageMetadata": {
        "promptTokenCount": 844,
        "candidatesTokenCount": 46,
        "totalTokenCount": 2040,
        "cachedContentTokenCount": 500,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 844}],
        "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 500}],
        "thoughtsTokenCount": 1150,
        "serviceTier": "standard",
    },
    "modelVersion": "gemini-2.5-pro",
    "responseId": "r-1",
}


def test_an_ordinary_answer_is_read_without_litellm() -> None:
    for provider, answer in (("anthropic", CLAUDES), ("gemini", GEMINIS)):
        wire, _ = FORMATS[provider]
        prepared = prepare(wire, call("http://x", provider=provider), streamed=False)
        assert wire.plain_answer(answer, prepared, "m", None) is not None
        found = [read_by(wire, provider, HELLO, answer, {}) for wire in FORMATS[provider]]
        assert found[0] == found[1]


# --- requests ------------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(["Hello", " and\n", " ", "", "{", "\u0085", "ü\u2028", "\ud800", None, 7])
CONTENTS = st.one_of(
    WORDS,
    st.lists(st.builds(lambda text: {"type": "text", "text": text}, WORDS), max_size=3),
    st.just([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]),
    st.just([{"type": "refusal", "refusal": "x"}]),
    st.just([{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]),
)
MESSAGES = st.lists(
    st.one_of(
        st.builds(
            lambda role, content: {"role": role, "content": content},
            st.sampled_from(["system", "developer", "user", "user", "assistant", "tool", "critic", None]),
            CONTENTS,
        ),
        st.builds(lambda text: {"role": "user", "content": text, "name": "Ann"}, WORDS),
        st.just({"role": "assistant", "content": "x", "refusal": None}),
        st.just({"role": "user"}),
    ),
    max_size=6,
)
#: Half of all conversations are plain ones.
PLAIN_WORDS = st.sampled_from(["Hello", " and\n", "{", "ü\u2028", "\ud800"])
PLAIN_CONTENTS = st.one_of(
    PLAIN_WORDS, st.lists(st.builds(lambda text: {"type": "text", "text": text}, PLAIN_WORDS), min_size=1, max_size=2)
)
PLAIN_MESSAGES = st.builds(
    lambda system, turns, last: [
        *({"role": role, "content": text} for role, text in system),
        *({"role": role, "content": content} for role, content in [("user", last), *turns, ("user", last)]),
    ],
    st.lists(st.tuples(st.sampled_from(["system", "developer"]), PLAIN_WORDS), max_size=2),
    st.lists(st.tuples(st.sampled_from(["user", "assistant"]), PLAIN_CONTENTS), max_size=3),
    PLAIN_CONTENTS,
)
PARAMETERS = st.sampled_from(
    [
        {},
        {"temperature": 0.2},
        {"temperature": 1, "top_p": 0.9},
        {"temperature": True},
        {"stop": ["END", " "]},
        {"response_format": {"type": "json_object"}},
        {"reasoning_effort": "low"},
        {"frequency_penalty": None, "metadata": {"team": "a"}},
        {"tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]},
        {"functions": [{"name": "weather"}]},
        {"user": "u-1", "seed": 5},
        {"user": "ann@example.com"},
    ]
)
MODELS = {
    "anthropic": ["claude-sonnet-4-6", "claude-3-haiku-20240307", "claude-opus-4-8"],
    "gemini": ["gemini-2.5-pro", "gemini-3-pro-preview", "gemma-3-27b-it"],
}


@pytest.mark.parametrize("provider", MODELS)
@settings(max_examples=150, deadline=None)
@given(
    messages=st.one_of(MESSAGES, PLAIN_MESSAGES),
    parameters=PARAMETERS,
    number=st.integers(0, 2),
    streamed=st.booleans(),
)
def test_a_conversation_is_told_as_litellm_tells_it(
    provider: str, messages: list[Json], parameters: Json, number: int, streamed: bool
) -> None:
    wire, _ = FORMATS[provider]
    body = {"model": "alias", "messages": messages, "max_tokens": 9000, **parameters}
    sent: list[tuple[Any, ...]] = []
    for write in (prepare, by_litellm):
        try:
            asked = call("http://x", json.loads(json.dumps(body)), provider=provider, model=MODELS[provider][number])
            prepared = write(wire, asked, streamed=streamed)
        except UpstreamError as error:
            sent.append((error.kind, error.message, error.param))
        else:
            assert asked.body == body, "the request is sent again by further attempts"
            text = json.dumps([prepared.url, dict(prepared.headers), prepared.body])
            sent.append((text, prepared.dropped, prepared.calls_functions))
    assert sent[0] == sent[1]


@pytest.mark.parametrize("provider", MODELS)
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "Be brief."}]])
def test_an_ordinary_conversation_is_told_without_litellm(provider: str, streamed: bool, system: list[Json]) -> None:
    wire, _ = FORMATS[provider]
    _frame.cache_clear()
    for question in ("Hello?", "And then?"):
        body = {**HELLO, "messages": [*system, {"role": "user", "content": question}], "temperature": 0.5}
        prepare(wire, call("http://x", body, provider=provider), streamed=streamed)
    found = _frame.cache_info()
    assert (found.hits, found.misses) == (1, 1)
    prepare(wire, call("http://x", HELLO, provider=provider, api_key="sk-another"), streamed=streamed)
    assert _frame.cache_info().misses == 2, "a frame has the key that it was made with"


def test_frames_are_for_requests_that_may_come_again() -> None:
    assert parameters_of({"model": "m", "messages": [], "stream": True, "temperature": 1}) == b'{"temperature":1}'
    assert parameters_of({"temperature": 1.0}) != parameters_of({"temperature": 1})
    assert parameters_of({"stop": "x" * MAX_PARAMETERS_BYTES}) is None
    assert parameters_of({"top_p": float("nan")}) is None


def test_frames_for_end_users_push_out_no_others() -> None:
    wire, _ = FORMATS["anthropic"]
    kept = _frame.cache_info().currsize
    found = []
    for user in ("u-1", "u-2", "u-1"):
        asked = call("http://x", {**HELLO, "user": user}, provider="anthropic")
        found.append(prepare(wire, asked, streamed=False).body["metadata"]["user_id"])
    assert found == ["u-1", "u-2", "u-1"]
    assert _frame.cache_info().currsize == kept


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "assistant", "content": "x"}, {"role": "user", "content": "x"}],
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}],
        [{"role": "user", "content": "x"}, {"role": "system", "content": "x"}, {"role": "user", "content": "x"}],
        [{"role": "user", "content": "x", "name": "Ann"}],
        [{"role": "user", "content": " \u0085\n"}],
        [{"role": "system", "content": "x"}],
        [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}],
    ],
)
def test_litellm_tells_what_is_no_plain_conversation(messages: list[Json]) -> None:
    assert conversation_of({"messages": messages}) is None


@pytest.mark.parametrize("provider", ["anthropic", "gemini"])
def test_the_way_back_asks_litellm_about_plain_text_too(monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    request, wire = call("http://x", {**HELLO, "max_tokens": 918}, provider=provider), FORMATS[provider][0]
    short = prepare(wire, request, streamed=False)
    monkeypatch.setattr(frames, "IS_SHORT", False)
    remembered = frames._frame.cache_info()
    assert dumps(prepare(wire, request, streamed=False).body) == dumps(short.body)
    assert frames._frame.cache_info() == remembered
