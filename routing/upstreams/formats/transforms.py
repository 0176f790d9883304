"""What `litellm.completion()` does to a request and to an answer, whatever the provider, around its transforms."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from routing.upstreams import capabilities
from routing.upstreams.base import UpstreamRequest
from routing.upstreams.http.transport import Whole
from routing.upstreams.mends import conversation


class Silence:
    """All that litellm's transforms ask of its `Logging` object, which costs milliseconds a request."""

    def __init__(self, optional_params: dict[str, Any]) -> None:
        self.optional_params = optional_params
        self.litellm_params: dict[str, Any] = {}
        self.model_call_details: dict[str, Any] = {}

    def pre_call(self, *_: object, **__: object) -> None:
        pass

    def post_call(self, *_: object, **__: object) -> None:
        pass


def response_of(answer: Whole) -> Any:
    import httpx  # what litellm's transforms read from; not imported before litellm is

    names = ("content-type", "x-gemini-service-tier")
    headers = {name: answer.headers[name] for name in names if name in answer.headers}
    return httpx.Response(answer.status, headers=headers, content=answer.body)


def parameters_of(body: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    given = {name: body[name] for name in names if body.get(name) is not None}
    return copy.deepcopy(given)  # litellm changes what it is given, and further attempts send it again


def messages_of(request: UpstreamRequest, litellm: Any, heard: conversation.Heard) -> list[Any]:
    from litellm.llms.base_llm.base_utils import map_developer_role_to_system_role

    messages = copy.deepcopy(request.body.get("messages"))
    messages = litellm.utils.validate_and_fix_openai_messages(messages=messages)
    translated: list[Any] = map_developer_role_to_system_role(messages=messages)
    return conversation.mended(translated, heard)


def mapped(
    request: UpstreamRequest, litellm: Any, messages: list[Any], given: dict[str, Any], *, streamed: bool
) -> dict[str, Any]:
    """litellm's `optional_params`: the request's parameters in the provider's words."""
    utils, deployment = litellm.utils, request.deployment
    if "tool_choice" in given:
        given["tool_choice"] = utils.validate_chat_completion_tool_choice(
            tool_choice=given["tool_choice"], model=deployment.model
        )
    if "stop" in given:
        given["stop"] = utils.validate_openai_optional_params(stop=given["stop"])
    if "thinking" in given:
        given["thinking"] = utils.validate_and_fix_thinking_param(thinking=given["thinking"])
    if streamed:
        given["stream"] = True
    return capabilities.optional_params(deployment.litellm_provider, deployment.model, given, messages)
