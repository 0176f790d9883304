"""Google's Gemini API (AI Studio, v1beta): generateContent and streamGenerateContent.

Field names are accepted in camelCase and in snake_case, as Google's JSON mapping of protocol buffers does.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.simulator import gemini_rules
from tests.simulator.behaviour import Behaviour, Problem, ToolCall, Usage
from tests.simulator.model import Answer, Choice, fresh_id
from tests.simulator.prompt import Prompt, Tool, count
from tests.simulator.wire_format import Asked, Event, Failure, compact, html_page, retry_after

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAME = "gemini"
STREAM_TYPE = "text/event-stream"
_IMAGE_TOKENS = 258
_FINISH_REASONS = {"stop": "STOP", "length": "MAX_TOKENS", "tool_calls": "STOP", "content_filter": "SAFETY"}
_FIELDS = frozenset(
    [
        "contents",
        "tools",
        "toolConfig",
        "safetySettings",
        "systemInstruction",
        "generationConfig",
        "cachedContent",
        "model",
        "labels",
        "serviceTier",
    ]
)
_NO_THINKING = ("none", "minimal")


# --- reading -------------------------------------------------------------------------------------


def refuse_key(asked: Asked) -> Failure | None:
    if asked.headers.get("x-goog-api-key") or asked.query.get("key"):
        return None
    return _error(
        403,
        "PERMISSION_DENIED",
        "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or "
        "other form of API consumer identity to call this API.",
    )


def refuse(asked: Asked) -> Failure | None:
    if refusal := refuse_key(asked):
        return refusal
    for name in asked.body:
        if _camel(name) not in _FIELDS:
            message = f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
            violations = [{"description": message}]
            return invalid(
                message,
                {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": violations},
            )
    contents = asked.body.get("contents")
    if not contents:
        return invalid("* GenerateContentRequest.contents: contents is not specified\n")
    if not isinstance(contents, list):
        contents = [contents]
    for index, content in enumerate(contents):
        if content.get("role", "user") not in ("user", "model"):
            return invalid("Please use a valid role: user, model.")
        if not content.get("parts"):
            return invalid(f"* GenerateContentRequest.contents[{index}].parts: contents.parts must not be empty.\n")
    config = _get(asked.body, "generationConfig") or {}
    wanted = _get(config, "candidateCount")
    if wanted is not None and not 1 <= wanted <= 8:
        return invalid(
            f"* GenerateContentRequest.generation_config.candidate_count: candidate_count must be in the range [1, 8]: "
            f"{wanted}\n"
        )
    broken = gemini_rules.broken(asked.body, asked.model)
    return invalid(broken) if broken else None


def read(asked: Asked) -> Prompt:
    body = asked.body
    contents = body["contents"] if isinstance(body["contents"], list) else [body["contents"]]
    config = _get(body, "generationConfig") or {}
    images, tokens = 0, 0
    system = (_get(body, "systemInstruction") or {}).get("parts") or []
    for part in [*(part for content in contents for part in content["parts"]), *_listed(system)]:
        media = _get(part, "inlineData") or _get(part, "fileData")
        if media:
            images += 1
        else:
            tokens += count(part["text"]) if "text" in part else count(part)
    declared = [
        declaration for tool in body.get("tools") or () for declaration in _get(tool, "functionDeclarations") or ()
    ]
    tokens += sum(count(declaration) for declaration in declared)
    tools = tuple(Tool(d["name"], d.get("parameters") or _get(d, "parametersJsonSchema") or {}) for d in declared)
    calling = _get(_get(body, "toolConfig") or {}, "functionCallingConfig") or {}
    allowed = _get(calling, "allowedFunctionNames") or []
    mode = str(calling.get("mode", "AUTO")).upper()
    thinking = _get(config, "thinkingConfig") or {}
    budget, level = _get(thinking, "thinkingBudget"), _get(thinking, "thinkingLevel")
    last = contents[-1]
    results = [_get(p, "functionResponse") for p in last["parts"] if _get(p, "functionResponse")]
    forced = (allowed[0] if allowed else "") if mode == "ANY" else None
    schema = _get(config, "responseSchema") or _get(config, "responseJsonSchema")
    if schema is None and _get(config, "responseMimeType") == "application/json":
        schema = {"type": "object", "properties": {"answer": {"type": "string"}}}
    return Prompt(
        model=asked.model,
        streamed=asked.streamed,
        input_tokens=tokens + images * _IMAGE_TOKENS,
        user_text=next(
            (t for c in reversed(contents) if c.get("role", "user") == "user" and (t := _text(c["parts"]))),
            "",
        ),
        prefill=_text(last["parts"]) if last.get("role") == "model" else None,
        tool_result="; ".join(_result_text(result) for result in results) if results else None,
        tools=tools,
        forced_tool=None if results and not allowed else forced,
        tools_allowed=mode != "NONE",
        max_tokens=_get(config, "maxOutputTokens"),
        answers=_get(config, "candidateCount") or 1,
        stop=tuple(_get(config, "stopSequences") or ()),
        json_schema=schema,
        reasons=bool(budget) or (level is not None and str(level).lower() not in _NO_THINKING),
        shows_reasoning=bool(_get(thinking, "includeThoughts")),
        images=images,
        image_tokens=images * _IMAGE_TOKENS,
    )


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _get(data: Mapping[str, Any], camel: str) -> Any:
    if camel in data:
        return data[camel]
    return data.get("".join(f"_{c.lower()}" if c.isupper() else c for c in camel))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _text(parts: Any) -> str:
    return " ".join(part["text"] for part in _listed(parts) if part.get("text") and not part.get("thought"))


def _result_text(result: Mapping[str, Any]) -> str:
    response = result.get("response") or {}
    for key in ("output", "result", "content"):
        if isinstance(response.get(key), str):
            return str(response[key])
    return json.dumps(response, ensure_ascii=False)


# --- answering -----------------------------------------------------------------------------------


def headers() -> dict[str, str]:
    return {
        "Server": "scaffolding on HTTPServer2",
        "X-XSS-Protection": "0",
        "X-Frame-Options": "SAMEORIGIN",
        "Server-Timing": "gfet4t7; dur=7",
        "Vary": "Origin",
    }


def whole(prompt: Prompt, answer: Answer) -> dict[str, Any]:
    candidates = []
    for index, choice in enumerate(answer.choices):
        parts = [{"text": "".join(answer.reasoning), "thought": True}] if _shown(prompt, answer) else []
        if choice.tokens:
            parts.append({"text": choice.text})
        parts.extend(_call_part(call) for call in choice.tool_calls if _complete(call))
        candidates.append(_candidate(index, parts, choice))
    return _response(prompt, candidates, answer.usage, fresh_id("", 22))


def events(prompt: Prompt, answer: Answer) -> Iterator[Event]:
    response_id = fresh_id("", 22)
    input_only = None
    if answer.usage:  # until the last event only the input is counted
        input_only = Usage(
            input_tokens=answer.usage.input_tokens,
            cached_tokens=answer.usage.cached_tokens,
            image_input_tokens=answer.usage.image_input_tokens,
        )

    def event(candidate: dict[str, Any], usage: Usage | None, token: bool) -> Event:
        return Event(_data(_response(prompt, [candidate], usage, response_id)), token)

    if _shown(prompt, answer):
        for token in answer.reasoning:
            yield event(_candidate(0, [{"text": token, "thought": True}]), input_only, True)
    for index, choice in enumerate(answer.choices):
        final = index == len(answer.choices) - 1
        parts: list[dict[str, Any]] = [{"text": token} for token in choice.tokens]
        parts.extend(_call_part(call) for call in choice.tool_calls if _complete(call))
        for part in parts[:-1]:
            yield event(_candidate(index, [part]), input_only, True)
        # The last content comes with the finish reason and the counts: there is no event after it.
        yield event(_candidate(index, parts[-1:], choice), answer.usage if final else input_only, bool(parts))


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + compact(value) + b"\r\n\r\n"


def _shown(prompt: Prompt, answer: Answer) -> bool:
    return bool(answer.reasoning) and (prompt.shows_reasoning or answer.reasoning_scripted)


def _complete(call: ToolCall) -> bool:
    try:
        json.loads(call.arguments)
    except ValueError:  # cut by the token limit; Gemini has no half calls
        return False
    return True


def _call_part(call: ToolCall) -> dict[str, Any]:
    arguments = json.loads(call.arguments)  # protocol buffers leave out what is empty
    return {"functionCall": {"name": call.name, **({"args": arguments} if arguments else {})}}


def _candidate(index: int, parts: list[dict[str, Any]], choice: Choice | None = None) -> dict[str, Any]:
    content: dict[str, Any] = {"parts": parts, "role": "model"} if parts else {"role": "model"}
    found: dict[str, Any] = {"content": content}
    if choice:
        found["finishReason"] = choice.end or _FINISH_REASONS[choice.finish]
    found["index"] = index
    if choice and choice.finish == "content_filter":
        found["safetyRatings"] = [
            {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": True}
        ]
    return found


def _response(
    prompt: Prompt, candidates: list[dict[str, Any]], usage: Usage | None, response_id: str
) -> dict[str, Any]:
    found: dict[str, Any] = {"candidates": candidates}
    if usage:
        found["usageMetadata"] = _usage(usage)
    return found | {"modelVersion": prompt.model, "responseId": response_id}


def _usage(usage: Usage) -> dict[str, Any]:
    modalities = {
        "TEXT": usage.input_tokens - usage.image_input_tokens - usage.audio_input_tokens,
        "IMAGE": usage.image_input_tokens,
        "AUDIO": usage.audio_input_tokens,
    }
    found: dict[str, Any] = {"promptTokenCount": usage.input_tokens}
    if usage.output_tokens:
        found["candidatesTokenCount"] = usage.output_tokens - usage.reasoning_tokens
    found["totalTokenCount"] = usage.input_tokens + usage.output_tokens
    if usage.cached_tokens:
        found["cachedContentTokenCount"] = usage.cached_tokens
    found["promptTokensDetails"] = [
        {"modality": name, "tokenCount": number} for name, number in modalities.items() if number
    ]
    if usage.cached_tokens:
        found["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": usage.cached_tokens}]
    if usage.reasoning_tokens:
        found["thoughtsTokenCount"] = usage.reasoning_tokens
    return found


# --- failing -------------------------------------------------------------------------------------


def not_json() -> Failure:
    return invalid("Invalid JSON payload received. Unexpected token.\n\n^")


def failure(  # noqa: C901, PLR0912 - one case a problem reads best in one place
    problem: Problem, prompt: Prompt, behaviour: Behaviour
) -> Failure:
    model = prompt.model
    match problem:
        case "rate_limited" | "insufficient_quota":
            metric = "generativelanguage.googleapis.com/generate_content_paid_tier_input_token_count"
            violation = {
                "quotaMetric": metric,
                "quotaId": "GenerateContentPaidTierInputTokensPerModelPerMinute",
                "quotaDimensions": {"location": "global", "model": model},
                "quotaValue": "1000000",
            }
            details: list[dict[str, Any]] = [
                {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}
            ]
            if behaviour.retry_after_s is not None:
                delay = f"{behaviour.retry_after_s:g}s"
                details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
            return _error(
                429,
                "RESOURCE_EXHAUSTED",
                "You exceeded your current quota, please check your plan and billing details. For more information on "
                "this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits.",
                *details,
                headers=retry_after(behaviour),
            )
        case "server_error":
            return _error(
                500,
                "INTERNAL",
                "An internal error has occurred. Please retry or report in "
                "https://developers.generativeai.google/guide/troubleshooting",
            )
        case "unavailable" | "overloaded":
            return _error(
                503,
                "UNAVAILABLE",
                "The model is overloaded. Please try again later.",
                headers=retry_after(behaviour),
            )
        case "bad_gateway":
            return html_page(502, "Bad Gateway")
        case "gateway_timeout":
            return _error(504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete.")
        case "context_length_exceeded":
            return invalid(
                f"The input token count ({1048576 + prompt.input_tokens}) exceeds the maximum number of tokens allowed "
                "(1048576)."
            )
        case "content_filtered":
            blocked: dict[str, Any] = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
            if behaviour.report_usage:
                blocked["usageMetadata"] = _usage(Usage(input_tokens=prompt.input_tokens))
            return Failure(200, blocked | {"modelVersion": model, "responseId": fresh_id("", 22)})
        case "invalid_key":
            return invalid(
                "API key not valid. Please pass a valid API key.",
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "API_KEY_INVALID",
                    "domain": "googleapis.com",
                    "metadata": {"service": "generativelanguage.googleapis.com"},
                },
            )
        case "permission_denied":
            return _error(403, "PERMISSION_DENIED", "The caller does not have permission")
        case "model_not_found":
            return _error(
                404,
                "NOT_FOUND",
                f"models/{model} is not found for API version v1beta, or is not supported for generateContent. Call "
                "ListModels to see the list of available models and their supported methods.",
            )
        case "request_too_large":
            return invalid("Request payload size exceeds the limit: 20971520 bytes.")
        case "prefill_refused":
            return invalid(
                "Please ensure that the conversation ends with a user role: the last content has role 'model'."
            )


def failure_event(failure: Failure) -> bytes:
    return b"data: " + compact(failure.body) + b"\r\n\r\n"


def invalid(message: str, *details: dict[str, Any]) -> Failure:
    return _error(400, "INVALID_ARGUMENT", message, *details)


def _error(
    code: int,
    status: str,
    message: str,
    *details: dict[str, Any],
    headers: Mapping[str, str] | None = None,
) -> Failure:
    error: dict[str, Any] = {"code": code, "message": message, "status": status}
    if details:
        error["details"] = list(details)
    return Failure(code, {"error": error}, headers or {})
