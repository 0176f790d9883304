"""What may stand beside what in a request to Anthropic's Messages API. The body is changed in place.

Each rule takes the body, the client's request and the model, and returns the client's parameters that it dropped or
changed. The order matters: whether there is thinking is decided before what may stand beside it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from routing.upstreams.base import Json
from routing.upstreams.mends.capability import cannot

Rule = Callable[[Json, Mapping[str, Any], str], tuple[str, ...]]

MIN_THINKING_TOKENS: Final = 1024
MAX_CACHE_MARKS: Final = 4
MAX_USER_CHARACTERS: Final = 256
JSON_SENTENCE: Final = "Answer with a single JSON object and nothing else: no other text, no code fence."
_VERSION: Final = re.compile(r"claude-(?:opus|sonnet|haiku)-(\d+)(?:[-.](\d{1,2})(?!\d))?")
_OLD_VERSION: Final = re.compile(r"claude-(?:v?[12]|instant|3)\b")


def mended(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """Applies every rule. Returns the client's parameters that were dropped or changed."""
    return tuple(dict.fromkeys(name for rule in RULES for name in rule(body, asked, model)))


def keep_thinking_within_the_cap(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """At least 1,024 tokens to think, and fewer than the answer may have in all.
    https://platform.claude.com/docs/en/build-with-claude/extended-thinking"""
    thinking, cap = body.get("thinking"), body.get("max_tokens")
    if not isinstance(thinking, dict) or thinking.get("type") != "enabled" or not isinstance(cap, int):
        return ()
    budget = thinking.get("budget_tokens")
    if isinstance(budget, int) and MIN_THINKING_TOKENS <= budget < cap:
        return ()
    if cap <= MIN_THINKING_TOKENS:
        del body["thinking"]
    else:
        budget = budget if isinstance(budget, int) else MIN_THINKING_TOKENS
        body["thinking"] = {**thinking, "budget_tokens": min(max(budget, MIN_THINKING_TOKENS), cap - 1)}
    return _wish_to_think(asked)


def drop_thinking_beside_a_begun_answer(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """A model that thinks cannot go on with an answer that was begun for it.
    https://platform.claude.com/docs/en/build-with-claude/extended-thinking#feature-compatibility"""
    messages = body["messages"]
    if not _thinks(body) or not messages or messages[-1].get("role") != "assistant":
        return ()
    del body["thinking"]
    return _wish_to_think(asked)


def refuse_a_begun_answer(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """From Claude 4.6 on no model goes on with an answer that was begun for it. Another model may.
    https://platform.claude.com/docs/en/about-claude/models/whats-new-claude-4-6"""
    messages = body["messages"]
    if not messages or messages[-1].get("role") != "assistant" or _goes_on(model):
        return ()
    raise cannot("The model does not go on with an answer that was begun for it", f"messages[{len(messages) - 1}]")


def _goes_on(model: str) -> bool:
    from routing.upstreams.litellm_import import load

    return load().model_cost.get(model, {}).get("supports_assistant_prefill") is not False


def name_thinking_that_was_dropped(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """litellm drops the thinking when the last turn with calls has no signed thoughts, which Anthropic insists on.
    https://platform.claude.com/docs/en/build-with-claude/extended-thinking#preserving-thinking-blocks"""
    if _thinks(body) or not _wish_to_think(asked) or asked.get("reasoning_effort") in ("none", {"effort": "none"}):
        return ()
    wanted = asked.get("thinking")
    return () if isinstance(wanted, dict) and wanted.get("type") == "disabled" else _wish_to_think(asked)


def drop_sampling_beside_thinking(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """Beside thinking: temperature 1 alone, top_p from 0.95, no top_k.
    https://platform.claude.com/docs/en/build-with-claude/extended-thinking#feature-compatibility"""
    if not _thinks(body):
        return ()
    refused = []
    if body.get("temperature", 1) != 1:
        refused.append("temperature")
    top_p = body.get("top_p", 1)
    if not isinstance(top_p, int | float) or not 0.95 <= top_p <= 1:
        refused.append("top_p")
    if "top_k" in body:
        refused.append("top_k")
    return _dropped(body, refused)


def keep_temperature_or_top_p(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """From Claude Opus 4.1 and Claude 4.5 on, only one of the two.
    https://platform.claude.com/docs/en/about-claude/models/migration-guide"""
    if "temperature" not in body or "top_p" not in body or _takes_both(model):
        return ()
    return _dropped(body, ["top_p"])


def _takes_both(model: str) -> bool:
    if _OLD_VERSION.search(model):
        return True
    version = _VERSION.search(model)
    if version is None:
        return False
    return (int(version[1]), int(version[2] or 0)) < (4, 1)


def keep_temperature_in_range(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """Anthropic's range is 0 to 1, OpenAI's 0 to 2. https://platform.claude.com/docs/en/api/messages"""
    temperature = body.get("temperature")
    if not isinstance(temperature, int | float) or temperature <= 1:
        return ()
    body["temperature"] = 1.0
    return ("temperature",)


def name_sampling_that_was_removed(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """From Claude Opus 4.7 on there is no sampling to set; litellm leaves it out.
    https://platform.claude.com/docs/en/about-claude/models/migration-guide"""
    return tuple(name for name in ("temperature", "top_p", "top_k") if asked.get(name) is not None and name not in body)


def leave_the_tool_to_thinking(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """Beside thinking a tool cannot be forced.
    https://platform.claude.com/docs/en/build-with-claude/extended-thinking#extended-thinking-with-tool-use"""
    choice = body.get("tool_choice")
    if not _thinks(body) or not isinstance(choice, dict) or choice.get("type") not in ("any", "tool"):
        return ()
    body["tool_choice"] = {"type": "auto"}
    if "disable_parallel_tool_use" in choice:
        body["tool_choice"]["disable_parallel_tool_use"] = choice["disable_parallel_tool_use"]
    return ("tool_choice",) if asked.get("tool_choice") else ()


def drop_choice_without_tools(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """`tool_choice` needs tools. https://platform.claude.com/docs/en/api/messages"""
    if body.get("tools"):
        return ()
    body.pop("tools", None)
    if body.pop("tool_choice", None) is None:
        return ()
    return tuple(name for name in ("tool_choice", "parallel_tool_calls") if asked.get(name) is not None)


def drop_surplus_cache_marks(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """Four marks at most, and none of an hour behind one of five minutes. The last ones are kept: what they mark begins
    with what the earlier ones marked. https://platform.claude.com/docs/en/build-with-claude/prompt-caching"""
    marked = [block for block in _blocks(body) if isinstance(block.get("cache_control"), dict)]
    room = MAX_CACHE_MARKS - (1 if isinstance(body.get("cache_control"), dict) else 0)
    surplus, kept = marked[: max(0, len(marked) - room)], marked[max(0, len(marked) - room) :]
    for block in surplus:
        del block["cache_control"]
    changed, short = bool(surplus), False
    for block in kept:
        mark = block["cache_control"]
        if mark.get("ttl") == "1h" and short:
            block["cache_control"] = {**mark, "ttl": "5m"}
            changed = True
        short = short or mark.get("ttl") != "1h"
    return ("cache_control",) if changed else ()


def _blocks(body: Json) -> Iterator[Json]:
    """What can be marked, in the order in which the cache sees it."""
    contents = [body.get("tools"), body.get("system"), *(message.get("content") for message in body["messages"])]
    for content in contents:
        for block in content if isinstance(content, list) else ():
            if isinstance(block, dict):
                inner = block.get("content")
                yield from (part for part in (inner if isinstance(inner, list) else ()) if isinstance(part, dict))
                yield block


def keep_references_whole(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """litellm writes `/$defs/…` for `#/$defs/…` in an answer's schema.
    https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations"""
    waiting: list[Any] = [tool.get("input_schema") for tool in body.get("tools") or ()]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            reference = node.get("$ref")
            if isinstance(reference, str) and reference.startswith("/$defs/"):
                node["$ref"] = f"#{reference}"
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return ()


def ask_for_json(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """`json_object` is nothing that Anthropic knows: it is asked for in words, as the provider advises.
    https://platform.claude.com/docs/en/test-and-evaluate/strengthen-guardrails/increase-consistency"""
    wanted = asked.get("response_format")
    if not isinstance(wanted, dict) or wanted.get("type") != "json_object" or "response_schema" in wanted:
        return ()
    system = body.get("system")
    blocks = [{"type": "text", "text": system}] if isinstance(system, str) else list(system or ())
    body["system"] = [*blocks, {"type": "text", "text": JSON_SENTENCE}]
    return ("response_format",)


def say_plain_text(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """A document of plain text is text; only a PDF comes in base64. litellm sends both alike.
    https://platform.claude.com/docs/en/api/messages#plain-text-source"""
    for block in _blocks(body):
        source = block.get("source")
        if block.get("type") != "document" or not isinstance(source, dict) or source.get("media_type") != "text/plain":
            continue
        if source.get("type") == "base64":
            data = base64.b64decode(source["data"]).decode("utf-8", "replace")
            block["source"] = {"type": "text", "media_type": "text/plain", "data": data}
    return ()


def name_user_that_was_dropped(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """Anthropic refuses names of users that identify a person; litellm leaves mail addresses and numbers out. A name of
    more than 256 characters is told by its digest. https://platform.claude.com/docs/en/api/messages#body-metadata"""
    user = (body.get("metadata") or {}).get("user_id")
    if isinstance(user, str) and len(user) > MAX_USER_CHARACTERS:
        digest = hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()
        body["metadata"] = {**body["metadata"], "user_id": digest}
    return ("user",) if asked.get("user") and "metadata" not in body else ()


def keep_the_models_maximum(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """More tokens than the model can write are refused.
    https://platform.claude.com/docs/en/about-claude/models/overview"""
    return keep_cap(body, "max_tokens", asked, f"anthropic/{model}", model)


def keep_cap(holder: Json, name: str, asked: Mapping[str, Any], *models: str) -> tuple[str, ...]:
    """Lowers the output cap to what the price map says that the model can write."""
    most = most_output_tokens(*models)
    return () if most is None else keep_cap_below(holder, name, asked, most)


def keep_cap_below(holder: Json, name: str, asked: Mapping[str, Any], most: int) -> tuple[str, ...]:
    cap = holder.get(name)
    if not isinstance(cap, int) or cap <= most:
        return ()
    holder[name] = most
    return tuple(given for given in ("max_tokens", "max_completion_tokens") if asked.get(given) is not None)


def most_output_tokens(*models: str) -> int | None:
    from routing.upstreams.litellm_import import load

    known = load().model_cost
    for model in models:
        most = known.get(model, {}).get("max_output_tokens")
        if isinstance(most, int) and most > 0:
            return most
    return None


def _thinks(body: Json) -> bool:
    thinking = body.get("thinking")
    return isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive")


def _wish_to_think(asked: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name in ("reasoning_effort", "thinking") if asked.get(name) is not None)


def _dropped(body: Json, names: list[str]) -> tuple[str, ...]:
    return tuple(name for name in names if body.pop(name, None) is not None)


RULES: Final[tuple[Rule, ...]] = (
    keep_the_models_maximum,
    keep_thinking_within_the_cap,
    refuse_a_begun_answer,
    drop_thinking_beside_a_begun_answer,
    name_thinking_that_was_dropped,
    drop_sampling_beside_thinking,
    keep_temperature_or_top_p,
    keep_temperature_in_range,
    name_sampling_that_was_removed,
    drop_choice_without_tools,
    leave_the_tool_to_thinking,
    drop_surplus_cache_marks,
    keep_references_whole,
    ask_for_json,
    say_plain_text,
    name_user_that_was_dropped,
)
