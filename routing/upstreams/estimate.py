"""Token counts for answers whose provider sent no usage. They are always marked as estimated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from accounting.usage import Usage, UsageSource
from routing.upstreams import litellm_import


def estimated_usage(body: Mapping[str, Any], received: str, model: str) -> Usage:
    """What a chat request and the text received for it come to, by litellm's tokenizer for the model."""
    return Usage(
        input_tokens=max(1, _count_input(body, model)),
        output_tokens=_count_text(received, model),
        source=UsageSource.ESTIMATED,
    )


def _count_text(text: str, model: str) -> int:
    return int(litellm_import.load().token_counter(model=model, text=text)) if text else 0


def _count_input(body: Mapping[str, Any], model: str) -> int:
    try:
        return int(litellm_import.load().token_counter(model=model, messages=body["messages"], tools=body.get("tools")))
    except Exception:  # noqa: BLE001  a message that litellm cannot count is counted as the text it is
        return _count_text(json.dumps(body.get("messages"), ensure_ascii=False), model)
