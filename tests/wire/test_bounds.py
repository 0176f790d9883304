"""Nothing that is sent can cost more than was held for it: over the parameters of chat, at each kind of provider.

What is sent is prepared as for a call. What it could cost says a biller of its own (`tests/wire/biller.py`).
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounting.pricing import PriceList
from routing.catalog import Provider, Step
from routing.endpoints.chat.request import parse_chat
from routing.exceptions import GatewayError
from routing.serving.ceiling import Ceiling, Room
from routing.upstreams.base import Deployment, Timeouts, UpstreamError, UpstreamRequest
from routing.upstreams.dialects import spoken
from routing.upstreams.formats import FORMATS
from routing.upstreams.frames import prepare
from tests.media import data_url, encoded
from tests.wire.biller import FILES, Rates, most_usd

DEPLOYMENTS = [
    ("openai", "gpt-4o"), ("openai", "gpt-5"), ("deepseek", "deepseek-chat"), ("hosted_vllm", "m"),
    ("openrouter", "x/y"), ("xai", "grok-4"), ("groq", "llama"), ("mistral", "mistral-large-latest"), ("ollama", "m"),
    ("anthropic", "claude-sonnet-4-6"), ("anthropic", "claude-opus-4-7"), ("anthropic", "claude-haiku-4-5"),
    ("gemini", "gemini-2.5-pro"), ("gemini", "gemini-2.5-flash-lite"), ("gemini", "gemini-3-pro-preview"),
]  # fmt: skip


def price(rates: Rates) -> PriceList:
    """Sound and pictures have a rate of their own only where they cost more."""
    standard = {"input": rates.input, "cache_write": rates.cache_write, "output": rates.output, "search": rates.search}
    standard |= {"audio_input": rates.audio} if rates.audio > rates.input else {}
    standard |= {"image_output": rates.picture, "audio_output": rates.picture} if rates.picture > rates.output else {}
    dearer = {name: usd * rates.priority for name, usd in standard.items() if name != "search"}
    bands = {"standard": standard, "priority": dearer}
    return PriceList.of({band: {name: f"{usd:g}" for name, usd in of.items()} for band, of in bands.items()})


PLAIN, DEAR = Rates(), Rates(audio=9, picture=30)
PRICES = {rates: price(rates) for rates in (PLAIN, DEAR)}

FUNCTION = {
    "name": "f",
    "description": "d" * 50,
    "parameters": {"type": "object", "properties": {"a": {"type": "string"}}},
}
TREE = {
    "$defs": {"x": {"type": "string", "description": "-" * 99}},
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/x"}, "b": {"$ref": "#/$defs/x"}},
}
OTHER = {**FUNCTION, "name": "g", "parameters": TREE}
TOOL = {"type": "function", "function": FUNCTION}
TYPES = [
    "image/png",
    "image/jpeg",
    "text/plain",
    "text/csv",
    "application/pdf",
    "audio/wav",
    "audio/mpeg",
    "audio/flac",
    "video/mp4",
]

texts = st.text(max_size=40) | st.sampled_from(["hi", "привет " * 50, "x" * 3_000])
names = st.sampled_from(sorted(FILES))


@st.composite
def parts(draw: st.DrawFn) -> dict[str, Any]:
    data = FILES[draw(names)][0]
    declared, other = draw(st.sampled_from(TYPES)), draw(st.sampled_from(TYPES))
    url = data_url(declared, data)
    return draw(
        st.sampled_from(
            [
                {"type": "text", "text": draw(texts)},
                {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "image_url", "image_url": url},
                {"type": "image_url", "image_url": {"url": url, "format": other}},
                {"type": "file", "file": {"file_data": url, "filename": "a"}},
                {"type": "file", "file": {"file_data": url, "format": other}},
                {
                    "type": "input_audio",
                    "input_audio": {"data": encoded(data), "format": draw(st.sampled_from(["wav", "mp3", "flac"]))},
                },
                {"type": "document", "source": {"type": "base64", "media_type": declared, "data": encoded(data)}},
            ]
        )
    )


contents = texts | st.lists(parts(), min_size=1, max_size=3)
messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "developer", "assistant"]), "content": contents})
    | st.just(
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":"b"}'}}],
        }
    )
    | st.fixed_dictionaries({"role": st.just("tool"), "tool_call_id": st.just("c1"), "content": contents}),
    min_size=1,
    max_size=4,
)
#: Whatever of these is asked for, nothing is to be refused for its cost.
HARMLESS: dict[str, Any] = {
    "n": st.integers(1, 4),
    "temperature": st.just(0.5),
    "top_k": st.just(5),
    "stop": st.just(["\n"]),
    "user": st.just("u" * 50),
    "metadata": st.just({"a": "b" * 300}),
    "reasoning_effort": st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh"]),
    "thinking": st.sampled_from([{"type": "enabled", "budget_tokens": 20_000}, {"type": "adaptive"}]),
    "response_format": st.sampled_from(
        [{"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "s", "schema": TREE, "strict": True}}]
    ),
    "tools": st.lists(st.sampled_from([TOOL, {"type": "function", "function": OTHER}]), min_size=1, max_size=3),
    "tool_choice": st.sampled_from(["auto", "required", {"type": "function", "function": {"name": "f"}}]),
    "functions": st.just([FUNCTION]),
    "prediction": st.just({"type": "content", "content": "p" * 5_000}),
    "service_tier": st.sampled_from(["auto", "default", "flex", "priority", "scale"]),
    "documents": st.just([{"text": "d" * 2_000}]),
    "guided_json": st.just(TREE),
}  # fmt: skip
PAID: dict[str, Any] = {
    "tools": st.lists(
        st.sampled_from(
            [
                TOOL,
                {"googleSearch": {}},
                {"urlContext": {}},
                {"codeExecution": {}},
                {"type": "web_search"},
                {"type": "web_search_20250305", "name": "web_search"},
                {"type": "computer_use"},
                {"type": "code_execution_20250522", "name": "code_execution"},
                {"type": "function", "function": {"googleSearch": {}}},
            ]
        ),
        max_size=3,
    ),
    "functions": st.just([{"googleSearch": {}}]),
    "modalities": st.sampled_from([["text"], ["text", "image"], ["text", "audio"], ["IMAGE"]]),
    "web_search_options": st.sampled_from([{}, {"search_context_size": "low"}, {"search_context_size": "high"}]),
    "service_tier": st.sampled_from(["warp", {"type": "priority"}]),
    **dict.fromkeys(
        ("models", "plugins", "mcp_servers", "fallbacks"), st.just([{"type": "url", "url": "https://x", "name": "x"}])
    ),
    **dict.fromkeys(("best_of", "n_predict", "a_parameter_of_tomorrow"), st.just(50)),
    **dict.fromkeys(("cached_content", "speed", "chat_template", "container"), st.just("fast")),
    **dict.fromkeys(("search_parameters", "provider"), st.just({"mode": "on"})),
}  # fmt: skip
caps = st.sampled_from([{}, {}, {"max_tokens": 1}, {"max_tokens": 700}, {"max_completion_tokens": 900}])
plain = st.lists(texts.map(lambda text: {"role": "user", "content": text}), min_size=1, max_size=3)


def some(of: dict[str, Any], most: int) -> st.SearchStrategy[dict[str, Any]]:
    return st.lists(st.sampled_from(sorted(of)), max_size=most, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries({name: of[name] for name in chosen})
    )


anything = st.tuples(some(HARMLESS, 4), some(PAID, 2)).map(lambda both: both[0] | both[1])


def sent(call_body: dict[str, Any], deployment: Deployment) -> Any:
    """The body as it goes out."""
    request = UpstreamRequest(deployment, "sk-test", call_body, Timeouts())
    if deployment.litellm_provider in FORMATS:
        return prepare(FORMATS[deployment.litellm_provider], request, streamed=False).body
    return spoken(call_body, deployment, streamed=False).body


def assert_bounded(to: tuple[str, str], body: dict[str, Any], cap: int | None, *, may_be_refused: bool) -> None:
    for rates in PRICES:
        assert_bounded_at(rates, to, body, cap, may_be_refused=may_be_refused)


def assert_bounded_at(
    rates: Rates, to: tuple[str, str], body: dict[str, Any], cap: int | None, *, may_be_refused: bool
) -> None:
    provider, model = to
    row = Provider("p", provider, True, (), 0, 5, 1.0, 1.0)
    step = Step("a", cap, row, Deployment("p", provider, model, None, Timeouts()))
    try:
        call = parse_chat({"model": "a", **body})
    except GatewayError:
        return
    ceiling = Ceiling.of(call, step, PRICES[rates], Room())
    if ceiling.unbounded is not None:
        assert may_be_refused, ceiling.unbounded.param
        return
    try:
        prepared = sent(call.request_for(step, ceiling.most), step.deployment)
    except UpstreamError:
        return  # it cannot be said to this provider, so nothing is sent
    assert ceiling.hold_usd is not None
    bill = most_usd(provider, prepared, rates)
    assert bill <= float(ceiling.hold_usd) + 1e-9, f"{provider} {model}: {prepared!r:.3000}"


def explore(examples: int) -> None:
    tried = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)

    @tried
    @given(st.sampled_from(DEPLOYMENTS), messages, anything, caps, st.sampled_from([None, 300]))
    def whatever_is_asked(to: Any, said: Any, asked: Any, capped: Any, cap: int | None) -> None:
        assert_bounded(to, {"messages": said, **asked, **capped}, cap, may_be_refused=True)

    @tried
    @given(st.sampled_from(DEPLOYMENTS), plain, some(HARMLESS, 6), caps, st.sampled_from([None, 300]))
    def nothing_harmless_is_refused(to: Any, said: Any, harmless: Any, capped: Any, cap: int | None) -> None:
        assert_bounded(to, {"messages": said, **harmless, **capped}, cap, may_be_refused=False)

    whatever_is_asked()
    nothing_harmless_is_refused()


def test_nothing_that_is_sent_can_cost_more_than_was_held() -> None:
    explore(examples=200)


@pytest.mark.parametrize("file", sorted(FILES))
@pytest.mark.parametrize("declared", TYPES)
def test_no_file_under_any_name_costs_more_than_was_held(file: str, declared: str) -> None:
    url = data_url(declared, FILES[file][0])
    for part in ({"type": "image_url", "image_url": {"url": url}}, {"type": "file", "file": {"file_data": url}}):
        for to in DEPLOYMENTS:
            body = {"messages": [{"role": "user", "content": [part]}], "max_tokens": 1}
            assert_bounded(to, body, None, may_be_refused=True)
