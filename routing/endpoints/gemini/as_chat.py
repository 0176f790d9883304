"""A request of Google's generateContent in OpenAI's chat format, for a provider that does not speak Google's.

What only Google has is left out, when an answer without it is still an answer to what was asked: its own tools, its
settings of what is unsafe, signatures of thoughts.

https://ai.google.dev/api/generate-content · https://platform.openai.com/docs/api-reference/chat/create
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from routing.endpoints.gemini.spelling import camel, in_plain_base64
from routing.upstreams.base import Json

#: A thinking budget of at most so many tokens, and the effort that OpenAI's models call by these words.
_EFFORTS: Final = ((0, "none"), (2_048, "low"), (16_384, "medium"))
_LEVELS: Final = frozenset({"minimal", "low", "medium", "high"})
#: Parameters that both formats have, with the same meaning.
_SAME: Final = {
    "candidateCount": "n",
    "frequencyPenalty": "frequency_penalty",
    "logprobs": "top_logprobs",
    "maxOutputTokens": "max_tokens",
    "presencePenalty": "presence_penalty",
    "responseLogprobs": "logprobs",
    "seed": "seed",
    "stopSequences": "stop",
    "temperature": "temperature",
    "topK": "top_k",
    "topP": "top_p",
}
#: What is told to a chat model in some way, as far as it can do what it asks, or is no business of a model's.
_TOLD: Final = frozenset(
    {"contents", "generationConfig", "labels", "serviceTier", "systemInstruction", "toolConfig", "tools"}
)
_TOLD_CONFIG: Final = frozenset(
    {"responseJsonSchema", "responseMimeType", "responseModalities", "responseSchema", "thinkingConfig", *_SAME}
)
_JSON: Final = "application/json"
#: Some providers answer in JSON only when the conversation has the word.
_JSON_SENTENCE: Final = "Answer with one JSON value and nothing else."
_TIERS: Final = {"standard": "default", "flex": "flex", "priority": "priority"}
#: The fields of a schema of Google's that JSON Schema has as well. https://ai.google.dev/api/caching#Schema
_SCHEMA_FIELDS: Final = frozenset(
    {
        "anyOf", "default", "description", "enum", "format", "items", "maxItems", "maxLength", "maxProperties",
        "maximum", "minItems", "minLength", "minProperties", "minimum", "pattern", "properties", "required", "title",
        "type", "additionalProperties", "prefixItems", "$ref", "$defs",
    }
)  # fmt: skip
_NUMBERS: Final = frozenset({"maxItems", "maxLength", "maxProperties", "minItems", "minLength", "minProperties"})


def as_chat(alias: str, body: Mapping[str, Any], *, streamed: bool) -> Json:
    """``body`` is valid and in camelCase. Changes only a copy."""
    config: Mapping[str, Any] = body.get("generationConfig") or {}
    # Of a conversation that only Google can read, such as its own files alone, a chat has nothing.
    chat: Json = {"model": alias, "messages": list(_messages(body)) or [{"role": "user", "content": ""}]}
    chat |= {ours: config[theirs] for theirs, ours in _SAME.items() if config.get(theirs) not in (None, [])}
    if streamed:
        chat["stream"] = True
    tools = _tools(body)
    if tools:
        chat["tools"] = tools
        if choice := _choice(body):
            chat["tool_choice"] = choice
    if effort := _effort(config.get("thinkingConfig")):
        chat["reasoning_effort"] = effort
    _set_form(chat, config)
    modalities = [str(each).lower() for each in config.get("responseModalities") or ()]
    if modalities not in ([], ["text"]):
        chat["modalities"] = modalities
    if (tier := _word(body.get("serviceTier"), "service_tier_")) in _TIERS:
        chat["service_tier"] = _TIERS[tier]
    return chat


def left_out(body: Mapping[str, Any]) -> tuple[str, ...]:
    """What of the request a chat has no word for, by its place."""
    config: Mapping[str, Any] = body.get("generationConfig") or {}
    names = [name for name in body if name not in _TOLD]
    names += [f"generationConfig.{name}" for name in config if name not in _TOLD_CONFIG]
    if config.get("responseMimeType") not in (None, "text/plain", _JSON):
        names.append("generationConfig.responseMimeType")
    tools = [
        f"tools[{place}].{name}"
        for place, tool in enumerate(body.get("tools") or ())
        for name in tool
        if name != "functionDeclarations"
    ]
    return (*sorted(names), *tools)


def declarations(body: Mapping[str, Any]) -> list[Json]:
    """The functions that the client runs itself."""
    return [each for tool in body.get("tools") or () for each in tool.get("functionDeclarations") or ()]


# --- messages --------------------------------------------------------------------------------------------------


def _messages(body: Mapping[str, Any]) -> Iterator[Json]:
    system = body.get("systemInstruction")
    if system is not None and (text := _text(system["parts"])):
        yield {"role": "system", "content": text}
    ids = _Ids()
    for content in body["contents"]:
        if content.get("role") == "model":
            if said := _said(content["parts"], ids):
                yield said
        else:
            yield from _asked(content["parts"], ids)


def _text(parts: Iterable[Json]) -> str:
    return "\n".join(part["text"] for part in parts if part.get("text"))


class _Ids:
    """The ids of the calls in a conversation. Google's calls need none: a result is told by its function's name."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, str]] = []  # the calls without a result: name and id
        self._count = 0

    def of_call(self, call: Mapping[str, Any]) -> str:
        id_ = str(call.get("id") or self._new())
        self._waiting.append((str(call.get("name")), id_))
        return id_

    def of_result(self, result: Mapping[str, Any]) -> str:
        given, name = result.get("id"), result.get("name")
        for place, (called, id_) in enumerate(self._waiting):
            if id_ == given or (not given and called == name):
                del self._waiting[place]
                return id_
        return str(given or self._new())

    def _new(self) -> str:
        self._count += 1
        return f"call_{self._count}"


def _asked(parts: list[Json], ids: _Ids) -> Iterator[Json]:
    """A user's turn: first the results of functions, each a message of its own, then what the user says."""
    said: list[Json] = []
    for part in parts:
        result = part.get("functionResponse")
        if isinstance(result, dict):
            yield {"role": "tool", "tool_call_id": ids.of_result(result), "content": _result(result.get("response"))}
            # No message of a tool may have a picture.
            said += [told for inner in result.get("parts") or () for told in _part(inner)]
        else:
            said += _part(part)
    if said:
        is_text = len(said) == 1 and said[0]["type"] == "text"
        yield {"role": "user", "content": said[0]["text"] if is_text else said}


def _result(response: Any) -> str:
    """A result as text. Google's clients put what is not an object into one, under one of these names."""
    if isinstance(response, dict) and len(response) == 1:
        only = response.get("result", response.get("output"))
        if isinstance(only, str):
            return only
    return json.dumps(response if response is not None else {}, ensure_ascii=False)


def _part(part: Mapping[str, Any]) -> list[Json]:
    """A part of a user's turn, as parts of a chat message."""
    if part.get("thought"):
        return []
    if isinstance(part.get("text"), str):
        return [{"type": "text", "text": part["text"]}] if part["text"] else []
    inline, file = part.get("inlineData"), part.get("fileData")
    if isinstance(inline, dict):
        return [_inline(str(inline.get("mimeType") or ""), str(inline.get("data") or ""), inline.get("displayName"))]
    if isinstance(file, dict):
        uri, kind = str(file.get("fileUri") or ""), str(file.get("mimeType") or "")
        if kind.startswith("image/"):
            return [{"type": "image_url", "image_url": {"url": uri}}]
        return [{"type": "file", "file": {"file_id": uri}}]
    if part.keys() - {"thoughtSignature"}:
        # Code that Google has run, say. Its text is what a model can use of it.
        return [{"type": "text", "text": json.dumps(part, ensure_ascii=False)}]
    return []


def _inline(kind: str, data: str, name: Any) -> Json:
    data = in_plain_base64(data)
    if kind.startswith("image/"):
        return {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}}
    if kind.startswith("audio/"):
        return {"type": "input_audio", "input_audio": {"data": data, "format": _sound(kind)}}
    file_name = name if isinstance(name, str) and name else "document"
    return {"type": "file", "file": {"filename": file_name, "file_data": f"data:{kind};base64,{data}"}}


def _sound(kind: str) -> str:
    word = kind.removeprefix("audio/").removeprefix("x-")
    return {"mpeg": "mp3", "wave": "wav"}.get(word, word)


def _said(parts: list[Json], ids: _Ids) -> Json | None:
    """A turn of the model; None: it says nothing that another model can read."""
    text = "".join(part.get("text") or "" for part in parts if not part.get("thought"))
    text += "".join(
        f"\n{json.dumps(part, ensure_ascii=False)}\n"
        for part in parts
        if "executableCode" in part or "codeExecutionResult" in part
    )
    calls = [
        {
            "id": ids.of_call(part["functionCall"]),
            "type": "function",
            "function": {
                "name": part["functionCall"]["name"],
                "arguments": json.dumps(part["functionCall"].get("args") or {}, ensure_ascii=False),
            },
        }
        for part in parts
        if "functionCall" in part
    ]
    if calls:
        return {"role": "assistant", "content": text or None, "tool_calls": calls}
    return {"role": "assistant", "content": text} if text else None


# --- tools and parameters -----------------------------------------------------------------------------------------


def _tools(body: Mapping[str, Any]) -> list[Json]:
    allowed = _calling(body).get("allowedFunctionNames") or []
    return [_tool(each) for each in declarations(body) if not allowed or each["name"] in allowed]


def _tool(declared: Mapping[str, Any]) -> Json:
    schema = declared.get("parametersJsonSchema")
    if schema is None and declared.get("parameters") is not None:
        schema = json_schema(declared["parameters"])
    function: Json = {"name": declared["name"], "parameters": schema or {"type": "object", "properties": {}}}
    if declared.get("description"):
        function["description"] = declared["description"]
    return {"type": "function", "function": function}


def _calling(body: Mapping[str, Any]) -> Mapping[str, Any]:
    calling: Mapping[str, Any] = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    return calling


def _choice(body: Mapping[str, Any]) -> Any:
    calling = _calling(body)
    match str(calling.get("mode") or "").upper():
        case "ANY":
            allowed = calling.get("allowedFunctionNames") or []
            return {"type": "function", "function": {"name": allowed[0]}} if len(allowed) == 1 else "required"
        case "NONE":
            return "none"
        case "AUTO" | "VALIDATED":
            return "auto"
    return None


def _effort(thinking: Any) -> str | None:
    """How hard the model is to think, in OpenAI's words; None: as it does by itself."""
    if not isinstance(thinking, dict):
        return None
    level = _word(thinking.get("thinkingLevel"), "thinking_level_")
    if level in _LEVELS:
        return level
    budget = thinking.get("thinkingBudget")
    if type(budget) is not int or budget < 0:
        return None
    return next((effort for most, effort in _EFFORTS if budget <= most), "high")


def _word(value: object, prefix: str) -> str:
    return value.lower().removeprefix(prefix) if isinstance(value, str) else ""


def _set_form(chat: Json, config: Mapping[str, Any]) -> None:
    """The form that the answer must have."""
    schema = config.get("responseJsonSchema")
    if schema is None and config.get("responseSchema") is not None:
        schema = json_schema(config["responseSchema"])
    if config.get("responseMimeType") != _JSON:
        return
    if isinstance(schema, dict):
        described: Json = {"name": "answer", "schema": schema}
        if (closed := _closed(schema)) is not None:
            described |= {"schema": closed, "strict": True}
        chat["response_format"] = {"type": "json_schema", "json_schema": described}
        return
    chat["response_format"] = {"type": "json_object"}
    if "json" not in json.dumps(chat["messages"]).lower():
        chat["messages"].insert(0, {"role": "system", "content": _JSON_SENTENCE})


def json_schema(schema: Any) -> Any:
    """A schema of Google's as JSON Schema: types in small letters, numbers that are numbers, null as a type."""
    if isinstance(schema, list):
        return [json_schema(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    fields = {camel(name): value for name, value in schema.items()}
    told = {
        name: _schema_field(name, value)
        for name, value in fields.items()
        if name in _SCHEMA_FIELDS and (name, value) not in (("type", "TYPE_UNSPECIFIED"), ("format", "enum"))
    }
    return _with_null(told) if fields.get("nullable") else told


def _schema_field(name: str, value: Any) -> Any:
    if name == "type":
        return [str(kind).lower() for kind in value] if isinstance(value, list) else str(value).lower()
    if name in ("properties", "$defs") and isinstance(value, dict):
        return {field: json_schema(inner) for field, inner in value.items()}
    if name in ("items", "anyOf", "additionalProperties", "prefixItems"):
        return json_schema(value)
    if name in _NUMBERS and isinstance(value, str) and value.isdecimal():
        return int(value)
    return value


def _with_null(schema: Json) -> Json:
    if isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    elif isinstance(schema.get("anyOf"), list):
        schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]
    if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]
    return schema


def _closed(schema: Any) -> Json | None:
    """The schema as OpenAI holds a model to it strictly: each object has all of its fields and no other. None: the
    schema leaves more open than that."""
    if not isinstance(schema, dict) or schema.keys() & {"$ref", "$defs", "prefixItems", "patternProperties"}:
        return None
    closed = dict(schema)
    kinds = schema.get("type")
    if "object" in (kinds if isinstance(kinds, list) else [kinds]):
        properties = schema.get("properties")
        if not isinstance(properties, dict) or schema.get("additionalProperties") not in (None, False):
            return None
        if set(schema.get("required") or ()) != properties.keys():
            return None
        inner = {name: _closed(each) for name, each in properties.items()}
        if None in inner.values():
            return None
        closed |= {"properties": inner, "additionalProperties": False}
    if "items" in schema:
        closed["items"] = _closed(schema["items"])
        if closed["items"] is None:
            return None
    if "anyOf" in schema:
        closed["anyOf"] = [_closed(each) for each in schema["anyOf"]] if isinstance(schema["anyOf"], list) else [None]
        if None in closed["anyOf"]:
            return None
    return closed
