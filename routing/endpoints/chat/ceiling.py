"""The upper bound of a request's cost, before it runs. Pure.

The bound must be true, or a hard budget could be overspent by what was admitted: so text counts as its UTF-8
bytes (a byte-pair token, in every tokenizer that the providers publish, stands for at least one byte), and whatever
has a documented maximum counts as that. What nobody can bound is :class:`Unbounded`, and refused where a hard budget
applies.

That is three to five times the true input tokens. It matters little: the output cap, at several times the price a
token, is most of a typical hold. ``docs/estimates.md`` has the measured ratios.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: Chat templates wrap each message in a few tokens (OpenAI documents 3 to 4), and the request in a few more.
TOKENS_A_MESSAGE = 16
TOKENS_A_REQUEST = 64
#: Anthropic adds a system prompt of 290 to 810 tokens to a request with tools (its documentation, "Tool use, pricing").
TOKENS_WITH_TOOLS = 1024
#: An image at most: OpenAI's tiles (a 768x2048 image of eight, 85 + 8 x 170 = 1,445), its patches (1,536 x 2.46),
#: Anthropic's high-resolution images (4,784), Gemini's tiles of 258 (twenty and more for a banner).
TOKENS_AN_IMAGE = 8_192
#: gpt-4o-mini counts an image at 2,833 + 5,667 a tile: eight tiles at most.
TOKENS_AN_IMAGE_MINI = 2_833 + 8 * 5_667
#: Gemini counts 32 tokens a second of audio, OpenAI 10; the thinnest MP3 has 1,000 bytes a second.
AUDIO_TOKENS_A_KILOBYTE = 32

#: Content parts that are text, or whose text is all that they are.
_TEXT_PARTS = frozenset({"text", "refusal", "thinking", "redacted_thinking", "input_text", "output_text", "tool_use"})
#: What of a request becomes input tokens, besides its messages.
_INSTRUCTIONS = ("tools", "functions", "response_format", "tool_choice", "function_call", "prediction")


class Unbounded(ValueError):
    """Content whose tokens nobody can bound. ``param`` names it, as ``messages[2].content[1]``."""

    def __init__(self, param: str, why: str) -> None:
        super().__init__(why)
        self.param = param


def input_ceiling(body: Mapping[str, Any], *, tokens_an_image: int = TOKENS_AN_IMAGE) -> int:
    """No provider counts more input tokens for this chat request. Linear in its size.

    Raises Unbounded. Takes any JSON: what has not the shape of a chat request counts as the text that it is.
    """
    tokens = TOKENS_A_REQUEST
    for name in _INSTRUCTIONS:
        if body.get(name) is not None:
            tokens += _bytes(body[name])
    if body.get("tools") or body.get("functions") or body.get("response_format"):
        tokens += TOKENS_WITH_TOOLS
    _refuse_paid_tools(body)
    messages = body.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        tokens += TOKENS_A_MESSAGE + _message(message, f"messages[{index}]", tokens_an_image)
    return tokens


def image_ceiling(model: str) -> int:
    """The most tokens that an image may be to this model."""
    return TOKENS_AN_IMAGE_MINI if "gpt-4o-mini" in model else TOKENS_AN_IMAGE


def _message(message: Any, where: str, tokens_an_image: int) -> int:
    if not isinstance(message, dict):
        return _bytes(message)
    content = message.get("content")
    if not isinstance(content, list):
        return _bytes(message)
    tokens = _bytes({name: value for name, value in message.items() if name != "content"})
    for index, part in enumerate(content):
        tokens += _part(part, f"{where}.content[{index}]", tokens_an_image)
    return tokens


def _part(part: Any, where: str, tokens_an_image: int) -> int:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(kind, str) or kind in _TEXT_PARTS:
        return _bytes(part)
    if kind in ("image_url", "image", "input_image"):
        return tokens_an_image
    if kind == "input_audio":
        audio = part.get("input_audio")
        data = audio.get("data") if isinstance(audio, dict) else None
        if isinstance(data, str):
            return TOKENS_A_MESSAGE + len(data) * AUDIO_TOKENS_A_KILOBYTE // 1000
    raise Unbounded(where, f"no provider documents how many tokens a part of the type '{kind[:40]}' is at most")


def _refuse_paid_tools(body: Mapping[str, Any]) -> None:
    """Tools that the provider runs itself are billed by use, which no token bound covers."""
    if body.get("web_search_options") is not None:
        raise Unbounded("web_search_options", "web searches are billed by use")
    tools = body.get("tools")
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind not in ("function", "custom", None):
            raise Unbounded(f"tools[{index}]", "a tool that the provider runs itself is billed by use")


def _bytes(value: Any) -> int:
    """The UTF-8 length of a JSON value as text. Its punctuation is counted too, which covers what templates add."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))
