"""Reads and validates a request of Google's generateContent: https://ai.google.dev/api/generate-content

A step whose provider speaks this dialect gets the body as it came, but for the model and the caps. Every other step
gets it in chat's format, by the same rules as any chat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from accounting.tags import Tags
from accounting.usage import Usage
from routing.catalog import Step
from routing.endpoints.chat.ceiling import InputCeiling
from routing.endpoints.chat.request import MAX_OUTPUT_TOKENS, ChatCall, parse_chat
from routing.endpoints.fields import (
    MAX_CALLS,
    MAX_CALLS_A_MESSAGE,
    MAX_MESSAGES,
    MAX_PARTS,
    MAX_TOOLS,
    optional,
    refuse_more_than,
    tags_of,
    whole_number,
)
from routing.endpoints.gemini.as_chat import as_chat, declarations, left_out
from routing.endpoints.gemini.ceiling import native_ceiling, native_input
from routing.endpoints.gemini.spelling import GENERATE, in_camel_case
from routing.exceptions import InvalidRequest, MissingParameter
from routing.serving.call import CappedBy, Partial, Quantities, Received
from routing.upstreams.base import AnswerStream, Deployment, Json, Upstream, UpstreamRequest, WholeAnswer
from routing.upstreams.kinds import Kind
from routing.upstreams.mends.gemini import is_three_or_newer
from routing.upstreams.providers import PROVIDERS

ROLES: Final = frozenset({"user", "model", "function"})
MAX_CANDIDATES: Final = 8
#: What Google gives to calls that another model has made, so that its newer models take them.
#: https://ai.google.dev/gemini-api/docs/thought-signatures
FOREIGN_SIGNATURE: Final = "skip_thought_signature_validator"


@dataclass(frozen=True, slots=True)
class GeminiCall:
    """A valid request: a `routing.serving.call.StreamedCall`.

    ``body`` is what the client sent, each field under its one name. It is never changed."""

    endpoint: ClassVar[str] = "gemini"
    kind: ClassVar[Kind] = Kind.CHAT
    end_user: ClassVar[str] = ""  # the dialect has no word for whom a client asks
    tags_field: ClassVar[str] = "labels"

    body: Mapping[str, Any]
    chat: ChatCall  # the same request in chat's format
    input: InputCeiling  # of the body as it came
    is_sse: bool  # a stream is server-sent events; else one array of JSON
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

    @property
    def shows_thoughts(self) -> bool:
        config = self.body.get("generationConfig") or {}
        return bool((config.get("thinkingConfig") or {}).get("includeThoughts"))

    def left_s(self) -> float:
        return self.chat.left_s()

    def ceiling(self, step: Step) -> Quantities:
        if self._is_native(step.deployment):
            return native_ceiling(self.body, self.input, self.chat, step)
        return self.chat.ceiling(step)

    def request_for(self, step: Step, most: Quantities) -> Json:
        if self._is_native(step.deployment):
            return native(self.body, step.deployment.model, most)
        return self.chat.request_for(step, most)

    def ask_otherwise(self, step: Step) -> bool:
        return self.chat.ask_otherwise(step)

    def answer_of(self, upstream: Upstream, request: UpstreamRequest) -> WholeAnswer:
        if self._is_native(request.deployment):
            return upstream.contents(request)
        answer = self.chat.answer_of(upstream, request)
        return replace(answer, dropped_params=(*answer.dropped_params, *left_out(self.body)))

    def stream_of(self, upstream: Upstream, request: UpstreamRequest) -> AnswerStream:
        if self._is_native(request.deployment):
            return upstream.contents_stream(request)
        stream = self.chat.stream_of(upstream, request)
        stream.dropped_params = (*stream.dropped_params, *left_out(self.body))
        return stream

    def estimate(self, received: Received, step: Step) -> Usage:
        if isinstance(received, dict) and "choices" not in received:
            received = text_of(received)
        return self.chat.estimate(received, step)

    def partial(self, *, is_rescuable: bool) -> Partial:
        return self.chat.partial(is_rescuable=is_rescuable)

    def continuation(self, partial: Partial, said_tokens: int) -> GeminiCall:
        return replace(self, chat=self.chat.continuation(partial, said_tokens))

    def _is_native(self, deployment: Deployment) -> bool:
        """The rest of a broken answer is asked for in chat's format, which has the rules for that."""
        row = PROVIDERS.get(deployment.litellm_provider)
        return row is not None and "gemini" in row.dialects and self.chat.rest is None


def native(body: Mapping[str, Any], model: str, most: Quantities) -> Json:
    """The body for a provider that speaks Google's dialect. Changes only a copy.

    A call without a signature was another model's, and would be refused."""
    asked: Json = dict(body)
    if most.capped_by is not CappedBy.CLIENT:
        # The hold counts with this cap, so the provider must know it.
        asked["generationConfig"] = {**(asked.get("generationConfig") or {}), "maxOutputTokens": most.output_cap_tokens}
    if is_three_or_newer(model):
        asked["contents"] = [_with_signature(content) for content in asked["contents"]]
    return asked


def _with_signature(content: Json) -> Json:
    """A turn of the model whose first call has a signature: Google asks for no other."""
    calls = [place for place, part in enumerate(content["parts"]) if "functionCall" in part]
    if content.get("role") != "model" or not calls or any("thoughtSignature" in each for each in content["parts"]):
        return content
    parts = list(content["parts"])
    parts[calls[0]] = {**parts[calls[0]], "thoughtSignature": FOREIGN_SIGNATURE}
    return {**content, "parts": parts}


def text_of(answer: Json) -> str:
    """All that the model has said in a whole answer, for an estimate."""
    texts = []
    for candidate in answer.get("candidates") or ():
        for part in (candidate.get("content") or {}).get("parts") or ():
            texts += [str(part[name]) for name in ("text", "functionCall") if part.get(name)]
    return "".join(texts)


# --- reading ------------------------------------------------------------------------------------------------------


def parse_gemini(
    body: Any, alias: str, deadline: float | None = None, *, streamed: bool = False, is_sse: bool = True
) -> GeminiCall:
    """Validate a request. Raises InvalidRequest, whose ``param`` names the field."""
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    body = in_camel_case(body, GENERATE)
    body.pop("model", None)  # that of the path counts
    if "contents" not in body:
        raise MissingParameter("'contents' is required.", param="contents")
    _check_contents(body["contents"])
    _check_system(body)
    _check_tools(optional(body, "tools", list, "an array") or [])
    _check_calling(optional(body, "toolConfig", dict, "an object") or {})
    _check_config(optional(body, "generationConfig", dict, "an object") or {})
    return GeminiCall(
        body=body,
        chat=parse_chat(as_chat(alias, body, streamed=streamed), deadline=deadline),
        input=native_input(body),
        is_sse=is_sse,
        tags=tags_of({"metadata": optional(body, "labels", dict, "an object")}),
    )


def _check_contents(contents: list[Any]) -> None:
    if not contents:
        raise InvalidRequest("'contents' must be a non-empty array.", param="contents")
    refuse_more_than(MAX_MESSAGES, len(contents), "contents", "contents")
    parts = calls = 0
    for index, content in enumerate(contents):
        where = f"contents[{index}]"
        if not isinstance(content, dict):
            raise InvalidRequest(f"'{where}' must be an object.", param=where)
        role = content.get("role", "user")
        if not isinstance(role, str) or role not in ROLES:
            raise InvalidRequest("Please use a valid role: user, model.", param=f"{where}.role")
        _check_parts(content.get("parts"), f"{where}.parts")
        called = sum("functionCall" in part for part in content["parts"])
        refuse_more_than(MAX_CALLS_A_MESSAGE, called, "function calls in a content", f"{where}.parts")
        parts += len(content["parts"])
        calls += called
    refuse_more_than(MAX_PARTS, parts, "parts in all contents", "contents")
    refuse_more_than(MAX_CALLS, calls, "function calls in all contents", "contents")


def _check_parts(parts: Any, where: str) -> None:
    if not isinstance(parts, list) or not parts:
        raise InvalidRequest(f"'{where}' must be a non-empty array.", param=where)
    for index, part in enumerate(parts):
        _check_part(part, f"{where}[{index}]")


def _check_part(part: Any, where: str) -> None:
    if not isinstance(part, dict):
        raise InvalidRequest(f"'{where}' must be an object.", param=where)
    if "text" in part and not isinstance(part["text"], str):
        raise InvalidRequest(f"'{where}.text' must be a string.", param=f"{where}.text")
    for name, needed in (("functionCall", "name"), ("functionResponse", "name"), ("inlineData", "data")):
        if name not in part:
            continue
        if not isinstance(part[name], dict):
            raise InvalidRequest(f"'{where}.{name}' must be an object.", param=f"{where}.{name}")
        if not isinstance(part[name].get(needed), str):
            raise InvalidRequest(f"'{where}.{name}.{needed}' must be a string.", param=f"{where}.{name}.{needed}")
    if "parts" in (part.get("functionResponse") or {}):
        _check_parts(part["functionResponse"]["parts"], f"{where}.functionResponse.parts")


def _check_system(body: Mapping[str, Any]) -> None:
    system = optional(body, "systemInstruction", dict, "an object")
    if system is not None:
        _check_parts(system.get("parts"), "systemInstruction.parts")


def _check_tools(tools: list[Any]) -> None:
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise InvalidRequest(f"'tools[{index}]' must be an object.", param=f"tools[{index}]")
        for place, declared in enumerate(tool.get("functionDeclarations") or ()):
            where = f"tools[{index}].functionDeclarations[{place}]"
            if not isinstance(declared, dict) or not isinstance(declared.get("name"), str):
                raise InvalidRequest(f"'{where}' must be an object with a 'name'.", param=where)
    refuse_more_than(MAX_TOOLS, len(tools) + len(declarations({"tools": tools})), "tools", "tools")


def _check_calling(config: Mapping[str, Any]) -> None:
    where = "toolConfig.functionCallingConfig"
    calling = optional({where: config.get("functionCallingConfig")}, where, dict, "an object") or {}
    names = calling.get("allowedFunctionNames") or ()
    if not all(isinstance(name, str) for name in names):
        param = f"{where}.allowedFunctionNames"
        raise InvalidRequest(f"'{param}' must be an array of strings.", param=param)


def _check_config(config: Mapping[str, Any]) -> None:
    named = {f"generationConfig.{name}": value for name, value in config.items()}
    whole_number(named, "generationConfig.maxOutputTokens", most=MAX_OUTPUT_TOKENS)
    whole_number(named, "generationConfig.candidateCount", most=MAX_CANDIDATES)
    thinking = optional(named, "generationConfig.thinkingConfig", dict, "an object") or {}
    budget = thinking.get("thinkingBudget")
    if budget is not None and type(budget) is not int:
        param = "generationConfig.thinkingConfig.thinkingBudget"
        raise InvalidRequest(f"'{param}' must be a whole number.", param=param)
