"""The upper bound of a request's cost, before it runs. Pure.

The bound must be true, or admitted requests could overspend a hard budget. So text counts as many tokens as it has
UTF-8 bytes: in every tokenizer that the providers publish, a token stands for at least one byte. A part with a
documented maximum counts as that maximum. A part that cannot be bounded raises Unbounded, and the request is refused
where a hard budget applies.

The bound is three to five times the true number of input tokens. That matters little: most of a typical hold is the
output cap, whose tokens cost several times as much. ``docs/ceilings.md`` has the measured ratios.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from routing.serving.call import Unbounded

#: Chat templates wrap each message in a few tokens (OpenAI documents 3 to 4), and the request in a few more.
TOKENS_A_MESSAGE = 16
TOKENS_A_REQUEST = 64
#: Anthropic adds a system prompt of 290 to 810 tokens to a request with tools (its documentation, "Tool use, pricing").
TOKENS_WITH_TOOLS = 1024
#: The most that an image may count. OpenAI: tiles (a 768x2048 image of eight, 85 + 8 x 170 = 1,445) or patches (1,536 x
#: 2.46). Anthropic: high-resolution images (4,784). Gemini: tiles of 258 (twenty and more for a banner).
TOKENS_AN_IMAGE = 8_192
#: gpt-4o-mini counts an image at 2,833 + 5,667 a tile: eight tiles at most.
TOKENS_AN_IMAGE_MINI = 2_833 + 8 * 5_667
#: Gemini counts 32 tokens a second of audio, OpenAI 10; the thinnest MP3 has 1,000 bytes a second.
AUDIO_TOKENS_A_KILOBYTE = 32

#: Content parts that consist of text.
_TEXT_PARTS = frozenset({"text", "refusal", "thinking", "redacted_thinking", "input_text", "output_text", "tool_use"})
_IMAGE_PARTS = ("image_url", "image", "input_image")
#: The parameters that become input tokens, besides the messages.
_INSTRUCTIONS = ("tools", "functions", "response_format", "tool_choice", "function_call", "prediction")


@dataclass(frozen=True, slots=True)
class InputCeiling:
    """The most input tokens that any provider may count. How many tokens an image has depends on the model."""

    tokens: int  # of everything but images
    images: int

    def tokens_for(self, model: str) -> int:
        return self.tokens + self.images * image_ceiling(model)


def input_ceiling(body: Mapping[str, Any]) -> InputCeiling:
    """The bound of a chat request's input. Linear in its size.

    Raises Unbounded. Takes any JSON: a part without the shape of a chat request counts as its text.
    """
    tokens, images = TOKENS_A_REQUEST, 0
    for name in _INSTRUCTIONS:
        if body.get(name) is not None:
            tokens += _bytes(body[name])
    if body.get("tools") or body.get("functions") or body.get("response_format"):
        tokens += TOKENS_WITH_TOOLS
    _refuse_paid_tools(body)
    messages = body.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        of_text, of_images = _message(message, f"messages[{index}]")
        tokens += TOKENS_A_MESSAGE + of_text
        images += of_images
    return InputCeiling(tokens, images)


def image_ceiling(model: str) -> int:
    """The most tokens that this model may count for an image."""
    return TOKENS_AN_IMAGE_MINI if "gpt-4o-mini" in model else TOKENS_AN_IMAGE


def _message(message: Any, where: str) -> tuple[int, int]:
    """The tokens of a message's text, and how many images it has."""
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return _bytes(message), 0
    tokens, images = _bytes({name: value for name, value in message.items() if name != "content"}), 0
    for index, part in enumerate(content):
        if isinstance(part, dict) and part.get("type") in _IMAGE_PARTS:
            images += 1
        else:
            tokens += _part(part, f"{where}.content[{index}]")
    return tokens, images


def _part(part: Any, where: str) -> int:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(kind, str) or kind in _TEXT_PARTS:
        return _bytes(part)
    if kind == "input_audio":
        audio = part.get("input_audio")
        data = audio.get("data") if isinstance(audio, dict) else None
        if isinstance(data, str):
            return TOKENS_A_MESSAGE + len(data) * AUDIO_TOKENS_A_KILOBYTE // 1000
    raise Unbounded(where, f"no provider documents how many tokens a part of the type '{kind[:40]}' is at most")


def _refuse_paid_tools(body: Mapping[str, Any]) -> None:
    """Raises Unbounded for a tool that the provider runs itself. Its use is billed, and tokens do not bound that."""
    if body.get("web_search_options") is not None:
        raise Unbounded("web_search_options", "web searches are billed by use")
    tools = body.get("tools")
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind not in ("function", "custom", None):
            raise Unbounded(f"tools[{index}]", "a tool that the provider runs itself is billed by use")


def _bytes(value: Any) -> int:
    """The UTF-8 length of a JSON value's text. Its punctuation counts too, and covers what the templates add."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))
