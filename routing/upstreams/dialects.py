"""Rewrites a chat request as one provider of OpenAI's format understands it.

The client wrote its request for an alias, not for the provider that gets it now. What the provider is known not to
understand (`providers`) is renamed, mapped or left out, and the client is told what was left out. A parameter that is
in no table passes untouched: it may be newer than the tables.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Collection, Mapping
from typing import Any, Final

from accounting.record import record
from routing.upstreams.base import Deployment, Json
from routing.upstreams.call_ids import Ids
from routing.upstreams.lessons import NOTHING, Lesson, known
from routing.upstreams.mends import schemas
from routing.upstreams.mends.anthropic import JSON_SENTENCE
from routing.upstreams.mends.capability import cannot
from routing.upstreams.mends.conversation import call_functions_as_tools
from routing.upstreams.mends.names import names_told
from routing.upstreams.mends.parameters import (
    nearest_effort,
    offer_functions_as_tools,
    stop_without_empty_words,
    without_empty_wishes,
)
from routing.upstreams.model_facts import EFFORTS, has_effort, refused_by_model, thinks, written_at_most
from routing.upstreams.providers import (
    CAPS,
    COMMON_PARAMETERS,
    MESSAGE_FIELDS,
    NEW_CAP,
    OLD_CAP,
    OPTIONAL_PARAMETERS,
    ProviderFacts,
    facts_of,
)
from routing.upstreams.turns import Manner, arranged

_PLAIN: Final = {"role", "content"}
#: The types of the content parts in which Mistral's and Anthropic's models think.
_THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})

#: By which a provider tells end users and caches apart.
_IDENTIFIERS: Final = frozenset({"prompt_cache_key", "safety_identifier", "user"})
#: Every model writes as much, so that most caps need no look at the price map.
_LEAST_MAXIMUM: Final = 1024
_GPT: Final = re.compile(r"(?:ft:)?gpt-(\d+)(?:\.(\d+))?(?!\d)")
_THOUGHT: Final[frozenset[Manner]] = frozenset({"thought"})
_JSON: Final[Json] = {"role": "system", "content": JSON_SENTENCE}


@record(frozen=True, slots=True)
class Spoken:
    """A request body for one provider, and the names of the client's parameters and fields that it lacks."""

    body: Json
    dropped: tuple[str, ...]
    #: Whether the client offered `functions` to a provider of tools, and so knows no `tool_calls`.
    calls_functions: bool = False
    #: The client's names of functions by those that the provider was told.
    names: Mapping[str, str] | None = None


def spoken(
    request_body: Mapping[str, Any],
    deployment: Deployment,
    *,
    streamed: bool,
    lesson: Lesson = NOTHING,
) -> Spoken:
    """The client's request as the deployment understands it, and as the ``lesson`` says. Changes only a copy."""
    model = deployment.model
    row = facts_of(deployment.litellm_provider, model, deployment.base_url)
    lesson = known(deployment, lesson)
    refused = lesson.without
    dropped: list[str] = []
    body: Json = {**request_body, "model": model}
    calls_functions = not row.functions and _offer_functions_as_tools(body, row)
    messages = request_body.get("messages") if row.functions else _with_tool_calls(request_body.get("messages"))
    body["messages"] = _messages(messages, row, refused, dropped)
    if "reasoning_effort" in body:
        _set_effort(body, row, model, dropped)
    _set_parameters(body, row, refused | refused_by_model(row, model, body), dropped)
    names = _set_tools(body, row, model, refused, dropped) if body.get("tools") else None
    if row.thinks_freely and thinks(row.name, model):
        _call_beside_thinking(body, refused, dropped)
    if manners := row.manners | lesson.manners:
        _follow(body, manners, streamed, dropped)
    if lesson.effort is not None:
        _replace(body, "reasoning_effort", lesson.effort, dropped)
    _set_cap(body, row, lesson, model, dropped)
    body.pop("stream", None)
    options = body.pop("stream_options", None)
    if streamed:
        body["stream"] = True
        if row.stream_options and "stream_options" not in refused:
            body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    return Spoken(body, tuple(sorted(set(dropped))), calls_functions, names)


def _replace(body: Json, name: str, value: Any, dropped: list[str]) -> None:
    """Asks otherwise than the client has, and tells the client if it has asked at all."""
    if body.get(name) not in (None, value):
        dropped.append(name)
    body[name] = value


# --- manners ------------------------------------------------------------------------------------------------------


def _follow(body: Json, manners: frozenset[Manner], streamed: bool, dropped: list[str]) -> None:
    if isinstance(body["messages"], list):
        body["messages"] = arranged(body["messages"], manners)
    if "free_choice" in manners:
        _free_choice(body, dropped)
    if "loose" in manners and isinstance(body.get("tools"), list):
        _loosen(body, dropped)
    if "no_thinking" in manners and not streamed:
        body["enable_thinking"] = False  # DashScope's
    if "say_json" in manners and isinstance(body["messages"], list):
        body["messages"] = (
            [*body["messages"][:1], _JSON, *body["messages"][1:]]
            if _begins_with_system(body)
            else [_JSON, *body["messages"]]
        )


def _loosen(body: Json, dropped: list[str]) -> None:
    """Functions whose arguments the provider does not hold to their schemas: it refuses `strict`, or some with it and
    some without. https://github.com/RooCodeInc/Roo-Code/issues/10334"""
    functions = [tool.get("function") for tool in _dicts(body["tools"])]
    if not any(isinstance(function, dict) and function.get("strict") for function in functions):
        return
    dropped.append("tools[].function.strict")
    body["tools"] = [
        {**tool, "function": {name: value for name, value in tool["function"].items() if name != "strict"}}
        if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
        else tool
        for tool in body["tools"]
    ]


def _begins_with_system(body: Json) -> bool:
    messages = _dicts(body["messages"][:1])
    return bool(messages) and messages[0].get("role") in ("system", "developer")


def _free_choice(body: Json, dropped: list[str]) -> None:
    """The model calls what it likes."""
    if body.get("tool_choice") not in (None, "auto", "none"):
        _replace(body, "tool_choice", "auto", dropped)


# --- tools -----------------------------------------------------------------------------------------------------


def _set_tools(
    body: Json, row: ProviderFacts, model: str, refused: Collection[str], dropped: list[str]
) -> Mapping[str, str] | None:
    """The tools as this provider takes them. Returns the client's names of those that are called otherwise here."""
    if not isinstance(body["tools"], list):
        return None
    if not _takes_field(row, refused, "cache_control", "tool"):
        body["tools"] = [_without_cache_mark(tool, "tools", dropped) for tool in body["tools"]]
    if row.strict_schemas:
        body["tools"] = [_with_whole_parameters(tool, f"tools[{at}]") for at, tool in enumerate(body["tools"])]
    if row.name == "openai":
        _think_beside_functions(body, model, dropped)
    return None if row.call_ids.signed else names_told(body)


def _with_whole_parameters(tool: Any, param: str) -> Any:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(function, dict) or "parameters" not in function:
        return tool
    parameters = schemas.tool_for_openai(function["parameters"], param)
    return (
        tool if parameters is function["parameters"] else {**tool, "function": {**function, "parameters": parameters}}
    )


def _think_beside_functions(body: Json, model: str, dropped: list[str]) -> None:
    """In a chat, OpenAI's models from gpt-5.4 on do not think about functions, and from 5.6 on this must be said.
    https://github.com/openai/openai-openapi/issues/541, https://github.com/BerriAI/litellm/pull/34569"""
    version = _GPT.match(model)
    if version is None or (number := (int(version[1]), int(version[2] or 0))) < (5, 4):
        return
    if number >= (5, 6):
        _replace(body, "reasoning_effort", "none", dropped)
    elif body.get("reasoning_effort", "none") != "none":
        del body["reasoning_effort"]
        dropped.append("reasoning_effort")


def _call_beside_thinking(body: Json, refused: Collection[str], dropped: list[str]) -> None:
    """DeepSeek's and Moonshot's models think unless they are told not to, and no tool can be forced beside it. Who asks
    for a tool and not for thought gets the tool; who has asked for both, the thought. And turns with calls that another
    model made have no thoughts, which are asked back.
    https://github.com/deepseek-ai/DeepSeek-V3/issues/1376, https://github.com/iii-hq/workers/pull/522"""
    thinking = body.get("thinking")
    if isinstance(thinking, dict) and thinking.get("type") == "disabled":
        return
    if body.get("tool_choice") not in (None, "auto", "none"):
        if thinking is None and body.get("reasoning_effort") in (None, "none") and "thinking" not in refused:
            body["thinking"] = {"type": "disabled"}
            return
        _free_choice(body, dropped)
    if any(message.get("tool_calls") for message in _dicts(body["messages"])):
        body["messages"] = arranged(body["messages"], _THOUGHT)


# --- functions -------------------------------------------------------------------------------------------------


def _offer_functions_as_tools(body: Json, row: ProviderFacts) -> bool:
    """OpenAI's old `functions` as tools, as most servers know them alone. Whether it was so."""
    if body.get("tools") or not offer_functions_as_tools(body):
        return False
    if _takes(row, "parallel_tool_calls", False, body):
        body["parallel_tool_calls"] = False  # `function_call` has room for one
    return True


def _with_tool_calls(messages: Any) -> Any:
    """The conversation with its old calls of functions as tool calls. Changes only a copy."""
    if not any(message.get("role") == "function" or message.get("function_call") for message in _dicts(messages)):
        return messages
    told = [dict(message) if isinstance(message, dict) else message for message in messages]
    functions = [message for message in _dicts(told) if message.get("role") == "function"]
    call_functions_as_tools(_dicts(told))
    for message in functions:
        if message["role"] == "tool":
            message.pop("name", None)  # a tool's result has the call's id instead
            message["content"] = message.get("content") or ""
    return told


# --- parameters -----------------------------------------------------------------------------------------------


def _set_parameters(body: Json, row: ProviderFacts, refused: Collection[str], dropped: list[str]) -> None:
    for name in [name for name, value in body.items() if value is None]:
        del body[name]  # null asks for nothing, and strict servers refuse the name
    without_empty_wishes(body)
    if row.most_stops is not None and "stop" in body:
        dropped.extend(stop_without_empty_words(body, blanks=True, at_most=row.most_stops))
    for name in OPTIONAL_PARAMETERS.intersection(body):
        value = body[name]
        is_refused = name in refused and not (name == "temperature" and value == 1)
        if is_refused or not _takes(row, name, value, body):
            del body[name]
            if not (name == "n" and value == 1):  # `n: 1` asks for nothing
                dropped.append(name)
    if row.longest_identifier is not None and not _IDENTIFIERS.isdisjoint(body):
        _shorten_identifiers(body, row.longest_identifier)
    if not row.any_metadata and isinstance(body.get("metadata"), dict):
        _send_texts_alone(body, dropped)
    if body.get("modalities") == ["text"]:
        del body["modalities"]  # text is what every server answers with, and few know the name
    temperature = body.get("temperature")
    if isinstance(temperature, int | float) and temperature > row.hottest:
        body["temperature"] = row.hottest
        dropped.append("temperature")
    for theirs, ours in row.renames.items():
        if theirs in body:
            body[ours] = body.pop(theirs)


def _shorten_identifiers(body: Json, longest: int) -> None:
    """An identifier only has to be the same each time, so a long one is told by its digest, as OpenAI advises.
    https://platform.openai.com/docs/guides/safety-best-practices"""
    for name in _IDENTIFIERS.intersection(body):
        value = body[name]
        if isinstance(value, str) and len(value) > longest:
            body[name] = hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


def _send_texts_alone(body: Json, dropped: list[str]) -> None:
    """OpenAI refuses metadata whose values are no texts. Such values are tags for the gateway's books."""
    texts = {name: value for name, value in body["metadata"].items() if isinstance(value, str)}
    if texts == body["metadata"]:
        return
    dropped.append("metadata")
    if texts:
        body["metadata"] = texts
    else:
        del body["metadata"]


def _takes(row: ProviderFacts, name: str, value: Any, body: Json) -> bool:
    if value is not None and name in row.values and not (isinstance(value, str) and value in row.values[name]):
        return False
    if name == "metadata" and value is not None and row.name == "openai":
        return body.get("store") is True  # OpenAI: "only allowed when 'store' is enabled"
    if name == "top_logprobs" and value is not None and body.get("logprobs") is not True:
        return False  # OpenAI and vLLM: only allowed when `logprobs` is true
    return name not in row.refuses and (name in COMMON_PARAMETERS or name in row.takes)


def _set_cap(body: Json, row: ProviderFacts, lesson: Lesson, model: str, dropped: list[str]) -> None:
    """Put the output cap under a name that the provider obeys, because the hold was computed with the cap."""
    refused = lesson.without
    given = [name for name in CAPS if body.get(name) is not None]
    for name in CAPS - set(row.caps) - set(given):
        body.pop(name, None)  # its value is null
    if not given:
        return
    for name in given:
        cap = body[name]
        if type(cap) is int and cap > _LEAST_MAXIMUM and cap > (most := _most_output(row, model, lesson)):
            body[name] = most
            dropped.append(name)
    obeyed = [name for name in row.caps if name not in refused] or [
        name for name in (OLD_CAP, NEW_CAP) if name not in refused
    ]
    if not obeyed or given[0] in obeyed:
        return
    body[obeyed[0]] = body.pop(given[0])


def _most_output(row: ProviderFacts, model: str, lesson: Lesson) -> int:
    """How many tokens may be asked for: what the server has said, and at OpenAI what the price map says, too. Of other
    providers the map is often behind, and a cap that is too low cuts answers."""
    limits = (lesson.most_output, lesson.room, written_at_most(model) if row.name == "openai" else None)
    return min((limit for limit in limits if limit is not None), default=sys.maxsize)


def _set_effort(body: Json, row: ProviderFacts, model: str, dropped: list[str]) -> None:
    """The nearest effort that this model has, if it has any."""
    asked = body["reasoning_effort"]
    if not row.by_model or not isinstance(asked, str) or asked not in EFFORTS:
        return
    if has_effort(row.name, model, asked):
        return
    offered = [word for word in EFFORTS if has_effort(row.name, model, word)]
    if nearest := nearest_effort(asked, offered):
        _replace(body, "reasoning_effort", nearest, dropped)


# --- messages -------------------------------------------------------------------------------------------------


def _messages(messages: Any, row: ProviderFacts, refused: Collection[str], dropped: list[str]) -> Any:
    if not isinstance(messages, list):
        return messages
    ids = Ids(row.call_ids)
    told = [_message(message, row, refused, ids, dropped) for message in messages]
    if row.empty_turns or not any(map(_is_empty_turn, told)):
        return told
    told = [message for message in told if not _is_empty_turn(message)]
    if not told:
        raise cannot("The provider takes no conversation in which nothing is said", "messages")
    return told


def _is_empty_turn(message: Any) -> bool:
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return False
    return not message.get("content") and not message.get("tool_calls")


def _message(message: Any, row: ProviderFacts, refused: Collection[str], ids: Ids, dropped: list[str]) -> Any:
    if not isinstance(message, dict):
        return message
    role = message.get("role")
    if message.keys() == _PLAIN and isinstance(message["content"], str) and role != "developer":
        return message  # nearly all messages are
    said: Json = {}
    for name, value in message.items():
        if _says_nothing(name, value):
            continue
        if name in MESSAGE_FIELDS and not _takes_field(row, refused, name, role):
            dropped.append(f"messages[].{name}")
        else:
            said[name] = value
    if role == "developer" and not row.developer:
        said["role"] = "system"
    if isinstance(said.get("content"), list):
        said["content"] = _parts(said["content"], role, row, refused, dropped)
    elif message.get("refusal") and "refusal" not in said and not said.get("content"):
        said["content"] = message["refusal"]  # the refusal is what the model said
    if isinstance(said.get("tool_calls"), list):
        said["tool_calls"] = [ids.of_call(call) for call in said["tool_calls"]]
    if "tool_call_id" in said:
        said["tool_call_id"] = ids.of(said["tool_call_id"])
    return said


def _says_nothing(field: str, value: Any) -> bool:
    """Whether the field is there but empty, which strict servers refuse. OpenAI: "[] is too short"."""
    return (value is None and (field in MESSAGE_FIELDS or field == "function_call")) or (
        field == "tool_calls" and not value
    )


def _takes_field(row: ProviderFacts, refused: Collection[str], name: str, role: Any) -> bool:
    if name in refused:
        return False
    return name in row.message_fields or f"{role}.{name}" in row.message_fields


def _parts(parts: list[Any], role: Any, row: ProviderFacts, refused: Collection[str], dropped: list[str]) -> Any:
    """The parts of a content that the provider takes, or an empty text when no part is left."""
    if not _takes_field(row, refused, "cache_control", role):
        parts = [_without_cache_mark(part, "messages", dropped) for part in parts]
    if not _takes_field(row, refused, "refusal", role):
        parts = [_refusal_as_text(part) for part in parts]
    if _takes_field(row, refused, "thoughts", role):
        return parts
    said = [part for part in parts if not (isinstance(part, dict) and part.get("type") in _THOUGHTS)]
    if len(said) == len(parts):
        return parts
    dropped.append("messages[].thoughts")
    return said or ""


def _refusal_as_text(part: Any) -> Any:
    """A model's refusal is what it said. Only OpenAI has a part of its own for it."""
    if not isinstance(part, dict) or part.get("type") != "refusal":
        return part
    return {"type": "text", "text": part.get("refusal") or ""}


def _without_cache_mark(thing: Any, where: str, dropped: list[str]) -> Any:
    """A content part or a tool without Anthropic's cache mark."""
    if not isinstance(thing, dict):
        return thing
    function = thing.get("function")
    if isinstance(function, dict) and "cache_control" in function:
        thing = {**thing, "function": {name: v for name, v in function.items() if name != "cache_control"}}
        dropped.append(f"{where}[].cache_control")
    if "cache_control" not in thing:
        return thing
    dropped.append(f"{where}[].cache_control")
    return {name: value for name, value in thing.items() if name != "cache_control"}


def _dicts(values: Any) -> list[Json]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
