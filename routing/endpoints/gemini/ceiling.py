"""What a request costs at most at a provider that gets it as it came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from accounting.usage import Meter, quantity_name
from routing.catalog import Step
from routing.endpoints.chat.ceiling import InputCeiling, input_ceiling
from routing.endpoints.chat.request import ChatCall
from routing.endpoints.gemini.spelling import in_plain_base64
from routing.serving.call import Quantities, Unbounded
from routing.upstreams import tiers
from routing.upstreams.base import Json
from routing.upstreams.extras import Unlimited, bills_a_grounded_prompt

#: Known to cost nothing more than the tokens of the prompt and of the answer: https://ai.google.dev/api/generate-content
_FREE: Final = frozenset(
    {
        "contents", "generationConfig", "labels", "safetySettings", "serviceTier", "systemInstruction", "toolConfig",
        "tools",
    }
)  # fmt: skip
_FREE_CONFIG: Final = frozenset(
    {
        "audioTimestamp", "candidateCount", "enableEnhancedCivicAnswers", "frequencyPenalty", "logprobs",
        "maxOutputTokens", "mediaResolution", "presencePenalty", "responseJsonSchema", "responseLogprobs",
        "responseMimeType", "responseModalities", "responseSchema", "seed", "speechConfig", "stopSequences",
        "temperature", "thinkingConfig", "topK", "topP",
    }
)  # fmt: skip
#: The fields of a part that is text, or tells of a function, which the client runs, or of code that was run before.
_TEXT_FIELDS: Final = frozenset(
    {
        "codeExecutionResult", "executableCode", "functionCall", "functionResponse", "text", "thought",
        "thoughtSignature", "videoMetadata",
    }
)  # fmt: skip
_RESOLUTIONS: Final = frozenset({f"MEDIA_RESOLUTION_{level}" for level in ("LOW", "MEDIUM", "HIGH", "UNSPECIFIED")})
_DECLARED: Final = "functionDeclarations"
_SEARCH: Final = "googleSearch"
_MADE: Final = {"TEXT": Meter.OUTPUT, "AUDIO": Meter.AUDIO_OUTPUT, "IMAGE": Meter.IMAGE_OUTPUT}
_MODALITIES: Final = "generationConfig.responseModalities"


def native_input(body: Mapping[str, Any]) -> InputCeiling:
    """The bound of the input, by the rules of a chat: the same bytes, the same files, in its words."""
    config: Mapping[str, Any] = body.get("generationConfig") or {}
    told: Json = {n: value for n, value in body.items() if n not in ("contents", "labels", "systemInstruction")}
    places = {}
    form = next((name for name in ("responseSchema", "responseJsonSchema") if name in config), None)
    if form is not None:
        told["response_format"] = config[form]  # where references are looked for
        places["response_format"] = f"generationConfig.{form}"
    contents = [(f"contents[{place}]", content) for place, content in enumerate(body["contents"])]
    if "systemInstruction" in body:
        contents.append(("systemInstruction", body["systemInstruction"]))
    messages: list[Json] = []
    for where, content in contents:
        parts: list[Json] = []
        for place, part in enumerate(content["parts"]):
            for counted in _counted(part):
                places[f"messages[{len(messages)}].content[{len(parts)}]"] = f"{where}.parts[{place}]"
                parts.append(counted)
        messages.append({"role": "user", "content": parts})
    ceiling = input_ceiling({**told, "messages": messages})
    return replace(
        ceiling,
        unbounded=_placed(ceiling.unbounded, places),
        endless_references=_placed(ceiling.endless_references, places),
    )


def _placed(found: Unlimited | None, places: Mapping[str, str]) -> Unlimited | None:
    """With its place in the client's request."""
    return None if found is None else found._replace(param=places.get(found.param, found.param))


def _counted(part: Json) -> Iterator[Json]:
    """A part as parts of a chat that come to as many tokens: its text, and each of its files."""
    rest = {name: value for name, value in part.items() if name not in ("inlineData", "fileData")}
    result = rest.get("functionResponse")
    if isinstance(result, dict) and "parts" in result:
        rest["functionResponse"] = {name: value for name, value in result.items() if name != "parts"}
        for inner in result["parts"]:
            yield from _counted(inner)
    unknown = sorted(name for name in rest if name not in _TEXT_FIELDS and not _is_free(name, rest[name]))
    if rest:
        yield {"type": f"gemini/{unknown[0]}" if unknown else "text", "text": rest}
    if "inlineData" in part:
        inline = part["inlineData"]
        url = f"data:{inline.get('mimeType')};base64,{in_plain_base64(inline['data'])}"
        yield {"type": "file", "file": {"file_data": url, "filename": inline.get("displayName")}}
    if "fileData" in part:
        yield {"type": "file", "file": {"file_id": part["fileData"]}}


def _is_free(name: str, value: Any) -> bool:
    """Beside a file: how closely it is looked at, up to what a file of its kind is counted with."""
    level = value.get("level") if isinstance(value, dict) else value
    return name == "mediaResolution" and level in _RESOLUTIONS


def native_ceiling(body: Mapping[str, Any], counted: InputCeiling, chat: ChatCall, step: Step) -> Quantities:
    """Raises Unbounded."""
    deployment = step.deployment
    tier, possible = tiers.asked({"service_tier": body.get("serviceTier")}, deployment)
    input_tokens = counted.tokens_for(deployment.litellm_provider, deployment.model)
    cap_tokens, capped_by = chat.output_cap(step, input_tokens)
    searches = sum(_SEARCH in tool for tool in body.get("tools") or ())
    made = [_MADE.get(modality, Meter.OUTPUT) for modality in _modalities(body)]
    most = Quantities(
        input_tokens=input_tokens,
        output_cap_tokens=cap_tokens,
        capped_by=capped_by,
        answers=chat.choices,
        tier=tier,
        tiers=possible,
        units={quantity_name(Meter.SEARCH): Decimal(searches)} if searches else {},
        needs={
            **({"tools": Meter.SEARCH} if searches else {}),
            **{f"{_MODALITIES}[{n}]": meter for n, meter in enumerate(made) if meter is not Meter.OUTPUT},
        },
    )
    unbounded = (
        counted.unbounded_at(deployment.litellm_provider)
        or _paid_tool(body, is_search_bounded=bills_a_grounded_prompt(deployment))
        or _paid_parameter(body)
    )
    if unbounded is not None:
        raise Unbounded(unbounded.param, unbounded.why, most)
    return most


def _modalities(body: Mapping[str, Any]) -> list[str]:
    asked = (body.get("generationConfig") or {}).get("responseModalities") or ()
    return [str(modality).upper() for modality in asked]


def _paid_tool(body: Mapping[str, Any], *, is_search_bounded: bool) -> Unlimited | None:
    for place, tool in enumerate(body.get("tools") or ()):
        for name in tool:
            if name == _DECLARED or (name == _SEARCH and is_search_bounded):
                continue
            why = "a tool that the provider runs itself is billed by its use"
            if name == _SEARCH:
                why = "how often this model would search is not bounded"
            return Unlimited(f"tools[{place}].{name}", why)
    return None


def _paid_parameter(body: Mapping[str, Any]) -> Unlimited | None:
    why = "it is not on the list of parameters that cost nothing more"
    for name in body:
        if name not in _FREE:
            return Unlimited(name, why)
    for name in body.get("generationConfig") or {}:
        if name not in _FREE_CONFIG:
            return Unlimited(f"generationConfig.{name}", why)
    if any(modality not in _MADE for modality in _modalities(body)):
        return Unlimited(_MODALITIES, "what an answer of this kind costs is not known")
    return None
