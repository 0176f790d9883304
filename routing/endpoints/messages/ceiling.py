"""What a request costs at most at a provider that gets it as it came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from accounting.usage import Meter, quantity_name
from routing.catalog import Step
from routing.endpoints.chat.ceiling import input_ceiling
from routing.endpoints.messages.as_chat import is_clients_tool
from routing.serving.call import Quantities, Unbounded
from routing.upstreams import tiers
from routing.upstreams.base import Json
from routing.upstreams.extras import TOKENS_A_SEARCH, Unlimited, run_by_provider

#: Known to cost nothing more than the tokens of the prompt and of the answer: https://docs.anthropic.com/en/api/messages
_FREE: Final = frozenset(
    {
        "cache_control", "max_tokens", "messages", "metadata", "model", "output_config", "output_format",
        "service_tier", "stop_sequences", "stream", "system", "temperature", "thinking", "tool_choice", "tools",
        "top_k", "top_p",
    }
)  # fmt: skip
#: The beginnings of the types of tools that the client runs, though Anthropic describes them to the model by itself.
_DESCRIBED_TOOLS: Final = ("bash_", "computer_", "memory_", "text_editor_", "tool_search_tool_")
#: The most tokens that such a description adds. Anthropic documents 245 to 735.
TOKENS_A_DESCRIPTION: Final = 2_048
_SEARCH_TOOL: Final = "web_search_"
#: Searches in one answer when the client sets no `max_uses`; then this is sent.
MOST_SEARCHES: Final = 5
MAX_SEARCHES: Final = 100


def native_ceiling(body: Mapping[str, Any], step: Step) -> Quantities:
    """Raises Unbounded."""
    deployment = step.deployment
    tier, possible = tiers.asked(body, deployment)
    counted = input_ceiling(body)
    tokens = counted.tokens_for(deployment.litellm_provider, deployment.model)
    tools = body.get("tools") or ()
    described = sum(not is_clients_tool(tool) for tool in tools)
    searches = sum(searches_of(tool) for tool in tools)
    tokens += described * TOKENS_A_DESCRIPTION
    most = Quantities(
        input_tokens=tokens * (1 + searches) + TOKENS_A_SEARCH * searches * (searches + 1) // 2,
        output_cap_tokens=body["max_tokens"],
        tier=tier,
        tiers=possible,
    )
    if searches:
        units = {quantity_name(Meter.SEARCH): Decimal(searches)}
        most = replace(most, units=units, needs={"tools": Meter.SEARCH})
    unbounded = counted.unbounded_at(deployment.litellm_provider) or _paid_tool(tools) or _paid_parameter(body)
    if unbounded is not None:
        raise Unbounded(unbounded.param, unbounded.why, most)
    return most


def with_search_caps(tools: Any) -> Any:
    """The tools with the number of searches that the ceiling counts with."""
    if not isinstance(tools, list) or not any(searches_of(tool) for tool in tools):
        return tools
    return [{**tool, "max_uses": searches_of(tool)} if searches_of(tool) else tool for tool in tools]


def searches_of(tool: Json) -> int:
    """How often the tool may search the web in one answer; 0 for all other tools."""
    if not str(tool.get("type") or "").startswith(_SEARCH_TOOL):
        return 0
    most = tool.get("max_uses")
    return min(most, MAX_SEARCHES) if type(most) is int and most > 0 else MOST_SEARCHES


def _paid_tool(tools: Any) -> Unlimited | None:
    for index, tool in enumerate(tools):
        kind = str(tool.get("type") or "")
        if not (is_clients_tool(tool) or kind.startswith(_DESCRIBED_TOOLS) or searches_of(tool)):
            return run_by_provider(f"tools[{index}]", tool)
    return None


def _paid_parameter(body: Mapping[str, Any]) -> Unlimited | None:
    for name, value in body.items():
        if name in _FREE or value is None:
            continue
        if name == "context_management" and _only_clears(value):
            continue
        if name in ("speed", "inference_geo") and value in ("standard", "global"):
            continue
        if name == "speed" and value == "fast":
            continue  # a tier: a model that has no price in it is not bounded
        return Unlimited(name, "it is not on the list of parameters that cost nothing more")
    return None


def _only_clears(value: Any) -> bool:
    """An edit that makes a summary lets the model read and write more than once."""
    edits = value.get("edits") if isinstance(value, dict) else None
    return isinstance(edits, list) and all(
        isinstance(edit, dict) and str(edit.get("type")).startswith("clear_") for edit in edits
    )
