"""Whether the installed litellm is one that we can call.

litellm's inside changes from one release to the next, without a word in its version. This is looked at when the server
starts: here stands what we call of it, and with which arguments. What a signature cannot tell is found by
:func:`routing.upstreams.warming.warm_translation`, which translates a request and an answer.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from routing.upstreams import litellm_import
from routing.upstreams.formats.parameters import ANTHROPIC_PARAMETERS, GEMINI_PARAMETERS, PARAMETERS


class LitellmMisfit(Exception):
    """The installed litellm is not one that this gateway can call. The message is for whoever installs it."""

    def __init__(self, reasons: Iterable[str]) -> None:
        try:
            installed = version("litellm")
        except PackageNotFoundError:
            installed = "of an unknown version"
        super().__init__(
            f"litellm {installed} does not fit this gateway: {'; '.join(reasons)}. Install the version that "
            "requirements.txt names (pip install -r requirements.txt), or change routing/upstreams/ to fit this one."
        )


@dataclass(frozen=True, slots=True)
class Call:
    """A function, method or class of litellm, and the names of the arguments that we give it."""

    where: str  # "module:attribute.attribute"
    always: tuple[str, ...] = ()
    sometimes: tuple[str, ...] = ()


_HANDLERS: Final = "litellm.llms.custom_httpx.http_handler"
_BASE_CONFIG: Final = "litellm.llms.base_llm.base_utils"
_BETA: Final = "litellm.anthropic_beta_headers_manager"
_ANTHROPIC: Final = "litellm.llms.anthropic.chat"
_VERTEX: Final = "litellm.llms.vertex_ai"

_TRANSFORM_RESPONSE: Final = (
    "model",
    "raw_response",
    "model_response",
    "logging_obj",
    "optional_params",
    "litellm_params",
    "api_key",
    "request_data",
    "messages",
    "encoding",
)

CALLS: Final = (
    # both formats
    Call(f"{_HANDLERS}:HTTPHandler.create_client"),
    Call(f"{_HANDLERS}:get_ssl_configuration"),
    Call(f"{_HANDLERS}:blocked_cookie_jar"),
    Call("litellm.utils:validate_and_fix_openai_messages", ("messages",)),
    Call(f"{_BASE_CONFIG}:map_developer_role_to_system_role", ("messages",)),
    Call("litellm.utils:validate_chat_completion_tool_choice", ("tool_choice", "model")),
    Call("litellm.utils:validate_openai_optional_params", ("stop",)),
    Call("litellm.utils:validate_and_fix_thinking_param", ("thinking",)),
    Call(
        "litellm.utils:get_optional_params",
        ("model", "custom_llm_provider", "messages"),
        ("stream", *dict.fromkeys((*ANTHROPIC_PARAMETERS, *GEMINI_PARAMETERS))),
    ),
    Call("litellm:ModelResponse"),
    # Anthropic
    Call("litellm.utils:ProviderConfigManager.get_provider_chat_config", ("model", "provider")),
    Call("litellm:AnthropicConfig"),
    Call("litellm:AnthropicConfig.is_adaptive_thinking_model", ("model", "custom_llm_provider")),
    Call("litellm:AnthropicConfig._is_always_on_thinking_model", ("model", "custom_llm_provider")),
    Call("litellm:AnthropicConfig.validate_effort_for_model", ("model", "effort", "custom_llm_provider")),
    Call(
        "litellm:AnthropicConfig.validate_environment",
        ("api_key", "headers", "model", "messages", "optional_params", "litellm_params", "api_base"),
    ),
    Call(
        "litellm:AnthropicConfig.transform_request",
        ("model", "messages", "optional_params", "litellm_params", "headers"),
    ),
    Call("litellm:AnthropicConfig.transform_response", (*_TRANSFORM_RESPONSE, "json_mode")),
    Call(f"{_BETA}:update_request_with_filtered_beta", ("headers", "request_data", "provider")),
    Call(
        f"{_ANTHROPIC}.handler:ModelResponseIterator",
        ("streaming_response", "sync_stream", "json_mode", "speed", "tool_name_reverse_map"),
    ),
    Call(f"{_ANTHROPIC}.handler:ModelResponseIterator.chunk_parser", ("chunk",)),
    # Gemini
    Call("litellm:VertexGeminiConfig"),
    Call("litellm:VertexGeminiConfig.transform_response", _TRANSFORM_RESPONSE),
    Call(f"{_VERTEX}.common_utils:get_gemini_url", ("mode", "model", "stream")),
    Call(
        f"{_VERTEX}.gemini.transformation:transform_request_body",
        ("messages", "model", "optional_params", "custom_llm_provider", "litellm_params", "cached_content"),
    ),
    Call(
        f"{_VERTEX}.gemini.vertex_and_google_ai_studio_gemini:ModelResponseIterator",
        ("streaming_response", "sync_stream", "logging_obj", "response_headers"),
    ),
    Call(f"{_VERTEX}.gemini.vertex_and_google_ai_studio_gemini:ModelResponseIterator.chunk_parser", ("chunk",)),
    # all other providers, and what is counted and priced
    Call(
        "litellm:completion",
        (
            *("model", "custom_llm_provider", "api_key", "api_base", "api_version", "timeout"),
            *("num_retries", "max_retries", "_skip_mcp_handler", "messages"),
        ),
        ("stream", "stream_options", *PARAMETERS),
    ),
    Call("litellm:token_counter", ("model",), ("text", "messages", "tools", "use_default_image_token_count")),
)

#: What we read without calling it, or put something in the place of.
VALUES: Final = (
    "litellm:AnthropicConfig._is_adaptive_thinking_model",
    "litellm:LlmProviders",
    "litellm:model_cost",
    "litellm:provider_list",
    f"{_ANTHROPIC}.transformation:ANTHROPIC_TOOL_NAME_REVERSE_MAP_KEY",
    f"{_VERTEX}.common_utils:GEMINI_FILES_API_URI_PREFIX",
    "litellm.exceptions:ContextWindowExceededError",
    "litellm.exceptions:ContentPolicyViolationError",
    "litellm.exceptions:LiteLLMUnknownProvider",
    "litellm.exceptions:Timeout",
    "litellm.exceptions:APIResponseValidationError",
    "litellm.exceptions:APIConnectionError",
)


def check(calls: Iterable[Call] = CALLS, values: Iterable[str] = VALUES) -> None:
    """Raises LitellmMisfit, which names everything that is missing or wants other arguments."""
    with contextlib.suppress(ImportError):  # what is missing is named below
        litellm_import.load()  # first of all: unless it is told otherwise, litellm's import goes to the network
    reasons = [reason for call in calls for reason in _reasons(call)]
    reasons += [f"{_spoken(where)} is missing" for where in values if _found(where) is None]
    if reasons:
        raise LitellmMisfit(reasons)


def _reasons(call: Call) -> Iterator[str]:
    found = _found(call.where)
    if found is None:
        yield f"{_spoken(call.where)} is missing"
        return
    target, is_method = found
    try:
        parameters = list(inspect.signature(target).parameters.values())[1 if is_method else 0 :]
    except (TypeError, ValueError):
        yield f"{_spoken(call.where)} cannot be called"
        return
    named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    needed = [each.name for each in named if each.default is each.empty and each.name not in call.always]
    needed += [each.name for each in parameters if each.kind is each.POSITIONAL_ONLY and each.default is each.empty]
    if needed:
        yield f"{_spoken(call.where)} needs {', '.join(needed)}"
    if not any(each.kind is each.VAR_KEYWORD for each in parameters):
        taken = {each.name for each in named}
        refused = [name for name in (*call.always, *call.sometimes) if name not in taken]
        if refused:
            yield f"{_spoken(call.where)} does not take {', '.join(refused)}"


def _found(where: str) -> tuple[Any, bool] | None:
    """What stands there, and whether it is a method that is given its object first. None: nothing does."""
    module, _, path = where.partition(":")
    owner: Any = None
    try:
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            owner, found = found, getattr(found, name)
    except (ImportError, AttributeError):
        return None
    return found, inspect.isclass(owner) and inspect.isfunction(inspect.getattr_static(owner, path.split(".")[-1]))


def _spoken(where: str) -> str:
    return where.replace(":", ".")
