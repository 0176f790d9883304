"""What `translate` sends and answers is what `litellm.completion()` sends and answers.

Both are asked the same, one after the other, against the same simulated provider: what it received and what came
back are compared as JSON. Put aside: ids, times, and the name of the model (the gateway answers with its alias).
Every other difference is in DIFFERENCES, with its reason; one that no longer exists fails the test as well.
An upgrade of litellm is: `make upgrade NAME=litellm`, which raises the pin and runs this file.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from routing.upstreams.base import UpstreamError
from routing.upstreams.litellm_import import load
from routing.upstreams.translate import Translate
from tests.simulator import Simulator
from tests.wire.corpus import CORPUS
from tests.wire.upstream_calls import KEY, MODELS, call_to

#: (request, format, whole or streamed) → why ours is not litellm's. `*` stands for any.
_REFUSED_RIGHTLY = "litellm reports a request that it cannot translate as its own error 500; it is the client's: 400"
_UNKNOWN = "litellm sends what it does not know to Anthropic, which refuses it; a chain's fallback would fail by it"
_OWN_WORDS = "litellm puts words of its own into the conversation (a placeholder, a tool), or leaves the model's out"
_NOTHING_SAID = "litellm puts words of its own into the user's mouth; neither provider takes an empty conversation"
_OLD_FUNCTIONS = "litellm drops `functions` for Anthropic and `function_call` for both; we offer them as tools"
_MISLABELLED = "the client calls a PNG a JPEG, which Anthropic refuses; we call it what it is"
_REFUSED_TOGETHER = "the provider documents as refused what litellm sends (docs/simulator-rules.md)"
_LACKING = "Gemini 2.5 refuses them; we ask again without them, and once for all"
DIFFERENCES: dict[tuple[str, str, str], str] = {
    ("empty system", "gemini", "*"): "litellm sends an empty part, which Gemini refuses",
    ("assistant refused", "*", "*"): _OWN_WORDS,
    ("empty user", "anthropic", "*"): _NOTHING_SAID,
    ("spaces only", "anthropic", "*"): _NOTHING_SAID,
    ("tool results without tools", "anthropic", "*"): _OWN_WORDS,
    ("failed tool", "gemini", "*"): 'litellm takes arguments "" for {"type": "object"}, and sends an empty part',
    ("nested tool", "gemini", "*"): "a type that may be null is `nullable`; litellm makes an `anyOf` of one branch",
    ("legacy functions", "*", "*"): _OLD_FUNCTIONS,
    ("two pictures", "*", "*"): _MISLABELLED,
    ("json object", "anthropic", "*"): "litellm drops `json_object` without a word; we ask for JSON",
    ("json schema and tools", "gemini", "*"): _REFUSED_TOGETHER,
    ("temperature above one", "anthropic", "*"): _REFUSED_TOGETHER,
    ("effort none", "gemini", "*"): _REFUSED_TOGETHER,
    ("penalties", "gemini", "*"): _LACKING,
    ("logprobs", "gemini", "*"): _LACKING,
    ("cache marks", "anthropic", "*"): _REFUSED_TOGETHER,
    ("call without arguments", "gemini", "*"): "Google leaves out arguments that are none; litellm fails on it",
    ("sound", "anthropic", "*"): "litellm drops the sound and asks the question without it",
    ("bad role", "gemini", "*"): _REFUSED_RIGHTLY,
    ("bad arguments", "gemini", "*"): _REFUSED_RIGHTLY,
    ("lone surrogate", "gemini", "whole"): "litellm cannot encode it; JSON can",
    ("unknown parameter", "anthropic", "*"): _UNKNOWN,
    ("n three", "gemini", "streamed"): "litellm opens and ends the first choice alone; OpenAI does so for each",
    ("filtered", "gemini", "whole"): "litellm leaves out what was said before the end",
    ("filtered", "gemini", "streamed"): "litellm's own `vertex_ai_…` fields on the last chunk are not OpenAI's",
}

_ASIDE = ("id", "created", "model", "system_fingerprint", "citations", "cost", "service_tier")

Outcome = dict[str, Any]


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def _without_times(value: Any) -> Any:
    """The value without ids, times and whatever is null or empty, which mean the same to a client.

    In streams litellm's last chunk differs from its own whole answers, and ours does not: it has an empty choice
    where OpenAI has `choices: []`, its own guess of the `cost`, zeros for what was not reported, and no
    `service_tier`. It also puts `content: ""` beside reasoning.
    """
    if isinstance(value, list):
        return [_without_times(item) for item in value]
    if isinstance(value, dict):
        kept = {name: _without_times(item) for name, item in value.items() if name not in _ASIDE}
        return {name: item for name, item in kept.items() if item not in (None, [], {}, "", 0)}
    if isinstance(value, str):
        return re.sub(r"\b(call|toolu|msg|chatcmpl)[_-][\w-]+", r"\1_x", value)
    return value


def _told(chunks: list[dict[str, Any]], streamed: bool) -> Any:
    """The answer as compared. An empty choice is dropped from the chunk that carries the usage."""
    cleaned = [_without_times(chunk) for chunk in chunks]
    if not streamed:
        return cleaned[0]
    last = cleaned[-1]
    if "usage" in last and last.get("choices") in ([{}], [{"index": 0}]):
        del last["choices"]
    return cleaned


def _received(sim: Simulator) -> Any:
    request = sim.requests[-1]
    headers = {
        name: value
        for name, value in request.headers.items()
        if name in ("x-api-key", "x-goog-api-key", "anthropic-version", "anthropic-beta", "content-type")
    }
    return {"path": request.path, "query": request.query, "headers": headers, "body": request.body}


def _litellms(sim: Simulator, wire: str, body: dict[str, Any], streamed: bool) -> Outcome:
    litellm = load()
    # A pool of its own for each call: litellm leaves streams unread behind, and one that is collected while the same
    # thread holds the lock of its pool waits for itself for ever.
    client = litellm.HTTPHandler()
    options = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
    try:
        answer = litellm.completion(
            model=f"{wire}/{MODELS[wire]}",
            api_base=sim.base_url(wire),
            api_key=KEY,
            num_retries=0,
            max_retries=0,
            client=client,
            _skip_mcp_handler=True,  # or `tools` needs a package that litellm does not depend on
            **copy.deepcopy(body),
            **options,
        )
        chunks = [c.model_dump() for c in answer] if streamed else [answer.model_dump()]
    except Exception as error:  # noqa: BLE001 - litellm raises anything
        return {"refused": getattr(error, "status_code", None) or type(error).__name__}
    finally:
        client.close()
    return {"received": _received(sim), "answer": _told(chunks, streamed)}


def _ours(sim: Simulator, wire: str, body: dict[str, Any], streamed: bool) -> Outcome:
    request = call_to(sim, wire, {**body, "model": "alias"})
    before = copy.deepcopy(dict(request.body))
    try:
        upstream = Translate()
        chunks = list(upstream.stream(request)) if streamed else [upstream.whole(request).body]
    except UpstreamError as error:
        return {"refused": error.http_status}
    finally:
        assert request.body == before, "the request is sent again by further attempts"
    return {"received": _received(sim), "answer": _told(chunks, streamed)}


@pytest.mark.parametrize("mode", ["whole", "streamed"])
@pytest.mark.parametrize("wire", ["anthropic", "gemini"])
@pytest.mark.parametrize("name", CORPUS)
def test_a_request_is_translated_as_litellm_translates_it(sim: Simulator, name: str, wire: str, mode: str) -> None:
    body, behaviour = CORPUS[name]
    outcomes = []
    for run in (_litellms, _ours):
        sim.reset()
        if behaviour is not None:
            sim.behave(wire, behaviour)
        outcomes.append(run(sim, wire, body, mode == "streamed"))
    litellms, ours = outcomes
    places = ((name, wire, mode), (name, wire, "*"), (name, "*", "*"))
    reason = next((DIFFERENCES[place] for place in places if place in DIFFERENCES), None)
    if reason:
        assert ours != litellms, f"no longer different: {reason}"
    else:
        assert json.dumps(ours, indent=1, sort_keys=True) == json.dumps(litellms, indent=1, sort_keys=True)


def test_the_corpus_has_at_least_sixty_requests() -> None:
    assert len(CORPUS) >= 60
