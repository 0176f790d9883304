"""The Messages API in and out of OpenAI's chat format."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from time import monotonic
from types import MappingProxyType
from typing import Any, Final

from routing.upstreams import capabilities, plain_answers, tiers
from routing.upstreams.base import Json, UpstreamError, UpstreamRequest
from routing.upstreams.formats.parameters import ANTHROPIC_PARAMETERS
from routing.upstreams.formats.transforms import Silence, mapped, messages_of, parameters_of, response_of
from routing.upstreams.formats.wire import Parser, Prepared
from routing.upstreams.http import media
from routing.upstreams.http.transport import Whole
from routing.upstreams.litellm_import import load
from routing.upstreams.mends import anthropic, conversation, endings, parameters
from routing.upstreams.plain_conversations import Conversation
from routing.upstreams.providers import PROVIDERS

#: What may stand in an event whose text is all that it says.
_PLAIN_DELTA_EVENT: Final = frozenset({"type", "index", "delta"})
_PLAIN_DELTA: Final = frozenset({"type", "text"})


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
        messages = messages_of(request, litellm, conversation.ANTHROPIC)
        # Anthropic fetches https itself; what litellm would fetch for it is plain http.
        deadline = monotonic() + request.timeouts.total_s
        messages = media.inlined(messages, lambda url: url.lower().startswith("http://"), deadline)
        conversation.label_pictures(messages, conversation.ANTHROPIC)
        given = parameters_of(request.body, ANTHROPIC_PARAMETERS)
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
        optional = mapped(request, litellm, messages, given, streamed=streamed)
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
            raw_response=response_of(answer),
            model_response=litellm.ModelResponse(),
            logging_obj=Silence(context["optional_params"]),
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
