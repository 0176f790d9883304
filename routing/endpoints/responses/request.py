"""Reads and validates a request of OpenAI's Responses.

A step whose provider speaks this dialect gets the body as it came, but for the model and the caps. Every other step
gets it in chat's format, by the same rules as any chat. The gateway stores nothing: what a response goes on from is at
the deployment that made it, and only that one is asked then.

https://platform.openai.com/docs/api-reference/responses/create
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from accounting.tags import Tags
from accounting.usage import Usage
from routing.catalog import Step
from routing.endpoints.chat.request import MAX_OUTPUT_TOKENS, ROLES, ChatCall, parse_chat
from routing.endpoints.fields import (
    MAX_MESSAGES,
    MAX_PARTS,
    MAX_TOOLS,
    alias_of,
    length_of,
    optional,
    refuse_more_than,
    required,
    whole_number,
)
from routing.endpoints.responses.as_chat import as_chat, left_out
from routing.endpoints.responses.ceiling import (
    NativeInput,
    has_own_tools,
    native_ceiling,
    native_input,
    tool_calls_of,
)
from routing.endpoints.responses.kept import Kept, opened
from routing.endpoints.responses.tools import Tools, read_tools
from routing.exceptions import GatewayError, InvalidRequest, MissingParameter, ResponseNotKept
from routing.serving.call import CappedBy, Partial, Quantities, Received, Unbounded
from routing.upstreams import responses_dialect as dialect
from routing.upstreams.base import AnswerStream, Json, Upstream, UpstreamRequest, WholeAnswer
from routing.upstreams.kinds import Kind

#: What is not there, and what there is.
_NOT_HERE: Final = {
    "conversation": "conversations are not stored here: send the conversation in 'input', or 'previous_response_id'",
    "prompt": "prompts are not stored here: send the text in 'instructions' and 'input'",
}
_CALLS: Final = frozenset({"custom_tool_call", "custom_tool_call_output", "function_call", "function_call_output"})
#: What comes back from tools that only a provider of this dialect describes to its models.
_OF_OWN_TOOLS: Final = frozenset(
    {
        "apply_patch_call_output", "computer_call_output", "local_shell_call_output", "mcp_approval_response",
        "shell_call_output", "tool_search_output",
    }
)  # fmt: skip
#: Parts that are words, and where they have them.
_SAID: Final = {"input_text": "text", "output_text": "text", "refusal": "refusal", "text": "text"}
MAX_TOOL_CALLS: Final = 1_000


@dataclass(frozen=True, slots=True)
class ResponsesCall:
    """A valid request: a `routing.serving.call.StreamedCall`, and a `BoundCall`.

    ``body`` is what the client sent, and is never changed."""

    endpoint: ClassVar[str] = "responses"
    kind: ClassVar[Kind] = Kind.CHAT

    body: Mapping[str, Any]
    tools: Tools
    chat: ChatCall  # the same request in chat's format
    input: NativeInput
    owner: str  # whose the response will be
    previous: Kept | None = None  # what it goes on from
    native_alone: str = ""  # the parameter that only a provider of this dialect understands

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

    # --- who may be asked ---------------------------------------------------------------------------------------

    def may_ask(self, step: Step) -> bool:
        if self.previous is not None and step.provider.name != self.previous.keeper.provider:
            return False
        return not self.native_alone or dialect.speaks(step.deployment)

    def prefers_key(self, secret: str) -> bool:
        return self.previous is not None and dialect.mark_of(secret) == self.previous.keeper.key

    def nobody_to_ask(self) -> GatewayError:
        if self.previous is not None:
            return ResponseNotKept("previous_response_id")
        return InvalidRequest(
            f"No model behind '{self.alias}' understands '{self.native_alone}'. Its provider must speak Responses.",
            param=self.native_alone,
        )

    # --- what a step is asked -----------------------------------------------------------------------------------

    def ceiling(self, step: Step) -> Quantities:
        if not dialect.speaks(step.deployment):
            return self.chat.ceiling(step)
        if dialect.is_certain(step.deployment) or self.native_alone:
            return self._native_ceiling(step)
        return _more_of(self._native_ceiling, self.chat.ceiling, step)  # it may turn out not to speak it

    def _native_ceiling(self, step: Step) -> Quantities:
        further_tokens = 0 if self.chat.rest is None else self.chat.rest.further_input_tokens
        provider, model = step.deployment.litellm_provider, step.deployment.model
        cap = self.chat.output_cap(step, self.input.counted.tokens_for(provider, model) + further_tokens)
        try:
            most = native_ceiling(self.body, self.input, step, cap)
        except Unbounded as error:
            more = replace(error.bounded, input_tokens=error.bounded.input_tokens + further_tokens)
            raise Unbounded(error.param, str(error), more) from None
        return replace(most, input_tokens=most.input_tokens + further_tokens)

    def request_for(self, step: Step, most: Quantities) -> Json:
        if not dialect.speaks(step.deployment):
            return self.chat.request_for(step, most)
        asked = dialect.native(self.body, step.deployment)
        if self.previous is not None:
            asked["previous_response_id"] = self.previous.id
        if most.capped_by is not CappedBy.CLIENT:
            asked["max_output_tokens"] = most.output_cap_tokens  # the hold counts with it
        if has_own_tools(asked) and asked.get("max_tool_calls") is None:
            calls = tool_calls_of(asked, step.deployment.model)
            asked |= {} if calls is None else {"max_tool_calls": calls}
        return asked if self.chat.rest is None else self._rest_of(asked, most.output_cap_tokens)

    def _rest_of(self, asked: Json, cap_tokens: int) -> Json:
        assert self.chat.rest is not None
        given = asked["input"]
        turns = given if isinstance(given, list) else [{"role": "user", "content": given}]
        more, cap_tokens = self.chat.rest.asked_after(turns, cap_tokens)
        if len(more) == len(turns):
            return asked  # the answer begins anew
        text = {name: value for name, value in (asked.get("text") or {}).items() if name != "format"}
        return {**asked, "input": more, "max_output_tokens": cap_tokens, "text": text}

    def ask_otherwise(self, step: Step) -> bool:
        return self.chat.ask_otherwise(step)

    def answer_of(self, upstream: Upstream, request: UpstreamRequest) -> WholeAnswer:
        if _is_native(request):
            try:
                answer = upstream.responses(request)
            except dialect.NoSuchPath:
                if self.native_alone:
                    raise
                request = self._as_chat(request)
            else:
                answer.body["kept_by"] = dialect.Keeper.of(request)
                more = dialect.left_out(self.body, request.deployment)
                return replace(answer, dropped_params=(*answer.dropped_params, *more))
        answer = self.chat.answer_of(upstream, request)
        return replace(answer, dropped_params=(*answer.dropped_params, *self._left_out))

    def stream_of(self, upstream: Upstream, request: UpstreamRequest) -> AnswerStream:
        if _is_native(request):
            try:
                stream = upstream.responses_stream(request)
            except dialect.NoSuchPath:
                if self.native_alone:
                    raise
                request = self._as_chat(request)
            else:
                more = dialect.left_out(self.body, request.deployment)
                stream.dropped_params = (*stream.dropped_params, *more)
                rest = self.chat.rest
                return stream if rest is None else rest.read(stream, request.deployment)
        stream = self.chat.stream_of(upstream, request)
        stream.dropped_params = (*stream.dropped_params, *self._left_out)
        return stream

    @property
    def _left_out(self) -> tuple[str, ...]:
        return (*self.tools.left_out, *left_out(self.body))

    def _as_chat(self, request: UpstreamRequest) -> UpstreamRequest:
        """The same request in chat's format, with the cap with which it is held for."""
        body = dict(self.chat.body)
        if self.chat.output_cap_tokens is None and request.body.get("max_output_tokens") is not None:
            body["max_completion_tokens"] = request.body["max_output_tokens"]
        if self.chat.rest is not None:
            body = self.chat.rest.asked_of(request.deployment, body)
        return replace(request, body=body)

    # --- what came of it ----------------------------------------------------------------------------------------

    def estimate(self, received: Received, step: Step) -> Usage:
        if isinstance(received, dict) and "choices" not in received:
            received = text_of(received)
        return self.chat.estimate(received, step)

    def partial(self, *, is_rescuable: bool) -> Partial:
        return self.chat.partial(is_rescuable=is_rescuable)

    def continuation(self, partial: Partial, said_tokens: int) -> ResponsesCall:
        return replace(self, chat=self.chat.continuation(partial, said_tokens))


def _is_native(request: UpstreamRequest) -> bool:
    """As `request_for` has made it, whatever was learned of the server since."""
    return "messages" not in request.body


def _more_of(native: Any, chat: Any, step: Step) -> Quantities:
    """The larger of two bounds, for a server that may be asked in either way. Raises Unbounded."""
    found, unbounded = [], None
    for bound in (native, chat):
        try:
            found.append(bound(step))
        except Unbounded as error:
            found.append(error.bounded)
            unbounded = unbounded or error
    first, second = found
    most: Quantities = replace(
        first,
        input_tokens=max(first.input_tokens, second.input_tokens),
        output_cap_tokens=max(first.output_cap_tokens, second.output_cap_tokens),
        tiers=first.tiers | second.tiers,
    )
    if unbounded is not None:
        raise Unbounded(unbounded.param, str(unbounded), most)
    return most


def text_of(answer: Json) -> str:
    """All that the model has said in a whole answer, for an estimate."""
    texts = []
    for item in answer.get("output") or ():
        texts += [str(item[name]) for name in ("name", "arguments", "input") if item.get(name)]
        for parts in (item.get("content"), item.get("summary")):
            for part in parts if isinstance(parts, list) else ():
                if isinstance(part, dict):
                    texts.append(str(part.get("text") or part.get("refusal") or ""))
    return "".join(texts)


# --- reading ------------------------------------------------------------------------------------------------------


def parse_responses(
    body: Any, deadline: float | None = None, owner: str = "", *, is_counted: bool = False
) -> ResponsesCall:
    """Validate a request. Raises InvalidRequest, whose ``param`` names the field.

    ``owner``: whose the response will be. ``is_counted``: its tokens are only counted."""
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    alias_of(body)
    for name, why in _NOT_HERE.items():
        if body.get(name) is not None:
            raise InvalidRequest(f"'{name}' cannot be used: {why}.", param=name)
    if body.get("background"):
        raise InvalidRequest(
            "'background' cannot be used: nobody would wait for the answer and settle its cost. Ask for a stream.",
            param="background",
        )
    previous = _previous(body, owner)
    if previous is not None and body.get("input") is None:
        body = {**body, "input": ""}
    if is_counted:
        body = {**body, "stream": False}
    native_alone = "previous_response_id" if previous is not None else ""
    native_alone = _check_input(required(body, "input"), may_be_outputs=previous is not None) or native_alone
    optional(body, "instructions", str, "a string")
    optional(body, "stream", bool, "true or false")
    optional(body, "store", bool, "true or false")
    whole_number(body, "max_output_tokens", most=MAX_OUTPUT_TOKENS)
    whole_number(body, "max_tool_calls", most=MAX_TOOL_CALLS)
    for name in ("reasoning", "text", "metadata", "stream_options"):
        optional(body, name, dict, "an object")
    optional(body, "include", list, "an array")
    _check_tools(optional(body, "tools", list, "an array") or [])
    tools = read_tools(body.get("tools"))
    native_alone = _check_choice(body.get("tool_choice"), tools) or native_alone
    return ResponsesCall(
        body=body,
        tools=tools,
        chat=parse_chat(as_chat(body, tools), deadline=deadline),
        input=native_input(body),
        owner=owner,
        previous=previous,
        native_alone=native_alone,
    )


def _previous(body: Mapping[str, Any], owner: str) -> Kept | None:
    named = optional(body, "previous_response_id", str, "a string")
    if named is None:
        return None
    found = opened(named, owner)
    if found is None:
        raise ResponseNotKept("previous_response_id")
    return found


def _check_input(given: Any, *, may_be_outputs: bool) -> str:
    """The name of an item that only a provider of this dialect understands; empty when there is none."""
    if isinstance(given, str):
        return ""
    if not isinstance(given, list) or not given:
        raise InvalidRequest("'input' must be a string or a non-empty array of items.", param="input")
    refuse_more_than(MAX_MESSAGES, len(given), "items", "input")
    has_message, native_alone, parts = may_be_outputs, "", 0
    for index, item in enumerate(given):
        where = f"input[{index}]"
        if not isinstance(item, dict) or not isinstance(item.get("type"), str | None):
            raise InvalidRequest(f"'{where}' must be an object with a 'type'.", param=where)
        if item.get("type") == "item_reference":
            raise InvalidRequest(
                f"'{where}' refers to a stored item, and items are not stored here: send the item itself, or "
                "'previous_response_id' in the place of all before.",
                param=where,
            )
        if item.get("type") in (None, "message"):
            _check_message(item, where)
            has_message = True
        elif item.get("type") in _CALLS:
            if not isinstance(item.get("call_id"), str):
                raise MissingParameter(f"'{where}.call_id' is required.", param=f"{where}.call_id")
            _check_output(item.get("output"), f"{where}.output")
            has_message = True
        elif item.get("type") in _OF_OWN_TOOLS:
            has_message, native_alone = True, native_alone or where
        parts += length_of(item.get("content")) + length_of(item.get("output"))
    refuse_more_than(MAX_PARTS, parts, "parts in all items", "input")
    if not has_message:
        raise InvalidRequest("'input' has nothing that a model can be asked.", param="input")
    return native_alone


def _check_message(item: Mapping[str, Any], where: str) -> None:
    role, content = item.get("role"), item.get("content")
    if not isinstance(role, str) or role not in ROLES - {"tool", "function"}:
        raise InvalidRequest(
            f"'{where}.role' must be one of: assistant, developer, system, user.", param=f"{where}.role"
        )
    if not isinstance(content, str | list):
        raise InvalidRequest(f"'{where}.content' must be a string or an array of parts.", param=f"{where}.content")
    _check_parts(content, f"{where}.content")


def _check_output(output: Any, where: str) -> None:
    if not isinstance(output, str | list | None):
        raise InvalidRequest(f"'{where}' must be a string or an array of parts.", param=where)
    _check_parts(output, where)


def _check_parts(parts: Any, where: str) -> None:
    for index, part in enumerate(parts if isinstance(parts, list) else ()):
        place = f"{where}[{index}]"
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise InvalidRequest(f"'{place}' must be an object with a 'type'.", param=place)
        said = _SAID.get(part["type"])
        if said is not None and not isinstance(part.get(said), str | None):
            raise InvalidRequest(f"'{place}.{said}' must be a string.", param=f"{place}.{said}")


def _check_tools(tools: list[Any]) -> None:
    refuse_more_than(MAX_TOOLS, len(tools), "tools", "tools")
    for index, tool in enumerate(tools):
        where = f"tools[{index}]"
        if not isinstance(tool, dict) or not isinstance(tool.get("type"), str):
            raise InvalidRequest(f"'{where}' must be an object with a 'type'.", param=where)
        if tool["type"] in ("function", "custom", "namespace") and not isinstance(tool.get("name"), str):
            raise MissingParameter(f"'{where}.name' is required.", param=f"{where}.name")
        if tool["type"] == "namespace" and not isinstance(tool.get("tools"), list):
            raise MissingParameter(f"'{where}.tools' is required.", param=f"{where}.tools")


def _check_choice(choice: Any, tools: Tools) -> str:
    """``tool_choice`` when it forces a tool that only a provider of this dialect has; else empty."""
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind is not None and not isinstance(kind, str):
        raise InvalidRequest("'tool_choice.type' must be a string.", param="tool_choice.type")
    if kind == "allowed_tools" and not isinstance(choice.get("tools"), list):
        raise InvalidRequest("'tool_choice.tools' must be an array.", param="tool_choice.tools")
    if kind is not None and kind not in ("function", "custom", "allowed_tools"):
        return "tool_choice"
    return "tool_choice" if choice == "required" and not tools.offered else ""
