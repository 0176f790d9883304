"""What a request costs at most at a provider that gets it as it came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final

from accounting.usage import Meter, quantity_name
from routing.catalog import Step
from routing.endpoints.chat.ceiling import InputCeiling, input_ceiling
from routing.serving.call import CappedBy, Quantities, Unbounded
from routing.upstreams import tiers
from routing.upstreams.base import Json
from routing.upstreams.extras import Unlimited, run_by_provider
from routing.upstreams.fees import search_of
from routing.upstreams.price_map import limits_of

#: Known to cost nothing more than the tokens of the prompt and of the answer:
#: https://platform.openai.com/docs/api-reference/responses/create. `client_metadata` is Codex's.
_FREE: Final = frozenset(
    {
        "background", "client_metadata", "include", "input", "instructions", "max_output_tokens", "max_tool_calls",
        "metadata", "model", "parallel_tool_calls", "previous_response_id", "prompt_cache_key", "prompt_cache_options",
        "prompt_cache_retention", "reasoning", "safety_identifier", "service_tier", "store", "stream",
        "stream_options", "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user",
    }
)  # fmt: skip
#: Tools that the client runs, by their types, and what they may have in them.
_CLIENTS_TOOLS: Final = frozenset({"custom", "function", "namespace"})
_TOOL_FIELDS: Final = frozenset(
    {
        "allowed_callers", "defer_loading", "description", "format", "name", "output_schema", "parameters", "strict",
        "type",
    }
)  # fmt: skip
#: Who documents that `max_tool_calls` bounds the uses of all its own tools.
_KEEPS_MAX_TOOL_CALLS: Final = frozenset({"azure", "openai"})
#: Tools that the client runs too, though the provider describes them to the model by itself.
_DESCRIBED_TOOLS: Final = frozenset({"apply_patch", "computer", "computer_use_preview", "local_shell"})
#: The most tokens that such a description, or that of a tool of the provider's, adds. Not documented; it is several
#: times what has been seen.
TOKENS_A_DESCRIPTION: Final = 4_096
_SEARCHES: Final = ("web_search",)
#: What a tool that searches may have in it. Of any other field nobody knows how much more it makes the model read.
_SEARCH_FIELDS: Final = frozenset(
    {"external_web_access", "filters", "search_content_types", "search_context_size", "type", "user_location"}
)
#: Searches of the web see no more of it at once: https://platform.openai.com/docs/guides/tools-web-search#limitations
TOKENS_OF_THE_WEB: Final = 128_000
#: Uses of the provider's own tools in one answer when the client sets no `max_tool_calls`; then this is sent.
MOST_TOOL_CALLS: Final = 5
#: Models that do nothing but use tools: with a cap of ours their answer would be another one.
_RESEARCH: Final = "deep-research"
#: A picture whose `detail` is `original` is not made smaller: 10,000 patches, twice what other pictures are at most.
_ORIGINAL: Final = "original"

#: Items that are the text that they have in them, and what has come back from tools.
_ITEMS: Final = frozenset(
    {
        "apply_patch_call", "apply_patch_call_output", "code_interpreter_call", "compaction", "computer_call",
        "computer_call_output", "custom_tool_call", "custom_tool_call_output", "file_search_call", "function_call",
        "function_call_output", "local_shell_call", "local_shell_call_output", "mcp_approval_request",
        "mcp_approval_response", "mcp_call", "mcp_list_tools", "message", "reasoning", "shell_call",
        "shell_call_output", "tool_search_call", "tool_search_output", "web_search_call",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NativeInput:
    """What of a request is counted once, whichever deployment gets it."""

    counted: InputCeiling
    more: Unlimited | None  # of it nobody can bound


def native_input(body: Mapping[str, Any]) -> NativeInput:
    """Linear in the body's size."""
    given = body.get("input")
    items = given if isinstance(given, list) else [{"role": "user", "content": given}]
    said = {name: value for name, value in body.items() if name != "input"}
    counted = input_ceiling({**said, "messages": [_as_message(item) for item in items]})
    unknown = next(
        (
            Unlimited(f"input[{place}]", "how much an item of this type is, is not known")
            for place, item in enumerate(items)
            if (item.get("type") or "message") not in _ITEMS
        ),
        None,
    ) or next(
        (
            Unlimited(f"input[{place}].tools", "what is found may be a tool that the provider runs itself")
            for place, item in enumerate(items)
            if item.get("type") == "tool_search_output" and not _are_clients(item.get("tools"))
        ),
        None,
    )
    found = counted.unbounded
    if found is not None:
        found = found._replace(param=found.param.replace("messages[", "input[", 1))
    return NativeInput(counted, unknown or found)


def native_ceiling(body: Mapping[str, Any], given: NativeInput, step: Step, cap: tuple[int, CappedBy]) -> Quantities:
    """Raises Unbounded. ``cap``: of the output, and whose it is."""
    deployment = step.deployment
    tier, possible = tiers.asked(body, deployment)
    tools = _judged(body.get("tools") or ())
    tokens = given.counted.tokens_for(deployment.litellm_provider, deployment.model)
    tokens += tools.descriptions * TOKENS_A_DESCRIPTION
    _, window = limits_of(deployment.litellm_provider, deployment.model)
    unbounded = given.more or given.counted.unbounded_at(deployment.litellm_provider) or tools.unbounded
    unbounded = unbounded or _paid_parameter(body)
    if body.get("previous_response_id") is not None:
        # What was said before is at the provider alone. It is no more than the model reads at once.
        if window is None:
            unbounded = unbounded or Unlimited(
                "previous_response_id", "how much was said before is not known, nor how much this model reads"
            )
        else:
            tokens = max(tokens, window)
    calls = tool_calls_of(body, deployment.model) if tools.has_own else 0
    if tools.has_own and deployment.litellm_provider not in _KEEPS_MAX_TOOL_CALLS:
        unbounded = unbounded or Unlimited(tools.place, "how often this provider's models use its tools is not bounded")
    if tools.has_own and calls is None:
        unbounded = unbounded or Unlimited("max_tool_calls", "how often this model uses its tools is not bounded")
    elif calls:
        # It reads all again with each result, and once more when it is told that there are no more.
        reading = tokens + TOKENS_OF_THE_WEB if tools.searches_alone else window
        if reading is None:
            unbounded = unbounded or Unlimited(tools.place, "how much it finds is not bounded")
        else:
            tokens += (calls + 1) * (min(reading, max(window, tokens)) if window is not None else reading)
    most = Quantities(input_tokens=tokens, output_cap_tokens=cap[0], capped_by=cap[1], tier=tier, tiers=possible)
    if calls and tools.units:
        units = {name: Decimal(calls) for name in tools.units}
        most = replace(most, units=units, needs=tools.needs)
    if unbounded is not None:
        raise Unbounded(unbounded.param, unbounded.why, most)
    return most


def tool_calls_of(body: Mapping[str, Any], model: str) -> int | None:
    """How often the provider's own tools may be used in one answer; None: the client must say it."""
    asked = body.get("max_tool_calls")
    if type(asked) is int and asked > 0:
        return asked
    return None if _RESEARCH in model else MOST_TOOL_CALLS


def has_own_tools(body: Mapping[str, Any]) -> bool:
    """Whether the provider runs some of the tools itself."""
    return any(is_providers(tool) for tool in body.get("tools") or ())


def is_providers(tool: Mapping[str, Any]) -> bool:
    return tool.get("type") not in _CLIENTS_TOOLS | _DESCRIBED_TOOLS


@dataclass(slots=True)
class _Tools:
    descriptions: int = 0
    has_own: bool = False
    searches_alone: bool = True
    place: str = "tools"
    units: list[str] = field(default_factory=list)
    needs: dict[str, Meter] = field(default_factory=dict)
    unbounded: Unlimited | None = None


def _judged(tools: Any) -> _Tools:
    judged = _Tools()
    for index, tool in enumerate(tools):
        kind, place = str(tool.get("type") or ""), f"tools[{index}]"
        if kind in _CLIENTS_TOOLS:
            if not _is_clients(tool):
                judged.unbounded = judged.unbounded or Unlimited(place, "it has a field that is not known")
            continue
        judged.descriptions += 1
        if kind in _DESCRIBED_TOOLS:
            continue
        judged.has_own, judged.place = True, place
        if kind.startswith(_SEARCHES):
            judged.searches_alone &= tool.keys() <= _SEARCH_FIELDS
            judged.units.append(quantity_name(Meter.SEARCH, search_of(tool)))
            judged.needs[place] = Meter.SEARCH
        elif kind == "file_search":
            judged.searches_alone = False
            judged.units.append(quantity_name(Meter.TOOL_CALL, "file_search"))
            judged.needs[place] = Meter.TOOL_CALL
        elif kind == "mcp":
            judged.searches_alone = False  # it costs what is read of it
        else:
            judged.unbounded = judged.unbounded or run_by_provider(place, tool)
    return judged


def _is_clients(tool: Any) -> bool:
    """Whether the client runs it, and all that is in it."""
    if isinstance(tool, dict) and tool.get("type") == "namespace":
        inner = tool.get("tools")
        return tool.keys() <= _TOOL_FIELDS | {"tools"} and isinstance(inner, list) and all(map(_is_function, inner))
    return _is_function(tool)


def _is_function(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") in ("custom", "function") and tool.keys() <= _TOOL_FIELDS


def _are_clients(tools: Any) -> bool:
    return tools is None or (isinstance(tools, list) and all(map(_is_clients, tools)))


def _paid_parameter(body: Mapping[str, Any]) -> Unlimited | None:
    for name, value in body.items():
        if name not in _FREE and value is not None:
            return Unlimited(name, "it is not on the list of parameters that cost nothing more")
    mode = (body.get("reasoning") or {}).get("mode")
    if mode not in (None, "standard"):
        return Unlimited("reasoning.mode", "a model that thinks in this way may write more than its cap")
    return None


# --- items as messages of a chat, for the count ------------------------------------------------------------------


def _as_message(item: Mapping[str, Any]) -> Json:
    """A message whose bytes, pictures and files are the item's."""
    if (item.get("type") or "message") == "message":
        content = item.get("content")
        parts = list(_parts(content)) if isinstance(content, list) else content
        return {"role": str(item.get("role")), "content": parts, "more": _beside(item, "content", "role")}
    output = item.get("output")
    if isinstance(output, dict):
        output = [output]  # the picture of a screen
    if isinstance(output, list):
        parts = list(_parts(output))
        return {"role": "tool", "content": parts, "more": _beside(item, "output")}
    return {"role": "assistant", "more": dict(item)}


def _beside(item: Mapping[str, Any], *names: str) -> Json:
    return {name: value for name, value in item.items() if name not in names}


def _parts(parts: list[Any]) -> Iterator[Any]:
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("input_image", "computer_screenshot"):
            # Behind an id of a file there is a picture too, as the part says that it is one.
            picture = {"type": "image_url", "image_url": {"url": part.get("image_url") or "https://files"}}
            yield from [picture] * (2 if part.get("detail") == _ORIGINAL else 1)
        elif kind == "input_file":
            is_elsewhere = bool(part.get("file_id") or part.get("file_url"))
            yield {"type": "file", "file": {} if is_elsewhere else _beside(part, "type", "detail")}
        elif kind in ("summary_text", "reasoning_text", "stdout", "stderr", "logs") or _is_of_a_shell(part):
            yield {"type": "text", "text": str(part)}
        else:
            yield part


def _is_of_a_shell(part: Any) -> bool:
    return isinstance(part, dict) and "type" not in part and part.keys() <= {"outcome", "stderr", "stdout"}
