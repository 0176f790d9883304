"""A continued answer is the partial answer and the rest, joined without a gap or a repetition."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.endpoints.chat.continuing import INSTRUCTION, PartialChat, Seam, continuation, further_input_tokens
from routing.upstreams.base import UpstreamError

ANSWER = (
    "The Baltic is a young sea: it came to be after the last ice age, when the melting glaciers filled its basin. "
    "Its water is brackish, and fish of the sea live beside fish of the rivers."
)
pieces_of = st.integers(min_value=1, max_value=30)
prose = st.text(st.characters(codec="utf-8"), min_size=1, max_size=300)


def joined(partial: str, said: str, size: int = 7, *, prefilled: bool = False) -> str:
    """The whole answer when the continuing model sends this text, with so many characters an event."""
    seam = Seam(partial, prefilled=prefilled)
    rest = "".join(seam.add(said[at : at + size]) for at in range(0, len(said), size))
    return partial + rest + seam.end()


@pytest.mark.parametrize("prefilled", [True, False])
@given(at=st.integers(min_value=0, max_value=len(ANSWER)), size=pieces_of)
def test_what_goes_on_is_appended(at: int, size: int, prefilled: bool) -> None:
    assert joined(ANSWER[:at], ANSWER[at:], size, prefilled=prefilled) == ANSWER


@given(at=st.integers(min_value=0, max_value=len(ANSWER)), size=pieces_of)
def test_an_answer_begun_anew_with_the_same_words_is_not_repeated(at: int, size: int) -> None:
    assert joined(ANSWER[:at], ANSWER, size) == ANSWER


@given(at=st.integers(min_value=12, max_value=len(ANSWER)), size=pieces_of)
def test_an_answer_begun_anew_after_a_prefill_is_not_repeated(at: int, size: int) -> None:
    assert joined(ANSWER[:at], ANSWER, size, prefilled=True) == ANSWER


@given(at=st.integers(min_value=40, max_value=len(ANSWER) - 1), back=st.integers(25, 40), size=pieces_of)
def test_the_last_words_said_again_are_left_out(at: int, back: int, size: int) -> None:
    assert joined(ANSWER[:at], ANSWER[at - back :], size) == ANSWER


@given(before=prose, rest=prose, size=pieces_of)
def test_after_a_prefill_nothing_is_lost_but_white_space_said_twice(before: str, rest: str, size: int) -> None:
    try:
        whole = joined(before, rest, size, prefilled=True)
    except UpstreamError:
        assert rest[:8] == before[:8]  # begun anew
        return
    begun_anew = len(before) >= 12 and rest.startswith(before)
    trailing = before[len(before.rstrip()) :]
    said_twice = next((n for n in range(len(trailing), 0, -1) if rest.startswith(trailing[:n])), 0)
    assert whole == (rest if begun_anew else before + rest[said_twice:])


def test_a_prefill_goes_out_without_trailing_white_space_and_it_comes_back_once() -> None:
    asked = continuation({"messages": []}, "Once upon a ", 3, prefill=True)
    assert asked["messages"] == [{"role": "assistant", "content": "Once upon a"}]
    assert joined("Once upon a ", " time", prefilled=True) == "Once upon a time"
    assert joined("Once upon a ", "time", prefilled=True) == "Once upon a time"


def test_a_refrain_is_not_taken_for_a_repetition() -> None:
    line = "and the wheels go round and round, "
    assert joined(line * 3, line * 2) == line * 5


def test_another_answer_is_refused() -> None:
    other = ANSWER[:60] + "... No: let me tell you about the Black Sea instead, which is older."
    with pytest.raises(UpstreamError, match="began another one"):
        joined(ANSWER[:100], other)
    with pytest.raises(UpstreamError, match="began another one"):
        joined('{"city": "Oslo", "peo', '{"city": "Bergen"}')


def test_what_ends_before_it_comes_to_the_break_is_refused() -> None:
    with pytest.raises(UpstreamError, match="began another one"):
        joined(ANSWER[:100], ANSWER[:70])


def test_the_instruction_follows_what_was_said_and_json_is_not_asked_for_anew() -> None:
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": "?"}], "max_tokens": 100, "response_format": {"type": "json_object"},
    }  # fmt: skip
    asked = continuation(body, '{"a": ', 30, prefill=False)
    assert asked == {
        "messages": [
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": '{"a": '},
            {"role": "user", "content": INSTRUCTION},
        ],
        "max_tokens": 70,
    }
    assert body["max_tokens"] == 100


def test_an_answer_without_text_so_far_is_asked_for_as_it_was() -> None:
    body = {"messages": [{"role": "user", "content": "?"}], "max_tokens": 100, "response_format": {"type": "text"}}
    assert continuation(body, "", 30, prefill=False) == body
    assert further_input_tokens("") == 0


def test_the_further_input_is_bounded_by_bytes() -> None:
    assert further_input_tokens("žluťoučký \ud83d") >= len("žluťoučký ".encode()) + 3 + len(INSTRUCTION)


def chunk(finish_reason: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def test_a_tool_call_is_held_back_until_it_is_whole() -> None:
    partial = PartialChat()
    first = chunk(role="assistant", content="Let me look.")
    calls = [chunk(tool_calls=[{"index": 0, "function": {"arguments": text}}]) for text in ('{"a', '": 1}')]
    end = chunk("tool_calls")
    assert partial.receive(first) == (first,)
    assert partial.receive(calls[0]) == partial.receive(calls[1]) == ()
    assert partial.text == "Let me look."
    assert partial.receive(end) == [*calls, end]
    assert partial.is_finished


def test_a_tool_call_without_end_is_not_held_back_without_bound() -> None:
    partial = PartialChat()
    piece = chunk(tool_calls=[{"index": 0, "function": {"arguments": "x" * 300_000}}])
    assert [len(partial.receive(piece)) for _ in range(5)] == [0, 0, 0, 4, 1]
    assert partial.is_beyond_rescue
