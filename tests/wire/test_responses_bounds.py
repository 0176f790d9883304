"""No request of Responses can cost more than was held for it: in its own words, by way of chat, and where a server may
be asked in either way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing.catalog import Provider, Step
from routing.endpoints.responses.kept import Kept, sealed
from routing.endpoints.responses.request import ResponsesCall, parse_responses
from routing.exceptions import GatewayError
from routing.serving.call import Unbounded
from routing.serving.ceiling import Ceiling, Room
from routing.upstreams.base import Deployment, Timeouts, UpstreamError, UpstreamRequest
from routing.upstreams.responses_dialect import Keeper, speaks
from tests.media import data_url
from tests.wire.biller import FILES, most_usd, most_usd_of_responses
from tests.wire.test_bounds import FUNCTION, PRICES, TREE, TYPES, sent, some, texts

OWNER = "anonymous"
BEFORE = sealed(Kept("a", Keeper("p", "gpt-5", "0"), "resp_1"), OWNER)
#: OpenAI, a server that may pass requests on to it, and providers that are asked by chat.
DEPLOYMENTS: list[tuple[str, str, str | None]] = [
    ("openai", "gpt-5", None),
    ("openai", "gpt-4o", None),
    ("openai", "gpt-5", "https://proxy.example.org/v1"),
    ("deepseek", "deepseek-chat", None),
    ("anthropic", "claude-sonnet-4-6", None),
    ("gemini", "gemini-2.5-pro", None),
]


def step_at(provider: str, model: str, base_url: str | None, cap: int | None = None) -> Step:
    row = Provider("p", provider, True, (), 0, 5, 1.0, 1.0)
    return Step("a", cap, row, Deployment("p", provider, model, base_url, Timeouts()))


urls = st.builds(lambda name, declared: data_url(declared, FILES[name][0]), st.sampled_from(sorted(FILES)),
                 st.sampled_from(TYPES))  # fmt: skip
parts = (
    texts.map(lambda text: {"type": "input_text", "text": text})
    | urls.map(lambda url: {"type": "input_image", "image_url": url})
    | urls.map(lambda url: {"type": "input_file", "file_data": url, "filename": "a"})
    | st.sampled_from(
        [
            {"type": "input_image", "image_url": "https://x.org/a.png", "detail": "original"},
            {"type": "input_image", "file_id": "f"},
            {"type": "input_file", "file_url": "https://x.org/a.pdf"},
            {"type": "input_file", "file_id": "f"},
            {"type": "a_part_of_tomorrow", "id": "x"},
        ]
    )
)
contents = texts | st.lists(parts, min_size=1, max_size=3)
items = st.lists(
    contents.map(lambda content: {"role": "user", "content": content})
    | texts.map(lambda text: {"role": "developer", "content": text})
    | texts.map(lambda text: {"role": "assistant", "content": [{"type": "output_text", "text": text}]})
    | texts.map(lambda text: {"type": "function_call", "call_id": "c", "name": "f", "arguments": text})
    | texts.map(lambda text: {"type": "custom_tool_call", "call_id": "d", "name": "g", "input": text})
    | contents.map(lambda output: {"type": "function_call_output", "call_id": "c", "output": output})
    | texts.map(lambda text: {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": text})
    | st.sampled_from(
        [
            {"type": "computer_call_output", "call_id": "c",
             "output": {"type": "computer_screenshot", "image_url": "https://x.org/a.png", "detail": "original"}},
            {"type": "image_generation_call", "id": "ig_1"},
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            {"type": "an_item_of_tomorrow"},
        ]
    ),
    min_size=1,
    max_size=5,
)  # fmt: skip
NAMED = {"type": "function", **FUNCTION}
#: Whatever of these is asked for, nothing is to be refused for its cost.
HARMLESS: dict[str, Any] = {
    "instructions": texts,
    "tools": st.lists(
        st.sampled_from(
            [
                NAMED,
                {"type": "function", "name": "g", "parameters": TREE, "strict": True},
                {
                    "type": "custom",
                    "name": "patch",
                    "format": {"type": "grammar", "syntax": "lark", "definition": "x" * 400},
                },
                {"type": "namespace", "name": "n", "description": "d" * 200, "tools": [NAMED]},
                {"type": "local_shell"},
            ]
        ),
        min_size=1,
        max_size=3,
    ),
    "text": st.just({"format": {"type": "json_schema", "name": "s", "schema": TREE}, "verbosity": "low"}),
    "reasoning": st.sampled_from([{"effort": "high", "summary": "auto"}, {"effort": "minimal"}]),
    "include": st.just(["reasoning.encrypted_content"]),
    "service_tier": st.sampled_from(["auto", "default", "flex", "priority", "scale"]),
    "metadata": st.just({"a": "b" * 300}),
    "client_metadata": st.just({"a": "b" * 300}),
    "store": st.booleans(),
    "truncation": st.just("auto"),
    "prompt_cache_key": st.just("k"),
    "parallel_tool_calls": st.just(False),
    "stream_options": st.just({"include_obfuscation": False}),
}
PAID: dict[str, Any] = {
    "tools": st.lists(
        st.sampled_from(
            [
                {"type": "web_search"},
                {"type": "web_search_preview", "search_context_size": "high"},
                {"type": "file_search", "vector_store_ids": ["v"]},
                {"type": "code_interpreter", "container": {"type": "auto"}},
                {"type": "image_generation"},
                {"type": "mcp", "server_label": "x", "server_url": "https://x.org"},
                {"type": "shell"},
                {"type": "function", "name": "f", "googleSearch": {}},
                {"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]},
                {
                    "type": "namespace",
                    "name": "n",
                    "tools": [{"type": "namespace", "name": "m", "tools": [{"type": "web_search"}]}],
                },
                {"type": "web_search", "return_token_budget": "unlimited"},
            ]
        ),
        min_size=1,
        max_size=2,
    ),
    "max_tool_calls": st.sampled_from([1, 3, 900]),
    "previous_response_id": st.just(BEFORE),
    "context_management": st.just([{"type": "compaction", "compact_threshold": 1_000}]),
    "reasoning": st.just({"mode": "pro"}),
    "a_parameter_of_tomorrow": st.just(1),
}
caps = st.sampled_from([{}, {"max_output_tokens": 16}, {"max_output_tokens": 900}])


def billed(call: ResponsesCall, step: Step, ceiling: Ceiling, rates: Any) -> list[float]:
    """The dearest bill for each body that the step may be sent."""
    body = call.request_for(step, ceiling.most)
    if "messages" in body:
        return [most_usd(step.provider.litellm_provider, sent(body, step.deployment), rates)]
    bills = [most_usd_of_responses(step.deployment.model, body, rates)]
    if step.deployment.base_url is not None and not call.native_alone:
        asked = call._as_chat(UpstreamRequest(step.deployment, "sk", body, Timeouts()))
        bills.append(most_usd("openai", sent(dict(asked.body), step.deployment), rates))
    return bills


def assert_bounded(to: tuple[str, str, str | None], body: dict[str, Any], *, may_be_refused: bool) -> None:
    step = step_at(*to)
    try:
        call = parse_responses({"model": "a", **body}, owner=OWNER)
    except GatewayError:
        return
    if not call.may_ask(step):
        return
    for rates, price in PRICES.items():
        ceiling = Ceiling.of(call, step, price, Room())
        if ceiling.unbounded is not None:
            assert may_be_refused, ceiling.unbounded.param
            continue
        assert ceiling.hold_usd is not None
        try:
            bills = billed(call, step, ceiling, rates)
        except UpstreamError:
            continue  # it cannot be said to this provider, so nothing is sent
        assert max(bills) <= float(ceiling.hold_usd) + 1e-9, f"{to}: {body!r:.3000}"


def explore(examples: int) -> None:
    tried = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)

    @tried
    @given(st.sampled_from(DEPLOYMENTS), items, some(HARMLESS, 4), some(PAID, 2), caps)
    def whatever_is_asked(to: Any, said: Any, harmless: Any, paid: Any, capped: Any) -> None:
        assert_bounded(to, {"input": said, **harmless, **paid, **capped}, may_be_refused=True)

    @tried
    @given(st.sampled_from(DEPLOYMENTS), texts, some(HARMLESS, 6), caps)
    def nothing_harmless_is_refused(to: Any, said: Any, harmless: Any, capped: Any) -> None:
        assert_bounded(to, {"input": said, **harmless, **capped}, may_be_refused=False)

    whatever_is_asked()
    nothing_harmless_is_refused()


def test_no_response_can_cost_more_than_was_held() -> None:
    explore(examples=60)


@pytest.mark.parametrize(
    ("provider", "model", "base_url", "is_native"),
    [
        ("openai", "gpt-4o", None, True),
        ("openai", "gpt-5-codex", None, True),
        ("openai", "gpt-4o-search-preview", None, False),
        ("openai", "gpt-audio-1.5", None, False),
        ("openai", "gpt-5", "https://proxy.example.org/v1", True),
        ("openai", "llama-3", "https://vllm.example.org/v1", False),
        ("azure", "my-gpt", "https://x.openai.azure.com", True),
        ("xai", "grok-4", None, True),
        ("openrouter", "openai/gpt-5", None, True),
        ("hosted_vllm", "m", "http://h/v1", False),
        ("anthropic", "claude-sonnet-4-6", None, False),
    ],
)
def test_who_is_asked_in_its_own_words(provider: str, model: str, base_url: str | None, is_native: bool) -> None:
    assert speaks(step_at(provider, model, base_url).deployment) is is_native


def unbounded_of(body: dict[str, Any], provider: str = "openai", model: str = "gpt-5") -> str | None:
    """The parameter for which a request is refused under a hard budget."""
    call = parse_responses({"model": "a", "input": "x", **body}, owner=OWNER)
    try:
        call.ceiling(step_at(provider, model, None))
    except Unbounded as error:
        return error.param
    return None


@pytest.mark.parametrize(
    "inner",
    [
        {"type": "namespace", "name": "m", "tools": [{"type": "web_search"}]},
        {"type": "function", "name": "f", "tools": [{"type": "web_search"}]},
        {"type": ["function"], "name": "f"},
        {"type": "web_search"},
        5,
    ],
)
def test_a_tool_of_the_providers_is_found_wherever_it_hides(inner: Any) -> None:
    assert unbounded_of({"tools": [{"type": "namespace", "name": "n", "tools": [inner]}]}) == "tools[0]"
    found = {"type": "tool_search_output", "call_id": "c", "tools": [inner]}
    assert unbounded_of({"input": [{"role": "user", "content": "x"}, found]}) == "input[1].tools"


def test_the_tool_of_the_providers_is_named_to_who_never_wrote_the_request() -> None:
    tools = [{"type": "web_search"}, {"type": "image_generation", "output_format": "png"}]  # as Cline offers them
    call = parse_responses({"model": "a", "input": "x", "tools": tools}, owner=OWNER)
    with pytest.raises(Unbounded, match=r"the provider runs itself \('image_generation'\) is billed") as refused:
        call.ceiling(step_at("openai", "gpt-5", None))
    assert refused.value.param == "tools[1]"


def test_functions_that_a_search_of_tools_has_found_are_the_clients() -> None:
    found = [NAMED, {"type": "namespace", "name": "n", "tools": [NAMED]}]
    said: list[Any] = [{"role": "user", "content": "x"}, {"type": "tool_search_output", "call_id": "c", "tools": found}]
    assert unbounded_of({"input": said}) is None


@pytest.mark.parametrize(("provider", "model"), [("xai", "grok-4"), ("openrouter", "openai/gpt-5")])
def test_who_does_not_document_a_cap_on_its_tools_has_no_bound(provider: str, model: str) -> None:
    assert unbounded_of({"tools": [{"type": "web_search"}], "max_tool_calls": 1}, provider, model) == "tools[0]"


def test_a_search_that_may_read_more_is_held_with_all_that_the_model_reads() -> None:
    def held(tool: dict[str, Any]) -> int:
        call = parse_responses({"model": "a", "input": "x", "tools": [tool], "max_tool_calls": 1})
        return call.ceiling(step_at("openai", "gpt-5", None)).input_tokens

    assert held({"type": "web_search", "return_token_budget": "unlimited"}) > 2 * 272_000 > held({"type": "web_search"})
