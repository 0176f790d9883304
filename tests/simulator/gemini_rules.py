"""What Google documents as refused, each rule from its page (docs/simulator-rules.md) and not from the gateway's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SCHEMA_FIELDS = frozenset(
    re.findall(
        r"\w+",
        "type format title description nullable enum maxItems minItems properties required minProperties maxProperties "
        "minLength maxLength pattern example anyOf propertyOrdering default items minimum maximum",
    )
)
#: https://ai.google.dev/api/generate-content#generationconfig, /api/caching#Tool, #FunctionDeclaration, #Part
_CONFIG_FIELDS = frozenset(
    re.findall(
        r"\w+",
        "stopSequences responseMimeType responseSchema responseJsonSchema responseModalities candidateCount "
        "maxOutputTokens temperature topP topK seed presencePenalty frequencyPenalty responseLogprobs logprobs "
        "enableEnhancedCivicAnswers speechConfig thinkingConfig imageConfig mediaResolution",
    )
)
_TOOL_FIELDS = frozenset(
    re.findall(
        r"\w+",
        "functionDeclarations googleSearchRetrieval codeExecution googleSearch computerUse urlContext fileSearch "
        "googleMaps mcpServers",
    )
)
_DECLARATION_FIELDS = frozenset(
    {"name", "description", "behavior", "parameters", "parametersJsonSchema", "response", "responseJsonSchema"}
)
_PART_FIELDS = frozenset(
    re.findall(
        r"\w+",
        "thought thoughtSignature partMetadata mediaResolution text inlineData functionCall functionResponse fileData "
        "executableCode codeExecutionResult toolCall toolResponse videoMetadata",
    )
)
_PICTURES = ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif")
_BUDGETS = {"gemini-2.5-pro": (128, 32_768), "gemini-2.5-flash-lite": (512, 24_576), "gemini-2.5-flash": (1, 24_576)}


def broken(body: Mapping[str, Any], model: str) -> str | None:
    """The message for the first rule that the request breaks."""
    config = _get(body, "generationConfig") or {}
    tools = body.get("tools") or []
    declared = [each for tool in tools for each in _get(tool, "functionDeclarations") or ()]
    searches = [tool for tool in tools if _get(tool, "googleSearch") is not None]
    messages = [
        *_combination(model, body, config, declared, searches),
        *(message for at, each in enumerate(declared) for message in _declaration(at, each)),
        *_names(body, config),
        *_generation(model, config),
        *_parts(body),
        *_tier(body),
    ]
    return messages[0] if messages else None


def _names(body: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    """A field that Google's messages do not have: its parser of JSON refuses the request."""
    yield from _unknown(config, _CONFIG_FIELDS, "generation_config")
    for at, tool in enumerate(body.get("tools") or ()):
        yield from _unknown(tool, _TOOL_FIELDS, f"tools[{at}]")
        for place, declared in enumerate(_get(tool, "functionDeclarations") or ()):
            yield from _unknown(declared, _DECLARATION_FIELDS, f"tools[{at}].function_declarations[{place}]")
    contents = body["contents"] if isinstance(body["contents"], list) else [body["contents"]]
    for at, content in enumerate(contents):
        yield from _unknown(content, frozenset({"role", "parts"}), f"contents[{at}]")
        parts = content["parts"] if isinstance(content["parts"], list) else [content["parts"]]
        for place, part in enumerate(parts):
            yield from _unknown(part, _PART_FIELDS, f"contents[{at}].parts[{place}]")


def _unknown(message: Mapping[str, Any], fields: frozenset[str], where: str) -> Iterator[str]:
    for name in message:
        first, *rest = name.split("_")
        if first + "".join(part.capitalize() for part in rest) not in fields:
            yield f"Invalid JSON payload received. Unknown name \"{name}\" at '{where}': Cannot find field."


def _combination(
    model: str, body: Mapping[str, Any], config: Mapping[str, Any], declared: list[Any], searches: list[Any]
) -> Iterator[str]:
    if re.match(r"gemini-[12]", model):
        if not declared and _get(_get(body, "toolConfig") or {}, "functionCallingConfig") is not None:
            yield "Function calling config is set without function_declarations."
        kind = _get(config, "responseMimeType")
        if declared and kind == "application/json":
            yield f"Function calling with a response mime type: '{kind}' is unsupported"
        if declared and searches:
            yield "Tool use with function calling is unsupported"


def _declaration(at: int, declaration: Mapping[str, Any]) -> Iterator[str]:
    where = f"* GenerateContentRequest.tools[0].function_declarations[{at}]"
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}", declaration.get("name", "")):
        yield (
            f"{where}.name: Invalid function name. Must start with a letter or an underscore. Must be alphanumeric "
            "(a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes (-), with a maximum length of 64.\n"
        )
    if isinstance(schema := declaration.get("parameters"), dict):
        if str(schema.get("type")).lower() != "object":
            yield f"{where}.parameters: schema should be of type OBJECT\n"
        yield from _schema(schema, f"{where}.parameters")


def _schema(schema: Mapping[str, Any], where: str) -> Iterator[str]:
    for name in schema:
        if name not in _SCHEMA_FIELDS:
            yield f"Invalid JSON payload received. Unknown name \"{name}\" at '{where}': Cannot find field."
    kind = str(schema.get("type", "")).lower()
    if not kind and "anyOf" not in schema:
        yield f"{where}.type: must be specified\n"
    if "enum" in schema and (kind != "string" or not all(isinstance(v, str) and v for v in schema["enum"])):
        yield f"{where}.enum: only allowed for STRING type, and cannot be empty\n"
    if kind == "array" and not schema.get("items"):
        yield f"{where}.items: missing field.\n"
    properties = schema.get("properties") or {}
    for name in schema.get("required") or ():
        if name not in properties:
            yield f"{where}.required: property '{name}' is not defined\n"
    inner = [*properties.values(), *(schema.get("anyOf") or ()), *([schema["items"]] if schema.get("items") else ())]
    for each in inner:
        yield from _schema(each, where)


def _lacking(model: str, config: Mapping[str, Any]) -> Iterator[str]:
    """https://github.com/google-gemini/cookbook/issues/1290: a penalty of 0 is not looked at.
    https://github.com/mscraftsman/generative-ai/issues/135"""
    if not model.startswith("gemini-2.5"):
        return
    if _get(config, "frequencyPenalty") or _get(config, "presencePenalty"):
        yield f"Penalty is not enabled for models/{model}"
    if _get(config, "responseLogprobs"):
        yield f"Logprobs is not enabled for models/{model}"


def _generation(model: str, config: Mapping[str, Any]) -> Iterator[str]:
    yield from _lacking(model, config)
    words = _get(config, "stopSequences") or ()
    if not all(words):
        yield "* GenerateContentRequest.generation_config.stop_sequences: cannot be empty\n"
    if len(words) > 5:
        yield "The number of stop sequences must be at most 5"
    if not 1 <= (_get(config, "maxOutputTokens") or 1) <= 65_536:
        yield "Unable to submit request because it has a maxOutputTokens value outside of 1 to 65537 (exclusive)"
    if not -(2**31) <= (config.get("seed") or 0) < 2**31:
        yield "Invalid value at 'generation_config.seed' (TYPE_INT32)"
    thinking = _get(config, "thinkingConfig") or {}
    budget, level = _get(thinking, "thinkingBudget"), _get(thinking, "thinkingLevel")
    limits = next((limits for name, limits in _BUDGETS.items() if model.startswith(name)), None)
    if limits and budget is not None and budget != -1 and not (budget == 0 and "pro" not in model):
        if budget == 0:
            yield "Budget 0 is invalid. This model only works in thinking mode."
        elif not limits[0] <= budget <= limits[1]:
            yield f"The thinking budget {budget} is invalid. Please choose a value between {limits[0]} and {limits[1]}."
    if str(level).lower() == "minimal" and re.match(r"gemini-3\.[78]-flash|gemini-3.*-pro", model):
        yield "Thinking level MINIMAL is not supported for this model. Please retry with other thinking level."
    if level is not None and str(level).lower() not in ("minimal", "low", "medium", "high"):
        yield f"Invalid value at 'generation_config.thinking_config.thinking_level': \"{level}\""


def _tier(body: Mapping[str, Any]) -> Iterator[str]:
    tier = _get(body, "serviceTier")
    if tier is not None and tier not in ("standard", "flex", "priority"):
        yield f"Invalid value at 'service_tier': \"{tier}\""


def _parts(body: Mapping[str, Any]) -> Iterator[str]:
    contents = body["contents"] if isinstance(body["contents"], list) else [body["contents"]]
    calls = 0
    for content in contents:
        parts = content["parts"] if isinstance(content["parts"], list) else [content["parts"]]
        for part in parts:
            if part in ({}, {"text": ""}):
                yield "* GenerateContentRequest.contents.parts.data: required oneof field 'data' must be set\n"
            kind = _get(_get(part, "inlineData") or {}, "mimeType")
            if kind and kind.startswith("image/") and kind not in _PICTURES:
                yield f"Unsupported MIME type: {kind}"
        answered = sum(1 for part in parts if _get(part, "functionResponse"))
        if answered and calls and answered != calls:
            yield (
                "Please ensure that the number of function response parts is equal to the number of function call "
                "parts of the function call turn."
            )
        calls = sum(1 for part in parts if _get(part, "functionCall"))


def _get(data: Mapping[str, Any], camel: str) -> Any:
    if camel in data:
        return data[camel]
    return data.get("".join(f"_{c.lower()}" if c.isupper() else c for c in camel))
