"""What a Claude refuses of a Messages request that another Claude takes, changed when it says so.

A client of Messages writes for an alias, and a chain may have several Claudes: a newer one takes no temperature, an
older one does not think adaptively, and none reads thoughts that another model has signed. The provider has done
nothing yet and billed nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from routing.upstreams.base import Json
from routing.upstreams.mends.anthropic import MIN_THINKING_TOKENS

#: The body without what is refused; None when it has nothing of it.
_Mend = Callable[[Mapping[str, Any], re.Match[str]], Json | None]
_THOUGHTS: Final = ("thinking", "redacted_thinking")
BETA_HEADER: Final = "anthropic-beta"


def mended(body: Mapping[str, Any], said: str) -> tuple[Json, str] | None:
    """The body that the provider may take, and the client's name of what was changed. None: nothing can be done."""
    for pattern, name, mend in _MENDS:
        if (found := pattern.search(said)) and (changed := mend(body, found)) is not None:
            return changed, name or found[1]
    return None


def without_betas(headers: Mapping[str, str], said: str) -> dict[str, str] | None:
    """The headers without the previews that the provider does not know. https://docs.claude.com/en/api/beta-headers"""
    if BETA_HEADER not in said or BETA_HEADER not in headers:
        return None
    refused = set(re.findall(r"`([\w.-]+)`", said)) - {BETA_HEADER}
    betas = [beta.strip() for beta in headers[BETA_HEADER].split(",")]
    kept = [beta for beta in betas if beta not in refused]
    if len(kept) == len(betas):
        return None
    rest = {name: value for name, value in headers.items() if name != BETA_HEADER}
    return {**rest, BETA_HEADER: ",".join(kept)} if kept else rest


def _without_thoughts(body: Mapping[str, Any], _: re.Match[str]) -> Json | None:
    """Thoughts are signed for one model. https://github.com/anthropics/anthropic-sdk-python/issues/1598"""
    messages = [_thoughtless(message) for message in body["messages"]]
    kept = [message for message in messages if message["content"]]
    return {**body, "messages": kept} if messages != body["messages"] else None


def _thoughtless(message: Json) -> Json:
    content = message.get("content")
    if message.get("role") != "assistant" or not isinstance(content, list):
        return message
    return {**message, "content": [block for block in content if block.get("type") not in _THOUGHTS]}


def _adaptive(body: Mapping[str, Any], _: re.Match[str]) -> Json | None:
    """https://github.com/SigmaNight/basiliskLLM/issues/1185"""
    thinking = body.get("thinking")
    if not isinstance(thinking, dict) or thinking.get("type") != "enabled":
        return None
    return {**body, "thinking": {**_beside_the_kind(thinking), "type": "adaptive"}}


def _by_budget(body: Mapping[str, Any], _: re.Match[str]) -> Json | None:
    """https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking"""
    thinking, cap = body.get("thinking"), body.get("max_tokens")
    if not isinstance(thinking, dict) or thinking.get("type") != "adaptive" or not isinstance(cap, int):
        return None
    rest = {name: value for name, value in body.items() if name not in ("thinking", "output_config")}
    if isinstance(config := body.get("output_config"), dict) and (kept := _without(config, "effort")):
        rest["output_config"] = kept
    if cap <= MIN_THINKING_TOKENS:
        return rest
    budget = {"type": "enabled", "budget_tokens": max(MIN_THINKING_TOKENS, cap // 2)}
    return {**rest, "thinking": {**_beside_the_kind(thinking), **budget}}


def _beside_the_kind(thinking: Json) -> Json:
    return _without(_without(thinking, "budget_tokens"), "type")


def _without_effort(body: Mapping[str, Any], _: re.Match[str]) -> Json | None:
    config = body.get("output_config")
    if not isinstance(config, dict) or "effort" not in config:
        return None
    kept, rest = _without(config, "effort"), _without(body, "output_config")
    return {**rest, "output_config": kept} if kept else rest


def _without_named(body: Mapping[str, Any], found: re.Match[str]) -> Json | None:
    return _without(body, found[1]) if found[1] in body else None


def _without_top_p(body: Mapping[str, Any], _: re.Match[str]) -> Json | None:
    return _without(body, "top_p") if "top_p" in body else None


def _lower(body: Mapping[str, Any], found: re.Match[str]) -> Json | None:
    cap, most = body.get("max_tokens"), int(found[1])
    return {**body, "max_tokens": most} if isinstance(cap, int) and 0 < most < cap else None


def _without(holder: Mapping[str, Any], name: str) -> Json:
    return {other: value for other, value in holder.items() if other != name}


_MENDS: Final[tuple[tuple[re.Pattern[str], str, _Mend], ...]] = (
    (re.compile(r"[Ii]nvalid `?signature`? in `?(?:redacted_)?thinking"), "messages[].thinking", _without_thoughts),
    (re.compile(r"thinking\.type\.enabled\W{0,3} is not supported"), "thinking", _adaptive),
    (re.compile(r"[Aa]daptive thinking is not supported"), "thinking", _by_budget),
    (re.compile(r"effort (?:parameter|level)\b|output_config\.effort"), "output_config", _without_effort),
    (re.compile(r"`temperature` and `top_p` cannot both"), "top_p", _without_top_p),
    (re.compile(r"`(temperature|top_p|top_k)` is (?:deprecated|not supported)"), "", _without_named),
    (re.compile(r"max_tokens: \d+ > (\d+)"), "max_tokens", _lower),
)
