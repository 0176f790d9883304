"""What of a client's request is translated, and the names of what is not."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from routing.upstreams import capabilities
from routing.upstreams.base import Deployment

#: What of a client's request is translated: OpenAI's parameters, and those of the provider that litellm's users send
#: along. A list of what is allowed, because litellm takes its own controls (`api_base`, `mock_response` …) from the
#: same place, and a client must not reach them.
PARAMETERS: Final = (
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "modalities",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
)
ANTHROPIC_PARAMETERS: Final = (
    *PARAMETERS,
    "top_k",
    "context_management",
    "mcp_servers",
    "container",
    "speed",
)
GEMINI_PARAMETERS: Final = (*PARAMETERS, "top_k", "safety_settings", "media_resolution", "cached_content")

#: Of a request's parts those that are not parameters, or that we set ourselves.
_FRAME: Final = frozenset({"model", "messages", "stream", "stream_options"})
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def dropped_params(body: Mapping[str, Any], deployment: Deployment, translated: Collection[str]) -> tuple[str, ...]:
    """The client's parameters that do not reach the provider: those that are not translated at all, and those of
    OpenAI's that litellm knows no word for at this provider's model."""
    supported = capabilities.supported_params(deployment.litellm_provider, deployment.model)
    return tuple(
        sorted(
            name
            for name, value in body.items()
            if value is not None
            and name not in _FRAME
            and (name not in translated or (supported is not None and name in PARAMETERS and name not in supported))
            and not (name == "n" and value == 1)  # one choice is what comes without it, too
            and _PLAIN_NAME.fullmatch(name)
        )
    )[:50]
