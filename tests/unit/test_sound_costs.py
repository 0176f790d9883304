"""What sound costs, and that no bill is dearer than what was held for it."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounting.pricing import PriceList, cost_usd
from accounting.rates import RateLimits
from accounting.usage import Usage
from routing.catalog import Provider, Step
from routing.endpoints.audio.speech.request import SpeechCall, parse_speech
from routing.endpoints.audio.transcriptions.request import TranscriptionCall
from routing.serving.ceiling import Ceiling, Room
from routing.upstreams import litellm_import, price_map
from routing.upstreams.base import Deployment, File, Timeouts
from routing.upstreams.sound import usage_of

PLACES = Decimal("1e-12")


@pytest.fixture(scope="module")
def litellm() -> Any:
    return litellm_import.load()


@cache
def prices_of(provider: str, model: str) -> PriceList:
    found = price_map.price_of(provider, model)
    assert found is not None
    return found


def step(provider: str, model: str) -> Step:
    deployment = Deployment(provider, provider, model, None, Timeouts())
    return Step("alias", None, Provider(provider, provider, True, ("env:A",), 1, 5, 0.5, 30), deployment)


def transcription(seconds: Fraction | None, text: str = "", **fields: str) -> TranscriptionCall:
    return TranscriptionCall(
        endpoint="transcriptions",
        alias="alias",
        fields={"model": ("alias",), **{name: (value,) for name, value in fields.items()}},
        file=File("a.wav", "audio/wav", b"x" * 100),
        seconds=seconds,
        why_unread="" if seconds is not None else "it is none",
        end_user="",
        tags={},
    )


def speech(text: str, **more: Any) -> SpeechCall:
    return parse_speech({"model": "alias", "input": text, "voice": "alloy", **more})


@pytest.mark.parametrize("seconds", [1, 9, 61, 3601])
@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "whisper-1"), ("groq", "whisper-large-v3"), ("openai", "gpt-transcribe"), ("azure", "whisper-1"),
     ("mistral", "voxtral-mini-2602")],
)  # fmt: skip
def test_seconds_cost_what_litellm_says(litellm: Any, provider: str, model: str, seconds: int) -> None:
    answer = litellm.TranscriptionResponse(text="hello")
    answer._hidden_params = {"audio_transcription_duration": float(seconds)}
    theirs = litellm.completion_cost(
        completion_response=answer, model=f"{provider}/{model}", custom_llm_provider=provider, call_type="transcription"
    )
    ours = usage_of({"type": "duration", "seconds": seconds})
    assert ours is not None
    assert cost_usd(ours, prices_of(provider, model)) == Decimal(str(theirs)).quantize(PLACES)


@pytest.mark.parametrize("counts", [(140, 126, 31), (14, 0, 45), (15_000, 14_900, 2_000), (1, 1, 0)])
@pytest.mark.parametrize("model", ["gpt-4o-transcribe", "gpt-4o-mini-transcribe"])
def test_tokens_of_a_transcript_cost_what_litellm_says(litellm: Any, model: str, counts: tuple[int, int, int]) -> None:
    given, heard, written = counts
    reported = {
        "type": "tokens",
        "input_tokens": given,
        "output_tokens": written,
        "total_tokens": given + written,
        "input_token_details": {"audio_tokens": heard, "text_tokens": given - heard},
    }
    answer = litellm.TranscriptionResponse(text="hello", usage=reported)
    theirs = litellm.completion_cost(
        completion_response=answer, model=model, custom_llm_provider="openai", call_type="transcription"
    )
    ours = usage_of(reported)
    assert ours is not None
    assert cost_usd(ours, prices_of("openai", model)) == Decimal(str(theirs)).quantize(PLACES)


@pytest.mark.parametrize("text", ["a", "Hello there.", "Grüße an 李 Lei", "x" * 4096])
@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "tts-1"), ("openai", "tts-1-hd"), ("azure", "tts-1"), ("groq", "canopylabs/orpheus-v1-english")],
)
def test_characters_cost_what_litellm_says(litellm: Any, provider: str, model: str, text: str) -> None:
    """But for white space, which providers count and litellm does not."""
    counted = text.replace(" ", "x")
    theirs = litellm.completion_cost(
        model=f"{provider}/{model}", custom_llm_provider=provider, prompt=counted, call_type="speech"
    )
    ours = speech(text).estimate("", step(provider, model))
    assert cost_usd(ours, prices_of(provider, model)) == Decimal(str(theirs)).quantize(PLACES)


@pytest.mark.parametrize("counts", [(14, 101), (2_000, 16_384), (1, 1)])
def test_spoken_tokens_cost_what_litellm_says(litellm: Any, counts: tuple[int, int]) -> None:
    from litellm.types.utils import CompletionTokensDetailsWrapper

    given, made = counts
    theirs = litellm.cost_per_token(
        model="gpt-4o-mini-tts",
        custom_llm_provider="openai",
        call_type="speech",
        usage_object=litellm.Usage(
            prompt_tokens=given,
            completion_tokens=made,
            total_tokens=given + made,
            completion_tokens_details=CompletionTokensDetailsWrapper(audio_tokens=made, text_tokens=0),
        ),
    )
    ours = usage_of({"input_tokens": given, "output_tokens": made, "total_tokens": given + made}, is_spoken=True)
    assert ours is not None
    assert cost_usd(ours, prices_of("openai", "gpt-4o-mini-tts")) == Decimal(str(sum(theirs))).quantize(PLACES)


MODELS_OF_TRANSCRIPTS = [
    ("openai", "whisper-1"), ("openai", "gpt-4o-transcribe"), ("openai", "gpt-4o-mini-transcribe"),
    ("groq", "whisper-large-v3-turbo"), ("azure", "gpt-4o-transcribe"), ("mistral", "voxtral-mini-2602"),
]  # fmt: skip


def ceiling(call: Any, provider: str, model: str) -> Ceiling:
    return Ceiling.of(call, step(provider, model), prices_of(provider, model), Room.under((), RateLimits()))


bills = st.fixed_dictionaries({"billed": st.fractions(0, 1), "written": st.fractions(0, 1)})


def bill_a_transcript(
    where: tuple[str, str], seconds: Fraction, texts: tuple[str, str], bill: dict[str, Fraction]
) -> None:
    """The provider counts the seconds of the file, begun ones too, or the tokens of its sound and of the prompt."""
    (provider, model), (prompt, text) = where, texts
    call, asked = transcription(seconds, prompt=prompt), step(provider, model)
    held = ceiling(call, provider, model)
    assert held.unbounded is None
    assert held.hold_usd is not None
    prices = prices_of(provider, model)
    most_output, most_input = price_map.limits_of(provider, model)
    sound = int(seconds * 32 * bill["billed"])
    tokens = {
        "input_tokens": max(1, min(sound + len(prompt.encode()), most_input or 10**9)),
        "output_tokens": int((most_output or 2_000) * bill["written"]),
        "input_token_details": {"audio_tokens": sound},
    }
    whole = call.request_for(asked, held.most)["file"].seconds
    usages = [usage_of(tokens, measured={"input_second": Decimal(whole)}), call.estimate(text, asked)]
    if provider != "azure":  # whose price has no seconds, and which counts none
        usages.append(usage_of({"type": "duration", "seconds": whole}))
    for usage in usages:
        assert usage is not None
        cost = cost_usd(usage, prices)
        assert cost is not None
        assert cost <= held.hold_usd


def bill_speech(where: tuple[str, str], text: str, instructions: str, spoken: int) -> None:
    provider, model = where
    call = speech(text, instructions=instructions)
    held = ceiling(call, provider, model)
    assert held.unbounded is None
    assert held.hold_usd is not None
    prices = prices_of(provider, model)
    given_tokens = len(text.encode("utf-8", "surrogatepass")) + len(instructions.encode("utf-8", "surrogatepass"))
    counted = usage_of(
        {"input_tokens": given_tokens, "output_tokens": spoken},
        is_spoken=True,
        measured={"input_character": Decimal(len(text))},
    )
    assert counted is not None
    for usage in (counted, call.estimate("", step(provider, model))):
        cost = cost_usd(usage, prices)
        assert cost is not None
        assert cost <= held.hold_usd


def explore(examples: int) -> None:
    """Bills at random, none of which may be dearer than what was held."""
    often = settings(max_examples=examples, deadline=None)
    often(
        given(
            where=st.sampled_from(MODELS_OF_TRANSCRIPTS),
            seconds=st.fractions(Fraction(1, 100), 8000),
            texts=st.tuples(st.text(max_size=200), st.text(max_size=500)),
            bill=bills,
        )(bill_a_transcript)
    )()
    often(
        given(
            where=st.sampled_from(
                [
                    ("openai", "tts-1"),
                    ("openai", "gpt-4o-mini-tts"),
                    ("azure", "gpt-4o-mini-tts"),
                    ("gemini", "gemini-2.5-flash-preview-tts"),
                    ("groq", "canopylabs/orpheus-v1-english"),
                ]
            ),
            text=st.text(min_size=1, max_size=3000).filter(lambda text: text.strip()),
            instructions=st.text(max_size=300),
            spoken=st.integers(0, 16_384),
        )(bill_speech)
    )()


def test_no_bill_of_sound_is_dearer_than_its_hold() -> None:
    explore(40)


def test_what_nobody_bounds_is_named() -> None:
    own = PriceList.of({"standard": {"input": "1", "output": "2"}})
    for call in (speech("hello"), transcription(Fraction(3))):
        found = Ceiling.of(call, step("openai", "our-own"), own, Room.under((), RateLimits()))
        assert found.unbounded is not None
        assert found.unbounded.param == "model"
    chunks = ceiling(transcription(Fraction(3), chunking_strategy="auto"), "openai", "gpt-4o-transcribe")
    assert chunks.unbounded is not None
    assert chunks.unbounded.param == "chunking_strategy"
    unread = ceiling(transcription(None), "openai", "whisper-1")
    assert unread.unbounded is not None
    assert unread.unbounded.param == "file"


def test_a_price_by_seconds_is_not_free_because_tokens_cost_nothing() -> None:
    usage = Usage(input_tokens=30, output_tokens=5, quantities={"input_second": Decimal(3)})
    both = PriceList.of({"standard": {"input": "0", "output": "0", "input_second": "0.1"}})
    tokens = PriceList.of({"standard": {"input": "1", "output": "2", "input_second": "0.1"}})
    free = PriceList.of({"standard": {"input": "0", "output": "0"}})
    assert cost_usd(usage, both) == Decimal("0.3")
    assert cost_usd(usage, tokens) == Decimal("0.00004")
    assert cost_usd(usage, free) == 0


@pytest.mark.parametrize(
    "reported",
    [None, {}, "9", {"seconds": -1}, {"seconds": "9"}, {"seconds": True}, {"seconds": 1e300}, {"seconds": float("nan")},
     {"input_tokens": 3}, {"input_tokens": -3, "output_tokens": 1}, {"input_tokens": 0, "output_tokens": 1},
     {"input_tokens": 10**12, "output_tokens": 1}],
)  # fmt: skip
def test_an_absurd_count_is_none(reported: object) -> None:
    assert usage_of(reported) is None
