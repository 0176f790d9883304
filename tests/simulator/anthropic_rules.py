"""What Anthropic documents as refused, each rule from its page (docs/simulator-rules.md) and not from the gateway's."""

from __future__ import annotations

import base64
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MEDIA_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")
_WITHOUT_SAMPLING = re.compile(r"opus-4-[789]|(?:opus|sonnet|haiku|fable|mythos)-5")
_ONE_OF_TEMPERATURE_AND_TOP_P = re.compile(r"opus-4-1|(?:opus|sonnet|haiku)-4-[56]")
_MOST_TOKENS = {"claude-sonnet-4-6": 128_000, "claude-haiku-4-5": 64_000, "claude-opus-4-7": 128_000}


def broken(body: Mapping[str, Any]) -> str | None:
    """The message for the first rule that the request breaks."""
    return next((message for rule in _RULES for message in rule(body)), None)


def _thinks(body: Mapping[str, Any]) -> bool:
    return (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")


def _sampling(body: Mapping[str, Any]) -> Iterator[str]:
    model, temperature = str(body["model"]), body.get("temperature")
    if temperature is not None and not 0 <= temperature <= 1:
        yield "temperature: range: 0..1"
    if _WITHOUT_SAMPLING.search(model):
        for name in ("temperature", "top_p", "top_k"):
            if name in body and not (name == "temperature" and temperature == 1):
                yield f"`{name}` is deprecated for this model."
    if _ONE_OF_TEMPERATURE_AND_TOP_P.search(model) and temperature is not None and "top_p" in body:
        yield "`temperature` and `top_p` cannot both be specified for this model. Please use only one."


def _thinking(body: Mapping[str, Any]) -> Iterator[str]:
    if not _thinks(body):
        return
    if body.get("temperature", 1) != 1:
        yield "`temperature` may only be set to 1 when thinking is enabled or in adaptive mode."
    if body.get("top_p", 1) < 0.95:
        yield "`top_p` must be greater than or equal to 0.95 or unset when thinking is enabled."
    if "top_k" in body:
        yield "`top_k` must be unset when thinking is enabled."
    if (body.get("tool_choice") or {}).get("type") in ("any", "tool"):
        yield "Thinking may not be enabled when tool_choice forces tool use."
    if body["messages"][-1].get("role") == "assistant":
        yield "messages: the answer cannot be prefilled when thinking is enabled"
    if body["thinking"].get("type") == "enabled" and body["thinking"].get("budget_tokens", 0) < 1024:
        yield "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"


def _begun(body: Mapping[str, Any]) -> Iterator[str]:
    newer = re.search(r"(?:opus|sonnet)-4-[6-9]|(?:opus|sonnet|haiku|fable|mythos)-5", str(body["model"]))
    if newer and body["messages"][-1].get("role") == "assistant":
        yield "This model does not support assistant message prefill. The conversation must end with a user message."
    user = (body.get("metadata") or {}).get("user_id")
    if isinstance(user, str) and len(user) > 256:
        yield "metadata.user_id: String should have at most 256 characters"


def _stop_sequences(body: Mapping[str, Any]) -> Iterator[str]:
    if any(not word.strip() for word in body.get("stop_sequences") or ()):
        yield "stop_sequences: each stop sequence must contain non-whitespace"


def _most_tokens(body: Mapping[str, Any]) -> Iterator[str]:
    most = _MOST_TOKENS.get(body["model"])
    if most is not None and body["max_tokens"] > most:
        yield f"max_tokens: {body['max_tokens']} > {most}, which is the maximum allowed number of output tokens"


def _tools(body: Mapping[str, Any]) -> Iterator[str]:
    tools = body.get("tools") or ()
    if "tool_choice" in body and not tools:
        yield "tool_choice: may only be specified while providing tools"
    for at, tool in enumerate(tools):
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,128}", tool.get("name", "")):
            yield f"tools.{at}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
        schema = tool.get("input_schema")
        if schema is None:
            continue
        if schema.get("type") != "object":
            yield f"tools.{at}.custom.input_schema.type: Field required"
        if any(name in schema for name in ("oneOf", "allOf", "anyOf")):
            where = f"tools.{at}.custom.input_schema"
            yield f"{where}: input_schema does not support oneOf, allOf, or anyOf at the top level"
        defined = schema.get("$defs") or {}
        for reference in _references(schema):
            if reference.removeprefix("#/$defs/") not in defined:
                yield f"tools.{at}.custom.input_schema: JSON schema is invalid ({reference})"


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _content(body: Mapping[str, Any]) -> Iterator[str]:
    ids: Counter[str] = Counter()
    for at, message in enumerate(body["messages"]):
        for place, block in enumerate(_listed(message["content"])):
            where = f"messages.{at}.content.{place}"
            if block.get("type") == "text" and not block.get("text", "").strip():
                yield "messages: text content blocks must contain non-whitespace text"
            if block.get("type") == "tool_use":
                ids[block["id"]] += 1
            source = block.get("source") or {}
            is_base64 = block.get("type") == "document" and source.get("type") == "base64"
            if is_base64 and source.get("media_type") != "application/pdf":
                yield f"{where}.document.source.base64.media_type: Input should be 'application/pdf'"
            inner = _listed(block.get("content")) if block.get("type") == "tool_result" else [block]
            yield from (message for part in inner for message in _picture(part, where))
    if any(times > 1 for times in ids.values()):
        yield "messages: `tool_use` ids must be unique"


def _picture(block: Mapping[str, Any], where: str) -> Iterator[str]:
    source = block.get("source") or {}
    if block.get("type") != "image" or source.get("type") != "base64":
        return
    label = source.get("media_type")
    if label not in _MEDIA_TYPES:
        yield (
            f"{where}.image.source.base64.media_type: Input should be 'image/jpeg', 'image/png', 'image/gif' or "
            "'image/webp'"
        )
    head = base64.b64decode(source["data"][:16] + "==")
    seen = "image/jpeg" if head[:3] == b"\xff\xd8\xff" else "image/png" if head[:4] == b"\x89PNG" else label
    if seen != label:
        yield (
            f"{where}: The image was specified using the {label} media type, but the image appears to be a {seen} image"
        )


def _cache_marks(body: Mapping[str, Any]) -> Iterator[str]:
    content = [
        *(body.get("tools") or ()),
        *_listed(body.get("system")),
        *(block for message in body["messages"] for block in _listed(message["content"])),
    ]
    marks = [block["cache_control"] for block in content if block.get("cache_control")]
    found = len(marks) + bool(body.get("cache_control"))
    if found > 4:
        yield f"A maximum of 4 blocks with cache_control may be provided. Found {found}."
    lengths = [mark.get("ttl", "5m") for mark in marks]
    if "5m" in lengths and "1h" in lengths[lengths.index("5m") :]:
        yield "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block"


def _effort(body: Mapping[str, Any]) -> Iterator[str]:
    effort = (body.get("output_config") or {}).get("effort")
    if effort is not None and effort not in ("low", "medium", "high", "xhigh", "max"):
        yield "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'"
    if effort == "xhigh" and not _WITHOUT_SAMPLING.search(str(body["model"])):
        yield "This model does not support effort level 'xhigh'."


def _listed(content: Any) -> list[dict[str, Any]]:
    return content if isinstance(content, list) else []


_RULES = (_sampling, _thinking, _begun, _stop_sequences, _most_tokens, _tools, _content, _cache_marks, _effort)
