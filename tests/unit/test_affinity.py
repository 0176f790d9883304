"""A conversation comes to the same deployment and key, wherever and whenever it is asked, and weights are respected."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from routing.catalog import Alias, Catalog, Provider, Step
from routing.endpoints.chat.request import parse_chat
from routing.endpoints.conversations import affinity_of
from routing.endpoints.embeddings.request import parse_embeddings
from routing.endpoints.gemini.request import parse_gemini
from routing.endpoints.messages.request import parse_messages
from routing.endpoints.responses.request import parse_responses
from routing.secrets.rotation import choose, failed
from routing.serving.affinity import Affinity
from routing.upstreams.base import Deployment, FailureKind, Timeouts, UpstreamError

CONVERSATIONS = [f"conversation {number}" for number in range(2000)]
WEIGHTS = {"x": 1, "y": 3, "z": 6}
LONG_WAIT = UpstreamError(FailureKind.RATE_LIMITED, "slow down", retry_after_s=300)


def known_as(conversation: str) -> Affinity:
    return Affinity(lambda: conversation)


def order(conversation: str, weights: Mapping[str, int] = WEIGHTS) -> list[str]:
    own = tuple(
        Step("a", 1, Provider(f"of {model}", "openai", True, ("",), 1, 5, 0.5, 30),
             Deployment(f"of {model}", "openai", model, None, Timeouts()), weight)
        for model, weight in weights.items()
    )  # fmt: skip
    catalog = Catalog(1, {"a": Alias("a", True, 1, False, own, {})}, {}, (), {})
    return [step.deployment.model for step in catalog.chain("a", chance=known_as(conversation).chance)]


def chi_square(found: Mapping[str, int], shares: Mapping[str, float]) -> float:
    total = sum(found.values())
    return sum((found[name] - share * total) ** 2 / (share * total) for name, share in shares.items())


def test_weights_are_respected_over_many_conversations() -> None:
    first = Counter(order(conversation)[0] for conversation in CONVERSATIONS)
    assert chi_square(first, {"x": 0.1, "y": 0.3, "z": 0.6}) < 13.8, first  # 1 in 1,000 fair draws is beyond that
    second = Counter(found[1] for found in map(order, CONVERSATIONS) if found[0] == "z")
    assert chi_square(second, {"x": 0.25, "y": 0.75}) < 10.8, second


def test_one_that_is_gone_moves_only_its_own_conversations() -> None:
    for conversation in CONVERSATIONS[:500]:
        before = order(conversation)
        assert order(conversation, {"x": 1, "y": 3}) == [model for model in before if model != "z"]


def test_every_process_comes_to_the_same_order() -> None:
    program = (
        "from routing.serving.affinity import Affinity\n"
        "import json; print(json.dumps([Affinity(lambda n=n: f'c {n}').chance('p\\0m') for n in range(50)]))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."}, check=True, text=True,
            capture_output=True, cwd=Path(__file__).parents[2],
        ).stdout
        for seed in ("1", "2", "random")
    }  # fmt: skip
    assert len(answers) == 1
    found = json.loads(answers.pop())
    assert found == [known_as(f"c {n}").chance("p\0m") for n in range(50)]
    assert all(0 <= chance < 1 for chance in found)


def test_a_new_version_of_the_gateway_comes_to_the_same_order_too() -> None:
    equal = dict.fromkeys("xyz", 1)
    assert ["".join(order(conversation, equal)) for conversation in CONVERSATIONS[:6]] == [
        "yzx",
        "yxz",
        "zxy",
        "zyx",
        "zxy",
        "xzy",
    ]


# --- provider keys ----------------------------------------------------------------------------------------------------


@pytest.fixture
def four(tmp_path: Path, settings: Settings) -> Provider:
    settings.GATEWAY_KEY_DIR = str(tmp_path)
    for name in "1234":
        (tmp_path / name).write_text(f"secret {name}")
    references = tuple(f"file:{tmp_path / name}" for name in "1234")
    return Provider(f"provider at {tmp_path}", "openai", True, references, 1, 5, 0.5, 30)


def taken(provider: Provider, conversation: str, *tried: str) -> str:
    key = choose(provider, tried, known_as(conversation).chance)
    assert key is not None
    return key.reference


def test_conversations_are_shared_out_among_the_keys_and_each_keeps_its_own(four: Provider) -> None:
    found = {conversation: taken(four, conversation) for conversation in CONVERSATIONS}
    assert chi_square(Counter(found.values()), dict.fromkeys(four.key_references, 0.25)) < 30
    assert all(taken(four, conversation) == found[conversation] for conversation in CONVERSATIONS[:100])


def test_a_conversation_leaves_its_key_only_while_that_rests(four: Provider) -> None:
    before = {conversation: taken(four, conversation) for conversation in CONVERSATIONS[:200]}
    resting = before[CONVERSATIONS[0]]
    key = choose(four, (), known_as(CONVERSATIONS[0]).chance)
    assert key is not None
    failed(four, key, LONG_WAIT)
    for conversation, reference in before.items():
        now = taken(four, conversation)
        assert now == reference if reference != resting else now != resting
        assert taken(four, conversation, resting) == now, "as if it were tried already"


def test_to_look_takes_no_turn_of_others(four: Provider) -> None:
    looked = [choose(four, takes_turn=False) for _ in range(3)]
    assert looked == [choose(four)] * 3
    assert choose(four) != looked[0]


# --- what is one conversation -----------------------------------------------------------------------------------------

SYSTEM = {"role": "system", "content": "You are a pirate."}
USER = {"role": "user", "content": "Hello"}
REST = [{"role": "assistant", "content": "Ahoy"}, {"role": "user", "content": "Where is the gold?"}]
CLAUDE_CODE = json.dumps({"device_id": "d", "account_uuid": "", "session_id": "s"})


def place(call: Any, **headers: str) -> float | None:
    affinity = affinity_of(call, {f"HTTP_{name.upper()}": value for name, value in headers.items()})
    return None if affinity is None else affinity.chance("p")


def chat(*messages: Mapping[str, Any], **fields: Any) -> Any:
    return parse_chat({"model": "a", "messages": list(messages), **fields})


def claude(*messages: Mapping[str, Any], **fields: Any) -> Any:
    return parse_messages({"model": "a", "max_tokens": 9, "messages": list(messages), **fields})


def responses(**fields: Any) -> Any:
    return parse_responses({"model": "a", **fields})


def test_a_later_request_of_a_conversation_is_known_by_its_beginning() -> None:
    first = place(chat(SYSTEM, USER))
    assert first == place(chat(SYSTEM, USER, *REST)) == place(chat(SYSTEM, USER, *REST, stream=True, temperature=1))
    assert first not in (place(chat(USER)), place(chat(SYSTEM, REST[1])), None)


def test_messages_are_known_by_system_and_first_words_wherever_cache_marks_stand() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    text: dict[str, Any] = {"type": "text", "text": "Hello"}
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    first = place(claude({"role": "user", "content": [picture | mark, text | mark]}, system="Be kind"))
    later = place(
        claude({"role": "user", "content": [picture, text]}, *REST, system=[{"type": "text", "text": "Be kind"} | mark])
    )
    assert first == later
    assert first != place(claude({"role": "user", "content": [text]}, system="Be kind"))


def test_responses_are_known_by_instructions_and_first_input() -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
    first = place(responses(input="Hello", instructions="Be kind"))
    assert first == place(responses(input=[item], instructions="Be kind"))
    assert first == place(responses(input=[item, *REST], instructions="Be kind"))
    assert first != place(responses(input="Hello", instructions="Be rude"))


def test_googles_format_is_known_by_its_instruction_and_first_words() -> None:
    hello, answer = {"parts": [{"text": "Hello"}]}, {"role": "model", "parts": [{"text": "Ahoy"}]}
    kind = {"parts": [{"text": "Be kind"}]}

    def google(*contents: Any, **fields: Any) -> Any:
        return parse_gemini({"contents": list(contents), **fields}, "a")

    first = place(google(hello, systemInstruction=kind))
    assert first == place(google({"role": "user", **hello}, answer, hello, system_instruction=kind))
    assert first not in (place(google(hello)), place(google({"parts": [{"text": "Ahoy"}]}, systemInstruction=kind)))


@pytest.mark.parametrize(
    ("call", "headers"),
    [
        (chat(USER, prompt_cache_key="s"), {}),
        (responses(input="Hi", prompt_cache_key="s"), {"session_id": "other"}),
        (chat(USER), {"x_session_id": "s"}),
        (chat(USER), {"session_id": "s"}),
        (chat(USER), {"x_litellm_session_id": "s"}),
        (claude(USER), {"x_claude_code_session_id": "s"}),
        (chat(USER, litellm_session_id="s"), {}),
        (chat(USER, metadata={"session_id": "s"}), {}),
    ],
)
def test_what_a_client_calls_its_conversation_comes_first(call: Any, headers: dict[str, str]) -> None:
    assert place(call, **headers) == known_as("s").chance("p")


def test_claude_code_names_its_session_in_its_end_user_and_others_do_not() -> None:
    named = place(claude(USER, metadata={"user_id": CLAUDE_CODE}))
    assert named == place(claude(REST[1], metadata={"user_id": CLAUDE_CODE})) == known_as(CLAUDE_CODE).chance("p")
    assert place(claude(USER, metadata={"user_id": "ann"})) == place(claude(USER))


@pytest.mark.parametrize("name", [7, "", None, ["s"], {"s": 1}])
def test_an_odd_name_is_no_name(name: object) -> None:
    assert place(chat(USER, litellm_session_id=name)) == place(chat(USER))


def test_what_is_no_conversation_is_drawn_at_random() -> None:
    assert place(parse_embeddings({"model": "a", "input": "Hi"}), x_session_id="s") is None


def test_a_lone_surrogate_in_a_prompt_or_a_name_is_hashed_as_anything_else() -> None:
    assert place(chat({"role": "user", "content": "\ud800"})) != place(chat(USER))
    assert place(chat(USER, prompt_cache_key="\ud800")) is not None
