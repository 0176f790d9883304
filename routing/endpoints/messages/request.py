"""Reads and validates a request of Anthropic's Messages: https://docs.anthropic.com/en/api/messages

A step whose provider speaks this dialect gets the body as it came, but for the model and the caps. Every other step
gets it in chat's format, by the same rules as any chat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from accounting.tags import Tags
from accounting.text import storable
from accounting.usage import Usage
from routing.catalog import Step
from routing.endpoints.chat.request import MAX_OUTPUT_TOKENS, ChatCall, parse_chat
from routing.endpoints.fields import (
    MAX_END_USER_CHARACTERS,
    MAX_MESSAGES,
    MAX_TOOLS,
    alias_of,
    optional,
    refuse_more_than,
    required,
    tags_of,
    whole_number,
)
from routing.endpoints.messages.as_chat import as_chat, left_out
from routing.endpoints.messages.ceiling import native_ceiling, with_search_caps
from routing.exceptions import InvalidRequest, MissingParameter
from routing.serving.call import Partial, Quantities, Received
from routing.upstreams.base import AnswerStream, Deployment, Json, Upstream, UpstreamRequest, WholeAnswer
from routing.upstreams.kinds import Kind
from routing.upstreams.providers import PROVIDERS

#: A message of the role `system` in the middle is a beta of Anthropic's.
ROLES: Final = frozenset({"user", "assistant", "system"})
#: The headers of a client that its own dialect knows.
BETA_HEADER: Final = "anthropic-beta"


@dataclass(frozen=True, slots=True)
class MessagesCall:
    """A valid request: a `routing.serving.call.StreamedCall`.

    ``body`` is what the client sent, and is never changed."""

    endpoint: ClassVar[str] = "messages"
    kind: ClassVar[Kind] = Kind.CHAT

    body: Mapping[str, Any]
    chat: ChatCall  # the same request in chat's format
    betas: str  # the client's header, empty when it sent none
    end_user: str
    tags: Tags

    @property
    def alias(self) -> str:
        return self.chat.alias

    @property
    def streamed(self) -> bool:
        return self.chat.streamed

    @property
    def is_adapted(self) -> bool:
        return self.chat.is_adapted

    def left_s(self) -> float:
        return self.chat.left_s()

    def ceiling(self, step: Step) -> Quantities:
        return native_ceiling(self.body, step) if self._is_native(step.deployment) else self.chat.ceiling(step)

    def request_for(self, step: Step, most: Quantities) -> Json:
        if not self._is_native(step.deployment):
            return self.chat.request_for(step, most)
        return native(self.body, step.deployment.model)

    def ask_otherwise(self, step: Step) -> bool:
        return self.chat.ask_otherwise(step)

    def answer_of(self, upstream: Upstream, request: UpstreamRequest) -> WholeAnswer:
        if self._is_native(request.deployment):
            return upstream.messages(request, self._headers())
        answer = self.chat.answer_of(upstream, request)
        return replace(answer, dropped_params=(*answer.dropped_params, *left_out(self.body)))

    def stream_of(self, upstream: Upstream, request: UpstreamRequest) -> AnswerStream:
        if self._is_native(request.deployment):
            return upstream.messages_stream(request, self._headers())
        stream = self.chat.stream_of(upstream, request)
        stream.dropped_params = (*stream.dropped_params, *left_out(self.body))
        return stream

    def estimate(self, received: Received, step: Step) -> Usage:
        if isinstance(received, dict) and "choices" not in received:
            received = text_of(received)
        return self.chat.estimate(received, step)

    def partial(self, *, is_rescuable: bool) -> Partial:
        return self.chat.partial(is_rescuable=is_rescuable)

    def continuation(self, partial: Partial, said_tokens: int) -> MessagesCall:
        return replace(self, chat=self.chat.continuation(partial, said_tokens))

    def _is_native(self, deployment: Deployment) -> bool:
        """The rest of a broken answer is asked for in chat's format, which has the rules for that."""
        row = PROVIDERS.get(deployment.litellm_provider)
        return row is not None and "anthropic" in row.dialects and self.chat.rest is None

    def _headers(self) -> Mapping[str, str]:
        return {BETA_HEADER: self.betas} if self.betas else {}


def native(body: Mapping[str, Any], model: str) -> Json:
    """The body for a provider that speaks Messages. Changes only a copy.

    Of `metadata` only the end user is Anthropic's; the rest is the gateway's tags. A thought without a signature was
    another provider's, and would be refused."""
    asked: Json = {**body, "model": model, "messages": [_without_foreign_thoughts(each) for each in body["messages"]]}
    if "tools" in asked:
        asked["tools"] = with_search_caps(asked["tools"])
    metadata = asked.pop("metadata", None)
    if isinstance(metadata, dict) and metadata.get("user_id") is not None:
        asked["metadata"] = {"user_id": metadata["user_id"]}
    return asked


def _without_foreign_thoughts(message: Json) -> Json:
    content = message["content"]
    if message["role"] != "assistant" or isinstance(content, str):
        return message
    kept = [block for block in content if block.get("type") != "thinking" or block.get("signature")]
    return message if len(kept) == len(content) else {**message, "content": kept}


def text_of(answer: Json) -> str:
    """All that the model has said in a whole answer, for an estimate."""
    texts = []
    for block in answer.get("content") or ():
        if isinstance(block, dict):
            texts += [str(block[name]) for name in ("text", "thinking", "name", "input") if block.get(name)]
    return "".join(texts)


# --- reading ------------------------------------------------------------------------------------------------------


def parse_messages(
    body: Any, betas: str = "", deadline: float | None = None, *, is_counted: bool = False
) -> MessagesCall:
    """Validate a request. Raises InvalidRequest, whose ``param`` names the field.

    ``is_counted``: its tokens are only counted, so that it needs no ``max_tokens``."""
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    alias_of(body)
    if is_counted:
        body = {**body, "max_tokens": 1, "stream": False}
    required(body, "max_tokens")
    whole_number(body, "max_tokens", most=MAX_OUTPUT_TOKENS)
    _check_system(body.get("system"))
    _check_messages(required(body, "messages"))
    optional(body, "stream", bool, "true or false")
    _check_tools(optional(body, "tools", list, "an array") or [])
    optional(body, "stop_sequences", list, "an array")
    metadata = optional(body, "metadata", dict, "an object") or {}
    user = metadata.get("user_id")
    if user is not None and not isinstance(user, str):
        raise InvalidRequest("'metadata.user_id' must be a string.", param="metadata.user_id")
    chat = as_chat(body)
    return MessagesCall(
        body=body,
        chat=parse_chat(chat, deadline=deadline),
        betas=betas,
        end_user=storable(user or "", MAX_END_USER_CHARACTERS),
        tags=tags_of({"metadata": {name: value for name, value in metadata.items() if name != "user_id"}}),
    )


def _check_system(system: Any) -> None:
    if system is None or isinstance(system, str):
        return
    if not isinstance(system, list):
        raise InvalidRequest("'system' must be a string or an array of text blocks.", param="system")
    _check_blocks(system, "system")


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("'messages' must be a non-empty array.", param="messages")
    refuse_more_than(MAX_MESSAGES, len(messages), "messages", "messages")
    for index, message in enumerate(messages):
        where = f"messages.{index}"
        if not isinstance(message, dict):
            raise InvalidRequest(f"'{where}' must be an object.", param=where)
        role = message.get("role")
        if role is None:
            raise MissingParameter(f"{where}.role: Field required", param=f"{where}.role")
        if not isinstance(role, str) or role not in ROLES:
            raise InvalidRequest(
                f'{where}.role: Unexpected role. Allowed roles are "user" or "assistant".', param=f"{where}.role"
            )
        content = message.get("content")
        if content is None:
            raise MissingParameter(f"{where}.content: Field required", param=f"{where}.content")
        if isinstance(content, str):
            continue
        if not isinstance(content, list):
            raise InvalidRequest(f"{where}.content: Input should be a string or an array.", param=f"{where}.content")
        _check_blocks(content, f"{where}.content")


def _check_blocks(blocks: list[Any], where: str) -> None:
    for index, block in enumerate(blocks):
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise InvalidRequest(f"'{where}.{index}' must be an object with a 'type'.", param=f"{where}.{index}")
        if block["type"] == "text" and not isinstance(block.get("text"), str):
            raise InvalidRequest(f"{where}.{index}.text: Field required", param=f"{where}.{index}.text")
        inner = block.get("content")
        if block["type"] == "tool_result" and isinstance(inner, list):
            _check_blocks(inner, f"{where}.{index}.content")
        elif block["type"] == "tool_result" and inner is not None and not isinstance(inner, str):
            raise InvalidRequest(
                f"{where}.{index}.content: Input should be a string or an array.", param=f"{where}.{index}.content"
            )


def _check_tools(tools: list[Any]) -> None:
    refuse_more_than(MAX_TOOLS, len(tools), "tools", "tools")
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise InvalidRequest(f"'tools.{index}' must be an object.", param=f"tools.{index}")
        if not isinstance(tool.get("type"), str | None):
            raise InvalidRequest(f"'tools.{index}.type' must be a string.", param=f"tools.{index}.type")
