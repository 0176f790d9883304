"""One request with everything in it, and what each relayed provider is sent of it: the table in docs/translation.md.

python -m tests.wire.every_parameter        # writes the table anew
"""

from __future__ import annotations

import pathlib
from collections import defaultdict
from typing import Any

from routing.upstreams.base import Deployment, Timeouts
from routing.upstreams.dialects import spoken
from routing.upstreams.providers import (
    ADDED_PARAMETERS,
    MESSAGE_FIELDS,
    PLATFORM_PARAMETERS,
    PROVIDERS,
    facts_of,
)

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "translation.md"
BEGIN, END = "<!-- every parameter: begin -->", "<!-- every parameter: end -->"

CALL_ID = "call_0123456789abcdefghijklmnopqrstuvwxyz0123456789__thought__" + "QUJD" * 60
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}

#: https://platform.openai.com/docs/api-reference/chat/create, without what changes the kind of answer
PARAMETERS: dict[str, Any] = {
    "frequency_penalty": 0.5,
    "function_call": "auto",
    "functions": [{"name": "g", "parameters": {"type": "object", "properties": {}}}],
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "max_completion_tokens": 50,
    "metadata": {"team": "blue"},
    "modalities": ["text"],
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "-"},
    "presence_penalty": 0.5,
    "prompt_cache_key": "key",
    "prompt_cache_retention": "24h",
    "reasoning_effort": "low",
    "response_format": {"type": "text"},
    "safety_identifier": "user-1",
    "seed": 7,
    "service_tier": "flex",
    "stop": ["\n\n"],
    "store": True,
    "temperature": 1.8,
    "tool_choice": "auto",
    "tools": [TOOL],
    "top_logprobs": 1,
    "top_p": 0.5,
    "user": "user-1",
    "verbosity": "low",
    "web_search_options": {},
}
ADDED: dict[str, Any] = {name: {"type": "enabled"} if name == "thinking" else 5 for name in sorted(ADDED_PARAMETERS)}
FIELDS: dict[str, Any] = dict.fromkeys(sorted(MESSAGE_FIELDS - {"thoughts"}), "-")
MESSAGES = [
    {"role": "developer", "content": "Be brief."},
    {"role": "user", "content": "Hi", "name": "ann"},
    {"role": "assistant", "content": [{"type": "thinking"}, {"type": "text", "text": "-"}], **FIELDS},
]

#: Which model stands for a provider whose models differ. `openai` elsewhere: at an address that is not OpenAI's.
DEPLOYMENTS = {
    "openai, gpt-4o": ("openai", "gpt-4o", None),
    "openai, gpt-5": ("openai", "gpt-5", None),
    "openai, o3": ("openai", "o3", None),
    "openai, elsewhere": ("openai", "some-model", "http://localhost:8000/v1"),
    **{
        name: (name, {"xai": "grok-4.5", "moonshot": "moonshot-v1-8k"}.get(name, "some-model"), None)
        for name, row in PROVIDERS.items()
        if row.way == "relay" and name != "openai"
    },
}


def rows() -> dict[tuple[str, ...], list[str]]:
    """The cells of a row → the deployments that it holds for."""
    found: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for shown, deployment in DEPLOYMENTS.items():
        found[_cells(*deployment)].append(shown)
    return found


def _cells(provider: str, model: str, base_url: str | None) -> tuple[str, ...]:
    facts = facts_of(provider, model, base_url)
    request = {"messages": MESSAGES, **PARAMETERS, **ADDED}
    asked = spoken(request, Deployment(provider, provider, model, base_url, Timeouts()), streamed=True)
    sent, dropped = asked.body, set(asked.dropped)
    cap = next(name for name in ("max_tokens", "max_completion_tokens") if name in sent)
    changed = [f"`{old}` → `{new}`" for old, new in facts.renames.items()]
    if "temperature" in sent and sent["temperature"] != PARAMETERS["temperature"]:
        changed.append(f"`temperature` at most {sent['temperature']:g}")
        dropped.remove("temperature")
    assistant = sent["messages"][2]
    kept = set(FIELDS) & assistant.keys() | ({"name"} & sent["messages"][1].keys())
    if len(assistant["content"]) == 2:
        kept.add("thoughts")
    ids = facts.call_ids
    return (
        f"`{cap}`" if len(facts.caps) == 1 else "as sent",
        "kept" if sent["messages"][0]["role"] == "developer" else "`system`",
        "yes" if "stream_options" in sent else "no",
        f"{ids.longest} letters and digits" if ids.alphanumeric else "any" if ids.signed else f"≤ {ids.longest}",
        ", ".join(changed) or "-",
        _listed(dropped & PARAMETERS.keys(), PLATFORM_PARAMETERS, "*platform*"),
        _listed(set(ADDED) - dropped, ADDED_PARAMETERS, "all"),
        _listed(kept, MESSAGE_FIELDS, "all"),
    )


def _listed(names: set[str], group: frozenset[str], group_name: str) -> str:
    """The names; those that are most of a group, by the group's."""
    missing = group - names
    if len(missing) * 2 >= len(group):
        return ", ".join(f"`{name}`" for name in sorted(names)) or "-"
    but = " but " + ", ".join(f"`{name}`" for name in sorted(missing)) if missing else ""
    return "; ".join([f"{group_name}{but}", *(f"`{name}`" for name in sorted(names - group))])


def table() -> str:
    head = (
        *("provider", "output cap", "`developer`", "`stream_options`", "ids of calls", "changed"),
        *("left out of OpenAI's", "taken of others'", "fields of messages that are kept"),
    )
    lines = [head, ("---",) * len(head)]
    lines += [("<br>".join(names), *cells) for cells, names in rows().items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def page_with(new_table: str) -> str:
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{new_table}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_with(table()), "utf-8")
