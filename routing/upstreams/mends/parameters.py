"""What a request asks for, in words that the provider's model knows. The parameters are changed in place."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from routing.upstreams.base import Json
from routing.upstreams.mends import schemas
from routing.upstreams.mends.capability import cannot

_TIERS_OF_GEMINI: Final = frozenset({"default", "standard", "flex", "priority"})
#: OpenAI's efforts and litellm's `max`, in their order. Other words are no efforts, and the client's mistake.
EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def offer_functions_as_tools(given: Json) -> bool:
    """OpenAI's old `functions` and `function_call` as tools, which is all that Anthropic knows. Whether it was so: then
    the answer's calls must be written the old way."""
    functions, choice = given.pop("functions", None), given.pop("function_call", None)
    if not isinstance(functions, list) or not functions or given.get("tools"):
        return False
    given["tools"] = [{"type": "function", "function": function} for function in functions]
    if isinstance(choice, dict):
        given["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif isinstance(choice, str):
        given["tool_choice"] = choice
    return True


def without_empty_wishes(given: Json) -> None:
    """The request without parameters that ask for nothing, and that providers refuse all the same. OpenAI: "Invalid
    'tools': empty array", "'tool_choice' is only allowed when 'tools' are specified". Google: "Function calling config
    is set without function_declarations"."""
    for name in ("tools", "functions", "stop"):
        if given.get(name) == []:
            del given[name]
    if not given.get("tools") and not given.get("functions"):
        given.pop("parallel_tool_calls", None)
        for name in ("tool_choice", "function_call"):
            if given.get(name) in ("auto", "none"):
                del given[name]
    if not given.get("logprobs") and given.get("top_logprobs") == 0:
        del given["top_logprobs"]


def keep_allowed_tools(given: Json) -> None:
    """`tool_choice: allowed_tools` is a shorter list of tools, and `auto` or `required`.
    https://platform.openai.com/docs/guides/function-calling#allowed-tools"""
    choice = given.get("tool_choice")
    if not isinstance(choice, dict) or choice.get("type") != "allowed_tools":
        return
    allowed = choice.get("allowed_tools") if isinstance(choice.get("allowed_tools"), dict) else choice
    assert isinstance(allowed, dict)
    names = [_name(tool) for tool in _tools(allowed)]
    tools = [tool for tool in _tools(given) if _name(tool) in names]
    if not tools:
        raise cannot("`tool_choice` allows none of the request's tools", "tool_choice")
    given["tools"] = tools
    given["tool_choice"] = "required" if allowed.get("mode") == "required" else "auto"


def _tools(holder: Json) -> list[Json]:
    tools = holder.get("tools")
    return [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []


def _name(tool: Json) -> object:
    function = tool.get("function")
    return function.get("name") if isinstance(function, dict) else tool.get("name") or tool.get("type")


def refuse_custom_tools(given: Json, provider: str) -> None:
    """OpenAI's tools of free text. Neither provider has them, and litellm fails on them without a word."""
    for at, tool in enumerate(_tools(given)):
        if tool.get("type") == "custom" and not isinstance(tool.get("function"), dict):
            raise cannot(f"{provider} has no tools of type 'custom'", f"tools[{at}]")
    choice = given.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "custom":
        raise cannot(f"{provider} has no tools of type 'custom'", "tool_choice")


def functions(given: Json) -> list[tuple[str, Json]]:
    """The functions that are offered as tools, each with the name of its place in the request."""
    tools = given.get("tools")
    return [
        (f"tools[{at}]", tool["function"])
        for at, tool in enumerate(tools if isinstance(tools, list) else ())
        if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
    ]


def answer_schema(given: Json) -> Any:
    """The schema of `response_format`, if it has one."""
    wanted = given.get("response_format")
    shape = wanted.get("json_schema") if isinstance(wanted, dict) else None
    return shape.get("schema") if isinstance(shape, dict) else None


def stop_without_empty_words(given: Json, *, blanks: bool, at_most: int | None = None) -> tuple[str, ...]:
    """Anthropic refuses stop sequences of white space (https://platform.claude.com/docs/en/api/messages), Gemini empty
    ones and more than five (https://ai.google.dev/api/generate-content#generationconfig)."""
    stop = given.get("stop")
    if not isinstance(stop, str | list):
        return ()
    words = [stop] if isinstance(stop, str) else stop
    kept = [word for word in words if not isinstance(word, str) or (word if blanks else word.strip())][:at_most]
    if len(kept) == len(words):
        return ()
    given["stop"] = kept
    if not kept:
        del given["stop"]
    return ("stop",)


# --- reasoning effort ---------------------------------------------------------------------------------------------


def effort_at_claude(given: Json, *, adaptive: bool, always_on: bool, xhigh: bool) -> tuple[str, ...]:
    """Efforts by model: https://platform.claude.com/docs/en/build-with-claude/effort. Models that are asked for a
    budget of tokens take every effort as one."""
    if not adaptive:
        return ()
    nearest = {"minimal": "low"}
    if always_on:
        nearest["none"] = "low"
    if not xhigh:
        nearest["xhigh"] = "high"
    return _with_effort(given, nearest)


def effort_at_gemini(given: Json, model: str) -> tuple[str, ...]:
    """Gemini's highest is `high`; Gemini 3 Pro knows `low` and `high` alone.
    https://ai.google.dev/gemini-api/docs/openai#thinking, …/thinking#levels"""
    nearest = {"xhigh": "high", "max": "high"}
    if model.startswith("gemini-3-pro"):
        nearest["medium"] = "high"
    return _with_effort(given, nearest)


def _with_effort(given: Json, nearest: Mapping[str, str]) -> tuple[str, ...]:
    asked = given.get("reasoning_effort")
    effort = asked.get("effort") if isinstance(asked, dict) else asked
    if not isinstance(effort, str) or effort not in nearest:
        return ()
    given["reasoning_effort"] = {**asked, "effort": nearest[effort]} if isinstance(asked, dict) else nearest[effort]
    return ("reasoning_effort",)


def nearest_effort(asked: str, offered: Collection[str]) -> str | None:
    """Of two that are equally far the lower one, which costs less. Thinking is not turned off for who asks for it."""
    place = EFFORTS.index(asked)
    thinking = [word for word in offered if word != "none"] or ([] if asked != "none" else [*offered])
    places = sorted((abs(EFFORTS.index(word) - place), EFFORTS.index(word)) for word in thinking)
    return EFFORTS[places[0][1]] if places else None


def tier_at_gemini(given: Json) -> tuple[str, ...]:
    """`auto` leaves the tier to the account, as Gemini does when none is asked for; litellm makes `priority` of it,
    which costs more. Gemini has OpenAI's other tiers but `scale`.
    https://ai.google.dev/api/generate-content"""
    tier = given.get("service_tier")
    if not isinstance(tier, str) or tier.lower() in _TIERS_OF_GEMINI:
        return ()
    del given["service_tier"]
    return () if tier.lower() == "auto" else ("service_tier",)


# --- schemas -------------------------------------------------------------------------------------------------------


def schemas_for_anthropic(given: Json) -> None:
    """litellm writes the references of an answer's schema out, so they are bounded; a tool's may stay."""
    schemas.refuse_unbounded(given.get("response_format"), "response_format")
    for _, function in functions(given):
        function["parameters"] = schemas.tool_for_anthropic(function.get("parameters"))


def schemas_for_gemini(given: Json, *, is_answer_written_out: bool) -> None:
    schemas.refuse_unbounded_tools(given)
    if is_answer_written_out:
        schemas.refuse_unbounded(given.get("response_format"), "response_format")
    schemas.answer_for_gemini(answer_schema(given))
    for param, function in functions(given):
        if isinstance(function.get("parameters"), dict):
            function["parameters"] = schemas.tool_for_gemini(function["parameters"], param)
        else:
            function.pop("parameters", None)


# --- names of tools ------------------------------------------------------------------------------------------------

_GEMINI_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")


def names_at_gemini(given: Json, messages: list[Any]) -> dict[str, str]:
    """Gives tools names that Gemini takes: letters, digits, `_`, `.`, `-`, up to 63, a letter or `_` first
    (https://ai.google.dev/api/caching#FunctionDeclaration). Returns the clients' names by the new ones."""
    told: dict[str, str] = {}
    holders = [function for _, function in functions(given)]
    choice = given.get("tool_choice")
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        holders.append(choice["function"])
    for message in messages:
        if isinstance(message, dict):
            holders += [call["function"] for call in message.get("tool_calls") or () if isinstance(call, dict)]
            if message.get("role") == "tool":
                holders.append(message)
    taken = {holder["name"] for holder in holders if isinstance(holder.get("name"), str)}
    for holder in holders:
        name = holder.get("name")
        if not isinstance(name, str) or not name or _GEMINI_NAME.fullmatch(name):
            continue
        if name not in told:
            told[name] = _free_name(name, taken)
            taken.add(told[name])
        holder["name"] = told[name]
    return {new: name for name, new in told.items()}


def _free_name(name: str, taken: set[str]) -> str:
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    plain = plain if re.match(r"[A-Za-z_]", plain) else f"_{plain}"
    new, number = plain[:63], 2
    while new in taken:
        new, number = f"{plain[:58]}_{number}", number + 1
    return new
