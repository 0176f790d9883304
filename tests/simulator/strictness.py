"""What each provider of OpenAI's format refuses: written from its pages, not from the gateway's table.

`/p/<flavour>/openai/v1`, or `/p/<flavour>-<anything>/openai/v1`, is answered as strictly as that provider is.
`docs/simulator-rules.md` lists the rules with their sources.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
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
    return (
        _openai_parameters(body)
        or _openai_values(body)
        or _openai_thinker(body)
        or _openai_functions(body)
        or _openai_messages(body)
    )


def _openai_values(body: Body) -> Failure | None:
    """Values beyond a limit."""
    most = next((most for name, most in _OPENAI_MOST_TOKENS.items() if str(body["model"]).startswith(name)), None)
    for name in ("max_tokens", "max_completion_tokens"):
        if most is not None and (cap := body.get(name) or 0) > most:
            text = f"{name} is too large: {cap}. This model supports at most {most} completion tokens, whereas you "
            return _openai(f"{text}provided {cap}.", name, "invalid_value")
    for name in ("user", "safety_identifier", "prompt_cache_key"):
        if isinstance(body.get(name), str) and len(body[name]) > 64:
            return _openai_too_long(name, 64, len(body[name]))
    wanted = body.get("response_format")
    if isinstance(wanted, dict) and wanted.get("type") == "json_object" and "json" not in str(body["messages"]).lower():
        text = "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
        return _openai(text, "messages")
    return None


def _openai_too_long(path: str, longest: int, found: int) -> Failure:
    text = f"Invalid '{path}': string too long. Expected a string with maximum length {longest}, but got a string with "
    return _openai(f"{text}length {found} instead.", path, "string_above_max_length")


def _openai_functions(body: Body) -> Failure | None:
    """The names of functions and the schemas of their parameters; and that some models do not think about them."""
    tools = body.get("tools") or ()
    if len(tools) > 128:
        text = f"Invalid 'tools': array too long. Expected an array with maximum length 128, but got {len(tools)}"
        return _openai(f"{text} instead.", "tools", "array_above_max_length")
    for at, tool in enumerate(tools):
        function, path = tool.get("function") or {}, f"tools[{at}].function"
        if "name" in function and (failure := _openai_name(function["name"], f"{path}.name")):
            return failure
        for problem in _openai_schema(function.get("parameters", {"type": "object", "properties": {}})):
            text = f"Invalid schema for function '{function.get('name')}': {problem}"
            return _openai(text, f"{path}.parameters", "invalid_function_parameters")
    for where, message in _messages(body):
        for number, call in enumerate(message.get("tool_calls") or ()):
            name = (call.get("function") or {}).get("name")
            if name and (failure := _openai_name(name, f"{where}.tool_calls[{number}].function.name")):
                return failure
    return _openai_thought_about_functions(body) if tools else None


def _openai_thought_about_functions(body: Body) -> Failure | None:
    model, effort = str(body["model"]), body.get("reasoning_effort")
    text = f"Function tools with reasoning_effort are not supported for {model} in /v1/chat/completions."
    if re.match(r"gpt-5\.[45]", model) and effort not in (None, "none"):
        return _openai(f"{text} Please use /v1/responses instead.", "reasoning_effort")
    if re.match(r"gpt-5\.[6-9]", model) and effort != "none":
        text += " To use function tools, use /v1/responses or set reasoning_effort to 'none'."
        return _openai(text, "reasoning_effort")
    return None


def _openai_name(name: str, path: str) -> Failure | None:
    if len(name) > 64:
        return _openai_too_long(path, 64, len(name))
    if re.fullmatch(r"[a-zA-Z0-9_-]+", name) is None:
        text = f"Invalid '{path}': string does not match pattern. Expected a string that matches the pattern "
        return _openai(f"{text}'^[a-zA-Z0-9_-]+$'.", path, "invalid_value")
    return None


def _openai_schema(schema: Any, context: tuple[str, ...] = ()) -> Iterator[str]:
    kind = schema.get("type") if isinstance(schema, dict) else None
    if not context and kind != "object":
        yield f"schema must be a JSON Schema of 'type: \"object\"', got 'type: \"{kind}\"'."
    if not isinstance(schema, dict):
        return
    if not context and any(name in schema for name in ("oneOf", "anyOf", "allOf", "enum", "not")):
        yield "schema must have type 'object' and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level."
    if kind == "object" and "properties" not in schema and (not context or "additionalProperties" not in schema):
        yield f"In context={context}, object schema missing properties."
    if kind == "array" and "items" not in schema and "prefixItems" not in schema:
        yield f"In context={context}, array schema missing items."
    for name, value in (schema.get("properties") or {}).items():
        yield from _openai_schema(value, (*context, "properties", name))
    if isinstance(schema.get("items"), dict):
        yield from _openai_schema(schema["items"], (*context, "items"))


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
    effort = body.get("reasoning_effort")
    taken = next(efforts for name, efforts in _OPENAI_EFFORTS.items() if model.startswith(name))
    if effort is not None and effort not in taken:
        named = ", ".join(f"'{word}'" for word in taken[:-1])
        return _openai(
            f"Unsupported value: 'reasoning_effort' does not support '{effort}' with this model. Supported values are: "
            f"{named}, and '{taken[-1]}'.",
            "reasoning_effort",
            "unsupported_value",
        )
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
        parts = message["content"] if isinstance(message.get("content"), list) else ()
        if message["role"] != "user" and any(part["type"] == "image_url" for part in parts):
            text = (
                f"Invalid '{where}'. Image URLs are only allowed for messages with role 'user', but this message with "
            )
            return _openai(f"{text}role '{message['role']}' contains an image URL.", where, "invalid_value")
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


def _unanswered(body: Body) -> list[str]:
    """The ids of calls that have no result right behind the turn that called."""
    waiting: list[str] = []
    for _, message in _messages(body):
        if message["role"] == "tool":
            waiting = [id_ for id_ in waiting if id_ != message.get("tool_call_id")]
        elif waiting:
            break
        else:
            waiting = [call["id"] for call in message.get("tool_calls") or ()]
    return waiting


def answered(body: Body) -> Failure | None:
    """OpenAI's rule of calls and results alone."""
    if missing := _unanswered(body):
        text = "An assistant message with 'tool_calls' must be followed by tool messages responding to each "
        return _openai(
            f"{text}'tool_call_id'. The following tool_call_ids did not have response messages: {', '.join(missing)}",
            "messages",
        )
    return None


def mistral(body: Body) -> Failure | None:
    return _mistral_request(body) or _mistral_order(body)


def _mistral_order(body: Body) -> Failure | None:
    messages = body["messages"]
    for one, other in pairwise(messages):
        roles = (one["role"], other["role"])
        if roles in (("tool", "user"), ("tool", "system"), ("user", "tool"), ("system", "tool")):
            text = f"Unexpected role '{other['role']}' after role '{one['role']}'"
            return _mistral_400(text, "invalid_request_message_order", "3230")
    last = messages[-1]
    if last["role"] == "assistant" and not last.get("prefix"):
        text = "Expected last role User or Tool (or Assistant with prefix True) for serving but got assistant"
        return _mistral_400(text, "invalid_request_error", None)
    return None


def _mistral_400(text: str, kind: str, code: str | None) -> Failure:
    return Failure(400, {"object": "error", "message": text, "type": kind, "param": None, "code": code})


def _mistral_request(body: Body) -> Failure | None:
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
    if path := _odd_call(body):
        return _openai(f"'{path}' : property is unsupported")
    return _groq_values(body) or _groq_request(body)


def _groq_values(body: Body) -> Failure | None:
    effort, model = body.get("reasoning_effort"), str(body["model"])
    taken = ("none", "default") if "qwen" in model else ("low", "medium", "high") if "gpt-oss" in model else None
    if effort is not None and taken is None:
        return _openai("`reasoning_effort` is not supported with this model")
    if effort is not None and taken and effort not in taken:
        return _openai(f"`reasoning_effort` must be one of {', '.join(f'`{word}`' for word in taken)}")
    for name in ("max_tokens", "max_completion_tokens"):
        if (body.get(name) or 0) > 32_768 and "llama" in model:
            text = f"`{name}` must be less than or equal to `32768`, the maximum value for `{name}` is less than the "
            return _openai(f"{text}`context_window` for this model")
    return None


def _groq_request(body: Body) -> Failure | None:
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
    strict = {bool((tool.get("function") or {}).get("strict")) for tool in body.get("tools") or ()}
    if len(strict) > 1:
        text = "Tools with mixed values for 'strict' are not allowed. Please set all tools to 'strict: true' or "
        return _cerebras(f"{text}'strict: false'")
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
        if isinstance(message.get("content"), list):
            text = f"messages[{index}]: invalid type: sequence, expected a string at line 1 column 400"
            return _openai(
                f"Failed to deserialize the JSON body into the target type: {text}", code="invalid_request_error"
            )
        if "content" not in message:
            text = f"messages[{index}]: missing field `content` at line 1 column 400"
            return _openai(
                f"Failed to deserialize the JSON body into the target type: {text}", code="invalid_request_error"
            )
        if message["role"] not in ("system", "user", "assistant", "tool"):
            return _openai(
                "Failed to deserialize the JSON body into the target type: "
                f"messages[{index}].role: unknown variant `{message['role']}`, expected one of `system`, `user`, "
                "`assistant`, `tool` at line 1 column 40",
                code="invalid_request_error",
            )
    if body.get("n") not in (None, 1):
        return _openai("Invalid n value (currently only n = 1 is supported)", code="invalid_request_error")
    most = 8192 if body["model"] == "deepseek-chat" else 393_216
    if (body.get("max_tokens") or 0) > most:
        text = f"Invalid max_tokens value, the valid range of max_tokens is [1, {most}]"
        return _openai(text, code="invalid_request_error")
    if "-v4" in str(body["model"]) and (body.get("thinking") or {}).get("type") != "disabled":
        return _deepseek_thinker(body)
    return None


def _deepseek_thinker(body: Body) -> Failure | None:
    if body.get("tool_choice") not in (None, "auto", "none"):
        return _openai("Thinking mode does not support this tool_choice", code="invalid_request_error")
    called = any(message.get("tool_calls") for _, message in _messages(body))
    turns = [message for _, message in _messages(body) if message["role"] == "assistant"]
    if called and not all(message.get("reasoning_content") for message in turns):
        text = "The `reasoning_content` in the thinking mode must be passed back to the API."
        return _openai(text, code="invalid_request_error")
    return None


def xai(body: Body) -> Failure | None:
    if "grok-4" in str(body["model"]):
        names = ["presence_penalty", "frequency_penalty", "stop"]
        if re.fullmatch(r"grok-4(-0709)?", str(body["model"])):
            names.append("reasoning_effort")
        for name in names:
            if body.get(name) is not None:
                first, *rest = name.split("_")
                camel = first + "".join(part.capitalize() for part in rest)
                text = f"Model {body['model']} does not support parameter {camel}."
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
    if "kimi-k2.5" in str(body["model"]) and (body.get("thinking") or {}).get("type") != "disabled":
        if body.get("tool_choice") not in (None, "auto", "none"):
            return _openai("tool_choice 'specified' is incompatible with thinking enabled")
        for index, (_, message) in enumerate(_messages(body)):
            if message.get("tool_calls") and not message.get("reasoning_content"):
                text = "thinking is enabled but reasoning_content is missing in assistant tool call message at index"
                return _openai(f"{text} {index}")
    return _known_roles(body, "system", "user", "assistant", "tool")


def perplexity(body: Body) -> Failure | None:
    for name in ("stream_options", "tools", "stop", "logprobs", "n"):
        if name in body:
            return Failure(400, {"error": {"message": "Invalid parameter", "type": "invalid_parameter", "code": 400}})
    if not _takes_turns(body):
        text = "After the (optional) system message(s), user or tool message(s) should alternate with assistant "
        return Failure(400, {"error": {"message": f"{text}message(s).", "type": "invalid_message", "code": 400}})
    return _known_roles(body, "system", "user", "assistant", "tool")


def _takes_turns(body: Body) -> bool:
    """Whether the user begins, and each side speaks once. Several results of tools are one side's."""
    roles = [message["role"] for _, message in _messages(body)]
    while roles and roles[0] == "system":
        del roles[0]
    if not roles or roles[0] != "user" or "system" in roles:
        return False
    return all(
        (one == "assistant") is not (other == "assistant") or one == other == "tool" for one, other in pairwise(roles)
    )


def qwen(body: Body) -> Failure | None:
    """The template of Qwen 3.5 and 3.6, as vLLM answers for it; DashScope for models that think."""
    if any(message["role"] == "system" for _, message in [*_messages(body)][1:]):
        return _vllm("System message must be at the beginning.")
    if body.get("stream") is not True and "thinking" in str(body["model"]) and body.get("enable_thinking") is not False:
        return _openai("parameter.enable_thinking must be set to false for non-streaming calls")
    return None


def gemma(body: Body) -> Failure | None:
    """The template of Gemma 3, as vLLM answers for it; and a window of 32,768 tokens."""
    if not _takes_turns(body) or sum(message["role"] == "system" for _, message in _messages(body)) > 1:
        return _vllm("Conversation roles must alternate user/assistant/user/assistant/...")
    if (cap := body.get("max_tokens") or 0) > 32_000:
        text = f"'max_tokens' or 'max_completion_tokens' is too large: {cap}. This model's maximum context length is "
        return _vllm(f"{text}32768 tokens and your request has 768 input tokens ({cap} > 32768 - 768).")
    return None


def _vllm(text: str) -> Failure:
    return Failure(400, {"error": {"message": text, "type": "BadRequestError", "param": None, "code": 400}})


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
    "answered": answered,
    "qwen": qwen,
    "gemma": gemma,
}

_OPENAI_MOST_TOKENS = {"gpt-4o": 16_384, "gpt-4.1": 32_768, "gpt-5": 128_000, "o3": 100_000}
_OPENAI_EFFORTS = {
    "gpt-5.1": ("none", "low", "medium", "high"),
    "gpt-5.": ("none", "low", "medium", "high", "xhigh"),
    "gpt-5": ("minimal", "low", "medium", "high"),
    "o": ("low", "medium", "high"),
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


def _odd_call(body: Body) -> str | None:
    """The path of a field of a call that OpenAI's format has not."""
    for where, message in _messages(body):
        for number, call in enumerate(message.get("tool_calls") or ()):
            for name in call.keys() - {"id", "type", "function", "custom"}:
                return f"{where}.tool_calls[{number}].{name}"
    return None


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
