# ruff: noqa: E501 - the provider's own sentences are kept whole
"""OpenAI's completions of the old kind, as documented in its API reference and typed in its official client."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from tests.simulator import openai_format
from tests.simulator.model import fresh_id
from tests.simulator.prompt import Prompt, count
from tests.simulator.wire_format import Asked, Event, Failure, compact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulator.model import Answer

NAME = "completions"
STREAM_TYPE = openai_format.STREAM_TYPE
_TAKEN = frozenset(
    {
        "model", "prompt", "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n",
        "presence_penalty", "seed", "stop", "stream", "stream_options", "suffix", "temperature", "top_p", "user",
    }
)  # fmt: skip
_MODELS = ("gpt-3.5-turbo-instruct", "davinci-002", "babbage-002", "ft:davinci-002", "ft:babbage-002")

headers = openai_format.headers
failure = openai_format.failure
not_json = openai_format.not_json
failure_event = openai_format.failure_event


def refuse(asked: Asked) -> Failure | None:
    if refusal := openai_format.refuse_key(asked.headers):
        return refusal
    body = asked.body
    if not body.get("model"):
        return openai_format.invalid("you must provide a model parameter")
    if asked.provider.startswith("openai") and not asked.model.startswith(_MODELS):
        message = "This is a chat model and not supported in the v1/completions endpoint. Did you mean to use v1/chat/completions?"
        error = {"message": message, "type": "invalid_request_error", "param": "model", "code": None}
        return Failure(404, {"error": error})
    if unknown := sorted(body.keys() - _TAKEN):
        return openai_format.invalid(f"Unrecognized request argument supplied: {unknown[0]}")
    if (body.get("logprobs") or 0) > 5:
        return openai_format.invalid("This model does not support logprobs larger than 5.", "logprobs", "invalid_value")
    if (body.get("best_of") or 20) < (body.get("n") or 1):
        return openai_format.invalid(
            "You requested that the server return more choices than it will generate (HINT: you must set 'best_of' to be at least as large as 'n')."
        )
    if body.get("suffix") and not asked.model.startswith("gpt-3.5-turbo-instruct"):
        return openai_format.invalid("Unrecognized request argument supplied: suffix")
    return None


def read(asked: Asked) -> Prompt:
    body = asked.body
    prompts = _prompts(body)
    first = prompts[0]
    cap = body.get("max_tokens")
    stop = body.get("stop")
    return Prompt(
        model=asked.model,
        streamed=asked.streamed,
        input_tokens=sum(count(each) if isinstance(each, str) else len(each) for each in prompts),
        user_text=first if isinstance(first, str) else f"{len(first)} tokens",
        max_tokens=16 if cap is None else cap,
        answers=max(body.get("n") or 1, body.get("best_of") or 1) * len(prompts),
        stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
        include_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        request=body,
    )


def whole(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    body = prompt.request or {}
    found: dict[str, Any] = _head(prompt)
    found["choices"] = [
        {
            "text": _echo(body, place) + choice.text,
            "index": place,
            "logprobs": _logprobs(choice.tokens) if body.get("logprobs") is not None else None,
            "finish_reason": choice.finish,
        }
        for place, choice in enumerate(answer.choices[: _shown(body)])
    ]
    if answer.usage:
        found["usage"] = _usage(answer)
    return found


def events(prompt: Prompt, answer: Answer) -> Iterator[Event]:
    body, head = prompt.request or {}, _head(prompt)
    tail: dict[str, Any] = {"usage": None} if prompt.include_usage else {}

    def event(index: int, text: str, finish: str | None, token: bool) -> Event:
        logprobs = _logprobs((text,)) if body.get("logprobs") is not None and token else None
        choice = {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish}
        return Event(b"data: " + compact(head | {"choices": [choice]} | tail) + b"\n\n", token)

    for place, choice in enumerate(answer.choices[: _shown(body)]):
        if body.get("echo"):
            yield event(place, _echo(body, place), None, True)
        for token in choice.tokens:
            yield event(place, token, None, True)
        yield event(place, "", choice.finish, False)
    if prompt.include_usage and answer.usage:
        yield Event(b"data: " + compact(head | {"choices": [], "usage": _usage(answer)}) + b"\n\n")
    yield Event(b"data: [DONE]\n\n", last=True)


def _head(prompt: Prompt) -> dict[str, Any]:
    return {
        "id": fresh_id("cmpl-", 29),
        "object": "text_completion",
        "created": int(time.time()),
        "model": prompt.model,
    }


def _shown(body: Any) -> int:
    return (body.get("n") or 1) * len(_prompts(body))


def _echo(body: Any, place: int) -> str:
    prompt = _prompts(body)[place // (body.get("n") or 1)]
    return str(prompt) if body.get("echo") else ""


def _usage(answer: Answer) -> dict[str, int]:
    usage = answer.usage
    assert usage is not None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _logprobs(tokens: tuple[str, ...]) -> dict[str, Any]:
    offsets = [sum(map(len, tokens[:place])) for place in range(len(tokens))]
    return {
        "tokens": list(tokens),
        "token_logprobs": [-0.25] * len(tokens),
        "top_logprobs": [{token: -0.25} for token in tokens],
        "text_offset": offsets,
    }


def _prompts(body: Any) -> list[Any]:
    given = body["prompt"]
    return [given] if isinstance(given, str) or isinstance(given[0], int) else list(given)
