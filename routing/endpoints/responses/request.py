"""Reads and validates a request of OpenAI's Responses.

Every step is asked by way of chat, by the same rules as any chat. Nothing is stored, so what refers to a stored answer
is refused by name. https://platform.openai.com/docs/api-reference/responses/create
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from accounting.tags import Tags
from accounting.usage import Usage
from routing.catalog import Step
from routing.endpoints.chat.request import MAX_OUTPUT_TOKENS, ROLES, ChatCall, parse_chat
from routing.endpoints.fields import alias_of, optional, required, whole_number
from routing.endpoints.responses.as_chat import as_chat
from routing.endpoints.responses.tools import Tools, read_tools
from routing.exceptions import InvalidRequest, MissingParameter
from routing.serving.call import Partial, Quantities, Received
from routing.upstreams.base import AnswerStream, Json, Upstream, UpstreamRequest, WholeAnswer
from routing.upstreams.kinds import Kind

#: What needs a store of answers, and why it is not there.
_NEEDS_A_STORE: Final = {
    "previous_response_id": "answers are not stored here: send the conversation in 'input'",
    "conversation": "conversations are not stored here: send the conversation in 'input'",
    "prompt": "prompts are not stored here: send the text in 'instructions' and 'input'",
}
_CALLS: Final = frozenset({"custom_tool_call", "custom_tool_call_output", "function_call", "function_call_output"})


@dataclass(frozen=True, slots=True)
class ResponsesCall:
    """A valid request: a `routing.serving.call.StreamedCall`.

    ``body`` is what the client sent, and is never changed."""

    endpoint: ClassVar[str] = "responses"
    kind: ClassVar[Kind] = Kind.CHAT

    body: Mapping[str, Any]
    tools: Tools
    chat: ChatCall  # the same request in chat's format

    @property
    def alias(self) -> str:
        return self.chat.alias

    @property
    def streamed(self) -> bool:
        return self.chat.streamed

    @property
    def end_user(self) -> str:
        return self.chat.end_user

    @property
    def tags(self) -> Tags:
        return self.chat.tags

    @property
    def is_adapted(self) -> bool:
        return self.chat.is_adapted

    def left_s(self) -> float:
        return self.chat.left_s()

    def ceiling(self, step: Step) -> Quantities:
        return self.chat.ceiling(step)

    def request_for(self, step: Step, most: Quantities) -> Json:
        return self.chat.request_for(step, most)

    def ask_otherwise(self, step: Step) -> bool:
        return self.chat.ask_otherwise(step)

    def answer_of(self, upstream: Upstream, request: UpstreamRequest) -> WholeAnswer:
        answer = self.chat.answer_of(upstream, request)
        return replace(answer, dropped_params=(*answer.dropped_params, *self.tools.left_out))

    def stream_of(self, upstream: Upstream, request: UpstreamRequest) -> AnswerStream:
        stream = self.chat.stream_of(upstream, request)
        stream.dropped_params = (*stream.dropped_params, *self.tools.left_out)
        return stream

    def estimate(self, received: Received, step: Step) -> Usage:
        return self.chat.estimate(received, step)

    def partial(self, *, is_rescuable: bool) -> Partial:
        return self.chat.partial(is_rescuable=is_rescuable)

    def continuation(self, partial: Partial, said_tokens: int) -> ResponsesCall:
        return replace(self, chat=self.chat.continuation(partial, said_tokens))


def parse_responses(body: Any, deadline: float | None = None) -> ResponsesCall:
    """Validate a request. Raises InvalidRequest, whose ``param`` names the field."""
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    alias_of(body)
    for name, why in _NEEDS_A_STORE.items():
        if body.get(name) is not None:
            raise InvalidRequest(f"'{name}' cannot be used: {why}.", param=name)
    if body.get("background"):
        raise InvalidRequest("'background' cannot be used: answers are not stored here.", param="background")
    _check_input(required(body, "input"))
    optional(body, "instructions", str, "a string")
    optional(body, "stream", bool, "true or false")
    whole_number(body, "max_output_tokens", most=MAX_OUTPUT_TOKENS)
    for name in ("reasoning", "text", "metadata"):
        optional(body, name, dict, "an object")
    optional(body, "include", list, "an array")
    _check_tools(optional(body, "tools", list, "an array") or [])
    tools = read_tools(body.get("tools"))
    _check_choice(body.get("tool_choice"), tools)
    return ResponsesCall(body=body, tools=tools, chat=parse_chat(as_chat(body, tools), deadline=deadline))


def _check_input(given: Any) -> None:
    if isinstance(given, str):
        return
    if not isinstance(given, list) or not given:
        raise InvalidRequest("'input' must be a string or a non-empty array of items.", param="input")
    has_message = False
    for index, item in enumerate(given):
        where = f"input[{index}]"
        if not isinstance(item, dict) or not isinstance(item.get("type"), str | None):
            raise InvalidRequest(f"'{where}' must be an object with a 'type'.", param=where)
        if item.get("type") == "item_reference":
            raise InvalidRequest(f"'{where}' refers to a stored item, and items are not stored here.", param=where)
        if item.get("type") in (None, "message"):
            _check_message(item, where)
            has_message = True
        elif item.get("type") in _CALLS:
            if not isinstance(item.get("call_id"), str):
                raise MissingParameter(f"'{where}.call_id' is required.", param=f"{where}.call_id")
            has_message = True
    if not has_message:
        raise InvalidRequest("'input' has nothing that a model can be asked.", param="input")


def _check_message(item: Mapping[str, Any], where: str) -> None:
    role, content = item.get("role"), item.get("content")
    if not isinstance(role, str) or role not in ROLES - {"tool", "function"}:
        raise InvalidRequest(
            f"'{where}.role' must be one of: assistant, developer, system, user.", param=f"{where}.role"
        )
    if not isinstance(content, str | list):
        raise InvalidRequest(f"'{where}.content' must be a string or an array of parts.", param=f"{where}.content")
    for index, part in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            place = f"{where}.content[{index}]"
            raise InvalidRequest(f"'{place}' must be an object with a 'type'.", param=place)


def _check_tools(tools: list[Any]) -> None:
    for index, tool in enumerate(tools):
        where = f"tools[{index}]"
        if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
            raise InvalidRequest(f"'{where}' must be an object with a 'type'.", param=where)
        if tool["type"] in ("function", "custom", "namespace") and not isinstance(tool.get("name"), str):
            raise MissingParameter(f"'{where}.name' is required.", param=f"{where}.name")
        if tool["type"] == "namespace" and not isinstance(tool.get("tools"), list):
            raise MissingParameter(f"'{where}.tools' is required.", param=f"{where}.tools")


def _check_choice(choice: Any, tools: Tools) -> None:
    """A provider's own tool cannot be forced, because no model is offered it."""
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind is not None and kind not in ("function", "custom", "allowed_tools"):
        raise InvalidRequest("'tool_choice' asks for a tool that the gateway does not offer.", param="tool_choice")
    if choice == "required" and not tools.offered:
        raise InvalidRequest("'tool_choice' is 'required', and no tool can be offered.", param="tool_choice")
