"""What a request comes to when its provider has not counted: cheaply, and without a network."""

from __future__ import annotations

import time
from typing import Any

import pytest

from accounting.usage import UsageSource
from routing.upstreams import litellm_import
from routing.upstreams.estimate import TOKENS_AN_IMAGE, estimated_usage
from tests.clocks import within

PICTURE = {"type": "image_url", "image_url": {"url": "https://pictures.example/1.png", "detail": "high"}}
LONG = "The quick brown fox jumps over the lazy dog. " * 40_000  # 1.8 MB


def asked(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


@pytest.fixture(scope="module", autouse=True)
def loaded() -> None:
    estimated_usage(asked("hello"), "hello", "gpt-4o")


def test_short_texts_are_counted_by_the_models_tokenizer() -> None:
    usage = estimated_usage(asked("one two three four five"), "one two three", "gpt-4o")
    assert (usage.output_tokens, usage.source) == (3, UsageSource.ESTIMATED)
    assert 5 <= usage.input_tokens <= 15


@pytest.mark.parametrize("model", ["gpt-4o", "claude-sonnet-4-6", "some-llama-3-8b"])
def test_a_text_of_any_length_is_counted_in_no_time(model: str) -> None:
    began = time.monotonic()
    usage = estimated_usage(asked(LONG), LONG, model)
    assert within(time.monotonic() - began, 0.15)
    assert 300_000 < usage.input_tokens < 600_000  # the tokenizer says 400,000
    assert 300_000 < usage.output_tokens < 600_000


def test_pictures_are_counted_and_never_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("asked for the network")

    monkeypatch.setattr("socket.socket.connect", no_network)
    with_picture = estimated_usage(asked([{"type": "text", "text": "hello"}, PICTURE]), "", "gpt-4o")
    without = estimated_usage(asked([{"type": "text", "text": "hello"}]), "", "gpt-4o")
    assert with_picture.input_tokens == without.input_tokens + TOKENS_AN_IMAGE
    assert estimated_usage(asked("hello"), "hello", "meta-llama-3-70b").input_tokens > 0
    assert litellm_import.load().disable_hf_tokenizer_download is True


def test_a_sound_is_not_the_text_that_carries_it() -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "A" * 400_000, "format": "wav"}}
    assert 100 < estimated_usage(asked([sound]), "", "gpt-4o-audio").input_tokens < 5_000
