"""Nothing that is sent to Gemini as it came can cost more than was held for it."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing.catalog import Provider, Step
from routing.endpoints.gemini.request import native, parse_gemini
from routing.serving.ceiling import Ceiling, Room
from routing.upstreams.base import Deployment, Timeouts
from tests.media import encoded
from tests.wire.biller import FILES, most_usd
from tests.wire.test_bounds import FUNCTION, PRICES, TREE, TYPES, some, texts

ROW = Provider("p", "gemini", True, (), 0, 5, 1.0, 1.0)
STEPS = [
    Step("a", cap, ROW, Deployment("p", "gemini", model, None, Timeouts()))
    for model in ("gemini-2.5-pro", "gemini-2.5-flash-lite", "gemini-3-pro-preview")
    for cap in (None, 300)
]

media = st.builds(
    lambda name, declared: {"inlineData": {"mimeType": declared, "data": encoded(FILES[name][0])}},
    st.sampled_from(sorted(FILES)),
    st.sampled_from(TYPES),
)
text_parts = st.builds(lambda text, more: {"text": text, **more}, texts, st.sampled_from([{}, {"thought": True}]))
calls = st.builds(
    lambda text: {"functionCall": {"name": "f", "args": {"a": text}}, "thoughtSignature": "s" * 90}, texts
)
results = st.builds(
    lambda text, parts: {"functionResponse": {"name": "f", "response": {"a": text}, **parts}},
    texts,
    st.just({}) | st.lists(media, min_size=1, max_size=2).map(lambda parts: {"parts": parts}),
)
unknown = st.sampled_from(
    [
        {"fileData": {"fileUri": "https://youtu.be/x"}},
        {"fileData": {"fileUri": "https://x/files/a", "mimeType": "image/png"}},
        {"partOfTomorrow": {"data": "x"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "x" * 500}},
    ]
)
parts = text_parts | media | calls | results | unknown
contents = st.lists(
    st.builds(
        lambda role, said: {"role": role, "parts": said},
        st.sampled_from(["user", "model"]),
        st.lists(parts, min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=4,
)
DECLARED: dict[str, Any] = {
    "functionDeclarations": [FUNCTION, {"name": "g", "description": "d" * 300, "parametersJsonSchema": TREE}]
}
#: Whatever of these is asked for, nothing is to be refused for its cost.
HARMLESS: dict[str, Any] = {
    "systemInstruction": st.lists(text_parts, min_size=1, max_size=2).map(lambda said: {"parts": said}),
    "tools": st.just([DECLARED]),
    "toolConfig": st.just({"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}}),
    "safetySettings": st.just([{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]),
    "labels": st.just({"team": "t" * 300}),
    "serviceTier": st.sampled_from(["flex", "standard", "SERVICE_TIER_PRIORITY"]),
}
HARMLESS_CONFIG: dict[str, Any] = {
    "maxOutputTokens": st.sampled_from([1, 700]),
    "candidateCount": st.integers(1, 4),
    "temperature": st.just(0.5),
    "stopSequences": st.just(["END"]),
    "thinkingConfig": st.sampled_from([{"thinkingBudget": 20_000}, {"thinkingLevel": "HIGH", "includeThoughts": True}]),
    "responseMimeType": st.just("application/json"),
    "responseSchema": st.just(FUNCTION["parameters"]),
    "responseJsonSchema": st.just(TREE),
    "mediaResolution": st.just("MEDIA_RESOLUTION_HIGH"),
    "responseModalities": st.just(["TEXT"]),
}
PAID: dict[str, Any] = {
    "tools": st.lists(
        st.sampled_from(
            [DECLARED, {"googleSearch": {}}, {"google_search": {}}, {"urlContext": {}}, {"codeExecution": {}}]
        ),
        min_size=1,
        max_size=2,
    ),
    "cachedContent": st.just("cachedContents/a"),
    "serviceTier": st.just("warp"),
    "fieldOfTomorrow": st.just(1),
}
PAID_CONFIG: dict[str, Any] = {
    "responseModalities": st.sampled_from([["TEXT", "IMAGE"], ["AUDIO"], ["VIDEO"]]),
    "speechConfig": st.just({}),
    "imageConfig": st.just({"imageSize": "4K"}),
    "settingOfTomorrow": st.just(1),
}


def with_config(of: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
    body, config = of
    return {**body, "generationConfig": config} if config else body


def assert_bounded(body: dict[str, Any], step: Step, *, may_be_refused: bool) -> None:
    call = parse_gemini(body, "a")
    for rates, price in PRICES.items():
        ceiling = Ceiling.of(call, step, price, Room())
        if ceiling.unbounded is not None:
            assert may_be_refused, ceiling.unbounded.param
            continue
        assert ceiling.hold_usd is not None
        sent = native(call.body, step.deployment.model, ceiling.most)
        assert most_usd("gemini", sent, rates) <= float(ceiling.hold_usd) + 1e-9, f"{sent!r:.3000}"


def explore(examples: int) -> None:
    tried = settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    harmless = st.tuples(some(HARMLESS, 4), some(HARMLESS_CONFIG, 4)).map(with_config)
    asked = st.tuples(
        st.tuples(some(HARMLESS, 3), some(PAID, 2)).map(lambda both: both[0] | both[1]),
        st.tuples(some(HARMLESS_CONFIG, 3), some(PAID_CONFIG, 1)).map(lambda both: both[0] | both[1]),
    ).map(with_config)
    plain = st.lists(texts.map(lambda text: {"parts": [{"text": text}]}), min_size=1, max_size=3)

    @tried
    @given(st.sampled_from(STEPS), contents, asked)
    def whatever_is_asked(step: Step, said: Any, body: Any) -> None:
        assert_bounded({"contents": said, **body}, step, may_be_refused=True)

    @tried
    @given(st.sampled_from(STEPS), plain, harmless)
    def nothing_harmless_is_refused(step: Step, said: Any, body: Any) -> None:
        assert_bounded({"contents": said, **body}, step, may_be_refused=False)

    whatever_is_asked()
    nothing_harmless_is_refused()


def test_nothing_that_is_sent_as_it_came_can_cost_more_than_was_held() -> None:
    explore(examples=100)
