"""What a provider's report of its usage means: the odd reports, each as a server writes it, and what they cost."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from accounting.pricing import PriceList, cost_usd
from accounting.usage import Usage, UsageSource
from routing.serving.attempts import counted
from routing.upstreams.usage import (
    conforming_usage,
    usage_of,
    usage_of_contents,
    usage_of_input,
    usage_of_messages,
    usage_of_response,
)

ALL = {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27}
PRICES = PriceList.of(
    {"standard": {"input": "1", "cached_input": "0.1", "audio_input": "4", "cached_audio_input": "0.4", "output": "2"}}
)


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        ({"prompt_tokens": 100, "completion_tokens": None, "total_tokens": 130}, Usage(100, output_tokens=30)),
        ({"prompt_tokens": 100, "total_tokens": 130}, Usage(100, output_tokens=30)),
        ({"completion_tokens": 30, "total_tokens": 130}, Usage(100, output_tokens=30)),
        ({"prompt_tokens": 100, "total_tokens": 90}, Usage(100)),
        ({"prompt_tokens": 100}, Usage(100)),
    ],
)
def test_a_total_that_is_missing_is_what_the_other_leaves_of_both(reported: dict[str, Any], usage: Usage) -> None:
    assert usage_of(reported) == usage
    told = conforming_usage(reported)
    assert told is not None
    assert (told["prompt_tokens"], told["completion_tokens"]) == (usage.input_tokens, usage.output_tokens)


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        (
            {
                "input_tokens": 100,
                "input_tokens_details": {"cached_tokens": 40},
                "output_tokens": 30,
                "output_tokens_details": {"reasoning_tokens": 10},
                "total_tokens": 130,
            },
            Usage(100, cached_input_tokens=40, output_tokens=30, reasoning_tokens=10),
        ),
        (
            {
                "input_tokens": 100,
                "cache_read_input_tokens": 40,
                "cache_creation_input_tokens": 20,
                "cache_creation": {"ephemeral_1h_input_tokens": 5},
                "output_tokens": 30,
            },
            Usage(160, cached_input_tokens=40, cache_write_tokens=20, cache_write_1h_tokens=5, output_tokens=30),
        ),
        # Words of chat beside them are believed.
        (
            {"prompt_tokens": 9, "completion_tokens": 3, "input_tokens": 100, "output_tokens": 30},
            Usage(9, output_tokens=3),
        ),
    ],
)
def test_a_chat_may_be_counted_in_the_words_of_responses_or_messages(reported: dict[str, Any], usage: Usage) -> None:
    assert usage_of(reported) == usage
    told = conforming_usage(reported)
    assert told is not None
    assert (told["prompt_tokens"], told["completion_tokens"]) == (usage.input_tokens, usage.output_tokens)


def test_sound_that_was_read_from_the_cache_is_billed_once() -> None:
    """Gemini's own count of the same is read alike (tests/wire/test_gemini_contents.py)."""
    usage = usage_of(
        {
            "prompt_tokens": 1000,
            "completion_tokens": 250,
            "prompt_tokens_details": {
                "cached_tokens": 600,
                "audio_tokens": 100,
                "cached_tokens_details": {"text_tokens": 540, "audio_tokens": 60},
            },
        }
    )
    assert usage is not None
    # 360 of text, 40 of sound, 540 and 60 of them from the cache, 250 written
    assert cost_usd(usage, PRICES) == Decimal(360 + 160 + 54 + 24 + 500) / 1_000_000


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        # Google's models at an address of OpenAI's format: what they thought is in the total alone.
        (
            {"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623},
            Usage(20, output_tokens=603, reasoning_tokens=405),
        ),
        # A gateway that counts the cache beside the input, as Anthropic does.
        (
            {
                "prompt_tokens": 600,
                "completion_tokens": 5,
                "total_tokens": 1105,
                "prompt_tokens_details": {"cached_tokens": 500},
            },
            Usage(1100, cached_input_tokens=500, output_tokens=5),
        ),
        # A total of which nobody can say what is in it.
        (
            {
                "prompt_tokens": 600,
                "completion_tokens": 5,
                "total_tokens": 700,
                "prompt_tokens_details": {"cached_tokens": 500},
            },
            Usage(600, cached_input_tokens=500, output_tokens=5),
        ),
        ({"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 5}, Usage(20, output_tokens=5)),
        ({"prompt_tokens": 0, "completion_tokens": 5, "total_tokens": 105}, Usage(100, output_tokens=5)),
    ],
)  # fmt: skip
def test_a_total_that_is_more_than_its_parts_says_what_they_lack(reported: dict[str, Any], usage: Usage) -> None:
    assert usage_of(reported) == usage


def test_what_claude_read_to_summarise_a_conversation_is_billed() -> None:
    summary = {"type": "compaction", "input_tokens": 170_000, "cache_read_input_tokens": 10_000, "output_tokens": 3500}
    answer = {"type": "message", "input_tokens": 23_000, "cache_creation_input_tokens": 40, "output_tokens": 1000,
              "cache_creation": {"ephemeral_1h_input_tokens": 40, "ephemeral_5m_input_tokens": 0}}  # fmt: skip
    reported = {**answer, "iterations": [summary, answer]}
    assert usage_of_messages(reported) == Usage(
        203_040, cached_input_tokens=10_000, cache_write_tokens=40, cache_write_1h_tokens=40, output_tokens=4500
    )
    assert usage_of_messages({**answer, "iterations": None}) == usage_of_messages({**answer, "iterations": [answer]})


def test_what_gemini_said_is_what_the_total_leaves() -> None:
    counted = {"promptTokenCount": 10, "thoughtsTokenCount": 4, "totalTokenCount": 44}
    assert usage_of_contents({"usageMetadata": counted}) == Usage(10, output_tokens=34, reasoning_tokens=4)
    blocked = {"promptTokenCount": 10, "totalTokenCount": 10}
    assert usage_of_contents({"usageMetadata": blocked}) == Usage(10)


@pytest.mark.parametrize(
    "reported",
    [
        {"total_tokens": 9},
        {"prompt_tokens": 0, "total_tokens": 9},
        {"prompt_tokens": 7, "total_tokens": 9},  # none of it is output, which has no price here
        {"prompt_tokens": 9},
    ],
)
def test_embeddings_may_be_counted_by_their_total_alone(reported: dict[str, Any]) -> None:
    assert usage_of_input(reported) == Usage(9)


def test_no_output_is_not_believed_of_an_answer_in_words() -> None:
    ours = Usage(8, output_tokens=3, source=UsageSource.ESTIMATED)
    silent = Usage(100, cached_input_tokens=40)
    assert counted(silent, lambda: ours, is_in_words=True) == Usage(
        100, cached_input_tokens=40, output_tokens=3, source=UsageSource.ESTIMATED
    )
    # Of vectors there is none, and of an answer in which nothing was said.
    assert counted(silent, lambda: ours) is silent
    assert counted(silent, lambda: Usage(8, source=UsageSource.ESTIMATED), is_in_words=True) is silent


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"prompt_tokens_details": None, "completion_tokens_details": {}},
        {"prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": None}},
        {"completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 0}},
    ],
)
def test_parts_that_count_nothing_change_nothing(parts: dict[str, Any]) -> None:
    assert usage_of({**ALL, **parts}) == Usage(input_tokens=20, output_tokens=7)


@pytest.mark.parametrize(
    ("parts", "usage"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 5}}, Usage(20, cached_input_tokens=5, output_tokens=7)),
        ({"prompt_tokens_details": {"audio_tokens": "5"}}, Usage(20, audio_input_tokens=5, output_tokens=7)),
        ({"completion_tokens_details": {"reasoning_tokens": 3}}, Usage(20, output_tokens=7, reasoning_tokens=3)),
        ({"total_tokens": 67}, Usage(20, output_tokens=47, reasoning_tokens=40)),
        ({"cached_tokens": 4}, Usage(20, cached_input_tokens=4, output_tokens=7)),
        ({"cache_creation_input_tokens": 6}, Usage(20, cache_write_tokens=6, output_tokens=7)),
    ],
)
def test_each_part_is_counted(parts: dict[str, Any], usage: Usage) -> None:
    assert usage_of({**ALL, **parts}) == usage


def test_a_count_that_the_answer_went_on_behind_is_the_least_that_it_was() -> None:
    early = Usage(100, cached_input_tokens=40, output_tokens=5, source=UsageSource.ESTIMATED)
    ours = Usage(8, output_tokens=30, source=UsageSource.ESTIMATED)
    assert counted(early, lambda: ours) == replace(early, output_tokens=30)
    assert counted(early, lambda: replace(ours, output_tokens=2)) == early


@pytest.mark.parametrize(
    ("lifetimes", "hour"),
    [
        ({"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 80}, 480),
        ({"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 100}, 500),
        ({"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 0}, 0),
        ({"ephemeral_1h_input_tokens": 100}, 100),
        ({"ephemeral_5m_input_tokens": 900, "ephemeral_1h_input_tokens": 900}, 500),
    ],
)
def test_what_a_servers_tool_writes_into_the_cache_has_the_dearer_of_the_lifetimes_used(
    lifetimes: dict[str, Any], hour: int
) -> None:
    """A stream names the lifetimes of what was written before its first word, and then all that was written."""
    counted = {"input_tokens": 30, "cache_creation_input_tokens": 500, "output_tokens": 40}
    usage = Usage(530, cache_write_tokens=500, cache_write_1h_tokens=hour, output_tokens=40)
    assert usage_of_messages({**counted, "cache_creation": lifetimes}) == usage
    prompt = {"cache_creation_tokens": 500, "cache_creation_token_details": lifetimes}
    assert usage_of({"prompt_tokens": 530, "completion_tokens": 40, "prompt_tokens_details": prompt}) == usage


def test_sound_and_cache_that_are_more_than_the_input_are_partly_the_same() -> None:
    prompt = {"cached_tokens": 60, "audio_tokens": 80}
    usage = Usage(100, cached_input_tokens=60, audio_input_tokens=40, output_tokens=5,
                  quantities={"cached_audio_input": Decimal(40)})  # fmt: skip
    assert usage_of({"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": prompt}) == usage
    modalities = {"promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 80}], "cachedContentTokenCount": 60}
    counted = {"promptTokenCount": 100, "candidatesTokenCount": 5, "totalTokenCount": 105, **modalities}
    assert usage_of_contents({"usageMetadata": counted}) == usage


def test_what_openai_keeps_for_twelve_hours_is_counted_apart() -> None:
    """https://developers.openai.com/api/docs/guides/prompt-caching"""
    split = {"ttl_30m_tokens": 20, "ttl_12h_tokens": 80}
    details = {"cached_tokens": 5, "cache_write_tokens": 100, "cache_write_tokens_details": split}
    usage = Usage(200, cached_input_tokens=5, cache_write_tokens=100, cache_write_1h_tokens=80, output_tokens=7)
    chat = {"prompt_tokens": 200, "completion_tokens": 7, "prompt_tokens_details": details}
    assert usage_of(chat) == usage
    response = {"input_tokens": 200, "output_tokens": 7, "input_tokens_details": details}
    assert usage_of_response({"usage": response, "output": []}, {}) == usage
