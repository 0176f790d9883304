"""OpenAI's completions of the old kind, at the providers that have them: a text goes on, and nobody chats.

The answer is put into chat's shape, so that it is read, checked and continued as a chat is. What only this format has
stands beside it. https://platform.openai.com/docs/api-reference/completions
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from routing.upstreams.base import Deployment, Json, UpstreamRequest
from routing.upstreams.kinds import Kind, kind_of
from routing.upstreams.provider_json import loads
from routing.upstreams.providers import PROVIDERS, facts_of

#: Where a choice has the log probabilities in this format's own shape. Every choice of this format has the field.
LOGPROBS: Final = "completion_logprobs"
#: OpenAI's models that complete a text. Its other models only chat.
_COMPLETE: Final = re.compile(r"^(?:ft:)?(?:gpt-3\.5-turbo-instruct|davinci-002|babbage-002)")


def is_native(deployment: Deployment, prompt: Any) -> bool:
    """Whether the deployment is asked in this format. All others are asked in a chat."""
    provider = deployment.litellm_provider
    row = PROVIDERS.get(provider)
    if row is None or (row.way != "relay" and provider != "azure"):
        return False
    if _COMPLETE.match(deployment.model) or kind_of(provider, deployment.model) is Kind.COMPLETION:
        return True
    completes = facts_of(provider, deployment.model, deployment.base_url).completes
    return completes == "lists" or (completes == "text" and isinstance(prompt, str))


def prompts_of(prompt: Any) -> list[Any]:
    """The texts or token lists that are to be gone on with. A text or a token list alone is a list of one."""
    is_one = isinstance(prompt, str) or (bool(prompt) and isinstance(prompt[0], int))
    return [prompt] if is_one else list(prompt)


def choices_of(body: Mapping[str, Any]) -> int:
    return (body.get("n") or 1) * len(prompts_of(body["prompt"]))


def asked(request: UpstreamRequest, *, streamed: bool) -> Json:
    """The body for the provider. Changes only a copy."""
    deployment = request.deployment
    row = facts_of(deployment.litellm_provider, deployment.model, deployment.base_url)
    body = {
        name: value
        for name, value in request.body.items()
        if value is not None and name not in ("metadata", "stream", "stream_options")
    }
    body["model"] = deployment.model
    if streamed:
        body["stream"] = True
        if row.stream_options:
            body["stream_options"] = {"include_usage": True}
    return body


def read(data: bytes) -> Any:
    """An answer or an event of a stream, in chat's shape. Raises ValueError."""
    body = loads(data)
    choices = body.get("choices") if isinstance(body, dict) else None
    if isinstance(choices, list):
        body["choices"] = [_as_chat(choice) for choice in choices]
    return body


def _as_chat(choice: Any) -> Any:
    if not isinstance(choice, dict) or "text" not in choice:
        return choice
    said = {name: choice[name] for name in ("index", "finish_reason") if name in choice}
    return {**said, "delta": {"content": choice["text"]}, LOGPROBS: choice.get("logprobs")}
