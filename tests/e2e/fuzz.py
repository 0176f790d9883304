"""Random requests at strict providers, each judged by itself, and the books at the end."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from accounting.ledger.reconcile import reconcile
from routing.models import ModelAlias, Provider
from tests.clocks import eventually
from tests.e2e.chat_requests import chat_requests
from tests.e2e.gateway import Gateway, price, unique
from tests.simulator import Behaviour
from tests.simulator.behaviour import ToolCall

Json = dict[str, Any]

#: A provider's flavour at the simulator (its strictness), and the deployment that is configured to reach it.
DEPLOYMENTS = [
    ("openai", "openai", "gpt-4o"),
    ("openai", "openai", "gpt-5"),
    ("openai", "openai", "o3-mini"),
    ("mistral", "mistral", "mistral-small-latest"),
    ("groq", "groq", "llama-3.3-70b-versatile"),
    ("cerebras", "cerebras", "llama3.1-8b"),
    ("deepseek", "deepseek", "deepseek-chat"),
    ("xai", "xai", "grok-4.5"),
    ("moonshot", "moonshot", "kimi-k2.5"),
    ("perplexity", "perplexity", "sonar"),
    ("ollama", "ollama", "llama3.2"),
    ("oldserver", "custom_openai", "some-model"),
    ("anthropic", "anthropic", "claude-sonnet-4-6"),
    ("anthropic", "anthropic", "claude-opus-4-7"),
    ("anthropic", "anthropic", "claude-haiku-4-5"),
    ("gemini", "gemini", "gemini-2.5-pro"),
    ("gemini", "gemini", "gemini-2.5-flash"),
    ("gemini", "gemini", "gemini-3-pro-preview"),
]

#: What the provider does with a request that it does not refuse.
_BEHAVIOURS = st.sampled_from(
    [
        *(Behaviour(), Behaviour(), Behaviour(), Behaviour(report_usage=False), Behaviour(text="Fine, but short")),
        *(Behaviour(reasoning="Let me see"), Behaviour(finish="length"), Behaviour(text="No", finish="content_filter")),
        Behaviour(tool_calls=(ToolCall("look_up", '{"city": "Paris"}'), ToolCall("look_up", "{}"))),
    ]
)


@dataclass
class Fuzz:
    gateway: Gateway
    aliases: dict[str, str] = field(default_factory=dict)  # alias → its provider's name at the simulator
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._written_before = len(self.gateway.running.output)  # by other tests
        address = urlsplit(self.gateway.url)
        assert address.hostname is not None
        self._connection = http.client.HTTPConnection(address.hostname, address.port or 80, timeout=30)
        with self.gateway.orm():
            for flavour, litellm_provider, model in DEPLOYMENTS:
                wire = litellm_provider if litellm_provider in ("anthropic", "gemini") else "openai"
                name = unique(f"{flavour}-fuzz")
                provider = Provider.objects.create(
                    name=name,
                    litellm_provider=litellm_provider,
                    base_url=self.gateway.sim.base_url(wire, name),
                    key_reference="env:OPENAI_API_KEY",
                    retries=0,  # a failure is to be seen
                    breaker_failures=30_000,  # and has no effect on the next example
                    breaker_failure_rate=1,
                )
                price(name, model)
                alias = ModelAlias.objects.create(
                    name=f"{name}-{model}",
                    provider=provider,
                    upstream_model=model,
                    output_cap_tokens=4096,
                    position=1000,
                )
                self.aliases[alias.name] = name

    def run(self, examples: int, *, seed_of_run: int | None = None, is_twofold: bool = False) -> None:
        """Without a seed it is always the same run. `is_twofold`: each request is sent whole and streamed."""

        @settings(
            max_examples=examples,
            derandomize=seed_of_run is None,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(body=st.sampled_from(list(self.aliases)).flatmap(chat_requests), behaviour=_BEHAVIOURS)
        def the_gateway_is_right(body: Json, behaviour: Behaviour) -> None:
            said = self.play(body, behaviour)
            if is_twofold:
                assert self.play(_otherwise(body), behaviour) == said

        if seed_of_run is not None:
            the_gateway_is_right = seed(seed_of_run)(the_gateway_is_right)
        the_gateway_is_right()

    def play(self, body: Json, behaviour: Behaviour) -> Said:
        """Send the request, and judge what comes back. What was said, however it came."""
        self.gateway.sim.reset()
        self.gateway.sim.behave(self.aliases[body["model"]], forever=behaviour)
        status, kind, raw = self._post(body)
        note(f"{status} {raw[:2000]!r}")
        self.seen[str(status)] += 1
        if status != 200:
            # No provider failed, so the request was wrong, or not for this provider.
            assert (status in (400, 422), kind) == (True, "application/json")
            error = checked_error(json.loads(raw))
            self.seen[f"{self.aliases[body['model']]}: {error['param']}: {error['message'][:150]}"] += 1
            assert strange_names(error, body) == set(), f"the client sent nothing of that name: {error}"
            return {}
        assert kind == ("text/event-stream" if body.get("stream") else "application/json")
        is_counted = behaviour.report_usage and self._was_asked_to_count()
        said = streamed(raw, body, is_counted=is_counted) if body.get("stream") else whole(json.loads(raw), body)
        assert len(said) in (1, body.get("n") or 1)
        for _, calls, end in said.values():
            assert bool(calls) == (end in ("tool_calls", "function_call")) or end in ("length", "content_filter")
            if end != "length":
                for _, arguments in calls:
                    json.loads(arguments)
        return said

    def _was_asked_to_count(self) -> bool:
        received = self.gateway.sim.requests[-1]
        return received.format != "openai" or "stream_options" in (received.body or {})

    def _post(self, body: Json) -> tuple[int, str, bytes]:
        content = json.dumps(body).encode()
        headers = {"content-type": "application/json", "authorization": "Bearer dummy"}
        try:
            self._connection.request("POST", "/v1/chat/completions", content, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.headers.get_content_type(), answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()  # the next example gets a new one
            raise

    def assert_books_are_right(self) -> None:
        """Every request that came as far as the ledger is settled, and no balance is off."""
        aliases = list(self.aliases)
        query = "SELECT state, count(*) FROM ledger WHERE alias = ANY(%s) GROUP BY state"

        def states() -> Json:
            return {row["state"]: row["count"] for row in self.gateway.rows(query, aliases)}

        assert eventually(lambda: "held" not in states(), within_s=10), states()
        assert states().keys() <= {"posted", "voided"}
        assert states()["posted"] >= self.seen["200"]
        with self.gateway.orm():
            assert list(map(str, reconcile().discrepancies)) == []
        assert self.gateway.log_lines(event="unexpected error") == []
        assert "Traceback" not in self.gateway.running.output[self._written_before :]

    def close(self) -> None:
        self._connection.close()


@contextlib.contextmanager
def fuzzing(gateway: Gateway) -> Iterator[Fuzz]:
    fuzz = Fuzz(gateway)
    try:
        with gateway.no_hard_budget():  # it would refuse what has no bound, before a provider sees it
            yield fuzz
    finally:
        fuzz.close()


# --- answers --------------------------------------------------------------------------------------------------------

#: By the choice's index: its text, its calls (name and arguments), and why it ended.
Said = dict[int, tuple[str, list[tuple[str, str]], str]]


def _otherwise(body: Json) -> Json:
    """The same request, whole when it was streamed, and streamed when it was whole."""
    rest = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
    return rest if body.get("stream") else {**rest, "stream": True}


def whole(answer: Json, body: Json) -> Said:
    ChatCompletion.model_validate(answer, strict=True)
    assert answer["model"] == body["model"]
    assert answer["usage"]["total_tokens"] > 0
    return {
        choice["index"]: (choice["message"]["content"] or "", _calls(choice["message"]), choice["finish_reason"])
        for choice in answer["choices"]
    }


def streamed(raw: bytes, body: Json, *, is_counted: bool) -> Said:
    *events, end, rest = raw.split(b"\n\n")
    assert (end, rest) == (b"data: [DONE]", b"")
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events]
    messages: dict[int, Json] = {}
    ends: dict[int, str] = {}
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk, strict=True)
        assert chunk["model"] == body["model"]
        for choice in chunk["choices"]:
            assert choice["index"] not in ends, "something follows the finish reason"
            _add(messages.setdefault(choice["index"], {"content": "", "tool_calls": []}), choice["delta"])
            if choice["finish_reason"]:
                ends[choice["index"]] = choice["finish_reason"]
    assert messages.keys() == ends.keys()
    if is_counted:
        counted = [chunk["usage"] for chunk in chunks if chunk.get("usage")]
        assert len(counted) == bool((body.get("stream_options") or {}).get("include_usage"))
    return {index: (message["content"], _calls(message), ends[index]) for index, message in messages.items()}


def _add(message: Json, delta: Json) -> None:
    message["content"] += delta.get("content") or ""
    for call in delta.get("tool_calls") or ():
        if call["index"] == len(message["tool_calls"]):
            message["tool_calls"].append({"id": call["id"], "function": {"name": "", "arguments": ""}})
        _add_function(message["tool_calls"][call["index"]]["function"], call["function"])
    if delta.get("function_call"):
        _add_function(message.setdefault("function_call", {"name": "", "arguments": ""}), delta["function_call"])


def _add_function(function: Json, delta: Json) -> None:
    for name in ("name", "arguments"):
        function[name] += delta.get(name) or ""


def _calls(message: Json) -> list[tuple[str, str]]:
    calls = message.get("tool_calls") or []
    assert len({call["id"] for call in calls}) == len(calls)
    functions = [call["function"] for call in calls]
    functions += [message["function_call"]] if message.get("function_call") else []
    return [(function["name"], function["arguments"]) for function in functions]


def checked_error(answer: Json) -> Json:
    assert answer.keys() == {"error"}
    error: Json = answer["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    assert error["type"] == "invalid_request_error"
    return error


# --- names in a refusal -----------------------------------------------------------------------------------------------

#: A name in quotes; a path; a name of several words.
_NAME = re.compile(
    r"""(?<=['"`])[A-Za-z_][\w.\[\]-]*(?=['"`])|\b\w+(?:\.\w+|\[\d+\])+|\b[A-Za-z]+(?:_[A-Za-z]+)+\b|\b[a-z]+(?:[A-Z][a-z]+)+\b"""
)
#: Words of FastAPI's refusals, of JSON, and the roles, of which a refusal lists those that there are.
_GENERAL = frozenset(
    {
        *("body", "detail", "loc", "msg", "input", "type", "extra_forbidden", "union_tag_invalid", "param", "http"),
        *("role", "system", "developer", "user", "assistant", "tool", "function"),
    }
)


def strange_names(error: Json, body: Json) -> set[str]:
    """What an error points at, in its `param` or by a name in its message, and the client did not send."""
    found = [error["param"] or "", *_NAME.findall(error["message"])]
    named = {word for name in found for word in _words_in(name) if not word.isdigit()}
    return named - _words_of(body) - _GENERAL


def _words_of(value: Any) -> set[str]:
    """The names of all fields of a request, and its values that could be names."""
    if isinstance(value, dict):
        return set(value).union(*map(_words_of, value.values()))
    if isinstance(value, list):
        return set().union(*map(_words_of, value))
    return {value, *_words_in(value)} if isinstance(value, str) else set()


def _words_in(text: str) -> list[str]:
    return [word for word in re.split(r"[^\w-]+", text) if word]
