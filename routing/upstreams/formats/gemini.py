"""generateContent in and out of OpenAI's chat format."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from time import monotonic
from types import MappingProxyType
from typing import Any, Final

from routing.upstreams import plain_answers
from routing.upstreams.base import FailureKind, Json, UpstreamError, UpstreamRequest
from routing.upstreams.formats.parameters import GEMINI_PARAMETERS
from routing.upstreams.formats.transforms import Silence, mapped, messages_of, parameters_of, response_of
from routing.upstreams.formats.wire import Parser, Prepared
from routing.upstreams.http import media
from routing.upstreams.http.transport import Whole
from routing.upstreams.litellm_import import load
from routing.upstreams.mends import conversation, endings, gemini, parameters
from routing.upstreams.plain_conversations import Conversation

#: What may stand in an event whose text is all that it says.
_PLAIN_EVENT: Final = frozenset({"candidates", "usageMetadata", "modelVersion", "responseId"})
_PLAIN_CANDIDATE: Final = frozenset({"content", "index"})
_PLAIN_CONTENT: Final = frozenset({"parts", "role"})


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
        messages = messages_of(request, litellm, conversation.GEMINI)
        messages = media.inlined(messages, _gemini_wants_bytes, monotonic() + request.timeouts.total_s)
        conversation.label_pictures(messages, conversation.GEMINI)
        gemini.mark_twins(messages)
        given = parameters_of(request.body, GEMINI_PARAMETERS)
        calls_functions = parameters.offer_functions_as_tools(given)
        parameters.keep_allowed_tools(given)
        parameters.refuse_custom_tools(given, "Gemini")
        parameters.schemas_for_gemini(given, is_answer_written_out=not supports_response_json_schema(model))
        names = parameters.names_at_gemini(given, messages)
        dropped = parameters.stop_without_empty_words(given, blanks=True, at_most=5)
        dropped += parameters.effort_at_gemini(given, model)
        dropped += parameters.tier_at_gemini(given)
        optional = mapped(request, litellm, messages, given, streamed=streamed)
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
            raw_response=response_of(answer),
            model_response=litellm.ModelResponse(),
            logging_obj=Silence(context["optional_params"]),
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

        silence: Any = Silence(prepared.context["optional_params"])
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


def _gemini_wants_bytes(url: str) -> bool:
    """What litellm would download: all but the files that Google has already (its `GoogleAIStudioGeminiConfig`)."""
    from litellm.llms.vertex_ai.common_utils import GEMINI_FILES_API_URI_PREFIX

    return not url.startswith(GEMINI_FILES_API_URI_PREFIX)
