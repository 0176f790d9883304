"""What each provider of OpenAI's format refuses: written from its pages, not from the gateway's table.

`/p/<flavour>/openai/v1`, or `/p/<flavour>-<anything>/openai/v1`, is answered as strictly as that provider is.
`docs/simulator-rules.md` lists the rules with their sources.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.simulator.wire_format import Failure

Body = Mapping[str, Any]
Rule = Callable[[Body], Failure | None]


def refuse(provider: str, body: Body) -> Failure | None:
    """The refusal of the provider that this name stands for; None when it would answer, or is not one of these."""
    rule = RULES.get(provider) or RULES.get(provider.partition("-")[0])
    return rule(body) if rule else None


def ignores_new_cap(provider: str) -> bool:
    """Whether the server reads `max_tokens` alone, and answers without a cap to whoever sends the other name."""
    return provider.partition("-")[0] in _DEAF


_DEAF = frozenset({"lmstudio", "ollama", "deepseek", "llamacpp"})
_ONLY_LITELLM_OR_ANTHROPIC = ("cache_control", "provider_specific_fields", "thinking_blocks")


# --- one a provider ---------------------------------------------------------------------------------------------


def openai(body: Body) -> Failure | None:
    return _openai_parameters(body) or _openai_thinker(body) or _openai_messages(body)


def _openai_parameters(body: Body) -> Failure | None:
    for name in _OTHERS_PARAMETERS:
        if name in body:
            return _openai(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    if "max_tokens" in body and "max_completion_tokens" in body:
        return _openai("Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.")
    if body.get("metadata") is not None and body.get("store") is not True:
        return _openai("The 'metadata' parameter is only allowed when 'store' is enabled.", "metadata")
    if body.get("top_logprobs") is not None and body.get("logprobs") is not True:
        return _openai("The 'top_logprobs' parameter is only allowed when 'logprobs' is enabled.", "top_logprobs")
    return _openai_lists(body)


def _openai_lists(body: Body) -> Failure | None:
    """Lists with nothing in them or with too much, and what goes with a list alone."""
    for name in ("tools", "functions", "stop"):
        if body.get(name) == []:
            text = f"Invalid '{name}': empty array. Expected an array with minimum length 1, but got an empty array."
            return _openai(text, name, "empty_array")
    for name, of in (("tool_choice", "tools"), ("parallel_tool_calls", "tools"), ("function_call", "functions")):
        if body.get(name) is not None and not body.get(of):
            return _openai(f"Invalid value for '{name}': '{name}' is only allowed when '{of}' are specified.", name)
    words = body.get("stop")
    if isinstance(words, list) and len(words) > 4:
        text = f"Invalid 'stop': array too long. Expected an array with maximum length 4, but got {len(words)} instead."
        return _openai(text, "stop", "array_above_max_length")
    return None


def _openai_thinker(body: Body) -> Failure | None:
    """The models that reason, and what only they take."""
    model = str(body["model"])
    if not re.match(r"o\d|gpt-5", model):
        if body.get("reasoning_effort") is not None and model.startswith("gpt-4"):
            return _openai("Unrecognized request argument supplied: reasoning_effort")
        return None
    if body.get("temperature") not in (None, 1) and body.get("reasoning_effort") != "none":
        return _openai(
            f"Unsupported value: 'temperature' does not support {body['temperature']} with this model. Only the "
            "default (1) value is supported.",
            "temperature",
            "unsupported_value",
        )
    names = ["presence_penalty", "frequency_penalty"]
    if model.startswith("gpt-5"):
        names += ["stop", "logit_bias", "prediction"]
    for name in names:
        if body.get(name) is not None:
            return _openai(
                f"Unsupported parameter: '{name}' is not supported with this model.", name, "unsupported_parameter"
            )
    return None


def _openai_messages(body: Body) -> Failure | None:
    for where, message in _messages(body):
        if _in_parts(message, "cache_control"):
            path = f"{where}.content[0].cache_control"
            return _openai(f"Unknown parameter: '{path}'.", path, "unknown_parameter")
        for number, part in enumerate(message["content"] if isinstance(message.get("content"), list) else ()):
            if part["type"] not in ("text", "image_url", "input_audio", "file", "refusal"):
                path = f"{where}.content[{number}].type"
                return _openai(f"Invalid value: '{part['type']}'.", path, "invalid_value")
        if message.get("tool_calls") == []:
            return _openai(f"Invalid '{where}.tool_calls': empty array.", f"{where}.tool_calls", "empty_array")
        for path, id_ in _call_ids(where, message):
            if len(id_) > 40:
                return _openai(
                    f"Invalid '{path}': string too long. Expected a string with maximum length 40, but got a string "
                    f"with length {len(id_)} instead.",
                    path,
                    "string_above_max_length",
                )
    return None


def mistral(body: Body) -> Failure | None:
    for name in body:
        if name not in _MISTRAL_PARAMETERS:
            return _mistral_extra(name)
    if (body.get("temperature") or 0) > 1.5:
        return _mistral_422("less_than_equal", ("temperature",), "Input should be less than or equal to 1.5")
    for index, (_, message) in enumerate(_messages(body)):
        role = message["role"]
        if role not in _MISTRAL_FIELDS:
            return _mistral_422(
                "union_tag_invalid",
                ("messages", index),
                f"Input tag '{role}' found using 'role' does not match any of the expected tags: 'assistant', "
                "'system', 'tool', 'user'",
            )
        for name in message:
            if name not in _MISTRAL_FIELDS[role]:
                return _mistral_extra("messages", index, role, name)
        if role == "assistant" and not message.get("content") and not message.get("tool_calls"):
            text = "Assistant message must have either content or tool_calls, but not none."
            return Failure(
                400,
                {"object": "error", "message": text, "type": "invalid_request_error", "param": None, "code": "3240"},
            )
        for _, id_ in _call_ids("", message):
            if re.fullmatch(r"[a-zA-Z0-9]{9}", id_) is None:
                text = f"Tool call id was {id_} but must be a-z, A-Z, 0-9, with a length of 9."
                return Failure(
                    400,
                    {
                        "object": "error",
                        "message": text,
                        "type": "invalid_function_call",
                        "param": None,
                        "code": "3280",
                    },
                )
    return None


def groq(body: Body) -> Failure | None:
    for name in ("logprobs", "logit_bias", "top_logprobs"):
        if body.get(name) is not None:
            return _openai(f"property '{name}' is not supported with this model", name)
    if body.get("n") not in (None, 1):
        return _openai("'n' : number must be at most 1")
    if body.get("service_tier") not in (None, "auto", "on_demand", "flex", "performance"):
        return _openai("'service_tier' : value must be one of [auto, on_demand, flex, performance]")
    for name in (*_OTHERS_PARAMETERS, "store", "verbosity", "prediction", "metadata", "web_search_options"):
        if name in body:
            return _openai(f"property '{name}' is unsupported")
    for index, (_, message) in enumerate(_messages(body)):
        unsupported = (*_ONLY_LITELLM_OR_ANTHROPIC, "reasoning_content", "refusal", "annotations", "audio", "name")
        for name in unsupported:
            if name in message or _in_parts(message, name):
                return _openai(
                    f"'messages.{index}' : for 'role:{message['role']}' the following must be satisfied"
                    f"[('messages.{index}' : property '{name}' is unsupported)]"
                )
    return _known_roles(body, "system", "user", "assistant", "tool", "function")


def cerebras(body: Body) -> Failure | None:
    for name in (
        *("frequency_penalty", "logit_bias", "presence_penalty", "parallel_tool_calls", "service_tier"),
        *("store", "verbosity", "prediction", "metadata", *_OTHERS_PARAMETERS),
    ):
        if name in body:
            return _cerebras(f"body.{name}: property 'body.{name}' is unsupported")
    for index, (_, message) in enumerate(_messages(body)):
        for name in (*_ONLY_LITELLM_OR_ANTHROPIC, "reasoning_content"):
            if name in message or _in_parts(message, name):
                path = f"messages.{index}.{message['role']}.{name}"
                return _cerebras(f"{path}: property '{path}' is unsupported")
    return _known_roles(body, "system", "user", "assistant", "tool")


def deepseek(body: Body) -> Failure | None:
    for index, (_, message) in enumerate(_messages(body)):
        if message["role"] not in ("system", "user", "assistant", "tool"):
            return _openai(
                "Failed to deserialize the JSON body into the target type: "
                f"messages[{index}].role: unknown variant `{message['role']}`, expected one of `system`, `user`, "
                "`assistant`, `tool` at line 1 column 40",
                code="invalid_request_error",
            )
    if body.get("n") not in (None, 1):
        return _openai("Invalid n value (currently only n = 1 is supported)", code="invalid_request_error")
    return None


def xai(body: Body) -> Failure | None:
    if "grok-4" in str(body["model"]):
        names = ["presence_penalty", "frequency_penalty", "stop"]
        if re.fullmatch(r"grok-4(-0709)?", str(body["model"])):
            names.append("reasoning_effort")
        for name in names:
            if body.get(name) is not None:
                text = f"Argument not supported on this model: {name}"
                return Failure(400, {"code": "Client specified an invalid argument", "error": text})
    for _, message in _messages(body):
        if message.get("name") is not None and message["role"] != "user":
            text = 'Only messages of role "user" can have a name.'
            return Failure(400, {"code": "Client specified an invalid argument", "error": text})
    return None


def moonshot(body: Body) -> Failure | None:
    if body.get("temperature") is not None:
        if "kimi-k2.5" in str(body["model"]) and body["temperature"] != 1:
            return _openai("invalid temperature: only 1 is allowed for this model")
        if body["temperature"] > 1:
            return _openai("invalid temperature: must be between 0 and 1")
    return _known_roles(body, "system", "user", "assistant", "tool")


def perplexity(body: Body) -> Failure | None:
    for name in ("stream_options", "tools", "stop", "logprobs", "n"):
        if name in body:
            return Failure(400, {"error": {"message": "Invalid parameter", "type": "invalid_parameter", "code": 400}})
    return _known_roles(body, "system", "user", "assistant", "tool")


def old_server(body: Body) -> Failure | None:
    """A server of the time when `stream_options` and `max_completion_tokens` were new, and strict."""
    for name in ("stream_options", "max_completion_tokens", "store"):
        if name in body:
            return Failure(
                400,
                {
                    "object": "error",
                    "message": f"[{{'type': 'extra_forbidden', 'loc': ('body', '{name}'), "
                    "'msg': 'Extra inputs are not permitted'}]",
                    "type": "BadRequestError",
                    "param": None,
                    "code": 400,
                },
            )
    return None


RULES: Mapping[str, Rule] = {
    "openai": openai,
    "mistral": mistral,
    "groq": groq,
    "cerebras": cerebras,
    "deepseek": deepseek,
    "xai": xai,
    "moonshot": moonshot,
    "perplexity": perplexity,
    "oldserver": old_server,
}

_OTHERS_PARAMETERS = (
    *("thinking", "top_k", "safety_settings", "cached_content", "mcp_servers", "context_management"),
    *("reasoning", "provider", "repetition_penalty", "min_p", "chat_template_kwargs"),
)
_MISTRAL_PARAMETERS = frozenset(
    {
        *("model", "messages", "temperature", "top_p", "max_tokens", "stream", "stop", "random_seed"),
        *("response_format", "tools", "tool_choice", "presence_penalty", "frequency_penalty", "n"),
        *("parallel_tool_calls", "prompt_mode", "reasoning_effort", "safe_prompt"),
    }
)
_MISTRAL_FIELDS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls", "prefix"},
    "tool": {"role", "content", "tool_call_id", "name"},
}


def _messages(body: Body) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, message in enumerate(body["messages"]):
        yield f"messages[{index}]", message


def _in_parts(message: Mapping[str, Any], name: str) -> bool:
    content = message.get("content")
    return isinstance(content, list) and any(name in part for part in content)


def _call_ids(where: str, message: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for number, call in enumerate(message.get("tool_calls") or ()):
        yield f"{where}.tool_calls[{number}].id", call["id"]
    if "tool_call_id" in message:
        yield f"{where}.tool_call_id", message["tool_call_id"]


def _known_roles(body: Body, *roles: str) -> Failure | None:
    for index, (_, message) in enumerate(_messages(body)):
        if message["role"] not in roles:
            return _openai(f"messages[{index}].role: '{message['role']}' is not one of {', '.join(roles)}")
    return None


def _openai(message: str, param: str | None = None, code: str | None = None) -> Failure:
    return Failure(400, {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}})


def _cerebras(message: str) -> Failure:
    body = {
        "message": message,
        "type": "invalid_request_error",
        "param": "validation_error",
        "code": "wrong_api_format",
    }
    return Failure(400, body)


def _mistral_extra(*path: str | int) -> Failure:
    return _mistral_422("extra_forbidden", path, "Extra inputs are not permitted")


def _mistral_422(kind: str, path: tuple[str | int, ...], message: str) -> Failure:
    detail = [{"type": kind, "loc": ["body", *path], "msg": message, "input": None}]
    return Failure(
        422,
        {
            "object": "error",
            "message": {"detail": detail},
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        },
    )
