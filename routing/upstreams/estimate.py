"""Token counts for answers whose provider gave none. Always marked as estimated.

They must be cheap and never wait for a network: pictures and sounds are counted here, by what they usually come to, and
of a text too long to be counted in a few milliseconds the bytes are counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from accounting.usage import Usage, UsageSource
from routing.upstreams import litellm_import

MAX_COUNTED_BYTES: Final = 64 * 1024  # of a text that is split into tokens, which takes a millisecond or two a kilobyte
BYTES_A_TOKEN: Final = 4
#: What a picture usually comes to: 258 tokens at Gemini, 765 or 1,105 at OpenAI, up to 1,600 at Anthropic.
TOKENS_AN_IMAGE: Final = 1000
#: Of the base64 text: sound as WAV or MP3; a PDF of 50 kB a page and 2,000 tokens a page.
TOKENS_A_KILOBYTE: Final = {"input_audio": 1, "file": 40}


def estimated_usage(body: Mapping[str, Any], received: str, model: str) -> Usage:
    """What a chat request and the text received for it come to, by litellm's tokenizer for the model."""
    return Usage(
        input_tokens=max(1, _count_input(body, model)),
        output_tokens=count_text(received, model),
        source=UsageSource.ESTIMATED,
    )


def count_text(text: str, model: str) -> int:
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_COUNTED_BYTES:
        return size // BYTES_A_TOKEN
    return int(litellm_import.load().token_counter(model=model, text=text)) if text else 0


def text_of_tokens(tokens: list[int]) -> str | None:
    """Tokens of OpenAI's models as text: those of its embeddings, its old completions and all models up to GPT-4.

    None: they are no tokens of these."""
    try:
        return str(litellm_import.load().decode(model="", tokens=tokens))
    except Exception:  # noqa: BLE001 - litellm's tokenizer raises what it likes for a number that is no token
        return None


def _count_input(body: Mapping[str, Any], model: str) -> int:
    messages, media_tokens = _without_media(body["messages"])
    tools = body.get("tools")
    text = json.dumps([messages, tools] if tools else messages, ensure_ascii=False)
    if len(text) > MAX_COUNTED_BYTES:
        return count_text(text, model) + media_tokens
    try:
        # A picture may stand where `_without_media` does not look. litellm would look its host up.
        counted = litellm_import.load().token_counter(
            model=model, messages=messages, tools=tools, use_default_image_token_count=True
        )
    except Exception:  # noqa: BLE001  a message that litellm cannot count is counted as the text it is
        counted = count_text(text, model)
    return int(counted) + media_tokens


def _without_media(messages: Any) -> tuple[list[Any], int]:
    """The messages without their pictures, sounds and files, and how many tokens these are."""
    kept: list[Any] = []
    tokens = 0
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(content, list):
            kept.append(message)
            continue
        tokens += sum(map(_media_tokens, content))
        kept.append({**message, "content": [part for part in content if not _media_tokens(part)]})
    return kept, tokens


def _media_tokens(part: Any) -> int:
    """0 for a part that is text."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("image_url", "image", "input_image"):
        return TOKENS_AN_IMAGE
    if kind in TOKENS_A_KILOBYTE:
        return 1 + sum(map(len, _texts(part))) * TOKENS_A_KILOBYTE[kind] // 1000
    return 0


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _texts(inner)]
    return []
