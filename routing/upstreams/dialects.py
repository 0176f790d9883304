"""Rewrites a chat request as one provider of OpenAI's format understands it.

The client wrote its request for an alias, not for the provider that gets it now. What the provider is known not to
understand (`providers`) is renamed, mapped or left out, and the client is told what was left out. A parameter that is
in no table passes untouched: it may be newer than the tables.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

from accounting import facts
from accounting.record import record
from routing.upstreams.answers import loads
from routing.upstreams.base import Deployment, Json
from routing.upstreams.litellm_import import load
from routing.upstreams.mends.capability import cannot
from routing.upstreams.mends.conversation import call_functions_as_tools
from routing.upstreams.mends.parameters import (
    offer_functions_as_tools,
    stop_without_empty_words,
    without_empty_wishes,
)
from routing.upstreams.price_map import costs_of
from routing.upstreams.providers import (
    CAPS,
    COMMON_PARAMETERS,
    MESSAGE_FIELDS,
    NEW_CAP,
    OLD_CAP,
    OPTIONAL_PARAMETERS,
    CallIds,
    ProviderFacts,
    facts_of,
)

#: litellm appends this and Gemini's thought signature to call ids, as many clients keep only OpenAI's fields.
_SIGNATURE_MARK: Final = "__thought__"
_ALPHANUMERIC: Final = re.compile(r"[A-Za-z0-9]+")
_LETTERS: Final = string.digits + string.ascii_letters

_PLAIN: Final = {"role", "content"}
#: The types of the content parts in which Mistral's and Anthropic's models think.
_THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})

#: litellm is asked which of these parameters a model refuses. No value here is refused because of the value.
_PROBES: Final[Mapping[str, Any]] = {
    "frequency_penalty": 0.5,
    "logit_bias": {"1": 1},
    "logprobs": True,
    "parallel_tool_calls": True,
    "prediction": {"type": "content", "content": "-"},
    "presence_penalty": 0.5,
    "reasoning_effort": "low",
    "stop": ["-"],
    "temperature": 0.5,
    "top_logprobs": 1,
    "top_p": 0.5,
    "verbosity": "low",
}
_EFFORTS: Final = frozenset({"none", "minimal", "low", "medium", "high", "xhigh"})

#: Parameters that the gateway adds by itself, for its books and its hold.
_OURS: Final = CAPS | {"stream_options"}
#: By address and model: the parameters of ours whose names a deployment has refused.
_refusals: dict[tuple[str, str], frozenset[str]] = {}
_MAX_REFUSALS: Final = 10_000
_UNKNOWN_NAME: Final = re.compile(
    r"(?:unknown|unsupported|unexpected|unrecogni[sz]ed|extra|additional)[_ ](?:request )?"
    r"(?:parameter|argument|field|key|input|propert|forbidden)",
    re.IGNORECASE,
)
#: Words that say that this model does not take a parameter, or not with this value.
_UNFIT: Final = re.compile(
    r"unsupported|not (?:be )?(?:supported?|permitted|allowed)|does ?n[o']t support|only \S+ is allowed|"
    r"only allowed (?:when|if|with)",
    re.IGNORECASE,
)


@record(frozen=True, slots=True)
class Spoken:
    """A request body for one provider, and the names of the client's parameters and fields that it lacks."""

    body: Json
    dropped: tuple[str, ...]
    #: Whether the client offered `functions` to a provider of tools, and so knows no `tool_calls`.
    calls_functions: bool = False


def spoken(
    request_body: Mapping[str, Any],
    deployment: Deployment,
    *,
    streamed: bool,
    without: frozenset[str] = frozenset(),
) -> Spoken:
    """The client's request as the deployment understands it, less the words of ``without``. Changes only a copy."""
    row = facts_of(deployment.litellm_provider, deployment.model, deployment.base_url)
    refused = without | _refusals.get(_key(deployment), frozenset())
    dropped: list[str] = []
    body: Json = {**request_body, "model": deployment.model}
    calls_functions = not row.functions and _offer_functions_as_tools(body, row)
    messages = request_body.get("messages") if row.functions else _with_tool_calls(request_body.get("messages"))
    body["messages"] = _messages(messages, row, refused, dropped)
    _set_parameters(body, row, refused | _refused_by_model(row, deployment.model, body), dropped)
    if isinstance(body.get("tools"), list) and not _takes_field(row, refused, "cache_control", "tool"):
        body["tools"] = [_without_cache_mark(tool, "tools", dropped) for tool in body["tools"]]
    _set_cap(body, row, refused)
    body.pop("stream", None)
    options = body.pop("stream_options", None)
    if streamed:
        body["stream"] = True
        if row.stream_options and "stream_options" not in refused:
            body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    return Spoken(body, tuple(sorted(set(dropped))), calls_functions)


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


def _set_cap(body: Json, row: ProviderFacts, refused: Collection[str]) -> None:
    """Put the output cap under a name that the provider obeys, because the hold was computed with the cap."""
    given = [name for name in CAPS if body.get(name) is not None]
    for name in CAPS - set(row.caps) - set(given):
        body.pop(name, None)  # its value is null
    if not given:
        return
    obeyed = [name for name in row.caps if name not in refused] or [
        name for name in (OLD_CAP, NEW_CAP) if name not in refused
    ]
    if not obeyed or given[0] in obeyed:
        return
    body[obeyed[0]] = body.pop(given[0])


def _refused_by_model(row: ProviderFacts, model: str, body: Mapping[str, Any]) -> frozenset[str]:
    """The parameters that this model refuses, though other models of its provider take them."""
    refused: frozenset[str] = frozenset()
    if not row.thinkers_refuse.isdisjoint(body) and _thinks(row.name, model):
        refused = row.thinkers_refuse
    if row.by_model and not _PROBES.keys().isdisjoint(body):
        effort = body.get("reasoning_effort")
        known = effort if isinstance(effort, str) and effort in _EFFORTS else None
        refused |= _refused_by_litellm(row.name, model, known)
    return refused


@lru_cache(maxsize=4096)
def _thinks(provider: str, model: str) -> bool:
    return bool(costs_of(provider, model).get("supports_reasoning"))


@lru_cache(maxsize=4096)
def _refused_by_litellm(provider: str, model: str, effort: str | None) -> frozenset[str]:
    """The parameters that litellm leaves out for this model and this reasoning effort. Takes milliseconds, once."""
    asked = {} if effort is None else {"reasoning_effort": effort}
    return frozenset(
        name for name, value in _PROBES.items() if not _is_kept(provider, model, name, {name: value, **asked})
    )


def _is_kept(provider: str, model: str, name: str, given: Mapping[str, Any]) -> bool:
    try:
        kept = load().utils.get_optional_params(model=model, custom_llm_provider=provider, **given)
    except Exception:  # noqa: BLE001 - when litellm cannot say, nothing is known to be refused
        return True
    return name in kept or name in (kept.get("extra_body") or {})


# --- messages -------------------------------------------------------------------------------------------------


def _messages(messages: Any, row: ProviderFacts, refused: Collection[str], dropped: list[str]) -> Any:
    if not isinstance(messages, list):
        return messages
    ids = _Ids(row.call_ids)
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


def _message(message: Any, row: ProviderFacts, refused: Collection[str], ids: _Ids, dropped: list[str]) -> Any:
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


class _Ids:
    """The ids of a request's tool calls, as the provider takes them.

    A call and its result have the same id, two calls have two ids, and the conversation's next request has the same ids
    again."""

    def __init__(self, taken: CallIds) -> None:
        self._taken = taken
        self._given: dict[str, str] = {}
        self._theirs: set[str] = set()

    def of_call(self, call: Any) -> Any:
        if not isinstance(call, dict):
            return call
        signed = self._taken.signed
        said = {
            name: value
            for name, value in call.items()
            if signed or name not in ("provider_specific_fields", "cache_control", "extra_content")
        }
        if "id" in said:
            said["id"] = self.of(said["id"])
        function = said.get("function")
        if not signed and isinstance(function, dict) and "provider_specific_fields" in function:
            said["function"] = {name: v for name, v in function.items() if name != "provider_specific_fields"}
        return said

    def of(self, id_: Any) -> Any:
        if not isinstance(id_, str):
            return id_
        if id_ not in self._given:
            theirs = id_ if self._taken.signed else id_.partition(_SIGNATURE_MARK)[0]
            if not self._is_taken(theirs) or theirs in self._theirs:
                theirs = _hashed(id_, self._taken)
            self._theirs.add(theirs)
            self._given[id_] = theirs
        return self._given[id_]

    def _is_taken(self, id_: str) -> bool:
        taken = self._taken
        if not taken.shortest <= len(id_) <= taken.longest:
            return False
        return not taken.alphanumeric or _ALPHANUMERIC.fullmatch(id_) is not None


def _hashed(id_: str, taken: CallIds) -> str:
    number = int.from_bytes(hashlib.sha256(id_.encode("utf-8", "surrogatepass")).digest())
    letters = []
    for _ in range(min(taken.longest, 24)):
        number, rest = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[rest])
    return "".join(letters)


# --- what a server says ------------------------------------------------------------------------------------------


def refused_words(status: int, answer: bytes, body: Mapping[str, Any]) -> frozenset[str]:
    """The optional parameters and fields of the request that the server says it does not take.

    The server has done nothing yet, and may be asked again without them. The output cap is among them only when the
    server refuses its *name*: its value is the client's."""
    if status not in (400, 422):
        return frozenset()
    text = answer[:16_384].decode("utf-8", "replace")
    if _UNKNOWN_NAME.search(text):
        mendable = OPTIONAL_PARAMETERS | _OURS
    elif _UNFIT.search(text):
        mendable = OPTIONAL_PARAMETERS | {"stream_options"}
    else:
        return frozenset()
    param = None
    with suppress(ValueError, LookupError, TypeError):
        param = loads(answer)["error"]["param"]
    sent = (mendable & body.keys()) | _fields_in(body)
    if isinstance(param, str) and (exact := sent & {param.rpartition(".")[2].partition("[")[0]}):
        return frozenset(exact)
    return frozenset(name for name in sent if _is_named(name, text))


def _is_named(name: str, text: str) -> bool:
    """Whether the text names the parameter. A name without an underscore may be an everyday word, so it must stand in
    quotes or in a path."""
    before = r"(?<![\w-])" if "_" in name else r"(?:['\"`.]|-> )"
    return re.search(rf"{before}{name}(?![\w-])", text) is not None


def _fields_in(body: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    for message in _dicts(body.get("messages")):
        found |= message.keys() & MESSAGE_FIELDS
        found |= {"cache_control" for part in _dicts(message.get("content")) if "cache_control" in part}
    return found | {"cache_control" for tool in _dicts(body.get("tools")) if "cache_control" in tool}


def _dicts(values: Any) -> list[Json]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def learn(deployment: Deployment, words: frozenset[str]) -> None:
    """Remember that the deployment answered when it was asked without ``words``.

    Only what the gateway adds by itself is remembered, and this process does not send it to the deployment again. What
    clients send is not remembered: one client's value must not cost other clients their parameter."""
    if not words <= _OURS:
        return
    if len(_refusals) >= _MAX_REFUSALS:
        _refusals.clear()
    _refusals[_key(deployment)] = _refusals.get(_key(deployment), frozenset()) | words
    facts.refusal_learnt(facts.RefusalLearnt(deployment.provider, deployment.model, sorted(words)))


def _key(deployment: Deployment) -> tuple[str, str]:
    return deployment.base_url or deployment.litellm_provider, deployment.model
