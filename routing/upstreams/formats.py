"""Anthropic's and Gemini's wire formats, by litellm's own provider classes.

For each: what `litellm.completion()` does to a request before it sends it, and with the answer after it has come, as
litellm's handlers do it (`llms/anthropic/chat/handler.py`, `llms/vertex_ai/gemini/…`), without its HTTP clients, its
logging, its callbacks and its cost calculation. tests/wire/test_equivalence.py holds both against each other.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from types import MappingProxyType
from typing import Any, Final, Protocol

from routing.upstreams import capabilities, plain_answers, tiers
from routing.upstreams.base import Deployment, FailureKind, Json, UpstreamError, UpstreamRequest
from routing.upstreams.http import media
from routing.upstreams.http.transport import Whole
from routing.upstreams.litellm_import import load
from routing.upstreams.mends import anthropic, conversation, endings, gemini, parameters
from routing.upstreams.plain_conversations import Conversation
from routing.upstreams.providers import PROVIDERS

#: What of a client's request is translated: OpenAI's parameters, and those of the provider that litellm's users send
#: along. A list of what is allowed, because litellm takes its own controls (`api_base`, `mock_response` …) from the
#: same place, and a client must not reach them.
PARAMETERS: Final = (
    "audio",
    "frequency_penalty",
    "function_call",
    "functions",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "modalities",
    "n",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
)
ANTHROPIC_PARAMETERS: Final = (
    *PARAMETERS,
    "top_k",
    "context_management",
    "mcp_servers",
    "container",
    "speed",
)
GEMINI_PARAMETERS: Final = (*PARAMETERS, "top_k", "safety_settings", "media_resolution", "cached_content")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request in the provider's format. `context` is what the answer's translation needs to know of it, `dropped`
    the client's parameters that are not in it, or not as the client gave them."""

    url: str
    headers: Mapping[str, str]
    body: Mapping[str, Any]
    context: Mapping[str, Any]
    dropped: tuple[str, ...] = ()
    #: Whether the client offered `functions`, and so knows no `tool_calls`.
    calls_functions: bool = False


#: Of a request's parts those that are not parameters, or that we set ourselves.
_FRAME: Final = frozenset({"model", "messages", "stream", "stream_options"})
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def dropped_params(body: Mapping[str, Any], deployment: Deployment, translated: Collection[str]) -> tuple[str, ...]:
    """The client's parameters that do not reach the provider: those that are not translated at all, and those of
    OpenAI's that litellm knows no word for at this provider's model."""
    supported = capabilities.supported_params(deployment.litellm_provider, deployment.model)
    return tuple(
        sorted(
            name
            for name, value in body.items()
            if value is not None
            and name not in _FRAME
            and (name not in translated or (supported is not None and name in PARAMETERS and name not in supported))
            and not (name == "n" and value == 1)  # one choice is what comes without it, too
            and _PLAIN_NAME.fullmatch(name)
        )
    )[:50]


class Parser(Protocol):
    """litellm's `ModelResponseIterator` of the provider."""

    def chunk_parser(self, chunk: dict[str, Any]) -> Any: ...


class WireFormat(Protocol):
    """A provider's format. `prepare` raises UpstreamError CAPABILITY for what cannot be said in it."""

    parameters: Collection[str]
    #: Where an answer has its usage, and what to put there when the provider left it out: litellm insists on it.
    usage_name: str
    no_usage: Mapping[str, int]
    #: Whether a count of a stream may leave out what an earlier one said.
    counts_add_up: bool

    def prepare(self, request: UpstreamRequest, *, streamed: bool) -> Prepared: ...

    def learn(self, prepared: Prepared, said: bytes, model: str) -> bool:
        """Whether the provider refuses the request for something that can be left out, and that `prepare` leaves out
        from now on."""

    def told(self, conversation: Conversation) -> Json:
        """The parts of a request's body that have its conversation."""

    def read(self, prepared: Prepared, answer: Whole) -> Any:
        """litellm's ModelResponse. Raises whatever litellm raises."""

    def plain_answer(self, answer: Json, prepared: Prepared, model: str, tier: str | None) -> Json | None:
        """A whole answer as a `chat.completion`, if it is text alone. None: litellm reads it."""

    def parser(self, prepared: Prepared, headers: Mapping[str, str]) -> Parser: ...

    def readable(self, event: Json, prepared: Prepared) -> Json:
        """An answer or event that litellm reads rightly."""

    def failed_turn(self, event: Json) -> str | None:
        """The provider's word for a turn that failed, though it ended."""

    def finished(self, event: Json) -> Collection[int]:
        """The choices that this event says are complete. litellm's parser calls every Gemini chunk finished."""

    def is_end(self, event: Json) -> bool:
        """Whether the stream says that this is its last event."""

    def without_running_count(self, event: Json) -> tuple[Json, Json | None]:
        """The event without a count that later ones repeat and go beyond, and that count as an event of its own.
        litellm takes as long to read it as to read all else, and only the last one matters."""

    def plain_text(self, event: Json) -> str | None:
        """The text of an event that says nothing else, as nearly all do. None: it is not so."""

    def plain_rest(self, event: Json) -> plain_answers.Rest | None:
        """What another event of such an answer says. None: litellm reads it."""

    def plain_usage(self, counts: Sequence[Json]) -> Json | None:
        """The usage of an answer that was text alone, by the events that counted it. None: litellm reads them."""

    def answer_id(self, event: Json) -> str | None:
        """The provider's id of the answer that is the client's too."""

    def refusal(self, event: Json, secret: str) -> UpstreamError | None:
        """The refusal that an answer of status 200 is, if it is one."""

    def without_answer(self, body: Json) -> Json:
        """A whole answer without what the model said: its count can be read even where the rest cannot."""

    def service_tier(self, event: Json) -> object:
        """The tier that a whole answer or an event says it was served at."""


class _Silence:
    """All that litellm's transforms ask of its `Logging` object, which costs milliseconds a request."""

    def __init__(self, optional_params: dict[str, Any]) -> None:
        self.optional_params = optional_params
        self.litellm_params: dict[str, Any] = {}
        self.model_call_details: dict[str, Any] = {}

    def pre_call(self, *_: object, **__: object) -> None:
        pass

    def post_call(self, *_: object, **__: object) -> None:
        pass


def _response_of(answer: Whole) -> Any:
    import httpx  # what litellm's transforms read from; not imported before litellm is

    names = ("content-type", "x-gemini-service-tier")
    headers = {name: answer.headers[name] for name in names if name in answer.headers}
    return httpx.Response(answer.status, headers=headers, content=answer.body)


def _parameters(body: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    given = {name: body[name] for name in names if body.get(name) is not None}
    return copy.deepcopy(given)  # litellm changes what it is given, and further attempts send it again


def _messages(request: UpstreamRequest, litellm: Any, heard: conversation.Heard) -> list[Any]:
    from litellm.llms.base_llm.base_utils import map_developer_role_to_system_role

    messages = copy.deepcopy(request.body.get("messages"))
    messages = litellm.utils.validate_and_fix_openai_messages(messages=messages)
    translated: list[Any] = map_developer_role_to_system_role(messages=messages)
    return conversation.mended(translated, heard)


def _mapped(
    request: UpstreamRequest, litellm: Any, messages: list[Any], given: dict[str, Any], *, streamed: bool
) -> dict[str, Any]:
    """litellm's `optional_params`: the request's parameters in the provider's words."""
    utils, deployment = litellm.utils, request.deployment
    if "tool_choice" in given:
        given["tool_choice"] = utils.validate_chat_completion_tool_choice(
            tool_choice=given["tool_choice"], model=deployment.model
        )
    if "stop" in given:
        given["stop"] = utils.validate_openai_optional_params(stop=given["stop"])
    if "thinking" in given:
        given["thinking"] = utils.validate_and_fix_thinking_param(thinking=given["thinking"])
    if streamed:
        given["stream"] = True
    return capabilities.optional_params(deployment.litellm_provider, deployment.model, given, messages)


class Anthropic:
    """The Messages API."""

    parameters: Collection[str] = ANTHROPIC_PARAMETERS
    usage_name = "usage"
    no_usage: Mapping[str, int] = MappingProxyType({"input_tokens": 0, "output_tokens": 0})
    counts_add_up = True

    def prepare(self, request: UpstreamRequest, *, streamed: bool) -> Prepared:
        litellm = load()
        from litellm.anthropic_beta_headers_manager import update_request_with_filtered_beta

        model = request.deployment.model
        provider = litellm.LlmProviders(request.deployment.litellm_provider)
        config = litellm.utils.ProviderConfigManager.get_provider_chat_config(model=model, provider=provider)
        messages = _messages(request, litellm, conversation.ANTHROPIC)
        # Anthropic fetches https itself; what litellm would fetch for it is plain http.
        deadline = monotonic() + request.timeouts.total_s
        messages = media.inlined(messages, lambda url: url.lower().startswith("http://"), deadline)
        conversation.label_pictures(messages, conversation.ANTHROPIC)
        given = _parameters(request.body, ANTHROPIC_PARAMETERS)
        calls_functions = parameters.offer_functions_as_tools(given)
        if calls_functions:
            given["parallel_tool_calls"] = False  # `function_call` has room for one
        parameters.keep_allowed_tools(given)
        parameters.refuse_custom_tools(given, "Anthropic")
        parameters.schemas_for_anthropic(given)
        dropped = parameters.stop_without_empty_words(given, blanks=False)
        thinking = capabilities.thinking_of_claude(model)
        dropped += parameters.effort_at_claude(
            given, adaptive=thinking.is_adaptive, always_on=thinking.is_always_on, xhigh=thinking.knows_xhigh
        )
        if not given.get("tools") and (past := conversation.tools_of_the_past(messages)):
            given["tools"], given["tool_choice"] = past, "none"
        optional = _mapped(request, litellm, messages, given, streamed=streamed)
        optional.pop("stream", None)
        json_mode = optional.pop("json_mode", False)
        optional.pop("vertex_count_tokens_location", None)
        optional = {**optional, "is_vertex_request": optional.pop("is_vertex_request", False)}
        litellm_params: dict[str, Any] = {}
        url = (request.deployment.base_url or PROVIDERS["anthropic"].base_url or "").rstrip("/")
        if not url.endswith("/v1/messages"):
            url = f"{url.removesuffix('/v1')}/v1/messages"
        headers = capabilities.anthropic_config().validate_environment(
            api_key=request.api_key,
            headers={},
            model=model,
            messages=messages,
            optional_params=optional,
            litellm_params=litellm_params,
            api_base=url,
        )
        body = config.transform_request(
            model=model,
            messages=messages,
            optional_params=optional,
            litellm_params=litellm_params,
            headers=headers,
        )
        headers, body = update_request_with_filtered_beta(
            headers=headers, request_data=body, provider=str(provider.value)
        )
        dropped += anthropic.mended(body, request.body, model)
        if streamed:
            body["stream"] = True
        context = {
            "config": config,
            "model": model,
            "messages": messages,
            "optional_params": optional,
            "litellm_params": litellm_params,
            "json_mode": json_mode,
        }
        return Prepared(url, headers, body, context, dropped, calls_functions)

    def learn(self, prepared: Prepared, said: bytes, model: str) -> bool:
        return False  # what each model refuses is known beforehand

    def told(self, conversation: Conversation) -> Json:
        said: Json = {
            "messages": [
                {"role": role, "content": [{"type": "text", "text": text} for text in texts]}
                for role, texts in conversation.turns
            ]
        }
        if conversation.system:
            said["system"] = [{"type": "text", "text": text} for text in conversation.system]
        return said

    def read(self, prepared: Prepared, answer: Whole) -> Any:
        litellm = load()
        context = dict(prepared.context)
        config = context.pop("config")
        return config.transform_response(
            raw_response=_response_of(answer),
            model_response=litellm.ModelResponse(),
            logging_obj=_Silence(context["optional_params"]),
            request_data=prepared.body,
            api_key="",
            encoding=None,
            **context,
        )

    def plain_answer(self, answer: Json, prepared: Prepared, model: str, tier: str | None) -> Json | None:
        context = prepared.context
        if context["json_mode"] or "speed" in context["optional_params"] or "prefix" in context["messages"][-1]:
            return None
        return plain_answers.of_anthropic(answer, model)

    def parser(self, prepared: Prepared, headers: Mapping[str, str]) -> Parser:
        from litellm.llms.anthropic.chat.handler import ModelResponseIterator
        from litellm.llms.anthropic.chat.transformation import ANTHROPIC_TOOL_NAME_REVERSE_MAP_KEY

        parser: Parser = ModelResponseIterator(
            streaming_response=iter(()),
            sync_stream=True,
            json_mode=prepared.context["json_mode"],
            speed=prepared.context["optional_params"].get("speed"),
            tool_name_reverse_map=prepared.context["litellm_params"].get(ANTHROPIC_TOOL_NAME_REVERSE_MAP_KEY),
        )
        return parser

    def readable(self, event: Json, prepared: Prepared) -> Json:
        return endings.with_lasting_counts(endings.with_known_stop_reason(event))

    def failed_turn(self, event: Json) -> str | None:
        return None

    def finished(self, event: Json) -> Collection[int]:
        delta = event.get("delta") if event.get("type") == "message_delta" else None
        return (0,) if isinstance(delta, dict) and delta.get("stop_reason") else ()

    def is_end(self, event: Json) -> bool:
        return event.get("type") == "message_stop"

    def without_running_count(self, event: Json) -> tuple[Json, Json | None]:
        return event, None

    def plain_text(self, event: Json) -> str | None:
        try:
            delta = event["delta"]
            text = delta["text"]
            if (
                type(text) is str
                and text
                and delta["type"] == "text_delta"
                and event["type"] == "content_block_delta"
                and _PLAIN_DELTA.issuperset(delta)
                and _PLAIN_DELTA_EVENT.issuperset(event)
            ):
                return text
        except (KeyError, TypeError):
            pass
        return None

    def plain_rest(self, event: Json) -> plain_answers.Rest | None:
        return plain_answers.of_anthropics_event(event)

    def plain_usage(self, counts: Sequence[Json]) -> Json | None:
        return plain_answers.anthropics_usage(counts)

    def answer_id(self, event: Json) -> str | None:
        return None

    def refusal(self, event: Json, secret: str) -> UpstreamError | None:
        return None

    def without_answer(self, body: Json) -> Json:
        return {**body, "content": []}

    def service_tier(self, event: Json) -> object:
        message = event.get("message")
        usage = (message if isinstance(message, dict) else event).get("usage")
        return tiers.served_by_anthropic(usage) if isinstance(usage, dict) else None


class Gemini:
    """generateContent of Google AI Studio."""

    parameters: Collection[str] = GEMINI_PARAMETERS
    usage_name = "usageMetadata"
    no_usage: Mapping[str, int] = MappingProxyType({"promptTokenCount": 0, "totalTokenCount": 0})
    counts_add_up = False

    def prepare(self, request: UpstreamRequest, *, streamed: bool) -> Prepared:
        litellm = load()
        from litellm.llms.vertex_ai.common_utils import get_gemini_url, supports_response_json_schema
        from litellm.llms.vertex_ai.gemini.transformation import transform_request_body

        model = request.deployment.model
        messages = _messages(request, litellm, conversation.GEMINI)
        messages = media.inlined(messages, _gemini_wants_bytes, monotonic() + request.timeouts.total_s)
        conversation.label_pictures(messages, conversation.GEMINI)
        gemini.mark_twins(messages)
        given = _parameters(request.body, GEMINI_PARAMETERS)
        calls_functions = parameters.offer_functions_as_tools(given)
        parameters.keep_allowed_tools(given)
        parameters.refuse_custom_tools(given, "Gemini")
        parameters.schemas_for_gemini(given, is_answer_written_out=not supports_response_json_schema(model))
        names = parameters.names_at_gemini(given, messages)
        dropped = parameters.stop_without_empty_words(given, blanks=True, at_most=5)
        dropped += parameters.effort_at_gemini(given, model)
        dropped += parameters.tier_at_gemini(given)
        optional = _mapped(request, litellm, messages, given, streamed=streamed)
        optional.pop("stream", None)
        # litellm also makes context caches at Google for messages marked `cache_control`: calls of its own, which an
        # attempt must not make. The markers are left out; Gemini caches long prefixes by itself.
        cached_content = optional.pop("cached_content", None)
        url, endpoint = get_gemini_url(mode="chat", model=model, stream=streamed)
        if request.deployment.base_url:
            url = f"{request.deployment.base_url.rstrip('/')}/models/{model}:{endpoint}"
            url += "?alt=sse" if streamed else ""
        asked = dict(optional)  # what the answer's translation sees: the request's takes out of its own
        body: Any = transform_request_body(
            messages=messages,
            model=model,
            optional_params=optional,
            custom_llm_provider="gemini",
            litellm_params={},
            cached_content=cached_content,
        )
        gemini.unmark_twins(body)
        dropped += gemini.mended(body, request.body, model)
        headers = {"Content-Type": "application/json", "x-goog-api-key": request.api_key}
        context = {"model": model, "messages": messages, "optional_params": asked, "names": names}
        return Prepared(url, headers, body, context, dropped, calls_functions)

    def learn(self, prepared: Prepared, said: bytes, model: str) -> bool:
        return gemini.learn_what_is_lacking(prepared.body, said, model)

    def told(self, conversation: Conversation) -> Json:
        said: Json = {
            "contents": [
                {"role": "user" if role == "user" else "model", "parts": [{"text": text} for text in texts]}
                for role, texts in conversation.turns
            ]
        }
        if conversation.system:
            said["system_instruction"] = {"parts": [{"text": text} for text in conversation.system]}
        return said

    def read(self, prepared: Prepared, answer: Whole) -> Any:
        litellm = load()
        context = prepared.context
        return litellm.VertexGeminiConfig().transform_response(
            model=context["model"],
            raw_response=_response_of(answer),
            model_response=litellm.ModelResponse(),
            logging_obj=_Silence(context["optional_params"]),
            optional_params=context["optional_params"],
            litellm_params={},
            api_key="",
            request_data=prepared.body,
            messages=context["messages"],
            encoding=None,
        )

    def plain_answer(self, answer: Json, prepared: Prepared, model: str, tier: str | None) -> Json | None:
        return plain_answers.of_gemini(answer, model, tier)

    def parser(self, prepared: Prepared, headers: Mapping[str, str]) -> Parser:
        from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import ModelResponseIterator

        silence: Any = _Silence(prepared.context["optional_params"])
        parser: Parser = ModelResponseIterator(
            streaming_response=iter(()),
            sync_stream=True,
            logging_obj=silence,
            response_headers=dict(headers),
        )
        return parser

    def readable(self, event: Json, prepared: Prepared) -> Json:
        return endings.with_what_was_said(endings.with_whole_calls(event, prepared.context["names"]))

    def failed_turn(self, event: Json) -> str | None:
        return endings.failed_turn(event)

    def finished(self, event: Json) -> Collection[int]:
        candidates = event.get("candidates")
        return [
            candidate.get("index", 0)
            for candidate in (candidates if isinstance(candidates, list) else ())
            if isinstance(candidate, dict) and candidate.get("finishReason")
        ]

    def is_end(self, event: Json) -> bool:
        return False  # the end of the body is the end

    def without_running_count(self, event: Json) -> tuple[Json, Json | None]:
        if self.usage_name not in event or not event.get("candidates") or self.finished(event):
            return event, None
        rest = dict(event)
        return rest, {self.usage_name: rest.pop(self.usage_name)}

    def plain_text(self, event: Json) -> str | None:
        try:
            (candidate,) = event["candidates"]
            content = candidate["content"]
            (part,) = content["parts"]
            text = part["text"]
            if (
                type(text) is str
                and text
                and len(part) == 1
                and _PLAIN_CONTENT.issuperset(content)
                and _PLAIN_CANDIDATE.issuperset(candidate)
                and candidate.get("index", 0) == 0
                and _PLAIN_EVENT.issuperset(event)
                and not text.startswith("data:audio")  # which litellm does not take for text
            ):
                return text
        except (KeyError, TypeError, ValueError):
            pass
        return None

    def plain_rest(self, event: Json) -> plain_answers.Rest | None:
        return plain_answers.of_geminis_event(event)

    def plain_usage(self, counts: Sequence[Json]) -> Json | None:
        return plain_answers.geminis_usage(counts)

    def answer_id(self, event: Json) -> str | None:
        identity = event.get("responseId")
        return identity if isinstance(identity, str) else None

    def refusal(self, event: Json, secret: str) -> UpstreamError | None:
        """A blocked prompt: a 200 that says why there is no answer."""
        feedback = event.get("promptFeedback")
        if not isinstance(feedback, dict) or event.get("candidates"):
            return None
        reason = feedback.get("blockReason")
        if not reason:
            return None
        why = feedback.get("blockReasonMessage") or f"The prompt was blocked ({reason})"
        return UpstreamError(
            FailureKind.CONTENT_POLICY,
            str(why),
            http_status=400,
            error_type="invalid_request_error",
            code="content_policy_violation",
            param="messages",
            secret=secret,
        )

    def without_answer(self, body: Json) -> Json:
        return {name: value for name, value in body.items() if name != "candidates"}

    def service_tier(self, event: Json) -> object:
        usage = event.get(self.usage_name)
        return usage.get("serviceTier") if isinstance(usage, dict) else None


#: What may stand in an event whose text is all that it says.
_PLAIN_DELTA_EVENT: Final = frozenset({"type", "index", "delta"})
_PLAIN_DELTA: Final = frozenset({"type", "text"})
_PLAIN_EVENT: Final = frozenset({"candidates", "usageMetadata", "modelVersion", "responseId"})
_PLAIN_CANDIDATE: Final = frozenset({"content", "index"})
_PLAIN_CONTENT: Final = frozenset({"parts", "role"})


def _gemini_wants_bytes(url: str) -> bool:
    """What litellm would download: all but the files that Google has already (its `GoogleAIStudioGeminiConfig`)."""
    from litellm.llms.vertex_ai.common_utils import GEMINI_FILES_API_URI_PREFIX

    return not url.startswith(GEMINI_FILES_API_URI_PREFIX)
