"""What Gemini answers in its own words is read as litellm reads it: its count, its cost, its content and its end."""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest

from accounting.pricing import cost_usd
from accounting.usage import Usage
from routing.upstreams import gemini_contents, litellm_import, price_map
from routing.upstreams.base import QUIET, Deployment, FailureKind, UpstreamError, UpstreamRequest
from routing.upstreams.extras import with_fees
from routing.upstreams.usage import usage_of, usage_of_contents
from tests.wire.upstream_calls import KEY, PATIENT, SSE_HEAD, Raw

JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
ASKED: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": "Say hello"}]}]}
COUNTED = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
TEXT_OF_10 = [{"modality": "TEXT", "tokenCount": 10}]
TEXT_OF_100 = [{"modality": "TEXT", "tokenCount": 100}]
#: By what it is of: an answer's count, and what it was grounded in.
COUNTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "plain": (COUNTED, []),
    "input alone": ({"promptTokenCount": 10, "totalTokenCount": 10}, []),
    "thoughts beside the answer": ({**COUNTED, "thoughtsTokenCount": 7, "totalTokenCount": 22}, []),
    "thoughts in the answer": ({**COUNTED, "thoughtsTokenCount": 3}, []),
    "thoughts alone": ({"promptTokenCount": 10, "thoughtsTokenCount": 7, "totalTokenCount": 17}, []),
    "cached": (
        {
            "promptTokenCount": 100,
            "candidatesTokenCount": 5,
            "cachedContentTokenCount": 60,
            "totalTokenCount": 105,
            "promptTokensDetails": TEXT_OF_100,
            "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 60}],
        },
        [],
    ),
    "sound": (
        {
            "promptTokenCount": 100,
            "candidatesTokenCount": 5,
            "totalTokenCount": 105,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 60}, {"modality": "AUDIO", "tokenCount": 40}],
        },
        [],
    ),
    "what a tool of Google's has read": (
        {**COUNTED, "toolUsePromptTokenCount": 50, "totalTokenCount": 65, "promptTokensDetails": TEXT_OF_10},
        [],
    ),
    "what a search has found": (
        {**COUNTED, "toolUsePromptTokenCount": 50, "totalTokenCount": 65},
        ["weather", "rain", "rain"],
    ),
    "sound from the cache": (
        {
            "promptTokenCount": 1000,
            "cachedContentTokenCount": 600,
            "candidatesTokenCount": 50,
            "totalTokenCount": 1050,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 900},
                {"modality": "AUDIO", "tokenCount": 100},
            ],
            "cacheTokensDetails": [
                {"modality": "TEXT", "tokenCount": 540},
                {"modality": "AUDIO", "tokenCount": 60},
            ],
        },
        [],
    ),
    "a picture made": (
        {
            "promptTokenCount": 10,
            "candidatesTokenCount": 1300,
            "totalTokenCount": 1310,
            "candidatesTokensDetails": [
                {"modality": "TEXT", "tokenCount": 10},
                {"modality": "IMAGE", "tokenCount": 1290},
            ],
        },
        [],
    ),
}


def answer_with(count: dict[str, Any], queries: list[str]) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}
    if queries:
        candidate["groundingMetadata"] = {"webSearchQueries": queries, "groundingChunks": [{"web": {"uri": "u"}}]}
    return {"candidates": [candidate], "usageMetadata": count}


@pytest.mark.parametrize("name", COUNTS)
def test_a_count_is_read_and_billed_as_litellm_does(name: str) -> None:
    litellm = litellm_import.load()
    answer = answer_with(*COUNTS[name])
    theirs = litellm.VertexGeminiConfig._calculate_usage(answer)
    grounded = [each["groundingMetadata"] for each in answer["candidates"] if "groundingMetadata" in each]
    litellm.VertexGeminiConfig._set_grounding_usage_counters(theirs, grounded)
    ours = usage_of_contents(answer)
    assert ours is not None
    assert ours == usage_of(theirs.model_dump(exclude_none=True))
    assert ours.quantities == usage_of(theirs.model_dump(exclude_none=True)).quantities  # type: ignore[union-attr]
    model = "gemini-2.5-flash-image" if "picture" in name else "gemini-2.5-flash"
    prices = price_map.price_of("gemini", model)
    assert prices is not None
    cost = cost_usd(with_fees(ours, Deployment("p", "gemini", model, None, PATIENT), {}), prices)
    said = litellm.ModelResponse(model=model, usage=theirs)
    expected = litellm.completion_cost(said, model=model, custom_llm_provider="gemini")
    assert cost == Decimal(str(expected)).quantize(Decimal("1e-12"))


@pytest.mark.parametrize("count", [None, {}, {"promptTokenCount": "many"}, {"promptTokenCount": 10**12}, 5])
def test_no_count_is_none(count: Any) -> None:
    assert usage_of_contents({"usageMetadata": count}) is None


# --- answers ---------------------------------------------------------------------------------------------------------


def request_to(server: Raw, body: dict[str, Any]) -> UpstreamRequest:
    base_url = server.url.removesuffix("/v1/chat/completions")
    return UpstreamRequest(Deployment("p", "gemini", "gemini-2.5-pro", base_url, PATIENT), KEY, body, PATIENT)


def whole(answer: Any, **asked: Any) -> Any:
    with Raw(JSON_HEAD, answer if isinstance(answer, bytes) else json.dumps(answer).encode()) as server:
        return gemini_contents.ask(request_to(server, {**ASKED, **asked}))


def streamed(*events: Any, **asked: Any) -> tuple[list[dict[str, Any]], Usage | None]:
    body = b"".join(
        b"data: " + (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\r\n\r\n" for each in events
    )
    with Raw(SSE_HEAD, body) as server:
        stream = gemini_contents.stream(request_to(server, {**ASKED, **asked}))
        return [chunk for chunk in stream if chunk is not QUIET], stream.usage


def event(*parts: dict[str, Any], end: str | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "index": index}
    return {"candidates": [{**candidate, **({"finishReason": end} if end else {})}], **fields}


def choices(chunks: Iterable[dict[str, Any]]) -> list[Any]:
    return [(choice["delta"], choice["finish_reason"]) for chunk in chunks for choice in chunk["choices"]]


def test_events_are_handed_on_and_said_in_the_words_of_a_chat() -> None:
    sent = [
        event({"text": "Hm", "thought": True}, usageMetadata={"promptTokenCount": 10, "totalTokenCount": 10}),
        event({"text": "One "}, {"text": "two"}),
        event({"text": "", "thoughtSignature": "c2ln"}),
        event({"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"}),
        event({"functionCall": {"id": "theirs", "name": "g"}}, end="STOP", usageMetadata=COUNTED),
    ]
    chunks, usage = streamed(*sent)
    assert [chunk["native"] for chunk in chunks] == sent
    said = [
        {"index": place, "id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
        for place, (id_, name, arguments) in enumerate([("call_0", "f", '{"a": 1}'), ("theirs", "g", "{}")])
    ]
    assert choices(chunks) == [
        ({"reasoning_content": "Hm"}, None),
        ({"content": "One two"}, None),
        ({"tool_calls": [said[0]]}, None),
        ({"tool_calls": [said[1]]}, "tool_calls"),
    ]
    assert usage == Usage(input_tokens=10, output_tokens=5)


def test_what_chat_has_no_word_for_cannot_be_continued_by_others() -> None:
    chunks, _ = streamed(event({"executableCode": {"code": "1"}}), event({"text": "a"}, end="STOP"))
    assert chunks[0]["choices"][0]["delta"] == {"images": [{"executableCode": {"code": "1"}}]}


@pytest.mark.parametrize(
    ("end", "said"),
    [("STOP", "stop"), ("MAX_TOKENS", "length"), ("SAFETY", "content_filter"), ("RECITATION", "content_filter"),
     ("LANGUAGE", "stop"), ("REASON_OF_TOMORROW", "stop")],
)  # fmt: skip
def test_each_end_has_a_word_in_chat(end: str, said: str) -> None:
    chunks, _ = streamed(event({"text": "a"}, end=end))
    assert choices(chunks) == [({"content": "a"}, said)]


def test_several_candidates_are_waited_for() -> None:
    chunks, _ = streamed(
        event({"text": "a"}, end="STOP"),
        event({"text": "b"}, index=1),
        event({"text": "c"}, index=1, end="STOP", usageMetadata=COUNTED),
        generationConfig={"candidateCount": 2},
    )
    assert [choice["index"] for chunk in chunks for choice in chunk["choices"]] == [0, 1, 1]


EMPTY = event(end="STOP", usageMetadata=COUNTED)
BLOCKED = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 4}}
FAILED = event(end="MALFORMED_FUNCTION_CALL", usageMetadata=COUNTED)
OVERLOADED = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}


@pytest.mark.parametrize(
    ("answer", "kind", "tokens"),
    [
        (EMPTY, FailureKind.EMPTY, 15),
        (BLOCKED, FailureKind.CONTENT_POLICY, 4),
        (FAILED, FailureKind.MALFORMED, 15),
        (OVERLOADED, FailureKind.OVERLOADED, 0),
        ([1], FailureKind.MALFORMED, 0),
        (b"<html>", FailureKind.MALFORMED, 0),
        ({"candidates": [{"finishReason": ["STOP"], "content": []}]}, FailureKind.EMPTY, 0),
        ({"candidates": 5}, FailureKind.MALFORMED, 0),
    ],
    ids=["empty", "blocked", "failed", "overloaded", "a list", "no JSON", "odd", "no candidates"],
)
def test_what_is_no_answer_is_a_failure_whole_and_streamed(answer: Any, kind: FailureKind, tokens: int) -> None:
    with pytest.raises(UpstreamError) as failed:
        whole(answer)
    assert failed.value.kind is kind
    assert _tokens(failed.value) == tokens
    if isinstance(answer, dict) and "candidates" in answer and not isinstance(answer["candidates"], list):
        return  # in a stream, an event without candidates has nothing to say
    with pytest.raises(UpstreamError) as failed:
        streamed(answer)
    assert failed.value.kind is kind
    assert _tokens(failed.value) == tokens


def _tokens(error: UpstreamError) -> int:
    usage = error.usage or Usage()
    return usage.input_tokens + usage.output_tokens


def test_silence_after_a_functions_result_is_an_answer() -> None:
    result = {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]}
    assert whole(EMPTY, contents=[result]).body == EMPTY
    chunks, _ = streamed(EMPTY, contents=[result])
    assert choices(chunks) == [({}, "stop")]


def test_a_stream_that_stops_in_the_middle_is_interrupted() -> None:
    with pytest.raises(UpstreamError) as failed:
        streamed(event({"text": "a"}, usageMetadata=COUNTED))
    assert failed.value.kind is FailureKind.INTERRUPTED
    assert failed.value.usage is not None


def test_without_a_key_nothing_is_sent() -> None:
    request = UpstreamRequest(Deployment("p", "gemini", "m", "http://127.0.0.1:9", PATIENT), "", ASKED, PATIENT)
    for ask in (gemini_contents.ask, gemini_contents.stream):
        with pytest.raises(UpstreamError) as failed:
            ask(request)
        assert failed.value.kind is FailureKind.NO_KEY
