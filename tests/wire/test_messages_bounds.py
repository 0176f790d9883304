"""Nothing that is sent to Anthropic as it came can cost more than was held for it."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing.catalog import Provider, Step
from routing.endpoints.messages.request import native, parse_messages
from routing.serving.ceiling import Ceiling, Room
from routing.upstreams.base import Deployment, Timeouts
from tests.media import encoded
from tests.wire.biller import FILES, most_usd
from tests.wire.test_bounds import FUNCTION, PRICES, TYPES, some, texts

ROW = Provider("p", "anthropic", True, (), 0, 5, 1.0, 1.0)
STEP = Step("a", None, ROW, Deployment("p", "anthropic", "claude-sonnet-4-6", None, Timeouts()))

marks = st.sampled_from([{}, {"cache_control": {"type": "ephemeral"}}])
sources = st.builds(
    lambda name, declared: {"type": "base64", "media_type": declared, "data": encoded(FILES[name][0])},
    st.sampled_from(sorted(FILES)),
    st.sampled_from(TYPES),
)
plain_blocks = st.builds(lambda text, mark: {"type": "text", "text": text, **mark}, texts, marks)
media = st.builds(
    lambda kind, source: {"type": kind, "source": source}, st.sampled_from(["image", "document"]), sources
)
results = st.builds(
    lambda content: {"type": "tool_result", "tool_use_id": "t", "content": content},
    texts | st.lists(plain_blocks | media, max_size=3),
)
thoughts = st.builds(lambda text: {"type": "thinking", "thinking": text, "signature": "s" * 40}, texts)
calls = st.builds(lambda text: {"type": "tool_use", "id": "t", "name": "f", "input": {"a": text}}, texts)
unknown = st.sampled_from(
    [
        {"type": "container_upload", "file_id": "f"},
        {"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}},
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
    ]
)
messages = st.lists(
    st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(["user", "assistant"]),
        texts | st.lists(plain_blocks | media | results | thoughts | calls | unknown, min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=4,
)
#: Whatever of these is asked for, nothing is to be refused for its cost.
HARMLESS: dict[str, Any] = {
    "system": texts | st.lists(plain_blocks, min_size=1, max_size=2),
    "tools": st.lists(
        st.sampled_from(
            [
                {"name": "f", "description": "d" * 300, "input_schema": FUNCTION["parameters"]},
                {"type": "custom", "name": "g", "input_schema": {"type": "object"}},
                {"type": "bash_20250124", "name": "bash"},
                {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
            ]
        ),
        min_size=1,
        max_size=3,
    ),
    "thinking": st.sampled_from([{"type": "enabled", "budget_tokens": 1024}, {"type": "adaptive"}]),
    "output_config": st.just({"effort": "high", "format": {"type": "json_schema", "schema": FUNCTION["parameters"]}}),
    "context_management": st.just({"edits": [{"type": "clear_tool_uses_20250919"}]}),
    "metadata": st.just({"user_id": "u" * 300}),
    "service_tier": st.sampled_from(["auto", "standard_only"]),
    "stop_sequences": st.just(["END"]),
    "temperature": st.just(0.5),
}
PAID: dict[str, Any] = {
    "tools": st.lists(
        st.sampled_from(
            [
                {"type": "web_search_20250305", "name": "web_search"},
                {"type": "web_search_20250305", "name": "web_search", "max_uses": 3},
                {"type": "web_search_20260209", "name": "web_search", "max_uses": 10_000},
                {"type": "web_fetch_20250910", "name": "web_fetch"},
                {"type": "code_execution_20250522", "name": "code_execution"},
                {"type": "mcp_toolset", "mcp_server_name": "x"},
            ]
        ),
        min_size=1,
        max_size=2,
    ),
    "mcp_servers": st.just([{"type": "url", "url": "https://x", "name": "x"}]),
    "container": st.just("c"),
    "speed": st.just("fast"),
    "context_management": st.just({"edits": [{"type": "compact_20260112"}]}),
    "a_parameter_of_tomorrow": st.just(1),
}


def assert_bounded(body: dict[str, Any], *, may_be_refused: bool) -> None:
    for rates, price in PRICES.items():
        call = parse_messages({"model": "a", "max_tokens": 700, **body})
        ceiling = Ceiling.of(call, STEP, price, Room())
        if ceiling.unbounded is not None:
            assert may_be_refused, ceiling.unbounded.param
            continue
        assert ceiling.hold_usd is not None
        sent = native(call.body, STEP.deployment.model)
        assert most_usd("anthropic", sent, rates) <= float(ceiling.hold_usd) + 1e-9, f"{sent!r:.3000}"


def explore(examples: int) -> None:
    tried = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)

    @tried
    @given(messages, some(HARMLESS, 4), some(PAID, 2))
    def whatever_is_asked(said: Any, harmless: Any, paid: Any) -> None:
        assert_bounded({"messages": said, **harmless, **paid}, may_be_refused=True)

    @tried
    @given(st.lists(texts.map(lambda text: {"role": "user", "content": text}), min_size=1), some(HARMLESS, 6))
    def nothing_harmless_is_refused(said: Any, harmless: Any) -> None:
        assert_bounded({"messages": said, **harmless}, may_be_refused=False)

    whatever_is_asked()
    nothing_harmless_is_refused()


def test_nothing_that_is_sent_as_it_came_can_cost_more_than_was_held() -> None:
    explore(examples=200)


def test_a_tool_of_the_providers_is_named_in_its_refusal() -> None:
    tool = {"type": "code_execution_20250825", "name": "code_execution"}
    call = parse_messages(
        {"model": "a", "max_tokens": 7, "messages": [{"role": "user", "content": "x"}], "tools": [tool]}
    )
    unbounded = Ceiling.of(call, STEP, next(iter(PRICES.values())), Room()).unbounded
    assert unbounded is not None
    assert "the provider runs itself ('code_execution_20250825') is billed" in str(unbounded)
    assert unbounded.param == "tools[0]"
