"""What may stand beside what in a request to Gemini's generateContent. The body is changed in place.

Each rule takes the body, the client's request and the model, and returns the client's parameters that it dropped or
changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from routing.upstreams.base import Json
from routing.upstreams.mends.anthropic import keep_cap, keep_cap_below
from routing.upstreams.mends.parameters import nearest_effort

Rule = Callable[[Json, Mapping[str, Any], str], tuple[str, ...]]

#: The fields of generationConfig by which an answer is bound to a form, in litellm's writing.
_FORM: Final = ("response_mime_type", "response_schema", "response_json_schema")
_SCHEMA_SENTENCE: Final = (
    "When you do not call a function, your answer must be one JSON value and nothing else (no other text, no code "
    "fence)"
)
#: Of each family that is asked for a budget: the smallest, the largest, and whether none is possible.
_BUDGETS: Final = (
    ("gemini-2.5-flash-lite", 512, 24_576, True),
    ("gemini-2.5-flash", 1, 24_576, True),
    ("gemini-2.5-pro", 128, 32_768, False),
)
#: What no model goes beyond, the newest included, which the price map may not know yet.
_MAX_OUTPUT_TOKENS: Final = 65_536
_TWIN: Final = "_twin"
_SEARCHES: Final = ("googleSearch", "google_search", "urlContext", "url_context", "enterpriseWebSearch")

#: A refusal is believed at the start of Google's sentence alone. Behind it, Google repeats what a client has sent, and
#: one client must not teach this process what the others lose.
_BEGINS: Final = r'"message":\s*"[a-z ]{0,60}?'
#: What Google says that a model does not have, in lower case, and the fields of generationConfig for it.
_LACKING: Final = re.compile(
    _BEGINS + r"\b(penalty|logprobs|multiple candidates|thinking)[a-z ]* is not (?:enabled|supported)"
)
_FIELDS: Final = {
    "penalty": {"frequency_penalty", "presence_penalty"},
    "logprobs": {"responseLogprobs", "logprobs"},
    "multiple candidates": {"candidate_count"},
    "thinking": {"thinkingConfig"},
}
#: The same in Google's own writing, but for the candidates: a client waits for as many as it has asked for.
_OF_CONTENTS: Final = {
    "penalty": frozenset({"frequencyPenalty", "presencePenalty"}),
    "logprobs": frozenset({"responseLogprobs", "logprobs"}),
    "thinking": frozenset({"thinkingConfig"}),
}
#: The client's parameters for those that have another name.
_PARAMETERS: Final = {
    "responseLogprobs": ("logprobs",),
    "logprobs": ("top_logprobs",),
    "candidate_count": ("n",),
    "thinkingConfig": ("reasoning_effort", "thinking"),
}
_LEVELS: Final = ("minimal", "low", "medium", "high")
#: https://github.com/earendil-works/pi/issues/9455, https://github.com/jenslys/opencode-gemini-auth/issues/14
_REFUSED_LEVEL: Final = re.compile(_BEGINS + r"\bthinking[_ ]level[_ ](minimal|low|medium|high)\b")
_MAX_LACKING: Final = 1000
#: By model, what Google has said to this process that it does not have.
_lacking: dict[str, frozenset[str]] = {}
#: By model, the levels of thinking that it does not have.
_refused_levels: dict[str, frozenset[str]] = {}


def learn_what_is_lacking(body: Mapping[str, Any], said: bytes, model: str) -> bool:
    """Whether Google refuses the request for what this model does not have: "Penalty is not enabled for
    models/gemini-2.5-flash". The price map does not know it, and Google has billed nothing. This process does not send
    it to the model again. https://github.com/BerriAI/litellm/issues/26108"""
    words = said[:16_384].decode("utf-8", "replace").lower()
    if (level := _REFUSED_LEVEL.search(words)) and "support" in words:
        return _learn_level(body, level[1], model)
    found = _LACKING.search(words)
    if found is None or _FIELDS[found[1]].isdisjoint(body.get("generationConfig") or ()):
        return False
    if len(_lacking) >= _MAX_LACKING:
        _lacking.clear()
    _lacking[model] = _lacking.get(model, frozenset()) | _FIELDS[found[1]]
    return True


def contents_mended(body: Mapping[str, Any], said: bytes) -> tuple[Json, tuple[str, ...]] | None:
    """A body in Google's own format without what the model has just refused, and the names of that. A client of that
    format writes for an alias, and its chain may have several Geminis. None: it has nothing of it."""
    config = body.get("generationConfig")
    if not isinstance(config, dict):
        return None
    words = said[:16_384].decode("utf-8", "replace").lower()
    if (level := _REFUSED_LEVEL.search(words)) and "support" in words and _level_of(body) == level[1]:
        thinking = dict(config["thinkingConfig"])
        nearest = nearest_effort(level[1], [each for each in _LEVELS if each != level[1]])
        thinking["thinkingLevel"] = nearest.upper() if nearest and thinking["thinkingLevel"].isupper() else nearest
        return {**body, "generationConfig": {**config, "thinkingConfig": thinking}}, ("thinkingConfig",)
    found = _LACKING.search(words)
    names = tuple(sorted(_OF_CONTENTS.get(found[1], frozenset()) & config.keys())) if found else ()
    if not names:
        return None
    return {**body, "generationConfig": {name: v for name, v in config.items() if name not in names}}, names


def _learn_level(body: Mapping[str, Any], level: str, model: str) -> bool:
    """A level is refused, and not thinking itself: another one is asked for."""
    refused = _refused_levels.get(model, frozenset()) | {level}  # perhaps learnt by another request meanwhile
    if _level_of(body) != level or refused.issuperset(_LEVELS):
        return False
    if len(_refused_levels) >= _MAX_LACKING:
        _refused_levels.clear()
    _refused_levels[model] = refused
    return True


def _level_of(body: Mapping[str, Any]) -> str | None:
    level = ((body.get("generationConfig") or {}).get("thinkingConfig") or {}).get("thinkingLevel")
    return level.lower() if isinstance(level, str) else None


def mended(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """Applies every rule. Returns the client's parameters that were dropped or changed."""
    return tuple(dict.fromkeys(name for rule in RULES for name in rule(body, asked, model)))


def say_the_schema_beside_tools(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """Before Gemini 3, functions and an answer in JSON exclude each other. The functions stay, and the form of the
    answer is asked for in words; where no function may be called, they go.
    https://ai.google.dev/gemini-api/docs/structured-output#structured_outputs_with_tools"""
    config = body.get("generationConfig") or {}
    if not body.get("tools") or config.get("response_mime_type") != "application/json" or is_three_or_newer(model):
        return ()
    choice = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    if choice.get("mode") == "NONE":
        del body["tools"], body["toolConfig"]
        return ()
    form = {name: config.pop(name, None) for name in _FORM}
    schema = form["response_json_schema"] or form["response_schema"]
    sentence = f"{_SCHEMA_SENTENCE}."
    if schema:
        sentence = f"{_SCHEMA_SENTENCE} that is valid by this JSON Schema: {json.dumps(schema, ensure_ascii=False)}"
    instruction = body.get("system_instruction") or {"parts": []}
    body["system_instruction"] = {**instruction, "parts": [*instruction["parts"], {"text": sentence}]}
    return ("response_format",)


def drop_calling_without_functions(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """How functions are to be called goes with functions alone, and not with Google's own tools.
    https://github.com/pydantic/pydantic-ai/pull/5791"""
    tools = body.get("tools") or ()
    if any(tool.get("function_declarations") or tool.get("functionDeclarations") for tool in tools):
        return ()
    config = body.get("toolConfig") or {}
    choice = config.pop("functionCallingConfig", None)
    if choice is not None and not config:
        del body["toolConfig"]
    return ("tool_choice",) if choice is not None and choice.get("mode") == "ANY" else ()


def is_three_or_newer(model: str) -> bool:
    from routing.upstreams.litellm_import import load

    return bool(load().VertexGeminiConfig.is_gemini_3_or_newer(model))


def keep_thinking_in_range(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """A budget in the model's range; Gemini 2.5 Pro always thinks. https://ai.google.dev/gemini-api/docs/thinking"""
    thinking = (body.get("generationConfig") or {}).get("thinkingConfig") or {}
    budget = thinking.get("thinkingBudget")
    limits = next((limits for limits in _BUDGETS if model.startswith(limits[0])), None)
    if limits is None or not isinstance(budget, int) or budget == -1:
        return ()
    _, least, most, may_be_none = limits
    kept = 0 if budget == 0 and may_be_none else min(max(budget, least), most)
    if kept == budget:
        return ()
    thinking["thinkingBudget"] = kept
    return tuple(name for name in ("reasoning_effort", "thinking") if asked.get(name) is not None)


def keep_a_level_that_the_model_has(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """https://ai.google.dev/gemini-api/docs/thinking#levels: newer models have no `minimal`."""
    level, refused = _level_of(body), _refused_levels.get(model, frozenset())
    if level is None or level not in refused:
        return ()
    nearest = nearest_effort(level, [each for each in _LEVELS if each not in refused])
    if nearest is None:
        return ()
    body["generationConfig"]["thinkingConfig"]["thinkingLevel"] = nearest
    return tuple(name for name in ("reasoning_effort", "thinking") if asked.get(name) is not None)


def drop_sampling_that_was_removed(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """Newer models have no sampling to set. https://ai.google.dev/gemini-api/docs/gemini-3#temperature"""
    from routing.upstreams.litellm_import import load

    if load().model_cost.get(f"gemini/{model}", {}).get("supports_sampling_params") is not False:
        return ()
    config = body.get("generationConfig") or {}
    gone = [name for name in ("temperature", "top_p", "top_k") if config.pop(name, None) is not None]
    return tuple(name for name in gone if asked.get(name) is not None)


def drop_what_is_lacking(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """What Google has said that this model does not have."""
    config = body.get("generationConfig") or {}
    gone = [field for field in _lacking.get(model, ()) if config.pop(field, None) is not None]
    return tuple(name for field in gone for name in _PARAMETERS.get(field, (field,)) if asked.get(name) is not None)


def drop_large_seed(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """A seed has 32 bits. https://ai.google.dev/api/generate-content#generationconfig"""
    config = body.get("generationConfig") or {}
    seed = config.get("seed")
    if not isinstance(seed, int) or -(2**31) <= seed < 2**31:
        return ()
    del config["seed"]
    return ("seed",)


def keep_the_models_maximum(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """More tokens than the model can write are refused. https://ai.google.dev/gemini-api/docs/models"""
    config = body.get("generationConfig") or {}
    lowered = keep_cap(config, "max_output_tokens", asked, f"gemini/{model}")
    return lowered or keep_cap_below(config, "max_output_tokens", asked, _MAX_OUTPUT_TOKENS)


def drop_empty_parts(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """A part has to have something in it. https://ai.google.dev/api/caching#Part"""
    for content in body["contents"]:
        parts = [part for part in content["parts"] if part.get("text") != "" or len(part) > 1]
        content["parts"] = parts or content["parts"]
    return ()


def name_searches_that_were_dropped(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """Functions and Google's own tools exclude each other; litellm keeps the functions.
    https://ai.google.dev/gemini-api/docs/function-calling#multi-tool-use"""
    sent = {name for tool in body.get("tools") or () for name in tool}
    if sent & set(_SEARCHES):
        return ()
    tools = asked.get("tools")
    names = ["web_search_options"] if isinstance(asked.get("web_search_options"), dict) else []
    if any(_is_search(tool) for tool in (tools if isinstance(tools, list) else ())):
        names.append("tools")
    return tuple(names)


def _is_search(tool: Any) -> bool:
    """Google's own words for it, and OpenAI's `web_search` and `web_search_preview`."""
    if not isinstance(tool, dict):
        return False
    return any(name in tool for name in _SEARCHES) or str(tool.get("type")).startswith("web_search")


def name_parallel_calls(body: Json, asked: Mapping[str, Any], model: str) -> tuple[str, ...]:
    """Gemini cannot be told to make one call at a time. https://ai.google.dev/gemini-api/docs/function-calling"""
    return ("parallel_tool_calls",) if asked.get("parallel_tool_calls") is False and body.get("tools") else ()


RULES: Final[tuple[Rule, ...]] = (
    say_the_schema_beside_tools,
    drop_calling_without_functions,
    keep_thinking_in_range,
    keep_a_level_that_the_model_has,
    drop_sampling_that_was_removed,
    drop_what_is_lacking,
    drop_large_seed,
    keep_the_models_maximum,
    drop_empty_parts,
    name_searches_that_were_dropped,
    name_parallel_calls,
)


# --- twin calls --------------------------------------------------------------------------------------------------


def mark_twins(messages: list[Any]) -> None:
    """litellm drops a call that is like another one of the same turn, but not its result. Until it has translated
    them, such calls differ by a mark."""
    seen: dict[tuple[object, str], int] = {}
    for message in messages:
        if not isinstance(message, dict) or message.get("role") != "assistant":
            seen = {}
            continue
        for call in message.get("tool_calls") or ():
            function = call["function"]
            try:
                arguments = json.loads(function["arguments"])
            except (TypeError, ValueError):
                continue  # litellm says what is wrong with it
            if not isinstance(arguments, dict):
                continue
            key = (function.get("name"), json.dumps(arguments, sort_keys=True))
            seen[key] = seen.get(key, 0) + 1
            if seen[key] > 1:
                function["arguments"] = json.dumps({**arguments, _TWIN: seen[key]})


def unmark_twins(body: Json) -> None:
    for content in body["contents"]:
        for part in content["parts"]:
            call = part.get("function_call")
            if isinstance(call, dict) and isinstance(call.get("args"), dict):
                call["args"].pop(_TWIN, None)
