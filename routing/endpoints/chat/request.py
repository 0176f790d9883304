"""What is validated of a chat request. Everything else passes through as it came, unknown parameters included.

Validated is what the gateway itself reads: the model, the shape of the messages, whether it streams, and whatever
bounds its cost. The rest is for the provider to judge.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accounting.text import storable
from routing.exceptions import InvalidJson, InvalidRequest, MissingParameter

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
MAX_DEPTH = 100  # of nested JSON: deeper is nobody's schema, and recursive code downstream must not be felled by it
MAX_CHOICES = 128  # OpenAI's own limit of `n`
MAX_OUTPUT_TOKENS = 10_000_000
MAX_TAGS = 16  # OpenAI's limit of `metadata` pairs
MAX_TAG_CHARACTERS = 512
MAX_END_USER_CHARACTERS = 200
TIMEOUT_HEADER = "x-gateway-timeout"
MIN_TIMEOUT_S, MAX_TIMEOUT_S = 0.1, 3600.0  # as the providers' own limits have them


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A valid chat request. ``body`` is the client's, to be sent on; nobody mutates it."""

    alias: str
    body: Mapping[str, Any]
    streamed: bool
    include_usage: bool  # the client asked for the usage chunk of a stream
    choices: int
    output_cap_tokens: int | None  # the client's own, per choice
    end_user: str
    tags: Mapping[str, str]
    deadline: float | None = None  # monotonic: when the client no longer wants an answer

    def left_s(self) -> float:
        """Of the time that the client waits, ``x-gateway-timeout``; endless when it did not say."""
        return math.inf if self.deadline is None else self.deadline - time.monotonic()


def parse_json(raw: bytes) -> Any:
    """The JSON value of a body. Raises InvalidJson."""
    if not raw.strip():
        raise InvalidJson("The request body is empty; send a JSON object.")
    try:
        # JSON between machines is UTF-8 (RFC 8259, 8.1); given bytes, Python would also take UTF-16 and broken UTF-8.
        value = json.loads(raw.decode("utf-8-sig"), parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidJson(f"The request body is nested deeper than {MAX_DEPTH} levels.") from None
    except UnicodeDecodeError:
        raise InvalidJson("The request body is not valid UTF-8.") from None
    except ValueError as error:
        raise InvalidJson(f"The request body is not valid JSON: {error}.") from None
    # Counting brackets is cheap and clears nearly every body without walking it.
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _is_deeper_than(value, MAX_DEPTH):
        raise InvalidJson(f"The request body is nested deeper than {MAX_DEPTH} levels.")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _is_deeper_than(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def parse_chat(body: Any, alias_in_path: str | None = None) -> ChatRequest:
    """Validate a chat request. Raises InvalidRequest whose ``param`` names the field."""
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be a JSON object.")
    if alias_in_path is not None:
        body = {**body, "model": alias_in_path}
    model = _required(body, "model")
    if not isinstance(model, str) or not model:
        raise InvalidRequest("'model' must be a non-empty string.", param="model")
    _check_messages(_required(body, "messages"))
    streamed = _optional(body, "stream", bool, "true or false") or False
    options = _optional(body, "stream_options", dict, "an object")
    if options is not None and not streamed:
        raise InvalidRequest("'stream_options' is only allowed when 'stream' is true.", param="stream_options")
    include_usage = (options or {}).get("include_usage")
    if include_usage is not None and not isinstance(include_usage, bool):
        raise InvalidRequest(
            "'stream_options.include_usage' must be true or false.", param="stream_options.include_usage"
        )
    _optional(body, "tools", list, "an array")
    _check_cap_agreement(body)
    return ChatRequest(
        alias=model,
        body=body,
        streamed=streamed,
        include_usage=bool(include_usage),
        choices=_whole_number(body, "n", most=MAX_CHOICES) or 1,
        output_cap_tokens=(
            _whole_number(body, "max_completion_tokens", most=MAX_OUTPUT_TOKENS)
            or _whole_number(body, "max_tokens", most=MAX_OUTPUT_TOKENS)
        ),
        end_user=storable(_optional(body, "user", str, "a string") or "", MAX_END_USER_CHARACTERS),
        tags=_tags(body),
    )


def parse_timeout_s(header: str | None) -> float | None:
    """The header ``x-gateway-timeout``: for how many seconds the client waits, all attempts together. Raises
    InvalidRequest. It narrows the providers' own limits and never widens them."""
    if header is None:
        return None
    try:
        timeout_s = float(header) if len(header) <= 20 and "_" not in header else math.nan
    except ValueError:
        timeout_s = math.nan
    if not MIN_TIMEOUT_S <= timeout_s <= MAX_TIMEOUT_S:
        raise InvalidRequest(
            f"'{TIMEOUT_HEADER}' must be a number of seconds from {MIN_TIMEOUT_S:g} to {MAX_TIMEOUT_S:g}.",
            param=TIMEOUT_HEADER,
        )
    return timeout_s


def _required(body: Mapping[str, Any], name: str) -> Any:
    if body.get(name) is None:
        raise MissingParameter(f"'{name}' is required.", param=name)
    return body[name]


def _optional(body: Mapping[str, Any], name: str, kind: type, words: str) -> Any:
    value = body.get(name)
    if value is not None and not isinstance(value, kind):
        raise InvalidRequest(f"'{name}' must be {words}.", param=name)
    return value


def _whole_number(body: Mapping[str, Any], name: str, *, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidRequest(f"'{name}' must be a whole number from 1 to {most}.", param=name)
    return value


def _check_cap_agreement(body: Mapping[str, Any]) -> None:
    # Both at once would leave it to the provider which of them bounds the cost.
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise InvalidRequest("Set either 'max_tokens' or 'max_completion_tokens', not both.", param="max_tokens")


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise InvalidRequest("'messages' must be a non-empty array.", param="messages")
    for index, message in enumerate(messages):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            raise InvalidRequest(f"'{where}' must be an object.", param=where)
        role = message.get("role")
        if role is None:
            raise MissingParameter(f"'{where}.role' is required.", param=f"{where}.role")
        if not isinstance(role, str) or role not in ROLES:
            raise InvalidRequest(f"'{where}.role' must be one of: {', '.join(sorted(ROLES))}.", param=f"{where}.role")
        _check_content(message, role, f"{where}.content")


def _check_content(message: Mapping[str, Any], role: str, where: str) -> None:
    content = message.get("content")
    if content is None:
        if role in ("assistant", "function", "tool"):
            return  # tool calls come without content; an empty tool result is for the provider to judge
        raise MissingParameter(f"'{where}' is required.", param=where)
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise InvalidRequest(f"'{where}' must be a string or an array of parts.", param=where)
    for index, part in enumerate(content):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise InvalidRequest(f"'{where}[{index}]' must be an object with a 'type'.", param=f"{where}[{index}]")


def _tags(body: Mapping[str, Any]) -> dict[str, str]:
    """The caller's ``metadata``, for the books. Values that are not text are kept as JSON text."""
    metadata = _optional(body, "metadata", dict, "an object") or {}
    if len(metadata) > MAX_TAGS:
        raise InvalidRequest(f"'metadata' may have {MAX_TAGS} pairs at the most.", param="metadata")
    return {
        storable(name, 64): storable(value if isinstance(value, str) else json.dumps(value), MAX_TAG_CHARACTERS)
        for name, value in metadata.items()
    }
